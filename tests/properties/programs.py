"""Saga programs as data, one saga that plays them in either colour, a world that judges, and a model that predicts.

A law of this library speaks of every program, so the programs of `test_saga_laws` are trees that Hypothesis draws and
shrinks. A step's ``fates`` say how its attempts end, one after the other; whatever is not said ends well. `World`
stands outside the library: it notes each effect and, through the journal's seam, each entry, kills the "process" at any
of these moments, and starts the next one. `judge` reads its notes and refuses what the contract forbids, knowing
nothing of how the library decides. `predict` is the contract once more, in about a hundred lines without replay, store
or driver.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import re
import string
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import attrs
from attrs import define, field, frozen
from hypothesis import strategies as st

from sagadsl import (
    IRREVERSIBLE,
    Compensation,
    CompensationError,
    Fault,
    JournalError,
    Landed,
    NotLanded,
    Retry,
    Runtime,
    StepError,
    Unknown,
    current,
    saga,
    step,
)
from sagadsl import StepTimeout as Late
from sagadsl._core.journal.memory import MemoryJournal
from sagadsl._core.values import Entry, Kind

# -- programs -------------------------------------------------------------------------------------------------------


@frozen
class Act:
    """Call a step of a *kind* of `KINDS` or `PROBED`; *fates* and *back* tell how it and its compensation are tried.

    Fates: ``yes`` and ``no`` return (and decide an `If`), ``boom`` and ``odd`` raise before the effect, ``late`` leaves
    it open whether the effect happened, ``hang`` stays after it until the `Within` around is over. With *keyed* the
    call has an explicit key.
    """

    name: str
    kind: str = "undo"
    fates: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
    retries: int = 0
    keyed: bool = False


@frozen
class Seq:
    """Play the parts one after the other."""

    parts: tuple[Any, ...]


@frozen
class Loop:
    """Play a part several times, with arguments that differ (*indexed*) or are the same each time."""

    times: int
    part: Any
    indexed: bool


@frozen
class If:
    """Play one part or the other, as the result of a step says."""

    on: Act
    then: Any
    other: Any


@frozen
class Child:
    """Play a part as a nested saga."""

    name: str
    part: Any
    keyed: bool = False


@frozen
class Try:
    """Play a part; where it fails, the other one."""

    part: Any
    other: Any


@frozen
class Both:
    """Play parts at the same time (in a ``def``: in turn). *eager*: the first failure comes out at once."""

    parts: tuple[Any, ...]
    eager: bool = False


@frozen
class Within:
    """Play a part until one of its steps hangs; then time is up, and the other part is played. Only in a coroutine."""

    part: Any
    other: Any


KINDS = ("undo", "needy", "even", "plain", "mail", "look")
"""``undo`` can do without the result, ``needy`` cannot, ``even`` is also called for a step that failed; ``plain`` has
no compensation, ``mail`` is irreversible, ``look`` only reads."""
PROBED = ("asked", "unsure")
"""``asked`` has a probe that always knows; that of ``unsure`` never does, and the step is then given up."""
COMPENSATED_KINDS = ("undo", "needy", "even", *PROBED)
BACK_RETRIES = 1


def nodes(node: Any) -> Iterator[Any]:
    """Yield a program's nodes."""
    yield node
    for part in attrs.astuple(node, recurse=False):
        for each in part if isinstance(part, tuple) else (part,):
            if attrs.has(type(each)):
                yield from nodes(each)


def width(node: Any) -> int:
    """Return how many attempts can be under way at once."""
    if isinstance(node, Both):
        return sum(width(part) for part in node.parts)
    inner = [part for part in attrs.astuple(node, recurse=False) if attrs.has(type(part))]
    inner += node.parts if isinstance(node, Seq) else ()
    return max([1, *(width(part) for part in inner)])


def label(name: str, where: tuple[int, ...]) -> str:
    """Return the argument of a call: its name, and the rounds of the loops around it."""
    return ".".join([name, *map(str, where)])


# -- programs that Hypothesis draws -----------------------------------------------------------------------------------


def acts(kinds: tuple[str, ...] = KINDS, ends: tuple[str, ...] = ("no", "boom", "odd", "late")) -> Any:
    """Draw steps of some kinds, whose attempts end well or in some other way."""
    fates = st.lists(st.sampled_from(["yes", *ends]), max_size=3).map(tuple)
    back = st.lists(st.sampled_from(["yes", "boom"]), max_size=3).map(tuple)
    return st.builds(Act, st.just(""), st.sampled_from(kinds), fates, back, st.integers(0, 2), st.booleans()).map(
        timely
    )


def timely(act: Act) -> Act:
    """Return a step that is never late if it only looks: nothing is uncertain about that."""
    if act.kind != "look":
        return act
    return attrs.evolve(act, fates=tuple("boom" if fate == "late" else fate for fate in act.fates))


