"""The laws of sagas, for every program: what holds whatever the steps are, however they end, wherever a process dies.

Programs, the world that notes what happens, the judge and the model are in `programs`. Each law has beside it, at the
end, a mutant that its check must refuse: a check that nothing fails says nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tempfile
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from attrs import define
from hypothesis import HealthCheck, Phase, assume, example, find, given, settings
from hypothesis import strategies as st

from sagadsl import JournalError, ReplayError, Runtime, Status
from sagadsl._core import state
from sagadsl._core.drive import company
from sagadsl._core.flow import again, calls, compensation, doubt, leaving, stopping
from sagadsl._core.history import restore
from sagadsl._core.journal import Log
from sagadsl._core.journal.sqlite import SqliteJournal
from sagadsl._core.scope import Scope
from sagadsl._core.scope.past import Past
from sagadsl._core.scope.slot import Slot
from sagadsl._core.settings import Options
from sagadsl._core.values import Entry, Kind, StepStatus
from tests.crash.early import hasty
from tests.properties.programs import (
    KINDS,
    PROBED,
    Act,
    Boom,
    Both,
    Child,
    Death,
    Ledger,
    Seq,
    Try,
    Within,
    World,
    acts,
    cut_in,
    judge,
    patient,
    predict,
    programs,
    recorded,
)

EXAMPLES = int(os.environ.get("SAGADSL_EXAMPLES", "0"))
"""How many fresh examples a law gets by hand; without it the same few each time."""


def law(examples: int) -> Any:
    """Give a law its budget, and no deadline."""
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    """Do not say a thousand times which run goes on."""
    logger = logging.getLogger("sagadsl")
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(logging.NOTSET)


SLOW = Act("c", fates=("boom", "boom"), retries=2)

colours = st.booleans()
paces = st.lists(st.integers(0, 4), min_size=1, max_size=5).map(tuple)
moments = st.lists(st.integers(1, 60), max_size=4)
asked = acts(kinds=("asked",), ends=("no", "boom", "late")).map(
    lambda act: Act(act.name, act.kind, act.fates, (), len(act.fates), act.keyed)
)
"""Steps whose probe knows: nothing is ever uncertain about them."""
certain = acts(kinds=("undo", "even", "plain", "mail"), ends=("no", "late")).map(
    lambda act: Act(act.name, act.kind, act.fates, (), len(act.fates), act.keyed)
)
"""Steps that succeed in the end, whatever is cut off: a death can change nothing about how they end."""


def check_model(world: World, outcome: Any) -> None:
    """Compare what happened with what the model says of the same program and the same attempts cut off."""
    if was_pardoned(world):
        return
    model, expected = predict(world.program, cut_in(world))
    assert outcome == expected
    assert recorded(world) == model.effects
    steps = [(s.arguments["named"], s.status, s.attempts) for s in world.run.steps if not s.saga]
    assert steps == [(c.named, c.status, c.attempts if c.act.kind != "look" else 0) for c in model.calls]


def check_list(world: World) -> None:
    """Compare what a list says of a run, without having read it whole, with what the run says."""
    whole = world.run
    listed = next(run for run in Runtime(world.journal).runs() if run.generation == whole.generation)
    calls = [step for step in whole.steps if not step.saga]
    assert listed.steps_total == len(calls)
    assert listed.steps_done == sum(step.status == "done" for step in calls)
    assert listed == whole
    row = next(row for row in world.journal.runs() if (row.id, row.generation) == (whole.id, whole.generation))
    assert row.outline == (whole._outline.text() if whole.status.is_terminal else None)


def check_branches(world: World, outcome: Any) -> None:
    """Compare with the model what does not depend on who came first."""
    model, expected = predict(world.program, cut_in(world))
    if expected[0] == "stuck" or was_pardoned(world):
        return  # which branch still moved when the tree stopped is a matter of timing
    assert outcome == expected
    assert sorted(recorded(world)) == sorted(model.effects)
    steps = [(s.arguments["named"], s.status) for s in world.run.steps if not s.saga]
    assert sorted(steps) == sorted((call.named, call.status) for call in model.calls)


def was_pardoned(world: World) -> bool:
    """Tell whether a process died between a compensation's failure and the run's: the next one tries it once more."""
    told = [event[1].kind if event[0] == "wrote" else event[0] for event in world.events]
    return any(then == "died" and what in PARDONED for what, then in pairwise(told))


PARDONED = {Kind.COMPENSATION_ERROR, Kind.COMPENSATION_FAILED}
"""After which another entry tells the levels above."""


def strike(world: World, moments: list[int]) -> None:
    """Call the saga in processes that are struck, one after the other."""
    for at in moments:
        if world.status != "compensated":  # calling it then is another generation's business
            world.live(at)


# -- what a saga does --------------------------------------------------------------------------------------------------


@law(200)
@given(programs(acts(kinds=(*KINDS, *PROBED))), colours)
def test_a_saga_ends_as_the_model_says(program, is_async):
    """World, outcome and statuses of steps."""
    world = World(program, is_async)
    outcome = world.live()
    judge(world)
    check_model(world, outcome)


@law(100)
@given(programs(gathers=True), paces)
def test_branches_end_as_the_model_says_whatever_their_timing(program, paces):
    """Gathered branches come in any order and yet to the same end."""
    world = World(program, True, paces)
    outcome = world.live()
    judge(world)
    check_branches(world, outcome)


@law(100)
@given(programs(acts(kinds=("undo", "even"), ends=("late",)), gathers=True, fails=True), paces)
def test_compensation_is_the_mirror_of_intents(program, paces):
    """Children and branches included, whatever the order in which they ended."""
    world = World(program, True, paces)
    world.live()
    judge(world)
    intents = list(dict.fromkeys(e.step for e in world.entries if e.kind is Kind.INTENT and e.name != "plain"))
    backward = [e.step for e in world.entries if e.kind is Kind.COMPENSATION_INTENT]
    assume(
        not any(e.kind is Kind.COMPENSATING and e.scope > 1 for e in world.entries)
    )  # children that failed went first
    if world.status == "compensated":
        assert list(dict.fromkeys(backward)) == [
            step for step in reversed(intents) if step.partition("#")[0] != "plain"
        ]


# -- crash, then go on ------------------------------------------------------------------------------------------------


@law(25)
@given(programs(), colours)
@example(Child("a", Act("b", "undo", ("late",), ("boom", "boom"))), False)  # dies before the levels above are told
def test_a_death_at_any_moment_leaves_a_run_that_ends_as_the_model_says(program, is_async):
    """Before and after each effect and each entry; the next process goes on."""
    whole = World(program, is_async)
    whole.live()
    for at in range(1, whole.ticks + 1):
        world = World(program, is_async)
        assert world.live(dies_at=at) is None
        outcome = world.finish()
        judge(world)
        check_model(world, outcome)


@law(60)
@given(programs(certain), colours, moments)
def test_a_run_that_died_ends_as_one_that_never_did(program, is_async, moments):
    """The same outcome, and the same world but for what a death cut off: at most one effect each time."""
    whole, world = World(program, is_async), World(program, is_async)
    expected = whole.live()
    strike(world, moments)
    assert world.finish() == expected
    assert recorded(world) == whole.effects
    assert len(world.effects) - len(whole.effects) <= sum(event == ("died",) for event in world.events)
    judge(world)


@law(100)
@given(programs(asked, fails=True), colours, moments)
def test_what_a_probe_knows_happens_once_wherever_a_process_dies(program, is_async, moments):
    """A death in an attempt, in the probe or beside its answer repeats no effect, and leaves none out."""
    whole, world = World(program, is_async), World(program, is_async)
    expected = whole.live()
    strike(world, moments)
    assert world.finish() == expected
    judge(world)
    forward = [[effect for effect in each.effects if effect[0] != "-"] for each in (world, whole)]
    assert forward[0] == forward[1]
    assert {effect for effect in world.effects if effect[0] == "-"} == {f"-{effect}" for effect in forward[0]}


@law(100)
@given(programs(), colours, moments, st.sampled_from([Death, KeyboardInterrupt, asyncio.CancelledError]))
def test_interruption_is_not_failure(program, is_async, moments, how):
    """However often a run is interrupted it can be finished, and what is recorded is never entered again."""
    world = World(program, is_async, how=how)
    strike(world, moments)
    outcome = world.finish()
    judge(world)
    check_model(world, outcome)


@law(150)
@given(programs(gathers=True), paces, moments)
@example(Both((Act("a", "look"), Act("b"))), (1,), [2])  # a look leaves no trace until it has ended
def test_branches_that_died_end_as_the_model_says_whatever_their_timing(program, paces, moments):
    """Identity is fixed by what is called, not by when: another timing after each death changes nothing."""
    world = World(program, True, paces)
    strike(world, moments)
    outcome = world.finish()
    judge(world)
    check_branches(world, outcome)


@law(150)
@given(programs(gathers=True, eager=True), paces, moments)
@example(Try(Both((Act("a"), Act("b", fates=("boom",)), SLOW), eager=True), Act("d")), (0,), [])  # and its body goes on
def test_branches_left_alone_by_a_failure_settle_before_anything_else(program, paces, moments):
    """``asyncio.gather`` gives the first failure out while other branches still run; the body may even go on."""
    world = World(program, True, paces)
    strike(world, moments)
    world.finish()
    judge(world)
    assert all(step.status not in {"entered", "retrying", "compensating"} for step in world.run.steps)


@law(100)
@given(programs(), colours, st.integers(0, 20))
def test_a_full_disk_compensates_nothing(program, is_async, room):
    """A journal that cannot record stops the run where it is; with room again it goes on."""
    world = World(program, is_async)
    world.writes_left = room
    try:
        outcome = world.live()
    except JournalError:
        after = world.events[world.events.index(("full",)) :]
        assert {event[0] for event in after} == {"full"}, "no record, no progress"
        world.events.append(("died",))
        world.writes_left = -1
        outcome = world.finish()
    judge(world)
    check_model(world, outcome)


hanging = programs(acts(ends=("no", "boom", "odd", "late", "hang", "hang")), within=True).map(patient)
"""Programs whose steps may hang until the time is up that their body gives them."""
CUT_OFF = Within(Child("a", Seq((Act("b"), Act("c", fates=("hang",))))), Act("d"))


@law(150)
@given(hanging, paces, moments, st.sampled_from([Death, KeyboardInterrupt]))
@example(CUT_OFF, (0,), [], Death)
@example(Within(Seq((CUT_OFF, Act("e", fates=("hang",)))), Act("f")), (0,), [30], Death)
@example(Within(Act("a", "look", ("hang",)), Act("b")), (0,), [6], Death)  # a look leaves no trace until it has ended
@example(Seq((Within(Act("a", "needy", ("hang",)), Act("b")), Act("c", "plain", ("boom",)))), (0,), [9], Death)
def test_a_body_that_survives_a_cancellation_takes_the_same_way_each_time(program, paces, moments, how):
    """Outcome, world and journal are the model's, wherever a process died and whatever was cut off."""
    world = World(program, True, paces, how=how)
    strike(world, moments)
    outcome = world.finish()
    judge(world)
    check_model(world, outcome)


