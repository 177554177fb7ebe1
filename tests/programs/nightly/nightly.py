"""Every night: make a summary of each file in the inbox, then move it away, then write the index."""

import hashlib
import shutil
from pathlib import Path

from sagadsl import Landed, NotLanded, saga, step

INBOX, DONE, REPORT = Path("inbox"), Path("done"), Path("report.txt")


def bring_back(path):
    """Put a file back into the inbox."""
    if (DONE / path.name).exists():
        shutil.move(DONE / path.name, path)


def forget(path):
    """Remove a summary."""
    summary_of(path).unlink(missing_ok=True)


def summary_of(path):
    return Path("summaries") / f"{path.stem}.sum"


@step(read_only=True)
def waiting() -> list[Path]:
    return sorted(INBOX.glob("*.txt"))


@step(compensate=forget)
def summarise(path: Path) -> Path:
    text = path.read_bytes()
    summary = summary_of(path)
    summary.parent.mkdir(exist_ok=True)
    summary.write_text(f"{len(text)} {hashlib.sha256(text).hexdigest()[:8]}\n")
    return summary


def moved(path):
    """Tell whether a file that was being moved has arrived."""
    return Landed(None) if (DONE / path.name).exists() else NotLanded()


@step(compensate=bring_back, probe=moved)
def move(path: Path) -> None:
    DONE.mkdir(exist_ok=True)
    shutil.move(path, DONE / path.name)


@step(compensate=None)
def index(summaries: list[Path]) -> int:
    lines = [summary.read_text() for summary in summaries]
    if len(set(lines)) < len(lines):
        raise ValueError("two files are the same")
    REPORT.write_text("".join(lines))
    return len(summaries)


@saga
def nightly() -> int:
    """Summarise everything that waits."""
    summaries = []
    for path in waiting():
        summaries.append(summarise(path))
        move(path)
    return index(summaries)


if __name__ == "__main__":
    print(nightly(), "files")
