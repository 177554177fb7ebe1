"""The journal's log, synced beside SQLite: the right file, at the right moment, and a failure that says what to do."""

import contextlib
import errno
import gc
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from statements import connecting, log_file

from sagadsl import Runtime, saga, step
from sagadsl._core.journal import Log
from sagadsl._core.journal.sqlite import SqliteJournal
from sagadsl._core.journal.syncing import LogFile
from sagadsl._core.journal.together import Ticket
from sagadsl._core.values import Entry, Kind, RunRow
from sagadsl.errors import JournalError

NOW = 1_700_000_000_000_000
DESCRIPTORS = Path("/proc/self/fd")


def entry(kind=Kind.FAILED):
    return Entry(0, 0, kind, 1, "work", None, None, NOW, None, None, None, None)


def opened(journal, number=1):
    log = Log()
    row = RunRow(0, f"trip/{number}", 1, "trip", "p", "digest", NOW)
    journal.commit(log, [entry(Kind.OPENED)], full=True, row=row)
    return log


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sagas.db"


def logs(path):
    """Return by which descriptors this process has a file's log open: number and inode."""
    found = {}
    for each in DESCRIPTORS.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if str(each.readlink()).startswith(f"{path}-wal"):
                found[int(each.name)] = each.stat().st_ino
    return found


def assert_synced_is_written(journal):
    """Hold that the log which is synced is the one that SQLite writes, and that there is one of each."""
    (inode,) = set(logs(journal.path).values())
    assert os.fstat(journal._log_file._descriptor).st_ino == inode == Path(f"{journal.path}-wal").stat().st_ino
    assert len(logs(journal.path)) == 2


def test_what_was_committed_is_synced_after_it_and_before_its_owner_goes_on(path):
    events = []
    connect = connecting(after=lambda sql: events.append(sql.split()[0]))
    journal = SqliteJournal(path, connect=connect, log_file=log_file(lambda _: events.append("sync")))
    log = opened(journal)
    journal.append(log, entry(), full=True)
    del events[:]
    for full in (True, False, False, True):
        journal.append(log, entry(), full=full)
        events.append("gone on")
    assert " ".join(events) == "insert sync gone on insert gone on insert gone on insert sync gone on"
    journal.close()


def test_the_log_that_is_synced_stays_the_one_that_is_written(path):
    """Whatever others do with the file, and when it is opened anew."""
    assert logs(path) == {}
    journal = SqliteJournal(path)
    log = opened(journal)
    assert_synced_is_written(journal)
    for what in ("pragma wal_checkpoint(truncate)", "vacuum", "pragma journal_size_limit = 0", "select * from run"):
        program = (
            "import sqlite3, sys; sqlite3.connect(sys.argv[1], isolation_level=None).execute(sys.argv[2]).fetchall()"
        )
        subprocess.run([sys.executable, "-c", program, path, what], check=True)
        journal.append(log, entry(), full=True)
        assert_synced_is_written(journal)
    journal.close()
    assert logs(path) == {}
    assert not Path(f"{path}-wal").exists()
    opened(journal, 2)
    assert_synced_is_written(journal)
    journal.close()


def test_a_file_that_is_reached_by_a_link_has_its_log_beside_itself(path, tmp_path):
    """As SQLite has it."""
    link = tmp_path / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(path)
    SqliteJournal(path).commit(Log(), [entry(Kind.OPENED)], full=True, row=RunRow(0, "trip/0", 1, "t", "p", "d", NOW))
    journal = SqliteJournal(link)
    opened(journal)
    assert {each.name for each in link.parent.iterdir()} == {"link.db"}
    assert os.fstat(journal._log_file._descriptor).st_ino == Path(f"{path}-wal").stat().st_ino
    journal.close()


def test_another_connection_to_the_same_file_syncs_its_log_in_the_same_way(path):
    journal = SqliteJournal(path)
    opened(journal)
    another = journal.again()
    opened(another, 2)
    assert os.fstat(another._log_file._descriptor).st_ino == Path(f"{path}-wal").stat().st_ino
    another.close()
    journal.close()


def test_nobody_can_take_the_log_away_while_a_journal_is_open(path):
    journal = SqliteJournal(path)
    opened(journal)
    other = sqlite3.connect(path, timeout=0)
    with contextlib.closing(other), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("pragma journal_mode = delete")
    assert_synced_is_written(journal)
    journal.close()


@pytest.mark.parametrize("name", ["a b.db", "100%.db", "%41.db", "what?mode=ro.db", "#1.db", "ü.db"])
def test_a_file_of_any_name_has_its_log_synced(name, tmp_path):
    journal = SqliteJournal(tmp_path / name)
    opened(journal)
    assert_synced_is_written(journal)
    journal.close()


def test_a_log_that_only_sqlite_can_open_is_synced_by_sqlite(path):
    """Before the first entry and after it, as long as the file is open."""

    def refused(_):
        raise PermissionError

    journal = SqliteJournal(path, connect=sqlite3.connect, log_file=refused)
    log = opened(journal)
    levels = []
    for full in (True, False):
        journal.append(log, entry(), full=full)
        levels.append(journal._execute("pragma synchronous").fetchone())
    assert (levels, journal._sync) == ([(2,), (1,)], None)
    journal.close()


