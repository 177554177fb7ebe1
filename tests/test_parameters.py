"""How arguments are bound, which are live, and what a compensation receives: all decided once, at decoration."""

import contextlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial, wraps
from pathlib import Path
from typing import Annotated

import pytest

from sagadsl._core.live import LIVE, Live
from sagadsl._core.parameters import Origin, Parameters, Receiver, annotations_of
from sagadsl._core.registry import registry
from sagadsl.errors import UsageError

RESULT, ERROR, KEY = Origin.RESULT, Origin.ERROR, Origin.IDEMPOTENCY_KEY


def plain(a, b=2):
    return a, b


def rich(a, /, b, *rest, c=3, **more):
    return a, b, rest, c, more


def keywords(*, a, b=1):
    return a, b


def nothing():
    return ()


class Shop:
    def method(self, a):
        return a

    @classmethod
    def made(cls, a):
        return a

    @staticmethod
    def static(a):
        return a


CALLS = [
    (plain, (1,), {}),
    (plain, (1, 5), {}),
    (plain, (1,), {"b": 5}),
    (plain, (), {"b": 5, "a": 1}),
    (plain, (), {"a": 1}),
    (rich, (1, 2), {}),
    (rich, (1, 2, 3, 4), {"c": 5, "d": 6}),
    (rich, (1,), {"b": 2, "a": 7}),
    (keywords, (), {"a": 1}),
    (keywords, (), {"a": 1, "b": 2}),
    (nothing, (), {}),
]
WRONG = [
    (plain, (), {}),
    (plain, (1, 2, 3), {}),
    (plain, (1,), {"a": 1}),
    (plain, (1,), {"c": 1}),
    (rich, (), {"a": 1, "b": 2}),
    (keywords, (1,), {}),
    (keywords, (), {}),
    (nothing, (1,), {}),
    (nothing, (), {"a": 1}),
]


def named(case):
    return case.__name__ if callable(case) else repr(case)


@pytest.mark.parametrize(("function", "args", "kwargs"), CALLS, ids=named)
def test_arguments_are_bound_as_the_function_itself_would(function, args, kwargs):
    """By name, in the signature's order, defaults filled; and back again to a call with the same meaning."""
    parameters = Parameters.of(function)
    bound = parameters.bind(args, kwargs)
    expected = inspect.signature(function).bind(*args, **kwargs)
    expected.apply_defaults()
    assert list(bound.items()) == list(expected.arguments.items())
    again, named_again = parameters.spread(bound)
    assert function(*again, **named_again) == function(*args, **kwargs)


@pytest.mark.parametrize(("function", "args", "kwargs"), WRONG, ids=named)
def test_arguments_that_do_not_fit_are_a_type_error(function, args, kwargs):
    """As the function itself would say, and before anything is recorded."""
    with pytest.raises(TypeError):
        function(*args, **kwargs)
    with pytest.raises(TypeError):
        Parameters.of(function).bind(args, kwargs)


def test_binding_shares_nothing_with_the_caller_s_keywords():
    """What is bound may be kept."""
    given = {"a": 1}
    bound = Parameters.of(plain).bind((), given)
    bound["a"] = 2
    assert given == {"a": 1}


# -- live ones --------------------------------------------------------------------------------------------------------


def with_session(session: Live[int], order: str, verbose=False):
    """Take a connection."""


def with_text(session: "Live[Missing]", other: "sagadsl.Live[Missing]", order: "str"):  # noqa: F821
    """Take annotations that resolve for type checkers only."""


def with_annotated(session: "Annotated[int, LIVE]", order: Annotated[int, "else"]):
    """Spell it out."""


def test_live_arguments_are_parted_from_those_that_are_stored():
    """``Live``, named in ``live=``, ``self`` and ``cls``; the others are part of a call's identity."""
    parameters = Parameters.of(with_session, live=["verbose"])
    assert [parameters.stored, parameters.live] == [("order",), {"session", "verbose"}]
    stored, live = parameters.split(parameters.bind((1, "o"), {}))
    assert [stored, live] == [{"order": "o"}, {"session": 1, "verbose": False}]
    assert Parameters.of(plain).split({"a": 1}) == ({"a": 1}, None)
    assert [Parameters.of(f).live for f in (Shop.method, vars(Shop)["made"], vars(Shop)["static"])] == [
        {"self"},
        {"cls"},
        set(),
    ]
    assert [Parameters.of(f).live for f in (with_text, with_annotated)] == [{"session", "other"}, {"session"}]


