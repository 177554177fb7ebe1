"""How an outcome is put on record, and how it comes back: the same exception, live and after a restart."""

from __future__ import annotations

from typing import Any

from sagadsl._core.codec import Unstorable
from sagadsl._core.codec.faults import carried_by, explain, trimmed
from sagadsl._core.effects import Call, Failed, Flow, Sleep, Wait
from sagadsl._core.parameters import close, function_name, is_coroutine
from sagadsl._core.scope import Scope
from sagadsl._core.scope.slot import OpenRun, Slot
from sagadsl._core.scope.waking import halt
from sagadsl._core.values import Kind
from sagadsl.errors import Fault, JournalError, Stop, UsageError

K = Kind


def give_up(slot: Slot, kind: Kind, number: int | None, error: Exception) -> Flow[Failed]:
    """Record that no further attempt follows, and why; return what comes out, the same as after a restart."""
    text, fault = slot.run.codec.encode_fault(error)
    yield slot.entry(kind, number, text)
    return Failed(replayable(slot, fault, error), fault)


def not_run(call: Call, value: Any) -> Flow[Failed]:
    """Record that a compensation has not run: it gave a generator, or to a ``def`` something to await."""
    what = "a generator, of which nothing has run: do not yield in it"
    if hasattr(type(value), "__await__"):
        what = "an awaitable where nobody can await it: make the step an async def too, or the compensation a def"
    close(value)
    error = UsageError(f"{function_name(call.body)}, the compensation of {call.slot.key}, gave {what}")
    return (yield from give_up(call.slot, K.COMPENSATION_ERROR, call.attempt, error))


def failure(scope: Scope, value: Any, error: BaseException | None) -> BaseException | None:
    """Return why a body has not come to its end: what it raised, or that it gave a coroutine that has not run."""
    if error is not None:
        if isinstance(error, AttributeError):
            explain(error)
        return error
    if not is_coroutine(value):
        return None
    close(value)
    name = scope.name
    if scope.spec is not None and scope.spec.is_async:
        return UsageError(f"{name} returned an awaitable that it has not awaited: write `return await ...`")
    return UsageError(
        f"{name} is a def that returned an awaitable: an async function stands behind it, which nobody awaits. "
        "Put @saga directly above the `async def`, below what wraps it, or have the wrapper be an `async def` too"
    )


def keep_unstorable(slot: Slot, number: int, value: Any, why: Unstorable) -> Flow[Failed]:
    """Record that a step was done but its result cannot be kept: it is owed its compensation, and it fails."""
    slot.run.unstorable[slot] = value
    close(value)
    return (yield from give_up(slot, K.UNCERTAIN, number, why.error(slot.key, "result")))


def cut_off(call: Call, error: BaseException) -> None:
    """Note an interrupted call. Whether it has an end depends on whether the body survives (`survive`)."""
    if not isinstance(error, Stop):
        call.slot.run.cut.append((call.slot, error))


def replayable(slot: Slot, fault: Fault, genuine: BaseException | None) -> BaseException:
    """Return the exception that comes back after a restart, and remember which one it stands for."""
    run = slot.run
    error = run.codec.raised(fault, slot.key)
    if genuine is not None:
        error = trimmed(error, genuine)
    run.copies[id(error)] = (error, error if genuine is None else genuine, slot, carried_by(error))
    return error


def interruption(slot: Slot | None) -> Flow[BaseException]:
    """Return the interruption that is on record for a call, as it comes again: brought from outside, or made anew."""
    assert slot is not None  # noqa: S101  # a root is never left
    try:
        fault = slot.run.codec.load_fault(slot.fault or "{}")
    except ValueError as error:
        return halt(slot.scope, unreadable(slot.run, slot.key, error))
    yield Sleep(0.0) if slot.cancelled is None else Wait(slot)  # a task may have cancelled itself: that comes now
    return replayable(slot, fault, None)


def unreadable(run: OpenRun, key: str, error: ValueError) -> JournalError:
    """Return what to say of a record that this program cannot read."""
    return JournalError(run.journal.name, f"run {run.id}: what {key} gave cannot be read: {error}; then call it again")