@law(60)
@given(hanging)
@example(CUT_OFF)
def test_a_cancellation_on_record_is_waited_for_and_entered_never_again(program):
    """The process that dies with its last entry, and the one that replays all of it, see the same."""
    whole = World(program, True)
    whole.live()
    assume(any(entry.kind is Kind.CANCELLED for entry in whole.entries))
    world = World(program, True)
    world.live(dies_at=whole.ticks - 1)
    entered = [event for event in world.events if event[0] == "entered" and not event[2]]
    world.finish()
    judge(world)
    assert [event for event in world.events if event[0] == "entered" and not event[2]] == entered


def has(world: World, kind: Kind, name: str = "") -> bool:
    return any(entry.kind is kind and (not name or entry.name == name) for entry in world.entries)


REACHED = {
    "a step that is cut off": (hanging, lambda world: has(world, Kind.CANCELLED)),
    "a look that is cut off": (hanging, lambda world: has(world, Kind.CANCELLED, "look")),
    "a child that is left": (hanging, lambda world: has(world, Kind.LEFT)),
    "a cut-off step that is compensated": (
        hanging,
        lambda world: has(world, Kind.CANCELLED) and any(s.uncertain for s in world.run.steps if "compens" in s.status),
    ),
    "tasks that write together": (programs(gathers=True), lambda world: world.shared > 2),
    "a child whose compensation fails": (
        programs(),
        lambda world: any(e.kind is Kind.COMPENSATION_FAILED and e.scope > 1 for e in world.entries),
    ),
}


