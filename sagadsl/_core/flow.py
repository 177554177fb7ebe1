"""What must happen: the saga itself, as generators that yield effects and never act.

``perform`` is one call of a step: what is on record comes back, anything else is done. ``attempt`` does it: intent
before the effect, outcome after it, again as long as its `Retry` says. ``ask`` puts to a probe whether an attempt
without outcome had its effect, before anything is decided about it. ``settle`` leaves a saga: its value is recorded, or
what it owes is compensated. Each rule of the contract about order, replay and failure stands here, once, for both
colours and every engine.

Three words of reading help: ``yield`` hands an effect to the driver, ``yield from`` runs another flow, and what the
driver throws in at a ``yield`` is what the user's function raised, or the `Stop` of a run that must not go on.
"""

from __future__ import annotations

import json
import reprlib
import sys
from asyncio import CancelledError
from typing import Any

from attrs import define

from sagadsl._core.codec import Unstorable, user_frames
from sagadsl._core.codec.faults import add_note
from sagadsl._core.definition import PIVOT, Compensation
from sagadsl._core.effects import Call, Do, Done, Failed, Flow, Gather, Raise, Record, Sleep, Wait
from sagadsl._core.landed import in_transaction
from sagadsl._core.parameters import AsGiven, Receiver, Source, function_name
from sagadsl._core.retry import NEVER, Retry
from sagadsl._core.scope import OpenRun, Past, Scope, Slot
from sagadsl._core.values import Cause, Kind, Landed, NotLanded, Status, StepStatus, Unknown
from sagadsl.errors import (
    CompensationError,
    Fault,
    JournalError,
    NotStorableError,
    ReplayError,
    StepError,
    StepTimeout,
    Stop,
    SuspendedError,
    UsageError,
)

K = Kind
PRESSED = (KeyboardInterrupt, CancelledError)
"""What interrupts even a body that only runs to bind what a compensation needs; `sys.exit` is the body's own."""
TURNS = 100
"""How many turns of the event loop others are given to come as far as they were."""
UNKNOWN = Unknown()
FORWARD_RECOVERY = Retry(3)
"""How a step after the pivot is tried again that has no retries of its own."""
CLOSED = RuntimeError("this saga has ended, or begun to compensate: no further step of it starts")

# -- one call of a step ---------------------------------------------------------------------------------------------


def perform(call: Call) -> Flow[Any]:
    """Return what the step returned, or raise what it raised: as recorded, else by having it done."""
    slot = call.slot
    scope = slot.scope
    if scope.past is not None:
        scope.admit(slot)
        if slot.has_outcome:
            return (yield from replay(slot))
    if scope.run.stop is not None or not scope.is_open:
        return Raise((yield from barred(scope, slot)))
    if scope.run.cut:
        yield from survive(scope.run)
    if slot.spec is not None and slot.spec.standing is PIVOT:
        refuse_beside_others(slot)
    outcome: Done | Failed = yield Do(call)
    if isinstance(outcome, Done):
        return outcome.value
    if pauses_when_uncertain(slot, outcome.error):
        yield from pause(scope, outcome.error)
    return Raise(outcome.error)


def barred(scope: Scope, slot: Slot | None = None) -> Flow[BaseException]:
    """Return what comes instead of a forward step: of a run that stopped, of a scope that ended or began to compensate.

    In a child that was cut off, and does more this time before the interruption comes, that is the interruption.
    """
    run = scope.run
    for each in scope.chain():
        if run.stop is None and each.left and not each.closing:
            return (yield from interruption(each.slot))
    if run.stop is None and slot is not None and scope.completed and scope.is_forward:
        return run.halt(scope.beyond(slot))  # its end is on record, not just reached
    return Stop(run.stop or CLOSED)


def refuse_beside_others(slot: Slot) -> None:
    """Let a point of no return start only where it is alone: beside other branches nobody could say what precedes it.

    Raises:
        UsageError: Other calls of the run are under way.
    """
    *_, root = slot.scope.chain()
    others = [call.slot.key for each in root.tree() for call in each.flying if isinstance(call, Call)]
    if others:
        msg = f"{slot.key} is a PIVOT and starts beside {', '.join(sorted(others))}: call it where nothing else runs"
        raise UsageError(msg)


