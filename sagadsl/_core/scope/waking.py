"""A run that stops wakes its bodies: one that waits for a task of its own would wait for ever.

A stop comes out of the call that meets it. Where that call is made in a task which the body has begun (a worker at a
queue, a producer that sets an event) it ends that task, and what the body waits for never comes. So the task that runs
the body is cancelled, and as it comes out of the body that cancellation is the stop again (`came_out`).

It is the last resort, for a cancellation reaches what the body awaits as well. Most bodies await who met the stop, and
learn of it within a few turns of the event loop; and an attempt under way is to have its outcome on record. So a body
is woken when nothing of its run is under way any more, and it still waits for what it waited for when the stop was met,
or nobody has looked at what ended the tasks that met it. Else it knows of the stop: it cleans up, and is left alone for
a while. So is one that was woken; if it swallowed that, and waits again, it is woken again. Of nested bodies the
innermost is woken: the stop out of that one ends those around it, or they are next.

A ``def`` waits in its thread, where nothing can wake it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from sagadsl._core.awaiting import current_task
from sagadsl._core.scope import GOES_FORWARD, Scope
from sagadsl._core.structs import Struct
from sagadsl.errors import Stop

TURNS: Final = 100
"""How many turns of the event loop a body has to learn of the stop by itself, once nothing is under way."""
PATIENCE: Final = 1.0
"""Seconds that calls on record have to be made again, so that what compensates them is bound."""
NAPS: Final = tuple(2**number / 1000 for number in range(9))
"""Seconds between two looks at bodies that take their time; the last is repeated."""
GRACE = 5.0
"""Seconds that a body has which goes on, or was woken, before it is woken again; twice as many each time."""


class Word(str):
    """What a cancellation of ours carries."""

    __slots__ = ()


WORD = Word("a step that was called in another task met that this run must not go on")


class Waiting(Struct):
    """What the task of a body awaited when the stop was met, and until when it is left alone if it went on since."""

    place: Any
    due: float


class Woken(Struct):
    """How often a body was woken, and how many cancellations its *task* had had *before*."""

    task: Any
    before: int
    times: int = 0


class Waking:
    """Looks after the bodies of a run that stops; *met* are the tasks that know (`None`: a thread)."""

    def __init__(self, root: Scope, loop: asyncio.AbstractEventLoop) -> None:
        self.root, self.loop = root, loop
        self.met: set[asyncio.Task[Any] | None] = set()
        self.waiting: dict[Any, Waiting] = {}
        self.woken: dict[Scope, Woken] = {}
        self.is_looking = False
        self.turns = self.naps = 0
        self.since = loop.time()

    def begin(self) -> None:
        """Look after them from now on; it may be a call in a thread that met the stop."""
        if not self.is_looking:
            self.is_looking = True
            with suppress(RuntimeError):  # the loop was closed: no body waits in it any more
                self.loop.call_soon_threadsafe(self.look)

    def look(self) -> None:
        """Wake whom nobody else has told, and look again as long as there is one that must end."""
        bodies = self.innermost()
        if not bodies:
            self.is_looking = False
            self.forgive()
            return
        if self.is_busy():
            self.turns = 0
        elif self.turns < TURNS:
            self.turns += 1
            self.loop.call_soon(self.look)
            return
        elif sum(self.wake(scope) for scope in bodies):
            self.turns = self.naps = 0
        self.loop.call_later(NAPS[self.naps], self.look)
        self.naps = min(self.naps + 1, len(NAPS) - 1)

    def innermost(self) -> list[Scope]:
        """Return the scopes whose bodies must end, without those around them."""
        bodies = [each for each in self.root.tree() if must_end(each) and each.task.get_loop() is self.loop]
        around = {outer for each in bodies for outer in each.chain() if outer is not each}
        return [each for each in bodies if each not in around]

    def is_busy(self) -> bool:
        """Tell whether something of the run is under way, or may be called again before it is compensated."""
        run = self.root.run
        if run.settling or self.root.flies():
            return True
        return bool(run.stop is None and run.ahead and self.loop.time() < self.since + PATIENCE)

    def wake(self, scope: Scope) -> bool:
        """Cancel the task that runs a body, unless it goes on by itself; tell whether it was."""
        task, now = scope.task, self.loop.time()
        waiting = self.waiting.setdefault(task, Waiting(None, now + GRACE))
        knows = waiting.place is None or (awaited_by(task) is not waiting.place and not all(map(is_unread, self.met)))
        if knows and now < waiting.due:
            return False
        woken = self.woken.setdefault(scope, Woken(task, task.cancelling()))
        self.waiting[task] = Waiting(None, now + GRACE * 2**woken.times)
        woken.times += 1
        task.cancel(WORD)
        return True

    def forgive(self) -> None:
        """Have nobody miss what the tasks ended with that met the stop."""
        for task in self.met:
            if task is not None:
                forgive(task)
        self.met.clear()


def must_end(scope: Scope) -> bool:
    """Tell whether an ``async def`` is being run that nothing more may be done in."""
    return scope.task is not None and (scope.run.stop is not None or not scope.is_open)


def met(scope: Scope) -> None:
    """Take note that a call of a scope met the stop, in the current task or thread, which is told of it now."""
    run, root, here = scope.run, scope.root, current_task()
    tasks = {each.task for each in scope.chain() if must_end(each)}
    if not tasks:
        goes_on = run.stop is None and root.status in GOES_FORWARD  # then what comes too late is missed by nobody else
        if here is not None and here is not root.task and not goes_on:
            forgive(here)
        return
    with run.guard:
        if run.waking is None:
            run.waking = Waking(root, next(iter(tasks)).get_loop())
    waking: Waking = run.waking
    for task in tasks:
        due = waking.loop.time() + GRACE
        if task is here:
            waking.waiting[task] = Waiting(None, due)
        else:
            waking.waiting.setdefault(task, Waiting(awaited_by(task), due))
    if here is not root.task:
        waking.met.add(here)
    if tasks - {here}:
        waking.begin()


def halt(scope: Scope, reason: BaseException) -> Stop:
    """Stop the run because of what a call of a scope, in the current task, has met; return what is raised."""
    stop: Stop = scope.run.halt(reason)
    met(scope)
    return stop


def came_out(scope: Scope, error: BaseException | None) -> BaseException | None:
    """Return what came out of a body: a cancellation that woke it is taken back, and is the stop that it stands for."""
    run = scope.run
    waking: Waking | None = run.waking
    if waking is None:
        return error
    if scope.parent is None:
        waking.forgive()
    woken = waking.woken.pop(scope, None)
    if woken is None:
        return error
    task, earlier = woken.task, scope.earlier.get(woken.task, 0)
    for _ in range(woken.times):
        task.uncancel()
    if not isinstance(error, asyncio.CancelledError) or task.cancelling() > woken.before:
        return error
    if woken.before > earlier and not is_ours(error):
        return error
    return run.barrier()


def is_ours(error: BaseException | None) -> bool:
    """Tell whether a cancellation woke a body that nobody else had cancelled, which would stand behind it."""
    while isinstance(error, asyncio.CancelledError):
        if not (error.args and isinstance(error.args[0], Word)):
            return False
        error = error.__context__
    return True


def awaited_by(task: asyncio.Task[Any]) -> Any:
    """Return what a task awaits: the innermost of what awaits one another, another object each time."""
    at: Any = task.get_coro()
    while (inner := getattr(at, "cr_await", None)) is not None:
        at = inner
    return at


def ended_by(task: asyncio.Task[Any]) -> bool:
    """Tell whether a stop, and nothing else, ended a task; whoever asks the task itself has looked at it for others."""
    error = getattr(task, "_exception", None)
    return isinstance(error, Stop) or (isinstance(error, BaseExceptionGroup) and error.split(Stop)[1] is None)


def is_unread(task: asyncio.Task[Any] | None) -> bool:
    """Tell whether a stop ended a task, and nobody has looked at it."""
    return task is not None and ended_by(task) and bool(getattr(task, "_log_traceback", False))


def forgive(task: asyncio.Task[Any]) -> None:
    """Have nobody miss the exception of a task, where it is a stop: whose run it is, is told of that."""
    task.remove_done_callback(retrieve)
    task.add_done_callback(retrieve)


def retrieve(task: asyncio.Task[Any]) -> None:
    """Look at the exception of a task that was ended by a stop, as Python wants somebody to."""
    if ended_by(task):
        task.exception()
