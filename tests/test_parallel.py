"""Branches at the same time: each a scope of its own, settled before anything is compensated, told apart on replay."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import random
import sqlite3
import threading
from itertools import pairwise, permutations

import pytest

import sagadsl
from sagadsl import PIVOT, Completed, SuspendedError, UsageError, aio
from sagadsl._core.scope import Scope
from sagadsl._core.scope.slot import Slot

mood = contextvars.ContextVar("mood", default="plain")


class Cut(BaseException):
    """The end of a process, for a test."""


@pytest.fixture
def parallel(colour):
    """Give the word in each colour, taking plain callables in both."""

    def together(*branches, limit=None):
        return (aio.parallel if colour.is_async else sagadsl.parallel)(*branches, limit=limit)

    return together


@pytest.fixture
def act(colour, world):
    """Make a step that notes its effect; what *fails* names raises."""
    fails: dict[str, BaseException] = {}

    @colour.step(compensate=lambda name: world.add(f"-{name}"), name="act")
    def act(name: str) -> str:
        if name in fails:
            raise fails[name]
        world.add(name)
        return name.upper()

    act.fails = fails
    return act


def calls(act, names):
    """Return a branch for each name."""
    return [functools.partial(act, name) for name in names]


def test_a_step_that_is_called_for_a_branch_keeps_its_place_in_the_scope_around(runtime):
    """It is called before there is a branch; a function is called in one."""

    @sagadsl.step
    async def look(name: str) -> str:
        return name

    @sagadsl.saga(runtime=runtime)
    async def flow():
        return await sagadsl.aio.parallel(look("a"), lambda: look("b"))

    assert asyncio.run(flow()) == ["a", "b"]
    assert {s.key for s in runtime.runs()[0].steps if not s.saga} == {"look", "parallel/2/look"}


def test_branches_give_their_values_in_order(colour, make_runtime, world, parallel, act):
    """Each is a scope of its own, as its steps' keys say."""

    @colour.saga(runtime=make_runtime())
    def trip():
        return (yield parallel(*calls(act, "abc")))

    assert colour.call(trip) == ["A", "B", "C"]
    assert sorted(world.effects) == ["a", "b", "c"]
    run = make_runtime().runs()[0]
    assert [s.key for s in run.steps if not s.saga] == [
        f"parallel/{n}/act" for n in sorted("123", key=lambda n: order(run, n))
    ]
    assert {s.status for s in run.steps} == {"completed", "done"}


def order(run, number):
    """Return where the branch's step stands among the run's."""
    return next(at for at, s in enumerate(run.steps) if s.key == f"parallel/{number}/act")


def test_all_branches_settle_before_anything_is_compensated(colour, make_runtime, world, parallel, act):
    """The failure of one does not stop the others; what they did is compensated with the rest, in reverse."""
    act.fails["b"] = ValueError("no")

    @colour.saga(runtime=make_runtime())
    def trip():
        yield act("first")
        yield parallel(*calls(act, "abc"), limit=1)

    with pytest.raises(ValueError, match="no") as caught:
        colour.call(trip)
    assert caught.value is act.fails["b"]
    assert world == ["first", "a", "c", "-c", "-a", "-first"]
    assert make_runtime().runs()[0].status == "compensated"


def test_several_failures_are_all_told(colour, make_runtime, world, parallel, act):
    """As a group, with the genuine exceptions."""
    act.fails |= {"a": ValueError("a"), "c": KeyError("c")}

    @colour.saga(runtime=make_runtime())
    def trip():
        yield parallel(*calls(act, "abc"))

    with pytest.raises(ExceptionGroup, match="2 of 3 branches failed") as caught:
        colour.call(trip)
    assert caught.value.exceptions == (act.fails["a"], act.fails["c"])
    assert world == ["b", "-b"]


def test_a_failure_of_branches_can_be_caught(colour, make_runtime, world, parallel, act):
    """The saga goes on; what the others did is part of it, and is compensated when it fails later."""
    act.fails["b"] = ValueError("no")

    @colour.saga(runtime=make_runtime())
    def trip():
        try:
            yield parallel(*calls(act, "ab"), limit=1)
        except ValueError:
            yield act("instead")
        raise KeyError("later")

    with pytest.raises(KeyError, match="later"):
        colour.call(trip)
    assert world == ["a", "instead", "-instead", "-a"]


