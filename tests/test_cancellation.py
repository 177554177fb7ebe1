"""A cancellation that the body survives: the same branch is taken live and after a death at any later point.

Each case of the matrix is played once undisturbed. Then it is played again for every entry it wrote, with a process
that dies before or after that entry, and finished by a second process. What the body sees, how the saga ends, what
happened in the world and where the journal stands must be the same, and no step that has an outcome is entered again.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

import sagadsl
from sagadsl import Compensation, CompensationError, ReplayError, Retry, Runtime, saga, step
from sagadsl._core.journal.memory import MemoryJournal
from sagadsl._core.scope import cancelled
from sagadsl._core.scope.cancelled import cancellations
from sagadsl._core.values import Kind
from tests.properties.cancelling import Clockwork

SOON = 0.003
"""Seconds until a timeout of these tests comes. What it cuts off waits for ever, so its length decides nothing."""


def cut_in(journal: Any) -> bool:
    """Tell whether it is on record that a body survived a cancellation."""
    return any(entry.kind in {Kind.CANCELLED, Kind.LEFT} for entry in journal.entries(1))


class Death(BaseException):
    """The process is dead; nothing of it acts any more."""


@define(eq=False, repr=False)
class Mortal:
    """A journal whose process dies before or after its *dies_at*-th write: moments are counted in *moment*."""

    journal: Any
    dies_at: int = 0
    moment: int = 0
    dead: bool = False

    def tick(self) -> None:
        self.moment += 1
        self.dead = self.dead or self.moment == self.dies_at
        if self.dead:
            raise Death

    def append(self, log: Any, entry: Any, full: bool) -> None:
        self.tick()
        self.journal.append(log, entry, full)
        self.tick()

    def commit(self, log: Any, entries: Any, **how: Any) -> None:
        self.tick()
        self.journal.commit(log, entries, **how)
        self.tick()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.journal, name)


@define(eq=False, repr=False)
class Stage:
    """One process of a case: its steps, its body's trace, and what cancels it from outside."""

    effects: list[str]
    journal: Mortal
    fails: bool = False
    trace: list[str] = field(factory=list)
    limit: Any = None
    task: Any = None
    loop: Any = None
    is_resumed: bool = field(init=False)
    act: Any = field(init=False)
    slow: Any = field(init=False)
    look: Any = field(init=False)
    bad: Any = field(init=False)
    flaky: Any = field(init=False)
    late: Any = field(init=False)
    cross: Any = field(init=False)

    def __attrs_post_init__(self) -> None:  # the steps of all cases
        self.is_resumed = self.journal.journal.runs() != [] and cut_in(self.journal.journal)

        async def undo(name: str, result: str | None = None) -> None:
            self.add(f"-{name}")

        async def linger(name: str, result: str | None = None) -> None:
            await self.until_cancelled()
            self.add(f"-{name}")

        @step(compensate=undo)
        async def act(name: str) -> str:
            self.add(name)
            await asyncio.sleep(0)
            return name.upper()

        @step(compensate=undo)
        async def slow(name: str) -> str:
            self.add(name)
            await self.forever(name)
            return "never"

        @step(read_only=True)
        async def look(name: str) -> str:
            await self.forever(name)
            return "never"

        @step(compensate=None)
        async def bad(name: str) -> None:
            await asyncio.sleep(0)
            raise LookupError(name)

        @step(compensate=None, retries=Retry(5, wait=1000.0))
        async def flaky(name: str) -> None:
            self.add(f"?{name}")  # failed cleanly, each time
            raise ConnectionError(name)

        @step(compensate=undo)
        async def late(name: str) -> str:
            try:
                await self.forever(name)
            except asyncio.CancelledError:
                self.add(name)
            return "late"

        @step(compensate=undo, retries=3)
        async def cross(name: str) -> str:
            self.add(name)
            try:
                await self.forever(name)
            except asyncio.CancelledError:
                raise ConnectionError(name) from None
            return "never"

        self.act, self.slow, self.look, self.bad = act, slow, look, bad
        self.flaky, self.late, self.cross = flaky, late, cross
        self.lingering = act.using(compensate=linger)

    lingering: Any = field(init=False)

    def add(self, effect: str) -> None:
        """Have an effect, if this process lives."""
        if self.journal.dead:
            raise Death
        self.effects.append(effect)

    async def forever(self, name: str) -> None:
        """Wait until somebody cancels: a timeout, or for a name with ``!`` whoever is outside."""
        self.hurry()
        if name.endswith("!"):
            self.task.cancel()
        await asyncio.get_running_loop().create_future()

    def hurry(self) -> None:
        """Have the timeout come now, if there is one: there is something that it cuts off."""
        if self.limit is not None and not self.limit.expired():
            self.limit.reschedule(0)

    async def until_cancelled(self) -> None:
        """Go on until the timeout around has come, whoever else is shielded from it."""
        self.hurry()
        while self.limit is not None and not self.limit.expired():  # noqa: ASYNC110  # a timeout tells nobody
            await asyncio.sleep(0)

    def timeout(self) -> Any:
        """Return a timeout: where the record has somebody wait for it, it comes by itself."""
        self.limit = asyncio.timeout(SOON if self.is_resumed else None)
        return self.limit

    async def end(self) -> str:
        """End the body, well or not."""
        await self.act("z")
        if self.fails:
            raise ValueError("no")
        return " ".join(self.trace)


Body = Callable[[Stage], Awaitable[Any]]
CASES: dict[str, Body] = {}


def case(body: Body) -> Body:
    """Enter a body into the matrix."""
    CASES[body.__name__] = body
    return body


