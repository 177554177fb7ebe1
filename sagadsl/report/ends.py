"""How a run has ended, in one line: for who started it, and for who decided what becomes of it."""

from __future__ import annotations

from typing import Any

from sagadsl._core.phrases import command, what_became
from sagadsl._core.values import Status, StepStatus
from sagadsl._core.values.outcomes import Compensated, CompensationFailed, Completed, Outcome, Suspended
from sagadsl._core.values.seen import RunInfo
from sagadsl.report.story import compensations
from sagadsl.report.words import last_line, printable, short_id


def ending(outcome: Outcome[Any], store: str = "", options: str = "") -> str:
    """Return how a saga ended, and what to type where a person decides: with its journal *store*, or with *options*."""
    run: RunInfo = outcome.run
    name = short_id(run.id)
    match outcome:
        case Completed():
            return f"{name} completed"
        case Compensated(error, steps, standing, skipped):
            return f"{name} failed with {last_line(error)}; {printable(what_became(steps, standing, skipped), 2000)}"
        case CompensationFailed(error, why, step, steps, pending, skipped):
            became = what_became(steps, (), skipped, pending, failed=step, why=last_line(why))
            back = command("compensate", run.id, store, options=options)
            return f"{name} failed with {last_line(error)}; {printable(became, 2000)}. Mend the cause, then: {back}"
        case Suspended(status, reason):
            on, back = (command(verb, run.id, store, options=options) for verb in ("resume", "compensate"))
            or_else = "" if run.pivot else f"   Compensate: {back}"
            return f"{name} is {status}: {printable(reason, 400)}. Go on: {on}{or_else}"


def compensated_since(run: RunInfo, before: RunInfo) -> str:
    """Return what has become of the steps of a run since it was as *before*."""
    earlier = {step.key: step.status for step in before.steps}
    new = {step.key for step in run.steps if step.status != earlier.get(step.key)}
    undone = [s for s in compensations(run) if s.status == StepStatus.COMPENSATED and not s.saga]
    standing = [s.key for s in run.steps if s.standing] if run.status is Status.COMPENSATED else []
    skipped = [s.key for s in run.steps if s.status == StepStatus.SKIPPED and s.key in new]
    return what_became([s.key for s in undone if s.key in new], standing, skipped)
