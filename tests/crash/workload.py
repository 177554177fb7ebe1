"""What is run on a disk that loses power or fails: a few sagas, and what their world must look like afterwards."""

import asyncio
import inspect
from contextvars import ContextVar

import sagadsl
from sagadsl._core.values import Kind

NAMES = ["flight", "hotel", "car", "lunch"]
SAGAS = {"good": (NAMES, False), "bad": (NAMES[:3], True), "cut": (NAMES, False)}
"""Runs, by id: what is done, and whether it fails then. The last is cut off in the middle, and goes on."""


class Broken(Exception):
    """Why a saga fails."""


class Cut(BaseException):
    """What ends a process, as far as a saga can tell."""


class Stage:
    """Where effects go: *happened* takes them. *cut* names the effect after which the process ends."""

    happened, cut = None, None


def happen(effect):
    Stage.happened(effect)
    if effect == Stage.cut:
        Stage.cut = None
        raise Cut


def cancel(name):
    happen(f"-{name}")


@sagadsl.step(compensate=cancel)
def book(name: str) -> str:
    happen(name)
    return name * 200


@sagadsl.step(compensate=cancel, retries=1)
def haggle(name: str) -> str:
    if sagadsl.current().attempt == 1:
        raise TimeoutError(name)
    happen(name)
    return name


@sagadsl.saga
def trip(names: list[str], fails: bool) -> int:
    for name in names:
        (haggle if name == "car" else book)(name)
    if fails:
        raise Broken
    return len(names)


@sagadsl.step(compensate=cancel)
async def abook(name: str) -> str:
    happen(name)
    return name * 200


@sagadsl.step(compensate=cancel, retries=1)
async def ahaggle(name: str) -> str:
    return haggle.plain(name)


@sagadsl.saga
async def atrip(names: list[str], fails: bool) -> int:
    for name in names:
        await (ahaggle if name == "car" else abook)(name)
    if fails:
        raise Broken
    return len(names)


RUN = ContextVar("run")
"""Which run is played here."""


def play(runtime, run):
    """Call a saga for a run; return what came out."""
    names, fails = SAGAS[run]
    RUN.set(run)
    try:
        return trip.using(runtime=runtime, id=run)(names, fails)
    except Broken:
        return "broken"


async def aplay(runtime, run):
    """Do the same in a task."""
    names, fails = SAGAS[run]
    RUN.set(run)
    try:
        return await atrip.using(runtime=runtime, id=run)(names, fails)
    except Broken:
        return "broken"


def awaited(value):
    """Return a value, of a coroutine what it returns."""

    async def wait():
        return await value

    return asyncio.run(wait()) if inspect.isawaitable(value) else value


def judge(run, effects, recorded, goes_on, repeats):
    """Return what is wrong with a world in which a run has ended.

    *effects* are all of the run, in order, *recorded* those on record as done when the last process began, *goes_on*
    how many effects there were then. *repeats* says how many may have happened twice.
    """
    names, fails = SAGAS[run]
    forward = [effect for effect in effects if not effect.startswith("-")]
    backward = [effect[1:] for effect in effects if effect.startswith("-")]
    complaints = []
    again = set(effects[goes_on:]) & recorded
    if again:
        complaints.append(f"recorded, and done again: {sorted(again)}")
    if len(effects) - len(set(effects)) > repeats:
        complaints.append(f"more than {repeats} happened twice: {effects}")
    if list(dict.fromkeys(forward)) != names[: len(set(forward))]:
        complaints.append(f"out of order: {forward}")
    if backward or fails:
        missing = set(forward) - set(backward)
        if missing:
            complaints.append(f"never compensated: {sorted(missing)}")
        order = list(dict.fromkeys(backward))
        if order != [name for name in reversed(names) if name in order]:
            complaints.append(f"compensated out of order: {backward}")
        if "-" in "".join(effect[0] for effect in effects).rstrip("-"):
            complaints.append(f"went forward after it went back: {effects}")
    elif forward and set(forward) != set(names):
        complaints.append(f"never happened: {sorted(set(names) - set(forward))}")
    return complaints


def recorded_effects(entries):
    """Return the effects that a run's entries know to be done."""
    calls = {entry.seq: entry for entry in entries if entry.name is not None}
    found = set()
    for entry in entries:
        sign = {Kind.DONE: "", Kind.COMPENSATION_DONE: "-"}.get(entry.kind)
        if sign is not None and entry.ref in calls:  # a journal that left something out is caught by the world
            found.add(sign + calls[entry.ref].arguments.split('"')[3])
    return found
