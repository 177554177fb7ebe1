"""Classes that list their facts as annotations, with defaults; they are taken in that order, or by name.

attrs writes code for each class, a third of a millisecond of every import of the package. That is well spent on what
users hold, compare and print. What nobody sees is a `Struct`; the errors, which are raised and pickled, are made in the
same way.
"""

from __future__ import annotations

from inspect import get_annotations
from typing import Any, ClassVar, Self, dataclass_transform


def listed(cls: type) -> tuple[str, ...]:
    """Return the names that a class lists itself, in order."""
    return tuple(name for name, kind in get_annotations(cls).items() if not str(kind).startswith("ClassVar"))


def defaults_of(cls: type, names: tuple[str, ...]) -> dict[str, Any]:
    """Return what a class has for those of its *names* that need not be given."""
    return {name: getattr(cls, name) for name in names if hasattr(cls, name)}


def filled(
    cls: type, names: tuple[str, ...], defaults: dict[str, Any], values: tuple[Any, ...], named: dict[str, Any]
) -> dict[str, Any]:
    """Return what an object of *cls*, which lists *names*, has for each of them.

    Raises:
        TypeError: One is missing or unknown, or there are more values than names.
    """
    facts = defaults | dict(zip(names, values, strict=False)) | named
    if len(values) > len(names) or facts.keys() != {*names}:
        msg = f"{cls.__name__}({', '.join(names)}) was given {values!r} and {named!r}"
        raise TypeError(msg)
    return facts


@dataclass_transform()
class Struct:
    """Several facts in one place, for what only this library holds.

    Raises:
        TypeError: One is missing or unknown.
    """

    _names: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        cls._names = listed(cls)
        cls._defaults = defaults_of(cls, cls._names)

    def __init__(self, *values: Any, **named: Any) -> None:
        # the defaults too: what stands in the class is found more slowly
        vars(self).update(filled(type(self), self._names, self._defaults, values, named))

    def changed(self, **changes: Any) -> Self:
        """Return the same with other facts."""
        return type(self)(**{name: vars(self)[name] for name in self._names} | changes)
