"""``sqlite3.Connection``, whatever its ``isolation_level`` or ``autocommit``: transactions are written out in SQL.

A savepoint set after the first write tells whether the transaction is still the same when the body has returned: a
commit, a rollback and ``executescript`` end it. Under ``autocommit=False`` (Python 3.12) the module keeps a transaction
open at all times; whether it is in use is asked through a checkpoint, the one statement that SQLite refuses to a
connection that has read or written in its transaction.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress

from sagadsl._core.landed import marker


class Sqlite:
    """The adapter of a ``sqlite3.Connection``."""

    is_async = False
    settle = marker.SETTLE

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._always = self._begun = False

    def begin(self) -> bool:
        """Begin, as a writer: one that has read first could be refused the write at once.

        Raises:
            Refused: The step runs in a thread, and the connection must not.
        """
        try:
            self._always = getattr(self._connection, "autocommit", None) is False
            if self._always:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                self._connection.execute("ROLLBACK")
            elif self._connection.in_transaction:
                return False
            self._begun = True
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_LOCKED:  # in use by its own connection; BUSY is by another
                return False
            raise
        except sqlite3.ProgrammingError as error:
            if "thread" not in str(error):
                raise
            msg = f"is of another thread (a timeout takes one): connect with check_same_thread=False: {error}"
            raise marker.Refused(msg) from error
        return True

    def execute(self, statement: str, *values: str) -> tuple[int, tuple[str | None] | None]:
        """Execute past the connection's own ideas of what a row or a text is."""
        cursor = self._connection.cursor()
        cursor.row_factory = None
        cursor.execute(statement.format(*"?" * len(values)), values)
        row = cursor.fetchone() if cursor.description else None
        if row is not None and isinstance(row[0], bytes):
            row = (row[0].decode(),)
        return cursor.rowcount, row

    def guard(self) -> None:
        """Set a savepoint."""
        self._connection.execute("SAVEPOINT sagadsl")

    def is_unbroken(self) -> bool:
        """Release the savepoint, if it is there; a connection that the body has closed has none either."""
        try:
            self._connection.execute("RELEASE sagadsl")
        except sqlite3.Error:
            return False
        return True

    def commit(self) -> None:
        """Commit; where a transaction is always open, with the module's own, which opens the next."""
        if self._always:
            self._connection.commit()
        else:
            self._connection.execute("COMMIT")
        self._begun = False

    def rollback(self) -> None:
        """Roll back what was begun here."""
        if not self._begun:
            return
        self._begun = False
        with suppress(sqlite3.ProgrammingError):  # it is closed
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if self._always:
                self._connection.execute("BEGIN")


def adapted(connection: sqlite3.Connection) -> Sqlite:
    """Return the adapter of a connection."""
    return Sqlite(connection)
