"""A saga without a function: as a block, whose body stands where it is used, and by hand, where it has none."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import os
import subprocess
import sys
import threading
import types
from itertools import count
from pathlib import Path

import pytest

import sagadsl
from sagadsl import (
    CompensationError,
    JournalError,
    ReplayError,
    RunConflictError,
    RunLockedError,
    SuspendedError,
    UsageError,
    saga,
)
from sagadsl._dsl.blocks.calls import Calls
from sagadsl.errors import Stop


class Cut(BaseException):
    """A process that dies, as far as a body can tell."""


class Cutter:
    """Cuts the program off at the places that a test names, each once."""

    def __init__(self, world):
        self.world, self.at = world, set()

    def __call__(self, place):
        self.world.add(place)
        if place in self.at:
            self.at.remove(place)
            raise Cut


@pytest.fixture
def cutter(world):
    """Give a world that can be cut off."""
    return Cutter(world)


@pytest.fixture
def block(colour, make_runtime):
    """Give a block in either colour: a generator function of the handle, which yields its step calls."""

    def enter(body, name="nightly", **options):
        options.setdefault("runtime", make_runtime())
        if not colour.is_async:
            with saga(name, **options) as run:
                colour.coloured(body)(run)
            return run

        async def main():
            async with saga(name, **options) as run:
                await colour.coloured(body)(run)
            return run

        return asyncio.run(main())

    return enter


@pytest.fixture
def act(colour, world):
    """Give a decorated step with a compensation."""

    @colour.step(compensate=lambda name: world.add(f"-{name}"), name="act")
    def act(name: str) -> str:
        world.add(name)
        return name.upper()

    return act


@pytest.fixture
def book(colour, world):
    """Give a function that nobody has decorated."""

    def book(name: str, nights: int = 1) -> str:
        world.add(name)
        return f"{name}x{nights}"

    return colour.coloured(book)


def messages(caplog):
    """Return what was said."""
    return [record.getMessage() for record in caplog.records]


# -- as a block -----------------------------------------------------------------------------------------------------


def test_a_block_is_completed_when_it_is_left(block, act, book, world):
    """Decorated steps and undecorated functions are journaled alike, and return what they would after a restart."""
    got = []

    def body(run):
        got.append((yield act("a")))
        got.append((yield run.step(book)("hotel", 2)))
        got.append(sagadsl.current().run_id)

    run = block(body, key="k")
    assert got == ["A", "hotelx2", "nightly/k"]
    assert (run.id, run.status, [s.key for s in run.steps]) == (
        "nightly/k",
        "completed",
        ["act", "book"],
    )
    assert sagadsl.current().run_id is None
    assert world == ["a", "hotel"]


def test_a_block_that_fails_is_compensated_and_the_original_exception_goes_on(block, act, book, world):
    """In reverse order, with the same note as a decorated saga's."""
    error = ValueError("no")

    def body(run):
        yield act("a")
        yield run.step(book, compensate=lambda name, result: world.add(f"-{result}"))("b")
        raise error

    with pytest.raises(ValueError, match="no") as caught:
        block(body, key="k")
    assert caught.value is error
    assert caught.value.__context__ is None
    (note,) = error.__notes__
    assert note.startswith("saga nightly/k: compensated book, act. Look: sagadsl show nightly/k --db /")
    assert not [frame for frame in caught.traceback if Path(sagadsl.__file__).parent in frame.path.parents]
    assert world == ["a", "b", "-bx1", "-a"]


@pytest.mark.parametrize("maker", ["C", "exec"])
def test_a_step_of_no_module_is_recorded_and_leaves_its_run_readable(block, act, make_runtime, world, maker):
    """A method of an object that C has made is one, and a function that `exec` has: cut off, then compensated."""
    names = {"__name__": None, "world": world}
    exec("def write(line: str) -> None: world.add(line.strip())", names)  # noqa: S102
    left = [Cut(), ValueError("no")]

    with world.path.open("a", encoding="utf-8", buffering=1) as file:
        write = file.write if maker == "C" else names["write"]
        assert write.__module__ is None

        def body(run):
            yield act("a")
            run.step(write, name="write")("b\n")
            raise left.pop(0)

        for error in (Cut, ValueError):
            with pytest.raises(error):
                block(body, key="k")
    assert world == ["a", "b", "-a"]
    run = make_runtime().find("nightly/k")
    assert [(step.key, step.status) for step in run.steps] == [("act", "compensated"), ("write", "done")]


def test_the_genuine_exception_of_a_step_comes_out(block, colour, make_runtime, world):
    """Not the copy that the body saw, nor chained to it."""
    genuine = []

    def fail() -> None:
        genuine.append(KeyError("gone"))
        raise genuine[0] from OSError("why")

    def body(run):
        yield run.step(colour.coloured(fail))()

    with pytest.raises(KeyError) as caught:
        block(body)
    assert caught.value is genuine[0]
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__context__ in {None, caught.value.__cause__}


