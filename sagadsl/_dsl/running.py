"""A saga from its call to its end: its run is opened, its body is run as the current position, what came out settled.

A saga called inside another is a child in that one's run; all else is the same. The two colours differ in who awaits,
nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from sagadsl._core import threads
from sagadsl._core.awaiting import to_the_end
from sagadsl._core.codec import Unstorable, user_frames
from sagadsl._core.definition import SagaSpec, key_of, literal
from sagadsl._core.drive import asettled, is_in_thread
from sagadsl._core.flow import PRESSED, Ended, child_scope, descend, settle, take_over
from sagadsl._core.history import altered, recorded_files
from sagadsl._core.ownership import Tenure
from sagadsl._core.phrases import command, to_run_again
from sagadsl._core.runtime import Opened, Runtime, default_runtime
from sagadsl._core.scope import CURRENT, Scope
from sagadsl._core.scope.cancelled import coming, counts
from sagadsl._core.scope.slot import OpenRun
from sagadsl._core.scope.waking import came_out, met
from sagadsl._core.settings import Options
from sagadsl._core.structs import Struct
from sagadsl._core.supply import asupply, supply
from sagadsl._core.values import Status
from sagadsl._dsl.kernel import HeedingStop
from sagadsl._dsl.notifying import notify_at_end, notify_of_earlier
from sagadsl._dsl.rules import afollow, follow
from sagadsl._dsl.steps import is_async_body, misplaced
from sagadsl.errors import CompensationError, RunCancelledError, Stop, UsageError

log = logging.getLogger("sagadsl")

Finish = Callable[[Runtime, OpenRun | None, Ended | BaseException], Any]
"""What is made of a saga that has ended: its value for a call, or an outcome."""


def runtime_of(spec: SagaSpec, options: Options) -> Runtime:
    """Return the runtime of a call, at the store that the call or the saga names."""
    runtime: Runtime = options.runtime or spec.runtime or default_runtime
    store = options.store if options.store is not None else spec.store
    return runtime if store is None else runtime.at(runtime.journal(store))


# -- a run of its own --------------------------------------------------------------------------------------------------


class Calling(Struct):
    """One call of a saga: its body with arguments bound, and what is made of its end."""

    spec: SagaSpec
    options: Options
    runtime: Runtime
    body: Callable[[], Any]
    finish: Finish
    tenure: Tenure

    def pauses(self, scope: Scope) -> bool:
        """Tell whether a failure is for a person to decide."""
        return bool(self.runtime.chosen("on_failure", self.options, scope.spec) == "pause")

    def open(self, stored: dict[str, Any]) -> Opened:
        """Open a run; if its compensation failed earlier, that is how it has ended."""
        try:
            return self.runtime.open(self.spec, stored, self.options, self.tenure)
        except CompensationError as error:
            return Opened(ended=error)

    def close(self, scope: Scope | None) -> None:
        """Let go of the run, once nothing of it is under way; without a scope, of what opening it had locked so far.

        A Ctrl-C may come between any two of our lines. So this is called in a ``finally``, and once more in another
        one around it, for which nothing is left to do but what the first had not done.
        """
        if scope is None:
            self.tenure.end()
        else:
            self.runtime.leave(scope)


def run_saga(spec: SagaSpec, options: Options, target: tuple[Any, Any], args: Any, kwargs: Any, finish: Finish) -> Any:
    """Run a saga (*target*: function and instance), as a run of its own or as a child of the one around it."""
    __tracebackhide__ = True
    wrapped, instance = target
    here = CURRENT.get()
    if here is not None and (type(here) is not Scope or (spec.is_async and not is_async_body(here))):
        raise misplaced(spec, here)
    stored, live = spec.parameters.split(spec.parameters.bind(args if instance is None else (instance, *args), kwargs))
    body = functools.partial(wrapped, *args, **kwargs)
    calling = Calling(spec, options, runtime_of(spec, options), body, finish, Tenure())
    child = child_of(here, spec, stored, live, options) if isinstance(here, Scope) else None
    opens = functools.partial(calling.open, stored)
    if not spec.is_async:
        return run_root(opens, calling) if child is None else run_child(child, calling)
    made: Any = arun_root(opens, calling) if child is None else arun_child(child, calling)
    made.__qualname__ = spec.name  # as for steps
    return made


def run_root(opens: Callable[[], Opened], calling: Calling) -> Any:
    """Run a saga of its own, in a ``def``."""
    __tracebackhide__ = True
    scope = None
    try:
        opened = opens()
        scope = opened.scope
        follow(notify_of_earlier(calling.spec, calling.runtime, opened.any_run))
        if scope is None:
            return calling.finish(calling.runtime, opened.run, opened.ended or Ended(Status.COMPLETED))
        threads.begin(scope.run)
        files = None if scope.run.is_new else recorded_files(scope)
        wrong = altered(scope, files) if files else None
        ended = wrong or leave(scope, calling, *enter(scope, calling.body))
        follow(notify_at_end(calling.spec, calling.runtime, scope, ended))
    finally:
        try:
            calling.close(scope)
        finally:
            calling.close(scope)
    return calling.finish(calling.runtime, scope.run, ended)


async def arun_root(opens: Callable[[], Opened], calling: Calling) -> Any:
    """Run a saga of its own, in an ``async def``."""
    __tracebackhide__ = True
    scope = None
    with HeedingStop():
        try:
            opened = opens()
            scope = opened.scope
            await afollow(notify_of_earlier(calling.spec, calling.runtime, opened.any_run))
            if scope is None:
                return calling.finish(calling.runtime, opened.run, opened.ended or Ended(Status.COMPLETED))
            threads.begin(scope.run)
            files = None if scope.run.is_new else recorded_files(scope)
            wrong = await asyncio.to_thread(altered, scope, files) if files else None
            ended = wrong or await aleave(scope, calling, *await aenter(scope, calling.body))
            await afollow(notify_at_end(calling.spec, calling.runtime, scope, ended))
        finally:
            try:
                calling.close(scope)
            finally:
                calling.close(scope)
    return calling.finish(calling.runtime, scope.run, ended)


def enter(scope: Scope, body: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Run a body; return its value, or what it raised."""
    around = CURRENT.get()
    try:
        if scope.run.pending:
            scope.run.drive(take_over(scope))
        CURRENT.set(scope)  # inside, for a Ctrl-C may come as soon as it is set
        return body(), None
    except BaseException as error:  # noqa: BLE001  # settle decides
        return None, error
    finally:
        CURRENT.set(around)


