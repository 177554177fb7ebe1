"""Runs as HTML: a fragment for notebooks, without script, ids or anything that is fetched, in the reader's colours.

A fragment brings its own style and keeps it to itself. Whatever its run holds, it is smaller than `LARGEST`: a long
run is folded as in text, and values are cut shorter where they are many. What is looked up (arguments, results,
attempts) is behind its line, in ``<details>``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, tzinfo

from sagadsl._core.values.seen import RunInfo, StepInfo
from sagadsl.report.story import Gap, Line, Story, owed, run_tone, story
from sagadsl.report.style import GLYPHS, PAGE, STYLE
from sagadsl.report.text import HEADINGS, runs_rows

LARGEST = 190_000
"""Bytes of a fragment."""
LIMITS = (400, 160, 80, 40, 12)
"""Characters of a value that are shown, at most: the longest that keep a fragment below `LARGEST`."""
RUNS = 200
"""Runs of a list that are shown."""

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})


def escaped(text: str) -> str:
    """Return text that means itself in HTML and in SVG, in an attribute too."""
    return text.translate(_ESCAPES)


def run_html(run: RunInfo, options: str = "", *, zone: tzinfo = UTC) -> str:
    """Return a run as a fragment: what `run_text` tells, with the arguments and results of each step to be opened.

    Times stand in *zone*; *options* follows each command to type.
    """
    for limit in LIMITS:
        shown = wrapped(story_html(story(run, options=options, zone=zone, limit=limit)))
        if len(shown.encode()) < LARGEST:
            break
    return shown


def page(told: Story, picture: str) -> str:
    """Return a report as a page of its own: what is told of a run, and its *picture*.

    The page allows itself nothing but its own style, so that nothing it holds can be executed or fetched.
    """
    title = escaped(f"{told.saga} {told.id}: {told.words}")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        f"<title>{title}</title>{PAGE}</head><body>{wrapped(story_html(told))}"
        f'<div class="s-picture">{picture}</div></body></html>\n'
    )


def progress_html(run: RunInfo) -> str:
    """Return a run that goes on as a fragment: how it stands, and a line a step."""
    told = story(run, limit=LIMITS[-2])
    return wrapped(_head(told) + _rows(told.steps))


def runs_html(runs: Sequence[RunInfo]) -> str:
    """Return runs as a table."""
    heads = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
    rows = (_run_row(run, cells) for run, cells in zip(runs, runs_rows(runs[:RUNS]), strict=False))
    more = f"<p class=s-dim>… {len(runs) - RUNS:,} more</p>" if len(runs) > RUNS else ""
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>{more}"
    return wrapped(table if runs else "<p class=s-dim>no runs</p>")


def stack_html(stack: Sequence[StepInfo]) -> str:
    """Return a compensation stack as a list, the first to be compensated first."""
    rows = [*owed(stack)]
    shown: list[tuple[str, str, str, str] | Gap] = [*rows[:RUNS]]
    if len(rows) > RUNS:
        shown.append(Gap(f"{len(rows) - RUNS:,} more"))
    return wrapped(_stack(shown) if rows else "<p class=s-dim>nothing is owed</p>")


def wrapped(inner: str) -> str:
    """Return a fragment: its style and what it shows."""
    return f'<div class="sagadsl">{STYLE}{inner}</div>'


def _run_row(run: RunInfo, cells: list[str]) -> str:
    shown, saga, state, *others = map(escaped, cells)
    sign, _, words = state.partition(" ")
    told = "".join(f"<td>{cell}</td>" for cell in others)
    state = f'<td class="s-state s-{run_tone(run)}">{glyph(sign)} {words}</td>'
    return f"<tr><td><code>{shown}</code></td><td>{saga}</td>{state}{told}</tr>"


# -- one run ----------------------------------------------------------------------------------------------------------


def story_html(told: Story) -> str:
    """Return what is told of a run as HTML, without its style."""
    return "".join(_parts(told))


def _parts(told: Story) -> Iterator[str]:
    yield _head(told)
    yield pairs([("saga", told.title), *told.facts])
    yield _rows(told.steps)
    if told.compensated:
        yield part("compensations", "in order") + _rows(told.compensated)
    if told.owed:
        yield part("to compensate", "in this order") + _stack(told.owed)
    if told.standing:
        yield part("still standing") + pairs(told.standing)
    yield f'<div class="s-now s-{told.tone}"><b>what now</b>: {escaped(told.who)}{_now(told.now)}</div>'


def _head(told: Story) -> str:
    return (
        f'<div class="s-head"><b>{escaped(told.saga)}</b> <code>{escaped(told.id)}</code> '
        f'<span class="s-pill s-{told.tone}">{glyph(told.sign)} {escaped(told.words)}</span></div>'
    )


def _rows(lines: Sequence[Line | Gap]) -> str:
    return f'<div class="s-rows">{"".join(map(_line, lines))}</div>' if lines else ""


def part(name: str, note: str = "") -> str:
    """Return the heading of a part."""
    return f'<div class="s-part">{name}{f" <small>{note}</small>" if note else ""}</div>'


def pairs(named: Sequence[tuple[str, str]]) -> str:
    """Return names and texts."""
    return f"<dl>{''.join(f'<dt>{escaped(name)}</dt> <dd>{escaped(text)}</dd> ' for name, text in named)}</dl>"


def glyph(sign: str) -> str:
    """Return a sign as it is drawn."""
    return escaped(GLYPHS.get(sign, sign))


def _line(line: Line | Gap) -> str:
    if isinstance(line, Gap):
        return f'<div class="s-gap">… {escaped(line.words)}</div>'
    bar = ""
    if line.share is not None:
        start, length = (f"{100 * each:.2f}%" for each in line.share)
        bar = f'<i style="left:min({start},100% - 3px);width:{length}"></i>'
    cells = (
        f'<span class="s-sign">{glyph(line.sign)}</span> <span class="s-at">{line.at}</span> '
        f'<span class="s-name">{_key(line.name)}</span> <span class="s-bar">{bar}</span> '
        f'<span class="s-words">{escaped(line.words)}</span> '
        f'<span class="s-notes">{escaped("; ".join(line.notes))}</span>'
    )
    looked_up = [*((number, ": ".join(filter(None, how))) for number, *how in line.attempts), *line.details]
    if not looked_up:
        return f'<div class="s-row s-{line.tone}">{cells}</div>'
    return f'<details class="s-{line.tone}"><summary>{cells}</summary>{pairs(looked_up)}</details>'


def _key(key: str) -> str:
    """Return a key whose scope is less than its name, and which may be broken where scopes end."""
    scope, slash, name = key.rpartition("/")
    inside = escaped(scope + slash).replace("/", "/<wbr>")
    return f'<span class="s-dim">{inside}</span>{escaped(name)}' if slash else escaped(name)


def _stack(rows: Sequence[tuple[str, str, str, str] | Gap]) -> str:
    return f"<ol>{''.join(map(_entry, rows))}</ol>"


def _entry(row: tuple[str, str, str, str] | Gap) -> str:
    if isinstance(row, Gap):
        return f'<li class="s-dim"><span>…</span> <span>{escaped(row.words)}</span></li>'
    number, function, step, note = map(escaped, row)
    told = f' <span class="s-dim">{note}</span>' if note else ""
    return f'<li><span class="s-dim">{number}</span> <span><code>{function}</code> {step}{told}</span></li>'


def _now(rows: Sequence[tuple[str, str]]) -> str:
    """Return what can be done; what is to be typed is marked, so that a click takes all of it."""
    told = []
    for name, text in rows:
        before, typed, command = text.partition("sagadsl")
        code = f"<code>{escaped(typed + command)}</code>" if typed else ""
        told.append(f"<dt>{escaped(name)}</dt> <dd>{escaped(before)}{code}</dd> ")
    return f"<dl>{''.join(told)}</dl>"
