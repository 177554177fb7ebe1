"""What the decorators accept, checked on the decorator's line: one sentence for each thing that can never work."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from typing import Any

from sagadsl._core.codec.classes import module_name
from sagadsl._core.definition import SagaSpec, StepSpec, checked_name
from sagadsl._core.parameters import plain_function
from sagadsl._core.registry import registry
from sagadsl.errors import UsageError


def known_options(what: str, given: dict[str, Any], known: Iterable[str]) -> None:
    """Refuse options that do not exist.

    Raises:
        UsageError: There are some; the message names the nearest that exist.
    """
    names = sorted(known)
    for name in given:
        if name not in names:
            import difflib  # noqa: PLC0415  # for mistakes only

            near = difflib.get_close_matches(name, names, 1)
            guess = f"did you mean {near[0]}?" if near else f"it takes {', '.join(names)}"
            msg = f"{what} has no option {name!r}; {guess}"
            raise UsageError(msg)


def checked_function(target: Any, what: str) -> Any:
    """Return the function that is decorated.

    Raises:
        UsageError: It is a step or saga already, a lambda, a generator, a class, or no function at all.
    """
    function = plain_function(target)
    if isinstance(spec := getattr(function, "_self_spec", None), StepSpec | SagaSpec):
        kind = "step" if isinstance(spec, StepSpec) else "saga"
        msg = f"@{what}: {spec.name} is a {kind} already"
        raise UsageError(msg)
    if not inspect.isfunction(inspect.unwrap(function)) and not inspect.isbuiltin(function):
        msg = f"@{what} decorates a function, a coroutine function or a method, not {target!r}"
        raise UsageError(msg)
    if getattr(function, "__name__", "") == "<lambda>":
        msg = f"@{what} needs a function with a name: a lambda has none that a restart could find; use def"
        raise UsageError(msg)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        msg = f"@{what}: {function.__qualname__} is a generator, whose progress cannot be recorded; return a list"
        raise UsageError(msg)
    return function


def default_name(function: Any, given: str | None, what: str) -> str:
    """Return the stable name: the one given, or the qualified name (inside a function: from there)."""
    name = given if given is not None else function.__qualname__.rpartition("<locals>.")[2]
    return checked_name(name, f"@{what}(name=...)", "/#:")


def default_title(function: Any, given: str | None, name: str) -> str:
    """Return what people read: the title given, or the docstring's first line, or the name.

    Raises:
        UsageError: It is no text.
    """
    if given is not None and not isinstance(given, str):
        msg = f"{name}: title= takes a text, not {given!r}"
        raise UsageError(msg)
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
