"""What a person decides on the command line: the real program, in a pipe and in a terminal, on runs really cut off."""

import json
import os
import pty
import signal
import subprocess
import sys

import pytest
from test_cli import ENV, SCRIPT, TARGET, Place, in_a_terminal, killed, killed_once  # noqa: F401  # fixtures
from test_documents import judge


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


def test_the_command_that_is_suggested_does_no_more_than_the_one_that_was_typed(killed):  # noqa: F811
    """It has its options, too: without ``--to`` all would be compensated."""
    told = killed.sagadsl("compensate", "t-1", "--to", "flight", "--yes")
    assert "type: sagadsl compensate t-1 --to flight --yes --target " in told.stderr
    assert killed.world == ["flight", "hotel"]


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
    assert (ended, "t-1 is interrupted\r\nCancel it?" in shown) == (code, True)
    assert ("cancel requested" in killed.sagadsl("list").stdout) is is_asked


def test_a_run_that_is_done_is_not_cancelled(killed):  # noqa: F811
    """It is 2, and says what is left."""
    killed.python("trip.py", "t-1")
    told = killed.sagadsl("cancel", "t-1", "--yes")
    assert told.returncode == 2
    assert "is completed, so there is nothing left to cancel" in told.stderr


# -- a completed run, a part of one, what may stand -------------------------------------------------------------------

POST = (
    SCRIPT.replace("    return hotel(city)\n", "    room = hotel(city)\n    mail(city)\n    return room\n")
    .replace(
        "@saga\ndef trip", "@step(compensate=IRREVERSIBLE)\ndef mail(city):\n    happen('mail')\n\n\n@saga\ndef trip"
    )
    .replace("import Compensation,", "import IRREVERSIBLE, Compensation,")
)


@pytest.fixture
def posted(tmp_path):
    """Give a place with a completed trip, t-1, the last step of which nothing can undo."""
    place = Place(tmp_path)
    place.write("trip.py", POST)
    assert place.python("trip.py", "t-1").returncode == 0
    assert place.world == ["flight", "hotel", "mail"]
    return place


def test_a_dry_run_needs_no_code_and_says_what_then_happens(posted):
    """The list is data, on stdout; nothing is written. What it lists happens, in its order."""
    before = posted.files["sagadsl.db"]
    plan = posted.sagadsl("compensate", "t-1", "--dry-run")
    assert (plan.returncode, plan.stderr, posted.files["sagadsl.db"]) == (0, "", before)
    assert plan.stdout.splitlines() == [
        "compensating t-1 calls, in this order:",
        "  1  cancel_hotel   for hotel(city='Lisbon')",
        "  2  cancel_flight   for flight(city='Lisbon')",
        "  cannot be undone: mail",
        "  accept first: mail",
    ]
    ended = posted.sagadsl("compensate", "t-1", "--yes", "--accept", "mail", *TARGET)
    told = "t-1 is compensated (compensated hotel, flight; still standing: mail)"
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (0, told)
    assert posted.world == ["flight", "hotel", "mail", "-hotel", "-flight"]
    again = posted.sagadsl("compensate", "t-1", "--yes", *TARGET)
    assert (again.returncode, again.stderr) == (0, "t-1 is compensated already; nothing is owed\n")


def test_a_completed_run_says_how_it_could_be_compensated(posted):
    """As a dry run first, which can be typed as it stands; nobody has to."""
    shown = posted.sagadsl("show", "t-1").stdout
    assert "what now: nobody has to act" in shown
    typed = shown.rpartition("later, if need be; look first: sagadsl ")[2].split()
    assert typed == ["compensate", "t-1", *TARGET, "--dry-run"]
    plan = posted.sagadsl(*typed)
    assert (plan.returncode, plan.stdout.splitlines()[0]) == (0, "compensating t-1 calls, in this order:")


def test_what_would_stand_is_2_until_it_is_accepted(posted):
    """Nothing was done, and it says what to add."""
    ended = posted.sagadsl("compensate", "t-1", "--yes", *TARGET)
    assert (ended.returncode, posted.world) == (2, ["flight", "hotel", "mail"])
    assert ended.stderr.endswith("or sagadsl compensate t-1 --accept mail\n")
    assert posted.status() == "completed"


