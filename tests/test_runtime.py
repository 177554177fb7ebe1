"""The process's settings, a runtime of one's own, what is listed, who is told."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

import sagadsl
from sagadsl import RunConflictError, Runtime, UsageError, saga, step
from sagadsl._core.journal import Log, sqlite
from sagadsl._core.scope.slot import Slot
from sagadsl._core.values import Entry, Kind


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


def test_each_test_can_have_an_empty_store_in_memory():
    """What is done under a key is done, so the next test must not find it."""
    runtime = Runtime()
    for _ in range(2):
        runtime.configure(store=":memory:")
        assert flow.using(runtime=runtime, key="k")("a") == "a"
        runtime.configure(durability="process")
        assert [run.id for run in runtime.runs()] == ["flow/k"]


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


def test_what_no_run_can_be_is_refused_and_not_an_empty_list(make_runtime):
    """A slip in a status, a time without a zone."""
    runtime = make_runtime()
    flow.using(runtime=runtime)("a")
    with pytest.raises(UsageError, match=r"one of open, paused, .*, interrupted, not 'complete'"):
        runtime.runs(status="complete")
    with pytest.raises(UsageError, match="with a time zone"):
        runtime.runs(since=datetime(2026, 11, 22))  # noqa: DTZ001  # what is refused
    with pytest.raises(UsageError, match="with a time zone"):
        runtime.runs(since="yesterday")


def test_a_run_is_shown_on_one_line(make_runtime):
    """In a list, a notebook or a debugger; an error with its first line."""
    runtime = make_runtime()

    @saga
    def failing() -> None:
        act("a")
        raise ValueError("no\nreally")

    with pytest.raises(ValueError, match="no"):
        failing.using(runtime=runtime, id="b")()
    flow.using(runtime=runtime, id="a")("a")
    shown = "[<Run a: completed, 1 step>, <Run b: compensated, 1 step, ValueError: no>]"
    assert repr(runtime.runs()) == shown


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
    assert seen == [("opened", 1, 1), ("intent", 2, 1), ("done", 3, 1), ("completed", 4, 1)]


@pytest.mark.parametrize(
    "wrong", [{"durability": "disk"}, {"keep": -1}, {"observers": 5}, {"progress": "loud"}, {"stroe": "x"}]
)
def test_settings_of_which_one_is_refused_change_nothing(wrong):
    """Whatever came before the wrong one: runs would go to another file than the one that was settled."""
    runtime = Runtime(":memory:")
    journal = runtime.journal()
    with pytest.raises(UsageError):
        runtime.configure(store=None, resume="never", **wrong)
    assert (runtime.journal(), runtime.resume) == (journal, "arguments")
    with pytest.raises(UsageError):
        runtime.configure(store=":memory:", **wrong)
    assert runtime.journal() is journal


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


WANDERER = """
import os, sys, sagadsl
how, world = sys.argv[1:]

@sagadsl.step(compensate=None)
def pay():
    with open(world, "a") as file:
        print("pay", file=file)

@sagadsl.saga(key="k", store="jobs.db" if how == "saga" else None)
def bill():
    pay()

if how == "configure":
    sagadsl.configure(store="jobs.db")
for folder in ("elsewhere", ".."):
    (bill.using(store="jobs.db") if how == "call" else bill)()
    print([run.id for run in sagadsl.runs()])
    os.chdir(folder)
"""


@pytest.mark.parametrize("how", ["SAGADSL_DB", "configure", "saga", "call", "default"])
def test_a_relative_store_stays_where_it_was_first_meant(how, tmp_path, world):
    """However it is named: a program may change its working directory, and what was paid there is paid here."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "wanderer.py").write_text(WANDERER)
    variables = {k: v for k, v in os.environ.items() if k != "SAGADSL_DB"}
    variables |= {"SAGADSL_DB": "jobs.db"} if how == "SAGADSL_DB" else {}
    variables["PYTHONPATH"] = f"{Path(sagadsl.__file__).parents[1]}"
    command = [sys.executable, "-m", "wanderer", how, str(world.path)]
    subprocess.run(command, cwd=tmp_path, env=variables, check=True, capture_output=True)
    assert world == ["pay"]
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.db")] == [
        "sagadsl.db" if how == "default" else "jobs.db"
    ]


