"""What the decorators accept, checked on the decorator's line: one sentence for each thing that can never work."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from typing import Any

from sagadsl._core.codec.classes import module_name
from sagadsl._core.definition import SagaSpec, StepSpec, checked_name
from sagadsl._core.parameters import is_generator, plain_function
from sagadsl._core.registry import registry
from sagadsl._core.runtime import Runtime
from sagadsl._core.settings import Options, checked_choice, checked_flag, checked_store, checked_text
from sagadsl._dsl.decorated import spec_inside, spec_of
from sagadsl.errors import UsageError


def checked_runtime(value: Any) -> Any:
    """Return *value* if it is a runtime, or `None`.

    Raises:
        UsageError: It is something else.
    """
    if value is not None and not isinstance(value, Runtime):
        msg = f"runtime= takes a Runtime(...), not {value!r:.80}; a path is for store="
        raise UsageError(msg)
    return value


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(
        ("durability", "resume", "on_failure", "on_compensation_failure", "compensate_order", "on_uncertain"),
        checked_choice,
    ),
    **dict.fromkeys(("read_only", "again", "steal", "rerun"), checked_flag),
    **dict.fromkeys(("title", "version"), checked_text),
    "store": lambda _, value: checked_store(value),
    "runtime": lambda _, value: checked_runtime(value),
}
"""What can be said of a value without knowing the function that it is for."""


def checked_options(what: str, given: dict[str, Any], known: Iterable[str]) -> None:
    """Refuse options that do not exist, and values that an option cannot have.

    Raises:
        UsageError: There are some; of an option the message names the nearest that exists.
    """
    names = sorted(known)
    for name, value in given.items():
        if name not in names:
            import difflib

            near = difflib.get_close_matches(name, names, 1)
            guess = f"did you mean {near[0]}?" if near else f"it takes {', '.join(names)}"
            msg = f"{what} has no option {name!r}; {guess}"
            raise UsageError(msg)
        if name in CHECKS:
            CHECKS[name](name, value)


def identified(name: str, options: Options) -> Options:
    """Return the options of a call of the saga *name* if they say in one way at most which run it is.

    Raises:
        UsageError: They give an id and a key, or one that cannot be one.
    """
    if options.id is not None and options.key is not None:
        msg = (
            f"{name}: id={options.id!r} and key={options.key!r} both say which run it is: give id=, which is the run's "
            f"id as it stands, or key=, for the run {name}/KEY"
        )
        raise UsageError(msg)
    for what, given in (("id", options.id), ("key", options.key)):
        if given is not None:
            checked_name(given, f"{name}: {what}")
    return options


def checked_function(target: Any, what: str) -> Any:
    """Return the function that is decorated.

    Raises:
        UsageError: It is a step or saga already, a lambda, a generator, a class, or no function at all.
    """
    function = plain_function(target)
    spec = spec_inside(function)
    if spec is not None:
        kind = "step" if isinstance(spec, StepSpec) else "saga"
        msg = f"@{what}: {spec.name} is a {kind} already"
        raise UsageError(msg)
    is_builtin = inspect.isbuiltin(function)
    if not inspect.isfunction(inspect.unwrap(function)) and not is_builtin:
        cure = "; give a def that calls it" if callable(target) else ""
        msg = f"@{what} decorates a function, a coroutine function or a method, not {target!r}{cure}"
        raise UsageError(msg)
    if is_builtin and (what == "saga" or not has_signature(function)):
        why = "calls no steps" if what == "saga" else "keeps its parameters to itself"
        msg = f"@{what}: {function.__name__} is a builtin, and {why}; decorate a def that calls it"
        raise UsageError(msg)
    if getattr(function, "__name__", "") == "<lambda>":
        msg = f"@{what} needs a function with a name: a lambda has none that a restart could find; use def"
        raise UsageError(msg)
    if is_generator(function):
        msg = f"@{what}: {function.__qualname__} is a generator, whose progress cannot be recorded; return a list"
        raise UsageError(msg)
    return function


def refuse_generator(function: Any, what: str) -> None:
    """Refuse a function that is to be called for what it does, and does nothing when it is called.

    Raises:
        UsageError: It is a generator.
    """
    if is_generator(function):
        msg = f"{what} is a generator, and a call runs nothing of it: make it a function that does not yield"
        raise UsageError(msg)


def refuse_unfit_leaf(function: Any, what: str) -> None:
    """Refuse what cannot do its work as a leaf: a compensation, or a probe.

    Raises:
        UsageError: It is a saga, or a generator.
    """
    if isinstance(spec_of(function), SagaSpec):
        msg = f"{what} is a saga, and none can run there: give a def, which may call .plain(...) of a step"
        raise UsageError(msg)
    refuse_generator(function, what)


def has_signature(function: Any) -> bool:
    """Tell whether a builtin says which parameters it has."""
    try:
        inspect.signature(function)
    except ValueError:
        return False
    return True


def default_name(function: Any, given: str | None, what: str) -> str:
    """Return the stable name: the one given, or the qualified name (inside a function: from there)."""
    name = given if given is not None else function.__qualname__.rpartition("<locals>.")[2]
    return checked_name(name, f"@{what}(name=...)", "/#:")


def default_title(function: Any, given: str | None, name: str) -> str:
    """Return what people read: the title given, or the docstring's first line, or the name."""
    doc = inspect.getdoc(function) or ""
    return given or (doc.splitlines()[0] if doc else name)


def refuse_duplicate(function: Callable[..., Any], name: str) -> None:
    """Refuse a second step of one name while its module is being imported.

    In the main program (a notebook, a session) and on a reload the newer one replaces the older.

    Raises:
        UsageError: The module has one already.
    """
    module = module_name(function.__module__)
    existing = registry.steps.get((module, name))
    spec = getattr(sys.modules.get(function.__module__), "__spec__", None)
    if existing is not None and getattr(spec, "_initializing", False) and "<locals>" not in function.__qualname__:
        first = plain_function(existing.function).__code__.co_firstlineno
        msg = f"module {module} has two steps named {name!r} (the first at line {first}): give one of them name="
        raise UsageError(msg)
