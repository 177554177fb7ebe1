"""``notify=``: who is told how a run has ended, when, how often, and what becomes of the run if that fails."""

import asyncio
import functools
import json
import logging
import sqlite3
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cli import Place
from test_documents import judge

import sagadsl
from sagadsl import (
    Compensated,
    Compensation,
    CompensationError,
    Completed,
    Live,
    RunCancelledError,
    Runtime,
    Status,
    SuspendedError,
    UsageError,
    saga,
    step,
)
from sagadsl._core.journal.memory import MemoryJournal
from sagadsl._core.ownership import Tenure
from sagadsl._core.values import Kind
from sagadsl.errors import JournalError
from sagadsl.report import runs_document, runs_text


class Ear:
    """Who is told: remembers outcomes, and raises as often as it is to."""

    def __init__(self, fails=0):
        self.heard, self.fails = [], fails

    def __call__(self, outcome):
        self.heard.append(outcome)
        if self.fails:
            self.fails -= 1
            raise ConnectionError("no mail goes out")


@pytest.fixture
def ear():
    return Ear()


@pytest.fixture
def deaf(caplog):
    """Give one that fails once, which is said in the log."""
    caplog.set_level(logging.ERROR, "sagadsl")
    return Ear(fails=1)


def events(run):
    return [str(entry.kind) for entry in run._journal.entries(1)]


# -- told -------------------------------------------------------------------------------------------------------------


def test_a_saga_tells_how_it_ended_before_its_call_returns(colour, runtime, ear, world):
    """The run is on record by then, and so is the call, afterwards."""

    @colour.step(compensate=None)
    def book(city):
        world.add(city)

    @colour.saga(notify=lambda outcome: (ear(outcome), world.add(f"told:{runtime.runs()[0].status}"))[0])
    def trip(city):
        yield book(city)
        return city

    assert colour.call(trip.using(runtime=runtime), "Rome") == "Rome"
    assert world == ["Rome", "told:completed"]
    assert ear.heard == [Completed("Rome", run=ear.heard[0].run)]
    (run,) = runtime.runs()
    assert (run.notify_owed, run.notify_error, run.notified >= run.ended) == (False, None, True)
    assert events(run)[-2:] == ["completed", "notified"]


def test_a_saga_that_fails_tells_the_original_exception_and_what_was_undone(colour, runtime, ear, world):
    def cancel(city):
        world.add(f"-{city}")

    @colour.step(compensate=cancel if not colour.is_async else colour.coloured(cancel))
    def book(city):
        world.add(city)

    error = ValueError("too far")

    @colour.saga(notify=ear)
    def trip(city):
        yield book(city)
        raise error

    with pytest.raises(ValueError, match="too far") as caught:
        colour.call(trip.using(runtime=runtime), "Rome")
    (told,) = ear.heard
    assert caught.value is error
    assert told.error is error
    assert (type(told), told.compensated_steps, told.exit_code) == (Compensated, ("book",), 3)
    assert told.run.status is Status.COMPENSATED


async def heard_later(heard, outcome):
    heard.append(outcome)


def test_an_async_saga_may_tell_an_async_function(make_runtime, ear):
    """In its own event loop."""

    @saga(notify=functools.partial(heard_later, ear.heard))
    async def trip():
        return 1

    assert asyncio.run(trip.using(runtime=make_runtime())()) == 1
    assert [told.value for told in ear.heard] == [1]


def test_what_can_never_be_told_is_refused_on_the_decorators_line():
    """No function; one to be awaited where nobody can; a block, which has nowhere to say it."""

    def trip():
        """Go."""

    for wrong, said in ((3, "takes a function of the outcome, not 3"), (heard_later, "cannot await: make it a def")):
        with pytest.raises(UsageError, match=said):
            saga(notify=wrong)(trip)
    with pytest.raises(UsageError, match="no option 'notify'"):
        saga("trip", notify=print)


