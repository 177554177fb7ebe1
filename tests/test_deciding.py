"""What a person decides about a run later: undo it, undo a part of it, let something stand, see to a step by hand."""

from __future__ import annotations

import functools
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sagadsl
from sagadsl import (
    IRREVERSIBLE,
    PIVOT,
    Compensated,
    Compensation,
    CompensationError,
    CompensationFailed,
    RunConflictError,
    Runtime,
    Suspended,
    SuspendedError,
    UsageError,
    aio,
    saga,
    step,
)
from sagadsl._core.runtime.deciding import Request


class Cut(BaseException):
    """The end of a process, for a test."""


@pytest.fixture
def act(colour, world):
    """Make a step that notes its effect; what *down* names cannot be compensated, or ends the process that tries."""
    down: dict[str, BaseException] = {}

    def undo(name):
        if name in down:
            raise down[name]
        world.add(f"-{name}")

    @colour.step(compensate=Compensation(undo, retries=0), name="act")
    def act(name: str) -> str:
        world.add(name)
        return name.upper()

    act.down = down
    return act


@pytest.fixture
def mail(colour, world):
    """Make a step that nothing can undo."""

    @colour.step(compensate=IRREVERSIBLE, name="mail")
    def mail(name: str) -> None:
        world.add(f"mail-{name}")

    return mail


@pytest.fixture
def trip(colour, make_runtime, act, mail):
    """Make a saga with a child, an irreversible step, and a step that needs no compensation."""

    @colour.step(compensate=None)
    def note():
        pass

    @colour.saga
    def inner():
        yield act("b")
        yield act("c")

    @colour.saga(key="k", runtime=make_runtime())
    def trip():
        yield act("a")
        yield inner()
        yield mail("m")
        yield note()
        return (yield act("d"))

    return trip


@pytest.fixture
def done(colour, make_runtime, trip):
    """Give what finds the run of a trip that is completed."""
    assert colour.call(trip) == "D"
    return functools.partial(make_runtime().find, "trip/k")


def entries(runtime):
    """Return what is on record."""
    return [(entry.seq, entry.kind) for entry in runtime.journal().entries(1)]


def states(run):
    """Return where each call stands."""
    return {step.key: step.status for step in run.steps}


# -- a completed run --------------------------------------------------------------------------------------------------


def test_a_completed_run_is_compensated_later(colour, done, world):
    """In reverse order, children included; what cannot be undone stands, as was accepted."""
    run = colour.run(done().compensate(accept=["mail"]))
    assert world == ["a", "b", "c", "mail-m", "d", "-d", "-c", "-b", "-a"]
    assert (run.status, run.cause) == ("compensated", "request")
    assert [step.key for step in run.steps if step.standing] == ["mail"]


def test_compensating_again_changes_nothing(colour, done, make_runtime, world):
    """Whatever is asked for."""
    colour.run(done().compensate(accept=["mail"]))
    before, effects = entries(make_runtime()), world.effects
    assert colour.run(done().compensate()).status == "compensated"
    assert done().compensate(dry_run=True).steps == ()
    assert (entries(make_runtime()), world) == (before, effects)
    with pytest.raises(RunConflictError, match="compensated as a whole"):
        colour.run(done().compensate(to="act"))


def test_what_would_stand_is_refused_up_front(colour, done, make_runtime, world):
    """It names the steps and what to type; nothing is written, nobody is compensated."""
    before, effects = entries(make_runtime()), world.effects
    with pytest.raises(RunConflictError, match=r"mail cannot be undone.*accept=\['mail'\].*--accept mail$"):
        colour.run(done().compensate())
    assert (entries(make_runtime()), world) == (before, effects)
    with pytest.raises(RunConflictError, match="has no one step 'act' for accept: there is mail"):
        colour.run(done().compensate(accept=["mail", "act"]))
    assert (entries(make_runtime()), world) == (before, effects)


