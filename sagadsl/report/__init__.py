"""What is shown of runs: pure functions from `RunInfo` to text and plain data. They read nothing and decide nothing."""

from sagadsl.report.data import run_data
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
    "age",
    "printable",
    "printable_lines",
    "run_data",
    "run_line",
    "run_text",
    "runs_text",
    "short_id",
    "short_ids",
    "stack_lines",
    "status_words",
    "typed",
]
