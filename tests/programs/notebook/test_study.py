"""A notebook in a real kernel: a cell fails, is mended and run again; the kernel dies; the stop button is pressed."""

import contextlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

COLLECTED = ["collect done", "count done", "train done"]


class Notebook:
    """The cells of the program by name, and the kernel that is running."""

    def __init__(self, program):
        self.program = program
        parts = program.text("study.py").split("\n# %% ")[1:]
        self.cells = {name: code for name, _, code in (part.partition("\n") for part in parts)}

    @contextlib.contextmanager
    def kernel(self):
        """Start a kernel in the program's folder; run the first cell."""
        self.client = NotebookClient(nbformat.v4.new_notebook(), allow_errors=True, kernel_name="python3")
        with self.client.setup_kernel(cwd=str(self.program.folder), env=self.program.variables()):
            self.run("steps")
            yield

    def run(self, name):
        """Run a cell; return all that it shows, as a person sees it."""
        cell = nbformat.v4.new_code_cell(self.cells[name])
        self.client.nb.cells.append(cell)
        self.client.execute_cell(cell, len(self.client.nb.cells) - 1)
        shown = []
        for output in cell.outputs:
            if output.output_type == "error":
                shown.append(f"{output.ename}: {output.evalue}")
            else:
                shown.append(output.get("text") or output.data["text/plain"])
        return "\n".join(shown)

    @property
    def effects(self):
        """Return what was done to the world, in order."""
        return self.program.text("effects.txt").split()


@pytest.fixture
def notebook(program):
    """Give the notebook, without a kernel."""
    return Notebook(program)


def test_a_cell_that_fails_is_mended_and_goes_on(notebook, program):
    """The failed step is entered again, with the new function; a kernel that dies in the next one is not missed."""
    with notebook.kernel():
        notebook.run("count, wrong")
        assert "Go on: call it again, or " in notebook.run("study")
        assert "1 step recorded, 2 count is tried again" in notebook.run("study")
        assert notebook.effects == ["collect", "count", "count"]
        notebook.run("count, right")
        with pytest.raises(DeadKernelError):
            notebook.run("study")
    with notebook.kernel():
        notebook.run("count, right")
        shown = notebook.run("study")
    assert "resuming study/" in shown
    assert "2 steps recorded, 3 train is tried again" in shown
    assert "'red'" in shown
    assert notebook.effects == ["collect", "count", "count", "count", "train", "train"]
    assert program.journal == [["completed", *COLLECTED]]


def test_a_person_gives_up_in_a_new_kernel(notebook, program):
    """What the paused run has done is compensated by the functions that the new kernel has."""
    with notebook.kernel():
        notebook.run("count, wrong")
        notebook.run("study")
    with notebook.kernel():
        notebook.run("count, wrong")
        assert "compensated" in notebook.run("give up")
    assert notebook.effects == ["collect", "count", "discard"]
    assert program.names("raw.txt") == []
    assert program.journal == [["compensated", "collect done", "count failed", "-collect"]]


def test_the_stop_button_leaves_a_run_that_goes_on(notebook, program):
    """Nothing is compensated, and the next call goes on; then the same kernel awaits sagas at the top of its cells."""
    for name in ("entered", "go"):
        os.mkfifo(program.folder / name)

    def press():
        assert program.text("entered") == "now"
        os.kill(notebook.client.km.provisioner.pid, signal.SIGINT)

    def answer():
        assert program.text("entered") == "now"
        (program.folder / "go").write_text("gone")

    with notebook.kernel():
        notebook.run("slow")
        with ThreadPoolExecutor() as meanwhile:
            meanwhile.submit(press)
            assert "KeyboardInterrupt" in notebook.run("call slow")
        assert notebook.effects == ["collect", "wait"]
        with ThreadPoolExecutor() as meanwhile:
            meanwhile.submit(answer)
            assert "'gone'" in notebook.run("call slow")
        assert notebook.effects == ["collect", "wait", "wait"]

        notebook.run("async")
        assert notebook.run("await") == "14"
        shown = notebook.run("await too much")
    assert "OverflowError: 14" in shown
    assert notebook.effects[3:] == ["1", "2", "3", "1", "2", "3", "-3", "-2", "-1"]
    squares = [f"square{number} done" for number in ("", "#2", "#3")]
    undone = ["-square#3", "-square#2", "-square"]
    stopped = ["completed", "collect done", "wait done"]
    assert program.journal == [stopped, ["completed", *squares], ["compensated", *squares, *undone]]
