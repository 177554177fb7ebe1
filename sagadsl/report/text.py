"""A run as plain text, for terminals and logs. Whatever comes out of the journal is made printable first.

A journal can be written by anybody who can write the file, so an id, an error or a result may hold sequences that move
a cursor, set a window's title or turn text around. None of them leaves this room.
"""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from sagadsl._core.values import RunInfo, Status, StepInfo, StepStatus

SIGNS: dict[str, str] = {
    StepStatus.ENTERED: "?",
    StepStatus.RETRYING: "~",
    StepStatus.DONE: "+",
    StepStatus.FAILED: "x",
    StepStatus.UNCERTAIN: "?",
    StepStatus.CANCELLED: "?",
    StepStatus.NOT_LANDED: "x",
    StepStatus.COMPENSATING: "<",
    StepStatus.COMPENSATED: "-",
    StepStatus.COMPENSATION_FAILED: "!",
    Status.OPEN: ">",
    Status.PAUSED: "=",
    Status.WAITING: "~",
    Status.COMPLETED: "+",
}
"""One for each status, of steps and runs alike: a status is readable without colour, and findable with grep."""

CUT = frozenset({StepStatus.ENTERED, StepStatus.RETRYING, StepStatus.COMPENSATING})

GENERATED = 12
"""Hexadecimal digits at the end of a generated id."""
SHORT = 4
"""How many of them are shown where that is enough."""

# -- words ------------------------------------------------------------------------------------------------------------


def printable(text: object, limit: int = 120) -> str:
    """Return one line of *text* without control characters, at most *limit* characters long."""
    start = str(text)[: limit + 1]  # a result may be megabytes
    shown = "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in start)
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def printable_lines(text: object, limit: int = 2000) -> str:
    """Return *text* without control characters but with its lines, each at most *limit* characters long."""
    return "\n".join(printable(line, limit) for line in str(text).split("\n"))


def typed(run_id: str) -> str:
    """Return a run's id as it is typed in a shell: whole, so that it still names this run when there are more."""
    shown = shlex.quote(printable(run_id, 200))
    return f"-- {shown}" if shown.startswith("-") else shown


def short_id(run_id: str) -> str:
    """Return a run's id, a generated one shortened to what people can type."""
    return printable(run_id[: len(run_id) - GENERATED + SHORT] if _is_generated(run_id) else run_id, 200)


def short_ids(run_ids: Iterable[str]) -> dict[str, str]:
    """Return the shortest beginning of each generated id that no other of these ids begins with; others stay whole."""
    ids = sorted(set(run_ids))
    shown = {}
    for before, run_id, after in zip(["", *ids], ids, [*ids[1:], ""], strict=False):
        length = len(run_id)
        if _is_generated(run_id):
            shared = max(_shared(before, run_id), _shared(run_id, after))
            length = max(length - GENERATED + SHORT, shared + 1)
        shown[run_id] = printable(run_id[:length], 200)
    return shown


def _is_generated(run_id: str) -> bool:
    _, slash, tail = run_id.rpartition("/")
    return bool(slash) and len(tail) == GENERATED and all(c in "0123456789abcdef" for c in tail)


def _shared(one: str, other: str) -> int:
    """Return how many characters two texts have in common at their beginning."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def age(seconds: float) -> str:
    """Return a span of time as people say it."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count = int(seconds // length)
        if count >= 1:
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return "less than a second"


def span(seconds: float) -> str:
    """Return how long a step took, short ones to the millisecond."""
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else age(seconds)  # noqa: PLR2004  # a minute


def status_words(run: RunInfo) -> str:
    """Return where a run stands, as people read it."""
    if run.is_interrupted:
        return "interrupted" if run.status is Status.OPEN else "interrupted while compensating"
    return str(run.status).replace("_", " ")


def status_sign(run: RunInfo) -> str:
    """Return the sign beside the words."""
    return "?" if run.is_interrupted else SIGNS.get(run.status, " ")


def why(run: RunInfo) -> str:
    """Return in a few words why a run stands where it does."""
    stuck = next((step for step in run.steps if step.compensation_error), None)
    if run.status is Status.COMPENSATION_FAILED and stuck is not None:
        return f"{stuck.compensation} of {stuck.key}: {stuck.compensation_error}"
    cut = next((step for step in reversed(run.steps) if step.status in CUT and not step.saga), None)
    if run.is_interrupted and cut is not None:
        return f"cut off at {cut.key}"
    if run.is_live and run.owner:
        return run.owner
    return str(run.error or run.cause or "")


# -- many runs --------------------------------------------------------------------------------------------------------


def runs_text(runs: Sequence[RunInfo], now: datetime, ids: Mapping[str, str] | None = None) -> str:
    """Return runs as a table; *ids* are the ids as shown, by default the shortest that tell these runs apart."""
    ids = ids or short_ids(run.id for run in runs)
    newest: dict[str, int] = {}
    for run in runs:
        newest[run.id] = max(run.generation, newest.get(run.id, 0))
    rows = [["id", "saga", "status", "steps", "started", "cause"]]
    for run in runs:
        old = "" if run.generation == newest[run.id] else f"generation {run.generation} of {newest[run.id]}; "
        rows.append([ids[run.id], *_cells(run, now, old)])
    return "\n".join(columns(rows))


def run_line(run: RunInfo, now: datetime) -> str:
    """Return a run as one line."""
    return "  ".join(cell for cell in [short_id(run.id), *_cells(run, now)[1:]] if cell)


