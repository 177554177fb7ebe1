"""A compensation that is ready: what a step made on disk is put away, never deleted.

A file is linked into the archive under a free name and its old name removed. So it is never absent under both, nothing
is overwritten, and a process that dies in between leaves what the next call finishes. On another file system, or one
without links, a copy that has reached the disk takes the place of the link.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from types import NoneType
from typing import Any, get_args

from sagadsl._core.codec.artifacts import Artifact, measured
from sagadsl._core.runtime import CODEC
from sagadsl.errors import UsageError

log = logging.getLogger("sagadsl")

PLAIN = (str, PurePath, bytes, int, float, NoneType)
"""Types of values that hold no others."""


def archive(folder: str | os.PathLike[str]) -> Callable[[Any], None]:
    """Return a compensation that moves each `Artifact` of the step's result into *folder*: ``compensate=archive("x")``.

    A relative folder is beside the file. It is made when it is needed; a name that is taken there gets a number. A step
    that was cut off has no result, so nothing is moved. A file that is gone is logged, and is no error. A file that has
    changed since the step made it is left, and the compensation fails: a person decides. It also fails over a result
    that names files and has no `Artifact`, for nothing tells which are the step's own: return ``Artifact(path)``.

    Raises:
        UsageError: It is no path, or would be the file's own folder.
    """
    chosen = Path(folder) if isinstance(folder, str | os.PathLike) else None
    if chosen is None:
        msg = f"archive() takes the path of a folder, not {folder!r:.80}"
        raise UsageError(msg)
    if not chosen.name:
        msg = f"archive({os.fspath(folder)!r}) needs the name of a folder, such as 'archive'"
        raise UsageError(msg)

    def put_away(_result: Any = None, /) -> None:
        artifacts = CODEC.artifacts(_result)
        if not artifacts:
            refuse_bare_paths(_result)
        for artifact in artifacts:
            put(artifact, artifact.path.parent / chosen)

    put_away.__name__, put_away.__qualname__ = "archive", "sagadsl.archive"  # the same after a restart, and anywhere
    return put_away


def refuse_nothing_to_move(function: Any, step: str, annotation: Any) -> None:
    """Refuse, on the decorator's line, to archive for a *step* that returns no artifact.

    Raises:
        UsageError: By its annotation the step returns paths or text and no `Artifact`; or `archive` is not called.
    """
    if function is archive:
        msg = f"{step}: archive makes a compensation of the name of a folder: write compensate=archive('attic')"
        raise UsageError(msg)
    mentioned = types_in(annotation)
    names_files = any(issubclass(cls, str | PurePath) for cls in mentioned if isinstance(cls, type))
    if names_files and all(isinstance(cls, type) and issubclass(cls, PLAIN) for cls in mentioned):
        msg = f"{step}: archive() moves each Artifact of a result, and this step's has none: return Artifact(path)"
        raise UsageError(msg)


def types_in(annotation: Any) -> list[Any]:
    """Return the types of what a value with this annotation consists of."""
    parts = get_args(annotation)
    return [each for part in parts for each in types_in(part)] if parts else [annotation or NoneType]


def refuse_bare_paths(result: Any) -> None:
    """Refuse a result without an artifact that names a file, by a path or a text.

    Raises:
        UsageError: It does.
    """
    for leaf in CODEC.leaves(result):
        if isinstance(leaf, PurePath) or (isinstance(leaf, str) and os.path.isfile(leaf)):  # noqa: PTH113  # any text
            msg = (
                f"archive() moves each Artifact of a step's result, and {leaf!r} is none: have the step return "
                "Artifact(path). This one nothing moves: do it by hand, and skip the step"
            )
            raise UsageError(msg)


def put(artifact: Artifact, folder: Path) -> None:
    """Move an artifact's file into a folder, unless an earlier call did.

    Raises:
        UsageError: The file is no longer what the step made.
    """
    path = artifact.path
    if not os.path.lexists(path):
        if not any(_same(each, artifact) for each in names(folder, path.name)):
            log.warning("%s is not there any more, nor in %s: there is nothing to archive", path, folder)
        return
    if folder.exists() and folder.samefile(path.parent):
        return
    if not artifact.is_intact():
        msg = f"{path} is no longer the file that the step made; move it out of the way, or put that one back"
        raise UsageError(msg)
    move(path, folder)


def names(folder: Path, name: str) -> Iterator[Path]:
    """Yield the names that a file would have in a folder, one after the other, as long as they are taken."""
    number = 1
    while os.path.lexists(target := numbered(folder, name, number)):
        yield target
        number += 1


def numbered(folder: Path, name: str, number: int) -> Path:
    """Return the first, second, third … name of a file in a folder."""
    plain = Path(name)
    return folder / (name if number == 1 else f"{plain.stem}-{number}{plain.suffix}")


def _same(path: Path, artifact: Artifact) -> bool:
    return path.is_file() and measured(path) == (artifact.size, artifact.digest)


def move(source: Path, folder: Path) -> None:
    """Move a file into a folder, under a name that nothing has there."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while not placed(source, numbered(folder, source.name, number)):
        number += 1
    source.unlink()


def placed(source: Path, target: Path) -> bool:
    """Have a file under a second name as well, unless that name is taken by something else."""
    try:
        os.link(source, target)
    except FileExistsError:
        return not target.is_symlink() and target.samefile(source)  # linked by a call that was cut off
    except OSError:  # another file system, or one without links
        return copied(source, target)
    return True


def copied(source: Path, target: Path) -> bool:
    """Copy a file to a name that is free; under that name it is either complete or empty."""
    try:
        target.open("xb").close()
    except FileExistsError:
        return False
    part = target.with_name(f".{target.name}.part")
    try:
        shutil.copy2(source, part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        target.unlink()
        raise
    return True
