"""Who is told of each entry once it is durable: the user's functions, and what logs, draws and traces runs.

An observer is a function ``(Entry) -> None``. One that has a method ``watch`` is asked instead, once for each run that
this process opens or goes on with, for that run's own observer: so nothing is looked up by an entry, what is known of a
run goes when the run does, and a run that nobody wants to see costs nothing a step. What an observer raises is logged
and changes nothing; a Ctrl-C passes through.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from sagadsl._core.scope.slot import OpenRun
from sagadsl._core.values import Entry
from sagadsl.errors import Fault, UsageError

if TYPE_CHECKING:
    from sagadsl._core.values.seen import RunInfo

log = logging.getLogger("sagadsl")


class Watcher(Protocol):
    """What looks at runs one by one."""

    def watch(self, run: RunInfo, /) -> Callable[[Entry], None] | None:
        """Return the observer of a run that is opened, or gone on with; `None`: this one need not be seen.

        If what is returned has a method ``close``, that is called when this process lets the run go, however that
        comes. If it has a mapping ``kept``, of text to text, a new run's is kept in the journal, and given as
        ``RunInfo.kept`` to whoever looks at the run later.
        """


Observer = Callable[[Entry], None] | Watcher
Draw = Callable[["RunInfo"], object]
"""What draws a run each time it has changed; it is given all that is known but for arguments and results."""


def sorted_out(observers: Iterable[Observer]) -> tuple[tuple[Callable[[Entry], None], ...], tuple[Watcher, ...]]:
    """Return those that are told of each entry, contained, and those that look at runs one by one.

    Raises:
        UsageError: There is no list of them; or one cannot be called, or would have to be awaited.
    """
    if not isinstance(observers, Iterable):
        msg = f"observers= takes a list of functions of an Entry, not {observers!r:.80}"
        raise UsageError(msg)
    functions: list[Callable[[Entry], None]] = []
    watchers: list[Watcher] = []
    for observer in observers:
        if hasattr(observer, "watch"):
            watchers.append(observer)
        elif callable(observer) and not inspect.iscoroutinefunction(observer):
            functions.append(contained(observer))
        else:
            msg = f"observers= takes functions of an Entry, that nobody need await, not {observer!r:.80}"
            raise UsageError(msg)
    return tuple(functions), tuple(watchers)


@contextmanager
def containing() -> Iterator[None]:
    """Let nothing that an observer raises change a run."""
    try:
        yield
    except Exception:
        log.exception("an observer failed; the run goes on")


def contained(observer: Callable[[Entry], None]) -> Callable[[Entry], None]:
    """Return an observer that changes nothing, even if it raises."""

    def observe(entry: Entry) -> None:
        try:  # not `containing`, which costs a microsecond
            observer(entry)
        except Exception:
            log.exception("an observer failed; the run goes on")

    return observe


def attach(run: OpenRun, watchers: Iterable[Watcher], info: RunInfo) -> None:
    """Have each of *watchers* look at a run, if it wants to; what they want kept goes with a new run's opening."""
    kept: dict[str, str] = {}
    for watcher in watchers:
        with containing():
            own = watcher.watch(info)
            if own is not None:
                run.observers = (*run.observers, contained(own))
                run.watched = (*run.watched, own)
                kept |= getattr(own, "kept", {})
    if kept and run.is_new and run.opening is not None:
        told = json.loads(run.opening.result or "{}") | {"kept": kept}
        run.opening.result = json.dumps(told)


def detach(run: OpenRun) -> None:
    """Tell those who look at a run that this process lets it go."""
    watched, run.watched = run.watched, ()
    for own in watched:
        with containing():
            getattr(own, "close", _nothing)()


def _nothing() -> None:
    """Stand for what an observer does not have."""


def kept_in(opening: Entry) -> dict[str, str]:
    """Return what observers wanted kept of a run when it was opened."""
    kept = json.loads(opening.result or "{}").get("kept", {})
    return {name: text for name, text in kept.items() if isinstance(text, str)}


def fault_in(entry: Entry) -> Fault | None:
    """Return the fault that an entry tells of, if it tells of one."""
    told = json.loads(entry.result) if entry.result is not None else None
    if isinstance(told, dict):
        told = told.get("fault", told)
        if "type" in told and "message" in told:
            return Fault(told["type"], told["message"])
    return None
