"""Classes by name, and instances taken apart and put together without running a line of theirs.

A stored class name is looked up among the modules the program has imported, by plain dictionary look-ups; it is never
imported, and a module's ``__getattr__`` never runs. An instance comes back as ``object.__new__`` plus its fields: no
``__new__`` or ``__init__`` of its class, no validator, no converter, so what comes back is what was there and nothing
stored is executed.

Between the two a program may have changed its class. A field that has come with a default gets that; one without leaves
half an instance, so nothing is made, unless ``__init__`` would leave it out as well. A field that has gone is left out,
unless another one has come: that may be its new name, and what was stored would be lost.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Iterator
from enum import Enum
from functools import cached_property
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import attrs

MISSING = dataclasses.MISSING
LACKS = "$lacks"
"""Beside the fields of an instance: those that had no value when it was stored."""
FACTORY: Any = attrs.Factory
TAKES_MORE: Any = getattr(attrs, "Converter", ())
"""The kind of converter of attrs (24.1) that takes the instance and the field, too."""


def class_name(cls: type) -> str:
    """Name *cls* as the journal does: ``module:qualname``; the main script goes by its file's name."""
    return f"{module_name(cls.__module__)}:{cls.__qualname__}"


def module_name(module: str | None) -> str:
    """Name a module: a class of ``trip.py`` is ``trip:…`` whether the file was run as a script or imported.

    A method of an object that C has made, such as ``[].append``, is of no module: that is the empty name.
    """
    if module not in {"__main__", "__mp_main__"}:  # the latter in a process that multiprocessing spawned
        return module or ""
    main = sys.modules.get(module)
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


def find_function(where: str, name: str) -> FunctionType | None:
    """Find a function at the top of an imported module, under its own name; a decorated step gives its function.

    One of the standard library is never given: whoever could write to a journal could have it do anything. A program
    that means `shutil.rmtree` says so in a function of its own.
    """
    if where.partition(".")[0] in sys.stdlib_module_names and module_name("__main__") != where:
        return None
    for module in (sys.modules.get(where), _main_called(where)):
        found: Any = vars(module).get(name) if isinstance(module, ModuleType) else None
        if isinstance(found, FunctionType) and type(found) is not FunctionType:
            found = found.__wrapped__  # a proxy that says it is one
        if type(found) is FunctionType and (module_name(found.__module__), found.__qualname__) == (where, name):
            return found
    return None


def why_not_found(where: str, name: str) -> str:
    """Say why no function of that name can be called, and what has it found."""
    if "." in name or "<" in name:
        return f"inside a function or a class only the saga's body reaches it; it must stand at the top of {where}"
    if not is_imported(where):
        return f"import {where}, which must have it at its top"
    if find_function(where, name) is None:
        return f"{where} is imported, and must have it at its top"
    return f"{where} has one that takes other arguments by now"


def is_imported(module: str) -> bool:
    """Tell whether the program has a module, by the name that the journal has for it."""
    return isinstance(sys.modules.get(module), ModuleType) or _main_called(module) is not None


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
    """Return the fields of a record, and under `LACKS` the names of those that have no value.

    Raises:
        ValueError: It is more than its fields, so that it would come back without the rest.
    """
    cls = type(value)
    names = field_names(cls)
    native = next((c for c in cls.__mro__ if not _is_python(c)), tuple)
    if native is not tuple or (issubclass(cls, tuple) and not is_named_tuple(cls)):
        msg = f"a record that is also a {native.__name__} would come back as its fields alone"
        raise ValueError(msg)
    extra = [name for name in own_attributes(value) if name not in names and not _is_cached(cls, name)]
    if extra:
        msg = f"its attribute {extra[0]!r} is no field"
        raise ValueError(msg)
    found: dict[str, Any] = {name: getattr(value, name) for name in names if hasattr(value, name)}
    if len(found) < len(names):
        found[LACKS] = [name for name in names if name not in found]
    return found


def own_attributes(value: Any) -> dict[str, Any]:
    """Return what an instance itself carries, in its ``__dict__`` and in slots."""
    found = {name: getattr(value, name) for name in slot_names(type(value)) if hasattr(value, name)}
    return found | getattr(value, "__dict__", {})


def slot_names(cls: type) -> list[str]:
    """Return the slots of a class that are no fields of attrs."""
    return [name for each in cls.__mro__ if not attrs.has(each) for name in _slots_of(each)]


def _slots_of(cls: type) -> list[str]:
    slots = vars(cls).get("__slots__", ())
    names = [slots] if isinstance(slots, str) else list(slots)
    private = f"_{cls.__name__.lstrip('_')}"
    mangled = [f"{private}{name}" if name.startswith("__") and not name.endswith("__") else name for name in names]
    return [name for name in mangled if name not in {"__dict__", "__weakref__"}]


def _is_python(cls: type) -> bool:
    """Tell a class written in Python, whose instances are no more than their attributes (flag: a heap type)."""
    return bool(cls.__flags__ & 1 << 9) or cls is object or cls is typing.Generic


def _is_cached(cls: type, name: str) -> bool:
    return isinstance(getattr(cls, name, None), cached_property) or name == "__orig_class__"  # of ``Box[int](1)``


def put_together(cls: type, fields: dict[str, Any]) -> Any:
    """Make an instance of a record class from its fields.

    Raises:
        ValueError: The class has got a field since, without a default or in the place of another one.
    """
    names = field_names(cls)
    new = [name for name in names if name not in fields]
    if new:
        lacking = fields.pop(LACKS, ())
        new = [name for name in new if name not in lacking]
        refuse_renamed(cls, new, [name for name in fields if name not in names])
    if is_named_tuple(cls):
        return tuple.__new__(cls, [default_of(cls, name) if name in new else fields[name] for name in names])
    instance: Any = object.__new__(cls)
    for name in names:
        if name in fields:
            object.__setattr__(instance, name, fields[name])
    for name in new:
        default = default_of(cls, name, instance)
        if default is not MISSING:
            object.__setattr__(instance, name, default)
    return instance


