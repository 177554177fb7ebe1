"""How a cancellation that cut something off comes again when the body runs again: by itself, or it is brought.

Who cancelled a task, Python does not tell. A timeout, a group, the body's own ``task.cancel()`` will do so each time; a
step that is not entered again will not, nor will somebody outside. What the task makes of it tells no more: it may go
on inside of the timeout, or take back what came from outside. So all are treated alike. What was cut off waits where it
is called again. Who is still there to cancel it does so within the time that the run had been under way until then, for
what is on record takes none. Once that has passed, and a little more, it is brought to the task that was cancelled
the first time. So the body sees the same, and nothing waits for ever.

A task counts how often it was cancelled. Of those whose count rose meanwhile, the step's own and those that run the
bodies around it, the outermost is who was cancelled: the others were because of it. Where no count rose nobody was:
then the function raised it.

Three things stay unknown. A task that runs no body of its own, and waits for branches which swallow what it got, does
not get it again if nobody brings it. While something waits for one that nobody brings, a timeout around it may come
first. And a step that makes something else of its cancellation, a value or an error, has ended: that comes at once.
"""

from __future__ import annotations

import asyncio
from typing import Any

from sagadsl._core.structs import Struct

Counts = dict["asyncio.Task[Any]", int]
"""How often tasks were cancelled, the innermost first."""
MARGIN = 2.0
"""Seconds for which a cancellation is waited for beyond the time that it took at first."""
LONG = 10.0
"""Seconds of waiting that are said beforehand."""


class Coming(Struct):
    """When a cancellation came, *after* so many seconds of the run in that process, and to whom.

    *around* counts outwards: 0 is the task of the body that called what was cut off, `None` the one in which it ran.
    """

    after: float
    around: int | None = None

    @classmethod
    def of(cls, told: Any) -> Coming | None:
        """Return what is on record of one.

        Raises:
            TypeError: It is none.
        """
        if told is None:
            return None
        came = cls(**told)
        if type(came.after) is not float or not isinstance(came.around, int | None):
            raise TypeError(told)
        return came

    @property
    def patience(self) -> float:
        """How many seconds it is waited for when the body runs again."""
        return self.after + MARGIN


def cancellations() -> int:
    """Count those of the current task; 0 where there is none, as where something is collected after its loop."""
    try:  # not `current_task` of `awaiting`: an async step asks twice, and a frame costs
        task = asyncio.current_task()
    except RuntimeError:
        return 0
    return 0 if task is None else task.cancelling()


def counts(scope: Any) -> Counts:
    """Count those of the current task, and of the tasks that run a scope's body and the bodies around it."""
    task = asyncio.current_task()
    found = {} if task is None else {task: task.cancelling()}
    while scope is not None:
        task, scope = scope.task, scope.parent
        if task is not None and task not in found:
            found[task] = task.cancelling()
    return found


def coming(scope: Any, earlier: Counts) -> Coming | None:
    """Tell how the cancellation came that cut off something in a scope; `None`: no count is higher than *earlier*."""
    risen = [task for task, before in earlier.items() if task.cancelling() > before]
    if not risen:
        return None
    bodies = [each.task for each in scope.chain()]
    after = max(0.0, asyncio.get_running_loop().time() - scope.run.began)
    return Coming(after, bodies.index(risen[-1]) if risen[-1] in bodies else None)
