"""Tasks that write together: one sync for all that was handed in in a turn, and each is told what came of its own."""

import asyncio
import gc
import logging
import sqlite3
from collections import Counter
from contextvars import ContextVar

import pytest
from statements import connecting, log_file

from sagadsl import PIVOT, Runtime, saga, step
from sagadsl._core.drive.company import NOBODY, Company
from sagadsl._core.journal import Letter, Log
from sagadsl._core.journal.memory import MemoryJournal
from sagadsl._core.journal.sqlite import SqliteJournal
from sagadsl._core.scope import CURRENT
from sagadsl._core.values import Entry, Kind, RunRow
from sagadsl.errors import JournalError, RunCancelledError, RunLockedError, RunLostError

TASKS = 64


class Statements(list):
    """What a file is told, and what happens *before* the next statement of a kind; *wide* is its longest row."""

    before = then = None
    wide = 0

    def connect(self, *args, **options):
        def before(sql):
            if self.before is not None and sql.startswith(self.before):
                self.strike()

        connection = connecting(before, self.note)(*args, **options)
        if self.wide:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, self.wide)
        return connection

    def note(self, sql):
        self.append(sql if sql.startswith("pragma") else sql.split()[0])

    def strike(self):
        self.before = None
        self.then()

    def plan(self, then, *, before=None):
        self.then, self.before = then, before

    def commits(self):
        """Count the transactions, and those that wait for the disk."""
        found, synced, is_full, is_open = 0, self.count("sync"), True, False
        for each in self:
            if each.startswith("pragma synchronous"):
                is_full = "full" in each
            elif each in {"begin", "commit"}:
                is_open = each == "begin"
            if each == "commit" or (each == "insert" and not is_open):
                found, synced = found + 1, synced + is_full
        return found, synced


@pytest.fixture
def statements(monkeypatch):
    statements = Statements()
    monkeypatch.setattr(SqliteJournal, "connect", statements.connect)
    monkeypatch.setattr(SqliteJournal, "log_file", log_file(lambda _: statements.append("sync")))
    return statements


@pytest.fixture
def runtime(tmp_path, statements):
    return Runtime(tmp_path / "sagas.db")


@pytest.fixture
def play(runtime, world):
    """Run bodies as sagas ``trip0``, ``trip1`` … in one loop each task of its own; return what each gave or raised."""

    async def undo(name):
        world.add(f"-{name}")

    @step(compensate=undo)
    async def work(name, more=""):
        world.add(name)
        return name

    class Play:
        def __init__(self):
            self.work, self.tasks = work, []

        def __call__(self, *bodies):
            async def main():
                made = [saga(name=f"trip{at}", key="k")(body).using(runtime=runtime) for at, body in enumerate(bodies)]
                self.tasks = [asyncio.ensure_future(each()) for each in made]
                return await asyncio.gather(*self.tasks, return_exceptions=True)

            return asyncio.run(main())

        async def several(self):
            for at in range(6):
                await work(f"other{at}")
            return "ended"

        def run(self, at):
            return runtime.find(f"trip{at}/k")

        def steps(self, at):
            return [(step.key, step.status) for step in self.run(at).steps]

        def cancel(self, at):
            """Return what cancels a task, in the turn of the loop after the present one."""
            return lambda: asyncio.get_running_loop().call_soon(self.tasks[at].cancel)

    return Play()


# -- what is shared ----------------------------------------------------------------------------------------------------


def test_sixty_four_tasks_share_their_syncs_and_their_transactions(runtime, statements):
    """At most one sync for ten steps, their openings and ends counted in; outcomes share a transaction as well."""

    @step(compensate=None)
    async def work(name):
        return name

    @saga(resume="never")
    async def trip(name, steps):
        return [await work(f"{name}.{at}") for at in range(steps)]

    async def main():
        return await asyncio.gather(*(trip.using(runtime=runtime)(name, 50) for name in range(TASKS)))

    assert asyncio.run(main()) == [[f"{name}.{at}" for at in range(50)] for name in range(TASKS)]
    commits, syncs = statements.commits()
    assert 50 <= syncs <= 0.05 * 50 * TASKS
    assert commits <= 0.1 * 50 * TASKS
    assert Counter(run.status for run in runtime.runs()) == {"completed": TASKS}


