"""What a step costs over the rows it writes: ours and the raw floor, interleaved in one process.

usage: python tests/bench/step_cost.py [--steps 200] [--rounds 15] [--folder DIR ...] [--watched]

The floor is what any journal with an intent and an outcome must pay: two INSERTs of the same rows into the same table
under the same connection rules (write-ahead log; the intent's commit FULL, the outcome's NORMAL), payloads and digests
made beforehand, no Python of a library between them. A step has three arguments and a small dictionary as result; a
failing run's figures are per pair of entries, the compensations included. Machines are noisy: each round measures both,
one after the other, the floor of the async kinds in an event loop too, which alone makes a disk seem slower; the figure
is the median of the differences. Without ``--folder`` it measures on the disk and on a tmpfs, if there is one. With
``--watched`` it measures what looking costs instead: an observer, progress on a terminal, a trace by OpenTelemetry's
SDK, events of `logging` that nobody prints.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import logging
import os
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import sagadsl
from sagadsl._core.schema import TABLES

ARGUMENTS = {"order_id": "o-17", "item": "x" * 40, "quantity": 3}
RESULT = {"receipt": "y" * 60, "total": 12.5, "paid": True, "lines": 3}
INSERT = "insert into entries values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Floor:
    """Two raw rows a step, each written behind a *lock* if there is one."""

    def __init__(self, folder: Path, intent: str, lock: threading.Lock | None = None) -> None:
        self.lock = lock
        connection = sqlite3.connect(folder / "floor.db", isolation_level=None, check_same_thread=False)
        self.execute, self.intent, self.number = connection.execute, intent, 0
        self.execute("pragma journal_mode = wal")
        self.execute("pragma trusted_schema = off")
        self.execute("pragma synchronous = normal")
        for statement in TABLES:
            self.execute(statement)
        self.arguments, self.result = (json.dumps(v, separators=(",", ":")) for v in (ARGUMENTS, RESULT))
        self.digests = [blake2b(t.encode(), digest_size=8).digest() for t in (self.arguments, self.result)]

    def run(self, steps: int) -> float:
        """Write the rows of a run; return the seconds."""
        execute, switch = self.execute, self.intent != "normal"
        with self.lock or contextlib.nullcontext():
            self.number = number = execute(
                "insert into run values (null, ?, 1, 's', 'p', 'd', 0, null, 0, null, null, null)",
                (os.urandom(6).hex(),),
            ).lastrowid
        definition = '{"module":"__main__","compensate":"undo"}'
        began = time.perf_counter()
        for at in range(1, 2 * steps, 2):
            first = (number, at, "intent", 1, f"work#{at}", None, 1, time.time_ns() // 1000, "work", definition)
            first = (*first, self.arguments, None, self.digests[0])
            if self.lock is None:
                if switch:
                    execute("pragma synchronous = full")
                execute(INSERT, first)
                if switch:
                    execute("pragma synchronous = normal")
            else:
                with self.lock:
                    execute("pragma synchronous = full")
                    execute(INSERT, first)
            second = (number, at + 1, "done", 1, f"work#{at}", at, 1, time.time_ns() // 1000, None, None)
            second = (*second, None, self.result, self.digests[1])
            if self.lock is None:
                execute(INSERT, second)
            else:
                with self.lock:
                    execute("pragma synchronous = normal")
                    execute(INSERT, second)
        return time.perf_counter() - began


def undo(result: object) -> None:
    """Do nothing: only the journal is measured."""


@sagadsl.step(compensate=undo)
def work(order_id: str, item: str, quantity: int) -> dict[str, object]:
    """Do nothing, and return a small dictionary."""
    return RESULT


@sagadsl.step(compensate=undo)
async def awork(order_id: str, item: str, quantity: int) -> dict[str, object]:
    """Do nothing, and return a small dictionary."""
    return RESULT


class Gone(Exception):
    """What the failing runs fail with."""


@sagadsl.saga(resume="never")
def flow(steps: int, fail: bool) -> float:
    """Call the step so many times; return the seconds of the calls alone."""
    began = time.perf_counter()
    for _ in range(steps):
        work("o-17", ARGUMENTS["item"], 3)
    took = time.perf_counter() - began
    if fail:
        raise Gone
    return took


@sagadsl.saga(resume="never")
async def aflow(steps: int, fail: bool) -> float:
    """Call the step so many times; return the seconds of the calls alone."""
    began = time.perf_counter()
    for _ in range(steps):
        await awork("o-17", ARGUMENTS["item"], 3)
    took = time.perf_counter() - began
    if fail:
        raise Gone
    return took


def failing(run: Callable[[], object]) -> float:
    """Time a run that compensates all it did."""
    began = time.perf_counter()
    with contextlib.suppress(Gone):
        run()
    return time.perf_counter() - began


def in_a_loop(function: Callable[[int], float]) -> Callable[[int], float]:
    """Have a function run where an event loop does."""

    async def inside(steps: int) -> float:
        return function(steps)

    return lambda steps: asyncio.run(inside(steps))


class Terminal(io.StringIO):
    """What says that it is a terminal, and costs as little as one can."""

    def isatty(self) -> bool:
        return True


@contextlib.contextmanager
def on_a_terminal() -> Iterator[None]:
    """Have a terminal as stderr."""
    with contextlib.redirect_stderr(Terminal()):
        yield


@contextlib.contextmanager
def logged() -> Iterator[None]:
    """Have `logging` set up, at its usual level."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    yield
    logging.getLogger().removeHandler(handler)


