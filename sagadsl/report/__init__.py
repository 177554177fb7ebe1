"""What is shown of runs: pure functions from `RunInfo` to text and plain data. They read nothing and decide nothing."""

from sagadsl.report.data import SCHEMA, json_schema, run_data, run_document, runs_document
from sagadsl.report.text import (
    age,
    printable,
    printable_lines,
    run_line,
    run_text,
    runs_text,
    short_id,
    short_ids,
    stack_lines,
    status_words,
    typed,
)

__all__ = [
    "SCHEMA",
    "age",
    "json_schema",
    "printable",
    "printable_lines",
    "run_data",
    "run_document",
    "run_line",
    "run_text",
    "runs_document",
    "runs_text",
    "short_id",
    "short_ids",
    "stack_lines",
    "status_words",
    "typed",
]
