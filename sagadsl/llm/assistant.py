"""`LLM`: a model with its settings, whose steps return what it answers.

A step's body returns the prompt. What the model makes of it is validated, recorded with its provenance and returned, so
a finished call is never paid twice within a run. Around it everything is a step like any other: identity, retries,
compensation, replay. An `LLM` is no argument and nothing of it is stored, so neither are its headers.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, overload, runtime_checkable

import sagadsl
from sagadsl import Retry, Step, UsageError, current
from sagadsl.llm.asking import Asking, Standing
from sagadsl.llm.conversation import Finding
from sagadsl.llm.conversation import embed as embedding
from sagadsl.llm.errors import is_final
from sagadsl.llm.ollama import Ollama
from sagadsl.llm.provenance import EMBEDDING, archive
from sagadsl.llm.shapes import shape_of
from sagadsl.llm.terms import Terms
from sagadsl.llm.values import Model, Progress, Prompt, Timeouts, Vectors

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

MEMBERS = ("name", "server", "inspect()", "ask()", "embed()")

ON_CHANGE = ("keep", "rerun", "fail")
RETRIES = 2
"""Extra attempts of a step by default: what fails on the way costs nothing but time."""


@runtime_checkable
class LLMStep(Step[P, R], Protocol[P, R]):
    """A step whose result a model gives. *prompt* is its undecorated body."""

    prompt: Callable[..., Any]


class Maker(Protocol[T]):
    """What makes a step of a body that returns a prompt."""

    @overload
    def __call__(self, body: Callable[P, Coroutine[Any, Any, Prompt]], /) -> LLMStep[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __call__(self, body: Callable[P, Prompt], /) -> LLMStep[P, T]: ...


class Told(TypedDict, total=False):
    """What `LLM.step` takes beside ``returns=``, of which the step's type follows."""

    options: Mapping[str, Any] | None
    repair: int
    compensate: Any
    retries: int | Retry
    timeouts: Timeouts | None
    on_change: str
    key: str | Callable[..., Any] | None
    name: str | None
    title: str | None
    live: list[str] | tuple[str, ...]


