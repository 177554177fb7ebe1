"""Owners, crowds and signals across real processes: who may run a run, and that none is lost among many."""

import fcntl
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

import sagadsl
from tests.crash.owners import counting

ROOT = Path(sagadsl.__file__).parents[1]
IS_WHOLE = os.environ.get("SAGADSL_SWEEP") == "all"
KILLED = -signal.SIGKILL


@pytest.fixture
def gate(tmp_path):
    """Give the gate that a step of the program comes to: whoever lets go of it opens it."""
    with (tmp_path / "gate").open("w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        yield gate


def go(gate):
    """Let everybody pass."""
    fcntl.flock(gate, fcntl.LOCK_UN)


@pytest.fixture
def start(tmp_path, gate):
    """Start the program in a folder; whatever of it still lives at the end is killed. *told* is what it tells by."""
    started = []

    def start(*command, **environment):
        variables = {k: v for k, v in os.environ.items() if k != "SAGADSL_DB"}
        told, telling = os.pipe()
        os.set_blocking(telling, False)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "pass_fds": (telling,)}
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("owners.py")), *map(str, command)],
            cwd=tmp_path,
            env=variables | {"PYTHONPATH": str(ROOT), "TOLD": str(telling)} | environment,
            **pipes,
        )
        os.close(telling)
        process.told = told
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
        os.close(process.told)


def world(folder):
    path = folder / "world"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def came(condition, process):
    """Wait for what another process does, which tells of it; return whether it came before that process had ended."""
    while not condition():
        if not os.read(process.told, 1000):
            return condition()
    return True


def until(condition, process):
    """Wait for what another process does."""
    assert came(condition, process), process.communicate()


def rows(folder, sql):
    with closing(sqlite3.connect(folder / "sagas.db")) as database:
        return database.execute(sql).fetchall()


def ended(process):
    """Return how a process ended, and what it printed."""
    out, told = process.communicate(timeout=60)
    return process.returncode, out.strip(), told


# -- owners -----------------------------------------------------------------------------------------------------------


def test_a_second_process_is_told_who_has_the_run(start, gate, tmp_path):
    """Host, process and since when; the owner is not disturbed."""
    owner = start("owned")
    until(lambda: "+second a" in world(tmp_path), owner)
    code, out, _ = ended(start("owned"))
    said, host, pid, since = out.split()
    assert (code, said, host, int(pid)) == (4, "locked", socket.gethostname(), owner.pid)
    assert since.startswith("20")
    go(gate)
    assert ended(owner)[:2] == (0, "done")
    assert world(tmp_path) == ["+first", "+second a"]


def test_who_goes_on_with_a_killed_ones_run_is_the_owner_that_is_told(start, gate, tmp_path):
    """Before it has come to a step: whoever is sent after a dead process would take the run from a living one."""
    owner = start("computing")
    until(lambda: "computes" in world(tmp_path), owner)
    owner.kill()
    owner.wait()
    next_one = start("computing")
    until(lambda: world(tmp_path).count("computes") == 2, next_one)
    code, out, _ = ended(start("computing"))
    assert (code, int(out.split()[2])) == (4, next_one.pid)
    assert f"process {next_one.pid} " in str(sagadsl.Runtime(tmp_path / "sagas.db").find("computing/k").owner)
    go(gate)
    assert ended(next_one)[:2] == (0, "done")
    assert world(tmp_path) == ["+first", "computes", "computes"]


def test_the_next_owner_gets_a_killed_ones_run_at_once(start, gate, tmp_path):
    """The kernel lets go of the lock with the process: nobody waits for a lease to lapse."""
    owner = start("owned")
    until(lambda: "+second a" in world(tmp_path), owner)
    runtime = sagadsl.Runtime(tmp_path / "sagas.db")
    assert runtime.runs()[0].is_live
    owner.kill()
    owner.wait()
    assert not runtime.runs()[0].is_live
    go(gate)
    assert ended(start("owned"))[:2] == (0, "done")
    assert world(tmp_path) == ["+first", "+second a", "+second a"]


