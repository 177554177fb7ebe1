"""``%load_ext sagadsl.notebook``: runs are shown while they go on, failures pause, ``%saga`` looks and acts.

A face: it decides nothing. Without it, too, a run, a list, a stack or a graph that stands last in a cell shows itself;
a saga can be called or awaited, stopped and gone on with. What this adds is for exploring: a failure pauses its run, so
that the cell is mended, run again, and goes on at the failed step.

A step or a compensation that a cell has defined anew is used, and what ran before is marked. After the stop button the
same cell goes on as soon as what still runs in a thread has ended; until then it is a `RunLockedError`. While a
blocking step of an *awaited* saga runs, the kernel hears the button only when that step ends. Notebooks in one folder
are one program: where two have a saga of one name, a key keeps their runs apart.
"""

from __future__ import annotations

import argparse
import inspect
import shlex
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from attrs import define, field

import sagadsl
from sagadsl import Run, RunConflictError, RunInfo, SagaError, Status, UsageError
from sagadsl.report import progress_html, progress_lines

INTERVAL = 0.25
"""Seconds between two frames of a run, at least."""
SHARE = 10
"""How many times longer than a frame took to be made is waited for the next: no more than a tenth goes into drawing."""

LOADED = """\
sagadsl: in this kernel a failure pauses its run. Mend the cell and run it again: it goes on at the step that failed.
Or compensate: %saga compensate @last   Look: %saga show @last   All verbs: %saga --help"""


def load_ipython_extension(shell: Any) -> None:
    """Have failures pause, runs be shown while they go on, and ``%saga`` be there, in this kernel; say so."""
    sagadsl.configure(on_failure="pause")
    if is_front_end(shell):
        sagadsl.configure(progress=Frames(shell).draw)
    elif hasattr(shell, "kernel"):  # nobody sits in front of it: what it shows is read as a log
        sagadsl.configure(progress="plain")
    shell.register_magic_function(Magic(), "line", "saga")
    print(LOADED)


def unload_ipython_extension(shell: Any) -> None:
    """Leave it as it is where this was never loaded."""
    sagadsl.configure(on_failure="compensate", progress="auto")
    shell.magics_manager.magics["line"].pop("saga", None)


def is_front_end(shell: Any) -> bool:
    """Tell whether a notebook is in front of the kernel: it says which of its cells is run, which nbclient does not."""
    parent = shell.get_parent() if hasattr(shell, "kernel") else {}
    return "cellId" in parent.get("metadata", {})


# -- while it goes on -------------------------------------------------------------------------------------------------


