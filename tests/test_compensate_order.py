"""``compensate_order="parallel"``: what overlapped is compensated at the same time, what came later before the rest."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
from queue import SimpleQueue

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sagadsl
from sagadsl import CompensationError, CompensationFailed, Retry, aio, saga
from sagadsl._core.drive import Drivers
from sagadsl._core.effects import Together
from sagadsl._core.flow.order import front_of, measure
from sagadsl.plan import Plan

mood = contextvars.ContextVar("mood", default="plain")


class Cut(BaseException):
    """The end of a process, for a test."""


class Meeting:
    """Where so many come together before any of them goes on, in either colour."""

    def __init__(self, colour, count):
        self.barrier = asyncio.Barrier(count) if colour.is_async else threading.Barrier(count)

    def wait(self):
        """Return what is to be yielded by a body in a colour."""
        return self.barrier.wait() if isinstance(self.barrier, asyncio.Barrier) else self.barrier.wait(30)


@pytest.fixture
def parallel(colour):
    """Give the word in each colour, taking plain callables in both."""

    def together(*branches, limit=None):
        return (aio.parallel if colour.is_async else sagadsl.parallel)(*branches, limit=limit)

    return together


@pytest.fixture
def act(colour, world):
    """Make a step that notes its effect; *meets* says with whom it waits, or its compensation (``-name``) does."""
    meets, fails = {}, {}

    @colour.coloured
    def back(name):
        if f"-{name}" in meets:
            yield meets[f"-{name}"].wait()
        if f"-{name}" in fails:
            raise fails[f"-{name}"]
        world.add(f"-{name}")

    @colour.step(compensate=sagadsl.Compensation(back, retries=0), name="act")
    def act(name: str) -> str:
        if name in meets:
            yield meets[name].wait()
        if name in fails:
            raise fails[name]
        world.add(name)
        return name.upper()

    act.meets, act.fails = meets, fails
    act.overlap = lambda *names: meets.update(dict.fromkeys(names, Meeting(colour, len(names))))
    return act


def calls(act, names):
    """Return a branch for each name."""
    return [functools.partial(act, name) for name in names]


def test_overlapping_branches_are_compensated_at_the_same_time(colour, make_runtime, world, parallel, act):
    """Each compensation waits for the others; what came before the branches comes after all of them."""
    act.overlap(*"abc")
    act.overlap("-a", "-b", "-c")

    @colour.saga(runtime=make_runtime(), compensate_order="parallel")
    def trip():
        yield act("first")
        yield parallel(*calls(act, "abc"))
        yield act("last")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        colour.call(trip)
    assert world.effects[4:6] == ["last", "-last"]
    assert sorted(world.effects[6:9]) == ["-a", "-b", "-c"]
    assert world.effects[9:] == ["-first"]
    assert make_runtime().runs()[0].status == "compensated"


def test_without_it_one_step_is_compensated_after_the_other(colour, make_runtime, world, parallel, act):
    """In reverse order of their intents, whatever overlapped; so it is where the saga's body cannot run."""
    act.overlap(*"abc")

    @colour.saga(runtime=make_runtime())
    def trip():
        yield parallel(*calls(act, "abc"))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        colour.call(trip)
    entered = [s.key for s in make_runtime().runs()[0].steps if not s.saga]
    effects = {f"parallel/{number}/act": f"-{name}" for number, name in zip("123", "abc", strict=True)}
    assert world.effects[3:] == [effects[key] for key in reversed(entered)]


def test_inside_a_branch_the_last_intent_comes_first(colour, make_runtime, world, parallel, act):
    """A branch waits for no other: the one is compensated to its beginning before the other begins to be."""
    act.overlap("a1", "b1")
    act.meets["-a1"] = act.meets["-b2"] = Meeting(colour, 2)

    def branch(*names):
        @colour.coloured
        def body():
            for name in names:
                yield act(name)

        return body

    @colour.saga(runtime=make_runtime(), compensate_order="parallel")
    def trip():
        yield parallel(branch("a1", "a2"), branch("b1", "b2"))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        colour.call(trip)
    assert [e for e in world.effects[4:] if "a" in e] == ["-a2", "-a1"]
    assert [e for e in world.effects[4:] if "b" in e] == ["-b2", "-b1"]


