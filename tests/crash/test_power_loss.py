"""The power fails at every moment of a workload, and each durability level keeps its promise.

The workload, in part two threads or tasks that write together, runs once, on a disk that notes what SQLite writes and
what is synced, by the journal itself or by SQLite.
After each operation the machine may lose its power: that gives crash images, of which each is opened by the library
through the other SQLite, compared with what was acknowledged before that moment, and taken to an end. The judge of that
is the world: the effects that had happened.

A seeded sample is judged; with SAGADSL_SWEEP=all every image is, some 2,000 a level, and SAGADSL_SWEEP=<number> repeats
a sample.
"""

import asyncio
import os
import random
from collections import Counter
from functools import partial
from threading import Thread

import pytest

import sagadsl
from crash.disk import Disk, Model, written
from crash.early import hasty
from crash.workload import RUN, SAGAS, Cut, Stage, aplay, awaited, judge, play, recorded_effects
from sagadsl._core.journal.sqlite import SqliteJournal
from sagadsl._core.settings import DURABILITY
from sagadsl._core.values import Kind

POLICIES = {"all": 1, "synced": 1, "subset": 2, "torn": 2}
SAMPLE = 150
SWEEP = os.environ.get("SAGADSL_SWEEP") or str(random.randrange(10**6))  # noqa: S311  # a sample, no secret
OFF = dict.fromkeys(("pragma synchronous = full", "pragma synchronous = normal"), ("pragma synchronous = off", None))
ROLLBACK = {"pragma journal_mode = wal": ("pragma journal_mode = delete", [("wal",)])}


class Recording:
    """A workload that was run on a disk, and what its journal holds at the end; *log_file* syncs, or else SQLite."""

    def __init__(self, folder, level, answers=None, how="threads", log_file=Disk.log_file):
        self.disk, self.how = Disk(answers), how
        self.log_file = log_file and partial(log_file, self.disk)
        self.disk.autocheckpoint = 12
        self.disk.turn = lambda: [os.sched_yield() for _ in range(20)]  # the other thread comes, and waits
        self.shared = []  # by how many each transaction was shared
        folder.mkdir()
        self.path = folder / "sagas.db"
        for runs, cut in ((("good", "bad"), None), (("cut",), "hotel"), (("cut",), None)):
            Stage.happened = lambda effect: self.disk.mark("effect", RUN.get(), effect)
            Stage.cut = cut
            self.play(level, runs)
        reader = SqliteJournal(self.path, connect=self.disk.connect)
        self.history = {row.id: [facts(e) for e in reader.entries(row.number)] for row in reader.runs()}
        reader.close()
        assert {run: len(entries) > 8 for run, entries in self.history.items()} == dict.fromkeys(SAGAS, True)

    def play(self, level, runs):
        """Run sagas at the same time in what is a process of its own: another connection, which is closed then."""
        journal = SqliteJournal(self.path, connect=self.disk.connect, log_file=self.log_file)
        write = journal._write
        journal._together.write = journal._write = lambda tickets: (self.shared.append(len(tickets)), write(tickets))
        runtime = sagadsl.Runtime(
            store=journal,
            durability=level,
            observers=(lambda entry: self.disk.mark("acknowledged", entry.run, entry.seq, entry.kind),),
            sleep=lambda _: None,
            asleep=lambda _: None,
        )
        came = {}

        def body(run):
            try:
                came[run] = play(runtime, run)
            except Cut:
                came[run] = "cut off"
            self.disk.mark("ended", run)

        async def abody(run):
            try:
                came[run] = await aplay(runtime, run)
            except Cut:
                came[run] = "cut off"
            self.disk.mark("ended", run)

        async def main():
            await asyncio.gather(*(abody(run) for run in runs))

        if self.how == "tasks":
            asyncio.run(main())
        else:
            threads = [Thread(target=body, args=(run,)) for run in runs]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert all(came[run] in ({"good": 4, "bad": "broken", "cut": 4}[run], "cut off") for run in runs), came
        journal.close()

    def go_on(self, runtime, run):
        """Call a run's saga again."""
        return awaited(aplay(runtime, run) if self.how == "tasks" else play(runtime, run))

    def moments(self, seed):
        """Yield each moment as crash images: its number, the policy, the image, and what had happened before it."""
        model, marks = Model(), []
        for number, (kind, *told) in enumerate(self.disk.operations):
            if kind == "mark":
                marks.append(told)
            else:
                model.apply((kind, *told))
            for policy, count in POLICIES.items():
                for at in range(count):
                    rng = random.Random(f"{seed} {number} {policy} {at}")  # noqa: S311
                    yield (number, policy, at), model, marks, rng


