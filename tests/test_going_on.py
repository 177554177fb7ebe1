"""The contract about sagas, identity and going on, sentence by sentence where no other room has it."""

from __future__ import annotations

import asyncio
import signal

import pytest

import sagadsl
from sagadsl import Compensated, Completed, ReplayError, RunConflictError, RunLockedError, Suspended, SuspendedError


class Cut(BaseException):
    """A process that dies, as far as a body can tell."""


@pytest.fixture
def dies():
    """Say how often an effect is cut off after it has happened."""
    return {}


@pytest.fixture
def act(colour, world, dies):
    """Give a step with a compensation; both are cut off as often as *dies* says."""

    def effect(name):
        world.add(name)
        if dies.get(name, 0) > 0:
            dies[name] -= 1
            raise Cut
        if name == "fails":
            raise ValueError(name)
        return name.upper()

    @colour.step(compensate=lambda name: effect(f"-{name}"), name="act", live=("client",))
    def act(name: str, client: object = None) -> str:
        return effect(name)

    return act


def leave(colour, function, *args):
    """Leave a run interrupted."""
    with pytest.raises(Cut):
        colour.call(function, *args)


# -- which run a call means -------------------------------------------------------------------------------------------


def test_the_oldest_interrupted_run_with_equal_arguments_is_adopted(colour, make_runtime, act, dies, world):
    """One call, one run; live arguments are no part of the question."""

    @colour.saga(live=("client",), name="trip")
    def trip(name: str, client: object):
        yield act(name, client)
        return (yield act("end"))

    runtime = make_runtime()
    for key in ("first", "second"):
        dies["a"] = 1
        leave(colour, trip.using(runtime=make_runtime(), key=key), "a", object())
    assert colour.call(trip.using(runtime=make_runtime()), "a", object()) == "END"
    assert [(run.id, str(run.status)) for run in runtime.runs()] == [
        ("trip/second", "open"),
        ("trip/first", "completed"),
    ]
    assert colour.call(trip.using(runtime=make_runtime()), "a", object()) == "END"
    assert {str(run.status) for run in runtime.runs()} == {"completed"}
    assert len(runtime.runs()) == 2


def test_a_run_that_a_living_process_has_is_not_adopted(colour, make_runtime, act, dies, world):
    """Another call with equal arguments is then another run."""
    dies["a"] = 1

    @colour.saga(name="trip")
    def trip(name: str):
        return (yield act(name))

    runtime = make_runtime()
    leave(colour, trip.using(runtime=runtime), "a")
    (row,) = runtime.journal().runs()
    owner = make_runtime().journal()
    assert owner.hold(row.lock)
    assert colour.call(trip.using(runtime=runtime), "a") == "A"
    assert [str(run.status) for run in runtime.runs()] == ["completed", "open"]
    with pytest.raises(RunLockedError, match=r"is being run by this process \(process \d+ on "):
        colour.call(trip.using(runtime=runtime, id=row.id), "a")
    owner.release(row.lock)
    assert world == ["a", "a"]


@pytest.mark.parametrize("how", ["paused", "compensating"])
def test_what_a_failure_left_unfinished_is_adopted_too(  # noqa: PLR0917
    colour, make_runtime, act, dies, world, how, caplog
):
    """Paused by it, or cut off while it was compensated; the line says which."""
    dies |= {"-a": 1}
    broken = [True]

    @colour.saga(name="trip", on_failure="pause" if how == "paused" else "compensate")
    def trip():
        yield act("a")
        return (yield act("fails" if broken[0] else "mended"))

    error = SuspendedError if how == "paused" else Cut
    with pytest.raises(error):
        colour.call(trip.using(runtime=make_runtime()))
    caplog.clear()
    with pytest.raises(SuspendedError if how == "paused" else ValueError, match="fails"):
        colour.call(trip.using(runtime=make_runtime()))
    says = "paused by a failure less than a second ago" if how == "paused" else "goes on compensating"
    assert says in caplog.records[0].getMessage()
    assert caplog.records[0].levelname == "WARNING"
    assert len(make_runtime().runs()) == 1
    assert world.effects[2:] == (["fails"] if how == "paused" else ["-a", "-a"])


