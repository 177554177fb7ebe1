"""A step of a handle's run is called: in a block like any step of a saga, by hand by its name and arguments.

By hand there is no body, so no order: which call it is, is found on record; one that failed is tried again, and one
that is done comes back as it is. What fails leaves the run open, for its end is somebody's word.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from sagadsl._core.codec import user_frames
from sagadsl._core.definition import StepSpec
from sagadsl._core.effects import Call
from sagadsl._core.scope import CURRENT, Scope
from sagadsl._core.scope.slot import Slot
from sagadsl._core.values import StepStatus
from sagadsl._dsl import running, steps
from sagadsl._dsl.blocks.held import Held, Use
from sagadsl._dsl.kernel import HeedingStop
from sagadsl.errors import ReplayError, Stop, UsageError

log = logging.getLogger("sagadsl")


class Calls:
    """The calls of a run's steps by its handle, and those of them that are under way by hand."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._busy: set[Slot] = set()
        self._cut: tuple[Scope, BaseException] | None = None

    def caller(self, spec: StepSpec, *, again: bool = False) -> Callable[..., Any]:
        """Return what happens when a step of this run is called; with *again* each call by hand is a further one."""
        in_block = steps.caller(spec, self._here)

        def call(*called: Any) -> Any:
            __tracebackhide__ = True
            if self._held.use is Use.BLOCK:
                return in_block(*called)
            mine: list[Slot] = []
            by_hand = steps.caller(spec, self._here, functools.partial(self._slot, mine, again))
            return self._acall(by_hand, called, mine) if spec.is_async else self._call(by_hand, called, mine)

        return call

    def _call(self, by_hand: Callable[..., Any], called: Any, mine: list[Slot]) -> Any:
        """Do a step by hand; *mine* is where its slot is put once it has one."""
        __tracebackhide__ = True
        try:
            return by_hand(*called)
        except BaseException as error:  # noqa: BLE001  # raised again, a stop as its reason
            out = self._raised(error, mine)
        finally:
            self._ended(mine)
        raise out

    async def _acall(self, by_hand: Callable[..., Any], called: Any, mine: list[Slot]) -> Any:
        """Do a step by hand; *mine* is where its slot is put once it has one."""
        __tracebackhide__ = True
        try:
            with HeedingStop():
                return await by_hand(*called)
        except BaseException as error:  # noqa: BLE001  # as above
            out = self._raised(error, mine)
        finally:
            self._ended(mine)
        raise out

    def _raised(self, error: BaseException, mine: list[Slot]) -> BaseException:
        """Return what a step by hand raises. After a stop the next use opens the run again: the file knows best."""
        scope = mine[0].scope if mine else self._held.scope
        if isinstance(error, Stop):
            self._held.let_go(scope)
            return error.reason
        if scope is not None and not isinstance(error, Exception):
            scope.run.cut.clear()  # no body survives it: what was cut off is on record as begun, and stays so
            self._cut = scope, error
        return error.with_traceback(user_frames(error))

    def _ended(self, mine: list[Slot]) -> None:
        """Take note that a call is over. After an interruption the run is let go with the last that is under way.

        The others are not interrupted, and what they give goes on record.
        """
        with self._held.guard:
            self._busy.difference_update(mine)
            if self._cut is None or (self._busy and self._cut[0].run.stop is None):
                return
            (scope, error), self._cut = self._cut, None
            if not scope.closing:  # else somebody ends the run, and waits for this call to be over
                running.interrupted(scope, error)
                self._held.let_go(scope)

    def _here(self) -> Scope | Call | None:
        """Return where a step of this run is called.

        Raises:
            UsageError: The run has ended, or this is another run's body.
        """
        held, here = self._held, CURRENT.get()
        if isinstance(here, Call):
            return here  # where no step can be called at all
        scope = held.scope  # once, for a block may be left just now: without one a step is the plain function
        if held.over or (held.use is Use.BLOCK and scope is None):
            msg = f"{held.spec.name} {held.over}: a further step takes a further run, {held.another}"
            raise UsageError(msg)
        if here is not None and here.home is not scope:
            msg = (
                f"a step of {held.spec.name} is called inside {here.name}, which would not compensate it; "
                "begin a block there: with saga(...)"
            )
            raise UsageError(msg)
        if held.use is Use.BLOCK:
            return here or scope
        held.use = Use.BY_HAND
        return held.opened_by_hand()

    def _slot(
        self,
        mine: list[Slot],
        again: bool,  # noqa: FBT001  # as told
        scope: Scope,
        name: str,
        *call: *tuple[str, str, str | None],
    ) -> Slot:
        """Return the slot of a call by hand: a failed one to be entered again, a done one to come back as it is.

        Raises:
            UsageError: It is under way.
            ReplayError: It was a saga, or was cancelled in a run that is completed.
        """
        with self._held.guard:
            slot = scope.call(name, *call, again)
            if slot in self._busy or scope.has_in_flight(slot):
                msg = f"{slot.key} is under way with these arguments; step(..., again=True) makes it a further call"
                raise UsageError(msg)
            mine.append(slot)
            self._busy.add(slot)
        if slot.child is not None:
            reason = f"{name} was a saga"
            raise ReplayError(scope.run.id, "", (slot.local_key,), (name,), reason)
        if self._held.is_record and slot.status is StepStatus.CANCELLED:
            raise scope.beyond(slot)
        if slot.done:
            log.warning(
                "%s is recorded with these arguments: what it gave comes back; step(..., again=True) does it once more",
                slot.key,
                extra={"run": scope.run.id},
            )
        elif slot.seq and not self._held.is_record:
            slot.again = slot.fault is not None
            log.warning("%s is tried again", slot.key, extra={"run": scope.run.id})
        return slot