def test_the_branches_of_one_run_share_their_syncs(runtime, statements, caplog):
    """Also the first of them, which opens it: the others come in the transaction after that. Nobody need look on."""
    caplog.set_level(logging.CRITICAL, "sagadsl")

    @step(compensate=None)
    async def work(name):
        return name

    @saga(key="k")
    async def flow():
        return list(await asyncio.gather(*(work(name) for name in range(TASKS))))

    assert asyncio.run(flow.using(runtime=runtime)()) == [*range(TASKS)]
    assert statements.commits()[1] <= 5
    assert [s.status for s in runtime.find("flow/k").steps if not s.saga] == ["done"] * TASKS


def test_where_nobody_looks_nobody_is_told(play, caplog, world):
    """What was written together is on record all the same."""
    caplog.set_level(logging.CRITICAL, "sagadsl")
    assert play(play.several, play.several) == ["ended"] * 2
    assert world.effects.count("other5") == 2
    assert [status for at in range(2) for _, status in play.steps(at)] == ["done"] * 12


def test_a_saga_that_is_alone_waits_for_nobody(play, statements):
    """But for its first intent, whose entries are single statements, as a `def`'s are."""

    async def alone():
        return [await play.work(f"{at}") for at in range(20)]

    assert play(alone) == [[f"{at}" for at in range(20)]]
    assert statements[statements.index("insert") :].count("begin") == 1  # of its end


def test_a_store_that_costs_no_sync_makes_nobody_wait(world):
    """In memory, say."""
    met = []

    @step(compensate=None)
    async def work(name):
        met.append(CURRENT.get().slot.run.company)
        return name

    @saga(key="k")
    async def flow():
        return await work("a"), await work("b")

    async def main(runtime):
        return await asyncio.gather(*(flow.using(runtime=runtime, key=f"{at}")() for at in range(3)))

    assert asyncio.run(main(Runtime(MemoryJournal()))) == [("a", "b")] * 3
    assert met == [NOBODY] * 6


def test_a_journal_has_one_company_in_a_loop_for_as_long_as_somebody_needs_it(runtime):
    """It goes with the last run that wrote with it, and no loop or task is kept alive by it."""
    companies = []
    before = {id(each) for each in gc.get_objects() if isinstance(each, Company)}

    @step(compensate=None)
    async def work(name):
        companies.append(id(CURRENT.get().slot.run.company))
        return name

    @saga(resume="never")
    async def flow(name):
        return await work(name)

    async def main():
        await asyncio.gather(*(flow.using(runtime=runtime)(name) for name in range(3)))

    asyncio.run(main())
    assert len(set(companies)) == 1
    gc.collect()
    assert not any(isinstance(each, Company) and id(each) not in before for each in gc.get_objects())


def test_a_run_that_goes_on_in_another_loop_writes_with_who_is_there(runtime, world):
    """By hand, say: a handle outlives the loop in which it was used first."""

    @step(compensate=None)
    async def work(name):
        world.add(name)
        await asyncio.sleep(0)
        return name

    run = saga("nightly", key="k", runtime=runtime)

    async def two(*names):
        return await asyncio.gather(*(run.step(work)(name) for name in names))

    assert asyncio.run(two("a", "b")) == ["a", "b"]
    assert asyncio.run(two("c", "d")) == ["c", "d"]
    run.complete()
    assert world == ["a", "b", "c", "d"]
    assert runtime.find("nightly/k").status == "completed"


def test_observers_are_told_of_an_entry_in_the_context_of_the_task_that_made_it(tmp_path):
    """As if it had been written at once: what a log or a trace takes from there is that of its own run."""
    request = ContextVar("request")
    told = []

    @step(compensate=None)
    async def work(name):
        return name

    @saga(key="{name}")
    async def trip(name):
        return [await work(f"{name}{at}") for at in range(3)]

    async def serve(name, runtime):
        request.set(f"trip/{name}")
        return await trip.using(runtime=runtime)(name)

    async def main():
        runtime = Runtime(tmp_path / "sagas.db", observers=[lambda entry: told.append((entry.run, request.get()))])
        return await asyncio.gather(*(serve(name, runtime) for name in "abc"))

    asyncio.run(main())
    assert Counter(told) == {(run, run): 8 for run in ("trip/a", "trip/b", "trip/c")}


