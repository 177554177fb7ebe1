"""A saga called by the names of its arguments, with what a command line or a JSON document can say.

Annotations decide what a text means: ``"12"`` is a text for a parameter annotated `str`, a number for one that is not.
``*items`` are a JSON list or one alone, ``**more`` a JSON object. What cannot be made of it is refused before anything
begins. Live arguments are those that are provided.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin
from uuid import UUID

from sagadsl._core.definition import SagaSpec
from sagadsl._core.parameters import annotations_of, plain_function
from sagadsl._core.provided import EMPTY
from sagadsl._core.runtime import Runtime
from sagadsl.errors import UsageError

WRITTEN = (Decimal, UUID, Path)
"""Types that are made from their text, which JSON has no word for."""

TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
"""What a `bool` is called; of Python's every other text would be true."""


def outcome_by_names(
    spec: SagaSpec, outcome: Callable[..., Any], runtime: Runtime, given: Mapping[str, Any], *, is_text: bool
) -> Any:
    """Call the *outcome* of a saga with arguments by name, as texts or as JSON values; it may have to be awaited.

    Raises:
        UsageError: One is missing, unknown, or not what its annotation says; or a live one is not provided.
    """
    parameters, annotations = spec.parameters, annotations_of(plain_function(spec.function))
    kinds = {name: parameter.kind for name, parameter in parameters.signature.parameters.items()}
    left_out = parameters.defaults | {name: EMPTY[kind]() for name, kind in kinds.items() if kind in EMPTY}
    wrong = [name for name in given if name not in parameters.stored]
    missing = [name for name in parameters.stored if name not in given and name not in left_out]
    if wrong or missing:
        taken = ", ".join(_spelled(name, annotations) for name in parameters.stored) or "none"
        what = f"has no argument {', '.join(wrong)}" if wrong else f"needs {', '.join(missing)}"
        msg = f"the saga {spec.name} {what}; its arguments are: {taken}"
        raise UsageError(msg)
    read = text_as if is_text else value_as
    values = {}
    for name, value in given.items():
        annotation = annotations.get(name, Any)
        if kinds[name] in EMPTY:
            values[name] = many_as(json_of(value) if is_text else value, annotation, parameters.signature, name)
        else:
            values[name] = read(value, annotation, name)
    live = [name for name in parameters.names if name in parameters.live]
    sources = runtime.provided.sources(spec, live, f"the saga {spec.name}")

    def call(provided: dict[str, Any]) -> Any:
        args, kwargs = parameters.spread(left_out | values | provided)
        return outcome(*args, **kwargs)

    async def acall() -> Any:
        return await call(await runtime.provided.atake(sources))

    return acall() if spec.is_async else call(runtime.provided.take(sources))


def text_as(text: str, annotation: Any, name: str) -> Any:
    """Return what a text means for a parameter: itself where that may be a text, else what it says in JSON."""
    is_text = any(each in (str, bytes) for each in (annotation, *_members(annotation)))
    return value_as(text if is_text or annotation in WRITTEN else json_of(text), annotation, name)


def json_of(text: str) -> Any:
    """Return what a text says in JSON, or itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def many_as(value: Any, annotation: Any, signature: inspect.Signature, name: str) -> Any:
    """Return what ``*items`` or ``**more`` of a signature are by a JSON value.

    Raises:
        UsageError: One of them is not what it is annotated with; or they are no object, or name another parameter.
    """
    if signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
        several = value if isinstance(value, list) else [value]
        return tuple(value_as(each, annotation, f"{name}[{at}]") for at, each in enumerate(several))
    if not isinstance(value, dict) or value.keys() & signature.parameters.keys():
        others = f", with other names than {', '.join(signature.parameters)}"
        msg = f"argument {name}: {value!r:.200} is not what **{name} takes: a JSON object{others}"
        raise UsageError(msg)
    return {each: value_as(one, annotation, f"{name}.{each}") for each, one in value.items()}


def value_as(value: Any, annotation: Any, name: str) -> Any:
    """Return a JSON value as the type that a parameter is annotated with.

    Raises:
        UsageError: It cannot be one.
    """
    if annotation in {Any, inspect.Parameter.empty}:
        return value
    try:
        if hasattr(annotation, "model_validate"):  # pydantic's
            return annotation.model_validate(value)
        made = _converter().structure(value, annotation)
    except Exception as error:
        msg = f"argument {name}: {value!r:.200} is not what {_spelled(name, {name: annotation})} takes"
        raise UsageError(msg) from error
    if isinstance(value, float) and type(made) is int and made != value:
        msg = f"argument {name}: {value!r} is no whole number"
        raise UsageError(msg)
    return made


@functools.cache
def _converter() -> Any:
    from cattrs.preconf.json import make_converter

    converter = make_converter()
    for each in WRITTEN:
        converter.register_structure_hook(each, lambda value, cls: cls(value if isinstance(value, str) else str(value)))
    converter.register_structure_hook(bool, lambda value, _: TRUTHS[str(value).lower()])
    converter.register_structure_hook(bytes, lambda value, _: value.encode("utf-8", "surrogateescape"))  # as typed
    return converter


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in {Union, UnionType} else ()


def _spelled(name: str, annotations: Mapping[str, Any]) -> str:
    annotation = annotations.get(name)
    if annotation is None:
        return name
    return f"{name}: {annotation.__name__ if isinstance(annotation, type) else annotation}"
