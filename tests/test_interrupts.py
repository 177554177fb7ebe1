"""Ctrl-C wherever Python can let it through: nothing stays held, nothing stays current, and the file is what counts."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import sys
import threading
import time
from itertools import count
from pathlib import Path

import pytest

import sagadsl
from sagadsl._core.scope import CURRENT
from sagadsl._core.threads import threads_with_runs

HOUSE = (str(Path(sagadsl.__file__).parent), contextlib.__file__)


class TimeLimit(Exception):
    """What a signal handler raises that limits the time of whatever runs."""


class Pressed:
    """Presses Ctrl-C at a place, by its number, where Python lets it in: our function begins, or a call has ended."""

    def __init__(self, number, raised=KeyboardInterrupt):
        self.number, self.raised, self.places, self.where = number, raised, 0, ""

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
                raise self.raised


class Places:
    """Every place in turn if SAGADSL_SWEEP=all, else every seventh, from one that the seed gives; it says which."""

    def __init__(self):
        self.wanted = os.environ.get("SAGADSL_SWEEP") or str(random.randrange(10**6))  # noqa: S311  # a sample

    def __iter__(self):
        stride = 1 if self.wanted == "all" else 7
        return count(random.Random(self.wanted).randrange(stride) + 1, stride)  # noqa: S311

    def __str__(self):
        return f"SAGADSL_SWEEP={self.wanted}"


@pytest.fixture
def places(monkeypatch):
    """Give the places; what comes where Python itself cleans up is not said of each."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    return Places()


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
def test_a_ctrl_c_at_any_place_leaves_nothing_behind(trip, colour, runtime, places, fails):
    """No run stays held, no scope current; called again in the same process it comes to its end."""
    colour.call(trip, 0, False)  # the file is made
    wrong = []
    for number in places:
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
    assert wrong == [], f"{places}\n" + "\n".join(map(str, wrong))


