"""Traces and metrics of runs for OpenTelemetry: ``sagadsl.configure(observers=[OpenTelemetry()])``.

A span for each run, child saga, step and compensation, as the process sees them. A step that is tried again is one
span, with an event for each attempt that failed; an exception is recorded once, where it was raised. The context of a
run's first trace is kept in the journal, so the trace of a process that goes on is linked to it; a compensation is
linked to the step that it compensates, or, if another process had done that, to the first trace.

Only the API is used (``pip install 'sagadsl[otel]'``): without an SDK nothing is traced. Spans end when what they tell
of ends, and those still open when the process lets the run go. The bodies of steps do not run *inside* their spans.
"""

from __future__ import annotations

import json
import threading
from typing import Any, Final

from sagadsl import Entry, Kind, RunInfo

K = Kind

ENDS: Final = frozenset({K.COMPLETED, K.COMPENSATED, K.COMPENSATION_FAILED, K.PAUSED})
OUTCOMES: Final = frozenset({K.DONE, K.FAILED, K.UNCERTAIN, K.CANCELLED, K.NOT_LANDED})
BACK: Final = {
    K.COMPENSATION_DONE: "compensated",
    K.COMPENSATION_ERROR: "compensation_failed",
}
"""The states of a step that compensating it leads to."""
SAGA, STEP, COMPENSATION = "saga", "step", "compensation"


class OpenTelemetry:
    """An observer that traces runs, and counts them and how long their steps take.

    Attributes are ``sagadsl.run.id``, ``.saga.name``, ``.step.name``, ``.step.key``, ``.step.attempt`` and
    ``.step.state``; metrics are the histogram ``sagadsl.step.duration``, in seconds, waits between attempts included,
    and the counter ``sagadsl.runs``, by ``sagadsl.run.status``.

    Args:
        tracer_provider: Where spans go, by default the process's.
        meter_provider: Where metrics go, by default the process's.

    Raises:
        ImportError: OpenTelemetry's API is not installed; the message says how it comes.
    """

    def __init__(self, *, tracer_provider: Any = None, meter_provider: Any = None) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError as error:
            msg = "tracing needs OpenTelemetry's API, which comes with: pip install 'sagadsl[otel]'"
            raise ImportError(msg) from error
        self.tracer = trace.get_tracer("sagadsl", tracer_provider=tracer_provider)
        meter = metrics.get_meter("sagadsl", meter_provider=meter_provider)
        self.durations = meter.create_histogram("sagadsl.step.duration", "s", "How long steps took.")
        self.runs = meter.create_counter("sagadsl.runs", "{run}", "Runs that came to an end, or stopped.")

    def watch(self, run: RunInfo, /) -> Traced:
        """Return the observer of a run."""
        return Traced(self, run)


