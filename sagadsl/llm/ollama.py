"""Ollama, by its own client: streamed inside, so that each of the timeouts can end a call, and an interruption too.

What the client raises is translated here, each of its ways once: it lets httpx's own exceptions through where it
streams, gives what fails in the middle of an answer the status -1, and says nothing at all of a stream that ends early.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import os
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import evolve, frozen

from sagadsl import SagaError, UsageError
from sagadsl.llm.errors import LLMError, RefusedError, TransportError
from sagadsl.llm.values import Heard, Reply, Request, Timeouts

FINAL = range(400, 500)
BUSY = frozenset({408, 429})
"""Statuses among those that say "your mistake" which another try may mend."""
LOCKED = frozenset({401, 403, 407})
MISSING = 404
PORTS = {"http": 80, "https": 443}
LOOKING = 30.0
"""Seconds that a server may take to say which models it has."""
SECRET = 8
"""How long a word of a header must be to be told from what anybody says."""


class Ollama:
    """A model of an Ollama server: *name* as ``ollama pull`` has it.

    *server* is where that is, the same however ``OLLAMA_HOST`` or *host* spell it, and without who asks. *headers* go
    with each request, and nowhere else.
    """

    def __init__(self, name: str, *, host: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        if not name:
            msg = "LLM needs the name of a model, such as 'llama3.2'"
            raise UsageError(msg)
        self.name = name
        self._host = host or os.environ.get("OLLAMA_HOST") or None
        self.server, who = _address(self._host or "")
        self._headers = who | dict(headers or {})

    def inspect(self, timeouts: Timeouts) -> str:
        """Return the digest of the model."""
        with Translating(self), _client(_library().Client, self, _at_once(timeouts)) as client:
            return self._digest_among(client.list().models)

    async def ainspect(self, timeouts: Timeouts) -> str:
        """Return the digest of the model."""
        with Translating(self):
            async with _client(_library().AsyncClient, self, _at_once(timeouts)) as client:
                return self._digest_among((await client.list()).models)

    def ask(self, request: Request, heard: Heard) -> Reply:
        """Return the answer, telling *heard* of each piece."""
        hearing = Hearing(self, request.timeouts, heard)
        with Translating(self), _client(_library().Client, self, request.timeouts) as client:
            with contextlib.closing(self._begun(client, request)) as stream:
                for part in stream:
                    hearing.take(part)
            return hearing.reply()

    async def aask(self, request: Request, heard: Heard) -> Reply:
        """Return the answer, telling *heard* of each piece."""
        hearing = Hearing(self, request.timeouts, heard)
        with Translating(self):
            async with (
                _client(_library().AsyncClient, self, request.timeouts) as client,
                contextlib.aclosing(await self._begun(client, request)) as stream,
            ):
                async for part in stream:
                    hearing.take(part)
            return hearing.reply()

    def embed(self, texts: list[str], timeouts: Timeouts) -> tuple[list[list[float]], int]:
        """Return one vector for each text, and the number of tokens read."""
        with Translating(self), _client(_library().Client, self, timeouts) as client:
            answer = client.embed(self.name, texts)
            return [list(row) for row in answer.embeddings], answer.prompt_eval_count or 0

    async def aembed(self, texts: list[str], timeouts: Timeouts) -> tuple[list[list[float]], int]:
        """Return one vector for each text, and the number of tokens read."""
        with Translating(self):
            async with _client(_library().AsyncClient, self, timeouts) as client:
                answer = await client.embed(self.name, texts)
                return [list(row) for row in answer.embeddings], answer.prompt_eval_count or 0

    def _begun(self, client: Any, request: Request) -> Any:
        """Return what will ask and stream the answer; an asynchronous client's is to be awaited.

        Raises:
            UsageError: The client has no form for the prompt.
        """
        for each in request.messages:
            try:
                _library().Message.model_validate({name: part for name, part in each.items() if name != "images"})
            except ValueError as error:
                msg = f"{self.name}: this message of a prompt cannot be sent: {each!r:.200}: {error}"
                raise UsageError(msg) from error
        asked = {"model": self.name, "messages": list(request.messages), "options": dict(request.options)}
        return client.chat(**asked, format=request.schema, stream=True)

    def _digest_among(self, models: Any) -> str:
        wanted = {self.name, f"{self.name}:latest"}
        for each in models:
            if each.model in wanted:
                return str(each.digest or "")
        raise self._missing()

    def _missing(self) -> RefusedError:
        return RefusedError(self.name, f"{self.server} does not have it: {self._typed(f'ollama pull {self.name}')}")

    def _typed(self, command: str) -> str:
        """Return a command to type, for the server that is meant."""
        return command if self._host is None else f"OLLAMA_HOST={self.server} {command}"

    def meaning(self, error: BaseException) -> LLMError | None:
        """Return what an exception of the client's means to a step, `None` of one that is not the client's."""
        if isinstance(error, SagaError) or not isinstance(error, Exception):
            return None
        import httpx

        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | ConnectionError):
            reason = f"no server answers at {self.server}; start it with: {self._typed('ollama serve')}"
        elif isinstance(error, httpx.TimeoutException):
            silence = f"said nothing for too long ({type(error).__name__})"
            reason = f"{self.server} {silence}; raise timeouts= if it needs longer"
        elif isinstance(error, httpx.HTTPError | httpx.StreamError):
            reason = f"{self.server} broke off: {self._quoted(error)}"
        elif isinstance(error, _library().ResponseError):
            return self._refusal(error)
        elif isinstance(error, ValueError | TypeError | AttributeError):  # no JSON, or none that the client expects
            reason = f"{self.server} gave no answer of Ollama's: {self._quoted(error)}"
        else:
            return None
        return TransportError(self.name, reason)

    def _refusal(self, error: Any) -> LLMError:
        status, said = error.status_code, self._quoted(error.error)
        if status not in FINAL or status in BUSY:
            return TransportError(self.name, f"{self.server} failed ({status}): {said}")
        if status == MISSING and "model" in said:
            return self._missing()
        cure = f"what it can do: {self._typed(f'ollama show {self.name}')}"
        if status == MISSING:
            cure = "is that an Ollama server? See host= and OLLAMA_HOST"
        elif status in LOCKED:
            cure = "who asks is said by headers=, or OLLAMA_API_KEY"
        return RefusedError(self.name, f"{self.server} refuses ({status}): {said}; {cure}")

    def _quoted(self, said: object) -> str:
        """Return what somebody said, not at length."""
        return f"{self.without_secrets(str(said)):.200}"

    def without_secrets(self, text: str) -> str:
        """Return a text without what is sent to be let in: servers like to say it back."""
        words = " ".join((*self._headers.values(), os.environ.get("OLLAMA_API_KEY", ""))).split()
        for word in words:
            text = text.replace(word, "...") if len(word) >= SECRET else text
        return text


@frozen
class Translating:
    """Within it the client is used; what that raises comes out as what a step understands."""

    model: Ollama

    def __enter__(self) -> None:
        """Begin to use it."""

    def __exit__(self, cls: object, error: BaseException | None, traceback: object) -> None:
        """Say in one sentence what went wrong; the way through the client tells nobody anything.

        Raises:
            LLMError: Something did.
        """
        meant = None if error is None else self.model.meaning(error)
        if error is not None and meant is not None:
            error.__traceback__ = error.__cause__ = error.__context__ = None
            raise meant from (error if self.model.without_secrets(str(error)) == str(error) else None)


class Hearing:
    """An answer as it comes: its pieces so far, and whether there is time for more."""

    def __init__(self, model: Ollama, timeouts: Timeouts, heard: Heard) -> None:
        self._model, self._heard, self._total = model, heard, timeouts.total
        self._deadline = None if timeouts.total is None else time.monotonic() + timeouts.total
        self._pieces: list[str] = []
        self._last: Any = None

    def take(self, part: Any) -> None:
        """Take in a part of the answer.

        Raises:
            TransportError: The time is up.
        """
        piece = part.message.content or ""
        if piece:
            self._pieces.append(piece)
            self._heard(piece)
        self._last = part if part.done else None
        if self._last is None and self._deadline is not None and time.monotonic() > self._deadline:
            raise TransportError(self._model.name, f"the answer took longer than {self._total:g} s; raise timeouts=")

    def reply(self) -> Reply:
        """Return the answer.

        Raises:
            TransportError: The stream ended without saying that the answer has.
        """
        if self._last is None:
            raise TransportError(self._model.name, f"{self._model.server} ended in the middle of the answer")
        return Reply(
            text="".join(self._pieces),
            is_cut=self._last.done_reason == "length",
            prompt_tokens=self._last.prompt_eval_count or 0,
            tokens=self._last.eval_count or 0,
        )


def _address(host: str) -> tuple[str, dict[str, str]]:
    """Return where a server is, as the client reads *host*, and the header that says who asks, if it does.

    Raises:
        UsageError: It is no address.
    """
    try:
        url = urlsplit(host if "://" in host else f"http://{host}")
        port = url.port or (PORTS[url.scheme] if "://" in host else 11434)
    except (KeyError, ValueError):
        written = host.rpartition("@")[2]
        msg = f"host= or OLLAMA_HOST is {written!r}: no address of a server, such as '127.0.0.1:11434' or 'https://...'"
        raise UsageError(msg) from None
    name = url.hostname or "127.0.0.1"
    name = "127.0.0.1" if name in {"localhost", "0.0.0.0"} else f"[{name}]" if ":" in name else name  # noqa: S104
    scheme = "" if url.scheme == "http" else f"{url.scheme}://"
    who = url.netloc.rpartition("@")[0]
    basic = base64.b64encode(unquote(who).encode()).decode()
    return f"{scheme}{name}:{port}{url.path.rstrip('/')}", {"authorization": f"Basic {basic}"} if who else {}


def _library() -> Any:
    try:
        import ollama
    except ImportError as error:
        msg = "an Ollama model needs its client, which comes with: pip install 'sagadsl[llm]'"
        raise UsageError(msg) from error
    return ollama


@functools.cache
def _certificates() -> Any:
    """Return what servers are trusted by; made once, for it takes longer than a call to one nearby."""
    import httpx

    return httpx.create_ssl_context()


def _client(made: Any, model: Ollama, timeouts: Timeouts) -> Any:
    """Return a client for one call. Once the headers are there, what follows is waited for as between two tokens."""
    import httpx

    total = timeouts.total
    first, between = (_shorter(each, total) for each in (timeouts.first, timeouts.between))

    def begun(response: Any) -> None:
        response.request.extensions["timeout"]["read"] = between

    async def abegun(response: Any) -> None:
        begun(response)

    return made(
        host=model._host,  # noqa: SLF001  # the same room
        headers=model._headers,  # noqa: SLF001
        timeout=httpx.Timeout(connect=timeouts.connect, read=first, write=first, pool=None),
        verify=_certificates(),
        event_hooks={"response": [abegun if made.__name__.startswith("Async") else begun]},
    )


def _at_once(timeouts: Timeouts) -> Timeouts:
    """Return how long an answer may take for which no model is loaded."""
    return evolve(timeouts, first=_shorter(timeouts.first, LOOKING))


def _shorter(one: float | None, other: float | None) -> float | None:
    return min((each for each in (one, other) if each is not None), default=None)
