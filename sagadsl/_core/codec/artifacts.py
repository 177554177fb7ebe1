"""Files as values: what a step made on disk is recorded as path, size and digest, never as content.

The digest is computed when an `Artifact` is made, in pieces, so a file can be larger than memory. Reading the journal
back touches no file; whether one is still what it was is asked when a run goes on (``history.altered``).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from attrs import frozen

from sagadsl.errors import UsageError

TAG = '"$artifact"'
"""What the text of a value contains that holds an artifact; other text very seldom does."""


@frozen(init=False)
class Artifact:
    """A file that a step made: a result kept as *path* (absolute), *size* (bytes) and *digest* (blake2b, hex).

    ``Artifact("report.csv")`` reads the file once. It is a path to whatever opens files. When a run goes on, the files
    of its recorded results must be what they were; so a file that a later step moves, changes or deletes is none.

    Raises:
        UsageError: It is a folder, a link or a device, or no path.
        OSError: It is not there, or cannot be read.
    """

    path: Path
    size: int
    digest: str

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, str | os.PathLike):
            msg = f"Artifact() takes the path of a file, not {path!r:.80}"
            raise UsageError(msg)
        file = Path(path).absolute()
        if file.is_symlink() or (file.exists() and not file.is_file()):
            msg = f"Artifact({str(file)!r}) takes a plain file: of a folder name each file, of a link its target"
            raise UsageError(msg)
        _fill(self, file, *measured(file))

    def __fspath__(self) -> str:
        """Return the path, for whatever opens files."""
        return str(self.path)

    def is_intact(self) -> bool:
        """Tell whether the file is there with the size and digest it had; one of equal size is read."""
        try:
            if self.path.stat().st_size != self.size:
                return False
            return measured(self.path) == (self.size, self.digest)
        except OSError:
            return False


def _fill(artifact: Artifact, path: Path, size: int, digest: str) -> None:
    object.__setattr__(artifact, "path", path)
    object.__setattr__(artifact, "size", size)
    object.__setattr__(artifact, "digest", digest)


def measured(path: Path) -> tuple[int, str]:
    """Return the size and digest of a file, read in pieces."""
    from hashlib import blake2b, file_digest  # with OpenSSL behind it, a millisecond of every import

    with path.open("rb") as file:
        digest = file_digest(file, lambda: blake2b(digest_size=32)).hexdigest()
        return file.tell(), digest


def load_artifact(fields: dict[str, Any]) -> Artifact:
    """Rebuild an artifact from what was recorded, without a look at its file."""
    artifact = object.__new__(Artifact)
    _fill(artifact, Path(fields["$artifact"]), fields["size"], fields["digest"])
    return artifact


def artifacts_in(text: str) -> list[Artifact]:
    """Return the artifacts in the text of a value, in order, whatever else is in it."""
    found: list[Artifact] = []

    def collect(fields: dict[str, Any]) -> Any:
        if "$artifact" in fields:
            found.append(load_artifact(fields))
        return "".join(fields["$text"]) if "$text" in fields else fields

    if TAG in text:
        json.loads(text, object_hook=collect)
    return found