class Frames:
    """Draws each run below the cell that goes on with it: a few times a second at most, and the last frame stays."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._shown: dict[str, Frame] = {}
        self._guard = threading.Lock()

    def draw(self, run: RunInfo) -> None:
        """Draw a run that has changed. One that this process has let go is drawn for the last time."""
        with self._guard:
            cell = self._shell.execution_count
            frame = self._shown.get(run.id)
            if frame is None or frame.cell != cell:
                frame = self._shown[run.id] = Frame(cell)
            if not run.is_live:
                del self._shown[run.id]
        frame.take(run)


@define(eq=False)
class Frame:
    """What stands below one *cell* of one run."""

    cell: int
    _run: RunInfo | None = None
    _handle: Any = None
    _drawn: Any = None
    _next: float = 0.0
    _timer: threading.Timer | None = None
    _guard: Any = field(factory=threading.Lock)

    def take(self, run: RunInfo) -> None:
        """Draw a run now, or, where it has just been drawn, in a moment: as it is by then."""
        with self._guard:
            self._run = run
            early = self._next - time.monotonic()
            if not run.is_live or early <= 0:
                self._draw()
            elif self._timer is None:
                self._timer = threading.Timer(early, self._draw_later)
                self._timer.daemon = True
                self._timer.start()

    def _draw_later(self) -> None:
        with self._guard:
            if self._timer is not None:
                self._draw()

    def _draw(self) -> None:
        from IPython.display import display

        if self._timer is not None:
            self._timer.cancel()
        self._timer, run = None, self._run
        assert run is not None  # noqa: S101  # it was taken
        began = time.monotonic()
        bundle = {"text/plain": "\n".join(progress_lines(run)), "text/html": progress_html(run)}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]  # it has no types
        elif bundle != self._drawn:
            self._handle.update(bundle, raw=True)
        self._drawn, over = bundle, time.monotonic()
        self._next = over + max(INTERVAL, SHARE * (over - began))


# -- %saga ------------------------------------------------------------------------------------------------------------


class Magic:
    """The line magic: the verbs of the command line, with their options, that return objects."""

    def __init__(self) -> None:
        self._parser = parser()

    def __call__(self, line: str) -> Any:
        """Do what a line says: ``list``, ``show RUN``, ``resume RUN``, ... ``--help`` tells all.

        RUN is an id, a beginning of one that no other run has, or ``@last``. What an async saga gives is to be awaited.

        Raises:
            UsageError: IPython's, which is shown as one line: it says nothing that can be done.
            Exception: What the saga raised.
        """
        __tracebackhide__ = True
        from IPython.core.error import UsageError as Refused

        try:
            asked = vars(self._parser.parse_args(words(line)))
            of = [found(asked.pop("name"))] if "name" in asked else []
            act = asked.pop("act")
            given = act(*of, **{name: value for name, value in asked.items() if value not in (None, False, [])})
        except Told:
            return None
        except SagaError as error:
            if hasattr(error, "__notes__"):  # it comes out of a run, whose steps are looked for in the traceback
                raise
            raise Refused(str(error)) from None
        if inspect.isawaitable(given):
            print("what this gives is to be awaited: await _", file=sys.stderr)
        return given


class Told(Exception):  # noqa: N818  # it is no error
    """All that was asked for was to be told something."""


class Parser(argparse.ArgumentParser):
    """A parser that never ends the program: here that is the kernel."""

    def error(self, message: str) -> NoReturn:
        """Refuse a line.

        Raises:
            UsageError: Always.
        """
        msg = f"{message}. {self.format_usage().strip()}"
        raise UsageError(msg)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:  # noqa: ARG002  # argparse's
        """Come to an end, once help was given."""
        raise Told


def parser() -> Parser:
    """Return what reads a line: each verb knows the method of a run that it calls."""
    whole = Parser(prog="%saga", description="Look at the runs of your sagas, go on with them, compensate them.")
    verbs = whole.add_subparsers(required=True, metavar="VERB", parser_class=Parser)

    def verb(name: str, act: Callable[..., Any], says: str, *, of_run: bool = True) -> Parser:
        made: Parser = verbs.add_parser(name, help=says, description=says)
        made.set_defaults(act=act)
        if of_run:
            made.add_argument("name", metavar="RUN", help="an id, a beginning of one, or @last")
        return made

    listing = verb("list", sagadsl.runs, "Runs, the newest first.", of_run=False)
    listing.add_argument("--status", choices=(*map(str, Status), "interrupted"), metavar="STATUS", help="only these")
    listing.add_argument("--saga", metavar="NAME", help="only runs of this saga")
    listing.add_argument("--limit", metavar="N", type=int, help="the newest N only")
    verb("show", lambda run: run, "A run: each step, what is to be compensated, what to do now.")
    verb("resume", Run.resume, "Go on with a run where it was cut off or paused; what its saga gives.")
    back = verb("compensate", Run.compensate, "Compensate what a run owes, or carry on; the run as it then is.")
    back.add_argument("--to", metavar="STEP", help="only what came after this step; the run is then paused there")
    back.add_argument("--dry-run", action="store_true", help="only what would be called, and what would stand")
    back.add_argument("--skip", metavar="STEP", help="let this step be, whose compensation failed")
    back.add_argument("--why", metavar="TEXT", help="why it is skipped")
    back.add_argument("--accept", metavar="STEP", action="append", help="let this step stand, which cannot be undone")
    verb("cancel", Run.cancel, "Ask that a run be cancelled; the run as it then is.")
    verb("graph", Run.graph, "The graph of a run: what it did, and the way back.")
    figures = verb("stats", sagadsl.stats, "Runs by status, and their steps: attempts, times, faults.", of_run=False)
    figures.add_argument("--saga", metavar="NAME", help="only runs of this saga")
    return whole


def words(line: str) -> list[str]:
    """Return the words of a line.

    Raises:
        UsageError: A quotation has no end.
    """
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError(f"{error} in {line!r}") from None  # noqa: TRY003, EM102  # one line, for a person


def found(name: str) -> Run:
    """Return the run that is named.

    Raises:
        RunConflictError: There is none, or several.
    """
    if name != "@last":
        return sagadsl.find(name)
    newest = next(iter(sagadsl.runs(limit=1)), None)
    if newest is None:
        raise RunConflictError(name, "there is no run yet; calling a saga makes one")
    return newest