def programs(
    act: Any = None, *, gathers: bool = False, eager: bool = False, fails: bool = False, within: bool = False
) -> Any:
    """Draw programs whose steps are drawn from *act*, and name their nodes. With *fails* a failure comes last."""
    act = acts() if act is None else act

    def larger(part: Any) -> Any:
        parts = st.lists(part, min_size=1, max_size=4).map(tuple)
        kinds = [
            st.builds(Seq, parts),
            st.builds(Seq, parts),
            st.builds(Loop, st.integers(1, 3), part, st.booleans()),
            st.builds(If, act, part, part),
            st.builds(Child, st.just(""), part, st.booleans()),
            st.builds(Try, part, part),
        ]
        if gathers:
            together = st.builds(Both, st.lists(part, min_size=2, max_size=3).map(tuple), st.just(eager))
            kinds += [together, together]
        if within:
            kinds += [st.builds(Within, part, part)] * 2
        return st.one_of(kinds)

    drawn = st.recursive(act, larger, max_leaves=8)
    if fails:
        drawn = drawn.map(lambda node: Seq((node, Act("", "plain", ("boom",)))))
    return drawn.map(lambda node: renamed(node, letters()))


def patient(node: Any, *, inside: bool = False) -> Any:
    """Return a program where only what has a `Within` around it hangs: nothing else would ever end it."""
    if isinstance(node, Within):
        return Within(patient(node.part, inside=True), patient(node.other, inside=inside))
    if isinstance(node, Act):
        return node if inside else attrs.evolve(node, fates=tuple("yes" if f == "hang" else f for f in node.fates))
    changes: dict[str, Any] = {}
    for name, part in attrs.asdict(node, recurse=False).items():
        if isinstance(part, tuple) and part and attrs.has(type(part[0])):
            changes[name] = tuple(patient(each, inside=inside) for each in part)
        elif attrs.has(type(part)):
            changes[name] = patient(part, inside=inside)
    return attrs.evolve(node, **changes)


def letters() -> Iterator[str]:
    """Yield names: a, b, … z, a1, b1 and so on."""
    for round_ in itertools.count():
        yield from (f"{letter}{round_ or ''}" for letter in string.ascii_lowercase)


def renamed(node: Any, names: Iterator[str]) -> Any:
    """Return a program whose nodes have names of their own."""
    changes: dict[str, Any] = {"name": next(names)} if isinstance(node, Act | Child) else {}
    for name, part in attrs.asdict(node, recurse=False).items():
        if isinstance(part, tuple) and part and attrs.has(type(part[0])):
            changes[name] = tuple(renamed(each, names) for each in part)
        elif attrs.has(type(part)):
            changes[name] = renamed(part, names)
    return attrs.evolve(node, **changes)


# -- the world ------------------------------------------------------------------------------------------------------


class Death(BaseException):
    """The process is dead; nothing of it acts any more."""


class Boom(Exception):  # what a program's author would call it
    """An ordinary failure, which can be made again."""


class Odd(Exception):  # as `Boom`
    """A failure whose class refuses to be made again, so that `StepError` stands for it."""

    def __new__(cls, where: str, *, made: bool = False) -> Odd:  # a class that misbehaves is the point
        if not made:
            msg = "only by name"
            raise TypeError(msg)
        return super().__new__(cls, where)

    def __init__(self, where: str, *, made: bool = False) -> None:
        super().__init__(where)


CAUGHT = (Boom, StepError, Late)
WORLD: ContextVar[World] = ContextVar("world")
LIMIT: ContextVar[asyncio.Timeout] = ContextVar("limit")
ENDS = {Kind.DONE, Kind.RETRYING, Kind.FAILED, Kind.UNCERTAIN, Kind.CANCELLED}
BACK_ENDS = {Kind.COMPENSATION_DONE, Kind.COMPENSATION_RETRYING, Kind.COMPENSATION_ERROR}


@define(eq=False)
class Ledger:
    """A journal that tells the world of each entry once it is written, and dies before or after a write."""

    journal: Any
    world: World

    def append(self, log: Any, entry: Entry, full: bool) -> None:
        self.world.tick(writes=True)
        self.world.room()
        self.journal.append(log, entry, full)
        self.world.wrote([entry])
        self.world.tick(writes=True)

    def commit(self, log: Any, entries: Any, **how: Any) -> None:
        entries = list(entries)
        self.world.tick(writes=True)
        self.world.room()
        self.journal.commit(log, entries, **how)
        self.world.wrote(entries)
        self.world.tick(writes=True)

    def write_together(self, tickets: list[Any]) -> None:
        """Write what tasks of one loop write at once: a death leaves all of it or nothing, and is that of them all."""
        try:
            self.world.tick(writes=True)
            for ticket in tickets:
                try:
                    self.world.room()
                    told = {"full": ticket.full, "row": ticket.row, "finished": ticket.finished}
                    self.journal.commit(
                        ticket.log, ticket.entries, **told, untold=ticket.untold, outline=ticket.outline
                    )
                    self.world.wrote(ticket.entries)
                except Exception as error:
                    ticket.error = error
            self.world.shared = max(self.world.shared, len(tickets))
            self.world.tick(writes=True)
        except Death as death:
            for ticket in tickets:
                ticket.error = death

    def __getattr__(self, name: str) -> Any:
        return getattr(self.journal, name)


