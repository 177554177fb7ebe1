"""What many sagas at once cost: eight threads and sixty-four tasks against eight threads behind a lock on raw rows.

usage: python tests/bench/together.py [--steps 50] [--rounds 5] [--folder DIR]

The floor is that of ``step_cost``, two rows a step, written by eight threads that share its connection behind a lock:
what a careful program does that has no group commit. Ours are sagas of so many steps, one after another in each thread
or task, in one file; their opening and their end are counted in. All are measured in turn in one process, and the ratio
is the median of the rounds'. Syncs are counted by strace, where there is one, in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from step_cost import ARGUMENTS, RESULT, Floor, undo

import sagadsl

THREADS, TASKS = 8, 64


@sagadsl.step(compensate=undo)
def work(order_id: str, item: str, quantity: int) -> dict[str, object]:
    """Do nothing, and return a small dictionary."""
    return RESULT


@sagadsl.step(compensate=undo)
async def awork(order_id: str, item: str, quantity: int) -> dict[str, object]:
    """Do nothing, and return a small dictionary."""
    return RESULT


@sagadsl.saga(resume="never")
def flow(steps: int) -> None:
    """Call the step so many times."""
    for _ in range(steps):
        work("o-17", ARGUMENTS["item"], 3)


@sagadsl.saga(resume="never")
async def aflow(steps: int) -> None:
    """Call the step so many times."""
    for _ in range(steps):
        await awork("o-17", ARGUMENTS["item"], 3)


def in_threads(call: Callable[[], object]) -> float:
    """Call a function in eight threads at once; return the seconds."""
    threads = [threading.Thread(target=call) for _ in range(THREADS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def in_tasks(call: Callable[[], object]) -> float:
    """Await what a function returns in sixty-four tasks at once; return the seconds."""

    async def main() -> float:
        began = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(TASKS)))
        return time.perf_counter() - began

    return asyncio.run(main())


def syncs(kind: str, folder: Path, steps: int) -> float | None:
    """Count the syncs a step costs, in a process of its own; `None` where nobody can look."""
    if shutil.which("strace") is None:
        return None
    command = ["strace", "-f", "-e", "trace=fdatasync,fsync", sys.executable, __file__, "--only", kind]
    command += ["--steps", str(steps), "--folder", str(folder)]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    done = int(told.stdout)
    return len(re.findall(r"f(?:data)?sync\(", told.stderr)) / done


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--only", choices=["threads", "tasks"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    steps = options.steps
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        runtime = sagadsl.Runtime(folder / "sagas.db")
        sync, other = flow.using(runtime=runtime), aflow.using(runtime=runtime)
        kinds: dict[str, tuple[int, Callable[[], float]]] = {
            "threads": (THREADS, lambda: in_threads(lambda: sync(steps))),
            "tasks": (TASKS, lambda: in_tasks(lambda: other(steps))),
        }
        if options.only:
            count, run = kinds[options.only]
            run()
            print(count * steps)
            return
        floor = Floor(folder, "full", threading.Lock())
        floor.run(2000), sync(1000)
        for kind, (count, run) in kinds.items():
            run()
            found = []
            for _ in range(options.rounds):
                raw = THREADS * steps * 4 / in_threads(lambda: floor.run(steps * 4))
                found.append((raw, count * steps / run()))
            raw, ours = (statistics.median(rates) for rates in zip(*found, strict=True))
            ratio = statistics.median(ours / raw for raw, ours in found)
            counted = syncs(kind, folder, steps)
            told = "" if counted is None else f"   {counted:.3f} syncs a step"
            print(
                f"{count:2} {kind:7} {ours:8.0f} steps/s, the floor with {THREADS} threads {raw:8.0f}: "
                f"{ratio:.2f} x{told}",
                flush=True,
            )


if __name__ == "__main__":
    main()
