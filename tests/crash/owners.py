"""A program of many runs: what the tests of owners, of crowds and of signals start as processes of their own."""

import asyncio
import contextlib
import fcntl
import os
import select
import signal
import sys
import threading
from pathlib import Path

import sagadsl
from sagadsl import Retry, saga, step


def effect(line):
    """Have an effect: one write, which is there or is not."""
    file = os.open("world", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{line}\n".encode())
    os.close(file)
    tell()


def tell(*_):
    """Have the test look again at what there is."""
    with contextlib.suppress(BlockingIOError):  # it has enough to wake up for
        os.write(int(os.environ["TOLD"]), b".")


def pass_gate():
    """Wait until the gate is open, which the test keeps locked till then.

    A signal ends the wait, also one that comes just before it begins: so it is another thread that waits for the lock.
    """
    come, tells = os.pipe()
    os.set_blocking(tells, False)
    before = signal.set_wakeup_fd(tells, warn_on_full_buffer=False)

    def wait():
        with Path("gate").open() as gate:
            fcntl.flock(gate, fcntl.LOCK_SH)
        os.write(tells, b".")

    try:
        threading.Thread(target=wait, daemon=True).start()
        select.select([come], [], [])
    finally:
        signal.set_wakeup_fd(before)


def undo():
    effect(f"-{sagadsl.current().key}")
    if Path("hold_compensation").exists():
        pass_gate()


@step(compensate=undo)
def first():
    effect("+first")


@step(compensate=None)
def second(name: str):
    effect(f"+second {name}")
    pass_gate()


@step(compensate=None, retries=Retry(3, wait=3600.0))
def never():
    effect("+never")
    raise ConnectionError("no answer")


@step(compensate=None)
def refuse():
    raise LookupError("sold out")


@saga(key="k")
def owned():
    first()
    second("a")
    return "done"


@saga(key="k")
def computing():
    first()
    effect("computes")
    pass_gate()
    return "done"


@saga(key="k")
def backing_off():
    first()
    never()


@saga(key="k")
def failing():
    first()
    refuse()


@step(compensate=None)
def count(number: int, at: int) -> int:
    return at


@saga(key="{number}")
def counting(number: int, steps: int) -> int:
    return sum(count(number, at) for at in range(steps))


@step(compensate=None)
async def acount(number: str, at: int) -> int:
    await asyncio.sleep(0)
    effect(f"{number} {at}")
    return at


@saga(key="{number}")
async def acounting(number: str, steps: int) -> int:
    total = 0
    for at in range(steps):
        total += await acount(number, at)
    return total


def crowd(process, threads, runs, steps):
    """Have each of many threads run several sagas at once, on an event loop of its own."""

    async def several(thread):
        await asyncio.gather(*(acounting(f"{process}.{thread}.{run}", steps) for run in range(runs)))

    started = [threading.Thread(target=lambda at=at: asyncio.run(several(at))) for at in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def play():
    """Do what the command line says."""
    verb, *given = sys.argv[1:]
    sagadsl.configure(store="sagas.db", durability="process")
    if verb == "backing_off":
        sagadsl.configure(observers=[tell])  # that it waits is an entry, and no effect
    if verb in {"owned", "computing", "backing_off", "failing"}:
        made = globals()[verb]
        if "STEAL" in os.environ:
            made = made.using(steal=True)
        if "TERM" in os.environ:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        print(made())
    elif verb == "count":
        process, runs, steps = map(int, given)
        for run in range(runs):
            assert counting(process * runs + run, steps) == sum(range(steps))
        print("done")
    elif verb == "crowd":
        crowd(*map(int, given))
        print("done")
    elif verb == "resume_all":
        sagadsl.resume_all()
        print(sorted({str(run.status) for run in sagadsl.runs()}))


if __name__ == "__main__":
    try:
        play()
    except sagadsl.RunLockedError as error:
        print("locked", error.host, error.pid, error.since, flush=True)
        sys.exit(4)
    except sagadsl.RunLostError:
        print("lost", flush=True)
        sys.exit(4)
