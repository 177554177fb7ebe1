"""How an entry that is written by itself survives a loss of power: by a sync of the write-ahead log, after its commit.

SQLite syncs within a commit where a connection is told ``synchronous = full``. A step's intent has to be durable and
its outcome need not be, so the connection would be told twice a step, and each time compiles a statement. Where Python
has the call that SQLite would make, ``fdatasync``, it is told ``normal``, and the log is synced here. SQLite recovers
all that is in the log up to the last commit, whoever synced it. What is written in a transaction of several statements
(a run's opening, its end, what many tasks write together) is left to SQLite, and so is everything where the log cannot
be opened.

Two differences. Others may see an entry a moment before it is durable; its owner goes on after that moment. And no
other process is kept from writing meanwhile, for the log is no longer locked.

The log holds none of SQLite's locks, which closing a file would drop; and it stays the same file as long as a
connection is open.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from typing import Final

HAS_FDATASYNC: Final = hasattr(os, "fdatasync") and sys.platform != "darwin"
"""On macOS only another call reaches the disk, which SQLite knows."""


class LogFile:
    """The write-ahead log of the database at *path*, to be synced; `sync` raises what the system says.

    Raises:
        OSError: It cannot be opened.
    """

    __slots__ = ("_descriptor", "sync")

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        self.sync: Callable[[], None] = partial(os.fdatasync, self._descriptor)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._descriptor)


def opened_log(log_file: Callable[[str], LogFile], connection: sqlite3.Connection) -> LogFile | None:
    """Return the log of the file that a connection has, by the name that SQLite gives it; `None` if only SQLite can."""
    try:
        return log_file(connection.execute("pragma database_list").fetchone()[2])
    except OSError:
        return None