@pytest.mark.parametrize("reached", REACHED)
def test_the_programs_reach(reached):
    """What a law never meets it says nothing about."""
    drawn, is_met = REACHED[reached]

    def meets(program: Any) -> bool:
        world = World(program, True)
        world.live()
        return is_met(world)

    budget = settings(law(2000), database=None, phases=[Phase.generate])
    assert find(drawn, meets, settings=budget, random=Random(1)) is not None  # noqa: S311


# -- crash, then compensate -------------------------------------------------------------------------------------------


@law(150)
@given(programs(gathers=True), colours, paces, moments, moments)
@example(Act("a", "needy"), False, (0,), [2], [2])  # cut off: still owed when it cannot be compensated
@example(Child("a", Child("b", Act("c", "needy", ("late",)))), False, (0,), [60], [60])  # stuck, again
def test_what_a_death_left_can_be_compensated_instead(program, is_async, paces, moments, more):
    """All that happened is compensated, the last intent first, and no step is entered, however often that dies too."""
    world = World(program, is_async, paces)
    strike(world, moments)
    assume(world.status not in {"", "completed", "compensated"})
    forward = [event for event in world.events if event[0] == "entered" and not event[2]]
    for at in more:
        world.compensate(at)
    ended = world.compensate()
    judge(world)
    assert [event for event in world.events if event[0] == "entered" and not event[2]] == forward
    assert world.status == "compensated" or ended[0] == "stuck"


