"""How a saga ends: its value, the original exception after compensation, a failed compensation, a pause."""

from __future__ import annotations

import asyncio
import functools
import types
import warnings

import pytest

import sagadsl
from sagadsl import (
    IRREVERSIBLE,
    Compensated,
    Compensation,
    CompensationError,
    CompensationFailed,
    Completed,
    NotStorableError,
    RunConflictError,
    StepError,
    Suspended,
    SuspendedError,
    UsageError,
)


@pytest.fixture
def act(colour, world):
    """Give a step that adds its name to the world, or fails when told so; its compensation adds ``-name``."""

    @colour.step(compensate=lambda name: world.add(f"-{name}"), name="act")
    def act(name: str, fail: bool = False) -> str:
        if fail:
            raise LookupError(name)
        world.add(name)
        return name.upper()

    return act


def test_a_call_returns_the_value_of_the_body(colour, runtime, act):
    """As if it were an ordinary function."""

    @colour.saga(runtime=runtime)
    def flow(name: str):
        return (yield act(name)) + "!"

    assert colour.call(flow, "a") == "A!"
    assert colour.call(flow.outcome, "a").value == "A!"


def test_a_failure_compensates_in_reverse_and_raises_the_original(colour, runtime, act, world):
    """The genuine object comes out, with a note that says what was done."""
    genuine = ValueError("no")

    @colour.saga(runtime=runtime, key="k")
    def flow():
        yield act("a")
        yield act("b")
        raise genuine

    with pytest.raises(ValueError, match="no") as caught:
        colour.call(flow)
    assert caught.value is genuine
    assert world == ["a", "b", "-b", "-a"]
    assert any("compensated act#2, act" in note for note in caught.value.__notes__)


def test_the_exception_of_a_step_is_the_genuine_one_outside_and_a_copy_inside(colour, runtime, world):
    """A body sees what it would see after a restart; the caller gets the object that was raised."""
    genuine = LookupError("shelf")
    genuine.handle = object()
    inside = []

    @colour.step(compensate=None)
    def look() -> None:
        raise genuine

    @colour.saga(runtime=runtime)
    def flow():
        try:
            yield look()
        except LookupError as error:
            inside.append(error)
            raise

    with pytest.raises(LookupError) as caught:
        colour.call(flow)
    assert caught.value is genuine
    assert type(inside[0]) is LookupError
    assert inside[0] is not genuine
    assert not hasattr(inside[0], "handle")
    assert "handle (object)" in inside[0].__notes__[0]
    assert any(frame.name == "flow" for frame in caught.traceback)


def test_an_exception_that_refuses_to_be_made_again_is_a_step_error_live_and_on_replay(colour, runtime):
    """So that the body takes the same branch both times."""
    seen = []

    class Stubborn(Exception):
        def __new__(cls, *args: object) -> Stubborn:
            if not args:
                raise TypeError
            return super().__new__(cls)

        def __init__(self, reason: str) -> None:
            super().__init__()

    @colour.step(compensate=None)
    def look() -> None:
        raise Stubborn("x")

    @colour.step(compensate=None)
    def cut() -> None:
        if sagadsl.current().attempt == 1:
            raise KeyboardInterrupt

    @colour.saga(runtime=runtime, key="k")
    def flow():
        try:
            yield look()
        except Exception as error:
            seen.append(type(error))
        yield cut()

    with pytest.raises(KeyboardInterrupt):
        colour.call(flow)
    colour.call(flow)
    assert seen == [StepError, StepError]


