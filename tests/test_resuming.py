"""`resume_all`: what was left unfinished goes on at the start of a program, or at intervals behind it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest

import sagadsl
from sagadsl import Compensated, CompensationFailed, Completed, Kind, Suspended, UsageError, resume_all


class Cut(BaseException):
    """A process that dies, as far as a body can tell."""


@pytest.fixture
def dies():
    """Say how often an effect is cut off after it has happened."""
    return {"cut": 1}


@pytest.fixture
def act(colour, world, dies):
    """Give a step with a compensation; both are cut off as often as *dies* says."""

    def effect(name):
        world.add(name)
        if dies.get(name, 0) > 0:
            dies[name] -= 1
            raise Cut
        if name == "fails":
            raise ValueError(name)
        return name.upper()

    @colour.step(compensate=lambda name: effect(f"-{name}"), name="act")
    def act(name: str) -> str:
        return effect(name)

    return act


def leave(colour, function, *args):
    """Leave a run interrupted."""
    with pytest.raises(Cut):
        colour.call(function, *args)


def told(outcomes):
    """Tell outcomes by their class and the id of their run."""
    return [(type(outcome).__name__, outcome.run.id) for outcome in outcomes]


def test_what_was_interrupted_goes_on_and_its_outcomes_are_returned(colour, make_runtime, act, dies, world):
    """The oldest run first, with stored arguments; a second call finds nothing."""

    @colour.saga(key="{name}", name="trip")
    def trip(name: str, then: str):
        yield act(name)
        yield act("cut")
        return (yield act(then))

    for name, then in (("a", "ends"), ("b", "fails"), ("c", "ends")):
        dies["cut"] = 1
        leave(colour, trip.using(runtime=make_runtime()), name, then)
    outcomes = resume_all([trip.using(runtime=make_runtime())])
    assert told(outcomes) == [("Completed", "trip/a"), ("Compensated", "trip/b"), ("Completed", "trip/c")]
    match outcomes:
        case (Completed("ENDS", run=run), Compensated(ValueError(), ("act#2", "act")), Completed()):
            assert run.status == "completed"
        case _:
            pytest.fail(f"{outcomes}")
    assert world.effects[:6] == ["a", "cut", "b", "cut", "c", "cut"]
    assert world.effects[6:] == ["cut", "ends", "cut", "fails", "-cut", "-b", "cut", "ends"]
    assert resume_all(trip.using(runtime=make_runtime())) == ()


def test_a_run_that_was_compensating_goes_on_compensating(colour, make_runtime, act, dies, world):
    """Its outcome is the failure that made it compensate."""
    dies["-a"] = 1

    @colour.saga(key="k", name="trip")
    def trip():
        yield act("a")
        yield act("fails")

    leave(colour, trip.using(runtime=make_runtime()))
    (outcome,) = resume_all(trip.using(runtime=make_runtime()))
    assert outcome.error.args == ("fails",)
    assert world == ["a", "fails", "-a", "-a"]


def test_what_a_person_decides_or_somebody_has_is_left_alone(colour, make_runtime, act, dies, world):
    """Paused, stuck, finished, owned by a living process, of another saga, forbidden to go on: nothing of them."""

    def stuck(name):
        raise OSError(name)

    @colour.step(compensate=sagadsl.Compensation(stuck, retries=0))
    def odd(name: str) -> None:
        world.add(name)

    @colour.saga(key="{name}", name="trip")
    def trip(name: str):
        yield act(name)
        yield odd("odd") if name == "stuck" else act("x")
        yield act("cut") if name in {"owned", "never"} else act("y")
        if name in {"stuck", "paused"}:
            raise ValueError(name)

    runtime = make_runtime()
    flow = trip.using(runtime=runtime)
    colour.call(flow, "well")
    assert isinstance(colour.call(flow.outcome, "stuck"), CompensationFailed)
    assert isinstance(colour.call(flow.using(on_failure="pause").outcome, "paused"), Suspended)
    leave(colour, flow, "owned")
    owner, row = make_runtime().journal(), runtime.journal().runs(id="trip/owned")[0]
    assert owner.hold(row.lock)
    dies["cut"] = 1
    leave(colour, flow, "never")
    before = world.effects

    @colour.saga(name="trip")
    def of_another_module(name: str):
        world.add("another")
        yield act(name)

    of_another_module._self_spec.module = "elsewhere"
    assert resume_all([of_another_module.using(runtime=make_runtime())]) == ()
    assert resume_all(flow.using(resume="never")) == ()
    assert told(resume_all(flow)) == [("Completed", "trip/never")]
    assert world.effects[len(before) :] == ["cut"]
    owner.release(row.lock)
    assert told(resume_all(flow)) == [("Completed", "trip/owned")]
    assert {(run.id, str(run.status)) for run in runtime.runs()} == {
        *(("trip/well", "completed"), ("trip/stuck", "compensation_failed"), ("trip/paused", "paused")),
        *(("trip/owned", "completed"), ("trip/never", "completed")),
    }


def test_a_run_that_cannot_go_on_is_said_and_does_not_stop_the_others(colour, make_runtime, act, dies, world, caplog):
    """Changed code, a missing live argument, a store that is none, an exit: nothing is raised."""
    changed = [False]

    @colour.saga(key="{name}", name="trip")
    def trip(name: str):
        yield act("other" if name == "changed" and changed[0] else name)
        yield act("cut")
        if name == "exits":
            raise SystemExit(3)

    @colour.saga(key="k", live=("client",), name="lives")
    def lives(client: object):
        yield act("cut")

    @colour.saga(key="k", name="lost")
    def lost():
        yield act("never")

    for name in ("changed", "exits", "well"):
        dies["cut"] = 1
        leave(colour, trip.using(runtime=make_runtime()), name)
    dies["cut"] = 1
    leave(colour, lives.using(runtime=make_runtime()), object())
    changed[0] = True
    caplog.clear()
    runtime = make_runtime()
    sagas = [each.using(runtime=runtime) for each in (lives, trip)]
    missing = lost.using(store=world.path)  # a text
    assert told(resume_all([missing, *sagas])) == [("Completed", "trip/well")]
    lines = [record.getMessage() for record in caplog.records if "was not gone on with" in record.getMessage()]
    assert [line.partition(" was not gone on with: ")[0] for line in lines] == [
        "lost", "lives/k", "trip/changed", "trip/exits",
    ]  # fmt: skip
    for line, says in zip(
        lines, ("JournalError", "needs the live argument client", "ReplayError", "SystemExit: 3"), strict=True
    ):
        assert says in line
    assert world.effects[-2:] == ["cut", "cut"]  # of trip/exits and trip/well
    assert {run.id for run in runtime.runs(status="interrupted")} == {"lives/k", "trip/changed", "trip/exits"}


def test_a_damaged_run_is_said(colour, make_runtime, act, caplog):
    """It cannot even be looked at."""

    @colour.saga(key="k", name="trip")
    def trip():
        yield act("cut")

    leave(colour, trip.using(runtime=make_runtime()))
    runtime = make_runtime()
    runtime.journal()._read("update entries set arguments = '{}' where number = 1 and seq = 2", ())
    assert resume_all(trip.using(runtime=runtime)) == ()
    assert "trip/k was not gone on with: JournalError" in caplog.text


# -- no crash loop ----------------------------------------------------------------------------------------------------


def test_a_run_that_is_interrupted_again_and_again_is_paused(colour, make_runtime, act, dies, world):
    """Five times at one step; going on with it by hand starts the count again."""
    dies |= {"cut": 1000, "earlier": 2}

    @colour.saga(key="k", name="trip")
    def trip():
        yield act("earlier")
        yield act("cut")
        return "arrived"

    def again():
        return resume_all(trip.using(runtime=make_runtime()))

    leave(colour, trip.using(runtime=make_runtime()))
    for _ in range(6):
        assert again() == ()  # interrupted once more
    assert world == ["earlier"] * 3 + ["cut"] * 5
    (outcome,) = again()
    assert isinstance(outcome, Suspended)
    assert outcome.reason == "InterruptedError: interrupted 5 times at act#2 without getting any further"
    assert (outcome.status, outcome.exit_code, outcome.run.id) == ("paused", 6, "trip/k")
    run = make_runtime().find("trip/k")
    assert (run.status, run.error.message) == ("paused", "interrupted 5 times at act#2 without getting any further")
    assert again() == ()
    assert world.effects[8:] == []

    leave(colour, trip.using(runtime=make_runtime()))  # by hand: the count starts again
    for _ in range(4):
        assert again() == ()
    assert world.effects[8:] == ["cut"] * 5
    assert isinstance(again()[0], Suspended)
    dies.clear()
    assert colour.run(make_runtime().find("trip/k").resume()) == "arrived"


@pytest.mark.parametrize("where", ["body", "child", "look"])
def test_a_death_outside_of_what_is_recorded_counts_too(where, colour, make_runtime, act, world):
    """In the body, in that of a child, in a step that only looks: no entry follows the one that says who has it."""

    def dies_here():
        world.add("dies")
        raise Cut

    look = colour.step(read_only=True, name="look")(dies_here)

    @colour.saga(name="child")
    def child():
        yield act("b")
        dies_here()

    @colour.saga(key="k", name="trip")
    def trip():
        yield act("a")
        yield {"body": dies_here, "child": child, "look": look}[where]()

    leave(colour, trip.using(runtime=make_runtime()))
    for _ in range(4):
        assert resume_all(trip.using(runtime=make_runtime())) == ()
    (outcome,) = resume_all(trip.using(runtime=make_runtime()))
    assert isinstance(outcome, Suspended)
    assert outcome.reason.endswith("interrupted 5 times without getting any further")
    assert resume_all(trip.using(runtime=make_runtime())) == ()
    assert world.effects.count("dies") == 5


def test_a_death_in_a_branch_counts_though_others_have_not_come_to_what_they_have_done(make_runtime, world):
    """They may be slower than last time: a service that such a run kills at its start would never start again."""
    lives, dead = [], threading.Event()

    @sagadsl.step(compensate=None)
    def act(name: str) -> None:
        world.add(name)

    def dies() -> None:
        act("a")
        world.add("dies")
        dead.set()
        raise Cut

    def slow() -> None:
        if lives[1:]:
            dead.wait()
            raise Cut  # with the process
        act("b")

    @sagadsl.saga(key="k", name="trip")
    def trip() -> None:
        lives.append(dead.clear())
        sagadsl.parallel(dies, slow)

    with pytest.raises(Cut):
        trip.using(runtime=make_runtime())()
    for _ in range(4):
        assert resume_all(trip.using(runtime=make_runtime())) == ()
    (outcome,) = resume_all(trip.using(runtime=make_runtime()))
    assert isinstance(outcome, Suspended)
    assert sorted(world.effects) == ["a", "b", *["dies"] * 5]


def test_what_cannot_go_on_is_not_interrupted(colour, make_runtime, act, dies, world):
    """However often it is tried: nothing is written as long as the code does not do what is on record."""
    wanted = ["cut"]

    @colour.saga(key="k", name="trip")
    def trip():
        yield act("first")
        yield act(wanted[0])

    leave(colour, trip.using(runtime=make_runtime()))
    wanted[0] = "else"
    runtime = make_runtime()
    for _ in range(8):
        assert resume_all(trip.using(runtime=runtime)) == ()
    wanted[0] = "cut"
    assert told(resume_all(trip.using(runtime=runtime))) == [("Completed", "trip/k")]
    assert world == ["first", "cut", "cut"]
    kinds = [entry.kind for entry in runtime.journal().entries(1)]
    assert kinds.count(Kind.TAKEN) == 1


def test_what_gets_further_each_time_is_never_paused(colour, make_runtime, act, dies, world):
    """However often it is interrupted."""
    steps = [f"s{number}" for number in range(8)]
    dies |= dict.fromkeys(steps, 2)

    @colour.saga(key="k", name="trip")
    def trip():
        for name in steps:
            yield act(name)
        return "arrived"

    leave(colour, trip.using(runtime=make_runtime()))
    ended = [resume_all(trip.using(runtime=make_runtime())) for _ in range(16)]
    assert ended[:-1] == [()] * 15
    assert ended[-1][0].value == "arrived"
    assert world == [name for name in steps for _ in range(3)]


def test_a_probe_that_says_no_each_time_is_no_way_to_get_further(colour, make_runtime, world):
    """It is asked again, and the step is entered again, and the count goes on."""

    @colour.step(compensate=None, probe=lambda: sagadsl.NotLanded())
    def act() -> None:
        world.add("act")
        raise Cut

    @colour.saga(key="k", name="trip")
    def trip():
        yield act()

    leave(colour, trip.using(runtime=make_runtime()))
    for _ in range(4):
        assert resume_all(trip.using(runtime=make_runtime())) == ()
    assert isinstance(resume_all(trip.using(runtime=make_runtime()))[0], Suspended)
    assert world == ["act"] * 5


def test_a_compensation_that_is_interrupted_again_and_again_has_failed(colour, make_runtime, act, dies, world):
    """A run that compensates cannot pause; a person finds it where a failed compensation is found."""
    dies["-b"] = 5

    @colour.saga(key="k", name="trip")
    def trip():
        yield act("a")
        yield act("b")
        raise ValueError("no")

    leave(colour, trip.using(runtime=make_runtime()))
    for _ in range(4):
        assert resume_all(trip.using(runtime=make_runtime())) == ()
    match resume_all(trip.using(runtime=make_runtime())):
        case (CompensationFailed(ValueError(), InterruptedError() as why, "act#2", (), ("act",), run=run),):
            assert str(why) == "interrupted 5 times at act#2 without getting any further"
            assert (run.status, run.cause, run.error.message) == ("compensation_failed", "failure", "no")
        case other:
            pytest.fail(f"{other}")
    assert resume_all(trip.using(runtime=make_runtime())) == ()
    assert colour.run(make_runtime().find("trip/k").compensate()).status == "compensated"
    assert world == ["a", "b", *["-b"] * 6, "-a"]


def test_a_compensation_on_request_that_is_interrupted_again_and_again_has_failed(colour, make_runtime, act, dies):
    """Then no exception of the body's is known."""
    dies |= {"-b": 5, "b": 1}

    @colour.saga(key="k", name="trip")
    def trip():
        yield act("b")

    leave(colour, trip.using(runtime=make_runtime()))
    with pytest.raises(Cut):
        colour.run(make_runtime().find("trip/k").compensate())
    for _ in range(4):
        assert resume_all(trip.using(runtime=make_runtime())) == ()
    (outcome,) = resume_all(trip.using(runtime=make_runtime()))
    assert isinstance(outcome, CompensationFailed)
    assert isinstance(outcome.error, InterruptedError)
    assert outcome.run.cause == "request"


