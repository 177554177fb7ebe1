"""`run.cancel()`: a run stops at its next step boundary and is compensated, whoever asked and whoever has it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading

import pytest

import sagadsl
from sagadsl import (
    PIVOT,
    Compensated,
    CompensationError,
    JournalError,
    Retry,
    RunCancelledError,
    RunConflictError,
    Runtime,
    SuspendedError,
    aio,
)
from sagadsl._core import drive
from sagadsl._core.journal import Letter
from sagadsl._core.values import Cause, Kind


class Cut(BaseException):
    """The end of a process, for a test."""


@pytest.fixture(params=["file", "memory"])
def stores(request, make_runtime):
    """Give what makes a runtime on one store, in a file or in memory; a second one is a restarted process."""
    memory = make_runtime(store=":memory:").journal()
    return make_runtime if request.param == "file" else functools.partial(make_runtime, store=memory)


@pytest.fixture
def act(colour, world, stores):
    """Make a step that notes its effect; in what *asks* names somebody cancels the run meanwhile."""
    asks: set[str] = set()

    @colour.step(compensate=lambda name: world.add(f"-{name}"), name="act")
    def act(name: str) -> str:
        world.add(name)
        if name in asks:
            stores().find(sagadsl.current().run_id).cancel()
        if f"cut {name}" in asks:
            asks.remove(f"cut {name}")
            raise Cut
        return name.upper()

    act.asks = asks
    return act


def test_a_cancelled_run_enters_no_further_step_and_is_compensated(colour, stores, world, act):
    """Its call raises what says so, and the cause is on record."""
    act.asks.add("b")

    @colour.saga(key="k", runtime=stores())
    def trip():
        for name in "abc":
            yield act(name)

    with pytest.raises(RunCancelledError, match=r"trip/k was cancelled by process \d+ on ") as caught:
        colour.call(trip)
    assert world == ["a", "b", "-b", "-a"]
    assert caught.value.__notes__[0].startswith("saga trip/k: compensated act#2, act. Look: sagadsl show trip/k")
    (run,) = stores().runs()
    assert (run.status, run.cause, run.error.name) == ("compensated", "cancel", "RunCancelledError")
    assert not run.cancel_requested


def test_the_outcome_of_a_cancelled_run_is_compensated(colour, stores, world, act):
    """It is an end like others, with the exit code of one that was compensated."""
    act.asks.add("a")

    @colour.saga(key="k", runtime=stores())
    def trip():
        yield act("a")
        yield act("b")

    outcome = colour.call(trip.outcome)
    assert isinstance(outcome, Compensated)
    assert isinstance(outcome.error, RunCancelledError)
    assert (outcome.compensated_steps, outcome.exit_code, outcome.error.exit_code) == (("act",), 3, 3)


@pytest.fixture
def cancelled(colour, stores, act):
    """Give a saga that was cancelled in its one step."""
    act.asks.add("a")

    @colour.saga(key="k", runtime=stores())
    def trip():
        return (yield act("a"))

    with pytest.raises(RunCancelledError):
        colour.call(trip)
    return trip


def test_a_run_that_is_cancelled_in_its_last_step_does_not_complete(cancelled, world):
    """Its value is not on record yet, so it is compensated, shielded as ever."""
    assert world == ["a", "-a"]


def test_what_was_cancelled_is_run_again_on_demand_only(colour, cancelled, act):
    """Somebody did not want it, so the same key does not simply do it."""
    with pytest.raises(RunConflictError, match=r"was cancelled; using\(rerun=True\) runs it afresh"):
        colour.call(cancelled)
    act.asks.clear()
    assert colour.call(cancelled.using(rerun=True)) == "A"


def test_a_cancelled_child_ends_its_whole_tree(colour, stores, world, act):
    """Whatever the bodies around it make of it: catching exceptions catches no stop."""
    act.asks.add("c")

    @colour.saga
    def inner():
        yield act("b")
        yield act("c")
        yield act("d")

    @colour.saga(key="k", runtime=stores())
    def outer():
        yield act("a")
        try:
            yield inner()
        except Exception:  # what a careless body does
            world.add("caught")
        yield act("e")

    with pytest.raises(RunCancelledError):
        colour.call(outer)
    assert world == ["a", "b", "c", "-c", "-b", "-a"]


def test_branches_settle_before_a_cancelled_run_is_compensated(colour, stores, world, act):
    """One is told; what its neighbours have begun comes to an end, and none of them begins anything more."""
    act.asks.add("a")
    parallel = aio.parallel if colour.is_async else sagadsl.parallel

    @colour.saga
    def branch(name):
        yield act(name)
        yield act(f"{name}{name}")

    @colour.saga(key="k", runtime=stores())
    def trip():
        yield parallel(*(functools.partial(branch, name) for name in "ab"))

    with pytest.raises(RunCancelledError):
        colour.call(trip)
    done = [effect for effect in world.effects if effect[0] != "-"]
    assert [e[1:] for e in world.effects if e[0] == "-"] == list(reversed(intents(stores)))
    assert set(done) == set(intents(stores))
    assert "aa" not in done
    assert world.effects[: len(done)] == done


def intents(stores):
    """Return the arguments of the steps in the order of their intents."""
    (run,) = stores().runs()
    return [step.arguments["name"] for step in run.steps if not step.saga]


def test_another_branch_does_not_try_again_after_the_run_was_cancelled(make_runtime, world):
    """It waits between two attempts when its neighbour is told: there is no third."""
    waits, told = threading.Event(), threading.Event()
    runtime = make_runtime(sleep=lambda _: (waits.set(), told.wait()))

    @sagadsl.step(compensate=lambda: world.add("-stubborn"), retries=Retry(5, wait=1.0))
    def stubborn():
        world.add("stubborn")
        raise ConnectionError("not now")

    @sagadsl.step(compensate=lambda: world.add("-ask"))
    def ask():
        world.add("ask")
        waits.wait()
        make_runtime().find("trip/k").cancel()

    def asking():
        ask()
        try:
            ask()
        finally:
            told.set()

    @sagadsl.saga(key="k", runtime=runtime)
    def trip():
        sagadsl.parallel(asking, stubborn)

    with pytest.raises(RunCancelledError):
        trip()
    assert sorted(world.effects) == ["-ask", "ask", "stubborn"]
    kinds = [entry.kind for entry in runtime.journal().entries(1)]
    assert kinds.count(Kind.INTENT) == 2


def test_a_task_group_around_the_step_that_is_told_changes_nothing(stores, world):
    """It cancels the neighbours and wraps the stop: what was done is compensated all the same."""

    @sagadsl.step(compensate=lambda name: world.add(f"-{name}"))
    async def act(name: str) -> None:
        world.add(name)
        if name == "b":
            stores().find("trip/k").cancel()
        await asyncio.sleep(0)

    async def twice(name):
        await act(name)
        await act(f"{name}{name}")

    @sagadsl.saga(key="k", runtime=stores())
    async def trip():
        async with asyncio.TaskGroup() as group:
            for name in "ab":
                group.create_task(twice(name))

    with pytest.raises(RunCancelledError):
        asyncio.run(trip())
    assert world == ["a", "b", "-b", "-a"]


def test_a_body_that_swallows_the_stop_gets_nowhere(colour, stores, world, act):
    """Nothing more of it is entered, and what it returns is not the run's value."""
    act.asks.add("a")

    @colour.saga(key="k", runtime=stores())
    def trip():
        yield act("a")
        for name in "bc":
            with contextlib.suppress(BaseException):  # what a careless body does
                yield act(name)
        return "done"

    with pytest.raises(RunCancelledError):
        colour.call(trip)
    assert world == ["a", "-a"]


