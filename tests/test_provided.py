"""Live arguments: passed as they are, never stored, and supplied by `provide` where nobody calls."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import inspect
import logging
import multiprocessing
import os
import pickle
import sqlite3
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, NewType, Optional, Protocol, Union

import pytest
from typing_extensions import TypeAliasType

import sagadsl
from sagadsl import Compensation, Live, Runtime, UsageError, saga, step
from sagadsl._core import provided as provided_room
from sagadsl._core.provided import PROVIDED, Provided

MARKER = "hunter2-never-on-disk"


class Cut(BaseException):
    """Stands for a kill: nothing catches it."""


class Session:
    """A connection, as far as a saga is concerned; its world is the module's, for a restart has no other."""

    place: Path

    def __init__(self, name: str = "session") -> None:
        self.name = name
        self.secret = MARKER

    def add(self, what: str) -> None:
        with Session.place.open("a") as file:
            file.write(f"{what}\n")


class Subsession(Session):
    """One of another kind."""


Token = NewType("Token", str)


@pytest.fixture(autouse=True)
def _clean(world, monkeypatch):
    """Point sessions at this test's world, and forget what other tests provided."""
    Session.place = world.path
    monkeypatch.setattr(PROVIDED, "_provisions", {})
    monkeypatch.setattr("sagadsl._core.provided._exits", None)


def test_what_two_threads_enter_first_is_all_left(world, monkeypatch):
    """Neither makes a place of its own to keep it, which nobody would look into at the end."""
    reached, lock = threading.Event(), threading.Lock()

    def arrive():
        if threading.current_thread() is second:
            reached.set()

    class Guard:
        def __enter__(self):
            arrive()
            lock.acquire()

        def __exit__(self, *_):
            lock.release()

    class Place(contextlib.ExitStack):
        def __init__(self):
            super().__init__()
            arrive()
            if threading.current_thread() is not second:
                second.start()
                assert reached.wait(30)

    @contextlib.contextmanager
    def entered(name):
        yield name
        world.add(f"left-{name}")

    second = threading.Thread(target=lambda: provided_room.enter(entered("second")))
    monkeypatch.setattr(provided_room, "_guard", Guard(), raising=False)
    monkeypatch.setattr(provided_room, "ExitStack", Place)
    provided_room.enter(entered("first"))
    second.join(30)
    assert reached.is_set()
    provided_room.leave()
    assert sorted(world.effects) == ["left-first", "left-second"]


def undo(session, what):
    """Compensate with the live argument."""
    session.add(f"-{what}@{session.name}")


@step(compensate=undo, name="send")
def send(session: Live[Session], what: str) -> str:
    """Have an effect by a live argument."""
    session.add(f"{what}@{session.name}")
    return what


@step(compensate=undo, name="asend")
async def asend(session: Live[Session], what: str) -> str:
    """Have an effect by a live argument, in an ``async def``."""
    await asyncio.sleep(0)
    session.add(f"{what}@{session.name}")
    return what


@step(compensate=None, name="die")
def die() -> None:
    """Be killed, once."""
    if sagadsl.current().attempt == 1:
        raise Cut


@saga(key="k", name="mailing")
def mailing(session: Live[Session], what: str, verbose: Live[bool] = False) -> str:
    """Send twice, and be killed between."""
    send(session, f"{what}1")
    die()
    return send(session, f"{what}2") + str(verbose)


@saga(key="k", name="amailing")
async def amailing(session: Live[Session], what: str) -> str:
    """Send twice, and be killed between."""
    await asend(session, f"{what}1")
    die()
    return await asend(session, f"{what}2")


def cut(runtime: Runtime, made: Any = mailing) -> str:
    """Leave an interrupted run; return its id."""
    with pytest.raises(Cut):
        here(lambda: made.using(runtime=runtime)(Session("caller"), "m"))
    return f"{made._self_spec.name}/k"


async def awaited(value: Any) -> Any:
    return await value


async def until(holds: Any) -> None:
    """Let the other tasks go on until something holds."""
    while not holds():  # noqa: ASYNC110  # what it waits for has no event of its own
        await asyncio.sleep(0)


def here(act: Any) -> Any:
    """Call something of either colour, and wait for it."""
    value = act()
    return asyncio.run(awaited(value)) if inspect.isawaitable(value) else value


# -- provide --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["saga.resume", "run.resume"])
def test_a_run_that_nobody_calls_goes_on_with_what_is_provided(make_runtime, world, way):
    """The body runs with the factory's value; a live argument that has a default keeps it."""
    run_id = cut(make_runtime())
    sagadsl.provide(Session, lambda: Session("provided"))
    runtime = make_runtime()
    if way == "saga.resume":
        assert mailing.using(runtime=runtime).resume(run_id) == "m2False"
    else:
        assert runtime.find(run_id).resume() == "m2False"
    assert world == ["m1@caller", "m2@provided"]


def test_an_async_run_that_nobody_calls_goes_on_with_what_is_provided(make_runtime, world):
    """In its colour."""
    run_id = cut(make_runtime(), amailing)
    sagadsl.provide(Session, lambda: Session("provided"))
    assert asyncio.run(awaited(make_runtime().find(run_id).resume())) == "m2"
    assert world == ["m1@caller", "m2@provided"]


@pytest.mark.parametrize("made", [mailing, amailing])
def test_what_is_missing_is_said_before_anything_is_written(make_runtime, world, made):
    """The message names the run, what needs it, the type, and what to do."""
    run_id = cut(make_runtime(), made)
    entries = len(make_runtime().journal().entries(1))
    name = made._self_spec.name
    with pytest.raises(UsageError) as caught:
        made.using(runtime=make_runtime()).resume(run_id)
    assert str(caught.value) == (
        f"run {run_id}: the saga {name} needs the live argument session, a Session, and nobody calls it here: say how "
        "to make one with sagadsl.provide(Session, factory)"
    )
    with pytest.raises(UsageError, match=f"run {run_id}: the compensation undo of step a?send needs the live argument"):
        here(make_runtime().find(run_id).compensate)
    assert len(make_runtime().journal().entries(1)) == entries
    assert world == ["m1@caller"]
    sagadsl.provide(Session, lambda: Session("later"))
    done = here(make_runtime().find(run_id).compensate)
    assert done.status == "compensated"
    assert world == ["m1@caller", "-m1@later"]


def test_a_factory_is_called_once_a_process_and_only_when_needed(make_runtime, world):
    """A completed run needs nothing; a replaced factory is asked afresh."""
    made = []

    def factory():
        made.append(1)
        return Session(f"made{len(made)}")

    sagadsl.provide(Session, factory)
    run_id = cut(make_runtime())
    assert made == []
    assert mailing.using(runtime=make_runtime()).resume(run_id) == "m2False"
    assert mailing.using(runtime=make_runtime()).resume(run_id) == "m2False"
    assert PROVIDED.take(PROVIDED.sources(mailing._self_spec, ["session"], "x"))["session"].name == "made1"
    assert made == [1]
    sagadsl.provide(Session, lambda: Session("other"))
    assert PROVIDED.take(PROVIDED.sources(mailing._self_spec, ["session"], "x"))["session"].name == "other"
    assert world == ["m1@caller", "m2@made1"]


def test_a_factory_that_fails_is_no_failure_of_the_saga(make_runtime, world):
    """Nothing is written, the run is free, and can go on when the database is back."""
    down = [True]

    def factory():
        if down:
            raise ConnectionError("no database")
        return Session("up")

    sagadsl.provide(Session, factory)
    for made in (mailing, amailing):
        run_id = cut(make_runtime(), made)
        stored = make_runtime().find(run_id)
        for act in (stored.resume, stored.compensate):
            with pytest.raises(ConnectionError, match="no database"):
                here(act)
        assert make_runtime().find(run_id) == stored
    down.clear()
    assert make_runtime().find("mailing/k").resume() == "m2False"
    assert world == ["m1@caller", "m1@caller", "m2@up"]