def test_a_dry_run_lists_order_arguments_and_what_stands(done, make_runtime, world):
    """It does nothing, and fits on a screen."""
    before, effects = entries(make_runtime()), world.effects
    plan = done().compensate(dry_run=True)
    assert [(step.key, step.arguments) for step in plan.steps] == [
        ("act#2", {"name": "d"}),
        ("inner/act#2", {"name": "c"}),
        ("inner/act", {"name": "b"}),
        ("act", {"name": "a"}),
    ]
    assert (plan.standing, plan.lapsed, plan.undecided, plan.to) == (("mail",), (), ("mail",), None)
    lines = repr(plan).splitlines()
    assert lines[0] == "compensating trip/k calls, in this order:"
    assert lines[1].endswith("undo   for act#2(name='d')")
    assert lines[-2:] == ["  cannot be undone: mail", "  accept first: mail"]
    assert (entries(make_runtime()), world) == (before, effects)


def test_a_saga_says_so_by_the_id_of_its_run_too(colour, trip, done, world):
    """With the saga as the body, wherever its module is by now."""
    assert trip.compensate("trip/k", dry_run=True).standing == ("mail",)
    assert colour.run(trip.compensate("trip/k", accept=["mail"])).status == "compensated"
    assert world.effects[-4:] == ["-d", "-c", "-b", "-a"]


def test_a_completed_run_past_its_pivot_stays(colour, make_runtime, act):
    """There is no way back from there."""

    @colour.step(compensate=PIVOT)
    def pay():
        pass

    @colour.saga(key="k", runtime=make_runtime())
    def order():
        yield act("a")
        yield pay()

    colour.call(order)
    for asked in ({}, {"dry_run": True}, {"to": "act"}):
        with pytest.raises(RunConflictError, match="is past its pivot, pay"):
            colour.run(make_runtime().find("order/k").compensate(**asked))


def test_a_completed_run_whose_compensation_is_cut_off_is_carried_on(colour, done, trip, act, world):
    """By calling the saga or by asking again; the body over the record binds what it owes."""
    act.down["b"] = Cut()
    with pytest.raises(Cut):
        colour.run(done().compensate(accept=["mail"]))
    assert (done().status, done().is_interrupted) == ("compensating", True)
    act.down.clear()
    with pytest.raises(RunConflictError, match="was compensated on request"):
        colour.call(trip)
    assert world.effects[5:] == ["-d", "-c", "-b", "-a"]


def test_without_its_body_a_run_is_compensated_by_the_names_of_its_functions(colour, make_runtime):
    """Wherever what a person decides is said."""
    undone.clear()
    made, second = (aflow, "awork#2") if colour.is_async else (flow, "work#2")
    colour.call(made.using(runtime=make_runtime(), id="f"))
    compensate = functools.partial(make_runtime().compensate_without_body, "f", is_async=colour.is_async)
    assert (colour.run(compensate(Request(to=second))).status, undone) == ("paused", ["c"])
    assert [colour.run(compensate()).status for _ in range(2)] == ["compensated"] * 2
    assert undone == ["c", "b", "a"]


undone: list[str] = []


def give_back(name):
    """Note that it is undone."""
    undone.append(name)


@step(compensate=give_back)
def work(name: str) -> None:
    """Work."""


@saga
def flow() -> None:
    """Work three times."""
    for name in "abc":
        work(name)


@step(compensate=give_back)
async def awork(name: str) -> None:
    """Work."""


@saga
async def aflow() -> None:
    """Work three times."""
    for name in "abc":
        await awork(name)


# -- within a time ----------------------------------------------------------------------------------------------------


@pytest.fixture
def rent(colour, world):
    """Make a step that can be undone for an hour."""

    @colour.step(compensate=Compensation(lambda: world.add("-rent"), within=timedelta(hours=1)))
    def rent() -> None:
        world.add("rent")

    return rent