def test_a_run_goes_back_to_a_step_and_is_resumed_from_there(posted):
    """It is paused, with what to type to go on."""
    ended = posted.sagadsl("compensate", "t-1", "--to", "flight", "--accept", "mail", "--yes", *TARGET)
    assert (ended.returncode, posted.status()) == (0, "paused")
    assert ended.stderr.endswith("t-1 is paused (compensated hotel). Go on: sagadsl resume t-1\n")
    assert posted.sagadsl("resume", "t-1", *TARGET).returncode == 0
    assert posted.world == ["flight", "hotel", "mail", "-hotel", "hotel", "mail"]
    unknown = posted.sagadsl("compensate", "t-1", "--to", "train", "--yes", *TARGET)
    assert (unknown.returncode, "there is flight, hotel#2, mail#2" in unknown.stderr) == (2, True)


def test_a_step_that_was_seen_to_is_skipped_with_a_reason(killed):  # noqa: F811
    """Its run is then compensated; ``show`` says who and why."""
    killed.set("unreachable")
    assert killed.sagadsl("compensate", "t-1", "--yes", *TARGET).returncode == 6
    assert "--skip hotel --why TEXT" in killed.sagadsl("show", "t-1").stdout
    asked = killed.sagadsl("compensate", "t-1", "--skip", "hotel", "--yes", *TARGET)
    assert (asked.returncode, "--skip hotel takes --why TEXT" in asked.stderr) == (2, True)
    ended = killed.sagadsl("compensate", "t-1", "--skip", "hotel", "--why", "paid by\x1b[31m hand", "--yes", *TARGET)
    assert (ended.returncode, killed.status()) == (0, "compensated")
    assert ended.stderr.endswith("t-1 is compensated (compensated flight; skipped: hotel)\n")
    shown = killed.sagadsl("show", "t-1").stdout
    assert "skipped by " in shown
    assert "paid by\ufffd[31m hand" in shown


def test_on_a_terminal_the_dry_run_is_what_is_asked(posted):
    """With what stands, as it was accepted."""
    code, said = in_a_terminal(posted, b"y\n", "compensate", "t-1", "--accept", "mail", *TARGET)
    assert code == 0
    assert "2  cancel_flight   for flight(city='Lisbon')" in said
    assert "cannot be undone: mail" in said
    assert posted.world == ["flight", "hotel", "mail", "-hotel", "-flight"]


# -- as documents -----------------------------------------------------------------------------------------------------


def document(ended, kind="run_document"):
    """Return what was written as JSON, judged by its schema; whatever else is said stands on stderr."""
    found = json.loads(ended.stdout)
    judge(kind).validate(found)
    return found["run" if kind == "run_document" else "dry_run"]


def test_a_dry_run_as_json_lists_what_would_be_called(posted):
    """Each with its arguments, and what has to be accepted; nothing is done."""
    plan = document(posted.sagadsl("compensate", "t-1", "--dry-run", "--json"), "dry_run_document")
    assert [(step["compensation"], step["key"], step["arguments"]) for step in plan["steps"]] == [
        ("cancel_hotel", "hotel", {"city": "Lisbon"}),
        ("cancel_flight", "flight", {"city": "Lisbon"}),
    ]
    told = plan["run"], plan["to"], plan["standing"], plan["undecided"], plan["lapsed"]
    assert told == ("t-1", None, ["mail"], ["mail"], [])
    back = posted.sagadsl("compensate", "t-1", "--to", "flight", "--dry-run", "--json")
    assert document(back, "dry_run_document")["to"] == "flight"
    assert posted.world == ["flight", "hotel", "mail"]


def test_compensating_as_json_ends_with_the_run_however_that_comes(killed):  # noqa: F811
    """Done, failed or refused: what is on record then, and the exit code that people get too."""
    killed.set("unreachable")
    failed = killed.sagadsl("compensate", "t-1", "--yes", "--json", *TARGET)
    assert (failed.returncode, document(failed)["status"]) == (6, "compensation_failed")
    assert "nobody" in failed.stderr
    refused = killed.sagadsl("compensate", "t-1", "--skip", "hotel", "--yes", "--json", *TARGET)
    assert (refused.returncode, document(refused)["status"]) == (2, "compensation_failed")
    killed.clear("unreachable")
    ended = killed.sagadsl("compensate", "t-1", "--yes", "--json", *TARGET)
    run = document(ended)
    assert (ended.returncode, run["status"], run["compensations"]) == (0, "compensated", ["hotel", "flight"])
    again = killed.sagadsl("compensate", "t-1", "--yes", "--json", *TARGET)
    assert (again.returncode, document(again)["compensations"]) == (0, ["hotel", "flight"])