# -- each is told what came of its own ---------------------------------------------------------------------------------


def test_a_run_that_another_process_has_taken_is_lost_alone(play, tmp_path, world):
    """Its entry collides in the shared transaction; the others are written."""

    async def robbed():
        await play.work("a")
        journal = SqliteJournal(tmp_path / "sagas.db")
        row = journal.runs(saga="trip1")[0]
        taken = Entry(0, 0, Kind.TAKEN, 1, "", None, None, row.started, None, None, None, None)
        journal.append(Log(row.number, journal.entries(row.number)[-1].seq), taken, full=True)
        journal.close()
        await play.work("never")

    found = play(play.several, robbed, play.several)
    assert [type(each) for each in found] == [str, RunLostError, str]
    assert "never" not in world.effects


def test_a_run_that_is_cancelled_meanwhile_begins_nothing_more(play, world):
    """Its letter is read where its intents would have been written; what others of it have done is on record."""

    async def told():
        await play.work("a")
        play.run(1).cancel()
        await asyncio.gather(play.work("never"), play.work("neither"))

    found = play(play.several, told, play.several)
    assert [type(each) for each in found] == [str, RunCancelledError, str]
    assert not {"never", "neither"} & {*world.effects}
    assert [effect for effect in world.effects if effect[0] == "-"] == ["-a"]


def test_a_cancel_that_comes_too_late_is_refused_where_the_intent_is_written(play, world, caplog):
    """The run has passed its pivot: the intent is written once more, and the step goes on."""

    @step(compensate=PIVOT)
    async def decide():
        world.add("decided")

    async def told():
        await decide()
        run = CURRENT.get().run
        run.journal.post(Letter(0, run.row.number, run.clock(), "cancel", None))
        return await play.work("on")

    assert play(play.several, told, play.several) == ["ended", "on", "ended"]
    assert "on" in world.effects
    assert "is not cancelled" in caplog.text


def test_of_two_loops_that_open_the_same_run_one_learns_that_it_is_taken(tmp_path, world, statements):
    """The row is there when it comes to write its own; the run beside it is opened."""
    path = tmp_path / "sagas.db"

    @step(compensate=None)
    async def work(name):
        world.add(name)
        return name

    @saga(key="{key}")
    async def trip(key, name):
        return await work(name)

    def overtake():
        other = Runtime(SqliteJournal(path))
        row = RunRow(0, "trip/a", 1, "trip", "p", "d", 1)
        opened = Entry(0, 0, Kind.OPENED, 0, "", None, None, 1, "trip", "{}", None, None)
        other.journal().commit(Log(), [opened], full=False, row=row)

    async def main():
        runtime = Runtime(path)
        statements.plan(overtake, before="begin immediate")
        calls = (trip.using(runtime=runtime)("a", "never"), trip.using(runtime=runtime)("b", "b"))
        return await asyncio.gather(*calls, return_exceptions=True)

    asyncio.run(trip.using(runtime=Runtime(path))("0", "0"))
    found = asyncio.run(main())
    assert [type(each) for each in found] == [RunLockedError, str]
    assert world == ["0", "b"]


def test_what_one_of_them_cannot_write_stops_it_alone(play, statements, world):
    """A row that is too large for the file, say: the transaction is taken back, and each is written by itself."""
    statements.wide = 100_000

    async def large():
        await play.work("a")
        await play.work("never", "x" * 200_000)

    found = play(play.several, large, play.several)
    assert [type(each) for each in found] == [str, JournalError, str]
    assert "too big" in str(found[1])
    assert "never" not in world.effects
    assert Counter(world.effects) == {"a": 1} | {f"other{at}": 2 for at in range(6)}
    assert play.steps(1) == [("work", "done")]


