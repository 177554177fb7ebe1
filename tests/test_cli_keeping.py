"""The journal as a file, by the real program: pruned, examined, exported, imported, backed up, run, completed."""

import gc
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli import ENV, SCRIPT, Place, in_a_terminal
from test_documents import judge

from sagadsl.cli import program
from tests.terminals import Terminal

GOLDEN = Path(__file__).parent / "crash" / "golden" / "version-1.db"


@pytest.fixture
def place(tmp_path):
    """Give a folder with the program of the trips, and a journal that has seen every way of standing."""
    made = Place(tmp_path)
    made.write("trip.py", SCRIPT)
    shutil.copy(GOLDEN, tmp_path / "sagadsl.db")
    return made


def ids(place, *arguments):
    return [run["id"] for run in json.loads(place.sagadsl("list", "--json", *arguments).stdout)["runs"]]


# -- list -------------------------------------------------------------------------------------------------------------


def test_list_as_json_is_what_its_schema_says(place):
    document = json.loads(place.sagadsl("list", "--json").stdout)
    judge("runs_document").validate(document)
    assert len(document["runs"]) == 9
    for run in document["runs"]:
        judge("run_document").validate(json.loads(place.sagadsl("show", run["id"], "--json").stdout))


def test_list_chooses_by_time_and_number(place):
    """The runs of this file are of 2023."""
    assert len(ids(place, "--since", "2023-01-01")) == 9
    assert ids(place, "--since", "30d") == []
    assert len(ids(place, "--since", "10000d")) == 9
    assert ids(place, "--limit", "2") == ids(place)[:2]
    for wrong in ("yesterday", "5 days", "2023-13-01"):
        ended = place.sagadsl("list", "--since", wrong)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "is no time: give 2026-11-22" in ended.stderr


@pytest.mark.parametrize(("store", "code"), [(GOLDEN, 0), (Path(__file__), 5)])
def test_a_list_leaves_the_collector_on_in_a_process_that_goes_on(capsys, store, code):
    """As one does that has called the command line, also where it could not read."""
    assert gc.isenabled()
    assert program.run(["list", "--db", str(store)]) == code
    assert gc.isenabled()


# -- prune ------------------------------------------------------------------------------------------------------------


def test_prune_forgets_what_has_ended_and_says_how_much(place):
    """Nothing else; off a terminal it needs ``--yes``, and a dry run does nothing."""
    before = place.files["sagadsl.db"]
    tried = place.sagadsl("prune", "--older-than", "30d", "--dry-run")
    assert (tried.returncode, tried.stdout) == (0, "completed\ncompensated\nskipped\n")
    asked = place.sagadsl("prune", "--older-than", "30d")
    assert (asked.returncode, asked.stdout) == (2, "")
    assert asked.stderr == ("nobody can be asked here whether to forget 3 runs. Look with --dry-run, then add --yes\n")
    assert place.files["sagadsl.db"] == before
    ended = place.sagadsl("prune", "--keep", "1", "--yes", "--json")
    document = json.loads(ended.stdout)
    judge("pruned_document").validate(document)
    assert document["pruned"] == ["completed", "compensated"]
    ended = place.sagadsl("prune", "--older-than", "30d", "--status", "compensated", "--yes")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr.startswith("1 run pruned, ")
    assert "-" not in ended.stderr  # a small file may have grown, and less than nothing is no gift
    assert ids(place) == ["asked", "put_back", "compensation_failed", "paused", "compensating", "open"]
    assert place.sagadsl("prune", "--keep", "0", "--yes").stderr.startswith("0 runs pruned")


def test_prune_needs_to_be_told_how_far_to_go(place):
    ended = place.sagadsl("prune", "--yes")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert (
        ended.stderr == "prune takes --older-than 30d, --keep 1000 (the newest), or both; look first with --dry-run\n"
    )
    for wrong in (["--older-than", "30"], ["--keep", "-1"], ["--keep", "1", "--status", "paused"]):
        assert place.sagadsl("prune", "--yes", *wrong).returncode == 2
    assert len(ids(place)) == 9


@pytest.mark.parametrize(("answer", "left"), [(b"n\n", 9), (b"y\n", 6)])
def test_prune_asks_on_a_terminal(place, answer, left):
    code, said = in_a_terminal(place, answer, "prune", "--keep", "0")
    assert "3 runs, from completed to skipped; what a later compensation of them would need goes too" in said
    assert code == (130 if left == 9 else 0)
    assert len(ids(place)) == left


