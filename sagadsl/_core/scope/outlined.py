"""How a scope stands, in outline: what a list shows of a run, made of what its entries came to."""

from __future__ import annotations

from sagadsl._core.scope import Scope
from sagadsl._core.values import Entry, StepStatus
from sagadsl._core.values.outlines import Outline


def outline_of(scope: Scope, seq: int = 0) -> Outline:
    """Return how it stands after entry *seq*, with the calls inside it."""
    calls = [slot.status for slot in scope.calls() if slot.child is None]
    return Outline(
        seq,
        begun=len(calls),
        done=calls.count(StepStatus.DONE),
        status=scope.status or "",
        started=scope.started,
        ended=scope.ended if scope.status and scope.status.is_terminal else 0,
        owner=scope.owner,
        cause=scope.cause,
        fault=scope.fault,
        notified=scope.notified,
        notify_fault=scope.notify_fault,
    )


def outline_with(scope: Scope, entry: Entry, seq: int) -> Outline:
    """Return how it will stand after a last word that is about to be written."""
    after = object.__new__(Scope)
    after.__dict__ |= scope.__dict__  # as `copy.copy` does, in a tenth of the time
    after.apply(entry)
    return outline_of(after, seq)
