"""A run as plain text, for terminals and logs. Whatever comes out of the journal is made printable first."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sagadsl._core.values import RunInfo, Status, StepInfo, StepStatus

SIGNS: dict[str, str] = {
    StepStatus.DONE: "+",
    StepStatus.ENTERED: "?",
    StepStatus.UNCERTAIN: "?",
    StepStatus.CANCELLED: "?",
    StepStatus.RETRYING: "~",
    StepStatus.FAILED: "x",
    StepStatus.COMPENSATING: "<",
    StepStatus.COMPENSATED: "-",
    StepStatus.COMPENSATION_FAILED: "!",
    Status.COMPLETED: "+",
}

GENERATED = 12
SHORT = 4


def printable(text: object, limit: int = 120) -> str:
    """Return one line of *text* without control characters, at most *limit* characters long."""
    shown = "".join(c if c.isprintable() else "�" for c in str(text).replace("\n", " "))
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def short_id(run_id: str) -> str:
    """Return a run's id, a generated one shortened to what people can type."""
    name, _, tail = run_id.rpartition("/")
    is_generated = len(tail) == GENERATED and all(c in "0123456789abcdef" for c in tail)
    return printable(f"{name}/{tail[:SHORT]}" if is_generated else run_id)


def age(seconds: float) -> str:
    """Return a span of time as people say it."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count = int(seconds // length)
        if count >= 1:
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return "less than a second"


def status_words(run: RunInfo) -> str:
    """Return where a run stands, as people read it."""
    if run.is_interrupted:
        return "interrupted" if run.status is Status.OPEN else "interrupted while compensating"
    return str(run.status).replace("_", " ")


def run_line(run: RunInfo, now: datetime) -> str:
    """Return a run as one line of a list."""
    done = sum(step.status == StepStatus.DONE for step in run.steps)
    since = f"{age((now - run.started).total_seconds())} ago" if run.started else ""
    cause = f"  {printable(run.error, 60)}" if run.error else ""
    return f"{short_id(run.id):24} {status_words(run):20} {done}/{len(run.steps)} steps  {since}{cause}"


def _step_line(step: StepInfo) -> str:
    sign = SIGNS.get(step.status, " ")
    tries = f" ({step.attempts} attempts)" if step.attempts > 1 else ""
    told = ""
    if step.compensation_error:
        told = f"  compensation {step.compensation}: {printable(step.compensation_error)}"
    elif step.error:
        told = f"  {printable(step.error)}"
    elif step.status == StepStatus.DONE and step.result is not None:
        told = f"  {printable(step.result, 80)}"
    status = "cut off" if step.status == StepStatus.ENTERED else step.status.replace("_", " ")
    return f"  {sign} {printable(step.key, 60):24} {status}{tries}{told}"


def what_now(run: RunInfo) -> Iterable[str]:
    """Yield what a person can do next."""
    if run.is_live:
        yield "now: a living process runs it"
    elif run.status is Status.COMPENSATION_FAILED:
        yield f"now: mend what made the compensation fail, then: sagadsl compensate {run.id}"
    elif run.status in {Status.OPEN, Status.PAUSED}:
        yield f"now: go on: sagadsl resume {run.id}   or compensate: sagadsl compensate {run.id}"
    elif run.status is Status.COMPENSATING:
        yield f"now: sagadsl compensate {run.id} carries on compensating"


def run_text(run: RunInfo) -> str:
    """Return a run as a timeline, its compensation stack, and what to do next."""
    lines = [f"{printable(run.id)}  {status_words(run)}" + (f" ({run.cause})" if run.cause else "")]
    if run.arguments:
        lines.append(f"  {run.saga}({', '.join(f'{k}={printable(repr(v), 40)}' for k, v in run.arguments.items())})")
    lines += [_step_line(step) for step in run.steps]
    if run.error:
        lines.append(f"  failed with {printable(run.error)}")
    if run.stack and not run.status.is_terminal:
        stack = ", ".join(f"{printable(step.compensation)} for {printable(step.key)}" for step in run.stack)
        lines.append(f"  to compensate, in this order: {stack}")
    return "\n".join([*lines, *what_now(run)])
