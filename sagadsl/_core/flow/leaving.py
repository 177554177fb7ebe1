"""Leaving a saga: its value is recorded, or it pauses, or what it owes is compensated.

What stands in the journal, and a stop set on the run, come before whatever came out of the body.
"""

from __future__ import annotations

from math import inf
from typing import Any

from sagadsl._core.codec import Unstorable
from sagadsl._core.codec.faults import trimmed
from sagadsl._core.effects import Flow, Gather
from sagadsl._core.flow.again import come_after, come_out
from sagadsl._core.flow.compensation import Ended, compensate, is_compensated, stay_stuck
from sagadsl._core.flow.doubt import ask_of
from sagadsl._core.flow.record import failure, interruption, replayable, unreadable
from sagadsl._core.flow.stopping import barred, leave_when_stopped, pause, survive
from sagadsl._core.scope import Scope
from sagadsl._core.scope.open_run import CLOSED
from sagadsl._core.scope.slot import Slot
from sagadsl._core.scope.waking import met
from sagadsl._core.values import Cause, Kind, Status, StepStatus
from sagadsl.errors import Fault, ReplayError, RunConflictError, Stop

K = Kind


def settle(scope: Scope, value: Any, error: BaseException | None, pauses: bool) -> Flow[Ended]:  # noqa: FBT001
    """Leave a saga whose body returned *value* or raised *error*: record it, pause, or compensate.

    Raises:
        Stop: The run must not go on.
        BaseException: The body was interrupted; the run stays open.
    """
    run = scope.run
    yield from leave_when_stopped(scope, error)
    yield from come_out(scope)
    if scope.left and not isinstance(error, Stop):
        raise (yield from interruption(scope.slot))  # its body came to an end before the interruption did
    if scope.status is Status.COMPLETED or (scope.completed and scope.parent is not None):
        return complete_again(scope, value, error)
    if scope.status in {Status.COMPENSATING, Status.COMPENSATED, Status.COMPENSATION_FAILED}:
        return (yield from settle_compensating(scope))  # one that failed, and died before it told the levels above
    if scope.parent is not None and not scope.parent.is_open:
        raise (yield from barred(scope.parent))  # the body only ran to bind what it calls
    if error is not None and not isinstance(error, Exception):
        raise error
    wrong = scope.leftover()
    if wrong is not None:
        wrong.__cause__ = error
        raise run.halt(wrong)
    scope.closing = True
    yield Gather(scope)
    if run.cut:
        yield from survive(scope)
    error = failure(scope, value, error)
    if error is None:
        return (yield from complete(scope, value))
    if pauses or scope.pivot() is not None or scope.only_goes_forward:
        return (yield from pause(scope, error))
    text, fault = run.codec.encode_fault(run.genuine(error))
    ended = yield from compensate(scope, Cause.FAILURE, text, error)
    return fail(scope, ended, error, fault)


def settle_branch(scope: Scope, error: BaseException | None) -> Flow[None]:
    """Leave a branch, which is no saga: what it did stands or falls with the one around it.

    Raises:
        Stop: The run must not go on.
    """
    run = scope.run
    if run.stop is not None:
        raise Stop(run.stop)
    try:
        yield from come_out(scope)
        if scope.left and (error is None or isinstance(error, Exception)):
            raise (yield from interruption(scope.slot))  # its branches came to an end before the interruption did
        if (error is None or isinstance(error, Exception)) and scope.is_forward:
            wrong = scope.leftover()
            if wrong is not None:
                wrong.__cause__ = error
                raise run.halt(wrong)
            if error is None and not scope.completed and not any(each.left for each in scope.chain()):
                if run.cut:
                    yield from survive(scope)  # what is cut off in it gets its end before the branch does
                yield scope.entry(K.COMPLETED)
    except Stop:
        met(scope)
        raise
    scope.closing = True


def complete(scope: Scope, value: Any) -> Flow[Ended]:
    """Record a saga's value; one that cannot be stored is given out once, live."""
    warning = ""
    try:
        text, value = scope.run.codec.encode_and_copy(value)
    except Unstorable as why:
        text = None
        warning = (
            f"{scope.path or scope.run.id} is completed, but its value cannot be stored and is returned only once: "
            f"{why.type} at {why.path}: {why.reason}"
        )
    yield scope.entry(K.COMPLETED, result=text)
    return Ended(Status.COMPLETED, value, warning=warning)


