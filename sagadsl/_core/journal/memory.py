"""The journal in this process's memory: for tests, and for sagas that need only compensation."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable

import attrs

from sagadsl._core.journal import BEGINNINGS, BOUNDARIES, Letter, Log, Overtaken, Taken, Unread
from sagadsl._core.values import Entry, Kind, RunRow


class MemoryJournal:
    """A journal that lives as long as this object."""

    name = ":memory:"

    def __init__(self) -> None:
        self._guard = threading.RLock()
        self._last = 0
        self._runs: dict[int, RunRow] = {}
        self._entries: dict[int, dict[int, Entry]] = {}
        self._letters: list[Letter] = []
        self._posted = 0
        self._held: dict[int, object] = {}

    def append(self, log: Log, entry: Entry, full: bool) -> None:  # noqa: ARG002, FBT001  # nothing outlives memory
        """Write one entry."""
        with self._guard:
            seq = log.seq + 1
            self._refuse(log, seq, entry)
            entry.number, entry.seq = log.number, seq
            self._entries[log.number][seq] = attrs.evolve(entry, of=None)
            log.seq = seq

    def commit(
        self,
        log: Log,
        entries: Iterable[Entry],
        *,
        full: bool,
        row: RunRow | None = None,
        finished: bool | None = None,
        stolen: bool = False,
        untold: bool | None = None,
        outline: str | None = None,
        read: Iterable[Letter] = (),
    ) -> None:
        """Write several entries at once."""
        entries = list(entries)
        with self._guard:
            if row is not None:
                if any((r.id, r.generation) == (row.id, row.generation) for r in self._runs.values()):
                    raise Taken
                if self._last + 1 in self._held:
                    raise Taken
                row.number = log.number = self._last = self._last + 1
                self._runs[row.number], self._entries[row.number] = attrs.evolve(row, finished=None), {}
                self._held[row.number] = log.holder
            for seq, entry in enumerate(entries, log.seq + 1):
                self._refuse(log, seq, entry)
            for entry in entries:
                self.append(log, entry, full)
            acted_on = {letter.letter for letter in read}
            log.is_turned = log.is_turned or (bool(acted_on) and entries[-1].kind is Kind.COMPENSATING)
            for letter in self._letters:
                if letter.letter in acted_on:
                    letter.seq = log.seq
            self._runs[log.number].thefts += stolen
            if finished is not None:
                known = row.finished if row is not None else None
                self._runs[log.number].finished = known or entries[-1].at if finished else None
            kept = self._runs[log.number].outline if finished is None else None
            self._runs[log.number].outline = outline or kept
            if untold is not None:
                self._runs[log.number].untold = 1 if untold else None

    def _refuse(self, log: Log, seq: int, entry: Entry) -> None:
        number = log.number
        if log.is_turned and entry.kind in BEGINNINGS:
            raise Unread
        is_boundary = entry.name is not None or entry.kind in BOUNDARIES
        if is_boundary and any(letter.number == number and letter.seq is None for letter in self._letters):
            raise Unread
        if seq in self._entries[number]:
            raise Overtaken

    def entries(self, number: int) -> list[Entry]:
        """Return the entries of a run."""
        with self._guard:
            return [attrs.evolve(entry) for entry in self._entries.get(number, {}).values()]

    def runs(
        self,
        *,
        id: str | None = None,
        prefix: str | None = None,
        saga: str | None = None,
        digest: str | None = None,
        unfinished: bool = False,
        untold: bool = False,
    ) -> list[RunRow]:
        """Return the runs that fit."""
        with self._guard:
            return [
                attrs.evolve(row)
                for row in self._runs.values()
                if (id is None or row.id == id)
                and (prefix is None or row.id.startswith(prefix))
                and (saga is None or row.saga == saga)
                and (digest is None or row.arguments_digest == digest)
                and not (unfinished and row.finished is not None)
                and not (untold and row.untold is None)
            ]

    def post(self, letter: Letter) -> bool:
        """Leave a letter."""
        with self._guard:
            if letter.number not in self._runs or self._runs[letter.number].finished is not None:
                return False
            letter.letter = self._posted = self._posted + 1
            self._letters.append(letter.changed())
            return True

    def letters(self, number: int) -> list[Letter]:
        """Return the letters of a run."""
        with self._guard:
            return [letter.changed() for letter in self._letters if letter.number == number]

    def hold(self, lock: int, holder: object = None) -> bool:
        """Own a run."""
        with self._guard:
            if lock in self._held:
                return False
            self._held[lock] = holder
            return True

    def release(self, lock: int, holder: object = None) -> None:
        """Stop owning a run."""
        with self._guard:
            if holder is None or self._held.get(lock) is holder:
                self._held.pop(lock, None)

    def is_held(self, lock: int) -> bool:
        """Tell whether a thread owns a run."""
        return lock in self._held

    def remove(self, numbers: Collection[int]) -> list[int]:
        """Remove runs that have ended."""
        with self._guard:
            rows = [self._runs[number] for number in sorted(numbers) if number in self._runs]
            gone = [row.number for row in rows if row.finished is not None and row.untold is None]
            for number in gone:
                del self._runs[number], self._entries[number]
            self._letters = [letter for letter in self._letters if letter.number not in gone]
            return gone

    def shrink(self) -> None:
        """Do nothing: what was removed is gone."""

    def again(self) -> MemoryJournal:
        """Return itself."""
        return self

    def close(self) -> None:
        """Keep everything: the object is the store."""