def test_a_context_manager_is_entered_once_a_process_and_left_at_its_end(tmp_path):
    """By a factory or as it is; the last entered is left first; a forked child leaves nothing of its parent's."""
    program = tmp_path / "program.py"
    program.write_text(
        """
import contextlib, os, sys
from sagadsl import provide
from sagadsl._core.provided import PROVIDED
import tasks

@contextlib.contextmanager
def session(name):
    print("enter", name, flush=True)
    yield tasks.Session(name)
    print("leave", name, flush=True)

provide(tasks.Session, lambda: session("factory"))
provide(tasks.Client, session("itself"))
for _ in range(2):
    for name in ("session", "client"):
        print(PROVIDED.take(PROVIDED.sources(tasks.using_both._self_spec, [name], "x"))[name].name)
child = os.fork()
if not child:
    provide(tasks.Client, lambda: session("child"))
    PROVIDED.take(PROVIDED.sources(tasks.using_both._self_spec, ["client"], "x"))
    sys.exit()
os.waitpid(child, 0)
"""
    )
    (tmp_path / "tasks.py").write_text(
        """
from sagadsl import Live, step
class Session:
    def __init__(self, name): self.name = name
class Client(Session): ...
@step
def using_both(session: Live[Session], client: Live[Client]): ...
"""
    )
    done = run_python(tmp_path, "program.py")
    assert done.stdout.split("\n") == [
        "enter factory", "factory", "enter itself", "itself", "factory", "itself",
        "enter child", "leave child", "leave itself", "leave factory", "",
    ], done.stderr  # fmt: skip


def test_what_is_entered_is_left_once_and_a_fork_makes_its_own():
    """The hooks themselves, in this process: at its end, and after a fork."""
    log = []

    @contextlib.contextmanager
    def session():
        log.append("enter")
        yield Session()
        log.append("leave")

    def use(it: Live[Session]) -> None: ...

    given = Provided({Session: session})
    sources = given.sources(step(use)._self_spec, ["it"], "x")
    given.take(sources)
    provided_room.leave()
    provided_room.leave()
    assert log == ["enter", "leave"]
    given.provide(Session, session())
    sources = given.sources(step(use)._self_spec, ["it"], "x")
    given.take(sources)
    provided_room._after_fork()
    provided_room.leave()
    assert log == ["enter", "leave", "enter"]
    given.provide(Session, session)
    given.take(given.sources(step(use)._self_spec, ["it"], "x"))
    provided_room.leave()
    assert log == ["enter", "leave", "enter", "enter", "leave"]


