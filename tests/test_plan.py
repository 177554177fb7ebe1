"""A saga built at run time: what needs what decides the order, independent nodes run at once, nothing happens twice."""

from __future__ import annotations

import asyncio
import threading

import pytest

import sagadsl
from sagadsl import UsageError
from sagadsl.plan import Plan


class Cut(BaseException):
    """The end of a process, for a test."""


@pytest.fixture
def act(colour, world):
    """Make a step that notes what it gets; what *fails* names raises."""
    fails: dict[str, BaseException] = {}

    @colour.step(compensate=lambda name: world.add(f"-{name}"), name="act")
    def act(name: str, given: str = "") -> str:
        if name in fails:
            raise fails[name]
        world.add(f"{name}({given})" if given else name)
        return name.upper()

    act.fails = fails
    return act


def test_results_flow_along_the_nodes(colour, make_runtime, world, act):
    """A node as argument means its result; the results come by name."""
    plan = Plan("order", runtime=make_runtime())
    a = plan.add(act, "a")
    b = plan.add(act, "b", a)
    plan.add(act, "c", given=b, after=[a])
    assert colour.call(plan) == {"act": "A", "act#2": "B", "act#3": "C"}
    assert world == ["a", "b(A)", "c(B)"]
    assert make_runtime().runs()[0].saga == "order"


@pytest.mark.parametrize("as_given", [lambda node: node, lambda node: [node], lambda node: iter([node])])
def test_a_node_comes_after_one_or_several(colour, make_runtime, world, act, as_given):
    """Whose results it does not take."""
    plan = Plan("order", runtime=make_runtime(), limit=1)
    a = plan.add(act, "a")
    b = plan.add(act, "b", after=as_given(a))
    plan.add(act, "c", after=b)
    assert list(b.needs) == [a]
    assert colour.call(plan) == {"act": "A", "act#2": "B", "act#3": "C"}
    assert world == ["a", "b", "c"]


def test_a_plan_has_an_outcome_as_a_saga_has(colour, make_runtime, world, act):
    """Completed with the results by name, compensated with the error; what is none is raised."""
    plan = Plan("order", runtime=make_runtime(), key="k")
    plan.add(act, "b", plan.add(act, "a"))
    act.fails["b"] = ValueError("no")
    failed = colour.call(plan.outcome)
    assert (type(failed), failed.error, failed.compensated_steps) == (
        sagadsl.Compensated,
        act.fails["b"],
        ("parallel/1/act",),
    )
    del act.fails["b"]
    done = colour.call(plan.outcome)
    assert (type(done), done.value, done.run.status, done.exit_code) == (
        sagadsl.Completed,
        {"act": "A", "act#2": "B"},
        "completed",
        0,
    )
    act.fails["c"] = UsageError("never")
    wrong = Plan("wrong", runtime=make_runtime())
    wrong.add(act, "c")
    with pytest.raises(UsageError, match="never") as caught:
        colour.call(wrong.outcome)
    assert caught.value is act.fails["c"]


def test_a_failure_leaves_out_what_needs_it_and_compensates_the_rest(colour, make_runtime, world, act):
    """Independent nodes come to their end first."""
    act.fails["b"] = ValueError("no")
    plan = Plan("order", limit=1, runtime=make_runtime())
    a = plan.add(act, "a")
    b = plan.add(act, "b", a)
    plan.add(act, "c", b)
    plan.add(act, "d")
    with pytest.raises(ValueError, match="no"):
        colour.call(plan)
    assert sorted(world.effects[:2]) == ["a", "d"]
    assert sorted(world.effects[2:]) == ["-a", "-d"]
    assert make_runtime().runs()[0].status == "compensated"


def test_what_a_node_waits_for_is_a_node_of_its_plan(make_runtime, world, act):
    """A name is none: it would wait for nothing. Nothing is done."""
    plan = Plan("order", runtime=make_runtime())
    first = plan.add(act, "a")
    with pytest.raises(UsageError, match=r"order: a node waits for nodes, as add\(\) returns them, not for 'act'"):
        plan.add(act, "b", after=["act"])
    first.after("act")
    with pytest.raises(UsageError, match="not for 'act'"):
        plan()
    assert (world.effects, make_runtime().runs()) == ([], [])