def test_live_is_what_type_checkers_take_for_its_argument():
    """``Live[int]`` is ``int`` with a mark."""
    assert Live[int] == Annotated[int, LIVE]
    assert repr(LIVE) == "Live"
    assert annotations_of(with_annotated)["session"] == Annotated[int, LIVE]


def test_naming_a_parameter_that_does_not_exist_is_refused():
    """A typing error would store a secret."""
    with pytest.raises(UsageError, match=r"plain: live= names sesion, which is no parameter of \(a, b=2\)"):
        Parameters.of(plain, live=["a", "sesion"])


def taking(annotation):
    def step(value):
        """Take one value."""

    step.__annotations__["value"] = annotation
    return step


@pytest.mark.parametrize(
    "annotation",
    [Callable[[], int], Iterator[int], "Callable[..., int]", "typing.IO[str]", "TextIO", "socket.socket", "Generator",
     __import__("sqlite3").Connection, __import__("threading").Thread, "list[threading.Lock]"],
    ids=str,
)  # fmt: skip
def test_an_annotation_that_can_never_be_stored_is_refused_with_its_cure(annotation):
    """On the decorator's line, not after the first effect; named as live it is fine."""
    with pytest.raises(UsageError, match=r"can never be stored; annotate it `value: Live\[...\]`, or name it in live="):
        Parameters.of(taking(annotation))
    assert Parameters.of(taking(annotation), live=["value"]).stored == ()


@pytest.mark.parametrize(
    "annotation", [None, "None", int, list[int], "Iteration", "CallableOrder", Annotated[str, 1]], ids=str
)
def test_other_annotations_are_no_concern_here(annotation):
    """Whether their values can be stored shows when there are some."""
    assert Parameters.of(taking(annotation)).stored == ("value",)


# -- what a compensation receives -------------------------------------------------------------------------------------


def step(item, amount, session: Live[int] = 0):
    """Stand for a step."""


def of(function):
    return Receiver.of(function, Parameters.of(step), "the compensation of step")


TABLE = [
    (lambda: ..., {}, False, "nothing at all"),
    (lambda item: ..., {"item": "item"}, False, "an argument by its name"),
    (lambda session: ..., {"session": "session"}, False, "a live argument by its name"),
    (lambda amount, item: ..., {"amount": "amount", "item": "item"}, False, "arguments in any order"),
    (lambda result: ..., {"result": RESULT}, True, "the result by its name"),
    (lambda result=None: ..., {"result": RESULT}, False, "a result it can do without"),
    (lambda reservation: ..., {"reservation": RESULT}, True, "the one that is left gets the result"),
    (lambda reservation=None: ..., {"reservation": RESULT}, False, "the one that is left, with None for no result"),
    (lambda item, error: ..., {"item": "item", "error": ERROR}, False, "the error"),
    (lambda idempotency_key: ..., {"idempotency_key": KEY}, False, "the key the step used"),
    (lambda error, payment, item: ..., {"error": ERROR, "payment": RESULT, "item": "item"}, True, "a mixture"),
    (lambda item, dry=False: ..., {"item": "item"}, False, "other defaults stay"),
    (lambda dry=False: ..., {}, False, "a default that is no None stays, alone too"),
    (lambda a=None, b=None: ..., {}, False, "of several defaults none is meant"),
    (lambda booking=None, dry=False: ..., {}, False, "of several defaults none is meant, of which one is None"),
    (lambda result="", dry=None: ..., {"result": RESULT}, False, "but for the result by its name, with any default"),
    (lambda result, quiet=None: ..., {"result": RESULT}, True, "a result by name leaves defaults alone"),
    (lambda payment, quiet=None: ..., {"payment": RESULT}, True, "the one without a default is meant"),
    (lambda item, *args, **kwargs: ..., {"item": "item"}, False, "what takes anything gets nothing"),
    (lambda payment, /, item: ..., {"payment": RESULT, "item": "item"}, True, "positional only"),
    (lambda *, item, payment: ..., {"item": "item", "payment": RESULT}, True, "keyword only"),
    (partial(lambda *args: ..., "lamp"), {}, False, "what has been given what it takes"),
    (lambda *, booking=None: ..., {"booking": RESULT}, False, "keyword only, with None for no result"),
    (lambda *, item, booking=None: ..., {"item": "item", "booking": RESULT}, False, "such a one beside an argument"),
    (lambda *, result=None: ..., {"result": RESULT}, False, "the result by its name, keyword only"),
    (lambda *, dry=False: ..., {}, False, "keyword only, another default stays"),
    (print, {}, False, "a built-in that takes anything"),
    (dict.fromkeys, {"iterable": RESULT}, True, "a built-in with a signature"),
    (next, {"result": RESULT}, True, "a C function that keeps its signature to itself"),
]


