"""The command line as people have it: the real program in a process of its own, on runs that were really killed."""

import atexit
import functools
import json
import os
import pty
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.commands import Commands

SCRIPT = '''\
"""A trip whose faults are files in the working directory, and whose effects are lines of one."""

import os
import signal
import sys
from pathlib import Path

from attrs import frozen

from sagadsl import Compensation, main, saga, step


def happen(effect):
    with Path("world").open("a") as file:
        file.write(f"{effect}\\n")


def is_set(fault):
    return Path(fault).exists()


@frozen
class Ticket:
    city: str


def cancel_flight(ticket=None):
    happen("-flight")


def cancel_hotel(room=None):
    if is_set("unreachable"):
        raise ConnectionError("nobody \\x1b[31manswers")
    happen("-hotel")


@step(compensate=cancel_flight)
def flight(city):
    happen("flight")
    return Ticket(city)


@step(compensate=Compensation(cancel_hotel, retries=0))
def hotel(city):
    happen("hotel")
    if is_set("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if is_set("wait"):
        print("waiting", flush=True)
        sys.stdin.read()
    if is_set("full"):
        raise RuntimeError("no \\x1b]0;room\\x07 left\\u202e")
    return 7


@saga
def trip(city):
    booked = flight(city)
    assert type(booked) is Ticket
    return hotel(city)


if __name__ == "__main__":
    main(trip.using(id=sys.argv[1]) if sys.argv[1:] else trip, "Lisbon")
'''

ENV = {name: value for name, value in os.environ.items() if not name.startswith("SAGADSL_")}
TARGET = ("--target", "trip.py:trip")


@functools.cache
def commands() -> Commands:
    """Start what processes are forked from, once for all tests."""
    started = Commands(ENV)
    atexit.register(started.close)
    return started


class Place:
    """A folder with a program, its journal and its world."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def python(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        """Run Python here; with options in a process that is started anew."""
        if not options and arguments[0] != "-c":
            return commands().run(self.folder, *arguments)
        options = {"cwd": self.folder, "env": ENV, "stdin": subprocess.DEVNULL} | options
        return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, **options)

    def sagadsl(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        """Run the command line here, in a pipe. Whatever it says is printable, and never a traceback."""
        ended = self.python("-m", "sagadsl", *arguments, **options)
        assert all(c.isprintable() or c == "\n" for c in ended.stdout + ended.stderr)
        assert "Traceback" not in ended.stderr
        return ended

    def kill(self, *arguments: str) -> None:
        """Run the program and have it killed while it books the hotel."""
        self.set("kill")
        assert self.python("trip.py", *arguments).returncode == -signal.SIGKILL
        self.clear("kill")

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start a program and return when it is booking the hotel; it goes on when its stdin is closed."""
        self.set("wait")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([sys.executable, *arguments], cwd=self.folder, env=ENV, text=True, **pipes)
        assert process.stdout.readline() == "waiting\n"
        self.clear("wait")
        return process

    def set(self, fault: str) -> None:
        """Have a fault happen."""
        (self.folder / fault).touch()

    def clear(self, fault: str) -> None:
        """Let it not happen any more."""
        (self.folder / fault).unlink()

    def write(self, name: str, text: str) -> None:
        """Write a file."""
        (self.folder / name).write_text(dedent(text), encoding="utf-8")

    def sql(self, statement: str, *values: str) -> None:
        """Change the journal behind the library's back."""
        connection = sqlite3.connect(self.folder / "sagadsl.db")
        with connection:
            connection.execute(statement, values)
        connection.close()

    @property
    def world(self) -> list[str]:
        """What happened, in order."""
        return (self.folder / "world").read_text().split()

    @property
    def files(self) -> dict[str, bytes]:
        """What is on the disk. The index of the log (``-shm``) is shared memory and belongs to whoever looks."""
        return {p.name: p.read_bytes() for p in self.folder.iterdir() if p.is_file() and not p.name.endswith("-shm")}

    def status(self, run: str = "t-1") -> str:
        """Where a run stands, by the view that is everybody's."""
        connection = sqlite3.connect(self.folder / "sagadsl.db")
        ((status,),) = connection.execute("select status from runs where id = ?", (run,)).fetchall()
        connection.close()
        return status


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("killed"))
    place.write("trip.py", SCRIPT)
    place.kill("t-1")
    assert place.world == ["flight", "hotel"]
    return place.folder


@pytest.fixture
def killed(killed_once, tmp_path):
    """Give a place whose program was killed while it booked the hotel, as run t-1."""
    return Place(Path(shutil.copytree(killed_once, tmp_path / "place")))


# -- looking ----------------------------------------------------------------------------------------------------------


def test_list_shows_an_interrupted_run_and_changes_nothing(killed):
    """One line a run, on stdout alone; the file is as before."""
    before = killed.files
    listed = killed.sagadsl("list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert re.fullmatch(
        "id   saga  status         steps  started +cause\n"
        r"t-1  trip  \? interrupted  1/2    [\w ]+ ago  cut off at hotel\n",
        listed.stdout,
    )
    assert killed.files == before


