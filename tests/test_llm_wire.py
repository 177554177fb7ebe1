"""The genuine Ollama client over loopback HTTP: whatever happens on the wire, a step knows what it means."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import sys
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import sagadsl
from sagadsl import llm
from sagadsl.llm import LLM, Timeouts
from sagadsl.llm.ollama import Ollama

MODEL = "tiny:1b"


class Wire(ThreadingHTTPServer):
    """A server that answers chats by a script, one act a call; *seen* are the calls, *gone* says that a client left."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Line)
        self.script: list = []
        self.seen: list[tuple[str, dict]] = []
        self.headers: list = []
        self.gone = threading.Event()
        self.answer = None
        self.models = [{"model": MODEL, "name": MODEL, "digest": "d1"}]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def chats(self) -> list[dict]:
        return [body for path, body in self.seen if path == "/api/chat"]

    def handle_error(self, request, client_address) -> None:
        """Say nothing: connections are meant to break here."""


class Line(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Wire

    def log_message(self, *args) -> None:
        pass

    def do_GET(self) -> None:
        self.server.seen.append((self.path, {}))
        self.server.headers.append(self.headers)
        self.whole({"models": self.server.models} if self.server.answer is None else self.server.answer)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, body))
        self.server.headers.append(self.headers)
        try:
            self.server.script.pop(0)(self)
        except OSError:
            self.server.gone.set()
            self.close_connection = True

    def whole(self, told, status=200) -> None:
        data = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def part(self, told) -> None:
        data = (told if isinstance(told, bytes) else json.dumps(told).encode()) + b"\n"
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def end(self) -> None:
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def hang_up(self) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def until_gone(self) -> None:
        """Wait until the client leaves."""
        self.connection.recv(1)
        self.server.gone.set()
        self.close_connection = True


# -- what a server may do ---------------------------------------------------------------------------------------------


def piece(text):
    return {"model": MODEL, "created_at": "2026-01-01T00:00:00Z", "message": {"role": "assistant", "content": text}}


def last(reason="stop", tokens=3):
    counts = {"prompt_eval_count": 5, "eval_count": tokens}
    return piece("") | {"done": True, "done_reason": reason} | counts


def says(*words, reason="stop"):
    def act(line):
        line.begin()
        for word in words:
            line.part(piece(word) | {"done": False})
        line.part(last(reason, len(words)))
        line.end()

    return act


def refuses(status, error):
    return lambda line: line.whole({"error": error}, status)


def echoes(status):
    """Refuse, and say what was sent to be let in."""
    return lambda line: refuses(status, f"no user: {line.headers['authorization']}")(line)


def drops(line):
    line.hang_up()


def cuts(line):
    line.begin()
    line.part(piece("half ") | {"done": False})
    line.hang_up()


def fails_late(line):
    line.begin()
    line.part(piece("half ") | {"done": False})
    line.part({"error": "llama runner process no longer running"})
    line.end()


def ends_early(line):
    line.begin()
    line.part(piece("half ") | {"done": False})
    line.end()


def babbles(line):
    line.begin()
    line.part(b"<html>")
    line.end()


def is_silent(line):
    line.until_gone()


def stops_talking(line):
    line.begin()
    line.part(piece("half ") | {"done": False})
    line.until_gone()


def talks_for_ever(line):
    line.begin()
    while True:
        line.part(piece("on ") | {"done": False})