def test_one_file_has_one_journal_by_whatever_name(tmp_path, monkeypatch):
    """Where a path leads is settled when it is first used, or when a runtime is told it."""
    monkeypatch.chdir(tmp_path)
    runtime = Runtime("a.db")
    journal = runtime.journal()
    assert journal is runtime.journal("a.db") is runtime.journal(tmp_path / "a.db")
    monkeypatch.chdir("/")
    assert journal is runtime.journal() is runtime.journal("a.db")
    runtime.configure(store="a.db")
    assert runtime.journal().name == "/a.db"


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
    with pytest.raises(
        UsageError, match=r"this program has no saga named 'gone' in a module 'test_runtime'; import that"
    ):
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
        ("stuck", 6, "the compensation of act failed with"),
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


# -- what is in the file ----------------------------------------------------------------------------------------------


class Cut(BaseException):
    """A process that dies, as far as a body can tell."""


@step(compensate=lambda name: None, name="undoable")
def undoable(name: str) -> str:
    """Act, and be cut off."""
    if name == "cut" and sagadsl.current().attempt == 1:
        raise Cut
    return name


def left(runtime, name, key):
    """Leave an interrupted run whose saga no program has any more."""

    def scope():
        @saga(name=name)
        def gone() -> None:
            undoable("a")
            undoable("cut")

        with pytest.raises(Cut):
            gone.using(runtime=runtime, key=key)()

    scope()
    gc.collect()


def test_a_run_without_its_saga_is_compensated_by_the_names_of_its_steps(make_runtime):
    """Module-level functions are found; what is not there is refused before anything is written."""
    runtime = make_runtime()
    left(runtime, "vanished", "k")
    run = runtime.find("vanished/k")
    registered = sagadsl._core.registry.registry.steps
    spec = registered.pop(("test_runtime", "undoable"))
    entries = len(runtime.journal().entries(1))
    with pytest.raises(UsageError, match="step undoable of module test_runtime, compensated by <lambda>, is not to be"):
        run.compensate()
    assert len(runtime.journal().entries(1)) == entries
    registered["test_runtime", "undoable"] = spec
    assert run.compensate().status == "compensated"
    assert run.compensate().status == "compensated"
    assert runtime.find("vanished/k").cause == "request"


def test_a_compensation_by_name_that_fails_says_so(make_runtime):
    """As one with a body does."""
    runtime = make_runtime()
    left(runtime, "vanished", "k")
    registered = sagadsl._core.registry.registry.steps
    kept = registered["test_runtime", "undoable"]

    def fails(name: str) -> float:
        return 1 / 0

    fails.__qualname__ = "<lambda>"
    broken = undoable.using(compensate=sagadsl.Compensation(fails, retries=0))
    registered["test_runtime", "undoable"] = broken._self_spec
    try:
        with pytest.raises(sagadsl.CompensationError, match="ZeroDivisionError"):
            runtime.find("vanished/k").compensate()
    finally:
        registered["test_runtime", "undoable"] = kept


def test_a_run_of_another_saga_is_not_gone_on_with(make_runtime):
    """Its id is not enough."""
    runtime = make_runtime()
    flow.using(runtime=runtime, key="k")("a")

    @saga
    def other(name: str) -> None:
        act(name)

    with pytest.raises(RunConflictError, match="is a run of flow, not of other"):
        other.using(runtime=runtime).resume("flow/k")


def test_a_live_run_is_not_compensated_by_somebody_else(make_runtime):
    """Its owner is named."""
    runtime = make_runtime()

    @step(compensate=None)
    def look() -> str:
        with pytest.raises(sagadsl.RunLockedError) as caught:
            make_runtime().find("busy/k").compensate()
        return str(caught.value)

    @saga(name="busy", key="k")
    def busy() -> str:
        return look()

    assert f"process {os.getpid()}" in busy.using(runtime=runtime)()


