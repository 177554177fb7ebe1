"""The store: one file for many threads and processes, nothing lost, nothing damaged, and errors that say what to do."""

import contextlib
import functools
import gc
import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from statements import connecting

from sagadsl._core import ownership, schema
from sagadsl._core.journal import Fenced, Letter, Log, Overtaken, Taken, Unread, file, locks, sqlite
from sagadsl._core.journal.locks import Locks, locks_of
from sagadsl._core.journal.memory import MemoryJournal
from sagadsl._core.journal.sqlite import SqliteJournal
from sagadsl._core.journal.together import Ticket
from sagadsl._core.values import Entry, Kind, RunRow
from sagadsl.errors import JournalError
from tests import users

NOW = 1_700_000_000_000_000


def row(id="trip/1", **facts):
    given = {"number": 0, "id": id, "generation": 1, "saga": "trip", "program": "p.py", "arguments_digest": "d",
             "started": NOW}  # fmt: skip
    return RunRow(**given | facts)


def entry(kind, step="", *, scope=0, ref=None, name=None, at=NOW, arguments=None, result=None, definition=None):
    text = result if result is None or isinstance(result, str) else json.dumps(result)
    return Entry(0, 0, kind, scope, step, ref, None, at, name, definition, arguments, text)


def opened(journal, id="trip/1", **facts):
    """Open a run and return what its owner writes with."""
    log = Log()
    journal.commit(log, [entry(Kind.OPENED, name="trip", arguments='{"a":1}')], full=True, row=row(id, **facts))
    return log


def told(found):
    return [(e.seq, str(e.kind), e.step) for e in found]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sagadsl.db"


@pytest.fixture
def journal(path):
    made = SqliteJournal(path)
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "memory"])
def either(request, path):
    made = SqliteJournal(path) if request.param == "sqlite" else MemoryJournal()
    yield made
    made.close()


def child(code, *arguments, **options):
    """Start a program in a process of its own, with this module's names."""
    head = "import sys; sys.path[:0] = {!r}\nfrom pathlib import Path\nfrom {} import *\n"
    program = head.format([str(Path(__file__).parent), *sys.path], __name__) + code
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options,
    )  # fmt: skip


# -- both stores ------------------------------------------------------------------------------------------------------


def test_entries_come_back_in_order_with_the_place_they_were_given(either):
    """What was written is what is read, numbered from 1 without a gap."""
    log = opened(either)
    either.append(log, entry(Kind.INTENT, "pay", name="pay", arguments="{}", definition='{"module":"m"}'), full=True)
    either.append(log, entry(Kind.DONE, "pay", ref=2, result="5"), full=False)
    either.commit(log, [entry(Kind.COMPLETED, result="1", at=NOW + 5)], full=True, finished=True)
    assert told(either.entries(log.number)) == [
        (1, "opened", ""),
        (2, "intent", "pay"),
        (3, "done", "pay"),
        (4, "completed", ""),
    ]
    assert [e.number for e in either.entries(log.number)] == [log.number] * 4
    assert either.runs()[0].finished == NOW + 5
    assert all(type(e.kind) is Kind for e in either.entries(log.number))
    assert either.entries(99) == []


def test_whoever_was_overtaken_collides_and_writes_nothing(either):
    """The primary key is the fence, for one entry and for several."""
    log = opened(either)
    late = Log(log.number, log.seq)
    either.append(log, entry(Kind.TAKEN), full=True)
    with pytest.raises(Overtaken):
        either.append(late, entry(Kind.DONE, "pay"), full=True)
    with pytest.raises(Overtaken):
        either.commit(late, [entry(Kind.DONE, "pay"), entry(Kind.COMPLETED)], full=True, finished=True)
    assert late.seq == 1
    assert told(either.entries(log.number)) == [(1, "opened", ""), (2, "taken", "")]
    assert either.runs()[0].finished is None


def test_an_id_and_generation_is_opened_once(either):
    """The second of two openings learns it before anything is written, and holds nothing."""
    first = opened(either)
    with pytest.raises(Taken):
        opened(either)
    assert opened(either, generation=2).number == first.number + 1
    assert [(r.id, r.generation, r.key_prefix) for r in either.runs()] == [
        ("trip/1", 1, "trip/1"), ("trip/1", 2, "trip/1~2"),
    ]  # fmt: skip


def test_runs_are_found_by_every_filter_and_by_all_of_them_together(either):
    """A prefix is literal, whatever characters it has."""
    for run, facts in {
        "trip/1": {},
        "trip/2": {"arguments_digest": "e"},
        "a_b": {"saga": "x"},
        "a%b": {"saga": "x"},
    }.items():
        opened(either, run, **facts)
    log = opened(either, "trip/3")
    either.commit(log, [entry(Kind.COMPLETED)], full=True, finished=True)

    def ids(**wanted):
        return [found.id for found in either.runs(**wanted)]

    assert ids(id="trip/2") == ["trip/2"]
    assert ids(prefix="trip/") == ["trip/1", "trip/2", "trip/3"]
    assert [ids(prefix="a_"), ids(prefix="a%"), ids(prefix="A"), ids(id="")] == [["a_b"], ["a%b"], [], []]
    assert ids(saga="x") == ["a_b", "a%b"]
    assert ids(digest="d", unfinished=True) == ["trip/1", "a_b", "a%b"]
    assert ids(saga="trip", prefix="trip", digest="d", unfinished=True) == ["trip/1"]
    assert ids(id="trip/1", prefix="trip", saga="trip", digest="d") == ["trip/1"]
    either.commit(log, [entry(Kind.COMPENSATING)], full=True, finished=False)
    assert ids(prefix="trip/3", unfinished=True) == ["trip/3"]


def test_letters_reach_the_run_they_are_for(either):
    """Anybody may leave one; they are read in the order in which they came."""
    log, other = opened(either), opened(either, "trip/2")
    for number, payload in [(log.number, "1"), (other.number, "2"), (log.number, None)]:
        letter = Letter(0, number, NOW, "signal", payload)
        either.post(letter)
        assert letter.letter > 0
    assert [(x.kind, x.payload, x.seq) for x in either.letters(log.number)] == [
        ("signal", "1", None),
        ("signal", None, None),
    ]
    assert either.letters(99) == []


