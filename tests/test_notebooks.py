"""The notebooks that users read first, run from top to bottom as they would run them."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.models.conftest import CHAT, ollama

__all__ = ["ollama"]

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PATIENCE = 120
"""Seconds after which a cell that has not ended fails its test."""


def cells(path):
    """Return the code cells of a notebook."""
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def text_of(cell):
    """Return what a cell that was run shows as text."""
    shown = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "".join(shown)


def pictures_of(cell):
    """Return how a cell that was run shows what is more than text."""
    return {kind for output in cell.outputs for kind in output.get("data", {}) if kind != "text/plain"}


@pytest.fixture
def executed(tmp_path, monkeypatch, request):
    """Run a notebook in an empty folder; a cell fails exactly where the notebook says that it does."""
    for name in [name for name in os.environ if name.startswith(("SAGADSL", "PYTEST", "COV"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def executed(path):
        if "sagadsl.llm" in path.read_text("utf-8"):
            monkeypatch.setenv("OLLAMA_HOST", request.getfixturevalue("ollama"))
            monkeypatch.setenv("SAGADSL_RESEARCH_MODEL", CHAT)
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=PATIENCE, resources={"metadata": {"path": str(tmp_path)}}).execute()
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        meant = [cell.id for cell in code if "raises-exception" in cell.metadata.get("tags", ())]
        failed = [cell.id for cell in code if any(output.output_type == "error" for output in cell.outputs)]
        assert failed == meant
        return code

    return executed


def test_there_are_notebooks_in_an_order():
    """Each names the next."""
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06"]
    for path, following in pairwise(NOTEBOOKS):
        assert following.name in nbformat.read(path, as_version=4).cells[-1].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_what_it_showed(path):
    """Whoever opens it sees their own results, and its history is what somebody wrote."""
    nbformat.validate(nbformat.read(path, as_version=4))
    assert [cell.id for cell in cells(path) if cell.outputs or cell.execution_count] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path, executed, tmp_path):
    """In a new kernel, in an empty folder; runs are drawn, and the world is what it says."""
    code = executed(path)
    assert any("text/html" in pictures_of(cell) for cell in code)
    assert (tmp_path / "sagadsl.db").is_file()
    left = {str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*") if each.is_file()}
    assert LEFT[path.name[:2]] <= left
    assert not GONE.get(path.name[:2], set()) & left
    if path.name.startswith("02"):
        assert (tmp_path / "diary").read_text() == "collected\n"  # once, though the saga failed and went on
    if path.name.startswith("05"):
        assert text_of(code[-4]) == "{}"  # before it was published once more


LEFT = {
    "01": {"town/room on Saturday", "town/cake for 3"},
    "02": {"report.md", "survived"},
    "03": set(),
    "04": {"kitchen/soup", "kitchen/cake", "kitchen/roast"},
    "05": {"site/owls.md", "site/owls.txt"},
    "06": set(),
}
"""What each notebook leaves behind."""
GONE = {
    "03": {"desk/flight to Rome", "desk/3 nights in Rome", "desk/car in Rome"},
    "04": {"kitchen/oyster", "kitchen/beans"},
    "06": {"papers/tides.md"},
}
"""What each of them has made and taken back."""
