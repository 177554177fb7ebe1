"""What may be forgotten and what never is, whoever writes at the same time and wherever the process dies."""

import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

import pytest

import sagadsl
from sagadsl import Compensation, RunConflictError, Runtime, UsageError, saga, step
from sagadsl._core.journal.sqlite import SqliteJournal
from sagadsl._core.upkeep import pruning

GOLDEN = Path(__file__).parent / "crash" / "golden" / "version-1.db"


def undo(how, payload):
    if how == "stuck":
        raise ConnectionError("no answer")


@step(compensate=Compensation(undo, retries=0))
def act(how: str, payload: str) -> str:
    return payload


@step(compensate=None)
def end(how: str) -> None:
    if how in {"failed", "paused", "stuck"}:
        raise ValueError(how)
    if how == "cut":
        raise KeyboardInterrupt


@saga
def flow(how: str, payload: str = "") -> str:
    act(how, payload)
    end(how)
    return how


def play(runtime, how, key, payload=""):
    """Run a saga that ends in some way."""
    pause = {"on_failure": "pause"} if how == "paused" else {}
    with suppress(KeyboardInterrupt):
        flow.using(runtime=runtime, key=key, **pause).outcome(how, payload)


def keys(runtime):
    return [run.id.removeprefix("flow/") for run in reversed(runtime.runs())]


@pytest.fixture(params=["file", "memory"])
def either(request, make_runtime):
    return make_runtime() if request.param == "file" else make_runtime(store=":memory:")


# -- what goes --------------------------------------------------------------------------------------------------------


def test_what_ended_long_enough_ago_goes(either, clock):
    for key in "abc":
        play(either, "good", key)
        clock.sleep(60)
    assert either.prune(older_than=90) == ("flow/a", "flow/b")
    assert keys(either) == ["c"]
    assert either.prune(older_than=timedelta(hours=1)) == ()
    assert either.prune(older_than=0) == ("flow/c",)
    assert keys(either) == []


def test_all_but_the_newest_go(either):
    for key in "abcd":
        play(either, "good", key)
    assert either.prune(keep=3) == ("flow/a",)
    assert either.prune(keep=3) == ()
    assert either.prune(keep=0) == ("flow/b", "flow/c", "flow/d")


def test_a_status_chooses_and_what_one_limit_keeps_stays(either, clock):
    for key, how in {"a": "failed", "b": "good", "c": "failed", "d": "good"}.items():
        play(either, how, key)
        clock.sleep(60)
    assert either.prune(status="compensated", keep=1) == ("flow/a",)
    assert either.prune(status="completed", older_than=30, keep=1) == ("flow/b",)
    assert keys(either) == ["c", "d"]


def test_a_dry_run_says_the_same_and_does_nothing(either):
    for key in "ab":
        play(either, "good", key)
    assert either.prune(keep=1, dry_run=True) == ("flow/a",)
    assert keys(either) == ["a", "b"]


def test_what_is_not_over_never_goes(either):
    """Interrupted, paused, with a compensation that failed: however old, however many."""
    for how in ("cut", "paused", "stuck", "good", "failed"):
        play(either, how, how)
    assert either.prune(older_than=0) == ("flow/good", "flow/failed")
    assert [(run.id, run.status) for run in reversed(either.runs())] == [
        ("flow/cut", "open"),
        ("flow/paused", "paused"),
        ("flow/stuck", "compensation_failed"),
    ]


def test_what_a_living_process_has_stays(make_runtime):
    """It may be about to compensate a run that is completed."""
    runtime = make_runtime()
    for key in "ab":
        play(runtime, "good", key)
    owner = make_runtime().journal()
    first, _ = owner.runs()
    assert owner.hold(first.lock)
    assert runtime.prune(older_than=0) == ("flow/b",)
    owner.release(first.lock)
    assert runtime.prune(older_than=0) == ("flow/a",)


def test_a_run_that_was_taken_up_again_since_it_was_chosen_stays(make_runtime, monkeypatch):
    """Whether it has ended is asked again in the transaction that removes it."""
    runtime = make_runtime()
    play(runtime, "good", "a")
    journal = runtime.journal()
    reopened = []

    def late(rows, *given):
        journal._read("update run set finished = null", ())
        reopened.append(rows)
        return given[0]

    monkeypatch.setattr(pruning, "with_earlier", late)
    assert runtime.prune(older_than=0) == ()
    assert reopened
    assert keys(runtime) == ["a"]


