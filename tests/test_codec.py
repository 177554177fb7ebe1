"""Values come back equal and of the same type after a restart, or are refused; nothing stored is ever executed."""

import asyncio
import collections
import dataclasses
import enum
import functools
import importlib
import json
import math
import subprocess
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import MutableMapping
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Generic, NamedTuple, NewType, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import numpy as np
import pandas as pd
import pydantic
import pytest

from sagadsl._core import digests
from sagadsl._core.codec import LIMIT, Codec, Unstorable, plain, template_of
from sagadsl._core.codec.classes import class_name, find_class
from sagadsl._core.parameters import close
from sagadsl.errors import Fault, UsageError

K = TypeVar("K")
V = TypeVar("V")


def never(*_: Any) -> Any:
    """Stand where nothing may run again."""
    if not ARMED:
        return _[-1] if _ else None
    msg = "this ran again"
    raise AssertionError(msg)


ARMED: list[bool] = []


# -- classes of a program ---------------------------------------------------------------------------------------------


@attrs.frozen
class Frozen:
    id: str
    quantity: int = 2


@attrs.define
class Careful:
    _secret: str = attrs.field(alias="hidden")
    amount: Decimal = attrs.field(converter=lambda v: never(v), validator=lambda *a: never(*a))
    computed: int = attrs.field(init=False)
    absent: int = attrs.field(init=False)

    def __attrs_post_init__(self):
        never()
        self.computed = 7

    @cached_property
    def twice(self):
        return self.computed * 2


@attrs.define(slots=False)
class Box(Generic[V]):
    content: V

    @cached_property
    def size(self):
        return 1


@dataclasses.dataclass(frozen=True)
class Point:
    x: float
    y: float = -0.0


@dataclasses.dataclass(slots=True, kw_only=True)
class Slotted:
    name: str
    tags: set[str] = dataclasses.field(default_factory=set)
    later: int = dataclasses.field(init=False)


@dataclasses.dataclass
class Built:
    seed: dataclasses.InitVar[int]
    value: int = dataclasses.field(init=False)

    def __new__(cls, *args):
        never()
        return super().__new__(cls)

    def __post_init__(self, seed):
        never()
        self.value = seed * 2


class Pair(NamedTuple):
    left: Any
    right: Any = None


Triple = collections.namedtuple("Triple", "a b c")  # noqa: PYI024


class Movie(TypedDict):
    title: str


class Colour(enum.Enum):
    RED = (255, 0, 0)
    SCARLET = (255, 0, 0)  # noqa: PIE796  # an alias
    BLUE = (0, 0, 255)


class Word(enum.StrEnum):
    YES = "yes"


class Level(enum.IntEnum):
    NONE = 0
    LOW = 1


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Access(enum.IntFlag):
    NONE = 0


class Counted(type):
    """A class that knows how many there are, none yet: it counts as false."""

    def __len__(cls):
        return 0


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str
    nested: "Model | None" = None
    when: date | None = None
    _note: str = pydantic.PrivateAttr(default="private")
    _unset: int = pydantic.PrivateAttr()


class Crate(pydantic.BaseModel, Generic[V]):
    content: V


CrateOfInt = Crate[int]


class Tags(pydantic.RootModel[dict[str, list[date]]]):
    """A model that is a single value."""


@pydantic.dataclasses.dataclass
class Checked:
    amount: int


class Registry(MutableMapping[K, V]):
    """A collection of the program's own, which cattrs knows how to take apart by its annotation."""

    def __init__(self, given=()):
        self.given = dict(given)

    def __getitem__(self, key):
        return self.given[key]

    def __setitem__(self, key, value):
        self.given[key] = value

    def __delitem__(self, key):
        del self.given[key]

    def __iter__(self):
        return iter(self.given)

    def __len__(self):
        return len(self.given)


class Handle:
    """A class that is registered."""

    def __init__(self, number):
        self.number = number

    def __eq__(self, other):
        return isinstance(other, Handle) and self.number == other.number

    __hash__ = None


def local_classes():
    """Return classes that no name leads to, and a value of each."""

    @attrs.define
    class Inner:
        x: int

    @attrs.define
    class Reservation:
        inner: Inner
        colour: Any = None

    class Local(enum.Enum):
        ONE = 1

    @dataclasses.dataclass
    class Carton(Generic[V]):
        content: V

    @dataclasses.dataclass
    class Rare(metaclass=Counted):
        x: int

    Reservation.__annotations__["colour"] = Local
    annotations = [Reservation, Carton[Inner] | None, Local, Rare]
    return annotations, [Reservation(Inner(1), Local.ONE), Carton(Inner(2)), Local.ONE, Rare(1)]


def careful():
    made = Careful(hidden="s", amount=Decimal("1.50"))
    made.twice  # noqa: B018  # a cached property is no field
    return made


def boxed():
    made = Box[int](1)
    made.size  # noqa: B018  # a cached property is no field
    return made


def timezones():
    berlin = ZoneInfo("Europe/Berlin")
    return {
        "naive": datetime(2026, 11, 22, 1, 2, 3, 4),  # noqa: DTZ001
        "utc": datetime(2026, 11, 22, tzinfo=UTC),
        "offset": datetime(2026, 11, 22, tzinfo=timezone(timedelta(hours=-3, microseconds=1))),
        "named offset": datetime(2026, 11, 22, tzinfo=timezone(timedelta(hours=1), "CET")),
        "named zero": datetime(2026, 11, 22, tzinfo=timezone(timedelta(0), "GMT")),
        "zone": datetime(2026, 7, 1, tzinfo=berlin),
        "earlier hour": datetime(2026, 10, 25, 2, 30, tzinfo=berlin),
        "later hour": datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=1),
        "gap": datetime(2026, 3, 29, 2, 30, tzinfo=berlin, fold=1),
        "first": datetime.min,  # noqa: DTZ901
        "last": datetime.max,  # noqa: DTZ901
    }