def test_nothing_begins_or_completes_while_a_letter_is_unread(either):
    """Whoever was about to is told, and nothing is written; what has begun may end, and what acts on it says so."""
    log = opened(either)
    assert either.post(Letter(0, log.number, NOW, "cancel", None))
    before = len(either.entries(log.number))
    for kind, name in [(Kind.INTENT, None), (Kind.COMPLETED, None), (Kind.DONE, "look"), (Kind.OPENED, "inner")]:
        blocked = entry(kind)
        blocked.name = name
        with pytest.raises(Unread):
            either.append(log, blocked, full=True)
        with pytest.raises(Unread):
            either.commit(log, [entry(Kind.TAKEN), blocked], full=True)
    assert len(either.entries(log.number)) == before == log.seq
    either.append(log, entry(Kind.FAILED), full=False)
    either.commit(log, [entry(Kind.REFUSED)], full=True, read=either.letters(log.number))
    assert [letter.seq for letter in either.letters(log.number)] == [log.seq]
    either.append(log, entry(Kind.INTENT), full=True)


def test_nothing_begins_in_a_run_that_a_letter_has_turned_back(either):
    """Not even in a branch that had looked for letters just before: what has begun may end."""
    log = opened(either)
    either.post(Letter(0, log.number, NOW, "cancel", None))
    either.commit(log, [entry(Kind.COMPENSATING)], full=True, read=either.letters(log.number))
    for kind in Kind.INTENT, Kind.OPENED:
        with pytest.raises(Unread):
            either.append(log, entry(kind), full=True)
    either.append(log, entry(Kind.DONE), full=False)


def test_a_run_that_has_finished_gets_no_letter(either):
    """Nobody would ever read it."""
    log = opened(either)
    either.commit(log, [entry(Kind.COMPENSATED)], full=True, finished=True)
    letter = Letter(0, log.number, NOW, "cancel", None)
    assert (either.post(letter), letter.letter, either.letters(log.number)) == (False, 0, [])
    assert not either.post(Letter(0, 99, NOW, "cancel", None))


def test_a_run_has_one_owner(either):
    """Who opens a run holds it; another gets it when it was let go."""
    log = opened(either)
    assert [either.hold(log.number), either.is_held(log.number)] == [False, True]
    either.release(log.number)
    either.release(log.number)
    assert [either.is_held(log.number), either.hold(log.number), either.hold(log.number)] == [False, True, False]


def test_what_is_read_cannot_change_what_is_stored(either):
    """Rows, entries and letters are copies, also of what the writer still has in hand."""
    log = opened(either)
    either.post(Letter(0, log.number, NOW, "signal", "1"))
    either.runs()[0].id = either.entries(log.number)[0].step = either.letters(log.number)[0].kind = "changed"
    given = row("trip/2")
    either.commit(Log(), [entry(Kind.OPENED, name="trip")], full=True, row=given)
    given.saga = "changed"
    assert "changed" not in [
        either.runs()[0].id,
        either.runs()[1].saga,
        either.entries(log.number)[0].step,
        either.letters(log.number)[0].kind,
    ]


# -- the file ---------------------------------------------------------------------------------------------------------


def test_looking_leaves_no_file(path, journal):
    """A program that only looks leaves no trace."""
    assert [journal.runs(), journal.entries(1), journal.letters(1), journal.is_held(1)] == [[], [], [], False]
    assert list(path.parent.iterdir()) == []


def test_the_file_is_ours_private_strict_and_write_ahead(path, journal):
    """What SQLite is told about the file can be read in any shell."""
    opened(journal)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
    assert modes == dict.fromkeys(("sagadsl.db", "sagadsl.db-wal", "sagadsl.db-shm", "sagadsl.db-lock"), 0o600)
    with contextlib.closing(sqlite3.connect(path)) as shell:
        pragmas = {
            name: shell.execute(f"pragma {name}").fetchone()[0]
            for name in ("journal_mode", "application_id", "user_version")
        }
        tables = shell.execute(
            "select name, strict from pragma_table_list where name in ('run','entries','letters')"
        ).fetchall()
        assert pragmas == {"journal_mode": "wal", "application_id": 0x5A6A0D51, "user_version": 1}
        assert sorted(tables) == [("entries", 1), ("letters", 1), ("run", 1)]
        assert shell.execute("pragma integrity_check").fetchone() == ("ok",)
    assert journal._execute("pragma trusted_schema").fetchone() == (0,)


def test_where_sqlite_syncs_an_entry_waits_for_the_disk_only_when_it_is_told_to(path):
    """Full and normal commits alternate between transactions on one connection."""
    journal = SqliteJournal(path, connect=sqlite3.connect)
    log = opened(journal)
    levels = []
    for full in (True, False, False, True):
        journal.append(log, entry(Kind.TAKEN), full=full)
        levels.append(journal._execute("pragma synchronous").fetchone()[0])
    journal.close()
    assert levels == [2, 1, 1, 2]


def test_a_closed_journal_opens_again_when_it_is_asked(journal):
    """Nothing is lost by closing, and closing twice is nothing."""
    log = opened(journal)
    journal.close()
    journal.close()
    assert told(journal.entries(log.number)) == [(1, "opened", "")]


def test_a_journal_that_nobody_has_any_more_has_closed_its_connection(path):
    """Python from 3.13 on warns of one that is left to it."""
    closed = []

    class Watched(sqlite3.Connection):
        def close(self):
            closed.append(self)
            super().close()

    journal = SqliteJournal(path, connect=functools.partial(sqlite3.connect, factory=Watched))
    opened(journal)
    assert closed == []
    del journal
    gc.collect()
    assert len(closed) == 1


def test_an_open_file_is_reopened_with_everything_in_it(path, journal):
    """Another journal of the same file sees the same runs and the same owners."""
    log = opened(journal)
    other = SqliteJournal(path)
    assert [r.id for r in other.runs()] == ["trip/1"]
    assert [other.is_held(log.number), other.hold(log.number)] == [True, False]
    other.close()


def test_a_file_has_one_owner_a_run_by_whatever_name(path, journal):
    """A link to the file is the file."""
    log = opened(journal)
    link = path.with_name("link.db")
    link.symlink_to(path)
    other = SqliteJournal(link)
    assert [other.hold(log.number), told(other.entries(log.number))] == [False, [(1, "opened", "")]]
    other.close()


def test_a_relative_path_stays_where_it_was_first_meant(tmp_path, monkeypatch):
    """Changing the directory afterwards changes nothing."""
    monkeypatch.chdir(tmp_path)
    made = SqliteJournal(Path("here.db"))
    monkeypatch.chdir("/")
    opened(made)
    made.close()
    assert (tmp_path / "here.db").exists()


