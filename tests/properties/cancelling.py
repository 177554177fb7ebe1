"""Programs of tasks that cancel each other, a clock that needs no time, and a world that lives longer than a process.

What cuts off and who survives it is a tree that Hypothesis draws: timeouts, groups, tasks that the body or somebody
else cancels, and parts that swallow what comes. Its nodes play themselves. Nothing in them depends on how long a step
takes, so a program ends in the same way wherever a process dies and another one goes on.

The event loop (`Clockwork`) skips the time in which nothing happens, and says so when nothing ever will.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import selectors
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import attrs
from attrs import define, field, frozen
from hypothesis import strategies as st

from sagadsl import Runtime, saga, step
from sagadsl._core.journal.memory import MemoryJournal
from sagadsl._core.values import Entry, Kind
from sagadsl.aio import parallel
from tests.properties.programs import Death, Ledger, letters

UNIT = 100.0
"""Seconds of a while."""
EVER = 1e4
"""Seconds that pass where nobody cancels; none of these programs takes a hundred times as long."""

# -- programs ---------------------------------------------------------------------------------------------------------


@frozen
class Act:
    """Call a step: ``quick`` gives its name, ``slow`` waits until it is cancelled, ``look`` too, and only reads."""

    name: str
    kind: str = "quick"

    async def play(self, world: World) -> None:
        world.saw(self.name, await STEPS[self.kind](self.name))


@frozen
class Seq:
    """Play the parts one after the other."""

    parts: tuple[Any, ...]

    async def play(self, world: World) -> None:
        for part in self.parts:
            await part.play(world)


@frozen
class Swallow:
    """Play a part, and go on when it is cancelled; *takes_back*: as Python's documentation has it."""

    name: str
    part: Any
    takes_back: bool = False

    async def play(self, world: World) -> None:
        try:
            await self.part.play(world)
        except asyncio.CancelledError:
            world.saw(self.name, f"swallowed {here().cancelling()}")
            if self.takes_back:
                here().uncancel()


@frozen
class Timed:
    """Play a part for a while."""

    name: str
    part: Any
    after: float

    async def play(self, world: World) -> None:
        limit = asyncio.timeout(self.after * UNIT)
        try:
            async with limit:
                await self.part.play(world)
        except TimeoutError:
            world.saw(self.name, "timeout")
        world.saw(self.name, f"expired: {limit.expired()}")


@frozen
class Gather:
    """Play parts at the same time, or as branches with *scopes* of their own."""

    parts: tuple[Any, ...]
    scopes: bool = False

    async def play(self, world: World) -> None:
        played = [part.play(world) for part in self.parts]
        if self.scopes:
            await parallel(*played)
            return
        tasks = [asyncio.ensure_future(each) for each in played]
        try:
            await asyncio.gather(*tasks)
        finally:
            world.left(tasks)


@frozen
class Group:
    """Play parts at the same time, until one more fails, after a while."""

    name: str
    parts: tuple[Any, ...]
    after: float

    async def play(self, world: World) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for part in self.parts:
                    group.create_task(part.play(world))
                group.create_task(self.fail())
        except* LookupError:
            world.saw(self.name, "failed")

    async def fail(self) -> None:
        await asyncio.sleep(self.after * UNIT)
        raise LookupError


@frozen
class Task:
    """Play a part in a task, and wait for it."""

    part: Any

    async def play(self, world: World) -> None:
        task = asyncio.create_task(self.part.play(world))
        try:
            await task
        finally:
            world.left([task])


@frozen
class Cancelled:
    """Play a part in a task that is cancelled after a while: by the *body*, by a *step*, or by somebody *outside*.

    *here*: that one cancels the task which plays all this, and not one of its own. *itself*: that task does so, before.
    """

    name: str
    part: Any
    after: float
    by: str = "body"

    async def play(self, world: World) -> None:
        if self.by in {"here", "itself"}:
            await self.play_here(world)
            return
        task = world.tasks[self.name] = asyncio.create_task(self.part.play(world))
        try:
            if self.by == "body":
                await asyncio.sleep(self.after * UNIT)
                task.cancel()
            else:
                world.stranger(self, task)
                if self.by == "step":
                    await stop(self.name, self.after * UNIT)
            await task
        except asyncio.CancelledError:
            world.saw(self.name, "cancelled")
        finally:
            world.left([task])

    async def play_here(self, world: World) -> None:
        stranger = world.stranger(self, here()) if self.by == "here" else here().cancel()
        try:
            await self.part.play(world)
        except asyncio.CancelledError:
            world.saw(self.name, "struck")
        finally:
            if isinstance(stranger, asyncio.TimerHandle):
                stranger.cancel()


@frozen
class Child:
    """Play a part as a nested saga."""

    name: str
    part: Any

    async def play(self, world: World) -> None:  # as the others
        await part(self.name)


def here() -> asyncio.Task[Any]:
    """Return the current task."""
    task = asyncio.current_task()
    assert task is not None
    return task


