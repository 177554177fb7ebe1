"""Progress: a line a step for whoever sits in front of it, and nothing at all for whoever does not."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sagadsl
from sagadsl import Fault, NotLanded, Retry, RunInfo, Status, StepInfo, StepTimeout, UsageError, parallel
from sagadsl._core.values.seen import AttemptInfo
from sagadsl.report import fitted, progress_lines, step_line
from sagadsl.report.words import width
from tests.terminals import ROOT, Screen, Terminal

START = datetime(2026, 1, 2, tzinfo=UTC)


def step(key, status, **facts):
    """Make a step that took two seconds."""
    ended = {"ended": START + timedelta(seconds=2)}
    return StepInfo(key=key, name=key, status=status, started=START, **(ended | facts))


LINES = {
    "> flight …": step("flight", "entered", attempts=1),
    "> flight  attempt 2 …": step("flight", "entered", attempts=2),
    "~ flight  is tried again after OSError: refused …": step(
        "flight", "retrying", tried=(AttemptInfo(number=1, status="failed", error=Fault("m:OSError", "refused")),)
    ),
    "+ flight  Book the flight  3 attempts, 2.0 s": step("flight", "done", attempts=3, title="Book the flight"),
    "x flight  failed: OSError: refused": step("flight", "failed", error=Fault("m:OSError", "refused")),
    "? flight  uncertain": step("flight", "uncertain"),
    "x flight  not landed": step("flight", "not_landed"),
    "< flight  cancel …": step("flight", "compensating", compensation="cancel", compensation_attempts=1),
    "< flight  cancel, attempt 2 …": step("flight", "compensating", compensation="cancel", compensation_attempts=2),
    "- flight  compensated by cancel": step("flight", "compensated", compensation="cancel"),
    "! flight  cancel failed: OSError: no": step(
        "flight", "compensation_failed", compensation="cancel", compensation_error=Fault("m:OSError", "no")
    ),
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_says_what_a_step_does_or_what_came_of_it(line):
    """Its sign is that of its status everywhere; what has not come to an end ends in an ellipsis."""
    assert step_line(LINES[line]) == line


@given(st.text(st.characters(codec="utf-8")), st.integers(0, 30))
def test_a_line_never_takes_more_places_than_there_are(text, places):
    """Wide characters take two; what fits is left as it is."""
    shown = fitted(text, places)
    assert width(shown) <= places
    assert shown == text if width(text) <= places else text.startswith(shown.removesuffix("…"))


def test_the_lines_of_a_long_run_are_its_newest_and_those_under_way():
    """What is left out is counted; the last line says how it ended."""
    steps = [step("first", "entered", attempts=1), *(step(f"s{n}", "done") for n in range(99))]
    run = RunInfo(id="nightly/7", saga="nightly", status=Status.OPEN, steps=tuple(steps), is_live=True, started=START)
    lines = progress_lines(run, limit=2)
    assert lines == ["nightly/7", "  97 steps before", "> first …", "+ s97  2.0 s", "+ s98  2.0 s"]
    ended = RunInfo(
        id="nightly/7",
        saga="nightly",
        status=Status.COMPLETED,
        steps=(steps[1],),
        started=START,
        ended=START + timedelta(seconds=90),
    )
    assert progress_lines(ended) == ["nightly/7", "+ s0  2.0 s", "+ nightly/7  completed  1 step, 1 minute"]
    assert progress_lines(RunInfo(id="r", saga="r", status=Status.OPEN))[-1] == "? r  interrupted"


def said(run):
    """Return what a run has come to, but for what progress leaves out."""
    steps = []
    for s in run.steps:
        errors = (str(s.error), *map(str, s.attempt_errors))
        tried = [(t.number, t.status, str(t.error), t.started, t.ended) for t in s.tried]
        tries = (s.attempts, tried, s.seconds, s.compensation_attempts)
        kind = (s.saga, s.branch, s.title, s.compensation)
        steps.append((s.key, s.name, s.status, kind, errors, tries, s.started, s.ended))
    return run.id, run.saga, run.status, run.is_live, str(run.error), run.generation, run.ended, steps


def test_what_is_drawn_is_what_the_journal_says(colour, make_runtime, world):
    """After each entry, and in the end: of children and branches, failures and retries, and of a run that goes on."""
    drawn, recorded = [], []

    def draw(run):
        drawn.append(said(run))
        recorded.append(said(make_runtime().find(run.id)))

    @colour.step(compensate=lambda_free("-a", world), retries=Retry(2, wait=0.1), title="Act")
    def act(name) -> str:
        if sagadsl.current().attempt == 1:
            raise OSError(name)
        world.add(name)
        return name

    @colour.step(read_only=True)
    def see() -> int:
        return 7

    @colour.step(compensate=None)
    def stop() -> None:
        if world.effects.count("stop") == 0:
            world.add("stop")
            raise KeyboardInterrupt
        raise ValueError("no")

    @colour.saga
    def child():
        yield act("inner")

    @colour.saga(key="k", runtime=make_runtime(progress=draw))
    def flow():
        yield see()
        yield child()
        if not colour.is_async:
            parallel(lambda: act("branch"))
        yield act("last")
        yield stop()

    with pytest.raises(KeyboardInterrupt):
        colour.call(flow)
    assert drawn[-1][2:4] == ("open", False)
    with pytest.raises(ValueError, match="no"):
        colour.call(flow)
    assert len(drawn) >= 20
    assert drawn == recorded
    assert drawn[-1][2:4] == ("compensated", False)


def test_what_a_probe_denies_is_drawn_as_the_journal_has_it(make_runtime):
    """In the process that asks it, after a timeout; and in the one that goes on, after a kill."""
    drawn, recorded = [], []

    def draw(run):
        drawn.append(said(run))
        recorded.append(said(make_runtime().find(run.id)))

    @sagadsl.step(compensate=None, retries=Retry(1, wait=0.1), probe=lambda: NotLanded())
    def act():
        if sagadsl.current().attempt == 1:
            raise KeyboardInterrupt
        if sagadsl.current().attempt == 2:
            raise StepTimeout("act", 1)

    @sagadsl.saga(key="k", runtime=make_runtime(progress=draw))
    def flow():
        act()

    with pytest.raises(KeyboardInterrupt):
        flow()
    flow()
    assert drawn == recorded
    (step,) = make_runtime().find("flow/k").steps
    assert [each.status for each in step.tried] == ["not_landed", "failed"]


def lambda_free(effect, world):
    """Return a compensation with an effect."""

    def undo(result=None):
        world.add(effect)

    return undo


def test_progress_is_a_word_or_a_function(runtime):
    """Anything else is refused by name."""
    with pytest.raises(UsageError, match="progress='loud': choose one of 'auto', 'plain', 'off'"):
        runtime.configure(progress="loud")
    with pytest.raises(UsageError, match="progress='loud'"):
        sagadsl.Runtime(progress="loud")


def test_a_display_that_raises_changes_nothing(colour, make_runtime, caplog):
    """It is an observer: what it raises is logged."""

    @colour.step(compensate=None)
    def look() -> int:
        return 1

    def draw(_):
        raise RuntimeError("no screen")

    @colour.saga(runtime=make_runtime(progress=draw))
    def flow():
        return (yield look())

    assert colour.call(flow) == 1
    assert "an observer failed; the run goes on" in caplog.text


# -- on a terminal ----------------------------------------------------------------------------------------------------

TIME = re.compile(r"\d+(\.\d+)? (ms|s)\b")
COLOUR = re.compile(r"\x1b\[\d*m")


@pytest.fixture
def screen(monkeypatch):
    """Give a real terminal, to be used as stdout and stderr of this process."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    made = Screen()
    yield made
    made.close()


