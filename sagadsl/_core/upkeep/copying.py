"""Runs taken out of a journal as documents, and put into another; and a whole file copied while others write to it.

A document is one run: what identifies it, its entries as they stand in the file, each with its digest, and its letters.
What is put in is what was taken out, or nothing is: everything is checked before anything is written, and a run that is
there already is left as it is. Whether it is the same run is told by its entries, so that an import which was cut off
is done again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import attrs

from sagadsl._core.journal import Journal, Letter, Log
from sagadsl._core.journal.sqlite import SqliteJournal, _digest
from sagadsl._core.ownership import Tenure
from sagadsl._core.values import Entry, Kind, RunRow
from sagadsl.errors import JournalError, RunConflictError, UsageError

EXPORT: Final = 1
"""The number of the documents of runs; a field may be added without a new one."""

RUN: Final = ("id", "generation", "saga", "program", "arguments_digest", "started", "finished", "untold")
ENTRY: Final = tuple(each.name for each in attrs.fields(Entry) if each.init and each.name not in {"number", "of"})
LETTER: Final = ("at", "kind", "payload", "seq")
NUMBERS: Final = {"generation", "started", "finished", "untold", "seq", "scope", "ref", "attempt", "at"}
MAY_BE_MISSING: Final = frozenset(
    ("finished", "untold", "ref", "attempt", "name", "definition", "arguments", "result", "payload", "seq")
)

Check = Callable[[RunRow, list[Entry]], Any]
"""Reads a run whole, and its outline; raises `JournalError` if it cannot."""


@attrs.define(eq=False)
class Copied:
    """One run on its way: without a number of its own yet."""

    row: RunRow
    entries: list[Entry]
    letters: list[Letter]


def exported(journal: Journal, ids: Collection[str] | None) -> Iterator[dict[str, Any]]:
    """Yield the documents of runs, each generation, oldest first; of all runs, or of those with these ids.

    Raises:
        JournalError: One of them is damaged.
    """
    for row in journal.runs():
        if ids is None or row.id in ids:
            yield {
                "export": EXPORT,
                "run": told(row, RUN),
                "entries": [told(entry, ENTRY) | digested(entry) for entry in journal.entries(row.number)],
                "letters": [told(letter, LETTER) for letter in journal.letters(row.number)],
            }


def told(thing: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return what an object says under these names, without what it says nothing of."""
    return {name: value for name in names if (value := getattr(thing, name)) is not None}


def digested(entry: Entry) -> dict[str, str]:
    """Return the digest of an entry's payloads as the file has it."""
    digest = _digest(entry.arguments, entry.result)
    return {} if digest is None else {"digest": digest.hex()}


def imported(journal: Journal, documents: Iterable[Any], source: str, check: Check) -> tuple[list[str], list[str]]:
    """Put runs in; return the ids of those that were, and of those that are there already, word for word.

    Raises:
        JournalError: What *source* says is no export, or is damaged; nothing was written.
        RunConflictError: A run of that id is there that is another one; nothing was written.
    """
    runs = [copied(document, f"{source}, document {at}") for at, document in enumerate(documents, 1)]
    for run in runs:
        _, outline = check(run.row, run.entries)
        run.row.outline = outline.text() if run.row.finished is not None else None
    there = [run for run in runs if is_there(journal, run)]
    missing = [run for run in runs if run not in there]
    for run in missing:
        put(journal, run)
    return [run.row.id for run in missing], [run.row.id for run in there]


def copied(document: Any, place: str) -> Copied:
    """Return the run that a document says.

    Raises:
        JournalError: It says none, or an entry of it is not what was exported.
    """
    try:
        if document["export"] != EXPORT:
            raise JournalError(place, f"is of another format ({document['export']!r:.20}): upgrade sagadsl")
        row = RunRow(number=0, **values(document["run"], RUN))
        entries = [Entry(number=0, **values(each, ENTRY)) for each in document["entries"]]
        letters = [Letter(letter=0, number=0, **values(each, LETTER)) for each in document["letters"]]
        digests = [each.get("digest") for each in document["entries"]]
        for at, (entry, digest) in enumerate(zip(entries, digests, strict=True), 1):
            entry.kind = Kind(entry.kind)
            if entry.seq != at or digested(entry).get("digest") != digest:
                raise JournalError(place, f"entry {at} of run {row.id} is not what was exported: export it again")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"is no run that sagadsl exported ({error!r:.100}): give what `sagadsl export` wrote"
        raise JournalError(place, reason) from error
    return Copied(row, entries, letters)


def values(given: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return what a document says under these names, `None` for what it does not say.

    Raises:
        TypeError: A value is of another type than it must be.
        KeyError: One that must be there is missing.
    """
    found = {}
    for name in names:
        value = given.get(name) if name in MAY_BE_MISSING else given[name]
        if value is not None and type(value) is not (int if name in NUMBERS else str):
            raise TypeError(name)
        found[name] = value
    return found


def is_there(journal: Journal, run: Copied) -> bool:
    """Tell whether a run is there already.

    Raises:
        RunConflictError: One of this id and generation is, and it is another one.
    """
    row = next((row for row in journal.runs(id=run.row.id) if row.generation == run.row.generation), None)
    if row is None:
        return False
    if [told(e, ENTRY) for e in journal.entries(row.number)] != [told(e, ENTRY) for e in run.entries]:
        raise RunConflictError(
            row.id,
            f"is in {journal.name} already, and differs; nothing was imported. Import into another file: --db FILE",
        )
    return True


def put(journal: Journal, run: Copied) -> None:
    """Write one run, whole."""
    tenure, row = Tenure(), attrs.evolve(run.row)
    at = Log(holder=tenure)
    try:
        finished, untold = row.finished is not None or None, row.untold is not None or None
        marks: dict[str, Any] = {"finished": finished, "untold": untold, "outline": row.outline}
        journal.commit(at, run.entries, full=True, row=row, **marks)
        for letter in run.letters:
            journal.post(letter.changed(number=at.number))
    finally:
        journal.release(row.number, tenure)


# -- the whole file ---------------------------------------------------------------------------------------------------


def backed_up(journal: SqliteJournal, target: Path) -> None:
    """Copy the file as it is at one moment, whoever writes to it; the copy has its name once it is complete and sound.

    Raises:
        UsageError: There is something of that name already.
        JournalError: The file cannot be read or the copy not be written, or it is not sound.
    """
    if os.path.lexists(target):
        msg = f"{target} exists already, and is left as it is: name another file"
        raise UsageError(msg)
    part = target.with_name(f".{target.name}.part")
    own = journal.again()
    try:
        os.close(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600))
        with closing(sqlite3.connect(part)) as copy:
            own.connection().backup(copy)  # in one go: what others write meanwhile is not part of it
            found = copy.execute("pragma integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise JournalError(journal.name, f"its copy is not sound ({found:.200}). Look: sagadsl doctor")
        part.rename(target)
    except (OSError, sqlite3.Error) as error:
        raise JournalError(str(target), f"the backup cannot be written ({error}): name a writable folder") from error
    finally:
        part.unlink(missing_ok=True)
        own.close()