def test_a_run_that_somebody_takes_meanwhile_is_theirs(colour, make_runtime, act, monkeypatch):
    """Between the look and the hold."""

    @colour.saga(key="k", name="trip")
    def trip():
        yield act("cut")

    leave(colour, trip.using(runtime=make_runtime()))
    runtime, owner = make_runtime(), make_runtime().journal()
    hold = runtime.journal().hold

    def late(number):
        assert owner.hold(number)
        return hold(number)

    monkeypatch.setattr(runtime.journal(), "hold", late)
    assert resume_all(trip.using(runtime=runtime)) == ()
    owner.release(1)
    monkeypatch.undo()
    assert told(resume_all(trip.using(runtime=runtime))) == [("Completed", "trip/k")]


# -- sagas, colours, loops --------------------------------------------------------------------------------------------


def test_a_method_goes_on_with_the_instance_it_is_bound_to(make_runtime, world):
    """Where nobody names the instance, the saga cannot be called, which is said."""

    class Shop:
        def __init__(self):
            self.dies = True

        @sagadsl.step(compensate=None)
        def pack(self, name: str) -> str:
            world.add(name)
            if self.dies:
                self.dies = False
                raise Cut
            return name

        @sagadsl.saga(key="k", name="order")
        def order(self, name: str) -> str:
            return self.pack(name)

    shop = Shop()
    with pytest.raises(Cut):
        shop.order.using(runtime=make_runtime())("lamp")
    (outcome,) = resume_all([shop.order.using(runtime=make_runtime())])
    assert outcome.value == "lamp"
    assert world == ["lamp", "lamp"]