def test_a_block_pauses_when_told_and_goes_on_at_the_failed_step(block, act, book, colour, world):
    """By its key; nothing was compensated."""
    fails = [True]

    def pay() -> None:
        world.add("pay")
        if fails:
            raise OSError

    def body(run):
        yield act("a")
        yield run.step(colour.coloured(pay))()

    with pytest.raises(SuspendedError):
        block(body, key="k", on_failure="pause")
    fails.clear()
    run = block(body, key="k")
    assert run.status == "completed"
    assert world == ["a", "pay", "pay"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_interruption_leaves_a_block_open_and_says_how_to_go_on(block, act, make_runtime, interruption, caplog, world):
    """Nothing is compensated; the same program goes on."""
    dies = [True]

    def body(run):
        yield act("a")
        if dies:
            raise interruption
        yield act("b")

    with pytest.raises(interruption):
        block(body, key="k", name="trip")
    assert "Go on: run the program again   Compensate: sagadsl compensate trip/k" in caplog.text
    assert make_runtime().find("trip/k").is_interrupted
    dies.clear()
    assert block(body, key="k", name="trip").status == "completed"
    assert world == ["a", "b"]


@pytest.mark.parametrize("key", [None, "k"])
def test_a_block_that_was_cut_off_goes_on(block, act, cutter, world, key, caplog):
    """With its key, or without one by program and name; what is recorded comes back, and one line says so."""
    cutter.at = {"hotel"}
    got = []

    def body(run):
        got.append((yield act("a")))
        got.append((yield run.step(act.plain, name="stay")("x")))
        yield run.step(cut)()

    cut = colour_of(act, lambda: cutter("hotel"))
    with pytest.raises(Cut):
        block(body, key=key)
    caplog.clear()
    run = block(body, key=key)
    assert got == ["A", "X", "A", "X"]
    assert world == ["a", "x", "hotel", "hotel"]
    (line,) = messages(caplog)
    assert "cut off less than a second ago: 2 steps recorded, 3 cut is tried again" in line
    assert run.status == "completed"


def colour_of(step, function):
    """Return a function named ``cut`` in the colour of a step."""
    if inspect.iscoroutinefunction(step.plain):

        async def cut() -> None:
            function()
    else:

        def cut() -> None:
            function()

    return cut


def test_a_completed_key_gives_what_is_recorded_and_enters_nothing(block, act, book, world, make_runtime):
    """The body runs, for Python cannot skip it; nothing is written, and a step that is not on record is refused."""
    got, more = [], []

    def body(run):
        got.append((yield act("a")))
        got.append((yield run.step(book)("b")))
        if more:
            yield act("more")

    block(body, key="k")
    before = entries(make_runtime(), "nightly/k")
    run = block(body, key="k")
    assert got == ["A", "bx1"] * 2
    assert run.status == "completed"
    more.append(1)
    with pytest.raises(ReplayError, match="act is called, and it completed without") as caught:
        block(body, key="k")
    assert caught.value.called == ("act", "book", "act#2")
    assert world == ["a", "b"]
    assert entries(make_runtime(), "nightly/k") == before


def test_over_a_completed_key_the_body_must_do_what_is_recorded(block, act, world):
    """It may not end early, nor call another step, nor fail."""

    def body(run):
        yield act("a")
        yield act("b")

    def ends(run):
        yield act("a")

    def other(run):
        yield act("b")

    def fails(run):
        yield act("a")
        yield act("b")
        raise ValueError("new")

    block(body, key="k")
    with pytest.raises(ReplayError, match="it ended before act"):
        block(ends, key="k")
    with pytest.raises(ReplayError, match="act is called with"):
        block(other, key="k")
    with pytest.raises(ReplayError, match="it raised ValueError"):
        block(fails, key="k")
    assert world == ["a", "b"]


def entries(runtime, run_id):
    """Return the kinds of a run's entries."""
    journal = runtime.journal()
    return [entry.kind for entry in journal.entries(journal.runs(id=run_id)[-1].number)]


def test_a_completed_async_block_waits_where_a_cancelled_step_was_survived(make_runtime, world):
    """The same branch is taken again."""
    limits = []

    @sagadsl.step(compensate=None)
    async def slow() -> None:
        world.add("slow")
        limits[0].reschedule(0)
        await asyncio.Event().wait()

    async def main():
        async with saga("nightly", key="k", runtime=make_runtime(asleep=asyncio.sleep)) as run:
            try:
                async with asyncio.timeout(0.1 if limits else None) as limit:  # the first time the step has it come
                    limits.append(limit)
                    await slow()
            except TimeoutError:
                await run.step(fallback)()

    async def fallback() -> None:
        world.add("fallback")

    asyncio.run(main())
    asyncio.run(main())
    assert world == ["slow", "fallback"]


def test_what_only_binds_does_not_wait_for_a_cancellation(make_runtime, world):
    """A block that goes on compensating stops where the record has a step that was cancelled, and compensates it."""
    dies = [True]

    def undo() -> None:
        world.add("-slow")
        if dies:
            dies.clear()
            raise Cut

    async def slow() -> None:
        world.add("slow")
        await asyncio.Event().wait()

    async def fails():
        async with saga("nightly", key="k", runtime=make_runtime(asleep=asyncio.sleep)) as run:
            run.add_compensation(world.add, "-first")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await run.step(slow, compensate=undo)()
            raise ValueError("no")

    with pytest.raises(Cut):
        asyncio.run(fails())
    with pytest.raises(ValueError, match="no"):
        asyncio.run(fails())
    assert world == ["slow", "-slow", "-slow", "-first"]


def test_a_key_that_was_compensated_runs_afresh(block, act, world):
    """As for a decorated saga."""
    fails = [True]

    def body(run):
        yield act("a")
        if fails:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        block(body, key="k")
    fails.clear()
    run = block(body, key="k")
    assert (run.info.generation, run.status) == (2, "completed")
    assert world == ["a", "-a", "a"]


def test_a_block_cut_off_while_compensating_binds_its_closures_and_goes_on(block, act, colour, cutter, world):
    """The body runs over the record up to the first call that is not there, and no further."""
    cutter.at = {"-b", "c"}

    def body(run):
        yield run.step(colour.coloured(do), compensate=lambda name: cutter(f"-{name}"))("a")
        run.add_compensation(lambda: cutter("-added"))
        yield run.step(colour.coloured(do), compensate=lambda name: cutter(f"-{name}"))("b")
        if again:
            yield run.step(colour.coloured(do))("never")
        raise ValueError("no")

    def do(name: str) -> None:
        cutter(name)

    again = []
    with pytest.raises(Cut):
        block(body)
    assert world == ["a", "b", "-b"]
    again.append(1)
    with pytest.raises(ValueError, match="no"):
        block(body)
    assert world == ["a", "b", "-b", "-b", "-added", "-a"]


def test_a_block_may_be_left_early_while_it_only_binds(block, act, colour, cutter, world):
    """Whatever the body does then, compensation goes on."""
    cutter.at = {"-a"}

    def body(run):
        yield run.step(colour.coloured(do), compensate=lambda name: cutter(f"-{name}"))("a")
        if not ended:
            raise ValueError("no")

    def do(name: str) -> None:
        cutter(name)

    ended = []
    with pytest.raises(Cut):
        block(body)
    ended.append(1)
    with pytest.raises(ValueError, match="no"):
        block(body)
    assert world == ["a", "-a", "-a"]


def test_compensations_are_added_among_the_steps(block, act, world):
    """Each in its place of the reverse order, with its arguments."""

    class Client:
        def refund(self, amount: int, *, why: str = "") -> None:
            world.add(f"-refund{amount}{why}")

    def undo(*names: str, **more: int) -> None:
        world.add("-" + "".join(names) + "".join(more))

    def body(run):
        yield act("a")
        run.add_compensation(undo, "x", "y", z=1)
        yield act("b")
        run.add_compensation(Client().refund, 5, why="!")
        run.add_compensation(act.plain if not inspect.iscoroutinefunction(act.plain) else undo, "c")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no") as caught:
        block(body, key="k")
    last = world.effects[2]
    assert last in {"c", "-c"}
    assert world == ["a", "b", last, "-refund5!", "-b", "-xyz", "-a"]
    assert "Client.refund" in caught.value.__notes__[0]


def test_an_added_compensation_is_a_call_on_record(block, make_runtime, world):
    """Done without an effect, with the arguments stored; what the program does not store is refused at once."""

    def undo(connection: sagadsl.Live[object], name: str) -> None:
        world.add(f"-{name}{connection}")

    def body(run):
        run.add_compensation(undo, "live", "a")
        if refused:
            run.add_compensation(undo, "live", object())
        yield

    refused = []
    run = block(body, key="k")
    assert [(s.key, s.status, s.arguments) for s in run.steps] == [
        ("add_compensation(undo)", "done", {"name": "a"}),
    ]
    refused.append(1)
    with pytest.raises(sagadsl.NotStorableError, match=r"add_compensation\(undo\)"):
        block(body, key="other")
    assert world == ["-alive"]


def test_what_cannot_be_added_as_a_compensation_is_refused(make_runtime):
    """By name and cure."""

    async def late() -> None: ...

    with saga("nightly", runtime=make_runtime()) as run:
        with pytest.raises(UsageError, match=r"late is an async def.*async with"):
            run.add_compensation(late)
        with pytest.raises(UsageError, match="a function with a name"):
            run.add_compensation(dict)
        with pytest.raises(UsageError, match="keeps its parameters to itself"):
            run.add_compensation({}.update, {})
        with pytest.raises(TypeError, match=r"^plain\(\) missing a required argument: 'number'$"):
            run.add_compensation(plain)


def test_an_async_compensation_is_added_to_an_async_block(make_runtime, world):
    """And awaited."""

    async def undo(name: str) -> None:
        await asyncio.sleep(0)
        world.add(f"-{name}")

    async def main():
        async with saga("nightly", runtime=make_runtime()) as run:
            run.add_compensation(undo, "a")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(main())
    assert world == ["-a"]


# -- nested ---------------------------------------------------------------------------------------------------------


def test_a_block_inside_a_saga_is_a_child(colour, make_runtime, act, block_in, world):
    """Its own status, its steps in the root's journal; completed, it is compensated when the saga fails later."""

    @colour.saga(key="k", name="outer", runtime=make_runtime())
    def outer():
        yield act("a")
        run = yield block_in("inner", lambda run: [act("b")], key="i")
        assert (run.status, run.id, run.info.parent) == ("completed", "outer/k", "outer/k")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        colour.call(outer)
    assert world == ["a", "b", "-b", "-a"]
    run = make_runtime().find("outer/k")
    assert [(s.key, s.saga) for s in run.steps] == [("act", False), ("inner:i", True), ("inner:i/act", False)]


@pytest.fixture
def block_in(colour):
    """Give a block inside a body: a function of the handle that gives the calls it makes, in order."""

    def sync(name, body, **options):
        with saga(name, **options) as run:
            for each in body(run):
                del each
        return run

    async def aside(name, body, **options):
        async with saga(name, **options) as run:
            for each in body(run):
                if inspect.isawaitable(each):
                    await each
        return run

    return aside if colour.is_async else sync


def failing(*calls):
    """Give calls, then fail."""
    yield from calls
    raise KeyError("inner")


def test_a_child_block_that_fails_raises_in_its_parent_which_may_go_on(
    colour, make_runtime, act, block_in, cutter, world
):
    """After a restart too: then it is raised again without running the body."""
    cutter.at = {"cut"}
    entered = []

    def inner(run):
        entered.append(1)
        yield act("b")
        raise KeyError("inner")

    def cut() -> None:
        cutter("cut")

    @colour.saga(key="k", name="outer")
    def outer():
        with_block = saga("made")
        assert "not begun" in repr(with_block)
        try:
            yield block_in("inner", inner)
        except KeyError:
            world.add("caught")
        yield with_cut()

    with_cut = colour.step(compensate=None)(cut)
    with pytest.raises(Cut):
        colour.call(outer.using(runtime=make_runtime()))
    colour.call(outer.using(runtime=make_runtime()))
    assert world == ["b", "-b", "caught", "cut", "caught", "cut"]
    assert entered == [1]
    assert make_runtime().find("outer/k").status == "completed"


def test_blocks_nest_in_blocks(colour, block, act, block_in, world):
    """The outer one's failure compensates the inner one, in the order of all intents."""

    def body(run):
        yield act("a")
        yield block_in("inner", lambda inner: [act("b"), act("c")])
        yield run.step(act)("d")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        block(body)
    assert world == ["a", "b", "c", "d", "-d", "-c", "-b", "-a"]


def test_a_completed_child_block_is_bound_again_when_its_parent_compensates(
    colour, make_runtime, act, block_in, cutter, world
):
    """Its body runs over its record; a step that is not there ends it quietly."""
    cutter.at = {"-late"}
    more = []

    def inner(run):
        yield run.step(act, compensate=lambda name: world.add(f"-{name}!"))("b")
        if more:
            yield act("never")

    def late(name: str) -> None:
        world.add(name)

    @colour.saga(key="k", name="outer")
    def outer():
        yield block_in("inner", inner)
        yield undone("late")
        raise ValueError("no")

    undone = colour.step(compensate=lambda name: cutter("-late"))(late)
    with pytest.raises(Cut):
        colour.call(outer.using(runtime=make_runtime()))
    more.append(1)
    with pytest.raises(ValueError, match="no"):
        colour.call(outer.using(runtime=make_runtime()))
    assert world == ["b", "late", "-late", "-late", "-b!"]


def test_a_handle_by_hand_is_refused_inside_a_saga(make_runtime, world):
    """It could outlive what it is a part of; a block there is the cure, and a block begun outside is no cure."""
    by_hand = saga("hand", runtime=make_runtime())
    opened = saga("opened", runtime=make_runtime())
    assert opened.status == "open"

    @sagadsl.saga(runtime=make_runtime(), name="outer")
    def outer():
        with pytest.raises(UsageError, match=r"inside outer.*begin a block there"):
            by_hand.step(plain)(1)
        with pytest.raises(UsageError, match=r"complete\(\) of hand is called inside outer"):
            by_hand.complete()
        with pytest.raises(UsageError, match="was begun outside of outer"), opened:
            pass

    outer()
    assert world == []


def plain(number: int) -> int:
    """Return the number; nobody has decorated this."""
    return number + 1


def test_a_block_around_a_yield_is_around_what_the_loop_does(make_runtime):
    """A generator runs where its loop does; so the position there is the block's."""
    runtime = make_runtime()

    def rows():
        with saga("export", runtime=runtime) as run:
            for number in range(2):
                yield run.step(plain)(number)

    @saga(runtime=runtime, name="other")
    def other(row: int) -> None:
        """Do nothing."""

    for row in rows():
        other(row)
    other(3)
    assert [[step.key for step in run.steps] for run in runtime.runs()] == [
        [],
        ["plain", "other", "plain#2", "other#2"],
    ]


# -- by hand --------------------------------------------------------------------------------------------------------


def test_a_run_by_hand_opens_at_its_first_step_and_ends_when_told(colour, make_runtime, act, book, world):
    """Decorated and undecorated functions alike."""
    runtime = make_runtime()
    run = saga("explore", key="k", runtime=runtime)
    assert runtime.runs() == []
    assert colour.run(run.step(act)("a")) == "A"
    assert colour.run(run.step(book)("b", nights=2)) == "bx2"
    assert (run.id, run.status, [s.key for s in run.steps]) == ("explore/k", "open", ["act", "book"])
    assert runtime.find("explore/k").is_live
    assert run.complete({"done": 2}) == {"done": 2}
    assert (run.status, run.result, run.error, run.stack) == ("completed", {"done": 2}, None, run.stack)
    assert not runtime.find("explore/k").is_live
    for use in (run.step(act), lambda name: run.add_compensation(plain, 1)):
        with pytest.raises(UsageError, match="explore is completed: a further step takes a further run, saga"):
            colour.run(use("c"))
    with pytest.raises(UsageError, match="there is nothing to complete"):
        run.complete()
    assert colour.run(run.compensate()).status == "compensated"  # later, as any completed run
    assert world == ["a", "b", "-a"]


def test_a_repeated_call_returns_the_record_and_says_so(colour, make_runtime, book, world, caplog):
    """Unless it is said to be a further one."""
    run = saga("explore", key="k", runtime=make_runtime())
    assert [colour.run(run.step(book)("a")) for _ in range(2)] == ["ax1", "ax1"]
    assert messages(caplog) == [
        "book is recorded with these arguments: what it gave comes back; step(..., again=True) does it once more"
    ]
    assert colour.run(run.step(book, again=True)("a")) == "ax1"
    assert colour.run(run.step(book)("b")) == "bx1"
    assert colour.run(run.step(book, key="{name}")("a")) == "ax1"
    assert colour.run(run.step(book, key="{name}")("a", 7)) == "ax1"
    run.complete()
    assert [s.key for s in run.steps] == ["book", "book#2", "book#3", "book:a"]
    assert world == ["a", "a", "b", "a"]


def test_a_failed_step_leaves_the_run_open_and_is_entered_again(colour, make_runtime, world, caplog):
    """With the same idempotency key; the compensation stands where its effect stands."""
    keys, fails = [], [True]

    def pay(amount: int) -> int:
        keys.append(sagadsl.current().idempotency_key)
        world.add("pay")
        if fails:
            raise OSError("refused")
        return amount

    def other() -> None:
        world.add("other")

    run = saga("explore", key="k", runtime=make_runtime())
    pay_step = run.step(colour.coloured(pay), compensate=lambda amount: world.add("-pay"))
    with pytest.raises(OSError, match="refused"):
        colour.run(pay_step(5))
    assert run.status == "open"
    colour.run(run.step(colour.coloured(other), compensate=lambda: world.add("-other"))())
    fails.clear()
    assert colour.run(pay_step(5)) == 5
    assert messages(caplog) == ["explore/k: pay failed: OSError: refused", "pay is tried again"]
    assert keys == ["explore/k/pay"] * 2
    assert colour.run(run.compensate()).status == "compensated"
    assert world == ["pay", "other", "pay", "-pay", "-other"]
    with pytest.raises(UsageError, match="explore is compensated"):
        colour.run(pay_step(5))
    assert colour.run(run.compensate()).status == "compensated"


def test_by_hand_order_is_free(colour, make_runtime, book, world, caplog):
    """Also over a record: nothing is compared with what came when."""
    first = saga("explore", key="k", runtime=make_runtime())
    for name in "abc":
        colour.run(first.step(book)(name))
    del first
    gc.collect()
    run = saga("explore", key="k", runtime=make_runtime())
    assert [colour.run(run.step(book)(name)) for name in "cxa"] == ["cx1", "xx1", "ax1"]
    run.complete()
    assert world == ["a", "b", "c", "x"]
    assert [s.key for s in run.steps] == ["book", "book#2", "book#3", "book#4"]


def test_an_abandoned_handle_leaves_its_run_open(colour, make_runtime, act, world, caplog):
    """Another goes on with it, without a key too; nothing is compensated behind anybody's back."""
    run = saga("explore", runtime=make_runtime())
    colour.run(run.step(act)("a"))
    held = saga("explore", key=run.id.partition("/")[2], runtime=make_runtime())
    with pytest.raises(RunLockedError):
        colour.run(held.step(act)("a"))
    first = run.id
    del run, held
    gc.collect()
    assert world == ["a"]
    assert make_runtime().find(first).is_interrupted
    run = saga("explore", runtime=make_runtime())
    assert run.id == first
    assert "1 step recorded" in caplog.text
    colour.run(run.step(act)("a"))
    colour.run(run.step(act)("b"))
    run.complete()
    assert world == ["a", "b"]


def test_a_step_cut_off_by_hand_is_tried_again(colour, make_runtime, cutter, world, caplog):
    """In this process, or in another: the handle or a new one goes on."""
    cutter.at = {"a", "b"}

    def do(name: str) -> None:
        cutter(name)

    undo = lambda name: world.add(f"-{name}")  # noqa: E731  # as in a notebook
    run = saga("explore", key="k", runtime=make_runtime())
    for name in "ab":
        with pytest.raises(Cut):
            colour.run(run.step(colour.coloured(do), compensate=undo)(name))
    assert "explore/k interrupted at do" in caplog.text
    colour.run(run.step(colour.coloured(do), compensate=undo)("a"))
    assert [(s.key, s.status) for s in run.steps] == [("do", "done"), ("do#2", "entered")]
    del run
    gc.collect()
    run = saga("explore", key="k", runtime=make_runtime())
    colour.run(run.step(colour.coloured(do), compensate=undo)("b"))
    assert [s.status for s in run.steps] == ["done", "done"]
    colour.run(run.step(colour.coloured(do), compensate=undo)("a"))
    assert colour.run(run.compensate()).status == "compensated"
    assert world == ["a", "b", "a", "b", "-b", "-a"]


def test_by_hand_an_interruption_of_one_step_leaves_those_that_are_under_way_in_threads(make_runtime, world, caplog):
    """They end on record, and more may begin. With the last of them the run is let go, open; the next use has it."""
    runtime, given = make_runtime(), []
    entered, go = threading.Event(), threading.Event()

    def slow() -> str:
        world.add("slow")
        entered.set()
        assert go.wait(30)
        return "slowly"

    def leave() -> None:
        world.add("leave")
        raise SystemExit

    run = saga("explore", key="k", runtime=runtime)
    thread = threading.Thread(target=lambda: given.append(run.step(slow)()), daemon=True)
    thread.start()
    assert entered.wait(30)
    for _ in range(2):
        with pytest.raises(SystemExit):
            run.step(leave)()
        assert runtime.find("explore/k").is_live
    assert run.step(plain)(1) == 2
    with pytest.raises(UsageError, match="slow is under way"):
        run.step(slow)()
    assert "interrupted" not in caplog.text
    go.set()
    thread.join(30)
    assert given == ["slowly"]
    assert runtime.find("explore/k").is_interrupted
    assert "explore/k interrupted at leave" in caplog.text
    assert run.step(slow)() == "slowly"
    run.complete()
    assert world == ["slow", "leave", "leave"]
    assert [(s.key, s.status, s.attempts) for s in run.steps] == [
        ("slow", "done", 1),
        ("leave", "entered", 2),
        ("plain", "done", 1),
    ]


def test_by_hand_a_cancellation_of_one_step_leaves_those_that_are_under_way_in_tasks(make_runtime, world):
    """As the other tasks see it, nothing has happened; what was cancelled may be called again beside them."""

    async def slow(name: str) -> str:
        world.add(name)
        entered.set()
        await gates[name].wait()
        return name.upper()

    async def main():
        runtime = make_runtime()
        run = saga("explore", key="k", runtime=runtime)
        tasks = []
        for name in "ab":
            entered.clear()
            tasks.append(asyncio.create_task(awaited(run.step(slow, compensate=world.add)(name))))
            await entered.wait()
        tasks[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]
        assert runtime.find("explore/k").is_live
        gates["b"].set()
        assert await run.step(slow)("b") == "B"
        gates["a"].set()
        assert await tasks[0] == "A"
        assert runtime.find("explore/k").is_interrupted
        assert await run.step(slow)("a") == "A"
        run.complete()
        return run

    gates, entered = {name: asyncio.Event() for name in "ab"}, asyncio.Event()
    run = asyncio.run(main())
    assert world == ["a", "b", "b"]
    assert [(s.key, s.status, s.attempts) for s in run.steps] == [("slow", "done", 1), ("slow#2", "done", 2)]


def test_by_hand_a_run_may_be_ended_while_a_step_is_under_way_beside_one_that_was_interrupted(
    make_runtime, world, caplog
):
    """It ends when that has, and goes to nobody before."""
    entered, go = threading.Event(), threading.Event()

    def slow() -> None:
        entered.set()
        assert go.wait(30)
        world.add("slow")

    def leave() -> None:
        raise SystemExit

    def let_end() -> None:
        while not run._held.last.closing:  # the end waits for what is under way
            entered.wait(0.001)
        go.set()

    run = saga("explore", key="k", runtime=make_runtime())
    threads = [threading.Thread(target=run.step(slow, compensate=lambda: world.add("-slow")), daemon=True)]
    threads[0].start()
    assert entered.wait(30)
    with pytest.raises(SystemExit):
        run.step(leave, compensate=lambda: world.add("-leave"))()
    threads.append(threading.Thread(target=let_end, daemon=True))
    threads[1].start()
    assert run.compensate().status == "compensated"
    for thread in threads:
        thread.join(30)
    assert world == ["slow", "-leave", "-slow"]
    assert "interrupted" not in caplog.text


def test_a_completed_key_by_hand_gives_what_is_recorded(colour, make_runtime, book, world):
    """An unknown step is a replay that differs; nothing is written, and it may be completed once more."""

    def fail() -> None:
        world.add("fail")
        raise KeyError("gone")

    run = saga("explore", key="k", runtime=make_runtime())
    colour.run(run.step(book)("a"))
    with pytest.raises(KeyError):
        colour.run(run.step(colour.coloured(fail))())
    run.complete(3)
    before = entries(make_runtime(), "explore/k")
    run = saga("explore", key="k", runtime=make_runtime())
    assert colour.run(run.step(book)("a")) == "ax1"
    with pytest.raises(KeyError, match="gone"):
        colour.run(run.step(colour.coloured(fail))())
    with pytest.raises(ReplayError, match="book is called, and it completed without"):
        colour.run(run.step(book)("b"))
    assert colour.run(run.step(book)("a")) == "ax1"
    assert run.complete(4) == 3
    assert world == ["a", "fail"]
    assert entries(make_runtime(), "explore/k") == before
    run = saga("explore", key="k", runtime=make_runtime())
    assert colour.run(run.step(book)("a")) == "ax1"
    assert colour.run(run.compensate()).status == "compensated"


def test_a_run_by_hand_is_completed_without_being_called_again(colour, make_runtime, act):
    """Cut off, or completed already: nothing has to be called first."""
    run = saga("explore", key="k", runtime=make_runtime())
    colour.run(run.step(act)("a"))
    del run
    gc.collect()
    assert saga("explore", key="k", runtime=make_runtime()).complete(1) == 1
    assert saga("explore", key="k", runtime=make_runtime()).complete(2) == 1


def test_what_cannot_be_recorded_as_completed_stays_open(make_runtime, monkeypatch):
    """And is completed when the journal can be written."""
    runtime = make_runtime()
    run = saga("explore", key="k", runtime=runtime)
    run.step(plain)(1)
    journal = runtime.journal()

    def full(*_: object, **__: object) -> None:
        raise JournalError("sagas.db", "disk full")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "commit", full)
        with pytest.raises(JournalError, match="disk full"):
            run.complete(1)
    assert run.status == "open"
    assert run.complete(1) == 1