@pytest.mark.parametrize("at", ["begin", "insert", "commit"])
def test_where_a_shared_write_fails_each_is_written_by_itself(play, statements, world, at):
    """The disk failed once: nobody need know."""
    failed = []

    def fail():
        failed.append(at)
        raise sqlite3.OperationalError("disk I/O error")

    async def failing():
        await play.work("a")
        if not failed:
            statements.plan(fail, before=at)
        return await play.work("b")

    assert play(*[failing] * 3) == ["b"] * 3
    assert failed
    assert Counter(world.effects) == {"a": 3, "b": 3}


def test_a_disk_that_fails_for_good_is_told_to_each(play, statements, world):
    """Nobody's function is entered, nothing is compensated; called again, they go on."""
    failed = []

    def fail():
        failed.append(1)
        statements.plan(fail, before="insert")
        raise sqlite3.OperationalError("disk I/O error")

    async def failing():
        await play.work("a")
        if not failed:
            statements.plan(fail, before="insert")
        return await play.work("b")

    found = play(*[failing] * 3)
    assert len(failed) >= 4  # together, and then each
    assert [type(each) for each in found] == [JournalError] * 3
    assert Counter(world.effects) == {"a": 3}
    statements.plan(None)
    assert play(*[failing] * 3) == ["b"] * 3
    assert Counter(world.effects) == {"a": 3, "b": 3}


@pytest.mark.parametrize("at", ["insert into run", "insert into entries", "commit"])
def test_whoever_is_interrupted_while_it_writes_stops_all_for_whom_it_does(play, statements, world, at):
    """Nothing of theirs is entered; called again, they go on."""

    def press():
        raise KeyboardInterrupt

    async def branches():
        await asyncio.gather(play.work("a"), play.work("b"))

    if at == "insert into run":
        statements.plan(press, before=at)
    else:

        async def other():
            await play.work("c")
            statements.plan(press, before=at)
            await play.work("d")

    bodies = [branches, branches] if at == "insert into run" else [other, play.several]
    with pytest.raises(KeyboardInterrupt):
        play(*bodies)
    assert statements.before is None
    assert not {"a", "b", "d"} & {*world.effects}
    before = Counter(world.effects)
    play(branches, branches) if at == "insert into run" else play(play.several, play.several)
    assert not any(effect[0] == "-" for effect in world.effects)
    assert all(count <= 2 + before[effect] for effect, count in Counter(world.effects).items())


def test_an_observer_that_is_interrupted_stops_all_who_wrote_with_it(tmp_path, world):
    """Their entries are on record; that they are only the file can tell, and whoever calls again learns it there."""
    pressed = []

    def look(entry):
        if (entry.run, entry.step, entry.kind) == ("trip/b", "work#2", Kind.INTENT) and not pressed:
            pressed.append(entry)
            raise KeyboardInterrupt

    @step(compensate=None)
    async def work(name):
        world.add(name)
        return name

    @saga(key="{name}")
    async def trip(name):
        return [await work(f"{name}{at}") for at in range(3)]

    async def main():
        runtime = Runtime(tmp_path / "sagas.db", observers=[look])
        return await asyncio.gather(*(trip.using(runtime=runtime)(name) for name in "ab"))

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert world == ["a0", "b0"]
    assert asyncio.run(main()) == [["a0", "a1", "a2"], ["b0", "b1", "b2"]]
    assert world == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_a_run_that_stops_meanwhile_begins_nothing_of_what_was_handed_in(play, statements, world):
    """Two of its branches wait when a third learns that it is lost."""
    stops = []

    async def stopped():
        await play.work("a")
        run = CURRENT.get().run
        waiting = [asyncio.ensure_future(play.work(name)) for name in ("never", "neither")]
        await asyncio.sleep(0)
        stops.append(len(run.company.waiting))
        run.halt(JournalError("sagas.db", "it is full"))
        return await asyncio.gather(*waiting, return_exceptions=True)

    found = play(stopped, play.several)
    assert stops[0] >= 2
    assert isinstance(found[0], JournalError)
    assert found[1] == "ended"
    assert not {"never", "neither"} & {*world.effects}
    assert play.steps(0) == [("work", "done")]


# -- cancellation and other ends ---------------------------------------------------------------------------------------