def nodes(node: Any) -> Iterator[Any]:
    """Yield a program's nodes."""
    yield node
    for each in inside(node):
        yield from nodes(each)


def inside(node: Any) -> list[Any]:
    """Return the parts of a node."""
    return [getattr(node, "part", None)] if hasattr(node, "part") else [*getattr(node, "parts", ())]


# -- programs that Hypothesis draws -----------------------------------------------------------------------------------


AGAIN = ("body", "body", "itself")
"""Who cancels each time that the body runs."""
ONCE = ("step", "outside", "here")
"""Who cancels only once: a step that has done so is not entered again, and who is outside is not there any more."""
NAME, WHILES = st.just(""), st.integers(1, 3)
ACT = st.builds(Act, NAME, st.sampled_from(["quick", "quick", "slow", "slow", "look"]))


def programs(by: tuple[str, ...] = AGAIN) -> Any:
    """Draw programs, and name their nodes."""

    def larger(part: Any) -> Any:
        return st.one_of(
            quiet(part),
            st.builds(Timed, NAME, part, WHILES),
            st.builds(Group, NAME, several(part), WHILES),
            st.builds(Cancelled, NAME, part, WHILES, st.sampled_from(by)),
        )

    return st.recursive(ACT, larger, max_leaves=5).map(named)


def programs_with_one_that_comes_once() -> Any:
    """Draw programs in which somebody cancels who is not there any more when the body runs again."""
    part = st.recursive(ACT, quiet, max_leaves=4)
    drawn = st.builds(Cancelled, NAME, part, WHILES, st.sampled_from(ONCE))
    for _ in range(2):
        in_turn = st.one_of(st.tuples(programs(), drawn), st.tuples(drawn, ACT))
        drawn = st.one_of(drawn, quiet(drawn), st.builds(Seq, in_turn))
    return drawn.map(named).filter(lonely)


def quiet(part: Any) -> Any:
    """Draw what plays parts and takes no time of its own."""
    swallow = st.builds(Swallow, NAME, part, st.booleans())
    return st.one_of(
        swallow,
        swallow,
        st.builds(Seq, several(part)),
        st.builds(Gather, several(part), st.booleans()),
        st.builds(Task, part),
        st.builds(Child, NAME, part),
    )


def several(part: Any) -> Any:
    """Draw two or three parts."""
    return st.lists(part, min_size=2, max_size=3).map(tuple)


def lonely(node: Any, *, known: bool = True) -> bool:
    """Tell whether what comes only once does so where nothing that takes its time goes on around or beside it.

    What waits for it on replay would run into that. It must also be *known* to whom it came, which is so where a body
    runs in the task, or the task itself calls what was cut off.
    """
    if isinstance(node, Cancelled) and node.by in ONCE:
        known = known if node.by == "here" else isinstance(node.part, Child)
        lasting = (Timed, Group, Cancelled) if known else (Timed, Group, Cancelled, Gather)
        return not any(isinstance(each, lasting) for each in nodes(node.part))
    if isinstance(node, Timed | Group | Gather | Cancelled):
        return not any(isinstance(each, Cancelled) and each.by in ONCE for each in nodes(node))
    known = isinstance(node, Child) or (known and not isinstance(node, Task))
    return all(lonely(each, known=known) for each in inside(node))


def named(node: Any) -> Any:
    """Return a program whose nodes have names and moments of their own."""
    return renamed(node, letters(), (0.05 * number for number in itertools.count()))


def renamed(node: Any, names: Iterator[str], moments: Iterator[float]) -> Any:
    """Return a program whose nodes have these names, and come so much later."""
    changes: dict[str, Any] = {"name": next(names)} if hasattr(node, "name") else {}
    if hasattr(node, "after"):
        changes["after"] = node.after + next(moments)
    if hasattr(node, "part"):
        changes["part"] = renamed(node.part, names, moments)
    if hasattr(node, "parts"):
        changes["parts"] = tuple(renamed(each, names, moments) for each in node.parts)
    return attrs.evolve(node, **changes)


# -- time -------------------------------------------------------------------------------------------------------------


class Hang(Exception):  # what it is
    """Everybody waits for somebody else, or for too long."""


