"""``progress=``: whether anybody sits in front of a run, and what then follows it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from sagadsl._core.observers import Draw

if TYPE_CHECKING:
    from sagadsl._core.observers.lines import Following
    from sagadsl._core.values.seen import RunInfo


class Progress:
    """The watcher behind ``progress=``: a word, or a function that draws a run each time it has changed."""

    def __init__(self, mode: str | Draw) -> None:
        self._mode = mode

    def looks(self) -> bool:
        """Tell whether anybody would see it. A terminal is asked for at each run, for stderr may be redirected."""
        if self._mode != "auto":
            return self._mode != "off"
        try:
            return bool(sys.stderr is not None and sys.stderr.isatty())
        except ValueError:  # it is closed, as a daemon does
            return False

    def watch(self, run: RunInfo, /) -> Following:
        """Return the observer of a run."""
        from sagadsl._core.observers.lines import SCREEN, Drawn, Following, Lines

        if callable(self._mode):
            return Following(run, Drawn(self._mode))
        is_plain = self._mode == "plain" or os.environ.get("TERM") == "dumb"
        return Following(run, Lines(SCREEN, is_plain=is_plain))
