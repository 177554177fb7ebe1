"""The contract with the users, sentence by sentence: those of its sentences that no other room tries to break.

Each docstring is the sentence. Killed is what raises `Cut`; a second runtime on the same file is the restarted process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sagadsl
from sagadsl import Compensation, CompensationError, Landed, Live, Retry, StepTimeout, SuspendedError
from sagadsl._core.journal.sqlite import SqliteJournal
from sagadsl._core.runtime.deciding import Request

ROOT = Path(__file__).parents[1]


class Cut(BaseException):
    """The end of a process, for a test: nothing of the library's may follow it."""


# -- steps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on", "attempts"),
    [(ValueError, 1), (TimeoutError, 3), ((OSError, StepTimeout), 3), (lambda error: error.timeout == 5.0, 3)],
)
def test_a_retry_is_asked_about_timeouts_too(colour, world, make_runtime, on, attempts):
    """``on`` is classes or a predicate over the live exception, timeouts too."""

    @colour.step(retries=Retry(2, on=on, wait=0), name="act")
    def act() -> None:
        world.add("act")
        raise StepTimeout(sagadsl.current().key, 5.0)

    @colour.saga(runtime=make_runtime())
    def flow():
        yield act()

    with pytest.raises(StepTimeout):
        colour.call(flow)
    assert world == ["act"] * attempts


def test_a_probe_gets_the_arguments_as_they_were_stored(colour, world, make_runtime):
    """Arguments reach compensation and probe as the copy that was stored."""
    asked = []

    def find(items):
        asked.append(list(items))
        items.clear()
        return sagadsl.Unknown()

    @colour.step(
        compensate=lambda items: world.add(f"-{'+'.join(items)}"), probe=find, on_uncertain="compensate", name="act"
    )
    def act(items: list) -> None:
        items.append("changed")
        raise StepTimeout(sagadsl.current().key, 5.0)

    @colour.saga(runtime=make_runtime())
    def flow(items: list):
        yield act(items)

    with pytest.raises(StepTimeout):
        colour.call(flow, ["a", "b"])
    assert asked == [["a", "b"], ["a", "b"]]  # after the timeout, and before compensating
    assert world == ["-a+b"]


def test_an_idempotency_key_is_the_same_on_every_attempt_and_every_resume(colour, make_runtime):
    """``idempotency_key`` is the same on every attempt, every resume; a compensation is given the step's."""
    seen, fates = [], [OSError("busy"), Cut(), ValueError("paused"), None]

    def back(idempotency_key):
        seen.append(idempotency_key)

    @colour.step(compensate=back, retries=Retry(1, on=OSError, wait=0), name="act")
    def act() -> None:
        seen.append(sagadsl.current().idempotency_key)
        fate = fates.pop(0)
        if fate is not None:
            raise fate

    @colour.saga(key="1", on_failure="pause")
    def flow():
        yield act()
        raise ValueError("no")

    for expected in (Cut, SuspendedError, SuspendedError):
        with pytest.raises(expected):
            colour.call(flow.using(runtime=make_runtime()))
    assert fates == []
    colour.run(flow.reopen(make_runtime().runs()[0].id, Request(), make_runtime()))
    assert len(seen) == 5
    assert len(set(seen)) == 1


def test_a_compensations_own_key_is_the_same_after_it_was_cut_off(colour, make_runtime):
    """``sagadsl.current()`` in a compensation has a key of its own, the same on every attempt and every resume."""
    seen, fates = [], [OSError("busy"), Cut(), None]

    def back():
        here = sagadsl.current()
        seen.append((here.key, here.idempotency_key))
        fate = fates.pop(0)
        if fate is not None:
            raise fate

    @colour.step(compensate=Compensation(back, retries=Retry(1, wait=0)), name="act")
    def act() -> None: ...

    @colour.saga(key="1")
    def flow():
        yield act()
        raise ValueError("no")

    with pytest.raises(Cut):
        colour.call(flow.using(runtime=make_runtime()))
    with pytest.raises(ValueError, match="no"):
        colour.call(flow.using(runtime=make_runtime()))
    assert len(seen) == 3
    assert len(set(seen)) == 1
    assert seen[0][1].endswith("/act/compensation")


