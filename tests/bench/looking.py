"""What looking costs: ``list`` of many runs, ``show`` of a long one, each in a fresh process, imports left out.

usage: python tests/bench/looking.py [--rounds 7] [--runs 10000] [--steps 10000] [--folder DIR]

The command itself runs, to its last line; what it writes goes nowhere. The processor's time stands beside the clock's,
which is longer where others work too.
"""

from __future__ import annotations

import argparse
import compileall
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from large import filling, program
from step_cost import flow

import sagadsl

LOOK = """
import contextlib, io, sys, time
from sagadsl._core.journal import sqlite
from sagadsl.cli import program
from sagadsl.report import columns, json_schema, run_report, runs_text, run_document
with contextlib.redirect_stdout(io.StringIO()) as shown:
    began, used = time.perf_counter(), time.process_time()
    program.run(sys.argv[1:])
    took, used = time.perf_counter() - began, time.process_time() - used
print(took, used, len(shown.getvalue()))
"""


def looked(name: str, rounds: int, *arguments: object) -> None:
    """Print how long a command takes."""
    found = [list(map(float, program(LOOK, *arguments).split())) for _ in range(rounds)]
    assert all(written for _, _, written in found)  # it has shown something
    took, used = ([each[at] * 1e3 for each in found] for at in (0, 1))
    print(f"{name}: {statistics.median(took):.0f} ms (least {min(took):.0f}), of the processor {min(used):.0f}")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    compileall.compile_dir(Path(sagadsl.__file__).parent, quiet=1)  # as installed
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        many, long = Path(name) / "many.db", Path(name) / "long.db"
        filling(many, options.runs)
        runtime = sagadsl.Runtime(long, durability="process")
        flow.using(runtime=runtime)(options.steps, False)
        runtime.journal().close()
        looked(f"list of {options.runs:,} runs", options.rounds, "list", "--db", many)
        looked(f"list of {options.runs:,} runs as JSON", options.rounds, "list", "--json", "--db", many)
        looked(f"show of the newest of {options.runs:,} runs", options.rounds, "show", "@last", "--db", many)
        looked(f"show of a run of {options.steps:,} steps", options.rounds, "show", "@last", "--db", long)


if __name__ == "__main__":
    main()
