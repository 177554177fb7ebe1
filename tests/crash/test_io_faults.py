"""The disk fails at each read, write and sync in turn, once or for good, and once more while the run goes on.

After every fault: a `JournalError` that says what to do, nothing compensated because of it, no half of an entry, and
once the disk is mended the run goes on to its end, in the same process or another. The judge is the world.

The faults are swept until a run meets none any more. The second fault, in the recovery from the first, is chosen by a
seed; with SAGADSL_SWEEP=all each of them comes, and SAGADSL_SWEEP=<number> repeats a choice.
"""

import itertools
import os
import random
import re
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

import sagadsl
from crash.disk import Disk
from crash.workload import SAGAS, Cut, Stage, judge, play, recorded_effects
from sagadsl._core.journal.sqlite import SqliteJournal
from sagadsl.errors import JournalError

ROOT = Path(sagadsl.__file__).parents[1]
SWEEP = os.environ.get("SAGADSL_SWEEP") or str(random.randrange(10**6))  # noqa: S311  # a sample, no secret
CURES = {"FULL": "free some space, then run the program again", "IOERR": "see to it, then run the program again"}
OPERATIONS = ("write", "sync", "read")


class Machine:
    """A folder on a disk that can fail, a world, and processes that run the workload there, one after the other.

    The journal syncs its log, or has SQLite do it.
    """

    journal = SqliteJournal

    def __init__(self, folder, *, sqlite_syncs=False):
        folder.mkdir()
        self.path, self.disk, self.journals, self.effects = folder / "sagas.db", Disk(), [], []
        self.log_file = None if sqlite_syncs else self.disk.log_file
        Stage.happened, Stage.cut = self.effects.append, None

    def process(self):
        """Return a runtime with a connection of its own."""
        self.journals.append(self.journal(self.path, connect=self.disk.connect, log_file=self.log_file))
        return sagadsl.Runtime(store=self.journals[-1], sleep=lambda _: None)

    def close(self):
        for journal in self.journals:
            journal.close()

    def recorded(self, run):
        """Return the effects that are on record as done."""
        reader = SqliteJournal(self.path, connect=self.disk.connect)
        found = {e for row in reader.runs(id=run) for e in recorded_effects(reader.entries(row.number))}
        reader.close()
        return found


def faulty(machine, runtime, run, fault):
    """Play with a fault; return how often it came, and complain if the error does not say what to do."""
    before = list(machine.effects)
    machine.disk.fail(*fault[:3], lasting=fault[3])
    error = None
    try:
        play(runtime, run)
    except JournalError as raised:
        error = raised
    finally:
        reached = machine.disk.reached
        machine.disk.mend()
    complaints = []
    if error is not None:
        if error.exit_code != 5 or CURES[fault[2]] not in str(error):
            complaints.append(f"no cure: {error}")
        new = machine.effects[len(before) :]
        if not SAGAS[run][1] and any(effect.startswith("-") for effect in new):
            complaints.append(f"compensated because of the disk: {new}")
    return reached, complaints


def case(machine, start, run, first, seconds, *, same_process):
    """Have a run meet a fault, and its recovery another; then end it. Return how often they came, and complaints.

    It meets the first when the file is made, or when another process goes on that finds the run cut off.
    """
    runtime = machine.process()
    repeats, done, goes_on = 0, set(), 0
    if start == "cut off":
        Stage.cut = "hotel"
        with pytest.raises(Cut):
            play(runtime, run)
        machine.close()
        runtime = machine.process()
        done, goes_on, repeats = machine.recorded(run), len(machine.effects), 1
    came, complaints = faulty(machine, runtime, run, first)
    complaints += judge_repeats(machine, done, goes_on)
    for second in [*seconds, None]:
        if not came:
            break
        if not same_process:
            runtime = machine.process()
        done, goes_on = machine.recorded(run), len(machine.effects)
        repeats += 1
        if second is None:
            if machine.path.exists() and not ended(runtime, run):
                play(runtime, run)
        elif not ended(runtime, run):
            again, more = faulty(machine, runtime, run, second)
            complaints += more
            complaints += judge_repeats(machine, done, goes_on)
            came += bool(again)
    complaints += judge(run, machine.effects, done, goes_on, repeats)
    if came and not ended(runtime, run):
        complaints.append("has not ended")
    machine.close()
    return came, complaints


def judge_repeats(machine, done, goes_on):
    again = set(machine.effects[goes_on:]) & done
    return [f"recorded, and done again: {again}"] if again else []


def ended(runtime, run):
    found = [each for each in runtime.runs() if each.id == run]
    return bool(found) and found[0].status.is_terminal


