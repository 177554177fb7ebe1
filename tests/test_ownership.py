"""One living owner a run: what another one is told, what taking it by force does, and who may enter afterwards."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import sagadsl
from sagadsl import RunLockedError, RunLostError
from sagadsl._core.values import Kind


class Play:
    """A saga whose second step waits until it is let go, played in a thread of its own."""

    def __init__(self, runtime, world, name):
        self.waits, self.go, self.ended = threading.Event(), threading.Event(), []

        @sagadsl.step(compensate=lambda: world.add("-first"), name="first")
        def first() -> None:
            world.add("first")

        @sagadsl.step(compensate=None, name="second")
        def second() -> None:
            world.add(f"second:{name}")
            self.waits.set()
            assert self.go.wait(30)

        @sagadsl.saga(name="owned", key="k", runtime=runtime)
        def owned() -> str:
            first()
            second()
            return name

        self.saga = owned

    def start(self, **options):
        """Call the saga in a thread, and wait until it stands in its second step."""

        def body():
            try:
                self.ended.append(self.saga.using(**options)())
            except sagadsl.SagaError as error:
                self.ended.append(error)

        self.thread = threading.Thread(target=body, daemon=True)
        self.thread.start()
        assert self.waits.wait(30)
        return self

    def end(self):
        """Let it go on; return its value or its error."""
        self.go.set()
        self.thread.join(30)
        return self.ended[0]


@pytest.fixture
def play(make_runtime, world):
    """Give a maker of plays on one store, each with a runtime of its own."""
    return lambda name: Play(make_runtime(), world, name)


def test_a_second_caller_is_told_who_has_the_run(play):
    """With host, pid and since when."""
    first = play("a").start()
    with pytest.raises(RunLockedError) as caught:
        play("b").saga()
    assert caught.value.pid > 0
    assert caught.value.host
    assert caught.value.since.startswith("20")
    assert first.end() == "a"


def test_who_goes_on_with_a_run_is_its_owner_before_it_has_written_anything(colour, make_runtime, world):
    """Also while it computes between two steps: else who asks would be sent after a process that is dead."""
    left, seen = [True], []

    @colour.step(compensate=None, name="first")
    def first() -> None:
        world.add("first")

    @colour.saga(name="owned", key="k")
    def owned():
        yield first()
        if left.pop():
            raise KeyboardInterrupt
        run = make_runtime().find("owned/k")
        seen.append((run.is_live, [entry.kind for entry in make_runtime().journal().entries(1)][-1]))
        left.append(False)

    with pytest.raises(KeyboardInterrupt):
        colour.call(owned.using(runtime=make_runtime()))
    left.append(False)
    colour.call(owned.using(runtime=make_runtime()))
    assert seen == [(True, Kind.TAKEN)]
    assert world == ["first"]


def test_who_was_robbed_stops_and_nobody_else_can_enter(play, world, make_runtime):
    """The thief is the owner: not even the end of the old owner lets a third one in."""
    old = play("a").start()
    thief = play("b").start(steal=True)
    assert isinstance(old.end(), RunLostError)
    with pytest.raises(RunLockedError):
        play("c").saga()
    assert make_runtime().runs()[0].is_live
    assert thief.end() == "b"
    assert world == ["first", "second:a", "second:b"]
    run = make_runtime().runs()[0]
    assert (run.status, run.is_live) == ("completed", False)


def test_a_thief_can_be_robbed_too(play, world):
    """Each take-over moves the lock once more."""
    plays = [play("a").start(), *(play(name).start(steal=True) for name in "bc")]
    assert isinstance(plays[0].end(), RunLostError)
    assert isinstance(plays[1].end(), RunLostError)
    with pytest.raises(RunLockedError):
        play("d").saga()
    assert plays[2].end() == "c"
    assert world == ["first", "second:a", "second:b", "second:c"]


def test_stealing_what_nobody_holds_is_an_ordinary_resumption(world, make_runtime):
    """No force is needed, and the lock stays where it was."""
    cut = [True]

    @sagadsl.step(compensate=None)
    def first() -> None:
        world.add("first")
        if cut:
            raise KeyboardInterrupt

    @sagadsl.saga(key="k", runtime=make_runtime())
    def owned() -> str:
        first()
        return "b"

    with pytest.raises(KeyboardInterrupt):
        owned()
    cut.clear()
    assert owned.using(steal=True)() == "b"
    assert world == ["first", "first"]
    assert [row.thefts for row in make_runtime().journal().runs()] == [0]


def test_an_owner_that_writes_while_it_is_robbed_is_robbed_all_the_same(play, world, make_runtime, monkeypatch):
    """The take-over collides with its entry, reads again, and tries again."""
    old = play("a").start()
    thief = play("b")
    journal = thief.saga._self_spec.runtime.journal()
    commit, collided = journal.commit, []

    def late(log, entries, **options):
        if options.get("stolen") and not collided:
            collided.append(1)
            at = journal.entries(log.number)[-1]
            written = sagadsl._core.journal.Log(log.number, log.seq)
            entry = sagadsl.Entry(0, 0, Kind.DONE, at.scope, at.step, at.seq, 1, at.at, None, None, None, "null")
            make_runtime().journal().append(written, entry, full=False)
        return commit(log, entries, **options)

    monkeypatch.setattr(journal, "commit", late)
    assert thief.saga.using(steal=True)() == "b"
    assert collided
    assert isinstance(old.end(), RunLostError)
    assert world == ["first", "second:a"]


def test_of_two_thieves_one_wins(play, world, make_runtime):
    """The other is told of the owner, and nothing of the run is touched."""
    old = play("a").start()
    journal = make_runtime().journal()
    row = journal.runs()[0]
    assert journal.hold(row.lock + (1 << 40))  # a thief that has not said so yet
    with pytest.raises(RunLockedError):
        play("b").saga.using(steal=True)()
    journal.release(row.lock + (1 << 40))
    assert old.end() == "a"
    assert world == ["first", "second:a"]


def test_a_row_that_is_out_of_date_is_read_again(play, make_runtime):
    """Between reading and holding, a run may have been robbed: its old place says nothing any more."""
    from sagadsl._core.ownership import Tenure, hold

    old = play("a").start()
    journal = make_runtime().journal()
    stale = journal.runs()[0]
    thief = play("b").start(steal=True)
    assert isinstance(old.end(), RunLostError)
    assert hold(Tenure(), journal, stale) is None
    assert thief.end() == "b"
    held = hold(Tenure(), journal, stale)
    assert held is not None
    assert held.thefts == 1
    journal.release(held.lock)


def test_a_store_whose_runs_have_ended_keeps_no_lock_file_open(tmp_path):
    """A program may use many stores, one after the other."""

    def open_files():
        return {os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()}

    for number in range(3):
        path = tmp_path / f"{number}.db"

        @sagadsl.saga(runtime=sagadsl.Runtime(path))
        def trip(path: str) -> bool:
            sagadsl.now()
            return f"{path}-lock" in open_files()

        assert trip(str(path))
        assert f"{path}-lock" not in open_files()


def test_an_owner_on_another_host_is_not_this_process_whatever_its_number():
    """Two containers each have a process 1."""
    told = str(sagadsl.RunLockedError("trip/1", "elsewhere", os.getpid(), "2026-11-28"))
    assert "this process" not in told
    assert "using(steal=True)" in told
