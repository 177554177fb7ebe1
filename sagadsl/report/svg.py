"""Graphs as pictures: our own layout of series-parallel trees, top down, and of plans in layers.

The way forth runs down the middle, the way back up beside it, through a pill for each compensation. Two walks over the
tree do it: `measure` says how large a block is, `Canvas` puts it in its place. There is no script, no id and nothing to
fetch, so a picture can stand in any page; arrow heads are drawn, since a marker would need an id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

from attrs import Factory, define, frozen

from sagadsl.report.blocks import Block, Box, Call, Drawing, Fork, Mesh, More, Series, ways_back
from sagadsl.report.html import escaped
from sagadsl.report.style import themed, tones
from sagadsl.report.words import printable, width

NODE, PILL, END, LINE = 42.0, 22.0, 26.0, 24.0
"""Heights in pixels: of a node, of a pill, of where it ends, and of a line of text."""
DOWN, ACROSS, LANE, PAD, ASIDE = 26.0, 30.0, 20.0, 16.0, 14.0
"""Distances: between blocks in a row, side by side, from a node to its pill, from a box to what is in it, and from what
is side by side to where its ways back are one."""
MARGIN = 22.0

STYLE = f"""
{themed(".sagadsl-graph")}{tones(".sagadsl-graph ")}
.sagadsl-graph{{font:13px system-ui,sans-serif;max-width:100%;height:auto}}
.sagadsl-graph .s-page{{fill:var(--jp-layout-color0,var(--s-bg))}}
.sagadsl-graph text{{fill:var(--s-fg)}}
.sagadsl-graph .s-title{{font-weight:600;font-size:14px}}
.sagadsl-graph .s-small{{font-size:11px;fill:var(--s-dim)}}
.sagadsl-graph .s-word{{font-size:11px;fill:var(--s-tone)}}
.sagadsl-graph .s-node{{fill:color-mix(in srgb,var(--s-tone) 9%,var(--s-bg));stroke:var(--s-tone);stroke-width:1.4}}
.sagadsl-graph .s-pill{{fill:var(--s-bg);stroke:var(--s-tone);stroke-width:1.2;stroke-dasharray:4 3}}
.sagadsl-graph .s-was{{stroke-dasharray:none;fill:color-mix(in srgb,var(--s-tone) 14%,var(--s-bg))}}
.sagadsl-graph .s-box{{fill:var(--s-soft);fill-opacity:.45;stroke:var(--s-tone);stroke-opacity:.55}}
.sagadsl-graph .s-maybe{{stroke-dasharray:5 4}}
.sagadsl-graph .s-way{{fill:none;stroke:var(--s-dim);stroke-width:1.4}}
.sagadsl-graph .s-bar{{stroke:var(--s-dim);stroke-width:3.5;stroke-linecap:round}}
.sagadsl-graph .s-return{{fill:none;stroke:var(--s-tone);stroke-width:1.3;stroke-dasharray:5 4}}
.sagadsl-graph .s-tip{{fill:var(--s-dim)}}
.sagadsl-graph .s-returntip{{fill:var(--s-tone)}}
""".replace("\n", "")


@frozen
class Point:
    """A place where the way back arrives or goes on, the tone of the compensation there, and whether it is its pill."""

    x: float
    y: float
    tone: str
    is_pill: bool = True


def svg(graph: Drawing) -> str:
    """Return a graph as SVG."""
    size = measure(graph.block)
    ending = printable(graph.ending or "end", 60)
    last = Size(wide(ending) + 28, END, (wide(ending) + 28) / 2)
    left = max(size.axis, last.axis)
    notes = [printable(note, 160) for note in graph.notes]
    texts = [wide(printable(graph.title, 120)) * 1.12, *(wide(note) for note in notes)]
    whole = max(left + max(size.width - size.axis, last.width - last.axis), *texts) + 2 * MARGIN
    top = MARGIN + LINE
    canvas = Canvas()
    canvas.text(MARGIN, MARGIN + 8, printable(graph.title, 120), "s-title")
    axis = MARGIN + left
    canvas.add(f'<circle class="s-tip" cx="{axis:.1f}" cy="{top + 6:.1f}" r="6"/>')
    at = top + 12
    ways = Ways()
    if size.height:
        canvas.down(axis, at, at + DOWN)
        ways = canvas.put(graph.block, axis - size.axis, at + DOWN)
        at += DOWN + size.height
    canvas.down(axis, at, at + DOWN)
    at += DOWN
    canvas.rounded(axis - last.axis, at, last.width, END, f"s-node s-{graph.tone}", END / 2)
    canvas.text(axis, at + 17, ending, f"s-{graph.tone}", anchor="middle")
    for arrival in ways.arrivals:
        canvas.back_from_side(Point(axis + last.axis, at + END / 2, arrival.tone), arrival)
    for departure in ways.departures:
        canvas.back_into_side(departure, Point(axis + 8, top + 6, departure.tone))
    at += END + 8
    for note in notes:
        at += LINE
        canvas.text(MARGIN, at - 6, note, "s-small")
    high = at + MARGIN - 8
    return (
        f'<svg class="sagadsl-graph" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole:.0f} {high:.0f}" '
        f'width="{whole:.0f}" height="{high:.0f}" role="img"><style>{STYLE}</style>'
        f"<title>{escaped(printable(graph.title, 120))}</title>"
        f'<rect class="s-page" width="{whole:.0f}" height="{high:.0f}" rx="8"/>{"".join(canvas.shapes)}</svg>'
    )


def wide(text: str, scale: float = 1.0) -> float:
    """Return about how wide a text is in a sans-serif font of 13 pixels, rather more than less."""
    return 7.6 * width(text) * scale


# -- how large --------------------------------------------------------------------------------------------------------


@frozen
class Size:
    """How large a block is, and where its axis is: the way forth enters above it and leaves below."""

    width: float
    height: float
    axis: float


@frozen
class Row:
    """Half of what the widest node of a row takes, and what its widest pill takes: all are as wide as these."""

    half: float
    pill: float

    @classmethod
    def of(cls, blocks: Iterable[Block]) -> Row:
        """Measure the nodes and the pills that stand in a row by themselves."""
        calls = [block for block in blocks if isinstance(block, Call)]
        halves = (max(46.0, wide(c.label) / 2 + 16, wide(c.words, 0.85) / 2 + 16) for c in calls)
        pills = (wide(c.back, 0.85) + 34 for c in calls if c.back)
        return cls(max(halves, default=0.0), max(pills, default=0.0))


def measure(block: Block, row: Row | None = None) -> Size:
    """Return the size of a block; a call is as wide as its *row*."""
    if isinstance(block, Call):
        row = row or Row.of([block])
        return Size(2 * row.half + (LANE + row.pill if block.back else 0.0), NODE, row.half)
    if isinstance(block, More):
        return Size(wide(block.words) + 30, LINE, wide(block.words) / 2 + 15)
    if isinstance(block, Series):
        row = Row.of(block.blocks)
        return _beneath([measure(each, row) for each in block.blocks])
    if isinstance(block, Fork):
        sizes = [measure(each) for each in block.blocks]
        whole = sum(size.width for size in sizes) + ACROSS * (len(sizes) - 1)
        return Size(whole + ASIDE, max(size.height for size in sizes) + 2 * DOWN, whole / 2)
    if isinstance(block, Box):
        size = measure(block.inner)
        inner = size.height + PAD if size.height else 0.0
        left = max(size.axis, 20.0)
        right = max(size.width - size.axis, 20.0, wide(block.label) + 2 - left)
        return Size(left + right + 2 * PAD, LINE + inner + 8, left + PAD)
    return Layers.of(block).size


def _beneath(sizes: Sequence[Size]) -> Size:
    if not sizes:
        return Size(0.0, 0.0, 0.0)
    left = max(size.axis for size in sizes)
    right = max(size.width - size.axis for size in sizes)
    return Size(left + right, sum(size.height for size in sizes) + DOWN * (len(sizes) - 1), left)


@frozen
class Layers:
    """The blocks of a mesh in layers, each below those that it waits for, and where each of them stands.

    A way that passes a layer has a place there of its own; such places have numbers from that of the last block on.
    *hops* lead from a place to one in the next layer; *ends* are the places that nothing waits for.
    """

    size: Size
    sizes: list[Size]
    places: dict[int, tuple[float, float]]
    hops: list[tuple[int, int]]
    starts: list[int]
    ends: list[int]

    @classmethod
    def of(cls, mesh: Mesh) -> Layers:
        """Arrange a mesh."""
        sizes = [measure(block) for block in mesh.blocks]
        depth: list[int] = [0] * len(sizes)
        for _ in sizes:  # as often as the longest way has steps, at most
            deeper = [max((depth[need] + 1 for need in needs), default=0) for needs in mesh.needs]
            if deeper == depth:
                break
            depth = [min(each, len(sizes)) for each in deeper]
        rows: list[list[int]] = [[] for _ in range(max(depth, default=-1) + 1)]
        for place, row in enumerate(depth):
            rows[row].append(place)
        hops: list[tuple[int, int]] = []

        def lead(start: int, until: int, end: int | None) -> int:
            """Lead a way down to a place, or to the lowest layer, by places of its own."""
            for row in range(depth[start] + 1, until):
                sizes.append(Size(14.0, 0.0, 7.0))
                rows[row].append(len(sizes) - 1)
                hops.append((start, len(sizes) - 1))
                start = len(sizes) - 1
                depth.append(row)
            if end is not None:
                hops.append((start, end))
            return start

        needed = {need for needs in mesh.needs for need in needs}
        for place, needs in enumerate(mesh.needs):
            for need in needs:
                lead(need, depth[place], place)
        ends = [lead(place, len(rows), None) for place in range(len(mesh.blocks)) if place not in needed]
        places, size = _arranged(rows, sizes, hops)
        return cls(size, sizes, places, hops, rows[0] if rows else [], ends)


def _arranged(
    rows: list[list[int]], sizes: list[Size], hops: list[tuple[int, int]]
) -> tuple[dict[int, tuple[float, float]], Size]:
    """Return where the places of each layer stand: below those that lead to them, and in the middle of the whole."""
    whole = max((sum(sizes[p].width for p in row) + ACROSS * (len(row) - 1) for row in rows), default=0.0)
    places: dict[int, tuple[float, float]] = {}
    y = DOWN
    for row in rows:
        above = {p: [places[a][0] + sizes[a].axis for a, b in hops if b == p and a in places] for p in row}
        row.sort(key=lambda p: sum(above[p]) / len(above[p]) if above[p] else whole / 2)
        x = (whole - sum(sizes[p].width for p in row) - ACROSS * (len(row) - 1)) / 2
        for place in row:
            places[place] = (x, y)
            x += sizes[place].width + ACROSS
        y += max(sizes[p].height for p in row) + 2 * DOWN
    return places, Size(whole + ASIDE, y - DOWN if rows else 0.0, whole / 2)


# -- where ------------------------------------------------------------------------------------------------------------


@define
class Ways:
    """Where the way back comes to the last compensations of a block, and goes on from its first ones."""

    arrivals: list[Point] = Factory(list)
    departures: list[Point] = Factory(list)


class Canvas:
    """What is drawn so far. Edges are drawn before what they lead to, so that they end at its border."""

    def __init__(self) -> None:
        self.shapes: list[str] = []

    def add(self, shape: str) -> None:
        """Draw a shape."""
        self.shapes.append(shape)

    def put(self, block: Block, x: float, y: float, row: Row | None = None) -> Ways:
        """Draw a block whose left upper corner is there; return its ways back."""
        if isinstance(block, Call):
            return self.call(block, x, y, row or Row.of([block]))
        if isinstance(block, More):
            self.text(x + measure(block).axis, y + 16, f"… {block.words}", "s-small", anchor="middle")
            return Ways()
        if isinstance(block, Series):
            return self.series(block, x, y)
        if isinstance(block, Fork):
            return self.fork(block, x, y)
        if isinstance(block, Box):
            size = measure(block)
            self.rounded(x, y, size.width, size.height, f"s-box s-{block.tone}{' s-maybe' if block.maybe else ''}", 9)
            self.text(x + PAD, y + 17, block.label, f"s-small s-{block.tone}")
            return self.put(block.inner, x + size.axis - measure(block.inner).axis, y + LINE + 4)
        return self.mesh(block, x, y)

    def call(self, call: Call, x: float, y: float, row: Row) -> Ways:
        """Draw a node, and its compensation as a pill beside it."""
        half = row.half
        self.rounded(x, y, 2 * half, NODE, f"s-node s-{call.tone}", 7)
        middle = y + NODE / 2
        self.text(x + half, middle + (-2 if call.words else 4.5), call.label, anchor="middle")
        if call.words:
            self.text(x + half, middle + 13, call.words, f"s-word s-{call.tone}", anchor="middle")
        if not call.back:
            return Ways()
        long = wide(call.back, 0.85) + 34
        lane = x + 2 * half + LANE + row.pill / 2
        beside = lane - long / 2
        was = "" if call.back_tone == "calm" else " s-was"
        self.add(f'<path class="s-return s-{call.back_tone}" d="M{x + 2 * half:.1f} {middle:.1f}H{beside:.1f}"/>')
        self.rounded(beside, middle - PILL / 2, long, PILL, f"s-pill s-{call.back_tone}{was}", PILL / 2)
        self.text(lane, middle + 4, f"↶ {call.back}", f"s-word s-{call.back_tone}", anchor="middle")
        return Ways([Point(lane, middle + PILL / 2, call.back_tone)], [Point(lane, middle - PILL / 2, call.back_tone)])

    def series(self, block: Series, x: float, y: float) -> Ways:
        """Draw blocks one after the other on one axis, and the way back past those that have none."""
        row = Row.of(block.blocks)
        sizes = [measure(each, row) for each in block.blocks]
        axis = x + _beneath(sizes).axis
        ways, passed = Ways(), 0.0
        for at, (each, size) in enumerate(zip(block.blocks, sizes, strict=True)):
            if at:
                self.down(axis, y - DOWN, y)
            inner = self.put(each, axis - size.axis, y, row)
            if inner.arrivals:
                self.all_back(inner, ways, passed)
                ways.departures = ways.departures or inner.departures
                ways.arrivals, passed = inner.arrivals, 0.0
            else:
                passed = max(passed, axis - size.axis + size.width)
            y += size.height + DOWN
        return ways

    def fork(self, block: Fork, x: float, y: float) -> Ways:
        """Draw blocks side by side, between two bars where all of them are done."""
        sizes = [measure(each) for each in block.blocks]
        whole = measure(block)
        bottom, middle = y + whole.height, x + whole.axis
        ways = Ways()
        axes = [middle]
        right = x + whole.width
        for each, size in zip(block.blocks, sizes, strict=True):
            axes.append(x + size.axis)
            self.down(x + size.axis, y, y + DOWN)
            self.line(x + size.axis, y + DOWN + size.height, bottom)
            inner = self.put(each, x, y + DOWN)
            ways.arrivals += inner.arrivals
            ways.departures += inner.departures
            x += size.width + ACROSS
        for level in (y, bottom):
            self.bar(axes, level, is_bold=block.all)
        return self.gathered(ways, right, y, bottom)

    def mesh(self, block: Mesh, x: float, y: float) -> Ways:
        """Draw the blocks of a plan in layers, with a way from each to those that wait for it."""
        layers = Layers.of(block)

        def above(place: int) -> tuple[float, float]:
            left, top = layers.places[place]
            return x + left + layers.sizes[place].axis, y + top

        def below(place: int) -> tuple[float, float]:
            across, top = above(place)
            return across, top + layers.sizes[place].height

        for one, other in layers.hops:
            self.curve(below(one), above(other), is_end=other < len(block.blocks))
        bottom = y + layers.size.height
        for place in layers.starts:
            self.down(above(place)[0], y, above(place)[1])
        for place in layers.ends:
            self.line(below(place)[0], below(place)[1], bottom)
        middle = x + layers.size.axis
        self.bar([middle, *(above(place)[0] for place in layers.starts)], y, is_bold=False)
        self.bar([middle, *(below(place)[0] for place in layers.ends)], bottom, is_bold=False)
        inner = [
            self.put(each, x + layers.places[p][0], y + layers.places[p][1]) for p, each in enumerate(block.blocks)
        ]
        pairs, firsts, lasts = ways_back(block.needs, {place for place, way in enumerate(inner) if way.arrivals})
        for later, earlier in pairs:
            self.all_back(inner[later], inner[earlier])
        ways = Ways(
            [point for place in lasts for point in inner[place].arrivals],
            [point for place in firsts for point in inner[place].departures],
        )
        return self.gathered(ways, x + layers.size.width, y, bottom)

    def gathered(self, ways: Ways, right: float, top: float, bottom: float) -> Ways:
        """Draw the ways back of what is side by side as one, which comes and goes at the right, past all of them."""
        if not ways.arrivals:
            return ways
        tones = {point.tone for point in (*ways.arrivals, *ways.departures)}
        tone = tones.pop() if len(tones) == 1 else "calm"
        low, high = bottom - DOWN / 2, top + DOWN / 2
        for point in ways.arrivals:
            self.dashed(point.tone, f"M{point.x:.1f} {low:.1f}V{point.y + 6:.1f}")
            self.tip(point)
        for point in ways.departures:
            self.dashed(point.tone, f"M{point.x:.1f} {point.y:.1f}V{high:.1f}")
        self.dashed(tone, f"M{right:.1f} {low:.1f}H{min(point.x for point in ways.arrivals):.1f}")
        self.dashed(tone, f"M{min(point.x for point in ways.departures):.1f} {high:.1f}H{right:.1f}")
        return Ways([Point(right, low, tone, False)], [Point(right, high, tone, False)])  # noqa: FBT003

    # -- lines --------------------------------------------------------------------------------------------------------

    def down(self, x: float, top: float, bottom: float) -> None:
        """Draw an arrow downwards."""
        self.line(x, top, bottom - 6)
        self.add(f'<path class="s-tip" d="M{x:.1f} {bottom:.1f}l-4.5 -8h9z"/>')

    def line(self, x: float, top: float, bottom: float) -> None:
        """Draw a line downwards."""
        self.add(f'<path class="s-way" d="M{x:.1f} {top:.1f}V{bottom:.1f}"/>')

    def bar(self, axes: Iterable[float], y: float, *, is_bold: bool) -> None:
        """Draw what ways part from, or meet in."""
        left, right = min(axes := [*axes]), max(axes)
        self.add(f'<path class="{"s-bar" if is_bold else "s-way"}" d="M{left:.1f} {y:.1f}H{right:.1f}"/>')

    def curve(self, start: tuple[float, float], end: tuple[float, float], *, is_end: bool) -> None:
        """Draw a way downwards between two places, with an arrow head where it ends."""
        (x, y), (to_x, to_y) = start, end
        to = to_y - 6 if is_end else to_y
        half = (to - y) / 2
        bend = f"C{x:.1f} {y + half:.1f} {to_x:.1f} {to - half:.1f} {to_x:.1f} {to:.1f}"
        self.add(f'<path class="s-way" d="M{x:.1f} {y:.1f}{bend}"/>')
        if is_end:
            self.add(f'<path class="s-tip" d="M{to_x:.1f} {to_y:.1f}l-4.5 -8h9z"/>')

    def all_back(self, later: Ways, earlier: Ways, passed: float = 0.0) -> None:
        """Draw the ways between two blocks, around what is *passed* between them."""
        for start, end in product(later.departures, earlier.arrivals):
            self.back(start, end, passed)

    def back(self, start: Point, end: Point, passed: float = 0.0) -> None:
        """Draw a way upwards, in the tone of the compensation that it leads to; around what is *passed*."""
        out = max(start.x, end.x, passed + 14 if passed > min(start.x, end.x) - 20 else 0.0)
        stop = end.y + 6 if end.is_pill else end.y
        reach = (start.y - stop) * 0.45
        bend = f"C{out:.1f} {start.y - reach:.1f} {out:.1f} {stop + reach:.1f} {end.x:.1f} {stop:.1f}"
        self.dashed(end.tone, f"M{start.x:.1f} {start.y:.1f}{bend}")
        self.tip(end)

    def back_from_side(self, start: Point, end: Point) -> None:
        """Draw a way that begins at the right of where the graph ends."""
        stop = end.y + 6 if end.is_pill else end.y
        self.dashed(
            end.tone,
            f"M{start.x:.1f} {start.y:.1f}C{end.x:.1f} {start.y:.1f} {end.x:.1f} {start.y:.1f} {end.x:.1f} {stop:.1f}",
        )
        self.tip(end)

    def back_into_side(self, start: Point, end: Point) -> None:
        """Draw a way that ends at the right of where the graph begins."""
        bend = f"C{start.x:.1f} {end.y:.1f} {start.x:.1f} {end.y:.1f} {end.x + 6:.1f} {end.y:.1f}"
        self.dashed(end.tone, f"M{start.x:.1f} {start.y:.1f}{bend}")
        self.add(f'<path class="s-returntip s-{end.tone}" d="M{end.x:.1f} {end.y:.1f}l8 -4.5v9z"/>')

    def dashed(self, tone: str, path: str) -> None:
        """Draw a part of the way back."""
        self.add(f'<path class="s-return s-{tone}" d="{path}"/>')

    def tip(self, point: Point) -> None:
        """Draw an arrow head upwards, into a pill."""
        if point.is_pill:
            self.add(f'<path class="s-returntip s-{point.tone}" d="M{point.x:.1f} {point.y:.1f}l-4.5 8h9z"/>')

    def rounded(self, x: float, y: float, across: float, down: float, name: str, radius: float) -> None:
        """Draw a rectangle with round corners."""
        self.add(
            f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" width="{across:.1f}" height="{down:.1f}" rx="{radius:g}"/>'
        )

    def text(self, x: float, y: float, text: str, name: str = "", anchor: str = "start") -> None:
        """Write a text."""
        if text:
            kind = f' class="{name}"' if name else ""
            self.add(f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escaped(text)}</text>')