def pauses_when_uncertain(slot: Slot, error: BaseException) -> bool:
    """Tell whether a person decides about a step that ended uncertain; one whose result cannot be kept was done."""
    return (
        slot.status is StepStatus.UNCERTAIN
        and not isinstance(error, NotStorableError)
        and slot.spec is not None
        and slot.spec.on_uncertain == "pause"
        and slot.scope.is_open
    )


def survive(run: OpenRun) -> Flow[None]:
    """Give the attempts that were cut off an end: the body has outlived the interruption.

    While the interruption itself passes through the body (``finally``, ``except BaseException``), it has not: no step
    starts there, so that what cleans up after a Ctrl-C is not taken for what the saga does.

    Raises:
        Stop: The interruption is still under way.
    """
    passing = sys.exc_info()[1]
    if passing is not None and not isinstance(passing, Exception):
        raise run.halt(passing)
    standing = None
    for slot, _ in run.cut:
        standing = yield Gather(slot.scope)  # a thread that could not be interrupted ends first
    cut, run.cut = run.cut, []
    for slot, error in cut:
        told = json.loads(run.codec.encode_fault(error)[0])
        if isinstance(error, CancelledError) and slot.cancellations > (standing or 0):
            told["comes_again"] = True  # somebody took it back: a timeout or a group, which does so each time
        text = json.dumps(told, separators=(",", ":"))
        if slot.child is None and (slot.done or not slot.has_outcome):
            yield Record(K.CANCELLED, slot, slot.attempts, text)
        elif slot.child is not None and not slot.child.left and not slot.child.completed:
            yield Record(K.LEFT, slot.child, None, text)


def interruption(slot: Slot | None) -> Flow[BaseException]:
    """Return the interruption that is on record for a call, as it comes again: brought from outside, or made anew."""
    assert slot is not None  # noqa: S101  # a root is never left
    try:
        fault = slot.run.codec.load_fault(slot.fault or "{}")
    except ValueError as error:
        return slot.run.halt(unreadable(slot.run, slot.key, error))
    if slot.comes_again:
        yield Wait()
    return replayable(slot, fault, None)


def replay(slot: Slot) -> Flow[Any]:
    """Return or raise what is on record for a call, without entering anything."""
    run = slot.run
    past = slot.scope.past
    if past is not None and not past.is_strict and slot.spec is not None and slot.spec.is_async:
        yield from abreast(slot, past)
    if slot.cut:
        return Raise(Stop(run.stop) if run.stop is not None else (yield from interruption(slot)))
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


def abreast(slot: Slot, past: Past) -> Flow[None]:
    """Let what was called before this call ended, and was cut off, be called again before this one comes back.

    Nothing waits on replay, so that a body could otherwise cancel a task of its own before that has begun.
    """
    for _ in range(TURNS):
        if not any(each in past.order and each.seq < slot.outcome for each in past.cut_off):
            return
        yield Sleep(0)


def unreadable(run: OpenRun, key: str, error: ValueError) -> JournalError:
    """Return what to say of a record that this program cannot read."""
    return JournalError(run.journal.name, f"run {run.id}: what {key} gave cannot be read: {error}; then call it again")


def replayable(slot: Slot, fault: Fault, genuine: BaseException | None) -> BaseException:
    """Return the exception that comes back after a restart, and remember which one it stands for."""
    run = slot.run
    error = run.codec.exception(fault) or StepError(slot.key, fault)
    if genuine is not None:
        error = error.with_traceback(user_frames(genuine))
    run.copies[id(error)] = (error, genuine or error, slot)
    return error


def descend(slot: Slot) -> Flow[Raise | None]:
    """Enter a child saga: one that is on record runs its body again over the record, so that what it calls is bound."""
    run = slot.run
    slot.scope.admit(slot)
    if slot.seq:
        return None
    if run.stop is not None or not slot.scope.is_open:
        return Raise((yield from barred(slot.scope, slot)))
    if run.cut:
        yield from survive(run)
    yield Record(K.OPENED, slot, None)
    return None


