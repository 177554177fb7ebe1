"""What is done to a journal as a whole, now and then: pruned, copied out and in, backed up, examined.

None of it is on the way of a step. It asks the journal what any reader may ask, and writes by the same few methods, so
a run is never half there. One file for each question; `Upkeep` is the door to what the command line needs of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagadsl._core.journal import Journal
from sagadsl._core.values import Entry, RunRow
from sagadsl.errors import JournalError, UsageError

if TYPE_CHECKING:
    from sagadsl._core.journal.sqlite import SqliteJournal


class Upkeep:
    """A journal as a file to be looked after. *read* reads a run whole, from its row and entries, and its outline."""

    def __init__(self, journal: Journal, read: Callable[[RunRow, list[Entry] | None], tuple[Any, Any]]) -> None:
        self._journal, self._read = journal, read

    def _whole(self, row: RunRow, entries: list[Entry] | None = None) -> tuple[Any, Any]:
        """Read a run whole, and its outline, and see that its row says the same of its end.

        Raises:
            JournalError: It cannot be read, or does not.
        """
        run, outline = self._read(row, entries)
        if run.status.is_terminal is not (row.finished is not None) or (run.notify_owed and not run.status.is_terminal):
            reason = f"run {row.id} is {run.status}, which its row denies: restore a backup"
            raise JournalError(self._journal.name, reason)
        if row.outline is not None and row.outline != outline.text():
            reason = f"run {row.id} is not what its row says in outline: restore a backup"
            raise JournalError(self._journal.name, reason)
        return run, outline

    def exported(self, ids: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
        """Yield runs as documents for ``json.dumps``, each generation of these ids or of all; the oldest first.

        Raises:
            JournalError: One of them is damaged.
        """
        from sagadsl._core.upkeep.copying import exported

        return exported(self._journal, ids)

    def imported(self, documents: Iterable[Any], source: str = "the export") -> tuple[list[str], list[str]]:
        """Put exported runs in; return the ids of those that were, and of those that are there already, the same.

        Raises:
            JournalError: What *source* says is no export, or is damaged; nothing was written.
            RunConflictError: A run of that id is there that is another one; nothing was written.
        """
        from sagadsl._core.upkeep.copying import imported

        return imported(self._journal, documents, source, self._whole)

    def backed_up(self, target: str | os.PathLike[str]) -> None:
        """Copy the file as it is now to a new one, whoever writes to it meanwhile.

        Raises:
            UsageError: The journal is in memory, or *target* exists.
            JournalError: It cannot be read, or the copy not be written.
        """
        from sagadsl._core.upkeep.copying import backed_up

        backed_up(self._file(), Path(target))

    def examined(self) -> Iterator[Any]:
        """Yield what each check of the file and its place finds: *check*, *status*, *told*, and *cure*: what to type.

        Raises:
            UsageError: The journal is in memory.
        """
        from sagadsl._core.upkeep.examining import examined

        return examined(self._file(), self._whole)

    def version(self) -> int:
        """Return a number that is another one once another process, or another connection, has written to the file.

        Raises:
            UsageError: The journal is in memory.
        """
        return self._file().version()

    def _file(self) -> SqliteJournal:
        from sagadsl._core.journal.sqlite import SqliteJournal

        if not isinstance(self._journal, SqliteJournal):
            msg = f"{self._journal.name} is no file: name one with store="
            raise UsageError(msg)
        return self._journal
