"""The process's settings, a runtime of one's own, what is listed, who is told."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

import sagadsl
from sagadsl import RunConflictError, Runtime, UsageError, saga, step


@step(compensate=None)
def act(name: str) -> str:
    """Act."""
    return name


@saga
def flow(name: str) -> str:
    """Act in a saga."""
    return act(name)


def test_a_runtime_in_memory_keeps_runs_as_long_as_it_lives():
    """For tests, and for sagas that need only compensation."""
    runtime = Runtime(":memory:")
    assert flow.using(runtime=runtime, key="k")("a") == "a"
    assert [run.id for run in runtime.runs()] == ["flow/k"]
    assert Runtime(":memory:").runs() == []


def test_a_store_is_named_by_call_by_saga_or_by_runtime(tmp_path):
    """The nearest wins; paths are absolute at first use."""

    @saga(store=tmp_path / "saga.db", key="k")
    def mine() -> None:
        act("a")

    runtime = Runtime(tmp_path / "runtime.db")
    mine.using(runtime=runtime)()
    mine.using(runtime=runtime, store=str(tmp_path / "call.db"))()
    flow.using(runtime=runtime, key="k")("a")
    assert [run.saga for run in runtime.runs()] == ["flow"]
    assert sorted(p.name for p in tmp_path.glob("*.db")) == ["call.db", "runtime.db", "saga.db"]


def test_a_program_that_only_looks_leaves_no_trace(tmp_path):
    """No file is made by asking."""
    runtime = Runtime(tmp_path / "sagas.db")
    assert runtime.runs() == []
    with pytest.raises(RunConflictError, match="is not in"):
        runtime.find("x")
    assert list(tmp_path.iterdir()) == []


def test_runs_are_listed_newest_first_and_filtered(make_runtime, clock):
    """By saga, by status, by time."""
    runtime = make_runtime()

    @saga(name="other")
    def other() -> None:
        raise ValueError("no")

    flow.using(runtime=runtime)("a")
    clock.sleep(60)
    with pytest.raises(ValueError, match="no"):
        other.using(runtime=runtime)()
    first, second = reversed(runtime.runs())
    assert (first.saga, second.saga) == ("flow", "other")
    assert runtime.runs(saga="flow") == [first]
    assert runtime.runs(status="compensated") == [second]
    assert runtime.runs(since=first.started + timedelta(seconds=1)) == [second]
    assert second.started - first.started >= timedelta(seconds=60)
    assert first.ended is not None
    assert (first.arguments, first.result, first.parent) == ({"name": "a"}, "a", None)


def test_a_beginning_of_an_id_must_be_unique(make_runtime):
    """The message lists what it could be."""
    runtime = make_runtime()
    for key in ("ab", "ac"):
        flow.using(runtime=runtime, key=key)(key)
    assert runtime.find("flow/ab").result == "ab"
    with pytest.raises(RunConflictError, match="beginning of several: flow/ab, flow/ac"):
        runtime.find("flow/a")


def test_observers_see_each_entry_after_it_is_durable_and_change_nothing(make_runtime, colour):
    """One that raises is logged, and the run goes on."""
    seen = []

    def observe(entry):
        runs = make_runtime().runs()
        seen.append((str(entry.kind), entry.seq, len(runs)))
        raise RuntimeError("observer")

    @colour.step(compensate=None)
    def look() -> None:
        """Look."""

    @colour.saga
    def watched():
        yield look()

    colour.call(watched.using(runtime=make_runtime(observers=(observe,))))
    assert seen == [("intent", 2, 1), ("done", 3, 1), ("completed", 4, 1)]


def test_the_default_runtime_is_configured_for_the_process(tmp_path):
    """`configure()`, else SAGADSL_DB, else beside the main script, else the working directory."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    script = here / "script.py"
    script.write_text(
        "import os, sagadsl\n@sagadsl.step\ndef act(): ...\n@sagadsl.saga\ndef flow(): act()\n"
        "if os.environ.get('STORE'): sagadsl.configure(store=os.environ['STORE'])\nflow()\n"
    )
    variables = {k: v for k, v in os.environ.items() if k != "SAGADSL_DB"}
    variables["PYTHONPATH"] = str(Path(sagadsl.__file__).parents[1])

    def stores(*command: str, **environment: str) -> set[str]:
        subprocess.run([sys.executable, *command], cwd=there, env=variables | environment, check=True)
        found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.db")}
        for path in [*tmp_path.rglob("*.db*")]:
            path.unlink()
        return found

    assert stores(str(script)) == {"here/sagadsl.db"}
    assert stores("-c", f"import sys; sys.path.insert(0, {str(here)!r}); import script") == {"there/sagadsl.db"}
    assert stores(str(script), SAGADSL_DB=str(tmp_path / "named.db")) == {"named.db"}
    assert stores(str(script), SAGADSL_DB="x.db", STORE="chosen.db") == {"there/chosen.db"}


def test_a_run_whose_saga_is_not_imported_says_so(make_runtime):
    """Nothing stored is imported."""
    runtime = make_runtime()

    def scope():
        @saga(name="gone")
        def gone() -> None:
            act("a")

        gone.using(runtime=runtime, key="k")()

    scope()
    gc.collect()
    with pytest.raises(UsageError, match="this program has no saga named 'gone'; import the module"):
        runtime.find("gone/k").resume()


MAIN = """
import os, signal, sys
import sagadsl

@sagadsl.step(compensate=lambda: 1 / 0 if how == "stuck" else None)
def act(): ...

@sagadsl.saga(on_failure="pause" if sys.argv[1] == "pause" else None)
def flow(how):
    act()
    if how == "term":
        os.kill(os.getpid(), signal.SIGTERM)
    if how == "int":
        os.kill(os.getpid(), signal.SIGINT)
    if how == "usage":
        flow.using(nothing=1)
    if how != "well":
        raise ValueError(how)

@sagadsl.saga
async def aflow(how):
    act()

how = sys.argv[1]
if how == "store":
    sagadsl.configure(store="missing/sagas.db")
sagadsl.main(aflow if how == "async" else flow, how)
"""


@pytest.mark.parametrize(
    ("how", "code", "says"),
    [
        ("well", 0, "completed"),
        ("async", 0, "completed"),
        ("ill", 3, "failed with ValueError: ill; compensated act"),
        ("stuck", 6, "and compensating act with"),
        ("pause", 6, "is paused: ValueError: pause"),
        ("usage", 2, "has no option 'nothing'"),
        ("store", 5, "does not exist: create it"),
        ("int", 130, "interrupted"),
        ("term", 143, "interrupted"),
    ],
)
def test_main_ends_a_script_with_the_code_that_says_how_it_went(tmp_path, how, code, says):
    """The sentence is on stderr; stdout is the program's own."""
    script = tmp_path / "script.py"
    script.write_text(MAIN)
    variables = os.environ | {"PYTHONPATH": str(Path(sagadsl.__file__).parents[1])}
    command = [sys.executable, str(script), how]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False, timeout=60)
    assert says in done.stderr
    assert done.returncode == code
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
