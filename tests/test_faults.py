"""Exceptions come back as themselves, made without their constructors, or are refused live and later alike."""

import asyncio
import contextlib
import dataclasses
import functools
import http.client
import io
import json
import math
import pickle
import re
import sqlite3
import subprocess
import sys
import types
import urllib.error
from pathlib import Path

import attrs
import pydantic
import pytest

import sagadsl
from sagadsl._core.codec import Codec, Unstorable, user_frames
from sagadsl._core.codec.faults import DEEPEST_CAUSE, LONGEST_TEXT, SPEECHLESS, fields_of
from sagadsl._core.schema import VIEWS
from sagadsl.errors import Fault, NotStorableError, StepError, StepTimeout, UsageError


def never(*_):
    msg = "a constructor ran"
    raise AssertionError(msg)


class KeywordOnly(Exception):
    def __init__(self, *, code, detail=None):
        super().__init__(f"code {code}")
        self.code, self.detail = code, detail


class Positional(ValueError):
    def __init__(self, order, amount):
        super().__init__(f"{order}: {amount}")
        self.order, self.amount = order, amount


@attrs.define(eq=False)
class Defined(Exception):
    order: str
    amounts: tuple = ()


@attrs.frozen
class FrozenError(Exception):
    order: str


@attrs.define(eq=False)
class Sparse(Exception):
    order: str
    reason: str | None = None


@dataclasses.dataclass
class Data(Exception):
    code: int
    parts: list = dataclasses.field(default_factory=list)


class Slots(Exception):
    __slots__ = ("code",)


class Refuses(Exception):
    def __new__(cls, *args):
        never()


class Changeling(Exception):
    def __new__(cls, *_):
        return ValueError.__new__(ValueError)


class Speechless(Exception):
    def __str__(self):
        raise ZeroDivisionError


class NeedsResponse(Exception):
    def __init__(self, response):
        super().__init__()
        self.response = response

    def __str__(self):
        return f"status {self.response.fileno}"


class Holder(Exception):
    pass


class Cancelled(KeyboardInterrupt):
    pass


def raised(error):
    """Return the exception with a traceback, as a step gives it."""
    try:
        raise error  # noqa: TRY301
    except BaseException as caught:
        return caught


def with_attributes(error, **attributes):
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


def with_notes(error, *notes):
    for note in notes:
        error.add_note(note)
    return error


def caused(error, cause):
    error.__cause__ = cause
    return error


def from_python(function):
    try:
        function()
    except Exception as error:
        return error
    return None


def errors():
    """Return exceptions of every kind that comes back, by name; the same ones in every process."""
    return {
        "plain": ValueError("text", 1, (2,), {"a": {3}}),
        "empty": RuntimeError(),
        "keyword only": KeywordOnly(code=3, detail=[1]),
        "positional": Positional("o-1", 5),
        "json": from_python(lambda: json.loads('{"a":')),
        "missing file": FileNotFoundError(2, "No such file", "f"),
        "two files": OSError(18, "Cross-device", "a", None, "b"),
        "system": OSError("only text"),
        "unicode": from_python(lambda: b"\xff".decode()),
        "encoding": from_python(lambda: "\ud800".encode()),
        "key": KeyError("missing"),
        "import": from_python(lambda: __import__("no_such_module")),
        "name": from_python(lambda: nobody),  # noqa: F821
        "attribute": from_python(lambda: never.nothing),
        "syntax": from_python(lambda: compile("a b", "f.py", "exec")),
        "stop": StopIteration(7),
        "exit": SystemExit(3),
        "interrupt": Cancelled(),
        "cancelled": asyncio.CancelledError("why"),
        "zero": from_python(lambda: 1 / 0),
        "attrs": Defined("o-1", (1, 2)),
        "frozen": FrozenError("o-1"),
        "dataclass": Data(4, [1]),
        "slots": with_attributes(Slots("a"), code=5),
        "notes": with_notes(ValueError("a"), "one", "two"),
        "cause": caused(ValueError("a"), caused(KeyError("b"), OSError(2, "c", "d"))),
        "group": ExceptionGroup("several", [ValueError(1), ExceptionGroup("inner", [KeywordOnly(code=1)])]),
        "subprocess": subprocess.CalledProcessError(2, ["ls"], b"out", b"err"),
        "http": http.client.IncompleteRead(b"part", 10),
        "surrogates": ValueError("\ud83d\ude00"),
        "ours": StepTimeout("charge", 2.5),
        "ours too": StepError("charge", Fault("m:E", "text", args=(1,))),
        "usage": UsageError("text"),
        "not storable": NotStorableError("s", "result", "T", "$", "r"),
    }


