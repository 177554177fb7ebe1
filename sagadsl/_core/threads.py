"""Which threads have a run open: what a step called without one asks, so that nobody takes it for a part of a run.

A step is part of a run by its context, which a plain thread does not inherit. There it is the plain function, as it
should be where no saga is meant; that it may have been meant can only be told from a run being open in another thread.
"""

from __future__ import annotations

import threading
from typing import Final

from sagadsl._core.scope.slot import OpenRun

threads_with_runs: dict[int, int] = {}
"""How many runs each thread has open, by its identifier: empty where no saga is being run."""

_guard = threading.RLock()


def begin(run: OpenRun) -> None:
    """Note that a run is open in this thread."""
    run.thread = threading.get_ident()
    with _guard:
        threads_with_runs[run.thread] = threads_with_runs.get(run.thread, 0) + 1


def end(run: OpenRun) -> None:
    """Note that a run is no longer open; once is enough."""
    if not run.thread:
        return
    with _guard:
        left = threads_with_runs.pop(run.thread, 1) - 1
        if left:
            threads_with_runs[run.thread] = left
    run.thread = 0


PARENTS: Final = 0
"""Stands, where no thread has it, for the run whose body a process was forked in: that goes on in its parent."""


def forget(*, in_body: bool = False) -> None:
    """In a forked child: no run is open; of the one in whose body it was forked, if any, its steps are no part."""
    global _guard  # noqa: PLW0603  # the parent's may be held by a thread that the child does not have
    _guard = threading.RLock()
    threads_with_runs.clear()
    if in_body:
        threads_with_runs[PARENTS] = 1