# -- doctor -----------------------------------------------------------------------------------------------------------


def test_doctor_says_that_a_sound_file_is_sound_and_changes_nothing(place):
    before = place.files["sagadsl.db"]
    ended = place.sagadsl("doctor")
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[1] == "+ integrity    SQLite finds nothing wrong"
    assert lines[2] == "+ runs         9 runs, each entry as it was written"
    assert lines[3] == "? owners       3 unfinished and nobody has them: open, compensating, asked"
    assert lines[4] == f"      sagadsl list --status interrupted --db {place.folder}/sagadsl.db"
    assert place.files["sagadsl.db"] == before
    document = json.loads(place.sagadsl("doctor", "--json").stdout)
    judge("findings_document").validate(document)
    assert document["is_sound"] is True


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("pragma user_version = 99", "! file         was written by a newer sagadsl"),
        (
            "update entries set result = '7' where seq = 3 and number = 1",
            "! runs         entry 3 of run number 1 is dam",
        ),
        ("insert into letters values (null, 99, 1, 'x', null, null)", "! integrity    1 rows belong to no run"),
    ],
)
def test_doctor_finds_damage_and_says_what_to_type(place, sql, told):
    """With exit code 5; what follows a finding can be typed."""
    place.sql(sql)
    ended = place.sagadsl("doctor")
    assert (ended.returncode, ended.stderr) == (5, "")
    at = next(n for n, line in enumerate(ended.stdout.splitlines()) if line.startswith(told))
    assert ended.stdout.splitlines()[at + 1].startswith("      ")
    document = json.loads(place.sagadsl("doctor", "--json").stdout)
    judge("findings_document").validate(document)
    assert document["is_sound"] is False


# -- export, import, backup -------------------------------------------------------------------------------------------


def test_runs_go_from_one_file_to_another_through_a_pipe(place):
    """One document a line; what is not over is pointed at; a second time changes nothing."""
    out = place.sagadsl("export")
    assert (out.returncode, out.stderr) == (0, "")
    for line in out.stdout.splitlines():
        judge("export_document").validate(json.loads(line))
    command = [sys.executable, "-m", "sagadsl", "--db", "copy.db", "import", "-", "--json"]
    given = {"cwd": place.folder, "env": ENV, "input": out.stdout, "capture_output": True, "text": True}
    first = subprocess.run(command, check=True, **given)
    judge("imported_document").validate(json.loads(first.stdout))
    assert first.stderr == (
        "9 runs imported\n6 runs not over: go on with each in one file alone, or it is done twice. "
        "Look: sagadsl list --db copy.db\n"
    )
    again = subprocess.run(command, check=True, **given)
    assert again.stderr == "0 runs imported, 9 runs there already\n"
    assert place.sagadsl("--db", "copy.db", "export").stdout == out.stdout


def test_an_export_to_a_file_never_writes_over_one(place):
    assert place.sagadsl("export", "paused", "compl", "--output", "two.jsonl").returncode == 0
    lines = (place.folder / "two.jsonl").read_text().splitlines()
    assert [json.loads(line)["run"]["id"] for line in lines] == ["completed", "paused"]
    ended = place.sagadsl("export", "--output", "two.jsonl")
    assert (ended.returncode, ended.stderr) == (
        2,
        "two.jsonl exists already, and is left as it is: name another file\n",
    )


def test_what_is_no_export_is_5_and_another_run_of_that_id_is_2(place):
    place.write("odd.jsonl", "{}\n")
    place.write("text.jsonl", "no json")
    place.write("deep.jsonl", "[" * 100_000)
    assert place.sagadsl("backup", "backup.db").returncode == 0
    for name in ("odd.jsonl", "text.jsonl", "deep.jsonl", "backup.db"):
        ended = place.sagadsl("import", name)
        assert (ended.returncode, ended.stdout) == (5, "")
        assert "give what `sagadsl export` wrote" in ended.stderr
    document = json.loads(place.sagadsl("export", "paused").stdout)
    document["entries"][0]["at"] += 1
    place.write("other.jsonl", json.dumps(document))
    ended = place.sagadsl("import", "other.jsonl")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.endswith("nothing was imported. Import into another file: --db FILE\n")
    assert place.sagadsl("import", "nowhere.jsonl").returncode == 2


def test_a_backup_is_a_journal(place):
    ended = place.sagadsl("backup", "copy.db", "--json")
    assert ended.returncode == 0
    judge("backup_document").validate(json.loads(ended.stdout))
    assert ids(place, "--db", "copy.db") == ids(place)
    again = place.sagadsl("backup", "copy.db")
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == "copy.db exists already, and is left as it is: name another file\n"


