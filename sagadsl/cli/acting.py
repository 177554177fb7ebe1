"""``resume``, ``compensate`` and ``cancel``: what a person decides about a run.

For the first two the user's code is loaded, and effects follow. ``cancel`` only tells the run's owner, or the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import click

import sagadsl
from sagadsl import Run, Status, UsageError
from sagadsl.cli.exits import BY_STATUS
from sagadsl.cli.looking import is_terminal, json_option, write, write_json
from sagadsl.cli.stores import run_argument, run_to_change, store_option, store_path, store_words, stored_run
from sagadsl.cli.targets import load_code, target_option
from sagadsl.errors import ExitCode
from sagadsl.report import (
    command,
    compensated_since,
    dry_run_document,
    ending,
    printable,
    printable_lines,
    run_document,
    short_id,
    status_words,
)


@click.command()
@run_argument()
@target_option
@json_option
@store_option
def resume(run: str, target: str | None, as_json: bool) -> int:  # noqa: FBT001  # a flag
    """Go on with a run where it was cut off or paused.

    Its exit code is that of the saga.
    """
    found = stored_run(run)
    with told_after(found, as_json=as_json):
        return gone_on(found, target)


def gone_on(found: Run, target: str | None) -> int:
    """Go on with a run; return its exit code."""
    if found.status.is_terminal:
        say(f"{short_id(found.id)} is {found.status} already; there is nothing to go on with")
        return BY_STATUS[found.status]
    code = load_code(found, target, "resume")
    changing = run_to_change(found)
    try:
        finished(changing.resume() if code is None else code.using(store=store_path()).resume(found.id))
    except Exception as error:  # noqa: BLE001  # whatever the saga raises
        return failed(error)
    say(f"{short_id(found.id)} completed")
    return ExitCode.DONE


@contextlib.contextmanager
def told_after(run: Run, *, as_json: bool) -> Iterator[None]:
    """Write the run's document at the end, however that comes."""
    try:
        yield
    finally:
        if as_json:
            write_json(run_document(stored_run(run.id)))


@click.command()
@run_argument()
@click.option("--to", metavar="STEP", help="Only what came after this step; the run is then paused there.")
@click.option("--dry-run", is_flag=True, help="Only say what would be called, and what would stand.")
@click.option("--skip", metavar="STEP", help="Let this step be, whose compensation failed.")
@click.option("--why", metavar="TEXT", default="", help="Why it is skipped.")
@click.option("--accept", metavar="STEP", multiple=True, help="Let this step stand, which cannot be undone.")
@target_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@store_option
def compensate(
    run: str,
    target: str | None,
    dry_run: bool,  # noqa: FBT001  # a flag
    yes: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
    **asked: Any,
) -> int:
    """Compensate what a run owes, or carry on doing so; also a completed one, later.

    Steps are compensated in reverse order. A compensation that failed is tried again.
    """
    found = stored_run(run)
    if dry_run:
        plan = rehearsed(found, asked)
        write_json(dry_run_document(plan)) if as_json else write(repr(plan))
        return ExitCode.DONE
    with told_after(found, as_json=as_json):
        return gone_back(found, target, asked, yes=yes)


def rehearsed(found: Run, asked: dict[str, Any]) -> Any:
    """Say what compensating a run as it is asked would do.

    Raises:
        UsageError: It makes no sense.
    """
    if asked["skip"] is not None and not asked["why"]:
        msg = f"--skip {asked['skip']} takes --why TEXT, for whoever looks at the run later"
        raise UsageError(msg)
    return found.compensate(dry_run=True, **asked)


def gone_back(found: Run, target: str | None, asked: dict[str, Any], *, yes: bool) -> int:
    """Compensate a run, once a person has said yes; return the exit code."""
    if found.status is Status.COMPENSATED and asked["to"] is None:
        say(f"{short_id(found.id)} is compensated already; nothing is owed")
        return ExitCode.DONE
    plan = rehearsed(found, asked)
    code = load_code(found, target, "compensate") if found.stack or target is not None else None
    if not (yes or found.is_live or plan.undecided):  # else the library says who has it, or what is to be accepted
        say(f"{short_id(found.id)} is {status_words(found)}")
        confirm(found, "compensate", plan)
    changing = run_to_change(found)
    act = changing.compensate if code is None else partial(code.using(store=store_path()).compensate, found.id)
    after = finished(act(**asked))
    on = f". Go on: {typed('resume', found)}" if after.status is Status.PAUSED else ""
    say(f"{short_id(found.id)} is {after.status} ({compensated_since(after, found)}){on}")
    return ExitCode.DONE


@click.command()
@run_argument()
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@store_option
def cancel(run: str, yes: bool, as_json: bool) -> int:  # noqa: FBT001  # flags
    """Have a run stop at its next step or attempt, and be compensated.

    The process that has it does so, or whoever opens it next. Nothing here waits for that.
    """
    found = stored_run(run)
    with told_after(found, as_json=as_json):
        return asked_to_stop(found, yes=yes)


def asked_to_stop(found: Run, *, yes: bool) -> int:
    """Ask that a run be cancelled, once a person has said yes; return the exit code."""
    name = short_id(found.id)
    if found.status is Status.OPEN and not found.cancel_requested and not yes:
        confirm(found, "cancel", f"{name} is {status_words(found)}")
    after = run_to_change(found).cancel()
    if not after.cancel_requested:
        say(f"{name} is {status_words(after)} already; there is nothing to cancel")
    elif after.is_live:
        say(f"{name} will be cancelled by {printable(after.owner)}, which has it: at its next step or attempt")
    else:
        on = f"run its program again: {printable(found.program, 400)}" if found.is_block else typed("resume", found)
        say(f"{name} will be cancelled when it is opened again: {on}")
    return ExitCode.DONE


def confirm(run: Run, verb: str, what: object = "") -> None:
    """Have a person say yes to *what* is about to be done to a run.

    Raises:
        UsageError: Nobody is there to be asked.
        click.Abort: They said no.
    """
    nobody = (
        f"run {run.id}: nobody can be asked here whether to {verb} it. "
        f"Look: {typed('show', run)}   Then add --yes to this command."
    )
    ask(f"{verb.capitalize()} it?", what, nobody)


def ask(question: str, what: object, nobody: str) -> None:
    """Ask whether to do *what* is said first; *nobody* says what to type where there is nobody to be asked.

    Raises:
        UsageError: There is nobody.
        click.Abort: They said no.
    """
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise UsageError(nobody)
    if what:
        say(what)
    if not click.confirm(question, err=True):
        say("nothing was done")
        raise click.Abort


def typed(verb: str, run: Run) -> str:
    """Return what is typed for a run, in the same journal."""
    return command(verb, run.id, options=store_words())


def finished(work: Any) -> Any:
    """Return what a saga of either colour gives."""
    return asyncio.run(_awaited(work)) if inspect.isawaitable(work) else work


async def _awaited(work: Any) -> Any:
    return await work


def failed(error: Exception) -> int:
    """Say how a run ended, and return its exit code; raise *error* if it is not about the user's business."""
    try:
        outcome = sagadsl.outcome(error)
    except UsageError:
        raise error from None
    say(ending(outcome, options=store_words()))
    return outcome.exit_code


def say(text: object) -> None:
    """Tell a person something, on stderr."""
    click.echo(printable_lines(text), err=True)
