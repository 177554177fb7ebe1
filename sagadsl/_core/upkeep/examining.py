"""Whether a journal is sound, and stands where it can be: each question asked once, each answer with what to type.

Nothing is changed. Damage is what makes a run unreadable or the file wrong; the rest is about the place: what a file
system or a disk does to it.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from sagadsl._core.journal.file import code_of
from sagadsl._core.journal.locks import Locks
from sagadsl._core.journal.sqlite import SqliteJournal
from sagadsl._core.schema import VERSION
from sagadsl._core.values import RunRow
from sagadsl.errors import JournalError

GOOD: Final = "good"
NOTE: Final = "note"
DAMAGE: Final = "damage"

SHOWN: Final = 8
"""How many runs a finding names."""
ROUNDS: Final = 9
"""How often a sync is timed."""
SLOW: Final = 0.05
"""Seconds for one sync beyond which a disk is said to be slow."""
BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""What SQLite says of a file that is damaged; whatever else it says, the file may be sound."""
MOUNTS: Final = Path("/proc/self/mountinfo")
NETWORK: Final = frozenset(
    [
        "9p",
        "afs",
        "ceph",
        "cifs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "lustre",
        "nfs",
        "nfs4",
        "smb3",
    ]
)

Check = Callable[[RunRow], tuple[Any, Any]]
"""Reads a run whole, and its outline; raises `JournalError` if it cannot."""


@frozen
class Finding:
    """What one check found: *status* is ``good``, ``note`` or ``damage``, *cure* what to type then."""

    check: str
    status: str
    told: str
    cure: str = ""


def examined(journal: SqliteJournal, check: Check) -> Iterator[Finding]:
    """Yield what each check finds; a file that cannot be opened is the only finding about its content."""
    file = shlex.quote(journal.name)
    try:
        journal.connection()
    except JournalError as error:
        yield Finding("file", DAMAGE, error.reason, cure_of(error, journal.path, file))
    else:
        yield about_file(journal.path, file)
        yield from about_pages(journal, file)
        yield from about_runs(journal, check, file)
    yield from about_place(journal.path.parent)


def cure_of(error: JournalError, path: Path, file: str) -> str:
    """Return what to type where a file cannot be opened: it is broken, or it may be sound, or it is no journal."""
    code = code_of(error.__cause__)
    if code in BROKEN:
        return f"sagadsl doctor --db ANOTHER, or what is left of it: {rescue(file)}"
    return f"ls -ld {shlex.quote(str(path.parent))} {file}*" if code else "sagadsl doctor --db ANOTHER"


def about_file(path: Path, file: str) -> Finding:
    """Say how large it is, and whether it has several names: by each it has another log, and other locks."""
    facts = path.stat()
    told = f"schema {VERSION}, {facts.st_size / 1e6:.1f} MB"
    if facts.st_nlink <= 1:
        return Finding("file", GOOD, told)
    told += f"; {facts.st_nlink} hard links, each with a log and locks of its own: use two, and a run has two owners"
    return Finding("file", NOTE, told, f"find {shlex.quote(str(path.parent))} -samefile {file}   (keep one)")


def rescue(file: str) -> str:
    """Return what gets out of a damaged database what can be had."""
    return f"sqlite3 {file} .recover | sqlite3 rescued.db"


def about_pages(journal: SqliteJournal, file: str) -> Iterator[Finding]:
    """Ask SQLite about its pages, its indexes, and rows that belong to nothing."""
    try:
        shell = journal.connection()
        wrong = [text for (text,) in shell.execute("pragma integrity_check(10)") if text != "ok"]
        lost = shell.execute("pragma foreign_key_check").fetchall()
    except sqlite3.Error as error:
        wrong, lost = [str(error)], []
    if lost:
        wrong.append(f"{len(lost)} rows belong to no run")
    if wrong:
        yield Finding("integrity", DAMAGE, "; ".join(wrong), f"restore a backup; what is left: {rescue(file)}")
    else:
        yield Finding("integrity", GOOD, "SQLite finds nothing wrong")