def test_show_says_what_happened_what_is_owed_and_what_to_type(killed):
    """The command to type works as it stands."""
    shown = killed.sagadsl("show", "t-1")
    assert (shown.returncode, shown.stderr) == (0, "")
    parts = shown.stdout.split("\n\n")
    assert parts[0].startswith("t-1  ? interrupted\n  saga     trip(city='Lisbon')\n")
    assert "  ? hotel   cut off" in parts[1]
    assert parts[2] == (
        "  to compensate, in this order\n"
        "    1  cancel_hotel   for hotel   (cut off: its effect is uncertain)\n"
        "    2  cancel_flight  for flight"
    )
    resume = re.search(r"go on +sagadsl (resume t-1 --target \S+)", parts[3]).group(1)
    assert killed.sagadsl(*resume.split()).returncode == 0
    assert killed.world == ["flight", "hotel", "hotel"]


def test_json_is_one_document_with_a_schema(killed):
    listed = json.loads(killed.sagadsl("list", "--json").stdout)
    assert listed["schema"] == 1
    assert [(run["id"], run["is_interrupted"], run["steps_done"]) for run in listed["runs"]] == [("t-1", True, 1)]
    shown = json.loads(killed.sagadsl("show", "@last", "--json").stdout)
    assert shown["schema"] == 1
    assert [(step["key"], step["status"]) for step in shown["run"]["steps"]] == [
        ("flight", "done"),
        ("hotel", "entered"),
    ]
    assert shown["run"]["stack"] == ["hotel", "flight"]
    assert shown["run"]["arguments"] == {"city": "Lisbon"}


def test_show_is_also_a_page_markdown_or_json(killed):
    """Each whole, on stdout, with the command to type."""
    page, markdown = (killed.sagadsl("show", "t-1", "--format", form).stdout for form in ("html", "markdown"))
    assert page.startswith("<!doctype html>")
    assert page.endswith("</svg></div></body></html>\n")
    assert markdown.startswith("## ? <code>trip</code>: interrupted\n")
    assert re.search(r"sagadsl resume t-1 --target \S+trip\.py:trip<", page)
    assert re.search(r"\n  sagadsl resume t-1 --target \S+trip\.py:trip\n", markdown)
    both = [killed.sagadsl("show", "t-1", *how).stdout for how in (["--json"], ["--format", "json"])]
    assert both[0] == both[1]


def test_graph_draws_a_run_or_a_saga_from_its_code(killed):
    """As text, and in the formats that others draw; a target is imported, since it is named."""
    assert killed.sagadsl("graph", "t-1").stdout.splitlines()[0] == "trip t-1"
    assert re.search(r"\? hotel +cut off +< cancel_hotel", killed.sagadsl("graph", "@last").stdout)
    drawn = killed.sagadsl("graph", "trip.py:trip")
    assert (drawn.returncode, drawn.stderr) == (0, "")
    lines = [line.split() for line in drawn.stdout.splitlines()]
    assert lines == [["trip"], ["flight", "<", "cancel_flight"], ["hotel", "<", "cancel_hotel"]]
    assert killed.sagadsl("graph", "t-1", "--format", "svg").stdout.startswith("<svg ")
    assert killed.sagadsl("graph", "t-1", "--format", "mermaid").stdout.startswith("flowchart TB\n")
    assert killed.sagadsl("graph", "trip:trip", "--format", "dot").stdout.startswith('digraph "trip" {')
    killed.write(
        "tour.py",
        "from sagadsl.plan import Plan\nfrom trip import flight\nplan = Plan('tour')\nplan.add(flight, 'x')\n",
    )
    assert killed.sagadsl("graph", "tour.py:plan").stdout.split() == ["tour", "flight", "<", "cancel_flight"]
    assert killed.world == ["flight", "hotel"]
    nothing = killed.sagadsl("graph", "t-2")
    assert nothing.returncode == 2
    assert "sagadsl list" in nothing.stderr
    assert killed.sagadsl("graph", "elsewhere.py:trip").returncode == 2


def test_runs_are_found_by_a_beginning_and_by_last(killed):
    """A generated id is listed as short as it can be typed; what fits several is refused."""
    killed.kill()
    short = killed.sagadsl("list", "--limit", "1").stdout.split("\n")[1].split()[0]
    assert re.fullmatch("trip/[0-9a-f]{4}", short)
    whole = killed.sagadsl("show", short).stdout.split()[0]
    assert re.fullmatch("trip/[0-9a-f]{12}", whole)
    assert killed.sagadsl("show", "@last").stdout.split()[0] == whole
    several = killed.sagadsl("show", "t")
    assert (several.returncode, several.stdout) == (2, "")
    assert several.stderr == f"run t: is the beginning of several: t-1, {whole}; give more of it. Look: sagadsl list\n"
    nothing = killed.sagadsl("show", "nothing")
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert nothing.stderr.endswith("Look: sagadsl list\n")


def test_list_chooses_by_status_and_saga(killed):
    assert "t-1" in killed.sagadsl("list", "--status", "interrupted", "--saga", "trip").stdout
    for choice in (["--status", "completed"], ["--saga", "other"]):
        listed = killed.sagadsl("list", *choice)
        assert (listed.returncode, listed.stdout) == (0, "")
        assert listed.stderr == f"no such run in {killed.folder}/sagadsl.db\n"
    assert killed.sagadsl("list", "--status", "odd").returncode == 2


