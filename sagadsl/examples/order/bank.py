"""The payment service: HTTP on this machine, its books in a file that outlives it.

What it answers: 201 money taken, 200 it was taken before under this key, 402 card declined, 503 busy, 409 the key was
refunded, or nothing at all. Its temper is chosen with ``--payment``.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from attrs import frozen

SCHEMA = """
create table if not exists payments (
    number integer primary key, key text not null unique, order_id text, amount text, state text not null) strict;
"""
ALL = "select order_id, amount, state from payments where amount is not null order by number"
BY_KEY = "select number, amount, state from payments where key = ?"
REFUND = "update payments set state = 'refunded' where key = ? and state = 'taken' returning amount"


@frozen
class Temper:
    """How the service treats the first *requests* to charge a card."""

    told: str
    status: int = 201
    answers: bool = True
    requests: float = float("inf")


TEMPERS = {
    "ok": Temper("takes the money"),
    "declined": Temper("declines the card (402)", status=402),
    "busy": Temper("is busy twice (503), then takes the money", status=503, requests=2),
    "late": Temper("takes the money, but its first answer never arrives", answers=False, requests=1),
    "hang": Temper("takes the money and never answers", answers=False),
}

REFUSALS = {402: "card declined", 503: "busy"}


class Bank(ThreadingHTTPServer):
    """The service, listening from its construction on, until `stop`."""

    def __init__(self, path: Path, temper: str) -> None:
        super().__init__(("127.0.0.1", 0), Till)
        self.path = path
        self.temper = TEMPERS[temper]
        self.asked = 0
        self.closing = threading.Event()
        self.guard = threading.Lock()
        with closing(sqlite3.connect(path)) as books:
            books.executescript(SCHEMA)
        threading.Thread(target=self.serve_forever, args=(0.02,), name="payment service", daemon=True).start()

    @property
    def address(self) -> str:
        """Where to reach it."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def stop(self) -> None:
        """Let hanging requests go, and stop listening."""
        self.closing.set()
        self.shutdown()
        self.server_close()

    def respond(self, method: str, path: str, key: str, body: Any) -> tuple[int, Any] | None:
        """Return the status and the answer to a request, or `None`: it gets no answer."""
        with self.guard, closing(sqlite3.connect(self.path)) as books, books:
            if (method, path) == ("GET", "/payments"):
                return 200, {"payments": books.execute(ALL).fetchall()}
            if (method, path) == ("POST", "/refunds"):
                return 200, {"refunded": refund(books, key)}
            if (method, path) != ("POST", "/payments"):
                return 404, {"error": "no such thing here"}
            self.asked += 1
            temper = self.temper if self.asked <= self.temper.requests else TEMPERS["ok"]
            if temper.status in REFUSALS:
                return temper.status, {"error": REFUSALS[temper.status]}
            answer = charge(books, key, body["order_id"], body["amount"])
        return answer if temper.answers else None


def charge(books: sqlite3.Connection, key: str, order_id: str, amount: str) -> tuple[int, Any]:
    """Take money, once for each key."""
    values = (key, order_id, amount)
    taken = books.execute("insert or ignore into payments values (null, ?, ?, ?, 'taken')", values).rowcount
    number, amount, state = books.execute(BY_KEY, (key,)).fetchone()
    if state != "taken":
        return 409, {"error": "this key was refunded"}
    return 201 if taken else 200, {"number": number, "amount": amount}


def refund(books: sqlite3.Connection, key: str) -> str | None:
    """Give money back and return how much, or `None`. A key that is refunded first can never be charged."""
    row = books.execute(REFUND, (key,)).fetchone()
    if row is None:
        books.execute("insert or ignore into payments values (null, ?, null, null, 'refunded')", (key,))
    return None if row is None else str(row[0])


class Till(BaseHTTPRequestHandler):
    """One request."""

    server: Bank

    def do_GET(self) -> None:
        """Answer a question."""
        self.answer(None)

    def do_POST(self) -> None:
        """Do what is asked."""
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def answer(self, body: Any) -> None:
        """Answer, or hang until the service stops."""
        answer = self.server.respond(self.command, self.path, self.headers.get("Idempotency-Key", ""), body)
        if answer is None:
            self.server.closing.wait()
            return
        status, value = answer
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet: the client tells."""