def test_a_damaged_run_does_not_hide_the_others(make_runtime, caplog):
    """What a list would show of it is not to be had: it is left out with a warning, and refused when asked for."""
    runtime = make_runtime()
    for key in "abc":
        flow.using(runtime=runtime, key=key)(key)
    journal = runtime.journal()
    journal._read("update run set outline = null where number < 3", ())
    journal._read("update entries set result = '[' where number = 1 and seq = 1", ())
    journal._read("update entries set kind = 'odd' where number = 2 and kind = 'completed'", ())
    assert [run.id for run in runtime.runs()] == ["flow/c"]
    assert "flow/a is left out" in caplog.text
    assert "flow/b is left out" in caplog.text
    kept = [each for record in caplog.records for each in record.args or ()]
    assert not any(isinstance(each, BaseException) for each in kept)  # whose frames hold the journal's files
    with pytest.raises(sagadsl.JournalError, match="damaged"):
        runtime.find("flow/a")


FORGED = [
    "{}",
    "7",
    "[",
    '{"seq":"2","begun":1,"done":1,"status":"completed","started":1}',
    '{"seq":2,"begun":1,"done":"\x1b[2J","status":"completed","started":1}',
    '{"seq":2,"begun":1,"done":1,"status":"bomb","started":1}',
    '{"seq":2,"begun":1,"done":1,"status":"completed","started":9e99}',
    '{"seq":2,"begun":1,"done":1,"status":"completed","started":1,"owner":[]}',
    '{"seq":2,"begun":1,"done":1,"status":"completed","started":1,"fault":{}}',
    '{"seq":2,"begun":1,"done":1,"status":"completed","started":1,"more":1}',
]


@pytest.mark.parametrize("text", FORGED)
def test_an_outline_that_was_never_written_hides_no_other_run(text, make_runtime, caplog):
    """Though it bears a digest that fits."""
    runtime = make_runtime()
    for key in "ab":
        flow.using(runtime=runtime, key=key)(key)
    digest = sqlite._digest(None, text)
    runtime.journal()._read("update run set outline = ?, outline_digest = ? where number = 1", (text, digest))
    assert [run.id for run in runtime.runs()] == ["flow/b"]
    assert "flow/a is left out" in caplog.text
    assert "flow/b" in runtime.prune(keep=0, status="completed", dry_run=True)


def test_an_outline_that_is_not_what_was_written_is_read_from_the_entries(make_runtime):
    """Whoever edits the row by hand, or takes it away, changes nothing: not even what may be forgotten."""
    runtime = make_runtime()
    for key in "ab":
        flow.using(runtime=runtime, key=key)(key)
    before = runtime.runs()
    edit = "update run set outline = replace(outline, 'completed', 'compensated') where number = 1"
    runtime.journal()._read(edit, ())
    runtime.journal()._read("update run set outline = null where number = 2", ())
    assert runtime.runs() == before
    assert runtime.prune(keep=0, status="compensated", dry_run=True) == ()
    assert runtime.prune(keep=0, status="completed") == ("flow/a", "flow/b")


def test_a_damaged_payload_of_a_run_that_has_ended_is_refused_when_it_is_asked_for(make_runtime):
    """A list does not read it: what it says is right all the same."""
    runtime = make_runtime()
    flow.using(runtime=runtime, key="a")("a")
    runtime.journal()._read("update entries set arguments = '{}' where number = 1 and seq = 2", ())
    (run,) = runtime.runs()
    assert (run.status, run.steps_done, run.steps_total) == ("completed", 1, 1)
    with pytest.raises(sagadsl.JournalError, match="entry 2 of run number 1 is damaged: restore a backup"):
        run.steps  # noqa: B018
    assert run.status == "completed"


def test_a_run_whose_row_says_that_it_has_ended_goes_on_if_its_entries_do_not(make_runtime):
    """The entries are what counts."""
    runtime = make_runtime()
    attempts = []

    @step(compensate=None)
    def attempt() -> int:
        attempts.append(1)
        return 1 // (len(attempts) - 1)

    @saga(name="tried", on_failure="pause")
    def tried() -> int:
        return attempt()

    with pytest.raises(sagadsl.SuspendedError):
        tried.using(runtime=runtime, key="k")()
    runtime.journal()._read("update run set finished = 1", ())
    assert tried.using(runtime=runtime, key="k")() == 1
    assert [run.status for run in runtime.runs()] == ["completed"]