def test_a_lapsed_compensation_is_named_and_refused_up_front(colour, make_runtime, clock, act, rent, world):
    """It can be accepted, and then the step stands; in time it is an ordinary one."""

    @colour.saga(key="{n}", runtime=make_runtime())
    def flat(n):
        yield act("a")
        yield rent()

    colour.call(flat, 1)
    colour.call(flat, 2)
    assert colour.run(make_runtime().find("flat/1").compensate()).status == "compensated"
    clock.sleep(3601)
    run = make_runtime().find("flat/2")
    with pytest.raises(RunConflictError, match=r"rent can no longer be undone.*accept=\['rent'\]"):
        colour.run(run.compensate())
    plan = run.compensate(dry_run=True)
    assert ([s.key for s in plan.steps], plan.lapsed, plan.undecided) == (["act"], ("rent",), ("rent",))
    assert world == ["a", "rent", "a", "rent", "-rent", "-a"]
    after = colour.run(run.compensate(accept=["rent"]))
    assert world == ["a", "rent", "a", "rent", "-rent", "-a", "-a"]
    assert [step.key for step in after.steps if step.standing] == ["rent"]


def test_a_run_that_fails_too_late_leaves_it_to_a_person(colour, make_runtime, clock, act, rent, world):
    """Nobody is there to be asked: the compensation fails there, and accepting it carries on."""

    @colour.saga(key="k", runtime=make_runtime())
    def flat():
        yield act("a")
        yield rent()
        clock.sleep(3601)
        raise ValueError("no")

    with pytest.raises(CompensationError, match=r"step rent could be compensated until .*--accept rent"):
        colour.call(flat)
    assert world == ["a", "rent"]
    run = colour.run(make_runtime().find("flat/k").compensate(accept=["rent"]))
    assert (run.status, run.cause, world) == ("compensated", "failure", ["a", "rent", "-a"])


def test_one_that_was_begun_in_time_is_carried_on(colour, make_runtime, clock, world):
    """The other side has been told."""
    fails = [True]

    def back():
        if fails:
            raise ConnectionError("down")
        world.add("-rent")

    @colour.step(compensate=Compensation(back, retries=0, within=60))
    def rent():
        world.add("rent")

    @colour.saga(key="k", runtime=make_runtime())
    def flat():
        yield rent()
        raise ValueError("no")

    with pytest.raises(CompensationError, match="down"):
        colour.call(flat)
    clock.sleep(3600)
    fails.clear()
    assert colour.run(make_runtime().find("flat/k").compensate()).status == "compensated"
    assert world == ["rent", "-rent"]


@pytest.mark.parametrize("within", [0, -1, "a day", True, float("inf")])
def test_a_time_that_is_none_is_refused(within):
    """On its own line."""
    with pytest.raises(UsageError, match=r"within=\.\.\.\) takes seconds or a timedelta"):
        Compensation(print, within=within)


# -- back to a step ---------------------------------------------------------------------------------------------------


def test_a_run_goes_back_to_a_step_and_on_from_there(colour, done, trip, world):
    """What came after is compensated, and called once more when the run goes on, under keys of its own."""
    run = colour.run(done().compensate(to="act", accept=["mail"]))
    assert world.effects[5:] == ["-d", "-c", "-b"]
    assert (run.status, run.cause, [step.key for step in run.stack]) == ("paused", "request", ["act"])
    assert colour.call(trip) == "D"
    assert world.effects[8:] == ["b", "c", "mail-m", "d"]
    keys = {step.key: step.idempotency_key for step in done().steps if step.status == "done"}
    assert keys == {
        "act": "trip/k/act",
        "mail": "trip/k/mail",
        "note": "trip/k/note",
        "inner#2/act": "trip/k/inner#2/act",
        "inner#2/act#2": "trip/k/inner#2/act#2",
        "mail#2": "trip/k/mail#2",
        "note#2": "trip/k/note#2",
        "act#3": "trip/k/act#3",
    }


def test_a_run_goes_back_into_a_child(colour, done, trip, world):
    """The child goes on after that step, whatever it had returned."""
    run = colour.run(done().compensate(to="inner/act", accept=["mail"]))
    assert world.effects[5:] == ["-d", "-c"]
    assert states(run)["inner"] == "paused"
    assert colour.call(trip) == "D"
    assert world.effects[7:] == ["c", "mail-m", "d"]
    assert states(done())["inner"] == "completed"


def test_back_to_a_child_is_to_its_end(colour, done, world):
    """It counts as one step."""
    colour.run(done().compensate(to="inner", accept=["mail"]))
    assert world.effects[5:] == ["-d"]


