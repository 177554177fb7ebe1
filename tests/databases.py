"""The databases that transactions are tested on: connections of each kind, and a PostgreSQL server of one's own."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy
from psycopg import sql
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

INSTALL = "These tests need a PostgreSQL server of their own, and none is installed. Debian: apt-get install postgresql"


def program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs; Debian keeps them out of the way."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *map(str, places)]))
    assert found, INSTALL
    return str(Path(found).resolve())


@contextmanager
def server() -> Iterator[str]:
    """Run a PostgreSQL server in a folder that nobody else sees; give the folder of its socket.

    It refuses to be root, so root runs it as the user that its package made.
    """
    initdb, pg_ctl = program("initdb"), program("pg_ctl")
    folder = Path(tempfile.mkdtemp(prefix="sagadsl-pg-", dir="/tmp"))  # a socket's path is short
    user: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL}
    if os.geteuid() == 0:
        found = pwd.getpwnam("postgres")
        os.chown(folder, found.pw_uid, found.pw_gid)
        user |= {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    data, log = folder / "data", folder / "log"
    options = f"-k {folder} -c listen_addresses= -c fsync=off -c shared_buffers=16MB -c max_connections=40"
    try:
        subprocess.run([initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N"], check=True, **user)
        subprocess.run([pg_ctl, "-D", data, "-l", log, "-w", "-o", options, "start"], check=True, **user)
        try:
            yield str(folder)
        finally:
            subprocess.run([pg_ctl, "-D", data, "-m", "immediate", "-w", "stop"], check=True, **user)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


SQLITE_OPTIONS: dict[str, Any] = {}
ENGINE_OPTIONS: dict[str, Any] = {}
"""What a test adds to how connections are made."""


class AlwaysOpen(sqlite3.Connection):
    """What ``autocommit=False`` means from Python 3.12 on, for those before: a transaction is open at all times."""

    autocommit = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, isolation_level=None, **kwargs)
        self.execute("BEGIN")

    def commit(self) -> None:
        self.execute("COMMIT")
        self.execute("BEGIN")

    def rollback(self) -> None:
        self.execute("ROLLBACK")
        self.execute("BEGIN")


class Database:
    """A database with a table ``paid`` of items (once `created`), seen through connections of one *kind*."""

    placeholder = "?"

    def __init__(self, kind: str, place: str) -> None:
        self.kind, self.place = kind, place
        self.is_async = "Async" in kind
        self.commits_by_itself = kind.endswith(("None", "autocommit"))

    def created(self) -> Database:
        """Make the table."""
        self.change("create table paid (item text)")
        return self

    def change(self, statement: str) -> None:
        """Execute a statement, past what is tested."""
        raise NotImplementedError

    def select(self, statement: str) -> list[Any]:
        """Return rows, past what is tested."""
        raise NotImplementedError

    def open(self) -> Any:
        """Return a connection of the kind, or an awaitable of it."""
        raise NotImplementedError

    @property
    def paid(self) -> list[str]:
        """Return what has been paid."""
        return [item for (item,) in self.select("select item from paid order by item")]

    @property
    def landed(self) -> dict[str, str | None]:
        """Return what the marker table says, by what follows the run's id in a key."""
        found = self.select("select key, result from sagadsl_landed order by key")
        return {key.partition("/")[2].partition("/")[2]: result for key, result in found}

    def write(self, connection: Any, statement: str, *values: str) -> Any:
        """Execute a statement in a step, or return an awaitable that does."""
        marks = ", ".join([self.placeholder] * len(values))
        return connection.execute(statement.format(marks), values)

    def pay(self, connection: Any, item: str) -> Any:
        """Have the effect."""
        return self.write(connection, "insert into paid values ({})", item)

    def unpay(self, connection: Any, item: str) -> Any:
        """Undo it, once for each time it happened."""
        return self.write(connection, "insert into paid values ({})", f"-{item}")

    def commit(self, connection: Any) -> Any:
        """Commit, as a body must not."""
        return connection.commit()

    def call(self, function: Any, *args: Any) -> Any:
        """Call a saga with a connection of its own, opened where it is used."""
        if not self.is_async:
            connection = self.open()
            try:
                return function(connection, *args)
            finally:
                connection.close()

        async def main() -> Any:
            connection = await self.open()
            try:
                return await function(connection, *args)
            finally:
                await connection.close()
                await self.disposed()

        return asyncio.run(main())

    async def disposed(self) -> None:
        """Close what an async connection leaves open."""