def completed(scope: Scope) -> Ended:
    """Return how a saga ended that is completed, with its value as it is on record; that may be missing there."""
    run = scope.run
    if scope.result is not None:
        return Ended(Status.COMPLETED, run.codec.decode(scope.result))
    warning = f"{run.id} is completed, but its value could not be stored and was returned only once: this is None"
    return Ended(Status.COMPLETED, None, warning=warning)


def complete_again(scope: Scope, value: Any, error: BaseException | None) -> Ended:
    """Leave a child, or a block, whose value is on record: its body ran again only to bind what it called."""
    run = scope.run
    if scope.parent is None or scope.parent.is_open:
        wrong = scope.leftover()
        if wrong is None and error is not None:
            wrong = ReplayError(run.id, scope.path, (), (), f"it raised {error!r} where its value is recorded")
        if wrong is not None:
            wrong.__cause__ = error
            raise run.halt(wrong)
    try:
        return Ended(Status.COMPLETED, run.codec.decode(scope.result) if scope.result is not None else value)
    except ValueError as why:
        raise run.halt(unreadable(run, scope.path, why)) from why


def settle_compensating(scope: Scope) -> Flow[Ended]:
    """Go on compensating where an earlier process, or a request, left off."""
    run = scope.run
    fault = run.codec.told_fault(scope.fault) if scope.fault else None
    error = run.original(fault, scope.path)
    if scope.status is Status.COMPENSATED:
        ended = is_compensated(scope)
    else:
        if scope.spec is not None and scope.spec.is_async:
            yield from come_after(run, inf)  # what tasks that the body has left behind owe is bound first
        scope.closing = True
        yield Gather(scope)
        yield from ask_the_pivot(scope)
        ended = yield from compensate(scope, Cause(scope.cause or Cause.FAILURE), scope.fault, error)
    if fault is None or error is None:
        if scope.parent is not None:  # its parent compensated it while it was open
            raise Stop(CLOSED)
        return ended
    return fail(scope, ended, error, fault)


def ask_the_pivot(scope: Scope) -> Flow[None]:
    """Probe a pivot in doubt while a request to compensate can still be refused: before it is on record.

    Raises:
        Stop: The effect is there: the run only goes forward, and stays as it was.
    """
    root, pending = scope.root, scope.run.pending
    pivot = root.pivot()
    if pivot is None or not pending or pending[-1].kind is not K.COMPENSATING:
        return
    if any(slot.status is StepStatus.COMPENSATION_FAILED for slot in root.owed()):
        return  # an earlier request was not refused
    request = pending.pop()
    yield from ask_of(pivot, None)
    if pivot.has_happened:
        raise scope.run.halt(past_pivot(pivot))
    scope.run.pending.append(request)


def past_pivot(pivot: Slot) -> RunConflictError:
    """Return what to say of a request to compensate that comes too late."""
    return RunConflictError(pivot.run.id, f"is past its pivot, {pivot.key}: it can only go forward; resume it")


def leave_to_a_person(scope: Scope, times: int) -> Flow[None]:
    """Pause a run that was interrupted this often at one step; one that compensates has failed in that instead.

    Raises:
        Stop: Always.
    """
    owed = scope.owed() if scope.status is Status.COMPENSATING else []
    under_way = {StepStatus.COMPENSATING} if owed else {StepStatus.ENTERED, StepStatus.RETRYING}
    at = next((slot for slot in reversed(scope.calls()) if slot.status in under_way), owed[0] if owed else None)
    where = f" at {at.key}" if at is not None else ""
    error = InterruptedError(f"interrupted {times} times{where} without getting any further")
    if at is not None and owed:
        text, fault = scope.run.codec.encode_fault(error)
        yield at.entry(K.COMPENSATION_ERROR, result=text)
        cause = scope.run.codec.exception(scope.run.codec.told_fault(scope.fault)) if scope.fault else None
        yield from stay_stuck(scope, scope.cause or Cause.FAILURE, {at: fault}, cause)
    else:
        yield from pause(scope, error)


def fail(scope: Scope, ended: Ended, error: BaseException, fault: Fault) -> Ended:
    """Say what comes out of a saga that failed; inside a parent, that is the exception which a restart would give."""
    run = scope.run
    ended.error = trimmed(run.genuine(error), error)
    if scope.slot is not None:
        ended.error = replayable(scope.slot, fault, ended.error)
    return ended
