"""Features that meet in one run: each is tried alone elsewhere, here one stands in the other's way.

Killed is what raises `Cut`; a second runtime on the same file is the restarted process.
"""

import asyncio
import sqlite3
import threading
from contextlib import closing

import pytest

import sagadsl
from sagadsl import (
    PIVOT,
    Artifact,
    Compensated,
    Compensation,
    CompensationError,
    Completed,
    JournalError,
    Landed,
    Live,
    NotLanded,
    Retry,
    RunConflictError,
    RunLostError,
    Suspended,
    SuspendedError,
    Unknown,
    saga,
)
from sagadsl._core.registry import registry
from sagadsl._core.runtime.deciding import Request


class Cut(BaseException):
    """The end of a process, for a test: nothing of the library's may follow it."""


@pytest.fixture
def first(colour, world):
    """Give a step that is compensated."""

    @colour.step(compensate=lambda: world.add("-first"), name="first")
    def first() -> str:
        world.add("first")
        return "one"

    return first


@pytest.fixture
def block(colour):
    """Enter a block in either colour: a generator function of the handle, which yields its step calls."""

    def enter(body, **options):
        if not colour.is_async:
            with saga("nightly", **options) as run:
                colour.coloured(body)(run)
            return

        async def main():
            async with saga("nightly", **options) as run:
                await colour.coloured(body)(run)

        asyncio.run(main())

    return enter


@pytest.fixture
def shop(tmp_path):
    """Give the maker of connections to a database with a table of payments."""

    def connect():
        return sqlite3.connect(tmp_path / "shop.db", isolation_level=None, check_same_thread=False)

    with closing(connect()) as db:
        db.execute("create table payments (order_id text, key text)")
    return connect


def payments(shop):
    with closing(shop()) as db:
        return db.execute("select order_id from payments order by rowid").fetchall()


@pytest.fixture
def pay(colour, world):
    """Give the maker of a step in a transaction, with a compensation in one; *fate* may raise after the effect."""

    def back(db, order):
        world.add(f"-pay:{order}")
        db.execute("delete from payments where order_id = ?", (order,))

    def make(fate=lambda: None, **options):
        options = {"compensate": back, "transaction": "db"} | options

        @colour.step(name="pay", **options)
        def pay(db: Live[sqlite3.Connection], order: str) -> str:
            world.add(f"pay:{order}")
            db.execute("insert into payments values (?, ?)", (order, sagadsl.current().idempotency_key))
            fate()
            return f"paid {order}"

        return pay

    return make


# -- blocks -----------------------------------------------------------------------------------------------------------


def test_a_block_in_a_saga_that_pauses_goes_on_in_the_block(colour, world, first, make_runtime):
    """The pause stops the saga around it; the next call enters the step that failed, and nothing else, once more."""
    fails = [True]

    @colour.step(compensate=lambda: world.add("-second"), name="second")
    def second() -> str:
        if fails:
            fails.pop()
            raise OSError("disk")
        world.add("second")
        return "two"

    if colour.is_async:

        @sagadsl.saga(name="outer", on_failure="pause")
        async def outer():
            async with saga("inner", on_failure="pause"):
                await first()
                await second()
            world.add("after")
            return "done"

    else:

        @sagadsl.saga(name="outer", on_failure="pause")
        def outer():
            with saga("inner", on_failure="pause"):
                first()
                second()
            world.add("after")
            return "done"

    with pytest.raises(SuspendedError) as caught:
        colour.call(outer.using(runtime=make_runtime()))
    assert "sagadsl resume" in str(caught.value)
    assert make_runtime().runs()[0].status == "paused"
    assert colour.call(outer.using(runtime=make_runtime())) == "done"
    assert world == ["first", "second", "after"]
    assert [(s.key, s.status) for s in make_runtime().runs()[0].steps] == [
        ("inner", "completed"),
        ("inner/first", "done"),
        ("inner/second", "done"),
    ]


