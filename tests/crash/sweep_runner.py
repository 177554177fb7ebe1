"""Plays a case for each line of standard input: one process after the other, each but the last killed; then judges it.

The processes are forked from this clean, single-threaded one, so that a case costs milliseconds. Each opens the files
itself, and SIGKILL ends it like any other. The judge is the file that the effects are written to; then the journal has
to agree with it.
"""

import asyncio
import inspect
import json
import os
import select
import shutil
import signal
import sqlite3
import sys
import tempfile
import traceback
from contextlib import closing, contextmanager
from itertools import count, groupby
from pathlib import Path

import sagadsl
from sagadsl._core.codec import Codec
from sagadsl._core.flow import again
from sagadsl._core.journal.locks import Locks
from sagadsl._core.journal.sqlite import SqliteJournal
from sagadsl._core.journal.together import Ticket, Together
from sagadsl._core.runtime import default_runtime, opening
from sagadsl._core.scope import Scope
from sagadsl._core.values import Kind
from tests.crash import forks
from tests.crash.early import hasty
from tests.crash.sweep_programs import PROGRAMS, WIDE, stage
from tests.points import watch

KILLED = -signal.SIGKILL

# -- mutants ----------------------------------------------------------------------------------------------------------


def forget_intents():
    """Record what came of a step, and not that it was entered."""
    append, commit = SqliteJournal.append, SqliteJournal.commit

    def append_outcome(self, log, entry, full):
        if entry.kind is not Kind.INTENT:
            append(self, log, entry, full)

    def commit_outcomes(self, log, entries, **options):
        commit(self, log, [entry for entry in entries if entry.kind is not Kind.INTENT], **options)

    SqliteJournal.append, SqliteJournal.commit = append_outcome, commit_outcomes


def compensate_from_memory():
    """Owe what this process has done, as a list of callbacks does."""
    restore, owed, restored = opening.restore, Scope.owed, []

    def remembering(run, entries):
        scope = restore(run, entries)
        restored.extend(scope.calls())
        return scope

    opening.restore = remembering
    Scope.owed = lambda self: [slot for slot in owed(self) if slot not in restored]


def identify_by_occurrence():
    """Take a call for the one that came as the first, second, third of its name, whatever its arguments."""
    Codec.canonical = lambda self, text: ""
    again.PATIENCE = ()  # or waiting for what is on record hides it


def lock_nothing():
    """Everybody owns every run."""
    Locks.hold = lambda self, *number: True
    Locks.is_held = lambda self, number: False


def wake_early():
    """Tell those who wait for a shared transaction that it is written, and then write it."""
    lead = Together._lead

    def leading(self, own):
        with self._turn:
            others = list(self.waiting)
            self.waiting.clear()
        for ticket in others:
            late = Ticket(ticket.log, ticket.entries, ticket.full)
            late.wake.acquire()
            self.waiting.append(late)
            ticket.is_over = True
            ticket.wake.release()
        lead(self, own)

    Together._lead = leading


def tell_tasks_early():
    """Let tasks go on whose intents are not on record yet."""
    SqliteJournal.write_together = hasty(SqliteJournal.write_together)


MUTANTS = {
    each.__name__: each
    for each in (
        *(forget_intents, compensate_from_memory, identify_by_occurrence, lock_nothing),
        *(wake_early, tell_tasks_early),
    )
}

# -- playing ----------------------------------------------------------------------------------------------------------


def awaited(value):
    async def wait():
        return await value

    return asyncio.run(wait()) if inspect.isawaitable(value) else value


def call(made, runs, folder):
    """Call the saga, if its run has not ended."""
    if not any(run.status.is_terminal for run in runs):
        outcome = awaited(made.outcome())
        (folder / "outcome").write_text(json.dumps(getattr(outcome, "value", None)))


def compensate(made, runs, folder):
    """Compensate its run, if there is one that has not ended."""
    if runs and not runs[0].status.is_terminal:
        awaited(runs[0].compensate())


