"""Figures over many runs, as text and as a document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from sagadsl._core.figures import Stats
from sagadsl.report.data import SCHEMA, moment
from sagadsl.report.words import columns, printable, span


def stats_document(stats: Stats, store: str) -> dict[str, Any]:
    """Return figures as data for ``json.dumps``; rates are from 0 to 1, times seconds."""
    return {
        "schema": SCHEMA,
        "store": store,
        "saga": stats.saga,
        "since": moment(stats.since),
        "runs": stats.runs,
        "success_rate": stats.success_rate,
        "compensation_rate": stats.compensation_rate,
        "attempts": stats.attempts,
        "steps": [attrs.asdict(step) for step in stats.steps],
        "faults": [attrs.asdict(fault) for fault in stats.faults],
    }


def stats_text(stats: Stats) -> str:
    """Return figures as text: runs by status, rates, steps, and what they failed with."""
    return "\n\n".join("\n".join(columns(block)) for block in (_runs(stats), _steps(stats), _faults(stats)) if block)


def _runs(stats: Stats) -> list[list[str]]:
    rows = [[status.replace("_", " "), f"{count}"] for status, count in stats.runs.items()]
    rates = {"success rate": stats.success_rate, "compensation rate": stats.compensation_rate}
    rows += [[name, "none has ended" if rate is None else f"{rate:.1%}"] for name, rate in rates.items()]
    return [["runs", f"{stats.total}"], *rows, ["attempts", f"{stats.attempts}"]]


def _steps(stats: Stats) -> list[list[str]]:
    head = ["step", "calls", "attempts", "failed", "compensated", "p50", "p95"]
    rows = []
    for each in stats.steps:
        counts = (each.calls, each.attempts, each.failed, each.compensated)
        rows.append([printable(each.name, 60), *map(str, counts), *_times(each.p50, each.p95)])
    return [head, *rows] if rows else []


def _times(*seconds: float | None) -> Iterator[str]:
    return ("" if each is None else span(each) for each in seconds)


def _faults(stats: Stats) -> list[list[str]]:
    rows = []
    for each in stats.faults:
        name = printable(each.type.rpartition(":")[2], 60)
        rows.append([printable(each.step, 60), name, f"{each.count}", printable(each.message, 80)])
    return [["fault in", "exception", "times", "latest"], *rows] if rows else []
