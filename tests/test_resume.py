"""Which run a call means, and going on where an earlier process was cut off."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import attrs
import pytest

import sagadsl
from sagadsl import ReplayError, RunConflictError, RunLockedError, RunLostError, SuspendedError, Unknown


class Cut(BaseException):
    """A process that dies, as far as a body can tell."""


@pytest.fixture
def act(colour, world):
    """Give a step with a compensation."""

    @colour.step(compensate=lambda name: world.add(f"-{name}"), name="act")
    def act(name: str) -> str:
        world.add(name)
        return name.upper()

    return act


@pytest.fixture
def cut(colour, world):
    """Give a step whose first attempt is interrupted after its effect."""

    @colour.step(compensate=lambda: world.add("-cut"), name="cut")
    def cut() -> None:
        world.add(f"cut{sagadsl.current().attempt}")
        if sagadsl.current().attempt == 1:
            raise Cut

    return cut


def test_an_interrupted_run_goes_on_with_what_is_recorded(colour, make_runtime, act, cut, world, caplog):
    """Equal arguments adopt it, and one line says so; the step that was cut off is entered again."""
    seen = []

    @colour.saga
    def trip(name: str):
        seen.append((yield act(name)))
        yield cut()
        return (yield act("c"))

    with pytest.raises(Cut):
        colour.call(trip.using(runtime=make_runtime()), "a")
    caplog.clear()
    assert colour.call(trip.using(runtime=make_runtime()), "a") == "C"
    assert world == ["a", "cut1", "cut2", "c"]
    assert seen == ["A", "A"]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    run = make_runtime().runs()[0]
    expected = f"resuming {run.id[:9]}, cut off less than a second ago: 1 step recorded, 2 cut is tried again"
    assert lines == [expected]
    assert [(s.key, s.attempts, s.status) for s in run.steps] == [
        ("act", 1, "done"),
        ("cut", 2, "done"),
        ("act#2", 1, "done"),
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "1 cut is tried again"),
        ({"on_uncertain": "compensate"}, "1 cut was cut off, and counts as failed"),
        ({"on_uncertain": "pause"}, "1 cut was cut off, which pauses the run"),
        ({"on_uncertain": "pause", "probe": lambda: Unknown()}, "1 cut may have happened: its probe is asked"),
    ],
)
def test_going_on_says_what_becomes_of_what_was_cut_off(options, said, make_runtime, caplog):
    """As the step was decorated, not that it is tried again where that is forbidden."""

    @sagadsl.step(compensate=None, **options)
    def cut():
        if sagadsl.current().attempt == 1:
            raise Cut

    @sagadsl.saga(key="k")
    def trip():
        cut()

    with pytest.raises(Cut):
        trip.using(runtime=make_runtime())()
    caplog.clear()
    outcome = trip.using(runtime=make_runtime()).outcome()
    assert caplog.messages[0].endswith(f" ago: 0 steps recorded, {said}")
    if outcome.run.status == "paused":  # whoever goes on decides that it is entered again, and reads so before
        before = (
            "  go on       cut is entered again, unless its probe knows that it has happened: sagadsl resume trip/k"
        )
        assert before in outcome.run.report()
        assert trip.using(runtime=make_runtime()).outcome().run.steps[0].attempts == 2


def test_the_age_of_a_run_is_that_of_its_latest_attempt(make_runtime, clock, caplog):
    """Not of the first one, which was cut off long before."""

    @sagadsl.step(compensate=None)
    def cut():
        if sagadsl.current().attempt < 3:
            raise Cut

    @sagadsl.saga(key="k")
    def trip():
        cut()

    for seconds in (7200, 60):
        with pytest.raises(Cut):
            trip.using(runtime=make_runtime())()
        clock.sleep(seconds)
    trip.using(runtime=make_runtime())()
    ages = [line.partition(" ago")[0].partition("cut off ")[2] for line in caplog.messages if "resuming" in line]
    assert ages == ["2 hours", "1 minute"]


def test_a_step_has_its_number_where_it_follows_what_is_recorded(make_runtime, caplog):
    """What overlapped is recorded after what was cut off: two numbers of different counts would say nothing."""

    @sagadsl.step
    def act(name):
        if name == "a" and done.wait(30) and len(entered) == 1:
            raise Cut

    def first():
        entered.append("a")
        act("a")

    def second():
        act("b")
        done.set()

    entered, done = [], threading.Event()

    @sagadsl.saga(key="k")
    def trip():
        sagadsl.parallel(first, second)

    with pytest.raises(Cut):
        trip.using(runtime=make_runtime())()
    caplog.clear()
    trip.using(runtime=make_runtime())()
    assert caplog.messages[0].endswith(" ago: 1 step recorded, parallel/1/act is tried again")


def test_what_failed_and_is_tried_again_is_not_counted_as_recorded(colour, make_runtime, act, caplog):
    """A run that its failure paused says what stands and where it goes on."""
    mended = []

    @colour.step(compensate=None)
    def break_down() -> None:
        if not mended:
            raise OSError

    @colour.saga(on_failure="pause")
    def trip():
        yield act("a")
        yield break_down()

    with pytest.raises(sagadsl.SuspendedError):
        colour.call(trip.using(runtime=make_runtime()))
    mended.append(True)
    caplog.clear()
    colour.call(trip.using(runtime=make_runtime()))
    assert "paused by a failure" in caplog.text
    assert "1 step recorded, 2 break_down is tried again" in caplog.text


@pytest.mark.parametrize("child_pauses", [True, False])
def test_what_failed_in_a_child_is_told_too(colour, make_runtime, act, caplog, world, child_pauses):
    """A child that paused goes on where it failed; one that its failure compensated is run afresh."""
    mended = []

    @colour.step
    def break_down() -> None:
        world.add("down")
        if not mended:
            raise OSError

    @colour.saga(on_failure="pause" if child_pauses else "compensate")
    def child():
        yield act("a")
        yield break_down()

    @colour.saga(on_failure="pause")
    def parent():
        yield child()
        yield act("c")

    with pytest.raises(sagadsl.SuspendedError):
        colour.call(parent.using(runtime=make_runtime()))
    mended.append(True)
    caplog.clear()
    colour.call(parent.using(runtime=make_runtime()))
    assert world == (["a", "down", "down", "c"] if child_pauses else ["a", "down", "-a", "a", "down", "c"])
    said = "1 step recorded, 2 child/break_down" if child_pauses else "0 steps recorded, child"
    assert caplog.messages[0].endswith(f" ago: {said} is tried again")


def test_other_arguments_are_another_run_and_the_warning_says_what_that_means(
    colour, make_runtime, act, cut, world, caplog
):
    """A keyless saga that runs again before an interrupted one of its program cannot tell them apart."""

    @colour.saga
    def trip(name: str):
        yield act(name)
        yield cut()

    for name in ("a", "b"):
        with pytest.raises(Cut):
            colour.call(trip.using(runtime=make_runtime()), name)
    assert world == ["a", "cut1", "b", "cut1"]
    assert "calls them from one parent saga" in caplog.text


def test_an_unfinished_run_is_warned_of_once(make_runtime, caplog):
    """However many others of its program follow, and by the true word for one that waits for a person, too."""

    @sagadsl.saga
    def sell(fails: bool) -> None:
        if fails:
            raise ValueError

    runtime = make_runtime()
    with pytest.raises(sagadsl.SuspendedError):
        sell.using(runtime=runtime, key="k", on_failure="pause")(fails=True)
    caplog.clear()
    for _ in range(3):
        sell.using(runtime=runtime)(fails=False)
    told = [r.getMessage().partition(".")[0] for r in caplog.records if r.levelname == "WARNING"]
    why = "its arguments differ: fails was True, is False"
    assert told == [f"sell/k of this program is paused, and another run of sell starts, for {why}"]


def test_the_warning_says_why_a_call_is_not_that_run_and_what_to_type(make_runtime, caplog):
    """A parameter with a default that is new, and one that is gone, are enough; what compensates is not resumed."""

    def flow(town: str, old: int = 1) -> None:
        undone()

    def later(town: str, new: int = 2) -> None:
        undone()

    def undo() -> None:
        if cut:
            raise Cut

    @sagadsl.step(compensate=undo)
    def undone() -> None:
        if not cut:
            raise Cut
        raise ValueError

    cut = []
    with pytest.raises(Cut):
        sagadsl.saga(name="flow")(flow).using(runtime=make_runtime())("Rome")
    with pytest.raises(Cut):
        sagadsl.saga(name="flow")(later).using(runtime=make_runtime())("Rome")
    (run,) = make_runtime().runs(status="open")[1:]
    store = f"{run.id} --db {make_runtime().journal().name}"
    starts = f"{run.id[:9]} of this program is interrupted, and another run of flow starts"
    typed = f"Go on with that one: sagadsl resume {store}   Compensate it: sagadsl compensate {store}   "
    (line,) = caplog.messages[1:-1]
    assert line.startswith(f"{starts}, for its arguments differ: old is gone; new is new. {typed}A script")


def test_of_a_block_the_warning_says_that_its_program_alone_goes_on_with_it(make_runtime, caplog):
    """Its body stands there, and no command has it."""

    @sagadsl.saga
    def sell() -> None:
        return None

    runtime = make_runtime()
    with contextlib.suppress(Cut), sagadsl.saga("nightly", key="k", runtime=runtime) as run:
        run.step(len)("a")
        raise Cut
    caplog.clear()
    sell.using(runtime=runtime)()
    (line,) = caplog.messages[:1]
    assert "another run of sell starts. Go on with that one: run the program again   Compensate it: " in line


@pytest.mark.parametrize("damage", [False, True])
def test_of_another_saga_the_warning_says_where_its_run_stands(make_runtime, caplog, damage):
    """It may be compensating, or not readable; neither keeps this one from being run."""

    def undo() -> None:
        raise Cut

    @sagadsl.step(compensate=undo)
    def act() -> None:
        raise sagadsl.StepTimeout("act", 1)

    @sagadsl.saga
    def first() -> None:
        act()

    @sagadsl.saga
    def second() -> None:
        pass

    with pytest.raises(Cut):
        first.using(runtime=make_runtime(), key="k")()
    if damage:
        with contextlib.closing(sqlite3.connect(make_runtime().journal().name)) as connection, connection:
            connection.execute("update entries set kind = 'odd' where seq = 2")
    caplog.clear()
    second.using(runtime=make_runtime())()
    words = "unfinished" if damage else "interrupted while compensating"
    (line,) = caplog.messages
    assert line.startswith(f"first/k of this program is {words}, and another run of second starts. Compensate it: ")


def test_with_resume_key_a_keyless_call_adopts_nothing(colour, make_runtime, act, cut, world):
    """What services want."""

    @colour.saga
    def trip():
        yield act("a")
        yield cut()

    for _ in range(2):
        with pytest.raises(Cut):
            colour.call(trip.using(runtime=make_runtime(resume="key")))
    assert world == ["a", "cut1", "a", "cut1"]


def test_a_completed_key_gives_the_stored_value_and_enters_nothing(colour, make_runtime, act, world):
    """In the same process or another."""

    @colour.saga(key="{name}")
    def trip(name: str):
        world.add("body")
        return (yield act(name))

    assert [colour.call(trip.using(runtime=make_runtime()), "a") for _ in range(3)] == ["A", "A", "A"]
    assert world == ["body", "a"]


@pytest.mark.parametrize("key", ["2026/11", "a#2", "50%", "{order}"])
def test_a_key_is_the_same_run_however_it_is_said(key, make_runtime, world):
    """By the saga's template, by the call, and as a block: so what was done is not done again."""

    @sagadsl.step(compensate=None)
    def pay() -> None:
        world.add("pay")

    @sagadsl.saga(key="{order}", runtime=make_runtime())
    def sell(order: str) -> str:
        pay()
        return sagadsl.current().run.id

    told = sell(key)
    assert sell.using(key=key, runtime=make_runtime())(key) == told
    assert world == ["pay"]
    with sagadsl.saga("sell", key=key, runtime=make_runtime(store=":memory:")) as block:
        assert block.id == told


