"""The laws of cancellations: whoever brings one, and whatever a body makes of it, a death changes nothing about it.

Programs, the clock and the world are in `cancelling`. At the end stand mutants that the checks must refuse.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from random import Random
from typing import Any

import pytest
from attrs import frozen
from hypothesis import Phase, example, find, given, settings

from sagadsl._core import effects
from sagadsl._core.flow import calls, stopping
from sagadsl._core.scope import Scope, waking
from sagadsl._core.scope.cancelled import Coming
from sagadsl._core.values import Kind
from tests.properties.cancelling import (
    AGAIN,
    ONCE,
    UNIT,
    Act,
    Cancelled,
    Child,
    Gather,
    Group,
    Hang,
    Seq,
    Swallow,
    Task,
    Timed,
    World,
    here,
    named,
    programs,
    programs_with_one_that_comes_once,
)
from tests.properties.test_saga_laws import law


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    """Do not say a thousand times which run goes on, and what tasks of the dead had still to say."""
    loggers = [logging.getLogger(name) for name in ("sagadsl", "asyncio")]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    yield
    gc.collect()
    for logger in loggers:
        logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="module", autouse=True)
def _long_naps():
    """Look after a run that stops every second of its clock, which nobody waits for, and not every few milliseconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waking, "NAPS", (*waking.NAPS, 1.0))
        yield


SLOW, QUICK = Act("", "slow"), Act("")
SWALLOWED = Swallow("", SLOW)
GOES_ON = Seq((SWALLOWED, QUICK))
BRANCHES = named(Timed("", Gather((GOES_ON, QUICK)), 1))
"""A branch swallows the timeout's cancellation and goes on: the body around sees the timeout all the same."""
ENDED = {by: named(Seq((Cancelled("", SWALLOWED, 1, by), QUICK))) for by in (*AGAIN, *ONCE)}
"""A task swallows its cancellation and ends well."""
WHOLE = named(Cancelled("", Gather((SWALLOWED, SWALLOWED)), 1, "here"))
"""Somebody cancels the body, whose branches swallow that: the body sees it all the same."""
BESIDE = named(Group("", (SLOW, Seq((Timed("", SLOW, 1), QUICK))), 2))
"""A branch goes on after its timeout, while another one still waits."""


def check(program: Any) -> None:
    """Compare a run that dies, at each of its moments, and goes on with one that never does."""
    whole = World(program)
    expected = whole.live()
    moments = 0 if whole.leaks else whole.ticks  # a task that nobody waits for goes on or not, as it comes
    for at in range(1, moments + 1):
        world = World(program, whole=whole)
        assert world.live(dies_at=at) is None
        is_over = world.status == "completed"
        assert world.live() == expected
        assert is_over or world.seen == whole.seen
        assert set(world.effects) == set(whole.effects)


@law(60)
@given(programs())
@example(BRANCHES)
@example(BESIDE)
@example(ENDED["body"])
@example(ENDED["itself"])
@example(named(Timed("", GOES_ON, 1)))
@example(named(Timed("", Seq((GOES_ON, Child("", SLOW))), 1)))
@example(named(Timed("", Task(Gather((GOES_ON, Child("", GOES_ON)))), 1)))
def test_a_run_that_died_takes_the_way_of_one_that_never_did(program):
    """Timeouts, groups and the body's own cancellations, whether they are swallowed, taken back or let through."""
    check(program)


@law(60)
@given(programs_with_one_that_comes_once())
@example(ENDED["step"])
@example(ENDED["outside"])
@example(ENDED["here"])
@example(WHOLE)
@example(named(Seq((Cancelled("", Swallow("", SLOW, takes_back=True), 1, "here"), SLOW))))
@example(named(Child("", Cancelled("", Child("", Gather((GOES_ON, SLOW))), 1, "here"))))
def test_a_cancellation_that_nobody_brings_again_is_brought(program):
    """By a step that is not entered again, or from outside: the body goes the same way, and does not wait for ever."""
    check(program)


