"""A disk that remembers everything and can fail: an APSW VFS below the journal's own statements.

`Disk.connect` stands where the journal has ``sqlite3.connect``, `Disk.log_file` where it has what syncs its log. What
the library executes is executed by APSW's SQLite, through a VFS that notes each write, truncation, sync and deletion,
and that fails the one that it is told to. `Model` turns what was noted into the files that a machine could have after a
loss of power at any moment.

APSW brings a SQLite of its own. Two of them must never have one file open in one process, so a crash image is written
to another folder before the library opens it in the usual way.
"""

import errno
import itertools
import sqlite3
from pathlib import Path

import apsw

SECTOR = 512
TRACKED = apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
FAULTS = {
    "IOERR": (apsw.IOError, sqlite3.SQLITE_IOERR, "disk I/O error"),
    "FULL": (apsw.FullError, sqlite3.SQLITE_FULL, "database or disk is full"),
}
CLASSES = {sqlite3.SQLITE_CONSTRAINT: sqlite3.IntegrityError, sqlite3.SQLITE_CORRUPT: sqlite3.DatabaseError,
           sqlite3.SQLITE_NOTADB: sqlite3.DatabaseError}  # fmt: skip
numbers = itertools.count()


class Disk(apsw.VFS):
    """The disk. *operations* is what was noted; *answers* replaces statements, which makes a mutant.

    *turn* is called after each operation: a slow disk may let others in.
    """

    def __init__(self, answers=None):
        self.name = f"disk-{next(numbers)}"
        self.operations, self.answers = [], answers or {}
        self.files = []  # that are open
        self.autocheckpoint, self.turn = None, lambda: None
        self.calls = {"write": 0, "sync": 0, "read": 0}
        self.mend()
        super().__init__(self.name, "")

    def mark(self, *what):
        """Note what happened outside the file, in its place among the writes."""
        self.operations.append(("mark", *what))

    def fail(self, operation, number, fault, *, lasting):
        """Have the *number*-th read, write or sync from now on fail, and if *lasting* each one after it."""
        self.calls = dict.fromkeys(self.calls, 0)
        self.fault = (operation, number, fault, lasting)
        self.reached = 0

    def mend(self):
        """Be a good disk again."""
        self.fault, self.reached = (None, 0, None, False), 0

    def count(self, operation):
        self.calls[operation] += 1
        wanted, number, fault, lasting = self.fault
        at = self.calls[operation]
        if operation == wanted and (at == number or (lasting and at > number)):
            self.reached += 1
            kind, code, text = FAULTS[fault]
            error = kind(text)
            error.result = error.extendedresult = code
            raise error

    def syncs(self, since=0):
        """Return how many syncs were noted after the first *since* operations."""
        return sum(operation[0] == "sync" for operation in self.operations[since:])

    def connect(self, address, **_):
        """Open a file as ``sqlite3.connect`` does."""
        connection = Connection(address, self)
        if self.autocheckpoint is not None:
            connection.execute(f"pragma wal_autocheckpoint = {self.autocheckpoint}")
        return connection

    def log_file(self, path):
        """Return what syncs the log of a file."""
        return Log(self, Path(f"{path}-wal").name)

    def xOpen(self, name, flags):  # noqa: N802  # SQLite's name
        return File(self, name, flags)

    def xDelete(self, name, syncdir):  # noqa: N802
        super().xDelete(name, syncdir)
        self.operations.append(("delete", Path(name).name, bool(syncdir)))


class File(apsw.VFSFile):
    """An open file of a disk."""

    def __init__(self, disk, name, flags):
        self.disk = disk
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self.is_tracked = bool(flags[0] & TRACKED)
        self.file = Path(path).name if path else ""
        super().__init__("", name, flags)
        if self.is_tracked:
            disk.operations.append(("open", self.file))
            disk.files.append(self)

    def xClose(self):  # noqa: N802
        super().xClose()
        if self.is_tracked:
            self.disk.files.remove(self)

    def count(self, operation):
        if self.is_tracked:
            self.disk.count(operation)

    def note(self, *operation):
        if self.is_tracked:
            self.disk.operations.append(operation)
            self.disk.turn()

    def xRead(self, amount, offset):  # noqa: N802
        self.count("read")
        return super().xRead(amount, offset)

    def xWrite(self, data, offset):  # noqa: N802
        self.count("write")
        super().xWrite(data, offset)
        self.note("write", self.file, offset, bytes(data))

    def xTruncate(self, size):  # noqa: N802
        self.count("write")
        super().xTruncate(size)
        self.note("truncate", self.file, size)

    def xSync(self, flags):  # noqa: N802
        self.count("sync")
        super().xSync(flags)
        self.note("sync", self.file)


class Log:
    """A log, synced as the library syncs it: beside SQLite, whatever it is about."""

    def __init__(self, disk, name):
        self.disk, self.name = disk, name

    def sync(self):
        *_, file = (file for file in self.disk.files if file.file == self.name)
        try:
            file.xSync(apsw.SQLITE_SYNC_DATAONLY)
        except apsw.Error as error:
            code = errno.ENOSPC if isinstance(error, apsw.FullError) else errno.EIO
            raise OSError(code, str(error)) from error


