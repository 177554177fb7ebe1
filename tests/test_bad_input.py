"""Bad input: each gets a clear error on the line that is wrong, says what to do next, and nothing is lost."""

from __future__ import annotations

import functools
import importlib
import operator
import re
import sys

import pytest

import sagadsl
from sagadsl import Compensation, JournalError, Retry, Runtime, UsageError, saga, step


def two(first, second) -> None: ...
def nothing() -> None:
    """Do nothing."""


async def anothing() -> None:
    """Do nothing, later."""


def two_unknown(first, second):
    """Ask for more than a step has."""


def noted(note: str) -> None:
    """Have a parameter that is called as what is noted beside a result."""


class Callable_:  # noqa: N801
    """An object that can be called but has no name."""

    def __call__(self) -> None:
        """Do nothing."""


def generator():
    """Yield."""
    yield


async def agenerator():
    """Yield, later."""
    yield


def decorate(**options):
    """Decorate a step with options."""

    def reserve(item: str, quantity: int) -> str:
        return item

    return step(**options)(reserve)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: decorate(compensat=None), "@step has no option 'compensat'; did you mean compensate?"),
        (lambda: decorate(colour="red"), "@step has no option 'colour'; it takes compensate, key, live"),
        (lambda: decorate(retries=-1), "extra attempts, 0 or more, not -1"),
        (lambda: decorate(retries=True), "extra attempts, 0 or more, not True"),
        (lambda: decorate(timeout=0), "reserve: timeout= takes seconds or a timedelta, more than zero, not 0"),
        (lambda: decorate(compensate=two_unknown), "first <- ?\n    second <- ?"),
        (lambda: decorate(compensate=anothing), "reserve is a def, its compensation anothing an async def"),
        (lambda: decorate(compensate="undo"), "reserve: compensate= takes a function, a Compensation, None"),
        (lambda: decorate(compensate=nothing, read_only=True), "reserve is read_only"),
        (lambda: decorate(name="a/b"), "@step(name=...) must have 1 to 200 printable characters and none of / # :"),
        (lambda: decorate(name=""), "@step(name=...) must have 1 to 200 printable characters"),
        (lambda: decorate(live=("session",)), "live= names session, which is no parameter of (item"),
        (lambda: decorate(live="item"), "live='item' is a text, not names; write live=('item',)"),
        (lambda: decorate(name=5), "@step(name=...) must be a text, not 5"),
        (lambda: decorate(title=5), "title= takes a text, not 5"),
        (lambda: decorate(key=two), "reserve: the function of key= wants first, second; it can have item, quantity"),
        (lambda: saga(key=two)(nothing), "wants first, second; it can have nothing, for there are no stored arguments"),
        (
            lambda: decorate(key=str),
            "reserve: the function of key= (str) keeps its parameters to itself; give a def",
        ),
        (
            lambda: saga(key=operator.attrgetter("real"))(two),
            "of key= (attrgetter) keeps its parameters to itself",
        ),
        (
            lambda: decorate(key=operator.itemgetter(0)),
            "of key= (itemgetter) keeps its parameters to itself",
        ),
        (lambda: decorate(key=hash), "the function of key= wants obj; it can have item, quantity"),
        (lambda: decorate(key=lambda *more: more), "the function of key= wants *more; it can have item, quantity"),
        (lambda: decorate(key=anothing), "the function of key= gives no key when it is called: make it a def that"),
        (lambda: decorate(key=generator), "the function of key= gives no key when it is called: make it a def that"),
        (lambda: saga(notify=nothing)(two), "is called with one argument, the outcome: too many positional"),
        (lambda: saga(notify=two)(nothing), "missing a required argument: 'second'"),
        (lambda: decorate(stands=anothing), "reserve: stands= is an async def, and is asked where nobody can await it"),
        (lambda: decorate(stands=True), "reserve: stands= takes a function, not True"),
        (
            lambda: decorate(stands=lambda note, item: True),
            "(note, item=..., quantity=...), and it is (note, item): got an unexpected keyword argument 'quantity'",
        ),
        (
            lambda: step(stands=lambda note, **rest: True)(noted),
            "and it is (note, **rest): multiple values for argument 'note'; have it take what was noted by position",
        ),
        (lambda: decorate(key="{what}"), "reserve: key='{what}' must be a template of plain {argument} fields"),
        (lambda: decorate().using(retrys=3), "reserve.using() has no option 'retrys'; did you mean retries?"),
        (lambda: step(lambda: 1), "a lambda has none that a restart could find; use def"),
        (lambda: step(generator), "generator is a generator, whose progress cannot be recorded; return a list"),
        (lambda: step(agenerator), "agenerator is a generator"),
        (lambda: step(42), "@step decorates a function, a coroutine function or a method, not 42"),
        (lambda: step(Callable_()), "@step decorates a function"),
        (lambda: step(Callable_()), "; give a def that calls it"),
        (lambda: step(functools.partial(two, 1)), "; give a def that calls it"),
        (lambda: step(decorate()), "@step: reserve is a step already"),
        (lambda: step(saga(nothing)), "@step: nothing is a saga already"),
        (lambda: decorate(compensate=saga(nothing)), "reserve: its compensation nothing is a saga, and none can run"),
        (lambda: decorate(compensate=saga(nothing)), "give a def, which may call .plain(...) of a step"),
        (lambda: decorate(probe=saga(nothing)), "reserve: its probe nothing is a saga"),
        (lambda: saga("nightly").add_compensation(saga(nothing)), "nightly: add_compensation() is a saga"),
        (lambda: saga("nightly").add_compensation(generator), "nightly: add_compensation() is a generator"),
        (lambda: decorate(stands=generator), "reserve: stands= is a generator, and a call runs nothing of it"),
        (lambda: Compensation(None), "Compensation takes a function, not None"),
        (lambda: Compensation(nothing, retries=-2), "0 or more, not -2"),
        (lambda: Retry(1, on="all"), "Retry(on=...) takes exception classes or a predicate"),
        (lambda: Retry(1, wait=-1), "Retry(wait=...) takes seconds"),
        (lambda: saga(lambda: 1), "a lambda has none"),
        (lambda: saga(on_failure="retry")(nothing), "on_failure='retry': choose one of 'compensate', 'pause'"),
        (lambda: saga(nothing).using(durability="some"), "durability='some': choose one of 'process', 'power'"),
        (lambda: saga(nothing).using(durabilty="x"), "no option 'durabilty'; did you mean durability?"),
        (lambda: saga(nothing).using(id="a\nb"), "id must have 1 to 200 printable characters"),
        (lambda: saga(nothing).using(id=17), "nothing: id must be a text, not 17; write str(...) around it"),
        (lambda: saga(nothing).using(key=17), "nothing: key must be a text, not 17"),
        (lambda: saga(decorate()), "@saga: reserve is a step already"),
        (lambda: saga(key="{who}")(nothing), "key='{who}' must be a template of plain {argument} fields"),
        (lambda: saga(key="{who}")(nothing), "({who} is no stored argument); there are: none, for it has no stored"),
        (lambda: saga(key="{who}")(two), "({who} is no stored argument); there are: {first}, {second}"),
        (lambda: saga(key="{first")(two), "two: key='{first' must be a template of plain {argument} fields (expected"),
        (lambda: saga(key=17)(two), "two: key=17 must be a template of plain {argument} fields"),
        (lambda: saga(key="{first.name}")(two)(1, 2), "two: key='{first.name}' must be a template of plain"),
        (
            lambda: saga(nothing).using(id="a", key="b"),
            "nothing: id='a' and key='b' both say which run it is",
        ),
        (lambda: saga(nothing).using(id="a").using(key="b"), "or key=, for the run nothing/KEY"),
        (lambda: saga("nightly", id="a", key="b"), "nightly: id='a' and key='b' both say which run it is"),
        (lambda: saga(nothing).using(steal="no"), "steal='no': say True or False"),
        (lambda: saga("nightly", rerun=1), "rerun=1: say True or False"),
        (lambda: decorate(read_only="no"), "read_only='no': say True or False"),
        (lambda: saga("nightly").step(nothing, again=None), "again=None: say True or False"),
        (lambda: Compensation(nothing, even_if_failed=1), "Compensation(even_if_failed=...) takes True or False"),
        (lambda: decorate(live=5), "reserve: live= takes the names of parameters, not 5"),
        (lambda: decorate().using(key=5), "reserve: key=5 must be a template of plain {argument} fields"),
        (lambda: decorate().map(5), "reserve.map() takes a list of what it is called with, one by one, not 5"),
        (lambda: sagadsl.archive(5), "archive() takes the path of a folder, not 5"),
        (lambda: sagadsl.Artifact(5), "Artifact() takes the path of a file, not 5"),
        (lambda: saga(len), "@saga: len is a builtin, and calls no steps; decorate a def that calls it"),
        (lambda: step(iter), "@step: iter is a builtin, and keeps its parameters to itself; decorate a def that calls"),
        (lambda: saga(store=42), "store=42: give a path, ':memory:' or a journal"),
        (lambda: saga(nothing).using(store=42), "store=42: give a path, ':memory:' or a journal"),
        (lambda: saga("nightly", store=42), "store=42: give a path, ':memory:' or a journal"),
        (lambda: saga("nightly", title=5), "title= takes a text, not 5"),
        (lambda: saga(version=5), "version= takes a text, not 5"),
        (lambda: saga(runtime="x.db"), "runtime= takes a Runtime(...), not 'x.db'; a path is for store="),
        (lambda: Runtime(42), "store=42: give a path, ':memory:' or a journal"),
        (lambda: Runtime(""), "store='': give a path, ':memory:' or a journal"),
        (lambda: saga(store=""), "store='': give a path, ':memory:' or a journal"),
        (lambda: Runtime(clock=42), "clock= takes a function, not 42"),
        (lambda: Runtime(read_only="no"), "read_only='no': say True or False"),
        (lambda: Runtime(":memory:").runs(limit="all"), "runs(limit=...) takes how many of the newest runs to return"),
        (lambda: Runtime(":memory:").stats(saga=saga(nothing)), "stats(saga=...) takes the name of a saga, a text"),
        (lambda: Runtime(":memory:").find(5), "a run is named by its id, a text, or a beginning of it, not by 5"),
        (lambda: sagadsl.configure(store=42), "store=42: give a path, ':memory:' or a journal"),
        (lambda: Runtime(durability="none"), "durability='none': choose one of"),
        (lambda: Runtime(observers=print), "observers= takes a list of functions of an Entry, not <built-in function"),
        (lambda: Runtime(":memory:").runs(saga=saga(nothing)), "runs(saga=...) takes the name of a saga, a text, not"),
        (lambda: Runtime(":memory:").prune(older_than="30d"), "such as timedelta(days=30), not '30d'"),
        (lambda: sagadsl.main(nothing), "main() takes a function decorated with @saga, and its arguments, not <"),
        (lambda: Runtime(resume=None), "resume=None: choose one of 'arguments', 'key', 'never'"),
        (lambda: sagadsl.configure(durability=None), "durability=None: choose one of 'process', 'power'"),
        (lambda: sagadsl.configure(progress=None), "progress=None: choose one of 'auto', 'plain', 'off'"),
        (
            lambda: Runtime(compress_above="1 MB"),
            "takes a number of bytes, such as 100_000, not '1 MB'",
        ),
        (
            lambda: sagadsl.configure(compress_above=-1),
            "compress_above= takes a number of bytes, such as",
        ),
        (lambda: sagadsl.configure(stroe="x"), "configure() has no setting 'stroe'"),
        (lambda: sagadsl.register("Money", str, str), "register(type, dump, load) takes a class and two functions"),
    ],
)
def test_what_cannot_work_is_refused_where_it_is_written(wrong, says):
    """The sentence says what is wrong, and what would be right."""
    with pytest.raises(UsageError, match=re.escape(says)):
        wrong()


