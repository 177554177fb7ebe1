"""Figures over many runs, counted by SQL over the public views: whoever wants others can ask the same views.

A journal that is no file is copied into a database in memory first, so that there is one way to count.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import attrs

from sagadsl._core.figures import FaultStats, Stats, StepStats
from sagadsl._core.journal import Journal
from sagadsl._core.journal.sqlite import INSERT, SqliteJournal
from sagadsl._core.schema import TABLES, VIEWS

SEEN: Final = ", ".join(f"{name} as ({VIEWS[name]})" for name in ("runs", "steps", "timeline"))
"""The public views, by their own text: in a file anybody can write, SQLite does not let a view call its functions."""

CHOSEN: Final = f"""with {SEEN}, chosen as materialized (
    select id, generation, status from runs
    where parent is null and (:saga is null or saga = :saga) and (:since is null or started >= :since)),
every as materialized (  -- a join of the views themselves would read them again for each run
    select run, generation, step, name, status, attempts, error, result is not null as is_done from steps),
calls as materialized (select * from every where (run, generation) in (select id, generation from chosen))"""  # noqa: S608  # nothing of it comes from outside

RUNS: Final = f"{CHOSEN} select status, count(*) from chosen group by status order by count(*) desc, status"  # noqa: S608  # nothing of it comes from outside

STEPS: Final = f"""{CHOSEN},
written as (  -- by the how-manieth process that had the run
    select run, generation, seq, step, event, julianday(at) * 86400 as at,
        sum(step = '' and event in ('taken', 'resumed')) over (partition by run, generation order by seq) as owner
    from timeline where (run, generation) in (select id, generation from chosen)),
tried as (
    select run, generation, step, event, at, owner, lead(event) over own as end, lead(at) over own as ended,
        lead(owner) over own as ender
    from written where step <> '' window own as (partition by run, generation, step order by seq)),
taken as materialized (
    select run, generation, step, sum(max(0, ended - at)) as seconds from tried
    where event = 'intent' and owner = ender
        and end in ('done', 'retrying', 'failed', 'uncertain', 'cancelled', 'not_landed')
    group by run, generation, step),
ranked as (
    select name, seconds, row_number() over (partition by name order by seconds) as place,
        count(*) over (partition by name) as of
    from calls join taken using (run, generation, step) where is_done),
times as (
    select name, max(case when place = (of * 50 + 99) / 100 then seconds end) as p50,
        max(case when place = (of * 95 + 99) / 100 then seconds end) as p95
    from ranked group by name)
select name, count(*), sum(attempts), sum(error is not null), sum(status = 'compensated'),
    round(max(p50), 3), round(max(p95), 3)
from calls left join times using (name) group by name order by count(*) desc, name"""  # noqa: S608  # as above

FAULTS: Final = f"""{CHOSEN},
told as (
    select run, generation, step, at, coalesce(json_extract(result, '$.fault'), result) as fault from timeline
    where event in ('retrying', 'failed', 'uncertain', 'compensation_retrying', 'compensation_error'))
select calls.name, json_extract(fault, '$.type') as type, json_extract(fault, '$.message'), count(*), max(told.at)
from told join calls using (run, generation, step)
where type is not null group by calls.name, type order by count(*) desc, calls.name, type limit 20"""  # noqa: S608  # as above

Query = Callable[[str, dict[str, Any]], list[tuple[Any, ...]]]


def counted(journal: Journal, saga: str | None, since: datetime | None) -> Stats:
    """Count the runs of a journal, those of one saga, or started since a time.

    Raises:
        JournalError: It cannot be read.
    """
    query = journal.query if isinstance(journal, SqliteJournal) else copied(journal)
    moment = None if since is None else f"{since.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{since.microsecond // 1000:03}Z"
    chosen = {"saga": saga, "since": moment}
    return Stats(
        runs=dict(query(RUNS, chosen)),
        steps=tuple(
            StepStats(
                name=name, calls=calls, attempts=attempts, failed=failed, compensated=compensated, p50=p50, p95=p95
            )
            for name, calls, attempts, failed, compensated, p50, p95 in query(STEPS, chosen)
        ),
        faults=tuple(
            FaultStats(step=step, type=type_, message=message, count=count)
            for step, type_, message, count, _ in query(FAULTS, chosen)
        ),
        saga=saga,
        since=since,
    )


def copied(journal: Journal) -> Query:
    """Return what asks a copy of a journal, in memory."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    for statement in (*TABLES, *(f"create view {name} as {sql}" for name, sql in VIEWS.items())):
        database.execute(statement)
    for row in journal.runs():
        values = (*attrs.astuple(row), None)
        database.execute(f"insert into run values ({', '.join('?' * len(values))})", values)  # noqa: S608  # no more
        for entry in journal.entries(row.number):
            told = (entry.name, entry.definition, entry.arguments, entry.result)
            place = (entry.number, entry.seq, str(entry.kind), entry.scope, entry.step, entry.ref, entry.attempt)
            database.execute(INSERT, (*place, entry.at, *told, None))
    return lambda sql, values: database.execute(sql, values).fetchall()
