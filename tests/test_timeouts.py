"""An attempt that takes too long: cut off where it can be, waited for where it cannot; its effect is uncertain."""

from __future__ import annotations

import asyncio
import threading

import pytest

import sagadsl
from sagadsl import Retry, StepTimeout, saga, step


def test_a_sync_attempt_is_waited_for_and_a_late_success_counts(make_runtime, world):
    """Nothing follows until it has really ended."""
    runtime = make_runtime()

    @step(compensate=None, timeout=0.01)
    def slow() -> str:
        assert sagadsl.current().remaining <= 0.01
        threading.Event().wait(0.05)
        world.add("landed")
        return "late"

    @saga(runtime=runtime)
    def flow() -> str:
        value = slow()
        world.add("after")
        return value

    assert flow() == "late"
    assert world == ["landed", "after"]


def test_a_sync_attempt_that_fails_late_is_uncertain_and_owed(make_runtime, world):
    """Its exception says nothing about an effect that had so much time."""
    runtime = make_runtime()

    @step(compensate=lambda: world.add("-slow"), timeout=0.01)
    def slow() -> None:
        threading.Event().wait(0.05)
        raise OSError("too late")

    @saga(runtime=runtime)
    def flow() -> None:
        slow()

    with pytest.raises(StepTimeout) as caught:
        flow()
    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.step, caught.value.timeout) == ("slow", 0.01)
    assert world == ["-slow"]


def test_a_sync_attempt_in_time_is_an_ordinary_one(make_runtime):
    """Value and exception come through its thread, with the context it was called in."""
    runtime = make_runtime()

    @step(compensate=None, timeout=30)
    def quick(fail: bool) -> str:
        if fail:
            raise LookupError("in time")
        return str(sagadsl.current().key)

    @saga(runtime=runtime)
    def flow(fail: bool) -> str:
        return quick(fail)

    assert flow(False) == "quick"
    with pytest.raises(LookupError, match="in time"):
        flow(True)


def test_an_async_attempt_is_cancelled_and_uncertain(make_runtime, world):
    """It is tried again if its retries say so; uncertain is sticky, though the last attempt fails cleanly."""
    runtime = make_runtime()

    @step(compensate=lambda: world.add("-slow"), timeout=0.01, retries=Retry(1, on=TimeoutError))
    async def slow() -> None:
        world.add(f"try{sagadsl.current().attempt}")
        if sagadsl.current().attempt == 1:
            await asyncio.Event().wait()
        raise ValueError("clean")

    @saga(runtime=runtime)
    async def flow() -> None:
        await slow()

    with pytest.raises(ValueError, match="clean"):
        asyncio.run(flow())
    assert world == ["try1", "try2", "-slow"]


def test_an_async_attempt_that_swallows_its_cancellation_and_returns_is_done(make_runtime):
    """A late success counts in both colours."""
    runtime = make_runtime()

    @step(compensate=None, timeout=0.01)
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "late"
        return "never"

    @saga(runtime=runtime)
    async def flow() -> str:
        return await stubborn()

    assert asyncio.run(flow()) == "late"


def test_the_same_timeout_is_raised_on_replay(make_runtime, world):
    """Without entering the step again."""
    runtime = make_runtime()
    seen = []

    @step(compensate=None, timeout=0.01)
    async def slow() -> None:
        world.add("slow")
        await asyncio.Event().wait()

    @step(compensate=None)
    async def cut() -> None:
        if sagadsl.current().attempt == 1:
            raise KeyboardInterrupt

    @saga(runtime=runtime, key="k")
    async def flow() -> None:
        try:
            await slow()
        except StepTimeout as error:
            seen.append((error.step, error.timeout))
        await cut()

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(flow())
    asyncio.run(flow())
    assert seen == [("slow", 0.01)] * 2
    assert world == ["slow"]
