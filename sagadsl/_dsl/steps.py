"""``@step``: a function that, called inside a saga, is done once and recorded. Outside it is the plain function."""

from __future__ import annotations

import functools
import inspect
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable
from datetime import timedelta
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload, runtime_checkable

import attrs
import wrapt

from sagadsl._core.codec import Unstorable, template_of
from sagadsl._core.codec.classes import module_name
from sagadsl._core.definition import Compensation, Standing, StepSpec, as_seconds, checked_key, key_of, literal
from sagadsl._core.effects import Call
from sagadsl._core.flow import perform, renew
from sagadsl._core.landed import in_transaction
from sagadsl._core.parameters import Parameters, Receiver, function_name, plain_function
from sagadsl._core.registry import registry
from sagadsl._core.retry import Retry, as_retry
from sagadsl._core.runtime import CODEC, unstorable_argument
from sagadsl._core.scope import CURRENT, Scope, Slot
from sagadsl._core.threads import threads_with_runs
from sagadsl._dsl.branches import aparallel, parallel
from sagadsl._dsl.options import checked_function, checked_options, default_name, default_title, refuse_duplicate
from sagadsl.errors import UsageError

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")

log = logging.getLogger("sagadsl")
Compensate = Callable[..., Any] | Compensation | Standing | None


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


class BoundStep(wrapt.BoundFunctionWrapper):  # type: ignore[type-arg]  # `Step` has the types
    """A step that is a method, bound to its instance."""

    @property
    def plain(self) -> Any:
        """The undecorated method."""
        return self.__wrapped__

    def map(self, items: Iterable[Any], *, limit: int | None = None) -> Any:
        """Do the step for each item, at the same time."""
        return mapped(self, items, limit, is_async=self._self_parent._self_spec.is_async)  # noqa: SLF001  # as wrapt

    def using(self, **options: Any) -> Any:
        """Return the same step with other options."""
        return self._self_parent.using(**options).__get__(self._self_instance, self._self_owner)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return getattr, (owner_of(self), self.__wrapped__.__name__)


class StepFunction(wrapt.FunctionWrapper):  # type: ignore[type-arg]  # `Step` has the types
    """What `step` makes of a function. wrapt keeps name, signature, binding; it pickles by name, copies as itself."""

    __bound_function_wrapper__ = BoundStep

    def __init__(self, target: Any, spec: StepSpec, calling: Callable[[StepSpec], Any] | None = None) -> None:
        super().__init__(target, (calling or caller)(spec))
        self._self_spec, self._self_calling = spec, calling

    @property
    def plain(self) -> Any:
        """The undecorated function."""
        return self.__wrapped__

    def map(self, items: Iterable[Any], *, limit: int | None = None) -> Any:
        """Do the step for each item, at the same time."""
        return mapped(self, items, limit, is_async=self._self_spec.is_async)

    def using(self, **options: Any) -> StepFunction:
        """Return the same step with other options."""
        checked_options(f"{self._self_spec.name}.using()", options, USING)
        if isinstance(options.get("key"), str):
            options["key"] = literal(options["key"])
        return StepFunction(self.__wrapped__, respecified(self._self_spec, options), self._self_calling)

    def __reduce_ex__(self, protocol: Any) -> str:
        return str(self.__wrapped__.__qualname__)

    def __copy__(self) -> StepFunction:
        return self

    def __deepcopy__(self, memo: Any) -> StepFunction:
        return self


def mapped(function: Any, items: Iterable[Any], limit: int | None, *, is_async: bool) -> Any:
    """Call a step for each of *items* in a branch of its own."""
    if not isinstance(items, Iterable):
        msg = f"{function.__qualname__}.map() takes a list of what it is called with, one by one, not {items!r:.80}"
        raise UsageError(msg)
    calls = [functools.partial(function, item) for item in items]
    return (aparallel if is_async else parallel)(*calls, limit=limit)


def owner_of(method: Any) -> Any:
    """Return what a bound step or saga is an attribute of: an instance, or a class."""
    return method._self_owner if method._self_instance is None else method._self_instance  # noqa: SLF001  # wrapt's names


OPTIONS = frozenset(
    {
        *("compensate", "retries", "timeout", "probe", "on_uncertain", "key", "name", "title", "read_only", "live"),
        *("transaction", "stands"),
    }
)
USING = frozenset({"key", "compensate", "retries", "timeout"})


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
    live: tuple[str, ...] = ...,
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
            nor rolls back. A compensation that takes the parameter is treated likewise.
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
        stands=checked_stands(options.get("stands"), name),
    )
    spec.probe = probe_of(spec, options.get("probe"))
    check_transaction(spec)
    spec = respecified(spec, {n: options[n] for n in USING & options.keys()})
    for annotation in parameters.annotations.values():
        CODEC.know(annotation)
    return spec


