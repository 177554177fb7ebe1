"""A line a step for whoever sits in front of it: on a terminal updated in place, plain lines where that is asked for.

What a run has come to is folded from its entries by the tables that fold the journal; what is said of it is
`sagadsl.report`'s. Here it is put on stderr. The cursor never moves up, so nothing that the program prints is
overwritten: what is under way stands, without a line end, on the last line, and gives way to whatever comes next.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
from collections.abc import Iterable
from datetime import datetime
from typing import Final, Protocol

import attrs

from sagadsl._core.definition import facts_of
from sagadsl._core.observers import Draw, fault_in
from sagadsl._core.state import SCOPES, STEPS
from sagadsl._core.values import Entry, Kind, Status, StepStatus, as_time
from sagadsl._core.values.seen import AttemptInfo, RunInfo, StepInfo
from sagadsl.errors import Fault
from sagadsl.report import end_line, fitted, is_under_way, printable, short_id, step_line

COLOURS: Final = {"+": 32, "x": 31, "!": 31, "?": 33, "~": 33, "=": 33, "-": 36, "<": 36, ">": 34}
"""Of the signs, as terminals number them."""
CLEAR: Final = "\r\x1b[K"

ENDS: Final = frozenset({Kind.COMPENSATING, Kind.PAUSED, Kind.COMPLETED, Kind.COMPENSATED, Kind.COMPENSATION_FAILED})
"""What is worth a line of the run itself."""

log = logging.getLogger("sagadsl")


class Display(Protocol):
    """Where a run is shown."""

    def show(self, following: Following, step: StepInfo | None) -> None:
        """Show that a step has changed, or the run itself."""

    def leave(self, following: Following) -> None:
        """Show no more of a run: this process has let it go."""


class Following:
    """What is known of one run while it goes on, but for the arguments and results of its steps."""

    def __init__(self, run: RunInfo, display: Display) -> None:
        self._run, self._display = run, display
        self._steps = {step.key: step for step in run.steps}
        self._guard = threading.RLock()
        self.under_way: dict[str, StepInfo] = {}

    @property
    def run(self) -> RunInfo:
        """The run as it is now."""
        return attrs.evolve(self._run, steps=tuple(self._steps.values()))

    def __call__(self, entry: Entry) -> None:
        """Take in an entry, and show what it changes."""
        with self._guard:  # steps may be called from several threads
            step = self._take(entry)
            if entry.kind in ENDS if step is None else not step.saga:
                self._display.show(self, step)

    def close(self) -> None:
        """Show how it was let go."""
        with self._guard:
            self._run = attrs.evolve(self._run, is_live=False)
            self.under_way.clear()
            self._display.leave(self)

    def _take(self, entry: Entry) -> StepInfo | None:
        """Take in an entry; return the call that it is about, or `None`: it is about the run."""
        kind, key = entry.kind, entry.step
        if not key:
            # What was queued when the run was opened is known already, so that the table has no place for it.
            status = SCOPES.get((self._run.status, kind), self._run.status)
            fault = None if kind is Kind.COMPENSATION_FAILED else fault_in(entry)
            self._run = attrs.evolve(
                self._run,
                status=status,
                error=fault or (None if kind is Kind.RESUMED else self._run.error),
                ended=as_time(entry.at) if status.is_terminal else None,
            )
            return None
        step = self._steps.get(key) or begun(entry)
        step = self._steps[key] = (scope_after if step.saga else step_after)(step, entry)
        if not step.saga and is_under_way(step):
            self.under_way[key] = step
        else:
            self.under_way.pop(key, None)
        return step


def begun(entry: Entry) -> StepInfo:
    """Return a call of which nothing is known but the entry that begins it."""
    facts = facts_of(entry.definition or "{}")
    return StepInfo(
        key=entry.step,
        name=entry.name or "",
        status="",
        title=facts.get("title", ""),
        saga=entry.kind is Kind.OPENED,
        branch="branch" in facts,
        compensation=facts.get("compensate"),
        started=as_time(entry.at),
        untimed=entry.kind not in {Kind.OPENED, Kind.INTENT},
    )


def scope_after(step: StepInfo, entry: Entry) -> StepInfo:
    """Return what is known of a child, or a branch, after an entry about it."""
    status = SCOPES.get((Status(step.status) if step.status else None, entry.kind), Status(step.status or "open"))
    return attrs.evolve(step, status=str(status), ended=as_time(entry.at) if status.is_terminal else None)


def step_after(step: StepInfo, entry: Entry) -> StepInfo:
    """Return what is known of a call after an entry about it."""
    kind = entry.kind
    status = STEPS.get((StepStatus(step.status) if step.status else None, kind), step.status)
    fault = None if kind in {Kind.INTENT, Kind.DONE} else fault_in(entry)
    if kind.startswith("compensation_"):
        tries = entry.attempt or step.compensation_attempts
        return attrs.evolve(step, status=str(status), compensation_attempts=tries, compensation_error=fault)
    at, before = as_time(entry.at), StepStatus(step.status) if step.status else None
    if kind is Kind.RETRYING:
        is_uncertain = json.loads(entry.result or "{}").get("uncertain")
        how = StepStatus.UNCERTAIN if is_uncertain else StepStatus.FAILED
        return attrs.evolve(step, status=str(status), tried=tried(step, how, fault, at))
    if kind is Kind.INTENT:  # it is entered as it is defined now
        if before is not None:
            known = tried(step, before, step.error, step.ended if step.error else None)
            step = attrs.evolve(step, tried=known, error=None, entered=at, ended=None, untimed=False)
        return attrs.evolve(step, status=str(status), attempts=step.attempts + 1, redefined=())
    if kind is Kind.NOT_LANDED:  # what it failed with, if it did, stays
        return attrs.evolve(step, status=str(status))
    return attrs.evolve(step, status=str(status), error=fault, ended=at)


def tried(step: StepInfo, how: StepStatus, fault: Fault | None, ended: datetime | None) -> tuple[AttemptInfo, ...]:
    """Return the attempts of a call that were tried again, with its last one, which ended like this."""
    if len(step.tried) >= step.attempts:
        return step.tried
    told = {"started": step.entered or step.started, "ended": None if step.untimed else ended}
    last = AttemptInfo(number=step.attempts, status=str(how), error=fault, **told)
    return (*step.tried, last)


class Drawn:
    """A display that is the user's own function, or a notebook's."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw

    def show(self, following: Following, _: StepInfo | None) -> None:
        """Have it drawn."""
        self._draw(following.run)

    def leave(self, following: Following) -> None:
        """Have it drawn for the last time."""
        self._draw(following.run)