def sweep(make, start, run, operation):
    """Fail each operation in turn, until none is left; return how many cases there were, and what is wrong."""
    wrong, cases = {}, 0
    ways = list(itertools.product(CURES, (False, True), (False, True)))
    for number in itertools.count(1):
        rng = random.Random(f"{SWEEP} {start} {run} {operation} {number}")  # noqa: S311
        came = 0
        for kind, lasting, same_process in ways if SWEEP == "all" else [rng.choice(ways)]:
            first = (operation, number, kind, lasting)
            choices = [(o, at, kind, lasting) for o, at in itertools.product(OPERATIONS, (1, 2, 3, 5))]
            for second in [None, *rng.sample(choices, 4)] if SWEEP == "all" else [rng.choice([None, *choices])]:
                cases += 1
                then = [second] if second else []
                try:
                    times, said = case(make(), start, run, first, then, same_process=same_process)
                except JournalError as error:  # where no fault is any more
                    times, said = 1, [f"cannot go on: {error}"]
                came += times
                if said:
                    wrong[first, second, same_process] = said
        if not came:
            break
    assert number > 4, "the fault was hardly ever reached"
    return cases, wrong


@pytest.fixture
def make(tmp_path):
    """Give a maker of machines."""
    numbers = itertools.count()
    return lambda **options: Machine(tmp_path / f"{next(numbers)}", **options)


