"""Tasks of one event loop that write together: what they write in one turn of it shares a transaction, hence a sync.

Nobody waits who is alone. A task that finds another was there since its last intent hands this one in, as it does its
outcome, and waits for the end of the turn, when all that was handed in is written. So the more tasks there are, the
fewer syncs each of them costs; and a function is entered, and what it gave is given on, after its entry is on record,
as ever.

What was handed in is written, whatever becomes of the task meanwhile: a cancellation comes out of the wait once the
entry is on record. So an effect never loses its outcome, and a flow that is told of a cancellation knows what the
journal says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import ExitStack
from contextvars import copy_context
from typing import Any, Final
from weakref import WeakValueDictionary

from sagadsl._core.drive.entries import take_in, ticket_of, write
from sagadsl._core.journal.together import Ticket
from sagadsl._core.scope import Scope
from sagadsl._core.scope.slot import OpenRun
from sagadsl._core.state import INTENTS
from sagadsl._core.values import Entry, Kind
from sagadsl.errors import JournalError, Stop

OF_STEPS: Final = INTENTS | {Kind.DONE, Kind.COMPENSATION_DONE}
"""What a step that succeeds writes. With the end of a run that completes it is shared; the rest is rare, or no sync."""


def awrite(entry: Entry) -> Awaitable[None] | None:
    """Append an entry as `write` does: at once, or with those of other tasks, which is to be awaited."""
    kind, of = entry.kind, entry.of
    if kind not in OF_STEPS and (kind is not Kind.COMPLETED or of.parent is not None):
        write(entry)
        return None
    scope: Scope = of.scope
    run = scope.run
    company: Company | None = run.company
    if company is None:
        company = run.company = company_of(run)
    if company is not NOBODY:
        if kind in INTENTS:  # in place, for every step of a saga that is alone passes here
            last, company.last = company.last, id(scope)
            company.is_met = last != company.last or len(scope.flying) > 1
        if company.is_met:
            if company.loop is asyncio.get_running_loop():
                return company.join(entry, run)
            run.company = None  # a block's, say, which goes on in another loop
            return awrite(entry)
    write(entry)
    return None


class HandedIn:
    """An entry that was handed in: *turn* is awaited, *error* is what came instead of it.

    Observers are told of it in the *context* of its own task, whoever wrote it: a log's request, say, is there.
    """

    __slots__ = ("context", "entry", "error", "is_over", "run", "turn")

    def __init__(self, entry: Entry, run: OpenRun, turn: asyncio.Future[None]) -> None:
        self.entry, self.run, self.turn = entry, run, turn
        self.context = copy_context()
        self.error: BaseException | None = None
        self.is_over = False

    def end(self, error: BaseException | None = None) -> None:
        """Let its task go on."""
        self.error, self.is_over = error, True
        if not self.turn.done():
            self.turn.set_result(None)


class Company:
    """What one loop's tasks have *waiting* for one journal. *is_met*: its last intent found others there.

    They are in the same scope, or in the one (its address) that had the *last* intent before. The first of all is taken
    to be one of many: when it comes nobody can tell.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None, journal: Any) -> None:
        self.loop, self.journal = loop, journal
        self.waiting: list[HandedIn] = []
        self.is_met = False
        self.last = 0

    async def join(self, entry: Entry, run: OpenRun) -> None:
        """Wait until an entry is written.

        Raises:
            Stop: It could not be.
            CancelledError: It is, and the task was cancelled meanwhile.
        """
        loop = asyncio.get_running_loop()
        one = HandedIn(entry, run, loop.create_future())
        if not self.waiting:
            loop.call_soon(self.flush)
        self.waiting.append(one)
        cancelled: asyncio.CancelledError | None = None
        while not one.is_over:
            try:
                await one.turn
            except asyncio.CancelledError as error:
                cancelled, one.turn = error, loop.create_future()
                loop.call_soon(self.flush)  # again: a Ctrl-C, which cancels all, may have come where it began
        if one.error is not None:
            raise one.error
        if cancelled is not None:
            raise cancelled

    def flush(self) -> None:
        """Write all that wait, and let their tasks go on; what follows a run's opening comes in another transaction."""
        try:
            while self.waiting:
                with ExitStack() as guards:
                    self.waiting = self._write(self.waiting, guards)
        except BaseException:  # a Ctrl-C: what the file says only the file can tell
            reason = "who wrote this with others was interrupted: run the program again, it goes on"
            for one in self.waiting:
                if not one.is_over:
                    one.end(one.run.halt(JournalError(self.journal.name, reason)))
            self.waiting = []
            raise

    def _write(self, handed_in: list[HandedIn], guards: ExitStack) -> list[HandedIn]:
        """Write what was handed in, but for what has to come later: return that."""
        written: list[tuple[HandedIn, Ticket]] = []
        later: list[HandedIn] = []
        opened: set[OpenRun] = set()
        for one in handed_in:
            run = one.run
            if run in opened:
                later.append(one)
            elif run.stop is not None and one.entry.kind in INTENTS:
                one.end(Stop(run.stop))
            else:
                if run.pending:
                    guards.enter_context(run.guard)
                    opened.add(run)
                written.append((one, ticket_of(run, one.entry)))
        self.journal.write_together([ticket for _, ticket in written])
        written.sort(key=is_refused)  # what is on record is taken in first
        for one, ticket in written:
            try:
                one.context.run(take_in, one.entry, ticket)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001  # raised where it is waited for
                one.end(error)
            else:
                one.end()
        return later


def is_refused(each: tuple[HandedIn, Ticket]) -> bool:
    """Tell whether something came instead of an entry."""
    return each[1].error is not None


NOBODY: Final = Company(None, None)
"""Whom those meet who write to a journal where sharing saves nothing."""

_companies: WeakValueDictionary[tuple[int, int], Company] = WeakValueDictionary()
"""By the addresses of loop and journal, which live as long as their company."""


def company_of(run: OpenRun) -> Company:
    """Return whom the tasks of a run write with in the current loop."""
    loop, journal = asyncio.get_running_loop(), run.journal
    if not hasattr(journal, "write_together"):
        return NOBODY
    place = id(loop), id(journal)
    return _companies.get(place) or _companies.setdefault(place, Company(loop, journal))