class Yielding:
    """An object that yields when it is called."""

    def __call__(self):
        """Yield."""
        yield


@pytest.mark.parametrize("function", [nothing, anothing], ids=["def", "async def"])
@pytest.mark.parametrize(
    "lazy",
    [generator, agenerator, functools.partial(generator), functools.partial(functools.partial(agenerator)), Yielding()],
    ids=["generator", "async generator", "partial", "partial of a partial", "object"],
)
def test_a_generator_is_refused_where_a_function_is_called_for_what_it_does(function, lazy):
    """A call of it would run nothing, and nobody iterates what it gives."""
    says = "is a generator, and a call runs nothing of it: make it a function that does not yield"
    for options in ({"compensate": lazy}, {"compensate": Compensation(lazy)}, {"probe": lazy}):
        with pytest.raises(UsageError, match=f"nothing: its {re.escape(next(iter(options))[:5])}.* {says}"):
            step(**options)(function)
        with pytest.raises(UsageError, match=says):
            saga("nightly").step(function, **options)
    with pytest.raises(UsageError, match=f"notify=...[)] of .*nothing {says}"):
        saga(notify=lazy)(function)


@pytest.mark.parametrize("annotation", ["Callable[[], None]", "Iterator[int]", "typing.IO[str]", "sqlite3.Connection"])
def test_a_parameter_that_can_never_be_stored_is_refused(annotation):
    """Unless it is live."""

    def use(thing) -> None:
        """Use it."""

    use.__annotations__["thing"] = annotation
    with pytest.raises(UsageError, match=r"can never be stored; annotate it `thing: Live\[\.\.\.\]`"):
        step(use)
    step(live=("thing",))(use)