class SqliteFile(Database):
    """A SQLite file."""

    def change(self, statement: str) -> None:
        with closing(sqlite3.connect(self.place, isolation_level=None)) as connection:
            connection.execute(statement)

    def select(self, statement: str) -> list[Any]:
        with closing(sqlite3.connect(self.place, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()

    def open(self) -> Any:
        kind = self.kind.partition(" ")[2]
        if kind == "always open" and not hasattr(sqlite3.Connection, "autocommit"):
            return sqlite3.connect(self.place, factory=AlwaysOpen, **SQLITE_OPTIONS)
        if kind == "always open":
            return sqlite3.connect(self.place, autocommit=False, **SQLITE_OPTIONS)
        return sqlite3.connect(self.place, isolation_level=None if kind == "None" else kind, **SQLITE_OPTIONS)


class Postgres(Database):
    """A schema in the tests' PostgreSQL; *place* is its connection string."""

    placeholder = "%s"

    def change(self, statement: str) -> None:
        with psycopg.connect(self.place, autocommit=True) as connection:
            connection.execute(statement)

    def select(self, statement: str) -> list[Any]:
        with psycopg.connect(self.place, autocommit=True) as connection:
            return connection.execute(statement).fetchall()

    def open(self) -> Any:
        cls = psycopg.AsyncConnection if self.is_async else psycopg.Connection
        return cls.connect(self.place, autocommit="autocommit" in self.kind)


class Alchemy(Database):
    """SQLAlchemy, over one of the others."""

    def __init__(self, kind: str, under: Database) -> None:
        self.under, self.engines = under, []
        self.is_sqlite, self.commits_by_itself = isinstance(under, SqliteFile), False
        self.kind, self.place, self.is_async = kind, under.place, "Async" in kind

    def change(self, statement: str) -> None:
        self.under.change(statement)

    def select(self, statement: str) -> list[Any]:
        return self.under.select(statement)

    @property
    def url(self) -> Any:
        if self.is_sqlite:
            return f"sqlite{'+aiosqlite' if self.is_async else ''}:///{self.place}"
        return "postgresql+psycopg://"

    @property
    def options(self) -> dict[str, Any]:
        connect = SQLITE_OPTIONS if self.is_sqlite else psycopg.conninfo.conninfo_to_dict(self.place)
        return ENGINE_OPTIONS | {"connect_args": connect} | {"poolclass": sqlalchemy.pool.NullPool}

    def open(self) -> Any:
        if not self.is_async:
            engine = sqlalchemy.create_engine(self.url, **self.options)
            return Session(engine) if "Session" in self.kind else engine.connect()
        return self.aopen()

    async def aopen(self) -> Any:
        engine = create_async_engine(self.url, **self.options)
        self.engines.append(engine)
        return AsyncSession(engine) if "Session" in self.kind else await engine.connect()

    async def disposed(self) -> None:
        while self.engines:
            await self.engines.pop().dispose()

    def write(self, connection: Any, statement: str, *values: str) -> Any:
        names = [f"value{at}" for at in range(len(values))]
        marks = ", ".join(f":{name}" for name in names)
        text = sqlalchemy.text(statement.format(marks))
        return connection.execute(text, dict(zip(names, values, strict=True)))


SQLITE = ("sqlite3 None", "sqlite3 ", "sqlite3 DEFERRED", "sqlite3 always open")
POSTGRES = ("Connection", "Connection autocommit", "AsyncConnection", "AsyncConnection autocommit")
ALCHEMY = ("SA Connection", "SA Session", "SA AsyncConnection", "SA AsyncSession")
KINDS = (*SQLITE, *POSTGRES, *(f"{kind} on {under}" for kind in ALCHEMY for under in ("sqlite", "postgres")))


def schema(socket: str, name: str) -> str:
    """Make a schema of its own in the server behind a socket; return how to connect to it."""
    whole = f"host={socket} user=postgres dbname=postgres"
    with psycopg.connect(whole, autocommit=True) as connection:
        connection.execute(sql.SQL("create schema {}").format(sql.Identifier(name)))
    return f"{whole} options='-c search_path={name}'"


def made(kind: str, path: Path, place: str) -> Database:
    """Return a database of a kind: a file at *path*, or in the PostgreSQL at *place*."""
    if kind.startswith("SA"):
        is_sqlite = kind.endswith("sqlite")
        return Alchemy(kind, SqliteFile("sqlite3 None", str(path)) if is_sqlite else Postgres("Connection", place))
    return SqliteFile(kind, str(path)) if kind in SQLITE else Postgres(kind, place)
