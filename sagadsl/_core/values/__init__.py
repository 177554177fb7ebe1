"""The nouns: what is stored (`Entry`), what happened (`Kind`), where things stand (`Status`).

What users hold is made of them, and imported when one looks (``seen``), asks how a saga ended (``outcomes``) or answers
a probe (``answers``).

Nothing here does I/O, reads a clock or decides anything. The words of the enums are what the file and the command line
show.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from attrs import define, field


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


def because(cause: Cause, **facts: str | None) -> str:
    """Return why a scope stands as it does, as an entry about it has that; *facts* are JSON already, or left out."""
    members = [f'"cause":"{cause}"', *(f'"{name}":{text}' for name, text in facts.items() if text)]
    return "{" + ",".join(members) + "}"


@define(eq=False)
class Entry:
    """One row of the journal: the only thing that is stored, replayed, observed and shown.

    *number* is the run's, *seq* orders the run's entries, *scope* is the ``seq`` at which the enclosing scope was
    opened (0: the run). An entry with a *name* begins a call; the others of that call carry its ``seq`` as *ref*.
    *at* is microseconds since 1970, for people only. *arguments* and *result* (a value, or a `Fault`) are JSON text.
    *definition* is JSON text: what is owed for it, the same for each call of a step but for one made instead of
    another, which it names. *of* is what it tells of, a ``scope.Slot`` or ``scope.Scope``, until it is on record. *run*
    is the run's id, for observers alone: in the file *number* leads to it.
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
    of: Any = field(default=None, repr=False)
    run: str = field(default="", init=False)


@define(eq=False, repr=False)
class RunRow:
    """What identifies a run in the file: one row of table ``run``.

    *thefts* counts take-overs by force from a living owner. Each moves the lock to another place: the old owner keeps
    the old one, which means nothing any more. *untold* is 1 where the run has ended and its saga's ``notify`` is owed
    the call that says how. *outline* says in few words how it has ended (`Outline.text`); where it is missing, or is
    not what was written, the entries say it.
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
    outline: str | None = None

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
