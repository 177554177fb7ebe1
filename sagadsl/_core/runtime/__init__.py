"""Opens runs, adopts them, lists them: the waist of the house, where the pure half and the acting half meet.

Opening answers one question: what does this call mean, given what is in the store? A new run, the run that an earlier
process left, a value that is already there, or an error that says what to do. Nothing is written here: a new run's row,
or the note that a run was taken over, goes into the commit of its first entry, so a program that only looks leaves no
trace, and a replay that differs has written nothing.
"""

from __future__ import annotations

import logging
import os
import random
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, TypedDict, Unpack

from sagadsl._core import threads
from sagadsl._core.codec import Codec, Unstorable
from sagadsl._core.definition import SagaSpec, checked_name, key_of
from sagadsl._core.describe import describe, legible, outline, resuming_line, stored_arguments, stuck
from sagadsl._core.drive import Drivers, tell
from sagadsl._core.figures import Stats
from sagadsl._core.flow import Ended, attempt, leave_to_a_person, settle
from sagadsl._core.history import interruptions, restore
from sagadsl._core.journal import Journal, Letter, Log, Outline, Overtaken
from sagadsl._core.journal.memory import MemoryJournal
from sagadsl._core.observers import Draw, Observer, attach, detach, sorted_out
from sagadsl._core.observers.events import Events
from sagadsl._core.observers.progress import Progress
from sagadsl._core.ownership import Tenure, claim, hold, owner, owner_of, process_of, told_owner
from sagadsl._core.provided import PROVIDED, Provided
from sagadsl._core.registry import registry
from sagadsl._core.runtime.deciding import Request, is_to_cancel, obey_first, queue, request_compensation
from sagadsl._core.runtime.opened import Asked, Opened
from sagadsl._core.runtime.rehearsal import DryRun, rehearse
from sagadsl._core.runtime.stored import Run
from sagadsl._core.scope import CURRENT, OpenRun, Scope, Slot, facts_of
from sagadsl._core.session import SESSION
from sagadsl._core.settings import (
    DURABILITY,
    NO_OPTIONS,
    Options,
    checked_choice,
    checked_progress,
    default_store,
)
from sagadsl._core.shown import Runs
from sagadsl._core.supply import asupply, supply
from sagadsl._core.upkeep import Upkeep
from sagadsl._core.upkeep.pruning import Keep, Keeper, checked_keep, checked_status, prune
from sagadsl._core.values import Cause, Entry, Kind, RunInfo, RunRow, Status, as_time
from sagadsl.errors import (
    JournalError,
    NotStorableError,
    RunConflictError,
    RunLostError,
    Stop,
    SuspendedError,
    UsageError,
)

__all__ = ["CODEC", "DryRun", "Opened", "Run", "Runtime", "default_runtime", "unstorable_argument"]

TERMINAL = frozenset({Status.COMPLETED, Status.COMPENSATED})
log = logging.getLogger("sagadsl")


def _microseconds() -> int:
    return time.time_ns() // 1000


CODEC = Codec()
EVENTS = Events()
LISTED = (*map(str, Status), "interrupted")
PAGE: Final = 1000
"""How many runs of a list are read at once."""


class Settings(TypedDict, total=False):
    """What `configure` takes."""

    store: str | os.PathLike[str] | Journal | None
    durability: Literal["process", "power", "power-strict"]
    resume: Literal["arguments", "key", "never"]
    on_failure: Literal["compensate", "pause"]
    keep: Keep | None
    observers: Iterable[Observer]
    progress: Literal["auto", "plain", "off"] | Draw


