"""A journal in a file and one in memory give the same answers to the same questions, in any order."""

import atexit
import contextlib
import functools
import shutil
import sqlite3
import tempfile
from pathlib import Path

import attrs
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from sagadsl._core.journal import Letter, Log, Overtaken, Taken, Unread
from sagadsl._core.journal.memory import MemoryJournal
from sagadsl._core.journal.sqlite import SqliteJournal
from sagadsl._core.values import Entry, Kind, RunRow

IDS = st.sampled_from(["a", "a/1", "a%", "b", "A"])
WORDS = st.sampled_from(["x", "y"])
TEXTS = st.none() | st.sampled_from(["{}", '"\\ud800"', "[1,2]"])
KINDS = st.sampled_from(list(Kind))
NUMBERS = st.integers(1, 6)


def entries(size):
    """Return lists of what may be written."""
    one = st.tuples(KINDS, WORDS, TEXTS, TEXTS, st.integers(0, 2**60))
    return st.lists(one, min_size=1, max_size=size)


def made(told):
    return [
        Entry(0, 0, kind, 0, step, None, None, at, None, None, arguments, result)
        for kind, step, arguments, result, at in told
    ]


def answer(function, *arguments, **options):
    """Return what a store says, an exception included."""
    try:
        return function(*arguments, **options)
    except (Overtaken, Taken, Unread) as error:
        return type(error).__name__


@functools.cache
def template():
    """Return a new file with nothing in it, so that not each example has to make one."""
    path = Path(tempfile.mkdtemp()) / "template.db"
    journal = SqliteJournal(path)
    journal.post(Letter(0, 0, 1, "signal", None))
    journal._execute("delete from letters")
    journal._execute("update sqlite_sequence set seq = 0")
    journal.close()
    atexit.register(shutil.rmtree, path.parent)
    return path


class TwoJournals(RuleBasedStateMachine):
    """Every rule is done to both; every answer is compared."""

    logs = Bundle("logs")

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        shutil.copy(template(), self.folder / "s.db")
        self.file, self.memory = self.open(), MemoryJournal()

    def open(self):
        return SqliteJournal(self.folder / "s.db")

    def both(self, name, *arguments, **options):
        answers = [answer(getattr(journal, name), *arguments, **options) for journal in (self.file, self.memory)]
        assert answers[0] == answers[1]
        return answers[0]

    def written(self, name, pair, told, **options):
        """Write the same with both logs, which stay equal."""
        answers = []
        for journal, log in zip((self.file, self.memory), pair, strict=True):
            facts = {n: attrs.evolve(v) if isinstance(v, RunRow) else v for n, v in options.items()}
            given = made(told) if name == "commit" else made(told)[0]
            answers.append((answer(getattr(journal, name), log, given, **facts), log.number, log.seq))
        assert answers[0] == answers[1]

    def is_there(self, pair):
        """Tell whether a run was opened and not removed since: who removes one holds it, so nobody else writes."""
        return any(row.number == pair[0].number for row in self.memory.runs())

    @rule(target=logs, id=IDS, generation=st.integers(1, 2), saga=WORDS, digest=WORDS, told=entries(2))
    def open_run(self, id, generation, saga, digest, told):
        pair = (Log(), Log())
        self.written("commit", pair, told, full=True, row=RunRow(0, id, generation, saga, "p", digest, 5))
        return pair

    @rule(pair=logs, told=entries(1), full=st.booleans())
    def append(self, pair, told, full):
        if self.is_there(pair):
            self.written("append", pair, told, full=full)

    @rule(
        pair=logs,
        told=entries(3),
        finished=st.none() | st.booleans(),
        untold=st.none() | st.booleans(),
        outline=st.none() | WORDS,
    )
    def commit(self, pair, told, finished, untold, outline):
        if self.is_there(pair):
            self.written("commit", pair, told, full=False, finished=finished, untold=untold, outline=outline)

    @rule(target=logs, pair=logs, back=st.integers(0, 2))
    def fall_behind(self, pair, back):
        return tuple(Log(log.number, max(0, log.seq - back)) for log in pair)

    @rule(number=NUMBERS, payload=TEXTS)
    def post(self, number, payload):
        letters = [Letter(0, number, 1, "signal", payload) for _ in range(2)]
        assert self.file.post(letters[0]) is self.memory.post(letters[1])
        assert letters[0].letter == letters[1].letter

    @rule(pair=logs, told=entries(2))
    def act_on_letters(self, pair, told):
        if self.is_there(pair):
            read = [letter for letter in self.memory.letters(pair[0].number) if letter.seq is None]
            self.written("commit", pair, told, full=False, read=read)

    @rule(number=NUMBERS, what=st.sampled_from(["hold", "release", "is_held"]))
    def own(self, number, what):
        self.both(what, number)

    @rule(
        id=st.none() | IDS,
        prefix=st.none() | IDS,
        saga=st.none() | WORDS,
        digest=st.none() | WORDS,
        unfinished=st.booleans(),
        untold=st.booleans(),
    )
    def find(self, **wanted):
        found = [[attrs.astuple(r) for r in j.runs(**wanted)] for j in (self.file, self.memory)]
        assert found[0] == found[1]

    @rule(numbers=st.sets(NUMBERS, max_size=3))
    def remove(self, numbers):
        self.both("remove", numbers)
        self.both("shrink")

    @rule()
    def reopen(self):
        self.file.close()
        self.file = self.open()

    @invariant()
    def say_the_same(self):
        numbers = range(1, 7)
        for name, facts in (("entries", attrs.astuple), ("letters", vars)):
            said = [[[facts(x) for x in getattr(j, name)(n)] for n in numbers] for j in (self.file, self.memory)]
            assert said[0] == said[1]
        assert [self.file.is_held(n) for n in numbers] == [self.memory.is_held(n) for n in numbers]

    def teardown(self):
        for number in range(1, 30):
            self.file.release(number)
        self.file.close()
        path = self.folder / "s.db"
        if path.exists():
            with contextlib.closing(sqlite3.connect(path)) as shell:
                assert shell.execute("pragma integrity_check").fetchone() == ("ok",)
        shutil.rmtree(self.folder)


def test_the_file_and_the_memory_give_the_same_answers():
    """Open, append, commit, collide, hold, post, find, reopen: SQLite journal = memory journal."""
    run_state_machine_as_test(TwoJournals, settings=settings(max_examples=150, stateful_step_count=15, deadline=None))


class Forgetful(MemoryJournal):
    """A mutant: it does not notice that it was overtaken."""

    def append(self, log, entry, full):
        log.seq = len(self._entries[log.number])
        super().append(log, entry, full)


def test_a_journal_that_overlooks_a_collision_is_caught(monkeypatch):
    """The harness above can fail."""
    monkeypatch.setitem(globals(), "MemoryJournal", Forgetful)
    options = {"max_examples": 1000, "stateful_step_count": 15, "deadline": None, "database": None}
    quiet = settings(**options, derandomize=True, phases=[Phase.generate])  # the same each time
    try:
        run_state_machine_as_test(TwoJournals, settings=quiet)
    except AssertionError:
        return
    msg = "the mutant survived"
    raise AssertionError(msg)