@pytest.mark.parametrize("run", ["good", "bad"])
@pytest.mark.parametrize("start", ["new", "cut off"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_run_whose_disk_fails_goes_on_once_it_is_mended(operation, start, run, make):
    """At each operation in turn, from the making of the file to the last entry; with one more fault in the recovery."""
    cases, wrong = sweep(make, start, run, operation)
    print(f"{operation}, {start}, {run}: {cases} cases, SAGADSL_SWEEP={SWEEP}")
    assert wrong == {}, f"SAGADSL_SWEEP={SWEEP}"


class Careless(SqliteJournal):
    """The mutant: what it cannot write it leaves out."""

    def append(self, log, entry, full):
        try:
            super().append(log, entry, full)
        except JournalError:
            log.seq += 1


@pytest.mark.parametrize("run", ["good", "bad"])
def test_where_sqlite_syncs_a_run_whose_disk_fails_then_goes_on_too(run, make):
    cases, wrong = sweep(lambda: make(sqlite_syncs=True), "new", run, "sync")
    print(f"sync by SQLite, new, {run}: {cases} cases, SAGADSL_SWEEP={SWEEP}")
    assert wrong == {}, f"SAGADSL_SWEEP={SWEEP}"


def test_the_judge_catches_a_journal_that_hides_what_it_could_not_write(make, monkeypatch):
    monkeypatch.setattr(Machine, "journal", Careless)
    assert sweep(make, "cut off", "good", "write")[1]


# -- disks that are really full or cannot be written ------------------------------------------------------------------


@contextmanager
def limited(path, more):
    """Let no file of this process grow beyond *more* bytes past what the log of *path* has now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = path.with_name(f"{path.name}-wal")
    resource.setrlimit(resource.RLIMIT_FSIZE, ((log.stat().st_size if log.exists() else 0) + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def mounted(folder, *options):
    """Have a file system in memory on a folder."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        assert re.search("permi|superuser", done.stderr), done.stderr
        pytest.skip(f"who runs this must not mount, so that the kernel's answers below have to do: {done.stderr}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(file):
    """Write until the disk is full."""
    while file.write(b"x" * 512):
        pass


def interrupted(path, effects):
    """Have a run whose process was cut off in its second step; return the runtime that goes on."""
    Stage.happened, Stage.cut = effects.append, "hotel"
    journal = SqliteJournal(path)
    with pytest.raises(Cut):
        play(sagadsl.Runtime(store=journal), "good")
    return sagadsl.Runtime(store=journal, sleep=lambda _: None)


@pytest.mark.parametrize("more", [0, 100, 5000, 9000, 20000])
def test_a_limit_on_the_size_of_files_stops_a_run_and_nothing_else(more, tmp_path):
    """An I/O error to SQLite. Nothing is compensated, what was recorded stays, and without the limit it goes on."""
    path, effects = tmp_path / "sagas.db", []
    runtime = interrupted(path, effects)
    with limited(path, more), pytest.raises(JournalError, match="limit on the file's size refused; see to it"):
        play(runtime, "good")
    assert not any(effect.startswith("-") for effect in effects)
    assert play(runtime, "good") == 4
    assert list(dict.fromkeys(effects)) == ["flight", "hotel", "car", "lunch"]
    assert len(effects) <= 6  # entered twice: what was cut off, and what could not be recorded


def test_a_full_file_system_stops_a_run_and_with_space_it_goes_on(tmp_path):
    """A real one, of 512 KiB, full to the last byte; deleting something is all it takes."""
    with mounted(tmp_path / "small", "size=512k") as folder:
        effects = []
        runtime = interrupted(folder / "sagas.db", effects)
        ballast = folder / "ballast"
        with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            fill(file)
        with pytest.raises(JournalError, match="free some space, then run the program again") as told:
            play(runtime, "good")
        assert told.value.exit_code == 5
        assert effects == ["flight", "hotel"]  # no record, no progress
        assert runtime.find("good").is_interrupted  # and it can be looked at
        ballast.unlink()
        assert play(runtime, "good") == 4
        assert effects == ["flight", "hotel", "hotel", "car", "lunch"]
        runtime.journal().close()


def test_a_full_file_system_has_no_room_for_a_new_journal(tmp_path):
    """The saga is not entered; with space it runs."""
    with mounted(tmp_path / "small", "size=16k") as folder:
        effects = []
        Stage.happened, Stage.cut = effects.append, None
        runtime = sagadsl.Runtime(store=folder / "sagas.db", sleep=lambda _: None)
        with pytest.raises(JournalError, match=r"free some space|see to it"):
            play(runtime, "good")
        assert effects == []
        subprocess.run(["mount", "-o", "remount,size=1m", str(folder)], check=True)
        assert play(runtime, "good") == 4
        runtime.journal().close()


def test_on_a_read_only_file_system_runs_are_seen_and_not_run(tmp_path):
    """Whoever runs them is told what to do."""
    effects = []
    with mounted(tmp_path / "disk", "size=1m") as folder:
        runtime = interrupted(folder / "sagas.db", effects)
        runtime.journal().close()
        fixed = tmp_path / "fixed"
        fixed.mkdir()
        subprocess.run(["mount", "--bind", str(folder), str(fixed)], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", str(fixed)], check=True)
            for name in ("sagas.db", "new.db"):
                with pytest.raises(JournalError, match="writable") as told:
                    play(sagadsl.Runtime(store=fixed / name), "good")
                assert told.value.exit_code == 5
            assert effects == ["flight", "hotel"]
            assert sagadsl.Runtime(fixed / "sagas.db", read_only=True).find("good").status == "open"
        finally:
            subprocess.run(["umount", "-l", str(fixed)], check=True)
        assert play(runtime, "good") == 4
        runtime.journal().close()


# -- a kernel that says so --------------------------------------------------------------------------------------------

PROGRAM = """
import sys
import sagadsl
from crash.workload import Stage, play
Stage.happened = lambda effect: print(effect, flush=True)
try:
    print(play(sagadsl.Runtime("sagas.db"), "good"))
except sagadsl.JournalError as error:
    sys.exit(str(error))
"""


def told(folder, call, error):
    """Run the program where the kernel answers so to a system call about the journal's files."""
    files = [f"--trace-path={folder / name}" for name in ("sagas.db", "sagas.db-wal", "sagas.db-journal")]
    asked = ["strace", "-f", "-o", "calls", *files, f"--trace={call}", f"--inject={call}:error={error}"]
    ended = program(folder, *asked)
    assert "(INJECTED)" in (folder / "calls").read_text()
    assert ended.returncode == 1, ended
    return ended


def program(folder, *before):
    """Run the program in a process of its own."""
    (folder / "program.py").write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}
    command = [*before, sys.executable, "program.py"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("write", [1, 5, 10, 20, 30])
def test_a_kernel_without_space_stops_a_run_and_with_space_it_goes_on(tmp_path, write):
    """From some write on, the first of a new journal or a later one; nothing is compensated."""
    full = told(tmp_path, "pwrite64", f"ENOSPC:when={write}+")
    assert "free some space, then run the program again" in full.stderr
    on = program(tmp_path)
    effects = [*full.stdout.splitlines(), *on.stdout.splitlines()]
    assert (list(dict.fromkeys(effects)), len(effects) <= 6) == (["flight", "hotel", "car", "lunch", "4"], True)


def test_on_a_file_system_that_the_kernel_calls_read_only_no_journal_is_made(tmp_path):
    """Nothing is entered before it is known where that is to be recorded."""
    fixed = told(tmp_path, "openat", "EROFS")
    assert (fixed.stdout, "(Read-only file system): name another, in a writable folder" in fixed.stderr) == ("", True)
    assert program(tmp_path).stdout.splitlines()[-1] == "4"
