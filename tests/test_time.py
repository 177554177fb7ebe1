"""A clock that jumps: nobody sleeps for ever, nothing lasts less than no time, and order is not the clock's affair."""

from __future__ import annotations

import re

import pytest

import sagadsl
from sagadsl import Retry, report

HOUR = 3600 * 1_000_000


class Cut(BaseException):
    """As a kill: nothing of ours goes on in this process."""


@pytest.fixture
def trip(colour, world):
    """Give a maker of a saga whose second step answers at the third attempt, with 10 seconds in between."""

    def make(runtime):
        @colour.step(compensate=None, name="first")
        def first() -> None:
            world.add("first")

        @colour.step(compensate=None, retries=Retry(3, wait=10.0), name="second")
        def second() -> str:
            world.add("second")
            if world.effects.count("second") < 3:
                raise ConnectionError("no answer")
            return "here"

        @colour.saga(runtime=runtime, name="trip", key="k")
        def trip():
            yield first()
            return (yield second())

        return trip

    return make


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_a_clock_that_jumps_during_a_back_off_changes_nothing(trip, colour, make_runtime, clock, jump):
    """What is waited for is told in seconds, not as a time of day."""
    sleep = clock.sleep

    def jumping(seconds):
        sleep(seconds)
        clock.microseconds += jump

    clock.sleep = jumping
    runtime = make_runtime(sleep=jumping)
    assert colour.call(trip(runtime)) == "here"
    assert clock.slept == [10.0, 10.0]
    assert said(runtime) == []


@pytest.mark.parametrize("jump", [-HOUR, HOUR, 0])
def test_a_clock_that_jumps_between_a_kill_and_the_resumption(trip, colour, make_runtime, clock, caplog, jump):
    """Put back, it makes the rest of a back-off no longer than the whole; put forward, there is no rest."""

    def killed(_):
        raise Cut

    async def akilled(_):
        raise Cut

    with pytest.raises(Cut):
        colour.call(trip(make_runtime(sleep=killed, asleep=akilled)))
    clock.microseconds += jump
    runtime = make_runtime()
    clock.slept.clear()
    assert colour.call(trip(runtime)) == "here"
    assert [seconds for seconds in map(round, clock.slept) if seconds] == ([10.0] if jump > 0 else [10.0, 10.0])
    assert "cut off" in caplog.text
    assert not re.search(r"cut off -|-\d+(\.\d+)? (second|minute|hour)", caplog.text)
    assert said(runtime) == []


def said(runtime):
    """Return what a report says of a duration below nothing; its order is the journal's whatever the clock said."""
    (run,) = runtime.runs()
    assert [step.key for step in run.steps] == ["first", "second"]
    assert run.status == sagadsl.Status.COMPLETED
    return re.findall(r" -\d.*", report.run_text(run))