class LLM:
    """A model to ask.

    Args:
        model: The name of an Ollama model, or a `Model` of another provider.
        system: What each conversation begins with.
        host: Of the Ollama server, by default ``OLLAMA_HOST``, else this machine. Used for an Ollama model alone.
        headers: Sent with each request to it, never stored.
        options: Of each call, as the provider names them: ``temperature``, ``num_predict``, ``num_ctx``, ``seed``.
        limit: How many calls may be under way at its server at once, in this process.
        timeouts: How long a call may take.
        token_budget: The most tokens, read and written, that the steps of one run may cost; looked at before each call.
        progress: Called with a `Progress` as pieces of an answer come; what it raises is logged.
        keep_prompts: Record the messages; else no more than their digest.

    Raises:
        UsageError: A setting cannot work.
    """

    def __init__(
        self,
        model: str | Model,
        *,
        system: str | None = None,
        host: str | None = None,
        headers: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
        limit: int = 2,
        timeouts: Timeouts | None = None,
        token_budget: int | None = None,
        progress: Callable[[Progress], object] | None = None,
        keep_prompts: bool = True,
    ) -> None:
        if isinstance(model, str):
            model = Ollama(model, host=host, headers=headers)
        elif not isinstance(model, Model):
            msg = f"LLM takes the name of an Ollama model, or a Model with {', '.join(MEMBERS)}, not {model!r:.80}"
            raise UsageError(msg)
        if limit < 1:
            msg = f"LLM(limit={limit}): at least one call must be allowed"
            raise UsageError(msg)
        self._terms = Terms(
            model=model,
            system=system,
            options=_sendable(options or {}),
            limit=limit,
            timeouts=timeouts or Timeouts(),
            token_budget=token_budget,
            progress=progress,
            keep_prompts=keep_prompts,
        )

    @property
    def model(self) -> Model:
        """The model that is asked."""
        return self._terms.model

    def __repr__(self) -> str:
        return f"<LLM {self.model.name} at {self.model.server}>"

    def check(self) -> str:
        """Make sure, before anything has an effect, that the model would answer; return its digest.

        Raises:
            LLMError: It would not; the message ends with the command to type.
        """
        return self.model.inspect(self._terms.timeouts)

    # -- steps ------------------------------------------------------------------------------------------------------

    @overload
    def step(self, body: Callable[P, Coroutine[Any, Any, Prompt]], /) -> LLMStep[P, Coroutine[Any, Any, str]]: ...
    @overload
    def step(self, body: Callable[P, Prompt], /) -> LLMStep[P, str]: ...
    @overload
    def step(self, /, **told: Unpack[Told]) -> Maker[str]: ...
    @overload
    def step(self, /, *, returns: type[R], **told: Unpack[Told]) -> Maker[R]: ...
    def step(  # noqa: D417  # the overloads name them
        self,
        body: Any = None,
        /,
        *,
        returns: Any = None,
        options: Mapping[str, Any] | None = None,
        repair: int = 2,
        compensate: Any = archive,
        retries: int | Retry = RETRIES,
        timeouts: Timeouts | None = None,
        on_change: str = "keep",
        key: str | Callable[..., Any] | None = None,
        name: str | None = None,
        title: str | None = None,
        live: list[str] | tuple[str, ...] = (),
    ) -> Any:
        """Make a step of a function that returns the prompt: a text, or messages. The step returns the answer.

        What it notes beside that (`StepInfo.note`) is where the answer comes from, in place of any note of the body's.

        Args:
            returns: The class of the answer: attrs, a dataclass, a TypedDict, pydantic; omitted, it is text.
            options: Over those of the `LLM`. A ``seed`` is chosen and recorded where none is given.
            repair: How often an answer of another shape goes back to the model with the complaint. One that was cut at
                ``num_predict`` is asked for once more with twice as much, whatever this says.
            compensate: As for `sagadsl.step`; by default `archive`.
            retries: Extra attempts after a `TransportError`, or whatever the body raises.
            timeouts: Over those of the `LLM`.
            on_change: What follows where model, prompt, options or schema are others than those on record: ``"keep"``
                the answer and warn, ``"rerun"`` the call (steps that take its result need a *key* then), or
                ``"fail"``. The body is called to know. It is not where it awaits something or has live arguments; then
                its prompt counts as unchanged.
            key: As for `sagadsl.step`, as are *name*, *title* and *live*.

        Raises:
            UsageError: An option is unknown or cannot work.
        """
        if on_change not in ON_CHANGE:
            msg = f"on_change={on_change!r}: choose one of {', '.join(map(repr, ON_CHANGE))}"
            raise UsageError(msg)
        if repair < 0:
            msg = f"repair={repair}: how often an answer goes back to the model, 0 or more"
            raise UsageError(msg)
        terms = self._terms
        asking = Asking(
            terms,
            shape_of(returns),
            _sendable({**terms.options, **(options or {})}),
            repair,
            timeouts or terms.timeouts,
        )

        def make(body: Any) -> Any:
            kind = type(body) if isinstance(body, staticmethod | classmethod) else None
            function = body.__func__ if kind else body
            if not inspect.isfunction(function):
                msg = f"{self!r}.step decorates a function that returns the prompt, not {function!r:.80}"
                raise UsageError(msg)
            asks: Any = asking.made_of(function, str if returns is None else returns)
            decorate: Any = sagadsl.step(
                compensate=compensate,
                retries=_sparing(retries),
                stands=Standing(asking, function, on_change).stands,
                key=key,
                name=name,
                title=title,
                live=live,
            )
            return decorate(kind(asks) if kind else asks)

        return make if body is None else make(body)

    # -- embeddings -------------------------------------------------------------------------------------------------

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a vector for each text; in a saga, a step that only looks, recorded and not paid twice.

        Raises:
            UsageError: It is one text, and no list of them.
            LLMError: The model is not there, or makes no embeddings.
        """
        return self._embed(self.model.name, _listed(texts))

    async def aembed(self, texts: Sequence[str]) -> Vectors:
        """Return a vector for each text, in an ``async def``; see `embed`."""
        return await self._aembed(self.model.name, _listed(texts))

    @sagadsl.step(name="embed", read_only=True, retries=Retry(RETRIES, give_up_on=is_final))
    def _embed(self, model: str, texts: list[str]) -> Vectors:
        __tracebackhide__ = True
        self._terms.allow()
        return self._embedded(self._terms.carry(partial(embedding, model, texts, self._terms.timeouts)))

    @sagadsl.step(name="aembed", read_only=True, retries=Retry(RETRIES, give_up_on=is_final))
    async def _aembed(self, model: str, texts: list[str]) -> Vectors:
        __tracebackhide__ = True
        self._terms.allow()
        return self._embedded(await self._terms.acarry(partial(embedding, model, texts, self._terms.timeouts)))

    def _embedded(self, found: tuple[Finding, int]) -> Vectors:
        finding, tokens = found
        tries = [{"prompt_tokens": tokens, "tokens": 0}]
        current().note({EMBEDDING: {"model": self.model.name, "digest": finding.digest, "tries": tries}})
        vectors: Vectors = finding.value
        return vectors


def _sendable(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options without those that are `None`, which is as if they were not given.

    Raises:
        UsageError: They cannot be sent, or not be raised.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        json.dumps(given)
    except (TypeError, ValueError) as error:
        msg = f"options= are sent as JSON: {error}"
        raise UsageError(msg) from error
    for name in {"seed", "num_predict"} & given.keys():
        if not isinstance(given[name], int):
            msg = f"options: {name}= is a whole number, not {given[name]!r:.80}"
            raise UsageError(msg)
    return given


def _listed(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        msg = f"embed() takes a list of texts, and gives a vector for each: embed([{texts[:40]!r}])"
        raise UsageError(msg)
    return list(texts)


def _sparing(retries: int | Retry) -> Retry:
    """Return retries that spare what would end the same way again."""
    given = retries if isinstance(retries, Retry) else Retry(retries)
    gives_up = given.give_up_on

    def ends(error: BaseException) -> bool:
        if isinstance(gives_up, type | tuple):
            return is_final(error) or isinstance(error, gives_up)
        return is_final(error) or bool(gives_up(error))

    return Retry(given.retries, on=given.on, give_up_on=ends, wait=given.wait)
