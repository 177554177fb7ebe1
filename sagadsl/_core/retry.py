"""When a failed attempt is tried again: a pure policy. The loop that obeys it is ``flow.attempt``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from math import inf, isfinite
from typing import Any

from attrs import field, frozen

from sagadsl.errors import UsageError

Matcher = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
Wait = float | timedelta | Callable[[int], float]

FIRST_WAIT = 0.1
LONGEST_WAIT = 60.0


def _retries(_: Any, __: Any, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        msg = f"retries must be a whole number of extra attempts, 0 or more, not {value!r}"
        raise UsageError(msg)


def _matcher(_: Any, attribute: Any, value: object) -> None:
    classes = value if isinstance(value, tuple) else (value,)
    if not all(callable(c) for c in classes):
        msg = f"Retry({attribute.name}=...) takes exception classes or a predicate over the exception, not {value!r}"
        raise UsageError(msg)


def _wait(_: Any, __: Any, value: object) -> None:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if value is None or callable(value):
        return
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < inf:
        msg = f"Retry(wait=...) takes seconds, a timedelta, or a function attempt -> seconds, not {value!r}"
        raise UsageError(msg)


@frozen
class Retry:
    """Try a failed step again.

    *retries* counts extra attempts. *on* and *give_up_on* are exception classes or a predicate over the live
    exception. *wait* is seconds, a `timedelta`, or a function of the number of failed attempts so far (1, 2, …) that
    returns seconds; by default 0.1 s, doubling, jittered down by up to a half, at most 60 s.

    Raises:
        UsageError: An argument is of another kind, negative, or infinite.
    """

    retries: int = field(validator=_retries)
    on: Matcher = field(default=Exception, kw_only=True, validator=_matcher)
    give_up_on: Matcher = field(default=(), kw_only=True, validator=_matcher)
    wait: Wait | None = field(default=None, kw_only=True, validator=_wait)

    def delay(self, failures: int, error: BaseException, jitter: float) -> float | None:
        """Return the seconds to wait after the *failures*-th failed attempt, or `None`: give up.

        *jitter* is a random number in [0, 1): the caller's, so that the policy has no randomness of its own.

        Raises:
            UsageError: The function of *wait* gives no finite number.
        """
        if failures > self.retries or not _matches(self.on, error) or _matches(self.give_up_on, error):
            return None
        if self.wait is None:
            return min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(failures - 1, 40)) * (1 - jitter / 2)
        if isinstance(self.wait, timedelta):
            return self.wait.total_seconds()
        if not callable(self.wait):
            return float(self.wait)
        seconds = float(self.wait(failures))
        if not isfinite(seconds):
            msg = f"Retry(wait=...): the function gave {seconds} after attempt {failures}, which nobody can wait"
            raise UsageError(msg)
        return max(0.0, seconds)


def _matches(matcher: Matcher, error: BaseException) -> bool:
    if isinstance(matcher, type | tuple):
        return isinstance(error, matcher)
    return bool(matcher(error))


NEVER = Retry(0)


def as_retry(value: int | Retry) -> Retry:
    """Accept a number of extra attempts where a `Retry` is meant."""
    if isinstance(value, Retry):
        return value
    return Retry(value) if value or type(value) is not int else NEVER
