"""Every order in which branches can go on: in each the laws hold, at every death too, and on resume in another order.

A turn is given away before each call, and in each body when it has had its effect: so every order comes in which steps
begin and end, and in which they are compensated. The judge reads the world and the entries, and knows nothing of how
the library decides.
Small programs are explored to the end; of the others a seeded sample is taken. SAGADSL_SWEEP=<number> repeats a sample,
and with SAGADSL_SWEEP=all everything comes.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import os
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

import pytest
from attrs import define, field, frozen

from sagadsl import Compensation, CompensationError, Run, Runtime, aio, parallel, saga, step
from sagadsl._core.codec import Codec
from sagadsl._core.effects import Gather
from sagadsl._core.flow import again, order
from sagadsl._core.journal.memory import MemoryJournal
from sagadsl._core.scope import Scope
from sagadsl._core.values import Entry, Kind
from sagadsl._dsl import branches
from tests.properties.schedules import Choices, Death, Life, Mortal, Tasks, Threads, drawn, explore

SWEEP = os.environ.get("SAGADSL_SWEEP") or str(random.randrange(10**6))  # noqa: S311  # a sample, no secret
K = Kind
ENDS = {K.DONE, K.FAILED, K.CANCELLED}


class Boom(Exception):  # what a program's author would call it
    """How a step of a program fails."""


@frozen
class Program:
    """Steps one after the other in *branches* at the same time, between ``first`` and ``last``; *how* they are begun.

    What *fails* names raises, what *shut* names has a compensation that raises, once. With *ends* the saga fails last.
    """

    how: str
    branches: tuple[tuple[str, ...], ...]
    fails: frozenset[str] = frozenset()
    shut: frozenset[str] = frozenset()
    ends: bool = False
    limit: int | None = None
    order: str = "reverse"

    def __str__(self) -> str:
        told = [self.how, "+".join("".join(branch) for branch in self.branches)]
        told += [f"limit{self.limit}"] * (self.limit is not None) + ["parallel"] * (self.order == "parallel")
        told += [f"fails-{''.join(sorted(self.fails))}"] * bool(self.fails) + ["ends"] * self.ends
        return "_".join(told + [f"shut-{''.join(sorted(self.shut))}"] * bool(self.shut))

    @property
    def is_async(self) -> bool:
        return self.how != "threads"

    @property
    def value(self) -> list[list[str]]:
        """What it returns where nothing fails."""
        return [[name.upper() for name in branch] for branch in self.branches]


@define
class Stage:
    """Where a program is played, in one process after the other: its journal and its world outlive them."""

    program: Program
    journal: MemoryJournal = field(factory=MemoryJournal)
    world: list[str] = field(factory=list)
    drivers: type[Mortal] = Mortal
    shut: set[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.shut = set(self.program.shut)

    def act(self, name: str) -> str:
        """Have a step's effect."""
        self.world.append(name)
        if name in self.program.fails:
            raise Boom(name)
        return name.upper()

    def back(self, name: str) -> None:
        """Have a compensation's effect."""
        self.world.append(f"-{name}")
        if name in self.shut:
            self.shut.discard(name)
            raise Boom(name)

    def play(self, choices: Choices, dies_at: int = 0, *, compensates: bool = False) -> tuple[Any, Life]:
        """Call the saga in a new process, or compensate it; return what comes out, and the process's life."""
        life = Life(dies_at)
        turns = Tasks(choices) if self.program.is_async else Threads(choices)
        drivers = self.drivers(life, turns.sleep) if isinstance(turns, Tasks) else self.drivers(life)
        runtime = Runtime(self.journal, jitter=lambda: 0.0)
        runtime.drive, runtime.adrive = drivers.drive, drivers.adrive
        with pytest.MonkeyPatch.context() as patch:
            if isinstance(turns, Tasks):
                verb = self.verb(played(self, turns.give), runtime, compensates=compensates)
                with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(turns)) as runner:
                    return ended(lambda: runner.run(verb())), life
            patch.setattr(branches, "threading", turns.threading)
            patch.setattr("sagadsl._core.drive.Thread", turns.Thread)
            patch.setattr("sagadsl._core.drive.SimpleQueue", turns.Queue)
            return ended(self.verb(played_in_threads(self, turns.give), runtime, compensates=compensates)), life

    @staticmethod
    def verb(body: Any, runtime: Runtime, *, compensates: bool) -> Any:
        called = body.using(runtime=runtime, key="k")
        if not compensates:
            return called

        def compensate() -> Any:
            return called.compensate("played/k")

        return compensate

    @property
    def entries(self) -> list[Entry]:
        return self.journal.entries(1)

    def calls(self) -> Iterator[tuple[Entry, str]]:
        """Yield each entry, with what the program calls its step (or nothing)."""
        names: dict[int, str] = {}
        for entry in self.entries:
            if entry.name == "act":
                names[entry.seq] = json.loads(entry.arguments or "{}")["name"]
            yield entry, names.get(entry.ref or entry.seq, "")

    def order(self, kind: Kind) -> tuple[str, ...]:
        """Return the steps in the order of their entries of one kind."""
        return tuple(name for entry, name in self.calls() if entry.kind is kind and name)


