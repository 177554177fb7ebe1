"""What a person decides about a run that this process holds: that it is compensated.

What is decided is an entry like any other, queued so that it is written with the first effect that follows from it: who
is refused, for whatever reason, has written nothing.
"""

from __future__ import annotations

import json
import logging

from sagadsl._core.drive import obey
from sagadsl._core.flow import past_pivot
from sagadsl._core.ownership import owner
from sagadsl._core.provided import Provided
from sagadsl._core.scope import Scope
from sagadsl._core.supply import lacking
from sagadsl._core.values import Cause, Entry, Kind, RunInfo, Status
from sagadsl.errors import RunCancelledError, RunConflictError, Stop, UsageError, to_type

log = logging.getLogger("sagadsl")


def queue(scope: Scope, kind: Kind, result: str | None) -> None:
    """Have an entry about a scope written with the next one, and take it into account at once."""
    run = scope.run
    entry = Entry(0, 0, kind, scope.seq, scope.path, None, None, run.clock(), None, None, None, result)
    run.pending.append(entry)
    scope.apply(entry)


def is_to_cancel(run: RunInfo, store: str) -> bool:
    """Tell whether a run is still to be cancelled: neither has somebody asked for it, nor is it being compensated.

    Raises:
        RunConflictError: It is too late for that, or a person has to say more.
    """
    on, back = (to_type(verb, run.id, store) for verb in ("resume", "compensate"))
    if run.status is Status.COMPLETED:
        raise RunConflictError(run.id, f"is completed, so there is nothing left to cancel. To undo it: {back}")
    if run.status is Status.PAUSED:
        raise RunConflictError(run.id, f"is paused, and a person decides. To undo it: {back}   To go on: {on}")
    if run.status is Status.COMPENSATION_FAILED:
        raise RunConflictError(run.id, f"is being undone already, and a compensation failed. Carry on: {back}")
    if run.pivot is not None:
        raise RunConflictError(run.id, f"is past its pivot, {run.pivot}: it can only go forward; resume it")
    return run.status is Status.OPEN and not run.cancel_requested


def obey_first(scope: Scope) -> None:
    """Act on a request to cancel that came while nobody had the run, before anything of it is called or asked."""
    if scope.status is not Status.OPEN:
        return
    try:
        obey(scope)
    except Stop as stop:
        if not isinstance(stop.reason, RunCancelledError):
            raise stop.reason from None


def request_compensation(scope: Scope, by_names: Provided | None) -> bool:
    """Say what a request to compensate means for a run; say what is owed, and tell whether anything may be.

    Where no body is going to bind what is owed, it is found *by_names*, with these live arguments.

    Raises:
        RunConflictError: There is no way back.
        UsageError: What no body binds is not to be found.
    """
    run = scope.run
    if scope.status is Status.COMPENSATED:
        return False
    if scope.status is Status.COMPLETED:
        raise RunConflictError(run.id, "is completed; nothing of it is owed")
    pivot = scope.pivot()
    if pivot is not None and pivot.has_happened:
        raise past_pivot(pivot)
    if by_names is not None:
        need_functions(scope, by_names)
    from sagadsl.report import short_id  # noqa: PLC0415  # on first use

    owed = ", ".join(slot.key for slot in scope.owed()) or "nothing is owed"
    log.warning("compensating %s: %s", short_id(run.id), owed, extra={"run": run.id})
    if scope.status is Status.COMPENSATING:
        queue(scope, Kind.TAKEN, owner())
    else:
        cause = scope.cause if scope.status is Status.COMPENSATION_FAILED else Cause.REQUEST
        queue(scope, Kind.COMPENSATING, json.dumps({"cause": cause or Cause.REQUEST}))
    return True


def need_functions(scope: Scope, provided: Provided) -> None:
    """Refuse, before anything is written, to compensate by names that this program does not have.

    Raises:
        UsageError: A function is not to be found, or a live argument that one takes is not provided.
    """
    for slot in scope.owed():
        if slot.compensating_step() is None:
            facts = slot.facts
            where = f" of module {facts['compensate_module']}" if "compensate_module" in facts else ""
            msg = (
                f"run {scope.run.id}: the body of {scope.name} cannot be run here, and step {slot.name} of module "
                f"{facts['module']}, compensated by {facts['compensate']}{where}, is not to be found: import it"
            )
            raise UsageError(msg)
    lacking(scope, provided)
