"""Several facts in one place, for what only this library holds.

attrs writes code for each class, a third of a millisecond of every import of the package. That is well spent on what
users hold, compare and print; what nobody sees is a class of this kind.
"""

from __future__ import annotations

from inspect import get_annotations
from typing import Any, ClassVar, Self, dataclass_transform


@dataclass_transform()
class Facts:
    """A subclass lists its facts as annotations, with defaults; they are taken in that order, or by name.

    Raises:
        AttributeError: One without a default is not given.
    """

    _names: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._names = tuple(get_annotations(cls))

    def __init__(self, *values: Any, **named: Any) -> None:
        given = dict(zip(self._names, values, strict=False)) | named
        facts = vars(self)
        for name in self._names:  # the defaults too: what stands in the class is found more slowly
            facts[name] = given[name] if name in given else getattr(type(self), name)

    def changed(self, **changes: Any) -> Self:
        """Return the same with other facts."""
        return type(self)(**vars(self) | changes)