def ended(call: Any) -> Any:
    """Return what a call returns, or what it raises."""
    try:
        return call()
    except BaseExceptionGroup as group:  # of tasks that died together
        return group if isinstance(group, Exception) else Death()
    except (Death, Exception) as error:
        return error


def played_in_threads(stage: Stage, give: Callable[[], None]) -> Any:
    """Return the saga that plays the program of a stage, as a ``def``."""
    program = stage.program

    def back(name: str) -> None:
        try:
            stage.back(name)
        finally:
            give()

    @step(compensate=Compensation(back, retries=0), name="act")
    def act(name: str) -> str:
        try:
            return stage.act(name)
        finally:
            give()

    def branch(names: tuple[str, ...]) -> list[str]:
        def each(name: str) -> str:
            give()
            return act(name)

        return [each(name) for name in names]

    @saga(name="played", compensate_order=program.order)
    def body() -> list[list[str]]:
        act("first")
        values = parallel(*(functools.partial(branch, names) for names in program.branches), limit=program.limit)
        act("last")
        if program.ends:
            raise Boom("end")
        return values

    return body


def played(stage: Stage, give: Callable[[], Awaitable[None]]) -> Any:
    """Return the saga that plays the program of a stage, as an ``async def``."""
    program = stage.program

    async def back(name: str) -> None:
        try:
            stage.back(name)
        finally:
            await give()

    @step(compensate=Compensation(back, retries=0), name="act")
    async def act(name: str) -> str:
        try:
            return stage.act(name)
        finally:
            await give()

    async def branch(names: tuple[str, ...]) -> list[str]:
        values = []
        for name in names:
            await give()
            values.append(await act(name))
        return values

    @saga(name="child")
    async def child(names: tuple[str, ...]) -> list[str]:
        return await branch(names)

    async def together() -> list[list[str]]:
        if program.how == "tasks":
            return await aio.parallel(*map(branch, program.branches), limit=program.limit)
        if program.how == "gather":
            return await asyncio.gather(*map(branch, program.branches))
        if program.how == "children":
            return await asyncio.gather(*map(child, program.branches))
        async with asyncio.TaskGroup() as group:
            made = [group.create_task(branch(names)) for names in program.branches]
        return [task.result() for task in made]

    @saga(name="played", compensate_order=program.order)
    async def body() -> list[list[str]]:
        await act("first")
        values = await together()
        await act("last")
        if program.ends:
            raise Boom("end")
        return values

    return body


# -- the judge --------------------------------------------------------------------------------------------------------