def test_a_listed_run_is_as_it_was_when_it_was_listed(make_runtime):
    """Whatever happens to it before more is asked for."""
    runtime = make_runtime()
    flow.using(runtime=runtime, key="k")("a")
    (listed,) = runtime.runs()
    row = runtime.journal().runs()[0]
    at = Log(row.number, len(runtime.journal().entries(row.number)))
    later = Entry(0, 0, Kind.COMPENSATING, 1, "", None, None, 1, None, None, None, '{"cause": "request"}')
    runtime.journal().commit(at, [later], full=False, finished=False)
    assert runtime.find("flow/k").status == "compensating"
    assert [step.status for step in listed.steps] == ["done"]
    assert (listed.status, listed.result) == ("completed", "a")
    assert not hasattr(listed, "nothing")


def test_a_list_can_be_cut_short(make_runtime):
    """The newest, of those that fit."""
    runtime = make_runtime()
    for key in "abcd":
        flow.using(runtime=runtime, key=key)(key)
    assert [run.id for run in runtime.runs(limit=2)] == ["flow/d", "flow/c"]
    assert [run.id for run in runtime.runs(status="completed", limit=1)] == ["flow/d"]
    assert runtime.runs(status="open", limit=1) == []


def test_a_damaged_run_is_not_resumed(make_runtime):
    """What its digest says comes out as it is."""
    runtime = make_runtime()
    flow.using(runtime=runtime, key="k")("a")
    runtime.journal()._read("update entries set arguments = '{}' where kind = 'opened'", ())
    with pytest.raises(sagadsl.JournalError, match="entry 1 of run number 1 is damaged: restore a backup"):
        flow.using(runtime=runtime).resume("flow/k")


WRONG = {
    "a definition": ("definition", "5", "is no definition of a step"),
    "a definition of odd words": ("definition", '{"module": 5}', "is no definition of a step"),
    "arguments": ("arguments", "[1]", "are no arguments"),
    "half of a fault": ("result", "{", "JSONDecodeError"),
}


@pytest.mark.parametrize("what", sorted(WRONG))
def test_a_record_that_somebody_else_wrote_is_refused(what, make_runtime):
    """With a digest that fits, it is no damage; it is not taken for a step all the same."""
    column, text, told = WRONG[what]
    runtime = make_runtime()
    flow.using(runtime=runtime, key="k")("a")
    journal = runtime.journal()
    journal._read(f"update entries set {column} = ? where kind in ('intent', 'done') and {column} is not null", (text,))  # noqa: S608
    for entry in journal._read("select number, seq, arguments, result from entries", ()):
        digest = sqlite._digest(*entry[2:])
        journal._read("update entries set digest = ? where number = ? and seq = ?", (digest, *entry[:2]))
    with pytest.raises(sagadsl.JournalError, match=f"holds what this version never writes: .*({told})"):
        runtime.find("flow/k")


def test_entries_that_make_no_sense_are_refused(make_runtime):
    """Never guessed at."""
    runtime = make_runtime()
    flow.using(runtime=runtime, key="k")("a")
    journal = runtime.journal()
    journal._read("update entries set kind = 'resumed' where kind = 'completed'", ())
    with pytest.raises(sagadsl.JournalError, match="holds what this version never writes"):
        runtime.find("flow/k")
    journal._read("delete from entries", ())
    with pytest.raises(sagadsl.JournalError, match="has no entries: restore a backup"):
        runtime.find("flow/k")


