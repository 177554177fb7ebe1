"""Whether a cancellation that cut something off comes again when the body runs again: if somebody took it back.

A task counts how often it was cancelled. A timeout or a group that cancels a task, and lets it go on, takes that back,
and will do both each time. Who cancels from outside does not, and is not there after a restart. So what is cut off
keeps whose count has risen meanwhile: its own task's, and those of the tasks that run the bodies around it, for one of
them may have cancelled the others. It comes again where one of the counts is lower later, or where the outermost of
these tasks has ended: that one was cancelled by the body itself, as it will be again.

What counts were before matters: up to Python 3.12 a `TaskGroup` that failed leaves one too many behind.
"""

from __future__ import annotations

import asyncio
from typing import Any

Counts = dict["asyncio.Task[Any]", int]
"""Cancellations that nobody has taken back, by task, the innermost first."""


def cancellations() -> int:
    """Count those of the current task; 0 where there is none, as where something is collected after its loop."""
    try:
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


def risen(earlier: Counts) -> Counts:
    """Return the counts that are higher than *earlier*."""
    return {task: now for task, before in earlier.items() if (now := task.cancelling()) > before}


def is_taken_back(cut: Counts) -> bool:
    """Tell whether somebody has taken a cancellation back, or done it himself, by the counts that had *risen* then."""
    return any(task.cancelling() < then for task, then in cut.items()) or (bool(cut) and [*cut][-1].done())
