"""What is shown of runs: pure functions from `RunInfo` to text, HTML, Markdown and plain data, and to graphs.

They read nothing and decide nothing. ``words`` has what every format says alike, ``story`` what is to be said of one
run; each format is a room of its own.
"""

from sagadsl.report.data import SCHEMA, json_schema, run_data, run_document, runs_document
from sagadsl.report.html import run_html, runs_html, stack_html
from sagadsl.report.progress import end_line, fitted, is_under_way, progress_lines, step_line
from sagadsl.report.text import run_line, run_text, runs_text, stack_lines, stack_text
from sagadsl.report.words import (
    age,
    printable,
    printable_lines,
    short_id,
    short_ids,
    status_words,
    typed,
)

__all__ = [
    "SCHEMA",
    "age",
    "end_line",
    "fitted",
    "is_under_way",
    "json_schema",
    "printable",
    "printable_lines",
    "progress_lines",
    "run_data",
    "run_document",
    "run_html",
    "run_line",
    "run_text",
    "runs_document",
    "runs_html",
    "runs_text",
    "short_id",
    "short_ids",
    "stack_html",
    "stack_lines",
    "stack_text",
    "status_words",
    "step_line",
    "typed",
]
