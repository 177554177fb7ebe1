"""What is in the file: tables, the public views, and how an older file becomes a newer one.

Three tables, of which only ``entries`` is written on the hot path: ``run`` (one row a run, which says in outline how it
has ended), ``entries`` (the journal itself, append-only, written by a run's owner alone) and ``letters`` (what others
tell a run). They are ours to change; the views ``runs``, ``steps``, ``compensations`` and ``timeline`` are the public,
versioned interface.

sqlite-utils applies the migrations and is imported only when a file is new or older than this version.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sqlite_utils.db import Database

APPLICATION_ID: Final = 0x5A6A0D51
VERSION: Final = 1

TABLES: Final = (
    """create table run (
        number integer primary key autoincrement,
        id text not null,
        generation integer not null,
        saga text not null,
        program text not null,
        arguments_digest text not null,
        started integer not null,
        finished integer,
        thefts integer not null default 0,
        untold integer,
        outline text,
        outline_digest blob,
        unique (id, generation)
    ) strict""",
    "create index run_unfinished on run (saga, arguments_digest) where finished is null",
    "create index run_untold on run (saga, arguments_digest) where untold is not null",
    """create table entries (
        number integer not null references run (number),
        seq integer not null,
        kind text not null,
        scope integer not null,
        step text not null,
        ref integer,
        attempt integer,
        at integer not null,
        name text,
        definition text,
        arguments text,
        result text,
        digest blob,
        primary key (number, seq)
    ) strict, without rowid""",
    """create table letters (
        letter integer primary key autoincrement,
        number integer not null references run (number),
        at integer not null,
        kind text not null,
        payload text,
        seq integer
    ) strict""",
    "create index letters_unread on letters (number) where seq is null",
)

_TIME = "strftime('%Y-%m-%dT%H:%M:%fZ', {} / 1000000.0, 'unixepoch')"
_SCOPE_KINDS = "('resumed', 'paused', 'completed', 'compensating', 'compensated', 'compensation_failed')"
_STEP_KINDS = "('intent', 'done', 'retrying', 'failed', 'uncertain', 'cancelled', 'not_landed')"

VIEWS: Final = {
    # A run, and each child saga inside one: its status is the last thing said of its scope.
    "runs": f"""
        with scopes as (
            select opened.*,
                (select e.seq from entries e where e.number = opened.number and e.scope = opened.seq
                    and e.kind in {_SCOPE_KINDS} order by e.seq desc limit 1) as last,
                (select e.seq from entries e where e.number = opened.number and e.scope = opened.seq
                    and e.kind in ('compensating', 'compensated', 'paused') and e.result is not null
                    order by e.seq desc limit 1) as why
            from entries opened
            where opened.kind = 'opened' and json_extract(opened.definition, '$.branch') is null)
        select run.id || case scopes.step when '' then '' else '/' || scopes.step end as id,
            scopes.name as saga,
            case coalesce(last.kind, 'resumed') when 'resumed' then 'open' else last.kind end as status,
            case when last.kind in ('completed', 'resumed') then null
                else json_extract(coalesce(why.result, last.result), '$.cause') end as cause,
            case when scopes.step = '' then null
                else run.id || coalesce((select '/' || p.step from entries p where p.number = scopes.number
                    and p.seq = scopes.scope and p.step <> ''), '') end as parent,
            run.generation,
            {_TIME.format("scopes.at")} as started,
            {_TIME.format("(select max(e.at) from entries e where e.number = scopes.number)")} as updated,
            case when last.kind in ('completed', 'compensated') then {_TIME.format("last.at")} end as ended,
            scopes.arguments,
            case last.kind when 'completed' then last.result end as result,
            case when last.kind in ('completed', 'resumed') then null else
                json_extract(why.result, '$.fault.type') || ': ' || json_extract(why.result, '$.fault.message')
                end as error,
            run.program,
            exists (select 1 from letters where letters.number = scopes.number and letters.kind = 'cancel'
                and letters.seq is null) as cancel_requested,
            run.untold is not null and scopes.step = '' as notify_owed
        from scopes join run using (number)
            left join entries last on last.number = scopes.number and last.seq = scopes.last
            left join entries why on why.number = scopes.number and why.seq = scopes.why""",  # noqa: S608  # nothing of it comes from outside
    # One row a call of a step, with what came of it, and in its status what became of it since; ordered by ``seq``.
    "steps": f"""
        select run.id as run, run.generation, begun.seq, begun.step, begun.name,
            case now.kind when 'intent' then 'entered' when 'compensation_done' then 'compensated'
                when 'compensation_error' then 'compensation_failed' when 'compensation_skipped' then 'skipped'
                when 'compensation_intent' then 'compensating' when 'compensation_retrying' then 'compensating'
                else now.kind end as status,
            calls.attempts, begun.arguments,
            case last.kind when 'done' then last.result end as result,
            case when last.kind in ('failed', 'uncertain', 'cancelled') then
                json_extract(last.result, '$.type') || ': ' || json_extract(last.result, '$.message') end as error,
            json_extract(begun.definition, '$.compensate') as compensation,
            {_TIME.format("begun.at")} as started,
            case last.kind when 'intent' then null else {_TIME.format("last.at")} end as ended
        from (select number, coalesce(ref, seq) as call, sum(kind = 'intent') as attempts,
                max(case when kind in {_STEP_KINDS} then seq end) as last, max(seq) as now
                from entries where kind in {_STEP_KINDS} or (kind glob 'compensation_*' and ref is not null)
                group by number, coalesce(ref, seq)) as calls
            join run using (number)
            join entries begun on begun.number = calls.number and begun.seq = calls.call
            join entries last on last.number = calls.number and last.seq = calls.last
            join entries now on now.number = calls.number and now.seq = calls.now""",  # noqa: S608  # nothing of it comes from outside
    # One row a step that was, or was to be, compensated.
    "compensations": f"""
        select run.id as run, run.generation, begun.step,
            json_extract(begun.definition, '$.compensate') as compensation,
            case last.kind when 'compensation_intent' then 'entered' when 'compensation_done' then 'done'
                when 'compensation_error' then 'failed' when 'compensation_skipped' then 'skipped'
                else 'retrying' end as status,
            calls.attempts,
            case last.kind when 'compensation_error' then
                json_extract(last.result, '$.type') || ': ' || json_extract(last.result, '$.message') end as error,
            case last.kind when 'compensation_skipped' then
                json_extract(last.result, '$.by') || ': ' || json_extract(last.result, '$.why') end as skipped,
            {_TIME.format("calls.started")} as started,
            case when last.kind in ('compensation_intent', 'compensation_retrying') then null
                else {_TIME.format("last.at")} end as ended
        from (select number, ref as call, max(seq) as last, min(at) as started,
                sum(kind = 'compensation_intent') as attempts
                from entries where kind glob 'compensation_*' and ref is not null group by number, ref) as calls
            join run using (number)
            join entries begun on begun.number = calls.number and begun.seq = calls.call
            join entries last on last.number = calls.number and last.seq = calls.last""",  # noqa: S608  # nothing of it comes from outside
    # Everything, in order.
    "timeline": f"""
        select run.id as run, run.generation, e.seq, {_TIME.format("e.at")} as at, e.step, e.kind as event, e.attempt,
            e.arguments, e.result
        from entries e join run using (number)""",  # noqa: S608  # nothing of it comes from outside
}


def _stored(statement: str) -> tuple[str, str]:
    """Return what a statement makes, and how SQLite keeps it: word for word, but for the first two words."""
    _, kind, name = statement.split(maxsplit=3)[:3]
    return name, f"CREATE {kind.upper()} {statement[len(f'create {kind} ') :]}"


EXPECTED: Final = dict(
    map(_stored, (*TABLES, *(f"create view {name} as {sql}" for name, sql in VIEWS.items()))),
)
"""What of a file of this version is ours, by name, as SQLite keeps it."""


def planted(connection: sqlite3.Connection) -> str | None:
    """Name what stands in our place, or on what is ours, and is not ours: SQLite would obey it.

    A trigger could change what is written, another table or view stand in for one of ours, an index refuse our rows.
    What others keep in the file beside ours is their own affair.
    """
    missing = dict(EXPECTED)
    guarded = {"index": {*EXPECTED}, "trigger": {*EXPECTED, "_sqlite_migrations"}}
    for kind, name, on, sql in connection.execute("select type, name, tbl_name, sql from sqlite_schema"):
        if name in EXPECTED:
            if sql != EXPECTED[name]:
                return f"{kind} {name}"
            del missing[name]
        elif sql is not None and on.lower() in guarded.get(kind, ()):
            return f"{kind} {name}"
    return f"no {next(iter(missing))}" if missing else None


def first(db: Database) -> None:
    """Make the file's first version."""
    for statement in TABLES:
        db.execute(statement)
    for name, sql in VIEWS.items():
        db.execute(f"create view {name} as {sql}")


MIGRATIONS: Final[tuple[Callable[[Database], None], ...]] = (first,)
"""One a version, in order; the name of each is its mark in the file."""


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a new or older file to this version, in one transaction."""
    try:
        from sqlite_utils import Database, Migrations  # a quarter of a second, and only for old or new files
    except RuntimeError:  # it imports pandas where that is installed, which fails once the main thread has ended
        if sys.modules.setdefault("pandas", None) is not None:  # type: ignore[arg-type]  # Python's word for: not to be had
            raise
        try:
            from sqlite_utils import Database, Migrations
        finally:
            sys.modules.pop("pandas", None)  # whoever asks for it by name is to have it, or to learn why not

    migrations = Migrations("sagadsl")
    for number, migration in enumerate(MIGRATIONS, 1):
        migrations(name=f"m{number:03}_{migration.__name__}")(migration)

    connection.execute("begin immediate")
    try:
        migrations.apply(Database(connection, execute_plugins=False))
        connection.execute(f"pragma application_id = {APPLICATION_ID}")
        connection.execute(f"pragma user_version = {VERSION}")
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise
