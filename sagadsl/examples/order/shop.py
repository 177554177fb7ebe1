"""The shop: a database that knows nothing of sagas, only of keys.

A row carries the key of whoever made it. The same key again changes nothing, and what is undone stays as a row that
says so: a late second attempt cannot bring it back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from sqlite3 import Connection

from attrs import frozen

from sagadsl.examples.order.stage import database, effect

SCHEMA = """
create table if not exists inventory (
    item text primary key, free integer not null check (free >= 0)) strict;
create table if not exists reservations (
    key text primary key, item text not null, quantity integer not null, state text not null) strict;
create table if not exists deliveries (
    key text primary key, order_id text not null, state text not null) strict;
create table if not exists audit_trail (
    key text primary key, note text not null) strict;
insert or ignore into inventory values ('chair', 8), ('desk', 3), ('lamp', 20);
"""

RELEASE = "update reservations set state = 'released' where key = ? and state = 'reserved' returning item, quantity"
CANCEL = "update deliveries set state = 'cancelled' where key = ? and state = 'scheduled' returning rowid"


class OutOfStock(Exception):  # noqa: N818  # the shop's word for it
    """There is not enough of an item."""


@frozen
class Reservation:
    """Goods set aside."""

    item: str
    quantity: int


@frozen
class Delivery:
    """What the courier agreed to."""

    order_id: str
    number: int


@contextmanager
def opened() -> Iterator[Connection]:
    """Open the shop for one transaction."""
    with database("shop.db", SCHEMA) as shop:
        yield shop


def reserve(item: str, quantity: int, key: str) -> Reservation:
    """Set goods aside, once for each key.

    Raises:
        OutOfStock: There are not so many.
    """
    with effect("reserve_inventory") as tell:
        with opened() as shop:
            known = shop.execute("select 1 from reservations where key = ?", (key,)).fetchone()
            if not known:
                free = _free(shop, item)
                if free < quantity:
                    msg = f"{quantity} {item} wanted, {free} there"
                    raise OutOfStock(msg)
                shop.execute("update inventory set free = free - ? where item = ?", (quantity, item))
                shop.execute("insert into reservations values (?, ?, ?, 'reserved')", (key, item, quantity))
            free = _free(shop, item)
        again = "already set aside" if known else "set aside"
        tell(f"{quantity} {item} {again}, {free} left", changed=not known)
    return Reservation(item, quantity)


def release(key: str) -> None:
    """Put back what was set aside under a key, if anything was."""
    with effect("release_inventory") as tell:
        with opened() as shop:
            row = shop.execute(RELEASE, (key,)).fetchone()
            if row:
                item, quantity = row
                shop.execute("update inventory set free = free + ? where item = ?", (quantity, item))
                free = _free(shop, item)
        tell(f"{quantity} {item} put back, {free} there" if row else "nothing was set aside", changed=bool(row))


def _free(shop: Connection, item: str) -> int:
    row = shop.execute("select free from inventory where item = ?", (item,)).fetchone()
    return int(row[0]) if row else 0


def note(text: str, key: str) -> None:
    """Write a line of the audit trail, once for each key."""
    with effect("audit") as tell:
        with opened() as shop:
            written = shop.execute("insert or ignore into audit_trail values (?, ?)", (key, text)).rowcount
        tell(f"noted: {text}" if written else "already noted", changed=bool(written))


def schedule_delivery(order_id: str, key: str) -> Delivery:
    """Call the courier, once for each key."""
    with effect("schedule_delivery") as tell:
        with opened() as shop:
            values = (key, order_id)
            called = shop.execute("insert or ignore into deliveries values (?, ?, 'scheduled')", values).rowcount
            number = shop.execute("select rowid from deliveries where key = ?", (key,)).fetchone()[0]
        tell(f"delivery {number} {'agreed' if called else 'already agreed'}", changed=bool(called))
    return Delivery(order_id, number)


def cancel_delivery(key: str) -> None:
    """Call the courier off, if he was called."""
    with effect("cancel_delivery") as tell:
        with opened() as shop:
            row = shop.execute(CANCEL, (key,)).fetchone()
        tell(f"delivery {row[0]} called off" if row else "no delivery was agreed", changed=bool(row))


def shelf() -> list[tuple[str, int]]:
    """Return what is free of each item."""
    with opened() as shop:
        return shop.execute("select item, free from inventory order by item").fetchall()


def deliveries() -> list[tuple[str, int, str]]:
    """Return each delivery: order, number, state."""
    with opened() as shop:
        return shop.execute("select order_id, rowid, state from deliveries order by rowid").fetchall()


def audit_trail() -> list[str]:
    """Return what was noted."""
    with opened() as shop:
        return [note for (note,) in shop.execute("select note from audit_trail order by rowid")]
