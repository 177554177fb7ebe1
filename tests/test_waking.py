"""A run that must stop ends, also where its body waits for a task that met the stop: nobody waits for ever."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextvars import copy_context
from typing import Any

import pytest

from sagadsl import JournalError, ReplayError, RunCancelledError, SagaError, SuspendedError, aio, saga, step
from sagadsl._core.journal import Log
from sagadsl._core.journal.sqlite import SqliteJournal
from sagadsl._core.scope import waking
from sagadsl._core.values import Entry, Kind
from sagadsl.errors import RunLostError

LONG = 60.0
"""Seconds after which a test says that something hangs; nothing here takes one."""


class Stage:
    """What a body plays on: a step, a `def` of it, and what is done while a step of some name is inside."""

    def __init__(self, world: Any) -> None:
        self.world, self.meanwhile = world, {}
        self.order = "abcd"
        stage = self

        def undo(name: str) -> None:
            world.add(f"-{name}")

        @step(compensate=undo, name="act")
        async def act(name: str) -> str:
            world.add(name)
            stage.meanwhile.pop(name, lambda: None)()
            await asyncio.sleep(0)
            return name

        @step(compensate=undo, name="act")
        def act_now(name: str) -> str:
            world.add(name)
            stage.meanwhile.pop(name, lambda: None)()
            return name

        self.act, self.act_now = act, act_now

    async def all(self) -> None:
        for name in self.order:
            await self.act(name)


@pytest.fixture
def stage(world):
    """Give a stage on a world."""
    return Stage(world)


# -- bodies that wait for what a task of their own does ----------------------------------------------------------------


async def queue(s: Stage) -> None:
    jobs: asyncio.Queue[str] = asyncio.Queue()

    async def worker() -> None:
        while True:
            await s.act(await jobs.get())
            jobs.task_done()

    workers = [asyncio.create_task(worker()) for _ in range(2)]
    for name in s.order:
        jobs.put_nowait(name)
    await jobs.join()
    for each in workers:
        each.cancel()


async def queue_that_is_full(s: Stage) -> None:
    jobs: asyncio.Queue[str] = asyncio.Queue(1)

    async def worker() -> None:
        while True:
            await s.act(await jobs.get())

    worker_task = asyncio.create_task(worker())
    for name in (*s.order, *"xyz"):
        await jobs.put(name)
    worker_task.cancel()


async def event(s: Stage) -> None:
    ready = asyncio.Event()

    async def produce() -> None:
        await s.all()
        ready.set()

    producer = asyncio.create_task(produce())
    await ready.wait()
    await producer


async def future(s: Stage) -> None:
    result = asyncio.get_running_loop().create_future()

    async def produce() -> None:
        await s.all()
        result.set_result(None)

    producer = asyncio.create_task(produce())
    try:
        await result
    finally:
        await asyncio.wait([producer])


async def steps_of_a_def(s: Stage) -> None:
    ready = asyncio.Event()

    async def produce() -> None:
        for name in s.order:
            s.act_now(name)
            await asyncio.sleep(0)
        ready.set()

    producer = asyncio.create_task(produce())
    await ready.wait()
    await producer


async def steps_in_a_thread(s: Stage) -> None:
    ready, loop = asyncio.Event(), asyncio.get_running_loop()

    def produce() -> None:
        for name in s.order:
            s.act_now(name)
        loop.call_soon_threadsafe(ready.set)

    producer = asyncio.create_task(asyncio.to_thread(produce))
    await ready.wait()
    await producer


async def branches(s: Stage) -> None:
    ready = asyncio.Event()

    async def produce() -> None:
        await s.all()
        ready.set()

    await aio.parallel(produce, ready.wait)


async def child(s: Stage) -> None:
    await made("child", event, s)


async def child_in_a_task(s: Stage) -> None:
    ready = asyncio.Event()

    async def produce() -> None:
        await made("child", event, s)
        ready.set()

    producer = asyncio.create_task(produce())
    await ready.wait()
    await producer


async def block(s: Stage) -> None:
    async with saga("block"):
        await event(s)


def made(name: str, body: Any, s: Stage, **options: Any) -> Any:
    @saga(name=name, **options)
    async def flow() -> None:
        await body(s)

    return flow()


BODIES = {
    body.__name__: body
    for body in (
        *(queue, queue_that_is_full, event, future, steps_of_a_def, steps_in_a_thread, branches),
        *(child, child_in_a_task, block),
    )
}


@pytest.fixture(params=BODIES)
def body(request):
    """Give each body in turn."""
    return BODIES[request.param]


def play(body: Any, s: Stage, runtime: Any) -> Any:
    """Run a body as a saga, which must end; return what its call raised."""

    async def main() -> Any:
        return await asyncio.wait_for(made("flow", body, s, key="k", runtime=runtime), LONG)

    with pytest.raises(SagaError) as caught:  # `TimeoutError`: it hangs
        asyncio.run(main())
    return caught.value


def mirrored(world: Any) -> bool:
    """Tell whether all that was done was compensated, and nothing more was done in between."""
    done = [effect for effect in world.effects if effect[0] != "-"]
    back = [effect[1:] for effect in world.effects if effect[0] == "-"]
    return world.effects[: len(done)] == done and sorted(back) == sorted(done)


def test_a_run_that_is_cancelled_compensates(body, stage, world, make_runtime):
    """The stop is met by the call that comes next, in a task that nobody awaits."""
    asked = []

    def ask() -> None:
        asked.append(make_runtime().find("flow/k").cancel())

    stage.meanwhile["b"] = ask
    assert isinstance(play(body, stage, make_runtime()), RunCancelledError)
    assert asked
    assert mirrored(world)
    (run,) = make_runtime().runs()
    assert (run.status, run.cause) == ("compensated", "cancel")


class Death(BaseException):
    """The end of a process, for a test."""


def die_in(name: str, body: Any, s: Stage, runtime: Any) -> None:
    """Have the process of a run die inside a step."""

    async def main() -> None:
        loop, reached = asyncio.get_running_loop(), asyncio.Event()
        loop.set_exception_handler(lambda *_: None)  # a death is told by nobody

        def dies() -> None:
            loop.call_soon_threadsafe(reached.set)
            raise Death

        s.meanwhile[name] = dies
        flow = asyncio.ensure_future(made("flow", body, s, key="k", runtime=runtime))
        await reached.wait()
        flow.cancel()
        await asyncio.wait([flow])

    asyncio.run(main())
    assert name not in s.meanwhile, "the death was reached"


def test_a_run_that_was_cut_off_and_compensates_binds_what_its_tasks_call(body, stage, world, make_runtime):
    """Its body runs as far as the record goes, in tasks; there the stop is met."""
    die_in("c", body, stage, make_runtime())
    before = set(world.effects)
    make_runtime().find("flow/k").cancel()
    assert isinstance(play(body, stage, make_runtime()), RunCancelledError)
    done = {effect for effect in world.effects if effect[0] != "-"}
    assert done == before
    assert {effect[1:] for effect in world.effects if effect[0] == "-"} == done
    assert make_runtime().find("flow/k").status == "compensated"


@pytest.mark.parametrize("body", [BODIES[name] for name in BODIES if name != "queue"], ids=lambda body: body.__name__)
def test_an_edited_step_is_told(body, stage, world, make_runtime):
    """The record says that another call comes, which is met in a task."""
    die_in("c", body, stage, make_runtime())
    before = world.effects
    stage.order = "Zbcd"
    assert isinstance(play(body, stage, make_runtime()), ReplayError)
    assert world == before
    assert make_runtime().find("flow/k").is_interrupted


def test_a_journal_that_cannot_be_written_is_told(body, stage, world, make_runtime, tmp_path):
    """Nothing is compensated, for nobody knows what is on record."""

    def breaks() -> None:
        with sqlite3.connect(tmp_path / "sagas.db") as other:
            other.execute("alter table entries rename to lost")
        other.close()

    stage.meanwhile["b"] = breaks
    assert isinstance(play(body, stage, make_runtime()), JournalError)
    assert "b" in world.effects
    assert not any(effect[0] == "-" for effect in world.effects)


def test_a_run_that_another_process_has_taken_is_lost(body, stage, world, make_runtime, tmp_path):
    """Its next entry collides, in whichever task that is written."""

    def rob() -> None:
        journal = SqliteJournal(tmp_path / "sagas.db")
        row = journal.runs(saga="flow")[0]
        taken = Entry(0, 0, Kind.TAKEN, 1, "", None, None, row.started, None, None, None, None)
        journal.append(Log(row.number, journal.entries(row.number)[-1].seq), taken, full=True)
        journal.close()

    stage.meanwhile["b"] = rob
    assert isinstance(play(body, stage, make_runtime()), RunLostError)
    assert not any(effect[0] == "-" for effect in world.effects)


# -- who is woken, and when --------------------------------------------------------------------------------------------


def cancels(make_runtime: Any) -> Any:
    """Return what cancels the run, as another process would."""
    return lambda: make_runtime().find("flow/k").cancel()


def test_what_is_under_way_has_its_outcome_first(stage, world, make_runtime):
    """Of two workers one meets the stop while the other is inside a step, which is not cut off by it."""
    inside, go_on = asyncio.Event(), asyncio.Event()

    @step(compensate=lambda: world.add("-slow"))
    async def slow() -> None:
        inside.set()
        await go_on.wait()
        world.add("slow")

    async def told() -> None:
        await inside.wait()
        try:
            await stage.all()
        finally:
            world.add("met")
            asyncio.get_running_loop().call_later(0.05, go_on.set)

    async def body(_: Stage) -> None:
        workers.extend((asyncio.create_task(slow()), asyncio.create_task(told())))
        await asyncio.Event().wait()

    workers: list[Any] = []
    stage.meanwhile["a"] = cancels(make_runtime)
    assert isinstance(play(body, stage, make_runtime()), RunCancelledError)
    assert world == ["a", "met", "slow", "-a", "-slow"]


def test_a_body_that_knows_of_the_stop_cleans_up_in_peace(stage, world, make_runtime):
    """It awaits who met the stop, and takes its time then."""

    async def body(s: Stage) -> None:
        try:
            await asyncio.gather(s.all(), asyncio.create_task(s.all()))
        finally:
            await asyncio.sleep(0.1)
            world.add("clean")

    stage.meanwhile["a"] = cancels(make_runtime)
    assert isinstance(play(body, stage, make_runtime()), RunCancelledError)
    assert "clean" in world.effects


def test_a_body_that_met_the_stop_itself_cleans_up_in_peace(stage, world, make_runtime):
    """What its tasks meet afterwards changes nothing."""

    async def body(s: Stage) -> None:
        try:
            await s.all()
        finally:
            other = asyncio.create_task(s.all())
            await asyncio.sleep(0.1)
            await asyncio.wait([other])
            world.add("clean")

    stage.meanwhile["a"] = cancels(make_runtime)
    assert isinstance(play(body, stage, make_runtime()), RunCancelledError)
    assert world == ["a", "clean", "-a"]


def test_a_body_that_is_woken_cleans_up_in_peace(stage, world, make_runtime):
    """It is cancelled once, and no step is entered on its way out."""

    async def body(s: Stage) -> None:
        producer = asyncio.create_task(s.all())
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.1)
            await asyncio.wait([producer])
            world.add("clean")

    stage.meanwhile["a"] = cancels(make_runtime)
    assert isinstance(play(body, stage, make_runtime()), RunCancelledError)
    assert world == ["a", "clean", "-a"]


def test_a_body_that_swallows_what_wakes_it_is_woken_again(stage, world, make_runtime, monkeypatch):
    """More seldom each time."""
    monkeypatch.setattr(waking, "GRACE", 0.01)

    async def body(s: Stage) -> None:
        producer = asyncio.create_task(s.all())
        for _ in range(3):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                world.add("swallowed")
        await asyncio.wait([producer])

    stage.meanwhile["a"] = cancels(make_runtime)
    assert isinstance(play(body, stage, make_runtime()), RunCancelledError)
    assert world == ["a", "swallowed", "swallowed", "swallowed", "-a"]


def test_a_body_that_goes_on_and_then_waits_for_ever_is_woken_too(stage, world, make_runtime, monkeypatch):
    """It has swallowed the stop that a call of its own met, and waits for a task that met it as well."""
    monkeypatch.setattr(waking, "GRACE", 0.01)

    async def body(s: Stage) -> None:
        try:
            await s.all()
        except BaseException:  # what a careless body does
            world.add("swallowed")
        await event(s)

    stage.meanwhile["a"] = cancels(make_runtime)
    assert isinstance(play(body, stage, make_runtime()), RunCancelledError)
    assert world == ["a", "swallowed", "-a"]


def test_the_innermost_body_is_woken_first(stage, world, make_runtime):
    """Then those around it, each once, where the stop out of that one does not reach them."""

    async def waits(name: str, inner: Any) -> None:
        other = asyncio.create_task(inner)
        try:
            await asyncio.Event().wait()
        finally:
            world.add(name)
            await asyncio.wait([other])

    async def innermost(s: Stage) -> None:
        await waits("innermost", s.all())

    async def middle(s: Stage) -> None:
        await waits("middle", made("innermost", innermost, s))

    async def body(s: Stage) -> None:
        await waits("outermost", made("middle", middle, s))

    stage.meanwhile["a"] = cancels(make_runtime)
    assert isinstance(play(body, stage, make_runtime()), RunCancelledError)
    assert world == ["a", "innermost", "middle", "outermost", "-a"]


def test_a_child_that_compensates_ends_and_its_parent_goes_on(stage, world, make_runtime):
    """Its body only runs to bind what it calls; that its parent waits is the parent's business."""
    died: list[bool] = []

    async def undo(name: str) -> None:
        if not died:
            died.append(True)
            raise Death
        world.add(f"-{name}")

    @step(compensate=undo)
    async def first(name: str) -> None:
        world.add(name)

    async def fails(s: Stage) -> None:
        ready = asyncio.Event()

        async def produce() -> None:
            await first("x")
            if not died:
                raise ValueError
            await s.act("never")

        producer = asyncio.create_task(produce())
        producer.add_done_callback(lambda _: None if died else ready.set())
        await ready.wait()
        await producer

    async def body(s: Stage) -> None:
        try:
            await made("child", fails, s)
        except ValueError:
            world.add("caught")
        await s.all()

    async def main() -> None:
        await asyncio.wait_for(made("flow", body, stage, key="k", runtime=make_runtime()), LONG)

    with pytest.raises(Death):
        asyncio.run(main())
    asyncio.run(main())
    assert world == ["x", "-x", "caught", "a", "b", "c", "d"]
    assert make_runtime().find("flow/k").status == "completed"