def test_a_stopped_owner_is_robbed_by_force_alone_and_halts_when_it_wakes(start, gate, tmp_path):
    """As with the lid of a laptop: it writes nothing more."""
    owner = start("owned")
    until(lambda: "+second a" in world(tmp_path), owner)
    owner.send_signal(signal.SIGSTOP)
    assert ended(start("owned"))[0] == 4
    assert world(tmp_path) == ["+first", "+second a"]
    thief = start("owned", STEAL="1")
    until(lambda: world(tmp_path).count("+second a") == 2, thief)
    owner.send_signal(signal.SIGCONT)
    go(gate)
    assert ended(thief)[:2] == (0, "done")
    assert ended(owner)[:2] == (4, "lost")
    assert rows(tmp_path, "select status from runs") == [("completed",)]
    assert rows(tmp_path, "select step from entries where kind = 'done' order by seq") == [("first",), ("second",)]


def test_a_request_to_cancel_reaches_an_owner_in_another_process(start, gate, tmp_path):
    """At its next boundary, here where it would complete; and whoever opens the run next, once its owner is killed."""
    owner = start("owned")
    until(lambda: "+second a" in world(tmp_path), owner)
    asked = sagadsl.Runtime(tmp_path / "sagas.db").find("owned/k").cancel()
    assert (asked.is_live, asked.cancel_requested) == (True, True)
    go(gate)
    code, _, told = ended(owner)
    assert (code, "RunCancelledError: run owned/k was cancelled by process" in told) == (1, True)
    assert world(tmp_path) == ["+first", "+second a", "-first"]


def test_a_request_to_cancel_outlives_a_killed_owner(start, tmp_path):
    """What was cut off is not entered again."""
    owner = start("owned")
    until(lambda: "+second a" in world(tmp_path), owner)
    sagadsl.Runtime(tmp_path / "sagas.db").find("owned/k").cancel()
    owner.kill()
    owner.wait()
    assert "was cancelled by process" in ended(start("owned"))[2]
    assert world(tmp_path) == ["+first", "+second a", "-first"]
    assert rows(tmp_path, "select status, cause, cancel_requested from runs") == [("compensated", "cancel", 0)]


