"""A step's effect and the note that it happened, in one transaction of the user's own database.

``@step(transaction="db")`` names a live parameter that holds a connection or session. What such a call calls is not the
body but a `Transaction`, which claims a row of table ``sagadsl_landed`` under the attempt's idempotency key, runs the
body, writes the encoded result into the row and commits both at once. The row is claimed first: where it is there with
a result, the body is not entered and the result is what the step did; where another attempt of the same key is under
way, or its last commit still is after its process died, the database makes this one wait until that has ended.

So an attempt that raised has certainly failed. Two things leave it in doubt. The commit itself did not answer and the
row cannot be looked at: the next attempt finds out. Or the body committed by itself: then the row is left without a
result, which says that nobody can know.

What must happen is written once, as flows that yield what is to be called; `run` and `arun` call it, in their colours.
A connection is told by its class's module, so that no library is imported which the program does not use. The files
beside this one hold an adapter for each.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from importlib import import_module
from typing import Any, Protocol

from sagadsl._core.awaiting import to_the_end
from sagadsl._core.codec import Unstorable
from sagadsl._core.effects import Call, Raise
from sagadsl._core.landed import marker
from sagadsl._core.parameters import close, has_not_run
from sagadsl.errors import UsageError

Operations = Generator[Callable[[], Any], Any, Any]


class Adapter(Protocol):
    """A connection as these flows use it; where it is async, each of these gives something to await."""

    is_async: bool

    @property
    def settle(self) -> str:
        """The statement that writes a result, if the row was claimed in this very transaction."""

    def begin(self) -> Any:
        """Begin a transaction that may write; return whether there was none before."""

    def execute(self, statement: str, *values: str) -> Any:
        """Execute a statement of `marker`; return how many rows it wrote, and the first that it gave."""

    def guard(self) -> Any:
        """Note which transaction this is, now that it has written."""

    def is_unbroken(self) -> Any:
        """Tell whether the transaction is still the one noted."""

    def commit(self) -> Any:
        """Commit."""

    def rollback(self) -> Any:
        """Roll back what `begin` began, if anything; never fail because the connection is lost."""


SUPPORTED = {
    ("sqlite3", "Connection"): "sqlite",
    ("psycopg", "Connection"): "psycopg",
    ("psycopg", "AsyncConnection"): "psycopg",
    ("sqlalchemy", "Connection"): "sqlalchemy",
    ("sqlalchemy", "Session"): "sqlalchemy",
    ("sqlalchemy", "AsyncConnection"): "sqlalchemy",
    ("sqlalchemy", "AsyncSession"): "sqlalchemy",
}
"""Package and class of what can be used, and the room of its adapter."""

IN_USE: dict[int, Any] = {}
"""The connections in a step's transaction now, by their ``id``: ``setdefault`` is one step for all threads."""


def adapter_of(connection: Any, call: Call) -> Adapter:
    """Return the adapter of a connection or session.

    Raises:
        UsageError: There is none, or the call cannot await it.
    """
    found = None
    for cls in type(connection).__mro__:
        found = found or SUPPORTED.get((cls.__module__.partition(".")[0], cls.__name__))
    if found is None:
        known = ", ".join(f"{package}.{name}" for package, name in SUPPORTED)
        msg = f"{told(call)} holds a {type(connection).__module__}.{type(connection).__qualname__}; it takes one of "
        raise UsageError(msg + known)
    adapter = made(found, connection)
    if adapter.is_async and not call.is_async:
        msg = f"{told(call)} holds an async connection, which a def cannot await: give it a sync one, or make the step "
        raise UsageError(msg + "an async def")
    return adapter


def made(room: str, connection: Any) -> Adapter:
    """Make an adapter; its room is entered on first use, for it imports what the program then has imported."""
    adapter: Adapter = import_module(f"{__name__}.{room}").adapted(connection)
    return adapter


def told(call: Call) -> str:
    """Return how messages begin: of which step they tell."""
    what = f"the compensation of {call.slot.key}" if call.is_compensation else call.slot.key
    return f"{what}: transaction={call.transaction.name!r}"


