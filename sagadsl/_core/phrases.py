"""Phrases that errors, notes and faces share: what became of the steps of a run, and what to type for it.

What is typed in a shell is typed in Python where the program is typed in itself, at a prompt or in a notebook: no
command line has its functions.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SPEECHLESS = "<its __str__ failed>"


def text_of(error: BaseException) -> str:
    """Return what an exception says; one that cannot say it has been raised for a reason all the same."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # whatever it, or what it holds, does when it is looked at
        return SPEECHLESS


def what_became(
    compensated: Sequence[str],
    standing: Sequence[str] = (),
    skipped: Sequence[str] = (),
    pending: Sequence[str] = (),
    *,
    failed: str = "",
    why: object = "",
) -> str:
    """Return what became of the steps of a run that failed; the compensation of *failed* did so itself, and *why*."""
    parts = [f"the compensation of {failed} failed with {why}"] if failed else []
    fates = {"compensated": compensated, "still standing:": standing, "skipped:": skipped, "not yet tried:": pending}
    parts += [f"{fate} {', '.join(steps)}" for fate, steps in fates.items() if steps]
    return "; ".join(parts) or "nothing was owed"


def command(
    verb: str, run: str, store: str = "", *, options: str = "", in_session: bool | None = None, **asked: Any
) -> str:
    """Return what to type for a run.

    *store* is its journal, which is named where no command would look by itself; *options* are more of a shell's, and
    *asked* those that Python has by the same names. *in_session* says whether the functions of the run were typed in;
    by default, whether this program is.
    """
    if is_at_prompt() if in_session is None else in_session:
        runs = f"sagadsl.Runtime({store!r})" if db_option(store) else "sagadsl"
        given = ", ".join(f"{name}={value!r}" for name, value in asked.items())
        return f"{runs}.find({run!r})" + ("" if verb == "show" else f".{verb}({given})")
    after = f"{db_option(store)}{options}{''.join(shell_options(asked))}"
    words = f"{after} -- {quoted(run)}" if run.startswith("-") else f" {quoted(run)}{after}"
    return f"sagadsl {verb}{words}"


def shell_options(asked: Mapping[str, Any]) -> Iterator[str]:
    """Yield options as a shell takes them: what is true is a flag, and a list comes once for each of it."""
    for name, value in asked.items():
        for each in value if isinstance(value, list) else [value]:
            yield f" --{name.replace('_', '-')}" + ("" if each is True else f" {quoted(each)}")


def db_option(store: str) -> str:
    """Return the option that has a command look into the journal *store*: none where it would look by itself."""
    looked_in = str(Path(os.environ.get("SAGADSL_DB") or "sagadsl.db").absolute())
    return f" --db {quoted(store)}" if Path(store).is_absolute() and store != looked_in else ""


def quoted(word: str) -> str:
    """Return a word as a shell takes it."""
    from shlex import quote  # when something is said to people

    return quote(word)


def to_run_again() -> str:
    """Return what to do again, in words, so that a run goes on whose body stands in the program."""
    return "run it again" if is_at_prompt() else "run the program again"


def is_at_prompt() -> bool:
    """Tell whether the program is typed in: at a prompt of Python's or IPython's, in a notebook."""
    return hasattr(sys, "ps1")
