"""What must happen: the saga itself, as generators that yield effects and never act.

``calls`` is one call of a step: what is on record comes back (``again``: whatever order tasks come in), anything else
is done. ``attempts`` does it: intent before the effect, outcome after it, again as long as its `Retry` says; ``doubt``
decides about an attempt without outcome. ``leaving`` ends a saga: its value is recorded, or it pauses (``stopping``),
or what it owes is compensated (``compensation``, and ``order`` where that is done at the same time). Each rule of the
contract about order, replay and failure stands here, once, for both colours and every engine.

Three words of reading help: ``yield`` hands an effect to the driver, ``yield from`` runs another flow, and what the
driver throws in at a ``yield`` is what the user's function raised, or the `Stop` of a run that must not go on.
"""

from sagadsl._core.flow.again import take_over
from sagadsl._core.flow.attempts import attempt, handed_over, in_place, renew
from sagadsl._core.flow.calls import child_scope, descend, perform
from sagadsl._core.flow.compensation import Ended, is_compensated
from sagadsl._core.flow.leaving import completed, leave_to_a_person, past_pivot, settle, settle_branch
from sagadsl._core.flow.stopping import PRESSED

__all__ = [
    "PRESSED",
    "Ended",
    "attempt",
    "child_scope",
    "completed",
    "descend",
    "handed_over",
    "in_place",
    "is_compensated",
    "leave_to_a_person",
    "past_pivot",
    "perform",
    "renew",
    "settle",
    "settle_branch",
    "take_over",
]
