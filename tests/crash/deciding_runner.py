"""Plays cases in which a person decides: cancels a run, puts it back to a step, skips one. Each process may be killed.

A case names what each process does, and the point at which it is killed: 0 not at all, a part of those it passes.
"""

import json
import sqlite3
import sys
import traceback
from contextlib import closing

from sagadsl import Compensation, Kind, RunConflictError, current, saga, step
from sagadsl._core.journal.sqlite import SqliteJournal
from sagadsl._core.scope import Scope
from tests.crash import sweep_runner as sweeps
from tests.crash.sweep_programs import PROGRAMS, effect, refuse

BACK = {
    "sync": "work",
    "coloured": "awork",
    "nested": "inner/work",
    "retried": "work",
    "probed": "asked",
    "gathered": "pay",
}
"""The step to which a run is put back, by its saga."""


def undo():
    if current().key == "bill#2":
        raise ConnectionError("the bank is closed")
    effect("-")


@step(compensate=Compensation(undo, retries=0))
def bill(name: str):
    effect("+")


@saga(key="k")
def billed():
    for name in "abc":
        bill(name)
    refuse()


PROGRAMS["billed"] = (billed, {"bill", "bill#2", "bill#3"}, 0, None)


def cancel(made, runs, folder):
    """Cancel the run, if there is one that has not ended; note how much had happened by then."""
    if runs and not runs[0].status.is_terminal:
        runs[0].cancel()
        (folder / "asked").write_text(str(len(sweeps.world_of(folder))))


def back(made, runs, folder):
    """Put the run back to a step."""
    sweeps.awaited(runs[0].compensate(to=BACK[made.__name__]))


def skip(made, runs, folder):
    """Skip the step that cannot be compensated; where that is on record already, carry on."""
    try:
        sweeps.awaited(runs[0].compensate(skip="bill#2", why="paid by hand", by="ada"))
    except RunConflictError:
        sweeps.awaited(runs[0].compensate())


sweeps.VERBS.update(cancel=cancel, back=back, skip=skip)


def lose_letters():
    """Say that a letter is posted, and do nothing."""
    SqliteJournal.post = lambda self, letter: True


def go_all_the_way():
    """Forget on the way back how far was asked for."""
    turn = Scope._turn

    def forgetful(self, entry):
        turn(self, entry)
        if entry.kind is Kind.COMPENSATING:
            self.until = 0

    Scope._turn = forgetful


sweeps.MUTANTS.update(lose_letters=lose_letters, go_all_the_way=go_all_the_way)

# -- the judges -------------------------------------------------------------------------------------------------------


def rows(folder, sql):
    with closing(sqlite3.connect(folder / "sagas.db")) as database:
        return database.execute(sql).fetchall()


def cancelled(case, folder, kills):
    """Complain of what is entered once somebody has asked, and of what is not undone."""
    wrong = sweeps.judge(case, folder, kills)
    if (folder / "asked").exists():
        later = sweeps.world_of(folder)[int((folder / "asked").read_text()) :]
        status = rows(folder, "select status, cause from runs where parent is null")
        if any(line[0] == "+" for line in later):
            wrong.append(f"entered after it was cancelled: {later}")
        if status != [("compensated", "cancel")]:
            wrong.append(f"cancelled, and {status}")
    return wrong


def gone_back(case, folder, kills):
    """Complain unless what came after the step alone is undone, then done again under other keys."""
    world, made = sweeps.world_of(folder), BACK[case["program"]]
    (end,) = rows(folder, "select min(seq) from entries where kind = 'completed' and scope = 1")[0]
    intents = rows(folder, "select step, seq from entries where kind = 'intent' and name is not null order by seq")
    at = dict(intents)[made]
    before = [key for key, seq in intents if seq <= at]
    after = [key for key, seq in intents if at < seq < end and key != "end"]
    minus = [line[1:] for line in world if line[0] == "-"]
    last = max(number for number, line in enumerate(world) if line[0] == "-")
    again = {line[1:] for line in world[last:] if line[0] == "+"}
    status = rows(folder, "select status from runs where parent is null")
    undone = [key for key in dict.fromkeys(minus) if key in after]
    wrong = {
        f"{status}, not completed": status != [("completed",)],
        f"undone that came before: {minus}, {before}": bool(set(minus) & set(before)),
        f"not undone, or not in reverse: {minus}, {after}": undone != [k for k in reversed(after) if k in minus]
        or set(minus) != {key for key in after if not key.endswith("end")},
        f"repeated without a reason: {world}": len(minus) - len(set(minus)) > kills,
        f"not all done again, or under the same keys: {again}, {after}": bool(again & {*before, *after})
        or len(again) != len(set(minus)),
    }
    return [complaint for complaint, is_so in wrong.items() if is_so]


def skipped(case, folder, kills):
    """Complain unless it is on record who skipped it and why, and all others are undone."""
    minus = [line[1:] for line in sweeps.world_of(folder) if line[0] == "-"]
    told = rows(folder, "select step, skipped from compensations where skipped is not null")
    status = rows(folder, "select status from runs")
    wrong = {
        f"{status}, not compensated": status != [("compensated",)],
        f"told {told}": told != [("bill#2", "ada: paid by hand")],
        f"undone: {minus}": list(dict.fromkeys(minus)) != ["bill#3", "bill"] or len(minus) > 2 + kills,
    }
    return [complaint for complaint, is_so in wrong.items() if is_so]


JUDGES = {"cancel": cancelled, "back": gone_back, "skip": skipped}


def case_of(case):
    """Play what each process does, to the point at which it is killed; then judge."""
    with sweeps.new_folder(case) as folder:
        cuts = []
        for verb, wanted in zip(case["verbs"], case["cuts"], strict=True):
            cut = 1 + int(wanted * len(sweeps.passed(case, folder, verb))) if isinstance(wanted, float) else wanted
            code = sweeps.ended(case, folder, verb, cut)
            cuts.append(cut)
            if code != (sweeps.KILLED if cut else 0):
                return cuts, [f"{verb} at {cut} ended with {code}", *sweeps.out_of(folder)]
        complaints = JUDGES[case["judge"]](case, folder, sum(map(bool, cuts)))
        return cuts, complaints + (sweeps.out_of(folder) if complaints else [])


def main():
    """Play each case that is asked for; or count the points of its last process."""
    for line in sys.stdin:
        case = json.loads(line)
        try:
            if case.get("count"):
                with sweeps.new_folder(case) as folder:
                    *earlier, verb = case["verbs"]
                    for each in earlier:
                        sweeps.ended(case, folder, each)
                    answer = sweeps.passed(case, folder, verb)
            else:
                answer = case_of(case)
        except BaseException:  # said by the test
            answer = [case.get("cuts"), [traceback.format_exc()]]
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
