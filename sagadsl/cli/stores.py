"""Where the journal is, and runs in it by what people type. Reading never creates, changes or migrates the file."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

import sagadsl
from sagadsl import JournalError, Run, RunConflictError, Runtime

F = TypeVar("F", bound=Callable[..., Any])

KEY = "sagadsl.store"
LAST = "@last"


def _remember(context: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.meta[KEY] = value


def store_option(function: F) -> F:
    """Add ``--db``, which may stand before or after the verb."""
    return click.option(
        "--db",
        type=click.Path(path_type=Path),
        callback=_remember,
        expose_value=False,
        is_eager=True,
        help="The journal file; else $SAGADSL_DB, else ./sagadsl.db.",
    )(function)


def store_path() -> Path:
    """Return where the journal is."""
    named: Path | None = click.get_current_context().meta.get(KEY)
    return (named or Path(os.environ.get("SAGADSL_DB") or "sagadsl.db")).absolute()


def store_is_named() -> bool:
    """Tell whether the command line names the journal."""
    return KEY in click.get_current_context().meta


def store_words() -> str:
    """Return what a command to type needs in order to reach the same journal."""
    named: Path | None = click.get_current_context().meta.get(KEY)
    return f" --db {shlex.quote(str(named))}" if named is not None else ""


def reading() -> Runtime:
    """Open the journal for reading.

    Raises:
        JournalError: There is none.
    """
    return Runtime(need_store(), read_only=True)


def need_store() -> Path:
    """Return where the journal is.

    Raises:
        JournalError: There is none.
    """
    path = store_path()
    if not path.is_file():
        raise JournalError(
            str(path),
            "there is no journal here yet. A program that calls a saga makes one beside its main script, or where "
            "SAGADSL_DB says. Look elsewhere: sagadsl list --db FILE",
        )
    return path


def run_argument(*, many: bool = False, is_needed: bool = True) -> Callable[[F], F]:
    """Add RUN, or any number of them, which a shell can complete."""
    return click.argument("run", nargs=-1 if many else 1, required=is_needed and not many, shell_complete=_known_runs)


def _known_runs(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the ids that begin with what was typed; where no journal can be read there are none to offer."""
    try:
        with context.scope(cleanup=False):
            return [*dict.fromkeys(run.id for run in reading().runs() if run.id.startswith(incomplete)), LAST]
    except JournalError:
        return []


def stored_run(name: str) -> Run:
    """Find a run by its id, a beginning of it, or ``@last``, without writing anything.

    Raises:
        RunConflictError: There is none, or several.
    """
    runtime = reading()
    if name == LAST:
        newest = next(iter(runtime.runs(limit=1)), None)
        if newest is None:
            raise RunConflictError(
                LAST, f"there is no run in {store_path()} yet; a program that calls a saga makes one"
            )
        return newest
    try:
        return runtime.find(name)
    except RunConflictError as error:
        raise RunConflictError(name, f"{error.reason}. Look: sagadsl list{store_words()}") from None


def run_to_change(run: Run) -> Run:
    """Return *run* as the code that was loaded can go on with it."""
    sagadsl.configure(store=store_path())
    return sagadsl.find(run.id)
