"""What the options of a step mean, decided where they are written: on the decorator's line, or for a call or a place.

What can never work is refused there, with the binding that fails. A compensation and a probe are bound to the step's
parameters once, so that a call, a restart and a person who compensates all give them the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import attrs

from sagadsl._core.codec.classes import module_name
from sagadsl._core.definition import Compensation, Standing, StepSpec, as_seconds, checked_key
from sagadsl._core.parameters import Parameters, Receiver, code_of, function_name, plain_function
from sagadsl._core.retry import as_retry
from sagadsl._core.runtime import CODEC
from sagadsl._dsl.decorated import spec_of
from sagadsl._dsl.options import checked_function, default_name, default_title, refuse_generator, refuse_unfit_leaf
from sagadsl.errors import UsageError

Compensate = Callable[..., Any] | Compensation | Standing | None

OPTIONS = frozenset(
    {
        *("compensate", "retries", "timeout", "probe", "on_uncertain", "key", "name", "title", "read_only", "live"),
        *("transaction", "stands"),
    }
)
USING = frozenset({"key", "compensate", "retries", "timeout"})


def specified(target: Any, options: dict[str, Any]) -> StepSpec:
    """Return the definition of a step."""
    function = checked_function(target, "step")
    name = default_name(function, options.get("name"), "step")
    parameters = Parameters.of(target, options.get("live", ()))
    spec = StepSpec(
        function=target,
        name=name,
        title=default_title(function, options.get("title"), name),
        module=module_name(function.__module__),
        is_async=inspect.iscoroutinefunction(function),
        parameters=parameters,
        read_only=options.get("read_only", False),
        on_uncertain=options.get("on_uncertain") or "retry",
        titled=options.get("title") is not None,
        transaction=options.get("transaction"),
        stands=checked_stands(options.get("stands"), name, parameters),
    )
    spec.probe = probe_of(spec, options.get("probe"))
    check_transaction(spec)
    spec = respecified(spec, {n: options[n] for n in USING & options.keys()})
    for annotation in parameters.annotations.values():
        CODEC.know(annotation)
    return spec


def checked_stands(stands: Any, name: str, parameters: Parameters) -> Any:
    """Return what is asked whether a recorded result of a step with these *parameters* stands.

    Raises:
        UsageError: It is no function, or one that would have to be awaited, or iterated, or cannot be called so.
    """
    if stands is None:
        return None
    if not callable(stands):
        msg = f"{name}: stands= takes a function, not {stands!r}"
        raise UsageError(msg)
    refuse_generator(stands, f"{name}: stands=")
    if inspect.iscoroutinefunction(code_of(stands)):
        msg = f"{name}: stands= is an async def, and is asked where nobody can await it: make it a def"
        raise UsageError(msg)
    with suppress(ValueError):  # a builtin that keeps its parameters to itself
        signature = inspect.signature(stands)
        try:
            signature.bind(None, **dict.fromkeys(parameters.stored))
        except TypeError as error:
            call = ", ".join(("note", *(f"{each}=..." for each in parameters.stored)))
            cure = "; have it take what was noted by position, (note, /, ...)" if "note" in parameters.stored else ""
            msg = f"{name}: stands= is asked as {function_name(stands)}({call}), and it is {signature}: {error}{cure}"
            raise UsageError(msg) from error
    return stands


def check_transaction(spec: StepSpec) -> None:
    """Refuse a ``transaction=`` that can never work.

    Raises:
        UsageError: It names no live parameter, or the step only looks, or has a probe as well.
    """
    name = spec.transaction
    if name is None:
        return
    if name not in spec.parameters.live:
        cure = f"annotate it `{name}: Live[...]`, or name it in live=" if name in spec.parameters.names else "name one"
        msg = f"{spec.name}: transaction={name!r} is no live parameter of {spec.parameters.signature}; {cure}"
        raise UsageError(msg)
    if spec.read_only:
        msg = f"{spec.name} is read_only: a step that only looks has nothing to commit; leave transaction= out"
        raise UsageError(msg)
    if spec.probe is not None:
        msg = f"{spec.name}: the row that its transaction leaves says what happened; leave probe= out"
        raise UsageError(msg)


def respecified(spec: StepSpec, options: dict[str, Any]) -> StepSpec:
    """Return a step's definition with other options."""
    changes: dict[str, Any] = {}
    if "retries" in options:
        changes["retry"] = as_retry(options["retries"])
    if "timeout" in options:
        changes["timeout"] = as_seconds(options["timeout"], f"{spec.name}: timeout=")
    if "key" in options:
        changes["key"] = checked_key(options["key"], spec.parameters.stored, spec.name)
    if "compensate" in options:
        changes |= compensation_of(spec, options["compensate"])
    return spec.changed(**changes)