def arrays():
    structured = np.dtype([("a", "i4"), ("b", "f8", (2,)), ("c", "U3")], align=True)
    made = {
        f"array of {d}": np.array([1, 0, 1]).astype(d)
        for d in ["?", "b", "B", "h", "i8", ">i4", "f2", "f4", "f8", "g", "F", "D", "M8[s]", "m8[ns]", "S3", "U3"]
    }
    return made | {
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "view": np.arange(10)[::2],
        "no dimensions": np.array(1.5),
        "empty": np.empty((0, 3)),
        "structured": np.array([(1, (2.0, math.nan), "x")], dtype=structured),
        "nan and nat": np.array(["NaT", "2026-01-01"], "M8[us]"),
        "negative zero": np.array([-0.0, math.nan, math.inf]),
        "float scalar": np.float64(1.5),
        "bool scalar": np.bool_(True),
        "moment scalar": np.datetime64("NaT", "us"),
        "text scalar": np.str_("abc"),
        "row scalar": np.array([(1, (2.0, 3.0), "x")], dtype=structured)[0],
    }


def tables():
    index = pd.MultiIndex.from_product([["a", "b"], pd.array([1, None], "Int64")], names=["x", None])
    frame = pd.DataFrame(
        {
            "whole": [1, 2, 3],
            "small": np.array([1, 2, 3], "i1"),
            "float": [1.5, math.nan, -0.0],
            "object": pd.Series([None, (1, 2), math.nan], dtype="object"),
            "text": ["a", None, "c"],
            "string": pd.array(["a", None, "c"], "string"),
            "nullable": pd.array([1, None, 3], "Int64"),
            "truth": pd.array([True, None, False], "boolean"),
            "category": pd.Categorical(["x", None, "y"], categories=["y", "x", "unused"], ordered=True),
            "moment": pd.to_datetime(["2026-01-01", None, "2026-01-03"]),
            "zoned": pd.to_datetime(["2026-01-01", None, "2026-01-03"]).tz_localize("Europe/Berlin"),
            "span": pd.to_timedelta([1, None, 3], unit="s"),
        }
    )
    noted = pd.Series([1, 2], name=("a", 1), index=pd.date_range("2026-01-01", periods=2, freq="D", tz="UTC"))
    noted.attrs["unit"] = "kg"
    twins = pd.DataFrame([[1, "x"], [2, "y"]], columns=["same", "same"], index=["i", "i"])
    return {
        "table": frame,
        "table by levels": frame.iloc[:2].set_index(index[:2]),
        "twin names": twins,
        "no columns": pd.DataFrame(index=[1, 2]),
        "no rows": pd.DataFrame({"a": pd.Series([], dtype="i2")}),
        "series": noted,
        "range index": pd.RangeIndex(2, 10, 2, name="r"),
        "index": pd.Index([1, 2], dtype="i1", name="n"),
        "index of pairs": pd.Index([(1, 2), (3, 4)], tupleize_cols=False),
        "index of categories": pd.CategoricalIndex(["a", "b"], categories=["b", "a"]),
        "index of times": pd.date_range("2026-01-01", periods=3, freq="2h"),
        "index of spans": pd.timedelta_range("1s", periods=3, freq="s"),
        "index of levels": index[:3],
        "moment": pd.Timestamp("2026-10-25 00:30", tz="UTC").tz_convert("Europe/Berlin"),
        "later moment": pd.Timestamp("2026-10-25 01:30", tz="UTC").tz_convert("Europe/Berlin"),
        "naive moment": pd.Timestamp("2026-01-01 00:00:00.123456789"),
        "ancient moment": pd.Timestamp("0044-03-15").as_unit("s"),
        "moment with offset": pd.Timestamp("2026-01-01", tz=timezone(timedelta(hours=2))),
        "span": pd.Timedelta(5, "ms").as_unit("ms"),
        "no time": pd.NaT,
        "missing": pd.NA,
    }


