"""What became of answers: the journal is the archive.

A step's answer is recorded with its provenance when it is given. A compensation only says what it counts as once its
saga has failed, so `archive`, `discard` and `keep` have nothing to do but to be on record. They call no model, and may
be called twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from attrs import field, frozen

import sagadsl
from sagadsl import Current, Fault, RunInfo, StepInfo
from sagadsl.llm.shapes import digest_of

NOTE, EMBEDDING = "llm", "embedding"
"""Under which name a step notes its provenance, and one that gives vectors."""


def archive(result: Any = None) -> None:
    """Compensate by keeping: `archived` lists the answer with its provenance, and why its saga failed."""


def discard(result: Any = None) -> None:
    """Compensate by a tombstone: of the answer no more is given out than its digest, its tokens and when.

    What the journal holds leaves the file with its run, when that is pruned.
    """


def keep(result: Any = None) -> None:
    """Compensate by nothing: the answer is as good as before, though its saga failed."""


STATES = {"archive": "archived", "discard": "discarded", "keep": "kept"}


@frozen(kw_only=True)
class Answer:
    """What one step got from a model, with its provenance.

    *state* is ``"given"``, after compensation ``"archived"``, ``"discarded"``, ``"kept"`` or ``"compensated"`` (by a
    function of yours), and ``"failed"`` where no usable answer came. *value* is what the step returned, *text* what it
    was read from. *tries* are all calls made for it as plain data (seed, tokens, and of a failed one its text and the
    complaint), *tokens* what they cost together. *reason* is why the step failed or was compensated: what its saga
    failed with, or ``"request"``, ``"cancel"``.
    """

    run: str
    step: str
    state: str
    model: str = ""
    digest: str = ""
    messages: tuple[dict[str, Any], ...] = ()
    options: dict[str, Any] = field(factory=dict)
    value: Any = None
    text: str = ""
    text_digest: str = ""
    tries: tuple[dict[str, Any], ...] = ()
    reason: str = ""
    at: datetime | None = None

    @property
    def tokens(self) -> int:
        """Count the tokens of all tries, read and written."""
        return tokens_of(self.tries)


def tokens_of(tries: Iterable[dict[str, Any]]) -> int:
    """Count the tokens of calls, read and written."""
    return sum(each["prompt_tokens"] + each["tokens"] for each in tries)


def tries_of(step: StepInfo) -> tuple[dict[str, Any], ...] | None:
    """Return the calls that a step is known to have made, `None` where it is no step of a model."""
    if isinstance(step.note, dict) and NOTE in step.note:
        return tuple(step.note[NOTE]["tries"])
    return None if step.error is None else _tries_in(step.error)


def tokens_in(step: StepInfo) -> int | None:
    """Count the tokens that a step has on record, `None` where there is nothing of a model."""
    told = step.note.get(EMBEDDING) if isinstance(step.note, dict) else None
    tries = tries_of(step) if told is None else told["tries"]
    return None if tries is None else tokens_of(tries)


def earlier_tries(here: Current) -> list[dict[str, Any]]:
    """Return the calls that earlier attempts of the step that runs have made, as far as they are on record."""
    if here.attempt == 1:
        return []
    errors = next(step.attempt_errors for step in here.run.steps if step.key == here.key)
    known = [tries for error in errors if (tries := _tries_in(error)) is not None]
    return list(known[-1]) if known else []


def _tries_in(error: Fault) -> tuple[dict[str, Any], ...] | None:
    return tuple(error.attributes.get("tries", ())) if error.type.startswith("sagadsl.llm.") else None


def answers(run: RunInfo) -> tuple[Answer, ...]:
    """Return what the models said in a run, in order."""
    return tuple(_answers(run))


def archived(runs: Iterable[RunInfo] | None = None) -> list[Answer]:
    """Return what `archive` kept, of these runs or all, newest run first; with it, what failed steps had got so far."""
    found = sagadsl.runs() if runs is None else runs
    return [
        answer
        for run in found
        for answer in answers(run)
        if answer.state == "archived" or (answer.state == "failed" and any(each.get("text") for each in answer.tries))
    ]


def _answers(run: RunInfo) -> Iterator[Answer]:
    failed = {step.key: step.error for step in run.steps if step.saga and step.error is not None}
    for step in run.steps:
        tries = tries_of(step)
        if tries is None:
            continue
        if step.note is None:
            yield Answer(
                run=run.id,
                step=step.key,
                state="failed",
                model=step.error.attributes.get("model", "") if step.error else "",
                tries=tries,
                reason=str(step.error),
                at=step.ended,
            )
            continue
        told = step.note[NOTE]
        state = STATES.get(step.compensation or "", "compensated") if step.status == "compensated" else "given"
        is_gone = state == "discarded"
        yield Answer(
            run=run.id,
            step=step.key,
            state=state,
            model=told["model"],
            digest=told["digest"],
            messages=() if is_gone else tuple(told.get("messages", ())),
            options=told["options"],
            value=None if is_gone else step.result,
            text="" if is_gone else told["text"],
            text_digest=digest_of(told["text"]),
            tries=tuple({**each, "text": ""} for each in tries) if is_gone else tries,
            reason="" if state == "given" else str(_cause(step.key, failed) or run.error or run.cause),
            at=step.ended,
        )


def _cause(key: str, failed: dict[str, Fault]) -> Fault | None:
    """Return why the innermost saga around a step failed that did: its parent may have gone on."""
    around = key.rpartition("/")[0]
    return failed.get(around) or (_cause(around, failed) if around else None)
