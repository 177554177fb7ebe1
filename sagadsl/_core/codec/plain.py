"""What JSON says exactly: text, numbers, `True`, `False`, `None`, and lists and dictionaries of these.

Most of what a program passes around is of this kind. It needs no tag and no comparison with what would come back, for
that is known: the value. So one look at each part is enough, and it makes the copy too. Whatever is not of exactly
these types raises, and is said with a tag.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from json.encoder import encode_basestring_ascii
from typing import Any, Final


def made_encoder(*, sort_keys: bool = False) -> Callable[[Any], str]:
    """Return ``JSONEncoder.encode``, without making the C encoder anew for each value: that takes as long again.

    The standard library's own: faster ones write NaN as ``null`` and refuse lone surrogates.
    """
    encoder = json.JSONEncoder(separators=(",", ":"), check_circular=False, allow_nan=False, sort_keys=sort_keys)
    try:
        chunks = json.encoder.c_make_encoder(  # type: ignore[attr-defined]  # CPython's own, not in its stubs
            None,
            encoder.default,
            encode_basestring_ascii,
            None,
            ":",
            ",",
            sort_keys,
            False,  # noqa: FBT003  # it takes no keywords
            False,  # noqa: FBT003
        )
        if "".join(chunks([{"a": 1.5}, None], 0)) != '[{"a":1.5},null]':
            return encoder.encode
    except (AttributeError, TypeError):
        return encoder.encode
    join = "".join
    return lambda value: join(chunks(value, 0))


encode, encode_sorted = made_encoder(), made_encoder(sort_keys=True)
decode = json.JSONDecoder().raw_decode


def _number(value: float) -> str:
    """Say a number.

    Raises:
        ValueError: It is NaN or infinite, for which JSON has no word.
    """
    text = float.__repr__(value)
    if text[-1] in "nf":
        raise ValueError(text)
    return text


WORDS: Final[dict[type, Callable[[Any], str]]] = {
    str: encode_basestring_ascii,
    int: int.__repr__,
    float: _number,
    bool: {True: "true", False: "false"}.__getitem__,
    type(None): {None: "null"}.__getitem__,
}
"""How each type without parts is said."""


def copied(value: Any) -> Any:
    """Return a copy of a list or dictionary, the parts that can change copied too.

    Raises:
        TypeError: It is, or contains, something else, or a key that is no text.
    """
    cls = type(value)
    if cls is dict:
        for key in value:
            if type(key) is not str:
                raise TypeError(key)
        items = value.items()
    elif cls is list:
        items = enumerate(value)
    else:
        raise TypeError(cls)
    copy = value.copy()
    for at, item in items:
        if type(item) not in WORDS:
            copy[at] = copied(item)
    return copy


def template_of(names: Iterable[str]) -> str:
    """Return the text of a dictionary with these keys, with room for the words of its values."""
    fields = ",".join(f"{encode(name)}:%s" for name in names)
    return f"{{{fields}}}"