def test_steps_take_options_for_a_place(colour, world, make_runtime, clock):
    """Steps have ``.using(key=, compensate=, retries=, timeout=)``; a key is taken as it is, braces and all."""
    fails = [True]

    @colour.step(compensate=lambda: world.add("-usual"), name="act")
    def act() -> float | None:
        if fails:
            fails.pop()
            raise OSError("busy")
        return sagadsl.current().remaining

    special = act.using(
        key="{no argument}", retries=Retry(1, wait=7), timeout=60, compensate=lambda: world.add("-special")
    )

    @colour.saga(runtime=make_runtime())
    def flow():
        limited = yield special()
        world.add(f"limited:{limited is not None}")
        world.add(f"free:{(yield act()) is None}")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        colour.call(flow)
    assert clock.slept == [7]
    assert world == ["limited:True", "free:True", "-usual", "-special"]
    assert [step.key for step in make_runtime().runs()[0].steps] == ["act:{no argument}", "act"]


# -- identity ---------------------------------------------------------------------------------------------------------


def test_identity_is_fixed_when_a_step_is_called(world, make_runtime):
    """Identity is fixed when the step is *called*: equal calls are numbered then, whichever is awaited first."""

    @sagadsl.step(name="act")
    async def act(item: str) -> str:
        world.add(sagadsl.current().key)
        return sagadsl.current().key

    @sagadsl.saga(runtime=make_runtime())
    async def flow():
        first, second = act("x"), act("x")
        return [await second, await first]

    assert asyncio.run(flow()) == ["act#2", "act"]


def test_what_overlapped_is_compensated_in_reverse_order_of_its_intents(world, make_runtime):
    """Compensation is in reverse order of the intents, not of the ends: the last that was begun is undone first."""
    ended = asyncio.Event

    @sagadsl.step(compensate=lambda name: world.add(f"-{name}"), name="act")
    async def act(name: str, until, then) -> None:
        world.add(name)
        if until is not None:
            await gates[until].wait()
        gates[then].set()
        world.add(f"{name}.")

    gates = {}

    @sagadsl.saga(runtime=make_runtime())
    async def flow():
        gates.update(a=ended(), b=ended(), c=ended())
        await asyncio.gather(act("a", "b", "a"), act("b", "c", "b"), act("c", None, "c"))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(flow())
    assert world == ["a", "b", "c", "c.", "b.", "a.", "-c", "-b", "-a"]


# -- what is owed -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_name", [False, True], ids=["with its body", "by names"])
def test_a_compensation_that_the_code_has_lost_is_not_lost(colour, world, make_runtime, by_name):
    """The journal decides what is owed, code only supplies the functions: a missing one stops loudly."""

    def program(compensate):
        @colour.step(compensate=compensate, name="act")
        def act() -> None:
            world.add("act")

        @colour.saga(name="flow", key="1", on_failure="pause")
        def flow():
            yield act()
            raise ValueError("no")

        return flow

    with pytest.raises(SuspendedError):
        colour.call(program(lambda: world.add("-act")).using(runtime=make_runtime()))
    changed = program(None)
    if by_name:
        with pytest.raises(sagadsl.UsageError, match="step act of module"):
            make_runtime().compensate_without_body("flow/1")
        assert make_runtime().runs()[0].status == "paused"
    else:
        with pytest.raises(CompensationError, match="is not to be found"):
            colour.run(changed.reopen("flow/1", Request(), make_runtime()))
        assert make_runtime().runs()[0].status == "compensation_failed"
    run = colour.run(program(lambda: world.add("-act")).reopen("flow/1", Request(), make_runtime()))
    assert run.status == "compensated"
    assert world == ["act", "-act"]


class Bank:
    """What is lent to a step that charges, and to what refunds it."""

    def __init__(self, world):
        self.add = world.add


def refund(order: str, bank: Live[Bank], result: str | None = None) -> None:
    """Stand at the top of the module, where a name leads to it."""
    bank.add(f"-{order}:{result}")


