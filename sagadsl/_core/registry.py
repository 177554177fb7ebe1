"""What the program has decorated, and how the journal's names lead back to it where no body is there to say.

Only what stands at the top of a module can be found; a closure, a method or a lambda is bound by the body that calls
it. Nothing is imported: a name that is not there is no function.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from typing import Any

import attrs

from sagadsl._core.codec.classes import find_function
from sagadsl._core.definition import Compensation, StepSpec
from sagadsl._core.parameters import AsGiven, Parameters, Receiver, annotations_of
from sagadsl._core.scope import Slot, facts_of
from sagadsl.errors import UsageError


class Registry:
    """The steps and sagas that the program has decorated, by module and name."""

    def __init__(self) -> None:
        self.steps: dict[tuple[str, str], StepSpec] = {}
        self.sagas: weakref.WeakValueDictionary[tuple[str, str], Any] = weakref.WeakValueDictionary()

    def step_of(self, slot: Slot) -> StepSpec | None:
        """Return what compensates a call that no body has made: the decorated step of its name, if there is one.

        It does so by the function that the journal names. Found by its name alone, that is tried as often as one of
        which nothing else is said.
        """
        facts = slot.facts
        spec = self.steps.get((facts["module"], slot.name))
        if spec is not None and _place(facts_of(spec.definition)) == _place(facts):
            return spec
        where, name = _place(facts)
        function = find_function(where, name)
        receiver = None if function is None else _receiver(slot, function)
        if function is None or receiver is None:
            return None  # a step of that name which no longer has the compensation on record is another one
        back: dict[str, Any] = {
            "compensation": Compensation(function),
            "compensation_module": where,
            "receiver": receiver,
        }
        if spec is not None:
            return attrs.evolve(spec, **back)
        names = _parameters(slot, function)
        return StepSpec(function, slot.name, slot.name, facts["module"], is_async=False, parameters=names, **back)


registry = Registry()
"""The process's: decorators run at import."""


def _receiver(slot: Slot, function: Callable[..., Any]) -> Receiver | AsGiven | None:
    """Return what a function receives that compensates a call, or `None`: it has other parameters by now."""
    names = _parameters(slot, function)
    if "as_given" in slot.facts:
        signature = inspect.signature(function)
        return AsGiven(function, signature, names.names) if signature.parameters.keys() >= {*names.names} else None
    try:
        return Receiver.of(function, names, f"the compensation of {slot.key}")
    except UsageError:
        return None


def _parameters(slot: Slot, function: Callable[..., Any]) -> Parameters:
    """Return what is on record of a step's parameters; what is live is known by what compensates it."""
    live = slot.facts.get("live", ())
    names = (*slot.run.codec.decode(slot.arguments), *live)
    return attrs.evolve(Parameters.named(names, live), annotations=annotations_of(function))


def _place(facts: dict[str, Any]) -> tuple[str, str]:
    """Return the module and the name of the function that compensates a step."""
    return facts.get("compensate_module", facts["module"]), facts.get("compensate", "")
