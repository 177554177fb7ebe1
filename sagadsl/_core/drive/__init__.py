"""Making it happen: the only two functions that act, and what they share.

``drive`` and ``adrive`` run a flow and answer its effects, each in its colour; they mirror each other line by line. An
engine brings a pair of its own. What a user's function raises is thrown into the flow as it is; what the journal cannot
do becomes a `Stop`, so that a full disk never looks like a failing step. How an entry gets on record stands in
``entries``; ``company`` has tasks do it together.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from inspect import GEN_CLOSED, getgeneratorstate
from queue import SimpleQueue
from threading import Event, Thread, current_thread
from typing import Any

from sagadsl._core.awaiting import awaited, running_loop
from sagadsl._core.codec import Unstorable
from sagadsl._core.drive.company import awrite
from sagadsl._core.drive.entries import obey, write
from sagadsl._core.effects import Call, Flow, Gather, Raise, Sleep, Together, Wait
from sagadsl._core.parameters import has_not_run
from sagadsl._core.scope import CURRENT, Scope
from sagadsl._core.scope.cancelled import LONG, MARGIN, cancellations
from sagadsl._core.scope.open_run import CLOSED
from sagadsl._core.scope.slot import OpenRun, Slot
from sagadsl._core.values import Entry, Kind
from sagadsl.errors import JournalError, StepTimeout, Stop

log = logging.getLogger("sagadsl")


class Drivers:
    """The embedded pair.

    *sleep* and *asleep* wait a number of seconds in their colour; tests pass a clock's. Without them time passes as it
    does, and a cancel is seen while it does.
    """

    def __init__(
        self,
        sleep: Callable[[float], Any] | None = None,
        asleep: Callable[[float], Any] | None = None,
    ) -> None:
        self._answers: dict[type, Callable[[Any], Any]] = {
            Entry: write,
            Call: call,
            Sleep: nap if sleep is None else lambda effect: sleep(effect.seconds),
            Gather: lambda effect: settled(effect.scope),
            Together: self._together,
            Wait: refuse,
        }
        self._async_answers: dict[type, Callable[[Any], Any]] = {
            Entry: awrite,
            Call: acall,
            Sleep: anap if asleep is None else lambda effect: asleep(effect.seconds),
            Gather: lambda effect: asettled(effect.scope),
            Together: self._atogether,
            Wait: await_cancellation,
        }

    def drive(self, flow: Flow[Any], struck: BaseException | None = None) -> Any:
        """Run a flow to its end, in a ``def``; one that was *struck* goes on with that."""
        send, answers = flow.send, self._answers
        try:
            effect = send(None) if struck is None else flow.throw(struck)
            while True:
                try:
                    answer = answers[type(effect)](effect)
                except BaseException as raised:  # noqa: BLE001  # the flow decides
                    effect = flow.throw(raised)
                else:
                    effect = send(answer)
        except StopIteration as end:
            if type(end.value) is not Raise:
                return end.value
            error: BaseException = end.value.error
        except BaseException as raised:
            if getgeneratorstate(flow) is GEN_CLOSED:
                raise
            return self.drive(flow, raised)  # a signal handler's, which came between two effects: the flow decides
        raise error

    async def adrive(self, flow: Flow[Any], struck: BaseException | None = None) -> Any:
        """Run a flow to its end, in an ``async def``; one that was *struck* goes on with that."""
        send, answers = flow.send, self._async_answers
        try:
            effect = send(None) if struck is None else flow.throw(struck)
            while True:
                try:
                    answer = answers[type(effect)](effect)
                    if answer is not None:
                        answer = await answer
                except BaseException as raised:  # noqa: BLE001  # the flow decides
                    answer = None  # what is not awaited to its end is closed here, before anything else happens
                    effect = flow.throw(raised)
                else:
                    effect = send(answer)
        except StopIteration as end:
            if type(end.value) is not Raise:
                return end.value
            error: BaseException = end.value.error
        except BaseException as raised:
            if getgeneratorstate(flow) is GEN_CLOSED:
                raise
            return await self.adrive(flow, raised)
        raise error

    def _together(self, effect: Together) -> None:
        """Run flows in threads, or one alone in this; a Ctrl-C leaves at once those that run, which land later."""
        scope: Scope = effect.scope
        running: set[Thread] = set()
        ended: SimpleQueue[tuple[Thread, BaseException | None]] = SimpleQueue()

        def work(flow: Flow[None]) -> None:
            error = None
            try:
                self.drive(flow)
            except BaseException as raised:  # noqa: BLE001  # raised again in the caller's thread
                error = raised
            finally:
                scope.land(current_thread())
                ended.put((current_thread(), error))

        wrong: BaseException | None = None
        try:
            while (flows := effect.following() if wrong is None else []) or running:
                if len(flows) == 1 and not running:
                    self.drive(flows[0])
                    continue
                for flow in flows:
                    thread = Thread(target=copy_context().run, args=(work, flow), name="sagadsl back", daemon=True)
                    running.add(thread)
                    scope.flying.add(thread)
                    thread.start()
                thread, error = ended.get()
                running.discard(thread)
                wrong = error if wrong is None else wrong
        except BaseException:
            for thread in running:
                if thread.ident is None:  # a Ctrl-C came before it could start
                    scope.land(thread)
            raise
        if wrong is not None:
            raise wrong

    async def _atogether(self, effect: Together) -> None:
        """Run flows in tasks, or one alone in this; a cancellation cancels those that run, and waits for them."""
        running: set[asyncio.Task[BaseException | None]] = set()

        async def work(flow: Flow[None]) -> BaseException | None:
            try:
                await self.adrive(flow)
            except BaseException as raised:  # noqa: BLE001  # raised again in the caller's task
                return raised
            return None

        wrong: BaseException | None = None
        while (flows := effect.following() if wrong is None else []) or running:
            if len(flows) == 1 and not running:
                await self.adrive(flows[0])
                continue
            running |= {asyncio.ensure_future(work(flow)) for flow in flows}
            try:
                ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError as error:
                wrong = error if wrong is None else wrong
                for task in running:
                    task.cancel()
            else:
                for task in ended:
                    wrong = task.result() if wrong is None else wrong
        if wrong is not None:
            raise wrong


def is_in_thread(scope: Scope) -> bool:
    """Tell whether an attempt that nothing can cut off is under way, beside an event loop: it runs in a thread."""
    return any(not getattr(call, "is_async", False) for each in scope.tree() for call in tuple(each.flying))


def when_settled(scope: Scope, then: Callable[[], Any]) -> None:
    """Call *then* once no attempt is under way in a scope: now, or when the last one lands, in its thread."""
    waiting = [then]

    def landed() -> None:
        with scope.run.guard:
            if waiting and not scope.flies():
                waiting.pop()()

    with scope.run.guard:
        scope.landed += (landed,)
    landed()


@contextmanager
def told_of_landings(scope: Scope, tell: Callable[[], Any]) -> Iterator[None]:
    """Have *tell* called, in whichever thread, whenever an attempt has landed; others may wait for the same."""
    with scope.run.guard:
        scope.landed += (tell,)
    try:
        yield
    finally:
        with scope.run.guard:
            scope.landed = tuple(each for each in scope.landed if each is not tell)


def settled(scope: Scope) -> None:
    """Wait until no attempt is under way in a scope and those inside it: in other threads, for a ``def``.

    Called where an event loop runs it does not wait for its tasks, which go on once this thread is let go.
    """
    flies = Scope.flies if running_loop() is None else is_in_thread
    if not flies(scope):
        return
    landing = Event()
    with told_of_landings(scope, landing.set):
        while flies(scope):
            landing.wait(1)
            landing.clear()


async def asettled(scope: Scope, flies: Callable[[Scope], bool] = Scope.flies) -> None:
    """Wait until no attempt is under way in a scope and those inside it: in other tasks or threads."""
    if not flies(scope):
        return
    loop, landing = asyncio.get_running_loop(), asyncio.Event()
    with told_of_landings(scope, lambda: loop.call_soon_threadsafe(landing.set)):
        while flies(scope):
            landing.clear()
            await landing.wait()


# -- waiting between two attempts --------------------------------------------------------------------------------------

NAP = 1.0
"""Seconds that are waited without a look whether the run has been cancelled."""


def nap(effect: Sleep) -> None:
    """Wait, in a ``def``."""
    for seconds in naps(effect):
        time.sleep(seconds)


async def anap(effect: Sleep) -> None:
    """Wait, in an ``async def``."""
    for seconds in naps(effect):
        await asyncio.sleep(seconds)


def naps(effect: Sleep) -> Iterator[float]:
    """Yield a wait in pieces; before each but the last, act on what the run has been told.

    Raises:
        Stop: It is cancelled.
    """
    left: float = effect.seconds
    while left > NAP:
        if effect.scope is not None and is_told(effect.scope.run):
            obey(effect.scope)
        yield NAP
        left -= NAP
    yield left


def refuse(_: Wait) -> None:
    """Let nothing start in a child that was cut off: that comes again once its body awaits something, or ends.

    Raises:
        RuntimeError: Always.
    """
    raise RuntimeError(*CLOSED.args)


async def await_cancellation(effect: Wait) -> None:
    """Wait for the cancellation that had cut off a call; one that nobody brings any more comes from here.

    Raises:
        CancelledError: Always.
    """
    slot, came = effect.slot, effect.slot.cancelled
    if came.patience > LONG:
        log.warning(
            "%s: %s was cut off by a cancellation %.0f s after it had begun. It waits at most as long for whoever "
            "brings that again",
            slot.run.id, slot.key, came.after, extra={"run": slot.run.id},
        )  # fmt: skip
    await asyncio.sleep(came.patience)
    log.warning(
        "%s: nobody has cancelled %s within %.0f s, as somebody did the first time, so it is cancelled now",
        slot.run.id, slot.key, came.patience, extra={"run": slot.run.id},
    )  # fmt: skip
    body = slot.child if came.around is None else [*slot.scope.chain()][came.around]
    if body is not None and body.task is not None:
        body.task.cancel()
        await asyncio.sleep(MARGIN)  # it takes this one with it
    asyncio.current_task().cancel()  # type: ignore[union-attr]  # a coroutine runs in one
    await asyncio.sleep(0)


def is_told(run: OpenRun) -> bool:
    """Tell whether somebody has asked something of a run; whoever cannot look now learns of it at the next entry."""
    if run.is_new:
        return False
    with suppress(JournalError):
        return run.log.is_turned or any(letter.seq is None for letter in run.journal.letters(run.row.number))
    return False


# -- the user's functions ---------------------------------------------------------------------------------------------


def call(effect: Call) -> Any:
    """Call the user's function, in a thread of its own where it has a timeout."""
    around = CURRENT.get()
    try:
        CURRENT.set(effect)  # inside, for a Ctrl-C may come as soon as it is set
        if effect.timeout is None:
            return effect.function(*effect.args, **effect.kwargs)
        effect.deadline = time.monotonic() + effect.timeout
        return call_within(effect, effect.timeout, effect.deadline)
    finally:
        CURRENT.set(around)