def test_only_a_run_that_has_ended_is_told_of(runtime, ear, caplog):
    """Not one that pauses, is cut off, or owes a compensation; nor a saga inside another one."""

    def refuse():
        raise LookupError("gone")

    @step(compensate=Compensation(refuse, retries=0))
    def book(how):
        if how == "cut":
            raise KeyboardInterrupt

    @saga(notify=ear)
    def trip(how):
        book(how)
        if how in {"pause", "stuck"}:
            raise ValueError(how)

    trip = trip.using(runtime=runtime)
    with pytest.raises(KeyboardInterrupt):
        trip("cut")
    with pytest.raises(SuspendedError):
        trip.using(on_failure="pause")("pause")
    with pytest.raises(CompensationError):
        trip("stuck")

    @saga(runtime=runtime)
    def tour():
        trip("inside")

    tour()
    assert ear.heard == []
    assert [run.notify_owed for run in runtime.runs()] == [False] * 4


def test_a_run_that_is_undone_later_is_told_of_again(runtime, ear):
    """It has ended twice: completed, then compensated on request."""

    @saga(notify=ear, runtime=runtime)
    def trip():
        sagadsl.now()

    trip()
    (run,) = runtime.runs()
    trip.compensate(run.id)
    completed, compensated = ear.heard
    assert isinstance(completed, Completed)
    assert "on request" in str(compensated.error)
    assert events(run)[-2:] == ["compensated", "notified"]
    assert trip.compensate(run.id).notified > run.notified
    assert len(ear.heard) == 2


def test_a_run_that_is_cancelled_tells_so(runtime, ear):
    @saga(notify=ear, runtime=runtime)
    def trip():
        sagadsl.now()
        runtime.runs()[0].cancel()
        sagadsl.now()

    with pytest.raises(RunCancelledError):
        trip()
    assert [type(told.error) for told in ear.heard] == [RunCancelledError]


class Line:
    """A connection that nobody provides."""


def test_a_run_compensated_without_its_body_tells_too(make_runtime, ear):
    """What its body would need is not provided; who compensates it has the saga all the same. In both colours."""

    @saga(notify=ear, key="k")
    def trip(line: Live[Line]):
        sagadsl.now()
        raise KeyboardInterrupt

    @saga(notify=ear, key="k")
    async def atrip(line: Live[Line]):
        trip.plain(line)

    with pytest.raises(KeyboardInterrupt):
        trip.using(runtime=make_runtime())(Line())
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(atrip.using(runtime=make_runtime())(Line()))
    runtime = make_runtime()
    newer, older = runtime.runs()
    trip.using(runtime=runtime).compensate(older.id)
    asyncio.run(atrip.using(runtime=runtime).compensate(newer.id))
    assert [told.run.id for told in ear.heard] == [older.id, newer.id]
    assert [run.notify_owed for run in runtime.runs()] == [False, False]


# -- what fails -------------------------------------------------------------------------------------------------------


def test_a_notify_that_fails_changes_nothing_and_is_called_again(colour, runtime, deaf, caplog):
    """It is logged with its traceback, and on record; the next call with the same arguments tells first."""

    @colour.saga(notify=deaf)
    def trip(city):
        return city
        yield

    trip = trip.using(runtime=runtime)
    assert colour.call(trip, "Rome") == "Rome"
    (run,) = runtime.runs()
    assert (run.status, run.notify_owed, str(run.notify_error)) == (
        "completed", True, "ConnectionError: no mail goes out"
    )  # fmt: skip
    (said,) = caplog.records
    assert said.getMessage() == f"notify of {run.id} failed, and will be called again"
    assert said.exc_info[0] is ConnectionError
    assert colour.call(trip, "Oslo") == "Oslo"
    assert [told.value for told in deaf.heard] == ["Rome", "Oslo"]
    assert colour.call(trip, "Rome") == "Rome"
    assert [told.value for told in deaf.heard] == ["Rome", "Oslo", "Rome", "Rome"]
    assert [run.notify_owed for run in runtime.runs()] == [False] * 3
    assert runtime.find(run.id).notify_error is None


def test_a_call_does_not_try_all_that_is_owed_while_it_fails(colour, runtime, ear, caplog):
    """A server that is away for an hour costs a call one try more, however many are owed; `resume_all` does each."""
    ear.fails = 100

    @colour.saga(notify=ear)
    def trip():
        return 1
        yield

    trip = trip.using(runtime=runtime)
    for tried in (1, 2, 2):
        before = len(ear.heard)
        colour.call(trip)
        assert len(ear.heard) - before == tried
    ear.fails = 0
    sagadsl.resume_all([trip])
    assert [run.notify_owed for run in runtime.runs()] == [False] * 3