@pytest.mark.parametrize("by_name", [False, True], ids=["with its body", "by names"])
@pytest.mark.parametrize("decided", [None, sagadsl.IRREVERSIBLE], ids=["None", "IRREVERSIBLE"])
def test_a_compensation_decided_away_is_owed_where_it_is_on_record(colour, world, make_runtime, decided, by_name):
    """The journal says so, and the function is still there: it is called, also by a body that makes the step now."""

    def program(compensate):
        @colour.step(compensate=compensate, name="charge")
        def charge(order: str, bank: Live[Bank]) -> str:
            bank.add(order)
            return "paid"

        @colour.saga(name="flow", key="1", on_failure="pause")
        def flow():
            yield charge("lamp", Bank(world))
            raise ValueError("no")

        return flow

    with pytest.raises(SuspendedError):
        colour.call(program(refund).using(runtime=make_runtime()))
    changed, runtime = program(decided), make_runtime(provide={Bank: lambda: Bank(world)})
    if by_name:
        compensated = runtime.compensate_without_body("flow/1", is_async=colour.is_async)
    else:
        compensated = changed.reopen("flow/1", Request(), runtime)
    assert colour.run(compensated).status == "compensated"
    assert world == ["lamp", "-lamp:paid"]


def test_a_compensation_that_the_code_has_gained_is_not_owed(colour, world, make_runtime):
    """The journal decides what is owed: what was decided when the step was entered stands."""

    def program(compensate):
        @colour.step(compensate=compensate, name="act")
        def act() -> None:
            world.add("act")

        @colour.saga(name="flow", key="1", on_failure="pause")
        def flow():
            yield act()
            raise ValueError("no")

        return flow

    with pytest.raises(SuspendedError):
        colour.call(program(None).using(runtime=make_runtime()))
    changed = program(lambda: world.add("-act"))
    assert colour.run(changed.reopen("flow/1", Request(), make_runtime())).status == "compensated"
    assert world == ["act"]


def test_what_was_compensated_is_never_compensated_again(colour, world, make_runtime):
    """Compensation never runs again once recorded, wherever the process dies between two compensations."""
    cut = [True]

    def back(name):
        if name == "a" and cut:
            cut.pop()
            raise Cut
        world.add(f"-{name}")

    @colour.step(compensate=back, name="act")
    def act(name: str) -> None:
        world.add(name)

    @colour.saga(name="flow", key="1")
    def flow():
        for name in "abc":
            yield act(name)
        raise ValueError("no")

    with pytest.raises(Cut):
        colour.call(flow.using(runtime=make_runtime()))
    with pytest.raises(ValueError, match="no"):
        colour.call(flow.using(runtime=make_runtime()))
    assert world == ["a", "b", "c", "-c", "-b", "-a"]


def test_no_forward_step_of_a_scope_starts_after_that_scope_began_to_compensate(world, make_runtime):
    """No forward step of a scope starts after that scope began to compensate, whoever calls it."""
    called, tasks, refused = [], [], []

    @sagadsl.step(name="late")
    async def late() -> None:
        called.append(1)

    async def back():
        world.add("-act")
        gate.set()
        await asyncio.wait(tasks)

    @sagadsl.step(compensate=back, name="act")
    async def act() -> None:
        world.add("act")

    async def beside():
        await gate.wait()
        try:
            await late()
        except BaseException as error:  # whatever keeps it from starting
            refused.append(type(error).__name__)

    gate = None

    @sagadsl.saga(runtime=make_runtime())
    async def flow():
        nonlocal gate
        gate = asyncio.Event()
        await act()
        tasks.append(asyncio.create_task(beside()))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(flow())
    assert (called, refused) == ([], ["Stop"])
    assert world == ["act", "-act"]


def test_a_compensation_gets_the_fault_that_caused_it_or_none(colour, world, make_runtime):
    """``error`` is the `Fault` that caused the compensation, or ``None`` where a person asked for it."""
    seen, cut = [], [True]

    @colour.step(compensate=lambda error: seen.append(error and (error.name, error.message)), name="act")
    def act() -> None:
        world.add("act")

    @colour.saga(name="flow", key="{number}")
    def flow(number: int):
        yield act()
        if cut:
            cut.pop()
            raise Cut
        raise ValueError("no")

    with pytest.raises(Cut):
        colour.call(flow.using(runtime=make_runtime()), 1)
    colour.run(flow.reopen("flow/1", Request(), make_runtime()))
    with pytest.raises(ValueError, match="no"):
        colour.call(flow.using(runtime=make_runtime()), 2)
    assert seen == [None, ("ValueError", "no")]


