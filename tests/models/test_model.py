"""A real model behind Ollama's API: ours, or with ``OLLAMA_HOST`` set an Ollama's own."""

from __future__ import annotations

import asyncio
import collections
import enum
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import attrs
import pytest

import sagadsl
from sagadsl import llm
from sagadsl.llm import LLM
from tests.models.conftest import CHAT, EMBEDDING

ROOT = Path(__file__).parents[2]
FEW = {"num_predict": 24, "temperature": 0, "seed": 1}


class Risk(enum.Enum):
    LOW = "low"
    HIGH = "high"


@attrs.frozen
class Work:
    name: str
    risk: Risk


@attrs.frozen
class Plan:
    title: str
    days: int
    first: Work
    note: str | None = None


@pytest.fixture
def record(make_runtime):
    """Call a function as a saga; return its value and the answers on record."""

    def play(body):
        runtime = make_runtime()
        outcome = sagadsl.saga(name="research", runtime=runtime)(body).outcome()
        return outcome, llm.answers(runtime.runs()[0])

    return play


def test_a_step_returns_what_the_model_says(counter, record):
    """In text; what it cost is what the server counted."""
    assistant = LLM(CHAT, host=counter.url, system="You answer in one short sentence.", options=FEW)

    @assistant.step
    def ask(topic: str) -> str:
        return f"Name three {topic}."

    def research():
        return ask("primary colors")

    outcome, (answer,) = record(research)
    assert "blue" in outcome.value.lower()
    assert 5 < answer.tries[0]["prompt_tokens"] < 100
    assert 0 < answer.tries[0]["tokens"] <= 24
    assert len(answer.digest) == 64


def research_of(counter, **options):
    """Give a body that asks for a plan."""
    assistant = LLM(CHAT, host=counter.url, options=options)

    @assistant.step(returns=Plan)
    def ask(topic: str) -> str:
        return f"Plan research on {topic}."

    def research():
        return ask("transformers")

    return research


def test_an_answer_is_of_the_class_that_is_asked_for(counter, record):
    """A nested class, an enumeration and an optional field, whatever the model would rather say."""
    outcome, (answer,) = record(research_of(counter, num_predict=200, seed=7))
    assert isinstance(outcome.value, Plan)
    assert outcome.value.first.risk in Risk
    assert outcome.value.title == json.loads(answer.text)["title"]


def test_an_answer_that_is_cut_is_asked_for_once_more(counter, record):
    """The real thing says so with ``length``."""
    outcome, (answer,) = record(research_of(counter, num_predict=4, temperature=0))
    assert isinstance(outcome.error, llm.TruncatedError)
    assert [each["complaint"] for each in answer.tries] == ["cut after 4 tokens", "cut after 8 tokens"]


def test_one_seed_is_one_answer(counter):
    """Chosen by us and recorded, it is the way back to the same text."""
    assistant = LLM(CHAT, host=counter.url, options={"num_predict": 200})

    def tell(topic: str) -> str:
        return f"Plan a story about a {topic}."

    one, other = (assistant.step(returns=Plan, options={"seed": seed})(tell) for seed in (1, 2))
    assert one("ship") == one("ship") != other("ship")


def test_embeddings_mean_something(counter, colour):
    """Of equal length one; what is alike is near."""
    embeddings = LLM(EMBEDDING, host=counter.url)
    texts = ["A cat sits on the mat.", "A kitten rests on a rug.", "The invoice was paid."]
    vectors = colour.run(embeddings.aembed(texts) if colour.is_async else embeddings.embed(texts))

    def alike(one, other):
        return sum(a * b for a, b in zip(vectors[one], vectors[other], strict=True))

    assert (len(vectors), vectors.dimensions) == (3, 384)
    assert alike(0, 0) == pytest.approx(1, abs=1e-3)
    assert alike(0, 1) > 0.5
    assert alike(0, 2) < 0.2


def test_what_a_model_cannot_do_is_told_before_or_at_once(counter):
    """A missing one, and one of the wrong kind."""
    with pytest.raises(llm.RefusedError, match="ollama pull nobody/knows"):
        LLM("nobody/knows", host=counter.url).check()

    @LLM(EMBEDDING, host=counter.url).step
    def ask(topic: str) -> str:
        return topic

    with pytest.raises(llm.RefusedError, match="does not support chat"):
        ask("cats")
    assert counter.ended == counter.begun


def test_never_more_than_the_limit_at_once(counter, make_runtime):
    """Counted in front of the server, over steps of both colours and several assistants."""
    steps = []
    for _ in range(2):
        assistant = LLM(CHAT, host=counter.url, limit=2, options={"num_predict": 20})

        @assistant.step(name="ask", returns=Risk)
        def ask(topic: str) -> str:
            return f"Name a {topic}."

        steps.append(ask)

    @sagadsl.saga(runtime=make_runtime())
    def research():
        return sagadsl.parallel(*(lambda s=s, t=t: s(t) for s in steps for t in ("cat", "dog", "cow")))

    assert len(research()) == 6
    assert (counter.most, len(counter.ended)) == (2, 6)

    @LLM(CHAT, host=counter.url, limit=1, options={"num_predict": 20}).step(returns=Risk)
    async def aask(topic: str) -> str:
        return f"Name a {topic}."

    async def main():
        return await asyncio.gather(*(aask(topic) for topic in ("cat", "dog", "cow")))

    counter.most = 0
    assert len(asyncio.run(main())) == 3
    assert counter.most == 1