def run_python(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, with this package."""
    variables = os.environ | {"PYTHONPATH": str(Path(sagadsl.__file__).parents[1])} | environment
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=120
    )


class Pool:
    """An asynchronous context manager, bound to its loop as they are."""

    log: list[str]

    async def __aenter__(self):
        self.loop = asyncio.get_running_loop()
        self.log.append("enter")
        return self

    async def __aexit__(self, *error):
        assert asyncio.get_running_loop() is self.loop
        self.log.append(f"leave {error[0]}")


@step(compensate=lambda pool: Pool.log.append("undo"), name="by_pool")
async def by_pool(pool: Live[Pool]) -> None:
    """Act in the loop of the pool."""
    assert asyncio.get_running_loop() is pool.loop
    Pool.log.append("act")


@saga(name="pooled", key="{key}")
async def pooled(pool: Live[Pool], key: str) -> None:
    """Act by a pool, and be killed in between."""
    await by_pool(pool)
    die()
    await by_pool(pool)


def test_an_asynchronous_context_manager_is_entered_once_a_loop_and_left_as_it_shuts_down(make_runtime):
    """Runs of one loop share it; it is left in its own loop, without an exception."""
    Pool.log = log = []

    async def leave_interrupted(key):
        async with Pool() as pool:
            await pooled.using(runtime=make_runtime())(pool, key)

    for key in "abc":
        with pytest.raises(Cut):
            asyncio.run(leave_interrupted(key))
    del log[:]

    async def resume(*keys):
        await asyncio.gather(*(make_runtime().find(f"pooled/{key}").resume() for key in keys))

    sagadsl.provide(Pool, Pool)
    asyncio.run(resume("a", "b"))
    assert log == ["enter", "act", "act", "leave None"]
    del log[:]

    async def compensate():
        assert (await make_runtime().find("pooled/c").compensate()).status == "compensated"

    asyncio.run(compensate())
    assert log == ["enter", "undo", "leave None"]


def test_an_asynchronous_context_manager_that_cannot_be_entered_is_asked_again(make_runtime):
    """Its own exception comes out; whoever is cancelled meanwhile leaves nothing entered."""
    Pool.log = log = []
    gates = [asyncio.Event(), asyncio.Event()]

    class Slow(Pool):
        async def __aenter__(self):
            log.append("begin")
            if len(log) == 1:
                raise ConnectionError("no pool")
            await gates[0].wait()
            return await super().__aenter__()

    given = Provided({Pool: Slow})
    sources = given.sources(pooled._self_spec, ["pool"], "x")

    async def main():
        with pytest.raises(ConnectionError, match="no pool"):
            await given.atake(sources)
        waiting = asyncio.create_task(given.atake(sources))
        await until(lambda: len(log) == 2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        waiting = asyncio.create_task(given.atake(sources))
        await until(lambda: len(log) == 3)
        gates[0].set()
        first, second = await waiting, await given.atake(sources)
        assert first["pool"] is second["pool"]

    asyncio.run(main())
    assert log == ["begin", "begin", "begin", "enter", "leave None", "enter", "leave None"]
    del gates[0], log[:]
    log += ["", "", ""]

    async def fails():
        waiting = asyncio.create_task(given.atake(sources))
        await until(lambda: len(log) == 4)
        waiting.cancel()

    asyncio.run(fails())
    assert log == ["", "", "", "begin"]


def test_what_an_async_factory_gives_is_awaited(make_runtime, world):
    """Once a loop; a ``def`` is told that it cannot, before anything is written."""
    made = []

    async def factory() -> Session:
        await asyncio.sleep(0)
        made.append(1)
        return Session("awaited")

    sagadsl.provide(Session, factory)
    asyncio.run(awaited(make_runtime().find(cut(make_runtime(), amailing)).resume()))
    run_id = cut(make_runtime())
    entries = len(make_runtime().journal().entries(2))
    for act in ("resume", "compensate"):
        with pytest.raises(UsageError, match="provided for Session is asynchronous, which only an async def can enter"):
            getattr(make_runtime().find(run_id), act)()
    assert len(make_runtime().journal().entries(2)) == entries
    assert world == ["m1@caller", "m2@awaited", "m1@caller"]
    assert made == [1]


def test_an_async_run_takes_what_a_def_made_and_the_other_way_round(make_runtime, world):
    """One value a process, whoever asks first."""
    made = []
    sagadsl.provide(Session, lambda: made.append(1) or Session(f"made{len(made)}"))
    ids = [cut(make_runtime(), each) for each in (mailing, amailing)]
    make_runtime().find(ids[0]).resume()
    asyncio.run(awaited(make_runtime().find(ids[1]).resume()))
    assert made == [1]
    sagadsl.provide(Session, lambda: made.append(1) or Session(f"made{len(made)}"))
    spec = mailing._self_spec

    async def both():
        return [(await PROVIDED.atake(PROVIDED.sources(spec, ["session"], "x")))["session"] for _ in range(2)]

    first, second = asyncio.run(both())
    assert first is second is PROVIDED.take(PROVIDED.sources(spec, ["session"], "x"))["session"]
    assert made == [1, 1]


def test_a_lock_is_not_taken_for_something_to_be_entered():
    """It would be held for ever; the message says how to have it as it is."""
    lock = threading.Semaphore()

    def limited(limit: Live[threading.Semaphore]) -> None: ...

    spec = step(limited)._self_spec
    provided = Provided({threading.Semaphore: lambda: lock})
    with pytest.raises(UsageError, match=r"gives a bool when it is entered. .* contextlib.nullcontext\(value\)"):
        provided.take(provided.sources(spec, ["limit"], "x"))
    provided.provide(threading.Semaphore, lambda: contextlib.nullcontext(threading.Semaphore()))
    with provided.take(provided.sources(spec, ["limit"], "x"))["limit"]:
        pass


def test_a_connection_that_is_a_context_manager_is_entered_as_it_is():
    """As most connections, clients and pools are."""

    def writes(connection: Live[sqlite3.Connection]) -> None: ...

    provided = Provided({sqlite3.Connection: lambda: sqlite3.connect(":memory:")})
    sources = provided.sources(step(writes)._self_spec, ["connection"], "x")
    connection = provided.take(sources)["connection"]
    assert connection.execute("select 1").fetchone() == (1,)
    connection.close()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((Session | None, Session), "takes the class that live arguments are annotated with"),
        ((object, Session), "takes the class"),
        ((Any, Session), "takes the class"),
        ((Session, 5), r"provide\(Session, factory\): give what makes one, `lambda: value`"),
    ],
)
def test_what_cannot_be_provided_is_refused(given, says):
    """At once."""
    with pytest.raises(UsageError, match=says):
        sagadsl.provide(*given)


class Writes(Protocol):
    """Structural types are nobody's base, unless they are named."""

    def add(self, what: str) -> None: ...


class Writer(Writes):
    """One that names it."""

    def add(self, what: str) -> None:
        """Do nothing."""


FITS = [
    (Live[Session], Session),
    (Live[Session], Subsession),
    (Live[Session | None], Session),
    (Live[Optional[Session]], Subsession),  # noqa: UP045  # as people still write it
    (Live[Union[int, Session]], Session),  # noqa: UP007
    (Annotated[Live[Session], "more"], Session),
    (Live[Session] | None, Session),
    (Union[int, Annotated[Live[Session], "more"]], Subsession),  # noqa: UP007
    ("Live[Session] | None", Session),
    (TypeAliasType("Alias", Live[Session | None]), Session),
    ("Live[Session]", Session),
    ("Live[Session]", Subsession),
    (Live[Token], Token),
    (Live[Writes], Writer),
    (Live[list[int]], list),
]


@pytest.mark.parametrize(("annotation", "provided"), FITS)
def test_a_value_serves_its_class_and_those_it_is_derived_from(annotation, provided):
    """Optional, spelled as text, annotated further, a NewType, a protocol that is named as a base."""

    def use(it) -> None: ...

    use.__annotations__["it"] = annotation
    given = Provided({provided: lambda: "value"})
    assert given.take(given.sources(step(use)._self_spec, ["it"], "x")) == {"it": "value"}


def test_the_exact_class_comes_before_those_derived_from_it():
    """Two derived ones are one too many."""

    def use(it: Live[Session]) -> None: ...

    spec = step(use)._self_spec
    given = Provided({Subsession: lambda: "sub"})
    given.provide(type("Other", (Session,), {}), lambda: "other")
    with pytest.raises(UsageError, match=r"it, a Session, and both Subsession and Other are provided: .* says which"):
        given.sources(spec, ["it"], "x needs")
    given.provide(Session, lambda: "exact")
    assert given.take(given.sources(spec, ["it"], "x")) == {"it": "exact"}


def move_back(target, what):
    """Compensate at one of two connections."""
    target.add(f"-{what}@{target.name}")


@step(compensate=move_back, name="move")
def move(source: Live[Session], target: Live[Session], what: str) -> None:
    """Take from one, give to the other."""
    source.add(f"{what}@{source.name}")
    target.add(f"{what}@{target.name}")


@saga(key="k", name="moving")
def moving(source: Live[Session], target: Live[Session], what: str) -> None:
    """Have two connections of one type."""
    move(source, target, what)
    die()


@step(compensate=move_back, name="amove")
async def amove(source: Live[Session], target: Live[Session], what: str) -> None:
    """Take from one, give to the other."""
    move.plain(source, target, what)


@saga(key="k", name="amoving")
async def amoving(source: Live[Session], target: Live[Session], what: str) -> None:
    """Have two connections of one type."""
    await amove(source, target, what)
    die()


@pytest.mark.parametrize(("made", "undone"), [(moving, "move"), (amoving, "amove")])
@pytest.mark.parametrize("provided", [Session, Subsession])
def test_one_value_is_never_given_for_two_parameters(make_runtime, world, made, undone, provided):
    """Also where the compensation names one of them only: which database is meant, a type cannot tell."""
    runtime = make_runtime()
    with pytest.raises(Cut):
        here(lambda: made.using(runtime=runtime)(Session("north"), Session("south"), "m"))
    sagadsl.provide(provided, lambda: pytest.fail("it is made"))
    name, entries = f"{made._self_spec.name}/k", len(make_runtime().journal().entries(1))
    with pytest.raises(UsageError) as caught:
        here(lambda: made.using(runtime=make_runtime()).resume(name))
    cls = provided.__name__
    assert str(caught.value) == (
        f"run {name}: the saga {made._self_spec.name} needs the live argument source, and what is provided for {cls} "
        f'would fill source and target alike. Tell them apart by types of their own: Source = NewType("Source", {cls}),'
        " `source: Live[Source]`, sagadsl.provide(Source, factory); and so for target"
    )
    says = f"the compensation move_back of step {undone} needs the live argument target, .* would fill source and targ"
    with pytest.raises(UsageError, match=says):
        here(make_runtime().find(name).compensate)
    assert len(make_runtime().journal().entries(1)) == entries
    assert world == ["m@north", "m@south"]


def test_parameters_told_apart_by_new_types_get_a_value_each():
    """Nor is what nobody asks for, or the object of a method, anybody's rival."""

    class Shop(Session):
        def buy(self, other: Live[Session], token: Live[Token], gone: Live[Path]) -> None: ...

    given = Provided({Session: lambda: "session", Shop: lambda: "shop", Token: lambda: "token"})
    spec = step(Shop.buy)._self_spec
    sources = given.sources(spec, ["other", "token"], "x")
    assert given.take(sources) == {"other": "session", "token": "token"}


@pytest.mark.parametrize("annotation", [None, Live[Any], Live[object], object, "Live[Missing]", "Gone"])
def test_a_live_argument_whose_annotation_says_nothing_is_asked_to_say_more(annotation):
    """By what it lacks: an annotation, or the import of what it names."""

    def use(it) -> None: ...

    if annotation is not None:
        use.__annotations__["it"] = annotation
    says = r"annotate it `it: Live\[SomeClass\]`"
    if isinstance(annotation, str):
        says = "names nothing that is there when the program runs: import that name outside of `if TYPE_CHECKING:`"
    with pytest.raises(UsageError, match=f"x needs the live argument it, .*{says}"):
        Provided({Session: Session}).sources(step(live=("it",))(use)._self_spec, ["it"], "x")


def test_a_runtime_of_its_own_can_have_providers_of_its_own(make_runtime, world):
    """Explicit, and nothing of the process's."""
    sagadsl.provide(Session, lambda: Session("process"))
    run_id = cut(make_runtime())
    with pytest.raises(UsageError, match="needs the live argument session"):
        make_runtime(provide={}).find(run_id).resume()
    make_runtime(provide={Session: lambda: Session("own")}).find(run_id).resume()
    assert world == ["m1@caller", "m2@own"]


def test_what_no_call_gave_by_stars_is_empty(make_runtime, world):
    """``*sessions`` that are live are none, and positional-only ones are provided like others."""

    @saga(key="k", name="starred", live=("named",))
    def starred(first: Live[Session], /, item: str, *sessions: Live[Session], **named: Session) -> list[str]:
        die()
        return [first.name, item, *(each.name for each in sessions), *named]

    with pytest.raises(Cut):
        starred.using(runtime=make_runtime())(Session("a"), "lamp", Session("b"), more=Session("c"))
    sagadsl.provide(Session, lambda: Session("provided"))
    assert make_runtime().find("starred/k").resume() == ["provided", "lamp"]


def test_threads_that_need_a_value_at_once_share_it():
    """In either colour."""
    made = []

    def factory():
        made.append(1)
        gate.wait(30)
        return Session()

    gate = threading.Barrier(2)
    given = Provided({Session: factory})
    sources = given.sources(mailing._self_spec, ["session"], "x")
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(asyncio.run, given.atake(sources)) for _ in range(2)]
        assert asked[0].result(30) == asked[1].result(30)
    assert given.take(sources) == asked[0].result()
    assert made == [1, 1]


@pytest.mark.parametrize("made", [mailing, amailing])
def test_an_argument_that_a_run_was_recorded_without_is_no_failure(make_runtime, world, made, monkeypatch):
    """The saga takes more than when it began: it is told, and nothing is compensated."""
    run_id = cut(make_runtime(), made)
    entries = len(make_runtime().journal().entries(1))
    parameters = made._self_spec.parameters
    monkeypatch.setattr(parameters, "names", (*parameters.names, "colour"))
    sagadsl.provide(Session, Session)
    with pytest.raises(UsageError, match=f"run {run_id} was recorded without colour, which {made.__name__}"):
        here(lambda: made.using(runtime=make_runtime()).resume(run_id))
    assert len(make_runtime().journal().entries(1)) == entries
    assert world == ["m1@caller"]