def test_a_damaged_run_that_is_owed_the_call_keeps_nobody_from_another_one(runtime, ear, caplog):
    """It is said; the run with the same arguments goes on."""
    ear.fails = 1

    @saga(notify=ear, runtime=runtime)
    def trip():
        return 1

    trip()
    (run,) = runtime.runs()
    with closing(sqlite3.connect(runtime.journal().path)) as database, database:
        database.execute("update entries set result = '2' where kind = 'completed'")
    assert trip() == 1
    assert sagadsl.resume_all([trip]) == ()
    assert caplog.text.count(f"{run.id} was not told of: ") == 2
    assert [told.value for told in ear.heard] == [1, 1]


def test_a_failure_is_put_on_record_once_however_often_it_comes(runtime, ear, caplog):
    """A journal does not grow with each try."""
    ear.fails = 3

    @saga(notify=ear, runtime=runtime)
    def trip():
        return 1

    trip()
    for _ in range(2):
        assert sagadsl.resume_all([trip]) == ()
    (run,) = runtime.runs()
    assert len(ear.heard) == 3
    assert events(run)[1:] == ["completed", "notify_error"]
    sagadsl.resume_all(trip)
    assert events(run)[2:] == ["notify_error", "notified"]
    sagadsl.resume_all(trip)
    assert len(ear.heard) == 4


def test_the_outcome_that_is_told_later_is_that_on_record(colour, runtime, ear, caplog):
    """The value that was returned, the exception that was raised, as they come back after a restart."""
    ear.fails = 2

    @colour.saga(notify=ear)
    def trip(city):
        if city == "Atlantis":
            raise LookupError(city)
        return [city]
        yield

    trip = trip.using(runtime=runtime)
    assert colour.call(trip, "Rome") == ["Rome"]
    with pytest.raises(LookupError):
        colour.call(trip, "Atlantis")
    sagadsl.resume_all([trip])
    value, failed = ear.heard[2:]
    assert value.value == ["Rome"]
    assert (type(failed.error), failed.error.args) == (LookupError, ("Atlantis",))


def test_an_interruption_of_notify_comes_through_and_leaves_it_owed(colour, runtime):
    """A Ctrl-C is for whoever calls; the run has ended all the same."""
    heard = []

    def interrupted(outcome):
        heard.append(outcome)
        if len(heard) == 1:
            raise KeyboardInterrupt

    @colour.saga(notify=interrupted, key="k")
    def trip():
        return 1
        yield

    trip = trip.using(runtime=runtime)
    with pytest.raises(KeyboardInterrupt):
        colour.call(trip)
    (run,) = runtime.runs()
    assert (run.status, run.notify_owed, run.is_live) == ("completed", True, False)
    assert colour.call(trip) == 1
    assert len(heard) == 2


def test_a_notify_that_ends_its_thread_does_not_end_resume_all(runtime, caplog):
    """It is said, as whatever else keeps a run from going on; the others are told."""
    heard = []

    def ends(outcome):
        heard.append(outcome.value)
        raise SystemExit(3)

    @saga(notify=ends, runtime=runtime)
    def trip(city):
        return city

    for city in ("Rome", "Oslo"):
        with pytest.raises(SystemExit):
            trip(city)
    assert sagadsl.resume_all([trip]) == ()
    assert heard == ["Rome", "Oslo", "Rome", "Oslo"]
    assert caplog.text.count("was not gone on with: SystemExit: 3") == 2


def test_what_a_def_cannot_await_has_failed(runtime, ear, caplog):
    """It says so in the log; a function of any shape may turn out to give an awaitable."""

    @saga(notify=lambda outcome: heard_later(ear.heard, outcome), runtime=runtime)
    def trip():
        return 1

    trip()
    assert "which a saga that is a def cannot await" in str(runtime.runs()[0].notify_error)
    assert ear.heard == []


class Full(MemoryJournal):
    """A disk that is full once a run has ended."""

    def commit(self, log, entries, **how):
        entries = list(entries)
        if entries[-1].kind is Kind.NOTIFIED:
            raise JournalError(self.name, "the disk is full")
        super().commit(log, entries, **how)


def test_a_call_that_cannot_be_put_on_record_is_made_again(make_runtime, ear, caplog):
    """The run has its value; what the journal cannot take is said."""
    runtime = make_runtime(store=Full())

    @saga(notify=ear, runtime=runtime)
    def trip():
        return 1

    assert trip() == 1
    assert "is not on record, so it will be called again" in caplog.text
    assert runtime.runs()[0].notify_owed
    sagadsl.resume_all([trip])
    assert len(ear.heard) == 2