def test_the_step_of_the_readme_asks(tmp_path, counter):
    """Word for word, but for the model."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"^```python\n(# study\.py\n.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    script = tmp_path / "study.py"
    script.write_text(source.replace("llama3.2", CHAT) + '\nprint(study("cats"))\n')
    env = os.environ | {"PYTHONPATH": str(ROOT), "OLLAMA_HOST": counter.url}
    done = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Outline(question=")


# -- kills ------------------------------------------------------------------------------------------------------------

CHAIN = ["plan:asking", "plan:done", "analysis:asking", "report:asking", "report:done"]


def play(folder, counter, kill="", resume="arguments"):
    """Run the program, in a process of its own."""
    program = Path(__file__).with_name("program.py")
    command = [sys.executable, str(program), str(folder / "sagas.db"), counter.url, kill, resume]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == (-signal.SIGKILL if kill else 0), done.stderr
    return done.stdout


def paid(counter, calls):
    """Count the calls by the step that made them."""
    return dict(collections.Counter(question.partition(":")[0] for question in counter.questions(calls)))


def test_after_a_kill_no_finished_call_is_made_again(tmp_path, counter):
    """Killed five times in one run, in the middle of each call and after it: what was answered is answered once."""
    for kill in CHAIN:
        play(tmp_path, counter, kill)
    report = play(tmp_path, counter)
    assert paid(counter, counter.begun) == {"Plan": 2, "Analysis": 2, "Report": 2}  # each was cut off once
    assert paid(counter, counter.ended) == {"Plan": 1, "Analysis": 1, "Report": 1}
    run = sagadsl.Runtime(tmp_path / "sagas.db").runs()[0]
    assert [step.attempts for step in run.steps] == [2, 2, 2]
    assert [bool(answer.text) for answer in llm.answers(run)] == [True, True, True]
    assert report.startswith("Plan(title=")


def test_a_saga_that_forgets_is_caught_by_the_same_count(tmp_path, counter):
    """The mutant: a process that adopts nothing pays again."""
    play(tmp_path, counter, "plan:done", "never")
    play(tmp_path, counter, "", "never")
    assert paid(counter, counter.ended)["Plan"] == 2


# -- the API ----------------------------------------------------------------------------------------------------------

NUMBER, TEXT = (int, float), str
COUNTS = dict.fromkeys(
    ("total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"),
    NUMBER,
)
PART = {"model": TEXT, "created_at": TEXT, "message": dict, "done": bool}
LAST = PART | {"done_reason": TEXT} | COUNTS
DETAILS = {"format": TEXT, "family": TEXT, "families": list, "parameter_size": TEXT, "quantization_level": TEXT}
MODEL = {"name": TEXT, "model": TEXT, "modified_at": TEXT, "size": NUMBER, "digest": TEXT, "details": dict}
EMBEDDED = {"model": TEXT, "embeddings": list} | dict.fromkeys(
    ("total_duration", "load_duration", "prompt_eval_count"), NUMBER
)
"""What Ollama's published description of its API says of the answers that are used here."""


def fetch(url, asked=None):
    """Return the lines of an answer, as JSON."""
    data = None if asked is None else json.dumps(asked).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310  # http://
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
        return [json.loads(line) for line in answer.read().splitlines()]


def differs(told, published):
    """Return what an answer lacks, or has of another type, beside what is published."""
    return [name for name, kind in published.items() if not isinstance(told.get(name), kind)]


def test_the_server_answers_as_ollama_publishes(ollama):
    """The one these tests run against, whichever it is."""
    url = ollama if "://" in ollama else f"http://{ollama}"
    asked = {"model": CHAT, "messages": [{"role": "user", "content": "Hello"}], "options": {"num_predict": 3}}
    *parts, last = fetch(f"{url}/api/chat", asked)
    (whole,) = fetch(f"{url}/api/chat", asked | {"stream": False})
    assert parts
    assert [differs(part, PART) for part in parts] == [[]] * len(parts)
    assert [part["done"] for part in [*parts, last]] == [False] * len(parts) + [True]
    assert [differs(each, LAST) for each in (last, whole)] == [[], []]
    assert last["done_reason"] == "length"
    assert whole["message"]["role"] == "assistant"
    (tags,) = fetch(f"{url}/api/tags")
    for model in tags["models"]:
        assert (differs(model, MODEL), differs(model["details"], DETAILS)) == ([], [])
    (embedded,) = fetch(f"{url}/api/embed", {"model": EMBEDDING, "input": ["a", "b"]})
    assert (differs(embedded, EMBEDDED), len(embedded["embeddings"])) == ([], 2)
    assert differs(fetch(f"{url}/api/version")[0], {"version": TEXT}) == []


def test_an_answer_that_differs_from_what_is_published_is_found():
    """The judge can say no."""
    assert differs({"model": "x", "embeddings": {}}, {"model": TEXT, "embeddings": list, "total": NUMBER}) == [
        "embeddings",
        "total",
    ]
