"""What the runners share that fork a child for each case: imports that no child pays for, a new journal, the fork."""

import importlib
import os
import pkgutil
import sys
import tempfile
import traceback
from pathlib import Path

import sqlite_utils  # noqa: F401  # a new journal needs it, and it takes a quarter of a second

import sagadsl._core
import sagadsl._dsl
from sagadsl._core.journal.sqlite import SqliteJournal

for house in (sagadsl._core, sagadsl._dsl):  # some rooms are imported when they are needed, in each child again
    for room in pkgutil.walk_packages(house.__path__, f"{house.__name__}."):
        importlib.import_module(room.name)


def forked(folder, play, *told):
    """Start to play in a child process, which says what it says in the folder's `out`; return its id.

    It exits with what *play* returns, or else 0, or 1 if an exception comes out.
    """
    child = os.fork()
    if child:
        return child
    try:
        out = os.open(folder / "out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        code = play(*told) or 0
    except BaseException:  # whatever it is, the folder's `out` tells
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def waited(child):
    """Return how a child process ended, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def new_journal(path):
    """Make a journal."""
    journal = SqliteJournal(path)
    journal._first_execute("select 1")
    journal.close()


def empty():
    """Return the bytes of a journal that no run is in yet; a process of its own makes it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assert waited(forked(folder, new_journal, folder / "sagas.db")) == 0, (folder / "out").read_text()
        return (folder / "sagas.db").read_bytes()


EMPTY = empty()