@law(100)
@given(programs(asked, gathers=True), colours, paces, moments, moments)
def test_only_what_happened_is_compensated_where_probes_know(program, is_async, paces, moments, more):
    """The doubt that a death leaves is taken away before anything is compensated, however often that dies too."""
    world = World(program, is_async, paces)
    strike(world, moments)
    assume(world.status not in {"", "completed", "compensated"})
    for at in more:
        world.compensate(at)
    world.compensate()
    judge(world)
    assert world.status == "compensated"
    happened = {effect for effect in world.effects if effect[0] != "-"}
    assert {effect[1:] for effect in world.effects if effect[0] == "-"} == happened


@law(100)
@given(programs(acts(kinds=("undo", "even", "plain", "look")), fails=True), colours, moments)
def test_a_run_whose_compensation_failed_is_carried_on_at_the_step_that_failed(program, is_async, moments):
    """As long as somebody mends the cause it ends compensated, and nothing is compensated twice."""
    world = World(program, is_async)
    strike(world, moments)
    world.finish()
    for _ in range(30):
        if world.status != "compensation_failed":
            break
        world.compensate()
    assert world.status in {"compensated", "completed"}
    judge(world)


# -- live and replayed ------------------------------------------------------------------------------------------------


@law(100)
@given(programs(gathers=True), colours, paces)
def test_a_body_sees_the_same_live_and_on_replay(program, is_async, paces):
    """Values and exceptions alike: the process that dies with its last entry, and the one that replays all of it."""
    whole = World(program, is_async, paces)
    whole.live()
    last = [event[1].kind for event in whole.events if event[0] == "wrote"][-1]
    world = World(program, is_async, paces)
    world.live(dies_at=whole.ticks - 1)  # before the last entry is written
    entered = [event for event in world.events if event[0] == "entered"]
    world.finish()
    judge(world)
    if last is Kind.COMPLETED:
        assert [event for event in world.events if event[0] == "entered"] == entered
        assert all(seen[0] == seen[-1] for seen in world.seen.values())
        assert any(len(seen) == 2 for seen in world.seen.values())