class Transaction:
    """What a call with ``transaction=`` calls instead of its *body*; it gives the result as text, and its copy.

    *in_doubt* says of the last attempt that its effect may have landed although it raised. The call of a probe asks
    the row instead.
    """

    __slots__ = ("body", "call", "connection", "in_doubt", "key", "name")

    def __init__(self, call: Call, name: str, connection: Any) -> None:
        self.call, self.name, self.connection, self.body = call, name, connection, call.function
        self.key = call.slot.idempotency_key + ("/compensation" if call.is_compensation else "")
        self.in_doubt = False

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        # an earlier attempt may have landed, until that has been looked up
        self.in_doubt = self.call.slot.uncertain and not self.call.is_compensation
        adapter = adapter_of(self.connection, self.call)
        flow = self.look(adapter) if self.call.is_probe else self.flow(adapter, partial(self.body, *args, **kwargs))
        flow = alone(self.connection, self.call, flow)
        return arun(flow, adapter) if self.call.is_async else run(flow)

    def flow(self, adapter: Adapter, body: Callable[[], Any]) -> Operations:
        """Enter the body in a transaction that holds its row, or give what landed earlier."""
        committing = False
        try:
            text = yield from claimed(adapter, self.key, self.call)
            self.in_doubt = False
            if text:
                yield adapter.rollback
                return self.recorded(text)
            value = yield body
            if self.call.is_compensation and has_not_run(value):
                yield adapter.rollback
                return value  # the flow that called refuses it
            text, copy = self.encoded(value)
            written = 0
            if (yield adapter.is_unbroken):
                written, _ = yield partial(adapter.execute, adapter.settle, text, self.key)
            if written != 1:
                return (yield from self.broken(adapter))
            committing = self.in_doubt = True
            yield adapter.commit
        except BaseException as error:  # noqa: BLE001  # an interruption rolls back too
            yield adapter.rollback
            if committing and isinstance(error, Exception):
                return (yield from self.looked(adapter, error))
            return Raise(UsageError(f"{told(self.call)} {error}") if isinstance(error, marker.Refused) else error)
        self.in_doubt = False
        return text, copy

    def look(self, adapter: Adapter) -> Operations:
        """Answer as a probe, without entering anything; what is under way is waited for, as for an attempt."""
        from sagadsl._core.values.answers import Landed, NotLanded, Unknown

        try:
            text = yield from claimed(adapter, self.key, self.call)
        finally:
            yield adapter.rollback
        if text is None:
            return NotLanded()
        return Landed(self.call.slot.run.codec.decode(text)) if text else Unknown()

    def looked(self, adapter: Adapter, error: Exception) -> Operations:
        """Find out what became of a commit that raised: a deferred constraint, or an answer that was lost."""
        try:
            text = yield from claimed(adapter, self.key, self.call)
            yield adapter.rollback
        except BaseException as why:  # noqa: BLE001  # the connection is gone: the next attempt finds out
            yield adapter.rollback
            return Raise(error if isinstance(why, Exception) else why)
        self.in_doubt = False
        return self.recorded(text) if text else Raise(error)

    def broken(self, adapter: Adapter) -> Operations:
        """Leave a row without a result, and refuse a body that ended the transaction by itself."""
        self.in_doubt = True
        yield adapter.rollback
        try:
            yield from claimed(adapter, self.key, self.call)
            yield adapter.commit
        except Exception:  # noqa: BLE001  # it is there already if the body committed, as most do
            yield adapter.rollback
        msg = (
            f"{told(self.call)}: the body ended the transaction by itself, so nobody knows whether its effect is "
            "whole; leave commit and rollback to the step"
        )
        return Raise(UsageError(msg))

    def recorded(self, text: str) -> tuple[str, Any] | None:
        """Return what landed earlier as an attempt gives it."""
        return None if self.call.is_compensation else (text, self.call.slot.run.codec.decode(text))

    def encoded(self, value: Any) -> tuple[str, Any]:
        """Return a result as text, and the copy that would come back of it.

        Raises:
            NotStorableError: It cannot be stored, so it must not land.
        """
        if self.call.is_compensation:
            return "null", None
        slot = self.call.slot
        try:
            text, copy = slot.run.codec.encode_and_copy(self.call.kept(value))
        except Unstorable as why:
            close(value)
            raise why.error(slot.key, "result") from None
        return text, copy