def test_a_block_goes_on_compensating_what_was_compensated_on_request(block, colour, make_runtime, cutter, world):
    """And says so, as a decorated saga does."""
    cutter.at = {"-a"}

    def do(name: str) -> None:
        world.add(name)

    def undo(name):
        cutter(f"-{name}")

    run = saga("nightly", key="k", runtime=make_runtime())
    colour.run(run.step(colour.coloured(do), compensate=undo)("a"))
    with pytest.raises(Cut):
        colour.run(run.compensate())
    del run
    gc.collect()

    def body(run):
        yield run.step(colour.coloured(do), compensate=undo)("a")
        raise ValueError("not why")

    with pytest.raises(RunConflictError, match="was compensated on request"):
        block(body, key="k")
    assert world == ["a", "-a", "-a"]


def test_a_compensation_that_fails_by_hand_carries_on_there(colour, make_runtime, act, world):
    """With the functions that this program had bound."""
    fails = [True]

    def undo(name):
        world.add(f"-{name}")
        if fails:
            raise OSError("no")

    run = saga("explore", key="k", runtime=make_runtime())
    colour.run(run.step(act)("a"))
    colour.run(run.step(act, compensate=sagadsl.Compensation(undo, retries=0))("b"))
    with pytest.raises(CompensationError, match="the compensation of act#2 failed"):
        colour.run(run.compensate())
    assert run.status == "compensation_failed"
    with pytest.raises(CompensationError):
        colour.run(run.step(act)("c"))
    fails.clear()
    assert colour.run(run.compensate()).status == "compensated"
    assert world == ["a", "b", "-b", "-b", "-a"]


