"""``@saga``: an ordinary function whose steps are one unit, across failures and restarts.

The body runs as the user's own code. Calling a saga opens a run (or a child, inside another), runs the body with it as
the current position, and settles whatever came out. The two colours differ in who awaits, nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    Unpack,
    overload,
    runtime_checkable,
)

import attrs
import wrapt

from sagadsl._core import threads
from sagadsl._core.codec import Unstorable
from sagadsl._core.codec.classes import module_name
from sagadsl._core.definition import SagaSpec, key_of, literal
from sagadsl._core.drive import asettled, cancellations, is_in_thread, when_settled
from sagadsl._core.flow import PRESSED, Ended, descend, settle
from sagadsl._core.history import altered, recorded_files
from sagadsl._core.ownership import Tenure
from sagadsl._core.parameters import Parameters, plain_function
from sagadsl._core.provided import Source
from sagadsl._core.registry import registry
from sagadsl._core.runtime import (
    CODEC,
    Opened,
    Run,
    Runtime,
    default_runtime,
    unstorable_argument,
)
from sagadsl._core.runtime.deciding import Asking, Request
from sagadsl._core.scope import CURRENT, OpenRun, Scope, Slot
from sagadsl._core.session import program_at
from sagadsl._core.settings import Options, checked_choice
from sagadsl._core.supply import asupply, supply
from sagadsl._core.values import Outcome, Status
from sagadsl._dsl.drawn import Drawn
from sagadsl._dsl.kernel import HeedingStop
from sagadsl._dsl.options import checked_function, default_name, default_title, known_options
from sagadsl._dsl.outcomes import as_call, as_compensated, as_outcome
from sagadsl._dsl.steps import is_async_body, misplaced, owner_of
from sagadsl.errors import (
    CompensationError,
    ReplayError,
    RunCancelledError,
    Stop,
    UsageError,
    to_run_again,
    to_type,
)

if TYPE_CHECKING:
    from sagadsl._core.runtime.rehearsal import DryRun
    from sagadsl.report import Graph

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")

log = logging.getLogger("sagadsl")

Finish = Callable[[Runtime, OpenRun | None, Ended | BaseException], Any]
"""What is made of a saga that has ended: its value for a call, or an outcome."""


@runtime_checkable
class Saga(Protocol[P, R]):
    """A decorated saga: called as before, with a few names more."""

    __name__: str
    __qualname__: str
    __wrapped__: Callable[P, R]

    @property
    def plain(self) -> Callable[P, R]:
        """The undecorated function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the saga; return its value, or raise the original exception after compensation."""

    @overload
    def __get__(self, instance: None, owner: type) -> Saga[P, R]: ...
    @overload
    def __get__(self: Saga[Concatenate[S, Q], R], instance: S, owner: type) -> Saga[Q, R]: ...
    @overload
    def outcome(  # type: ignore[overload-overlap]  # a coroutine is also a value
        self: Saga[P, Coroutine[Any, Any, S]], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, Outcome[S]]: ...
    @overload
    def outcome(self, *args: P.args, **kwargs: P.kwargs) -> Outcome[R]: ...
    def resume(self, run_id: str) -> R:
        """Go on with a stored run, with its stored arguments; live ones are those that `provide` was told of."""

    @overload
    def compensate(self, run_id: str, *, dry_run: Literal[True], **asked: Unpack[Asking]) -> DryRun: ...
    @overload
    def compensate(  # type: ignore[overload-overlap]  # as above
        self: Saga[P, Coroutine[Any, Any, S]], run_id: str, **asked: Unpack[Asking]
    ) -> Coroutine[Any, Any, Run]: ...
    @overload
    def compensate(self, run_id: str, **asked: Unpack[Asking]) -> Run: ...

    def graph(self) -> Graph:
        """Return what the saga's body calls, as its code has it: a `Graph` to be looked at, or saved."""

    def using(
        self,
        *,
        id: str = ...,
        key: str = ...,
        store: Any = ...,
        resume: str = ...,
        durability: str = ...,
        on_failure: str = ...,
        steal: bool = ...,
        rerun: bool = ...,
        runtime: Runtime = ...,
    ) -> Saga[P, R]:
        """Return the same saga with these settings."""


