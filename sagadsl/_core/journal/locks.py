"""Who owns a run: one byte of a file beside the store, locked in the kernel, freed by the kernel when its owner dies.

The byte at the run's number of ``<store>-lock`` is locked with an open-file-description lock where the platform has
them. Such a lock belongs to the descriptor, so a second ``open`` in the process does not drop it; nor does it conflict
with itself, so a set of numbers tells the threads of this process apart. A forked child shares the descriptor: it
closes it and never unlocks, which would free the parent's runs. It is open while a run is held, and no longer.

A thread may come in here while it is in here: a signal handler asks whose a run is, and a handle that nobody has any
more is collected wherever Python collects. So the guards can be taken again, and what is done with the descriptor is
right at each point in between.

Without open-file-description locks (macOS before 15, Windows) a file of its own is locked for each run.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from pathlib import Path
from typing import Final

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows
    fcntl = None  # type: ignore[assignment]

OFD_SETLK: Final[int | None] = getattr(fcntl, "F_OFD_SETLK", None)
OFD_GETLK: Final[int | None] = getattr(fcntl, "F_OFD_GETLK", None)


class Locks:
    """The runs of one store that this process owns. One instance a store and process: see `locks_of`.

    The file *path* is made when something is first held, for those who may use the file *store*.
    """

    def __init__(self, path: Path, store: Path | None = None) -> None:
        self.path, self._store = path, store
        self._guard = threading.RLock()
        self._held: dict[int, tuple[int, object]] = {}
        self._descriptor = -1

    def hold(self, number: int, holder: object = None) -> bool:
        """Own a run, or learn that another thread or process does.

        It is noted before it is locked: where a Ctrl-C comes in between, `release` finds it.
        """
        with self._guard:
            if number in self._held:
                return False
            self._held[number] = -1, holder
            try:
                descriptor = self._lock(number)
            except OSError:
                del self._held[number]
                raise
            if descriptor is None:
                del self._held[number]
                return False
            self._held[number] = descriptor, holder
            return True

    def release(self, number: int, holder: object = None) -> None:
        """Stop owning a run; with a *holder*, only if it is held in that one's name."""
        with self._guard:
            descriptor, held_by = self._held.get(number, (-1, None))
            if number not in self._held or (holder is not None and held_by is not holder):
                return
            if OFD_SETLK is not None and self._descriptor >= 0:
                # before it is forgotten, so that a Ctrl-C in between leaves it to be done again
                fcntl.fcntl(self._descriptor, OFD_SETLK, _region(fcntl.F_UNLCK, number))
            self._held.pop(number, None)
            if OFD_SETLK is None:
                idle = descriptor
            else:  # a program may use many stores, one after the other
                idle, self._descriptor = (-1, self._descriptor) if self._held else (self._descriptor, -1)
            if idle >= 0:  # forgotten by now: a number closed twice is another file's
                os.close(idle)

    def is_held(self, number: int) -> bool:
        """Tell whether a living thread or process owns a run; never becomes its owner."""
        with self._guard:
            if number in self._held:
                return True
            if OFD_GETLK is not None:
                if not self.path.exists():
                    return False
                return self._is_locked(number, OFD_GETLK)
            descriptor = self._lock(number)
            if descriptor is None:
                return True
            os.close(descriptor)
            return False

    def _is_locked(self, number: int, ask: int) -> bool:
        descriptor = os.open(self.path, os.O_RDONLY)  # it may be all that is allowed
        try:
            answer = fcntl.fcntl(descriptor, ask, _region(fcntl.F_WRLCK, number))
        finally:
            os.close(descriptor)
        return int(struct.unpack_from("h", answer)[0]) != fcntl.F_UNLCK

    def _open(self) -> int:
        if self._descriptor < 0:
            opened = _opened(self.path, self._store)
            if self._descriptor < 0:
                self._descriptor = opened
            else:
                os.close(opened)
        return self._descriptor

    def _lock(self, number: int) -> int | None:
        """Lock a run and return the descriptor that carries the lock, or `None`: somebody else has it."""
        if OFD_SETLK is None:
            return _lock_file(Path(f"{self.path}.{number}"), self._store)
        descriptor = self._open()
        try:
            fcntl.fcntl(descriptor, OFD_SETLK, _region(fcntl.F_WRLCK, number))
        except (BlockingIOError, PermissionError):
            return None
        return descriptor

    def forget(self) -> None:
        """In a forked child: close what came from the parent, unlock nothing."""
        self._guard = threading.RLock()
        for descriptor in {self._descriptor, *(descriptor for descriptor, _ in self._held.values())} - {-1}:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._held, self._descriptor = {}, -1


def _region(kind: int, number: int) -> bytes:
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, number, 1, 0)


def _opened(path: Path, store: Path | None) -> int:
    """Open a file; a new one is for whoever may use the *store*, as SQLite's own files beside it are."""
    flags = os.O_RDWR | getattr(os, "O_CLOEXEC", 0)
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        try:
            made = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:  # another process was faster; or a link leads to where nothing is yet
            return os.open(path, flags | os.O_CREAT, 0o600)
    if fcntl is not None and store is not None:
        with contextlib.suppress(OSError):
            like = store.stat()
            os.fchmod(made, 0o600 | like.st_mode & 0o666)
            os.fchown(made, like.st_uid, like.st_gid)  # only root may give a file away
    return made


def _lock_file(path: Path, store: Path | None) -> int | None:
    """Lock a whole file, for platforms whose byte locks belong to the process."""
    descriptor = _opened(path, store)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:  # pragma: no cover  # Windows
            import msvcrt  # exists there alone

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


_all: dict[Path, Locks] = {}
_all_guard = threading.RLock()


def locks_of(store: Path) -> Locks:
    """Return this process's locks of a store: the same for every runtime that uses it."""
    with _all_guard:
        return _all.setdefault(store, Locks(Path(f"{store}-lock"), store))


def _after_fork() -> None:
    global _all_guard  # noqa: PLW0603  # the parent's may be held by a thread that the child does not have
    _all_guard = threading.RLock()
    for locks in _all.values():
        locks.forget()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
