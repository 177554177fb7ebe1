"""Fault points: each place where the world could end, made known to whoever wants it to end there.

A program is only crash-proof between two things that it does: a statement of SQL, a sync of the log, a lock taken or
let go in the kernel, a call of the user's function. `watch` tells a function *before* and *after* each of them, so that
a test can kill the process at the first, the second, the third, until there are no more. Where nobody watches there is
nothing at all: what is watched has its place taken by something that tells, and otherwise does the same.
"""

from __future__ import annotations

import contextlib
import functools
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sagadsl._core.drive import Drivers
from sagadsl._core.effects import Call
from sagadsl._core.journal.locks import Locks
from sagadsl._core.journal.sqlite import SqliteJournal
from sagadsl._core.journal.syncing import LogFile

At = Callable[[str], None]
"""Told of a point: ``before`` or ``after``, and what."""


@contextmanager
def watch(at: At, drivers: Drivers) -> Iterator[None]:
    """Have *at* told of each point of these drivers, and of each journal that is opened meanwhile in this process."""

    @contextmanager
    def point(what: str) -> Iterator[None]:
        at(f"before {what}")
        try:
            yield
        finally:
            at(f"after {what}")

    with contextlib.ExitStack() as stack:
        for place, name, new in (
            (
                SqliteJournal,
                "connect",
                staticmethod(functools.partial(sqlite3.connect, factory=connection_class(point))),
            ),
            (SqliteJournal, "log_file", log_file_class(point) if SqliteJournal.log_file is not None else None),
            (Locks, "hold", told_of(Locks.hold, "the lock is taken", point)),
            (Locks, "release", told_of(Locks.release, "the lock is let go", point)),
            (drivers, "_answers", drivers._answers | {Call: call(drivers._answers[Call], point)}),
            (
                drivers,
                "_async_answers",
                drivers._async_answers | {Call: acall(drivers._async_answers[Call], point)},
            ),
        ):
            stack.callback(setattr, place, name, getattr(place, name))
            setattr(place, name, new)
        yield


WORD = re.compile(r"\w+")
Point = Callable[[str], contextlib.AbstractContextManager[None]]


def connection_class(point: Point) -> type[sqlite3.Connection]:
    """Return a connection that tells of each statement, whoever executes it."""

    class Cursor(sqlite3.Cursor):
        def execute(self, sql: str, *args: Any) -> Cursor:
            with point(kind_of(sql)):
                return super().execute(sql, *args)

    class Connection(sqlite3.Connection):
        def cursor(self, _: Any = None) -> Any:
            return super().cursor(Cursor)

        def execute(self, sql: str, *args: Any) -> Any:
            return self.cursor().execute(sql, *args)

    return Connection


def log_file_class(point: Point) -> type[LogFile]:
    """Return what tells of each sync of the log."""

    class Telling(LogFile):
        def __init__(self, path: str) -> None:
            super().__init__(path)
            self.sync = told_of(self.sync, "the log is synced", point)

    return Telling


def kind_of(sql: str) -> str:
    """Return a statement's first words, which say what it does; a savepoint's name says nothing."""
    words = WORD.findall(sql.lower())
    return " ".join(words[: {"insert": 3, "create": 3, "savepoint": 1}.get(words[0], 2)])


def told_of(function: Callable[..., Any], what: str, point: Point) -> Callable[..., Any]:
    """Return *function* as a point."""

    def telling(*args: Any) -> Any:
        with point(what):
            return function(*args)

    return telling


def what_of(effect: Call) -> str:
    """Return whose function a call enters."""
    kind = "compensation" if effect.is_compensation else "probe" if effect.is_probe else "step"
    return f"the {kind} {effect.slot.name}"


def call(answer: Callable[[Call], Any], point: Point) -> Callable[[Call], Any]:
    """Return the driver's answer to a call as a point."""

    def telling(effect: Call) -> Any:
        with point(what_of(effect)):
            return answer(effect)

    return telling


def acall(answer: Callable[[Call], Any], point: Point) -> Callable[[Call], Any]:
    """Return the driver's answer to a call as a point, in the other colour."""

    async def telling(effect: Call) -> Any:
        with point(what_of(effect)):
            return await answer(effect)

    return telling
