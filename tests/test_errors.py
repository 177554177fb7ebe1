"""Every public error survives pickling and copying, says what happened, and ends with what to do next."""

import copy
import pickle

import pytest

import sagadsl
from sagadsl import errors
from sagadsl.cli.program import program
from sagadsl.errors import (
    CompensationError,
    ExitCode,
    Fault,
    JournalError,
    NotStorableError,
    ReplayError,
    RunCancelledError,
    RunConflictError,
    RunLockedError,
    RunLostError,
    SagaError,
    StepError,
    StepTimeout,
    Stop,
    SuspendedError,
    UsageError,
)

FAULT = Fault("shop:Declined", "no money", args=("no money",))

EXAMPLES = {
    "usage": (UsageError("step charge: name it"), "name it"),
    "step": (StepError("charge", FAULT), "`sagadsl.register(Declined, dump, load)` makes it come back as itself."),
    "step of a class that refuses": (
        StepError("charge", Fault("shop:Declined", "no money", refused=True)),
        "from what the journal has; `sagadsl.register(Declined, dump, load)` makes it come back as itself.",
    ),
    "step of a local class": (
        StepError("charge", Fault("shop:pay.<locals>.Declined", "no money")),
        "If that cannot be, `sagadsl.register(Declined, dump, load)` makes it come back as itself.",
    ),
    "timeout": (StepTimeout("charge", 2.5), "whether its effect happened is not known"),
    "argument": (NotStorableError("charge", "argument", "Session", "$.session", "no form"), "client or secret"),
    "result": (NotStorableError("charge", "result", "Session", "$[0]", "no form"), "register(Session, dump, load)"),
    "result with a cure": (NotStorableError("charge", "result", "generator", "$", "no form", "make a list"), "a list"),
    "conflict": (RunConflictError("o/1", "has other arguments: choose another key", ("item",)), "choose another key"),
    "compensation": (CompensationError("o/1", "charge", FAULT), "then: sagadsl compensate o/1"),
    "compensation of several": (
        CompensationError("o/1", "charge", FAULT, ("ship",), ("reserve", "look")),
        "; compensated ship; not yet tried: reserve, look. Mend the cause, then: sagadsl compensate o/1",
    ),
    "cancelled": (RunCancelledError("o/1", "process 4 on host"), "using(rerun=True)"),
    "suspended": (SuspendedError("o/1", "paused", "ValueError: x"), "Compensate: sagadsl compensate o/1"),
    "replay": (
        ReplayError("o/1", "", ("a", "b"), ("a", "c"), "c is called where b is recorded"),
        "sagadsl compensate o/1",
    ),
    "replay in a child": (ReplayError("o/1", "pack", (), (), "it raised"), "sagadsl compensate o/1"),
    "locked": (RunLockedError("o/1"), "or take it over by force with using(steal=True)"),
    "locked by": (RunLockedError("o/1", "host", 7, "2026-11-22T10:00:00Z"), "with using(steal=True)"),
    "lost": (RunLostError("o/1"), ""),
    "lost to a parent": (RunLostError("o/1", 17), "run of its own"),
    "journal": (JournalError("/x/s.db", "is full: free some space"), "free some space"),
}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])  # noqa: S301
def test_every_error_survives_pickling_and_copying(name, again):
    """Type, attributes, text and notes are the same in another process."""
    error = EXAMPLES[name][0]
    made = again(error)
    assert type(made) is type(error)
    assert vars(made) == vars(error) != {}
    assert made.args == error.args
    assert str(made) == str(error)
    assert repr(made) == repr(error)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_text_of_an_error_ends_with_what_to_do_next(name):
    """What happened comes first, the cure last."""
    error, cure = EXAMPLES[name]
    assert str(error).endswith(cure)
    assert cure or "has stopped" in str(error)
    assert error.args


def test_every_public_error_is_among_the_examples():
    """A new one cannot be forgotten here."""
    public = {v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, SagaError)} - {SagaError}
    assert public == {type(error) for error, _ in EXAMPLES.values()}


def test_an_error_of_the_users_own_has_the_fields_of_the_one_it_extends():
    """A subclass adds its fields, or none; wrong arguments are told with the right ones."""

    class Own(UsageError):
        pass

    class More(Own):
        line: int = 3

    assert [Own("a").args, vars(More("a")), More("a", line=4).args] == [("a",), {"message": "a", "line": 3}, ("a", 4)]
    for wrong in [lambda: More(), lambda: More("a", 1, 2), lambda: More("a", odd=1)]:
        with pytest.raises(TypeError, match=r"More\(message, line\) was given"):
            wrong()