@pytest.mark.parametrize("what", ["pauses", "differs"])
def test_a_child_in_a_task_that_stops_the_run_wakes_who_waits_for_its_end(stage, world, make_runtime, what):
    """It pauses, as its saga says; or the record says that it was a step."""

    @step(compensate=None, name="inner")
    async def recorded() -> None:
        raise Death

    async def fails() -> None:
        await stage.act("a")
        raise ValueError("no")

    async def waits(inner: Any) -> None:
        other = asyncio.create_task(inner())
        await asyncio.Event().wait()
        await other

    async def body(_: Stage) -> None:
        if what == "differs":
            await stage.act("a")
        inner = saga(name="inner", on_failure="pause")(fails)
        if what == "differs" and not died:
            died.append(True)
            await recorded()
        await waits(inner)

    died: list[bool] = []
    if what == "differs":
        with pytest.raises(Death):
            asyncio.run(made("flow", body, stage, key="k", runtime=make_runtime()))
    wrong = play(body, stage, make_runtime())
    assert isinstance(wrong, ReplayError if what == "differs" else SuspendedError)
    assert world == ["a"]


def test_a_branch_that_cannot_record_its_end_wakes_those_that_wait_for_it(stage, world, make_runtime, tmp_path):
    """It calls no more steps: the stop is met where it is left."""

    async def produce() -> None:
        await stage.act("a")
        with sqlite3.connect(tmp_path / "sagas.db") as other:
            other.execute("alter table entries rename to lost")
        other.close()

    async def body(_: Stage) -> None:
        await aio.parallel(produce, asyncio.Event().wait)

    assert isinstance(play(body, stage, make_runtime()), JournalError)
    assert world == ["a"]


