"""Places the example's order in a child process for each line of standard input, and says how the child ended.

The children are forked from this clean, single-threaded process, so that a sweep of hundreds pays for its imports once.
Each is a process of its own: it opens the files itself, and SIGKILL ends it like any other.
"""

import json
import os
import signal
import sys
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import sagadsl
from sagadsl._core.journal.sqlite import SqliteJournal
from sagadsl._core.values import Kind
from sagadsl.examples.order import payments
from sagadsl.examples.order.saga import place_order
from sagadsl.examples.order.stage import stage
from tests.crash import forks


class Knife:
    """A journal that kills the process before or after its write number *number*."""

    def __init__(self, journal, number, moment):
        self.journal, self.number, self.moment = journal, number, moment
        self.writes = 0

    def __getattr__(self, name):
        return getattr(self.journal, name)

    @contextmanager
    def writing(self):
        self.writes += 1
        if (self.writes, "before") == (self.number, self.moment):
            os.kill(os.getpid(), signal.SIGKILL)
        yield
        if (self.writes, "after") == (self.number, self.moment):
            os.kill(os.getpid(), signal.SIGKILL)

    def append(self, log, entry, full):
        with self.writing():
            self.journal.append(log, entry, full)

    def commit(self, log, entries, **options):
        with self.writing():
            self.journal.commit(log, entries, **options)


class Forgetful(Knife):
    """The mutant: it writes what came of a step, and forgets that the step was entered."""

    def append(self, log, entry, full):
        if entry.kind is not Kind.INTENT:
            super().append(log, entry, full)

    def commit(self, log, entries, **options):
        super().commit(log, [entry for entry in entries if entry.kind is not Kind.INTENT], **options)


def play(told):
    """Place the order, or compensate it; leave the number of journal writes in the folder."""
    folder = Path(told["folder"])
    stage.folder, stage.fail = folder, told.get("fail")
    stage.kill = tuple(told["kill"]) if "kill" in told else None
    if not (path := folder / "sagadsl.db").exists():
        path.write_bytes(forks.EMPTY)
    journal = (Forgetful if told.get("mutant") else Knife)(SqliteJournal(path), *told.get("cut", (0, "")))
    sagadsl.configure(store=journal)
    if not told.get("compensate"):
        place_order.outcome("o-1", "lamp", 2, Decimal(1500))
    elif sagadsl.runs(status="completed") or not sagadsl.runs():
        return  # nothing is unfinished
    else:
        sagadsl.find("place_order/o-1").compensate()
    (folder / "writes").write_text(str(journal.writes))
    payments.close()


for line in sys.stdin:
    told = json.loads(line)
    sys.stdout.write(f"{forks.waited(forks.forked(Path(told['folder']), play, told))}\n")
    sys.stdout.flush()
