"""A program that is typed in: a notebook, or a session at a prompt. It has no file, and its functions change.

Nobody runs such a program again: cells are run again, in the kernel that has the old functions or in a new one. So the
body of a typed-in function is recorded with what it did, as a digest, in order to tell later that it was written anew.
Functions of files have none: there the file says what they are.
"""

from __future__ import annotations

import ast
import inspect
import os
import sys
import textwrap
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

SESSION = "session in "
"""What stands, with the working directory, for the source file of what is typed in."""

_bodies: WeakKeyDictionary[FunctionType, str | None] = WeakKeyDictionary()


def is_typed_in(module: str | None) -> bool:
    """Tell whether what stands in a module was typed in: that is the main program, and it has no file."""
    return module == "__main__" and not hasattr(sys.modules.get(module), "__file__")


def program_at(path: str, module: str) -> str:
    """Return the source file at *path*; what is typed in has none (a debugger may write it one, for a while)."""
    file = None if is_typed_in(module) or path.startswith("<") else _kept_in(path, module)
    return os.path.abspath(file) if file else f"{SESSION}{os.getcwd()}"  # noqa: PTH100, PTH109


def _kept_in(path: str, module: str) -> str | None:
    """Return where the code of *path* is kept: there, or where it was packed, as an archive or byte code alone.

    That path may then be one of the machine that compiled it, and what unpacks itself does so elsewhere each time.
    """
    if os.path.exists(path):  # noqa: PTH110
        return path
    if getattr(sys, "frozen", False):  # by PyInstaller and its like
        return os.path.join(sys.executable, path)  # noqa: PTH118
    return getattr(sys.modules.get(module), "__file__", None)


def body_of(function: Any) -> str | None:
    """Return what the body of a typed-in function is known by, however it is laid out; `None` for others."""
    if not isinstance(function, FunctionType) or not is_typed_in(function.__module__):
        return None
    if function not in _bodies:
        _bodies[function] = _digest(function)
    return _bodies[function]


def _digest(function: FunctionType) -> str | None:
    try:
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, TypeError, ValueError, SyntaxError):  # a prompt that keeps no source, a lambda in the middle
        return None
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    from hashlib import sha256  # with OpenSSL behind it, a millisecond of every import

    node.decorator_list = []  # they say how it is called, not what it does
    return sha256(ast.unparse(node).encode("utf-8", "surrogatepass")).hexdigest()[:12]