async def aenter(scope: Scope, body: Callable[[], Awaitable[Any]]) -> tuple[Any, BaseException | None]:
    """Run a body; return its value, or what it raised."""
    around = CURRENT.get()
    try:
        begin(scope)
        if scope.run.pending:
            await scope.run.adrive(take_over(scope))
        CURRENT.set(scope)
        return await body(), came_out(scope, None)
    except BaseException as error:  # noqa: BLE001  # settle decides
        return None, came_out(scope, error)
    finally:
        scope.task = None
        if CURRENT.get() is scope:  # else it is collected, somewhere else, after its loop was closed
            CURRENT.set(around)


def begin(scope: Scope) -> None:
    """Note who runs a body, since when, and who had been cancelled before."""
    scope.task, scope.earlier = asyncio.current_task(), counts(scope)
    if scope.parent is None:
        scope.run.began = asyncio.get_running_loop().time()


def leave(scope: Scope, calling: Calling, value: Any, error: BaseException | None) -> Ended | BaseException:
    """Settle a saga; return how it ended, or why its run stopped."""
    try:
        if owes(scope, error) and scope.run.stop is None:  # the body ran only as far as the record goes
            supply(scope, calling.runtime.provided)
        flow = settle(scope, value, error, calling.pauses(scope))
        ended: Ended = scope.run.drive(flow)
    except Stop as stop:
        if is_cancelled(scope, stop):
            return leave(scope, calling, None, stop)
        return stopped(scope, stop)
    except BaseException as raised:  # noqa: BLE001  # an interruption
        return interrupted(scope, raised)
    return ended


