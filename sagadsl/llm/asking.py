"""One step of a model: what it asks and notes, and whether an answer on record is one to what it would ask today."""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import frozen

from sagadsl import ReplayError, current
from sagadsl.llm.conversation import Finding, Question, converse
from sagadsl.llm.errors import LLMError
from sagadsl.llm.provenance import NOTE
from sagadsl.llm.shapes import Shape, digest_of
from sagadsl.llm.terms import Terms
from sagadsl.llm.values import Prompt, Timeouts

log = logging.getLogger("sagadsl")


class Asking:
    """How one step asks: under which options, for which shape, with how many repairs."""

    def __init__(self, terms: Terms, shape: Shape, options: dict[str, Any], repair: int, timeouts: Timeouts) -> None:
        self.terms, self.shape, self.options, self.repair, self.timeouts = terms, shape, options, repair, timeouts

    def made_of(self, body: Callable[..., Any], returns: Any) -> Callable[..., Any]:
        """Return a function with the signature of *body* that returns the model's answer to what *body* returns."""
        asks: Any
        if inspect.iscoroutinefunction(body):

            async def asks(*args: Any, **kwargs: Any) -> Any:
                __tracebackhide__ = True
                question = self.question(await body(*args, **kwargs))
                with Telling(self.terms, question):
                    return self.told(question, await self.terms.acarry(partial(converse, question)))

        else:

            def asks(*args: Any, **kwargs: Any) -> Any:
                __tracebackhide__ = True
                question = self.question(body(*args, **kwargs))
                with Telling(self.terms, question):
                    return self.told(question, self.terms.carry(partial(converse, question)))

        functools.update_wrapper(asks, body)
        asks.prompt = body
        asks.__annotations__ = body.__annotations__ | {"return": returns}
        asks.__signature__ = inspect.signature(body).replace(return_annotation=returns)
        return asks  # type: ignore[no-any-return]  # what the branches define

    def question(self, prompt: Prompt) -> Question:
        """Return what is asked with a prompt, in the step that runs."""
        here, terms = current(), self.terms
        return Question(
            model=terms.model.name,
            messages=terms.messages(prompt),
            options={"seed": seed_of(here.idempotency_key), **self.options},
            shape=self.shape,
            repair=self.repair,
            timeouts=self.timeouts,
            heard=terms.hears(),
            allow=terms.allow,
            tries=terms.tries(here),
        )

    def told(self, question: Question, finding: Finding) -> Any:
        """Note where an answer comes from, and return its value."""
        *before, last = question.tries
        note = {
            "model": question.model,
            "digest": finding.digest,
            **self.terms.provenance(question.messages),
            "options": dict(question.options),
            "chosen_seed": "seed" not in self.options,
            "schema_digest": self.shape.digest,
            "text": finding.text,
            "tries": [*before, {name: value for name, value in last.items() if name != "text"}],
        }
        current().note({NOTE: note})
        return finding.value


@frozen
class Telling:
    """Within it a question is asked. An error tells of all calls made: from then on it is the record that does."""

    terms: Terms
    question: Question

    def __enter__(self) -> None:
        """Begin to ask."""

    def __exit__(self, cls: object, error: BaseException | None, traceback: object) -> None:
        """Have an error tell of them."""
        self.terms.forget(current())
        if isinstance(error, LLMError):
            error.tries = tuple(self.question.tries)


class Standing:
    """Whether a recorded answer is one to what would be asked today."""

    def __init__(self, asking: Asking, body: Callable[..., Any], on_change: str) -> None:
        self.asking, self.body, self.on_change = asking, body, on_change
        self.signature, self.awaits = inspect.signature(body), _awaits(body)

    def stands(self, note: Any, /, **arguments: Any) -> bool:  # a prompt may be made of a note
        """Tell whether the answer on record comes back.

        Raises:
            ReplayError: It is an answer to something else, and ``on_change="fail"``.
        """
        if not isinstance(note, dict) or NOTE not in note:
            return True  # it was another kind of step when it was recorded
        changed = [name for name, is_other in self._changes(note[NOTE], arguments) if is_other]
        if not changed:
            return True
        name = self.body.__qualname__
        what = f"{name}: {', '.join(changed)} changed since its answer was recorded"
        if self.on_change == "fail":
            raise ReplayError(
                str(current().run_id), "", (name,), (f"{name} (changed)",), f"{what}, and on_change='fail'"
            )
        kept = self.on_change == "keep"
        log.warning("%s; %s", what, "the record stands" if kept else "the call is made again")
        return kept

    def _changes(self, told: dict[str, Any], arguments: dict[str, Any]) -> list[tuple[str, bool]]:
        asking = self.asking
        is_blind = self.awaits or self.signature.parameters.keys() != arguments.keys()  # what is live is not stored
        seed = {"seed": told["options"].get("seed")} if told["chosen_seed"] else {}
        return [
            ("the model", told["model"] != asking.terms.model.name),
            ("the prompt", not is_blind and self._is_other_prompt(told["messages_digest"], arguments)),
            ("the options", told["options"] != seed | asking.options),
            ("the schema", told["schema_digest"] != asking.shape.digest),
        ]

    def _is_other_prompt(self, recorded: str, arguments: dict[str, Any]) -> bool:
        bound = inspect.BoundArguments(self.signature, arguments)
        try:
            prompt = _run_through(self.body(*bound.args, **bound.kwargs))
        except Exception:
            if self.on_change != "keep":
                raise
            log.warning("%s cannot build its prompt any more", self.body.__qualname__, exc_info=True)
            return True
        return digest_of(self.asking.terms.messages(prompt)) != recorded


def _awaits(body: Callable[..., Any]) -> bool:
    """Tell whether a body waits for anything: to know its prompt takes a loop then."""
    return any(each.opname == "SEND" for each in dis.get_instructions(body))


def _run_through(made: Any) -> Any:
    """Return what a body gives, which awaits nothing if it is a coroutine function."""
    if not inspect.iscoroutine(made):
        return made
    try:
        made.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError  # pragma: no cover  # it awaits nothing


def seed_of(key: str) -> int:
    """Return the seed of a call: the same on every attempt and every resume."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) >> 1
