"""Runs, their lists and stacks, sagas and blocks show themselves: in a notebook, in a report, in a graph."""

import contextlib
import json
import re

import pytest
from test_documents import judge
from test_html import Reader

from sagadsl import (
    IRREVERSIBLE,
    PIVOT,
    Compensation,
    Landed,
    Retry,
    RunInfo,
    Status,
    StepTimeout,
    SuspendedError,
    UsageError,
    current,
    parallel,
    saga,
    step,
)
from sagadsl.report import run_html, stack_text


def test_a_run_its_list_and_its_stack_show_themselves_in_notebooks(runtime):
    """Each in both forms; the list and the stack are still a list and a tuple."""

    @step(compensate=print)
    def flight(city):
        return f"flight to {city}"

    @step(compensate=None)
    def hotel(city):
        raise OSError(city)

    @saga(runtime=runtime, on_failure="pause")
    def trip(city):
        flight(city)
        hotel(city)

    run = trip.outcome("Rome").run
    both = run._repr_mimebundle_(include=None, exclude=None)
    assert both.keys() == {"text/plain", "text/html"}
    assert both["text/plain"].splitlines()[0].endswith("= paused")
    assert f"sagadsl resume {run.id} --db {runtime.journal().name}" in Reader(both["text/html"]).text
    listed = runtime.runs()
    assert isinstance(listed, list)
    assert "OSError: Rome" in Reader(listed._repr_mimebundle_()["text/html"]).text
    assert "OSError: Rome" in listed._repr_mimebundle_()["text/plain"]
    assert isinstance(run.stack, tuple)
    assert run.stack._repr_mimebundle_()["text/plain"] == "1  print  for flight" == stack_text(run.stack)
    assert "1 print for flight" in Reader(run.stack._repr_mimebundle_()["text/html"]).text
    assert runtime.runs(status="waiting")._repr_mimebundle_()["text/plain"] == "no runs"
    assert isinstance(run, RunInfo)
    assert "hotel" in run.graph().mermaid()


def test_a_run_tells_each_attempt_and_when_it_was_compensated(make_runtime):
    """What those failed with that were tried again; when each compensation began and ended; what nothing can undo."""
    left = ["first", "second"]

    def undo(result=None):
        if left:
            raise OSError(left.pop())

    @step(compensate=Compensation(undo, retries=Retry(3, wait=2)), retries=Retry(2, wait=1))
    def flight():
        if left:
            raise TimeoutError(left.pop(0))

    @step(compensate=IRREVERSIBLE)
    def mail():
        pass

    @saga(runtime=make_runtime())
    def trip():
        parallel(flight, mail)
        left.append("third")
        raise ValueError

    trip.outcome()
    (run,) = make_runtime().runs()
    steps = {found.name: found for found in run.steps}
    assert [str(fault) for fault in steps["flight"].attempt_errors] == ["TimeoutError: first", "TimeoutError: second"]
    begun, over = steps["flight"].compensation_started, steps["flight"].compensation_ended
    assert steps["flight"].ended < begun
    assert 2 <= (over - begun).total_seconds() < 2.1
    assert [name for name, found in steps.items() if found.branch] == ["parallel", "1", "2"]
    assert [name for name, found in steps.items() if found.standing] == ["mail"]
    assert steps["mail"].attempt_errors == ()
    assert steps["mail"].compensation_started is steps["mail"].compensation_ended is None
    told = run.report()
    assert re.search(r"attempt 2 +failed +TimeoutError: second", told)
    assert "still standing\n    parallel/2/mail  it happened, and nothing can undo it" in told


def test_the_order_of_compensations_is_that_of_the_journal_whatever_the_clock_says(make_runtime, clock):
    """A clock that is put back between them turns nothing around."""

    def back(item):
        clock.microseconds -= 60_000_000

    @step(compensate=back)
    def take(item):
        pass

    @saga(runtime=make_runtime())
    def trip():
        for item in "abc":
            take(item)
        raise ValueError

    run = trip.outcome().run
    assert run.compensations == ("take#3", "take#2", "take")
    assert re.findall(r"done  for (\S+);", run.report()) == ["take#3", "take#2", "take"]


def test_a_compensation_that_failed_has_its_times_too(make_runtime):
    """From its first attempt to when it was given up; skipped by somebody, its step still stands."""

    def undo(result=None):
        raise OSError

    @step(compensate=Compensation(undo, retries=Retry(1, wait=3)))
    def flight():
        pass

    @saga(runtime=make_runtime())
    def trip():
        flight()
        raise ValueError

    run = trip.outcome().run
    (stuck,) = run.steps
    assert 3 <= (stuck.compensation_ended - stuck.compensation_started).total_seconds() < 3.1
    assert "still standing" not in run.report()
    after = run.compensate(skip="flight", why="by hand")
    assert "still standing\n    flight  its compensation was skipped by" in after.report()


def test_a_report_comes_in_four_formats(runtime):
    """Each of them a text; another is refused by name."""

    @saga(runtime=runtime)
    def trip():
        saga("inner")

    trip()
    (run,) = runtime.runs()
    assert run.report().splitlines()[0] == f"{run.id}  + completed"
    assert run.report("text") == run.report()
    assert run.report(format="html").startswith("<!doctype html>")
    assert run.report(format="markdown").startswith("## ✓ <code>")
    assert json.loads(run.report(format="json"))["run"]["id"] == run.id
    with pytest.raises(UsageError, match="takes one of text, html, markdown, json"):
        run.report(format="pdf")