class Flight:
    """An attempt of a call (*slot*) in a thread of its own: it is under way until that ends, whoever waits for it."""

    __slots__ = ("slot",)

    def __init__(self, slot: Slot) -> None:
        self.slot = slot


def call_within(effect: Call, timeout: float, deadline: float) -> Any:  # noqa: C901  # the whole of it, in one piece
    """Call the user's function in a daemon thread and wait until it has really ended.

    A function cannot be stopped from outside, and nothing may follow while it runs. So the timeout decides what a late
    end means: a late value counts as done, a late exception leaves the effect uncertain.
    """
    ended: list[tuple[Any, BaseException | None]] = []
    left: list[bool] = []
    context = copy_context()

    def note(what: list[Any], mark: Any) -> None:
        with run.guard:  # whoever comes second keeps the outcome that nobody waits for
            what.append(mark)
            if ended and left:
                keep(effect, *ended[0])

    def body() -> None:
        outcome: tuple[Any, BaseException | None]
        try:
            outcome = context.run(effect.function, *effect.args, **effect.kwargs), None
        except BaseException as error:  # noqa: BLE001  # raised again in the caller's thread
            outcome = None, error
            if isinstance(error, Exception) and time.monotonic() >= deadline:
                told = StepTimeout(effect.slot.key, timeout)
                told.__cause__ = error
                outcome = None, told
        try:
            note(ended, outcome)
        finally:
            is_over.set()
            scope.land(flight)

    scope, run, flight = effect.slot.scope, effect.slot.run, Flight(effect.slot)
    is_over = Event()  # `Thread.join`, interrupted, takes a thread that runs for one that has ended
    thread = Thread(target=body, name=f"sagadsl {effect.slot.key}", daemon=True)
    struck: Exception | None = None
    try:
        scope.flying.add(flight)
        thread.start()
        is_over.wait()
    except Exception as raised:  # noqa: BLE001  # a signal handler's, which does not reach the function
        struck = raised
        if thread.ident is not None:  # nothing follows until that has ended
            is_over.wait()
    except BaseException:  # a Ctrl-C takes the caller away at once
        note(left, True)  # noqa: FBT003
        raise
    finally:
        if thread.ident is None:  # it came before that could start
            scope.land(flight)
    value, error = ended[0] if ended else (None, struck)
    if error is not None:
        raise error
    if struck is not None:
        raise StepTimeout(effect.slot.key, timeout) from struck
    return value