def test_what_is_no_saga_is_refused():
    """On the line of the call."""
    for wrong in (len, [len], "trip"):
        with pytest.raises(UsageError, match="takes functions decorated with @saga, not "):
            resume_all(wrong)
    for every in (0, -1, "often"):
        with pytest.raises(UsageError, match="seconds or a timedelta, more than zero"):
            resume_all([], every=every)


def test_it_belongs_where_the_program_starts(runtime):
    """Not in a saga, and not where it would block a loop."""

    @sagadsl.saga(runtime=runtime)
    def flow():
        resume_all([])

    with pytest.raises(UsageError, match="is called inside a saga"):
        flow()

    async def starts():
        resume_all([])

    with pytest.raises(UsageError, match=r"await sagadsl.aio.resume_all\(\), or give every="):
        asyncio.run(starts())


def test_a_service_with_a_loop_goes_on_in_a_thread(colour, make_runtime, act, world):
    """Both ways that the error names."""

    @colour.saga(key="{name}", name="trip")
    def trip(name: str):
        yield act(name)
        return (yield act("cut"))

    leave(colour, trip.using(runtime=make_runtime()), "a")

    async def starts():
        return await asyncio.to_thread(resume_all, [trip.using(runtime=make_runtime())])

    assert told(asyncio.run(starts())) == [("Completed", "trip/a")]

    async def starts_behind():
        with resume_all([trip.using(runtime=make_runtime())], every=3600) as behind:
            return await asyncio.to_thread(behind.wait)

    assert asyncio.run(starts_behind()) == ()


