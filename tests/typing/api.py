"""What type checkers see of the public surface: checked by ``mypy --strict``, never run."""

from __future__ import annotations

from asyncio import Task
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from sqlite3 import Connection, connect
from typing import Any, NewType, assert_never, assert_type
from uuid import UUID

import attrs

import sagadsl
from sagadsl import (
    IRREVERSIBLE,
    PIVOT,
    Artifact,
    Compensated,
    Compensation,
    CompensationFailed,
    Completed,
    Current,
    DryRun,
    Fault,
    Landed,
    Live,
    NotLanded,
    Outcome,
    Retry,
    Run,
    Runtime,
    Saga,
    Status,
    Step,
    StepInfo,
    Suspended,
    Unknown,
    aio,
    saga,
    step,
)
from sagadsl.otel import OpenTelemetry
from sagadsl.plan import Plan
from sagadsl.report import Graph


@attrs.frozen
class Reservation:
    id: str


class Session:
    def write(self, row: str) -> None: ...


def release(reservation: Reservation | None = None) -> None: ...
def undo(item: str, error: Fault | None, idempotency_key: str) -> None: ...


# -- steps keep the signature of their function -----------------------------------------------------------------------


@step
def bare(item: str, quantity: int) -> Reservation:
    return Reservation(item)


@step(compensate=release, retries=3)
def reserve(item: str, quantity: int = 1) -> Reservation:
    return Reservation(item)


@step(compensate=undo, retries=Retry(3, on=TimeoutError, wait=timedelta(seconds=1)), timeout=timedelta(seconds=5))
async def charge(item: str, amount: int) -> float:
    return 1.0


@step(compensate=Compensation(undo, retries=1, even_if_failed=True), timeout=5.0)
def pay(item: str) -> None: ...


@step(compensate=sagadsl.archive("attic"))
def export(item: str) -> Artifact:
    with open(Artifact(item)) as file:  # noqa: PTH123  # any function that opens files
        assert_type(file.read(), str)
    return Artifact(item)


@step(compensate=IRREVERSIBLE, key="{to}", name="mail", title="Send a mail")
def mail(to: str) -> None: ...


def find(order: str, idempotency_key: str) -> Landed | NotLanded | Unknown:
    return Landed(Reservation(order)) if order else NotLanded() if idempotency_key else Unknown()


@step(compensate=PIVOT, probe=find, on_uncertain="pause")
def post(order: str) -> Reservation:
    return Reservation(order)


assert_type(post("o-1"), Reservation)
assert_type(post.map(["o-1", "o-2"], limit=4), list[Reservation])
assert_type(sagadsl.parallel(lambda: post("o-1"), lambda: post("o-2")), list[Reservation])


@step
async def apost(order: str) -> Reservation:
    return Reservation(order)


async def together() -> None:
    assert_type(await apost.map(["o-1"]), list[Reservation])
    assert_type(await aio.parallel(apost("o-1"), lambda: apost("o-2")), list[Reservation])


@step(compensate=None, read_only=True, live=("verbose",))
def look(session: Live[Session], verbose: bool = False) -> list[int]:
    session.write("a")
    return []


def still(note: object, item: str) -> bool:
    return note == item


@step(compensate=undo, stands=still)
def noted(item: str) -> int:
    sagadsl.current().note({"item": item})
    return 1


assert_type(noted("lamp"), int)


@step(compensate=undo, transaction="session")
async def order(session: Live[Session], item: str) -> int:
    return 1


assert_type(bare("lamp", 2), Reservation)
assert_type(reserve("lamp"), Reservation)
coroutine_1 = assert_type(charge("lamp", 2), Coroutine[Any, Any, float])
assert_type(look(Session()), list[int])
assert_type(reserve.plain("lamp", 2), Reservation)
assert_type(reserve.using(retries=2, timeout=1.0, key="k", compensate=None)("lamp", 2), Reservation)
coroutine_2 = assert_type(charge.using(key="k")("lamp", 2), Coroutine[Any, Any, float])
keeps: Callable[[str, int], Reservation] = bare
named: Step[[str, int], Reservation] = bare

reserve(1)  # type: ignore[arg-type]  # an item is text
bare("lamp")  # type: ignore[call-arg]  # the quantity is missing
reserve("lamp", colour="red")  # type: ignore[call-arg]  # there is no colour
step(retry=3)  # type: ignore[call-overload]  # the option is called retries


class Shop:
    @step(compensate=None)
    def pack(self, item: str) -> int:
        return 1

    @step
    async def ship(self, item: str) -> int:
        return 1

    @saga
    def order(self, item: str) -> str:
        assert_type(self.pack(item), int)
        return item

    @saga
    async def aorder(self, item: str) -> str:
        assert_type(await self.ship(item), int)
        return item