# -- attempts -------------------------------------------------------------------------------------------------------

FORWARD = (K.INTENT, K.DONE)
BACKWARD = (K.COMPENSATION_INTENT, K.COMPENSATION_DONE)


def attempt(call: Call) -> Flow[Done | Failed]:  # noqa: C901  # the whole of it, to be read in one piece
    """Try a step, or its compensation, until it has an outcome.

    An attempt ends *done* (it returned), *failed* (it raised) or *uncertain* (a timeout; or it was cut off, when no
    outcome follows its intent). Anything but an `Exception` passes through: interruption is not failure.
    """
    slot, back = call.slot, call.is_compensation
    intent, done = BACKWARD if back else FORWARD
    if slot.seq:
        outcome = yield from go_on(call)
        if outcome is not None:
            return outcome
    while True:
        number = call.attempt = (slot.compensation_attempts if back else slot.attempts) + 1
        if not call.read_only:
            yield Record(intent, slot, number)
        try:
            value = yield call
        except Exception as error:  # noqa: BLE001  # whatever the user's function raises
            outcome = yield from attempt_failed(call, error)
            if outcome is not None:
                return outcome
            renew(call)
            continue
        except BaseException as error:
            cut_off(call, error)
            raise
        text = copy = None
        if not back:
            try:
                text, copy = slot.scope.run.codec.encode_and_copy(value) if call.transaction is None else value
            except Unstorable as why:
                return (yield from keep_unstorable(slot, number, value, why))
        elif hasattr(value, "__await__"):
            return (yield from not_awaited(call, value))
        yield Record(done, slot, number, text)
        return Done(copy)


def go_on(call: Call) -> Flow[Done | Failed | None]:
    """Do what precedes another attempt of a call that is on record; return an outcome where that settles it."""
    slot, back = call.slot, call.is_compensation
    if call.is_probe:
        answer: Done | Failed = yield from ask(call)
        return answer
    if not back:
        outcome = yield from decide_cut_off(slot)
        if outcome is not None:
            return outcome
    wait = slot.compensation_wait if back else slot.wait
    if wait is not None:  # killed between two attempts: only the rest is waited for
        since, seconds = wait
        yield from sleep(call, min(seconds, max(0.0, since / 1e6 + seconds - slot.run.clock() / 1e6)))
    return None


def attempt_failed(call: Call, error: Exception) -> Flow[Done | Failed | None]:
    """Put on record how an attempt ended that raised; `None` where another one follows."""
    slot, back = call.slot, call.is_compensation
    is_cancelled = slot.cancellations > 0 and not back  # what it made of its cancellation
    uncertain = is_cancelled or (isinstance(error, StepTimeout) and error.step == slot.key and not back)
    if call.transaction is not None:
        if uncertain and not call.transaction.in_doubt:
            add_note(error, "its transaction was rolled back, so its effect has not happened")
        uncertain = call.transaction.in_doubt and not back
    if uncertain:
        answer = yield from ask_of(slot, slot.run.codec.encode_fault(error)[1])
        if isinstance(answer, Done | Failed):
            return answer
        uncertain = not isinstance(answer, NotLanded)
    delay = None if is_cancelled else delay_after(call, error, uncertain=uncertain)
    if delay is not None:
        yield from retry(call, error, delay, uncertain=uncertain)
        return None
    kind = K.COMPENSATION_ERROR if back else K.UNCERTAIN if uncertain else K.FAILED
    return (yield from give_up(slot, kind, call.attempt, error))


def give_up(slot: Slot, kind: Kind, number: int | None, error: Exception) -> Flow[Failed]:
    """Record that no further attempt follows, and why; return what comes out, the same as after a restart."""
    text, fault = slot.run.codec.encode_fault(error)
    yield Record(kind, slot, number, text)
    return Failed(replayable(slot, fault, error), fault)