def values():
    """Return a value of everything that can be stored, by name; the same ones in every process."""
    plain = {
        "none": None,
        "text": "lämp ✓ 😀",
        "nul": "a\0b",
        "lone surrogate": "\ud83d",
        "surrogate pair": "\ud83d\ude00",
        "surrogates in a list": ["x\ud83d\ude00\ud83d\ude00", "😀"],
        "surrogates in a key": {"\ud83d\ude00": 1},
        "surrogates among others": ("\ud83d\ude00",),
        "tag as text": '"$tuple',
        "numbers": [0, -1, 2**53 + 1, 2**70, 1e308, 5e-324, 0.1],
        "huge": 10**5000,
        "huge negative": [-(10**5000)],
        "not numbers": [math.nan, math.inf, -math.inf, -0.0],
        "truth": [True, 1, 1.0, False, 0],
        "complex": [complex(-0.0, math.nan), complex(1, -math.inf)],
        "nested": {"a": [{"b": [[], {}, [{}]]}]},
        "own tags": [{"$tuple": [1]}, {"a": 1, "$type": "os:system"}, {"$": {"$dict": []}}],
        "bytes": [b"\x00\xff", bytearray(b"x")],
        "tuples": ((), (1,), (1, (2, [3]))),
        "sets": [set(), {1, "a", None}, frozenset({frozenset({1, 2}), (1, 2)})],
        "set of nan": {math.nan},
        "keys": {1: "int", None: 0, (1, 2): "t", 1.5: "f", b"b": "b", frozenset({1}): "s", Colour.RED: 1, Pair(1): 2},
        "key that is true": {True: 1, 0: 2},
        "ordered": OrderedDict([("b", 1), (2, [3])]),
        "default": defaultdict(list, {"a": [1], (1,): [2]}),
        "default of nothing": defaultdict(None, {"a": 1}),
        "deque": [deque([1, (2,)], maxlen=3), deque()],
        "counter": Counter({"a": 2, (1, 2): -1}),
        "dates": [date.min, time(1, 2, 3, 4), time(2, tzinfo=UTC), time(2, tzinfo=ZoneInfo("Asia/Tokyo"), fold=1)],
        "spans": [timedelta.min, timedelta.max, timedelta(microseconds=-1)],
        "time zones": [UTC, timezone(timedelta(hours=1)), timezone(timedelta(0), "Z"), ZoneInfo("Europe/Berlin")],
        "decimals": [Decimal(text) for text in ("1.00", "1", "-0", "1E+400", "NaN", "-NaN12", "sNaN", "-Infinity")],
        "uuid": UUID(int=2**128 - 1),
        "paths": [Path("a/b"), PurePosixPath("/x"), PureWindowsPath("C:\\y")],
        "ellipsis": ...,
        "enums": [Colour.RED, Colour.SCARLET, Word.YES, Level.LOW, Right.READ, Right.READ | Right.WRITE, Right(0)],
        "enums that count as false": [Level.NONE, Access.NONE, {Level.NONE: 1}],
        "attrs": [Frozen("a"), careful(), boxed()],
        "dataclasses": [Point(1), Slotted(name="a", tags={"x"}), Built(3), Checked(4)],
        "named tuples": [Pair(1, [2]), Triple(1, 2, 3), Pair(Pair(None))],
        "typed dict": Movie(title="M"),
        "model": Model(name="a", nested=Model(name="b"), when=date(2026, 1, 1), extra_one=(1,)),
        "model made unchecked": Model.model_construct(name=5),
        "model made without a field": Model.model_construct(nested=None),
        "generic model": CrateOfInt(content=1),
        "root model": Crate(content=Tags({"a": [date(2026, 1, 1)]})),
        "registered": [Handle(1), {"h": Handle(2)}],
        "fault": Fault("m:E", "text", args=((1,),), attributes={"a": {1}}, cause=Fault("m:F", "")),
        "annotated": Registry({"a": 1}),
    }
    return plain | timezones() | arrays() | tables()


def alike(left, right):  # noqa: PLR0911, PLR0912  # one case a kind of value
    """Judge, without the codec's help, whether two values are equal and of the same type."""
    if type(left) is not type(right):
        return False
    match left:
        case float() | complex() | Decimal() if not isinstance(left, np.generic):
            return repr(left) == repr(right)
        case np.ndarray():
            facts = [(a.dtype, a.shape, a.flags.fnc, a.tobytes()) for a in (left, right)]
            return facts[0] == facts[1]
        case np.generic():
            return left.dtype == right.dtype and left.tobytes() == right.tobytes()
        case pd.DataFrame():
            pd.testing.assert_frame_equal(left, right, check_exact=True, check_freq=True)
            return (
                all(map(alike, left["object"], right["object"])) if "object" in left else alike(left.attrs, right.attrs)
            )
        case pd.Series():
            pd.testing.assert_series_equal(left, right, check_exact=True, check_freq=True)
            return alike(left.attrs, right.attrs) and alike(left.name, right.name)
        case pd.Index():
            pd.testing.assert_index_equal(left, right, exact=True, check_exact=True)
            return list(left.names) == list(right.names) and getattr(left, "freq", 0) == getattr(right, "freq", 0)
        case pd.Timestamp() | pd.Timedelta():
            return left == right and left.unit == right.unit and str(left) == str(right)
        case datetime() | time() if left is not pd.NaT:
            return (left.replace(tzinfo=None), left.fold, repr(left.tzinfo)) == (
                right.replace(tzinfo=None), right.fold, repr(right.tzinfo),
            )  # fmt: skip
        case list() | tuple() | deque():
            sizes = (len(left), getattr(left, "maxlen", 0)) == (len(right), getattr(right, "maxlen", 0))
            return sizes and all(map(alike, left, right))
        case dict():
            made = getattr(left, "default_factory", None) is getattr(right, "default_factory", None)
            return made and alike(list(left.items()), list(right.items()))
        case set() | frozenset():
            return alike(sorted(left, key=repr), sorted(right, key=repr))
        case pydantic.BaseModel():
            return alike(facts_of(left), facts_of(right))
        case Registry():
            return left.given == right.given
    if left is pd.NA or left is pd.NaT or isinstance(left, enum.Enum):
        return left is right
    if attrs.has(type(left)) or dataclasses.is_dataclass(left):
        return alike(facts_of(left), facts_of(right))
    return left == right


def facts_of(value):
    """Return what an instance carries, wherever it carries it."""
    slots = {
        n: getattr(value, n) for c in type(value).__mro__ for n in getattr(c, "__slots__", ()) if hasattr(value, n)
    }
    facts = {
        n: v for n, v in {**slots, **getattr(value, "__dict__", {})}.items() if n not in {"__weakref__", "__dict__"}
    }
    for name in ("size", "twice", "__orig_class__", "__pydantic_validator__"):
        facts.pop(name, None)
    private = facts.get("__pydantic_private__")
    if private:
        facts["__pydantic_private__"] = {n: v for n, v in private.items() if n == "_note"}
    return facts


def codec():
    made = Codec()
    made.register(Handle, lambda handle: {"n": handle.number}, lambda told: Handle(told["n"]))
    made.know(Registry[str, int])
    return made


