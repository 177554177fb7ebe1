"""Remind those who owe: ``remind.py NAME...``. Stopped by SIGTERM or Ctrl-C it goes on when it is started again."""

import sys
from pathlib import Path

import sagadsl
from sagadsl import saga, step


def withdraw(name):
    """Take a reminder back."""
    Path("reminders", name).unlink(missing_ok=True)


@step(compensate=withdraw)
def remind(name: str) -> None:
    if not name.isalpha():
        raise ValueError(f"{name!r} is no name")
    Path("reminders").mkdir(exist_ok=True)
    Path("reminders", name).touch()


@saga
def reminders(names: list[str]) -> None:
    """Send all reminders."""
    for name in names:
        remind(name)


if __name__ == "__main__":
    sagadsl.main(reminders, sys.argv[1:])
