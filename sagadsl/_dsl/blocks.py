"""``saga("name")``: a saga without a function, used as a ``with`` block or by hand.

A block's body stands where it is used. Entering it opens a run (or a child, inside another) and makes it the current
position; leaving it settles it, by the rules and the code of a decorated saga. Python cannot skip the body, so over a
record it runs again: what is recorded comes back, and nothing else is entered once the run has ended.

By hand there is no body, so no order: a call is found on record by its name and arguments, a failed one is tried again,
and the end is somebody's word, `Block.complete` or `Block.compensate`. The handle knows its run itself: context
variables are lost between the cells of a notebook.
"""

from __future__ import annotations

import functools
import inspect
import logging
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, Unpack

import attrs

from sagadsl._core import threads
from sagadsl._core.codec import user_frames
from sagadsl._core.codec.classes import module_name
from sagadsl._core.definition import SagaSpec, StepSpec, checked_name
from sagadsl._core.describe import describe
from sagadsl._core.effects import Call
from sagadsl._core.flow import Ended, descend
from sagadsl._core.history import altered, recorded_files
from sagadsl._core.later import Later
from sagadsl._core.parameters import Parameters
from sagadsl._core.runtime.deciding import Asking, Request, need_functions, request_compensation
from sagadsl._core.scope import CURRENT, Scope, Slot
from sagadsl._core.session import SESSION, program_at
from sagadsl._core.settings import Options
from sagadsl._core.values import Status, StepStatus
from sagadsl._dsl import running, sagas, steps, unended
from sagadsl._dsl.kernel import HeedingStop
from sagadsl._dsl.options import checked_options, identified
from sagadsl._dsl.outcomes import as_call
from sagadsl._dsl.running import Calling
from sagadsl._dsl.undecorated import StepOptions, as_compensation, as_step
from sagadsl.errors import Fault, ReplayError, Stop, UsageError

if TYPE_CHECKING:
    from sagadsl._core.runtime import stored
    from sagadsl._core.values import seen
else:
    stored, seen = Later("sagadsl._core.runtime.stored"), Later("sagadsl._core.values.seen")

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("sagadsl")

OPTIONS = sagas.USING | {"on_compensation_failure", "compensate_order", "title", "version"}


