"""Which arguments a function takes, and where a compensation's come from. Both are decided at decoration.

An argument is *stored* (compared, shown, part of a call's identity) or *live*: passed as it is and never written down.
``self`` and ``cls`` are live, so is what is annotated ``Live[...]`` or named in ``live=``.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from enum import Enum, auto
from functools import partial
from types import AsyncGeneratorType, CoroutineType, GeneratorType, SimpleNamespace
from typing import Any, Final

from sagadsl._core.live import names_around, names_of, says_live
from sagadsl._core.structs import Struct
from sagadsl.errors import UsageError

NEVER_STORABLE = (
    *("Callable", "Iterator", "Generator", "Coroutine", "Awaitable", "AsyncIterator", "AsyncGenerator"),
    *("IO", "TextIO", "BinaryIO"),
)
HANDLES = ("socket.socket", "sqlite3.Connection", "_thread.lock", "threading.")

P = inspect.Parameter
STARS: dict[Any, str] = {P.VAR_POSITIONAL: "*", P.VAR_KEYWORD: "**"}
VARIADIC = frozenset(STARS)


def plain_function(target: Any) -> Any:
    """Return the function inside a static or class method."""
    return getattr(target, "__func__", target)


def function_name(function: Any) -> str:
    """Return what a function is called; of a partial or another callable no repr, which shows what it holds."""
    if isinstance(function, partial):
        return f"partial({function_name(function.func)})"
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__)


def code_of(function: Any) -> Any:
    """Return what runs when a function is called: of a partial the function inside, of an object its ``__call__``."""
    while isinstance(function, partial):
        function = function.func
    return function if inspect.isroutine(function) else getattr(type(function), "__call__", function)  # noqa: B004


def is_generator(function: Any) -> bool:
    """Tell whether a call of a function runs nothing of it, but only gives what would run it when it is iterated."""
    code = code_of(function)
    return inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code)


# What a function returned may answer anything, or raise, whatever it is asked; so its type is asked, as `await` does.


def has_not_run(value: Any) -> bool:
    """Tell whether what a function returned only runs once it is awaited, or iterated.

    A generator expression is no such value: the function around it has run.
    """
    kind = type(value)
    if kind is GeneratorType or kind is AsyncGeneratorType:
        code = value.gi_code if kind is GeneratorType else value.ag_code
        return bool(code.co_name != "<genexpr>")
    return hasattr(kind, "__await__")


def is_coroutine(value: Any) -> bool:
    """Tell whether nothing at all of a value has run before it is awaited; a task, say, goes on by itself."""
    kind = type(value)
    if kind is GeneratorType:
        return bool(value.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE)
    return hasattr(kind, "__await__") and issubclass(kind, Coroutine)


def close(value: Any) -> None:
    """Close what a function returned if it is a coroutine that nobody will await, of which Python would warn."""
    if type(value) is CoroutineType:
        value.close()


def annotations_of(function: Any) -> dict[str, Any]:
    """Return the annotations of a function as far as they resolve now; the others stay text."""
    found, names = {}, names_of(function)
    for name, annotation in getattr(function, "__annotations__", {}).items():
        found[name] = annotation
        if isinstance(annotation, str):
            holder = SimpleNamespace(__annotations__={name: annotation})
            try:
                found.update(typing.get_type_hints(holder, names, include_extras=True))
            except Exception:  # noqa: BLE001, S112  # a name that exists for type checkers only, or not yet
                continue
    return found


class Parameters(Struct):
    """How a function is called, taken apart once so that a call costs no more than a dictionary.

    *names* are all parameters in order, *stored* those that are written down; *function* is how errors name it.
    """

    signature: inspect.Signature
    names: tuple[str, ...]
    stored: tuple[str, ...]
    live: frozenset[str]
    annotations: dict[str, Any]
    defaults: dict[str, Any]
    positional: int
    is_simple: bool
    function: str = ""

    @classmethod
    def of(cls, target: Any, live: Iterable[str] = ()) -> Parameters:
        """Take the signature of *target* apart.

        Raises:
            UsageError: *live* names no parameter, or an annotation can never be stored.
        """
        function = plain_function(target)
        signature = inspect.signature(function)
        annotations = annotations_of(function)
        parameters = signature.parameters
        if isinstance(live, str):
            msg = f"{function.__qualname__}: live={live!r} is a text, not names; write live=({live!r},)"
            raise UsageError(msg)
        chosen = set(live) if isinstance(live, Iterable) else {live}
        if not all(isinstance(name, str) for name in chosen):
            msg = f"{function.__qualname__}: live= takes the names of parameters, not {live!r:.80}"
            raise UsageError(msg)
        if not chosen <= parameters.keys():
            unknown = ", ".join(sorted(chosen - parameters.keys()))
            msg = f"{function.__qualname__}: live= names {unknown}, which is no parameter of {signature}"
            raise UsageError(msg)
        names = names_around(function)
        chosen |= {
            name
            for name, parameter in parameters.items()
            if says_live(annotations.get(name), names) or says_live(parameter.annotation, names)
        }
        chosen |= {name for at, name in enumerate(parameters) if at == 0 and name in {"self", "cls"}}
        for name, parameter in parameters.items():
            if name not in chosen and _is_handle(_spelled(annotations.get(name))):
                msg = (
                    f"{function.__qualname__}: parameter {parameter} can never be stored; annotate it "
                    f"`{name}: Live[...]`, or name it in live="
                )
                raise UsageError(msg)
        return cls(
            signature=signature,
            names=tuple(parameters),
            stored=tuple(name for name in parameters if name not in chosen),
            live=frozenset(chosen),
            annotations=annotations,
            defaults={n: p.default for n, p in parameters.items() if p.default is not P.empty},
            positional=sum(p.kind in {P.POSITIONAL_ONLY, P.POSITIONAL_OR_KEYWORD} for p in parameters.values()),
            is_simple=not any(p.kind in VARIADIC | {P.POSITIONAL_ONLY} for p in parameters.values()),
            function=getattr(function, "__qualname__", type(function).__name__),
        )

    @classmethod
    def named(
        cls, names: Iterable[str], live: Iterable[str] = (), like: Iterable[inspect.Parameter] = ()
    ) -> Parameters:
        """Return parameters of which no more than the names is known: what is left of them in the journal.

        One that takes anything in what compensates them (*like*) does so in them.
        """
        names, chosen = tuple(names), frozenset(live)
        kinds = {p.name: p.kind for p in like if p.kind in VARIADIC}
        made = [P(name, kinds.get(name, P.KEYWORD_ONLY)) for name in names]
        signature = inspect.Signature(sorted(made, key=lambda p: p.kind))
        stored = tuple(name for name in names if name not in chosen)
        return cls(signature, names, stored, chosen, {}, {}, 0, is_simple=True)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return all arguments by name, in the signature's order, defaults filled.

        Raises:
            TypeError: They do not fit; it names the function, as Python does.
        """
        if self.is_simple:
            if not kwargs and len(args) == len(self.names) == self.positional:
                return dict(zip(self.names, args, strict=True))
            given = dict(zip(self.names, args, strict=False))
            if len(args) <= self.positional and not (given.keys() & kwargs.keys()):
                merged = {**self.defaults, **given, **kwargs}
                if merged.keys() == set(self.names):
                    return {name: merged[name] for name in self.names}
        bound = self.fitted(args, kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def fitted(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        """Return arguments as the signature takes them, those that are given.

        Raises:
            TypeError: As for `bind`.
        """
        try:
            return self.signature.bind(*args, **kwargs)
        except TypeError as error:
            msg = f"{self.function}() {error}"
            raise TypeError(msg) from None

    def split(self, bound: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Part bound arguments into stored and live ones."""
        if not self.live:
            return bound, None
        return {n: bound[n] for n in self.stored}, {n: bound[n] for n in self.live}

    def spread(self, bound: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Turn arguments by name back into what a call takes."""
        arguments = inspect.BoundArguments(self.signature, dict(bound))
        return arguments.args, arguments.kwargs


def _is_handle(spelled: str) -> bool:
    """Tell whether an annotation names what lives in this process alone."""
    name = spelled.removeprefix("collections.abc.").removeprefix("typing.")
    return name.partition("[")[0] in NEVER_STORABLE or any(handle in spelled for handle in HANDLES)


def _spelled(annotation: Any) -> str:
    if annotation is None or isinstance(annotation, str):
        return annotation or ""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return f"{annotation.__module__}.{annotation.__qualname__}"
    return str(annotation)


class Origin(Enum):
    """Where a compensation's parameter gets its value from, besides the step's arguments."""

    RESULT = auto()
    ERROR = auto()
    IDEMPOTENCY_KEY = auto()

    __hash__ = object.__hash__  # an enum's own is written in Python


SPECIAL = {"result": Origin.RESULT, "error": Origin.ERROR, "idempotency_key": Origin.IDEMPOTENCY_KEY}


def signature_of(function: Any) -> inspect.Signature:
    """Return the signature of a function, or what it is if a C function keeps that to itself: it takes one thing."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return inspect.Signature([P("result", P.POSITIONAL_ONLY)])


def _sources(
    parameters: Mapping[str, inspect.Parameter], step: Parameters
) -> tuple[dict[str, str | Origin], list[inspect.Parameter]]:
    """Return where the parameters of a compensation get their values from that say so by their names, and the rest."""
    sources: dict[str, str | Origin] = {}
    rest: list[inspect.Parameter] = []
    for name, parameter in parameters.items():
        if parameter.kind in VARIADIC:
            if name in step.names and step.signature.parameters[name].kind is parameter.kind:
                sources[name] = name
        elif name in step.names:
            sources[name] = name
        elif name in SPECIAL:
            sources[name] = SPECIAL[name]
        else:
            rest.append(parameter)
    return sources, rest


def _meant_for_result(rest: list[inspect.Parameter], function: Any) -> list[inspect.Parameter]:
    """Return the one parameter that can do without a result, where nothing else can have been meant by it.

    In ``def release(reservation=None)`` None stands for "no result". What only a keyword sets in a function that C made
    is an option of it: nobody wrote ``os.remove(path, *, dir_fd=None)`` to compensate a step.
    """
    if len(rest) != 1 or rest[0].default is not None:
        return []
    is_option = rest[0].kind is P.KEYWORD_ONLY and not hasattr(inspect.unwrap(code_of(function)), "__code__")
    return [] if is_option else rest


class Receiver:
    """What a compensation (or probe) receives: for each of its parameters an argument of the step, or an `Origin`."""

    __slots__ = (
        *("function", "needs_arguments", "needs_result", "positional_only", "result_parameter", "sources", "spreading"),
    )

    def __init__(
        self,
        function: Callable[..., Any],
        sources: dict[str, str | Origin],
        positional_only: frozenset[str],
        result_parameter: str | None,
        needs_result: bool,  # noqa: FBT001  # as it is found out, below
        spreading: inspect.Signature | None,
    ) -> None:
        self.function, self.sources, self.positional_only = function, sources, positional_only
        self.spreading = spreading
        self.result_parameter, self.needs_result = result_parameter, needs_result
        self.needs_arguments = any(isinstance(source, str) for source in sources.values())

    @classmethod
    def of(cls, function: Callable[..., Any], step: Parameters, title: str) -> Receiver:
        """Decide what *function* receives of a step with these parameters.

        What takes anything gets nothing, unless it is named like what takes anything in the step.

        Raises:
            UsageError: A parameter is left without a source, or all of them take anything and get nothing; the message
                shows the binding.
        """
        signature = signature_of(function)
        parameters = signature.parameters
        sources, rest = _sources(parameters, step)
        required = [p for p in rest if p.default is P.empty]
        receives = required or _meant_for_result(rest, function)
        if len(receives) == 1 and Origin.RESULT not in sources.values():
            sources[receives[0].name] = Origin.RESULT
        elif required:
            raise UsageError(_unbound(function, step, sources, required, title))
        is_given = isinstance(function, partial)  # what it takes, it has
        if parameters and not (sources or is_given) and all(p.kind in VARIADIC for p in parameters.values()):
            raise UsageError(_unbound(function, step, sources, list(parameters.values()), title))
        result = next((n for n, source in sources.items() if source is Origin.RESULT), None)
        return cls(
            function=function,
            sources=sources,
            positional_only=frozenset(n for n in sources if parameters[n].kind is P.POSITIONAL_ONLY),
            result_parameter=result,
            needs_result=result is not None and parameters[result].default is P.empty,
            spreading=signature if any(parameters[name].kind in VARIADIC for name in sources) else None,
        )

    def arguments(self, values: Mapping[str | Origin, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
        """Return what to call the function with; a parameter whose value is absent keeps its default.

        Raises:
            KeyError: A value without which the function cannot be called is absent.
        """
        can_do_without = set() if self.needs_result else {Origin.RESULT} - values.keys()
        given = {name: values[source] for name, source in self.sources.items() if source not in can_do_without}
        if self.spreading is not None:
            bound = inspect.BoundArguments(self.spreading, given)
            bound.apply_defaults()  # `*items` stands behind them
            return bound.args, bound.kwargs
        args = [given.pop(name) for name in self.sources if name in self.positional_only & given.keys()]
        return args, given


class AsGiven:
    """What a compensation receives that was given together with its arguments: those, in their places."""

    __slots__ = ("function", "names", "signature")
    result_parameter: Final = None
    needs_result: Final = False
    needs_arguments: Final = True

    def __init__(self, function: Callable[..., Any], signature: inspect.Signature, names: tuple[str, ...]) -> None:
        self.function, self.signature, self.names = function, signature, names

    @property
    def sources(self) -> dict[str, str]:
        """Where each value comes from: from the argument of its own name."""
        return {name: name for name in self.names}

    def arguments(self, values: Mapping[str | Origin, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what to call the function with.

        Raises:
            KeyError: A value without which the function cannot be called is absent.
        """
        given = {name: values[name] for name in self.names}
        bound = inspect.BoundArguments(self.signature, given)
        return bound.args, bound.kwargs


def _unbound(
    function: Any, step: Parameters, sources: dict[str, Any], rest: list[inspect.Parameter], title: str
) -> str:
    bound = [f"    {n} <- {s.name.lower() if isinstance(s, Origin) else f'argument {s}'}" for n, s in sources.items()]
    bound += [f"    {STARS.get(p.kind, '')}{p.name} <- ?" for p in rest]
    return "\n".join(
        [
            f"{title}: {function_name(function)} cannot be bound:",
            *bound,
            (
                f"Name parameters like the step's ({', '.join(step.names) or 'it has none'}), or `result`, `error`, "
                "`idempotency_key`; one more parameter gets the result, others need defaults."
            ),
        ]
    )