def test_it_is_resumed_by_its_id_too(colour, done, trip, world):
    """As any paused run."""
    colour.run(done().compensate(to="act", accept=["mail"]))
    assert colour.run(trip.resume("trip/k")) == "D"
    assert world.effects[8:] == ["b", "c", "mail-m", "d"]


def test_after_going_back_the_rest_can_be_compensated_as_well(colour, done, world):
    """Or the run goes back further; a second time to the same step changes nothing."""
    colour.run(done().compensate(to="inner", accept=["mail"]))
    assert colour.run(done().compensate(to="inner")).status == "paused"
    assert world.effects[5:] == ["-d"]
    colour.run(done().compensate(to="inner/act"))
    assert world.effects[5:] == ["-d", "-c"]
    assert colour.run(done().compensate()).status == "compensated"
    assert world.effects[5:] == ["-d", "-c", "-b", "-a"]


def test_what_is_done_after_going_back_is_compensated_like_the_rest(colour, done, trip, act, mail, world):
    """What was undone before stays undone."""
    colour.run(done().compensate(to="inner/act", accept=["mail"]))
    colour.call(trip)
    colour.run(done().compensate(accept=["mail#2"]))
    assert world.effects[7:] == ["c", "mail-m", "d", "-d", "-c", "-b", "-a"]


def test_other_code_may_follow_the_step(colour, make_runtime, act, world):
    """What comes after is no longer on record, so it may be something else now."""
    wanted = ["a", "b", "c"]

    @colour.saga(key="k", runtime=make_runtime())
    def list_of():
        for name in wanted:
            yield act(name)

    colour.call(list_of)
    colour.run(make_runtime().find("list_of/k").compensate(to="act"))
    wanted[1:] = ["x", "y"]
    colour.call(list_of)
    assert world == ["a", "b", "c", "-c", "-b", "x", "y"]
    colour.run(make_runtime().find("list_of/k").compensate(to="act"))
    wanted[0] = "z"
    with pytest.raises(sagadsl.ReplayError):
        colour.call(list_of)


def test_a_step_with_a_key_of_its_own_gets_a_further_one(colour, make_runtime, act, world):
    """So that the other side does not take it for a repetition."""

    @colour.saga(key="k", runtime=make_runtime())
    def order():
        yield act("a")
        yield act.using(key="x")("b")

    colour.call(order)
    colour.run(make_runtime().find("order/k").compensate(to="act"))
    colour.call(order)
    assert states(make_runtime().find("order/k")) == {"act": "done", "act:x": "compensated", "act:x#2": "done"}


def test_a_run_goes_back_into_a_branch(colour, make_runtime, act, world):
    """What its neighbours began later is compensated too; what they began before stays."""
    parallel = aio.parallel if colour.is_async else sagadsl.parallel

    @colour.saga(key="k", runtime=make_runtime())
    def fan():
        yield parallel(functools.partial(act, "a"), limit=1)
        yield parallel(functools.partial(act, "b"), functools.partial(act, "c"), limit=1)

    colour.call(fan)
    colour.run(make_runtime().find("fan/k").compensate(to="parallel#2/1/act"))
    assert world == ["a", "b", "c", "-c"]
    colour.call(fan)
    assert world == ["a", "b", "c", "-c", "c"]
    assert make_runtime().find("fan/k").status == "completed"


def test_a_child_that_failed_and_was_caught_is_called_afresh(colour, make_runtime, act, world):
    """It had undone itself, so nothing of it is left to be undone."""

    @colour.saga
    def failing():
        yield act("b")
        raise ValueError("no")

    @colour.saga(key="k", runtime=make_runtime())
    def careful():
        yield act("a")
        try:
            yield failing()
        except ValueError:
            yield act("c")

    colour.call(careful)
    colour.run(make_runtime().find("careful/k").compensate(to="act"))
    assert world == ["a", "b", "-b", "c", "-c"]
    colour.call(careful)
    assert world.effects[5:] == ["b", "-b", "c"]