def test_compensation_by_hand_survives_being_cut_off(colour, make_runtime, cutter, world, act):
    """A step then is refused; the compensation goes on."""
    cutter.at = {"-b"}
    run = saga("explore", key="k", runtime=make_runtime())
    colour.run(run.step(act)("a"))
    colour.run(run.step(act, compensate=lambda name: cutter(f"-{name}"))("b"))
    with pytest.raises(Cut):
        colour.run(run.compensate())
    for use in (lambda: colour.run(run.step(act)("c")), run.complete):
        with pytest.raises(UsageError, match=r"is compensating: compensate\(\) of explore goes on"):
            use()
    assert colour.run(run.compensate()).status == "compensated"
    assert world == ["a", "b", "-b", "-b", "-a"]


def test_what_nothing_was_done_in_can_be_ended(make_runtime):
    """Either way."""
    for end, status in (("complete", "completed"), ("compensate", "compensated")):
        run = saga("explore", runtime=make_runtime())
        getattr(run, end)()
        assert run.status == status


def test_a_handle_does_not_mean_a_run_whose_id_begins_like_its_own(make_runtime):
    """What is found by a beginning of its id is so for people."""
    runtime = make_runtime()
    run = saga("explore", key="12", runtime=runtime)
    run.step(plain, compensate=plain)(1)
    run.complete()
    for dry_run in (False, True):
        with pytest.raises(RunConflictError, match=r"run explore/1: is not in .*: nothing was done in it"):
            saga("explore", key="1", runtime=runtime).compensate(dry_run=dry_run)
    begun = saga("explore", key="1", runtime=runtime)
    assert begun.id == "explore/1"
    assert begun.compensate().id == "explore/1"
    assert runtime.find("explore/12").status == "completed"