def test_a_paused_block_is_gone_on_with_by_its_program(world, first, block, make_runtime):
    """Nobody else has its body, so the message names no command that could not do it."""

    def body(run):
        yield first()
        raise ValueError("no")

    with pytest.raises(SuspendedError, match="Go on: run the program again   Compensate: sagadsl compensate") as caught:
        block(body, on_failure="pause", runtime=make_runtime())
    assert "sagadsl resume" not in str(caught.value)
    assert caught.value.is_block
    assert world == ["first"]


def test_a_pivot_in_a_block_pauses_it(colour, world, first, block, make_runtime):
    """Past it nothing is compensated, by the block or by request; the program goes on."""
    fails = [True]

    @colour.step(compensate=PIVOT, name="send")
    def send() -> None:
        world.add("send")

    def body(run):
        yield first()
        yield send()
        if fails:
            raise ValueError("after")
        world.add("end")

    with pytest.raises(SuspendedError, match="send is past") as caught:
        block(body, runtime=make_runtime())
    assert "Compensate" not in str(caught.value)
    with pytest.raises(RunConflictError, match="can only go forward"):
        make_runtime().runs()[0].compensate()
    fails.pop()
    block(body, runtime=make_runtime())
    assert world == ["first", "send", "end"]
    assert make_runtime().runs()[0].status == "completed"


def test_the_outcome_of_a_blocks_exception(world, first, block, make_runtime):
    """What left the block leads to how it ended, as from a call."""

    def failing(run):
        yield first()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no") as caught:
        block(failing, runtime=make_runtime())
    ended = sagadsl.outcome(caught.value)
    assert isinstance(ended, Compensated)
    assert (ended.error, ended.compensated_steps) == (caught.value, ("first",))
    assert ended.run.status == "compensated"
    with pytest.raises(SuspendedError) as paused:
        block(failing, on_failure="pause", runtime=make_runtime())
    ended = sagadsl.outcome(paused.value)
    assert isinstance(ended, Suspended)
    assert ended.status == "paused"
    assert world == ["first", "-first", "first"]


def test_steps_with_keys_in_a_block(colour, world, block, make_runtime):
    """Told apart by their keys in whatever order they come, each with a compensation, over a kill."""
    orders = [["a", "b"], ["b", "a", "c"]]
    cut = [True]

    @colour.step(compensate=lambda item: world.add(f"-{item}"), key="{item}", name="act")
    def act(item: str) -> None:
        world.add(item)

    def body(run):
        for item in orders.pop(0):
            yield act(item)
        if cut:
            cut.pop()
            raise Cut
        raise ValueError("no")

    with pytest.raises(Cut):
        block(body, runtime=make_runtime())
    with pytest.raises(ValueError, match="no"):
        block(body, runtime=make_runtime())
    assert world == ["a", "b", "c", "-c", "-b", "-a"]
    assert [step.key for step in make_runtime().runs()[0].steps] == ["act:a", "act:b", "act:c"]


@pytest.mark.parametrize("answer", [Landed("p-1"), NotLanded(), Unknown()], ids=["landed", "not landed", "unknown"])
def test_by_hand_a_probe_is_asked_before_a_step_is_tried_again(colour, world, make_runtime, answer):
    """The handle is gone with its process; the next one asks before it enters anything."""
    cut = [True]

    def charge(order: str) -> str:
        world.add("charge")
        if cut:
            cut.pop()
            raise Cut
        return "p-2"

    def by_hand():
        run = saga("explore", key="1", runtime=make_runtime())
        return run, run.step(colour.coloured(charge), probe=lambda order: answer, compensate=lambda order: None)

    run, step = by_hand()
    with pytest.raises(Cut):
        colour.call(step, "o-1")
    del run, step
    run, step = by_hand()
    landed = isinstance(answer, Landed)
    assert colour.call(step, "o-1") == ("p-1" if landed else "p-2")
    run.complete()
    assert world == (["charge"] if landed else ["charge", "charge"])


def test_by_hand_a_probe_is_asked_before_compensating(colour, world, make_runtime):
    """What has not landed is not compensated."""

    def charge(order: str) -> str:
        world.add("charge")
        raise Cut

    run = saga("explore", key="1", runtime=make_runtime())
    step = run.step(colour.coloured(charge), probe=lambda: NotLanded(), compensate=lambda order: world.add("-charge"))
    with pytest.raises(Cut):
        colour.call(step, "o-1")
    assert colour.run(run.compensate()).status == "compensated"
    assert world == ["charge"]