def test_finished_branches_are_not_entered_again(colour, make_runtime, world, parallel, act):
    """Killed in one, resumed with another timing: results land in their places."""
    for cut in "abc":
        act.fails[cut] = Cut()

        @colour.saga(name=f"trip-{cut}")
        def trip():
            return (yield parallel(*calls(act, "abc"), limit=1))

        with pytest.raises(Cut):
            colour.call(trip.using(runtime=make_runtime()))
        before = list(world.effects)
        del act.fails[cut]
        assert colour.call(trip.using(runtime=make_runtime())) == ["A", "B", "C"]
        assert sorted(world.effects) == ["a", "b", "c"]
        assert world.effects[: len(before)] == before
        world.path.write_text("")


def test_equal_branches_keep_their_places(colour, make_runtime, world, parallel):
    """The same step with the same arguments in each: only the scopes tell them apart."""
    done = []

    @colour.step(compensate=None, name="take")
    def take() -> int:
        done.append(1)
        if len(done) == 2:
            raise Cut
        return len(done)

    @colour.saga(name="takes")
    def takes():
        return (yield parallel(take, take, take, limit=1))

    with pytest.raises(Cut):
        colour.call(takes.using(runtime=make_runtime()))
    values = colour.call(takes.using(runtime=make_runtime()))
    assert values[0] == 1
    assert sorted(values) == sorted(set(values))
    assert colour.call(takes.using(runtime=make_runtime(), id=make_runtime().runs()[0].id)) == values


def test_a_limit_holds(colour, make_runtime, parallel):
    """No more than so many at once."""
    lock, now, most = threading.Lock(), [0], [0]

    @colour.step(compensate=None, name="busy")
    def busy(n: int) -> int:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        with lock:
            now[0] -= 1
        return n

    @colour.saga(runtime=make_runtime())
    def work():
        return (yield busy.map(range(20), limit=2))

    assert colour.call(work) == list(range(20))
    assert most[0] <= 2


def test_threads_are_really_at_the_same_time(make_runtime):
    """Two branches that wait for each other."""
    barrier = threading.Barrier(2)

    @sagadsl.step(compensate=None)
    def meet(n: int) -> int:
        barrier.wait(30)
        return n

    @sagadsl.saga(runtime=make_runtime())
    def both() -> list[int]:
        return meet.map([1, 2])

    assert both() == [1, 2]


def test_branches_may_be_anything_that_can_be_awaited(make_runtime, world):
    """Coroutines, and callables that give one."""

    @sagadsl.step(compensate=None)
    async def act(name: str) -> str:
        await asyncio.sleep(0)
        return name

    async def two(a: str, b: str) -> str:
        return await act(a) + await act(b)

    @sagadsl.saga(runtime=make_runtime())
    async def trip() -> list[str]:
        return await aio.parallel(two("a", "b"), lambda: two("c", "d"), act("e"))

    assert asyncio.run(trip()) == ["ab", "cd", "e"]