def test_a_step_that_only_looks_is_told_when_it_is_recorded(colour, stores, world, act):
    """It has no intent, so that is its boundary; what it found is not kept."""

    @colour.step(read_only=True)
    def look() -> str:
        stores().find(sagadsl.current().run_id).cancel()
        world.add("look")
        return "seen"

    @colour.saga(key="k", runtime=stores())
    def trip():
        yield act("a")
        yield look()
        world.add("went on")

    with pytest.raises(RunCancelledError):
        colour.call(trip)
    assert world == ["a", "look", "-a"]
    assert [step.name for step in stores().runs()[0].steps] == ["act"]


def test_a_request_outlives_the_process_of_the_run(colour, stores, world, act):
    """Nobody has the run: whoever opens it next compensates, and enters nothing."""
    act.asks.add("cut b")

    @colour.saga(key="k", runtime=stores())
    def trip():
        for name in "abc":
            yield act(name)

    with pytest.raises(Cut):
        colour.call(trip)
    asked = stores().find("trip/k").cancel()
    assert (asked.status, asked.is_interrupted, asked.cancel_requested) == ("open", True, True)
    assert asked.cancel().cancel_requested  # again is no second request
    assert len(stores().journal().letters(1)) == 1
    with pytest.raises(RunCancelledError):
        colour.call(trip.using(runtime=stores()))
    assert world == ["a", "b", "-b", "-a"]
    assert not stores().find("trip/k").cancel_requested


