"""Which runs may be forgotten, and forgetting them: only what has ended, nothing that is owed or that goes on.

A run goes whole or not at all, whatever happens meanwhile: a batch of them is one transaction, and while it is removed
this process owns it, so nobody resumes or compensates it at the same time. What somebody else owns stays. The earlier
generations of a run go with it, for without it they would look like its last word.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from sagadsl._core.journal import Journal
from sagadsl._core.ownership import Tenure
from sagadsl._core.state import ENDED
from sagadsl._core.values import Kind, RunRow, Status
from sagadsl._core.values.outlines import Outline
from sagadsl.errors import JournalError, UsageError

log = logging.getLogger("sagadsl")

BATCH: Final = 100
"""How many runs are removed in one transaction: a few milliseconds, in which other writers wait."""
INTERVAL: Final = 60_000_000
"""Microseconds after which a process looks again for what it need not keep."""

Limit = int | timedelta
"""How many of the newest, or those that ended within this time, are kept."""
Keep = Limit | Mapping[str, Limit]
"""One limit for all that has ended, or one for each status."""

NOTICES: Final = frozenset({Kind.NOTIFIED, Kind.NOTIFY_ERROR})
"""What is said of a run that has ended, and is not its own last word."""


def checked_keep(keep: Any) -> Keep:
    """Return what is to be kept, if it can be said like this.

    Raises:
        UsageError: It is no number, time or mapping of them.
    """
    limits = dict(keep) if isinstance(keep, Mapping) else {Status.COMPLETED: keep}
    for status, limit in limits.items():
        checked_status(status)
        is_limit = isinstance(limit, timedelta) or (isinstance(limit, int) and not isinstance(limit, bool))
        if not (is_limit and limit >= type(limit)(0)):
            msg = (
                f"keep={keep!r}: say how many of the newest runs that have ended (1000), for how long "
                '(timedelta(days=30)), or that for each status ({"completed": 1000, "compensated": timedelta(days=90)})'
            )
            raise UsageError(msg)
    return limits if isinstance(keep, Mapping) else keep


def checked_age(older_than: Any) -> timedelta:
    """Return an age from which on runs may be forgotten, which is given in seconds or as a `timedelta`.

    Raises:
        UsageError: It is neither, or less than nothing.
    """
    try:
        age = older_than if isinstance(older_than, timedelta) else timedelta(seconds=older_than)
        is_age = age >= timedelta()
    except (TypeError, ValueError, OverflowError):
        is_age = False
    if not is_age:
        msg = (
            "prune(older_than=...) takes seconds or a timedelta, none below 0, such as timedelta(days=30), not "
            f"{older_than!r:.80}"
        )
        raise UsageError(msg)
    return age


def checked_status(status: str | None) -> str | None:
    """Return a status whose runs may be forgotten, or `None`.

    Raises:
        UsageError: Something of it may be owed, or there is no such status.
    """
    if status is not None and status not in ENDED:
        msg = f"only runs that are {' or '.join(ENDED)} can be pruned, not {status!r}: the others are not over"
        raise UsageError(msg)
    return status


def prune(
    journal: Journal, keep: list[tuple[str | None, Limit]], now: int, *, is_tried: bool = False
) -> tuple[str, ...]:
    """Remove the runs that have ended and that none of these limits (each of a status, or of all) keeps.

    Return their ids, oldest first. With *is_tried* nothing is removed.
    """
    rows = journal.runs()
    owing = {row.id for row in rows if row.untold is not None}
    ended = [row for row in rows if row.finished is not None and row.id not in owing]
    doomed = with_earlier(ended, expendable(journal, ended, keep, now))
    if is_tried:
        return tuple(row.id for row in doomed)
    gone = [row for at in range(0, len(doomed), BATCH) for row in removed(journal, doomed[at : at + BATCH])]
    if gone:
        journal.shrink()
    return tuple(row.id for row in gone)


def expendable(journal: Journal, ended: list[RunRow], keep: list[tuple[str | None, Limit]], now: int) -> list[RunRow]:
    """Return the runs that each limit which is about them lets go; *ended* are all, oldest first."""
    found = None
    for status, limit in keep:
        rows = ended if status is None else of_status(journal, ended, status)
        if isinstance(limit, timedelta):
            rows = [row for row in rows if now - (row.finished or now) >= limit / timedelta(microseconds=1)]
        else:
            rows = rows[: max(0, len(rows) - limit)]
        numbers = {row.number for row in rows}
        found = numbers if found is None else found & numbers
    return [row for row in ended if row.number in (found or ())]


def of_status(journal: Journal, rows: list[RunRow], status: str) -> list[RunRow]:
    """Return those runs whose last word of themselves is this; what cannot be read of is none."""
    return [row for row in rows if last_word(journal, row) == status]


def last_word(journal: Journal, row: RunRow) -> str | None:
    """Return the last word of a run that has ended about itself, from its row, or else its entries."""
    try:
        if row.outline is not None:
            return Outline.of(row.outline).status
        own = (entry.kind for entry in reversed(journal.entries(row.number)) if not entry.step)
        return next((kind for kind in own if kind not in NOTICES), None)
    except (JournalError, TypeError, ValueError):
        return None


def with_earlier(ended: list[RunRow], chosen: list[RunRow]) -> list[RunRow]:
    """Return the chosen runs and the earlier generations of each, which its last one has replaced."""
    last: dict[str, int] = {}
    for row in chosen:
        last[row.id] = max(row.generation, last.get(row.id, 0))
    return [row for row in ended if row.generation <= last.get(row.id, 0)]


def removed(journal: Journal, rows: list[RunRow]) -> list[RunRow]:
    """Remove those of these runs that nobody has, all at once."""
    tenure = Tenure()
    try:
        free = [row for row in rows if tenure.hold(journal, row.lock)]
        gone = set(journal.remove([row.number for row in free]))
    finally:
        tenure.end()
    return [row for row in free if row.number in gone]


# -- what a process does by itself ------------------------------------------------------------------------------------


class Keeper:
    """Prunes a store at the end of runs, now and then, in a thread of its own and with a connection of its own."""

    def __init__(self, keep: Keep, clock: Callable[[], int]) -> None:
        self.keep, self.clock = keep, clock
        self._guard = threading.RLock()
        self._last: dict[str, int] = {}

    def look(self, journal: Journal) -> None:
        """Begin to prune, unless that was done less than a minute ago."""
        now = self.clock()
        with self._guard:
            if now - self._last.get(journal.name, -INTERVAL) < INTERVAL:
                return
            self._last[journal.name] = now
        work = threading.Thread(target=self._work, args=(journal, now), name="sagadsl keep")
        try:
            work.start()
        except RuntimeError:  # the interpreter is ending
            log.debug("the program ends, so nothing is pruned")

    def _work(self, journal: Journal, now: int) -> None:
        own = journal.again()
        limits = self.keep.items() if isinstance(self.keep, Mapping) else [(None, self.keep)]
        try:
            for limit in limits:
                prune(own, [limit], now)
        except Exception as error:  # noqa: BLE001  # whatever it is, the program's own work is done
            log.warning("old runs were not pruned: %s", str(error))
        finally:
            if own is not journal:
                own.close()
