"""The report of a run, in each of its formats: what happened, what was compensated, what stands, who must do what."""

from __future__ import annotations

import json
from datetime import UTC, datetime, tzinfo

from sagadsl._core.values.seen import RunInfo
from sagadsl.errors import UsageError
from sagadsl.report.data import run_document
from sagadsl.report.graph import of_run
from sagadsl.report.html import page
from sagadsl.report.markdown import story_markdown
from sagadsl.report.story import story
from sagadsl.report.svg import svg
from sagadsl.report.text import run_text
from sagadsl.report.words import FORMATS


def run_report(
    run: RunInfo, format: str = "text", now: datetime | None = None, options: str = "", *, zone: tzinfo = UTC
) -> str:
    """Return the report of a run.

    Times stand in *zone*; with a *now* in its zone, and text has ages. *options* follows each command to type.

    Raises:
        UsageError: There is no such format.
    """
    if format == "json":
        return json.dumps(run_document(run), indent=2)
    if format == "text":
        return run_text(run, now, options, zone=zone)
    told = story(run, options=options, zone=(now.tzinfo if now is not None else None) or zone, limit=400)
    if format == "html":
        return page(told, svg(of_run(run)))
    if format == "markdown":
        return story_markdown(told, of_run(run))
    msg = f"report(format=...) takes one of {', '.join(FORMATS)}, not {format!r}"
    raise UsageError(msg)