def test_what_this_program_cannot_read_is_shown_as_it_is_stored(make_runtime):
    """Looking at a run does not need its classes."""
    runtime = make_runtime()

    @step(compensate=None)
    def fails(name: str) -> None:
        raise LookupError(name)

    @saga(name="odd")
    def odd(name: str) -> str:
        try:
            fails(name)
        except LookupError:
            return act(name)
        return ""

    odd.using(runtime=runtime, key="k")("a")
    journal = runtime.journal()
    for column, kind in (("arguments", "opened"), ("result", "completed"), ("result", "failed")):
        row = next(e for e in journal.entries(1) if e.kind == kind)
        text = '{"$type":"nowhere:Gone","x":1}'
        if kind == "failed":
            text = f'{{"type":"nowhere:Gone","message":"m","args":[{text}]}}'
        digest = sagadsl._core.journal.sqlite._digest(
            *((text, row.result) if column == "arguments" else (row.arguments, text))
        )
        journal._read(f"update entries set {column} = ?, digest = ? where seq = ?", (text, digest, row.seq))  # noqa: S608
    run = runtime.find("odd/k")
    assert run.arguments == run.result == {"$type": "nowhere:Gone", "x": 1}
    assert str(run.steps[0].error) == "Gone: m"


def test_settings_of_the_process_hold_for_the_calls_that_follow(tmp_path):
    """Each is checked, and an unknown one is refused."""
    runtime = Runtime(":memory:")
    runtime.configure(store=tmp_path / "a.db", durability="process", resume="key", on_failure="pause")
    flow.using(runtime=runtime)("a")
    assert [run.saga for run in Runtime(tmp_path / "a.db").runs()] == ["flow"]
    with pytest.raises(UsageError, match="on_failure='never'"):
        runtime.configure(on_failure="never")
    with pytest.raises(UsageError, match="no setting 'colour'"):
        runtime.configure(colour="red")


def test_a_version_is_kept_with_each_run(make_runtime):
    """In its opening entry."""

    @saga(version="2026.1", key="k")
    def versioned() -> None:
        """Do nothing."""

    runtime = make_runtime()
    versioned.using(runtime=runtime)()
    assert '"version":"2026.1"' in runtime.journal().entries(1)[0].definition


def test_arguments_of_a_saga_that_cannot_be_stored_are_refused(make_runtime):
    """Before anything is written, for a run and for a child."""
    runtime = make_runtime()

    @saga
    def takes(thing: object) -> None:
        """Take it."""

    @saga(key="k")
    def parent() -> None:
        takes(object())

    for call in (lambda: takes.using(runtime=runtime)(object()), parent.using(runtime=runtime)):
        with pytest.raises(sagadsl.NotStorableError, match=r"takes: argument at .*thing of type object"):
            call()


def test_two_callers_of_one_new_key_are_told_apart_by_the_first_commit(make_runtime):
    """The second enters nothing."""
    runtime = make_runtime()
    seen = []

    @step(compensate=None)
    def enter() -> None:
        seen.append("entered")

    @saga(key="k", name="twice")
    def twice(depth: int) -> None:
        enter()

    with pytest.raises(sagadsl.RunLockedError):
        contested(twice, runtime, make_runtime)
    assert seen == []


def contested(saga_, runtime, make_runtime):
    """Open a run twice before either has written, then let the other write first."""
    first = runtime.open(saga_._self_spec, {"depth": 1}, sagadsl._core.settings.Options())
    second = make_runtime()
    journal = second.journal()
    row = first.scope.run.row
    journal.commit(
        sagadsl._core.journal.Log(),
        [sagadsl.Entry(0, 0, sagadsl.Kind.OPENED, 0, "", None, None, 1, "twice", "{}", "{}", None)],
        full=False,
        row=sagadsl._core.values.RunRow(0, row.id, 1, row.saga, row.program, row.arguments_digest, 1),
    )
    sagadsl._dsl.running.run_root(
        lambda: first, sagadsl._dsl.running.Calling(saga_._self_spec, sagadsl._core.settings.Options(), runtime,
                                                  lambda: saga_.plain(1), sagadsl._dsl.outcomes.as_call,
                                                  sagadsl._core.ownership.Tenure())
    )  # fmt: skip


def test_a_run_that_somebody_finished_meanwhile_is_as_good_as_finished(make_runtime, monkeypatch):
    """Between the look and the lock another process may have ended it."""
    runtime = make_runtime()
    flow.using(runtime=runtime, key="k")("a")
    (row,) = runtime.journal().runs()
    row.finished = None
    monkeypatch.setattr(runtime.journal(), "runs", lambda **_: [row])
    assert flow.using(runtime=runtime, key="k")("a") == "a"
    assert not runtime.journal().is_held(1)


