"""An attempt that takes too long: cut off where it can be, waited for where it cannot; its effect is uncertain."""

from __future__ import annotations

import asyncio
import signal
import threading

import pytest

import sagadsl
from sagadsl import (
    Compensation,
    CompensationError,
    CompensationFailed,
    Live,
    Retry,
    RunLockedError,
    StepTimeout,
    UsageError,
    saga,
    step,
)


def overrun() -> None:
    """Stay until the attempt's time is up."""
    while sagadsl.current().remaining:
        threading.Event().wait(0.001)


async def aoverrun() -> None:
    """Stay until the attempt is cancelled."""
    await asyncio.get_running_loop().create_future()


class Death(BaseException):
    """The process is dead, as far as a body can tell."""


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


# -- nothing follows until it has ended -------------------------------------------------------------------------------


def test_neither_an_attempt_nor_a_compensation_nor_the_end_follows_before_a_sync_attempt_has_ended(make_runtime, world):
    """Each late exception is uncertain, tells what it came from, and uses up a retry as any other."""

    @step(compensate=lambda: world.add("-slow"), timeout=0.005, retries=Retry(1, on=TimeoutError))
    def slow() -> None:
        world.add("in")
        overrun()
        world.add("out")
        raise OSError("too late")

    @saga(runtime=make_runtime(), key="k")
    def flow() -> None:
        slow()

    with pytest.raises(StepTimeout) as caught:
        flow()
    assert world == ["in", "out", "in", "out", "-slow"]
    assert isinstance(caught.value.__cause__, OSError)
    assert make_runtime().find("flow/k").status == "compensated"


def test_a_late_success_of_a_sync_attempt_is_done_with_its_result(make_runtime, world):
    """And compensated with it."""

    @step(compensate=lambda result: world.add(f"-{result}"), timeout=0.005, retries=3)
    def slow() -> str:
        overrun()
        world.add("late")
        return "late"

    @saga(runtime=make_runtime(), key="k")
    def flow() -> None:
        slow()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        flow()
    assert world == ["late", "-late"]
    assert [(s.attempts, s.uncertain) for s in make_runtime().find("flow/k").steps] == [(1, False)]


def test_a_sync_step_with_a_timeout_holds_up_the_async_body_that_calls_it(make_runtime, world):
    """It is called directly, so that nothing else of the loop runs meanwhile; a cancellation comes after it."""

    @step(compensate=None, timeout=0.005)
    def slow() -> str:
        loops[0].call_soon_threadsafe(tasks[0].cancel)
        overrun()
        world.add("late")
        return "late"

    @step(compensate=None)
    async def after() -> None:
        await asyncio.sleep(0)
        world.add("never")

    @saga(key="k")
    async def flow() -> str:
        value = slow()
        await after()
        return value

    async def main() -> str:
        loops.append(asyncio.get_running_loop())
        tasks.append(asyncio.ensure_future(flow.using(runtime=make_runtime())()))
        return await tasks[0]

    loops: list[asyncio.AbstractEventLoop] = []
    tasks: list[asyncio.Future[str]] = []
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert world == ["late"]
    assert [(s.key, s.status) for s in make_runtime().find("flow/k").steps] == [
        ("slow", "done"),
        ("after", "not_landed"),
    ]


def test_the_time_that_remains_counts_down_and_is_none_without_a_timeout(colour, make_runtime):
    """In a step and in a compensation."""
    seen = []

    def undo() -> None:
        seen.append(sagadsl.current().remaining)

    def undo_within() -> None:
        seen.append(sagadsl.current().remaining)

    @colour.step(compensate=colour.coloured(undo))
    def free() -> None:
        seen.append(sagadsl.current().remaining)

    @colour.step(compensate=Compensation(colour.coloured(undo_within), timeout=20), timeout=30)
    def bound() -> None:
        first = sagadsl.current().remaining
        while sagadsl.current().remaining == first:
            threading.Event().wait(0.001)
        seen.extend([first, sagadsl.current().remaining])

    @colour.saga(runtime=make_runtime())
    def flow():
        yield free()
        yield bound()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        colour.call(flow)
    assert sagadsl.current().remaining is None
    without, first, later, back, back_without = seen
    assert without is None
    assert back_without is None
    assert 0 < later < first <= 30
    assert 0 < back <= 20


