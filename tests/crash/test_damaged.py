"""Files that are older, newer, damaged or somebody else's: opened and resumed, or refused with what to do.

The damage is swept over a golden file: each page in turn turned into garbage, the file cut off, single bits flipped
anywhere. A seeded sample is taken; with SAGADSL_SWEEP=all ten times as many, and SAGADSL_SWEEP=<number> repeats one.
"""

import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import sagadsl
from crash.disk import Disk, Model, written
from crash.golden import saga
from crash.workload import Stage, play
from sagadsl._core import schema
from sagadsl._core.journal import file
from sagadsl._core.journal.sqlite import SqliteJournal
from sagadsl._core.values import Entry, Kind
from sagadsl.errors import JournalError, RunCancelledError, SagaError

GOLDEN = Path(__file__).with_name("golden")
SWEEP = os.environ.get("SAGADSL_SWEEP") or str(random.randrange(10**6))  # noqa: S311  # a sample, no secret
PAGE = 4096


@pytest.fixture
def copy(tmp_path):
    """Give a maker of copies of a golden file, changed by SQL or by a function of its bytes."""
    saga.mended[:] = [True]

    def make(sql="", change=lambda content: content, version=schema.VERSION, name="sagas.db"):
        path = tmp_path / name
        path.write_bytes(change((GOLDEN / f"version-{version}.db").read_bytes()))
        if sql:
            with closing(sqlite3.connect(path, isolation_level=None)) as shell:
                shell.executescript(sql)
        return path

    yield make
    saga.mended.clear()


def runtime_on(path, **options):
    return sagadsl.Runtime(store=path, sleep=lambda _: None, **options)


# -- golden files -----------------------------------------------------------------------------------------------------

FOUND = {
    "completed": ("completed", ["done"] * 3, ["car", "hotel", "flight"]),
    "compensated": ("compensated", ["compensated", "compensated", "failed"], []),
    "open": ("open", ["done", "done", "entered"], ["car", "hotel", "flight"]),
    "compensating": ("compensating", ["done", "compensating", "failed"], ["hotel", "flight"]),
    "paused": ("paused", ["done", "done", "failed"], ["hotel", "flight"]),
    "compensation_failed": ("compensation_failed", ["done", "compensation_failed", "failed"], ["hotel", "flight"]),
    "put_back": ("paused", ["done", "done", "compensated"], ["hotel", "flight"]),
    "skipped": ("compensated", ["compensated", "skipped", "failed"], []),
    "asked": ("open", ["done", "done", "entered"], ["car", "hotel", "flight"]),
}


def test_there_is_a_golden_file_of_each_version():
    assert sorted(path.name for path in GOLDEN.glob("*.db")) == [f"version-{v + 1}.db" for v in range(schema.VERSION)]


@pytest.mark.parametrize("version", range(1, schema.VERSION + 1))
@pytest.mark.parametrize("is_read_only", [True, False])
def test_a_file_of_each_version_says_where_its_runs_stand(version, is_read_only, copy):
    path = copy(version=version)
    runs = {run.id: run for run in runtime_on(path, read_only=is_read_only).runs()}
    found = {
        name: (run.status, [step.status for step in run.steps], [step.arguments["name"] for step in run.stack])
        for name, run in runs.items()
    }
    assert found == FOUND
    assert runs["completed"].result[0] == {"name": "flight", "seats": (1, 2), "price": 12.5}
    assert runs["open"].started.year == 2023
    assert runs["skipped"].steps[1].skipped_why == "paid back by hand"
    assert [name for name, run in runs.items() if run.cancel_requested] == ["asked"]