class Lines:
    """A display of lines, for one run, on a screen that all runs of the process share."""

    def __init__(self, screen: Screen, *, is_plain: bool) -> None:
        self._screen, self._is_plain = screen, is_plain

    def show(self, following: Following, step: StepInfo | None) -> None:
        """Show a step, or the run."""
        line = end_line(following.run) if step is None else step_line(step)
        if self._is_plain:
            self._screen.put(following, [line], None)
        else:
            is_final = step is None or not is_under_way(step)
            self._screen.put(following, [line] if is_final else [], following.under_way.values())

    def leave(self, following: Following) -> None:
        """End the line on which something of the run was under way."""
        self._screen.end(following)


class Screen:
    """Stderr: lines that stay, and on a terminal, after them, what is under way."""

    _live: dict[Following, list[StepInfo]]

    def __init__(self) -> None:
        self.forget()
        log.addFilter(self._make_way)  # what this library says of a run stands on a line of its own

    def forget(self) -> None:
        """Know of no run: those of the process from which this one was forked are not its own, nor who holds a lock."""
        self._guard = threading.RLock()
        self._live = {}
        self._last: Following | None = None
        self._is_open = False

    def put(self, following: Following, lines: list[str], live: Iterable[StepInfo] | None) -> None:
        """Write lines of a run, under its id where another run's came before, and what of it is now under way.

        Without *live* the lines are plain, to be read in a log.
        """
        with self._guard:
            if self._last is not following:
                self._last, lines = following, [short_id(following.run.id), *lines]
            if live is None:
                write("".join(f"{line}\n" for line in lines))
                return
            self._live[following] = list(live)
            places = columns() - 1  # a line that reaches the end would wrap
            text = CLEAR if self._is_open else ""
            text += "".join(f"{coloured(fitted(line, places))}\n" for line in lines)
            now = self._under_way()
            self._is_open = bool(now)
            write(text + coloured(fitted(now, places)))

    def end(self, following: Following) -> None:
        """Leave what was under way of a run as it stands: nothing of it is, any more."""
        with self._guard:
            self._live.pop(following, None)
            if self._last is following:
                self._last = None
            self._make_way()

    def _make_way(self, record: logging.LogRecord | None = None) -> bool:
        """Let whatever comes next have a line of its own; an event tells what is drawn again at once."""
        with self._guard:
            if self._is_open:
                self._is_open = False
                write(CLEAR if hasattr(record, "event") else "\n")
        return True

    def _under_way(self) -> str:
        steps = [step for live in self._live.values() for step in live]
        if len(steps) == 1:
            return step_line(steps[0])
        return f"> {', '.join(printable(step.key, 60) for step in steps)} …" if steps else ""


def write(text: str) -> None:
    """Write to stderr, unless there is none, or it is closed, or its terminal is gone: then nobody looks."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


def columns() -> int:
    """Return how many places stderr's terminal has in a line; 80 where it does not say."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    return 80


def coloured(line: str) -> str:
    """Return a line with its sign in colour, unless ``NO_COLOR`` is set."""
    colour = COLOURS.get(line[:1]) if line[1:2] == " " else None
    if colour is None or os.environ.get("NO_COLOR"):
        return line
    return f"\x1b[{colour}m{line[0]}\x1b[0m{line[1:]}"


SCREEN: Final = Screen()
if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(after_in_child=SCREEN.forget)