@pytest.mark.parametrize("colour", [False], indirect=True, ids=["sync"])
def test_what_a_signal_handler_raises_at_any_place_neither_hangs_nor_leaves_anything(
    trip, colour, runtime, world, places
):
    """It may fail a step, stop the run, or come out: the run is compensated, or goes on when it is called again.

    Where it comes in a step's call it is taken for what the step raised, also as that has just returned. In an event
    loop it may come in a callback of asyncio's, which logs it and goes on.
    """
    colour.call(trip, 0, False)
    wrong, statuses = [], set()
    for number in places:
        pressed, before = Pressed(number, TimeLimit), len(world.effects)
        with contextlib.suppress(TimeLimit, sagadsl.SagaError), pressed:
            colour.call(trip, number, False)
        if pressed.places < number:
            break
        gc.collect(0)
        left = (CURRENT.get(), held(runtime), dict(threads_with_runs))
        if any(left):
            wrong.append((number, pressed.where, *left))
            break
        if not any(run.id == f"trip/{number}" and run.status.is_terminal for run in runtime.runs()):
            colour.call(trip, number, False)
        run, effects = runtime.find(f"trip/{number}"), world.effects[before:]
        is_back = run.status is sagadsl.Status.COMPENSATED
        first = next((step.status for step in run.steps if step.name == "first"), None)
        owed = is_back and "first" in effects and first != "failed"
        undone = is_back and first == "compensated"
        if not run.status.is_terminal or effects.count("-first") != undone or owed > undone:
            wrong.append((number, pressed.where, run.status, first, effects))
        statuses.add(str(run.status))
    assert number > 300
    assert wrong == [], f"{places}\n" + "\n".join(map(str, wrong))
    assert statuses == {"completed", "compensated"}


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="Ctrl-C cannot be sent to a thread here")
def test_a_real_ctrl_c_around_a_commit_leaves_what_the_file_says(make_runtime, world):
    """4,000 of them if SAGADSL_SWEEP=all: each comes at another moment, and the process goes on with what it has."""
    runtime = make_runtime(durability="process")
    main, dice = threading.main_thread().ident, random.Random(1)  # noqa: S311
    times, interrupted = 4000 if os.environ.get("SAGADSL_SWEEP") == "all" else 200, 0
    is_on, is_over = threading.Event(), threading.Event()

    @sagadsl.step(compensate=None, name="work")
    def work(at: int) -> int:
        return at

    @sagadsl.saga(runtime=runtime, name="trip", key="{number}")
    def trip(number: int) -> int:
        return sum(work(at) for at in range(3))

    def press():
        while not is_over.is_set():
            is_on.wait()
            is_over.wait(dice.random() / 500)
            is_on.clear()  # it is set again once the Ctrl-C has come
            if not is_over.is_set():
                signal.pthread_kill(main, signal.SIGINT)

    assert trip(0) == 3
    gc.collect()  # Python swallows what comes while it collects
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    number = 0
    try:
        while interrupted < times:
            number += 1
            value = None
            try:
                is_on.set()
                value = trip(number)
                late = time.monotonic() + 10
                while time.monotonic() < late:  # it comes now, where nothing of ours runs, or came in a callback of gc
                    is_over.wait(0.001)  # from an empty loop Python 3.13 lets it out beside the `except`
            except KeyboardInterrupt:
                interrupted += value is None
            assert CURRENT.get() is None
            assert held(runtime) == set()
            assert trip(number) == 3
    finally:
        is_over.set()
        is_on.set()
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert {str(run.status) for run in runtime.runs()} == {"completed"}


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="Ctrl-C cannot be sent to a thread here")
def test_a_branch_that_waits_for_its_next_attempt_has_none_after_a_ctrl_c(make_runtime, world):
    """Nor is the branch begun whose turn had not come; nobody is there any more who waits for them."""
    main, branches, over = threading.main_thread().ident, [], threading.Event()

    def sleep(_):
        branches.append(threading.current_thread())
        signal.pthread_kill(main, signal.SIGINT)
        over.wait()

    @sagadsl.step(compensate=None, retries=3, name="work")
    def work() -> None:
        world.add("work")
        raise OSError

    @sagadsl.saga(runtime=make_runtime(sleep=sleep), name="trip", key="k")
    def trip() -> None:
        sagadsl.parallel(work, lambda: world.add("turn"), limit=1)

    with pytest.raises(KeyboardInterrupt):
        trip()
    over.set()
    branches[0].join()
    assert world == ["work"]
    (run,) = make_runtime().runs()
    assert run.status == "open"
    assert run.steps[-1].status == "retrying"


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_a_cancellation_at_any_await_is_no_failure(make_runtime, tmp_path, fails, twice):
    """The run stays open or, where it had begun to compensate, comes to its end; called again it does."""
    runtime, reached = make_runtime(), 0

    async def undo():
        await asyncio.sleep(0)

    @sagadsl.step(compensate=undo, name="work")
    async def work(at: int) -> int:
        await asyncio.sleep(0)
        return at

    @sagadsl.step(compensate=None, name="end")
    async def end() -> None:
        if fails:
            raise LookupError

    @sagadsl.saga(runtime=runtime, name="trip", key="{number}")
    async def trip(number: int) -> int:
        total = await work(1) + await work(2) + sum(await asyncio.gather(work(3), work(4)))
        await end()
        return total

    async def cancelled_after(number):
        task = asyncio.ensure_future(trip.outcome(number))
        for _ in range(number):
            await asyncio.sleep(0)
        is_reached = task.cancel()
        if twice:
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait([task])
        return is_reached, task

    for number in count(1):
        is_reached, task = asyncio.run(cancelled_after(number))
        if not is_reached:
            break
        reached += 1
        assert task.cancelled() or task.exception() is None
        assert held(runtime) == set()
        found = {run.id: str(run.status) for run in runtime.runs()}.get(f"trip/{number}", "open")
        assert found in ({"open", "compensated"} if fails else {"open", "completed"})
        if found == "open":
            asyncio.run(trip.outcome(number))
        assert runtime.find(f"trip/{number}").status == ("compensated" if fails else "completed")
    assert reached > 5
