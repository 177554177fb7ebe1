"""A journal as a file: taken out and put in again, copied while others write, and examined, sound or damaged."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from crash.golden import saga as golden_saga
from test_pruning import WRITER, flow, play, whole

from sagadsl import JournalError, RunCancelledError, RunConflictError, Runtime, UsageError
from sagadsl._core.journal.sqlite import SqliteJournal
from sagadsl._core.upkeep import examining
from tests import users

GOLDEN = Path(__file__).parent / "crash" / "golden" / "version-1.db"


@pytest.fixture
def golden(tmp_path):
    """Give a maker of copies of a file in which each way of standing is to be seen, changed behind our back."""

    def make(sql="", name="golden.db"):
        path = Path(shutil.copy(GOLDEN, tmp_path / name))
        if sql:
            with closing(sqlite3.connect(path, isolation_level=None)) as shell:
                shell.executescript(sql)
        return path

    return make


def rows(path):
    """Return every entry of a file with its digest, under the run's id: what a round trip must not change."""
    with closing(sqlite3.connect(path)) as shell:
        entries = "select id, generation, e.*, hex(digest) from entries e join run using (number) order by 1, 2, seq"
        letters = "select id, l.at, kind, payload, seq from letters l join run using (number) order by letter"
        found = [(*row[:2], *row[3:-2], row[-1]) for row in shell.execute(entries)]
        return found, shell.execute(letters).fetchall()


# -- out and in -------------------------------------------------------------------------------------------------------


def through_json(documents):
    return [json.loads(json.dumps(document)) for document in documents]


def test_what_is_exported_and_imported_is_word_for_word_what_it_was(golden, tmp_path):
    """Every entry, every digest, every letter; and each run goes on there as it would have gone on here."""
    path = golden()
    runtime = Runtime(path)
    documents = through_json(runtime.upkeep.exported())
    copy = Runtime(tmp_path / "copy.db")
    assert copy.upkeep.imported(documents) == (
        list(golden_saga.RUNS),
        [],
    )
    assert rows(tmp_path / "copy.db") == rows(path)
    assert [(r.id, r.status, r.is_live) for r in copy.runs()] == [(r.id, r.status, False) for r in runtime.runs()]
    finished = [[(row.id, row.finished, row.outline) for row in each.journal().runs()] for each in (runtime, copy)]
    assert finished[0] == finished[1]
    golden_saga.mended[:] = [True]
    assert golden_saga.call(copy, "paused")[0]["name"] == "flight"
    golden_saga.mended.clear()


def test_an_import_that_is_done_again_changes_nothing(golden, tmp_path):
    """So one that was cut off can be done again."""
    documents = through_json(Runtime(golden()).upkeep.exported())
    copy = Runtime(tmp_path / "copy.db").upkeep
    assert copy.imported(documents[:2]) == (["completed", "compensated"], [])
    put, there = copy.imported(documents)
    assert (len(put), there) == (7, ["completed", "compensated"])


def test_some_runs_are_exported_by_their_ids(golden):
    documents = list(Runtime(golden()).upkeep.exported(["paused", "open"]))
    assert [document["run"]["id"] for document in documents] == ["open", "paused"]


def test_nothing_is_overwritten(golden, tmp_path):
    """Another run of that id refuses the whole import."""
    documents = through_json(Runtime(golden()).upkeep.exported())
    copy = Runtime(tmp_path / "copy.db")
    play(copy, "good", "mine")
    documents[3]["run"]["id"] = "flow/mine"
    with pytest.raises(RunConflictError, match=r"is in .*copy.db already, and differs; nothing was imported"):
        copy.upkeep.imported(documents)
    assert [run.id for run in copy.runs()] == ["flow/mine"]


def spoiled(documents, how):
    entry = documents[-1]["entries"][1]
    if how == "an entry too few":
        del documents[-1]["entries"][1]
    elif how == "a digest too few":
        documents[-1]["entries"][0].pop("digest")
    elif how == "other arguments":
        entry["arguments"] = "{}"
    elif how == "an unknown kind":
        entry["kind"] = "odd"
    elif how == "a text for a number":
        entry["at"] = "now"
    elif how == "no id":
        del documents[-1]["run"]["id"]
    elif how == "another format":
        documents[-1]["export"] = 2
    elif how == "no run at all":
        documents[-1] = ["a", "list"]
    elif how == "entries that cannot follow each other":
        end = {"kind": "completed", "scope": 1, "step": "", "at": 1}
        documents[-1]["entries"] = [documents[-1]["entries"][0], {"seq": 2, **end}, {"seq": 3, **end}]
    elif how == "an end that is none":
        documents[-1]["run"]["finished"] = 5
    return documents