def facts(entry):
    return (entry.seq, entry.kind, entry.step, entry.arguments, entry.result)


def expected(history, marks, run, kinds):
    """Return how many entries of a run must be there if those of *kinds* wait for the disk; the first always do."""
    seqs = [seq for what, who, *rest in marks if (what, who) == ("acknowledged", run) for seq, kind in [rest]
            if kind in kinds or history[run][seq - 2][1] is Kind.OPENED]  # fmt: skip
    return max(seqs, default=0)


def verdict(recording, folder, policy, marks, rng, promise):
    """Open an image, compare it with what was promised, end its runs; return what is wrong."""
    lossless = policy == "all"
    kinds = frozenset(Kind) if lossless else DURABILITY[promise]
    is_kept = lossless or promise != "process"  # or else the world may know more than the file
    complaints = []
    journal = SqliteJournal(folder / "sagas.db")
    runtime = sagadsl.Runtime(store=journal, durability="process", sleep=lambda _: None, asleep=lambda _: None)
    try:
        rows = {row.id: row for row in journal.runs()}
        for run in SAGAS:
            effects = [told[2] for told in marks if told[:2] == ["effect", run]]
            entries = journal.entries(rows[run].number) if run in rows else []
            found = [facts(entry) for entry in entries]
            if found != recording.history[run][: len(found)]:
                complaints.append(f"{run}: what is there was never written: {found}")
            wanted = expected(recording.history, marks, run, kinds)
            if len(found) < wanted:
                complaints.append(f"{run}: of {wanted} acknowledged entries {len(found)} are there")
            if not found:
                if effects and is_kept:
                    complaints.append(f"{run}: nobody knows of {effects}")
                continue
            ended = [*effects]
            Stage.happened, Stage.cut = ended.append, None
            found_run = runtime.find(run)
            if not found_run.status.is_terminal:
                recording.go_on(runtime, run) if rng.random() < 0.5 else awaited(found_run.compensate())
            if not runtime.find(run).status.is_terminal:
                complaints.append(f"{run}: has not ended")
            if is_kept:
                repeats = 1 + sum(told[:2] == ["ended", run] for told in marks)
                complaints += [
                    f"{run}: {c}" for c in judge(run, ended, recorded_effects(entries), len(effects), repeats)
                ]
    except Exception as error:  # of a file that is not sound
        complaints.append(f"{type(error).__name__}: {error}")
    finally:
        journal.close()
    return complaints


def sweep(recording, promise, folder, sample=None, enough=None):
    """Judge crash images until *enough* are wrong; return how many, and what is wrong by moment."""
    chosen = None
    if sample is not None:
        every = sum(POLICIES.values()) * len(recording.disk.operations)
        chosen = set(random.Random(SWEEP).sample(range(every), min(sample, every)))  # noqa: S311
    wrong, judged = {}, Counter()
    for number, (name, model, marks, rng) in enumerate(recording.moments(SWEEP)):
        if chosen is not None and number not in chosen:
            continue
        judged[name[1]] += 1
        image = written(model.image(name[1], rng), folder / f"{number}")
        complaints = verdict(recording, image, name[1], marks, rng, promise)
        for path in image.iterdir():
            path.unlink()
        image.rmdir()
        if complaints:
            wrong[name] = complaints
        if len(wrong) == enough:
            break
    return judged, wrong


