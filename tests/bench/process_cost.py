"""What a process pays: the import, its first saga on an existing file, and ten thousand steps in one run.

usage: python tests/bench/process_cost.py [--rounds 11] [--folder DIR]

Imports are timed in fresh processes in turn with the libraries that sagadsl stands on, so the ratio holds when the
machine's speed drifts. Memory and the file are measured at 2,500, 5,000 and 10,000 steps: linear means both double.
"""

from __future__ import annotations

import argparse
import compileall
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import sagadsl

IMPORT = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"

FIRST = """
import sys, time, sagadsl
@sagadsl.step
def act(n: int) -> int: return n
@sagadsl.saga(store=sys.argv[1])
def flow() -> None:
    for n in range(10): act(n)
t = time.perf_counter(); flow(); print(time.perf_counter() - t)
"""

LONG = """
import os, resource, sys, time, sagadsl
@sagadsl.step
def act(n: int) -> dict: return {"receipt": "y" * 60, "total": 12.5, "n": n}
@sagadsl.saga(store=sys.argv[1], durability="process", key="k")
def flow(steps: int) -> None:
    for n in range(steps): act(n)
flow.using(key="first")(10)  # the file is made, which imports what steps do not need
def rss(): return int(open("/proc/self/statm").read().split()[1]) * 4096
before = rss(); t = time.perf_counter(); flow(int(sys.argv[2]))
took = time.perf_counter() - t; grown = rss() - before
t = time.perf_counter(); flow(int(sys.argv[2])); again = time.perf_counter() - t
size = sum(os.path.getsize(sys.argv[1] + end) for end in ("", "-wal"))
print(took / int(sys.argv[2]) * 1e6, grown / 1e6, size / 1e6, again * 1e3)
"""


def run(program: str, *arguments: object) -> list[float]:
    """Run a program in a fresh process; return the numbers it prints."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return [float(n) for n in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    compileall.compile_dir(Path(sagadsl.__file__).parent, quiet=1)  # as installed; an import is not a compilation
    pairs = [
        (run(IMPORT.format("sagadsl"))[0], run(IMPORT.format("wrapt, attrs, cattrs"))[0])
        for _ in range(options.rounds + 1)
    ][1:]
    ours, theirs = (statistics.median(times) * 1e3 for times in zip(*pairs, strict=True))
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    print(f"import sagadsl {ours:.1f} ms, wrapt, attrs, cattrs {theirs:.1f} ms: ratio {ratio:.2f}")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        new = run(FIRST, f"{folder}/first.db")[0] * 1e3
        first = statistics.median(run(FIRST, f"{folder}/first.db")[0] for _ in range(options.rounds)) * 1e3
        print(f"first saga of 10 steps in a fresh process: new file {new:.1f} ms, existing file {first:.1f} ms")
        for steps in (2_500, 5_000, 10_000):
            cost, grown, size, again = run(LONG, f"{folder}/long{steps}.db", steps)
            print(
                f"{steps:6} steps in one run: {cost:.1f} µs a step, memory +{grown:.1f} MB, "
                f"file and log {size:.1f} MB, the finished run again {again:.1f} ms"
            )


if __name__ == "__main__":
    main()
