"""What one attempt of a step says to its model, and does with what comes back: written once for both colours.

There are two budgets, and a rule that is neither. What went wrong on the way (`TransportError`) is the step's to try
again. An answer that is not what was asked for goes back to the model with the complaint, *repair* times. One that was
cut at ``num_predict`` is asked for once more with twice as much: to try that again unchanged would fail the same way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from attrs import define, field, frozen

from sagadsl.llm.errors import InvalidAnswerError, LLMError, TransportError, TruncatedError
from sagadsl.llm.shapes import Shape, UnfitError
from sagadsl.llm.values import Message, Reply, Request, Timeouts, Vectors

Call = Callable[..., Awaitable[Any]]
"""``await call("ask", request, heard)`` has a method of the model called, whatever its colour."""
Talk = Callable[[Call], Coroutine[Any, Any, Any]]


@define(eq=False, kw_only=True)
class Question:
    """What a step asks: *messages*, under *options*, for an answer of a *shape*.

    *tries* takes in each call, as plain data, after those of earlier attempts. *allow* is asked before each call;
    *heard* is told the pieces of its answer so far, whenever another comes.
    """

    model: str
    messages: tuple[Message, ...]
    options: Mapping[str, Any]
    shape: Shape
    repair: int
    timeouts: Timeouts
    heard: Callable[[list[str]], None]
    allow: Callable[[], None]
    tries: list[dict[str, Any]] = field(factory=list)


@frozen
class Finding:
    """What came of it: the *value*, the *text* it was read from, and the model's *digest*."""

    value: Any
    text: str
    digest: str


async def converse(question: Question, call: Call) -> Finding:
    """Ask until there is an answer of the right shape; return the `Finding`.

    Raises:
        LLMError: There is none.
    """
    digest = await call("inspect", question.timeouts)
    messages, options = list(question.messages), dict(question.options)
    repairs, is_raised = question.repair, False
    while True:
        question.allow()
        reply = await one_call(question, call, messages, options)
        told = question.tries[-1]
        if reply.is_cut:
            told["complaint"] = f"cut after {reply.tokens} tokens"
            if is_raised or options.get("num_predict", -1) <= 0:  # below zero it means: no limit
                raise truncated(question, options)
            options["num_predict"], is_raised = 2 * options["num_predict"], True
            continue
        try:
            return Finding(question.shape.read(reply.text), reply.text, digest)
        except UnfitError as why:
            told["complaint"] = str(why)
            if not repairs:
                again = "raise repair=, ask for less, or take a larger model"
                reason = f"the answer is not what returns= asks for, after {question.repair} repairs: {why}; {again}"
                raise InvalidAnswerError(question.model, reason) from why.__cause__
            repairs -= 1
            options["seed"] += 1
            messages = [*question.messages, *complaint(reply.text, why)]


async def one_call(question: Question, call: Call, messages: list[Message], options: Mapping[str, Any]) -> Reply:
    """Make one call, and note what it cost and said, whatever came of it."""
    pieces: list[str] = []

    def heard(piece: str) -> None:
        pieces.append(piece)
        question.heard(pieces)

    told = {"seed": options["seed"], "prompt_tokens": 0, "tokens": 0}
    sent = Request(
        messages=tuple(messages),
        options=dict(options),
        schema=question.shape.schema,
        timeouts=question.timeouts,
    )
    question.tries.append(told)
    try:
        reply: Reply = await call("ask", sent, heard)
    except LLMError as error:
        told |= {"complaint": error.reason, "text": "".join(pieces)}
        raise
    told |= {"prompt_tokens": reply.prompt_tokens, "tokens": reply.tokens, "text": reply.text}
    return reply


def complaint(answer: str, why: UnfitError) -> list[Message]:
    """Return what is said to a model about its answer."""
    return [
        {"role": "assistant", "content": answer},
        {
            "role": "user",
            "content": f"That answer is not valid: {why}. Give the whole answer again, as JSON of the schema.",
        },
    ]


def truncated(question: Question, options: Mapping[str, Any]) -> TruncatedError:
    """Return what to say of an answer that does not fit."""
    if options.get("num_predict", -1) > 0:
        reason = f"the answer was cut at num_predict={options['num_predict']}; raise it in options=, or ask for less"
    else:
        reason = "the answer was cut at the end of the model's context; raise num_ctx in options=, or ask for less"
    return TruncatedError(question.model, reason)


async def embed(model: str, texts: list[str], timeouts: Timeouts, call: Call) -> tuple[Finding, int]:
    """Have texts turned into vectors; return a `Finding` whose value is `Vectors`, and the tokens read.

    Raises:
        LLMError: It cannot be done, or what came are not as many vectors of one length.
    """
    digest = await call("inspect", timeouts)
    rows, tokens = await call("embed", texts, timeouts)
    sizes = [len(row) for row in rows]
    if len(sizes) != len(texts) or len(set(sizes)) > 1:
        raise TransportError(model, f"{len(texts)} texts were to be vectors of one length; what came has {sizes!r:.60}")
    return Finding(Vectors.of(rows), "", digest), tokens
