"""The journal's file as it is opened: made private and with a write-ahead log, known to be ours and of this version.

Nothing is written to a file that is not: another program's, a newer version's, one in which somebody planted a trigger.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sagadsl._core.schema import APPLICATION_ID, EXPECTED, VERSION, migrate, planted
from sagadsl.errors import JournalError

PATIENCE: Final = 30.0
"""Seconds to wait for another process that is writing."""

SMALLEST: Final = 512
"""Bytes; no SQLite database is smaller, and SQLite takes what is for an empty one."""

NO_LOG: Final = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})
"""What SQLite says where it may read a file and make no log: on a read-only file system, or in such a folder."""

CURES: Final = {
    sqlite3.SQLITE_NOTADB: "this file is no SQLite database; name another with store=",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore a backup, or `sqlite3 FILE .recover`",
    sqlite3.SQLITE_FULL: "free some space, then run the program again: it goes on where it stopped",
    sqlite3.SQLITE_BUSY: f"another program held the file for more than {PATIENCE:g} s",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable",
    sqlite3.SQLITE_CANTOPEN: "see that the file and its folder are readable and writable for this user",
    sqlite3.SQLITE_IOERR: "the disk or a limit on the file's size refused; see to it, then run the program again",
}


def explained(name: str, error: Exception) -> JournalError:
    """Return what SQLite's, Python's or the system's *error* means for who uses the file *name*, and what helps."""
    cure = CURES.get(code_of(error), "nothing was lost; the run can go on once it is mended")
    return JournalError(name, f"{error}: {cure}")


def code_of(error: BaseException | None) -> int:
    """Return what SQLite calls an error, its own, Python's or the system's; 0 where it has no name for it."""
    if isinstance(error, OSError):
        return sqlite3.SQLITE_FULL if error.errno in {errno.ENOSPC, errno.EDQUOT} else sqlite3.SQLITE_IOERR
    code: int = getattr(error, "sqlite_errorcode", 0) & 0xFF
    is_text = not code and "decode" in str(error)  # Python's own error: bytes that are no text
    return sqlite3.SQLITE_CORRUPT if is_text else code