@saga(key="k", name="mixed")
async def mixed(session: Live[Session], token: Live[Token]) -> None:
    """Call a step of the other colour, and be killed."""
    send(session, "m")
    raise Cut


def test_an_async_saga_whose_body_cannot_run_is_awaited_all_the_same(make_runtime, world):
    """Whatever the colour of what is owed."""
    with pytest.raises(Cut):
        asyncio.run(awaited(mixed.using(runtime=make_runtime())(Session("caller"), Token(MARKER))))
    sagadsl.provide(Session, lambda: Session("provided"))

    async def compensate():
        return [str((await make_runtime().find("mixed/k").compensate()).status) for _ in range(2)]

    assert asyncio.run(compensate()) == ["compensated", "compensated"]
    assert world == ["m@caller", "-m@provided"]


# -- compensation without, or with half, a body ---------------------------------------------------------------------


def forget(name: str) -> None:
    """Have this program without a saga."""
    sagadsl._core.registry.registry.sagas.pop(("test_provided", name), None)


def lost(runtime: Runtime) -> str:
    """Leave an interrupted run of a saga that no program has any more; return its id."""

    def scope():
        @saga(name="lost", key="k")
        def made() -> None:
            send(Session("caller"), "a")
            send(Session("caller"), "b")
            raise Cut

        with pytest.raises(Cut):
            made.using(runtime=runtime)()

    scope()
    forget("lost")
    return "lost/k"


def test_compensation_by_names_gets_what_is_provided(make_runtime, world):
    """Or is refused before anything is written; it names run and step."""
    run_id = lost(make_runtime())
    entries = len(make_runtime().journal().entries(1))
    with pytest.raises(UsageError, match="run lost/k: the compensation undo of step send#2 needs the live"):
        make_runtime().find(run_id).compensate()
    assert len(make_runtime().journal().entries(1)) == entries
    sagadsl.provide(Session, lambda: Session("provided"))
    assert make_runtime().find(run_id).compensate().status == "compensated"
    assert world == ["a@caller", "b@caller", "-b@provided", "-a@provided"]


@step(compensate=None, name="agree")
async def agree() -> None:
    """Do nothing."""


def test_async_compensation_by_names_gets_what_is_provided(make_runtime, world):
    """Entered in the loop that compensates."""

    def scope():
        @saga(name="alost", key="k")
        async def made() -> None:
            await asend(Session("caller"), "a")
            raise Cut

        with pytest.raises(Cut):
            asyncio.run(made.using(runtime=make_runtime())())

    scope()
    forget("alost")

    @contextlib.asynccontextmanager
    async def session():
        yield Session("entered")
        world.add("left")

    sagadsl.provide(Session, session)

    async def compensate():
        return await make_runtime().find("alost/k").compensate()

    assert asyncio.run(compensate()).status == "compensated"
    assert world == ["a@caller", "-a@entered", "left"]


def ask(session, what):
    """Look whether it was sent."""
    session.add(f"?{what}@{session.name}")
    return sagadsl.NotLanded()


@step(compensate=undo, probe=ask, name="ship")
def ship(session: Live[Session], what: str) -> None:
    """Be killed."""
    raise Cut


def test_a_probe_gets_what_is_provided_too(make_runtime, world):
    """Where no body binds it."""

    def scope():
        @saga(name="shipping", key="k")
        def made() -> None:
            send(Session("caller"), "a")
            ship(Session("caller"), "b")

        with pytest.raises(Cut):
            made.using(runtime=make_runtime())()

    scope()
    forget("shipping")
    sagadsl.provide(Session, lambda: Session("provided"))
    assert make_runtime().find("shipping/k").compensate().status == "compensated"
    assert world == ["a@caller", "?b@provided", "-a@provided"]


@pytest.mark.parametrize("is_async", [False, True])
def test_what_a_changed_body_no_longer_binds_gets_what_is_provided(make_runtime, world, is_async):
    """A run that compensates runs its body over the record; what that no longer calls is still owed."""
    sent = asend if is_async else send

    def made(changed):
        def body() -> None:
            if not changed:
                send(Session("caller"), "a")
                send(Session("caller"), "b")
            raise Cut

        async def abody() -> None:
            if not changed:
                await asend(Session("caller"), "a")
                await asend(Session("caller"), "b")
            raise Cut

        return saga(name="changed", key="k")(abody if is_async else body)

    def compensate(runtime):
        return here(runtime.find("changed/k").compensate)

    first = made(changed=False)
    with pytest.raises(Cut):
        here(first.using(runtime=make_runtime()))
    second = made(changed=True)
    entries = len(make_runtime().journal().entries(1))
    with pytest.raises(UsageError, match=rf"compensation undo of step {sent._self_spec.name}#2 needs the live"):
        compensate(make_runtime())
    assert len(make_runtime().journal().entries(1)) == entries
    sagadsl.provide(Session, lambda: Session("provided"))
    assert compensate(make_runtime()).status == "compensated"
    assert world == ["a@caller", "b@caller", "-b@provided", "-a@provided"]
    assert second is not first


def test_a_body_cannot_take_what_is_missing_in_a_child_for_a_failure(make_runtime, world):
    """It stops the whole tree; nothing is written."""
    bodies = ["first"]

    def fails(name: str) -> None:
        raise Cut

    stuck = step(compensate=Compensation(fails), name="stuck")(lambda_free)

    @saga(name="inner")
    def inner() -> None:
        if bodies == ["first"]:
            send(Session("caller"), "a")
        stuck("x")
        raise ValueError("no")

    @saga(name="outer", key="k")
    def outer() -> str:
        with contextlib.suppress(Exception):
            inner()
        return "went on"

    with pytest.raises(Cut):
        outer.using(runtime=make_runtime())()
    bodies[:] = ["second"]
    entries = len(make_runtime().journal().entries(1))
    with pytest.raises(UsageError, match="the compensation undo of step inner/send needs the live argument session"):
        outer.using(runtime=make_runtime())()
    assert len(make_runtime().journal().entries(1)) == entries
    assert world == ["a@caller"]


def lambda_free(name: str) -> None:
    """Do nothing."""


def test_an_argument_that_the_record_lacks_is_named(make_runtime):
    """The step has more arguments now than when it was recorded: that compensation fails loudly."""

    def release(item: str, currency: str = "EUR") -> None: ...

    def before(item: str) -> None: ...

    def after(item: str, currency: str) -> None: ...

    bodies = [step(compensate=release, name="pay")(before), ()]

    @saga(name="grown", key="k")
    def grown() -> None:
        if bodies[1] == ():
            bodies[0]("lamp")
        raise Cut

    with pytest.raises(Cut):
        grown.using(runtime=make_runtime())()
    bodies[1] = None
    registered = sagadsl._core.registry.registry.steps
    spec = step(compensate=Compensation(release, retries=0), name="pay")(after)._self_spec
    registered["test_provided", "pay"] = spec
    try:
        with pytest.raises(sagadsl.CompensationError, match="needs the argument 'currency', which the step was"):
            make_runtime().find("grown/k").compensate()
    finally:
        del registered["test_provided", "pay"]


def test_a_closure_is_compensated_live_and_by_its_body_and_never_guessed_at_by_name(make_runtime, world):
    """A step of the same name at the top of the module is another one."""

    def make(kill: bool):
        def release(name):
            world.add(f"-closure-{name}")

        @step(compensate=release, name="send")
        def local(name: str) -> None:
            world.add(f"closure-{name}")

        @saga(name="closes", key="{how}")
        def closes(how: str) -> None:
            local(how)
            if kill:
                raise Cut
            raise ValueError(how)

        return closes

    with pytest.raises(ValueError, match="live"):
        make(kill=False).using(runtime=make_runtime())("live")
    for how in ("again", "gone"):
        with pytest.raises(Cut):
            make(kill=True).using(runtime=make_runtime())(how)
    kept = make(kill=True)
    assert make_runtime().find("closes/again").compensate().status == "compensated"
    del kept
    forget("closes")
    with pytest.raises(
        UsageError, match="the body of closes cannot be run here, and step send of module test_provided"
    ):
        make_runtime().find("closes/gone").compensate()
    assert world == ["closure-live", "-closure-live", "closure-again", "closure-gone", "-closure-again"]


