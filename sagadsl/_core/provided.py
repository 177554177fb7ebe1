"""Where live arguments come from when nobody calls: for each type, what makes a value of it.

A repeated call brings its live arguments along. `resume`, `compensate` and the command line have nobody who brings any,
so they look here, by the type that the parameter is annotated with. Looking (`Provided.sources`) and making
(`Provided.take`) are apart: what is missing is known before anything is made, entered or written.

A value is made once a process. A context manager is entered, and left when the process ends; an asynchronous one
belongs to its event loop, so it is entered once a loop, and left when the loop shuts down.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, suppress
from inspect import Parameter
from types import UnionType
from typing import Annotated, Any, NewType, TypeVar, Union, get_args, get_origin

from sagadsl._core.codec.classes import find_class
from sagadsl._core.definition import SagaSpec, StepSpec
from sagadsl._core.parameters import annotations_of, function_name, plain_function
from sagadsl.errors import UsageError

T = TypeVar("T")
Manager = AbstractContextManager[T] | AbstractAsyncContextManager[T]
Factory = Callable[[], T | AbstractContextManager[T] | AbstractAsyncContextManager[T] | Awaitable[T]]
Maker = Callable[[], Any]
"""What gives a live argument when it is called; in an ``async def``, a `Provision` is asked by its `aget`."""

EMPTY: dict[Any, Maker] = {Parameter.VAR_POSITIONAL: tuple, Parameter.VAR_KEYWORD: dict}
"""What ``*args`` and ``**kwargs`` are where nobody calls."""

UNSAID = (object, Any)
"""Annotations that every value fits say nothing about which one is meant."""


class Provision:
    """What makes values of one type, and what it has made in this process."""

    def __init__(self, wanted: Any, factory: Callable[[], Any]) -> None:
        self.wanted, self.factory = wanted, factory
        self.forget()

    def forget(self) -> None:
        """Make everything anew from here on."""
        self._guard = threading.RLock()
        self._is_made, self._value = False, None
        self._by_loop: dict[asyncio.AbstractEventLoop, Made] = {}

    def __call__(self) -> Any:
        """Return the value, made and entered when it is first asked for.

        Raises:
            UsageError: It can only be had in an ``async def``.
        """
        with self._guard:
            return self._value if self._is_made else self._keep(self.factory())

    async def aget(self) -> Any:
        """Return the value, the asynchronous one of the running event loop where it is such."""
        loop = asyncio.get_running_loop()
        with self._guard:
            self._by_loop = {each: held for each, held in self._by_loop.items() if not each.is_closed()}
            held = self._by_loop.setdefault(loop, Made())
        async with held.guard:
            if not held.is_made:
                if self._is_made:
                    return self._value
                made = self.factory()
                if not is_asynchronous(made):
                    return self._keep(made)
                value = await (held.enter(made) if hasattr(type(made), "__aenter__") else made)
                held.value, held.is_made = checked(self.wanted, made, value), True
            return held.value

    def _keep(self, made: Any) -> Any:
        with self._guard:
            if self._is_made:  # in another thread meanwhile
                return self._value
            if hasattr(type(made), "__enter__"):
                made = checked(self.wanted, made, enter(made))
            elif is_asynchronous(made):
                getattr(made, "close", lambda: None)()  # a coroutine that nobody will await
                msg = f"what is provided for {name_of(self.wanted)} is asynchronous, which only an async def can enter"
                raise UsageError(msg)
            self._is_made, self._value = True, made
            return made


class Made:
    """What one event loop has of a provision."""

    def __init__(self) -> None:
        self.guard = asyncio.Lock()
        self.is_made, self.value = False, None
        self.keeper: asyncio.Task[None] | None = None

    async def enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Enter a context manager in a task of its own, which leaves it when the loop shuts down."""
        entered: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.keeper = asyncio.create_task(keep(manager, entered))
        self.keeper._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001  # as gather does
        return await entered


def is_asynchronous(made: Any) -> bool:
    """Tell whether only an ``async def`` can make a value of what a factory gave."""
    return hasattr(type(made), "__aenter__") or hasattr(type(made), "__await__")


async def keep(manager: AbstractAsyncContextManager[T], entered: asyncio.Future[T]) -> None:
    """Enter a context manager, and leave it, in the same task, when that is cancelled: so loops shut down."""
    try:
        value = await manager.__aenter__()
    except BaseException as error:  # noqa: BLE001  # raised where it is waited for
        if not entered.done():
            entered.set_exception(error)
        return
    if not entered.done():
        entered.set_result(value)
        with suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
    await manager.__aexit__(None, None, None)


def enter(manager: AbstractContextManager[T]) -> T:
    """Enter a context manager for the rest of the process."""
    global _exits  # noqa: PLW0603  # made when first needed
    with _guard:  # two threads may be the first
        if _exits is None:
            _exits = ExitStack()
            atexit.register(leave)
        exits = _exits
    return exits.enter_context(manager)