def probe_of(spec: StepSpec, probe: Any) -> Receiver | None:
    """Return what ``probe=`` means for a step.

    Raises:
        UsageError: It cannot be called for this step.
    """
    if spec.read_only and (probe is not None or spec.on_uncertain != "retry"):
        msg = f"{spec.name} is read_only: a step that only looks is never uncertain; leave out probe= and on_uncertain="
        raise UsageError(msg)
    if probe is None:
        return None
    function = function_of(probe)
    receiver = receiver_of(spec, function, "probe")
    if receiver.needs_result:
        msg = (
            f"{spec.name}: its probe wants {receiver.result_parameter!r}, but there is no result: that is the question"
        )
        raise UsageError(msg)
    return receiver


def receiver_of(spec: StepSpec, function: Any, role: str) -> Receiver:
    """Return what the compensation or probe of a step receives.

    Raises:
        UsageError: It is no function, it is a saga, it would have to be iterated, or awaited where nobody can, or it
            cannot be bound.
    """
    if not callable(function):
        msg = f"{spec.name}: {role}= takes a function, not {function!r}"
        raise UsageError(msg)
    name = function_name(function)
    refuse_unfit_leaf(function, f"{spec.name}: its {role} {name}")
    if inspect.iscoroutinefunction(code_of(function)) and not spec.is_async:
        msg = f"{spec.name} is a def, its {role} {name} an async def: nobody could await it; make both one colour"
        raise UsageError(msg)
    refuse_other_kind_of_method(spec, function, role)
    return Receiver.of(function, spec.parameters, f"the {role} of {spec.name}")


def function_of(given: Any) -> Any:
    """Return the function that a compensation or probe calls, where a step or a static or class method is given."""
    function = given.plain if isinstance(spec_of(given), StepSpec) else given
    return plain_function(function) if isinstance(function, staticmethod | classmethod) else function


def compensation_of(spec: StepSpec, given: Any) -> dict[str, Any]:
    """Return what ``compensate=`` means for a step: its compensation, bound, or why there is none.

    Raises:
        UsageError: It cannot be called for this step.
    """
    if given is None or isinstance(given, Standing):
        return {"compensation": None, "compensation_module": "", "receiver": None, "standing": given}
    if spec.read_only:
        msg = f"{spec.name} is read_only: a step that only looks has nothing to compensate"
        raise UsageError(msg)
    if not callable(given) and not isinstance(given, Compensation | classmethod):
        msg = f"{spec.name}: compensate= takes a function, a Compensation, None, IRREVERSIBLE or PIVOT, not {given!r}"
        raise UsageError(msg)
    compensation = given if isinstance(given, Compensation) else Compensation(function_of(given))
    function = function_of(compensation.function)
    receiver = receiver_of(spec, function, "compensation")
    compensation = attrs.evolve(compensation, function=function)
    module = module_name(getattr(function, "__module__", None))
    if module == "sagadsl._dsl.archive":
        from sagadsl._dsl.archive import refuse_nothing_to_move  # who has it has imported it

        refuse_nothing_to_move(function, spec.name, spec.parameters.annotations.get("return", Any))
    changes = {"compensation": compensation, "compensation_module": module, "receiver": receiver}
    return changes | {"standing": None}


def refuse_other_kind_of_method(spec: StepSpec, function: Any, role: str) -> None:
    """Refuse a compensation or probe that wants ``self`` (or ``cls``) where the step has none to give.

    A method of another class is fine: ``compensate=Reservation.release`` is called on the step's result.

    Raises:
        UsageError: There is none; without this it would be given the result.
    """
    owner = function_name(function).rpartition(".")[0]
    if not owner or owner != function_name(plain_function(spec.function)).rpartition(".")[0] or owner.endswith(">"):
        return
    first = next(iter(getattr(getattr(function, "__code__", None), "co_varnames", ())), "")
    if first in {"self", "cls"} and first not in spec.parameters.names and not inspect.ismethod(function):
        msg = (
            f"{spec.name} has no {first} that its {role} {function.__name__} could get: make both methods, both class "
            f"methods, or the {role} a static method. Above @classmethod and @staticmethod stands @step"
        )
        raise UsageError(msg)
