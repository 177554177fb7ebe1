"""What passes between a step and a model, and `Model` itself: all that another provider has to be."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol, overload, runtime_checkable

from attrs import field, frozen

from sagadsl import UsageError

Message = Mapping[str, Any]
"""``{"role": "user", "content": "..."}``."""
Prompt = str | Sequence[Message]
Heard = Callable[[str], None]
"""Told of each piece of an answer as it comes."""


def _seconds(value: float | timedelta | None) -> float | None:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds is not None and not seconds > 0:
        msg = f"Timeouts takes seconds or a timedelta, more than zero, not {value!r}"
        raise UsageError(msg)
    return seconds


@frozen(kw_only=True)
class Timeouts:
    """How long a call may take, in seconds (or `timedelta`); `None` is for ever.

    *connect* to the server, *first* until the answer begins, which Ollama lets it with the first token (it may have to
    load the model), *between* two tokens, *total* for the whole answer, which is looked at whenever a token comes.
    """

    connect: float | None = field(default=5.0, converter=_seconds)
    first: float | None = field(default=300.0, converter=_seconds)
    between: float | None = field(default=60.0, converter=_seconds)
    total: float | None = field(default=None, converter=_seconds)


@frozen(kw_only=True)
class Request:
    """One call of a model: *messages* as sent, *options* as the provider names them, *schema* of the answer's JSON.

    *options* always hold a ``seed``; ``num_predict`` is the most tokens of an answer.
    """

    messages: tuple[Message, ...]
    options: Mapping[str, Any]
    schema: Mapping[str, Any] | None = None
    timeouts: Timeouts = field(factory=Timeouts)


@frozen(kw_only=True)
class Reply:
    """A whole answer. *is_cut*: it ended at a limit of tokens, so that more would have come."""

    text: str
    is_cut: bool = False
    prompt_tokens: int = 0
    tokens: int = 0


@runtime_checkable
class Model(Protocol):
    """A model somewhere. *name* and *server* may be plain attributes.

    Each method raises `TransportError` where another try may help, `RefusedError` where none will. A class that also
    has ``ainspect``, ``aask`` and ``aembed`` is awaited by asynchronous steps; else they run these in a thread.
    """

    @property
    def name(self) -> str:
        """What is recorded of it."""

    @property
    def server(self) -> str:
        """Where the limit on simultaneous calls counts."""

    def inspect(self, timeouts: Timeouts) -> str:
        """Return what tells this version of the model from others (a digest), once it is there and would answer."""

    def ask(self, request: Request, heard: Heard) -> Reply:
        """Return the answer, telling *heard* of each piece."""

    def embed(self, texts: list[str], timeouts: Timeouts) -> tuple[list[list[float]], int]:
        """Return one vector for each text, and the number of tokens read."""


@frozen(kw_only=True)
class Progress:
    """A *piece* of an answer that has just come, for the call *step* of run *run*; *text* is all of it so far."""

    run: str | None
    step: str | None
    piece: str
    text: str


@frozen
class Vectors(Sequence["tuple[float, ...]"]):
    """Embeddings, one a text, of *dimensions* numbers each; kept as *data*, 32-bit floats, little-endian."""

    dimensions: int
    data: bytes = field(repr=False)

    @classmethod
    def of(cls, rows: Iterable[Iterable[float]]) -> Vectors:
        """Pack rows of numbers."""
        packed = [array("f", row) for row in rows]
        data = b"".join(_little(row).tobytes() for row in packed)
        return cls(len(packed[0]) if packed else 0, data)

    def __len__(self) -> int:
        """Count the vectors."""
        return len(self.data) // (4 * self.dimensions) if self.dimensions else 0

    @overload
    def __getitem__(self, at: int) -> tuple[float, ...]: ...
    @overload
    def __getitem__(self, at: slice) -> list[tuple[float, ...]]: ...
    def __getitem__(self, at: int | slice) -> tuple[float, ...] | list[tuple[float, ...]]:
        """Return one vector as numbers, or several."""
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            msg = f"there are {len(self)} vectors, none at {at}"
            raise IndexError(msg)
        size, start = 4 * self.dimensions, at % len(self)
        return tuple(_little(array("f", self.data[start * size : (start + 1) * size])))


def _little(numbers: array[float]) -> array[float]:
    if sys.byteorder == "big":
        numbers = array("f", numbers)
        numbers.byteswap()
    return numbers