def about_runs(journal: SqliteJournal, check: Check, file: str) -> Iterator[Finding]:
    """Read each run whole, and see who has it."""
    damaged: list[tuple[str, str]] = []
    hidden: list[str] = []
    cut, untold, count = [], [], 0
    try:
        for row in journal.runs():
            count += 1
            try:
                run, _ = check(row)
            except JournalError as error:
                if isinstance(error.__cause__, OSError):  # its entries are read; its lock cannot be
                    hidden.append(error.reason)
                else:
                    damaged.append((row.id, error.reason))
            else:
                if run.is_interrupted:
                    cut.append(row.id)
                if run.notify_owed:
                    untold.append(row.id)
    except JournalError as error:
        damaged.append(("RUN", error.reason))
    if damaged:
        told = "; ".join(reason for _, reason in damaged[:SHOWN])
        more = f"; and {len(damaged) - SHOWN} more" if len(damaged) > SHOWN else ""
        cure = f"sagadsl export {shlex.quote(damaged[0][0])} --db BACKUP > run.jsonl; sagadsl import run.jsonl --db NEW"
        yield Finding("runs", DAMAGE, told + more, f"{cure}   (what is sound is still read: sagadsl list --db {file})")
    else:
        yield Finding("runs", GOOD, f"{count} runs, each entry as it was written")
    if untold:
        told = f"{len(untold)} ended, and the saga's notify was not told yet: {some(untold)}"
        yield Finding("notify", NOTE, told, "run the program again, or call sagadsl.resume_all() in it")
    yield about_owners(cut, hidden, file)


def about_owners(cut: list[str], hidden: list[str], file: str) -> Finding:
    """Name the runs that were *cut* off, unless it is *hidden* who has a run; then say why."""
    if hidden:
        return Finding("owners", NOTE, f"who has which run is not to be seen: {hidden[0]}", f"ls -l {file}*")
    if cut:
        told = f"{len(cut)} unfinished and nobody has them: {some(cut)}"
        return Finding("owners", NOTE, told, f"sagadsl list --status interrupted --db {file}")
    return Finding("owners", GOOD, "each unfinished run is somebody's, or waits for a person")


def some(runs: list[str]) -> str:
    """Name the first of many runs."""
    return ", ".join(runs[:SHOWN]) + (", ..." if len(runs) > SHOWN else "")


def about_place(folder: Path) -> Iterator[Finding]:
    """See what kind of file system it is, whether it locks, and how long the disk takes."""
    kind = file_system(folder, MOUNTS)
    local = "put the journal on a local disk: store=, SAGADSL_DB or --db"
    if kind in NETWORK:
        yield Finding("file system", NOTE, f"{kind} is a network file system, which SQLite cannot share safely", local)
    else:
        yield Finding("file system", GOOD, kind or "unknown here")
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".sagadsl-doctor-") as place:
            yield about_locks(Path(place))
            yield about_disk(Path(place))
    except OSError as error:
        told = f"nothing can be written into {folder} ({error.strerror}), so neither locks nor the disk were tried"
        yield Finding("folder", NOTE, told, f"ls -ld {shlex.quote(str(folder))}")


def file_system(folder: Path, mounts: Path) -> str:
    """Return the kind of file system that a folder is on, empty where nobody says (Linux does)."""
    try:
        lines = mounts.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    found = "", ""
    for line in lines:
        fields, _, rest = line.partition(" - ")
        point = fields.split()[4].encode().decode("unicode_escape")
        if folder.resolve().is_relative_to(point) and len(point) >= len(found[0]):
            found = point, rest.split()[0]
    return found[1]


def about_locks(place: Path) -> Finding:
    """Lock a run twice, as two processes would: the second must be refused."""
    one, other = Locks(place / "lock"), Locks(place / "lock")
    try:
        works = one.hold(1) and not other.hold(1) and other.is_held(1)
    finally:
        one.forget()
        other.forget()
    if works:
        return Finding("locks", GOOD, "a run that somebody has is refused to others")
    local = "put the journal on a local disk: store=, SAGADSL_DB or --db"
    return Finding("locks", DAMAGE, "locks do not exclude anybody here, so two processes could run one run", local)


def about_disk(place: Path) -> Finding:
    """Time a sync, which is what a step waits for."""
    took = []
    with (place / "sync").open("wb") as file:
        for _ in range(ROUNDS):
            file.write(bytes(4096))
            file.flush()
            start = time.perf_counter()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - start)
    median = statistics.median(took)
    told = f"a sync takes {median * 1000:.1f} ms, and each step waits for one"
    if median > SLOW:
        return Finding("disk", NOTE, told, 'a faster disk; or durability="process", which survives kill -9 alone')
    return Finding("disk", GOOD, told)
