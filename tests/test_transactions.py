"""A step in a transaction: its effect and the row that says so are in the user's database together, or neither is.

The judge is the user's database, read past the library. Each rule holds for each kind of connection.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import threading
from contextlib import closing
from contextvars import copy_context
from typing import Any

import psycopg
import pytest
import sqlalchemy

import sagadsl
from sagadsl import Compensation, CompensationError, Kind, Live, NotStorableError, StepTimeout, UsageError
from sagadsl._core.effects import Do
from sagadsl._core.flow import attempt, handed_over
from sagadsl._core.journal.sqlite import SqliteJournal
from sagadsl._core.landed import marker, to_the_end
from sagadsl._core.registry import registry
from tests import databases
from tests.conftest import Colour
from tests.properties.test_engine_seam import act, drain

SCHEMAS = itertools.count(1)


@pytest.fixture
def place(postgres):
    """Give a schema of its own, as a connection string."""
    return databases.schema(postgres, f"test{next(SCHEMAS)}")


@pytest.fixture(params=databases.KINDS)
def database(request, tmp_path):
    """Give each kind of connection in turn, to a database with a table of payments."""
    uses_postgres = request.param in databases.POSTGRES or request.param.endswith("postgres")
    place = request.getfixturevalue("place") if uses_postgres else ""
    return databases.made(request.param, tmp_path / "shop.db", place).created()


class Cut(BaseException):
    """The end of a process, for a test: nothing of the library's may follow it."""


class Knife:
    """A journal whose process ends before an entry of a kind is written."""

    def __init__(self, path, kind):
        self.journal, self.kind, self.reached = SqliteJournal(path), kind, False

    def __getattr__(self, name):
        return getattr(self.journal, name)

    def append(self, log, entry, full):
        if entry.kind is self.kind:
            self.reached = True
            raise Cut
        self.journal.append(log, entry, full)

    def commit(self, log, entries, **options):
        assert self.kind not in [entry.kind for entry in entries]
        self.journal.commit(log, entries, **options)


class Shop:
    """A saga of two steps: a payment in a transaction of the database, then one that may fail; *world* sees bodies."""

    def __init__(self, database, world):
        self.database, self.world = database, world
        self.colour = Colour(is_async=database.is_async)
        self.inside = lambda db: None
        self.result = lambda item: f"paid {item}"
        self.runs = 0

    def saga(self, runtime, *, fails=False, **options):
        """Return the saga, as a process would define it that uses *runtime*."""
        database, world, shop = self.database, self.world, self

        def refund(db: Live[Any], item: str, result: object = "nobody knows"):
            world.add(f"-{item}:{str(result).replace(' ', '_')}")
            yield database.unpay(db, item)

        @self.colour.step(**{"compensate": self.colour.coloured(refund), "transaction": "db"} | options)
        def pay(db: Live[Any], item: str):
            world.add(item)
            yield database.pay(db, item)
            yield shop.inside(db)
            return shop.result(item)

        @self.colour.step(compensate=None)
        def ship() -> None:
            if fails:
                raise ConnectionError("no lorry")

        @self.colour.saga(runtime=runtime, key="k", name="order")
        def order(db: Live[Any], item: str):
            result = yield pay(db, item)
            yield ship()
            return result

        return order

    def call(self, runtime, item="lamp", **options):
        """Call the saga with a connection of its own."""
        return self.database.call(self.saga(runtime, **options), item)

    def compensate(self, runtime, **options):
        """Call the saga's failing twin, whatever it has done: it compensates."""
        return self.call(runtime, fails=True, **options)


@pytest.fixture
def shop(database, world):
    """Give the saga that pays."""
    return Shop(database, world)


def status(runtime):
    (run,) = runtime.runs()
    return run.status, [(step.name, step.status) for step in run.steps]


# -- what lands --------------------------------------------------------------------------------------------------------


def test_the_effect_and_the_row_that_says_so_are_committed_together(shop, database, runtime):
    """The result comes back as the copy that was stored; the connection is left as it was."""
    shop.result = lambda item: (item, 1)
    assert shop.call(runtime) == ("lamp", 1)
    assert database.paid == ["lamp"]
    assert database.landed == {"pay": '{"$tuple":["lamp",1]}'}
    assert shop.call(runtime) == ("lamp", 1)
    assert shop.world == ["lamp"]