# -- what cuts off, and who catches it --------------------------------------------------------------------------------


@case
async def timeout_with_a_fallback(s: Stage) -> None:
    await s.act("a")
    try:
        async with s.timeout():
            await s.slow("b")
    except TimeoutError:
        s.trace.append("timeout")
        await s.act("c")


@case
async def timeout_around_several_steps(s: Stage) -> None:
    try:
        async with s.timeout():
            await s.act("a")
            s.trace.append(await s.act("b"))
            await s.slow("c")
            await s.act("never")
    except TimeoutError:
        s.trace.append("timeout")


@case
async def wait_for_with_a_fallback(s: Stage) -> None:
    try:
        await asyncio.wait_for(s.slow("b"), 3 * SOON)
    except TimeoutError:
        s.trace.append(await s.act("c"))


@case
async def timeout_not_caught(s: Stage) -> None:
    await s.act("a")
    async with s.timeout():
        await s.slow("b")


@case
async def siblings_failure_in_a_group(s: Stage) -> None:
    await s.act("a")
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(s.slow("b"))
            group.create_task(s.bad("c"))
    except* LookupError:
        s.trace.append("sibling")
    await s.act("d")


@case
async def siblings_failure_not_caught(s: Stage) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(s.slow("a"))
        group.create_task(s.bad("b"))


@case
async def cancelled_task_of_the_bodys_own(s: Stage) -> None:
    task = asyncio.create_task(s.slow("a"))
    await s.act("b")
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        s.trace.append("cancelled")
    await s.act("c")


@case
async def cancelled_from_outside_and_caught(s: Stage) -> None:
    try:
        await s.slow("a!")
    except asyncio.CancelledError:
        s.trace.append("outside")
    await s.act("b")


@case
async def cancelled_from_outside_and_then_by_a_timeout(s: Stage) -> None:
    try:
        await s.slow("a!")
    except asyncio.CancelledError:
        s.trace.append("outside")
    await s.act("b")
    try:
        async with s.timeout():
            await s.slow("c")
    except TimeoutError:
        s.trace.append("timeout")
    await s.act("d")


@case
async def cancelled_from_outside_around_branches(s: Stage) -> None:
    try:
        await asyncio.gather(s.slow("a"), s.slow("b!"))
    except asyncio.CancelledError:
        s.trace.append("outside")
    await s.act("c")


@case
async def cancelled_twice(s: Stage) -> None:
    try:
        async with asyncio.timeout(None) as second:
            try:
                async with s.timeout():
                    await s.slow("a")
            except TimeoutError:
                s.trace.append("first")
                second.reschedule(s.loop.time() + SOON)
                await s.slow("b")
    except TimeoutError:
        s.trace.append("second")
    await s.act("c")


# -- where it is cut off ----------------------------------------------------------------------------------------------


@case
async def in_a_look(s: Stage) -> None:
    try:
        async with s.timeout():
            await s.look("a")
    except TimeoutError:
        s.trace.append(await s.act("b"))


@case
async def between_two_attempts(s: Stage) -> None:
    try:
        async with s.timeout():
            await s.flaky("a")
    except TimeoutError:
        s.trace.append(await s.act("b"))


@case
async def in_the_body_between_steps(s: Stage) -> None:
    try:
        async with s.timeout():
            await s.act("a")
            await s.forever("")
    except TimeoutError:
        s.trace.append(await s.act("b"))


@case
async def in_a_child(s: Stage) -> None:
    @saga
    async def child() -> None:
        await s.act("b")
        await s.slow("c")

    await s.act("a")
    try:
        async with s.timeout():
            await child()
    except TimeoutError:
        s.trace.append(await s.act("d"))


@case
async def in_the_body_of_a_child_that_is_faster_on_replay(s: Stage) -> None:
    at_work = not s.journal.journal.runs()

    @saga
    async def child() -> None:
        await s.act("a")
        if at_work:  # the first process needs too long for what comes next
            await s.forever("")
        await s.act("more")

    with_timeout = s.timeout()
    try:
        async with with_timeout:
            await child()
    except TimeoutError:
        s.trace.append(await s.act("b"))


@case
async def in_branches_that_are_faster_on_replay(s: Stage) -> None:
    at_work = not s.journal.journal.runs()

    async def branch(name: str) -> None:
        await s.act(name)
        if at_work:
            await s.forever("")
        if name == "a":
            await s.act("more")

    with_timeout = s.timeout()
    try:
        async with with_timeout:
            await sagadsl.aio.parallel(lambda: branch("a"), lambda: branch("b"))
    except TimeoutError:
        s.trace.append(await s.act("c"))


@case
async def in_a_grandchild(s: Stage) -> None:
    @saga
    async def inner() -> None:
        await s.slow("a")

    @saga
    async def outer() -> None:
        await inner()
        await s.act("never")

    try:
        await asyncio.wait_for(outer(), 3 * SOON)
    except TimeoutError:
        s.trace.append(await s.act("b"))


@case
async def in_a_child_that_compensates(s: Stage) -> None:
    @saga
    async def child() -> None:
        await s.lingering("b")
        await s.bad("c")

    await s.act("a")
    try:
        async with s.timeout():
            await child()
    except (TimeoutError, LookupError) as error:
        s.trace.append(type(error).__name__)
    await s.act(f"d-{s.trace[-1]}")


