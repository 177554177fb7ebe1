"""One call of a step: what the journal says of it, and what is owed for it.

A slot's state is a fold over its entries. `Slot.apply` is used for an entry read back and for one just written, so what
is live and what is replayed cannot differ.
"""

from __future__ import annotations

import json
from operator import attrgetter
from typing import Any

from sagadsl._core.definition import StepSpec, facts_of
from sagadsl._core.scope import open_run
from sagadsl._core.scope.cancelled import Coming
from sagadsl._core.state import STEPS
from sagadsl._core.structs import Struct
from sagadsl._core.values import Entry, Kind, StepStatus
from sagadsl.errors import NotStorableError

INTENT, DONE, BACK_INTENT, BACK_DONE = Kind.INTENT, Kind.DONE, Kind.COMPENSATION_INTENT, Kind.COMPENSATION_DONE
ENTERED = StepStatus.ENTERED
"""A member read off its enum costs as much as a call of a function; these are read for every entry."""

SETTLED = frozenset({StepStatus.COMPENSATED, StepStatus.SKIPPED})
AFTER_LOST_INTENT = frozenset({INTENT, BACK_INTENT, Kind.COMPENSATION_ERROR})
"""What can follow an intent only if the attempt had no end."""

BY_SEQ = attrgetter("seq")


def is_unkept(entry: Entry) -> bool:
    """Tell whether a step ended uncertain because its result cannot be stored: then its effect has happened."""
    kind: str = json.loads(entry.result or "{}").get("type", "")
    return kind == f"{NotStorableError.__module__}:{NotStorableError.__qualname__}"


class Tried(Struct):
    """An attempt that was tried again.

    *status* is ``entered`` where no end of it is on record: it was cut off. *fault* is what it failed with, as JSON
    text. *begun* and *ended* are microseconds since 1970; 0: nobody knows, for whoever entered it was gone by then.
    """

    status: StepStatus
    fault: str | None
    begun: int
    ended: int


class Slot:
    """One call of a step, or of a child saga (then *child* is its scope), in a *scope*, which is made of such calls.

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

    def __init__(self, scope: Any, key: str, name: str, definition: str, arguments: str, child: Any = None) -> None:
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
        return self.scope.run  # type: ignore[no-any-return]  # a local costs

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
"""The run that calls belong to."""