shop = Shop()
assert_type(shop.pack("lamp"), int)
assert_type(shop.pack.using(retries=1)("lamp"), int)
assert_type(Shop.pack(shop, "lamp"), int)
coroutine_3 = assert_type(shop.ship("lamp"), Coroutine[Any, Any, int])
assert_type(shop.order("lamp"), str)
assert_type(shop.order.using(id="o-1")("lamp"), str)
assert_type(shop.order.outcome("lamp"), Outcome[str])
shop.pack(1)  # type: ignore[arg-type]  # an item is text


# -- sagas, too, and their outcomes are a closed union ----------------------------------------------------------------


@saga
def place_order(item: str, quantity: int) -> Reservation:
    return reserve(item, quantity)


@saga(
    key="{item}", on_failure="pause", on_compensation_failure="continue", durability="power", version="2", notify=print
)
async def aplace_order(item: str) -> float:
    return await charge(item, 2)


@saga(runtime=Runtime(":memory:"), resume="key", store=":memory:")
def nothing() -> None: ...


assert_type(place_order("lamp", 2), Reservation)
assert_type(place_order.plain("lamp", 2), Reservation)
assert_type(place_order.outcome("lamp", 2), Outcome[Reservation])
assert_type(place_order.resume("o-1"), Reservation)
assert_type(place_order.compensate("o-1"), Run)
assert_type(place_order.compensate("o-1", to="reserve", accept=["mail"]), Run)
assert_type(place_order.compensate("o-1", dry_run=True), DryRun)
assert_type(sagadsl.find("o-1").cancel(), Run)
assert_type(place_order.using(id="o-1", key="k", steal=True, rerun=True)("lamp", 2), Reservation)
assert_type(place_order.using(store="s.db").outcome("lamp", 2), Outcome[Reservation])
coroutine_4 = assert_type(aplace_order("lamp"), Coroutine[Any, Any, float])
coroutine_9 = assert_type(aplace_order.compensate("o-1"), Coroutine[Any, Any, Run])
sagadsl.configure(store=Path("s.db"), durability="power", resume="key", on_failure="pause")
coroutine_5 = assert_type(aplace_order.resume("o-1"), Coroutine[Any, Any, float])
assert_type(nothing.outcome(), Outcome[None])
defined: Saga[[str, int], Reservation] = place_order

place_order("lamp")  # type: ignore[call-arg]  # the quantity is missing
place_order.outcome("lamp", "two")  # type: ignore[arg-type]  # a quantity is a number
saga(retries=3)  # type: ignore[call-overload]  # that is a step's option


async def awaits() -> None:
    """Await what is async."""
    assert_type(await aplace_order("lamp"), float)
    assert_type(await aplace_order.outcome("lamp"), Outcome[float])
    assert_type(await shop.aorder.outcome("lamp"), Outcome[str])


def told(outcome: Outcome[Reservation]) -> str:
    """Match every case, and no other."""
    match outcome:
        case Completed(value):
            assert_type(value, Reservation)
        case Compensated(error, compensated_steps, standing):
            assert_type(error, BaseException)
            assert_type(compensated_steps, tuple[str, ...])
            assert_type(standing, tuple[str, ...])
        case CompensationFailed(error, compensation_error, failed_at_step, compensated_steps, pending_steps):
            assert_type(compensation_error, BaseException)
            assert_type(failed_at_step, str)
            assert_type(pending_steps, tuple[str, ...])
        case Suspended(status, reason):
            assert_type(status, Status)
            assert_type(reason, str)
        case _:
            assert_never(outcome)
    return str(outcome.exit_code)


# -- a block, or a run by hand, keeps the types of what is called in it -----------------------------------------------


def fetch(city: str, nights: int = 1) -> Reservation:
    return Reservation(city)


async def afetch(city: str) -> float:
    return 1.0


with saga("nightly", key="2026-11-22", on_failure="pause", title="At night", version="2") as nightly:
    assert_type(nightly.step(fetch)("Rome", 2), Reservation)
    assert_type(nightly.step(reserve, compensate=None, retries=2, timeout=5.0, name="again")("lamp", 2), Reservation)
    assert_type(nightly.step(shop.pack, key="k")("lamp"), int)
    assert_type(nightly.add_compensation(undo, "lamp", None, idempotency_key="k"), None)
    nightly.step(fetch)(1)  # type: ignore[arg-type]  # a city is text
    nightly.step(fetch, retry=2)  # type: ignore[call-arg]  # the option is called retries
    nightly.add_compensation(undo, "lamp")  # type: ignore[call-arg]  # the error is missing

