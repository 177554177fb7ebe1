"""Values as JSON text and back: equal, and of the same type, or a clear refusal.

What JSON can say passes untouched. Everything else is a small object whose first key is a tag::

    Decimal("99.90")          {"$decimal": "99.90"}
    (1, 2)                    {"$tuple": [1, 2]}
    Reservation("r-1", 2)     {"$type": "shop:Reservation", "id": "r-1", "quantity": 2}

so the file can be read without the program, and a restart needs no annotation to know what a value was. Classes are
found by name among imported modules (``classes``), or among those that annotations mentioned (`Codec.know`). What is in
neither vocabulary (``deque[int]``, ``Counter[str]``) goes to cattrs with its annotation; `Codec.register` is for the rest.

The default encoder is the standard library's: faster ones write NaN as ``null`` and refuse lone surrogates.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from hashlib import blake2b
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, get_origin
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import cattrs

from sagadsl._core.codec import arrays
from sagadsl._core.codec.classes import (
    class_name,
    classes_in,
    find_class,
    is_pydantic,
    is_record,
    model_from,
    model_state,
    put_together,
    take_apart,
)
from sagadsl._core.codec.faults import fault_of, rebuild, user_frames
from sagadsl.errors import Fault, UsageError

SCALARS = frozenset({str, int, float, bool, type(None)})
PATHS = (PurePosixPath, PureWindowsPath, type(Path()))
LIMIT = 16 * 1024 * 1024
"""The largest payload in bytes."""

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False, allow_nan=False).encode
_decode = json.JSONDecoder().raw_decode


class Unstorable(Exception):  # noqa: N818  # a fact on its way to NotStorableError, which knows the step
    """Say which value, at which path, cannot be stored, and why."""

    def __init__(self, value: object, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.type = type(value).__qualname__
        self.reason = reason
        self.path = path

    def at(self, part: str) -> Unstorable:
        """Return it as seen from one level further out."""
        self.path = part + self.path
        return self


def _is_plain(value: Any) -> bool:
    """Tell whether JSON says *value* exactly (NaN and infinities aside, which the encoder refuses)."""
    cls = type(value)
    if cls in SCALARS:
        return True
    if cls is list:
        return all(type(item) in SCALARS or _is_plain(item) for item in value)
    if cls is dict:
        return all(
            type(key) is str and key[:1] != "$" and (type(item) in SCALARS or _is_plain(item))
            for key, item in value.items()
        )
    return False


class Codec:
    """Turn values into JSON text and back; *limit* is the largest text in characters."""

    def __init__(self, *, limit: int = LIMIT) -> None:
        self.limit = limit
        self._known: dict[str, type] = {}
        self._dumps: dict[type, Callable[[Any], Any]] = {}
        self._loads: dict[str, Callable[[Any], Any]] = {}
        self._annotated: dict[type, Any] = {}
        self._spelled: dict[str, Any] = {}
        self._hooks = self._vocabulary()
        self._decode_tagged = json.JSONDecoder(object_hook=self._revive).raw_decode

    # -- what callers use -----------------------------------------------------------------------------------------

    def encode(self, value: Any) -> str:
        """Return *value* as text.

        Raises:
            Unstorable: It would not come back equal and of the same type, or is too large.
        """
        return self.encode_and_copy(value)[0]

    def encode_and_copy(self, value: Any) -> tuple[str, Any]:
        """Return *value* as text, and the copy that would come back of it.

        Raises:
            Unstorable: As for `encode`.
        """
        try:
            if _is_plain(value):
                text = _encode(value)
                copy = value if type(value) in SCALARS else _decode(text)[0]
                if len(text) > self.limit:
                    raise self._too_large(value, text)
                return text, copy
        except (ValueError, RecursionError):
            pass  # NaN, an integer too long for decimal text, a cycle: told apart below
        return self._encode_tagged(value)

    def decode(self, text: str) -> Any:
        """Return the value of *text*.

        Raises:
            ValueError: It names what this program does not have, or is no text of ours.
        """
        try:
            return self._decode_tagged(text)[0] if '"$' in text else _decode(text)[0]
        except RecursionError:
            msg = "nested too deeply"
            raise ValueError(msg) from None

    def encode_fault(self, error: BaseException) -> tuple[str, Fault]:
        """Return an exception as text, and as the fault that would come back of it."""
        fault = fault_of(error, self.is_storable)
        dump = self._dumps.get(type(error))
        if dump is not None:
            fault = attrs.evolve(fault, dumped=dump(error), refused=False)
        return self.dump_fault(fault), fault

    def dump_fault(self, fault: Fault) -> str:
        """Return a fault as text."""
        return _encode(self._tag(self._fault_fields(fault), "$"))

    def load_fault(self, text: str) -> Fault:
        """Return the fault of *text*."""
        return self._fault_from(self.decode(text))

    def exception(self, fault: Fault) -> BaseException | None:
        """Make the exception of a fault again, or return `None` where its class is gone or refuses."""
        load = self._loads.get(fault.type)
        if load is not None and fault.dumped is not None:
            error: BaseException = load(fault.dumped)
            return error
        return rebuild(fault, self._known.get(fault.type))

    def is_storable(self, value: Any) -> bool:
        """Tell whether *value* can be stored."""
        try:
            self.encode(value)
        except Unstorable:
            return False
        return True

    def register(self, cls: type, dump: Callable[[Any], Any], load: Callable[[Any], Any]) -> None:
        """Store values of exactly *cls* as ``dump(value)`` and read them with ``load``."""
        if not isinstance(cls, type) or not callable(dump) or not callable(load):
            msg = f"register(type, dump, load) takes a class and two functions, not {cls!r}, {dump!r}, {load!r}"
            raise UsageError(msg)
        name = class_name(cls)
        self._dumps[cls], self._loads[name], self._known[name] = dump, load, cls
        self._hooks[cls] = lambda value: {"$type": name, "$value": self._tag(dump(value), "")}

    def know(self, annotation: Any) -> None:
        """Remember what an annotation mentions: local classes by their names, and what cattrs is asked for."""
        for cls in classes_in(annotation):
            self._known[class_name(cls)] = cls
        origin = get_origin(annotation)
        if isinstance(origin, type) and origin not in self._hooks:
            self._annotated[origin] = self._spelled[str(annotation)] = annotation

    def canonical(self, text: str) -> str:
        """Return the text of an equal value that does not depend on the order of keys."""
        if "{" not in text:
            return text
        return json.dumps(_sorted(json.loads(text)), separators=(",", ":"), sort_keys=True)

    def identity(self, text: str) -> str:
        """Return the digest of the canonical text: what tells calls with other arguments apart."""
        return blake2b(self.canonical(text).encode(), digest_size=16).hexdigest()

    # -- how it is done -------------------------------------------------------------------------------------------

    def _encode_tagged(self, value: Any) -> tuple[str, Any]:
        try:
            text = _encode(self._tag(value, "$"))
            copy = self.decode(text)
        except RecursionError:
            raise Unstorable(value, "it contains itself, or is nested too deeply", "$") from None
        except ValueError as error:
            raise Unstorable(value, str(error), "$") from error
        if len(text) > self.limit:
            raise self._too_large(value, text)
        self._compare(value, copy, "$")
        return text, copy

    def _too_large(self, value: Any, text: str) -> Unstorable:
        return Unstorable(
            value, f"{len(text):,} bytes of JSON, the limit is {self.limit:,}: return a path to a file instead", "$"
        )

    def _tag(self, value: Any, part: str) -> Any:
        cls = type(value)
        if cls is str or cls is bool or value is None:
            return value
        hook = self._hooks.get(cls)
        if hook is None:
            hook = self._hooks[cls] = self._hook_for(cls)
        try:
            return hook(value)
        except Unstorable as error:
            raise error.at(part) from None

    def _hook_for(self, cls: type) -> Callable[[Any], Any]:
        """Choose how a class outside the vocabulary is said."""
        if issubclass(cls, Enum):
            return self._dump_enum
        if issubclass(cls, BaseException):
            return self._dump_exception
        if arrays.is_array(cls):
            return self._dump_array
        if is_record(cls):
            return self._dump_record
        return self._dump_model if is_pydantic(cls) else self._dump_annotated

    def _vocabulary(self) -> dict[type, Callable[[Any], Any]]:
        """Return how each type of the vocabulary is said; `LOADS` has the way back."""
        return {
            bool: lambda v: v,
            str: lambda v: v,
            type(None): lambda v: v,
            int: _dump_int,
            float: lambda v: v if math.isfinite(v) else {"$float": repr(v)},
            list: self._dump_items,
            tuple: lambda v: {"$tuple": self._dump_items(v)},
            set: lambda v: {"$set": self._dump_unordered(v)},
            frozenset: lambda v: {"$frozenset": self._dump_unordered(v)},
            dict: self._dump_dict,
            bytes: lambda v: {"$bytes": base64.b64encode(v).decode()},
            bytearray: lambda v: {"$bytearray": base64.b64encode(v).decode()},
            complex: lambda v: {"$complex": [self._tag(v.real, ""), self._tag(v.imag, "")]},
            Decimal: lambda v: {"$decimal": str(v)},
            UUID: lambda v: {"$uuid": str(v)},
            datetime: _dump_datetime,
            date: lambda v: {"$date": v.isoformat()},
            time: lambda v: _zoned({"$time": v.replace(tzinfo=None, fold=0).isoformat()}, v),
            timedelta: lambda v: {"$timedelta": [v.days, v.seconds, v.microseconds]},
            ZoneInfo: _dump_zone,
            Fault: lambda v: {"$fault": self._tag(self._fault_fields(v), "")},
            type(...): lambda _: {"$ellipsis": True},
        } | {path: lambda v: {"$path": str(v), "as": type(v).__name__} for path in PATHS}

    def _dump_annotated(self, value: Any) -> dict[str, Any]:
        annotation = self._annotated.get(type(value))
        if annotation is None:
            for plain in (bool, int, float, str, list, tuple, dict, set, frozenset, bytes):
                if isinstance(value, plain):
                    raise Unstorable(value, f"a subclass of {plain.__name__} would come back as {plain.__name__}")
            raise Unstorable(value, "neither JSON nor the journal has a form for it")
        return {"$as": str(annotation), "value": self._tag(_cattrs().unstructure(value, annotation), "")}

    def _dump_items(self, items: Any) -> list[Any]:
        return [self._tag(item, f"[{at}]") for at, item in enumerate(items)]

    def _dump_unordered(self, items: Any) -> list[Any]:
        return sorted((self._tag(item, "{}") for item in items), key=_canonical_key)

    def _dump_dict(self, value: dict[Any, Any]) -> Any:
        if all(type(key) is str and key[:1] != "$" for key in value):
            return {key: self._tag(item, f".{key}") for key, item in value.items()}
        return {"$dict": [[self._tag(k, "{}"), self._tag(v, f"[{k!r}]")] for k, v in value.items()]}

    def _dump_record(self, value: Any) -> dict[str, Any]:
        name = class_name(type(value))
        self._known[name] = type(value)
        try:
            fields = take_apart(value)
        except ValueError as error:
            raise Unstorable(value, str(error)) from None
        return {"$type": name} | {key: self._tag(item, f".{key}") for key, item in fields.items()}

    def _dump_model(self, value: Any) -> dict[str, Any]:
        name = class_name(type(value))
        self._known[name] = type(value)
        return {"$model": name} | {key: self._tag(item, "") for key, item in model_state(value).items()}

    def _dump_enum(self, value: Enum) -> dict[str, Any]:
        name = class_name(type(value))
        self._known[name] = type(value)
        if type(value).__members__.get(value.name) is value:
            return {"$enum": name, "name": value.name}
        return {"$enum": name, "value": self._tag(value.value, "")}  # a combination of flags

    def _dump_exception(self, value: BaseException) -> dict[str, Any]:
        self._known[class_name(type(value))] = type(value)
        return {"$exception": json.loads(self.encode_fault(value)[0])}

    def _dump_array(self, value: Any) -> dict[str, Any]:
        try:
            dumped = arrays.dump_array(value)
        except ValueError as error:
            raise Unstorable(value, str(error)) from None
        return {key: self._tag(item, "") for key, item in dumped.items()}

    def _fault_fields(self, fault: Fault) -> dict[str, Any]:
        default = attrs.fields_dict(Fault)
        fields = {n: getattr(fault, n) for n in default}
        fields["args"] = list(fault.args)
        fields["missing"] = list(fault.missing)
        fields["cause"] = self._fault_fields(fault.cause) if fault.cause else None
        return {n: v for n, v in fields.items() if v or n in {"type", "message"}}

    def _fault_from(self, fields: dict[str, Any]) -> Fault:
        cause = fields.get("cause")
        fields = fields | {"args": tuple(fields.get("args", ())), "missing": tuple(fields.get("missing", ()))}
        return Fault(**fields | {"cause": self._fault_from(cause) if cause else None})

    def _revive(self, fields: dict[str, Any]) -> Any:
        """Make the value of an object whose first key is a tag; others pass. Called by the decoder, inside out."""
        tag = next(iter(fields), "")
        if tag[:1] != "$":
            return fields
        load = LOADS.get(tag)
        if load is not None:
            return load(fields)
        if tag == "$fault":
            return self._fault_from(fields[tag])
        if tag == "$exception":
            fault = self._fault_from(fields[tag])
            return self.exception(fault) or _gone(fault.type)
        if tag == "$as":
            annotation = self._spelled.get(fields[tag])
            return _gone(fields[tag]) if annotation is None else _cattrs().structure(fields["value"], annotation)
        if tag in {"$type", "$model", "$enum"}:
            return self._revive_class(tag, fields.pop(tag), fields)
        msg = f"the journal holds a value tagged {tag!r}, which this version does not know"
        raise ValueError(msg)

    def _revive_class(self, tag: str, name: str, fields: dict[str, Any]) -> Any:
        if "$value" in fields:
            return self._loads[name](fields["$value"]) if name in self._loads else _gone(name)
        cls = self._known.get(name) or find_class(name)
        if cls is None:
            return _gone(name)
        if tag == "$type" and is_record(cls):
            return put_together(cls, fields)
        if tag == "$model" and is_pydantic(cls):
            return model_from(cls, fields)
        if tag == "$enum" and issubclass(cls, Enum):
            return cls[fields["name"]] if "name" in fields else cls(fields["value"])
        return _gone(name)

    def _compare(self, value: Any, copy: Any, path: str) -> None:
        """Refuse a copy that is not equal and of the same type, naming the first place where it differs."""
        cls = type(value)
        same = cls is type(copy)
        if not same or isinstance(value, BaseException):
            pass
        elif cls is dict:
            same = list(value) == list(copy) or value.keys() == copy.keys()
            for key in value if same else ():
                self._compare(value[key], copy[key], f"{path}.{key}" if type(key) is str else f"{path}[{key!r}]")
        elif cls is list or cls is tuple:
            same = len(value) == len(copy)
            for at, (left, right) in enumerate(zip(value, copy, strict=False)):
                self._compare(left, right, f"{path}[{at}]")
        elif is_record(cls) and cls not in self._dumps:
            for key, item in take_apart(value).items():
                self._compare(item, getattr(copy, key, None), f"{path}.{key}")
        elif arrays.is_array(cls):
            same = arrays.same_array(value, copy)
        elif cls is Decimal or cls is float or cls is complex:
            same = repr(value) == repr(copy)
        elif cls.__eq__ is not object.__eq__:
            same = bool(value == copy)
        if not same:
            raise Unstorable(value, f"it would come back as {copy!r:.100}, which is not the same", path)


@cache
def _cattrs() -> cattrs.Converter:
    return cattrs.Converter()


def _gone(name: str) -> Any:
    msg = f"the journal holds a value of {name}, which this program has not imported (or not registered)"
    raise ValueError(msg)


def _canonical_key(item: Any) -> str:
    return json.dumps(item, sort_keys=True)


def _sorted(value: Any) -> Any:
    """Put the pairs of a tagged dictionary into one order; sets are stored sorted, plain keys sorted at writing."""
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    if isinstance(value, dict):
        value = {key: _sorted(item) for key, item in value.items()}
        if "$dict" in value:
            value["$dict"] = sorted(value["$dict"], key=_canonical_key)
    return value


def _dump_int(value: int) -> Any:
    # Decimal text of more than some 4,000 digits is refused by Python itself, in both directions.
    return value if value.bit_length() < 10_000 else {"$int": hex(value)}


def _dump_datetime(value: datetime) -> dict[str, Any]:
    return _zoned({"$datetime": value.replace(tzinfo=None, fold=0).isoformat()}, value)


def _zoned(fields: dict[str, Any], value: datetime | time) -> dict[str, Any]:
    if value.fold:
        fields["fold"] = 1
    zone = value.tzinfo
    if zone is None:
        return fields
    if isinstance(zone, ZoneInfo) and zone.key is not None:
        return fields | {"zone": zone.key}
    offset = value.utcoffset()
    if type(zone).__module__ != "datetime" or offset is None:
        raise Unstorable(value, f"its time zone {zone!r} is neither a ZoneInfo nor a fixed offset")
    return fields | {"offset": offset.total_seconds(), "name": zone.tzname(None)}


def _dump_zone(value: ZoneInfo) -> dict[str, Any]:
    if value.key is None:
        raise Unstorable(value, "a ZoneInfo without a key")
    return {"$zone": value.key}


def _unzoned(moment: Any, fields: dict[str, Any]) -> Any:
    from datetime import UTC, timezone  # noqa: PLC0415  # cold

    zone: Any = None
    if "zone" in fields:
        zone = ZoneInfo(fields["zone"])
    elif "offset" in fields:
        offset, name = timedelta(seconds=fields["offset"]), fields.get("name")
        plain = timezone(offset)
        zone = UTC if not offset and name == "UTC" else plain if plain.tzname(None) == name else timezone(offset, name)
    return moment.replace(tzinfo=zone, fold=fields.get("fold", 0))


def _load_path(fields: dict[str, Any]) -> PurePath:
    found = {cls.__name__: cls for cls in PATHS}.get(fields["as"])
    return found(fields["$path"]) if found else _gone(fields["as"])


LOADS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "$int": lambda f: int(f["$int"], 16),
    "$float": lambda f: float(f["$float"]),
    "$tuple": lambda f: tuple(f["$tuple"]),
    "$set": lambda f: set(f["$set"]),
    "$frozenset": lambda f: frozenset(f["$frozenset"]),
    "$dict": lambda f: {k: v for k, v in f["$dict"]},  # noqa: C416  # each pair is a list
    "$bytes": lambda f: base64.b64decode(f["$bytes"]),
    "$bytearray": lambda f: bytearray(base64.b64decode(f["$bytearray"])),
    "$complex": lambda f: complex(*f["$complex"]),
    "$decimal": lambda f: Decimal(f["$decimal"]),
    "$uuid": lambda f: UUID(f["$uuid"]),
    "$datetime": lambda f: _unzoned(datetime.fromisoformat(f["$datetime"]), f),
    "$date": lambda f: date.fromisoformat(f["$date"]),
    "$time": lambda f: _unzoned(time.fromisoformat(f["$time"]), f),
    "$timedelta": lambda f: timedelta(*f["$timedelta"]),
    "$zone": lambda f: ZoneInfo(f["$zone"]),
    "$path": _load_path,
    "$ellipsis": lambda _: ...,
    "$numpy": arrays.load_numpy,
    "$pandas": arrays.load_pandas,
}

__all__ = ["LIMIT", "Codec", "Unstorable", "user_frames"]