@pytest.mark.parametrize(
    "key",
    [
        lambda city, nights: f"{city}-{nights}",
        lambda city, /, nights: f"{city}-{nights}",
        lambda nights, city, /: f"{city}-{nights}",
        lambda **arguments: f"{arguments['city']}-{arguments['nights']}",
        lambda city, **others: f"{city}-{others['nights']}",
        lambda *arguments, **named: "-".join(map(str, named.values())),
        partial(lambda glue, city, nights: f"{city}{glue}{nights}", "-"),
    ],
    ids=range(7),
)
def test_a_key_may_be_any_function_of_the_arguments(colour, make_runtime, world, key):
    """It takes them by name, by place, or all that are left; of a step and of a saga."""

    @colour.step(compensate=None, key=key, name="book")
    def book(city: str, nights: int) -> str:
        world.add(f"{city}{nights}")
        return city

    @colour.saga(key=key, name="trip")
    def trip(city: str, nights: int = 2):
        return (yield book(city, nights))

    for city in ("Rome", "Oslo", "Rome"):
        assert colour.call(trip.using(runtime=make_runtime()), city) == city
    assert world == ["Rome2", "Oslo2"]
    assert [(run.id, [step.key for step in run.steps]) for run in make_runtime().runs()] == [
        ("trip/Oslo-2", ["book:Oslo-2"]),
        ("trip/Rome-2", ["book:Rome-2"]),
    ]


def test_a_key_that_is_none_is_refused(colour, runtime, world):
    """It would be one key for all calls: the second would get what the first one did."""

    @colour.step(compensate=None, key=lambda city: None)
    def book(city: str) -> None:
        world.add(city)

    @colour.saga(runtime=runtime)
    def trip(city: str):
        yield book(city)

    @colour.saga(runtime=runtime, key=lambda city: None)
    def keyed(city: str):
        yield book(city)

    for each in (trip, keyed):
        with pytest.raises(sagadsl.UsageError, match="returned None, which tells no call from another"):
            colour.call(each, "Rome")
    assert world == []


def test_a_key_that_failed_and_was_compensated_runs_afresh(colour, make_runtime, act, world):
    """The next generation has new idempotency keys."""
    keys = []

    @colour.step(compensate=None)
    def pay() -> None:
        keys.append(sagadsl.current().idempotency_key)
        if len(keys) == 1:
            raise ValueError("declined")

    @colour.saga(key="k", name="trip")
    def trip():
        yield act("a")
        yield pay()

    with pytest.raises(ValueError, match="declined"):
        colour.call(trip.using(runtime=make_runtime()))
    colour.call(trip.using(runtime=make_runtime()))
    assert world == ["a", "-a", "a"]
    assert keys == ["trip/k/pay", "trip/k~2/pay"]
    assert [(run.id, run.generation, str(run.status)) for run in make_runtime().runs()] == [
        ("trip/k", 2, "completed"),
        ("trip/k", 1, "compensated"),
    ]


def test_the_same_id_with_other_arguments_is_a_conflict_that_names_them(colour, make_runtime, act):
    """Nothing runs."""

    @colour.saga(name="trip")
    def trip(name: str, count: int):
        yield act(name)

    colour.call(trip.using(runtime=make_runtime(), id="t-1"), "a", 1)
    with pytest.raises(RunConflictError, match="name was 'a', is 'b'") as caught:
        colour.call(trip.using(runtime=make_runtime(), id="t-1"), "b", 1)
    assert caught.value.differing == ("name",)

    @colour.saga
    def other(name: str, count: int):
        yield act(name)

    with pytest.raises(RunConflictError, match="belongs to the saga trip"):
        colour.call(other.using(runtime=make_runtime(), id="t-1"), "a", 1)


def test_resume_never_refuses_an_unfinished_key(colour, make_runtime, act, cut):
    """And leaves it as it is."""

    @colour.saga(key="k")
    def trip():
        yield act("a")
        yield cut()

    with pytest.raises(Cut):
        colour.call(trip.using(runtime=make_runtime()))
    with pytest.raises(RunConflictError, match="resume='never'"):
        colour.call(trip.using(runtime=make_runtime(), resume="never"))