def restarted(texts):
    """Decode in a process that has just imported this module; return what is wrong, by name."""
    ARMED.append(True)
    reader = codec()
    annotations, expected = local_classes()
    for annotation in annotations:
        reader.know(annotation)
    ARMED.clear()
    known = values() | {f"local {at}": value for at, value in enumerate(expected)}
    wrong = {}
    for name, text in texts.items():
        ARMED.append(True)
        found = reader.decode(text)
        ARMED.clear()
        same = facts_text(found) == facts_text(known[name]) if name.startswith("local") else alike(found, known[name])
        if not same:
            wrong[name] = repr(found)
    return wrong


def facts_text(value):
    return repr(value)


NAMES = sorted(values())
CHILD = """
import importlib, json, sys
sys.path[:0] = json.loads(sys.argv[1])
print(json.dumps(importlib.import_module(sys.argv[2]).restarted(json.load(sys.stdin))))
"""


@pytest.fixture(scope="module")
def after_restart():
    """Encode everything here, decode it in a fresh process, and return what came back wrong."""
    writer = codec()
    texts = {name: writer.encode(value) for name, value in values().items()}
    annotations, local = local_classes()
    for annotation in annotations:
        writer.know(annotation)
    texts |= {f"local {at}": writer.encode(value) for at, value in enumerate(local)}
    path = [str(Path(__file__).parent), *sys.path]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD, json.dumps(path), __name__],
        input=json.dumps(texts), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# -- equal, and of the same type --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_value_comes_back_equal_and_of_the_same_type_after_a_restart(name, after_restart):
    """What was stored by one process is the same value in the next."""
    assert name not in after_restart


@pytest.mark.parametrize("name", NAMES)
def test_the_copy_given_out_at_once_is_the_one_that_comes_back_later(name):
    """What a step returns inside a saga is the copy that a restart would give."""
    value = values()[name]
    text, copy = codec().encode_and_copy(value)
    assert alike(copy, value)
    assert text.isascii()


def test_classes_that_only_an_annotation_leads_to_come_back_after_a_restart(after_restart):
    """Classes defined inside functions are found by the annotations that mention them."""
    assert not [name for name in after_restart if name.startswith("local")]


def test_mutating_the_copy_changes_nothing_that_was_given():
    """The copy shares no container with the value."""
    value = {"a": [1], "b": ([2],)}
    copy = codec().encode_and_copy(value)[1]
    copy["a"].append(9)
    copy["b"][0].append(9)
    assert value == {"a": [1], "b": ([2],)}


def test_annotations_are_followed_through_new_types_aliases_and_generics():
    """`know` finds the classes inside whatever form an annotation has."""
    _, (reservation, carton, member, _) = local_classes()
    name = NewType("name", type(reservation))
    alias = types.SimpleNamespace(__value__=dict[str, name | None])
    made = Codec()
    made.know(alias)
    assert made.decode(made.encode([reservation])) == [reservation]
    assert made.decode(made.encode(member)) is member
    with pytest.raises(Unstorable):
        made.encode(carton)
    made.know(list[type(carton)[int]])
    assert made.decode(made.encode(carton)) == carton


def test_annotations_that_do_not_resolve_are_passed_over():
    """A name that exists for type checkers only hides nothing else."""
    cls = attrs.make_class("Odd", {"x": attrs.field(type="Missing"), "y": attrs.field(type=Frozen)})
    made = Codec()
    made.know(cls)
    made.know("Missing")
    assert made.decode(made.encode(cls(1, Frozen("a")))) == cls(1, Frozen("a"))


def test_the_main_script_is_named_after_its_file(tmp_path):
    """What a script stored is found when another program imports the same file."""
    script = tmp_path / "trip.py"
    script.write_text(
        "import attrs\nfrom sagadsl._core.codec import Codec\n\n@attrs.define\nclass R:\n    x: int\n\n"
        "if __name__ == '__main__':\n    text = Codec().encode(R(1))\n    assert Codec().decode(text) == R(1)\n"
        "    print(text)\n"
    )
    paths = ":".join([str(tmp_path), *sys.path])
    commands = [[sys.executable, str(script)], [sys.executable, "-m", "trip"]]
    told = [
        subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": paths}).stdout
        for command in commands
    ]
    assert told == ['{"$type":"trip:R","x":1}\n'] * 2


def test_a_session_without_a_file_keeps_its_name(monkeypatch):
    """In a notebook there is no file to be named after."""
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    main.Cell = dataclasses.make_dataclass("Cell", ["x"])
    main.Cell.__module__ = "__main__"
    assert class_name(main.Cell) == "__main__:Cell"
    assert find_class("__main__:Cell") is main.Cell


# -- refusals ---------------------------------------------------------------------------------------------------------


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Names(dict):
    pass


class Stack(list):
    pass


@dataclasses.dataclass
class Listed(list):
    x: int = 0


@dataclasses.dataclass
class Tupled(tuple):  # noqa: SLOT001
    x: int = 0


class Base:
    __slots__ = "hidden"  # noqa: PLC0205  # a text is one slot, too


class Twofold(Base):
    __slots__ = ("__private", "plain")


@dataclasses.dataclass
class Sloppy(Twofold):
    x: int


class Redefined:
    pass


@attrs.define
class Deaf:
    x: int

    @property
    def y(self):
        return 1


class Thunder:
    def __eq__(self, other):
        raise ZeroDivisionError

    __hash__ = None


class Open(enum.Enum):
    ONE = 1

    @classmethod
    def _missing_(cls, value):
        made = object.__new__(cls)
        made._name_, made._value_ = "made", value
        return made


class Berlin(tzinfo):
    def utcoffset(self, _):
        return timedelta(hours=1)


class Key(ZoneInfo):
    pass