@case
async def in_a_child_whose_sibling_fails_while_it_compensates(s: Stage) -> None:
    failed = asyncio.Event()

    @saga
    async def child() -> None:
        await s.act.using(compensate=until(failed))("b")
        await s.bad("c")

    def until(event: asyncio.Event) -> Any:
        async def undo(name: str, result: str | None = None) -> None:
            await event.wait()
            for _ in range(5):
                await asyncio.sleep(0)
            s.add(f"-{name}")

        return undo

    async def sibling() -> None:
        while not any(e.kind is Kind.COMPENSATION_INTENT for e in s.journal.journal.entries(1)):  # noqa: ASYNC110
            await asyncio.sleep(0)
        failed.set()
        raise KeyError("sibling")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
            group.create_task(sibling())
    except* (KeyError, LookupError) as errors:
        s.trace.append("+".join(sorted(type(e).__name__ for e in errors.exceptions)))
    await s.act(f"d-{s.trace[-1]}")


# -- what a step makes of it ------------------------------------------------------------------------------------------


@case
async def swallowed_and_late(s: Stage) -> None:
    try:
        async with s.timeout():
            s.trace.append(await s.late("a"))
    except TimeoutError:
        s.trace.append("timeout")
    await s.act("b")


@case
async def turned_into_another_exception(s: Stage) -> None:
    try:
        async with s.timeout():
            await s.cross("a")
    except TimeoutError:
        s.trace.append("timeout")
    except ConnectionError:
        s.trace.append("connection")
    await s.act("b")


@case
async def raised_by_the_step_itself(s: Stage) -> None:
    @step(compensate=lambda: s.add("-own"))
    async def own() -> None:
        s.add("own")
        inner = asyncio.ensure_future(s.forever(""))
        inner.cancel()
        await inner

    try:
        await own()
    except asyncio.CancelledError:
        s.trace.append("own")
    await s.act("b")


@case
async def shielded_step_in_a_child(s: Stage) -> None:
    @step(compensate=lambda name: s.add(f"-{name}"))
    async def long(name: str) -> str:
        await s.until_cancelled()
        s.add(name)
        return name

    @saga
    async def child() -> None:
        await asyncio.shield(long("a"))
        await s.act("never")

    try:
        async with s.timeout():
            await child()
    except TimeoutError:
        s.trace.append(await s.act("b"))


@case
async def step_in_a_thread_of_a_child(s: Stage) -> None:
    released = threading.Event()

    @step(compensate=lambda name: s.add(f"-{name}"))
    def long(name: str) -> str:
        s.loop.call_soon_threadsafe(s.hurry)
        released.wait(30)
        s.add(name)
        return name

    @saga
    async def child() -> None:
        await asyncio.to_thread(long, "a")
        await s.act("never")

    try:
        async with s.timeout():
            await child()
    except TimeoutError:
        released.set()
        s.trace.append(await s.act("b"))


# -- playing them -----------------------------------------------------------------------------------------------------


@define(eq=False, repr=False)
class Played:
    """What one process made of a case."""

    stage: Stage
    outcome: Any


def play(body: Body, journal: Any, effects: list[str], dies_at: int, fails: bool) -> Played:
    """Play a case in a process of its own."""
    mortal = Mortal(journal, dies_at)
    stage = Stage(effects, mortal, fails)
    for row in journal.runs():
        journal.release(row.number)

    async def asleep(seconds: float) -> None:
        if seconds:  # between two attempts
            stage.hurry()
        await asyncio.sleep(seconds)

    @saga(key="k", name="flow", runtime=Runtime(mortal, jitter=lambda: 0.0, asleep=asleep))
    async def flow() -> str:
        await body(stage)
        return await stage.end()

    async def main() -> Any:
        stage.loop = asyncio.get_running_loop()
        stage.task = asyncio.ensure_future(flow())
        return await stage.task

    try:
        outcome: Any = asyncio.run(asyncio.wait_for(main(), 20))
    except (Exception, asyncio.CancelledError) as error:
        outcome = (type(error), [type(e) for e in getattr(error, "exceptions", ())])
    except Death:
        outcome = None
    return Played(stage, outcome)


def statuses(journal: Any) -> list[tuple[str, str]]:
    return [(s.key, s.status) for s in Runtime(journal).find("flow/k").steps]


def entered_again(journal: Any) -> list[str]:
    """Return the steps that were entered though they had an outcome."""
    ended: set[str] = set()
    again = []
    for entry in journal.entries(1):
        if entry.kind is Kind.INTENT and entry.step in ended:
            again.append(entry.step)
        if entry.kind in {Kind.DONE, Kind.FAILED, Kind.UNCERTAIN, Kind.CANCELLED}:
            ended.add(entry.step)
    return again


EITHER = {
    "in_a_child_that_compensates": [["LookupError"]],
    "in_a_child_whose_sibling_fails_while_it_compensates": [["LookupError"], ["KeyError+LookupError"]],
    "in_branches_that_are_faster_on_replay": [[]],
    "in_the_body_of_a_child_that_is_faster_on_replay": [[]],
    "shielded_step_in_a_child": [[]],
    "step_in_a_thread_of_a_child": [[]],
}
"""What a body sees where a process died before it was on record that the body survived: nothing contradicts it."""


