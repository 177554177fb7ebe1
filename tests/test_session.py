"""What is typed in, cell by cell: functions are defined anew, and the newest are used and told apart."""

import linecache
import logging
import os
import py_compile
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import sagadsl
from sagadsl._core.session import body_of, program_at
from sagadsl.cli.targets import target_words
from sagadsl.report import run_text


class Session:
    """A main program without a file, whose cells keep their source as IPython's do."""

    def __init__(self, main, effects):
        self.main, self.names, self.cells = main, vars(main), 0
        self.names |= {"saga": sagadsl.saga, "step": sagadsl.step, "sagadsl": sagadsl, "note": effects.append}

    def run(self, source):
        """Run a cell; return the value of its last line if that is `it = ...`."""
        self.cells += 1
        name = f"<cell {self.cells}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        exec(compile(source, name, "exec"), self.names)  # noqa: S102  # cells are code
        return self.names.get("it")


@pytest.fixture
def effects():
    """Give the world, which is a list: nothing is killed here."""
    return []


@pytest.fixture
def session(monkeypatch, tmp_path, effects):
    """Give a session, with a store of its own, that pauses what fails."""
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAGADSL_DB", raising=False)
    sagadsl.configure(store=tmp_path / "sagas.db", on_failure="pause")
    yield Session(main, effects)
    sagadsl.configure(store=None, on_failure="compensate")


RELEASE = """
def release(item):
    note(f"-{item}")
"""
RESERVE = """
@step(compensate=release)
def reserve(item: str) -> str:
    note(item)
    return item
"""
CHARGE = """
@step
def charge(amount: int) -> int:
    note("charge")
    return amount / 0
"""
ORDER = """
@saga
def order(item):
    return charge(len(reserve(item)))
"""


@pytest.fixture
def failed(session, effects):
    """Give a session in which an order has failed in its second step."""
    for cell in (RELEASE, RESERVE, CHARGE, ORDER):
        session.run(cell)
    with pytest.raises(sagadsl.SuspendedError):
        session.run("order('lamp')")
    return session


def marks():
    """Return what is marked of the newest run, by step."""
    return {step.key: step.redefined for step in sagadsl.runs()[0].steps}


def test_a_definition_that_is_run_twice_is_not_marked(failed, effects):
    """Neither is one that is only laid out anew, or decorated otherwise: it does the same."""
    for cell in (RELEASE, RESERVE, CHARGE, ORDER):
        failed.run(cell)
    failed.run(RESERVE.replace("note(item)", "note(item)  # as ever"))
    failed.run(CHARGE.replace("@step", "@step(retries=2)"))
    assert marks() == {"reserve": (), "charge": ()}
    assert "redefined" not in run_text(sagadsl.runs()[0])


def test_a_step_that_was_mended_is_used_and_one_that_changed_after_it_ran_is_marked(failed, effects):
    """The mark is gone where the new body has been entered."""
    failed.run(RESERVE.replace("note(item)", "note(item + '!')"))
    failed.run(CHARGE.replace("amount / 0", "amount"))
    assert marks() == {"reserve": ("reserve",), "charge": ("charge",)}
    assert "redefined since: charge" in run_text(sagadsl.runs()[0])
    assert failed.run("it = order('lamp')") == 4
    assert effects == ["lamp", "charge", "charge"]
    assert marks() == {"reserve": ("reserve",), "charge": ()}


def test_a_compensation_that_was_mended_is_used_without_its_step(failed, effects):
    """It is found by its name; what was recorded with the old one is marked."""
    failed.run(RELEASE.replace("-{item}", "--{item}"))
    assert marks() == {"reserve": ("release",), "charge": ()}
    run = failed.run("it = sagadsl.runs()[0].compensate()")
    assert run.status == "compensated"
    assert effects == ["lamp", "charge", "--lamp"]


def test_a_compensation_that_no_longer_fits_stops_the_run_until_it_does(failed, effects):
    """It is not called with something else, and the old one is not called instead."""
    failed.run("def release(item, where, how): note('wrong')")
    with pytest.raises(sagadsl.CompensationError, match="release of step reserve is not to be found"):
        failed.run("sagadsl.runs()[0].compensate()")
    failed.run(RELEASE)
    assert failed.run("it = sagadsl.runs()[0].compensate()").status == "compensated"
    assert effects == ["lamp", "charge", "-lamp"]


def test_a_step_that_is_mended_and_compensated_from_now_on_is_owed_that(failed, effects):
    """What is owed for a step is what it said when it was last entered."""
    failed.run("def refund(amount): note('refund')")
    failed.run(CHARGE.replace("@step", "@step(compensate=refund)").replace("amount / 0", "amount"))
    failed.run(ORDER.replace("return", "it =") + "    raise ValueError(it)\n")
    with pytest.raises(sagadsl.SuspendedError):
        failed.run("order('lamp')")
    assert [step.key for step in sagadsl.runs()[0].stack] == ["charge", "reserve"]
    failed.run("sagadsl.runs()[0].compensate()")
    assert effects == ["lamp", "charge", "charge", "refund", "-lamp"]


def test_what_is_added_by_hand_is_compensated_by_the_newest_function_too(session, effects):
    """Undecorated steps and compensations are found by their names."""
    session.run(RELEASE)
    session.run("def fetch(day: str) -> str:\n    note(day)\n    return day\n")
    session.run("hand = saga('hand')\nhand.step(fetch)('monday')\nhand.add_compensation(release, 'file')\n")
    assert marks() == {"fetch": (), "add_compensation(release)": ()}
    session.run("def fetch(day: str) -> str:\n    return 'nothing'\n")
    session.run(RELEASE.replace("-{item}", "--{item}"))
    assert marks() == {"fetch": ("fetch",), "add_compensation(release)": ("release",)}
    session.run("hand.compensate()")
    assert effects == ["monday", "--file"]


