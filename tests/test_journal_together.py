"""Threads that write together: one transaction for all that waited, and each is told what came of its own."""

import threading

import pytest
from statements import connecting

from sagadsl._core.journal import Letter, Log, Overtaken, Taken, Unread
from sagadsl._core.journal.sqlite import SqliteJournal
from sagadsl._core.values import Entry, Kind, RunRow
from sagadsl.errors import JournalError

NOW = 1_700_000_000_000_000


def entry(kind=Kind.FAILED, step="work"):
    return Entry(0, 0, kind, 1, step, None, None, NOW, None, None, None, None)


def row(number):
    return RunRow(0, f"trip/{number}", 1, "trip", "p", "digest", NOW)


class Places:
    """A lock that says when somebody has passed it: who writes takes a place in the queue under it."""

    def __init__(self):
        self.lock, self.passed = threading.Lock(), threading.Semaphore(0)

    def __enter__(self):
        self.lock.acquire()

    def __exit__(self, *_):
        self.lock.release()
        self.passed.release()


class Store:
    """A journal whose statements are known, and that threads find busy for as long as it takes them all to come."""

    def __init__(self, folder):
        self.statements, self.at = [], None
        self.journal = SqliteJournal(folder / "sagas.db", connect=connecting(self.note))
        self.places = self.journal._together._turn = Places()
        self.logs = [Log() for _ in range(5)]
        for number, log in enumerate(self.logs):
            self.journal.commit(log, [entry(Kind.OPENED)], full=True, row=row(number))

    def note(self, sql):
        self.statements.append(sql.split()[0])
        if self.at is not None and sql.startswith(self.at):
            self.at = None
            raise KeyboardInterrupt

    def together(self, *calls):
        """Have calls made in a thread each, which all wait for the same store; return what each raised."""
        raised = [None] * len(calls)

        def act(at):
            try:
                calls[at]()
            except BaseException as error:
                raised[at] = error

        threads = [threading.Thread(target=act, args=(at,)) for at in range(len(calls))]
        with self.journal._guard:
            for thread in threads:
                thread.start()
                self.places.passed.acquire()
            self.statements.clear()
        for thread in threads:
            thread.join()
        return raised

    def append(self, at, **told):
        return lambda: self.journal.append(self.logs[at], entry(**told), full=False)

    def last(self):
        return [self.journal.entries(log.number)[-1].seq for log in self.logs]


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.journal.close()


def test_what_waits_is_written_in_one_transaction(store):
    """And waited for as long as the most careful of them asks."""
    careful = lambda: store.journal.append(store.logs[2], entry(), full=True)  # noqa: E731
    raised = store.together(store.append(0), store.append(1), careful, store.append(3), store.append(4))
    assert raised == [None] * 5
    assert store.statements[:7] == ["begin", *["insert"] * 5, "commit"]
    assert store.journal._full
    assert store.last() == [2] * 5 == [log.seq for log in store.logs]


def test_what_another_one_writes_meanwhile_waits_for_nobody(store):
    """The next to lead is the first of those that came while another wrote."""
    for _ in range(20):
        rounds = [threading.Thread(target=lambda at=at: [store.append(at)() for _ in range(20)]) for at in range(5)]
        for thread in rounds:
            thread.start()
        for thread in rounds:
            thread.join()
    assert store.last() == [401] * 5
    assert not store.journal._together.waiting


def test_whoever_collides_collides_alone(store):
    """Overtaken, turned back or too late to open: nothing of it is written, and the others are."""
    store.journal.append(Log(store.logs[1].number, 1), entry(Kind.TAKEN), full=True)
    store.journal.post(Letter(0, store.logs[2].number, NOW, "cancel", None))
    late, new = Log(), Log()
    raised = store.together(
        store.append(0),
        store.append(1),
        store.append(2, kind=Kind.INTENT),
        lambda: store.journal.commit(late, [entry(Kind.OPENED)], full=True, row=row(3)),
        lambda: store.journal.commit(new, [entry(Kind.OPENED), entry()], full=True, row=row(9)),
        store.append(4),
    )
    assert list(map(type, raised)) == [type(None), Overtaken, Unread, Taken, type(None), type(None)]
    assert store.statements.count("begin") == 1
    assert store.last() == [2, 2, 1, 1, 2]
    assert [log.seq for log in [*store.logs, late, new]] == [2, 1, 1, 1, 2, 0, 2]
    assert late.number == 0
    assert store.journal.is_held(new.number)


def test_what_cannot_be_written_fails_for_its_own_reason(store):
    """The transaction is rolled back, and each is written in one of its own."""
    new = Log()
    raised = store.together(
        store.append(0),
        lambda: store.journal.commit(new, [entry(Kind.OPENED)], full=True, row=row(9)),
        store.append(1, step="\udc00"),
        store.append(2),
    )
    assert list(map(type, raised)) == [type(None), type(None), UnicodeEncodeError, type(None)]
    assert store.last() == [2, 1, 2, 1, 1]
    assert [found.seq for found in store.journal.entries(new.number)] == [1]


@pytest.mark.parametrize("at", ["insert", "commit"])
def test_an_interrupted_writer_leaves_nobody_waiting(store, at):
    """Nothing is on record, and whoever waited is told that only the file can say what is."""

    def leading():
        store.at = at
        store.append(0)()

    raised = store.together(leading, store.append(1), store.append(2))
    assert list(map(type, raised)) == [KeyboardInterrupt, JournalError, JournalError]
    assert "it goes on" in str(raised[1])
    assert store.last() == [1] * 5
    assert store.together(store.append(0), store.append(1)) == [None, None]
    assert store.last() == [2, 2, 1, 1, 1]
