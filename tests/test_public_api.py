"""What users may rely on, by name. A change here is a change for them, and needs its reason in the commit."""

import inspect
import subprocess
import sys
import typing

import pytest

import sagadsl
from sagadsl._dsl import blocks, sagas, steps, undecorated

HEAVY = (
    "sqlite_utils",
    "click",
    "psycopg",
    "sqlalchemy",
    "numpy",
    "pandas",
    "pydantic",
    "ollama",
    "opentelemetry",
    "msgspec",
    "IPython",
    "hypothesis",
    "cattrs",
    "tabulate",
)

PUBLIC = [
    "IRREVERSIBLE",
    "PIVOT",
    "Artifact",
    "Cause",
    "Compensated",
    "Compensation",
    "CompensationError",
    "CompensationFailed",
    "Completed",
    "Current",
    "DryRun",
    "Entry",
    "Fault",
    "Journal",
    "JournalError",
    "Kind",
    "Landed",
    "Live",
    "NotLanded",
    "NotStorableError",
    "Outcome",
    "ReplayError",
    "Retry",
    "Run",
    "RunCancelledError",
    "RunConflictError",
    "RunInfo",
    "RunLockedError",
    "RunLostError",
    "Runtime",
    "Saga",
    "SagaError",
    "Stats",
    "Status",
    "Step",
    "StepError",
    "StepInfo",
    "StepStatus",
    "StepTimeout",
    "Suspended",
    "SuspendedError",
    "Unknown",
    "UsageError",
    "aio",
    "archive",
    "configure",
    "current",
    "find",
    "main",
    "now",
    "outcome",
    "parallel",
    "provide",
    "prune",
    "random",
    "register",
    "resume_all",
    "runs",
    "saga",
    "stats",
    "step",
    "uuid4",
]


def test_the_front_door_has_these_names():
    """Sorted, complete, and each of them there."""
    assert sagadsl.__all__ == PUBLIC
    assert [name for name in PUBLIC if not hasattr(sagadsl, name)] == []


def test_no_other_plain_name_stands_in_the_front_door():
    """Walls have an underscore; what has none is a module or exported."""
    plain = {name for name in dir(sagadsl) if not name.startswith("_")}
    modules = {name for name in plain if inspect.ismodule(getattr(sagadsl, name))}
    assert plain - (modules - {"aio"}) == set(PUBLIC)


def test_what_is_imported_when_it_is_named_is_a_name_like_any_other():
    """In a process that has not named it, it is listed, found and then kept; what is not there is missed as usual."""
    program = """
import sagadsl
assert "Stats" in dir(sagadsl) and "Stats" not in vars(sagadsl)
from sagadsl import Stats, DryRun, archive, main
assert vars(sagadsl)["Stats"] is Stats
assert not hasattr(sagadsl, "Statistics")
try: sagadsl.Statistics
except AttributeError as error: print(error)
from sagadsl import *
"""
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert said == "module 'sagadsl' has no attribute 'Statistics'\n"


def options_of(function):
    """Return the keyword-only options that the signature for users has."""
    found = set()
    for overload in __import__("typing").get_overloads(function):
        found |= {p.name for p in inspect.signature(overload).parameters.values() if p.kind is p.KEYWORD_ONLY}
    return found


def test_the_options_of_a_step_are_these():
    """What the decorator takes, and what one call may settle."""
    options = {"compensate", "retries", "timeout", "probe", "on_uncertain", "key", "name", "title"}
    options |= {"read_only", "live", "transaction", "stands"}
    assert options == steps.OPTIONS == options_of(sagadsl.step)
    assert {"key", "compensate", "retries", "timeout"} == steps.USING


def test_the_options_of_a_saga_are_these():
    """What the decorator takes, and what one call may settle."""
    options = {
        "name",
        "title",
        "key",
        "live",
        "on_failure",
        "on_compensation_failure",
        "compensate_order",
        "resume",
        "store",
        "durability",
        "version",
        "notify",
        "runtime",
    }
    using = {"id", "key", "store", "resume", "durability", "on_failure", "steal", "rerun", "runtime"}
    assert options == sagas.OPTIONS
    assert options_of(sagadsl.saga) == sagas.OPTIONS | blocks.OPTIONS
    assert using == sagas.USING
    assert using | {"on_compensation_failure", "compensate_order", "title", "version"} == blocks.OPTIONS
    assert steps.OPTIONS | {"again"} == undecorated.OPTIONS
    assert set(undecorated.StepOptions.__annotations__) == undecorated.OPTIONS
    for function, taken in ((sagadsl.Saga.using, sagas.USING), (sagadsl.Step.using, steps.USING)):
        assert {p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY} == taken


def test_an_option_that_nobody_knows_is_refused():
    """A typing error is no option that is silently ignored."""
    with pytest.raises(sagadsl.UsageError, match="compensates"):
        sagadsl.step(compensates=None)
    with pytest.raises(sagadsl.UsageError, match="retries"):
        sagadsl.saga(retries=3)


def test_importing_the_package_loads_nothing_heavy():
    """The front door costs what it shows; the rest comes when it is asked for."""
    code = f"import sys, sagadsl; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


LOOKING = {"sagadsl._core.values.seen", "sagadsl._core.values.outcomes", "sagadsl._core.shown", "sagadsl._dsl.current"}


def test_a_program_that_only_runs_sagas_imports_nothing_to_look_at_them(tmp_path):
    """What runs look like, and how they ended, is imported by whoever asks."""
    code = f"""
import sys, sagadsl
@sagadsl.step
def work(): return 1
@sagadsl.saga(store="sagas.db")
def trip(): return work()
trip()
print(sorted({LOOKING!r} & {{*sys.modules}}))
sagadsl.Runtime("sagas.db").runs()[0].steps, sagadsl.current(), sagadsl.Completed
print(sorted({LOOKING!r} & {{*sys.modules}}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", str(sorted(LOOKING))]


def test_importing_the_package_writes_nothing_and_opens_nothing(tmp_path):
    """No store before something is first run."""
    subprocess.run([sys.executable, "-c", "import sagadsl"], cwd=tmp_path, check=True)
    assert list(tmp_path.iterdir()) == []


def named():
    """Yield the functions, classes and methods that users have, by the name that they have for them."""
    for name in PUBLIC:
        thing = getattr(sagadsl, name)
        inside = vars(thing) if inspect.ismodule(thing) else dict(inspect.getmembers(thing, inspect.isroutine))
        yield from ((name, thing), *((f"{name}.{n}", each) for n, each in inside.items() if n[0] != "_"))
        if inspect.isclass(thing):
            properties = inspect.getmembers(thing, lambda each: isinstance(each, property))
            yield from ((f"{name}.{n}", each.fget) for n, each in properties)
    yield from inspect.getmembers(blocks.Block, inspect.isfunction)


def test_every_annotation_of_what_is_public_can_be_resolved():
    """Frameworks and documentation ask for them when the program runs; also where what they name is imported later."""
    asked = {name: thing for name, thing in named() if inspect.isroutine(thing) or inspect.isclass(thing)}
    hints = {name: typing.get_type_hints(thing) for name, thing in asked.items()}
    assert hints["find"]["return"] is sagadsl.Run
    assert hints["Run.graph"]["return"].__name__ == "Graph"
    assert hints["cancel"]["return"] is sagadsl.Run


def test_the_package_is_typed():
    """Type checkers read our annotations."""
    assert (__import__("importlib").resources.files(sagadsl) / "py.typed").is_file()
