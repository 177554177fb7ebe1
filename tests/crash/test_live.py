"""Live arguments across processes that are really killed: the README's shop, methods in a main script, workers."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import sagadsl

ROOT = Path(sagadsl.__file__).parents[1]
KILLED = -signal.SIGKILL


def start(folder, *command, **environment):
    """Start a Python program in a folder, with this package."""
    variables = {k: v for k, v in os.environ.items() if k != "SAGADSL_DB"} | {"PYTHONPATH": str(ROOT)} | environment
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *command], cwd=folder, env=variables, **pipes)


def run(folder, *command, typed="", **environment):
    """Run a Python program to its end; return its exit code, and what it wrote."""
    process = start(folder, *command, **environment)
    out, told = process.communicate(typed, timeout=120)
    return process.returncode, out, told


# -- the README's shop ------------------------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path):
    """Give a folder with the README's shop, whose order was killed when everything was reserved."""
    fences = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (source,) = (text for text in fences if text.startswith("# shop.py"))
    (tmp_path / "shop.py").write_text(source)
    process = start(tmp_path, "-u", "shop.py")
    while process.stdout.read(1) not in {":", ""}:  # "reserved:"
        pass
    process.kill()
    process.communicate()
    assert process.returncode == KILLED
    assert reserved(tmp_path) == ["lamp", "bed"]
    return tmp_path


def reserved(folder):
    with closing(sqlite3.connect(folder / "shop.db")) as database:
        return [item for (item,) in database.execute("select item from reserved order by rowid")]


def test_the_shop_of_the_readme_is_compensated_from_the_command_line(shop):
    """By a process that nobody hands a connection."""
    code, _, told = run(shop, "-m", "sagadsl", "compensate", "@last", "--target", "shop.py:order", "--yes")
    assert (code, reserved(shop)) == (0, []), told
    assert "is compensated (compensated reserve#2, reserve)" in told


def test_the_shop_of_the_readme_is_resumed_from_the_command_line(shop):
    """With a connection of its own; nothing is reserved twice."""
    code, _, told = run(shop, "-m", "sagadsl", "resume", "@last", "--target", "shop.py:order", typed="\n")
    assert (code, reserved(shop)) == (0, ["lamp", "bed"]), told
    assert "completed" in told


@pytest.mark.parametrize("verb", ["resume", "compensate"])
def test_a_shop_that_provides_nothing_is_told_what_is_missing(shop, verb):
    """Before anything is entered or written: exit code 2, and the run as it was."""
    path = shop / "shop.py"
    path.write_text(path.read_text().replace("sagadsl.provide(", "print("))
    flags = ["--yes"] if verb == "compensate" else []
    code, _, told = run(shop, "-m", "sagadsl", verb, "@last", "--target", "shop.py:order", *flags)
    assert code == 2
    assert "needs the live argument connection, a Connection" in told
    assert "sagadsl.provide(Connection, factory)" in told
    assert reserved(shop) == ["lamp", "bed"]
    assert '"status": "open"' in run(shop, "-m", "sagadsl", "list", "--json")[1]


# -- methods in a main script -----------------------------------------------------------------------------------------

SCRIPT = """
import os, signal, sys
import sagadsl

def world(effect):
    with open("world.txt", "a") as file:
        file.write(effect + "\\n")
    if os.environ.get("DIE") == effect:
        os.kill(os.getpid(), signal.SIGKILL)

class Shop:
    def __init__(self, name):
        self.name = name

    def release(self, item):
        world(f"-{item}@{self.name}")

    @sagadsl.step(compensate=release)
    def reserve(self, item: str) -> str:
        world(f"{item}@{self.name}")
        return item

    @sagadsl.saga
    def order(self, items: list[str]) -> list[str]:
        return [self.reserve(item) for item in items]

class Kiosk(Shop):
    '''One that changes nothing.'''

def make_shop():
    world("made")
    return Kiosk("provided")

sagadsl.provide(Kiosk, make_shop)

if __name__ == "__main__":
    if sys.argv[1] == "call":
        print(*Shop(sys.argv[2]).order(["lamp", "bed", "nail"]))
    else:
        (found,) = sagadsl.runs()
        print(getattr(found, sys.argv[1])())
"""


