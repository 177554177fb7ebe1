"""Steps whose result a model gives: paid once, validated, recorded with where it comes from, archived."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import sys
import threading
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import attrs
import pydantic
import pydantic.dataclasses
import pytest

import sagadsl
from sagadsl import ReplayError, Retry, UsageError, llm
from sagadsl.llm import LLM, Reply, Timeouts


@attrs.frozen
class Task:
    name: str
    days: int = attrs.field(validator=attrs.validators.ge(1))


@attrs.frozen
class Plan:
    title: str
    tasks: list[Task] = attrs.field(factory=list)


@dataclass
class Point:
    x: int


class Card(TypedDict):
    name: str
    age: NotRequired[int]


class Sheet(pydantic.BaseModel):
    rows: int


@pydantic.dataclasses.dataclass
class Shelf:
    sheets: Annotated[int, pydantic.Field(gt=0)]


@dataclass
class Even:
    number: int

    def __post_init__(self) -> None:
        assert self.number % 2 == 0, "that is odd"


class Cut(BaseException):
    """A process that dies, as far as a body can tell."""


class Scripted:
    """A model that says what it was told to, in order: text, a `Reply`, or an exception; *asked* are its requests."""

    def __init__(self, *script: Any, name: str = "parrot") -> None:
        self.name, self.server, self.script, self.asked = name, "nowhere", list(script), []
        self.digest, self.given = "d1", []

    def inspect(self, timeouts) -> str:
        self.given.append(timeouts)
        return self.digest

    def ask(self, request, heard):
        self.given.append(request.timeouts)
        self.asked.append(request)
        said = self.script.pop(0)
        if isinstance(said, BaseException):
            heard("half an ")
            raise said
        reply = said if isinstance(said, Reply) else Reply(text=said, prompt_tokens=10, tokens=len(said))
        for piece in reply.text.split(" "):
            heard(f"{piece} ")
        return reply

    def embed(self, texts, timeouts):
        self.given.append(timeouts)
        self.asked.append(tuple(texts))
        return [[len(text), 0.5] for text in texts], len(texts)


class Awaited(Scripted):
    """The same, for those who await."""

    async def ainspect(self, timeouts):
        return self.inspect(timeouts)

    async def aask(self, request, heard):
        await asyncio.sleep(0)
        return self.ask(request, heard)

    async def aembed(self, texts, timeouts):
        return self.embed(texts, timeouts)


@pytest.fixture
def make_step(colour):
    """Give a maker of a step `ask(topic)`, in either colour, of a model."""

    def make(model, *, settings=None, prompt="Plan {}.", **options):
        def ask(topic: str) -> str:
            return prompt.format(topic)

        return LLM(model, **settings or {}).step(**{"name": "ask"} | options)(colour.coloured(ask))

    return make


@pytest.fixture
def ask_in(colour, runtime):
    """Call a step inside a saga; return the run."""

    def play(step, *topics, fails=False):
        @colour.saga(runtime=runtime, name="research")
        def research():
            for topic in topics or ("cats",):
                last = yield step(topic)
            if fails:
                raise ValueError("dull")
            return last

        outcome = colour.run(research.outcome())
        return outcome, runtime.runs()[0]

    return play


PLAN = '{"title": "Cats", "tasks": [{"name": "read", "days": 2}]}'


def test_a_step_returns_the_answer_and_a_finished_run_has_where_it_comes_from(make_step, ask_in):
    """Model, digest, messages, options, seed, what was said and what it cost are on record beside the value."""
    model = Scripted(PLAN)
    step = make_step(model, returns=Plan, settings={"system": "Be brief.", "options": {"temperature": 0}})
    outcome, run = ask_in(step)
    plan = Plan("Cats", [Task("read", 2)])
    assert outcome.value == plan
    (answer,) = llm.answers(run)
    seed = model.asked[0].options["seed"]
    messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Plan cats."})
    assert model.asked[0].messages == answer.messages == messages
    assert answer == llm.Answer(
        run=run.id,
        step="ask",
        state="given",
        model="parrot",
        digest="d1",
        messages=messages,
        options={"temperature": 0, "seed": seed},
        value=plan,
        text=PLAN,
        text_digest=answer.text_digest,
        tries=({"seed": seed, "prompt_tokens": 10, "tokens": len(PLAN)},),
        at=answer.at,
    )
    assert answer.tokens == 10 + len(PLAN)
    assert answer.at == run.steps[0].ended


@pytest.mark.parametrize(
    ("returns", "text", "value"),
    [
        (Plan, PLAN, Plan("Cats", [Task("read", 2)])),
        (Point, '{"x": 3}', Point(3)),
        (Card, '{"name": "Ada", "age": 3}', {"name": "Ada", "age": 3}),
        (Sheet, '{"rows": 3}', Sheet(rows=3)),
        (Shelf, '{"sheets": 3}', Shelf(3)),
        (list[Point], '[{"x": 1}]', [Point(1)]),
        (list[Sheet], '[{"rows": 3}]', [Sheet(rows=3)]),
        (Literal["yes", "no"], '"yes"', "yes"),
        (str, "as it is", "as it is"),
        (None, "as it is", "as it is"),
    ],
    ids=[
        "attrs",
        "dataclass",
        "typed dict",
        "pydantic",
        "its dataclass",
        "list",
        "list of pydantic",
        "literal",
        "str",
        "text",
    ],
)
def test_an_answer_is_an_instance_of_what_is_asked_for(returns, text, value, make_step, ask_in):
    """The schema goes with the request, and what comes back is checked here; it is stored like any result."""
    model = Scripted(text)
    outcome, run = ask_in(make_step(model, returns=returns))
    assert (outcome.value, type(outcome.value), run.steps[0].result) == (value, type(value), value)
    assert (model.asked[0].schema is None) == (returns in {None, str})


def test_outside_a_saga_a_step_asks_and_its_prompt_can_be_looked_at(make_step, colour):
    """It is the plain function; signature, docstring and types are kept."""
    model = Scripted("one", "two")
    step = make_step(model)
    assert [colour.call(step, "cats"), colour.run(step.plain("dogs"))] == ["one", "two"]
    assert colour.run(step.prompt("cats")) == "Plan cats."
    assert str(__import__("inspect").signature(step)).startswith("(topic: 'str')")
    assert isinstance(step, llm.LLMStep)


def test_messages_are_sent_as_they_are(make_step, ask_in, colour):
    """A body may return a whole conversation; what is none is refused before anything is asked."""
    model = Scripted("fine", "fine")
    conversation = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    talker = LLM(model)

    def talk(topic: str):
        return conversation

    def nothing(topic: str):
        return [topic]

    assert ask_in(talker.step(colour.coloured(talk)))[0].value == "fine"
    assert [list(request.messages) for request in model.asked] == [conversation]
    with pytest.raises(UsageError, match="a text, or messages with role and content"):
        ask_in(talker.step(colour.coloured(nothing)))
    assert len(model.asked) == 1


# -- the two budgets --------------------------------------------------------------------------------------------------


def test_an_answer_of_another_shape_goes_back_with_the_complaint(make_step, ask_in):
    """Under another seed, with what was said; each try is on record with what it cost and why it was refused."""
    wrong = '{"title": "Cats", "tasks": [{"name": "read", "days": 0}]}'
    model = Scripted("not JSON", wrong, PLAN)
    outcome, run = ask_in(make_step(model, returns=Plan, repair=2))
    assert outcome.value == Plan("Cats", [Task("read", 2)])
    first, second, third = model.asked
    assert [request.options["seed"] - first.options["seed"] for request in model.asked] == [0, 1, 2]
    assert second.messages[:2] == (*first.messages, {"role": "assistant", "content": "not JSON"})
    assert third.messages[1]["content"] == wrong
    assert "'days' must be >= 1: 0 - at `$.tasks[0]`" in third.messages[2]["content"]
    (answer,) = llm.answers(run)
    assert [each.get("text") for each in answer.tries] == ["not JSON", wrong, None]
    assert "days" in answer.tries[1]["complaint"]
    assert answer.tokens == 30 + 8 + len(wrong) + len(PLAN)
    assert run.steps[0].attempts == 1


@pytest.mark.parametrize(
    ("returns", "wrong", "why", "right"),
    [
        (Shelf, '{"sheets": 0}', "greater than 0", '{"sheets": 1}'),
        (list[Sheet], '[{"rows": "many"}]', "valid integer", '[{"rows": 1}]'),
        (Even, '{"number": 3}', "that is odd", '{"number": 4}'),
        (list[Any], "[" * 100_000, "recursion", "[]"),
    ],
    ids=["pydantic's dataclass", "list of pydantic", "assertion", "depth"],
)
def test_the_checks_of_a_class_are_made_however_they_refuse(returns, wrong, why, right, make_step, ask_in):
    """It is a complaint for the model, and no failure of the step."""
    model = Scripted(wrong, right)
    outcome, run = ask_in(make_step(model, returns=returns))
    assert outcome.value == run.steps[0].result
    assert why in llm.answers(run)[0].tries[0]["complaint"]
    assert run.steps[0].attempts == 1


def test_when_the_repairs_are_used_up_the_step_fails_with_all_that_was_said(make_step, ask_in):
    """Its own retries are not for that."""
    model = Scripted("no", "nope", "never")
    outcome, run = ask_in(make_step(model, returns=Plan, repair=1, retries=5))
    assert isinstance(outcome.error, llm.InvalidAnswerError)
    assert "after 1 repairs" in str(outcome.error)
    assert len(model.asked) == 2
    (answer,) = llm.archived([run])
    assert (answer.state, [each["text"] for each in answer.tries]) == ("failed", ["no", "nope"])
    assert answer.model == "parrot"
    assert answer.reason.startswith("InvalidAnswerError: parrot: the answer is not what returns= asks for")


def test_what_fails_on_the_way_is_tried_again_by_the_steps_retries(make_step, ask_in, clock):
    """Repairs have their own budget; what had come of a cut answer is on record."""
    broken = llm.TransportError("parrot", "the line was cut")
    model = Scripted(broken, broken, PLAN)
    outcome, run = ask_in(make_step(model, returns=Plan, repair=0))
    assert outcome.value.title == "Cats"
    assert run.steps[0].attempts == 3
    assert clock.slept == [0.1, 0.2]
    (answer,) = llm.answers(run)
    assert [each.get("complaint") for each in answer.tries] == ["the line was cut"] * 2 + [None]
    assert answer.tries[0]["text"] == "half an "


def test_retries_are_the_users_own_and_spare_what_is_final(make_step, ask_in):
    """A `Retry` keeps its rules; a refusal is never tried again."""
    refused = llm.RefusedError("parrot", "no such model: ollama pull parrot")
    model = Scripted(refused)
    outcome, run = ask_in(make_step(model, retries=4))
    assert (type(outcome.error), run.steps[0].attempts) == (llm.RefusedError, 1)
    for rules in ({"on": OSError}, {"give_up_on": llm.TransportError}, {"give_up_on": lambda e: True}):
        model = Scripted(llm.TransportError("parrot", "cut"))
        _, run = ask_in(make_step(model, retries=Retry(4, **rules)))
        assert run.steps[0].attempts == 1


def test_an_answer_cut_at_its_limit_is_asked_for_once_more_with_twice_as_much(make_step, ask_in):
    """With the same seed; a second time it is a failure of its own, and never a repair."""
    cut = Reply(text='{"title": "Ca', is_cut=True, tokens=7)
    model = Scripted(cut, PLAN)
    outcome, _ = ask_in(make_step(model, returns=Plan, options={"num_predict": 7}))
    assert outcome.value.title == "Cats"
    assert [request.options["num_predict"] for request in model.asked] == [7, 14]
    assert len({request.options["seed"] for request in model.asked}) == 1
    assert [len(request.messages) for request in model.asked] == [1, 1]

    outcome, run = ask_in(make_step(Scripted(cut, cut), returns=Plan, options={"num_predict": 7}))
    assert isinstance(outcome.error, llm.TruncatedError)
    assert "num_predict=14; raise it in options=" in str(outcome.error)
    assert [each["complaint"] for each in llm.answers(run)[0].tries] == ["cut after 7 tokens"] * 2

    for options in ({}, {"num_predict": -1}):
        outcome, _ = ask_in(make_step(Scripted(cut), returns=Plan, options=options))
        assert "raise num_ctx in options=" in str(outcome.error)


def test_an_option_that_is_none_is_not_set(make_step, ask_in):
    """So a step can do without one of its `LLM`."""
    model = Scripted("no", "[1]")
    ask_in(make_step(model, returns=list[int], settings={"options": {"seed": 7, "top_k": 1}}, options={"seed": None}))
    assert model.asked[0].options == {"seed": model.asked[0].options["seed"], "top_k": 1}
    assert model.asked[0].options["seed"] != 7


def test_a_run_stops_asking_when_its_tokens_are_used_up(make_step, ask_in, make_runtime, colour):
    """A call under way is never cut."""
    model = Scripted("four words of text", "and more", "and more")
    step = make_step(model, settings={"token_budget": 40}, compensate=llm.keep)
    outcome, run = ask_in(step, "a", "b", "c", "d")
    assert isinstance(outcome.error, llm.TokenBudgetError)
    assert "has used 46 tokens, and token_budget=40" in str(outcome.error)
    assert len(model.asked) == 2
    assert [answer.state for answer in llm.answers(run)] == ["kept", "kept", "failed"]
    assert llm.archived([run]) == []


def test_tries_of_a_step_that_is_not_done_count_too(make_step, ask_in):
    """A model that is asked again and again for nothing uses the budget as well."""
    model = Scripted("no", "no", "no")
    outcome, _ = ask_in(make_step(model, returns=Plan, settings={"token_budget": 24}))
    assert isinstance(outcome.error, llm.TokenBudgetError)
    assert len(model.asked) == 2


def test_what_is_remembered_of_calls_ends_with_their_attempt(make_step, ask_in, colour):
    """Whatever they came to: from then on it is on record, so that a service does not grow with what fails."""
    broken = llm.TransportError("parrot", "the line was cut")
    model = Scripted("fine", broken, broken, llm.RefusedError("parrot", "no"), Cut())
    assistant = LLM(model)

    def ask(topic: str) -> str:
        return topic

    step = assistant.step(retries=1)(colour.coloured(ask))
    for _ in range(3):
        ask_in(step)
    with pytest.raises(Cut):
        ask_in(step)
    assert model.script == []
    assert assistant._terms.calls == {}


def test_what_earlier_processes_did_for_a_step_counts_and_is_on_record(make_runtime, colour):
    """Also of a step that they tried in vain, and were killed before another attempt."""
    broken = llm.TransportError("parrot", "the line was cut")

    def play(*script, topics=("cats", "dogs"), **settings):
        @LLM(Scripted(*script), **settings).step(name="ask")
        @colour.coloured
        def ask(topic: str) -> str:
            return topic

        @colour.saga(name="research", runtime=make_runtime())
        def research():
            for topic in topics:
                last = yield ask(topic)
            return last

        return colour.run(research.outcome())

    with pytest.raises(Cut):
        play("a plan", broken, Cut())
    outcome = play("four words", token_budget=18)
    assert outcome.value == "four words"
    _, answer = llm.answers(make_runtime().runs()[0])
    assert [each.get("complaint") for each in answer.tries] == ["the line was cut", None]
    with pytest.raises(Cut):
        play("a plan", Cut(), topics=("cats", "dogs"))
    outcome = play("four words", token_budget=16)
    assert isinstance(outcome.error, llm.TokenBudgetError)


def test_each_call_of_a_model_is_given_the_timeouts_it_has(make_step, ask_in):
    """Those of the step, else of the `LLM`: also the question whether the model is there, which comes first."""
    model, slow, quick = Scripted("fine", "fine"), Timeouts(connect=60), Timeouts(connect=1)
    ask_in(make_step(model, settings={"timeouts": slow}, timeouts=quick))
    assistant = LLM(model, timeouts=slow)
    assistant.check()
    assistant.embed(["cats"])
    ask_in(make_step(model, settings={"timeouts": slow}))
    assert model.given == [quick] * 2 + [slow] * 5


# -- on record --------------------------------------------------------------------------------------------------------


@pytest.fixture
def story(colour, make_runtime):
    """Play a saga of two asking steps whose process may die at its end, with one *model* after the other."""

    def play(model, *, cut=False, prompt="Plan {}.", key=None, **options):
        assistant = LLM(model, **options.pop("settings", {}))

        @assistant.step(name="ask", key=key, **options)
        @colour.coloured
        def ask(topic: str) -> str:
            return prompt.format(topic)

        @colour.saga(name="research", runtime=make_runtime())
        def research():
            plan = yield ask("cats")
            report = yield ask(plan)
            if cut:
                raise Cut
            return report

        try:
            return colour.call(research)
        except Cut:
            return None

    return play


def test_a_finished_call_is_never_made_again(story):
    """The next process gets what is on record, whatever else it would be told."""
    story(Scripted("plan", "report"), cut=True)
    model = Scripted()
    assert story(model) == "report"
    assert model.asked == []


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"name": "other"}, "the model"),
        ({"prompt": "Plan {} well."}, "the prompt"),
        ({"options": {"temperature": 1}}, "the options"),
        ({"returns": Literal["plan", "report"]}, "the schema"),
        ({"settings": {"system": "Be brief."}}, "the prompt"),
    ],
    ids=["model", "prompt", "options", "schema", "system"],
)
def test_what_changed_since_is_said_and_the_answer_kept(changed, what, story, colour, caplog):
    """By default; the warning names what is other than on record."""
    story(Scripted("plan", "report"), cut=True)
    changed = dict(changed)
    model = Scripted(name=changed.pop("name", "parrot"))
    caplog.clear()
    assert story(model, **changed) == "report"
    told = [line for line in caplog.messages if "changed since its answer was recorded" in line]
    if what == "the prompt" and colour.is_async:
        assert told == []  # a coroutine is not awaited to know
    else:
        assert len(told) == 2
        assert f"{what} changed since its answer was recorded; the record stands" in told[0]


def test_a_coroutine_function_that_awaits_nothing_is_called_to_know_its_prompt(make_runtime, caplog):
    """Most build their prompt as others do."""

    def play(model, *, cut, how=""):
        @LLM(model).step(name="ask")
        async def ask(topic: str) -> str:
            return f"Plan {topic}{how}."

        @sagadsl.saga(name="research", runtime=make_runtime())
        async def research():
            plan = await ask("cats")
            if cut:
                raise Cut
            return plan

        return asyncio.run(research())

    with pytest.raises(Cut):
        play(Scripted("plan"), cut=True)
    with pytest.raises(Cut):
        play(Scripted(), cut=True)
    assert "changed since" not in caplog.text
    assert play(Scripted(), cut=False, how=" well") == "plan"
    assert "ask: the prompt changed since its answer was recorded; the record stands" in caplog.text


def test_what_changed_since_can_be_asked_anew(story, caplog):
    """With a key what follows from it is asked anew too; a third process finds all of it on record."""
    turn = iter("ababab")
    story(Scripted("plan", "report"), cut=True, key=lambda: next(turn))
    model = Scripted("other plan", "other report", name="other")
    story(model, cut=True, on_change="rerun", key=lambda: next(turn))
    assert [request.messages[-1]["content"] for request in model.asked] == ["Plan cats.", "Plan other plan."]
    assert story(Scripted(name="other"), on_change="rerun", key=lambda: next(turn)) == "other report"


def test_what_changed_since_can_be_forbidden(story):
    """Before anything is asked or entered."""
    story(Scripted("plan", "report"), cut=True)
    model = Scripted(name="other")
    with pytest.raises(ReplayError, match="the model changed since its answer was recorded, and on_change='fail'"):
        story(model, on_change="fail")
    assert model.asked == []
    assert story(Scripted()) == "report"


def test_a_prompt_that_cannot_be_built_any_more_keeps_what_is_on_record(make_runtime, caplog):
    """And says why; it is no failure of the step. A step that asked nobody when it was recorded stands too."""
    gone = []

    def play(model, *, cut, decorate=None, **options):
        def ask(topic: str) -> str:
            if gone:
                raise OSError("no such template")
            return topic

        step = (decorate or LLM(model).step(name="ask", **options))(ask)

        @sagadsl.saga(name="research", runtime=make_runtime())
        def research():
            plan = step("cats")
            if cut:
                raise Cut
            return plan

        return research()

    with pytest.raises(Cut):
        play(Scripted("plan"), cut=True)
    gone.append(True)
    with pytest.raises(OSError, match="no such template"):
        play(Scripted(), cut=False, on_change="fail")
    assert play(Scripted(), cut=False) == "plan"
    assert "cannot build its prompt any more" in caplog.text
    assert "OSError: no such template" in caplog.text
    gone.clear()
    with pytest.raises(Cut):
        play(None, cut=True, decorate=sagadsl.step(name="ask", compensate=None))
    assert play(Scripted(name="other"), cut=False, on_change="fail") == "cats"


def test_annotations_that_do_not_resolve_are_left_alone():
    """They may exist for type checkers only; a live argument is known by its spelling."""

    def ask(topic: Nowhere, desk: Live[Nowhere] = None) -> Nothing:  # noqa: F821
        return topic

    model = Scripted("fine")
    assert LLM(model).step(ask)("cats") == "fine"


def test_a_prompt_of_live_arguments_counts_as_unchanged(make_runtime):
    """They are not on record, so nobody could build it."""

    class Desk:
        topic = "cats"
        assistant = LLM(Scripted("plan"))

        @assistant.step
        def ask(self) -> str:
            return self.topic

    desk = Desk()

    def body(*, cut):
        plan = desk.ask()
        if cut:
            raise Cut
        return plan

    def research(**options):
        return sagadsl.saga(name="research", live=("cut",))(body).using(runtime=make_runtime())(**options)

    with pytest.raises(Cut):
        research(cut=True)
    desk.topic = "dogs"
    assert research(cut=False) == "plan"


def test_prompts_can_be_kept_out_of_the_file(make_step, ask_in, tmp_path):
    """Their digest stays, by which a changed one is known."""
    step = make_step(Scripted("fine"), settings={"keep_prompts": False, "system": "the magic words"})
    _, run = ask_in(step)
    (answer,) = llm.answers(run)
    assert answer.messages == ()
    assert "messages_digest" in run.steps[0].note["llm"]
    assert b"magic words" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


# -- compensation -----------------------------------------------------------------------------------------------------


def test_a_failure_archives_what_was_paid_for(make_step, ask_in):
    """With where it comes from, and why."""
    _, run = ask_in(make_step(Scripted("a plan")), fails=True)
    (answer,) = llm.archived([run])
    assert (answer.state, answer.value, answer.text, answer.reason) == (
        "archived",
        "a plan",
        "a plan",
        "ValueError: dull",
    )
    assert answer.messages == ({"role": "user", "content": "Plan cats."},)


def test_the_reason_is_that_of_the_saga_that_failed_or_that_it_was_asked_for(runtime):
    """A parent may go on; what it then got is compensated later, for another reason."""
    step = LLM(Scripted("a plan", "a report")).step(lambda_less)

    @sagadsl.saga
    def child():
        step("cats")
        raise ValueError("dull")

    @sagadsl.saga(runtime=runtime)
    def research():
        with contextlib.suppress(ValueError):
            child()
        return step("dogs")

    research()
    assert [(answer.step, answer.reason) for answer in llm.archived(runtime.runs())] == [
        ("child/lambda_less", "ValueError: dull")
    ]
    runtime.runs()[0].compensate()
    assert [answer.reason for answer in llm.archived(runtime.runs())] == ["ValueError: dull", "request"]


def test_what_is_discarded_is_a_tombstone(make_step, ask_in):
    """Digest, tokens and when, and no text; what is kept stays as it was."""
    _, run = ask_in(make_step(Scripted("no", "[1]"), returns=list[int], compensate=llm.discard), fails=True)
    (answer,) = llm.answers(run)
    assert (answer.state, answer.value, answer.text, answer.messages) == ("discarded", None, "", ())
    assert [each["text"] for each in answer.tries] == ["", ""]
    assert (answer.tokens, len(answer.text_digest)) == (25, 64)
    assert answer.at is not None
    assert llm.archived([run]) == []


def test_a_function_of_yours_gets_the_answer(make_step, ask_in):
    """Like any compensation: by name, or as the result."""
    undone = []

    def remove(topic, plan):
        undone.append((topic, plan))

    _, run = ask_in(make_step(Scripted(PLAN), returns=Plan, compensate=remove), fails=True)
    assert undone == [("cats", Plan("Cats", [Task("read", 2)]))]
    assert [answer.state for answer in llm.answers(run)] == ["compensated"]


def test_the_archive_is_that_of_the_process(make_step, colour):
    """Without runs given it looks at all of them; steps without a model have nothing to say."""

    @sagadsl.step(compensate=None)
    def look() -> int:
        return 1

    @sagadsl.step(compensate=None)
    def breaks() -> None:
        raise ValueError("dull")

    step = LLM(Scripted("a plan")).step(lambda_less)

    @sagadsl.saga
    def research() -> None:
        look()
        step("cats")
        breaks()

    sagadsl.configure(store=":memory:")
    try:
        with pytest.raises(ValueError, match="dull"):
            research()
        assert [answer.text for answer in llm.archived()] == ["a plan"]
    finally:
        sagadsl.configure(store=None)


def lambda_less(topic: str) -> str:
    return topic


# -- while it comes ---------------------------------------------------------------------------------------------------


def test_an_observer_is_told_of_each_piece_and_changes_nothing(make_step, ask_in, caplog):
    """Nothing of it is in the journal; one that raises is logged."""
    seen = []

    def watch(progress):
        seen.append(progress)
        raise RuntimeError("observer")

    outcome, run = ask_in(make_step(Scripted("two words"), settings={"progress": watch}))
    assert outcome.value == "two words"
    assert [(each.run, each.step, each.piece, each.text) for each in seen] == [
        (run.id, "ask", "two ", "two "),
        (run.id, "ask", "words ", "two words "),
    ]
    assert "an observer of parrot failed; the call goes on" in caplog.text


def test_what_an_observer_has_so_far_is_of_one_answer(make_step, ask_in):
    """One that is asked for again begins anew."""
    seen = []
    ask_in(make_step(Scripted("not JSON", "[1, 2]"), returns=list[int], settings={"progress": seen.append}))
    assert [each.text for each in seen] == ["not ", "not JSON ", "[1, ", "[1, 2] "]


def test_never_more_calls_at_once_than_the_limit(runtime):
    """In threads and tasks, over all assistants of one server; who waits is served in turn."""
    lock, now, most = threading.Lock(), [0], [0]
    full, go_on = threading.Event(), threading.Event()

    class Slow(Scripted):
        def ask(self, request, heard):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
                if now[0] == 2:
                    full.set()
            go_on.wait(10)
            with lock:
                now[0] -= 1
            return Reply(text="fine")

    one, other = LLM(Slow(), limit=2).step(lambda_less), LLM(Slow(), limit=2).step(lambda_less)

    @sagadsl.saga(runtime=runtime)
    def research():
        return sagadsl.parallel(*(lambda s=s, n=n: s(f"{n}") for s in (one, other) for n in range(3)))

    def release():
        full.wait(10)
        go_on.set()

    thread = threading.Thread(target=release)
    thread.start()
    assert research() == ["fine"] * 6
    thread.join()
    assert (most[0], now[0]) == (2, 0)


def test_who_is_interrupted_while_waiting_gives_up_the_turn():
    """Before it came, and just when it came: the next one is served."""
    gate, arrived, entered = asyncio.Event(), asyncio.Event(), []

    class Slow(Awaited):
        async def aask(self, request, heard):
            entered.append(request.messages[0]["content"])
            arrived.set()
            await gate.wait()
            return Reply(text="fine")

    @LLM(Slow(), limit=1).step
    async def ask(topic: str) -> str:
        return topic

    async def main():
        first, second, third = (asyncio.create_task(ask(name)) for name in "abc")
        await arrived.wait()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        gate.set()
        return [await first, await third]

    assert asyncio.run(main()) == ["fine", "fine"]
    assert entered == ["a", "c"]


def test_a_call_in_a_thread_has_its_turn_until_it_ends_though_nobody_waits(caplog):
    """A thread cannot be stopped: the next call is not made beside it, and how it ends concerns nobody."""
    entered, go_on = threading.Event(), threading.Event()
    most, now = [0], [0]

    class Slow(Scripted):
        def ask(self, request, heard):
            now[0] += 1
            most[0] = max(most[0], now[0])
            entered.set()
            go_on.wait(10)
            now[0] -= 1
            return super().ask(request, heard)

    @LLM(Slow(llm.TransportError("parrot", "cut"), "fine"), limit=1).step
    async def ask(topic: str) -> str:
        return topic

    async def main():
        first = asyncio.create_task(ask("a"))
        await asyncio.to_thread(entered.wait, 10)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        entered.clear()
        second = asyncio.create_task(ask("b"))
        assert not await asyncio.to_thread(entered.wait, 0.2)
        go_on.set()
        return await second

    assert asyncio.run(main()) == "fine"
    assert most == [1]
    assert caplog.messages == []


@pytest.mark.parametrize("made", [Scripted, Awaited])
def test_asynchronous_steps_await_a_model_or_run_it_in_a_thread(made, make_runtime):
    """A provider may have one colour."""
    model = made("fine")
    assistant = LLM(model)

    @assistant.step
    async def ask(topic: str) -> str:
        await asyncio.sleep(0)
        return topic

    @sagadsl.saga(runtime=make_runtime())
    async def research():
        return await ask("cats"), list(await assistant.aembed(["a", "bc"]))

    assert asyncio.run(research()) == ("fine", [(1.0, 0.5), (2.0, 0.5)])


# -- embeddings -------------------------------------------------------------------------------------------------------


def test_embeddings_are_a_step_that_is_not_paid_twice(make_runtime, tmp_path):
    """Recorded as 32-bit floats, not as decimal text; what comes back after a restart is equal."""
    model = Scripted()
    assistant = LLM(model)
    seen = []

    def play(*, cut):
        @sagadsl.saga(name="research", runtime=make_runtime())
        def research():
            seen.append(assistant.embed(["a", "bcd"]))
            if cut:
                raise Cut

        research()

    with pytest.raises(Cut):
        play(cut=True)
    play(cut=False)
    assert model.asked == [("a", "bcd")]
    assert seen[0] == seen[1]
    assert (len(seen[0]), seen[0][1], seen[0][-1], seen[0][:1]) == (2, (3.0, 0.5), (3.0, 0.5), [(1.0, 0.5)])
    with pytest.raises(IndexError, match="2 vectors, none at 2"):
        seen[0][2]
    (step,) = make_runtime().runs()[0].steps
    assert (step.key, step.note["embedding"]["digest"]) == ("embed", "d1")


def test_embeddings_use_the_tokens_of_a_run_too(runtime):
    """They are calls like others."""
    assistant = LLM(Scripted("four"), token_budget=20, options={"seed": 1})
    ask = assistant.step(lambda_less)

    @sagadsl.saga(runtime=runtime)
    def research():
        ask("cats")
        assistant.embed(["a"] * 6)
        assistant.embed(["b"])

    outcome = research.outcome()
    assert isinstance(outcome.error, llm.TokenBudgetError)
    assert "has used 20 tokens" in str(outcome.error)
    assert len(assistant.model.asked) == 2


@pytest.mark.parametrize("rows", [[[1.0]], [[1.0], [2.0], [3.0]], [[1.0, 2.0], [1.0]]])
def test_what_comes_must_be_as_many_vectors_of_one_length(rows):
    """Anything else would be taken for the vectors of other texts."""
    model = Scripted()
    model.embed = lambda texts, timeouts: (rows, 2)
    with pytest.raises(llm.TransportError, match="2 texts were to be vectors of one length"):
        LLM(model).embed(["a", "b"])


def test_one_text_is_no_list_of_texts(colour):
    """Its letters would be."""
    assistant = LLM(Scripted())
    with pytest.raises(UsageError, match=r"embed\(\['cats'\]\)"):
        colour.run(assistant.aembed("cats") if colour.is_async else assistant.embed("cats"))


def test_no_vectors_have_no_dimensions():
    """Nothing was asked for."""
    assert list(llm.Vectors.of([])) == []


def test_vectors_are_stored_the_same_on_any_machine(monkeypatch):
    """Little-endian."""
    told = llm.Vectors.of([[1.0, -2.5]])
    assert told.data == b"\x00\x00\x80?\x00\x00 \xc0"
    monkeypatch.setattr(sys, "byteorder", "big" if sys.byteorder == "little" else "little")
    assert llm.Vectors.of([[1.0, -2.5]]).data != told.data


# -- what cannot work -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: LLM(object()), "takes the name of an Ollama model, or a Model with name, server, inspect()"),
        (lambda: LLM(""), "needs the name of a model"),
        (lambda: LLM("m", limit=0), "at least one call"),
        (lambda: LLM("m").step(on_change="ask"), "choose one of 'keep', 'rerun', 'fail'"),
        (lambda: LLM("m").step(repair=-1), "0 or more"),
        (lambda: LLM("m", options={"stop": object()}), "options= are sent as JSON: Object of type"),
        (lambda: LLM("m").step(options={"stop": {"a"}}), "options= are sent as JSON: Object of type"),
        (lambda: LLM("m").step(options={"seed": "7"}), "options: seed= is a whole number"),
        (lambda: LLM("m").step(returns=threading.Lock), "JSON cannot describe it"),
        (lambda: LLM("m").step(returns=list[threading.Lock]), "JSON cannot describe it"),
        (lambda: LLM("m").step(returns=attrs.make_class("Later", {"x": attrs.field(type="Nowhere")})), "'Nowhere'"),
        (lambda: LLM("m").step(3), "decorates a function that returns the prompt"),
        (lambda: Timeouts(between=0), "more than zero"),
    ],
)
def test_what_cannot_work_is_told_where_it_is_written(make, told):
    """As a sentence, before anything runs."""
    with pytest.raises(UsageError, match=told.replace("(", r"\(").replace(")", r"\)")):
        make()


@pytest.mark.parametrize(("missing", "make"), [("msgspec", lambda: LLM("m").step(returns=Plan))])
def test_what_an_extra_brings_is_named(missing, make, monkeypatch):
    """With the command to type."""
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError, match=r"pip install 'sagadsl\[llm\]'"):
        make()


def test_static_and_class_methods_ask_too(make_runtime):
    """Under the decorator, as for any step."""
    assistant = LLM(Scripted("one", "two"))

    class Desk:
        @assistant.step
        @staticmethod
        def ask(topic: str) -> str:
            return topic

        @assistant.step
        @classmethod
        def name(cls, topic: str) -> str:
            return f"{cls.__name__} {topic}"

    @sagadsl.saga(runtime=make_runtime())
    def research():
        return Desk.ask("a"), Desk.name("b")

    assert research() == ("one", "two")
    assert [request.messages[0]["content"] for request in assistant.model.asked] == ["a", "Desk b"]


def test_errors_survive_pickling_and_a_restart():
    """With what they know."""
    for cls in (llm.TransportError, llm.RefusedError, llm.TruncatedError, llm.InvalidAnswerError, llm.TokenBudgetError):
        error = cls("llama3.2", "for a reason", ({"tokens": 1},))
        again = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert (type(again), vars(again), str(again)) == (cls, vars(error), "llama3.2: for a reason")


def test_importing_it_loads_neither_the_client_nor_a_schema_library():
    """They come with the first call, and the first ``returns=``."""
    code = "import sys, sagadsl.llm; print([n for n in ('ollama', 'httpx', 'msgspec', 'pydantic') if n in sys.modules])"
    done = __import__("subprocess").run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
