"""Results kept compressed, for who asks for it: the file gets smaller, and what is large in it is no longer legible.

Arguments stay as they are, for they tell calls apart; so does what is looked for in a text without reading it back, the
files that a step made and what it noted.
"""

from __future__ import annotations

from typing import Any

from sagadsl._core.codec import Codec
from sagadsl._core.codec.artifacts import TAG
from sagadsl._core.codec.zlib_text import packed


class Compressing(Codec):
    """A codec, the same as *codec*, whose results of more than *above* bytes are stored compressed."""

    def __init__(self, codec: Codec, above: int) -> None:
        vars(self).update(vars(codec))  # what is registered with one is known to the other
        self.above = above

    def encode(self, value: Any) -> str:
        """Return *value* as text, as it is.

        Raises:
            Unstorable: As for `Codec.encode`.
        """
        return super().encode_and_copy(value)[0]

    def encode_and_copy(self, value: Any) -> tuple[str, Any]:
        """Return *value* as text, and the copy that would come back of it.

        Raises:
            Unstorable: As for `Codec.encode`.
        """
        text, copy = super().encode_and_copy(value)
        if len(text) <= self.above or TAG in text or text.startswith('{"$noted":'):
            return text, copy
        return min(text, packed(text), key=len), copy