@pytest.mark.parametrize("column", ["arguments", "result"])
def test_a_damaged_payload_is_found_by_its_digest(column, path, journal):
    """SQLite's pages carry no checksum; every payload does, with arguments, with a result, with both."""
    log = opened(journal)
    both = entry(Kind.DONE, "look", name="look", arguments="{}", result="1")
    journal.append(log, both, full=True)
    journal.append(log, entry(Kind.DONE, "x", result="2"), full=True)
    assert len(journal.entries(log.number)) == 3
    with contextlib.closing(sqlite3.connect(path)) as shell, shell:
        shell.execute(f"update entries set {column} = '7' where seq = 2")  # noqa: S608
    with pytest.raises(JournalError, match="entry 2 of run number 1 is damaged: restore a backup"):
        journal.entries(log.number)


def test_an_entry_of_an_unknown_kind_is_named(path, journal):
    """A newer program may have written it; guessing is no option."""
    log = opened(journal)
    with contextlib.closing(sqlite3.connect(path)) as shell, shell:
        shell.execute("update entries set kind = 'dreamt'")
    with pytest.raises(JournalError, match="is a 'dreamt', unknown here: upgrade sagadsl"):
        journal.entries(log.number)


def test_a_value_that_the_file_cannot_hold_is_no_overtaking(journal):
    """Only a collision is a collision."""
    log = opened(journal)
    with pytest.raises(JournalError, match="cannot store TEXT"):
        journal.append(log, entry(Kind.DONE, at="noon"), full=True)
    with pytest.raises(JournalError, match="cannot store TEXT"):
        journal.commit(Log(), [entry(Kind.OPENED)], full=True, row=row("trip/2", started="noon"))
    assert [log.seq, [r.id for r in journal.runs()]] == [1, ["trip/1"]]


def test_a_transaction_that_fails_lets_go_of_the_run(journal, monkeypatch):
    """A run that was not opened has no owner, and its number is free for the next."""
    log = Log()
    with pytest.raises(JournalError):
        journal.commit(log, [entry(Kind.OPENED), entry(Kind.DONE, at="noon")], full=True, row=row())
    assert [log.number, log.seq, journal.runs(), journal.is_held(1)] == [0, 0, [], False]
    assert opened(journal).number == 1


def test_a_table_that_is_gone_is_a_journal_error(path, journal):
    """Somebody worked on the file with another tool."""
    opened(journal)
    with contextlib.closing(sqlite3.connect(path)) as shell, shell:
        shell.execute("drop table letters")
    with pytest.raises(JournalError, match="no such table: letters"):
        journal.letters(1)


def test_a_number_that_somebody_holds_is_not_opened(either):
    """The lock file may remember a run that the database no longer has."""
    assert either.hold(1)
    with pytest.raises(Taken):
        opened(either)
    assert either.is_held(1)
    either.release(1)
    assert opened(either).number == 1


def test_a_read_only_journal_reads_and_never_writes(path, journal):
    """Looking at a live file changes nothing in it."""
    log = opened(journal)
    looking = SqliteJournal(path, read_only=True)
    assert told(looking.entries(log.number)) == [(1, "opened", "")]
    with pytest.raises(JournalError, match="make the file and its folder writable"):
        looking.append(Log(log.number, 1), entry(Kind.TAKEN), full=True)
    with pytest.raises(JournalError, match="make the file and its folder writable"):
        looking.post(Letter(0, log.number, NOW, "signal", None))
    looking.close()


def test_a_file_of_no_length_is_a_new_one(path, journal):
    """A creator that died, or a temporary file: nothing is in it, so nothing is lost. Looking alone says so."""
    path.touch()
    with pytest.raises(JournalError, match="is empty: no saga has written to it yet; name another"):
        SqliteJournal(path, read_only=True).runs()
    assert path.read_bytes() == b""
    assert opened(journal).number == 1


def test_a_copy_without_its_log_says_where_the_runs_are(path, journal):
    """As ``cp`` makes it while a program runs, or after a kill."""
    opened(journal)
    copy = path.with_name("copy.db")
    copy.write_bytes(path.read_bytes())
    assert path.with_name("sagadsl.db-wal").stat().st_size > copy.stat().st_size > 0
    with pytest.raises(JournalError, match=r"copy without the -wal file .* copy that again, with `sagadsl backup`"):
        SqliteJournal(copy, read_only=True).runs()


def database(path, *statements):
    with contextlib.closing(sqlite3.connect(path)) as made, made:
        for statement in statements:
            made.execute(statement)


def no_folder(folder):
    return folder / "missing" / "s.db"


def below_a_file(folder):
    (folder / "file").write_text("x")
    return folder / "file" / "s.db"


def a_folder(folder):
    (folder / "s.db").mkdir()
    return folder / "s.db"


def unwritable(_):
    return Path("/proc/s.db")


def too_long(folder):
    return folder / ("x" * 300)


def text(folder):
    (folder / "s.db").write_text("this is no database at all, it is a letter to a friend" * 40)
    return folder / "s.db"


def short_text(folder):
    (folder / "s.db").write_text("x")
    return folder / "s.db"


def of_another_program(folder):
    database(folder / "s.db", "create table theirs (x)", "insert into theirs values (1)")
    return folder / "s.db"


def claimed_by_another_program(folder):
    database(folder / "s.db", "pragma application_id = 99")
    return folder / "s.db"


def newer(folder):
    made = SqliteJournal(folder / "s.db")
    opened(made)
    made.close()
    database(folder / "s.db", "pragma user_version = 99")
    return folder / "s.db"


