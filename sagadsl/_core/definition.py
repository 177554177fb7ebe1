"""What the decorators say: a step, its compensation, a saga. Made once, checked once, shared by every call."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from enum import Enum
from functools import cache
from math import inf
from string import Formatter
from types import WrapperDescriptorType
from typing import Any, Final

from attrs import field, frozen

from sagadsl._core.parameters import (
    STARS,
    VARIADIC,
    AsGiven,
    Parameters,
    Receiver,
    code_of,
    function_name,
    is_generator,
    plain_function,
)
from sagadsl._core.retry import NEVER, Retry, as_retry
from sagadsl._core.session import body_of
from sagadsl._core.structs import Struct
from sagadsl.errors import UsageError


class Standing(Enum):
    """What can be said instead of a compensation."""

    IRREVERSIBLE = "irreversible"
    PIVOT = "pivot"


IRREVERSIBLE: Final = Standing.IRREVERSIBLE
"""Nothing can undo the step: a failing run compensates around it and lists it as *standing*."""

PIVOT: Final = Standing.PIVOT
"""The point of no return: once the step is done, a failure is retried, then pauses the run, and never compensates."""


def as_seconds(value: float | timedelta | None, what: str) -> float | None:
    """Accept seconds or a `timedelta`.

    Raises:
        UsageError: It is neither, or not more than zero, or infinite.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < inf:
        msg = f"{what} takes seconds or a timedelta, more than zero, not {value!r}"
        raise UsageError(msg)
    return float(seconds)


def _timeout(value: float | timedelta | None) -> float | None:
    return as_seconds(value, "Compensation(timeout=...)")


def _within(value: float | timedelta | None) -> float | None:
    return as_seconds(value, "Compensation(within=...)")