class File:
    """The file *path*, to be opened with *connect*: only to be read, or made and brought up to date as well."""

    def __init__(self, path: Path, read_only: bool, connect: Callable[..., sqlite3.Connection]) -> None:  # noqa: FBT001
        self.path, self.name = path, str(path)
        self.read_only, self.connect = read_only, connect
        self._seen: list[tuple[int, ...]] | None = None

    @property
    def is_taken_for_still(self) -> bool:
        """Tell whether it was opened as one that nobody writes to, so that a connection sees nothing newer."""
        return self._seen is not None

    def has_moved(self) -> bool:
        """Tell whether somebody has written to what was taken for still: then it is to be opened anew."""
        return self._seen is not None and self._seen != self._look()

    def open(self) -> sqlite3.Connection:
        """Return a connection.

        Raises:
            JournalError: It cannot be opened, or is not ours; what to do about it is in the message.
        """
        if not os.path.isdir(self.path.parent):  # noqa: PTH112  # Path.is_dir raises
            raise JournalError(self.name, f"the folder {self.path.parent} does not exist: create it, or name another")
        if not self.read_only:
            self._create(self.path)
        if not os.path.isfile(self.path):  # noqa: PTH113  # as above
            self._see_what_it_is()
        elif 0 < os.path.getsize(self.path) < SMALLEST:  # noqa: PTH202  # as above
            raise JournalError(self.name, CURES[sqlite3.SQLITE_NOTADB])  # SQLite would write over it
        try:
            return self._opened()
        except sqlite3.Error as error:
            raise explained(self.name, error) from error

    def _create(self, path: str | Path) -> None:
        """Make a private file, if nothing is there."""
        try:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except OSError as error:
            reason = f"cannot be created ({error.strerror}): name another, in a writable folder"
            raise JournalError(self.name, reason) from error

    def _see_what_it_is(self) -> None:
        """Refuse a folder; where a link leads to no file yet, make it there."""
        if os.path.isdir(self.path):  # noqa: PTH112  # as above
            raise JournalError(self.name, "is a folder: name a file in it")
        if os.path.islink(self.path) and not self.read_only:  # noqa: PTH114  # as above
            self._create(os.path.realpath(self.path))

    def _opened(self) -> sqlite3.Connection:
        address = self.path.as_uri()
        if not self.read_only:
            return self._prepared(f"{address}?mode=rw")
        seen = self._look()  # before it is opened, so that what is written meanwhile has moved it
        try:
            return self._prepared(f"{address}?mode=ro")
        except sqlite3.OperationalError as error:
            if code_of(error) not in NO_LOG or os.path.exists(f"{self.path}-wal"):  # noqa: PTH110
                raise
        self._seen = seen
        return self._prepared(f"{address}?mode=ro&immutable=1")  # SQLite cannot make its log, and nobody has made one

    def _look(self) -> list[tuple[int, ...]]:
        """Return what the file and its log, where there is one, are like from outside."""
        found: list[tuple[int, ...]] = []
        for name in (self.path, f"{self.path}-wal"):
            with contextlib.suppress(OSError):
                facts = os.stat(name)  # noqa: PTH116  # as above
                found.append((facts.st_ino, facts.st_size, facts.st_mtime_ns))
        return found

    def _prepared(self, address: str) -> sqlite3.Connection:
        connection = self.connect(address, uri=True, isolation_level=None, timeout=PATIENCE, check_same_thread=False)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Set the connection's rules, and see that the file is ours and of this version."""
        connection.execute("pragma trusted_schema = off")
        version = self._version(connection)
        if version == VERSION:
            self._refuse_planted(connection)
        if self.read_only:
            if not version:
                raise JournalError(self.name, self._emptiness())
            if version < VERSION:
                reason = (
                    f"is of an older sagadsl (schema {version}): the next saga that writes to it brings it up to date"
                )
                raise JournalError(self.name, reason)
            return
        if self._write_ahead(connection, is_new=not version) != "wal":
            raise JournalError(self.name, "its file system cannot hold a write-ahead log: use a local disk")
        connection.execute("pragma journal_size_limit = 67108864")
        if sys.platform == "darwin":  # a plain fsync there does not reach the disk
            connection.execute("pragma fullfsync = 1")  # pragma: no cover
        if version < VERSION:
            migrate(connection)
            self._refuse_planted(connection)

    def _emptiness(self) -> str:
        """Say of a file without tables what it may be: its log has everything that was written of late."""
        if not os.path.getsize(self.path):  # noqa: PTH202  # as above
            return "is empty: no saga has written to it yet; name another with --db or store="
        return (
            "holds no run: no saga has written to it yet, or it is a copy without the -wal file that was beside the "
            "original, where the runs are; copy that again, with `sagadsl backup`"
        )

    def _refuse_planted(self, connection: sqlite3.Connection) -> None:
        what = planted(connection)
        if what is not None:
            is_ours = what.partition(" ")[2] in EXPECTED  # or should be: that is not to be dropped
            mending = "restore a backup" if is_ours else "if you made that, drop it, else restore a backup"
            reason = (
                f"its schema is not that of sagadsl ({what}): nothing was written; {mending}, or name another file "
                "with store="
            )
            raise JournalError(self.name, reason)

    def _write_ahead(self, connection: sqlite3.Connection, *, is_new: bool) -> str:
        """Switch to the write-ahead log, a new file to one that can shrink; return the mode that the file then has.

        While another process creates the file SQLite refuses the switch at once, whatever the timeout; a transaction
        waits for it, so that the next try finds the switch done.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if is_new:
                    connection.execute("pragma auto_vacuum = incremental")
                return str(connection.execute("pragma journal_mode = wal").fetchone()[0])
            except sqlite3.OperationalError as error:
                if code_of(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            connection.execute("begin immediate")
            connection.execute("rollback")

    def _version(self, connection: sqlite3.Connection) -> int:
        connection.execute("begin")  # one look: another process may be creating the file
        application = connection.execute("pragma application_id").fetchone()[0]
        version = int(connection.execute("pragma user_version").fetchone()[0])
        objects = connection.execute("select count(*) from sqlite_schema").fetchone()[0]
        connection.execute("commit")
        if application != APPLICATION_ID or not version:
            if application or objects:
                raise JournalError(self.name, "is another program's database: name a file of its own with store=")
            return 0
        if version > VERSION:
            raise JournalError(
                self.name, f"was written by a newer sagadsl (schema {version}, this one reads {VERSION}): upgrade it"
            )
        return version