def damaged(folder):
    made = SqliteJournal(folder / "s.db")
    opened(made)
    made.close()
    content = (folder / "s.db").read_bytes()
    (folder / "s.db").write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    return folder / "s.db"


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (no_folder, "does not exist: create it, or name another"),
        (below_a_file, "does not exist: create it, or name another"),
        (a_folder, "is a folder: name a file in it"),
        (unwritable, "name another, in a writable folder"),
        (too_long, "name another, in a writable folder"),
        (text, "no SQLite database; name another with store="),
        (short_text, "no SQLite database; name another with store="),
        (of_another_program, "another program's database: name a file of its own with store="),
        (claimed_by_another_program, "another program's database: name a file of its own with store="),
        (newer, r"newer sagadsl \(schema 99, this one reads 1\): upgrade it"),
        (damaged, "the file is damaged; restore a backup"),
    ],
)
def test_a_store_that_cannot_be_used_says_what_to_do_and_stays_as_it_was(make, cure, tmp_path):
    """Each is a JournalError, from reading and from writing alike, and not a byte is changed."""
    path = make(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    made = SqliteJournal(path)
    with pytest.raises(JournalError, match=cure) as error:
        opened(made)
    assert error.value.store == str(path)
    if before and path.is_file():
        with pytest.raises(JournalError, match=cure):
            made.entries(1)
    made.close()
    after = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert {p: after[p] for p in before} == before


@pytest.mark.parametrize("make", [text, of_another_program, newer])
def test_looking_at_what_is_no_journal_changes_nothing(make, tmp_path):
    """A command that reads a wrong file leaves it alone."""
    path = make(tmp_path)
    before = path.read_bytes()
    with pytest.raises(JournalError):
        SqliteJournal(path, read_only=True).runs()
    assert path.read_bytes() == before


def test_a_link_to_a_file_that_is_to_be_made_leads_to_it(tmp_path):
    """As where the data of a program are to be elsewhere; who only looks makes none."""
    path, target = tmp_path / "s.db", tmp_path / "data" / "s.db"
    path.symlink_to(target)
    for is_read_only, why in (
        (True, "readable and writable for this user"),
        (False, r"cannot be created \(No such file"),
    ):
        made = SqliteJournal(path, read_only=is_read_only)
        with pytest.raises(JournalError, match=why):
            made.connection()
    target.parent.mkdir()
    made = SqliteJournal(path)
    assert opened(made).number == 1
    made.close()
    assert path.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [row.id for row in SqliteJournal(target, read_only=True).runs()] == ["trip/1"]


def test_a_file_of_another_user_says_so():
    """Nothing is wrong with its name or its folder."""
    with users.folder() as folder:
        (folder / "s.db").touch(0)
        with users.another():
            with pytest.raises(PermissionError):
                (folder / "s.db").read_bytes()
            with pytest.raises(
                JournalError, match="see that the file and its folder are readable and writable for this user"
            ):
                SqliteJournal(folder / "s.db").connection()


def test_a_name_that_no_file_can_have_is_refused():
    """The message shows it in a form that a terminal survives."""
    with pytest.raises(JournalError, match=r"a\\x00b.*no file has a NUL in its name: name another"):
        SqliteJournal(Path("a\0b"))


def test_a_lock_file_that_cannot_be_used_is_a_journal_error(path, journal):
    """Without a lock nobody is the owner, so nothing is done."""
    path.with_name("sagadsl.db-lock").mkdir()
    for ask in (lambda: journal.hold(1), lambda: opened(journal)):
        with pytest.raises(JournalError, match=r"lock file cannot be used .*: make .*-lock readable and writable"):
            ask()
    assert journal.runs() == []


@pytest.mark.parametrize("has_ofd", [True, False])
def test_a_lock_file_is_for_whoever_may_use_the_store(has_ofd, monkeypatch):
    """So a file that two users share is locked by both, whoever comes first, and whatever a umask says."""
    if not has_ofd:
        monkeypatch.setattr(locks, "OFD_SETLK", None)
        monkeypatch.setattr(locks, "OFD_GETLK", None)
    before = os.umask(0o077)
    try:
        with users.folder() as folder:
            store, path = folder / "s.db", folder / "s.db-lock"
            store.touch()
            assert stat.S_IMODE(store.stat().st_mode) == 0o600
            store.chmod(0o666)
            folder.chmod(0o777)
            mine, theirs = Locks(path, store), Locks(path, store)
            assert mine.hold(1)
            with users.another():
                assert theirs.hold(2)
                assert not theirs.hold(1)
            mine.forget()
            theirs.forget()
    finally:
        os.umask(before)


def test_a_lock_file_belongs_to_whom_the_store_belongs():
    """Though root comes first; and where a link leads to none yet, it is a private one there."""
    with users.folder() as folder:
        store, link = folder / "s.db", folder / "link"
        store.touch(0o640)
        if os.geteuid() == 0:
            os.chown(store, users.NOBODY, users.NOBODY)
        link.symlink_to(folder / "elsewhere")
        for made in (locks_of(store), Locks(link, store)):
            assert made.hold(1)
            made.release(1)
        found, there = (folder / "s.db-lock").stat(), store.stat()
        assert (found.st_uid, found.st_gid, found.st_mode) == (there.st_uid, there.st_gid, there.st_mode)
        assert stat.S_IMODE((folder / "elsewhere").stat().st_mode) == 0o600


def test_a_lock_file_that_can_only_be_read_says_who_has_a_run(path, journal):
    """Whoever looks needs no right to write, and makes no lock file."""
    assert journal.is_held(7) is False
    assert not path.with_name("sagadsl.db-lock").exists()
    mine, theirs = (Locks(path.with_name("lock")) for _ in range(2))
    assert mine.hold(7)
    assert [theirs.is_held(7), theirs.is_held(8), theirs.hold(7)] == [True, False, False]


def test_a_number_that_no_lock_can_have_is_a_journal_error(journal):
    """A damaged row says it."""
    with pytest.raises(JournalError, match=r"it says of a run what cannot be .*: restore a backup"):
        journal.hold(2**80)


def test_a_number_that_sqlite_cannot_keep_is_a_journal_error(path, journal):
    """And leaves no transaction open."""
    with pytest.raises(JournalError, match="too large"):
        opened(journal, generation=2**63)
    assert opened(journal).number == 1


def test_bytes_that_are_no_text_are_a_damaged_file(path, journal):
    """Python says it, not SQLite."""
    opened(journal)
    with contextlib.closing(sqlite3.connect(path)) as shell, shell:
        shell.execute("update run set saga = cast(x'80ff' as text)")
    with pytest.raises(JournalError, match="the file is damaged; restore a backup"):
        journal.runs()


class Refusing:
    """What opens files, and refuses as a disk would when a statement or an address holds *word*."""

    def __init__(self, word, code):
        self.word, self.code, self.asked = word, code, []

    def refuse(self, text):
        self.asked.append(text)
        if text.endswith(self.word):
            error = sqlite3.OperationalError("refused")
            error.sqlite_errorcode = self.code
            raise error

    def __call__(self, address, **options):
        self.refuse(address)
        return connecting(self.refuse)(address, **options)


def test_a_file_whose_folder_allows_no_log_is_read_without_one(path, journal):
    """A read-only file system is one; but not where a log holds what is newer."""
    opened(journal)
    refusing = Refusing("mode=ro", sqlite3.SQLITE_CANTOPEN)
    with pytest.raises(JournalError, match="see that the file and its folder are readable and writable for this user"):
        SqliteJournal(path, read_only=True, connect=refusing).runs()
    journal.close()
    looking = SqliteJournal(path, read_only=True, connect=refusing)
    assert [row.id for row in looking.runs()] == ["trip/1"]
    assert refusing.asked[1] == f"{path.as_uri()}?mode=ro"
    looking.close()


def test_who_may_read_a_file_and_not_write_its_folder_reads_it():
    """As a user does who only monitors: nothing is made there."""
    with users.folder() as folder:
        journal = SqliteJournal(folder / "s.db")
        opened(journal)
        journal.close()
        journal.path.chmod(0o444)
        folder.chmod(0o555)
        with users.another():
            with pytest.raises(PermissionError):
                (folder / "s.db-wal").touch()
            looking = SqliteJournal(journal.path, read_only=True)
            assert [row.id for row in looking.runs()] == ["trip/1"]
            looking.close()
        assert sorted(p.name for p in folder.iterdir()) == ["s.db", "s.db-lock"]


def test_who_may_not_write_the_folder_sees_what_is_written_while_they_look():
    """SQLite was told that the file stays as it is: that holds until somebody writes to it, or removes it."""
    with users.folder() as folder:
        journal = SqliteJournal(folder / "s.db")
        looking = SqliteJournal(journal.path, read_only=True)

        def seen():
            folder.chmod(0o555)
            with users.another():
                found = [row.id for row in looking.runs()], looking.version()
            folder.chmod(0o755)
            return found

        opened(journal)
        journal.path.chmod(0o644)
        journal.close()
        alone, first = seen()
        assert (alone, first) == (["trip/1"], seen()[1])  # and is opened once, as long as it does

        opened(journal, "trip/2")
        journal.close()
        ended, second = seen()
        opened(journal, "trip/3")
        at_work, third = seen()
        assert [ended, at_work] == [["trip/1", "trip/2"], ["trip/1", "trip/2", "trip/3"]]
        assert len({first, second, third}) == 3
        looking.close()

        journal.close()
        seen()
        journal.path.unlink()
        with pytest.raises(JournalError, match="see that the file and its folder are readable"):
            seen()
        looking.close()


@pytest.mark.parametrize(
    ("code", "cure"), [(sqlite3.SQLITE_FULL, "free some space"), (sqlite3.SQLITE_IOERR, "see to it")]
)
def test_a_disk_that_fails_while_the_file_is_made_is_told_at_once(path, code, cure):
    """Only another process is waited for."""
    with pytest.raises(JournalError, match=cure):
        SqliteJournal(path, connect=Refusing("journal_mode = wal", code)).commit(Log(), [], full=True, row=row())


def test_an_older_file_is_left_as_it_is_by_whoever_only_looks(path, journal, monkeypatch):
    """The next saga that writes to it brings it up to date."""
    opened(journal)
    journal.close()
    monkeypatch.setattr(file, "VERSION", schema.VERSION + 1)
    with pytest.raises(JournalError, match=r"is of an older sagadsl .schema 1.: the next saga that writes to it"):
        SqliteJournal(path, read_only=True).runs()


def test_a_row_that_is_not_found_again_is_a_damaged_file(journal):
    """An index that lost it, say. Nobody owns the run then."""
    log = opened(journal)
    journal.release(log.number)
    tenure = ownership.Tenure()
    with pytest.raises(JournalError, match="is not found again: the file is damaged; restore a backup"):
        ownership.hold(tenure, journal, row(id="elsewhere", number=log.number))
    tenure.end()
    assert not journal.is_held(log.number)
    later = opened(journal, generation=2)
    journal.release(later.number)
    assert ownership.hold(tenure, journal, row(number=later.number, generation=2)).generation == 2


def test_a_file_with_something_planted_is_refused(path, journal):
    """Before anything is written."""
    opened(journal)
    journal.close()
    with contextlib.closing(sqlite3.connect(path)) as shell, shell:
        shell.execute("create trigger evil after insert on entries begin delete from entries; end")
    for is_read_only in (True, False):
        with pytest.raises(JournalError, match=r"schema is not that of sagadsl \(trigger evil\): nothing was written"):
            SqliteJournal(path, read_only=is_read_only).runs()


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("create index evil on run (saga)", "(index evil): nothing was written; if you made that, drop it, else"),
        ("drop view runs", "(no runs): nothing was written; restore a backup, or name another"),
        ("alter table run rename column program to prog", "(table run): nothing was written; restore a backup, or"),
    ],
)
def test_only_what_is_not_ours_is_to_be_dropped(path, journal, sql, said):
    """Of what is missing, or was changed, a backup has the runs."""
    opened(journal)
    journal.close()
    database(path, sql)
    with pytest.raises(JournalError, match=re.escape(said)):
        journal.connection()


