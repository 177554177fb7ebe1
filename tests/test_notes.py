"""What a step notes beside its result, and whether a recorded result still stands."""

from __future__ import annotations

import contextlib

import pytest

import sagadsl
from sagadsl import ReplayError, UsageError
from sagadsl._core.codec import Codec


class Cut(BaseException):
    """A process that dies, as far as a body can tell."""


def notes(runtime):
    """Return what was noted in the newest run, step by step."""
    return [(step.key, step.result, step.note) for step in runtime.runs()[0].steps]


def test_what_a_step_notes_is_recorded_beside_its_result_and_given_to_nobody(colour, runtime):
    """Callers and compensations get the value alone; who looks gets both."""
    undone = []

    @colour.step(compensate=undone.append)
    def ask(topic: str) -> tuple[str, int]:
        sagadsl.current().note({"topic": topic, "tokens": (3, 4)})
        return (topic.upper(), 1)

    @colour.saga(runtime=runtime)
    def research():
        assert (yield ask("cats")) == ("CATS", 1)
        raise ValueError("dull")

    with pytest.raises(ValueError, match="dull"):
        colour.call(research)
    assert undone == [("CATS", 1)]
    assert notes(runtime) == [("ask", ("CATS", 1), {"topic": "cats", "tokens": (3, 4)})]


def test_the_last_note_of_the_attempt_that_is_done_counts(colour, runtime):
    """What a failed attempt noted is not that of the next one."""

    @colour.step(retries=1, compensate=None)
    def ask() -> int:
        if sagadsl.current().attempt == 1:
            sagadsl.current().note("failed")
            raise OSError
        return 7

    @colour.saga(runtime=runtime)
    def research():
        return (yield ask())

    assert colour.call(research) == 7
    assert notes(runtime) == [("ask", 7, None)]


def test_a_note_that_cannot_be_stored_is_told_like_a_result(colour, runtime):
    """The effect has happened, and is compensated with the live result."""
    undone = []

    @colour.step(compensate=undone.append)
    def ask() -> int:
        sagadsl.current().note({"client": object()})
        return 7

    @colour.saga(runtime=runtime)
    def research():
        yield ask()

    with pytest.raises(sagadsl.NotStorableError, match=r"\$.note.client"):
        colour.call(research)
    assert undone == [7]


def test_a_note_that_this_program_cannot_read_is_shown_as_it_is_stored(make_runtime):
    """Reading for people never fails on a value."""

    class Topic(sagadsl.SagaError):
        name: str

    codec = Codec()
    codec.register(Topic, lambda topic: topic.name, Topic)

    @sagadsl.step(compensate=None)
    def ask() -> Topic:
        sagadsl.current().note(Topic("cats"))
        return Topic("dogs")

    @sagadsl.saga(runtime=make_runtime(codec=codec))
    def research():
        return ask()

    research()
    ((_, result, note),) = notes(make_runtime(codec=Codec()))
    assert (result["$value"], note["$value"]) == ("dogs", "cats")


def test_only_the_body_of_a_step_notes(colour, runtime):
    """Outside a saga nothing happens; a body and a compensation have no result."""

    def undo() -> None:
        sagadsl.current().note("undone")

    @colour.step(compensate=sagadsl.Compensation(undo, retries=0))
    def ask() -> int:
        sagadsl.current().note("asked")
        return 7

    @colour.saga(runtime=runtime)
    def body_notes():
        sagadsl.current().note("body")
        yield ask()

    @colour.saga(runtime=runtime)
    def compensation_notes():
        yield ask()
        raise ValueError

    assert colour.call(ask) == 7
    with pytest.raises(UsageError, match="for the body of a step"):
        colour.call(body_notes)
    with pytest.raises(sagadsl.CompensationError, match="for the body of a step"):
        colour.call(compensation_notes)


# -- stands -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def story(colour, make_runtime, world):
    """Play a saga whose first process dies, with another *model* each time; return how it ended."""

    def play(model, *, cut=False, key=None, breaks=False):
        runtime = make_runtime()

        def stands(note, topic):
            if breaks:
                raise ReplayError("research", "", ("ask",), ("ask",), "another model")
            world.add(f"?{note}:{topic}")
            return note == model

        @colour.step(name="ask", stands=stands, key=key, compensate=lambda result: world.add(f"-{result}"))
        def ask(topic: str) -> str:
            world.add(f"{model}:{topic}")
            sagadsl.current().note(model)
            return f"{model}({topic})"

        @colour.step(name="write", compensate=None)
        def write() -> None:
            world.add("write")

        @colour.saga(name="research", runtime=runtime)
        def research():
            plan = yield ask("plan")
            yield write()
            report = yield ask(plan if key else "report")
            if cut:
                raise Cut
            if model == "fails":
                raise ValueError(model)
            return report

        with contextlib.suppress(Cut):
            return colour.call(research)
        return None

    return play


def test_a_result_that_stands_comes_back(story, world):
    """It is asked once for each record, and nothing is entered."""
    story("a", cut=True)
    assert story("a") == "a(report)"
    assert world == ["a:plan", "write", "a:report", "?a:plan", "?a:report"]


def test_a_result_that_does_not_stand_is_made_anew_as_a_further_call(story, world):
    """The old one stays on record; what replaces it stands after another restart, and is asked instead of it."""
    story("a", cut=True)
    story("b", cut=True)
    assert story("b") == "b(report)"
    later = ["?b:plan", "?b:report"]
    assert world == ["a:plan", "write", "a:report", "?a:plan", "b:plan", "?a:report", "b:report", *later]


