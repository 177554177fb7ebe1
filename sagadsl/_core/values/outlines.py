"""A run in outline: what a list shows of it.

That of a run that has ended is kept in its row, so that a list reads none of its entries. They are the truth; this is
made of them when the last one is written, and in the same commit.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Self

from attrs import define, fields_dict


@lru_cache
def process_of(text: str) -> str:
    """Return in words which process an entry says is the run's owner."""
    told = json.loads(text)
    return f"process {told.get('pid', '?')} on {told.get('host', '?')}"


@define(eq=False, repr=False)
class Outline:
    """How a run stands after entry *seq*, its last: as the journal has it, times in microseconds since 1970.

    It has *begun* so many calls of steps, and so many are *done*, with nothing after that. *owner* is the process that
    opened it or took it over last, in words. *fault* and *notify_fault* are JSON text.
    """

    seq: int
    begun: int
    done: int
    status: str
    started: int
    ended: int = 0
    owner: str = ""
    cause: str | None = None
    fault: str | None = None
    notified: int = 0
    notify_fault: str | None = None

    def text(self) -> str:
        """Return it as it is stored: without what it says nothing of."""
        return ENCODE({n: value for n, default in DEFAULTS.items() if (value := getattr(self, n)) != default})

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the outline that is stored as *text*.

        Raises:
            ValueError: It is none.
            TypeError: It is none.
        """
        told, _ = DECODE(text)
        outline = cls(**told)
        if not type(outline.seq) is type(outline.begun) is type(outline.done) is int or type(outline.owner) is not str:
            raise TypeError(text)
        return outline


ENCODE, DECODE = json.JSONEncoder(separators=(",", ":")).encode, json.JSONDecoder().raw_decode
"""Half the way of ``json.dumps`` and ``json.loads``: each run that ends pays it once, a list ten thousand times."""
DEFAULTS: dict[str, Any] = {name: each.default for name, each in fields_dict(Outline).items()}
