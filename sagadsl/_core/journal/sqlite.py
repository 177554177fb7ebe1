"""The journal in one SQLite file, shared by any number of threads and processes.

Rules of this room, each with a measurement behind it:

* ``isolation_level=None``, one autocommit INSERT an entry; ``BEGIN IMMEDIATE`` where a transaction is needed (a
  deferred one that reads, then writes, fails at once with SQLITE_BUSY_SNAPSHOT whatever the timeout).
* ``synchronous`` is switched between transactions only, and only when it differs: seldom, for an entry that is written
  by itself is synced by ``syncing``.
* What is written most has statements of its own: each value that is bound costs, a null too. The one whose result
  nobody asks for is executed by one cursor: making another costs as much as three values.
* The primary key is the fence: whoever was overtaken collides at its next entry.
* Never open or close the database or its ``-shm`` beside SQLite: closing any descriptor drops SQLite's own locks.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sqlite3
import struct
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from threading import get_ident, main_thread
from types import UnionType
from typing import Any, Final, TypeVar

from sagadsl._core.digests import blake2b
from sagadsl._core.journal import BEGINNINGS, BOUNDARIES, Letter, Log, Overtaken, Taken, Unread
from sagadsl._core.journal.file import File, explained
from sagadsl._core.journal.locks import locks_of
from sagadsl._core.journal.syncing import HAS_FDATASYNC, LogFile, opened_log
from sagadsl._core.journal.together import Ticket, Together
from sagadsl._core.values import Entry, Kind, RunRow
from sagadsl.errors import JournalError

T = TypeVar("T")

UNLESS_UNREAD: Final = "where not exists (select 1 from letters where number = ?1 and seq is null)"
INSERT: Final = "insert into entries values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_UNLESS_UNREAD: Final = (
    f"insert into entries select ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13 {UNLESS_UNREAD}"
)
BEGIN: Final = f"insert into entries select ?1, ?2, ?3, ?4, ?5, null, ?6, ?7, ?8, ?9, ?10, null, ?11 {UNLESS_UNREAD}"
"""What begins a call refers to none, and has no result yet."""
FOLLOW: Final = "insert into entries values (?, ?, ?, ?, ?, ?, ?, ?, null, ?, null, ?, ?)"
"""What follows has neither name nor arguments: those are where the call begins."""
REMOVE: Final = """delete from run where number in (select value from json_each(?)) and finished is not null
    and untold is null returning number"""
INCREMENTAL: Final = 2
"""What ``pragma auto_vacuum`` says of a file that can give free pages back a few at a time."""
STRIDE: Final = 1000
"""Pages given back in one transaction: some 4 MB, a few milliseconds."""
INSERT_RUN: Final = "insert into run values (null, ?, ?, ?, ?, ?, ?, ?, 0, null, null, null)"
FINISH: Final = "update run set finished = ?, outline = ?, outline_digest = ? where number = ?"
INSERT_LETTER: Final = (
    "insert into letters select null, ?1, ?2, ?3, ?4, null "
    "where exists (select 1 from run where number = ?1 and finished is null)"
)


class SqliteJournal:
    """A journal in the file *path*, which is made when something is first written.

    Args:
        path: The file; its folder must exist.
        read_only: Never write, not even a migration.
        connect: What opens the file: ``sqlite3.connect``, or a stand-in whose disk can be made to fail.
        log_file: What syncs the log of such a stand-in; without it SQLite does.

    Raises:
        JournalError: From any method, when the file cannot be opened, read or written.
    """

    connect: Callable[..., sqlite3.Connection] = staticmethod(sqlite3.connect)
    """What opens the file; who wants to know of each statement, or has another disk, gives another."""
    log_file: Callable[[str], LogFile] | None = LogFile if HAS_FDATASYNC else None
    """What syncs the log; where there is nothing, or it cannot be opened, SQLite does."""
    _connection: sqlite3.Connection | None = None
    _openings = 0
    _still: File | None
    _execute: Callable[..., sqlite3.Cursor]
    _statement: Callable[..., sqlite3.Cursor]
    _full: bool | None
    _log_file: LogFile | None
    _sync: Callable[[], None] | None
    _is_torn: bool

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        connect: Callable[..., sqlite3.Connection] | None = None,
        log_file: Callable[[str], LogFile] | None = None,
    ) -> None:
        self.path = path.absolute()
        self.name = str(self.path)
        if "\0" in self.name:
            raise JournalError(repr(self.name), "no file has a NUL in its name: name another")
        self._read_only = read_only
        if connect is not None:
            self.connect, self.log_file = connect, log_file
        self._locks = locks_of(Path(os.path.realpath(path)))  # by whatever name, one file has one owner a run
        self._guard = threading.RLock()
        self._together = Together(self.name, self._guard, self._write)
        self._main = main_thread().ident
        self._forget()
        _open_journals.add(self)

    # -- the hot path -----------------------------------------------------------------------------------------------

    def append(self, log: Log, entry: Entry, full: bool) -> None:  # noqa: FBT001  # a keyword costs
        """Write one entry at the log's next place."""
        if get_ident() == self._main:
            with self._guard:
                self._insert(log, entry, full)
        elif not self._together.waiting and self._guard.acquire(False):  # noqa: FBT003  # no Ctrl-C comes here
            try:
                self._insert(log, entry, full)
            finally:
                self._guard.release()
        else:
            self._together.submit(Ticket(log, (entry,), full))

    def _insert(self, log: Log, entry: Entry, full: bool | None = None) -> None:  # noqa: C901, FBT001  # in one piece
        """Write one entry in a transaction of its own, *full* or not; where that is not said, in the present one."""
        e, kind, name, told, result = entry, entry.kind, entry.name, entry.arguments, entry.result
        if log.is_turned and kind in BEGINNINGS:
            raise Unread
        e.number, e.seq = n, seq = log.number, log.seq + 1
        text = told if result is None else result if told is None else f"{told}\n{result}"
        digest = None if text is None else blake2b(text.encode(), digest_size=8).digest()
        word = kind._value_
        try:
            if full is not None and (full and self._sync is None) is not self._full:
                self._synchronous(full)
            if name is None and told is None and kind not in BOUNDARIES:
                self._statement(
                    FOLLOW, (n, seq, word, e.scope, e.step, e.ref, e.attempt, e.at, e.definition, result, digest)
                )
            elif name is not None and result is None and e.ref is None:
                done = self._execute(
                    BEGIN, (n, seq, word, e.scope, e.step, e.attempt, e.at, name, e.definition, told, digest)
                )
                if not done.rowcount:
                    raise Unread
            else:
                is_boundary = name is not None or kind in BOUNDARIES
                begun = (n, seq, word, e.scope, e.step, e.ref, e.attempt, e.at, name, e.definition)
                general = INSERT_UNLESS_UNREAD if is_boundary else INSERT
                done = self._execute(general, (*begun, told, result, digest))
                if is_boundary and not done.rowcount:
                    raise Unread
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
                raise Overtaken from None
            raise explained(self.name, error) from error
        log.seq = seq
        if full and self._sync is not None:
            try:
                self._sync()
            except (OSError, sqlite3.Error) as error:
                raise self._taken_back(log, error) from error

    # -- everything else --------------------------------------------------------------------------------------------

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
        """Write several entries at once, in one transaction."""
        ticket = Ticket(log, entries, full, row, finished, stolen, read, untold, outline)
        if get_ident() != self._main:
            self._together.submit(ticket)
            return
        with self._guard:
            self._commit([ticket])

    def write_together(self, tickets: list[Ticket]) -> None:
        """Write tickets that somebody has collected: then they are over, and each knows what came of it."""
        with self._guard:
            if len(tickets) != 1 or not tickets[0].is_plain:
                self._write(tickets)
                return
            (alone,) = tickets  # one statement, as in `append`
            try:
                self._insert(alone.log, alone.entries[0], alone.full)
            except Exception as error:  # noqa: BLE001  # raised where it is waited for
                alone.error = error
            alone.is_over = True

    def _write(self, tickets: list[Ticket]) -> None:
        """Write tickets in one transaction, or where that fails each in one of its own, for its own reason."""
        if len(tickets) > 1:
            with contextlib.suppress(Exception):
                self._commit(tickets)
                return
        for ticket in tickets:
            try:
                self._commit([ticket])
            except Exception as error:  # noqa: BLE001  # raised where it is waited for
                ticket.error, ticket.is_over = error, True

    def _commit(self, tickets: list[Ticket]) -> None:
        """Write tickets in one transaction; of several each is written whole or not at all.

        It is rolled back out here as well: a Ctrl-C may come where a ``with`` ends, and what stayed open would be read
        as if it were on record, and would keep what is written next from being so.
        """
        before = [(log.number, log.seq, log.is_turned) for log in (ticket.log for ticket in tickets)]
        full = any(ticket.full for ticket in tickets)
        try:
            with self._transaction(full):
                for ticket in tickets:
                    if len(tickets) == 1:
                        self._fill(ticket)
                    else:
                        self._fill_or_leave(ticket)
        except BaseException:
            self._roll_back()
            for ticket, state in zip(tickets, before, strict=True):
                self._unfill(ticket, *state)
                ticket.error = None
            raise
        for ticket in tickets:
            ticket.is_over = True

    def _fill_or_leave(self, ticket: Ticket) -> None:
        """Write a ticket that shares a transaction; what it collides with is its own affair."""
        log = ticket.log
        if ticket.is_plain:
            try:
                self._insert(log, ticket.entries[0])
            except (Overtaken, Unread) as error:
                ticket.error = error
            return
        before = log.number, log.seq, log.is_turned
        try:
            self._execute("savepoint ticket")
            self._fill(ticket)
            self._execute("release ticket")
        except (Overtaken, Taken, Unread) as error:
            self._execute("rollback to ticket")
            self._execute("release ticket")
            self._unfill(ticket, *before)
            ticket.error = error

    def _fill(self, ticket: Ticket) -> None:
        """Execute what a ticket asks for, in a transaction."""
        log = ticket.log
        if ticket.row is not None:
            self._open_run(log, ticket.row)
        for entry in ticket.entries:
            self._insert(log, entry)
        for letter in ticket.read:
            self._execute("update letters set seq = ? where letter = ?", (log.seq, letter.letter))
        if ticket.read and ticket.entries[-1].kind is Kind.COMPENSATING:
            log.is_turned = True
        if ticket.stolen:
            self._execute("update run set thefts = thefts + 1 where number = ?", (log.number,))
        if ticket.finished is not None:
            known = ticket.row.finished if ticket.row is not None else None  # of a run that comes from another store
            value = known or ticket.entries[-1].at if ticket.finished else None
            self._execute(FINISH, (value, ticket.outline, _digest(None, ticket.outline), log.number))
        elif ticket.outline is not None:
            values = (ticket.outline, _digest(None, ticket.outline), log.number)
            self._execute("update run set outline = ?, outline_digest = ? where number = ?", values)
        if ticket.untold is not None:
            self._execute("update run set untold = ? where number = ?", (1 if ticket.untold else None, log.number))

    def _unfill(self, ticket: Ticket, number: int, seq: int, is_turned: bool) -> None:  # noqa: FBT001
        """Forget what a ticket did that was rolled back."""
        if ticket.row is not None:
            self._locks.release(ticket.row.number, ticket.log.holder)
        ticket.log.number, ticket.log.seq, ticket.log.is_turned = number, seq, is_turned

    def _open_run(self, log: Log, row: RunRow) -> None:
        values = (row.id, row.generation, row.saga, row.program, row.arguments_digest, row.started, None)
        try:
            row.number = self._execute(INSERT_RUN, values).lastrowid or 0
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_UNIQUE:
                raise Taken from None
            raise
        if not self.hold(row.number, log.holder):
            raise Taken
        log.number = row.number

    def entries(self, number: int) -> list[Entry]:
        """Return the entries of a run, each checked against its digest."""
        rows = self._read("select * from entries where number = ? order by seq", (number,))
        found = []
        for values in rows:
            entry, kind = Entry(*values[:-1]), KINDS.get(values[2])
            if not is_entry(values) or values[-1] != _digest(entry.arguments, entry.result):
                raise JournalError(self.name, f"entry {entry.seq} of run number {number} is damaged: restore a backup")
            if kind is None:
                reason = f"entry {entry.seq} of run number {number} is a {entry.kind!r}, unknown here: upgrade sagadsl"
                raise JournalError(self.name, reason)
            entry.kind = kind
            found.append(entry)
        return found

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
        """Return the runs that fit, oldest first."""
        wanted = {
            "id = :id": id is not None,
            "substr(id, 1, length(:prefix)) = :prefix": prefix is not None,
            "saga = :saga": saga is not None,
            "arguments_digest = :digest": digest is not None,
            "finished is null": unfinished,
            "untold is not null": untold,
        }
        where = " and ".join(clause for clause, is_wanted in wanted.items() if is_wanted) or "true"
        values = {"id": id, "prefix": prefix, "saga": saga, "digest": digest}
        rows = self._read(f"select * from run where {where} order by number", values)  # noqa: S608  # all ours
        for row in rows:
            if not is_run(row) or not 0 <= row[8] < MOST_THEFTS:
                raise JournalError(self.name, f"the row of run {row[1]!r:.80} is damaged: restore a backup")
        return [RunRow(*row[:-1]) if row[-1] == _digest(None, row[-2]) else RunRow(*row[:-2]) for row in rows]

    def post(self, letter: Letter) -> bool:
        """Leave a letter for a run, unless that has finished: both in one look."""
        values = (letter.number, letter.at, letter.kind, letter.payload)
        with self._guard:
            try:
                with self._transaction(full=True):
                    done = self._execute(INSERT_LETTER, values)
                    letter.letter = done.lastrowid or 0 if done.rowcount else 0
            except BaseException:
                self._roll_back()
                raise
        return bool(letter.letter)

    def letters(self, number: int) -> list[Letter]:
        """Return the letters of a run, oldest first."""
        rows = self._read("select * from letters where number = ? order by letter", (number,))
        if not all(is_letter(row) for row in rows):
            raise JournalError(self.name, f"a letter to run number {number} is damaged: restore a backup")
        return [Letter(*row) for row in rows]

    def hold(self, lock: int, holder: object = None) -> bool:
        """Become the one owner of a run."""
        with self._explained_lock():
            return self._locks.hold(lock, holder)

    def release(self, lock: int, holder: object = None) -> None:
        """Stop being the owner of a run."""
        self._locks.release(lock, holder)

    def is_held(self, lock: int) -> bool:
        """Tell whether any living thread or process owns a run."""
        with self._explained_lock():
            return self._locks.is_held(lock)

    @contextlib.contextmanager
    def _explained_lock(self) -> Iterator[None]:
        try:
            yield
        except struct.error as error:
            raise JournalError(self.name, f"it says of a run what cannot be ({error}): restore a backup") from error
        except OSError as error:
            reason = f"its lock file cannot be used ({error.strerror}): make {self._locks.path} readable and writable"
            raise JournalError(self.name, reason) from error

    def remove(self, numbers: Collection[int]) -> list[int]:
        """Remove runs that have ended, in one transaction."""
        wanted = f"[{','.join(map(str, numbers))}]"
        with self._guard:
            try:
                with self._transaction(full=True):
                    gone = [number for (number,) in self._execute(REMOVE, (wanted,)).fetchall()]
                    for table in ("entries", "letters"):
                        of = "number in (select value from json_each(?))"
                        self._execute(f"delete from {table} where {of}", (f"{gone}",))  # noqa: S608  # all ours
            except BaseException:
                self._roll_back()
                raise
        return sorted(gone)

    def shrink(self) -> None:
        """Give free pages back, some at a time; a file that cannot do that is rewritten once, and then can."""
        try:
            with self._guard:
                if self._execute("pragma auto_vacuum").fetchone()[0] != INCREMENTAL:
                    self._execute("pragma auto_vacuum = incremental")
                    self._execute("vacuum")
                left = self._free_pages()
            while left:
                with self._guard:
                    self._execute(f"pragma incremental_vacuum({STRIDE})").fetchall()
                    left, before = self._free_pages(), left
                    if left >= before:  # somebody else frees them as fast
                        break
            with self._guard:
                self._execute("pragma wal_checkpoint(passive)").fetchall()
        except sqlite3.Error as error:
            raise explained(self.name, error) from error

    def _free_pages(self) -> int:
        return int(self._execute("pragma freelist_count").fetchone()[0])

    def connection(self) -> sqlite3.Connection:
        """Return the connection, opened, for what is not asked often: nothing is written through it."""
        with self._guard:
            if self._still is not None and self._still.has_moved():
                self.close()
            if self._connection is None:
                file = File(self.path, self._read_only, self.connect)
                connection = file.open()
                self._openings += 1
                if self.log_file is not None:
                    self._log_file = opened_log(self.log_file, connection)
                self._sync = None if self._log_file is None else self._log_file.sync
                if file.is_taken_for_still:
                    self._still = file  # what is asked goes on coming by here
                else:
                    self._execute, self._statement = connection.execute, connection.cursor().execute
                self._connection = connection  # last, for a Ctrl-C may come before
            return self._connection

    def version(self) -> int:
        """Return a number that is another one once others have written to the file."""
        with self._guard:
            version: int = self.connection().execute("pragma data_version").fetchone()[0]
            return (self._openings << 32) + version  # SQLite counts anew with each connection

    def again(self) -> SqliteJournal:
        """Return a journal of the same file, with a connection of its own."""
        return SqliteJournal(self.path, read_only=self._read_only, connect=self.connect, log_file=self.log_file)

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        with self._guard:
            if self._connection is not None:
                self._connection.close()
            self._forget()

    def __del__(self) -> None:
        """Close the connection of a journal that nobody has any more; Python 3.13 warns of one that is left to it."""
        if self._connection is not None:
            self._connection.close()

    # -- the connection ---------------------------------------------------------------------------------------------

    def query(self, sql: str, values: dict[str, Any]) -> list[Any]:
        """Return what SQL finds in the public views."""
        return self._read(sql, values)

    def _read(self, sql: str, values: tuple[Any, ...] | dict[str, Any]) -> list[Any]:
        if not self._exists():
            return []
        with self._guard:
            try:
                return self._execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise explained(self.name, error) from error

    @contextlib.contextmanager
    def _transaction(self, full: bool) -> Iterator[None]:  # noqa: FBT001
        try:
            if full and self._is_torn:
                self._renew()
            if full is not self._full:
                self._synchronous(full, in_commit=True)
            self._execute("begin immediate")
            yield
            self._execute("commit")
        except (sqlite3.Error, OSError, OverflowError) as error:  # a number that a damaged file made too large
            raise explained(self.name, error) from error

    def _roll_back(self) -> None:
        if self._connection is not None and self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("rollback")

    def _synchronous(self, full: bool, *, in_commit: bool = False) -> None:  # noqa: FBT001
        """Have SQLite sync what is committed next, or not: where it is to be *in_commit*, or nobody else does."""
        self.connection()  # which knows who does
        level = full and (in_commit or self._sync is None)
        self._full = None  # what it is then nobody knows, if a Ctrl-C comes now
        self._execute("pragma synchronous = full" if level else "pragma synchronous = normal")
        self._full = level

    def _taken_back(self, log: Log, error: Exception) -> JournalError:
        """Remove a log's last entry, which could not be synced: SQLite would not have written it. Return why.

        Where that fails too it stays, as if its owner had died just then.
        """
        self._is_torn, self._sync = True, self._renew
        with contextlib.suppress(sqlite3.Error):
            self._execute("delete from entries where number = ? and seq = ?", (log.number, log.seq))
            log.seq -= 1
        return explained(self.name, error)

    def _renew(self) -> None:
        """Bring the file itself up to date, so that its log begins anew.

        What the system once could not sync it forgets, and of a log with a hole nothing is recovered that comes later.

        Raises:
            OSError: Somebody reads the log all the time.
        """
        if self._execute("pragma wal_checkpoint(restart)").fetchone()[0]:
            raise OSError(errno.EBUSY, "a sync has failed, and the log is in use")
        assert self._log_file is not None  # noqa: S101  # it was it that failed
        self._is_torn, self._sync = False, self._log_file.sync

    def _exists(self) -> bool:
        return self._connection is not None or os.path.exists(self.path)  # noqa: PTH110  # Path.exists raises

    def _first_execute(self, *args: Any) -> sqlite3.Cursor:
        """Stand for ``execute`` until something is asked, and where the file is to be looked at each time."""
        return self.connection().execute(*args)

    def _forget(self) -> None:
        """Be as before anything was asked."""
        self._connection, self._execute, self._statement = None, self._first_execute, self._first_execute
        self._still = None
        self._full, self._log_file, self._sync, self._is_torn = None, None, None, False

    def after_fork(self) -> None:
        """In a forked child: leave the parent's connection alone, unclosed, and open another when asked."""
        _inherited.append(self._connection)
        self._guard = threading.RLock()
        self._together, self._main = Together(self.name, self._guard, self._write), main_thread().ident
        self._forget()


