"""The words of the codec: how a value that JSON cannot say is written, and how each tag is read.

Every type has one form, every form one way back, side by side in this room. Containers are not here: they contain, so
the codec itself takes them apart. Nothing here looks at anything but the value.
"""

from __future__ import annotations

import base64
import math
import re
import sys
from collections.abc import Callable, MappingView
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from types import AsyncGeneratorType, BuiltinFunctionType, MethodType, MethodWrapperType
from typing import Any

from sagadsl._core.codec.artifacts import Artifact, load_artifact
from sagadsl._core.codec.classes import is_imported
from sagadsl._core.parameters import is_coroutine
from sagadsl.errors import NotStorableError

PATHS = {cls.__name__: cls for cls in (PurePosixPath, PureWindowsPath, type(Path()))}
FACTORIES = {
    cls.__name__: cls for cls in (bool, bytes, complex, dict, float, frozenset, int, list, set, str, tuple, bytearray)
}
"""What a ``defaultdict`` may fill itself with: types without a name of their own in a module of the user's."""

LONGEST_DECIMAL = 2_000
"""Bits; decimal text of more than 640 digits can be refused by Python itself, in both directions."""

SURROGATES = re.compile("(?<=[\ud800-\udbff])(?=[\udc00-\udfff])")
"""The place between two surrogates that JSON would read back as one character."""


AWAIT = (
    "await it. Where a def gave it, that hides an async function: put @step directly above the `async def`, below what "
    "wraps it, or have the wrapper be an `async def` too"
)


class Unstorable(Exception):  # noqa: N818  # a fact on its way to NotStorableError, which knows the step
    """Say which value, at which path, cannot be stored, why, and what to *do* instead, if that is clear."""

    def __init__(self, value: object, reason: str, path: str = "", do: str = "") -> None:
        super().__init__(reason)
        self.type = type(value).__qualname__
        self.reason = reason
        self.path = path
        self.do = do or instead_of(value)

    def at(self, part: str) -> Unstorable:
        """Return it as seen from one level further out."""
        self.path = part + self.path
        return self

    def error(self, step: str, what: str) -> NotStorableError:
        """Return what comes of it: *what* is the ``argument`` or the ``result`` of a step."""
        return NotStorableError(step, what, self.type, self.path, self.reason, self.do)


def instead_of(value: object) -> str:
    """Return what to do where a value is of a type that can never be stored, and no `register` would help.

    The type alone is asked: a lazy object may raise whatever it is asked itself.
    """
    cls = type(value)
    if is_coroutine(value):
        return AWAIT
    if hasattr(cls, "__await__"):
        return "await it, in an `async def`"
    if cls is AsyncGeneratorType:
        return "make a list of it: [each async for each in ...]"
    if issubclass(cls, MappingView) or (cls.__module__ == "builtins" and hasattr(cls, "__next__")):
        return "make a list of it: list(...)"
    is_function = hasattr(cls, "__get__") and not hasattr(cls, "__set__")  # in a class it would be a method
    if is_function or issubclass(cls, type | MethodType | BuiltinFunctionType | MethodWrapperType):
        return "give its name, as text; a parameter may also be annotated `Live[...]`"
    return "give plainer data" if cls in FACTORIES.values() else ""


def gone(name: str) -> Any:
    """Refuse to read a value whose class, or member of an enum, the program does not have.

    Raises:
        ValueError: Always.
    """
    module, _, what = name.partition(":")
    cure = "which this program has not imported: import the module that defines it"
    if what and is_imported(module):
        cure = f"and {module} has no such {what} by now: keep it under that name"
    msg = f"the journal holds a value of {name}, {cure}"
    raise ValueError(msg)


def unregistered(name: str) -> Any:
    """Refuse to read a value that only a registered function could make again.

    Raises:
        ValueError: Always.
    """
    own = name.rpartition(":")[2].rpartition(".")[2]
    msg = f"the journal holds a value of {name}, and this program has no sagadsl.register({own}, dump, load)"
    raise ValueError(msg)


