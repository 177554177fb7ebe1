"""``python program.py STORE HOST [KILL [RESUME]]``: a saga of three questions, each built on the answers before it.

KILL is ``STEP:asking``, to die by SIGKILL when the first piece of its answer comes, or ``STEP:done``, once it is
recorded. RESUME is the saga's ``resume=``.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Literal

import attrs

import sagadsl
from sagadsl.llm import LLM, Progress

STORE, HOST, KILL, RESUME = (*sys.argv[1:], "", "arguments")[:4]


def point(place: str) -> None:
    """Die here, if that is asked for."""
    if place == KILL:
        os.kill(os.getpid(), signal.SIGKILL)


def watch(progress: Progress) -> None:
    """Come here with each piece of an answer."""
    point(f"{progress.step}:asking")


@attrs.frozen
class Plan:
    """What a model must answer."""

    title: str
    days: int


assistant = LLM("smollm2:135m", host=HOST, options={"num_predict": 200, "temperature": 0}, progress=watch)


@assistant.step(returns=Plan)
def plan(topic: str) -> str:
    """Ask for a plan."""
    return f"Plan: how would you study {topic}?"


@assistant.step(returns=Literal["easy", "hard"])
def analysis(plan: Plan) -> str:
    """Ask about the plan."""
    return f"Analysis: is it easy or hard to do {plan.title}?"


@assistant.step(returns=Plan)
def report(plan: Plan, analysis: str) -> str:
    """Ask for the sum of it."""
    return f"Report: plan {plan.title} again, which is {analysis}."


@sagadsl.saga(resume=RESUME)
def research(topic: str) -> Plan:
    """Ask all three."""
    first = plan(topic)
    point("plan:done")
    second = analysis(first)
    point("analysis:done")
    last = report(first, second)
    point("report:done")
    return last


if __name__ == "__main__":
    sagadsl.configure(store=STORE)
    print(research("cats"))