def test_cancelling_as_json_ends_with_the_run(killed):  # noqa: F811
    """It says that it is asked for; that it is done is for whoever has the run."""
    asked = killed.sagadsl("cancel", "t-1", "--yes", "--json")
    run = document(asked)
    assert (asked.returncode, run["status"], run["is_cancel_requested"]) == (0, "open", True)
    killed.python("trip.py", "t-1")
    late = killed.sagadsl("cancel", "t-1", "--json")
    assert (late.returncode, document(late)["cause"]) == (0, "cancel")


# -- a block ----------------------------------------------------------------------------------------------------------

BLOCK = """
from sagadsl import saga


def fetch():
    raise KeyboardInterrupt


with saga("nightly", id="n-1") as run:
    run.step(fetch)()
"""


def test_what_goes_on_with_a_block_is_its_program(tmp_path):
    """No command has its body: neither ``cancel`` nor ``show`` sends anybody to ``resume``."""
    place = Place(tmp_path)
    place.write("nightly.py", BLOCK)
    place.python("nightly.py")
    shown = place.sagadsl("show", "n-1").stdout
    again = f"run its program again, which has its body: {tmp_path / 'nightly.py'}"
    assert (again in shown, "sagadsl resume" in shown) == (True, False)
    told = place.sagadsl("cancel", "n-1", "--yes", "--json")
    assert told.stderr.startswith("n-1 will be cancelled when it is opened again: run its program again: /")
    assert document(told)["is_block"]


# -- exit codes -------------------------------------------------------------------------------------------------------


def on_a_terminal(place, *arguments, interrupt=None):
    """Run the command line in a pseudo-terminal; press Ctrl-C once it has said *interrupt*. Return its exit code."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(place.folder)
        os.execve(sys.executable, [sys.executable, "-m", "sagadsl", *arguments], ENV)  # noqa: S606
    said = b""
    try:
        while more := os.read(terminal, 1024):
            said += more
            if interrupt is not None and interrupt in said:
                os.write(terminal, b"\x03")
                interrupt = None
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def in_a_pipe(place, *arguments, interrupt=None):
    """Run it with pipes; send it a Ctrl-C's signal once it has said *interrupt*. Return its exit code."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    command = [sys.executable, "-m", "sagadsl", *arguments]
    with subprocess.Popen(command, cwd=place.folder, env=ENV, **pipes) as process:
        said = b""
        while interrupt is not None and interrupt not in said:
            said += process.stdout.read(1)
        if interrupt is not None:
            process.send_signal(signal.SIGINT)
        process.communicate()
        return process.returncode


def live(place):
    """Have a process own the run."""
    place.set("wait")
    return place.start("trip.py", "t-1")


CODES = {
    0: (("resume", "t-1", *TARGET), None),
    1: (("resume", "t-1", *TARGET), "bug"),
    2: (("resume", "t-1"), None),
    3: (("resume", "t-1", *TARGET), "full"),
    4: (("resume", "t-1", *TARGET), "live"),
    5: (("show", "t-1"), "damaged"),
    6: (("compensate", "t-1", "--yes", *TARGET), "unreachable"),
    7: (("resume", "t-1", *TARGET), "other"),
    130: (("resume", "t-1", *TARGET), "wait"),
}
"""For each code a command, and what is the matter."""


@pytest.mark.parametrize("way", [in_a_pipe, on_a_terminal])
@pytest.mark.parametrize("code", CODES)
def test_each_exit_code_is_the_same_in_a_pipe_and_on_a_terminal(killed, code, way):  # noqa: F811
    """Whoever calls it, a person or a program, learns how it ended."""
    arguments, matter = CODES[code]
    owner = None
    if matter == "bug":
        text = SCRIPT.replace("def trip(city):", "def trip(city, desk: Live[Path] = None):")
        text = text.replace("import Compensation,", "import Compensation, Live, provide,")
        killed.write("trip.py", text + "\n\nprovide(Path, lambda: 1 / 0)\n")
    elif matter == "other":
        killed.write("trip.py", SCRIPT.replace("booked = flight(city)", "booked = Ticket(city)"))
    elif matter == "damaged":
        for file in killed.folder.glob("sagadsl.db*"):  # the log too, from which SQLite would mend it
            file.write_bytes(b"no database" * 100)
    elif matter == "live":
        owner = live(killed)
    elif matter is not None:
        killed.set(matter)
    assert way(killed, *arguments, interrupt=b"waiting" if matter == "wait" else None) == code
    if owner is not None:
        owner.communicate("")