def test_outcome_is_a_closed_union(colour, runtime, act, world):
    """Completed, Compensated, CompensationFailed, Suspended: each with its run and exit code."""

    def broken(name):
        world.add(f"?{name}")
        raise OSError(name)

    @colour.step(compensate=Compensation(broken, retries=0), name="odd")
    def odd(name: str) -> None:
        world.add(name)

    @colour.saga(runtime=runtime)
    def flow(how: str):
        yield act("a")
        if how == "stuck":
            yield odd("b")
            yield act("c")
        if how != "well":
            raise ValueError(how)
        return 5

    def told(outcome):
        match outcome:
            case Completed(value):
                return ["completed", value]
            case Compensated(error, steps, standing):
                return ["compensated", type(error), steps, standing]
            case CompensationFailed(error, why, step, done, pending):
                return ["failed", type(error), type(why), step, done, pending]
            case Suspended(status, reason):
                return ["suspended", status, reason]

    ways = [("well", flow), ("ill", flow), ("stuck", flow), ("paused", flow.using(on_failure="pause"))]
    outcomes = [colour.call(saga.outcome, how) for how, saga in ways]
    assert [told(outcome) for outcome in outcomes] == [
        ["completed", 5],
        ["compensated", ValueError, ("act",), ()],
        ["failed", ValueError, OSError, "odd", ("act#2",), ("act",)],
        ["suspended", "paused", "ValueError: paused"],
    ]
    assert [outcome.exit_code for outcome in outcomes] == [0, 3, 6, 6]
    assert [str(outcome.run.status) for outcome in outcomes] == [
        "completed",
        "compensated",
        "compensation_failed",
        "paused",
    ]


def test_a_compensation_that_fails_stops_there_and_carries_on_there(colour, runtime, act, world):
    """Nothing is compensated twice, nothing is forgotten, and no status is terminal while something is owed."""
    broken = [True]

    def undo(name):
        if broken[0]:
            raise OSError("disk")
        world.add(f"-{name}")

    @colour.step(compensate=Compensation(undo, retries=1))
    def odd(name: str) -> None:
        world.add(name)

    @colour.saga(runtime=runtime, key="k")
    def flow():
        yield act("a")
        yield odd("b")
        yield act("c")
        raise ValueError("no")

    with pytest.raises(CompensationError, match="sagadsl compensate flow/k") as caught:
        colour.call(flow)
    assert isinstance(caught.value.__cause__, ValueError)
    assert (caught.value.step, caught.value.compensated, caught.value.pending) == ("odd", ("act#2",), ("act",))
    assert world == ["a", "b", "c", "-c"]
    with pytest.raises(CompensationError) as again:
        colour.call(flow)
    assert repr(again.value.__cause__) == "ValueError('no')"
    assert repr(colour.call(flow.outcome).error) == "ValueError('no')"
    assert colour.call(flow.outcome).failed_at_step == "odd"
    assert runtime.runs()[0].error.message == "no"
    broken[0] = False
    run = colour.run(runtime.runs()[0].compensate())
    assert world == ["a", "b", "c", "-c", "-b", "-a"]
    assert str(run.status) == "compensated"
    assert colour.run(run.compensate()).status == "compensated"
    assert world == ["a", "b", "c", "-c", "-b", "-a"]


@pytest.mark.parametrize("is_caught", [False, True])
def test_a_second_call_of_a_stuck_run_tells_the_failure_that_its_compensation_began_with(
    colour, make_runtime, act, is_caught
):
    """The child's own, where that is what compensated; none where it was asked for."""

    @colour.step(compensate=Compensation(lambda: 1 / 0, retries=0))
    def odd() -> None: ...

    @colour.saga
    def child():
        yield odd()
        if is_caught:
            raise KeyError("child")

    @colour.saga(key="k", name="flow")
    def flow():
        yield act("a")
        yield child()
        raise ValueError("flow")

    causes = []
    for runtime in (make_runtime(), make_runtime()):
        with pytest.raises(CompensationError) as caught:
            colour.call(flow.using(runtime=runtime))
        causes.append(repr(caught.value.__cause__))
    assert causes == ["KeyError('child')" if is_caught else "ValueError('flow')"] * 2

    @colour.step(compensate=None)
    def cut() -> None:
        raise KeyboardInterrupt

    @colour.saga(key="k", name="asked")
    def asked():
        yield odd()
        yield cut()

    with pytest.raises(KeyboardInterrupt):
        colour.call(asked.using(runtime=runtime))
    with pytest.raises(CompensationError):
        colour.run(runtime.find("asked/k").compensate())
    with pytest.raises(CompensationError) as caught:
        colour.call(asked.using(runtime=make_runtime()))
    assert caught.value.__cause__ is None


