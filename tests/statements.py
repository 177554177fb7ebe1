"""A connection that tells of each statement, whoever executes it; a log that tells of each sync."""

import sqlite3

from sagadsl._core.journal.syncing import LogFile


def connecting(before=lambda sql: None, after=lambda sql: None):
    """Return what opens a file as ``sqlite3.connect`` does, and tells *before* and *after* each statement."""

    class Cursor(sqlite3.Cursor):
        def execute(self, sql, *values):
            before(sql)
            done = super().execute(sql, *values)
            after(sql)
            return done

    class Connection(sqlite3.Connection):
        def cursor(self):
            return super().cursor(Cursor)

        def execute(self, sql, *values):
            return self.cursor().execute(sql, *values)

    def connect(*args, **options):
        return sqlite3.connect(*args, factory=Connection, **options)

    return connect


def log_file(told):
    """Return what syncs a log, and tells of it when it has."""

    class Telling(LogFile):
        def __init__(self, path):
            super().__init__(path)
            sync = self.sync
            self.sync = lambda: told(sync())

    return Telling
