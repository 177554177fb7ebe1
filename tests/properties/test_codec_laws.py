"""What holds for every value: it comes back as it was or is refused, and order that means nothing changes no digest."""

import contextlib
import json
import string
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagadsl._core.codec import Codec, Unstorable, template_of

ZONES = st.sampled_from(
    [None, UTC, timezone(timedelta(hours=-5)), timezone(timedelta(minutes=7), "X"), ZoneInfo("Europe/Berlin")]
)
TEXTS = st.text(st.characters(), max_size=8) | st.text('$\ud83d\ude00\0a"\\', max_size=8)
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=8) | st.complex_numbers()
    | st.decimals(allow_nan=False) | st.uuids() | st.dates() | st.times(timezones=st.just(UTC)) | st.timedeltas()
    | st.datetimes(timezones=ZONES, allow_imaginary=True) | st.builds(Path, st.text(string.ascii_letters, min_size=1))
)  # fmt: skip
KEYS = st.none() | st.integers() | TEXTS | st.binary(max_size=3) | st.tuples(st.integers(), TEXTS)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.lists(inner, max_size=4).map(deque)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4).map(OrderedDict)
        | st.dictionaries(KEYS, inner, max_size=4).map(lambda d: defaultdict(list, d))
        | st.dictionaries(KEYS, st.integers(), max_size=4).map(Counter)
        | st.frozensets(KEYS, max_size=4)
        | st.sets(KEYS, max_size=4)
    ),
    max_leaves=20,
)
CODEC = Codec()


def shown(value):
    """Return a value so that equal ones of the same types look the same, and others do not."""
    if isinstance(value, set | frozenset):
        return type(value), sorted(map(repr, map(shown, value)))
    if isinstance(value, dict):
        factory = getattr(value, "default_factory", None)
        return type(value), factory, [(shown(k), shown(v)) for k, v in value.items()]
    if isinstance(value, list | tuple | deque):
        return type(value), [shown(item) for item in value]
    return type(value), repr(value)


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_every_value_comes_back_equal_and_of_the_same_type(value):
    """The copy given out live and the one read later are the value again, and their text is the same text."""
    text, copy = CODEC.encode_and_copy(value)
    assert shown(copy) == shown(value)
    assert shown(CODEC.decode(text)) == shown(value)
    assert text.isascii()
    assert CODEC.canonical(CODEC.encode(copy)) == CODEC.canonical(text)


def turned(value):
    """Put everything that has no order of its own in the opposite one."""
    if type(value) in {dict, Counter}:
        return type(value)({key: turned(item) for key, item in reversed(list(value.items()))})
    if type(value) is defaultdict:
        return defaultdict(list, {key: turned(item) for key, item in reversed(list(value.items()))})
    if type(value) in {list, tuple, deque}:
        return type(value)(map(turned, value))
    return type(value)(reversed(list(value))) if type(value) in {set, frozenset} else value


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_identity_does_not_depend_on_an_order_that_means_nothing(value):
    """Keys and members may come in any order, at any depth."""
    assert CODEC.identity(CODEC.encode(value)) == CODEC.identity(CODEC.encode(turned(value)))


@settings(max_examples=200, deadline=None)
@given(VALUES, VALUES)
def test_different_values_are_different_calls(left, right):
    """Identities agree only where what comes back is the same."""
    same = CODEC.identity(CODEC.encode(left)) == CODEC.identity(CODEC.encode(right))
    assert same == (shown_unordered(left) == shown_unordered(right))


def shown_unordered(value):
    if type(value) in {dict, Counter, defaultdict}:
        factory = getattr(value, "default_factory", None)
        return repr(
            (type(value), factory, sorted(repr((shown_unordered(k), shown_unordered(v))) for k, v in value.items()))
        )
    if type(value) is OrderedDict:
        return repr((type(value), [(shown_unordered(k), shown_unordered(v)) for k, v in value.items()]))
    if isinstance(value, list | tuple | deque):
        return repr((type(value), [shown_unordered(item) for item in value]))
    return repr(shown(value))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "$type",
                    "$model",
                    "$enum",
                    "$value",
                    "$set",
                    "$dict",
                    "$tuple",
                    "$numpy",
                    "$pandas",
                    "$fault",
                    "$exception",
                    "$as",
                    "$lacks",
                    "$datetime",
                    "$int",
                    "$path",
                    "$zone",
                    "name",
                    "type",
                    "args",
                    "zone",
                    "as",
                    "kind",
                    "factory",
                    "$defaultdict",
                ]
            ),
            inner | st.sampled_from(["os:system", "builtins:eval", "datetime:datetime", "subprocess:Popen"]),
            max_size=3,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=400, deadline=None)
@given(JSON)
def test_any_text_is_read_or_refused_with_a_value_error(value):
    """Whatever stands in the file, reading it raises nothing else and imports nothing."""
    before = set(sys.modules)
    with contextlib.suppress(ValueError):
        CODEC.decode(json.dumps(value))
    assert not {name for name in set(sys.modules) - before if not name.startswith(("tzdata", "importlib"))}


class Lossy(Codec):
    """A mutant: it forgets which dictionaries had other keys than text."""

    def _dump_dict(self, value):
        return {str(key): self._tag(item, "") for key, item in value.items()}


def test_a_codec_that_changes_keys_refuses_its_own_work():
    """The comparison with the copy stands behind every form."""
    with pytest.raises(Unstorable, match="not the same"):
        Lossy().encode({1: 2})


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.from_regex(r"[^\W\d]\w*", fullmatch=True), LEAVES | VALUES, max_size=4))
def test_arguments_said_by_their_names_are_said_as_a_dictionary_is(arguments):
    """What is made once for a step's names gives the text, or the refusal, that a dictionary with them gets."""
    names, values = tuple(arguments), tuple(arguments.values())
    assert CODEC.encode_named(template_of(names), names, values) == CODEC.encode(arguments)
    brief = Codec(limit=len(CODEC.encode(arguments)) - 1)
    with pytest.raises(Unstorable, match="the limit is"):
        brief.encode_named(template_of(names), names, values)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_what_json_says_exactly_is_said_as_with_tags(value):
    """The short way and the long one agree: on the text, on the copy, and that it shares nothing that can change."""
    text, copy = CODEC.encode_and_copy(value)
    long_text, long_copy = CODEC._encode_tagged(value)
    assert (text, shown(copy)) == (long_text, shown(long_copy))
    assert not {id(part) for part in parts_of(copy)} & {id(part) for part in parts_of(value)}


def parts_of(value):
    """Return a value's lists and dictionaries, itself among them."""
    if isinstance(value, list | dict):
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from parts_of(item)
