"""What grows: a long run resumed, a full file, large results, and the syncs of a run.

usage: python tests/bench/large.py [--rounds 7] [--runs 100000] [--folder DIR]

* Resuming a run of a thousand finished steps, in a fresh process, import left out: to the first step that is entered.
* A step in a file that holds so many finished runs of ten steps each, over a step in an empty one, in turn.
* Ten results of 1 MB (structured, incompressible), over ``json.dumps``, ``json.loads`` and an INSERT of each.
* The syncs of a run of so many steps, counted by strace where there is one: one a step, the opening among them, and
  the end; the checkpoints of the write-ahead log come on top.
"""

from __future__ import annotations

import argparse
import compileall
import json
import random
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from step_cost import flow

import sagadsl

LONG = """
import os, sys, time, sagadsl
@sagadsl.step
def act(n: int) -> dict:
    if n == 1000:
        if sys.argv[2] == "cut":
            os._exit(0)
        print(time.perf_counter() - began)
    return {"receipt": "y" * 60, "total": 12.5, "n": n}
@sagadsl.saga(store=sys.argv[1], durability="process", key="k")
def flow() -> None:
    for n in range(1001): act(n)
began = time.perf_counter(); flow()
"""

SHORT = """
import sys, sagadsl
@sagadsl.step
def act(n: int) -> int: return n
@sagadsl.saga(store=sys.argv[1], resume="never")
def flow(steps: int) -> None:
    for n in range(steps): act(n)
for _ in range(int(sys.argv[3])): flow(int(sys.argv[2]))
"""


def program(text: str, *arguments: object) -> str:
    """Run a program in a fresh process; return what it prints."""
    command = [sys.executable, "-c", text, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def resuming(folder: Path, rounds: int) -> None:
    """Print how long a run of a thousand steps takes to get to where it was cut off."""
    times = []
    for at in range(rounds):
        store = folder / f"long{at}.db"
        program(LONG, store, "cut")
        times.append(float(program(LONG, store, "go")) * 1e3)
    print(f"a run with 1,000 finished steps resumed: {statistics.median(times):.1f} ms (least {min(times):.1f})")


def filling(path: Path, runs: int) -> None:
    """Clone the rows of a finished run of ten steps."""
    runtime = sagadsl.Runtime(path, durability="process")
    flow.using(runtime=runtime)(10, False)
    runtime.journal().close()
    with sqlite3.connect(path) as connection:
        number = connection.execute("select max(number) from run").fetchone()[0]
        copies = f"with recursive at(n) as (select 1 union all select n + 1 from at where n < {runs})"  # noqa: S608
        connection.execute(
            f"insert into run {copies} select {number} + n, id || n, generation, saga, program, arguments_digest, "  # noqa: S608  # all ours
            f"started, finished, thefts, untold, outline, outline_digest from at, run where number = {number}"
        )
        connection.execute(
            f"insert into entries {copies} select {number} + n, seq, kind, scope, step, ref, attempt, at, name, "  # noqa: S608
            f"definition, arguments, result, digest from at, entries where number = {number}"
        )
    connection.close()


def full_file(folder: Path, runs: int, rounds: int) -> None:
    """Print what a step costs in a full file over one in an empty one."""
    filling(folder / "full.db", runs)
    places = [sagadsl.Runtime(folder / name, durability="process") for name in ("empty.db", "full.db")]
    empty, full = (flow.using(runtime=place) for place in places)
    empty(1000, False), full(1000, False)
    ratios = [full(500, False) / empty(500, False) for _ in range(rounds * 5)]
    size, ratio = (folder / "full.db").stat().st_size / 1e6, statistics.median(ratios)
    print(f"a step beside {runs:,} finished runs ({size:.0f} MB) over one in an empty file: {ratio:.2f} x")


def structured(seed: int) -> list[dict[str, object]]:
    """Return 1 MB of records that say something else each time."""
    dice = random.Random(seed)  # noqa: S311  # no secret
    return [
        {"id": dice.randrange(10**9), "name": dice.randbytes(12).hex(), "price": dice.random()} for _ in range(14_500)
    ]


@sagadsl.step(compensate=None)
def large(at: int) -> list[dict[str, object]]:
    """Return a large value."""
    return VALUES[at]


VALUES = [structured(seed) for seed in range(10)]


@sagadsl.saga(resume="never")
def larges() -> float:
    """Call the step for each value; return the seconds."""
    began = time.perf_counter()
    for at in range(10):
        large(at)
    return time.perf_counter() - began


def large_results(folder: Path, rounds: int) -> None:
    """Print what large results cost over the least that a journal must do with them."""
    ours = larges.using(runtime=sagadsl.Runtime(folder / "large.db"))
    connection = sqlite3.connect(folder / "floor.db", isolation_level=None)
    connection.execute("pragma journal_mode = wal")
    connection.execute("create table value (text)")

    def floor() -> float:
        began = time.perf_counter()
        for value in VALUES:
            text = json.dumps(value, separators=(",", ":"))
            connection.execute("insert into value values (?)", (text,))
            json.loads(text)
        return time.perf_counter() - began

    floor(), ours()
    found = [(floor(), ours()) for _ in range(rounds)]
    raw, took = (statistics.median(times) * 1e2 for times in zip(*found, strict=True))
    ratio = statistics.median(took / raw for raw, took in found)
    print(f"a result of 1 MB: {took:.1f} ms, dumps, insert and loads {raw:.1f} ms: {ratio:.2f} x")
    connection.close()


def syncs(folder: Path) -> None:
    """Print how many syncs runs of several lengths cost: the file is there already."""
    if shutil.which("strace") is None:
        return
    store = folder / "syncs.db"
    program(SHORT, store, 1, 1)
    for steps in (10, 100, 1000):
        first, both = (counted(SHORT, store, steps, runs) for runs in (1, 2))
        print(f"a run of {steps} steps: {both - first} syncs; the first of a process, which opens the file, {first}")


def counted(text: str, *arguments: object) -> int:
    """Run a program in a fresh process; return how many syncs it asked for."""
    command = ["strace", "-f", "-e", "trace=fdatasync,fsync", sys.executable, "-c", text, *map(str, arguments)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return len(re.findall(r"sync[(]", told))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    compileall.compile_dir(Path(sagadsl.__file__).parent, quiet=1)  # as installed; what is imported later, too
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        resuming(folder, options.rounds)
        large_results(folder, options.rounds)
        syncs(folder)
        full_file(folder, options.runs, options.rounds)


if __name__ == "__main__":
    main()
