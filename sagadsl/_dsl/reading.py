"""What the names in a saga's code stand for in this program, for its graph: ``report.body`` reads the code."""

from __future__ import annotations

import asyncio
import builtins
import inspect
import sys
import types
from collections.abc import Callable
from typing import Any

import wrapt

from sagadsl._core.definition import StepSpec
from sagadsl._core.parameters import plain_function
from sagadsl._dsl.branches import aparallel, parallel
from sagadsl._dsl.decorated import spec_inside
from sagadsl.report.body import Known, of_code
from sagadsl.report.graph import Graph, call_of

BRANCHING = (parallel, aparallel, asyncio.gather)


def saga_graph(saga: Any) -> Graph:
    """Return the graph of a saga, from its code."""
    owner = saga._self_owner if isinstance(saga, wrapt.BoundFunctionWrapper) else None  # noqa: SLF001  # wrapt's name
    return of_code(saga_known(saga, spec_inside(saga), owner))


def saga_known(saga: Any, spec: Any, owner: type | None) -> Known:
    """Return what is known of a saga, a method of *owner*."""
    return Known(name=spec.name, is_saga=True, **code_of(plain_function(inspect.unwrap(saga.plain)), owner))


def code_of(function: Any, owner: type | None = None) -> dict[str, Any]:
    """Return the text of a function, a method of *owner*, `None` where there is none, and what the names in it mean."""
    try:
        code = inspect.getsource(function)
    except (OSError, TypeError):
        code = None
    return {"function": function, "code": code, "look": looking(function, owner)}


def looking(function: Any, owner: type | None) -> Callable[[str], Known | None]:
    """Return what tells what a dotted name in a function stands for."""
    names = dict(vars(builtins)) | function.__globals__
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:
            continue  # it has no value yet
    around = function.__qualname__.split(".")[:-1]
    found = names.get(around[0]) if around else None
    for name in around[1:]:
        found = vars(found).get(name) if isinstance(found, type) else None
    if owner is None and isinstance(found, type):
        owner = found
    first = function.__code__.co_varnames[: function.__code__.co_argcount][:1]

    def look(dotted: str) -> Known | None:
        head, *rest = dotted.split(".")
        mine = owner if (head,) == first else None
        found: Any = mine
        if mine is None and head not in function.__code__.co_varnames:
            found = names.get(head)
        for name in rest:
            found = inspect.getattr_static(found, name, None)
        return meaning(found, mine)

    return look


def meaning(found: Any, owner: type | None) -> Known | None:
    """Return what a value stands for, found in *owner*; a function is read where it is one of the user's own."""
    found = found.__func__ if isinstance(found, staticmethod | classmethod | types.MethodType) else found
    spec = spec_inside(found)
    if isinstance(spec, StepSpec):
        return Known(name=spec.name, block=call_of(spec))
    if spec is not None:
        return saga_known(found, spec, owner)
    if any(found is each for each in BRANCHING):
        return Known(name=found.__name__, is_branching=True)
    if hasattr(type(found), "_sagadsl_block"):  # a plan, which stands above us
        return Known(name=type(found).__name__, block=found._sagadsl_block())  # noqa: SLF001  # ours
    if isinstance(found, types.FunctionType) and is_users(found):
        return Known(name=found.__qualname__.rpartition("<locals>.")[2], **code_of(found, owner))
    return None


def is_users(function: types.FunctionType) -> bool:
    """Tell whether a function stands in the user's own code, and not in a library, where steps are not called."""
    module = function.__module__ or ""
    if module.startswith("sagadsl.examples."):
        return True
    library = module.partition(".")[0] in sys.stdlib_module_names | {"sagadsl"}
    return not library and "-packages" not in function.__code__.co_filename