def test_what_came_later_is_compensated_before(colour, make_runtime, world, parallel, act):
    """Branches one after the other are, and so a limit holds in both directions."""

    @colour.saga(runtime=make_runtime(), compensate_order="parallel")
    def trip():
        yield parallel(*calls(act, "abc"), limit=1)
        yield act("d")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        colour.call(trip)
    assert world == ["a", "b", "c", "d", "-d", "-c", "-b", "-a"]


def test_a_limit_holds_backwards(colour, make_runtime):
    """No more compensations are under way at once than there were steps."""
    guard, now, most = threading.Lock(), [0], [0]

    def enter(by):
        with guard:
            now[0] += by
            most[0] = max(most[0], now[0])

    @colour.coloured
    def back(n):
        enter(1)
        yield aio_or_not(colour)
        enter(-1)

    @colour.step(compensate=back, name="busy")
    def busy(n: int) -> None:
        yield aio_or_not(colour)

    @colour.saga(runtime=make_runtime(), compensate_order="parallel")
    def work():
        yield busy.map(range(20), limit=3)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        colour.call(work)
    assert 1 <= most[0] <= 3
    assert now == [0]


def aio_or_not(colour):
    """Let others have their turn."""
    return asyncio.sleep(0) if colour.is_async else threading.Event().wait(0)


def test_what_needs_a_node_of_a_plan_is_compensated_before_it(colour, make_runtime, world, act):
    """Nobody notes who waited for whom: whatever did began later."""
    act.overlap("b", "c")
    act.overlap("-b", "-c")
    plan = Plan("order", runtime=make_runtime(), compensate_order="parallel")
    first = plan.add(act, "a")
    last = plan.add(act, "d", after=[plan.add(act, "b", after=[first]), plan.add(act, "c", after=[first])])
    act.fails["e"] = ValueError("no")
    plan.add(act, "e", after=[last])
    with pytest.raises(ValueError, match="no"):
        colour.call(plan)
    assert world.effects[3:5] == ["d", "-d"]
    assert sorted(world.effects[5:7]) == ["-b", "-c"]
    assert world.effects[7:] == ["-a"]


def test_gathered_steps_and_children_overlap_too(make_runtime):
    """Branches need no word of ours: a child is compared as a whole."""
    world = []
    meetings = {}

    async def back(name):
        world.append(f"-{name}")
        await meetings.setdefault(name[0], asyncio.Barrier(2)).wait()

    @sagadsl.step(compensate=back)
    async def act(name: str) -> None:
        world.append(name)
        await asyncio.sleep(0)

    @sagadsl.saga
    async def child(name: str) -> None:
        await act(f"x{name}")
        await act(f"y{name}")

    @sagadsl.saga(runtime=make_runtime(), compensate_order="parallel")
    async def trip() -> None:
        await asyncio.gather(act("a1"), act("a2"))
        async with asyncio.TaskGroup() as group:
            group.create_task(child("1"))
            group.create_task(child("2"))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(trip())
    back_ = [effect[1:-1] for effect in world[6:]]
    assert back_ == ["y", "y", "x", "x", "a", "a"]