@define(eq=False)
class World:
    """Everything outside the library that lasts: effects, the store, and what is noted of both, in order.

    *paces* make the steps of each process wait for differing numbers of turns of the event loop. A process is struck at
    its *dies_at*-th moment by *how* (only a `Death` is the end of all in it), and has room for *writes_left* entries;
    at most *shared* of them were written at once. *around* wraps the journal, *setup* changes a process's runtime.
    """

    program: Any
    is_async: bool = False
    paces: tuple[int, ...] = (0,)
    journal: Any = field(factory=MemoryJournal)
    around: Callable[[Any], Any] = lambda journal: journal
    setup: Callable[[Runtime], None] = lambda _: None
    events: list[tuple[Any, ...]] = field(factory=list)
    process: int = 0
    ticks: int = 0
    dies_at: int = 0
    how: type[BaseException] = Death
    dead: bool = False
    shared: int = 0
    writes_left: int = -1
    time: int = 0
    used: Counter[tuple[str, bool]] = field(factory=Counter)
    seen: dict[str, list[list[str]]] = field(factory=dict)
    cut: dict[str, list[bool]] = field(factory=dict)
    made: dict[str, list[Any]] = field(factory=dict)
    acts: dict[str, Any] = field(init=False)

    def __attrs_post_init__(self) -> None:
        found = [node for node in nodes(self.program) if isinstance(node, Act | Child)]
        self.acts = {node.name: node for node in found}
        assert len(self.acts) == len(found), "names are unique"

    def act(self, named: str) -> Any:
        return self.acts[named.partition(".")[0]]

    # -- what happens in a process --

    def tick(self, *, writes: bool = False) -> None:
        """Live on, or be struck here."""
        if self.dead:
            raise Death
        self.ticks += 1
        if self.ticks != self.dies_at or (writes and self.how is asyncio.CancelledError):
            return
        self.dead = self.how is Death
        self.events.append(("died",))
        raise self.how

    def room(self) -> None:
        """Refuse a write where the disk is full."""
        if self.writes_left == 0:
            self.events.append(("full",))
            raise JournalError("world", "the disk is full")  # its fields, no message
        self.writes_left -= 1

    def wrote(self, entries: list[Entry]) -> None:
        self.events += [("wrote", attrs.evolve(entry)) for entry in entries]

    def enter(self, named: str, *, back: bool) -> tuple[str, str]:
        """Note that a body is entered; return its key and fate."""
        self.tick()
        here = current()
        self.events.append(("entered", here.key, back, named))
        fates = self.act(named).back if back else self.act(named).fates
        at = self.used[here.key, back]
        self.used[here.key, back] += 1
        return here.key, fates[at] if at < len(fates) else "yes"

    def affect(self, key: str, named: str, *, back: bool) -> None:
        """Have an effect."""
        self.events.append(("effect", key, back, f"-{named}" if back else named))
        self.tick()

    def pace(self, named: str) -> int:
        return self.paces[(sum(named.encode()) + self.process) % len(self.paces)]

    def saw(self, named: str, what: Any) -> None:
        """Note what the saga's body gets from a call."""
        seen = self.seen.setdefault(named, [])
        seen += [[] for _ in range(self.process - len(seen))]
        seen[-1].append(repr(what))

    def was_cut(self, named: str) -> bool:
        """Tell whether it is on record of this call that it was cut off: then its time is up once more."""
        calls = self.cut.get(named)
        return bool(calls) and calls.pop(0)

    def clock(self) -> int:
        self.time += 1
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += int(seconds * 1e6)

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)
        await asyncio.sleep(0)

    # -- processes --

    def start(self, dies_at: int = 0) -> Runtime:
        """Begin a process: nothing is left of the one before but the store and the effects."""
        self.process, self.ticks, self.dies_at, self.dead = self.process + 1, 0, dies_at, False
        for row in self.journal.runs():
            self.journal.release(row.number)
        self.events.append(("process", self.process))
        written = [event[1] for event in self.events if event[0] == "wrote"]
        self.used = Counter((e.step, False) for e in written if e.kind in ENDS)
        self.used += Counter((e.step, True) for e in written if e.kind in BACK_ENDS)
        self.cut = {}
        cancelled = {e.ref or e.seq for e in written if e.kind is Kind.CANCELLED}
        for entry in written:
            if entry.name and entry.name not in {"main", "part"}:
                self.cut.setdefault(named_in(entry), []).append(entry.seq in cancelled)
        told = {"clock": self.clock, "sleep": self.sleep, "asleep": self.asleep, "jitter": lambda: 0.0}
        runtime = Runtime(self.around(Ledger(self.journal, self)), **told)
        self.setup(runtime)
        return runtime

    def live(self, dies_at: int = 0) -> tuple[Any, ...] | None:
        """Call the saga in a new process; return how it ended, or `None` if the process died."""
        runtime = self.start(dies_at)
        main = mains(self.is_async)
        return self._outcome(lambda: main.using(runtime=runtime, key="k")("play"))

    def compensate(self, dies_at: int = 0) -> tuple[Any, ...] | None:
        """Ask for compensation in a new process, as a person would; return how it ended."""
        runtime = self.start(dies_at)
        main = mains(self.is_async)  # noqa: F841  # the program has it
        return self._outcome(lambda: runtime.find("main/k").compensate())

    def finish(self) -> tuple[Any, ...]:
        """Go on in a process that nothing disturbs, and return how the run ended."""
        if self.status == "compensated":
            return ("error", *told(self.run.error))
        ended = self.live()
        assert ended is not None
        return ended

    def _outcome(self, verb: Callable[[], Any]) -> tuple[Any, ...] | None:
        token = WORLD.set(self)
        try:
            value = verb()
            if inspect.isawaitable(value):
                value = asyncio.run(awaited(value))
        except (Death, KeyboardInterrupt, asyncio.CancelledError):
            return None
        except CompensationError as error:
            return ("stuck", self.named(error.step))
        except (*CAUGHT, Odd) as error:
            return ("error", *described(error))
        else:
            return ("value", plain(value))
        finally:
            WORLD.reset(token)

    # -- what can be asked afterwards --

    @property
    def run(self) -> Any:
        return Runtime(self.journal).find("main/k")

    @property
    def status(self) -> str:
        """Where the run stands, as the journal has it."""
        return str(self.run.status) if self.journal.runs(id="main/k") else ""

    @property
    def entries(self) -> list[Entry]:
        return [event[1] for event in self.events if event[0] == "wrote"]

    @property
    def effects(self) -> list[str]:
        return [event[3] for event in self.events if event[0] == "effect"]

    def named(self, key: str) -> str:
        """Return what the program calls a step: its label."""
        return next(named_in(entry) for entry in self.entries if entry.step == key and entry.name)