def sloppy():
    made = Sloppy(1)
    made.hidden = 2
    return made


def slotted_in_private():
    made = Sloppy(1)
    made._Twofold__private = 2
    return made


def with_attribute(value, **attributes):
    vars(value).update(attributes)
    return value


def cycle():
    made: list[Any] = []
    made.append(made)
    return made


def cycle_of_records():
    made = Slotted(name="a")
    made.tags = [made]
    return made


def deep(depth=100_000):
    made: list[Any] = []
    for _ in range(depth):
        made = [made]
    return made


def local_instance():
    class Nobody(NamedTuple):
        x: int

    return Nobody(1)


REFUSED = {
    "a text of another class": ({"items": [1, Text("a")]}, "$.items[1]", "subclass of str"),
    "a number of another class": ([Whole(1)], "$[0]", "subclass of int"),
    "a dictionary of another class": ((Names(a=1),), "$[0]", "subclass of dict"),
    "a list of another class": (Stack(), "$", "subclass of list"),
    "a function": ({"f": {"g": len}}, "$.f.g", "neither JSON nor the journal"),
    "a class": (Frozen, "$", "neither JSON"),
    "a module": (math, "$", "neither JSON"),
    "a generator": ((x for x in ()), "$", "neither JSON"),
    "an object as key": ({object(): 1}, "${}", "neither JSON"),
    "a value under a key": ({(1, 2): [len]}, "$[(1, 2)][0]", "neither JSON"),
    "an item of a set": ({len}, "${}", "neither JSON"),
    "a field": (Frozen("a", len), "$.quantity", "neither JSON"),
    "a field of a model": (Model(name="a", more=len), "$.more", "neither JSON"),
    "a record that is a list": (Listed(1), "$", "also a list"),
    "a record that is a tuple": (Tupled(), "$", "also a tuple"),
    "an attribute that is no field": (with_attribute(Built(1), more=1), "$", "'more' is no field"),
    "a slot that is no field": (sloppy(), "$", "'hidden' is no field"),
    "a private slot that is no field": (slotted_in_private(), "$", "'_Twofold__private' is no field"),
    "an attribute of a counter": (with_attribute(Counter(), more=1), "$", "'more' would be lost"),
    "a factory that is a function": (defaultdict(dict.fromkeys), "$", "built-in type only"),
    "a factory of another's name": (defaultdict(type("list", (list,), {})), "$", "built-in type only"),
    "a local class": (local_instance(), "$", "define it at module level"),
    "no member of its enum": (Open("else"), "$", "no member of its enum"),
    "a time zone of another class": (datetime(2026, 1, 1, tzinfo=Berlin()), "$", "neither a ZoneInfo nor a fixed"),
    "a ZoneInfo of another class": ([time(1, tzinfo=Key("UTC"))], "$[0]", "neither a ZoneInfo nor a fixed"),
    "itself": (cycle(), "$", "contains itself"),
    "a record in itself": (cycle_of_records(), "$", "contains itself"),
    "a hundred thousand lists": (deep(), "$", "nested too deeply"),
    "an array of objects": ([np.array([None])], "$[0]", "an array of objects"),
    "a masked array": (np.ma.array([1]), "$", "no array and no scalar"),
    "a text that numpy cuts": (np.str_("a\0"), "$", "not the same"),
    "a table with a function": (pd.DataFrame({"a": [len]}), "$.columns[0].values[0]", "neither JSON"),
    "a period": (pd.Period("2026-01"), "$", "no table, column, index or time"),
    "an array of pandas": (pd.array([1]), "$", "no table, column, index or time"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_would_not_come_back_is_refused_where_it_stands(name):
    """A lossy round trip is an error that names the path and the reason, never a silent change."""
    value, path, reason = REFUSED[name]
    with pytest.raises(Unstorable) as told:
        Codec().encode(value)
    assert told.value.path == path
    assert reason in told.value.reason


async def counting():
    yield 1


class Delayed:
    def __await__(self):
        return iter([])


@pytest.mark.parametrize(
    ("make", "do"),
    [
        (lambda: asyncio.sleep(0), "await it. Where a def gave it, that hides an async function: put @step directly"),
        (Delayed, "await it, in an `async def`"),
        (lambda: (x for x in ()), "make a list of it: list(...)"),
        (lambda: map(str, []), "make a list of it: list(...)"),
        (lambda: {}.values(), "make a list of it: list(...)"),
        (counting, "make a list of it: [each async for each in ...]"),
        (lambda: len, "give its name, as text; a parameter may also be annotated `Live[...]`"),
        (lambda: cycle, "give its name, as text"),
        (lambda: Codec().encode, "give its name, as text"),
        (lambda: str.upper, "give its name, as text"),
        (lambda: functools.cache(cycle), "give its name, as text"),
        (lambda: Frozen, "give its name, as text"),
        (cycle, "give plainer data"),
        (lambda: "x" * 100, "as `sagadsl.Artifact(path)` its content is checked when a run goes on"),
        (object, "return plain data, or register it with sagadsl.register(object, dump, load)"),
    ],
)
def test_a_value_that_no_registration_could_help_is_refused_with_what_to_do(make, do):
    """A form for a text that is too long, or for all functions, is none that a program could give."""
    value = make()
    with pytest.raises(Unstorable) as told:
        Codec(limit=90).encode(value)
    error = told.value.error("charge", "result")
    assert f"; {do}" in str(error)
    assert ("register" in str(error)) is (make is object)
    close(value)


def test_a_zone_made_from_a_file_without_a_name_is_refused():
    """Without a key nothing leads back to it; with one that is nobody's, neither."""
    with (
        Path("/usr/share/zoneinfo/Europe/Berlin").open("rb")
        if Path("/usr/share/zoneinfo/Europe/Berlin").exists()
        else (importlib.resources.files("tzdata.zoneinfo.Europe").joinpath("Berlin").open("rb")) as file
    ):
        nameless = ZoneInfo.from_file(file)
        file.seek(0)
        stranger = ZoneInfo.from_file(file, key="Nowhere/Else")
    for value, reason in [(nameless, "without a key"), (stranger, "No time zone found")]:
        with pytest.raises(Unstorable, match=reason):
            Codec().encode([datetime(2026, 1, 1, tzinfo=value)])


def test_a_pickle_hook_is_never_asked():
    """What pickle would store of an object is of no interest here."""

    class Trap:
        def __reduce__(self):
            raise AssertionError

    with pytest.raises(Unstorable, match="neither JSON"):
        Codec().encode(Trap())


def test_what_goes_wrong_in_the_program_s_own_functions_is_a_refusal():
    """A registered function or an ``__eq__`` that raises makes a value unstorable, and breaks nothing else."""
    made = Codec()
    made.register(Thunder, lambda _: 1, lambda _: Thunder())
    with pytest.raises(Unstorable, match="ZeroDivisionError"):
        made.encode(Thunder())
    made.register(Handle, lambda _: 1 / 0, Handle)
    with pytest.raises(Unstorable, match="division by zero"):
        made.encode([Handle(1)])
    made.register(Handle, lambda h: h.number, lambda told: told["x"])
    with pytest.raises(Unstorable, match="cannot be read"):
        made.encode([Handle(1)])
    made.register(Handle, lambda h: h.number, lambda _: Handle(0))
    with pytest.raises(Unstorable, match="not the same") as told:
        made.encode({"a": [Handle(1)]})
    assert told.value.path == "$.a[0]"


def test_a_value_of_a_class_that_was_defined_anew_is_refused():
    """Its name leads to the new class, so it would come back as another type."""
    made = Codec()
    old = Frozen("a")
    made.encode(old)
    made.know(attrs.make_class("Frozen", ["id", "quantity"], class_body={"__module__": __name__}))
    with pytest.raises(Unstorable, match="not the same"):
        made.encode(old)


def named(cls):
    """Return a class by the name that all generations of it have."""
    cls.__qualname__ = "Grown"
    return cls


def of_kind(decorate=lambda cls: cls, *bases, **fields):
    """Return a class of that kind with these fields, each as its annotation or as that and a default."""
    annotations = {name: told[0] if isinstance(told, tuple) else told for name, told in fields.items()}
    defaults = {name: told[1] for name, told in fields.items() if isinstance(told, tuple)}
    body = {"__annotations__": annotations, "__module__": __name__, **defaults}
    return named(decorate(types.new_class("Grown", bases, exec_body=lambda namespace: namespace.update(body))))


def generations():
    """Return, by name, how a class is made, a default of each form it knows, and what a new field gets by it."""
    model = functools.partial(of_kind, lambda cls: cls, pydantic.BaseModel)
    adding = attrs.Converter(lambda value, made: made.a + int(value), takes_self=True)
    kinds = {
        "named tuple": (functools.partial(of_kind, lambda cls: cls, NamedTuple), [(5, 5)]),
        "dataclass": (
            functools.partial(of_kind, dataclasses.dataclass), [(5, 5), (dataclasses.field(default_factory=list), [])]
        ),
        "dataclass with slots": (functools.partial(of_kind, dataclasses.dataclass(slots=True)), [(5, 5)]),
        "frozen dataclass": (functools.partial(of_kind, dataclasses.dataclass(frozen=True)), [(5, 5)]),
        "attrs": (
            functools.partial(of_kind, attrs.define),
            [
                (5, 5),
                (attrs.field(factory=list), []),
                (attrs.field(default=attrs.Factory(lambda made: made.a + 1, takes_self=True)), 2),
                (attrs.field(default="5", converter=int), 5),
                (attrs.field(default="5", converter=adding), 6),
            ],
        ),
        "frozen attrs": (functools.partial(of_kind, attrs.frozen), [(5, 5)]),
        "model": (model, [(5, 5), (pydantic.Field(default_factory=list), [])]),
        "dataclass of pydantic": (
            functools.partial(of_kind, pydantic.dataclasses.dataclass),
            [(5, 5), (pydantic.Field(default=5), 5), (pydantic.Field(default_factory=list), [])],
        ),
    }  # fmt: skip
    return {f"{name} {at}": (make, *told) for name, (make, forms) in kinds.items() for at, told in enumerate(forms)}


def read_by(cls, text):
    """Return what a program reads in which the class of a value looks like this by now."""
    reader = Codec()
    reader.know(cls)
    return reader.decode(text)


def stored_as(cls, **fields):
    """Return the text that a program stored in which the class of a value looked like this."""
    writer = Codec()
    writer.know(cls)
    return writer.encode(cls(**fields))


@pytest.mark.parametrize("name", generations())
def test_a_field_that_a_class_has_got_since_has_its_default(name):
    """As it has in an instance that the program makes by now; so whoever gets the old one is not surprised by it."""
    make, default, expected = generations()[name]
    text = stored_as(make(a=int), a=1)
    found = read_by(make(a=int, b=(Any, default)), text)
    assert (found.a, found.b, type(found.b)) == (1, expected, type(expected))


@pytest.mark.parametrize("name", [name for name in generations() if name.endswith("0")])
def test_a_field_without_a_default_and_one_that_may_be_renamed_are_refused(name):
    """Half an instance is none, and a value must not give way to a default because its name is another one."""
    make = generations()[name][0]
    text = stored_as(make(a=int), a=1)
    with pytest.raises(ValueError, match="Grown from before that class had the field b: give it a default"):
        read_by(make(a=int, b=int), text)
    renamed = "Grown with the field a, and by now that class has b and no a: keep that name"
    with pytest.raises(ValueError, match=renamed):
        read_by(make(b=(int, 5)), text)
    both = stored_as(make(a=int, b=int), a=1, b=2)
    assert read_by(make(a=int), both).a == 1  # a field that has gone is missed by nobody


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("dataclass 0", dataclasses.field),
        ("dataclass with slots 0", dataclasses.field),
        ("frozen dataclass 0", dataclasses.field),
        ("dataclass of pydantic 0", dataclasses.field),
        ("attrs 0", attrs.field),
        ("frozen attrs 0", attrs.field),
    ],
)
def test_a_field_that_is_set_later_and_was_not_stored_is_not_set(name, field):
    """As in an instance that is new; but where another has gone, its value is not dropped."""
    make = generations()[name][0]
    text = stored_as(make(a=int), a=1)
    found = read_by(make(a=int, cache=(dict, field(init=False))), text)
    assert (found.a, hasattr(found, "cache")) == (1, False)
    assert read_by(make(a=int, cache=(int, field(init=False, default=5))), text).cache == 5
    with pytest.raises(ValueError, match="by now that class has cache and no a: keep that name"):
        read_by(make(cache=(dict, field(init=False))), text)


