"""A transfer between the databases of two banks: no money is made or lost, wherever it is killed."""

import sqlite3
from contextlib import closing

import pytest


@pytest.fixture
def banks(program):
    """Give the program, with 1000 for Ada in the north and nothing for Bob in the south."""
    program.run("-c", "from transfer import connect; connect('north'), connect('south')")
    for bank, account, cents in (("north", "ada", 100_000), ("south", "bob", 0)):
        with closing(sqlite3.connect(program.folder / f"{bank}.db")) as connection, connection:
            connection.execute("INSERT INTO accounts (name, cents) VALUES (?, ?)", (account, cents))
    return program


def balances(banks):
    """Return what Ada and Bob have."""
    return tuple(banks.rows(f"{bank}.db", "SELECT cents FROM accounts")[0][0] for bank in ("north", "south"))


def bookings(banks):
    """Return how many bookings each bank has made."""
    return tuple(banks.rows(f"{bank}.db", "SELECT count(*) FROM bookings")[0][0] for bank in ("north", "south"))


def test_money_is_moved_once_wherever_it_is_killed(banks):
    """The effects carry idempotency keys, so that a step that is tried again finds its own booking."""
    for point in ("withdraw:done", "deposit", "deposit:done", "receipt"):
        banks.run("transfer.py", "t1", "ada", "bob", 1000, kill=point)
        assert sum(balances(banks)) in {100_000, 99_000}
    assert "ada paid bob 1000" in banks.run("transfer.py", "t1", "ada", "bob", 1000)
    assert (balances(banks), bookings(banks)) == ((99_000, 1000), (1, 1))
    assert banks.text("receipts.txt") == "ada -> bob: 1000\n"
    assert banks.journal == [["completed", "withdraw done", "deposit done", "receipt done"]]


def test_a_transfer_that_is_done_is_not_done_again(banks):
    """The same number is the same transfer; with another amount it is refused before anything is entered."""
    for _ in range(2):
        assert "ada paid bob 1000" in banks.run("transfer.py", "t1", "ada", "bob", 1000)
    assert "RunConflictError" in banks.run("transfer.py", "t1", "ada", "bob", 2000, ends=1)
    assert (balances(banks), bookings(banks)) == ((99_000, 1000), (1, 1))
    assert len(banks.journal) == 1


def test_a_transfer_that_fails_is_compensated_wherever_it_is_killed(banks):
    """Each booking is reversed once; a new attempt with the number is a run of its own, with keys of its own."""
    done = ["withdraw done", "deposit done", "receipt failed", "-deposit", "-withdraw"]
    for point in ("reverse", "reverse:done", "reverse:done:2"):
        banks.run("transfer.py", "t1", "ada", "bob", 60_000, kill=point)
    assert (balances(banks), bookings(banks)) == ((100_000, 0), (2, 2))
    for attempt in (1, 2):
        assert "needs a signature" in banks.run("transfer.py", "t1", "ada", "bob", 60_000, ends=1)
        assert (balances(banks), bookings(banks)) == ((100_000, 0), (2 * attempt, 2 * attempt))
        assert banks.journal == [["compensated", *done]] * attempt