def test_a_run_goes_on_by_its_id_with_stored_arguments(colour, make_runtime, act, cut, world):
    """From the saga, or from the run itself; a beginning of the id is enough."""

    @colour.saga(name="voyage")
    def trip(name: str):
        yield act(name)
        yield cut()
        return name

    runtime = make_runtime()
    with pytest.raises(Cut):
        colour.call(trip.using(runtime=runtime), "a")
    run = runtime.runs(status="interrupted")[0]
    assert run.is_interrupted
    assert colour.run(trip.using(runtime=make_runtime()).resume(run.id[:-4])) == "a"
    assert colour.run(run.refresh().resume()) == "a"
    assert world == ["a", "cut1", "cut2"]
    with pytest.raises(RunConflictError, match="is not in"):
        runtime.find("nobody")


def test_an_interrupted_run_can_be_compensated_instead(colour, make_runtime, act, cut, world):
    """The step that was cut off is uncertain, so its compensation is called too."""

    @colour.saga
    def trip():
        yield act("a")
        yield cut()
        yield act("never")

    with pytest.raises(Cut):
        colour.call(trip.using(runtime=make_runtime()))
    run = colour.run(make_runtime().runs()[0].compensate())
    assert world == ["a", "cut1", "-cut", "-a"]
    assert (str(run.status), str(run.cause)) == ("compensated", "request")


def test_a_run_is_compensated_by_the_saga_that_its_code_has_become(colour, make_runtime, act, world):
    """`SAGA.compensate`, beside `SAGA.resume`: also in another module, and bound to an instance."""

    @colour.step(compensate=None)
    def stop() -> None:
        raise Cut

    @colour.saga(name="trip")
    def trip():
        yield act("a")
        yield stop()

    with pytest.raises(Cut):
        colour.call(trip.using(runtime=make_runtime(), id="r"))

    class Office:
        @colour.saga(name="trip")
        def go(self):
            yield act("a")
            yield stop()

    Office.go._self_parent._self_spec.module = "elsewhere"
    runtime = make_runtime()
    run = colour.run(Office().go.using(runtime=runtime).compensate("r"))
    assert (run.status, run.id, run) == ("compensated", "r", runtime.find("r"))
    assert world == ["a", "-a"]
    assert colour.run(trip.using(runtime=runtime).compensate("r")).status == "compensated"
    assert world == ["a", "-a"]


def test_a_run_cut_off_while_compensating_goes_on_compensating(colour, make_runtime, act, world):
    """Forward never again; the original exception comes out, made again from the record."""
    dies = [True]

    def undo(name):
        world.add(f"-{name}")
        if dies.pop() if dies else False:
            raise Cut

    @colour.step(compensate=undo)
    def odd(name: str) -> None:
        world.add(name)

    @colour.saga
    def trip():
        yield act("a")
        yield odd("b")
        yield act("c")
        raise ValueError("no")

    with pytest.raises(Cut):
        colour.call(trip.using(runtime=make_runtime()))
    with pytest.raises(ValueError, match="no"):
        colour.call(trip.using(runtime=make_runtime()))
    assert world == ["a", "b", "c", "-c", "-b", "-b", "-a"]


def test_closures_are_bound_again_when_a_run_goes_on_compensating(colour, make_runtime, world):
    """The body runs over the record up to the first call that is not there."""
    dies = [True]

    def make_step(tag: str):
        def undo(name):
            world.add(f"-{tag}{name}")
            if dies.pop() if dies else False:
                raise Cut

        @colour.step(compensate=undo, name="made")
        def made(name: str) -> None:
            world.add(tag + name)

        return made

    @colour.saga
    def trip():
        yield make_step("x")("1")
        yield make_step("y")("2")
        raise ValueError("no")

    with pytest.raises(Cut):
        colour.call(trip.using(runtime=make_runtime()))
    with pytest.raises(ValueError, match="no"):
        colour.call(trip.using(runtime=make_runtime()))
    assert world == ["x1", "y2", "-y2", "-y2", "-x1"]


def test_a_retry_that_was_waiting_waits_only_the_rest(colour, make_runtime, clock, world):
    """The waiting time is on record, and clamped: a clock that was set back does not wait longer."""

    async def die(_: float) -> None:
        raise Cut

    def die_now(_: float) -> None:
        raise Cut

    @colour.step(compensate=None, retries=sagadsl.Retry(1, wait=10))
    def unsteady() -> int:
        world.add("try")
        if sagadsl.current().attempt == 1:
            raise OSError
        return 1

    @colour.saga
    def trip(gone: float):
        return (yield unsteady())

    for gone, rest in ((4.0, 6.0), (-3600.0, 10.0), (50.0, 0.0)):
        with pytest.raises(Cut):
            colour.call(trip.using(runtime=make_runtime(sleep=die_now, asleep=die)), gone)
        clock.microseconds += int(gone * 1e6)
        clock.slept.clear()
        assert colour.call(trip.using(runtime=make_runtime()), gone) == 1
        assert clock.slept == [pytest.approx(rest, abs=0.01)]


# -- replay differs -------------------------------------------------------------------------------------------------


@pytest.fixture
def edited(colour, make_runtime, act, cut):
    """Run a body until it is cut off, then another in its place, as after an edit."""

    def run(before, after):
        bodies = [before, after]

        @colour.saga(key=after.__name__, name="trip")
        def trip():
            return (yield from bodies[0]())

        with pytest.raises(Cut):
            colour.call(trip.using(runtime=make_runtime()))
        del bodies[0]
        return colour.call(trip.using(runtime=make_runtime()))

    return run


def test_another_step_where_one_is_recorded_is_refused(edited, act, cut, world, make_runtime):
    """Nothing is written; both sequences are shown, the first difference marked, cures named."""

    def before():
        yield act("a")
        yield cut()

    def after():
        yield cut()

    with pytest.raises(ReplayError, match="cut is called where act is recorded") as caught:
        edited(before, after)
    text = str(caught.value)
    assert caught.value.recorded == ("act", "cut")
    assert caught.value.called == ("cut",)
    assert ">>  act" in text
    assert "`key=`" in text
    assert world == ["a", "cut1"]
    assert len(make_runtime().runs()[0].steps) == 2
    assert make_runtime().runs()[0].is_interrupted


def test_a_saga_where_a_step_is_recorded_is_refused(edited, colour, act, cut, world):
    """It is no other than a step that comes there."""

    @colour.saga
    def child():
        yield act("b")

    def before():
        yield act("a")
        yield cut()

    def after():
        yield child()

    with pytest.raises(ReplayError, match="child is called where act is recorded"):
        edited(before, after)
    assert world == ["a", "cut1"]


def test_other_arguments_where_some_are_recorded_are_refused(edited, act, cut, world):
    """A body that computes something else would otherwise get an answer to another question."""

    def before():
        yield act("a")
        yield cut()

    def after():
        yield act("b")

    with pytest.raises(ReplayError, match=r'recorded is \{"name":"a"\}'):
        edited(before, after)
    assert world == ["a", "cut1"]


def test_of_many_calls_that_are_left_over_the_first_are_named(edited, act, cut):
    """The sequences beside the reason have them all."""

    def before():
        for name in "abcdefg":
            yield act(name)
        yield cut()

    def after():
        yield act("a")

    named = "act#2, act#3, act#4, act#5, act#6 and 2 more"
    with pytest.raises(ReplayError, match=f"it ended before {named}\n") as caught:
        edited(before, after)
    assert len(caught.value.recorded) == 8