def test_a_forked_child_does_not_keep_the_run(tmp_path):
    """A worker that outlives its parent has not inherited what the parent owned."""
    source = """
import os, sys
import sagadsl
from pathlib import Path
sagadsl.configure(store="sagas.db")

@sagadsl.step(compensate=None)
def work():
    if not Path("second").exists():
        forked, telling = os.pipe()
        if not os.fork():
            os.write(telling, b".")
            sys.stdin.read()  # until the test ends it
            os._exit(0)
        os.read(forked, 1)
        os.kill(os.getpid(), 9)
    return "done"

@sagadsl.saga(key="k")
def parent():
    return work()

print(parent())
"""
    (tmp_path / "program.py").write_text(source)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = {"cwd": tmp_path, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    first = subprocess.Popen([sys.executable, "program.py"], stdin=subprocess.PIPE, **command)
    assert first.wait(60) == KILLED
    (tmp_path / "second").touch()
    assert subprocess.run([sys.executable, "program.py"], check=True, **command).stdout == b"done\n"
    first.communicate()  # whose child has waited all the while


# -- crowds -----------------------------------------------------------------------------------------------------------


def test_many_processes_on_one_file_lose_nothing(start, tmp_path):
    """Without an error of a lock reaching anybody."""
    processes, runs, steps = (8, 8, 500) if IS_WHOLE else (4, 3, 40)
    started = [start("count", process, runs, steps) for process in range(processes)]
    assert [ended(process)[:2] for process in started] == [(0, "done")] * processes
    assert rows(tmp_path, "select count(*), count(distinct number) from entries where kind = 'done'") == [
        (processes * runs * steps, processes * runs)
    ]
    assert rows(tmp_path, "select status, count(*) from runs group by status") == [("completed", processes * runs)]
    assert rows(tmp_path, "pragma integrity_check") == [("ok",)]


def test_a_foreign_writer_that_holds_the_file_too_long_costs_a_run_nothing(tmp_path, monkeypatch):
    """The step is not entered, the run stays open, and goes on when the file is free."""
    from sagadsl._core.journal import file as room

    monkeypatch.setattr(room, "PATIENCE", 0.05)
    runtime = sagadsl.Runtime(tmp_path / "sagas.db")
    assert counting.using(runtime=runtime)(0, 3) == 3
    with closing(sqlite3.connect(tmp_path / "sagas.db", isolation_level=None)) as foreign:
        foreign.execute("begin immediate")
        with pytest.raises(sagadsl.JournalError, match="another program held the file"):
            counting.using(runtime=runtime)(1, 3)
        foreign.execute("rollback")
    assert counting.using(runtime=runtime)(1, 3) == 3
    assert {str(run.status) for run in runtime.runs()} == {"completed"}


def test_a_crowd_of_which_one_is_killed_again_and_again_is_finished(start, tmp_path):
    """Threads with event loops, in processes that are killed; then everything that was left is gone on with."""
    processes, threads, runs, steps, kills = (3, 20, 10, 20, 8) if IS_WHOLE else (3, 4, 3, 15, 2)
    dice = random.Random(os.environ.get("SAGADSL_SWEEP", "crowd"))  # noqa: S311
    commands = [("crowd", process, threads, runs, steps) for process in range(processes)]
    started = {process: start(*commands[process]) for process in range(processes)}
    killed = 0
    for _ in range(kills):
        victim = dice.randrange(processes)
        seen = len(world(tmp_path))
        wanted = seen + dice.randrange(1, threads * runs * 2)
        came(lambda wanted=wanted: len(world(tmp_path)) >= wanted, started[victim])
        started[victim].kill()
        killed += ended(started[victim])[0] == KILLED
        started[victim] = start(*commands[victim])
    victim = started[0]
    until(lambda: any(line.startswith("0.") for line in world(tmp_path)), victim)
    victim.kill()
    killed += ended(victim)[0] == KILLED
    assert [ended(process)[0] for process in list(started.values())[1:]] == [0] * (processes - 1)
    assert killed
    code, _, told = ended(start("resume_all"))
    assert code == 0, told
    ended(start(*commands[0]))  # those that had not begun
    assert rows(tmp_path, "select status, count(*) from runs group by status") == [
        ("completed", processes * threads * runs)
    ]
    effects = Counter(world(tmp_path))
    assert len(effects) == processes * threads * runs * steps
    assert sum(effects.values()) - len(effects) <= (killed + 1) * threads * runs


# -- signals ----------------------------------------------------------------------------------------------------------

ENDED = {signal.SIGINT: -signal.SIGINT, signal.SIGTERM: 143}


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("number", list(ENDED))
@pytest.mark.parametrize("place", ["step", "back-off", "compensation"])
def test_a_signal_leaves_the_run_resumable_and_compensates_nothing(start, gate, tmp_path, number, place, times):
    """In a step, in a back-off, in a compensation; once, or twice at once."""
    verb, reached = {
        "step": ("owned", "+second a"),
        "back-off": ("backing_off", "+never"),
        "compensation": ("failing", "-first"),
    }[place]
    (tmp_path / "hold_compensation").touch()
    process = start(verb, TERM="1")
    until(lambda: reached in world(tmp_path), process)
    if place == "back-off":  # until it is on record that it waits
        until(lambda: ("retrying",) in rows(tmp_path, "select kind from entries order by seq desc limit 1"), process)
    for _ in range(times):
        process.send_signal(number)
    code, _, told = ended(process)
    is_heeded, is_said = code in {ENDED[number], 130}, "interrupted" in told
    assert is_heeded or (times == 2 and is_said), (code, told)  # the second came when Python had put its handlers away
    assert is_said or (times == 2 and is_heeded), (code, told)  # the second cut short what the first had it say
    before = world(tmp_path)
    assert before.count("-first") == (place == "compensation")
    (status,) = {status for (status,) in rows(tmp_path, "select status from runs")}
    assert status == ("compensating" if place == "compensation" else "open")
    go(gate)
    assert not sagadsl.Runtime(tmp_path / "sagas.db").runs()[0].is_live
    if place != "back-off":  # which waits on for an hour
        code, _, told = ended(start(verb))
        assert (code == 0) == (place == "step"), told
        assert rows(tmp_path, "select status from runs") == [("completed" if place == "step" else "compensated",)]