@pytest.mark.parametrize("where", ["call", "saga", "runtime"])
@pytest.mark.parametrize("resume", ["key", "never"])
def test_a_keyless_call_adopts_nothing_where_it_is_told_so(colour, make_runtime, act, dies, world, where, resume):  # noqa: PLR0917
    """By the call, by its saga, or for the process."""
    dies["a"] = 1

    @colour.saga(name="trip", resume=resume if where == "saga" else None)
    def trip():
        return (yield act("a"))

    def again():
        options = {"resume": resume} if where == "call" else {}
        return trip.using(runtime=make_runtime(**({"resume": resume} if where == "runtime" else {})), **options)

    leave(colour, again())
    assert colour.call(again()) == "A"
    assert [str(run.status) for run in make_runtime().runs()] == ["completed", "open"]


@pytest.mark.parametrize("where", ["call", "saga", "runtime"])
def test_never_refuses_a_call_to_go_on_and_no_person(colour, make_runtime, act, dies, world, where):
    """What is asked for by name goes on, and a finished key gives its value."""
    dies["a"] = 1

    @colour.saga(key="k", name="trip", resume="never" if where == "saga" else None)
    def trip():
        return (yield act("a"))

    def again():
        options = {"resume": "never"} if where == "call" else {}
        return trip.using(runtime=make_runtime(**({"resume": "never"} if where == "runtime" else {})), **options)

    leave(colour, again())
    with pytest.raises(RunConflictError, match="trip/k: is unfinished, and resume='never' forbids"):
        colour.call(again())
    assert colour.run(again().resume("trip/k")) == "A"
    assert colour.call(again()) == "A"
    assert world == ["a", "a"]


@pytest.mark.parametrize("by", ["saga", "run"])
def test_what_is_compensated_is_not_gone_on_with(colour, make_runtime, act, world, by):
    """Whoever resumes names that run, and it is over; a call means its key, and runs it afresh."""

    @colour.saga(key="k", name="trip")
    def trip():
        yield act("a")
        yield act("fails")

    flow = trip.using(runtime=make_runtime())
    with pytest.raises(ValueError, match="fails"):
        colour.call(flow)
    assert world == ["a", "fails", "-a"]
    with pytest.raises(RunConflictError, match="trip/k: is compensated already; there is nothing to go on with"):
        colour.run(flow.resume("trip/k") if by == "saga" else make_runtime().find("trip/k").resume())
    assert (world, make_runtime().find("trip/k").generation) == (["a", "fails", "-a"], 1)
    for again in (lambda: flow(), lambda: flow.using(rerun=True).resume("trip/k")):
        with pytest.raises(ValueError, match="fails"):
            colour.call(again)
    assert world == ["a", "fails", "-a"] * 3
    assert make_runtime().find("trip/k").generation == 3


def test_a_call_says_its_own_word_against_that_of_its_saga(colour, make_runtime, act, dies):
    """`using(resume=...)` comes before `@saga(resume=...)`, which comes before the process."""
    dies["a"] = 2

    @colour.saga(name="trip", resume="never")
    def trip():
        return (yield act("a"))

    leave(colour, trip.using(runtime=make_runtime()))
    leave(colour, trip.using(runtime=make_runtime(resume="key"), resume="arguments"))
    assert len(make_runtime().runs()) == 1


