"""The same transfer with the bookings in the banks' own transactions: no idempotency keys, each effect exactly once."""

import argparse
import sqlite3
import sys
from contextlib import closing, contextmanager
from functools import partial
from sqlite3 import Connection
from typing import NewType

import sagadsl
from sagadsl import Live, saga, step

North = NewType("North", Connection)  # two connections, and each bank has its own
South = NewType("South", Connection)


@contextmanager
def bank(name):
    with closing(sqlite3.connect(f"{name}.db", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS accounts (name PRIMARY KEY, cents INTEGER CHECK (cents >= 0))")
        yield connection


sagadsl.provide(North, partial(bank, "north"))
sagadsl.provide(South, partial(bank, "south"))


def add(bank, account, cents):
    if not bank.execute("UPDATE accounts SET cents = cents + ? WHERE name = ?", (cents, account)).rowcount:
        raise LookupError(f"there is no account {account}")


def put_back(bank, account, cents):
    add(bank, account, cents)


@step(compensate=put_back, transaction="bank")
def withdraw(bank: Live[North], account: str, cents: int) -> None:
    add(bank, account, -cents)


def take_back(bank, account, cents):
    add(bank, account, -cents)


@step(compensate=take_back, transaction="bank")
def deposit(bank: Live[South], account: str, cents: int) -> None:
    add(bank, account, cents)


@step(compensate=None)
def sign(cents: int) -> None:
    if cents > 50_000:
        raise PermissionError("more than 500 needs a signature")


@saga(key="{number}")
def transfer(north: Live[North], south: Live[South], number: str, payer: str, payee: str, cents: int) -> str:
    """Move money."""
    withdraw(north, payer, cents)
    deposit(south, payee, cents)
    sign(cents)
    return f"{number}: {payer} paid {payee} {cents}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("number")
    parser.add_argument("payer")
    parser.add_argument("payee")
    parser.add_argument("cents", type=int)
    with bank("north") as north, bank("south") as south:
        print(transfer(north, south, **vars(parser.parse_args(sys.argv[1:]))))
