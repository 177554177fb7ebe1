"""A run that is in the store, as users hold it: what the journal says of it, and what can be done with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from attrs import field, fields, frozen

from sagadsl._core.registry import registry
from sagadsl._core.runtime.deciding import Request
from sagadsl._core.shown import ShownRun
from sagadsl._core.values.outlines import Outline
from sagadsl._core.values.seen import RunInfo
from sagadsl.errors import UsageError


@frozen(kw_only=True, eq=False, repr=False)  # equal where the facts of a `RunInfo` are
class Run(ShownRun):
    """A run as the journal has it when this object is made, and what can be done with it.

    One that has ended and comes from a list reads what the list does not show when it is asked for.
    """

    _runtime: Any = field(repr=False, default=None)
    _journal: Any = field(repr=False, default=None)
    _module: str = field(repr=False, default="")
    _row: Any = field(repr=False, default=None)
    _outline: Outline | None = field(repr=False, default=None)

    @classmethod
    def outlined(cls, facts: dict[str, Any]) -> Run:
        """Make a run that knows these facts, and reads the others when they are asked for."""
        run = object.__new__(cls)
        put = object.__setattr__.__get__(run)  # the class is frozen; bound once, it takes half the time
        for name, value in facts.items():
            put(name, value)
        return run

    def __copy__(self) -> Run:
        return self

    def __deepcopy__(self, memo: Any) -> Run:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Give another process what is known, and the name of the store, which it opens when it is asked for more."""
        facts = {each.name: getattr(self, each.name) for each in fields(RunInfo)}
        return type(self._runtime).received, (facts | {"module": self._module}, self._journal.name)

    if not TYPE_CHECKING:  # pragma: no branch  # they would find every name

        def __getattr__(self, name: str) -> Any:
            """Read what is left out, as it was when the run was listed."""
            if name not in RUN_FIELDS:
                msg = f"{type(self).__name__!r} object has no attribute {name!r}"
                raise AttributeError(msg)
            whole = self._runtime.at(self._journal).as_listed(self._row, self._outline.seq)
            for each in RUN_FIELDS:
                try:
                    object.__getattribute__(self, each)
                except AttributeError:
                    object.__setattr__(self, each, getattr(whole, each))
            return getattr(self, name)

    @property
    def steps_total(self) -> int:
        """How many calls of steps it has begun, those of its child sagas too."""
        return self._outline.begun if self._outline is not None else super().steps_total

    @property
    def steps_done(self) -> int:
        """How many of them are done, and not compensated."""
        return self._outline.done if self._outline is not None else super().steps_done

    def resume(self) -> Any:
        """Go on with the run; return the saga's value, or an awaitable of it if the saga is async.

        Raises:
            RunConflictError: It is compensated: there is nothing to go on with.
            UsageError: The program has not imported the saga, or does not provide a live argument of it.
        """
        __tracebackhide__ = True
        return self._saga(needed=True).reopen(self.id, None, self._runtime.at(self._journal))

    def compensate(
        self,
        *,
        to: str | None = None,
        accept: Iterable[str] = (),
        skip: str | None = None,
        why: str = "",
        by: str = "",
        dry_run: bool = False,
    ) -> Any:
        """Compensate what the run owes, or carry on doing so; return the run as it then is, or an awaitable of it.

        A completed run is compensated later in the same way. Once more, it changes nothing. Where the run's saga cannot
        be run here, the functions are found by their names at the top of imported modules, never in the standard
        library's; one that is missing stops it before anything is done.

        Args:
            to: A step, by its key: only what came after it is compensated, and the run is left paused there. Resumed,
                it calls what came after once more, under keys of their own (``charge#2``).
            accept: Steps that will stand: those that nothing can undo, of a run that is completed or goes back to a
                step, and those whose time to be compensated is over.
            skip: A step whose compensation failed, and that is let be.
            why: The reason, for whoever looks at the run later: it has to be said.
            by: Who says so; by default whoever is logged in.
            dry_run: Do nothing; return a `DryRun`, which says what would be done.

        Raises:
            CompensationError: A compensation failed; calling this again carries on there.
            RunConflictError: There is no such step, or no way back, or something would stand that is not accepted.
                Nothing was done.
        """
        __tracebackhide__ = True
        request = Request(to=to, accept=accept, skip=skip, why=why, by=by)
        runtime = self._runtime.at(self._journal)
        if dry_run:
            return runtime.rehearse(self.id, request)
        saga = self._saga(needed=False)
        if saga is not None:
            return saga.reopen(self.id, request, runtime)
        return runtime.compensate_without_body(self.id, request)

    def cancel(self) -> Run:
        """Ask that the run be cancelled; return it as it then is.

        Nothing waits: its owner, in whatever process, enters no further step and compensates what was done, as does
        whoever opens the run next if nobody has it. Its call raises `RunCancelledError`. The request outlives both
        processes. A run that compensates anyway is left alone.

        Raises:
            RunConflictError: It is completed, has passed its pivot, or waits for a person to decide.
        """
        cancelled: Run = self._runtime.at(self._journal).cancel(self.id)
        return cancelled

    def refresh(self) -> Run:
        """Return the run as the journal has it now: this one, even if its key has been done afresh since.

        Raises:
            RunConflictError: It was pruned.
        """
        found: Run = self._runtime.at(self._journal).refreshed(self.id, self.generation)
        return found

    def _saga(self, *, needed: bool) -> Any:
        saga = registry.sagas.get((self._module, self.saga))
        if saga is None and needed and self.is_block:
            msg = f"run {self.id} is a block: its body stands in {self.program}, so run that again and it goes on"
            raise UsageError(msg)
        if saga is None and needed:
            msg = (
                f"run {self.id}: this program has no saga named {self.saga!r} in a module {self._module!r}; import "
                "that module, or go on with the saga that it has become: SAGA.resume(id), SAGA.compensate(id), or "
                "--target FILE.py:SAGA on the command line"
            )
            raise UsageError(msg)
        return saga


RUN_FIELDS: Final = tuple(each.name for each in fields(Run))
