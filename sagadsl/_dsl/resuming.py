"""What a program left unfinished, resumed when it starts again, or at intervals in the background.

One run after another, by the saga that the program has now. A run that cannot go on is logged, and keeps none of the
others waiting. A run that takes its process with it each time would let a service that resumes at its start never start
again; so one that was interrupted five times without getting any further is left to a person instead.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, overload

from sagadsl._core.awaiting import running_loop
from sagadsl._core.definition import SagaSpec, as_seconds
from sagadsl._core.phrases import text_of
from sagadsl._core.registry import registry
from sagadsl._core.runtime import Runtime
from sagadsl._core.scope import CURRENT
from sagadsl._core.scope.cancelled import cancellations
from sagadsl._core.settings import Options
from sagadsl._core.values import RunRow
from sagadsl._dsl.decorated import spec_of
from sagadsl._dsl.notifying import notify_again
from sagadsl._dsl.outcomes import as_outcome
from sagadsl._dsl.rules import Rules, afollow, follow
from sagadsl._dsl.running import runtime_of
from sagadsl._dsl.sagas import Saga, parts_of
from sagadsl.errors import RunLockedError, UsageError

if TYPE_CHECKING:
    from sagadsl._core.runtime.stored import Run
    from sagadsl._core.values.outcomes import Outcome

log = logging.getLogger("sagadsl")

ENOUGH = 5
"""How often a run may be interrupted at one step before a person is to look."""

Outcomes = tuple["Outcome[Any]", ...]
Report = Callable[[str, BaseException], None]
"""What is called with a run, or a saga, that could not be resumed, and why."""
Work = Rules["Outcome[Any] | None"]
"""The rules of resuming one run, or of notifying of it; they return how it ended, `None` if it was not resumed."""


@overload
def resume_all(sagas: Iterable[Saga[..., Any]] | Saga[..., Any] | None = ..., every: None = ...) -> Outcomes: ...
@overload
def resume_all(
    sagas: Iterable[Saga[..., Any]] | Saga[..., Any] | None = ..., *, every: float | timedelta
) -> Resuming: ...
def resume_all(sagas: Any = None, every: float | timedelta | None = None) -> Any:
    """Go on with every run that was interrupted; return how each of them ended, oldest first.

    For the start of a program. Runs that a living process has, that were paused, or whose compensation failed, are left
    alone. A run that cannot go on (its code changed, a live argument is missing) is said in the log, and never raised.
    A run that was interrupted five times without getting any further is paused: going on with it by hand starts the
    count again.
    A saga's ``notify`` that is still owed for a run that has ended is called.

    Args:
        sagas: Those to go on with, also bound to an instance or with ``using(...)``; by default every saga that the
            program has at module level.
        every: Seconds or a `timedelta`: do it now and again at this interval, in a daemon thread. What is returned
            then has ``outcomes`` (of the last round), ``wait()`` and ``stop()``.

    Raises:
        UsageError: It is called in a saga, or where an event loop runs, which it would block: there
            ``await sagadsl.aio.resume_all()``, or ``every=``.
    """
    chosen, seconds = checked_request(sagas, every)
    if seconds is not None:
        return Resuming(chosen, seconds)
    if running_loop() is not None:
        msg = "resume_all() would block the event loop: await sagadsl.aio.resume_all(), or give every="
        raise UsageError(msg)
    return tuple(resumed(chosen, warn))


@overload
def aresume_all(
    sagas: Iterable[Saga[..., Any]] | Saga[..., Any] | None = ..., every: None = ...
) -> Coroutine[Any, Any, Outcomes]: ...
@overload
def aresume_all(
    sagas: Iterable[Saga[..., Any]] | Saga[..., Any] | None = ..., *, every: float | timedelta
) -> Coroutine[Any, Any, asyncio.Task[None]]: ...
async def aresume_all(sagas: Any = None, every: float | timedelta | None = None) -> Any:
    """Go on with every run that was interrupted, as `sagadsl.resume_all` does, in the event loop that runs.

    Async sagas run in this loop, so that clients and connections bound to it work; the others in a thread. Cancelled,
    it begins no further run, and the one under way stays interrupted (one in a thread goes on to its end).

    Args:
        sagas: As in `sagadsl.resume_all`.
        every: Seconds or a `timedelta`: do it now and again at this interval, in a task, which is returned at once.
            Its ``cancel()`` stops it, as the end of the loop does.

    Raises:
        UsageError: It is called in a saga.
    """
    chosen, seconds = checked_request(sagas, every)
    if seconds is None:
        return await aresumed(chosen, warn)
    task = asyncio.create_task(again_and_again(chosen, seconds), name="sagadsl resume_all")
    _tasks.add(task)  # a loop alone would not keep it
    task.add_done_callback(_tasks.discard)
    return task


_tasks: set[asyncio.Task[None]] = set()


async def again_and_again(sagas: list[Any] | None, seconds: float) -> None:
    """Do what is due, at an interval, until it is cancelled."""
    report = warning_once()
    while True:
        await aresumed(sagas, report)
        await asyncio.sleep(seconds)


def checked_request(sagas: Any, every: float | timedelta | None) -> tuple[list[Any] | None, float | None]:
    """Return what `resume_all` is asked for: which sagas, and at which interval in seconds.

    Raises:
        UsageError: It makes no sense, or a saga asks.
    """
    chosen = checked_sagas(sagas)
    if CURRENT.get() is not None:
        msg = "resume_all() is called inside a saga: call it where the program starts"
        raise UsageError(msg)
    return chosen, as_seconds(every, "resume_all(every=...)")


def checked_sagas(sagas: Any) -> list[Any] | None:
    """Return the sagas whose runs are to be resumed; `None`: whatever the program has.

    Raises:
        UsageError: There is something else among them.
    """
    if sagas is None:
        return None
    chosen = list(sagas) if isinstance(sagas, Iterable) else [sagas]
    for each in chosen:
        if not isinstance(spec_of(each), SagaSpec):
            msg = f"resume_all() takes functions decorated with @saga, not {each!r}"
            raise UsageError(msg)
    return chosen


def warn(run: str, error: BaseException) -> None:
    """Log why a run was not resumed."""
    log.warning("%s was not gone on with: %s: %s", run, type(error).__name__, text_of(error), extra={"run": run})


def warning_once() -> Report:
    """Return what logs a reason once, however often it comes again."""
    known: set[tuple[str, str]] = set()

    def warn_once(run: str, error: BaseException) -> None:
        reason = (run, f"{type(error).__name__}: {text_of(error)}")
        if reason not in known:
            known.add(reason)
            warn(run, error)

    return warn_once


def resumed(sagas: list[Any] | None, report: Report) -> Iterator[Outcome[Any]]:
    """Do what is due; yield the outcomes of what was resumed."""
    for work in due(sagas, report):
        ended = follow(work)
        if ended is not None:
            yield ended


async def aresumed(sagas: list[Any] | None, report: Report) -> Outcomes:
    """Do what is due, in an ``async def``; return the outcomes of what was resumed."""
    ended = [await afollow(work) for work in due(sagas, report)]
    return tuple(each for each in ended if each is not None)


def due(sagas: list[Any] | None, report: Report) -> Iterator[Work]:
    """Yield the work that is due, saga by saga, oldest first: owed notifications, then interrupted runs."""
    for saga in module_level() if sagas is None else sagas:
        spec, options = parts_of(saga)
        runtime = runtime_of(spec, options)
        try:
            owed = runtime.journal().runs(saga=spec.name, untold=True) if spec.notify is not None else []
            rows = runtime.journal().runs(saga=spec.name, unfinished=True)
        except Exception as error:  # noqa: BLE001  # a store that is not there, or damaged
            report(spec.name, error)
            continue
        for row in owed:
            yield notify_one(spec, runtime, row, report)
        for row in rows:
            yield resume_one(saga, runtime, row.id, report)


def module_level() -> list[Any]:
    """Return the sagas that the program has at module level."""
    return [made for made in list(registry.sagas.values()) if "<locals>" not in made.__qualname__]


def is_due(run: Run, spec: SagaSpec, options: Options, runtime: Runtime) -> bool:
    """Tell whether a run is to be resumed: interrupted, of this very saga, and the saga allows it."""
    allowed = runtime.chosen("resume", options, spec) != "never"
    return allowed and run.is_interrupted and run._module == spec.module  # noqa: SLF001  # users see its name alone


def resume_one(saga: Any, runtime: Runtime, run_id: str, report: Report) -> Work:
    """Resume a run if it is due; return how it ended. What goes wrong is reported, unless it ends the caller."""
    spec, options = parts_of(saga)
    ended: Outcome[Any] | None = None
    try:
        if is_due(runtime.find(run_id), spec, options, runtime):
            stopped = runtime.hold_back(run_id, ENOUGH)
            if stopped is None:
                ended = yield lambda: saga.reopen(run_id, finish=as_outcome), spec.is_async
            else:
                ended = as_outcome(runtime, None, stopped)
    except RunLockedError:
        pass  # somebody was faster
    except BaseException as error:
        if ends_the_caller(error):
            raise
        report(run_id, error)
    return ended


def notify_one(spec: SagaSpec, runtime: Runtime, row: RunRow, report: Report) -> Work:
    """Notify of a run that has ended; being none that is resumed, it has no outcome here."""
    try:
        yield from notify_again(spec, runtime, row)
    except BaseException as error:
        if ends_the_caller(error):
            raise
        report(row.id, error)
    return None


def ends_the_caller(error: BaseException) -> bool:
    """Tell whether an interruption is for whoever resumes: a Ctrl-C, the cancellation of the task it is done in."""
    if isinstance(error, KeyboardInterrupt):
        return threading.current_thread() is threading.main_thread()
    return isinstance(error, asyncio.CancelledError) and cancellations() > 0


class Resuming:
    """`resume_all` in the background, at an interval. Usable as a context manager, which stops it."""

    def __init__(self, sagas: list[Any] | None, seconds: float) -> None:
        self._sagas, self._seconds = sagas, seconds
        self._report = warning_once()
        self._outcomes: Outcomes = ()
        self._is_busy = True
        self._turn = threading.Condition()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sagadsl resume_all", daemon=True)
        self._thread.start()

    @property
    def outcomes(self) -> Outcomes:
        """How the runs of the last round that has ended have ended."""
        return self._outcomes

    def wait(self, timeout: float | None = None) -> Outcomes:
        """Wait until no round is under way, at most *timeout* seconds; return the outcomes of the last one."""
        with self._turn:
            self._turn.wait_for(lambda: not self._is_busy, timeout)
            return self._outcomes

    def stop(self, timeout: float | None = None) -> None:
        """Begin no further run, and wait for the one under way, at most *timeout* seconds."""
        self._end.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def __enter__(self) -> Self:
        """Give the handle."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def _work(self) -> None:
        while not self._end.is_set():
            self._is_busy = True
            ended = []
            for each in resumed(self._sagas, self._report):
                ended.append(each)
                if self._end.is_set():
                    break
            with self._turn:
                self._outcomes, self._is_busy = tuple(ended), False
                self._turn.notify_all()
            self._end.wait(self._seconds)
        with self._turn:  # also where it was stopped before it began
            self._is_busy = False
            self._turn.notify_all()