def test_what_the_body_notes_lands_with_its_result(shop, database, runtime):
    """It is recorded beside the result in both places."""
    shop.inside = lambda db: sagadsl.current().note("in cash")
    assert shop.call(runtime) == "paid lamp"
    assert [step.note for step in runtime.runs()[0].steps] == ["in cash", None]


def test_a_compensation_that_takes_the_connection_lands_likewise(shop, database, runtime):
    """With a key of its own."""
    with pytest.raises(ConnectionError, match="no lorry"):
        shop.call(runtime, fails=True)
    assert database.paid == ["-lamp", "lamp"]
    assert database.landed == {"pay": '"paid lamp"', "pay/compensation": "null"}
    assert shop.world == ["lamp", "-lamp:paid_lamp"]


def test_a_compensation_that_does_not_take_it_is_an_ordinary_one(shop, database, runtime, world):
    """Nothing says that it would be of that database."""
    with pytest.raises(ConnectionError):
        shop.call(runtime, fails=True, compensate=lambda item: world.add(f"-{item}"))
    assert (database.paid, set(database.landed)) == (["lamp"], {"pay"})
    assert world == ["lamp", "-lamp"]


def test_a_method_whose_compensation_is_a_method_lands_with_it(database, runtime):
    """A compensation gets its ``self`` by name, as it gets all it takes."""
    colour = Colour(is_async=database.is_async)

    class Till:
        def __init__(self, name: str) -> None:
            self.name = name

        def refund(self, db: Any, item: str):
            yield database.unpay(db, f"{item}@{self.name}")

        def pay(self, db: Live[Any], item: str):
            yield database.pay(db, f"{item}@{self.name}")

        def sell(self, db: Live[Any], item: str):
            yield self.pay(db, item)
            raise ConnectionError("no lorry")

        pay = colour.step(pay, compensate=colour.coloured(refund), transaction="db", name="pay")
        sell = colour.saga(sell, runtime=runtime, name="sell")

    with pytest.raises(ConnectionError, match="no lorry"):
        database.call(Till("left").sell, "lamp")
    assert database.paid == ["-lamp@left", "lamp@left"]
    assert database.landed == {"pay": "null", "pay/compensation": "null"}
    assert status(runtime) == ("compensated", [("pay", "compensated")])


def test_a_body_that_raises_leaves_nothing(shop, database, runtime):
    """Its attempt has certainly failed; the next one pays once."""
    tries = []

    def inside(db):
        tries.append(1)
        if len(tries) == 1:
            raise OSError("no answer")

    shop.inside = inside
    assert shop.call(runtime, retries=1) == "paid lamp"
    assert (database.paid, len(tries)) == (["lamp"], 2)


def test_a_step_that_failed_is_not_owed_its_compensation(shop, database, runtime):
    """Nothing of it is there."""

    def inside(db):
        raise OSError("no answer")

    shop.inside = inside
    with pytest.raises(OSError, match="no answer"):
        shop.call(runtime)
    assert (database.paid, database.landed) == ([], {})
    assert shop.world == ["lamp"]


@pytest.mark.parametrize("made", [threading.Lock, lambda: asyncio.sleep(0)], ids=["lock", "coroutine"])
def test_a_result_that_cannot_be_stored_does_not_land(shop, database, runtime, made):
    """So there is nothing to compensate; and it is not tried again."""
    shop.result = lambda item: made()
    with pytest.raises(NotStorableError, match=r"pay: result at \$ of type"):
        shop.call(runtime, retries=3)
    assert (database.paid, database.landed) == ([], {})
    assert shop.world == ["lamp"]
    assert status(runtime) == ("compensated", [("pay", "failed")])


# -- what a kill cannot undo -------------------------------------------------------------------------------------------


def killed_before(kind, shop, make_runtime, tmp_path, **options):
    """Call the saga in a process that ends before an entry is written."""
    knife = Knife(tmp_path / "sagas.db", kind)
    with pytest.raises(Cut):
        shop.call(make_runtime(store=knife), **options)
    assert knife.reached


def test_a_step_killed_after_its_commit_is_not_entered_again(shop, database, make_runtime, tmp_path):
    """The row says what it returned."""
    killed_before(Kind.DONE, shop, make_runtime, tmp_path)
    assert database.paid == ["lamp"]
    assert shop.call(make_runtime()) == "paid lamp"
    assert database.paid == shop.world == ["lamp"]


