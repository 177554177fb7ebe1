"""Payments in transactions of SQLite and PostgreSQL, killed before and after everything that happens, both ways.

The points are each write of the journal, each thing that is asked of the user's database (its commit among them), and
each body. The judge is the user's table: nothing in it twice, nothing lost. Then the journal must agree.
"""

import json
import os
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from queue import SimpleQueue

import pytest

from tests import databases

KILLED = -9
MOMENTS = ("before", "after")
PLAIN = ["sqlite3 None", "Connection autocommit"]
"""They are tried at each point, forward and back. Without a transaction they commit at once, as the mutant does."""
OTHERS = ["AsyncConnection", "SA Session on sqlite", "SA AsyncSession on postgres"]
SEED = os.environ.get("SAGADSL_SWEEP") or str(random.randrange(10**6))  # noqa: S311  # a sample, no secret


class Runners:
    """As many runners as processors; a place of its own for every world."""

    def __init__(self, folder, postgres):
        self.folder, self.postgres, self.numbers, self.idle = folder, postgres, count(), SimpleQueue()
        command = [sys.executable, str(Path(__file__).with_name("transaction_runner.py"))]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1, "env": environment}
        self.processes = [subprocess.Popen(command, **pipes) for _ in range(os.cpu_count() or 1)]
        for process in self.processes:
            self.idle.put(process)

    def play(self, told):
        """Play in a child process; return how it ended."""
        process = self.idle.get()
        try:
            process.stdin.write(json.dumps(told) + "\n")
            return int(process.stdout.readline())
        finally:
            self.idle.put(process)

    def sweep(self, scenario, points):
        """Play a scenario for each point, on all processors; return what the judge says of each, if anything."""
        with ThreadPoolExecutor(len(self.processes)) as pool:
            verdicts = pool.map(partial(scenario, self), points)
            return {str(point): verdict for point, verdict in zip(points, verdicts, strict=True) if verdict}

    def close(self):
        for process in self.processes:
            process.communicate()


@pytest.fixture(scope="module")
def runners(tmp_path_factory, postgres):
    runners = Runners(tmp_path_factory.mktemp("payments"), postgres)
    yield runners
    runners.close()


class World:
    """A folder with a journal and a database of a kind, in which processes are played one after the other."""

    def __init__(self, runners, kind):
        number = next(runners.numbers)
        self.runners, self.folder = runners, runners.folder / str(number)
        self.folder.mkdir()
        is_file = "sqlite" in kind
        place = "" if is_file else databases.schema(runners.postgres, f"sweep{number}")
        self.told = {"folder": str(self.folder), "kind": kind, "place": place}
        self.database = databases.made(kind, self.folder / "shop.db", place).created()

    def killed(self, told, point):
        """Play, and have the process killed at a point, really."""
        code = self.runners.play(self.told | told | {"cut": point})
        assert code == KILLED, f"the fault at {point} was not reached: {code}\n{(self.folder / 'out').read_text()}"

    def ended(self, told):
        """Play with nobody disturbing; return every point there was."""
        code = self.runners.play(self.told | told)
        assert code == 0, (self.folder / "out").read_text()
        counts = json.loads((self.folder / "points").read_text())
        return [(sort, n, moment) for sort, many in counts.items() for n in range(1, many + 1) for moment in MOMENTS]

    def judge(self, wanted):
        """Return what is wrong with the user's table, and between it and the journal."""
        paid = self.database.paid
        with closing(sqlite3.connect(self.folder / "sagadsl.db")) as journal:
            (status,) = journal.execute("select status from runs").fetchone()
            told = {}
            for view in ("steps", "compensations"):
                ended = "('done', 'compensated')"  # the view of the steps tells what came after, too
                found = journal.execute(f"select step from {view} where status in {ended}")  # noqa: S608
                told[view] = len([step for (step,) in found if step.startswith("pay")])
        done = [item for item in paid if not item.startswith("-")]
        undone = [item for item in paid if item.startswith("-")]
        wrong = {
            f"it ended {status}, with {paid}": (status, paid) != (wanted or PLACED) and (wanted or status != UNDONE[0]),
            f"twice, or lost: {paid}": len(set(paid)) != len(paid),
            f"not compensated: {paid}": status == "compensated" and undone != [f"-{item}" for item in done],
            f"the journal tells of {told}: {paid}": told != {"steps": len(done), "compensations": len(undone)},
        }
        return [complaint for complaint, is_so in wrong.items() if is_so]