@pytest.fixture
def wire():
    """Give a server."""
    with Wire() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def free_port():
    """Give an address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def ask(colour, runtime, wire):
    """Have a saga of one step asked, with the genuine client; return its outcome and the answers on record."""

    def play(*script, timeouts=None, host=None, headers=None, **options):
        wire.script[:] = script
        assistant = LLM(MODEL, host=host or wire.url, headers=headers, timeouts=timeouts)

        @assistant.step(name="ask", **options)
        @colour.coloured
        def ask(topic: str) -> str:
            return topic

        @colour.saga(runtime=runtime, name="research")
        def research():
            return (yield ask("cats"))

        outcome = colour.run(research.outcome())
        return outcome, llm.answers(runtime.runs()[0])

    return play


def test_an_answer_is_streamed_and_comes_whole(ask, wire):
    """What is sent is what Ollama documents; a stream inside, so that an interruption can end it."""
    outcome, (answer,) = ask(says("two ", "words"), options={"temperature": 0.5, "num_predict": 9})
    assert outcome.value == answer.value == "two words"
    (sent,) = wire.chats
    assert sent["stream"] is True
    assert sent["messages"] == [{"role": "user", "content": "cats"}]
    assert (sent["options"]["temperature"], sent["options"]["num_predict"]) == (0.5, 9)
    assert sent["options"]["seed"] == answer.options["seed"]
    assert "format" not in sent
    assert (answer.digest, answer.tokens) == ("d1", 5 + 2)


def test_the_schema_goes_with_the_request(ask, wire):
    """As ``format``."""
    outcome, _ = ask(says("[1, ", "2]"), returns=list[int])
    assert outcome.value == [1, 2]
    assert wire.chats[0]["format"] == {"type": "array", "items": {"type": "integer"}}


FAULTS = {
    "busy": (refuses(503, "server busy, please try again"), "failed (503): server busy"),
    "too many requests": (refuses(429, "slow down"), "failed (429): slow down"),
    "an error of the server": (refuses(500, "out of memory"), "failed (500): out of memory"),
    "a dropped connection": (drops, "broke off"),
    "a cut connection": (cuts, "broke off"),
    "an error in the middle": (fails_late, "failed (-1): llama runner process no longer running"),
    "an end without done": (ends_early, "ended in the middle of the answer"),
    "no JSON": (babbles, "gave no answer of Ollama's"),
    "JSON that is no answer": (lambda line: line.whole([1]), "gave no answer of Ollama's"),
    "an error that is no text": (lambda line: line.whole({"error": {"code": 7}}), "gave no answer of Ollama's"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_breaks_on_the_way_is_tried_again(name, ask, wire):
    """The next attempt asks the same; what was said, and why it was no answer, is on record."""
    act, told = FAULTS[name]
    outcome, (answer,) = ask(act, says("fine"))
    assert outcome.value == "fine"
    assert len(wire.chats) == 2
    assert wire.chats[0] == wire.chats[1]
    assert told in answer.tries[0]["complaint"]
    assert answer.tries[0]["text"] == ("half " if act in {cuts, fails_late, ends_early} else "")


@pytest.mark.parametrize("name", FAULTS)
def test_what_breaks_for_good_fails_the_step_with_the_cause(name, ask, wire):
    """It is a `TransportError` of ours, with the client's own behind it where there is one."""
    act, told = FAULTS[name]
    outcome, (answer,) = ask(act, retries=0)
    assert type(outcome.error) is llm.TransportError
    assert told in str(outcome.error)
    assert (outcome.error.__cause__ is None) == (act is ends_early)
    assert answer.state == "failed"
    assert len(wire.chats) == 1


@pytest.mark.parametrize("act", [drops, fails_late, babbles, refuses(400, "no")])
def test_an_error_shows_where_the_step_is_called_and_not_the_way_to_the_server(act, ask):
    """What is wrong stands in its text; what the client raised is named below it, in a line."""
    outcome, _ = ask(act, retries=0)
    shown = "".join(traceback.format_exception(outcome.error))
    assert "(yield ask(" in shown
    assert type(outcome.error.__cause__).__name__ in shown
    assert "sagadsl/llm/" not in shown
    assert "site-packages" not in shown


def test_an_interruption_shows_where_the_step_is_called_and_not_the_way_to_the_server(wire):
    """It came somewhere in the client of the client."""
    wire.script[:] = [talks_for_ever]

    def stop(progress):
        raise KeyboardInterrupt

    @LLM(MODEL, host=wire.url, progress=stop).step
    def ask(topic: str) -> str:
        return topic

    with pytest.raises(KeyboardInterrupt) as stopped:
        ask("cats")
    frames = [frame.filename for frame in traceback.extract_tb(stopped.tb)]
    assert frames[0] == __file__
    assert [frame for frame in frames if "site-packages" in frame or frame.endswith("llm/ollama.py")] == []
    assert wire.gone.wait(10)


@pytest.mark.parametrize(
    ("act", "timeouts"),
    [
        (is_silent, Timeouts(first=0.05)),
        (stops_talking, Timeouts(between=0.05)),
        (is_silent, Timeouts(total=0.05)),
        (stops_talking, Timeouts(total=0.05)),
        (talks_for_ever, Timeouts(total=0.05)),
    ],
    ids=["first token", "between tokens", "total, silent", "total, silent again", "total, talking"],
)
def test_a_call_that_takes_too_long_is_ended_and_the_server_is_left(act, timeouts, ask, wire):
    """The client alone would wait for ever."""
    outcome, _ = ask(act, timeouts=timeouts, retries=0)
    assert type(outcome.error) is llm.TransportError
    assert "raise timeouts=" in str(outcome.error)
    assert wire.gone.wait(10)


def test_a_server_that_cannot_be_reached_is_waited_for_as_long_as_is_said(ask):
    """Its queue is full: nothing comes back, as from a machine that is not there."""
    with socket.socket() as full, contextlib.ExitStack() as queue:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(2):
            waits = queue.enter_context(socket.socket())
            waits.setblocking(False)
            waits.connect_ex(full.getsockname())
        host = f"127.0.0.1:{full.getsockname()[1]}"
        outcome, _ = ask(host=host, timeouts=Timeouts(connect=0.05), retries=0)
        assert f"no server answers at {host}" in str(outcome.error)


