"""What the decorators make of a function: the same function, called as before, with a few names more.

wrapt keeps name, signature and binding. A step and a saga pickle by their name, as functions do, and copy as
themselves; one that is a method is bound to its instance like any method.
"""

from __future__ import annotations

import copy
from typing import Any

import wrapt

from sagadsl._core.definition import SagaSpec, StepSpec


class Bound(wrapt.BoundFunctionWrapper):  # type: ignore[type-arg]  # `Step` and `Saga` have the types
    """A step or saga that is a method, bound to its instance."""

    @property
    def plain(self) -> Any:
        """The undecorated method."""
        return self.__wrapped__

    def using(self, **options: Any) -> Any:
        """Return the same step or saga with other options."""
        return self.bound_like(self._self_parent.using(**options))

    def bound_like(self, made: Decorated) -> Any:
        """Return another step or saga of the same function, bound as this one is."""
        return made.__get__(self._self_instance, self._self_owner)

    def __reduce_ex__(self, protocol: Any) -> Any:
        owner = self._self_owner if self._self_instance is None else self._self_instance
        return getattr, (owner, self.__wrapped__.__name__)

    def __copy__(self) -> Bound:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        """Return the same step or saga, bound to a copy of the instance, as with any method."""
        return self._self_parent.__get__(copy.deepcopy(self._self_instance, memo), self._self_owner)


class Decorated(wrapt.FunctionWrapper):  # type: ignore[type-arg]  # as above
    """A step or saga. No attribute is annotated here: a class's annotations would hide those of the function."""

    @property
    def plain(self) -> Any:
        """The undecorated function."""
        return self.__wrapped__

    def __reduce_ex__(self, protocol: Any) -> str:
        return str(self.__wrapped__.__qualname__)

    def __copy__(self) -> Decorated:
        return self

    def __deepcopy__(self, memo: Any) -> Decorated:
        return self


def whole(made: Any) -> Any:
    """Return a step or saga itself, also where it is bound to an instance."""
    return made._self_parent if isinstance(made, Bound) else made  # noqa: SLF001  # wrapt's name


def spec_of(given: Any) -> StepSpec | SagaSpec | None:
    """Return the definition of a step or saga, `None` of anything else."""
    return spec_inside(given) if isinstance(given, Bound | Decorated) else None


def spec_inside(found: Any) -> StepSpec | SagaSpec | None:
    """Return the definition of a step or saga, also of one inside a wrapper of the user's own that wrapt has made."""
    if isinstance(found, wrapt.BoundFunctionWrapper):
        found = found._self_parent  # noqa: SLF001  # as above
    spec = getattr(found, "_self_spec", None) if isinstance(found, wrapt.FunctionWrapper) else None
    return spec if isinstance(spec, StepSpec | SagaSpec) else None
