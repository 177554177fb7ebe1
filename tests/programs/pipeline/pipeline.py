"""Measurements to a table: join the parts, sort them, publish. Paths travel, the files are too large."""

import shutil
import sys
from pathlib import Path

from sagadsl import IRREVERSIBLE, saga, step

WORK, PUBLISHED = Path("work"), Path("published")


def remove(path=None, *, name):
    """Remove what a step wrote, also if it was cut off while it wrote."""
    (WORK / name).unlink(missing_ok=True)


@step(compensate=remove)
def join(folder: Path, name: str) -> Path:
    WORK.mkdir(exist_ok=True)
    with (WORK / name).open("wb") as whole:
        for part in sorted(folder.iterdir()):
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole)
    return WORK / name


@step(compensate=remove)
def sort(table: Path, name: str) -> Path:
    rows = table.read_text().splitlines()
    (WORK / name).write_text("\n".join(sorted(rows, key=float)))
    return WORK / name


@step(read_only=True)
def check(table: Path) -> int:
    rows = table.read_text().split()
    if any(float(row) < 0 for row in rows):
        raise ValueError(f"{table} has negative rows")
    return len(rows)


@step(compensate=IRREVERSIBLE)
def publish(table: Path) -> None:
    PUBLISHED.mkdir(exist_ok=True)
    shutil.copy(table, PUBLISHED / table.name)


@saga(key="{folder}")
def pipeline(folder: Path) -> int:
    """Publish a folder of measurements."""
    whole = join(folder, "whole.txt")
    table = sort(whole, "sorted.txt")
    rows = check(table)
    publish(table)
    return rows


if __name__ == "__main__":
    print(pipeline(Path(sys.argv[1])), "rows")
