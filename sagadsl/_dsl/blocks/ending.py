"""A run by hand ends by somebody's word: it is completed, or what it owes is compensated.

A block ends where it is left, so here it is refused; and so is an end from inside the run, or while a step of it is
under way.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from sagadsl._core.awaiting import to_the_end
from sagadsl._core.effects import Call
from sagadsl._core.flow import Ended
from sagadsl._core.later import Later
from sagadsl._core.runtime.deciding import Request, need_functions, request_compensation
from sagadsl._core.scope import CURRENT
from sagadsl._core.values import Status
from sagadsl._dsl import running
from sagadsl._dsl.blocks.held import Held, Use
from sagadsl._dsl.outcomes import as_call
from sagadsl.errors import UsageError

if TYPE_CHECKING:
    from sagadsl._core.runtime import stored
else:
    stored = Later("sagadsl._core.runtime.stored")


def complete(held: Held, value: Any) -> Any:
    """Complete a run with *value*; return it as it would come back after a restart."""
    refuse_to_end(held, "complete")
    if held.over:
        msg = f"{held.spec.name} {held.over}: there is nothing to complete"
        raise UsageError(msg)
    scope = held.opened_by_hand()
    try:
        ended = running.leave(scope, held.calling, value, None)
    finally:
        held.let_go()
    if isinstance(ended, Ended):
        held.over = "is completed"
    return as_call(held.runtime, scope.run, ended)


def compensate(held: Held, request: Request) -> Any:
    """Compensate what a run owes, or carry on doing so; return the run, or an awaitable of it."""
    if held.is_record:  # it is completed, and nobody has it
        held.let_go()
        held.is_record = False
    runtime, known = held.runtime, held.known_id
    try:
        if held.scope is not None or known is None:
            scope = held.opened()
            request_compensation(scope, request, runtime.provided)
        else:
            opened, _ = runtime.reopen(held.spec, known, request, held.options)
            if opened.scope is None:  # nothing is owed any more
                return runtime.find(known)
            scope = held.have(opened.scope)
            need_functions(scope, runtime.provided)
        work = runtime.compensate_scope(scope, scope.run.id)
        return _acompensated(held, work) if inspect.isawaitable(work) else _compensated(held, work)
    except BaseException:
        held.let_go()  # what was refused is queued in the scope; the file does not have it
        raise


def _compensated(held: Held, run: stored.Run) -> stored.Run:
    held.let_go()
    held.over = "is compensated" if run.status is Status.COMPENSATED else ""
    return run


async def _acompensated(held: Held, work: Awaitable[stored.Run]) -> stored.Run:
    """Await compensation to its end, whoever is cancelled meanwhile."""
    try:
        return _compensated(held, await to_the_end(work))
    except BaseException:
        held.let_go()
        raise


def refuse_to_end(held: Held, verb: str) -> None:
    """Refuse to end a run by hand that is a block, or to do so where it is being run.

    Raises:
        UsageError: As said.
    """
    name, here = held.spec.name, CURRENT.get()
    if held.use is Use.BLOCK:
        cure = "leaving it completes it" if verb == "complete" else "an exception that leaves it compensates it"
        msg = f"{name} is a block, and {cure}: {verb}() is for a run by hand"
        raise UsageError(msg)
    if here is not None:
        where = f"step {here.slot.key}" if isinstance(here, Call) else here.name
        msg = f"{verb}() of {name} is called inside {where}; call it outside, when nothing of it is under way"
        raise UsageError(msg)
    if held.scope is not None and any(isinstance(call, Call) and call.is_async for call in held.scope.flying):
        msg = f"run {held.scope.run.id}: a step is under way; await it, then {verb}() the run"
        raise UsageError(msg)
    held.use = Use.BY_HAND
