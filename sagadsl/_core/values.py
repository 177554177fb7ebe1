"""The nouns: what is stored (`Entry`), what happened (`Kind`), where things stand (`Status`), what users hold.

Nothing here does I/O, reads a clock or decides anything. The words of the enums are what the file and the command line
show.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from attrs import define, field, frozen

from sagadsl.errors import Fault

T = TypeVar("T", covariant=True)  # noqa: PLC0105  # short-lived, and clear


class Kind(StrEnum):
    """What an entry tells. Scopes first (a run or a child), then attempts of a step, then of its compensation."""

    OPENED = "opened"
    TAKEN = "taken"  # another process goes on; every other kind of the old owner collides with it
    RESUMED = "resumed"
    PAUSED = "paused"
    COMPLETED = "completed"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    COMPENSATION_FAILED = "compensation_failed"
    REFUSED = "refused"  # a letter that came too late: the run has passed its pivot and only goes forward
    LEFT = "left"  # a child that was cut off by an interruption which the body around it survived
    NOTIFIED = "notified"  # the saga's `notify` was called with how the run ended, and returned
    NOTIFY_ERROR = "notify_error"  # it raised, and is owed its call as before

    INTENT = "intent"
    DONE = "done"
    RETRYING = "retrying"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    CANCELLED = "cancelled"
    NOT_LANDED = "not_landed"  # the probe says that what was uncertain has had no effect

    COMPENSATION_INTENT = "compensation_intent"
    COMPENSATION_DONE = "compensation_done"
    COMPENSATION_RETRYING = "compensation_retrying"
    COMPENSATION_ERROR = "compensation_error"
    COMPENSATION_SKIPPED = "compensation_skipped"  # a person has seen to it, or lets it be


class Status(StrEnum):
    """Where a run, or a child, stands."""

    OPEN = "open"
    PAUSED = "paused"
    WAITING = "waiting"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    COMPENSATED = "compensated"
    COMPENSATION_FAILED = "compensation_failed"

    @property
    def is_terminal(self) -> bool:
        """Nothing is owed and nothing follows by itself."""
        return self is Status.COMPLETED or self is Status.COMPENSATED


class StepStatus(StrEnum):
    """Where a step stands. ``entered`` without a living owner means: cut off, so uncertain."""

    ENTERED = "entered"
    RETRYING = "retrying"
    DONE = "done"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    CANCELLED = "cancelled"
    NOT_LANDED = "not_landed"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    COMPENSATION_FAILED = "compensation_failed"
    SKIPPED = "skipped"


class Cause(StrEnum):
    """Why a run compensates, or stopped."""

    FAILURE = "failure"
    CANCEL = "cancel"
    DEADLINE = "deadline"
    REQUEST = "request"


@define(eq=False)
class Entry:
    """One row of the journal: the only thing that is stored, replayed, observed and shown.

    *number* is the run's, *seq* orders the run's entries, *scope* is the ``seq`` at which the enclosing scope was
    opened (0: the run). An entry with a *name* begins a call; the others of that call carry its ``seq`` as *ref*.
    *at* is microseconds since 1970, for people only. *arguments* and *result* (a value, or a `Fault`) are JSON text.
    *definition* is JSON text, the same for each call of a step: what is owed for it. *run* is the run's id, for
    observers alone: in the file *number* leads to it.
    """

    number: int
    seq: int
    kind: Kind
    scope: int
    step: str
    ref: int | None
    attempt: int | None
    at: int
    name: str | None
    definition: str | None
    arguments: str | None
    result: str | None
    run: str = field(default="", init=False)


@define(eq=False, repr=False)
class RunRow:
    """What identifies a run in the file: one row of table ``run``.

    *thefts* counts take-overs by force from a living owner. Each moves the lock to another place: the old owner keeps
    the old one, which means nothing any more. *untold* is 1 where the run has ended and its saga's ``notify`` is owed
    the call that says how.
    """

    number: int
    id: str
    generation: int
    saga: str
    program: str
    arguments_digest: str
    started: int
    finished: int | None = None
    thefts: int = 0
    untold: int | None = None

    @property
    def lock(self) -> int:
        """Where the run is locked."""
        return self.number + (self.thefts << 40)

    @property
    def key_prefix(self) -> str:
        """What this run's idempotency keys begin with; a further generation has keys of its own."""
        escaped = self.id.replace("~", "~~")
        return escaped if self.generation == 1 else f"{escaped}~{self.generation}"


EPOCH: Final = datetime.fromtimestamp(0, UTC)


def as_time(microseconds: int) -> datetime:
    """Turn microseconds since 1970 into an aware time, in UTC."""
    return EPOCH + timedelta(microseconds=microseconds)


class Noted:
    """A step's result with what it noted beside it: stored as one, read back as the *value* alone."""

    __slots__ = ("note", "value")

    def __init__(self, value: Any, note: Any) -> None:
        self.value, self.note = value, note


@frozen(kw_only=True)
class StepInfo:
    """What the journal says of one call of a step (or of a child saga, then *saga* is true; *branch*: of ``parallel``).

    *attempts* counts entries into the body, *attempt_errors* are what those failed with that were tried again,
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
    attempt_errors: tuple[Fault, ...] = ()
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
    ended: datetime | None = None


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
        return self.status in {Status.OPEN, Status.COMPENSATING} and not self.is_live


@frozen
class Landed:
    """A probe's answer: the effect happened, and *value* is what the step would have returned."""

    value: Any = None


@frozen
class NotLanded:
    """A probe's answer: the effect has not happened, and will not."""


@frozen
class Unknown:
    """A probe's answer: it cannot tell."""


@frozen
class Completed(Generic[T]):
    """The saga's body returned *value*."""

    value: T
    run: Any = field(kw_only=True, repr=False)
    exit_code: int = field(default=0, init=False)


@frozen
class Compensated:
    """The saga failed with *error* and everything that could be compensated was; *standing* could not be.

    *skipped_steps* are those whose compensation failed and that a person decided to let be.
    """

    error: BaseException
    compensated_steps: tuple[str, ...] = ()
    standing: tuple[str, ...] = ()
    skipped_steps: tuple[str, ...] = ()
    run: Any = field(kw_only=True, repr=False)
    exit_code: int = field(default=3, init=False)


@frozen
class CompensationFailed:
    """The saga failed with *error*, and the compensation of *failed_at_step* failed with *compensation_error*."""

    error: BaseException
    compensation_error: BaseException
    failed_at_step: str
    compensated_steps: tuple[str, ...] = ()
    pending_steps: tuple[str, ...] = ()
    skipped_steps: tuple[str, ...] = ()
    run: Any = field(kw_only=True, repr=False)
    exit_code: int = field(default=6, init=False)


@frozen
class Suspended:
    """The run is paused or waiting, for the *reason* given, and can go on."""

    status: Status
    reason: str
    run: Any = field(kw_only=True, repr=False)
    exit_code: int = field(default=6, init=False)


Outcome = Completed[T] | Compensated | CompensationFailed | Suspended
