"""The run that a handle means: opened at first use, held, let go, and opened again where it was.

A handle knows its run itself: context variables are lost between the cells of a notebook. To look at a handle, or to
ask for its id, may open a run; only a step, a value or a compensation puts it on record. After a stop the run is let
go, for what this process thinks of it may not be what the file says; the next use opens it again by its id.
"""

from __future__ import annotations

import threading
import weakref
from enum import Enum, auto
from typing import Any

from sagadsl._core import threads
from sagadsl._core.definition import SagaSpec
from sagadsl._core.flow import take_over
from sagadsl._core.history import altered, recorded_files
from sagadsl._core.ownership import Tenure
from sagadsl._core.scope import Scope
from sagadsl._core.session import SESSION
from sagadsl._core.settings import Options
from sagadsl._core.values import Status
from sagadsl._dsl import running, unended
from sagadsl._dsl.outcomes import as_call
from sagadsl._dsl.running import Calling
from sagadsl.errors import Stop, UsageError


class Use(Enum):
    """What a handle is used as, which its first use decides for good."""

    UNDECIDED = auto()
    BLOCK = auto()
    BY_HAND = auto()


class Held:
    """The run of a handle: open from its first use until `let_go`; ``last`` remembers it afterwards."""

    def __init__(self, spec: SagaSpec, options: Options) -> None:
        self.spec, self.options = spec, options
        self.runtime = running.runtime_of(spec, options)
        self.calling = Calling(spec, options, self.runtime, _no_body, as_call, Tenure())
        self.use = Use.UNDECIDED
        self.scope: Scope | None = None  # while the handle has its run open, or stands in its record
        self.last: Scope | None = None  # the same, and afterwards too
        self.is_record = False  # it is completed: what is recorded comes back, and nothing is entered
        self.over = ""  # why nothing more is done in it
        self.guard = threading.RLock()
        self._when_lost: weakref.finalize[..., object] | None = None

    @property
    def another(self) -> str:
        """How to write what a further run takes."""
        return f"saga({self.spec.name!r}, ...)"

    @property
    def known_id(self) -> str | None:
        """The run's id, where it does not depend on what is in the store."""
        return self.options.run_of(self.spec.name) if self.last is None else self.last.run.id

    def found(self) -> Scope:
        """Return the scope of the run as the handle has it, or last had it; one that it never had is opened."""
        return self.last or self.opened()

    def opened(self) -> Scope:
        """Return the scope of the run, opened at first use."""
        with self.guard:
            return self.scope or self._open()

    def opened_forward(self) -> Scope:
        """Return the scope of the run to go on with it: the files that its steps made are what they were.

        Raises:
            JournalError: One is not, or the journal cannot be written.
            RunLostError: Somebody has taken the run meanwhile.
        """
        with self.guard:
            if self.scope is not None:
                return self.scope
            scope = self._open()
            try:
                wrong: BaseException | None = None if self.is_record else altered(scope, recorded_files(scope))
                if wrong is None:
                    scope.run.drive(take_over(scope))
            except Stop as stop:
                wrong = stop.reason
            except BaseException:
                self.let_go()
                raise
            if wrong is not None:
                self.let_go()
                raise wrong
            return scope

    def opened_by_hand(self) -> Scope:
        """Return the scope of the run to do something more in it by hand, in whatever order.

        Raises:
            UsageError: It is compensating.
            JournalError: As above.
        """
        scope = self.opened_forward()
        if scope.status is Status.COMPENSATING:
            msg = f"run {scope.run.id} is compensating: compensate() of {self.spec.name} goes on with that"
            raise UsageError(msg)
        scope.free()
        return scope

    def _open(self) -> Scope:
        """Open the run that is meant, or, where this handle had one, that one again."""
        options = self.options
        if self.last is not None:
            options = options.changed(id=self.last.run.id, steal=False)
        elif self.spec.program.startswith(SESSION):
            self._replace_earlier()
        self.calling = self.calling.changed(options=options, tenure=Tenure())  # the last one's may still be held
        opened = self.calling.open({})
        if isinstance(opened.ended, BaseException):
            raise opened.ended
        self.is_record = opened.scope is None
        scope = opened.scope or opened.record
        assert scope is not None  # noqa: S101  # it goes on, or is completed
        return self.have(scope)

    def have(self, scope: Scope) -> Scope:
        """Take a scope as the handle's; what an earlier one had bound of its calls is bound again."""
        if self.last is not None:
            scope.bind_as(self.last)
        threads.end(scope.run)  # by hand a run belongs to no thread
        self.scope = self.last = scope
        if not self.is_record:  # a handle that nobody has any more lets its run go, open as it is
            self._when_lost = unended.hold(self, scope.run)
        return scope

    def let_go(self, scope: Scope | None = None) -> None:
        """Have the run let go, as every run is; a further use opens it again. That of a *scope* may be so already.

        A block inside another body never owned it, nor does a handle that stands in the record of one.
        """
        with self.guard:
            if scope is not None and self.scope is not scope:
                return
            if self._when_lost is not None and self.scope is not None:
                unended.forget(self.scope.run)
                self.runtime.leave(self.scope)
                self._when_lost.detach()
            self.scope = self._when_lost = None

    def _replace_earlier(self) -> None:
        """Let the newer handle have the run: in a session, where a cell is run again, the older one is left over."""
        options = self.options
        place = (threading.get_ident(), self.spec.program, self.spec.name, options.id, options.key)
        earlier = _in_session.get(place)
        if earlier is not None and earlier.scope is not None:
            earlier.let_go()
            earlier.over = "has a newer handle"
        _in_session[place] = self


_in_session: weakref.WeakValueDictionary[Any, Held] = weakref.WeakValueDictionary()


def _no_body() -> None:
    """Do nothing: a block's body stands where it is used."""