def leave() -> None:
    """Leave every context manager, the last entered first."""
    global _exits
    exits, _exits = _exits, None
    if exits is not None:
        exits.close()


def checked(wanted: Any, made: Any, value: Any) -> Any:
    """Return what entering *made* gave.

    Raises:
        UsageError: It is a lock or the like, which is meant to be entered by the step.
    """
    if isinstance(wanted, type) and isinstance(made, wanted) and not isinstance(value, wanted):
        name = name_of(wanted)
        msg = (
            f"sagadsl.provide({name}, ...): its factory gives a {name} that is a context manager but gives a "
            f"{type(value).__name__} when it is entered. To have it as it is: contextlib.nullcontext(value)"
        )
        raise UsageError(msg)
    return value


class Provided:
    """What makes live arguments, by type."""

    def __init__(self, factories: Mapping[Any, Any] | None = None) -> None:
        self._provisions: dict[Any, Provision] = {}
        for wanted, factory in (factories or {}).items():
            self.provide(wanted, factory)
        _all.add(self)

    def provide(self, cls: type[T], factory: Factory[T] | Manager[T]) -> None:
        """Say where a live argument of type *cls* comes from when nobody calls: on resume and compensation by id.

        A parameter annotated with *cls*, or with a class that *cls* is derived from, gets what *factory* gives; the
        ``self`` of a method is an instance of its class. The ``cls`` of a class method is the class that defines it if
        that is provided, or if no other is derived from it; of a derived one, `resume` and `compensate` are called on
        that: ``Orders.fill.resume(run_id)``. The factory is called once a process, when a value is first needed; to
        have a connection for each call, provide a pool.

        Where the factory gives a context manager, or is one, it is entered once and left when the process ends
        (`atexit`; not after a kill, nor in a process that `multiprocessing` started). An asynchronous one, which only
        async sagas can use, is entered once in each event loop and left when that loop shuts down, as at the end of
        ``asyncio.run``. A value that happens to be a context manager is had as it is by ``contextlib.nullcontext``.

        Providing a type again replaces its factory.

        Args:
            cls: A class, or a `typing.NewType`, as where two connections of one class are told apart.
            factory: Called without arguments; gives the value, a (possibly asynchronous) context manager, or an
                awaitable.

        Raises:
            UsageError: *cls* is no class, or *factory* cannot be called.
        """
        if not isinstance(cls, type | NewType) or cls in UNSAID:
            msg = f"provide(type, factory) takes the class that live arguments are annotated with, not {cls!r}"
            raise UsageError(msg)
        given: Any = factory
        if hasattr(type(factory), "__enter__") or hasattr(type(factory), "__aenter__"):
            given = lambda: factory  # noqa: E731  # a context manager itself
        elif not callable(factory):
            msg = f"provide({name_of(cls)}, factory): give what makes one, `lambda: value` where there is one already"
            raise UsageError(msg)
        self._provisions[cls] = Provision(cls, given)

    def sources(self, spec: StepSpec | SagaSpec, names: Iterable[str], who: str) -> dict[str, Maker]:
        """Say where live arguments of a step or saga come from, by their names; make nothing yet.

        Raises:
            UsageError: One is to be had nowhere, or could as well be another; *who* needs it.
        """
        found = {name: self._source(spec, name, f"{who} needs the live argument {name}") for name in names}
        for name, source in found.items():
            self._refuse_rivals(spec, name, source, found, who)
        return found

    def take(self, sources: Mapping[str, Maker]) -> dict[str, Any]:
        """Return the live arguments, made where they were not."""
        return {name: source() for name, source in sources.items()}

    async def atake(self, sources: Mapping[str, Maker]) -> dict[str, Any]:
        """Return the live arguments, made where they were not, in an ``async def``."""
        return {
            name: await source.aget() if isinstance(source, Provision) else source() for name, source in sources.items()
        }

    def forget(self) -> None:
        """In a forked child: what the parent made is the parent's."""
        for provision in self._provisions.values():
            _inherited.append(dict(vars(provision)))
            provision.forget()

    def _source(self, spec: StepSpec | SagaSpec, name: str, what: str) -> Maker:
        empty = EMPTY.get(spec.parameters.signature.parameters[name].kind)
        if empty is not None:
            return empty
        wanted = self._owners(spec) if name == spec.parameters.names[0] in {"self", "cls"} else said_of(spec, name)
        is_class = name == "cls" == spec.parameters.names[0]
        if is_class and wanted and (wanted[0] in self._provisions or not type.__subclasses__(wanted[0])):
            return lambda: wanted[0]
        found = [] if is_class else self._fitting(wanted)  # any object of a class does, another class never
        if len(found) == 1:
            return found[0]
        if not found and name in spec.parameters.defaults:
            return lambda: spec.parameters.defaults[name]
        msg = f"{what}{self._complaint(spec, name, wanted, found)}"
        raise UsageError(msg)

    def _fitting(self, wanted: list[Any]) -> list[Provision]:
        """Return what is provided for types, or else for classes that are derived from one of them."""
        found = [self._provisions[each] for each in wanted if each in self._provisions]
        return found or [p for cls, p in self._provisions.items() if any(is_derived(cls, each) for each in wanted)]

    def _refuse_rivals(
        self, spec: StepSpec | SagaSpec, name: str, source: Maker, asked: Mapping[str, Maker], who: str
    ) -> None:
        """Refuse one value for two parameters: a caller gave each its own, say two databases, and types cannot tell.

        What the function wants counts, not only what is asked for: of two connections an undo may name one. An object
        that a method is bound to is nobody's rival.
        """
        known = spec.parameters
        if not isinstance(source, Provision):
            return
        for other in known.names:
            if other == name or (other not in asked and (other not in known.live or other in {"self", "cls"})):
                continue
            try:
                is_same = self._source(spec, other, "") is source
            except UsageError:  # nobody asks for it here
                continue
            if is_same:
                both = " and ".join(each for each in known.names if each in {name, other})
                cls = name_of(source.wanted)
                new = name.title().replace("_", "")
                msg = (
                    f"{who} needs the live argument {name}, and what is provided for {cls} would fill {both} alike. "
                    f'Tell them apart by types of their own: {new} = NewType("{new}", {cls}), `{name}: Live[{new}]`, '
                    f"sagadsl.provide({new}, factory); and so for {other}"
                )
                raise UsageError(msg)

    def _owners(self, spec: StepSpec | SagaSpec) -> list[Any]:
        """Return the class whose body defines a method: by name among imported modules, or among what is provided."""
        function = plain_function(spec.function)
        module, (owner, _, _) = function.__module__, function_name(function).rpartition(".")
        found = find_class(f"{module}:{owner}")
        related = (base for cls in self._provisions for base in getattr(cls, "__mro__", ()))
        known = (base for base in related if (base.__module__, base.__qualname__) == (module, owner))
        return [found] if found is not None else list(known)[:1]

    def _complaint(self, spec: StepSpec | SagaSpec, name: str, wanted: list[Any], found: list[Provision]) -> str:
        cls = name_of(wanted[0]) if wanted else ""
        if len(found) > 1:
            several = " and ".join(name_of(provision.wanted) for provision in found)
            return f", a {cls}, and both {several} are provided: sagadsl.provide({cls}, factory) says which it is"
        if cls and name == "cls" == spec.parameters.names[0]:
            return (
                f", which is {cls} or a class derived from it, and nobody calls it here: sagadsl.provide({cls}, {cls}) "
                f"says that it is {cls}; for a derived one, call resume or compensate on that: Derived.saga.resume(id)"
            )
        if cls:
            return f", a {cls}, and nobody calls it here: say how to make one with sagadsl.provide({cls}, factory)"
        if name == spec.parameters.names[0] in {"self", "cls"}:
            owner = function_name(plain_function(spec.function)).rpartition(".")[0].rpartition("<locals>.")[2]
            return f", which is a {owner}: import its module, and say how to make one with sagadsl.provide(...)"
        annotation = spec.parameters.annotations.get(name)
        if isinstance(annotation, str):
            return (
                f", and its annotation {annotation!r} names nothing that is there when the program runs: import that "
                "name outside of `if TYPE_CHECKING:`"
            )
        return (
            f", and no annotation says what it is: annotate it `{name}: Live[SomeClass]`, and say how to make one with "
            "sagadsl.provide(SomeClass, factory)"
        )


