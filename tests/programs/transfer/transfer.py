"""Move money between two banks, each a database of its own: ``transfer.py FROM TO CENTS``."""

import argparse
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import sagadsl
from sagadsl import saga, step


def connect(bank):
    connection = sqlite3.connect(f"{bank}.db")
    connection.executescript(
        """
        CREATE TABLE IF NOT EXISTS accounts (name PRIMARY KEY, cents INTEGER CHECK (cents >= 0), closed DEFAULT 0);
        CREATE TABLE IF NOT EXISTS bookings (key PRIMARY KEY, account, cents);
        """
    )
    return closing(connection)


def post(bank, account, cents, key):
    """Book once per key: a second booking with the same key is the first one."""
    with connect(bank) as connection, connection:
        if connection.execute("SELECT 1 FROM bookings WHERE key = ?", (key,)).fetchone():
            return
        done = connection.execute(
            "UPDATE accounts SET cents = cents + ? WHERE name = ? AND NOT closed", (cents, account)
        ).rowcount
        if not done:
            raise LookupError(f"{bank} has no open account {account}")
        connection.execute("INSERT INTO bookings VALUES (?, ?, ?)", (key, account, cents))


def reverse(bank, account, cents, idempotency_key):
    """Take a booking back, if there is one, once."""
    with connect(bank) as connection, connection:
        found = connection.execute("SELECT cents FROM bookings WHERE key = ?", (idempotency_key,)).fetchone()
    if found:
        post(bank, account, -found[0], f"reverse {idempotency_key}")


@step(compensate=reverse)
def withdraw(bank: str, account: str, cents: int) -> None:
    post(bank, account, -cents, sagadsl.current().idempotency_key)


@step(compensate=reverse)
def deposit(bank: str, account: str, cents: int) -> None:
    post(bank, account, cents, sagadsl.current().idempotency_key)


@step(compensate=None)
def receipt(payer: str, payee: str, cents: int) -> None:
    if cents > 50_000:
        raise PermissionError("more than 500 needs a signature")
    with Path("receipts.txt").open("a") as file:
        file.write(f"{payer} -> {payee}: {cents}\n")


@saga(key="{number}")
def transfer(number: str, payer: str, payee: str, cents: int) -> str:
    """Move money."""
    withdraw("north", payer, cents)
    deposit("south", payee, cents)
    receipt(payer, payee, cents)
    return f"{number}: {payer} paid {payee} {cents}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("number")
    parser.add_argument("payer")
    parser.add_argument("payee")
    parser.add_argument("cents", type=int)
    print(transfer(**vars(parser.parse_args(sys.argv[1:]))))