def test_a_closure_that_a_changed_body_no_longer_makes_stops_the_compensation_loudly(make_runtime, world):
    """What is owed before it is compensated, and it stays owed."""
    bodies = ["first"]

    @saga(name="half", key="k")
    def half() -> None:
        send(Session("caller"), "a")
        if bodies == ["first"]:
            send.using(compensate=lambda what: None)(Session("caller"), "b")
        raise Cut

    with pytest.raises(Cut):
        half.using(runtime=make_runtime())()
    bodies[:] = ["second"]
    reason = "only the saga's body reaches it; it must stand at the top of test_provided"
    with pytest.raises(sagadsl.CompensationError, match=reason):
        make_runtime().find("half/k").compensate()
    assert world == ["a@caller", "b@caller"]


# -- methods --------------------------------------------------------------------------------------------------------


class Shop:
    """A service object, as people write them: its steps and their compensations are methods."""

    def __init__(self, name: str) -> None:
        self.name = name

    def release(self, item):
        """Undo `reserve`."""
        Session().add(f"-{item}@{self.name}")

    @step(compensate=release)
    def reserve(self, item: str) -> str:
        """Reserve something."""
        Session().add(f"{item}@{self.name}")
        return f"{item} of {self.name}"

    @step(compensate=release)
    async def areserve(self, item: str) -> str:
        """Reserve something, in an ``async def``."""
        Session().add(f"{item}@{self.name}")
        return f"{item} of {self.name}"

    def recount(cls, item):  # noqa: N805  # a compensation written in the class, for a class method
        """Undo `count`."""
        Session().add(f"-{item}@{cls.__name__}")

    @step(compensate=recount)
    @classmethod
    def count(cls, item: str) -> str:
        """Count something."""
        Session().add(f"{item}@{cls.__name__}")
        return cls.__name__

    @classmethod
    @step(compensate=recount)
    def tally(cls, item: str) -> str:
        """Count something, decorated the other way round."""
        Session().add(f"{item}@{cls.__name__}")
        return cls.__name__

    @staticmethod
    def unpack(item):
        """Undo `pack`."""
        Session().add(f"-{item}")

    @step(compensate=unpack)
    @staticmethod
    def pack(item: str) -> str:
        """Pack something."""
        Session().add(item)
        return item

    @staticmethod
    @step(compensate=lambda item: Session().add(f"-{item}"))
    def wrap(item: str) -> str:
        """Wrap something."""
        Session().add(item)
        return item

    @saga(key="{item}")
    def order(self, item: str, how: str) -> str:
        """Order something."""
        reserved = self.reserve(item)
        if how == "cut":
            die()
        if how == "fail":
            raise ValueError(item)
        return reserved

    @saga(key="{item}")
    async def aorder(self, item: str) -> str:
        """Order something, in an ``async def``."""
        reserved = await self.areserve(item)
        die()
        return reserved

    @saga(key="{item}")
    @classmethod
    def stocktaking(cls, item: str) -> str:
        """Count everything."""
        counted = cls.count(item)
        die()
        return counted

    @step(compensate=recount)
    @classmethod
    async def acount(cls, item: str) -> str:
        """Count something, in an ``async def``."""
        Session().add(f"{item}@{cls.__name__}")
        return cls.__name__

    @saga(key="{item}")
    @classmethod
    async def astocktaking(cls, item: str) -> str:
        """Count everything, in an ``async def``."""
        counted = await cls.acount(item)
        die()
        return counted

    @saga(key="{item}")
    @staticmethod
    def parcel(item: str) -> str:
        """Pack everything."""
        packed = Shop.pack(item)
        die()
        return packed


class Depot:
    """A class that no other is derived from."""

    @step(compensate=Shop.recount)
    @classmethod
    def count(cls, item: str) -> str:
        """Count something."""
        Session().add(f"{item}@{cls.__name__}")
        return cls.__name__

    @saga(key="{item}")
    @classmethod
    def stocktaking(cls, item: str) -> str:
        """Count everything."""
        counted = cls.count(item)
        die()
        return counted


class Market(Shop):
    """A shop that reserves in its own way."""

    @step(compensate=Shop.release)
    def reserve(self, item: str) -> str:
        """Reserve by what the class above does."""
        Session().add("market")
        return super().reserve.plain(item) + "!"


class Kiosk(Shop):
    """A shop that changes nothing."""


def test_two_instances_in_one_saga_are_each_compensated_by_themselves(make_runtime, world):
    """A method that overrides a step is a step of its own."""

    @saga(runtime=make_runtime())
    def flow() -> None:
        for shop in (Shop("north"), Market("south"), Kiosk("east")):
            Session().add(shop.reserve("lamp").replace(" ", "_"))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        flow()
    assert world == [
        *("lamp@north", "lamp_of_north", "market", "lamp@south", "lamp_of_south!", "lamp@east", "lamp_of_east"),
        *("-lamp@east", "-lamp@south", "-lamp@north"),
    ]
    keys = [each.key for each in make_runtime().runs()[0].steps]
    assert keys == ["Shop.reserve", "Market.reserve", "Shop.reserve#2"]


def test_a_method_goes_on_with_another_instance(make_runtime, world):
    """By calling it again, or by its id on an instance."""
    with pytest.raises(Cut):
        Shop("first").order.using(runtime=make_runtime())("lamp", "cut")
    assert Shop("second").order.using(runtime=make_runtime())("lamp", "cut") == "lamp of first"
    with pytest.raises(Cut):
        Shop("first").order.using(runtime=make_runtime())("bed", "cut")
    assert Shop("second").order.using(runtime=make_runtime()).resume("Shop.order/bed") == "bed of first"
    assert world == ["lamp@first", "bed@first"]


@pytest.mark.parametrize("cls", [Shop, Kiosk])
def test_self_is_an_instance_of_the_class_that_defines_the_method(make_runtime, world, cls):
    """Provided as such, or as a class derived from it; without one it is asked for by the name of the class."""
    with pytest.raises(Cut):
        Shop("first").order.using(runtime=make_runtime())("lamp", "cut")
    with pytest.raises(UsageError, match=r"the saga Shop\.order needs the live argument self, a Shop, and nobody"):
        make_runtime().find("Shop.order/lamp").resume()
    sagadsl.provide(cls, lambda: cls("provided"))
    assert make_runtime().find("Shop.order/lamp").compensate().status == "compensated"
    with pytest.raises(Cut):
        asyncio.run(awaited(Shop("first").aorder.using(runtime=make_runtime())("bed")))
    assert asyncio.run(awaited(make_runtime().find("Shop.aorder/bed").resume())) == "bed of first"
    assert world == ["lamp@first", "-lamp@provided", "bed@first"]


def test_a_local_class_that_is_provided_is_found_by_its_methods(make_runtime, world):
    """No module leads to it, what is provided does; a class method that nothing leads to says so."""

    class Local:
        @step(compensate=lambda self, item: world.add(f"-{item}"))
        def act(self, item: str) -> None:
            world.add(item)

        @saga(key="{item}")
        def flow(self, item: str) -> None:
            self.act(item)
            die()

        @saga(key="{item}")
        @classmethod
        def cflow(cls, item: str) -> str:
            die()
            return cls.__name__

    with pytest.raises(Cut):
        Local().flow.using(runtime=make_runtime())("a")
    with pytest.raises(Cut):
        Local.cflow.using(runtime=make_runtime())("a")
    with pytest.raises(UsageError, match=r"cls, which is a .*Local: import its module, and say how to make one"):
        make_runtime().find("Local.cflow/a").resume()
    sagadsl.provide(Local, Local)
    assert make_runtime().find("Local.cflow/a").resume() == "Local"
    assert make_runtime().find("Local.flow/a").compensate().status == "compensated"
    assert world == ["a", "-a"]


