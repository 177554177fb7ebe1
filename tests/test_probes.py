"""What happens about an attempt of which nobody knows whether it had its effect: asked, tried again, given up, paused.

Each case is tried twice: the attempt timed out, and the process died in it. The answer must be the same.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
import types

import pytest

import sagadsl
from sagadsl import (
    PIVOT,
    Compensation,
    CompensationError,
    Landed,
    NotLanded,
    NotStorableError,
    Retry,
    RunConflictError,
    StepError,
    StepTimeout,
    SuspendedError,
    Unknown,
    UsageError,
)
from sagadsl._core.codec import Codec
from sagadsl._core.runtime.deciding import Request
from sagadsl.report import run_text
from sagadsl.report.story import what_now

LATE, KILLED = "timed out", "killed"


class Cut(BaseException):
    """The end of a process, for a test: nothing of the library's may follow it."""


@pytest.fixture(params=[LATE, KILLED])
def how(request):
    """Give each way in which an attempt is left uncertain."""
    return request.param


@pytest.fixture
def charge(colour, world, how):
    """Make a step whose first attempt is left uncertain, after its effect or (``landed=False``) before it."""

    def make(*, landed=True, fails=False, **options):
        options = {"compensate": lambda payment=None: world.add(f"-{payment}"), "retries": Retry(1, wait=0)} | options

        @colour.step(name="charge", **options)
        def charge(order: str) -> str:
            attempt = sagadsl.current().attempt
            if landed or attempt > 1:
                world.add(f"charge{attempt}")
            if attempt == 1:
                raise StepTimeout(sagadsl.current().key, 5.0) if how == LATE else Cut
            if fails:
                raise OSError("clean")
            return "p-2"

        return charge

    return make


@pytest.fixture
def play(colour, make_runtime, how):
    """Call a saga; where the process dies in it, call it again as the next process."""

    def play(saga, *args):
        if how == KILLED:
            with pytest.raises(Cut):
                colour.call(saga.using(runtime=make_runtime()), *args)
        return colour.call(saga.using(runtime=make_runtime()), *args)

    return play


def order_with(colour, world, charge, *, then=None):
    """Return a saga that charges, then does what *then* says."""

    @colour.saga(name="order")
    def order(name: str):
        paid = yield charge(name)
        world.add(f"paid:{paid}")
        if then is not None:
            raise then
        return paid

    return order


def kinds(runtime, saga="order"):
    """Return the kinds of the last run's entries."""
    journal = runtime.journal()
    return [str(e.kind) for e in journal.entries(journal.runs(saga=saga)[-1].number)]


def test_a_probe_that_finds_the_effect_makes_the_step_done(colour, world, charge, play, make_runtime):
    """It is not entered again, and what the probe found is the step's result, now and for ever."""
    asked = []

    def find(order, idempotency_key, error):
        asked.append((order, idempotency_key.rpartition("/")[2], error and error.name))
        return Landed("p-1")

    order = order_with(colour, world, charge(probe=find))
    assert play(order, "o-1") == "p-1"
    assert world == ["charge1", "paid:p-1"]
    assert [a[:2] for a in asked] == [("o-1", "charge")]
    assert [a[2] for a in asked] in (["StepTimeout"], [None])
    run = make_runtime().runs()[0]
    assert (run.status, run.steps[0].status, run.steps[0].result) == ("completed", "done", "p-1")