def not_awaited(call: Call, value: Any) -> Flow[Failed]:
    """Record that a compensation gave something to await to a ``def``, where nobody can: it has not run."""
    getattr(value, "close", lambda: None)()  # a coroutine that nobody will await
    name = function_name(call.body)
    error = UsageError(f"{name}, the compensation of {call.slot.key}, gave an awaitable where nobody can await it")
    return (yield from give_up(call.slot, K.COMPENSATION_ERROR, call.attempt, error))


def keep_unstorable(slot: Slot, number: int, value: Any, why: Unstorable) -> Flow[Failed]:
    """Record that a step was done but its result cannot be kept: it is owed its compensation, and it fails."""
    slot.run.unstorable[slot] = value
    error = NotStorableError(slot.key, "result", why.type, why.path, why.reason)
    return (yield from give_up(slot, K.UNCERTAIN, number, error))


def delay_after(call: Call, error: Exception, *, uncertain: bool) -> float | None:
    """Return the seconds to wait before another attempt, or `None` where the step is given up."""
    slot, back = call.slot, call.is_compensation
    if isinstance(error, UsageError | NotStorableError):
        return None
    if uncertain and not back and slot.spec is not None and slot.spec.on_uncertain != "retry":
        return None
    again = call.retry
    if not again.retries and not back and only_goes_forward(slot.scope):
        again = FORWARD_RECOVERY
    if not again.retries:
        return None
    try:
        failures = (slot.compensation_failures if back else slot.failures) + 1
        return again.delay(failures, error, slot.run.jitter())
    except Exception as bug:  # noqa: BLE001  # of the user's predicate: the step has failed all the same
        add_note(error, f"its Retry could not be asked: {type(bug).__name__}: {bug}")
        return None


def only_goes_forward(scope: Scope) -> bool:
    """Tell whether the run around a scope can only go forward."""
    *_, root = scope.chain()
    pivot = root.pivot()
    return pivot is not None and pivot.done


def retry(call: Call, error: Exception, delay: float, *, uncertain: bool) -> Flow[None]:
    """Record that another attempt follows, because of *error*, and wait for its time."""
    slot = call.slot
    if call.read_only:
        slot.failures += 1
    else:
        text, _ = slot.run.codec.encode_fault(error)
        told = f'{{"wait":{delay!r},"uncertain":{"true" if uncertain else "false"},"fault":{text}}}'
        yield Record(K.COMPENSATION_RETRYING if call.is_compensation else K.RETRYING, slot, call.attempt, told)
    yield from sleep(call, delay)


def renew(call: Call) -> None:
    """Have a call made with the arguments on record: an earlier attempt may have changed those it was given."""
    slot = call.slot
    if call.is_compensation:
        again = compensation_call(slot, call.fault)
        call.args, call.kwargs = again.args, again.kwargs
    else:
        call.args, call.kwargs = slot.spec.arguments(
            call.body, slot.run.codec.decode(slot.arguments) | (slot.live or {})
        )


def sleep(call: Call, seconds: float) -> Flow[None]:
    """Wait between two attempts; an interruption here ends the call like one inside an attempt."""
    try:
        yield Sleep(seconds)
    except BaseException as error:
        cut_off(call, error)
        raise


def cut_off(call: Call, error: BaseException) -> None:
    """Note an interrupted attempt. Whether it has an end depends on whether the body survives (`survive`)."""
    if not call.is_compensation and not isinstance(error, Stop):
        call.slot.run.cut.append((call.slot, error))


# -- uncertainty ----------------------------------------------------------------------------------------------------


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
    if isinstance(answer, NotLanded) or slot.again or spec is None or spec.on_uncertain == "retry":
        return None
    reason = f"it was cut off, and on_uncertain={spec.on_uncertain!r} forbids to try it again"
    error = StepError(slot.key, Fault("builtins:InterruptedError", reason))
    return (yield from give_up(slot, K.UNCERTAIN, slot.attempts, error))


def ask_of(slot: Slot, fault: Fault | None) -> Flow[Any]:
    """Ask the step's probe, if it has one, whether the effect happened; *fault* is the timeout, `None` after a kill."""
    probing = probe_call(slot, fault)
    return UNKNOWN if probing is None else (yield from ask(probing))