def test_without_a_journal_there_is_nothing_to_look_at_and_none_is_made(tmp_path):
    """The commonest cause is another working directory: an empty list would say that all is well."""
    place = Place(tmp_path)
    for verb in (["list"], ["show", "@last"], ["resume", "x"], ["compensate", "x"]):
        ended = place.sagadsl(*verb)
        assert (ended.returncode, ended.stdout) == (5, "")
        assert ended.stderr.startswith(f"journal {tmp_path}/sagadsl.db: there is no journal here yet.")
        assert ended.stderr.endswith("sagadsl list --db FILE\n")
    assert not place.files


def test_the_journal_is_the_one_that_is_named(killed, tmp_path):
    """``--db`` before or after the verb, else SAGADSL_DB; and what is to be typed next names it too."""
    elsewhere = Place(tmp_path)
    path = str(killed.folder / "sagadsl.db")
    assert "t-1" in elsewhere.sagadsl("--db", path, "list").stdout
    assert "t-1" in elsewhere.sagadsl("list", env=ENV | {"SAGADSL_DB": path}).stdout
    shown = elsewhere.sagadsl("show", "t-1", "--db", path).stdout
    assert f"sagadsl compensate t-1 --db {path} --target /" in shown


def test_a_file_that_is_no_journal_is_5(killed):
    """Not a database, another program's, a newer version's: each is named with its cure."""
    killed.sql("pragma user_version = 99")
    newer = killed.sagadsl("list")
    assert (newer.returncode, newer.stdout) == (5, "")
    assert "written by a newer sagadsl" in newer.stderr
    killed.write("garbage.db", "not a database " * 100)
    garbage = killed.sagadsl("show", "@last", "--db", "garbage.db")
    assert (garbage.returncode, garbage.stdout) == (5, "")
    assert "this file is no SQLite database" in garbage.stderr


def test_a_damaged_run_is_5(killed):
    killed.sql("update entries set result = '8' where kind = 'done'")
    shown = killed.sagadsl("show", "t-1")
    assert (shown.returncode, shown.stdout) == (5, "")
    assert shown.stderr.endswith("is damaged: restore a backup\n")


def test_nothing_that_the_journal_holds_reaches_the_terminal_as_it_is(killed):
    """`sagadsl` of this file refuses all but printable characters; here they are in ids, names, errors and results."""
    killed.set("full")
    assert killed.sagadsl("resume", "t-1", *TARGET).returncode == 3
    killed.kill("t-2")
    killed.sql("update run set id = ? || number, program = ?, saga = ?", *["\x1b[2J\x9b\x07\u202e"] * 3)
    killed.sql("update entries set name = ? where kind = 'opened'", "\x1b[2J")
    killed.sql("update entries set step = ? where kind = 'intent'", "\x1b]8;;http://x\x1b\\")
    listed = killed.sagadsl("list")
    assert (listed.returncode, listed.stdout.count("\ufffd[2J")) == (0, 4)
    assert "no \ufffd]0;room\ufffd left\ufffd" in listed.stdout
    shown = killed.sagadsl("show", "@last")
    assert shown.returncode == 0
    assert "\ufffd]8;;http://x\ufffd\\" in shown.stdout
    assert killed.sagadsl("resume", "@last").returncode == 2
    assert killed.sagadsl("compensate", "@last").returncode == 2


# -- resume -----------------------------------------------------------------------------------------------------------


def test_resume_goes_on_where_the_program_was_cut_off(killed):
    """What is recorded is not entered again; the run says that it goes on; doing it again does nothing."""
    ended = killed.sagadsl("resume", "t-1", *TARGET)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert re.fullmatch(
        "resuming t-1, cut off .* ago: 1 step recorded, 2 hotel is tried again\nt-1 completed\n", ended.stderr
    )
    assert killed.world == ["flight", "hotel", "hotel"]
    assert killed.status() == "completed"
    again = killed.sagadsl("resume", "t-1", *TARGET)
    assert (again.returncode, again.stderr) == (0, "t-1 is completed already; there is nothing to go on with\n")
    assert killed.world == ["flight", "hotel", "hotel"]


def test_a_saga_that_fails_when_resumed_is_3(killed):
    killed.set("full")
    ended = killed.sagadsl("resume", "@last", *TARGET)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.endswith(
        "t-1 failed with RuntimeError: no \ufffd]0;room\ufffd left\ufffd; compensated hotel, flight\n"
    )
    assert killed.world == ["flight", "hotel", "hotel", "-hotel", "-flight"]
    assert killed.status() == "compensated"
    assert killed.sagadsl("resume", "@last").returncode == 3


def test_nothing_that_a_journal_names_is_imported(killed):
    """Without a target the program is suggested; the file is not even read."""
    killed.write("trip.py", "from pathlib import Path; Path('imported').touch()")
    for verb in ("resume", "compensate"):
        ended = killed.sagadsl(verb, "t-1")
        assert (ended.returncode, ended.stdout) == (2, "")
        assert f"type: sagadsl {verb} t-1 --target " in ended.stderr
    assert "imported" not in killed.files
    assert killed.world == ["flight", "hotel"]


