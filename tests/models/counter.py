"""What stands between a program and a server of models, and counts: which calls began, which ended, how many at once.

It looks at nothing but HTTP, so a real Ollama is counted as well as ours.
"""

from __future__ import annotations

import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

PAID = {"/api/chat", "/api/embed", "/api/generate"}


class Counter(ThreadingHTTPServer):
    """*begun* are the bodies of the calls that are paid for, in order; *ended* those whose answer came whole.

    *when_begun* is called with each of the former, before it is passed on.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), Passage)
        self.behind = urlsplit(server if "://" in server else f"http://{server}")
        self.begun: list[dict] = []
        self.ended: list[dict] = []
        self.now = self.most = 0
        self.lock = threading.Lock()
        self.when_begun = lambda call: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def questions(self, calls: list[dict]) -> list[str]:
        """Return what was last said in each of these calls."""
        return [call["messages"][-1]["content"] for call in calls if "messages" in call]

    def handle_error(self, request, client_address) -> None:
        """Say nothing: clients are killed here."""


class Passage(BaseHTTPRequestHandler):
    """One connection, passed on."""

    server: Counter

    def log_message(self, *args) -> None:
        pass

    def do_GET(self) -> None:
        self.pass_on(b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path not in PAID:
            self.pass_on(body)
            return
        counter, call = self.server, json.loads(body)
        with counter.lock:
            counter.begun.append(call)
            counter.now += 1
            counter.most = max(counter.most, counter.now)
        try:
            counter.when_begun(call)
            self.pass_on(body)
            with counter.lock:
                counter.ended.append(call)
        finally:
            with counter.lock:
                counter.now -= 1

    def pass_on(self, body: bytes) -> None:
        to = self.server.behind
        connection = http.client.HTTPConnection(to.hostname, to.port or 11434, timeout=120)
        try:
            connection.request(self.command, self.path, body or None, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.end_headers()
            while piece := answer.read1(65536):
                self.wfile.write(piece)
                self.wfile.flush()
        finally:
            connection.close()
            self.close_connection = True