def test_sagas_and_branches_nest(colour, make_runtime, world, parallel, act):
    """A child saga in a branch is a child; branches in branches are branches."""

    @colour.saga(name="inner")
    def inner(name: str):
        return (yield act(name))

    @colour.coloured
    def more():
        return (yield parallel(*calls(act, "xy"), limit=1))

    @colour.saga(runtime=make_runtime())
    def outer():
        yield parallel(functools.partial(inner, "a"), more, limit=1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        colour.call(outer)
    assert world == ["a", "x", "y", "-y", "-x", "-a"]
    keys = [s.key for s in make_runtime().runs()[0].steps if not s.saga]
    assert keys == ["parallel/1/inner/act", "parallel/2/parallel/1/act", "parallel/2/parallel/2/act"]


def test_branches_are_no_runs_in_the_views(colour, make_runtime, parallel, act):
    """What people list are sagas."""

    @colour.saga(name="trip", runtime=make_runtime())
    def trip():
        yield parallel(*calls(act, "ab"))

    colour.call(trip)
    rows = sqlite3.connect(make_runtime().journal().path).execute("select saga, status from runs").fetchall()
    assert rows == [("trip", "completed")]


def test_a_failed_branch_of_a_paused_run_goes_on(colour, make_runtime, world, parallel, act):
    """Only the step that failed is entered again."""
    act.fails["b"] = ValueError("no")

    @colour.saga(name="trip", on_failure="pause")
    def trip():
        return (yield parallel(*calls(act, "abc"), limit=1))

    with pytest.raises(SuspendedError):
        colour.call(trip.using(runtime=make_runtime()))
    assert world == ["a", "c"]
    del act.fails["b"]
    assert colour.call(trip.using(runtime=make_runtime())) == ["A", "B", "C"]
    assert world == ["a", "c", "b"]


def test_a_branch_that_does_something_else_is_refused(colour, make_runtime, world, parallel, act):
    """Inside a branch the order is compared as in a saga of its own; less than recorded is a difference too."""
    plan = [["a", "b"], ["c"]]

    def branch(names):
        @colour.coloured
        def body():
            for name in names:
                yield act(name)

        return body

    @colour.saga(name="trip")
    def trip():
        yield parallel(*[branch(names) for names in plan], limit=1)
        yield act("cut")

    act.fails["cut"] = Cut()
    with pytest.raises(Cut):
        colour.call(trip.using(runtime=make_runtime()))
    for changed in (["b", "a"], ["a"]):
        plan[0] = changed
        with pytest.raises(sagadsl.ReplayError):
            colour.call(trip.using(runtime=make_runtime()))
    plan[0] = ["a", "b"]
    del act.fails["cut"]
    colour.call(trip.using(runtime=make_runtime()))
    assert world == ["a", "b", "c", "cut"]


def test_a_run_killed_while_compensating_binds_what_is_in_branches(colour, make_runtime, world, parallel):
    """Their closures too: the body runs again over the record."""
    tries = []

    @colour.saga(name="trip")
    def trip():
        def undo(name):
            if name == "a" and not tries:
                tries.append(1)
                raise Cut
            world.add(f"-{name}")

        @colour.step(compensate=undo, name="local")
        def local(name: str) -> None:
            world.add(name)

        yield parallel(functools.partial(local, "a"), functools.partial(local, "b"), limit=1)
        raise ValueError("no")

    with pytest.raises(Cut):
        colour.call(trip.using(runtime=make_runtime()))
    with pytest.raises(ValueError, match="no"):
        colour.call(trip.using(runtime=make_runtime()))
    assert world == ["a", "b", "-b", "-a"]


def test_outside_a_saga_branches_are_only_called(colour, parallel, act, world):
    """And failures come out the same."""
    assert colour.run(parallel(*calls(act, "ab"))) == ["A", "B"]
    assert colour.run(parallel()) == []
    act.fails["a"] = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        colour.run(parallel(*calls(act, "ab")))


def test_context_variables_reach_the_branches(colour, make_runtime, parallel):
    """Each has a copy: what one sets stays its own."""
    seen = []

    @colour.step(compensate=None, name="look")
    def look(n: int) -> None:
        seen.append(mood.get())

    @colour.saga(runtime=make_runtime())
    def trip():
        mood.set("good")
        yield look.map([1, 2])

    colour.call(trip)
    assert seen == ["good", "good"]


def test_map_works_for_methods(make_runtime, world):
    """The instance comes along."""

    class Shop:
        @sagadsl.step(compensate=None)
        def sell(self, item: str) -> str:
            world.add(item)
            return item.upper()

        @sagadsl.saga(runtime=make_runtime())
        def day(self) -> list[str]:
            return self.sell.map(["lamp", "desk"], limit=1)

    assert Shop().day() == ["LAMP", "DESK"]
    assert world == ["lamp", "desk"]


def test_branches_of_a_block_are_its_own(make_runtime, world, act):
    """Its steps can be called in them."""

    def note(name: str) -> str:
        world.add(name)
        return name

    def nightly() -> None:
        with sagadsl.saga("nightly", key="k", runtime=make_runtime()) as run:
            noted = run.step(note, compensate=lambda name: world.add(f"-{name}"))
            assert sagadsl.parallel(*calls(noted, "ab"), limit=1) == ["a", "b"]
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        nightly()
    assert world == ["a", "b", "-b", "-a"]
    assert next(s.key for s in make_runtime().runs()[0].steps if not s.saga).startswith("parallel/1/")


def test_a_pivot_in_a_branch_is_refused(colour, make_runtime, parallel, world):
    """Nobody could say what precedes it."""

    @colour.step(compensate=PIVOT, name="pivot")
    def pivot() -> None:
        world.add("pivot")

    @colour.saga(runtime=make_runtime())
    def trip():
        yield parallel(pivot)

    with pytest.raises(UsageError, match="PIVOT in a parallel branch"):
        colour.call(trip)
    assert world == []


def test_the_wrong_colour_and_the_wrong_things_are_refused(make_runtime):
    """Each message says what to write."""

    @sagadsl.step(compensate=None)
    def act() -> None: ...

    @sagadsl.step(compensate=None)
    async def aact() -> None: ...

    def refused(call, said):
        with pytest.raises(UsageError, match=said):
            call()

    @sagadsl.saga(runtime=make_runtime())
    def sync(case: int) -> None:
        if case == 0:
            asyncio.run(aio.parallel(aact.plain()))
        sagadsl.parallel(aact)

    @sagadsl.saga(runtime=make_runtime())
    async def other() -> None:
        sagadsl.parallel(act)

    @sagadsl.step(compensate=None)
    def leaf() -> None:
        sagadsl.parallel(act)

    @sagadsl.saga(runtime=make_runtime())
    def deep() -> None:
        leaf()

    refused(lambda: sync(0), r"call sagadsl.parallel\(")
    refused(lambda: sync(1), "async def")
    refused(lambda: asyncio.run(other()), r"await sagadsl.aio.parallel\(")
    refused(deep, "a step is a leaf")
    refused(lambda: sagadsl.parallel(act()), "callables without arguments, not None")
    refused(lambda: sagadsl.parallel(act, limit=0), "from 1 on")
    refused(lambda: asyncio.run(aio.parallel(3)), "coroutines")


def test_a_cancellation_cancels_all_branches_and_goes_on_later(make_runtime, world):
    """It waits for them; what was done stays done."""
    started, third = [], asyncio.Event()

    @sagadsl.step(compensate=None)
    async def act(name: str) -> str:
        started.append(name)
        if name == "third":
            third.set()
        if name == "slow" and started.count("slow") == 1:
            await asyncio.Event().wait()
        world.add(name)
        return name

    @sagadsl.saga(name="trip")
    async def trip() -> list[str]:
        return await aio.parallel(lambda: act("quick"), lambda: act("slow"), lambda: act("third"), limit=2)

    async def cancelled() -> None:
        task = asyncio.ensure_future(trip.using(runtime=make_runtime())())
        await third.wait()
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    assert sorted(world.effects) == ["quick", "third"]
    assert asyncio.run(trip.using(runtime=make_runtime())()) == ["quick", "slow", "third"]
    assert sorted(world.effects) == ["quick", "slow", "third"]


def test_a_cancellation_before_a_branchs_turn_loses_nothing(make_runtime, world):
    """What was never awaited is closed."""

    @sagadsl.step(compensate=None)
    async def act(name: str) -> None:
        world.add(name)

    async def branch() -> None:
        await act("never")

    @sagadsl.saga(name="trip")
    async def trip() -> None:
        asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
        await aio.parallel(branch(), branch(), limit=1)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(trip.using(runtime=make_runtime())())


def test_a_ctrl_c_while_branches_run_leaves_at_once(make_runtime, world, monkeypatch):
    """Nothing more starts in them; the run is held until what runs has ended on record."""
    go, begun, ended = threading.Event(), threading.Event(), threading.Event()

    @sagadsl.step(compensate=None)
    def act(name: str) -> str:
        begun.set()
        assert go.wait(30)
        world.add(name)
        ended.set()
        return name

    def branch() -> str:
        return act("a") + act("b")

    @sagadsl.saga(name="trip")
    def trip() -> list[str]:
        return sagadsl.parallel(branch)

    class Pressed(threading.Semaphore):
        def acquire(self, *args, **kwargs):
            assert begun.wait(30)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading, "Semaphore", lambda n: Pressed(n))
        with pytest.raises(KeyboardInterrupt):
            trip.using(runtime=make_runtime())()
    with pytest.raises(sagadsl.RunLockedError, match=r"by this process .*: call again when that has ended"):
        trip.using(runtime=make_runtime(), id=make_runtime().runs()[0].id)()
    with pytest.raises(sagadsl.RunLockedError):  # without an id it means the same run, and begins none beside it
        trip.using(runtime=make_runtime())()
    go.set()
    assert ended.wait(30)
    while make_runtime().runs()[0].is_live:
        pass
    run = make_runtime().runs()[0]
    assert [(s.key, s.status) for s in run.steps if not s.saga] == [("parallel/1/act", "done")]
    outcome = trip.using(runtime=make_runtime()).outcome()
    assert isinstance(outcome, Completed)
    assert (outcome.run.id, outcome.value) == (run.id, ["ab"])
    assert world == ["a", "b"]


