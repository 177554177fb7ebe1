"""Another user of this machine, who may do what a file's mode says and no more."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

NOBODY = 65534


@contextlib.contextmanager
def another():
    """Be a user to whom modes apply: nobody instead of root; whoever is not root is one already."""
    before = os.geteuid()
    os.seteuid(NOBODY if before == 0 else before)
    try:
        yield
    finally:
        os.seteuid(before)


@contextlib.contextmanager
def folder():
    """Give a folder that others can reach, which pytest's are not."""
    made = Path(tempfile.mkdtemp(prefix="sagadsl-"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        made.chmod(0o755)
        shutil.rmtree(made)
