"""Sagas of every form, really killed before and after everything that they do, then resumed or compensated and judged.

``SAGADSL_SWEEP=all`` plays every case; else a sample is played that the seed gives, which ``SAGADSL_SWEEP=<seed>``
plays again.
"""

import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import pytest

ROOT = Path(__file__).parents[2]
WANTED = os.environ.get("SAGADSL_SWEEP") or str(random.randrange(10**6))  # noqa: S311  # a sample, no secret
IS_WHOLE = WANTED == "all"
DICE = random.Random(WANTED)  # noqa: S311
PROGRAMS = ("sync", "coloured", "nested", "caught", "retried", "late", "probed", "gathered", "tasked")


class Runners:
    """As many runners as processors."""

    def __init__(self, folder, runner="sweep_runner.py"):
        self.folder, self.idle, self.counted = folder, SimpleQueue(), {}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(Path(__file__).with_name(runner))]
        self.processes = [subprocess.Popen(command, env=environment, **pipes) for _ in range(os.cpu_count() or 1)]
        for process in self.processes:
            self.idle.put(process)

    def play(self, case):
        process = self.idle.get()
        try:
            process.stdin.write(json.dumps({"folder": str(self.folder)} | case) + "\n")
            return json.loads(process.stdout.readline())
        finally:
            self.idle.put(process)

    def points(self, **case):
        """Return the points that a play passes."""
        key = json.dumps(case)
        if key not in self.counted:
            self.counted[key] = self.play(case | {"count": 1})
        return self.counted[key]

    def wrong(self, cases, sample):
        """Play cases, or a sample of them; return what the judge says, by case."""
        chosen = cases if IS_WHOLE or len(cases) <= sample else DICE.sample(cases, sample)
        assert chosen
        with ThreadPoolExecutor(len(self.processes)) as pool:
            answers = list(pool.map(self.play, chosen))
        print(f"{len(chosen)} cases of {len(cases)}, SAGADSL_SWEEP={WANTED}")
        return {
            json.dumps(case | {"cuts": cuts}): said for case, (cuts, said) in zip(chosen, answers, strict=True) if said
        }

    def close(self):
        for process in self.processes:
            process.communicate()


@pytest.fixture(scope="module")
def runners(tmp_path_factory):
    runners = Runners(tmp_path_factory.mktemp("sweeps"))
    yield runners
    runners.close()


def once(runners, **told):
    """Return a case for each point at which each program can be killed."""
    return [
        {"program": program, "cuts": [number], **told}
        for program in PROGRAMS
        for number in range(1, len(runners.points(program=program, **{k: told[k] for k in ("fail",) if k in told})) + 1)
    ]


def several(count, each, **told):
    """Return cases with *count* kills, each at a part of the points that the process passes which is killed there."""
    dice = random.Random(f"{WANTED} {count} {told}")  # noqa: S311
    return [
        {"program": program, "cuts": [dice.random() for _ in range(count)], **told}
        for program in PROGRAMS
        for _ in range(each)
    ]


def test_a_saga_killed_anywhere_is_completed_by_calling_it_again(runners):
    assert runners.wrong(once(runners, verb="call"), 54) == {}


def test_a_saga_killed_anywhere_can_be_compensated_instead(runners):
    assert runners.wrong(once(runners, verb="compensate"), 54) == {}


def test_a_failing_saga_killed_anywhere_leaves_nothing(runners):
    """In its steps, in a compensation, between them: by calling it again."""
    assert runners.wrong(once(runners, fail=True, verb="call"), 54) == {}


def test_a_failing_saga_killed_anywhere_can_be_compensated_by_its_id(runners):
    assert runners.wrong(once(runners, fail=True, verb="compensate"), 45) == {}


@pytest.mark.parametrize("verb", ["call", "compensate"])
@pytest.mark.parametrize("fail", [False, True])
def test_a_recovery_that_is_killed_too_is_recovered(runners, verb, fail):
    """Two kills, at parts of the way that the seed gives."""
    assert runners.wrong(several(2, 40 if IS_WHOLE else 1, verb=verb, fail=fail), 10) == {}


@pytest.mark.parametrize("verb", ["call", "compensate"])
def test_three_kills_are_survived(runners, verb):
    assert runners.wrong(several(3, 40 if IS_WHOLE else 1, verb=verb, fail=True), 8) == {}


def test_the_making_of_the_journal_can_be_killed_anywhere(runners):
    """Its tables, its views and its version are there, or nothing of them."""
    points = runners.points(program="sync", new=True)
    made = points.index("after insert into run")
    cases = [
        {"program": "sync", "cuts": [number], "verb": verb, "new": True}
        for number in range(1, made + 2)
        for verb in ("call", "compensate")
    ]
    assert runners.wrong(cases, 40) == {}


# -- threads ----------------------------------------------------------------------------------------------------------

