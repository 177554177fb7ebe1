"""The research: a plan, an analysis that follows it, a report on both, and a check before it is published.

Each answer is paid for once: killed anywhere, the same command goes on with what is recorded. A report that is not
about its topic is taken back: the draft is removed, the report and the plan are archived, the analysis is discarded.
"""

from __future__ import annotations

import os
from math import sqrt
from typing import Annotated

from attrs import frozen
from msgspec import Meta

from sagadsl import saga, step
from sagadsl.examples.research.desk import desk, move, tell, write
from sagadsl.llm import LLM, archive, discard

writer = LLM(
    os.environ.get("SAGADSL_RESEARCH_MODEL", "llama3.2"),
    system="You are a careful researcher. You answer briefly, in plain English.",
    options={"temperature": 0.2, "num_predict": 600, "num_ctx": 8192},
    token_budget=20_000,
    progress=tell,
)
embeddings = LLM(os.environ.get("SAGADSL_RESEARCH_EMBEDDING", "nomic-embed-text"))


Sentence = Annotated[str, Meta(max_length=120)]
"""What a model may say at a time: it goes into the schema."""


class OffTopicError(Exception):
    """A report is not about its topic."""


@frozen
class Plan:
    """What to find out."""

    question: Sentence
    approach: Sentence


@frozen
class Analysis:
    """What was found out."""

    finding: Sentence
    doubt: Sentence


@frozen
class Report:
    """What is told."""

    title: Sentence
    summary: Annotated[str, Meta(max_length=400)]


@writer.step(returns=Plan, compensate=archive)
def make_plan(topic: str) -> str:
    """Plan the research."""
    return f"Plan a small study of {topic}: one question, and one sentence on how to approach it."


@writer.step(returns=Analysis, compensate=discard)
def analyse(topic: str, plan: Plan) -> str:
    """Analyse what is known."""
    return f"On {topic}, answer: {plan.question} Approach: {plan.approach} Give one finding, and one doubt about it."


@writer.step(returns=Report, compensate=archive)
def write_report(topic: str, plan: Plan, analysis: Analysis) -> str:
    """Write the report."""
    return (
        f"Write a title and a summary of three sentences for a report on {topic}.\n"
        f"Question: {plan.question}\nFinding: {analysis.finding}\nDoubt: {analysis.doubt}"
    )


def remove_draft(topic: str) -> None:
    """Remove the draft, if it came to one."""
    desk.draft(topic).unlink(missing_ok=True)


@step(compensate=remove_draft)
def save_draft(topic: str, report: Report) -> None:
    """Save the draft."""
    write(desk.draft(topic), f"# {report.title}\n\n{report.summary}\n")


def withdraw(topic: str) -> None:
    """Make a paper a draft again."""
    if desk.paper(topic).exists():
        move(desk.paper(topic), desk.draft(topic))


@step(compensate=withdraw)
def publish(topic: str) -> str:
    """Publish the draft."""
    move(desk.draft(topic), desk.paper(topic))
    return str(desk.paper(topic))


def likeness(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return the cosine of two vectors: 1 for the same direction, 0 for nothing in common."""
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / (sqrt(sum(a * a for a in one)) * sqrt(sum(b * b for b in other)) or 1.0)


@saga(key="{topic}")
def research(topic: str) -> str:
    """Research a topic and publish a report; return where it is."""
    plan = make_plan(topic)
    analysis = analyse(topic, plan)
    report = write_report(topic, plan, analysis)
    save_draft(topic, report)
    asked, told = embeddings.embed([topic, f"{report.title}. {report.summary}"])
    if likeness(asked, told) < desk.at_least:
        msg = f"{report.title!r} has a likeness of {likeness(asked, told):.2f} to {topic!r}, less than {desk.at_least}"
        raise OffTopicError(msg)
    return publish(topic)