def test_without_being_woken_a_body_waits_for_ever(stage, make_runtime, monkeypatch):
    """So that these tests would notice: a hundred times the turns that it takes do not end it."""
    monkeypatch.setattr(waking.Waking, "look", lambda _: None)

    async def main() -> None:
        flow = asyncio.ensure_future(made("flow", event, stage, key="k", runtime=make_runtime()))
        for _ in range(100 * waking.TURNS):
            await asyncio.sleep(0)
        assert "a" not in stage.meanwhile
        assert not flow.done()
        flow.cancel()
        await asyncio.wait([flow])

    stage.meanwhile["a"] = cancels(make_runtime)
    asyncio.run(main())


def test_a_stop_met_in_a_thread_whose_loop_is_closed_wakes_nobody(stage, world, make_runtime):
    """Nobody is there who waits."""

    def produce() -> None:
        try:
            go_on.wait(LONG)
            stage.act_now("b")
        except BaseException as error:  # who looks after the thread
            met.append(error)

    async def body(s: Stage) -> None:
        threads.append(threading.Thread(target=copy_context().run, args=(produce,)))
        threads[0].start()
        await s.act("a")
        await asyncio.Event().wait()

    async def main() -> None:
        flows.append(asyncio.ensure_future(made("flow", body, stage, key="k", runtime=make_runtime())))
        await inside.wait()

    inside, go_on = asyncio.Event(), threading.Event()
    threads: list[threading.Thread] = []
    met: list[BaseException] = []
    flows: list[Any] = []
    stage.meanwhile["a"] = lambda: (cancels(make_runtime)(), inside.set())
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    go_on.set()
    threads[0].join()
    assert [type(each).__name__ for each in met] == ["Stop"]
    assert world == ["a"]
    loop.set_exception_handler(lambda *_: None)  # of the task that was left behind
    flows.clear()
    gc.collect()