@pytest.mark.parametrize(
    "how",
    [
        "an entry too few",
        "a digest too few",
        "other arguments",
        "an unknown kind",
        "a text for a number",
        "no id",
        "another format",
        "no run at all",
        "entries that cannot follow each other",
        "an end that is none",
    ],
)
def test_an_export_that_somebody_changed_is_refused_whole(golden, tmp_path, how):
    """Nothing is written, not even the runs before it."""
    documents = spoiled(through_json(Runtime(golden()).upkeep.exported()), how)
    copy = Runtime(tmp_path / "copy.db")
    with pytest.raises(JournalError) as refused:
        copy.upkeep.imported(documents, "runs.jsonl")
    assert str(refused.value).startswith(("journal runs.jsonl, document 9: ", f"journal {copy.journal().name}: run "))
    assert copy.runs() == []


def test_a_damaged_run_is_not_exported(golden):
    path = golden("update entries set result = '7' where seq = 3 and number = 1")
    with pytest.raises(JournalError, match="entry 3 of run number 1 is damaged"):
        list(Runtime(path).upkeep.exported())
    assert len(list(Runtime(path).upkeep.exported(["paused"]))) == 1


# -- a backup ---------------------------------------------------------------------------------------------------------


def test_a_backup_is_the_file_as_it_was(golden, tmp_path):
    path = golden()
    runtime = Runtime(path)
    runtime.upkeep.backed_up(tmp_path / "backup.db")
    assert rows(tmp_path / "backup.db") == rows(path)
    assert (tmp_path / "backup.db").stat().st_mode & 0o777 == 0o600
    assert len(Runtime(tmp_path / "backup.db").runs()) == len(runtime.runs())
    assert sorted(p.name for p in tmp_path.glob("*backup*") if p.suffix == ".db") == ["backup.db"]