VERBS = {"call": call, "compensate": compensate}


def play(case, folder, verb, cut, sign):
    """Do what a verb says; the process ends itself at point number *cut*. Leave what was passed."""
    stage.folder, stage.fail = folder, case.get("fail", False)
    stage.play = len(list(folder.glob("played*")))
    (folder / f"played{stage.play}").touch()
    if case.get("mutant"):
        MUTANTS[case["mutant"]]()
    passed, numbers = [], count(1)

    def at(point):
        passed.append(point)
        if next(numbers) == cut:
            os.kill(os.getpid(), sign)
        for _ in range(case.get("crowd", 0)):
            select.select([], [], [], 0)  # let the other threads come, and wait for what this one writes

    sagadsl.configure(store=folder / "sagas.db", durability=case.get("durability", "process"))
    made = PROGRAMS[case["program"]][0]
    with watch(at, default_runtime.drive.__self__):
        runs = sagadsl.runs()
        VERBS[verb](made, runs, folder)
    (folder / "passed").write_text(json.dumps(passed))


def play_or_be_locked(case, folder, *told):
    """Play; who is told that somebody else owns the run says so."""
    try:
        play(case, folder, *told)
    except sagadsl.RunLockedError as error:
        (folder / "locked").write_text(json.dumps([error.host, error.pid, error.since]))
        return 4


def start(case, folder, verb, cut=0, sign=signal.SIGKILL):
    """Play in a child process; return its id."""
    return forks.forked(folder, play_or_be_locked, case, folder, verb, cut, sign)


def ended(*told, **options):
    """Play in a child process to its end; return how it ended, negative for a signal."""
    return forks.waited(start(*told, **options))


def passed(case, folder, verb):
    """Return the points that a play passes which goes on from here, and which nobody disturbs."""
    copy = Path(shutil.copytree(folder, folder.with_name("undisturbed")))
    code = ended(case, copy, verb)
    points = json.loads((copy / "passed").read_text()) if code == 0 else [(copy / "out").read_text()]
    shutil.rmtree(copy)
    return points


@contextmanager
def new_folder(case):
    """Give a folder with a journal that no run is in yet; one without any, if its making is to be swept too."""
    with tempfile.TemporaryDirectory(dir=case["folder"]) as name:
        folder = Path(name) / "world"
        folder.mkdir()
        if not case.get("new"):
            (folder / "sagas.db").write_bytes(forks.EMPTY)
        yield folder


def case_of(case):
    """Play a case: kill a process at each of *cuts* (a number, or a part of those there are), then let one finish."""
    with new_folder(case) as folder:
        cuts = []
        for number, wanted in enumerate(case["cuts"]):
            verb = case["verb"] if number else "call"
            cut = 1 + int(wanted * len(passed(case, folder, verb))) if isinstance(wanted, float) else wanted
            cuts.append(cut)
            code = ended(case, folder, verb, cut)
            if code != KILLED and not (code == 0 and case.get("crowd")):  # threads pass more points at times, or fewer
                return cuts, [f"point {cuts} was not reached: {code}", *out_of(folder)]
        code = ended(case, folder, case["verb"])
        if code:
            return cuts, [f"it ended with {code}", *out_of(folder)]
        complaints = judge(case, folder, len(cuts) * WIDE.get(case["program"], 1))
        return cuts, complaints + (out_of(folder) if complaints else [])


def out_of(folder):
    return [(folder / "out").read_text()] if (folder / "out").exists() else []


