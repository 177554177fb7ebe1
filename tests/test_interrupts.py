"""Ctrl-C wherever Python can let it through: nothing stays held, nothing stays current, and the file is what counts."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import sys
from itertools import count
from pathlib import Path

import pytest

import sagadsl
from sagadsl._core.scope import CURRENT
from sagadsl._core.threads import threads_with_runs

HOUSE = (str(Path(sagadsl.__file__).parent), contextlib.__file__)


class Pressed:
    """Presses Ctrl-C at a place, by its number, where Python lets it in: our function begins, or a call has ended."""

    def __init__(self, number):
        self.number, self.places, self.where = number, 0, ""

    def __enter__(self):
        sys.setprofile(self.profile)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    def profile(self, frame, event, arg):
        if event in {"call", "c_return"} and frame.f_code.co_filename.startswith(HOUSE):
            self.places += 1
            if self.places == self.number:
                self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"
                raise KeyboardInterrupt


@pytest.fixture
def trip(colour, runtime, world):
    """Give a saga of two steps, of which the second fails if it is told to, and the runs of its store."""

    @colour.step(compensate=colour.coloured(lambda: world.add("-first")), name="first")
    def first() -> None:
        world.add("first")

    @colour.step(compensate=None, name="second")
    def second(fails: bool) -> None:
        if fails:
            raise LookupError("sold out")

    @colour.saga(runtime=runtime, name="trip", key="{number}")
    def trip(number: int, fails: bool):
        yield first()
        yield second(fails)
        return number

    return trip


def held(runtime):
    return set(runtime.journal()._locks._held)


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@pytest.mark.parametrize("fails", [False, True])
def test_a_ctrl_c_at_any_place_leaves_nothing_behind(trip, colour, runtime, monkeypatch, fails):
    """No run stays held, no scope current; called again in the same process it comes to its end.

    At each place if SAGADSL_SWEEP=full, else at every seventh, from one that the seed gives.
    """
    wanted = os.environ.get("SAGADSL_SWEEP") or str(random.randrange(10**6))  # noqa: S311  # a sample, no secret
    stride = 1 if wanted == "full" else 7
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # one that comes where Python itself cleans up
    colour.call(trip, 0, False)  # the file is made
    wrong = []
    for number in count(random.Random(wanted).randrange(stride) + 1, stride):  # noqa: S311
        pressed, ended = Pressed(number), None
        with contextlib.suppress(KeyboardInterrupt), pressed:
            ended = colour.call(trip.outcome, number, fails)
        if pressed.places < number:
            break
        gc.collect(0)
        left = (CURRENT.get(), held(runtime), dict(threads_with_runs))
        if any(left):
            wrong.append((number, pressed.where, *left))
            CURRENT.set(None)
            threads_with_runs.clear()
            for each in held(runtime):
                runtime.journal().release(each)
        if not any(run.id == f"trip/{number}" and run.status.is_terminal for run in runtime.runs()):
            colour.call(trip.outcome, number, fails)
        status = str(runtime.find(f"trip/{number}").status)
        if status != ("compensated" if fails else "completed"):
            wrong.append((number, pressed.where, status, ended))
    assert number > 300
    assert wrong == [], f"SAGADSL_SWEEP={wanted}\n" + "\n".join(map(str, wrong))
