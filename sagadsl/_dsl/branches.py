"""``parallel``: branches at the same time, each a scope of its own, all settled before anything else happens.

A branch is part of the saga around it, not a saga: what it did stands or falls with that. Being a scope of its own, its
calls are told apart from those of its neighbours, and replay compares them in their order however the branches were
timed. In a ``def`` branches run in threads, in an ``async def`` in tasks; each has a copy of the context.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextvars import Context, copy_context
from typing import Any, TypeVar

from sagadsl._core.awaiting import awaited
from sagadsl._core.definition import SagaSpec
from sagadsl._core.effects import Call
from sagadsl._core.flow import child_scope, descend, settle_branch
from sagadsl._core.parameters import Parameters
from sagadsl._core.scope import CURRENT, Scope
from sagadsl._core.scope.cancelled import Counts, coming, counts
from sagadsl.errors import Stop, UsageError

T = TypeVar("T")
Ending = tuple[Any, BaseException | None]


def parallel(*branches: Callable[[], T], limit: int | None = None) -> list[T]:
    """Call branches at the same time, in threads, and return their values in the order given.

    All of them come to an end before anything else happens. Outside a saga they are only called.

    Args:
        branches: Callables without arguments.
        limit: How many run at once, by default all.

    Raises:
        Exception: What the branch raised that failed, where it is the only one.
        ExceptionGroup: What the branches raised, where several failed.
        UsageError: A branch cannot be called, or the saga is an ``async def``.
    """
    here = position(branches, limit, is_async=False)
    if here is None:
        return together(in_threads([(copy_context(), branch) for branch in branches], limit))
    drive = here.run.drive
    outer, scopes = opened(here, len(branches), SYNC)
    for scope in (outer, *scopes):
        drive(descend(scope))

    def body(scope: Scope, branch: Callable[[], T]) -> tuple[Context, Callable[[], T]]:
        def run() -> T:
            try:
                value = branch()
            except BaseException as error:
                drive(settle_branch(scope, error))
                raise
            drive(settle_branch(scope, None))
            return value

        return context_of(scope), run

    try:
        endings = in_threads([body(*pair) for pair in zip(scopes, branches, strict=True)], limit)
    except BaseException as error:
        outer.closing = True  # an interruption: nothing more starts in the branches, which nobody waits for
        cut_off(outer, error)
        raise
    try:
        values: list[T] = together(endings)
    except BaseException as error:
        cut_off(outer, error)
        drive(settle_branch(outer, error))
        raise
    drive(settle_branch(outer, None))
    return values


async def aparallel(*branches: Callable[[], Awaitable[T]] | Awaitable[T], limit: int | None = None) -> list[T]:
    """Await branches at the same time, in tasks, and return their values in the order given.

    All of them come to an end before anything else happens. Outside a saga they are only awaited. A cancellation
    cancels them all, waits for them, and goes on.

    Args:
        branches: Coroutines, other awaitables, or callables without arguments that give one. A step that is called
            beforehand, ``aparallel(reserve("lamp"))``, belongs to the scope around the branches.
        limit: How many run at once, by default all.

    Raises:
        Exception: What the branch raised that failed, where it is the only one.
        ExceptionGroup: What the branches raised, where several failed.
        UsageError: A branch cannot be awaited, or the saga is a ``def``.
    """
    try:
        here = position(branches, limit, is_async=True)
        if here is None:
            return together(await in_tasks([(copy_context(), value_of(branch)) for branch in branches], limit))
        return await in_scopes(here, branches, limit)
    finally:
        for branch in branches:
            if inspect.iscoroutine(branch):
                branch.close()  # one whose turn never came


async def in_scopes(here: Scope, branches: tuple[Any, ...], limit: int | None) -> list[Any]:
    """Await branches, each in a scope of its own."""
    drive, earlier = here.run.adrive, counts(here)
    outer, scopes = opened(here, len(branches), ASYNC)
    for scope in (outer, *scopes):
        await drive(descend(scope))

    async def body(scope: Scope, branch: Any) -> Any:
        try:
            value = await value_of(branch)
        except BaseException as error:
            await drive(settle_branch(scope, error))
            raise
        await drive(settle_branch(scope, None))
        return value

    made = [(context_of(scope), body(scope, branch)) for scope, branch in zip(scopes, branches, strict=True)]
    try:
        values = together(await in_tasks(made, limit))
    except BaseException as error:
        cut_off(outer, error, earlier)
        await drive(settle_branch(outer, error))
        raise
    await drive(settle_branch(outer, None))
    return values


def branch_spec(*, is_async: bool) -> SagaSpec:
    """Return the definition that the scope of a branch has, which is no saga."""
    name = "aio.parallel" if is_async else "parallel"
    function = aparallel if is_async else parallel
    spec = SagaSpec(function, name, name, "sagadsl", "", is_async, Parameters.of(lambda: None))
    spec.definition = '{"module":"sagadsl","branch":true}'
    return spec


SYNC, ASYNC = branch_spec(is_async=False), branch_spec(is_async=True)


def position(branches: tuple[Any, ...], limit: Any, *, is_async: bool) -> Scope | None:
    """Return the scope in which branches are called, `None` outside a saga.

    Raises:
        UsageError: They cannot be called here.
    """
    name = "aio.parallel" if is_async else "parallel"
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        msg = f"{name}(limit=...) takes a whole number from 1 on, or None, not {limit!r}"
        raise UsageError(msg)
    for branch in branches:
        if not callable(branch) and not (is_async and hasattr(type(branch), "__await__")):
            what = "coroutines, or callables that give one" if is_async else "callables without arguments"
            msg = f"{name}() takes {what}, not {branch!r:.80}: write `lambda: reserve(item)`, or reserve.map(items)"
            raise UsageError(msg)
    here = CURRENT.get()
    if isinstance(here, Call):
        msg = f"{name}() is called inside step {here.slot.key}: a step is a leaf; call it from the saga"
        raise UsageError(msg)
    if here is not None and here.spec is not None and here.spec.is_async is not is_async:
        if is_async:
            msg = f"aio.parallel() is awaited in {here.name}, which is a def: call sagadsl.parallel(...)"
        else:
            msg = f"parallel() is called in {here.name}, which is an async def: await sagadsl.aio.parallel(...)"
        raise UsageError(msg)
    return here


def opened(here: Scope, count: int, spec: SagaSpec) -> tuple[Scope, list[Scope]]:
    """Return the scope that holds the branches, and theirs: as recorded, or new."""
    outer = child_scope(here, spec, "parallel", f'{{"branches":{count}}}')
    return outer, [child_scope(outer, spec, str(number), "{}") for number in range(1, count + 1)]


def cut_off(outer: Scope, error: BaseException, earlier: Counts | None = None) -> None:
    """Note that branches were interrupted, if they were; they have an end on record once the body survives it."""
    assert outer.slot is not None  # noqa: S101  # it is no root
    if not isinstance(error, Exception | Stop):
        outer.slot.cancelled = None if earlier is None else coming(outer.slot.scope, earlier)
        outer.run.cut.append((outer.slot, error))


def context_of(scope: Scope) -> Context:
    """Return a copy of the context in which *scope* is the current position."""
    context = copy_context()
    context.run(CURRENT.set, scope)
    return context


def in_threads(bodies: list[tuple[Context, Callable[[], Any]]], limit: int | None) -> list[Ending]:
    """Call bodies in daemon threads, so many at a time; return how each ended. A Ctrl-C has none begin any more."""
    endings: list[Ending] = [(None, None)] * len(bodies)
    waiting, guard, ended = enumerate(bodies), threading.Lock(), threading.Semaphore(0)
    is_left = False

    def following() -> Iterator[tuple[int, tuple[Context, Callable[[], Any]]]]:
        while True:
            with guard:
                at = None if is_left else next(waiting, None)
            if at is None:
                return
            yield at

    def work() -> None:
        for number, (context, body) in following():
            try:
                endings[number] = context.run(body), None
            except BaseException as error:  # noqa: BLE001  # raised again in the caller's thread
                endings[number] = None, error
        ended.release()

    threads = [
        threading.Thread(target=work, name=f"sagadsl branch {number}", daemon=True)
        for number in range(1, min(limit or len(bodies), len(bodies)) + 1)
    ]
    try:
        for thread in threads:
            thread.start()
        for _ in threads:
            ended.acquire()
    except BaseException:
        is_left = True
        raise
    return endings


async def in_tasks(bodies: list[tuple[Context, Coroutine[Any, Any, Any]]], limit: int | None) -> list[Ending]:
    """Await bodies in tasks, so many at a time; return how each ended, once all have."""
    turn = asyncio.Semaphore(limit or max(1, len(bodies)))

    async def work(body: Coroutine[Any, Any, Any]) -> Ending:
        try:
            async with turn:
                return await body, None
        except BaseException as error:  # noqa: BLE001  # told to the caller
            return None, error

    tasks = [asyncio.get_running_loop().create_task(work(body), context=context) for context, body in bodies]
    interrupted: asyncio.CancelledError | None = None
    while any(not task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            interrupted = interrupted or error
            for task in tasks:
                task.cancel()
    for _, body in bodies:
        body.close()  # one that was cancelled before its turn was never awaited
    if interrupted is not None:
        raise interrupted
    return [task.result() if not task.cancelled() else (None, asyncio.CancelledError()) for task in tasks]


async def value_of(branch: Any) -> Any:
    """Return what a branch gives, awaited."""
    return await awaited(branch() if callable(branch) else branch)


def together(endings: list[Ending]) -> list[Any]:
    """Return the values of branches that have all ended, or raise what is wrong.

    Raises:
        BaseException: An interruption, before anything else; else the one failure, or all of them as a group.
    """
    __tracebackhide__ = True
    errors = [error for _, error in endings if error is not None]
    for kind in (Stop, BaseException):
        for error in errors:
            if isinstance(error, kind) and not isinstance(error, Exception):
                raise error
    if len(errors) > 1:
        msg = f"{len(errors)} of {len(endings)} branches failed"
        raise ExceptionGroup(msg, [error for error in errors if isinstance(error, Exception)])
    if errors:
        raise errors[0]
    return [value for value, _ in endings]
