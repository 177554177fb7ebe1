"""Exceptions as data and back: made again without ``__init__``, from classes the program has imported.

What a step raises inside a saga is the exception that would come back after a restart, so the same ``except`` clauses
see the same thing both times. The codec therefore rebuilds at once what is taken apart here: a class that refuses is
marked, and `StepError` stands for it, live and on replay.
"""

from __future__ import annotations

import contextlib
import traceback as tracebacks
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import attrs

from sagadsl._core.codec.classes import class_name, own_attributes
from sagadsl._core.codec.vocabulary import Unstorable, dump_text
from sagadsl.errors import Fault

LONGEST_TEXT = 16_000
DEEPEST_CAUSE = 5
NOT_RECORDED = "not recorded: "
SPEECHLESS = "<its __str__ failed>"
OURS = tuple(str(Path(__file__).parents[2] / part) for part in ("_core", "_dsl", "llm"))

NATIVE: dict[type[BaseException], tuple[str, ...]] = {
    OSError: ("errno", "strerror", "filename", "filename2"),
    ImportError: ("name", "path"),
    NameError: ("name",),
    AttributeError: ("name",),
}
"""Attributes that Python keeps outside an exception's ``__dict__`` and that its ``args`` do not tell."""

Keep = Callable[[Any], Any]
"""Return a value as it is stored, or raise `Unstorable`."""


def fields_of(error: BaseException, keep: Keep, *, depth: int = 0) -> dict[str, Any]:
    """Take an exception apart: the fields of its `Fault`, as they are stored."""
    args, attributes, missing = [], {}, []
    for at, value in enumerate(error.args):
        try:
            args.append(keep(value))
        except Unstorable:
            args.append(dump_text(repr(value)[:200]))
            missing.append(f"args[{at}]")
    for name, value in _attributes(error).items():
        try:
            attributes[name] = keep(value)
        except Unstorable:
            missing.append(f"{name} ({type(value).__name__})")
    cause = error.__cause__ if depth < DEEPEST_CAUSE else None
    fields = {
        "type": class_name(type(error)),
        "message": dump_text(_text(error)),
        "traceback": dump_text(_traceback(error)),
        "args": args,
        "attributes": attributes,
        "missing": missing,
        "cause": fields_of(cause, keep, depth=depth + 1) if cause is not None else None,
    }
    return {name: value for name, value in fields.items() if value or name in {"type", "message"}}


def rebuild(fault: Fault, cls: type) -> BaseException | None:
    """Make an exception of class *cls* from its fault, or return `None` where the class refuses."""
    if not issubclass(cls, BaseException):
        return None
    try:
        error = cls.__new__(cls, *fault.args)
        if not isinstance(error, OSError):
            builtin: Any = next(base for base in cls.__mro__ if base.__module__ == "builtins")
            with contextlib.suppress(Exception):  # fills the C fields of UnicodeError, SyntaxError and their like
                builtin.__init__(error, *fault.args)
        if not isinstance(error, BaseExceptionGroup):
            object.__setattr__(error, "args", fault.args)  # past a ``__setattr__`` that freezes
        for name, value in fault.attributes.items():
            object.__setattr__(error, name, list(value) if name == "__notes__" else value)
        if _text(error) == SPEECHLESS != fault.message:
            return None  # it cannot be shown without what was not recorded
    except Exception:  # noqa: BLE001  # whatever a foreign class does when it is made, the answer is: it refuses
        return None
    return error if type(error) is cls else None


def add_note(error: BaseException, note: str) -> None:
    """Leave a note on an exception, past a ``__setattr__`` that freezes."""
    notes = vars(error).get("__notes__", ())
    vars(error)["__notes__"] = [*notes, note]


def without(missing: Iterable[str]) -> str:
    """Return the note of an exception that was made again without these attributes."""
    return f"{NOT_RECORDED}{', '.join(missing)}"


def explain(error: AttributeError) -> None:
    """Say of an attribute that is absent, if that is so, that it could not be recorded of an exception."""
    with contextlib.suppress(Exception):  # whatever a foreign object does when it is looked at
        holder: Any = error.obj
        cls, absent = type(holder), f"{error.name} ("
        if issubclass(cls, BaseException) and any(absent in note for note in _notes_of_ours(holder)):
            add_note(
                error,
                f"{cls.__name__}.{error.name} could not be recorded, and what a step raises reaches a saga as after a "
                "restart. Look at it in the step, or keep what you need of it: "
                f"sagadsl.register({cls.__name__}, dump, load)",
            )


def _notes_of_ours(error: BaseException) -> list[str]:
    notes = vars(error).get("__notes__", ())
    notes = notes if isinstance(notes, list) else []  # whatever a program has put there
    return [note for note in notes if isinstance(note, str) and note.startswith(NOT_RECORDED)]


def _attributes(error: BaseException) -> dict[str, Any]:
    found = own_attributes(error)
    names = [name for native, known in NATIVE.items() if isinstance(error, native) for name in known]
    cls = type(error)
    if attrs.has(cls):
        names += [a.name for a in attrs.fields(cls)]
    found |= {name: value for name in names if (value := getattr(error, name, None)) is not None}
    notes = found.get("__notes__")
    if isinstance(notes, list):  # a note can be more than text in its own process
        found["__notes__"] = [str(note) if isinstance(note, str) else note for note in notes]
    return {name: value for name, value in found.items() if name.isidentifier()}


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  # a broken __str__ must not hide the failure
        return SPEECHLESS
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"


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


def first_frame(error: BaseException) -> TracebackType | None:
    """Return, of the traceback of *error*, the user's first frame alone: the body, where a step of it failed."""
    frames = user_frames(error)
    return None if frames is None else TracebackType(None, frames.tb_frame, frames.tb_lasti, frames.tb_lineno)


def _traceback(error: BaseException) -> str:
    try:
        lines = tracebacks.format_exception(type(error), error, user_frames(error), limit=-20, chain=False)
    except Exception:  # noqa: BLE001  # a SyntaxError with a strange offset; the traceback is for people only
        return ""
    return "".join(lines)[-LONGEST_TEXT:]
