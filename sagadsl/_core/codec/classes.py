"""Classes by name, and instances taken apart and put together without running a line of theirs.

A stored class name is looked up among the modules the program has imported, by plain dictionary look-ups; it is never
imported, and a module's ``__getattr__`` never runs. An instance comes back as ``cls.__new__`` plus its fields: no
``__init__``, no validator, no converter, so what comes back is what was there and nothing stored is executed.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Iterator
from enum import Enum
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs


def class_name(cls: type) -> str:
    """Name *cls* as the journal does: ``module:qualname``; the main script goes by its file's name."""
    return f"{module_name(cls.__module__)}:{cls.__qualname__}"


def module_name(module: str) -> str:
    """A class of ``trip.py`` is ``trip:…`` whether the file was run as a script or imported."""
    if module != "__main__":
        return module
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    path = getattr(main, "__file__", None)
    return Path(path).stem if path else "__main__"


def find_class(name: str) -> type | None:
    """Find a class by the name the journal has for it, among imported modules only."""
    where, _, qualname = name.partition(":")
    for module in (sys.modules.get(where), _main_called(where)):
        found: Any = module
        for part in qualname.split("."):
            found = vars(found).get(part) if isinstance(found, ModuleType | type) else None
        if isinstance(found, type):
            return found
    return None


def _main_called(name: str) -> ModuleType | None:
    return sys.modules.get("__main__") if module_name("__main__") == name else None


def is_named_tuple(cls: type) -> bool:
    """Tell a NamedTuple or namedtuple class from a plain tuple."""
    return issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple)


def is_record(cls: type) -> bool:
    """Tell a class whose instances are their fields: attrs, dataclass, NamedTuple."""
    return attrs.has(cls) or dataclasses.is_dataclass(cls) or is_named_tuple(cls)


def field_names(cls: type) -> tuple[str, ...]:
    """Return the fields of a record class, in order."""
    if attrs.has(cls):
        return tuple(a.name for a in attrs.fields(cls))
    if dataclasses.is_dataclass(cls):
        return tuple(f.name for f in dataclasses.fields(cls))
    return tuple(cls._fields)  # type: ignore[attr-defined]  # a NamedTuple


def take_apart(value: Any) -> dict[str, Any]:
    """Return the fields of a record.

    Raises:
        ValueError: It carries attributes that are no fields, so that it would come back without them.
    """
    cls = type(value)
    names = field_names(cls)
    extra = [
        name
        for name in getattr(value, "__dict__", ())
        if name not in names and not isinstance(getattr(cls, name, None), cached_property)
    ]
    if extra:
        msg = f"its attribute {extra[0]!r} is no field"
        raise ValueError(msg)
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def put_together(cls: type, fields: dict[str, Any]) -> Any:
    """Make an instance of a record class from its fields."""
    if is_named_tuple(cls):
        return tuple.__new__(cls, [fields[name] for name in field_names(cls)])
    instance = cls.__new__(cls)
    for name in field_names(cls):
        if name in fields:
            object.__setattr__(instance, name, fields[name])
    return instance


def is_pydantic(cls: type) -> bool:
    """Tell a pydantic model, without importing pydantic."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(cls, pydantic.BaseModel)


PYDANTIC_STATE = ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")


def model_state(value: Any) -> dict[str, Any]:
    """Return what makes up a pydantic model: fields, which of them were set, extras, private attributes."""
    state = value.__getstate__()
    private = state.get("__pydantic_private__")
    if private:  # an undefined private attribute is absent from the state that pydantic itself pickles
        private = {k: v for k, v in private.items() if type(v).__name__ != "PydanticUndefinedType"}
    return {
        "fields": state["__dict__"],
        "set": state["__pydantic_fields_set__"],
        "extra": state["__pydantic_extra__"],
        "private": private,
    }


def model_from(cls: type, state: dict[str, Any]) -> Any:
    """Make a pydantic model from its state, without validation."""
    model = cls.__new__(cls)
    base: Any = sys.modules["pydantic"].BaseModel
    base.__setstate__(
        model, dict(zip(PYDANTIC_STATE, (state["fields"], state["set"], state["extra"], state["private"]), strict=True))
    )
    return model


def classes_in(annotation: Any) -> Iterator[type]:
    """Yield the classes an annotation mentions, and those of their fields: types that a stored name may mean."""
    seen: set[int] = set()
    pending = [annotation]
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        pending += typing.get_args(current)
        if isinstance(current, type) and not typing.get_origin(current):
            if is_record(current) or is_pydantic(current) or issubclass(current, Enum):
                yield current
            if is_record(current) or is_pydantic(current) or typing.is_typeddict(current):
                pending += field_annotations(current)


def field_annotations(cls: type) -> list[Any]:
    """Return the field annotations of a class, as far as they can be resolved now."""
    try:
        return list(typing.get_type_hints(cls).values())
    except (NameError, TypeError, AttributeError):
        return [a for a in getattr(cls, "__annotations__", {}).values() if not isinstance(a, str)]