def test_earlier_generations_go_with_a_run(either):
    """Alone they would say that what was done in the end was compensated."""
    runs = flow.using(runtime=either, key="k")
    for _ in range(2):
        with pytest.raises(ValueError, match="failed"):
            runs("failed")
    play(either, "good", "other")
    assert [run.generation for run in either.runs(saga="flow") if run.id == "flow/k"] == [2, 1]
    assert either.prune(status="compensated", keep=0) == ("flow/k", "flow/k")
    assert keys(either) == ["other"]


def test_a_key_that_was_pruned_is_a_new_one(either):
    play(either, "good", "a", "first")
    (listed,) = either.runs()
    either.prune(older_than=0)
    with pytest.raises(RunConflictError, match="was pruned a moment ago: a call of it is a new run"):
        listed.steps  # noqa: B018  # it was not read when it was listed
    play(either, "good", "a", "second")
    (run,) = either.runs()
    assert (run.generation, run.arguments["payload"]) == (1, "second")


def test_the_place_of_a_run_that_was_pruned_is_not_given_again(either):
    """Its lock, and who still has its number, must never mean another run."""
    for key in "ab":
        play(either, "good", key)
    either.prune(older_than=0)
    play(either, "good", "c")
    assert [row.number for row in either.journal().runs()] == [3]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "older_than= .* keep= .* or both"),
        ({"status": "paused", "keep": 1}, "only runs that are completed or compensated can be pruned, not 'paused'"),
        ({"keep": -1}, "say how many of the newest"),
        *(
            ({"older_than": age}, "seconds or a timedelta, none below 0, .* not")
            for age in (-5, "30d", float("nan"), 1e99)
        ),
    ],
)
def test_what_would_be_a_slip_is_refused(either, asked, told):
    play(either, "good", "a")
    with pytest.raises(UsageError, match=told):
        either.prune(**asked)
    assert keys(either) == ["a"]


# -- the file ---------------------------------------------------------------------------------------------------------


def whole(path):
    """Return how many runs a file has, after seeing that each of them is whole and nothing else is there."""
    with closing(sqlite3.connect(path)) as shell:
        assert shell.execute("pragma integrity_check").fetchall() == [("ok",)]
        orphans = "select number from entries union select number from letters except select number from run"
        assert shell.execute(orphans).fetchall() == []
    runtime = Runtime(path, read_only=True)
    runs = runtime.runs()
    assert [len(run.steps) for run in runs] == [2] * len(runs)
    runtime.journal().close()
    return len(runs)


def test_the_file_shrinks(make_runtime, tmp_path):
    runtime = make_runtime(durability="process")
    for number in range(60):
        play(runtime, "good", f"{number}", "x" * 20_000)
    path = tmp_path / "sagas.db"
    runtime.journal()._read("pragma wal_checkpoint(truncate)", ())
    before = path.stat().st_size
    assert len(runtime.prune(keep=6)) == 54
    assert path.stat().st_size < before / 5
    assert whole(path) == 6


def test_a_file_that_was_made_before_files_could_shrink_does_so_from_then_on(tmp_path):
    """It is rewritten once; its version, its schema and its runs stay as they are."""
    path = Path(shutil.copy(GOLDEN, tmp_path / "sagas.db"))
    runtime = Runtime(path)
    play(runtime, "good", "big", "x" * 500_000)
    assert runtime.prune(older_than=0) == ("completed", "compensated", "skipped", "flow/big")
    assert path.stat().st_size <= GOLDEN.stat().st_size
    with closing(sqlite3.connect(path)) as shell:
        assert shell.execute("pragma auto_vacuum").fetchone() == (2,)
    assert len(Runtime(path).runs()) == 6


class Mortal(sqlite3.Connection):
    """A connection whose process is killed when it has got so far."""

    left = 0

    def execute(self, *args):
        Mortal.left -= 1
        if not Mortal.left:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(*args)


def test_a_process_that_is_killed_while_it_prunes_has_removed_whole_runs(tmp_path, monkeypatch):
    """Before each of its statements in turn; the next one does the rest."""
    monkeypatch.setattr(pruning, "BATCH", 2)
    template = tmp_path / "template.db"
    runtime = Runtime(template, durability="process")
    for number in range(5):
        play(runtime, "good", f"{number}", "x" * 9000)
    play(runtime, "cut", "open")
    runtime.journal().close()
    left, ends = [], []
    while not ends or ends[-1]:
        path = Path(shutil.copy(template, tmp_path / f"{len(ends)}.db"))
        child = os.fork()
        if not child:
            Mortal.left = len(ends) + 1
            Runtime(SqliteJournal(path, connect=lambda *a, **k: sqlite3.connect(*a, factory=Mortal, **k))).prune(keep=1)
            os._exit(0)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        left.append(whole(path))
        Runtime(path).prune(keep=1)
        assert whole(path) == 2
    assert set(ends[:-1]) == {-signal.SIGKILL}
    assert (left[0], left[-1]) == (6, 2)
    assert set(left) == {6, 4, 2}


