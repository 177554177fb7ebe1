"""What stands in the file: three tables that are ours, four views that are everybody's."""

import contextlib
import importlib
import sqlite3
import subprocess
import sys
import types

import pytest

from sagadsl._core import schema

COLUMNS = {
    "runs": "id saga status cause parent generation started updated ended arguments result error program "
    "cancel_requested notify_owed",
    "steps": "run generation seq step name status attempts arguments result error compensation started ended",
    "compensations": "run generation step compensation status attempts error skipped started ended",
    "timeline": "run generation seq at step event attempt arguments result",
}


@pytest.fixture
def file():
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        schema.migrate(connection)
        yield connection


def test_a_new_file_has_these_tables_and_views(file):
    """And the mark of sqlite-utils that says which migrations it has had."""
    found = file.execute(
        "select type, name from sqlite_schema where type in ('table', 'view') and name not like 'sqlite_%'"
    )
    assert sorted(found.fetchall()) == sorted(
        [
            ("table", "_sqlite_migrations"),
            *(("table", t) for t in ("run", "entries", "letters")),
            *(("view", v) for v in COLUMNS),
        ]
    )
    assert file.execute("pragma user_version").fetchone() == (schema.VERSION,)


@pytest.mark.parametrize("view", sorted(COLUMNS))
def test_a_public_view_has_these_columns(view, file):
    """They are a versioned interface: adding is cheap, taking away is not."""
    assert [row[1] for row in file.execute(f"pragma table_info({view})")] == COLUMNS[view].split()


def test_migrating_again_changes_nothing(file):
    """Two processes may find the same new file."""
    before = file.execute("select * from sqlite_schema").fetchall()
    schema.migrate(file)
    assert file.execute("select * from sqlite_schema").fetchall() == before
    assert not file.in_transaction


LATE = """
import sqlite3, sys, threading
from sagadsl._core import schema

def late():
    threading.main_thread().join()
    schema.migrate(sqlite3.connect(":memory:", isolation_level=None))
    print("pandas" in sys.modules)

threading.Thread(target=late).start()
"""


def test_a_thread_that_outlives_the_main_one_makes_a_new_file():
    """Then nothing is imported any more that wants to be told of the end, as pandas does, which nobody asked for."""
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.fixture
def unimported(tmp_path, monkeypatch):
    """Have neither pandas nor sqlite-utils imported yet, and give a folder that is looked for them in first."""
    for name in [name for name in sys.modules if name.partition(".")[0] in {"pandas", "sqlite_utils"}]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_what_cannot_be_imported_for_sqlite_utils_is_done_without(unimported, monkeypatch):
    """Here it says so by itself, and again to the program that asks for it by name; mended, it is to be had."""
    (unimported / "pandas.py").write_text("import mended")
    (unimported / "mended.py").write_text("raise RuntimeError('too late')")
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        schema.migrate(connection)
        assert connection.execute("pragma user_version").fetchone() == (schema.VERSION,)
    with pytest.raises(RuntimeError, match="too late"):
        importlib.import_module("pandas")
    monkeypatch.setitem(sys.modules, "mended", types.ModuleType("mended"))
    assert importlib.import_module("pandas").mended is sys.modules["mended"]
    monkeypatch.delitem(sys.modules, "pandas")


def test_where_pandas_is_there_it_is_something_else_that_fails_and_is_told(unimported, monkeypatch):
    """The program keeps its pandas."""
    pandas = types.ModuleType("pandas")
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    (unimported / "sqlite_utils.py").write_text("raise RuntimeError('a plug-in')")
    with contextlib.closing(sqlite3.connect(":memory:")) as connection, pytest.raises(RuntimeError, match="a plug-in"):
        schema.migrate(connection)
    assert sys.modules["pandas"] is pandas


def test_unfinished_runs_are_found_by_an_index(file):
    """Adopting a run looks at no finished one, and the letters of a run cost no scan."""
    plans = [
        "select * from run where saga = 'a' and arguments_digest = 'b' and finished is null",
        "select * from run where id = 'a'",
        "select 1 from letters where number = 1 and seq is null",
        "select * from entries where number = 1 order by seq",
    ]
    assert ["SEARCH" in file.execute(f"explain query plan {sql}").fetchone()[3] for sql in plans] == [True] * 4


@pytest.mark.parametrize(
    "statement",
    [
        "insert into run values (1, 'a', 1, 's', 'p', 'd', 'noon', null, 0, null, null, null)",
        "insert into entries values (1, 1, null, 0, '', null, null, 0, null, null, null, null, null)",
        "insert into letters values (null, 1, 0, x'00', null, null)",
    ],
)
def test_the_tables_are_strict(statement, file):
    """A column holds what it says."""
    with pytest.raises(sqlite3.IntegrityError):
        file.execute(statement)


PLANTED = {
    "": None,
    "create table notes (note); create index by_note on notes (note); create view noted as select * from notes": None,
    "create table n (x); create trigger t after insert on n begin delete from n; end": None,
    "create trigger evil after insert on ENTRIES begin select 1; end": "trigger evil",
    "create trigger evil after insert on _sqlite_migrations begin select 1; end": "trigger evil",
    "create unique index evil on run (saga)": "index evil",
    "drop view runs; create view runs as select 1": "view runs",
    "drop table letters": "no letters",
}


@pytest.mark.parametrize("sql", sorted(PLANTED))
def test_what_stands_in_our_place_or_on_what_is_ours_is_named(sql, file):
    """And what others keep beside it is their own affair."""
    file.executescript(sql)
    assert schema.planted(file) == PLANTED[sql]
