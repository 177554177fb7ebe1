"""A notebook in a real kernel: explore, fail, fix, go on; stop, kill, run the cells again."""

import asyncio
from itertools import pairwise

import pytest
from kernels import started

import sagadsl
from sagadsl.cli.program import program
from sagadsl.notebook import parser

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
        self.run('sagadsl.configure(store="sagadsl.db")')  # a new kernel begins here; this one may have a store already

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
    """Give a notebook in the shared kernel, which has forgotten what earlier ones have defined and loaded."""
    kernel.cell("%unload_ext sagadsl.notebook")
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


def test_the_extension_makes_failures_pause_and_says_so(notebook):
    """In this kernel, until it is unloaded: the same cells go on once one of them is mended."""
    assert "a failure pauses its run" in notebook.run("%load_ext sagadsl.notebook").text
    notebook.run(*STUDY)
    error = notebook.run(CALL).error
    assert "words.split" not in error
    assert error.count("sagadsl/") == 0, error  # none of our lines; the user's are there
    assert "return count(collect(words))" in error
    assert "return path.read_text().kount()" in error
    assert "1 step recorded, 2 count is tried again" in notebook.run(f"{MENDED}\nit = {CALL}").text
    assert notebook.world == ["collect", "count", "count"]
    notebook.run("%unload_ext sagadsl.notebook", STUDY[1])
    assert "AttributeError" in notebook.run("study('green')").error
    assert notebook.world == ["collect", "count", "count", "collect", "count", "discard"]


def test_a_block_and_a_run_by_hand_that_fail_show_the_users_lines_alone(notebook):
    """As a saga does: none of ours, and the way on."""
    notebook.run("%load_ext sagadsl.notebook", *STUDY)
    for cell in (
        "with saga('block'):\n    count(collect('red'))",
        "async with saga('async block'):\n    count(collect('red'))",
        "run = saga('hand')\nrun.step(count)(run.step(collect)('red'))",
    ):
        error = notebook.run(cell).error
        assert "return path.read_text().kount()" in error, cell
        assert error.count("sagadsl/") == 0, error


def test_a_handle_that_is_open_says_how_to_go_on(notebook):
    """It stands in the cell before, and the process that has the run is this kernel: there is nothing to wait for."""
    notebook.run("%load_ext sagadsl.notebook", STUDY[0], "run = saga('hand')", "run.step(collect)('red')")
    shown = notebook.run("run")
    assert "by its handle, where it was begun: step(...), then complete() or compensate()" in shown.text
    assert "by its handle" in shown.html
    assert notebook.run("run.step(collect)('red').name").text.endswith("'raw.txt'\n")
    assert "completed" in notebook.run("run.complete()", "run").text
    assert notebook.world == ["collect"]


WALK = """
import asyncio, time

@step
async def walk(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "there"

@saga
async def walks(times, seconds):
    return [await walk(seconds * n / n) for n in range(1, times + 1)][0]
"""


def test_a_run_is_drawn_below_its_cell_while_it_goes_on(notebook):
    """In place: at most four times a second, as it is by then; what stands last is how it ended."""
    with notebook.kernel.front_end():
        assert notebook.run("%load_ext sagadsl.notebook", WALK).frames == []
        shown = notebook.run("began = time.time(); walks_in = await walks(40, 0.02); print(time.time() - began)")
        frames, seconds = shown.frames, float(shown.text)
        assert 3 <= len(frames) <= 3 + 4 * seconds
        assert frames[0].splitlines()[1] == "> walk …"
        assert "+ walk#40" in frames[-1]
        assert "completed" in frames[-1].splitlines()[-1]
        assert "walk#40" in shown.html
        for frame, following in pairwise(frames):
            assert frame != following

        shown = notebook.run(*STUDY, CALL)
        assert "paused" in shown.frames[-1]
        assert "redefined" not in notebook.run(MENDED, CALL).frames[-1]


def test_what_a_step_does_is_shown_though_it_began_just_after_another_frame(notebook):
    """A frame that came too early is drawn a moment later, while the step goes on."""
    with notebook.kernel.front_end():
        notebook.run("%load_ext sagadsl.notebook", WALK)
        shown = notebook.run("await walks(3, 0.4)")
    assert any("+ walk " in frame and "> walk#2" in frame for frame in shown.frames)


def test_a_kernel_that_nobody_looks_at_writes_lines(notebook):
    """A cell's number tells a notebook from nbclient, whose output is read as a log."""
    notebook.run("%load_ext sagadsl.notebook", WALK)
    shown = notebook.run("it = await walks(2, 0)")
    assert shown.frames == []
    lines = [line.split("  ")[0] for line in shown.text.splitlines()]
    assert lines[1:-1] == ["> walk …", "+ walk", "> walk#2 …", "+ walk#2"]


LEFT_OUT = {
    *("run", "--json", "--db", "--target", "--yes", "--format", "--save"),
    *("--since", "--max-compensation-rate"),
}


def test_the_magic_has_the_verbs_and_options_of_the_command_line(capsys):
    """The same words for the same things; what a file, a terminal or a time of day need there is Python's here."""
    verbs = {action.dest: action for action in parser()._actions}["==SUPPRESS=="].choices
    for name, verb in verbs.items():
        typed = {option for parameter in program.commands[name].params for option in parameter.opts}
        mine = {option for action in verb._actions for option in action.option_strings} - {"-h", "--help"}
        assert mine <= typed, name
        assert typed - mine <= LEFT_OUT, name