def test_compensations_are_added_by_hand_too(make_runtime, world, caplog):
    """An async one makes the compensation something to await; the same call twice is one."""

    async def undo(name: str) -> None:
        world.add(f"-{name}")

    run = saga("explore", key="k", runtime=make_runtime())
    run.add_compensation(undo, "a")
    run.add_compensation(undo, "a")
    assert len(messages(caplog)) == 1
    run.add_compensation(world.add, "-b")
    assert asyncio.run(awaited(run.compensate())).status == "compensated"
    assert world == ["-b", "-a"]


async def awaited(value):
    """Await a value."""
    return await value


def test_by_hand_under_a_running_loop(make_runtime, world):
    """As in a notebook: each cell has a context of its own, and sync steps need no thread."""

    def note(name: str) -> None:
        world.add(name)

    async def anote(name: str) -> None:
        await asyncio.sleep(0)
        world.add(name)

    async def cells():
        run = saga("explore", runtime=make_runtime(asleep=asyncio.sleep))

        async def one():
            run.step(note)("a")
            await run.step(anote)("b")

        async def two():
            await asyncio.gather(*(run.step(anote)(name) for name in "cd"))
            run.complete()

        await asyncio.create_task(one())
        await asyncio.create_task(two())
        return run

    run = asyncio.run(cells())
    assert run.status == "completed"
    assert sorted(world.effects) == ["a", "b", "c", "d"]


def test_what_is_under_way_is_neither_called_again_nor_left_behind(make_runtime, world):
    """Equal calls at once must be said to be two; ending waits for nothing that only the loop can end."""

    async def slow(name: str) -> None:
        world.add(name)
        await gate.wait()

    async def main():
        run = saga("explore", runtime=make_runtime())
        task = asyncio.create_task(awaited(run.step(slow)("a")))
        equal = run.step(slow)("a")
        await asyncio.sleep(0)
        with pytest.raises(UsageError, match="slow is under way"):
            await equal
        for verb in ("complete", "compensate"):
            with pytest.raises(UsageError, match=f"a step is under way; await it, then {verb}"):
                getattr(run, verb)()
        gate.set()
        await run.step(slow, again=True)("a")
        await task
        late = run.step(slow)("b")
        run.complete()
        with pytest.raises(UsageError, match="explore is completed"):
            await late
        return run

    gate = asyncio.Event()
    assert [s.key for s in asyncio.run(main()).steps] == ["slow", "slow#2"]


def test_a_step_that_was_cancelled_is_not_waited_for_by_hand(make_runtime, world):
    """Over a completed record it is none of its steps: nobody knows what it would have given."""
    entered = asyncio.Event()

    async def slow() -> None:
        world.add("slow")
        entered.set()
        await asyncio.Event().wait()

    async def main():
        run = saga("explore", key="k", runtime=make_runtime())
        going = asyncio.create_task(run.step(slow)())
        await entered.wait()
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        run.complete()
        again = saga("explore", key="k", runtime=make_runtime())
        with pytest.raises(ReplayError, match="slow is called, and it completed without"):
            await again.step(slow)()

    asyncio.run(main())
    assert world == ["slow"]


def test_a_journal_that_fails_by_hand_stops_the_step_and_the_next_use_opens_it_again(make_runtime, world, monkeypatch):
    """No record, no progress; and no need for a new handle."""
    runtime = make_runtime()
    run = saga("explore", key="k", runtime=runtime)

    def note(name: str) -> None:
        world.add(name)

    run.step(note, compensate=lambda name: world.add(f"-{name}"))("a")
    journal = runtime.journal()

    def full(*_: object, **__: object) -> None:
        raise JournalError("sagas.db", "disk full")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "append", full)
        with pytest.raises(JournalError, match="disk full"):
            run.step(note)("b")
    run.step(note)("b")
    run.compensate()
    assert world == ["a", "b", "-a"]


def test_a_ctrl_c_around_a_record_by_hand_asks_the_file(make_runtime, world, monkeypatch):
    """Whether the row is there only the file can tell; the next use reads it."""
    runtime = make_runtime()
    run = saga("explore", key="k", runtime=runtime)

    def note(name: str) -> None:
        world.add(name)

    run.step(note)("a")
    journal = runtime.journal()
    genuine = journal.append

    def pressed(log, entry, full):
        genuine(log, entry, full)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(journal, "append", pressed)
        with pytest.raises(KeyboardInterrupt):
            run.step(note)("b")
    assert world == ["a"]
    run.step(note)("b")
    run.complete()
    assert [(s.key, s.status, s.attempts) for s in run.steps] == [("note", "done", 1), ("note#2", "done", 2)]
    assert world == ["a", "b"]