def test_a_failing_compensation_lets_those_under_way_end_and_no_other_begin(colour, make_runtime, world, parallel, act):
    """Then a person decides; `compensate` carries on there, at the same time again."""
    act.overlap(*"abc")
    act.overlap("-a", "-b", "-c")
    act.fails |= {"-b": OSError("shut"), "-c": OSError("also shut")}

    @colour.saga(name="trip", runtime=make_runtime(), compensate_order="parallel")
    def trip():
        yield act("first")
        yield parallel(*calls(act, "abc"))
        raise ValueError("no")

    outcome = colour.call(trip.outcome)
    assert isinstance(outcome, CompensationFailed)
    assert outcome.compensated_steps == ("parallel/1/act",)
    assert outcome.pending_steps == ("act",)
    assert outcome.failed_at_step in {"parallel/2/act", "parallel/3/act"}
    with pytest.raises(CompensationError) as again:
        colour.call(trip.using(id=outcome.run.id))
    assert (again.value.step, again.value.pending) == (outcome.failed_at_step, outcome.pending_steps)
    act.fails.clear()
    act.overlap("-b", "-c")
    assert colour.run(outcome.run.compensate()).status == "compensated"
    assert sorted(world.effects[5:7]) == ["-b", "-c"]
    assert world.effects[4::3] == ["-a", "-first"]


def test_with_continue_the_others_come_first(colour, make_runtime, world, parallel, act):
    """Those before it too."""
    act.overlap(*"ab")
    act.fails["-b"] = OSError("shut")

    @colour.saga(runtime=make_runtime(), compensate_order="parallel", on_compensation_failure="continue")
    def trip():
        yield act("first")
        yield parallel(*calls(act, "ab"))
        raise ValueError("no")

    outcome = colour.call(trip.outcome)
    assert isinstance(outcome, CompensationFailed)
    assert outcome.compensated_steps == ("parallel/1/act", "act")
    assert outcome.pending_steps == ()
    assert world.effects[3:] == ["-a", "-first"]


def test_compensated_steps_are_told_in_the_order_they_happened(colour, make_runtime, world, parallel, act):
    """Not in that of their intents."""
    recorded = asyncio.Event() if colour.is_async else threading.Event()
    act.overlap("a", "b")
    act.meets["-late"] = recorded

    def note(entry):
        if (entry.kind, entry.step) == ("compensation_done", "parallel/1/act"):
            recorded.set()

    @colour.coloured
    def second():
        yield act("b")
        yield act("late")

    @colour.saga(runtime=make_runtime(observers=(note,)), compensate_order="parallel")
    def trip():
        yield parallel(functools.partial(act, "a"), second)
        raise ValueError("no")

    outcome = colour.call(trip.outcome)
    assert world.effects[3:] == ["-a", "-late", "-b"]
    assert outcome.compensated_steps == ("parallel/1/act", "parallel/2/act#2", "parallel/2/act")


def test_each_compensation_has_the_context_and_retries_of_its_own(colour, make_runtime, clock):
    """As forward."""
    seen, tries = [], []

    def back(n):
        tries.append(n)
        if tries.count(n) == 1:
            raise OSError("busy")
        seen.append((n, mood.get()))

    meeting = Meeting(colour, 2)

    @colour.step(compensate=sagadsl.Compensation(back, retries=Retry(1, wait=5)), name="act")
    def act(n: int) -> None:
        yield meeting.wait()

    @colour.saga(runtime=make_runtime(), compensate_order="parallel")
    def trip():
        mood.set("good")
        yield act.map([1, 2])
        raise ValueError("no")

    def call():
        with pytest.raises(ValueError, match="no"):
            colour.call(trip)

    contextvars.copy_context().run(call)
    assert sorted(n for n, _ in seen) == [1, 2]
    assert clock.slept == [5, 5]
    assert {said for _, said in seen} == {"good"}


