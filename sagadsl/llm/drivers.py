"""Having a model called, each call in its turn at the server, by a conversation that is written once for both colours.

A conversation awaits its calls. In a ``def`` each is over when it is awaited, so that the conversation runs through.
"""

from __future__ import annotations

import asyncio
from typing import Any

from sagadsl.llm.conversation import Talk
from sagadsl.llm.queues import queue_at
from sagadsl.llm.values import Model


def drive(talk: Talk, model: Model, limit: int) -> Any:
    """Carry a conversation to its end, in a ``def``."""
    queue = queue_at(model.server)

    async def call(method: str, *args: Any) -> Any:
        with queue.turn(limit):
            return getattr(model, method)(*args)

    try:
        talk(call).send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError  # pragma: no cover  # it awaits nothing else


async def adrive(talk: Talk, model: Model, limit: int) -> Any:
    """Carry a conversation to its end, in an ``async def``."""
    queue = queue_at(model.server)

    async def call(method: str, *args: Any) -> Any:
        async with queue.aturn(limit) as turn:
            awaited = getattr(model, f"a{method}", None)
            if awaited is not None:
                return await awaited(*args)
            turn.work = asyncio.ensure_future(asyncio.to_thread(getattr(model, method), *args))
            return await asyncio.shield(turn.work)

    return await talk(call)