def in_transaction(call: Call, name: str, connection: Any) -> Call:
    """Have a call made inside a transaction of *connection*, which its live argument *name* holds."""
    call.function = call.transaction = Transaction(call, name, connection)
    return call


def alone(connection: Any, call: Call, flow: Operations) -> Operations:
    """Refuse a connection that another step is using at this moment."""
    if IN_USE.setdefault(id(connection), call) is not call:
        user = IN_USE[id(connection)].slot.key
        msg = f"{told(call)} is in use by {user} at this moment: give each of two steps that overlap one of its own"
        return Raise(UsageError(msg))
    try:
        return (yield from flow)
    finally:
        del IN_USE[id(connection)]


def claimed(adapter: Adapter, key: str, call: Call) -> Operations:
    """Begin a transaction that holds the row of a key; return what landed under it, or nothing.

    What fails is tried once more, with the table made if it was missing: two attempts of one key may have collided.

    Raises:
        UsageError: The program has begun a transaction of its own.
    """
    yield from begun(adapter, call)
    try:
        return (yield from claim(adapter, key))
    except Exception:  # noqa: BLE001  # no table, or a collision, each library in its own words
        yield adapter.rollback
    why: Exception | None = None
    yield from begun(adapter, call)
    try:
        yield partial(adapter.execute, marker.CREATE)
        yield adapter.commit
    except Exception as error:  # noqa: BLE001  # another process makes it at this moment; or it must not be made by us
        why = error
        yield adapter.rollback
    yield from begun(adapter, call)
    try:
        return (yield from claim(adapter, key))
    except Exception as error:
        if why is not None:
            error.add_note(f"{told(call)} needs a table that could not be made ({why}): {marker.CREATE}")
        raise


def begun(adapter: Adapter, call: Call) -> Operations:
    """Begin a transaction.

    Raises:
        UsageError: There is one.
    """
    if not (yield adapter.begin):
        msg = (
            f"{told(call)} is in a transaction already, in which the step would return before its own commit; commit "
            "or roll back first (in many modes a query has begun one, too)"
        )
        raise UsageError(msg)


def claim(adapter: Adapter, key: str) -> Operations:
    """Write the row of a key; return its result if it was there, ``""`` for one that was left without."""
    written, _ = yield partial(adapter.execute, marker.CLAIM, key)
    text = None
    if written != 1:
        _, row = yield partial(adapter.execute, marker.FIND, key)
        text = row[0]
    if written != 1 and text is None:
        yield partial(adapter.execute, marker.TOUCH, key)
        text = ""
    yield adapter.guard
    return text


# -- the two colours --------------------------------------------------------------------------------------------------


def run(flow: Operations) -> Any:
    """Call what a flow yields, in a ``def``."""
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            operation = flow.send(answer) if error is None else flow.throw(error)
        except StopIteration as end:
            return ended(end.value)
        answer = error = None
        try:
            answer = operation()
        except BaseException as raised:  # noqa: BLE001  # the flow decides
            error = raised


async def arun(flow: Operations, adapter: Adapter) -> Any:
    """Call what a flow yields and await it, in an ``async def``; the end of a transaction is not cut short."""
    last = (adapter.commit, adapter.rollback)
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            operation = flow.send(answer) if error is None else flow.throw(error)
        except StopIteration as end:
            return ended(end.value)
        answer = error = None
        try:
            answer = operation()
            if hasattr(type(answer), "__await__"):
                answer = await (to_the_end(answer) if operation in last else answer)
        except BaseException as raised:  # noqa: BLE001  # the flow decides
            error = raised


def ended(value: Any) -> Any:
    """Return what a flow ended with, or raise it."""
    if type(value) is Raise:
        raise value.error
    return value