by_hand = saga("explore", id="x", store=":memory:", on_compensation_failure="continue", steal=True, rerun=True)
coroutine_6 = assert_type(by_hand.step(afetch, again=True, live=[])("Rome"), Coroutine[Any, Any, float])
assert_type(by_hand.id, str)
assert_type(by_hand.status, Status)
assert_type(by_hand.info, Run)
assert_type(by_hand.steps, tuple[StepInfo, ...])
assert_type(by_hand.stack, tuple[StepInfo, ...])
assert_type(by_hand.error, Fault | None)
assert_type(by_hand.cancel(), Run)
assert_type(by_hand.complete(1), Any)
saga("explore", retries=3)  # type: ignore[call-overload]  # that is a step's option


async def enters() -> None:
    """Await what is async in a block."""
    async with saga("nightly") as run:
        assert_type(await run.step(afetch)("Rome"), float)
        assert_type(await run.step(charge)("lamp", 2), float)


# -- the rest of the front door ---------------------------------------------------------------------------------------

assert_type(sagadsl.now(), datetime)
assert_type(sagadsl.random(), float)
assert_type(sagadsl.uuid4(), UUID)
assert_type(sagadsl.current(), Current)
assert_type(sagadsl.current().remaining, float | None)
assert_type(sagadsl.current().idempotency_key, str)
assert_type(sagadsl.runs(saga="place_order"), list[Run])
figures = sagadsl.stats(saga="place_order")
assert_type(figures, sagadsl.Stats)
assert_type(figures.compensation_rate, float | None)


class Watching:
    """An observer that looks at runs one by one."""

    def watch(self, run: sagadsl.RunInfo) -> Callable[[sagadsl.Entry], None] | None:
        """Look at a run."""
        return None if run.saga == "place_order" else print


sagadsl.configure(observers=[print, Watching(), OpenTelemetry()], progress="plain")
sagadsl.configure(progress=lambda run: run.status)
assert_type(by_hand.info.report("html"), str)
assert_type(by_hand.info.graph(), Graph)
assert_type(place_order.graph(), Graph)
assert_type(Plan("order").graph().svg(), str)
assert_type(sagadsl.find("o-1"), Run)
assert_type(sagadsl.find("o-1").status, Status)
assert_type(sagadsl.find("o-1").error, Fault | None)
assert_type(Artifact("report.csv").path, Path)
assert_type(Artifact(Path("report.csv")).size, int)
assert_type(Artifact("report.csv").digest, str)
assert_type(Artifact("report.csv").is_intact(), bool)
assert_type(sagadsl.resume_all(), tuple[Outcome[Any], ...])
assert_type(sagadsl.resume_all([place_order, aplace_order, shop.order.using(id="o-1")]), tuple[Outcome[Any], ...])
assert_type(sagadsl.resume_all(place_order, every=timedelta(minutes=1)).outcomes, tuple[Outcome[Any], ...])
coroutine_7 = assert_type(sagadsl.aio.resume_all(), Coroutine[Any, Any, tuple[Outcome[Any], ...]])
coroutine_8 = assert_type(sagadsl.aio.resume_all(aplace_order, every=60), Coroutine[Any, Any, Task[None]])
with sagadsl.resume_all(every=60) as resuming:
    assert_type(resuming.wait(timeout=1.0), tuple[Outcome[Any], ...])
    assert_type(resuming.stop(), None)
assert_type(sagadsl.outcome(ValueError("caught")), Outcome[Any])
assert_type(sagadsl.register(Session, lambda session: 1, lambda told: Session()), None)


# -- what live arguments come from ------------------------------------------------------------------------------------

Token = NewType("Token", str)


@contextmanager
def managed() -> Iterator[Session]:
    yield Session()


@asynccontextmanager
async def amanaged() -> AsyncIterator[Session]:
    yield Session()


async def awaitable() -> Session:
    return Session()


assert_type(sagadsl.provide(Session, Session), None)
sagadsl.provide(Session, managed)
sagadsl.provide(Session, managed())
sagadsl.provide(Session, amanaged)
sagadsl.provide(Session, awaitable)
sagadsl.provide(Shop, lambda: Shop())
sagadsl.provide(Token, lambda: Token("t"))
sagadsl.provide(Connection, lambda: connect(":memory:"))
sagadsl.provide(Session, lambda: 5)  # type: ignore[arg-type, return-value]  # a session is wanted
Runtime(":memory:", provide={Session: managed, Token: lambda: "t"})
