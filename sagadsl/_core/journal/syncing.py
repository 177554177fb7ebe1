"""Who makes a commit survive a loss of power, and how: by a sync of the write-ahead log.

SQLite does, within the commit, where a connection is told ``synchronous = full``. A step's intent has to be durable and
its outcome need not be, so the connection would be told twice a step, and each time compiles a statement. Where Python
has the call that SQLite would make, ``fdatasync``, the connection is told ``normal`` once, and the log is synced here,
after the commit. What SQLite then recovers is the same: all that is in the log, up to the last commit in it.

Two differences. Others may see an entry a moment before it is durable; its owner goes on after that moment. And nobody
is kept from writing meanwhile, for the log is no longer locked.

The log holds none of SQLite's locks, which closing a file would drop; and it stays the same file as long as a
connection is open. Where it cannot be opened, SQLite syncs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import partial


class LogFile:
    """The write-ahead log of the database at *path*, to be synced; `sync` raises what the system says.

    Raises:
        OSError: It cannot be opened.
    """

    __slots__ = ("_descriptor", "sync")

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(f"{os.path.realpath(path)}-wal", os.O_RDONLY | os.O_CLOEXEC)
        self.sync: Callable[[], None] = partial(os.fdatasync, self._descriptor)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._descriptor)


def opened_log(log_file: Callable[[str], LogFile], path: str) -> LogFile | None:
    """Return the log of a file that SQLite has opened, `None` where only SQLite can."""
    try:
        return log_file(path)
    except OSError:
        return None


IS_OURS = hasattr(os, "fdatasync")
"""Whether the log is synced here: macOS, for one, has another call, and leaves it to SQLite."""
