"""A run as plain JSON data, for programs. Times are UTC in ISO 8601; what JSON cannot say is shown as ``repr`` does.

Whatever is written as JSON is a document with the number of its schema. ``documents.json`` beside this file is that
schema; `json_schema` gives it, and so does ``sagadsl --schema``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from importlib.resources import files
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from sagadsl._core.values import Entry, Kind, as_time
from sagadsl._core.values.seen import AttemptInfo, RunInfo, StepInfo
from sagadsl.errors import Fault

SCHEMA: Final = 1
"""The number of the documents; a field may be added without a new one, never removed or given another meaning."""
DEEPEST: Final = 100
"""How deep a value is shown; few tools read what is nested deeper."""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of every document: each kind of them is one of its ``$defs``."""
    found: dict[str, Any] = json.loads(files("sagadsl.report").joinpath("documents.json").read_text("utf-8"))
    return found


def run_document(run: RunInfo) -> dict[str, Any]:
    """Return the document of one run."""
    return {"schema": SCHEMA, "run": run_data(run)}


def runs_document(runs: Sequence[RunInfo], store: str) -> dict[str, Any]:
    """Return the document of a list of runs, each without its steps."""
    return {"schema": SCHEMA, "store": store, "runs": [run_data(run, whole=False) for run in runs]}


def dry_run_document(plan: Any) -> dict[str, Any]:
    """Return the document of a `DryRun`: what compensating a run would do."""
    keys = {name: list(getattr(plan, name)) for name in ("standing", "lapsed", "undecided")}
    return {
        "schema": SCHEMA,
        "dry_run": {"run": plan.run, "to": plan.to, "steps": [step_data(step) for step in plan.steps], **keys},
    }


def run_data(run: RunInfo, *, whole: bool = True) -> dict[str, Any]:
    """Return a run as data for ``json.dumps``; without *whole*, what a list needs of it."""
    data: dict[str, Any] = {
        "id": run.id,
        "generation": run.generation,
        "saga": run.saga,
        "status": str(run.status),
        "is_interrupted": run.is_interrupted,
        "is_live": run.is_live,
        "is_cancel_requested": run.cancel_requested,
        "is_notify_owed": run.notify_owed,
        "notified": moment(run.notified),
        "notify_error": fault_data(run.notify_error),
        "cause": str(run.cause) if run.cause else None,
        "error": fault_data(run.error),
        "parent": run.parent,
        "program": run.program,
        "owner": run.owner,
        "started": moment(run.started),
        "ended": moment(run.ended),
        "steps_done": run.steps_done,
        "steps_total": run.steps_total,
    }
    if whole:
        data["is_block"] = run.is_block
        data["arguments"] = plain(run.arguments)
        data["result"] = plain(run.result)
        data["steps"] = [step_data(step) for step in run.steps]
        data["compensations"] = list(run.compensations)
        data["stack"] = [step.key for step in run.stack]
    return data


def step_data(step: StepInfo) -> dict[str, Any]:
    """Return one call of a step as data."""
    return {
        "key": step.key,
        "name": step.name,
        "title": step.title,
        "status": step.status,
        "is_saga": step.saga,
        "is_branch": step.branch,
        "attempts": step.attempts,
        "attempt_errors": [fault_data(fault) for fault in step.attempt_errors],
        "tried": [attempt_data(attempt) for attempt in step.tried],
        "is_uncertain": step.uncertain,
        "is_standing": step.standing,
        "arguments": plain(step.arguments),
        "result": plain(step.result),
        "note": plain(step.note),
        "error": fault_data(step.error),
        "compensation": step.compensation,
        "compensation_attempts": step.compensation_attempts,
        "compensation_error": fault_data(step.compensation_error),
        "skipped_by": step.skipped_by or None,
        "skipped_why": step.skipped_why or None,
        "compensation_started": moment(step.compensation_started),
        "compensation_ended": moment(step.compensation_ended),
        "idempotency_key": step.idempotency_key,
        "started": moment(step.started),
        "ended": moment(step.ended),
        "seconds": step.seconds,
    }


def attempt_data(attempt: AttemptInfo) -> dict[str, Any]:
    """Return one attempt that another one followed as data."""
    return {
        "number": attempt.number,
        "status": attempt.status,
        "error": fault_data(attempt.error),
        "started": moment(attempt.started),
        "ended": moment(attempt.ended),
    }


def event_data(entry: Entry, run_id: str, generation: int) -> dict[str, Any]:
    """Return an entry of a run's journal as data: what happened, without its payloads."""
    told = json.loads(entry.result) if entry.result and entry.kind in FAULTS else {}
    fault = told.get("fault", told) if isinstance(told, dict) else {}
    is_fault = isinstance(fault, dict) and {"type", "message"} <= fault.keys()
    return {
        "run": run_id,
        "generation": generation,
        "seq": entry.seq,
        "at": moment(as_time(entry.at)),
        "step": entry.step,
        "event": str(entry.kind),
        "attempt": entry.attempt,
        "error": {"type": fault["type"], "message": fault["message"]} if is_fault else None,
    }


FAULTS: Final = frozenset(
    {Kind.RETRYING, Kind.FAILED, Kind.UNCERTAIN, Kind.CANCELLED, Kind.PAUSED, Kind.COMPENSATING, Kind.COMPENSATED}
    | {Kind.COMPENSATION_RETRYING, Kind.COMPENSATION_ERROR, Kind.COMPENSATION_FAILED, Kind.NOTIFY_ERROR}
)
"""What can tell of an error."""


def fault_data(fault: Fault | None) -> dict[str, str] | None:
    """Return a stored error as data, without its traceback."""
    return {"type": fault.type, "message": fault.message} if fault is not None else None


def moment(when: datetime | None) -> str | None:
    """Return an aware time as ISO 8601 in UTC."""
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z") if when is not None else None


def plain(value: Any, depth: int = DEEPEST) -> Any:
    """Return *value* as JSON has it: for people and their tools, not for reading it back; not what is nested deeper."""
    shown: Any
    if not depth:
        return "…"
    if isinstance(value, Enum):
        shown = plain(value.value, depth - 1)
    elif value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        shown = value
    elif isinstance(value, dict):
        shown = {key if isinstance(key, str) else repr(key): plain(item, depth - 1) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        shown = [plain(item, depth - 1) for item in value]
    elif isinstance(value, set | frozenset):
        shown = sorted((plain(item, depth - 1) for item in value), key=repr)
    elif isinstance(value, date | time):
        shown = value.isoformat()
    elif isinstance(value, Decimal | PurePath | UUID):
        shown = str(value)
    else:
        shown = repr(value)
    return shown