def keep(effect: Call, value: Any, error: BaseException | None) -> None:
    """Record that the user's function returned after its caller had been interrupted; an exception leaves it uncertain.

    Nobody is there to be told what the journal cannot take: then, too, it stays uncertain.
    """
    slot, run = effect.slot, effect.slot.run
    if error is not None or effect.is_probe or effect.read_only or has_not_run(value):
        return
    with suppress(Stop, Unstorable):
        if effect.is_compensation:
            write(slot.entry(Kind.COMPENSATION_DONE, effect.attempt))
        else:
            write(slot.entry(Kind.DONE, effect.attempt, run.codec.encode_and_copy(effect.kept(value))[0]))


async def acall(effect: Call) -> Any:
    """Call the user's function and await what it returns, under its timeout."""
    if not effect.is_async:
        return call(effect)
    around, before = CURRENT.get(), cancellations()
    try:
        CURRENT.set(effect)
        if effect.timeout is None:
            value = effect.function(*effect.args, **effect.kwargs)
            return await value if hasattr(type(value), "__await__") else value  # as `awaited`, without its coroutine
        effect.deadline = time.monotonic() + effect.timeout
        try:
            async with asyncio.timeout(effect.timeout) as limit:
                return await awaited(effect.function(*effect.args, **effect.kwargs))
        except Exception as error:
            if limit.expired():
                raise StepTimeout(effect.slot.key, effect.timeout) from error
            raise
    except Exception:
        effect.is_cancelled = cancellations() > before
        raise
    finally:
        if CURRENT.get() is effect:  # what a closed loop leaves is collected somewhere else, where this is not set
            CURRENT.set(around)