def test_an_unknown_or_ambiguous_step_is_refused_with_those_there_are(colour, done, trip, world):
    """By its key, or by an end of it that only one has."""
    with pytest.raises(RunConflictError, match="has no one step 'fly' for to: there is act, inner, inner/act"):
        done().compensate(to="fly", dry_run=True)
    assert done().compensate(to="act#2", dry_run=True).steps == ()  # the whole key comes first
    assert [s.key for s in done().compensate(to="note", dry_run=True).steps] == ["act#2"]


def test_an_end_that_several_have_is_ambiguous(colour, make_runtime, act):
    """Each is named."""

    @colour.saga
    def inner():
        yield act("b")

    @colour.saga(key="k", runtime=make_runtime())
    def twice():
        yield inner()
        yield inner()

    colour.call(twice)
    with pytest.raises(RunConflictError, match="it could be inner/act, inner#2/act"):
        make_runtime().find("twice/k").compensate(to="act", dry_run=True)


def test_a_run_that_failed_goes_back_to_a_step_instead(colour, make_runtime, act, world):
    """Paused by a failure, it tries again from further back."""
    fails = [True]

    @colour.step(compensate=None)
    def check():
        if fails:
            raise ValueError("no")

    @colour.saga(key="k", runtime=make_runtime(), on_failure="pause")
    def order():
        for name in "abc":
            yield act(name)
        yield check()

    with pytest.raises(SuspendedError):
        colour.call(order)
    run = make_runtime().find("order/k")
    with pytest.raises(RunConflictError, match="'check' for to"):
        run.compensate(to="check", dry_run=True)  # it has not ended well
    colour.run(run.compensate(to="act#2"))
    fails.clear()
    colour.call(order)
    assert world == ["a", "b", "c", "-c", "c"]


def test_going_back_that_is_cut_off_is_carried_on_to_there_and_no_further(colour, done, trip, act, world):
    """Whoever opens the run next does so, and finds it paused."""
    act.down["c"] = Cut()
    with pytest.raises(Cut):
        colour.run(done().compensate(to="act", accept=["mail"]))
    act.down.clear()
    outcome = colour.call(trip.outcome)
    assert isinstance(outcome, Suspended)
    assert "it was put back to act" in outcome.reason
    assert world.effects[5:] == ["-d", "-c", "-b"]
    assert colour.call(trip) == "D"


def test_a_compensation_that_fails_on_the_way_back_is_carried_on_to_there(colour, done, act, world):
    """What was asked for stays asked for."""
    act.down["c"] = ConnectionError("down")
    with pytest.raises(CompensationError):
        colour.run(done().compensate(to="act", accept=["mail"]))
    with pytest.raises(RunConflictError, match="there is act"):
        colour.run(done().compensate(to="inner/act#2"))  # perhaps a part of it is undone
    act.down.clear()
    assert colour.run(done().compensate()).status == "paused"
    assert world.effects[5:] == ["-d", "-c", "-b"]


def test_a_part_that_is_undone_already_cannot_be_gone_back_to(colour, done, act):
    """What stands after it is nothing to go on from."""
    act.down["a"] = ConnectionError("down")
    with pytest.raises(CompensationError):
        colour.run(done().compensate(accept=["mail"]))
    with pytest.raises(RunConflictError, match=r"cannot go back to mail: act, inner/act, .* before it is being undone"):
        done().compensate(to="mail", dry_run=True)


def test_by_hand_a_run_goes_back_and_on(make_runtime, world):
    """The handle stays usable."""
    runtime = make_runtime()

    def act(name):
        world.add(name)

    def back(name):
        world.add(f"-{name}")

    run = sagadsl.saga("hand", key="k", runtime=runtime)
    for name in "abc":
        run.step(act, compensate=back)(name)
    assert [s.key for s in run.compensate(dry_run=True, to="act").steps] == ["act#3", "act#2"]
    assert run.compensate(to="act").status == "paused"
    run.step(act, compensate=back)("b")
    assert run.complete(1) == 1
    assert world == ["a", "b", "c", "-c", "-b", "b"]
    assert (run.compensate().status, run.status) == ("compensated", "compensated")
    assert world.effects[6:] == ["-b", "-a"]