@pytest.mark.parametrize("limit", [1, None])
@pytest.mark.parametrize("fails", [False, True])
def test_a_death_at_any_entry_changes_nothing(colour, make_runtime, world, parallel, act, limit, fails):  # noqa: PLR0917
    """Branches in branches, a child in one: each effect once, each compensation once, wherever the process dies."""

    @colour.saga(name="inner")
    def inner(name: str):
        yield act(name)
        return (yield act(name * 2))

    @colour.coloured
    def more():
        return (yield parallel(*calls(act, "xy"), limit=limit))

    @colour.saga(name="trip")
    def trip():
        yield act("first")
        values = yield parallel(functools.partial(inner, "a"), more, functools.partial(act, "b"), limit=limit)
        yield act("last")
        if fails:
            raise ValueError("no")
        return values

    done = ["first", "a", "aa", "x", "y", "b", "last"]
    for number in range(1, 100):
        world.path.write_text("")
        entries = []

        def die(entry, number=number, entries=entries):
            entries.append(entry)
            if len(entries) == number:
                raise Cut

        dying = make_runtime()
        dying.observers = (die,)
        named = trip.using(key=f"at-{number}")
        with pytest.raises((Cut, ValueError) if fails else (Cut, AssertionError)) as caught:
            assert colour.call(named.using(runtime=dying)) is None
        if (entries[-1].kind, entries[-1].step) == ("compensated", ""):
            break  # it had ended: called again it would be another generation
        if caught.type is Cut:
            if fails:
                with pytest.raises(ValueError, match="no"):
                    colour.call(named.using(runtime=make_runtime()))
            else:
                assert colour.call(named.using(runtime=make_runtime())) == ["AA", ["X", "Y"], "B"]
        assert sorted(world.effects) == sorted(done + [f"-{name}" for name in done] * fails), (number, world.effects)
        if len(entries) < number:
            break
    assert number > 25


