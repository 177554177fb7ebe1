"""What is decided about an attempt of which nobody knows whether it had its effect.

A step's probe is asked first, in the same way after a timeout, after a kill and before compensating; ``on_uncertain``
says what follows where it cannot tell.
"""

from __future__ import annotations

import reprlib
from typing import Any

from sagadsl._core.codec import Unstorable
from sagadsl._core.effects import Call, Done, Failed, Flow
from sagadsl._core.flow.record import give_up, keep_unstorable, replayable
from sagadsl._core.parameters import AsGiven, Origin, Receiver, function_name
from sagadsl._core.retry import NEVER
from sagadsl._core.scope.slot import Slot
from sagadsl._core.values import Kind, StepStatus
from sagadsl.errors import Fault, StepError, UsageError

K = Kind


def decide_cut_off(slot: Slot) -> Flow[Done | Failed | None]:
    """Decide about an attempt that was cut off: its outcome, or `None` where the step is entered again.

    Whoever resumes a run that it paused has decided already.
    """
    if not slot.is_uncertain or slot.status is StepStatus.RETRYING:
        return None
    answer = yield from ask_of(slot, None)
    if isinstance(answer, Done | Failed):
        return answer
    spec = slot.spec
    if slot.unkept and slot.is_past_pivot:
        known = slot.run.codec.load_fault(slot.fault or "{}")
        yield slot.entry(K.UNCERTAIN, slot.attempts, slot.fault)
        return Failed(replayable(slot, known, None), known)
    if answer is K.NOT_LANDED or slot.again or spec is None or spec.on_uncertain == "retry":
        return None
    reason = f"it was cut off, and on_uncertain={spec.on_uncertain!r} forbids to try it again"
    error = StepError(slot.key, Fault("builtins:InterruptedError", reason))
    return (yield from give_up(slot, K.UNCERTAIN, slot.attempts, error))


def ask_of(slot: Slot, fault: Fault | None) -> Flow[Any]:
    """Ask the step's probe, if it has one, whether the effect happened; *fault* is the timeout, `None` after a kill."""
    probing = probe_call(slot, fault)
    return K.UNCERTAIN if probing is None else (yield from ask(probing))


def ask(probing: Call) -> Flow[Any]:
    """Ask a probe, and put its answer on record.

    *Landed* is the step's outcome (`Done`, or `Failed` where its value cannot be stored). `NotLanded` clears all
    doubt, about earlier attempts too, and is returned as its kind; whoever cannot tell leaves it *uncertain*. A probe
    that raises cannot tell; one that answers something else is a mistake.
    """
    from sagadsl._core.values.answers import Landed, NotLanded, Unknown

    slot = probing.slot
    number = probing.attempt = slot.attempts
    try:
        answer = yield probing
    except Exception:  # noqa: BLE001  # what it asks is out of reach too
        return K.UNCERTAIN
    if isinstance(answer, NotLanded):
        yield slot.entry(K.NOT_LANDED, number)
        return K.NOT_LANDED
    if isinstance(answer, Unknown):
        return K.UNCERTAIN
    if not isinstance(answer, Landed):
        name = function_name(probing.function)
        said = reprlib.repr(answer)  # never fails
        wrong = UsageError(f"{name}, the probe of {slot.key}, answered {said}: Landed, NotLanded or Unknown")
        return (yield from give_up(slot, K.UNCERTAIN, number, wrong))
    try:
        text, copy = slot.run.codec.encode_and_copy(answer.value)
    except Unstorable as why:
        return (yield from keep_unstorable(slot, number, answer.value, why))
    yield slot.entry(K.DONE, number, text)
    return Done(copy)


def probe_call(slot: Slot, fault: Fault | None) -> Call | None:
    """Return how a step's probe is called, if it has one that this program can call."""
    spec = slot.compensating_step()
    if spec is None:
        return None
    try:
        if spec.transaction is not None:  # the row it leaves is the probe
            probing = Call(slot, spec.function, (), {}, spec.is_async, NEVER)
            from sagadsl._core.landed import in_transaction  # half a millisecond of every import

            in_transaction(probing, spec.transaction, (slot.live or {})[spec.transaction])
        elif spec.probe is not None:
            args, kwargs = spec.probe.arguments(what_is_known(slot, fault, spec.probe))
            probing = Call(slot, spec.probe.function, args, kwargs, spec.is_async, NEVER, spec.timeout)
        else:
            return None
    except (KeyError, ValueError):
        return None  # an argument that is not on record, or that this program cannot read: it cannot be asked
    probing.is_probe = True
    return probing


def what_is_known(slot: Slot, fault: Fault | None, receiver: Receiver | AsGiven) -> dict[str | Origin, Any]:
    """Return what a compensation or probe, the *receiver*, can be given of a call, but for its result."""
    values: dict[str | Origin, Any] = {Origin.ERROR: fault}
    if Origin.IDEMPOTENCY_KEY in receiver.sources.values():
        values[Origin.IDEMPOTENCY_KEY] = slot.idempotency_key
    if receiver.needs_arguments:
        values.update(slot.run.codec.decode(slot.arguments))
    if slot.live is not None:
        values.update(slot.live)
    return values
