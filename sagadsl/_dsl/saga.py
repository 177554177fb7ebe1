"""The word `saga`: around a function it decorates (``sagas``), of a name it makes a block (``blocks``)."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from sagadsl._core.runtime import Runtime
from sagadsl._dsl import sagas
from sagadsl._dsl.options import checked_options
from sagadsl._dsl.sagas import Saga

if TYPE_CHECKING:
    from sagadsl._dsl.blocks import Block

P = ParamSpec("P")
R = TypeVar("R")


@overload
def saga(function: Callable[P, R], /) -> Saga[P, R]: ...
@overload
def saga(
    *,
    name: str | None = ...,
    title: str | None = ...,
    key: str | Callable[..., Any] | None = ...,
    live: list[str] | tuple[str, ...] = ...,
    on_failure: str | None = ...,
    on_compensation_failure: str = ...,
    compensate_order: str = ...,
    resume: str | None = ...,
    store: Any = ...,
    durability: str | None = ...,
    version: str | None = ...,
    notify: Callable[[Any], object] | None = ...,
    runtime: Runtime | None = ...,
) -> Callable[[Callable[P, R]], Saga[P, R]]: ...
@overload
def saga(
    name: str,
    /,
    *,
    id: str | None = ...,
    key: str | None = ...,
    store: Any = ...,
    resume: str | None = ...,
    durability: str | None = ...,
    on_failure: str | None = ...,
    on_compensation_failure: str = ...,
    compensate_order: str = ...,
    steal: bool = ...,
    rerun: bool = ...,
    title: str | None = ...,
    version: str | None = ...,
    runtime: Runtime | None = ...,
) -> Block: ...
def saga(function: Any = None, /, **options: Any) -> Any:  # noqa: D417  # the overloads name them
    """Make a function a saga: what its steps did is compensated in reverse when it fails, and a cut-off run goes on.

    A call returns the body's value, or raises the original exception after compensation.

    With a name instead of a function it gives a run to be used as a block, ``with saga("name") as run:``, or by hand,
    ``run.step(function)(...)`` and ``run.complete()``. It takes what ``using()`` does, and *title*, *version*,
    *on_compensation_failure* and *compensate_order*.

    Args:
        function: A function, coroutine function or method; or the name of a block.
        name: The stable name, by default the qualified name.
        title: What people read, by default the docstring's first line.
        key: A template of ``{argument}`` fields, or a function of arguments: name and key are the run's id, so that
            one key is done once.
        live: Names of parameters that are passed as they are and never stored.
        on_failure: ``"compensate"``, or ``"pause"``: keep everything, a person decides.
        on_compensation_failure: ``"stop"`` where a compensation fails, or ``"continue"`` with the others first.
        compensate_order: ``"reverse"``, one step at a time; or ``"parallel"``: what overlapped (branches, `Plan` nodes,
            gathered steps) at the same time, in threads or, in an ``async def``, in tasks; what began after a step had
            ended is compensated before it in either case.
        resume: When a call without id and key goes on with an interrupted run: ``"arguments"``, ``"key"``, ``"never"``.
        store: A path, ``":memory:"`` or a journal.
        durability: ``"process"``, ``"power"`` or ``"power-strict"``.
        version: Kept in the journal with each run.
        notify: Called with the outcome (`Completed` or `Compensated`, as ``outcome()`` returns it) once the run is
            completed or compensated, before the call returns; it may be async if the saga is. It is called at least
            once: where a kill prevents that, the next call of the saga with the same arguments does it, or
            `resume_all`. What it raises is logged and changes nothing about the run. Its call stays owed until one
            returns, and until then the run is not pruned; one that ends its process is called again at each start. A
            saga inside another one has not ended with its own body, so it is not called there.
        runtime: A `Runtime` of your own, instead of the process's.

    Raises:
        UsageError: An option is unknown or cannot work, on the decorator's line.
    """
    if isinstance(function, str):
        from sagadsl._dsl import blocks

        frame = sys._getframe(1)  # noqa: SLF001  # a block's program is that of the line it stands on
        return blocks.begin(function, options, frame.f_globals.get("__name__", "__main__"), frame.f_code.co_filename)
    checked_options("@saga", options, sagas.OPTIONS)
    if function is None:
        return functools.partial(sagas.decorate, options=options)
    return sagas.decorate(function, options)