def test_a_killed_plan_goes_on(colour, make_runtime, world, act):
    """Built again from the same data, it enters no finished node."""

    def plan():
        made = Plan("order", key="k", runtime=make_runtime())
        last = None
        for name in "abc":
            last = made.add(act, name, **({"given": last} if last else {}))
        return made

    act.fails["c"] = Cut()
    with pytest.raises(Cut):
        colour.call(plan())
    del act.fails["c"]
    assert colour.call(plan()) == {"act": "A", "act#2": "B", "act#3": "C"}
    assert colour.call(plan()) == {"act": "A", "act#2": "B", "act#3": "C"}
    assert world == ["a", "b(A)", "c(B)"]


def test_independent_nodes_run_at_the_same_time(make_runtime):
    """Two that wait for each other."""
    barrier = threading.Barrier(2)

    @sagadsl.step(compensate=None)
    def meet(n: int) -> int:
        barrier.wait(30)
        return n

    plan = Plan("both", runtime=make_runtime())
    plan.add(meet, 1)
    plan.add(meet, 2)
    assert plan() == {"meet": 1, "meet#2": 2}


def test_plans_and_sagas_are_nodes_and_a_plan_is_a_child(colour, make_runtime, world, act):
    """A larger one compensates them."""

    @colour.saga(name="inner")
    def inner(name: str):
        return (yield act(name))

    small = Plan("small")
    small.add(act, "a")
    large = Plan("large")
    first = large.add(small)
    large.add(inner, "b").after(first)

    @colour.saga(runtime=make_runtime())
    def outer():
        yield large()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        colour.call(outer)
    assert world == ["a", "b", "-b", "-a"]


def test_a_circle_is_refused_by_name(act):
    """Before anything is entered."""
    plan = Plan("order")
    a, b = plan.add(act, "a"), plan.add(act, "b")
    a.after(b)
    b.after(a)
    with pytest.raises(UsageError, match=r"wait for each other: act.* -> act"):
        plan()


def test_what_cannot_be_a_node_is_refused(act):
    """Plain functions, nodes of others, unknown settings."""
    plan = Plan("order")
    with pytest.raises(UsageError, match="decorate it with @step"):
        plan.add(print, "a")
    with pytest.raises(UsageError, match="another plan"):
        plan.add(act, Plan("other").add(act, "a"))
    with pytest.raises(UsageError, match="waits for nodes, as add\\(\\) returns them, not for 3"):
        plan.add(act, "a", after=3)
    for nested in ([Plan("other").add(act, "a")], {"key": (1, Plan("other").add(act, "a"))}):
        with pytest.raises(UsageError, match=r"order: act is inside an argument of act, .* to a def act"):
            plan.add(act, "b", given=nested)
    with pytest.raises(UsageError, match="kee"):
        Plan("order", kee="k")
    assert repr(plan) == "<plan 'order' of 0 nodes>"
    assert repr(plan.add(act, "a")) == "<node act>"


def test_an_empty_plan_has_no_results(make_runtime):
    """And a plan with one coroutine among its nodes is awaited."""

    @sagadsl.step(compensate=None)
    def one() -> int:
        return 1

    @sagadsl.step(compensate=None)
    async def two(n: int) -> int:
        return n + 1

    assert Plan("nothing", runtime=make_runtime())() == {}
    plan = Plan("mixed", limit=1, runtime=make_runtime())
    plan.add(two, plan.add(one))
    assert asyncio.run(plan()) == {"one": 1, "two": 2}