@define
class Judge:
    """What the entries and the world of a stage say against the laws; what a child compensated *alone* came before."""

    stage: Stage
    wrong: list[str] = field(factory=list)
    began: dict[str, int] = field(factory=dict)
    ended: dict[str, int] = field(factory=dict)
    back: dict[str, int] = field(factory=dict)
    compensated: dict[str, int] = field(factory=dict)
    under_way: set[str] = field(factory=set)
    happened: set[str] = field(factory=set)
    alone: set[str] = field(factory=set)
    compensates: bool = False

    def read(self) -> list[str]:
        """Return what is wrong."""
        for entry, name in self.stage.calls():
            if name:
                self.call(entry, name)
            elif entry.kind is K.TAKEN:
                self.under_way = set()
            elif entry.kind is K.COMPENSATING and not entry.step:
                self.alone = set(self.back)
                self.refuse(self.under_way, "under way when the saga began to compensate")
                self.compensates = True
        pairs = itertools.permutations(self.back.keys() - self.alone, 2)
        self.refuse({early for early, late in pairs if self.hurried(early, late)}, "compensated too early")
        self.effects()
        return self.wrong

    def refuse(self, names: Iterable[str], why: str) -> None:
        self.wrong += [f"{name}: {why}" for name in sorted(names)]

    def call(self, entry: Entry, name: str) -> None:
        """Take in an entry about a call."""
        if entry.kind is K.INTENT:
            self.refuse({name} & self.ended.keys(), "entered again")
            self.refuse({name} & self.under_way, "entered twice at once")
            self.refuse({name} if self.compensates else (), "entered after the saga began to compensate")
            self.began.setdefault(name, entry.seq)
            self.under_way.add(name)
        elif entry.kind in ENDS:
            self.ended[name] = entry.seq
            self.under_way.discard(name)
            if entry.kind is not K.CANCELLED:  # which can come before the effect
                self.happened.add(name)
        elif entry.kind is K.COMPENSATION_INTENT:
            self.refuse({name} & self.compensated.keys(), "compensated again")
            self.back.setdefault(name, entry.seq)
        elif entry.kind is K.COMPENSATION_DONE:
            self.compensated[name] = entry.seq

    def hurried(self, early: str, late: str) -> bool:
        """Tell whether a step began to be compensated before one was that has to be compensated first."""
        if self.back[early] > self.compensated.get(late, self.back[early]):
            return False
        if self.stage.program.order == "reverse":
            return self.began[early] < self.began[late]
        here, there = self.unit(early), self.unit(late)
        if here == there:
            return self.began[early] < self.began[late]
        end = max(self.ended.get(name, len(self.stage.entries)) for name in here if name in self.began)
        return end < min(self.began[name] for name in there if name in self.began)

    def unit(self, name: str) -> tuple[str, ...]:
        """Return what is compared as a whole: the branch of a step that is in a scope of its own."""
        program = self.stage.program
        found = [branch for branch in program.branches if name in branch]
        return found[0] if found and program.how in {"threads", "tasks", "children"} else (name,)

    def effects(self) -> None:
        """Compare the world with the entries."""
        world = self.stage.world
        entered = [e.seq for e in self.stage.entries if e.kind in {K.INTENT, K.COMPENSATION_INTENT}]
        self.refuse({"the world"} if len(world) > len(entered) else (), "more happened than is on record")
        self.refuse({name for name in self.happened if name not in world}, "on record, and has not happened")
        done = {name for name in self.ended if name not in self.stage.program.fails}
        if self.compensates:
            self.refuse(done - self.compensated.keys(), "not compensated")
            self.refuse({name for name in done if f"-{name}" not in world}, "on record as compensated, and is not")


