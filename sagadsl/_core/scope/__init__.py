"""One open run: its scopes, the calls in them, what is recorded of them, what is owed, and whether it must stop.

A `Slot` is one call of a step (``slot``). Slots in the order of their intents are the compensation stack; slots not yet
called again are the `Past` (``past``), and which of them a call is, is fixed when it is called, so timing never
matters. What all scopes of a run share is its `OpenRun` (``open_run``); when it must stop, bodies that wait for a task
of their own are woken (``waking``). What a list shows of it is made in ``outlined``.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from itertools import chain, count
from typing import Any, TypeVar

from sagadsl._core.definition import SagaSpec, StepSpec
from sagadsl._core.effects import Call
from sagadsl._core.scope.cancelled import Counts
from sagadsl._core.scope.past import Past, keys_of
from sagadsl._core.scope.slot import BY_SEQ, OpenRun, Slot
from sagadsl._core.state import OWNED, SCOPES
from sagadsl._core.values import Cause, Entry, Kind, Status, StepStatus
from sagadsl._core.values.outlines import process_of
from sagadsl.errors import ReplayError

T = TypeVar("T")

CURRENT: ContextVar[Scope | Call | None] = ContextVar("sagadsl", default=None)
"""Where the program is: in a saga's body, inside a step, compensation or probe, or (`None`) outside."""