def test_class_methods_and_static_methods_go_on_without_anything_provided(make_runtime, world):
    """Their class is found by its name, if no class is derived from it."""
    for made, value in ((Depot.stocktaking, "Depot"), (Shop.parcel, "lamp"), (Kiosk("k").parcel, "bed")):
        with pytest.raises(Cut):
            made.using(runtime=make_runtime())(value)
        run_id = f"{'Shop' if made.__name__ == 'parcel' else 'Depot'}.{made.__name__}/{value}"
        if value == "bed":
            assert made.using(runtime=make_runtime()).resume(run_id) == value
            continue
        run = make_runtime().find(run_id)
        assert run.resume() == value
    with pytest.raises(Cut):
        Kiosk.stocktaking.using(runtime=make_runtime())("nail")
    assert Kiosk.stocktaking.using(runtime=make_runtime()).resume("Shop.stocktaking/nail") == "Kiosk"
    with pytest.raises(Cut):
        Depot.stocktaking.using(runtime=make_runtime())("screw")
    assert make_runtime().find("Depot.stocktaking/screw").compensate().status == "compensated"
    assert world == ["Depot@Depot", "lamp", "bed", "nail@Kiosk", "screw@Depot", "-screw@Depot"]


@pytest.mark.parametrize("cls", [Shop, Kiosk])
def test_a_class_method_never_goes_on_with_another_class(make_runtime, world, cls):
    """Which one it was called on is not on record: it is named, and what is provided of derived ones names none."""
    with pytest.raises(Cut):
        cls.stocktaking.using(runtime=make_runtime())("nail")
    with pytest.raises(Cut):
        asyncio.run(awaited(cls.astocktaking.using(runtime=make_runtime())("screw")))
    which = r"live argument cls, which is Shop or a class derived from it.*provide\(Shop, Shop\) says that it is Shop;"
    for provided in ((), (Kiosk,), (Kiosk, Market)):
        for each in provided:
            sagadsl.provide(each, lambda: pytest.fail("no instance is needed"))
        for run in make_runtime().runs():
            named = getattr(Shop, run.saga.removeprefix("Shop.")).using(runtime=make_runtime())
            ways = run.resume, run.compensate, lambda: named.resume(run.id), lambda: named.compensate(run.id)  # noqa: B023
            for act in ways:
                with pytest.raises(UsageError, match=which):
                    here(act)
    assert world == [f"nail@{cls.__name__}", f"screw@{cls.__name__}"]
    if cls is Shop:
        sagadsl.provide(Shop, lambda: pytest.fail("no instance is needed"))
    for run in make_runtime().runs():
        own = getattr(Kiosk, run.saga.removeprefix("Shop.")).using(runtime=make_runtime())
        act = run.compensate if cls is Shop else functools.partial(own.compensate, run.id)
        assert here(act).status == "compensated"
    assert sorted(world.effects[2:]) == [f"-nail@{cls.__name__}", f"-screw@{cls.__name__}"]


@pytest.mark.parametrize("owner", [Shop, Kiosk, Kiosk("k")])
def test_static_and_class_methods_work_in_both_orders_with_every_name_more(make_runtime, world, owner):
    """Called on the class, on a class derived from it, or on an instance; bound the same by `using` and `plain`."""
    cls = (owner if isinstance(owner, type) else type(owner)).__name__

    @saga(runtime=make_runtime())
    def flow() -> None:
        assert [owner.count("a"), owner.count.using(key="k")("b")] == [cls, cls]
        again = owner.tally.using(key="k")
        if sys.version_info >= (3, 13):  # where `classmethod` no longer binds what it wraps, but for its call
            again = functools.partial(again, owner if isinstance(owner, type) else type(owner))
        assert [owner.tally("c"), again("d")] == [cls, cls]
        assert [owner.pack("e"), owner.pack.using(key="k")("f")] == ["e", "f"]
        assert [owner.wrap("g"), owner.wrap.using(key="k")("h")] == ["g", "h"]
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        flow()
    forward = [f"a@{cls}", f"b@{cls}", f"c@{cls}", f"d@{cls}", "e", "f", "g", "h"]
    assert world == [*forward, *(f"-{effect}" for effect in reversed(forward))]
    assert owner.count.plain("x") == cls


def test_a_class_method_saga_has_its_class_in_every_way_of_calling(make_runtime, world):
    """`outcome` and `using` too."""

    class Base:
        @saga(runtime=make_runtime())
        @classmethod
        def flow(cls, item: str) -> str:
            return cls.__name__

        @saga(runtime=make_runtime())
        @staticmethod
        def plain_flow(item: str) -> str:
            return item

    class Derived(Base): ...

    for owner in (Derived, Derived()):
        assert owner.flow("a") == owner.flow.outcome("b").value == owner.flow.using(key="c")("c") == "Derived"
        assert [owner.plain_flow("d"), owner.plain_flow.outcome("e").value] == ["d", "e"]


def test_a_compensation_that_is_another_kind_of_method_is_refused_and_the_order_named():
    """Else it would be given the result for its ``self``."""
    with pytest.raises(UsageError, match=r"Odd\.act has no self that its compensation undo could get: .* @step$"):

        class Odd:
            def undo(self): ...

            @step(compensate=undo)
            @staticmethod
            def act() -> None: ...

    with pytest.raises(UsageError, match=r"Other\.act has no cls that its compensation undo could get"):

        class Other:
            @classmethod
            def undo(cls): ...

            @step(compensate=undo)
            def act(self) -> None: ...

    with pytest.raises(UsageError, match="decorates a function, a coroutine function or a method, not <property"):

        class Property:
            @step
            @property
            def act(self) -> None: ...


