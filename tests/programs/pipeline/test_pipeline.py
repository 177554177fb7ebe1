"""A pipeline over files that are too large for a journal: half-written ones are never taken for whole ones."""

import pytest

ROWS = 20_000


@pytest.fixture
def measured(program):
    """Give the program with two folders of measurements, the second with a row that cannot be."""
    numbers = [row * 7919 % ROWS for row in range(ROWS)]
    for name, rows in (("good", numbers), ("bad", [*numbers, -1])):
        (program.folder / name).mkdir()
        for part in range(4):
            text = "".join(f"{row}\n" for row in rows[part::4])
            (program.folder / name / f"{part}.txt").write_text(text)
    return program


def test_a_table_is_published_whole_wherever_it_is_killed(measured):
    """Each step is tried again from its beginning; the table is sorted and complete."""
    for point in ("join:done", "sort", "sort:done", "publish"):
        measured.run("pipeline.py", "good", kill=point)
    assert f"{ROWS} rows" in measured.run("pipeline.py", "good")
    assert measured.text("published/sorted.txt").split() == [str(row) for row in range(ROWS)]
    assert measured.journal == [["completed", "join done", "sort done", "check done", "publish done"]]
    assert measured.store.stat().st_size < 200_000


def test_a_table_that_is_wrong_is_not_published(measured):
    """What was made on the way is set aside, not deleted; the run was killed on its way, too."""
    for point in ("sort:done", "check:done"):
        measured.run("pipeline.py", "bad", kill=point)
    assert "has negative rows" in measured.run("pipeline.py", "bad", ends=1)
    assert measured.names("work/*.txt") == measured.names("published/*") == []
    assert measured.names("work/attic/*") == ["work/attic/sorted.txt", "work/attic/whole.txt"]
    assert measured.journal == [["compensated", "join done", "sort done", "check failed", "-sort", "-join"]]


def test_a_file_that_somebody_changed_is_not_taken_for_what_was_made(measured):
    """Nothing is entered until it is what it was; then the run goes on."""
    measured.run("pipeline.py", "good", kill="sort")
    whole = measured.folder / "work" / "whole.txt"
    made = whole.read_bytes()
    whole.write_bytes(made + b"-1\n")
    shown = measured.run("pipeline.py", "good", ends=1)
    assert "whole.txt, which join made, is no longer what it was" in shown
    assert measured.names("work/*") == ["work/whole.txt"]

    whole.write_bytes(made)
    assert f"{ROWS} rows" in measured.run("pipeline.py", "good")
    assert measured.journal == [["completed", "join done", "sort done", "check done", "publish done"]]
