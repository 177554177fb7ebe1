"""A real IPython kernel for tests: cells are run in it, it is stopped, killed, and started again."""

from __future__ import annotations

import os
import re
import signal
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field
from jupyter_client.manager import KernelManager

ROOT = Path(__file__).parents[1]
PATIENCE = 60
"""Seconds after which a cell that has not ended fails its test."""
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@define
class Shown:
    """What a person sees below a cell: *text* of streams, results and displays, *html*, and the *error* if any.

    *frames* are, as text, what was displayed in order to be updated in place, and what it was updated to.
    """

    text: str = ""
    html: str = ""
    error: str = ""
    frames: list[str] = field(factory=list)

    def take(self, kind, content):
        """Take in a message of the kernel."""
        if kind == "stream":
            self.text += content["text"]
        elif kind == "error":
            self.error = ANSI.sub("", "\n".join(content["traceback"]))
        elif kind in {"execute_result", "display_data", "update_display_data"}:
            text = content["data"].get("text/plain", "")
            self.html = content["data"].get("text/html", self.html)
            if content.get("transient", {}).get("display_id"):
                self.frames.append(text)
            else:
                self.text += f"{text}\n"


class Kernel:
    """A kernel that runs."""

    def __init__(self, folder):
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("SAGADSL", "PYTEST", "COV"))}
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(folder), env=mine | {"PYTHONPATH": str(ROOT)})
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)

    def cell(self, code, *, stop_at=None):
        """Run a cell, and press the stop button when it shows *stop_at*; return all that it shows."""
        shown, pressed = Shown(), []

        def hook(message):
            shown.take(message["msg_type"], message["content"])
            if stop_at is not None and stop_at in shown.text and not pressed:
                pressed.append(stop_at)
                self.manager.interrupt_kernel()

        self.client.execute_interactive(code, output_hook=hook, timeout=PATIENCE, allow_stdin=False)
        assert stop_at is None or pressed, f"it never came to {stop_at}: {shown}"
        return shown

    @contextmanager
    def front_end(self):
        """Say with each cell which one it is, as notebooks do."""
        plain = self.client.session.msg

        def msg(kind, content=None, **told):
            return plain(kind, content, **(told | {"metadata": {"cellId": "7f3a"}}))

        self.client.session.msg = msg
        try:
            yield self
        finally:
            del self.client.session.msg

    def killed_by(self, code):
        """Run a cell that kills its kernel."""
        self.client.execute(code)
        self.manager.provisioner.process.wait(PATIENCE)
        assert self.manager.provisioner.process.returncode == -signal.SIGKILL

    def end(self):
        """End the kernel, whatever it does."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


@contextmanager
def started(folder):
    """Start a kernel in a folder, and end it."""
    kernel = Kernel(folder)
    try:
        yield kernel
    finally:
        kernel.end()