def test_a_stuck_run_is_not_adopted_and_a_new_one_says_so(make_runtime, caplog):
    """A keyless call does not wait for the person who decides."""
    runtime = make_runtime()
    seen = []

    @step(compensate=sagadsl.Compensation(lambda: 1 / 0, retries=0))
    def odd() -> None:
        seen.append("odd")

    @saga(runtime=runtime)
    def stuck() -> None:
        odd()
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(sagadsl.CompensationError):
            stuck()
    assert seen == ["odd", "odd"]
    assert "A new run starts beside it" in caplog.text


def test_a_run_of_another_program_is_not_adopted(make_runtime, caplog):
    """Two programs may use one name, and one file."""
    runtime = make_runtime()

    @saga(name="shared")
    def shared() -> None:
        undoable("cut")

    with pytest.raises(Cut):
        shared.using(runtime=runtime)()
    caplog.clear()
    shared._self_spec.program = "/elsewhere/program.py"
    with pytest.raises(Cut):
        shared.using(runtime=runtime)()
    flow.using(runtime=runtime)("other")
    assert len(runtime.runs()) == 3
    assert "is unfinished, and another run" not in caplog.text


def test_a_forked_child_does_not_go_on_with_its_parents_run(make_runtime):
    """What is open is the parent's; the hook that every fork runs says so."""
    runtime = make_runtime()
    seen = []

    @saga(key="k")
    def forks() -> None:
        act("a")
        sagadsl._core.runtime.opening._after_fork()
        seen.append((act("plain"), sagadsl.current().run_id))

    with pytest.raises(sagadsl.RunLostError):
        forks.using(runtime=runtime)()
    sagadsl._core.threads.forget()
    assert seen == [("plain", None)]
    assert [s.key for s in runtime.find("forks/k").steps] == ["act"]


@pytest.mark.parametrize("read_only", [False, True])
def test_a_forked_child_writes_nothing_of_a_step_that_its_parent_is_in(colour, make_runtime, read_only):
    """Neither by itself nor together with others, whose steps are under way in the same loop."""
    runtime = make_runtime()

    @colour.step(name="forks", **{"read_only": True} if read_only else {"compensate": None})
    def forks() -> None:
        sagadsl._core.runtime.opening._after_fork()

    @colour.saga(key="k", name="forking")
    def flow():
        yield asyncio.gather(forks(), forks()) if colour.is_async else forks()

    with pytest.raises(sagadsl.RunLostError, match="nothing of it was written here"):
        colour.call(flow.using(runtime=runtime))
    kinds = {str(entry.kind) for row in runtime.journal().runs() for entry in runtime.journal().entries(row.number)}
    assert kinds == (set() if read_only else {"opened", "intent"})


def test_the_default_store_is_named_by_the_environment(monkeypatch, tmp_path):
    """Else it is beside the main script, unless that is an installed command."""
    default_store = sagadsl._core.settings.default_store
    monkeypatch.setenv("SAGADSL_DB", str(tmp_path / "named.db"))
    assert default_store() == tmp_path / "named.db"
    monkeypatch.delenv("SAGADSL_DB")
    monkeypatch.chdir(tmp_path)
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__spec__", None, raising=False)
    for path, expected in [
        (str(tmp_path / "scripts" / "trip.py"), tmp_path / "scripts"),
        (str(Path(sys.executable).parent / "sagadsl"), tmp_path),
    ]:
        monkeypatch.setattr(main, "__file__", path, raising=False)
        assert default_store().absolute() == expected / "sagadsl.db"


@step(compensate=lambda name: arelease(name), name="aundoable")
async def aundoable(name: str) -> None:
    """Act."""
    RELEASED.append(name)


RELEASED: list[str] = []


async def arelease(name: str) -> None:
    """Undo."""
    RELEASED.append(f"-{name}")