def test_a_body_that_ends_before_what_is_recorded_is_refused(edited, act, cut, world):
    """Whether it returns or raises: what it would leave behind is still standing."""

    def before():
        yield act("a")
        yield cut()

    def ends():
        yield act("a")

    def raises():
        yield act("a")
        raise ValueError("new")

    with pytest.raises(ReplayError, match="it ended before cut"):
        edited(before, ends)
    with pytest.raises(ReplayError, match="it ended before cut") as caught:
        edited(before, raises)
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_body_cannot_swallow_the_refusal(edited, act, cut, world):
    """The stop is a fact on the run, not an exception one can catch."""

    def before():
        yield act("a")
        yield cut()

    def after():
        try:
            yield cut()
        except BaseException:
            world.add("swallowed")
        yield act("b")

    with pytest.raises(ReplayError):
        edited(before, after)
    assert world == ["a", "cut1", "swallowed"]


def test_a_run_whose_code_changed_can_still_be_compensated(colour, make_runtime, act, cut, world):
    """By functions found where they are bound, as far as the body goes, or by their names."""
    bodies = []

    def before():
        yield act("a")
        yield cut()

    def after():
        yield act("a")
        yield act("other")

    bodies[:] = [before]

    @colour.saga(key="k", name="trip")
    def trip():
        yield from bodies[0]()

    with pytest.raises(Cut):
        colour.call(trip.using(runtime=make_runtime()))
    bodies[:] = [after]
    with pytest.raises(ReplayError):
        colour.call(trip.using(runtime=make_runtime()))
    with pytest.raises(sagadsl.CompensationError, match="is not to be found"):
        colour.run(make_runtime().find("trip/k").compensate())
    bodies[:] = [before]
    assert colour.run(make_runtime().find("trip/k").compensate()).status == "compensated"
    assert world == ["a", "cut1", "-cut", "-a"]


def test_steps_with_keys_may_come_in_any_order(edited, act, cut, world):
    """An explicit key that the journal lacks is new wherever it comes."""

    def before():
        for name in "ab":
            yield act.using(key=name)(name)
        yield cut()

    def after():
        for name in "bca":
            yield act.using(key=name)(name)
        yield cut()

    edited(before, after)
    assert world == ["a", "b", "cut1", "c", "cut2"]


def test_a_recorded_key_with_other_arguments_stands_with_a_warning(edited, act, cut, world, caplog):
    """The record is what happened."""

    def before():
        yield act.using(key="one")("a")
        yield cut()

    def after():
        value = yield act.using(key="one")("b")
        yield cut()
        return value

    assert edited(before, after) == "A"
    assert "act:one" in caplog.text
    assert world == ["a", "cut1", "cut2"]


def test_gathered_calls_find_their_records_whatever_the_timing(make_runtime, world):
    """Identity is fixed by arguments when a step is called, not by who comes first."""
    order = ["a", "b", "c"]

    @sagadsl.step(compensate=None)
    async def act(name: str) -> str:
        await asyncio.sleep(0)
        world.add(name)
        if name == "c" and sagadsl.current().attempt == 1:
            raise Cut
        return name.upper()

    @sagadsl.saga(key="k")
    async def flow() -> dict[str, str]:
        names = list(order)
        return dict(zip(names, await asyncio.gather(*map(act, names)), strict=True))

    with pytest.raises(Cut):
        asyncio.run(flow.using(runtime=make_runtime())())
    order.reverse()
    assert asyncio.run(flow.using(runtime=make_runtime())()) == {"a": "A", "b": "B", "c": "C"}
    assert sorted(world.effects) == ["a", "b", "c", "c"]


# -- interruption ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_interruption_is_not_failure(colour, make_runtime, act, world, interruption, caplog):
    """The run stays open and resumable, nothing is compensated, and the message says how to go on."""
    dies = [True]

    @colour.saga(key="k", name="trip")
    def trip():
        yield act("a")
        if dies:
            raise interruption
        return (yield act("b"))

    with pytest.raises(interruption):
        colour.call(trip.using(runtime=make_runtime()))
    assert world == ["a"]
    assert "Go on: run the program again, or sagadsl resume trip/k" in caplog.text
    assert make_runtime().find("trip/k").is_interrupted
    dies.clear()
    assert colour.call(trip.using(runtime=make_runtime())) == "B"
    assert world == ["a", "b"]


def test_a_cancellation_that_the_body_survived_is_waited_for_on_replay(make_runtime, world):
    """The same branch is taken again, and the step that was cut off is not entered again."""
    runtime = make_runtime(asleep=asyncio.sleep)

    @sagadsl.step(compensate=lambda: world.add("-slow"))
    async def slow() -> None:
        world.add("slow")
        await asyncio.Event().wait()

    @sagadsl.step(compensate=lambda: world.add("-fallback"))
    async def fallback() -> None:
        world.add("fallback")

    @sagadsl.step(compensate=None)
    async def cut() -> None:
        if sagadsl.current().attempt == 1:
            raise Cut

    @sagadsl.saga(key="k", runtime=runtime)
    async def flow(fail: bool) -> str:
        try:
            async with asyncio.timeout(0.1):
                await slow()
        except TimeoutError:
            await fallback()
        await cut()
        if fail:
            raise ValueError("no")
        return "fell back"

    for fail in (False, True):
        with pytest.raises(Cut):
            asyncio.run(flow.using(key=str(fail))(fail))
    assert asyncio.run(flow.using(key="False")(False)) == "fell back"
    assert world == ["slow", "fallback"] * 2
    assert [s.status for s in runtime.find("flow/False").steps] == ["cancelled", "done", "done"]
    with pytest.raises(ValueError, match="no"):
        asyncio.run(flow.using(key="True")(True))
    assert world == ["slow", "fallback", "slow", "fallback", "-fallback", "-slow"]


def test_compensation_is_shielded_from_cancellation(make_runtime, world):
    """It runs to its end; then the cancellation goes through."""
    runtime = make_runtime(asleep=asyncio.sleep)

    async def undo(name: str) -> None:
        task.cancel()
        await asyncio.sleep(0.01)
        world.add(f"-{name}")

    @sagadsl.step(compensate=undo)
    async def act(name: str) -> None:
        world.add(name)

    @sagadsl.saga(key="k", runtime=runtime)
    async def flow() -> None:
        await act("a")
        await act("b")
        raise ValueError("no")

    async def main() -> None:
        nonlocal task
        task = asyncio.ensure_future(flow())
        await task

    task: asyncio.Future[None]
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert world == ["a", "b", "-b", "-a"]
    assert runtime.find("flow/k").status == "compensated"


# -- owners ---------------------------------------------------------------------------------------------------------


def test_one_live_owner_a_run(make_runtime, world):
    """A second thread or process gets an error that names the first; a keyless call starts a run of its own."""
    inside, leave = threading.Event(), threading.Event()

    @sagadsl.step(compensate=None)
    def wait() -> None:
        inside.set()
        leave.wait(30)

    @sagadsl.saga
    def flow() -> None:
        wait()
        world.add("end")

    thread = threading.Thread(target=flow.using(runtime=make_runtime(), key="k"))
    thread.start()
    assert inside.wait(30)
    try:
        with pytest.raises(RunLockedError, match=f"process {os.getpid()} on") as caught:
            flow.using(runtime=make_runtime(), key="k")()
        assert caught.value.pid == os.getpid()
        assert make_runtime().find("flow/k").is_live
        leave.set()
        flow.using(runtime=make_runtime())()
    finally:
        leave.set()
        thread.join()
    assert world == ["end", "end"]


