"""A text inside a text, compressed: ``{"$zlib": "eJyrVkpU..."}``."""

from __future__ import annotations

import json
import zlib
from binascii import a2b_base64, b2a_base64


def packed(text: str) -> str:
    """Return a text that holds another one compressed."""
    data = zlib.compress(text.encode())
    return f'{{"$zlib":"{b2a_base64(data, newline=False).decode()}"}}'


def legible_text(text: str, limit: int) -> str:
    """Return a text as it was before it was compressed, if it was.

    Raises:
        ValueError: As for `unpacked`.
    """
    return unpacked(json.loads(text)["$zlib"], limit) if text.startswith('{"$zlib":') else text


def unpacked(data: str, limit: int) -> str:
    """Return the text that *data* holds.

    Raises:
        ValueError: It holds none, or one of more than *limit* bytes.
    """
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(a2b_base64(data, strict_mode=True), limit).decode()
    except zlib.error as error:
        msg = f"the journal holds a compressed value that is damaged: {error}"
        raise ValueError(msg) from error
    if not inflater.eof:
        msg = f"the journal holds a compressed value that is cut short, or has more than {limit:,} bytes"
        raise ValueError(msg)
    return text
