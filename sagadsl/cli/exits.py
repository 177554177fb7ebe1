"""Which status of a run means which exit code; errors and outcomes carry their own."""

from __future__ import annotations

from typing import Final

from sagadsl import Status
from sagadsl.errors import ExitCode

BY_STATUS: Final = {
    Status.COMPLETED: ExitCode.DONE,
    Status.COMPENSATED: ExitCode.COMPENSATED,
    Status.COMPENSATION_FAILED: ExitCode.UNDECIDED,
    Status.PAUSED: ExitCode.UNDECIDED,
    Status.WAITING: ExitCode.UNDECIDED,
}
"""What the end of a run means to the process that ran it."""
