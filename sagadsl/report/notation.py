"""Graphs as text for people, and as the text that Mermaid and Graphviz draw.

The way back is an edge from each call to the one before it that has a compensation, and carries its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from attrs import Factory, define

from sagadsl.report.blocks import Block, Box, Call, Drawing, Fork, Mesh, More, Series, ways_back
from sagadsl.report.style import LIGHT
from sagadsl.report.words import columns, printable

# -- text -------------------------------------------------------------------------------------------------------------

TEXT_SIGNS = {"good": "+", "bad": "x", "doubt": "?", "busy": ">", "back": "-"}


def text(graph: Drawing) -> str:
    """Return a graph as lines: what is called, indented by what it belongs to, with what compensates it."""
    rows = [(printable(graph.title, 200), "", ""), *_rows(graph.block, 1)]
    if graph.ending:
        rows.append((f"{_sign(graph.tone)}{graph.ending}", "", ""))
    return "\n".join([*columns(rows), *(f"({printable(note, 400)})" for note in graph.notes)])


def _sign(tone: str) -> str:
    return f"{TEXT_SIGNS[tone]} " if tone in TEXT_SIGNS else ""


def _rows(block: Block, depth: int, after: str = "") -> Iterator[tuple[str, str, str]]:
    indent = "  " * depth
    if isinstance(block, Call):
        told = "; ".join(each for each in (block.words, after) if each)
        yield f"{indent}{_sign(block.tone)}{block.label}", told, f"< {block.back}" if block.back else ""
    elif isinstance(block, More):
        yield f"{indent}… {block.words}", "", ""
    elif isinstance(block, Series):
        for each in block.blocks:
            yield from _rows(each, depth)
    elif isinstance(block, Box):
        yield f"{indent}{_sign(block.tone)}{block.label}:", after, ""
        yield from _rows(block.inner, depth + 1)
    elif isinstance(block, Fork) and not block.all:
        yield from _rows(Series(block.blocks), depth)
    elif isinstance(block, Fork):
        yield f"{indent}at the same time:", after, ""
        for each in block.blocks:
            (first, words, back), *others = _rows(each, depth + 2)
            yield f"{indent}  | {first.lstrip()}", words, back
            yield from others
    else:
        for each, needs in zip(block.blocks, block.needs, strict=True):
            names = ", ".join(_label(block.blocks[place]) for place in needs)
            yield from _rows(each, depth, f"after {names}" if names else "")


def _label(block: Block) -> str:
    return block.label if isinstance(block, Call | Box) else ""


# -- nodes and edges --------------------------------------------------------------------------------------------------


@define(eq=False)
class Ends:
    """Where a block begins and ends, on the way forth and on the way back: *owed* are calls with compensations."""

    firsts: list[str]
    lasts: list[str]
    first_owed: list[tuple[str, str]] = Factory(list)
    last_owed: list[tuple[str, str]] = Factory(list)


@define(eq=False)
class Net:
    """A tree of blocks as nodes, boxes and edges: *lines* for the first two, *forth* and *back* for the third."""

    node: Callable[[str, Call | More], str]
    open_box: Callable[[str, Box], str]
    close_box: str
    lines: list[str] = Factory(list)
    forth: list[tuple[str, str]] = Factory(list)
    back: list[tuple[str, str, str]] = Factory(list)
    count: int = 0
    depth: int = 1

    def name(self) -> str:
        """Return a name that nothing has yet."""
        self.count += 1
        return f"n{self.count}"

    def add(self, line: str) -> None:
        """Add a line, indented by the boxes around it."""
        self.lines.append("  " * self.depth + line)

    def walk(self, block: Block) -> Ends:
        """Add a block; return its ends."""
        if isinstance(block, Call | More):
            return self.leaf(block)
        if isinstance(block, Box):
            self.add(self.open_box(self.name(), block))
            self.depth += 1
            ends = self.walk(block.inner)
            self.depth -= 1
            self.add(self.close_box)
            return ends
        if isinstance(block, Series):
            return self.chain([self.walk(each) for each in block.blocks])
        inner = [self.walk(each) for each in block.blocks]
        needs = block.needs if isinstance(block, Mesh) else ((),) * len(inner)
        return self.mesh(inner, needs)

    def leaf(self, block: Call | More) -> Ends:
        """Add a node."""
        name = self.name()
        self.add(self.node(name, block))
        owed = [(name, block.back)] if isinstance(block, Call) and block.back else []
        return Ends([name], [name], owed, owed)

    def chain(self, inner: list[Ends]) -> Ends:
        """Join blocks one after the other."""
        inner = [ends for ends in inner if ends.firsts]
        owed = [ends for ends in inner if ends.first_owed]
        for one, other in pairwise(inner):
            self.join(one.lasts, other.firsts)
        for one, other in pairwise(owed):
            self.join_back(other.first_owed, one.last_owed)
        ends = Ends(inner[0].firsts, inner[-1].lasts) if inner else Ends([], [])
        ends.first_owed = owed[0].first_owed if owed else []
        ends.last_owed = owed[-1].last_owed if owed else []
        return ends

    def join(self, lasts: list[str], firsts: list[str]) -> None:
        """Add the way forth from some nodes to others: where many lead to many, through a node between them."""
        if len(lasts) > 1 and len(firsts) > 1:
            name = self.name()
            self.add(self.node(name, More("")))
            self.forth += [(last, name) for last in lasts]
            lasts = [name]
        self.forth += [(last, first) for last in lasts for first in firsts]

    def mesh(self, inner: list[Ends], needs: tuple[tuple[int, ...], ...]) -> Ends:
        """Join blocks to those that they wait for."""
        needed = {place for places in needs for place in places}
        for ends, places in zip(inner, needs, strict=True):
            for before in (inner[place] for place in places):
                self.join(before.lasts, ends.firsts)
        owed = {place for place, ends in enumerate(inner) if ends.first_owed}
        pairs, firsts, lasts = ways_back(needs, owed)
        for later, earlier in pairs:
            self.join_back(inner[later].first_owed, inner[earlier].last_owed)
        starts = [ends for ends, places in zip(inner, needs, strict=True) if not places]
        stops = [ends for place, ends in enumerate(inner) if place not in needed]
        return Ends(
            [name for ends in starts for name in ends.firsts],
            [name for ends in stops for name in ends.lasts],
            [each for place in firsts for each in inner[place].first_owed],
            [each for place in lasts for each in inner[place].last_owed],
        )

    def join_back(self, later: list[tuple[str, str]], earlier: list[tuple[str, str]]) -> None:
        """Add the way back from calls to those before them, by what compensates these."""
        self.back += [(node, before, function) for node, _ in later for before, function in earlier]


def net(graph: Drawing, parts: Net) -> tuple[str, str]:
    """Walk over a graph, from a node where it begins to one where it ends; return their names."""
    start, end = "begin", "finish"
    ends = parts.walk(graph.block)
    parts.forth += [(start, first) for first in ends.firsts] + [(last, end) for last in ends.lasts]
    if not ends.firsts:
        parts.forth.append((start, end))
    parts.back += [(end, node, function) for node, function in ends.last_owed]
    return start, end


# -- Mermaid ----------------------------------------------------------------------------------------------------------

TONES = ("good", "bad", "doubt", "busy", "back", "calm")


def mermaid(graph: Drawing) -> str:
    """Return a Mermaid flowchart."""

    def node(name: str, block: Call | More) -> str:
        return f"{name}[{_mermaid(_told(block))}]:::{block.tone if isinstance(block, Call) else 'calm'}"

    def open_box(name: str, box: Box) -> str:
        return f"subgraph {name}[{_mermaid(box.label)}]"

    parts = Net(node, open_box, "end")
    start, end = net(graph, parts)
    lines = [
        "flowchart TB",
        f"  %% {_mermaid(graph.title)}",
        f'  {start}(("#160;")):::calm',
        *parts.lines,
        f"  {end}([{_mermaid(graph.ending or 'end')}]):::{graph.tone}",
        *(f"  {one} --> {other}" for one, other in parts.forth),
        *_ways_back(parts, start),
        *(f"  classDef {tone} stroke:{LIGHT[tone]},stroke-width:2px" for tone in TONES),
        *(f"  %% {_mermaid(note)}" for note in graph.notes),
    ]
    return "\n".join(lines)


def _ways_back(parts: Net, start: str) -> Iterator[str]:
    """Yield the ways back. Mermaid lays a graph out by the first ways that it finds through it, depth first.

    Where a way back leads to what is on the way already, it is drawn upwards. One into a branch that is not (the other
    ones of ``parallel``) would pull that branch down, so it is a line that begins there, without a head.
    """
    came_from = {start: ""}
    ways: dict[str, list[str]] = {}
    for one, other in parts.forth:
        ways.setdefault(one, []).append(other)
    at = [(start, iter(ways.get(start, ())))]
    while at:
        here, others = at[-1]
        following = next((each for each in others if each not in came_from), None)
        if following is None:
            at.pop()
        else:
            came_from[following] = here
            at.append((following, iter(ways.get(following, ()))))
    for one, other, function in parts.back:
        here = one
        while here and here != other:
            here = came_from.get(here, "")
        label = _mermaid(function)
        yield f"  {one} -. {label} .-> {other}" if here else f"  {other} -. {label} .- {one}"


def _told(block: Call | More) -> str:
    if isinstance(block, More):
        return f"… {block.words}" if block.words else "·"
    return f"{block.label} ({block.words})" if block.words else block.label


def _mermaid(label: str) -> str:
    """Return a label in quotes; whatever could mean something in Mermaid, or in the HTML that it makes, is a number."""
    safe = "".join(c if c.isalnum() or c in " _.,:()/=…·" else f"#{ord(c)};" for c in label)
    return f'"{safe}"'


# -- DOT --------------------------------------------------------------------------------------------------------------


def dot(graph: Drawing) -> str:
    """Return a graph for Graphviz."""

    def node(name: str, block: Call | More) -> str:
        colour = LIGHT[block.tone if isinstance(block, Call) else "calm"]
        return f'{name} [label={_dot(_told(block))}, color="{colour}"];'

    def open_box(name: str, box: Box) -> str:
        style = "dashed" if box.maybe else "solid"
        return f'subgraph cluster_{name} {{ label={_dot(box.label)}; style={style}; color="{LIGHT[box.tone]}";'

    parts = Net(node, open_box, "}")
    start, end = net(graph, parts)
    lines = [
        f"digraph {_dot(graph.title)} {{",
        '  graph [fontname="sans-serif"]; edge [fontname="sans-serif", fontsize=10];',
        '  node [shape=box, style=rounded, fontname="sans-serif"];',
        f'  {start} [shape=circle, label="", width=0.2];',
        *parts.lines,
        f'  {end} [label={_dot(graph.ending or "end")}, color="{LIGHT[graph.tone]}"];',
        *(f"  {one} -> {other};" for one, other in parts.forth),
        *(
            f'  {one} -> {other} [style=dashed, constraint=false, color="{LIGHT["back"]}", label={_dot(function)}];'
            for one, other, function in parts.back
        ),
        "}",
        *(f"// {printable(note, 400)}" for note in graph.notes),
    ]
    return "\n".join(lines)


def _dot(label: str) -> str:
    """Return a label in quotes, without what Graphviz gives a meaning: backslashes and entities."""
    escaped = label.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