@pytest.mark.parametrize("fails", [False, True], ids=["ends", "fails"])
@pytest.mark.parametrize("name", CASES)
def test_the_same_branch_is_taken_after_a_death_at_any_later_point(name, fails, monkeypatch):
    """And what the first process has on record is never entered again."""
    if "outside" in name:  # who came from there is not waited for long
        monkeypatch.setattr(cancelled, "MARGIN", 0.1)
    body = CASES[name]
    journal, effects = MemoryJournal(), []
    whole = play(body, journal, effects, 0, fails)
    assert whole.outcome is not None
    assert whole.stage.trace or "not_caught" in name, "the cancellation was reached"
    assert cut_in(journal) or "faster" not in name, "what more there is to do next time would be done"
    assert entered_again(journal) == []
    if fails or "not_caught" in name:
        assert Runtime(journal).find("flow/k").status == "compensated"
        done = {effect for effect in effects if effect[0] not in "-?"}
        assert {effect[1:] for effect in effects if effect.startswith("-")} == done
    same = 0
    for at in range(1, whole.stage.journal.moment + 1):
        died, happened = MemoryJournal(), []
        first = play(body, died, happened, at, fails)
        assert first.outcome is None, "the death was reached"
        before = str(Runtime(died).find("flow/k").status) if died.runs() else ""
        if before == "compensated":  # calling it is another generation's business
            continue
        second = play(body, died, happened, 0, fails)
        where = [str(entry.kind) for entry in died.entries(1)]
        assert entered_again(died) == [], where
        if name in EITHER and not second.stage.is_resumed:
            assert second.stage.trace in (whole.stage.trace, *EITHER[name]), where
            continue
        same += second.stage.is_resumed
        assert second.outcome == whole.outcome, where
        assert before == "completed" or second.stage.trace == whole.stage.trace, where
        assert sorted(statuses(died)) == sorted(statuses(journal)), where
        assert set(happened) == set(effects), where
    assert same or not cut_in(journal), "a death came while the cancellation was on record"


# -- for good ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def act(world):
    """Give a step that has an effect and can take it back."""

    @step(compensate=lambda name: world.add(f"-{name}"), name="act")
    async def act(name: str) -> str:
        world.add(name)
        return name

    return act


