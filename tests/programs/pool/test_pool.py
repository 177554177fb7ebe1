"""A pool of workers on one store: each runs sagas of its own, and one that is killed takes nothing with it."""

import pytest

IMAGES = ["a", "b", "c", "d", "e", "f"]


@pytest.fixture
def pool(program):
    """Give the program with six images, and one that is none."""
    (program.folder / "images").mkdir()
    for name in [*IMAGES, "broken"]:
        (program.folder / "images" / name).write_text(name * 10)
    return program


@pytest.fixture(params=["fork", "spawn", "threads"])
def kind(request):
    """Give each kind of worker in turn."""
    return request.param


def test_workers_share_a_store_and_one_that_is_killed_goes_on(pool, kind):
    """A worker is killed between an effect and its record; the next pool makes all whole, but for what fails."""
    shown = pool.run("pool.py", kind, 2, *IMAGES, kill="shrink:done:2", ends=None if kind == "threads" else 1)
    assert kind == "threads" or "BrokenProcessPool" in shown
    assert len(pool.names("catalogue/*")) < len(IMAGES)

    shown = pool.run("pool.py", kind, 3, *IMAGES, "broken", ends=1)
    assert "resuming thumbnail/" in shown
    assert "broken broken is no image" in shown
    assert pool.names("thumbnails/*") == [f"thumbnails/{name}" for name in IMAGES]
    assert pool.names("catalogue/*") == [f"catalogue/{name}" for name in IMAGES]
    done = ["completed", "shrink done", "register done"]
    failed = ["compensated", "shrink done", "register failed", "-shrink"]
    assert sorted(pool.journal) == sorted([done] * len(IMAGES) + [failed])
