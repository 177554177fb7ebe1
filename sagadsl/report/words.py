"""The words of every format: signs, ids, ages. Whatever comes out of the journal is made printable here.

A journal can be written by anybody who can write the file, so an id, an error or a result may hold sequences that move
a cursor, set a window's title or turn text around. None of them leaves this room.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from sagadsl._core.phrases import text_of
from sagadsl._core.values import Status, StepStatus
from sagadsl._core.values.seen import RunInfo

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
    StepStatus.SKIPPED: "/",
    Status.OPEN: ">",
    Status.PAUSED: "=",
    Status.WAITING: "~",
    Status.COMPLETED: "+",
}
"""One for each status, of steps and runs alike: a status is readable without colour, and findable with grep."""

FORMATS: Final = ("text", "html", "markdown", "json")
"""In which a run is reported."""

CUT = frozenset({StepStatus.ENTERED, StepStatus.RETRYING, StepStatus.COMPENSATING})

GENERATED = 12
"""Hexadecimal digits at the end of a generated id."""
SHORT = 4
"""How many of them are shown where that is enough."""

# -- words ------------------------------------------------------------------------------------------------------------


def printable(text: object, limit: int = 120) -> str:
    """Return one line of *text* without control characters, at most *limit* characters long."""
    start = str(text)[: limit + 1]  # a result may be megabytes
    if not start.isprintable():
        start = "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in start)
    return start if len(start) <= limit else f"{start[: limit - 1]}…"


def printable_lines(text: object, limit: int = 2000) -> str:
    """Return *text* without control characters but with its lines, each at most *limit* characters long."""
    return "\n".join(printable(line, limit) for line in str(text).split("\n"))


def named_values(values: Mapping[str, object], limit: int) -> str:
    """Return arguments as they are written in a call, each value cut at *limit* characters."""
    return ", ".join(f"{printable(name, 40)}={printable(repr(value), limit)}" for name, value in values.items())


def last_line(error: BaseException) -> str:
    """Return an error as the last line of its traceback shows it."""
    text = text_of(error)
    return printable(f"{type(error).__name__}: {text}" if text else type(error).__name__, 400)


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
    return bool(slash) and len(tail) == GENERATED and not tail.strip("0123456789abcdef")


def _shared(one: str, other: str) -> int:
    """Return how many characters two texts have in common at their beginning."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def local_now() -> datetime:
    """Return the time, in the zone of the person who reads."""
    return datetime.now(UTC).astimezone()


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
    if run.status is Status.COMPENSATION_FAILED:
        stuck = next((step for step in run.steps if step.compensation_error), None)
        if stuck is not None:
            return f"{stuck.compensation} of {stuck.key}: {stuck.compensation_error}"
    if run.cancel_requested:
        return "cancel requested"
    if run.is_interrupted:
        cut = next((step for step in reversed(run.steps) if step.status in CUT and not step.saga), None)
        if cut is not None:
            return f"cut off at {cut.key}"
    if run.is_live and run.owner:
        return run.owner
    return str(run.error or run.cause or "")


# -- columns ---------------------------------------------------------------------------------------------------------


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows of cells as lines whose columns stand under each other."""
    widths = [max(map(len if "".join(column).isascii() else width, column)) for column in zip(*rows, strict=True)]
    line = "  ".join(f"{{:{wide}}}" for wide in widths).format
    for row in rows:
        shown = line(*row)
        yield (shown if shown.isascii() else "  ".join(map(_padded, row, widths))).rstrip()


def _padded(text: str, wide: int) -> str:
    return text.ljust(wide) if text.isascii() else text + " " * (wide - width(text))


def width(text: str) -> int:
    """Return how many places of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in {"W", "F"} else 1 for c in text
    )
