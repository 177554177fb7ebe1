"""Each durability level syncs exactly where the contract says: counted on a disk that notes it, and in the kernel."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sagadsl
from crash.disk import Disk
from sagadsl._core.journal.sqlite import SqliteJournal
from sagadsl._core.settings import DURABILITY
from sagadsl._core.values import Kind

ROOT = Path(sagadsl.__file__).parents[1]
PER_STEP = {"process": [0, 0], "power": [1, 0], "power-strict": [1, 1]}
"""Syncs for an intent, and for its outcome."""


class Meter:
    """Runs on one warm file, and the syncs between any two moments of them, where *who* syncs the log."""

    def __init__(self, folder, who):
        self.disk, self.syncs, self.seen = Disk(), [], 0
        log_file = self.disk.log_file if who == "the journal" else None
        self.journal = SqliteJournal(folder / "sagas.db", connect=self.disk.connect, log_file=log_file)
        self.take()

    def take(self, entry=None):
        """Note how many syncs there were since the last time; the opening is in the commit of what follows it."""
        if entry is not None and entry.kind is Kind.OPENED:
            return
        self.syncs.append(self.disk.syncs(self.seen))
        self.seen = len(self.disk.operations)

    def run(self, level, body):
        self.take()
        self.syncs = []
        runtime = sagadsl.Runtime(store=self.journal, durability=level, observers=(self.take,), sleep=lambda _: None)
        sagadsl.saga(body, resume="never").using(runtime=runtime).outcome()
        return self.syncs


@pytest.fixture(params=["the journal", "SQLite"])
def meter(request, tmp_path):
    meter = Meter(tmp_path, request.param)
    meter.run("power", one_step)
    yield meter
    meter.journal.close()


@sagadsl.step(compensate=lambda: None)
def work(at: int) -> int:
    return at


@sagadsl.step(retries=1)
def stumble() -> None:
    if sagadsl.current().attempt == 1:
        raise TimeoutError


@sagadsl.step(read_only=True)
def look() -> int:
    return 1


def one_step() -> None:
    work(0)


@pytest.mark.parametrize("level", sorted(PER_STEP))
def test_a_step_costs_the_syncs_of_its_level(level, meter):
    """Between its record and the one before; the run's first and last records are always waited for."""

    def body() -> None:
        for at in range(5):
            work(at)

    intent, outcome = PER_STEP[level]
    assert meter.run(level, body) == [1, outcome, *[intent, outcome] * 4, 1]


def test_the_meter_catches_a_level_that_saves_its_syncs(meter, monkeypatch):
    """The mutant waits for no intent."""
    monkeypatch.setitem(DURABILITY, "power", DURABILITY["process"])

    def body() -> None:
        work(0)
        work(1)

    assert meter.run("power", body) == [1, 0, 0, 0, 1]


@pytest.mark.parametrize("level", sorted(PER_STEP))
def test_a_retry_is_an_outcome_and_another_intent(level, meter):
    def body() -> None:
        work(0)
        stumble()

    intent, outcome = PER_STEP[level]
    assert meter.run(level, body) == [1, outcome, intent, outcome, intent, outcome, 1]


@pytest.mark.parametrize("level", sorted(PER_STEP))
def test_a_step_that_only_looks_has_no_intent_to_wait_for(level, meter):
    def body() -> None:
        work(0)
        look()

    _, outcome = PER_STEP[level]
    assert meter.run(level, body) == [1, outcome, outcome, 1]


@pytest.mark.parametrize("level", sorted(PER_STEP))
def test_a_compensation_costs_what_a_step_costs(level, meter):
    """And its beginning and its end are waited for as little and as much as those of a run."""

    def body() -> None:
        work(0)
        work(1)
        raise LookupError

    intent, outcome = PER_STEP[level]
    steps = [1, outcome, intent, outcome]
    assert meter.run(level, body) == [*steps, outcome, *[intent, outcome] * 2, 1]


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_a_run_on_a_warm_file_costs_two_syncs_more_than_it_has_steps(steps, meter):
    """At most, with ``power``, which is the default."""

    def body() -> None:
        for at in range(steps):
            work(at)

    syncs = sum(meter.run("power", body))
    assert steps < syncs <= steps + 2


# -- in the kernel ----------------------------------------------------------------------------------------------------

SCRIPT = """
import os, sys
if sys.argv[2] == "SQLite":
    del os.fdatasync  # as on macOS
import sagadsl

def mark(what):
    try:
        os.stat(f"/marker-{what}")
    except FileNotFoundError:
        pass

@sagadsl.step
def work(at: int) -> int:
    mark("entered")
    return at

@sagadsl.saga
def trip(run: str) -> None:
    for at in range(4):
        work(at)
        mark("returned")

runtime = sagadsl.Runtime(store="sagas.db", durability=sys.argv[1])
for run in ("cold", "warm"):
    mark(run)
    trip.using(runtime=runtime, id=run)(run)
mark("end")
"""


def strace(folder, *command):
    """Return the calls of a Python program that tell: what was marked, what was synced."""
    calls = ["strace", "-f", "-y", "-o", "calls", "-e", "trace=fdatasync,fsync,stat,newfstatat,statx", sys.executable]
    subprocess.run([*calls, *command], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    return re.findall(r"/marker-(\w+)|((?:fdatasync|fsync)\(\d+<[^>]*)", (folder / "calls").read_text())


@pytest.mark.parametrize("who", ["the journal", "SQLite"])
@pytest.mark.parametrize("level", sorted(PER_STEP))
def test_the_kernel_sees_the_syncs_of_a_level(level, who, tmp_path):
    """With Python's own SQLite, where nothing stands between it and the disk; whoever syncs, as often and as early."""
    (tmp_path / "trip.py").write_text(SCRIPT)
    signs = {"": ".", "entered": "(", "returned": ")", "cold": "", "warm": "|", "end": "|"}
    seen = "".join(signs[mark] for mark, _ in strace(tmp_path, "trip.py", level, who))
    _, warm, _ = seen.split("|")
    intent, outcome = ("." * count for count in PER_STEP[level])
    assert warm == f".({outcome})" + f"{intent}({outcome})" * 3 + "."
