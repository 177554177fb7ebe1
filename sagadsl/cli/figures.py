"""``stats``: what many runs come to, for people, and for whoever is to be woken up."""

from __future__ import annotations

from datetime import datetime

import click

from sagadsl.cli.looking import json_option, write, write_json
from sagadsl.cli.spans import Moment
from sagadsl.cli.stores import reading, store_option, store_path
from sagadsl.errors import ExitCode
from sagadsl.report import stats_document, stats_text


@click.command()
@click.option("--saga", metavar="NAME", help="Only runs of this saga.")
@click.option("--since", type=Moment(), help="Only those that began since: 2h, 2026-11-22, 2026-11-22T10:00.")
@click.option(
    "--max-compensation-rate",
    "limit",
    type=click.FloatRange(0, 1),
    metavar="RATE",
    help="Exit with 3 if a greater part of the ended runs, from 0 to 1, was compensated or failed to be.",
)
@json_option
@store_option
def stats(saga: str | None, since: datetime | None, limit: float | None, as_json: bool) -> int:  # noqa: FBT001  # a flag
    """Count runs by status, and their steps: attempts, times, and what they failed with.

    A run that goes on counts, but not for the rates. p50 and p95 are how long half, and 95 of 100, of a step's calls
    took at most: its attempts, without waits between them, pauses, and the time in which a killed program was gone.
    """
    found = reading().stats(saga=saga, since=since)
    if as_json:
        write_json(stats_document(found, str(store_path())))
    else:
        write(stats_text(found))
    rate = found.compensation_rate
    if limit is None or rate is None or rate <= limit:
        return ExitCode.DONE
    click.echo(f"the compensation rate is {rate:.1%}, more than {limit:.1%}", err=True)
    return ExitCode.COMPENSATED