@pytest.mark.parametrize("how", ["gather", "group", "children"])
@pytest.mark.parametrize("fails", [False, True])
def test_killed_with_one_on_record_tasks_may_come_in_another_order(make_runtime, world, how, fails):
    """The call that is on record is made again before the other begins, though nothing on record says they overlapped.

    So it is bound too when the other one fails at once: a closure compensates it.
    """
    turns, cut = {"a": 9, "b": 0}, [True]

    @sagadsl.saga(name="trip")
    async def trip() -> list[str]:
        @sagadsl.step(compensate=lambda name: world.add(f"-{name}"), name="act")
        async def act(name: str) -> str:
            if cut:
                cut.pop()
                raise Cut
            if fails and name == "a":
                raise ValueError("no")
            world.add(name)
            return name.upper()

        @sagadsl.saga(name="child")
        async def child(name: str) -> str:
            return await branch(name)

        async def branch(name: str) -> str:
            for _ in range(turns[name]):
                await asyncio.sleep(0)
            return await act(name)

        if how == "group":
            async with asyncio.TaskGroup() as group:
                made = [group.create_task(branch(name)) for name in "ab"]
            return [task.result() for task in made]
        return await asyncio.gather(*map(child if how == "children" else branch, "ab"))

    with pytest.raises(BaseException) as caught:  # noqa: PT011  # a group where a group does it
        asyncio.run(trip.using(runtime=make_runtime())())
    assert not isinstance(caught.value, Exception)
    assert [s.attempts for s in make_runtime().runs()[0].steps if not s.saga] == [1]
    turns |= {"a": 0, "b": 9}
    if not fails:
        assert asyncio.run(trip.using(runtime=make_runtime())()) == ["A", "B"]
        assert sorted(world.effects) == ["a", "b"]
        return
    with pytest.raises((ValueError, ExceptionGroup)):
        asyncio.run(trip.using(runtime=make_runtime())())
    assert world.effects[-1] == "-b"
    assert make_runtime().runs()[0].status == "compensated"


