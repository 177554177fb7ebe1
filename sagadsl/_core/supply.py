"""Live arguments for compensations that no body has bound: those that are provided, before anything is compensated.

A body binds what it calls, live arguments included. Where it cannot be run, or no longer makes a call on record, the
step is found by its name, and what its compensation (or probe) wants alive is asked for here.
"""

from __future__ import annotations

from contextlib import suppress

from sagadsl._core.definition import StepSpec
from sagadsl._core.parameters import AsGiven, Receiver, function_name
from sagadsl._core.provided import Maker, Provided
from sagadsl._core.scope import Scope
from sagadsl._core.scope.slot import Slot
from sagadsl.errors import UsageError


def lacking(scope: Scope, provided: Provided) -> list[tuple[Slot, dict[str, Maker]]]:
    """Say where the live arguments come from of what is owed and no body has bound.

    Raises:
        UsageError: One is to be had nowhere.
    """
    found = []
    pivot = scope.pivot()
    for slot in [*scope.owed(), *([] if pivot is None else [pivot])]:
        spec = None if slot.spec is not None else slot.compensating_step()
        if spec is None:
            continue
        sources = sources_of(slot, spec, "compensation", spec.receiver, provided)
        if slot.is_uncertain:
            with suppress(UsageError):  # a probe that cannot be asked leaves the doubt
                sources |= sources_of(slot, spec, "probe", spec.probe, provided)
        found.append((slot, sources))
    return found


def sources_of(
    slot: Slot, spec: StepSpec, role: str, receiver: Receiver | AsGiven | None, provided: Provided
) -> dict[str, Maker]:
    """Say where the live arguments come from that the compensation or probe of a call wants."""
    if role == "probe" and spec.transaction is not None:  # the row that its transaction leaves is asked
        wanted, name = frozenset({spec.transaction}), "by its transaction"
    elif receiver is not None:
        wanted = spec.parameters.live.intersection(map(str, receiver.sources.values()))
        name = function_name(receiver.function)
    else:
        return {}
    who = f"run {slot.run.id}: the {role} {name} of step {slot.key}"
    return provided.sources(spec, [name for name in spec.parameters.names if name in wanted], who)


def supply(scope: Scope, provided: Provided) -> None:
    """Bind the live arguments of what is owed and no body has bound.

    Raises:
        Stop: One is to be had nowhere, or cannot be made. Nothing was written; the run can go on later.
    """
    try:
        for slot, sources in lacking(scope, provided):
            slot.live = provided.take(sources)
    except Exception as error:
        raise scope.run.halt(error) from error


async def asupply(scope: Scope, provided: Provided) -> None:
    """Bind them in an ``async def``, as above."""
    try:
        for slot, sources in lacking(scope, provided):
            slot.live = await provided.atake(sources)
    except Exception as error:
        raise scope.run.halt(error) from error
