"""What the tests share: a world outside the library, a virtual clock, a runtime on a real file, both colours by one."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sagadsl
from sagadsl._dsl import unended

SHARED_MEMORY = "/dev/shm"  # noqa: S108  # SIGKILL loses nothing there either, and a sync costs nothing
ROOM = 2**31


def pytest_configure() -> None:
    """Have all that is temporary in memory, if there is some and nobody says where else (``TMPDIR``)."""
    there = Path(SHARED_MEMORY)
    if "TMPDIR" not in os.environ and there.is_dir() and shutil.disk_usage(there).free > ROOM:
        os.environ["TMPDIR"] = tempfile.tempdir = SHARED_MEMORY  # of child processes, and of this one


class World:
    """An append-only file: the judge of effects, which no journal can talk out of what happened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def add(self, effect: str) -> None:
        """Have an effect."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{effect}\n")

    @property
    def effects(self) -> list[str]:
        """Return all effects, in order."""
        return self.path.read_text(encoding="utf-8").split()

    def __eq__(self, other: object) -> bool:
        return self.effects == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.effects)


class Clock:
    """Virtual time: sleeping moves it, nothing waits."""

    def __init__(self) -> None:
        self.microseconds = 1_700_000_000_000_000
        self.slept: list[float] = []

    def now(self) -> int:
        self.microseconds += 1
        return self.microseconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.microseconds += int(seconds * 1_000_000)

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)
        await asyncio.sleep(0)


class Colour:
    """Write a saga once, as a generator that yields its step calls, and have it as ``def`` and as ``async def``."""

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async

    def __repr__(self) -> str:
        return "async" if self.is_async else "sync"

    def coloured(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a plain function in this colour."""
        if inspect.isgeneratorfunction(function):
            return self._body(function)
        if not self.is_async:
            return function

        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            return function(*args, **kwargs)

        return wrapper

    def _body(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def body(*args: Any, **kwargs: Any) -> Any:
            flow = function(*args, **kwargs)
            answer = None
            while True:
                try:
                    answer = flow.send(answer)
                except StopIteration as end:
                    return end.value

        @functools.wraps(function)
        async def abody(*args: Any, **kwargs: Any) -> Any:
            flow = function(*args, **kwargs)
            answer, error = None, None
            while True:
                try:
                    wanted = flow.throw(error) if error is not None else flow.send(answer)
                except StopIteration as end:
                    return end.value
                answer, error = None, None
                try:
                    answer = await wanted if inspect.isawaitable(wanted) else wanted
                except BaseException as raised:  # the body decides
                    error = raised

        chosen = abody if self.is_async else body
        del chosen.__wrapped__  # a generator to `inspect`, which a body is not
        chosen.__signature__ = inspect.signature(function)
        return chosen

    def step(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Decorate a step."""
        if function is None:
            return lambda f: self.step(f, **options)
        return sagadsl.step(**options)(self.coloured(function))

    def saga(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Decorate a saga."""
        if function is None:
            return lambda f: self.saga(f, **options)
        return sagadsl.saga(**options)(self.coloured(function))

    def run(self, value: Any) -> Any:
        """Return a value, awaited in the colour that awaits."""
        return asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a saga and wait for it."""
        if self.is_async:
            return asyncio.run(_called(function, args, kwargs))
        return function(*args, **kwargs)


async def _awaited(value: Any) -> Any:
    return await value


async def _called(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    value = function(*args, **kwargs)
    return await value if inspect.isawaitable(value) else value


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Give an append-only world."""
    return World(tmp_path / "world.txt")


@pytest.fixture
def clock() -> Clock:
    """Give virtual time."""
    return Clock()


@pytest.fixture
def make_runtime(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., sagadsl.Runtime]]:
    """Give a maker of runtimes on one file, with virtual time: a second one is what a restarted process has."""

    def make(**options: Any) -> sagadsl.Runtime:
        given = {"store": tmp_path / "sagas.db", "clock": clock.now, "sleep": clock.sleep, "asleep": clock.asleep}
        return sagadsl.Runtime(**given | {"jitter": lambda: 0.0} | options)

    yield make
    unended._unended.clear()  # what a test leaves open by hand is not to be told of when pytest ends


@pytest.fixture
def runtime(make_runtime: Callable[..., sagadsl.Runtime]) -> sagadsl.Runtime:
    """Give a runtime on a real file, with virtual time."""
    return make_runtime()


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Colour:
    """Give each colour in turn."""
    return Colour(is_async=request.param)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Give the socket's folder of a PostgreSQL server that lives as long as the tests."""
    from tests import databases

    with databases.server() as socket:
        yield socket