def test_a_project_names_its_targets_once(killed):
    killed.write("pyproject.toml", '[tool.sagadsl]\ntargets = ["trip.py:trip"]')
    assert killed.sagadsl("show", "t-1").stdout.endswith("compensate  sagadsl compensate t-1\n")
    assert killed.sagadsl("resume", "t-1").returncode == 0
    assert killed.world == ["flight", "hotel", "hotel"]
    killed.write("pyproject.toml", '[tool.sagadsl]\ntargets = "trip.py:trip"')
    killed.kill("t-2")
    ended = killed.sagadsl("resume", "t-2")
    assert (ended.returncode, ended.stderr.split("] ")[-1]) == (2, 'targets must be a list such as ["trip.py:trip"]\n')


def test_a_saga_is_a_target_below_decorators_of_the_programs_own(killed):
    """Those that use `functools.wraps`; the suggestion of ``show`` can be typed."""
    killed.write(
        "logged.py",
        """
        import functools
        import sagadsl
        import trip
        from trip import main, saga, sys

        def logged(function):
            @functools.wraps(function)
            def wrapper(*args, **kwargs):
                return function(*args, **kwargs)

            return wrapper

        @logged
        @logged
        @saga(key="{city}")
        def journey(city):
            trip.hotel(city)

        class Agency:
            @logged
            @saga
            def travel(self, city):
                trip.hotel(city)

        if __name__ == "__main__":
            journey(sys.argv[1])
        """,
    )
    for city, verb in (("Rome", "resume"), ("Oslo", "compensate")):
        killed.set("kill")
        assert killed.python("logged.py", city).returncode == -signal.SIGKILL
        killed.clear("kill")
        words = (verb, f"journey/{city}", "--target", "logged.py:journey")
        assert f" sagadsl {' '.join(words)}\n" in killed.sagadsl("show", f"journey/{city}").stdout
        assert killed.sagadsl(*words, *(["--yes"] if verb == "compensate" else [])).returncode == 0
    assert killed.sagadsl("run", "logged.py:journey", "--arg", "city=Bonn").returncode == 0
    assert killed.world == ["flight", "hotel", "hotel", "hotel", "hotel", "-hotel", "hotel"]
    assert "it has logged.py:Agency.travel, logged.py:journey\n" in killed.sagadsl("run", "logged.py:no").stderr


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("trip.py", "'trip.py': a target is module:saga or file.py:saga"),
        ("trip.py:nobody", "trip.py has no saga nobody; it has trip.py:trip"),
        ("shop.py:nobody", "shop.py has no saga nobody; it has shop.py:Shop.inner, shop.py:Shop.trip, shop.py:tour"),
        ("elsewhere.py:trip", "there is no file "),
        ("no.such.module:trip", "no.such.module cannot be imported: ModuleNotFoundError: No module named 'no'"),
        ("broken.py:trip", "broken.py cannot be imported: ZeroDivisionError: division by zero"),
        ("odd/json.py:trip", "json.py has the name of a module that is in use, json: give the file another name"),
        ("quits.py:trip", "quits.py cannot be imported: SystemExit: 9"),
    ],
)
def test_a_target_that_cannot_be_had_is_2(killed, target, told):
    killed.write("broken.py", "1 / 0")
    killed.write(
        "shop.py",
        """
        from sagadsl import saga

        class Shop:
            @saga
            def trip(self, city): ...

            @saga
            @staticmethod
            def inner(): ...

        @saga
        def tour(city): ...
    """,
    )
    (killed.folder / "odd").mkdir()
    killed.write("odd/json.py", "trip = 1")
    killed.write("quits.py", "raise SystemExit(9)")
    ended = killed.sagadsl("resume", "t-1", "--target", target)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert told in ended.stderr
    assert killed.world == ["flight", "hotel"]


@pytest.mark.parametrize("call", ['trip("Lisbon")', 'trip.using(id="t-1")("Lisbon")', 'main(trip, "Lisbon")'])
def test_a_script_that_runs_its_saga_when_imported_does_not_run_it(killed, call):
    """Whoever asks for a compensation must not set off the saga: it is told where the call belongs."""
    killed.write("trip.py", SCRIPT.partition("if __name__")[0] + call)
    ended = killed.sagadsl("compensate", "t-1", "--yes", *TARGET)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert 'Put that under `if __name__ == "__main__":`' in ended.stderr
    assert killed.world == ["flight", "hotel"]
    assert killed.status() == "open"


def test_a_module_is_a_target_too(killed):
    """Found from the working directory, as ``python -m`` finds it; a run of it is one of the same saga."""
    (killed.folder / "shop").mkdir()
    (killed.folder / "trip.py").rename(killed.folder / "shop" / "trip.py")
    killed.set("kill")
    assert killed.python("-m", "shop.trip", "t-2").returncode == -signal.SIGKILL
    killed.clear("kill")
    ended = killed.sagadsl("resume", "t-2", "--target", "shop.trip:trip")
    assert (ended.returncode, ended.stderr.endswith("t-2 completed\n")) == (0, True)


RELATIVE = "from .places import CITY"
EITHER_WAY = f"try:\n    {RELATIVE}\nexcept ImportError:\n    from places import CITY"