def test_methods_of_a_main_script_that_is_killed_go_on_by_calling_and_by_id(tmp_path):
    """Kill it, call it on another instance and kill that, then resume or compensate it with what is provided."""
    (tmp_path / "shop.py").write_text(SCRIPT)
    assert run(tmp_path, "shop.py", "call", "one", DIE="bed@one")[0] == KILLED
    assert run(tmp_path, "shop.py", "call", "two", DIE="nail@two")[0] == KILLED
    assert run(tmp_path, "shop.py", "compensate", DIE="-bed@provided")[0] == KILLED
    code, out, told = run(tmp_path, "shop.py", "compensate")
    assert code == 0, told
    assert "compensated, 3 steps" in out
    assert (tmp_path / "world.txt").read_text().split() == [
        *("lamp@one", "bed@one", "bed@two", "nail@two"),
        *("made", "-nail@provided", "-bed@provided", "made", "-bed@provided", "-lamp@provided"),
    ]


def test_a_script_that_is_imported_goes_on_with_what_it_recorded_as_main(tmp_path):
    """Its module is the same under both names, in the class of ``self`` too."""
    (tmp_path / "shop.py").write_text(SCRIPT)
    assert run(tmp_path, "shop.py", "call", "one", DIE="bed@one")[0] == KILLED
    code, out, told = run(
        tmp_path, "-c", "import shop, sagadsl; sagadsl.configure(store='sagadsl.db'); print(sagadsl.runs()[0].resume())"
    )
    assert (code, out) == (0, "['lamp', 'bed', 'nail']\n"), told
    assert (tmp_path / "world.txt").read_text().split() == [
        *("lamp@one", "bed@one", "made", "bed@provided", "nail@provided"),
    ]


# -- workers ----------------------------------------------------------------------------------------------------------

POOL = """
import multiprocessing, os, signal, sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
import sagadsl

def world(effect):
    with open("world.txt", "a") as file:
        file.write(effect + "\\n")

@sagadsl.step(compensate=None)
def work(name: str, part: int) -> int:
    world(f"{name}{part}")
    if os.environ.get("DIE") == f"{name}{part}":
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()

@sagadsl.saga(key="{name}")
def task(name: str) -> bool:
    return work(name, 1) != 0 and work(name, 2) != 0

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        tasks = [pool.submit(task, name) for name in "abcdef"]
        try:
            print(*(each.result() for each in tasks))
        except BrokenProcessPool:
            print("broken")
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_whose_worker_is_killed_goes_on_in_another(tmp_path, method):
    """Sagas themselves are the tasks; what a worker had recorded when it was killed is not done again."""
    (tmp_path / "pool.py").write_text(POOL)
    assert run(tmp_path, "pool.py", method, DIE="c2")[1] == "broken\n"
    before = (tmp_path / "world.txt").read_text().split()
    assert {"c1", "c2"} <= set(before)
    code, out, told = run(tmp_path, "pool.py", method)
    assert (code, out) == (0, "True True True True True True\n"), told
    effects = (tmp_path / "world.txt").read_text().split()
    assert effects.count("c1") == 1
    assert effects.count("c2") == 2
    assert {effects.count(f"{name}{part}") for name in "abdef" for part in "12"} <= {1, 2}
    with closing(sqlite3.connect(tmp_path / "sagadsl.db")) as database:
        assert database.execute("select distinct status from runs").fetchall() == [("completed",)]
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        (defined,) = database.execute("select distinct definition ->> 'module' from entries where kind = 'opened'")
        assert defined == ("pool",)
