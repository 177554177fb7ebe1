"""Measurements to a table: join the parts, sort them, publish. The journal knows the digests of the files."""

import shutil
import sys
from pathlib import Path

import sagadsl
from sagadsl import IRREVERSIBLE, Artifact, saga, step

WORK, PUBLISHED = Path("work"), Path("published")
set_aside = sagadsl.archive("attic")


@step(compensate=set_aside)
def join(folder: Path, name: str) -> Artifact:
    WORK.mkdir(exist_ok=True)
    with (WORK / name).open("wb") as whole:
        for part in sorted(folder.iterdir()):
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole)
    return Artifact(WORK / name)


@step(compensate=set_aside)
def sort(table: Artifact, name: str) -> Artifact:
    rows = table.path.read_text().splitlines()
    (WORK / name).write_text("\n".join(sorted(rows, key=float)))
    return Artifact(WORK / name)


@step(read_only=True)
def check(table: Artifact) -> int:
    rows = table.path.read_text().split()
    if any(float(row) < 0 for row in rows):
        raise ValueError(f"{table.path} has negative rows")
    return len(rows)


@step(compensate=IRREVERSIBLE)
def publish(table: Artifact) -> None:
    PUBLISHED.mkdir(exist_ok=True)
    shutil.copy(table.path, PUBLISHED / table.path.name)


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