def test_a_run_begun_in_a_block_can_be_gone_on_with_by_hand(colour, block, make_runtime, act, world, block_in):
    """Steps are found; a child is no step."""
    dies = [True]

    def body(run):
        yield act("a")
        yield block_in("act", lambda _: [])
        if dies:
            raise Cut

    with pytest.raises(Cut):
        block(body, key="k")
    run = saga("nightly", key="k", runtime=make_runtime())
    assert colour.run(run.step(act)("a")) == "A"

    def act_() -> None: ...

    with pytest.raises(ReplayError, match="act was a saga"):
        run.step(act_, name="act")()
    run.complete()
    assert world == ["a"]


# -- methods, names, threads ----------------------------------------------------------------------------------------


def test_methods_are_steps_decorated_or_not(make_runtime, world):
    """Their object is live; so is what live= names."""

    class Shop:
        @sagadsl.step(compensate=lambda item: world.add(f"-{item}"))
        def pack(self, item: str) -> str:
            world.add(item)
            return item

        def ship(self, item: str, carrier: object) -> str:
            world.add(f"ship-{item}")
            return item

        @classmethod
        def count(cls, number: int) -> int:
            return number

    shop = Shop()
    with saga("order", key="k", runtime=make_runtime()) as run:
        assert run.step(shop.pack, name="packing")("lamp") == "lamp"
        assert run.step(shop.ship, live=("carrier",))("lamp", object()) == "lamp"
        assert run.step(Shop.count).using(key="c")(3) == 3
    assert [(s.key, s.arguments) for s in run.steps] == [
        ("packing", {"item": "lamp"}),
        (f"{Shop.ship.__qualname__.rpartition('<locals>.')[2]}", {"item": "lamp"}),
        ("Shop.count:c", {"number": 3}),
    ]
    assert run.steps[0].compensation is not None


def test_a_decorated_class_method_gets_the_class_that_it_is_named_on(make_runtime):
    """The step of a block is bound as the one that was given, also where there is no object."""

    class Shop:
        @sagadsl.step(compensate=None, name="opened")
        @classmethod
        def opened(cls) -> str:
            return cls.__name__

    class Kiosk(Shop):
        pass

    with saga("opening", runtime=make_runtime()) as run:
        assert [run.step(each.opened, retries=1)() for each in (Shop, Kiosk, Kiosk())] == ["Shop", "Kiosk", "Kiosk"]


def test_a_thread_without_a_context_is_still_inside_the_block(make_runtime, world):
    """Context variables do not reach threads; the handle does."""
    with saga("nightly", runtime=make_runtime()) as run:
        thread = threading.Thread(target=run.step(plain), args=(1,))
        thread.start()
        thread.join()
    assert [s.key for s in run.steps] == ["plain"]


class Paused:
    """Holds a thread up at one line of a function, by its number among those that it comes to, until it may go on."""

    def __init__(self, function, number):
        self.code, self.number, self.lines = function.__code__, number, 0
        self.is_there, self.may_go = threading.Event(), threading.Event()

    def call(self, function):
        """Call a function in a thread that is held up; return the thread once it is there, or has ended."""
        thread = threading.Thread(target=self._called, args=(function,), daemon=True)
        thread.start()
        assert self.is_there.wait(30)
        return thread

    def _called(self, function):
        sys.settrace(lambda frame, *_: self._traced if frame.f_code is self.code else None)
        try:
            function()
        finally:
            sys.settrace(None)
            self.is_there.set()

    def _traced(self, _, event, __):
        self.lines += event == "line"
        if event == "line" and self.lines == self.number:
            self.is_there.set()
            assert self.may_go.wait(30)
        return self._traced


@pytest.mark.parametrize("fails", [False, True])
def test_a_step_that_is_called_while_its_block_is_left_is_refused_and_never_the_plain_function(
    make_runtime, world, fails
):
    """Wherever its thread is just then; what the plain function does nobody would compensate."""
    runtime, refused = make_runtime(), []

    def act(number: int) -> None:
        world.add(str(number))

    def called(step, number):
        try:
            step(number)
        except (UsageError, Stop) as error:
            refused.append(error)

    def left(number):
        paused = Paused(Calls._here, number)
        with contextlib.suppress(LookupError), saga("nightly", key=str(number), runtime=runtime) as run:
            step = run.step(act, compensate=lambda number: world.add(f"-{number}"))
            thread = paused.call(functools.partial(called, step, number))
            if fails:
                raise LookupError
        paused.may_go.set()
        thread.join(30)
        return paused.lines >= number

    number = next(number for number in count(1) if not left(number))  # the one that it is not held up in any more
    assert number > 5
    assert len(refused) == number - 1
    assert world == [str(number), f"-{number}"][: 1 + fails]
    assert [run.id for run in runtime.runs() if run.steps] == [f"nightly/{number}"]


# -- without the body -----------------------------------------------------------------------------------------------


@pytest.fixture
def program(world, monkeypatch):
    """Give a module of functions that nobody has decorated, as a restarted program would import it."""

    def make(name="undoing", **left_out):
        module = types.ModuleType(name)
        module.world = world
        exec(  # noqa: S102  # a module's source
            "def put(name, session=None):\n    world.add(name)\n    return name.upper()\n"
            "async def aput(name):\n    world.add(name)\n    return name.upper()\n"
            "def take(name, result):\n    world.add('-' + name + result)\n"
            "async def atake(name):\n    world.add('-a' + name)\n"
            "def added(*names, **more):\n    world.add('-' + ''.join(names) + ''.join(more))\n"
            "def bare():\n    world.add('-')\n",
            vars(module),
        )
        for each in left_out:
            delattr(module, each)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return make


def abandoned(make_runtime, program, **options):
    """Leave a run by hand that owes something."""
    code = program()
    run = saga("explore", key="k", runtime=make_runtime())
    run.step(code.put, compensate=code.take, **options)("a")
    run.add_compensation(code.added, "x", "y", z=1)
    return run.id


def test_undecorated_functions_are_found_by_name(make_runtime, program, world):
    """In imported modules, as they are then; nothing is imported."""
    run_id = abandoned(make_runtime, program)
    gc.collect()
    program()
    assert make_runtime().find(run_id).compensate().status == "compensated"
    assert world == ["a", "-xyz", "-aA"]


def test_async_ones_are_awaited(make_runtime, program, world):
    """Whatever the colour of the rest."""
    code = program()
    run = saga("explore", key="k", runtime=make_runtime())
    asyncio.run(awaited(run.step(code.aput, compensate=code.atake)("a")))
    run.add_compensation(code.added, "x")
    del run
    gc.collect()
    assert asyncio.run(awaited(make_runtime().find("explore/k").compensate())).status == "compensated"
    assert world == ["a", "-x", "-aa"]


@pytest.mark.parametrize("way", ["hand", "names"])
def test_a_run_is_not_held_for_a_compensation_that_is_never_awaited(make_runtime, program, world, way):
    """By hand its steps go on as before: nothing was asked of it."""
    code = program()
    run = saga("explore", key="k", runtime=make_runtime())
    put = run.step(code.aput, compensate=code.atake)

    async def main(ask):
        task = asyncio.create_task(ask())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        found = make_runtime().find("explore/k")
        assert (found.status, found.is_live) == ("open", way == "hand")  # by whoever had it before
        if way == "hand":
            await put("b")
        return await ask()

    asyncio.run(awaited(put("a")))
    if way == "hand":
        ask = run.compensate
    else:
        del run, put
        gc.collect()
        ask = make_runtime().find("explore/k").compensate
    assert asyncio.run(main(ask)).status == "compensated"
    assert world == (["a", "b", "-ab", "-aa"] if way == "hand" else ["a", "-aa"])


def test_a_step_under_way_when_a_compensation_by_hand_is_awaited_is_waited_for_first(make_runtime, program, world):
    """It may have begun since that was asked for."""
    code, gate, entered = program(), asyncio.Event(), asyncio.Event()
    run = saga("explore", key="k", runtime=make_runtime())

    async def slow() -> None:
        entered.set()
        await gate.wait()
        world.add("slow")

    async def main():
        await run.step(code.aput, compensate=code.atake)("a")
        asked = run.compensate()
        task = asyncio.create_task(awaited(run.step(slow)()))
        await asyncio.wait_for(entered.wait(), 30)
        with pytest.raises(UsageError, match="a step is under way; await it, then compensate"):
            await asked
        gate.set()
        await task
        await run.compensate()

    asyncio.run(main())
    assert world == ["a", "slow", "-aa"]


