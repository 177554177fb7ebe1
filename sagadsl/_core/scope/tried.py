"""One attempt of a call that another one followed: how it ended, and when, as the journal has it."""

from __future__ import annotations

from sagadsl._core.structs import Struct
from sagadsl._core.values import StepStatus


class Tried(Struct):
    """An attempt that was tried again.

    *status* is ``entered`` where no end of it is on record: it was cut off. *fault* is what it failed with, as JSON
    text. *begun* and *ended* are microseconds since 1970; 0: nobody knows, for whoever entered it was gone by then.
    """

    status: StepStatus
    fault: str | None
    begun: int
    ended: int