def named_in(entry: Entry) -> str:
    """Return the label of the call that an entry begins."""
    return re.search(r'"named":"([^"]*)"', entry.arguments or "")[1]


def plain(value: Any) -> Any:
    """Return a value without what tells in which process it was made."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return "p" if isinstance(value, str) and re.fullmatch(r"p\d+", value) else value


def described(error: BaseException) -> tuple[Any, ...]:
    """Return an exception as the model has it."""
    if isinstance(error, StepError):
        return told(error.fault)
    return ("StepTimeout",) if isinstance(error, Late) else (type(error).__name__, *plain(list(error.args)))


def told(fault: Fault) -> tuple[Any, ...]:
    """Return a stored exception as the model has it."""
    if fault.name == "StepError":
        return told(fault.args[1])
    return ("StepTimeout",) if fault.name == "StepTimeout" else (fault.name, *plain(list(fault.args)))


async def awaited(value: Any) -> Any:
    return await value


# -- the saga that plays a program ------------------------------------------------------------------------------------


def forward(named: str) -> list[Any]:
    """Do what the fate of this attempt says."""
    world = WORLD.get()
    key, fate = world.enter(named, back=False)
    if fate == "boom":
        raise Boom(named, f"p{world.process}")
    if fate == "odd":
        raise Odd(named, made=True)
    result = world.made[key] = [named, fate == "yes", f"p{world.process}"]
    world.affect(key, named, back=False)
    if fate == "late":
        raise Late(key, 1.0)
    return None if fate == "hang" else result


def ask(named: str) -> Landed | NotLanded:
    """Look outside whether this call had its effect."""
    world = WORLD.get()
    world.tick()
    made = world.made.get(current().key)
    assert made is None or made[0] == named
    return NotLanded() if made is None else Landed(made)


def backward(named: str, result: Any) -> None:
    """Compensate, as the fate of this attempt says."""
    world = WORLD.get()
    key, fate = world.enter(named, back=True)
    assert result is None or result[0] == named
    if fate == "boom":
        raise Boom("-", named)
    world.affect(key, named, back=True)


async def dawdle(named: str) -> None:
    """Let others of the event loop go first."""
    for _ in range(WORLD.get().pace(named)):
        await asyncio.sleep(0)


def steps_in(*, is_async: bool) -> dict[str, Any]:
    """Return the steps of one colour by kind; they have the same names in both."""

    def do(named: str) -> list[Any]:
        return forward(named)

    async def ado(named: str) -> list[Any]:
        await dawdle(named)
        try:
            value = forward(named)
        finally:
            await dawdle(named)
        if value is None:
            LIMIT.get().reschedule(0)
            await asyncio.get_running_loop().create_future()
        return value

    def undo(named: str, result: Any = None) -> None:
        backward(named, result)

    async def aundo(named: str, result: Any = None) -> None:
        await dawdle(named)
        backward(named, result)

    async def aask(named: str) -> Landed | NotLanded:
        await dawdle(named)
        return ask(named)

    def need(named: str, result: Any) -> None:
        backward(named, result)

    function, back = (ado, aundo) if is_async else (do, undo)
    compensate = {
        "undo": Compensation(back, retries=Retry(BACK_RETRIES, wait=1.0)),
        "needy": Compensation(need, retries=Retry(BACK_RETRIES, wait=1.0)),
        "even": Compensation(back, retries=Retry(BACK_RETRIES, wait=1.0), even_if_failed=True),
        "plain": None,
        "mail": IRREVERSIBLE,
    }
    steps = {kind: step(name=kind, compensate=compensate[kind])(function) for kind in compensate}
    steps["look"] = step(name="look", read_only=True)(function)
    steps["asked"] = step(name="asked", compensate=compensate["undo"], probe=aask if is_async else ask)(function)
    unsure = {"probe": lambda: Unknown(), "on_uncertain": "compensate"}
    steps["unsure"] = step(name="unsure", compensate=compensate["undo"], **unsure)(function)
    return steps


STEPS = {is_async: steps_in(is_async=is_async) for is_async in (False, True)}


@functools.cache
def step_of(kind: str, retries: int, is_async: bool) -> Any:
    """Return a step with its retries."""
    return STEPS[is_async][kind].using(retries=Retry(retries, wait=1.0))


async def play(node: Any, where: tuple[int, ...], is_async: bool) -> Any:  # noqa: PLR0911  # one a node
    """Play a part of a program. In a ``def`` nothing here ever waits, so that a coroutine serves both colours."""
    match node:
        case Act(name, kind, retries=retries, keyed=keyed):
            named = label(name, where)
            step_ = step_of(kind, retries, is_async)
            step_ = step_.using(key=named) if keyed else step_
            if WORLD.get().was_cut(named):
                LIMIT.get().reschedule(0)
            return await call(lambda: step_(named), named)
        case Seq(parts):
            return [await play(part, where, is_async) for part in parts]
        case Loop(times, part, indexed):
            return [await play(part, (*where, at) if indexed else where, is_async) for at in range(times)]
        case If(on, then, other):
            said = await play(on, where, is_async)
            return await play(then if said[1] else other, where, is_async)
        case Child(name, keyed=keyed):
            named = label(name, where)
            part = PARTS[is_async].using(key=named) if keyed else PARTS[is_async]
            return await call(lambda: part(named, list(where)), named)
        case Try(part, other):
            try:
                return await play(part, where, is_async)
            except CAUGHT as error:
                return [list(described(error)), await play(other, where, is_async)]
        case Within(part, other):
            return await within(functools.partial(play, part, where, is_async), lambda: play(other, where, is_async))
        case Both(parts, eager):
            branches = [functools.partial(play, part, where, is_async) for part in parts]
            return await together(branches, eager, is_async)
    raise AssertionError(node)


async def call(function: Callable[[], Any], named: str) -> Any:
    """Call a step or a child, and note what the body sees of it."""
    world = WORLD.get()
    try:
        value = function()
        value = await value if inspect.isawaitable(value) else value
    except CAUGHT as error:
        world.saw(named, (type(error).__name__, error.args, vars(error).get("fault") and error.fault.message))
        raise
    world.saw(named, value)
    return value


async def within(part: Callable[[], Any], other: Callable[[], Any]) -> Any:
    """Play a part until time is up, which is when something in it hangs; then play the other one."""
    try:
        async with asyncio.timeout(None) as limit:
            token = LIMIT.set(limit)
            try:
                return await part()
            finally:
                LIMIT.reset(token)
    except TimeoutError:
        if not limit.expired():
            raise
    return ["time", await other()]


async def together(branches: list[Callable[[], Any]], eager: bool, is_async: bool) -> list[Any]:
    """Play branches, at the same time where that can be; the first failure comes out, now or when all have ended."""
    if is_async and eager:
        return await asyncio.gather(*[branch() for branch in branches])
    if is_async:
        ended = await asyncio.gather(*[branch() for branch in branches], return_exceptions=True)
    else:
        ended = [await caught(branch) for branch in branches]
    raised = [each for each in ended if isinstance(each, BaseException)]
    for error in sorted(raised, key=lambda error: isinstance(error, Exception)):  # an interruption comes before all
        raise error
    return list(ended)


async def caught(branch: Callable[[], Any]) -> Any:
    """Return what a branch returns or fails with."""
    try:
        return await branch()
    except CAUGHT as error:
        return error


def now(part: Any) -> Any:
    """Run a coroutine that never waits."""
    try:
        part.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError(part)


def parts_in() -> dict[bool, Any]:
    """Return the nested saga in both colours."""

    @saga(name="part")
    def part(named: str, where: list[int]) -> Any:
        return now(play(WORLD.get().act(named).part, tuple(where), False))

    @saga(name="part")
    async def apart(named: str, where: list[int]) -> Any:
        return await play(WORLD.get().act(named).part, tuple(where), True)

    return {False: part, True: apart}


PARTS = parts_in()


def mains(is_async: bool) -> Any:
    """Return the saga as a new process has it: the one that a search by name finds."""

    def main(named: str) -> Any:
        return now(play(WORLD.get().program, (), False))

    async def amain(named: str) -> Any:
        return await play(WORLD.get().program, (), True)

    return saga(name="main")(amain if is_async else main)


# -- the model --------------------------------------------------------------------------------------------------------


class Failure(Exception):  # how the model leaves a part, no error of ours
    """A part of a program fails, with what `described` says of it."""


class Hung(Exception):  # as `Failure`
    """A step hangs until the time is up of the innermost `Within`."""


class Stuck(Exception):  # as `Failure`
    """A compensation failed: the whole tree stops."""


@define(eq=False)
class Predicted:
    """What the contract says of one call. *cuts* and *back_cuts* are attempts that a process's death cut off."""

    named: str
    act: Act
    scopes: tuple[int, ...]
    cuts: int
    back_cuts: int
    attempts: int = 0
    status: str = "entered"
    done: bool = False
    uncertain: bool = False
    back_used: int = 0

    @property
    def is_owed(self) -> bool:
        """It is done, or may be, and has a compensation that was not called to its end."""
        if self.status == "compensated" or self.act.kind not in COMPENSATED_KINDS:
            return False
        return self.done or self.uncertain or self.act.kind == "even"


