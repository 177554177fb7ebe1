"""What type checkers see of `sagadsl.llm`: checked by ``mypy --strict``, never run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, assert_type

import attrs

from sagadsl import Compensation, Retry, Step
from sagadsl.llm import LLM, Answer, Model, Progress, Reply, Request, Timeouts, Vectors, archive, archived, discard


@attrs.frozen
class Plan:
    title: str


@dataclass
class Point:
    x: int


class Card(TypedDict):
    name: str


class Parrot:
    name = "parrot"
    server = "here"

    def inspect(self, timeouts: Timeouts) -> str:
        return "digest"

    def ask(self, request: Request, heard: Callable[[str], None]) -> Reply:
        heard("hello")
        return Reply(text=str(request.messages[-1]["content"]), tokens=1)

    def embed(self, texts: list[str], timeouts: Timeouts) -> tuple[list[list[float]], int]:
        return [[timeouts.first or 0.0] for _ in texts], 0


model: Model = Parrot()
assistant = LLM(model="llama3.2", system="Be brief.", host="localhost", headers={"authorization": "x"}, limit=2)
parrot = LLM(model, options={"temperature": 0}, timeouts=Timeouts(first=10), token_budget=1000, progress=print)
LLM(Plan)  # type: ignore[arg-type]  # it is no model


@assistant.step(returns=Plan, options={"num_predict": 100}, repair=2, compensate=archive)
def plan(topic: str) -> str:
    return f"Plan {topic}."


@assistant.step
def text(topic: str, words: int = 3) -> list[Mapping[str, Any]]:
    return [{"role": "user", "content": topic * words}]


@assistant.step(retries=Retry(3), on_change="rerun", key="{topic}", compensate=Compensation(discard))
def keyed(topic: str) -> str:
    return topic


@assistant.step(returns=Point, timeouts=Timeouts(total=60))
async def point(topic: str) -> str:
    return topic


@parrot.step
async def atext(topic: str) -> str:
    return topic


@parrot.step(returns=Card)
def card(name: str) -> str:
    return name


@parrot.step(returns=list[int])
def numbers(count: int) -> str:
    return str(count)


def typed(step: Step[[str], Plan]) -> Plan:
    return step("cats")


assert_type(plan("cats"), Plan)
assert_type(typed(plan), Plan)
assert_type(plan.map(["cats"]), list[Plan])
assert_type(plan.using(key="k")("cats"), Plan)
assert_type(text("cats", words=2), str)
assert_type(keyed("cats"), str)
assert_type(card("Ada")["name"], str)
assert_type(numbers(3), list[int])
plan(3)  # type: ignore[arg-type]  # the signature is the body's
plan()  # type: ignore[call-arg]


async def asynchronous() -> None:
    assert_type(await point("cats"), Point)
    assert_type(await atext("cats"), str)
    assert_type(await assistant.aembed(["cats"]), Vectors)


@assistant.step(returns=Plan)  # type: ignore[arg-type]  # a prompt is wanted
def wrong(topic: str) -> int:
    return 3


vectors = assistant.embed(("a", "b"))
assert_type(vectors[0], tuple[float, ...])
assert_type(archived(), list[Answer])
assert_type(assistant.check(), str)


def watch(progress: Progress) -> None:
    assert_type(progress.text, str)


LLM("llama3.2", progress=watch)
