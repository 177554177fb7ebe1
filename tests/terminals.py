"""A real pseudo-terminal to run programs in, and what a person would then see on its screen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import unicodedata
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATIENCE = 60
"""Seconds of silence after which a program is not waited for any longer."""
SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


def is_readable(descriptor: int, seconds: float) -> bool:
    """Wait until something is to be read, so many seconds at most; whatever number the descriptor has."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


class Terminal:
    """A program in a terminal of its own: *raw* is all that it wrote there, *status* how it ended."""

    def __init__(self, *command: str, columns: int = 80, cwd: Path, **variables: str) -> None:
        self.columns, self.raw = columns, ""
        self.status: int | None = None
        environment = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "SAGADSL_DB"}}
        environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm", "PYTHONUTF8": "1"} | variables
        self.process, self._master = pty.fork()
        if not self.process:
            with contextlib.suppress(BaseException):
                size = struct.pack("HHHH", 40, columns, 0, 0)
                fcntl.ioctl(0, termios.TIOCSWINSZ, size)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                os.chdir(cwd)
                os.execve(sys.executable, [sys.executable, *command], environment)  # noqa: S606  # as told
            os._exit(127)

    def read(self, until: Callable[[str], bool] = lambda _: False) -> str:
        """Read on until the program has ended, or what it wrote is what is waited for."""
        while self.status is None and not until(self.raw):
            self._read_some()
        return self.raw

    def interrupt(self) -> str:
        """Press Ctrl-C until it has ended: one just before the program waits for a key is seen only after that."""
        waited = 0
        while self.status is None:
            assert waited < PATIENCE, self.raw
            os.write(self._master, b"\x03")
            while self.status is None and is_readable(self._master, 2):
                self._read_some()
            waited += 2
        return self.raw

    def _read_some(self) -> None:
        assert is_readable(self._master, PATIENCE), self.raw
        try:
            some = os.read(self._master, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            some = b""
        self.raw += some.decode()
        if not some:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
            os.close(self._master)

    @property
    def screen(self) -> list[str]:
        """What stands on the screen, line by line, however long it is."""
        return screen(self.raw, self.columns)


class Screen:
    """A terminal for this process, of which nobody reads more than it holds: *stream* writes to it."""

    def __init__(self, columns: int = 80) -> None:
        self._master, slave = pty.openpty()
        self.stream = os.fdopen(slave, "w", encoding="utf-8", buffering=1)
        self.resize(columns)
        self._raw, self._marks = b"", 0

    def resize(self, columns: int) -> None:
        """Make it so many places wide."""
        self.columns = columns
        fcntl.ioctl(self.stream, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))

    def hang_up(self) -> None:
        """Let whoever sits there go away."""
        os.close(self._master)
        self._master = -1

    @property
    def raw(self) -> str:
        """All that was written to it."""
        mark = b"\x06%d\x06" % self._marks
        self._marks += 1
        self.stream.write(mark.decode())
        self.stream.flush()
        while mark not in self._raw:
            assert is_readable(self._master, 20), self._raw
            self._raw += os.read(self._master, 65536)
        self._raw = self._raw.replace(mark, b"")
        return self._raw.decode()

    @property
    def lines(self) -> list[str]:
        """What stands on the screen."""
        return screen(self.raw, self.columns)

    def close(self) -> None:
        """Have it no more."""
        if self._master >= 0:
            self.hang_up()
        with contextlib.suppress(OSError):
            self.stream.close()

    def __enter__(self) -> Screen:
        """Become stdout and stderr of this process."""
        self._streams = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = self.stream
        return self

    def __exit__(self, *_: object) -> None:
        sys.stdout, sys.stderr = self._streams


def screen(raw: str, columns: int) -> list[str]:
    """Return what a terminal shows after *raw*; a line that is too long wraps, a wide character takes two places."""
    rows: list[list[str]] = [[]]
    row = column = at = 0
    while at < len(raw):
        sequence = SEQUENCE.match(raw, at)
        if sequence is not None:
            assert sequence[2] in "Km", f"the cursor moves: {sequence[0]!r}"
            if sequence[2] == "K":
                del rows[row][column:]
            at = sequence.end()
            continue
        character = raw[at]
        at += 1
        if character == "\r":
            column = 0
        elif character == "\n":
            row += 1
            rows.append([])
        else:
            assert character.isprintable(), f"a control character: {character!r}"
            places = 2 if unicodedata.east_asian_width(character) in "WF" else 1
            if column + places > columns:
                row, column = row + 1, 0
                rows.append([])
            line = rows[row]
            line.extend(" " * (column + places - len(line)))
            line[column : column + places] = [character, *[""] * (places - 1)]
            column += places
    return ["".join(line).rstrip() for line in rows]