def looking(folder: Path, durability: str, steps: int) -> dict[str, tuple[int, Callable[[], float]]]:
    """Return runs that somebody looks at, by how."""
    from opentelemetry.sdk.trace import TracerProvider

    from sagadsl.otel import OpenTelemetry

    def ways(**options: Any) -> Callable[[int, bool], float]:
        return flow.using(runtime=sagadsl.Runtime(folder / "sagas.db", durability=durability, **options))

    def within(around: Callable[[], Any], run: Callable[[int, bool], float]) -> tuple[int, Callable[[], float]]:
        def inside() -> float:
            with around():
                return run(steps, False)

        return 1, inside

    nothing = contextlib.nullcontext
    return {
        "nobody": within(nothing, ways(progress="off")),
        "a function": within(nothing, ways(progress="off", observers=[lambda _: None])),
        "a terminal": within(on_a_terminal, ways()),
        "logging": within(logged, ways(progress="off")),
        "opentelemetry": within(nothing, ways(observers=[OpenTelemetry(tracer_provider=TracerProvider())])),
    }


def measure(folder: Path, durability: str, steps: int, rounds: int, *, watched: bool = False) -> None:
    """Print the figures of one place and level."""
    intent = "normal" if durability == "process" else "full"
    floor = Floor(folder, intent)
    runtime = sagadsl.Runtime(folder / "sagas.db", durability=durability)
    sync, other = flow.using(runtime=runtime), aflow.using(runtime=runtime)
    kinds: dict[str, tuple[int, Callable[[], float]]] = {
        "sync": (1, lambda: sync(steps, False)),
        "async": (1, lambda: asyncio.run(other(steps, False))),
        "sync, failing": (2, lambda: failing(lambda: sync(steps, True))),
        "async, failing": (2, lambda: failing(lambda: asyncio.run(other(steps, True)))),
    }
    if watched:
        kinds = looking(folder, durability, steps)
    for name, (pairs, run) in kinds.items():
        floor.run(1000), sync(1000, False), run()  # warm: a write-ahead log that still grows costs twice as much
        raw = in_a_loop(floor.run) if name.startswith("async") else floor.run
        found = [(raw(steps * pairs) / steps / pairs, run() / steps / pairs) for _ in range(rounds)]
        over = [1e6 * (ours - least) for least, ours in found]
        floored = statistics.median(1e6 * least for least, _ in found)
        low, high = statistics.quantiles(over, n=4)[::2]
        print(
            f"{durability:8} {name:15} floor {floored:7.1f} µs   over it {statistics.median(over):6.1f} µs"
            f"   (quartiles {low:.1f} to {high:.1f})",
            flush=True,
        )


def main() -> None:
    """Measure on every folder that is given, or on the disk and a tmpfs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, action="append")
    parser.add_argument("--durability", action="append", choices=["process", "power"])
    parser.add_argument("--watched", action="store_true")
    options = parser.parse_args()
    tmpfs = Path("/dev/shm")  # noqa: S108
    folders = options.folder or [Path(tempfile.gettempdir()), *([tmpfs] if tmpfs.is_dir() else [])]
    for folder in folders:
        print(f"-- {folder}, {options.steps} steps a run, {options.rounds} rounds")
        for durability in options.durability or ["process", "power"]:
            with tempfile.TemporaryDirectory(dir=folder) as name:
                measure(Path(name), durability, options.steps, options.rounds, watched=options.watched)


if __name__ == "__main__":
    main()
