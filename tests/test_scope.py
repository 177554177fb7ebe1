"""Calls that threads make in one scope at the same time: each is one call, whatever the others are just doing."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from contextvars import copy_context
from itertools import count

import pytest

import sagadsl
from sagadsl import Live
from sagadsl._core import scope
from sagadsl._core.flow import attempts, calls
from sagadsl._core.scope import past
from sagadsl._core.values import Kind
from sagadsl.errors import Stop

ROOMS = (scope.__file__, past.__file__)
"""Where a call becomes one of those on record, or a new one."""


class Death(BaseException):
    """The process is dead."""


class Beside:
    """Has *other* done in a thread of its own in the *number*-th line of some rooms; it may have to wait there."""

    def __init__(self, number, other, rooms=ROOMS):
        self.number, self.rooms, self.lines, self.has_come = number, rooms, count(1), False
        self.thread = threading.Thread(target=other)
        self.before = sys.gettrace()

    def __enter__(self):
        sys.settrace(lambda frame, event, arg: self.line if frame.f_code.co_filename in self.rooms else None)

    def line(self, frame, event, arg):
        if event == "line" and next(self.lines) == self.number:
            sys.settrace(self.before)
            self.has_come = True
            self.thread.start()
            self.thread.join(0.02)
        return self.line

    def __exit__(self, *_):
        sys.settrace(self.before)
        if not self.has_come:
            self.thread.start()
        self.thread.join()


@pytest.fixture
def runtime():
    """Give a store of one test, which nothing else writes to."""
    return sagadsl.Runtime(":memory:")


class Batch:
    """A block whose two payments are made in two threads, before a shipment in which the first process dies."""

    def __init__(self, runtime, number):
        self.runtime, self.number = runtime, number
        self.paid, self.keys, self.both = [], [], threading.Barrier(2)

    def pay(self, who: str) -> None:
        self.paid.append(who)
        self.keys.append(sagadsl.current().idempotency_key)
        self.both.wait()

    def ship(self, *, dies: Live[bool]) -> None:
        if dies:
            raise Death

    def life(self, place, first, second, *, dies=False):
        """Make the second payment in some line of the first; tell whether there is such a line."""
        with sagadsl.saga("batch", key=str(self.number), runtime=self.runtime) as run:
            pay = run.step(self.pay, compensate=None)
            beside = Beside(place, lambda: pay(second))
            with beside:
                pay(first)
            run.step(self.ship, compensate=None)(dies=dies)
        return beside.has_come


def test_calls_that_are_new_have_a_key_each(runtime):
    """Wherever one is in being made, another may be made; they are equal, too."""
    for number in count(1):
        batch = Batch(runtime, number)
        batch.both = threading.Barrier(1)
        if not batch.life(number, "x", "x"):
            break
        assert len(set(batch.keys)) == 2
        assert len(runtime.find(f"batch/{number}").steps) == 3
    assert number > 5


def test_calls_on_record_are_each_found_once(runtime):
    """Those that overlapped may come in any order; none of them is entered again."""
    for number in count(1):
        batch = Batch(runtime, number)
        with suppress(Death):
            batch.life(1, "x", "y", dies=True)
        assert sorted(batch.paid) == ["x", "y"]
        if not batch.life(number, "y", "x"):
            break
        assert sorted(batch.paid) == ["x", "y"]
        assert len(runtime.find(f"batch/{number}").steps) == 3
    assert number > 5


class Trip:
    """A saga that fails while a thread of its own, in some line, calls a second step."""

    def __init__(self, runtime, number):
        self.runtime, self.number = runtime, number
        self.done, self.undone = [], []
        self.is_called, self.has_ended = threading.Event(), threading.Event()
        self.beside = Beside(number, self.end, (calls.__file__, attempts.__file__))

    def undo(self, who: str) -> None:
        self.undone.append(who)

    @sagadsl.step(compensate=undo)
    def pay(self, who: str) -> None:
        self.done.append(who)

    @sagadsl.saga(key="{number}")
    def trip(self, number: int) -> None:
        self.pay("first")
        self.thread = threading.Thread(target=copy_context().run, args=(self.pay_too,))
        self.thread.start()
        self.is_called.wait()
        raise LookupError

    def pay_too(self) -> None:
        with self.beside, suppress(Stop):
            self.pay("second")

    def end(self) -> None:
        self.is_called.set()
        self.has_ended.wait()

    def play(self) -> None:
        with pytest.raises(LookupError):
            self.trip.using(runtime=self.runtime)(self.number)
        self.has_ended.set()
        self.thread.join()


def test_no_step_starts_in_a_thread_once_its_saga_has_begun_to_compensate(runtime):
    """Wherever its call is: it is entered before, and compensated, or never."""
    came_late = 0
    for number in count(1):
        trip = Trip(runtime, number)
        trip.play()
        if not trip.beside.has_come:
            break
        assert sorted(trip.undone) == sorted(trip.done)
        kinds = [entry.kind for entry in runtime.journal().entries(number)]
        assert Kind.INTENT not in kinds[kinds.index(Kind.COMPENSATING) :]
        came_late += len(trip.done) == 1
    assert 0 < came_late < number
