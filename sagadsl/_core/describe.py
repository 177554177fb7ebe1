"""What is to be said of an open or stored run: its scopes and slots as the values that users hold.

Reading for people never fails on a value: what this program cannot make again is given as it is stored.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sagadsl._core.codec import Codec
from sagadsl._core.codec.zlib_text import legible_text
from sagadsl._core.journal import Journal
from sagadsl._core.phrases import command, to_run_again
from sagadsl._core.scope import Scope
from sagadsl._core.scope.outlined import outline_of
from sagadsl._core.scope.slot import Slot, Tried
from sagadsl._core.state import ENDED, UNDER_WAY
from sagadsl._core.values import Cause, RunRow, Status, StepStatus, as_time
from sagadsl._core.values.outlines import Outline
from sagadsl.errors import CompensationError, Fault, JournalError, SagaError

if TYPE_CHECKING:
    from sagadsl._core.values.seen import AttemptInfo, StepInfo

STATUSES = {str(status): status for status in Status}
"""By their words: to call the enum takes ten times as long, and a list asks for thousands."""


class legible:  # noqa: N801  # read as a word: with legible(...)
    """Read what is on record of a run; whatever it does to the functions that read it, it is the record that is wrong.

    Raises:
        JournalError: It is damaged, or foreign, or holds a value that this program cannot make.
    """

    def __init__(self, journal: Journal, run_id: str) -> None:
        self.journal, self.run_id = journal, run_id

    def __enter__(self) -> None:
        """Begin to read."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Say of an error that the record made it."""
        if isinstance(error, Exception) and not isinstance(error, SagaError):
            what = f"{error!r:.300}"
            raise JournalError(
                self.journal.name, f"run {self.run_id} holds what this version never writes: {what}"
            ) from error


def describe(scope: Scope, codec: Codec) -> dict[str, Any]:
    """Return what is to be said of a scope and the calls in it."""
    from sagadsl._core.shown import Stack

    pivot = scope.pivot()
    passed = pivot.key if pivot is not None and pivot.has_happened else None
    slots = scope.calls()
    told = {slot: step_info(slot, codec) for slot in slots}
    return in_outline(outline_of(scope), codec) | {
        "saga": scope.name,
        "steps": tuple(told.values()),
        "pivot": passed,
        "compensations": tuple(slot.key for slot in sorted(slots, key=begun_at) if begun_at(slot)),
        "stack": Stack(told[slot] for slot in (scope.owed() if passed is None else ())),
        "result": stored_value(scope.result, codec),
    }


def begun_at(slot: Slot) -> int:
    """Return the ``seq`` at which the compensation of a call began, 0 where it has not."""
    return slot.compensating[0]


def in_outline(told: Outline, codec: Codec) -> dict[str, Any]:
    """Return what is to be said of a run, or a child, without the calls in it."""
    return {
        "status": STATUSES[told.status],
        "cause": Cause(told.cause) if told.cause else None,
        "error": stored_fault(told.fault, codec),
        "started": as_time(told.started),
        "ended": as_time(told.ended) if told.ended else None,
        "notified": as_time(told.notified) if told.notified else None,
        "notify_error": stored_fault(told.notify_fault, codec),
    }


