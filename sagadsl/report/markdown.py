"""A report as Markdown, as GitHub shows it: in an issue, a pull request, the summary of a workflow's run.

What a run holds is put between ``<code>`` and ``</code>`` with every character that Markdown, HTML or GitHub gives a
meaning as a number, so that it neither ends a table's cell nor calls somebody by their name. What is to be typed stands
in a fence that is longer than any in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from sagadsl.report.blocks import Drawing
from sagadsl.report.notation import mermaid
from sagadsl.report.story import Gap, Line, Story
from sagadsl.report.style import GLYPHS

_MEANT = re.compile(r"""[^\w :,.()/='"%?+{}…-]|_|:(?! |\d\d)|(?<=www)\.""")
"""Characters that could mean something, anywhere."""


def story_markdown(told: Story, drawing: Drawing) -> str:
    """Return what is told of a run as Markdown; its graph follows, for Mermaid to be drawn."""
    return "\n\n".join("\n".join(part) for part in _parts(told, drawing)) + "\n"


def _parts(told: Story, drawing: Drawing) -> Iterator[Iterable[str]]:
    yield [f"## {glyph(told.sign)} {code(told.saga)}: {told.words}"]
    yield _table(("", ""), [("run", code(told.id)), *((name, code(text)) for name, text in _facts(told))])
    if told.steps:
        yield ["### What happened"]
        yield _table(("at", "", "step", "", ""), _lines(told.steps))
    if told.compensated:
        yield ["### Compensations, in order"]
        yield _table(("at", "", "compensation", "", ""), _lines(told.compensated))
    if told.owed:
        yield ["### To compensate, in this order"]
        yield [*_owed(told)]
    if told.standing:
        yield ["### Still standing"]
        yield [f"* {code(key)}: {why}" for key, why in told.standing]
    yield [f"### What now: {told.who}"]
    for name, text in told.now:
        before, typed, command = text.partition("sagadsl")
        told_first = literal(before.rstrip(": "))
        yield [f"* {name}: {told_first}" if told_first else f"* {name}"]
        if typed:
            yield [f"  {line}" for line in fenced(typed + command, "python" if command.startswith(".") else "sh")]
    yield ["<details><summary>graph</summary>"]
    yield fenced(mermaid(drawing), "mermaid")
    yield ["</details>"]


def _facts(told: Story) -> list[tuple[str, str]]:
    return [("saga", told.title), *told.facts]


def _lines(lines: Sequence[Line | Gap]) -> Iterator[tuple[str, ...]]:
    for line in lines:
        if isinstance(line, Gap):
            yield "", "", f"… {line.words}", "", ""
            continue
        yield line.at, glyph(line.sign), code(line.name), line.words, "; ".join(map(code, line.notes))
        for number, words, text in line.attempts:
            yield "", "", number, words, code(text)


def _owed(told: Story) -> Iterator[str]:
    for row in told.owed:
        if isinstance(row, Gap):
            yield f"* … {row.words}"
        else:
            number, function, step, note = row
            yield f"{number}. {code(function)} {code(step)} {note}".rstrip()


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def glyph(sign: str) -> str:
    """Return a sign as it is drawn."""
    return GLYPHS.get(sign, sign)


def code(text: str) -> str:
    """Return text that means itself, as code."""
    return f"<code>{literal(text)}</code>" if text.strip() else ""


def literal(text: str) -> str:
    """Return text that means itself."""
    return _MEANT.sub(lambda found: f"&#{ord(found[0])};", text)


def fenced(text: str, language: str) -> list[str]:
    """Return lines as a block of code."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", *text.split("\n"), fence]
