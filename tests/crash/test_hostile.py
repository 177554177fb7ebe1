"""Files written by somebody who means harm: nothing in them is imported, executed or obeyed, and nothing crashes.

Each column of each row of a golden file in turn gets what an attacker may write there, with a digest that fits. The
file is then listed and shown by the command line, and its runs are called again, resumed and compensated. A seeded
sample is taken; with SAGADSL_SWEEP=all everything comes, and SAGADSL_SWEEP=<number> repeats a sample.
"""

import importlib
import itertools
import os
import random
import shutil
import sqlite3
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

import sagadsl
from crash.golden import saga
from sagadsl._core import schema
from sagadsl._core.codec import Codec
from sagadsl._core.journal import file, sqlite
from sagadsl.cli import program
from sagadsl.errors import JournalError, SagaError

GOLDEN = Path(__file__).with_name("golden") / f"version-{schema.VERSION}.db"
SWEEP = os.environ.get("SAGADSL_SWEEP") or str(random.randrange(10**6))  # noqa: S311  # a sample, no secret
SAMPLE = 60
TEXTS = {
    "nothing": "",
    "brackets": "[" * 100_000,
    "closed brackets": "[" * 100_000 + "]" * 100_000,
    "an object": "{}",
    "a list": "[]",
    "a number": "5",
    "a text": '"x"',
    "null": "null",
    "half an object": '{"cause":',
    "infinite": '{"wait":1e999,"uncertain":true,"fault":{}}',
    "a class": '{"$type":"bomb:Bomb","$value":1}',
    "an unknown tag": '{"$reduce":["bomb:Bomb",["x"]]}',
    "an exception": '{"type":"bomb:Bomb","message":"m","args":{"$tuple":[]}}',
    "an exception of ours": '{"type":"sagadsl.errors:Stop","message":"m"}',
    "an exit": '{"type":"builtins:SystemExit","message":"7","args":{"$tuple":[7]}}',
    "arguments": '{"name":{"$type":"bomb:Bomb"},"how":"\\u001b]0;title\\u0007"}',
    "a definition": '{"module":"bomb","compensate":"Bomb","title":5,"standing":[]}',
    "a cause": '{"cause":"bomb","fault":{"type":"bomb:Bomb","message":"\\u001b[2J"},"again":[99,"x",null]}',
    "a terminal's": "\x1b[2J\x1b]0;title\x07\x1b]8;;http://x\x1b\\\x9b31m\u202e\u2066\r\b",
    "a word": "completed",
    "a path": "../../../../etc/passwd",
}
OUTLINES = {
    what: f'{{"seq":{seq},"begun":{begun},"done":1,"status":"{status}","started":{started},"owner":{owner}}}'
    for what, (seq, begun, status, started, owner) in {
        "an outline far off": (2**70, 2**70, "completed", 2**70, '"me"'),
        "an outline of another": (1, 1, "open", 1, '["me"]'),
        "an outline that paints": (1, '"\\u001b[2J"', "completed", 1, '"me"'),
        "an outline of a painter": (1, 1, "compensated", 1, '"\\u001b[2J"'),
    }.items()
}
NUMBERS = {"zero": 0, "negative": -1, "large": 2**62, "largest": 2**63 - 1, "one": 1, "missing": None}
FOUND = {
    *itertools.product(["entries"], ["result"], ["a cause", "infinite", "a number"], [(4, 8), (6, 8)]),
    *itertools.product(["run"], ["thefts"], ["large", "largest", "negative"], [(3, 0), (4, 0), (5, 0), (6, 0)]),
    ("entries", "at", "large", (3, 2)),
    *itertools.product(["run"], ["finished"], NUMBERS, [(7, 0)]),
}
"""What once came out as no error of ours: where a run begins to compensate, is locked, is watched, is gone on with."""

COLUMNS = {
    "entries": {
        **dict.fromkeys(("kind", "step", "name", "definition", "arguments", "result"), TEXTS),
        **dict.fromkeys(("scope", "ref", "attempt", "at"), NUMBERS),
    },
    "run": {
        **dict.fromkeys(("id", "saga", "program", "arguments_digest"), TEXTS),
        "outline": TEXTS | OUTLINES,
        **dict.fromkeys(("generation", "started", "finished", "thefts"), NUMBERS),
    },
}