def test_what_a_model_has_worked_out_is_no_field_that_has_gone():
    """A cached property lives beside the fields."""

    class Grown(pydantic.BaseModel):
        a: int

        @cached_property
        def twice(self):
            return self.a * 2

    class Since(Grown):
        b: int = 5

    value, writer = named(Grown)(a=1), Codec()
    assert value.twice == 2
    writer.know(Grown)
    found = read_by(named(Since), writer.encode(value))
    assert (found.a, found.b, found.twice) == (1, 5, 2)


def test_a_collection_that_cattrs_rebuilds_otherwise_is_refused():
    """An annotation is a hint; the comparison decides."""
    made = Codec()
    made.know(list[Names | Registry[str, float]])
    with pytest.raises(Unstorable, match="not the same"):
        made.encode(Registry({"a": 1}))


def test_a_record_s_lost_part_is_named_by_its_path():
    """The first place that differs is told, at any depth."""
    made = Codec()
    made.register(Handle, lambda _: 0, lambda _: Handle(0))
    for value, path in [
        (Pair({1: Handle(1)}), "$.left[1]"),
        (Model(name="a", more={"x": Handle(1)}), "$extra.more.x"),
        (deque([Frozen("a", Handle(2))]), "$[0].quantity"),
    ]:
        with pytest.raises(Unstorable) as told:
            made.encode(value)
        assert told.value.path.replace("fields", "") == path


