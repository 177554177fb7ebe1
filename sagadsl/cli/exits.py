"""The exit codes, and which status means which; errors carry their own. The numbers are part of the contract."""

from __future__ import annotations

from typing import Final

from sagadsl import Status

DONE: Final = 0
UNEXPECTED: Final = 1
USAGE: Final = 2
COMPENSATED: Final = 3
LOCKED: Final = 4
STORE: Final = 5
UNDECIDED: Final = 6
DIFFERENT: Final = 7
INTERRUPTED: Final = 130
TERMINATED: Final = 143

BY_STATUS: Final = {
    Status.COMPLETED: DONE,
    Status.COMPENSATED: COMPENSATED,
    Status.COMPENSATION_FAILED: UNDECIDED,
    Status.PAUSED: UNDECIDED,
    Status.WAITING: UNDECIDED,
}
"""What the end of a run means to the process that ran it."""
