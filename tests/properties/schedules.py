"""Nothing happens by chance here: threads, or tasks, take turns, and a list of choices says whose turn it is.

Only one of them runs at a time, until it gives its turn away; who goes on is chosen among all who can. So a list of
numbers is a schedule, `explore` goes through every schedule that there is, and one that breaks a law can be played
again. Only what the standard library gives is stood in for: threads, their semaphores, the selector of an event loop.
"""

from __future__ import annotations

import asyncio
import functools
import random
import selectors
import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from attrs import define, field

from sagadsl._core.drive import Drivers

STUCK = 30
"""Seconds after which a participant whose turn never comes says so."""


class Death(BaseException):
    """The end of a process: from here on nobody in it gets anything done."""


@define
class Choices:
    """A schedule: the numbers *given*, then those of *rest*; *taken* says what was chosen, and among how many."""

    given: list[int] = field(factory=list)
    rest: Callable[[int], int] = lambda _: 0
    taken: list[tuple[int, int]] = field(factory=list)

    def choose(self, count: int) -> int:
        """Choose one of so many; where there is only one nothing is chosen."""
        if count == 1:
            return 0
        at = len(self.taken)
        chosen = self.given[at] if at < len(self.given) else self.rest(count)
        self.taken.append((chosen, count))
        return chosen


def explore() -> Iterator[Choices]:
    """Yield every schedule there is; each has to be played before the next is asked for."""
    given: list[int] | None = []
    while given is not None:
        choices = Choices(given)
        yield choices
        while choices.taken and choices.taken[-1][0] + 1 == choices.taken[-1][1]:
            choices.taken.pop()
        *before, last = [chosen for chosen, _ in choices.taken] or [None]
        given = None if last is None else [*before, last + 1]


def drawn(seed: str) -> Choices:
    """Return a schedule that a seed decides."""
    return Choices(rest=random.Random(seed).randrange)  # noqa: S311  # a sample, no secret


@define
class Life:
    """A process, which dies before its effect number *dies_at*, and then at each effect of anybody in it."""

    dies_at: int = 0
    effects: int = 0

    def tick(self) -> None:
        """Let an effect pass, or die."""
        self.effects += 1
        if self.dies_at and self.effects >= self.dies_at:
            raise Death


class Mortal(Drivers):
    """The embedded drivers, whose every effect is one of a *life*."""

    def __init__(self, life: Life, asleep: Callable[[float], Any] = asyncio.sleep) -> None:
        super().__init__(asleep=asleep)
        for answers in (self._answers, self._async_answers):
            for kind, answer in answers.items():
                answers[kind] = functools.partial(self._answer, life, answer)

    @staticmethod
    def _answer(life: Life, answer: Callable[[Any], Any], effect: Any) -> Any:
        life.tick()
        return answer(effect)


# -- threads ----------------------------------------------------------------------------------------------------------


class Player:
    """A thread that takes turns: it goes on when it is its turn, and that can come when it is *ready*."""

    def __init__(self) -> None:
        self.turn, self.ready, self.is_eager = threading.Event(), lambda: True, True


class Threads:
    """The turns of threads; the one that makes this is the first. Who is eager goes on before anything is chosen."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.players = {threading.get_ident(): Player()}
        self.waiting: deque[Player] = deque()
        turns = self

        class Thread(threading.Thread):
            def start(self) -> None:
                self.player = Player()
                turns.waiting.append(self.player)
                super().start()

            def run(self) -> None:
                turns.players[threading.get_ident()] = self.player
                turns.await_turn(self.player)
                try:
                    super().run()
                finally:
                    del turns.players[threading.get_ident()]
                    turns.pass_on()

        class Semaphore:
            def __init__(self, value: int) -> None:
                self.value = value

            def acquire(self) -> None:
                turns.give(lambda: self.value > 0, is_eager=True)
                self.value -= 1

            def release(self) -> None:
                self.value += 1

        class Queue:
            def __init__(self) -> None:
                self.items: deque[Any] = deque()

            def put(self, item: Any) -> None:
                self.items.append(item)

            def get(self) -> Any:
                turns.give(lambda: bool(self.items), is_eager=True)
                return self.items.popleft()

        self.threading = SimpleNamespace(Thread=Thread, Semaphore=Semaphore, Lock=threading.Lock)
        self.Thread, self.Queue = Thread, Queue

    def give(self, ready: Callable[[], bool] = lambda: True, *, is_eager: bool = False) -> None:
        """Give the turn away, until this thread is ready and chosen."""
        player = self.players[threading.get_ident()]
        player.ready, player.is_eager = ready, is_eager
        self.waiting.append(player)
        self.pass_on()
        self.await_turn(player)

    def pass_on(self) -> None:
        """Let somebody else go on."""
        ready = [player for player in self.waiting if player.ready()]
        assert ready, "nobody can go on"
        eager = [player for player in ready if player.is_eager]
        chosen = eager[0] if eager else ready[self.choices.choose(len(ready))]
        self.waiting.remove(chosen)
        chosen.turn.set()

    @staticmethod
    def await_turn(player: Player) -> None:
        """Wait until it is this thread's turn."""
        assert player.turn.wait(STUCK), "its turn never came"
        player.turn.clear()


# -- tasks ------------------------------------------------------------------------------------------------------------


class Tasks(selectors.DefaultSelector):
    """The turns of tasks, as the selector of their loop: it is asked with no time to wait for while a task can run."""

    def __init__(self, choices: Choices) -> None:
        super().__init__()
        self.choices = choices
        self.waiting: list[asyncio.Future[None]] = []
        self.asleep: list[asyncio.Future[None]] = []

    async def give(self) -> None:
        """Give the turn away, until this task is chosen."""
        await self._in(self.waiting)

    async def sleep(self, seconds: float) -> None:
        """Let time pass, which it does when nobody has anything else to do."""
        await (self._in(self.asleep) if seconds else asyncio.sleep(0))

    @staticmethod
    async def _in(line: list[asyncio.Future[None]]) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(turn)
        await turn

    def select(self, timeout: float | None = None) -> list[Any]:
        """Let a task go on where none can otherwise."""
        if timeout != 0:
            for line in (self.waiting, self.asleep):
                line[:] = [turn for turn in line if not turn.done()]
            assert self.waiting or self.asleep, "nobody can go on"
            if self.waiting:
                self.waiting.pop(self.choices.choose(len(self.waiting))).set_result(None)
            else:
                self.asleep.pop(0).set_result(None)
        return super().select(0)