def said(text):
    """Return a text as it is told to people, who have no lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()


def facts(error):
    """Return what makes up an exception, wherever it is kept."""
    if error is None:
        return None
    native = [
        "errno",
        "strerror",
        "filename",
        "filename2",
        "encoding",
        "object",
        "start",
        "end",
        "reason",
        "name",
        "path",
        "value",
        "code",
        "lineno",
        "offset",
        "text",
        "message",
        "exceptions",
        "args",
    ]
    found = {n: getattr(error, n) for n in native if hasattr(error, n)} | dict(vars(error))
    found["__notes__"] = list(getattr(error, "__notes__", ()))
    found.pop("obj", None)
    for name in ("exceptions", "args"):
        items = found.get(name, ())
        deep = [[facts(i) for i in item] if isinstance(item, list) and isinstance(error, ExceptionGroup)
                else facts(item) if isinstance(item, BaseException) else item for item in items]  # fmt: skip
        found[name] = deep
    return type(error), str(error), found, facts(error.__cause__)


def restarted(texts):
    """Make each exception again in a process that has just imported this module; return what is wrong."""
    codec, wrong = Codec(), {}
    for name, text in texts.items():
        found = codec.exception(codec.load_fault(text))
        if facts(found) != facts(errors()[name]):
            wrong[name] = [repr(facts(found)), repr(facts(errors()[name]))]
    return wrong


CHILD = """
import importlib, json, sys
sys.path[:0] = json.loads(sys.argv[1])
print(json.dumps(importlib.import_module(sys.argv[2]).restarted(json.load(sys.stdin))))
"""


@pytest.fixture(scope="module")
def after_restart():
    """Store each exception here, make it again in a fresh process, and return what came back wrong."""
    texts = {name: Codec().encode_fault(error)[0] for name, error in errors().items()}
    path = [str(Path(__file__).parent), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(path), __name__],
        input=json.dumps(texts), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", sorted(errors()))
def test_an_exception_comes_back_as_itself_after_a_restart(name, after_restart):
    """Type, arguments, attributes, notes and cause are those that were raised."""
    assert name not in after_restart


@pytest.mark.parametrize("name", sorted(errors()))
def test_what_is_raised_at_once_is_what_a_restart_would_raise(name):
    """The fault given out live is the one that is read back, and so is its exception."""
    codec = Codec()
    error = raised(errors()[name])
    text, fault = codec.encode_fault(error)
    assert repr(fault) == repr(codec.load_fault(text))
    assert not fault.refused
    assert facts(codec.exception(fault)) == facts(errors()[name])
    assert repr(codec.load_fault(codec.dump_fault(fault))) == repr(fault)
    assert fault.message == said(str(error))


def test_no_constructor_runs_when_an_exception_is_made_again(monkeypatch):
    """An ``__init__`` may count, log or connect; coming back is not being made."""
    codec = Codec()
    fault = codec.encode_fault(KeywordOnly(code=1))[1]
    monkeypatch.setattr(KeywordOnly, "__init__", never)
    assert codec.exception(fault).code == 1


def test_an_exception_can_be_stored_as_a_value():
    """A gathered result may hold exceptions."""
    copy = Codec().encode_and_copy([1, KeyError("a"), (KeywordOnly(code=2),)])[1]
    assert [type(copy[1]), copy[1].args, copy[2][0].code] == [KeyError, ("a",), 2]


@pytest.mark.parametrize("error", [Exception.__new__(Refuses, "a"), type("Local", (Exception,), {})("a")])
def test_an_exception_that_cannot_be_made_again_is_no_value(error):
    """What would come back as something else is refused."""
    with pytest.raises(Unstorable, match="cannot be made again") as told:
        Codec().encode({"errors": [error]})
    assert told.value.path == "$.errors[0]"


def test_what_cannot_be_stored_of_an_exception_is_named_in_a_note():
    """An absent attribute says so; the exception raised live gets no note of ours."""
    codec = Codec()
    error = with_notes(with_attributes(Holder("a", io.StringIO()), good=1, stream=io.StringIO()), "mine")
    text, fault = codec.encode_fault(error)
    assert fault.missing == ("args[1]", "stream (StringIO)")
    for _ in range(2):
        found = codec.exception(codec.load_fault(text))
        assert found.__notes__ == ["mine", "not recorded: args[1], stream (StringIO)"]
        assert found.good == 1
        assert not hasattr(found, "stream")
        assert found.args[1].startswith("<_io.StringIO")
    assert codec.exception(fault).__notes__ == codec.exception(fault).__notes__
    assert error.__notes__ == ["mine"]


def test_an_attribute_that_was_not_recorded_says_so_where_it_is_asked_for(colour, runtime):
    """The class is the same and the attribute absent, so a body's own ``getattr`` works; its mistake is explained."""

    @colour.step(compensate=None)
    def get() -> None:
        raise with_attributes(Holder("a"), status=503, stream=io.StringIO())

    @colour.saga(runtime=runtime)
    def flow(name: str):
        try:
            yield get()
        except Holder as error:
            return getattr(error, "stream", None), getattr(error, name)

    assert colour.call(flow, "status") == (None, 503)
    with pytest.raises(AttributeError, match="no attribute 'stream'") as caught:
        colour.call(flow, "stream")
    says = "Holder.stream could not be recorded, and .* sagadsl.register[(]Holder, dump, load[)]"
    assert re.match(says, caught.value.__notes__[0])
    with pytest.raises(AttributeError, match="no attribute 'strem'") as caught:
        colour.call(flow, "strem")
    assert len(caught.value.__notes__) == 1  # of the run


