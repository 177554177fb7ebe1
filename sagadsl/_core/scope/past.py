"""What is recorded of the calls of a scope and not called again yet: which of them a call is, and what must come next.

A call is told by its name and its explicit key, or else by its arguments and its occurrence among equal ones. Most come
back in the recorded order, word for word: then the next one is the one, and nothing is asked of the others. The first
that is not has the rest sorted by what tells them apart, in a form of the arguments that no order of keys changes.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Generic, Protocol, TypeVar


class OnRecord(Protocol):
    """What is to be known of a call: of a ``scope.Slot``."""

    name: str
    arguments: str
    cut: bool

    @property
    def local_key(self) -> str:
        """Its key as seen from inside its scope."""

    @property
    def is_free(self) -> bool:
        """It may come in any order."""

    @property
    def supersedes(self) -> str | None:
        """The key of the call that it was made instead of."""


S = TypeVar("S", bound=OnRecord)

NAMED = 5
"""How many calls a reason names that were not made again; the error that it belongs to has them all."""


class Past(Generic[S]):
    """The recorded calls of one scope, each with its *base*: its name, and its explicit key.

    *order* has those that were not made again yet, *called* those that were; *instead* has, by the key of another call,
    what no body calls by itself. *canonical* gives the form in which equal arguments are the same text. In a past that
    *is_strict* they never overlapped, and come in their order again. In one that *is_free* calls come by hand: in any
    order, any number of times or not at all. Nothing in it is used up, and what is called is added.
    """

    def __init__(
        self, canonical: Callable[[str], str], calls: Iterable[tuple[str, S]] = (), *, is_strict: bool = False
    ) -> None:
        self.canonical, self.is_strict, self.is_free = cache(canonical), is_strict, False
        calls = tuple(calls)
        self.recorded = tuple(slot for _, slot in calls)
        self.instead = {slot.supersedes: slot for slot in self.recorded if slot.supersedes is not None}
        self.unsorted = deque(call for call in calls if call[1].supersedes is None)
        self.order = OrderedDict.fromkeys(self.recorded)  # a dict that loses its first is slow to find the next
        self.called: list[S] = []
        self.sorted: dict[tuple[str, str | None], deque[S]] = {}

    def take(self, name: str, base: str, arguments: str) -> S | None:
        """Return the recorded call that one is, which nothing else is from now on; `None` where it is a new one."""
        if self.unsorted and not self.is_free:
            first_base, first = self.unsorted[0]
            if first_base == base and first.name == name and (base != name or first.arguments == arguments):
                self.unsorted.popleft()
                return first
        found = self.equal(name, base, arguments)
        if not found:
            return None
        return found[-1] if self.is_free else found.popleft()

    def equal(self, name: str, base: str, arguments: str) -> deque[S]:
        """Return the calls that are equal to one, and that nothing has been yet."""
        while self.unsorted:
            each, slot = self.unsorted.popleft()
            self._sorted(slot.name, each, slot.arguments).append(slot)
        return self._sorted(name, base, arguments)

    def _sorted(self, name: str, base: str, arguments: str) -> deque[S]:
        told = (base, self.canonical(arguments) if base == name else None)
        return self.sorted.setdefault(told, deque())

    def expected(self, slot: S) -> S:
        """Return the recorded call that comes next; *slot* itself where any may come."""
        if not self.is_strict or self.is_free or next(iter(self.order), slot) is slot or slot.is_free:
            return slot
        return next((each for each in self.order if not each.is_free), slot)

    def diverged(self, slot: S, expected: S) -> dict[str, Any]:
        """Return what is *recorded*, what was *called*, and the *reason*, where *slot* came instead of another."""
        called = keys_of(self.called)
        if slot.name == expected.name:
            reason = f"{slot.name} is called with {slot.arguments:.200}, recorded is {expected.arguments:.200}"
            called = (*called[:-1], f"{slot.name} (other arguments)")
        else:
            reason = f"{slot.name} is called where {expected.local_key} is recorded"
        return {"recorded": keys_of(self.recorded), "called": called, "reason": reason}

    def leftover(self) -> dict[str, Any] | None:
        """Return the same, where the body has ended and recorded calls were not made again."""
        if self.is_free or not self.order:
            return None
        if not self.is_strict and all(slot.cut for slot in self.order):
            return None  # what was cut off beside others may be cut off before it is called
        keys = keys_of(self.order)
        more = f" and {len(keys) - NAMED:,} more" if len(keys) > NAMED else ""
        reason = f"it ended before {', '.join(keys[:NAMED])}{more}"
        return {"recorded": keys_of(self.recorded), "called": keys_of(self.called), "reason": reason}


def keys_of(slots: Iterable[OnRecord]) -> tuple[str, ...]:
    """Return the keys of calls as seen from inside their scope."""
    return tuple(slot.local_key for slot in slots)