def test_a_service_goes_on_in_its_own_loop(colour, make_runtime, act, dies, world, caplog):
    """What is bound to the loop works; a saga that is no ``async def`` does not block it; a run that cannot is said."""
    loops = []

    @colour.step(compensate=None)
    def looks() -> None:
        try:
            loops.append(asyncio.get_running_loop())
        except RuntimeError:
            loops.append(threading.current_thread())

    @colour.saga(key="{name}", name="trip")
    def trip(name: str):
        yield act("cut")
        yield looks()
        return (yield act(name))

    @colour.saga(key="k", live=("client",), name="lives")
    def lives(client: object):
        yield act("cut")

    for name in ("a", "fails"):
        dies["cut"] = 1
        leave(colour, trip.using(runtime=make_runtime()), name)
    dies["cut"] = 1
    leave(colour, lives.using(runtime=make_runtime()), object())

    async def starts():
        loops.clear()
        here = asyncio.get_running_loop() if colour.is_async else threading.current_thread()
        runtime = make_runtime()
        ended = await sagadsl.aio.resume_all([each.using(runtime=runtime) for each in (lives, trip)])
        return ended, [each is here for each in loops]

    ended, is_here = asyncio.run(starts())
    assert told(ended) == [("Completed", "trip/a"), ("Compensated", "trip/fails")]
    assert is_here == [colour.is_async] * 2
    assert "lives/k was not gone on with: UsageError" in caplog.text
    assert world.effects[-5:] == ["cut", "a", "cut", "fails", "-cut"]
    with pytest.raises(UsageError, match="more than zero"):
        asyncio.run(sagadsl.aio.resume_all(every=0))