@law(60)
@given(programs(certain, gathers=True), colours)
def test_a_completed_key_gives_the_stored_value_and_enters_nothing(program, is_async):
    """Nothing is entered and nothing is written."""
    world = World(program, is_async)
    outcome = world.live()
    before = [event for event in world.events if event[0] != "process"]
    assert world.live() == outcome
    assert [event for event in world.events if event[0] != "process"] == before


# -- journals ---------------------------------------------------------------------------------------------------------


def told(entry: Entry) -> tuple[Any, ...]:
    """Return what an entry says, times and tracebacks aside."""
    result = json.loads(entry.result) if entry.result is not None else None
    said = (entry.kind, entry.scope, entry.step, entry.ref, entry.attempt, entry.name, entry.arguments)
    return (entry.number, entry.seq, *said, untraced(result))


def untraced(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: untraced(item) for name, item in value.items() if name != "traceback"}
    return [untraced(item) for item in value] if isinstance(value, list) else value


@law(100)
@given(programs(), moments)
def test_both_colours_write_the_same_journal(program, moments):
    """Kinds, steps, arguments and results, deaths included."""
    journals = []
    for is_async in (False, True):
        world = World(program, is_async)
        strike(world, moments)
        world.finish()
        journals.append([told(entry) for entry in world.journal.entries(1)])
    assert journals[0] == journals[1]


@law(40)
@given(programs(), colours, moments)
def test_the_journal_in_a_file_holds_what_the_one_in_memory_does(program, is_async, moments):
    """Entry by entry, deaths included."""
    with tempfile.TemporaryDirectory() as folder:
        file = SqliteJournal(Path(folder) / "sagas.db")
        kept, memory = World(program, is_async, journal=file), World(program, is_async)
        for world in (kept, memory):
            strike(world, moments)
        assert kept.finish() == memory.finish()
        judge(kept)
        assert [told(e) for e in file.entries(1)] == [told(e) for e in memory.journal.entries(1)]
        assert kept.run.is_live == memory.run.is_live
        check_list(kept)
        check_list(memory)
        for row in file.runs():
            file.release(row.number)
        file.close()


@law(60)
@given(programs(gathers=True), colours, paces, moments)
def test_each_prefix_of_a_journal_folds(program, is_async, paces, moments):
    """A process may die anywhere, so each beginning of a legal journal is one."""
    world = World(program, is_async, paces)
    strike(world, moments)
    world.finish()
    entries = world.journal.entries(1)
    runtime = Runtime(world.journal)
    for length in range(1, len(entries) + 1):
        run = runtime._open_run(None, world.journal.runs()[0], world.journal, Log(1, length), Options())
        root = restore(run, entries[:length])
        assert root.status in Status
        assert all(slot.child or slot.status in StepStatus for slot in root.calls())
        assert [slot.seq for slot in root.owed()] == sorted((slot.seq for slot in root.owed()), reverse=True)


# -- mutants: what the checks must refuse ------------------------------------------------------------------------------