def test_a_step_killed_after_its_commit_is_compensated_with_its_result(shop, database, make_runtime, tmp_path):
    """Nothing about it is uncertain."""
    killed_before(Kind.DONE, shop, make_runtime, tmp_path)
    runtime = make_runtime()
    with pytest.raises(ConnectionError):
        shop.compensate(runtime)
    assert database.paid == ["-lamp", "lamp"]
    assert shop.world == ["lamp", "-lamp:paid_lamp"]
    assert status(runtime) == ("compensated", [("pay", "compensated"), ("ship", "failed")])


def test_a_step_killed_before_its_commit_has_not_happened(shop, database, make_runtime):
    """It is entered again, and pays once."""

    def inside(db):
        raise Cut

    shop.inside = inside
    with pytest.raises(Cut):
        shop.call(make_runtime())
    shop.inside = lambda db: None
    assert database.paid == []
    assert shop.call(make_runtime()) == "paid lamp"
    assert database.paid == ["lamp"]
    assert shop.world == ["lamp", "lamp"]


def test_an_interruption_leaves_the_connection_as_it_was(shop, database, runtime):
    """The same program can go on with it."""

    def inside(db):
        raise Cut

    def twice(db, item):
        def calls():
            shop.inside = inside
            with pytest.raises(Cut):
                yield shop.saga(runtime)(db, item)
            shop.inside = lambda db: None
            return (yield shop.saga(runtime)(db, item))

        return shop.colour.coloured(calls)()

    assert database.call(twice, "lamp") == "paid lamp"
    assert database.paid == ["lamp"]
    assert shop.world == ["lamp", "lamp"]


@pytest.mark.parametrize("kind", ["AsyncConnection", "SA AsyncSession on postgres"])
def test_a_step_whose_cancellation_the_body_survives_has_not_happened(kind, place, tmp_path, world, runtime):
    """When the run fails later, the row says that nothing is owed."""
    database = databases.made(kind, tmp_path, place).created()

    async def refund(db: Live[Any], item: str) -> None:
        world.add("never")

    @sagadsl.step(compensate=refund, transaction="db")
    async def pay(db: Live[Any], item: str) -> None:
        await database.pay(db, item)
        world.add("lamp")
        entered.set()
        await asyncio.Event().wait()

    @sagadsl.saga(runtime=runtime)
    async def order(db: Live[Any], item: str) -> None:
        task = asyncio.create_task(pay(db, item))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        raise LookupError

    entered = asyncio.Event()
    with pytest.raises(LookupError):
        database.call(order, "lamp")
    assert (database.paid, world) == ([], ["lamp"])
    assert status(runtime) == ("compensated", [("pay", "not_landed")])


def test_a_step_that_fails_after_a_kill_is_not_owed_anything(shop, database, make_runtime):
    """Neither attempt has left a row, so neither has happened."""
    errors = [Cut(), OSError("no answer")]

    def inside(db):
        raise errors.pop(0)

    shop.inside = inside
    with pytest.raises(Cut):
        shop.call(make_runtime())
    runtime = make_runtime()
    with pytest.raises(OSError, match="no answer"):
        shop.call(runtime)
    assert (database.paid, errors) == ([], [])
    assert shop.world == ["lamp", "lamp"]
    assert status(runtime) == ("compensated", [("pay", "failed")])


def test_a_compensation_killed_after_its_commit_is_not_entered_again(shop, database, make_runtime, tmp_path):
    """Its own row says so."""
    killed_before(Kind.COMPENSATION_DONE, shop, make_runtime, tmp_path, fails=True)
    assert database.paid == ["-lamp", "lamp"]
    runtime = make_runtime()
    with pytest.raises(ConnectionError):
        shop.call(runtime, fails=True)
    assert database.paid == ["-lamp", "lamp"]
    assert shop.world == ["lamp", "-lamp:paid_lamp"]
    assert status(runtime)[0] == "compensated"


# -- whose transaction it is -------------------------------------------------------------------------------------------


def test_a_connection_that_is_in_a_transaction_is_refused(shop, database, runtime):
    """The step would return before its own commit; what the user has begun is theirs to end."""

    def saga(db, item):
        run = shop.saga(runtime)

        def outer():
            if database.commits_by_itself:
                yield database.write(db, "begin")
            yield database.pay(db, "outer")
            with pytest.raises(UsageError, match="pay: transaction='db' is in a transaction already"):
                yield run(db, item)
            yield database.commit(db)

        return shop.colour.coloured(outer)()

    database.call(saga, "lamp")
    assert database.paid == ["outer"]
    assert shop.world == []
    assert status(runtime) == ("compensated", [("pay", "failed")])


