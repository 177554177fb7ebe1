"""A run by hand ends by somebody's word: it is completed, or what it owes is compensated.

A block ends where it is left, so here it is refused; and so is an end from inside the run, or while a step of it is
under way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sagadsl._core.effects import Call
from sagadsl._core.flow import Ended
from sagadsl._core.later import Later
from sagadsl._core.runtime.deciding import Request, need_functions, request_compensation
from sagadsl._core.scope import CURRENT, Scope
from sagadsl._core.values import Status
from sagadsl._dsl import running
from sagadsl._dsl.blocks.held import Held, Use
from sagadsl._dsl.outcomes import as_call
from sagadsl.errors import RunConflictError, UsageError

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
    known = held.known_id or held.opened().run.id
    is_new = held.scope is not None and held.scope.run.is_new
    if not is_new and held.runtime.is_awaited(on_record(held, known), request, held.last):
        return _acompensate(held, request, known)
    try:
        scope = _asked(held, request)
        return _compensated(held, held.runtime.find(known) if scope is None else held.runtime.compensate_scope(scope))
    finally:
        held.let_go()  # also after a refusal: what was asked for is queued in the scope, and not in the file


def on_record(held: Held, run_id: str) -> str:
    """Return a run's id, which is on record as it is: a run that is stored is found by a beginning of its id, too.

    Raises:
        RunConflictError: It is not.
    """
    journal = held.runtime.journal()
    if not journal.runs(id=run_id):
        raise RunConflictError(run_id, f"is not in {journal.name}: nothing was done in it")
    return run_id


async def _acompensate(held: Held, request: Request, known: str) -> stored.Run:
    """Do it where it is to be awaited; before, nothing is held for it or asked of the run."""
    refuse_to_end(held, "compensate")  # a step may have begun since
    runtime = held.runtime
    try:
        scope = _asked(held, request)
        return _compensated(held, runtime.find(known) if scope is None else await runtime.acompensate_scope(scope))
    finally:
        held.let_go()


def _asked(held: Held, request: Request) -> Scope | None:
    """Return the scope of a run that is to compensate from here on, `None` where nothing is owed any more."""
    if held.is_record:  # it is completed, and nobody has it
        held.let_go()
        held.is_record = False
    runtime, known = held.runtime, held.known_id
    if held.scope is not None or known is None:
        scope = held.opened()
        request_compensation(scope, request, runtime.provided)
        return scope
    opened, _ = runtime.reopen(held.spec, known, request, held.options)
    if opened.scope is None:
        return None
    scope = held.have(opened.scope)
    need_functions(scope, runtime.provided)
    return scope


def _compensated(held: Held, run: stored.Run) -> stored.Run:
    """Return a run that is compensated, or as far back as was asked: then a further step goes on with it."""
    held.over = "is compensated" if run.status is Status.COMPENSATED else ""
    return run


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
