"""Observers: told of each entry once it is durable, able to change nothing; and `logging`, which is one of them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import sagadsl
from sagadsl import Retry, RunInfo, RunLostError, Runtime, UsageError, parallel

ROOT = Path(__file__).parents[1]


class Watching:
    """A watcher that keeps what it is told of each run."""

    def __init__(self):
        self.runs, self.told, self.left, self.kept = [], [], [], {}

    def watch(self, run):
        assert isinstance(run, RunInfo)
        self.runs.append(run)
        return Told(self, run)


class Told:
    """Its observer of one run."""

    def __init__(self, watching, run):
        self.watching, self.run, self.kept = watching, run, watching.kept

    def __call__(self, entry):
        self.watching.told.append((self.run.id, entry.run, str(entry.kind), entry.seq))

    def close(self):
        self.watching.left.append(self.run.id)


def make(colour, world):
    """Make a saga that is interrupted, goes on, fails and is compensated."""

    @colour.step(compensate=None)
    def act(name) -> None:
        if "cut" not in world.effects:
            world.add("cut")
            raise KeyboardInterrupt
        world.add(name)

    @colour.saga(key="k")
    def flow():
        yield act("a")
        raise ValueError("no")

    return flow


EVERY = ["opened", "intent", "taken", "intent", "done", "compensated"]


def test_an_observer_is_told_of_every_entry_of_a_run(colour, make_runtime, world):
    """Its opening and its resumption too; each with the run's id, in order."""
    seen = []
    runtime = make_runtime(observers=[lambda entry: seen.append((entry.run, str(entry.kind), entry.seq))])
    flow = make(colour, world).using(runtime=runtime)
    with pytest.raises(KeyboardInterrupt):
        colour.call(flow)
    with pytest.raises(ValueError, match="no"):
        colour.call(flow)
    assert seen == [("flow/k", kind, at) for at, kind in enumerate(EVERY, 1)]


def test_a_watcher_has_an_observer_for_each_run(colour, make_runtime, world):
    """It is told how the run stood when this process opened it or went on with it, and when it let the run go."""
    watching = Watching()
    flow = make(colour, world).using(runtime=make_runtime(observers=(watching,)))
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error):
            colour.call(flow)
    assert [(run.id, run.is_live, [step.key for step in run.steps]) for run in watching.runs] == [
        ("flow/k", True, []),
        ("flow/k", True, ["act"]),
    ]
    assert watching.told == [("flow/k", "flow/k", kind, at) for at, kind in enumerate(EVERY, 1)]
    assert watching.left == ["flow/k", "flow/k"]


def test_what_an_observer_keeps_of_a_new_run_is_there_whoever_looks_later(colour, make_runtime, world):
    """What one of a later process would keep instead is not: the run is not new any more."""
    watching = Watching()
    flow = make(colour, world)
    for kept, error in (({"trace": "first"}, KeyboardInterrupt), ({"trace": "second"}, ValueError)):
        watching.kept = kept
        with pytest.raises(error):
            colour.call(flow.using(runtime=make_runtime(observers=(watching,))))
    assert [run.kept for run in watching.runs] == [{}, {"trace": "first"}]
    assert make_runtime().find("flow/k").kept == {"trace": "first"}


def test_a_run_that_is_taken_by_force_tells_who_took_it(colour, make_runtime, world):
    """The entry with which it is taken is told although nothing follows it yet."""
    watching, thieves = Watching(), []

    @colour.step(compensate=None)
    def act(name) -> None:
        world.add(name)

    @colour.saga(key="k")
    def flow():
        yield act("a")
        if not thieves:
            steal = flow.using(runtime=make_runtime(observers=[watching]), steal=True)
            thieves.append(threading.Thread(target=colour.call, args=(steal,)))
            thieves[0].start()
            thieves[0].join()
        yield act("b")

    with pytest.raises(RunLostError):
        colour.call(flow.using(runtime=make_runtime()))
    told = [(kind, seq) for _, _, kind, seq in watching.told]
    assert told == [("taken", 4), ("intent", 5), ("done", 6), ("completed", 7)]
    assert world == ["a", "b"]


def test_a_watcher_that_fails_or_looks_away_changes_nothing(colour, make_runtime, world, caplog):
    """Neither when it is asked, nor when it is told, nor when the run is let go."""

    class Away:
        def watch(self, run):
            return None

    class Broken:
        def watch(self, run):
            raise RuntimeError("asked")

    class Fragile:
        def watch(self, run):
            return self

        def __call__(self, entry):
            raise RuntimeError("told")

        def close(self):
            raise RuntimeError("left")

    world.add("cut")
    runtime = make_runtime(observers=[Away(), Broken(), Fragile()])
    with pytest.raises(ValueError, match="no"):
        colour.call(make(colour, world).using(runtime=runtime))
    failed = [str(r.exc_info[1]) for r in caplog.records if r.message == "an observer failed; the run goes on"]
    assert failed == ["asked", "told", "told", "told", "told", "left"]
    assert world == ["cut", "a"]


def test_observers_are_functions_that_nobody_awaits():
    """Anything else is refused at once, by `configure` too."""

    async def later(entry):
        """Never be awaited."""

    for wrong in (later, "print"):
        with pytest.raises(UsageError, match="observers= takes functions of an Entry"):
            Runtime(observers=[wrong])
    with pytest.raises(UsageError, match="observers= takes functions"):
        sagadsl.configure(observers=[later])


def test_the_process_has_observers_by_configure(tmp_path):
    """They hold for the sagas that were decorated before."""
    seen = []

    @sagadsl.step
    def act() -> None:
        """Act."""

    @sagadsl.saga(store=tmp_path / "sagas.db")
    def flow():
        act()

    sagadsl.configure(observers=[lambda entry: seen.append(str(entry.kind))])
    try:
        flow()
    finally:
        sagadsl.configure(observers=())
    flow()
    assert seen == ["opened", "intent", "done", "completed"]