def shown(lines):
    """Return what a person sees in the end, but for how long it took."""
    return [TIME.sub("T", line) for line in lines if line]


def cancel(booking=None):
    """Cancel."""


@pytest.fixture
def trip(colour, runtime, world):
    """Give a saga with a retry, a title, and perhaps a failure."""

    @colour.step(compensate=cancel, retries=Retry(1, wait=1))
    def flight(to) -> str:
        if sagadsl.current().attempt == 1:
            raise OSError("refused")
        return to

    @colour.step(compensate=cancel, title="Book the hotel")
    def hotel(city) -> str:
        return city

    @colour.saga(key="t", runtime=runtime)
    def trip(fails=False):
        yield flight("Rome")
        yield hotel("Rome")
        if fails:
            raise ValueError("too long")

    return trip


DONE = ["trip/t", "+ flight  2 attempts, T", "+ hotel  Book the hotel  T", "+ trip/t  completed  2 steps, T"]


def test_a_terminal_has_a_line_a_step_updated_in_place(colour, trip, screen):
    """A retry is said while it lasts."""
    with screen:
        colour.call(trip)
    assert shown(screen.lines) == DONE
    under_way = ["> flight …", "~ flight  is tried again after OSError: refused …", "> flight  attempt 2 …"]
    seen = re.split(r"\r\x1b\[K|\r\n", COLOUR.sub("", screen.raw))
    assert [line for line in seen if "flight" in line][:3] == under_way