@pytest.mark.parametrize("way", ["resume", "resume_all"])
def test_whoever_resumes_a_cancelled_run_compensates_it(colour, stores, world, act, way):
    """By its id, or with all others when the program starts."""
    act.asks.add("cut b")

    @colour.saga(key="k", runtime=stores())
    def trip():
        for name in "abc":
            yield act(name)

    with pytest.raises(Cut):
        colour.call(trip)
    stores().find("trip/k").cancel()
    if way == "resume":
        with pytest.raises(RunCancelledError):
            colour.call(trip.resume, "trip/k")
    else:
        (outcome,) = sagadsl.resume_all([trip])
        assert isinstance(outcome.error, RunCancelledError)
    assert world == ["a", "b", "-b", "-a"]


def test_a_paused_run_that_was_asked_meanwhile_is_compensated_when_it_is_resumed(colour, stores, world, act):
    """The request came while it ran and was not seen before it paused."""

    @colour.step(compensate=None)
    def fail():
        stores().find(sagadsl.current().run_id).cancel()
        raise ValueError("no")

    @colour.saga(key="k", runtime=stores(), on_failure="pause")
    def trip():
        yield act("a")
        yield fail()

    with pytest.raises(SuspendedError):
        colour.call(trip)
    assert stores().find("trip/k").cancel_requested
    with pytest.raises(RunCancelledError):
        colour.call(trip)
    assert world == ["a", "-a"]


def test_a_compensation_that_fails_after_a_cancel_waits_for_a_person(colour, stores, world, act):
    """The cause stays, and carrying on ends as cancelled."""
    act.asks.add("b")
    down = [True]

    def give_back():
        if down:
            raise ConnectionError("down")
        world.add("-take")

    @colour.step(compensate=sagadsl.Compensation(give_back, retries=0))
    def take():
        world.add("take")

    @colour.saga(key="k", runtime=stores())
    def trip():
        yield take()
        yield act("b")
        yield act("c")

    with pytest.raises(CompensationError):
        colour.call(trip)
    with pytest.raises(RunConflictError, match="a compensation failed"):
        stores().find("trip/k").cancel()
    down.clear()
    run = colour.run(trip.compensate("trip/k"))
    assert (run.status, run.cause) == ("compensated", "cancel")
    assert world == ["take", "b", "-b", "-take"]


def test_by_hand_a_step_of_a_cancelled_run_says_so_and_compensate_does_the_rest(stores, world):
    """There is no body to leave."""
    run = sagadsl.saga("hand", key="k", runtime=stores())
    undo = functools.partial(run.step, compensate=None)

    def act(name):
        world.add(name)

    def back(name):
        world.add(f"-{name}")

    run.step(act, compensate=back)("a")
    stores().find("hand/k").cancel()
    with pytest.raises(RunCancelledError):
        undo(act)("b")
    assert (run.compensate().status, world) == ("compensated", ["a", "-a"])


def test_by_hand_a_cancelled_run_is_not_completed(stores, world):
    """Completing it is a boundary too: what it owes is compensated there."""
    run = sagadsl.saga("hand", key="k", runtime=stores())

    def act(name):
        world.add(name)

    def back(name):
        world.add(f"-{name}")

    run.step(act, compensate=back)("a")
    stores().find("hand/k").cancel()
    with pytest.raises(RunCancelledError):
        run.complete()
    assert world == ["a", "-a"]


def test_a_block_that_is_cancelled_is_left_as_compensated(colour, stores, world, act):
    """Its body is a saga's."""
    act.asks.add("a")

    def sync():
        with sagadsl.saga("block", key="k", runtime=stores()):
            act("a")
            act("b")

    async def other():
        async with sagadsl.saga("block", key="k", runtime=stores()):
            await act("a")
            await act("b")

    with pytest.raises(RunCancelledError):
        colour.call(other if colour.is_async else sync)
    assert world == ["a", "-a"]