def test_a_full_disk_is_a_journal_error_and_the_run_can_go_on(path, journal):
    """What did not fit is not there; with room again the next entry takes its place."""
    log = opened(journal)
    journal._execute("pragma max_page_count = 30")
    with pytest.raises(JournalError, match="free some space, then run the program again"):
        journal.append(log, entry(Kind.DONE, result="x" * 200_000), full=True)
    with pytest.raises(JournalError, match="free some space"):
        journal.commit(log, [entry(Kind.DONE), entry(Kind.DONE, result="x" * 200_000)], full=True)
    journal._execute("pragma max_page_count = 100000")
    journal.append(log, entry(Kind.DONE, result="x" * 200_000), full=True)
    assert [e.seq for e in journal.entries(log.number)] == [1, 2]


def test_a_file_that_somebody_else_keeps_locked_is_a_journal_error(path, monkeypatch):
    """Patience ends, and the message says for how long it lasted."""
    monkeypatch.setattr(file, "PATIENCE", 0.01)
    made = SqliteJournal(path)
    log = opened(made)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")
        with pytest.raises(JournalError, match="another program held the file for more than"):
            made.append(log, entry(Kind.DONE), full=True)
    made.append(log, entry(Kind.DONE), full=True)
    made.close()


def test_a_file_that_somebody_is_creating_is_waited_for(path, monkeypatch):
    """SQLite refuses the write-ahead log at once while another looks at a new file; the next try has it."""
    path.touch()
    monkeypatch.setattr(file, "PATIENCE", 0.01)
    creator = sqlite3.connect(path, isolation_level=None)
    moments = iter([lambda: 0.0, lambda: creator.execute("rollback") and 0.0])
    monkeypatch.setattr(file.time, "monotonic", lambda: next(moments)())
    creator.execute("begin")
    creator.execute("select * from sqlite_schema").fetchall()
    made = SqliteJournal(path)
    assert opened(made).number == 1
    assert list(moments) == []
    made.close()
    creator.close()


def test_a_file_that_is_never_let_go_of_is_a_journal_error(path, monkeypatch):
    """Waiting ends."""
    path.touch()
    monkeypatch.setattr(file, "PATIENCE", 0.01)
    moments = iter([0.0, 1.0])
    monkeypatch.setattr(file.time, "monotonic", lambda: next(moments))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as creator:
        creator.execute("begin")
        creator.execute("select * from sqlite_schema").fetchall()
        with pytest.raises(JournalError, match="another program held the file"):
            opened(SqliteJournal(path))


