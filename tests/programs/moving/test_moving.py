"""From ``ExitStack`` to a block: the same world on success and on failure, and after a kill the block goes on."""

import pytest
from programs.conftest import Program

ENDINGS = [("books", "gold", 0), ("wine", "unpaid", 1), ("spam", "gold", 1)]
STEPS = ["create_database", "create_user", "publish", "add_compensation(unpublish)", "announce"]


def world(program):
    """Return what the hosting company has, its log apart."""
    return [name for name in program.names("hosting/**/*") if not name.endswith("log.txt")]


@pytest.fixture
def before(program):
    """Give the program with the ``ExitStack``."""
    return program


@pytest.fixture
def after(tmp_path):
    """Give the program with the block, in a folder of its own."""
    return Program("moving", tmp_path / "after")


def test_before_and_after_are_the_same(before, after):
    """In all that is done, undone and left, and in what is printed or raised."""
    for shop, plan, ends in ENDINGS:
        shown = [each.run(f"{name}.py", shop, plan, ends=ends) for each, name in ((before, "before"), (after, "after"))]
        errors = [[line for line in text.splitlines() if "Error: " in line] or text for text in shown]
        assert errors[0] == errors[1]
    assert before.text("hosting/log.txt") == after.text("hosting/log.txt")
    assert world(before) == world(after) == ["hosting/books.db", "hosting/books.db/owner", "hosting/books.site"]


def test_only_the_block_survives_a_kill(before, after):
    """Killed at each point it goes on to the end; the stack is gone with its process."""
    before.run("before.py", "books", "gold", kill="create_user:done")
    assert world(before) == ["hosting/books.db", "hosting/books.db/owner"]

    for point in ("create_database:done", "create_user", "publish:done", "announce"):
        after.run("after.py", "books", "gold", kill=point)
    assert "books.site" in after.run("after.py", "books", "gold")
    assert world(after) == ["hosting/books.db", "hosting/books.db/owner", "hosting/books.site"]
    assert after.journal == [["completed", *(f"{step} done" for step in STEPS)]]


def test_only_the_block_survives_a_kill_while_it_compensates(before, after):
    """The first shows what is left when a stack is killed as it unwinds."""
    before.run("before.py", "spam", "gold", kill="delete_user")
    assert world(before) == ["hosting/spam.db", "hosting/spam.db/owner"]

    for point in ("unpublish:done", "delete_user:done", "drop_database:done"):
        after.run("after.py", "spam", "gold", kill=point)
    assert "spam.site is on a list" in after.run("after.py", "spam", "gold", ends=1)
    assert world(after) == []
    done = [f"{step} done" for step in STEPS[:4]]
    undone = [f"-{step}" for step in STEPS[:4] if step != "publish"]
    assert after.journal == [["compensated", *done, "announce failed", *reversed(undone)]]
