"""Runs as plain text, for terminals and logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo

from sagadsl._core.values.seen import RunInfo, StepInfo
from sagadsl.report.story import Gap, Line, Story, ago, owed, story
from sagadsl.report.words import columns, printable, short_id, short_ids, status_sign, status_words, why

# -- many runs --------------------------------------------------------------------------------------------------------

HEADINGS = ("id", "saga", "status", "steps", "started", "cause")


def runs_text(runs: Sequence[RunInfo], now: datetime, ids: Mapping[str, str] | None = None) -> str:
    """Return runs as a table; *ids* are the ids as shown, by default the shortest that tell these runs apart."""
    return "\n".join(columns([HEADINGS, *runs_rows(runs, now, ids)]))


def runs_rows(
    runs: Sequence[RunInfo], now: datetime | None = None, ids: Mapping[str, str] | None = None
) -> Iterator[list[str]]:
    """Yield a row for each run, under `HEADINGS`; without a *now* with the times, in UTC, instead of ages."""
    ids = ids or short_ids(run.id for run in runs)
    newest: dict[str, int] = {}
    for run in runs:
        newest[run.id] = max(run.generation, newest.get(run.id, 0))
    for run in runs:
        old = "" if run.generation == newest[run.id] else f"generation {run.generation} of {newest[run.id]}; "
        yield [ids[run.id], *_cells(run, now, old)]


def run_line(run: RunInfo, now: datetime) -> str:
    """Return a run as one line."""
    return "  ".join(cell for cell in [short_id(run.id), *_cells(run, now)[1:]] if cell)


def _cells(run: RunInfo, now: datetime | None, note: str = "") -> list[str]:
    return [
        printable(run.saga, 40),
        f"{status_sign(run)} {status_words(run)}",
        f"{run.steps_done}/{run.steps_total}",
        ago(run.started, now) if now is not None else f"{run.started:%Y-%m-%d %H:%M:%S}" if run.started else "",
        printable(note + why(run), 72),
    ]


# -- one run ----------------------------------------------------------------------------------------------------------


def run_text(run: RunInfo, now: datetime | None = None, options: str = "", *, zone: tzinfo = UTC) -> str:
    """Return a run as a timeline, its compensation stack, and what to do next.

    Times stand in *zone*; with a *now* in its zone, and with ages. *options* follows each command to type.
    """
    return story_text(story(run, now, options, zone=zone))


def story_text(told: Story) -> str:
    """Return what is told of a run as text."""
    facts = columns([("saga", told.title), *told.facts])
    blocks = [[f"{told.id}  {told.sign} {told.words}", *(f"  {line}" for line in facts)]]
    if told.steps:
        blocks.append([f"  {line}" for line in _lines(told.steps)])
    if told.compensated:
        blocks.append(["  compensations, in order", *(f"    {line}" for line in _lines(told.compensated))])
    if told.owed:
        blocks.append(["  to compensate, in this order", *(f"    {line}" for line in _stack(told.owed))])
    if told.standing:
        blocks.append(["  still standing", *(f"    {line}" for line in columns(told.standing))])
    blocks.append([f"  what now: {told.who}", *(f"    {line}" for line in columns(told.now))])
    return "\n\n".join("\n".join(block) for block in blocks)


def _lines(lines: Sequence[Line | Gap]) -> Iterator[str]:
    """Yield lines of the timeline under each other; what is left out stands between them, and is no column."""
    rows: list[Sequence[str]] = []
    gaps: dict[int, str] = {}
    for line in lines:
        if isinstance(line, Gap):
            gaps[len(rows)] = f"        … {line.words}"
            rows.append(("", "", "", ""))
        else:
            rows.append((line.at, f"{line.sign} {line.name}", line.words, "; ".join(line.notes)))
            rows += [("", f"    {number}", words, told) for number, words, told in line.attempts]
    for at, text in enumerate(columns(rows)):
        yield gaps.get(at, text)


def stack_lines(run: RunInfo) -> Iterator[str]:
    """Yield what is to be compensated, the first to be compensated first."""
    return _stack([*owed(run.stack)])


def stack_text(stack: Sequence[StepInfo]) -> str:
    """Return a compensation stack as text."""
    return "\n".join(_stack([*owed(stack)])) or "nothing is owed"


def _stack(rows: Sequence[tuple[str, str, str, str] | Gap]) -> Iterator[str]:
    cells = [("…", each.words, "", "") if isinstance(each, Gap) else each for each in rows]
    return columns(cells) if cells else iter(())