def test_a_steps_own_timeout_is_a_failure_and_not_uncertain(make_runtime, world):
    """Its author knows what it means; nothing is owed."""

    @step(compensate=lambda: world.add("-own"), timeout=30)
    async def own() -> None:
        async with asyncio.timeout(0.001):
            await aoverrun()

    @saga(runtime=make_runtime(), key="k")
    async def flow() -> None:
        await own()

    with pytest.raises(TimeoutError) as caught:
        asyncio.run(flow())
    assert not isinstance(caught.value, StepTimeout)
    assert world == []
    assert [(s.status, s.uncertain) for s in make_runtime().find("flow/k").steps] == [("failed", False)]


@pytest.mark.parametrize("lands", [False, True])
def test_a_compensation_has_a_timeout_of_its_own(colour, make_runtime, world, lands):
    """Late and failed it is tried again; late and well it counts, where it could not be cut off."""

    def undo() -> None:
        world.add(f"undo{sagadsl.current().attempt}")
        overrun()
        if not lands and sagadsl.current().attempt == 1:
            raise OSError("too late")

    async def aundo() -> None:
        world.add(f"undo{sagadsl.current().attempt}")
        try:
            if lands or sagadsl.current().attempt == 1:
                await aoverrun()
        except asyncio.CancelledError:
            if not lands:
                raise

    @colour.step(compensate=Compensation(aundo if colour.is_async else undo, timeout=0.005))
    def act() -> None:
        world.add("act")

    @colour.saga(runtime=make_runtime(), key="k", name="flow")
    def flow():
        yield act()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        colour.call(flow)
    assert world == ["act", "undo1"] + ([] if lands else ["undo2"])
    assert make_runtime().find("flow/k").status == "compensated"


# -- a Ctrl-C while a sync attempt with a timeout runs in its thread --------------------------------------------------


class Pressed:
    """A step that has Ctrl-C pressed while it is inside, and stays until it may leave."""

    def __init__(self, world, *, fails: bool = False) -> None:
        self.world, self.fails, self.leave, self.presses = world, fails, threading.Event(), True

    def __call__(self) -> str:
        self.world.add("in")
        if self.presses:
            self.presses = False
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            assert self.leave.wait(30)
        if self.fails:
            raise OSError("too late")
        self.world.add("landed")
        return "late"

    def land(self) -> None:
        """Let it leave, and wait until its thread has ended."""
        self.leave.set()
        for thread in threading.enumerate():
            if thread.name.startswith("sagadsl "):
                thread.join(30)


@pytest.mark.parametrize("fails", [False, True])
def test_a_ctrl_c_leaves_at_once_and_the_run_is_held_until_the_attempt_has_ended(make_runtime, world, fails):
    """Nothing follows before; a late value is recorded as done, a late exception leaves it uncertain: entered again."""
    pressed = Pressed(world, fails=fails)

    @step(compensate=None, timeout=60)
    def slow() -> str:
        return pressed()

    @saga(key="k")
    def flow() -> str:
        return slow()

    with pytest.raises(KeyboardInterrupt):
        flow.using(runtime=make_runtime())()
    run = make_runtime().find("flow/k")
    assert (run.status, run.is_live) == ("open", True)
    with pytest.raises(RunLockedError):
        flow.using(runtime=make_runtime())()
    pressed.land()
    assert not make_runtime().find("flow/k").is_live
    assert [s.status for s in make_runtime().find("flow/k").steps] == ["entered" if fails else "done"]
    pressed.fails = False
    assert flow.using(runtime=make_runtime())() == "late"
    assert world == (["in", "in", "landed"] if fails else ["in", "landed"])