def test_another_id_conflicts_in_every_name_that_differs(colour, make_runtime, act):
    """Added and absent ones too."""

    @colour.saga(name="trip")
    def trip(one: int, two: int = 2, **more: int):
        yield act("a")

    flow = trip.using(runtime=make_runtime(), id="t")

    def call(*args, **kwargs):
        return flow(*args, **kwargs)

    colour.call(lambda: call(1, x=1))
    for args, kwargs, differing in (((2,), {"x": 1}, ("one",)), ((2, 3), {"y": 1}, ("one", "two", "more"))):
        with pytest.raises(RunConflictError) as caught:
            colour.call(lambda args=args, kwargs=kwargs: call(*args, **kwargs))
        assert caught.value.differing == differing
        assert "give this call another id or key" in str(caught.value)


def test_what_was_compensated_on_request_is_not_run_again_by_accident(colour, make_runtime, act, dies, world):
    """Nor where the request was cut off: a call then carries it out, and says what it was."""
    dies |= {"b": 1, "-b": 1}

    @colour.saga(key="k", name="trip")
    def trip():
        yield act("a")
        yield act("b")
        return "arrived"

    leave(colour, trip.using(runtime=make_runtime()))
    with pytest.raises(Cut):
        colour.run(make_runtime().find("trip/k").compensate())
    for _ in range(2):
        with pytest.raises(RunConflictError, match=r"was compensated on request; using\(rerun=True\) runs it afresh"):
            colour.call(trip.using(runtime=make_runtime()))
    assert world == ["a", "b", "-b", "-b", "-a"]
    with pytest.raises(RunConflictError):
        colour.call(trip.using(runtime=make_runtime()).outcome)
    assert colour.call(trip.using(runtime=make_runtime(), rerun=True)) == "arrived"
    assert colour.call(trip.using(runtime=make_runtime())) == "arrived"
    assert [(run.generation, str(run.status)) for run in make_runtime().runs()] == [
        (2, "completed"),
        (1, "compensated"),
    ]


def test_rerun_changes_nothing_for_what_need_not_be_run_again(colour, make_runtime, act, world):
    """A completed key gives its value all the same: one key is done once."""

    @colour.saga(key="k")
    def trip():
        return (yield act("a"))

    for _ in range(2):
        assert colour.call(trip.using(runtime=make_runtime(), rerun=True)) == "A"
    assert world == ["a"]


# -- what comes out ---------------------------------------------------------------------------------------------------


def test_step_lists_hold_keys_in_the_order_in_which_it_happened(colour, runtime, act, world):
    """Occurrences are numbered, children prefixed, explicit keys shown."""

    @colour.saga(name="pack")
    def pack(name: str):
        yield act(name)
        yield act(f"{name}{name}")

    @colour.step(compensate=sagadsl.IRREVERSIBLE)
    def mail() -> None:
        world.add("mail")

    @colour.saga(runtime=runtime)
    def flow():
        yield act("a")
        yield mail()
        yield pack("b")
        yield act.using(key="c")("c")
        yield mail()
        yield act("a")
        raise ValueError("no")

    outcome = colour.call(flow.outcome)
    assert outcome.compensated_steps == ("act#2", "act:c", "pack/act#2", "pack/act", "act")
    assert outcome.standing == ("mail", "mail#2")
    assert world.effects[-5:] == ["-a", "-c", "-bb", "-b", "-a"]


def test_several_sagas_each_on_its_own(colour, runtime, act):
    """A loop over outcomes, and `match` knows each."""

    @colour.saga(runtime=runtime, key="{name}")
    def flow(name: str):
        return (yield act(name))

    outcomes = [colour.call(flow.outcome, name) for name in ("a", "fails", "b")]
    assert [type(outcome) for outcome in outcomes] == [Completed, Compensated, Completed]
    assert len({outcome.run.id for outcome in outcomes}) == 3