@pytest.mark.parametrize("goes_on", [True, False], ids=["resume", "compensate"])
def test_a_death_at_any_entry_changes_nothing(colour, make_runtime, world, parallel, act, goes_on):
    """Each compensation once, and before those of what had ended when its step began."""

    def branch(*names):
        @colour.coloured
        def body():
            for name in names:
                yield act(name)

        return body

    @colour.saga(name="inner")
    def inner(name: str):
        yield act(name)
        yield act(name * 2)

    @colour.saga(name="trip", compensate_order="parallel")
    def trip():
        yield act("first")
        yield parallel(branch("a", "aa"), functools.partial(inner, "b"), branch("c"))
        yield act("last")
        raise ValueError("no")

    done = ["first", "a", "aa", "b", "bb", "c", "last"]
    for number in range(1, 100):
        world.path.write_text("")
        entries = []

        def die(entry, number=number, entries=entries):
            entries.append(entry)
            if len(entries) >= number:  # in each thread: the process is gone
                raise Cut

        dying = make_runtime()
        dying.observers = (die,)
        named = trip.using(key=f"at-{number}")
        with pytest.raises((Cut, ValueError)) as caught:
            colour.call(named.using(runtime=dying))
        if caught.type is ValueError or (entries[-1].kind, entries[-1].step) == ("compensated", ""):
            break
        run = make_runtime().find(f"trip/at-{number}")
        if goes_on or run.status == "compensating":
            with pytest.raises(ValueError, match="no"):
                colour.call(named.using(runtime=make_runtime()))
        else:
            with contextlib.suppress(sagadsl.RunConflictError):
                colour.run(run.compensate())
        effects = world.effects
        forward = [effect for effect in effects if effect[0] != "-"]
        back = [effect[1:] for effect in effects if effect[0] == "-"]
        assert len(set(forward)) == len(forward)
        assert len(set(back)) == len(back), (number, effects)
        assert set(forward) <= set(back), (number, effects)
        assert goes_on <= (sorted(forward) == sorted(back) == sorted(done))
        for early, late in (("first", "a"), ("first", "b"), ("a", "aa"), ("b", "bb"), ("bb", "last"), ("c", "last")):
            if late in forward:
                assert effects.index(f"-{late}") < effects.index(f"-{early}"), (number, effects)
        assert back[-1:] == ["first"] or goes_on < (back == [])
    assert number > 35


def test_an_interruption_in_one_lets_the_others_end_on_record(colour, make_runtime, world, parallel, act):
    """It goes on in the next process, with what is left."""
    act.overlap(*"ab")
    act.overlap("-a", "-b")
    act.fails["-b"] = Cut()

    @colour.saga(name="trip", compensate_order="parallel")
    def trip():
        yield act("first")
        yield parallel(*calls(act, "ab"))
        raise ValueError("no")

    with pytest.raises(Cut):
        colour.call(trip.using(runtime=make_runtime()))
    assert world.effects[3:] == ["-a"]
    run = make_runtime().runs()[0]
    assert (run.status, run.is_interrupted) == ("compensating", True)
    act.fails.clear()
    del act.meets["-b"]
    with pytest.raises(ValueError, match="no"):
        colour.call(trip.using(runtime=make_runtime()))
    assert world.effects[3:] == ["-a", "-b", "-first"]


def test_an_interruption_that_counts_as_false_is_not_forgotten_when_another_ends_after_it(
    colour, make_runtime, world, parallel
):
    """What came before both is not compensated by a process that is to end."""

    class Reported(Cut):
        def __len__(self):
            return 0

    both, cut = Meeting(colour, 2), []

    @colour.coloured
    def back(name):
        if name == "b":
            cut.append(asyncio.current_task() if colour.is_async else threading.current_thread())
        if name != "first":
            yield both.wait()
        if name == "b":
            raise Reported
        if name == "a" and colour.is_async:
            yield asyncio.wait(cut)
        elif name == "a":
            cut[0].join(30)
        world.add(f"-{name}")

    @colour.step(compensate=sagadsl.Compensation(back, retries=0))
    def act(name: str) -> None:
        if name != "first":
            yield together.wait()
        world.add(name)

    together = Meeting(colour, 2)

    @colour.saga(compensate_order="parallel")
    def trip():
        yield act("first")
        yield parallel(*calls(act, "ab"))
        raise ValueError("no")

    with pytest.raises(Reported):
        colour.call(trip.using(runtime=make_runtime()))
    assert world.effects[3:] == ["-a"]