@define(eq=False)
class Model:
    """Play a program in the mind: *effects* whose attempts are recorded, *calls* in the order of their intents."""

    cuts: Counter[tuple[str, int, bool]] = field(factory=Counter)
    effects: list[str] = field(factory=list)
    calls: list[Predicted] = field(factory=list)
    counts: Counter[str] = field(factory=Counter)
    scopes: int = 0

    def play(self, node: Any, where: tuple[int, ...], scopes: tuple[int, ...]) -> Any:  # noqa: PLR0911  # one a node
        match node:
            case Act():
                return self.do(node, label(node.name, where), scopes)
            case Seq(parts):
                return [self.play(part, where, scopes) for part in parts]
            case Loop(times, part, indexed):
                return [self.play(part, (*where, at) if indexed else where, scopes) for at in range(times)]
            case If(on, then, other):
                return self.play(then if self.play(on, where, scopes)[1] else other, where, scopes)
            case Child(part=part):
                return self.run(part, where, scopes)
            case Try(part, other):
                try:
                    return self.play(part, where, scopes)
                except Failure as failure:
                    return [list(failure.args), self.play(other, where, scopes)]
            case Within(part, other):
                try:
                    return self.play(part, where, scopes)
                except Hung:
                    return ["time", self.play(other, where, scopes)]
            case Both(parts):
                ended = [self.caught(part, where, scopes) for part in parts]
                for failure in (each for each in ended if isinstance(each, Failure)):
                    raise failure
                return ended
        raise AssertionError(node)

    def caught(self, part: Any, where: tuple[int, ...], scopes: tuple[int, ...]) -> Any:
        try:
            return self.play(part, where, scopes)
        except Failure as failure:
            return failure

    def run(self, part: Any, where: tuple[int, ...], scopes: tuple[int, ...]) -> Any:
        """Play a saga: what it owes is compensated where it fails."""
        self.scopes += 1
        scope = self.scopes
        try:
            return self.play(part, where, (*scopes, scope))
        except Failure:
            self.compensate(scope)
            raise

    def do(self, act: Act, named: str, scopes: tuple[int, ...]) -> list[Any]:
        self.counts[named] += 1
        cuts = (self.cuts[named, self.counts[named], back] for back in (False, True))
        call = Predicted(named, act, scopes, *cuts)
        call.attempts, call.uncertain = call.cuts, call.cuts > 0
        self.calls.append(call)
        for at in range(act.retries + 1):
            fate = act.fates[at] if at < len(act.fates) else "yes"
            call.attempts += 1
            if fate == "hang":
                self.effects.append(named)
                call.status, call.uncertain = "cancelled", act.kind != "look"
                raise Hung
            if fate in {"yes", "no"} or (fate == "late" and act.kind == "asked"):
                self.effects.append(named)
                call.status, call.done = "done", True
                return [named, fate == "yes", "p"]
            call.status = "failed"
            if fate == "late":
                self.effects.append(named)
                call.status, call.uncertain = "uncertain", True
                if act.kind == "unsure":
                    break
        raise Failure(*{"boom": ("Boom", named, "p"), "odd": ("Odd", named), "late": ("StepTimeout",)}[fate])

    def compensate(self, scope: int) -> None:
        for call in [call for call in reversed(self.calls) if scope in call.scopes and call.is_owed]:
            self.undo(call)

    def undo(self, call: Predicted) -> None:
        if call.act.kind == "needy" and not call.done:
            call.status = "compensation_failed"
            raise Stuck(call.named)
        for _ in range(BACK_RETRIES + 1):
            fate = call.act.back[call.back_used] if call.back_used < len(call.act.back) else "yes"
            call.back_used += 1
            if fate == "yes":
                self.effects.append(f"-{call.named}")
                call.status = "compensated"
                return
        call.status = "compensation_failed"
        raise Stuck(call.named)