def test_a_task_that_is_cancelled_while_its_intent_waits_does_not_enter_its_function(play, world):
    """The intent is on record, and that it had no effect: nothing is owed for it, and a restart enters it."""

    async def cut():
        await play.work("a")
        asyncio.get_running_loop().call_soon(play.tasks[0].cancel)
        return await play.work("b")

    found = play(cut, play.several)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1] == "ended"
    assert "b" not in world.effects
    assert play.steps(0) == [("work", "done"), ("work#2", "not_landed")]

    async def again():
        await play.work("a")
        return await play.work("b")

    assert play(again) == ["b"]
    assert world.effects.count("a") == world.effects.count("b") == 1


def test_a_timeout_while_an_intent_waits_is_survived_the_same_way_each_time(play, world):
    """The body goes on another way; so it does after a restart, without entering what was cut off."""
    again = []

    async def patient():
        await play.work("a")
        try:
            async with asyncio.timeout(None) as limit:
                asyncio.get_running_loop().call_soon(limit.reschedule, 0)
                await asyncio.ensure_future(play.work("never")) if again else await play.work("never")
        except TimeoutError:
            await play.work("b")
        if not again:
            again.append(asyncio.current_task().cancel())
        await asyncio.sleep(0)
        return "ended"

    assert isinstance(play(patient, play.several)[0], asyncio.CancelledError)
    assert play(patient) == ["ended"]
    steps = play.steps(0)
    assert steps == [("work", "done"), ("work#2", "cancelled"), ("work#3", "done")]
    assert "never" not in world.effects
    assert world.effects.count("b") == 1


def test_a_cancellation_while_an_outcome_waits_loses_no_effect(play, runtime, world):
    """What was done is on record, and the task is cancelled where it called; a restart goes on after it."""

    @step(compensate=None)
    async def last(name):
        world.add(name)
        asyncio.get_running_loop().call_soon(play.tasks[0].cancel)  # comes while the outcome waits
        return name

    async def cut():
        await play.work("a")
        value = await last("b")
        world.add("never" if len(world.effects) < 10 else "on")
        return value

    found = play(cut, play.several)
    assert isinstance(found[0], asyncio.CancelledError)
    assert "never" not in world.effects
    assert play.steps(0) == [("work", "done"), ("last", "done")]
    assert world.effects.count("b") == 1


def test_a_timeout_while_an_outcome_waits_is_survived_the_same_way_each_time(play, world):
    """It is done, and its caller was cut off: the step keeps its effect, the body its way."""
    came = []

    @step(compensate=None)
    async def slow(limit_at):
        world.add("slow")
        limits[-1].reschedule(0)
        return "value"

    limits = []

    async def patient():
        await play.work("a")
        try:
            async with asyncio.timeout(None) as limit:
                limits.append(limit)
                if came:
                    asyncio.get_running_loop().call_soon(limit.reschedule, 0)
                came.append(await slow(1))
        except TimeoutError:
            came.append("timed out")
        await play.work("b")
        if len(came) == 1:
            raise asyncio.CancelledError
        return "ended"

    found = play(patient, play.several)
    assert isinstance(found[0], asyncio.CancelledError)
    assert came == ["timed out"]
    assert play(patient) == ["ended"]
    assert came == ["timed out"] * 2
    assert play.steps(0) == [("work", "done"), ("slow", "cancelled"), ("work#2", "done")]
    assert world.effects.count("slow") == world.effects.count("b") == 1


def test_a_saga_that_is_cancelled_while_its_end_waits_has_ended(play, world, caplog):
    """Its caller is cancelled, as it asked for; who calls again gets the value."""

    async def cut():
        value = await play.work("a")
        asyncio.get_running_loop().call_soon(play.tasks[0].cancel)
        return value

    found = play(cut, play.several)
    assert isinstance(found[0], asyncio.CancelledError)
    assert play.run(0).status == "completed"
    assert "interrupted" not in caplog.text
    assert play(cut) == ["a"]
    assert world.effects.count("a") == 1


