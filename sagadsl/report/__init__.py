"""What is shown of runs: pure functions from `RunInfo` to text, HTML, Markdown and plain data, and to graphs.

They read nothing and decide nothing. ``words`` has what every format says alike, ``story`` what is to be said of one
run, ``blocks`` what is to be drawn; each format is a room of its own, and is loaded when it is first asked for: most
programs only need a few words.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sagadsl._core.phrases import command

if TYPE_CHECKING:
    from sagadsl.report.blocks import Box
    from sagadsl.report.data import (
        SCHEMA,
        dry_run_document,
        event_data,
        json_schema,
        run_data,
        run_document,
        runs_document,
    )
    from sagadsl.report.ends import compensated_since, ending
    from sagadsl.report.figures import stats_document, stats_text
    from sagadsl.report.graph import Graph, call_of, of_plan, of_run
    from sagadsl.report.html import progress_html, run_html, runs_html, stack_html
    from sagadsl.report.progress import end_line, fitted, is_under_way, progress_lines, step_line
    from sagadsl.report.reports import run_report
    from sagadsl.report.text import run_line, run_text, runs_text, stack_lines, stack_text
    from sagadsl.report.words import (
        FORMATS,
        age,
        columns,
        local_now,
        named_values,
        printable,
        printable_lines,
        short_id,
        short_ids,
        status_words,
    )

__all__ = [
    "FORMATS",
    "SCHEMA",
    "Box",
    "Graph",
    "age",
    "call_of",
    "columns",
    "command",
    "compensated_since",
    "dry_run_document",
    "end_line",
    "ending",
    "event_data",
    "fitted",
    "is_under_way",
    "json_schema",
    "local_now",
    "named_values",
    "of_plan",
    "of_run",
    "printable",
    "printable_lines",
    "progress_html",
    "progress_lines",
    "run_data",
    "run_document",
    "run_html",
    "run_line",
    "run_report",
    "run_text",
    "runs_document",
    "runs_html",
    "runs_text",
    "short_id",
    "short_ids",
    "stack_html",
    "stack_lines",
    "stack_text",
    "stats_document",
    "stats_text",
    "status_words",
    "step_line",
]

_ROOMS = {
    "blocks": {"Box"},
    "data": {"SCHEMA", "dry_run_document", "event_data", "json_schema", "run_data", "run_document", "runs_document"},
    "ends": {"compensated_since", "ending"},
    "figures": {"stats_document", "stats_text"},
    "graph": {"Graph", "call_of", "of_plan", "of_run"},
    "html": {"progress_html", "run_html", "runs_html", "stack_html"},
    "progress": {"end_line", "fitted", "is_under_way", "progress_lines", "step_line"},
    "reports": {"run_report"},
    "text": {"run_line", "run_text", "runs_text", "stack_lines", "stack_text"},
    "words": {
        "FORMATS",
        "age",
        "columns",
        "local_now",
        "named_values",
        "printable",
        "printable_lines",
        "short_id",
        "short_ids",
        "status_words",
    },
}


def __getattr__(name: str) -> Any:
    for room, names in _ROOMS.items():
        if name in names:
            return getattr(import_module(f"sagadsl.report.{room}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