# -- the ways of sqlite3 ----------------------------------------------------------------------------------------------


class Connection:
    """An APSW connection with the ways of a `sqlite3.Connection` without isolation level."""

    def __init__(self, uri, disk):
        self.answers = disk.answers
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
        with translated():
            self.connection = apsw.Connection(uri, flags=flags, vfs=disk.name)
        self.connection.set_busy_timeout(1000)

    def execute(self, sql, values=()):
        instead, answer = self.answers.get(sql, (sql, None))
        cursor = self.connection.cursor()
        done = Cursor()

        def described(cursor, _, __):
            done.description = [(*column, *[None] * 5)[:7] for column in cursor.get_description()] or None
            return True

        cursor.exec_trace = described
        with translated():
            done.rows = iter(list(cursor.execute(instead, values)))
        if answer is not None:
            done.rows = iter(answer)
        done.lastrowid, done.rowcount = self.connection.last_insert_rowid(), self.connection.changes()
        return done

    def cursor(self):
        return self  # whose statements are executed in the same way

    @property
    def in_transaction(self):
        return self.connection.in_transaction

    def rollback(self):
        if self.in_transaction:
            self.execute("rollback")

    def close(self):
        with translated():
            self.connection.close()


class Cursor:
    """What was found, all of it."""

    description = None

    def __iter__(self):
        return self.rows

    def fetchone(self):
        return next(self.rows, None)

    def fetchall(self):
        return list(self.rows)


class translated:  # noqa: N801  # a context manager
    """Raise the errors of APSW as those of sqlite3."""

    def __enter__(self):
        pass

    def __exit__(self, _, error, __):
        if isinstance(error, apsw.Error):
            code = getattr(error, "extendedresult", 0)
            told = CLASSES.get(code & 0xFF, sqlite3.OperationalError)(str(error))
            told.sqlite_errorcode = code
            raise told from error


# -- what is left -----------------------------------------------------------------------------------------------------


class Model:
    """The files of a disk, as far as they are on the disk: what was synced is, of the rest any part may be.

    A file that was made, or deleted, is so for certain once its folder is synced, which SQLite does with the first sync
    of a log that it made, and where it asks for it when it deletes.
    """

    def __init__(self):
        self.folder = {}  # name -> number of a file, as the program sees it
        self.durable = {}  # the same, as it is on the disk
        self.history = {}  # name -> what it has meant since the folder was synced
        self.synced = []  # number -> bytes on the disk
        self.pending = []  # number -> writes and truncations that are not
        self.fresh = set()

    def apply(self, operation):
        """Let one more operation happen."""
        kind, name, *told = operation
        if kind == "open":
            if name not in self.folder:
                self.link(name, len(self.synced))
                self.fresh.add(len(self.synced))
                self.synced.append(bytearray())
                self.pending.append([])
        elif kind in {"write", "truncate"}:
            self.pending[self.folder[name]].append((kind, *told))
        elif kind == "sync":
            number = self.folder[name]
            for each in self.pending[number]:
                change(self.synced[number], each)
            self.pending[number] = []
            if number in self.fresh and name.endswith(("-wal", "-journal")):
                self.sync_folder()
            self.fresh.discard(number)
        elif kind == "delete":
            self.link(name, None)
            if told[0]:
                self.sync_folder()

    def link(self, name, number):
        self.history.setdefault(name, [self.folder.get(name)]).append(number)
        self.folder[name] = number
        if number is None:
            del self.folder[name]

    def sync_folder(self):
        self.durable, self.history = dict(self.folder), {}

    def image(self, policy, rng):
        """Return the files as they may be found: name -> bytes.

        *all*: every write is there, as after SIGKILL. *synced*: nothing else is. *subset*: any of the rest is. *torn*:
        so, and of a write only some sectors.
        """
        folder = dict(self.folder if policy == "all" else self.durable)
        if policy in {"subset", "torn"}:
            folder |= {name: rng.choice(meanings) for name, meanings in self.history.items()}
        files = {}
        for name, number in folder.items():
            if number is None:
                continue
            content = bytearray(self.synced[number])
            for each in self.pending[number]:
                if policy == "all" or (policy != "synced" and rng.random() < 0.5):
                    for part in sectors(each, rng) if policy == "torn" else [each]:
                        change(content, part)
            files[name] = bytes(content)
        return files


def change(content, operation):
    """Have a write or a truncation done to the bytes of a file."""
    kind, at, *data = operation
    content.extend(bytes(max(0, at - len(content))))
    if kind == "write":
        content[at : at + len(data[0])] = data[0]
    else:
        del content[at:]


def sectors(operation, rng):
    """Return what a loss of power leaves of an operation: of a write that it tears, some sectors."""
    if operation[0] == "truncate" or rng.random() < 0.5:
        return [operation]
    _, at, data = operation
    bounds = [at, *range(at // SECTOR * SECTOR + SECTOR, at + len(data), SECTOR), at + len(data)]
    parts = [("write", start, data[start - at : end - at]) for start, end in itertools.pairwise(bounds)]
    return [part for part in parts if rng.random() < 0.5]


def written(image, folder):
    """Write an image into a new folder."""
    folder.mkdir()
    for name, content in image.items():
        (folder / name).write_bytes(content)
    return folder
