"""``list``, ``show`` and ``graph``: what the journal says. They only read."""

from __future__ import annotations

import gc
import json
import os
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

import click

from sagadsl import JournalError, RunConflictError, Saga, Status
from sagadsl.cli.spans import Moment
from sagadsl.cli.stores import reading, run_argument, store_option, store_path, store_words, stored_run
from sagadsl.cli.targets import load, target_words
from sagadsl.report import FORMATS, local_now, run_report, runs_document, runs_text, short_ids

if TYPE_CHECKING:
    from sagadsl.report import Graph

STATUSES = (*(str(status) for status in Status), "interrupted")

DRAWN = ("text", "svg", "mermaid", "dot")

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document.")


@click.command(name="list")
@click.option("--status", type=click.Choice(STATUSES), metavar="STATUS", help=f"Only these: {', '.join(STATUSES)}.")
@click.option("--saga", metavar="NAME", help="Only runs of this saga.")
@click.option("--since", type=Moment(), help="Only those that began since: 2h, 2026-11-22, 2026-11-22T10:00.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The newest N only.")
@json_option
@store_option
def list_runs(
    status: str | None,
    saga: str | None,
    since: datetime | None,
    limit: int | None,
    as_json: bool,  # noqa: FBT001  # a flag
) -> None:
    """List runs, the newest first.

    Each with its steps done of those begun. An interrupted run is unfinished and no living process has it.
    """
    if gc.isenabled():  # nothing here is garbage before the end; to look for some takes a tenth of the time
        gc.disable()
        click.get_current_context().call_on_close(gc.enable)
    runtime = reading()
    runs = runtime.runs(status=status, saga=saga, since=since, limit=limit)
    if as_json:
        document = runs_document(runs, str(store_path()))
        lines = ",\n    ".join(map(json.dumps, document.pop("runs")))  # a run a line, for grep, and ten times as fast
        write(f'{json.dumps(document, indent=2)[:-2]},\n  "runs": [\n    {lines}\n  ]\n}}')
    elif runs:
        others = runtime.journal().runs() if status or saga or since or limit else runs
        write(runs_text(runs, local_now(), short_ids(each.id for each in others)))
    else:
        click.echo(f"no {'such ' if status or saga or since else ''}run in {store_path()}", err=True)


@click.command()
@run_argument()
@click.option("--format", "form", type=click.Choice(FORMATS), help="How; as text by default.")
@json_option
@store_option
def show(run: str, form: str | None, as_json: bool) -> None:  # noqa: FBT001  # a flag
    """Show a run: each step, what is to be compensated, what to do now.

    As HTML it is one page that needs nothing else, as Markdown it is for GitHub.
    """
    found = stored_run(run)
    chosen = form or ("json" if as_json else "text")
    write(run_report(found, chosen, local_now(), store_words() + target_words(found)).rstrip("\n"))


@click.command()
@click.argument("run", metavar="RUN-or-TARGET")
@click.option("--format", "form", type=click.Choice(DRAWN), default="text", help="How; as text by default.")
@store_option
def graph(run: str, form: str) -> None:
    """Draw a run with what became of each step, or a saga as its code has it, or a plan.

    TARGET is module:saga or file.py:saga: naming it imports it.
    """
    drawn = drawn_graph(run)
    write({"text": drawn.__str__, "svg": drawn.svg, "mermaid": drawn.mermaid, "dot": drawn.dot}[form]())


def drawn_graph(name: str) -> Graph:
    """Return the graph of a run, or of the saga or plan that a target names where there is no such run.

    Raises:
        SagaError: There is neither.
    """
    try:
        return stored_run(name).graph()
    except (RunConflictError, JournalError):
        if ":" not in name:
            raise
    from sagadsl.plan import Plan

    drawn: Graph = load(name, kinds=(Saga, Plan)).graph()
    return drawn


def write_json(document: dict[str, Any]) -> None:
    """Write a document to stdout."""
    write(json.dumps(document, indent=2))


def write(text: str) -> None:
    """Write data to stdout; a reader that has seen enough (``sagadsl list | head -1``) is no error."""
    try:
        click.echo(text, color=True)  # as it is: on a pipe click would take out what looks like a colour
        if sys.stdout is not None:  # it may be closed (``>&-``)
            sys.stdout.flush()
    except OSError as error:
        write_no_more(error)


def write_no_more(error: OSError) -> None:
    """Have stdout lead nowhere, since it cannot be written to any more.

    Raises:
        click.ClickException: There is another cause than a reader that has seen enough.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it exits
    if not isinstance(error, BrokenPipeError):
        msg = f"stdout cannot be written to ({error.strerror}): not all was said, so see to it and type this again"
        raise click.ClickException(msg) from error


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether a person sits at a standard stream, with which a process need not have been started."""
    return stream is not None and stream.isatty()