def wrong_with(stage: Stage, outcome: Any) -> list[str]:
    """Return what is wrong with a program that has been played to its end."""
    program, wrong = stage.program, Judge(stage).read()
    if isinstance(outcome, Run):
        return wrong + [f"it is {outcome.status}"] * (outcome.status != "compensated")
    if isinstance(outcome, BaseException) or program.fails or program.ends:
        errors = list(outcome.exceptions) if isinstance(outcome, ExceptionGroup) else [outcome]
        named, expected = {str(error) for error in errors}, program.fails or {"end"}
        if not all(isinstance(error, Boom) for error in errors) or not named <= expected:
            wrong.append(f"it ended with {outcome!r}")
        if program.how in {"threads", "tasks"} and named != expected:
            wrong.append(f"it did not tell all that failed: {outcome!r}")
    elif outcome != program.value:
        wrong.append(f"it returned {outcome}")
    return wrong


def wrong_after(stage: Stage, schedules: Iterator[Choices], deaths: Iterable[int] = ()) -> list[str]:
    """Play a program through some deaths, in each process with the next schedule; return what is wrong."""
    for dies_at in [*deaths, 0]:
        outcome, _ = stage.play(next(schedules), dies_at)
        for _ in range(3):
            if isinstance(outcome, CompensationError):
                outcome, _ = stage.play(next(schedules), dies_at, compensates=True)
        if not isinstance(outcome, Death):
            break
    return wrong_with(stage, outcome)


def seeded(seed: str) -> Iterator[Choices]:
    """Yield schedules without end, which a seed decides."""
    return (drawn(f"{seed} {number}") for number in itertools.count())


# -- the laws ---------------------------------------------------------------------------------------------------------

HOW = ("threads", "tasks", "gather", "group", "children")
TWO, THREE, PAIRS = (("a",), ("b",)), (("a",), ("b",), ("c",)), (("a", "aa"), ("b", "bb"))
SHAPES = [TWO, THREE, PAIRS]
ENOUGH, MOST = 40, 5000
"""How many schedules are played of a program that has more: in a sample, and in a sweep."""


def programs(how: str) -> Iterator[Program]:
    """Yield the programs that are begun in one way."""
    for shape in SHAPES:
        yield Program(how, shape)
        yield Program(how, shape, ends=True, order="parallel")
        yield Program(how, shape, fails=frozenset("a"))
    yield Program(how, TWO, ends=True)
    yield Program(how, TWO, fails=frozenset("ab"), order="parallel")
    yield Program(how, THREE, fails=frozenset("bc"))
    for order_ in ("reverse", "parallel"):
        yield Program(how, THREE, fails=frozenset("a"), shut=frozenset("bc"), order=order_)
    if how in {"threads", "tasks"}:
        yield Program(how, (*THREE, ("d",)), limit=2, ends=True, order="parallel")


def schedules_of(program: Program) -> Iterator[Choices]:
    """Yield every schedule of a program; where there are many, the first ones and a sample of all."""
    every = explore()
    yield from itertools.islice(every, MOST if SWEEP == "all" else ENOUGH)
    if next(every, None) is not None:
        yield from itertools.islice(seeded(f"{SWEEP} {program}"), ENOUGH)


@pytest.mark.parametrize("how", HOW)
def test_the_laws_hold_in_every_order(how):
    """Every order in which entries can come, of small programs; all branches settle before anything is compensated."""
    cases, wrong = 0, {}
    for program in programs(how):
        orders: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
        for choices in schedules_of(program):
            stage = Stage(program)
            said = wrong_after(stage, itertools.chain([choices], seeded(f"{SWEEP} {program}")))
            cases += 1
            if said:
                wrong[str(program), tuple(chosen for chosen, _ in choices.taken)] = said
            orders.setdefault(stage.order(K.INTENT), set()).add(stage.order(K.COMPENSATION_INTENT))
        if program.order == "reverse" and not program.shut and how != "group":
            wrong.update({(str(program), begun): back for begun, back in orders.items() if len(back) > 1})
    print(f"{how}: {cases} schedules, SAGADSL_SWEEP={SWEEP}")  # noqa: T201  # a figure, for whoever sweeps
    assert wrong == {}, f"SAGADSL_SWEEP={SWEEP}"
    assert cases > 250


