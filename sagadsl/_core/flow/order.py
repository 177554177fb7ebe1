"""Which compensations may be under way at the same time: what began after a step had ended is compensated before it.

So what happened is mirrored, and steps that overlapped, which cannot have built on each other, are compensated at the
same time. Branches, and children, are compared as wholes: neighbours in one scope, from the first intent to the last
outcome in each. Inside one the same holds again, so that a branch is compensated in reverse order of its intents.

That order needs no note of who waited for whom, or why: whatever did wait began later. It never has more under way than
there was going forward, for what is under way together overlapped pairwise, hence all at one time: a limit holds. And
the reverse order of intents over all, one by one, is one of the orders that it allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf

from sagadsl._core.effects import Flow, Together
from sagadsl._core.scope import Scope, Slot

Span = tuple[float, float]


def abreast(
    scope: Scope, owed: list[Slot], compensate: Callable[[Slot], Flow[None]], is_stuck: Callable[[], bool]
) -> Flow[None]:
    """Have each call *owed* compensated as soon as all that began after it had ended are; none once it *is_stuck*.

    Raises:
        RuntimeError: The driver, an engine's, does not know how.
    """
    spans: dict[Slot, Span] = {}
    measure(scope, spans)
    left, begun = set(owed), set[Slot]()

    def one(slot: Slot) -> Flow[None]:
        yield from compensate(slot)
        left.discard(slot)

    def following() -> list[Flow[None]]:
        if is_stuck():
            return []
        slots = [slot for slot in foremost(scope, left, spans) if slot not in begun]
        begun.update(slots)
        return [one(slot) for slot in sorted(slots, key=lambda slot: -slot.place)]

    yield Together(scope, following)
    if left and not is_stuck():
        msg = "the driver has left out flows that were to be run together: nothing is said to be compensated"
        raise RuntimeError(msg)


def measure(scope: Scope, spans: dict[Slot, Span]) -> Span:
    """Note for each call in *scope* where among the entries it began and ended; return that of the scope."""
    for slot in scope.slots:
        if slot.child is not None:
            spans[slot] = measure(slot.child, spans)
        else:  # one that was cut off has not ended
            spans[slot] = slot.place, slot.outcome if slot.outcome >= slot.place else inf
    inside = [spans[slot] for slot in scope.slots]
    return min((begun for begun, _ in inside), default=inf), max((ended for _, ended in inside), default=0)


def foremost(scope: Scope, left: set[Slot], spans: dict[Slot, Span]) -> Iterator[Slot]:
    """Yield those of the calls *left* in *scope* that nothing has to precede: no other began after they had ended."""
    parts = [slot for slot in scope.slots if is_left(slot, left)]
    last = max((spans[slot][0] for slot in parts), default=0)
    for slot in parts:
        if spans[slot][1] >= last:
            yield from [slot] if slot.child is None else foremost(slot.child, left, spans)


def is_left(slot: Slot, left: set[Slot]) -> bool:
    """Tell whether a call, or one inside a child, is among those *left*."""
    return slot in left or (slot.child is not None and any(is_left(each, left) for each in slot.child.slots))
