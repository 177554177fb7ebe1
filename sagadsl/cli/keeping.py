"""The journal as a file: ``prune``, ``doctor``, ``export``, ``import``, ``backup``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import click

from sagadsl import JournalError, Runtime, UsageError
from sagadsl.cli.acting import ask, say
from sagadsl.cli.looking import json_option, write, write_json
from sagadsl.cli.spans import Span
from sagadsl.cli.stores import need_store, reading, run_argument, store_option, store_path, store_words, stored_run
from sagadsl.errors import ExitCode
from sagadsl.report import SCHEMA, columns, printable

SIGNS = {"good": "+", "note": "?", "damage": "!"}


def write_facts(**facts: Any) -> None:
    """Write what was done to the journal, or found in it, as a document."""
    write_json({"schema": SCHEMA, "store": str(store_path())} | facts)


# -- prune ------------------------------------------------------------------------------------------------------------


@click.command()
@click.option("--older-than", type=Span(), help="Those that ended longer ago than this, such as 30d.")
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Not the newest N of them.")
@click.option("--status", type=click.Choice(["completed", "compensated"]), help="Those that ended like this only.")
@click.option("--dry-run", is_flag=True, help="Say which, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@store_option
def prune(
    older_than: timedelta | None,
    keep: int | None,
    status: str | None,
    dry_run: bool,  # noqa: FBT001  # flags
    yes: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """Forget runs that have ended, so that the file shrinks.

    What is not over is never forgotten: open, paused, waiting, compensating, or with a compensation that failed. With
    a run goes what a later compensation of it would need, and its key is a new one.
    """
    if older_than is None and keep is None:
        msg = "prune takes --older-than 30d, --keep 1000 (the newest), or both; look first with --dry-run"
        raise UsageError(msg)
    limits: dict[str, Any] = {"older_than": older_than, "keep": keep, "status": status}
    ids = reading().prune(**limits, dry_run=True)
    size = file_size()
    if ids and not dry_run:
        confirm_pruning(ids, yes=yes)
        ids = Runtime(store_path()).prune(**limits)
    freed = max(0, size - file_size())  # the log beside the file may have grown by more than a few runs took
    if as_json:
        write_facts(is_dry_run=dry_run, pruned=list(ids), bytes=freed)
    elif dry_run:
        write("\n".join(printable(each, 200) for each in ids) or "nothing would go")
    else:
        say(f"{counted(ids)} pruned, {freed / 1e6:.1f} MB given back")


def confirm_pruning(ids: tuple[str, ...], *, yes: bool) -> None:
    """Have a person say yes.

    Raises:
        UsageError: Nobody is there to be asked.
        click.Abort: They said no.
    """
    if not yes:
        what = f"{counted(ids)}, from {ids[0]} to {ids[-1]}; what a later compensation of them would need goes too"
        nobody = f"nobody can be asked here whether to forget {counted(ids)}. Look with --dry-run, then add --yes"
        ask("Forget them?", what, nobody)


def counted(ids: tuple[str, ...] | list[str]) -> str:
    """Say how many runs."""
    return f"{len(ids)} run{'' if len(ids) == 1 else 's'}"


def file_size() -> int:
    """Return how many bytes the journal takes."""
    files = [Path(f"{store_path()}{end}") for end in ("", "-wal")]
    return sum(file.stat().st_size for file in files if file.exists())


# -- doctor -----------------------------------------------------------------------------------------------------------


@click.command()
@json_option
@store_option
def doctor(as_json: bool) -> int:  # noqa: FBT001  # a flag
    """Examine the journal and the place where it is; 5 is damage.

    Nothing is changed. Each finding that is not good ends with what to type.
    """
    findings = list(reading().upkeep.examined())
    is_sound = all(finding.status != "damage" for finding in findings)
    if as_json:
        told = [{n: getattr(f, n) for n in ("check", "status", "told", "cure")} for f in findings]
        write_facts(is_sound=is_sound, findings=told)
    else:
        write("\n".join(finding_lines(findings)))
    return ExitCode.DONE if is_sound else ExitCode.STORE


def finding_lines(findings: list[Any]) -> Iterator[str]:
    """Yield findings as lines, each with what to type under it."""
    rows = [[f"{SIGNS[f.status]} {f.check}", printable(f.told, 1000)] for f in findings]
    for line, finding in zip(columns(rows), findings, strict=True):
        yield line
        if finding.cure:
            yield f"      {printable(finding.cure, 1000)}"


# -- out, in, and as it is --------------------------------------------------------------------------------------------


@click.command()
@run_argument(many=True)
@click.option("--output", type=click.Path(path_type=Path), help="A new file to write; else stdout.")
@store_option
def export(run: tuple[str, ...], output: Path | None) -> None:
    """Write runs as JSON, one document a line: those that are named, or all."""
    ids = {stored_run(name).id for name in run} or None
    lines = (json.dumps(document) for document in reading().upkeep.exported(ids))
    if output is None:
        for line in lines:
            write(line)
        return
    try:
        with output.open("x", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except FileExistsError as error:
        msg = f"{output} exists already, and is left as it is: name another file"
        raise UsageError(msg) from error


@click.command(name="import")
@click.argument("file", type=click.File(encoding="utf-8"))
@json_option
@store_option
def import_runs(file: Any, as_json: bool) -> None:  # noqa: FBT001  # a flag
    """Put runs from an export (FILE, or - for stdin) into the journal, which is made if there is none.

    Nothing is overwritten: a run that is there is left, and one that differs from it refuses the whole import.
    """
    name = getattr(file, "name", "stdin")
    runtime = Runtime(store_path())
    put, there = runtime.upkeep.imported(documents(file, name), name)
    unfinished = [each for each in put if not runtime.find(each).status.is_terminal]
    if as_json:
        write_facts(imported=put, present=there)
    say(f"{counted(put)} imported" + (f", {counted(there)} there already" if there else ""))
    if unfinished:
        say(
            f"{counted(unfinished)} not over: go on with each in one file alone, or it is done twice. "
            f"Look: sagadsl list{store_words()}"
        )


def documents(file: Any, name: str) -> Iterator[Any]:
    """Yield the documents of an export.

    Raises:
        JournalError: A line is no JSON.
    """
    for number in count(1):
        try:
            line = file.readline()  # a backup, say, is no text
            document = json.loads(line) if line else None
        except (ValueError, RecursionError) as error:
            raise JournalError(name, f"line {number} is no JSON: give what `sagadsl export` wrote") from error
        if not line:
            return
        yield document


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@store_option
def backup(file: Path, as_json: bool) -> None:  # noqa: FBT001  # a flag
    """Copy the journal to a new FILE, as it is at one moment, while others go on writing."""
    need_store()
    reading().upkeep.backed_up(file)
    size = file.stat().st_size
    if as_json:
        write_facts(backup=str(file.absolute()), bytes=size)
    say(f"{file} is a copy of {store_path()}, {size / 1e6:.1f} MB")