def predict(program: Any, cuts: Counter[tuple[str, int, bool]] | None = None) -> tuple[Model, tuple[Any, ...]]:
    """Return how a program ends by the contract: the model after it, and the outcome."""
    model = Model(cuts or Counter())
    try:
        return model, ("value", model.run(program, (), ()))
    except Failure as failure:
        return model, ("error", *failure.args)
    except Stuck as stuck:
        return model, ("stuck", *stuck.args)


def cut_in(world: World) -> Counter[tuple[str, int, bool]]:
    """Count the attempts that have an intent and no end of their own: by label, occurrence and direction."""
    cuts: Counter[tuple[str, int, bool]] = Counter()
    counts: Counter[str] = Counter()
    keys: dict[int, tuple[str, int]] = {}
    for entry in world.entries:
        if entry.name and entry.name not in {"main", "part"}:
            named = named_in(entry)
            counts[named] += 1
            keys[entry.seq] = (named, counts[named])
        key = keys.get(entry.ref or entry.seq)
        if key is not None:
            cuts[*key, False] += (entry.kind is Kind.INTENT) - (entry.kind in ENDS)
            cuts[*key, True] += (entry.kind is Kind.COMPENSATION_INTENT) - (entry.kind in BACK_ENDS)
    return cuts


def recorded(world: World) -> list[str]:
    """Return the effects of the attempts whose end is on record: the others are what a death may repeat."""
    found: list[str] = []
    under_way: dict[tuple[str, bool], str] = {}
    for event in world.events:
        match event:
            case ("process", _):
                under_way.clear()
            case ("effect", key, back, text):
                under_way[key, back] = text
            case ("wrote", Entry(kind=kind, step=key)) if kind in ENDS | BACK_ENDS:
                effect = under_way.pop((key, kind in BACK_ENDS), None)
                found += [] if effect is None else [effect]
    return found


