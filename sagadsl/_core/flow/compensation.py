"""Calling what is owed, last intent first: the journal says what, code only supplies the functions.

With ``compensate_order="parallel"`` what overlapped is compensated at the same time (``order``).
"""

from __future__ import annotations

import json
from typing import Any

from sagadsl._core.codec.classes import why_not_found
from sagadsl._core.codec.faults import trimmed
from sagadsl._core.definition import Compensation
from sagadsl._core.effects import Call, Done, Failed, Flow
from sagadsl._core.flow.doubt import probe_call, what_is_known
from sagadsl._core.flow.order import abreast
from sagadsl._core.flow.record import give_up
from sagadsl._core.parameters import AsGiven, Origin, Receiver
from sagadsl._core.phrases import command
from sagadsl._core.scope import Scope
from sagadsl._core.scope.slot import Slot
from sagadsl._core.structs import Struct
from sagadsl._core.values import Cause, Kind, Status, StepStatus, as_time, because
from sagadsl.errors import CompensationError, Fault, SuspendedError

K = Kind


class Ended(Struct):
    """How a saga was left: its *status*, the *value* or *error* that comes out, and what became of its steps."""

    status: Status
    value: Any = None
    error: BaseException | None = None
    compensated: tuple[str, ...] = ()
    standing: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    warning: str = ""


def compensate(scope: Scope, cause: Cause, text: str | None, error: BaseException | None) -> Flow[Ended]:
    """Compensate what is owed, and record that it is done; or what failed.

    *text* is the fault that caused it, as JSON, and *error* the exception.
    """
    run = scope.run
    fault = run.codec.told_fault(text) if text else None
    told = because(cause, fault=text)
    owed = scope.owed()
    begun = scope.status is Status.COMPENSATING
    if owed and not begun:
        yield scope.entry(K.COMPENSATING, result=told)
        begun = True
    failures = yield from call_owed(scope, owed, fault)
    if failures:
        yield from stay_stuck(scope, cause, failures, error)
    if scope.until:
        yield from go_back(scope)
    for child in reversed(list(scope.tree())):
        if child is not scope and child.status is not Status.COMPENSATED:
            yield child.entry(K.COMPENSATED)
    yield scope.entry(K.COMPENSATED, result=None if begun else told)
    return is_compensated(scope)


def is_compensated(scope: Scope) -> Ended:
    """Say how a saga ended that is compensated."""
    steps = (scope.compensated(), standing_in(scope), scope.skipped())
    return Ended(Status.COMPENSATED, None, None, *steps)


def go_back(scope: Scope) -> Flow[None]:
    """Record that a run stands again where one of its steps had ended; what came later counts no more.

    A child that reaches beyond that step goes on when the run is resumed; one that began later is called afresh.

    Raises:
        Stop: Always; a person decides when it goes on.
    """
    run, until = scope.run, scope.until
    calls = scope.calls()
    key = next((slot.key for slot in calls if slot.place == until), "a step")
    told = because(Cause.REQUEST, to=str(until))
    beyond = [slot for slot in calls if slot.place > until and not slot.forgotten]
    reaching = {outer for slot in beyond for outer in slot.scope.chain()}
    for each in reversed(list(scope.tree())):
        if each.seq > until:
            if each.status is not Status.COMPENSATED:
                yield each.entry(K.COMPENSATED)
        elif each is scope or (each in reaching and each.status is not Status.COMPENSATED):
            yield each.entry(K.PAUSED, result=told)
    reason = f"it was put back to {key}, and what came after that is compensated"
    raise run.halt(SuspendedError(run.id, Status.PAUSED, reason, is_block=scope.is_block, store=run.journal.name))


def call_owed(scope: Scope, owed: list[Slot], fault: Fault | None) -> Flow[dict[Slot, Fault]]:
    """Have the calls *owed* compensated, in the order that the saga asks for; return those that failed, and why."""
    failures: dict[Slot, Fault] = {}

    def one(slot: Slot) -> Flow[None]:
        outcome = yield from compensate_one(slot, fault)
        if isinstance(outcome, Failed):
            failures[slot] = outcome.fault

    def is_stuck() -> bool:
        return bool(failures) and (scope.spec is None or scope.spec.on_compensation_failure != "continue")

    if scope.spec is not None and scope.spec.compensate_order == "parallel":
        yield from abreast(scope, owed, one, is_stuck)
    else:
        for slot in owed:
            if not is_stuck():
                yield from one(slot)
    return failures