def test_only_what_is_compensated_says_whether_it_is_to_be_awaited(make_runtime, program, world):
    """Back to a step, that is what came after it."""
    code = program()
    run = saga("explore", key="k", runtime=make_runtime())
    asyncio.run(awaited(run.step(code.aput, compensate=code.atake)("a")))
    run.add_compensation(code.added, "x")
    assert run.compensate(to="aput").status == "paused"
    assert asyncio.run(awaited(run.compensate())).status == "compensated"
    assert world == ["a", "-x", "-aa"]


def test_a_cancellation_while_a_run_is_compensated_without_its_body_comes_when_that_has_ended(
    make_runtime, program, world
):
    """What is being compensated is not cut off."""
    code, inside, leave = program(), asyncio.Event(), asyncio.Event()

    async def atake(name):
        inside.set()
        await leave.wait()
        world.add(f"-{name}")

    async def main():
        await saga("explore", key="k", runtime=make_runtime()).step(code.aput, compensate=code.atake)("a")
        gc.collect()
        task = asyncio.create_task(make_runtime().find("explore/k").compensate())
        await inside.wait()
        task.cancel()
        await asyncio.sleep(0)
        leave.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    atake.__module__, atake.__qualname__, code.atake = "undoing", "atake", atake
    asyncio.run(main())
    assert make_runtime().find("explore/k").status == "compensated"
    assert world == ["a", "-a"]


def test_a_compensation_of_another_module_is_found_there(make_runtime, program, world):
    """Also one that a decorated step was given for a place."""
    program()
    other = program("elsewhere")
    run = saga("explore", key="k", runtime=make_runtime())
    run.step(plain, compensate=other.bare)(1)
    del run
    gc.collect()
    make_runtime().find("explore/k").compensate()
    assert world == ["-"]


def test_what_a_decorated_step_was_given_for_a_place_is_found_too(make_runtime, program, world):
    """By its own name, not the step's usual compensation; missing, it is missed."""
    code = program()
    run = saga("explore", key="k", runtime=make_runtime())
    run.step(decorated, compensate=code.bare)(1)
    del run
    gc.collect()
    program(bare=True)
    with pytest.raises(UsageError, match="compensated by bare"):
        make_runtime().find("explore/k").compensate()
    program()
    make_runtime().find("explore/k").compensate()
    assert world == ["-"]


@sagadsl.step(compensate=None)
def decorated(number: int) -> int:
    """Return the number."""
    return number


@pytest.mark.parametrize("missing", ["take", "added"])
def test_a_missing_function_stops_loudly_before_anything_is_done(make_runtime, program, world, missing):
    """It says what is missing, and where it was."""
    run_id = abandoned(make_runtime, program)
    gc.collect()
    program(**{missing: True})
    with pytest.raises(UsageError, match=f"compensated by {missing}"):
        make_runtime().find(run_id).compensate()
    with pytest.raises(UsageError, match=f"compensated by {missing}"):
        saga("explore", key="k", runtime=make_runtime()).compensate()
    assert world == ["a"]
    assert make_runtime().find(run_id).is_interrupted
    program()
    make_runtime().find(run_id).compensate()
    assert world == ["a", "-xyz", "-aA"]


def test_only_a_real_function_of_that_name_is_taken(make_runtime, program, world):
    """Not a class, not another function under its name, not one that cannot be bound any more."""
    run_id = abandoned(make_runtime, program)
    gc.collect()
    code = program()

    def take(name, result):
        world.add("impostor")

    for wrong in (take, type("take", (), {}), lambda name, result: None):
        code.take = wrong
        with pytest.raises(UsageError, match="compensated by take"):
            make_runtime().find(run_id).compensate()
    exec("def take(name, result, more): ...", vars(code))  # noqa: S102  # an edit
    with pytest.raises(UsageError, match="compensated by take"):
        make_runtime().find(run_id).compensate()
    assert world == ["a"]


def test_what_the_standard_library_can_do_is_not_done_by_name(make_runtime, tmp_path):
    """Whoever could write to a journal could have it do anything; the body, where it runs, binds it."""
    import shutil

    folder = tmp_path / "precious"
    folder.mkdir()
    run = saga("explore", key="k", runtime=make_runtime())
    run.add_compensation(shutil.copytree, str(folder), str(tmp_path / "copy"))
    del run
    gc.collect()
    with pytest.raises(UsageError, match="compensated by copytree"):
        make_runtime().find("explore/k").compensate()
    run = saga("explore", key="k", runtime=make_runtime())
    run.add_compensation(shutil.copytree, str(folder), str(tmp_path / "copy"))
    run.compensate()
    assert (tmp_path / "copy").is_dir()


def test_a_live_argument_that_nobody_supplies_is_not_taken_for_another(make_runtime, program, world, monkeypatch):
    """It fails there, and says which."""
    code = program()
    exec("def take(session):\n    world.add('wrong')\n", vars(code))  # noqa: S102  # as above
    run = saga("explore", key="k", runtime=make_runtime())
    run.step(code.put, compensate=code.take, live=("session",))("a", "live")
    del run
    gc.collect()
    with pytest.raises(UsageError, match="the compensation take of step put needs the live argument session"):
        make_runtime().find("explore/k").compensate()
    assert world == ["a"]


def test_what_is_provided_is_given_where_no_body_binds_it(make_runtime, program, world):
    """Known by the annotation of the function that compensates, whichever way it was given."""
    code = program()
    vars(code).update(Session=Session, Live=sagadsl.Live)
    exec("def take(session: Live[Session], name):\n    world.add(session.told + name)\n", vars(code))  # noqa: S102
    run = saga("explore", key="k", runtime=make_runtime())
    run.step(code.put, compensate=code.take, live=("session",))("a", Session("live"))
    run.add_compensation(code.take, Session("live"), "b")
    del run
    gc.collect()
    runtime = make_runtime()
    with pytest.raises(UsageError, match=r"sagadsl.provide\(Session, factory\)"):
        runtime.find("explore/k").compensate()
    make_runtime(provide={Session: lambda: Session("-provided-")}).find("explore/k").compensate()
    assert world == ["a", "-provided-b", "-provided-a"]


class Session:
    """Something alive."""

    def __init__(self, told):
        self.told = told


def test_a_decorated_compensation_is_found_under_its_name(make_runtime, program, world):
    """A step may also undo another; its function is what is called."""
    code = program()
    code.added = sagadsl.step(compensate=None)(code.added)
    run = saga("explore", key="k", runtime=make_runtime())
    run.add_compensation(code.added, "x")
    del run
    gc.collect()
    make_runtime().find("explore/k").compensate()
    assert world == ["-x"]


def test_a_block_is_not_resumed_without_its_body(make_runtime, program):
    """The run says where that stands."""
    run_id = abandoned(make_runtime, program)
    gc.collect()
    with pytest.raises(UsageError, match=r"is a block: its body stands in .*test_blocks\.py, so run that again"):
        make_runtime().find(run_id).resume()


# -- in a session -----------------------------------------------------------------------------------------------------


CELL = """
run = saga("explore", runtime=runtime{key})
"""


@pytest.mark.parametrize("key", ["", ", key='k'"])
def test_a_cell_that_is_run_again_goes_on_with_the_same_run(make_runtime, world, key, caplog):
    """The handle that it made before is left over, even where a traceback holds it."""

    def note(name: str) -> None:
        world.add(name)

    cell = compile(CELL.format(key=key), "<cell>", "exec")
    names = {"saga": saga, "runtime": make_runtime(), "__name__": "__main__"}
    exec(cell, names)  # noqa: S102  # a cell
    old = names["run"]
    old.step(note)("a")
    exec(cell, names)  # noqa: S102  # run again
    names["run"].step(note)("a")
    assert names["run"].id == old.id
    with pytest.raises(UsageError, match="explore has a newer handle"):
        old.step(note)("b")
    names["run"].complete()
    assert world == ["a"]


