"""A run under way, a line a step: what a terminal, a log and a notebook show while it goes on.

Pure, like the rest of this folder: from what is known to lines. Whoever draws them decides where, how often and in
which colour; each line begins with the sign of its status, as everywhere.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from sagadsl._core.values import StepStatus
from sagadsl._core.values.seen import RunInfo, StepInfo
from sagadsl.report.words import SIGNS, printable, short_id, span, status_sign, status_words, width

UNDER_WAY = {StepStatus.ENTERED: ">", StepStatus.RETRYING: "~", StepStatus.COMPENSATING: "<"}
"""What a step is doing, of a run that a living process has; any other status is what has come of it."""


def progress_lines(run: RunInfo, places: int = 100, limit: int = 40) -> list[str]:
    """Return a run under way as lines: its id, its steps, and how it ended.

    Args:
        run: The run as it is known now.
        places: How many places of a terminal a line may take.
        limit: How many steps are shown: the newest, and those under way.
    """
    steps = [step for step in run.steps if not step.saga]
    shown = [step for at, step in enumerate(steps) if at >= len(steps) - limit or step.status in UNDER_WAY]
    hidden = len(steps) - len(shown)
    lines = [short_id(run.id)]
    if hidden:
        lines.append(f"  {hidden} step{'' if hidden == 1 else 's'} before")
    lines += map(step_line, shown)
    if run.ended is not None or not run.is_live:
        lines.append(end_line(run))
    return [fitted(line, places) for line in lines]


def is_under_way(step: StepInfo) -> bool:
    """Tell whether a step, or its compensation, has not come to an end."""
    return step.status in UNDER_WAY


def step_line(step: StepInfo) -> str:
    """Return one line that says what a step does, or what came of it."""
    sign = UNDER_WAY.get(StepStatus(step.status)) or SIGNS[step.status]
    parts = [f"{sign} {printable(step.key, 60)}"]
    if step.title:
        parts.append(printable(step.title, 80))
    parts.append(", ".join(_words(step)))
    return "  ".join(part for part in parts if part) + (" …" if is_under_way(step) else "")


def _words(step: StepInfo) -> Iterator[str]:
    compensation = printable(step.compensation, 60)
    match StepStatus(step.status):
        case StepStatus.ENTERED if step.attempts > 1:
            yield f"attempt {step.attempts}"
        case StepStatus.RETRYING:
            yield (
                f"is tried again after {printable(step.attempt_errors[-1])}"
                if step.attempt_errors
                else "is tried again"
            )
        case StepStatus.DONE:
            if step.attempts > 1:
                yield f"{step.attempts} attempts"
            if step.seconds is not None:
                yield span(step.seconds)
        case StepStatus.COMPENSATING:
            tries = f", attempt {step.compensation_attempts}" if step.compensation_attempts > 1 else ""
            yield f"{compensation}{tries}"
        case StepStatus.COMPENSATED:
            yield f"compensated by {compensation}"
        case StepStatus.COMPENSATION_FAILED:
            yield f"{compensation} failed: {printable(step.compensation_error)}"
        case StepStatus.FAILED | StepStatus.UNCERTAIN | StepStatus.CANCELLED | StepStatus.NOT_LANDED as status:
            told = f": {printable(step.error)}" if step.error else ""
            yield f"{status.replace('_', ' ')}{told}"


def end_line(run: RunInfo) -> str:
    """Return one line that says where a run stands that this process has let go."""
    parts = [f"{status_sign(run)} {short_id(run.id)}", status_words(run)]
    if run.error is not None:
        parts[1] += f": {printable(run.error)}"
    if run.started and run.ended:
        steps = sum(not step.saga for step in run.steps)
        taken = span((run.ended - run.started).total_seconds())
        parts.append(f"{steps} step{'' if steps == 1 else 's'}, {taken}")
    return "  ".join(parts)


def fitted(text: str, places: int) -> str:
    """Return the beginning of a line that takes at most so many *places* of a terminal; wide characters take two."""
    if 2 * len(text) <= places or width(text) <= places:
        return text
    kept, taken = "", 1
    for character in text:
        taken += width(character)
        if taken > places:
            break
        kept += character
    return f"{unicodedata.normalize('NFC', kept)}…" if places > 0 else ""