def test_by_hand_what_is_refused_leaves_the_run_as_it_was(make_runtime, world):
    """The handle goes on with it."""
    run = sagadsl.saga("hand", key="k", runtime=make_runtime())

    def act(name):
        world.add(name)

    def back(name):
        world.add(f"-{name}")

    run.step(act, compensate=back)("a")
    run.step(act, compensate=IRREVERSIBLE, key="m")("mail")
    with pytest.raises(RunConflictError, match="act:m cannot be undone"):
        run.compensate(to="act")
    assert run.status == "open"
    run.step(act, compensate=back)("b")
    assert run.compensate().status == "compensated"
    assert world == ["a", "mail", "b", "-b", "-a"]


# -- a step that is let be --------------------------------------------------------------------------------------------


@pytest.fixture
def stuck(colour, make_runtime, act):
    """Give the run of a saga whose compensation failed at its second step."""
    act.down["b"] = ConnectionError("down")

    @colour.saga(key="k", runtime=make_runtime())
    def order():
        for name in "abc":
            yield act(name)
        raise ValueError("no")

    with pytest.raises(CompensationError):
        colour.call(order)
    return functools.partial(make_runtime().find, "order/k"), order


def test_a_step_that_was_seen_to_by_hand_is_skipped(colour, stuck, make_runtime, world):
    """It is on record who said so, and why; the others are compensated, and it is listed."""
    find, _ = stuck
    run = colour.run(find().compensate(skip="act#2", why="refunded by hand", by="ada"))
    assert (run.status, world) == ("compensated", ["a", "b", "c", "-c", "-a"])
    told = next(step for step in run.steps if step.key == "act#2")
    assert (told.status, told.skipped_by, told.skipped_why) == ("skipped", "ada", "refunded by hand")
    with closing(sqlite3.connect(make_runtime().journal().name)) as shell:
        row = shell.execute("select status, skipped from compensations where step = 'act#2'").fetchone()
        assert row == ("skipped", "ada: refunded by hand")
        assert shell.execute("select status from steps where step = 'act#2'").fetchone() == ("skipped",)
        assert ("compensation_skipped",) in shell.execute("select event from timeline").fetchall()
    shown = sagadsl.report.run_text(run)
    assert "skipped by ada: refunded by hand" in shown


def test_who_skips_is_who_is_logged_in(colour, stuck):
    """Unless they say otherwise."""
    find, _ = stuck
    run = colour.run(find().compensate(skip="act#2", why="seen to"))
    assert " on " in next(step for step in run.steps if step.key == "act#2").skipped_by


def test_who_has_no_name_is_a_number(colour, stuck, monkeypatch):
    """As users of a container may be."""

    def nobody():
        raise OSError("no such user")

    monkeypatch.setattr("getpass.getuser", nobody)
    find, _ = stuck
    run = colour.run(find().compensate(skip="act#2", why="seen to"))
    assert next(step for step in run.steps if step.key == "act#2").skipped_by.startswith("user ")


def test_a_skipped_step_is_told_in_every_outcome(colour, make_runtime, act):
    """Whether the run then is compensated or fails again."""
    act.down |= {"b": ConnectionError("down"), "a": ConnectionError("down")}

    @colour.saga(key="k", runtime=make_runtime())
    def order():
        for name in "abc":
            yield act(name)
        raise ValueError("no")

    with pytest.raises(CompensationError):
        colour.call(order)
    with pytest.raises(CompensationError) as caught:
        colour.run(make_runtime().find("order/k").compensate(skip="act#2", why="seen to"))
    outcome = sagadsl.outcome(caught.value)
    assert isinstance(outcome, CompensationFailed)
    assert (outcome.failed_at_step, outcome.skipped_steps) == ("act", ("act#2",))
    act.down["a"] = Cut()
    with pytest.raises(Cut):
        colour.run(make_runtime().find("order/k").compensate())
    act.down.clear()
    outcome = colour.call(order.outcome)
    assert isinstance(outcome, Compensated)
    assert (outcome.compensated_steps, outcome.skipped_steps) == (("act#3", "act"), ("act#2",))