def test_async_compensations_are_awaited_without_a_body_too(make_runtime):
    """Nothing is called compensated that has not run."""
    runtime = make_runtime()
    RELEASED.clear()

    def scope():
        @saga(name="agone", key="k")
        async def agone() -> None:
            await aundoable("a")
            await aundoable("b")
            raise Cut

        with pytest.raises(Cut):
            asyncio.run(agone.using(runtime=runtime)())

    scope()
    gc.collect()

    async def main():
        return await runtime.find("agone/k").compensate()

    assert asyncio.run(main()).status == "compensated"
    assert RELEASED == ["a", "b", "-b", "-a"]


def test_a_stored_run_goes_on_with_the_settings_of_the_saga_that_is_asked(make_runtime):
    """`using(...).resume(id)` obeys `using`."""
    runtime = make_runtime()
    effects = []

    @step(compensate=lambda: effects.append("-a"))
    def first() -> None:
        effects.append("a")

    @saga(runtime=runtime, key="k", name="patient")
    def patient() -> None:
        first()
        raise ValueError("no")

    pausing = patient.using(on_failure="pause")
    with pytest.raises(sagadsl.SuspendedError):
        pausing()
    with pytest.raises(sagadsl.SuspendedError):
        pausing.resume("patient/k")
    assert effects == ["a"]
    with pytest.raises(ValueError, match="no"):
        patient.resume("patient/k")
    assert effects == ["a", "-a"]


def test_a_saga_of_the_same_name_elsewhere_does_not_go_on_with_a_run(make_runtime):
    """A definition is its module and its name."""
    runtime = make_runtime()

    @saga(name="sync")
    def one() -> None:
        undoable("cut")

    with pytest.raises(Cut):
        one.using(runtime=runtime, key="k")()
    registered = sagadsl._core.registry.registry.sagas
    registered["elsewhere", "sync"] = registered.pop(("test_runtime", "sync"))
    with pytest.raises(UsageError, match="no saga named 'sync' in a module 'test_runtime'; import that module"):
        runtime.find("sync/k").resume()


def test_a_run_that_is_refreshed_stays_itself_though_its_key_is_done_afresh(runtime):
    """It is not its next generation; one that was pruned is none any more."""
    tries = []

    @saga(key="k", runtime=runtime)
    def trip():
        tries.append(1)
        if len(tries) == 1:
            raise LookupError

    with pytest.raises(LookupError):
        trip()
    (first,) = runtime.runs()
    trip()
    again = first.refresh()
    assert (again.generation, again.status, runtime.runs()[0].refresh().generation) == (1, "compensated", 2)
    runtime.prune(keep=0)
    with pytest.raises(RunConflictError, match="any more: it was pruned"):
        first.refresh()


def test_generations_and_ids_never_share_idempotency_keys(make_runtime):
    """Whatever characters an id has."""
    row = sagadsl._core.values.RunRow
    prefixes = {row(0, i, g, "s", "p", "d", 0).key_prefix for i, g in [("o", 1), ("o", 2), ("o~2", 1), ("o~2", 2)]}
    assert len(prefixes) == 4


def test_a_child_has_no_id_of_its_own(make_runtime):
    """Its key is its own; its run is its root's."""
    runtime = make_runtime()

    @saga(runtime=runtime)
    def parent() -> None:
        flow.using(id="mine")("a")

    with pytest.raises(UsageError, match="is part of its run and has no id of its own; use key="):
        parent()


def test_an_async_compensation_without_a_body_that_fails_says_so(make_runtime):
    """As one with a body does; and one that only the body knows is not guessed at."""
    runtime = make_runtime()

    def scope():
        @saga(name="agone", key="{how}")
        async def agone(how: str) -> None:
            await (aundoable.using(compensate=other) if how == "other" else aundoable)(how)
            raise Cut

        for how in ("fails", "other"):
            with pytest.raises(Cut):
                asyncio.run(agone.using(runtime=runtime)(how))

    async def other(name):
        """Undo otherwise."""

    async def fails(name: str) -> None:
        raise OSError(name)

    scope()
    gc.collect()
    registered = sagadsl._core.registry.registry.steps
    kept = registered["test_runtime", "aundoable"]
    fails.__qualname__ = "<lambda>"
    broken = aundoable.using(compensate=sagadsl.Compensation(fails, retries=0))
    registered["test_runtime", "aundoable"] = broken._self_spec

    async def compensate(how):
        return await runtime.find(f"agone/{how}").compensate()

    try:
        with pytest.raises(sagadsl.CompensationError, match="OSError: fails"):
            asyncio.run(compensate("fails"))
        with pytest.raises(UsageError, match="is not to be found"):
            asyncio.run(compensate("other"))
        assert runtime.find("agone/other").status == "open"
    finally:
        registered["test_runtime", "aundoable"] = kept


