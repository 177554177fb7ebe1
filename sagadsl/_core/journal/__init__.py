"""Where entries are kept: the seam, and what a run writes with.

``sqlite`` keeps them in a file, ``memory`` in this process; both give the same answers to the same questions, which a
test holds against them. A store adds no meaning: what may follow what is ``state``'s affair.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final, Protocol

from sagadsl._core.structs import Struct
from sagadsl._core.values import Entry, Kind, RunRow


class Overtaken(Exception):  # noqa: N818  # a fact on its way to RunLostError, which knows the run
    """Another process has written the entry that this one was about to write."""


class Unread(Exception):  # noqa: N818  # a fact: its owner reads the letters first
    """A letter for this run has come that nobody has acted on; nothing was written."""


class Taken(Exception):  # noqa: N818  # a fact on its way to RunLockedError
    """Another process has just opened a run with this id."""


class Log:
    """What the owner of a run writes with: the run's number (0: not yet in the store) and its last ``seq``.

    *holder* is in whose name the run is held. *is_turned*: a letter has made the run compensate, so nothing of it
    begins any more, whoever was about to.
    """

    __slots__ = ("holder", "is_turned", "number", "seq")

    def __init__(self, number: int = 0, seq: int = 0, holder: object = None) -> None:
        self.number, self.seq = number, seq
        self.holder = object() if holder is None else holder
        self.is_turned = False


class Letter(Struct):
    """What somebody else tells a run, until an entry (*seq*) acts on it."""

    letter: int
    number: int
    at: int
    kind: str
    payload: str | None
    seq: int | None = None


BOUNDARIES: Final = frozenset({Kind.INTENT, Kind.COMPLETED})
"""What is written only while no letter is unread, as is whatever begins a call: there a run can be turned back."""
BEGINNINGS: Final = frozenset({Kind.INTENT, Kind.OPENED})
"""What is not written any more once it has been."""


class Journal(Protocol):
    """A store of runs. Methods raise `sagadsl.errors.JournalError` when it cannot be read or written."""

    name: str

    def append(self, log: Log, entry: Entry, full: bool) -> None:  # noqa: FBT001  # a keyword costs
        """Write one entry at the log's next place; *full* waits until it survives a loss of power.

        Raises:
            Overtaken: That place is taken.
            Unread: It is a boundary, and there is a letter; or it is a beginning, and the run was turned back.
        """

    def commit(
        self,
        log: Log,
        entries: Iterable[Entry],
        *,
        full: bool,
        row: RunRow | None = None,
        finished: bool | None = None,
        stolen: bool = False,
        untold: bool | None = None,
        outline: str | None = None,
        read: Iterable[Letter] = (),
    ) -> None:
        """Write several entries at once, after opening the run of *row* and marking the run finished or not, or stolen.

        It is marked as one of whose end somebody is yet to be told, or not. The *outline* of a run that has finished is
        kept until it goes on. The last entry acts on the letters *read*.

        A run that is opened is held (see `hold`) before anybody can see it.

        Raises:
            Overtaken: The log's next place is taken.
            Taken: A run of *row*'s id and generation exists.
            Unread: One of them is a boundary, and there is a letter.
        """

    def entries(self, number: int) -> list[Entry]:
        """Return the entries of a run, in order."""

    def runs(
        self,
        *,
        id: str | None = None,
        prefix: str | None = None,
        saga: str | None = None,
        digest: str | None = None,
        unfinished: bool = False,
        untold: bool = False,
    ) -> list[RunRow]:
        """Return the runs that fit, oldest first."""

    def post(self, letter: Letter) -> bool:
        """Leave a letter for a run; tell whether it did, for one that has finished gets none."""

    def letters(self, number: int) -> list[Letter]:
        """Return the letters of a run, oldest first."""

    def hold(self, lock: int, holder: object = None) -> bool:
        """Become the one owner of a run by its row's *lock*, or learn that another thread or process is."""

    def release(self, lock: int, holder: object = None) -> None:
        """Stop being the owner of a run; with a *holder*, only if it is held in that one's name."""

    def is_held(self, lock: int) -> bool:
        """Tell whether any living thread or process owns a run."""

    def remove(self, numbers: Collection[int]) -> list[int]:
        """Remove those of these runs that have ended, with all that is on record of them; return which they were.

        Not those of whose end somebody is yet to be told.

        Their numbers are not given again.
        """

    def shrink(self) -> None:
        """Give the room of what was removed back, in steps between which others can write."""

    def again(self) -> Journal:
        """Return the same store for another thread: with a connection of its own, if it has any."""

    def close(self) -> None:
        """Let go of the store."""


class Fenced:
    """A journal as a process sees it that has lost a run: what it would write is refused, all else is as ever.

    A lost owner collides once another has written. In a forked child its parent's runs are lost before.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        """Give what is not refused."""
        return getattr(self._journal, name)

    def append(self, *_: Any) -> None:
        """Refuse an entry."""
        raise Overtaken

    def commit(self, *_: Any, **__: Any) -> None:
        """Refuse several."""
        raise Overtaken

    def write_together(self, tickets: Iterable[Any]) -> None:
        """Refuse what somebody has collected."""
        for ticket in tickets:
            ticket.error, ticket.is_over = Overtaken(), True