def test_a_file_system_without_a_write_ahead_log_is_refused(tmp_path):
    """A network file system would lose what it acknowledged; a database in memory stands for one."""
    made = file.File(tmp_path / "s.db", read_only=False, connect=sqlite3.connect)
    with (
        contextlib.closing(sqlite3.connect(":memory:")) as memory,
        pytest.raises(JournalError, match="use a local disk"),
    ):
        made._prepare(memory)


def test_a_migration_that_fails_leaves_no_half(tmp_path, monkeypatch):
    """All of it or nothing, in one transaction."""
    monkeypatch.setattr(schema, "VIEWS", {"broken": "select"})
    made = SqliteJournal(tmp_path / "s.db")
    with pytest.raises(JournalError):
        opened(made)
    with contextlib.closing(sqlite3.connect(tmp_path / "s.db")) as shell:
        assert shell.execute("select count(*) from sqlite_schema").fetchone() == (0,)
        assert shell.execute("pragma application_id").fetchone() == (0,)
    monkeypatch.undo()
    assert opened(made).number == 1
    made.close()


def test_a_migration_that_has_lost_its_transaction_still_says_why(monkeypatch):
    """SQLite may have rolled back by itself; its error is the one that counts."""
    monkeypatch.setattr(schema, "TABLES", ("create table t (x)", "rollback", "nonsense"))
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as memory:
        with pytest.raises(sqlite3.OperationalError, match="nonsense"):
            schema.migrate(memory)
        assert not memory.in_transaction


# -- many threads and processes ---------------------------------------------------------------------------------------

WRITER = """
journal = SqliteJournal(Path(sys.argv[1]))
sys.stdin.readline()
log = opened(journal, sys.argv[2])
for at in range(int(sys.argv[3])):
    journal.append(log, entry(Kind.DONE, str(at)), full=at % 50 == 0)
print(log.number)
"""


def test_four_processes_create_one_file_and_lose_nothing(path):
    """They start from nothing at one moment; each has its run, complete and in order."""
    writers = [child(WRITER, path, f"trip/{at}", 100) for at in range(4)]
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    numbers = [writer.communicate()[0].strip() for writer in writers]
    assert [w.returncode for w in writers] == [0, 0, 0, 0]
    made = SqliteJournal(path)
    assert sorted(numbers) == ["1", "2", "3", "4"]
    assert [[e.step for e in made.entries(n)][1:] for n in range(1, 5)] == [[str(at) for at in range(100)]] * 4
    assert sorted(r.id for r in made.runs()) == ["trip/0", "trip/1", "trip/2", "trip/3"]
    made.close()


