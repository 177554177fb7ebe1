"""Turns at a server: never more calls at once than a limit allows, in threads and tasks alike, first come first served.

A turn lasts for the call alone, but for all of that: who waits between two attempts, or repairs a prompt, holds none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from threading import Event, Lock
from typing import Any

from attrs import define


@define(eq=False)
class Ticket:
    """One who waits: *wake* is called when it is *granted* its turn.

    *work*, if any, takes the turn for as long as it goes on: a thread does so when nobody waits for it any more.
    """

    limit: int
    wake: Callable[[], object]
    granted: bool = False
    work: asyncio.Future[Any] | None = None


class Queue:
    """Those who call one server, or wait to. Each has the limit of its own `LLM`."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running = 0
        self._waiting: deque[Ticket] = deque()

    @contextlib.contextmanager
    def turn(self, limit: int) -> Generator[None]:
        """Hold a turn, in a ``def``."""
        ready = Event()
        ticket = Ticket(limit, ready.set)
        try:
            self._join(ticket)
            ready.wait()
            yield
        finally:
            self._leave(ticket)

    @contextlib.asynccontextmanager
    async def aturn(self, limit: int) -> AsyncGenerator[Ticket]:
        """Hold a turn, in an ``async def``."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        ticket = Ticket(limit, lambda: loop.call_soon_threadsafe(ready.set))
        try:
            self._join(ticket)
            await ready.wait()
            yield ticket
        finally:
            if ticket.work is None or ticket.work.done():
                self._leave(ticket)
            else:
                ticket.work.add_done_callback(lambda work: self._abandoned(ticket, work))

    def _abandoned(self, ticket: Ticket, work: asyncio.Future[Any]) -> None:
        if not work.cancelled():
            work.exception()  # nobody else asks for it, and asyncio would complain
        self._leave(ticket)

    def _join(self, ticket: Ticket) -> None:
        with self._lock:
            self._waiting.append(ticket)
            self._grant()

    def _leave(self, ticket: Ticket) -> None:
        with self._lock:
            if ticket.granted:
                self._running -= 1
            elif ticket in self._waiting:
                self._waiting.remove(ticket)
            self._grant()

    def _grant(self) -> None:
        while self._waiting and self._running < self._waiting[0].limit:
            ticket = self._waiting.popleft()
            ticket.granted = True
            self._running += 1
            with contextlib.suppress(RuntimeError):  # its loop was closed: nobody is there to take the turn or leave it
                ticket.wake()


_QUEUES: dict[str, Queue] = {}
os.register_at_fork(after_in_child=_QUEUES.clear)  # nobody of the parent's calls from here


def queue_at(server: str) -> Queue:
    """Return the queue at a server, one in this process."""
    return _QUEUES.setdefault(server, Queue())