def test_a_body_that_commits_by_itself_is_found_out(shop, database, runtime):
    """Its effect may be there in part, so its compensation is owed; psycopg forbids the commit itself."""
    shop.inside = database.commit
    if database.kind in databases.POSTGRES:
        with pytest.raises(psycopg.ProgrammingError, match="forbidden"):
            shop.call(runtime)
        assert database.paid == []
        return
    with pytest.raises(UsageError, match="pay: transaction='db': the body ended the transaction by itself"):
        shop.call(runtime, retries=3)
    assert database.paid == ["-lamp", "lamp"]
    assert database.landed == {"pay": None, "pay/compensation": "null"}
    assert shop.world == ["lamp", "-lamp:nobody_knows"]


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_transaction_ended_in_sql_and_begun_again_is_found_out(shop, database, runtime, end):
    """The one that is open afterwards is not the one that was begun."""

    def inside(db):
        def ended():
            yield database.write(db, end)
            yield database.pay(db, "more")

        return shop.colour.coloured(ended)()

    shop.inside = inside
    with pytest.raises(UsageError, match="the body ended the transaction by itself"):
        shop.call(runtime)
    assert database.paid[:1] == ["-lamp"]
    assert database.landed == {"pay": None, "pay/compensation": "null"}


def test_a_doubt_that_the_row_keeps_does_not_hinder_the_next_attempt(shop, database, make_runtime):
    """A person has decided, the body is mended, and the run goes on under the same key."""
    shop.inside = lambda db: database.write(db, "commit")

    def saga(runtime):
        return lambda db, item: shop.saga(runtime).using(on_failure="pause")(db, item)

    with pytest.raises(sagadsl.SuspendedError):
        database.call(saga(make_runtime()), "lamp")
    assert database.landed == {"pay": None}
    shop.inside = lambda db: None
    assert database.call(saga(make_runtime()), "lamp") == "paid lamp"
    assert database.landed == {"pay": '"paid lamp"'}


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_timeout_leaves_nothing_uncertain(shop, database, runtime, monkeypatch):
    """What was cut off, or failed late, was rolled back: nothing is owed."""
    monkeypatch.setattr(databases, "SQLITE_OPTIONS", {"check_same_thread": False})

    async def forever(db):
        await asyncio.Event().wait()

    def late(db):
        threading.Event().wait(0.05)
        raise OSError("too late")

    shop.inside = forever if database.is_async else late
    with pytest.raises(StepTimeout) as caught:
        shop.call(runtime, timeout=0.02)
    assert "its transaction was rolled back, so its effect has not happened" in caught.value.__notes__
    assert (database.paid, shop.world.effects) in [([], ["lamp"]), ([], [])]  # as far as an async one came
    assert status(runtime) == ("compensated", [("pay", "failed")])


def test_a_late_success_lands(shop, database, runtime, monkeypatch):
    """In a thread, where nothing can be cut off."""
    monkeypatch.setattr(databases, "SQLITE_OPTIONS", {"check_same_thread": False})
    shop.inside = lambda db: None if database.is_async else threading.Event().wait(0.05)
    assert shop.call(runtime, timeout=60 if database.is_async else 0.02) == "paid lamp"
    assert database.paid == ["lamp"]


def test_a_sqlite_connection_must_be_allowed_into_the_thread_of_a_timeout(tmp_path, world, runtime):
    """The error says how."""
    shop = Shop(databases.made("sqlite3 None", tmp_path / "shop.db", "").created(), world)
    with pytest.raises(UsageError, match=r"transaction='db' is of another thread.*check_same_thread=False"):
        shop.call(runtime, timeout=5)
    assert world == []