PLACED = ("completed", ["a", "b"])
UNDONE = ("compensated", ["-a", "-b", "a", "b"])
GOES_ON = {
    "placed": ({}, {}, PLACED),
    "failing": ({"fail": True}, {"fail": True}, UNDONE),
    "given up": ({}, {"stop": True}, None),
}
"""How a process plays, how the one after it does, and what is there in the end: not said where it depends."""


def swept(kind, how, more, runners, point):
    """Kill at a point, and let a fresh process go on."""
    first, then, wanted = GOES_ON[how]
    world = World(runners, kind)
    world.killed(first | more, point)
    world.ended(then | more)
    return world.judge(wanted)


def some_of(points, number, what):
    """Return all points if SAGADSL_SWEEP=all, else some, chosen by a seed: as many of each sort as there are."""
    if SEED == "all":
        return points
    drawn, seen = random.Random(f"{SEED} {what}").sample(points, len(points)), Counter()  # noqa: S311

    def turn(point):
        seen[point[0]] += 1
        return seen[point[0]]

    return sorted(drawn, key=turn)[:number]


def killed_twice(kind, how, runners, point):
    """Kill at a point, kill the process that goes on at one of its own, and let a third one end it."""
    first, then, wanted = GOES_ON[how]
    undisturbed = World(runners, kind)
    undisturbed.killed(first, point)
    seconds = undisturbed.ended(then)
    complaints = [] if seconds else undisturbed.judge(wanted)
    for second in some_of(seconds, 1, point):
        world = World(runners, kind)
        world.killed(first, point)
        world.killed(then, second)
        world.ended(then)
        complaints += [(second, complaint) for complaint in world.judge(wanted)]
    return complaints


@pytest.mark.parametrize("how", GOES_ON)
@pytest.mark.parametrize("kind", [*PLAIN, *OTHERS])
def test_payments_killed_anywhere_happen_once(kind, how, runners):
    """And are undone once, if they are."""
    points = World(runners, kind).ended(GOES_ON[how][0])
    assert len(points) > (49 if "Async" in kind else 50)  # tasks write the opening together with what follows
    assert {sort for sort, _, _ in points} == {"write", "operation", "body"}
    chosen = points if kind in PLAIN and how == "failing" else some_of(points, 12, f"{kind} {how}")
    assert runners.sweep(partial(swept, kind, how, {}), chosen) == {}, f"SAGADSL_SWEEP={SEED}"


@pytest.mark.parametrize("kind", PLAIN)
def test_a_recovery_of_payments_killed_anywhere_is_recovered(kind, runners):
    """Each first kill with each second one if SAGADSL_SWEEP=all, else a sample."""
    points = some_of(World(runners, kind).ended({"fail": True}), 15, kind)
    assert runners.sweep(partial(killed_twice, kind, "failing"), points) == {}, f"SAGADSL_SWEEP={SEED}"


@pytest.mark.parametrize("kind", PLAIN)
def test_the_judge_catches_steps_without_a_transaction(kind, runners):
    """They pay twice where a process is killed between a payment and its record, as they must."""
    more = {"mutant": True}
    points = World(runners, kind).ended({"fail": True} | more)
    paid = [(sort, number, moment) for sort, number, moment in points if (sort, moment) == ("body", "after")]
    found = runners.sweep(partial(swept, kind, "failing", more), paid)
    assert "twice, or lost: ['-a', '-b', 'a', 'a', 'b']" in [
        each for complaints in found.values() for each in complaints
    ]
    assert any("'-b', '-b'" in each for complaints in found.values() for each in complaints)