class Traced:
    """The observer of one run: its spans that are open. *kept* is the context of its trace, for the journal."""

    def __init__(self, telemetry: OpenTelemetry, run: RunInfo) -> None:
        from opentelemetry import propagate, trace

        self._telemetry, self._saga = telemetry, run.saga
        self._guard = threading.Lock()  # steps may be called from several threads
        self._names = {step.key: step.name for step in run.steps}
        self._began: dict[str, int] = {}
        self._contexts: dict[str, Any] = {}
        self._told: set[tuple[str, str]] = set()
        self._common = {"sagadsl.run.id": run.id, "sagadsl.saga.name": run.saga}
        first = trace.get_current_span(propagate.extract(run.kept)).get_span_context()
        self._first = [trace.Link(first)] if first.is_valid else []
        self._root = telemetry.tracer.start_span(run.saga, attributes=self._common, links=self._first)
        self._scopes = {0: self._root}  # by the ``seq`` that opened them
        self._open: dict[tuple[str, Any], Any] = {}
        self.kept: dict[str, str] = {}
        propagate.inject(self.kept, trace.set_span_in_context(self._root))

    def __call__(self, entry: Entry) -> None:
        """Take in an entry."""
        with self._guard:
            if entry.name is not None:
                self._names[entry.step] = entry.name
            if not entry.step:
                self._run(entry)
            elif entry.kind is K.OPENED:
                self._open_child(entry)
            elif entry.kind.startswith("compensation_") and entry.ref is not None:
                self._compensation(entry)
            elif entry.kind in OUTCOMES or entry.kind in {K.INTENT, K.RETRYING}:
                self._step(entry)
            elif entry.kind in ENDS and entry.scope in self._scopes:
                self._end((SAGA, entry.scope), entry, str(entry.kind), "sagadsl.run.status")

    def close(self) -> None:
        """End what is open: this process has let the run go."""
        with self._guard:
            for span in (*self._open.values(), self._root):
                span.end()
            self._open.clear()

    def _run(self, entry: Entry) -> None:
        if entry.kind not in ENDS and entry.kind is not K.COMPENSATING:
            return
        self._fail(self._root, entry)
        self._root.set_attribute("sagadsl.run.status", str(entry.kind))
        if entry.kind in ENDS:
            self._telemetry.runs.add(1, {"sagadsl.saga.name": self._saga, "sagadsl.run.status": str(entry.kind)})

    def _open_child(self, entry: Entry) -> None:
        around = self._scopes.get(entry.scope, self._root)
        if "branch" in json.loads(entry.definition or "{}"):
            self._scopes[entry.seq] = around  # no saga of its own
            return
        span = self._start(entry.name or "", entry, {"sagadsl.saga.name": entry.name or ""})
        self._scopes[entry.seq] = self._open[SAGA, entry.seq] = span

    def _step(self, entry: Entry) -> None:
        key, kind = entry.step, entry.kind
        span = self._open.get((STEP, key))
        if span is None:
            self._began[key] = entry.at
            span = self._open[STEP, key] = self._start(self._names.get(key, key), entry, self._step_attributes(entry))
            self._contexts[key] = span.get_span_context()
        if entry.attempt is not None:
            span.set_attribute("sagadsl.step.attempt", entry.attempt)
        if kind is K.RETRYING:
            self._tell_retry(span, entry)
        elif kind in OUTCOMES:
            taken = max(0, entry.at - self._began.pop(key)) / 1e6
            names = {"sagadsl.saga.name": self._saga, "sagadsl.step.name": self._names.get(key, key)}
            self._telemetry.durations.record(taken, names | {"sagadsl.step.state": str(kind)})
            self._end((STEP, key), entry, str(kind))

    def _compensation(self, entry: Entry) -> None:
        from opentelemetry import trace

        key = entry.step
        place = (COMPENSATION, key)
        if place not in self._open:
            links = [trace.Link(self._contexts[key])] if key in self._contexts else self._first
            name = f"compensate {self._names.get(key, key)}"
            self._open[place] = self._start(name, entry, self._step_attributes(entry), links)
        span = self._open[place]
        if entry.attempt is not None:
            span.set_attribute("sagadsl.step.attempt", entry.attempt)
        if entry.kind is K.COMPENSATION_RETRYING:
            self._tell_retry(span, entry)
        elif entry.kind in {K.COMPENSATION_DONE, K.COMPENSATION_ERROR}:
            self._end(place, entry, BACK[entry.kind])

    def _step_attributes(self, entry: Entry) -> dict[str, Any]:
        return {"sagadsl.step.name": self._names.get(entry.step, entry.step), "sagadsl.step.key": entry.step}

    def _start(self, name: str, entry: Entry, attributes: dict[str, Any], links: list[Any] | None = None) -> Any:
        from opentelemetry import trace

        around = trace.set_span_in_context(self._scopes.get(entry.scope, self._root))
        return self._telemetry.tracer.start_span(name, around, attributes=self._common | attributes, links=links)

    def _end(self, place: tuple[str, Any], entry: Entry, state: str, name: str = "sagadsl.step.state") -> None:
        span = self._open.pop(place, None)
        if span is not None:
            self._fail(span, entry)
            span.set_attribute(name, state)
            span.end()

    def _tell_retry(self, span: Any, entry: Entry) -> None:
        told = json.loads(entry.result or "{}")
        fault = told.get("fault", {})
        span.add_event("retry", attributes_of(fault) | {"sagadsl.wait": float(told.get("wait", 0))})

    def _fail(self, span: Any, entry: Entry) -> None:
        """Mark a span as failed, if the entry tells of an exception, which is recorded if no span has it yet."""
        from opentelemetry.trace import Status, StatusCode

        told = json.loads(entry.result) if entry.result and entry.kind is not K.DONE else None
        fault = told.get("fault", told) if isinstance(told, dict) and entry.kind is not K.COMPLETED else {}
        if "type" not in fault:
            return
        seen = (fault["type"], fault.get("message", ""))
        if seen not in self._told:
            self._told.add(seen)
            span.add_event("exception", attributes_of(fault))
        span.set_status(Status(StatusCode.ERROR, f"{fault['type'].rpartition(':')[2]}: {fault.get('message', '')}"))


def attributes_of(fault: dict[str, Any]) -> dict[str, str]:
    """Return a stored exception by the names that OpenTelemetry gives its parts."""
    return {
        "exception.type": fault.get("type", "").replace(":", "."),
        "exception.message": fault.get("message", ""),
        "exception.stacktrace": fault.get("traceback", ""),
    }
