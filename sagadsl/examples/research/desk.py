"""Where the papers lie: drafts in one folder, what is published in another."""

from __future__ import annotations

import os
import re
import sys
from hashlib import sha256
from pathlib import Path

from attrs import define, field

from sagadsl.llm import Progress

FOLDER = "sagadsl-research"


@define
class Desk:
    """The settings of this process: a *folder*, and how near a report must be *at_least* to its topic, from 0 to 1."""

    folder: Path = field(factory=lambda: Path(os.environ.get("SAGADSL_RESEARCH", FOLDER)))
    at_least: float = 0.3

    def draft(self, topic: str) -> Path:
        """Return where the draft on a topic lies."""
        return self.folder / "drafts" / f"{file_name(topic)}.md"

    def paper(self, topic: str) -> Path:
        """Return where what is published on a topic lies."""
        return self.folder / "published" / f"{file_name(topic)}.md"


desk = Desk()


def file_name(topic: str) -> str:
    """Return a name for the files on a topic: readable, and no two topics have the same."""
    words = re.sub(r"\W+", "-", topic.lower()).strip("-")[:60]
    return f"{words}-{sha256(topic.encode()).hexdigest()[:6]}"


def tell(progress: Progress) -> None:
    """Show an answer as it comes, to whoever watches."""
    if sys.stderr.isatty():
        piece = "".join(each if each.isprintable() else " " for each in progress.piece)
        print(piece, end="", file=sys.stderr, flush=True)


def write(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def move(source: Path, target: Path) -> None:
    """Move a file, unless an earlier call did."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.exists() or not target.exists():
        source.replace(target)
