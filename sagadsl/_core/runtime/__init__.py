"""Opens runs, adopts them, lists them: the waist of the house, where the pure half and the acting half meet.

``opening`` says what a call means (``opened``), ``deciding`` what a person asks for, ``rehearsal`` what that would do;
``stored`` is a run as users hold it. Here they come together: runs that are there are found, listed, gone on with.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from sagadsl._core.awaiting import to_the_end
from sagadsl._core.definition import SagaSpec, facts_of
from sagadsl._core.describe import describe, in_outline, legible, stored_arguments
from sagadsl._core.flow import Ended, leave_to_a_person, settle
from sagadsl._core.history import interruptions
from sagadsl._core.journal import Journal, Letter
from sagadsl._core.later import Later
from sagadsl._core.observers import detach, kept_in
from sagadsl._core.ownership import Tenure, claim, owner, told_owner
from sagadsl._core.runtime.deciding import Request, decide, is_to_cancel, is_to_compensate, queue, request_compensation
from sagadsl._core.runtime.opened import Asked, Opened
from sagadsl._core.runtime.opening import CODEC, Opening, open_runs
from sagadsl._core.scope import Scope
from sagadsl._core.scope.outlined import outline_of
from sagadsl._core.scope.slot import OpenRun, Slot
from sagadsl._core.settings import NO_OPTIONS, Options
from sagadsl._core.state import ENDED
from sagadsl._core.supply import asupply, supply
from sagadsl._core.values import Cause, Entry, Kind, RunRow, Status, as_time
from sagadsl._core.values.outlines import Outline
from sagadsl.errors import JournalError, RunConflictError, Stop, SuspendedError, UsageError

if TYPE_CHECKING:
    from sagadsl._core import figures, shown
    from sagadsl._core import upkeep as keeping
    from sagadsl._core.runtime import rehearsal, stored
else:
    figures, shown = Later("sagadsl._core.figures"), Later("sagadsl._core.shown")
    keeping, stored = Later("sagadsl._core.upkeep"), Later("sagadsl._core.runtime.stored")
    rehearsal = Later("sagadsl._core.runtime.rehearsal")

__all__ = ["CODEC", "Opened", "Runtime", "default_runtime"]

log = logging.getLogger("sagadsl")

LISTED = (*map(str, Status), "interrupted")


class Runtime(Opening):
    """Everything the decorators act through: a store, its rules, a clock. One default exists for the process.

    Args:
        store: A path, ``":memory:"``, or a journal; by default ``SAGADSL_DB``, else ``sagadsl.db`` beside the main
            script, else in the working directory.
        durability: ``"process"``, ``"power"`` or ``"power-strict"``.
        resume: When a call without id and key adopts an interrupted run: ``"arguments"``, ``"key"`` or ``"never"``.
        on_failure: ``"compensate"`` or ``"pause"``.
        keep: What a process keeps of runs that have ended: the newest ones (a number), those that ended within a time
            (a `timedelta`), or that for each status (a mapping); `None` keeps all. See `prune` for what goes.
        compress_above: Results of steps and sagas whose JSON has more than so many bytes are stored compressed; `None`
            leaves all of them legible. Those with an `Artifact` or a note stay so, and so do arguments.
        clock: Microseconds since 1970.
        sleep, asleep: Wait a number of seconds, in either colour. By default time passes, and a cancel is seen while
            it does.
        jitter: A random number in [0, 1) for the back-off of retries.
        observers: Called with each `Entry` after it is durable, in the thread that wrote it. One that has a method
            ``watch(run)`` is asked instead, once for each run that this process opens or goes on with, for an observer
            of that run alone, or `None`; its ``close()``, if it has one, is called when the process lets the run go.
        progress: ``"auto"``: a line a step on stderr where that is a terminal; ``"plain"``: lines wherever it leads,
            for logs; ``"off"``; or a function that is given a `RunInfo` each time a run has changed.
        codec: Turns values into text; the process's own knows what was registered and annotated.
        provide: What makes live arguments where nobody calls, by type; by default what `sagadsl.provide` was told.
        read_only: Look only: a file is never made, changed or migrated.

    Raises:
        UsageError: A setting cannot have this value.
    """

    def reopen(
        self, spec: SagaSpec | None, run_id: str, request: Request | None, options: Options = NO_OPTIONS
    ) -> tuple[Opened, dict[str, Any]]:
        """Open a stored run by its id, to go on or, on *request*, to be compensated; return it and its arguments."""
        tenure = Tenure()
        journal = self.journal()
        row = self._row(run_id, journal)
        if spec is not None and row.saga != spec.name:
            raise RunConflictError(row.id, f"is a run of {row.saga}, not of {spec.name}: name that saga")
        text, arguments = self._arguments(journal, row) if spec is not None else ("{}", {})
        if spec is not None and request is None:
            asked = Asked(spec, options, journal, text, row.arguments_digest, tenure)
            return self._reopen(asked, row, is_call=False), arguments
        try:
            row, _ = claim(tenure, journal, row)
            scope = self._load(spec, row, journal)
            scope.run.log.holder = tenure
            is_owed = request_compensation(scope, request or Request(), self.provided if spec is None else None)
            if is_owed:
                self._watch(scope)
        except BaseException:
            tenure.end()
            raise
        if is_owed:
            return Opened(scope), arguments
        tenure.end()
        return Opened(ended=Ended(Status.COMPENSATED), run=scope.run), arguments

    def hold_back(self, run_id: str, times: int) -> BaseException | None:
        """Pause a run that was interrupted so many *times* at one step; return the error that says so, else `None`.

        Raises:
            RunLockedError: Somebody has it.
        """
        journal = self.journal()
        tenure = Tenure()
        try:
            row, _ = claim(tenure, journal, self._row(run_id, journal))
            entries = journal.entries(row.number)
            scope = self._load(None, row, journal, entries=entries)
            try:
                if interruptions(entries) >= times and scope.status in {Status.OPEN, Status.COMPENSATING}:
                    queue(scope, Kind.TAKEN, owner())
                    self._watch(scope)
                    scope.run.drive(leave_to_a_person(scope, times))
            except Stop as stop:
                return stop.reason
            finally:
                detach(scope.run)
        finally:
            tenure.end()
        return None

    def rehearse(self, run_id: str, request: Request) -> rehearsal.DryRun:
        """Say what a request to compensate would do."""
        scope = self._copy(run_id)
        with legible(scope.run.journal, scope.run.id):
            return rehearsal.rehearse(scope, request, self.codec)

    def is_awaited(self, run_id: str, request: Request, bound: Scope | None = None) -> bool:
        """Tell whether what a request to compensate has called is to be awaited; an earlier scope has it *bound*.

        That is tried, for to know it nothing may be held. What is wrong with the request is said when it is made.
        """
        with suppress(RunConflictError, UsageError):
            scope = self._copy(run_id)
            if bound is not None:
                scope.bind_as(bound)
            with legible(scope.run.journal, scope.run.id):
                if is_to_compensate(scope, request):
                    decide(scope, request)
                    steps = map(Slot.compensating_step, scope.owed())
                    return any(spec is not None and spec.compensates_async for spec in steps)
        return False

    def _copy(self, run_id: str) -> Scope:
        """Fold a stored run to try something on it: nobody holds it, and nothing is written."""
        journal = self.journal()
        scope = self._load(None, self._row(run_id, journal), journal)
        open_runs.discard(scope.run)
        return scope

    def compensate_without_body(self, run_id: str, request: Request | None = None, *, is_async: bool = False) -> Any:
        """Compensate a run whose saga this program does not have, or cannot run, by functions found by their names.

        It is to be awaited if the saga is known to be async, or if one of them is; until it is, nothing is held.
        """
        if is_async or self.is_awaited(run_id, request or Request()):
            return self._acompensate_without_body(run_id, request)
        opened, _ = self.reopen(None, run_id, request)
        return self.find(run_id) if opened.scope is None else self.compensate_scope(opened.scope)

    async def _acompensate_without_body(self, run_id: str, request: Request | None) -> stored.Run:
        """Do it where it is to be awaited."""
        opened, _ = self.reopen(None, run_id, request)
        return self.find(run_id) if opened.scope is None else await self.acompensate_scope(opened.scope)

    def compensate_scope(self, scope: Scope) -> stored.Run:
        """Compensate a run by functions that are bound, or found by their names, in a ``def``; return it."""
        try:
            supply(scope, self.provided)
            scope.run.drive(settle(scope, None, None, pauses=False))
        except Stop as stop:
            if not isinstance(stop.reason, SuspendedError):  # as far back as was asked
                raise stop.reason from None
        finally:
            self.leave(scope)
        return self.find(scope.run.id)

    async def acompensate_scope(self, scope: Scope) -> stored.Run:
        """Compensate a run by functions that are bound, or found by their names, in an ``async def``; return it.

        Whoever is cancelled meanwhile, that is let through when it has ended.
        """
        try:
            await asupply(scope, self.provided)
            await to_the_end(scope.run.adrive(settle(scope, None, None, pauses=False)))
        except Stop as stop:
            if not isinstance(stop.reason, SuspendedError):  # as above
                raise stop.reason from None
        finally:
            self.leave(scope)
        return self.find(scope.run.id)

    def cancel(self, run_id: str) -> stored.Run:
        """Ask that a run be cancelled; return it as it then is. See `Run.cancel`."""
        journal = self.journal()
        while True:
            row = self._row(run_id, journal)
            run = self._run(row, journal)
            letter = Letter(0, row.number, self.clock(), Cause.CANCEL, told_owner())
            if not is_to_cancel(run, journal.name) or journal.post(letter):  # else it has finished since
                return self.find(row.id)

    def _row(self, run_id: str, journal: Journal) -> RunRow:
        if not isinstance(run_id, str):
            msg = f"a run is named by its id, a text, or a beginning of it, not by {run_id!r:.80}"
            raise UsageError(msg)
        rows = journal.runs(id=run_id) or journal.runs(prefix=run_id)
        ids = {row.id for row in rows}
        if len(ids) == 1:
            return rows[-1]
        if not ids:
            raise RunConflictError(run_id, f"is not in {journal.name}; sagadsl.runs() lists those that are")
        raise RunConflictError(run_id, f"is the beginning of several: {', '.join(sorted(ids)[:8])}; give more of it")

    def find(self, run_id: str) -> stored.Run:
        """Return a run by its id, or by a beginning of it that only one run has.

        Raises:
            RunConflictError: There is none, or several.
        """
        journal = self.journal()
        return self._run(self._row(run_id, journal), journal)

    def refreshed(self, run_id: str, generation: int) -> stored.Run:
        """Return a run as it is now, whatever has come after it.

        Raises:
            RunConflictError: It is not there any more.
        """
        journal = self.journal()
        for row in journal.runs(id=run_id):
            if row.generation == generation:
                return self._run(row, journal)
        raise RunConflictError(run_id, f"is not in {journal.name} any more: it was pruned")

    def runs(
        self,
        *,
        saga: str | None = None,
        status: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> list[stored.Run]:
        """Return the runs in the store, the newest first and at most *limit*: of one saga, status, or since a time.

        Raises:
            UsageError: *saga* is no name, *limit* no number; or there is no such status: beside those of
                :class:`Status` there is ``"interrupted"``.
        """
        checked_of(saga, since, "runs")
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 0):
            msg = f"runs(limit=...) takes how many of the newest runs to return, 0 or more, not {limit!r:.80}"
            raise UsageError(msg)
        if status is not None and status not in LISTED:
            msg = f"runs(status=...) takes one of {', '.join(LISTED)}, not {status!r}"
            raise UsageError(msg)
        journal = self.journal()
        rows = [
            row
            for row in reversed(journal.runs(saga=saga, unfinished=status is not None and status not in ENDED))
            if (since is None or as_time(row.started) >= since) and not (status in ENDED and row.finished is None)
        ]
        found = (
            run
            for run in self._listed(rows, journal)
            if status is None or run.status == status or (status == "interrupted" and run.is_interrupted)
        )
        return shown.Runs(islice(found, limit))

    def _listed(self, rows: list[RunRow], journal: Journal) -> Iterator[stored.Run]:
        """Yield runs, but for what is damaged: ended ones as their rows have them, the others whole."""
        for row in rows:
            try:
                is_over = row.finished is not None and row.outline is not None
                yield self._outlined(row, journal) if is_over else self._run(row, journal)
            except JournalError as error:
                log.warning("%s is left out: %s", row.id, str(error))
            except RunConflictError:  # it was pruned since its row was read
                continue

    def _outlined(self, row: RunRow, journal: Journal) -> stored.Run:
        with legible(journal, row.id):
            told = Outline.of(row.outline or "")
            facts = in_outline(told, self.codec)
            facts |= self._facts_of(row, told)
        facts |= {"saga": row.saga, "parent": None, "is_live": False, "cancel_requested": False}
        facts |= {"_runtime": self, "_journal": journal, "_row": row, "_outline": told}
        return stored.Run.outlined(facts)

    def as_listed(self, row: RunRow, seq: int) -> stored.Run:
        """Return a run as it was when *seq* was its last entry."""
        return self._run(row, self.journal(), seq)

    @staticmethod
    def received(facts: dict[str, Any], store: str) -> stored.Run:
        """Return a run as another process knew it, to be decided about with the runtime of this one."""
        return stored.Run(**facts, runtime=default_runtime, journal=default_runtime.journal(store))

    def _run(
        self, row: RunRow, journal: Journal, seq: int | None = None, entries: list[Entry] | None = None
    ) -> stored.Run:
        entries = journal.entries(row.number)[:seq] if entries is None else entries
        scope = self._load(None, row, journal, entries=entries)
        open_runs.discard(scope.run)
        is_live = journal.is_held(row.lock)
        with legible(journal, row.id):
            told = outline_of(scope, entries[-1].seq)
            facts = describe(scope, self.codec) | self._facts_of(row, told)
            facts["kept"] = kept_in(entries[0])
            told_of_saga = facts_of(entries[0].definition or "{}")
            module, is_block = told_of_saga.get("module", ""), "block" in told_of_saga
            facts["arguments"] = stored_arguments(entries[0].arguments, self.codec)
            facts["cancel_requested"] = row.finished is None and any(
                letter.seq is None and letter.kind == Cause.CANCEL for letter in journal.letters(row.number)
            )
        facts |= {"is_live": is_live, "is_block": is_block, "outline": told}
        return stored.Run(**facts, runtime=self, journal=journal, module=module)

    def prune(
        self,
        *,
        older_than: float | timedelta | None = None,
        status: str | None = None,
        keep: int | None = None,
        dry_run: bool = False,
    ) -> tuple[str, ...]:
        """Forget runs that have ended, so that the file shrinks; return their ids, oldest first.

        Only runs that are completed or compensated go, each with its earlier generations. One that is open, paused,
        waiting, compensating or owes a compensation stays, as does one that a living process has, or whose ``notify=``
        is still owed. A pruned run cannot be compensated any more, and its key is new again: a call of it is done from
        the first generation on, with the idempotency keys that the pruned run had. A service that still honours those
        may take the new calls for the old ones, so prune only what is older than it remembers.

        Args:
            older_than: Those that ended longer ago than this, in seconds or as a `timedelta`.
            status: Those that are ``"completed"``, or ``"compensated"``.
            keep: Not the newest of them, this many. What several of these keep stays if one of them does.
            dry_run: Forget nothing.

        Raises:
            UsageError: Neither *older_than* nor *keep* says how far to go.
        """
        from sagadsl._core.upkeep.pruning import checked_age, checked_keep, checked_status, prune

        age = None if older_than is None else checked_age(older_than)
        limits = [(checked_status(status), limit) for limit in (age, keep) if limit is not None]
        for _, limit in limits:
            checked_keep(limit)
        if not limits:
            msg = "prune() takes older_than= (seconds or a timedelta), keep= (how many of the newest), or both"
            raise UsageError(msg)
        return prune(self.journal(), limits, self.clock(), is_tried=dry_run)

    def stats(self, *, saga: str | None = None, since: datetime | None = None) -> figures.Stats:
        """Count the runs in the store, those of one saga, or started since a time; steps, attempts, times and faults.

        Raises:
            UsageError: *saga* is no name, or *since* no time with a time zone.
            JournalError: The store cannot be read.
        """
        from sagadsl._core.upkeep.counting import counted

        checked_of(saga, since, "stats")
        return counted(self.journal(), saga, since)

    @property
    def upkeep(self) -> keeping.Upkeep:
        """The store as a file: to be examined, backed up, exported from and imported into."""
        journal = self.journal()

        def read(row: RunRow, entries: list[Entry] | None) -> tuple[stored.Run, Outline | None]:
            run = self._run(row, journal, entries=entries)
            return run, run._outline  # noqa: SLF001  # of this room

        return keeping.Upkeep(journal, read)

    def info(self, run: OpenRun) -> stored.Run:
        """Return the run as it stands in the journal now."""
        return self._run(run.row, run.journal)


def checked_of(saga: Any, since: Any, asked: str) -> None:
    """Refuse what names no saga, and what is no time that everybody understands.

    Raises:
        UsageError: The saga is no text, or the time has no time zone, or is none.
    """
    if saga is not None and not isinstance(saga, str):
        msg = f"{asked}(saga=...) takes the name of a saga, a text, not {saga!r:.80}"
        raise UsageError(msg)
    if since is not None and (not isinstance(since, datetime) or since.tzinfo is None):
        msg = f"{asked}(since=...) takes a time with a time zone, as datetime.now(UTC), not {since!r}"
        raise UsageError(msg)


default_runtime = Runtime()
