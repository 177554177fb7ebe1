"""The saga of the golden files. It is part of them: with a change here, their runs are those of another program."""

import contextlib

import sagadsl

RUNS = (
    "completed",
    "compensated",
    "open",
    "compensating",
    "paused",
    "compensation_failed",
    "put_back",
    "skipped",
    "asked",
)
effects: list[str] = []
mended: list[bool] = []
"""Not empty when what went wrong in the file's days goes wrong no more."""


class Cut(BaseException):
    """The process ends."""


def cancel(name: str, how: str, result: dict | None = None) -> None:
    effects.append(f"-{name}")
    if mended:
        return
    if name == "hotel" and how == "compensating":
        raise Cut
    if name == "hotel" and how in {"compensation_failed", "skipped"}:
        raise LookupError(name)


@sagadsl.step(compensate=cancel)
def book(name: str, how: str) -> dict:
    effects.append(name)
    if name == "car" and how in {"open", "asked"} and not mended:
        raise Cut
    if name == "car" and how not in {"completed", "put_back"} and not mended:
        raise ValueError(name, {"seats": (4, 5)})
    return {"name": name, "seats": (1, 2), "price": 12.5}


@sagadsl.saga
def trip(how: str) -> list[dict]:
    return [book(name, how) for name in ("flight", "hotel", "car")]


def call(runtime: sagadsl.Runtime, run: str) -> list[dict]:
    """Call the saga for a run; what its steps do is in *effects*."""
    effects.clear()
    policy = "pause" if run == "paused" else "compensate"
    return trip.using(runtime=runtime, id=run, on_failure=policy)(run)


def leave(runtime: sagadsl.Runtime, run: str) -> None:
    """Have a run end in the way that its id says."""
    mended.clear()
    with contextlib.suppress(Cut, ValueError, sagadsl.CompensationError, sagadsl.SuspendedError):
        call(runtime, run)
    if run == "put_back":
        runtime.find(run).compensate(to="book#2")
    elif run == "skipped":
        runtime.find(run).compensate(skip="book#2", why="paid back by hand", by="ada")
    elif run == "asked":
        runtime.find(run).cancel()