def test_each_verb_that_reads_says_where_it_found_no_journal(tmp_path):
    place = Place(tmp_path)
    for verb in (["doctor"], ["export"], ["backup", "b.db"], ["prune", "--keep", "1", "--yes"], ["watch"]):
        ended = place.sagadsl(*verb)
        assert (ended.returncode, ended.stdout) == (5, "")
        assert "there is no journal here yet" in ended.stderr
    assert not place.files


# -- run --------------------------------------------------------------------------------------------------------------

TYPES = """\
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import Path
from sagadsl import Live, provide, saga, step

class Size(Enum):
    SMALL = "small"

@dataclass
class Guest:
    name: str
    age: int = 1

class Desk:
    name = "desk"

provide(Desk, Desk)

@step
def write(text):
    return text

@saga
def check(desk: Live[Desk], code: str, count: int, price: Decimal, day: date, size: Size, guest: Guest,
          tags: list[str], where: Path, much: float = 0.5, note: str | None = None, anything=None):
    return write(repr([desk.name, code, count, price, day, size, guest, tags, where, much, note, anything]))

@saga
async def acheck(desk: Live[Desk], *more: int):
    return write(f"{desk.name} {more}")

class Hotel:
    @saga
    def stay(self, nights: int):
        return write(f"{type(self).__name__} {nights}")

provide(Hotel, Hotel)
"""


def result_of(place, *arguments):
    ended = place.sagadsl("run", *arguments, "--json")
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    judge("run_document").validate(document)
    return document["run"]["result"]


def test_run_is_the_saga_as_a_whole_program(place):
    """Its exit codes are the saga's; a key that is done is done."""
    ended = place.sagadsl("run", "trip.py:trip", "--arg", "city=Rome", "--key", "r")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "7\n", "trip/r completed\n")
    again = place.sagadsl("run", "trip.py:trip", "--arg", "city=Rome", "--key", "r")
    assert (again.returncode, again.stdout) == (0, "7\n")  # what is recorded
    assert place.world == ["flight", "hotel"]
    place.set("full")
    ended = place.sagadsl("run", "trip.py:trip", "--args", '{"city": "Rome"}', "--id", "f")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.endswith("f failed with RuntimeError: no \ufffd]0;room\ufffd left\ufffd; compensated flight\n")
    start = "def cancel_flight(ticket=None):\n"
    place.write("stuck.py", SCRIPT.replace(start, f"{start}    1 / 0\n"))
    ended = place.sagadsl("run", "stuck.py:trip", "--arg", "city=Rome", "--id", "u")
    assert ended.returncode == 6
    assert ended.stderr.endswith("Mend the cause, then: sagadsl compensate u\n")
    place.write("pause.py", SCRIPT.replace("@saga\n", '@saga(on_failure="pause")\n'))
    ended = place.sagadsl("run", "pause.py:trip", "--arg", "city=Rome", "--id", "p")
    assert ended.returncode == 6
    assert ended.stderr.endswith("Go on: sagadsl resume p   Compensate: sagadsl compensate p\n")


def test_run_writes_the_value_as_print_would(place):
    """To be read by the next program in a pipe; a terminal is not steered by it; nothing where there is none."""
    place.write(
        "say.py",
        """
        from sagadsl import saga

        @saga
        def say(text: str | None) -> str | None:
            return text and text * 1000
    """,
    )
    command = ("-m", "sagadsl", "run", "say.py:say", "--args")
    for text, written in {"a\tb\x1b[2J\n": "a\tb\x1b[2J\n" * 1000 + "\n", None: ""}.items():
        piped = place.python(*command, json.dumps({"text": text}))
        assert (piped.returncode, piped.stdout) == (0, written)
    shown = Terminal(*command, json.dumps({"text": "a\x1b[2J"}), cwd=place.folder).read()
    assert "a\ufffd[2Ja\ufffd[2J" in shown


def test_a_run_that_was_killed_goes_on_when_it_is_typed_again(place):
    place.set("kill")
    command = ("-m", "sagadsl", "run", "trip.py:trip", "--arg", "city=Rome")
    assert place.python(*command).returncode == -9
    place.clear("kill")
    ended = place.sagadsl(*command[2:])
    assert ended.returncode == 0
    assert ended.stderr.startswith("resuming trip/")
    assert place.world == ["flight", "hotel", "hotel"]


