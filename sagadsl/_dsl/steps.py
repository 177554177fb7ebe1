"""``@step``: a function that, called inside a saga, is done once and recorded. Outside it is the plain function."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable
from datetime import timedelta
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload, runtime_checkable

from sagadsl._core.codec import Unstorable, template_of
from sagadsl._core.definition import StepSpec, key_of, literal
from sagadsl._core.effects import Call
from sagadsl._core.flow import perform, renew
from sagadsl._core.parameters import plain_function
from sagadsl._core.registry import registry
from sagadsl._core.retry import Retry
from sagadsl._core.scope import CURRENT, Scope, called_at
from sagadsl._core.scope.slot import Slot
from sagadsl._core.scope.waking import halt
from sagadsl._core.threads import PARENTS, threads_with_runs
from sagadsl._dsl.branches import aparallel, parallel
from sagadsl._dsl.decorated import Bound, Decorated, spec_of
from sagadsl._dsl.options import checked_options, refuse_duplicate
from sagadsl._dsl.step_options import OPTIONS, USING, Compensate, respecified, specified
from sagadsl.errors import UsageError

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")

log = logging.getLogger("sagadsl")


@runtime_checkable
class Step(Protocol[P, R]):
    """A decorated function: called as before, with a few names more."""

    __name__: str
    __qualname__: str
    __wrapped__: Callable[P, R]

    @property
    def plain(self) -> Callable[P, R]:
        """The undecorated function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do the step, inside a saga; call the plain function, outside."""

    @overload
    def __get__(self, instance: None, owner: type) -> Step[P, R]: ...
    @overload
    def __get__(self: Step[Concatenate[S, Q], R], instance: S, owner: type) -> Step[Q, R]: ...
    @overload
    def map(  # type: ignore[overload-overlap]  # a coroutine is also a value
        self: Step[..., Coroutine[Any, Any, S]], items: Iterable[Any], *, limit: int | None = ...
    ) -> Coroutine[Any, Any, list[S]]: ...
    @overload
    def map(self, items: Iterable[Any], *, limit: int | None = ...) -> list[R]: ...
    def using(
        self,
        *,
        key: str = ...,
        compensate: Compensate = ...,
        retries: int | Retry = ...,
        timeout: float | timedelta | None = ...,
    ) -> Step[P, R]:
        """Return the same step with these options, for a call or a place; *key* is taken as it is."""


class Verbs:
    """What a step has beside its call, bound to an instance or not."""

    __slots__ = ()

    def map(self: Any, items: Iterable[Any], *, limit: int | None = None) -> Any:
        """Do the step for each item, at the same time, in a branch of its own."""
        if not isinstance(items, Iterable):
            msg = f"{self.__qualname__}.map() takes a list of what it is called with, one by one, not {items!r:.80}"
            raise UsageError(msg)
        spec: Any = spec_of(self)
        calls = [functools.partial(self, item) for item in items]
        return (aparallel if spec.is_async else parallel)(*calls, limit=limit)


class BoundStep(Verbs, Bound):
    """A step that is a method, bound to its instance."""


class StepFunction(Verbs, Decorated):
    """What `step` makes of a function."""

    __bound_function_wrapper__ = BoundStep

    def __init__(self, target: Any, spec: StepSpec, calling: Callable[[StepSpec], Any] | None = None) -> None:
        super().__init__(target, (calling or caller)(spec))
        self._self_spec, self._self_calling = spec, calling

    def using(self, **options: Any) -> StepFunction:
        """Return the same step with other options."""
        checked_options(f"{self._self_spec.name}.using()", options, USING)
        if isinstance(options.get("key"), str):
            options["key"] = literal(options["key"])
        return StepFunction(self.__wrapped__, respecified(self._self_spec, options), self._self_calling)


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    compensate: Compensate = ...,
    retries: int | Retry = ...,
    timeout: float | timedelta | None = ...,
    probe: Callable[..., Any] | None = ...,
    on_uncertain: str = ...,
    key: str | Callable[..., Any] | None = ...,
    name: str | None = ...,
    title: str | None = ...,
    read_only: bool = ...,
    live: list[str] | tuple[str, ...] = ...,
    transaction: str | None = ...,
    stands: Callable[..., bool] | None = ...,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(function: Any = None, /, **options: Any) -> Any:  # noqa: D417  # the overloads name them
    """Make a function a step: inside a saga it is journaled, retried, replayed and compensated.

    Outside a saga it is the plain function. Inside, it returns (or raises) the copy that would come back after a
    restart. Signature, docstring, types and colour are kept.

    Args:
        function: A function, coroutine function, method, static or class method.
        compensate: The function that undoes the step, or a `Compensation`; `None`: nothing to undo, by decision;
            `IRREVERSIBLE`: nothing can undo it; `PIVOT`: once done, the run only goes forward.
        retries: Extra attempts after a failure, or a `Retry`.
        timeout: Seconds, or a `timedelta`, for one attempt. An async attempt is cancelled; a sync one runs in a thread,
            and nothing follows until it has really ended.
        probe: Asked about an attempt that was cut off or timed out, before anything is decided: returns
            ``Landed(value)``, ``NotLanded()`` or ``Unknown()``. Its parameters are bound like a compensation's.
        on_uncertain: What follows where nobody can tell: ``"retry"`` (after a timeout it uses up one of the retries),
            ``"compensate"``: the step has failed, or ``"pause"``: a person decides.
        key: A template of ``{argument}`` fields, or a function of arguments: an explicit identity for each call.
        name: The stable name, by default the qualified name.
        title: What people read, by default the docstring's first line.
        read_only: The body only looks: one entry, no intent, no compensation.
        live: Names of parameters that are passed as they are and never stored.
        transaction: The live parameter that holds a SQLite, psycopg or SQLAlchemy connection or session. The effect and
            a row in table ``sagadsl_landed`` of that database commit together: exactly once. The body neither commits
            nor rolls back, and SQLAlchemy's isolation level is not AUTOCOMMIT. A compensation that takes the parameter
            is treated likewise. Rows of runs that have ended may be deleted.
        stands: Asked when a recorded result would come back: ``stands(note, **arguments)``, with what the step gave to
            ``current().note()`` and its stored arguments. `True` lets it come back, and the step is not entered. After
            `False` it is called anew, as a further call; the old one stays on record with what is owed for it.

    Raises:
        UsageError: An option is unknown or cannot work, on the decorator's line.
    """
    checked_options("@step", options, OPTIONS)
    if function is None:
        return functools.partial(decorate, options=options)
    return decorate(function, options)


def decorate(target: Any, options: dict[str, Any]) -> Any:
    """Make a step of *target*."""
    function, spec = plain_function(target), specified(target, options)
    refuse_duplicate(function, spec.name)
    if "<locals>" not in function.__qualname__:
        registry.steps[spec.module, spec.name] = spec
    return StepFunction(target, spec)


def caller(  # noqa: C901  # the hot path, in one piece
    spec: StepSpec,
    here: Callable[[], Scope | Call | None] = CURRENT.get,
    slot_of: Callable[[Scope, str, str, str, str | None], Slot] = Scope.call,
) -> Callable[..., Any]:
    """Return what happens when a step is called: *here* tells in which scope, *slot_of* which of its calls it is."""
    parameters = spec.parameters
    names, count = parameters.names, len(parameters.names)
    is_plain = parameters.is_simple and parameters.positional == count and not parameters.live and spec.key is None
    template = template_of(names)
    name, definition, is_async, read_only = spec.name, spec.definition, spec.is_async, spec.read_only
    transaction, stands = spec.transaction, spec.stands

    def call(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        __tracebackhide__ = True
        scope = here()
        if scope is None:
            if threads_with_runs:
                notice_thread(spec)
            return wrapped(*args, **kwargs)
        if type(scope) is not Scope or (is_async and not is_async_body(scope)):
            raise misplaced(spec, scope)
        live = key = None
        run = scope.run
        try:
            if is_plain and len(args) == count and not kwargs:  # most calls: nothing to ask the signature
                text = run.codec.encode_named(template, names, args)
            else:
                bound = parameters.bind(args if instance is None else (instance, *args), kwargs)
                stored, live = parameters.split(bound)
                text = run.codec.encode(stored)
                key = None if spec.key is None else key_of(spec.key, stored, name)
        except Unstorable as why:
            raise why.error(name, "argument") from None
        slot, of = slot_of(scope, name, definition, text, key), spec
        if stands is not None:
            slot, of = valid_or_next(slot, (spec, live), text, key)
        slot.spec, slot.live = of, live
        call = Call(slot, wrapped, args, kwargs, is_async, spec.retry, spec.timeout, False, read_only)  # noqa: FBT003
        if key is not None and slot.seq and run.codec.canonical(text) != run.codec.canonical(slot.arguments):
            log.warning(
                "%s was recorded with %s and is called with %s: the record stands", slot.key, slot.arguments, text
            )
            renew(call)  # if it is entered again, what compensates it must get what it got
        if transaction is not None and live is not None:
            from sagadsl._core.landed import in_transaction  # half a millisecond of every import

            in_transaction(call, transaction, live[transaction])
        made = (run.adrive if is_async else run.drive)(perform(call))
        if is_async:
            made.__qualname__ = name  # as Python calls it that warns of a forgotten `await`
        return made

    return call


def valid_or_next(slot: Slot, bound: tuple[StepSpec, Any], text: str, key: str | None) -> tuple[Slot, StepSpec]:
    """Return the slot of a call, and its spec: *slot*, or another one if *stands* says that its result no longer does.

    Raises:
        Stop: *stands* raised, so that nobody knows: nothing is entered.
    """
    scope: Scope = slot.scope
    run, stands = slot.run, bound[0].stands
    assert stands is not None  # noqa: S101  # for the type checker

    def asked(result: str | None) -> bool:
        try:
            return bool(called_at(None, stands, run.codec.note(result), **run.codec.decode(text)))
        except Exception as error:
            raise halt(scope, error) from error

    return scope.successor(slot, text, key, bound, asked)


_has_noticed = False


def notice_thread(spec: StepSpec) -> None:
    """Warn, once a process, of a step in a thread without a run: it may have been meant to be part of one elsewhere."""
    global _has_noticed  # noqa: PLW0603
    if _has_noticed or threading.get_ident() in threads_with_runs:
        return
    _has_noticed = True
    if PARENTS in threads_with_runs:
        log.warning(
            "%s is called in a process that was forked in a saga, whose run goes on in the parent process. Here it is "
            "the plain function: nothing of it is recorded or compensated. What a child process does takes a saga of "
            "its own, and a program that becomes a daemon does so before it calls one. Said once.",
            spec.name,
        )
    else:
        log.warning(
            "%s is called in a thread that has no run, while the program has one open in another thread. Here it is "
            "the plain function: nothing of it is recorded or compensated. A saga's steps run in threads by "
            "sagadsl.parallel(...) or %s.map(...), or in its context: contextvars.copy_context().run. Said once.",
            spec.name,
            spec.name,
        )


def is_async_body(scope: Scope) -> bool:
    """Tell whether a scope's body can await."""
    return scope.spec is None or scope.spec.is_async


def misplaced(spec: Any, here: Any) -> UsageError:
    """Return what to say of a step or saga that is called where it cannot be."""
    if type(here) is Scope:
        where, cure = f"the saga around it ({here.name}) a def", "make the saga an async def"
        if here.is_block:
            where, cure = f"the block around it ({here.name}) one", "enter it with `async with`"
        return UsageError(f"{spec.name} is an async def, {where} that cannot await it; {cure}")
    where = "the compensation of step" if here.is_compensation else "the probe of step" if here.is_probe else "step"
    return UsageError(
        f"{spec.name} is called inside {where} {here.slot.key}: a step is a leaf. Call it from the saga, or call "
        f"the undecorated function, {spec.name}.plain(...)"
    )
