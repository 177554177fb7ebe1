"""Each transition of a run as an event for ``logging``, under ``sagadsl``, its fields in ``extra=``.

No handler is installed, and where there is none, or none would take a warning, a run has no observer for it at all.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from sagadsl._core.observers import fault_in
from sagadsl._core.values import Entry, Kind

if TYPE_CHECKING:
    from sagadsl._core.values.seen import RunInfo

log = logging.getLogger("sagadsl")

LEVELS: Final = {
    **dict.fromkeys(Kind, logging.INFO),
    **dict.fromkeys((Kind.INTENT, Kind.COMPENSATION_INTENT, Kind.NOTIFY_ERROR), logging.DEBUG),
    **dict.fromkeys((Kind.RETRYING, Kind.FAILED, Kind.UNCERTAIN, Kind.CANCELLED, Kind.NOT_LANDED), logging.WARNING),
    **dict.fromkeys((Kind.PAUSED, Kind.COMPENSATING, Kind.COMPENSATION_RETRYING), logging.WARNING),
    **dict.fromkeys((Kind.COMPENSATION_ERROR, Kind.COMPENSATION_FAILED), logging.ERROR),
}
"""How loud each transition is. Of what a child or a branch comes to only the failure is: its run tells of the rest.
That ``notify`` failed is said, with its traceback, where it is called."""

BAD: Final = frozenset(kind for kind, level in LEVELS.items() if level > logging.INFO)
"""What is told with its reason."""


class Events:
    """The watcher that logs."""

    def looks(self) -> bool:
        """Tell whether anybody would take an event."""
        return log.isEnabledFor(logging.WARNING) and log.hasHandlers()

    def watch(self, run: RunInfo, /) -> Logged:
        """Return the observer of a run."""
        return Logged(run)


class Logged:
    """The observer that logs what happens to one run."""

    def __init__(self, run: RunInfo) -> None:
        from sagadsl.report import short_id

        self._shown, self._saga = short_id(run.id), run.saga

    def __call__(self, entry: Entry) -> None:
        """Log an entry."""
        kind = entry.kind
        level = LEVELS[kind]
        is_inside = entry.step and entry.ref is None and (entry.name is None or kind is Kind.OPENED)
        if is_inside and kind is not Kind.COMPENSATION_FAILED:
            level = logging.DEBUG
        if not log.isEnabledFor(level):
            return
        from sagadsl.report import printable

        fault = fault_in(entry) if kind in BAD else None
        text = f"{entry.step or self._saga} {kind.replace('_', ' ')}"
        if entry.attempt is not None and entry.attempt > 1:
            text += f", attempt {entry.attempt}"
        if fault is not None:
            text += f": {fault}"
        told = {"run": entry.run, "saga": self._saga, "event": str(kind), "step": entry.step or None}
        log.log(
            level,
            "%s: %s",
            self._shown,
            printable(text, 400),
            extra={**told, "attempt": entry.attempt, "seq": entry.seq},
        )
