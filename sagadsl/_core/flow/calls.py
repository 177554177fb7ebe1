"""One call of a step, or of a child saga: what is on record comes back, anything else is done."""

from __future__ import annotations

from typing import Any

from sagadsl._core.definition import PIVOT, SagaSpec
from sagadsl._core.effects import Call, Done, Failed, Flow, Raise
from sagadsl._core.flow.again import come_in
from sagadsl._core.flow.record import cut_off, interruption, replayable, unreadable
from sagadsl._core.flow.stopping import barred, pause, pauses_when_uncertain, refuse_beside_others, survive
from sagadsl._core.scope import Scope
from sagadsl._core.scope.cancelled import coming, counts
from sagadsl._core.scope.slot import Slot
from sagadsl._core.scope.waking import halt, met
from sagadsl._core.values import Kind
from sagadsl.errors import ReplayError, Stop

K = Kind


def perform(call: Call) -> Flow[Any]:  # noqa: C901  # every call passes here, through no other frame
    """Return what the step returned, or raise what it raised: as recorded, else by having it done."""
    slot = call.slot
    scope = slot.scope
    try:
        if scope.past is not None:
            yield from come_in(slot, is_async=slot.spec is not None and slot.spec.is_async)
            if slot.has_outcome:
                return (yield from replay(slot))
        if scope.run.stop is not None or not scope.is_open:
            return Raise((yield from barred(scope, slot)))
        if scope.run.cut:
            yield from survive(scope)
        if slot.spec is not None and slot.spec.standing is PIVOT:
            refuse_beside_others(slot)
        earlier = counts(scope) if call.is_async else None
        try:
            outcome: Done | Failed = yield from scope.run.do(call)
        except BaseException as error:
            if earlier is not None:
                slot.cancelled = coming(scope, earlier)
            cut_off(call, error)
            raise
        if isinstance(outcome, Done):
            return outcome.value
        if pauses_when_uncertain(slot, outcome.error):
            yield from pause(scope, outcome.error)
        return Raise(outcome.error)
    except Stop:
        met(scope)
        raise


def replay(slot: Slot) -> Flow[Any]:
    """Return or raise what is on record for a call, without entering anything."""
    run = slot.run
    if slot.cut:
        if run.stop is None:
            return Raise((yield from interruption(slot)))
        raise Stop(run.stop)
    try:
        if slot.done and slot.fault is None:
            return run.codec.decode(slot.result) if slot.result is not None else None
        fault = run.codec.load_fault(slot.fault or "{}")
    except ValueError as error:  # no business of the body's: the program lacks what made the record
        raise run.halt(unreadable(run, slot.key, error)) from error
    again = replayable(slot, fault, None)
    if pauses_when_uncertain(slot, again):  # cut off before the pause was on record
        yield from pause(slot.scope, again)
    return Raise(again)


def child_scope(
    parent: Scope,
    spec: SagaSpec,
    name: str,
    arguments: str,
    key: str | None = None,
    live: dict[str, Any] | None = None,
) -> Scope:
    """Return the scope of a call of a child saga, or of a branch: the recorded one that it is, or a new one.

    Raises:
        Stop: A step is on record there.
    """
    slot = parent.call(name, spec.definition, arguments, key)
    if slot.seq and slot.child is None:
        raise halt(parent, ReplayError(parent.run.id, parent.path, (slot.local_key,), (name,), f"{name} was a step"))
    slot.live = live
    child: Scope = slot.child or Scope(parent.run, spec, name, slot.key, parent, slot)
    slot.child, child.spec = child, spec
    return child


def descend(child: Scope) -> Flow[Raise | None]:
    """Enter a child saga: one that is on record runs its body again over the record, so that what it calls is bound."""
    run, slot, spec = child.run, child.slot, child.spec
    assert slot is not None  # noqa: S101  # `child_scope` made it
    try:
        if slot.scope.past is not None:
            yield from come_in(slot, is_async=spec is not None and spec.is_async)
        if slot.seq:
            return None
        if run.stop is not None or not slot.scope.is_open:
            return Raise((yield from barred(slot.scope, slot)))
        if run.cut:
            yield from survive(slot.scope)
        yield slot.entry(K.OPENED)
    except Stop:
        met(slot.scope)
        raise
    else:
        return None
