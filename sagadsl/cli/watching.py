"""``watch``: runs of other processes as they go on. It only reads, and asks SQLite whether to look again.

SQLite keeps a number that changes when another process has written (microseconds to ask); entries are read only then.
That a process has died is written nowhere, so where a run is shown its owner's lock is asked for as well, once a
second.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import click

from sagadsl import Entry, Run, Runtime, Status
from sagadsl.cli.exits import BY_STATUS
from sagadsl.cli.looking import is_terminal, write_no_more
from sagadsl.cli.stores import reading, run_argument, store_option, store_words, stored_run
from sagadsl.cli.targets import target_words
from sagadsl.errors import ExitCode
from sagadsl.report import SCHEMA, event_data, fitted, local_now, printable, run_text, runs_text, short_id, short_ids

PAUSE: Final = 0.1
"""Seconds between two times that SQLite is asked."""
LOOK: Final = 1.0
"""Seconds between two times that the owners of what is shown are asked for."""
BACK: Final = "\x1b[{}F\x1b[J"
"""What takes the cursor back over so many lines and clears from there."""

OVER: Final = frozenset({*BY_STATUS})
"""Where nothing follows by itself."""


@click.command()
@run_argument(is_needed=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON document a line, for each event.")
@store_option
def watch(run: str | None, as_json: bool) -> int:  # noqa: FBT001  # a flag
    """Follow a run until it is over, with its exit code; or all that go on, until Ctrl-C.

    On a terminal what is shown is drawn anew when it changes, elsewhere each event is a line. The runs are not
    disturbed.
    """
    chosen = stored_run(run) if run is not None else None
    runtime = reading()
    is_drawn = not as_json and is_terminal(sys.stdout) and os.environ.get("TERM") != "dumb"
    try:
        status = draw(runtime, chosen) if is_drawn else tell(runtime, chosen, as_json=as_json)
    except OSError as error:
        write_no_more(error)
        return ExitCode.DONE
    return BY_STATUS[status]


def changes(runtime: Runtime, *, looks: bool) -> Iterator[None]:
    """Yield now, whenever another process has written, and where it *looks* once in a while besides."""
    before, looked = None, time.monotonic()
    while True:
        now = runtime.upkeep.version()
        if now != before or (looks and time.monotonic() - looked > LOOK):
            before, looked = now, time.monotonic()
            yield
        time.sleep(PAUSE)


# -- a line for each event --------------------------------------------------------------------------------------------


def tell(runtime: Runtime, chosen: Run | None, *, as_json: bool) -> Status:
    """Write each event as a line: of one run all of them, until it is over; else those that are yet to come.

    Return how it stood then: a moment later somebody may have it go on.
    """
    events = Events(runtime, chosen)
    for _ in changes(runtime, looks=False):
        status = chosen.refresh().status if chosen else None  # asked first, so that its last entry is told
        for run_id, generation, entry in events.new():
            event = event_data(entry, run_id, generation)
            line = json.dumps({"schema": SCHEMA, "event": event}) if as_json else event_line(event)
            print(line, flush=True)
        if status in OVER:
            return status
    raise AssertionError  # pragma: no cover  # changes never end


def event_line(event: dict[str, Any]) -> str:
    """Return an event as people read it in a log."""
    words = str(event["event"]).replace("_", " ")
    attempt = f", attempt {event['attempt']}" if (event["attempt"] or 0) > 1 else ""
    told = f": {event['error']['type'].rpartition(':')[2]}: {event['error']['message']}" if event["error"] else ""
    parts = [str(event["at"]), short_id(str(event["run"])), printable(event["step"], 60), f"{words}{attempt}{told}"]
    return printable("  ".join(part for part in parts if part), 1000)


class Events:
    """What is written to a journal from now on; of one run from its beginning."""

    def __init__(self, runtime: Runtime, chosen: Run | None) -> None:
        self.journal, self.chosen = runtime.journal(), chosen
        rows = self.journal.runs()
        self.newest = max((row.number for row in rows), default=0)
        going = [row.number for row in rows if row.finished is None]
        self.seen = {} if chosen else {number: len(self.journal.entries(number)) for number in going}
        self.going = set(going)

    def new(self) -> Iterator[tuple[str, int, Entry]]:
        """Yield the id and generation of a run and each entry of it that was not there before."""
        rows = self.journal.runs(id=self.chosen.id if self.chosen else None)
        if self.chosen:
            rows = [row for row in rows if row.generation == self.chosen.generation]
        else:
            rows = [r for r in rows if r.finished is None or r.number in self.going or r.number > self.newest]
        for row in rows:
            entries = self.journal.entries(row.number)
            for entry in entries[self.seen.get(row.number, 0) :]:
                yield row.id, row.generation, entry
            self.seen[row.number] = len(entries)
        self.going = {row.number for row in rows if row.finished is None}
        self.newest = max([self.newest, *(row.number for row in rows)])


# -- drawn on a terminal ----------------------------------------------------------------------------------------------


def draw(runtime: Runtime, chosen: Run | None) -> Status:
    """Show one run, or those that go on and those that have ended since, and draw them again when they change.

    Return how the one stood when it was over.
    """
    shown: set[tuple[str, int]] = set()
    lines, last = 0, None
    for _ in changes(runtime, looks=True):
        runs = [chosen.refresh()] if chosen else going_on(runtime, shown)
        state = [(run.id, run.generation, run.status, run.is_live, facts(run)) for run in runs]
        if state != last:
            is_over = chosen is not None and runs[0].status in OVER
            text = one(runs[0]) if chosen else several(runs)
            lines, last = drawn(text, lines, is_whole=is_over), state
        if chosen and runs[0].status in OVER:
            return runs[0].status
    raise AssertionError  # pragma: no cover  # as above


def facts(run: Run) -> tuple[Any, ...]:
    """Return what of a run's steps is shown."""
    return tuple((step.key, step.status, step.attempts, step.compensation_attempts) for step in run.steps)


def going_on(runtime: Runtime, shown: set[tuple[str, int]]) -> list[Run]:
    """Return the runs that are not over, and those that were when they were *shown*."""
    runs = [run for run in runtime.runs() if not run.status.is_terminal or (run.id, run.generation) in shown]
    shown.update((run.id, run.generation) for run in runs)
    return runs


def one(run: Run) -> str:
    """Return a run as it is shown."""
    return run_text(run, local_now(), store_words() + target_words(run))


def several(runs: list[Run]) -> str:
    """Return runs as they are shown."""
    return runs_text(runs, local_now(), short_ids(run.id for run in runs)) if runs else "no run goes on"


def drawn(text: str, before: int, *, is_whole: bool) -> int:
    """Write a text over the lines of the one *before*, cut to the terminal unless it is to stay; return its lines."""
    wide, high = shutil.get_terminal_size()
    lines = text.split("\n") if is_whole else [fitted(line, wide - 1) for line in text.split("\n")[: high - 1]]
    print((BACK.format(before) if before else "") + "\n".join(lines), flush=True)
    return len(lines)