def test_a_step_timeout_is_a_timeout_error():
    """Who catches the built-in one catches it."""
    assert issubclass(StepTimeout, TimeoutError)
    assert issubclass(StepTimeout, SagaError)


def test_a_replay_error_shows_both_sequences_and_marks_the_first_difference():
    """Side by side, as far as the longer of the two goes."""
    error = ReplayError("o/1", "pack", ("reserve", "charge", "mail"), ("reserve", "mail"), "mail is called")
    lines = str(error).splitlines()
    assert lines[0] == "run o/1: the code and the journal differ in pack: mail is called"
    assert [line.split() for line in lines[2:6]] == [
        ["recorded", "this", "program", "now"], ["reserve", "reserve"], [">>", "charge", "mail"], ["mail", "-"],
    ]  # fmt: skip


def test_a_class_that_is_not_to_be_found_is_first_of_all_put_where_it_is():
    """At the top of the program, or of its module."""
    told = [str(EXAMPLES[name][0]) for name in ("step", "step of a local class")]
    assert "`import shop` at the top of the program has it come back as itself" in told[0]
    assert "the class at the top of shop, not inside a function, has it come back as itself" in told[1]


def test_a_replay_error_does_not_advise_what_would_do_a_step_again():
    """In the run that it is about a step with a new key is a new step; the cure is for later ones."""
    told = str(EXAMPLES["replay"][0])
    assert told.index("a new `key=` would do again here what is done") < told.index("For runs that begin from then on")
    assert told.index("For runs that begin from then on") < told.index("in no fixed order a `key=`")


def test_a_replay_error_of_a_long_run_shows_what_is_near_the_first_difference():
    """Thousands of calls fit on a page, and say how many they are; the attributes have them all."""
    recorded = tuple(f"convert#{number}" for number in range(3000))
    called = (*recorded[:1500], "mail")
    error = ReplayError("o/1", "", recorded, called, "mail is called")
    lines = str(error).splitlines()[3:-2]
    assert [line.split() for line in (lines[0], lines[1], *lines[5:8], *lines[-2:])] == [
        ["…", "1,495", "before,", "which", "are", "alike"], ["convert#1495", "convert#1495"],
        ["convert#1499", "convert#1499"], [">>", "convert#1500", "mail"], ["convert#1501", "-"],
        ["convert#1505", "-"], ["…", "1,494", "more"],
    ]  # fmt: skip
    assert (error.recorded, error.called) == (recorded, called)
    alike = ReplayError("o/1", "", recorded, recorded, "it raised ValueError")
    assert [line.split() for line in str(alike).splitlines()[3:5]] == [
        ["…", "2,995", "before,", "which", "are", "alike"], ["convert#2995", "convert#2995"],
    ]  # fmt: skip


def test_a_locked_run_names_its_owner_when_it_is_known():
    """Host, process and time, or nothing of it."""
    assert "by process 7 on host since 2026" in str(EXAMPLES["locked by"][0])
    assert "is being run;" in str(EXAMPLES["locked"][0])


def test_a_stop_is_no_exception_that_a_body_catches_by_accident():
    """It carries its reason out of the body, and is none of the public errors."""
    reason = RunLostError("o/1")
    stop = Stop(reason)
    assert not isinstance(stop, Exception)
    assert stop.reason is reason
    assert "catch Exception, never BaseException" in str(stop)


def test_an_exit_code_is_a_number_with_words():
    """It is shown as the number that it is, and the words are those that `main` and ``sagadsl --help`` have."""
    codes = [*ExitCode]
    assert (codes, repr(codes[:2]), f"{codes[0]}") == ([0, 1, 2, 3, 4, 5, 6, 7, 130, 143], "[0, 1]", "0")
    assert copy.copy(codes[4]) is pickle.loads(pickle.dumps(codes[4])) is ExitCode.LOCKED  # noqa: S301
    words = "; ".join(f"{code} {code.words}" for code in ExitCode)
    assert words in " ".join(sagadsl.main.__doc__.split())
    assert words in program.epilog


def test_a_fault_reads_like_the_last_line_of_a_traceback():
    """Its name is the class's own."""
    assert [str(Fault("m:A.B", "text")), str(Fault("m:E", "")), Fault("m:A.B", "x").name] == ["B: text", "E", "B"]