# -- whose cancellation it is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "as it is woken", "in its cleanup"])
def test_a_cancellation_from_outside_comes_out_as_one(stage, world, make_runtime, when):
    """The run stays open or compensating, to go on; nobody takes a cancellation for done that was not."""

    async def main() -> None:
        flow = asyncio.ensure_future(made("flow", body, stage, key="k", runtime=make_runtime()))
        flows.append(flow)
        await asyncio.wait([flow], timeout=LONG)
        assert flow.done(), "it hangs"
        assert flow.cancelled()
        assert flow.cancelling() == 1

    async def produce(s: Stage) -> None:
        try:
            await s.all()
        finally:
            if when == "as it is woken":
                flows[0].cancel()

    async def body(s: Stage) -> None:
        if when == "before":
            flows[0].cancel()
        producer = asyncio.create_task(produce(s))
        try:
            await asyncio.Event().wait()
        finally:
            if when == "in its cleanup":
                flows[0].cancel()
            world.add("clean")
            await (asyncio.Event().wait() if when == "before" else asyncio.wait([producer]))

    flows: list[asyncio.Task[Any]] = []
    stage.meanwhile["a"] = cancels(make_runtime)
    asyncio.run(main())
    assert world.effects[-1] != "-a"
    assert make_runtime().find("flow/k").is_interrupted