# -- who tells --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["file", "memory"])
def owed(request, make_runtime, deaf):
    """Give a runtime with one run that is owed a call, and its saga, in either kind of store."""
    runtime = make_runtime(store=MemoryJournal()) if request.param == "memory" else make_runtime()

    @saga(notify=deaf, runtime=runtime, key="k")
    def trip():
        return 1

    trip()
    return runtime, trip, deaf


def test_a_run_that_somebody_is_telling_of_is_left_to_them(owed):
    """Two processes that start at once do not both call."""
    runtime, trip, ear = owed
    (row,) = runtime.journal().runs(untold=True)
    elsewhere = Tenure()
    assert elsewhere.hold(runtime.journal(), row.lock)
    assert trip() == 1
    assert sagadsl.resume_all([trip]) == ()
    assert len(ear.heard) == 1
    elsewhere.end()
    assert trip() == 1
    assert len(ear.heard) == 2


def test_what_was_told_meanwhile_is_not_told_again(owed):
    """By whoever looked a moment earlier, and finds it free a moment later."""
    runtime, trip, _ = owed
    (row,) = runtime.journal().runs(untold=True)
    trip()
    tenure = Tenure()
    assert runtime.untold(trip._self_spec, row, tenure) is None
    tenure.end()
    assert runtime.journal().runs(untold=True) == []


def test_a_saga_of_the_same_name_in_another_module_is_not_asked(owed):
    """A journal may be that of several programs."""
    runtime, _, _ = owed

    def trip():
        return 1

    trip.__module__ = "elsewhere"
    trip.__qualname__ = "trip"
    other = Ear()
    sagadsl.resume_all([saga(notify=other, runtime=runtime, name=runtime.runs()[0].saga)(trip)])
    assert other.heard == []
    assert runtime.runs()[0].notify_owed


def test_a_saga_without_notify_owes_nobody_anything(runtime):
    """Nothing is written that was not written before."""

    @saga(runtime=runtime)
    def trip():
        return 1

    trip()
    (run,) = runtime.runs()
    assert events(run) == ["opened", "completed"]
    assert (run.notify_owed, run.notified) == (False, None)


def test_a_run_that_owes_the_call_is_not_pruned(owed):
    """Told, it is, as what it has come to."""
    runtime, trip, _ = owed
    (run,) = runtime.runs()
    assert runtime.prune(keep=0) == ()
    trip()
    assert runtime.prune(keep=0, status="compensated") == ()
    assert runtime.prune(keep=0, status="completed") == (run.id,)


def test_a_key_of_which_an_earlier_run_owes_the_call_is_not_pruned(runtime, ear, caplog):
    """Without the last one, the earlier one would look like what the key has come to."""
    ear.fails = 1

    @saga(notify=ear, runtime=runtime, key="k")
    def trip():
        if len(ear.heard) < 1:
            raise LookupError
        return 1

    with pytest.raises(LookupError):
        trip()
    ear.fails = 1
    assert trip() == 1
    assert [run.notify_owed for run in runtime.runs()] == [False, True]
    assert runtime.prune(keep=0) == ()
    sagadsl.resume_all([trip])
    assert len(runtime.prune(keep=0)) == 2


def test_a_list_reads_only_what_it_shows(runtime):
    """Ten thousand runs that have ended are not read whole: what is damaged in one of them is not even noticed."""

    @saga(notify=print, runtime=runtime)
    def trip():
        return 1

    trip()
    with closing(sqlite3.connect(runtime.journal().path)) as database, database:
        database.execute("update entries set arguments = 'damaged' where seq = 1")
    (run,) = runtime.runs()
    assert " + completed " in runs_text([run], run.ended)
    assert runs_document([run], "")["runs"][0]["is_notify_owed"] is False
    with pytest.raises(JournalError, match="is damaged"):
        run.steps  # noqa: B018


