"""What a person decides on the command line: the real program, in a pipe and in a terminal, on runs really cut off."""

import pytest
from test_cli import SCRIPT, TARGET, Place, in_a_terminal, killed, killed_once  # noqa: F401  # fixtures


def test_a_cancelled_run_is_compensated_by_whoever_opens_it_next(killed):  # noqa: F811
    """The verb needs no code and enters nothing; the program that is run again does the rest, with its exit code."""
    told = killed.sagadsl("cancel", "t-1", "--yes")
    assert (told.returncode, told.stdout) == (0, "")
    assert told.stderr == "t-1 will be cancelled when it is opened again: sagadsl resume t-1\n"
    assert "cancel requested" in killed.sagadsl("list").stdout
    assert "cancel" in killed.sagadsl("show", "t-1").stdout
    assert killed.world == ["flight", "hotel"]
    again = killed.python("trip.py", "t-1")
    assert (again.returncode, killed.world) == (3, ["flight", "hotel", "-hotel", "-flight"])
    assert "RunCancelledError: run t-1 was cancelled by process" in again.stderr
    done = killed.sagadsl("cancel", "t-1")
    assert (done.returncode, done.stderr) == (0, "t-1 is compensated already; there is nothing to cancel\n")


def test_a_cancelled_run_that_is_resumed_is_3(killed):  # noqa: F811
    """It has failed and is compensated, as its cause says."""
    killed.sagadsl("cancel", "t-1", "--yes")
    resumed = killed.sagadsl("resume", "t-1", *TARGET)
    assert (resumed.returncode, killed.world) == (3, ["flight", "hotel", "-hotel", "-flight"])
    assert "was cancelled by process" in resumed.stderr
    assert "compensated hotel, flight" in resumed.stderr


def test_a_live_owner_is_reached_at_its_next_step(killed):  # noqa: F811
    """Here the end of its body: it compensates instead of completing. Nothing waits for that."""
    killed.set("wait")
    owner = killed.start("trip.py", "t-1")
    told = killed.sagadsl("cancel", "t-1", "--yes")
    assert told.returncode == 0
    assert f"t-1 will be cancelled by process {owner.pid} on " in told.stderr
    owner.communicate("")
    assert (owner.returncode, killed.world) == (3, ["flight", "hotel", "hotel", "-hotel", "-flight"])


def test_nothing_is_cancelled_without_yes_where_nobody_can_be_asked(killed):  # noqa: F811
    """It says what to add."""
    before = killed.files
    told = killed.sagadsl("cancel", "t-1")
    assert (told.returncode, killed.files) == (2, before)
    assert "nobody can be asked here whether to cancel it" in told.stderr
    assert "--yes" in told.stderr


@pytest.mark.parametrize(("answer", "code", "is_asked"), [(b"n\n", 130, False), (b"y\n", 0, True)])
def test_on_a_terminal_it_asks_before_it_cancels(killed, answer, code, is_asked):  # noqa: F811
    """And takes no for an answer."""
    ended, shown = in_a_terminal(killed, answer, "cancel", "t-1")
    assert (ended, "t-1 is interrupted. Cancel it?" in shown) == (code, True)
    assert ("cancel requested" in killed.sagadsl("list").stdout) is is_asked


def test_a_run_that_is_done_is_not_cancelled(killed):  # noqa: F811
    """It is 2, and says what is left."""
    killed.python("trip.py", "t-1")
    told = killed.sagadsl("cancel", "t-1", "--yes")
    assert told.returncode == 2
    assert "is completed, so there is nothing left to cancel" in told.stderr