@pytest.mark.parametrize("is_first", [True, False])
def test_a_plan_killed_between_its_nodes_goes_on_with_another_timing(colour, make_runtime, world, is_first):
    """A diamond, killed in either of its sides while the other is under way or has ended."""
    gates, cut = {}, ["b" if is_first else "c"]

    @colour.step(compensate=None, name="act")
    def act(name: str, *given: str) -> str:
        if name in gates:
            yield gates[name].wait() if colour.is_async else gates[name].wait(30)
        if name in cut:
            cut.clear()
            raise Cut
        world.add(name)
        for gate in gates.values():
            gate.set()
        return name + "".join(given)

    def plan():
        made = Plan("diamond", key="k", runtime=make_runtime())
        top = made.add(act, "a")
        made.add(act, "d", made.add(act, "b", top), made.add(act, "c", top))
        return made

    with pytest.raises(Cut):
        colour.call(plan())
    later = "c" if "b" in world.effects else "b"
    gates[later] = asyncio.Event() if colour.is_async else threading.Event()
    if set("bc") & set(world.effects):
        gates[later].set()
    assert colour.call(plan())["act#4"] == "dbaca"
    assert sorted(world.effects) == ["a", "b", "c", "d"]
    assert (world.effects[0], world.effects[-1]) == ("a", "d")


def test_no_more_nodes_run_at_once_than_the_limit_says(colour, make_runtime):
    """Those that wait for others do not count."""
    guard, now, most = threading.Lock(), [0], [0]

    @colour.step(compensate=None, name="busy")
    def busy(n: int) -> int:
        with guard:
            now[0] += 1
            most[0] = max(most[0], now[0])
        yield asyncio.sleep(0) if colour.is_async else None
        with guard:
            now[0] -= 1
        return n

    plan = Plan("work", limit=2, runtime=make_runtime())
    last = [plan.add(busy, n) for n in range(6)]
    plan.add(busy, 6, after=last)
    assert list(colour.call(plan).values()) == list(range(7))
    assert 1 <= most[0] <= 2


def test_a_plan_built_from_data_is_a_step_of_a_saga_that_goes_on(colour, make_runtime, world, act):
    """Cut off inside it, the saga is called again, and the plan is built again from what a step returned."""

    @colour.step(compensate=None, name="look")
    def look() -> list[str]:
        world.add("look")
        return ["a", "b", "c"]

    @colour.saga(name="outer", key="k")
    def outer():
        plan = Plan("chain")
        last = None
        for name in (yield look()):
            last = plan.add(act, name, **({"given": last} if last else {}))
        results = yield plan()
        yield act("end")
        return results

    act.fails["c"] = Cut()
    with pytest.raises(Cut):
        colour.call(outer.using(runtime=make_runtime()))
    act.fails["c"] = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        colour.call(outer.using(runtime=make_runtime()))
    assert world == ["look", "a", "b(A)", "-c", "-b", "-a"]
    assert make_runtime().runs()[0].status == "compensated"


def test_a_paused_plan_calls_what_it_had_left_out(colour, make_runtime, world, act):
    """What needs the node that failed has not been called yet, and is once that has ended well."""

    def plan():
        made = Plan("order", key="k", on_failure="pause", runtime=make_runtime())
        made.add(act, "d", made.add(act, "b", made.add(act, "a")))
        made.add(act, "e")
        return made

    act.fails["b"] = ValueError("no")
    with pytest.raises(sagadsl.SuspendedError, match="no") as caught:
        colour.call(plan())
    assert caught.value.__cause__ is act.fails["b"]
    assert sorted(world.effects) == ["a", "e"]
    del act.fails["b"]
    assert colour.call(plan())["act#3"] == "D"
    assert world.effects[2:] == ["b(A)", "d(B)"]


def test_all_that_failed_is_told_and_nothing_that_was_left_out(colour, make_runtime, world, act):
    """As the exceptions that they are, with what they came from."""
    act.fails |= {"a": ValueError("a"), "b": KeyError("b")}
    plan = Plan("order", runtime=make_runtime())
    first, second = plan.add(act, "a"), plan.add(act, "b")
    plan.add(act, "c", first, after=[second])
    with pytest.raises(ExceptionGroup, match="2 nodes failed") as caught:
        colour.call(plan)
    assert caught.value.exceptions == (act.fails["a"], act.fails["b"])
    assert world == []
    act.fails["b"].__cause__ = OSError("disk")
    del act.fails["a"]
    with pytest.raises(KeyError) as alone:
        colour.call(plan)
    assert alone.value is act.fails["b"]
    assert str(alone.value.__cause__) == "disk"