def called_at(place: Scope | Call | None, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Call a function of the user's that is no part of the body, so that it is not taken for one."""
    around = CURRENT.get()
    try:
        CURRENT.set(place)  # inside, for a Ctrl-C may come as soon as it is set
        return function(*args, **kwargs)
    finally:
        CURRENT.set(around)


OPEN = Status.OPEN
"""A member read off its enum costs as much as a call of a function."""

ENDS = frozenset({Kind.COMPLETED, Kind.COMPENSATED, Kind.LEFT})
GOES_FORWARD = frozenset({Status.OPEN, Status.COMPLETED})


class Scope:
    """A saga being run: the root of a run, or a child. *seq* is its opening entry's, *path* its key in the journal.

    *until* is the place among its intents to which a person has it compensated, 0: all of it. *notified* is when its
    saga's ``notify`` was told how it ended, *notify_fault* what that raised when it was called last. *owner* is the
    process that opened it, or took it over last, in words. *task* runs its body, where that is an ``async def``, and
    *earlier* is who had been cancelled when it began.
    """

    def __init__(
        self,
        run: OpenRun,
        spec: SagaSpec | None,
        name: str,
        path: str,
        parent: Scope | None = None,
        slot: Slot | None = None,
    ) -> None:
        self.run, self.spec, self.name, self.path = run, spec, name, path
        self.parent, self.slot = parent, slot
        self.prefix = f"{path}/" if path else ""
        self.seq = self.started = self.ended = self.until = self.notified = 0
        self.status: Status | None = None
        self.completed = self.overlapped = self.left = self.closing = False
        self.owner = process_of("{}")
        self.result: str | None = None
        self.cause: str | None = None
        self.fault: str | None = None
        self.notify_fault: str | None = None
        self.paused_by: tuple[int, ...] = ()
        self.slots: list[Slot] = []
        self.past: Past[Slot] | None = None
        self.counts: defaultdict[str, count[int]] = defaultdict(partial(count, 1))
        self.flying: set[Any] = set()
        self.task: Any = None
        self.earlier: Counts = {}
        self.landed: tuple[Callable[[], Any], ...] = ()

    @property
    def scope(self) -> Scope:
        """Where it tells of itself."""
        return self

    def entry(self, kind: Kind, result: str | None = None) -> Entry:
        """Return an entry about this scope, to be put on record.

        Raises:
            Stop: No table allows it here.
        """
        if (self.status, kind) not in SCOPES:
            raise self.run.illegal(self.path or self.run.id, self.status, kind)
        return Entry(0, 0, kind, self.seq, self.path, None, None, 0, None, None, None, result, self)

    def apply(self, entry: Entry) -> None:
        """Take in an entry about this scope, just written or read back."""
        self.status = SCOPES[self.status, entry.kind]
        self.owner = process_of(entry.result) if entry.kind in OWNED and entry.result else self.owner
        if self.slot is not None and entry.kind in ENDS:
            self.slot.outcome = entry.seq
        match entry.kind:
            case Kind.OPENED:
                self.seq, self.started = entry.seq, entry.at
            case Kind.COMPLETED:
                self.completed, self.result, self.ended = True, entry.result, entry.at
            case Kind.LEFT:
                assert self.slot is not None  # noqa: S101  # only a child is left
                self.left = True
                self.slot.cut_off(entry)
            case Kind.RESUMED:
                self.completed, self.result = False, None
                self.cause = self.fault = None
            case Kind.NOTIFIED:
                self.notified, self.notify_fault = entry.at, None
            case Kind.NOTIFY_ERROR:
                self.notify_fault = entry.result
            case Kind.TAKEN | Kind.REFUSED:
                pass  # it is said of a run, and changes nothing about it
            case _:
                self._turn(entry)

    def _turn(self, entry: Entry) -> None:
        """Take in that it pauses, compensates or is compensated: why, and what a person decided about it.

        That is how far back the run is compensated, what may stand, and what counts no more.
        """
        told = json.loads(entry.result or "{}")
        is_paused = entry.kind is Kind.PAUSED
        self.ended, self.notified, self.notify_fault = entry.at, 0, None
        self.cause = Cause(told["cause"]) if "cause" in told else self.cause
        if "fault" in told and entry.kind is not Kind.COMPENSATION_FAILED:  # that one tells of a compensation
            self.fault = json.dumps(told["fault"])
        self.paused_by = tuple(told.get("again", ()))
        self.until = 0 if is_paused else int(told.get("to", self.until))
        for slot in self.calls() if "accept" in told else ():
            slot.let_stand = slot.let_stand or slot.seq in told["accept"]
        for slot in self.slots if is_paused and "to" in told else ():
            slot.forgotten = slot.forgotten or slot.place > told["to"]

    def land(self, flight: Any) -> None:
        """Take note, and tell those around that wait, that something is no longer under way."""
        scope: Scope | None = self
        while scope is not None:
            scope.flying.discard(flight)
            for told in scope.landed:
                told()
            scope = scope.parent

    @property
    def is_open(self) -> bool:
        """Forward steps may start: neither this scope nor one around it has ended or begun to compensate."""
        scope: Scope | None = self
        while scope is not None:
            if scope.status is not OPEN or scope.closing or scope.left:
                return False
            scope = scope.parent
        return True

    @property
    def is_forward(self) -> bool:
        """The body runs, or runs again, to do what it does: nothing around it compensates, or is just being left."""
        scope: Scope | None = self
        while scope is not None:
            if scope.closing or scope.status not in GOES_FORWARD:
                return False
            scope = scope.parent
        return True

    @property
    def has_failed(self) -> bool:
        """It is a child on record as failed and compensated: nothing in it is owed, its body need not run."""
        return self.status is Status.COMPENSATED and self.fault is not None and not self.completed

    @property
    def is_block(self) -> bool:
        """Its body stands in a program, and nobody else can run it."""
        return self.spec is not None and self.spec.function is None

    @property
    def is_branch(self) -> bool:
        """It is no saga of its own, but a branch of one, or what holds its branches."""
        return self.slot is not None and "branch" in self.slot.facts

    def is_pending(self, here: set[Scope]) -> bool:
        """Tell whether it belongs to a branch that *here* is not part of and whose neighbours may be under way."""
        return any(
            each.is_branch and each not in here and each.parent is not None and not each.parent.closing
            for each in self.chain()
            if each.parent is not None and each.parent.is_branch
        )

    @property
    def home(self) -> Scope:
        """The saga that it is a branch of, or itself."""
        scope = self
        while scope.is_branch and scope.parent is not None:
            scope = scope.parent
        return scope

    def chain(self) -> Iterator[Scope]:
        """Yield this scope and those around it, innermost first."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    @property
    def root(self) -> Scope:
        """The scope of the whole run."""
        *_, root = self.chain()
        return root

    def tree(self) -> Iterator[Scope]:
        """Yield this scope and those inside it, in the order in which they were opened."""
        yield self
        for slot in self.slots:
            if slot.child is not None:
                yield from slot.child.tree()

    def calls(self) -> list[Slot]:
        """Return the calls in this scope and those inside it, in the order in which they began."""
        return sorted(chain.from_iterable(scope.slots for scope in self.tree()), key=BY_SEQ)

    def flies(self) -> bool:
        """Tell whether an attempt is under way in this scope or those inside it."""
        return any(each.flying for each in self.tree())

    def has_in_flight(self, slot: Slot) -> bool:
        """Tell whether an attempt of this call is under way, be it one whose caller is gone."""
        return any(getattr(each, "slot", None) is slot for each in tuple(self.flying))

    def pivot(self) -> Slot | None:
        """Return the point of no return that is passed, in this scope or those inside it; else one that may be."""
        pivots = [slot for slot in self.calls() if slot.is_past_pivot]
        return min(pivots, key=lambda slot: not slot.has_happened, default=None)

    @property
    def only_goes_forward(self) -> bool:
        """The run around it has passed a point of no return."""
        pivot = self.root.pivot()
        return pivot is not None and pivot.has_happened

    def owed(self) -> list[Slot]:
        """Return the calls to be compensated, in this scope and those inside it: reverse order of their intents."""
        slots = [slot for slot in self.calls() if slot.is_owed and slot.place > self.until]
        return sorted(slots, key=lambda slot: -slot.place)

    def compensated(self) -> tuple[str, ...]:
        """Return the keys of the calls that were compensated, in this scope and those inside it, in that order."""
        slots = [slot for slot in self.calls() if slot.status is StepStatus.COMPENSATED]
        return tuple(slot.key for slot in sorted(slots, key=lambda slot: slot.compensated))

    def skipped(self) -> tuple[str, ...]:
        """Return the keys of the calls whose compensation a person gave up."""
        return tuple(slot.key for slot in self.calls() if slot.status is StepStatus.SKIPPED)

    def bind_as(self, other: Scope) -> None:
        """Have the calls of the run bound to what they are bound to in another fold of it."""
        bound = {slot.key: slot for slot in other.calls()}
        for slot in self.calls():
            if slot.key in bound:
                slot.spec, slot.live = bound[slot.key].spec, bound[slot.key].live

    # -- identity ---------------------------------------------------------------------------------------------------

    def call(
        self,
        name: str,
        definition: str,
        arguments: str,
        key: str | None,
        further: bool = False,  # noqa: FBT001, FBT002  # a keyword costs
    ) -> Slot:
        """Return the slot of a call: the recorded one that it is, or a new one; a *further* one is always new."""
        base, past = name if key is None else f"{name}:{key}", self.past
        if past is not None and not further:
            with self.run.guard:  # of threads that call at the same time each takes another one
                slot = past.take(name, base, arguments)
            if slot is not None:
                return slot
        count = next(self.counts[base])
        local = base if count == 1 else f"{base}#{count}"
        slot = Slot(self, self.prefix + local, name, definition, arguments)
        if past is not None and past.is_free:
            with self.run.guard:
                past.equal(name, base, arguments).append(slot)
        return slot

    def free(self) -> None:
        """Let calls come by hand."""
        if self.past is None:
            self.past = Past(self.run.codec.canonical)
        self.past.is_free = True

    def admit(self, slot: Slot) -> None:
        """Let a call in, or stop the run because the record says that another one comes here.

        Raises:
            Stop: The code no longer does what the journal recorded.
        """
        past = self.past
        if past is None or past.is_free:
            return
        with self.run.guard:
            self.run.ahead.pop(slot, None)
            if not self.is_forward:
                return  # compensating: the body only runs to bind what it calls
            past.called.append(slot)
            expected = past.expected(slot)
            if expected is not slot:
                raise self.run.halt(ReplayError(self.run.id, self.path, **past.diverged(slot, expected)))
            past.order.pop(slot, None)
            if not past.order and not self.run.ahead:
                self.past = None

    def forgo(self, slot: Slot) -> None:
        """Take note that a call was made and cancelled before it could come in."""
        with self.run.guard:
            self.run.ahead.pop(slot, None)
            if self.past is not None:
                self.past.order.pop(slot, None)

    def expected(self, slot: Slot) -> Slot:
        """Return the recorded call that comes next; *slot* itself where any may come."""
        with self.run.guard:
            return slot if self.past is None or not self.is_forward else self.past.expected(slot)

    def successor(
        self,
        slot: Slot,
        arguments: str,
        key: str | None,
        bound: tuple[StepSpec, dict[str, Any] | None],
        stands: Callable[[str | None], bool],
    ) -> tuple[Slot, StepSpec]:
        """Return which call one is, and of what: *slot*, or what is called instead, as its result no longer *stands*.

        What does not stand stays on record, *bound* to what compensates it: it is never entered again. What was called
        instead is on record too, so only the last one is asked. A body that only runs to bind what it calls is given
        what is on record.
        """
        spec, live = bound
        while (past := self.past) is not None and not past.is_free and slot.done and slot.fault is None:
            later = past.instead.pop(slot.key, None)
            if later is None and (not self.is_forward or stands(slot.result)):
                break
            self.admit(slot)
            slot.spec, slot.live = spec, live
            spec = spec.changed(instead_of=slot.key)
            slot = self.call(slot.name, spec.definition, arguments, key, True) if later is None else later  # noqa: FBT003
        return slot, spec

    def leftover(self) -> ReplayError | None:
        """Return what is wrong when the body has ended and recorded calls were not made again."""
        wrong = None if self.past is None else self.past.leftover()
        return None if wrong is None else ReplayError(self.run.id, self.path, **wrong)

    def beyond(self, slot: Slot) -> ReplayError:
        """Return what is wrong with a call that a scope whose end is on record does not have."""
        recorded = keys_of(self.slots)
        reason = f"{slot.name} is called, and it completed without"
        return ReplayError(self.run.id, self.path, recorded, (*recorded, slot.local_key), reason)