def test_a_ctrl_c_leaves_at_once_and_the_run_is_held_until_all_have_ended(make_runtime, monkeypatch):
    """What was under way ends on record; nothing else begins."""
    both, go = threading.Barrier(2), threading.Event()
    begun, world = threading.Semaphore(0), []

    def back(name: str) -> None:
        begun.release()
        assert go.wait(30)
        world.append(f"-{name}")

    @sagadsl.step(compensate=back)
    def act(name: str) -> None:
        if name != "first":
            both.wait(30)

    @sagadsl.saga(name="trip", compensate_order="parallel")
    def trip() -> None:
        act("first")
        act.map(["a", "b"])
        raise ValueError("no")

    class Pressed(SimpleQueue):
        def get(self):
            begun.acquire()
            begun.acquire()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sagadsl._core.drive.SimpleQueue", Pressed)
        with pytest.raises(KeyboardInterrupt):
            trip.using(runtime=make_runtime())()
    named = trip.using(runtime=make_runtime(), id=make_runtime().runs()[0].id)
    with pytest.raises(sagadsl.RunLockedError):
        named()
    go.set()
    while make_runtime().runs()[0].is_live:
        pass
    assert sorted(world) == ["-a", "-b"]
    with pytest.raises(ValueError, match="no"):
        named()
    assert sorted(world) == ["-a", "-b", "-first"]


def test_a_ctrl_c_before_a_thread_starts_holds_nothing(make_runtime, monkeypatch):
    """The run is free at once."""
    both = threading.Barrier(2)

    @sagadsl.step(compensate=lambda name: None)
    def act(name: str) -> None:
        both.wait(30)

    @sagadsl.saga(name="trip", compensate_order="parallel")
    def trip() -> None:
        act.map(["a", "b"])
        raise ValueError("no")

    class Pressed(threading.Thread):
        def start(self):
            if self.name == "sagadsl back":
                raise KeyboardInterrupt
            super().start()

    with monkeypatch.context() as patch:
        patch.setattr("sagadsl._core.drive.Thread", Pressed)
        with pytest.raises(KeyboardInterrupt):
            trip.using(runtime=make_runtime())()
    assert make_runtime().runs()[0].is_interrupted
    with pytest.raises(ValueError, match="no"):
        trip.using(runtime=make_runtime())()


def test_a_cancellation_waits_until_all_is_compensated(make_runtime):
    """It is shielded, and goes on afterwards."""
    world = []

    async def back(name: str) -> None:
        if not world:
            task.cancel()
        await asyncio.sleep(0)
        world.append(f"-{name}")

    @sagadsl.step(compensate=back)
    async def act(name: str) -> None:
        await asyncio.sleep(0)

    @sagadsl.saga(name="trip", compensate_order="parallel")
    async def trip() -> None:
        await act("first")
        await act.map(["a", "b"])
        raise ValueError("no")

    async def main() -> None:
        nonlocal task
        task = asyncio.ensure_future(trip.using(runtime=make_runtime())())
        await task

    task = None
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert sorted(world[:2]) == ["-a", "-b"]
    assert world[2:] == ["-first"]
    assert make_runtime().runs()[0].status == "compensated"


def test_the_end_of_the_loop_cuts_off_all_that_are_under_way(make_runtime):
    """As a cancellation of every task: the run goes on later, and nothing is compensated twice."""
    world, cut = [], []

    async def back(name: str) -> None:
        if not cut:
            cut.append(name)
            for task in asyncio.all_tasks():
                task.cancel()
        await asyncio.sleep(0)
        world.append(f"-{name}")

    @sagadsl.step(compensate=back)
    async def act(name: str) -> None:
        await asyncio.sleep(0)

    @sagadsl.saga(name="trip", compensate_order="parallel")
    async def trip() -> None:
        await act("first")
        await act.map(["a", "b"])
        raise ValueError("no")

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(trip.using(runtime=make_runtime())())
    assert world == []
    assert make_runtime().runs()[0].is_interrupted
    with pytest.raises(ValueError, match="no"):
        asyncio.run(trip.using(runtime=make_runtime())())
    assert sorted(world[:2]) == ["-a", "-b"]
    assert world[2:] == ["-first"]