def _cells(run: RunInfo, now: datetime, note: str = "") -> list[str]:
    calls = [step for step in run.steps if not step.saga]
    return [
        printable(run.saga, 40),
        f"{status_sign(run)} {status_words(run)}",
        f"{sum(step.status == StepStatus.DONE for step in calls)}/{len(calls)}",
        _ago(run.started, now),
        printable(note + why(run), 72),
    ]


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows of cells as lines whose columns stand under each other."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell + " " * (wide - width(cell)) for cell, wide in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def width(text: str) -> int:
    """Return how many places of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in {"W", "F"} else 1 for c in text
    )


def _ago(when: datetime | None, now: datetime) -> str:
    return f"{age((now - when).total_seconds())} ago" if when is not None else ""


# -- one run ----------------------------------------------------------------------------------------------------------


def run_text(run: RunInfo, now: datetime | None = None, options: str = "") -> str:
    """Return a run as a timeline, its compensation stack, and what to do next.

    Times stand in the zone of *now*, without it in UTC and without ages. *options* follows each command to type.
    """
    blocks = [[f"{printable(run.id, 200)}  {status_sign(run)} {status_words(run)}", *_facts(run, now)]]
    if run.steps:
        blocks.append([f"  {line}" for line in columns([_step_cells(step, run) for step in run.steps])])
    if run.stack and not run.status.is_terminal:
        blocks.append(["  to compensate, in this order", *(f"    {line}" for line in stack_lines(run))])
    blocks.append(["  what now", *(f"    {line}" for line in columns([*map(list, what_now(run, options))]))])
    return "\n\n".join("\n".join(block) for block in blocks)


def _facts(run: RunInfo, now: datetime | None) -> Iterator[str]:
    arguments = ", ".join(f"{printable(name, 40)}={printable(repr(v), 40)}" for name, v in run.arguments.items())
    facts = {"saga": f"{printable(run.saga)}({arguments})"}
    if run.parent:
        facts["parent"] = printable(run.parent, 200)
    if run.program:
        facts["program"] = printable(run.program, 400)
    if run.generation > 1:
        facts["generation"] = f"{run.generation}"
    if run.started:
        facts["started"] = _when(run.started, now)
    if run.ended:
        facts["ended"] = _when(run.ended, now)
    if run.owner and not run.status.is_terminal:
        facts["owner"] = printable(run.owner) + ("" if run.is_live else ", gone")
    if run.cause or run.error:
        facts["cause"] = printable(": ".join(str(told) for told in (run.cause, run.error) if told), 400)
    if run.status is Status.COMPLETED and run.result is not None:
        facts["result"] = printable(repr(run.result), 400)
    return (f"  {line}" for line in columns([list(fact) for fact in facts.items()]))


def _when(when: datetime, now: datetime | None) -> str:
    shown = f"{when.astimezone(now.tzinfo if now is not None else UTC):%Y-%m-%d %H:%M:%S %Z}"
    return f"{shown}, {_ago(when, now)}" if now is not None else shown


def _step_cells(step: StepInfo, run: RunInfo) -> list[str]:
    words = step.status.replace("_", " ")
    if not run.is_live and not step.saga:
        words = {StepStatus.ENTERED: "cut off", StepStatus.COMPENSATING: "compensation cut off"}.get(
            StepStatus(step.status), words
        )
    since = (step.started - run.started).total_seconds() if step.started and run.started else 0.0
    minutes, seconds = divmod(max(0.0, since), 60)  # a clock may be put back
    return [
        f"{minutes:.0f}:{seconds:04.1f}",
        f"{SIGNS.get(step.status, ' ')} {printable(step.key, 60)}",
        words,
        "; ".join(_notes(step)),
    ]


def _notes(step: StepInfo) -> Iterator[str]:
    if step.title:
        yield printable(step.title, 80)
    if step.started and step.ended:
        yield span((step.ended - step.started).total_seconds())
    if step.attempts > 1:
        yield f"{step.attempts} attempts"
    if step.uncertain and step.status not in CUT:
        yield "its effect is uncertain"
    if step.error:
        yield printable(step.error)
    elif step.status in {StepStatus.DONE, Status.COMPLETED} and step.result is not None:
        yield f"= {printable(repr(step.result), 80)}"
    if step.compensation_error:
        yield f"compensation {printable(step.compensation, 60)} failed: {printable(step.compensation_error)}"
    elif step.compensation_attempts:
        tries = f", {step.compensation_attempts} attempts" if step.compensation_attempts > 1 else ""
        yield f"compensation {printable(step.compensation, 60)}{tries}"


def stack_lines(run: RunInfo) -> Iterator[str]:
    """Yield what is to be compensated, the first to be compensated first."""
    rows = []
    for number, step in enumerate(run.stack, 1):
        note = "(cut off: its effect is uncertain)" if step.uncertain else ""
        rows.append([f"{number}", printable(step.compensation, 60), f"for {printable(step.key, 60)}", note])
    return columns(rows) if rows else iter(())


def what_now(run: RunInfo, options: str = "") -> Iterator[tuple[str, str]]:
    """Yield what a person can do next: a word or two, and what to type."""
    name = typed(run.id)
    on, back = f"sagadsl resume {name}{options}", f"sagadsl compensate {name}{options}"
    if run.is_live:
        yield "wait", f"a living process has it: {printable(run.owner)}" if run.owner else "a living process has it"
    elif run.status is Status.COMPLETED:
        yield "nothing", "it is completed"
    elif run.status is Status.COMPENSATED:
        yield "nothing", "it is compensated, and nothing is owed; a new call of the saga is a new run"
    elif run.status is Status.COMPENSATION_FAILED:
        yield "compensate", f"mend what made the compensation fail, then: {back}"
    elif run.status is Status.COMPENSATING:
        yield "carry on", back
    else:
        yield "go on", on
        if run.pivot is None:
            yield "compensate", back