@pytest.mark.parametrize("notes", [5, [5], ["mine: stream (StringIO)"]])
def test_an_attribute_of_an_exception_of_the_program_s_own_is_not_explained(runtime, notes):
    """Whatever notes it has."""

    @sagadsl.saga(runtime=runtime)
    def flow():
        with_attributes(Holder("a"), __notes__=notes).stream  # noqa: B018

    with pytest.raises(AttributeError, match="no attribute 'stream'") as caught:
        flow()
    assert len(caught.value.__notes__) == 1


class Away:
    """As a proxy outside of its context is: it cannot even be asked what it is."""

    number = 7

    @property
    def __class__(self):
        raise RuntimeError("outside of its context")

    def __getattr__(self, name):
        raise AttributeError(name=name, obj=self)


class Closed(Holder):
    @property
    def __dict__(self):
        raise RuntimeError("closed")


@pytest.mark.parametrize("holder", [Away, functools.partial(Closed, "a")])
def test_what_lacks_an_attribute_is_not_asked_more_than_it_answers(colour, runtime, world, holder):
    """The saga ends as its body did, whatever the object raises."""

    @colour.step(compensate=lambda name: world.add(f"-{name}"))
    def act(name: str) -> None:
        world.add(name)

    @colour.saga(runtime=runtime)
    def flow():
        yield act("a")
        raise AttributeError(name="thing", obj=holder())

    with pytest.raises(AttributeError) as caught:
        colour.call(flow)
    assert len(caught.value.__notes__) == 1  # of the run
    assert world == ["a", "-a"]


def test_a_result_that_cannot_even_be_asked_what_it_is_is_compensated_with_the_live_object(colour, runtime, world):
    """Its type says enough to refuse it."""

    @colour.step(compensate=lambda result: world.add(f"-{result.number}"))
    def get():
        world.add("get")
        return Away()

    @colour.saga(runtime=runtime)
    def flow():
        yield get()

    with pytest.raises(sagadsl.NotStorableError, match="of type Away cannot be stored"):
        colour.call(flow)
    assert world == ["get", "-7"]


def test_a_class_that_only_the_step_has_imported_is_asked_for_at_the_top_of_the_program(monkeypatch):
    """After a restart it is not there before the step is entered, which it is not."""
    lazy = types.ModuleType("lazily")
    error = type("Gone", (Exception,), {"__module__": "lazily"})("no")
    lazy.Gone = type(error)
    monkeypatch.setitem(sys.modules, "lazily", lazy)
    fault = Codec().encode_fault(error)[1]
    assert type(Codec().exception(fault)) is lazy.Gone
    monkeypatch.delitem(sys.modules, "lazily")
    assert Codec().exception(fault) is None
    told = str(StepError("fetch", fault))
    assert told.index("`import lazily` at the top of the program") < told.index("sagadsl.register(Gone, dump, load)")


