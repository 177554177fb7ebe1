"""What can be set, for the process, a saga or one call: the words that exist, and where runs are kept by default."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from sagadsl._core.definition import escaped
from sagadsl._core.state import INTENTS
from sagadsl._core.structs import Struct
from sagadsl._core.values import Kind
from sagadsl.errors import UsageError

SYNCED_AT_LEAST = frozenset({Kind.COMPLETED, Kind.COMPENSATED, Kind.COMPENSATION_FAILED, Kind.PAUSED})
DURABILITY: dict[str, frozenset[Kind]] = {
    "process": SYNCED_AT_LEAST,
    "power": SYNCED_AT_LEAST | INTENTS,
    "power-strict": frozenset(Kind),
}
"""Which entries wait for the disk, by level."""

CHOICES = {
    "durability": tuple(DURABILITY),
    "resume": ("arguments", "key", "never"),
    "on_failure": ("compensate", "pause"),
    "on_compensation_failure": ("stop", "continue"),
    "compensate_order": ("reverse", "parallel"),
    "progress": ("auto", "plain", "off"),
    "on_uncertain": ("retry", "compensate", "pause"),
}


def checked_choice(name: str, value: Any, *, is_last: bool = False) -> Any:
    """Return *value* if it is one that the setting *name* can have; `None` leaves it to who *is_last* to say.

    Raises:
        UsageError: It is not; the message lists those that are.
    """
    if value not in CHOICES[name] and (value is not None or is_last):
        msg = f"{name}={value!r}: choose one of {', '.join(repr(c) for c in CHOICES[name])}"
        raise UsageError(msg)
    return value


def checked_progress(value: Any) -> Any:
    """Return *value* if it is a way to show progress.

    Raises:
        UsageError: It is neither a word that is known nor a function.
    """
    return value if callable(value) else checked_choice("progress", value, is_last=True)


def checked_flag(name: str, value: Any) -> bool:
    """Return *value* if it is `True` or `False`: a text that says "no" would count as true.

    Raises:
        UsageError: It is something else.
    """
    if not isinstance(value, bool):
        msg = f"{name}={value!r}: say True or False"
        raise UsageError(msg)
    return value


def checked_size(name: str, value: Any) -> int | None:
    """Return *value* if it is a number of bytes, or `None`.

    Raises:
        UsageError: It is something else.
    """
    if value is not None and (type(value) is not int or value < 0):
        msg = f"{name}= takes a number of bytes, such as 100_000, not {value!r:.80}"
        raise UsageError(msg)
    return value


def checked_text(name: str, value: Any) -> str | None:
    """Return *value* if it is a text, or `None`.

    Raises:
        UsageError: It is something else.
    """
    if value is not None and not isinstance(value, str):
        msg = f"{name}= takes a text, not {value!r:.80}"
        raise UsageError(msg)
    return value


def checked_store(value: Any) -> Any:
    """Return *value* if runs can be kept there; `None` leaves it to somebody else to say where.

    Raises:
        UsageError: It is neither a path nor a journal.
    """
    is_journal = hasattr(value, "append") and hasattr(value, "entries")
    if value == "" or not (value is None or is_journal or isinstance(value, str | os.PathLike)):
        msg = f"store={value!r:.80}: give a path, ':memory:' or a journal"
        raise UsageError(msg)
    return value


def absolute_store(value: Any) -> Any:
    """Return *value* if runs can be kept there: a path as it leads from the working directory now.

    Raises:
        UsageError: It is neither a path nor a journal.
    """
    is_path = isinstance(checked_store(value), str | os.PathLike) and value != ":memory:"
    return Path(value).absolute() if is_path else value


class Options(Struct):
    """What ``using()`` settles for one call; `None` leaves it to the saga, then to the runtime."""

    id: str | None = None
    key: str | None = None
    store: Any = None
    resume: str | None = None
    durability: str | None = None
    on_failure: str | None = None
    steal: bool = False
    rerun: bool = False
    runtime: Any = None

    def run_of(self, saga: str) -> str | None:
        """Return the id of the run that is meant, of a saga with this name; `None`: they do not say."""
        if self.id is not None:
            return self.id
        return None if self.key is None else f"{saga}/{escaped(self.key)}"


NO_OPTIONS = Options()


def default_store() -> Path:
    """Return where runs are kept when nobody says: ``SAGADSL_DB``, beside the main script, or here.

    It may be relative, for the program may change its working directory: then its first use says from where it leads.
    """
    named = os.environ.get("SAGADSL_DB")
    if named:
        return Path(named)
    main = sys.modules.get("__main__")
    script = getattr(main, "__file__", None)
    is_script = script is not None and getattr(main, "__spec__", None) is None
    is_installed = is_script and Path(script or "").parent == Path(sys.executable).parent
    folder = Path(script or "").absolute().parent if is_script and not is_installed else Path()
    return folder / "sagadsl.db"
