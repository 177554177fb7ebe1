"""The same transfer in the banks' own transactions: each booking exactly once, without idempotency keys."""

import sqlite3
from contextlib import closing

import pytest

COMPENSATED = ["compensated", "withdraw done", "deposit done", "sign failed", "-deposit", "-withdraw"]


@pytest.fixture
def banks(program):
    """Give the program, with 1000 for Ada in the north and nothing for Bob in the south."""
    for bank, account, cents in (("north", "ada", 100_000), ("south", "bob", 0)):
        with closing(sqlite3.connect(program.folder / f"{bank}.db")) as connection, connection:
            connection.execute("CREATE TABLE accounts (name PRIMARY KEY, cents INTEGER CHECK (cents >= 0))")
            connection.execute("INSERT INTO accounts (name, cents) VALUES (?, ?)", (account, cents))
    return program


def balances(banks):
    """Return what Ada and Bob have."""
    return tuple(banks.rows(f"{bank}.db", "SELECT cents FROM accounts")[0][0] for bank in ("north", "south"))


def test_plain_updates_are_done_once_wherever_it_is_killed(banks):
    """Killed inside the transaction nothing is booked; killed after it nothing is booked again."""
    for point, held in (("add:done", 100_000), ("deposit", 99_000), ("sign", 99_000)):
        banks.run("exact.py", "t1", "ada", "bob", 1000, kill=point)
        assert balances(banks)[0] == held
    assert "ada paid bob 1000" in banks.run("exact.py", "t1", "ada", "bob", 1000)
    assert balances(banks) == (99_000, 1000)
    assert banks.journal == [["completed", "withdraw done", "deposit done", "sign done"]]


def test_a_person_compensates_each_bank_by_its_own_connection(banks):
    """Killed while it compensates; the command line takes the connections that the program provides."""
    banks.run("exact.py", "t1", "ada", "bob", 60_000, kill="take_back:done")
    banks.run("exact.py", "t1", "ada", "bob", 60_000, kill="put_back")
    assert balances(banks) == (40_000, 0)
    shown = banks.sagadsl("compensate", "transfer/t1", "--target", "exact.py:transfer", "--yes")
    assert "is compensated" in shown
    assert balances(banks) == (100_000, 0)
    assert banks.journal == [COMPENSATED]