async def aleave(scope: Scope, calling: Calling, value: Any, error: BaseException | None) -> Ended | BaseException:
    """Settle a saga; compensation is shielded from cancellation, which is let through when it has ended."""
    scope.run.settling += 1
    try:
        if owes(scope, error) and scope.run.stop is None:  # as above
            await asupply(scope, calling.runtime.provided)
        is_shielded = not scope.left and (owes(scope, error) or isinstance(error, Exception | Stop))
        work = scope.run.adrive(settle(scope, value, error, calling.pauses(scope)))
        ended: Ended = await (to_the_end(work) if is_shielded else work)
    except Stop as stop:
        if is_cancelled(scope, stop):
            return await aleave(scope, calling, None, stop)
        return stopped(scope, stop)
    except BaseException as raised:  # noqa: BLE001  # an interruption
        if scope.slot is not None:
            scope.slot.cancelled = coming(scope.slot.scope, scope.earlier)
        interrupted(scope, raised)
        if scope.parent is None and isinstance(raised, asyncio.CancelledError) and is_in_thread(scope):
            with contextlib.suppress(asyncio.CancelledError):
                await to_the_end(asettled(scope, is_in_thread))  # it cannot be cut off: its outcome is recorded first
        return raised
    finally:
        scope.run.settling -= 1
    return ended


def is_cancelled(scope: Scope, stop: Stop) -> bool:
    """Tell whether a saga was cancelled just before its value was on record: it is left once more, to compensate."""
    return scope.parent is None and isinstance(stop.reason, RunCancelledError) and scope.run.stop is None


def owes(scope: Scope, error: BaseException | None) -> bool:
    """Tell whether a saga compensates already, and nobody pressed a key: then what it owes follows."""
    return scope.status is Status.COMPENSATING and not isinstance(error, PRESSED)


def stopped(scope: Scope, stop: Stop) -> BaseException:
    """Return why a run stopped. Inside a parent it goes on up as it came, whatever bodies do with it."""
    if scope.parent is None:
        return stop.reason
    met(scope.parent)
    return stop


def interrupted(scope: Scope, error: BaseException) -> BaseException:
    """Say how to go on with a run that was interrupted, and let the interruption through.

    Nothing more of the saga starts. A child has an end if the body around it survives the interruption. Where a
    compensation was cut off, the whole run stops; resumed, it goes on there.
    """
    run = scope.run
    if isinstance(error, Exception):
        return error
    error.with_traceback(user_frames(error))
    scope.closing = True
    if scope.slot is not None and scope.status is not Status.COMPENSATING:
        run.cut.append((scope.slot, error))
    else:
        run.halt(error)
    has_ended = scope.status is not None and scope.status.is_terminal  # it came while the end was put on record
    if scope.parent is None and not run.is_new and not has_ended:
        from sagadsl.report import short_id

        shown, store = short_id(run.id), run.journal.name
        key = next((s.key for s in reversed(scope.slots) if not s.has_outcome), None)
        at = f" at {key}" if key else ""
        or_else = "" if scope.spec is None or scope.spec.function is None else f", or {command('resume', shown, store)}"
        log.warning(
            "%s interrupted%s. Go on: %s%s   Compensate: %s",
            shown, at, to_run_again(), or_else, command("compensate", shown, store), extra={"run": run.id},
        )  # fmt: skip
    return error


# -- children ---------------------------------------------------------------------------------------------------------


def child_of(
    parent: Scope, spec: SagaSpec, stored: dict[str, Any], live: dict[str, Any] | None, options: Options
) -> Scope:
    """Return the scope of a child saga, which is called with these arguments.

    Raises:
        UsageError: The call has an id.
        NotStorableError: An argument cannot be stored.
        Stop: A step is on record there.
    """
    if options.id is not None:
        msg = f"{spec.name}: a saga inside {parent.name} is part of its run and has no id of its own; use key="
        raise UsageError(msg)
    try:
        text = parent.run.codec.encode(stored)
    except Unstorable as why:
        raise why.error(spec.name, "argument") from None
    key = spec.key if options.key is None else literal(options.key)
    return child_scope(parent, spec, spec.name, text, None if key is None else key_of(key, stored, spec.name), live)


def run_child(child: Scope, calling: Calling) -> Any:
    """Run a child saga, in a ``def``."""
    __tracebackhide__ = True
    child.run.drive(descend(child))
    came = (None, None) if child.has_failed else enter(child, calling.body)
    return calling.finish(calling.runtime, child.run, leave(child, calling, *came))


async def arun_child(child: Scope, calling: Calling) -> Any:
    """Run a child saga, in an ``async def``."""
    __tracebackhide__ = True
    await child.run.adrive(descend(child))
    came = (None, None) if child.has_failed else await aenter(child, calling.body)
    return calling.finish(calling.runtime, child.run, await aleave(child, calling, *came))
