"""What a flow can ask for, and the outcomes it gets or gives. A flow yields an effect; its driver answers.

Each effect is a value: a test can list them, a crash is "stop answering", an engine answers in its own way. ``Do`` is
the wide one, for engines: *have this step done*. An engine hands it to a worker, which drives ``flow.attempt``; the
embedded drivers never see it, for their runs do so in place. An `Entry` that is yielded is to be put on record; it is
answered once it is durable. `None` answers all but ``Do`` and ``Call``. They are plain classes: made by hand they cost
the import nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

from sagadsl._core.retry import Retry
from sagadsl._core.values import Noted
from sagadsl.errors import Fault

T = TypeVar("T")
Flow = Generator[Any, Any, T]


class Done:
    """A step's function returned; *value* is the copy that would come back after a restart."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Failed:
    """A step is given up. *error* is what would be raised after a restart."""

    __slots__ = ("error", "fault")

    def __init__(self, error: BaseException, fault: Fault) -> None:
        self.error, self.fault = error, fault


class Raise:
    """How a flow says that *error* comes out of it: raised by its driver, for a generator may not raise any."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Do:
    """Have a `Call` made, at least once, and answer with its `Done` or `Failed`."""

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call = call


class Call:
    """Call the user's function; answered with what it returns, or its exception is thrown in.

    It is all that an attempt needs to know: for which *slot*, forward or to compensate it, and what to call with what,
    so it is also what `Do` carries. While the function runs it is the current position, and tells a body where it is.
    The flow sets *attempt*; the driver, where there is a *timeout* in seconds, the *deadline* on the monotonic clock.
    A compensation alone has a *fault*, the one that caused it. With a *transaction* (a ``landed.Transaction``, then the
    *function* too) the answer to a forward call is the result as text, and its copy: they have been committed already.
    *note* is what the function wants to have recorded beside its result. *is_cancelled*: its last attempt raised after
    its task had been cancelled in the middle of it.
    """

    __slots__ = (
        *("args", "attempt", "deadline", "fault", "function", "is_async", "is_cancelled", "is_compensation"),
        *("is_probe", "kwargs", "note", "read_only", "retry", "slot", "timeout", "transaction"),
    )
    fault: Fault | None

    def __init__(  # noqa: PLR0917  # keywords cost
        self,
        slot: Any,
        function: Callable[..., Any],
        args: Any,
        kwargs: Any,
        is_async: bool,  # noqa: FBT001
        retry: Retry,
        timeout: float | None = None,
        is_compensation: bool = False,  # noqa: FBT001, FBT002
        read_only: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        self.slot = slot
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.is_async = is_async
        self.retry = retry
        self.timeout = timeout
        self.is_compensation = is_compensation
        self.read_only = read_only
        self.attempt = 0
        self.is_probe = self.is_cancelled = False
        self.deadline: float | None = None
        self.transaction: Any = None
        self.note: Any = None

    def kept(self, value: Any) -> Any:
        """Return what is to be stored of what the function returned: with what it noted, if it did."""
        return value if self.note is None else Noted(value, self.note)

    @property
    def body(self) -> Callable[..., Any]:
        """The user's function itself."""
        body: Callable[..., Any] = self.function if self.transaction is None else self.transaction.body
        return body


class Sleep:
    """Wait *seconds* between two attempts; in a *scope* that goes forward a run can be cancelled meanwhile."""

    __slots__ = ("scope", "seconds")

    def __init__(self, seconds: float, scope: Any = None) -> None:
        self.seconds, self.scope = seconds, scope


class Gather:
    """Wait until no attempt is under way in *scope*: branches settle before anything is compensated."""

    __slots__ = ("scope",)

    def __init__(self, scope: Any) -> None:
        self.scope = scope


class Together:
    """Run flows at the same time: threads in a ``def``, tasks in an ``async def``.

    *following* gives those that can begin now; it is asked at once, and whenever one of them has ended, until all have.
    Once one has raised, no other begins, and what it raised is thrown in when the rest have ended. While they run
    something is under way in *scope*.
    """

    __slots__ = ("following", "scope")

    def __init__(self, scope: Any, following: Callable[[], list[Flow[None]]]) -> None:
        self.scope, self.following = scope, following


class Wait:
    """Wait for the cancellation that had cut off *slot* the first time; one that does not come is brought."""

    __slots__ = ("slot",)

    def __init__(self, slot: Any) -> None:
        self.slot = slot