def test_sagas_of_a_session_do_not_warn_of_each_other(failed, caplog):
    """Nobody runs its cells from the top, so what is interrupted elsewhere is no sign of a mistake."""
    with caplog.at_level(logging.WARNING, "sagadsl"):
        failed.run("@saga\ndef other(): return reserve('rug')\nother()")
    assert caplog.text == ""


def test_what_has_no_source_is_not_told_apart(session):
    """A lambda, a prompt that keeps no lines, and what stands in a file: nothing is recorded of their bodies."""
    exec("def gone(): pass", session.names)  # noqa: S102  # a prompt that keeps nothing
    assert body_of(session.names["gone"]) is None
    session.run("it = [lambda: 1, lambda: 2]")
    assert body_of(session.names["it"][0]) is None
    session.run("it = (\n    lambda: 1\n)")
    assert body_of(session.names["it"]) is None
    assert body_of(test_what_has_no_source_is_not_told_apart) is None
    assert body_of(print) is None


def test_a_session_has_no_file_even_where_a_debugger_writes_one(session, tmp_path):
    """Its runs are adopted by what is typed in in the same folder."""
    cell = tmp_path / "1234.py"
    cell.touch()
    assert program_at(str(cell), "__main__") == f"session in {tmp_path}"
    assert program_at(str(cell), "tools") == str(cell)
    session.main.__file__ = str(cell)
    assert program_at(str(cell), "__main__") == str(cell)


PACKED = """
import os, sagadsl

def add(effect):
    with open(os.environ["WORLD"], "a") as file:
        print(effect, file=file)

@sagadsl.step(compensate=None)
def charge():
    add("charge")

@sagadsl.step(compensate=None)
def publish():
    if os.environ.get("DIE"):
        os.kill(os.getpid(), 9)
    add("publish")

@sagadsl.saga
def main():
    charge()
    publish()

if __name__ == "__main__":
    main()
    print(sagadsl.runs()[0].program)
"""


def packed(folder, how):
    """Return a program without a source file: in an archive, or its byte code alone, which was made elsewhere."""
    if how == "archive":
        with zipfile.ZipFile(folder / "app.pyz", "w") as archive:
            archive.writestr("__main__.py", PACKED)
        return folder / "app.pyz"
    (folder / "source.py").write_text(PACKED)
    py_compile.compile(str(folder / "source.py"), cfile=str(folder / "app.pyc"), dfile="build/app.py")
    return folder / "app.pyc"


@pytest.mark.parametrize(("how", "program"), [("archive", "app.pyz/__main__.py"), ("byte code", "app.pyc")])
def test_what_is_packed_is_the_same_program_wherever_it_is_started(how, program, tmp_path, world):
    """Killed here, it goes on where it is run again from another folder: nothing is charged twice."""
    started = packed(tmp_path, how)
    (tmp_path / "elsewhere").mkdir()
    variables = os.environ | {"SAGADSL_DB": str(tmp_path / "sagas.db"), "WORLD": str(world.path)}
    variables["PYTHONPATH"] = str(Path(sagadsl.__file__).parents[1])

    def run(argument, folder, **more):
        command = [sys.executable, str(argument)]
        return subprocess.run(command, cwd=folder, env=variables | more, capture_output=True, text=True, check=False)

    assert run(started.name, tmp_path, DIE="1").returncode == -signal.SIGKILL
    again = run(started, tmp_path / "elsewhere")
    assert (again.returncode, again.stdout) == (0, f"{tmp_path / program}\n"), again.stderr
    assert world == ["charge", "publish"]
    assert target_words(sagadsl.Runtime(variables["SAGADSL_DB"]).runs()[0]) == ""  # no command could load it


def test_a_frozen_program_is_its_executable_wherever_it_unpacks_itself(monkeypatch):
    """Of the paths in it that are not there, each is a file of its own."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/opt/shop/shop")
    monkeypatch.chdir("/")
    assert program_at("shop/orders.py", "shop.orders") == "/opt/shop/shop/shop/orders.py"
    assert program_at(__file__, __name__) == __file__


def test_what_was_compiled_elsewhere_is_known_by_its_module(monkeypatch):
    """What has no file at all is typed in, by whatever name it was compiled."""
    monkeypatch.chdir("/")
    assert program_at("build/tests.py", __name__) == __file__
    assert program_at("build/tests.py", "nowhere") == program_at("<string>", __name__) == "session in /"


def test_what_a_session_is_told_to_type_is_python(failed, monkeypatch):
    """No command line has its functions."""
    run = sagadsl.runs()[0]
    error = sagadsl.SuspendedError(run.id, "paused", "it failed")
    assert f"sagadsl resume {run.id}" in str(error)
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert str(error).endswith(
        f"call it again, or sagadsl.find('{run.id}').resume()   Compensate: sagadsl.find('{run.id}').compensate()"
    )
    elsewhere = sagadsl.CompensationError(run.id, "charge", sagadsl.Fault("ValueError", ""), store="/else/where.db")
    assert str(elsewhere).endswith(f"then: sagadsl.Runtime('/else/where.db').find('{run.id}').compensate()")
    block = sagadsl.SuspendedError(run.id, "paused", "it failed", is_block=True)
    assert "Go on: run it again " in str(block)
