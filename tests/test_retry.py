"""The policy of retries is pure: failures, error and chance in, seconds or nothing out."""

import math
from datetime import timedelta

import pytest

from sagadsl._core.retry import NEVER, Retry, as_retry
from sagadsl.errors import UsageError


def delays(retry, error=None, jitter=0.0, count=5):
    return [retry.delay(failures, error or ValueError(), jitter) for failures in range(1, count + 1)]


def test_the_wait_doubles_from_a_tenth_of_a_second_up_to_a_minute():
    """Attempts that never end wait a minute each, however many they are."""
    assert delays(Retry(3)) == [0.1, 0.2, 0.4, None, None]
    assert Retry(5000).delay(5000, ValueError(), 0.0) == 60.0


def test_jitter_shortens_the_wait_by_up_to_a_half():
    """Many that failed together do not come back together."""
    assert delays(Retry(2), jitter=0.5, count=2) == [0.1 * 0.75, 0.2 * 0.75]


@pytest.mark.parametrize(
    ("wait", "expected"),
    [(2, 2.0), (0, 0.0), (timedelta(seconds=1.5), 1.5), (lambda failures: failures * 3, 3.0), (lambda _: -1, 0.0)],
)
def test_a_wait_is_seconds_a_timedelta_or_a_function(wait, expected):
    """A function is told how many attempts have failed; its seconds are not negative."""
    assert Retry(1, wait=wait).delay(1, ValueError(), 0.9) == expected


def test_only_what_is_meant_is_tried_again():
    """Classes, several of them, or a predicate; giving up goes first."""
    assert Retry(1, on=KeyError).delay(1, ValueError(), 0) is None
    assert Retry(1, on=(KeyError, ValueError)).delay(1, ValueError(), 0) == 0.1
    assert Retry(1, on=lambda error: error.args == (1,)).delay(1, ValueError(1), 0) == 0.1
    assert Retry(1, on=lambda error: error.args == (1,)).delay(1, ValueError(2), 0) is None
    assert Retry(1, give_up_on=KeyError).delay(1, KeyError(), 0) is None
    assert Retry(1, give_up_on=lambda error: True).delay(1, ValueError(), 0) is None


@pytest.mark.parametrize("retries", [-1, 1.5, True, "3", None])
def test_retries_are_a_whole_number(retries):
    """Anything else is a mistake on the decorator's line."""
    with pytest.raises(UsageError, match="0 or more, not"):
        Retry(retries)


@pytest.mark.parametrize("option", ["on", "give_up_on"])
def test_a_matcher_is_classes_or_a_predicate(option):
    """A name in quotes is neither."""
    with pytest.raises(UsageError, match=rf"Retry\({option}=...\) takes exception classes or a predicate"):
        Retry(1, **{option: (ValueError, "KeyError")})


@pytest.mark.parametrize("wait", [math.inf, -math.inf, math.nan])
def test_a_function_that_has_an_attempt_wait_for_ever_is_refused_when_it_says_so(wait):
    """The first wait may be one that can be recorded."""
    retry = Retry(3, wait=lambda failures: wait if failures > 1 else 0)
    assert retry.delay(1, ValueError(), 0) == 0
    with pytest.raises(UsageError, match=f"the function gave {wait} after attempt 2, which nobody can wait"):
        retry.delay(2, ValueError(), 0)


@pytest.mark.parametrize("wait", [-1, "1", True, math.nan, math.inf, timedelta(seconds=-1)])
def test_a_wait_is_not_negative_and_has_an_end(wait):
    """Nor is it anything but a time."""
    with pytest.raises(UsageError, match="takes seconds, a timedelta, or a function"):
        Retry(1, wait=wait)


def test_a_number_is_accepted_where_a_retry_is_meant():
    """Zero is never, and a wrong number is refused as everywhere."""
    retry = Retry(2)
    assert [as_retry(retry) is retry, as_retry(3), as_retry(0) is NEVER] == [True, Retry(3), True]
    for wrong in (False, None, -1):
        with pytest.raises(UsageError):
            as_retry(wrong)
