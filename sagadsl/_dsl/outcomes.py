"""What comes out of a saga that has ended: its value, the original exception, or one of four outcomes for ``match``.

Both faces of a saga end here, the call and ``.outcome()``, so they cannot differ. `outcome` leads from one to the other
afterwards: the note that a failed call leaves on its exception knows the run. Nothing else is remembered, so the
outcome lives as long as the exception does, on any class of exception, frozen or with slots.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Self

from sagadsl._core.codec.faults import Remark, add_note, notes_of
from sagadsl._core.flow import Ended
from sagadsl._core.later import Later
from sagadsl._core.phrases import command, text_of, what_became
from sagadsl._core.runtime import Runtime
from sagadsl._core.scope.slot import OpenRun
from sagadsl._core.values import Status, StepStatus
from sagadsl.errors import CompensationError, RunConflictError, SuspendedError, UsageError

if TYPE_CHECKING:
    from sagadsl._core.values import outcomes
else:
    outcomes = Later("sagadsl._core.values.outcomes")

log = logging.getLogger("sagadsl")


class Told(Remark):
    """What became of a run, as a note on the exception that left it; it knows the run as long as it is this object."""

    __slots__ = ("_ended", "_run", "_runtime")
    _runtime: Runtime
    _run: OpenRun | None
    _ended: Ended | None

    def __new__(cls, text: str, runtime: Runtime, run: OpenRun | None, ended: Ended | None) -> Self:
        """Make the note of a run that *ended* (without its error, which would hold itself), or was stopped."""
        note = super().__new__(cls, text)
        note._runtime, note._run, note._ended = runtime, run, ended
        return note

    def outcome(self, error: BaseException) -> Any:
        """Return how the run ended that left this note on *error*."""
        ended = error if self._ended is None else self._ended.changed(error=error)
        return as_outcome(self._runtime, self._run, ended)


def outcome(error: BaseException, /) -> outcomes.Outcome[Any]:
    """Return the outcome of the saga whose call raised *error*: what ``.outcome()`` would have returned.

    It has ``.run`` (as the journal has it now) and ``.exit_code``. Of an exception that left several sagas it is the
    outcome of the last one.

    Raises:
        UsageError: No saga ended with this exception. What is not about the business (usage, replay, lock, journal,
            interruption) ends no saga.
    """
    for note in reversed(notes_of(error)):
        if isinstance(note, Told):
            found: outcomes.Outcome[Any] = note.outcome(error)
            return found
    msg = (
        f"no saga ended with {type(error).__name__}: {text_of(error)}. sagadsl.outcome() takes the exception object "
        "that the call of a saga raised after it had compensated or paused; usage, replay, lock and journal errors and "
        "interruptions are no outcome, and say themselves what to do"
    )
    raise UsageError(msg)


def as_call(runtime: Runtime, run: OpenRun | None, ended: Ended | BaseException) -> Any:
    """Return a saga's value, or raise what it failed with."""
    __tracebackhide__ = True
    if isinstance(ended, BaseException):
        raise stopped_by(runtime, run, ended)
    assert run is not None  # noqa: S101  # a run that has ended was open
    if ended.warning:
        log.warning(ended.warning, extra={"run": run.id})
    if ended.status is Status.COMPLETED:
        return ended.value
    error = ended.error
    if error is None:
        raise on_request(run)
    text = told(run, ended)
    is_usage = isinstance(error, UsageError)
    add_note(error, Remark(text) if is_usage else Told(text, runtime, run, ended.changed(error=None)))
    raise error


def stopped_by(runtime: Runtime, run: OpenRun | None, reason: BaseException) -> BaseException:
    """Return why a run stopped; where a person decides, with a note that knows the run."""
    if isinstance(reason, CompensationError | SuspendedError):
        add_note(
            reason, Told(f"saga {reason.run}: look: {command('show', reason.run, reason.store)}", runtime, run, None)
        )
    return reason


def told(run: OpenRun, ended: Ended) -> str:
    """Say in one line what became of a run that failed."""
    became = what_became(ended.compensated, ended.standing, ended.skipped)
    return f"saga {run.id}: {became}. Look: {command('show', run.id, run.journal.name)}"


def as_outcome(runtime: Runtime, run: OpenRun | None, ended: Ended | BaseException) -> Any:
    """Return how a saga ended, as one of four values; raise what is not about the business."""
    __tracebackhide__ = True
    if run is not None and isinstance(ended, Ended):
        if ended.status is Status.COMPLETED:
            as_call(runtime, run, ended)
            return ended_as(runtime, run, ended)
        if ended.error is not None and not isinstance(ended.error, UsageError):
            return ended_as(runtime, run, ended)
    if isinstance(ended, CompensationError):
        why = runtime.codec.raised(ended.fault, ended.step)
        cause = why if ended.__cause__ is None else ended.__cause__
        found = runtime.find(ended.run)
        skipped = tuple(step.key for step in found.steps if step.status == StepStatus.SKIPPED)
        steps = (ended.step, ended.compensated, ended.pending, skipped)
        return outcomes.CompensationFailed(cause, why, *steps, run=found)
    if isinstance(ended, SuspendedError):
        return outcomes.Suspended(Status(ended.status), ended.reason, run=runtime.find(ended.run))
    return as_call(runtime, run, ended)


def ended_as(runtime: Runtime, run: OpenRun, ended: Ended) -> outcomes.Completed[Any] | outcomes.Compensated:
    """Return the outcome of a run that has ended, whatever made it compensate."""
    if ended.status is Status.COMPLETED:
        return outcomes.Completed(ended.value, run=runtime.info(run))
    error = on_request(run) if ended.error is None else ended.error
    return outcomes.Compensated(error, ended.compensated, ended.standing, ended.skipped, run=runtime.info(run))


def on_request(run: OpenRun) -> RunConflictError:
    """Return the error of a call whose run was compensated because a person asked for it."""
    return RunConflictError(run.id, "was compensated on request; using(rerun=True) runs it afresh")


def as_compensated(runtime: Runtime, run: OpenRun | None, ended: Ended | BaseException) -> Any:
    """Return a run that was compensated on request."""
    __tracebackhide__ = True
    if isinstance(ended, BaseException) and not isinstance(ended, SuspendedError):  # that is as far back as was asked
        raise stopped_by(runtime, run, ended)
    assert run is not None  # noqa: S101  # as above
    return runtime.info(run)
