"""What an answer must be: the JSON schema that is sent, and the check that is made here, whatever the server promised.

msgspec describes and reads attrs classes, dataclasses, typed dictionaries, enums, literals and collections of them; a
pydantic model does so itself.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sagadsl import UsageError


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
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(returns, type) and issubclass(returns, pydantic.BaseModel):
        model: Any = returns
        return Shape(model.model_json_schema(), _reader(model.model_validate_json, pydantic.ValidationError))
    try:
        import msgspec  # noqa: PLC0415  # an extra's
    except ImportError as error:
        msg = "returns= needs msgspec, which comes with: pip install 'sagadsl[llm]'"
        raise UsageError(msg) from error
    try:
        schema, decoder = msgspec.json.schema(returns), msgspec.json.Decoder(returns)
    except (TypeError, RuntimeError) as error:
        what = str(error).strip().splitlines()[-1]
        msg = f"returns={returns!r}: JSON cannot describe it: {what}; return an attrs class, a dataclass or a TypedDict"
        raise UsageError(msg) from error
    return Shape(schema, _reader(decoder.decode, ValueError))


def _reader(load: Callable[[str], Any], refused: type[Exception]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return load(text)
        except refused as error:
            raise UnfitError(str(error)) from error

    return read


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a plain value, however its keys are ordered."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
