"""Who is told how a run ends hears it, whenever the process is killed: before and after each statement and each call.

``SAGADSL_SWEEP`` chooses as in ``test_sweeps``: a sample by its seed, or every case.
"""

import pytest

from tests.crash.test_sweeps import Runners

PROGRAMS = ("heard", "aheard", "heard_failing")


@pytest.fixture(scope="module")
def runners(tmp_path_factory):
    runners = Runners(tmp_path_factory.mktemp("notify"), "notify_runner.py")
    yield runners
    runners.close()


def cases(runners, programs, verb, **told):
    """Return a case for each point at which a program can be killed that is then started again."""
    return [
        {"program": program, "verb": verb, "cuts": [number], **told}
        for program in programs
        for number in range(1, len(runners.points(program=program)) + 1)
    ]


def test_the_end_of_a_run_that_was_killed_anywhere_is_told_when_its_program_starts_again(runners):
    """At least once, and twice only where the kill came between the call and its record."""
    assert runners.wrong(cases(runners, PROGRAMS, "go_on"), 60) == {}


def test_the_end_of_a_run_that_was_killed_anywhere_is_told_by_the_next_call_of_its_key(runners):
    """Of one that failed too, whose key is then done afresh: both are told of."""
    assert runners.wrong(cases(runners, PROGRAMS, "call_again"), 60) == {}


def test_a_process_that_is_killed_while_it_tells_again_leaves_it_owed(runners):
    """At every part of the way, twice."""
    twice = [
        {"program": program, "verb": "go_on", "cuts": [0.999, part]} for program in PROGRAMS for part in (0.3, 0.6, 0.9)
    ]
    assert runners.wrong(twice, 9) == {}


def test_a_journal_that_forgets_who_is_to_be_told_is_caught(runners):
    """The sweep can say no."""
    assert runners.wrong(cases(runners, ("heard",), "go_on", mutant="owe_nothing"), 1000) != {}