@pytest.mark.parametrize("version", range(1, schema.VERSION + 1))
def test_a_run_of_each_version_goes_on_where_it_was_left(version, copy):
    """With a value recorded in its day, from the step or the compensation that was cut off, and no other."""
    runtime = runtime_on(copy(version=version))
    booked = [{"name": name, "seats": (1, 2), "price": 12.5} for name in ("flight", "hotel", "car")]
    for run, effects in (("completed", []), ("open", ["car"]), ("paused", ["car"]), ("put_back", ["car"])):
        assert saga.call(runtime, run) == booked
        assert saga.effects == effects
    with pytest.raises(ValueError, match="car") as failed:
        saga.call(runtime, "compensating")
    assert failed.value.args == ("car", {"seats": (4, 5)})
    assert saga.effects == ["-hotel", "-flight"]
    with pytest.raises(RunCancelledError):
        saga.call(runtime, "asked")
    assert saga.effects == ["-car", "-hotel", "-flight"]
    saga.effects.clear()
    assert runtime.find("compensation_failed").compensate().status == "compensated"
    assert saga.effects == ["-hotel", "-flight"]


MUTANTS = {
    "a table that lacks a column": ("alter table run drop column thefts", "table run"),
    "a table that is gone": ("drop index letters_unread; drop table letters", "no letters"),
    "an index that is gone": ("drop index run_unfinished", "no run_unfinished"),
    "another program's": ("pragma application_id = 7", "is another program's database: name a file of its own"),
    "a version of none": ("pragma user_version = 0", "is another program's database"),
    "a newer one": ("pragma user_version = 2", "written by a newer sagadsl (schema 2, this one reads 1): upgrade it"),
}


@pytest.mark.parametrize("mutant", sorted(MUTANTS))
@pytest.mark.parametrize("is_read_only", [True, False])
def test_a_golden_file_that_is_not_what_it_was_is_refused_and_left_alone(mutant, is_read_only, copy):
    sql, reason = MUTANTS[mutant]
    path = copy(sql)
    before = path.read_bytes()
    with pytest.raises(JournalError) as refused:
        runtime_on(path, read_only=is_read_only).runs()
    assert reason in str(refused.value)
    assert refused.value.exit_code == 5
    assert path.read_bytes() == before


# -- damage -----------------------------------------------------------------------------------------------------------


def flipped(content, at, bit):
    return content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :]


def payloads(run):
    """Yield where in the golden file the payloads of a run stand: offset and length."""
    path = GOLDEN / f"version-{schema.VERSION}.db"
    content = path.read_bytes()
    with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as shell:
        rows = shell.execute(
            "select seq, arguments, result from entries join run using (number) where id = ? order by seq", (run,)
        ).fetchall()
    for text in (text for _, *texts in rows for text in texts if text):
        if content.count(text.encode()) == 1:
            yield content.index(text.encode()), len(text.encode())


def test_a_flipped_bit_of_a_payload_is_found(copy):
    """SQLite's own check sees nothing of it; whoever wants that run is told, the others go on."""
    rng = random.Random(SWEEP)  # noqa: S311
    places = list(payloads("open"))
    assert len(places) >= 1
    for at, length in places:
        place, bit = at + rng.randrange(length), rng.randrange(7)
        path = copy(change=lambda content, place=place, bit=bit: flipped(content, place, bit))
        with closing(sqlite3.connect(path)) as shell:
            assert shell.execute("pragma integrity_check").fetchone() == ("ok",)
        runtime = runtime_on(path)
        with pytest.raises(JournalError, match="is damaged: restore a backup"):
            saga.call(runtime, "open")
        assert saga.effects == []
        assert len(saga.call(runtime, "paused")) == 3
        runtime.journal().close()
        path.with_name("sagas.db-wal").unlink(missing_ok=True)


class Trusting(SqliteJournal):
    """The mutant: it takes what it finds for what was written."""

    def entries(self, number):
        rows = self._read("select * from entries where number = ? order by seq", (number,))
        return [Entry(*row[:2], Kind(row[2]), *row[3:-1]) for row in rows]


def test_without_digests_nobody_finds_a_flipped_bit(copy):
    at, length = next(iter(payloads("open")))
    path = copy(change=lambda content: flipped(content, at + length - 4, 0))
    saga.call(runtime_on(Trusting(path)), "paused")
    found, whole = (
        [(entry.arguments, entry.result) for entry in Trusting(file).entries(3)]
        for file in (path, copy(name="whole.db"))
    )
    assert found != whole
    with pytest.raises(JournalError, match="is damaged"):
        SqliteJournal(path).entries(3)