# -- wrong uses -----------------------------------------------------------------------------------------------------


def test_options_that_nobody_knows_are_refused(make_runtime):
    """With the near name."""
    with pytest.raises(UsageError, match="did you mean on_failure"):
        saga("nightly", on_failur="pause")
    with pytest.raises(UsageError, match="choose one of"):
        saga("nightly", on_failure="explode")
    with pytest.raises(UsageError, match="printable characters"):
        saga("night/ly")
    run = saga("nightly", runtime=make_runtime())
    with pytest.raises(UsageError, match="did you mean retries"):
        run.step(plain, retry=3)
    with pytest.raises(UsageError, match="a lambda has none"):
        run.step(lambda: None)
    with pytest.raises(UsageError, match="say live= there"):
        run.step(sagadsl.now, live=("x",))
    with pytest.raises(UsageError, match="plain_saga is a saga, not a step"):
        run.step(sagadsl.saga(name="outer")(plain_saga))


def plain_saga() -> None:
    """Do nothing."""


def test_a_sync_block_refuses_what_nobody_can_await(make_runtime):
    """And says how to enter it."""

    @sagadsl.step(compensate=None)
    async def late() -> None: ...

    with saga("nightly", runtime=make_runtime()) as run:
        with pytest.raises(UsageError, match="enter it with `async with`"):
            late()
        with pytest.raises(UsageError, match="enter it with `async with`"):
            run.step(late)()


def test_a_block_is_entered_once_and_ends_for_good(make_runtime, world):
    """By either word, or by hand."""
    run = saga("nightly", runtime=make_runtime())
    with run:
        with pytest.raises(UsageError, match="was entered before"), run:
            pass
        with pytest.raises(UsageError, match="was entered before"):
            asyncio.run(awaited(run.__aenter__()))
        with pytest.raises(UsageError, match="leaving it completes it"):
            run.complete()
        with pytest.raises(UsageError, match="an exception that leaves it compensates it"):
            run.compensate()
    with pytest.raises(UsageError, match="nightly was left: a further step takes a further run"):
        run.step(plain)(1)
    hand = saga("hand", runtime=make_runtime())
    hand.step(plain)(1)
    with pytest.raises(UsageError, match="hand is used by hand"), hand:
        pass


def test_a_step_is_a_leaf_for_blocks_too(make_runtime):
    """Neither a block nor a step of one inside it."""
    run = saga("nightly", runtime=make_runtime())

    def outer() -> None:
        with pytest.raises(UsageError, match="is entered inside step outer"), saga("inner"):
            pass
        with pytest.raises(UsageError, match="a step is a leaf"):
            run.step(plain)(1)
        with pytest.raises(UsageError, match="is called inside step outer"):
            run.complete()

    run.step(outer)()
    run.complete()


def test_an_async_block_is_refused_where_the_saga_cannot_await(make_runtime):
    """A loop of its own inside a sync saga is no way out."""

    async def inner():
        async with saga("inner"):
            pass

    @sagadsl.saga(runtime=make_runtime(), name="outer")
    def outer() -> None:
        with pytest.raises(UsageError, match="inside outer, which cannot await: use `with`"):
            asyncio.run(inner())

    outer()


def test_a_function_is_not_decorated_with_a_name_alone():
    """It would be a block; the message says how it is written."""
    with pytest.raises(UsageError, match=r"to decorate a function: @saga\(name='trip'\)"):

        @saga("trip")
        def flow() -> None: ...


def test_a_handle_shows_where_it_stands(make_runtime):
    """For people."""
    run = saga("nightly", runtime=make_runtime(), key="k")
    shown = [repr(run)]
    run.step(plain)(1)
    shown.append(repr(run))
    run.complete()
    assert [*shown, repr(run)] == [
        "<saga 'nightly' not begun>",
        "<saga 'nightly' nightly/k is open>",
        "<saga 'nightly' nightly/k is completed>",
    ]


def test_who_looks_at_a_run_is_told_when_its_handle_lets_it_go(make_runtime, world):
    """As of a called saga: once for each time that it was had."""

    class Looker:
        def watch(self, run):
            world.add("opened")
            return self

        def __call__(self, entry):
            """Nothing is looked at."""

        def close(self):
            world.add("closed")

    runtime = make_runtime(observers=[Looker()])
    with saga("nightly", key="k", runtime=runtime) as run:
        run.step(plain)(1)
    assert world == ["opened", "closed"]
    run = saga("explore", key="k", runtime=runtime)
    run.step(plain)(1)
    assert world == ["opened", "closed", "opened"]
    run.complete()
    run.compensate()
    assert world == ["opened", "closed"] * 3


LEFT = """
from sagadsl import find, saga

def effect(name):
    return name

def lost():
    saga("lost", key="k").step(effect)("a")

held, done, later = (saga(name, key="k") for name in ("held", "done", "later"))
for each in (held, done, later):
    each.step(effect)("a")
done.complete()
lost()
unused = saga("unused")
later_id = later.id
del later, each
find(later_id).compensate()
if __import__("os").fork() == 0:
    raise SystemExit
__import__("os").wait()
"""


def test_a_program_that_ends_says_which_runs_it_leaves_open_by_hand(tmp_path):
    """Once each, also where the handle is lost; not what has ended, nor in a forked child."""
    (tmp_path / "left.py").write_text(LEFT)
    ended = subprocess.run([sys.executable, "left.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    told = [line for line in ended.stderr.splitlines() if "left open" in line]
    assert told == [
        f"{name}/k was begun by hand and is left open. Go on: run the program again, and end it with complete() or "
        f"compensate()   Compensate: sagadsl compensate {name}/k"
        for name in ("held", "lost")
    ]


def test_a_block_that_is_cancelled_enters_no_further_step_and_compensates(block, act, world, make_runtime):
    """Its handle asks as any other run does: at the next step, or where the block ends."""
    runtime = make_runtime()

    def body(run):
        yield act("a")
        assert run.cancel().cancel_requested
        if ends:
            return
        yield act("b")

    for ends in (False, True):
        with pytest.raises(sagadsl.RunCancelledError):
            block(body, key=str(ends), runtime=runtime)
        assert world == ["a", "-a"] * (1 + ends)
        assert runtime.find(f"nightly/{ends}").cause == "cancel"


def test_a_run_by_hand_is_cancelled_by_its_handle_and_compensate_ends_it(colour, runtime, act, world):
    """Before anything is on record there is nothing to cancel, and when it has ended it is too late."""
    run = saga("hand", key="k", runtime=runtime)
    with pytest.raises(UsageError, match="nothing of hand/k is on record yet, so there is nothing to cancel"):
        run.cancel()
    colour.run(run.step(act)("a"))
    assert run.cancel().status == "open"
    with pytest.raises(sagadsl.RunCancelledError):
        colour.run(run.step(act)("b"))
    with pytest.raises(UsageError, match="is compensating"):
        run.complete()
    assert colour.run(run.compensate()).status == "compensated"
    assert world == ["a", "-a"]
    other = saga("hand", key="other", runtime=runtime)
    colour.run(other.step(act)("b"))
    other.complete()
    with pytest.raises(RunConflictError, match="is completed, so there is nothing left to cancel"):
        other.cancel()


def test_a_handle_in_a_forked_child_says_whose_its_run_is(make_runtime, world):
    """Nothing is entered there, and the parent's handle goes on."""
    run = saga("hand", key="k", runtime=make_runtime())
    run.step(world.add)("a")
    child = os.fork()
    if child == 0:
        says = f"run hand/k is that of process {os.getppid()}, from which this one was forked: it goes on there"
        try:
            run.step(world.add)("child")
        except sagadsl.RunLostError as error:
            os._exit(0 if str(error).startswith(says) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    run.step(world.add)("b")
    run.complete()
    assert world == ["a", "b"]
