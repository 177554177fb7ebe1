"""``python server.py FOLDER``: what of Ollama's HTTP API a chat and an embedding need, over llama.cpp in this process.

One thread each: with two, the spinning barriers of llama.cpp collapse where cores are shared. A client that leaves ends
its generation. FOLDER takes the converted weights. The address is printed once the server listens.
"""

from __future__ import annotations

import hashlib
import json
import select
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import weights

CHAT, EMBEDDING = "smollm2:135m", "all-minilm:latest"
CONTEXT, AT_ONCE, LONGEST = 4096, 2, 512
OPTIONS = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "seed": "seed",
    "stop": "stop",
    "num_predict": "max_tokens",
}
"""Ollama's names of options, and llama.cpp's."""


class Refused(Exception):
    """An answer with another status than 200."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status, self.error = status, error


class Left(Exception):
    """The client is gone."""


class Weights:
    """A model on disk, and in memory once it is asked."""

    def __init__(self, path: Path, *, embeds: bool) -> None:
        self.path, self.embeds = path, embeds
        self.digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self._lock, self._engine = threading.Lock(), None

    def engine(self) -> Any:
        """Return llama.cpp's own server, loaded."""
        import xllamacpp

        with self._lock:
            if self._engine is None:
                params = xllamacpp.CommonParams()
                params.model.path = str(self.path)
                params.verbosity, params.warmup = -1, False
                params.n_ctx, params.n_parallel = (512, 1) if self.embeds else (CONTEXT, AT_ONCE)
                if self.embeds:
                    params.embedding, params.n_ubatch = True, 512
                params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
                self._engine = xllamacpp.Server(params)
            return self._engine

    def described(self, name: str) -> dict[str, Any]:
        family = "bert" if self.embeds else "llama"
        details = {"parent_model": "", "format": "gguf", "family": family, "families": [family]}
        details |= {"parameter_size": "", "quantization_level": ""}
        told = {"name": name, "model": name, "modified_at": now(), "size": self.path.stat().st_size}
        return told | {"digest": self.digest, "details": details}


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class Ollama(ThreadingHTTPServer):
    """The server and its models."""

    daemon_threads = True

    def __init__(self, models: dict[str, Weights]) -> None:
        super().__init__(("127.0.0.1", 0), Line)
        self.models = models

    def model(self, name: str) -> Weights:
        found = self.models.get(name if ":" in name else f"{name}:latest")
        if found is None:
            raise Refused(404, f"model '{name}' not found")
        return found


