"""``saga("name")``: a saga without a function, used as a ``with`` block or by hand.

`Block` is what a user holds, and says what can be done with it. Behind it stands one run (``held``). As a block its
``body`` stands where it is used, is entered and left, and is settled like a decorated saga. By hand there is no body:
``calls`` finds a call on record by its name and arguments, and the ``ending`` is somebody's word.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, Unpack

from sagadsl._core.codec.classes import module_name
from sagadsl._core.definition import SagaSpec, checked_name
from sagadsl._core.describe import describe
from sagadsl._core.later import Later
from sagadsl._core.parameters import Parameters
from sagadsl._core.runtime.deciding import Asking, Request
from sagadsl._core.session import program_at
from sagadsl._core.settings import Options
from sagadsl._core.values import Status
from sagadsl._dsl import sagas
from sagadsl._dsl.blocks import ending
from sagadsl._dsl.blocks.body import Body
from sagadsl._dsl.blocks.calls import Calls
from sagadsl._dsl.blocks.held import Held, Use
from sagadsl._dsl.options import checked_options, identified
from sagadsl._dsl.undecorated import StepOptions, as_compensation, as_step
from sagadsl.errors import Fault, UsageError

if TYPE_CHECKING:
    from sagadsl._core.runtime import stored
    from sagadsl._core.values import seen
else:
    stored, seen = Later("sagadsl._core.runtime.stored"), Later("sagadsl._core.values.seen")

P = ParamSpec("P")
R = TypeVar("R")

OPTIONS = sagas.USING | {"on_compensation_failure", "compensate_order", "title", "version"}


class Block:
    """A run to be used as a block (``with``, ``async with``) or by hand: what ``saga("name")`` gives.

    Inside a saga or another block it is a child of that run, and then always a block: by hand it could outlive what it
    is a part of, which is a `UsageError`.
    """

    def __init__(self, spec: SagaSpec, options: Options) -> None:
        self._held = Held(spec, options)
        self._body, self._calls = Body(self._held), Calls(self._held)

    def __repr__(self) -> str:
        held = self._held
        if held.last is None:
            return f"<saga {held.spec.name!r} {held.over or 'not begun'}>"
        return f"<saga {held.spec.name!r} {held.last.run.id} {held.over or f'is {held.last.status}'}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002  # IPython's
        last = self._held.last
        if last is None or (last.parent is None and last.run.is_new):
            return {"text/plain": repr(self)}  # to look at it is not to begin it
        return self.info._repr_mimebundle_()

    if not TYPE_CHECKING:  # which refuse the call themselves

        def __call__(self, *_: object, **__: object) -> None:
            """Refuse: whoever decorates a function with ``@saga("name")`` means ``@saga(name="name")``.

            Raises:
                UsageError: Always.
            """
            name = self._held.spec.name
            msg = f"saga({name!r}) is a run, for a block or by hand; to decorate a function: @saga(name={name!r})"
            raise UsageError(msg)

    # -- what is done in it -----------------------------------------------------------------------------------------

    def step(self, function: Callable[P, R], /, **options: Unpack[StepOptions]) -> Callable[P, R]:
        """Return *function*, decorated or not, as a step of this run.

        By hand a step that fails leaves the run open, and called again with the same arguments it is entered again. One
        that is done is not: the record comes back, with a warning, unless *again* is true, which makes it a further
        call. In a block every call is one of its own, as in any saga.

        Args:
            function: A function, coroutine function or method.
            options: Those of `sagadsl.step`, and *again*. A decorated function takes *compensate*, *retries*,
                *timeout*, *key* and *name*.

        Raises:
            UsageError: An option is unknown or cannot work, or the function is a lambda, a generator or a saga.
        """
        caller = functools.partial(self._calls.caller, again=options.get("again", False))
        made: Callable[P, R] = as_step(self._held.spec.name, function, dict(options), caller)
        return made

    def add_compensation(self, function: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Have ``function(*args, **kwargs)`` called when this run compensates, in its place in the reverse order.

        It is on record when this returns. The arguments are stored, but for those annotated `Live` and a method's own
        object.

        Raises:
            UsageError: It is no function with a name, or an ``async def`` where nobody could await it.
            TypeError: The arguments do not fit.
            NotStorableError: An argument cannot be stored.
        """
        saga = self._held.spec
        spec, bound = as_compensation(saga, function, args, kwargs)
        if self._held.use is Use.BLOCK and spec.compensates_async and not saga.is_async:
            msg = f"{spec.title} is an async def, and nobody could await it: enter {saga.name} with `async with`"
            raise UsageError(msg)
        self._calls.caller(spec)(spec.function, None, (), bound)

    def cancel(self) -> stored.Run:
        """Ask that the run be cancelled, with what it is a part of; return it as it then is. See `Run.cancel`.

        What was done is compensated as a block is left; by hand the next step, and `complete`, raise
        `RunCancelledError`, and `compensate` ends it.

        Raises:
            UsageError: Nothing of it is on record yet.
            RunConflictError: It is completed, has passed its pivot, or waits for a person to decide.
        """
        run = self._held.found().run
        if run.is_new:
            msg = f"nothing of {run.id} is on record yet, so there is nothing to cancel: begin no step of it"
            raise UsageError(msg)
        return self._held.runtime.cancel(run.id)

    # -- as a block -------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        __tracebackhide__ = True
        self._body.enter()
        return self

    def __exit__(self, cls: object, error: BaseException | None, traceback: object) -> bool:
        __tracebackhide__ = True
        return self._body.leave(error)

    async def __aenter__(self) -> Self:
        __tracebackhide__ = True
        await self._body.aenter()
        return self

    async def __aexit__(self, cls: object, error: BaseException | None, traceback: object) -> bool:
        __tracebackhide__ = True
        return await self._body.aleave(error)

    # -- by hand ----------------------------------------------------------------------------------------------------

    def complete(self, value: Any = None) -> Any:
        """End a run by hand: it is completed with *value*, which is returned as it would come back after a restart.

        Raises:
            UsageError: It is a block, which leaving it completes; or it has ended, or a step of it is under way.
        """
        return ending.complete(self._held, value)

    def compensate(self, *, dry_run: bool = False, **asked: Unpack[Asking]) -> Any:
        """End a run by hand: compensate what it owes, or carry on doing so; also one that is completed.

        Return the run as it then is, or an awaitable of it where a compensation is async.

        Args:
            dry_run: Do nothing; return a `DryRun`, which says what would be done.
            asked: What `Run.compensate` takes. After ``to=STEP`` the run is paused, and a further step goes on with it.

        Raises:
            UsageError: It is a block, which an exception compensates; or what compensates a step is not to be found.
            CompensationError: A compensation failed; calling this again carries on there.
        """
        ending.refuse_to_end(self._held, "compensate")
        request = Request(**asked)
        if dry_run:
            return self._held.runtime.rehearse(ending.on_record(self._held, self.id), request)
        return ending.compensate(self._held, request)

    # -- its run, as the journal has it now -------------------------------------------------------------------------

    @property
    def info(self) -> stored.Run:
        """The run as the journal has it now; of a block inside a saga, that part of its run."""
        scope, runtime = self._held.found(), self._held.runtime
        run = scope.run
        if scope.parent is None and not run.is_new:
            return runtime.info(run)
        parent = None if scope.parent is None else run.id
        told = describe(scope, run.codec)
        return stored.Run(id=run.id, **told, parent=parent, is_live=True, runtime=runtime, journal=run.journal)

    @property
    def id(self) -> str:
        """The run's id."""
        return self._held.found().run.id

    @property
    def status(self) -> Status:
        """Where the run stands."""
        return self.info.status

    @property
    def steps(self) -> tuple[seen.StepInfo, ...]:
        """Its calls, in order."""
        return self.info.steps

    @property
    def stack(self) -> tuple[seen.StepInfo, ...]:
        """What would be compensated now, the first to be compensated first."""
        return self.info.stack

    @property
    def error(self) -> Fault | None:
        """What it failed with."""
        return self.info.error

    @property
    def result(self) -> Any:
        """What it was completed with."""
        return self.info.result


def begin(name: str, options: dict[str, Any], module: str, path: str) -> Block:
    """Return a block for a program's source file at *path*.

    Raises:
        UsageError: An option is unknown, or the name cannot be one.
    """
    checked_options("saga(name)", options, OPTIONS)
    checked_name(name, "saga(name)", "/#:")
    spec = SagaSpec(
        function=None,
        name=name,
        title=options.get("title") or name,
        module=module_name(module),
        program=program_at(path, module),
        is_async=True,
        parameters=Parameters.named(()),
        on_compensation_failure=options.get("on_compensation_failure", "stop"),
        compensate_order=options.get("compensate_order", "reverse"),
        version=options.get("version"),
    )
    return Block(spec, identified(name, Options(**{n: options[n] for n in sagas.USING & options.keys()})))
