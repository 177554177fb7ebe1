"""What a run's own ``step()`` and ``add_compensation()`` make of a function, decorated or not.

A decorated function keeps what its decorator says, so that it means the same here and elsewhere; one that is not is
decorated on the spot. A compensation without a step is a step without an effect: it takes its place in the order of the
intents, and what is compensated is found the same way.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypedDict

from sagadsl._core.codec.classes import module_name
from sagadsl._core.definition import Compensation, SagaSpec, StepSpec, checked_name
from sagadsl._core.parameters import AsGiven, Parameters
from sagadsl._core.retry import Retry
from sagadsl._dsl import step_options
from sagadsl._dsl.decorated import Bound, spec_of, whole
from sagadsl._dsl.options import checked_options, refuse_unfit_leaf
from sagadsl._dsl.step_options import USING, Compensate, respecified, specified
from sagadsl._dsl.steps import StepFunction
from sagadsl.errors import UsageError

OPTIONS = step_options.OPTIONS | {"again"}


class StepOptions(TypedDict, total=False):
    """What ``run.step()`` takes besides a function."""

    compensate: Compensate
    retries: int | Retry
    timeout: float | timedelta | None
    probe: Callable[..., Any] | None
    on_uncertain: str
    key: str | Callable[..., Any] | None
    name: str | None
    title: str | None
    read_only: bool
    live: list[str] | tuple[str, ...]
    transaction: str | None
    stands: Callable[..., bool] | None
    again: bool


def as_step(owner: str, function: Any, options: dict[str, Any], calling: Callable[[StepSpec], Any]) -> Any:
    """Return *function* as a step of the run *owner*; *calling* makes what happens when it is called.

    Raises:
        UsageError: An option is unknown or cannot work, or the function is a lambda, a generator or a saga.
    """
    checked_options(f"{owner}: step()", options, OPTIONS)
    known = spec_of(function)
    if isinstance(known, SagaSpec):
        msg = f"{function.__qualname__} is a saga, not a step: call it inside `with saga({owner!r})`"
        raise UsageError(msg)
    if known is None:
        return StepFunction(function, specified(function, options), calling)
    spec = respecified(known, {n: options[n] for n in USING & options.keys()})
    if options.get("name") is not None:
        spec = spec.changed(name=checked_name(options["name"], f"{spec.name}: name=", "/#:"))
    for option in options.keys() - USING - {"name", "again"}:
        msg = f"{spec.name} is decorated: say {option}= there"
        raise UsageError(msg)
    made = StepFunction(whole(function).__wrapped__, spec, calling)
    return function.bound_like(made) if isinstance(function, Bound) else made


def as_compensation(
    saga: SagaSpec, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[StepSpec, dict[str, Any]]:
    """Return the step whose compensation is ``function(*args, **kwargs)``, and its arguments by name.

    Raises:
        UsageError: It is no function with a name, one that keeps its parameters to itself, a saga or a generator.
        TypeError: The arguments do not fit.
    """
    target: Any = function.plain if isinstance(spec_of(function), StepSpec) else function
    name = getattr(target, "__qualname__", None)
    if name is None or isinstance(target, type):
        msg = f"{saga.name}: add_compensation() takes a function with a name, not {target!r}; use def"
        raise UsageError(msg)
    refuse_unfit_leaf(target, f"{saga.name}: add_compensation()")
    live: tuple[str, ...] = ()
    if inspect.ismethod(target):
        args = (target.__self__, *args)
        target = target.__func__
        live = tuple(inspect.signature(target).parameters)[:1]
    try:
        known = Parameters.of(target, live)
    except ValueError as error:
        msg = f"{name} keeps its parameters to itself; give a def that calls it"
        raise UsageError(msg) from error
    bound = known.fitted(args, kwargs).arguments
    spec = StepSpec(
        function=_no_effect,
        name=f"add_compensation({name.rpartition('<locals>.')[2]})",
        title=name,
        module=saga.module,
        is_async=False,
        parameters=Parameters.named(bound, known.live & bound.keys()),
        compensation=Compensation(target),
        compensation_module=module_name(getattr(target, "__module__", None)),
        receiver=AsGiven(target, known.signature, tuple(bound)),
    )
    return spec, bound


def _no_effect(*_: Any, **__: Any) -> None:
    """Do nothing: what is on record is that something is to be compensated."""
