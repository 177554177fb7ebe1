"""Writing together: what comes while another thread writes waits, and then shares one transaction, hence one sync.

Nobody waits for company: a thread that finds the store free writes at once, and alone. One that finds it busy leaves a
ticket. Whoever gets the store next writes all the tickets there are, its own among them; the others then find theirs
written. So the more threads there are, the fewer syncs each of them costs.

A Ctrl-C comes in the main thread, which therefore never carries what others wait for: it writes its own, alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

from sagadsl._core.journal import Letter, Log
from sagadsl._core.values import Entry, RunRow
from sagadsl.errors import JournalError


class Ticket:
    """What is to be written at once, in whose name, and what came of it: `None`, or the *error*, once it *is_over*.

    One that *is_plain* is one statement, which is written whole or not at all.
    """

    __slots__ = (
        *("entries", "error", "finished", "full", "is_over", "is_plain", "log", "outline", "read", "row", "stolen"),
        *("untold", "wake"),
    )

    def __init__(  # noqa: PLR0917  # keywords cost
        self,
        log: Log,
        entries: Iterable[Entry],
        full: bool,  # noqa: FBT001
        row: RunRow | None = None,
        finished: bool | None = None,  # noqa: FBT001
        stolen: bool = False,  # noqa: FBT001, FBT002
        read: Iterable[Letter] = (),
        untold: bool | None = None,  # noqa: FBT001
        outline: str | None = None,
    ) -> None:
        self.log, self.entries, self.full, self.row = log, tuple(entries), full, row
        self.finished, self.stolen, self.read, self.untold = finished, stolen, tuple(read), untold
        self.outline = outline
        self.error: Exception | None = None
        self.is_over = False
        self.wake = Lock()
        marks = (row, finished, untold, outline) != (None, None, None, None) or stolen or self.read
        self.is_plain = not marks and len(self.entries) == 1


class Together:
    """The tickets of one store: *guard* is held while it is written to, *write* writes tickets, which are then over.

    One thread leads: it writes its own ticket with all that wait, wakes those, and lets the first of those that have
    come meanwhile lead. So nobody takes the guard only to learn that there is nothing left to do.
    """

    def __init__(self, name: str, guard: Any, write: Callable[[list[Ticket]], None]) -> None:
        self.name, self.guard, self.write = name, guard, write
        self.waiting: deque[Ticket] = deque()
        self._turn = Lock()
        self._is_led = False

    def submit(self, ticket: Ticket) -> None:
        """Have a ticket written, by this thread or another one.

        Raises:
            Exception: What came of it.
        """
        ticket.wake.acquire()
        with self._turn:
            leads, self._is_led = not self._is_led, True
            if not leads:
                self.waiting.append(ticket)
        if not leads:
            ticket.wake.acquire()
        if not ticket.is_over:
            self._lead(ticket)
        if ticket.error is not None:
            raise ticket.error

    def _lead(self, own: Ticket) -> None:
        tickets = [own]
        try:
            with self.guard:
                with self._turn:
                    tickets += self.waiting
                    self.waiting.clear()
                self.write(tickets)
        finally:
            with self._turn:
                following = self.waiting.popleft() if self.waiting else None
                self._is_led = following is not None
            for ticket in tickets:
                if not ticket.is_over:  # whoever wrote was interrupted: what the file says only the file can tell
                    reason = "who wrote this with others was interrupted: run the program again, it goes on"
                    ticket.error, ticket.is_over = JournalError(self.name, reason), True
                ticket.wake.release()
            if following is not None:
                following.wake.release()