@pytest.mark.parametrize("how", HOW)
def test_killed_and_resumed_in_another_order_all_lands_in_its_place(how):
    """Two hundred times: what ended is not entered again, and what each gave is where it belongs."""
    program, wrong = Program(how, PAIRS), {}
    for number in range(200):
        seed, deaths = f"{SWEEP} {how} {number}", kills(f"{SWEEP} {how} {number}", 40)
        if said := wrong_after(Stage(program), seeded(seed), deaths):
            wrong[seed, deaths] = said
    assert wrong == {}, f"SAGADSL_SWEEP={SWEEP}"


@pytest.mark.parametrize("how", HOW)
def test_killed_anywhere_in_any_order_a_failing_program_is_compensated(how):
    """Each once, in order: also those that are compensated at the same time, or that failed to be, once."""
    wrong = {}
    for program in programs(how):
        for number in range(200 if SWEEP == "all" else 15):
            seed = f"{SWEEP} {program} {number}"
            deaths = kills(seed, 90)
            if said := wrong_after(Stage(program), seeded(seed), deaths):
                wrong[seed, deaths] = said
    assert wrong == {}, f"SAGADSL_SWEEP={SWEEP}"


def kills(seed: str, effects: int) -> tuple[int, ...]:
    """Return before which effect each process dies, one or two of them."""
    rng = random.Random(seed)  # noqa: S311
    return tuple(rng.randrange(1, effects) for _ in range(rng.choice([1, 1, 2])))


# -- and the judge sees what breaks them ------------------------------------------------------------------------------


def caught(program: Program, *, dies: bool = False, drivers: Any = Mortal) -> bool:
    """Tell whether the judge finds something wrong in one of a hundred schedules of a program."""
    for number in range(100):
        deaths = kills(str(number), 30) if dies else ()
        if wrong_after(Stage(program, drivers=drivers), seeded(str(number)), deaths):
            return True
    return False


def test_the_judge_catches_an_identity_that_goes_by_occurrence_alone(monkeypatch):
    """Two branches that come in another order get each other's results."""
    program = Program("gather", TWO)
    assert not caught(program, dies=True)
    monkeypatch.setattr(Codec, "canonical", lambda self, text: "")
    assert caught(program, dies=True)


class Hasty(Mortal):
    """Waits for nobody before it compensates."""

    def __init__(self, life: Life, asleep: Any) -> None:
        super().__init__(life, asleep)
        self._async_answers[Gather] = lambda _: asyncio.sleep(0, 0)


def test_the_judge_catches_a_compensation_that_begins_before_all_branches_have_settled():
    """A step that is under way would have its effect after it was compensated."""
    program = Program("gather", TWO, fails=frozenset("a"))
    assert not caught(program)
    assert caught(program, drivers=Hasty)


def test_the_judge_catches_a_compensation_that_waits_for_nobody(monkeypatch):
    """At the same time is not in any order."""
    program = Program("tasks", PAIRS, ends=True, order="parallel")
    assert not caught(program)
    monkeypatch.setattr(order, "measure", lambda scope, spans: spans.update(dict.fromkeys(scope.slots, (0, 0))))
    assert caught(program)


def test_the_judge_catches_an_order_of_outcomes(monkeypatch):
    """It is that of intents: who ends first does not matter."""
    program = Program("threads", TWO, ends=True)
    assert not caught(program)

    def owed(scope):
        slots = [slot for slot in scope.calls() if slot.is_owed]
        return sorted(slots, key=lambda slot: -slot.outcome)

    monkeypatch.setattr(Scope, "owed", owed)
    assert caught(program)


def test_the_judge_catches_tasks_that_are_not_waited_for(monkeypatch):
    """On resume they come in another order than they did, which is no other code."""
    program = Program("gather", PAIRS)
    monkeypatch.setattr(again, "PATIENCE", ())
    assert caught(program, dies=True)