def test_a_group_that_had_failed_earlier_is_no_cancellation_from_outside(stage, world, make_runtime):
    """Up to Python 3.12 it leaves a count behind."""

    async def body(s: Stage) -> None:
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
        await event(s)

    async def fails() -> None:
        raise ValueError

    stage.meanwhile["a"] = cancels(make_runtime)
    assert isinstance(play(body, stage, make_runtime()), RunCancelledError)
    assert world == ["a", "-a"]


def test_a_timeout_around_the_saga_counts_no_cancellation_of_ours(stage, make_runtime):
    """What woke the body was taken back."""

    async def main() -> None:
        with pytest.raises(RunCancelledError):
            async with asyncio.timeout(LONG):
                await made("flow", event, stage, key="k", runtime=make_runtime())
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    stage.meanwhile["a"] = cancels(make_runtime)
    asyncio.run(main())


# -- in another process ------------------------------------------------------------------------------------------------

PROGRAM = """
import asyncio, os, signal, sys
from sagadsl import saga, step

def note(effect):
    with open("world.txt", "a") as world:
        world.write(effect + "\\n")

async def release(name):
    note("-" + name)

@step(compensate=release)
async def fetch(name):
    note(name)
    if name == "c" and sys.argv[1:] == ["dies"]:
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "c" and sys.argv[1:] == ["waits"]:
        print("inside", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
    return name

@saga(key="k")
async def crawl():
    jobs, found = asyncio.Queue(), []

    async def worker():
        while True:
            found.append(await fetch(await jobs.get()))
            jobs.task_done()

    workers = [asyncio.create_task(worker()) for _ in range(2)]
    for name in "abcdef":
        jobs.put_nowait(name)
    await jobs.join()
    for each in workers:
        each.cancel()
    return found

if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(crawl(), 60))
"""


