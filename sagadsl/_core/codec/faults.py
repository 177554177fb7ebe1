"""Exceptions as data and back: made again without ``__init__``, from classes the program has imported.

What a step raises inside a saga is the exception that would come back after a restart, so the same ``except`` clauses
see the same thing both times. `fault_of` therefore rebuilds at once what it takes apart: a class that refuses is marked,
and `StepError` stands for it, live and on replay.
"""

from __future__ import annotations

import contextlib
import traceback as tracebacks
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import attrs

from sagadsl._core.codec.classes import class_name, find_class
from sagadsl.errors import Fault

LONGEST_TRACEBACK = 16_000
DEEPEST_CAUSE = 5
OURS = tuple(str(Path(__file__).parents[2] / part) for part in ("_core", "_dsl"))

Storable = Callable[[Any], bool]


def fault_of(error: BaseException, storable: Storable, *, depth: int = 0) -> Fault:
    """Take an exception apart; *storable* tells which of its values the codec can keep."""
    args, lost = [], []
    for at, value in enumerate(error.args):
        kept = storable(value)
        args.append(value if kept else repr(value)[:200])
        if not kept:
            lost.append(f"args[{at}]")
    attributes = {}
    for name, value in _attributes(error).items():
        if storable(value):
            attributes[name] = value
        else:
            lost.append(f"{name} ({type(value).__name__})")
    cause = error.__cause__
    fault = Fault(
        type=class_name(type(error)),
        message=_text(error),
        traceback=_traceback(error),
        args=tuple(args),
        attributes=attributes,
        missing=tuple(lost),
        cause=fault_of(cause, storable, depth=depth + 1) if cause is not None and depth < DEEPEST_CAUSE else None,
    )
    rebuilt = rebuild(fault, type(error))
    return fault if type(rebuilt) is type(error) else attrs.evolve(fault, refused=True)


def rebuild(fault: Fault, cls: type | None = None) -> BaseException | None:
    """Make the exception of a fault again, or return `None` where its class is gone or refuses."""
    cls = cls or find_class(fault.type)
    if fault.refused or cls is None or not issubclass(cls, BaseException):
        return None
    try:
        error = cls.__new__(cls, *fault.args)
        builtin = next(base for base in cls.__mro__ if base.__module__ == "builtins")
        with contextlib.suppress(Exception):  # fills the C fields of OSError, UnicodeError and their like
            builtin.__init__(error, *fault.args)
        if not isinstance(error, BaseExceptionGroup):
            error.args = fault.args
        for name, value in fault.attributes.items():
            object.__setattr__(error, name, value)
        str(error)
    except Exception:  # noqa: BLE001  # whatever a foreign class does when it is made, the answer is: it refuses
        return None
    if fault.missing:
        error.add_note(f"not recorded: {', '.join(fault.missing)}")
    if fault.cause is not None:
        error.__cause__ = rebuild(fault.cause)
    return error


def _attributes(error: BaseException) -> dict[str, Any]:
    attributes = dict(vars(error))
    if isinstance(error, OSError):
        attributes |= {n: getattr(error, n) for n in ("filename", "filename2") if getattr(error, n) is not None}
    if attrs.has(type(error)):
        attributes |= {a.name: getattr(error, a.name) for a in attrs.fields(type(error)) if hasattr(error, a.name)}
    return attributes


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # a broken __str__ must not hide the failure
        return "<its __str__ failed>"


def user_frames(error: BaseException) -> TracebackType | None:
    """Return the traceback of *error* without the frames of this library."""
    frames, found = error.__traceback__, []
    while frames is not None:
        if not frames.tb_frame.f_code.co_filename.startswith(OURS):
            found.append(frames)
        frames = frames.tb_next
    cleaned = None
    for each in reversed(found):
        cleaned = TracebackType(cleaned, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return cleaned


def _traceback(error: BaseException) -> str:
    lines = tracebacks.format_exception(type(error), error, user_frames(error), limit=-20, chain=False)
    return "".join(lines)[-LONGEST_TRACEBACK:]