class Runtime:
    """Everything the decorators act through: a store, its rules, a clock. One default exists for the process.

    Args:
        store: A path, ``":memory:"``, or a journal; by default ``SAGADSL_DB``, else ``sagadsl.db`` beside the main
            script, else in the working directory.
        durability: ``"process"``, ``"power"`` or ``"power-strict"``.
        resume: When a call without id and key adopts an interrupted run: ``"arguments"``, ``"key"`` or ``"never"``.
        on_failure: ``"compensate"`` or ``"pause"``.
        keep: What a process keeps of runs that have ended: the newest ones (a number), those that ended within a time
            (a `timedelta`), or that for each status (a mapping); `None` keeps all. See `prune` for what goes.
        clock: Microseconds since 1970.
        sleep, asleep: Wait a number of seconds, in either colour.
        jitter: A random number in [0, 1) for the back-off of retries.
        observers: Called with each `Entry` after it is durable, in the thread that wrote it. One that has a method
            ``watch`` is asked for an observer of each run instead: see `sagadsl._core.observers`.
        progress: ``"auto"``: a line a step on stderr where that is a terminal; ``"plain"``: lines wherever it leads,
            for logs; ``"off"``; or a function that is given a `RunInfo` each time a run has changed.
        codec: Turns values into text; the process's own knows what was registered and annotated.
        provide: What makes live arguments where nobody calls, by type; by default what `sagadsl.provide` was told.
        read_only: Look only: a file is never made, changed or migrated.

    Raises:
        UsageError: An option is unknown.
    """

    def __init__(
        self,
        store: Any = None,
        *,
        durability: str = "power",
        resume: str = "arguments",
        on_failure: str = "compensate",
        keep: Keep | None = None,
        clock: Callable[[], int] = _microseconds,
        sleep: Callable[[float], Any] | None = None,
        asleep: Callable[[float], Awaitable[Any]] | None = None,
        jitter: Callable[[], float] = random.random,
        observers: Iterable[Observer] = (),
        progress: str | Draw = "auto",
        codec: Codec | None = None,
        provide: Mapping[Any, Any] | None = None,
        read_only: bool = False,
    ) -> None:
        self._store = store
        self.durability = checked_choice("durability", durability)
        self.resume = checked_choice("resume", resume)
        self.on_failure = checked_choice("on_failure", on_failure)
        self.clock = clock
        self._set_keep(keep)
        self.jitter = jitter
        self.observers, self._watchers = sorted_out(observers)
        self._progress = Progress(checked_progress(progress))
        self.codec = codec or CODEC
        self.provided = PROVIDED if provide is None else Provided(provide)
        self._read_only = read_only
        waits = {"sleep": sleep, "asleep": asleep}
        drivers = Drivers(attempt, **{n: w for n, w in waits.items() if w is not None})
        self.drivers = (drivers.drive, drivers.adrive)
        self._journals: dict[Any, Journal] = {}

    def configure(self, **settings: Unpack[Settings]) -> None:
        """Change settings for the calls that follow; what is not given stays as it is.

        Args:
            settings: *store* (``":memory:"`` is a new and empty one each time, as each test wants it; `None` is the
                default place), *durability*, *resume*, *on_failure*, *keep*, *observers* and *progress*, with the
                values that `Runtime` takes.

        Raises:
            UsageError: A setting or its value is unknown.
        """
        for name, value in settings.items():
            if name == "store":
                self._store = value
                if value == ":memory:":
                    self._journals.pop(value, None)
            elif name in {"durability", "resume", "on_failure"}:
                setattr(self, name, checked_choice(name, value))
            elif name == "keep":
                self._set_keep(value)
            elif name == "observers":
                self.observers, self._watchers = sorted_out(settings["observers"])
            elif name == "progress":
                self._progress = Progress(checked_progress(value))
            else:
                known = "store, durability, resume, on_failure, keep, observers and progress"
                msg = f"configure() has no setting {name!r}; it takes {known}"
                raise UsageError(msg)

    def _set_keep(self, keep: Any) -> None:
        chosen = checked_keep(keep)
        self._keeper = Keeper(chosen, self.clock) if chosen is not None else None

    def at(self, journal: Journal) -> Runtime:
        """Return this runtime with another journal as its store."""
        if self._store is journal:
            return self
        other = object.__new__(Runtime)
        other.__dict__.update(self.__dict__)
        other._store = journal
        return other

    def journal(self, store: Any = None) -> Journal:
        """Return the journal of *store*, by default this runtime's own."""
        store = self._store if store is None else store
        if store is None:
            store = default_store()
        if isinstance(store, str | os.PathLike):
            name = os.fspath(store)
            place: Any = name if name == ":memory:" else Path(name).absolute()
            if place not in self._journals:  # of several threads that come first, all get the same
                self._journals.setdefault(place, MemoryJournal() if name == ":memory:" else self._file(place))
            return self._journals[place]
        if not hasattr(store, "append") or not hasattr(store, "entries"):
            msg = f"store={store!r}: give a path, ':memory:' or a journal"
            raise UsageError(msg)
        journal: Journal = store
        return journal

    def _file(self, path: Path) -> Journal:
        from sagadsl._core.journal.sqlite import SqliteJournal  # noqa: PLC0415  # two milliseconds of every import

        if not self._read_only and not path.exists() and path.parent.is_dir():
            log.info("journal %s is new", path)
        return SqliteJournal(path, read_only=self._read_only)

    # -- opening ----------------------------------------------------------------------------------------------------

    def open(self, spec: SagaSpec, stored: dict[str, Any], options: Options, tenure: Tenure | None = None) -> Opened:
        """Say what a call of a saga means, outside of any other saga; what it holds is held in the name of *tenure*.

        Raises:
            SagaError: The call cannot be honoured; the message says what to do.
        """
        try:
            arguments = self.codec.encode(stored)
        except Unstorable as why:
            raise unstorable_argument(spec.name, why) from None
        journal = self.journal(options.store if options.store is not None else spec.store)
        asked = Asked(spec, options, journal, arguments, self.codec.identity(arguments), tenure or Tenure())
        return self._open(asked, self._id(spec, stored, options))

    def _open(self, asked: Asked, run_id: str | None) -> Opened:
        spec = asked.spec
        if run_id is not None:
            return self._open_named(asked, run_id)
        if self._resumes(asked) == "arguments":
            opened = self._adopt(asked)
            if opened is not None:
                return opened
        return self._new(asked, f"{spec.name}/{os.urandom(6).hex()}")

    def _id(self, spec: SagaSpec, stored: dict[str, Any], options: Options) -> str | None:
        if options.id is not None:
            return checked_name(options.id, f"{spec.name}: id")
        if options.key is not None:
            return f"{spec.name}/{checked_name(options.key, f'{spec.name}: key')}"
        return None if spec.key is None else f"{spec.name}/{key_of(spec.key, stored, spec.name)}"

    def _open_named(self, asked: Asked, run_id: str) -> Opened:
        rows = asked.journal.runs(id=run_id)
        if not rows:
            return self._new(asked, run_id)
        row = rows[-1]
        if row.saga != asked.spec.name:
            reason = f"belongs to the saga {row.saga}, not to {asked.spec.name}: choose another id"
            raise RunConflictError(run_id, reason)
        if row.arguments_digest != asked.digest:
            raise self._other_arguments(row, asked)
        if row.finished is None and self._resumes(asked) == "never" and not asked.options.steal:
            raise RunConflictError(
                run_id, "is unfinished, and resume='never' forbids a call to go on with it; resume it"
            )
        return self._reopen(asked, row)

    def _resumes(self, asked: Asked) -> str:
        """Return what a call says of going on, else its saga, else this runtime."""
        return asked.options.resume or asked.spec.resume or self.resume

    def _reopen(self, asked: Asked, row: RunRow) -> Opened:
        """Say what a call means whose run exists."""
        scope = self._load(asked.spec, row, asked.journal) if row.finished is not None else self._take(asked, row)
        if scope.status is Status.COMPLETED:
            with legible(asked.journal, row.id):
                value = self.codec.decode(scope.result) if scope.result is not None else None
            return Opened(ended=Ended(Status.COMPLETED, value), run=scope.run, record=scope)
        if scope.status is not Status.COMPENSATED:
            return Opened(scope)
        if scope.cause in {Cause.REQUEST, Cause.CANCEL} and not asked.options.rerun:
            done = "cancelled" if scope.cause == Cause.CANCEL else "compensated on request"
            raise RunConflictError(row.id, f"was {done}; using(rerun=True) runs it afresh")
        return self._new(asked, row.id, row.generation + 1)

    def _take(self, asked: Asked, row: RunRow) -> Scope:
        """Become the owner of an unfinished run, and make it go on; it may have been finished meanwhile."""
        journal, options = asked.journal, asked.options
        tenure = asked.tenure
        try:
            row, is_alive = claim(tenure, journal, row, steal=options.steal)
            while True:
                scope = self._go_on(asked, row)
                scope.run.log.holder = tenure
                if scope.status in TERMINAL:
                    tenure.end()
                    return scope
                try:
                    if is_alive:  # its owner must collide before anything else happens
                        journal.commit(scope.run.log, scope.run.pending, full=True, stolen=True)
                except Overtaken:
                    continue  # it has written one entry more
                self._watch(scope)
                if is_alive:
                    tell(scope.run, scope.run.pending)
                    scope.run.pending = []
                obey_first(scope)
                return scope
        except BaseException:
            tenure.end()
            raise

    def _go_on(self, asked: Asked, row: RunRow) -> Scope:
        """Fold a run that this process holds, the entry included that says so."""
        scope = self._load(asked.spec, row, asked.journal, asked.options)
        if scope.status is Status.COMPENSATION_FAILED:
            raise stuck(scope)
        if scope.status in TERMINAL:
            return scope
        self._announce(scope)
        if scope.status is not Status.COMPENSATING and any(each.status is Status.PAUSED for each in scope.tree()):
            return self._resumed(asked, row, scope)
        queue(scope, Kind.TAKEN, owner())
        return scope

    def _resumed(self, asked: Asked, row: RunRow, paused: Scope) -> Scope:
        """Fold a paused run once more, its resumption included: the step that failed is then not on record."""
        for each in list(paused.tree()):
            if each.status is Status.PAUSED:
                queue(each, Kind.RESUMED, owner())
            elif each.parent is None:  # it was killed while it paused
                queue(each, Kind.TAKEN, owner())
        entries = asked.journal.entries(row.number)
        pending = paused.run.pending
        scope = self._load(asked.spec, row, asked.journal, asked.options, [*entries, *pending])
        scope.run.pending, scope.run.log.seq = pending, entries[-1].seq
        return scope

    def _adopt(self, asked: Asked) -> Opened | None:
        """Adopt the oldest run that an earlier process of this program left with equal arguments."""
        spec, journal = asked.spec, asked.journal
        for row in journal.runs(saga=spec.name, digest=asked.digest, unfinished=True):
            held = hold(asked.tenure, journal, row) if row.program == spec.program else None
            if held is None:
                continue
            try:
                scope = self._load(spec, held, journal)
            finally:
                asked.tenure.end()
            if scope.status is Status.COMPENSATION_FAILED:
                log.warning("%s A new run starts beside it.", stuck(scope), extra={"run": row.id})
            else:
                return Opened(self._take(asked, row))
        self._warn_of_interrupted(asked)
        return None

    def _warn_of_interrupted(self, asked: Asked) -> None:
        """Say what a keyless saga cannot know: whether it is done again while another of its program is unfinished."""
        from sagadsl.report import short_id  # noqa: PLC0415  # on first use

        if asked.spec.program.startswith(SESSION):
            return  # nobody runs its cells from the top
        for row in asked.journal.runs(unfinished=True):
            if row.program == asked.spec.program and not asked.journal.is_held(row.lock):
                log.warning(
                    "%s of this program was interrupted, and another run of %s starts. A script that runs several "
                    "sagas calls them from one parent saga, or gives each a key: then what is done is not done again.",
                    short_id(row.id),
                    asked.spec.name,
                )
                return

    def _new(self, asked: Asked, run_id: str, generation: int = 1) -> Opened:
        spec, now = asked.spec, self.clock()
        row = RunRow(0, run_id, generation, spec.name, spec.program, asked.digest, now)
        run = self._open_run(spec, row, asked.journal, Log(holder=asked.tenure), asked.options)
        scope = Scope(run, spec, spec.name, "")
        entry = Entry(0, 1, Kind.OPENED, 0, "", None, None, now, spec.name, spec.definition, asked.arguments, owner())
        scope.apply(entry)
        run.opening = entry
        run.pending.append(entry)
        self._watch(scope)
        return Opened(scope)

    def _watch(self, scope: Scope) -> None:
        """Have those asked who look at runs one by one: this process opens this one, or goes on with it."""
        watchers = [*(each for each in (EVENTS, self._progress) if each.looks()), *self._watchers]
        if watchers:
            run, opening = scope.run, scope.run.opening
            assert opening is not None  # noqa: S101  # a run has entries, or is being opened
            facts = describe(scope, self.codec) | self._facts_of(run.row, [opening, *run.pending])
            arguments = stored_arguments(opening.arguments, self.codec)
            attach(run, watchers, RunInfo(**facts, arguments=arguments, is_live=True))

    def _open_run(self, spec: SagaSpec | None, row: RunRow, journal: Journal, at: Log, options: Options) -> OpenRun:
        level = options.durability or (spec.durability if spec else None) or self.durability
        run = OpenRun(
            row=row,
            journal=journal,
            log=at,
            codec=self.codec,
            clock=self.clock,
            jitter=self.jitter,
            drivers=self.drivers,
            step_of=registry.step_of,
            redefined=registry.redefined,
            full=DURABILITY[level],
            observers=self.observers,
        )
        _open_runs.add(run)
        return run

    def _load(
        self,
        spec: SagaSpec | None,
        row: RunRow,
        journal: Journal,
        options: Options = NO_OPTIONS,
        entries: list[Entry] | None = None,
    ) -> Scope:
        """Fold a stored run to its root scope."""
        entries = journal.entries(row.number) if entries is None else entries
        if not entries:
            if all(each.number != row.number for each in journal.runs(id=row.id)):
                raise RunConflictError(row.id, "was pruned a moment ago: a call of it is a new run")
            raise JournalError(journal.name, f"run {row.id} has no entries: restore a backup")
        run = self._open_run(spec, row, journal, Log(row.number, entries[-1].seq), options)
        run.is_new, run.opening = False, entries[0]
        with legible(journal, row.id):
            scope = restore(run, entries)
        scope.spec = spec
        return scope

    def _announce(self, scope: Scope) -> None:
        """Say which run goes on, how old it is, and what is tried again: one line."""
        with legible(scope.run.journal, scope.run.id):
            line = resuming_line(scope, self.clock())
        log.warning(line, extra={"run": scope.run.id})

    def _other_arguments(self, row: RunRow, asked: Asked) -> RunConflictError:
        recorded = self._arguments(asked.journal, row)[1]
        given = self.codec.decode(asked.arguments)
        names = tuple(
            n for n in {**recorded, **given} if n not in recorded or n not in given or recorded[n] != given[n]
        )
        shown = "; ".join(f"{n} was {recorded.get(n)!r:.80}, is {given.get(n)!r:.80}" for n in names)
        reason = f"exists with other arguments ({shown}): give this call another id or key"
        return RunConflictError(row.id, reason, names)

    def close(self, run: OpenRun) -> None:
        """Stop owning a run."""
        if run.log.number:
            run.journal.release(run.row.lock, run.log.holder)
        detach(run)
        _open_runs.discard(run)
        threads.end(run)
        if self._keeper is not None:
            self._keeper.look(run.journal)

    # -- runs that are there ----------------------------------------------------------------------------------------

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
            return self._reopen(asked, row), arguments
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

    def _arguments(self, journal: Journal, row: RunRow) -> tuple[str, dict[str, Any]]:
        """Return what a run was called with, as text and as values."""
        with legible(journal, row.id):
            text = journal.entries(row.number)[0].arguments or "{}"
            return text, dict(self.codec.decode(text))

    def hold_back(self, run_id: str, times: int) -> BaseException | None:
        """Leave a run to a person if it was interrupted this often at one step; return what says so, `None` if not.

        Raises:
            RunLockedError: Somebody has it.
        """
        journal = self.journal()
        tenure = Tenure()
        reason = scope = None
        try:
            row, _ = claim(tenure, journal, self._row(run_id, journal))
            entries = journal.entries(row.number)
            scope = self._load(None, row, journal, entries=entries)
            if interruptions(entries) >= times and scope.status in {Status.OPEN, Status.COMPENSATING}:
                queue(scope, Kind.TAKEN, owner())
                self._watch(scope)
                self.drivers[0](leave_to_a_person(scope, times))
        except Stop as stop:
            reason = stop.reason
        finally:
            tenure.end()
            if scope is not None:
                detach(scope.run)
        return reason

    def rehearse(self, run_id: str, request: Request) -> DryRun:
        """Say what a request to compensate would do."""
        journal = self.journal()
        scope = self._load(None, self._row(run_id, journal), journal)
        _open_runs.discard(scope.run)
        with legible(journal, scope.run.id):
            return rehearse(scope, request, self.codec)

    def compensate_without_body(self, run_id: str, request: Request | None = None, *, is_async: bool = False) -> Any:
        """Compensate a run whose saga this program does not have, or cannot run, by functions found by their names.

        It is to be awaited if the saga is known to be async, or if one of them is.
        """
        opened, _ = self.reopen(None, run_id, request)
        return self.compensate_scope(opened.scope, run_id, is_async=is_async)

    def compensate_scope(self, scope: Scope | None, run_id: str, *, is_async: bool = False) -> Any:
        """Compensate a run by what is bound of it or found by names, and let it go; return it, or what gives it."""
        steps = [] if scope is None else map(Slot.compensating_step, scope.owed())
        if is_async or any(spec is not None and spec.compensates_async for spec in steps):
            return self._acompensate(scope, run_id)
        if scope is None:
            return self.find(run_id)
        try:
            supply(scope, self.provided)
            self.drivers[0](settle(scope, None, None, pauses=False))
        except Stop as stop:
            if not isinstance(stop.reason, SuspendedError):  # as far back as was asked
                raise stop.reason from None
        finally:
            self.close(scope.run)
        return self.find(run_id)

    async def _acompensate(self, scope: Scope | None, run_id: str) -> Run:
        """Compensate without a body where a compensation is to be awaited; a run without a scope is compensated."""
        if scope is None:
            return self.find(run_id)
        try:
            await asupply(scope, self.provided)
            await self.drivers[1](settle(scope, None, None, pauses=False))
        except Stop as stop:
            if not isinstance(stop.reason, SuspendedError):  # as above
                raise stop.reason from None
        finally:
            self.close(scope.run)
        return self.find(run_id)

    def cancel(self, run_id: str) -> Run:
        """Ask that a run be cancelled; return it as it then is. See `Run.cancel`."""
        journal = self.journal()
        while True:
            row = self._row(run_id, journal)
            run = self._run(row, journal)
            letter = Letter(0, row.number, self.clock(), Cause.CANCEL, told_owner())
            if not is_to_cancel(run, journal.name) or journal.post(letter):  # else it has finished since
                return self.find(row.id)

    def _row(self, run_id: str, journal: Journal) -> RunRow:
        rows = journal.runs(id=run_id) or journal.runs(prefix=run_id)
        ids = {row.id for row in rows}
        if len(ids) == 1:
            return rows[-1]
        if not ids:
            raise RunConflictError(run_id, f"is not in {journal.name}; sagadsl.runs() lists those that are")
        raise RunConflictError(run_id, f"is the beginning of several: {', '.join(sorted(ids)[:8])}; give more of it")

    def find(self, run_id: str) -> Run:
        """Return a run by its id, or by a beginning of it that only one run has.

        Raises:
            RunConflictError: There is none, or several.
        """
        journal = self.journal()
        return self._run(self._row(run_id, journal), journal)

    def runs(
        self,
        *,
        saga: str | None = None,
        status: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> list[Run]:
        """Return the runs in the store, the newest first and at most *limit*: of one saga, status, or since a time.

        Raises:
            UsageError: There is no such status; beside those of :class:`Status` there is ``"interrupted"``.
        """
        if status is not None and status not in LISTED:
            msg = f"runs(status=...) takes one of {', '.join(LISTED)}, not {status!r}"
            raise UsageError(msg)
        checked_since(since, "runs")
        journal = self.journal()
        rows = [
            row
            for row in reversed(journal.runs(saga=saga, unfinished=status is not None and status not in TERMINAL))
            if (since is None or as_time(row.started) >= since) and not (status in TERMINAL and row.finished is None)
        ]
        found = (
            run
            for run in self._listed(rows, journal)
            if status is None or run.status == status or (status == "interrupted" and run.is_interrupted)
        )
        return Runs(islice(found, limit))

    def _listed(self, rows: list[RunRow], journal: Journal) -> Iterator[Run]:
        """Yield runs, but for what is damaged: unfinished ones whole, ended ones without what a list does not show."""
        for start in range(0, len(rows), PAGE):
            page = rows[start : start + PAGE]
            outlines = journal.outlines([row.number for row in page if row.finished is not None])
            for row in page:
                try:
                    found = outlines.get(row.number)
                    yield self._run(row, journal) if found is None else self._outlined(row, found, journal)
                except JournalError as error:
                    log.warning("%s is left out: %s", row.id, str(error))
                except RunConflictError:  # it was pruned since its row was read
                    continue

    def _outlined(self, row: RunRow, found: Outline, journal: Journal) -> Run:
        root = Scope(None, None, row.saga, "")  # type: ignore[arg-type]  # nobody asks it for its run
        with legible(journal, row.id):
            for entry in found.entries:
                root.apply(entry)
            facts = outline(root, self.codec) | self._facts_of(row, found.entries)
        others = {"parent": None, "is_live": False, "_runtime": self, "_journal": journal, "_row": row}
        return Run.outlined(found, facts | others)

    def as_listed(self, row: RunRow, seq: int) -> Run:
        """Return a run as it was when this was its last entry."""
        return self._run(row, self.journal(), seq)

    def _run(self, row: RunRow, journal: Journal, seq: int | None = None, entries: list[Entry] | None = None) -> Run:
        entries = journal.entries(row.number)[:seq] if entries is None else entries
        scope = self._load(None, row, journal, entries=entries)
        _open_runs.discard(scope.run)
        is_live = journal.is_held(row.lock)
        with legible(journal, row.id):
            facts = describe(scope, self.codec) | self._facts_of(row, entries)
            told_of_saga = facts_of(entries[0].definition or "{}")
            module, is_block = told_of_saga.get("module", ""), "block" in told_of_saga
            facts["arguments"] = stored_arguments(entries[0].arguments, self.codec)
            facts["cancel_requested"] = row.finished is None and any(
                letter.seq is None and letter.kind == Cause.CANCEL for letter in journal.letters(row.number)
            )
        return Run(**facts, is_live=is_live, runtime=self, journal=journal, module=module, is_block=is_block)

    def _facts_of(self, row: RunRow, entries: list[Entry]) -> dict[str, Any]:
        owner = process_of(owner_of(entries))
        return {"id": row.id, "generation": row.generation, "program": row.program, "owner": owner}

    def prune(
        self,
        *,
        older_than: float | timedelta | None = None,
        status: str | None = None,
        keep: int | None = None,
        dry_run: bool = False,
    ) -> tuple[str, ...]:
        """Forget runs that have ended, so that the file shrinks; return their ids, oldest first.

        Only what is completed or compensated goes, a run with its earlier generations; what is open, paused, waiting,
        compensating or owes a compensation never does, nor what a living process has. With a run goes what a later
        compensation of it would need; and a key that was pruned is a new one: a call of it is done again, with the
        idempotency keys that it had.

        Args:
            older_than: Those that ended longer ago than this, in seconds or as a `timedelta`.
            status: Those that are ``"completed"``, or ``"compensated"``.
            keep: Not the newest of them, this many. What several of these keep stays if one of them does.
            dry_run: Forget nothing.

        Raises:
            UsageError: Neither *older_than* nor *keep* says how far to go.
        """
        age = older_than if older_than is None or isinstance(older_than, timedelta) else timedelta(seconds=older_than)
        limits = [(checked_status(status), limit) for limit in (age, keep) if limit is not None]
        for _, limit in limits:
            checked_keep(limit)
        if not limits:
            msg = "prune() takes older_than= (seconds or a timedelta), keep= (how many of the newest), or both"
            raise UsageError(msg)
        return prune(self.journal(), limits, self.clock(), is_tried=dry_run)

    def stats(self, *, saga: str | None = None, since: datetime | None = None) -> Stats:
        """Count the runs in the store, those of one saga, or started since a time; steps, attempts, times and faults.

        Raises:
            UsageError: *since* is no time with a time zone.
            JournalError: The store cannot be read.
        """
        from sagadsl._core.upkeep.counting import counted  # noqa: PLC0415  # on first use

        checked_since(since, "stats")
        return counted(self.journal(), saga, since)

    @property
    def upkeep(self) -> Upkeep:
        """The store as a file: to be examined, backed up, exported from and imported into."""
        journal = self.journal()
        return Upkeep(journal, lambda row, entries: self._run(row, journal, entries=entries))

    def info(self, run: OpenRun) -> Run:
        """Return the run as it stands in the journal now."""
        return self._run(run.row, run.journal)


def checked_since(since: Any, asked: str) -> None:
    """Refuse what is no time that everybody understands.

    Raises:
        UsageError: It has no time zone, or is no time.
    """
    if since is not None and (not isinstance(since, datetime) or since.tzinfo is None):
        msg = f"{asked}(since=...) takes a time with a time zone, as datetime.now(UTC), not {since!r}"
        raise UsageError(msg)


def unstorable_argument(step: str, why: Unstorable) -> NotStorableError:
    """Return what to say of an argument that cannot be stored."""
    return NotStorableError(step, "argument", why.type, why.path, why.reason)


_open_runs: weakref.WeakSet[OpenRun] = weakref.WeakSet()


def _after_fork() -> None:
    """In a forked child: the parent's runs are not ours, and their saga bodies are not being run here."""
    threads.forget()
    for run in list(_open_runs):
        run.halt(RunLostError(run.id))
    _open_runs.clear()
    CURRENT.set(None)


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)


default_runtime = Runtime()
