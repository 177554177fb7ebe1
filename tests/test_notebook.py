"""A notebook in a real kernel: explore, fail, fix, go on; stop, kill, run the cells again."""

import pytest
from kernels import started

START = """
import os, signal
from pathlib import Path

import sagadsl
from sagadsl import saga, step

def note(effect):
    with Path("world").open("a") as world:
        world.write(effect + "\\n")
"""


class Notebook:
    """A folder with a world in it, and the kernel that runs there now."""

    def __init__(self, folder, kernel):
        self.folder, self.kernel = folder, kernel
        self.run(f"import os; os.chdir({str(folder)!r})")
        self.run(START)

    def run(self, *cells, stop_at=None):
        """Run cells; return what the last one shows."""
        for cell in cells:
            shown = self.kernel.cell(cell, stop_at=stop_at)
        return shown

    @property
    def world(self):
        """Return the effects, in order."""
        world = self.folder / "world"
        return world.read_text().split() if world.exists() else []


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """Give a kernel that the tests of this file share."""
    with started(tmp_path_factory.mktemp("kernel")) as kernel:
        yield kernel


@pytest.fixture
def notebook(kernel, tmp_path):
    """Give a notebook in the shared kernel, which has forgotten what earlier ones have defined."""
    kernel.cell("%reset -f")
    return Notebook(tmp_path, kernel)


STUDY = (
    """
def discard(path):
    note("discard")
    path.unlink()

@step(compensate=discard)
def collect(words: str) -> Path:
    note("collect")
    path = Path("raw.txt")
    path.write_text(words)
    return path
""",
    """
@step
def count(path: Path) -> dict[str, int]:
    note("count")
    return path.read_text().kount()
""",
    """
@saga
def study(words):
    return count(collect(words))
""",
)
MENDED = STUDY[1].replace(".kount()", ".split()").replace("return ", "words = ") + (
    "    return {word: words.count(word) for word in words}\n"
)
CALL = "study('red blue red')"


def test_a_definition_cell_that_is_run_twice_says_nothing(notebook):
    """Neither a warning nor a mark; what is different is marked in the run's display."""
    notebook.run(*STUDY)
    for cell in STUDY:
        assert notebook.run(cell).text == ""
    assert "SuspendedError" in notebook.run("study.using(on_failure='pause')('red blue red')").error
    assert "redefined" not in notebook.run(*STUDY, "sagadsl.runs()[0]").html
    notebook.run(STUDY[0].replace("path.unlink()", "path.unlink(missing_ok=True)"))
    shown = notebook.run("sagadsl.runs()[0]")
    assert "redefined since: discard" in shown.text
    assert "redefined since: discard" in shown.html


def test_a_cell_that_fails_is_mended_and_goes_on_also_in_a_new_kernel(tmp_path):
    """The failed step is entered again, with the new function, and what is recorded is not; a kill changes nothing."""
    for mended in (False, True):
        with started(tmp_path) as kernel:
            notebook = Notebook(tmp_path, kernel)
            notebook.run(STUDY[0], STUDY[1], STUDY[2].replace("@saga", "@saga(on_failure='pause')"))
            if not mended:
                assert "Go on: call it again, or sagadsl.find('study/" in notebook.run(CALL).error
                kernel.killed_by(
                    f"{MENDED.replace('words =', 'os.kill(os.getpid(), signal.SIGKILL); words =')}\n{CALL}"
                )
            else:
                notebook.run(MENDED)
                shown = notebook.run(f"it = {CALL}", "it")
    assert shown.text == "{'red': 2, 'blue': 1}\n"
    assert notebook.world == ["collect", "count", "count", "count"]
