"""``@saga``: an ordinary function whose steps are one unit, across failures and restarts.

What is decorated keeps its signature and its name, is called as before, and has a few names more. How a call runs is
told in `running`, how a stored run is gone on with, or compensated, in `reopening`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
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

from sagadsl._core.codec.classes import module_name
from sagadsl._core.definition import SagaSpec, checked_key
from sagadsl._core.later import Later
from sagadsl._core.parameters import Parameters, plain_function
from sagadsl._core.registry import registry
from sagadsl._core.runtime import CODEC, Runtime
from sagadsl._core.runtime.deciding import Asking, Request
from sagadsl._core.session import program_at
from sagadsl._core.settings import Options
from sagadsl._dsl.decorated import Bound, Decorated, whole
from sagadsl._dsl.drawn import Drawn
from sagadsl._dsl.notifying import checked_notify
from sagadsl._dsl.options import checked_function, checked_options, default_name, default_title, identified
from sagadsl._dsl.outcomes import as_call, as_compensated, as_outcome
from sagadsl._dsl.reopening import reopen
from sagadsl._dsl.running import Finish, run_saga, runtime_of

if TYPE_CHECKING:
    from sagadsl._core.runtime import rehearsal, stored
    from sagadsl._core.values import outcomes
    from sagadsl.report import graph as graphs
else:
    rehearsal, stored = Later("sagadsl._core.runtime.rehearsal"), Later("sagadsl._core.runtime.stored")
    outcomes, graphs = Later("sagadsl._core.values.outcomes"), Later("sagadsl.report.graph")

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")


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
    ) -> Coroutine[Any, Any, outcomes.Outcome[S]]: ...
    @overload
    def outcome(self, *args: P.args, **kwargs: P.kwargs) -> outcomes.Outcome[R]: ...
    def resume(self, run_id: str) -> R:
        """Go on with a stored run, with its stored arguments; live ones are those that `provide` was told of."""

    @overload
    def compensate(self, run_id: str, *, dry_run: Literal[True], **asked: Unpack[Asking]) -> rehearsal.DryRun: ...
    @overload
    def compensate(  # type: ignore[overload-overlap]  # as above
        self: Saga[P, Coroutine[Any, Any, S]], run_id: str, **asked: Unpack[Asking]
    ) -> Coroutine[Any, Any, stored.Run]: ...
    @overload
    def compensate(self, run_id: str, **asked: Unpack[Asking]) -> stored.Run: ...

    def graph(self) -> graphs.Graph:
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


class Verbs(Drawn):
    """What a saga has beside its call, bound to an instance or not."""

    __slots__ = ()

    def outcome(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Run the saga and return how it ended."""
        return whole(self).run(self.plain, self._bound_to, args, kwargs, as_outcome)

    def resume(self: Any, run_id: str) -> Any:
        """Go on with a stored run."""
        __tracebackhide__ = True
        return self.reopen(run_id)

    def compensate(self: Any, run_id: str, *, dry_run: bool = False, **asked: Unpack[Asking]) -> Any:
        """Compensate what a stored run owes, or carry on doing so, with this saga as its body; return the run."""
        __tracebackhide__ = True
        if dry_run:
            return runtime_of(*parts_of(self)).rehearse(run_id, Request(**asked))
        return self.reopen(run_id, Request(**asked))

    def reopen(
        self: Any,
        run_id: str,
        request: Request | None = None,
        runtime: Runtime | None = None,
        finish: Finish | None = None,
    ) -> Any:
        """Run the body of a stored run over its record, to go on or, on *request*, to be compensated.

        The run is looked for in the store of *runtime*, by default of this saga. *finish* says what comes out.
        """
        __tracebackhide__ = True
        spec, options = parts_of(self)
        runtime = runtime or runtime_of(spec, options)
        finish = finish or (as_call if request is None else as_compensated)
        return reopen(spec, options, runtime, (self.plain, self._bound_to), run_id, request, finish=finish)


class BoundSaga(Verbs, Bound):
    """A saga that is a method, bound to its instance."""

    @property
    def _bound_to(self) -> Any:
        """What the method gets as its first argument; a static one gets nothing, whatever it is called on."""
        return getattr(self.__wrapped__, "__self__", None)


class SagaFunction(Verbs, Decorated):
    """What `saga` makes of a function."""

    __bound_function_wrapper__ = BoundSaga
    _bound_to = None

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

    def outcome_by_names(self, given: Mapping[str, Any], *, is_text: bool) -> Any:
        """Run the saga with arguments as a command line has them; see `named`."""
        from sagadsl._dsl.named import outcome_by_names

        spec, options = parts_of(self)
        outcome = self.outcome
        if isinstance(self.__wrapped__, classmethod):  # which only its class can call
            outcome = lambda cls, *args, **kwargs: self.__get__(None, cls).outcome(*args, **kwargs)  # noqa: E731
        return outcome_by_names(spec, outcome, runtime_of(spec, options), given, is_text=is_text)

    def using(self, **options: Any) -> SagaFunction:
        """Return the same saga with other settings."""
        spec = self._self_spec
        checked_options(f"{spec.name}.using()", options, USING)
        return SagaFunction(self.__wrapped__, spec, identified(spec.name, self._self_options.changed(**options)))


def parts_of(saga: Any) -> tuple[SagaSpec, Options]:
    """Return what a saga is, and the options of its calls."""
    made = whole(saga)
    return made._self_spec, made._self_options  # noqa: SLF001  # what is not named so, wrapt keeps on the function


OPTIONS = frozenset(
    {
        *("name", "title", "key", "live", "store", "version", "notify", "runtime"),
        *("resume", "durability", "on_failure", "on_compensation_failure", "compensate_order"),
    }
)
USING = frozenset(Options._names)  # noqa: SLF001  # of our own


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
        **settings | {"key": checked_key(options.get("key"), parameters.stored, name)},
    )
    checked_notify(spec)
    for annotation in parameters.annotations.values():
        CODEC.know(annotation)
    made = SagaFunction(target, spec, Options())
    registry.sagas[spec.module, name] = made
    return made


def program_of(function: Any) -> str:
    """Return the source file of a saga: a run is only adopted by the program that started it."""
    plain = plain_function(inspect.unwrap(function))
    return program_at(plain.__code__.co_filename, plain.__module__)
