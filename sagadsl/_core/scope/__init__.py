"""One open run: its scopes, the calls in them, what is recorded of them, what is owed, and whether it must stop.

A `Slot` is one call of a step. Its state is a fold over its entries: `Slot.apply` is used for an entry read back and
for one just written, so what is live and what is replayed cannot differ. Slots in the order of their intents are the
compensation stack; slots not yet called again are the `Past` (``past``), and which of them a call is, is fixed when it
is called, so timing never matters. What all scopes of a run share is its `OpenRun` (``open_run``); when it must stop,
bodies that wait for a task of their own are woken (``waking``). What a list shows of it is made in ``outlined``.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from itertools import count
from operator import attrgetter
from typing import Any, TypeVar

from sagadsl._core.definition import SagaSpec, StepSpec, facts_of
from sagadsl._core.effects import Call
from sagadsl._core.scope import open_run
from sagadsl._core.scope.cancelled import Coming, Counts
from sagadsl._core.scope.past import Past, keys_of
from sagadsl._core.scope.tried import Tried
from sagadsl._core.state import OWNED, SCOPES, STEPS
from sagadsl._core.values import Cause, Entry, Kind, Status, StepStatus
from sagadsl._core.values.outlines import process_of
from sagadsl.errors import NotStorableError, ReplayError

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


INTENT, DONE, BACK_INTENT, BACK_DONE = Kind.INTENT, Kind.DONE, Kind.COMPENSATION_INTENT, Kind.COMPENSATION_DONE
ENTERED, OPEN = StepStatus.ENTERED, Status.OPEN
"""A member read off its enum costs as much as a call of a function; these are read for every entry."""

ENDS = frozenset({Kind.COMPLETED, Kind.COMPENSATED, Kind.LEFT})
GOES_FORWARD = frozenset({Status.OPEN, Status.COMPLETED})
SETTLED = frozenset({StepStatus.COMPENSATED, StepStatus.SKIPPED})
AFTER_LOST_INTENT = frozenset({INTENT, BACK_INTENT, Kind.COMPENSATION_ERROR})
"""What can follow an intent only if the attempt had no end."""

BY_SEQ = attrgetter("seq")


def is_unkept(entry: Entry) -> bool:
    """Tell whether a step ended uncertain because its result cannot be stored: then its effect has happened."""
    kind: str = json.loads(entry.result or "{}").get("type", "")
    return kind == f"{NotStorableError.__module__}:{NotStorableError.__qualname__}"


class Slot:
    """One call of a step, or of a child saga (then *child* is its scope).

    *seq* is its first entry's (0: nothing is recorded yet), *outcome* that of the entry that ended it, *arguments* the
    stored copies as JSON text. *result* is the text of its value, *fault* of its exception. *uncertain* is sticky.
    *spec* and *live* are bound when the body calls; a *redefinition* goes into the next entry. *entered_again* is the
    ``seq`` of the intent with which it was entered after it had already failed.
    *forgotten*: the run was put back to a step before it, so it is no part of what is replayed. *let_stand*: a person
    has accepted that it is not compensated; *skipped* tells who gave its compensation up, and why, as JSON text.
    *tried* tells of the attempts that were tried again, *entered* when the last one began (0: when the call did), and
    *lost* that whoever entered it is gone, so that nobody knows when it ended; *compensating* is the ``seq`` at which
    its compensation began, when that was, and when it ended.
    *unkept*: it returned, but its result cannot be stored.
    *cut*: it was cut off and the body survived that; then *fault* is the interruption, and *cancelled* tells how the
    cancellation came, if it was one (``cancelled``).
    """

    __slots__ = (
        *("__dict__", "again", "arguments", "attempts", "child", "compensated", "compensating"),
        *("compensation_attempts", "compensation_fault", "definition", "done", "ended", "fault", "key", "live", "name"),
        *("outcome", "redefinition", "result", "scope", "seq", "spec", "started", "status"),
    )
    failures: int = 0  # from here on what seldom happens to a call, and stands in the class until it does
    uncertain: bool = False
    wait: tuple[int, float] | None = None
    compensation_failures: int = 0
    compensation_wait: tuple[int, float] | None = None
    tried: list[Tried] | None = None
    entered: int = 0
    lost: bool = False
    cut: bool = False
    unkept: bool = False
    cancelled: Coming | None = None
    entered_again: int = 0
    forgotten: bool = False
    let_stand: bool = False
    skipped: str | None = None

    def __init__(
        self, scope: Scope, key: str, name: str, definition: str, arguments: str, child: Scope | None = None
    ) -> None:
        self.scope, self.key, self.name, self.child = scope, key, name, child
        self.definition, self.arguments = definition, arguments
        self.seq = self.attempts = self.outcome = self.started = self.ended = 0
        self.compensated = self.compensation_attempts = 0
        self.compensating: tuple[int, int, int] = (0, 0, 0)
        self.status: StepStatus | None = None
        self.done = self.again = False
        self.result: str | None = None
        self.fault: str | None = None
        self.compensation_fault: str | None = None
        self.redefinition: str | None = None
        self.spec: StepSpec | None = None
        self.live: dict[str, Any] | None = None

    def apply(self, entry: Entry) -> None:  # noqa: C901, PLR0912  # a branch for each kind
        """Take in an entry about this call, just written or read back."""
        kind = entry.kind
        if not self.seq:
            self._begin(entry)
        elif entry.definition is not None:  # it was redefined, and is entered as it is now
            self.definition, self.redefinition = entry.definition, None
        if self.child is not None:
            self.child.apply(entry)
            return
        before = self.status
        self.status = STEPS[before, kind]
        if kind is DONE:
            self.done, self.result, self.ended, self.outcome = True, entry.result, entry.at, entry.seq
            if self.again:
                self.fault, self.again, self.cut = None, False, False
            return
        if before is ENTERED and kind in AFTER_LOST_INTENT:
            self.uncertain = True
        if kind is INTENT:
            if before is not None:
                self._enter_again(before, entry)
            self.attempts += 1
        elif kind is BACK_INTENT:
            self.compensation_attempts += 1
            seq, at, _ = self.compensating
            self.compensating = (seq, at, 0) if seq else (entry.seq, entry.at, 0)
        elif kind is Kind.COMPENSATION_SKIPPED:
            self.skipped = entry.result
        elif kind is BACK_DONE:
            self.compensation_fault, self.compensated = None, entry.seq
            self.compensating = (*self.compensating[:2], entry.at)
        elif kind is Kind.NOT_LANDED:
            self.uncertain = self.unkept = False
        else:
            self._apply_failure(kind, entry, cut_off=before is ENTERED and kind is Kind.CANCELLED)

    def _begin(self, entry: Entry) -> None:
        self.seq, self.started = entry.seq, entry.at
        slots = self.scope.slots
        slots.append(self)
        last = slots[-2:]  # one look: another thread may append at any moment, and looks too when it has
        if last[-1] is not self or last[0].seq > entry.seq:  # branches come back from the journal in any order
            slots.sort(key=BY_SEQ)

    def _enter_again(self, before: StepStatus, entry: Entry) -> None:
        self._tell(before, self.fault, self.ended if self.fault is not None else 0)
        if self.fault is not None:
            self.entered_again, self.fault, self.cut = entry.seq, None, False
        self.entered, self.ended = entry.at, 0
        self.again = self.lost = False

    def _tell(self, status: StepStatus, fault: str | None, ended: int) -> None:
        self.tried = [] if self.tried is None else self.tried
        if len(self.tried) < self.attempts:  # each is told of once, when it is known that another one follows
            self.tried.append(Tried(status, fault, self.entered or self.started, 0 if self.lost else ended))

    def _apply_failure(self, kind: Kind, entry: Entry, *, cut_off: bool) -> None:
        if kind in {Kind.RETRYING, Kind.COMPENSATION_RETRYING}:
            told = json.loads(entry.result or "{}")
            wait = (entry.at, float(told["wait"]))
            if kind is Kind.RETRYING:
                self.failures, self.wait = self.failures + 1, wait
                how = StepStatus.UNCERTAIN if told.get("uncertain") else StepStatus.FAILED
                self._tell(how, json.dumps(told["fault"]) if "fault" in told else None, entry.at)
                self.uncertain = self.uncertain or how is StepStatus.UNCERTAIN
            else:
                self.compensation_failures, self.compensation_wait = self.compensation_failures + 1, wait
        elif kind is Kind.COMPENSATION_ERROR:
            self.compensation_fault, self.compensation_failures = entry.result, 0
            self.compensating = (self.compensating[0] or entry.seq, self.compensating[1], entry.at)
        else:
            if self.fault is None or self.again:  # else the body was told, and that stays what it is told
                self.fault, self.again, self.cut = entry.result, False, False
            self.ended, self.outcome, self.failures, self.wait = entry.at, entry.seq, 0, None
            self.uncertain = self.uncertain or kind is Kind.UNCERTAIN or cut_off
            self.unkept = self.unkept or (kind is Kind.UNCERTAIN and is_unkept(entry))
            if kind is Kind.CANCELLED:
                self.cut_off(entry)

    def cut_off(self, entry: Entry) -> None:
        """Take in that it was cut off by an interruption which the body survived."""
        told = json.loads(entry.result or "{}")
        self.cut, self.cancelled = True, Coming.of(told.pop("cancelled", None))
        self.fault = json.dumps(told)

    def entry(self, kind: Kind, attempt: int | None = None, result: str | None = None) -> Entry:
        """Return an entry about this call, to be put on record.

        Raises:
            Stop: No table allows it here. A file must never hold what cannot be read again.
        """
        scope, seq = self.scope, self.seq
        if (self.status, kind) not in STEPS and self.child is None:
            raise scope.run.illegal(self.key, self.status, kind)
        if seq:
            return Entry(0, 0, kind, scope.seq, self.key, seq, attempt, 0, None, self.redefinition, None, result, self)
        name, of, told = self.name, self.definition, self.arguments
        return Entry(0, 0, kind, scope.seq, self.key, None, attempt, 0, name, of, told, result, self)

    @property
    def run(self) -> OpenRun:
        """The run it belongs to."""
        return self.scope.run

    @property
    def has_outcome(self) -> bool:
        """What it returned or raised is on record, and stands."""
        return not self.again and (self.done or self.fault is not None)

    @property
    def is_uncertain(self) -> bool:
        """Its effect may have happened: an attempt was cut off, now or earlier, and none is known to be done."""
        return not self.done and (self.uncertain or self.status is ENTERED)

    @property
    def facts(self) -> dict[str, Any]:
        """What was recorded of its definition: module, compensation."""
        return facts_of(self.definition)

    @property
    def is_owed(self) -> bool:
        """The journal says that its compensation must still be called."""
        facts = self.facts
        if self.let_stand or self.status in SETTLED or "compensate" not in facts:
            return False
        return self.done or self.is_uncertain or (self.fault is not None and "even_if_failed" in facts)

    @property
    def has_happened(self) -> bool:
        """Its effect is there beyond doubt, with its result on record or without."""
        return self.done or self.unkept

    @property
    def is_past_pivot(self) -> bool:
        """It is a point of no return, and done; or it may be, which nobody can tell."""
        return (self.done or self.is_uncertain) and self.facts.get("standing") == "pivot"

    @property
    def is_standing(self) -> bool:
        """Its effect has happened, or may have, and nothing undoes it."""
        return (self.done or self.is_uncertain) and (self.let_stand or "standing" in self.facts)

    @property
    def lapses(self) -> int:
        """When it can no longer be compensated, in microseconds since 1970; 0: never, or it has begun."""
        within = None if self.compensation_attempts else self.facts.get("within")
        return 0 if within is None else (self.ended or self.started) + int(within * 1_000_000)

    @property
    def place(self) -> int:
        """Where it stands among the intents of its run."""
        return self.entered_again or self.seq

    @property
    def idempotency_key(self) -> str:
        """The same on every attempt, every resume and every machine."""
        return f"{self.scope.run.row.key_prefix}/{self.key}"

    @property
    def is_free(self) -> bool:
        """It may come in any order.

        Its key is explicit, or it only looks and leaves no trace until it has ended, or it takes another call's place.
        """
        facts = self.facts
        return "instead_of" in facts or "read_only" in facts or self.local_key.startswith(f"{self.name}:")

    @property
    def supersedes(self) -> str | None:
        """The key of the call that it was made instead of, whose result no longer stood."""
        key: str | None = self.facts.get("instead_of")
        return key

    @property
    def local_key(self) -> str:
        """Its key as seen from inside its scope."""
        return self.key[len(self.scope.prefix) :]

    def compensating_step(self) -> StepSpec | None:
        """Return the step that compensates this call: as the body called it, else as it is found by its names."""
        return self.run.step_of(self)


OpenRun = open_run.OpenRun[Slot]
"""The run that they all belong to."""


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
        return sorted((slot for scope in self.tree() for slot in scope.slots), key=BY_SEQ)

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
