"""Plays a saga of two payments in a child process for each line of standard input, and says how the child ended.

Each payment is a step in a transaction of the database that the line names; a *mutant* leaves ``transaction=`` out. The
children are forked from this process, so that a sweep pays for its imports once.
"""

import json
import os
import signal
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sagadsl
from sagadsl import Live
from sagadsl._core import landed
from sagadsl._core.journal.sqlite import SqliteJournal
from tests import databases
from tests.conftest import Colour
from tests.crash import forks


class Fate:
    """Counts what happens, of each sort, and ends the process before or after one of them."""

    def __init__(self, cut):
        self.cut, self.counts = tuple(cut), Counter()

    @contextmanager
    def at(self, sort):
        self.counts[sort] += 1
        here = (sort, self.counts[sort])
        if (*here, "before") == self.cut:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            yield
        finally:
            if (*here, "after") == self.cut:
                os.kill(os.getpid(), signal.SIGKILL)


class Journal:
    """A journal whose writes are points."""

    def __init__(self, journal, fate):
        self.journal, self.fate = journal, fate

    def __getattr__(self, name):
        return getattr(self.journal, name)

    def append(self, log, entry, full):
        with self.fate.at("write"):
            self.journal.append(log, entry, full)

    def commit(self, log, entries, **options):
        with self.fate.at("write"):
            self.journal.commit(log, entries, **options)


class Adapter:
    """A connection's adapter: each thing that is asked of the user's database is a point, its commit among them."""

    def __init__(self, adapter, fate):
        self.adapter, self.fate = adapter, fate

    def __getattr__(self, name):
        found = getattr(self.adapter, name)
        if callable(found):
            found = self.counted(found)
            setattr(self, name, found)
        return found

    def counted(self, found):
        if not self.adapter.is_async:

            def operation(*values):
                with self.fate.at("operation"):
                    return found(*values)

            return operation

        async def aoperation(*values):
            with self.fate.at("operation"):
                answer = found(*values)
                return await answer if hasattr(answer, "__await__") else answer

        return aoperation


def saga_of(database, told, fate):
    """Return the saga of two payments."""
    colour = Colour(is_async=database.is_async)
    options = {} if told.get("mutant") else {"transaction": "db"}

    def refund(db: Live[Any], item: str, result: object = None):
        with fate.at("body"):
            yield database.unpay(db, item)

    @colour.step(compensate=colour.coloured(refund), name="pay", **options)
    def pay(db: Live[Any], item: str):
        with fate.at("body"):
            if told.get("stop"):
                raise ConnectionError("given up")
            yield database.pay(db, item)
        return item

    @colour.step(compensate=None, name="finish")
    def finish() -> None:
        if told.get("stop") or told.get("fail"):
            raise ConnectionError("no answer")

    @colour.saga(name="two", key="k")
    def two(db: Live[Any]):
        first = yield pay(db, "a")
        second = yield pay(db, "b")
        yield finish()
        return [first, second]

    return two


def play(told):
    """Call the saga, unless a process before has ended it; leave the number of points of each sort in the folder."""
    folder, fate = Path(told["folder"]), Fate(told.get("cut", ()))
    if not (path := folder / "sagadsl.db").exists():
        path.write_bytes(forks.EMPTY)
    sagadsl.configure(store=Journal(SqliteJournal(path), fate))
    made = landed.made
    landed.made = lambda room, connection: Adapter(made(room, connection), fate)
    database = databases.made(told["kind"], folder / "shop.db", told["place"])
    saga = saga_of(database, told, fate)
    if not any(run.status.is_terminal for run in sagadsl.runs()):
        database.call(saga.outcome)
    (folder / "points").write_text(json.dumps(fate.counts))


for line in sys.stdin:
    told = json.loads(line)
    sys.stdout.write(f"{forks.waited(forks.forked(Path(told['folder']), play, told))}\n")
    sys.stdout.flush()