def test_a_text_beyond_the_limit_is_refused_with_both_sizes():
    """The limit is 16 MiB, and the message says what else to do."""
    assert LIMIT == 16 * 1024 * 1024
    made = Codec(limit=20)
    assert made.encode("x" * 18) == '"' + "x" * 18 + '"'
    for value in ("x" * 19, (1, "x" * 10)):
        with pytest.raises(Unstorable, match="the limit is 20: return a path"):
            made.encode(value)


def test_register_takes_a_class_and_two_functions():
    """What JSON says by itself cannot be registered; nor can anything but a class."""
    for wrong in [("Handle", str, str), (Handle, None, str), (Handle, str, 1)]:
        with pytest.raises(UsageError, match="takes a class and two functions"):
            Codec().register(*wrong)
    with pytest.raises(UsageError, match="JSON has a form for it"):
        Codec().register(dict, str, str)


def test_a_registered_class_is_not_its_subclass():
    """`register` is for exactly the class it names."""

    class Special(Handle):
        pass

    with pytest.raises(Unstorable, match="neither JSON"):
        codec().encode(Special(1))


# -- hostile and damaged texts ----------------------------------------------------------------------------------------

HOSTILE = {
    '{"$type":"os:system"}': "a value of os:system, and os has no such system by now: keep it under that name",
    '{"$type":"os:path.join"}': "no such path.join",
    '{"$type":"antigravity:Egg"}': "not imported",
    '{"$type":"builtins:list"}': "no such list",
    '{"$type":"subprocess:Popen","args":["true"]}': "no such Popen",
    '{"$type":"pathlib:Path","$value":1}': r"and this program has no sagadsl.register\(Path, dump, load\)",
    '{"$type":5}': "cannot be read",
    '{"$model":"builtins:object"}': "no such object",
    '{"$enum":"re:RegexFlag","name":"NOTHING"}': "re has no such RegexFlag.NOTHING by now",
    '{"$enum":"inspect:_ParameterKind","flags":1}': "no such _ParameterKind",
    '{"$as":"os.system"}': "not imported",
    '{"$reduce":["os:system",["true"]]}': "does not know",
    '{"$exception":{"type":"os:system","message":"m"}}': "no such system",
    '{"$exception":{"type":"builtins:list","message":"m"}}': "no such list",
    '{"$exception":5}': "something else where a fault should be",
    '{"$fault":{"type":"a:B","message":"m","odd":1}}': "something else where a fault should be",
    '{"$fault":{}}': "something else where a fault should be",
    '{"$decimal":"1;2"}': "cannot be read",
    '{"$decimal":{"a":1}}': ".",
    '{"$date":5}': "cannot be read",
    '{"$timedelta":[1e99]}': "cannot be read",
    '{"$zone":"../../etc/passwd"}': ".",
    '{"$zone":"Nowhere"}': "cannot be read",
    '{"$path":"x","as":"PosixPathological"}': "not imported",
    '{"$defaultdict":[],"factory":"exec"}': "not imported",
    '{"$set":[[1]]}': "cannot be read",
    '{"$dict":[[[],1]]}': "cannot be read",
    '{"$tuple":5}': "cannot be read",
    '{"$numpy":"gASVBQAAAAAAAABLAS4=","kind":"array"}': ".",
    '{"$pandas":"eval"}': "cannot be read",
    '{"$bytes":"%"}': ".",
    '{"a":1': ".",
    "": ".",
    "1 2": "something else follows",
    '{"$tuple":[]} x': "something else follows",
}


