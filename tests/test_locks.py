"""Whose a run is, asked in the middle of asking: by a signal handler, or by what is collected just then."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from sagadsl._core.journal import locks
from sagadsl._core.journal.locks import Locks

LONG = 30.0
"""Seconds after which a test says that something hangs; nothing here takes one."""


def coming_in(number, what, again):
    """Do *what*, and *again* in its *number*-th line of this room; tell whether there are so many."""
    lines = count(1)

    def line(frame, event, arg):
        if event == "line" and next(lines) == number:
            sys.settrace(None)
            again()
        return line

    def trace(frame, event, arg):
        return line if frame.f_code.co_filename == locks.__file__ else None

    sys.settrace(trace)
    try:
        what()
    finally:
        sys.settrace(None)
    return next(lines) > number


def asks(held: Locks) -> None:
    assert held.is_held(1) == (1 in held._held)
    assert not held.is_held(9)


def lets_go(held: Locks) -> None:
    held.release(2)
    assert not held.is_held(2)


def has_one_for_a_while(held: Locks) -> None:
    assert held.hold(5)
    assert held.is_held(5)
    held.release(5)


def keeps_one(held: Locks) -> None:
    assert held.hold(6)


def hold_and_ask(held: Locks) -> None:
    assert held.hold(3)
    assert held.is_held(3)
    held.release(3)


def let_all_go(held: Locks) -> None:
    held.release(2)
    held.release(1)  # the file is closed, and opened again
    assert held.hold(1)


@pytest.mark.parametrize("what", [hold_and_ask, let_all_go])
@pytest.mark.parametrize("again", [asks, lets_go, has_one_for_a_while, keeps_one])
def test_a_thread_may_come_in_again_at_any_line(what, again, tmp_path):
    """Nobody waits for himself, and who else asks is told the truth."""
    reached = []

    def all_lines() -> None:
        for number in count(1):
            path = tmp_path / f"{number}-lock"
            held, other = Locks(path), Locks(path)  # the other's descriptor is its own, as another process's
            assert held.hold(1)
            assert held.hold(2)
            if not coming_in(number, lambda held=held: what(held), lambda held=held: again(held)):
                return
            assert [other.is_held(run) for run in range(1, 7)] == [run in held._held for run in range(1, 7)]
            assert (6 in held._held) == (again is keeps_one)
            reached.append(number)

    thread = threading.Thread(target=all_lines, daemon=True)  # where a trace function is nobody else's
    thread.start()
    thread.join(LONG)
    assert not thread.is_alive(), "it waits for itself"
    assert len(reached) > 20


def times_open(path: Path) -> int:
    """Tell how many descriptors of this process are a file's."""
    times = 0
    for each in Path("/dev/fd").iterdir():
        with suppress(OSError):  # it was that of the folder
            times += each.samefile(path)
    return times


def test_of_two_descriptors_that_are_opened_at_once_one_is_kept(tmp_path):
    """What comes in while the file is being opened opens it too; each run stays locked, and nothing is left open."""
    held, other = Locks(tmp_path / "lock"), Locks(tmp_path / "lock")

    class ComingIn:
        def __fspath__(self) -> str:
            held.path = other.path
            assert held.hold(2)
            return str(other.path)

    held.path = ComingIn()
    assert held.hold(1)
    assert [other.is_held(run) for run in (1, 2, 3)] == [True, True, False]
    assert times_open(other.path) == 1
    held.release(1)
    held.release(2)
    assert times_open(other.path) == 0
