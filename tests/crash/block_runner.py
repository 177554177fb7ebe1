"""A block and a run by hand, in a process that is killed with SIGKILL at the effect that is named.

Usage: ``python block_runner.py block|hand [fail]``; the environment names the folder and the effect.
"""

import os
import signal
import sys
from pathlib import Path

import sagadsl
from sagadsl import saga

folder = Path(os.environ["SAGADSL_BLOCK_FOLDER"])
killed_at = os.environ.get("SAGADSL_BLOCK_KILL", "")


def effect(name):
    """Have an effect outside of every journal; die after it, if that is the place."""
    with (folder / "world").open("a", encoding="utf-8") as world:
        world.write(f"{name}\n")
        world.flush()
    if name == killed_at:
        os.kill(os.getpid(), signal.SIGKILL)


def fetch(name):
    """Do a step that nobody has decorated."""
    effect(name)
    return name.upper()


def forget(name):
    """Undo it."""
    effect(f"-{name}")


def drop(name):
    """Undo what no step did."""
    effect(f"-{name}")


def block(fails):
    """Go through the steps in a block."""
    with saga("nightly", key="k") as run:
        fetched = [run.step(fetch, compensate=forget)("a")]
        run.add_compensation(drop, "b")
        fetched.append(run.step(fetch, compensate=forget)("c"))
        if fails:
            raise ValueError(",".join(fetched))
    return fetched


def by_hand(fails):
    """Go through the same steps by hand."""
    run = saga("nightly", key="k")
    fetched = [run.step(fetch, compensate=forget)("a")]
    run.add_compensation(drop, "b")
    fetched.append(run.step(fetch, compensate=forget)("c"))
    if fails:
        run.compensate()
    else:
        run.complete(fetched)
    return fetched


if __name__ == "__main__":
    sagadsl.configure(store=folder / "sagas.db")
    told = {"block": block, "hand": by_hand}[sys.argv[1]](len(sys.argv) > 2)
    sys.stdout.write(f"{told}\n")
