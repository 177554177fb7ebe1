"""A nightly script over the files of a folder: killed in the middle, the next start goes on in the middle."""

import hashlib

import pytest

NAMES = ["a", "b", "c", "d"]
DONE = ["waiting", "summarise", "move", "summarise#2", "move#2", "summarise#3", "move#3", "summarise#4", "move#4"]


@pytest.fixture
def night(program):
    """Give the program with four files in its inbox."""
    (program.folder / "inbox").mkdir()
    for name in NAMES:
        (program.folder / "inbox" / f"{name}.txt").write_text(name * 10)
    return program


def line(name):
    """Return what the report says of a file."""
    return f"10 {hashlib.sha256(name.encode() * 10).hexdigest()[:8]}\n"


def test_a_night_that_is_killed_goes_on_in_the_middle(night):
    """Wherever it is killed: each file is summarised and moved once, and the report is whole."""
    for point in ("summarise:done", "move", "move:done", "move:done:2", "index:done"):
        night.run("nightly.py", kill=point)
    assert "4 files" in night.run("nightly.py")
    assert night.text("report.txt") == "".join(map(line, NAMES))
    assert night.names("inbox/*") == []
    assert night.names("done/*") == [f"done/{name}.txt" for name in NAMES]
    assert night.journal == [["completed", *(f"{step} done" for step in [*DONE, "index"])]]


def test_a_file_that_comes_in_between_waits_for_the_next_night(night):
    """The run that goes on has the listing that it began with."""
    night.run("nightly.py", kill="move:done:2")
    (night.folder / "inbox" / "0.txt").write_text("0" * 10)
    assert "4 files" in night.run("nightly.py")
    assert night.names("inbox/*") == ["inbox/0.txt"]
    assert "1 files" in night.run("nightly.py")
    assert night.text("report.txt") == line("0")


def test_a_night_that_fails_brings_everything_back(night):
    """Two files are the same, seen at the end: all files are in the inbox again, though compensation is killed too."""
    (night.folder / "inbox" / "d.txt").write_text("a" * 10)
    for point in ("bring_back", "bring_back:done", "forget:done"):
        night.run("nightly.py", kill=point)
    assert "two files are the same" in night.run("nightly.py", ends=1)
    assert night.names("inbox/*") == [f"inbox/{name}.txt" for name in NAMES]
    assert night.names("done/*") == night.names("summaries/*") == night.names("report.txt") == []
    undone = [f"-{step}" for step in reversed(DONE[1:])]
    assert night.journal == [["compensated", *(f"{step} done" for step in DONE), "index failed", *undone]]