def test_a_task_may_be_cancelled_at_every_turn_and_twice(play, runtime, world):
    """Nothing is lost: what was entered is on record as done or entered, and nothing else is."""
    met = Counter()
    for first in range(10):
        for second in (first, first + 1, 11):

            async def two(name=f"{first}.{second}"):
                await play.work(f"{name}a")
                await play.work(f"{name}b")
                return "ended"

            async def cancel(turns=(first, second)):
                for turn in range(20):
                    if turn in turns:
                        play.tasks[0].cancel()
                    await asyncio.sleep(0)
                return "ended"

            made = [two, play.several, cancel]

            async def main(made=made, name=f"{first}.{second}"):
                sagas = [saga(name=f"{name}{at}", key="k")(body).using(runtime=runtime) for at, body in enumerate(made)]
                play.tasks[:] = [asyncio.ensure_future(each()) for each in sagas]
                return await asyncio.gather(*play.tasks, return_exceptions=True)

            found = asyncio.run(main())
            assert found[1:] == ["ended"] * 2
            runs = [run for run in runtime.runs() if run.id.startswith(f"{first}.{second}0/")]
            steps = {step.arguments["name"]: step.status for run in runs for step in run.steps}
            entered = [effect for effect in world.effects if effect.startswith(f"{first}.{second}")]
            assert [name for name, status in steps.items() if status == "done"] == entered
            assert {*steps.values()} <= {"done", "not_landed"}
            met.update(steps.values())
    assert met["done"]
    assert met["not_landed"]


def test_a_loop_that_ends_with_something_handed_in_enters_nothing_of_it(runtime, world, play):
    """It is as if the process had died there: called again, it goes on."""

    async def cut():
        await play.work("a")
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().stop)
        return await play.work("b")

    loop = asyncio.new_event_loop()
    tasks = [
        loop.create_task(saga(name=f"trip{at}", key="k")(body).using(runtime=runtime)())
        for at, body in enumerate([cut, play.several])
    ]
    loop.run_forever()
    assert not any(task.done() for task in tasks)
    loop.close()
    for task in tasks:
        task.get_coro().close()
        task._log_destroy_pending = False
    assert "b" not in world.effects

    async def whole():
        await play.work("a")
        return await play.work("b")

    assert play(whole, play.several) == ["b", "ended"]
    assert world.effects.count("a") == world.effects.count("b") == 1


def test_observers_are_told_in_the_order_in_which_it_was_written(tmp_path, statements, world):
    """Once it is durable, and before the task goes on; one of them that raises changes nothing."""
    told = []

    def look(entry):
        told.append((entry.run, entry.seq))
        raise ValueError

    runtime = Runtime(tmp_path / "sagas.db", observers=[look])

    @step(compensate=None)
    async def work(name):
        assert told[-1][1] > 1
        return name

    @saga(key="{name}")
    async def trip(name):
        return await asyncio.gather(*(work(f"{at}") for at in range(5)))

    async def main():
        await asyncio.gather(*(trip.using(runtime=runtime)(f"{name}") for name in range(3)))

    asyncio.run(main())
    for at in range(3):
        seqs = [seq for run, seq in told if run == f"trip/{at}"]
        assert seqs == [*range(1, len(seqs) + 1)]
        assert len(seqs) == 12


# -- what a closed loop leaves -----------------------------------------------------------------------------------------


def test_what_a_closed_loop_leaves_takes_nothing_for_a_failure_and_leaves_nobody_inside_its_run(runtime, world):
    """Its coroutines are closed wherever they are collected: bodies see that, nothing of theirs is current there."""
    seen, both = [], asyncio.Event()

    @step(compensate=None)
    async def hang(name):
        world.add(name)
        if len(world.effects) == len("ab"):
            both.set()
        await asyncio.get_running_loop().create_future()

    async def branch(name):
        try:
            await hang(name)
        except BaseException as error:
            seen.append(type(error))
            raise

    @saga(key="k")
    async def trip():
        await asyncio.gather(branch("a"), branch("b"))

    async def begin(tasks):
        tasks.append(asyncio.ensure_future(trip.using(runtime=runtime)()))
        await both.wait()
        tasks += asyncio.all_tasks() - {asyncio.current_task(), *tasks}

    tasks = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin(tasks))
    loop.close()
    for task in tasks:
        task._log_destroy_pending = False  # which is what is tested
        task.get_coro().close()
    assert seen == [GeneratorExit, GeneratorExit]
    assert CURRENT.get() is None
    assert runtime.find("trip/k").is_interrupted