def test_by_hand_a_request_asks_the_pivot_first(colour, world, make_runtime):
    """It has landed: the run stays open, and the same call gives what the probe has found."""

    def send(order: str) -> str:
        world.add("send")
        raise Cut

    def by_hand():
        run = saga("explore", key="1", runtime=make_runtime())
        return run, run.step(colour.coloured(send), probe=lambda: Landed("sent"), compensate=PIVOT)

    run, step = by_hand()
    with pytest.raises(Cut):
        colour.call(step, "o-1")
    with pytest.raises(RunConflictError, match="past its pivot"):
        colour.run(run.compensate())
    assert colour.call(step, "o-1") == "sent"
    assert run.complete("end") == "end"
    assert world == ["send"]


def test_a_block_does_not_go_on_without_its_files(colour, world, tmp_path, block, make_runtime):
    """As a saga does not: what follows would build on something else. It can still be compensated by hand."""
    report = tmp_path / "report.txt"
    cut = [True]

    @colour.step(compensate=lambda: world.add("-write"), name="write")
    def write() -> Artifact:
        world.add("write")
        report.write_text("1")
        return Artifact(report)

    def body(run):
        yield write()
        if cut:
            cut.pop()
            raise Cut
        world.add("end")

    with pytest.raises(Cut):
        block(body, key="1", runtime=make_runtime())
    report.write_text("2")
    with pytest.raises(JournalError, match=r"no longer what it was.* then go on: run the program again"):
        block(body, key="1", runtime=make_runtime())
    run = saga("nightly", key="1", runtime=make_runtime())
    with pytest.raises(JournalError, match="no longer what it was"):
        colour.call(run.step(write))
    with pytest.raises(JournalError, match="no longer what it was"):
        run.complete()
    report.write_text("1")
    block(body, key="1", runtime=make_runtime())
    assert world == ["write", "end"]


def test_what_was_added_with_a_live_argument_is_called_with_it(world, first, block, make_runtime):
    """The connection of the process that compensates, not a stored one."""
    cut = [True]

    def forget(connection: Live[list], name: str) -> None:
        world.add(f"-{name}")
        connection.append(name)

    def body(run):
        run.add_compensation(forget, connection, "row")
        yield first()
        if cut:
            cut.pop()
            raise Cut
        raise ValueError("no")

    connection = []
    with pytest.raises(Cut):
        block(body, runtime=make_runtime())
    connection = []
    with pytest.raises(ValueError, match="no"):
        block(body, runtime=make_runtime())
    assert connection == ["row"]
    assert world == ["first", "-first", "-row"]


# -- children ---------------------------------------------------------------------------------------------------------


def test_a_probe_in_a_child_of_a_child(colour, world, first, make_runtime):
    """Cut off two sagas deep, it is asked there, with the arguments and the key that the step had."""
    asked = []

    def find(order, idempotency_key):
        asked.append((order, idempotency_key.partition("/deep")[2]))
        return Landed("p-1")

    @colour.step(compensate=lambda result: world.add(f"-{result}"), probe=find, name="charge")
    def charge(order: str) -> str:
        world.add("charge")
        raise Cut

    @colour.saga(name="deeper")
    def deeper(order: str):
        return (yield charge(order))

    @colour.saga(name="deep")
    def deep(order: str):
        yield first()
        return (yield deeper(order))

    @colour.saga(name="order")
    def order(name: str):
        yield deep(name)
        raise ValueError("no")

    with pytest.raises(Cut):
        colour.call(order.using(runtime=make_runtime()), "o-1")
    with pytest.raises(ValueError, match="no"):
        colour.call(order.using(runtime=make_runtime()), "o-1")
    assert asked == [("o-1", "/deeper/charge")]
    assert world == ["first", "charge", "-p-1", "-first"]


