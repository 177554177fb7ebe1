"""Who may run a run: one living owner at a time, known to the kernel and told in the journal.

The kernel's lock says *who may*: it dies with its process. The journal says *who does*: taking over is an entry, so
whoever was overtaken collides with it at its next write and halts. A run that is taken by force from a living owner is
locked at another place from then on (`RunRow.lock`), for the old owner keeps the old one as long as it lives.
"""

from __future__ import annotations

import functools
import json
import os
import socket
from datetime import UTC, datetime
from typing import Any

import attrs

from sagadsl._core.journal import Journal
from sagadsl._core.state import OWNED
from sagadsl._core.values import Entry, RunRow
from sagadsl.errors import JournalError, RunLockedError


class Tenure:
    """What one call holds of a journal, or was about to hold, so that nothing stays held when it is over.

    Each lock is noted before it is taken: a Ctrl-C may come between any two of our lines, and a lock of the kernel
    that nobody remembers is held until the process dies.
    """

    def __init__(self) -> None:
        self._noted: dict[int, Journal] = {}

    def hold(self, journal: Journal, lock: int) -> bool:
        """Hold a run in the name of this call."""
        self._noted[lock] = journal
        return journal.hold(lock, self)

    def release(self, lock: int) -> None:
        """Let go of a run that was noted."""
        self._noted[lock].release(lock, self)

    def end(self) -> None:
        """Let go of everything that is held in the name of this call."""
        for lock in tuple(self._noted):
            self.release(lock)


def hold(tenure: Tenure, journal: Journal, row: RunRow) -> RunRow | None:
    """Hold a run; return its row as it then is, or `None`: a living thread or process has it."""
    while tenure.hold(journal, row.lock):
        now = _again(journal, row)
        if now.lock == row.lock:
            return now
        tenure.release(row.lock)  # taken by force since the row was read
        row = now
    return None


def claim(tenure: Tenure, journal: Journal, row: RunRow, *, steal: bool = False) -> tuple[RunRow, bool]:
    """Hold a run, if need be by force; return its row as it then is, and whether a living owner has to be overtaken.

    Raises:
        RunLockedError: A living thread or process has it.
    """
    held = hold(tenure, journal, row)
    if held is not None:
        return held, False
    row = _again(journal, row)
    place = attrs.evolve(row, thefts=row.thefts + 1)
    if not steal or not tenure.hold(journal, place.lock):  # two that take it by force: one wins
        raise locked(journal, row)
    return place, True


def locked(journal: Journal, row: RunRow) -> RunLockedError:
    """Return what to say of a run that somebody has."""
    told = owner_of(journal.entries(row.number))
    return RunLockedError(row.id, told.get("host", ""), told.get("pid", 0), told.get("since", ""))


def _again(journal: Journal, row: RunRow) -> RunRow:
    """Return a run's row as it is now.

    Raises:
        JournalError: A row that was read a moment ago is not found by its id: the file is damaged.
    """
    for each in journal.runs(id=row.id):
        if each.number == row.number:
            return each
    raise JournalError(journal.name, f"run {row.id} is not found again: the file is damaged; restore a backup")


def owner() -> str:
    """Say which process this is, for the entry that opens or takes over a run."""
    return _process(os.getpid())


def told_owner() -> str:
    """Say it to a person."""
    return f"process {os.getpid()} on {socket.gethostname()}"


@functools.cache
def _process(pid: int) -> str:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"host": socket.gethostname(), "pid": pid, "since": since})


def owner_of(entries: list[Entry]) -> dict[str, Any]:
    """Return what the last entry that opened or took over a run says of its owner."""
    told: dict[str, Any] = json.loads(next(e.result for e in reversed(entries) if e.kind in OWNED and e.result) or "{}")
    return told