@pytest.mark.parametrize("text", sorted(HOSTILE))
def test_a_text_that_is_not_ours_is_a_clear_error_and_does_nothing(text):
    """Nothing stored is imported or executed; whatever it says, the answer is a ValueError."""
    before = set(sys.modules)
    with pytest.raises(ValueError, match=HOSTILE[text]):
        codec().decode(text)
    assert "antigravity" not in sys.modules
    assert {m for m in set(sys.modules) - before if not m.startswith(("tzdata", "importlib"))} == set()


def test_a_text_nested_too_deeply_to_be_read_is_a_clear_error():
    """The depth of the stack is the reader's, so it may differ from the writer's."""
    with pytest.raises(ValueError, match="nested too deeply"):
        Codec().decode("[" * 100_000 + "]" * 100_000)


def test_a_module_s_own_getattr_never_runs(monkeypatch):
    """Names are looked up in dictionaries, so a lazy module stays lazy."""
    lazy = types.ModuleType("lazy_module")
    lazy.__getattr__ = lambda _: pytest.fail("it ran")
    monkeypatch.setitem(sys.modules, "lazy_module", lazy)
    assert find_class("lazy_module:Thing") is None
    assert find_class("lazy_module:Thing.Part") is None


@pytest.mark.parametrize("library", ["numpy", "pandas"])
def test_a_table_is_not_read_where_its_library_is_not_imported(library, monkeypatch):
    """Reading a journal imports neither of them."""
    text = Codec().encode({"numpy": np.array([1]), "pandas": pd.NaT}[library])
    monkeypatch.delitem(sys.modules, library)
    with pytest.raises(ValueError, match=f"a value of {library}, which this program has not imported"):
        Codec().decode(text)


def test_without_the_c_encoder_the_texts_are_the_same(monkeypatch):
    """The shortcut past the standard library's front door is taken only where it gives the same text."""
    value = {"a": [1.5, None, "ü"], "b": {"c": True}}
    assert plain.encode(value) == json.dumps(value, separators=(",", ":"))
    for made in (None, lambda *_: lambda *_: ["else"]):
        monkeypatch.setattr(json.encoder, "c_make_encoder", made)
        assert isinstance(plain.made_encoder().__self__, json.JSONEncoder)
        assert plain.made_encoder(sort_keys=True).__self__.sort_keys


@pytest.mark.parametrize("value", ["$5", "half a pair: \ud800"])
def test_an_argument_that_could_be_taken_for_a_tag_is_said_as_in_a_dictionary(value):
    """A price, and a text that has no bytes."""
    text = codec().encode_named(template_of(["x"]), ("x",), (value,))
    assert text == codec().encode({"x": value})
    assert codec().decode(text) == {"x": value}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_argument_for_which_json_has_no_word_is_said_with_a_tag(value):
    """By its name as in a dictionary; the template has room for it."""
    text = codec().encode_named(template_of(["x"]), ("x",), (value,))
    assert text == codec().encode({"x": value})
    assert repr(codec().decode(text)["x"]) == repr(value)


def test_without_the_c_module_the_digests_are_the_same(monkeypatch):
    """What is taken past ``hashlib`` is what ``hashlib`` has."""
    shortcut = digests.blake2b
    monkeypatch.setitem(sys.modules, "_blake2", None)
    try:
        assert importlib.reload(digests).blake2b(b"x", digest_size=8).digest() == shortcut(b"x", digest_size=8).digest()
    finally:
        monkeypatch.undo()
        importlib.reload(digests)


# -- digests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"a": 1, "b": {"x": 1, "y": 2}}, {"b": {"y": 2, "x": 1}, "a": 1}),
        ({1: "a", (2,): "b"}, {(2,): "b", 1: "a"}),
        ([{3, 1, 2}, frozenset({"b", "a"})], [{2, 3, 1}, frozenset({"a", "b"})]),
        (Counter({"a": 1, (1,): 2}), Counter({(1,): 2, "a": 1})),
        (defaultdict(int, {1: 1, 2: 2}), defaultdict(int, {2: 2, 1: 1})),
        ({"s": (1, {"k": {1, 2}})}, {"s": (1, {"k": {2, 1}})}),
    ],
)
def test_identity_does_not_depend_on_the_order_of_keys_or_members(left, right):
    """Equal arguments are the same call, in whatever order they were put together."""
    made = Codec()
    assert made.identity(made.encode(left)) == made.identity(made.encode(right))


def test_identity_tells_types_values_and_orders_apart():
    """Whatever comes back as something else is another call."""
    made = Codec()
    different = [
        1,
        1.0,
        True,
        "1",
        [1],
        (1,),
        {1},
        {"1": 1},
        {1: 1},
        -0.0,
        0.0,
        0,
        None,
        "",
        [],
        Pair(1),
        Triple(1, 2, 3),
        [1, 2],
        [2, 1],
        OrderedDict(a=1, b=2),
        OrderedDict(b=2, a=1),
        {"a": 1, "b": 2},
        "{",
        '{"$set":[1]}',
    ]
    assert len({made.identity(made.encode(value)) for value in different}) == len(different)
    assert made.canonical("[1,2]") == "[1,2]"
