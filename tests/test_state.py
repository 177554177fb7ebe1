"""One table for scopes and one for steps say what may follow what; every status comes out of them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagadsl._core.state import OWED, SCOPES, STEPS
from sagadsl._core.values import Cause, Kind, RunRow, Status, StepStatus, as_time
from sagadsl._core.values.seen import RunInfo

SCOPE_KINDS, STEP_KINDS = (frozenset(kind for _, kind in table) for table in (SCOPES, STEPS))
NOT_YET = {Status.WAITING}
"""Waiting has no entries of its own yet."""


def folded(kinds):
    """Return where a scope stands after each of its entries."""
    return list(itertools.accumulate([None, *kinds], lambda status, kind: SCOPES[status, kind]))[1:]


def following(table, state):
    return sorted(kind for before, kind in table if before == state)


@st.composite
def legal(draw, table):
    """Return a walk through a table, from its beginning."""
    state, kinds = None, []
    for _ in range(draw(st.integers(1, 12))):
        choices = following(table, state)
        if not choices:
            break
        kind = draw(st.sampled_from(choices))
        state = table[state, kind]
        kinds.append(kind)
    return kinds


@given(legal(SCOPES))
def test_every_prefix_of_a_legal_journal_folds_to_a_legal_status(kinds):
    """A process may die after any entry; what is there then says where the run stands."""
    assert all(isinstance(status, Status) for status in folded(kinds))


@pytest.mark.parametrize("kinds", [[Kind.COMPLETED], [Kind.OPENED, Kind.COMPENSATION_DONE], [Kind.OPENED, Kind.OPENED]])
def test_a_journal_that_is_not_legal_is_an_error_and_never_a_guess(kinds):
    """An entry that fits no row means that the file is not what this library wrote."""
    with pytest.raises(KeyError):
        folded(kinds)


@pytest.mark.parametrize(
    ("table", "words"), [(SCOPES, set(Status) - NOT_YET), (STEPS, set(StepStatus))], ids=["scopes", "steps"]
)
def test_every_status_is_reached_and_left_by_something_that_can_happen(table, words):
    """No word is missing, none stands alone, and only the end of things has no way on."""
    assert set(table.values()) == words
    reached, new = {None}, {None}
    while new:
        new = {after for (before, _), after in table.items() if before in new} - reached
        reached |= new
    assert reached == words | {None}
    assert {before for before, _ in table} <= reached


def test_every_kind_of_entry_has_a_place():
    """In one table or the other; a child's opening is both a scope's and a call's."""
    assert set(Kind) == SCOPE_KINDS | STEP_KINDS
    assert set() == SCOPE_KINDS & STEP_KINDS


def test_a_take_over_changes_no_status():
    """Who goes on is a fact about the process, not about the saga."""
    assert all(SCOPES[status, Kind.TAKEN] is status for status in Status if (status, Kind.TAKEN) in SCOPES)
    live = set(Status) - NOT_YET - {Status.COMPENSATED}
    assert {status for status, kind in SCOPES if kind is Kind.TAKEN} == live


def test_a_call_that_was_cut_off_anywhere_can_be_entered_again_or_compensated():
    """No state of a forward attempt is a dead end, except one that is done."""
    again = {before for before, kind in STEPS if kind is Kind.INTENT and before is not None}
    forward = {StepStatus.ENTERED, StepStatus.RETRYING, StepStatus.FAILED, StepStatus.UNCERTAIN, StepStatus.CANCELLED}
    forward.add(StepStatus.NOT_LANDED)
    assert again == forward
    assert set(OWED) == forward | {StepStatus.DONE, StepStatus.COMPENSATION_FAILED}


def test_a_read_only_call_has_an_outcome_without_an_intent():
    """Also when it fails, is cut off by its timeout, and is called again after a pause."""
    outcomes = (Kind.DONE, Kind.FAILED, Kind.UNCERTAIN, Kind.CANCELLED)
    starts = (None, StepStatus.FAILED, StepStatus.UNCERTAIN)
    assert [(s, k) for s, k in itertools.product(starts, outcomes) if (s, k) not in STEPS] == []


def test_nothing_follows_a_compensated_step_and_a_done_one_is_only_compensated():
    """What is recorded stands; what a cut-off body got instead of it may still be said, and who was told."""
    assert following(STEPS, StepStatus.COMPENSATED) == []
    assert following(SCOPES, Status.COMPENSATED) == [Kind.LEFT, Kind.NOTIFIED, Kind.NOTIFY_ERROR]
    compensation = [Kind.COMPENSATION_INTENT, Kind.COMPENSATION_ERROR]
    assert following(STEPS, StepStatus.DONE) == sorted([*compensation, Kind.CANCELLED])


def test_a_person_skips_only_what_failed_and_nothing_follows_that():
    """The step is let be, whatever becomes of its run."""
    assert [status for status, kind in STEPS if kind is Kind.COMPENSATION_SKIPPED] == [StepStatus.COMPENSATION_FAILED]
    assert following(STEPS, StepStatus.SKIPPED) == []


def test_words_are_short_lower_case_and_readable_in_the_file():
    """What stands in the file is what the command line shows."""
    words = [*Kind, *Status, *StepStatus, *Cause]
    assert [word for word in words if not str(word).replace("_", "").isalpha() or str(word) != str(word).lower()] == []
    assert [status for status in Status if status.is_terminal] == [Status.COMPLETED, Status.COMPENSATED]


def test_a_run_is_interrupted_when_it_is_unfinished_and_nobody_holds_it():
    """A paused one is not: a person decides there."""
    told = {
        (s, live): RunInfo(id="a", saga="s", status=s, is_live=live).is_interrupted
        for s in Status
        for live in (True, False)
    }
    assert [key for key, value in told.items() if value] == [(Status.OPEN, False), (Status.COMPENSATING, False)]


def test_a_further_generation_has_idempotency_keys_of_its_own():
    """A run that was compensated and is run again must not be taken for a repetition."""
    assert [RunRow(1, "a", n, "s", "p", "d", 0).key_prefix for n in (1, 2)] == ["a", "a~2"]


def test_times_are_aware_and_exact():
    """Microseconds since 1970, beyond what a float can hold."""
    assert as_time(1_700_000_000_123_457).isoformat() == "2023-11-14T22:13:20.123457+00:00"
    assert as_time(-1).isoformat() == "1969-12-31T23:59:59.999999+00:00"