# -- too late, or nothing to do ---------------------------------------------------------------------------------------


def test_what_has_ended_or_waits_for_a_person_is_not_cancelled(stores, world):
    """Each with what to do instead."""
    fails = [True]

    def back():
        if fails:
            raise ConnectionError("down")

    @sagadsl.step(compensate=sagadsl.Compensation(back, retries=0))
    def act():
        pass

    @sagadsl.saga(key="{end}", runtime=stores())
    def trip(end):
        act()
        if end != "completed":
            raise ValueError(end)

    with pytest.raises(CompensationError):
        trip("stuck")
    with pytest.raises(SuspendedError):
        trip.using(on_failure="pause")("paused")
    fails.clear()
    trip("completed")
    with pytest.raises(ValueError, match="compensated"):
        trip("compensated")
    find = stores().find
    with pytest.raises(RunConflictError, match=r"is completed.*sagadsl compensate trip/completed"):
        find("trip/completed").cancel()
    with pytest.raises(RunConflictError, match=r"is paused, and a person decides.*sagadsl resume trip/paused"):
        find("trip/paused").cancel()
    with pytest.raises(RunConflictError, match=r"a compensation failed.*sagadsl compensate trip/stuck"):
        find("trip/stuck").cancel()
    assert find("trip/compensated").cancel().status == "compensated"
    assert [stores().journal().letters(number) for number in range(1, 5)] == [[]] * 4


def test_a_run_past_its_pivot_is_not_cancelled(colour, stores, world, act):
    """It only goes forward; nor is one whose request came while the pivot was under way, and that says so."""

    @colour.step(compensate=PIVOT)
    def pay():
        world.add("pay")
        stores().find(sagadsl.current().run_id).cancel()

    @colour.step(compensate=None)
    def ask():
        with pytest.raises(RunConflictError, match="is past its pivot, pay"):
            stores().find(sagadsl.current().run_id).cancel()

    @colour.saga(key="k", runtime=stores())
    def trip():
        yield act("a")
        yield pay()
        yield ask()
        return (yield act("b"))

    assert colour.call(trip) == "B"
    assert world == ["a", "pay", "b"]
    entries = stores().journal().entries(1)
    (refused,) = [entry for entry in entries if entry.kind is Kind.REFUSED]
    assert (refused.result, [letter.seq for letter in stores().journal().letters(1)]) == (
        '{"cause":"cancel"}',
        [refused.seq],
    )


def test_a_request_that_came_too_late_is_refused_when_the_run_goes_on(colour, stores, world, act):
    """The pivot was done, and its process killed, before anybody read it."""
    act.asks.add("cut b")

    @colour.step(compensate=PIVOT)
    def pay():
        world.add("pay")
        stores().find(sagadsl.current().run_id).cancel()

    @colour.saga(key="k", runtime=stores())
    def trip():
        yield pay()
        yield act("b")

    with pytest.raises(Cut):
        colour.call(trip)
    colour.call(trip)
    assert world == ["pay", "b", "b"]
    assert stores().find("trip/k").status == "completed"


def test_a_run_that_compensates_already_needs_no_request(stores, world):
    """Nor is one that it finds under way."""
    asked = []

    def back():
        asked.append(stores().find("trip/k").cancel().status)

    @sagadsl.step(compensate=back)
    def act():
        pass

    @sagadsl.saga(key="k", runtime=stores())
    def trip():
        act()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        trip()
    assert (asked, stores().journal().letters(1)) == (["compensating"], [])


def test_a_run_that_ends_while_it_is_being_asked_is_not_cancelled(make_runtime):
    """The letter is left in the same look in which the run is seen unfinished: either it counts, or it says so."""
    runtime = make_runtime()
    hand = sagadsl.saga("hand", key="k", runtime=runtime)
    hand.step(print)()
    journal = make_runtime().journal()
    post = journal.post

    def late(letter):
        journal.post = post
        hand.complete()
        return post(letter)

    journal.post = late
    with pytest.raises(RunConflictError, match="is completed"):
        make_runtime(store=journal).cancel("hand/k")
    assert journal.letters(1) == []


