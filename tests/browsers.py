"""A real browser without a window: Chromium, told to talk to nobody, with a new and empty profile each time."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from PIL import Image

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
)  # fmt: skip


def chromium() -> str:
    """Return the program."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found, "these tests need Chromium: apt-get install chromium"
    return found


def browse(file: Path, *flags: str) -> str:
    """Open a file and return what the browser writes."""
    with tempfile.TemporaryDirectory() as profile:
        command = [chromium(), *FLAGS, f"--user-data-dir={profile}", *flags, file.as_uri()]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return ended.stdout


def dom(file: Path) -> str:
    """Return a page as it is once everything in it has been done."""
    return browse(file, "--dump-dom")


def seen(file: Path, *, dark: bool = False, size: tuple[int, int] = (760, 900)) -> Image.Image:
    """Return what a person sees whose system prefers light, or dark, colours."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "seen.png"
        prefers = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
        browse(file, prefers, f"--window-size={size[0]},{size[1]}", f"--screenshot={picture}")
        return Image.open(io.BytesIO(picture.read_bytes())).convert("RGB")


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """Give the address of a server, and the list of what it is asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