def test_mutating_an_exception_changes_nothing_that_was_stored():
    """The fault holds copies."""
    codec = Codec()
    error = Data(1, [1])
    fault = codec.encode_fault(error)[1]
    error.parts.append(2)
    assert fault.attributes["parts"] == [1]


def test_a_common_library_exception_keeps_what_can_be_kept():
    """An HTTP error holds a response that cannot be stored, and is still that HTTP error."""
    codec = Codec()
    with urllib.error.HTTPError("http://x", 503, "Busy", {}, io.BytesIO()) as error:
        found = codec.exception(codec.encode_fault(error)[1])
    assert (type(found), found.code, found.filename, str(found)) == (
        urllib.error.HTTPError, 503, "http://x", "HTTP Error 503: Busy",
    )  # fmt: skip


class Account(pydantic.BaseModel):
    amount: int


@pytest.mark.parametrize(
    "error",
    [
        Exception.__new__(Refuses, "a"),
        from_python(lambda: Account(amount="x")),
        NeedsResponse(io.StringIO()),
        BaseException.__new__(Changeling),
        ExceptionGroup("g", [Exception.__new__(Refuses, "a")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_class_that_refuses_is_refused_live_and_later_alike(error):
    """StepError stands for it both times, so the same clauses catch it both times."""
    codec = Codec()
    text, fault = codec.encode_fault(error)
    assert fault.refused
    assert codec.load_fault(text).refused
    assert [codec.exception(fault), codec.exception(codec.load_fault(text))] == [None, None]
    assert fault.message == str(error)


def test_an_exception_that_cannot_say_itself_still_comes_back():
    """A broken ``__str__`` was broken when it was raised; it hides neither the failure nor its type."""
    codec = Codec()
    text, fault = codec.encode_fault(raised(Speechless("a")))
    assert fault.message == SPEECHLESS
    found = codec.exception(codec.load_fault(text))
    assert (type(found), found.args) == (Speechless, ("a",))


def test_a_field_without_a_value_is_none_again():
    """As a record's is; it was given."""
    codec = Codec()
    found = codec.exception(codec.encode_fault(Sparse("o-1"))[1])
    assert (found.order, found.reason) == ("o-1", None)


class Problems(Exception):
    """A failure with a length, and none of what it could have: it counts as false."""

    def __len__(self):
        return 0


def failing(colour, world, error):
    """Return a step that is done and compensated, one that fails for good, and what undoes neither."""

    @colour.step(compensate=lambda name: world.add(f"-{name}"))
    def act(name: str) -> None:
        world.add(name)

    @colour.step(compensate=None)
    def fail() -> None:
        world.add("fails")
        raise error

    return act, fail


def test_an_exception_that_counts_as_false_is_one_all_the_same(colour, make_runtime, world):
    """The body catches it by its class, also after a restart; it is what a call and an outcome give."""

    class Cut(BaseException):
        """The end of a process, for a test."""

        def __bool__(self):
            return False

    error, cut = Problems("none"), [True]
    act, fail = failing(colour, world, Problems("none"))

    @colour.saga(key="k")
    def flow():
        yield act("a")
        try:
            yield fail()
        except Problems:
            world.add("caught")
        if cut:
            cut.pop()
            raise Cut
        raise error

    with pytest.raises(Cut):
        colour.call(flow.using(runtime=make_runtime()))
    runtime = make_runtime()
    outcome = colour.call(flow.using(runtime=runtime).outcome)
    assert (outcome.error, outcome.compensated_steps) == (error, ("act",))
    assert world == ["a", "fails", "caught", "caught", "-a"]
    assert runtime.runs()[0].status == "compensated"
    with pytest.raises(Problems) as caught:
        colour.call(flow.using(runtime=runtime))
    assert sagadsl.outcome(caught.value).error is error


def test_a_parent_and_a_compensation_meet_what_counts_as_false(colour, runtime, world):
    """A child raises it as itself, and a compensation fails with it."""
    act, fail = failing(colour, world, Problems("none"))

    def undo() -> None:
        world.add("-stuck")
        raise Problems("at all")

    @colour.step(compensate=sagadsl.Compensation(undo, retries=0))
    def stuck() -> None:
        world.add("stuck")

    @colour.saga
    def child():
        yield act("a")
        yield fail()

    @colour.saga(runtime=runtime)
    def flow():
        try:
            yield child()
        except Problems as error:
            world.add("caught")
            yield stuck()
            raise KeyError("no") from error

    outcome = colour.call(flow.outcome)
    assert world == ["a", "fails", "-a", "caught", "stuck", "-stuck"]
    assert [type(outcome), repr(outcome.compensation_error)] == [sagadsl.CompensationFailed, "Problems('at all')"]


def test_a_pause_knows_the_step_whose_failure_counts_as_false(colour, make_runtime, world):
    """It is entered again when the run goes on, also where the body has raised something else because of it."""
    fails = [True]

    @colour.step(compensate=None)
    def fetch() -> str:
        world.add("fetch")
        if fails:
            fails.pop()
            raise Problems("none")
        return "fetched"

    @colour.saga(key="k", on_failure="pause")
    def flow():
        try:
            return (yield fetch())
        except Problems as error:
            try:
                never()
            except AssertionError:
                raise ValueError("wrapped") from error

    with pytest.raises(sagadsl.SuspendedError, match="wrapped"):
        colour.call(flow.using(runtime=make_runtime()))
    assert colour.call(flow.using(runtime=make_runtime())) == "fetched"
    assert world == ["fetch", "fetch"]


class Row:
    """As a row is whose session is closed: it cannot even be shown."""

    def __repr__(self):
        raise LookupError("the session is closed")


class Unasked(Exception):
    def __getattribute__(self, name):
        if name.startswith("__"):
            return super().__getattribute__(name)
        raise LookupError(name)


class Bare(Exception):
    __slots__ = ("row",)

    def __getattribute__(self, name):
        if name == "row":
            raise LookupError(name)
        return super().__getattribute__(name)


def hiding(name):
    """Return a class of this module, whose property of that name raises."""

    def hidden(_):
        raise LookupError(name)

    cls = type(f"Hiding{name.strip('_').title()}", (Exception,), {name: property(hidden), "__module__": __name__})
    return globals().setdefault(cls.__name__, cls)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def closed():
    """Return exceptions that raise when they, or what they hold, are looked at, by name."""
    return {
        "an argument": ValueError("not yet", Row()),
        "the only argument": ValueError(Row()),
        "a key": KeyError(Row()),
        "an attribute": with_attributes(Holder("a"), row=Row()),
        "a cause": caused(ValueError("a"), ValueError(Row())),
        "a deep argument": ValueError(nested(100_000)),
        "notes that are none": with_attributes(Holder("a"), __notes__=5, row=Row()),
        "its args": hiding("args")("a"),
        "its cause": hiding("__cause__")("a"),
        "its traceback": hiding("__traceback__")("a"),
        "its dictionary": hiding("__dict__")("a"),
        "its traceback's setter": hiding("with_traceback")("a"),
        "whatever it is asked": Unasked("a"),
        "a slot": Bare("a"),
    }


def ended_with(colour, function):
    """Return what a saga raises. `asyncio.run` and pytest would fail themselves where they want to show that."""

    @colour.coloured
    def end():
        try:
            yield function()
        except BaseException as error:
            found.append(error)

    found = []
    colour.call(end)
    return found[0]


@pytest.mark.parametrize("name", closed())
def test_an_exception_that_raises_when_it_is_looked_at_is_a_failure_like_any_other(colour, make_runtime, world, name):
    """It is tried again, caught by its class, also after a restart, and what was done is compensated."""

    class Cut(BaseException):
        """The end of a process, for a test."""

    error, cut = closed()[name], [True]

    @colour.step(compensate=lambda name: world.add(f"-{name}"))
    def act(name: str) -> None:
        world.add(name)

    @colour.step(compensate=None, retries=1)
    def fail() -> None:
        world.add("fails")
        raise closed()[name]

    @colour.saga
    def flow():
        yield act("a")
        try:
            yield fail()
        except type(error):
            world.add("caught")
        if cut:
            cut.pop()
            raise Cut
        raise error

    assert type(ended_with(colour, flow.using(runtime=make_runtime()))) is Cut
    runtime = make_runtime()
    assert ended_with(colour, flow.using(runtime=runtime)) is error
    assert world == ["a", "fails", "fails", "caught", "caught", "-a"]
    [run] = runtime.runs()
    assert [run.status, *((step.key, step.status) for step in run.steps)] == [
        "compensated", ("act", "compensated"), ("fail", "failed"),
    ]  # fmt: skip
    assert sagadsl.outcome(error).compensated_steps == ("act",)


def test_a_compensation_that_raises_what_cannot_be_looked_at_has_failed(colour, runtime, world):
    """The run stays stuck there, and says by what."""

    def undo() -> None:
        world.add("-act")
        raise KeyError(Row())

    @colour.step(compensate=sagadsl.Compensation(undo, retries=0))
    def act() -> None:
        world.add("act")

    @colour.saga(runtime=runtime)
    def flow():
        yield act()
        raise ValueError("no")

    error = ended_with(colour, flow)
    assert type(error) is sagadsl.CompensationError
    assert f"act failed with KeyError: {SPEECHLESS}" in str(error)
    assert world == ["act", "-act"]
    assert runtime.runs()[0].status == "compensation_failed"


class Coded(ExceptionGroup):
    """A group that needs more than Python gives to make another one of some of its members."""

    def derive(self, members):
        world, code = self.code
        world.add("derive")
        return Coded(self.message, members, code=code)


def test_a_group_whose_class_makes_no_other_group_is_raised_as_it_is(colour, runtime, world):
    """With the exceptions that the body was given."""

    @colour.step(compensate=lambda: world.add("-act"))
    def act() -> None:
        world.add("act")

    @colour.step(compensate=None)
    def fail() -> None:
        raise KeyError("a")

    @colour.saga(runtime=runtime)
    def flow():
        yield act()
        try:
            yield fail()
        except KeyError as error:
            raise with_attributes(Coded("several", [error]), code=(world, 5)) from None

    with pytest.raises(Coded) as caught:
        colour.call(flow)
    assert [type(each) for each in caught.value.exceptions] == [KeyError]
    assert "derive" in world.effects
    assert [effect for effect in world.effects if effect != "derive"] == ["act", "-act"]
    assert runtime.runs()[0].status == "compensated"


def test_what_a_failure_says_of_a_file_whose_name_is_no_utf_8_can_be_read_by_any_program(colour, make_runtime, world):
    """In the public views, too, and in the figures; the body catches the exception with the name as it is."""
    name = "caf\udce9.txt"  # as os.listdir gives it

    def undo() -> None:
        world.add("-act")
        raise FileNotFoundError(2, "gone", name)

    @colour.step(compensate=sagadsl.Compensation(undo, retries=0))
    def act() -> None:
        world.add("act")

    @colour.step(compensate=None)
    def read() -> None:
        msg = f"cannot parse {name}"
        raise ValueError(msg)

    @colour.saga(key="k")
    def flow():
        yield act()
        try:
            yield read()
        except ValueError as error:
            if error.args == (f"cannot parse {name}",):
                world.add("caught")
            raise

    runtime = make_runtime()
    with pytest.raises(sagadsl.CompensationError):
        colour.call(flow.using(runtime=runtime))
    with contextlib.closing(sqlite3.connect(runtime.journal().name)) as file:
        views = {view: str(file.execute(f"select * from {view}").fetchall()) for view in VIEWS}  # noqa: S608
        assert [view for view, rows in views.items() if "udce9" not in rows] == []
        colour.run(runtime.runs()[0].compensate(skip="act", why=f"{name} was never there", by=name))
        [skipped] = file.execute("select skipped from compensations").fetchone()
    assert skipped == r"caf\udce9.txt: caf\udce9.txt was never there"
    assert world == ["act", "caught", "-act", "caught"]  # the body has run again to bind what it calls
    assert {fault.message for fault in runtime.stats().faults} == {
        r"cannot parse caf\udce9.txt", r"[Errno 2] gone: 'caf\udce9.txt'",
    }  # fmt: skip


def test_a_step_whose_next_attempt_would_never_come_has_failed(colour, make_runtime, world):
    """With what it raised; and the file can be read."""
    act, _ = failing(colour, world, ValueError())

    def wait(failures: int) -> float:
        world.add(f"asked{failures}")
        return math.inf if failures > 1 else 0

    @colour.step(compensate=None, retries=sagadsl.Retry(5, wait=wait))
    def fail() -> None:
        world.add("fails")
        raise ValueError("no")

    @colour.saga(runtime=make_runtime())
    def flow():
        yield act("a")
        yield fail()

    with pytest.raises(ValueError, match="no") as caught:
        colour.call(flow)
    assert world == ["a", "fails", "asked1", "fails", "asked2", "-a"]
    assert caught.value.__notes__[0].startswith("its Retry could not be asked: UsageError: ")
    [run] = make_runtime().runs()
    assert [(step.key, step.status, step.attempts) for step in run.steps] == [
        ("act", "compensated", 1), ("fail", "failed", 2),
    ]  # fmt: skip


def test_what_cannot_be_recorded_of_an_exception_hides_not_what_it_says():
    """Its class, its text and its traceback are for people, who have to act."""

    class Shy(Exception):
        pass

    Shy.__slots__ = 5
    with pytest.raises(TypeError):
        fields_of(Shy(), never)
    text, fault = Codec().encode_fault(raised(Shy("a")))
    assert Codec().load_fault(text) == fault
    assert (fault.name, fault.message, fault.refused) == ("Shy", "a", True)
    assert "raise error" in fault.traceback


def test_a_local_class_is_gone_both_times_unless_it_is_made_known():
    """No name leads to a class inside a function."""

    class Local(Exception):
        pass

    codec = Codec()
    text, fault = codec.encode_fault(Local("a"))
    assert [codec.exception(fault), codec.exception(codec.load_fault(text))] == [None, None]
    codec.know(Local)
    assert type(codec.exception(fault)) is Local


@pytest.mark.parametrize("name", ["no.such:Error", "os:system", "builtins:list", "nonsense", ""])
def test_a_class_that_is_not_imported_or_no_exception_gives_none(name):
    """Nothing is imported for a name in a file."""
    assert Codec().exception(Fault(name, "m")) is None


def test_a_registered_class_comes_back_by_its_own_functions():
    """`register` makes exact what cannot be made otherwise."""
    codec = Codec()
    codec.register(NeedsResponse, lambda e: [e.response.fileno], lambda told: NeedsResponse(fake(told[0])))
    error = caused(NeedsResponse(fake(7)), KeyError("why"))
    text, fault = codec.encode_fault(error)
    assert not fault.refused
    found = codec.exception(codec.load_fault(text))
    assert (type(found), str(found), type(found.__cause__)) == (NeedsResponse, "status 7", KeyError)
    assert "status 7" in str(codec.encode_and_copy([fault])[1])
    assert str(codec.encode_and_copy([error])[1][0]) == "status 7"


def fake(fileno):
    made = io.StringIO()
    made.fileno = fileno
    return made


@pytest.mark.parametrize(
    ("dump", "load", "comes_back"),
    [
        (lambda e: 1 / 0, Holder, True),
        (lambda e: object(), Holder, True),
        (lambda e: 1, lambda told: 1 / 0, False),
        (lambda e: 1, lambda told: told, False),
        (lambda e: 1, lambda told: KeyError(told), False),
    ],
)
def test_registered_functions_that_fail_hide_no_failure(dump, load, comes_back):
    """Without a form the class comes back as any other; without a way back it counts as one that refuses."""
    codec = Codec()
    codec.register(Holder, dump, load)
    fault = codec.encode_fault(Holder("a"))[1]
    assert fault.refused is not comes_back
    found = codec.exception(fault)
    assert (found is not None) is comes_back
    if comes_back:
        assert found.args == ("a",)
        assert "its registered form" in found.__notes__[0]


def test_an_exception_too_large_for_the_journal_keeps_its_type_and_text():
    """A failure is recorded whatever it carries."""
    codec = Codec(limit=40_000)
    error = Holder("x" * 30_000, "y" * 30_000)
    text, fault = codec.encode_fault(error)
    assert len(text) < 40_000
    assert fault.refused
    assert fault.message.startswith("('xxx")
    assert fault.args == ()
    assert len(fault.message) == LONGEST_TEXT + 1
    assert codec.exception(fault) is None


def test_a_chain_of_causes_is_stored_to_a_depth():
    """A circle of causes ends, too."""
    error = caused(ValueError(0), KeyError(1))
    error.__cause__.__cause__ = error
    fault, depth = Codec().encode_fault(error)[1], 0
    while fault.cause is not None:
        fault, depth = fault.cause, depth + 1
    assert depth == DEEPEST_CAUSE


def test_groups_in_groups_take_no_more_time_than_their_size():
    """Twenty levels are twenty times the work of one, not a million times."""
    error: Exception = ValueError(1)
    for level in range(20):
        error = ExceptionGroup(str(level), [error])
    found = Codec().exception(Codec().encode_fault(error)[1])
    for _ in range(20):
        found = found.exceptions[0]
    assert found.args == (1,)


def test_the_traceback_is_text_without_our_frames():
    """People see their own lines, the last twenty of them."""
    error = from_python(lambda: Codec().know(1) or 1 / 0)
    fault = Codec().encode_fault(error)[1]
    assert "1 / 0" in fault.traceback
    assert "_core" not in fault.traceback
    inside = from_python(lambda: Codec().decode("x"))
    assert all("_core" not in line for line in Codec().encode_fault(inside)[1].traceback.splitlines() if "File" in line)
    assert user_frames(inside).tb_frame.f_code.co_filename == __file__
    assert user_frames(ValueError()) is None


def test_an_exception_whose_traceback_cannot_be_shown_is_stored_all_the_same():
    """The failure matters more than its picture."""
    error = with_attributes(SyntaxError("a", ("f", 1, 2, "text")), offset="x", text=5)
    fault = Codec().encode_fault(error)[1]
    assert (fault.name, fault.traceback) == ("SyntaxError", "")


def test_an_attribute_that_no_name_can_be_is_left_out():
    """What sets it made no attribute of it either."""
    error = Holder("a")
    vars(error).update({"$type": 1, 5: 6})
    assert Codec().encode_fault(error)[1].attributes == {}


@pytest.mark.parametrize("text", ["5", "{}", "[]", '{"type":"m:E","message":"m","odd":1}'])
def test_a_text_that_is_no_fault_is_a_clear_error(text):
    """What stands in the file is checked, not believed."""
    with pytest.raises(ValueError, match="where a fault should be"):
        Codec().load_fault(text)


def test_a_fault_reads_like_the_last_line_of_a_traceback():
    """Its name is the class's own."""
    assert [str(Fault("m:A.B", "text")), str(Fault("m:E", ""))] == ["B: text", "E"]
    assert pickle.loads(pickle.dumps(Fault("m:A", "t"))) == Fault("m:A", "t")  # noqa: S301


def test_a_fault_that_this_program_cannot_read_does_not_keep_it_from_compensating(colour, make_runtime, world):
    """What it says to people is enough for that."""

    class Cut(BaseException):
        """The end of a process, for a test."""

    class Seat:
        """What only the program that failed knows how to store."""

    knowing = Codec()
    knowing.register(Seat, lambda seat: "12A", lambda stored: Seat())
    cut = [True]

    def cancel(error):
        if cut:
            cut.pop()
            raise Cut
        world.add(f"-hotel:{error.message}")

    @colour.step(compensate=cancel, name="hotel")
    def hotel() -> None:
        world.add("hotel")

    @colour.saga(name="trip")
    def trip():
        yield hotel()
        error = LookupError("taken")
        error.seat = Seat()
        raise error

    with pytest.raises(Cut):
        colour.call(trip.using(runtime=make_runtime(codec=knowing)))
    with pytest.raises(StepError, match="LookupError: taken"):
        colour.call(trip.using(runtime=make_runtime(codec=Codec())))
    assert world == ["hotel", "-hotel:taken"]


def test_what_is_no_fault_says_what_it_can():
    """Somebody else wrote it."""
    assert [str(Codec().told_fault(text)) for text in ("{}", "[1]", '{"message": "m"}')] == [
        "unknown",
        "unknown",
        "unknown: m",
    ]