def test_the_end_of_a_transaction_is_not_cut_short():
    """A cancellation that comes meanwhile is let through afterwards; an error of its own comes first."""

    async def main(fails):
        gate = asyncio.Event()
        ended = []

        async def commit():
            await gate.wait()
            ended.append(True)
            if fails:
                raise OSError

        task = asyncio.create_task(to_the_end(commit()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        gate.set()
        with pytest.raises(OSError if fails else asyncio.CancelledError):
            await task
        return ended

    assert asyncio.run(main(fails=False)) == asyncio.run(main(fails=True)) == [True]


# -- commits that do not answer, and attempts that meet ----------------------------------------------------------------


class Lossy(sqlite3.Connection):
    """A connection whose answer to COMMIT is lost; where it *closes*, it is gone itself."""

    closes = False

    def execute(self, statement, *values):
        done = super().execute(statement, *values)
        if statement == "COMMIT" and self.total_changes > 1:  # past the table's own
            if self.closes:
                self.close()
            raise sqlite3.OperationalError("disk I/O error")
        return done


class Closing(Lossy):
    closes = True


def test_a_commit_whose_answer_is_lost_is_looked_up_at_once(tmp_path, world, runtime, monkeypatch):
    """The row is there, so the step is done."""
    monkeypatch.setattr(databases, "SQLITE_OPTIONS", {"factory": Lossy})
    database = databases.made("sqlite3 None", tmp_path / "shop.db", "").created()
    assert Shop(database, world).call(runtime) == "paid lamp"
    assert database.paid == world == ["lamp"]
    assert status(runtime) == ("completed", [("pay", "done"), ("ship", "done")])


def test_a_commit_that_took_the_connection_with_it_is_looked_up_by_the_next_attempt(
    tmp_path, world, make_runtime, monkeypatch
):
    """Until then it is uncertain."""
    monkeypatch.setattr(databases, "SQLITE_OPTIONS", {"factory": Closing})
    database = databases.made("sqlite3 None", tmp_path / "shop.db", "").created()
    shop, runtime = Shop(database, world), make_runtime()
    with pytest.raises(sagadsl.SuspendedError, match="disk I/O error"):
        shop.call(runtime, on_uncertain="pause")
    assert status(runtime) == ("paused", [("pay", "uncertain")])
    monkeypatch.setattr(databases, "SQLITE_OPTIONS", {})
    assert shop.call(make_runtime(), on_uncertain="pause") == "paid lamp"
    assert database.paid == world == ["lamp"]


@pytest.fixture(params=[kind for kind in databases.KINDS if "sqlite" not in kind])
def on_postgres(request, tmp_path, place):
    """Give each kind of connection to PostgreSQL."""
    return databases.made(request.param, tmp_path, place).created()


def at_commit(database, body):
    """Have a function called at the commit of each payment."""
    database.change(
        f"""
        create function at_commit() returns trigger language plpgsql as $$ begin {body}; return null; end $$;
        create constraint trigger at_commit after insert on paid deferrable initially deferred
        for each row when (new.item = 'lamp') execute function at_commit();
        """
    )


def test_a_commit_that_the_database_refuses_has_not_happened(on_postgres, world, runtime):
    """A deferred constraint speaks up only then."""
    at_commit(on_postgres, "raise exception 'no such account'")
    with pytest.raises(Exception, match="no such account"):
        Shop(on_postgres, world).call(runtime)
    assert (on_postgres.paid, world) == ([], ["lamp"])
    assert status(runtime) == ("compensated", [("pay", "failed")])


def test_a_server_that_dies_in_a_commit_leaves_the_answer_to_the_next_attempt(on_postgres, world, make_runtime):
    """Nobody can tell before, unless the library connects again; here it has not happened, so the body is entered."""
    at_commit(on_postgres, "perform pg_terminate_backend(pg_backend_pid())")
    shop, runtime = Shop(on_postgres, world), make_runtime()
    if isinstance(on_postgres, databases.Alchemy):
        with pytest.raises(sqlalchemy.exc.OperationalError, match="terminating connection"):
            shop.call(runtime, on_uncertain="pause")
        assert status(runtime) == ("compensated", [("pay", "failed")])
        return
    with pytest.raises(sagadsl.SuspendedError):
        shop.call(runtime, on_uncertain="pause")
    assert status(runtime) == ("paused", [("pay", "uncertain")])
    on_postgres.change("drop trigger at_commit on paid")
    assert shop.call(make_runtime(), on_uncertain="pause") == "paid lamp"
    assert (on_postgres.paid, world) == (["lamp"], ["lamp", "lamp"])


@pytest.mark.parametrize("isolation", [None, psycopg.IsolationLevel.REPEATABLE_READ])
@pytest.mark.parametrize("lands", [True, False])
def test_an_attempt_under_way_elsewhere_is_waited_for(place, tmp_path, world, runtime, isolation, lands):
    """Its process may be gone while the server still commits: the row decides once that has ended."""
    database = databases.made("Connection autocommit", tmp_path, place).created()
    database.change(marker.CREATE)
    shop, given = Shop(database, world), []

    def call():
        def saga(db, item):
            db.isolation_level = isolation
            return shop.saga(runtime)(db, item)

        given.append(database.call(saga, "lamp"))

    waiting = "select count(*) from pg_locks where not granted"
    with psycopg.connect(place) as other:
        other.execute("insert into sagadsl_landed (key, result) values ('order/k/pay', '\"by another\"')")
        thread = threading.Thread(target=call)
        thread.start()
        while thread.is_alive() and database.select(waiting) == [(0,)]:
            pass
        assert thread.is_alive()
        (other.commit if lands else other.rollback)()
        thread.join()
    assert given == ["by another" if lands else "paid lamp"]
    assert database.paid == world == ([] if lands else ["lamp"])


def test_a_connection_is_for_one_step_at_a_time(place, tmp_path, world, runtime):
    """Two that overlap on one would share a transaction."""
    database = databases.made("AsyncConnection", tmp_path, place).created()

    @sagadsl.step(compensate=None, transaction="db")
    async def pay(db: Live[Any], item: str) -> None:
        await database.pay(db, item)

    @sagadsl.saga(runtime=runtime)
    async def order(db: Live[Any]) -> list[Any]:
        return await asyncio.gather(pay(db, "lamp"), pay(db, "desk"), return_exceptions=True)

    first, second = database.call(order)
    assert first is None
    assert "pay#2: transaction='db' is in use by pay at this moment" in str(second).replace("'desk'", "")
    assert database.paid == ["lamp"]


@pytest.mark.parametrize("kind", ["sqlite3 None", "sqlite3 always open"])
def test_a_database_that_another_writes_to_is_tried_again(kind, tmp_path, world, make_runtime, clock, monkeypatch):
    """Nothing was begun; the connection is as it was."""
    monkeypatch.setattr(databases, "SQLITE_OPTIONS", {"timeout": 0})
    database = databases.made(kind, tmp_path / "shop.db", "").created()
    with sqlite3.connect(database.place, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        runtime = make_runtime(sleep=lambda _: other.in_transaction and other.execute("ROLLBACK"))
        assert Shop(database, world).call(runtime, retries=1) == "paid lamp"
    other.close()
    (run,) = runtime.runs()
    assert run.steps[0].attempts == 2
    assert database.paid == world == ["lamp"]


# -- connections that cannot be used -----------------------------------------------------------------------------------


def test_other_objects_are_refused_by_name(world, runtime):
    """The message says what can be used."""

    @sagadsl.step(compensate=None, transaction="db", retries=2)
    def pay(db: Live[Any]) -> None:
        world.add("paid")

    @sagadsl.saga(runtime=runtime)
    def order(db: Live[Any]) -> None:
        pay(db)

    engine = sqlalchemy.create_engine("sqlite://")
    with pytest.raises(
        UsageError, match=r"pay: transaction='db' holds a sqlalchemy.*Engine; it takes one of sqlite3\.C"
    ):
        order(engine)
    assert world == []


@pytest.mark.parametrize("kind", [kind for kind in databases.KINDS if "Async" in kind])
def test_an_async_connection_is_refused_in_a_def(kind, tmp_path, postgres, world, runtime):
    """Nobody could await it."""
    place = databases.schema(postgres, f"test{next(SCHEMAS)}")
    database = databases.made(kind, tmp_path / "shop.db", place).created()

    @sagadsl.step(compensate=None, transaction="db")
    def pay(db: Live[Any]) -> None:
        world.add("paid")

    @sagadsl.saga(runtime=runtime)
    async def order(db: Live[Any]) -> None:
        pay(db)

    with pytest.raises(UsageError, match="holds an async connection, which a def cannot await"):
        database.call(order)
    assert world == []


@pytest.mark.parametrize("kind", ["sqlite3 None", "Connection", "SA Session on sqlite"])
def test_a_sync_connection_can_be_used_in_an_async_def(kind, tmp_path, place, world, runtime):
    """It is called in place."""
    database = databases.made(kind, tmp_path / "shop.db", place).created()

    @sagadsl.step(compensate=lambda db, item: database.unpay(db, item), transaction="db")
    async def pay(db: Live[Any], item: str) -> str:
        database.pay(db, item)
        return "paid"

    @sagadsl.saga(runtime=runtime)
    async def order(db: Live[Any]) -> None:
        assert await pay(db, "lamp") == "paid"
        raise LookupError

    with pytest.raises(LookupError):
        database.call(lambda db: asyncio.run(order(db)))
    assert database.paid == ["-lamp", "lamp"]


@pytest.mark.parametrize("under", ["sqlite", "postgres"])
@pytest.mark.parametrize("kind", ["SA Connection", "SA Session", "SA AsyncConnection"])
def test_an_isolation_level_that_holds_nothing_together_is_refused(kind, under, request, tmp_path, world, runtime):
    """With AUTOCOMMIT the effect and the row would be committed one by one."""
    place = request.getfixturevalue("place") if under == "postgres" else ""
    database = databases.made(f"{kind} on {under}", tmp_path / "shop.db", place).created()
    request.getfixturevalue("monkeypatch").setattr(databases, "ENGINE_OPTIONS", {"isolation_level": "AUTOCOMMIT"})
    with pytest.raises(UsageError, match="pay: transaction='db' has the isolation level AUTOCOMMIT"):
        Shop(database, world).call(runtime)
    assert (database.paid, world) == ([], [])


def test_a_session_in_the_transaction_of_its_connection_is_refused(tmp_path, world, runtime):
    """That is how test suites bind one; its commits are none."""
    database = databases.made("SA Session on sqlite", tmp_path / "shop.db", "").created()
    with sqlalchemy.create_engine(database.url).connect() as connection, connection.begin():
        session = sqlalchemy.orm.Session(connection)
        with pytest.raises(UsageError, match="is in a transaction already"):
            Shop(database, world).saga(runtime)(session, "lamp")
    assert (database.paid, world) == ([], [])


def test_a_table_that_must_not_be_made_by_the_program_is_named(place, tmp_path, world, make_runtime, clock):
    """An administrator can make it; then the program needs no right to."""
    database = databases.made("Connection autocommit", tmp_path, place).created()
    name = place.rpartition("=")[2].strip("'")
    database.change(f"create role {name} in role pg_read_all_data; grant usage on schema {name} to {name}")
    database.change(f"grant insert on paid to {name}")
    shop = Shop(database, world)

    def saga(db, item):
        db.execute(f"set role {name}")
        return shop.saga(make_runtime())(db, item)

    with pytest.raises(psycopg.errors.UndefinedTable) as caught:
        database.call(saga, "lamp")
    assert any(
        f"needs a table that could not be made (permission denied for schema {name}" in note and marker.CREATE in note
        for note in caught.value.__notes__
    )
    database.change(marker.CREATE)
    database.change(f"grant insert, update on sagadsl_landed to {name}")
    assert database.call(saga, "lamp") == "paid lamp"


def test_a_body_that_commits_and_closes_leaves_a_doubt(tmp_path, world, runtime):
    """Nothing can be asked of a connection that is closed."""
    database = databases.made("sqlite3 None", tmp_path / "shop.db", "").created()
    shop = Shop(database, world)

    def inside(db):
        db.execute("COMMIT")
        db.close()

    shop.inside = inside
    with pytest.raises(CompensationError) as caught:
        shop.call(runtime, compensate=Compensation(lambda db, item: database.unpay(db, item), retries=0))
    assert "the body ended the transaction by itself" in str(caught.value.__cause__)
    assert database.landed == {"pay": None}


def test_a_compensation_that_nobody_awaits_does_not_land(tmp_path, world, runtime):
    """It has not run."""
    database = databases.made("sqlite3 None", tmp_path / "shop.db", "").created()

    async def refund(db):
        world.add("never")

    with pytest.raises(CompensationError, match="gave an awaitable"):
        Shop(database, world).call(runtime, fails=True, compensate=lambda db: refund(db))
    assert (database.landed, world) == ({"pay": '"paid lamp"'}, ["lamp"])


def test_connections_with_ideas_of_their_own_are_read_as_they_are(tmp_path, place, world, make_runtime, monkeypatch):
    """Row and text factories, and cursors with other placeholders."""

    class Odd(sqlite3.Connection):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.row_factory, self.text_factory = sqlite3.Row, bytes

    monkeypatch.setattr(databases, "SQLITE_OPTIONS", {"factory": Odd})
    shop = Shop(databases.made("sqlite3 None", tmp_path / "shop.db", "").created(), world)
    killed_before(Kind.DONE, shop, make_runtime, tmp_path)
    assert shop.call(make_runtime()) == "paid lamp"

    database = databases.made("Connection", tmp_path, place).created()
    database.write = lambda db, _, item: db.execute("insert into paid values ($1)", (item,))
    other = Shop(database, world)

    def saga(runtime):
        def call(db, item):
            db.row_factory, db.cursor_factory = psycopg.rows.dict_row, psycopg.RawCursor
            return other.saga(runtime)(db, item)

        return call

    runtime = make_runtime(store=Knife(tmp_path / "raw.db", Kind.DONE))
    with pytest.raises(Cut):
        database.call(saga(runtime), "desk")
    assert database.call(saga(make_runtime(store=tmp_path / "raw.db")), "desk") == "paid desk"
    assert world == ["lamp", "desk"]


# -- on the decorator's line -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"transaction": "order"}, r"pay: transaction='order' is no live parameter of .*; annotate it `order: Live"),
        ({"transaction": "session"}, r"pay: transaction='session' is no live parameter of .*; name one"),
        ({"transaction": "db", "read_only": True}, "has nothing to commit"),
        ({"transaction": "db", "probe": lambda: None}, "says what happened; leave probe= out"),
    ],
)
def test_what_cannot_work_is_refused_at_decoration(options, complaint):
    """One sentence for each."""
    with pytest.raises(UsageError, match=complaint):

        @sagadsl.step(**options)
        def pay(db: Live[Any], order: str) -> None: ...


def unpay_by_name(db, item):
    db.execute("insert into paid values (?)", (f"-{item}",))


SEEN = []


def note_by_name(item, result="nobody knows"):
    SEEN.append((item, result))


@sagadsl.step(compensate=unpay_by_name, transaction="db")
def pay_by_name(db: Live[sqlite3.Connection], item: str) -> str:
    db.execute("insert into paid values (?)", (item,))
    return f"paid {item}"


@sagadsl.step(compensate=note_by_name, transaction="db")
def pay_and_note(db: Live[sqlite3.Connection], item: str) -> str:
    db.execute("insert into paid values (?)", (item,))
    return f"paid {item}"


@pytest.mark.parametrize("step", [pay_by_name, pay_and_note])
@pytest.mark.parametrize("lands", [True, False])
@pytest.mark.parametrize("has_body", [True, False])
def test_where_nobody_calls_the_row_is_asked_of_the_connection_that_is_provided(
    tmp_path, make_runtime, monkeypatch, step, lands, has_body
):
    """Without one, a compensation that needs it is refused before anything happens, and any other has a doubt."""
    database = databases.made("sqlite3 None", tmp_path / "shop.db", "").created()

    def order(runtime):
        @sagadsl.saga(runtime=runtime, key="k", name="by_name")
        def by_name(db: Live[sqlite3.Connection]) -> None:
            step(db, "lamp")

        return by_name

    knife = Knife(tmp_path / "sagas.db", Kind.DONE)
    with pytest.raises(Cut):
        database.call(order(make_runtime(store=knife)))
    if not lands:
        database.change("delete from paid")
        database.change("delete from sagadsl_landed")
    runtime = make_runtime()
    saga = order(runtime)
    if not has_body:
        monkeypatch.delitem(registry.sagas, (__name__, "by_name"))
    if step is pay_by_name:
        with pytest.raises(
            UsageError, match="unpay_by_name of step pay_by_name needs the live argument db, a Connection"
        ):
            runtime.find("by_name/k").compensate()
    SEEN.clear()
    monkeypatch.setattr("sagadsl._core.provided._exits", None)  # it is closed here
    with closing(database.open()) as connection:
        provided = make_runtime(provide={sqlite3.Connection: lambda: connection})
        assert saga.using(runtime=provided) is not None
        assert provided.find("by_name/k").compensate().status == "compensated"
    took = step is pay_by_name
    assert database.paid == ((["-lamp"] if took else []) + ["lamp"] if lands else [])
    told = [("lamp", "paid lamp")] if lands and not took else []
    assert told == SEEN


def test_an_engine_that_calls_what_it_is_given_needs_to_know_nothing_of_it(tmp_path, world, runtime):
    """The transaction is in the function of the call."""

    def answered(effect):
        return copy_context().run(drain, attempt(effect.call), act) if type(effect) is Do else act(effect)

    def execute(flow):
        return drain(flow, answered)

    runtime.drive, runtime.do = execute, handed_over
    database = databases.made("sqlite3 None", tmp_path / "shop.db", "").created()
    with pytest.raises(ConnectionError):
        Shop(database, world).call(runtime, fails=True)
    assert database.landed == {"pay": '"paid lamp"', "pay/compensation": "null"}


def test_outside_a_saga_the_step_is_the_plain_function(tmp_path):
    """Nothing begins, nothing is committed."""
    database = databases.made("sqlite3 ", tmp_path / "shop.db", "").created()

    @sagadsl.step(compensate=None, transaction="db")
    def pay(db: Live[Any], item: str) -> str:
        assert not db.in_transaction
        return item

    assert database.call(pay, "lamp") == "lamp"
