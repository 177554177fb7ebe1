"""SQLAlchemy's ``Connection``, ``Session``, ``AsyncConnection`` and ``AsyncSession``, over SQLite or PostgreSQL.

A transaction is SQLAlchemy's own object, so whether the body ended it is seen by asking for it again; what the body
does past SQLAlchemy is found out as for the bare connections. The async ones run the same adapter through their
``run_sync``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from sagadsl._core.landed import marker


@cache
def spelled(statement: str) -> tuple[Any, tuple[str, ...]]:
    """Return a statement with named values, and their names in order."""
    names = ("first", "second")[: statement.count("{}")]
    return sqlalchemy.text(statement.format(*(f":{name}" for name in names))), names


class Sqlalchemy:
    """The adapter of a ``Connection`` or a ``Session``, here the *target*."""

    is_async = False

    def __init__(self, target: Any) -> None:
        self._target = target
        self._is_session = hasattr(target, "flush")
        self._transaction: Any = None
        self._connection: Any = None

    @property
    def settle(self) -> str:
        """The statement that writes a result."""
        return marker.SETTLE if self._is_sqlite else marker.SETTLE_POSTGRESQL

    @property
    def _is_sqlite(self) -> bool:
        return bool(self._connection.dialect.name == "sqlite")

    def begin(self) -> bool:
        """Begin, unless there is a transaction, of the session or of the connection that it is bound to."""
        bound: Any = getattr(self._target, "bind", None)
        if self._target.in_transaction() or (hasattr(bound, "in_transaction") and bound.in_transaction()):
            return False
        self._transaction = self._target.begin()
        self._connection = self._target.connection() if self._is_session else self._target
        if not self._is_sqlite and getattr(self._connection.connection.dbapi_connection, "autocommit", False):
            raise autocommitting()
        return True

    def execute(self, statement: str, *values: str) -> tuple[int, Any]:
        """Execute on the connection, which flushes nothing."""
        text, names = spelled(statement)
        with self._connection.execute(text, dict(zip(names, values, strict=True))) as result:
            return result.rowcount, result.first() if result.returns_rows else None

    def guard(self) -> None:
        """Set a savepoint, where that is how an end by other means is found out."""
        if self._is_sqlite:
            if not self._connection.connection.driver_connection.in_transaction:
                raise autocommitting()
            self._connection.exec_driver_sql("SAVEPOINT sagadsl")

    def is_unbroken(self) -> bool:
        """Ask for the transaction again, with what the session holds back written to it."""
        if self._target.get_transaction() is not self._transaction or not self._transaction.is_active:
            return False
        if self._is_session:
            self._target.flush()
        if self._is_sqlite:
            try:
                self._connection.exec_driver_sql("RELEASE sagadsl")
            except SQLAlchemyError:
                return False
        return True

    def commit(self) -> None:
        """Commit."""
        self._target.commit()
        self._transaction = None

    def rollback(self) -> None:
        """Roll back what was begun here; where the connection is lost, there is nothing to roll back."""
        begun, self._transaction = self._transaction is not None, None
        if begun:
            with suppress(SQLAlchemyError):
                self._target.rollback()


class AsyncSqlalchemy:
    """The adapter of an ``AsyncConnection`` or ``AsyncSession``: the other one, where SQLAlchemy awaits for it."""

    is_async = True

    def __init__(self, target: Any) -> None:
        self._target = target
        self._sync = Sqlalchemy(getattr(target, "sync_session", None) or target.sync_connection)

    @property
    def settle(self) -> str:
        """The statement that writes a result."""
        return self._sync.settle

    def _run(self, method: Callable[..., Any], *values: str) -> Any:
        return self._target.run_sync(lambda _: method(*values))

    def begin(self) -> Any:
        """Begin."""
        return self._run(self._sync.begin)

    def execute(self, statement: str, *values: str) -> Any:
        """Execute on the connection."""
        return self._run(self._sync.execute, statement, *values)

    def guard(self) -> Any:
        """Set a savepoint."""
        return self._run(self._sync.guard)

    def is_unbroken(self) -> Any:
        """Ask for the transaction again."""
        return self._run(self._sync.is_unbroken)

    def commit(self) -> Any:
        """Commit."""
        return self._run(self._sync.commit)

    def rollback(self) -> Any:
        """Roll back."""
        return self._run(self._sync.rollback)


def autocommitting() -> marker.Refused:
    """Return what to say of a connection whose transactions are none."""
    return marker.Refused(
        "has the isolation level AUTOCOMMIT, where a transaction holds nothing together; choose another"
    )


def adapted(target: Any) -> Sqlalchemy | AsyncSqlalchemy:
    """Return the adapter of a connection or session."""
    return AsyncSqlalchemy(target) if hasattr(target, "run_sync") else Sqlalchemy(target)