def test_with_continue_the_others_are_compensated_first(colour, runtime, act, world):
    """What can be undone is undone; the run is still not terminal."""

    @colour.step(compensate=Compensation(lambda: 1 / 0, retries=0))
    def odd() -> None:
        world.add("b")

    @colour.saga(runtime=runtime, on_compensation_failure="continue")
    def flow():
        yield act("a")
        yield odd()
        yield act("c")
        raise ValueError("no")

    with pytest.raises(CompensationError) as caught:
        colour.call(flow)
    assert world == ["a", "b", "c", "-c", "-a"]
    assert caught.value.pending == ()
    assert runtime.runs()[0].status == "compensation_failed"


def test_compensations_have_retries_of_their_own(colour, runtime, world, clock):
    """Three extra attempts, unless told otherwise."""
    left = [3]

    def undo():
        left[0] -= 1
        if left[0] >= 0:
            raise OSError("busy")
        world.add("-a")

    @colour.step(compensate=undo)
    def act() -> None:
        world.add("a")

    @colour.saga(runtime=runtime)
    def flow():
        yield act()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        colour.call(flow)
    assert world == ["a", "-a"]
    assert clock.slept == [0.1, 0.2, 0.4]


def test_what_nothing_can_undo_is_compensated_around_and_listed_as_standing(colour, runtime, act, world):
    """An e-mail stays sent, and the outcome says so."""

    @colour.step(compensate=IRREVERSIBLE)
    def mail() -> None:
        world.add("mail")

    @colour.saga(runtime=runtime)
    def flow():
        yield act("a")
        yield mail()
        raise ValueError("no")

    outcome = colour.call(flow.outcome)
    assert (outcome.compensated_steps, outcome.standing) == (("act",), ("mail",))
    assert world == ["a", "mail", "-a"]


def test_a_failed_step_is_not_compensated_unless_told(colour, runtime, world):
    """An exception says that it did not happen; `even_if_failed` says that it may have."""

    def undo(name):
        world.add(f"-{name}")

    @colour.step(compensate=undo)
    def fails(name: str) -> None:
        raise ValueError(name)

    @colour.step(compensate=Compensation(undo, even_if_failed=True))
    def half(name: str) -> None:
        world.add(name)
        raise ValueError(name)

    @colour.saga(runtime=runtime)
    def flow():
        try:
            yield fails("a")
        except ValueError:
            yield half("b")

    with pytest.raises(ValueError, match="b"):
        colour.call(flow)
    assert world == ["b", "-b"]


def test_a_result_that_cannot_be_stored_is_compensated_with_the_live_object(colour, runtime, world):
    """The effect has happened, so it is owed."""

    @colour.step(compensate=lambda handle: world.add(f"-{type(handle).__name__}"))
    def connect() -> object:
        world.add("connect")
        return object()

    @colour.saga(runtime=runtime)
    def flow():
        yield connect()

    with pytest.raises(NotStorableError, match=r"connect: result at \$ of type object"):
        colour.call(flow)
    assert world == ["connect", "-object"]


def test_an_argument_that_cannot_be_stored_is_refused_before_the_step_is_entered(colour, runtime, world):
    """The message names the argument and the cure."""

    @colour.step(compensate=None)
    def use(things: list[object]) -> None:
        world.add("used")

    @colour.saga(runtime=runtime)
    def flow():
        yield use([1, object()])

    with pytest.raises(NotStorableError, match=r"argument at \$\.things\[1\] of type object .* `Live\[\.\.\.\]`"):
        colour.call(flow)
    assert world == []


