"""``psycopg.Connection`` and ``AsyncConnection``, in autocommit or not.

``connection.transaction()`` begins in either mode, and forbids ``commit()`` and ``rollback()`` while it is open; a
COMMIT in SQL is found out by the row, which knows the transaction that claimed it. Cursors are plain ones, whatever
factories the connection has.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from sagadsl._core.landed import marker

BUSY = {TransactionStatus.ACTIVE, TransactionStatus.INTRANS, TransactionStatus.INERROR}


class Psycopg:
    """The adapter of a ``psycopg.Connection``."""

    is_async = False
    settle = marker.SETTLE_POSTGRESQL

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._transaction: Any = None

    def begin(self) -> bool:
        """Begin."""
        if self._connection.info.transaction_status in BUSY:
            return False
        self._transaction = self._connection.transaction()
        self._transaction.__enter__()
        return True

    def execute(self, statement: str, *values: str) -> tuple[int, Any]:
        """Execute with a plain cursor."""
        cursor = psycopg.Cursor(self._connection, row_factory=tuple_row)
        cursor.execute(spelled(statement, values), values)
        return cursor.rowcount, cursor.fetchone() if cursor.description else None

    def guard(self) -> None:
        """Do nothing: the row knows."""

    def is_unbroken(self) -> bool:
        """Leave it to the row."""
        return True

    def commit(self) -> None:
        """Commit."""
        transaction, self._transaction = self._transaction, None
        transaction.__exit__(None, None, None)

    def rollback(self) -> None:
        """Roll back what was begun here."""
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            transaction.__exit__(psycopg.Rollback, psycopg.Rollback(), None)


class AsyncPsycopg:
    """The adapter of a ``psycopg.AsyncConnection``: the same, awaited."""

    is_async = True
    settle = marker.SETTLE_POSTGRESQL

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._transaction: Any = None

    async def begin(self) -> bool:
        """Begin."""
        if self._connection.info.transaction_status in BUSY:
            return False
        self._transaction = self._connection.transaction()
        await self._transaction.__aenter__()
        return True

    async def execute(self, statement: str, *values: str) -> tuple[int, Any]:
        """Execute with a plain cursor."""
        cursor = psycopg.AsyncCursor(self._connection, row_factory=tuple_row)
        await cursor.execute(spelled(statement, values), values)
        return cursor.rowcount, await cursor.fetchone() if cursor.description else None

    def guard(self) -> None:
        """Do nothing: the row knows."""

    def is_unbroken(self) -> bool:
        """Leave it to the row."""
        return True

    async def commit(self) -> None:
        """Commit."""
        transaction, self._transaction = self._transaction, None
        await transaction.__aexit__(None, None, None)

    async def rollback(self) -> None:
        """Roll back what was begun here."""
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            await transaction.__aexit__(psycopg.Rollback, psycopg.Rollback(), None)


def spelled(statement: str, values: tuple[str, ...]) -> bytes:
    """Return a statement as psycopg spells it; bytes are a query that no formatting of the user's has touched."""
    return statement.format(*["%s"] * len(values)).encode()


def adapted(connection: Any) -> Psycopg | AsyncPsycopg:
    """Return the adapter of a connection."""
    return AsyncPsycopg(connection) if isinstance(connection, psycopg.AsyncConnection) else Psycopg(connection)