class Block:
    """A run to be used as a block (``with``, ``async with``) or by hand: what ``saga("name")`` gives.

    Inside a saga or another block it is a child of that run, and then always a block: by hand it could outlive what it
    is a part of, which is a `UsageError`.
    """

    def __init__(self, spec: SagaSpec, options: Options) -> None:
        self._spec, self._options = spec, options
        self._runtime = running.runtime_of(spec, options)
        self._calling = Calling(spec, options, self._runtime, _no_body, as_call)
        self._scope: Scope | None = None  # while this handle has its run open, or stands in its record
        self._last: Scope | None = None  # the same, and afterwards too
        self._around: Scope | None = None
        self._is_block = self._is_by_hand = self._is_record = False
        self._over = ""
        self._busy: set[Slot] = set()  # the calls under way by hand
        self._guard = threading.RLock()
        self._release: Callable[[], Any] = _no_body
        self._heeding = ExitStack()

    def __repr__(self) -> str:
        if self._last is None:
            return f"<saga {self._spec.name!r} {self._over or 'not begun'}>"
        return f"<saga {self._spec.name!r} {self._last.run.id} {self._over or f'is {self._last.status}'}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002  # IPython's
        if self._last is None or (self._last.parent is None and self._last.run.is_new):
            return {"text/plain": repr(self)}  # to look at it is not to begin it
        return self.info._repr_mimebundle_()

    if not TYPE_CHECKING:  # which refuse the call themselves

        def __call__(self, *_: object, **__: object) -> None:
            """Refuse: whoever decorates a function with ``@saga("name")`` means ``@saga(name="name")``.

            Raises:
                UsageError: Always.
            """
            name = self._spec.name
            msg = f"saga({name!r}) is a run, for a block or by hand; to decorate a function: @saga(name={name!r})"
            raise UsageError(msg)

    @property
    def _another(self) -> str:
        return f"saga({self._spec.name!r}, ...)"

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
        caller = functools.partial(self._caller, again=options.get("again", False))
        made: Callable[P, R] = as_step(self._spec.name, function, dict(options), caller)
        return made

    def add_compensation(self, function: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Have ``function(*args, **kwargs)`` called, in its place of the reverse order, when this run compensates.

        It is on record when this returns. The arguments are stored, but for those annotated `Live` and a method's own
        object.

        Raises:
            UsageError: It is no function with a name, or an ``async def`` where nobody could await it.
            NotStorableError: An argument cannot be stored.
        """
        spec, bound = as_compensation(self._spec, function, args, kwargs)
        if self._is_block and spec.compensates_async and not self._spec.is_async:
            msg = f"{spec.title} is an async def, and nobody could await it: enter {self._spec.name} with `async with`"
            raise UsageError(msg)
        self._caller(spec)(spec.function, None, (), bound)

    def _caller(self, spec: StepSpec, *, again: bool = False) -> Callable[..., Any]:
        """Return what happens when a step of this run is called."""
        journaled = steps.caller(spec, self._here)

        def call(*called: Any) -> Any:
            __tracebackhide__ = True
            if self._is_block:
                return journaled(*called)
            return self._acall(spec, called, again) if spec.is_async else self._call(spec, called, again)

        return call

    def _call(self, spec: StepSpec, called: Any, again: bool) -> Any:  # noqa: FBT001  # as told
        """Do a step by hand."""
        __tracebackhide__ = True
        mine: list[Slot] = []
        try:
            return steps.caller(spec, self._here, functools.partial(self._slot, mine, again))(*called)
        except BaseException as error:  # noqa: BLE001  # raised again, a stop as its reason
            out = self._came_out(error)
        finally:
            self._busy.difference_update(mine)
        raise out

    async def _acall(self, spec: StepSpec, called: Any, again: bool) -> Any:  # noqa: FBT001  # as told
        """Do a step by hand."""
        __tracebackhide__ = True
        mine: list[Slot] = []
        try:
            with HeedingStop():
                return await steps.caller(spec, self._here, functools.partial(self._slot, mine, again))(*called)
        except BaseException as error:  # noqa: BLE001  # as above
            out = self._came_out(error)
        finally:
            self._busy.difference_update(mine)
        raise out

    def _came_out(self, error: BaseException) -> BaseException:
        """Return what a step by hand raises. After a stop the next use opens the run again: the file knows best."""
        scope = self._scope
        if isinstance(error, Stop):
            self._let_go()
            return error.reason
        if scope is not None and not isinstance(error, Exception):
            running.interrupted(scope, error)
            if scope.run.stop is not None:
                self._let_go()
        return error.with_traceback(user_frames(error))

    def _here(self) -> Scope | Call | None:
        """Return where a step of this run is called.

        Raises:
            UsageError: The run has ended, or this is another run's body.
        """
        here = CURRENT.get()
        if isinstance(here, Call):
            return here  # where no step can be called at all
        if self._over:
            msg = f"{self._spec.name} {self._over}: a further step takes a further run, {self._another}"
            raise UsageError(msg)
        if here is not None and here.home is not self._scope:
            msg = (
                f"a step of {self._spec.name} is called inside {here.name}, which would not compensate it; "
                "begin a block there: with saga(...)"
            )
            raise UsageError(msg)
        if self._is_block:
            return here or self._scope
        self._is_by_hand = True
        scope = self._opened_forward()
        if scope.status is Status.COMPENSATING:
            raise self._compensates(scope)
        scope.free()
        return scope

    def _compensates(self, scope: Scope) -> UsageError:
        return UsageError(f"run {scope.run.id} is compensating: compensate() of {self._spec.name} goes on with that")

    def _slot(
        self,
        mine: list[Slot],
        again: bool,  # noqa: FBT001  # as told
        scope: Scope,
        name: str,
        *call: *tuple[str, str, str | None],
    ) -> Slot:
        """Return the slot of a call by hand: a failed one to be entered again, a done one to come back as it is."""
        with self._guard:
            slot = scope.call(name, *call, again)
            if slot in self._busy:
                msg = f"{slot.key} is under way with these arguments; step(..., again=True) makes it a further call"
                raise UsageError(msg)
            self._busy.add(slot)
            mine.append(slot)
        if slot.child is not None:
            reason = f"{name} was a saga"
            raise ReplayError(scope.run.id, "", (slot.local_key,), (name,), reason)
        if self._is_record and slot.status is StepStatus.CANCELLED:
            raise scope.beyond(slot)
        if slot.done:
            log.warning(
                "%s is recorded with these arguments: what it gave comes back; step(..., again=True) does it once more",
                slot.key,
                extra={"run": scope.run.id},
            )
        elif slot.seq and not self._is_record:
            slot.again = slot.fault is not None
            log.warning("%s is tried again", slot.key, extra={"run": scope.run.id})
        return slot

    # -- as a block -------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        __tracebackhide__ = True
        scope = self._begin(is_async=False)
        if scope.slot is not None:
            scope.run.drivers[0](descend(scope.slot))
            if scope.has_failed:  # on record: raised again, and the body need not run
                self._come_out(scope, running.leave(scope, self._calling, None, None), None)
        self._stand_in(scope)
        return self

    def __exit__(self, cls: object, error: BaseException | None, traceback: object) -> bool:
        __tracebackhide__ = True
        scope = self._end()
        try:
            ended = running.leave(scope, self._calling, None, error)
        finally:
            self._let_go()
        return self._come_out(scope, ended, error)

    async def __aenter__(self) -> Self:
        __tracebackhide__ = True
        scope = self._begin(is_async=True)
        if scope.slot is not None:
            await scope.run.drivers[1](descend(scope.slot))
            if scope.has_failed:  # as above
                self._come_out(scope, await running.aleave(scope, self._calling, None, None), None)
        self._stand_in(scope)
        return self

    async def __aexit__(self, cls: object, error: BaseException | None, traceback: object) -> bool:
        __tracebackhide__ = True
        scope = self._end()
        try:
            ended = await running.aleave(scope, self._calling, None, error)
        finally:
            self._let_go()
        return self._come_out(scope, ended, error)

    def _begin(self, *, is_async: bool) -> Scope:
        """Open the run of a block, or a child of the one around it.

        Raises:
            UsageError: It was entered before, or used by hand, or this is no place for it.
        """
        name, here = self._spec.name, CURRENT.get()
        if self._is_block or self._is_by_hand:
            used = "was entered before" if self._is_block else "is used by hand"
            msg = f"{name} {used}: each block takes a run of its own, {self._another}"
            raise UsageError(msg)
        if isinstance(here, Call):
            msg = f"the block {name} is entered inside step {here.slot.key}: a step is a leaf. Enter it in the saga"
            raise UsageError(msg)
        if here is not None and is_async and not steps.is_async_body(here):
            msg = f"{name} is entered with `async with` inside {here.name}, which cannot await: use `with`"
            raise UsageError(msg)
        self._spec.is_async = is_async
        scope = self._opened_forward() if here is None else self._child(here)
        if here is None and not self._is_record:
            threads.begin(scope.run)
        self._is_block, self._around, self._scope, self._last = True, here, scope, scope
        return scope

    def _stand_in(self, scope: Scope) -> None:
        """Make the scope of the block the current position."""
        CURRENT.set(scope)
        self._heeding.enter_context(HeedingStop())

    def _child(self, here: Scope) -> Scope:
        """Return the scope of a block inside another body."""
        if self._scope is not None:
            msg = f"{self._spec.name} was begun outside of {here.name}: inside it a block takes a run of its own"
            raise UsageError(msg)
        slot = running.child_of(here, self._spec, {}, None, self._options)
        assert slot.child is not None  # noqa: S101  # `child_of` made it
        return slot.child

    def _end(self) -> Scope:
        """Leave the current position; nothing more is done in the block."""
        CURRENT.set(self._around)
        self._heeding.close()
        self._over = "was left"
        assert self._scope is not None  # noqa: S101  # it was entered
        return self._scope

    def _come_out(self, scope: Scope, ended: Ended | BaseException, error: BaseException | None) -> bool:
        """Let come out of a block what comes out of a saga; tell whether *error*, its body's, is done with."""
        __tracebackhide__ = True
        coming = ended if isinstance(ended, BaseException) else ended.error
        context = None if coming is None else coming.__context__
        try:
            as_call(self._runtime, scope.run, ended)
        except BaseException as out:
            if out is error:
                out.with_traceback(user_frames(out))
                return False
            if out is coming:
                out.__context__ = context  # it is no accident of handling what the body raised
            raise
        return error is not None

    def cancel(self) -> stored.Run:
        """Ask that the run be cancelled, with what it is a part of; return it as it then is. See `Run.cancel`.

        What was done is compensated as a block is left; by hand the next step, and `complete`, raise
        `RunCancelledError`, and `compensate` ends it.

        Raises:
            UsageError: Nothing of it is on record yet.
            RunConflictError: It is completed, has passed its pivot, or waits for a person to decide.
        """
        scope = self._last or self._opened()
        if scope.run.is_new:
            msg = f"nothing of {scope.run.id} is on record yet, so there is nothing to cancel: begin no step of it"
            raise UsageError(msg)
        return self._runtime.cancel(scope.run.id)

    # -- by hand ----------------------------------------------------------------------------------------------------

    def complete(self, value: Any = None) -> Any:
        """End a run by hand: it is completed with *value*, which is returned as it would come back after a restart.

        Raises:
            UsageError: It is a block, which leaving it completes; or it has ended, or a step of it is under way.
        """
        self._refuse_to_end("complete")
        if self._over:
            msg = f"{self._spec.name} {self._over}: there is nothing to complete"
            raise UsageError(msg)
        scope = self._opened_forward()
        if scope.status is Status.COMPENSATING:
            raise self._compensates(scope)
        scope.free()
        try:
            ended = running.leave(scope, self._calling, value, None)
        finally:
            self._let_go()
        if isinstance(ended, Ended):
            self._over = "is completed"
        return as_call(self._runtime, scope.run, ended)

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
        self._refuse_to_end("compensate")
        request = Request(**asked)
        if dry_run:
            return self._runtime.rehearse(self.id, request)
        if self._is_record:  # it is completed, and nobody has it
            self._let_go()
            self._is_record = False
        if self._scope is None and self._known_id is not None:
            opened, _ = self._runtime.reopen(self._spec, self._known_id, request, self._options)
            if opened.scope is None:
                return self._runtime.find(self._known_id)
            scope = self._have(opened.scope)
            try:
                need_functions(scope, self._runtime.provided)
            except UsageError:
                self._let_go()
                raise
        else:
            scope = self._opened()
            try:
                request_compensation(scope, request, self._runtime.provided)
            except BaseException:
                self._let_go()  # what was refused is queued there; the file does not have it
                raise
        try:
            work = self._runtime.compensate_scope(scope, scope.run.id)
            return self._acompensated(work) if inspect.isawaitable(work) else self._compensated(work)
        except BaseException:
            self._let_go()
            raise

    async def _acompensated(self, work: Awaitable[stored.Run]) -> stored.Run:
        """Await compensation to its end, whoever is cancelled meanwhile."""
        try:
            return self._compensated(await running.shielded(work))
        except BaseException:
            self._let_go()
            raise

    def _compensated(self, run: stored.Run) -> stored.Run:
        self._let_go()
        self._over = "is compensated" if run.status is Status.COMPENSATED else ""
        return run

    def _refuse_to_end(self, verb: str) -> None:
        """Refuse to end a run by hand that is a block, or to do so where it is being run.

        Raises:
            UsageError: As said.
        """
        name, here = self._spec.name, CURRENT.get()
        if self._is_block:
            cure = "leaving it completes it" if verb == "complete" else "an exception that leaves it compensates it"
            msg = f"{name} is a block, and {cure}: {verb}() is for a run by hand"
            raise UsageError(msg)
        if here is not None:
            where = f"step {here.slot.key}" if isinstance(here, Call) else here.name
            msg = f"{verb}() of {name} is called inside {where}; call it outside, when nothing of it is under way"
            raise UsageError(msg)
        if self._scope is not None and any(isinstance(call, Call) and call.is_async for call in self._scope.flying):
            msg = f"run {self._scope.run.id}: a step is under way; await it, then {verb}() the run"
            raise UsageError(msg)
        self._is_by_hand = True

    # -- its run ----------------------------------------------------------------------------------------------------

    def _opened(self) -> Scope:
        """Return the scope of the run, opened at first use."""
        with self._guard:
            return self._scope or self._open()

    def _opened_forward(self) -> Scope:
        """Return the scope of the run to go on with it: the files that its steps made are what they were.

        Raises:
            JournalError: One is not.
        """
        with self._guard:
            if self._scope is not None:
                return self._scope
            scope = self._open()
            try:
                wrong = None if self._is_record else altered(scope, recorded_files(scope))
            except BaseException:
                self._let_go()
                raise
            if wrong is not None:
                self._let_go()
                raise wrong
            return scope

    def _open(self) -> Scope:
        """Open the run that is meant, or, where this handle had one, that one again."""
        calling = self._calling
        if self._last is not None:
            calling = attrs.evolve(calling, options=self._options.changed(id=self._last.run.id, steal=False))
        elif self._spec.program.startswith(SESSION):
            self._replace_earlier()
        opened = calling.open({})
        if isinstance(opened.ended, BaseException):
            raise opened.ended
        self._is_record = opened.scope is None
        scope = opened.scope or opened.record
        assert scope is not None  # noqa: S101  # it goes on, or is completed
        return self._have(scope)

    def _have(self, scope: Scope) -> Scope:
        """Take a scope as this handle's; what an earlier one had bound of its calls is bound again."""
        if self._last is not None:
            bound = {slot.key: slot for each in self._last.tree() for slot in each.slots}
            for slot in (slot for each in scope.tree() for slot in each.slots if slot.key in bound):
                slot.spec, slot.live = bound[slot.key].spec, bound[slot.key].live
        run = scope.run
        threads.end(run)  # by hand a run belongs to no thread
        self._scope = self._last = scope
        if not self._is_record:  # a handle that nobody has any more lets its run go, open as it is
            self._release = unended.hold(self, run)
        return scope

    def _let_go(self) -> None:
        """Stop owning the run; a further use opens it again."""
        if self._scope is not None and self._around is None:
            threads.end(self._scope.run)
            unended.forget(self._scope.run)
        self._release()
        self._scope, self._release = None, _no_body

    def _replace_earlier(self) -> None:
        """Let the newer handle have the run: in a session, where a cell is run again, the older one is left over."""
        options = self._options
        place = (threading.get_ident(), self._spec.program, self._spec.name, options.id, options.key)
        earlier = _in_session.get(place)
        if earlier is not None and earlier._scope is not None:  # noqa: SLF001  # one of us
            earlier._let_go()  # noqa: SLF001
            earlier._over = "has a newer handle"  # noqa: SLF001
        _in_session[place] = self

    @property
    def _known_id(self) -> str | None:
        """The run's id, where it does not depend on what is in the store."""
        if self._last is not None:
            return self._last.run.id
        if self._options.id is None and self._options.key is not None:
            return f"{self._spec.name}/{self._options.key}"
        return self._options.id

    @property
    def info(self) -> stored.Run:
        """The run as the journal has it now; of a block inside a saga, that part of its run."""
        scope = self._last or self._opened()
        run = scope.run
        if scope.parent is None and not run.is_new:
            return self._runtime.info(run)
        parent = None if scope.parent is None else run.id
        told = describe(scope, run.codec)
        return stored.Run(id=run.id, **told, parent=parent, is_live=True, runtime=self._runtime, journal=run.journal)

    @property
    def id(self) -> str:
        """The run's id."""
        return (self._last or self._opened()).run.id

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


_in_session: weakref.WeakValueDictionary[Any, Block] = weakref.WeakValueDictionary()


def _no_body() -> None:
    """Do nothing: a block's body stands where it is used."""


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