def test_a_letter_of_an_unknown_kind_stops_the_run_and_compensates_nothing(stores, world):
    """It is of a newer version, or of somebody who writes in our file."""

    @sagadsl.step(compensate=lambda: world.add("-a"))
    def act():
        world.add("a")
        stores().journal().post(Letter(0, 1, 0, "greeting", None))

    @sagadsl.saga(key="k", runtime=stores())
    def trip():
        act()
        act()

    with pytest.raises(JournalError, match="a letter of a kind that is unknown here, 'greeting': upgrade sagadsl"):
        trip()
    assert world == ["a"]


def test_a_store_that_cannot_be_read_stops_a_run_that_is_told_something(stores, world):
    """As anywhere else: the run stays open."""
    runtime = stores()

    @sagadsl.step(compensate=lambda: world.add("-a"))
    def act():
        world.add("a")
        stores().find("trip/k").cancel()

    @sagadsl.saga(key="k", runtime=runtime)
    def trip():
        act()
        act()

    journal = runtime.journal()

    def gone(number):
        raise JournalError("sagas.db", "gone")

    letters, commit = journal.letters, journal.commit
    journal.letters = lambda number: letters(number) if number != 1 or not journal.entries(1)[2:] else gone(number)
    with pytest.raises(JournalError, match="gone"):
        trip()
    journal.letters = letters
    with pytest.raises(RunCancelledError):
        trip()
    assert (world, journal.commit) == (["a", "-a"], commit)


def test_a_damaged_letter_is_told(make_runtime):
    """Whatever the file says."""
    import sqlite3  # by nobody else here

    runtime = make_runtime()
    hand = sagadsl.saga("hand", key="k", runtime=runtime)
    hand.step(print)()
    with sqlite3.connect(runtime.journal().name) as shell:
        shell.execute("pragma ignore_check_constraints = on")
        shell.execute("insert into letters values (1, 1, 0, 'cancel', null, null)")
        shell.execute("pragma writable_schema = on")
        shell.execute("update sqlite_schema set sql = replace(sql, ') strict', ')') where name = 'letters'")
    shell.close()
    with sqlite3.connect(runtime.journal().name) as shell:
        shell.execute("update letters set payload = 1.5")
    shell.close()
    with pytest.raises(JournalError):
        Runtime(runtime.journal().name).find("hand/k")


def test_a_letter_that_cannot_be_understood_stops_a_run_before_it_goes_on(stores, world):
    """It came while nobody had it."""
    fails = [True]

    @sagadsl.step(compensate=lambda: world.add("-a"))
    def act():
        world.add("a")
        if fails:
            raise Cut

    @sagadsl.saga(key="k", runtime=stores())
    def trip():
        act()

    with pytest.raises(Cut):
        trip()
    stores().journal().post(Letter(0, 1, 0, "greeting", None))
    with pytest.raises(JournalError, match="unknown here, 'greeting'"):
        trip()
    assert world == ["a"]


# -- while a step waits for its next attempt ---------------------------------------------------------------------------

HOUR = 3600.0


@pytest.fixture
def awake(stores, monkeypatch):
    """Give what makes a runtime whose time passes as it does, and who looks often whether its run is cancelled."""
    monkeypatch.setattr(drive, "NAP", 0.01)
    return functools.partial(stores, sleep=None, asleep=None)


@pytest.fixture
def stubborn(colour, world, stores):
    """Make a step that fails at first; when it has waited for a while, somebody asks that the run be cancelled."""

    def ask():
        stores().journal().post(Letter(0, 1, 0, Cause.CANCEL, "somebody"))

    def make(wait, **options):
        @colour.step(retries=Retry(1, wait=wait), name="stubborn", **options)
        def stubborn():
            world.add("stubborn")
            if world.effects.count("stubborn") == 1:
                threading.Timer(0.05, ask).start()
                raise ConnectionError("not now")

        return stubborn

    return make


def test_a_cancel_is_seen_while_a_step_waits_for_its_next_attempt(colour, awake, world, act, stubborn):
    """An hour is not waited for."""

    @colour.saga(key="k", runtime=awake())
    def trip():
        yield act("a")
        yield stubborn(HOUR, compensate=lambda: world.add("-stubborn"))()

    with pytest.raises(RunCancelledError):
        colour.call(trip)
    assert world == ["a", "stubborn", "-a"]