# -- the judge --------------------------------------------------------------------------------------------------------


@define(eq=False)
class Charge:
    """What the judge knows of one call, from the entries that were written before a moment."""

    entry: Entry
    act: Any
    status: str = "entered"
    done: bool = False
    failed: bool = False
    uncertain: bool = False
    is_open: bool = False

    @property
    def is_owed(self) -> bool:
        if self.status == "compensated" or getattr(self.act, "kind", "") not in COMPENSATED_KINDS:
            return False
        return self.done or self.uncertain or self.is_open or (self.failed and self.act.kind == "even")


@define(eq=False)
class Judge:
    """Read a world's events in order and refuse what no program may ever show. Rules have the contract's numbers."""

    world: World
    calls: dict[str, Charge] = field(factory=dict)
    parents: dict[int, int] = field(factory=dict)
    plans: dict[int, list[str]] = field(factory=dict)
    entered: set[tuple[str, bool]] = field(factory=set)
    scope_status: dict[int, str] = field(factory=dict)
    died: bool = False

    def read(self) -> None:
        """Judge all that happened; what must not be is an `AssertionError` that names the rule."""
        for event in self.world.events:
            match event:
                case ("process", _):
                    self.end_process()
                case ("died",):
                    self.died = True
                case ("entered", key, back, _):
                    self.enter(key, back=back)
                case ("wrote", entry):
                    self.write(entry)
        self.end_process()
        self.end()

    def end_process(self) -> None:
        most = width(self.world.program) if self.died else 0
        assert len(self.entered) <= most, f"G2: more attempts cut off than were under way: {self.entered}"
        self.entered, self.died = set(), False

    def within(self, scope: int) -> Iterator[int]:
        """Yield a scope and those around it."""
        while scope:
            yield scope
            scope = self.parents[scope]

    def owed(self, scope: int) -> list[str]:
        """Return what a scope owes, the last intent first."""
        owed = [call for call in self.calls.values() if call.is_owed and scope in self.within(call.entry.scope)]
        return [call.entry.step for call in sorted(owed, key=lambda call: -call.entry.seq)]

    def enter(self, key: str, *, back: bool) -> None:
        call = self.calls.get(key)
        if back:
            assert call, f"G3: {key} is compensated and has no intent"
            assert call.status == "compensating", f"G3: the compensation of {key} is entered without intent"
        elif call is None or call.act.kind == "look":
            looks = key.rpartition("/")[2].partition("#")[0].partition(":")[0] == "look"
            assert looks, f"G3: {key} is entered without intent"
            assert call is None, f"G1: {key} is on record and entered again"
        else:
            assert call.status in {"entered", "retrying"}, f"G1: {key} is on record as {call.status}, and entered again"
            assert call.is_open, f"G3: {key} is entered without intent"
            closed = [scope for scope in self.within(call.entry.scope) if self.scope_status[scope] != "open"]
            assert not closed, f"G5: {key} is entered in a scope that is {self.scope_status[closed[0]]}"
        assert (key, back) not in self.entered or call is None, f"{key} is entered twice at once"
        self.entered.add((key, back))

    def write(self, entry: Entry) -> None:
        if entry.kind is Kind.OPENED:
            self.parents[entry.seq] = entry.scope
            self.scope_status[entry.seq] = "open"
        elif entry.ref is None and entry.name is None:
            self.write_of_scope(entry)
        else:
            if entry.name is not None:
                assert entry.step not in self.calls, f"two calls are {entry.step}"
                self.calls[entry.step] = Charge(entry, self.world.act(named_in(entry)))
            self.write_of_call(entry, self.calls[entry.step])

    def write_of_scope(self, entry: Entry) -> None:
        scope = entry.scope or 1
        if entry.kind is Kind.LEFT:
            self.left(entry)
        elif entry.kind is Kind.COMPENSATING:
            self.scope_status[scope] = "compensating"
            self.plans[scope] = self.owed(scope)
        elif entry.kind in {Kind.COMPENSATED, Kind.COMPLETED, Kind.COMPENSATION_FAILED}:
            self.scope_status[scope] = str(entry.kind)
            if entry.kind is Kind.COMPENSATED:
                assert not self.owed(scope), f"G4: {entry.step or 'the run'} is compensated and owes {self.owed(scope)}"

    def write_of_call(self, entry: Entry, call: Charge) -> None:
        kind = entry.kind
        if kind is Kind.INTENT:
            closed = [scope for scope in self.within(entry.scope) if self.scope_status[scope] != "open"]
            assert not closed, f"G5: {entry.step} has an intent in a scope that is {self.scope_status[closed[0]]}"
            call.uncertain, call.is_open = call.uncertain or call.is_open, True
        elif kind is Kind.NOT_LANDED:
            call.uncertain = call.is_open = False
            self.entered.discard((entry.step, False))
            if not call.is_owed:
                self.settled(entry.step)
        elif kind in ENDS:
            call.status, call.is_open = str(kind), False
            call.done, call.failed = kind is Kind.DONE, kind is Kind.FAILED
            call.uncertain = call.uncertain or kind in {Kind.UNCERTAIN, Kind.CANCELLED} or told_uncertain(entry)
            self.entered.discard((entry.step, False))
        elif kind in {Kind.COMPENSATION_INTENT, Kind.COMPENSATION_ERROR} and call.status != "compensating":
            self.mirror(entry)
            call.status = "compensating" if kind is Kind.COMPENSATION_INTENT else "compensation_failed"
            self.entered.discard((entry.step, True))
        elif kind in BACK_ENDS:
            self.entered.discard((entry.step, True))
            if kind is Kind.COMPENSATION_DONE:
                call.status = "compensated"
                self.settled(entry.step)
            elif kind is Kind.COMPENSATION_ERROR:
                call.status = "compensation_failed"

    def left(self, entry: Entry) -> None:
        """Note that a child was cut off: nothing starts in it any more."""
        if self.scope_status[entry.scope] == "open":
            self.scope_status[entry.scope] = "left"

    def settled(self, step: str) -> None:
        """Note that a call is no longer owed anything."""
        for plan in self.plans.values():
            plan[:] = [key for key in plan if key != step]

    def mirror(self, entry: Entry) -> None:
        """Compare what is compensated next with the last intent that is owed.

        A child that had begun to compensate before the scope around it did may end that first.
        """
        plans = [self.plans[scope] for scope in self.within(entry.scope) if scope in self.plans]
        assert plans, f"{entry.step} is compensated, and no scope around it has begun to"
        assert any(entry.step in plan for plan in plans), f"{entry.step} is compensated and not owed"
        heads = [plan[0] for plan in plans if plan]
        assert entry.step in heads, f"compensation is no mirror of intents: {entry.step} comes before {heads}"

    def end(self) -> None:
        """See that nothing stands which a compensated run did and could take back."""
        if self.world.status == "compensated":
            acts, effects = self.world.acts, self.world.effects
            done = {text for text in effects if not text.startswith("-")}
            undone = {text[1:] for text in effects if text.startswith("-")}
            owed = {text for text in done if acts[text.partition(".")[0]].kind in COMPENSATED_KINDS}
            assert owed <= undone, f"G4: {owed - undone} happened and were not compensated"


def told_uncertain(entry: Entry) -> bool:
    """Tell whether an entry says of an attempt that is tried again that its effect is uncertain."""
    return '"uncertain":true' in (entry.result or "")


def judge(world: World) -> None:
    """Refuse what no program may ever show; see `Judge`. What the body sees must also be the same in each process."""
    Judge(world).read()
    children = [node for node in nodes(world.program) if isinstance(node, Child)]
    has_failed = any(entry.kind is Kind.COMPENSATED and entry.scope > 1 for entry in world.entries)
    unseen = {node.name for child in children for node in nodes(child.part) if isinstance(node, Act | Child)}
    for named, processes in world.seen.items():
        if has_failed and named.partition(".")[0] in unseen:
            continue  # the body of a child that failed is not run again
        for seen, other in itertools.combinations(processes, 2):
            shared = min(len(seen), len(other))
            assert seen[:shared] == other[:shared], f"G7: {named} gave {seen}, and {other} on replay"
