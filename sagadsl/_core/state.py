"""What may follow what: one table for scopes, one for steps. Every status in the house comes out of these.

Each prefix of a legal journal folds to a legal status, row by row. An entry that fits no row means that the file is not
what this library wrote, which is an error and never a guess.
"""

from __future__ import annotations

from typing import Final

from sagadsl._core.values import Kind, Status, StepStatus

K, S, P = Kind, Status, StepStatus

SCOPES: Final[dict[tuple[Status | None, Kind], Status]] = {
    (None, K.OPENED): S.OPEN,
    (S.OPEN, K.TAKEN): S.OPEN,
    (S.OPEN, K.COMPLETED): S.COMPLETED,
    (S.OPEN, K.PAUSED): S.PAUSED,
    (S.OPEN, K.COMPENSATING): S.COMPENSATING,
    (S.OPEN, K.COMPENSATED): S.COMPENSATED,  # it failed and nothing was owed
    (S.OPEN, K.COMPENSATION_FAILED): S.COMPENSATION_FAILED,  # a child's did
    (S.PAUSED, K.PAUSED): S.PAUSED,  # a child, put back further
    (S.PAUSED, K.TAKEN): S.PAUSED,
    (S.PAUSED, K.RESUMED): S.OPEN,
    (S.PAUSED, K.COMPENSATING): S.COMPENSATING,
    (S.PAUSED, K.COMPENSATED): S.COMPENSATED,
    (S.COMPENSATING, K.TAKEN): S.COMPENSATING,
    (S.COMPENSATING, K.COMPENSATED): S.COMPENSATED,
    (S.COMPENSATING, K.COMPENSATING): S.COMPENSATING,  # a person asks for something else
    (S.COMPENSATING, K.PAUSED): S.PAUSED,  # compensated as far back as was asked
    (S.COMPENSATING, K.COMPENSATION_FAILED): S.COMPENSATION_FAILED,
    (S.COMPENSATION_FAILED, K.TAKEN): S.COMPENSATION_FAILED,
    (S.COMPENSATION_FAILED, K.COMPENSATING): S.COMPENSATING,
    (S.COMPENSATION_FAILED, K.COMPENSATION_FAILED): S.COMPENSATION_FAILED,  # a child's, again
    (S.COMPENSATION_FAILED, K.COMPENSATED): S.COMPENSATED,  # a child, with its parent
    **{(ended, kind): ended for ended in (S.COMPLETED, S.COMPENSATED) for kind in (K.NOTIFIED, K.NOTIFY_ERROR)},
    (S.OPEN, K.REFUSED): S.OPEN,
    (S.OPEN, K.LEFT): S.OPEN,  # what it owes is its parent's to compensate
    (S.COMPENSATED, K.LEFT): S.COMPENSATED,  # the cancellation came while it compensated, and came out of it
    (S.COMPLETED, K.TAKEN): S.COMPLETED,
    (S.COMPLETED, K.COMPENSATING): S.COMPENSATING,  # on request, later
    (S.COMPLETED, K.COMPENSATED): S.COMPENSATED,  # a child, with its parent
    (S.COMPLETED, K.PAUSED): S.PAUSED,  # a child, in which the step is to which its parent was put back
}

OWED: Final = (
    *(P.ENTERED, P.RETRYING, P.DONE, P.FAILED, P.UNCERTAIN, P.CANCELLED, P.NOT_LANDED),
    P.COMPENSATION_FAILED,
)
OPEN_TO_DOUBT: Final = (P.ENTERED, P.RETRYING, P.FAILED, P.UNCERTAIN, P.CANCELLED, P.COMPENSATION_FAILED)
"""Where an effect may have happened that no outcome tells of, so that a probe is asked."""
CUT_OFF: Final = (P.ENTERED, P.RETRYING, P.NOT_LANDED, P.FAILED, P.UNCERTAIN, P.CANCELLED)
"""Where a call can be cut off: in an attempt, between two, or before another one, while its probe is asked."""

STEPS: Final[dict[tuple[StepStatus | None, Kind], StepStatus]] = {
    (None, K.INTENT): P.ENTERED,
    (None, K.DONE): P.DONE,  # a read-only step has no intent
    (None, K.FAILED): P.FAILED,
    (None, K.UNCERTAIN): P.UNCERTAIN,
    (None, K.CANCELLED): P.CANCELLED,
    (P.ENTERED, K.INTENT): P.ENTERED,  # cut off, entered again
    (P.ENTERED, K.DONE): P.DONE,
    (P.ENTERED, K.RETRYING): P.RETRYING,
    (P.ENTERED, K.FAILED): P.FAILED,
    (P.RETRYING, K.INTENT): P.ENTERED,
    (P.DONE, K.CANCELLED): P.CANCELLED,  # it ended well after its caller was cut off: done all the same
    (P.FAILED, K.INTENT): P.ENTERED,  # its failure paused the run, which was resumed
    (P.UNCERTAIN, K.INTENT): P.ENTERED,
    (P.CANCELLED, K.INTENT): P.ENTERED,
    (P.FAILED, K.FAILED): P.FAILED,
    (P.UNCERTAIN, K.FAILED): P.FAILED,
    **{(open_, K.DONE): P.DONE for open_ in OPEN_TO_DOUBT},  # the probe says so
    **{(open_, K.NOT_LANDED): P.NOT_LANDED for open_ in OPEN_TO_DOUBT},
    **{(open_, K.UNCERTAIN): P.UNCERTAIN for open_ in OPEN_TO_DOUBT},
    (P.NOT_LANDED, K.INTENT): P.ENTERED,
    (P.NOT_LANDED, K.RETRYING): P.RETRYING,
    (P.NOT_LANDED, K.FAILED): P.FAILED,
    **{(cut, K.CANCELLED): P.CANCELLED for cut in CUT_OFF},
    **{(owed, K.COMPENSATION_INTENT): P.COMPENSATING for owed in OWED},
    **{(owed, K.COMPENSATION_ERROR): P.COMPENSATION_FAILED for owed in OWED},  # it could not even be entered
    (P.COMPENSATING, K.COMPENSATION_INTENT): P.COMPENSATING,
    (P.COMPENSATING, K.COMPENSATION_RETRYING): P.COMPENSATING,
    (P.COMPENSATING, K.COMPENSATION_DONE): P.COMPENSATED,
    (P.COMPENSATING, K.COMPENSATION_ERROR): P.COMPENSATION_FAILED,
    (P.COMPENSATION_FAILED, K.COMPENSATION_SKIPPED): P.SKIPPED,
}

ENDED: Final = tuple(status for status in Status if status.is_terminal)
"""Where a run stands of which nothing is owed and nothing follows by itself."""
UNDER_WAY: Final = frozenset({P.ENTERED, P.RETRYING, P.NOT_LANDED})
"""Where a call stands that is not over: it is entered again when its run goes on."""
INTENTS: Final = frozenset({K.INTENT, K.COMPENSATION_INTENT})
"""What is written before an effect."""
OWNED: Final = frozenset({K.OPENED, K.TAKEN, K.RESUMED})
"""What opens a run, or takes it over, and says by whom."""
