"""``resume``, ``compensate`` and ``cancel``: what a person decides about a run.

For the first two the user's code is loaded, and effects follow. ``cancel`` only tells the run's owner, or the next one.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from typing import Any

import click

import sagadsl
from sagadsl import Compensated, Run, RunConflictError, Status, UsageError
from sagadsl.cli import exits
from sagadsl.cli.stores import run_to_change, store_option, store_path, store_words, stored_run
from sagadsl.cli.targets import load_code, target_option
from sagadsl.report import printable, printable_lines, short_id, stack_lines, status_words, typed


@click.command()
@click.argument("run")
@target_option
@store_option
def resume(run: str, target: str | None) -> int:
    """Go on with a run where it was cut off or paused.

    Its exit code is that of the saga.
    """
    found = stored_run(run)
    if found.status.is_terminal:
        say(f"{short_id(found.id)} is {found.status} already; there is nothing to go on with")
        return exits.BY_STATUS[found.status]
    code = load_code(found, target, "resume")
    changing = run_to_change(found)
    try:
        finished(changing.resume() if code is None else code.using(store=store_path()).resume(found.id))
    except Exception as error:  # noqa: BLE001  # whatever the saga raises
        return failed(changing.refresh(), error)
    say(f"{short_id(found.id)} completed")
    return exits.DONE


@click.command()
@click.argument("run")
@target_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_option
def compensate(run: str, target: str | None, yes: bool) -> int:  # noqa: FBT001  # a flag
    """Compensate what a run owes, or carry on doing so.

    Steps are compensated in reverse order. A compensation that failed is tried again.
    """
    found = stored_run(run)
    if found.status is Status.COMPENSATED:
        say(f"{short_id(found.id)} is compensated already; nothing is owed")
        return exits.DONE
    if found.status is Status.COMPLETED:
        raise RunConflictError(found.id, f"is completed. Look: sagadsl show {typed(found.id)}{store_words()}")
    code = load_code(found, target, "compensate") if found.stack or target is not None else None
    if not (yes or found.is_live):  # of a run that somebody has, the library says who
        ask(found)
    changing = run_to_change(found)
    after = finished(changing.compensate() if code is None else code.using(store=store_path()).compensate(found.id))
    say(f"{short_id(found.id)} is compensated ({compensated(after)})")
    return exits.DONE


@click.command()
@click.argument("run")
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_option
def cancel(run: str, yes: bool) -> int:  # noqa: FBT001  # a flag
    """Have a run stop at its next step, and be compensated.

    The process that has it does so, or whoever opens it next. Nothing here waits for that.
    """
    found = stored_run(run)
    name = short_id(found.id)
    if found.status is Status.OPEN and not found.cancel_requested and not yes:
        confirm(found, "cancel", f"{name} is {status_words(found)}. Cancel it?")
    after = run_to_change(found).cancel()
    if not after.cancel_requested:
        say(f"{name} is {status_words(after)} already; there is nothing to cancel")
    elif after.is_live:
        say(f"{name} will be cancelled by {printable(after.owner)}, which has it: at its next step")
    else:
        say(f"{name} will be cancelled when it is opened again: sagadsl resume {typed(found.id)}{store_words()}")
    return exits.DONE


def ask(run: Run) -> None:
    """Have a person confirm what is about to be compensated.

    Raises:
        UsageError: Nobody is there to be asked.
        click.Abort: They said no.
    """
    need_a_person(run, "compensate")
    say(f"{short_id(run.id)} is {status_words(run)}; to compensate, in this order:")
    for line in stack_lines(run):
        say(f"  {line}")
    if not run.stack:
        say("  nothing: no step of it is owed a compensation")
    confirm(run, "compensate", "Compensate it?")


def confirm(run: Run, verb: str, question: str) -> None:
    """Have a person say yes.

    Raises:
        UsageError: Nobody is there to be asked.
        click.Abort: They said no.
    """
    need_a_person(run, verb)
    if not click.confirm(question, err=True):
        say("nothing was done")
        raise click.Abort


def need_a_person(run: Run, verb: str) -> None:
    """Refuse to ask where nobody is.

    Raises:
        UsageError: As said, with what to type instead.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        msg = (
            f"run {run.id}: nobody can be asked here whether to {verb} it. "
            f"Look: sagadsl show {typed(run.id)}{store_words()}   Then add --yes to this command."
        )
        raise UsageError(msg)


def finished(work: Any) -> Any:
    """Return what a saga of either colour gives."""
    return asyncio.run(_awaited(work)) if inspect.isawaitable(work) else work


async def _awaited(work: Any) -> Any:
    return await work


def failed(run: Run, error: Exception) -> int:
    """Say how a run failed, and return its exit code; raise *error* if it is not about the user's business."""
    try:
        outcome = sagadsl.outcome(error)
    except UsageError:
        raise error from None
    if not isinstance(outcome, Compensated):
        raise error
    told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    say(f"{short_id(run.id)} failed with {printable(told, 400)}; {compensated(run)}")
    return outcome.exit_code


def compensated(run: Run) -> str:
    """Say what was compensated, in the order in which it was."""
    steps = [step.key for step in reversed(run.steps) if step.status == Status.COMPENSATED and not step.saga]
    return f"compensated {', '.join(steps)}" if steps else "nothing was owed"


def say(text: str) -> None:
    """Tell a person something, on stderr."""
    click.echo(printable_lines(text), err=True)