def refit(other, more):
    """Be what a program has under the name of a compensation that took something else."""


UNFOUND = {
    "in a function": (
        "test_runtime",
        "flow.<locals>.undo",
        "reaches it; it must stand at the top of test_runtime",
    ),
    "in a class": ("test_runtime", "Shop.undo", "a class only the saga's body reaches it; it must stand at the top"),
    "not imported": ("elsewhere", "undo", "import elsewhere, which must have it at its top"),
    "not there": ("test_runtime", "nothing", "test_runtime is imported, and must have it at its top"),
    "changed": ("test_runtime", "refit", "test_runtime has one that takes other arguments by now"),
}


@pytest.mark.parametrize("kind", UNFOUND)
def test_a_compensation_that_is_not_found_says_why(kind, runtime):
    """Where the body cannot be run, and where it can: what has to be imported, or where the function has to stand."""

    def undo(item):
        raise AssertionError

    undo.__module__, undo.__qualname__, told = UNFOUND[kind]
    undo.__name__ = undo.__qualname__.rpartition(".")[2]

    @step(compensate=undo, name=f"unfound {kind}")
    def take(item):
        raise Cut

    @saga(key="k", name=f"unfound {kind}")
    def sell():
        if bodies:
            take("lamp")

    bodies = [1]
    with pytest.raises(Cut):
        sell.using(runtime=runtime)()
    with pytest.raises(UsageError, match=f"is not to be found: .*{told}"):
        runtime.compensate_without_body(f"unfound {kind}/k")
    bodies.clear()
    with pytest.raises(sagadsl.CompensationError, match=f"is not to be found: .*{told}"):
        sell.using(runtime=runtime).compensate(f"unfound {kind}/k")


def test_a_compensation_that_wants_a_result_says_whether_the_step_raised(runtime):
    """What raised was not cut off; either has no result."""

    @step(compensate=sagadsl.Compensation(lambda result: None, even_if_failed=True, retries=0))
    def take(how):
        raise how

    @saga
    def sell(name):
        take({"raised": ValueError(), "was cut off": sagadsl.StepTimeout("take", 1)}[name])

    for told in ("raised", "was cut off"):
        with pytest.raises(sagadsl.CompensationError, match=f"step take {told}, so there is no result to give to"):
            sell.using(runtime=runtime, key=told)(told)


def test_a_run_that_is_pruned_while_a_list_is_read_is_left_out(runtime, monkeypatch):
    """Its row was read, and then it was gone."""
    sagadsl.saga(looked, name="gone", runtime=runtime)()
    assert [run.saga for run in runtime.runs()] == ["gone"]

    def pruned(*_):
        raise sagadsl.RunConflictError("gone/1", "was pruned a moment ago")

    monkeypatch.setattr(sagadsl.Runtime, "_outlined", pruned)
    assert runtime.runs() == []


def looked():
    """Do nothing, in a step that is on record."""
    return sagadsl.now() is not None


def test_a_run_that_is_not_there_is_held_back_by_nobody(runtime):
    with pytest.raises(sagadsl.RunConflictError):
        runtime.hold_back("nobody/1", 5)


def test_calls_of_branches_stand_in_the_order_of_the_journal():
    """Two threads may come back from it in any order."""
    later = SimpleNamespace(seq=5)
    call = SimpleNamespace(seq=0, scope=SimpleNamespace(slots=[later]))
    Slot._begin(call, SimpleNamespace(seq=4, at=0))
    assert call.scope.slots == [call, later]
