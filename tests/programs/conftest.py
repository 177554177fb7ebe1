"""What the tests of programs share: a program in a folder of its own, started as its user starts it, and a knife."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KILLED = -9


class Program:
    """A copy of a program in a folder of its own, to be started there as often as one likes."""

    def __init__(self, name, folder):
        self.folder, self.store = folder, folder / "sagadsl.db"
        shutil.copytree(HERE / name, folder, ignore=shutil.ignore_patterns("test_*", "__pycache__"))

    def variables(self, kill=None, **others):
        """Return the environment: no settings of these tests, and the knife if it is wanted."""
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("SAGADSL", "PYTEST", "COV"))}
        mine["PYTHONPATH"] = os.pathsep.join([str(HERE / "knife"), str(ROOT)] if kill else [str(ROOT)])
        return mine | ({"KILL": kill} if kill else {}) | others

    def start(self, *command, kill=None, pass_fds=(), **variables):
        """Start a Python script or module (``-m``) with its arguments."""
        return subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=self.folder,
            env=self.variables(kill, **variables),
            pass_fds=pass_fds,
            start_new_session=True,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *command, kill=None, ends=None, **variables):
        """Run to the end, which is the knife's if there is one, and return all that was printed."""
        with self.start(*command, kill=kill, **variables) as process:
            out, err = process.communicate(timeout=60)
        expected = ends if ends is not None else KILLED if kill else 0
        assert process.returncode == expected, f"{command} ended with {process.returncode}, not {expected}\n{out}{err}"
        return out + err

    def sagadsl(self, *command, **options):
        """Run the command line of the library."""
        return self.run("-m", "sagadsl", *command, **options)

    def rows(self, database, query):
        """Ask a database of the world."""
        with closing(sqlite3.connect(self.folder / database)) as connection:
            return connection.execute(query).fetchall()

    def names(self, pattern):
        """Return the files that are there."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.glob(pattern))

    def text(self, name):
        """Read a file of the world."""
        return (self.folder / name).read_text()

    @property
    def journal(self):
        """Return for each run, the oldest first: its status, its steps with theirs, what was compensated (-step)."""
        told = []
        with closing(sqlite3.connect(self.store)) as connection:
            for *run, status in connection.execute("SELECT id, generation, status FROM runs").fetchall():
                steps = connection.execute(
                    "SELECT s.step, (SELECT event FROM timeline t WHERE (t.run, t.generation, t.step) ="
                    " (s.run, s.generation, s.step) AND event NOT LIKE 'compensation%' ORDER BY t.seq DESC LIMIT 1)"
                    " FROM steps s WHERE (run, generation) = (?, ?) ORDER BY seq",
                    run,
                )
                steps = [f"{step} {'entered' if event == 'intent' else event}" for step, event in steps]
                undone = connection.execute(
                    "SELECT '-' || step FROM timeline"
                    " WHERE (run, generation, event) = (?, ?, 'compensation_done') ORDER BY seq",
                    run,
                )
                told.append([status, *steps, *(step for (step,) in undone)])
        return told


@pytest.fixture
def program(request, tmp_path):
    """Give the program in whose folder the test is."""
    return Program(request.path.parent.name, tmp_path / "program")
