"""What keeps a run from going on: an end, an interruption, a person who has to decide.

A stop is a fact set on the run or the scope; the exception only carries it out of the body.
"""

from __future__ import annotations

import json
import sys
from asyncio import CancelledError

from sagadsl._core.codec import first_frame
from sagadsl._core.codec.faults import trimmed
from sagadsl._core.effects import Call, Flow, Gather
from sagadsl._core.flow.compensation import Ended
from sagadsl._core.flow.record import interruption
from sagadsl._core.scope import Scope
from sagadsl._core.scope.slot import Slot
from sagadsl._core.scope.waking import halt, met
from sagadsl._core.values import Cause, Kind, Status, StepStatus, because
from sagadsl.errors import NotStorableError, Stop, SuspendedError, UsageError

K = Kind
PRESSED = (KeyboardInterrupt, CancelledError)
"""What interrupts even a body that only runs to bind what a compensation needs; `sys.exit` is the body's own."""


def barred(scope: Scope, slot: Slot | None = None) -> Flow[BaseException]:
    """Return what comes instead of a forward step: of a run that stopped, of a scope that ended or began to compensate.

    In a child that was cut off, and does more this time before the interruption comes, that is the interruption.
    """
    run = scope.run
    for each in scope.chain():
        if run.stop is None and each.left and not each.closing:
            return (yield from interruption(each.slot))
    if run.stop is None and slot is not None and scope.completed and scope.is_forward:
        return halt(scope, scope.beyond(slot))  # its end is on record, not just reached
    met(scope)
    return run.barrier()


def refuse_beside_others(slot: Slot) -> None:
    """Let a point of no return start only where it is alone: beside other branches nobody could say what precedes it.

    Raises:
        UsageError: Other calls of the run are under way.
    """
    if any(each.is_branch for each in slot.scope.chain()):
        msg = f"{slot.key} is a PIVOT in a parallel branch: call it where nothing else runs"
        raise UsageError(msg)
    others = [call.slot.key for each in slot.scope.root.tree() for call in each.flying if isinstance(call, Call)]
    if others:
        msg = f"{slot.key} is a PIVOT and starts beside {', '.join(sorted(others))}: call it where nothing else runs"
        raise UsageError(msg)


def leave_when_stopped(scope: Scope, error: BaseException | None) -> Flow[None]:
    """Let a stop of the run, or an interruption, through before anything is said of the saga.

    Raises:
        Stop: The run must not go on; it is let go once nothing of it is under way.
        BaseException: A Ctrl-C or a cancellation.
    """
    run = scope.run
    if run.stop is not None:
        if scope.parent is None and isinstance(run.stop, Exception):
            scope.closing = True
            yield Gather(scope)
        raise Stop(run.stop)
    if error is None or isinstance(error, Exception | Stop):
        return
    if scope.status not in {Status.COMPENSATING, Status.COMPENSATED} or isinstance(error, PRESSED):
        raise error


def survive(scope: Scope) -> Flow[None]:
    """Give the attempts that were cut off an end: the body of *scope* has outlived the interruption.

    One in a parallel branch has not, as long as its neighbours are still under way.

    While the interruption itself passes through the body (``finally``, ``except BaseException``), it has not: no step
    starts there, so that what cleans up after a Ctrl-C is not taken for what the saga does.

    Raises:
        Stop: The interruption is still under way.
    """
    run, here = scope.run, set(scope.chain())
    passing = sys.exc_info()[1]
    if passing is not None and not isinstance(passing, Exception):
        raise run.halt(passing)
    ours = [cut for cut in run.cut if not cut[0].scope.is_pending(here)]
    for slot, error in ours:  # a thread that could not be interrupted ends first
        if slot.child is not None:
            yield Gather(slot.child)
        elif not isinstance(error, CancelledError):
            yield Gather(slot.scope)
    run.cut = [cut for cut in run.cut if cut not in ours]
    for slot, error in ours:
        told = json.loads(run.codec.encode_fault(error)[0])
        if slot.cancelled is not None and isinstance(error, CancelledError):
            told["cancelled"] = vars(slot.cancelled)
        text = json.dumps(told, separators=(",", ":"))
        if slot.child is None and (slot.done or not slot.has_outcome):
            yield slot.entry(K.CANCELLED, slot.attempts, text)
        elif slot.child is not None and not slot.child.left and not slot.child.completed:
            yield slot.child.entry(K.LEFT, result=text)


def pauses_when_uncertain(slot: Slot, error: BaseException) -> bool:
    """Tell whether a person decides about a step that ended uncertain; one whose result cannot be kept was done."""
    return (
        slot.status is StepStatus.UNCERTAIN
        and not isinstance(error, NotStorableError)
        and slot.spec is not None
        and slot.spec.on_uncertain == "pause"
        and slot.scope.is_open
    )


def pause(scope: Scope, error: BaseException) -> Flow[Ended]:
    """Record that a person decides, and stop the whole tree; resuming enters the step that failed once more."""
    run = scope.run
    text, fault = run.codec.encode_fault(run.genuine(error))
    again = [slot.seq for slot in run.origins(error) if slot.scope.home is scope]
    for each in scope.chain():
        yield each.entry(K.PAUSED, result=because(Cause.FAILURE, again=str(again), fault=text))
        again = [each.seq]  # seen from around it, the child is what failed
    root, reason = scope.root, str(fault)
    pivot = root.pivot()
    if pivot is not None:
        reason += f"; {pivot.key} is {'' if pivot.has_happened else 'perhaps '}past, from where nothing is compensated"
        if pivot.unkept:
            reason += ". It has happened and is not entered again: give it a probe that returns Landed(value)"
    only = root.only_goes_forward
    suspended = SuspendedError(run.id, Status.PAUSED, reason, only, root.is_block, run.journal.name)
    suspended.__cause__ = trimmed(run.genuine(error), error)
    raise run.halt(suspended.with_traceback(first_frame(error)))
