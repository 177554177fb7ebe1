"""How a saga ended, as one of four values for ``match``: made for whoever asks by ``.outcome()``, and imported then."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from attrs import field, frozen

from sagadsl._core.values import Status
from sagadsl.errors import ExitCode

T = TypeVar("T", covariant=True)  # noqa: PLC0105  # short-lived, and clear


@frozen
class Completed(Generic[T]):
    """The saga's body returned *value*."""

    value: T
    run: Any = field(kw_only=True, repr=False)
    exit_code: int = field(default=ExitCode.DONE, init=False)


@frozen
class Compensated:
    """The saga failed with *error* and everything that could be compensated was; *standing* could not be.

    *skipped_steps* are those whose compensation failed and that a person decided to let be.
    """

    error: BaseException
    compensated_steps: tuple[str, ...] = ()
    standing: tuple[str, ...] = ()
    skipped_steps: tuple[str, ...] = ()
    run: Any = field(kw_only=True, repr=False)
    exit_code: int = field(default=ExitCode.COMPENSATED, init=False)


@frozen
class CompensationFailed:
    """The saga failed with *error*, and the compensation of *failed_at_step* failed with *compensation_error*."""

    error: BaseException
    compensation_error: BaseException
    failed_at_step: str
    compensated_steps: tuple[str, ...] = ()
    pending_steps: tuple[str, ...] = ()
    skipped_steps: tuple[str, ...] = ()
    run: Any = field(kw_only=True, repr=False)
    exit_code: int = field(default=ExitCode.UNDECIDED, init=False)


@frozen
class Suspended:
    """The run is paused or waiting, for the *reason* given, and can go on."""

    status: Status
    reason: str
    run: Any = field(kw_only=True, repr=False)
    exit_code: int = field(default=ExitCode.UNDECIDED, init=False)


Outcome = Completed[T] | Compensated | CompensationFailed | Suspended
