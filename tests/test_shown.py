"""Runs, their lists and stacks, sagas and blocks show themselves: in a notebook, in a report, in a graph."""

import json
import re

import pytest
from test_html import Reader

from sagadsl import IRREVERSIBLE, Compensation, Retry, RunInfo, Status, UsageError, parallel, saga, step
from sagadsl.report import stack_text


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