@pytest.fixture
def program(tmp_path):
    """Give what starts a program, and the command line, in a folder; a process that hangs is told by its end."""
    (tmp_path / "crawl.py").write_text(PROGRAM)
    given = os.environ | {"SAGADSL_DB": str(tmp_path / "crawl.db")}
    options = {"cwd": tmp_path, "env": given, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, *arguments], stderr=subprocess.PIPE, **options)

    return start


def test_a_killed_program_whose_workers_wait_at_a_queue_is_compensated(program, world):
    """By the command line, which runs its body again, as far as the record goes."""
    killed = program("crawl.py", "dies")
    killed.communicate(timeout=LONG)
    assert killed.returncode == -signal.SIGKILL
    done = set(world.effects)
    ended = program("-m", "sagadsl", "compensate", "--yes", "crawl/k", "--target", "crawl.py:crawl")
    out, err = ended.communicate(timeout=LONG)
    assert ended.returncode == 0, err
    assert "crawl/k is compensated" in out + err
    back = [effect[1:] for effect in world.effects if effect[0] == "-"]
    assert done | {"d"} >= set(back) >= done  # the other worker's intent may be on record
    assert len(world.effects) == len(done) + len(back)


def test_a_program_whose_workers_wait_at_a_queue_is_cancelled(program, world):
    """From another process, while it runs: it says so, compensates, and complains of nothing else."""
    running = program("crawl.py", "waits")
    assert running.stdout.readline() == "inside\n"
    asked = program("-m", "sagadsl", "cancel", "--yes", "crawl/k")
    out, err = asked.communicate(timeout=LONG)
    assert asked.returncode == 0, out + err
    _, err = running.communicate("go on\n", timeout=LONG)
    assert running.returncode == 1
    assert err.splitlines()[-1].startswith("note: ") or "RunCancelledError" in err
    assert "never retrieved" not in err
    assert mirrored(world)