def test_a_run_that_an_interruption_left_to_a_thread_is_taken_by_force_alone(make_runtime, world):
    """Without a key, too; the thread's late value is then nobody's."""
    pressed = Pressed(world)

    @step(compensate=None, timeout=60)
    def slow() -> str:
        return pressed()

    @saga
    def flow() -> str:
        return slow()

    with pytest.raises(KeyboardInterrupt):
        flow.using(runtime=make_runtime())()
    with pytest.raises(RunLockedError, match=r"steal=True"):
        flow.using(runtime=make_runtime())()
    assert flow.using(runtime=make_runtime(), steal=True)() == "late"
    pressed.land()
    assert [run.status for run in make_runtime().runs()] == ["completed"]
    assert world == ["in", "in", "landed", "landed"]


@pytest.mark.parametrize("way", ["block", "hand"])
def test_a_run_without_a_function_is_held_as_long_by_all_who_could_go_on_with_it(make_runtime, world, way):
    """A block is entered again, by hand the step is called again, or an end is asked for: all are refused so far."""
    pressed = Pressed(world)

    def slow() -> str:
        return pressed()

    def call(run) -> str:
        return run.step(slow, compensate=lambda result=None: world.add(f"-{result}"), timeout=60)()

    def begun():
        return saga("flow", key="k", runtime=make_runtime())

    def again() -> str:
        if way == "hand":
            return call(hand)
        with begun() as run:
            return call(run)

    hand = begun()
    with pytest.raises(KeyboardInterrupt):
        again()
    other = begun()
    for use in (again, lambda: call(other), other.compensate, other.complete, make_runtime().find("flow/k").compensate):
        for _ in range(2):  # who is refused frees nothing
            with pytest.raises(RunLockedError, match="that an interruption left behind: call again when that has"):
                use()
    if way == "hand":
        for end in (hand.complete, hand.compensate):
            with pytest.raises(RunLockedError):
                end()
    assert world == ["in"]
    assert make_runtime().find("flow/k").is_live
    pressed.land()
    assert not make_runtime().find("flow/k").is_live
    assert again() == "late"
    assert world == ["in", "landed"]
    last = hand if way == "hand" else other
    assert call(last) == "late"
    assert last.compensate().status == "compensated"
    assert world == ["in", "landed", "-late"]


@pytest.mark.parametrize("way", ["block", "hand"])
def test_a_ctrl_c_while_a_run_without_a_function_compensates_holds_it_until_that_has_ended(make_runtime, world, way):
    """Whether an exception that leaves a block compensates it, or whoever has its handle."""
    pressed = Pressed(world)
    hand = saga("flow", key="k", runtime=make_runtime())

    def call(run) -> None:
        run.step(world.add, name="act", compensate=Compensation(lambda: pressed(), timeout=60))("act")

    def compensated() -> None:
        if way == "hand":
            call(hand)
            hand.compensate()
        with saga("flow", key="k", runtime=make_runtime()) as run:
            call(run)
            raise ValueError("no")

    with pytest.raises(KeyboardInterrupt):
        compensated()
    for _ in range(2):
        with pytest.raises(RunLockedError):
            hand.compensate()
    pressed.land()
    assert hand.compensate().status == "compensated"
    assert world == ["act", "in", "landed"]


def test_what_a_ctrl_c_left_behind_by_hand_is_not_entered_beside_itself_while_others_are_under_way(make_runtime, world):
    """It is refused by its name and arguments; then the run is held, as ever."""
    pressed, entered, go = Pressed(world), threading.Event(), threading.Event()

    def slow() -> str:
        return pressed()

    def other() -> None:
        entered.set()
        assert go.wait(30)
        world.add("other")

    run = saga("flow", key="k", runtime=make_runtime())
    thread = threading.Thread(target=run.step(other), daemon=True)
    thread.start()
    assert entered.wait(30)
    with pytest.raises(KeyboardInterrupt):
        run.step(slow, timeout=60)()
    with pytest.raises(UsageError, match="slow is under way with these arguments"):
        run.step(slow, timeout=60)()
    go.set()
    thread.join(30)
    with pytest.raises(RunLockedError):
        run.step(slow, timeout=60)()
    pressed.land()
    assert run.step(slow, timeout=60)() == "late"
    assert world == ["in", "other", "landed"]


