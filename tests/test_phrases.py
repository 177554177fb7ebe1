"""What errors, notes and faces say alike: what became of the steps of a run, and what to type for it."""

import shlex
import sys

import pytest

from sagadsl import CompensationError, Fault, SuspendedError
from sagadsl._core.phrases import command, what_became


def test_what_became_of_the_steps_is_said_in_one_line():
    """What has none is left out; with none of anything, nothing was owed."""
    assert what_became(("b", "a")) == "compensated b, a"
    assert what_became((), ("mail",)) == "still standing: mail"
    assert what_became(("b",), ("m",), ("a",)) == "compensated b; still standing: m; skipped: a"
    stuck = what_became(("c",), (), (), ("a",), failed="b", why="OSError: down")
    assert stuck == "the compensation of b failed with OSError: down; compensated c; not yet tried: a"
    assert what_became(()) == "nothing was owed"


def test_what_to_type_names_a_journal_that_is_not_looked_in_by_itself(tmp_path, monkeypatch):
    """By the variable, else in the working directory; what is in memory has no place."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAGADSL_DB", raising=False)
    here, there = str(tmp_path / "sagadsl.db"), str(tmp_path / "my runs.db")
    assert command("show", "trip/k", here) == command("show", "trip/k", ":memory:") == "sagadsl show trip/k"
    told = f"sagadsl resume 'a b' --db '{there}'"
    assert command("resume", "a b", there) == told
    assert told in str(SuspendedError("a b", "paused", "why", store=there))
    stuck = CompensationError("trip/k", "s", Fault("m:E", ""), store=there)
    assert f"sagadsl compensate trip/k --db '{there}'" in str(stuck)
    monkeypatch.setenv("SAGADSL_DB", there)
    assert command("show", "trip/k", there) == "sagadsl show trip/k"


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("trip/7f3a01020304", ["trip/7f3a01020304", "--db", "/my runs.db"]),
        ("a b", ["a b", "--db", "/my runs.db"]),
        ("-x", ["--db", "/my runs.db", "--", "-x"]),
        ("--help", ["--db", "/my runs.db", "--", "--help"]),
    ],
)
def test_an_id_is_no_option_whatever_it_begins_with(run, words):
    """What begins with a dash stands behind all options, and behind what ends them."""
    assert shlex.split(command("show", run, "/my runs.db")) == ["sagadsl", "show", *words]
    assert f"sagadsl {shlex.join(['resume', *words])}" in str(SuspendedError(run, "paused", "why", store="/my runs.db"))


def test_options_are_asked_for_by_one_name_in_both_languages(monkeypatch):
    """A flag, a word, and several: in a shell, and where the program is typed in."""
    asked = {"skip": "a b", "dry_run": True, "accept": ["mail", "-2"]}
    typed = command("compensate", "-x", options=" --target trip.py:trip", **asked)
    options = "--target trip.py:trip --skip 'a b' --dry-run --accept mail --accept -2"
    assert typed == f"sagadsl compensate {options} -- -x"
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    typed = command("compensate", "-x", options=" --target trip.py:trip", **asked)
    assert typed == "sagadsl.find('-x').compensate(skip='a b', dry_run=True, accept=['mail', '-2'])"
    assert command("show", "-x", "/a.db") == "sagadsl.Runtime('/a.db').find('-x')"
    assert command("show", "-x", in_session=False) == "sagadsl show -- -x"
