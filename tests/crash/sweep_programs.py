"""Sagas of every form, whose effects are lines of a file that only grows: what the sweeps kill, resume and compensate.

An effect is ``+`` and the step's key, what compensates it ``-`` and the same key; *play* is the number of the process.
"""

import asyncio
import os
import threading
from functools import partial
from pathlib import Path

import attrs

import sagadsl
from sagadsl import Compensation, Landed, NotLanded, Retry, saga, step
from sagadsl.errors import StepTimeout


@attrs.define
class Stage:
    folder: Path | None = None
    fail: bool = False
    play: int = 0


stage = Stage()


def effect(sign):
    """Have an effect."""
    line(f"{sign}{sagadsl.current().key}")


def line(text):
    """Write a line: one write, which is there or is not."""
    file = os.open(stage.folder / "world", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{text}\n".encode())
    os.close(file)


def undo():
    effect("-")


async def aundo():
    effect("-")


def undo_at_last():
    if sagadsl.current().attempt == 1:
        raise ConnectionError("not yet")
    effect("-")


@step(compensate=undo)
def work(name: str) -> str:
    effect("+")
    return name


@step(compensate=aundo)
async def awork(name: str) -> str:
    await asyncio.sleep(0)
    effect("+")
    await asyncio.sleep(0)
    return name


@step(compensate=Compensation(undo_at_last, retries=Retry(3, wait=0.0)), retries=Retry(3, wait=0.0))
def stubborn(name: str) -> str:
    if sagadsl.current().attempt == 1:
        raise ConnectionError("not yet")
    effect("+")
    return name


@step(compensate=undo, retries=Retry(3, wait=0.0), timeout=0.02)
def slow(name: str) -> str:
    effect("+")
    if sagadsl.current().attempt == 1:
        while left := sagadsl.current().remaining:
            threading.Event().wait(left)
        raise ConnectionError("late")
    return name


def has_landed(name):
    world = stage.folder / "world"
    lines = world.read_text().split() if world.exists() else []
    return Landed(name) if f"+{sagadsl.current().key}" in lines else NotLanded()


@step(compensate=undo, probe=has_landed)
def asked(name: str) -> str:
    effect("+")
    return name


@step(compensate=None)
def end() -> None:
    if stage.fail:
        raise ConnectionError("no answer")


@step(compensate=None)
async def aend() -> None:
    if stage.fail:
        raise ConnectionError("no answer")


@step(compensate=None)
def refuse() -> None:
    raise LookupError("sold out")


@saga(key="k")
def sync():
    made = [work("a"), work("b"), work("a")]
    end()
    return made


@saga(key="k")
async def coloured():
    made = [await awork("a"), await awork("b"), await awork("a")]
    await aend()
    return made


@saga
def inner(name: str):
    return [work(name), work("c")]


@saga(key="k")
def nested():
    made = [work("a"), *inner("b"), *inner("d")]
    end()
    return made


@saga
def failing(name: str):
    work(name)
    refuse()


@saga(key="k")
def caught():
    made = [work("a")]
    try:
        failing("b")
    except LookupError:
        made.append(work("c"))
    end()
    return made


@saga(key="k")
def retried():
    made = [work("a"), stubborn("b"), work("c")]
    end()
    return made


@saga(key="k")
def late():
    try:
        made = [work("a"), slow("b"), work("c")]
    except StepTimeout:  # never: it is tried again
        made = []
    end()
    return made


@saga(key="k")
def probed():
    made = [asked("a"), asked("b"), asked("c")]
    end()
    return made


@step(compensate=aundo)
async def pay(order: str) -> str:
    turns = 4 if (order == "one") == (stage.play % 2 == 0) else 1  # another branch is ahead in each process
    for _ in range(turns):
        await asyncio.sleep(0)
    effect("+")
    return f"money of {order}"


@step(compensate=aundo)
async def ship(order: str, payment: str) -> str:
    effect("+")
    return f"{order} for {payment}"


async def branch(order):
    return await ship(order, await pay(order))


@saga(key="k")
async def gathered():
    made = list(await asyncio.gather(branch("one"), branch("two")))
    await aend()
    return made


@saga(key="k")
async def tasked():
    """Its branches are tasks that come at the same time: they write together."""
    made = list(await asyncio.gather(*(branch(order) for order in ("two", "three", "four"))))
    await aend()
    return made


def both(order):
    return [work(order), work("then")]


@saga(key="k")
def threaded():
    """Each branch in a thread of its own: they write together."""
    made = sagadsl.parallel(*(partial(both, order) for order in ("one", "two", "three")))
    end()
    return made


PROGRAMS = {
    "sync": (sync, {"work", "work#2", "work#3"}, 0, ["a", "b", "a"]),
    "coloured": (coloured, {"awork", "awork#2", "awork#3"}, 0, ["a", "b", "a"]),
    "nested": (
        nested,
        {"work", "inner/work", "inner/work#2", "inner#2/work", "inner#2/work#2"},
        0,
        ["a", "b", "c", "d", "c"],
    ),
    "caught": (caught, {"work", "failing/work", "work#2"}, 0, ["a", "c"]),
    "retried": (retried, {"work", "stubborn", "work#2"}, 0, ["a", "b", "c"]),
    "late": (late, {"work", "slow", "work#2"}, 1, ["a", "b", "c"]),
    "probed": (probed, {"asked", "asked#2", "asked#3"}, 0, ["a", "b", "c"]),
    "gathered": (
        gathered,
        {"pay", "pay#2", "ship", "ship#2"},
        0,
        ["one for money of one", "two for money of two"],
    ),
    "tasked": (
        tasked,
        {"pay", "pay#2", "pay#3", "ship", "ship#2", "ship#3"},
        0,
        [f"{order} for money of {order}" for order in ("two", "three", "four")],
    ),
    "threaded": (
        threaded,
        {f"parallel/{branch}/{step}" for branch in (1, 2, 3) for step in ("work", "work#2")},
        0,
        [["one", "then"], ["two", "then"], ["three", "then"]],
    ),
}
"""Each saga, the keys of what it does, how often more than once without being killed, and what it returns."""
WIDE = {"gathered": 2, "tasked": 3, "threaded": 3}
"""In how many branches at once a kill may cut off a step."""