def found() -> None:
    """Undo `finding`, which is found by its name."""
    found.does()


@step(compensate=Compensation(found, timeout=60))
def finding() -> None:
    """Do nothing."""


def test_a_ctrl_c_while_a_run_is_compensated_without_its_body_holds_it_until_that_has_ended(
    make_runtime, world, monkeypatch
):
    """The compensation is not entered beside itself."""
    pressed = Pressed(world)
    monkeypatch.setattr(found, "does", pressed, raising=False)
    with saga("flow", key="k", runtime=make_runtime()):
        finding()
    with pytest.raises(KeyboardInterrupt):
        make_runtime().find("flow/k").compensate()
    for _ in range(2):
        with pytest.raises(RunLockedError):
            make_runtime().find("flow/k").compensate()
    pressed.land()
    assert not make_runtime().find("flow/k").is_live
    assert make_runtime().find("flow/k").compensate().status == "compensated"
    assert world == ["in", "landed"]


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_signal_handler_raises_beside_a_sync_attempt_comes_when_that_has_ended(make_runtime, world, fails):
    """It does not reach the function in its thread: what that did is uncertain, or it failed by itself."""
    raised = threading.Event()

    def handler(*_: object) -> None:
        raised.set()
        raise ConnectionError("time is up")

    @step(compensate=lambda: world.add("back"), timeout=60, retries=Retry(1, wait=0))
    def slow() -> None:
        world.add("in")
        if not raised.is_set():
            signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)
            assert raised.wait(30)
        if fails:
            raise OSError("no")
        world.add("landed")

    @saga(key="k")
    def flow() -> None:
        slow()
        raise LookupError("sold out")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        outcome = flow.using(runtime=make_runtime()).outcome()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert isinstance(outcome.error, OSError if fails else LookupError)
    assert world == (["in", "in"] if fails else ["in", "landed", "in", "landed", "back"])
    (told,) = make_runtime().find("flow/k").steps
    assert ([attempt.status for attempt in told.tried], told.status) == (
        (["failed"], "failed") if fails else (["uncertain"], "compensated")
    )