def test_a_failure_shows_each_compensation(colour, trip, screen):
    """In the order in which they were called."""
    with screen, pytest.raises(ValueError, match="too long"):
        colour.call(trip, fails=True)
    assert shown(screen.lines)[-4:] == [
        "< trip/t  compensating: ValueError: too long",
        "- hotel  Book the hotel  compensated by cancel",
        "- flight  compensated by cancel",
        "- trip/t  compensated: ValueError: too long  2 steps, T",
    ]


def test_what_is_under_way_at_once_stands_on_one_line(runtime, screen):
    """Steps of children and branches are called by their paths."""
    both = threading.Barrier(2)

    @sagadsl.step
    def meet(name: str) -> None:
        both.wait(20)

    @sagadsl.saga
    def friends():
        parallel(lambda: meet("Ada"), lambda: meet("Bob"))

    @sagadsl.saga(runtime=runtime)
    def trip():
        friends()

    with screen:
        trip()
    one, other = "friends/parallel/1/meet", "friends/parallel/2/meet"
    raw = COLOUR.sub("", screen.raw)
    assert f"> {one}, {other} …" in raw or f"> {other}, {one} …" in raw
    assert {f"+ {one}  T", f"+ {other}  T"} < {*shown(screen.lines)}


def test_lines_of_several_runs_stand_under_their_ids(runtime, screen):
    """Each time another run's come."""

    @sagadsl.step
    async def turn(name: str) -> None:
        await asyncio.sleep(0)

    @sagadsl.saga(key="{name}", runtime=runtime)
    async def walk(name: str) -> None:
        await turn(name)

    async def both():
        await asyncio.gather(walk("a"), walk("b"))

    with screen:
        asyncio.run(both())
    lines = shown(screen.lines)
    owners = [max((at, line) for at, line in enumerate(lines[:end]) if line in {"walk/a", "walk/b"})[1]
              for end, line in enumerate(lines) if line.startswith("+ walk")]  # fmt: skip
    assert [line.split()[1] for line in lines if line.startswith("+ walk")] == owners
    assert len(owners) == 2


@pytest.mark.parametrize("columns", [12, 30])
def test_on_a_narrow_terminal_nothing_wraps(runtime, screen, columns):
    """Wide characters take two places."""
    screen.resize(columns)

    @sagadsl.step(title="旅館を予約する、とても長い題名で")
    def hotel() -> None:
        """Book."""

    with screen:
        sagadsl.saga(name="trip", key="t", runtime=runtime)(in_a_saga(hotel))()
    rows = [line for line in screen.lines if line]
    assert [row[0] for row in rows] == ["t", "+", "+"]
    assert max(map(width, rows)) < columns


def in_a_saga(step):
    """Return the body of a saga with one step."""

    def body() -> None:
        step()

    return body


def test_nothing_in_a_name_reaches_the_terminal_as_a_command(runtime, screen):
    """Neither its title nor its colours: control characters are replaced."""

    @sagadsl.step(title="\x1b]0;owned\x07\x1b[2J\u202egnirts")
    def hotel() -> None:
        """Book."""

    with screen:
        sagadsl.saga(name="trip", runtime=runtime)(in_a_saga(hotel))()
    (line,) = [line for line in shown(screen.lines) if "owned" in line]
    assert line == "+ hotel  �]0;owned��[2J�gnirts  T"


def test_no_color_means_none(colour, trip, screen, monkeypatch):
    """The signs are there without."""
    with screen:
        colour.call(trip)
    assert "\x1b[32m+\x1b[0m" in screen.raw
    monkeypatch.setenv("NO_COLOR", "1")
    already = len(screen.raw)
    with screen, pytest.raises(ValueError, match="too long"):
        colour.call(trip.using(key="u"), fails=True)
    assert "too long" in screen.raw[already:]
    assert not COLOUR.search(screen.raw[already:])


PLAIN = [
    "trip/t",
    "> flight …",
    "~ flight  is tried again after OSError: refused …",
    "> flight  attempt 2 …",
    "+ flight  2 attempts, T",
    "> hotel  Book the hotel …",
    "+ hotel  Book the hotel  T",
    "+ trip/t  completed  2 steps, T",
]


def test_a_terminal_that_can_nothing_gets_plain_lines(colour, trip, screen, monkeypatch):
    """``TERM=dumb``, as in editors: no sequence, a line for each change."""
    monkeypatch.setenv("TERM", "dumb")
    with screen:
        colour.call(trip)
    assert "\x1b" not in screen.raw
    assert shown(screen.lines) == PLAIN


def test_plain_lines_are_for_logs(colour, trip, runtime, capsys):
    """One for each change, on stderr, wherever that leads."""
    runtime.configure(progress="plain")
    colour.call(trip)
    out, err = capsys.readouterr()
    assert (out, shown(err.splitlines())) == ("", PLAIN)