def test_a_slow_first_token_is_not_measured_by_the_time_between_tokens(ask, wire):
    """A server may have to load the model first: the short timeout counts from the first token on."""
    asked = threading.Event()

    def loads(line):
        assert not asked.wait(0.3)
        says("fine")(line)

    outcome, _ = ask(loads, timeouts=Timeouts(first=30, between=0.1), retries=0)
    assert outcome.value == "fine"


def test_an_answer_cut_at_its_limit_is_asked_for_with_twice_as_much(ask, wire):
    """The client says nothing of it."""
    outcome, _ = ask(says("[1", reason="length"), says("[1]"), returns=list[int], options={"num_predict": 2})
    assert outcome.value == [1]
    assert [each["options"]["num_predict"] for each in wire.chats] == [2, 4]


def test_a_refusal_is_final_and_says_what_to_type(ask, wire):
    """A 400 is what the server will say again; so is a model that went away meanwhile."""
    outcome, _ = ask(refuses(400, f'"{MODEL}" does not support thinking'), retries=5)
    assert type(outcome.error) is llm.RefusedError
    assert f"ollama show {MODEL}" in str(outcome.error)
    outcome, _ = ask(refuses(404, f"model '{MODEL}' not found"), retries=5)
    assert type(outcome.error) is llm.RefusedError
    assert str(outcome.error).endswith(f"does not have it: OLLAMA_HOST={wire.url[7:]} ollama pull {MODEL}")
    assert len(wire.chats) == 2


def test_a_refusal_that_is_about_something_else_says_so(ask, wire):
    """Who asks, or another kind of server, which knows nothing of a model; at no length, whatever it says."""
    outcome, _ = ask(refuses(401, "unauthorized"))
    assert str(outcome.error).endswith("refuses (401): unauthorized; who asks is said by headers=, or OLLAMA_API_KEY")
    page = b"<html>" + b"not here " * 100
    outcome, _ = ask(lambda line: line.whole(page, 404))
    assert str(outcome.error).endswith("is that an Ollama server? See host= and OLLAMA_HOST")
    assert "ollama pull" not in str(outcome.error)
    assert len(str(outcome.error)) < 400
    assert len(wire.chats) == 2


@pytest.mark.parametrize("told", [[1], {"models": None}, {"models": [7]}, {}, b"<html>"])
def test_a_server_that_is_not_ollamas_is_told_before_anything_is_asked(told, wire):
    """Whatever else it answers to the question which models there are."""
    wire.answer = told
    with pytest.raises(llm.TransportError, match="gave no answer of Ollama's"):
        LLM(MODEL, host=wire.url).check()


def test_a_message_that_cannot_be_sent_is_a_mistake_of_the_program(ask, wire):
    """Not of the server, so it is not tried again."""
    assistant = LLM(MODEL, host=wire.url)

    @assistant.step
    def talk() -> list[dict[str, object]]:
        return [{"role": "user", "content": ["a", "b"]}]

    with pytest.raises(sagadsl.UsageError, match="this message of a prompt cannot be sent"):
        talk()
    assert wire.chats == []


@pytest.mark.parametrize("host", ["ftp://here", "here:port", "http://[here", "here:99999", "ada:sesame@here:port"])
def test_what_is_no_address_is_told_where_it_is_written(host, monkeypatch):
    """Before anything runs, and without who would ask."""
    with pytest.raises(sagadsl.UsageError, match="no address of a server") as told:
        LLM(MODEL, host=host)
    assert "sesame" not in str(told.value)
    monkeypatch.setenv("OLLAMA_HOST", host)
    with pytest.raises(sagadsl.UsageError, match="OLLAMA_HOST"):
        LLM(MODEL)


def test_one_server_is_one_however_it_is_spelt(monkeypatch):
    """So that a limit counts for all who call it."""
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    here = [
        None,
        "localhost",
        "127.0.0.1:11434",
        "http://localhost:11434/",
        "0.0.0.0",  # noqa: S104  # where others listen
        "http://ada:sesame@127.0.0.1:11434",
    ]
    assert {Ollama(MODEL, host=host).server for host in here} == {"127.0.0.1:11434"}
    there = ["https://models.example", "https://models.example:443/", "https://ada@models.example"]
    assert {Ollama(MODEL, host=host).server for host in there} == {"https://models.example:443"}
    assert [Ollama(MODEL, host=host).server for host in ("[::1]", ":1", "a/b/")] == [
        "[::1]:11434",
        "127.0.0.1:1",
        "a:11434/b",
    ]


