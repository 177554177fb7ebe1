"""A service: a request's key is its run's, and what was cut off goes on when the service starts again."""

import contextlib
import json
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

ORDER = {"item": "lamp", "quantity": 2}
HEAVY = {"item": "anvil", "quantity": 11}


class Client:
    """A client of one server process, which is started and killed as the test likes."""

    def __init__(self, program):
        self.program = program

    @contextlib.contextmanager
    def serving(self, kill=None):
        """Start the service; the socket is there before it is, so that a request waits for the start."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/orders"
            command = ("-m", "uvicorn", "service:app", "--fd", listening.fileno(), "--no-access-log")
            process = self.program.start(*command, kill=kill, pass_fds=[listening.fileno()])
        with process:
            try:
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                self.shown = "".join(process.communicate(timeout=20))
        assert process.returncode == -(signal.SIGKILL if kill else signal.SIGTERM), self.shown

    def order(self, key, order=ORDER):
        """Place an order; return the answer."""
        return httpx.post(self.url, json=order, headers={"Idempotency-Key": key}, timeout=20, trust_env=False)


@pytest.fixture
def client(program):
    """Give a client of the service."""
    program.store = program.folder / "orders.db"
    return Client(program)


def test_what_was_cut_off_goes_on_when_the_service_starts(client, program):
    """Killed in an order, again while the next start goes on with it, in the next order; then both are made whole."""
    for order, point in (("o1", "write:done:2"), ("lost", "ship"), ("o2", "write:2")):
        with client.serving(kill=point), pytest.raises(httpx.HTTPError):
            client.order(order)
    with client.serving():
        answer = client.order("o2")
    assert answer.json() == {"reservation": "place-o2-reserve.json", "parcel": "place-o2-ship.json"}
    parts = [f"place-{order}-{step}" for order in ("o1", "o2") for step in ("reserve", "ship")]
    assert program.names("outbox/*.json") == [f"outbox/{part}.json" for part in parts]
    assert program.journal == [["completed", "reserve done", "ship done"]] * 2


def test_a_key_is_one_order(client, program):
    """The same request again gets the same answer, another one with its key 409, one that fails leaves nothing."""
    with client.serving():
        with ThreadPoolExecutor() as at_once:
            both = [answer.status_code for answer in at_once.map(client.order, ["o1", "o1"])]
        assert sorted(both) in ([200, 200], [200, 409])
        assert client.order("o1").status_code == 200
        conflict = client.order("o1", {"item": "lamp", "quantity": 3})
        assert (conflict.status_code, "exists with other arguments" in conflict.text) == (409, True)
        heavy = client.order("o2", HEAVY)
        assert (heavy.status_code, heavy.json()["detail"]) == (
            422,
            {"error": "too heavy for a parcel", "undone": ["reserve"]},
        )
    assert program.names("outbox/*.json") == ["outbox/place-o1-reserve.json", "outbox/place-o1-ship.json"]
    assert json.loads(program.text("outbox/place-o1-reserve.json")) == ORDER
    failed = ["compensated", "reserve done", "ship failed", "-reserve"]
    assert program.journal == [["completed", "reserve done", "ship done"], failed]


def test_a_compensation_that_was_cut_off_goes_on_too(client, program):
    """Killed while the reservation of an order that failed is released."""
    with client.serving(kill="release"), pytest.raises(httpx.HTTPError):
        client.order("o1", HEAVY)
    assert program.names("outbox/*.json") == ["outbox/place-o1-reserve.json"]
    with client.serving():
        assert client.order("o2").status_code == 200
    assert program.names("outbox/*.json") == ["outbox/place-o2-reserve.json", "outbox/place-o2-ship.json"]
    assert program.journal[0] == ["compensated", "reserve done", "ship failed", "-reserve"]
