"""Where the program is: what a body, a step or a compensation asks about itself. Imported when somebody names it."""

from __future__ import annotations

import os
import time
from typing import Any

import attrs
from attrs import frozen

from sagadsl._core.effects import Call
from sagadsl._core.runtime import default_runtime
from sagadsl._core.scope import CURRENT
from sagadsl.errors import UsageError


@frozen(kw_only=True)
class Current:
    """Where the program is. In a saga's body *key* and *attempt* are `None`.

    *remaining* is the seconds left of the attempt's timeout, `None` without one. Outside a saga *run_id* is `None` and
    *idempotency_key* a fresh one.
    """

    run_id: str | None
    key: str | None = None
    attempt: int | None = None
    _idempotency_key: str | None = attrs.field(default=None, repr=False)
    deadline: float | None = attrs.field(default=None, repr=False)
    _open: Any = attrs.field(default=None, repr=False)
    _call: Any = attrs.field(default=None, repr=False)

    def note(self, note: Any) -> None:
        """Have *note* recorded beside the step's result, in `StepInfo.note`: facts about it that no caller is given.

        The last one of an attempt counts. Outside a saga there is no record, and nothing happens.

        Raises:
            UsageError: In a saga's body, a compensation or a probe: only a step has a result.
        """
        if self.run_id is None:
            return
        if self._call is None:
            msg = "current().note() is for the body of a step: nothing else has a result to note something beside"
            raise UsageError(msg)
        self._call.note = note

    @property
    def idempotency_key(self) -> str:
        """The same on every attempt, every resume and every machine.

        Raises:
            UsageError: In a saga's body: only steps and compensations have one.
        """
        if self._idempotency_key is None:
            msg = f"the body of saga run {self.run_id} has no idempotency key: ask inside a step"
            raise UsageError(msg)
        return self._idempotency_key

    @property
    def remaining(self) -> float | None:
        """Seconds left of this attempt's timeout."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    @property
    def run(self) -> Any:
        """The run as the journal has it, or `None` outside a saga or before its first entry."""
        return None if self._open is None or self._open.is_new else default_runtime.info(self._open)


def current() -> Current:
    """Say where the program is: in which run, and inside a step, on which attempt, with which idempotency key.

    The idempotency key of a step is the same on every attempt, every resume and every machine; a compensation has one
    of its own.
    """
    here = CURRENT.get()
    if here is None:
        return Current(run_id=None, idempotency_key=os.urandom(16).hex())
    if isinstance(here, Call):
        slot = here.slot
        suffix = "/compensation" if here.is_compensation else ""
        return Current(
            run_id=slot.run.id,
            key=slot.key,
            attempt=here.attempt,
            idempotency_key=slot.idempotency_key + suffix,
            deadline=here.deadline,
            open=slot.run,
            call=None if here.is_compensation or here.is_probe else here,
        )
    return Current(run_id=here.run.id, open=here.run)
