"""One step, or its compensation, tried until it has an outcome: intent before the effect, outcome after it."""

from __future__ import annotations

from sagadsl._core.codec import Unstorable
from sagadsl._core.codec.faults import add_note
from sagadsl._core.effects import Call, Do, Done, Failed, Flow, Sleep
from sagadsl._core.flow.compensation import compensation_call
from sagadsl._core.flow.doubt import ask, ask_of, decide_cut_off
from sagadsl._core.flow.record import give_up, keep_unstorable, not_run
from sagadsl._core.parameters import has_not_run
from sagadsl._core.phrases import text_of
from sagadsl._core.retry import Retry
from sagadsl._core.scope import Scope, called_at
from sagadsl._core.values import Kind, StepStatus
from sagadsl.errors import NotStorableError, StepTimeout, Stop, UsageError

K = Kind
FORWARD = (K.INTENT, K.DONE)
BACKWARD = (K.COMPENSATION_INTENT, K.COMPENSATION_DONE)
FORWARD_RECOVERY = Retry(3)
"""How a step after the pivot is tried again that has no retries of its own."""


def in_place(call: Call) -> Flow[Done | Failed]:
    """Have a call made here; it is under way in its scope meanwhile."""
    scope: Scope = call.slot.scope
    try:
        scope.flying.add(call)
        if scope.closing or scope.parent is not None:  # seldom, so that most steps are not asked twice
            look_again(call)
        return (yield from attempt(call))
    finally:
        scope.flying.discard(call)  # in line, for a Ctrl-C may come where a method begins
        if scope.landed or scope.parent is not None:
            scope.land(call)


def look_again(call: Call) -> None:
    """Let no step start whose scope has begun to end since `perform` looked: from now on it is waited for.

    Raises:
        Stop: It has, in another thread.
    """
    scope: Scope = call.slot.scope
    if not (call.is_compensation or call.is_probe or scope.is_open):
        raise scope.run.barrier()


def handed_over(call: Call) -> Flow[Done | Failed]:
    """Have a call made by whoever answers `Do`: an engine, whose worker drives `attempt`."""
    outcome: Done | Failed = yield Do(call)
    return outcome


def attempt(call: Call) -> Flow[Done | Failed]:  # noqa: C901  # the whole of it, to be read in one piece
    """Try a step, or its compensation, until it has an outcome.

    An attempt ends *done* (it returned), *failed* (it raised) or *uncertain* (a timeout; or it was cut off, when no
    outcome follows its intent). Anything but an `Exception` passes through: interruption is not failure.
    """
    slot, back = call.slot, call.is_compensation
    intent, done = BACKWARD if back else FORWARD
    if slot.seq and not (back and slot.compensation_wait is None):
        outcome = yield from go_on(call)
        if outcome is not None:
            return outcome
    while True:
        number = call.attempt = (slot.compensation_attempts if back else slot.attempts) + 1
        if not call.read_only:
            try:
                yield slot.entry(intent, number)
            except BaseException:
                yield from withdraw(call)
                raise
        try:
            value = yield call
        except Exception as error:  # noqa: BLE001  # whatever the user's function raises
            outcome = yield from attempt_failed(call, error)
            if outcome is not None:
                return outcome
            renew(call)
            continue
        text = copy = None
        if not back:
            try:
                if call.transaction is None:
                    whole = value if call.note is None else call.kept(value)
                    text, copy = slot.scope.run.codec.encode_and_copy(whole)
                else:
                    text, copy = value
            except Unstorable as why:
                return (yield from keep_unstorable(slot, number, value, why))
        elif has_not_run(value):
            return (yield from not_run(call, value))
        yield slot.entry(done, number, text)
        return Done(copy)


