"""Time, chance and identifiers that are the same again on replay: each call is one read-only entry."""

from __future__ import annotations

import random as chance
import uuid
from datetime import UTC, datetime

from sagadsl._dsl.steps import step


@step(read_only=True)
def now() -> datetime:
    """Return the time, aware and in UTC; inside a saga, the one that was recorded."""
    return datetime.now(UTC)


@step(read_only=True)
def random() -> float:
    """Return a random number in [0, 1); inside a saga, the one that was recorded. Not for secrets."""
    return chance.random()  # noqa: S311  # the docstring says so


@step(read_only=True)
def uuid4() -> uuid.UUID:
    """Return a random UUID; inside a saga, the one that was recorded."""
    return uuid.uuid4()