@define(eq=False)
class Losing:
    """A journal that says it has written entries of some kinds, and has not."""

    journal: Any
    kinds: set[Kind]

    def append(self, log: Any, entry: Entry, full: bool) -> None:
        if entry.kind not in self.kinds:
            return self.journal.append(log, entry, full)
        log.seq += 1
        entry.number, entry.seq = log.number, log.seq
        return None

    def commit(self, log: Any, entries: Any, **how: Any) -> None:
        entries = list(entries)
        self.journal.commit(log, [entry for entry in entries if entry.kind not in self.kinds], **how)
        for entry in entries:
            if entry.kind in self.kinds:
                self.append(log, entry, full=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.journal, name)


TWO = Seq((Act("a"), Act("b")))
FAILING = Seq((Act("a"), Act("b"), Act("c", "plain", ("boom",))))
BRANCHES = Both((Seq((Act("a"), Act("b"))), Seq((Act("c"), Act("d")))))


@pytest.mark.parametrize("is_async", [False, True])
def test_the_judge_refuses_a_journal_that_drops_intents(is_async):
    world = World(TWO, is_async, around=lambda journal: Losing(journal, {Kind.INTENT}))
    world.live()
    with pytest.raises(AssertionError, match="G3"):
        judge(world)


@pytest.mark.parametrize("is_async", [False, True])
def test_the_judge_refuses_a_journal_that_loses_outcomes(is_async):
    world = World(TWO, is_async, around=lambda journal: Losing(journal, {Kind.DONE}))
    world.live()
    with pytest.raises(AssertionError, match="G2"):
        judge(world)


def test_the_judge_refuses_a_store_that_tells_tasks_too_early(monkeypatch):
    monkeypatch.setattr(Ledger, "write_together", hasty(Ledger.write_together))
    world = World(BRANCHES, True)
    world.live()
    with pytest.raises(AssertionError, match="G3"):
        judge(world)


def test_the_judge_refuses_a_cut_off_step_that_is_entered_again(monkeypatch):
    monkeypatch.setattr(again, "PATIENCE", ())  # or waiting for the others hides it
    monkeypatch.setattr(company, "OF_STEPS", frozenset())
    program = Within(Act("a", fates=("hang", "hang")), Act("b"))
    whole = World(program, True)
    whole.live()
    world = World(program, True)
    monkeypatch.setattr(Slot, "has_outcome", property(lambda self: self.done))
    world.live(dies_at=whole.ticks - 1)
    world.live()
    with pytest.raises(AssertionError, match="G1"):
        judge(world)


def test_the_model_refuses_a_run_that_forgets_that_a_step_was_cut_off():
    """What is lost is the trap itself: the other branch is taken by the next process."""
    program = Within(Act("a", fates=("hang",)), Act("b"))
    world = World(program, True, around=lambda journal: Losing(journal, {Kind.CANCELLED}))
    outcome = world.live()
    with pytest.raises(AssertionError):
        check_model(world, outcome)


def test_the_judge_refuses_a_child_that_goes_on_after_it_was_left(monkeypatch):
    monkeypatch.setattr(again, "PATIENCE", ())  # or waiting for the others hides it
    monkeypatch.setattr(company, "OF_STEPS", frozenset())
    program = Within(Child("a", Try(Act("c", fates=("hang",)), Act("e"))), Act("d"))
    whole = World(program, True)
    whole.live()
    world = World(program, True)
    world.live(dies_at=whole.ticks - 1)
    monkeypatch.setattr(Scope, "is_open", property(lambda self: True))
    for room in (calls, stopping, leaving):
        monkeypatch.setattr(room, "interruption", _forgetful)
    with pytest.raises(ReplayError):  # in the end; too late
        world.live()
    with pytest.raises(AssertionError, match="G5"):
        judge(world)


