"""From a caught exception to its outcome, and from an outcome to the exit code of a script."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import gc
import pickle
import signal
import traceback
import weakref
from pathlib import Path

import attrs
import pytest

import sagadsl
from sagadsl import (
    Compensated,
    Compensation,
    CompensationError,
    CompensationFailed,
    ReplayError,
    RunConflictError,
    RunLockedError,
    RunLostError,
    Suspended,
    SuspendedError,
    UsageError,
)
from sagadsl._core.journal import Log


class Cut(BaseException):
    """A process that dies, as far as a body can tell."""


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    code: int


@attrs.frozen
class FrozenAttrsError(Exception):
    code: int


@attrs.define(eq=True)  # so it cannot be hashed
class EqualError(Exception):
    code: int


class RefusedError(OSError):
    __slots__ = ("by",)


class SlotsError(Exception):
    __slots__ = ("code",)

    def __init__(self, code):
        super().__init__(code)
        self.code = code


class RefusesError(Exception):
    def __new__(cls, *, code):
        return super().__new__(cls)

    def __init__(self, *, code):
        self.code = code


RAISED = {
    "builtin": lambda: ValueError("no"),
    "frozen dataclass": lambda: FrozenError(1),
    "frozen attrs": lambda: FrozenAttrsError(1),
    "not hashable": lambda: EqualError(1),
    "slots": lambda: SlotsError(1),
    "refuses": lambda: RefusesError(code=1),
    "group": lambda: ExceptionGroup("two", [ValueError("no"), OSError("down")]),
    "a timeout of ours": lambda: sagadsl.StepTimeout("charge", 1.0),
}


@pytest.fixture
def act(colour, world):
    """Give a step with a compensation; *fail* is raised after its effect."""

    @colour.step(compensate=lambda name: world.add(f"-{name}"), name="act", live=("fail",))
    def act(name: str, fail: BaseException | None = None) -> None:
        world.add(name)
        if fail is not None:
            raise fail

    return act


def caught(colour, function, *args):
    """Call a saga and return what it raised."""
    try:
        colour.call(function, *args)
    except BaseException as error:
        return error
    pytest.fail("nothing was raised")


@pytest.mark.parametrize("where", ["body", "step"])
@pytest.mark.parametrize("name", sorted(RAISED))
def test_a_caught_exception_leads_to_its_outcome(colour, runtime, act, world, name, where):
    """The object is the original one, of whatever class, and the outcome is what `.outcome()` returns."""
    error = RAISED[name]()

    @colour.saga(runtime=runtime)
    def flow():
        yield act("a")
        if where == "step":
            yield act("b", error)
        raise error

    raised = caught(colour, flow)
    assert raised is error
    outcome = sagadsl.outcome(raised)
    match outcome:
        case Compensated(found, ("act",), ()):
            assert found is error
        case _:
            pytest.fail(f"{outcome}")
    assert outcome.exit_code == 3
    (run,) = runtime.runs()
    assert (outcome.run.id, outcome.run.status) == (run.id, "compensated")
    asked = colour.call(flow.outcome)
    assert attrs.evolve(asked, run=None) == attrs.evolve(outcome, run=None)
    assert asked.run.id != outcome.run.id
    assert world == ["a", *(["b"] if where == "step" else []), "-a"] * 2


def test_what_a_person_decides_has_its_outcome_too(colour, runtime, act, world):
    """A compensation that failed, a pause; and the run that is found stuck by the next call."""
    broken = Compensation(lambda: 1 / 0, retries=0)

    @colour.step(compensate=broken)
    def odd() -> None:
        world.add("odd")

    @colour.saga(runtime=runtime, key="k", name="flow")
    def flow():
        yield act("a")
        yield odd()
        raise ValueError("no")

    failed = caught(colour, flow)
    match sagadsl.outcome(failed):
        case CompensationFailed(ValueError(), ZeroDivisionError(), "odd", (), ("act",), run=run) as outcome:
            assert (run.id, run.status, outcome.exit_code) == ("flow/k", "compensation_failed", 6)
        case other:
            pytest.fail(f"{other}")
    again = caught(colour, flow)
    assert isinstance(again, CompensationError)
    assert again is not failed
    assert sagadsl.outcome(again).pending_steps == colour.call(flow.outcome).pending_steps == ("act",)
    with pytest.raises(CompensationError) as stuck:
        colour.run(runtime.find("flow/k").compensate())
    assert sagadsl.outcome(stuck.value).failed_at_step == "odd"

    paused = caught(colour, flow.using(on_failure="pause", key="other"))
    assert isinstance(paused, SuspendedError)
    match sagadsl.outcome(paused):
        case Suspended("paused", "ValueError: no", run=run) as outcome:
            assert (run.id, outcome.exit_code) == ("flow/other", 6)
        case other:
            pytest.fail(f"{other}")
    assert world == ["a", "odd", "a", "odd"]


def test_of_one_exception_that_left_several_runs_the_last_counts(colour, runtime, act, world):
    """An error object that a module keeps is raised again and again."""
    error = ValueError("always this one")

    @colour.saga(runtime=runtime)
    def flow(name: str):
        yield act(name)
        raise error

    assert caught(colour, flow, "a") is caught(colour, flow, "b") is error
    assert sagadsl.outcome(error).run.arguments == {"name": "b"}


def test_inside_a_parent_a_childs_exception_leads_to_the_childs_outcome(colour, make_runtime, act, world):
    """Live and on replay; what then leaves the parent tells of the parent."""
    seen, dies, error = [], [True], ValueError("no")

    @colour.saga(name="pack")
    def pack():
        yield act("p")
        yield act("q", error)

    @colour.step
    def cut() -> None:
        if dies.pop() if dies else False:
            raise Cut

    @colour.saga
    def flow():
        yield act("a")
        try:
            yield pack()
        except ValueError as caught_here:
            outcome = sagadsl.outcome(caught_here)
            seen.append((outcome.compensated_steps, outcome.error is caught_here, outcome.exit_code))
            yield cut()
            raise

    assert isinstance(caught(colour, flow.using(runtime=make_runtime())), Cut)
    left = caught(colour, flow.using(runtime=make_runtime()))
    assert seen == [(("pack/act",), True, 3)] * 2
    assert sagadsl.outcome(left).compensated_steps == ("pack/act", "act")
    assert world == ["a", "p", "q", "-p", "-a"]


def test_nothing_is_kept_alive_and_nothing_is_changed(colour, runtime, act):
    """The outcome lives as long as its exception, which stays what it was but for a note of text."""

    @colour.saga(runtime=runtime)
    def flow(error_is: str):
        yield act("a")
        raise FrozenError(7)

    error = caught(colour, flow, "gone")
    (note,) = error.__notes__
    assert note.startswith("saga flow/")
    assert "compensated act. Look: sagadsl show flow/" in note
    assert vars(error).keys() == {"code", "__notes__"}
    for copied in (pickle.loads(pickle.dumps(note)), copy.deepcopy([note])[0], copy.copy(note)):  # noqa: S301
        assert (type(copied), copied) == (str, note)
    outcome = sagadsl.outcome(error)
    run = weakref.ref(note._run)
    assert outcome.error is error
    del error, note, outcome, copied
    gc.collect()
    assert run() is None


def test_an_exception_that_left_one_saga_is_stored_as_text_in_another(colour, make_runtime, act, world):
    """Its note comes back as a note, and what the note knew does not."""
    dies, seen = [True], []

    @colour.saga
    def inner():
        yield act("a")
        raise ValueError("no")

    error = caught(colour, inner.using(runtime=make_runtime()))

    @colour.step
    def raises() -> None:
        raise error

    @colour.step
    def cut() -> None:
        if dies.pop() if dies else False:
            raise Cut

    @colour.saga
    def outer():
        try:
            yield raises()
        except ValueError as same:
            seen.append(same.__notes__)
            yield cut()

    assert isinstance(caught(colour, outer.using(runtime=make_runtime())), Cut)
    colour.call(outer.using(runtime=make_runtime()))
    assert seen == [[str(error.__notes__[0])]] * 2


def test_notes_of_a_group_of_the_bodys_own_come_out_with_it(colour, runtime, act):
    """The genuine members take the places of their copies; the group is otherwise the one that was raised."""

    @colour.saga(runtime=runtime)
    def flow():
        try:
            yield act("a", OSError("down"))
        except OSError as error:
            group = ExceptionGroup("several", [error, ValueError("no")])
            group.add_note("of the body")
            raise group from None

    group = caught(colour, flow)
    assert group.__notes__[0] == "of the body"
    assert len(group.__notes__) == 2
    parts = []
    try:
        colour.call(flow)
    except* OSError as part:
        parts.append(part)
    except* ValueError as part:
        parts.append(part)
    assert [sagadsl.outcome(part).error is part for part in parts] == [True, True]


def test_an_outcome_travels_to_another_process_and_its_run_with_it(colour, make_runtime, act, tmp_path, world):
    """By what is known of the run and the name of the store: there it can be asked for more, and decided about."""
    runtime = make_runtime()

    @colour.saga(runtime=runtime, key="{how}", on_failure="pause")
    def flow(how: str):
        yield act("a", OSError("down") if how == "fails" else None)

    for how, kind in (("done", sagadsl.Completed), ("fails", Suspended)):
        told = colour.call(flow.outcome, how)
        sent = pickle.loads(pickle.dumps([told, runtime.runs()[0]]))  # noqa: S301
        assert type(sent[0]) is kind
        assert [sent[0].run, sent[1]] == [told.run, told.run]
        assert (sent[1].steps_total, sent[1].refresh()) == (1, told.run)
        assert copy.copy(told.run) is copy.deepcopy([told.run])[0] is told.run
    assert colour.run(sent[0].run.compensate()).status == "compensated"
    assert runtime.find("flow/fails").status == "compensated"
    with pytest.raises(RunConflictError, match="is not in :memory: any more"):
        pickle.loads(pickle.dumps(colour.call(flow.using(store=":memory:").outcome, "done"))).run.refresh()  # noqa: S301


def test_what_a_body_adds_to_an_exception_leaves_with_it(colour, make_runtime, act):
    """Notes, attributes, arguments and a cause: on the genuine one, and on record, from a child and in a group too."""
    genuine, why = [], KeyError("why")

    @colour.step(compensate=None)
    def charge() -> None:
        error = RefusedError(111, "busy")
        error.add_note("of the step")
        error.order = "none"
        genuine.append(error)
        raise error

    @colour.saga
    def child():
        try:
            yield charge()
        except RefusedError as error:
            error.add_note("while charging 7")
            error.order, error.by, error.filename = 7, "bank", "card"
            raise error from why

    @colour.saga(runtime=make_runtime(), key="{how}")
    def flow(how: str):
        try:
            yield child()
        except RefusedError as error:
            error.add_note("of the parent")
            error.args = (*error.args, 7)
            if how == "grouped":
                raise ExceptionGroup("several", [error]) from None
            raise

    def told(error):
        return error.order, error.by, error.filename, error.args, error.__notes__[:3]

    carried = (7, "bank", "card", (111, "busy", 7), ["of the step", "while charging 7", "of the parent"])
    error = caught(colour, flow, "alone")
    assert error is genuine[0]
    assert error.__cause__ is why
    assert told(error) == carried
    on_record = make_runtime().find("flow/alone").error
    assert (on_record.args, on_record.attributes["__notes__"]) == carried[3:]
    (member,) = caught(colour, flow, "grouped").exceptions
    assert member is genuine[1]
    assert told(member) == carried


def test_an_exception_that_no_saga_raised_is_a_usage_error(colour, runtime, act):
    """Nor is there an outcome of what is not about the business."""

    @colour.saga(runtime=runtime, key="k")
    def flow(name: str):
        yield act(name)
        if name == "usage":
            raise UsageError("of the body: mend it")
        if name == "cut":
            raise Cut

    cut = caught(colour, flow, "cut")
    conflict = caught(colour, flow, "other")
    assert isinstance(conflict, RunConflictError)
    usage = caught(colour, flow.using(key="u"), "usage")
    assert isinstance(usage, UsageError)
    assert "compensated act" in usage.__notes__[0]
    plain = ValueError("plain")
    plain.add_note("a note of somebody else's")
    for error in (cut, conflict, usage, plain, SuspendedError("x", "paused", "made by hand")):
        with pytest.raises(UsageError, match=f"no saga ended with {type(error).__name__}: "):
            sagadsl.outcome(error)


def test_a_note_reaches_an_exception_that_is_frozen(colour, runtime, world):
    """What is to be added to a failure never takes its place."""

    @colour.step(compensate=lambda: world.add("-a"), retries=sagadsl.Retry(1, on=lambda _: 1 / 0))
    def act() -> None:
        world.add("a")
        raise FrozenError(1)

    @colour.saga(runtime=runtime)
    def flow():
        yield act()

    error = caught(colour, flow)
    assert isinstance(error, FrozenError)
    assert error.__notes__[0] == "its Retry could not be asked: ZeroDivisionError: division by zero"
    assert sagadsl.outcome(error).exit_code == 3
    assert runtime.runs()[0].steps[0].status == "failed"


# -- exit codes -------------------------------------------------------------------------------------------------------


@pytest.fixture
def script(runtime):
    """Give `sagadsl.main` without an end of the process, and restore what it does to signals."""
    before = signal.getsignal(signal.SIGTERM)

    def run(saga, *args):
        with pytest.raises(SystemExit) as left:
            sagadsl.main(saga, *args)
        return left.value.code

    yield run
    signal.signal(signal.SIGTERM, before)


ENDS = {
    "StepError": (sagadsl.StepError("act", sagadsl.Fault("shop:Declined", "no")), 3),
    "StepTimeout": (sagadsl.StepTimeout("act", 1.0), 3),
    "an exception": (ValueError("no"), 3),
    "UsageError": (UsageError("mend it"), 2),
    "NotStorableError": (sagadsl.NotStorableError("act", "argument", "object", "$", "no form"), 3),
}


@pytest.mark.parametrize("name", sorted(ENDS))
def test_a_script_whose_saga_fails_ends_with_the_code_of_its_outcome(colour, runtime, act, script, name, world):
    """What a body raises is its failure, whatever its class; a mistake in using the library is told as one."""
    error, code = ENDS[name]

    @colour.saga(runtime=runtime)
    def flow():
        yield act("a")
        raise error

    assert script(flow) == code
    assert world == ["a", "-a"]
    assert runtime.runs()[0].status == "compensated"


def test_a_failure_that_cannot_say_itself_is_told_all_the_same(colour, runtime, act, script, world, capsys):
    """By what is known of it: its class, and what became of the run."""

    class Speechless(Exception):
        def __str__(self):
            world.add("asked")
            raise self

    @colour.saga(runtime=runtime, key="k")
    def flow():
        yield act("a")
        raise Speechless

    assert script(flow) == 3
    assert "asked" in world.effects
    assert [effect for effect in world.effects if effect != "asked"] == ["a", "-a"]
    assert "flow/k failed with Speechless: <its __str__ failed>; compensated act" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no saga ended with Speechless: <its __str__ failed>"):
        sagadsl.outcome(Speechless())


def test_how_a_saga_ended_is_said_alike_by_its_note_and_by_its_script(
    colour, runtime, act, script, capsys, monkeypatch
):
    """What was compensated, and what stands; and what to do where a person has to decide."""
    monkeypatch.setenv("SAGADSL_DB", runtime.journal().name)  # so nothing to type has to name it

    broken = [True]

    def undo() -> None:
        if broken:
            raise OSError("down")

    @colour.step(compensate=Compensation(undo, retries=0))
    def stuck() -> None:
        pass

    @colour.step(compensate=sagadsl.IRREVERSIBLE)
    def mail() -> None:
        pass

    @colour.saga(key="k", on_failure="compensate")
    def flow():
        yield act("a")
        yield mail()
        yield stuck()
        yield act("b")
        raise ValueError("no")

    flow = flow.using(runtime=runtime)
    assert script(flow) == 6
    failure = "flow/k failed with ValueError: no; the compensation of stuck failed with OSError: down"
    cure = "Mend the cause, then: sagadsl compensate flow/k"
    assert capsys.readouterr().err == f"{failure}; compensated act#2; not yet tried: act. {cure}\n"
    broken.clear()
    error = caught(colour, flow.using(key="n"))
    became = "compensated act#2, stuck, act; still standing: mail"
    assert error.__notes__[-1] == f"saga flow/n: {became}. Look: sagadsl show flow/n"
    assert script(flow.using(key="m")) == 3
    assert capsys.readouterr().err == f"flow/m failed with ValueError: no; {became}\n"
    assert script(flow.using(id="p", on_failure="pause")) == 6
    on, back = "sagadsl resume p", "sagadsl compensate p"
    assert capsys.readouterr().err == f"p is paused: ValueError: no. Go on: {on}   Compensate: {back}\n"


def test_a_script_that_could_not_run_its_saga_ends_with_the_code_of_the_error(colour, make_runtime, act, script, world):
    """Every other error of the contract, by its real cause."""
    runtime, changed = make_runtime(), [False]

    @colour.step(compensate=Compensation(lambda: 1 / 0, retries=0))
    def odd() -> None:
        world.add("odd")

    @colour.saga(key="{how}", name="flow")
    def flow(how: str, thing: object = None):
        yield act("b" if changed[0] else "a")
        if how == "stuck":
            yield odd()
        if how == "cut":
            raise Cut
        if how == "lost":
            row = runtime.journal().runs(id="flow/lost")[-1]
            entries = runtime.journal().entries(row.number)
            other = make_runtime().journal()
            taken = attrs.evolve(entries[-1], kind=sagadsl.Kind.TAKEN, step="", ref=None, attempt=None, result=None)
            other.append(Log(row.number, entries[-1].seq), taken, full=True)
            yield act("never")
        if how in {"stuck", "pause"}:
            raise ValueError(how)

    flow = flow.using(runtime=runtime)
    assert script(flow, "well") == 0
    assert script(flow, "well", 1) == RunConflictError.exit_code == 2
    assert script(flow, "unstorable", object()) == sagadsl.NotStorableError.exit_code == 2
    assert script(flow, "stuck") == CompensationError.exit_code == 6
    assert script(flow, "stuck") == 6
    assert script(flow.using(on_failure="pause"), "pause") == SuspendedError.exit_code == 6
    assert script(flow, "lost") == RunLostError.exit_code == 4
    assert script(flow.using(store=world.path / "s.db"), "x") == sagadsl.JournalError.exit_code == 5
    assert isinstance(caught(colour, flow, "cut"), Cut)
    owner, lock = make_runtime().journal(), runtime.journal().runs(id="flow/cut")[0].lock
    assert owner.hold(lock)
    assert script(flow, "cut") == RunLockedError.exit_code == 4
    owner.release(lock)
    changed[0] = True
    assert script(flow, "cut") == ReplayError.exit_code == 7
    assert "never" not in world.effects


def test_an_interrupted_script_ends_with_the_code_of_the_signal(colour, runtime, act, script):
    """Ctrl-C is 130; SIGTERM becomes a `SystemExit` of 143 in the body; another exit keeps its own code."""

    @colour.saga(runtime=runtime, live=("error",))
    def exits(error):
        yield act("a")
        raise error

    assert script(exits, KeyboardInterrupt()) == 130
    assert script(exits, SystemExit(9)) == 9
    assert script(exits, SystemExit(143)) == 143
    assert {str(run.status) for run in runtime.runs()} == {"open"}


def test_the_outcome_of_a_resumed_call_is_found_too(colour, make_runtime, act, world):
    """`resume` raises what the call would have raised."""
    dies = [True]

    @colour.saga(key="k", name="flow")
    def flow():
        yield act("a")
        if dies.pop() if dies else False:
            raise Cut
        raise ValueError("no")

    assert isinstance(caught(colour, flow.using(runtime=make_runtime())), Cut)
    with pytest.raises(ValueError, match="no") as error:
        colour.run(flow.using(runtime=make_runtime()).resume("flow/k"))
    assert sagadsl.outcome(error.value).compensated_steps == ("act",)


def test_an_outcome_is_found_in_another_task_than_the_one_that_failed(make_runtime, world):
    """Nothing of it hangs on where the program is."""

    @sagadsl.step(compensate=lambda: world.add("-a"))
    async def act() -> None:
        world.add("a")

    @sagadsl.saga
    async def flow() -> None:
        await act()
        raise ValueError("no")

    async def several() -> list[BaseException]:
        calls = [flow.using(runtime=make_runtime(), key=key)() for key in "ab"]
        return await asyncio.gather(*calls, return_exceptions=True)

    errors = asyncio.run(several())
    assert [sagadsl.outcome(error).run.id.rpartition("/")[2] for error in errors] == ["a", "b"]


def lines_of(error):
    """Return the functions of a traceback that are not the library's, the outermost first."""
    frames = traceback.extract_tb(error.__traceback__)
    return [frame.name for frame in frames if not frame.filename.startswith(str(Path(sagadsl.__file__).parent))]


def test_what_stops_a_run_ends_in_the_users_own_lines(colour, runtime, world):
    """Where the body failed, where the compensation did; and what caused it has no line of the library at all."""

    def fails_too():
        raise OSError("down")

    @colour.step(compensate=Compensation(fails_too, retries=0))
    def act() -> None:
        world.add("a")

    @colour.step
    def fails() -> None:
        raise ValueError("no")

    @colour.saga(runtime=runtime, on_failure="pause")
    def pauses():
        yield act()
        yield fails()

    @colour.saga(runtime=runtime)
    def sticks():
        yield act()
        yield fails()

    suspended, stuck = caught(colour, pauses), caught(colour, sticks)
    assert lines_of(suspended)[-1] in {"body", "abody"}  # which drives the generator above
    assert lines_of(stuck)[-1] == "fails_too"
    for error in (suspended, stuck):
        assert lines_of(error.__cause__)[-1] == "fails"
        assert "sagadsl/_core" not in "".join(traceback.format_tb(error.__cause__.__traceback__))
    assert lines_of(caught(colour, sticks.using(id=stuck.run)))[-1] != "fails_too"  # told from the record
