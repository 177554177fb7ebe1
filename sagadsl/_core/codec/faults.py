"""Exceptions as data and back: made again without ``__init__``, from classes the program has imported.

What a step raises inside a saga is the exception that would come back after a restart, so the same ``except`` clauses
see the same thing both times. The codec therefore rebuilds at once what is taken apart here: a class that refuses is
marked, and `StepError` stands for it, live and on replay.

An exception is the user's, and so is what it holds: a row of a database that is closed by now raises whatever it is
asked. That must not hide the failure, so each part is asked by itself, and what raises is a part that is missing.
"""

from __future__ import annotations

import contextlib
import traceback as tracebacks
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import attrs

from sagadsl._core.codec.classes import class_name, slot_names
from sagadsl._core.codec.vocabulary import Unstorable, dump_text, for_people
from sagadsl._core.phrases import SPEECHLESS, text_of
from sagadsl.errors import Fault

LONGEST_TEXT = 16_000
DEEPEST_CAUSE = 5
NOT_RECORDED = "not recorded: "
OURS = tuple(str(Path(__file__).parents[2] / part) for part in ("_core", "_dsl", "llm"))

NATIVE: dict[type[BaseException], tuple[str, ...]] = {
    OSError: ("errno", "strerror", "filename", "filename2"),
    ImportError: ("name", "path"),
    NameError: ("name",),
    AttributeError: ("name",),
}
"""Attributes that Python keeps outside an exception's ``__dict__`` and that its ``args`` do not tell."""

INBORN: Any = vars(BaseException)
"""How Python itself reads and sets what each exception has, past a property that its class has of that name."""

E = TypeVar("E", bound=BaseException)

Keep = Callable[[Any], Any]
"""Return a value as it is stored, or raise `Unstorable`."""


def fields_of(error: BaseException, keep: Keep, *, depth: int = 0) -> dict[str, Any]:
    """Take an exception apart: the fields of its `Fault`, as they are stored."""
    args, attributes, missing = [], {}, []
    for at, value in enumerate(INBORN["args"].__get__(error)):
        try:
            args.append(keep(value))
        except Unstorable:
            args.append(dump_text(_shown(value)))
            missing.append(f"args[{at}]")
    for name, value in _attributes(error).items():
        try:
            attributes[name] = keep(value)
        except Unstorable:
            missing.append(f"{name} ({type(value).__name__})")
    cause = INBORN["__cause__"].__get__(error) if depth < DEEPEST_CAUSE else None
    fields = told_of(error) | {
        "args": args,
        "attributes": attributes,
        "missing": missing,
        "cause": fields_of(cause, keep, depth=depth + 1) if cause is not None else None,
    }
    return {name: value for name, value in fields.items() if value or name in {"type", "message"}}


def told_of(error: BaseException) -> dict[str, Any]:
    """Return the fields of an exception's `Fault` that are for people."""
    text = text_of(error)
    return {
        "type": class_name(type(error)),
        "message": for_people(text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"),
        "traceback": for_people(_traceback(error)),
    }


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
            INBORN["args"].__set__(error, fault.args)
        for name, value in fault.attributes.items():  # past a ``__setattr__`` that freezes
            object.__setattr__(error, name, list(value) if name == "__notes__" else value)
        if text_of(error) == SPEECHLESS != fault.message:
            return None  # it cannot be shown without what was not recorded
    except Exception:  # noqa: BLE001  # whatever a foreign class does when it is made, the answer is: it refuses
        return None
    return error if type(error) is cls else None


def add_note(error: BaseException, note: str) -> None:
    """Leave a note on an exception, past a ``__setattr__`` that freezes."""
    INBORN["__dict__"].__get__(error)["__notes__"] = [*notes_of(error), note]


def notes_of(error: BaseException) -> list[Any]:
    """Return the notes on an exception; none where a program has put anything else in their place."""
    notes = INBORN["__dict__"].__get__(error).get("__notes__")
    return list(notes) if isinstance(notes, list | tuple) else []


class Remark(str):
    """A note of this library on an exception that has left a saga: it is about that one object.

    A copy in another process, or in a journal, has the text alone.
    """

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)


def carried_by(error: BaseException) -> dict[str, Any]:
    """Return what an exception carries at this moment: its attributes, its cause, and the program's notes in a list."""
    inborn = {name: INBORN[name].__get__(error) for name in ("args", "__cause__")}
    notes = [note for note in notes_of(error) if not isinstance(note, Remark)]
    return _attributes(error) | inborn | {"__notes__": notes}


def carry_over(error: BaseException, before: dict[str, Any], to: BaseException) -> None:
    """Give *to* what *error* was given since it carried what it did *before*; twice is once."""
    now = carried_by(error)
    for note in now.pop("__notes__")[len(before["__notes__"]) :]:
        if not any(note is each for each in notes_of(to)):
            add_note(to, note)
    for name, value in now.items():
        if name not in before or before[name] is not value:
            with contextlib.suppress(Exception):  # what another class stands for may have no place for it
                object.__setattr__(to, name, value)  # past a ``__setattr__`` that freezes


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
    return [note for note in notes_of(error) if isinstance(note, str) and note.startswith(NOT_RECORDED)]


def _attributes(error: BaseException) -> dict[str, Any]:
    cls = type(error)
    fields = [a.name for a in attrs.fields(cls)] if attrs.has(cls) else []
    native = [name for kind, names in NATIVE.items() if issubclass(cls, kind) for name in names]
    found = {}
    for name in (*slot_names(cls), *fields, *native):
        with contextlib.suppress(Exception):  # an empty slot, or a property that raises
            value = getattr(error, name)
            if value is not None or name not in native:
                found[name] = value
    found |= INBORN["__dict__"].__get__(error)
    if "__notes__" in found:  # a note can be more than text in its own process
        found["__notes__"] = [str(note) if isinstance(note, str) else note for note in notes_of(error)]
    return {name: value for name, value in found.items() if isinstance(name, str) and name.isidentifier()}


def _shown(value: object) -> str:
    try:
        return repr(value)[:200]
    except Exception:  # noqa: BLE001  # as of an exception's text
        return f"<{type(value).__name__}: its __repr__ failed>"


def user_frames(error: BaseException) -> TracebackType | None:
    """Return the traceback of *error* without the frames of this library."""
    frames: TracebackType | None = INBORN["__traceback__"].__get__(error)
    found: list[TracebackType] = []
    while frames is not None:
        if not frames.tb_frame.f_code.co_filename.startswith(OURS):
            found.append(frames)
        frames = frames.tb_next
    cleaned = None
    for each in reversed(found):
        cleaned = TracebackType(cleaned, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return cleaned


def trimmed(error: E, raised: BaseException) -> E:
    """Return *error* with the traceback of what was *raised*, without the frames of this library."""
    return BaseException.with_traceback(error, user_frames(raised))


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