@pytest.mark.parametrize("own_task", [False, True])
def test_one_after_the_other_another_call_is_refused_before_it_is_entered(make_runtime, world, own_task):
    """Nobody comes in its place, however long it waits: a task of its own changes nothing of that."""
    names = ["a", "b"]

    @sagadsl.step(compensate=None, name="act")
    async def act(name: str) -> None:
        if name == "b":
            raise Cut
        world.add(name)

    @sagadsl.saga(name="trip")
    async def trip() -> None:
        for name in names:
            await (asyncio.ensure_future(act(name)) if own_task else act(name))

    with pytest.raises(Cut):
        asyncio.run(trip.using(runtime=make_runtime())())
    before = make_runtime().runs()[0].steps
    names[1] = "c"
    with pytest.raises(sagadsl.ReplayError, match="recorded is"):
        asyncio.run(trip.using(runtime=make_runtime())())
    assert world == ["a"]
    assert make_runtime().runs()[0].steps == before


def test_the_order_of_compensation_is_the_same_in_a_hundred_runs(colour, parallel):
    """Whoever ends first: it is that in which the branches began, backwards."""
    event = asyncio.Event if colour.is_async else threading.Event
    orders = set()

    def run(number):
        begun, ends = {name: event() for name in "abc"}, {name: event() for name in "abc"}
        ending = random.Random(number).sample("abc", 3)  # noqa: S311  # a sample, no secret
        world = []

        def until(happening):
            return happening.wait() if colour.is_async else happening.wait(30)

        @colour.step(compensate=lambda name: world.append(name), name="act")
        def act(name: str) -> None:
            begun[name].set()
            if name == "c":
                ends[ending[0]].set()
            yield until(ends[name])
            ends[dict(pairwise([*ending, ending[0]]))[name]].set()

        def branch(name, before):
            @colour.coloured
            def body():
                if before:
                    yield until(begun[before])
                yield act(name)

            return body

        @colour.saga(runtime=sagadsl.Runtime(":memory:"))
        def trip():
            yield parallel(branch("a", ""), branch("b", "a"), branch("c", "b"))
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            colour.call(trip)
        orders.add(tuple(world))

    for number in range(100):
        run(number)
    assert orders == {("c", "b", "a")}


def test_what_a_branch_survived_is_on_record_before_its_end(make_runtime, world):
    """Else a run that dies after the branch, and before the body does anything more, could not be resumed."""

    @sagadsl.step(compensate=None)
    async def slow() -> None:
        world.add("slow")
        limits[0].reschedule(0)
        await asyncio.Event().wait()

    async def branch() -> str:
        try:
            async with asyncio.timeout(None if dies else 0.003) as limit:
                limits.append(limit)
                await slow()
        except TimeoutError:
            return "late"
        return "never"

    async def other() -> str:
        return "other"

    @sagadsl.saga(key="k")
    async def trip() -> list[str]:
        values = await aio.parallel(branch, other)
        if dies:
            raise dies.pop()
        return values

    dies, limits = [Cut()], []
    with pytest.raises(Cut):
        asyncio.run(trip.using(runtime=make_runtime())())
    assert asyncio.run(trip.using(runtime=make_runtime())()) == ["late", "other"]
    assert world == ["slow"]


def test_calls_that_begin_at_the_same_time_stand_in_the_order_of_their_entries():
    """Another thread's call may come between any two moves of one: here each time, right after it has been added."""

    class Crowded(list):
        """The calls of a scope where the next one comes as soon as one is added."""

        def append(self, slot):
            super().append(slot)
            if coming:
                begin(coming.pop(0))

    def begin(seq):
        slot = Slot(scope, f"step#{seq}", "step", "{}", "{}")
        slot.apply(sagadsl.Entry(1, seq, sagadsl.Kind.INTENT, 1, slot.key, None, 1, 0, "step", "{}", "{}", None))

    for order in permutations(range(1, 5)):
        scope, coming = Scope(None, None, "trip", ""), list(order[1:])
        scope.slots = Crowded()
        begin(order[0])
        assert [slot.seq for slot in scope.slots] == [1, 2, 3, 4]