# -- text and numbers -------------------------------------------------------------------------------------------------


def is_plain_text(text: str) -> bool:
    """Tell whether JSON reads back what it writes of a text."""
    return text.isascii() or SURROGATES.search(text) is None


def dump_text(value: str) -> Any:
    """Say a text; a high surrogate that a low one follows is kept apart from it."""
    return value if is_plain_text(value) else {"$text": SURROGATES.split(value)}


def for_people(text: str) -> str:
    """Return a text that any program can read: what only Python has in one is spelled out.

    A lone surrogate, as in the name of a file that is no UTF-8, is one character to JSON, and nothing that SQLite's
    functions, and so the views, could give out.
    """
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def dump_int(value: int) -> Any:
    """Say a whole number, a long one in base 16."""
    return value if value.bit_length() < LONGEST_DECIMAL else {"$int": hex(value)}


def dump_float(value: float) -> Any:
    """Say a number; JSON has no word for NaN and the infinities."""
    return value if math.isfinite(value) else {"$float": repr(value)}


def dump_factory(factory: Any) -> str | None:
    """Say what fills a ``defaultdict``.

    Raises:
        Unstorable: It is a function, or a class that is not a built-in one.
    """
    name = getattr(factory, "__name__", "")
    if factory is None or FACTORIES.get(name) is factory:
        return name or None
    raise Unstorable(factory, "a default factory can be a built-in type only; return a dict")


# -- time -------------------------------------------------------------------------------------------------------------


def dump_timezone(value: timezone) -> dict[str, Any]:
    """Say a fixed offset, and its name."""
    return {"$timezone": value.utcoffset(None).total_seconds(), "name": value.tzname(None)}


def load_timezone(seconds: float, name: str) -> timezone:
    """Rebuild a fixed offset; the name that Python itself gives it is none of its own."""
    plain = timezone(timedelta(seconds=seconds))
    if plain == UTC and name == "UTC":
        return UTC
    return plain if plain.tzname(None) == name else timezone(timedelta(seconds=seconds), name)


def dump_zone(value: Any) -> dict[str, Any]:
    """Say a named zone.

    Raises:
        Unstorable: It has no name.
    """
    if value.key is None:
        raise Unstorable(value, "a ZoneInfo without a key")
    return {"$zone": value.key}


def zoned(fields: dict[str, Any], value: datetime | time) -> dict[str, Any]:
    """Add the zone of a time, and which of two equal hours it means.

    Raises:
        Unstorable: The zone is neither a ZoneInfo nor a fixed offset.
    """
    zone = value.tzinfo
    if value.fold:
        fields["fold"] = 1
    if zone is None:
        return fields
    if is_of(type(zone), "zoneinfo:ZoneInfo"):
        return fields | {"zone": dump_zone(zone)["$zone"]}
    if type(zone) is timezone:
        offset = dump_timezone(zone)
        return fields | {"offset": offset["$timezone"], "name": offset["name"]}
    raise Unstorable(value, f"its time zone {zone!r} is neither a ZoneInfo nor a fixed offset")


def unzoned(moment: Any, fields: dict[str, Any]) -> Any:
    """Give a time its zone back."""
    zone: Any = None
    if "zone" in fields:
        zone = load_zone(fields["zone"])
    elif "offset" in fields:
        zone = load_timezone(fields["offset"], fields["name"])
    return moment.replace(tzinfo=zone, fold=fields.get("fold", 0))


def load_zone(key: str) -> Any:
    """Rebuild a named zone."""
    from zoneinfo import ZoneInfo  # as `LATE_LEAVES`

    return ZoneInfo(key)


def load_decimal(text: str) -> Any:
    """Rebuild a decimal number."""
    from decimal import Decimal  # as `LATE_LEAVES`

    return Decimal(text)


def load_uuid(text: str) -> Any:
    """Rebuild a UUID."""
    from uuid import UUID  # as `LATE_LEAVES`

    return UUID(text)


