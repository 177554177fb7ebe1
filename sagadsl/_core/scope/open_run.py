"""What all scopes of one run share while this process owns it: the store it writes to, and whether it must stop.

That it must is a fact, whatever a body does with the exception that tells it. It knows of calls no more than that there
are some; what they are is ``scope``'s.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import inf
from threading import RLock
from typing import Any, Generic, TypeVar

from sagadsl._core.codec import Codec
from sagadsl._core.codec.faults import carry_over
from sagadsl._core.definition import StepSpec
from sagadsl._core.journal import Journal, Log
from sagadsl._core.values import Entry, Kind, RunRow
from sagadsl.errors import Fault, JournalError, Stop

S = TypeVar("S")

CLOSED = RuntimeError("this saga has ended, or begun to compensate: no further step of it starts")
"""Why a scope is left of which nothing more starts, though the run goes on."""


class OpenRun(Generic[S]):
    """A run that this process owns.

    *stop* is why the run must not go on. *cut* are calls whose attempt was interrupted, until it is known whether the
    body survived. *ahead* are the calls on record that the bodies, which run again, have not made again yet, in the
    order in which they were made first. *pending* entries (the run's opening, a take-over, a decision) go into the
    commit of the next one. *copies* leads from an exception as replayed to the genuine one, with what the copy carried
    when it was made. *thread* is where the run was opened, 0 where it is only looked at; *company* is whom its tasks
    write with. *opening* is its first entry. *watched* are those of the *observers* that look at this run alone.
    *notifies*: somebody is told how it ends. *drive* and *adrive* act a flow, in a ``def`` and in an ``async def``;
    *do* is the flow that has a call made: here, in place, or by whoever answers ``Do``. *began* is when the body did,
    by the clock of its event loop. *settling* counts the sagas being settled in tasks, *waking* looks after bodies that
    must end (``waking``).
    """

    def __init__(
        self,
        *,
        row: RunRow,
        journal: Journal,
        log: Log,
        codec: Codec,
        clock: Callable[[], int],
        jitter: Callable[[], float],
        drive: Callable[..., Any],
        adrive: Callable[..., Any],
        do: Callable[[Any], Any],
        step_of: Callable[[S], StepSpec | None],
        redefined: Callable[[S], tuple[str, ...]],
        full: frozenset[Kind],
        observers: tuple[Callable[[Entry], None], ...] = (),
        notifies: bool = False,
    ) -> None:
        self.row, self.journal, self.log, self.codec = row, journal, log, codec
        self.clock, self.jitter = clock, jitter
        self.drive, self.adrive, self.do = drive, adrive, do
        self.step_of, self.redefined = step_of, redefined
        self.full, self.observers, self.notifies = full, observers, notifies
        self.watched: tuple[Any, ...] = ()
        self.opening: Entry | None = None
        self.pending: list[Entry] = []
        self.is_new = True
        self.stop: BaseException | None = None
        self.cut: list[tuple[S, BaseException]] = []
        self.copies: dict[int, tuple[BaseException, BaseException, S, dict[str, Any]]] = {}
        self.unstorable: dict[S, Any] = {}
        self.ahead: OrderedDict[S, None] = OrderedDict()
        self.thread, self.began = 0, inf
        self.company: Any = None
        self.settling = 0
        self.waking: Any = None
        self.guard = RLock()

    @property
    def id(self) -> str:
        """The run's id."""
        return self.row.id

    def halt(self, reason: BaseException) -> Stop:
        """Stop the run for *reason*, the first one given, and return what carries it out of the body."""
        if self.stop is None:
            self.stop = reason
        return Stop(self.stop)

    def barrier(self) -> Stop:
        """Return what keeps a step from starting: why the run has stopped, or that its scope starts nothing more."""
        return Stop(CLOSED if self.stop is None else self.stop)

    def illegal(self, key: str, status: object, kind: Kind) -> Stop:
        """Stop the run because an entry would be written that no table allows."""
        reason = f"run {self.id}: {kind} cannot follow {status} of {key}; nothing was written"
        return self.halt(JournalError(self.journal.name, reason))

    def original(self, fault: Fault | None, place: str) -> BaseException | None:
        """Return the exception that a stored fault of *place*, a scope or call, stands for."""
        return None if fault is None else self.codec.raised(fault, place or self.id)

    def genuine(self, error: BaseException) -> BaseException:
        """Return the exception that *error* is the replayable copy of, or itself; a group with its genuine members.

        What the body has added to a copy is added to it. A group whose class cannot make another one of these is left
        with the copies.
        """
        if id(error) in self.copies:
            _, genuine, _, before = self.copies[id(error)]
            carry_over(error, before, genuine)
            return genuine
        if not isinstance(error, BaseExceptionGroup):
            return error
        members = [self.genuine(each) for each in error.exceptions]
        if all(new is old for new, old in zip(members, error.exceptions, strict=True)):
            return error
        try:
            group = error.derive(members).with_traceback(error.__traceback__)
            group.__cause__, group.__context__ = error.__cause__, error.__context__
            vars(group).update({name: value for name, value in vars(error).items() if name == "__notes__"})
        except Exception:  # noqa: BLE001  # a function of the user's
            return error
        return group

    def origins(self, error: BaseException) -> list[S]:
        """Return the calls whose failure *error* tells of: itself, the members of a group, or what caused it."""
        found: list[S] = []
        seen: set[int] = set()
        pending: list[BaseException | None] = [error]
        while pending:
            each = pending.pop()
            if each is None or id(each) in seen:
                continue
            seen.add(id(each))
            if id(each) in self.copies:
                found.append(self.copies[id(each)][2])
            elif isinstance(each, BaseExceptionGroup):
                pending += each.exceptions
            else:
                pending.append(each.__context__ if each.__cause__ is None else each.__cause__)
        return found