def test_what_was_replaced_is_compensated_too(story, world):
    """Each call that was made is owed, in the reverse order of the intents."""
    story("a", cut=True)
    with pytest.raises(ValueError, match="fails"):
        story("fails")
    assert world.effects[-4:] == ["-fails(report)", "-fails(plan)", "-a(report)", "-a(plan)"]


def test_what_was_replaced_is_not_asked_again(colour, make_runtime, world):
    """By now it might say yes, of what its replacement has made. An equal call further on is not taken for that."""
    files, made, is_cut = set(), iter(range(1, 9)), [True, True]

    def exists(note, path):
        world.add(f"?{path}{note}")
        return path in files

    @colour.step(name="export", stands=exists, compensate=None)
    def export(path: str) -> int:
        number = next(made)
        files.add(path)
        world.add(f"{path}{number}")
        sagadsl.current().note(number)
        return number

    @colour.step(name="upload", compensate=None)
    def upload(number: int) -> None:
        world.add(f"upload{number}")
        if is_cut:
            raise Cut

    def nightly():
        first = yield export("x")
        second = yield export("x")
        yield upload(second)
        return [first, second]

    def play():
        return colour.call(colour.saga(name="nightly", runtime=make_runtime())(nightly))

    with pytest.raises(Cut):
        play()
    files.clear()
    with pytest.raises(Cut):
        play()
    is_cut.clear()
    assert play() == [3, 2]
    second = ["?x1", "x3", "?x2", "upload2"]
    assert world == ["x1", "x2", "upload2", *second, "?x3", "?x2", "upload2"]
    (run,) = make_runtime().runs()
    assert {step.key: step.result for step in run.steps} == {"export": 1, "export#2": 2, "upload": None, "export#3": 3}


def test_a_replacement_that_was_cut_off_is_entered_again(colour, make_runtime, world):
    """The old one is not: it is on record."""
    dies = [True]

    def play(model):
        @colour.step(name="ask", stands=lambda note: note == model, compensate=None)
        def ask() -> str:
            world.add(f"{model}{sagadsl.current().attempt}")
            sagadsl.current().note(model)
            if model == "b" and dies:
                raise Cut
            return model

        @colour.saga(name="research", runtime=make_runtime())
        def research():
            answer = yield ask()
            if model == "a":
                raise Cut
            return answer

        return colour.call(research)

    for model in "ab":
        with pytest.raises(Cut):
            play(model)
    dies.clear()
    assert play("b") == "b"
    assert world == ["a1", "b1", "b2"]


@pytest.mark.parametrize("breaks", [False, True])
def test_what_was_replaced_is_compensated_by_another_process(breaks, colour, make_runtime, world):
    """Functions that only the body leads to are found for both, whatever the step would say of them by then."""

    def define(model):
        def stands(note):
            if breaks and model == "c":
                raise ReplayError("research", "", ("ask",), ("ask",), "another model")
            return note == model

        def undo(result):
            world.add(f"-{result}")

        @colour.step(name="ask", stands=stands, compensate=undo)
        def ask() -> str:
            sagadsl.current().note(model)
            return model

        @colour.step(name="publish", compensate=undo)
        def publish() -> str:
            return "paper"

        @colour.saga(name="research", runtime=make_runtime())
        def research():
            yield ask()
            if model != "a":
                yield publish()
            raise Cut

        return research

    for model in "ab":
        with pytest.raises(Cut):
            colour.call(define(model))
    run = make_runtime().runs()[0]
    colour.run(define("c").compensate(run.id))
    assert world == ["-paper", "-b", "-a"]


def test_with_a_key_what_follows_from_a_new_result_is_made_anew_too(story, world):
    """Without one its other arguments would be refused."""
    turn = iter("12121212")
    story("a", cut=True, key=lambda: next(turn))
    story("b", cut=True, key=lambda: next(turn))
    assert story("b", key=lambda: next(turn)) == "b(b(plan))"
    assert [effect for effect in world.effects if effect[0] == "b"] == ["b:plan", "b:b(plan)"]


def test_where_nobody_knows_whether_it_stands_nothing_is_entered(story, world):
    """What is raised leaves the saga, and the run stays as it was."""
    story("a", cut=True)
    with pytest.raises(ReplayError, match="another model"):
        story("a", breaks=True)
    assert story("a") == "a(report)"


def test_a_step_may_have_a_parameter_that_is_called_note(colour, make_runtime, world):
    """Whoever is asked takes what was noted by its position."""
    cut = [True]

    def stands(noted, /, note):
        world.add(f"?{noted}:{note}")
        return True

    @colour.step(stands=stands, compensate=None)
    def ask(note: str) -> str:
        world.add(note)
        sagadsl.current().note("beside")
        return note.upper()

    @colour.saga(key="k")
    def flow():
        answer = yield ask("a")
        if cut:
            cut.pop()
            raise Cut
        return answer

    with pytest.raises(Cut):
        colour.call(flow.using(runtime=make_runtime()))
    assert colour.call(flow.using(runtime=make_runtime())) == "A"
    assert world == ["a", "?beside:a"]
    assert make_runtime().runs()[0].status == "completed"


def test_by_hand_the_record_always_stands(make_runtime, world):
    """There a call is found by its arguments, and ``again=True`` is how to do it once more."""

    def ask() -> int:
        return 7

    run = sagadsl.saga("explore", key="k", runtime=make_runtime())
    by_hand = run.step(ask, compensate=None, stands=lambda note: world.add("asked"))
    assert [by_hand(), by_hand()] == [7, 7]
    run.complete()
    assert world == []
