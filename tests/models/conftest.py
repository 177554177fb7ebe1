"""A server of models: ours, or the Ollama that ``OLLAMA_HOST`` names (it needs ``smollm2:135m`` and ``all-minilm``)."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models.counter import Counter

CHAT, EMBEDDING = "smollm2:135m", "all-minilm"


@pytest.fixture(scope="session")
def ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of a server; ours runs for the session. What it needs is not skipped: it must be there."""
    real = os.environ.get("OLLAMA_HOST")
    if real:
        yield real
        return
    command = [sys.executable, str(Path(__file__).with_name("server.py")), str(tmp_path_factory.mktemp("weights"))]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **streams) as server:
        url = server.stdout.readline().strip()
        assert url, "the server of models did not start"
        yield url
        server.stdin.close()


@pytest.fixture
def counter(ollama: str) -> Iterator[Counter]:
    """Give a counter in front of the server."""
    with Counter(ollama) as counting:
        thread = threading.Thread(target=counting.serve_forever, args=(0.01,))
        thread.start()
        yield counting
        counting.shutdown()
        thread.join()