def test_a_missing_model_is_told_before_anything_is_asked(ask, wire):
    """By a step, and by `check`, with the command to type."""
    wire.models = [{"model": "other:latest", "digest": "d2"}]
    outcome, _ = ask(says("fine"), retries=5)
    assert type(outcome.error) is llm.RefusedError
    assert f"ollama pull {MODEL}" in str(outcome.error)
    assert wire.chats == []
    with pytest.raises(llm.RefusedError, match=f"ollama pull {MODEL}"):
        LLM(MODEL, host=wire.url).check()
    assert LLM("other", host=wire.url).check() == "d2"


def test_no_server_is_told_with_the_command_to_type(ask, free_port, monkeypatch, wire):
    """Whether or not a host is named."""
    outcome, _ = ask(host=free_port, retries=0)
    assert type(outcome.error) is llm.TransportError
    assert f"no server answers at {free_port}; start it with: OLLAMA_HOST={free_port} ollama serve" in str(
        outcome.error
    )
    monkeypatch.setenv("OLLAMA_HOST", free_port)
    with pytest.raises(llm.TransportError, match=f"start it with: OLLAMA_HOST={free_port} ollama serve"):
        LLM(MODEL).check()
    monkeypatch.setenv("OLLAMA_HOST", wire.url)
    assert LLM(MODEL).check() == "d1"
    monkeypatch.delenv("OLLAMA_HOST")
    assert Ollama(MODEL).server == "127.0.0.1:11434"


def test_no_server_is_told_of_a_stream_too(free_port):
    """The client lets another exception through there."""
    model = Ollama(MODEL, host=free_port)
    request = llm.Request(messages=({"role": "user", "content": "x"},), options={"seed": 1})
    with pytest.raises(llm.TransportError, match="no server answers"):
        model.ask(request, print)
    with pytest.raises(llm.TransportError, match="no server answers"):
        asyncio.run(model.aask(request, print))


def test_an_interrupted_step_leaves_the_server_at_once(wire, runtime):
    """The run stays open; nothing is compensated, and the generation ends."""
    wire.script[:] = [talks_for_ever, says("fine")]
    heard = asyncio.Event()
    assistant = LLM(MODEL, host=wire.url, progress=lambda progress: heard.set())

    @assistant.step
    async def ask(topic: str) -> str:
        return topic

    @sagadsl.saga(runtime=runtime)
    async def research():
        return await ask("cats")

    async def main():
        task = asyncio.create_task(research())
        await heard.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return wire.gone.wait(10)

    assert asyncio.run(main())
    assert runtime.runs()[0].is_interrupted
    assert asyncio.run(research()) == "fine"


def test_embeddings_go_over_the_same_wire(wire, colour):
    """In both colours."""
    wire.script[:] = [lambda line: line.whole({"embeddings": [[1.0, 0.5]], "prompt_eval_count": 2})]
    embeddings = LLM(MODEL, host=wire.url)
    vectors = colour.run(embeddings.aembed(["cats"]) if colour.is_async else embeddings.embed(["cats"]))
    assert list(vectors) == [(1.0, 0.5)]
    assert wire.seen[-1] == ("/api/embed", {"model": MODEL, "input": ["cats"]})
    wire.script[:] = [refuses(400, "this model does not support embeddings")]
    with pytest.raises(llm.RefusedError, match="does not support embeddings"):
        colour.run(embeddings.aembed(["cats"]) if colour.is_async else embeddings.embed(["cats"]))


def test_secrets_go_to_the_server_and_not_into_the_file(ask, wire, tmp_path, monkeypatch):
    """Headers, the key of the environment, and who asks in a URL: neither when it works nor when it breaks."""
    monkeypatch.setenv("OLLAMA_API_KEY", "sesame-environment")
    host = wire.url.replace("http://", "http://ada:sesame-url@")
    ask(says("fine"), host=wire.url, headers={"x-team": "sesame-header"})
    assert {"sesame-header"} == {each["x-team"] for each in wire.headers}
    assert {"Bearer sesame-environment"} == {each["authorization"] for each in wire.headers}
    for act in (drops, cuts, echoes(401), echoes(500), babbles):
        ask(act, host=host, headers={"authorization": "Bearer sesame-header"}, retries=0)
        ask(act, host=host, retries=0)
    sent = {each["authorization"] for each in wire.headers}
    assert {"Bearer sesame-header", f"Basic {base64.b64encode(b'ada:sesame-url').decode()}"} <= sent
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"broke off" in written
    assert b"no user: Bearer ..." in written
    assert b"sesame" not in written
    assert base64.b64encode(b"ada:sesame-url") not in written


def test_what_the_client_needs_is_named(monkeypatch):
    """The extra, with the command to type."""
    for missing in ("ollama", "httpx"):
        monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(sagadsl.UsageError, match=r"pip install 'sagadsl\[llm\]'"):
        LLM(MODEL).check()
