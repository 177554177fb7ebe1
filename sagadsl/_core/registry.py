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
from sagadsl._core.definition import Compensation, StepSpec, facts_of
from sagadsl._core.parameters import (
    AsGiven,
    Parameters,
    Receiver,
    annotations_of,
    function_name,
    plain_function,
    signature_of,
)
from sagadsl._core.scope.slot import Slot
from sagadsl._core.session import body_of
from sagadsl.errors import UsageError


class Registry:
    """The steps and sagas that the program has decorated, by module and name."""

    def __init__(self) -> None:
        self.steps: dict[tuple[str, str], StepSpec] = {}
        self.sagas: weakref.WeakValueDictionary[tuple[str, str], Any] = weakref.WeakValueDictionary()

    def step_of(self, slot: Slot) -> StepSpec | None:
        """Return the step that compensates a call: as a body has made it, else as it is found by its names.

        Where the code has decided since that the step needs none, the function on record is the one that is found.
        In a session the function that compensates it is the one that has its name now, or none if that does not fit.
        """
        spec = slot.spec
        if spec is None or (spec.compensation is None and "compensate" in slot.facts):
            spec = self._found(slot) or spec
        back = None if spec is None else spec.compensation
        if spec is None or back is None or body_of(back.function) is None:
            return spec
        function = find_function(spec.compensation_module, function_name(back.function))
        if function is None or function is back.function:
            return spec
        receiver = _receiver(slot, function)
        back = attrs.evolve(back, function=function)
        return None if receiver is None else spec.changed(compensation=back, receiver=receiver)

    def redefined(self, slot: Slot) -> tuple[str, ...]:
        """Return which functions of a call a session has defined anew since: the step's own, its compensation."""
        facts = slot.facts
        if "body" not in facts and "compensate_body" not in facts:
            return ()
        step, back = self.steps.get((facts["module"], slot.name)), _place(facts)
        function = find_function(facts["module"], slot.name) if step is None else plain_function(step.function)
        now = (("body", slot.name, function), ("compensate_body", back[1], find_function(*back)))
        return tuple(name for fact, name, f in now if fact in facts and body_of(f) not in {facts[fact], None})

    def _found(self, slot: Slot) -> StepSpec | None:
        """Return what compensates a call that no body has made so: the decorated step of its name, if there is one.

        It does so by the function that the journal names. Found by its name alone, that is tried as often as one of
        which nothing else is said.
        """
        facts = slot.facts
        spec = slot.spec or self.steps.get((facts["module"], slot.name))
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
            return spec.changed(**back)
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
    """Return what is on record of a step's parameters; what else there is to know is so by what compensates it."""
    live = slot.facts.get("live", ())
    names = (*slot.run.codec.decode(slot.arguments), *live)
    like = signature_of(function).parameters.values()
    return Parameters.named(names, live, like).changed(annotations=annotations_of(function))


def _place(facts: dict[str, Any]) -> tuple[str, str]:
    """Return the module and the name of the function that compensates a step."""
    return facts.get("compensate_module", facts["module"]), facts.get("compensate", "")