def test_a_transaction_in_a_child_of_a_child(colour, world, make_runtime, shop, pay):
    """Killed between commit and record, the row says that it landed; the parent's failure undoes it once."""
    deaths = [1]
    step = pay()

    @colour.saga(name="inner")
    def inner(db: Live[sqlite3.Connection], order: str):
        return (yield step(db, order))

    @colour.saga(name="middle")
    def middle(db: Live[sqlite3.Connection], order: str):
        return (yield inner(db, order))

    @colour.saga(name="outer")
    def outer(db: Live[sqlite3.Connection], order: str, fails: bool):
        paid = yield middle(db, order)
        if fails:
            raise ValueError(paid)
        return paid

    def die(entry):
        if entry.kind == "done" and entry.step.endswith("pay") and deaths:
            deaths.pop()
            raise Cut

    knife = make_runtime()
    journal = knife.journal()
    whole, together = journal.append, journal.write_together

    def append(log, entry, full):
        die(entry)
        whole(log, entry, full)

    def write_together(tickets):
        try:
            for entry in (entry for each in tickets for entry in each.entries):
                die(entry)
        except Cut as error:
            for each in tickets:
                each.error = error
        else:
            together(tickets)

    journal.append, journal.write_together = append, write_together
    with closing(shop()) as db, pytest.raises(Cut):
        colour.call(outer.using(runtime=knife), db, "o-1", True)
    assert not deaths
    assert payments(shop) == [("o-1",)]
    with closing(shop()) as db, pytest.raises(ValueError, match="paid o-1"):
        colour.call(outer.using(runtime=make_runtime()), db, "o-1", True)
    assert payments(shop) == []
    assert world == ["pay:o-1", "-pay:o-1"]


def test_the_files_of_a_childs_result_are_checked(colour, world, tmp_path, make_runtime):
    """The child is completed and its body need not run: its file must be there all the same."""
    report = tmp_path / "report.txt"
    cut = [True]

    @colour.step(compensate=lambda: world.add("-write"), name="write")
    def write() -> str:
        world.add("write")
        report.write_text("1")
        return str(report)

    @colour.saga(name="inner")
    def inner():
        return Artifact((yield write()))

    @colour.saga(name="outer")
    def outer():
        made = yield inner()
        if cut:
            cut.pop()
            raise Cut
        return made.path.read_text()

    with pytest.raises(Cut):
        colour.call(outer.using(runtime=make_runtime()))
    report.write_text("2")
    with pytest.raises(JournalError, match=r"which inner made, is no longer what it was"):
        colour.call(outer.using(runtime=make_runtime()))
    report.write_text("1")
    assert colour.call(outer.using(runtime=make_runtime())) == "1"
    assert world == ["write"]


# -- compensations that fail ------------------------------------------------------------------------------------------


@pytest.fixture
def stubborn(colour, world):
    """Give the maker of a step whose compensation fails until it is mended."""
    broken = {"b", "c"}

    def make(name, **options):
        def back():
            if name in broken:
                raise OSError(name, "out of reach")
            world.add(f"-{name}")

        @colour.step(compensate=Compensation(back, retries=0), name=name, **options)
        def act() -> None:
            world.add(name)

        return act

    return make, broken


def test_going_on_past_failed_compensations_reaches_into_children(colour, world, stubborn, make_runtime):
    """All others come first; what failed is told the same live and after a restart, and is carried on with."""
    make, broken = stubborn
    a, b, c, d = (make(name) for name in "abcd")

    @colour.saga(name="inner")
    def inner():
        yield b()
        yield c()

    @colour.saga(name="outer", on_compensation_failure="continue", key="1")
    def outer():
        yield a()
        yield inner()
        yield d()
        raise ValueError("no")

    with pytest.raises(CompensationError) as caught:
        colour.call(outer.using(runtime=make_runtime()))
    assert world == ["a", "b", "c", "d", "-d", "-a"]
    with pytest.raises(CompensationError) as again:
        colour.call(outer.using(runtime=make_runtime()))
    for error in (caught.value, again.value):
        assert (error.step, error.compensated, error.pending) == ("inner/c", ("d", "a"), ())
    broken.clear()
    run = colour.run(outer.reopen(caught.value.run, Request(), make_runtime()))
    assert run.status == "compensated"
    assert world == ["a", "b", "c", "d", "-d", "-a", "-c", "-b"]


