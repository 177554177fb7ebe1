"""Every exception a caller may catch, sorted by who must act, and what it has a program end with.

Data stand in attributes, the sentence in ``__str__``: what happened, to which run and step, and what to do next.
All of them survive ``pickle`` and ``copy``. ``Stop`` at the end is not among them: it is how a run that must not go
on leaves the user's body.
"""

from __future__ import annotations

import os
from enum import IntEnum
from itertools import zip_longest
from typing import Any, ClassVar, Self, dataclass_transform

from attrs import field, frozen

from sagadsl._core.phrases import command, to_run_again, what_became
from sagadsl._core.structs import defaults_of, filled, listed


class ExitCode(IntEnum):
    """What a script, or the command line, ends with; *words* say what that means."""

    words: str

    DONE = 0, "done"
    UNEXPECTED = 1, "unexpected"
    USAGE = 2, "usage"
    COMPENSATED = 3, "failed and compensated"
    LOCKED = 4, "locked by another live process"
    STORE = 5, "store unreadable, damaged, newer or full"
    UNDECIDED = 6, "compensation failed, paused or waiting"
    DIFFERENT = 7, "journal and program differ"
    INTERRUPTED = 130, "interrupted"
    TERMINATED = 143, "terminated"

    def __new__(cls, code: int, words: str) -> Self:
        """Make a number that has words."""
        made = int.__new__(cls, code)
        made._value_, made.words = code, words
        return made

    __repr__ = int.__repr__


@frozen
class Fault:
    """An exception as data: what is stored of it, and what a compensation's ``error`` parameter gets.

    ``type`` reads ``module:qualname``; ``traceback`` is text, for people. ``args`` and ``attributes`` hold what could
    be stored of the exception, ``missing`` names the attributes that could not be. ``refused`` says that its class
    could not be made again without ``__init__``, so that `StepError` stands for it, live and on replay alike.
    """

    type: str
    message: str
    traceback: str = ""
    args: tuple[Any, ...] = ()
    attributes: dict[str, Any] = field(factory=dict)
    missing: tuple[str, ...] = ()
    cause: Fault | None = None
    dumped: Any = None
    refused: bool = False

    @property
    def name(self) -> str:
        """The class's own name, without its module."""
        return self.type.rpartition(":")[2].rpartition(".")[2]

    def __str__(self) -> str:
        """Give the exception as the last line of a traceback shows it."""
        return f"{self.name}: {self.message}" if self.message else self.name


@dataclass_transform()
class SagaError(Exception):
    """The root of everything this library raises on purpose.

    A subclass lists its data as annotations, with defaults; they are positional arguments, attributes and ``args``.
    *exit_code* is what a script or the command line ends with.
    """

    exit_code: ClassVar[int] = ExitCode.UNEXPECTED
    _fields: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._fields = (*cls._fields, *listed(cls))
        cls._defaults = defaults_of(cls, cls._fields)

    def __init__(self, *values: Any, **named: Any) -> None:
        vars(self).update(filled(type(self), self._fields, self._defaults, values, named))
        super().__init__(*(vars(self)[name] for name in self._fields))


class UsageError(SagaError):
    """The programmer must act, now: this can never work as written."""

    exit_code: ClassVar[int] = ExitCode.USAGE

    message: str

    def __str__(self) -> str:
        return self.message


class StepError(SagaError):
    """A step failed and its own exception cannot be raised: its class cannot be made again, or it was cut off.

    *fault* tells what it was.
    """

    step: str
    fault: Fault

    def __str__(self) -> str:
        told = f"step {self.step} failed: {self.fault}"
        if self.fault.type.startswith("builtins:"):
            return told
        register = f"`sagadsl.register({self.fault.name}, dump, load)` makes it come back as itself."
        if self.fault.refused:
            return f"{told}. The class {self.fault.type} cannot be made again from what the journal has; {register}"
        module, _, name = self.fault.type.partition(":")
        top = f"`import {module}` at the top of the program"
        if "<locals>" in name:
            top = f"the class at the top of {module}, not inside a function,"
        found = f"The class {self.fault.type} is not to be found: {top} has it come back as itself"
        return f"{told}. {found}. If that cannot be, {register}"


class StepTimeout(SagaError, TimeoutError):  # noqa: N818  # as TimeoutError's kin are called
    """An attempt of a step took longer than its *timeout* in seconds; whether its effect happened is not known."""

    step: str
    timeout: float

    def __str__(self) -> str:
        return f"step {self.step} took longer than {self.timeout:g} s; whether its effect happened is not known"


class NotStorableError(SagaError):
    """A value cannot be stored so that it comes back equal and of the same type.

    *what* is ``argument`` or ``result``, *type* the offending value's type, *path* where it stands (``$.items[3]``);
    *do* says what to do instead, where no form could be registered for it.
    """

    exit_code: ClassVar[int] = ExitCode.USAGE

    step: str
    what: str
    type: str
    path: str
    reason: str
    do: str = ""

    def __str__(self) -> str:
        cure = f"register it with sagadsl.register({self.type}, dump, load)"
        if self.do:
            cure = self.do
        elif self.what == "argument":
            cure += ", or annotate the parameter `Live[...]` if it is a connection, client or secret"
        else:
            cure = f"return plain data, or {cure}"
        return f"{self.step}: {self.what} at {self.path} of type {self.type} cannot be stored: {self.reason}; {cure}"


class RunConflictError(SagaError):
    """The caller must act: *run* exists and is not the run that this call asks for. *differing* names arguments."""

    exit_code: ClassVar[int] = ExitCode.USAGE

    run: str
    reason: str
    differing: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"run {self.run}: {self.reason}"