async def cancelled_when(event: asyncio.Event, *coroutines: Any) -> list[Any]:
    """Run coroutines, cancel them when told, and return what came of each."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    told = asyncio.ensure_future(event.wait())
    await asyncio.wait([told, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in (told, *tasks):
        task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_a_task_cancelled_for_good_leaves_its_run_resumable(make_runtime, act, world):
    """Nothing is compensated, and the step that was cut off is entered again."""

    @step(compensate=None)
    async def slow(first: bool) -> None:
        world.add("slow")
        if sagadsl.current().attempt == 1:
            reached.set()
            await asyncio.get_running_loop().create_future()

    @saga(key="k")
    async def flow() -> str:
        await act("a")
        await slow(True)
        return await act("b")

    async def main() -> None:
        nonlocal reached
        reached = asyncio.Event()
        ended = await cancelled_when(reached, flow.using(runtime=make_runtime())())
        assert isinstance(ended[0], asyncio.CancelledError)
        assert make_runtime().find("flow/k").is_interrupted
        assert await flow.using(runtime=make_runtime())() == "b"

    reached: asyncio.Event
    asyncio.run(main())
    assert world == ["a", "slow", "slow", "b"]


def test_cancelled_again_and_again_while_it_compensates_it_ends_and_then_lets_go(make_runtime, world):
    """A second and a third cancellation find the shield as whole as the first."""

    async def undo(name: str) -> None:
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
        world.add(f"-{name}")

    @step(compensate=undo)
    async def act(name: str) -> None:
        world.add(name)

    @saga(key="k", runtime=make_runtime())
    async def flow() -> None:
        await act("a")
        await act("b")
        raise ValueError("no")

    async def main() -> None:
        nonlocal task
        task = asyncio.ensure_future(flow())
        await task

    task: asyncio.Future[None]
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert world == ["a", "b", "-b", "-a"]
    assert make_runtime().find("flow/k").status == "compensated"


def test_a_compensation_that_fails_under_a_cancellation_is_told_of(make_runtime, world):
    """That a person must act is worth more than that somebody was in a hurry."""

    async def undo() -> None:
        task.cancel()
        raise OSError("disk")

    @step(compensate=Compensation(undo, retries=0))
    async def act() -> None:
        world.add("a")

    @saga(key="k", runtime=make_runtime())
    async def flow() -> None:
        await act()
        raise ValueError("no")

    async def main() -> None:
        nonlocal task
        task = asyncio.ensure_future(flow())
        await task

    task: asyncio.Future[None]
    with pytest.raises(CompensationError, match="disk"):
        asyncio.run(main())
    assert make_runtime().find("flow/k").status == "compensation_failed"


def test_a_step_in_a_thread_ends_on_record_before_the_cancellation_comes_out(make_runtime, act, world):
    """Then the run goes on in the same loop, with what the thread returned; cancelling twice changes nothing."""
    inside, leave = threading.Event(), threading.Event()

    @step(compensate=lambda: world.add("-long"))
    def long() -> str:
        inside.set()
        leave.wait(30)
        world.add("long")
        return "late"

    @saga(key="k")
    async def flow() -> str:
        value = await asyncio.to_thread(long)
        return value + await act("b")

    async def main() -> None:
        task = asyncio.ensure_future(flow.using(runtime=make_runtime())())
        await asyncio.to_thread(inside.wait, 30)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert not task.done()
        with pytest.raises(sagadsl.RunLockedError):
            await flow.using(runtime=make_runtime())()
        leave.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [(s.key, s.status) for s in make_runtime().find("flow/k").steps] == [("long", "done")]
        assert await flow.using(runtime=make_runtime())() == "lateb"

    asyncio.run(main())
    assert world == ["long", "b"]


def test_a_failure_waits_for_a_step_in_a_thread_that_a_timeout_left_behind(make_runtime, act, world):
    """Its outcome is recorded, and it is compensated with it, in its place."""
    inside, leave = threading.Event(), threading.Event()

    @step(compensate=lambda result: world.add(f"-{result}"))
    def long() -> str:
        inside.set()
        leave.wait(30)
        world.add("long")
        return "late"

    @saga(key="k", runtime=make_runtime())
    async def flow() -> None:
        await act("a")
        try:
            async with asyncio.timeout(None) as limit:
                asyncio.get_running_loop().call_soon(limit.reschedule, 0)
                await asyncio.to_thread(long)
        except TimeoutError:
            await act("b")
        threading.Timer(0.02, leave.set).start()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(flow())
    assert inside.is_set()
    assert world == ["a", "b", "long", "-b", "-late", "-a"]


def test_what_a_timeout_left_behind_in_a_roots_own_body_is_a_loud_difference(make_runtime, act, world):
    """Nobody sees that the value was not waited for: no timeout comes on replay. In a child of its own it does."""

    @step(compensate=None)
    async def long() -> str:
        while not limits[-1].expired():  # noqa: ASYNC110
            await asyncio.sleep(0)
        return "late"

    @step(compensate=None)
    async def cut() -> None:
        if sagadsl.current().attempt == 1:
            raise Death

    @saga(key="k")
    async def flow() -> str:
        try:
            async with asyncio.timeout(None) as limit:
                limits.append(limit)
                if len(limits) == 1:  # the second process is faster than any timeout
                    limit.reschedule(0)
                task = asyncio.ensure_future(long())
                await asyncio.shield(task)
        except TimeoutError:
            await act("b")
        await task
        await cut()
        return "ok"

    limits: list[Any] = []
    with pytest.raises(Death):
        asyncio.run(flow.using(runtime=make_runtime())())
    with pytest.raises(ReplayError, match="the code and the journal differ"):
        asyncio.run(flow.using(runtime=make_runtime())())
    assert world == ["b"]


def test_what_is_left_running_does_nothing_more_once_the_run_was_cut_off(make_runtime, act, world):
    """A task that nobody cancelled finds the saga closed, whatever it calls next."""
    inside, leave = [], []

    @step(compensate=None)
    async def wait() -> None:
        inside[0].set()
        await leave[0].wait()
        world.add("waited")

    async def branch() -> None:
        await wait()
        await act("never")

    @saga(key="k", runtime=make_runtime())
    async def flow() -> None:
        branches.append(asyncio.ensure_future(branch()))
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        inside.append(asyncio.Event())
        leave.append(asyncio.Event())
        await cancelled_when(inside[0], flow())
        with pytest.raises(sagadsl.RunLockedError):
            await flow.using(runtime=make_runtime())()
        leave[0].set()
        await asyncio.wait(branches)
        assert isinstance(branches[0].exception(), BaseException)
        assert not make_runtime().find("flow/k").is_live

    branches: list[asyncio.Task[None]] = []
    asyncio.run(main())
    assert world == ["waited"]


def test_a_ctrl_c_in_the_compensation_of_a_child_stops_the_run_whoever_catches_it(make_runtime, world):
    """What is half compensated is compensated to its end before anything else; nothing is lost by going on."""
    pressed = [True]

    def undo(name: str) -> None:
        if pressed:
            raise KeyboardInterrupt
        world.add(f"-{name}")

    @step(compensate=undo)
    def act(name: str) -> None:
        world.add(name)

    @saga
    def child() -> None:
        act("b")
        raise ValueError("no")

    @saga(key="k")
    def flow() -> None:
        act("a")
        try:
            child()
        except (KeyboardInterrupt, ValueError):
            world.add("caught")
        act("c")

    with pytest.raises(KeyboardInterrupt):
        flow.using(runtime=make_runtime())()
    pressed.clear()
    flow.using(runtime=make_runtime())()
    assert world == ["a", "b", "caught", "-b", "caught", "c"]
    assert make_runtime().find("flow/k").status == "completed"


@pytest.mark.parametrize("between", [False, True])
def test_a_ctrl_c_in_a_child_that_the_body_survived_comes_again(colour, make_runtime, world, between):
    """In a step or between two: the other branch is not taken because nobody presses the second time."""
    pressed = [True]

    @colour.step(compensate=lambda name: world.add(f"-{name}"), name="act")
    def act(name: str) -> str:
        world.add(name)
        if name == "b" and not between:
            raise KeyboardInterrupt
        return name

    @colour.saga(name="child")
    def child():
        yield act("a")
        if between and pressed:
            raise KeyboardInterrupt
        yield act("b")

    @colour.step(compensate=None)
    def cut() -> None:
        if sagadsl.current().attempt == 1:
            raise Death

    @colour.saga(key="k", name="flow")
    def flow():
        survived = False
        try:
            yield child()
        except KeyboardInterrupt:
            survived = True
        yield act("c" if survived else "d")
        yield cut()

    with pytest.raises(Death):
        colour.call(flow.using(runtime=make_runtime()))
    pressed.clear()
    colour.call(flow.using(runtime=make_runtime()))
    assert world == (["a", "c"] if between else ["a", "b", "c"])


def test_a_child_that_is_cut_off_is_compensated_with_its_parent_also_after_a_death(make_runtime, world):
    """Its functions live only in the body, which takes the same way once more in order to bind them."""
    dies = [True]

    @saga(key="k")
    async def flow() -> None:
        async def undo(name: str) -> None:
            if name == "b" and dies:
                raise Death
            world.add(f"-{name}")

        @step(compensate=undo)
        async def act(name: str) -> None:
            world.add(name)

        @saga
        async def child() -> None:
            await act("b")
            await asyncio.get_running_loop().create_future()

        await act("a")
        try:
            async with asyncio.timeout(SOON):
                await child()
        except TimeoutError:
            await act("c")
        raise ValueError("no")

    with pytest.raises(Death):
        asyncio.run(flow.using(runtime=make_runtime())())
    dies.clear()
    with pytest.raises(ValueError, match="no"):
        asyncio.run(flow.using(runtime=make_runtime())())
    assert world == ["a", "b", "c", "-c", "-b", "-a"]


def test_a_read_only_step_that_a_pause_had_entered_again_stands(colour, make_runtime, world):
    """What it gave the second time is what every later process gets."""

    @colour.step(read_only=True)
    def look() -> str:
        world.add("look")
        if len(world.effects) == 1:
            raise ConnectionError("down")
        return f"seen{len(world.effects)}"

    @colour.step(compensate=None)
    def cut() -> None:
        if sagadsl.current().attempt == 1:
            raise Death

    @colour.saga(key="k", on_failure="pause", name="flow")
    def flow():
        seen = yield look()
        yield cut()
        return seen

    with pytest.raises(sagadsl.SuspendedError):
        colour.call(flow.using(runtime=make_runtime()))
    with pytest.raises(Death):
        colour.call(flow.using(runtime=make_runtime()))
    assert colour.call(flow.using(runtime=make_runtime())) == "seen2"
    assert world == ["look", "look"]


def test_an_interruption_that_the_program_cannot_read_is_no_failure(make_runtime, world, monkeypatch):
    """The run stays open, and says what is missing."""

    @step(compensate=None)
    def slow() -> None:
        raise KeyboardInterrupt(sagadsl.Fault("a:B", "c"))

    @step(compensate=None)
    def cut() -> None:
        raise Death

    @saga(key="k")
    def flow() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            slow()
        cut()

    with pytest.raises(Death):
        flow.using(runtime=make_runtime())()
    runtime = make_runtime()
    decode = runtime.codec.decode

    def refuse(text: str) -> Any:
        if "$fault" in text:
            raise ValueError("no such class")
        return decode(text)

    monkeypatch.setattr(runtime.codec, "decode", refuse)
    with pytest.raises(sagadsl.JournalError, match="what slow gave cannot be read: no such class"):
        flow.using(runtime=runtime)()


def test_a_child_called_in_the_context_of_a_saga_that_has_ended_is_refused(make_runtime, world):
    """A context outlives its saga; the saga does not."""
    kept = []

    @saga
    def inner() -> None:
        world.add("never")

    @saga
    def child() -> None:
        kept.append(contextvars.copy_context())

    @saga(runtime=make_runtime())
    def flow() -> None:
        child()
        kept[0].run(inner)

    with pytest.raises(RuntimeError, match="no further step of it starts"):
        flow()
    assert world == []


def test_what_was_cut_off_beside_others_may_be_cut_off_before_it_is_called(world, make_runtime):
    """Where branches come in another order this time, the failing one may be faster than what it had cut off."""
    turns, cut = {"fail": 5, "hang": 1}, [True]

    @sagadsl.step(name="hang")
    async def hang() -> None:
        world.add("hang")
        await asyncio.Event().wait()

    @sagadsl.step(name="fail")
    def fail() -> None:
        world.add("fail")
        raise ValueError("no")

    @sagadsl.step(name="note")
    def note() -> None:
        world.add("note")

    async def after(name, call):
        for _ in range(turns[name]):
            await asyncio.sleep(0)
        return await call() if name == "hang" else call()

    @sagadsl.saga(key="1")
    async def flow():
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(after("hang", hang))
                group.create_task(after("fail", fail))
        except* ValueError:
            note()
        if cut:
            cut.pop()
            raise KeyboardInterrupt
        return "end"

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(flow.using(runtime=make_runtime())())
    turns.update(fail=1, hang=5)
    assert asyncio.run(flow.using(runtime=make_runtime())()) == "end"
    assert world == ["hang", "fail", "note"]


def test_a_branch_goes_on_after_its_timeout_while_others_wait(make_runtime, world):
    """For what it does next, here: only what was cut off has to have ended."""

    @step(compensate=None)
    async def wait(name: str) -> None:
        world.add(name)
        if name == "short":
            limit.reschedule(0)
        await gone_on.wait()

    @step(compensate=None)
    async def go_on() -> None:
        gone_on.set()

    async def branch() -> None:
        nonlocal limit
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as limit:
                await wait("short")
        await go_on()

    @saga(key="k", runtime=make_runtime())
    async def trip() -> None:
        nonlocal gone_on
        gone_on = asyncio.Event()
        await asyncio.gather(wait("long"), branch())

    gone_on: asyncio.Event
    limit: asyncio.Timeout
    asyncio.run(asyncio.wait_for(trip(), 10))
    assert world == ["long", "short"]


def test_a_step_after_a_group_that_failed_is_retried_as_any_other(make_runtime, world):
    """Up to Python 3.12 such a group leaves its task counted as cancelled: no cancellation of what comes later."""

    @step(compensate=None)
    async def member(fails: bool) -> None:
        if fails:
            raise ValueError
        await asyncio.Event().wait()

    @step(compensate=None, retries=1)
    async def flaky() -> str:
        world.add("flaky")
        if world.effects.count("flaky") == 1:
            raise OSError
        return "done"

    @saga
    async def trip() -> str:
        with contextlib.suppress(BaseExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(member(True))
                group.create_task(member(False))
        return await flaky()

    runtime = make_runtime()
    assert asyncio.run(trip.using(runtime=runtime)()) == "done"
    assert world == ["flaky", "flaky"]
    assert runtime.runs()[0].steps[-1].attempts == 2


@pytest.mark.parametrize("body", ["saga", "block"])
@pytest.mark.parametrize("what", ["step", "child", "block"])
def test_what_a_timeout_cut_off_after_a_group_that_failed_comes_again(what, body, make_runtime, world):
    """What such a group leaves behind in the body's task is not taken for a cancellation that nobody took back."""

    @step(compensate=None)
    async def wait(name: str) -> None:
        await asyncio.Event().wait()

    @saga
    async def child(name: str) -> None:
        await wait(name)

    async def block(name: str) -> None:
        async with saga(name):
            await wait(name)

    @step(compensate=None)
    async def fail() -> None:
        raise ValueError

    @step(compensate=None)
    async def last() -> str:
        world.add("last")
        if len(world.effects) == 1:
            raise Death
        return "done"

    async def trip() -> str:
        with contextlib.suppress(BaseExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                group.create_task(wait("member"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SOON):
                cut_off = {"step": wait, "child": child, "block": block}[what]
                await asyncio.gather(cut_off("one"), cut_off("other"))
        return await last()

    async def in_block() -> str:
        async with saga("trip", key="k", runtime=runtime):
            return await trip()

    runtime = make_runtime()
    called = in_block if body == "block" else saga(key="k", runtime=runtime)(trip)
    with pytest.raises(Death):
        asyncio.run(called())
    assert asyncio.run(called()) == "done"
    assert world == ["last", "last"]


@pytest.mark.parametrize("next_in", ["the body", "a task"])
@pytest.mark.parametrize("what", ["step", "child"])
def test_what_a_cancellation_cut_off_that_the_body_swallowed_comes_by_itself(next_in, what, make_runtime, world):
    """Who brought it is not there any more; in whichever task the next step is called."""

    @step(compensate=None)
    async def wait(name: str) -> None:
        waiting.set()
        await asyncio.Event().wait()

    @saga
    async def child(name: str) -> None:
        await wait(name)

    @step(compensate=None)
    async def last() -> str:
        world.add("last")
        if len(world.effects) == 1:
            raise Death
        return "done"

    async def swallowing(name: str) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await {"step": wait, "child": child}[what](name)

    @saga(key="k", runtime=make_runtime())
    async def trip() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(swallowing("one"), swallowing("other"))
        if next_in == "the body":
            return await last()
        return (await asyncio.gather(last()))[0]

    async def cancelled() -> None:
        nonlocal waiting
        waiting = asyncio.Event()
        running = asyncio.ensure_future(trip())
        await waiting.wait()
        running.cancel()
        await running

    async def resumed() -> str:
        ended, _ = await asyncio.wait({asyncio.ensure_future(trip())}, timeout=10)
        return ended.pop().result() if ended else "it waits for somebody"

    waiting = None
    with pytest.raises(Death):
        asyncio.run(cancelled())
    assert asyncio.run(resumed()) == "done"
    assert world == ["last", "last"]


@pytest.mark.parametrize("what", ["step", "child"])
@pytest.mark.parametrize("how", ["awaited", "gathered"])
@pytest.mark.parametrize("kept", ["a cancellation of the body", "a group of the body", "a group of the task"])
def test_what_a_timeout_cut_off_in_a_task_comes_again_whatever_else_is_kept(what, how, kept, make_runtime, world):
    """Each task's cancellations are its own: one that the body's task keeps says nothing of one that another's lost."""

    @step(compensate=None)
    async def wait() -> None:
        ready.set()
        await asyncio.Event().wait()

    @saga
    async def child() -> None:
        await wait()

    @step(compensate=None)
    async def last() -> str:
        world.add("last")
        if len(world.effects) == 1:
            raise Death
        return "done"

    async def fail() -> None:
        raise ValueError

    async def failing_group() -> None:
        with contextlib.suppress(BaseExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                group.create_task(asyncio.Event().wait())

    async def work() -> str:
        if kept == "a group of the task":
            await failing_group()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as limit:
                limits.append(limit)
                called = {"step": wait, "child": child}[what]()
                await (called if how == "awaited" else asyncio.gather(called))
        return await last()

    @saga(key="k", runtime=make_runtime())
    async def trip() -> str:
        task = asyncio.ensure_future(work())
        await asyncio.wait({asyncio.ensure_future(ready.wait()), task}, return_when=asyncio.FIRST_COMPLETED)
        if kept == "a cancellation of the body" and not world.effects:
            asyncio.current_task().cancel()  # from outside, in the first life alone
        if kept == "a group of the body":
            await failing_group()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        limits[-1].reschedule(0)
        return await task

    async def life() -> str:
        nonlocal ready
        ready = asyncio.Event()
        limits.clear()
        running = asyncio.ensure_future(trip())
        if world.effects:  # what is on record does not say that it waits
            asyncio.get_running_loop().call_later(SOON, ready.set)
        ended, _ = await asyncio.wait({running}, timeout=10)
        return ended.pop().result() if ended else "it waits for somebody"

    ready, limits = None, []
    with pytest.raises(Death), asyncio.Runner(loop_factory=Clockwork) as first:
        first.run(life())
    with asyncio.Runner(loop_factory=Clockwork) as second:
        assert second.run(life()) == "done"
    assert world == ["last", "last"]


def test_where_no_loop_runs_nobody_is_cancelled():
    """What a closed loop leaves is collected there, and asks."""
    assert cancellations() == 0


def test_who_waits_long_for_a_cancellation_says_so_before(make_runtime, caplog):
    """Somebody cancelled it from outside after a minute, which the body survived, and nobody does so again."""
    effects = []

    @step(compensate=None)
    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    @step(compensate=None)
    async def go_on() -> None:
        effects.append("on")
        if len(effects) == 1:
            raise Death

    @saga(name="trip", key="k")
    async def trip() -> str:
        try:
            await hang()
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
        await go_on()
        return "there"

    async def cancelled_after(seconds: float) -> None:
        task = asyncio.ensure_future(trip.using(runtime=make_runtime())())
        asyncio.get_running_loop().call_later(seconds, task.cancel)
        await task

    with contextlib.closing(Clockwork()) as loop, pytest.raises(Death):
        loop.run_until_complete(cancelled_after(60))
    with contextlib.closing(Clockwork()) as loop:
        assert loop.run_until_complete(trip.using(runtime=make_runtime())()) == "there"
        assert 60 < loop.time() < 70
    assert effects == ["on", "on"]
    *_, before, after = caplog.messages
    assert "60 s after it had begun. It waits at most as long" in before
    assert "nobody has cancelled hang within 62 s" in after


def test_who_is_cut_off_while_it_waits_for_its_turn_is_cut_off_so_again(tmp_path):
    """The step was under way when the run died; called again it waits for others, and its timeout comes first."""
    effects, dies, load = [], "hang", 0.0

    @step(compensate=None)
    async def first() -> None:
        effects.append("first")

    @step(compensate=None)
    async def hang() -> None:
        effects.append("hang")
        await asyncio.sleep(0.1)
        if dies == "hang":
            raise Death
        await asyncio.get_running_loop().create_future()

    @step(compensate=None)
    async def other(name: str) -> None:
        if dies == name:
            raise Death
        effects.append(name)

    @saga(name="trip", key="k")
    async def trip() -> str:
        async def one() -> None:
            await asyncio.sleep(load)
            await first()

        async def two() -> None:
            await asyncio.sleep(0.05)
            try:
                async with asyncio.timeout(0.3):
                    await hang()
            except TimeoutError:
                await other("instead")

        await asyncio.gather(one(), two())
        await other("last")
        return "there"

    def run() -> str:
        with contextlib.closing(Clockwork()) as loop:
            return loop.run_until_complete(trip.using(runtime=Runtime(tmp_path / "sagas.db"))())

    with pytest.raises(Death):
        run()
    dies, load = "last", 0.7
    with pytest.raises(Death):
        run()
    dies = ""
    assert run() == "there"
    assert effects == ["first", "hang", "instead", "last"]


def test_what_was_cut_off_is_not_waited_for_in_a_run_that_has_stopped(make_runtime):
    """Whatever the body did with the exception that told it so."""
    dies = True

    @step(compensate=None)
    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    @step(compensate=None)
    async def last() -> None:
        raise Death

    @step(compensate=None)
    async def new() -> None:
        raise AssertionError

    @saga(name="trip", key="k")
    async def trip() -> None:
        if not dies:
            with contextlib.suppress(BaseException):
                await new()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SOON):
                await hang()
        await last()

    with pytest.raises(Death):
        asyncio.run(trip.using(runtime=make_runtime())())
    dies = False
    with pytest.raises(ReplayError):
        asyncio.run(asyncio.wait_for(trip.using(runtime=make_runtime())(), 10))


def without_time(trip: Any, folder: Path) -> Any:
    """Call a saga, with its journal in a folder, on a clock on which waiting takes no time."""
    with asyncio.Runner(loop_factory=Clockwork) as runner:
        return runner.run(trip.using(runtime=Runtime(folder / "sagas.db"))())


@pytest.mark.parametrize("body", ["is cancelled beside it", "is not cancelled"])
def test_a_task_that_was_cancelled_for_itself_gets_that_again_where_nobody_brings_it(body, tmp_path):
    """The body's task swallowed it, or has not got it: it does not reach the one that waits."""
    dies = True

    @step(compensate=None)
    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    @step(compensate=None)
    async def last() -> str:
        if dies:
            raise Death
        return "there"

    @saga(name="trip", key="k")
    async def trip() -> str:
        task = asyncio.ensure_future(hang())
        if dies:
            both = [asyncio.current_task(), task]
            cancelled = both if body == "is cancelled beside it" else [task]
            asyncio.get_running_loop().call_later(1, lambda: [each.cancel() for each in cancelled])
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        return await last()

    with pytest.raises(Death):
        without_time(trip, tmp_path)
    dies = False
    assert without_time(trip, tmp_path) == "there"


@pytest.mark.parametrize("swallows", [False, True])
def test_a_def_step_in_a_child_that_was_cut_off_is_refused_until_that_comes_again(swallows, tmp_path, world):
    """It cannot wait for that, in the thread of who brings it; the end of the child's body can."""
    dies, seen = True, []

    @step(compensate=None)
    def audit() -> None:
        world.add("audit")

    @step(compensate=None)
    async def ship() -> str:
        if dies:
            raise Death
        return "there"

    @saga
    async def child() -> None:
        if dies:
            await asyncio.get_running_loop().create_future()
        try:
            audit()
        except Exception as error:
            seen.append(type(error))
            if not swallows:
                raise

    @saga(name="trip", key="k")
    async def trip() -> str:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await child()
        return await ship()

    with pytest.raises(Death):
        without_time(trip, tmp_path)
    dies = False
    assert without_time(trip, tmp_path) == "there"
    assert seen == [RuntimeError]
    assert world == []


@pytest.mark.parametrize("told", ['{"after":"soon"}', '{"after":1.0,"around":"me"}', '{"around":0}', '"then"'])
def test_what_is_no_record_of_a_cancellation_is_refused(told):
    """Nobody has written it, so nobody waits by it."""
    with pytest.raises((TypeError, AttributeError)):
        cancelled.Coming.of(json.loads(told))
