"""Tasks that come again in another order: what is on record is called again before anything else happens.

On resume nothing waits where it waited before, so tasks come in whatever order their own awaiting gives. Let one begin
what is new, or have back how a call ended, before the others have made the calls that were made before that: then a
step would seem to come out of turn, and a body could fail, and be left, before what it owes has been called again.

So who comes too early gives its turn away until the calls on record have come that were made earlier. It waits for
no more than that, and not for ever: code that has changed does not make them at all, and is told so.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from sagadsl._core.effects import Flow, Sleep
from sagadsl._core.scope import Scope
from sagadsl._core.scope.cancelled import coming, counts
from sagadsl._core.scope.slot import OpenRun, Slot
from sagadsl._core.values import Kind
from sagadsl.errors import Stop

PATIENCE = (*[0.0] * 100, *[2**number / 1000 for number in range(10)])
"""How long who comes too early sleeps, again and again: a hundred turns of the event loop, then a second in all."""


def come_in(slot: Slot, *, is_async: bool) -> Flow[None]:
    """Let a call in where its turn is; hold it back until that has come which was called before it ended.

    Raises:
        Stop: The record says that another call comes here.
    """
    if is_async:
        yield from wait_for_turn(slot)
    else:
        slot.scope.admit(slot)
    if slot.run.pending:
        yield from take_over(slot.child or slot.scope)


def wait_for_turn(slot: Slot) -> Flow[None]:
    """Let a call of an ``async def`` in, when it is its turn."""
    scope, run = slot.scope, slot.run
    earlier = counts(scope)
    try:
        yield from give_way(run, lambda: scope.expected(slot) is not slot)
        scope.admit(slot)
        is_held = slot.child is None if slot.seq else not slot.is_free
        if is_held:
            yield from come_after(run, slot.outcome if slot.has_outcome else inf)
    except BaseException as error:
        scope.forgo(slot)
        if slot.seq and not slot.has_outcome and not isinstance(error, Stop):
            slot.cancelled = coming(scope, earlier)
            run.cut.append((slot, error))  # an attempt on record that has no end gets this one
        raise


def take_over(scope: Scope) -> Flow[None]:
    """Put on record that this process has the run, once what is recorded of a scope has come again: it may die there.

    Before that nothing is written, for the code may do something else by now. By hand nothing need come again. What a
    person asked for (that it goes on from a pause, or is compensated) waits for its first effect.
    """
    run = scope.run
    if any(each.past is not None and each.past.order and not each.past.is_free for each in scope.chain()):
        return
    with run.guard:  # of several branches one writes it, in place, and none of the others anything before
        if [entry.kind for entry in run.pending] == [Kind.TAKEN]:
            yield run.pending[0]


def come_out(scope: Scope) -> Flow[None]:
    """Hold back the end of a child, or a branch, that is on record, until that has come which was called before it."""
    if scope.slot is not None and scope.slot.outcome and scope.spec is not None and scope.spec.is_async:
        yield from come_after(scope.run, scope.slot.outcome)


def come_after(run: OpenRun, place: float) -> Flow[None]:
    """Let the calls come again that stand before a place in the record; those that do not are not waited for again."""

    def is_early() -> bool:
        with run.guard:
            return next((slot.seq for slot in run.ahead), inf) < place

    yield from give_way(run, is_early)
    if is_early():
        run.ahead.clear()


def give_way(run: OpenRun, is_early: Callable[[], bool]) -> Flow[None]:
    """Let others have their turn as long as it is early."""
    for seconds in PATIENCE:
        if not is_early() or not run.ahead:
            return
        yield Sleep(seconds)