def ask(probing: Call) -> Flow[Any]:
    """Ask a probe, and put its answer on record.

    *Landed* is the step's outcome (`Done`, or `Failed` where its value cannot be stored). `NotLanded` clears all
    doubt, about earlier attempts too. A probe that raises cannot tell; one that answers something else is a mistake.
    """
    slot = probing.slot
    number = probing.attempt = slot.attempts
    try:
        answer = yield probing
    except Exception:  # noqa: BLE001  # what it asks is out of reach too
        return UNKNOWN
    except BaseException as error:
        cut_off(probing, error)
        raise
    if isinstance(answer, NotLanded):
        yield Record(K.NOT_LANDED, slot, number)
    if isinstance(answer, NotLanded | Unknown):
        return answer
    if not isinstance(answer, Landed):
        name = function_name(probing.function)
        said = reprlib.repr(answer)  # never fails
        wrong = UsageError(f"{name}, the probe of {slot.key}, answered {said}: Landed, NotLanded or Unknown")
        return (yield from give_up(slot, K.UNCERTAIN, number, wrong))
    try:
        text, copy = slot.run.codec.encode_and_copy(answer.value)
    except Unstorable as why:
        return (yield from keep_unstorable(slot, number, answer.value, why))
    yield Record(K.DONE, slot, number, text)
    return Done(copy)


def probe_call(slot: Slot, fault: Fault | None) -> Call | None:
    """Return how a step's probe is called, if it has one that this program can call."""
    spec = slot.compensating_step()
    if spec is None:
        return None
    try:
        if spec.transaction is not None:  # the row it leaves is the probe
            probing = Call(slot, spec.function, (), {}, spec.is_async, NEVER)
            in_transaction(probing, spec.transaction, (slot.live or {})[spec.transaction])
        elif spec.probe is not None:
            args, kwargs = spec.probe.arguments(what_is_known(slot, fault))
            probing = Call(slot, spec.probe.function, args, kwargs, spec.is_async, NEVER, spec.timeout)
        else:
            return None
    except (KeyError, ValueError):
        return None  # an argument that is not on record, or that this program cannot read: it cannot be asked
    probing.is_probe = True
    return probing


def what_is_known(slot: Slot, fault: Fault | None) -> dict[str | Source, Any]:
    """Return what a compensation or probe can be given of a call, but for its result."""
    values: dict[str | Source, Any] = {Source.ERROR: fault, Source.IDEMPOTENCY_KEY: slot.idempotency_key}
    values.update(slot.run.codec.decode(slot.arguments))
    values.update(slot.live or {})
    return values


# -- compensation ---------------------------------------------------------------------------------------------------


@define(eq=False, repr=False)
class Ended:
    """How a saga was left: its *status*, the *value* or *error* that comes out, and what became of its steps."""

    status: Status
    value: Any = None
    error: BaseException | None = None
    compensated: tuple[str, ...] = ()
    standing: tuple[str, ...] = ()
    warning: str = ""


def compensate(scope: Scope, cause: Cause, text: str | None, error: BaseException | None) -> Flow[Ended]:
    """Call what is owed, last intent first; the journal says what, code only supplies the functions.

    *text* is the fault that caused it, as JSON, and *error* the exception.
    """
    run = scope.run
    fault = run.codec.load_fault(text) if text else None
    told = f'{{"cause":"{cause}"{f""","fault":{text}""" if text else ""}}}'
    owed = scope.owed()
    begun = scope.status is Status.COMPENSATING
    if owed and not begun:
        yield Record(K.COMPENSATING, scope, None, told)
        begun = True
    failures: dict[Slot, Fault] = {}
    for slot in owed:
        if failures and (scope.spec is None or scope.spec.on_compensation_failure != "continue"):
            break
        outcome = yield from compensate_one(slot, fault)
        if isinstance(outcome, Failed):
            failures[slot] = outcome.fault
    if failures:
        yield from stay_stuck(scope, cause, failures, error)
    for child in reversed(list(scope.tree())):
        if child is not scope and child.status is not Status.COMPENSATED:
            yield Record(K.COMPENSATED, child)
    yield Record(K.COMPENSATED, scope, None, None if begun else told)
    return Ended(Status.COMPENSATED, compensated=_compensated(scope), standing=_standing(scope))