def stopped_of(case):
    """Stop an owner at a point, let another process call the saga, and let the owner go on."""
    with new_folder(case) as folder:
        child = start(case, folder, "call", case["cuts"][0], signal.SIGSTOP)
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return case["cuts"], ["the point was not reached"]
        before = world_of(folder)
        code = ended(case, folder, "call")
        told = json.loads((folder / "locked").read_text()) if code == 4 else None
        is_untouched = world_of(folder) == before
        os.kill(child, signal.SIGCONT)
        last = forks.waited(child)
        complaints = judge(case, folder, 0)
        if code != 4 or told[1] != child or not told[0] or not told[2]:
            complaints.append(f"the second process ended with {code} and was told {told}, not of {child}")
        if not is_untouched or last:
            complaints.append(f"robbed: {is_untouched=}, {last=}")
        return case["cuts"], complaints + (out_of(folder) if complaints else [])


# -- the judge --------------------------------------------------------------------------------------------------------


def world_of(folder):
    world = folder / "world"
    return world.read_text().split("\n")[:-1] if world.exists() else []


def judge(case, folder, kills):
    """Return what is wrong with a world, and between it and the journal."""
    _, expected, more, value = PROGRAMS[case["program"]]
    world = world_of(folder)
    if not (folder / "sagas.db").exists():
        return [f"no journal, and {world}"] if world else []
    with closing(sqlite3.connect(folder / "sagas.db")) as database:
        status = dict(database.execute("select 'it', status from runs where parent is null")).get("it")
        attempts = dict(database.execute("select step, attempts from steps"))
        order = [
            step
            for (step,) in database.execute(
                "select step from entries where kind = 'intent' and name is not null order by seq"
            )
        ]
        is_sound = database.execute("pragma integrity_check").fetchall() == [("ok",)]
        mute = database.execute("select count(*) from run where (finished is null) <> (outline is null)").fetchone()[0]
    plus = [line[1:] for line in world if line[0] == "+"]
    minus = [line[1:] for line in world if line[0] == "-"]
    outcome = folder / "outcome"
    backwards = [key for key, _ in groupby(minus)]
    last = {line: at for at, line in enumerate(world)}
    has_ended = {"completed", "compensated"} if world or status else {None}
    wrong = {
        "the file is damaged": not is_sound,
        "a run that has ended does not say how in its row, or one that has not does": mute != 0,
        f"unfinished: {status}": status not in has_ended,
        f"repeated without a reason: {world}": sum(plus.count(k) - 1 for k in set(plus)) > kills + more,
        f"compensated again without a reason: {world}": sum(minus.count(k) - 1 for k in set(minus)) > kills,
        f"entered without an intent: {world}, {attempts}": any(plus.count(k) > attempts.get(k, 0) for k in plus),
        f"compensated what was never entered: {world}": not set(minus) <= set(attempts),
        f"done that is not of this saga: {world}": not set(plus) <= expected,
        f"not in reverse order: {world}, {order}": case["program"] != "caught"
        and backwards != [k for k in reversed(order) if k in minus],
        f"forward after the first compensation: {world}": case["program"] != "caught"
        and any(line[0] == "+" for line in world[next((at for at, line in enumerate(world) if line[0] == "-"), 0) :])
        and bool(minus),
        f"completed, and not all done, or some undone: {world}": status == "completed"
        and (set(plus) != expected or set(minus) - {"failing/work"} != set()),
        f"completed with {outcome.read_text() if outcome.exists() else None}": status == "completed"
        and outcome.exists()
        and json.loads(outcome.read_text()) not in (value, None),
        f"compensated, and not all undone: {world}": status == "compensated"
        and any(last.get(f"-{key}", -1) < last[f"+{key}"] for key in plus),
    }
    return [complaint for complaint, is_so in wrong.items() if is_so]


def main():
    """Play each case that is asked for."""
    for line in sys.stdin:
        case = json.loads(line)
        try:
            if case.get("count"):
                with new_folder(case) as folder:
                    answer = passed(case, folder, "call")
            else:
                answer = (stopped_of if case.get("stop") else case_of)(case)
        except BaseException:  # said by the test
            answer = [case["cuts"], [traceback.format_exc()]]
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
