"""What an answer must be: the JSON schema that is sent, and the check that is made here, whatever the server promised.

msgspec describes and reads attrs classes, dataclasses, typed dictionaries, enums, literals and collections of them;
pydantic does so with models and dataclasses of its own, and with what holds such models.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sagadsl import UsageError

REFUSED = (TypeError, RuntimeError, NameError)
"""How msgspec and pydantic refuse what JSON cannot describe."""
NOT_IT = (ValueError, AssertionError, RecursionError)
"""How they, and the checks of a class, refuse an answer."""


class UnfitError(Exception):
    """An answer is not what was asked for; the text is written for the model that gave it."""


class Shape(NamedTuple):
    """The *schema* to send, `None` for plain text, and how an answer is read; *read* raises `UnfitError`."""

    schema: Mapping[str, Any] | None
    read: Callable[[str], Any]

    @property
    def digest(self) -> str | None:
        """What tells this schema from another."""
        return None if self.schema is None else digest_of(self.schema)


TEXT = Shape(None, str)


def shape_of(returns: Any) -> Shape:
    """Return the shape of what a step returns.

    Raises:
        UsageError: JSON cannot describe it.
    """
    if returns is None or returns is str:
        return TEXT
    if hasattr(returns, "__pydantic_validator__"):  # a model of its, or a dataclass
        return _by_pydantic(returns)
    try:
        import msgspec
    except ImportError as error:
        msg = "returns= needs msgspec, which comes with: pip install 'sagadsl[llm]'"
        raise UsageError(msg) from error
    try:
        return Shape(msgspec.json.schema(returns), _reader(msgspec.json.Decoder(returns).decode))
    except REFUSED as error:
        with contextlib.suppress(*REFUSED):
            if "pydantic" in sys.modules:  # else none of its models can be inside
                return _by_pydantic(returns)
        what = str(error).strip().splitlines()[-1]
        msg = f"returns={returns!r}: JSON cannot describe it: {what}; return an attrs class, a dataclass or a TypedDict"
        raise UsageError(msg) from error


def _by_pydantic(returns: Any) -> Shape:
    import pydantic

    adapter: Any = pydantic.TypeAdapter(returns)
    return Shape(adapter.json_schema(), _reader(adapter.validate_json))


def _reader(load: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return load(text)
        except NOT_IT as error:
            raise UnfitError(str(error) or type(error).__name__) from error

    return read


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a plain value, however its keys are ordered."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