class Jumping(selectors.SelectSelector):
    """A selector that finds the time passed in which it would have waited."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += max(0.0, timeout or 0.0)
        if timeout is None or self.now > 100 * EVER:
            raise Hang
        return super().select(0)


class Clockwork(asyncio.SelectorEventLoop):
    """An event loop on whose clock nothing happens in no time."""

    def __init__(self) -> None:
        self.clock = Jumping()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


# -- the world --------------------------------------------------------------------------------------------------------


WORLD: ContextVar[World] = ContextVar("cancelling")


@define(eq=False)
class World:
    """What outlives a process: the store, the effects, and who cancels from outside.

    The program *fails* in the end, if it is to. *seen* is which way the body of the last process took. It *leaks* if
    something was left to go on by itself. *whole* is the world of the same program in which nobody died.
    """

    program: Any
    fails: bool = False
    whole: World | None = None
    journal: Any = field(factory=MemoryJournal)
    effects: list[str] = field(factory=list)
    entries: list[Entry] = field(factory=list)
    seen: dict[str, list[str]] = field(factory=dict)
    tasks: dict[str, asyncio.Task[Any]] = field(factory=dict)
    leaks: bool = False
    shared: int = 0
    ticks: int = 0
    dies_at: int = 0
    dead: bool = False

    # -- what happens in a process --

    def tick(self, *, writes: bool = False) -> None:  # as `Ledger` has it
        """Live on, or die here."""
        self.ticks += 1
        self.dead = self.dead or self.ticks == self.dies_at
        if self.dead:
            raise Death

    def room(self) -> None:
        """Have room on the disk."""

    def wrote(self, entries: Any) -> None:
        self.entries += [attrs.evolve(entry) for entry in entries]

    def add(self, effect: str) -> None:
        """Have an effect."""
        self.tick()
        self.effects.append(effect)
        self.tick()

    def saw(self, name: str, what: str) -> None:
        self.seen.setdefault(name, []).append(what)

    def left(self, tasks: list[asyncio.Task[Any]]) -> None:
        """Note that tasks are waited for no longer."""
        self.leaks = self.leaks or not all(task.done() for task in tasks)

    def stranger(self, node: Cancelled, task: asyncio.Task[Any]) -> asyncio.TimerHandle | None:
        """Have a task cancelled by somebody who is not there any more once all that this cut off is on record.

        He also stands in for a step that has done so and is not entered again.
        """
        names = {each.name for each in nodes(node.part) if isinstance(each, Act | Child)}
        if self.whole is not None and names & self.whole.cut <= self.cut:
            return None
        if node.by == "step" and node.name not in self.named(Kind.DONE):
            return None
        return asyncio.get_running_loop().call_later(node.after * UNIT, task.cancel)

    # -- processes --

    def live(self, dies_at: int = 0) -> Any:
        """Play the program in a new process; return how it ended, `None` where it died."""
        self.ticks, self.dies_at, self.dead, self.seen, self.tasks = 0, dies_at, False, {}, {}
        for row in self.journal.runs():
            self.journal.release(row.number)
        token = WORLD.set(self)
        try:
            with asyncio.Runner(loop_factory=Clockwork) as runner:
                runtime = Runtime(Ledger(self.journal, self), jitter=lambda: 0.0)
                outcome: Any = runner.run(main.using(runtime=runtime, key="k")())
        except (Exception, asyncio.CancelledError, BaseExceptionGroup, Death) as error:
            outcome = type(error)
        finally:
            WORLD.reset(token)
        return None if self.dead else outcome

    # -- what can be asked afterwards --

    @property
    def status(self) -> str:
        """Where the run stands, as the journal has it."""
        return str(Runtime(self.journal).find("main/k").status) if self.journal.runs() else ""

    @property
    def cut(self) -> set[str]:
        """Name what is on record as cut off, with a body that has survived that."""
        return self.named(Kind.CANCELLED, Kind.LEFT)

    def named(self, *kinds: Kind) -> set[str]:
        """Name the calls that entries of some kinds are about; branches as a whole have no name."""
        begun = {entry.seq: entry for entry in self.entries if entry.name}
        found = [entry for entry in self.entries if entry.kind in kinds]
        ours = [begun[entry.scope if entry.kind is Kind.LEFT else entry.ref or entry.seq] for entry in found]
        return {json.loads(entry.arguments or "{}").get("name", "") for entry in ours} - {""}


# -- the saga that plays a program ------------------------------------------------------------------------------------


async def undo(name: str, result: str | None = None) -> None:  # for a step that was cut off
    WORLD.get().add(f"-{name}")


@step(name="quick", compensate=undo)
async def quick(name: str) -> str:
    await asyncio.sleep(0)
    WORLD.get().add(name)
    await asyncio.sleep(0)
    return name


@step(name="slow", compensate=undo)
async def slow(name: str) -> str:
    await asyncio.sleep(0)  # who has cancelled himself has no effect, in whichever turn he learns of it
    WORLD.get().add(name)
    await asyncio.sleep(EVER)
    return f"{name} at last"


@step(name="look", read_only=True)
async def look(name: str) -> str:
    await asyncio.sleep(EVER)
    return f"{name} at last"


@step(name="stop", compensate=None)
async def stop(name: str, after: float) -> None:
    """Cancel a task of the body."""
    await asyncio.sleep(after)
    WORLD.get().tasks[name].cancel()


STEPS = {"quick": quick, "slow": slow, "look": look}


@saga(name="part")
async def part(name: str) -> None:
    world = WORLD.get()
    child = next(node for node in nodes(world.program) if isinstance(node, Child) and node.name == name)
    await child.part.play(world)


@saga(name="main")
async def main() -> str:
    world = WORLD.get()
    await world.program.play(world)
    await quick("z")
    if world.fails:
        raise LookupError
    return "end"
