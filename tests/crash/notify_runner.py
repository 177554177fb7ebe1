"""Plays sagas that somebody is told of: killed anywhere, called again or resumed, then what was told is judged."""

import sqlite3
import sys
from contextlib import closing

import sagadsl
from sagadsl import saga
from sagadsl._core.journal.sqlite import SqliteJournal
from tests.crash import sweep_runner as sweeps
from tests.crash.sweep_programs import PROGRAMS, awork, line, refuse, work


def note(outcome):
    line(f"={outcome.run.status}")


async def anote(outcome):
    note(outcome)


@saga(key="k", notify=note)
def heard():
    work("a")


@saga(key="k", notify=anote)
async def aheard():
    await awork("a")
    return 1


@saga(key="k", notify=note)
def heard_failing():
    work("a")
    refuse()


for each, name, value in ((heard, "work", None), (aheard, "awork", 1), (heard_failing, "work", None)):
    PROGRAMS[each.__name__] = (each, {name}, 0, value)


def go_on(made, runs, folder):
    """Have the program start again: what was cut off goes on, and what was not told is."""
    sagadsl.resume_all([made])
    sweeps.call(made, sagadsl.runs(), folder)


def call_again(made, runs, folder):
    """Call the saga, whatever has become of it."""
    sweeps.awaited(made.outcome())


sweeps.VERBS.update(go_on=go_on, call_again=call_again)


def owe_nothing():
    """Forget that somebody is to be told."""
    commit = SqliteJournal.commit
    SqliteJournal.commit = lambda self, *told, untold=None, **how: commit(self, *told, **how)


sweeps.MUTANTS["owe_nothing"] = owe_nothing

judge_run = sweeps.judge


def judge(case, folder, kills):
    """Complain unless somebody was told how the run ended, once, or twice for a reason, after all that it did."""
    world = sweeps.world_of(folder)
    with closing(sqlite3.connect(folder / "sagas.db")) as database:
        ended = database.execute("select status, notify_owed from runs order by generation").fetchall()
        last = database.execute("select event from timeline order by generation, seq desc limit 1").fetchone()
    told = [each for each in world if each[0] == "="]
    wrong = {
        f"told {told} of {ended}": {f"={status}" for status, _ in ended} != set(told),
        f"told without a reason: {told}": len(told) > len(ended) + kills,
        f"still owed: {ended}": any(owed for _, owed in ended),
        f"not on record: {last}": last != ("notified",),
        f"told before it ended: {world}": world[-1][0] != "=",
    }
    return [complaint for complaint, is_so in wrong.items() if is_so] + (
        judge_run(case, folder, kills) if len(ended) == 1 else []
    )


sweeps.judge = judge

if __name__ == "__main__":
    sys.exit(sweeps.main())