def shared(folder, level, how, log_file):
    """Return a recording in which some have written together: threads do not always meet."""
    for number in range(100):
        recording = Recording(folder / f"recorded{number}", level, how=how, log_file=log_file)
        if max(recording.shared) > 1:
            return recording
    pytest.fail("nobody ever met")


@pytest.mark.parametrize("level", sorted(DURABILITY))
@pytest.mark.parametrize(("how", "log_file"), [("threads", Disk.log_file), ("tasks", Disk.log_file), ("threads", None)])
def test_a_level_keeps_its_promise_whenever_the_power_fails(level, how, log_file, tmp_path):
    """Sound always; *power* forgets no intent and no end, *power-strict* nothing; after SIGKILL no level forgets."""
    recording = shared(tmp_path, level, how, log_file)
    judged, wrong = sweep(recording, level, tmp_path, None if SWEEP == "all" else SAMPLE)
    print(f"{level}: {sum(judged.values())} images {dict(judged)}, SAGADSL_SWEEP={SWEEP}")
    assert wrong == {}, f"SAGADSL_SWEEP={SWEEP}"
    assert SWEEP != "all" or sum(judged.values()) >= 1500


def never(disk, path):
    """Return what never syncs the log."""
    log = disk.log_file(path)
    log.sync = lambda: None
    return log


MUTANTS = {
    "the log is never synced": ("power", None, "power", never),
    "nothing is ever synced": ("power", OFF, "power", never),
    "nothing is ever synced by SQLite": ("power", OFF, "power", None),
    "nothing is ever synced, and nothing promised": ("process", OFF, "process", never),
    "a rollback journal": ("power-strict", ROLLBACK, "power-strict", None),
    "process, sold as power": ("process", None, "power", Disk.log_file),
    "power, sold as power-strict": ("power", None, "power-strict", Disk.log_file),
}


@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_the_judge_catches_a_journal_that_promises_too_much(mutant, tmp_path):
    level, answers, promise, log_file = MUTANTS[mutant]
    recording = Recording(tmp_path / "recorded", level, answers, log_file=log_file)
    _, wrong = sweep(recording, promise, tmp_path, 400, enough=3)
    assert wrong, f"SAGADSL_SWEEP={SWEEP}"
    assert "all" not in {policy for _, policy, _ in wrong}  # SIGKILL forgives even them


def test_the_judge_catches_outcomes_that_are_synced_instead_of_intents(tmp_path, monkeypatch):
    """The wrong way round: as many syncs as *power*, and effects that nobody knows of."""
    monkeypatch.setitem(DURABILITY, "process", DURABILITY["power-strict"] - {Kind.INTENT, Kind.COMPENSATION_INTENT})
    recording = Recording(tmp_path / "recorded", "process")
    _, wrong = sweep(recording, "power", tmp_path, 400, enough=10)
    assert any("acknowledged" in complaint or "nobody" in complaint for each in wrong.values() for complaint in each)


def test_the_judge_catches_a_log_that_is_synced_before_the_commit(tmp_path, monkeypatch):
    """As often, and a moment too early: what was acknowledged is not on the disk."""

    def insert(journal, log, entry, full=None):
        if full and journal._sync is not None:
            journal._sync()
        honest(journal, log, entry, None if full is None else False)

    honest = SqliteJournal._insert
    monkeypatch.setattr(SqliteJournal, "_insert", insert)
    recording = Recording(tmp_path / "recorded", "power")
    _, wrong = sweep(recording, "power", tmp_path, 400, enough=10)
    assert any("acknowledged" in complaint or "nobody" in complaint for each in wrong.values() for complaint in each)


def test_the_judge_catches_a_store_that_tells_tasks_too_early(tmp_path, monkeypatch):
    """Their functions are entered while the intents are not on the disk."""
    monkeypatch.setattr(SqliteJournal, "write_together", hasty(SqliteJournal.write_together))
    recording = Recording(tmp_path / "recorded", "power", how="tasks")
    _, wrong = sweep(recording, "power", tmp_path, 400, enough=10)
    assert any("acknowledged" in complaint or "nobody" in complaint for each in wrong.values() for complaint in each)