def test_the_magic_gives_objects(notebook):
    """What it finds can be used; what it refuses is one line that says what to do."""
    notebook.run("%load_ext sagadsl.notebook", *STUDY, CALL)
    assert notebook.run("found = %saga list --status paused --limit 1", "len(found)").text == "1\n"
    assert notebook.run("run = %saga show @last", "print(run.status, run.saga)").text == "paused study\n"
    assert "to compensate" in notebook.run("%saga show study/").html
    assert notebook.run(MENDED, "words = %saga resume @last", "words").text == "{'red': 2, 'blue': 1}\n"
    notebook.run(STUDY[1], "study('green')")
    assert "discard" in notebook.run("%saga compensate @last --dry-run").text
    assert notebook.run("run = %saga compensate @last", "print(run.status)").text == "compensated\n"
    assert notebook.world[-1] == "discard"
    assert "list" in notebook.run("%saga --help").text
    assert notebook.run("%saga graph @last").html.startswith("<")
    assert notebook.run("figures = %saga stats", "print(figures.runs)").text == "{'compensated': 1, 'completed': 1}\n"
    for line, told in {
        "show nothing": "run nothing: is not in",
        "dance": "invalid choice: 'dance'",
        "list --status=odd": "choose from 'open', 'paused'",
        "show 'half": "No closing quotation",
        "cancel @last": "is compensated",
        "compensate @last --to count": "is compensated as a whole",
    }.items():
        shown = notebook.run(f"%saga {line}")
        assert told in shown.text, line
        assert "Traceback" not in shown.error + shown.text


def test_a_run_is_taken_back_to_a_step_edited_and_goes_on(notebook):
    """What came after the step is compensated, what came before comes back, and the edited step is called anew."""
    publish = """
def burn(page):
    note("burn")
    page.unlink()

@step(compensate=burn)
def write(text: str) -> Path:
    note("write")
    page = Path("page")
    page.write_text(text)
    return page

@saga
def publish(words):
    return write(str(len(collect(words).read_text()))).read_text()
"""
    notebook.run("%load_ext sagadsl.notebook", STUDY[0], publish, "publish('red blue')")
    back = notebook.run(
        "run = %saga compensate @last --to collect", "print(run.status, [step.key for step in run.stack])"
    )
    assert back.text == "paused ['collect']\n"
    notebook.run(publish.replace("page.write_text(text)", "page.write_text(text + ' letters')"))
    assert notebook.run("it = publish('red blue')", "it").text == "'8 letters'\n"
    assert notebook.world == ["collect", "write", "burn", "write"]


def test_what_the_magic_gives_of_an_async_saga_is_awaited(notebook):
    """A line cannot await; it says so."""
    notebook.run("%load_ext sagadsl.notebook", STUDY[0], STUDY[1], STUDY[2].replace("def", "async def"))
    notebook.run(f"await {CALL}")
    assert "await _" in notebook.run(MENDED, "given = %saga resume @last").text
    assert notebook.run("await given").text.endswith("\n{'red': 2, 'blue': 1}\n")


def test_the_stop_button_reaches_a_saga_wherever_its_cell_is(notebook):
    """In a step, a body, branches or a run by hand: open, nothing compensated, and the same call goes on."""
    notebook.run(STUDY[0], WAITING)
    for call, raised in STOPPED.items():
        shown = notebook.run(call, stop_at="inside")
        assert raised in shown.error, call
        assert "sagadsl/_" not in shown.error, call  # the user's lines alone
        assert (
            notebook.run("it = sagadsl.runs()[0]; print(it.status, it.is_interrupted, len(it.stack))").text
            == "open True 1\n"
        )
    assert "discard" not in notebook.world
    assert notebook.run("go_on = True").error == ""
    for call in STOPPED:
        assert "'done'" in notebook.run(call).text, call
    assert notebook.world.count("collect") == len(STOPPED)


WAITING = """
import asyncio, signal
from sagadsl import aio, parallel

go_on = False

@step
def sit(name: str) -> str:
    print("inside", flush=True)
    while not go_on:
        signal.pause()
    return "done"

@step(timeout=2000)
def sit_in_a_thread() -> str:
    return sit.plain("")

@step
async def stand() -> str:
    print("inside", flush=True)
    while not go_on:
        await asyncio.Event().wait()
    return "done"

@saga
def in_a_step():
    collect("red")
    return sit("")

@saga
async def in_an_awaited_step():
    collect("red")
    return await stand()

@saga
async def in_a_body():
    collect("red")
    return await stand.plain()

@saga
async def in_branches():
    collect("red")
    return await aio.parallel(stand(), stand())

async def by_hand():
    run = saga("by hand")
    run.step(collect)("red")
    await run.step(stand)()
    return run.complete("done")

async def in_a_block():
    async with saga("block") as run:
        collect("red")
        found = await stand()
    return found

def call_by_hand():
    run = saga("by hand, sync")
    run.step(collect)("red")
    run.step(sit)("")
    return run.complete("done")
"""
STOPPED = {
    "in_a_step()": "KeyboardInterrupt",
    "await in_an_awaited_step()": "CancelledError",
    "await in_a_body()": "CancelledError",
    "await in_branches()": "CancelledError",
    "await by_hand()": "CancelledError",
    "await in_a_block()": "CancelledError",
    "call_by_hand()": "KeyboardInterrupt",
}


def test_a_program_that_only_imports_the_kernels_package_is_woken_by_nobody():
    """It may start kernels, as this one does; no stop button reaches it."""
    import ipykernel.kernelapp

    class Counting(asyncio.SelectorEventLoop):
        asked = 0

        def call_later(self, *args, **options):
            self.asked += 1
            return super().call_later(*args, **options)

    @sagadsl.step
    async def look() -> int:
        return asyncio.get_running_loop().asked

    @sagadsl.saga(store=":memory:")
    async def flow() -> int:
        return await look()

    assert not ipykernel.kernelapp.IPKernelApp.initialized()
    with asyncio.Runner(loop_factory=Counting) as runner:
        assert runner.run(flow()) == 0