def write_package(folder, name="trip.py", begin=RELATIVE):
    """Write a package whose module imports its neighbour in one way or another; return that module."""
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "places.py").write_text("CITY = 'Lisbon'\n")
    module = folder / name
    module.write_text(SCRIPT.replace('"Lisbon"', "CITY").replace("import signal", f"import signal\n{begin}"))
    return module


@pytest.mark.parametrize(
    ("file", "begin", "command", "target"),
    [
        ("trip.py", RELATIVE, ("-m", "shop.trip"), "shop.trip:trip"),
        ("trip.py", "from shop.places import CITY", ("-m", "shop.trip"), "shop.trip:trip"),
        ("__main__.py", RELATIVE, ("-m", "shop"), "shop.__main__:trip"),
        ("trip.py", "from places import CITY", ("shop/trip.py",), "shop/trip.py:trip"),
        ("trip.py", EITHER_WAY, ("shop/trip.py",), "shop/trip.py:trip"),
    ],
)
def test_what_is_suggested_finds_a_file_in_its_package(tmp_path, file, begin, command, target):
    """It imports its neighbours as it did when the run began; the suggestion works, and so does the file."""
    place = Place(tmp_path)
    write_package(tmp_path / "shop", file, begin)
    env = ENV | {"SAGADSL_DB": str(tmp_path / "sagadsl.db")}
    for number, asked in enumerate([target, f"shop/{file}:trip"]):
        place.set("kill")
        assert place.python(*command, f"t-{number}", env=env).returncode == -signal.SIGKILL
        place.clear("kill")
        assert f"sagadsl resume t-{number} --target {target}\n" in place.sagadsl("show", f"t-{number}").stdout
        ended = place.sagadsl("resume", f"t-{number}", "--target", asked)
        assert (ended.returncode, ended.stderr.endswith(f"t-{number} completed\n")) == (0, True), ended.stderr
    ran = place.sagadsl("run", f"shop/{file}:trip", "--arg", "city=Rome")
    assert (ran.returncode, ran.stderr[-11:]) == (0, " completed\n")


def test_a_script_beside_an_init_file_is_still_one(tmp_path):
    """It finds its neighbours, and what it recorded of its own classes; run as a target, it goes on as a script."""
    place = Place(tmp_path)
    write_package(tmp_path / "shop", begin="from places import CITY")
    env = ENV | {"SAGADSL_DB": str(tmp_path / "sagadsl.db")}
    as_script = ("shop/trip.py", "t-1")
    as_target = ("-m", "sagadsl", "run", "shop/trip.py:trip", "--arg", "city=Lisbon", "--id", "t-1")
    for first, second in [(as_script, as_target), (as_target, as_script)]:
        place.set("kill")
        assert place.python(*first, env=env).returncode == -signal.SIGKILL
        place.clear("kill")
        ended = place.python(*second, env=env)
        assert ended.returncode == 0, ended.stderr
        (tmp_path / "sagadsl.db").unlink()
    assert (tmp_path / "world").read_text().split() == ["flight", "hotel", "hotel"] * 2


@pytest.mark.parametrize("file", ["trip.py", "trip.v2.py"])
def test_what_lies_beside_a_file_without_relative_imports_is_not_asked(tmp_path, file):
    """Its folder may have the name of a module in use, an ``__init__.py`` that fails, and the file a name with dots."""
    place = Place(tmp_path)
    package = write_package(tmp_path / "odd" / "json", file, "from places import CITY").parent
    (package / "__init__.py").write_text("raise RuntimeError('no settings')")
    ran = place.sagadsl("run", f"odd/json/{file}:trip", "--arg", "city=Rome", "--id", "t-1")
    assert (ran.returncode, ran.stderr) == (0, "t-1 completed\n")


def test_of_two_packages_of_one_name_the_one_that_is_named_is_executed(tmp_path):
    """With relative imports or without; a second one of that name is refused, before anything of it is executed."""
    place = Place(tmp_path)
    for name, begin in [("a", RELATIVE), ("b", RELATIVE), ("c", "from places import CITY")]:
        module = write_package(tmp_path / name / "shop", begin=begin)
        for file in (module, module.with_name("__init__.py")):
            file.write_text(file.read_text() + f"\nprint('executed', {name!r})\n")
    env = ENV | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "a"), ENV.get("PYTHONPATH", "")])}
    for name, times in [("b", 2), ("c", 1)]:
        ran = place.sagadsl("run", f"{name}/shop/trip.py:trip", "--arg", "city=Rome", env=env)
        assert (ran.returncode, ran.stdout) == (0, f"executed {name}\n" * times + "7\n")
    place.write("trip.py", SCRIPT)
    place.kill("t-1")
    place.write("pyproject.toml", '[tool.sagadsl]\ntargets = ["b/shop/trip.py:trip", "a/shop/trip.py:trip"]')
    refused = place.sagadsl("resume", "t-1", env=env)
    assert (refused.returncode, refused.stdout) == (2, "executed b\n" * 2)
    assert "a/shop/__init__.py has the name of another module, shop (" in refused.stderr