def withdraw(call: Call) -> Flow[None]:
    """Record that an attempt had no effect: it was interrupted as soon as its intent was on record.

    Unless it is not, or an earlier attempt leaves it in doubt, or nothing is to be written any more.
    """
    slot = call.slot
    is_entered = slot.status is StepStatus.ENTERED and slot.attempts == call.attempt
    if is_entered and not slot.uncertain and slot.run.stop is None:
        yield slot.entry(K.NOT_LANDED, call.attempt)


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
    if not back and slot.spec is not None and slot.spec.definition != slot.definition:
        slot.redefinition = slot.spec.definition  # what is owed for this attempt is what it says now
    return None


def attempt_failed(call: Call, error: Exception) -> Flow[Done | Failed | None]:
    """Put on record how an attempt ended that raised; `None` where another one follows."""
    slot, back = call.slot, call.is_compensation
    is_cancelled = call.is_cancelled and not back  # what it made of its cancellation
    uncertain = is_cancelled or (isinstance(error, StepTimeout) and error.step == slot.key and not back)
    if call.transaction is not None:
        if uncertain and not call.transaction.in_doubt:
            add_note(error, "its transaction was rolled back, so its effect has not happened")
        uncertain = call.transaction.in_doubt and not back
    if uncertain:
        answer = yield from ask_of(slot, slot.run.codec.encode_fault(error)[1])
        if isinstance(answer, Done | Failed):
            return answer
        uncertain = answer is not K.NOT_LANDED
    delay = None if is_cancelled else delay_after(call, error, uncertain=uncertain)
    if delay is not None:
        yield from retry(call, error, delay, uncertain=uncertain)
        return None
    kind = K.COMPENSATION_ERROR if back else K.UNCERTAIN if uncertain else K.FAILED
    return (yield from give_up(slot, kind, call.attempt, error))


def delay_after(call: Call, error: Exception, *, uncertain: bool) -> float | None:
    """Return the seconds to wait before another attempt, or `None` where the step is given up."""
    slot, back = call.slot, call.is_compensation
    if isinstance(error, UsageError | NotStorableError):
        return None
    if uncertain and not back and slot.spec is not None and slot.spec.on_uncertain != "retry":
        return None
    again = call.retry
    if not again.retries and not back and slot.scope.only_goes_forward:
        again = FORWARD_RECOVERY
    if not again.retries:
        return None
    try:
        failures = (slot.compensation_failures if back else slot.failures) + 1
        return called_at(call, again.delay, failures, error, slot.run.jitter())
    except Exception as bug:  # noqa: BLE001  # of the user's predicate: the step has failed all the same
        add_note(error, f"its Retry could not be asked: {type(bug).__name__}: {text_of(bug)}")
        return None


def retry(call: Call, error: Exception, delay: float, *, uncertain: bool) -> Flow[None]:
    """Record that another attempt follows, because of *error*, and wait for its time."""
    slot = call.slot
    if call.read_only:
        slot.failures += 1
    else:
        text, _ = slot.run.codec.encode_fault(error)
        told = f'{{"wait":{delay!r},"uncertain":{"true" if uncertain else "false"},"fault":{text}}}'
        yield slot.entry(K.COMPENSATION_RETRYING if call.is_compensation else K.RETRYING, call.attempt, told)
    yield from sleep(call, delay)


def renew(call: Call) -> None:
    """Have a call made with the arguments on record: an earlier attempt may have changed those it was given."""
    slot = call.slot
    call.note = None
    if call.is_compensation:
        again = compensation_call(slot, call.fault)
        call.args, call.kwargs = again.args, again.kwargs
    else:
        call.args, call.kwargs = slot.spec.arguments(
            call.body, slot.run.codec.decode(slot.arguments) | (slot.live or {})
        )


def sleep(call: Call, seconds: float) -> Flow[None]:
    """Wait between two attempts.

    Raises:
        Stop: The run has stopped meanwhile: no other attempt follows.
    """
    yield Sleep(seconds, None if call.is_compensation else call.slot.scope)
    stop = call.slot.run.stop
    if stop is not None and not call.is_compensation:
        raise Stop(stop)