def step_info(slot: Slot, codec: Codec) -> StepInfo:
    """Return what is to be said of one call."""
    from sagadsl._core.values.seen import StepInfo

    child = slot.child
    _, begun, over = slot.compensating
    ended = slot.ended if child is None else child.ended if child.status in ENDED else 0
    return StepInfo(
        key=slot.key,
        name=slot.name,
        status=str((child.status if child else slot.status) or ""),
        title=slot.facts.get("title", ""),
        saga=child is not None,
        branch="branch" in slot.facts,
        attempts=slot.attempts,
        tried=tuple(attempt_info(number, each, codec) for number, each in enumerate(slot.tried or (), 1)),
        uncertain=slot.is_uncertain,
        standing=slot.is_standing,
        arguments=stored_arguments(slot.arguments, codec),
        result=stored_value(child.result if child else slot.result, codec),
        note=stored_note(slot.result, codec),
        error=stored_fault(child.fault if child else slot.fault, codec),
        compensation=slot.facts.get("compensate"),
        compensation_attempts=slot.compensation_attempts,
        compensation_error=stored_fault(slot.compensation_fault, codec),
        **skipping(slot),
        compensation_started=as_time(begun) if begun else None,
        compensation_ended=as_time(over) if over else None,
        idempotency_key=slot.idempotency_key,
        redefined=slot.run.redefined(slot),
        started=as_time(slot.started),
        entered=as_time(slot.entered) if slot.entered else None,
        ended=as_time(ended) if ended else None,
        untimed=slot.lost or not (slot.attempts or child),
    )


def attempt_info(number: int, tried: Tried, codec: Codec) -> AttemptInfo:
    """Return what is to be said of one attempt that another one followed."""
    from sagadsl._core.values.seen import AttemptInfo

    return AttemptInfo(
        number=number,
        status=str(tried.status),
        error=stored_fault(tried.fault, codec),
        started=as_time(tried.begun),
        ended=as_time(tried.ended) if tried.ended else None,
    )


def skipping(slot: Slot) -> dict[str, Any]:
    """Return who gave its compensation up, and why."""
    told = {} if slot.skipped is None else json.loads(slot.skipped)
    return {f"skipped_{name}": str(told.get(name, "")) for name in ("by", "why")}


def stored_value(text: str | None, codec: Codec) -> Any:
    """Return a stored value for people; what this program cannot read is shown as it is stored."""
    try:
        return codec.decode(text) if text is not None else None
    except ValueError:
        stored = json.loads(legible_text(text or "null", codec.limit))
        return stored["$noted"] if isinstance(stored, dict) and "$noted" in stored else stored


def stored_note(text: str | None, codec: Codec) -> Any:
    """Return what a step noted beside its result, for people."""
    try:
        return codec.note(text)
    except ValueError:
        return json.loads(text or "{}").get("note")


def stored_arguments(text: str | None, codec: Codec) -> dict[str, Any]:
    """Return stored arguments for people.

    Raises:
        ValueError: They are none.
    """
    arguments = stored_value(text, codec) if text else {}
    if not isinstance(arguments, dict):
        msg = f"{text!r:.80} are no arguments"
        raise ValueError(msg)  # noqa: TRY004  # it is a text that is wrong
    return arguments


def stored_fault(text: str | None, codec: Codec) -> Fault | None:
    return codec.told_fault(text) if text is not None else None


def stuck(scope: Scope) -> CompensationError:
    """Return what to say of a run whose compensation failed, caused by what made it compensate, as when it failed."""
    run = scope.run
    with legible(run.journal, run.id):
        owed = scope.owed()
        failed = next(slot for slot in owed if slot.status is StepStatus.COMPENSATION_FAILED)
        fault = run.codec.load_fault(failed.compensation_fault or "{}")
    error = CompensationError(
        run.id,
        failed.key,
        fault,
        scope.compensated(),
        tuple(slot.key for slot in owed if slot.status is not StepStatus.COMPENSATION_FAILED),
        run.journal.name,
    )
    cause = next((each for each in failed.scope.chain() if each.fault is not None), scope)
    error.__cause__ = run.original(stored_fault(cause.fault, run.codec), cause.path)
    return error


