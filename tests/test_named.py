"""A saga called by the names of its arguments, as a command line does: what a text means is what annotations say."""

from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pydantic
import pytest
from attrs import frozen

from sagadsl import Live, Runtime, UsageError, saga


class Size(Enum):
    SMALL = "small"


@frozen
class Guest:
    name: str
    age: int = 1


class Room(pydantic.BaseModel):
    number: int


class Desk:
    pass


def called(annotation, given, *, is_text=True):
    """Return what a saga gets for an argument of some annotation."""
    got = []

    @saga(runtime=Runtime(":memory:"))
    def take(value: annotation):
        got.append(value)

    take.outcome_by_names({"value": given}, is_text=is_text)
    return got[0]


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (str, "12", "12"),
        (str | None, "null", "null"),
        (int, "12", 12),
        (int | None, "null", None),
        (float, "12", 12.0),
        *((bool, text, True) for text in ("true", "True", "yes", "on", "1")),
        *((bool, text, False) for text in ("false", "False", "FALSE", "no", "off", "0")),
        (bool | None, "no", False),
        (bool | None, "null", None),
        (list[bool], '["no", true, 0]', [False, True, False]),
        (bytes, "abcd", b"abcd"),
        (bytes, "12", b"12"),
        (bytes | None, "\u00e9", b"\xc3\xa9"),
        (bytes, "\udcff", b"\xff"),
        (Decimal, "99.90", Decimal("99.90")),
        (UUID, "12345678-1234-5678-1234-567812345678", UUID(int=0x12345678123456781234567812345678)),
        (Path, "a/b", Path("a/b")),
        (date, "2026-11-22", date(2026, 11, 22)),
        (Size, "small", Size.SMALL),
        (Literal["a", "b"], "b", "b"),
        (list[int], "[1, 2]", [1, 2]),
        (Guest, '{"name": "Ada"}', Guest("Ada")),
        (Room, '{"number": 3}', Room(number=3)),
        (Any, "12", 12),
        (Any, "twelve", "twelve"),
    ],
)
def test_a_text_is_what_the_annotation_says(annotation, text, value):
    got = called(annotation, text)
    assert (got, type(got)) == (value, type(value))


def test_a_json_value_is_taken_as_it_is_or_made_into_what_is_wanted():
    assert called(Decimal, 9.5, is_text=False) == Decimal("9.5")
    assert called(Guest, {"name": "Ada", "age": 3}, is_text=False) == Guest("Ada", 3)
    assert called(Any, [1, {"a": None}], is_text=False) == [1, {"a": None}]


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "three"),
        (int, "1.5"),
        (date, "soon"),
        (Size, "huge"),
        (Guest, "[]"),
        (Room, "{}"),
        (Decimal, "much"),
        (bool, "maybe"),
        (bool, "2"),
        (bool, ""),
        (bool, "null"),
        (bool, "[]"),
        (bool | None, "nope"),
        (list[bytes], "[1]"),
    ],
)
def test_what_an_annotation_cannot_be_is_refused_by_the_name_of_the_argument(annotation, text):
    with pytest.raises(UsageError, match=r"^argument value: "):
        called(annotation, text)


@pytest.mark.parametrize(
    ("given", "is_text", "got"),
    [
        ({"items": "1"}, True, ((1,), {})),
        ({"items": "[1, 2]", "more": '{"on": "no"}'}, True, ((1, 2), {"on": False})),
        ({"items": [3], "more": {}}, False, ((3,), {})),
        ({"items": "[]"}, True, ((), {})),
    ],
)
def test_what_takes_anything_is_given_a_list_or_one_alone_and_an_object(given, is_text, got):
    @saga(runtime=Runtime(":memory:"))
    def take(*items: int, **more: bool):
        return items, more

    assert take.outcome_by_names(given, is_text=is_text).value == got


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"items": "one"}, r"argument items\[0\]: 'one' is not what items\[0\]: int takes"),
        ({"items": '[1, "b"]'}, r"argument items\[1\]: 'b' is not"),
        ({"more": "1"}, r"argument more: 1 is not what \*\*more takes: a JSON object, with other names than items"),
        ({"more": '{"items": true}'}, r"argument more: .* with other names than items, more"),
        ({"more": '{"a": "b"}'}, r"argument more\.a: 'b' is not"),
    ],
)
def test_what_takes_anything_refuses_what_is_none_of_it(given, told):
    @saga(runtime=Runtime(":memory:"))
    def take(*items: int, **more: bool):
        pass

    with pytest.raises(UsageError, match=f"^{told}"):
        take.outcome_by_names(given, is_text=True)


def test_names_are_those_of_the_signature():
    """Missing and unknown ones are told with all there are; what has a default, or may be empty, may be left out."""

    @saga(name="take", runtime=Runtime(":memory:"))
    def take(desk: Live[Desk], city: str, *rooms: int, nights: int = 3, **more: int):
        pass

    for given, told in (({}, "needs city"), ({"city": "a", "desk": "b"}, "has no argument desk")):
        with pytest.raises(UsageError, match=f"^the saga take {told}; its arguments are: city: str, rooms: int, n"):
            take.outcome_by_names(given, is_text=True)
    with pytest.raises(UsageError, match="needs the live argument desk, a Desk"):
        take.outcome_by_names({"city": "a"}, is_text=True)


def test_live_arguments_are_those_that_are_provided():
    desk, got = Desk(), []

    @saga(runtime=Runtime(":memory:", provide={Desk: lambda: desk}))
    def take(desk: Live[Desk], *rooms: int, nights: int = 3):
        got.append((desk, rooms, nights))

    assert take.outcome_by_names({}, is_text=True).exit_code == 0
    assert got == [(desk, (), 3)]


def test_a_saga_that_is_a_class_method_is_called_on_the_class_that_is_provided():
    """As one that is a method is on the instance."""
    got = []

    class Shop:
        @saga
        @classmethod
        def fill(cls, item: str) -> str:
            got.append((cls, item))
            return item

    fill = vars(Shop)["fill"].using(runtime=Runtime(":memory:", provide={Shop: Shop}))
    assert fill.outcome_by_names({"item": "lamp"}, is_text=True).value == "lamp"
    assert got == [(Shop, "lamp")]
