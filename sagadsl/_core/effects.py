"""What a flow can ask for, and the outcomes it gets or gives. A flow yields an effect; its driver answers.

Each effect is a value: a test can list them, a crash is "stop answering", an engine answers in its own way. ``Do`` is
the wide one: *have this step done*. The embedded drivers answer it by driving ``flow.attempt`` in place; an engine hands
it to a worker, which drives ``attempt`` there. All but ``Do`` and ``Call`` are answered with `None`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

from attrs import define

from sagadsl._core.values import Kind
from sagadsl.errors import Fault

T = TypeVar("T")
Flow = Generator[Any, Any, T]


@define(eq=False)
class Done:
    """A step's function returned; *value* is the copy that would come back after a restart."""

    value: Any


@define(eq=False)
class Failed:
    """A step is given up. *error* is what would be raised after a restart."""

    error: BaseException
    fault: Fault


@define(eq=False)
class Do:
    """Have *work* (a ``scope.Work``) done, at least once, and answer with its `Done` or `Failed`."""

    work: Any


@define(eq=False)
class Record:
    """Append an entry about *of* (a ``scope.Slot`` or ``scope.Scope``); answered once it is durable."""

    kind: Kind
    of: Any
    attempt: int | None = None
    result: str | None = None


@define(eq=False)
class Call:
    """Call the user's function; answered with what it returns, or its exception is thrown in.

    While it runs it is the current position: ``work`` tells a body where it is. The driver sets *deadline*, on the
    monotonic clock, when it starts an attempt that has a *timeout*.
    """

    function: Callable[..., Any]
    args: Any
    kwargs: Any
    work: Any
    attempt: int
    timeout: float | None = None
    deadline: float | None = None


@define(eq=False)
class Sleep:
    """Wait *seconds* between two attempts."""

    seconds: float


@define(eq=False)
class Gather:
    """Wait until no attempt is under way in *scope*: branches settle before anything is compensated."""

    scope: Any


@define(eq=False)
class Wait:
    """Wait for something that only the outside brings; a cancellation ends it."""
