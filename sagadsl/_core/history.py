"""The way back: entries folded to the scopes and slots of their run, ready to be called again.

One entry at a time, by the same ``apply`` that takes in an entry just written. What is added here is only what a reader
needs beside the state: which calls overlapped, which failure paused the run, and the `Past` of each scope.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import chain, count, takewhile

from sagadsl._core.codec.artifacts import TAG, Artifact, artifacts_in
from sagadsl._core.definition import facts_of
from sagadsl._core.phrases import command, to_run_again
from sagadsl._core.scope import Scope
from sagadsl._core.scope.past import Past
from sagadsl._core.scope.slot import OpenRun, Slot
from sagadsl._core.state import UNDER_WAY
from sagadsl._core.values import Entry, Kind, Status, StepStatus
from sagadsl.errors import JournalError

STARTS_OR_ENDS = frozenset(
    {Kind.INTENT, Kind.DONE, Kind.RETRYING, Kind.FAILED, Kind.UNCERTAIN, Kind.CANCELLED, Kind.OPENED, Kind.NOT_LANDED}
)
"""What says that a call of a step is under way, or is not any more."""
STANDSTILL = frozenset(
    {Kind.TAKEN, Kind.INTENT, Kind.RETRYING, Kind.NOT_LANDED, Kind.COMPENSATION_INTENT, Kind.COMPENSATION_RETRYING}
)
"""What is written again each time a run is interrupted at the same place."""


def restore(run: OpenRun, entries: list[Entry]) -> Scope:
    """Fold a journal to the root scope of its run.

    Raises:
        Exception: The journal is not legal, of the kind that it makes the code below raise.
    """
    reader = Reader(run)
    for entry in entries:
        reader.read(entry)
    reader.cut_off()
    pasts = {scope: past_of(scope) for scope in reader.scopes.values()}
    orders = {scope: past.order for scope, past in pasts.items() if runs_again(scope)}
    run.ahead = OrderedDict.fromkeys(slot for slot in reader.slots.values() if slot in orders.get(slot.scope, ()))
    for scope, past in pasts.items():
        scope.past = past if past.order or run.ahead else None
    return next(iter(reader.scopes.values()))


class Reader:
    """The scopes and slots read so far, by the ``seq`` that opened them, and the calls under way in each scope."""

    def __init__(self, run: OpenRun) -> None:
        self.run = run
        self.scopes: dict[int, Scope] = {}
        self.slots: dict[int, Slot] = {}
        self.busy: dict[Scope, set[Slot]] = {}

    def read(self, entry: Entry) -> None:
        """Take in one entry."""
        kind = entry.kind
        if kind is Kind.OPENED:
            self.open(entry)
            return
        scope = self.scopes[entry.scope]
        if entry.name is not None:
            slot = self.slots[entry.seq] = slot_of(scope, entry)
        elif entry.ref is not None:
            slot = self.slots[entry.ref]
            if entry.definition is not None:
                facts_of(entry.definition)  # as below
        else:
            self.apply_to_scope(entry)
            return
        slot.apply(entry)
        if kind in STARTS_OR_ENDS:
            self.mark(slot)

    def open(self, entry: Entry) -> None:
        """Open a scope: the run's own, or a child's, which is a call in the scope around it."""
        parent = self.scopes.get(entry.scope)
        scope = self.scopes[entry.seq] = Scope(self.run, None, entry.name or "", entry.step, parent)
        self.busy[scope] = set()
        if parent is None:
            scope.apply(entry)
        else:
            scope.slot = self.slots[entry.seq] = slot_of(parent, entry, scope)
            scope.slot.apply(entry)
            self.mark(scope.slot)

    def apply_to_scope(self, entry: Entry) -> None:
        """Take in what is said of a scope; a take-over tells that whatever was under way was cut off."""
        scope = self.scopes[entry.scope]
        scope.apply(entry)
        if entry.kind in {Kind.TAKEN, Kind.RESUMED}:
            self.cut_off()
        if entry.kind is Kind.RESUMED:
            for seq in scope.paused_by:
                slot = self.slots[seq]
                if slot.done:  # as its probe said meanwhile, to somebody who wanted the run compensated
                    slot.fault = None
                else:  # a child that paused itself goes on; one that was compensated is run afresh
                    slot.again = slot.child is None or slot.child.status is Status.COMPENSATED
        if scope.slot is not None and (scope.left or scope.status is not Status.OPEN):
            self.busy[scope.slot.scope].discard(scope.slot)

    def cut_off(self) -> None:
        """Take in that nothing is under way any more: when an attempt that was came to its end nobody knows."""
        for slot in chain.from_iterable(self.busy.values()):
            if slot.status is StepStatus.ENTERED:
                slot.lost = True
        self.busy = {each: set() for each in self.busy}

    def mark(self, slot: Slot | None) -> None:
        """Note that a call is under way, and those around it; two at once in one scope have overlapped."""
        while slot is not None:
            scope = slot.scope
            others = self.busy[scope]
            if others and (len(others) > 1 or slot not in others):
                scope.overlapped = True
            if slot.child is None and slot.status not in UNDER_WAY:
                others.discard(slot)
            else:
                others.add(slot)
            slot = scope.slot


def slot_of(scope: Scope, entry: Entry, child: Scope | None = None) -> Slot:
    """Return the slot of a call that *entry* begins."""
    facts_of(entry.definition or "{}")  # one that is none is found before anything is done
    return Slot(scope, entry.step, entry.name or "", entry.definition or "{}", entry.arguments or "{}", child=child)


def past_of(scope: Scope) -> Past[Slot]:
    """Return what is recorded of a scope as its past, to be called again, and let new keys follow the recorded ones."""
    calls: list[tuple[str, Slot]] = []
    counts: dict[str, int] = {}
    prefix = len(scope.prefix)
    for slot in scope.slots:
        key = slot.key[prefix:]
        base, _, occurrence = key.rpartition("#")
        if not occurrence.isdigit() or not base:
            base, occurrence = key, "1"
        counts[base] = max(counts.get(base, 0), int(occurrence))
        if not slot.forgotten and not (slot.again and slot.child is not None):  # else it is run afresh
            calls.append((base if base.startswith(f"{slot.name}:") else slot.name, slot))
    scope.counts.update((base, count(last + 1)) for base, last in counts.items())
    return Past(scope.run.codec.canonical, calls, is_strict=not scope.overlapped)


def runs_again(scope: Scope) -> bool:
    """Tell whether the body of a scope runs over its record again, when that of the run does."""
    return not any(each.has_failed for each in scope.chain())


def interruptions(entries: list[Entry]) -> int:
    """Return how often an interrupted run was interrupted since it last got any further."""
    since = takewhile(lambda entry: entry.kind in STANDSTILL, reversed(entries))
    return 1 + sum(entry.kind is Kind.TAKEN for entry in since)


def recorded_files(scope: Scope) -> dict[Artifact, str]:
    """Return the artifacts on record of an open run, each with the key of its step."""
    found: dict[Artifact, str] = {}
    if scope.status is not Status.OPEN:
        return found
    for each in scope.tree():
        if any(around.status is Status.COMPENSATED for around in each.chain()):
            continue  # a child that failed: its files may have been put away
        for slot in each.slots:
            text = slot.result if slot.child is None else slot.child.result
            if text is not None and TAG in text and not slot.again and not slot.forgotten:
                found |= dict.fromkeys(artifacts_in(text), slot.key)
    return found


def altered(scope: Scope, files: dict[Artifact, str]) -> JournalError | None:
    """Return what is wrong when a file is no longer what a step made: what follows would build on something else."""
    wrong = [
        f"{file.path}, which {key} made, is {'no longer what it was' if file.path.exists() else 'not there'}"
        for file, key in files.items()
        if not file.is_intact()
    ]
    if not wrong:
        return None
    run = scope.run
    on, back = (command(verb, run.id, run.journal.name) for verb in ("resume", "compensate"))
    on = to_run_again() if scope.is_block else on
    cure = f"put back what is missing, then go on: {on}   Or compensate: {back}"
    return JournalError(run.journal.name, f"run {run.id}: {'; '.join(wrong)}. Nothing was entered: {cure}")
