"""``watch``: the runs of other processes as they go on, by the real program, in a pipe and in a pseudo-terminal."""

import json
import os
import select
import signal
import subprocess
import sys

import pytest
from test_cli import ENV, SCRIPT, Place
from test_documents import judge

from sagadsl.report.words import width
from tests.terminals import PATIENCE, Terminal

SMALL = {"LINES": "5", "COLUMNS": "40"}
"""A terminal smaller than what is shown in it."""


@pytest.fixture
def place(tmp_path):
    """Give a folder with the program of the trips."""
    made = Place(tmp_path)
    made.write("trip.py", SCRIPT)
    return made


def watching(place, *arguments):
    """Start to watch, in a pipe."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-m", "sagadsl", "watch", *arguments], cwd=place.folder, env=ENV, text=True, **pipes
    )


def told(watch, count):
    """Return the next lines, as many at least; one that says less fails, instead of holding the test for ever."""
    said = b""
    while said.count(b"\n") < count:
        assert select.select([watch.stdout], [], [], PATIENCE)[0], said
        more = os.read(watch.stdout.fileno(), 65536)
        assert more, said
        said += more
    return said.decode().splitlines()


def events(lines):
    found = [json.loads(line) for line in lines]
    for document in found:
        judge("event_document").validate(document)
    return [(document["event"]["step"], document["event"]["event"]) for document in found]


def test_a_run_is_followed_to_its_end_with_its_exit_code(place):
    """Each entry is a line, from the first; its owner is not disturbed."""
    owner = place.start("trip.py", "t-1")
    watch = watching(place, "t-1", "--json")
    assert events(told(watch, 4)) == [("", "opened"), ("flight", "intent"), ("flight", "done"), ("hotel", "intent")]
    assert watch.poll() is None
    owner.communicate(timeout=PATIENCE)
    rest, said = watch.communicate(timeout=PATIENCE)
    assert events(rest.splitlines()) == [("hotel", "done"), ("", "completed")]
    assert (watch.returncode, said, owner.returncode) == (0, "", 0)
    assert place.world == ["flight", "hotel"]


def test_one_that_fails_is_told_with_its_error_and_is_3(place):
    """In words, where nobody asks for JSON; what is over is told at once."""
    place.set("full")
    assert place.python("trip.py", "t-1").returncode == 3
    watch = watching(place, "t-1")
    told, said = watch.communicate(timeout=PATIENCE)
    assert (watch.returncode, said) == (3, "")
    lines = [line.partition("Z  ")[2] for line in told.splitlines()]
    assert lines == [
        "t-1  opened",
        "t-1  flight  intent",
        "t-1  flight  done",
        "t-1  hotel  intent",
        "t-1  hotel  failed: RuntimeError: no \ufffd]0;room\ufffd left\ufffd",
        "t-1  compensating: RuntimeError: no \ufffd]0;room\ufffd left\ufffd",
        "t-1  flight  compensation intent",
        "t-1  flight  compensation done",
        "t-1  compensated",
    ]


def test_without_a_run_whatever_happens_from_now_on_is_told_until_ctrl_c(place):
    place.kill("old")
    watch = watching(place, "--json")
    for number in range(40):  # until it looks
        assert place.python("trip.py", f"t-{number}").returncode == 0
        if select.select([watch.stdout], [], [], 0)[0]:
            break
    event = json.loads(told(watch, 1)[0])["event"]
    assert event["run"].startswith("t-")
    assert event["event"] == "opened"
    watch.send_signal(signal.SIGINT)
    watch.communicate(timeout=PATIENCE)
    assert watch.returncode == 130


def test_a_reader_that_has_seen_enough_ends_it(place):
    owner = place.start("trip.py", "t-1")
    watch = watching(place, "t-1")
    told(watch, 1)
    watch.stdout.close()
    owner.communicate(timeout=PATIENCE)
    assert watch.wait(timeout=PATIENCE) == 0
    assert watch.stderr.read() == ""
    watch.stderr.close()


def in_a_terminal(place, *arguments, **variables):
    """Start to watch, in a terminal."""
    return Terminal("-m", "sagadsl", "watch", *arguments, columns=100, cwd=place.folder, **variables)


def test_on_a_terminal_a_run_is_drawn_anew_when_it_changes(place):
    """Over what was drawn before, and never when nothing has happened; at the end it stays."""
    owner = place.start("trip.py", "t-1")
    terminal = in_a_terminal(place, "t-1")
    terminal.read(lambda raw: "a living process has it" in raw)
    owner.communicate(timeout=PATIENCE)
    first, *others = terminal.read().split("\x1b[J")
    assert terminal.status == 0
    assert "hotel" in first
    assert 1 <= len(others) <= 3  # hotel done, completed, let go
    assert "t-1  + completed" in others[-1]
    assert "\x1b" not in others[-1]


def test_on_a_terminal_an_owner_that_dies_is_seen_and_ctrl_c_leaves_the_run_alone(place):
    """No entry tells of a death."""
    owner = place.start("trip.py", "t-1")
    terminal = in_a_terminal(place)
    assert "> open" in terminal.read(lambda raw: "> open" in raw)
    owner.kill()
    owner.communicate(timeout=PATIENCE)
    assert "? interrupted" in terminal.read(lambda raw: "? interrupted" in raw)
    terminal.interrupt()
    assert terminal.status == 130
    assert place.status() == "open"
    assert place.world == ["flight", "hotel"]


def test_a_terminal_that_cannot_draw_gets_lines(place):
    assert place.python("trip.py", "t-1").returncode == 0
    terminal = in_a_terminal(place, "t-1", TERM="dumb")
    said = terminal.read()
    assert terminal.status == 0
    assert "\x1b" not in said
    assert said.endswith("t-1  completed\r\n")


def test_runs_that_are_more_than_the_terminal_holds_are_cut(place):
    """So that what is drawn can be drawn over."""
    for number in range(6):
        place.kill(f"k-{number}")
    terminal = in_a_terminal(place, **SMALL)
    terminal.read(lambda raw: raw.count("\n") >= 4)
    shown = terminal.interrupt().partition("^C")[0].splitlines()
    assert terminal.status == 130
    assert len(shown) == 4
    assert max(map(len, shown)) == 39


def test_wide_characters_are_cut_where_the_terminal_ends(place):
    """Each takes two places; a line that went on would wrap, and what is drawn over it miss a line."""
    place.kill("旅" * 30)
    terminal = in_a_terminal(place, **SMALL)
    terminal.read(lambda raw: "旅" in raw and raw.count("\n") >= 1)
    shown = terminal.interrupt().partition("^C")[0].splitlines()
    assert any("旅" in line for line in shown)
    assert max(width(line) for line in shown) <= 39


def test_a_run_that_is_longer_than_the_terminal_is_cut_until_it_stays(place):
    """Nothing is drawn over what stays, so then it is whole."""
    owner = place.start("trip.py", "t-1")
    terminal = in_a_terminal(place, "t-1", **SMALL)
    terminal.read(lambda raw: raw.count("\n") >= 4)
    owner.communicate(timeout=PATIENCE)
    *cut, whole = terminal.read().split("\x1b[4F\x1b[J")
    assert terminal.status == 0
    assert cut
    for drawn in cut:
        assert len(drawn.splitlines()) == 4
        assert max(map(len, drawn.splitlines())) == 39
    assert len(whole.splitlines()) > 4
    assert max(map(len, whole.splitlines())) > 39