def logged(function):
    """Wrap a function as many a decorator does: in a ``def``, whatever is behind it."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def test_a_saga_that_only_looks_like_a_def_is_not_completed(runtime, act, colour, world):
    """Nothing of the async function behind it has run; what ran before it is compensated, and Python has no warning."""

    @logged
    async def later(name: str) -> str:
        world.add("never")

    @sagadsl.saga(runtime=runtime, key="k")
    @logged
    def flow(name: str):
        if not colour.is_async:
            act(name)
        return later(name)

    says = "flow is a def that returned an awaitable: .* Put @saga directly above the `async def`"
    for call in (flow, flow.outcome):
        with pytest.raises(UsageError, match=says) as caught:
            call("a")
    assert type(caught.value) is UsageError
    assert runtime.runs()[0].status == "compensated"
    assert world == ([] if colour.is_async else ["a", "-a"] * 2)


def test_a_saga_that_forgot_to_await_is_not_completed(runtime, world):
    """What it returned would run outside of it."""

    async def later() -> None:
        world.add("never")

    @types.coroutine
    def old_style():
        yield world.add("never")

    @sagadsl.saga(runtime=runtime)
    async def inner():
        return old_style()

    @sagadsl.saga(runtime=runtime)
    async def flow(nests: bool):
        if nests:
            await inner()
        return later()

    for nests, name in ((False, "flow"), (True, "inner")):
        with pytest.raises(UsageError, match=f"{name} returned an awaitable that it has not awaited: write `return aw"):
            asyncio.run(flow(nests))
    assert {run.status for run in runtime.runs()} == {"compensated"}
    assert world == []


def test_a_saga_may_return_what_goes_on_by_itself(runtime, world, caplog):
    """A task that it started runs whether or not somebody awaits it: a value that cannot be stored, as others are."""

    @sagadsl.step(compensate=lambda name: world.add(f"-{name}"))
    def act(name: str) -> None:
        world.add(name)

    async def later() -> str:
        return "later"

    @sagadsl.saga(runtime=runtime)
    async def inner():
        return asyncio.get_running_loop().create_future()

    @sagadsl.saga(runtime=runtime)
    async def flow():
        act("a")
        (await inner()).cancel()
        return asyncio.create_task(later())

    async def main() -> str:
        return await (await flow())

    assert asyncio.run(main()) == "later"
    assert caplog.text.count("its value cannot be stored and is returned only once") == 2
    assert [run.status for run in runtime.runs()] == ["completed"]
    assert world == ["a"]


def test_a_step_that_only_looks_like_a_def_is_no_success(runtime, world):
    """Nobody awaits what it gave, and Python has no warning; what the def did by itself is owed its compensation."""

    @sagadsl.step(compensate=lambda name: world.add(f"-{name}"))
    @logged
    def act(name: str):
        world.add(name)
        return asyncio.sleep(0)

    @sagadsl.saga(runtime=runtime)
    async def flow() -> None:
        act("a")

    with pytest.raises(NotStorableError, match=r"act: result .* await it\. .* put @step directly above"):
        asyncio.run(flow())
    assert world == ["a", "-a"]


def test_a_value_that_answers_no_question_is_returned_once_as_well(runtime, caplog):
    """A lazy object may raise whatever it is asked; whether it is to be awaited its type says."""

    class Lazy:
        def __getattr__(self, name):
            raise RuntimeError(name)

    @sagadsl.saga(runtime=runtime)
    def flow():
        return Lazy()

    assert type(flow()) is Lazy
    assert "cannot be stored" in caplog.text


def test_a_value_that_cannot_be_stored_is_returned_once_with_a_warning(colour, runtime, caplog):
    """The saga is done; only its value is not kept."""

    @colour.saga(runtime=runtime, key="k")
    def flow():
        yield None
        return object()

    assert type(colour.call(flow)) is object
    assert "cannot be stored" in caplog.text
    assert runtime.runs()[0].status == "completed"
    caplog.clear()
    assert colour.call(flow) is None
    assert colour.call(flow.outcome).value is None
    lost = "flow/k is completed, but its value could not be stored and was returned only once: this is None"
    assert caplog.messages == [lost] * 2


# -- nested, dynamic ------------------------------------------------------------------------------------------------


def test_a_completed_child_is_compensated_when_its_parent_fails_later(colour, runtime, act, world):
    """Its steps are owed by the whole tree, last intent first."""

    @colour.saga(runtime=runtime, name="pack")
    def pack(name: str):
        yield act(f"{name}1")
        return (yield act(f"{name}2"))

    @colour.saga(runtime=runtime)
    def flow():
        yield act("a")
        assert (yield pack("p")) == "P2"
        yield act("b")
        raise ValueError("no")

    outcome = colour.call(flow.outcome)
    assert world == ["a", "p1", "p2", "b", "-b", "-p2", "-p1", "-a"]
    assert outcome.compensated_steps == ("act#2", "pack/act#2", "pack/act", "act")
    assert [(s.key, s.status) for s in outcome.run.steps if s.saga] == [("pack", "compensated")]


def test_a_failed_child_raises_in_its_parent_which_may_go_on(colour, runtime, act, world):
    """Only the child is compensated then."""

    @colour.saga(runtime=runtime)
    def pack():
        yield act("p")
        yield act("q", fail=True)

    @colour.saga(runtime=runtime)
    def flow():
        yield act("a")
        try:
            yield pack()
        except LookupError as error:
            yield act(f"instead-of-{error.args[0]}")
        return "fine"

    assert colour.call(flow) == "fine"
    assert world == ["a", "p", "-p", "instead-of-q"]
    assert runtime.runs()[0].status == "completed"


def test_a_child_asked_for_its_outcome_gives_one(colour, runtime, act, world):
    """Several sagas, each on its own, inside one parent."""

    @colour.saga(runtime=runtime)
    def pack(name: str, fail: bool):
        yield act(name)
        yield act(f"{name}!", fail=fail)

    @colour.saga(runtime=runtime)
    def flow():
        outcomes = []
        for name, fail in [("a", False), ("b", True), ("c", False)]:
            outcomes.append((yield pack.outcome(name, fail)))
        return [type(outcome).__name__ for outcome in outcomes]

    assert colour.call(flow) == ["Completed", "Compensated", "Completed"]
    assert world == ["a", "a!", "b", "-b", "c", "c!"]


def test_a_child_whose_compensation_fails_stops_its_whole_tree(colour, runtime, act, world):
    """The parent cannot catch it and go on: a person decides, then everything is compensated."""
    broken = [True]

    def undo(name):
        if broken[0]:
            raise OSError("disk")
        world.add(f"-{name}")

    @colour.step(compensate=Compensation(undo, retries=0))
    def odd(name: str) -> None:
        world.add(name)

    @colour.saga(runtime=runtime)
    def pack():
        yield odd("p")
        raise ValueError("no")

    @colour.saga(runtime=runtime)
    def flow():
        yield act("a")
        try:
            yield pack()
        except Exception:
            yield act("never")

    outcome = colour.call(flow.outcome)
    assert isinstance(outcome, CompensationFailed)
    assert outcome.failed_at_step == "pack/odd"
    assert world == ["a", "p"]
    assert outcome.run.status == "compensation_failed"
    broken[0] = False
    assert colour.run(outcome.run.compensate()).status == "compensated"
    assert world == ["a", "p", "-p", "-a"]


def test_steps_are_whatever_the_body_calls(colour, runtime, act, world):
    """Loops, branches, recursion: plain control flow, keys by occurrence."""

    @colour.saga(runtime=runtime, name="tree")
    def tree(depth: int):
        yield act(f"d{depth}")
        if depth:
            yield tree(depth - 1)

    @colour.saga(runtime=runtime)
    def flow(count: int):
        for at in range(count):
            yield act(str(at))
        if count > 2:
            yield tree(2)

    colour.call(flow, 3)
    assert world == ["0", "1", "2", "d2", "d1", "d0"]
    keys = [step.key for step in runtime.runs()[0].steps]
    assert keys == [
        *("act", "act#2", "act#3", "tree", "tree/act"),
        *("tree/tree", "tree/tree/act", "tree/tree/tree", "tree/tree/tree/act"),
    ]


# -- pause ----------------------------------------------------------------------------------------------------------


def test_a_paused_run_goes_on_at_the_step_that_failed(colour, runtime, act, world):
    """It is entered again with the same idempotency key; what is done is not."""
    keys = []
    broken = [True]

    @colour.step(compensate=None)
    def fragile() -> str:
        keys.append(sagadsl.current().idempotency_key)
        if broken[0]:
            raise OSError("down")
        return "up"

    @colour.saga(runtime=runtime, on_failure="pause")
    def flow():
        yield act("a")
        return (yield fragile())

    with pytest.raises(SuspendedError, match="OSError: down") as caught:
        colour.call(flow)
    assert isinstance(caught.value.__cause__, OSError)
    broken[0] = False
    assert colour.call(flow) == "up"
    assert world == ["a"]
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_a_paused_run_can_be_compensated_instead(colour, runtime, act, world):
    """On request, which a later call by the same key does not silently forget."""

    @colour.saga(runtime=runtime, on_failure="pause", key="k")
    def flow():
        yield act("a")
        raise ValueError("no")

    with pytest.raises(SuspendedError):
        colour.call(flow)
    assert colour.run(runtime.find("flow/k").compensate()).cause == "request"
    assert world == ["a", "-a"]
    with pytest.raises(RunConflictError, match="rerun=True"):
        colour.call(flow)
    with pytest.raises(SuspendedError):
        colour.call(flow.using(rerun=True))
    assert world == ["a", "-a", "a"]
    assert runtime.find("flow/k").generation == 2


def test_a_caught_failure_is_not_entered_again_when_a_later_one_paused_the_run(colour, runtime, world):
    """Only what paused it is."""
    broken = [True]

    @colour.step(compensate=None)
    def first() -> None:
        world.add("first")
        raise LookupError("none")

    @colour.step(compensate=None)
    def second() -> None:
        world.add("second")
        if broken[0]:
            raise OSError("down")

    @colour.saga(runtime=runtime, on_failure="pause")
    def flow():
        try:
            yield first()
        except LookupError:
            yield second()

    with pytest.raises(SuspendedError):
        colour.call(flow)
    broken[0] = False
    colour.call(flow)
    assert world == ["first", "second", "second"]


def test_a_child_that_failed_is_run_afresh_when_its_failure_paused_the_parent(colour, runtime, act, world):
    """It was compensated, so nothing of it is there."""
    broken = [True]

    @colour.saga(on_failure="compensate", name="pack")
    def pack():
        yield act("p")
        yield act("q", fail=broken[0])
        return "packed"

    @colour.saga(runtime=runtime, on_failure="pause")
    def flow():
        yield act("a")
        return (yield pack())

    with pytest.raises(SuspendedError):
        colour.call(flow)
    assert world == ["a", "p", "-p"]
    broken[0] = False
    assert colour.call(flow) == "packed"
    assert world == ["a", "p", "-p", "p", "q"]


def test_gathered_branches_settle_before_anything_is_compensated(make_runtime, world):
    """A branch in flight ends first; after that no branch starts another step."""
    runtime = make_runtime(asleep=asyncio.sleep)
    gate = asyncio.Event()

    @sagadsl.step(compensate=lambda name: world.add(f"-{name}"))
    async def act(name: str) -> None:
        if name == "slow":
            await gate.wait()
        world.add(name)

    @sagadsl.step(compensate=None)
    async def fails() -> None:
        asyncio.get_running_loop().call_later(0.01, gate.set)
        raise ValueError("no")

    async def branch() -> None:
        await act("slow")
        await act("never")

    @sagadsl.saga(runtime=runtime)
    async def flow() -> None:
        await act("a")
        await asyncio.gather(branch(), fails())

    with pytest.raises(ValueError, match="no"):
        asyncio.run(flow())
    assert world == ["a", "slow", "-slow", "-a"]


def test_a_forgotten_await_is_told_by_the_name_of_what_was_called(runtime, world):
    """Python itself warns, where the call stands."""

    @sagadsl.step(compensate=None, name="reserve")
    async def reserve() -> None:
        world.add("never")

    @sagadsl.saga(name="child", runtime=runtime)
    async def child() -> None:
        world.add("never")

    @sagadsl.saga(name="order", runtime=runtime)
    async def order() -> None:
        reserve()
        child()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(order())
        order()
    told = [str(each.message) for each in caught]
    assert told == [f"coroutine '{name}' was never awaited" for name in ("reserve", "child", "order")]
    assert world == []
