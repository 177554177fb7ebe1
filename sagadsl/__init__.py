"""Sagas for ordinary Python: decorate functions you already have, call them from an ordinary function.

Every step is journaled in one SQLite file, a failure compensates what was done in reverse, and a killed script goes on
where it was cut off. No server, no YAML, no rewrite; sync and async alike.
"""

import typing as _typing

from sagadsl import aio
from sagadsl._core.codec.artifacts import Artifact
from sagadsl._core.definition import IRREVERSIBLE, PIVOT, Compensation
from sagadsl._core.journal import Journal
from sagadsl._core.live import Live
from sagadsl._core.provided import PROVIDED as _PROVIDED
from sagadsl._core.retry import Retry
from sagadsl._core.runtime import CODEC as _CODEC
from sagadsl._core.runtime import Runtime
from sagadsl._core.runtime import default_runtime as _default
from sagadsl._core.values import Cause, Entry, Kind, Status, StepStatus
from sagadsl._dsl.branches import parallel
from sagadsl._dsl.outcomes import outcome
from sagadsl._dsl.resuming import resume_all
from sagadsl._dsl.saga import saga
from sagadsl._dsl.sagas import Saga
from sagadsl._dsl.steps import Step, step
from sagadsl.errors import (
    CompensationError,
    Fault,
    JournalError,
    NotStorableError,
    ReplayError,
    RunCancelledError,
    RunConflictError,
    RunLockedError,
    RunLostError,
    SagaError,
    StepError,
    StepTimeout,
    SuspendedError,
    UsageError,
)

if _typing.TYPE_CHECKING:
    from sagadsl._core.figures import Stats
    from sagadsl._core.runtime.rehearsal import DryRun
    from sagadsl._core.runtime.stored import Run
    from sagadsl._core.values.answers import Landed, NotLanded, Unknown
    from sagadsl._core.values.outcomes import Compensated, CompensationFailed, Completed, Outcome, Suspended
    from sagadsl._core.values.seen import RunInfo, StepInfo
    from sagadsl._dsl.archive import archive
    from sagadsl._dsl.current import Current, current
    from sagadsl._dsl.recorded import now, random, uuid4
    from sagadsl._dsl.script import main
else:
    _LATER = {
        **dict.fromkeys(
            ("Compensated", "CompensationFailed", "Completed", "Outcome", "Suspended"), "sagadsl._core.values.outcomes"
        ),
        **dict.fromkeys(("Landed", "NotLanded", "Unknown"), "sagadsl._core.values.answers"),
        **dict.fromkeys(("Current", "current"), "sagadsl._dsl.current"),
        **dict.fromkeys(("now", "random", "uuid4"), "sagadsl._dsl.recorded"),
        **dict.fromkeys(("RunInfo", "StepInfo"), "sagadsl._core.values.seen"),
        "DryRun": "sagadsl._core.runtime.rehearsal",
        "Run": "sagadsl._core.runtime.stored",
        "Stats": "sagadsl._core.figures",
        "archive": "sagadsl._dsl.archive",
        "main": "sagadsl._dsl.script",
    }

    def __getattr__(name: str) -> object:
        """Import on first use what few programs name: every program pays for what is imported at once."""
        if name not in _LATER:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        from importlib import import_module  # no name of the front door

        found = globals()[name] = getattr(import_module(_LATER[name]), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LATER})


configure = _default.configure
runs = _default.runs
find = _default.find
stats = _default.stats
prune = _default.prune
register = _CODEC.register
provide = _PROVIDED.provide

__all__ = [
    "IRREVERSIBLE",
    "PIVOT",
    "Artifact",
    "Cause",
    "Compensated",
    "Compensation",
    "CompensationError",
    "CompensationFailed",
    "Completed",
    "Current",
    "DryRun",
    "Entry",
    "Fault",
    "Journal",
    "JournalError",
    "Kind",
    "Landed",
    "Live",
    "NotLanded",
    "NotStorableError",
    "Outcome",
    "ReplayError",
    "Retry",
    "Run",
    "RunCancelledError",
    "RunConflictError",
    "RunInfo",
    "RunLockedError",
    "RunLostError",
    "Runtime",
    "Saga",
    "SagaError",
    "Stats",
    "Status",
    "Step",
    "StepError",
    "StepInfo",
    "StepStatus",
    "StepTimeout",
    "Suspended",
    "SuspendedError",
    "Unknown",
    "UsageError",
    "aio",
    "archive",
    "configure",
    "current",
    "find",
    "main",
    "now",
    "outcome",
    "parallel",
    "provide",
    "prune",
    "random",
    "register",
    "resume_all",
    "runs",
    "saga",
    "stats",
    "step",
    "uuid4",
]
