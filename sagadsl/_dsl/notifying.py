"""``notify=``: a function of the user's that is told how a run has ended, at least once.

That it is owed the call is written with the run's end, in the same commit; that it returned, after that. Whoever dies
between the two leaves a run of which nobody was told, marked as such: the next call of its saga with the same arguments
and `resume_all` find it by that mark, and call. What the function raises changes nothing about the run: it is logged
and on record, and the call stays owed. A run is held while its ``notify`` is called: never by two processes at once.

The rules have the call made by whoever follows them, in either colour (``rules``).
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sagadsl._core.awaiting import awaited
from sagadsl._core.codec import Codec, user_frames
from sagadsl._core.definition import SagaSpec
from sagadsl._core.drive.entries import write
from sagadsl._core.flow import Ended, completed, is_compensated
from sagadsl._core.ownership import Tenure
from sagadsl._core.parameters import close, code_of
from sagadsl._core.runtime import Runtime
from sagadsl._core.scope import Scope
from sagadsl._core.scope.slot import OpenRun
from sagadsl._core.values import Kind, RunRow, Status
from sagadsl._dsl.options import refuse_generator
from sagadsl._dsl.outcomes import ended_as
from sagadsl._dsl.rules import Rules
from sagadsl.errors import SagaError, Stop, UsageError

if TYPE_CHECKING:
    from sagadsl._core.runtime.stored import Run

log = logging.getLogger("sagadsl")

Notifying = Rules[bool]
"""The rules of one call of `notify`; they return whether none is owed any more."""


def checked_notify(spec: SagaSpec) -> None:
    """Refuse what can never be called.

    Raises:
        UsageError: It is no function, takes no outcome, or would have to be iterated, or awaited where nobody can.
    """
    notify, of = spec.notify, f"@saga(notify=...) of {spec.name}"
    if notify is None:
        return
    if not callable(notify):
        msg = f"{of} takes a function of the outcome, not {notify!r:.80}"
        raise UsageError(msg)
    refuse_generator(notify, of)
    if not spec.is_async and inspect.iscoroutinefunction(code_of(notify)):
        msg = f"{of} is an async def, which a saga that is a def cannot await: make it a def"
        raise UsageError(msg)
    refuse_unfit(notify, of)


def refuse_unfit(notify: Callable[..., Any], of: str) -> None:
    """Refuse a function that no outcome can be given to.

    Raises:
        UsageError: It takes no argument, or wants more than one.
    """
    try:
        signature = inspect.signature(notify)
    except ValueError:  # a builtin that keeps its parameters to itself
        return
    try:
        signature.bind(None)
    except TypeError as error:
        msg = f"{of} is called with one argument, the outcome: {error}"
        raise UsageError(msg) from error


def notify_of(spec: SagaSpec, runtime: Runtime, scope: Scope, ended: Ended | None = None) -> Notifying:
    """Call the ``notify`` of a run that is held, with how it *ended*, by default as it is on record."""
    assert spec.notify is not None  # noqa: S101  # asked by whoever comes here
    run = scope.run
    try:
        outcome = ended_as(runtime, run, ended or on_record(scope, run.codec))
        act = functools.partial(awaited_call if spec.is_async else plain_call, spec.notify, outcome)
        yield act, spec.is_async
    except Exception as error:
        raised = type(error), error, user_frames(error)
        log.error("notify of %s failed, and will be called again", run.id, exc_info=raised, extra={"run": run.id})  # noqa: TRY400
        keep(scope, Kind.NOTIFY_ERROR, run.codec.encode_fault(error)[0])
        return False
    keep(scope, Kind.NOTIFIED)
    return True


def notify_again(spec: SagaSpec, runtime: Runtime, row: RunRow) -> Notifying:
    """Notify of a run that ended earlier and whose ``notify`` is still owed."""
    tenure = Tenure()
    try:
        try:
            scope = runtime.untold(spec, row, tenure)
        except SagaError as error:
            log.warning("%s was not told of: %s", row.id, str(error), extra={"run": row.id})
            return False
        return scope is None or (yield from notify_of(spec, runtime, scope))
    finally:
        tenure.end()


def on_record(scope: Scope, codec: Codec) -> Ended:
    """Return how a run has ended, as the journal has it."""
    if scope.status is Status.COMPLETED:
        return completed(scope)
    ended = is_compensated(scope)
    ended.error = scope.run.original(codec.told_fault(scope.fault) if scope.fault else None, scope.path)
    return ended


def keep(scope: Scope, kind: Kind, fault: str | None = None) -> None:
    """Put on record what came of a call of ``notify``; the same failure once more says nothing new."""
    if kind is Kind.NOTIFY_ERROR and scope.notify_fault == fault:
        return
    try:
        write(scope.entry(kind, result=fault))
    except Stop as stop:
        text = "what came of the notify of %s is not on record, so it will be called again: %s"
        log.warning(text, scope.run.id, str(stop.reason), extra={"run": scope.run.id})


def plain_call(notify: Callable[[Any], Any], outcome: Any) -> None:
    """Call ``notify`` where nobody can await.

    Raises:
        UsageError: It gave something to await.
    """
    value = notify(outcome)
    if hasattr(type(value), "__await__"):
        close(value)
        msg = "notify gave an awaitable, which a saga that is a def cannot await: it has not run"
        raise UsageError(msg)


async def awaited_call(notify: Callable[[Any], Any], outcome: Any) -> None:
    """Call ``notify`` in an event loop."""
    await awaited(notify(outcome))


def notify_at_end(spec: SagaSpec, runtime: Runtime, scope: Scope, ended: Ended | BaseException) -> Rules[None]:
    """Notify of a run that has just ended, if it has, and is still held."""
    if spec.notify is not None and isinstance(ended, Ended):
        yield from notify_of(spec, runtime, scope, ended)


def notify_of_earlier(spec: SagaSpec, runtime: Runtime, run: OpenRun | None) -> Rules[None]:
    """Notify of earlier runs with the arguments of a *run*, oldest first; where that fails the later ones wait."""
    if spec.notify is None or run is None:
        return
    for row in run.journal.runs(saga=spec.name, digest=run.row.arguments_digest, untold=True):
        if not (yield from notify_again(spec, runtime, row)):
            return


def notify_without_body(spec: SagaSpec, runtime: Runtime, run: Run) -> Rules[Run]:
    """Notify of a run that was compensated without its body, if that is still owed; return it."""
    for row in runtime.journal().runs(id=run.id, untold=True) if spec.notify is not None else ():
        yield from notify_again(spec, runtime, row)
    return run