def test_a_task_goes_on_every_so_often_until_it_is_cancelled(colour, make_runtime, act, dies, world):
    """The handle is the task."""
    runtime = make_runtime()

    @colour.saga(key="{name}", name="trip", runtime=runtime)
    def trip(name: str):
        yield act("cut")
        return (yield act(name))

    async def serves():
        behind = await sagadsl.aio.resume_all(trip, every=timedelta(milliseconds=1))
        for name in "ab":
            dies["cut"] = 1
            await asyncio.to_thread(leave, colour, trip, name)
            while not world.effects or world.effects[-1] != name:  # noqa: ASYNC110  # another process's file, as it were
                await asyncio.sleep(0)
        behind.cancel()
        with pytest.raises(asyncio.CancelledError):
            await behind

    asyncio.run(serves())
    assert world == ["cut", "cut", "a", "cut", "cut", "b"]


def test_cancelled_it_begins_nothing_more_and_leaves_the_run_open(make_runtime, world):
    """The cancellation is the caller's, and goes on to it; one that a body makes itself is the run's own matter."""
    entered = []

    @sagadsl.step(compensate=None)
    async def waits(name: str) -> None:
        world.add(name)
        entered.append(name)
        if len(entered) < 3:
            raise Cut
        if name == "own":
            raise asyncio.CancelledError
        await asyncio.get_running_loop().create_future()

    @sagadsl.saga(key="{name}", name="trip")
    async def trip(name: str) -> None:
        await waits(name)

    for name in ("own", "b"):
        with pytest.raises(Cut):
            asyncio.run(trip.using(runtime=make_runtime())(name))

    async def starts():
        behind = asyncio.create_task(sagadsl.aio.resume_all(trip.using(runtime=make_runtime())))
        while len(entered) < 4:  # noqa: ASYNC110  # a step has no event of its own
            await asyncio.sleep(0)
        behind.cancel()
        await behind

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(starts())
    assert world == ["own", "b", "own", "b"]
    assert [run.is_interrupted for run in make_runtime().runs()] == [True, True]