def test_a_file_whose_name_leads_to_another_one_is_refused_before_either_is_executed(tmp_path):
    """A folder of its name hides it from its package; a package of a name in use is hidden whole."""
    place = Place(tmp_path)
    hidden = write_package(tmp_path / "shop")
    for package in (hidden.with_suffix(""), tmp_path / "odd" / "json"):
        write_package(package)
        (package / "__init__.py").write_text("print('executed')")
    for target, name in [("shop/trip.py:trip", "shop.trip"), ("odd/json/trip.py:trip", "json")]:
        ran = place.sagadsl("run", target, "--arg", "city=Rome")
        assert (ran.returncode, ran.stdout) == (2, "")
        assert f" has the name of another module, {name} (" in ran.stderr
        assert ran.stderr.endswith("): give one of them another name\n")


@pytest.mark.parametrize("target", ["../trip.py", "link.py"])
def test_a_file_is_found_in_its_package_from_wherever_it_is_named(tmp_path, target):
    module = write_package(tmp_path / "shop")
    place = Place(write_package(tmp_path / "shop" / "inner").parent)
    (place.folder / "link.py").symlink_to(module)
    ran = place.sagadsl("run", f"{target}:trip", "--arg", "city=Rome", "--id", "t-1")
    assert (ran.returncode, ran.stderr) == (0, "t-1 completed\n")


def test_a_package_is_a_target_by_its_init_file(killed):
    """As the package that it is, with what it imports from itself."""
    (killed.folder / "shop").mkdir()
    (killed.folder / "trip.py").rename(killed.folder / "shop" / "trip.py")
    killed.write("shop/__init__.py", "from .trip import trip")
    ended = killed.sagadsl("run", "shop/__init__.py:trip", "--arg", "city=Rome", "--id", "t-2")
    assert (ended.returncode, ended.stderr) == (0, "t-2 completed\n")


@pytest.mark.parametrize("verb", ["resume", "compensate"])
@pytest.mark.parametrize("how", ["renamed", "moved", "twice"])
def test_a_run_goes_on_with_the_target_that_is_named_after_a_file_was_renamed(tmp_path, verb, how):
    """The saga's name is what counts; another file that has one of that name is not asked."""
    place = Place(tmp_path)
    place.write("trip.py", SCRIPT.replace("return Ticket(city)", "return city").replace("is Ticket", "is str"))
    place.kill("t-1")
    new = place.folder / {"renamed": "journey.py", "moved": "shop.py", "twice": "journey.py"}[how]
    (place.folder / "trip.py").rename(new)
    if how == "twice":
        place.write("trip.py", "from sagadsl import saga\n\n@saga\ndef trip(city): 1 / 0\n")
        new.write_text(f"import trip as _\n{new.read_text()}")
    ended = place.sagadsl(verb, "t-1", "--target", f"{new.name}:trip", *(["--yes"] if verb == "compensate" else []))
    assert ended.returncode == 0, ended.stderr
    if verb == "resume":
        assert place.world == ["flight", "hotel", "hotel"]
    else:
        assert place.world == ["flight", "hotel", "-hotel", "-flight"]


def test_an_async_saga_is_run_too(killed):
    text = SCRIPT.replace("= flight(", "= await flight(").replace("return hotel(", "return await hotel(")
    for name in ("cancel_flight", "cancel_hotel", "flight", "hotel", "trip"):
        text = text.replace(f"def {name}(", f"async def {name}(")
    killed.write("trip.py", text)
    killed.kill("t-2")
    assert killed.sagadsl("resume", "t-2", *TARGET).returncode == 0
    killed.kill("t-3")
    assert killed.sagadsl("compensate", "t-3", "--yes", *TARGET).returncode == 0
    assert killed.world[2:] == ["flight", "hotel", "hotel", "flight", "hotel", "-hotel", "-flight"]


