"""Runs by hand that nobody has ended. By hand the end is somebody's word, and a word can be forgotten.

A handle that is lost lets its run go, open as it is, and so does the end of the program, which then says how to go on.
"""

from __future__ import annotations

import atexit
import logging
import os
import weakref
from contextlib import suppress
from pathlib import Path

from sagadsl._core.journal import Journal, Log
from sagadsl._core.phrases import command, to_run_again
from sagadsl._core.scope.slot import OpenRun
from sagadsl._core.values import RunRow

log = logging.getLogger("sagadsl")

_unended: dict[tuple[str, str], tuple[Journal, Log]] = {}
"""Not the runs themselves: what they hold may hold the handle, which then is never lost."""


def hold(handle: object, run: OpenRun) -> weakref.finalize[..., object]:
    """Note that *handle* has *run*; return what lets that go when the handle is lost.

    Then nothing of it is under way: whoever calls a step of it has the handle.
    """
    _unended[run.journal.name, run.id] = run.journal, run.log
    when_lost = weakref.finalize(handle, _release, run.journal, run.log, run.row)
    when_lost.atexit = False
    return when_lost


def forget(run: OpenRun) -> None:
    """Forget a run that has ended, or that another owner goes on with."""
    _unended.pop((run.journal.name, run.id), None)


def _release(journal: Journal, at: Log, row: RunRow) -> None:
    """Stop owning a run, which stays as it is."""
    if at.number:
        journal.release(row.lock, at.holder)


def _tell() -> None:
    """Warn, when the program ends, of each run in a file that it leaves open."""
    for (store, run_id), (journal, at) in _unended.items():
        if not at.number or not Path(store).is_file():
            continue
        with suppress(Exception):  # nobody could act on it now
            if journal.runs(id=run_id)[-1].finished is None:
                log.warning(
                    "%s was begun by hand and is left open. Go on: %s, and end it with complete() or compensate()   "
                    "Compensate: %s",
                    run_id, to_run_again(), command("compensate", run_id, store), extra={"run": run_id},
                )  # fmt: skip


atexit.register(_tell)
if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(after_in_child=_unended.clear)  # they are the parent's
