"""Makes the golden file of this schema version: ``python tests/crash/golden/make.py``, from the repository.

It stands for the files that users have: while a version is not released it is made again whenever the schema changes,
afterwards never again; a change of the schema is then a further version with a file of its own. It holds one run
for each way in which a run can be left: completed, compensated, cut off in a step, cut off while compensating, paused,
with a compensation that failed, put back to a step, with a step that was skipped, and asked to be cancelled.
"""

import contextlib
import socket
import sqlite3
import sys
import types
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import sagadsl
from sagadsl._core.journal.sqlite import SqliteJournal
from sagadsl._core.schema import VERSION

FILE = "golden/saga.py"
"""What the file says of where its saga stands, whoever makes it and wherever: in tracebacks too."""

saga = sys.modules["crash.golden.saga"] = types.ModuleType("crash.golden.saga")
exec(compile(Path(__file__).with_name("saga.py").read_text("utf-8"), FILE, "exec"), vars(saga))  # noqa: S102  # our own


def make(path: Path) -> None:
    """Make the file."""
    path.unlink(missing_ok=True)
    socket.gethostname = lambda: "golden"
    journal = SqliteJournal(path)
    clock = iter(range(1_700_000_000_000_000, 1_800_000_000_000_000, 250_000))
    runtime = sagadsl.Runtime(store=journal, clock=lambda: next(clock), sleep=lambda _: None)
    for run in saga.RUNS:
        saga.leave(runtime, run)
    journal.close()
    path.with_name(f"{path.name}-lock").unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (there,) = connection.execute("select program from run").fetchone()
        connection.execute("update run set program = ?", (FILE,))
        connection.execute("update entries set definition = replace(definition, ?, ?)", (there, FILE))
        connection.commit()
        connection.execute("vacuum")


if __name__ == "__main__":
    make(Path(__file__).with_name(f"version-{VERSION}.db"))