def test_where_nobody_sits_it_is_silent(colour, trip, runtime, screen, monkeypatch):
    """A terminal that is told ``off``, a stream that is none, a program without one, a daemon that has closed it."""
    runtime.configure(progress="off")
    with screen:
        colour.call(trip)
    assert screen.raw == ""
    runtime.configure(progress="auto")
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed, io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        colour.call(trip.using(key=f"{stream}"))
    assert stream.getvalue() == ""


def test_a_terminal_that_goes_away_takes_no_run_with_it(colour, trip, screen):
    """The steps that follow are done all the same."""
    screen.hang_up()
    with screen:
        colour.call(trip)
    with pytest.raises(OSError, match="Input/output error"):
        os.write(screen.stream.fileno(), b"it is really gone")


def test_without_a_size_a_terminal_is_as_wide_as_usual(colour, trip, runtime, monkeypatch):
    """Plain lines without a stream go nowhere; a stream that says that it is a terminal is taken for one."""
    runtime.configure(progress="plain")
    monkeypatch.setattr(sys, "stderr", None)
    colour.call(trip)
    runtime.configure(progress="auto")
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", stream)
    with pytest.raises(ValueError, match="too long"):
        colour.call(trip.using(key="u"), fails=True)
    assert "compensated by cancel" in stream.getvalue()


def test_an_interrupted_run_leaves_its_line_and_another_goes_on(runtime, screen, caplog):
    """What is said of the interruption has a line of its own."""
    reached = asyncio.Event()

    @sagadsl.step
    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    @sagadsl.saga(key="{name}", runtime=runtime)
    async def walk(name: str) -> None:
        await hang.using(key=name)()

    async def both():
        tasks = [asyncio.create_task(walk(name)) for name in "ab"]
        await reached.wait()
        for task in tasks:
            task.cancel()
            await asyncio.wait([task])

    with screen:
        asyncio.run(both())
    assert [line for line in screen.lines if line][-1] == "> hang:a, hang:b …"
    assert [r.message.split(".")[0] for r in caplog.records] == [f"walk/{n} interrupted at hang:{n}" for n in "ab"]


FORKING = """
import os, sys, threading
import sagadsl
from sagadsl._core.observers import lines

held = threading.Event()

def hold():
    with lines.SCREEN._guard:
        held.set()
        threading.Event().wait()

@sagadsl.step
def act():
    pass

@sagadsl.saga(store=":memory:")
def flow():
    act()

sagadsl.configure(progress="plain")
threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if not child:
    flow()
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_draws_whatever_its_parent_was_drawing(tmp_path):
    """The lock that another thread held there is nobody's here."""
    command = [sys.executable, "-W", "ignore", "-c", FORKING]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.splitlines()[1:2]) == (0, ["> act …"])


PROGRAM = """
import os, signal, sys
import sagadsl

@sagadsl.step
def flight():
    pass

@sagadsl.step
def hotel():
    if os.environ.get("DIE"):
        os.kill(os.getpid(), signal.SIGKILL)
    if os.environ.get("ASK"):
        input("  Enter, or Ctrl-C ")

@sagadsl.saga(key="t")
def trip():
    flight()
    hotel()
    return "done"

print(trip())
"""


@pytest.fixture
def start(tmp_path):
    """Give a starter of the program in a terminal of its own."""
    (tmp_path / "trip.py").write_text(PROGRAM, encoding="utf-8")
    return lambda **variables: Terminal("trip.py", cwd=tmp_path, **variables)


def test_a_resumed_run_shows_what_it_enters(start):
    """What is recorded is not shown again; what comes on stdout has lines of its own."""
    killed = start(DIE="1")
    killed.read()
    assert killed.status == -signal.SIGKILL
    assert shown(killed.screen) == ["trip/t", "+ flight  T", "> hotel …"]
    again = start()
    again.read()
    first, *lines = shown(again.screen)
    assert first.startswith("resuming trip/t, cut off")
    assert lines[-4:] == ["trip/t", "+ hotel  2 attempts, T", "+ trip/t  completed  2 steps, T", "done"]


def test_what_is_said_of_an_interruption_has_a_line_of_its_own(start):
    """The step that was under way stays to be seen."""
    terminal = start(ASK="1")
    terminal.read(lambda raw: "Ctrl-C" in raw)
    terminal.interrupt()
    at = next(n for n, line in enumerate(terminal.screen) if line.startswith("trip/t interrupted at hotel."))
    assert terminal.screen[at - 1].startswith("> hotel …  Enter, or Ctrl-C")
