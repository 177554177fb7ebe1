"""Python programs in processes of their own that are forked from one which has imported all that they import.

A process that is started anew takes a third of a second to come as far. What is forked is a process like any other:
it has its own standard streams and folder, ends with its own code, and can be killed. How Python starts is not seen
there: `subprocess` stays for that, for signals and for terminals.
"""

import gc
import importlib
import json
import os
import pkgutil
import runpy
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Commands:
    """Runs Python with given arguments, as `subprocess.run` does; *env* is the environment of all of them."""

    def __init__(self, env):
        self.door, theirs = socket.socketpair()
        command = [sys.executable, __file__, str(theirs.fileno())]
        env = env | {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}  # as the children have
        self.process = subprocess.Popen(command, env=env, pass_fds=[theirs.fileno()], **pipes)
        theirs.close()

    def run(self, folder, *arguments):
        """Run a script, or a module (``-m``), to its end in a folder, with nothing on its stdin."""
        (out, out_end), (err, err_end), nothing = os.pipe(), os.pipe(), os.open(os.devnull, os.O_RDONLY)
        told = json.dumps([str(folder), *arguments]).encode()
        socket.send_fds(self.door, [told], [nothing, out_end, err_end])
        for file in (nothing, out_end, err_end):
            os.close(file)
        with ThreadPoolExecutor(2) as readers:
            shown = list(readers.map(read, (out, err)))
        code = int(self.door.recv(100))
        return subprocess.CompletedProcess([sys.executable, *arguments], code, *shown)

    def close(self):
        self.door.close()
        self.process.communicate()


def read(pipe):
    """Return all that comes out of a pipe."""
    with os.fdopen(pipe, encoding="utf-8") as file:
        return file.read()


def import_all():
    """Import the rooms that the command line and a program meet, and what makes a journal."""
    sys.modules["pandas"] = None  # which sqlite_utils would import, and then need not: it does without
    importlib.import_module("sqlite_utils")
    del sys.modules["pandas"]
    for name in ("sagadsl._core", "sagadsl._dsl", "sagadsl.report", "sagadsl.cli"):
        for room in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}."):
            importlib.import_module(room.name)
    gc.collect()
    gc.freeze()  # no child looks through what it was given


def serve(door):
    """Fork for each command and say how the child ended; return in the child, whose standard streams are its own."""
    while True:
        told, files, *_ = socket.recv_fds(door, 2**16, 3)
        if not told:
            os._exit(0)
        child = os.fork()
        if not child:
            break
        for file in files:
            os.close(file)
        door.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
    door.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    return json.loads(told)


if __name__ == "__main__":
    import_all()
    folder, what, *given = serve(socket.socket(fileno=int(sys.argv[1])))
    os.chdir(folder)
    if what == "-m":
        sys.path[0] = folder
        sys.argv = given
        runpy.run_module(given[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(what).resolve().parent)
        sys.argv = [what, *given]
        runpy.run_path(what, run_name="__main__")