CROWD = {"program": "threaded", "crowd": 400, "durability": "power"}
"""At each point the others are let in."""


def shared(points):
    """Return how many entries the fullest transaction had, of those that opened no run."""
    statements = [point[7:] for point in points if point.startswith("before ")]
    transactions = " ".join(each.replace(" ", "_") for each in statements).split("begin_immediate")[1:]
    written = [each.partition(" commit")[0].split() for each in transactions if " commit" in each]
    return max(each.count("insert_into_entries") for each in written if "insert_into_run" not in each)


@pytest.mark.parametrize("verb", ["call", "compensate"])
@pytest.mark.parametrize("fail", [False, True])
def test_threads_that_write_together_are_killed_anywhere(runners, verb, fail):
    """Nobody begins, and nobody is told of a result, before what all of them wrote is on record."""
    plays = (runners.play(CROWD | {"fail": fail, "count": 1}) for _ in range(200))
    points = next((each for each in plays if shared(each) > 2), None)  # a busy machine may let one in after the other
    assert points  # two are what one thread writes: that its branch begins, and its first step
    cases = [CROWD | {"cuts": [at / len(points)], "verb": verb, "fail": fail} for at in range(len(points))]
    assert runners.wrong(cases, 12) == {}


@pytest.mark.parametrize("verb", ["call", "compensate"])
@pytest.mark.parametrize("fail", [False, True])
def test_tasks_that_write_together_are_killed_anywhere(runners, verb, fail):
    """The same holds for them."""
    case = {"program": "tasked", "fail": fail, "durability": "power"}
    points = runners.points(**case)
    assert shared(points) > 2
    cases = [case | {"cuts": [number], "verb": verb} for number in range(1, len(points) + 1)]
    assert runners.wrong(cases, 20) == {}


# -- owners -----------------------------------------------------------------------------------------------------------


def stops(runners, **told):
    """Return a case for each call of a user's function at which an owner can be stopped."""
    return [
        {"program": program, "cuts": [number], "stop": True, **told}
        for program in PROGRAMS
        for number, point in enumerate(runners.points(program=program), 1)
        if point.split()[1:3] in (["the", "step"], ["the", "probe"])
    ]


def test_an_owner_that_is_stopped_is_never_robbed(runners):
    """Whoever else calls the saga is told of it, and enters nothing; the owner goes on when it is let."""
    assert runners.wrong(stops(runners), 24) == {}


# -- the judge can say no ---------------------------------------------------------------------------------------------


def caught(runners, cases, mutant, complaint):
    """Tell whether the judge says so of a mutant, and says nothing of the same cases without it."""
    answers = [runners.play(case | {"mutant": mutant}) for case in cases]
    assert [runners.play(case)[1] for case in cases] == [[]] * len(cases)
    return any(complaint in said for _, all_said in answers for said in all_said)


def at_steps(runners, program, **told):
    points = runners.points(program=program)
    return [
        {"program": program, "cuts": [number], **told}
        for number, point in enumerate(points, 1)
        if point.startswith("after the step")
    ]


def test_a_journal_without_intents_is_caught(runners):
    """Killed between an effect and its record, the effect is never compensated."""
    cases = at_steps(runners, "sync", verb="compensate")
    assert caught(runners, cases, "forget_intents", "compensated, and not all undone")


def test_compensation_from_memory_is_caught(runners):
    """What an earlier process did is forgotten."""
    cases = at_steps(runners, "sync", verb="compensate")
    assert caught(runners, cases, "compensate_from_memory", "compensated, and not all undone")


def test_identity_by_occurrence_alone_is_caught(runners):
    """Branches that come in another order after the restart get each other's results."""
    cases = at_steps(runners, "gathered", verb="call")
    assert caught(runners, cases, "identify_by_occurrence", "completed")


def test_telling_threads_too_early_that_all_is_written_is_caught(runners):
    """Killed before the shared transaction ends, an effect is there of which nobody knows."""
    told = {"verb": "compensate", "mutant": "wake_early"}
    plays = (runners.play(CROWD | told | {"cuts": [at % 60 / 60]})[1] for at in range(600))
    assert any("entered without an intent" in said for all_said in plays for said in all_said)


def test_telling_tasks_too_early_that_all_is_written_is_caught(runners):
    """Killed before the shared transaction begins, an effect is there of which nobody knows."""
    told = {"program": "tasked", "verb": "compensate", "mutant": "tell_tasks_early"}
    points = len(runners.points(program="tasked"))
    plays = (runners.play(told | {"cuts": [number]})[1] for number in range(1, points + 1))
    assert any("entered without an intent" in said for all_said in plays for said in all_said)


def test_owning_without_a_lock_is_caught(runners):
    """Two live processes run one run."""
    cases = at_steps(runners, "sync", stop=True)
    assert caught(runners, cases, "lock_nothing", "robbed")