def test_where_no_step_can_be_named_the_reason_is_told(colour, runtime, act):
    """The step is there, but not for that."""

    @colour.saga(key="{pauses}", on_failure="pause", runtime=runtime)
    def order(pauses: bool):
        if pauses:
            raise ValueError
        yield act("a")

    colour.call(order, False)
    colour.call(order.outcome, True)
    for key, option, told in (
        (False, {"accept": ["act"]}, "accept: nothing would stand"),
        (False, {"skip": "act", "why": "by hand"}, "skip: no compensation has failed"),
        (True, {"to": "act"}, "to: no step is done"),
    ):
        with pytest.raises(RunConflictError, match=f"has no one step 'act' for {told}"):
            colour.run(runtime.find(f"order/{key}").compensate(**option))


def test_only_what_failed_is_skipped_and_not_without_a_reason(colour, stuck, make_runtime, world):
    """Nothing is written where it is refused."""
    find, _ = stuck
    before = entries(make_runtime())
    with pytest.raises(RunConflictError, match="has no one step 'act' for skip: there is act#2"):
        colour.run(find().compensate(skip="act", why="no matter"))
    wrong = {
        "takes why=": {"skip": "act#2"},
        "tell of a step that is skipped": {"why": "no matter"},
        "first skip what failed": {"skip": "act#2", "why": "no matter", "to": "act"},
        "takes a list of steps": {"accept": "act"},
    }
    for told, asked in wrong.items():
        with pytest.raises(UsageError, match=told):
            find().compensate(**asked)
    assert entries(make_runtime()) == before


def test_a_dry_run_of_a_skip_lists_the_others(colour, stuck):
    """It is not among them."""
    find, _ = stuck
    plan = find().compensate(dry_run=True, skip="act#2", why="seen to")
    assert [step.key for step in plan.steps] == ["act"]
    assert find().status == "compensation_failed"


# -- the law ----------------------------------------------------------------------------------------------------------


def programs(depth=2):
    """Return what a saga does: a step, an irreversible one, one that needs no compensation, or a child saga."""
    leaf = st.sampled_from(["step", "mail", "note"])
    if not depth:
        return st.lists(leaf, min_size=1, max_size=3)
    return st.lists(leaf | programs(depth - 1), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=programs(), at=st.none() | st.integers(0, 20), again=st.booleans())
def test_a_dry_run_is_what_happens(program, at, again):
    """Its list, in its order, with its arguments: whole or back to a step, once or after the run went on."""
    world: list[tuple[str, int]] = []

    @step(compensate=lambda number: world.append(("back", number)))
    def act(number: int) -> None:
        world.append(("act", number))

    @step(compensate=IRREVERSIBLE)
    def mail(number: int) -> None:
        world.append(("mail", number))

    @step(compensate=None)
    def note(number: int) -> None:
        world.append(("note", number))

    kinds = {"step": act, "mail": mail, "note": note}

    @saga
    def child(told: list) -> None:
        for number, each in enumerate(told):
            if isinstance(each, str):
                kinds[each](number)
            else:
                child(each)

    runtime = Runtime(":memory:")
    made = child.using(runtime=runtime, key="k")

    def decide(to):
        run = runtime.find("child/k")
        plan = run.compensate(dry_run=True, to=to)
        assert plan.undecided == tuple(key for key in plan.standing if key in plan.undecided)
        expected = [("back", each.arguments["number"]) for each in plan.steps]
        before = len(world)
        after = run.compensate(to=to, accept=plan.undecided)
        assert world[before:] == expected
        assert after.status == ("compensated" if to is None else "paused")
        assert {each.key for each in after.steps if each.status == "compensated"} >= {s.key for s in plan.steps}
        return after

    made(program)
    first = list(world)
    done = [each.key for each in runtime.find("child/k").steps]
    to = None if at is None else done[at % len(done)]
    decide(to)
    if to is not None and again:
        before = len(world)
        made(program)
        kept = [each for each in first if each[0] != "back"]
        assert world[before:] == kept[len(kept) - (len(world) - before) :]  # what came after, once more
        decide(None)
    assert runtime.find("child/k").status in {"compensated", "paused"}