def test_backups_taken_under_load_are_sound_and_disturb_nobody(tmp_path):
    """Two processes write while copies are taken; each is a moment of the file, with whole runs and the open ones."""
    path = tmp_path / "sagas.db"
    command = [sys.executable, "-c", WRITER.format(folder=str(Path(__file__).parent)), str(path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    writers = [subprocess.Popen([*command, name], env=environment, stdout=subprocess.PIPE) for name in "ab"]
    while not path.exists():
        assert writers[0].poll() is None
    copies = []
    while any(writer.poll() is None for writer in writers):
        copies.append(tmp_path / f"copy-{len(copies)}.db")
        Runtime(path).upkeep.backed_up(copies[-1])
    assert [writer.communicate()[0] for writer in writers] == [b"wrote\n"] * 2
    counts = []
    for copy in copies:
        with closing(sqlite3.connect(copy)) as shell:
            counts.append(shell.execute("select count(*) from run").fetchone()[0])
    assert counts == sorted(counts)
    under_way = [copy for copy, count in zip(copies, counts, strict=True) if 0 < count < 120]
    assert under_way
    for copy in [under_way[0], under_way[len(under_way) // 2], under_way[-1]]:
        found = {finding.check: finding.status for finding in Runtime(copy, read_only=True).upkeep.examined()}
        assert (found["integrity"], found["runs"]) == ("good", "good")
    assert whole(path) == 120


def test_what_cannot_be_backed_up_is_said_and_nothing_is_left(golden, tmp_path):
    runtime = Runtime(golden())
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(UsageError, match="taken exists already, and is left as it is"):
        runtime.upkeep.backed_up(tmp_path / "taken")
    with pytest.raises(JournalError, match="the backup cannot be written"):
        runtime.upkeep.backed_up(tmp_path / "nowhere" / "b.db")
    with pytest.raises(UsageError, match=":memory: is no file"):
        Runtime(":memory:").upkeep.backed_up(tmp_path / "b.db")
    damaged = golden(name="damaged.db")
    content = damaged.read_bytes()
    damaged.write_bytes(content[: 4 * 4096] + bytes(range(256)) * 16 + content[5 * 4096 :])
    with pytest.raises(JournalError, match=r"its copy is not sound|malformed"):
        Runtime(damaged).upkeep.backed_up(tmp_path / "b.db")
    assert (tmp_path / "taken").read_text() == "mine"
    assert not list(tmp_path.glob(".*.part*"))
    assert not (tmp_path / "b.db").exists()


# -- examined ---------------------------------------------------------------------------------------------------------


def examined(path):
    return {finding.check: finding for finding in Runtime(path, read_only=True).upkeep.examined()}


def test_a_sound_file_is_sound(golden):
    """What nobody has is a note, with what to type; nothing of the file is changed."""
    path = golden()
    before = path.read_bytes()
    found = examined(path)
    assert {name: finding.status for name, finding in found.items()} == {
        "file": "good",
        "integrity": "good",
        "runs": "good",
        "owners": "note",
        "file system": "good",
        "locks": "good",
        "disk": found["disk"].status,
    }
    assert found["owners"].told == "3 unfinished and nobody has them: open, compensating, asked"
    assert found["owners"].cure == f"sagadsl list --status interrupted --db {path}"
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir() if not p.name.endswith(("-wal", "-shm"))) == ["golden.db"]


def test_a_row_says_of_each_ending_what_the_entries_say(golden):
    """Of a run that was cut off, paused, put back, cancelled, skipped in part, or compensated when it was completed."""
    path = golden()
    runtime = Runtime(path, sleep=lambda _: None)
    golden_saga.mended[:] = [True]
    for run in ("open", "paused", "put_back", "compensating", "asked"):
        with contextlib.suppress(ValueError, RunCancelledError):
            golden_saga.call(runtime, run)
    for run in ("compensation_failed", "completed"):
        runtime.find(run).compensate()
    golden_saga.mended.clear()
    assert examined(path)["runs"].status == "good"
    listed = runtime.runs()
    assert [run.status for run in listed].count("completed") == 3
    for run, row in zip(listed, reversed(runtime.journal().runs()), strict=True):
        assert row.outline is not None
        whole = run.refresh()
        assert run.steps_done == [step.status for step in whole.steps].count("done")
        assert run.steps_total == len(whole.steps)
        assert run == whole


def test_runs_that_somebody_has_are_nobodys_to_worry_about(tmp_path):
    runtime = Runtime(tmp_path / "sagas.db")
    play(runtime, "cut", "a")
    assert examined(tmp_path / "sagas.db")["owners"].status == "note"
    owner = SqliteJournal(tmp_path / "sagas.db")
    assert owner.hold(owner.runs()[0].lock)
    assert examined(tmp_path / "sagas.db")["owners"].status == "good"
    owner.release(owner.runs()[0].lock)


DAMAGE = {
    "another program's": ("pragma application_id = 7", "file", "is another program's database"),
    "a newer one": ("pragma user_version = 99", "file", "written by a newer sagadsl"),
    "a table that is gone": ("drop table letters", "file", "its schema is not that of sagadsl"),
    "a planted trigger": ("create trigger t after insert on entries begin select 1; end", "file", "trigger t"),
    "an entry of no run": ("insert into letters values (null, 99, 1, 'x', null, null)", "integrity", "1 rows belong"),
    "a payload": ("update entries set result = '7' where seq = 3 and number = 1", "runs", "entry 3 of run number 1"),
    "an unknown kind": ("update entries set kind = 'odd' where seq = 2 and number = 1", "runs", "is a 'odd', unknown"),
    "a run without entries": ("delete from entries where number = 2", "runs", "run compensated has no entries"),
    "entries in no order": ("delete from entries where seq = 1 and number = 3", "runs", "run open holds what"),
    "an end that is none": ("update run set finished = 5 where id = 'open'", "runs", "run open is open, which its row"),
    "an outline of another end": (
        "update run set (outline, outline_digest) = (select outline, outline_digest from run) where number = 2",
        "runs",
        "run compensated is not what its row says in outline",
    ),
    "a row of wrong types": (
        "pragma writable_schema = on; update sqlite_schema set sql = replace(sql, ') strict', ')') where name = 'run'",
        "file",
        "its schema is not that of sagadsl",
    ),
}


@pytest.mark.parametrize("kind", sorted(DAMAGE))
def test_each_kind_of_damage_is_found_and_says_what_to_type(kind, golden):
    sql, check, told = DAMAGE[kind]
    finding = examined(golden(sql))[check]
    assert finding.status == "damage"
    assert told in finding.told
    assert "sagadsl " in finding.cure or "sqlite3 " in finding.cure


def test_of_an_empty_file_nothing_is_left_to_be_rescued(tmp_path):
    (tmp_path / "empty.db").touch()
    finding = examined(tmp_path / "empty.db")["file"]
    assert (finding.status, finding.cure) == ("damage", "sagadsl doctor --db ANOTHER")


def test_the_sound_database_of_another_program_is_not_to_be_rescued(tmp_path):
    """It is no journal, which another name mends; what SQLite itself cannot read is rescued."""
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table customers (name text)")
    finding = examined(path)["file"]
    assert (finding.told[:31], finding.cure) == ("is another program's database: ", "sagadsl doctor --db ANOTHER")
    path.write_bytes(b"no database at all" * 999)
    assert f"sqlite3 {path} .recover" in examined(path)["file"].cure


def test_a_file_that_may_not_be_read_is_not_to_be_rescued(golden):
    """Nor where only its lock may not be read: then it is not said who has which run, and nothing is damaged."""
    with users.folder() as folder:
        path = Path(shutil.copy(golden(), folder / "s.db"))
        lock = folder / "s.db-lock"
        lock.touch()
        for file in (path, lock):
            file.chmod(0)
        with users.another():
            with pytest.raises(PermissionError):
                lock.read_bytes()
            found = examined(path)["file"]
        assert found.told.startswith("unable to open database file: ")
        assert found.cure == f"ls -ld {folder} {path}*"
        path.chmod(0o444)
        folder.chmod(0o555)
        with users.another():
            found = examined(path)
    assert found["runs"] == examining.Finding("runs", "good", "9 runs, each entry as it was written")
    assert found["owners"].status == "note"
    assert found["owners"].told.startswith("who has which run is not to be seen: its lock file cannot be used (Perm")
    assert found["owners"].cure == f"ls -l {path}*"


def test_a_file_with_two_names_is_noted(golden):
    """SQLite's log and the locks of the runs belong to a name."""
    path = golden()
    path.with_name("other.db").hardlink_to(path)
    finding = examined(path)["file"]
    assert finding.status == "note"
    assert "; 2 hard links, each with a log and locks of its own" in finding.told
    assert finding.cure == f"find {path.parent} -samefile {path}   (keep one)"


def test_garbage_in_a_page_is_found_and_the_rest_is_still_examined(golden):
    """Whatever the page was."""
    path = golden()
    content = path.read_bytes()
    for page in range(len(content) // 4096):
        path.write_bytes(content[: page * 4096] + os.urandom(4096) + content[(page + 1) * 4096 :])
        found = examined(path)
        assert "damage" in {finding.status for finding in found.values()}, page
        assert "disk" in found


def test_a_row_that_has_no_shape_is_damage(golden):
    """The types of a table's columns are not what a damaged file keeps to."""
    path = golden()
    journal = SqliteJournal(path, read_only=True)
    journal._read = lambda *_: [(1, b"", 1, "", "", "", 1, None, 0)]
    (found, _) = examining.about_runs(journal, lambda row: None, "x")
    assert (found.status, found.told) == ("damage", "the row of run b'' is damaged: restore a backup")


def test_many_damaged_runs_are_counted(golden):
    path = golden()
    more = "with recursive n(x) as (values (1) union all select x + 1 from n where x < 10) "
    more += "insert into run select null, 'r' || x, 1, 's', 'p', 'd', 1, null, 0, null, null, null from n"
    found = examined(golden(more, name="many.db"))["runs"]
    assert found.told.endswith("; and 2 more")
    assert examined(path)["runs"].status == "good"


def test_the_kind_of_a_file_system_is_that_of_the_nearest_mount(tmp_path):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        f"23 22 0:40 / {tmp_path}/with\\040space rw - nfs4 server:/x rw\n"
        f"24 22 0:41 / {tmp_path}/wit rw - xfs /dev/sdb rw\n"
    )
    assert examining.file_system(tmp_path / "with space" / "deep", mounts) == "nfs4"
    assert examining.file_system(tmp_path / "other", mounts) == "ext4"
    assert examining.file_system(tmp_path, tmp_path / "nothing") == ""


def test_a_place_that_is_no_place_for_a_journal_is_noted(golden, tmp_path, monkeypatch):
    """A network file system, a folder that cannot be written, a slow disk, locks that exclude nobody."""
    path = golden()
    mounts = tmp_path / "mountinfo"
    mounts.write_text("22 1 0:40 / / rw - nfs4 server:/x rw\n")
    monkeypatch.setattr(examining, "MOUNTS", mounts)
    monkeypatch.setattr(examining, "SLOW", 0.0)
    monkeypatch.setattr(examining.Locks, "hold", lambda *_: True)
    found = examined(path)
    assert (found["file system"].status, found["disk"].status, found["locks"].status) == ("note", "note", "damage")
    assert "nfs4 is a network file system" in found["file system"].told
    monkeypatch.setattr(examining, "MOUNTS", tmp_path / "nothing")
    monkeypatch.setattr(examining.tempfile, "TemporaryDirectory", refuse)
    found = examined(path)
    assert found["file system"].told == "unknown here"
    assert found["folder"].status == "note"
    assert "nothing can be written" in found["folder"].told


def refuse(*_, **__):
    raise PermissionError(13, "Permission denied")


def test_a_journal_in_memory_is_no_file_to_examine():
    for ask in ("examined", "version"):
        with pytest.raises(UsageError, match=":memory: is no file"):
            getattr(Runtime(":memory:").upkeep, ask)()


def test_a_file_tells_that_somebody_else_has_written(tmp_path):
    runtime = Runtime(tmp_path / "sagas.db")
    play(runtime, "good", "a")
    looking = Runtime(tmp_path / "sagas.db", read_only=True).upkeep
    before = looking.version()
    assert looking.version() == before
    play(runtime, "good", "b")
    assert looking.version() != before


def test_the_saga_of_these_tests_is_the_one_of_those():
    """Its runs are whole when they have two steps."""
    assert flow.__name__ == "flow"