class Line(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Ollama

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/api/tags":
            self.whole({"models": [each.described(name) for name, each in self.server.models.items()]})
        elif self.path == "/api/version":
            self.whole({"version": "0.0.0"})
        else:
            self.whole({"error": "404 page not found"}, 404)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            {"/api/chat": self.chat, "/api/embed": self.embed}[self.path](asked)
        except KeyError:
            self.whole({"error": "404 page not found"}, 404)
        except Refused as refused:
            self.whole({"error": refused.error}, refused.status)
        except (Left, OSError):
            self.close_connection = True

    def whole(self, told: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def chat(self, asked: dict[str, Any]) -> None:
        began = time.perf_counter_ns()
        model = self.server.model(asked["model"])
        if model.embeds:
            raise Refused(400, f'"{asked["model"]}" does not support chat')
        if asked.get("think"):
            raise Refused(400, f'"{asked["model"]}" does not support thinking')
        engine = model.engine()
        loaded = time.perf_counter_ns() - began
        head = {"model": asked["model"], "created_at": now()}
        stream = Stream(self, head, whole=asked.get("stream") is False)
        try:
            engine.handle_chat_completions(wanted(asked), stream.take)
        except (ValueError, RuntimeError) as error:
            raise Refused(400 if "schema" in str(error).lower() else 500, str(error)) from None
        stream.end(took=time.perf_counter_ns() - began, loaded=loaded)

    def embed(self, asked: dict[str, Any]) -> None:
        began = time.perf_counter_ns()
        model = self.server.model(asked["model"])
        if not model.embeds:
            raise Refused(400, "this model does not support embeddings")
        given = asked["input"]
        engine = model.engine()
        loaded = time.perf_counter_ns() - began
        told = engine.handle_embeddings({"input": [given] if isinstance(given, str) else given})
        if "error" in told:
            raise Refused(400, str(told["error"]))
        rows = [each["embedding"] for each in told["data"]]
        lengths = [sum(value * value for value in row) ** 0.5 or 1.0 for row in rows]
        self.whole(
            {
                "model": asked["model"],
                "embeddings": [[v / length for v in row] for row, length in zip(rows, lengths, strict=True)],
                "total_duration": time.perf_counter_ns() - began,
                "load_duration": loaded,
                "prompt_eval_count": told["usage"]["prompt_tokens"],
            }
        )


def wanted(asked: dict[str, Any]) -> dict[str, Any]:
    """Return a request as llama.cpp's server takes it."""
    request = {"messages": asked["messages"], "stream": True, "stream_options": {"include_usage": True}}
    request |= {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "max_tokens": LONGEST}
    request |= {OPTIONS[name]: value for name, value in (asked.get("options") or {}).items() if name in OPTIONS}
    form = asked.get("format")
    if isinstance(form, dict):
        compact = bounded(form) | {"x-guidance": {"whitespace_flexible": False}}
        request["response_format"] = {"type": "json_schema", "json_schema": {"schema": compact, "strict": True}}
    elif form == "json":
        request["response_format"] = {"type": "json_object"}
    return request


def bounded(schema: Any) -> Any:
    """Return *schema* with an end to every text and list: a small model loses itself in them, as it does in blanks."""
    if isinstance(schema, list):
        return [bounded(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    ends = {"string": {"maxLength": 200}, "array": {"maxItems": 4}}.get(str(schema.get("type")), {})
    return ends | {name: bounded(each) for name, each in schema.items()}


class Stream:
    """An answer, sent on as it comes."""

    def __init__(self, line: Line, head: dict[str, Any], *, whole: bool) -> None:
        self.line, self.head, self.is_whole = line, head, whole
        self.text: list[str] = []
        self.finish, self.usage, self.wrong, self.has_begun, self.has_left = "stop", {}, None, False, False

    def take(self, chunk: dict[str, Any]) -> bool:
        """Take in a chunk of llama.cpp's; true ends the generation."""
        if "error" in chunk:
            self.wrong = chunk["error"]
            return True
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices", ()):
            self.finish = choice.get("finish_reason") or self.finish
            piece = choice.get("delta", {}).get("content")
            if piece:
                self.text.append(piece)
                try:
                    self.part({"message": {"role": "assistant", "content": piece}, "done": False})
                except OSError:
                    self.has_left = True
        self.has_left = self.has_left or self.line_is_dead()
        return self.has_left

    def line_is_dead(self) -> bool:
        connection = self.line.connection
        readable, _, _ = select.select([connection], [], [], 0)
        return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""

    def part(self, told: dict[str, Any]) -> None:
        if self.is_whole:
            return
        if not self.has_begun:
            self.line.send_response(200)
            self.line.send_header("Content-Type", "application/x-ndjson")
            self.line.send_header("Transfer-Encoding", "chunked")
            self.line.end_headers()
            self.has_begun = True
        data = json.dumps(self.head | told).encode() + b"\n"
        self.line.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.line.wfile.flush()

    def end(self, *, took: int, loaded: int) -> None:
        if self.has_left:
            raise Left
        if self.wrong is not None:
            raise Refused(int(self.wrong.get("code", 500)), str(self.wrong.get("message", self.wrong)))
        counts = {"total_duration": took, "load_duration": loaded}
        counts |= {"prompt_eval_count": self.usage.get("prompt_tokens", 0), "prompt_eval_duration": took - loaded}
        counts |= {"eval_count": self.usage.get("completion_tokens", 0), "eval_duration": took - loaded}
        content = "".join(self.text) if self.is_whole else ""
        last = {"message": {"role": "assistant", "content": content}, "done": True}
        last |= {"done_reason": "length" if self.finish == "length" else "stop"} | counts
        if self.is_whole:
            self.line.whole(self.head | last)
            return
        self.part(last)
        self.line.wfile.write(b"0\r\n\r\n")
        self.line.wfile.flush()


def main(folder: str) -> None:
    """Serve until the parent hangs up."""
    models = {
        CHAT: Weights(weights.chat_model(), embeds=False),
        EMBEDDING: Weights(weights.embedding_model(Path(folder)), embeds=True),
    }
    with Ollama(models) as server:
        threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True).start()
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
