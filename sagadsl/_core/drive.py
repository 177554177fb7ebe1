"""Making it happen: the only two functions that act, and what they share.

``drive`` and ``adrive`` run a flow and answer its effects, each in its colour; they mirror each other line by line. An
engine brings a pair of its own. What a user's function raises is thrown into the flow as it is; what the journal
cannot do becomes a `Stop`, so that a full disk never looks like a failing step.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import copy_context
from threading import Thread
from typing import Any

from sagadsl._core.effects import Call, Do, Flow, Gather, Record, Sleep
from sagadsl._core.journal import Overtaken, Taken
from sagadsl._core.scope import CURRENT, Scope, Slot
from sagadsl._core.values import Entry, Kind
from sagadsl.errors import JournalError, RunLockedError, RunLostError, StepTimeout


class Drivers:
    """The embedded pair: *attempt* is the flow that has a step done, here and now.

    *sleep* and *asleep* wait a number of seconds in their colour; tests pass a clock's.
    """

    def __init__(
        self,
        attempt: Callable[[Any], Flow[Any]],
        sleep: Callable[[float], Any] = time.sleep,
        asleep: Callable[[float], Any] = asyncio.sleep,
    ) -> None:
        self._attempt, self._sleep, self._asleep = attempt, sleep, asleep

    def drive(self, flow: Flow[Any]) -> Any:
        """Run a flow to its end, in a ``def``."""
        send, throw = flow.send, flow.throw
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                effect, answer = send(answer) if error is None else throw(error), None
            except StopIteration as end:
                return end.value
            error = None
            cls = type(effect)
            try:
                if cls is Record:
                    write(effect)
                elif cls is Call:
                    answer = call(effect)
                elif cls is Do:
                    answer = self.drive(self._attempt(effect.work))
                elif cls is Sleep:
                    self._sleep(effect.seconds)
                # nothing is under way beside a `def`, so there is nothing to gather, and only an async step waits
            except BaseException as raised:  # noqa: BLE001  # the flow decides
                error = raised

    async def adrive(self, flow: Flow[Any]) -> Any:
        """Run a flow to its end, in an ``async def``."""
        send, throw = flow.send, flow.throw
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                effect, answer = send(answer) if error is None else throw(error), None
            except StopIteration as end:
                return end.value
            error = None
            cls = type(effect)
            try:
                if cls is Record:
                    write(effect)
                elif cls is Call:
                    answer = await acall(effect)
                elif cls is Do:
                    answer = await self._fly(effect)
                elif cls is Sleep:
                    await self._asleep(effect.seconds)
                elif cls is Gather:
                    await settled(effect.scope)
                else:
                    await asyncio.get_running_loop().create_future()
            except BaseException as raised:  # noqa: BLE001  # the flow decides
                error = raised

    async def _fly(self, effect: Do) -> Any:
        """Have work done while its scope knows that it is under way."""
        scope: Scope = effect.work.slot.scope
        scope.flying += 1
        try:
            return await self.adrive(self._attempt(effect.work))
        finally:
            scope.flying -= 1
            for each in scope.chain():
                if each.landed is not None:
                    each.landed()


async def settled(scope: Scope) -> None:
    """Wait until no attempt is under way in a scope and those inside it."""
    loop = asyncio.get_running_loop()
    while any(each.flying for each in scope.tree()):
        landing = loop.create_future()
        scope.landed = lambda landing=landing: landing.done() or landing.set_result(None)
        try:
            await landing
        finally:
            scope.landed = None


# -- entries ----------------------------------------------------------------------------------------------------------


def write(effect: Record) -> None:
    """Append an entry, take it into the run's state, tell the observers.

    Raises:
        Stop: The journal cannot be written, or another process has the run.
    """
    of, kind = effect.of, effect.kind
    finished = None
    if type(of) is Slot:
        scope: Scope = of.scope
        run = scope.run
        at = run.clock()
        if of.seq:
            entry = Entry(0, 0, kind, scope.seq, of.key, of.seq, effect.attempt, at, None, None, None, effect.result)
        else:
            begins = (of.name, of.definition, of.arguments)
            entry = Entry(0, 0, kind, scope.seq, of.key, None, effect.attempt, at, *begins, effect.result)
    else:
        run = of.run
        entry = Entry(0, 0, kind, of.seq, of.path, None, None, run.clock(), None, None, None, effect.result)
        finished = None if of.parent else FINISHED.get(kind)
    try:
        if run.pending or finished is not None:
            row = run.row if run.is_new else None
            full = run.is_new or kind in run.full
            run.journal.commit(run.log, [*run.pending, entry], full=full, row=row, finished=finished)
            run.pending, run.is_new = [], False
        else:
            run.journal.append(run.log, entry, kind in run.full)
    except Overtaken:
        raise run.halt(RunLostError(run.id)) from None
    except Taken:
        raise run.halt(RunLockedError(run.id)) from None
    except JournalError as error:
        raise run.halt(error) from error
    except BaseException as error:  # a Ctrl-C around the commit: whether the row is there only the file can tell
        run.halt(error)
        raise
    of.apply(entry)
    for observer in run.observers:
        observer(entry)


FINISHED = {Kind.COMPLETED: True, Kind.COMPENSATED: True, Kind.COMPENSATING: False}
"""What an entry about the root says of the run as a whole: whether anybody need look for it again."""


# -- the user's functions ---------------------------------------------------------------------------------------------


def call(effect: Call) -> Any:
    """Call the user's function, in a thread of its own where it has a timeout."""
    token = CURRENT.set(effect)
    try:
        if effect.timeout is None:
            return effect.function(*effect.args, **effect.kwargs)
        effect.deadline = time.monotonic() + effect.timeout
        return call_within(effect, effect.timeout)
    finally:
        CURRENT.reset(token)


def call_within(effect: Call, timeout: float) -> Any:
    """Call the user's function in a daemon thread and wait until it has really ended.

    A function cannot be stopped from outside, and nothing may follow while it runs. So the timeout decides what a late
    end means: a late value counts as done, a late exception leaves the effect uncertain.
    """
    ended: list[tuple[Any, BaseException | None]] = []
    context = copy_context()

    def body() -> None:
        try:
            ended.append((context.run(effect.function, *effect.args, **effect.kwargs), None))
        except BaseException as error:  # noqa: BLE001  # raised again in the caller's thread
            ended.append((None, error))

    thread = Thread(target=body, name=f"sagadsl {effect.work.slot.key}", daemon=True)
    thread.start()
    thread.join(timeout)
    late = thread.is_alive()
    thread.join()
    value, error = ended[0]
    if error is None:
        return value
    if late and isinstance(error, Exception):
        raise StepTimeout(effect.work.slot.key, timeout) from error
    raise error


async def acall(effect: Call) -> Any:
    """Call the user's function and await what it returns, under its timeout."""
    if not effect.work.is_async:
        return call(effect)
    token = CURRENT.set(effect)
    try:
        if effect.timeout is None:
            return await awaited(effect.function(*effect.args, **effect.kwargs))
        effect.deadline = time.monotonic() + effect.timeout
        try:
            async with asyncio.timeout(effect.timeout) as limit:
                return await awaited(effect.function(*effect.args, **effect.kwargs))
        except Exception as error:
            if limit.expired():
                raise StepTimeout(effect.work.slot.key, effect.timeout) from error
            raise
    finally:
        CURRENT.reset(token)


async def awaited(value: Any) -> Any:
    """Return *value*, awaited if it can be: the compensation of an async step may be a plain function."""
    return await value if hasattr(value, "__await__") else value