class CompensationError(SagaError):
    """A person must decide: a compensation failed, and what *pending* names still stands.

    Raised from the exception that made the run compensate. *fault* is the compensation's own failure, *store* names the
    journal.
    """

    exit_code: ClassVar[int] = ExitCode.UNDECIDED

    run: str
    step: str
    fault: Fault
    compensated: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    store: str = ""

    def __str__(self) -> str:
        became = what_became(self.compensated, pending=self.pending, failed=self.step, why=self.fault)
        return f"run {self.run}: {became}. Mend the cause, then: {command('compensate', self.run, self.store)}"


class SuspendedError(SagaError):
    """A person decides, or something is waited for: the run is *status* (paused or waiting) and can go on.

    With *forward_only* it is past its pivot and cannot be compensated. With *is_block* its body stands in a program,
    which has to be run again. *store* names the journal.
    """

    exit_code: ClassVar[int] = ExitCode.UNDECIDED

    run: str
    status: str
    reason: str
    forward_only: bool = False
    is_block: bool = False
    store: str = ""

    def __str__(self) -> str:
        back = "" if self.forward_only else f"   Compensate: {command('compensate', self.run, self.store)}"
        again = f"call it again, or {command('resume', self.run, self.store)}"
        on = to_run_again() if self.is_block else again
        return f"run {self.run} is {self.status}: {self.reason}. Go on: {on}{back}"


class RunCancelledError(SagaError):
    """Somebody (*by*: a process) asked that the run be cancelled: what it had done was compensated."""

    exit_code: ClassVar[int] = ExitCode.COMPENSATED

    run: str
    by: str = ""

    def __str__(self) -> str:
        by = f" by {self.by}" if self.by else ""
        again = "call it again; under its id or key, with using(rerun=True)"
        return f"run {self.run} was cancelled{by}, and no further step of it is entered. To do it after all: {again}"


NEAR = 5
"""How many calls before and after the first difference the text of a `ReplayError` shows."""


class ReplayError(SagaError):
    """The programmer must act: the code no longer does what the journal recorded.

    *recorded* and *called* are the step keys of the scope in order, the last of *called* being the one refused; the
    text has those near the first difference. What is refused was not entered, and nothing of it was written.
    """

    exit_code: ClassVar[int] = ExitCode.DIFFERENT

    run: str
    scope: str
    recorded: tuple[str, ...]
    called: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        place = f" in {self.scope}" if self.scope else ""
        pairs = [*zip_longest(self.recorded, self.called, fillvalue="-")]
        first = next((at for at, (left, right) in enumerate(pairs) if left != right), len(pairs))
        begin, end = max(0, first - NEAR), first + 1 + NEAR
        shown = pairs[begin:end]
        width = max(len("recorded"), *(len(left) for left, _ in [*shown, ("", "")])) + 2
        lines = [f"run {self.run}: the code and the journal differ{place}: {self.reason}", ""]
        lines.append(f"      {'recorded':{width}}this program now")
        lines += [f"      … {begin:,} before, which are alike"] if begin else []
        for at, (left, right) in enumerate(shown, begin):
            lines.append(f"  {'>>' if at == first else '  '}  {left:{width}}{right}")
        lines += [f"      … {len(pairs) - end:,} more"] if len(pairs) > end else []
        lines += [
            "",
            (
                "What is refused was not entered. This run goes on with the code and the data as they were when it "
                "began: put the recorded order back; a new `key=` would do again here what is done. For runs that "
                "begin from then on, give steps that come in no fixed order a `key=`, make what the body looks up a "
                "`read_only` step, and pass what differs from call to call as `Live`. "
                f"To give the run up: {command('compensate', self.run)}"
            ),
        ]
        return "\n".join(lines)


class RunLockedError(SagaError):
    """The operator must act, or wait: a live process (*host*, *pid*, *since*, ISO 8601) runs this run."""

    exit_code: ClassVar[int] = ExitCode.LOCKED

    run: str
    host: str = ""
    pid: int = 0
    since: str = ""

    def __str__(self) -> str:
        from socket import gethostname

        owner = f"process {self.pid} on {self.host} since {self.since}" if self.pid else ""
        if self.pid == os.getpid() and self.host == gethostname():
            return (
                f"run {self.run} is being run by this process ({owner}), in another thread or task, or in one that an "
                "interruption left behind: call again when that has ended, or take it over by force with "
                "using(steal=True)"
            )
        by = f" by {owner}" if owner else ""
        return f"run {self.run} is being run{by}; wait for it, or take it over by force with using(steal=True)"


class RunLostError(SagaError):
    """The operator must know: another process has *run*; this one stopped before doing anything more.

    It took the run over; or it is the *parent*, by its process id, from which this one was forked.
    """

    exit_code: ClassVar[int] = ExitCode.LOCKED

    run: str
    parent: int = 0

    def __str__(self) -> str:
        if self.parent:
            return (
                f"run {self.run} is that of process {self.parent}, from which this one was forked: it goes on there, "
                "and nothing of it was written here. What a child process does takes a run of its own"
            )
        return f"run {self.run} was taken over by another process; this one has stopped and wrote nothing more"


class JournalError(SagaError):
    """The operator must act: the journal *store* cannot be opened, read or written. No compensation is caused by it."""

    exit_code: ClassVar[int] = ExitCode.STORE

    store: str
    reason: str

    def __str__(self) -> str:
        return f"journal {self.store}: {self.reason}"


class Stop(BaseException):
    """Carry a run that must not go on out of the user's body; the fact itself is set on the run.

    A `BaseException`, so that ``except Exception`` in a body is harmless. Catch nothing of it: what leaves the saga is
    the reason, one of the errors above.
    """

    def __init__(self, reason: BaseException) -> None:
        super().__init__("this run must not go on; let this exception pass (catch Exception, never BaseException)")
        self.reason = reason