@pytest.mark.parametrize("shared", [True, False])
def test_threads_append_to_their_runs_through_one_journal_or_several(shared, path):
    """Neither loses an entry, nor takes one that is not its own."""
    one = SqliteJournal(path)
    opened(one, "first")
    journals = [one, one if shared else SqliteJournal(path)]

    def write(journal, name):
        log = opened(journal, name)
        for at in range(100):
            journal.append(log, entry(Kind.DONE, f"{name}{at}"), full=False)

    threads = [threading.Thread(target=write, args=pair) for pair in zip(journals, "ab", strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in "ab":
        (found,) = one.runs(id=name)
        assert [e.step for e in one.entries(found.number)][1:] == [f"{name}{at}" for at in range(100)]
    for journal in journals:
        journal.close()


def test_several_processes_open_a_new_file_at_one_moment(path):
    """Creation and migration are raced twenty times; nobody is told that the file is locked or odd."""
    code = """
for at in range(20):
    sys.stdin.readline()
    journal = SqliteJournal(Path(sys.argv[1] + str(at)))
    print(opened(journal, sys.argv[2]).number, flush=True)
    journal.close()
"""
    racers = [child(code, path, f"trip/{at}") for at in range(3)]
    seen = []
    for _ in range(20):
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
        seen.append(sorted(racer.stdout.readline().strip() for racer in racers))
    for racer in racers:
        racer.communicate()
    assert seen == [["1", "2", "3"]] * 20


HOLDER = """
journal = SqliteJournal(Path(sys.argv[1]))
print(opened(journal).number, flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("way", ["end", "kill"])
def test_the_lock_of_a_run_is_freed_when_its_owner_dies(way, path):
    """The kernel frees it, however the process ended; until then nobody else gets the run."""
    holder = child(HOLDER, path)
    number = int(holder.stdout.readline())
    made = SqliteJournal(path)
    assert [made.is_held(number), made.hold(number), made.is_held(number + 1)] == [True, False, False]
    if way == "kill":
        holder.send_signal(signal.SIGKILL)
    holder.communicate("go\n" if way == "end" else None)
    assert [made.is_held(number), made.hold(number), made.hold(number)] == [False, True, False]
    made.release(number)
    made.close()


def in_fork(function):
    """Run *function* in a forked child and return what it says."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, json.dumps(function()).encode())
        except BaseException as error:
            os.write(writing, json.dumps(repr(error)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = json.loads(pipe.read())
    os.waitpid(pid, 0)
    return said


def test_a_forked_child_uses_a_connection_of_its_own_and_frees_nothing(journal, path):
    """It sees the parent's run as somebody else's, writes its own, and its end changes nothing for the parent."""
    log = opened(journal)
    connection = id(journal._connection)

    def asked():
        unopened = journal._connection is None
        journal.release(log.number)
        held = [journal.is_held(log.number), journal.hold(log.number)]
        mine = opened(journal, "child/1").number
        return [unopened, id(journal._connection) != connection, held, mine, journal.is_held(mine)]

    assert in_fork(asked) == [True, True, [True, False], 2, True]
    assert [journal.is_held(log.number), journal.is_held(2)] == [True, False]
    assert child_tries(path, log.number) == "True False"
    journal.append(log, entry(Kind.DONE, "after"), full=True)
    assert [r.id for r in journal.runs()] == ["trip/1", "child/1"]


def child_tries(path, number):
    code = "j = SqliteJournal(Path(sys.argv[1])); print(j.is_held(int(sys.argv[2])), j.hold(int(sys.argv[2])))"
    return child(code, path, number).communicate()[0].strip()


def test_after_a_fork_nothing_of_the_parent_is_closed_or_unlocked(journal, path, monkeypatch):
    """What the hooks do in a child, done here: the connection stays open but unused, the descriptor goes."""
    opened(journal)
    connection = journal._connection
    mine = Locks(path.with_name("x"))
    mine.hold(1)
    monkeypatch.setattr(locks, "_all", {path: mine})
    monkeypatch.setattr(locks, "_all_guard", None)
    monkeypatch.setattr(sqlite, "_open_journals", [journal])
    locks._after_fork()
    sqlite._after_fork()
    assert [mine._descriptor, mine._held, journal._connection] == [-1, {}, None]
    assert locks._all_guard is not None
    assert connection.execute("select count(*) from run").fetchone() == (1,)
    assert sqlite._inherited.pop() is connection
    connection.close()


def test_a_fork_while_a_thread_writes_does_not_hang_the_child(journal):
    """The parent's thread, and the guards it holds, do not exist in the child."""
    opened(journal)
    inside, done = threading.Event(), threading.Event()

    def keep():
        with journal._guard, locks._all_guard, journal._locks._guard:
            inside.set()
            done.wait()

    thread = threading.Thread(target=keep)
    thread.start()
    inside.wait()
    try:
        assert in_fork(lambda: [journal.is_held(1), len(journal.runs()), locks_of(Path("x")) is not None]) == [
            True,
            1,
            True,
        ]
    finally:
        done.set()
        thread.join()


def test_where_byte_locks_belong_to_the_process_a_file_is_locked_for_each_run(path, monkeypatch):
    """The way of other platforms gives the same answers, here and in another process."""
    monkeypatch.setattr(locks, "OFD_SETLK", None)
    monkeypatch.setattr(locks, "OFD_GETLK", None)
    made, other = Locks(path), Locks(path)
    assert [made.is_held(1), made.hold(1), made.hold(1), made.is_held(1)] == [False, True, False, True]
    assert [other.hold(1), other.is_held(1), other.is_held(2)] == [False, True, False]
    made.release(1)
    made.release(1)
    assert [other.is_held(1), other.hold(1), made.hold(2)] == [False, True, True]
    assert in_fork(lambda: [made.forget(), other.forget(), made.is_held(2), other.is_held(1)]) == [
        None,
        None,
        True,
        True,
    ]
    assert [other.is_held(2), made.is_held(1)] == [True, True]
    for each, number in ((made, 2), (other, 1)):
        each.release(number)
        each.forget()


def test_locks_are_the_same_for_every_journal_of_a_file(path):
    """A descriptor never conflicts with itself, so threads of one process share a set of numbers."""
    assert locks_of(path) is locks_of(path)
    assert locks_of(path) is not locks_of(path.with_name("other.db"))


# -- the public views -------------------------------------------------------------------------------------------------


def iso(microseconds):
    moment = time.gmtime(microseconds // 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{microseconds // 1000 % 1000:03d}Z"


def fault(type="m:E", message="it broke", **more):
    return {"type": type, "message": message} | more


@pytest.fixture
def shell(path, journal):
    """Write runs of every kind by hand, and return what any SQLite shell sees."""
    at = iter(range(NOW, NOW + 10**9, 1_000_000))

    def write(log, kind, step="", **facts):
        made = entry(kind, step, at=next(at), **{"scope": 1} | facts)
        journal.append(log, made, full=False)
        return made.seq

    compensated = '{"module":"m","compensate":"release"}'
    log = opened(journal, "failed")
    reserve = write(log, Kind.INTENT, "reserve", name="reserve", definition=compensated, arguments='{"item":"lamp"}')
    write(log, Kind.RETRYING, "reserve", ref=reserve, result={"wait": 1, "fault": fault()})
    write(log, Kind.INTENT, "reserve", ref=reserve)
    write(log, Kind.DONE, "reserve", ref=reserve, result='"r-1"')
    pay = write(log, Kind.INTENT, "pay", name="pay", definition='{"module":"m"}', arguments="{}")
    write(log, Kind.FAILED, "pay", ref=pay, result=fault("m:Declined", "no"))
    write(log, Kind.COMPENSATING, result={"cause": "failure", "fault": fault("m:Declined", "no")})
    write(log, Kind.COMPENSATION_INTENT, "reserve", ref=reserve)
    write(log, Kind.COMPENSATION_RETRYING, "reserve", ref=reserve, result={"wait": 1, "fault": fault()})
    write(log, Kind.COMPENSATION_INTENT, "reserve", ref=reserve)
    write(log, Kind.COMPENSATION_DONE, "reserve", ref=reserve)
    write(log, Kind.COMPENSATED)

    log = opened(journal, "stuck")
    ship = write(log, Kind.INTENT, "ship", name="ship", definition=compensated, arguments="{}")
    write(log, Kind.DONE, "ship", ref=ship, result="1")
    write(log, Kind.COMPENSATING, result={"cause": "request"})
    write(log, Kind.COMPENSATION_INTENT, "ship", ref=ship)
    write(log, Kind.COMPENSATION_ERROR, "ship", ref=ship, result=fault("m:Gone", "no truck"))
    write(log, Kind.COMPENSATION_FAILED, result={"cause": "request", "step": "ship", "fault": fault("m:Gone", "x")})

    log = opened(journal, "cut off")
    write(log, Kind.DONE, "look", name="look", definition="{}", arguments="{}", result="3")
    write(log, Kind.INTENT, "wait", name="wait", definition="{}", arguments="{}")

    log = opened(journal, "paused")
    write(log, Kind.PAUSED, result={"cause": "failure", "fault": fault("m:E", "paused")})

    log = opened(journal, "resumed")
    write(log, Kind.PAUSED, result={"cause": "failure", "fault": fault("m:E", "paused")})
    write(log, Kind.RESUMED)
    write(log, Kind.TAKEN)

    log = opened(journal, "parent")
    inner = write(log, Kind.OPENED, "pack", name="pack", definition="{}", arguments="{}")
    deep = write(log, Kind.OPENED, "pack/box", scope=inner, name="box", definition="{}", arguments="{}")
    tape = write(log, Kind.INTENT, "pack/box/tape", scope=deep, name="tape", definition=compensated, arguments="{}")
    write(log, Kind.UNCERTAIN, "pack/box/tape", scope=deep, ref=tape, result=fault("m:Late", "slow"))
    write(log, Kind.COMPENSATION_INTENT, "pack/box/tape", scope=deep, ref=tape)
    write(log, Kind.COMPLETED, scope=deep, step="pack/box", result="7")
    write(log, Kind.COMPENSATION_FAILED, scope=inner, step="pack", result={"cause": "failure", "fault": fault()})
    journal.close()
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as made:
        yield made


def test_the_view_of_runs_says_where_each_run_and_child_stands(shell):
    """Status, cause, parent and error, for a person without this library."""
    found = shell.execute("select id, saga, status, cause, parent, error, result from runs order by id").fetchall()
    assert found == [
        ("cut off", "trip", "open", None, None, None, None),
        ("failed", "trip", "compensated", "failure", None, "m:Declined: no", None),
        ("parent", "trip", "open", None, None, None, None),
        ("parent/pack", "pack", "compensation_failed", "failure", "parent", None, None),
        ("parent/pack/box", "box", "completed", None, "parent/pack", None, "7"),
        ("paused", "trip", "paused", "failure", None, "m:E: paused", None),
        ("resumed", "trip", "open", None, None, None, None),
        ("stuck", "trip", "compensation_failed", "request", None, None, None),
    ]
    times = shell.execute(
        "select started, updated, ended, generation, program, arguments from runs where id = 'failed'"
    )
    assert times.fetchone() == (iso(NOW), iso(NOW + 11_000_000), iso(NOW + 11_000_000), 1, "p.py", '{"a":1}')
    assert shell.execute("select count(*) from runs where ended is not null").fetchone() == (2,)


def test_the_view_of_steps_says_what_came_of_each_call(shell):
    """Done, failed, retried, cut off, compensated, each with attempts and error; as `run.steps` says it."""
    found = shell.execute(
        "select run, step, status, attempts, result, error, compensation from steps order by started"
    ).fetchall()
    assert found == [
        ("failed", "reserve", "compensated", 2, '"r-1"', None, "release"),
        ("failed", "pay", "failed", 1, None, "m:Declined: no", None),
        ("stuck", "ship", "compensation_failed", 1, "1", None, "release"),
        ("cut off", "look", "done", 0, "3", None, None),
        ("cut off", "wait", "entered", 1, None, None, None),
        ("parent", "pack/box/tape", "compensating", 1, None, "m:Late: slow", "release"),
    ]
    assert shell.execute("select started, ended from steps where step = 'reserve'").fetchone() == (
        iso(NOW),
        iso(NOW + 3_000_000),
    )
    assert shell.execute("select step from steps where ended is null").fetchall() == [("wait",)]
    ordered = shell.execute("select step from steps where run in ('failed', 'cut off') order by run, seq").fetchall()
    assert ordered == [("look",), ("wait",), ("reserve",), ("pay",)]


def test_the_view_of_compensations_says_what_was_undone(shell):
    """Done after a retry, failed, and still under way."""
    found = shell.execute("select run, step, compensation, status, attempts, error from compensations order by started")
    assert found.fetchall() == [
        ("failed", "reserve", "release", "done", 2, None),
        ("stuck", "ship", "release", "failed", 1, "m:Gone: no truck"),
        ("parent", "pack/box/tape", "release", "entered", 1, None),
    ]


def test_the_timeline_is_everything_in_order(shell):
    """One row an entry, as it was written."""
    found = shell.execute("select seq, event, step from timeline where run = 'stuck' order by seq").fetchall()
    assert found == [
        (1, "opened", ""), (2, "intent", "ship"), (3, "done", "ship"), (4, "compensating", ""),
        (5, "compensation_intent", "ship"), (6, "compensation_error", "ship"), (7, "compensation_failed", ""),
    ]  # fmt: skip
    assert (
        shell.execute("select count(*) from timeline").fetchone()
        == shell.execute("select count(*) from entries").fetchone()
    )


def test_a_row_whose_columns_have_other_types_is_damaged(tmp_path):
    """What a damaged page says of a number is not believed."""
    path = tmp_path / "s.db"
    journal = SqliteJournal(path)
    opened(journal)
    journal.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma writable_schema = on")
        connection.execute("update sqlite_schema set sql = replace(sql, ') strict', ')') where type = 'table'")
        connection.commit()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("update run set thefts = 'many'")
        connection.execute("update entries set at = x'00'")
        connection.commit()
        connection.execute("pragma writable_schema = on")
        sql = "update sqlite_schema set sql = sql || ' strict' where type = 'table' and name in ('run', 'letters')"
        connection.execute(sql)
        connection.execute("update sqlite_schema set sql = replace(sql, ') , without', ') strict, without')")
        connection.execute("update sqlite_schema set sql = replace(sql, '), without', ') strict, without')")
        connection.commit()
    with pytest.raises(JournalError, match="the row of run 'trip/1' is damaged"):
        SqliteJournal(path, read_only=True).runs()
    with pytest.raises(JournalError, match="entry 1 of run number 1 is damaged"):
        SqliteJournal(path, read_only=True).entries(1)


def test_a_letter_that_is_none_is_told_as_damage(path, journal):
    log = opened(journal)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as shell:
        shell.execute("insert into letters (number, at, kind) values (?, 0, 'cancel')", (log.number,))
    read = journal._read
    journal._read = lambda sql, values: [(*row[:-1], "x") for row in read(sql, values)]
    with pytest.raises(JournalError, match="a letter to run number 1 is damaged"):
        journal.letters(log.number)


def test_a_removal_that_fails_removes_nothing(path, journal):
    log = opened(journal)
    journal.commit(log, [entry(Kind.COMPLETED)], full=True, finished=True)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as shell:
        shell.execute("create trigger no before delete on entries begin select raise(abort, 'no'); end")
    with pytest.raises((JournalError, sqlite3.Error)):
        journal.remove([log.number])
    assert [row.number for row in journal.runs()] == [log.number]


def test_a_file_that_could_not_shrink_can_from_then_on(path, journal):
    opened(journal)
    journal.close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as shell:
        shell.execute("pragma journal_mode = delete")
        shell.execute("pragma auto_vacuum = none")
        shell.execute("vacuum")
    again = SqliteJournal(path)
    again.shrink()
    assert again._execute("pragma auto_vacuum").fetchone()[0] == sqlite.INCREMENTAL
    again.close()


def test_pages_that_somebody_else_frees_are_not_waited_for(journal):
    opened(journal)
    asked = []
    journal._free_pages = lambda: asked.append("pages") or 7
    journal.shrink()
    assert asked == ["pages", "pages"]


def test_a_disk_that_fails_while_a_file_shrinks_is_told(journal):
    opened(journal)

    def failing():
        raise sqlite3.OperationalError("disk I/O error")

    journal._free_pages = failing
    with pytest.raises(JournalError, match="disk I/O error"):
        journal.shrink()


def test_what_has_lost_a_run_can_write_in_no_way_and_still_look(journal):
    """Together with others either: its ticket is over, and says why."""
    log = opened(journal)
    fenced = Fenced(journal)
    intent = entry(Kind.INTENT, "act", name="act")
    with pytest.raises(Overtaken):
        fenced.append(log, intent, True)
    with pytest.raises(Overtaken):
        fenced.commit(log, [intent], full=True)
    ticket = Ticket(log, [intent], True)
    fenced.write_together([ticket])
    assert ticket.is_over
    assert isinstance(ticket.error, Overtaken)
    assert told(fenced.entries(1)) == [(1, "opened", "")]
