"""A stored run is gone on with, or compensated, where nobody calls its saga: its body is run over its record.

So methods, closures and what a body binds on its way are there for what compensates it. The arguments are those on
record, the live ones those that are provided; they are asked for before anything is done.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sagadsl._core.definition import SagaSpec
from sagadsl._core.ownership import Tenure
from sagadsl._core.parameters import plain_function
from sagadsl._core.provided import Maker
from sagadsl._core.runtime import Opened, Runtime
from sagadsl._core.runtime.deciding import Request
from sagadsl._core.settings import Options
from sagadsl._dsl.notifying import notify_without_body
from sagadsl._dsl.rules import Rules, afollow, follow
from sagadsl._dsl.running import Calling, Finish, arun_root, run_root
from sagadsl.errors import UsageError

if TYPE_CHECKING:
    from sagadsl._core.runtime.stored import Run

Opens = Callable[[], tuple[Opened, dict[str, Any]]]
"""What opens a stored run, and gives the arguments on record: not before it is awaited, where the saga is async."""
Bind = Callable[[dict[str, Any], dict[str, Any]], Callable[[], Any]]
"""What makes the body of a run that nobody calls, given its arguments on record and its live ones."""


def reopen(
    spec: SagaSpec,
    options: Options,
    runtime: Runtime,
    target: tuple[Any, Any],
    run_id: str,
    request: Request | None,
    *,
    finish: Finish,
) -> Any:
    """Run the body of a stored run (*target*: function and instance) to go on with it or, on *request*, compensate it.

    Where a live argument is not provided, what is owed is compensated without the body, by the names of its functions.

    Raises:
        UsageError: One is not provided, or a name is not found; or the saga takes an argument that is not on record.
    """
    __tracebackhide__ = True
    wrapped, instance = target
    parameters = spec.parameters
    given = {} if instance is None or is_but_a_name(instance, wrapped) else {parameters.names[0]: instance}
    names = [name for name in parameters.names if name in parameters.live and name not in given]
    try:
        sources = runtime.provided.sources(spec, names, f"run {run_id}: the saga {spec.name}")
    except UsageError as missing:
        if request is None:
            raise
        is_async = spec.is_async or runtime.is_awaited(run_id, request)
        rules = without_body(spec, runtime, run_id, request, missing, is_async=is_async)
        return (afollow if is_async else follow)(rules)

    def opens() -> tuple[Opened, dict[str, Any]]:
        return runtime.reopen(spec, run_id, request, options)

    def bind(arguments: dict[str, Any], live: dict[str, Any]) -> Callable[[], Any]:
        values = given | arguments | live
        lacking = [name for name in parameters.names if name not in values and name not in parameters.defaults]
        if lacking and request is None:
            names = ", ".join(lacking)
            msg = f"run {run_id} was recorded without {names}, which {spec.name} takes now: give it a default"
            raise UsageError(msg)
        args, kwargs = parameters.spread(values)
        return functools.partial(plain_function(wrapped), *args, **kwargs)

    calling = Calling(spec, options, runtime, wrapped, finish, Tenure())
    return (arun_reopened if spec.is_async else run_reopened)(opens, calling, sources, bind)


def without_body(
    spec: SagaSpec, runtime: Runtime, run_id: str, request: Request, missing: UsageError, *, is_async: bool
) -> Rules[Run]:
    """Compensate a run by the names of its functions, for a live argument of its body is *missing*; notify of it."""
    compensates = functools.partial(runtime.compensate_without_body, run_id, request, is_async=is_async)
    try:
        run = yield compensates, is_async
    except UsageError as error:
        raise error from missing
    return (yield from notify_without_body(spec, runtime, run))


def is_but_a_name(owner: Any, method: Any) -> bool:
    """Tell whether a class only says which class method is meant: the run may be of a class that is derived from it."""
    return isinstance(owner, type) and method.__name__ in vars(owner) and bool(type.__subclasses__(owner))


def run_reopened(opens: Opens, calling: Calling, sources: dict[str, Maker], bind: Bind) -> Any:
    """Run a saga that nobody calls, in a ``def``: *sources* are where its live arguments come from."""
    __tracebackhide__ = True
    opened, arguments = opens()
    if opened.scope is not None:
        try:
            calling.body = bind(arguments, calling.runtime.provided.take(sources))
        except BaseException:
            calling.close(opened.scope)
            raise
    return run_root(lambda: opened, calling)


async def arun_reopened(opens: Opens, calling: Calling, sources: dict[str, Maker], bind: Bind) -> Any:
    """Run a saga that nobody calls, in an ``async def``: *sources* are where its live arguments come from."""
    __tracebackhide__ = True
    opened, arguments = opens()
    if opened.scope is not None:
        try:
            calling.body = bind(arguments, await calling.runtime.provided.atake(sources))
        except BaseException:
            calling.close(opened.scope)
            raise
    return await arun_root(lambda: opened, calling)
