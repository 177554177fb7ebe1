"""The terms on which an `LLM` is asked: its model and settings, and what one process remembers of calls under way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, field

from sagadsl import Current, UsageError, current
from sagadsl.llm.conversation import Talk
from sagadsl.llm.drivers import adrive, drive
from sagadsl.llm.errors import Short, TokenBudgetError
from sagadsl.llm.provenance import earlier_tries, tokens_in, tokens_of
from sagadsl.llm.shapes import digest_of
from sagadsl.llm.values import Message, Model, Progress, Prompt, Timeouts

log = logging.getLogger("sagadsl")


@define(eq=False, repr=False, kw_only=True)
class Terms:
    """What `LLM` was told; *calls* are those made in attempts that are under way, by their idempotency keys."""

    model: Model
    system: str | None
    options: Mapping[str, Any]
    limit: int
    timeouts: Timeouts
    token_budget: int | None
    progress: Callable[[Progress], object] | None
    keep_prompts: bool
    calls: dict[str, list[dict[str, Any]]] = field(factory=dict)
    guard: Any = field(factory=threading.Lock)

    def messages(self, prompt: Prompt) -> tuple[Message, ...]:
        """Return what is sent for a prompt.

        Raises:
            UsageError: It is neither a text nor messages.
        """
        said = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        try:
            whole = tuple(dict(each) for each in said)
        except (TypeError, ValueError):
            whole = ()
        if not whole or not all(isinstance(each.get("role"), str) and "content" in each for each in whole):
            msg = f"a prompt is a text, or messages with role and content, not {prompt!r:.200}"
            raise UsageError(msg)
        return whole if self.system is None else ({"role": "system", "content": self.system}, *whole)

    def tries(self, here: Current) -> list[dict[str, Any]]:
        """Return the calls made so far for the step that runs, those of earlier processes included."""
        if here.key is None:
            return []
        with self.guard:
            if here.idempotency_key not in self.calls:
                self.calls[here.idempotency_key] = earlier_tries(here)
            return self.calls[here.idempotency_key]

    def forget(self, here: Current) -> None:
        """Let go of the calls of the attempt that runs: what it came to tells of them."""
        with self.guard:
            self.calls.pop(here.idempotency_key, None)

    def allow(self) -> None:
        """Let another call be made, if the run may use more tokens.

        Raises:
            TokenBudgetError: It may not.
        """
        run = current().run if self.token_budget is not None else None
        if run is None or self.token_budget is None:
            return
        recorded = {step.idempotency_key: tokens_in(step) for step in run.steps}
        with self.guard:
            under_way = {key: tokens_of(tries) for key, tries in self.calls.items() if recorded.get(key, 0) is None}
        spent = sum(filter(None, recorded.values())) + sum(under_way.values())
        if spent >= self.token_budget:
            reason = (
                f"run {run.id} has used {spent} tokens, and token_budget={self.token_budget} allows no further call"
            )
            raise TokenBudgetError(self.model.name, reason)

    def hears(self) -> Callable[[list[str]], None]:
        """Return what is told the pieces of an answer so far, with each that comes, and tells the observer."""
        observer = self.progress
        if observer is None:
            return lambda _pieces: None
        here = current()

        def heard(pieces: list[str]) -> None:
            try:
                observer(Progress(run=here.run_id, step=here.key, piece=pieces[-1], text="".join(pieces)))
            except Exception:
                log.exception("an observer of %s failed; the call goes on", self.model.name)

        return heard

    def provenance(self, messages: tuple[Message, ...]) -> dict[str, Any]:
        """Return what is recorded of a prompt."""
        told = {"messages": [dict(each) for each in messages]} if self.keep_prompts else {}
        return told | {"messages_digest": digest_of(messages)}

    def carry(self, talk: Talk) -> Any:
        """Carry a conversation to its end, in a ``def``."""
        __tracebackhide__ = True
        with Short():
            return drive(talk, self.model, self.limit)

    async def acarry(self, talk: Talk) -> Any:
        """Carry a conversation to its end, in an ``async def``."""
        __tracebackhide__ = True
        with Short():
            return await adrive(talk, self.model, self.limit)
