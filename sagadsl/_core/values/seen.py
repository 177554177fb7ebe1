"""What users hold of runs and steps: what the journal says of each when one looks.

A program that only runs sagas never looks, so nobody imports this at once.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from attrs import field, frozen

from sagadsl._core.values import Cause, Status, StepStatus
from sagadsl.errors import Fault

RUNNING: Final = frozenset({Status.OPEN, Status.COMPENSATING})
"""Where a run stands that somebody is at, or was."""


@frozen(kw_only=True)
class AttemptInfo:
    """What the journal says of one attempt of a step that another one followed, or follows.

    *number* counts from 1. *status* is how it ended: ``failed``, ``uncertain`` (a timeout), ``cancelled``,
    ``not_landed`` or, where no end of it is on record because it was cut off, ``entered``. *started* and *ended* are
    aware times; `None`: nobody knows, for whoever entered it was gone by then.
    """

    number: int
    status: str
    error: Fault | None = None
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def seconds(self) -> float | None:
        """How long it took, `None` where nobody knows."""
        return None if self.started is None or self.ended is None else (self.ended - self.started).total_seconds()


@frozen(kw_only=True)
class StepInfo:
    """What the journal says of one call of a step (or of a child saga, then *saga* is true; *branch*: of ``parallel``).

    *attempts* counts entries into the body, *tried* has those that were tried again, and *entered* is when the last one
    began, if not when the call did. *untimed*: how long that one took nobody knows, because another process wrote how
    it ended, or because it only looks.
    *arguments* and *result* are the stored copies, *started* and *ended* are aware times. *title* is what ``title=``
    says, *compensation* the name of the function that compensates it, *note* what the step gave to
    ``current().note()``. *standing*: its effect has happened, or may have, and nothing can undo it. *redefined* names
    those of the two functions (the step's, its compensation) that this session has defined anew since it was entered.
    """

    key: str
    name: str
    status: str
    title: str = ""
    saga: bool = False
    branch: bool = False
    attempts: int = 0
    tried: tuple[AttemptInfo, ...] = ()
    uncertain: bool = False
    standing: bool = False
    arguments: dict[str, Any] = field(factory=dict)
    result: Any = None
    note: Any = None
    error: Fault | None = None
    compensation: str | None = None
    compensation_attempts: int = 0
    compensation_error: Fault | None = None
    skipped_by: str = ""
    skipped_why: str = ""
    compensation_started: datetime | None = None
    compensation_ended: datetime | None = None
    idempotency_key: str = ""
    redefined: tuple[str, ...] = ()
    started: datetime | None = None
    entered: datetime | None = None
    ended: datetime | None = None
    untimed: bool = False

    @property
    def attempt_errors(self) -> tuple[Fault, ...]:
        """What those attempts failed with that were tried again."""
        return tuple(attempt.error for attempt in self.tried if attempt.error is not None)

    @property
    def seconds(self) -> float | None:
        """How long its attempts took, as far as that is on record; `None`: it is of none.

        An attempt takes from its intent to the end that the same process recorded. So neither waits between attempts
        count, nor a pause, nor the time in which a killed program was gone. A child saga is one attempt.
        """
        known = [each.seconds for each in self.tried]
        begun = self.entered or self.started
        if begun is not None and self.ended is not None and not self.untimed:
            known.append((self.ended - begun).total_seconds())
        told = [max(0.0, seconds) for seconds in known if seconds is not None]  # a clock may be put back
        return sum(told) if told else None


@frozen(kw_only=True, repr=False)
class RunInfo:
    """What the journal says of one run, or of a child saga inside it (then *parent* is the enclosing run's id).

    *compensations* are the keys of the calls whose compensation was begun, in that order, and *stack* is what would be
    compensated now, the first to be compensated first. *owner* is the process that opened or last took the run over;
    *is_live* says whether a living process holds it. *pivot* is the step from which the run can only go forward, once
    it is done. *cancel_requested*: somebody has asked for that, and nobody has acted on it yet. *notify_owed*: it has
    ended, and the saga's ``notify`` is still to be called with that; *notified* is when it was, *notify_error* what it
    raised when it was called last. *is_block*: its body stands in its program, which alone can go on with it.
    """

    id: str
    saga: str
    status: Status
    cause: Cause | None = None
    error: Fault | None = None
    generation: int = 1
    parent: str | None = None
    steps: tuple[StepInfo, ...] = ()
    compensations: tuple[str, ...] = ()
    stack: tuple[StepInfo, ...] = ()
    pivot: str | None = None
    arguments: dict[str, Any] = field(factory=dict)
    result: Any = None
    program: str = ""
    is_block: bool = False
    owner: str = ""
    is_live: bool = False
    cancel_requested: bool = False
    notify_owed: bool = False
    notified: datetime | None = None
    notify_error: Fault | None = None
    started: datetime | None = None
    ended: datetime | None = None
    kept: dict[str, str] = field(factory=dict)

    def __repr__(self) -> str:
        """Fit on a line: people look at lists of runs. All the rest are attributes."""
        state = f"{self.status}, interrupted" if self.is_interrupted else f"{self.status}"
        steps = f"{self.steps_total} step{'' if self.steps_total == 1 else 's'}"
        told = [state, steps] if self.error is None else [state, steps, *str(self.error).splitlines()[:1]]
        return f"<{type(self).__name__} {self.id}: {', '.join(told)}>"

    @property
    def steps_total(self) -> int:
        """How many calls of steps it has begun, those of its child sagas too."""
        return sum(not step.saga for step in self.steps)

    @property
    def steps_done(self) -> int:
        """How many of them are done, and not compensated."""
        return sum(step.status == StepStatus.DONE and not step.saga for step in self.steps)

    @property
    def is_interrupted(self) -> bool:
        """Unfinished, and no living process holds it."""
        return self.status in RUNNING and not self.is_live