def test_two_steps_of_one_name_in_a_module_are_refused_when_it_is_imported(tmp_path, monkeypatch):
    """A restart could not tell them apart; a reload of the module replaces them."""
    twice = "from sagadsl import step\n@step\ndef act(): ...\n\n@step\ndef act(): ...\n"
    once = "from sagadsl import step\n@step\ndef act(): ...\n"
    (tmp_path / "twice.py").write_text(twice)
    (tmp_path / "once.py").write_text(once)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"module twice has two steps named 'act' \(the first at line 2\)"):
        importlib.import_module("twice")
    module = importlib.import_module("once")
    assert importlib.reload(module).act is module.act
    monkeypatch.delitem(sys.modules, "once")


def test_a_call_that_does_not_fit_is_the_functions_own_type_error(runtime):
    """Nothing is recorded of it."""
    reserve = decorate()

    @saga(runtime=runtime)
    def flow() -> None:
        reserve("lamp")

    with pytest.raises(TypeError, match=r"\(\) missing a required argument: 'quantity'"):
        flow()
    assert runtime.runs()[0].steps == ()


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("missing/sagas.db", "does not exist: create it, or name another"),
        ("text.db", "this file is no SQLite database; name another with store="),
        ("other.db", "is another program's database: name a file of its own with store="),
        ("folder", "is a folder: name a file in it"),
    ],
)
def test_a_store_that_cannot_be_used_is_said_before_anything_is_entered(tmp_path, world, where, says):
    """The step is not entered, and the file is as it was."""
    import sqlite3

    (tmp_path / "text.db").write_text("no database, but quite some text " * 99)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("create table theirs (id)")
    other.close()
    (tmp_path / "folder").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.glob("*.db")}

    @step
    def act() -> None:
        world.add("entered")

    @saga(store=tmp_path / where)
    def flow() -> None:
        act()

    with pytest.raises(JournalError, match=re.escape(says)):
        flow()
    assert world == []
    assert {path: path.read_bytes() for path in tmp_path.glob("*.db")} == before


def test_a_newer_schema_is_refused(make_runtime, runtime, tmp_path):
    """It says to upgrade, and writes nothing."""
    import sqlite3

    @saga(key="k")
    def flow() -> int:
        return 1

    flow.using(runtime=runtime)()
    runtime.journal().close()
    with sqlite3.connect(tmp_path / "sagas.db") as connection:
        connection.execute("pragma user_version = 99")
    connection.close()
    with pytest.raises(JournalError, match=r"was written by a newer sagadsl .schema 99, this one reads 1.: upgrade it"):
        flow.using(runtime=make_runtime())()


def test_a_body_that_swallows_a_journal_error_gets_no_further(runtime, world, monkeypatch):
    """A store that cannot record is no failing step: nothing is compensated, nothing more is entered."""
    journal = runtime.journal()

    @step(compensate=lambda: world.add("-act"))
    def act(name: str) -> None:
        world.add(name)
        journal.close()
        journal.path.unlink()
        journal.path.mkdir()

    @saga(runtime=runtime)
    def flow() -> None:
        try:
            act("a")
        except BaseException:
            act("b")

    with pytest.raises(JournalError):
        flow()
    assert world == ["a"]
