"""What a person decides about a run: that it is cancelled, or compensated, how far back, and what of it is let be.

What is decided is an entry like any other, queued so that it is written with the first effect that follows from it: who
is refused, for whatever reason, has written nothing.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypedDict

from sagadsl._core.codec.classes import why_not_found
from sagadsl._core.codec.vocabulary import for_people
from sagadsl._core.describe import legible
from sagadsl._core.drive.entries import obey
from sagadsl._core.flow import past_pivot
from sagadsl._core.ownership import owner
from sagadsl._core.phrases import command
from sagadsl._core.provided import Provided
from sagadsl._core.scope import Scope
from sagadsl._core.scope.slot import Slot
from sagadsl._core.supply import lacking
from sagadsl._core.values import Cause, Kind, Status, StepStatus
from sagadsl.errors import RunCancelledError, RunConflictError, Stop, UsageError

if TYPE_CHECKING:
    from sagadsl._core.values.seen import RunInfo

log = logging.getLogger("sagadsl")


def _names(given: Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        msg = f"compensate(accept=...) takes a list of steps, accept=[{given!r}]"
        raise UsageError(msg)
    return tuple(given)


class Request:
    """What a person asks of a compensation: how far back (*to* a step), what may stand (*accept*), what is let be.

    Raises:
        UsageError: It makes no sense.
    """

    def __init__(
        self,
        *,
        to: str | None = None,
        accept: Iterable[str] = (),
        skip: str | None = None,
        why: str = "",
        by: str = "",
    ) -> None:
        self.to, self.accept, self.skip, self.why, self.by = to, _names(accept), skip, why, by
        if self.skip is not None and not self.why:
            msg = f"compensate(skip={self.skip!r}) takes why=, for whoever looks at the run later"
            raise UsageError(msg)
        if self.skip is None and (self.why or self.by):
            msg = "compensate(why=..., by=...) tell of a step that is skipped: name it, skip=..."
            raise UsageError(msg)
        if self.skip is not None and self.to is not None:
            msg = "compensate(skip=..., to=...): first skip what failed, then go back further"
            raise UsageError(msg)


class Asking(TypedDict, total=False):
    """What `Run.compensate` takes."""

    to: str | None
    accept: Iterable[str]
    skip: str | None
    why: str
    by: str


def queue(of: Scope | Slot, kind: Kind, result: str | None) -> None:
    """Have an entry written with the next one, and take it into account at once."""
    run = of.scope.run
    entry = of.entry(kind, result=result)
    entry.at = run.clock()
    run.pending.append(entry)
    of.apply(entry)


def is_to_cancel(run: RunInfo, store: str) -> bool:
    """Tell whether a cancel is still to be asked for: nobody has done so, and the run does not compensate.

    Raises:
        RunConflictError: It is too late for that, or a person has to say more.
    """
    on, back = (command(verb, run.id, store) for verb in ("resume", "compensate"))
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


def request_compensation(scope: Scope, request: Request, by_names: Provided | None) -> bool:
    """Take on a request to compensate a run, and log what is owed; return whether there is anything to do.

    Where no body is going to bind what is owed, it is found *by_names*, with these live arguments.

    Raises:
        RunConflictError: There is no way back, or something would stand that nobody has accepted.
        UsageError: It names what the run does not have, or what no body binds is not to be found.
    """
    run = scope.run
    with legible(run.journal, run.id):
        if not is_to_compensate(scope, request):
            return False
        undecided = decide(scope, request)
    if undecided:
        raise RunConflictError(run.id, f"was left as it is: {what_stands(scope, undecided)}")
    if by_names is not None:
        need_functions(scope, by_names)
    from sagadsl.report import short_id

    owed = ", ".join(slot.key for slot in scope.owed()) or "nothing is owed"
    log.warning("compensating %s: %s", short_id(run.id), owed, extra={"run": run.id})
    return True


def is_to_compensate(scope: Scope, request: Request) -> bool:
    """Tell whether there may be something to do.

    Raises:
        RunConflictError: There is no way back.
    """
    run = scope.run
    pivot = scope.pivot()
    if pivot is not None and pivot.has_happened:
        raise past_pivot(pivot)
    if scope.status is Status.COMPENSATED and request.to is not None:
        raise RunConflictError(run.id, "is compensated as a whole: there is no step to which it could go back")
    if scope.status is Status.PAUSED and request.to is not None:
        until = place_of(scope, request.to)
        return any(slot.place > until and not slot.forgotten for slot in scope.calls())
    return scope.status is not Status.COMPENSATED


def decide(scope: Scope, request: Request) -> dict[Slot, str]:
    """Queue what a person decides; return what they would have to accept first, and why.

    How far back, what may stand and what is skipped is then on record, and what is owed follows from that alone.
    """
    carries_on = scope.status in {Status.COMPENSATING, Status.COMPENSATION_FAILED} and request.to is None
    until = scope.until if carries_on else place_of(scope, request.to)
    begun = carries_on or (scope.status is not Status.COMPLETED and request.to is None)
    doubtful = undone_by_nobody(scope, until, begun=begun)
    accepted = [step_named(scope, name, doubtful, "accept") for name in request.accept]
    if request.skip is not None:
        failed = [slot for slot in scope.owed() if slot.status is StepStatus.COMPENSATION_FAILED]
        skipped = step_named(scope, request.skip, failed, "skip")
        words = {"by": for_people(request.by or person()), "why": for_people(request.why)}
        queue(skipped, Kind.COMPENSATION_SKIPPED, json.dumps(words))
    if scope.status is Status.COMPENSATING and carries_on and not accepted:
        queue(scope, Kind.TAKEN, owner())
    else:
        cause = scope.cause if carries_on and scope.cause else Cause.REQUEST
        told = {"cause": cause, "to": until, "accept": [slot.seq for slot in accepted]}
        queue(scope, Kind.COMPENSATING, json.dumps({name: value for name, value in told.items() if value}))
    return {slot: why for slot, why in doubtful.items() if slot not in accepted}


def what_stands(scope: Scope, undecided: dict[Slot, str]) -> str:
    """Say what would stand, and how to accept that."""
    run, keys = scope.run, [slot.key for slot in undecided]
    told = ", ".join(f"{slot.key} {why}" for slot, why in undecided.items())
    others = command("compensate", run.id, run.journal.name, accept=keys)
    return f"{told}. To compensate the others: compensate(accept={keys}), or {others}"


def undone_by_nobody(scope: Scope, until: int, *, begun: bool) -> dict[Slot, str]:
    """Return the calls after a place that would stand without anybody having accepted it, and why.

    A run that failed compensates around what nothing can undo; whoever compensates a completed one has to accept it.
    """
    now = scope.run.clock()
    found = {}
    for slot in scope.calls():
        if slot.place <= until or slot.let_stand or slot.forgotten:
            continue
        if slot.is_standing and not begun:
            found[slot] = "cannot be undone"
        elif slot.is_owed and 0 < slot.lapses < now:
            found[slot] = "can no longer be undone"
    return found


GOING_BACK = frozenset(
    {StepStatus.COMPENSATING, StepStatus.COMPENSATED, StepStatus.COMPENSATION_FAILED, StepStatus.SKIPPED}
)
UNDONE_IN_PART = frozenset({Status.COMPENSATING, Status.COMPENSATION_FAILED})


def place_of(scope: Scope, step: str | None) -> int:
    """Return the place among the intents after which everything is compensated to get back to a step; 0: everything.

    Raises:
        RunConflictError: The run does not have that step, or cannot get back to it.
    """
    if step is None:
        return 0
    calls = [slot for slot in scope.calls() if is_part_of_run(slot)]
    ended = [slot for slot in calls if (slot.child.completed if slot.child else slot.done)]
    slot = step_named(scope, step, [each for each in ended if each.status not in GOING_BACK], "to")
    until: int = max([slot.place, *(each.place for each in (slot.child.calls() if slot.child else ()))])
    undone = [each.key for each in calls if each.place <= until and each.status in GOING_BACK]
    undone += [each.path for each in scope.tree() if 1 < each.seq <= until and each.status in UNDONE_IN_PART]
    if undone:
        reason = f"cannot go back to {slot.key}: {', '.join(undone)} before it is being undone already"
        raise RunConflictError(scope.run.id, f"{reason}. Compensate the rest too: compensate() without to=")
    return until


def is_part_of_run(slot: Slot) -> bool:
    """Tell whether a call is part of the run as it stands: no child around it failed, nobody went back before it."""
    around = (slot.child or slot.scope).chain()
    return not slot.forgotten and all(each.status is not Status.COMPENSATED for each in around)


NONE = {"accept": "nothing would stand", "skip": "no compensation has failed", "to": "no step is done"}
"""What it means that none can be named."""


def step_named(scope: Scope, name: str, among: Iterable[Slot], option: str) -> Slot:
    """Return the one call that is meant: by its key, or by an end of it that only one has.

    Raises:
        RunConflictError: None is, or several.
    """
    keys = {slot.key: slot for slot in among}
    if any(slot.key == name for slot in scope.calls()):
        fitting = [key for key in keys if key == name]
    else:
        fitting = [key for key in keys if key.endswith(f"/{name}") or keys[key].name == name]
    if len(fitting) == 1:
        return keys[fitting[0]]
    there = f"it could be {', '.join(fitting)}" if fitting else f"there is {', '.join(keys)}" if keys else NONE[option]
    raise RunConflictError(scope.run.id, f"has no one step {name!r} for {option}: {there}")


def person() -> str:
    """Say who decides: who is logged in, and where."""
    import getpass

    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        name = f"user {os.getuid()}"
    return f"{name} on {socket.gethostname()}"


def need_functions(scope: Scope, provided: Provided) -> None:
    """Refuse, before anything is written, to compensate by names that this program does not have.

    Raises:
        UsageError: A function is not to be found, or a live argument that one takes is not provided.
    """
    for slot in scope.owed():
        if slot.compensating_step() is None:
            facts = slot.facts
            where = f" of module {facts['compensate_module']}" if "compensate_module" in facts else ""
            why = why_not_found(facts.get("compensate_module", facts["module"]), facts["compensate"])
            msg = (
                f"run {scope.run.id}: the body of {scope.name} cannot be run here, and step {slot.name} of module "
                f"{facts['module']}, compensated by {facts['compensate']}{where}, is not to be found: {why}"
            )
            raise UsageError(msg)
    lacking(scope, provided)
