"""The table ``sagadsl_landed`` of the user's database, in SQL that SQLite and PostgreSQL share.

``{}`` stands for a value, in the spelling of each library. Rows whose runs have ended may be deleted.
"""

CREATE = (
    "create table if not exists sagadsl_landed (key text not null primary key, result text, "
    "at timestamptz not null default current_timestamp)"
)
CLAIM = "insert into sagadsl_landed (key) values ({}) on conflict (key) do nothing"
FIND = "select result || '' from sagadsl_landed where key = {}"
"""An expression has no declared type, so no converter of the user's is asked."""
TOUCH = "update sagadsl_landed set at = current_timestamp where key = {}"
SETTLE = "update sagadsl_landed set result = {}, at = current_timestamp where key = {}"
SETTLE_POSTGRESQL = f"{SETTLE} and xmin = cast(pg_current_xact_id() as xid)"
"""A row knows which transaction wrote it: not this one if the body has ended that in between."""


class Refused(Exception):  # noqa: N818  # it is never seen: a `UsageError` says which step
    """A connection cannot be used so; the text goes on from the connection's name."""