def resuming_line(scope: Scope, now: int) -> str:
    """Return what to say of a run that goes on at *now*, in microseconds since 1970."""
    from sagadsl.report import age, short_id

    slots = [slot for slot in scope.calls() if slot.child is None and not slot.forgotten]
    ages = age(
        max(0, now - max([scope.started, *(slot.ended or slot.entered or slot.started for slot in slots)])) / 1e6
    )
    line = f"resuming {short_id(scope.run.id)}, "
    line += (
        ("paused" if scope.cause == Cause.REQUEST else "paused by a failure")
        if scope.status is Status.PAUSED
        else "cut off"
    )
    cut = [slot for slot in slots if slot.status in UNDER_WAY]
    if scope.status is Status.PAUSED:
        cut = [slot for slot in failed_calls(scope) if not slot.done]
    afresh = {each for slot in cut if slot.child is not None for each in slot.child.tree()}
    recorded = sum(slot.has_outcome and slot not in cut and slot.scope not in afresh for slot in slots)
    line += f" {ages} ago: {recorded} step{'' if recorded == 1 else 's'} recorded"
    if scope.status is Status.COMPENSATING:
        line += ", goes on compensating"
    elif cut:
        follows = cut[0] in slots[recorded : recorded + 1]  # else its number would be one of another count
        number = f"{recorded + 1} " if follows else ""
        line += f", {number}{cut[0].key} {what_follows(cut[0])}"
    return line


def failed_calls(scope: Scope) -> list[Slot]:
    """Return what has paused a scope, and is entered again: calls of steps, and of children that are run afresh."""
    calls = {slot.seq: slot for slot in scope.calls()}
    found: list[Slot] = []
    for slot in map(calls.__getitem__, scope.paused_by):
        child = slot.child
        found += [slot] if child is None or child.status is not Status.PAUSED else failed_calls(child)
    return found


ON_UNCERTAIN = {"pause": "was cut off, which pauses the run", "compensate": "was cut off, and counts as failed"}


def what_follows(slot: Slot) -> str:
    """Return what becomes of a call that is not over, when its run goes on."""
    if slot.is_uncertain and slot.status is not StepStatus.RETRYING and "probe" in slot.facts:
        return "may have happened: its probe is asked"
    if slot.status is StepStatus.ENTERED:
        return ON_UNCERTAIN.get(slot.facts.get("on_uncertain", ""), "is tried again")
    return "is tried again"


def beside_line(
    row: RunRow, scope: Scope | None, saga: str, differing: dict[str, str], store: str, *, is_block: bool
) -> str:
    """Return what to say of an unfinished run beside which another run of *saga* starts: one line.

    *scope* is `None` where it cannot be read. *differing* are the arguments for which a call of the same saga is not
    that run's.
    """
    from sagadsl._core.values.seen import RunInfo
    from sagadsl.report import short_id, status_words

    status = None if scope is None else scope.status
    words = "unfinished" if status is None else status_words(RunInfo(id=row.id, saga=row.saga, status=status))
    line = f"{short_id(row.id)} of this program is {words}, and another run of {saga} starts"
    line += f", for its arguments differ: {'; '.join(differing.values())}. " if differing else ". "
    if status in {Status.OPEN, Status.PAUSED}:
        line += f"Go on with that one: {to_run_again() if is_block else command('resume', row.id, store)}   "
    return (
        f"{line}Compensate it: {command('compensate', row.id, store)}   A script that runs several sagas calls them "
        "from one parent saga, or gives each a key: then what is done is not done again."
    )


def differing_arguments(recorded: str, given: str, codec: Codec) -> dict[str, str]:
    """Return the names of the arguments in which two calls differ, each with what it was and what it is."""
    was, now = (stored_arguments(text, codec) for text in (recorded, given))
    one, other = (
        {name: codec.canonical(json.dumps(value)) for name, value in json.loads(text).items()}
        for text in (recorded, given)
    )
    told = {name: f"{name} was {was.get(name)!r:.80}, is {now.get(name)!r:.80}" for name in was | now}
    told |= {name: f"{name} is new" for name in now if name not in was}
    told |= {name: f"{name} is gone" for name in was if name not in now}
    return {name: text for name, text in told.items() if one.get(name) != other.get(name)}
