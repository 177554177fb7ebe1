"""While something is awaited in a notebook, the stop button reaches it at once.

A kernel answers the stop button with a callback of its event loop, and a loop that sleeps sees it only when something
else wakes it up (seen: after seven seconds, which is when the step ended). So while a run is awaited there, the loop is
woken four times a second. Nothing is patched, and elsewhere nothing is done.
"""

from __future__ import annotations

import asyncio
import sys
import threading

from sagadsl._core.awaiting import running_loop

INTERVAL = 0.25
"""Seconds between two wakings."""


class HeedingStop:
    """Wakes the event loop of a notebook's kernel now and then, as long as it is entered."""

    __slots__ = ("_following",)

    def __enter__(self) -> None:
        self._following: asyncio.TimerHandle | None = None
        is_signalled = threading.current_thread() is threading.main_thread()
        loop = running_loop() if is_signalled and is_kernel() else None
        if loop is not None:
            self._wake(loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        self._following = loop.call_later(INTERVAL, self._wake, loop)

    def __exit__(self, *_: object) -> None:
        if self._following is not None:
            self._following.cancel()


def is_kernel() -> bool:
    """Tell whether this process is a notebook's kernel; one that merely starts kernels imports their package too."""
    app = getattr(sys.modules.get("ipykernel.kernelapp"), "IPKernelApp", None)
    return app is not None and bool(app.initialized())
