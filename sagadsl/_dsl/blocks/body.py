"""A handle as a block: from the line that enters it to the one that leaves it, its run is the current position.

Entering opens the run (or a child, inside another); leaving settles it, by the rules and the code of a decorated saga.
Python cannot skip the body, so over a record it runs again: what is recorded comes back, and nothing else is entered
once the run has ended.
"""

from __future__ import annotations

from contextlib import ExitStack

from sagadsl._core import threads
from sagadsl._core.codec import user_frames
from sagadsl._core.effects import Call
from sagadsl._core.flow import Ended, descend
from sagadsl._core.scope import CURRENT, Scope
from sagadsl._core.scope.waking import came_out
from sagadsl._dsl import running, steps
from sagadsl._dsl.blocks.held import Held, Use
from sagadsl._dsl.kernel import HeedingStop
from sagadsl._dsl.outcomes import as_call
from sagadsl.errors import UsageError


class Body:
    """The body of a block, entered once."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._around: Scope | None = None
        self._heeding = ExitStack()

    def enter(self) -> None:
        """Begin the body, in a ``def``."""
        __tracebackhide__ = True
        scope = self._begin(is_async=False)
        if scope.slot is not None:
            scope.run.drive(descend(scope))
            if scope.has_failed:  # on record: raised again, and the body need not run
                self._come_out(scope, running.leave(scope, self._held.calling, None, None), None)
        self._stand_in(scope)

    def leave(self, error: BaseException | None) -> bool:
        """End the body, in a ``def``; return whether *error*, which it raised, is swallowed."""
        __tracebackhide__ = True
        scope = self._end()
        try:
            ended = running.leave(scope, self._held.calling, None, error)
        finally:
            self._held.let_go()
        return self._come_out(scope, ended, error)

    async def aenter(self) -> None:
        """Begin the body, in an ``async def``."""
        __tracebackhide__ = True
        scope = self._begin(is_async=True)
        if scope.slot is not None:
            await scope.run.adrive(descend(scope))
            if scope.has_failed:  # as above
                self._come_out(scope, await running.aleave(scope, self._held.calling, None, None), None)
        running.begin(scope)
        self._stand_in(scope)

    async def aleave(self, error: BaseException | None) -> bool:
        """End the body, in an ``async def``; return whether *error*, which it raised, is swallowed."""
        __tracebackhide__ = True
        scope = self._end()
        try:
            ended = await running.aleave(scope, self._held.calling, None, came_out(scope, error))
        finally:
            self._held.let_go()
        return self._come_out(scope, ended, error)

    def _begin(self, *, is_async: bool) -> Scope:
        """Open the run of a block, or a child of the one around it.

        Raises:
            UsageError: It was entered before, or used by hand, or this is no place for it.
        """
        held, name, here = self._held, self._held.spec.name, CURRENT.get()
        if held.use is not Use.UNDECIDED:
            used = "was entered before" if held.use is Use.BLOCK else "is used by hand"
            msg = f"{name} {used}: each block takes a run of its own, {held.another}"
            raise UsageError(msg)
        if isinstance(here, Call):
            msg = f"the block {name} is entered inside step {here.slot.key}: a step is a leaf. Enter it in the saga"
            raise UsageError(msg)
        if here is not None and is_async and not steps.is_async_body(here):
            msg = f"{name} is entered with `async with` inside {here.name}, which cannot await: use `with`"
            raise UsageError(msg)
        held.spec.is_async = is_async
        scope = held.opened_forward() if here is None else self._child(here)
        if here is None and not held.is_record:
            threads.begin(scope.run)
        held.scope = held.last = scope
        held.use, self._around = Use.BLOCK, here
        return scope

    def _child(self, here: Scope) -> Scope:
        """Return the scope of a block inside another body.

        Raises:
            UsageError: It has a run already, of its own.
        """
        held = self._held
        if held.scope is not None:
            msg = f"{held.spec.name} was begun outside of {here.name}: inside it a block takes a run of its own"
            raise UsageError(msg)
        return running.child_of(here, held.spec, {}, None, held.options)

    def _stand_in(self, scope: Scope) -> None:
        """Make the scope of the block the current position."""
        CURRENT.set(scope)
        self._heeding.enter_context(HeedingStop())

    def _end(self) -> Scope:
        """Leave the current position; nothing more is done in the block."""
        assert self._held.scope is not None  # noqa: S101  # it was entered
        if CURRENT.get() is self._held.scope:  # else it is collected, somewhere else, after its loop was closed
            CURRENT.set(self._around)
        self._heeding.close()
        self._held.over = "was left"
        self._held.scope.task = None
        return self._held.scope

    def _come_out(self, scope: Scope, ended: Ended | BaseException, error: BaseException | None) -> bool:
        """Raise what a saga would raise; return whether the body's own *error* is swallowed, as ``__exit__`` does."""
        __tracebackhide__ = True
        coming = ended if isinstance(ended, BaseException) else ended.error
        context = None if coming is None else coming.__context__
        try:
            as_call(self._held.runtime, scope.run, ended)
        except BaseException as out:
            if out is error:
                out.with_traceback(user_frames(out))
                return False
            if out is coming:
                out.__context__ = context  # it is no accident of handling what the body raised
            raise
        return error is not None
