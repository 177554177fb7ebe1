"""The file as others see it: sqlite-utils and Datasette, the real programs on a real file, who know nothing of us."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "crash" / "golden" / "version-1.db"
STATUSES = {
    "completed": "completed",
    "compensated": "compensated",
    "open": "open",
    "compensating": "compensating",
    "paused": "paused",
    "compensation_failed": "compensation_failed",
    "put_back": "paused",
    "skipped": "compensated",
    "asked": "open",
}
"""Where each run of the golden file stands."""
PROGRAMS = Path(sys.executable).parent


@pytest.fixture
def path(tmp_path):
    """Give a copy of the golden file: a run for each way in which one can be left."""
    return Path(shutil.copy(GOLDEN, tmp_path / "sagadsl.db"))


def sqlite_utils(*arguments):
    done = subprocess.run([PROGRAMS / "sqlite-utils", *map(str, arguments)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_sqlite_utils_lists_views_whose_names_say_what_they_are(path):
    assert sorted(row["view"] for row in sqlite_utils("views", path)) == ["compensations", "runs", "steps", "timeline"]
    assert sorted(row["table"] for row in sqlite_utils("tables", path) if not row["table"].startswith("_")) == [
        "entries",
        "letters",
        "run",
        "sqlite_sequence",
    ]


def test_sqlite_utils_shows_where_each_run_stands_and_why(path):
    """Words, readable times, payloads as JSON."""
    runs = sqlite_utils("rows", path, "runs")
    assert {run["id"]: run["status"] for run in runs} == STATUSES
    failed = next(run for run in runs if run["id"] == "compensated")
    assert (failed["saga"], failed["cause"], failed["parent"]) == ("trip", "failure", None)
    assert failed["error"].startswith("builtins:ValueError: ")
    assert failed["started"].startswith("2023-11-")
    assert failed["started"].endswith("Z")
    assert failed["started"] <= failed["ended"] == failed["updated"]
    assert isinstance(json.loads(failed["arguments"]), dict)


def test_sqlite_utils_follows_a_run_through_steps_compensations_and_timeline(path):
    """The same id leads from one view to the next."""
    steps = sqlite_utils("query", path, "select * from steps where run = 'compensated' order by seq")
    assert [(step["name"], step["status"]) for step in steps] == [
        (steps[0]["name"], "compensated"),
        (steps[1]["name"], "compensated"),
        (steps[2]["name"], "failed"),
    ]
    assert steps[2]["error"].startswith("builtins:ValueError: ")
    undone = sqlite_utils("query", path, "select * from compensations where run = 'compensated'")
    assert {row["step"] for row in undone} == {step["step"] for step in steps[:2]}
    assert {(row["status"], row["compensation"]) for row in undone} == {("done", steps[0]["compensation"])}
    told = sqlite_utils("query", path, "select * from timeline where run = 'compensated' order by seq")
    assert [told[0]["event"], told[-1]["event"]] == ["opened", "compensated"]
    assert [row["at"] for row in told] == sorted(row["at"] for row in told)


def datasette(path, address):
    """Return what Datasette answers for an address."""
    command = [PROGRAMS / "datasette", str(path), "--get", address]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_datasette_serves_the_views_as_json_and_as_pages(path):
    """With its filters and facets, which need no more than columns that mean something."""
    found = json.loads(datasette(path, "/sagadsl/runs.json?_shape=array&status=paused&_sort=id"))
    assert [(run["id"], run["status"]) for run in found] == [("paused", "paused"), ("put_back", "paused")]
    facets = json.loads(datasette(path, "/sagadsl/runs.json?_facet=status&_size=0"))["facet_results"]
    counted = facets.get("results", facets)["status"]["results"]
    assert {each["value"]: each["count"] for each in counted} == Counter(STATUSES.values())
    page = datasette(path, "/sagadsl/steps?run=compensated")
    assert "compensated" in page
    assert "builtins:ValueError" in page


def test_nothing_of_the_file_is_changed_by_looking(path):
    before = path.read_bytes()
    sqlite_utils("rows", path, "steps")
    datasette(path, "/sagadsl/timeline.json?_shape=array")
    assert path.read_bytes() == before
