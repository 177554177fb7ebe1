"""A saga as a script: `main` runs one and ends the process with the exit code that says how it went."""

from __future__ import annotations

import asyncio
import inspect
import signal
import sys
from typing import Any, NoReturn

from sagadsl._core.awaiting import awaited
from sagadsl._core.values.outcomes import Compensated, CompensationFailed, Completed, Suspended
from sagadsl.errors import SagaError, UsageError, to_type

INTERRUPTED = 130
TERMINATED = 143


def terminated(*_: object) -> NoReturn:
    """Turn SIGTERM into an interruption: the run stays open and can go on."""
    raise SystemExit(TERMINATED)


def main(saga: Any, /, *args: Any, **kwargs: Any) -> NoReturn:
    """Run *saga* with these arguments as this process's whole work, and exit.

    The last line says how it ended. SIGTERM and Ctrl-C leave the run resumable. The exit code is 0 done, 1 unexpected,
    2 usage, 3 failed and compensated, 4 locked by another live process, 5 store unreadable, 6 compensation failed,
    paused or waiting, 7 journal and script differ, 130 and 143 interrupted.
    """
    if not hasattr(saga, "outcome"):
        msg = f"main() takes a function decorated with @saga, and its arguments, not {saga!r:.80}"
        raise UsageError(msg)
    signal.signal(signal.SIGTERM, terminated)
    try:
        outcome = saga.outcome(*args, **kwargs)
        if inspect.isawaitable(outcome):
            outcome = asyncio.run(awaited(outcome))
    except (SagaError, KeyboardInterrupt) as error:
        if isinstance(error, SagaError):
            print(error, file=sys.stderr)
        raise SystemExit(getattr(error, "exit_code", INTERRUPTED)) from None
    print(told(outcome), file=sys.stderr)
    raise SystemExit(outcome.exit_code)


def told(outcome: Any) -> str:
    """Say in one line how a saga ended."""
    match outcome:
        case Completed(run=run):
            return f"{run.id} completed"
        case Compensated(error, steps, standing, run=run):
            left = f", still standing: {', '.join(standing)}" if standing else ""
            done = ", ".join(steps) or "nothing"
            return f"{run.id} failed with {type(error).__name__}: {error}; compensated {done}{left}"
        case CompensationFailed(error, why, step, run=run):
            return f"{run.id} failed with {type(error).__name__}: {error}, and compensating {step} with {why}"
        case Suspended(status, reason, run=run):
            return f"{run.id} is {status}: {reason}. Go on: {to_type('resume', run.id, run._journal.name)}"  # noqa: SLF001  # of our own
    return str(outcome)