@pytest.mark.parametrize("verb", ["resume", "compensate"])
def test_a_run_is_not_held_for_what_is_never_awaited(make_runtime, world, verb):
    """A task that is cancelled before its turn leaves the run to others, as it was."""
    dies = [True]

    async def undo() -> None:
        world.add("-act")

    @sagadsl.step(compensate=undo, name="act")
    async def act() -> None:
        world.add("act")

    @sagadsl.saga(key="k")
    async def flow() -> None:
        await act()
        if dies:
            dies.clear()
            raise Cut

    async def main():
        ask = getattr(flow.using(runtime=make_runtime()), verb)
        task = asyncio.create_task(ask("flow/k"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        run = make_runtime().find("flow/k")
        assert (run.is_live, run.status, len(run.steps)) == (False, "open", 1)
        await ask("flow/k")

    with pytest.raises(Cut):
        asyncio.run(flow.using(runtime=make_runtime())())
    asyncio.run(main())
    ended = {"resume": ("completed", ["act"]), "compensate": ("compensated", ["act", "-act"])}
    assert (make_runtime().find("flow/k").status, world.effects) == ended[verb]


def test_a_run_taken_over_by_force_stops_its_old_owner(make_runtime, world):
    """Its next write collides, before any further effect."""
    inside, leave = threading.Event(), threading.Event()
    lost = []

    @sagadsl.step(compensate=None)
    def wait(who: str) -> None:
        if sagadsl.current().attempt == 1:
            inside.set()
            leave.wait(30)

    @sagadsl.step(compensate=None)
    def act() -> None:
        world.add(threading.current_thread().name)

    @sagadsl.saga(key="k")
    def flow() -> None:
        wait("x")
        act()

    def old() -> None:
        try:
            flow.using(runtime=make_runtime())()
        except RunLostError as error:
            lost.append(error)

    thread = threading.Thread(target=old, name="old")
    thread.start()
    assert inside.wait(30)
    flow.using(runtime=make_runtime(), steal=True)()
    leave.set()
    thread.join()
    assert world == ["MainThread"]
    assert "was taken over by another process" in str(lost[0])


SCRIPT = """
import os, signal, sys
import sagadsl
from sagadsl import saga, step

def world(what):
    with open("world.txt", "a") as file:
        file.write(what + "\\n")

def unbook(what):
    world("-" + what)

@step(compensate=unbook)
def book(what: str) -> str:
    world(what)
    if what == os.environ.get("DIE"):
        os.kill(os.getpid(), signal.SIGKILL)
    return what

@saga
def trip():
    book("train")
    book("flight")
    book("hotel")
    if os.environ.get("FAIL"):
        raise ValueError("no")
    print("packed")

trip()
"""


def run_script(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a person would, in its folder."""
    (folder / "trip.py").write_text(SCRIPT)
    variables = os.environ | {"PYTHONPATH": str(Path(sagadsl.__file__).parents[1])} | environment
    return subprocess.run(
        [sys.executable, "trip.py"], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )


def test_a_killed_script_goes_on_where_it_was_cut_off(tmp_path):
    """Run it again: one line says what is recorded and what is tried again."""
    killed = run_script(tmp_path, DIE="hotel")
    assert killed.returncode == -signal.SIGKILL
    again = run_script(tmp_path)
    assert again.stdout == "packed\n"
    assert (tmp_path / "world.txt").read_text().split() == ["train", "flight", "hotel", "hotel"]
    line = again.stderr.strip()
    assert line.startswith("resuming trip/")
    assert line.endswith("ago: 2 steps recorded, 3 book#3 is tried again")
    assert (tmp_path / "sagadsl.db").exists()


def test_functions_are_found_by_name_where_the_body_cannot_be_run(tmp_path):
    """A program that imported the steps but has no such saga any more still compensates."""
    assert run_script(tmp_path, DIE="hotel").returncode == -signal.SIGKILL
    source = (tmp_path / "trip.py").read_text().replace("def trip():", "def voyage():").replace("\ntrip()\n", "")
    (tmp_path / "trip.py").write_text(source)
    program = "import sagadsl, trip; run = sagadsl.runs()[0]; print(run.compensate().status)"
    variables = os.environ | {"PYTHONPATH": str(Path(sagadsl.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )
    assert done.stdout == "compensated\n", done.stderr
    effects = (tmp_path / "world.txt").read_text().split()
    assert effects == ["train", "flight", "hotel", "-hotel", "-flight", "-train"]


def test_a_forked_child_is_not_the_owner_of_its_parents_run(make_runtime, world):
    """A step called there is the plain function, and nothing of the parent's run is written."""
    runtime = make_runtime()

    @sagadsl.step(compensate=None)
    def act(name: str) -> None:
        world.add(name)

    @sagadsl.saga(key="k", runtime=runtime)
    def flow() -> None:
        act("a")
        child = os.fork()
        if child == 0:
            act("child")
            os._exit(0)
        os.waitpid(child, 0)
        act("b")

    flow()
    assert world == ["a", "child", "b"]
    assert [s.key for s in runtime.find("flow/k").steps] == ["act", "act#2"]


# -- odd corners of replay ------------------------------------------------------------------------------------------


def test_a_child_whose_value_is_recorded_must_not_fail_on_replay(colour, make_runtime, cut):
    """What its body does outside of steps must be the same again."""
    broken = []

    @colour.saga(name="child")
    def child():
        yield None
        if broken:
            raise ValueError("new")
        return 1

    @colour.saga(key="k")
    def trip():
        yield child()
        yield cut()

    with pytest.raises(Cut):
        colour.call(trip.using(runtime=make_runtime()))
    broken.append(True)
    with pytest.raises(ReplayError, match=r"it raised ValueError\('new'\) where its value is recorded"):
        colour.call(trip.using(runtime=make_runtime()))
    broken.clear()
    colour.call(trip.using(runtime=make_runtime()))


def test_a_child_must_not_end_before_what_is_recorded(colour, make_runtime, act, cut):
    """As its parent must not."""
    short = []

    @colour.saga(name="child")
    def child():
        if not short:
            yield act("a")
        return 1

    @colour.saga(key="k")
    def trip():
        yield child()
        yield cut()

    with pytest.raises(Cut):
        colour.call(trip.using(runtime=make_runtime()))
    short.append(True)
    with pytest.raises(ReplayError, match="differ in child: it ended before act"):
        colour.call(trip.using(runtime=make_runtime()))


def test_a_step_that_became_a_saga_is_refused(colour, make_runtime, act, cut, world):
    """The same name means something else now."""
    bodies = []

    @colour.saga(name="act")
    def impostor(name: str):
        yield None

    def before():
        yield act("a")
        yield cut()

    def after():
        yield impostor("a")

    @colour.saga(key="k")
    def trip():
        yield from bodies[0]()

    bodies[:] = [before]
    with pytest.raises(Cut):
        colour.call(trip.using(runtime=make_runtime()))
    bodies[:] = [after]
    with pytest.raises(ReplayError, match="act was a step"):
        colour.call(trip.using(runtime=make_runtime()))


def test_a_sync_interruption_that_the_body_survived_is_raised_again(make_runtime, world):
    """A Ctrl-C that was caught: the step is not entered again, and the same branch is taken."""

    @sagadsl.step(compensate=None)
    def slow() -> None:
        world.add("slow")
        raise KeyboardInterrupt

    @sagadsl.step(compensate=None)
    def fallback() -> None:
        world.add("fallback")

    @sagadsl.step(compensate=None, name="cut")
    def cut() -> None:
        if sagadsl.current().attempt == 1:
            raise Cut

    @sagadsl.saga(key="k")
    def flow() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            slow()
        fallback()
        cut()

    with pytest.raises(Cut):
        flow.using(runtime=make_runtime())()
    flow.using(runtime=make_runtime())()
    assert world == ["slow", "fallback"]


def test_an_interruption_caught_last_is_recorded_when_the_saga_ends(colour, make_runtime, world):
    """As cancelled, which says that its effect is uncertain; in a child, before the next one opens."""
    runtime = make_runtime()

    @colour.step(compensate=lambda: world.add("-slow"))
    def slow() -> None:
        raise KeyboardInterrupt

    @colour.saga(name="child")
    def child():
        try:
            yield slow()
        except KeyboardInterrupt:
            world.add("caught")

    @colour.saga(key="k", runtime=runtime)
    def flow():
        with contextlib.suppress(KeyboardInterrupt):
            yield slow()
        yield child()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        colour.call(flow)
    assert world == ["caught", "-slow", "-slow"]
    kinds = [str(entry.kind) for entry in runtime.journal().entries(1)]
    assert kinds[:6] == ["opened", "intent", "cancelled", "opened", "intent", "cancelled"]


def test_a_live_argument_that_nobody_supplies_stops_the_compensation_loudly(make_runtime):
    """A restart that has no body to run has no live arguments either: nothing is entered or written."""
    runtime = make_runtime()
    run = _left_with_live(runtime)
    with pytest.raises(sagadsl.UsageError, match="step live_step needs the live argument session, and no annotation"):
        run.compensate()


@sagadsl.step(compensate=lambda session: None, live=("session",), name="live_step")
def live_step(session: object) -> None:
    """Use what lives in this process."""
    raise Cut


def _left_with_live(runtime):
    @sagadsl.saga(name="left_with_live", key="k")
    def left_with_live() -> None:
        live_step(object())

    with pytest.raises(Cut):
        left_with_live.using(runtime=runtime)()
    del left_with_live
    gc.collect()
    return runtime.find("left_with_live/k")


def test_sync_steps_and_sync_sagas_are_called_directly_in_async_ones(make_runtime, world):
    """Their compensations too, in order."""
    runtime = make_runtime()

    @sagadsl.step(compensate=lambda name: world.add(f"-{name}"))
    def act(name: str) -> str:
        world.add(name)
        return name

    @sagadsl.saga
    def child(name: str) -> str:
        return act(name)

    @sagadsl.saga(runtime=runtime)
    async def flow() -> None:
        act("a")
        await asyncio.sleep(0)
        assert child("b") == "b"
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(flow())
    assert world == ["a", "b", "-b", "-a"]


def test_cancelling_again_while_branches_settle_loses_nothing(make_runtime, world):
    """Each ends on record before anything is compensated."""
    runtime = make_runtime(asleep=asyncio.sleep)
    gates = [asyncio.Event(), asyncio.Event()]

    @sagadsl.step(compensate=lambda name: world.add(f"-{name}"))
    async def act(name: str, gate: int) -> None:
        await gates[gate].wait()
        world.add(name)

    @sagadsl.step(compensate=None)
    async def fails() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, gates[1].set)
        loop.call_later(0.02, gates[0].set)
        raise ValueError("no")

    @sagadsl.saga(runtime=runtime)
    async def flow() -> None:
        await asyncio.gather(act("late", 0), act("early", 1), fails())

    with pytest.raises(ValueError, match="no"):
        asyncio.run(flow())
    assert world == ["early", "late", "-early", "-late"]


# -- what passes through a body -------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
def test_no_step_starts_while_an_interruption_passes_through(make_runtime, world, is_async):
    """What cleans up after a Ctrl-C is not what the saga does: the run goes on as if it had not been there."""
    pressed = [True]

    def work() -> None:
        world.add("work")
        if pressed:
            raise KeyboardInterrupt

    async def awork() -> None:
        work()

    async def anote(text: str) -> None:
        world.add(text)

    swork, swork_async = sagadsl.step(work), sagadsl.step(awork)
    note, note_async = sagadsl.step(_note(world)), sagadsl.step(anote)

    @sagadsl.saga(key="k", name="trip")
    def trip() -> str:
        try:
            swork()
        finally:
            note("tidy")
        return "ok"

    @sagadsl.saga(key="k", name="trip")
    async def atrip() -> str:
        try:
            await swork_async()
        finally:
            await note_async("tidy")
        return "ok"

    def run() -> str:
        if is_async:
            return asyncio.run(atrip.using(runtime=make_runtime())())
        return trip.using(runtime=make_runtime())()

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run()
    pressed.clear()
    assert run() == "ok"
    assert world == ["work", "work", "work", "tidy"]


def _note(world):
    def note(text: str) -> None:
        world.add(text)

    return note


def test_a_step_may_raise_what_a_generator_may_not(make_runtime):
    """StopIteration is an exception like others."""

    @sagadsl.step(compensate=None)
    def first(items: list[int]) -> int:
        return next(iter(items))

    @sagadsl.saga(runtime=make_runtime())
    def flow() -> str:
        try:
            return str(first([]))
        except StopIteration:
            return "empty"

    assert flow() == "empty"


def test_a_paused_run_enters_every_step_again_whose_failure_a_group_tells_of(make_runtime, world):
    """And the group that comes out has the genuine exceptions."""
    genuine = {}
    down = [True]

    @sagadsl.step(compensate=None)
    async def call(name: str) -> str:
        world.add(name)
        await asyncio.sleep(0)
        if down and name != "c":
            genuine[name] = ConnectionError(name)
            raise genuine[name]
        return name

    async def collect() -> list[str]:
        found = await asyncio.gather(*map(call, "abc"), return_exceptions=True)
        errors = [each for each in found if isinstance(each, Exception)]
        if errors:
            raise ExceptionGroup("some failed", errors)
        return list(found)

    @sagadsl.saga(key="{how}")
    async def flow(how: str) -> list[str]:
        return await collect()

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(flow.using(runtime=make_runtime())("plain"))
    assert caught.value.exceptions == (genuine["a"], genuine["b"])
    pausing = flow.using(runtime=make_runtime(), on_failure="pause")
    with pytest.raises(sagadsl.SuspendedError):
        asyncio.run(pausing("paused"))
    down.clear()
    assert asyncio.run(pausing("paused")) == ["a", "b", "c"]
    assert world == ["a", "b", "c", "a", "b", "c", "a", "b"]


def test_a_run_is_compensated_whatever_its_body_ends_in(make_runtime, world):
    """A TaskGroup wraps what stops it, and a script ends in `sys.exit`."""

    @sagadsl.step(compensate=lambda name: world.add(f"-{name}"))
    async def act(name: str) -> None:
        world.add(name)
        if name == "c":
            raise Cut

    async def two() -> None:
        await act("b")
        await act("c")

    @sagadsl.saga(name="grouped", key="k")
    async def grouped() -> None:
        await act("a")
        async with asyncio.TaskGroup() as group:
            group.create_task(two())

    @sagadsl.step(compensate=lambda name: world.add(f"-{name}"))
    def sync(name: str) -> None:
        world.add(name)

    @sagadsl.saga(name="exits", key="k")
    def exits() -> None:
        sync("x")
        sys.exit("aborted")

    with pytest.raises(BaseExceptionGroup):
        asyncio.run(grouped.using(runtime=make_runtime())())
    with pytest.raises(SystemExit):
        exits.using(runtime=make_runtime())()
    assert asyncio.run(_awaited(make_runtime().find("grouped/k").compensate())).status == "compensated"
    assert make_runtime().find("exits/k").compensate().status == "compensated"
    assert world == ["a", "b", "c", "x", "-c", "-b", "-a", "-x"]


async def _awaited(value):
    return await value


def test_a_paused_child_is_compensated_with_its_tree(colour, make_runtime, act, world):
    """On request; its body only runs to bind what it calls."""

    @colour.step(compensate=None)
    def bad() -> None:
        raise ValueError("no")

    @colour.saga(name="child")
    def child():
        yield act("b")
        yield bad()

    @colour.saga(name="trip", key="k")
    def trip():
        yield act("a")
        yield child()

    runtime = make_runtime(on_failure="pause")
    with pytest.raises(sagadsl.SuspendedError):
        colour.call(trip.using(runtime=runtime))
    assert colour.run(runtime.find("trip/k").compensate()).status == "compensated"
    assert world == ["a", "b", "-b", "-a"]


def test_a_run_whose_steps_changed_places_can_be_given_up(edited, act, cut, world, make_runtime):
    """As the refusal says."""

    def before():
        yield act("a")
        yield cut()

    def swapped():
        yield cut()
        yield act("a")

    with pytest.raises(ReplayError, match="sagadsl compensate trip/swapped"):
        edited(before, swapped)


def test_a_record_that_the_program_cannot_read_is_no_failure(make_runtime, world, monkeypatch):
    """The run stays open, and says what is missing."""

    @sagadsl.step(compensate=lambda: world.add("-book"))
    def book() -> sagadsl.Fault:
        world.add("book")
        return sagadsl.Fault("a:B", "c")

    @sagadsl.step(compensate=None)
    def pay() -> None:
        if sagadsl.current().attempt == 1:
            raise Cut

    @sagadsl.saga(key="k")
    def trip() -> str:
        book()
        pay()
        return "ok"

    with pytest.raises(Cut):
        trip.using(runtime=make_runtime())()
    runtime = make_runtime()
    monkeypatch.setattr(runtime.codec, "decode", _unreadable(runtime.codec.decode))
    with pytest.raises(sagadsl.JournalError, match="what book gave cannot be read: no such class; then call it again"):
        trip.using(runtime=runtime)()
    monkeypatch.undo()
    assert world == ["book"]
    assert trip.using(runtime=make_runtime())() == "ok"


def _unreadable(decode):
    def look(text):
        if "$fault" in text:
            msg = "no such class"
            raise ValueError(msg)
        return decode(text)

    return look


def ticket(**fields):
    """Return the class of a result, as the program has it by now; each field has a default or `...`."""
    given = {name: attrs.field(default=attrs.NOTHING if told is ... else told) for name, told in fields.items()}
    return attrs.make_class("Ticket", given, class_body={"__module__": __name__})


Ticket = ticket(number=...)


def test_a_result_whose_class_has_grown_is_whole_or_nothing_follows(colour, make_runtime, world, monkeypatch, cut):
    """What the body and a compensation get is an instance as the program makes them by now."""

    @colour.step(compensate=lambda result: world.add(f"-{result.number}{result.seat}"))
    def book():
        world.add("book")
        return Ticket(7)

    @colour.saga(key="k")
    def trip():
        booked = yield book()
        yield cut()
        world.add(booked.seat)
        raise ValueError("no")

    with pytest.raises(Cut):
        colour.call(trip.using(runtime=make_runtime()))
    monkeypatch.setitem(globals(), "Ticket", ticket(number=..., seat=...))
    lacks = "what book gave cannot be read: .*Ticket from before that class had the field seat: give it a default; then"
    with pytest.raises(sagadsl.JournalError, match=lacks):
        colour.call(trip.using(runtime=make_runtime()))
    assert world == ["book", "cut1"]
    monkeypatch.setitem(globals(), "Ticket", ticket(number=..., seat="any"))
    with pytest.raises(ValueError, match="no"):
        colour.call(trip.using(runtime=make_runtime()))
    assert world == ["book", "cut1", "cut2", "any", "-cut", "-7any"]
    assert make_runtime().runs()[0].status == "compensated"


async def awaited(world, name):
    world.add(f"-{name}")


def iterated(world, name):
    yield world.add(f"-{name}")


@pytest.mark.parametrize(
    ("late", "says"),
    [
        (awaited, "gave an awaitable where nobody can await it: make the step an async def too"),
        (iterated, "gave a generator, of which nothing has run: do not yield in it"),
    ],
)
def test_what_a_plain_compensation_gives_to_await_or_to_iterate_has_not_run(make_runtime, world, late, says):
    """It fails loudly, and nothing is called compensated."""

    def release(name):
        return late(world, name)

    @sagadsl.step(compensate=sagadsl.Compensation(lambda name: release(name), retries=0))
    def act(name: str) -> None:
        world.add(name)

    @sagadsl.saga(runtime=make_runtime())
    def trip() -> None:
        act("a")
        raise ValueError("no")

    with pytest.raises(sagadsl.CompensationError, match=says):
        trip()
    assert world == ["a"]
    assert make_runtime().runs()[0].status == "compensation_failed"


async def counted():
    yield 1


class Raising:
    def __getattr__(self, name):
        raise RuntimeError(name)


class Answering:
    def __getattr__(self, name):
        return self


class Away:
    @property
    def __class__(self):
        raise RuntimeError("away")


@pytest.mark.parametrize(
    "given", [Raising, Answering, Away, lambda: (n for n in [1]), lambda: (n async for n in counted())]
)
def test_what_a_compensation_that_has_run_gives_is_not_looked_at(colour, make_runtime, world, given):
    """Nor called a second time for it: a lazy object may answer anything, and an expression is not its body."""

    def release(name):
        world.add(f"-{name}")
        return given()

    @colour.step(compensate=release)
    def act(name: str) -> None:
        world.add(name)

    @colour.saga(runtime=make_runtime())
    def trip():
        yield act("a")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        colour.call(trip)
    assert world == ["a", "-a"]
    assert make_runtime().runs()[0].status == "compensated"


def test_steps_in_threads_of_a_saga_settle_before_it_is_compensated(make_runtime, world):
    """And their entries never race."""
    runtime = make_runtime(asleep=asyncio.sleep)
    gate, begun = threading.Event(), threading.Barrier(4)

    @sagadsl.step(compensate=lambda name: world.add(f"-{name}"))
    def act(name: str) -> None:
        begun.wait(30)
        gate.wait(30)
        world.add(name)

    @sagadsl.step(compensate=None)
    def bad() -> None:
        begun.wait(30)
        threading.Timer(0.05, gate.set).start()
        raise ValueError("no")

    @sagadsl.saga(runtime=runtime)
    async def trip() -> None:
        await asyncio.gather(*(asyncio.to_thread(act, name) for name in "abc"), asyncio.to_thread(bad))

    with pytest.raises(ValueError, match="no"):
        asyncio.run(trip())
    assert sorted(world.effects[:3]) == ["a", "b", "c"]
    assert sorted(world.effects[3:]) == ["-a", "-b", "-c"]
    assert runtime.runs()[0].status == "compensated"


def test_a_predicate_of_a_retry_that_is_wrong_loses_no_failure(colour, make_runtime, world):
    """The step has failed with its own exception, and a note tells of the predicate."""

    @colour.step(
        compensate=lambda r: world.add("-step"), retries=sagadsl.Retry(3, on=lambda e: e.response.status == 503)
    )
    def step() -> None:
        raise ConnectionError("refused")

    @colour.saga(runtime=make_runtime())
    def trip():
        yield step()

    with pytest.raises(ConnectionError, match="its Retry could not be asked: AttributeError"):
        colour.call(trip)
    assert world == []


# -- what must not happen -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["on", "wait"])
def test_a_step_in_what_a_retry_asks_is_refused(colour, make_runtime, asked):
    """Nobody would call it when the run goes on; the step fails with its own exception, and a note tells."""

    @colour.step(compensate=None, read_only=True)
    def limit() -> float:
        return 0.0

    @colour.step(compensate=None, retries=sagadsl.Retry(3, **{asked: lambda _: limit()}))
    def act() -> None:
        raise OSError("refused")

    @colour.saga(name="trip", key="k", runtime=make_runtime())
    def trip():
        yield act()

    with pytest.raises(OSError, match="refused") as caught:
        colour.call(trip)
    assert any("limit is called inside step act: a step is a leaf" in note for note in caught.value.__notes__)
    assert [step.key for step in make_runtime().find("trip/k").steps] == ["act"]


def test_an_entry_that_no_table_allows_is_never_written(make_runtime):
    """A file that cannot be read again would be worse than a stopped run."""
    runtime = make_runtime()
    scopes = []

    @sagadsl.saga(key="{kind}")
    def flow(kind: str) -> None:
        scope = sagadsl._core.scope.CURRENT.get()
        scopes.append(scope)
        slot = sagadsl._core.scope.Slot(scope, "x", "x", "{}", "{}")
        of = slot if kind == "compensation_done" else scope
        sagadsl._core.drive.entries.write(of.entry(sagadsl.Kind(kind)))

    for kind in ("compensation_done", "resumed"):
        with pytest.raises(sagadsl.JournalError, match=f"{kind} cannot follow .*; nothing was written"):
            flow.using(runtime=runtime)(kind)
    assert runtime.runs() == []


def test_a_step_in_the_context_of_a_child_that_has_ended_is_refused(make_runtime, world):
    """A context outlives its saga; the saga does not."""
    kept = []

    @sagadsl.step(compensate=None)
    def act() -> None:
        world.add("act")

    @sagadsl.saga
    def child() -> None:
        kept.append(contextvars.copy_context())

    @sagadsl.saga(runtime=make_runtime())
    def flow() -> None:
        child()
        kept[0].run(act)

    with pytest.raises(RuntimeError, match="no further step of it starts"):
        flow()
    assert world == []


def test_a_child_deep_inside_whose_compensation_fails_twice_is_still_readable(make_runtime):
    """Each level is told once."""
    broken = [True]

    def undo(result):
        if broken:
            raise OSError("disk")

    @sagadsl.step(compensate=sagadsl.Compensation(undo, retries=0))
    def a() -> None:
        """Act."""

    @sagadsl.saga
    def inner() -> None:
        a()
        raise ValueError("no")

    @sagadsl.saga
    def middle() -> None:
        inner()

    @sagadsl.saga(key="k")
    def outer() -> None:
        middle()

    runtime = make_runtime()
    with pytest.raises(sagadsl.CompensationError):
        outer.using(runtime=runtime)()
    for _ in range(2):
        with pytest.raises(sagadsl.CompensationError):
            runtime.find("outer/k").compensate()
    broken.clear()
    assert runtime.find("outer/k").compensate().status == "compensated"


def test_a_value_of_a_child_that_cannot_be_read_is_no_failure(make_runtime, monkeypatch):
    """As with a step's."""

    @sagadsl.saga
    def child() -> sagadsl.Fault:
        return sagadsl.Fault("a:B", "c")

    @sagadsl.step(compensate=None)
    def pay() -> None:
        raise Cut

    @sagadsl.saga(key="k")
    def trip() -> None:
        child()
        pay()

    with pytest.raises(Cut):
        trip.using(runtime=make_runtime())()
    runtime = make_runtime()
    monkeypatch.setattr(runtime.codec, "decode", _unreadable(runtime.codec.decode))
    with pytest.raises(sagadsl.JournalError, match="what child gave cannot be read"):
        trip.using(runtime=runtime)()


def test_a_group_of_the_bodys_own_comes_out_as_it_is(colour, make_runtime):
    """Nothing in it stands for anything else."""
    group = ExceptionGroup("mine", [ValueError("a"), ValueError("b")])

    @colour.saga(runtime=make_runtime())
    def flow():
        yield None
        raise group

    with pytest.raises(ExceptionGroup) as caught:
        colour.call(flow)
    assert caught.value is group


def test_a_sync_saga_waits_for_steps_in_its_threads_before_it_compensates(make_runtime, world):
    """They were called with its context, so they are its own."""
    inside, gate = threading.Event(), threading.Event()

    @sagadsl.step(compensate=lambda: world.add("-slow"))
    def slow() -> None:
        inside.set()
        gate.wait(30)
        world.add("slow")

    @sagadsl.saga(runtime=make_runtime())
    def flow() -> None:
        thread = threading.Thread(target=contextvars.copy_context().run, args=(slow,))
        thread.start()
        assert inside.wait(30)
        threading.Timer(0.05, gate.set).start()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        flow()
    assert world == ["slow", "-slow"]


def test_what_a_resumed_step_that_only_looks_found_is_on_record(colour, make_runtime, cut, world):
    """Its failure paused the run and it was tried again: from then on it is a recorded step like any other."""

    @colour.step(read_only=True, name="look")
    def look() -> str:
        world.add("look")
        if world == ["look"]:
            raise ValueError("no")
        return f"saw{len(world.effects)}"

    @colour.saga(name="trip", on_failure="pause")
    def trip():
        seen = yield look()
        yield cut()
        return seen

    with pytest.raises(SuspendedError):
        colour.call(trip.using(runtime=make_runtime()))
    with pytest.raises(Cut):
        colour.call(trip.using(runtime=make_runtime()))
    assert colour.call(trip.using(runtime=make_runtime())) == "saw2"
    assert world == ["look", "look", "cut1", "cut2"]


def test_a_child_that_paused_and_then_completed_is_not_run_again(colour, make_runtime, cut, world):
    """Going on with it was what the resumption asked for, once."""

    @colour.step(compensate=None, name="fails_once")
    def fails_once() -> None:
        world.add("try")
        if world == ["try"]:
            raise ValueError("no")

    @colour.saga(name="inner", on_failure="pause")
    def inner():
        yield fails_once()

    @colour.saga(name="outer")
    def outer():
        yield inner()
        yield cut()

    with pytest.raises(SuspendedError):
        colour.call(outer.using(runtime=make_runtime()))
    with pytest.raises(Cut):
        colour.call(outer.using(runtime=make_runtime()))
    colour.call(outer.using(runtime=make_runtime()))
    assert world == ["try", "try", "cut1", "cut2"]


def test_compensating_goes_on_over_a_cancelled_step_that_is_compensated(make_runtime, world):
    """On record it was cancelled, whatever came of it since: nothing cancels the body that only runs to bind."""
    tries = []

    def undo():
        tries.append(1)
        if len(tries) == 1:
            raise Cut
        world.add("-first")

    @sagadsl.step(compensate=undo, name="first")
    async def first() -> None:
        world.add("first")

    @sagadsl.step(compensate=lambda result=None: world.add("-slow"), name="slow")
    async def slow() -> None:
        world.add("slow")
        await asyncio.Event().wait()

    @sagadsl.saga(name="trip")
    async def trip():
        await first()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await slow()
        raise ValueError("no")

    with pytest.raises(Cut):
        asyncio.run(trip.using(runtime=make_runtime())())
    with pytest.raises(ValueError, match="no"):
        asyncio.run(trip.using(runtime=make_runtime())())
    assert world == ["first", "slow", "-slow", "-first"]


def test_a_look_that_was_resumed_and_cancelled_ends_cancelled(make_runtime, world):
    """It has a failure on record, so the replay must be told that it was cancelled since."""

    @sagadsl.step(read_only=True, name="look")
    async def look() -> None:
        world.add("look")
        if world == ["look"]:
            raise ValueError("no")
        if world == ["look", "look"]:
            await asyncio.Event().wait()

    @sagadsl.step(compensate=None, name="last")
    async def last() -> None:
        world.add("last")
        if world == ["look", "look", "last"]:
            raise Cut

    @sagadsl.saga(name="trip", on_failure="pause")
    async def trip() -> str:
        try:
            async with asyncio.timeout(0.1):
                await look()
        except TimeoutError:
            await last()
            return "fallback"
        return "seen"

    with pytest.raises(SuspendedError):
        asyncio.run(trip.using(runtime=make_runtime())())
    with pytest.raises(Cut):
        asyncio.run(trip.using(runtime=make_runtime())())
    assert asyncio.run(trip.using(runtime=make_runtime())()) == "fallback"
    assert world == ["look", "look", "last", "last"]


def test_what_is_compensating_is_not_resumed_with_the_child_that_paused(colour, make_runtime, act, world):
    """Compensated by request, killed, called again: it goes on compensating, and the journal says nothing else."""

    def undo():
        world.add("-paid")
        if world.effects.count("-paid") == 1:
            raise Cut

    @colour.step(compensate=undo, name="pay")
    def pay() -> None:
        world.add("paid")

    @colour.step(compensate=None, name="fail")
    def fail() -> None:
        raise ValueError("no")

    @colour.saga(name="inner", on_failure="pause")
    def inner():
        yield pay()
        yield fail()

    @colour.saga(name="outer")
    def outer():
        yield act("a")
        yield inner()

    with pytest.raises(SuspendedError):
        colour.call(outer.using(runtime=make_runtime()))
    with pytest.raises(Cut):
        colour.run(make_runtime().runs()[0].compensate())
    with pytest.raises(ValueError, match="no"):
        colour.call(outer.using(runtime=make_runtime()))
    assert world == ["a", "paid", "-paid", "-paid", "-a"]
    journal = make_runtime().journal()
    assert "resumed" not in [entry.kind for entry in journal.entries(1)]


def test_a_run_that_somebody_has_is_no_reason_to_warn(make_runtime, caplog):
    """It is under way, as another call of this program is; nor is one that is another program's."""

    @sagadsl.saga
    def inner(number: int) -> int:
        return number

    @sagadsl.step(compensate=None)
    def call_another() -> None:
        seen.append(contextvars.Context().run(inner.using(runtime=make_runtime()), 2))

    @sagadsl.saga
    def outer() -> None:
        call_another()

    seen = []
    outer.using(runtime=make_runtime())()
    assert seen == [2]
    assert [message for message in caplog.messages if "another run of" in message] == []