# -- what nobody need hear of ------------------------------------------------------------------------------------------


def told_by_the_loop(stage: Stage, make_runtime: Any, body: Any) -> list[str]:
    """Run a body that is stopped; return what the event loop says of exceptions that nobody has looked at."""

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(repr(context["exception"])))
        with pytest.raises(SagaError):
            await asyncio.wait_for(made("flow", body, stage, key="k", runtime=make_runtime()), LONG)
        await asyncio.sleep(0)
        gc.collect()

    said: list[str] = []
    asyncio.run(main())
    return said


@pytest.mark.parametrize("body", [b for b in BODIES.values() if b is not steps_in_a_thread], ids=lambda b: b.__name__)
def test_a_task_that_ends_with_the_stop_is_not_complained_of(body, stage, make_runtime):
    """The saga's call says what became of its run. Of a thread nobody can tell which task awaits it."""
    stage.meanwhile["a"] = cancels(make_runtime)
    assert told_by_the_loop(stage, make_runtime, body) == []


def test_a_group_in_a_task_that_ends_with_the_stop_is_not_complained_of(stage, make_runtime):
    """It holds nothing else."""

    async def produce(s: Stage) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(s.all())
            await s.all()

    async def body(s: Stage) -> None:
        producer = asyncio.create_task(produce(s))
        await asyncio.Event().wait()
        await producer

    stage.meanwhile["a"] = cancels(make_runtime)
    assert told_by_the_loop(stage, make_runtime, body) == []


def test_what_else_a_task_ends_with_is_complained_of(stage, make_runtime):
    """Python says so, as ever."""

    async def produce(s: Stage) -> None:
        try:
            await s.all()
        finally:
            raise ValueError("own")

    async def body(s: Stage) -> None:
        producer = asyncio.create_task(produce(s))
        try:
            await asyncio.Event().wait()
        finally:
            del producer

    stage.meanwhile["a"] = cancels(make_runtime)
    assert told_by_the_loop(stage, make_runtime, body) == ["ValueError('own')"]


def test_a_step_that_comes_after_its_saga_has_completed_is_complained_of(stage, world, make_runtime):
    """It is not entered, and nobody else would say so."""

    async def late() -> None:
        await completed.wait()
        await stage.act("never")

    @saga(runtime=make_runtime())
    async def flow() -> None:
        left.append(asyncio.create_task(late()))
        await stage.act("a")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["exception"]))
        await flow()
        completed.set()
        await asyncio.wait(left)
        left.clear()
        gc.collect()

    completed = asyncio.Event()
    left: list[Any] = []
    said: list[BaseException] = []
    asyncio.run(main())
    assert [type(each).__name__ for each in said] == ["Stop"]
    assert world == ["a"]


def test_a_generator_that_cleans_up_with_a_step_when_its_saga_has_failed_is_not_complained_of(world, make_runtime):
    """It is closed by the event loop, in a task of its own, where the step is not entered."""

    @step(compensate=lambda name: world.add(f"-{name}"))
    async def act(name: str) -> None:
        world.add(name)

    async def pages() -> Any:
        try:
            for name in "ab":
                yield await act(name)
        finally:
            world.add("closed")
            closed.set()
            await act("never")

    @saga(runtime=make_runtime())
    async def flow() -> None:
        async for _ in pages():
            break
        raise ValueError("no")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(repr(context)))
        with pytest.raises(ValueError, match="no"):
            await flow()
        await closed.wait()
        for _ in range(3):
            await asyncio.sleep(0)
        gc.collect()

    said: list[str] = []
    closed = asyncio.Event()
    asyncio.run(main())
    assert said == []
    assert set(world.effects) == {"a", "-a", "closed"}
