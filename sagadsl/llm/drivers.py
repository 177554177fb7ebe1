"""Having a model called: the two functions that act, mirrors of each other, each call in its turn at the server."""

from __future__ import annotations

import asyncio
from typing import Any

from sagadsl.llm.conversation import Talk
from sagadsl.llm.queues import queue_at
from sagadsl.llm.values import Model


def drive(talk: Talk, model: Model, limit: int) -> Any:
    """Carry a conversation to its end, in a ``def``."""
    queue = queue_at(model.server)
    answer: Any = None
    error: Exception | None = None
    while True:
        try:
            wanted = talk.send(answer) if error is None else talk.throw(error)
        except StopIteration as end:
            return end.value
        answer = error = None
        try:
            with queue.turn(limit):
                answer = getattr(model, wanted.method)(*wanted.args)
        except Exception as raised:  # noqa: BLE001  # the conversation decides
            error = raised


async def adrive(talk: Talk, model: Model, limit: int) -> Any:
    """Carry a conversation to its end, in an ``async def``."""
    queue = queue_at(model.server)
    answer: Any = None
    error: Exception | None = None
    while True:
        try:
            wanted = talk.send(answer) if error is None else talk.throw(error)
        except StopIteration as end:
            return end.value
        answer = error = None
        try:
            async with queue.aturn(limit):
                awaited = getattr(model, f"a{wanted.method}", None)
                if awaited is None:
                    answer = await asyncio.to_thread(getattr(model, wanted.method), *wanted.args)
                else:
                    answer = await awaited(*wanted.args)
        except Exception as raised:  # noqa: BLE001  # the conversation decides
            error = raised