class BoundSaga(Drawn, wrapt.BoundFunctionWrapper):  # type: ignore[type-arg]  # `Saga` has the types
    """A saga that is a method, bound to its instance."""

    @property
    def plain(self) -> Any:
        """The undecorated method."""
        return self.__wrapped__

    def outcome(self, *args: Any, **kwargs: Any) -> Any:
        """Run the saga and return how it ended."""
        return self._self_parent.run(self.__wrapped__, self._bound_to(), args, kwargs, as_outcome)

    def using(self, **options: Any) -> Any:
        """Return the same saga with other settings."""
        return self._self_parent.using(**options).__get__(self._self_instance, self._self_owner)

    def resume(self, run_id: str) -> Any:
        """Go on with a stored run."""
        __tracebackhide__ = True
        return self._self_parent.reopened(self.__wrapped__, self._bound_to(), run_id, None)

    def compensate(self, run_id: str, *, dry_run: bool = False, **asked: Unpack[Asking]) -> Any:
        """Compensate a stored run."""
        __tracebackhide__ = True
        if dry_run:
            return self._self_parent.compensate(run_id, dry_run=True, **asked)
        return self._self_parent.reopened(self.__wrapped__, self._bound_to(), run_id, Request(**asked))

    def _bound_to(self) -> Any:
        """Return what the method gets as its first argument; a static one gets nothing, whatever it is called on."""
        return getattr(self.__wrapped__, "__self__", None)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return getattr, (owner_of(self), self.__wrapped__.__name__)