def test_a_child_that_pauses_stops_its_whole_tree(colour, make_runtime, act, world):
    """Nothing that the parent catches starts another step; resuming goes on in the child."""
    broken = [True]

    @colour.saga(name="child", on_failure="pause")
    def child():
        yield act("c")
        return (yield act("fails" if broken[0] else "mended"))

    @colour.saga(key="k", name="flow")
    def flow():
        yield act("a")
        try:
            yield child()
        except Exception:
            world.add("caught")
        return (yield act("after"))

    outcome = colour.call(flow.using(runtime=make_runtime()).outcome)
    assert isinstance(outcome, Suspended)
    assert outcome.run.status == "paused"
    assert world == ["a", "c", "fails"]


def test_no_signal_handler_is_installed_by_a_saga(colour, runtime, act):
    """That is the program's own affair."""
    signals = sorted(signal.valid_signals())
    before = [signal.getsignal(each) for each in signals]

    @colour.saga(runtime=runtime)
    def flow():
        assert [signal.getsignal(each) for each in signals if each is not signal.SIGINT] == [
            handler for each, handler in zip(signals, before, strict=True) if each is not signal.SIGINT
        ]
        yield act("a")

    colour.call(flow)  # asyncio itself minds SIGINT while a loop runs
    assert [signal.getsignal(each) for each in signals] == before


# -- identity of a step -----------------------------------------------------------------------------------------------


def overlapping(make_runtime, world, before, after, key="k"):
    """Run a body whose calls overlap until it is cut off, then another in its place."""
    bodies = [before, after]

    @sagadsl.step(compensate=None)
    async def act(name: str) -> str:
        await asyncio.sleep(0)
        world.add(name)
        if name == "cut" and sagadsl.current().attempt == 1:
            raise Cut
        return name

    @sagadsl.saga(key=key, name="flow")
    async def flow():
        return await asyncio.gather(*(act(name) for name in bodies[0]))

    with pytest.raises(Cut):
        asyncio.run(flow.using(runtime=make_runtime())())
    del bodies[0]
    return lambda: asyncio.run(flow.using(runtime=make_runtime())())


def test_where_steps_overlapped_an_unknown_call_is_a_new_step(make_runtime, world):
    """Whatever its place among the others."""
    again = overlapping(make_runtime, world, ["a", "b", "cut"], ["new", "b", "cut", "a"])
    assert again() == ["new", "b", "cut", "a"]
    assert sorted(world.effects) == ["a", "b", "cut", "cut", "new"]


def test_where_steps_overlapped_what_is_left_over_at_the_end_is_a_divergence(make_runtime, world):
    """Else its effect would stand and nobody know."""
    again = overlapping(make_runtime, world, ["a", "b", "cut"], ["b", "cut"])
    with pytest.raises(ReplayError, match=r"it ended before act\n"):
        again()


def test_equal_calls_are_told_apart_by_their_number(colour, make_runtime, dies, world):
    """The second of two equal calls gets the second record."""
    seen, dies["cut"] = [], 1

    @colour.step(compensate=None)
    def count(name: str) -> int:
        world.add(name)
        return len(world.effects)

    @colour.step(compensate=None)
    def cut() -> None:
        if dies["cut"]:
            dies["cut"] -= 1
            raise Cut

    @colour.saga(key="k")
    def flow():
        seen.append([(yield count("a")), (yield count("a")), (yield count("b"))])
        yield cut()

    leave(colour, flow.using(runtime=make_runtime()))
    colour.call(flow.using(runtime=make_runtime()))
    assert seen == [[1, 2, 3], [1, 2, 3]]
    assert [step.key for step in make_runtime().runs()[0].steps] == ["count", "count#2", "count#3", "cut"]


def test_live_arguments_are_no_part_of_a_steps_identity(colour, make_runtime, act, dies, world):
    """Another connection is the same step."""
    dies["cut"] = 1

    @colour.saga(key="k", live=("client",))
    def flow(client: object):
        yield act("a", client)
        yield act("cut", client)

    leave(colour, flow.using(runtime=make_runtime()), object())
    colour.call(flow.using(runtime=make_runtime()), object())
    assert world == ["a", "cut", "cut"]
