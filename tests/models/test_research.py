"""The example: research by a real model, published or taken back, killed in the middle, and told what to type."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import sagadsl
from sagadsl import llm
from tests.models.conftest import CHAT, EMBEDDING


@pytest.fixture
def start(tmp_path, counter):
    """Start the example, as a process of its own."""
    models = {"SAGADSL_RESEARCH_MODEL": CHAT, "SAGADSL_RESEARCH_EMBEDDING": EMBEDDING}
    root = str(Path(__file__).parents[2])

    def start(*options, **variables):
        env = os.environ | {"PYTHONPATH": root, "OLLAMA_HOST": counter.url} | models | variables
        command = [sys.executable, "-m", "sagadsl.examples.research", "--folder", "work", *options]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=tmp_path, env=env, **streams)

    return start


@pytest.fixture
def run(start):
    """Run the example to its end; return the exit code, and what it printed."""

    def run(*options, **variables):
        with start(*options, **variables) as process:
            shown, told = process.communicate(timeout=120)
        return process.returncode, shown, told

    return run


def papers(folder):
    """Return the papers there are, by folder."""
    return sorted(str(path.relative_to(folder / "work")).partition("-")[0] for path in folder.rglob("*.md"))


def states(folder):
    """Return what became of each answer, newest research first."""
    runs = sagadsl.Runtime(folder / "work" / "sagadsl.db").runs()
    return [(answer.step, answer.state) for answer in llm.answers(runs[0])]


def test_killed_in_the_middle_it_goes_on_publishes_and_is_not_paid_twice(start, run, tmp_path, counter):
    """Only the analysis, which was cut off, is asked for again; each question has what came before in it."""
    process = start()

    def kill(call):
        if len(counter.begun) == 2:
            process.send_signal(signal.SIGKILL)
            process.wait()

    counter.when_begun = kill
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    code, shown, told = run()
    assert code == 0
    assert "1 step recorded, 2 analyse is tried again" in told
    assert "make_plan      given" in shown
    assert papers(tmp_path) == ["published/transformer"]
    assert states(tmp_path) == [("make_plan", "given"), ("analyse", "given"), ("write_report", "given")]
    plan = sagadsl.Runtime(tmp_path / "work" / "sagadsl.db").runs()[0].steps[0].result
    question = plan["question"]  # of a class that this program has not imported
    assert [question in asked for asked in counter.questions(counter.begun)] == [False, True, True, True]
    assert len(counter.begun) == 3 + 1 + 1  # one that was cut off, one for the embeddings
    assert run()[1].count("published:") == 1
    assert len(counter.begun) == 5


def test_a_report_that_is_off_its_topic_is_taken_back(run, tmp_path):
    """The draft is removed, plan and report are archived, the analysis is discarded; the exit code says so."""
    code, shown, _ = run("--at-least", "1.01")
    assert code == 3
    assert "taken back: OffTopicError" in shown
    assert "compensated: save_draft, write_report, analyse, make_plan" in shown
    assert papers(tmp_path) == []
    assert states(tmp_path) == [("make_plan", "archived"), ("analyse", "discarded"), ("write_report", "archived")]
    kept = llm.archived(sagadsl.Runtime(tmp_path / "work" / "sagadsl.db").runs())
    assert [answer.step for answer in kept] == ["make_plan", "write_report"]
    assert kept[0].reason.startswith("OffTopicError")
    assert kept[0].text


@pytest.mark.parametrize(
    ("variables", "command"),
    [
        ({"OLLAMA_HOST": "127.0.0.1:1"}, "OLLAMA_HOST=127.0.0.1:1 ollama serve"),
        ({"SAGADSL_RESEARCH_MODEL": "llama-none"}, "ollama pull llama-none"),
        ({"SAGADSL_RESEARCH_EMBEDDING": "embed-none"}, "ollama pull embed-none"),
    ],
    ids=["no server", "no model", "no embeddings"],
)
def test_what_is_missing_is_told_before_anything_is_done(variables, command, run, tmp_path, counter):
    """One line, with the command to type; not even a folder is made."""
    code, shown, told = run(**variables)
    assert code in {1, 2}
    assert shown == ""
    assert told.count("\n") == 1
    assert told.strip().endswith(command)
    assert list(tmp_path.iterdir()) == []
    assert counter.begun == []


def test_a_folder_that_cannot_be_used_is_told_in_a_line(run, tmp_path, counter):
    """Before anything is asked."""
    (tmp_path / "work").write_text("a file")
    code, shown, told = run()
    assert (code, shown) == (2, "")
    assert told.startswith("work cannot be written to: ")
    assert told.count("\n") == 1
    assert counter.begun == []


def test_the_models_are_those_of_the_guide_by_default():
    """Without a word about models it is llama3.2 and nomic-embed-text."""
    code = (
        "from sagadsl.examples.research.saga import embeddings, writer; print(writer.model.name, embeddings.model.name)"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("SAGADSL")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "llama3.2 nomic-embed-text\n"


def test_what_the_example_needs_is_named():
    """Where the extra is not installed."""
    code = "import sys; sys.modules['msgspec'] = None; import sagadsl.examples.research.__main__"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'sagadsl[llm]'" in done.stderr
    assert "Traceback" not in done.stderr
