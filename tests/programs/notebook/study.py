"""The cells of a notebook. Which are run, in which order and in which kernel, is the test's affair."""
# ruff: noqa: F704, PLE1142, F811  # await at the top; cells that are mended

# %% steps
import asyncio
import os
import signal
from pathlib import Path

import sagadsl
from sagadsl import saga, step


def note(effect):
    with Path("effects.txt").open("a") as effects:
        effects.write(effect + "\n")


def discard(path):
    note("discard")
    path.unlink()


@step(compensate=discard)
def collect(words: str) -> Path:
    note("collect")
    path = Path("raw.txt")
    path.write_text(words)
    return path


@step
def train(counts: dict[str, int]) -> str:
    """Find the commonest word; the first time the kernel runs out of memory."""
    note("train")
    if not Path("swap").exists():
        Path("swap").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return max(counts, key=counts.get)


@saga(on_failure="pause")
def study(words):
    return train(count(collect(words)))


# %% count, wrong
@step
def count(path: Path) -> dict[str, int]:
    note("count")
    words = path.read_text().split()
    return {word: words.kount(word) for word in words}


# %% count, right
@step
def count(path: Path) -> dict[str, int]:
    note("count")
    words = path.read_text().split()
    return {word: words.count(word) for word in words}


# %% study
study("red blue red")

# %% give up
sagadsl.find("study").compensate()


# %% slow
@step
def wait() -> str:
    note("wait")
    Path("entered").write_text("now")
    return Path("go").read_text()


@saga
def slow():
    return [collect("red"), wait()]


# %% call slow
slow()


# %% async
@step(compensate=lambda n: note(f"-{n}"))
async def square(n: int) -> int:
    note(str(n))
    await asyncio.sleep(0)
    return n * n


@saga
async def squares(numbers: list[int], limit: int) -> int:
    total = sum(await asyncio.gather(*[square(n) for n in numbers]))
    if total > limit:
        raise OverflowError(total)
    return total


# %% await
await squares([1, 2, 3], 20)

# %% await too much
await squares([1, 2, 3], 10)
