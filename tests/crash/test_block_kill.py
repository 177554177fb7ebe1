"""A block and a run by hand survive SIGKILL, forward and in compensation; without their body they go back by names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sagadsl

RUNNER = Path(__file__).with_name("block_runner.py")
KILLED = -9


@pytest.fixture
def play(tmp_path):
    """Give a way to run the program in a child process, killed at an effect."""

    def run(*arguments, kill="", command=(sys.executable, str(RUNNER))):
        variables = os.environ | {"SAGADSL_BLOCK_FOLDER": str(tmp_path), "SAGADSL_BLOCK_KILL": kill}
        paths = {"cwd": tmp_path, "env": variables | {"PYTHONPATH": str(Path(sagadsl.__file__).parents[1])}}
        return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, **paths)

    return run


@pytest.fixture
def effects(tmp_path):
    """Give what happened in the world."""
    return lambda: (tmp_path / "world").read_text(encoding="utf-8").split()


def stored(folder):
    """Return the run as the journal has it."""
    return sagadsl.Runtime(folder / "sagas.db").find("nightly/k")


@pytest.mark.parametrize("kind", ["block", "hand"])
@pytest.mark.parametrize("place", ["a", "c"])
def test_a_run_killed_in_a_step_goes_on(play, effects, tmp_path, kind, place):
    """What is recorded is not entered again, what was cut off is; then there is nothing more to do."""
    assert play(kind, kill=place).returncode == KILLED
    assert stored(tmp_path).is_interrupted
    again = play(kind)
    assert again.stdout.strip() == "['A', 'C']"
    assert "resuming nightly/k, cut off" in again.stderr
    assert effects() == (["a", "a", "c"] if place == "a" else ["a", "c", "c"])
    assert stored(tmp_path).status == "completed"
    assert play(kind).stdout.strip() == "['A', 'C']"
    assert len(effects()) == 3


@pytest.mark.parametrize("place", ["-c", "-b", "-a"])
def test_a_block_killed_in_compensation_goes_on_compensating(play, effects, tmp_path, place):
    """The body only binds; no compensation on record is called again."""
    assert play("block", "fail", kill=place).returncode == KILLED
    again = play("block", "fail")
    assert again.returncode == 1
    assert "ValueError: A,C" in again.stderr
    back = ["-c", "-b", "-a"]
    at = back.index(place)
    assert effects() == ["a", "c", *back[: at + 1], *back[at:]]
    assert stored(tmp_path).status == "compensated"


@pytest.mark.parametrize("kind", ["block", "hand"])
def test_the_command_line_compensates_what_was_killed_by_names(play, effects, tmp_path, kind):
    """From the file that the user names; a function that is not in it stops that before anything is done."""
    assert play(kind, kill="c").returncode == KILLED
    command = (sys.executable, "-m", "sagadsl", "--db", str(tmp_path / "sagas.db"))
    line = ("compensate", "nightly/k", "--yes", "--target")
    source = RUNNER.read_text(encoding="utf-8")
    changed = tmp_path / "block_runner.py"
    changed.write_text(source.replace("def drop", "def dropped"))
    refused = play(*line, f"{changed}:nightly", command=command)
    assert refused.returncode == 2
    assert "compensated by drop" in refused.stderr
    assert effects() == ["a", "c"]
    resumed = play("resume", "nightly/k", "--target", f"{RUNNER}:nightly", command=command)
    assert (resumed.returncode, "is a block: its body stands in" in resumed.stderr) == (2, True)
    done = play(*line, f"{RUNNER}:nightly", command=command)
    assert (done.returncode, done.stderr.count("is compensated")) == (0, 1), done.stderr
    assert effects() == ["a", "c", "-c", "-b", "-a"]
    assert stored(tmp_path).status == "compensated"