def load_path(fields: dict[str, Any]) -> PurePath:
    """Rebuild a path, if this platform has its kind."""
    found: Any = PATHS.get(fields["as"]) or gone(fields["as"])
    path: PurePath = found(fields["$path"])
    return path


LEAVES: dict[Any, Callable[[Any], Any]] = {
    bool: lambda v: v,
    str: dump_text,
    type(None): lambda v: v,
    int: dump_int,
    float: dump_float,
    bytes: lambda v: {"$bytes": base64.b64encode(v).decode()},
    bytearray: lambda v: {"$bytearray": base64.b64encode(v).decode()},
    complex: lambda v: {"$complex": [dump_float(v.real), dump_float(v.imag)]},
    datetime: lambda v: zoned({"$datetime": v.replace(tzinfo=None, fold=0).isoformat()}, v),
    date: lambda v: {"$date": v.isoformat()},
    time: lambda v: zoned({"$time": v.replace(tzinfo=None, fold=0).isoformat()}, v),
    timedelta: lambda v: {"$timedelta": [v.days, v.seconds, v.microseconds]},
    timezone: dump_timezone,
    type(...): lambda _: {"$ellipsis": True},
    Artifact: lambda v: {"$artifact": dump_text(str(v.path)), "size": v.size, "digest": v.digest},
} | {path: lambda v: {"$path": str(v), "as": type(v).__name__} for path in PATHS.values()}
"""How each type without parts is said."""

LATE_LEAVES: dict[str, Callable[[Any], Any]] = {
    "decimal:Decimal": lambda v: {"$decimal": str(v)},
    "uuid:UUID": lambda v: {"$uuid": str(v)},
    "zoneinfo:ZoneInfo": dump_zone,
}
"""The same, for types whose modules are not imported before a program uses them: that would take 5 ms."""


def is_of(cls: type, name: str) -> bool:
    """Tell whether *cls* is the class of one of `LATE_LEAVES`, and not one that only bears its name."""
    module, _, own = name.partition(":")
    return cls.__qualname__ == own and getattr(sys.modules.get(module), own, None) is cls


def late_leaf(cls: type) -> Callable[[Any], Any] | None:
    """Return how a class of `LATE_LEAVES` is said."""
    name = f"{cls.__module__}:{cls.__qualname__}"
    return LATE_LEAVES[name] if name in LATE_LEAVES and is_of(cls, name) else None


LOADS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "$text": lambda f: "".join(f["$text"]),
    "$int": lambda f: int(f["$int"], 16),
    "$float": lambda f: float(f["$float"]),
    "$bytes": lambda f: base64.b64decode(f["$bytes"], validate=True),
    "$bytearray": lambda f: bytearray(base64.b64decode(f["$bytearray"], validate=True)),
    "$complex": lambda f: complex(*f["$complex"]),
    "$decimal": lambda f: load_decimal(f["$decimal"]),
    "$uuid": lambda f: load_uuid(f["$uuid"]),
    "$datetime": lambda f: unzoned(datetime.fromisoformat(f["$datetime"]), f),
    "$date": lambda f: date.fromisoformat(f["$date"]),
    "$time": lambda f: unzoned(time.fromisoformat(f["$time"]), f),
    "$timedelta": lambda f: timedelta(*f["$timedelta"]),
    "$timezone": lambda f: load_timezone(f["$timezone"], f["name"]),
    "$zone": lambda f: load_zone(f["$zone"]),
    "$path": load_path,
    "$artifact": load_artifact,
    "$ellipsis": lambda _: ...,
}
"""How each of their tags is read."""


def same_leaf(value: Any, copy: Any) -> bool:
    """Compare two values of one type without parts; ``==`` takes 1.0 for 1.00, and one of two equal hours for both."""
    cls: Any = type(value)
    if cls is float or cls is complex or is_of(cls, "decimal:Decimal"):
        return repr(value) == repr(copy)
    if cls is datetime or cls is time:
        return bool(value == copy) and value.fold == copy.fold and type(value.tzinfo) is type(copy.tzinfo)
    return cls.__eq__ is object.__eq__ or bool(value == copy)