WRITER = """
import sys
from sagadsl import Runtime
sys.path.insert(0, {folder!r})
from test_pruning import flow
runtime = Runtime(sys.argv[1], durability="process")
for number in range(60):
    assert flow.using(runtime=runtime, key=sys.argv[2] + str(number))("good", "x" * 3000) == "good"
print("wrote")
"""


def test_who_writes_at_the_same_time_is_not_disturbed(tmp_path):
    path = tmp_path / "sagas.db"
    program = WRITER.format(folder=str(Path(__file__).parent))
    command = [sys.executable, "-c", program, str(path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    writers = [subprocess.Popen([*command, name], env=environment, stdout=subprocess.PIPE) for name in "ab"]
    runtime, pruned, rounds = Runtime(path), 0, 0
    while any(writer.poll() is None for writer in writers):
        pruned += len(runtime.prune(keep=3))
        rounds += 1
    assert [writer.communicate()[0] for writer in writers] == [b"wrote\n"] * 2
    assert rounds > 1
    runtime.prune(keep=3)
    assert pruned > 0
    assert whole(path) == 3


# -- what a process keeps by itself -----------------------------------------------------------------------------------


def settled():
    """Wait until nothing is being pruned in the background."""
    for thread in threading.enumerate():
        if thread.name == "sagadsl keep":
            thread.join()


def test_a_process_keeps_what_it_is_told_to_keep(either, clock):
    """It looks at the end of a run, at most once a minute."""
    either.configure(keep=2)
    for key in "abcd":
        play(either, "good", key)
        settled()
    assert keys(either) == ["a", "b", "c", "d"]
    clock.sleep(60)
    with pytest.raises(UsageError):
        either.configure(keep=-1)  # which changes nothing
    play(either, "good", "e")
    settled()
    assert keys(either) == ["d", "e"]
    either.configure(keep=None)
    clock.sleep(60)
    play(either, "good", "f")
    settled()
    assert keys(either) == ["d", "e", "f"]


def test_each_status_can_be_kept_in_its_own_way(make_runtime, clock):
    runtime = make_runtime(keep={"completed": timedelta(seconds=30), "compensated": 1})
    for key, how in {"a": "good", "b": "failed", "c": "failed", "d": "stuck"}.items():
        play(runtime, how, key)
        settled()
    clock.sleep(61)
    play(runtime, "good", "e")
    settled()
    assert keys(runtime) == ["c", "d", "e"]


def test_a_store_that_cannot_be_pruned_disturbs_nobody(make_runtime, caplog):
    runtime = make_runtime(keep=0)
    journal = runtime.journal()
    journal.again = lambda: SqliteJournal(Path(__file__))
    with caplog.at_level(logging.WARNING):
        play(runtime, "good", "a")
        settled()
    assert keys(runtime) == ["a"]
    assert "old runs were not pruned: " in caplog.text
    assert "this file is no SQLite database" in caplog.text


def test_a_program_that_ends_begins_nothing_more(either, monkeypatch):
    """Python starts no thread then."""

    def refuse(_):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    either.configure(keep=0)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    play(either, "good", "a")
    assert keys(either) == ["a"]


def test_a_script_prunes_before_it_ends(tmp_path):
    """What it began in the background is waited for."""
    program = WRITER.partition("runtime =")[0].format(folder=str(Path(__file__).parent))
    program += 'flow.using(runtime=Runtime(sys.argv[1], keep=1), key=sys.argv[2])("good")'
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for key in "abc":
        command = [sys.executable, "-c", program, str(tmp_path / "sagas.db"), key]
        assert subprocess.run(command, env=environment, capture_output=True, check=True).stderr == b""
    assert keys(Runtime(tmp_path / "sagas.db")) == ["c"]


@pytest.mark.parametrize("keep", [-1, True, "all", timedelta(-1), {"paused": 3}, {"completed": None}, [3]])
def test_what_cannot_be_kept_is_refused_when_it_is_said(keep):
    with pytest.raises(UsageError):
        Runtime(":memory:", keep=keep)
    with pytest.raises(UsageError):
        sagadsl.configure(keep=keep)