def test_a_cancel_that_came_during_the_attempt_is_seen_before_any_waiting(colour, stores, world, act):
    """However long a nap is."""

    @colour.step(compensate=None, retries=Retry(1, wait=HOUR))
    def late():
        stores().find("trip/k").cancel()
        raise ConnectionError("not now")

    @colour.saga(key="k", runtime=stores(sleep=None, asleep=None))
    def trip():
        yield act("a")
        yield late()

    with pytest.raises(RunCancelledError):
        colour.call(trip)
    assert world == ["a", "-a"]


def test_a_cancel_is_seen_while_the_rest_of_a_wait_is_waited_for(colour, awake, stores, world, act, stubborn):
    """By whoever goes on with the run."""

    def die(_):
        raise Cut

    @colour.saga(key="k", runtime=stores(sleep=die, asleep=die))
    def trip():
        yield act("a")
        yield stubborn(HOUR, compensate=None)()

    with pytest.raises(Cut):
        colour.call(trip)
    with pytest.raises(RunCancelledError):
        colour.call(trip.using(runtime=awake()))
    assert world == ["a", "stubborn", "-a"]


def test_branches_that_wait_stop_with_the_one_that_is_told(awake, stores, world):
    """Whichever it is: none of them waits for its hour."""
    alone = threading.Barrier(3, lambda: threading.Timer(0.05, stores().find("trip/k").cancel).start())

    @sagadsl.step(compensate=None, retries=Retry(1, wait=HOUR))
    def wait(name: str):
        world.add(name)
        alone.wait()
        raise ConnectionError("not now")

    @sagadsl.saga(key="k", runtime=awake())
    def trip():
        wait.map("abc")

    with pytest.raises(RunCancelledError):
        trip()
    assert sorted(world.effects) == ["a", "b", "c"]


def test_past_its_pivot_a_run_that_waits_is_not_cancelled(colour, awake, world, stubborn):
    """It is on record that this came too late, before it is tried again."""
    runtime = awake()

    @colour.step(compensate=PIVOT)
    def pay():
        world.add("pay")

    @colour.saga(key="k", runtime=runtime)
    def trip():
        yield pay()
        yield stubborn(0.3, compensate=None)()

    colour.call(trip)
    assert world == ["pay", "stubborn", "stubborn"]
    kinds = [entry.kind for entry in runtime.journal().entries(1)]
    assert kinds[-5:] == [Kind.RETRYING, Kind.REFUSED, Kind.INTENT, Kind.DONE, Kind.COMPLETED]


def test_a_compensation_that_waits_goes_on(colour, awake, stores, world):
    """It is what a cancel asks for."""

    def back():
        world.add("-act")
        if world.effects.count("-act") == 1:
            stores().journal().post(Letter(0, 1, 0, Cause.CANCEL, "somebody"))
            raise ConnectionError("not now")

    @colour.step(compensate=sagadsl.Compensation(back, retries=Retry(1, wait=0.05)))
    def act():
        world.add("act")

    @colour.saga(key="k", runtime=awake())
    def trip():
        yield act()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        colour.call(trip)
    assert world == ["act", "-act", "-act"]


def test_a_run_of_which_nothing_is_on_record_waits_undisturbed(colour, awake, world, stubborn):
    """Nobody can know of it, so there is nobody to ask."""

    @colour.saga(key="k", runtime=awake())
    def trip():
        yield stubborn(0.1, read_only=True)()

    colour.call(trip)
    assert world == ["stubborn", "stubborn"]


def test_a_store_that_cannot_be_read_while_a_step_waits_stops_nothing(colour, awake, world, stubborn):
    """What came meanwhile is seen when it can be."""
    runtime = awake()
    journal = runtime.journal()
    letters, failures = journal.letters, []

    def fail_twice(number):
        if len(failures) < 2:
            failures.append(number)
            raise JournalError(journal.name, "gone for a moment")
        return letters(number)

    journal.letters = fail_twice

    @colour.saga(key="k", runtime=runtime)
    def trip():
        yield stubborn(HOUR, compensate=None)()

    with pytest.raises(RunCancelledError):
        colour.call(trip)
    assert (world.effects, failures) == (["stubborn"], [1, 1])