class Reservation:
    """A result that knows how to undo itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def release(self) -> None:
        """Undo it."""
        Session().add(f"-{self.name}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reservation) and other.name == self.name

    __hash__ = None  # type: ignore[assignment]


def test_a_method_of_the_result_is_a_compensation(make_runtime, world, monkeypatch):
    """``compensate=Reservation.release``; so is a method of an object that is there, decorated or not."""
    monkeypatch.setattr(sagadsl._core.runtime.CODEC, "_dumps", dict(sagadsl._core.runtime.CODEC._dumps))
    sagadsl.register(Reservation, lambda reservation: reservation.name, Reservation)
    shop = Shop("there")

    @step(compensate=Reservation.release)
    def reserve(name: str) -> Reservation:
        world.add(name)
        return Reservation(name)

    @step(compensate=shop.release)
    def other(item: str) -> None:
        world.add(item)

    @step(compensate=shop.reserve)
    def third(item: str) -> None:
        world.add(item)

    @saga(runtime=make_runtime())
    def flow() -> None:
        reserve("r")
        other("o")
        third("t")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        flow()
    assert world == ["r", "o", "t", "t@there", "-o@there", "-r"]


def test_a_bound_method_can_be_made_a_step(make_runtime, world):
    """Of a client that is not ours; its instance is live."""

    class Client:
        def charge(self, amounts: list[int]) -> int:
            world.add(f"charge-{len(amounts)}")
            amounts.append(0)
            if len(amounts) < 3 and sagadsl.current().attempt == 1:
                raise ConnectionError
            return sum(amounts)

    client = Client()
    charge = step(compensate=None, retries=1)(client.charge)

    @saga(runtime=make_runtime())
    def flow() -> int:
        return charge([5])

    assert flow() == 5
    assert world == ["charge-1", "charge-1"]
    assert make_runtime().runs()[0].steps[0].arguments == {"amounts": [5]}


# -- threads that have no run ---------------------------------------------------------------------------------------


@pytest.fixture
def _nobody_was_warned(monkeypatch):
    monkeypatch.setattr("sagadsl._dsl.steps._has_noticed", False)


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if "in a thread that has no run" in record.getMessage()]


@step(compensate=None, name="mark")
def mark(name: str) -> str:
    """Have an effect."""
    Session().add(name)
    return name


@pytest.mark.usefixtures("_nobody_was_warned")
def test_a_step_in_a_thread_without_a_run_warns_once_while_one_is_open(make_runtime, world, caplog):
    """There it is the plain function; the warning says what runs steps in threads."""

    @saga(runtime=make_runtime())
    def flow() -> list[str]:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(mark, ["a", "a"]))

    assert flow() == ["a", "a"]
    assert world == ["a", "a"]
    assert make_runtime().runs()[0].steps == ()
    (said,) = warnings_of(caplog)
    assert "sagadsl.parallel(...) or mark.map(...)" in said
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


@pytest.mark.usefixtures("_nobody_was_warned")
def test_a_step_in_a_process_forked_in_a_body_warns_once(make_runtime, world, caplog):
    """A program that makes itself a daemon in the middle of a saga learns it at its next step, not at the end."""

    @saga(runtime=Runtime(":memory:"))
    def own() -> str:
        return mark("own")

    def said():
        return [text for text in map(logging.LogRecord.getMessage, caplog.records) if "was forked in a saga" in text]

    @saga(key="k", runtime=make_runtime())
    def flow() -> str:
        mark("a")
        child = os.fork()
        if child == 0:
            own()  # a saga of the child's own is a run of its own, and changes nothing about that
            mark("child")
            mark("child")
            os._exit(len(said()))
        world.add(f"exit:{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")
        return mark("b")

    assert flow() == "b"
    assert world == ["a", "own", "child", "child", "exit:1", "b"]
    assert said() == []


@pytest.mark.usefixtures("_nobody_was_warned")
def test_steps_run_in_a_pool_as_the_warning_says(make_runtime, world, caplog):
    """With the saga's context each thread's step is recorded, and compensated in reverse."""

    @step(compensate=lambda name: world.add(f"-{name}"))
    def book(name: str) -> None:
        world.add(name)

    @saga(runtime=make_runtime())
    def flow() -> None:
        with ThreadPoolExecutor(2) as pool:
            booked = [pool.submit(contextvars.copy_context().run, book, name) for name in "abcd"]
        for each in booked:
            each.result()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        flow()
    assert sorted(world.effects) == ["-a", "-b", "-c", "-d", "a", "b", "c", "d"]
    (run,) = make_runtime().runs()
    assert [each.status for each in run.steps] == ["compensated"] * 4
    assert [f"-{each.arguments['name']}" for each in reversed(run.steps)] == world.effects[4:]
    assert warnings_of(caplog) == []


@pytest.mark.usefixtures("_nobody_was_warned")
def test_no_thread_is_warned_where_no_run_is_open(make_runtime, caplog):
    """After a run has ended, or was looked at; nor the thread that has the run, nor one that has its context."""
    runtime = make_runtime()

    def elsewhere(function, *args):
        thread = threading.Thread(target=function, args=args)
        thread.start()
        thread.join()

    @saga(key="{name}")
    def flow(name: str) -> None:
        contextvars.Context().run(mark, "same thread")
        elsewhere(contextvars.copy_context().run, mark, name)
        if name == "bad":
            raise ValueError(name)

    flow.using(runtime=runtime)("good")
    flow.using(runtime=runtime)("good")
    with pytest.raises(ValueError, match="bad"):
        flow.using(runtime=runtime)("bad")
    kept = [runtime.find("flow/good"), runtime.runs(), flow.using(runtime=runtime).resume("flow/good")]
    elsewhere(mark, "outside")
    assert warnings_of(caplog) == []
    assert len(kept) == 3


@pytest.mark.usefixtures("_nobody_was_warned")
def test_another_task_of_the_same_thread_is_not_warned(make_runtime, caplog):
    """A service serves others beside its sagas; several runs in one thread are counted."""
    gate = asyncio.Event()
    said = []

    @saga
    async def flow(name: str) -> None:
        await gate.wait()
        mark(name)

    async def main():
        runs = [asyncio.create_task(flow.using(runtime=make_runtime(), key=name)(name)) for name in "ab"]
        await asyncio.sleep(0)
        mark("beside")
        runs.append(asyncio.create_task(flow.using(runtime=make_runtime(), key="c")("c")))
        gate.set()
        await asyncio.gather(*runs)
        said.extend(warnings_of(caplog))
        second = asyncio.create_task(flow.using(runtime=make_runtime(), key="d")("d"))
        await second
        await asyncio.get_running_loop().run_in_executor(None, mark, "nobody")

    asyncio.run(main())
    assert said == warnings_of(caplog) == []


# -- processes ------------------------------------------------------------------------------------------------------


@step(compensate=None, name="note")
def note(path: str, name: str) -> int:
    """Have an effect in a world whose path is given: workers share nothing else."""
    with Path(path).open("a") as file:
        file.write(f"{name}\n")
    return os.getpid()


@saga(key="{name}", name="noted")
def noted(path: str, name: str) -> int:
    """Have two effects."""
    note(path, f"{name}1")
    return note(path, f"{name}2")


def work(store: str, path: str, name: str) -> int:
    """Run a saga in a worker."""
    return noted.using(store=store)(path, name)


class Worker:
    """Holds what travels as a bound method."""

    @step(compensate=None)
    def double(self, number: int) -> int:
        """Compute."""
        return number * 2

    @step(compensate=None)
    @classmethod
    def name(cls) -> str:
        """Tell."""
        return cls.__name__


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_pool_run_sagas_on_one_store(tmp_path, world, method):
    """The decorated functions themselves are sent as tasks; each run completes, and the file is sound."""
    store, path = str(tmp_path / "sagas.db"), str(world.path)
    noted.using(store=store)(path, "parent")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        tasks = [pool.submit(work, store, path, f"w{at}") for at in range(6)]
        own = [pool.submit(note, path, "plain"), pool.submit(Worker().double, 4), pool.submit(Worker.name)]
        assert {task.result(120) for task in tasks} & {os.getpid()} == set()
        assert own[0].result(120) != os.getpid()
        assert [each.result(120) for each in own[1:]] == [8, "Worker"]
    runs = Runtime(store).runs()
    assert sorted(run.id for run in runs) == ["noted/parent", *(f"noted/w{at}" for at in range(6))]
    assert {(str(run.status), len(run.steps)) for run in runs} == {("completed", 2)}
    names = ["parent", *(f"w{at}" for at in range(6))]
    assert sorted(world.effects) == sorted(["plain", *(f"{name}{at}" for name in names for at in "12")])
    with contextlib.closing(sqlite3.connect(store)) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]


def test_what_travels_to_another_process_is_the_same_function():
    """By name, or by the object that it is a method of; with other settings it does not pass for the original."""
    for function in (note, noted, Worker.double, Worker.name):
        assert pickle.loads(pickle.dumps(function)) == function  # noqa: S301
    assert pickle.loads(pickle.dumps(Worker().double))(3) == 6  # noqa: S301
    assert pickle.loads(pickle.dumps(Shop("far").order)).plain.__self__.name == "far"  # noqa: S301
    with pytest.raises(pickle.PicklingError, match="not the same object"):
        pickle.dumps(note.using(retries=2))


@pytest.mark.parametrize("place", ["body", "step", "async"])
def test_a_fork_inside_a_run_does_not_take_the_run_along(make_runtime, world, place):
    """The child may run sagas of its own, and what it does of its parent's is refused; the parent goes on."""
    runtime = make_runtime()

    def fork():
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                mark("plain")
                flow_in_child = noted.using(runtime=make_runtime())
                flow_in_child(str(world.path), "child")
                assert noted.using(store=world.path.with_name("other.db"))(str(world.path), "elsewhere")
                code = 0
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    @step(compensate=None, name="forks")
    def forks() -> None:
        fork()

    @saga(key="k", name="forking")
    def flow() -> str:
        mark("before")
        forks() if place == "step" else fork()
        return mark("after")

    @saga(key="k", name="forking")
    async def aflow() -> str:
        mark("before")
        await asyncio.sleep(0)
        fork()
        return mark("after")

    made = aflow if place == "async" else flow
    assert here(made.using(runtime=runtime)) == "after"
    assert world == ["before", "plain", "child1", "child2", "elsewhere1", "elsewhere2", "after"]
    assert {run.id: str(run.status) for run in make_runtime().runs()} == {
        "forking/k": "completed",
        "noted/child": "completed",
    }
    with contextlib.closing(sqlite3.connect(world.path.with_name("sagas.db"))) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]


def test_a_forked_child_that_leaves_a_step_as_if_it_were_the_parent_is_stopped(make_runtime, world):
    """Whatever it does next of the run, nothing is written, and the parent goes on."""
    children = []

    @step(compensate=None, name="splits")
    def splits() -> int:
        children.append(os.fork())
        return children[-1]

    @saga(key="k", name="splitting")
    def flow() -> str:
        splits()
        mark("once")
        return "done"

    try:
        value = flow.using(runtime=make_runtime())()
    except sagadsl.RunLostError:
        os._exit(0 if children == [0] else 1)
    except BaseException:
        os._exit(2)
    if children == [0]:
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
    assert value == "done"
    assert world == ["once"]
    assert make_runtime().find("splitting/k").status == "completed"


