"""Which compensations may be under way at the same time: what began after a step had ended is compensated before it.

So what happened is mirrored, and steps that overlapped, which cannot have built on each other, are compensated at the
same time. Branches, and children, are compared as wholes: neighbours in one scope, from the first intent to the last
outcome in each. Inside one the same holds again, so that a branch is compensated in reverse order of its intents.

That order needs no note of who waited for whom, or why: whatever did wait began later. It never has more under way than
there was going forward, for what is under way together overlapped pairwise, hence all at one time: a limit holds. And
the reverse order of intents over all, one by one, is one of the orders that it allows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf

from sagadsl._core.effects import Flow, Together
from sagadsl._core.scope import Scope
from sagadsl._core.scope.slot import Slot

Span = tuple[float, float]


def abreast(
    scope: Scope, owed: list[Slot], compensate: Callable[[Slot], Flow[None]], is_stuck: Callable[[], bool]
) -> Flow[None]:
    """Have each call *owed* compensated as soon as all that began after it had ended are; none once it *is_stuck*.

    Raises:
        RuntimeError: The driver, an engine's, does not know how.
    """
    left = set(owed)
    front, fronts = front_of(scope, left)
    ended: deque[Slot] = deque()
    ready = front.ready()

    def one(slot: Slot) -> Flow[None]:
        yield from compensate(slot)
        left.discard(slot)
        ended.append(slot)

    def following() -> list[Flow[None]]:
        while ended:
            slot = ended.popleft()
            ready.extend(fronts[slot].after(slot))
        slots = [] if is_stuck() else sorted(ready, key=lambda slot: -slot.place)
        ready.clear()
        return [one(slot) for slot in slots]

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


class Front:
    """The calls of one scope that are still to be compensated, and which of them nothing has to precede any more.

    That is so of each that had not ended when the last of those left began. The last gets ever earlier, so a call that
    is ready stays so: each is examined once, and the whole is linear after sorting.
    """

    __slots__ = ("by_begin", "by_end", "gone", "inner", "outer", "spans")

    def __init__(self, parts: list[Slot], spans: dict[Slot, Span], inner: dict[Slot, Front]) -> None:
        self.by_begin = sorted(parts, key=lambda slot: spans[slot][0])
        self.by_end = sorted(parts, key=lambda slot: spans[slot][1])
        self.spans, self.inner, self.gone = spans, inner, set[Slot]()
        self.outer: tuple[Front, Slot] | None = None
        for slot, front in inner.items():
            front.outer = self, slot

    def ready(self) -> list[Slot]:
        """Return the calls that may be compensated now and that were not returned before."""
        while self.by_begin and self.by_begin[-1] in self.gone:
            self.by_begin.pop()
        found: list[Slot] = []
        while self.by_end and self.spans[self.by_end[-1]][1] >= self.spans[self.by_begin[-1]][0]:
            slot = self.by_end.pop()
            found += self.inner[slot].ready() if slot in self.inner else [slot]
        return found

    def after(self, slot: Slot) -> list[Slot]:
        """Take in that a call here, or all that is inside it, is compensated; return the calls that follow."""
        self.gone.add(slot)
        found = self.ready()
        if not found and self.outer is not None and not self.by_begin:
            outer, around = self.outer
            return outer.after(around)
        return found


def front_of(scope: Scope, owed: set[Slot]) -> tuple[Front, dict[Slot, Front]]:
    """Return the front of a scope, and for each call *owed* in it, or in a child, the front that it stands in."""
    spans: dict[Slot, Span] = {}
    measure(scope, spans)
    fronts: dict[Slot, Front] = {}

    def made(scope: Scope) -> Front:
        inner = {slot: made(slot.child) for slot in scope.slots if slot.child is not None}
        inner = {slot: front for slot, front in inner.items() if front.by_begin}
        front = Front([slot for slot in scope.slots if slot in owed or slot in inner], spans, inner)
        fronts.update(dict.fromkeys((slot for slot in scope.slots if slot in owed), front))
        return front

    return made(scope), fronts