def test_going_on_past_failed_compensations_asks_probes_all_the_same(colour, world, stubborn, make_runtime):
    """The failed one stands, the doubtful one is asked, and what has not landed is left alone."""
    make, _ = stubborn
    a, b = make("a"), make("b")
    asked = []

    def find():
        asked.append(1)
        return NotLanded()

    @colour.step(compensate=lambda: world.add("-charge"), probe=find, on_uncertain="compensate", name="charge")
    def charge() -> None:
        world.add("charge")
        raise sagadsl.StepTimeout("charge", 1.0)

    @colour.saga(name="order", on_compensation_failure="continue")
    def order():
        yield a()
        try:
            yield charge()
        except sagadsl.StepTimeout:
            yield b()
        raise ValueError("no")

    with pytest.raises(CompensationError) as caught:
        colour.call(order.using(runtime=make_runtime()))
    assert (caught.value.step, caught.value.compensated) == ("b", ("a",))
    assert asked == [1]
    assert world == ["a", "charge", "b", "-a"]


# -- transactions -----------------------------------------------------------------------------------------------------


def test_a_transaction_is_tried_again_as_often_as_its_retries_say(colour, world, make_runtime, clock, shop, pay):
    """Each attempt rolls back whole; the last one lands, once, under the one key."""
    fates = [OSError("busy"), OSError("busy")]

    def fate():
        if fates:
            raise fates.pop()

    step = pay(fate, retries=Retry(2, wait=3))

    @colour.saga(name="checkout")
    def checkout(db: Live[sqlite3.Connection]):
        return (yield step(db, "o-1"))

    with closing(shop()) as db:
        assert colour.call(checkout.using(runtime=make_runtime()), db) == "paid o-1"
        assert db.execute("select count(*) from sagadsl_landed").fetchone() == (1,)
    assert payments(shop) == [("o-1",)]
    assert world == ["pay:o-1"] * 3
    assert clock.slept == [3, 3]


def test_a_run_that_was_compensated_on_request_pays_again_when_it_is_rerun(colour, world, make_runtime, shop, pay):
    """A new generation has new idempotency keys: the row of the old one does not stand for the new effect."""
    step = pay()
    fails = [True]

    @colour.saga(name="checkout", key="{order}", on_failure="pause")
    def checkout(db: Live[sqlite3.Connection], order: str):
        paid = yield step(db, order)
        if fails:
            raise ValueError("no")
        return paid

    provided = make_runtime(provide={sqlite3.Connection: shop})
    with closing(shop()) as db:
        with pytest.raises(SuspendedError):
            colour.call(checkout.using(runtime=make_runtime()), db, "o-1")
        run = colour.run(checkout.reopen("checkout/o-1", Request(), provided))
        assert run.status == "compensated"
        assert payments(shop) == []
        fails.pop()
        with pytest.raises(RunConflictError, match="rerun=True"):
            colour.call(checkout.using(runtime=make_runtime()), db, "o-1")
        assert colour.call(checkout.using(runtime=make_runtime(), rerun=True), db, "o-1") == "paid o-1"
        assert colour.call(checkout.using(runtime=make_runtime()), db, "o-1") == "paid o-1"
    assert payments(shop) == [("o-1",)]
    assert world == ["pay:o-1", "-pay:o-1", "pay:o-1"]


# -- where nobody calls -----------------------------------------------------------------------------------------------


def test_resume_all_gets_what_is_provided(colour, world, make_runtime, shop, pay):
    """A killed run in a transaction goes on with a connection of the process that resumes it."""
    cut = [True]

    def fate():
        if cut:
            cut.pop()
            raise Cut

    step = pay(fate)
    runtime = make_runtime(provide={sqlite3.Connection: shop})

    @colour.saga(name="checkout", runtime=runtime)
    def checkout(db: Live[sqlite3.Connection], order: str):
        return (yield step(db, order))

    with closing(shop()) as db, pytest.raises(Cut):
        colour.call(checkout, db, "o-1")
    assert payments(shop) == []
    ended = sagadsl.resume_all(checkout)
    assert [(type(e), e.value) for e in ended] == [(Completed, "paid o-1")]
    assert payments(shop) == [("o-1",)]
    assert world == ["pay:o-1"] * 2