def stay_stuck(scope: Scope, cause: str, failures: dict[Slot, Fault], error: BaseException | None) -> Flow[None]:
    """Record that compensations failed, of a run that *error* made compensate, and stop the whole tree.

    Raises:
        Stop: Always; a person decides.
    """
    run = scope.run
    slot, why = max(failures.items(), key=lambda failure: failure[0].place)
    told = json.dumps({"cause": cause, "step": slot.key, "fault": json.loads(run.codec.dump_fault(why))})
    for each in scope.chain():  # a child whose compensation failed stops its whole tree
        yield each.entry(K.COMPENSATION_FAILED, result=told)
    pending = tuple(s.key for s in scope.owed() if s not in failures)
    failed = CompensationError(run.id, slot.key, why, scope.compensated(), pending, run.journal.name)
    failed.__cause__ = trimmed(run.genuine(error), error) if error is not None else None
    tried = (copy for copy, _, of, _ in reversed(run.copies.values()) if of is slot)
    raise run.halt(failed.with_traceback(getattr(next(tried, None), "__traceback__", None)))


def compensate_one(slot: Slot, fault: Fault | None) -> Flow[Done | Failed]:
    """Have one step compensated; what cannot even be entered is a failure of the compensation."""
    if slot.is_uncertain and slot.status is not StepStatus.COMPENSATING and slot not in slot.run.unstorable:
        probing = probe_call(slot, fault)
        answer = K.UNCERTAIN if probing is None else (yield from slot.run.do(probing))
        if answer is K.NOT_LANDED and not slot.is_owed:
            return Done(None)
    try:
        call = compensation_call(slot, fault)
    except Exception as error:  # noqa: BLE001  # no function, no result, no live argument: all end here, loudly
        return (yield from give_up(slot, K.COMPENSATION_ERROR, None, error))
    outcome: Done | Failed = yield from slot.run.do(call)
    return outcome


def compensation_call(slot: Slot, fault: Fault | None) -> Call:
    """Find the function that compensates a call and bind what it receives.

    Raises:
        LookupError: There is no such function any more, or a value that it needs.
    """
    run, wanted = slot.run, slot.facts["compensate"]
    if 0 < slot.lapses < run.clock():
        when = as_time(slot.lapses).isoformat(timespec="seconds")
        accept = command("compensate", run.id, run.journal.name, accept=[slot.key])
        msg = f"step {slot.key} could be compensated until {when}; to let it stand: {accept}"
        raise LookupError(msg)
    spec = slot.compensating_step()
    compensation: Compensation | None = spec.compensation if spec is not None else None
    receiver: Receiver | AsGiven | None = spec.receiver if spec is not None else None
    if spec is None or compensation is None or receiver is None:
        why = why_not_found(slot.facts.get("compensate_module", slot.facts["module"]), wanted)
        msg = f"the compensation {wanted} of step {slot.key} is not to be found: {why}"
        raise LookupError(msg)
    values = what_is_known(slot, fault, receiver)
    if slot.done:
        values[Origin.RESULT] = run.codec.decode(slot.result) if slot.result is not None else None
    elif slot in run.unstorable:
        values[Origin.RESULT] = run.unstorable[slot]
    elif receiver.needs_result:
        msg = (
            f"step {slot.key} {'was cut off' if slot.is_uncertain else 'raised'}, so there is no result to give to "
            f"{wanted}; a default for its parameter "
            f"{receiver.result_parameter!r} says that it can do without"
        )
        raise LookupError(msg)
    try:
        args, kwargs = receiver.arguments(values)
    except KeyError as error:
        msg = f"step {slot.key}: {wanted} needs the argument {error.args[0]!r}, which the step was recorded without"
        raise LookupError(msg) from None
    call = Call(
        slot,
        compensation.function,
        args,
        kwargs,
        spec.compensates_async,
        compensation.retries,
        compensation.timeout,
        True,  # noqa: FBT003  # a keyword costs
    )
    call.fault = fault
    if spec.transaction is not None and spec.transaction in receiver.sources.values():
        from sagadsl._core.landed import in_transaction  # half a millisecond of every import

        in_transaction(call, spec.transaction, values[spec.transaction])
    return call


def standing_in(scope: Scope) -> tuple[str, ...]:
    return tuple(slot.key for slot in scope.calls() if slot.is_standing)