def damages(rng, size):
    """Yield kinds of damage, each a name and a function of a file's bytes."""
    factor = 10 if SWEEP == "all" else 1
    for page in range(size // PAGE):
        yield f"garbage in page {page}", lambda b, p=page: b[: p * PAGE] + rng.randbytes(PAGE) + b[(p + 1) * PAGE :]
        yield f"zeros in page {page}", lambda b, p=page: b[: p * PAGE] + bytes(PAGE) + b[(p + 1) * PAGE :]
        yield f"cut off after page {page}", lambda b, p=page: b[: p * PAGE]
    for at in [rng.randrange(size) for _ in range(10 * factor)]:
        yield f"cut off at {at}", lambda b, at=at: b[:at]
    used = [at for at, byte in enumerate((GOLDEN / f"version-{schema.VERSION}.db").read_bytes()) if byte]
    for at, bit in [(rng.choice(used), rng.randrange(8)) for _ in range(60 * factor)]:
        yield f"bit {bit} of byte {at}", lambda b, at=at, bit=bit: flipped(b, at, bit)


def test_a_damaged_file_is_refused_or_read_and_never_more_than_that(copy):
    """Whatever the damage: no error but ours, with what to do; and what is refused is not entered."""
    rng = random.Random(SWEEP)  # noqa: S311
    wrong, refused, cases = {}, 0, 0
    size = (GOLDEN / f"version-{schema.VERSION}.db").stat().st_size
    for number, (name, change) in enumerate(damages(rng, size)):
        path = copy(change=change, name=f"{number}.db")
        for is_read_only in (True, False):
            cases += 1
            runtime = runtime_on(path, read_only=is_read_only)
            asks = [runtime.runs] if is_read_only else [lambda r=r: saga.call(runtime, r) for r in saga.RUNS]  # noqa: B023
            for ask in asks:
                try:
                    ask()
                except JournalError as error:
                    refused += 1
                    if is_read_only is False and saga.effects and "damaged" in str(error) and "entry" in str(error):
                        wrong[name] = f"entered {saga.effects}, then {error}"
                except (SagaError, ValueError):  # the golden saga's own
                    pass
                except Exception as error:
                    wrong[name] = f"{type(error).__name__}: {error}"
            runtime.journal().close()
        for left in path.parent.glob(f"{number}.db*"):
            left.unlink()
    print(f"damage: {cases} cases, {refused} refusals, SAGADSL_SWEEP={SWEEP}")
    assert wrong == {}, f"SAGADSL_SWEEP={SWEEP}"
    assert refused > cases / 4


GARBAGE = {
    "text": b"not a database, but a text of some length, repeated\n" * 100,
    "a few bytes": b"SQLite",
    "noise": random.Random(1).randbytes(20_000),  # noqa: S311
}


@pytest.mark.parametrize("kind", sorted(GARBAGE))
@pytest.mark.parametrize("is_read_only", [True, False])
def test_what_is_no_database_is_refused_and_left_alone(kind, is_read_only, tmp_path):
    path = tmp_path / "sagas.db"
    path.write_bytes(GARBAGE[kind])
    with pytest.raises(JournalError, match="no SQLite database; name another") as refused:
        runtime_on(path, read_only=is_read_only).runs()
    assert refused.value.exit_code == 5
    assert path.read_bytes() == GARBAGE[kind]


# -- from one version to the next, with a loss of power in between ----------------------------------------------------


def second(db):
    """Do what a next version might: make a table, add a column, change each row."""
    db.execute("create table notes (note text) strict")
    db.execute("alter table letters add column read_by text")
    db.execute("update run set thefts = thefts + 1")


@pytest.fixture
def next_version(monkeypatch):
    """Let this be a version later; the golden file is then an older one."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as memory:
        schema.migrate(memory)
        with monkeypatch.context() as patched:
            patched.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, second))
            patched.setattr(schema, "VERSION", schema.VERSION + 1)
            schema.migrate(memory)
            found = memory.execute("select name, sql from sqlite_schema where name not like '%sqlite_%'").fetchall()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, second))
    monkeypatch.setattr(schema, "EXPECTED", dict(found))
    monkeypatch.setattr(schema, "VERSION", 2)
    monkeypatch.setattr(file, "VERSION", 2)


def state_of(path):
    with closing(sqlite3.connect(path)) as shell:
        tables = shell.execute("select count(*) from sqlite_schema where name = 'notes'").fetchone()[0]
        version = shell.execute("pragma user_version").fetchone()[0]
        return version, tables, shell.execute("select distinct thefts from run").fetchall()


def test_an_older_file_is_brought_up_to_date_and_its_runs_go_on(copy, next_version):
    """By a program that writes; one that only looks says who will do it, and changes nothing."""
    path = copy(version=1)
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"older sagadsl .schema 1.: the next saga that writes"):
        runtime_on(path, read_only=True).runs()
    assert path.read_bytes() == before
    assert len(saga.call(runtime_on(path), "open")) == 3
    assert saga.effects == ["car"]
    assert state_of(path) == (2, 1, [(1,)])


def test_a_migration_cut_off_anywhere_has_happened_or_not(copy, next_version, tmp_path):
    """Killed, or without power, at each write: the file is of the one version or the other, and its runs go on."""
    path, disk = copy(version=1), Disk()
    disk.operations += [("open", path.name), ("write", path.name, 0, path.read_bytes()), ("sync", path.name),
                        ("open", "folder-wal"), ("sync", "folder-wal")]  # fmt: skip
    start = len(disk.operations)
    journal = SqliteJournal(path, connect=disk.connect)
    assert len(journal.runs()) == len(saga.RUNS)
    model, seen = Model(), set()
    for number, operation in enumerate(disk.operations):
        model.apply(operation)
        for policy in ("all", "synced", "subset", "torn") if number >= start else ():
            image = model.image(policy, random.Random(f"{SWEEP} {number}"))  # noqa: S311
            folder = written(image, tmp_path / f"{number}-{policy}")
            state = state_of(folder / "sagas.db")
            seen.add(state[0])
            assert state in [(1, 0, [(0,)]), (2, 1, [(1,)])]
            assert len(saga.call(runtime_on(folder / "sagas.db"), "open")) == 3
            assert state_of(folder / "sagas.db") == (2, 1, [(1,)])
    journal.close()
    assert seen == {1, 2}


def test_a_program_of_an_older_version_refuses_the_newer_file(copy, monkeypatch, next_version):
    path = copy(version=1)
    runtime_on(path).runs()
    monkeypatch.undo()
    saga.mended[:] = [True]
    with pytest.raises(JournalError, match=r"newer sagadsl .schema 2, this one reads 1.: upgrade"):
        saga.call(runtime_on(path), "open")
    assert saga.effects == []


def test_a_journal_that_is_made_while_the_power_fails_is_made_by_the_next_process(tmp_path):
    """From nothing: each image is empty or whole, and a saga runs on it."""
    disk, effects = Disk(), []
    Stage.happened, Stage.cut = effects.append, None
    (tmp_path / "first").mkdir()
    journal = SqliteJournal(tmp_path / "first" / "sagas.db", connect=disk.connect)
    journal._execute("pragma user_version")
    model = Model()
    for number, operation in enumerate(disk.operations):
        model.apply(operation)
        for policy in ("all", "synced", "torn"):
            rng = random.Random(f"{SWEEP} {number}")  # noqa: S311
            folder = written(model.image(policy, rng), tmp_path / f"{number}-{policy}")
            effects.clear()
            assert play(runtime_on(folder / "sagas.db", durability="process"), "good") == 4
            assert effects == ["flight", "hotel", "car", "lunch"]
    journal.close()