def said_of(spec: StepSpec | SagaSpec, name: str) -> list[Any]:
    """Return the classes that an annotation names, as far as they say which value is meant."""
    classes = _members(annotations_of(plain_function(spec.function)).get(name))
    return [
        each for each in classes if isinstance(each, type | NewType) and each not in UNSAID and each is not type(None)
    ]


def _members(annotation: Any) -> Iterator[Any]:
    """Yield the members of a union, whatever is noted beside it or beside one of them."""
    annotation = getattr(annotation, "__value__", annotation)  # of a `type` statement
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin in {Union, UnionType}:
        for each in get_args(annotation):
            yield from _members(each)
    else:
        yield origin or annotation


def is_derived(cls: Any, wanted: Any) -> bool:
    """Tell whether *cls* is a subclass; a protocol is nobody's, unless it is named as a base."""
    return wanted in getattr(cls, "__mro__", ())


def name_of(wanted: Any) -> str:
    """Return what a class is called in the program."""
    return str(getattr(wanted, "__qualname__", wanted)).rpartition("<locals>.")[2]


_exits: ExitStack | None = None
_guard = threading.RLock()
_inherited: list[Any] = []
_all: weakref.WeakSet[Provided] = weakref.WeakSet()


def _after_fork() -> None:
    """Leave to the parent what it entered; it is kept here, lest dropping it closes what both share."""
    global _exits, _guard
    _inherited.append(_exits)
    _exits, _guard = None, threading.RLock()  # the parent's may be held by a thread that the child does not have
    for each in _all:
        each.forget()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)

PROVIDED = Provided()