@pytest.mark.parametrize("place", ["step", "look", "compensation"])
def test_what_a_forked_child_makes_of_a_step_is_not_what_came_of_it(make_runtime, world, place):
    """Though it leaves it first: nothing of it is written, and what the parent says is on record."""
    children = []

    def split(_: object = None) -> str:
        children.append(os.fork())
        if children == [0]:
            return "child"
        world.add(f"exit:{os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1])}")
        return "parent"

    @step(name="splits", **{"read_only": True} if place == "look" else {"compensate": split})
    def splits() -> str:
        return "neither" if place == "compensation" else split()

    @saga(key="k", name="splitting")
    def flow() -> str:
        value = splits()
        if place == "compensation":
            raise ValueError(value)
        return value

    try:
        ended = flow.using(runtime=make_runtime()).outcome()
    except BaseException as error:
        if children != [0]:
            raise
        os._exit(0 if isinstance(error, sagadsl.RunLostError) else 1)
    if children == [0]:
        os._exit(2)
    assert ended.run.status == ("compensated" if place == "compensation" else "completed")
    assert ended.run.result == (None if place == "compensation" else "parent")
    assert world == ["exit:0"]


# -- secrets --------------------------------------------------------------------------------------------------------


def test_a_live_argument_is_in_no_file_and_no_text(make_runtime, world, colour, caplog):
    """However a run ends: in the database, its log and lock, in entries, runs, errors, notes and what is logged."""
    caplog.set_level(logging.DEBUG)
    seen = []

    def release(token, session, what):
        assert (token, session.secret) == (MARKER, MARKER)
        if what == "stuck":
            raise OSError(what)

    @colour.step(
        compensate=Compensation(functools.partial(release, MARKER), retries=1), live=("token",), retries=1, name="use"
    )
    def use(token: str, session: Live[Session], what: str, api_key: Live[Token] = MARKER) -> str:
        if what in {"fails", "again"} and (what == "fails" or sagadsl.current().attempt == 1):
            raise LookupError(what)
        if what == "slow":
            raise TimeoutError(what)
        if what == "wrong":
            return object()
        if what == "cut":
            raise Cut
        return what

    @colour.saga(name="uses", live=("token", "session"), key="{what}")
    def uses(token: str, session: Session, what: str):
        yield use(token, session, what)
        if what in {"stuck", "back"}:
            raise ValueError(what)

    for what in ("fails", "again", "slow", "wrong", "cut", "stuck", "back", "good"):
        runtime = make_runtime(observers=(lambda entry: seen.append(repr(entry)),))
        try:
            seen.append(repr(colour.call(uses.using(runtime=runtime).outcome, MARKER, Session(), what)))
        except BaseException as error:
            seen.append(f"{error!r} {error} {getattr(error, '__notes__', '')}")
    for act in ("resume", "compensate"):
        with pytest.raises(UsageError) as caught:
            colour.run(getattr(make_runtime().find("uses/cut"), act)())
        seen.append(str(caught.value))
    with pytest.raises(UsageError) as caught:
        colour.call(uses.using(runtime=make_runtime(), key="x").using(nothing=1), MARKER, Session(), "good")
    seen.append(str(caught.value))
    seen += [repr(run) + repr(run.steps) + repr(run.error) for run in make_runtime().runs()]
    seen += [repr(uses), repr(use), repr(use._self_spec), repr(PROVIDED), repr(sagadsl._core.scope.CURRENT.get())]
    seen += [record.getMessage() + repr(vars(record)) for record in caplog.records]
    assert {str(run.status) for run in make_runtime().runs()} == {
        "compensated", "completed", "open", "compensation_failed",
    }  # fmt: skip
    assert [text for text in seen if MARKER in text] == []
    files = [path for path in world.path.parent.iterdir() if path.is_file()]
    assert {"sagas.db", "sagas.db-wal", "sagas.db-lock"} <= {path.name for path in files}
    assert [path.name for path in files if MARKER.encode() in path.read_bytes()] == []


def test_a_live_argument_cannot_be_part_of_a_key():
    """Neither as a field nor for a function: identity is what is stored."""
    for key in ("{token}", lambda token: token):
        with pytest.raises(UsageError, match=r"\btoken\b.*there are: none|wants token"):

            @saga(key=key, live=("token",))
            def flow(token: str) -> None: ...


# -- arguments are the copy that was stored ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["plain", "keywords", "method", "unbound", "variadic", "live"])
def test_an_attempt_that_changes_its_arguments_does_not_hand_the_changes_on(colour, make_runtime, how):
    """From the second attempt on, and to the compensation, they are the copies that were stored; live ones are live."""
    seen, session = [], Session()

    def attempt(items, live=None):
        seen.append((list(items), live is session))
        items.append("changed")
        if len(seen) < 3:
            raise ConnectionError

    def release(items):
        seen.append((list(items), None))
        items.append("changed")
        if len(seen) < 6:
            raise ConnectionError

    options = {"compensate": Compensation(release, retries=3), "retries": 3}

    @colour.step(**options)
    def act(items: list[str], other: int = 1) -> None:
        attempt(items)

    @colour.step(**options)
    def lives(items: list[str], session: Live[Session]) -> None:
        attempt(items, session)

    @colour.step(compensate=Compensation(lambda args: release(args[0]), retries=3), retries=3)
    def various(*args: list[str], **kwargs: list[str]) -> None:
        assert kwargs == {"more": ["b"]}
        kwargs["more"].append("changed")
        attempt(args[0])

    class Owner:
        @colour.step(**options)
        def method(self, items: list[str]) -> None:
            attempt(items)

    @colour.saga(runtime=make_runtime())
    def flow():
        given = ["a"]
        yield {
            "plain": lambda: act(given, 2),
            "keywords": lambda: act(items=given),
            "method": lambda: Owner().method(given),
            "unbound": lambda: Owner.method(Owner(), given),
            "variadic": lambda: various(given, more=["b"]),
            "live": lambda: lives(given, session),
        }[how]()
        assert given == ["a", "changed"]
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        colour.call(flow)
    assert seen == [*[(["a"], how == "live")] * 3, *[(["a"], None)] * 3]


def test_a_result_that_a_compensation_changes_is_fresh_for_its_next_attempt(colour, make_runtime):
    """And the fault it is called for is the same."""
    seen = []

    def release(result, error):
        seen.append((list(result), error.name))
        result.append("changed")
        if len(seen) < 3:
            raise ConnectionError

    @colour.step(compensate=Compensation(release, retries=3))
    def act() -> list[str]:
        return ["a"]

    @colour.saga(runtime=make_runtime())
    def flow():
        yield act()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        colour.call(flow)
    assert seen == [(["a"], "ValueError")] * 3


def test_a_first_attempt_gets_the_very_objects(make_runtime):
    """A copy costs, and nothing has changed yet."""
    given, seen = ["a"], []

    @step(compensate=None)
    def act(items: list[str]) -> None:
        seen.append(items)

    @saga(runtime=make_runtime())
    def flow() -> None:
        act(given)

    flow()
    assert seen[0] is given


def test_a_step_with_a_key_is_entered_again_with_what_is_on_record(colour, make_runtime, world):
    """What compensates it gets the same: a call with other arguments does not change what was begun."""
    given = ["first"]

    @colour.step(compensate=lambda amount: world.add(f"-{amount}"), key="k")
    def pay(amount: str) -> None:
        world.add(amount)
        if sagadsl.current().attempt == 1:
            raise Cut

    @colour.saga(key="k", name="pays")
    def pays():
        yield pay(given[0])
        raise ValueError("no")

    with pytest.raises(Cut):
        colour.call(pays.using(runtime=make_runtime()))
    given[:] = ["second"]
    with pytest.raises(ValueError, match="no"):
        colour.call(pays.using(runtime=make_runtime()))
    assert world == ["first", "first", "-first"]


def test_a_store_in_memory_keeps_no_live_argument():
    """What it has of a run is what a file would have."""

    @step(compensate=None)
    def act(session: Live[Session]) -> None: ...

    @saga
    def flow(session: Live[Session]) -> None:
        act(session)

    runtime, session = Runtime(":memory:"), Session()
    seen = weakref.ref(session)
    flow.using(runtime=runtime)(session)
    del session
    gc.collect()
    assert seen() is None
    assert len(runtime.journal().entries(1)) == 4
