"""An engine of forty lines, so that the seam stays one: it keeps outcomes in a history of its own and hands work away.

It answers ``Do`` by giving the work to a worker, which drives ``attempt`` with a small driver of its own. On a second
execution it answers from its history, and no worker hears of it. Everything else, identity, replay, order, what is
compensated, must come from the flows; so the programs of the laws end on it as they do on the embedded drivers.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any

from hypothesis import assume, example, given
from hypothesis import strategies as st

from sagadsl import Runtime
from sagadsl._core import flow
from sagadsl._core.drive.entries import write
from sagadsl._core.effects import Call, Do, Raise, Sleep, Wait
from sagadsl._core.scope import CURRENT
from sagadsl._core.values import Entry
from tests.properties.programs import KINDS, PROBED, WORLD, Act, World, acts, judge, programs
from tests.properties.test_saga_laws import asked, check_model, law, moments, strike

every_kind = programs(acts(kinds=(*KINDS, *PROBED)))


class Engine:
    """A pair of drivers whose attempts run in a worker's thread; *history* outlives them, *handed* counts its work."""

    def __init__(self) -> None:
        self.history: dict[tuple[str, str], tuple[list[Entry], Any]] = {}
        self.handed: list[tuple[str, str]] = []

    def setup(self, runtime: Runtime) -> None:
        """Have a runtime execute its flows here."""
        runtime.drive, runtime.adrive, runtime.do = self.execute, self.aexecute, flow.handed_over

    def execute(self, flow: Any) -> Any:
        """Run a flow of a saga: all but the work in place."""
        return drain(flow, lambda effect: self.work(effect.call) if type(effect) is Do else act(effect))

    async def aexecute(self, flow: Any) -> Any:
        """Run a flow of a saga that is a coroutine."""
        return self.execute(flow)

    def work(self, work: Any) -> Any:
        """Return the outcome that a worker comes back with, or the one in the history, as if it came back once more."""
        told = (work.slot.key, "probe" if work.is_probe else "compensation" if work.is_compensation else "step")
        if told in self.history:
            records, outcome = self.history[told]
            for record in records:
                write(work.slot.entry(record.kind, record.attempt, record.result))
            return outcome
        self.handed.append(told)
        answers: SimpleQueue[tuple[list[Entry], Any, BaseException | None]] = SimpleQueue()
        Thread(target=worker, args=(work, WORLD.get(), answers)).start()
        records, outcome, error = answers.get()
        if error is not None:
            raise error
        self.history[told] = (records, outcome)
        return outcome


def drain(flow: Any, answered: Callable[[Any], Any]) -> Any:
    """Run a flow to its end, each effect answered by a function."""
    answer, error = None, None
    while True:
        try:
            effect = flow.throw(error) if error is not None else flow.send(answer)
        except StopIteration as end:
            if isinstance(end.value, Raise):
                raise end.value.error from None
            return end.value
        answer, error = None, None
        try:
            answer = answered(effect)
        except BaseException as raised:  # the flow decides
            error = raised


def worker(work: Any, world: World, answers: SimpleQueue[tuple[list[Entry], Any, BaseException | None]]) -> None:
    """Have one piece of work done, elsewhere: here only the work and the world are known."""
    WORLD.set(world)
    records: list[Entry] = []

    def answered(effect: Any) -> Any:
        answer = act(effect)
        records.extend([effect] if type(effect) is Entry else [])
        return answer

    try:
        answers.put((records, drain(flow.attempt(work), answered), None))
    except BaseException as error:  # whoever handed the work away gets it
        answers.put((records, None, error))


def act(effect: Any) -> Any:
    """Do what an effect asks for."""
    if type(effect) is Entry:
        return write(effect)
    if type(effect) is Sleep:
        return WORLD.get().sleep(effect.seconds)
    if type(effect) is Wait:
        raise asyncio.CancelledError
    if type(effect) is not Call:
        return None
    CURRENT.set(effect)
    value = effect.function(*effect.args, **effect.kwargs)
    return asyncio.run(awaited(value)) if inspect.isawaitable(value) else value


async def awaited(value: Any) -> Any:
    return await value


def told(world: World) -> list[Any]:
    return [(entry.kind, entry.step, entry.attempt, entry.arguments) for entry in world.entries]


@law(60)
@given(every_kind, st.booleans())
@example(Act("a", "asked", ("late",)), False)
@example(Act("a", "unsure", ("late",)), False)
def test_a_program_ends_on_an_engine_as_on_the_embedded_drivers(program, is_async):
    """The same world, outcome and entries: no rule lives in the embedded drivers."""
    embedded, engine = World(program, is_async), Engine()
    elsewhere = World(program, is_async, setup=engine.setup)
    assert elsewhere.live() == embedded.live()
    assert elsewhere.effects == embedded.effects
    assert told(elsewhere) == told(embedded)
    judge(elsewhere)


@law(60)
@given(every_kind, st.booleans())
@example(Act("a", "unsure", ("late",)), False)
def test_a_second_execution_is_answered_from_the_history(program, is_async):
    """An engine that lost all but its history hands nothing to a worker, and the saga ends in the same way."""
    engine = Engine()
    first = World(program, is_async, setup=engine.setup)
    outcome = first.live()
    handed = list(engine.handed)
    second = World(program, is_async, setup=engine.setup)
    assert second.live() == outcome
    assert second.effects == []
    assert engine.handed == handed
    assert told(second) == told(first)


@law(60)
@given(programs(), st.booleans(), st.integers(1, 40))
def test_an_interrupted_execution_hands_at_most_one_work_away_again(program, is_async, dies_at):
    """What has an outcome is on record or in the history, and never a worker's affair again."""
    engine = Engine()
    world = World(program, is_async, setup=engine.setup)
    world.live(dies_at)
    outcome = world.finish()
    judge(world)
    check_model(world, outcome)
    again = {key for key in engine.handed if engine.handed.count(key) > 1}
    assert len(again) <= 1


@law(60)
@given(programs(asked, fails=True), st.booleans(), moments)
def test_what_a_probe_knows_happens_once_on_an_engine(program, is_async, moments):
    """Interrupted anywhere, in a worker or where the saga is executed."""
    engine = Engine()
    world = World(program, is_async, setup=engine.setup)
    whole = World(program, is_async)
    expected = whole.live()
    strike(world, moments)
    assert world.finish() == expected
    judge(world)
    assert [e for e in world.effects if e[0] != "-"] == [e for e in whole.effects if e[0] != "-"]


@law(60)
@given(programs(asked), st.booleans(), st.integers(1, 40))
def test_a_probe_asked_to_compensate_is_work_of_its_own(program, is_async, dies_at):
    """Handed to a worker like the rest; and only what happened is compensated."""
    engine = Engine()
    world = World(program, is_async, setup=engine.setup)
    world.live(dies_at)
    assume(world.status not in {"", "completed", "compensated"})
    world.compensate()
    judge(world)
    assert world.status == "compensated"
    assert {e[1:] for e in world.effects if e[0] == "-"} == {e for e in world.effects if e[0] != "-"}


@law(60)
@given(programs())
def test_the_check_refuses_an_engine_that_forgets(program):
    """A history that keeps nothing has everything done twice, which the check must see."""
    engine = Engine()
    first = World(program, setup=engine.setup)
    first.live()
    engine.history.clear()
    second = World(program, setup=engine.setup)
    second.live()
    assert second.effects == first.effects
    assert len(engine.handed) > len(set(engine.handed))