@pytest.mark.parametrize(("function", "sources", "needs_result", "what"), TABLE, ids=[row[-1] for row in TABLE])
def test_a_compensation_receives_what_its_parameters_name(function, sources, needs_result, what):
    """The step's arguments, result, error and key by name; the one that is left gets the result."""
    receiver = of(function)
    assert receiver.sources == sources
    assert receiver.needs_result is needs_result
    assert receiver.function == function


UNBOUND = [
    (lambda one, two: ..., ["one <- ?", "two <- ?"]),
    (lambda item, one, two: ..., ["item <- argument item", "one <- ?", "two <- ?"]),
    (lambda result, other: ..., ["result <- result", "other <- ?"]),
    (lambda error, one, two: ..., ["error <- error", "one <- ?", "two <- ?"]),
    (lambda *args, **kwargs: ..., ["*args <- ?", "**kwargs <- ?"]),
    (lambda *item: ..., ["*item <- ?"]),
]


@pytest.mark.parametrize(("function", "binding"), UNBOUND, ids=range(len(UNBOUND)))
def test_what_cannot_be_bound_is_refused_and_shows_the_binding(function, binding):
    """Two parameters cannot both mean the result, so neither is guessed."""
    with pytest.raises(UsageError) as error:
        of(function)
    lines = str(error.value).splitlines()
    assert lines[0] == "the compensation of step: <lambda> cannot be bound:"
    assert [line.strip() for line in lines[1:-1]] == binding
    assert lines[-1].startswith(
        "Name parameters like the step's (item, amount, session), or `result`, `error`, `idempotency_key`"
    )


def test_a_step_without_parameters_says_so_where_nothing_can_be_bound():
    """There is no name to suggest."""
    with pytest.raises(UsageError, match=r"\(it has none\)"):
        Receiver.of(lambda a, b: ..., Parameters.of(nothing), "t")


VALUES = {"item": "lamp", "amount": 2, RESULT: "r-1", ERROR: None, KEY: "k"}


def received(function, values):
    args, kwargs = of(function).arguments(values)
    return function(*args, **kwargs)


def test_a_compensation_is_called_with_the_values_of_its_sources():
    """Whatever kind of parameter it has."""
    assert received(lambda payment, /, item, *, idempotency_key: (payment, item, idempotency_key), VALUES) == (
        "r-1",
        "lamp",
        "k",
    )
    assert received(lambda error, amount: (error, amount), VALUES) == (None, 2)


def packed(order, *items, gift=False, **tags):
    """Take anything, under two names."""


PACKED = {"order": "o-1", "items": ("lamp", "desk"), "gift": True, "tags": {"colour": "red"}, ERROR: None}
SPREAD = [
    (lambda *items, **tags: (items, tags), (("lamp", "desk"), {"colour": "red"})),
    (lambda order, *items, error: (order, items, error), ("o-1", ("lamp", "desk"), None)),
    (lambda order, /, parcel=None, *items, gift: (order, parcel, items, gift), ("o-1", None, ("lamp", "desk"), True)),
    (lambda quiet=True, level=1, *items, **more: (quiet, level, items, more), (True, 1, ("lamp", "desk"), {})),
    (lambda items, tags: (items, tags), (("lamp", "desk"), {"colour": "red"})),
]