def test_each_stage_of_a_probe_is_the_same_for_a_further_step(colour, world, make_runtime):
    """A probe is asked before anything is decided about an uncertain attempt: about each, with that one's arguments."""
    asked, cuts = [], {"a", "c"}

    def find(name):
        asked.append(name)
        return Landed(name.upper())

    @colour.step(probe=find, compensate=lambda result: world.add(f"-{result}"), name="act")
    def act(name: str) -> str:
        world.add(name)
        if name in cuts:
            raise Cut
        return name

    @colour.saga(name="flow", key="1")
    def flow():
        a = yield act("a")
        b = yield act("b")
        c = yield act("c")
        raise ValueError(a + b + c)

    for _ in range(2):
        with pytest.raises(Cut):
            colour.call(flow.using(runtime=make_runtime()))
    with pytest.raises(ValueError, match="AbC"):
        colour.call(flow.using(runtime=make_runtime()))
    assert asked == ["a", "c"]
    assert world == ["a", "b", "c", "-C", "-b", "-A"]


# -- the store --------------------------------------------------------------------------------------------------------


def test_the_store_is_in_the_folder_of_the_main_script(tmp_path):
    """By default runs are in ``sagadsl.db`` in the folder of the main script, else in the working directory."""
    program = "import sagadsl\n@sagadsl.step\ndef act(): ...\n@sagadsl.saga\ndef flow(): act()\nflow()\n"
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (there / "script.py").write_text(program)
    variables = {name: value for name, value in os.environ.items() if name != "SAGADSL_DB"}
    variables["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(there)])

    def start(*arguments):
        subprocess.run([sys.executable, *arguments], cwd=here, env=variables, check=True)
        return [folder.name for folder in (here, there) if (folder / "sagadsl.db").exists()]

    assert start(there / "script.py") == ["there"]
    (there / "sagadsl.db").unlink()
    assert start("-m", "script") == ["here"]
    (here / "sagadsl.db").unlink()
    assert start("-c", program) == ["here"]


def test_the_creation_of_a_store_is_said_once(colour, make_runtime, caplog):
    """A store's creation is said once."""

    @colour.step(name="act")
    def act() -> None: ...

    @colour.saga
    def flow():
        yield act()

    with caplog.at_level(logging.INFO, "sagadsl"):
        runtime = make_runtime()
        for _ in range(2):
            colour.call(flow.using(runtime=runtime))
        colour.call(flow.using(runtime=make_runtime()))
    assert [r.message for r in caplog.records if "is new" in r.message] == [f"journal {runtime.journal().name} is new"]


@pytest.mark.parametrize("kind", ["intent", "done", "compensating", "compensation_done", "compensated"])
def test_a_store_that_cannot_record_never_causes_a_compensation(colour, world, make_runtime, tmp_path, kind):
    """A store that cannot record never causes a compensation: `JournalError`, the run stays open and goes on later."""

    class Full(SqliteJournal):
        def append(self, log, entry, full):
            self.refuse(entry)
            super().append(log, entry, full)

        def commit(self, log, entries, **options):
            for entry in entries:
                self.refuse(entry)
            super().commit(log, entries, **options)

        def refuse(self, entry):
            if entry.kind == kind and not reached:
                reached.append(entry)
                raise sagadsl.JournalError("sagas.db", "the disk is full")

    reached = []

    @colour.step(compensate=lambda name: world.add(f"-{name}"), name="act")
    def act(name: str) -> None:
        world.add(name)

    @colour.saga(name="flow", key="1")
    def flow():
        yield act("a")
        yield act("b")
        raise ValueError("no")

    with pytest.raises(sagadsl.JournalError, match="full"):
        colour.call(flow.using(runtime=make_runtime(store=Full(tmp_path / "sagas.db"))))
    assert reached
    before = world.effects
    if kind in {"intent", "done", "compensating"}:
        assert not [effect for effect in before if effect.startswith("-")]
    with pytest.raises(ValueError, match="no"):
        colour.call(flow.using(runtime=make_runtime()))
    assert world.effects[-1] == "-a" or kind == "compensated"
    assert {"-a", "-b"} <= set(world.effects)
    assert make_runtime().runs()[0].status == "compensated"