def test_arguments_are_what_their_annotations_say(place):
    """A text stays one for a `str`; others are read as JSON; live ones are provided."""
    place.write("types_.py", TYPES)
    given = {
        "code": "12", "count": "3", "price": "99.90", "day": "2026-11-22", "size": "small",
        "guest": '{"name": "Ada"}', "tags": '["a", "b"]', "where": "a/x", "note": "7", "anything": "[1, 2.5]",
    }  # fmt: skip
    expected = (
        "['desk', '12', 3, Decimal('99.90'), datetime.date(2026, 11, 22), <Size.SMALL: 'small'>, "
        "Guest(name='Ada', age=1), ['a', 'b'], PosixPath('a/x'), 0.5, '7', [1, 2.5]]"
    )
    arguments = [word for name, text in given.items() for word in ("--arg", f"{name}={text}")]
    assert result_of(place, "types_.py:check", *arguments) == expected
    document = given | {"count": 3, "guest": {"name": "Ada"}, "tags": ["a", "b"], "anything": [1, 2.5]}
    assert result_of(place, "types_.py:check", "--args", json.dumps(document)) == expected
    assert result_of(place, "types_.py:acheck") == "desk ()"
    assert result_of(place, "types_.py:Hotel.stay", "--arg", "nights=2") == "Hotel 2"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "the saga trip needs city; its arguments are: city"),
        (["--arg", "city=a", "--arg", "city=b"], "--arg city=b: give each argument once, as NAME=VALUE"),
        (["--args", "{"], "--args is no JSON: "),
        (["--args", "{}", "--arg", "city=a"], "--args takes one JSON object"),
    ],
)
def test_arguments_that_do_not_fit_are_2_before_anything_begins(place, arguments, told):
    ended = place.sagadsl("run", "trip.py:trip", *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(told)
    assert not (place.folder / "world").exists()


def test_arguments_are_read_from_stdin_too(place):
    command = [sys.executable, "-m", "sagadsl", "run", "trip.py:trip", "--args", "-", "--id", "s"]
    given = {"cwd": place.folder, "env": ENV, "input": '{"city": "Rome"}', "capture_output": True, "text": True}
    assert subprocess.run(command, **given, check=True).stderr == "s completed\n"


def test_resume_ends_with_the_document_of_the_run(place):
    place.kill("t-1")
    ended = place.sagadsl("resume", "t-1", "--target", "trip.py:trip", "--json")
    document = json.loads(ended.stdout)
    judge("run_document").validate(document)
    assert (ended.returncode, document["run"]["status"]) == (0, "completed")


# -- completion, colours ----------------------------------------------------------------------------------------------


def completed(place, *words):
    """Return what a shell offers for the last of these words, by what click asks of it."""
    asked = {
        "_SAGADSL_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["sagadsl", *words]),
        "COMP_CWORD": str(len(words)),
    }
    ended = place.python("-m", "sagadsl", env=ENV | asked)
    assert ended.returncode == 0, ended.stderr
    return [line.partition(",")[2] for line in ended.stdout.split()]


def test_a_shell_completes_verbs_and_runs(place):
    assert (
        "_SAGADSL_COMPLETE=bash_complete"
        in place.python("-m", "sagadsl", env=ENV | {"_SAGADSL_COMPLETE": "bash_source"}).stdout
    )
    assert completed(place, "ex") == ["export"]
    assert completed(place, "show", "comp") == [
        "compensation_failed",
        "compensating",
        "compensated",
        "completed",
        "@last",
    ]
    assert completed(place, "list", "--status", "pa") == ["paused"]
    place.write("elsewhere.db", "nothing")
    assert completed(place, "--db", "elsewhere.db", "show", "comp") == []


def test_nothing_is_coloured_for_anybody(place):
    """NO_COLOR has nothing to turn off: a status is a sign and a word."""
    for environment in (ENV | {"NO_COLOR": "1"}, ENV | {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1"}):
        for verb in (["list"], ["show", "paused"]):
            assert "\x1b" not in place.sagadsl(*verb, env=environment).stdout


def test_the_module_is_the_program(place):
    """``python -m sagadsl`` and ``sagadsl`` say the same, under the same name."""
    script = Path(sys.executable).with_name("sagadsl")
    one = subprocess.run([script, "list", "--help"], cwd=place.folder, env=ENV, capture_output=True, check=True)
    assert one.stdout.decode() == place.sagadsl("list", "--help").stdout
    assert os.fsencode("Usage: sagadsl list") in one.stdout
