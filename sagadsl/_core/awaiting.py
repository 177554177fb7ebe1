"""What can be asked of the event loop anywhere, also where none runs, and how to await what asyncio has no word for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, `None` where none does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def current_task() -> asyncio.Task[Any] | None:
    """Return the current task, `None` where no loop runs."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


async def awaited(value: Any) -> Any:
    """Return *value*, awaited if it can be: the compensation of an async step may be a plain function."""
    return await value if hasattr(type(value), "__await__") else value


async def to_the_end(work: Awaitable[Any]) -> Any:
    """Await *work* to its end, whoever is cancelled meanwhile, and only then let the cancellation through."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None and task.exception() is None:
        raise cancelled
    return task.result()
