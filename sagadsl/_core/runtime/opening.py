"""What a call of a saga means, given what is in the store: a new run, one that was left, a value, or an error.

Nothing is written here: a new run's row goes into the commit of its first entry, so a program that only looks leaves no
trace. That a run was taken over is written once its record has come again; only a living owner is overtaken here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack, cast

from sagadsl._core import threads
from sagadsl._core.codec import Codec, Unstorable
from sagadsl._core.definition import SagaSpec, facts_of, key_of
from sagadsl._core.describe import (
    beside_line,
    describe,
    differing_arguments,
    legible,
    resuming_line,
    stored_arguments,
    stuck,
)
from sagadsl._core.drive import Drivers, when_settled
from sagadsl._core.drive.entries import tell
from sagadsl._core.flow import completed, in_place
from sagadsl._core.history import restore
from sagadsl._core.journal import Fenced, Journal, Log, Overtaken
from sagadsl._core.observers import Draw, Observer, Watcher, attach, detach, kept_in, sorted_out
from sagadsl._core.observers.events import Events
from sagadsl._core.observers.progress import Progress
from sagadsl._core.ownership import Tenure, claim, hold, locked, owner
from sagadsl._core.provided import PROVIDED, Provided
from sagadsl._core.registry import registry
from sagadsl._core.runtime.deciding import obey_first, queue
from sagadsl._core.runtime.opened import Asked, Opened
from sagadsl._core.scope import CURRENT, Scope
from sagadsl._core.scope.outlined import outline_of
from sagadsl._core.scope.slot import OpenRun
from sagadsl._core.session import SESSION
from sagadsl._core.settings import (
    DURABILITY,
    NO_OPTIONS,
    Options,
    absolute_store,
    checked_choice,
    checked_flag,
    checked_progress,
    checked_size,
    checked_store,
    default_store,
)
from sagadsl._core.state import ENDED
from sagadsl._core.values import Cause, Entry, Kind, RunRow, Status
from sagadsl._core.values.outlines import Outline
from sagadsl.errors import JournalError, RunConflictError, RunLostError, UsageError

if TYPE_CHECKING:
    from sagadsl._core.upkeep.pruning import Keep, Keeper

log = logging.getLogger("sagadsl")


def _microseconds() -> int:
    return time.time_ns() // 1000


CODEC = Codec()
EVENTS = Events()


class Settings(TypedDict, total=False):
    """What `configure` takes."""

    store: str | os.PathLike[str] | Journal | None
    durability: Literal["process", "power", "power-strict"]
    resume: Literal["arguments", "key", "never"]
    on_failure: Literal["compensate", "pause"]
    keep: Keep | None
    compress_above: int | None
    observers: Iterable[Observer]
    progress: Literal["auto", "plain", "off"] | Draw


class Opening:
    """The half of a `Runtime` that opens runs: its store, its rules, its clock."""

    durability: str
    resume: str
    on_failure: str
    codec: Codec
    observers: tuple[Callable[[Entry], None], ...]
    _store: Any
    _keeper: Any
    _watchers: tuple[Watcher, ...]
    _progress: Progress

    def __init__(
        self,
        store: Any = None,
        *,
        durability: str = "power",
        resume: str = "arguments",
        on_failure: str = "compensate",
        keep: Keep | None = None,
        compress_above: int | None = None,
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
        for name, function in {"clock": clock, "sleep": sleep, "asleep": asleep, "jitter": jitter}.items():
            if function is not None and not callable(function):
                msg = f"{name}= takes a function, not {function!r:.80}"
                raise UsageError(msg)
        self.clock, self.jitter = clock, jitter
        self._plain_codec = codec or CODEC
        self._settle(
            store=store, durability=durability, resume=resume, on_failure=on_failure,
            keep=keep, compress_above=compress_above, observers=observers, progress=progress,
        )  # fmt: skip
        self.provided = PROVIDED if provide is None else Provided(provide)
        self._read_only = checked_flag("read_only", read_only)
        drivers = Drivers(sleep, asleep)
        self.drive, self.adrive, self.do = drivers.drive, drivers.adrive, in_place
        self._journals: dict[Any, Journal] = {}
        self._told: set[tuple[str, int]] = set()

    def configure(self, **settings: Unpack[Settings]) -> None:
        """Change settings for the calls that follow; what is not given stays as it is.

        Args:
            settings: *store* (``":memory:"`` is a new and empty one each time, as each test wants it; `None` is the
                default place), *durability*, *resume*, *on_failure*, *keep*, *compress_above*, *observers* and
                *progress*, with the values that `Runtime` takes.

        Raises:
            UsageError: A setting or its value is unknown; then none of them is changed.
        """
        self._settle(**settings)
        if settings.get("store") == ":memory:":
            self._journals.pop(":memory:", None)

    def _settle(self, **settings: Any) -> None:
        """Check settings, and take them on together."""
        changes: dict[str, Any] = {}
        for name, value in settings.items():
            match name:
                case "store":
                    changes["_store"] = absolute_store(value)
                case "durability" | "resume" | "on_failure":
                    changes[name] = checked_choice(name, value, is_last=True)
                case "keep":
                    changes["_keeper"] = self._keeper_of(value)
                case "compress_above":
                    changes["codec"] = self._codec_of(value)
                case "observers":
                    changes["observers"], changes["_watchers"] = sorted_out(value)
                case "progress":
                    changes["_progress"] = Progress(checked_progress(value))
                case _:
                    msg = f"configure() has no setting {name!r}; it takes {', '.join(Settings.__annotations__)}"
                    raise UsageError(msg)
        self.__dict__.update(changes)

    def _keeper_of(self, keep: Any) -> Keeper | None:
        """Return what prunes the runs that are not kept, `None` if all are."""
        if keep is None:
            return None
        from sagadsl._core.upkeep.pruning import Keeper, checked_keep

        return Keeper(checked_keep(keep), self.clock)

    def _codec_of(self, compress_above: Any) -> Codec:
        """Return what turns values into text, large results compressed if that is asked for."""
        above = checked_size("compress_above", compress_above)
        if above is None:
            return self._plain_codec
        from sagadsl._core.codec.compressing import Compressing

        return Compressing(self._plain_codec, above)

    def at(self, journal: Journal) -> Self:
        """Return this runtime with another journal as its store."""
        if self._store is journal:
            return self
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._store = journal
        return other

    def journal(self, store: Any = None) -> Journal:
        """Return the journal of *store*, by default this runtime's own.

        A name leads to the same file ever after, wherever the program's working directory is by then: in another one
        the call of a key would be a new run, and its effects would be had twice.
        """
        store = self._store if store is None else store
        if store is None:
            store = default_store()
        if isinstance(store, str | os.PathLike):
            name = os.fspath(store)
            if name not in self._journals:  # of several threads that come first, all get the same
                self._journals.setdefault(name, self._memory() if name == ":memory:" else self._file(Path(name)))
            return self._journals[name]
        journal: Journal = checked_store(store)
        return journal

    def _memory(self) -> Journal:
        from sagadsl._core.journal.memory import MemoryJournal

        return MemoryJournal()

    def _file(self, path: Path) -> Journal:
        from sagadsl._core.journal.sqlite import SqliteJournal  # two milliseconds of every import

        path = path.absolute()
        if str(path) in self._journals:  # by another of its names
            return self._journals[str(path)]
        if not self._read_only and not path.exists() and path.parent.is_dir():
            log.info("journal %s is new", path)
        return self._journals.setdefault(str(path), SqliteJournal(path, read_only=self._read_only))

    # -- opening ----------------------------------------------------------------------------------------------------

    def chosen(self, setting: str, options: Options, spec: SagaSpec | None) -> Any:
        """Return what a call says, else its saga, else this runtime: its *resume*, *on_failure* or *durability*."""
        return getattr(options, setting) or getattr(spec, setting, None) or getattr(self, setting)

    def open(self, spec: SagaSpec, stored: dict[str, Any], options: Options, tenure: Tenure | None = None) -> Opened:
        """Say what a call of a saga means, outside of any other saga; what it holds is held in the name of *tenure*.

        Raises:
            SagaError: The call cannot be honoured; the message says what to do.
        """
        try:
            arguments = self.codec.encode(stored)
        except Unstorable as why:
            raise why.error(spec.name, "argument") from None
        asked = Asked(spec, options, self.journal(), arguments, self.codec.identity(arguments), tenure or Tenure())
        return self._open(asked, self._id(spec, stored, options))

    def _open(self, asked: Asked, run_id: str | None) -> Opened:
        spec = asked.spec
        if run_id is not None:
            return self._open_named(asked, run_id)
        if self.chosen("resume", asked.options, spec) == "arguments":
            opened = self._adopt(asked)
            if opened is not None:
                return opened
        return self._new(asked, f"{spec.name}/{os.urandom(6).hex()}")

    def _id(self, spec: SagaSpec, stored: dict[str, Any], options: Options) -> str | None:
        named = options.run_of(spec.name)
        if named is not None or spec.key is None:
            return named
        return f"{spec.name}/{key_of(spec.key, stored, spec.name)}"

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
        options = asked.options
        if row.finished is None and not options.steal and self.chosen("resume", options, asked.spec) == "never":
            raise RunConflictError(
                run_id, "is unfinished, and resume='never' forbids a call to go on with it; resume it"
            )
        return self._reopen(asked, row)

    def _reopen(self, asked: Asked, row: RunRow, *, is_call: bool = True) -> Opened:
        """Say what a call means if its run exists; what is no call names that run, and means no other."""
        scope = self._load(asked.spec, row, asked.journal) if row.finished is not None else None
        if scope is None or scope.status not in ENDED:  # whatever its row says, the entries count
            scope = self._take(asked, row)
        if scope.status is Status.COMPLETED:
            with legible(asked.journal, row.id):
                return Opened(ended=completed(scope), run=scope.run, record=scope)
        if scope.status is not Status.COMPENSATED:
            return Opened(scope)
        if scope.cause in {Cause.REQUEST, Cause.CANCEL} and not asked.options.rerun:
            done = "cancelled" if scope.cause == Cause.CANCEL else "compensated on request"
            raise RunConflictError(row.id, f"was {done}; using(rerun=True) runs it afresh")
        if not (is_call or asked.options.rerun):
            reason = "is compensated already; there is nothing to go on with. A call of its saga runs it afresh"
            raise RunConflictError(row.id, reason)
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
                if scope.status in ENDED:
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
        """Fold a run that this process has taken over, and the entry that says so."""
        scope = self._load(asked.spec, row, asked.journal, asked.options)
        if scope.status is Status.COMPENSATION_FAILED:
            raise stuck(scope)
        if scope.status in ENDED:
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
        """Adopt the oldest run that an earlier call of this program left with equal arguments.

        Raises:
            RunLockedError: The call was interrupted in this process, and what it left in a thread has not ended.
        """
        spec, journal = asked.spec, asked.journal
        for row in journal.runs(saga=spec.name, digest=asked.digest, unfinished=True):
            if row.program != spec.program:
                continue
            is_leaving = (journal.name, row.id) in leaving
            held = hold(asked.tenure, journal, row)
            if held is None and is_leaving:
                if not asked.options.steal:
                    raise locked(journal, row)
                return Opened(self._take(asked, row))
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
        """Warn of an unfinished run of this program, beside which a call without a key begins another one.

        It is said once of each unfinished run: a loop over a thousand calls is no reason for a thousand lines.
        """
        if asked.spec.program.startswith(SESSION):
            return  # nobody runs its cells from the top
        for row in asked.journal.runs(unfinished=True):
            if (asked.journal.name, row.number) in self._told:
                return
            if (row.saga, row.arguments_digest) == (asked.spec.name, asked.digest):
                continue  # whoever has it, or must decide about it, was asked or named before
            if row.program == asked.spec.program and not asked.journal.is_held(row.lock):
                self._told.add((asked.journal.name, row.number))
                log.warning(self._beside(asked, row), extra={"run": row.id})
                return

    def _beside(self, asked: Asked, row: RunRow) -> str:
        """Say of an unfinished run that a call begins another one beside it."""
        scope, differing, is_block = None, {}, False
        with contextlib.suppress(JournalError):  # what is wrong with that run is for whoever goes on with it
            entries = asked.journal.entries(row.number)
            scope = self._load(None, row, asked.journal, entries=entries)
            open_runs.discard(scope.run)
            is_block = "block" in facts_of(entries[0].definition or "{}")
            if row.saga == asked.spec.name:
                differing = differing_arguments(self._arguments(asked.journal, row)[0], asked.arguments, self.codec)
        return beside_line(row, scope, asked.spec.name, differing, asked.journal.name, is_block=is_block)

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
        """Ask each watcher whether it looks at this run, which this process opens or goes on with."""
        watchers = [*(each for each in (EVENTS, self._progress) if each.looks()), *self._watchers]
        if watchers:
            from sagadsl._core.values.seen import RunInfo

            run, opening = scope.run, scope.run.opening
            assert opening is not None  # noqa: S101  # a run has entries, or is being opened
            with legible(run.journal, run.id):
                facts = describe(scope, self.codec) | self._facts_of(run.row, outline_of(scope))
                facts["kept"] = kept_in(opening)
                arguments = stored_arguments(opening.arguments, self.codec)
                attach(run, watchers, RunInfo(**facts, arguments=arguments, is_live=True))

    def _open_run(self, spec: SagaSpec | None, row: RunRow, journal: Journal, at: Log, options: Options) -> OpenRun:
        run = OpenRun(
            row=row,
            journal=journal,
            log=at,
            codec=self.codec,
            clock=self.clock,
            jitter=self.jitter,
            drive=self.drive,
            adrive=self.adrive,
            do=self.do,
            step_of=registry.step_of,
            redefined=registry.redefined,
            full=DURABILITY[self.chosen("durability", options, spec)],
            observers=self.observers,
            notifies=spec is not None and spec.notify is not None,
        )
        open_runs.add(run)
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
            run.notifies = run.notifies or (spec is None and "notify" in facts_of(entries[0].definition or "{}"))
        scope.spec = spec
        return scope

    def untold(self, spec: SagaSpec, row: RunRow, tenure: Tenure) -> Scope | None:
        """Lock and load an ended run whose ``notify`` is owed.

        `None`: another process has it, or has notified meanwhile; or it is the run of another module's saga.
        """
        journal = self.journal()
        held = hold(tenure, journal, row)
        if held is None or held.untold is None:
            return None
        scope = self._load(spec, held, journal)
        open_runs.discard(scope.run)
        scope.run.log.holder = tenure
        opening = scope.run.opening
        assert opening is not None  # noqa: S101  # it was read
        return scope if facts_of(opening.definition or "{}").get("module") == spec.module else None

    def _announce(self, scope: Scope) -> None:
        """Say which run goes on, how old it is, and what is tried again: one line."""
        with legible(scope.run.journal, scope.run.id):
            line = resuming_line(scope, self.clock())
        log.warning(line, extra={"run": scope.run.id})

    def _arguments(self, journal: Journal, row: RunRow) -> tuple[str, dict[str, Any]]:
        """Return what a run was called with, as text and as values."""
        with legible(journal, row.id):
            text = journal.entries(row.number)[0].arguments or "{}"
            return text, dict(self.codec.decode(text))

    def _facts_of(self, row: RunRow, told: Outline) -> dict[str, Any]:
        return {
            "id": row.id,
            "generation": row.generation,
            "program": row.program,
            "owner": told.owner,
            "notify_owed": row.untold is not None,
        }

    def _other_arguments(self, row: RunRow, asked: Asked) -> RunConflictError:
        told = differing_arguments(self._arguments(asked.journal, row)[0], asked.arguments, self.codec)
        reason = f"exists with other arguments ({'; '.join(told.values())}): give this call another id or key"
        return RunConflictError(row.id, reason, tuple(told))

    def leave(self, scope: Scope) -> None:
        """Stop owning a run as soon as nothing of it is under way: now, or when a thread of it ends.

        Whoever had it, this is how it is let go: nothing may follow while a function of it still runs.
        """
        leaving.add((scope.run.journal.name, scope.run.id))
        when_settled(scope, partial(self._let_go, scope.run))

    def _let_go(self, run: OpenRun) -> None:
        """Stop owning a run of which nothing is under way."""
        if run.log.number:
            run.journal.release(run.row.lock, run.log.holder)
        detach(run)
        open_runs.discard(run)
        leaving.discard((run.journal.name, run.id))
        threads.end(run)
        if self._keeper is not None:
            self._keeper.look(run.journal)


open_runs: weakref.WeakSet[OpenRun] = weakref.WeakSet()
leaving: set[tuple[str, str]] = set()
"""Runs whose call is over, by journal and id: they are let go when nothing of them is under way any more."""


def _after_fork() -> None:
    """In a forked child: the parent's runs are not ours, and their saga bodies are not being run here.

    A step that forks may be left by both: what came of it is the parent's to say.
    """
    threads.forget(in_body=type(CURRENT.get()) is Scope)
    for run in list(open_runs):
        run.halt(RunLostError(run.id, os.getppid()))
        run.journal = cast("Journal", Fenced(run.journal))
        if run.company is not None:  # what tasks have handed in is written by one of them
            run.company.journal = run.journal
    open_runs.clear()
    leaving.clear()
    CURRENT.set(None)


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
