"""What many runs come to, as numbers: the values that `sagadsl.stats` gives. They are counted in ``upkeep``.

The words of a status are those of the file.
"""

from __future__ import annotations

from datetime import datetime

from attrs import field, frozen

COMPLETED = "completed"
FAILED = ("compensated", "compensation_failed")


@frozen(kw_only=True)
class StepStats:
    """What the calls of one step come to.

    *attempts* counts entries into its body, *failed* the calls that were given up, *compensated* those that were
    compensated. *p50* and *p95* are seconds: half, and 95 of 100, of the calls that have a result took no longer. A
    call takes what its attempts take, each from its intent to the end that the same process recorded: neither waits
    between them count, nor a pause, nor the time in which a killed program was gone. Steps that only look have no
    intent, and no times.
    """

    name: str
    calls: int
    attempts: int
    failed: int
    compensated: int
    p50: float | None
    p95: float | None


@frozen(kw_only=True)
class FaultStats:
    """How often a step, or its compensation, raised one class of exception; *message* is the latest one's."""

    step: str
    type: str
    message: str
    count: int


@frozen(kw_only=True, repr=False)
class Stats:
    """What runs come to. *runs* counts those by status; a child counts with the run that it is a part of.

    *saga* and *since* are what was asked for. *steps* and *faults* are sorted, the most frequent first.
    """

    runs: dict[str, int] = field(factory=dict)
    steps: tuple[StepStats, ...] = ()
    faults: tuple[FaultStats, ...] = ()
    saga: str | None = None
    since: datetime | None = None

    def __repr__(self) -> str:
        shown = [f"{count} {status.replace('_', ' ')}" for status, count in self.runs.items()]
        if self.compensation_rate is not None:
            shown.append(f"compensation rate {self.compensation_rate:.1%}")
        return f"<Stats of {self.total} run{'' if self.total == 1 else 's'}: {', '.join(shown) or 'none'}>"

    @property
    def total(self) -> int:
        """How many runs there are."""
        return sum(self.runs.values())

    @property
    def attempts(self) -> int:
        """How often a step was entered."""
        return sum(step.attempts for step in self.steps)

    @property
    def ended(self) -> int:
        """How many runs have come to an end, good or bad: those that the rates are of."""
        return sum(self.runs.get(status, 0) for status in (COMPLETED, *FAILED))

    @property
    def success_rate(self) -> float | None:
        """The part of the ended runs that is completed, from 0 to 1; `None`: none has ended."""
        return self.runs.get(COMPLETED, 0) / self.ended if self.ended else None

    @property
    def compensation_rate(self) -> float | None:
        """The part of the ended runs that was compensated, or failed to be; `None`: none has ended."""
        return sum(self.runs.get(status, 0) for status in FAILED) / self.ended if self.ended else None
