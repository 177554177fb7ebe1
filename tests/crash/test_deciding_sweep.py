"""What a person decides survives every kill: before and after each statement and each call of a user's function.

``SAGADSL_SWEEP`` chooses as in ``test_sweeps``: a sample by its seed, or every case.
"""

import random

import pytest

from tests.crash.test_sweeps import WANTED, Runners

CANCELLED = ("sync", "coloured", "nested", "caught", "gathered")
GONE_BACK = ("sync", "coloured", "nested", "retried", "probed", "gathered")


@pytest.fixture(scope="module")
def runners(tmp_path_factory):
    runners = Runners(tmp_path_factory.mktemp("deciding"), "deciding_runner.py")
    yield runners
    runners.close()


def cases(runners, programs, verbs, at, **told):
    """Return a case for each point at which process number *at* can be killed, of those that do *verbs*."""
    return [
        {
            "program": program,
            "verbs": verbs,
            "cuts": [number if each == at else 0 for each in range(len(verbs))],
            **told,
        }
        for program in programs
        for number in range(1, len(runners.points(program=program, verbs=verbs[: at + 1])) + 1)
    ]


def parts(programs, verbs, pattern, count, **told):
    """Return cases in which each process marked in *pattern* is killed at a part of its way that the seed gives."""
    dice = random.Random(f"{WANTED} {verbs} {pattern}")  # noqa: S311  # a sample, no secret
    return [
        {"program": program, "verbs": verbs, "cuts": [dice.random() if cut else 0 for cut in pattern], **told}
        for program in programs
        for _ in range(count)
    ]


def test_a_run_that_was_killed_anywhere_can_be_cancelled(runners):
    """Whoever calls the saga next enters nothing and undoes what was done."""
    verbs = ["call", "cancel", "call"]
    assert runners.wrong(cases(runners, CANCELLED, verbs, 0, judge="cancel"), 40) == {}


def test_a_request_to_cancel_that_is_killed_anywhere_is_made_or_not(runners):
    """Made again it holds; whoever compensates may be killed too."""
    verbs = ["call", "cancel", "cancel", "call", "call"]
    assert runners.wrong(parts(CANCELLED, verbs, (1, 1, 0, 1, 0), 6, judge="cancel"), 30) == {}


def test_going_back_that_is_killed_anywhere_goes_back_to_there(runners):
    """Asked for again it ends where it was asked to, and the run goes on from there."""
    verbs = ["call", "back", "back", "call"]
    assert runners.wrong(cases(runners, GONE_BACK, verbs, 1, judge="back"), 40) == {}


def test_going_on_after_going_back_can_be_killed_anywhere(runners):
    """What is done again is done once more for each kill at most, under one key."""
    verbs = ["call", "back", "call", "call"]
    assert runners.wrong(cases(runners, GONE_BACK, verbs, 2, judge="back"), 30) == {}


def test_a_skip_that_is_killed_anywhere_is_on_record_or_not(runners):
    """Asked for again it is."""
    verbs = ["call", "skip", "skip"]
    assert runners.wrong(cases(runners, ["billed"], verbs, 1, judge="skip"), 40) == {}


@pytest.mark.parametrize(
    ("mutant", "case", "complaint"),
    [
        (
            "lose_letters",
            {"judge": "cancel", "verbs": ["call", "cancel", "call"], "cuts": [0.6, 0, 0]},
            "cancelled, and",
        ),
        ("go_all_the_way", {"judge": "back", "verbs": ["call", "back", "call"], "cuts": [0, 0, 0]}, "not completed"),
    ],
)
def test_a_decision_that_is_forgotten_is_caught(runners, mutant, case, complaint):
    """The judge can say no, and says nothing of the same case without the mutant."""
    _, said = runners.play({"program": "sync", "mutant": mutant, **case})
    assert any(complaint in each for each in said), said
    assert runners.play({"program": "sync", **case})[1] == []
