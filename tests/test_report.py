"""What is shown of a run, in each status: the whole text, so that a change of it is seen."""

import functools
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from textwrap import dedent

import pytest
from attrs import evolve

from sagadsl import Cause, Compensated, Fault, RunInfo, Status, StepInfo, Suspended, UsageError, report
from sagadsl.report import (
    age,
    ending,
    printable,
    printable_lines,
    run_data,
    run_document,
    run_line,
    run_report,
    run_text,
    runs_text,
    short_id,
    short_ids,
)

START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
NOW = START + timedelta(minutes=2)
FULL = Fault("trip:FullyBooked", "no room left")


def at(seconds):
    return START + timedelta(seconds=seconds)


def flight(status="done", **more):
    facts = {"key": "flight", "result": "FL-1", "compensation": "cancel_flight", "started": START, "ended": at(0.12)}
    return StepInfo(name="flight", status=status, **facts | more)


def hotel(status="done", **more):
    facts = {"key": "hotel", "compensation": "cancel_hotel", "started": at(0.2), "ended": at(2.2)}
    return StepInfo(name="hotel", status=status, **facts | more)


def trip(status, *steps, **more):
    facts = {
        "id": "trip/7f3a01020304",
        "saga": "trip",
        "steps": steps,
        "arguments": {"city": "Lisbon", "nights": 3},
        "program": "/home/ana/trip.py",
        "owner": "process 41 on box",
        "started": START,
    }
    begun = (step.key for step in reversed(steps) if step.compensation_attempts or step.compensation_error)
    return RunInfo(status=status, **facts | {"compensations": tuple(begun)} | more)


CUT = hotel("entered", ended=None, uncertain=True)