@law(25)
@given(programs((*AGAIN, *ONCE)))
def test_whoever_cancels_a_run_that_died_ends_and_owes_nothing(program):
    """Where what comes once runs into what comes again, too."""
    whole = World(program, fails=True)
    whole.live()
    for at in range(1, whole.ticks + 1):
        world = World(program, fails=True, whole=whole)
        assert world.live(dies_at=at) is None
        for _ in range(2):  # what lets an interruption through is gone on with
            if world.status != "compensated":
                assert world.live() is not Hang
        assert world.status == "compensated"
        done = {effect for effect in world.effects if effect[0] != "-"}
        assert {effect[1:] for effect in world.effects if effect[0] == "-"} >= done


@frozen
class Apart:
    """Play a part in a task; somebody outside cancels it, and this one too, which does not pass that on."""

    name: str
    part: Any
    after: float
    by: str = "outside"

    async def play(self, world: World) -> None:
        task = asyncio.create_task(self.part.play(world))
        for each in (here(), task):
            world.stranger(self, each)
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                world.saw(self.name, "struck")


def test_a_task_gets_what_the_body_around_does_not_pass_on():
    """Both were cancelled the first time, and both are."""
    program = named(Apart("", SWALLOWED, 1))
    check(program)
    world = World(program)
    world.live()
    assert world.seen == {"a": ["struck"], "b": ["swallowed 1"]}


def is_swallowed_and_gone_on(world: World) -> bool:
    """Tell whether a step was cut off and, before its task had ended, another one was begun."""
    return bool(world.cut) and any("swallowed 1" in each for each in world.seen.values())


REACHED = {
    "a step that is cut off and a body that goes on": (programs(), is_swallowed_and_gone_on),
    "a child that is left": (programs(), lambda world: any(e.kind is Kind.LEFT for e in world.entries)),
    "a timeout": (programs(), lambda world: any("timeout" in each for each in world.seen.values())),
    "a group that fails": (programs(), lambda world: any("failed" in each for each in world.seen.values())),
    "tasks that write together": (programs(), lambda world: world.shared > 1),
    "somebody outside": (
        programs_with_one_that_comes_once(),
        lambda world: world.cut and any("struck" in each for each in world.seen.values()),
    ),
}


@pytest.mark.parametrize("reached", REACHED)
def test_the_programs_reach(reached):
    """What a law never meets it says nothing about."""
    drawn, is_met = REACHED[reached]

    def meets(program: Any) -> bool:
        world = World(program)
        world.live()
        return bool(not world.leaks and is_met(world))

    budget = settings(law(2000), database=None, phases=[Phase.generate])
    assert find(drawn, meets, settings=budget, random=Random(1)) is not None  # noqa: S311


# -- mutants: what the checks must refuse ------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["step", "outside", "here"])
def test_the_check_refuses_a_run_that_waits_for_ever(by, monkeypatch):
    monkeypatch.setattr(Coming, "patience", 1e9)
    check(ENDED["body"])
    with pytest.raises(AssertionError, match="Hang"):
        check(ENDED[by])


@pytest.mark.parametrize("program", [BRANCHES, named(Timed("", SLOW, 1))], ids=["branches", "alone"])
def test_the_check_refuses_a_cancellation_that_comes_at_once(program, monkeypatch):
    monkeypatch.setattr(calls, "coming", lambda *_: None)
    with pytest.raises(AssertionError):
        check(program)


def test_the_check_refuses_one_that_comes_too_early(monkeypatch):
    monkeypatch.setattr(Coming, "patience", UNIT / 2)
    with pytest.raises(AssertionError):
        check(BRANCHES)


def test_the_check_refuses_one_that_comes_to_the_wrong_task(monkeypatch):
    check(WHOLE)
    of = Coming.of
    monkeypatch.setattr(Coming, "of", lambda told: None if told is None else of(told | {"around": None}))
    with pytest.raises(AssertionError, match="struck"):
        check(WHOLE)


def test_the_check_refuses_a_body_that_waits_for_its_neighbours(monkeypatch):
    """Before it goes on after what was cut off, and only the first time."""

    def waiting(scope: Scope) -> Any:
        yield effects.Gather(scope)
        yield from survive(scope)

    survive = stopping.survive
    monkeypatch.setattr(calls, "survive", waiting)
    with pytest.raises(AssertionError):
        check(BESIDE)