@frozen
class Compensation:
    """A function that undoes a step, and how it is tried.

    *retries* counts extra attempts (or is a `Retry`), *timeout* is seconds or a `timedelta` for one attempt.
    With *even_if_failed* it is also called when the step raised. It is called *within* seconds (or a `timedelta`) from
    the end of the step, and then no longer: a person decides.
    """

    function: Callable[..., Any]
    retries: Retry = field(default=Retry(3), converter=as_retry, kw_only=True)
    timeout: float | None = field(default=None, converter=_timeout, kw_only=True)
    even_if_failed: bool = field(default=False, kw_only=True)
    within: float | None = field(default=None, converter=_within, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not callable(self.function):
            msg = f"Compensation takes a function, not {self.function!r}"
            raise UsageError(msg)
        if not isinstance(self.even_if_failed, bool):
            msg = f"Compensation(even_if_failed=...) takes True or False, not {self.even_if_failed!r}"
            raise UsageError(msg)


class StepSpec(Struct):
    """A step as decorated. *definition* is what the journal keeps of it with each call: what is owed, and by whom.

    It *compensates_async* if its compensation is, or may be, to be awaited. One with *instead_of* is that of a single
    call: the key is that of the one it is made instead of.
    """

    function: Callable[..., Any]
    name: str
    title: str
    module: str
    is_async: bool
    parameters: Parameters
    retry: Retry = NEVER
    timeout: float | None = None
    key: str | Callable[..., Any] | None = None
    read_only: bool = False
    compensation: Compensation | None = None
    standing: Standing | None = None
    compensation_module: str = ""
    receiver: Receiver | AsGiven | None = None
    probe: Receiver | None = None
    on_uncertain: str = "retry"
    stands: Callable[..., bool] | None = None
    titled: bool = False
    transaction: str | None = None
    instead_of: str | None = None

    def __init__(self, *values: Any, **named: Any) -> None:
        super().__init__(*values, **named)
        facts: dict[str, Any] = {"module": self.module}
        if self.compensation is not None:
            facts |= self._owed(self.compensation)
        if self.read_only:
            facts["read_only"] = True
        if self.standing is not None:
            facts["standing"] = self.standing.value
        if self.probe is not None or self.transaction is not None:
            facts["probe"] = True
        if self.on_uncertain != "retry":
            facts["on_uncertain"] = self.on_uncertain
        if self.titled:
            facts["title"] = self.title
        if self.instead_of is not None:
            facts["instead_of"] = self.instead_of
        if (body := body_of(plain_function(self.function))) is not None:
            facts["body"] = body
        self.definition = json.dumps(facts, separators=(",", ":"))
        back = self.compensation
        self.compensates_async = self.is_async or (back is not None and inspect.iscoroutinefunction(back.function))

    def _owed(self, compensation: Compensation) -> dict[str, Any]:
        """Return what is kept of the function that compensates it."""
        facts: dict[str, Any] = {"compensate": function_name(compensation.function)}
        if self.compensation_module not in {"", self.module}:
            facts["compensate_module"] = self.compensation_module
        if compensation.even_if_failed:
            facts["even_if_failed"] = True
        if compensation.within is not None:
            facts["within"] = compensation.within
        if self.parameters.live:
            facts["live"] = sorted(self.parameters.live)
        if isinstance(self.receiver, AsGiven):
            facts["as_given"] = True
        if (body := body_of(compensation.function)) is not None:
            facts["compensate_body"] = body
        return facts

    def arguments(self, function: Any, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what to call *function* with, which is the step's own or that bound to the first of its arguments."""
        args, kwargs = self.parameters.spread(values)
        return (args if function is plain_function(self.function) else args[1:]), kwargs


class SagaSpec(Struct):
    """A saga as decorated; a block has no *function*, its body stands where it is used."""

    function: Callable[..., Any] | None
    name: str
    title: str
    module: str
    program: str
    is_async: bool
    parameters: Parameters
    key: str | Callable[..., Any] | None = None
    on_failure: str | None = None
    on_compensation_failure: str = "stop"
    compensate_order: str = "reverse"
    resume: str | None = None
    store: Any = None
    durability: str | None = None
    version: str | None = None
    notify: Callable[[Any], Any] | None = None
    runtime: Any = None

    def __init__(self, *values: Any, **named: Any) -> None:
        super().__init__(*values, **named)
        facts: dict[str, Any] = {"module": self.module, "program": self.program}
        if self.function is None:
            facts["block"] = True
        if self.version is not None:
            facts["version"] = self.version
        if self.notify is not None:
            facts["notify"] = True
        self.definition = json.dumps(facts, separators=(",", ":"))


TEXTS: Final = ("module", "compensate", "title", "standing", "body", "compensate_body", "instead_of")
"""Facts that are text, if present."""


@cache
def facts_of(definition: str) -> dict[str, Any]:
    """Return what the journal keeps of a definition; read it, never change it.

    Raises:
        ValueError: It is no definition.
    """
    facts: dict[str, Any] = json.loads(definition)
    is_sound = isinstance(facts, dict) and all(isinstance(facts.get(name, ""), str) for name in TEXTS)
    if not is_sound or not isinstance(facts.get("within", 0), int | float):
        msg = f"{definition!r:.80} is no definition of a step"
        raise ValueError(msg)
    return facts


def literal(key: str) -> Callable[[], str]:
    """Return a key that is taken as it is, braces and all."""
    return lambda: key


def key_of(key: str | Callable[..., Any], arguments: dict[str, Any], title: str) -> str:
    """Return the explicit key of a call: a template of plain ``{argument}`` fields, or a function of arguments.

    Raises:
        UsageError: The template names no argument, or the key is `None`, empty or has control characters.
    """
    if callable(key):
        given = _asked(key, arguments)
        if given is None:
            msg = f"{title}: the function of key= returned None, which tells no call from another"
            raise UsageError(msg)
        text = str(given)
    else:
        try:
            text = key.format_map(arguments)
        except (KeyError, IndexError, AttributeError, ValueError) as error:
            raise _no_template(key, arguments, title, repr(error)) from error
    return escaped(checked_name(text, f"{title}: key"))


def _asked(key: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Return what a function gives for the arguments that it names; what it has ``**`` for gets all others."""
    signature = inspect.signature(key)
    given = {name: arguments[name] for name in signature.parameters if name in arguments}
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD and name not in given:
            given[name] = {each: value for each, value in arguments.items() if each not in given}
    bound = inspect.BoundArguments(signature, given)
    bound.apply_defaults()
    return key(*bound.args, **bound.kwargs)


def escaped(key: str) -> str:
    """Return a key as it stands in a full key and in an id, which ``#`` and ``/`` structure."""
    return key.replace("%", "%25").replace("#", "%23").replace("/", "%2F")


def checked_key(key: Any, names: tuple[str, ...], title: str) -> Any:
    """Return what a decorator is given as ``key=``, if it can be one for a function with these stored arguments.

    Raises:
        UsageError: It is neither text nor a function, or wants what is no argument that is stored.
    """
    if key is None:
        return None
    if callable(key):
        if is_generator(key) or inspect.iscoroutinefunction(code_of(key)):
            msg = f"{title}: the function of key= gives no key when it is called: make it a def that returns one"
            raise UsageError(msg)
        wanted = _wanted(key, title)
        lacking = [STARS.get(p.kind, "") + p.name for p in wanted if p.name not in names and p.default is p.empty]
        if lacking:
            has = ", ".join(names) or "nothing, for there are no stored arguments"
            msg = f"{title}: the function of key= wants {', '.join(lacking)}; it can have {has}"
            raise UsageError(msg)
        return key
    try:
        fields = [name for _, name, _, _ in Formatter().parse(key) if name is not None]
    except (TypeError, ValueError) as error:
        raise _no_template(key, names, title, str(error)) from error
    for name in fields:
        if name.partition(".")[0].partition("[")[0] not in names:
            raise _no_template(key, names, title, f"{{{name}}} is no stored argument")
    return key


def _wanted(key: Callable[..., Any], title: str) -> list[inspect.Parameter]:
    """Return the parameters of a key's function, without those that take anything if it can be had by name.

    Raises:
        UsageError: It keeps them to itself.
    """
    try:
        parameters = list(inspect.signature(key).parameters.values())
    except (TypeError, ValueError):
        parameters = None
    is_silent = not isinstance(key, type) and isinstance(code_of(key), WrapperDescriptorType)  # `attrgetter`, say
    if parameters is None or is_silent:
        what = f"{title}: the function of key= ({function_name(key)})"
        msg = f"{what} keeps its parameters to itself; give a def or lambda that calls it"
        raise UsageError(msg)
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return [p for p in parameters if not takes_all or p.kind not in VARIADIC]


def _no_template(key: Any, names: Iterable[str], title: str, why: str) -> UsageError:
    fields = ", ".join(f"{{{name}}}" for name in names) or "none, for it has no stored arguments"
    return UsageError(
        f"{title}: key={key!r} must be a template of plain {{argument}} fields ({why}); there are: {fields}"
    )


def checked_name(text: Any, what: str, forbidden: str = "") -> str:
    """Return a name or key that can stand in identities, files and on a terminal.

    Raises:
        UsageError: It is no text, is empty, longer than 200 characters, or has characters that cannot be printed.
    """
    if not isinstance(text, str):
        msg = f"{what} must be a text, not {text!r:.60}; write str(...) around it"
        raise UsageError(msg)
    if not text or len(text) > 200 or not text.isprintable() or any(c in text for c in forbidden):  # noqa: PLR2004
        also = f" and none of {' '.join(forbidden)}" if forbidden else ""
        msg = f"{what} must have 1 to 200 printable characters{also}, not {text[:60]!r}"
        raise UsageError(msg)
    return text