def stay_stuck(scope: Scope, cause: str, failures: dict[Slot, Fault], error: BaseException | None) -> Flow[None]:
    """Record that compensations failed, of a run that *error* made compensate, and stop the whole tree.

    Raises:
        Stop: Always; a person decides.
    """
    run = scope.run
    slot, why = next(iter(failures.items()))
    told = json.dumps({"cause": cause, "step": slot.key, "fault": json.loads(run.codec.dump_fault(why))})
    for each in scope.chain():  # a child whose compensation failed stops its whole tree
        yield Record(K.COMPENSATION_FAILED, each, None, told)
    pending = tuple(s.key for s in scope.owed() if s not in failures)
    failed = CompensationError(run.id, slot.key, why, _compensated(scope), pending)
    failed.__cause__ = run.genuine(error) if error is not None else None
    raise run.halt(failed)


def compensate_one(slot: Slot, fault: Fault | None) -> Flow[Done | Failed]:
    """Have one step compensated; what cannot even be entered is a failure of the compensation."""
    if slot.is_uncertain and slot.status is not StepStatus.COMPENSATING and slot not in slot.run.unstorable:
        probing = probe_call(slot, fault)
        answer = UNKNOWN if probing is None else (yield Do(probing))
        if isinstance(answer, NotLanded) and not slot.is_owed:
            return Done(None)
    try:
        call = compensation_call(slot, fault)
    except Exception as error:  # noqa: BLE001  # no function, no result, no live argument: all end here, loudly
        return (yield from give_up(slot, K.COMPENSATION_ERROR, None, error))
    outcome: Done | Failed = yield Do(call)
    return outcome


def compensation_call(slot: Slot, fault: Fault | None) -> Call:
    """Find the function that compensates a call and bind what it receives.

    Raises:
        LookupError: There is no such function any more, or a value that it needs.
    """
    run, wanted = slot.run, slot.facts["compensate"]
    spec = slot.compensating_step()
    compensation: Compensation | None = spec.compensation if spec is not None else None
    receiver: Receiver | AsGiven | None = spec.receiver if spec is not None else None
    if spec is None or compensation is None or receiver is None:
        where = f"module {slot.facts.get('compensate_module', slot.facts['module'])}"
        msg = f"the compensation {wanted} of step {slot.key} is not to be found: {where} must be imported and have it"
        raise LookupError(msg)
    values = what_is_known(slot, fault)
    if slot.done:
        values[Source.RESULT] = run.codec.decode(slot.result) if slot.result is not None else None
    elif slot in run.unstorable:
        values[Source.RESULT] = run.unstorable[slot]
    elif receiver.needs_result:
        msg = (
            f"step {slot.key} was cut off, so there is no result to give to {wanted}; a default for its parameter "
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
        is_compensation=True,
    )
    call.fault = fault
    if spec.transaction is not None and spec.transaction in receiver.sources.values():
        in_transaction(call, spec.transaction, values[spec.transaction])
    return call


def _compensated(scope: Scope) -> tuple[str, ...]:
    slots = [s for each in scope.tree() for s in each.slots if s.status is StepStatus.COMPENSATED]
    return tuple(slot.key for slot in sorted(slots, key=lambda slot: -slot.place))


def _standing(scope: Scope) -> tuple[str, ...]:
    slots = [slot for each in scope.tree() for slot in each.slots if slot.is_standing]
    return tuple(slot.key for slot in sorted(slots, key=lambda slot: slot.seq))


# -- leaving a saga -------------------------------------------------------------------------------------------------


