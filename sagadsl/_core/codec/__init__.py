"""Values as JSON text and back: equal, and of the same type, or a clear refusal.

What JSON can say passes untouched (``plain``). Everything else is a small object whose first key is a tag::

    Decimal("99.90")          {"$decimal": "99.90"}
    (1, 2)                    {"$tuple": [1, 2]}
    Reservation("r-1", 2)     {"$type": "shop:Reservation", "id": "r-1", "quantity": 2}

so the file can be read without the program, and a restart needs no annotation to know what a value was. Classes are
found by name among imported modules (``classes``), or among those that annotations mentioned (`Codec.know`). A generic
collection of the user's own (``Registry[str, int]``) goes to cattrs with its annotation; `Codec.register` is for the
rest.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum, Flag
from functools import cache, partial
from typing import Any, get_origin

import attrs

from sagadsl._core.codec import arrays
from sagadsl._core.codec.artifacts import Artifact, artifacts_in
from sagadsl._core.codec.classes import (
    class_name,
    find_class,
    is_class,
    is_pydantic,
    is_record,
    is_stored_by_name,
    mentioned_in,
    model_from,
    model_state,
    put_together,
    take_apart,
)
from sagadsl._core.codec.faults import INBORN, add_note, fields_of, first_frame, rebuild, told_of, user_frames, without
from sagadsl._core.codec.plain import WORDS, copied, template_of
from sagadsl._core.codec.plain import decode as _decode
from sagadsl._core.codec.plain import encode as _encode
from sagadsl._core.codec.plain import encode_sorted as _encode_sorted
from sagadsl._core.codec.vocabulary import (
    FACTORIES,
    LEAVES,
    LOADS,
    Unstorable,
    dump_factory,
    gone,
    is_plain_text,
    late_leaf,
    same_leaf,
    unregistered,
)
from sagadsl._core.digests import blake2b
from sagadsl._core.phrases import text_of
from sagadsl._core.values import Noted
from sagadsl.errors import Fault, StepError, UsageError

PLAIN = {*WORDS, list, dict}
SEQUENCES = frozenset({list, tuple, deque})
MAPPINGS = frozenset({dict, OrderedDict, defaultdict, Counter})
SETS = frozenset({set, frozenset})
LIMIT = 16 * 1024 * 1024
"""The largest payload in bytes."""


class Codec:
    """Turn values into JSON text and back; *limit* is the largest text in characters."""

    def __init__(self, *, limit: int = LIMIT) -> None:
        self.limit = limit
        self._known: dict[str, type] = {}
        self._dumps: dict[type, Callable[[Any], Any]] = {}
        self._loads: dict[str, Callable[[Any], Any]] = {}
        self._annotated: dict[type, Any] = {}
        self._spelled: dict[str, Any] = {}
        self._hooks = LEAVES | self._containers()
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
        cls = type(value)
        try:
            copy, text = (value, WORDS[cls](value)) if cls in WORDS else (copied(value), _encode(value))
        except (TypeError, ValueError, RecursionError):  # NaN, an integer too long for decimal text, a cycle
            return self._encode_tagged(value)
        if len(text) > self.limit:
            raise self._too_large(value, text)
        if '"$' in text or ("\\ud" in text and _decode(text)[0] != value):
            return self._encode_tagged(value)  # a key like a tag; two surrogates that would come back as one character
        return text, copy

    def encode_named(self, template: str, names: tuple[str, ...], values: tuple[Any, ...]) -> str:
        """Return the text of a dictionary, most often arguments, that has the names of a *template*.

        Raises:
            Unstorable: As for `encode`.
        """
        try:
            text = template % (*[WORDS[type(value)](value) for value in values],)
        except (KeyError, ValueError):
            return self.encode(dict(zip(names, values, strict=True)))
        if '"$' in text or "\\ud" in text or len(text) > self.limit:
            return self.encode(dict(zip(names, values, strict=True)))
        return text

    def decode(self, text: str) -> Any:
        """Return the value of *text*.

        Raises:
            ValueError: It names what this program does not have, or is no text of ours.
        """
        try:
            value, end = self._decode_tagged(text) if '"$' in text else _decode(text)
        except RecursionError:
            msg = "the journal holds a value that is nested too deeply to be read here"
            raise ValueError(msg) from None
        except ValueError:
            raise
        except Exception as error:  # whatever a damaged or foreign text does to the functions that read it
            msg = f"the journal holds a value that cannot be read: {type(error).__name__}: {text_of(error)}"
            raise ValueError(msg) from error
        if end != len(text):
            msg = "the journal holds a value that something else follows"
            raise ValueError(msg)
        return value

    def note(self, text: str | None) -> Any:
        """Return what was noted beside the value of *text*, `None` where nothing was.

        Raises:
            ValueError: As for `decode`.
        """
        if text is None or not text.startswith('{"$noted":'):
            return None
        return self.decode(_encode(_decode(text)[0].get("note")))

    def encode_fault(self, error: BaseException) -> tuple[str, Fault]:
        """Return an exception as text, and as the fault that would come back of it.

        Whatever it does when it is looked at, it is a failure: what it says to people is recorded at the least.
        """
        try:
            fields = self._taken_apart(error)
            fault = self.load_fault(_encode(fields))
        except Exception as why:  # noqa: BLE001  # it is too large or nested too deeply, or a class nobody has thought of
            fields = told_of(error) | {"missing": [f"all but its text ({text_of(why):.200})"], "refused": True}
            fault = self.load_fault(_encode(fields))
        cls = self._class_called(fault.type)
        if cls is not None and type(self.exception(fault)) is not cls:
            fields["refused"], fault = True, attrs.evolve(fault, refused=True)
        return _encode(fields), fault

    def _taken_apart(self, error: BaseException) -> dict[str, Any]:
        fields = fields_of(error, self._keep)
        dump = self._dumps.get(type(error))
        if dump is not None:
            try:
                fields["dumped"] = self._keep(dump(error))
            except Exception as why:  # noqa: BLE001  # the failure of the step matters more than that of its dump
                told = f"its registered form ({type(why).__name__}: {text_of(why):.100})"
                fields["missing"] = [*fields.get("missing", ()), told]
        text = _encode(fields)
        if len(text) > self.limit:
            raise self._too_large(error, text)
        return fields

    def dump_fault(self, fault: Fault) -> str:
        """Return a fault as text."""
        return _encode(self._tag(self._fault_fields(fault), "$"))

    def load_fault(self, text: str) -> Fault:
        """Return the fault of *text*.

        Raises:
            ValueError: As for `decode`, or it is no fault.
        """
        return self._fault_from(self.decode(text))

    def told_fault(self, text: str) -> Fault:
        """Return the fault of *text*; of one that this program cannot read, what it says to people."""
        try:
            return self.load_fault(text)
        except ValueError:
            told = json.loads(text)
            facts = told if isinstance(told, dict) else {}
            words = [str(facts.get(name, "")) for name in ("type", "message", "traceback")]
            return Fault(words[0] or "unknown", words[1], words[2], refused=True)

    def exception(self, fault: Fault) -> BaseException | None:
        """Make the exception of a fault again, or return `None` where its class is gone or refuses."""
        cls = self._class_called(fault.type)
        if fault.refused or cls is None:
            return None
        load = self._loads.get(fault.type)
        if load is None or fault.dumped is None:
            error = rebuild(fault, cls)
        else:
            try:
                error = load(fault.dumped)
            except Exception:  # noqa: BLE001  # the user's function; without it the class counts as one that refuses
                return None
        if not isinstance(error, BaseException):
            return None
        if fault.missing:
            add_note(error, without(fault.missing))
        if fault.cause is not None:
            INBORN["__cause__"].__set__(error, self.exception(fault.cause))
        return error

    def raised(self, fault: Fault, step: str) -> BaseException:
        """Return the exception of a fault, or the `StepError` that stands for it where that cannot be made again."""
        error = self.exception(fault)
        return StepError(step, fault) if error is None else error

    def register(self, cls: type, dump: Callable[[Any], Any], load: Callable[[Any], Any]) -> None:
        """Store values of exactly *cls* as ``dump(value)`` and read them with ``load``.

        For an exception class this keeps what is otherwise lost when a step raises it: attributes that cannot be stored
        (a note names them), or the class itself, if it cannot be made without its ``__init__``, as pydantic's
        ``ValidationError``.

        Raises:
            UsageError: These are not a class and two functions, or JSON has a form for the class.
        """
        if not isinstance(cls, type) or not callable(dump) or not callable(load):
            msg = f"register(type, dump, load) takes a class and two functions, not {cls!r}, {dump!r}, {load!r}"
            raise UsageError(msg)
        if cls in PLAIN:
            msg = f"register({cls.__name__}, ...): JSON has a form for it already; register a class of your own"
            raise UsageError(msg)
        name = class_name(cls)
        self._dumps[cls], self._loads[name], self._known[name] = dump, load, cls
        self._hooks[cls] = lambda value: {"$type": name, "$value": self._tag(dump(value), "")}

    def know(self, annotation: Any) -> None:
        """Remember what an annotation mentions: local classes by their names, and what cattrs is asked for."""
        for part in mentioned_in(annotation):
            origin = get_origin(part)
            if is_class(part) and is_stored_by_name(part):
                self._known[class_name(part)] = part
            elif isinstance(origin, type) and origin not in self._hooks and not is_stored_by_name(origin):
                self._annotated[origin] = self._spelled[str(part)] = part

    def canonical(self, text: str) -> str:
        """Return the text of an equal value that does not depend on the order of keys."""
        if text.count('":') <= 1 and '"$' not in text:
            return text  # where there is one key, nothing has an order
        value = _decode(text)[0]
        return _encode_sorted(_sorted(value) if '"$' in text else value)

    def identity(self, text: str) -> str:
        """Return the digest of the canonical text: what tells calls with other arguments apart."""
        return blake2b(self.canonical(text).encode(), digest_size=16).hexdigest()

    def artifacts(self, value: Any) -> list[Artifact]:
        """Return the artifacts in a value, whatever they are in; also in the parts of one that cannot be stored."""
        try:
            return artifacts_in(self.encode(value))
        except Unstorable:
            parts = value if type(value) in SETS else [part for _, part in self._parts(value) or ()]
            return [found for part in parts for found in self.artifacts(part)]

    def leaves(self, value: Any) -> Iterator[Any]:
        """Yield what a value consists of that has no parts itself."""
        parts = [("", part) for part in value] if type(value) in SETS else self._parts(value)
        if parts is None:
            yield value
        else:
            for _, part in parts:
                yield from self.leaves(part)

    # -- saying -----------------------------------------------------------------------------------------------------

    def _encode_tagged(self, value: Any) -> tuple[str, Any]:
        try:
            text = _encode(self._tag(value, "$"))
            if len(text) > self.limit:
                raise self._too_large(value, text)  # noqa: TRY301
            copy = self.decode(text)
            self._compare(value, copy, "$")
        except Unstorable:
            raise
        except RecursionError:
            raise Unstorable(value, "it contains itself, or is nested too deeply", "$") from None
        except ValueError as error:
            raise Unstorable(value, str(error), "$") from error
        except Exception as error:  # a property, an ``__eq__``, a registered function of the user's
            raise Unstorable(value, f"{type(error).__name__}: {text_of(error)}", "$") from error
        return text, copy

    def _keep(self, value: Any) -> Any:
        return json.loads(self.encode(value))

    def _too_large(self, value: Any, text: str) -> Unstorable:
        reason = f"{len(text):,} bytes of JSON, the limit is {self.limit:,}: return a path to a file instead"
        return Unstorable(value, reason, "$", "as `sagadsl.Artifact(path)` its content is checked when a run goes on")

    def _tag(self, value: Any, part: str) -> Any:
        cls = type(value)
        if cls is bool or value is None:
            return value
        try:
            hook = self._hooks.get(cls)
            if hook is None:
                hook = self._hooks[cls] = self._hook_for(value)
            return hook(value)
        except Unstorable as error:
            raise error.at(part) from None

    def _hook_for(self, value: Any) -> Callable[[Any], Any]:
        """Choose how a class outside the vocabulary is said; it must be found again by its name."""
        cls = type(value)
        late = late_leaf(cls)
        if late is not None:
            return late
        if issubclass(cls, BaseException):
            return self._dump_exception
        if arrays.is_array(cls):
            return self._dump_array
        if not is_stored_by_name(cls):
            return self._dump_annotated
        name = class_name(cls)
        if self._class_called(name) is not cls:
            reason = (
                f"after a restart nothing would lead from {name} to its class: define it at module level, "
                "or annotate the step's argument or result with it"
            )
            raise Unstorable(value, reason)
        if issubclass(cls, Enum):
            return partial(self._dump_enum, name)
        return partial(self._dump_record if is_record(cls) else self._dump_model, name)

    def _containers(self) -> dict[type, Callable[[Any], Any]]:
        """Return how each type that contains others is said; `_revive_container` is the way back."""
        return {
            list: self._dump_items,
            tuple: lambda v: {"$tuple": self._dump_items(v)},
            deque: lambda v: {"$deque": self._dump_items(_bare(v)), "maxlen": v.maxlen},
            set: lambda v: {"$set": self._dump_unordered(v)},
            frozenset: lambda v: {"$frozenset": self._dump_unordered(v)},
            dict: self._dump_dict,
            OrderedDict: lambda v: {"$ordered": self._dump_pairs(_bare(v))},
            Counter: lambda v: {"$counter": self._dump_pairs(_bare(v))},
            defaultdict: lambda v: {
                "$defaultdict": self._dump_pairs(_bare(v)),
                "factory": dump_factory(v.default_factory),
            },
            Fault: lambda v: {"$fault": self._tag(self._fault_fields(v), "")},
            Noted: lambda v: {"$noted": self._tag(v.value, ""), "note": self._tag(v.note, ".note")},
        }

    def _dump_annotated(self, value: Any) -> dict[str, Any]:
        annotation = self._annotated.get(type(value))
        if annotation is None:
            for plain in (int, float, str, list, tuple, dict, set, frozenset, bytes):
                if isinstance(value, plain):
                    raise Unstorable(value, f"a subclass of {plain.__name__} would come back as {plain.__name__}")
            raise Unstorable(value, "neither JSON nor the journal has a form for it")
        return {"$as": str(annotation), "value": self._tag(_cattrs().unstructure(value, annotation), "")}

    def _dump_items(self, items: Iterable[Any]) -> list[Any]:
        return [self._tag(item, f"[{at}]") for at, item in enumerate(items)]

    def _dump_unordered(self, items: Iterable[Any]) -> list[Any]:
        return sorted((self._tag(item, "{}") for item in items), key=_canonical_key)

    def _dump_pairs(self, value: dict[Any, Any]) -> list[Any]:
        return [[self._tag(key, "{}"), self._tag(item, _part(key))] for key, item in value.items()]

    def _dump_dict(self, value: dict[Any, Any]) -> Any:
        if all(type(key) is str and key[:1] != "$" and is_plain_text(key) for key in value):
            return {key: self._tag(item, f".{key}") for key, item in value.items()}
        return {"$dict": self._dump_pairs(value)}

    def _dump_record(self, name: str, value: Any) -> dict[str, Any]:
        try:
            fields = take_apart(value)
        except ValueError as error:
            raise Unstorable(value, str(error)) from None
        return {"$type": name} | {key: self._tag(item, f".{key}") for key, item in fields.items()}

    def _dump_model(self, name: str, value: Any) -> dict[str, Any]:
        return {"$model": name} | {key: self._tag(item, "") for key, item in model_state(value).items()}

    def _dump_enum(self, name: str, value: Enum) -> dict[str, Any]:
        if type(value).__members__.get(value._name_ or "") is value:
            return {"$enum": name, "name": value._name_}
        if isinstance(value, Flag):
            return {"$enum": name, "flags": self._tag(value._value_, "")}
        raise Unstorable(value, "it is no member of its enum")

    def _dump_exception(self, value: BaseException) -> dict[str, Any]:
        text, fault = self.encode_fault(value)
        if type(self.exception(fault)) is not type(value):
            raise Unstorable(value, f"the exception {fault.type} cannot be made again: its class refuses, or is local")
        return {"$exception": json.loads(text)}

    def _dump_array(self, value: Any) -> dict[str, Any]:
        try:
            dumped = arrays.dump_array(value)
        except ValueError as error:
            raise Unstorable(value, str(error)) from None
        return {key: self._tag(item, f".{key}") for key, item in dumped.items()}

    def _fault_fields(self, fault: Fault) -> dict[str, Any]:
        fields = {n: getattr(fault, n) for n in attrs.fields_dict(Fault)}
        fields["args"] = list(fault.args)
        fields["missing"] = list(fault.missing)
        fields["cause"] = self._fault_fields(fault.cause) if fault.cause else None
        return {n: v for n, v in fields.items() if v or n in {"type", "message"} or (n == "dumped" and v is not None)}

    # -- reading ----------------------------------------------------------------------------------------------------

    def _fault_from(self, fields: Any) -> Fault:
        try:
            cause = fields.get("cause")
            known = fields | {"args": tuple(fields.get("args", ())), "missing": tuple(fields.get("missing", ()))}
            return Fault(**known | {"cause": self._fault_from(cause) if cause else None})
        except (TypeError, AttributeError) as error:
            msg = f"the journal holds something else where a fault should be: {error}"
            raise ValueError(msg) from error

    def _class_called(self, name: str) -> type | None:
        known = self._known.get(name)
        return find_class(name) if known is None else known

    def _revive(self, fields: dict[str, Any]) -> Any:  # noqa: PLR0911  # one a form
        """Make the value of an object whose first key is a tag; others pass. Called by the decoder, inside out."""
        tag = next(iter(fields), "")
        if tag[:1] != "$":
            return fields
        load = LOADS.get(tag) or CONTAINERS.get(tag)
        if load is not None:
            return load(fields)
        if tag == "$zlib":
            from sagadsl._core.codec.zlib_text import unpacked

            return self.decode(unpacked(fields[tag], self.limit))
        if tag == "$fault":
            return self._fault_from(fields[tag])
        if tag == "$exception":
            fault = self._fault_from(fields[tag])
            error = self.exception(fault)
            return gone(fault.type) if error is None else error
        if tag == "$as":
            annotation = self._spelled.get(fields[tag])
            return gone(fields[tag]) if annotation is None else _cattrs().structure(fields["value"], annotation)
        if tag in {"$type", "$model", "$enum"}:
            return self._revive_class(tag, fields.pop(tag), fields)
        msg = f"the journal holds a value tagged {tag!r}, which this version does not know"
        raise ValueError(msg)

    def _revive_class(self, tag: str, name: str, fields: dict[str, Any]) -> Any:  # noqa: PLR0911  # one a form
        if "$value" in fields:
            return self._loads[name](fields["$value"]) if name in self._loads else unregistered(name)
        cls = self._class_called(name)
        if cls is None:
            return gone(name)
        if tag == "$type" and is_record(cls):
            return put_together(cls, fields)
        if tag == "$model" and is_pydantic(cls):
            return model_from(cls, fields)
        if tag == "$enum" and issubclass(cls, Enum) and "name" in fields:
            member = cls.__members__.get(fields["name"])
            return gone(f"{name}.{fields['name']}") if member is None else member
        if tag == "$enum" and issubclass(cls, Flag):
            return cls(fields["flags"])
        return gone(name)

    # -- comparing --------------------------------------------------------------------------------------------------

    def _compare(self, value: Any, copy: Any, path: str) -> None:
        """Refuse a copy that is not equal and of the same type, naming the first place where it differs."""
        if type(value) is Noted:
            value = value.value
        cls = type(value)
        same = cls is type(copy)
        if not same or isinstance(value, BaseException):
            pass  # an exception's copy may lack attributes, which it then says itself
        elif cls in self._dumps:
            same = same_leaf(value, copy)
        elif arrays.is_array(cls):
            same = _encode(self._dump_array(value)) == _encode(self._dump_array(copy))
        elif cls in self._annotated:
            same = same_leaf(value, copy) and _encode(self._tag(value, "")) == _encode(self._tag(copy, ""))
        else:
            parts = self._parts(value)
            if parts is None:
                same = same_leaf(value, copy)
            else:
                others = self._parts(copy) or []
                same = len(parts) == len(others)
                for (part, left), (_, right) in zip(parts, others, strict=False):
                    self._compare(left, right, path + part)
        if not same:
            raise Unstorable(value, f"it would come back as {copy!r:.100}, which is not the same", path)

    def _parts(self, value: Any) -> list[tuple[str, Any]] | None:
        """Return what a value consists of, each part with its step of the path; `None` if it has no parts."""
        cls = type(value)
        if cls in SEQUENCES:
            return [(f"[{at}]", item) for at, item in enumerate(value)]
        if cls in SETS:
            tagged = sorted((_canonical_key(self._tag(item, "")), at, item) for at, item in enumerate(value))
            return [("{}", item) for _, _, item in tagged]
        if cls in MAPPINGS:
            return [part for key, item in value.items() for part in (("{}", key), (_part(key), item))]
        if is_record(cls):
            return [(f".{name}", item) for name, item in take_apart(value).items()]
        return list(model_state(value).items()) if is_pydantic(cls) else None


def _part(key: Any) -> str:
    return f".{key}" if type(key) is str else f"[{key!r}]"


def _bare(value: Any) -> Any:
    """Return a collection whose class leaves room for attributes, if it has none.

    Raises:
        Unstorable: It has one.
    """
    for name in getattr(value, "__dict__", ()):
        raise Unstorable(value, f"its attribute {name!r} would be lost")
    return value


@cache
def _cattrs() -> Any:
    import cattrs  # a seventh of this package's import time, for collections that few define

    return cattrs.Converter()


def _canonical_key(item: Any) -> str:
    return json.dumps(item, sort_keys=True)


def _sorted(value: Any) -> Any:
    """Put what has no order of its own into one; the encoder sorts plain keys."""
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    if isinstance(value, dict):
        value = {key: _sorted(item) for key, item in value.items()}
        for tag in ("$dict", "$set", "$frozenset", "$counter", "$defaultdict"):
            if tag in value:
                value[tag] = sorted(value[tag], key=_canonical_key)
    return value


def _load_default(fields: dict[str, Any]) -> Any:
    name = fields["factory"]
    return defaultdict(None if name is None else FACTORIES.get(name) or gone(name), fields["$defaultdict"])


CONTAINERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "$tuple": lambda f: tuple(f["$tuple"]),
    "$deque": lambda f: deque(f["$deque"], f["maxlen"]),
    "$set": lambda f: set(f["$set"]),
    "$frozenset": lambda f: frozenset(f["$frozenset"]),
    "$dict": lambda f: dict(f["$dict"]),
    "$ordered": lambda f: OrderedDict(f["$ordered"]),
    "$counter": lambda f: Counter(dict(f["$counter"])),
    "$defaultdict": _load_default,
    "$noted": lambda f: f["$noted"],
    "$numpy": arrays.load_numpy,
    "$pandas": arrays.load_pandas,
}
"""How the tags of what has parts are read; the parts are values by then."""

__all__ = ["LIMIT", "Codec", "Unstorable", "first_frame", "template_of", "user_frames"]