def test_resume_all_leaves_what_a_person_decides_and_a_person_resumes_it(colour, world, make_runtime):
    """``on_uncertain="pause"`` after a kill: the first round pauses it, the next ones leave it, by hand it goes on."""
    cut = [True]

    @colour.step(compensate=lambda: world.add("-charge"), on_uncertain="pause", name="charge")
    def charge() -> str:
        world.add("charge")
        if cut:
            cut.pop()
            raise Cut
        return "p-1"

    @colour.saga(name="order", runtime=make_runtime())
    def order():
        return (yield charge())

    with pytest.raises(Cut):
        colour.call(order)
    (ended,) = sagadsl.resume_all(order)
    assert isinstance(ended, Suspended)
    assert sagadsl.resume_all(order) == ()
    assert world == ["charge"]
    assert colour.run(order.resume(ended.run.id)) == "p-1"
    assert world == ["charge", "charge"]


@pytest.mark.parametrize("has_landed", [True, False])
def test_a_request_asks_the_row_of_a_pivot_with_what_is_provided(world, make_runtime, shop, monkeypatch, has_landed):
    """Nobody calls, and the body is not run: the pivot's transaction is looked up all the same."""
    deaths = [1]

    @sagadsl.step(name="publish", compensate=PIVOT, transaction="db")
    def publish(db: Live[sqlite3.Connection]) -> str:
        db.execute("insert into payments values ('o-1', '')")
        if not has_landed:
            raise Cut
        return "out"

    @sagadsl.step(name="draft", compensate=lambda: world.add("-draft"))
    def draft() -> None:
        world.add("draft")

    for each in (publish, draft):  # as if they stood at the top of this module
        monkeypatch.setitem(registry.steps, (each._self_spec.module, each._self_spec.name), each._self_spec)

    @sagadsl.saga(name="release")
    def release(db: Live[sqlite3.Connection]):
        draft()
        return publish(db)

    knife = make_runtime()
    journal = knife.journal()
    whole = journal.append

    def append(log, entry, full):
        if entry.kind == "done" and entry.step == "publish":
            deaths.pop()
            raise Cut
        whole(log, entry, full)

    journal.append = append
    with closing(shop()) as db, pytest.raises(Cut):
        release.using(runtime=knife)(db)
    assert deaths == ([] if has_landed else [1])
    runtime = make_runtime(provide={sqlite3.Connection: shop})
    run_id = runtime.runs()[0].id
    if has_landed:
        with pytest.raises(RunConflictError, match="past its pivot"):
            runtime.compensate_without_body(run_id)
        assert world == ["draft"]
    else:
        assert runtime.compensate_without_body(run_id).status == "compensated"
        assert world == ["draft", "-draft"]
    assert payments(shop) == ([("o-1",)] if has_landed else [])


# -- by force ---------------------------------------------------------------------------------------------------------


def test_a_run_robbed_in_its_back_off_does_not_try_again(colour, world, make_runtime, clock):
    """The new owner waits for the rest and goes on; the old one wakes, collides with it, and has entered nothing."""
    fails = [True]

    @colour.step(compensate=lambda: world.add("-act"), retries=Retry(3, wait=60), name="act")
    def act() -> str:
        world.add("act")
        if fails:
            fails.pop()
            raise OSError("busy")
        return "done"

    @colour.saga(name="order", key="1")
    def order():
        return (yield act())

    thieves = [1]
    results = []

    def steal():
        results.append(colour.call(order.using(runtime=make_runtime(), steal=True)))

    def rob():
        if thieves:
            thieves.pop()
            thief = threading.Thread(target=steal)
            thief.start()
            thief.join()

    def sleep(seconds):
        rob()
        clock.sleep(seconds)

    async def asleep(seconds):
        rob()
        await clock.asleep(seconds)

    with pytest.raises(RunLostError):
        colour.call(order.using(runtime=make_runtime(sleep=sleep, asleep=asleep)))
    assert results == ["done"]
    assert world == ["act", "act"]
    run = make_runtime().runs()[0]
    assert (run.status, run.steps[0].attempts) == ("completed", 2)