def _forgetful(slot: Slot | None) -> Any:
    """Return a failure where the interruption comes again: the child catches it and goes on."""
    yield from ()
    return Boom("forgotten")


def test_the_judge_refuses_a_journal_that_forgets_that_compensation_began():
    world = World(FAILING, around=lambda journal: Losing(journal, {Kind.COMPENSATING}))
    world.live()
    with pytest.raises(AssertionError, match="no scope around it has begun"):
        judge(world)


def test_the_judge_refuses_identity_by_occurrence_alone(monkeypatch):
    monkeypatch.setattr(again, "PATIENCE", ())  # or waiting for the others hides it
    monkeypatch.setattr(company, "OF_STEPS", frozenset())

    def by_occurrence(self: Past[Slot], name: str, base: str, arguments: str) -> Slot | None:
        found = next((each for each in self.unsorted if each[1].name == name), None)
        if found is None:
            return None
        self.unsorted.remove(found)
        return found[1]

    whole = World(BRANCHES, True, (1, 0, 2))
    whole.live()
    monkeypatch.setattr(Past, "take", by_occurrence)
    world = World(BRANCHES, True, (1, 0, 2))
    world.live(dies_at=whole.ticks - 1)
    world.live()
    with pytest.raises(AssertionError, match="G7"):
        judge(world)


def test_the_judge_refuses_compensation_in_the_order_of_completion(monkeypatch):
    def by_end(self: Scope) -> list[Slot]:
        slots = [slot for slot in self.calls() if slot.is_owed]
        return sorted(slots, key=lambda slot: -slot.ended)

    monkeypatch.setattr(Scope, "owed", by_end)
    slow_first = Seq((Both((Act("a"), Act("b"))), Act("c", "plain", ("boom",))))
    world = World(slow_first, True, (3, 0))
    world.live()
    assert world.effects[:2] == ["b", "a"]
    with pytest.raises(AssertionError, match="no mirror of intents"):
        judge(world)


def test_the_judge_refuses_a_run_that_enters_recorded_steps_again(monkeypatch):
    monkeypatch.setattr(Slot, "has_outcome", property(lambda self: False))
    monkeypatch.setitem(state.STEPS, (StepStatus.DONE, Kind.INTENT), StepStatus.ENTERED)
    world = World(TWO)
    world.live(dies_at=9)
    world.live()
    with pytest.raises(AssertionError, match="G1"):
        judge(world)


def test_the_judge_refuses_a_run_that_keeps_what_it_owes(monkeypatch):
    monkeypatch.setattr(Scope, "owed", lambda self: [])
    world = World(FAILING)
    world.live()
    with pytest.raises(AssertionError, match="G4"):
        judge(world)


def test_the_model_refuses_a_run_that_compensates_what_failed_cleanly(monkeypatch):
    owed = property(lambda self: self.status is not StepStatus.COMPENSATED and "compensate" in self.facts)
    monkeypatch.setattr(Slot, "is_owed", owed)
    world = World(Seq((Act("a"), Act("b", fates=("boom",)))))
    outcome = world.live()
    with pytest.raises(AssertionError):
        check_model(world, outcome)


def test_the_model_refuses_a_child_that_swallows_its_failure():
    program = Try(Child("a", Act("b", fates=("boom",))), Act("c"))
    world = World(program)
    outcome = world.live()
    world.program = Child("a", Act("b"))
    with pytest.raises(AssertionError):
        check_model(world, outcome)


def test_a_run_that_never_asks_its_probes_repeats_what_happened(monkeypatch):
    """So the law of `test_what_a_probe_knows_happens_once_wherever_a_process_dies` says something."""
    for room in (doubt, compensation):
        monkeypatch.setattr(room, "probe_call", lambda *_: None)
    repeated = []
    for at in range(1, 12):
        world = World(Act("a", "asked"))
        world.live(dies_at=at)
        world.finish()
        repeated.append(world.effects)
    assert ["a", "a"] in repeated