RUNS = {
    "completed": (
        trip(Status.COMPLETED, flight(), hotel(result=7, attempts=3), result={"room": 7}, ended=at(3)),
        """\
        trip/7f3a01020304  + completed
          saga     trip(city='Lisbon', nights=3)
          program  /home/ana/trip.py
          started  2026-11-22 10:00:00 UTC, 2 minutes ago
          ended    2026-11-22 10:00:03 UTC, 1 minute ago
          result   {'room': 7}

          0:00.0  + flight  done  120 ms; = 'FL-1'
          0:00.2  + hotel   done  2.0 s; 3 attempts; = 7

          what now: nobody has to act
            nothing  it is completed""",
    ),
    "running": (
        trip(Status.OPEN, flight(), CUT, is_live=True, stack=(CUT, flight())),
        """\
        trip/7f3a01020304  > open
          saga     trip(city='Lisbon', nights=3)
          program  /home/ana/trip.py
          started  2026-11-22 10:00:00 UTC, 2 minutes ago
          owner    process 41 on box

          0:00.0  + flight  done     120 ms; = 'FL-1'
          0:00.2  ? hotel   entered

          to compensate, in this order
            1  cancel_hotel   for hotel   (cut off: its effect is uncertain)
            2  cancel_flight  for flight

          what now: nobody has to act
            wait  a living process has it: process 41 on box""",
    ),
    "interrupted": (
        trip(Status.OPEN, flight(), CUT, stack=(CUT, flight())),
        """\
        trip/7f3a01020304  ? interrupted
          saga     trip(city='Lisbon', nights=3)
          program  /home/ana/trip.py
          started  2026-11-22 10:00:00 UTC, 2 minutes ago
          owner    process 41 on box, gone

          0:00.0  + flight  done     120 ms; = 'FL-1'
          0:00.2  ? hotel   cut off

          to compensate, in this order
            1  cancel_hotel   for hotel   (cut off: its effect is uncertain)
            2  cancel_flight  for flight

          what now: whoever runs it goes on
            go on       sagadsl resume trip/7f3a01020304
            compensate  sagadsl compensate trip/7f3a01020304""",
    ),
    "paused": (
        trip(Status.PAUSED, flight(), hotel("failed", error=FULL), cause=Cause.FAILURE, error=FULL, stack=(flight(),)),
        """\
        trip/7f3a01020304  = paused
          saga     trip(city='Lisbon', nights=3)
          program  /home/ana/trip.py
          started  2026-11-22 10:00:00 UTC, 2 minutes ago
          owner    process 41 on box, gone
          cause    failure: FullyBooked: no room left

          0:00.0  + flight  done    120 ms; = 'FL-1'
          0:00.2  x hotel   failed  2.0 s; FullyBooked: no room left

          to compensate, in this order
            1  cancel_flight  for flight

          what now: a person decides
            go on       sagadsl resume trip/7f3a01020304
            compensate  sagadsl compensate trip/7f3a01020304""",
    ),
    "waiting": (
        trip(Status.WAITING, arguments={}, program="", owner=""),
        """\
        trip/7f3a01020304  ~ waiting
          saga     trip()
          started  2026-11-22 10:00:00 UTC, 2 minutes ago

          what now: those for whom it waits
            go on       sagadsl resume trip/7f3a01020304
            compensate  sagadsl compensate trip/7f3a01020304""",
    ),
    "compensating, and interrupted": (
        trip(
            Status.COMPENSATING,
            flight("compensating", compensation_attempts=2),
            hotel("failed", error=FULL),
            cause=Cause.FAILURE,
            error=FULL,
            stack=(flight(),),
        ),
        """\
        trip/7f3a01020304  ? interrupted while compensating
          saga     trip(city='Lisbon', nights=3)
          program  /home/ana/trip.py
          started  2026-11-22 10:00:00 UTC, 2 minutes ago
          owner    process 41 on box, gone
          cause    failure: FullyBooked: no room left

          0:00.0  < flight  compensation cut off  120 ms
          0:00.2  x hotel   failed                2.0 s; FullyBooked: no room left

          compensations, in order
              < cancel_flight  cut off  for flight; 2 attempts

          to compensate, in this order
            1  cancel_flight  for flight

          what now: whoever runs it goes on
            carry on  sagadsl compensate trip/7f3a01020304""",
    ),
    "compensated": (
        trip(
            Status.COMPENSATED,
            flight("compensated", compensation_attempts=1),
            hotel("failed", error=FULL),
            cause=Cause.FAILURE,
            error=FULL,
            ended=at(65),
            generation=2,
        ),
        """\
        trip/7f3a01020304  - compensated
          saga        trip(city='Lisbon', nights=3)
          program     /home/ana/trip.py
          generation  2
          started     2026-11-22 10:00:00 UTC, 2 minutes ago
          ended       2026-11-22 10:01:05 UTC, 55 seconds ago
          cause       failure: FullyBooked: no room left

          0:00.0  - flight  compensated  120 ms
          0:00.2  x hotel   failed       2.0 s; FullyBooked: no room left

          compensations, in order
              - cancel_flight  done  for flight

          what now: nobody has to act
            nothing  it is compensated, and nothing is owed; a new call of the saga is a new run""",
    ),
    "compensation failed": (
        trip(
            Status.COMPENSATION_FAILED,
            flight(),
            hotel("compensation_failed", compensation_attempts=4, compensation_error=Fault("trip:Down", "no answer")),
            hotel("uncertain", key="hotel#2", uncertain=True, error=Fault("sagadsl.errors:StepTimeout", "too long")),
            cause=Cause.REQUEST,
            stack=(hotel(), flight()),
        ),
        """\
        trip/7f3a01020304  ! compensation failed
          saga     trip(city='Lisbon', nights=3)
          program  /home/ana/trip.py
          started  2026-11-22 10:00:00 UTC, 2 minutes ago
          owner    process 41 on box, gone
          cause    request

          0:00.0  + flight   done                 120 ms; = 'FL-1'
          0:00.2  ! hotel    compensation failed  2.0 s
          0:00.2  ? hotel#2  uncertain            2.0 s; its effect is uncertain; StepTimeout: too long

          compensations, in order
              ! cancel_hotel  failed  for hotel; 4 attempts; Down: no answer

          to compensate, in this order
            1  cancel_hotel   for hotel
            2  cancel_flight  for flight

          what now: a person mends what made the compensation fail
            compensate  mend what made the compensation fail, then: sagadsl compensate trip/7f3a01020304
            skip        seen to by hand: sagadsl compensate trip/7f3a01020304 --skip hotel --why TEXT""",
    ),
    "a child inside": (
        trip(
            Status.COMPLETED,
            StepInfo(key="pack", name="pack", status="completed", saga=True, started=START, ended=at(3600)),
            StepInfo(key="pack/box", name="box", status="done", started=at(61), ended=at(61)),
            parent="world_tour/1",
            ended=at(100),
        ),
        """\
        trip/7f3a01020304  + completed
          saga     trip(city='Lisbon', nights=3)
          parent   world_tour/1
          program  /home/ana/trip.py
          started  2026-11-22 10:00:00 UTC, 2 minutes ago
          ended    2026-11-22 10:01:40 UTC, 20 seconds ago

          0:00.0  + pack      completed  1 hour
          1:01.0  + pack/box  done       0 ms

          what now: nobody has to act
            nothing  it is completed""",
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_shown_whole(name):
    """Status, facts, timeline, stack and what to type next."""
    run, expected = RUNS[name]
    assert run_text(run, NOW) == dedent(expected)


def test_without_a_now_there_are_no_ages_and_options_follow_each_command():
    """A log has no now; a journal elsewhere needs its option in what is typed."""
    assert run_text(trip(Status.OPEN, arguments={}, id="my trip"), options=" --db x.db") == dedent("""\
        my trip  ? interrupted
          saga     trip()
          program  /home/ana/trip.py
          started  2026-11-22 10:00:00 UTC
          owner    process 41 on box, gone

          what now: whoever runs it goes on
            go on       sagadsl resume 'my trip' --db x.db
            compensate  sagadsl compensate 'my trip' --db x.db""")


def test_a_list_says_of_each_run_where_it_stands_and_why():
    """One line a run: sign and word, steps done of those begun, age, cause; an id run afresh says which time it is."""
    runs = [evolve(run, id=f"trip/{number}") for number, (run, _) in enumerate(RUNS.values())]
    runs.append(evolve(runs[6], generation=1, error=Fault("trip:Full", "")))
    assert runs_text(runs, NOW) == dedent("""\
        id      saga  status                            steps  started        cause
        trip/0  trip  + completed                       2/2    2 minutes ago
        trip/1  trip  > open                            1/2    2 minutes ago  process 41 on box
        trip/2  trip  ? interrupted                     1/2    2 minutes ago  cut off at hotel
        trip/3  trip  = paused                          1/2    2 minutes ago  FullyBooked: no room left
        trip/4  trip  ~ waiting                         0/0    2 minutes ago
        trip/5  trip  ? interrupted while compensating  0/2    2 minutes ago  cut off at flight
        trip/6  trip  - compensated                     0/2    2 minutes ago  FullyBooked: no room left
        trip/7  trip  ! compensation failed             1/3    2 minutes ago  cancel_hotel of hotel: Down: no answer
        trip/8  trip  + completed                       1/1    2 minutes ago
        trip/6  trip  - compensated                     0/2    2 minutes ago  generation 1 of 2; Full""")


def test_wide_characters_do_not_shift_the_columns():
    """A terminal gives a Chinese character two places."""
    runs = [trip(Status.COMPLETED, saga="旅行"), trip(Status.COMPLETED, id="b")]
    assert runs_text(runs, NOW).split("\n") == [
        "id         saga  status       steps  started        cause",
        "trip/7f3a  旅行  + completed  0/0    2 minutes ago",
        "b          trip  + completed  0/0    2 minutes ago",
    ]


def test_a_run_in_one_line():
    assert run_line(RUNS["interrupted"][0], NOW) == "trip/7f3a  ? interrupted  1/2  2 minutes ago  cut off at hotel"


def test_a_run_as_data_is_json_whatever_its_values_are():
    """Programs get plain JSON; what it cannot say is text."""
    odd = {"price": Decimal("9.90"), "when": START, "tags": {"b", "a"}, 3: float("nan"), "one": object}
    document = run_data(trip(Status.COMPENSATED, flight("compensated", result=odd), error=FULL, cause=Cause.FAILURE))
    told = json.loads(json.dumps(document, allow_nan=False))
    assert told["error"] == {"type": "trip:FullyBooked", "message": "no room left"}
    assert told["started"] == "2026-11-22T10:00:00Z"
    assert told["steps"][0]["result"] == {
        "price": "9.90",
        "when": "2026-11-22T10:00:00+00:00",
        "tags": ["a", "b"],
        "3": "nan",
        "one": "<class 'object'>",
    }


def test_a_run_as_data_shows_a_value_only_so_deep():
    """What is nested deeper can be stored, and no tool would read it."""
    deep = functools.reduce(lambda inner, _: [inner], range(900), "bottom")
    document = run_data(trip(Status.COMPLETED, flight("done", result=deep)))
    shown = json.dumps(document["steps"][0]["result"], ensure_ascii=False)
    assert shown == "[" * 100 + '"…"' + "]" * 100


def test_ids_are_shortened_as_far_as_they_stay_unlike():
    """Four digits where that is enough; what people chose stays whole."""
    ids = ["trip/7f3a01020304", "trip/7f3a0102aaaa", "trip/7f3b01020304", "trip/mine", "nightly", "trip/aaaa"]
    assert list(short_ids([*ids, "trip/aaaabbbbcccc"]).values()) == [
        "nightly",
        "trip/7f3a01020",
        "trip/7f3a0102a",
        "trip/7f3b",
        "trip/aaaa",
        "trip/aaaab",
        "trip/mine",
    ]
    assert [short_id(ids[0]), short_id("trip/mine")] == ["trip/7f3a", "trip/mine"]


HOSTILE = "a\x1b]0;title\x07\x1b[2J\x9b31m\u202etxt\x00\ud800\r\nb"


def test_nothing_that_moves_a_cursor_comes_through():
    """Escape sequences, direction marks, lone surrogates and line breaks, from wherever they came."""
    shown = "a\ufffd]0;title\ufffd\ufffd[2J\ufffd31m\ufffdtxt\ufffd\ufffd  b"
    assert printable(HOSTILE) == shown
    assert printable_lines("x\n\x1b[1my") == "x\n\ufffd[1my"
    fault = Fault(HOSTILE, HOSTILE)
    step = flight(key=HOSTILE, result=HOSTILE, compensation=HOSTILE, compensation_error=fault)
    run = trip(
        Status.COMPENSATION_FAILED,
        step,
        id=HOSTILE,
        saga=HOSTILE,
        arguments={HOSTILE: HOSTILE},
        program=HOSTILE,
        owner=HOSTILE,
        parent=HOSTILE,
        error=fault,
        stack=(step,),
    )
    for text in (run_text(run, NOW), runs_text([run], NOW), run_line(run, NOW)):
        assert all(c.isprintable() or c == "\n" for c in text)
        assert "\ufffd" in text


def test_long_values_are_cut():
    assert printable("x" * 1000, 10) == "xxxxxxxxx…"


def test_an_ending_is_one_printable_line():
    """Whatever is in an error, a reason or a key; with what to type where a person decides."""
    run = RunInfo(id="trip/7f3a01020304", saga="trip", status=Status.COMPENSATED)
    told = ending(Compensated(ValueError("a\x1b[31m\nb"), ("b\x07",), ("m",), ("a",), run=run))
    assert told == (
        "trip/7f3a failed with ValueError: a\ufffd[31m b; compensated b\ufffd; still standing: m; skipped: a"
    )
    past = evolve(run, status=Status.PAUSED, pivot="ship")
    told = ending(Suspended(Status.PAUSED, "no\x07 room", run=past), options=" --db x")
    assert told == "trip/7f3a is paused: no\ufffd room. Go on: sagadsl resume trip/7f3a01020304 --db x"


def test_ages_are_what_people_say():
    assert [age(s) for s in (-5, 0.5, 1, 59, 60, 7200, 90000)] == [
        "less than a second",
        "less than a second",
        "1 second",
        "59 seconds",
        "1 minute",
        "2 hours",
        "1 day",
    ]


def test_a_report_in_each_format_and_in_no_other():
    """The text is the timeline, JSON the document of ``show --json``; an unknown format is refused."""
    run = RUNS["paused"][0]
    assert run_report(run, "text", NOW) == run_text(run, NOW)
    assert json.loads(run_report(run, "json")) == json.loads(json.dumps(run_document(run)))
    assert run_report(run, "html", NOW).startswith("<!doctype html>")
    assert "2026-11-22 10:00:00 UTC" in run_report(run, "markdown", NOW)
    with pytest.raises(UsageError, match="text, html, markdown, json, not 'pdf'"):
        run_report(run, "pdf")


def test_every_name_of_the_room_is_there():
    """They are loaded when they are asked for; another is missing as in any module."""
    assert [name for name in report.__all__ if not hasattr(report, name)] == []
    assert not hasattr(report, "run_pdf")
