"""Figures over many runs: counted by SQL, and the same as whoever counts the runs one by one."""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from test_documents import judge

import sagadsl
from sagadsl import Retry, Runtime, Stats, UsageError
from sagadsl.cli.program import run as cli
from sagadsl.report import stats_document, stats_text


@pytest.fixture
def fill(clock):
    """Give what fills a store: steps that take known times, fail now and then, and are compensated."""

    def undo(number, result=None):
        if number == 17:
            raise RuntimeError("stuck")

    @sagadsl.step(compensate=sagadsl.Compensation(undo, retries=0), retries=Retry(1, wait=1))
    def reserve(number: int) -> int | None:
        clock.sleep(number)
        if number % 3 == 0 and sagadsl.current().attempt == 1:
            msg = f"slow {number}"
            raise TimeoutError(msg)
        return None if number % 2 else number

    @sagadsl.step
    def charge(number: int) -> None:
        if number % 5 == 2:
            raise ValueError("declined\x1b[2J")

    @sagadsl.saga
    def child(number: int) -> None:
        reserve(number)

    @sagadsl.saga(key="{number}")
    def order(number: int) -> None:
        child(number)
        charge(number)

    def fill(runtime):
        for number in range(1, 31):
            order.using(runtime=runtime).outcome(number)
        with pytest.raises(KeyboardInterrupt):
            sagadsl.saga(name="cut", runtime=runtime)(cut_off)()

    return fill


@sagadsl.step
def hang() -> None:
    """Be interrupted."""
    raise KeyboardInterrupt


def cut_off() -> None:
    """Be the body of a run that is interrupted."""
    hang()


def rank(times, part):
    """Return a percentile, by its nearest rank."""
    return round(sorted(times)[math.ceil(part * len(times)) - 1], 3) if times else None


@pytest.fixture(params=["file", "memory"])
def filled(request, fill, make_runtime):
    """Give a runtime with runs, on a file or in memory."""
    runtime = make_runtime(**({} if request.param == "file" else {"store": ":memory:"}))
    fill(runtime)
    return runtime


def test_figures_are_what_counting_the_runs_gives(filled):
    """By status, by step, and by what was raised, retried or not."""
    runs = filled.runs()
    stats = filled.stats()
    assert stats.runs == Counter(str(run.status) for run in runs)
    assert (stats.runs["compensation_failed"], stats.runs["open"]) == (1, 1)
    calls = [step for run in runs for step in run.steps if not step.saga]
    assert stats.attempts == sum(step.attempts for step in calls)
    assert {each.name for each in stats.steps} == {"reserve", "charge", "hang"}
    for each in stats.steps:
        mine = [step for step in calls if step.name == each.name]
        times = [s.seconds for s in mine if s.seconds is not None and s.ended and not s.error]
        assert (each.calls, each.attempts) == (len(mine), sum(step.attempts for step in mine))
        assert each.failed == sum(step.error is not None for step in mine)
        assert each.compensated == sum(step.status == "compensated" for step in mine)
        assert (each.p50, each.p95) == pytest.approx((rank(times, 0.5), rank(times, 0.95)), abs=0.002)
    raised = Counter(
        (s.name, f.type) for s in calls for f in (*s.attempt_errors, s.error, s.compensation_error) if f is not None
    )
    assert {(fault.step, fault.type): fault.count for fault in stats.faults} == raised
    assert [fault.count for fault in stats.faults] == sorted(raised.values(), reverse=True)
    assert next(fault.message for fault in stats.faults if fault.type.endswith("TimeoutError")) == "slow 30"


def test_rates_are_of_the_runs_that_have_ended(filled):
    """24 of 30 are completed; the one that was cut off is not among them."""
    stats = filled.stats()
    assert (stats.total, stats.ended) == (31, 30)
    assert (stats.success_rate, stats.compensation_rate) == (24 / 30, 6 / 30)
    assert (Stats().success_rate, Stats().compensation_rate, Stats().attempts) == (None, None, 0)


def test_figures_are_of_one_saga_or_since_a_time(filled):
    """A run counts by when it started."""
    assert filled.stats(saga="cut").runs == {"open": 1}
    assert [step.name for step in filled.stats(saga="cut").steps] == ["hang"]
    middle = filled.find("order/21").started
    since = filled.stats(saga="order", since=middle.astimezone().replace(microsecond=0))
    assert since.total == 10
    assert filled.stats(since=middle + timedelta(days=1)) == Stats(since=middle + timedelta(days=1))
    with pytest.raises(UsageError, match=r"stats\(since=...\) takes a time with a time zone"):
        filled.stats(since=datetime(2026, 1, 1))  # noqa: DTZ001  # that is what is wrong


def test_figures_say_themselves_on_a_line(filled):
    """Whoever asks in a shell sees what is to be seen."""
    told = "24 completed, 5 compensated, 1 compensation failed, 1 open, compensation rate 20.0%"
    assert repr(filled.stats()) == f"<Stats of 31 runs: {told}>"
    assert repr(Stats()) == "<Stats of 0 runs: none>"


def test_figures_are_read_by_people_and_by_programs(filled):
    """As text, without control characters, and as a document of the schema."""
    stats = filled.stats(since=datetime(2020, 1, 1, tzinfo=UTC))
    text = stats_text(stats)
    assert "\x1b" not in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[:7] == ["runs 31", "completed 24", "compensated 5", "compensation failed 1", "open 1",
                         "success rate 80.0%", "compensation rate 20.0%"]  # fmt: skip
    assert "charge ValueError 6 declined�[2J" in lines
    assert stats_text(Stats()).splitlines()[-2:] == ["compensation rate  none has ended", "attempts           0"]
    document = json.loads(json.dumps(stats_document(stats, "/here/sagadsl.db")))
    judge("stats_document").validate(document)
    judge("stats_document").validate(stats_document(Stats(), ""))
    assert not judge("stats_document").is_valid(document | {"runs": {"done": 1}})


def test_a_rate_that_is_too_high_is_an_exit_code(fill, make_runtime, tmp_path, capsys):
    """For cron and alerts: 3, as for a run that failed and was compensated; at the limit, and without runs, it is 0."""
    fill(make_runtime())
    store = str(tmp_path / "sagas.db")

    def stats(*arguments):
        return cli(["stats", "--db", store, *arguments]), capsys.readouterr()

    code, told = stats("--max-compensation-rate", "0.1")
    assert (code, told.err) == (3, "the compensation rate is 20.0%, more than 10.0%\n")
    assert "compensation rate    20.0%" in told.out
    assert stats("--max-compensation-rate", "0.2")[0] == 0
    assert stats("--max-compensation-rate", "0", "--saga", "cut")[0] == 0
    assert stats("--max-compensation-rate", "2")[0] == 2
    code, told = stats("--json", "--max-compensation-rate", "0.1", "--since", "3650d")
    document = json.loads(told.out)
    judge("stats_document").validate(document)
    assert (code, document["compensation_rate"], document["store"]) == (3, 0.2, store)


def test_the_process_has_figures(tmp_path, monkeypatch):
    """`sagadsl.stats()` is of the store of the process; one that is not there yet has none."""
    monkeypatch.setattr("sagadsl._core.runtime.default_runtime._store", tmp_path / "none.db")
    assert sagadsl.stats() == Stats()
    assert Runtime(tmp_path / "none.db").stats().runs == {}