@pytest.mark.parametrize("raised", [KeyboardInterrupt, ConnectionError])
def test_what_comes_before_the_thread_of_an_attempt_starts_holds_nothing(make_runtime, world, monkeypatch, raised):
    """After a Ctrl-C the run is free at once, and the attempt is uncertain; what a signal handler raises fails it."""

    @step(compensate=None, timeout=60)
    def act() -> None:
        world.add("act")

    @saga(name="trip")
    def trip() -> None:
        act()

    class Pressed(threading.Thread):
        def start(self):
            raise raised

    with monkeypatch.context() as patch:
        patch.setattr("sagadsl._core.drive.Thread", Pressed)
        with pytest.raises(raised):
            trip.using(runtime=make_runtime())()
    (run,) = make_runtime().runs()
    is_failure = raised is ConnectionError
    assert (run.is_interrupted, run.is_live, run.steps[0].uncertain) == (not is_failure, False, not is_failure)
    trip.using(runtime=make_runtime())()
    assert world == ["act"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_ctrl_c_that_the_body_survives_comes_again_though_the_attempt_ended_well(make_runtime, world, fails):
    """What was done is compensated with its result; what the body saw is the Ctrl-C, live and on replay."""
    pressed, seen = Pressed(world), []

    @step(compensate=lambda result=None: world.add(f"-{result}"), timeout=60)
    def slow() -> str:
        return pressed()

    @step(compensate=None)
    def cut() -> None:
        if sagadsl.current().attempt == 1:
            raise Death

    @saga(key="k")
    def flow() -> None:
        try:
            slow()
        except KeyboardInterrupt:
            seen.append("pressed")
        threading.Timer(0.01, pressed.leave.set).start()
        cut()
        if fails:
            raise ValueError("no")

    with pytest.raises(Death):
        flow.using(runtime=make_runtime())()
    if fails:
        with pytest.raises(ValueError, match="no"):
            flow.using(runtime=make_runtime())()
    else:
        flow.using(runtime=make_runtime())()
    assert seen == ["pressed", "pressed"]
    assert world == ["in", "landed"] + (["-late"] if fails else [])


def test_a_ctrl_c_during_a_compensation_with_a_timeout_leaves_the_run_compensating(make_runtime, world):
    """What landed meanwhile is not called again."""
    pressed = Pressed(world)

    def undo() -> None:
        pressed()

    @step(compensate=Compensation(undo, timeout=60))
    def act() -> None:
        world.add("act")

    @saga(key="k")
    def flow() -> None:
        act()
        raise ValueError("no")

    with pytest.raises(KeyboardInterrupt):
        flow.using(runtime=make_runtime())()
    pressed.land()
    assert make_runtime().find("flow/k").status == "compensating"
    with pytest.raises(ValueError, match="no"):
        flow.using(runtime=make_runtime())()
    assert world == ["act", "in", "landed"]


def late(world):
    yield world.add("never")


def test_a_late_generator_of_a_compensation_is_no_success(make_runtime, world):
    """Nothing of it has run; when the run goes on, that is said."""
    pressed = Pressed(world)

    def undo():
        pressed()
        return late(world)

    @step(compensate=Compensation(undo, timeout=60))
    def act() -> None:
        world.add("act")

    @saga(key="k")
    def flow() -> None:
        act()
        raise ValueError("no")

    with pytest.raises(KeyboardInterrupt):
        flow.using(runtime=make_runtime())()
    pressed.land()
    with pytest.raises(CompensationError, match="gave a generator, of which nothing has run"):
        flow.using(runtime=make_runtime())()
    assert world == ["act", "in", "landed", "in", "landed"]


def test_a_late_value_that_cannot_be_stored_leaves_the_attempt_uncertain(make_runtime, world):
    """Nobody is there to be told; it is tried again."""
    pressed = Pressed(world)

    @step(compensate=None, timeout=60)
    def slow() -> object:
        pressed()
        return object() if sagadsl.current().attempt == 1 else "stored"

    @saga(key="k")
    def flow() -> object:
        return slow()

    with pytest.raises(KeyboardInterrupt):
        flow.using(runtime=make_runtime())()
    pressed.land()
    assert flow.using(runtime=make_runtime())() == "stored"


# -- uncertain is sticky ----------------------------------------------------------------------------------------------


def slow_then_clean(colour, world, compensate):
    """Return a step whose first attempt is late and uncertain, and whose second fails cleanly."""

    def late() -> None:
        attempt = sagadsl.current().attempt
        world.add(f"try{attempt}")
        if attempt == 1:
            overrun()
            raise OSError("too late")
        raise LookupError("clean")

    async def alate() -> None:
        attempt = sagadsl.current().attempt
        world.add(f"try{attempt}")
        if attempt == 1:
            await aoverrun()
        raise LookupError("clean")

    options = {"name": "late", "compensate": compensate, "timeout": 0.1, "retries": Retry(1, on=TimeoutError)}
    return step(**options)(alate if colour.is_async else late)


def told(outcome):
    """Return what a failed compensation tells."""
    return (outcome.failed_at_step, outcome.compensated_steps, outcome.pending_steps)


@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize("even", [False, True])
def test_a_clean_failure_after_an_uncertain_attempt_is_compensated(colour, make_runtime, world, even, dies):
    """By a compensation that can do without the result; live, and by the next process."""
    deaths = [True] if dies else []

    def undo(result: str = "none") -> None:
        world.add(f"-{result}")

    def other() -> None:
        if deaths:
            deaths.clear()
            raise Death
        world.add("-other")

    late = slow_then_clean(colour, world, Compensation(undo, even_if_failed=even))

    @colour.step(compensate=other)
    def act() -> None:
        world.add("act")

    @colour.saga(key="k", name="flow")
    def flow():
        try:
            yield late()
        except LookupError:
            yield act()
        raise ValueError("no")

    if dies:
        with pytest.raises(Death):
            colour.call(flow.using(runtime=make_runtime()))
    with pytest.raises(ValueError, match="no"):
        colour.call(flow.using(runtime=make_runtime()))
    assert deaths == []
    assert world == ["try1", "try2", "act", "-other", "-none"]
    assert [(s.key, s.uncertain) for s in make_runtime().find("flow/k").steps] == [("late", True), ("act", False)]


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("dies", [False, True])
def test_a_compensation_that_needs_the_result_of_an_uncertain_step_fails_loudly(
    colour, make_runtime, world, even, dies
):
    """With what is compensated, what failed and what is pending; it is carried on when somebody gave it a default."""
    deaths = [True] if dies else []

    def need(result: str) -> None:
        world.add(f"-{result}")

    def other(name: str) -> None:
        if name == "last" and deaths:
            deaths.clear()
            raise Death
        world.add(f"-{name}")

    late = slow_then_clean(colour, world, Compensation(need, even_if_failed=even))

    @colour.step(compensate=other)
    def act(name: str) -> None:
        world.add(name)

    @colour.saga(key="k", name="flow")
    def flow():
        yield act("first")
        try:
            yield late()
        except LookupError:
            yield act("last")
        raise ValueError("no")

    if dies:
        with pytest.raises(Death):
            colour.call(flow.using(runtime=make_runtime()))
    outcome = colour.run(flow.using(runtime=make_runtime()).outcome())
    assert isinstance(outcome, CompensationFailed)
    assert "a default for its parameter 'result'" in str(outcome.compensation_error)
    assert told(outcome) == ("late", ("act#2",), ("act",))
    assert world == ["first", "try1", "try2", "last", "-last"]
    run = make_runtime().find("flow/k")
    assert run.status == "compensation_failed"
    assert [(s.key, s.status) for s in run.steps] == [
        ("act", "done"),
        ("late", "compensation_failed"),
        ("act#2", "compensated"),
    ]
    with pytest.raises(CompensationError, match="late"):
        colour.call(flow.using(runtime=make_runtime()))


def test_all_tasks_that_wait_for_what_a_timeout_left_in_a_thread_go_on(make_runtime, world):
    """Whoever came to wait last is not the only one that is told of its end."""
    over = threading.Event()

    @step(compensate=None)
    def stay() -> None:
        over.wait()
        world.add("stayed")

    @step(compensate=None)
    async def act(name: str) -> str:
        world.add(name)
        return name

    @saga
    async def child() -> None:
        await asyncio.to_thread(stay)

    @saga(runtime=make_runtime())
    async def trip() -> list[str]:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await child()
        asyncio.get_running_loop().call_later(0.01, over.set)
        return await asyncio.gather(act("a"), act("b"))

    assert asyncio.run(asyncio.wait_for(trip(), 30)) == ["a", "b"]
    assert world.effects[0] == "stayed"
    assert sorted(world.effects[1:]) == ["a", "b"]


def test_a_def_step_does_not_wait_for_a_task_that_its_own_thread_runs(make_runtime, world):
    """What a timeout left behind, shielded, goes on once the loop does."""

    @step(compensate=None)
    async def slow() -> str:
        await asyncio.sleep(0.02)
        world.add("slow")
        return "slow"

    @step(compensate=None)
    def note() -> str:
        world.add("note")
        return "noted"

    @saga
    async def shielding(left: Live[list[asyncio.Future[str]]]) -> str:
        left.append(asyncio.ensure_future(slow()))
        return await asyncio.shield(left[0])

    @saga(runtime=make_runtime(), name="trip", key="k")
    async def trip() -> str:
        left: list[asyncio.Future[str]] = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await shielding(left)
        return note() + await left[0]

    ended: list[str] = []
    thread = threading.Thread(target=lambda: ended.append(asyncio.run(trip())), daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "it waits for itself"
    assert ended == ["notedslow"]
    assert world == ["note", "slow"]