def test_a_ctrl_c_stops_it(colour, make_runtime, act, dies, world):
    """What is on its way is left interrupted like any run; the rest is not begun."""
    pressed = [True]

    @colour.step(compensate=None)
    def waits() -> None:
        if pressed:
            pressed.clear()
            raise KeyboardInterrupt

    @colour.saga(key="{name}", name="trip")
    def trip(name: str):
        yield act("cut")
        yield waits()
        yield act(name)

    for name in "ab":
        dies["cut"] = 1
        leave(colour, trip.using(runtime=make_runtime()), name)
    with pytest.raises(KeyboardInterrupt):
        resume_all(trip.using(runtime=make_runtime()))
    assert told(resume_all(trip.using(runtime=make_runtime()))) == [("Completed", "trip/a"), ("Completed", "trip/b")]
    assert world == ["cut", "cut", "cut", "a", "cut", "b"]


# -- in the background ------------------------------------------------------------------------------------------------


def test_every_so_often_a_thread_goes_on_with_what_is_there(colour, make_runtime, act, dies, world, caplog):
    """What cannot go on is said once, not each time; the last round's outcomes are kept."""
    runtime = make_runtime()

    @colour.saga(key="{name}", name="trip", runtime=runtime)
    def trip(name: str):
        yield act("cut")
        return (yield act(name))

    @colour.saga(key="k", live=("client",), name="lives", runtime=runtime)
    def lives(client: object):
        yield act("cut")

    leave(colour, lives, object())
    dies["cut"] = 1
    leave(colour, trip, "a")
    caplog.clear()
    behind = resume_all([lives, trip], every=timedelta(milliseconds=1))
    behind.wait(timeout=60)
    dies["cut"] = 1
    leave(colour, trip, "b")
    while world.effects[-1] != "b":
        behind.wait(timeout=60)
    behind.stop()
    assert not [t for t in threading.enumerate() if t.name == "sagadsl resume_all"]
    assert behind.wait() == behind.outcomes
    assert sum("was not gone on with" in record.getMessage() for record in caplog.records) == 1
    assert [str(run.status) for run in runtime.runs(saga="trip")] == ["completed", "completed"]


def test_stopping_begins_nothing_more_and_waits_for_what_is_under_way(make_runtime, world):
    """Also from inside the run that is under way."""
    handles, handed, runtime, dies = [], threading.Event(), make_runtime(), [True, True]

    @sagadsl.step(compensate=None)
    def act(name: str) -> str:
        world.add(name)
        if dies:
            dies.pop()
            raise Cut
        handed.wait(60)
        handles[0].stop()
        return name

    @sagadsl.saga(key="{name}", name="trip", runtime=runtime)
    def trip(name: str) -> str:
        return act(name)

    for name in "ab":
        with pytest.raises(Cut):
            trip(name)
    handles.append(resume_all([trip], every=0.001))
    handed.set()
    handles[0].stop()
    assert told(handles[0].outcomes) == [("Completed", "trip/a")]
    assert world == ["a", "b", "a"]
    assert runtime.find("trip/b").is_interrupted