def refuse_renamed(cls: type, new: list[str], gone: list[str]) -> None:
    """Refuse to take a field that has come for a new one where another has gone.

    Raises:
        ValueError: Both have.
    """
    if new and gone:
        msg = (
            f"the journal holds a value of {class_name(cls)} with the field {gone[0]}, and by now that class has "
            f"{new[0]} and no {gone[0]}: keep that name"
        )
        raise ValueError(msg)


def default_of(cls: type, name: str, instance: Any = None) -> Any:
    """Return what a field gets that the class had not yet when the *instance* was stored; `MISSING` if that is nothing.

    Raises:
        ValueError: It has no default, and ``__init__`` gives it a value.
    """
    if is_named_tuple(cls):
        default = cls._field_defaults.get(name, MISSING)  # type: ignore[attr-defined]
    elif attrs.has(cls):
        default = _attrs_default(attrs.fields_dict(cls)[name], instance)
    elif name in (described := pydantic_fields(cls) or {}):  # not what it has no schema for: set later
        info = described[name]
        default = MISSING if info.is_required() else info.get_default(call_default_factory=True)
    else:
        field = cls.__dataclass_fields__[name]  # type: ignore[attr-defined]
        default = field.default if field.default_factory is MISSING else field.default_factory()
    if default is MISSING and not _is_set_later(cls, name):
        msg = (
            f"the journal holds a value of {class_name(cls)} from before that class had the field {name}: give it a "
            "default"
        )
        raise ValueError(msg)
    return default


def _is_set_later(cls: type, name: str) -> bool:
    """Tell a field that ``__init__`` does not take: without a default, an instance may well be without it."""
    described = attrs.fields_dict(cls) if attrs.has(cls) else getattr(cls, "__dataclass_fields__", {})
    return name in described and not described[name].init


def _attrs_default(field: Any, instance: Any) -> Any:
    default, convert = field.default, field.converter
    if default is attrs.NOTHING:
        return MISSING
    if isinstance(default, FACTORY):
        default = default.factory(instance) if default.takes_self else default.factory()
    if convert is None:
        return default
    return convert(default, instance, field) if isinstance(convert, TAKES_MORE) else convert(default)


def is_pydantic(cls: type) -> bool:
    """Tell a pydantic model, without importing pydantic."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(cls, pydantic.BaseModel)


def pydantic_fields(cls: type) -> Any:
    """Return what a model of pydantic, or a dataclass of its, says of its fields by name; `None` for other classes."""
    return getattr(cls, "model_fields" if is_pydantic(cls) else "__pydantic_fields__", None)


def model_state(value: Any) -> dict[str, Any]:
    """Return what makes up a pydantic model: fields, which of them were set, extras, private attributes."""
    state = value.__getstate__()
    kept = {name: state[attribute] for name, attribute in _model_attributes(type(value)).items()}
    private = kept.get("private")
    if private:  # an undefined private attribute is absent from the state that pydantic itself pickles
        kept["private"] = {k: v for k, v in private.items() if type(v).__name__ != "PydanticUndefinedType"}
    lacking = [name for name in pydantic_fields(type(value)) if name not in kept["fields"]]
    return kept | {LACKS: lacking} if lacking else kept


def model_from(cls: type, state: dict[str, Any]) -> Any:
    """Make a pydantic model from its state, without validation.

    Raises:
        ValueError: As for `put_together`.
    """
    fields, names = state["fields"], pydantic_fields(cls)
    new = [name for name in names if name not in fields]
    if new:
        new = [name for name in new if name not in state.get(LACKS, ())]
        refuse_renamed(cls, new, [name for name in fields if name not in names and not _is_cached(cls, name)])
        fields |= {name: default_of(cls, name) for name in new}
    model: Any = object.__new__(cls)
    for name, attribute in _model_attributes(cls).items():
        object.__setattr__(model, attribute, state[name])
    return model


def _model_attributes(cls: type) -> dict[str, str]:
    """Return where a pydantic model has what makes it up; one that is a single value has no extras to keep."""
    names = {"fields": "__dict__", "set": "__pydantic_fields_set__"}
    if not issubclass(cls, sys.modules["pydantic"].RootModel):
        names |= {"extra": "__pydantic_extra__", "private": "__pydantic_private__"}
    return names


def mentioned_in(annotation: Any) -> Iterator[Any]:
    """Yield everything an annotation consists of, and the annotations of the fields of its classes."""
    seen: set[int] = set()
    pending = [annotation]
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        pending += typing.get_args(current)
        pending += [getattr(current, name, None) for name in ("__origin__", "__supertype__", "__value__")]
        if is_class(current) and (is_record(current) or is_pydantic(current) or typing.is_typeddict(current)):
            pending += field_annotations(current)


def is_class(annotation: Any) -> bool:
    """Tell a class from a generic one with its arguments."""
    return isinstance(annotation, type) and typing.get_origin(annotation) is None


def is_stored_by_name(cls: type) -> bool:
    """Tell a class whose name is stored with its instances."""
    return is_record(cls) or is_pydantic(cls) or issubclass(cls, Enum | BaseException)


def field_annotations(cls: type) -> list[Any]:
    """Return the field annotations of a class, as far as they can be resolved now."""
    try:
        return list(typing.get_type_hints(cls).values())
    except (NameError, TypeError, AttributeError):
        return [a for a in getattr(cls, "__annotations__", {}).values() if not isinstance(a, str)]