def test_a_run_by_hand_shows_itself_and_is_not_begun_by_that(runtime):
    """Before its first step it is its name; then the run as it stands."""
    by_hand = saga("explore", runtime=runtime)
    assert by_hand._repr_mimebundle_() == {"text/plain": "<saga 'explore' not begun>"}
    assert runtime.runs() == []

    def act():
        pass

    by_hand.step(act)()
    shown = by_hand._repr_mimebundle_()["text/plain"]
    assert "> open" in shown.splitlines()[0]
    assert "act" in shown
    by_hand.complete()
    assert "+ completed" in by_hand._repr_mimebundle_()["text/plain"].splitlines()[0]
    assert by_hand.info.status is Status.COMPLETED


TRIED = ["failed", "uncertain", "entered", "failed", "failed"]
"""How the attempts end that are tried again."""


@pytest.fixture
def tried(make_runtime, clock):
    """Give a run whose step was tried until it was done; attempt N took N seconds, and much time went by between."""

    @step(compensate=print, retries=Retry(1, wait=100))
    def pay():
        number = current().attempt
        clock.sleep(number)
        if number == 3:
            raise KeyboardInterrupt
        if number < 6:
            raise StepTimeout("pay", 2) if number == 2 else OSError(f"attempt {number}")

    @saga(runtime=make_runtime(), key="k", on_failure="pause")
    def trip():
        pay()

    for ends in (SuspendedError, KeyboardInterrupt, SuspendedError, None):
        with contextlib.nullcontext() if ends is None else pytest.raises(ends):
            trip()
        clock.sleep(1000)
    return make_runtime().find("trip/k")


def test_each_attempt_is_told_by_its_number_however_it_ended(tried):
    """Failed and retried, timed out, cut off, given up until a person went on: in every format."""
    (pay,) = tried.steps
    assert (pay.status, pay.attempts, pay.error) == ("done", 6, None)
    assert [(each.number, each.status) for each in pay.tried] == [*enumerate(TRIED, 1)]
    told = [str(error) for error in pay.attempt_errors]
    assert [text.partition(": ")[2][:9] for text in told] == ["attempt 1", "step pay ", "attempt 4", "attempt 5"]
    shown = ["attempt 1 failed", "attempt 2 uncertain", "attempt 3 cut off", "attempt 4 failed", "attempt 5 failed"]
    text = " ".join(tried.report().split())
    html = Reader(run_html(tried)).text.replace(": ", " ")
    markdown = re.sub(r"[\s|]+", " ", tried.report("markdown"))
    for form in (text, html, markdown):
        places = [form.index(each) for each in shown]
        assert places == sorted(places)
    document = json.loads(tried.report("json"))
    judge("run_document").validate(document)
    (step_told,) = document["run"]["steps"]
    assert [(each["number"], each["status"]) for each in step_told["tried"]] == [*enumerate(TRIED, 1)]
    assert [each["started"] is not None for each in step_told["tried"]] == [True] * 5
    assert step_told["tried"][2]["error"] is step_told["tried"][2]["ended"] is None
    assert step_told["tried"][4]["error"] == {"type": "builtins:OSError", "message": "attempt 5"}


def test_a_step_takes_what_its_attempts_take(tried, make_runtime):
    """Neither waits, nor pauses, nor the time in which a killed program was gone; nor what was cut off."""
    (pay,) = tried.steps
    assert pay.seconds == pytest.approx(1 + 2 + 4 + 5 + 6, abs=0.01)
    assert (pay.ended - pay.started).total_seconds() > 3000
    assert "done 18.0 s; 6 attempts" in " ".join(tried.report().split())
    (figures,) = make_runtime().stats().steps
    assert (figures.p50, figures.p95) == (18, 18)


def test_a_step_whose_end_another_process_has_recorded_took_nobody_knows(make_runtime, clock):
    """The probe of a step that was cut off says that it is done; a step that only looks has no intent."""

    @step(compensate=None, probe=lambda: Landed(7))
    def pay() -> int:
        raise KeyboardInterrupt

    @step(read_only=True)
    def look():
        clock.sleep(5)

    @saga(runtime=make_runtime(), key="k")
    def trip():
        look()
        pay()

    with pytest.raises(KeyboardInterrupt):
        trip()
    clock.sleep(1000)
    trip()
    run = make_runtime().find("trip/k")
    assert [(each.name, each.status, each.seconds) for each in run.steps] == [
        ("look", "done", None),
        ("pay", "done", None),
    ]
    assert [line.split()[1:] for line in run.report().split("\n\n")[1].splitlines()] == [
        ["+", "look", "done"],
        ["+", "pay", "done", "=", "7"],
    ]
    assert [(each.p50, each.p95) for each in make_runtime().stats().steps] == [(None, None)] * 2


def test_past_its_pivot_a_run_owes_no_compensation(make_runtime):
    """Nothing is listed that nobody may call: in no format, and not in its stack."""

    @step(compensate=print)
    def reserve():
        pass

    @step(compensate=PIVOT)
    def ship():
        pass

    @step(compensate=None, retries=Retry(1, wait=0))
    def label():
        raise OSError

    @saga(runtime=make_runtime(), key="k")
    def sell():
        reserve()
        ship()
        label()

    run = sell.outcome().run
    assert (run.status, run.pivot, run.stack) == ("paused", "ship", ())
    assert "To compensate" not in run.report("markdown")
    told = run.report().split("\n\n")
    assert [each.strip().splitlines()[0] for each in told[2:]] == [
        "still standing",
        "what now: a person mends what it failed with; past ship it only goes forward",
    ]