@given(tries=st.lists(st.tuples(st.sampled_from(["call", "resume_all"]), st.booleans()), max_size=8))
@settings(deadline=None)
def test_whatever_fails_however_often_somebody_is_told_at_last(tries):
    """Each ending is told at least once, after that no more, and the journal says the same as who was told."""
    runtime = Runtime(MemoryJournal(), clock=iter(range(1, 10**6)).__next__)
    heard, fails = [], [False]

    def notify(outcome):
        if fails[0]:
            raise ConnectionError
        heard.append(outcome.run.id)

    @saga(notify=notify, runtime=runtime)
    def trip():
        return 1

    logging.getLogger("sagadsl").setLevel(logging.CRITICAL)
    try:
        for verb, fails[0] in tries:
            trip() if verb == "call" else sagadsl.resume_all([trip])
            owed = {run.id for run in runtime.runs() if run.notify_owed}
            assert owed | set(heard) == {run.id for run in runtime.runs()}
            assert not owed & set(heard)
        fails[0] = False
        sagadsl.resume_all([trip])
    finally:
        logging.getLogger("sagadsl").setLevel(logging.NOTSET)
    assert sorted(heard) == sorted(run.id for run in runtime.runs())


def test_a_run_that_owes_the_call_is_a_note_of_doctors(owed):
    """In a file; what is only in memory is not examined."""
    runtime, trip, _ = owed
    if isinstance(runtime.journal(), MemoryJournal):
        return
    for count in (1, 0):
        found = [finding for finding in runtime.upkeep.examined() if finding.check == "notify"]
        assert len(found) == count
        trip()


# -- seen -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(tmp_path, deaf):
    """Give a folder whose journal has a run that is owed the call, and its saga."""

    @saga(notify=deaf, store=tmp_path / "sagadsl.db", key="{city}")
    def trip(city):
        return city

    trip("Rome")
    return Place(tmp_path), trip


def test_show_tells_whether_somebody_was_told(shown):
    """To people, and as data."""
    place, trip = shown
    before = place.sagadsl("show", "@last").stdout
    assert "notify   failed with ConnectionError: no mail goes out; owed: the next call" in before
    trip("Rome")
    assert "notified  " in place.sagadsl("show", "@last").stdout
    document = json.loads(place.sagadsl("show", "@last", "--json").stdout)
    judge("run_document").validate(document)
    told = [document["run"][name] for name in ("is_notify_owed", "notify_error")]
    assert (told, bool(document["run"]["notified"])) == ([False, None], True)


def test_doctor_names_the_runs_that_are_owed_the_call(shown):
    """And who makes it."""
    place, trip = shown
    found = place.sagadsl("doctor")
    assert found.returncode == 0
    assert "1 ended, and the saga's notify was not told yet: trip/Rome" in found.stdout.replace("test_", "")
    assert "sagadsl.resume_all()" in found.stdout
    trip("Rome")
    assert "notify" not in place.sagadsl("doctor").stdout


def test_an_exported_run_owes_the_call_where_it_is_imported(shown, tmp_path):
    """Word for word, and one that was told owes nothing there."""
    place, trip = shown
    for told in (False, True):
        if told:
            trip("Rome")
        text = place.sagadsl("export", "@last").stdout
        judge("export_document").validate(json.loads(text))
        place.write("run.jsonl", text)
        other = f"other-{told}.db"
        assert place.sagadsl("import", "run.jsonl", "--db", other).returncode == 0
        (run,) = Runtime(tmp_path / other).runs()
        assert run.notify_owed is not told
        assert place.sagadsl("export", "@last", "--db", other).stdout == text


def test_the_views_say_it_in_words(shown, tmp_path):
    """A column says who is owed the call, the timeline what came of each."""
    _, trip = shown
    asked = "select notify_owed from runs", "select event from timeline order by seq"
    found = []
    for _ in range(2):
        with closing(sqlite3.connect(tmp_path / "sagadsl.db")) as database:
            found.append([[row[0] for row in database.execute(sql)] for sql in asked])
        trip("Rome")
    assert found == [
        [[1], ["opened", "completed", "notify_error"]],
        [[0], ["opened", "completed", "notify_error", "notified"]],
    ]


def test_a_row_that_owes_a_call_for_a_run_that_has_not_ended_is_damaged(shown, tmp_path):
    """Nobody would ever make it."""
    place, _ = shown
    with closing(sqlite3.connect(tmp_path / "sagadsl.db")) as database, database:
        database.execute("delete from entries where kind in ('completed', 'notify_error')")
        database.execute("update run set finished = null")
    found = place.sagadsl("doctor")
    assert found.returncode == 5
    assert "which its row denies" in found.stdout