@pytest.mark.parametrize(("undo", "gets"), SPREAD, ids=range(len(SPREAD)))
def test_what_takes_anything_gets_what_the_step_s_of_that_name_took(undo, gets):
    """In its place, behind those whose defaults stand; by names alone too, as they are on record."""
    names = [name for name in PACKED if name is not ERROR]
    for step_of in (Parameters.of(packed), Parameters.named(names, (), inspect.signature(undo).parameters.values())):
        args, kwargs = Receiver.of(undo, step_of, "t").arguments(PACKED)
        assert undo(*args, **kwargs) == gets


@pytest.mark.parametrize("place", ["body", "record"])
def test_a_compensation_that_takes_anything_undoes_what_the_step_took(colour, make_runtime, world, monkeypatch, place):
    """Also of a run whose body is not there: it is found by its name, with the arguments on record."""

    def release(shelf, *items, **tags):
        world.add(f"-{shelf}:{','.join(items)}:{tags}".replace(" ", ""))

    release.__qualname__ = "release"
    monkeypatch.setattr(sys.modules[__name__], "release", release, raising=False)

    @colour.step(compensate=release, name="reserve")
    def reserve(shelf: str, *items: str, **tags: str) -> None:
        world.add(f"{shelf}:{','.join(items)}:{tags}".replace(" ", ""))

    @colour.saga(key="k", name="stock")
    def stock():
        yield reserve("top", "lamp", "desk", colour="red")
        yield reserve("low")
        if place == "body":
            raise ConnectionError("no lorry")

    with contextlib.suppress(ConnectionError):
        colour.call(stock.using(runtime=make_runtime()))
    if place == "record":
        del registry.sagas[__name__, "stock"]
        colour.run(make_runtime().find("stock/k").compensate())
    took = ["top:lamp,desk:{'colour':'red'}", "low::{}"]
    assert world == [*took, *(f"-{each}" for each in reversed(took))]
    (run,) = make_runtime().runs()
    assert [str(step.status) for step in run.steps] == ["compensated", "compensated"]


def wrapping(function):
    return wraps(function)(lambda *args, **kwargs: function(*args, **kwargs))


REMOVING = {"remove": os.remove, "unlink": os.unlink, "rmdir": os.rmdir}
REMOVING |= {"partial": partial(os.rmdir), "wrapped": wrapping(os.rmdir)}


@pytest.mark.parametrize("undo", REMOVING.values(), ids=REMOVING)
def test_what_the_standard_library_has_to_undo_a_step_with_does_so(colour, runtime, tmp_path, monkeypatch, undo):
    """It takes the path by its name, and no result for what only a keyword sets, in a wrapper neither."""
    monkeypatch.chdir(tmp_path)
    place = Path("made")

    @colour.step(compensate=undo)
    def make(path: str) -> int:
        place.touch() if undo in {os.remove, os.unlink} else place.mkdir()
        return 5

    @colour.saga(runtime=runtime)
    def makes():
        yield make(str(place))
        assert place.exists()
        raise ConnectionError("no answer")

    with pytest.raises(ConnectionError, match="no answer"):
        colour.call(makes)
    assert not place.exists()
    assert [str(step.status) for step in runtime.runs()[0].steps] == ["compensated"]


def test_a_compensation_whose_result_only_a_keyword_sets_undoes_the_step(colour, runtime, world):
    """It is not taken for an option, with which it would undo nothing and be recorded as done."""

    def cancel(*, booking=None):
        world.add(f"-{booking}")

    @colour.step(compensate=cancel)
    def book(city: str) -> str:
        world.add(city)
        return f"b-{city}"

    @colour.saga(runtime=runtime)
    def trip():
        yield book("Rome")
        raise ConnectionError("no flight")

    with pytest.raises(ConnectionError, match="no flight"):
        colour.call(trip)
    assert world == ["Rome", "-b-Rome"]


def test_without_a_result_the_default_of_its_parameter_stands():
    """That is what a step cut off leaves; without a default nothing can be called."""
    cut_off = {name: value for name, value in VALUES.items() if name is not RESULT}
    assert received(lambda item, reservation=None: (item, reservation), cut_off) == ("lamp", None)
    assert received(lambda result="none": result, cut_off) == "none"
    with pytest.raises(KeyError):
        of(lambda result: ...).arguments(cut_off)
    with pytest.raises(KeyError, match="session"):
        of(lambda session: ...).arguments(VALUES)
