"""Every statement and every call of a user's function is a fault point: what is added without one fails here."""

import ast
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from points import kind_of, watch

import sagadsl
from sagadsl import Landed, Retry
from sagadsl._core.drive import Drivers
from sagadsl._core.journal.file import File
from sagadsl._core.journal.locks import Locks
from sagadsl._core.journal.sqlite import SqliteJournal

CORE = Path(sagadsl.__file__).parent / "_core"


class Passing:
    """Which points were passed, and which one is open now."""

    def __init__(self):
        self.passed, self.open = [], []

    def __call__(self, point):
        self.passed.append(point)
        moment, what = point.split(" ", 1)
        if moment == "before":
            self.open.append(what)
        else:
            assert self.open.pop() == what

    def since(self, what):
        """Return what was passed after a point, each once: its end follows before anything else."""
        whats = [point.removeprefix("before ") for point in self.passed if point.startswith("before ")]
        return whats[whats.index(what) + 1 :]


@pytest.fixture
def points(runtime):
    """Give what is told of the points of a runtime."""
    passing = Passing()
    with watch(passing, runtime.drive.__self__):
        yield passing
    assert passing.open == []


def failing(colour, runtime, inside):
    """Return a saga that calls each function that a user can give a step."""

    def undo():
        inside("-")

    def probe():
        inside("?")
        return Landed(1)

    @colour.step(
        compensate=colour.coloured(undo), probe=colour.coloured(probe), retries=Retry(1, wait=0.0), name="book"
    )
    def book() -> int:
        inside("+")
        raise sagadsl.StepTimeout("book", 1.0)

    @colour.saga(runtime=runtime, name="trip")
    def trip():
        yield book()
        raise LookupError

    return trip


def test_a_failing_saga_passes_these_points(points, colour, runtime):
    """Numbered as they come, after the file is made; each has its before and its after."""
    with pytest.raises(LookupError):
        colour.call(failing(colour, runtime, lambda sign: None))
    entry, synced = "insert into entries", "the log is synced"
    marked = ("begin immediate", entry, "update run", "commit")
    after = [what for what in points.since("insert into run") if what != "pragma synchronous"]
    assert after[: after.index("the lock is let go") + 1] == [
        *("the lock is taken", entry, entry, "commit", "the step book", "the probe book", entry),
        *(*marked, entry, synced, "the compensation book", entry, *marked, "the lock is let go"),
    ]


def test_no_function_of_a_users_is_entered_but_at_a_point(points, colour, runtime):
    """A step's body, its probe, its compensation."""
    entered = []
    with pytest.raises(LookupError):
        colour.call(failing(colour, runtime, lambda sign: entered.append((sign, points.open[-1]))))
    assert entered == [("+", "the step book"), ("?", "the probe book"), ("-", "the compensation book")]


def test_no_statement_is_executed_but_at_a_point(points, colour, runtime, monkeypatch):
    """SQLite itself tells of each: the making of the file, the hot path, whatever is asked of the runs."""
    executed = []

    def prepared(self, connection):
        connection.set_trace_callback(lambda sql: executed.append((sql, bool(points.open))))
        prepare(self, connection)

    prepare = File._prepare
    monkeypatch.setattr(File, "_prepare", prepared)
    with pytest.raises(LookupError):
        colour.call(failing(colour, runtime, lambda sign: None))
    journal = runtime.journal()
    assert journal.post(sagadsl._core.journal.Letter(0, 1, 0, "cancel", None)) is False  # the run has ended
    assert [journal.letters(1), runtime.runs()[0].status] == [[], "compensated"]
    assert len(executed) > 60
    assert [sql for sql, is_at_a_point in executed if not is_at_a_point] == []


def test_statements_go_through_the_one_connection_that_can_be_watched():
    """Not by a script, a cursor but the journal's own, or a connection of their own.

    A user's database has its own way in `landed`; a backup is another file, which nobody uses before it is whole; what
    counts does so in memory.
    """
    found = []
    for path in CORE.rglob("*.py"):
        if path.parent.name == "landed":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                name = node.func.attr
                if name in {"executemany", "executescript", "cursor", "blobopen", "backup"}:
                    found.append((path.name, name))
                elif name == "connect":
                    found.append((path.name, ast.unparse(node.func)))
    elsewhere = [("copying.py", "backup"), ("copying.py", "sqlite3.connect"), ("counting.py", "sqlite3.connect")]
    assert sorted(found) == [*elsewhere, ("file.py", "self.connect"), ("sqlite.py", "cursor")]


def test_users_functions_are_called_where_the_drivers_answer_a_call():
    """A further place that calls what an effect carries needs a point."""
    found = set()
    for path in CORE.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    called = [node.func, *node.args] if isinstance(node, ast.Call) else []
                    if any(ast.unparse(each) == "effect.function" for each in called):
                        found.add((path.relative_to(CORE).as_posix(), function.name))
    assert found == {("drive/__init__.py", name) for name in ("call", "call_within", "body", "acall")}


def test_nothing_is_left_where_nobody_watches(runtime):
    """The same objects are in their places again."""
    drivers = runtime.drive.__self__

    def places():
        journal = (SqliteJournal.connect, SqliteJournal.log_file)
        return (*journal, Locks.hold, Locks.release, drivers._answers, drivers._async_answers)

    before = places()
    with watch(lambda point: None, drivers):
        assert not any(old is new for old, new in zip(before, places(), strict=True))
    assert all(old is new for old, new in zip(before, places(), strict=True))
    assert SqliteJournal.connect is sqlite3.connect
    assert isinstance(drivers, Drivers)


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("insert into entries values (?)", "insert into entries"),
        ("INSERT INTO run values (?)", "insert into run"),
        ("pragma user_version = 1", "pragma user_version"),
        ("commit", "commit"),
        ("SAVEPOINT s_71;", "savepoint"),
    ],
)
def test_a_statement_is_told_of_by_its_first_words(sql, kind):
    assert kind_of(sql) == kind


def test_what_is_watched_behaves_as_before(tmp_path, points, runtime):
    """An error comes out as it was, after its point has ended."""
    SqliteJournal(tmp_path / "other.db")._first_execute("select 1")
    connection = SqliteJournal.connect(tmp_path / "third.db")
    with closing(connection), pytest.raises(sqlite3.OperationalError):
        connection.execute("select nothing")
    assert points.passed[-1] == "after select nothing"
