"""The `Graph` that users hold, and where graphs come from: a run's record, a plan's nodes, a saga's code (``body``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any

from sagadsl._core.values import StepStatus
from sagadsl._core.values.seen import RunInfo, StepInfo
from sagadsl.report.blocks import LABEL, Block, Box, Call, Drawing, Fork, Mesh, More, joined
from sagadsl.report.story import TONES, Gap, folded, run_tone, step_tone, step_words
from sagadsl.report.words import printable, span, status_words

MOST = 60
"""Blocks in a row that are drawn, before the middle is folded."""


class Graph(Drawing):
    """A saga, a run or a plan as a picture: `svg`, `mermaid`, `dot`, or as text, which is what ``str`` gives.

    *notes* say what the picture cannot show. Its edges go forth, and dashed ones back, through the compensations.
    """

    __slots__ = ()

    def __str__(self) -> str:
        """Give the graph as text: what is called, indented by what it belongs to, with what compensates it."""
        from sagadsl.report.notation import text

        return text(self)

    __repr__ = __str__

    def svg(self) -> str:
        """Return a picture as SVG, light and dark, without script or anything that is fetched."""
        from sagadsl.report.svg import svg

        return svg(self)

    def mermaid(self) -> str:
        """Return a Mermaid flowchart: what GitHub and JupyterLab draw from a code block of that language."""
        from sagadsl.report.notation import mermaid

        return mermaid(self)

    def dot(self) -> str:
        """Return a graph for Graphviz."""
        from sagadsl.report.notation import dot

        return dot(self)

    def save(self, path: str | PathLike[str]) -> None:
        """Write it to a file, in the format of its name's ending: ``.svg``, ``.mmd``, ``.dot`` or ``.txt``.

        Raises:
            ValueError: The name ends otherwise.
        """
        formats = {".svg": self.svg, ".mmd": self.mermaid, ".mermaid": self.mermaid, ".dot": self.dot, ".gv": self.dot}
        ending = Path(path).suffix
        if ending not in {*formats, ".txt"}:
            msg = f"{path}: a graph is saved as .svg, .mmd, .dot or .txt"
            raise ValueError(msg)
        Path(path).write_text(formats.get(ending, self.__str__)() + "\n", encoding="utf-8")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002  # IPython's
        picture = self.svg()
        return {"text/plain": str(self), "text/html": picture, "image/svg+xml": picture}


# -- of a run ---------------------------------------------------------------------------------------------------------


def of_run(run: RunInfo) -> Graph:
    """Return the graph of what a run has done, in its colours."""
    keys = {step.key for step in run.steps}
    inside: dict[str, list[StepInfo]] = {}
    for step in run.steps:
        scope = step.key.rpartition("/")[0]
        inside.setdefault(scope if scope in keys else "", []).append(step)
    title = f"{printable(run.saga, LABEL)} {printable(run.id, 80)}"
    return Graph(
        title=title,
        block=_recorded(inside.get("", []), inside, run),
        ending=status_words(run),
        tone=run_tone(run),
        notes=() if run.steps else ("it has called nothing yet",),
    )


def _recorded(steps: Sequence[StepInfo], inside: Mapping[str, Sequence[StepInfo]], run: RunInfo) -> Block:
    """Return calls of one scope as a block; those that overlapped in time stand side by side."""
    groups: list[list[StepInfo]] = []
    last: datetime | None = None
    is_open = False
    for step in steps:
        overlaps = is_open or (last is not None and step.started is not None and step.started < last)
        if not (groups and overlaps):
            groups.append([])
            last, is_open = None, False
        groups[-1].append(step)
        is_open = is_open or (step.ended is None and step.status == StepStatus.ENTERED)
        last = max((when for when in (last, step.ended) if when is not None), default=None)
    blocks: list[Block] = []
    for group in folded(groups, MOST, _matters, _as_gap):
        if isinstance(group, Gap):
            blocks.append(More(group.words))
        else:
            few = folded(
                group, MOST // 4, lambda step: step.status != StepStatus.DONE, lambda f: Gap(f"{len(f):,} more")
            )
            side = tuple(More(s.words) if isinstance(s, Gap) else _call(s, inside, run) for s in few)
            blocks.append(side[0] if len(side) == 1 else Fork(side))
    return joined(blocks)


def _matters(group: Sequence[StepInfo]) -> bool:
    return any(step.status != StepStatus.DONE for step in group)


def _as_gap(groups: Sequence[Sequence[StepInfo]]) -> Gap:
    return Gap(f"{sum(map(len, groups)):,} more")


def _call(step: StepInfo, inside: Mapping[str, Sequence[StepInfo]], run: RunInfo) -> Block:
    label = printable(step.key.rpartition("/")[2], LABEL)
    children = inside.get(step.key, ())
    if step.branch and children and all(child.branch for child in children):
        return Fork(tuple(_recorded(inside.get(child.key, ()), inside, run) for child in children[: MOST // 4]))
    if step.saga:
        return Box(label=label, inner=_recorded(children, inside, run), tone=step_tone(step, run))
    took = span(step.seconds) if step.seconds is not None else ""
    tries = f"{step.attempts} attempts" if step.attempts > 1 else ""
    stands = "cannot be undone" if step.standing else ""
    return Call(
        label=label,
        tone=step_tone(step, run),
        words=" · ".join(each for each in (step_words(step, run), took, tries, stands) if each),
        back=printable(step.compensation, LABEL) if step.compensation else "",
        back_tone=_back_tone(step),
    )


def _back_tone(step: StepInfo) -> str:
    if step.status in {StepStatus.COMPENSATED, StepStatus.SKIPPED}:
        return TONES[step.status]
    return "bad" if step.compensation_error else "busy" if step.compensation_attempts else "calm"


# -- of a plan --------------------------------------------------------------------------------------------------------


def of_plan(title: str, blocks: Sequence[Block], needs: Sequence[Sequence[int]]) -> Graph:
    """Return the graph of a plan: its calls, and the places of those that each of them waits for."""
    return Graph(title=printable(title, LABEL), block=Mesh(tuple(blocks), tuple(tuple(each) for each in needs)))


def call_of(spec: Any, label: str = "") -> Call:
    """Return what a call of a step is, of its specification."""
    words = {"irreversible": "cannot be undone", "pivot": "point of no return"}
    back = spec.compensation.function if spec.compensation is not None else None
    return Call(
        label=printable(label or spec.name, LABEL),
        words=words.get(spec.standing.value, "") if spec.standing is not None else "",
        back=printable(getattr(back, "__qualname__", type(back).__name__), LABEL) if back is not None else "",
    )