def checked_stands(stands: Any, name: str) -> Any:
    """Return what is asked whether a recorded result stands.

    Raises:
        UsageError: It is no function, or would have to be awaited.
    """
    if stands is not None and not callable(stands):
        msg = f"{name}: stands= takes a function, not {stands!r}"
        raise UsageError(msg)
    if inspect.iscoroutinefunction(stands):
        msg = f"{name}: stands= is an async def, and is asked where nobody can await it: make it a def"
        raise UsageError(msg)
    return stands


def check_transaction(spec: StepSpec) -> None:
    """Refuse a ``transaction=`` that can never work.

    Raises:
        UsageError: It names no live parameter, or the step only looks.
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
    function = undecorated(probe)
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
        UsageError: It is no function, it would have to be awaited where nobody can, or it cannot be bound.
    """
    if not callable(function):
        msg = f"{spec.name}: {role}= takes a function, not {function!r}"
        raise UsageError(msg)
    if inspect.iscoroutinefunction(function) and not spec.is_async:
        name = function_name(function)
        msg = f"{spec.name} is a def, its {role} {name} an async def: nobody could await it; make both one colour"
        raise UsageError(msg)
    refuse_other_kind_of_method(spec, function, role)
    return Receiver.of(function, spec.parameters, f"the {role} of {spec.name}")


def undecorated(given: Any) -> Any:
    """Return the function that is called to compensate, or as a probe: of a step, or a static or class method, too."""
    function = given.plain if isinstance(given, StepFunction | BoundStep) else given
    return plain_function(function) if isinstance(function, staticmethod | classmethod) else function


def compensation_of(spec: StepSpec, given: Any) -> dict[str, Any]:
    """Return what ``compensate=`` means for a step: its compensation, bound, or why there is none.

    Raises:
        UsageError: It cannot be called for this step.
    """
    if given is None or isinstance(given, Standing):
        return {"compensation": None, "compensation_module": "", "receiver": None, "standing": given, "decided": True}
    if spec.read_only:
        msg = f"{spec.name} is read_only: a step that only looks has nothing to compensate"
        raise UsageError(msg)
    if not callable(given) and not isinstance(given, Compensation | classmethod):
        msg = f"{spec.name}: compensate= takes a function, a Compensation, None, IRREVERSIBLE or PIVOT, not {given!r}"
        raise UsageError(msg)
    compensation = given if isinstance(given, Compensation) else Compensation(undecorated(given))
    function = undecorated(compensation.function)
    receiver = receiver_of(spec, function, "compensation")
    compensation = attrs.evolve(compensation, function=function)
    module = module_name(getattr(function, "__module__", None) or "")
    changes = {"compensation": compensation, "compensation_module": module, "receiver": receiver}
    return changes | {"standing": None, "decided": True}


def refuse_other_kind_of_method(spec: StepSpec, function: Any, role: str) -> None:
    """Refuse a compensation or probe that wants the ``self`` (or ``cls``) of a class whose step has none to give.

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
            raise unstorable_argument(name, why) from None
        slot = slot_of(scope, name, definition, text, key)
        if stands is not None:
            slot = standing(slot, (spec, live), text, key)
        slot.spec, slot.live = spec, live
        call = Call(slot, wrapped, args, kwargs, is_async, spec.retry, spec.timeout, False, read_only)  # noqa: FBT003
        if key is not None and slot.seq and run.codec.canonical(text) != run.codec.canonical(slot.arguments):
            log.warning(
                "%s was recorded with %s and is called with %s: the record stands", slot.key, slot.arguments, text
            )
            renew(call)  # if it is entered again, what compensates it must get what it got
        if transaction is not None and live is not None:
            in_transaction(call, transaction, live[transaction])
        made = run.drivers[is_async](perform(call))
        if is_async:
            made.__qualname__ = name  # as Python calls it that warns of a forgotten `await`
        return made

    return call


def standing(slot: Slot, bound: tuple[StepSpec, Any], text: str, key: str | None) -> Slot:
    """Return the call that one with these arguments is: another one where what is recorded of it no longer stands.

    Raises:
        Stop: *stands* raised, so that nobody knows: nothing is entered.
    """
    run, stands = slot.run, bound[0].stands
    assert stands is not None  # noqa: S101  # for the type checker

    def asked(result: str | None) -> bool:
        try:
            return bool(stands(run.codec.note(result), **run.codec.decode(text)))
        except Exception as error:
            if not slot.scope.is_forward:
                return False  # all that is on record gets bound to what compensates it
            raise run.halt(error) from error

    return slot.scope.standing(slot, text, key, bound, asked)


_has_noticed = False


def notice_thread(spec: StepSpec) -> None:
    """Warn, once a process, of a step in a thread without a run: it may have been meant to be part of one elsewhere."""
    global _has_noticed  # noqa: PLW0603
    if not _has_noticed and threading.get_ident() not in threads_with_runs:
        _has_noticed = True
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
