"""Where the example plays: its folder, what goes wrong on purpose, and what is told of each effect.

Every effect runs inside `effect`, forward and in compensation alike. There ``--fail`` raises before it and ``--kill``
ends the process before or after it, by SIGKILL: no clean-up, no journal entry, as in a loss of power. What happened is
printed and appended to ``effects.log``, which nobody ever reads back but people and tests.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

from attrs import define, field

import sagadsl

FOLDER = "sagadsl-demo"

EFFECTS = {
    "reserve_inventory": "release_inventory",
    "charge_payment": "refund_payment",
    "audit": None,
    "send_confirmation": "send_cancellation",
    "schedule_delivery": "cancel_delivery",
}
"""Each step with its compensation: the places where something can be made to go wrong."""

PLACES = [place for pair in EFFECTS.items() for place in pair if place]


class MadeToFail(Exception):  # noqa: N818  # reads as what it is in every message
    """What ``--fail`` raises."""


def default_folder() -> Path:
    """Return the folder that ``SAGADSL_DEMO`` names, else one in the working directory that is easy to see."""
    return Path(os.environ.get("SAGADSL_DEMO", FOLDER))


@define
class Stage:
    """The settings of this process; *kill* is a place and ``before`` or ``after``, *patience* is seconds."""

    folder: Path = field(factory=default_folder)
    fail: str | None = None
    kill: tuple[str, str] | None = None
    payment: str = "ok"
    patience: float = 1.0


stage = Stage()


class Tell(Protocol):
    """What an effect tells with."""

    def __call__(self, text: str, *, changed: bool = True) -> None:
        """Tell what happened; *changed* is false where there was nothing to do, or it was done before."""


@contextmanager
def effect(place: str) -> Iterator[Tell]:
    """Have an effect, unless something goes wrong on purpose."""
    _die(place, "before")
    if stage.fail == place:
        msg = f"{place} was made to fail by --fail"
        raise MadeToFail(msg)

    def tell(text: str, *, changed: bool = True) -> None:
        words = (str(sagadsl.current().idempotency_key), place, "changed" if changed else "unchanged", text)
        with (stage.folder / "effects.log").open("a", encoding="utf-8") as log:
            log.write("\t".join(words) + "\n")
        print(f"  {place:18} {text}", flush=True)

    yield tell
    _die(place, "after")


def _die(place: str, moment: str) -> None:
    if stage.kill == (place, moment):
        print(f"  {place:18} killed {moment} the effect, as --kill says", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def database(name: str, schema: str) -> Iterator[sqlite3.Connection]:
    """Open a database of the folder for one transaction."""
    with closing(sqlite3.connect(stage.folder / name, isolation_level=None)) as connection:
        connection.executescript(schema)
        connection.execute("begin immediate")
        with connection:
            yield connection