class SagaFunction(Drawn, wrapt.FunctionWrapper):  # type: ignore[type-arg]  # `Saga` has the types
    """What `saga` makes of a function. wrapt keeps name, signature, binding; it pickles by name, copies as itself."""

    __bound_function_wrapper__ = BoundSaga

    def __init__(self, target: Any, spec: SagaSpec, options: Options) -> None:
        super().__init__(target, self._call)
        self._self_spec, self._self_options = spec, options

    def _call(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        __tracebackhide__ = True
        return self.run(wrapped, instance, args, kwargs, as_call)

    def run(self, wrapped: Any, instance: Any, args: Any, kwargs: Any, finish: Finish) -> Any:
        """Run the saga, and let *finish* say what comes out."""
        __tracebackhide__ = True
        return run_saga(self._self_spec, self._self_options, (wrapped, instance), args, kwargs, finish)

    @property
    def plain(self) -> Any:
        """The undecorated function."""
        return self.__wrapped__

    def outcome(self, *args: Any, **kwargs: Any) -> Any:
        """Run the saga and return how it ended."""
        return self.run(self.__wrapped__, None, args, kwargs, as_outcome)

    def outcome_by_names(self, given: Mapping[str, Any], *, is_text: bool) -> Any:
        """Run the saga with arguments as a command line has them; see `named`."""
        from sagadsl._dsl.named import outcome_by_names  # noqa: PLC0415  # on first use

        runtime = runtime_of(self._self_spec, self._self_options)
        return outcome_by_names(self, runtime, given, is_text=is_text)

    def using(self, **options: Any) -> SagaFunction:
        """Return the same saga with other settings."""
        known_options(f"{self._self_spec.name}.using()", options, USING)
        for name in CHOICES & options.keys():
            checked_choice(name, options[name])
        return SagaFunction(self.__wrapped__, self._self_spec, attrs.evolve(self._self_options, **options))

    def resume(self, run_id: str) -> Any:
        """Go on with a stored run."""
        __tracebackhide__ = True
        return self.reopened(self.__wrapped__, None, run_id, None)

    def compensate(self, run_id: str, *, dry_run: bool = False, **asked: Unpack[Asking]) -> Any:
        """Compensate what a stored run owes, or carry on doing so, with this saga as its body; return the run."""
        __tracebackhide__ = True
        if dry_run:
            return runtime_of(self._self_spec, self._self_options).rehearse(run_id, Request(**asked))
        return self.reopened(self.__wrapped__, None, run_id, Request(**asked))

    def reopened(self, wrapped: Any, instance: Any, run_id: str, request: Request | None) -> Any:
        """Run *wrapped* as the body of a stored run over its record, in the store of this saga."""
        __tracebackhide__ = True
        runtime = runtime_of(self._self_spec, self._self_options)
        return reopen(self, (wrapped, instance), run_id, runtime, request)

    def reopen(self, run_id: str, runtime: Runtime, request: Request | None) -> Any:
        """Run the body of a stored run over its record."""
        __tracebackhide__ = True
        return reopen(self, (self.__wrapped__, None), run_id, runtime, request)

    def __reduce_ex__(self, protocol: Any) -> str:
        return str(self.__wrapped__.__qualname__)

    def __copy__(self) -> SagaFunction:
        return self

    def __deepcopy__(self, memo: Any) -> SagaFunction:
        return self


CHOICES = frozenset({"resume", "durability", "on_failure", "on_compensation_failure", "compensate_order"})
OPTIONS = CHOICES | {"name", "title", "key", "live", "store", "version", "runtime"}
USING = frozenset(a.name for a in attrs.fields(Options))


def decorate(target: Any, options: dict[str, Any]) -> Any:
    """Make a saga of *target*."""
    function = checked_function(target, "saga")
    name = default_name(function, options.get("name"), "saga")
    parameters = Parameters.of(target, options.get("live", ()))
    settings = {n: options[n] for n in options if n not in {"name", "title", "live"}}
    spec = SagaSpec(
        function=target,
        name=name,
        title=default_title(function, options.get("title"), name),
        module=module_name(function.__module__),
        program=program_of(function),
        is_async=inspect.iscoroutinefunction(function),
        parameters=parameters,
        **settings,
    )
    for annotation in parameters.annotations.values():
        CODEC.know(annotation)
    made = SagaFunction(target, spec, Options())
    registry.sagas[spec.module, name] = made
    return made


def program_of(function: Any) -> str:
    """Return the source file of a saga: a run is only adopted by the program that started it."""
    plain = plain_function(inspect.unwrap(function))
    return program_at(plain.__code__.co_filename, plain.__module__)


def runtime_of(spec: SagaSpec, options: Options) -> Runtime:
    """Return the runtime of a call, at the store that the call or the saga names."""
    runtime: Runtime = options.runtime or spec.runtime or default_runtime
    store = options.store if options.store is not None else spec.store
    return runtime if store is None else runtime.at(runtime.journal(store))


# -- running one ------------------------------------------------------------------------------------------------------


@attrs.define(eq=False, repr=False)
class Calling:
    """One call of a saga: its body with arguments bound, and what is made of its end."""

    spec: SagaSpec
    options: Options
    runtime: Runtime
    body: Callable[[], Any]
    finish: Finish
    tenure: Tenure = attrs.field(factory=Tenure)

    def pauses(self, scope: Scope) -> bool:
        """Tell whether a failure is for a person to decide."""
        own = scope.spec.on_failure if scope.spec else None
        return (self.options.on_failure or own or self.runtime.on_failure) == "pause"

    def open(self, stored: dict[str, Any]) -> Opened:
        """Open a run; one that an earlier process left stuck has ended like others."""
        try:
            return self.runtime.open(self.spec, stored, self.options, self.tenure)
        except CompensationError as error:
            return Opened(ended=error)

    def close(self, scope: Scope | None) -> None:
        """Let go of what is held, once nothing of it is under way; without a scope, of what opening had come to hold.

        A Ctrl-C may come between any two of our lines. So this is called in a ``finally``, and once more in another
        one around it, for which nothing is left to do but what the first had not done.
        """
        if scope is None:
            self.tenure.end()
        else:
            when_settled(scope, functools.partial(self.runtime.close, scope.run))


def run_saga(spec: SagaSpec, options: Options, target: tuple[Any, Any], args: Any, kwargs: Any, finish: Finish) -> Any:
    """Run a saga (*target*: function and instance), as a run of its own or as a child of the one around it."""
    __tracebackhide__ = True
    wrapped, instance = target
    here = CURRENT.get()
    if here is not None and (type(here) is not Scope or (spec.is_async and not is_async_body(here))):
        raise misplaced(spec, here)
    stored, live = spec.parameters.split(spec.parameters.bind(args if instance is None else (instance, *args), kwargs))
    calling = Calling(spec, options, runtime_of(spec, options), functools.partial(wrapped, *args, **kwargs), finish)
    slot = child_of(here, spec, stored, live, options) if isinstance(here, Scope) else None
    if not spec.is_async:
        return run_root(functools.partial(calling.open, stored), calling) if slot is None else run_child(slot, calling)
    made: Any = arun_root(stored, calling) if slot is None else arun_child(slot, calling)
    made.__qualname__ = spec.name  # as for steps
    return made


def run_root(opens: Callable[[], Opened], calling: Calling) -> Any:
    """Run a saga of its own, in a ``def``."""
    __tracebackhide__ = True
    scope = None
    try:
        opened = opens()
        scope = opened.scope
        if scope is None:
            return calling.finish(calling.runtime, opened.run, opened.ended or Ended(Status.COMPLETED))
        threads.begin(scope.run)
        files = None if scope.run.is_new else recorded_files(scope)
        wrong = altered(scope, files) if files else None
        ended = wrong or leave(scope, calling, *enter(scope, calling.body))
    finally:
        try:
            calling.close(scope)
        finally:
            calling.close(scope)
    return calling.finish(calling.runtime, scope.run, ended)


async def arun_root(stored: dict[str, Any], calling: Calling) -> Any:
    """Run a saga of its own, in an ``async def``."""
    __tracebackhide__ = True
    with HeedingStop():
        return await arun_opened(functools.partial(calling.open, stored), calling)


async def arun_opened(opens: Callable[[], Opened], calling: Calling) -> Any:
    """Open a saga and run it, in an ``async def``."""
    __tracebackhide__ = True
    scope = None
    try:
        opened = opens()
        scope = opened.scope
        if scope is None:
            return calling.finish(calling.runtime, opened.run, opened.ended or Ended(Status.COMPLETED))
        threads.begin(scope.run)
        files = None if scope.run.is_new else recorded_files(scope)
        wrong = await asyncio.to_thread(altered, scope, files) if files else None
        ended = wrong or await aleave(scope, calling, *await aenter(scope, calling.body))
    finally:
        try:
            calling.close(scope)
        finally:
            calling.close(scope)
    return calling.finish(calling.runtime, scope.run, ended)


def enter(scope: Scope, body: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Run a body; return its value, or what it raised."""
    around = CURRENT.get()
    try:
        CURRENT.set(scope)  # inside, for a Ctrl-C may come as soon as it is set
        return body(), None
    except BaseException as error:  # noqa: BLE001  # settle decides
        return None, error
    finally:
        CURRENT.set(around)


async def aenter(scope: Scope, body: Callable[[], Awaitable[Any]]) -> tuple[Any, BaseException | None]:
    """Run a body; return its value, or what it raised."""
    around = CURRENT.get()
    try:
        CURRENT.set(scope)
        return await body(), None
    except BaseException as error:  # noqa: BLE001  # settle decides
        return None, error
    finally:
        CURRENT.set(around)


def leave(scope: Scope, calling: Calling, value: Any, error: BaseException | None) -> Ended | BaseException:
    """Settle a saga; return how it ended, or why its run stopped."""
    try:
        if lacks(scope, error):
            supply(scope, calling.runtime.provided)
        flow = settle(scope, value, error, calling.pauses(scope))
        ended: Ended = scope.run.drivers[0](flow)
    except Stop as stop:
        if is_cancelled(scope, stop):
            return leave(scope, calling, None, stop)
        return stopped(scope, stop)
    except BaseException as raised:  # noqa: BLE001  # an interruption
        return interrupted(scope, raised)
    return ended


async def aleave(scope: Scope, calling: Calling, value: Any, error: BaseException | None) -> Ended | BaseException:
    """Settle a saga; compensation is shielded from cancellation, which is let through when it has ended."""
    try:
        if lacks(scope, error):
            await asupply(scope, calling.runtime.provided)
        flow = settle(scope, value, error, calling.pauses(scope))
        compensates = scope.status is Status.COMPENSATING and not isinstance(error, PRESSED)
        compensates = (compensates or isinstance(error, Exception | Stop)) and not scope.left
        work = scope.run.drivers[1](flow)
        ended: Ended = await (shielded(work) if compensates else work)
    except Stop as stop:
        if is_cancelled(scope, stop):
            return await aleave(scope, calling, None, stop)
        return stopped(scope, stop)
    except BaseException as raised:  # noqa: BLE001  # an interruption
        if scope.slot is not None:
            scope.slot.cancellations = cancellations()
        interrupted(scope, raised)
        if scope.parent is None and isinstance(raised, asyncio.CancelledError) and is_in_thread(scope):
            with contextlib.suppress(asyncio.CancelledError):
                await shielded(asettled(scope, is_in_thread))  # it cannot be cut off: its outcome is recorded first
        return raised
    return ended


def is_cancelled(scope: Scope, stop: Stop) -> bool:
    """Tell whether a saga was cancelled just before its value was on record: it is left once more, to compensate."""
    return scope.parent is None and isinstance(stop.reason, RunCancelledError) and scope.run.stop is None


def lacks(scope: Scope, error: BaseException | None) -> bool:
    """Tell whether something may be owed that the body did not bind: it ran only as far as the record goes."""
    return scope.status is Status.COMPENSATING and scope.run.stop is None and not isinstance(error, PRESSED)


async def shielded(work: Awaitable[Any]) -> Any:
    """Await *work* to its end, whoever is cancelled meanwhile, and only then let the cancellation through."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except BaseException:  # noqa: BLE001  # the task's own: its result tells
            break
    if cancelled is not None and not task.cancelled() and task.exception() is None:
        raise cancelled
    return task.result()


def stopped(scope: Scope, stop: Stop) -> BaseException:
    """Return why a run stopped. Inside a parent it goes on up as it came, whatever bodies do with it."""
    return stop if scope.parent is not None else stop.reason


def interrupted(scope: Scope, error: BaseException) -> BaseException:
    """Say how to go on with a run that was interrupted, and let the interruption through.

    Nothing more of the saga starts. Whether it has an end depends on whether the body around it survives; a
    compensation that was cut off nobody survives: the run stops, and goes on there.
    """
    run = scope.run
    if isinstance(error, Exception):
        return error
    scope.closing = True
    if scope.slot is not None and scope.status is not Status.COMPENSATING:
        run.cut.append((scope.slot, error))
    else:
        run.halt(error)
    if scope.parent is None and not run.is_new:
        from sagadsl.report import short_id  # noqa: PLC0415  # on first use

        shown, store = short_id(run.id), run.journal.name
        key = next((s.key for s in reversed(scope.slots) if not s.has_outcome), None)
        at = f" at {key}" if key else ""
        or_else = "" if scope.spec is None or scope.spec.function is None else f", or {to_type('resume', shown, store)}"
        log.warning(
            "%s interrupted%s. Go on: %s%s   Compensate: %s",
            shown, at, to_run_again(), or_else, to_type("compensate", shown, store), extra={"run": run.id},
        )  # fmt: skip
    return error


# -- children ---------------------------------------------------------------------------------------------------------


def child_of(
    parent: Scope, spec: SagaSpec, stored: dict[str, Any], live: dict[str, Any] | None, options: Options
) -> Slot:
    """Return the slot of a child saga, with its scope."""
    run = parent.run
    if options.id is not None:
        msg = f"{spec.name}: a saga inside {parent.name} is part of its run and has no id of its own; use key="
        raise UsageError(msg)
    try:
        text = run.codec.encode(stored)
    except Unstorable as why:
        raise unstorable_argument(spec.name, why) from None
    key = spec.key if options.key is None else literal(options.key)
    slot = parent.call(spec.name, spec.definition, text, None if key is None else key_of(key, stored, spec.name))
    if slot.seq and slot.child is None:
        raise run.halt(ReplayError(run.id, parent.path, (slot.local_key,), (spec.name,), f"{spec.name} was a step"))
    slot.live = live
    if slot.child is None:
        slot.child = Scope(run, spec, spec.name, slot.key, parent, slot)
    slot.child.spec = spec
    return slot


def run_child(slot: Slot, calling: Calling) -> Any:
    """Run a child saga, in a ``def``."""
    __tracebackhide__ = True
    child = slot.child
    assert child is not None  # noqa: S101  # `child_of` made it
    slot.run.drivers[0](descend(slot))
    came = (None, None) if child.has_failed else enter(child, calling.body)
    return calling.finish(calling.runtime, slot.run, leave(child, calling, *came))


async def arun_child(slot: Slot, calling: Calling) -> Any:
    """Run a child saga, in an ``async def``."""
    __tracebackhide__ = True
    child = slot.child
    assert child is not None  # noqa: S101  # `child_of` made it
    await slot.run.drivers[1](descend(slot))
    came = (None, None) if child.has_failed else await aenter(child, calling.body)
    return calling.finish(calling.runtime, slot.run, await aleave(child, calling, *came))


# -- stored runs ------------------------------------------------------------------------------------------------------


def reopen(made: SagaFunction, target: tuple[Any, Any], run_id: str, runtime: Runtime, request: Request | None) -> Any:
    """Run the body of a stored run over its record, to go on with it or, on *request*, to compensate it.

    Nobody calls, so its live arguments are those that are provided. Where they are not, what is owed is compensated
    without the body, by the names of its functions.
    """
    __tracebackhide__ = True
    spec, options = made._self_spec, made._self_options  # noqa: SLF001  # our own, as wrapt names it
    wrapped, instance = target
    parameters = spec.parameters
    given = {} if instance is None else {parameters.names[0]: instance}
    names = [name for name in parameters.names if name in parameters.live and name not in given]
    try:
        sources = runtime.provided.sources(spec, names, f"run {run_id}: the saga {spec.name}")
    except UsageError as missing:
        if request is None:
            raise
        try:
            return runtime.compensate_without_body(run_id, request, is_async=spec.is_async)
        except UsageError as error:
            raise error from missing
    opened, arguments = runtime.reopen(spec, run_id, request, options)

    def bind(live: dict[str, Any]) -> Callable[[], Any]:
        values = given | arguments | live
        lacking = [name for name in parameters.names if name not in values and name not in parameters.defaults]
        if lacking and request is None:
            names = ", ".join(lacking)
            msg = f"run {run_id} was recorded without {names}, which {spec.name} takes now: give it a default"
            raise UsageError(msg)
        args, kwargs = parameters.spread(values)
        return functools.partial(plain_function(wrapped), *args, **kwargs)

    calling = Calling(spec, options, runtime, wrapped, as_call if request is None else as_compensated)
    return (arun_reopened if spec.is_async else run_reopened)(opened, calling, sources, bind)


Bind = Callable[[dict[str, Any]], Callable[[], Any]]
"""What makes the body of a run that nobody calls, given its live arguments."""


def run_reopened(opened: Opened, calling: Calling, sources: dict[str, Source], bind: Bind) -> Any:
    """Run a saga that nobody calls, in a ``def``: *sources* are where its live arguments come from."""
    __tracebackhide__ = True
    if opened.scope is not None:
        try:
            calling.body = bind(calling.runtime.provided.take(sources))
        except BaseException:
            calling.runtime.close(opened.scope.run)
            raise
    return run_root(lambda: opened, calling)


async def arun_reopened(opened: Opened, calling: Calling, sources: dict[str, Source], bind: Bind) -> Any:
    """Run a saga that nobody calls, in an ``async def``: *sources* are where its live arguments come from."""
    __tracebackhide__ = True
    if opened.scope is not None:
        try:
            calling.body = bind(await calling.runtime.provided.atake(sources))
        except BaseException:
            calling.runtime.close(opened.scope.run)
            raise
    with HeedingStop():
        return await arun_opened(lambda: opened, calling)