def test_what_a_probe_found_is_compensated_with_it(colour, world, charge, play):
    """The compensation gets the value that the probe gave."""
    order = order_with(colour, world, charge(probe=lambda: Landed("p-1")), then=ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        play(order, "o-1")
    assert world == ["charge1", "paid:p-1", "-p-1"]


def test_a_probe_that_finds_nothing_makes_the_attempt_a_failure(colour, world, charge, play, make_runtime):
    """It is tried again, and nothing is uncertain any more."""
    order = order_with(colour, world, charge(landed=False, probe=lambda: NotLanded()))
    assert play(order, "o-1") == "p-2"
    assert world == ["charge2", "paid:p-2"]
    assert "not_landed" in kinds(make_runtime())


def test_nothing_is_compensated_that_certainly_has_not_happened(colour, world, charge, play, make_runtime):
    """Given up after the probe said so, the step owes nothing."""
    order = order_with(colour, world, charge(landed=False, retries=0, probe=lambda: NotLanded(), fails=True))
    with pytest.raises((StepTimeout, OSError)):
        play(order, "o-1")
    assert "-None" not in world.effects
    assert make_runtime().runs()[0].steps[0].status == "failed"


@pytest.mark.parametrize("answer", [lambda: Unknown(), None, "raise"])
def test_a_probe_that_cannot_tell_leaves_it_to_the_policy(colour, world, charge, play, answer):
    """By default the step is tried again; without a probe, or with one that fails, it is the same."""

    def broken():
        world.add("asked")
        raise ConnectionError

    order = order_with(colour, world, charge(probe=broken if answer == "raise" else answer))
    assert play(order, "o-1") == "p-2"
    asked = ["asked"] if answer == "raise" else []
    assert world == ["charge1", *asked, "charge2", "paid:p-2"]


def test_uncertain_with_compensate_is_a_failure(colour, world, charge, play, how):
    """It is not tried again, whatever retries there are, and the compensation does without a result."""
    order = order_with(colour, world, charge(on_uncertain="compensate", retries=5))
    with pytest.raises(StepTimeout if how == LATE else StepError) as caught:
        play(order, "o-1")
    assert world == ["charge1", "-None"]
    assert "charge" in str(caught.value)
    if how == KILLED:
        assert "cut off" in str(caught.value)
        assert "register" not in str(caught.value)


def test_uncertain_with_pause_waits_for_a_person_who_resumes(colour, world, charge, play, make_runtime):
    """Resuming is the decision to try again: the step is entered once more."""
    order = order_with(colour, world, charge(on_uncertain="pause", retries=0))
    with pytest.raises(SuspendedError):
        play(order, "o-1")
    assert world == ["charge1"]
    assert make_runtime().runs()[0].status == "paused"
    assert colour.call(order.using(runtime=make_runtime()), "o-1") == "p-2"
    assert world == ["charge1", "charge2", "paid:p-2"]


def test_a_probe_that_has_learned_meanwhile_makes_a_resumed_step_done(colour, world, charge, play, make_runtime):
    """Whoever resumes decides to try again, but what has landed is not entered twice."""
    answers = iter([Unknown(), Landed("p-1")])
    order = order_with(colour, world, charge(on_uncertain="pause", retries=0, probe=lambda: next(answers)))
    with pytest.raises(SuspendedError):
        play(order, "o-1")
    assert colour.call(order.using(runtime=make_runtime()), "o-1") == "p-1"
    assert colour.call(order.using(runtime=make_runtime(), id=make_runtime().runs()[0].id), "o-1") == "p-1"
    assert world == ["charge1", "paid:p-1"]


def test_uncertain_with_pause_can_be_compensated_instead(colour, world, charge, play, make_runtime):
    """The other decision: what may have happened is undone."""
    order = order_with(colour, world, charge(on_uncertain="pause", retries=0))
    with pytest.raises(SuspendedError):
        play(order, "o-1")
    run = colour.run(make_runtime().runs()[0].compensate())
    assert run.status == "compensated"
    assert world == ["charge1", "-None"]


def test_a_pause_that_a_kill_cut_short_pauses_again(colour, world, charge, play, make_runtime, how):
    """Between the outcome and the pause lies a commit: the next process finishes what was begun."""
    seen = []

    def die(entry):
        if entry.kind == "uncertain" and not seen:
            seen.append(entry)
            raise Cut

    order = order_with(colour, world, charge(on_uncertain="pause", retries=0))
    if how == KILLED:
        with pytest.raises(Cut):
            colour.call(order.using(runtime=make_runtime()), "o-1")
    dying = make_runtime()
    dying.observers = (die,)
    with pytest.raises(Cut):
        colour.call(order.using(runtime=dying), "o-1")
    assert seen
    with pytest.raises(SuspendedError):
        colour.call(order.using(runtime=make_runtime()), "o-1")
    assert world == ["charge1"]


def test_a_compensation_asks_the_probe_first(colour, world, charge, play):
    """What it could not do without, the result, it may get there."""
    answers = iter([Unknown(), Landed("p-1")])
    options = {"on_uncertain": "compensate", "probe": lambda: next(answers), "compensate": lambda p: world.add(f"-{p}")}
    order = order_with(colour, world, charge(**options))
    with pytest.raises((StepTimeout, StepError)):
        play(order, "o-1")
    assert world == ["charge1", "-p-1"]


def test_a_compensation_is_not_called_for_what_the_probe_does_not_find(colour, world, charge, play, make_runtime):
    """The doubt was all that was owed."""
    answers = iter([Unknown(), NotLanded()])
    order = order_with(colour, world, charge(on_uncertain="compensate", probe=lambda: next(answers)))
    with pytest.raises((StepTimeout, StepError)):
        play(order, "o-1")
    assert world == ["charge1"]
    run = make_runtime().runs()[0]
    assert (run.status, run.steps[0].status, run.stack) == ("compensated", "not_landed", ())
    shown = list(sqlite3.connect(make_runtime().journal().path).execute("select step, status from steps"))
    assert shown == [("charge", "not_landed")]


def test_a_compensation_for_failed_steps_is_called_all_the_same(colour, world, charge, play):
    """`even_if_failed` asks for that."""
    answers = iter([Unknown(), NotLanded()])
    compensation = Compensation(lambda p=None: world.add(f"-{p}"), even_if_failed=True)
    options = {"on_uncertain": "compensate", "probe": lambda: next(answers), "compensate": compensation}
    order = order_with(colour, world, charge(**options))
    with pytest.raises((StepTimeout, StepError)):
        play(order, "o-1")
    assert world == ["charge1", "-None"]


def test_without_an_answer_a_compensation_that_needs_the_result_fails(colour, world, charge, play, make_runtime):
    """Loudly: a person decides; asked again later, the probe may know."""
    answers = iter([Unknown(), Unknown(), Landed("p-1")])
    options = {"on_uncertain": "compensate", "probe": lambda: next(answers), "compensate": lambda p: world.add(f"-{p}")}
    order = order_with(colour, world, charge(**options))
    with pytest.raises(CompensationError, match="no result"):
        play(order, "o-1")
    assert make_runtime().runs()[0].status == "compensation_failed"
    assert colour.run(make_runtime().runs()[0].compensate()).status == "compensated"
    assert world == ["charge1", "-p-1"]


def test_a_caught_failure_stays_what_the_body_was_told(colour, world, charge, play, make_runtime):
    """The probe may find the effect while compensating; a body that runs again to bind must take the same branch."""
    answers = iter([Unknown(), Landed("p-1")])
    step = charge(on_uncertain="compensate", probe=lambda: next(answers))

    @colour.step(compensate=lambda: world.add("-fallback"), name="fallback")
    def fallback() -> None:
        world.add("fallback")

    tries = []

    def undo():
        tries.append(1)
        if len(tries) == 1:
            raise Cut
        world.add("-first")

    @colour.step(compensate=undo, name="first")
    def first() -> None:
        world.add("first")

    @colour.saga(name="order")
    def order(name: str):
        yield first()
        try:
            yield step(name)
        except (StepTimeout, StepError):
            yield fallback()
        raise ValueError("no")

    with pytest.raises(Cut):
        play(order, "o-1")
    with pytest.raises(ValueError, match="no"):
        colour.call(order.using(runtime=make_runtime()), "o-1")
    assert world == ["first", "charge1", "fallback", "-fallback", "-p-1", "-first"]


def test_a_probe_whose_answer_is_none_of_the_three_is_a_mistake(colour, world, charge, play):
    """`return True` is a guess of the reader's; the step has failed, uncertain."""
    order = order_with(colour, world, charge(probe=lambda: True))
    with pytest.raises(UsageError, match=r"answered True: Landed, NotLanded or Unknown"):
        play(order, "o-1")
    assert world == ["charge1", "-None"]


def test_a_found_value_that_cannot_be_stored_is_compensated_with_the_live_one(colour, world, charge, play):
    """As for a result of the step itself."""
    thing = threading.Lock()
    options = {"probe": lambda: Landed(thing), "compensate": lambda p: world.add(f"-{p is thing}")}
    order = order_with(colour, world, charge(**options))
    with pytest.raises(NotStorableError):
        play(order, "o-1")
    assert world == ["charge1", "-True"]


def test_a_probe_interrupted_leaves_the_run_open(colour, world, charge, play, make_runtime):
    """Ctrl-C while asking is no answer: the next process asks again."""
    asked = []

    def find():
        asked.append(1)
        if len(asked) == 1:
            raise Cut
        return Landed("p-1")

    order = order_with(colour, world, charge(probe=find))
    with pytest.raises(Cut):
        play(order, "o-1")
    assert colour.call(order.using(runtime=make_runtime()), "o-1") == "p-1"
    assert world == ["charge1", "paid:p-1"]
    assert len(asked) == 2


def test_a_probe_is_a_leaf(colour, world, charge, play):
    """It calls no step; the mistake is told, not swallowed with what is out of reach."""

    @colour.step(name="other")
    def other() -> None:
        world.add("other")

    caught = []

    def find():
        try:
            other()
        except UsageError as error:
            caught.append(str(error))
        return Landed("p-1")

    assert play(order_with(colour, world, charge(probe=find)), "o-1") == "p-1"
    assert "the probe of step charge" in caught[0]
    assert world == ["charge1", "paid:p-1"]


def test_a_probe_may_be_a_coroutine_function(make_runtime, world):
    """It is awaited under the step's timeout."""

    async def find(order):
        await asyncio.sleep(0)
        return Landed(f"p-{order}")

    @sagadsl.step(probe=find, timeout=0.01)
    async def charge(order: str) -> str:
        world.add("charge")
        await asyncio.Event().wait()
        raise AssertionError

    @sagadsl.saga(runtime=make_runtime())
    async def order() -> str:
        return await charge("7")

    assert asyncio.run(order()) == "p-7"
    assert world == ["charge"]


def test_what_can_never_work_is_said_at_decoration():
    """A probe of the wrong colour, one that wants the result, one of a step that only looks, an unknown policy."""

    async def afind(order):
        return Unknown()

    def wants(payment):
        return Unknown()

    def charge(order: str) -> str:
        return order

    for options, said in (
        ({"probe": afind}, "make both one colour"),
        ({"probe": wants}, "there is no result"),
        ({"probe": "find"}, "takes a function"),
        ({"probe": lambda: Unknown(), "read_only": True}, "read_only"),
        ({"on_uncertain": "pause", "read_only": True}, "read_only"),
        ({"on_uncertain": "panic"}, "'retry', 'compensate', 'pause'"),
    ):
        with pytest.raises(UsageError, match=said):
            sagadsl.step(**options)(charge)


def test_uncertain_is_sticky_and_a_probe_can_lift_it(colour, world, make_runtime):
    """A later attempt that fails cleanly does not make it certain; the probe, asked before compensating, does."""
    answers = iter([Unknown(), NotLanded()])

    options = {"retries": Retry(1, wait=0), "probe": lambda: next(answers)}

    @colour.step(name="charge", compensate=lambda p=None: world.add(f"-{p}"), **options)
    def charge() -> None:
        if sagadsl.current().attempt == 1:
            raise StepTimeout("charge", 5.0)
        raise OSError("clean")

    @colour.saga(runtime=make_runtime())
    def order():
        yield charge()

    with pytest.raises((OSError, StepTimeout)):
        colour.call(order)
    assert world == []


# -- the point of no return -------------------------------------------------------------------------------------------


@pytest.fixture
def steps(colour, world):
    """Give a compensable step, a pivot, and a step that fails as often as it is told."""
    failures = []

    @colour.step(compensate=lambda: world.add("-first"), name="first")
    def first() -> None:
        world.add("first")

    @colour.step(compensate=PIVOT, name="pivot")
    def pivot() -> None:
        if failures and failures[0] == "pivot":
            failures.pop()
            raise ValueError("pivot")
        world.add("pivot")

    @colour.step(compensate=lambda: world.add("-last"), name="last")
    def last() -> None:
        if failures:
            failures.pop()
            raise ValueError("last")
        world.add("last")

    return first, pivot, last, failures


@pytest.fixture
def pivotal(colour, steps):
    """Give the saga of the three."""
    first, pivot, last, _ = steps

    @colour.saga(name="pivotal")
    def pivotal():
        yield first()
        yield pivot()
        yield last()
        return "forward"

    return pivotal


def test_a_failure_before_the_pivot_compensates(colour, world, steps, pivotal, make_runtime):
    """The pivot's own failure is before it."""
    steps[3].append("pivot")
    with pytest.raises(ValueError, match="pivot"):
        colour.call(pivotal.using(runtime=make_runtime()))
    assert world == ["first", "-first"]


def test_after_the_pivot_a_failing_step_is_retried(colour, world, steps, pivotal, make_runtime, clock):
    """Forward recovery, also for a step without retries of its own."""
    steps[3].extend(["last"] * 3)
    assert colour.call(pivotal.using(runtime=make_runtime())) == "forward"
    assert world == ["first", "pivot", "last"]
    assert len(clock.slept) == 3


def test_after_the_pivot_a_run_pauses_and_never_compensates(colour, world, steps, pivotal, make_runtime):
    """It goes on when it is called again; compensating it by request is refused."""
    steps[3].extend(["last"] * 4)
    with pytest.raises(SuspendedError, match="pivot is past") as caught:
        colour.call(pivotal.using(runtime=make_runtime()))
    assert world == ["first", "pivot"]
    run = make_runtime().runs()[0]
    assert run.status == "paused"
    assert run.pivot == "pivot"
    assert [what for what, _ in what_now(run)] == ["go on"]
    assert "Compensate" not in str(caught.value)
    with pytest.raises(RunConflictError, match="can only go forward"):
        colour.run(run.compensate())
    assert colour.call(pivotal.using(runtime=make_runtime())) == "forward"
    assert world == ["first", "pivot", "last"]


def test_a_body_that_raises_after_the_pivot_pauses_too(colour, world, steps, make_runtime):
    """Whatever failed, what is past the pivot stands."""
    first, pivot, last, _ = steps
    fail = [True]

    @colour.saga(name="pivotal")
    def pivotal():
        yield first()
        yield pivot()
        if fail:
            fail.pop()
            raise KeyError("body")
        yield last()

    with pytest.raises(SuspendedError):
        colour.call(pivotal.using(runtime=make_runtime()))
    colour.call(pivotal.using(runtime=make_runtime()))
    assert world == ["first", "pivot", "last"]


def test_a_pivot_that_is_done_counts_beside_one_that_may_be(colour, world, steps, make_runtime):
    """The body went on after the doubtful one; from the other there is no way back."""
    first, pivot, last, failures = steps

    @colour.step(compensate=PIVOT, name="doubtful")
    def doubtful() -> None:
        raise StepTimeout("doubtful", 5.0)

    @colour.saga(name="pivotal")
    def pivotal():
        yield first()
        try:
            yield doubtful()
        except StepTimeout:
            world.add("caught")
        yield pivot()
        failures.extend(["last"] * 4)
        yield last()

    with pytest.raises(SuspendedError, match="pivot is past"):
        colour.call(pivotal.using(runtime=make_runtime()))
    run = make_runtime().runs()[0]
    assert run.pivot == "pivot"
    with pytest.raises(RunConflictError, match="can only go forward"):
        colour.run(run.compensate())
    assert world == ["first", "caught", "pivot"]


def test_a_pivot_in_a_child_binds_the_parent(colour, world, steps, make_runtime):
    """A completed child's pivot cannot be undone by compensating the parent."""
    first, pivot, last, failures = steps
    failures.extend(["last"] * 4)

    @colour.saga(name="inner")
    def inner():
        yield pivot()

    @colour.saga(name="outer")
    def outer():
        yield first()
        yield inner()
        yield last()

    failures[:] = ["last"] * 4
    with pytest.raises(SuspendedError):
        colour.call(outer.using(runtime=make_runtime()))
    assert world == ["first", "pivot"]


def test_a_pivot_beside_other_branches_is_refused(make_runtime, world):
    """Nobody could say what precedes it."""

    @sagadsl.step(compensate=lambda: world.add("-slow"), name="slow", live=("ready", "go"))
    async def slow(ready, go) -> None:
        ready.set()
        await go.wait()
        world.add("slow")

    @sagadsl.step(compensate=PIVOT, name="pivot")
    async def pivot() -> None:
        world.add("pivot")

    @sagadsl.saga(runtime=make_runtime())
    async def flow() -> None:
        ready, go = asyncio.Event(), asyncio.Event()
        beside = asyncio.ensure_future(slow(ready, go))
        await ready.wait()
        try:
            await pivot()
        finally:
            go.set()
            await beside

    with pytest.raises(UsageError, match="starts beside slow"):
        asyncio.run(flow())
    assert world == ["slow", "-slow"]


def test_a_pause_of_a_child_that_a_kill_cut_short_is_resumed_as_one(colour, world, charge, play, make_runtime, how):
    """The child's pause is on record, its parent's is not: the next process takes both for paused."""
    seen = []

    def die(entry):
        if entry.kind == "paused" and not seen:
            seen.append(entry)
            raise Cut

    inner = order_with(colour, world, charge(on_uncertain="pause", retries=0))

    @colour.saga(name="outer")
    def outer():
        return (yield inner("o-1"))

    if how == KILLED:
        with pytest.raises(Cut):
            colour.call(outer.using(runtime=make_runtime()))
    dying = make_runtime()
    dying.observers = (die,)
    with pytest.raises(Cut):
        colour.call(outer.using(runtime=dying))
    assert seen
    assert seen[0].step == "order"
    assert colour.call(outer.using(runtime=make_runtime())) == "p-2"
    assert world == ["charge1", "charge2", "paid:p-2"]


def test_a_probe_whose_live_argument_is_missing_cannot_tell(make_runtime, world, monkeypatch):
    """Compensated by name, where no body binds it: the doubt stays, and the compensation does without a result."""
    shop = types.ModuleType("probing_shop")
    monkeypatch.setitem(sys.modules, "probing_shop", shop)
    shop.world, shop.Cut = world, Cut
    source = """
import sagadsl
def ask(session): raise AssertionError
def undo(result=None): world.add(f"-{result}")
@sagadsl.step(compensate=undo, probe=ask, live=("session",))
def charge(session):
    world.add("charge")
    raise Cut
@sagadsl.saga(live=("session",))
def flow(session):
    charge(session)
"""
    exec(compile(source, "probing_shop.py", "exec"), vars(shop))  # noqa: S102  # a module of its own
    with pytest.raises(Cut):
        shop.flow.using(runtime=make_runtime())(object())
    assert make_runtime().runs()[0].compensate().status == "compensated"
    assert world == ["charge", "-None"]


def test_a_title_is_what_people_read(colour, make_runtime):
    """Kept in the journal where it was given, so that it is read without the program."""

    @colour.step(title="Charge the customer's card", name="charge")
    def charge() -> None:
        """Do it."""

    @colour.saga(name="titled")
    def titled():
        yield charge()

    colour.call(titled.using(runtime=make_runtime()))
    run = make_runtime().runs()[0]
    assert run.steps[0].title == "Charge the customer's card"
    assert "Charge the customer's card" in run_text(run)


def killed_at(make_runtime, kinds):
    """Return a runtime whose process dies as soon as an entry of one of these kinds is durable, and the entries."""
    seen = []

    def die(entry):
        if entry.kind in kinds and not seen:
            seen.append(entry)
            raise Cut

    runtime = make_runtime()
    runtime.observers = (die,)
    return runtime, seen


def test_an_answer_that_cannot_even_be_shown_is_a_mistake_too(colour, world, charge, play, make_runtime):
    """The step has an outcome all the same."""

    class Answer:
        def __repr__(self):
            raise AssertionError

    order = order_with(colour, world, charge(probe=Answer))
    with pytest.raises(UsageError, match="Landed, NotLanded or Unknown"):
        play(order, "o-1")
    assert world == ["charge1", "-None"]
    assert "uncertain" in kinds(make_runtime())


@pytest.mark.parametrize("answer", [Landed("p-1"), True])
def test_what_a_probe_says_of_a_resumed_step_is_its_outcome(colour, world, charge, play, make_runtime, answer):
    """On record, it survives the process that resumed the run: nothing is asked or entered again because of it."""
    asked = []

    def find():
        asked.append(1)
        return Unknown() if len(asked) == 1 else answer

    order = order_with(colour, world, charge(on_uncertain="pause", probe=find))
    with pytest.raises(SuspendedError):
        play(order, "o-1")
    dying, seen = killed_at(make_runtime, {"done", "uncertain"})
    with pytest.raises(Cut):
        colour.call(order.using(runtime=dying), "o-1")
    assert [entry.kind for entry in seen] == ["uncertain" if answer is True else "done"]
    if answer is True:
        with pytest.raises(SuspendedError, match="answered True"):
            colour.call(order.using(runtime=make_runtime()), "o-1")
        assert world == ["charge1"]
    else:
        assert colour.call(order.using(runtime=make_runtime()), "o-1") == "p-1"
        assert world == ["charge1", "paid:p-1"]
    assert len(asked) == 2


@pytest.mark.parametrize("answer", [True, Landed(threading.Lock())])
def test_what_a_probe_gets_wrong_while_compensating_is_not_told_to_the_body(
    colour, world, charge, play, make_runtime, answer
):
    """The body that runs again to bind is told what it was told."""
    answers = iter([Unknown(), answer])
    step = charge(on_uncertain="compensate", probe=lambda: next(answers))
    caught = []

    def undo():
        world.add("-first")
        if world.effects.count("-first") == 1:
            raise Cut

    @colour.step(compensate=undo, name="first")
    def first() -> None:
        world.add("first")

    @colour.saga(name="order")
    def order(name: str):
        yield first()
        try:
            yield step(name)
        except Exception as error:
            caught.append((type(error), str(error)))
            raise

    with pytest.raises(Cut):
        play(order, "o-1")
    with pytest.raises((StepTimeout, StepError)):
        colour.call(order.using(runtime=make_runtime()), "o-1")
    assert len(caught) == 2
    assert caught[0] == caught[1]


@pytest.mark.parametrize("asks", [True, False])
def test_a_probe_or_the_wait_after_it_may_be_cancelled(make_runtime, world, clock, asks):
    """A body that survives it took the fallback: so it does on replay, and the step is neither asked nor entered."""
    asked = []

    async def find():
        asked.append(1)
        if asks:
            await asyncio.Event().wait()
        return NotLanded()

    @sagadsl.step(name="charge", probe=find, retries=Retry(3, wait=5), compensate=None)
    async def charge() -> None:
        attempt = sagadsl.current().attempt
        world.add(f"charge{attempt}")
        if attempt == 1:
            raise OSError("refused")
        raise Cut

    @sagadsl.step(name="fallback", compensate=None)
    async def fallback() -> None:
        world.add("fallback")
        if world.effects.count("fallback") == 1:
            raise Cut

    @sagadsl.saga(name="order")
    async def order() -> str:
        try:
            async with asyncio.timeout(0.1):
                await charge()
        except TimeoutError:
            await fallback()
            return "fell back"
        return "charged"

    async def forever(seconds):
        await asyncio.Event().wait()

    with pytest.raises(Cut):
        asyncio.run(order.using(runtime=make_runtime())())
    clock.microseconds -= 20_000_000  # so that there is a wait left
    with pytest.raises(Cut):
        asyncio.run(order.using(runtime=make_runtime(asleep=forever))())
    assert asyncio.run(order.using(runtime=make_runtime())()) == "fell back"
    assert world == ["charge1", "charge2", "fallback", "fallback"]
    assert len(asked) == 1


def test_a_probe_of_a_resumed_step_may_be_cancelled(make_runtime, world):
    """What paused the run is on record, and yet the replay tells what came after."""
    asked = []

    async def find():
        asked.append(1)
        if len(asked) == 2:
            await asyncio.Event().wait()
        return Unknown()

    @sagadsl.step(name="charge", probe=find, on_uncertain="pause", compensate=None)
    async def charge() -> None:
        world.add("charge")
        raise StepTimeout("charge", 5.0)

    @sagadsl.step(name="fallback", compensate=None)
    async def fallback() -> None:
        world.add("fallback")
        if world.effects.count("fallback") == 1:
            raise Cut

    @sagadsl.saga(name="order")
    async def order() -> None:
        try:
            async with asyncio.timeout(0.1):
                await charge()
        except TimeoutError:
            await fallback()

    with pytest.raises(SuspendedError):
        asyncio.run(order.using(runtime=make_runtime())())
    with pytest.raises(Cut):
        asyncio.run(order.using(runtime=make_runtime())())
    asyncio.run(order.using(runtime=make_runtime())())
    assert world == ["charge", "fallback", "fallback"]
    assert len(asked) == 2


@pytest.mark.parametrize("options", [{"on_uncertain": "pause"}, {"probe": lambda: NotLanded()}])
def test_a_result_that_cannot_be_stored_leaves_no_doubt(colour, world, make_runtime, options):
    """The effect has happened: no person is asked, nor the probe; the step is compensated with the live result."""
    thing = threading.Lock()

    @colour.step(name="charge", compensate=lambda result: world.add(f"-{result is thing}"), **options)
    def charge():
        world.add("charge")
        return thing

    @colour.saga(runtime=make_runtime())
    def order():
        yield charge()

    with pytest.raises(NotStorableError):
        colour.call(order)
    assert world == ["charge", "-True"]


@pytest.mark.parametrize("wanted", ["order", "result=None"])
def test_a_probe_whose_arguments_cannot_be_read_cannot_tell(wanted, make_runtime, world, monkeypatch):
    """A compensation that wants them has failed, on record, for a person to mend; one that does not is called."""
    shop = types.ModuleType("unreadable_shop")
    monkeypatch.setitem(sys.modules, "unreadable_shop", shop)
    shop.world, shop.Cut = world, Cut
    source = f"""
import attrs, sagadsl
@attrs.frozen
class Order:
    name: str
def ask(order): raise AssertionError
def undo({wanted}): world.add("-charge")
@sagadsl.step(compensate=undo, probe=ask)
def charge(order):
    world.add("charge")
    raise Cut
@sagadsl.saga
def flow():
    charge(Order("o-1"))
"""
    exec(compile(source, "unreadable_shop.py", "exec"), vars(shop))  # noqa: S102  # a module of its own
    with pytest.raises(Cut):
        shop.flow.using(runtime=make_runtime())()
    monkeypatch.delitem(sys.modules, "unreadable_shop")
    elsewhere = make_runtime(codec=Codec())
    run = elsewhere.runs()[0].id
    if wanted == "order":
        with pytest.raises(CompensationError, match="not imported"):
            elsewhere.compensate_without_body(run)
        assert (elsewhere.find(run).status, world.effects) == ("compensation_failed", ["charge"])
    else:
        assert elsewhere.compensate_without_body(run).status == "compensated"
        assert world.effects == ["charge", "-charge"]


def test_a_step_that_has_not_landed_is_tried_again_and_said_so(colour, world, charge, make_runtime, caplog):
    """Killed between the probe's answer and the next attempt: that one is still to come."""
    order = order_with(colour, world, charge(landed=False, probe=lambda: NotLanded()))
    dying, seen = killed_at(make_runtime, {"not_landed"})
    for _ in range(2):
        if not seen:
            with pytest.raises(Cut):
                colour.call(order.using(runtime=dying), "o-1")
    assert seen
    caplog.clear()
    assert colour.call(order.using(runtime=make_runtime()), "o-1") == "p-2"
    assert "1 charge is tried again" in caplog.text
    assert world == ["charge2", "paid:p-2"]


def test_a_pivot_of_which_nobody_can_tell_pauses_and_says_so(colour, world, play, make_runtime, how):
    """It may be past, so nothing is compensated by itself; a person may resume it, or have the rest compensated."""

    @colour.step(compensate=lambda: world.add("-first"), name="first")
    def first() -> None:
        world.add("first")

    @colour.step(compensate=PIVOT, name="pivot", on_uncertain="compensate")
    def pivot() -> None:
        world.add("pivot")
        raise StepTimeout("pivot", 5.0) if how == LATE else Cut

    @colour.saga(name="order")
    def order():
        yield first()
        yield pivot()

    with pytest.raises(SuspendedError, match="pivot is perhaps past"):
        play(order)
    assert world == ["first", "pivot"]
    assert make_runtime().runs()[0].pivot is None
    run = colour.run(make_runtime().runs()[0].compensate())
    assert run.status == "compensated"
    assert world == ["first", "pivot", "-first"]


def test_a_child_that_fails_past_its_parents_pivot_pauses_too(colour, world, steps, make_runtime):
    """Nothing is compensated past the pivot, so nothing can fail in being compensated either."""
    first, pivot, last, failures = steps

    @colour.step(compensate=lambda: world.add("-extra"), name="extra")
    def extra() -> None:
        world.add("extra")

    @colour.saga(name="inner")
    def inner():
        yield extra()
        yield last()

    @colour.saga(name="outer")
    def outer():
        yield first()
        yield pivot()
        failures[:] = ["last"] * 4 if not tried else []
        tried.append(1)
        try:
            yield inner()
        except ValueError:
            world.add("caught")

    tried = []
    with pytest.raises(SuspendedError, match="pivot"):
        colour.call(outer.using(runtime=make_runtime()))
    assert world == ["first", "pivot", "extra"]
    colour.call(outer.using(runtime=make_runtime()))
    assert world == ["first", "pivot", "extra", "last"]


@pytest.fixture
def doubtful(colour, world):
    """Give a maker of a saga whose pivot is cut off, with a probe that answers as told, and what that was asked."""

    def make(answer, **options):
        asked = []

        def find(order, idempotency_key):
            asked.append((order, idempotency_key))
            if isinstance(answer[0], BaseException):
                raise answer[0]
            return answer[0]

        @colour.step(compensate=lambda: world.add("-first"), name="first")
        def first() -> None:
            world.add("first")

        @colour.step(compensate=PIVOT, name="pivot", probe=find, on_uncertain="pause")
        def pivot(order: str) -> str:
            world.add("pivot")
            raise Cut

        @colour.saga(name="order", **options)
        def order(name: str):
            yield first()
            return (yield pivot(name))

        return order, asked

    return make


def test_a_request_to_compensate_asks_the_pivot_first(colour, world, doubtful, make_runtime):
    """It has landed: the request is refused before it is on record, and the run only goes forward."""
    answer = [Landed("sent")]
    order, asked = doubtful(answer, runtime=make_runtime())
    with pytest.raises(Cut):
        colour.call(order, "o-1")
    run = make_runtime().runs()[0]
    with pytest.raises(RunConflictError, match=r"past its pivot, pivot: it can only go forward"):
        colour.run(order.reopen(run.id, Request(), make_runtime()))
    assert len(asked) == 1
    assert world == ["first", "pivot"]
    assert "compensating" not in kinds(make_runtime())
    assert make_runtime().runs()[0].pivot == "pivot"
    answer[0] = AssertionError
    assert colour.call(order.using(runtime=make_runtime()), "o-1") == "sent"
    assert len(asked) == 1
    assert world == ["first", "pivot"]


def test_what_a_refused_request_found_out_of_a_paused_run_is_what_it_goes_on_with(
    colour, world, doubtful, make_runtime
):
    """The pause names the pivot as what is entered again; it is done meanwhile."""
    answer = [Unknown()]
    order, asked = doubtful(answer)
    with pytest.raises(Cut):
        colour.call(order.using(runtime=make_runtime()), "o-1")
    with pytest.raises(SuspendedError, match="perhaps past"):
        colour.call(order.using(runtime=make_runtime()), "o-1")
    run = make_runtime().runs()[0]
    answer[0] = Landed("sent")
    with pytest.raises(RunConflictError, match="past its pivot"):
        colour.run(order.reopen(run.id, Request(), make_runtime()))
    assert make_runtime().runs()[0].status == "paused"
    assert colour.call(order.using(runtime=make_runtime()), "o-1") == "sent"
    assert len(asked) == 2
    assert world == ["first", "pivot"]


@pytest.mark.parametrize("answer", [NotLanded(), Unknown(), OSError("out of reach")], ids=["no", "unknown", "raises"])
def test_a_pivot_that_the_probe_does_not_find_does_not_keep_a_run_from_being_compensated(
    colour, world, doubtful, make_runtime, answer
):
    """A person has asked for it; what is known not to have happened is not standing either."""
    order, asked = doubtful([answer])
    with pytest.raises(Cut):
        colour.call(order.using(runtime=make_runtime()), "o-1")
    run = colour.run(order.reopen(make_runtime().runs()[0].id, Request(), make_runtime()))
    assert run.status == "compensated"
    assert len(asked) == 1
    assert world == ["first", "pivot", "-first"]
    assert ("not_landed" in kinds(make_runtime())) is isinstance(answer, NotLanded)


def test_a_request_cut_off_in_the_probe_of_the_pivot_was_not_made(colour, world, doubtful, make_runtime):
    """Nothing of it is on record; the next one asks again."""
    answer = [Cut()]
    order, asked = doubtful(answer)
    with pytest.raises(Cut):
        colour.call(order.using(runtime=make_runtime()), "o-1")
    before = kinds(make_runtime())
    with pytest.raises(Cut):
        colour.run(order.reopen(make_runtime().runs()[0].id, Request(), make_runtime()))
    assert kinds(make_runtime()) == before
    answer[0] = NotLanded()
    run = colour.run(order.reopen(make_runtime().runs()[0].id, Request(), make_runtime()))
    assert (run.status, len(asked)) == ("compensated", 2)
    assert world == ["first", "pivot", "-first"]


def test_a_request_that_was_granted_is_not_questioned_again(colour, world, make_runtime):
    """Half of the run may be compensated: what a probe says later changes nothing."""
    answer, mended = [Unknown()], []

    def back():
        if not mended:
            raise OSError("out of reach")
        world.add("-first")

    @colour.step(compensate=Compensation(back, retries=0), name="first")
    def first() -> None:
        world.add("first")

    @colour.step(compensate=PIVOT, name="pivot", probe=lambda: answer[0])
    def pivot() -> None:
        raise Cut

    @colour.saga(name="order")
    def order():
        yield first()
        yield pivot()

    with pytest.raises(Cut):
        colour.call(order.using(runtime=make_runtime()))
    run_id = make_runtime().runs()[0].id
    with pytest.raises(CompensationError):
        colour.run(order.reopen(run_id, Request(), make_runtime()))
    answer[0] = Landed(None)
    mended.append(1)
    assert colour.run(order.reopen(run_id, Request(), make_runtime())).status == "compensated"
    assert world == ["first", "-first"]


def test_a_pivot_whose_result_cannot_be_stored_has_happened(colour, world, make_runtime):
    """It is past: nothing is compensated, and it is not entered again, whoever resumes; a probe can give its value."""
    answer = [Unknown()]

    @colour.step(compensate=lambda: world.add("-first"), name="first")
    def first() -> None:
        world.add("first")

    @colour.step(compensate=PIVOT, name="pivot", probe=lambda: answer[0])
    def pivot():
        world.add("pivot")
        return threading.Lock()

    @colour.saga(name="order")
    def order():
        yield first()
        return (yield pivot())

    for _ in range(2):
        with pytest.raises(SuspendedError, match=r"pivot is past, .* not entered again: .* Landed\(value\)") as caught:
            colour.call(order.using(runtime=make_runtime()))
        assert isinstance(caught.value.__cause__, NotStorableError)
        assert caught.value.forward_only
        run = make_runtime().runs()[0]
        assert (run.status, run.pivot) == ("paused", "pivot")
        with pytest.raises(RunConflictError, match="can only go forward"):
            colour.run(order.reopen(run.id, Request(), make_runtime()))
    answer[0] = Landed("sent")
    assert colour.call(order.using(runtime=make_runtime())) == "sent"
    assert world == ["first", "pivot"]


def test_a_body_may_go_on_from_a_pivot_whose_result_cannot_be_stored(colour, world, steps, make_runtime):
    """What fails after it is retried, as after any pivot."""
    *_, last, failures = steps

    @colour.step(compensate=PIVOT, name="mail")
    def mail():
        world.add("mail")
        return threading.Lock()

    @colour.saga(name="order")
    def order():
        try:
            yield mail()
        except NotStorableError:
            world.add("caught")
        yield last()
        return "sent"

    failures[:] = ["last"] * 2
    assert colour.call(order.using(runtime=make_runtime())) == "sent"
    assert world == ["mail", "caught", "last"]


def test_a_probe_that_does_not_find_an_unstorable_pivot_is_believed(colour, world, make_runtime):
    """It is entered once more: the effect is not there, whatever it returned."""
    results = [threading.Lock(), "sent"]

    @colour.step(compensate=PIVOT, name="pivot", probe=lambda: NotLanded())
    def pivot():
        world.add("pivot")
        return results.pop(0)

    @colour.saga(name="order")
    def order():
        return (yield pivot())

    with pytest.raises(SuspendedError, match="is past"):
        colour.call(order.using(runtime=make_runtime()))
    assert colour.call(order.using(runtime=make_runtime())) == "sent"
    assert world == ["pivot", "pivot"]


def test_a_request_asks_the_pivot_before_a_child_goes_on_compensating(colour, world, make_runtime):
    """The child was cut off in that: what it does next would put the request on record."""
    answer, cut = [Unknown()], [True]

    def back():
        if cut:
            cut.pop()
            raise Cut
        world.add("-act")

    @colour.step(compensate=PIVOT, name="pivot", probe=lambda: answer[0], on_uncertain="compensate")
    def pivot() -> None:
        world.add("pivot")
        raise StepTimeout("pivot", 5.0)

    @colour.step(compensate=back, name="act")
    def act() -> None:
        world.add("act")

    @colour.saga(name="inner")
    def inner():
        yield act()
        raise KeyError("inner")

    @colour.saga(name="order")
    def order():
        try:
            yield pivot()
        except StepTimeout:
            world.add("caught")
        yield inner()

    with pytest.raises(Cut):
        colour.call(order.using(runtime=make_runtime()))
    run_id = make_runtime().runs()[0].id
    answer[0] = Landed(None)
    with pytest.raises(RunConflictError, match="past its pivot"):
        colour.run(order.reopen(run_id, Request(), make_runtime()))
    assert world == ["pivot", "caught", "act", "caught"]  # the body ran again, to bind what it calls
    assert make_runtime().runs()[0].pivot == "pivot"