def test_a_journal_that_is_forgotten_leaves_no_descriptor(path):
    journal = SqliteJournal(path)
    opened(journal)
    journal._connection.close()
    del journal
    gc.collect()
    assert logs(path) == {}


def test_a_forked_child_opens_a_log_of_its_own_and_leaves_its_parents(path):
    journal = SqliteJournal(path)
    log = opened(journal)
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            opened(journal, 2)
            os.kill(os.getpid(), signal.SIGUSR1 if journal._log_file.sync() is None else signal.SIGTERM)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGUSR1
    journal.append(log, entry(), full=True)
    assert_synced_is_written(journal)
    assert [row.id for row in journal.runs()] == ["trip/1", "trip/2"]
    journal.close()


def test_a_log_that_is_not_there_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        LogFile(str(tmp_path / "sagas.db"))
    gc.collect()  # nothing is left of it that could complain


class Disk:
    """What refuses to sync while it has an *error*."""

    def __init__(self):
        self.error, self.refused = None, 0

    def log_file(self, path):
        return log_file(self.told)(path)

    def told(self, _):
        if self.error is not None:
            self.refused += 1
            raise OSError(self.error, os.strerror(self.error))


@pytest.mark.parametrize(
    ("code", "cure"),
    [(errno.EIO, "see to it, then run"), (errno.ENOSPC, "free some space"), (errno.EDQUOT, "free some space")],
)
@pytest.mark.parametrize("on_uncertain", ["retry", "compensate", "pause"])
def test_a_log_that_cannot_be_synced_stops_the_run_before_its_step_and_it_goes_on(
    on_uncertain, code, cure, tmp_path, world
):
    """Nothing was entered, and nothing is on record that could make anybody think so."""
    disk = Disk()
    journal = SqliteJournal(tmp_path / "sagas.db", connect=sqlite3.connect, log_file=disk.log_file)

    @step(compensate=lambda: world.add("-book"), on_uncertain=on_uncertain)
    def book(name: str) -> str:
        world.add(name)
        if name == "hotel":
            disk.error = code
        return name

    @saga(runtime=Runtime(journal), name="trip", key="k")
    def trip() -> int:
        return len([book(name) for name in ("flight", "hotel", "car")])

    with pytest.raises(JournalError, match=cure):
        trip()
    assert (disk.refused, world.effects) == (1, ["flight", "hotel"])
    assert [entry.kind for entry in journal.entries(1)] == ["opened", *["intent", "done"] * 2]
    disk.error = None
    assert trip() == 3
    assert world.effects == ["flight", "hotel", "car"]
    journal.close()


def test_an_entry_that_can_neither_be_synced_nor_removed_stays_as_if_its_owner_had_died(path):
    def refuse(sql):
        if sql.startswith("delete") and disk.error is not None:
            raise sqlite3.OperationalError("disk I/O error")

    disk = Disk()
    journal = SqliteJournal(path, connect=connecting(refuse), log_file=disk.log_file)
    log = opened(journal)
    disk.error = errno.EIO
    with pytest.raises(JournalError, match="see to it"):
        journal.append(log, entry(), full=True)
    assert (log.seq, len(journal.entries(log.number))) == (2, 2)
    journal.close()


@pytest.mark.parametrize("write", ["an entry", "a transaction"])
def test_after_a_sync_that_failed_the_log_begins_anew(write, path):
    """What was in it is in the file then, or nothing more is said to be durable: of a log with a hole nothing is."""
    disk, statements = Disk(), []
    journal = SqliteJournal(path, connect=connecting(statements.append), log_file=disk.log_file)
    log = opened(journal)
    disk.error = errno.EIO
    with pytest.raises(JournalError):
        journal.append(log, entry(), full=True)
    disk.error = None
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("begin")
    reader.execute("select * from run").fetchall()
    journal.connection().execute("pragma busy_timeout = 1")
    more = {"an entry": lambda: journal.append(log, entry(), full=True), "a transaction": lambda: opened(journal, 2)}
    with pytest.raises(JournalError, match="the log is in use"):
        more[write]()
    assert len(journal.entries(log.number)) == 1
    reader.close()
    del statements[:]
    more[write]()
    assert statements.count("pragma wal_checkpoint(restart)") == 1
    del statements[:]
    journal.append(log, entry(), full=True)
    assert "pragma wal_checkpoint(restart)" not in statements
    journal.close()


def test_a_thread_that_wrote_for_others_is_told_of_a_sync_that_failed(path):
    disk = Disk()
    journal = SqliteJournal(path, connect=sqlite3.connect, log_file=disk.log_file)
    log = opened(journal)
    disk.error = errno.EIO
    ticket = Ticket(log, (entry(),), True)
    journal.write_together([ticket])
    assert (type(ticket.error), ticket.is_over, log.seq) == (JournalError, True, 1)
    journal.close()