def settle(scope: Scope, value: Any, error: BaseException | None, pauses: bool) -> Flow[Ended]:  # noqa: FBT001
    """Leave a saga whose body returned *value* or raised *error*: record it, pause, or compensate.

    What stands in the journal, and a stop set on the run, come before whatever came out of the body.

    Raises:
        Stop: The run must not go on.
        BaseException: The body was interrupted; the run stays open.
    """
    run = scope.run
    yield from leave_when_stopped(scope, error)
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
        yield from survive(run)
    if error is None:
        return (yield from complete(scope, value))
    if pauses or scope.pivot() is not None or only_goes_forward(scope):
        return (yield from pause(scope, error))
    text, fault = run.codec.encode_fault(run.genuine(error))
    ended = yield from compensate(scope, Cause.FAILURE, text, error)
    return fail(scope, ended, error, fault)


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
    yield Record(K.COMPLETED, scope, None, text)
    return Ended(Status.COMPLETED, value, warning=warning)


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


def pause(scope: Scope, error: BaseException) -> Flow[Ended]:
    """Record that a person decides, and stop the whole tree; resuming enters the step that failed once more."""
    run = scope.run
    text, fault = run.codec.encode_fault(run.genuine(error))
    again = [slot.seq for slot in run.origins(error) if slot.scope is scope]
    for each in scope.chain():
        yield Record(K.PAUSED, each, None, f'{{"cause":"{Cause.FAILURE}","again":{again},"fault":{text}}}')
        again = [each.seq]  # seen from around it, the child is what failed
    *_, root = scope.chain()
    reason, pivot = str(fault), root.pivot()
    if pivot is not None:
        reason += f"; {pivot.key} is {'' if pivot.done else 'perhaps '}past, from where nothing is compensated"
    suspended = SuspendedError(run.id, Status.PAUSED, reason, pivot is not None and pivot.done)
    suspended.__cause__ = run.genuine(error)
    raise run.halt(suspended)


def leave_to_a_person(scope: Scope, times: int) -> Flow[None]:
    """Pause a run that was interrupted this often at one step; one that compensates has failed in that instead.

    Raises:
        Stop: Always.
    """
    slots = [slot for each in scope.tree() for slot in each.slots]
    owed = scope.owed() if scope.status is Status.COMPENSATING else []
    under_way = {StepStatus.COMPENSATING} if owed else {StepStatus.ENTERED, StepStatus.RETRYING}
    at = next((slot for slot in reversed(slots) if slot.status in under_way), owed[0] if owed else None)
    where = f" at {at.key}" if at is not None else ""
    error = InterruptedError(f"interrupted {times} times{where} without getting any further")
    if at is not None and owed:
        text, fault = scope.run.codec.encode_fault(error)
        yield Record(K.COMPENSATION_ERROR, at, None, text)
        cause = scope.run.codec.exception(scope.run.codec.load_fault(scope.fault)) if scope.fault else None
        yield from stay_stuck(scope, scope.cause or Cause.FAILURE, {at: fault}, cause)
    else:
        yield from pause(scope, error)


def settle_compensating(scope: Scope) -> Flow[Ended]:
    """Go on compensating where an earlier process, or a request, left off."""
    run = scope.run
    fault = run.codec.load_fault(scope.fault) if scope.fault else None
    error = (run.codec.exception(fault) or StepError(scope.path or run.id, fault)) if fault else None
    if scope.status is Status.COMPENSATED:
        ended = Ended(Status.COMPENSATED, compensated=_compensated(scope), standing=_standing(scope))
    else:
        scope.closing = True
        yield Gather(scope)
        ended = yield from compensate(scope, Cause(scope.cause or Cause.FAILURE), scope.fault, error)
    if fault is None or error is None:
        if scope.parent is not None:  # its parent compensated it while it was open
            raise Stop(CLOSED)
        return ended
    return fail(scope, ended, error, fault)


def fail(scope: Scope, ended: Ended, error: BaseException, fault: Fault) -> Ended:
    """Say what comes out of a saga that failed; inside a parent, that is the exception which a restart would give."""
    run = scope.run
    ended.error = run.genuine(error).with_traceback(user_frames(error))
    if scope.slot is not None:
        ended.error = replayable(scope.slot, fault, ended.error)
    return ended