# -- logging ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def eventful(colour, runtime):
    """Give a saga with a child, branches, a retry, a failure and a compensation that fails at first."""
    tries = []

    def undo(result=None):
        tries.append("undo")
        if tries.count("undo") == 1:
            raise OSError("busy")

    @colour.step(compensate=sagadsl.Compensation(undo, retries=1), retries=Retry(1, wait=1))
    def act() -> None:
        tries.append("act")
        if tries.count("act") == 1:
            raise TimeoutError("slow\x1b[2J")

    @colour.saga
    def child():
        yield act()

    @colour.saga(key="k", runtime=runtime)
    def flow():
        yield child()
        if not colour.is_async:
            parallel(lambda: None)
        raise ValueError("no")

    return flow


def test_each_transition_is_an_event_with_its_fields(colour, eventful, caplog):
    """Normal ones are INFO, failures WARNING; intents, and what is inside, are for debugging."""
    caplog.set_level(logging.DEBUG, "sagadsl")
    with pytest.raises(ValueError, match="no"):
        colour.call(eventful)
    told = [(r.levelname, r.message) for r in caplog.records if hasattr(r, "event")]
    assert [each for each in told if each[0] != "DEBUG"] == [
        ("INFO", "flow/k: flow opened"),
        ("WARNING", "flow/k: child/act retrying: TimeoutError: slow�[2J"),
        ("INFO", "flow/k: child/act done, attempt 2"),
        ("WARNING", "flow/k: flow compensating: ValueError: no"),
        ("WARNING", "flow/k: child/act compensation retrying: OSError: busy"),
        ("INFO", "flow/k: child/act compensation done, attempt 2"),
        ("INFO", "flow/k: flow compensated"),
    ]
    debugging = [text for level, text in told if level == "DEBUG"]
    assert debugging[:2] == ["flow/k: child opened", "flow/k: child/act intent"]
    record = next(r for r in caplog.records if getattr(r, "event", "") == "retrying")
    assert record.name == "sagadsl"
    fields = {name: getattr(record, name) for name in ("run", "saga", "event", "step", "attempt", "seq")}
    assert fields == {
        "run": "flow/k", "saga": "flow", "event": "retrying", "step": "child/act", "attempt": 1, "seq": 4,
    }  # fmt: skip


def test_at_the_level_of_warnings_only_failures_are_told(colour, eventful, caplog):
    """The rest is not even put into words."""
    caplog.set_level(logging.WARNING, "sagadsl")
    with pytest.raises(ValueError, match="no"):
        colour.call(eventful)
    assert {r.levelname for r in caplog.records} == {"WARNING"}
    assert len(caplog.records) == 3


def test_a_compensation_that_fails_is_an_error(colour, runtime, caplog):
    """It waits for a person."""

    def undo():
        raise OSError("gone")

    @colour.step(compensate=sagadsl.Compensation(undo, retries=0))
    def act() -> None:
        """Act."""

    @colour.saga(key="k", runtime=runtime)
    def flow():
        yield act()
        raise ValueError("no")

    with pytest.raises(sagadsl.CompensationError):
        colour.call(flow)
    assert [r.message for r in caplog.records if r.levelname == "ERROR"] == [
        "flow/k: act compensation error: OSError: gone",
        "flow/k: flow compensation failed: OSError: gone",
    ]


def test_what_an_observer_calls_is_no_part_of_the_run(make_runtime, world):
    """A step is the plain function there, and a saga one of its own: neither is missed when the run goes on."""
    dies = True

    @sagadsl.step(compensate=None)
    def count(what: str) -> None:
        world.add(what)

    @sagadsl.saga(name="mirror", runtime=Runtime(":memory:"))
    def mirror(seq: int) -> None:
        count(f"mirrored{seq}")

    @sagadsl.step(compensate=None)
    def act() -> None:
        if dies:
            raise KeyboardInterrupt

    @sagadsl.saga(name="flow", key="k")
    def flow() -> None:
        act()

    def observer(entry):
        if entry.name == "act":
            count("counted")
            mirror(entry.seq)

    with pytest.raises(KeyboardInterrupt):
        flow.using(runtime=make_runtime(observers=[observer]))()
    assert world == ["counted", "mirrored2"]
    dies = False
    flow.using(runtime=make_runtime())()
    assert [step.key for step in make_runtime().find("flow/k").steps] == ["act"]


SILENT = """
import logging, sys
import sagadsl
from sagadsl._core.scope import CURRENT

sagadsl.configure(store=":memory:")

@sagadsl.step(retries=sagadsl.Retry(1, wait=0.001))
def act():
    if sagadsl.current().attempt == 1:
        raise OSError("refused")

@sagadsl.saga
def flow():
    act()
    return len(CURRENT.get().run.observers)

if "logging" in sys.argv:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
print(flow(), logging.getLogger("sagadsl").handlers)
"""


def test_where_no_handler_is_there_is_no_observer_either(tmp_path):
    """Nothing is printed, nothing is installed, and a step costs what it costs without `logging`."""
    command = [sys.executable, "-c", SILENT]
    options = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(ROOT)}, "capture_output": True, "text": True}
    silent = subprocess.run(command, check=True, **options)
    assert (silent.stdout, silent.stderr) == ("0 []\n", "")
    told = subprocess.run([*command, "logging"], check=True, **options)
    assert "act retrying: OSError: refused" in told.stdout
    assert told.stdout.splitlines()[-1] == "1 []"