def test_a_block_takes_it_too(make_runtime, world):
    """And what was added by hand is compensated where it was added."""
    both = threading.Barrier(2)
    back = threading.Barrier(2)

    def undo(name: str) -> None:
        back.wait(30)
        world.add(f"-{name}")

    def nightly() -> None:
        with saga("nightly", runtime=make_runtime(), compensate_order="parallel") as run:
            act = run.step(lambda_named(both), compensate=undo)
            sagadsl.parallel(functools.partial(act, "a"), functools.partial(act, "b"))
            run.add_compensation(world.add, "-added")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        nightly()
    assert world.effects[0] == "-added"
    assert sorted(world.effects[1:]) == ["-a", "-b"]


def lambda_named(both):
    """Return a function that waits for another."""

    def note(name: str) -> None:
        both.wait(30)

    return note


def test_an_order_that_does_not_exist_is_refused():
    """On the decorator's line."""
    with pytest.raises(sagadsl.UsageError, match="compensate_order='both': choose one of 'reverse', 'parallel'"):
        sagadsl.saga(compensate_order="both")


def test_a_driver_that_leaves_compensations_out_does_not_end_the_run(make_runtime, world):
    """An engine that does not know the effect: nothing is said that is not so."""

    class Deaf(Drivers):
        def __init__(self):
            super().__init__()
            self._answers[Together] = lambda _: None

    @sagadsl.step(compensate=lambda: world.add("-act"))
    def act() -> None:
        world.add("act")

    @sagadsl.saga(name="trip", compensate_order="parallel")
    def trip() -> None:
        act()
        raise ValueError("no")

    deaf = make_runtime()
    deaf.drive, deaf.adrive = Deaf().drive, Deaf().adrive
    with pytest.raises(RuntimeError, match="left out"):
        trip.using(runtime=deaf)()
    assert make_runtime().runs()[0].status == "compensating"
    with pytest.raises(ValueError, match="no"):
        trip.using(runtime=make_runtime())()
    assert world == ["act", "-act"]


# -- what may come, found at once -----------------------------------------------------------------------------------


class Past:
    """A call, or a child with calls, of which no more is known than where it began and ended."""

    def __init__(self, place=0, outcome=0, slots=()):
        self.place, self.outcome = place, outcome
        self.child = Past.Scope(slots) if slots else None

    class Scope:
        """What holds calls."""

        def __init__(self, slots):
            self.slots = slots

    def calls(self):
        """Yield the calls in it."""
        for slot in self.child.slots if self.child else ():
            yield from slot.calls() if slot.child else [slot]


CALLS = st.builds(Past, st.integers(1, 9), st.integers(0, 12))
PARTS = st.recursive(CALLS, lambda inner: st.builds(Past, slots=st.lists(inner, min_size=1, max_size=4)), max_leaves=12)


def foremost(scope, left, spans):
    """Yield what may be compensated now, as the rule says it: what no other call began after that is *left*, too."""
    parts = [slot for slot in scope.slots if slot in left or left.intersection(slot.calls())]
    for slot in parts:
        if spans[slot][1] >= max(spans[part][0] for part in parts):
            yield from [slot] if slot.child is None else foremost(slot.child, left, spans)


@given(st.lists(PARTS, min_size=1, max_size=4), st.data())
def test_what_may_be_compensated_is_found_as_the_rule_says_however_it_goes_on(parts, data):
    """Whichever of those that are under way ends first: what has begun by then is what the rule lets begin."""
    root = Past(slots=parts)
    scope, spans = root.child, {}
    measure(scope, spans)
    left = {slot for slot in root.calls() if data.draw(st.booleans())}
    front, fronts = front_of(scope, left)
    begun = set(front.ready())
    while left:
        assert begun == set(foremost(scope, left, spans))
        slot = data.draw(st.sampled_from([slot for slot in root.calls() if slot in begun]))
        begun.discard(slot)
        left.discard(slot)
        following = fronts[slot].after(slot)
        assert not begun & set(following)
        begun |= set(following)
    assert not begun
