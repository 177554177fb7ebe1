"""A saga as a script: `main` runs one and ends the process with the exit code that says how it went."""

from __future__ import annotations

import asyncio
import inspect
import signal
import sys
from typing import Any, NoReturn

from sagadsl._core.awaiting import awaited
from sagadsl.errors import ExitCode, SagaError, UsageError


def terminated(*_: object) -> NoReturn:
    """Turn SIGTERM into an interruption: the run stays open and can go on."""
    raise SystemExit(ExitCode.TERMINATED)


def main(saga: Any, /, *args: Any, **kwargs: Any) -> NoReturn:
    """Run *saga* with these arguments as this process's whole work, and exit.

    The last line says how it ended. SIGTERM and Ctrl-C leave the run resumable. The exit code is 0 done; 1 unexpected;
    2 usage; 3 failed and compensated; 4 locked by another live process; 5 store unreadable, damaged, newer or full;
    6 compensation failed, paused or waiting; 7 journal and program differ; 130 interrupted; 143 terminated.
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
        raise SystemExit(getattr(error, "exit_code", ExitCode.INTERRUPTED)) from None
    from sagadsl.report import ending  # on first use

    print(ending(outcome, outcome.run._journal.name), file=sys.stderr)  # noqa: SLF001  # of our own
    raise SystemExit(outcome.exit_code)