@pytest.fixture
def bomb(tmp_path, monkeypatch):
    """Give a file that is there once a module of the attacker's has been imported."""
    folder = tmp_path / "path"
    folder.mkdir()
    went_off = tmp_path / "went off"
    source = f"""
        from pathlib import Path
        Path({str(went_off)!r}).touch()
        class Bomb(Exception):
            pass
        """
    (folder / "bomb.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(str(folder))
    saga.mended[:] = [True]
    yield went_off
    saga.mended.clear()
    sys.modules.pop("bomb", None)


def cases():
    """Return every change of one value of the file: table, column, what, and the row it is made to."""
    with closing(sqlite3.connect(f"{GOLDEN.as_uri()}?immutable=1", uri=True)) as shell:
        rows = {
            "entries": shell.execute("select number, seq from entries").fetchall(),
            "run": [(*each, 0) for each in shell.execute("select number from run").fetchall()],
        }
    return [
        (table, column, what, row)
        for table, columns in COLUMNS.items()
        for column, values in columns.items()
        for what, row in itertools.product(values, rows[table])
    ]


def attacked(path, table, column, what, row):
    """Write a file with one hostile value; return whether SQLite took it."""
    shutil.copy(GOLDEN, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as shell:
        shell.create_function("digest", 2, sqlite._digest)
        try:
            where = "number = ? and seq = ?" if table == "entries" else "number = ? and 0 = ?"
            shell.execute(f"update {table} set {column} = ? where {where}", (COLUMNS[table][column][what], *row))  # noqa: S608
            shell.execute("update entries set digest = digest(arguments, result)")
            shell.execute("update run set outline_digest = digest(null, outline)")
        except sqlite3.IntegrityError:
            return False
    return True


def provoke(path, capsys):
    """Do everything that can be done with a file; return what went wrong, and what was written to the terminal."""
    wrong = []

    def ask(name, function, *args):
        try:
            return function(*args)
        except (SagaError, ValueError) as error:  # ours, and that of the golden saga
            if isinstance(error, ValueError) and "car" not in str(error) and not isinstance(error, SagaError):
                wrong.append(f"{name}: {type(error).__name__}: {error}"[:300])
        except BaseException as error:
            wrong.append(f"{name}: {type(error).__name__}: {error}"[:300])
        return None

    ask("list", program.run, ["list", "--db", str(path)])
    ask("list --json", program.run, ["list", "--json", "--db", str(path)])
    for run in saga.RUNS:
        ask(f"show {run}", program.run, ["show", run, "--db", str(path)])
    runtime = sagadsl.Runtime(store=path, durability="process", sleep=lambda _: None)
    for run in ask("runs", runtime.runs) or []:
        ask(f"compensate {run.id[:30]}", run.compensate) if run.id in {"open", "compensation_failed"} else None
        ask(f"resume {run.id[:30]}", run.resume) if run.id == "paused" else None
    for run in saga.RUNS:
        ask(f"call {run}", saga.call, runtime, run)
    runtime.journal().close()
    sqlite.locks_of(path.resolve()).forget()  # or a whole sweep runs out of descriptors
    for left in path.parent.glob(f"{path.name}*"):
        left.unlink()
    out, told = capsys.readouterr()
    return wrong, out + told


def test_nothing_in_a_file_is_imported_executed_or_obeyed_and_nothing_crashes(bomb, tmp_path, capsys):
    """Whatever stands where: an answer, or an error of ours; and a terminal gets printable characters only."""
    chosen = cases()
    if SWEEP != "all":
        chosen = [each for each in chosen if each in FOUND] + random.Random(SWEEP).sample(chosen, SAMPLE)  # noqa: S311
    modules, wrong, count = set(sys.modules), {}, 0
    for number, (table, column, what, row) in enumerate(chosen):
        path = tmp_path / f"{number}.db"
        if attacked(path, table, column, what, row):
            count += 1
            complaints, shown = provoke(path, capsys)
            if not all(c.isprintable() or c == "\n" for c in shown):
                complaints.append(f"not printable: {[c for c in shown if not c.isprintable() and c != chr(10)]}")
            if complaints:
                wrong[table, column, what, row] = complaints
    for case, complaints in wrong.items():
        print(case, *complaints, sep="\n  ")
    print(f"hostile: {count} cases, SAGADSL_SWEEP={SWEEP}")
    assert wrong == {}, f"SAGADSL_SWEEP={SWEEP}"
    assert count > len(FOUND) + SAMPLE / 2
    assert not bomb.exists()
    assert {name for name in set(sys.modules) - modules if not name.startswith(("sagadsl", "tzdata", "importlib"))} <= {
        name for name in sys.modules if name.split(".")[0] in sys.stdlib_module_names
    }


def test_the_judge_catches_a_codec_that_imports_what_a_file_names(bomb, tmp_path, capsys, monkeypatch):
    """The mutant: it means well, and finds the class."""

    def find(self, name):
        module, _, cls = name.partition(":")
        return getattr(importlib.import_module(module), cls, None)

    monkeypatch.setattr(Codec, "_class_called", find)
    for number, (*case, row) in enumerate(cases()):
        if case == ["entries", "result", "an exception"] and not bomb.exists():
            attacked(tmp_path / f"{number}.db", *case, row)
            provoke(tmp_path / f"{number}.db", capsys)
    assert bomb.exists()


# -- what is planted beside our tables --------------------------------------------------------------------------------

EVIL = {
    "trigger": "create trigger evil after insert on entries begin update entries set kind = 'done'; end",
    "trigger in other letters": 'create trigger evil before insert on "ENTRIES" begin select raise(ignore); end',
    "trigger on runs": "create trigger evil after update on run begin delete from entries; end",
    "trigger on letters": "create trigger evil after insert on letters begin delete from letters; end",
    "trigger on a view": "create trigger evil instead of insert on runs begin delete from entries; end",
    "trigger on the migrations": "create trigger evil after insert on _sqlite_migrations begin delete from run; end",
    "unique index": "create unique index evil on entries (number, scope, at)",
    "index that computes": "create index evil on entries (number / (seq - 3))",
    "view for a table": "alter table entries rename to hidden; create view entries as select * from hidden",
    "table of other columns": "drop table letters; create table letters (letter, number, at, kind, payload, seq)",
    "table with a default": "delete from letters; alter table letters add column x text default (upper('x'))",
    "view that lies": "drop view runs; create view runs as select 'all is well' as id",
    "view in other letters": "drop view runs; create view RUNS as select 'all is well' as id",
}


@pytest.mark.parametrize("kind", sorted(EVIL))
@pytest.mark.parametrize("is_read_only", [True, False])
def test_what_is_planted_in_our_place_or_on_it_is_refused(kind, is_read_only, tmp_path):
    """By name, before anything is written or entered."""
    path = planted(tmp_path, EVIL[kind])
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"schema is not that of sagadsl \(.*\): nothing was written") as refused:
        saga.call(sagadsl.Runtime(store=path, read_only=is_read_only), "open")
    assert refused.value.exit_code == 5
    assert saga.effects == []
    assert path.read_bytes() == before


NEIGHBOURS = """
    create table notes (run text, note text);
    create index notes_by_run on notes (run);
    create view noted as select * from runs join notes on notes.run = runs.id;
    create trigger note_taken after insert on notes begin update notes set note = upper(note); end;
    create table sagadsl_landed (key text primary key, result text);
"""


def test_what_others_keep_beside_our_tables_is_their_own_affair(bomb, tmp_path):
    assert len(saga.call(sagadsl.Runtime(store=planted(tmp_path, NEIGHBOURS)), "open")) == 3


def test_the_judge_knows_that_a_planted_trigger_is_obeyed_when_nobody_looks(bomb, tmp_path, monkeypatch):
    """The mutant: without the comparison the attacker's trigger decides what is recorded."""
    monkeypatch.setattr(file, "planted", lambda _: None)
    path = planted(tmp_path, "create trigger evil after insert on entries begin delete from entries where seq > 1; end")
    runtime = sagadsl.Runtime(store=path)
    saga.trip.using(runtime=runtime, id="new")("new")
    assert runtime.find("new").steps == ()


def planted(folder, sql):
    path = folder / "sagas.db"
    shutil.copy(GOLDEN, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as shell:
        shell.execute("pragma legacy_alter_table = on")
        shell.executescript(sql)
    saga.effects.clear()
    return path
