"""An order service: one saga a request, the request's key is the run's; unfinished requests go on when it starts."""

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel

import sagadsl
from sagadsl import RunConflictError, RunLockedError, saga, step

sagadsl.configure(store="orders.db", resume="key")
OUTBOX = Path("outbox")


class Order(BaseModel):
    item: str
    quantity: int


class Placed(BaseModel):
    reservation: str
    parcel: str


def write(name, content):
    """Stand for another service: a file that is there at once, or not."""
    OUTBOX.mkdir(exist_ok=True)
    draft = OUTBOX / f".{name}"
    draft.write_text(json.dumps(content))
    draft.rename(OUTBOX / name)


def file_of(key):
    """Return the name of what was done under an idempotency key, which may hold any character of a request's key."""
    return f"{key.replace('/', '-')}.json"


async def release(idempotency_key):
    """Cancel what was reserved or shipped, if it was."""
    (OUTBOX / file_of(idempotency_key)).unlink(missing_ok=True)


@step(compensate=release, retries=2)
async def reserve(order: Order) -> str:
    """Reserve; return the name of the reservation."""
    name = file_of(sagadsl.current().idempotency_key)
    await asyncio.sleep(0)
    write(name, order.model_dump())
    return name


@step(compensate=release)
async def ship(order: Order, reservation: str) -> str:
    """Ship; return the name of the parcel."""
    if order.quantity > 10:
        raise ValueError("too heavy for a parcel")
    name = file_of(sagadsl.current().idempotency_key)
    await asyncio.sleep(0)
    write(name, {"reservation": reservation})
    return name


@saga(key="{number}")
async def place(number: str, order: Order) -> Placed:
    """Place an order."""
    reservation = await reserve(order)
    parcel = await ship(order, reservation)
    return Placed(reservation=reservation, parcel=parcel)


@asynccontextmanager
async def lifespan(app):
    await sagadsl.aio.resume_all()
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/orders")
async def orders(order: Order, idempotency_key: Annotated[str, Header()]) -> Placed:
    try:
        return await place(idempotency_key, order)
    except (RunConflictError, RunLockedError) as error:
        raise HTTPException(409, str(error)) from error
    except ValueError as error:
        undone = sagadsl.outcome(error).compensated_steps
        raise HTTPException(422, {"error": str(error), "undone": undone}) from error