KINDS: Final = {str(kind): kind for kind in Kind}
MOST_THEFTS: Final = 1 << 22
"""What the place of a lock has room for, beside the run's number."""


def _shaped(*columns: type | UnionType) -> Callable[[tuple[Any, ...]], bool]:
    """Return what tells whether a row has columns of these types; a damaged file may say anything, whatever its tables.

    There are few ways in which rows differ, and each is looked at once.
    """

    @functools.cache
    def is_like(types: tuple[type, ...]) -> bool:
        return all(issubclass(each, column) for each, column in zip(types, columns, strict=True))

    return lambda row: is_like(tuple(map(type, row)))


is_run: Final = _shaped(*(int, str, int, str, str, str, int, int | None, int, int | None, str | None, bytes | None))
is_entry: Final = _shaped(
    *(int, int, str, int, str, int | None, int | None, int, str | None, str | None, str | None, str | None),
    bytes | None,
)
is_letter: Final = _shaped(int, int, int, str, str | None, int | None)


def _digest(arguments: str | None, result: str | None) -> bytes | None:
    """Digest the stored bytes: SQLite's pages carry no checksum of their own."""
    text = arguments if result is None else result if arguments is None else f"{arguments}\n{result}"
    if text is None:
        return None
    return blake2b(text.encode(), digest_size=8).digest()


_open_journals: weakref.WeakSet[SqliteJournal] = weakref.WeakSet()
_inherited: list[Any] = []


def _after_fork() -> None:
    for journal in _open_journals:
        journal.after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
