"""A graph as a value: a tree of blocks. Every format is a walk over it.

A saga is series-parallel: calls one after the other, children as boxes, branches side by side, and the way back beside
the way forth. Only a plan is a graph proper, a `Mesh`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from graphlib import TopologicalSorter

from attrs import frozen

LABEL = 40
"""Characters of a label."""


@frozen(kw_only=True)
class Call:
    """A call of a step: what it is called, how it stands (*tone*, *words*), and what takes it *back*, in which tone."""

    label: str
    tone: str = "calm"
    words: str = ""
    back: str = ""
    back_tone: str = "calm"


@frozen
class Series:
    """One after the other."""

    blocks: tuple[Block, ...] = ()


@frozen
class Fork:
    """Side by side: *all* of them at the same time, or one of them."""

    blocks: tuple[Block, ...]
    all: bool = True


@frozen(kw_only=True)
class Box:
    """What belongs together: a child saga, or (*maybe*) what is done under a condition, or more than once."""

    label: str
    inner: Block
    maybe: bool = False
    tone: str = "calm"


@frozen
class Mesh:
    """Calls with those that each of them waits for, by their places."""

    blocks: tuple[Block, ...]
    needs: tuple[tuple[int, ...], ...]


@frozen
class More:
    """Blocks that are left out."""

    words: str


Block = Call | Series | Fork | Box | Mesh | More


@frozen(kw_only=True, repr=False)
class Drawing:
    """What is drawn: a block under a *title*, and how it ends. *notes* say what a picture cannot show."""

    title: str
    block: Block
    ending: str = ""
    tone: str = "calm"
    notes: tuple[str, ...] = ()


def joined(blocks: Iterable[Block]) -> Block:
    """Return blocks one after the other, as the one that they are where there is only one."""
    inner: list[Block] = []
    for block in blocks:
        inner += block.blocks if isinstance(block, Series) else [block]
    return inner[0] if len(inner) == 1 else Series(tuple(inner))


def is_empty(block: Block) -> bool:
    """Tell whether nothing is called in it."""
    return isinstance(block, Series) and not block.blocks


def ways_back(needs: Sequence[Sequence[int]], owed: set[int]) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Return how the calls of a mesh that are *owed* a compensation follow each other on the way back.

    That is: pairs of a later one and the one before it, past those that are owed none; the first ones; the last ones.
    """
    order = [*TopologicalSorter(dict(enumerate(needs))).static_order()]
    nearest: dict[int, set[int]] = {}
    pairs = []
    for place in order:
        before = {each for need in needs[place] for each in nearest[need]}
        nearest[place] = {place} if place in owed else before
        pairs += [(place, each) for each in sorted(before) if place in owed]
    needed = {need for each in needs for need in each}
    passed = {before for _, before in pairs}
    lasts = {each for place in order if place not in needed for each in nearest[place]} - passed
    firsts = owed - {place for place, _ in pairs}
    return pairs, sorted(firsts), sorted(lasts)