def test_arguments_are_what_they_read_as(tmp_path):
    """``no`` is false, bytes are the text that is typed, and several values are a list."""
    place = Place(tmp_path)
    place.write(
        "clean.py",
        "from sagadsl import saga\n\n@saga\ndef clean(*folders: str, dry_run: bool = True, mark: bytes = b''):\n"
        "    return [*folders, dry_run, mark.decode()]\n",
    )
    said = ("--arg", "dry_run=False", "--arg", "mark=abcd")
    ran = place.sagadsl("run", "clean.py:clean", *said, "--arg", 'folders=["a", "b"]', "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["run"]["result"] == ["a", "b", False, "abcd"]
    ran = place.sagadsl("run", "clean.py:clean", "--arg", "dry_run=perhaps")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "argument dry_run: 'perhaps' is not what dry_run: bool takes" in ran.stderr


def test_a_run_with_a_living_owner_is_4(killed):
    """It is listed as open, with its owner; nobody else gets it; its owner ends it undisturbed."""
    owner = killed.start("-m", "sagadsl", "resume", "t-1", *TARGET)
    for verb in (["resume"], ["compensate", "--yes"], ["compensate"]):
        ended = killed.sagadsl(*verb, "t-1", *TARGET)
        assert (ended.returncode, ended.stdout) == (4, "")
        assert ended.stderr.startswith(f"run t-1 is being run by process {owner.pid} on ")
    assert re.search(f"t-1  trip  > open  1/2  .* process {owner.pid} on ", killed.sagadsl("list").stdout)
    owner.communicate()
    assert owner.returncode == 0
    assert killed.world == ["flight", "hotel", "hotel"]
    assert killed.status() == "completed"


def test_a_program_that_does_something_else_now_is_7(killed):
    """Both sequences side by side; nothing is entered, nothing is written."""
    killed.write("trip.py", SCRIPT.replace("    booked = flight(city)\n    assert type(booked) is Ticket\n", ""))
    ended = killed.sagadsl("resume", "t-1", *TARGET)
    assert (ended.returncode, ended.stdout) == (7, "")
    assert "  >>  flight    hotel\n" in ended.stderr
    assert killed.world == ["flight", "hotel"]
    assert killed.status() == "open"


def test_a_saga_that_pauses_is_6(killed):
    """A person decides; when the cause is gone it goes on at the step that failed."""
    killed.write("trip.py", SCRIPT.replace("@saga\n", '@saga(on_failure="pause")\n'))
    killed.set("full")
    ended = killed.sagadsl("resume", "t-1", *TARGET)
    assert ended.returncode == 6
    assert ended.stderr.endswith("Go on: sagadsl resume t-1   Compensate: sagadsl compensate t-1\n")
    assert killed.status() == "paused"
    killed.clear("full")
    assert killed.sagadsl("resume", "t-1", *TARGET).returncode == 0
    assert killed.world == ["flight", "hotel", "hotel", "hotel"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_resume_leaves_the_run_resumable(killed, number, code):
    """Interruption is not failure: nothing is compensated, and the exit code says what it was."""
    process = killed.start("-m", "sagadsl", "resume", "t-1", *TARGET)
    process.send_signal(number)
    _, told = process.communicate()
    assert process.returncode == code
    assert "t-1 interrupted at hotel. Go on: " in told
    assert "Traceback" not in told
    assert killed.world == ["flight", "hotel", "hotel"]
    assert killed.status() == "open"


# -- compensate -------------------------------------------------------------------------------------------------------


def test_compensate_compensates_in_reverse_order(killed):
    """Off a terminal it needs ``--yes``; what is compensated already is left alone."""
    asked = killed.sagadsl("compensate", "t-1", *TARGET)
    assert (asked.returncode, asked.stdout) == (2, "")
    assert asked.stderr.endswith("Look: sagadsl show t-1   Then add --yes to this command.\n")
    assert killed.world == ["flight", "hotel"]
    ended = killed.sagadsl("compensate", "t-1", "--yes", *TARGET)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr.endswith("t-1 is compensated (compensated hotel, flight)\n")
    assert killed.world == ["flight", "hotel", "-hotel", "-flight"]
    assert killed.status() == "compensated"
    again = killed.sagadsl("compensate", "t-1", "--yes")
    assert (again.returncode, again.stderr) == (0, "t-1 is compensated already; nothing is owed\n")
    assert killed.world == ["flight", "hotel", "-hotel", "-flight"]


def test_a_compensation_that_fails_is_6_and_carries_on_later(killed):
    """The error says what failed and what is not yet tried; so do list and show."""
    killed.set("unreachable")
    ended = killed.sagadsl("compensate", "t-1", "--yes", *TARGET)
    assert (ended.returncode, ended.stdout) == (6, "")
    assert "the compensation of hotel failed with ConnectionError: nobody \ufffd[31manswers" in ended.stderr
    assert ended.stderr.endswith("not yet tried: flight. Mend the cause, then: sagadsl compensate t-1\n")
    assert killed.status() == "compensation_failed"
    assert "cancel_hotel of hotel: ConnectionError: nobody \ufffd[31manswers" in killed.sagadsl("list").stdout
    assert killed.sagadsl("resume", "t-1", *TARGET).returncode == 6
    killed.clear("unreachable")
    assert killed.sagadsl("compensate", "t-1", "--yes", *TARGET).returncode == 0
    assert killed.world == ["flight", "hotel", "-hotel", "-flight"]


def test_what_is_told_to_type_for_an_id_like_an_option_works(killed):
    """By the program that is interrupted, by ``show``, and by whatever is refused: each can be typed as it stands."""
    killed.write(
        "nap.py",
        """\
        from sagadsl import saga, step
        from trip import flight

        @step(compensate=None)
        def sleep():
            raise KeyboardInterrupt

        @saga
        def nap():
            flight("Rome")
            sleep()

        if __name__ == "__main__":
            nap.using(id="-x", store="other.db")()
    """,
    )
    told = killed.python("nap.py").stderr
    first = re.search(r"   Compensate: sagadsl (.*)", told)[1]
    shown = killed.sagadsl(*shlex.split(first.replace("compensate", "show", 1)))
    assert (shown.returncode, "sagadsl resume" in shown.stdout) == (0, True)
    second = re.search(r"compensate +sagadsl (.*)", shown.stdout)[1]
    refused = killed.sagadsl(*shlex.split(second))
    assert (refused.returncode, killed.world) == (2, ["flight", "hotel", "flight"])
    third = re.search(r"Look: sagadsl (.*?)   Then add --yes", refused.stderr)[1]
    assert killed.sagadsl(*shlex.split(third)).stdout.startswith("-x  ? interrupted\n")
    done = killed.sagadsl(*shlex.split(second.replace("compensate", "compensate --yes", 1)))
    assert (done.returncode, killed.world) == (0, ["flight", "hotel", "flight", "-flight"])


def test_a_run_that_owes_nothing_needs_no_code(killed):
    """What was killed in its first step without a compensation has only to be closed."""
    text = SCRIPT.replace("booked = flight(city)", "booked = Ticket(city)")
    killed.write(
        "trip.py", text.replace("@step(compensate=Compensation(cancel_hotel, retries=0))", "@step(compensate=None)")
    )
    killed.kill("t-2")
    ended = killed.sagadsl("compensate", "t-2", "--yes")
    assert (ended.returncode, ended.stderr.endswith("t-2 is compensated (nothing was owed)\n")) == (0, True)
    assert killed.status("t-2") == "compensated"


def in_a_terminal(place, answer, *arguments):
    """Run the command line in a pseudo-terminal, answer its question, and return its exit code and what it said."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(place.folder)
        os.execve(sys.executable, [sys.executable, "-m", "sagadsl", *arguments], ENV)  # noqa: S606
    said = b""
    while not said.endswith(b"[y/N]: "):
        said += os.read(terminal, 1024)
    os.write(terminal, answer)
    try:
        while more := os.read(terminal, 1024):
            said += more
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.decode()


@pytest.mark.parametrize("answer", [b"n\n", b"\n", b"\x04"])
def test_on_a_terminal_it_asks_and_takes_no_for_an_answer(killed, answer):
    """No, nothing, end of file: nothing happens."""
    code, said = in_a_terminal(killed, answer, "compensate", "t-1", *TARGET)
    assert code == 130
    assert "1  cancel_hotel   for hotel" in said
    assert killed.world == ["flight", "hotel"]
    assert killed.status() == "open"


def test_on_a_terminal_it_asks_and_acts(killed):
    code, said = in_a_terminal(killed, b"y\n", "compensate", "t-1", *TARGET)
    assert (code, said.endswith("t-1 is compensated (compensated hotel, flight)\r\n")) == (0, True)
    assert killed.world == ["flight", "hotel", "-hotel", "-flight"]


# -- the program ------------------------------------------------------------------------------------------------------


def test_help_names_every_verb_and_an_unknown_one_is_2(tmp_path):
    place = Place(tmp_path)
    told = place.sagadsl("--help").stdout
    verbs = [line.split()[0] for line in told.partition("Commands:\n")[2].split("\n\n")[0].split("\n")]
    assert verbs == [
        *("list", "show", "graph", "watch", "stats", "run", "resume", "compensate", "cancel"),
        *("prune", "doctor", "export", "import", "backup", "demo"),
    ]
    assert place.sagadsl("show", "--help").returncode == 0
    for wrong in (["rollback"], ["show"], ["list", "--odd"]):
        ended = place.sagadsl(*wrong)
        assert (ended.returncode, ended.stdout) == (2, "")
    assert place.sagadsl("--version").stdout.startswith("sagadsl")


def test_a_reader_that_has_seen_enough_is_no_error(killed):
    """As in ``sagadsl show t-1 | head -1``."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "sagadsl", "show", "t-1"]
    ended = subprocess.run(command, cwd=killed.folder, env=ENV, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")


FULL = (
    "Error: stdout cannot be written to (No space left on device): not all was said, so see to it and type this again\n"
)


@pytest.mark.parametrize(
    ("streams", "code", "said", "arguments"),
    [
        (">&-", 0, "", ["list"]),
        (">&-", 0, "", ["run", "trip.py:trip", "--arg", "city=Rome", "--key", "k"]),
        ("<&-", 2, "nobody can be asked here whether to compensate it", ["compensate", "t-1", *TARGET]),
        ("<&-", 2, "--args is no JSON", ["run", "trip.py:trip", "--args", "-"]),
        (">/dev/full", 1, FULL, ["export"]),
        (">/dev/full", 1, FULL, ["watch", "t-1"]),
    ],
)
def test_a_stream_that_is_closed_or_full_is_no_bug(killed, streams, code, said, arguments):
    """Under cron, say: what cannot be asked is refused, what cannot be said is told, and what nobody wants is not."""
    command = ["sh", "-c", f'exec "$@" {streams}', "sh", sys.executable, "-m", "sagadsl", *arguments]
    ended = subprocess.run(command, cwd=killed.folder, env=ENV, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_what_a_stream_cannot_say_is_spelled_out(killed):
    killed.sql("update run set id = '旅'")
    listed = killed.sagadsl("list", env=ENV | {"PYTHONIOENCODING": "latin-1"})
    assert (listed.returncode, listed.stdout.split("\n")[1].split()[0]) == (0, "\\u65c5")


def test_the_library_does_not_load_the_command_line(tmp_path):
    """A program that uses sagas pays nothing for it."""
    said = Place(tmp_path).python(
        "-c", "import sagadsl, sys; print('click' in sys.modules, 'sagadsl.cli' in sys.modules)"
    )
    assert said.stdout == "False False\n"


def test_demo_is_the_example_with_all_its_options(tmp_path):
    """Even ``--help`` is the example's own; so are its exit codes."""
    place = Place(tmp_path)
    example = place.python("-m", "sagadsl.examples.order", "--help").stdout
    assert "--kill" in example
    assert place.sagadsl("demo", "--help").stdout == example
    assert place.sagadsl("demo", "--odd").returncode == 2