def test_an_interruption_in_the_thread_does_not_end_it(make_runtime, world, caplog):
    """It is the run's affair; the others go on."""
    runtime, dies = make_runtime(), [Cut, Cut, KeyboardInterrupt]

    @sagadsl.step(compensate=None)
    def act(name: str) -> str:
        world.add(name)
        if dies:
            raise dies.pop(0)
        return name

    @sagadsl.saga(key="{name}", name="trip", runtime=runtime)
    def trip(name: str) -> str:
        return act(name)

    for name in "ab":
        with pytest.raises(Cut):
            trip(name)
    with resume_all(trip, every=3600) as behind:
        behind.wait(timeout=60)
    assert told(behind.outcomes) == [("Completed", "trip/b")]
    assert world == ["a", "b", "a", "b"]
    assert "trip/a was not gone on with: KeyboardInterrupt" in caplog.text


# -- real kills -------------------------------------------------------------------------------------------------------

SCRIPT = """
import os, signal, sys
import sagadsl
from sagadsl import resume_all, saga, step

def effect(name):
    with open("world.txt", "a") as file:
        print(name, file=file)

@step(compensate=lambda name: effect("-" + name), name="book")
def book(name):
    effect(name)
    if os.environ.get("DIE") == name:
        os.kill(os.getpid(), signal.SIGKILL)
    return name

@saga
def trip(name):
    book("train")
    if name == "nowhere":
        effect(name)
        os.kill(os.getpid(), signal.SIGKILL)
    return book(name)

@saga
async def atrip(name):
    book("boat")
    return book(name)

if __name__ == "__main__":
    if sys.argv[1] == "start":
        for outcome in resume_all():
            print(type(outcome).__name__, outcome.run.saga, getattr(outcome, "value", None))
    elif sys.argv[1] == "atrip":
        import asyncio
        asyncio.run(atrip(sys.argv[2]))
    else:
        trip(sys.argv[2])
"""


def run_script(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a person or a service manager would, in its folder."""
    (folder / "trips.py").write_text(SCRIPT)
    variables = os.environ | {"PYTHONPATH": str(Path(sagadsl.__file__).parents[1])} | environment
    command = [sys.executable, "trips.py", *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


def test_killed_runs_go_on_when_the_program_starts_again(tmp_path):
    """Of every saga that the program has at module level, in both colours, in a process of its own."""
    for saga in ("trip", "atrip"):
        assert run_script(tmp_path, saga, "hotel", DIE="hotel").returncode == -signal.SIGKILL
    started = run_script(tmp_path, "start")
    assert sorted(started.stdout.splitlines()) == ["Completed atrip hotel", "Completed trip hotel"], started.stderr
    effects = (tmp_path / "world.txt").read_text().split()
    assert effects[:4] == ["train", "hotel", "boat", "hotel"]
    assert effects[4:] == ["hotel", "hotel"]
    assert run_script(tmp_path, "start").stdout == ""


def test_a_program_that_the_body_of_a_run_kills_at_its_start_starts_again(tmp_path):
    """Where no step is under way, five deaths are enough too."""
    assert run_script(tmp_path, "trip", "nowhere").returncode == -signal.SIGKILL
    for _ in range(4):
        assert run_script(tmp_path, "start").returncode == -signal.SIGKILL
    started = run_script(tmp_path, "start")
    assert (started.returncode, started.stdout) == (0, "Suspended trip None\n"), started.stderr
    assert (tmp_path / "world.txt").read_text().split() == ["train", *["nowhere"] * 5]


def test_a_program_that_a_run_kills_at_its_start_starts_again(tmp_path):
    """Five deaths at one step, then the run is left to a person."""
    assert run_script(tmp_path, "trip", "hotel", DIE="hotel").returncode == -signal.SIGKILL
    for _ in range(4):
        assert run_script(tmp_path, "start", DIE="hotel").returncode == -signal.SIGKILL
    started = run_script(tmp_path, "start", DIE="hotel")
    assert (started.returncode, started.stdout) == (0, "Suspended trip None\n"), started.stderr
    assert (tmp_path / "world.txt").read_text().split() == ["train", *["hotel"] * 5]
    again = run_script(tmp_path, "trip", "hotel")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "world.txt").read_text().split() == ["train", *["hotel"] * 6]
