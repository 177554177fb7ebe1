"""Files as results: recorded by path, size and digest, checked when a run goes on, put away and never deleted."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import signal
import subprocess
import sys
from hashlib import blake2b
from itertools import product
from pathlib import Path
from typing import Any

import attrs
import pytest

import sagadsl
from sagadsl import Artifact, JournalError, UsageError, archive


class Cut(BaseException):
    """A process that dies, as far as a body can tell."""


@attrs.frozen
class Report:
    title: str
    pages: list[Artifact]


@pytest.fixture
def write(tmp_path):
    """Give a function that writes a file and returns its path."""

    def write(name: str, text: str = "content") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


# -- the value --------------------------------------------------------------------------------------------------------


def test_an_artifact_is_a_files_path_size_and_digest(write, tmp_path, monkeypatch):
    """Made of text or of a path, absolute; whatever opens files takes it; nothing of it can be changed."""
    path = write("report.csv", "a,b\n")
    monkeypatch.chdir(tmp_path)
    artifact = Artifact("report.csv")
    assert artifact == Artifact(path)
    assert hash(artifact) == hash(Artifact(path))
    assert (artifact.path, artifact.size) == (path, 4)
    assert artifact.digest == blake2b(b"a,b\n", digest_size=32).hexdigest()
    assert isinstance(artifact, os.PathLike)
    with open(artifact) as file:  # noqa: PTH123  # any function that opens files
        assert file.read() == "a,b\n"
    assert Path(artifact) == path
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        artifact.size = 5
    for made in (copy.copy(artifact), copy.deepcopy(artifact), pickle.loads(pickle.dumps(artifact))):  # noqa: S301
        assert made == artifact


def test_a_file_is_read_in_pieces(tmp_path):
    """One that is larger than what is read at once has the digest of its whole content."""
    content = os.urandom(1_500_007)
    (tmp_path / "large").write_bytes(content)
    artifact = Artifact(tmp_path / "large")
    assert (artifact.size, artifact.digest) == (len(content), blake2b(content, digest_size=32).hexdigest())


def test_only_plain_files_are_artifacts(write, tmp_path):
    """A folder, a link or a device is refused with what to do; what is not there is Python's own error."""
    (tmp_path / "link").symlink_to(write("target"))
    (tmp_path / "broken").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    for name in (".", "link", "broken", "pipe"):
        with pytest.raises(UsageError, match="takes a plain file: of a folder name each file, of a link its target"):
            Artifact(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        Artifact(tmp_path / "none")


def test_a_file_is_intact_while_size_and_digest_are_what_they_were(write):
    """Also one of the same size is looked into; one that cannot be read is not intact."""
    path = write("a", "1234")
    artifact = Artifact(path)
    assert artifact.is_intact()
    for change in (lambda: path.write_text("4321"), lambda: path.write_text("12345"), path.unlink):
        change()
        assert not artifact.is_intact()


@pytest.mark.parametrize("name", ["plain.txt", "na\u00efve \u2603.txt", "\udced\udca0\udcbd\udced\udcb8\udc80"])
def test_an_artifact_comes_back_equal_wherever_it_stands(write, name):
    """In containers, keys and records; reading it back touches no file."""
    artifact = Artifact(write(name))
    codec = sagadsl._core.codec.Codec()
    values = [
        artifact,
        [artifact],
        {"a": (artifact,)},
        {artifact: {artifact}},
        Report("r", [artifact]),
        {"$x": artifact},
    ]
    texts = [codec.encode(value) for value in values]
    assert [codec.artifacts(value) for value in values[:3]] == [[artifact]] * 3
    assert codec.artifacts(values[3]) == [artifact, artifact]
    assert codec.artifacts(values[4]) == codec.artifacts(values[5]) == [artifact]
    artifact.path.unlink()
    assert [codec.decode(text) for text in texts] == values
    assert type(codec.decode(texts[0])) is Artifact


def test_what_looks_like_an_artifact_is_none(write):
    """Text and keys of the user's own with the same spelling."""
    codec = sagadsl._core.codec.Codec()
    for value in ('"$artifact"', {"$artifact": "x", "size": 1}, ["$artifact"]):
        assert codec.artifacts(value) == []
        assert codec.decode(codec.encode(value)) == value


def test_the_artifacts_of_a_value_that_cannot_be_stored_are_found(write):
    """Part for part: what cannot be stored hides none of the others."""
    a, b, c = (Artifact(write(name)) for name in "abc")
    codec = sagadsl._core.codec.Codec()
    value = {"first": [a, object()], "record": Report(object(), [b]), "set": {c, object()}, "other": 5}
    assert codec.artifacts(value) == [a, b, c]


# -- a run that goes on -----------------------------------------------------------------------------------------------


@pytest.fixture
def export(colour, world, write):
    """Give a step that writes a file and returns where, in a record."""

    @colour.step(compensate=archive("attic"), name="export")
    def export(name: str) -> Report:
        world.add(name)
        return Report(name, [Artifact(write(name, f"content of {name}"))])

    return export


@pytest.fixture
def cut(colour, world):
    """Give a step whose first attempt is interrupted after its effect."""
    dies = [True]

    @colour.step(compensate=None, name="cut")
    def cut() -> None:
        world.add("cut")
        if dies.pop() if dies else False:
            raise Cut

    return cut


@pytest.mark.parametrize(
    "case", list(product(["missing", "other size", "other content"], ["call", "resume", "outcome"]))
)
def test_a_run_does_not_go_on_without_its_files(colour, make_runtime, export, cut, world, case):
    """Nothing is entered and nothing written; once the file is back, the run goes on."""
    how, through = case
    path = world.path.with_name("report")

    @colour.saga(key="k", name="flow")
    def flow():
        world.add("body")
        report = yield export("report")
        yield cut()
        return report.pages[0].path.read_text()

    with pytest.raises(Cut):
        colour.call(flow.using(runtime=make_runtime()))
    good = path.read_text()
    if how == "missing":
        path.unlink()
    else:
        path.write_text(good + "!" if how == "other size" else good.upper())
    effects, entries = world.effects, make_runtime().journal().entries(1)

    def again():
        saga = flow.using(runtime=make_runtime())
        ways = {"call": saga, "resume": lambda: saga.resume("flow/k"), "outcome": saga.outcome}
        return colour.call(ways[through])

    told = "not there" if how == "missing" else "no longer what it was"
    for _ in range(2):
        with pytest.raises(JournalError, match=f"{path}, which export made, is {told}") as caught:
            again()
        assert "then go on: sagadsl resume flow/k --db /" in str(caught.value)
        assert "Or compensate: sagadsl compensate flow/k --db /" in str(caught.value)
    assert world == effects
    assert [e.seq for e in make_runtime().journal().entries(1)] == [e.seq for e in entries]
    assert make_runtime().find("flow/k").is_interrupted
    path.write_text(good)
    ended = again()
    assert (ended.value if through == "outcome" else ended) == good
    assert world == ["body", "report", "cut", "body", "cut"]


def test_the_files_of_completed_children_are_checked_and_those_of_failed_ones_are_not(
    colour, make_runtime, export, cut, world, tmp_path
):
    """What was put away when a child failed is where it belongs."""

    @colour.saga(name="child")
    def child(name: str, fail: bool):
        yield export(name)
        if fail:
            raise ValueError("no")
        return Artifact(tmp_path / name)

    @colour.saga(key="k")
    def flow():
        try:
            yield child("bad", True)
        except ValueError:
            world.add("caught")
        yield child("good", False)
        yield cut()
        return "done"

    with pytest.raises(Cut):
        colour.call(flow.using(runtime=make_runtime()))
    assert (tmp_path / "attic" / "bad").exists()
    (tmp_path / "good").rename(tmp_path / "aside")
    with pytest.raises(JournalError, match="which child#2/export made, is not there") as caught:
        colour.call(flow.using(runtime=make_runtime()))
    assert "bad" not in str(caught.value)
    (tmp_path / "aside").rename(tmp_path / "good")
    assert colour.call(flow.using(runtime=make_runtime())) == "done"
    assert world == ["bad", "caught", "good", "cut", "caught", "cut"]


def test_a_run_whose_file_is_gone_can_be_given_up(colour, make_runtime, export, cut, world, caplog):
    """Compensation asks for no file; what is not there need not be put away, which is said."""

    @colour.saga(key="k", name="flow")
    def flow():
        yield export("one")
        yield export("two")
        yield cut()

    with pytest.raises(Cut):
        colour.call(flow.using(runtime=make_runtime()))
    world.path.with_name("one").unlink()
    run = colour.run(make_runtime().find("flow/k").compensate())
    assert run.status == "compensated"
    assert [path.name for path in world.path.with_name("attic").iterdir()] == ["two"]
    assert "one is not there any more" in caplog.text


def test_an_argument_that_is_a_file_is_another_one_when_its_content_changed(colour, make_runtime, cut, write):
    """Its digest is part of the step's identity, so a replay does not take one for the other."""
    path = write("in", "1")

    @colour.step(compensate=None)
    def load(source: Artifact) -> int:
        return source.size

    @colour.saga(key="k")
    def flow():
        yield load(Artifact(path))
        yield cut()

    with pytest.raises(Cut):
        colour.call(flow.using(runtime=make_runtime()))
    path.write_text("2")
    with pytest.raises(sagadsl.ReplayError):
        colour.call(flow.using(runtime=make_runtime()))


# -- the archive ------------------------------------------------------------------------------------------------------


def test_a_failing_run_puts_its_files_away(colour, runtime, export, world, tmp_path):
    """In reverse; names that are taken get a number, so nothing is overwritten."""
    (tmp_path / "attic").mkdir()
    (tmp_path / "attic" / "a.txt").write_text("older")
    (tmp_path / "attic" / "a-2.txt").symlink_to(tmp_path / "nowhere")

    @colour.saga(runtime=runtime)
    def flow():
        yield export("a.txt")
        yield export("b.txt")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        colour.call(flow)
    attic = {path.name: path.read_text() for path in (tmp_path / "attic").iterdir() if path.exists()}
    assert attic == {"a.txt": "older", "a-3.txt": "content of a.txt", "b.txt": "content of b.txt"}
    assert not (tmp_path / "a.txt").exists()
    assert [step.compensation for step in runtime.runs()[0].steps] == ["sagadsl.archive"] * 2


def test_an_absolute_folder_is_that_folder_and_a_result_without_files_is_let_be(write, tmp_path):
    """A step that was cut off gives no result, so nothing is known of files."""
    put_away = archive(tmp_path / "deep" / "attic")
    put_away()
    put_away(None)
    put_away({"x": [1, "text"]})
    assert not (tmp_path / "deep").exists()
    put_away({"x": [Artifact(write("here/file"))]})
    assert (tmp_path / "deep" / "attic" / "file").read_text() == "content"
    kept = Artifact(tmp_path / "deep" / "attic" / "file")
    put_away(kept)
    assert kept.is_intact()  # it is there already


def test_an_archive_needs_a_folder_of_its_own():
    """Beside itself a file cannot be put away."""
    for folder in (".", "", "/"):
        with pytest.raises(UsageError, match="needs the name of a folder"):
            archive(folder)


@pytest.mark.parametrize(
    "result",
    [
        lambda path: path,
        lambda path: {"made": [("x", path)]},
        lambda path: Report("a", [str(path)]),
        lambda path: path.with_name("gone"),
        lambda path: [path, object()],
    ],
    ids=["a path", "inside", "a text", "of no file", "beside what cannot be stored"],
)
def test_a_result_that_names_files_without_an_artifact_is_not_said_to_be_put_away(
    colour, runtime, write, tmp_path, result
):
    """Nothing was moved, so the compensation fails, and says what to return; a person lets it be."""

    @colour.step(compensate=archive("attic"))
    def export() -> Any:
        return result(write("report"))

    @colour.saga(runtime=runtime, key="k", name="flow")
    def flow():
        yield export()
        raise ValueError("no")

    with pytest.raises(sagadsl.CompensationError, match=r"is none: have the step return Artifact\(path\)"):
        colour.call(flow)
    assert (tmp_path / "report").exists()
    run = runtime.find("flow/k")
    assert run.status == "compensation_failed"
    assert colour.run(run.compensate(skip="export", why="moved")).status == "compensated"


@pytest.mark.parametrize(
    "annotation", [Path, "Path", str, list[Path], dict[str, Path] | None, tuple[str, int]], ids=str
)
def test_an_archive_of_paths_alone_is_refused_where_it_is_written(annotation):
    """By its annotation no result of the step can hold an artifact."""

    def export():
        """Write a report."""

    export.__annotations__["return"] = annotation
    with pytest.raises(UsageError, match=r"export: archive\(\) moves each Artifact .* return Artifact\(path\)"):
        sagadsl.step(compensate=archive("attic"))(export)
    with pytest.raises(UsageError, match=r"export: .* write compensate=archive\('attic'\)"):
        sagadsl.step(compensate=archive)(export)


@pytest.mark.parametrize(
    "annotation", [None, Any, list, Artifact, list[Artifact | str], Report, "Unknown", int], ids=str
)
def test_an_archive_of_what_may_hold_artifacts_or_names_no_file_is_none_of_our_business(annotation):
    """It is for the result to show."""

    def export():
        """Write a report."""

    export.__annotations__["return"] = annotation
    assert sagadsl.step(compensate=archive("attic"))(export)


def test_a_file_that_is_no_longer_what_the_step_made_is_left(colour, runtime, export, write, tmp_path):
    """Somebody else's work is not put away; a person decides."""
    edits = ["edited by hand"]

    @colour.saga(runtime=runtime, key="k", name="flow")
    def flow():
        yield export("report")
        if edits:
            write("report", edits.pop())
        raise ValueError("no")

    with pytest.raises(sagadsl.CompensationError, match="is no longer the file that the step made"):
        colour.call(flow)
    assert (tmp_path / "report").read_text() == "edited by hand"
    write("report", "content of report")
    assert colour.run(runtime.find("flow/k").compensate()).status == "compensated"
    assert (tmp_path / "attic" / "report").read_text() == "content of report"


def test_the_files_of_a_result_that_cannot_be_stored_are_put_away(colour, runtime, write, tmp_path):
    """The step has had its effect."""

    @colour.step(compensate=archive("attic"))
    def leaks() -> Any:
        return [Artifact(write("leaked")), object()]

    @colour.saga(runtime=runtime)
    def flow():
        made = yield leaks()
        raise AssertionError(made)

    with pytest.raises(sagadsl.NotStorableError):
        colour.call(flow)
    assert (tmp_path / "attic" / "leaked").exists()


def test_what_was_put_away_already_is_let_be(write, tmp_path, caplog):
    """Under its own name or a numbered one; and a link without its old name removed is finished."""
    write("attic/file", "older")
    artifact = Artifact(write("file"))
    put_away = archive("attic")
    put_away(artifact)
    put_away(artifact)
    assert caplog.text == ""
    (tmp_path / "attic" / "file-2").rename(tmp_path / "file")
    os.link(tmp_path / "file", tmp_path / "attic" / "file-2")
    put_away(artifact)
    assert {path.name: path.read_text() for path in (tmp_path / "attic").iterdir()} == {
        "file": "older",
        "file-2": "content",
    }
    assert not (tmp_path / "file").exists()


def crossing(monkeypatch):
    """Make every link fail as it does between two file systems."""

    def link(*_: Any, **__: Any) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", link)


def test_across_file_systems_a_copy_takes_the_place_of_the_link(write, tmp_path, monkeypatch):
    """Complete under its name, and nothing overwritten."""
    crossing(monkeypatch)
    write("attic/file", "older")
    archive("attic")(Artifact(write("file", "newer")))
    attic = {path.name: path.read_text() for path in (tmp_path / "attic").iterdir()}
    assert attic == {"file": "older", "file-2": "newer"}
    assert not (tmp_path / "file").exists()


def test_a_copy_that_fails_leaves_the_file_where_it_is(write, tmp_path, monkeypatch):
    """A full disk costs nothing but the compensation."""
    crossing(monkeypatch)

    def full(source: Any, target: Any) -> None:
        Path(target).write_text("half")
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr("shutil.copy2", full)
    artifact = Artifact(write("file"))
    with pytest.raises(OSError, match="no space left"):
        archive("attic")(artifact)
    assert artifact.is_intact()
    assert list((tmp_path / "attic").iterdir()) == []


def test_a_link_in_the_archive_that_leads_to_the_file_itself_is_no_copy_of_it(write, tmp_path):
    """The file must not be lost for it."""
    artifact = Artifact(write("file"))
    (tmp_path / "attic").mkdir()
    (tmp_path / "attic" / "file").symlink_to(artifact.path)
    archive("attic")(artifact)
    assert (tmp_path / "attic" / "file-2").read_text() == "content"


# -- real kills -------------------------------------------------------------------------------------------------------

SCRIPT = """
import os, signal, sys
from pathlib import Path
import sagadsl
from sagadsl import Artifact, archive, saga, step

moment, real = os.environ.get("DIE"), Path.unlink

def unlink(path, missing_ok=False):
    if moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    real(path, missing_ok=missing_ok)
    if moment == "after":
        os.kill(os.getpid(), signal.SIGKILL)

Path.unlink = unlink
if os.environ.get("CROSSING"):
    def link(*args, **options):
        raise OSError("another file system")
    os.link = link

@step(compensate=archive("attic"))
def export(name):
    Path(name).write_text(f"content of {name}")
    return {"file": Artifact(name)}

@saga(key="k", name="flow")
def flow():
    export("a.csv")
    export("b.csv")
    raise ValueError("no")

if __name__ == "__main__":
    sagadsl.main(flow)
"""


def run_script(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a person would, in its folder."""
    (folder / "flows.py").write_text(SCRIPT)
    variables = os.environ | {"PYTHONPATH": str(Path(sagadsl.__file__).parents[1])} | environment
    command = command or ("flows.py",)
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("crossing", [False, True])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_killed_between_move_and_record_moves_nothing_twice(tmp_path, moment, crossing):
    """Whatever the moment, each file ends up in the archive and nowhere else, and the run is compensated."""
    variables = {"CROSSING": "1"} if crossing else {}
    for _ in range(3 if moment == "before" else 2):  # "after": each of two files once
        assert run_script(tmp_path, DIE=moment, **variables).returncode == -signal.SIGKILL
    again = run_script(tmp_path, **variables)
    assert again.returncode == 3, again.stderr
    assert sorted(path.name for path in tmp_path.glob("*.csv")) == []
    attic = {path.name: path.read_text() for path in (tmp_path / "attic").iterdir()}
    copies = {name: text for name, text in attic.items() if name not in {"a.csv", "b.csv"}}
    assert {"a.csv": "content of a.csv", "b.csv": "content of b.csv"}.items() <= attic.items()
    if not crossing:
        assert copies == {}
    else:  # a copy that was made before the kill may stand beside the one that counts
        assert set(copies.values()) <= {"content of b.csv"}
    assert "is not there any more" not in again.stderr


def test_the_archive_is_found_by_name_where_the_body_cannot_be_run(tmp_path):
    """A fresh process that has the steps and not the saga puts the files away."""
    assert run_script(tmp_path, DIE="before").returncode == -signal.SIGKILL
    program = "import sagadsl, flows; del flows.flow; import gc; gc.collect(); "
    program += "print(sagadsl.runs(saga='flow')[0].compensate().status)"
    done = run_script(tmp_path, "-c", program)
    assert done.stdout == "compensated\n", done.stderr
    assert sorted(path.name for path in (tmp_path / "attic").iterdir()) == ["a.csv", "b.csv"]
