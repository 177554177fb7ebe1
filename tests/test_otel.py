"""OpenTelemetry: what runs do as spans and metrics, seen by the real SDK."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import sagadsl
from sagadsl import Compensation, Retry, parallel
from sagadsl.otel import OpenTelemetry

ROOT = Path(__file__).parents[1]


class Seen:
    """What came to an exporter and a reader of metrics."""

    def __init__(self):
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        meters = MeterProvider(metric_readers=[self.reader])
        self.telemetry = OpenTelemetry(tracer_provider=self.tracers, meter_provider=meters)

    @property
    def spans(self):
        return self.exporter.get_finished_spans()

    def span(self, name):
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def metrics(self):
        data = json.loads(self.reader.get_metrics_data().to_json())
        return {
            metric["name"]: metric
            for resource in data["resource_metrics"]
            for scope in resource["scope_metrics"]
            for metric in scope["metrics"]
        }


@pytest.fixture
def seen():
    return Seen()


def undo(result=None):
    """Undo nothing."""


@pytest.fixture
def order(colour, runtime, seen):
    """Give a saga with a child, a branch, a retry, and perhaps a failure."""
    runtime.configure(observers=[seen.telemetry])
    tries = []

    def release(result=None):
        tries.append("release")
        if tries.count("release") == 1:
            raise OSError("busy")

    @colour.step(compensate=Compensation(release, retries=Retry(1, wait=1)), retries=Retry(2, wait=3))
    def reserve() -> int:
        if sagadsl.current().attempt == 1:
            raise TimeoutError("slow")
        return 1

    @colour.step(read_only=True)
    def look() -> int:
        return 7

    @colour.step(compensate=undo)
    def charge(fails) -> None:
        if fails:
            raise ValueError("declined")

    @colour.saga
    def child():
        yield reserve()

    @colour.saga(key="k", runtime=runtime)
    def order(fails):
        yield look()
        yield child()
        if not colour.is_async:
            parallel(lambda: charge(False))
        yield charge(fails)

    return order


def test_a_run_is_a_tree_of_spans(colour, order, seen):
    """One for the run, its children and steps, none for a branch; with attributes by which they are found."""
    colour.call(order, False)
    root = seen.span("order")
    assert root.parent is None
    assert dict(root.attributes) == {
        "sagadsl.run.id": "order/k",
        "sagadsl.saga.name": "order",
        "sagadsl.run.status": "completed",
    }
    assert {span.context.trace_id for span in seen.spans} == {root.context.trace_id}
    assert seen.span("child").parent.span_id == root.context.span_id
    assert seen.span("look").attributes["sagadsl.step.state"] == "done"
    reserve = seen.span("reserve")
    assert reserve.parent.span_id == seen.span("child").context.span_id
    assert dict(reserve.attributes) == {
        "sagadsl.run.id": "order/k",
        "sagadsl.saga.name": "order",
        "sagadsl.step.name": "reserve",
        "sagadsl.step.key": "child/reserve",
        "sagadsl.step.attempt": 2,
        "sagadsl.step.state": "done",
    }
    charges = [span for span in seen.spans if span.name == "charge"]
    assert {span.parent.span_id for span in charges} == {root.context.span_id}
    assert len(charges) == (1 if colour.is_async else 2)


def test_a_retry_is_an_event_and_an_exception_is_recorded_once(colour, order, seen):
    """Where it was raised; the run that failed by it has its words."""
    with pytest.raises(ValueError, match="declined"):
        colour.call(order, True)
    (retry,) = seen.span("reserve").events
    assert (retry.name, retry.attributes["exception.type"]) == ("retry", "builtins.TimeoutError")
    assert retry.attributes["sagadsl.wait"] == 3
    recorded = [(span.name, event) for span in seen.spans for event in span.events if event.name == "exception"]
    ((name, event),) = recorded
    assert (name, event.attributes["exception.type"]) == ("charge", "builtins.ValueError")
    assert 'raise ValueError("declined")' in event.attributes["exception.stacktrace"]
    root = seen.span("order")
    assert (root.status.status_code.name, root.status.description) == ("ERROR", "ValueError: declined")
    assert root.attributes["sagadsl.run.status"] == "compensated"


def test_a_compensation_is_linked_to_the_step_it_compensates(colour, order, seen):
    """It is a span of its own, in the run's trace, retries and all."""
    with pytest.raises(ValueError, match="declined"):
        colour.call(order, True)
    back, step = seen.span("compensate reserve"), seen.span("reserve")
    assert [link.context.span_id for link in back.links] == [step.context.span_id]
    assert back.parent.span_id == seen.span("child").context.span_id
    assert (back.attributes["sagadsl.step.state"], back.attributes["sagadsl.step.attempt"]) == ("compensated", 2)
    assert [event.name for event in back.events] == ["retry"]


def test_a_compensation_that_fails_has_its_exception(colour, runtime, seen):
    """And the body's own exception stands at the run."""

    def fail():
        raise OSError("gone")

    @colour.step(compensate=Compensation(fail, retries=0))
    def act() -> None:
        """Act."""

    @colour.saga(key="k", runtime=runtime)
    def flow():
        yield act()
        raise ValueError("no")

    runtime.configure(observers=[seen.telemetry])
    with pytest.raises(sagadsl.CompensationError):
        colour.call(flow)
    recorded = {span.name: [e.attributes["exception.message"] for e in span.events] for span in seen.spans}
    assert recorded == {"act": [], "compensate act": ["gone"], "flow": ["no"]}
    assert seen.span("flow").attributes["sagadsl.run.status"] == "compensation_failed"


def test_durations_and_runs_are_metrics(colour, order, seen):
    """Seconds of each step by its state, waits included; runs by the status they came to."""
    colour.call(order, False)
    with pytest.raises(ValueError, match="declined"):
        colour.call(order.using(key="u"), True)
    metrics = seen.metrics()
    durations = metrics["sagadsl.step.duration"]
    assert durations["unit"] == "s"
    by_step = {
        (p["attributes"]["sagadsl.step.name"], p["attributes"]["sagadsl.step.state"]): p
        for p in durations["data"]["data_points"]
    }
    assert by_step["reserve", "done"]["count"] == 2
    assert by_step["reserve", "done"]["min"] == pytest.approx(3, abs=0.1)
    assert by_step["charge", "failed"]["count"] == 1
    runs = {p["attributes"]["sagadsl.run.status"]: p["value"] for p in metrics["sagadsl.runs"]["data"]["data_points"]}
    assert runs == {"completed": 1, "compensated": 1}


def test_a_run_is_a_part_of_the_trace_around_it(colour, order, seen):
    """A request's, for instance."""
    with seen.tracers.get_tracer("web").start_as_current_span("request"):
        colour.call(order, False)
    assert seen.span("order").parent.span_id == seen.span("request").context.span_id


def test_an_interrupted_run_ends_its_spans_and_the_next_trace_is_linked(colour, runtime, seen, world):
    """In the same process too; a compensation of what the first one did is linked to the first trace."""

    @colour.step(compensate=undo)
    def act() -> None:
        """Act."""

    @colour.step
    def stop() -> None:
        if not world.effects:
            world.add("stopped")
            raise KeyboardInterrupt
        raise ValueError("no")

    @colour.saga(key="k", runtime=runtime)
    def flow():
        yield act()
        yield stop()

    runtime.configure(observers=[seen.telemetry])
    with pytest.raises(KeyboardInterrupt):
        colour.call(flow)
    assert [span.name for span in seen.spans] == ["act", "stop", "flow"]
    assert "sagadsl.run.status" not in seen.spans[2].attributes
    first = seen.spans[2].context
    with pytest.raises(ValueError, match="no"):
        colour.call(flow)
    again = seen.spans[-1]
    assert (again.name, again.context.trace_id == first.trace_id) == ("flow", False)
    for span in (again, seen.span("compensate act")):
        assert [(link.context.trace_id, link.context.span_id) for link in span.links] == [
            (first.trace_id, first.span_id)
        ]
    assert runtime.find("flow/k").kept["traceparent"].split("-")[1] == f"{first.trace_id:032x}"


PROGRAM = """
import asyncio, os, signal, sys
import sagadsl
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from sagadsl.otel import OpenTelemetry

provider = TracerProvider()
out = open("spans.txt", "a")
exporter = ConsoleSpanExporter(out=out, formatter=lambda span: span.to_json(None) + "\\n")
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
sagadsl.configure(observers=[OpenTelemetry()])

def undo(): pass

def die():
    if "die" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)

if "async" in sys.argv:
    @sagadsl.step(compensate=undo)
    async def flight(): pass

    @sagadsl.step
    async def hotel(): die()

    @sagadsl.saga(key="t")
    async def trip():
        await flight()
        await hotel()

    asyncio.run(trip())
else:
    @sagadsl.step(compensate=undo)
    def flight(): pass

    @sagadsl.step
    def hotel(): die()

    @sagadsl.saga(key="t")
    def trip():
        flight()
        hotel()

    trip()
"""


def test_the_trace_of_a_resumed_process_is_linked_to_that_of_the_killed_one(colour, tmp_path):
    """The first one's context is in the journal; what it had ended was told before it died."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def play(*arguments):
        command = [sys.executable, "-c", PROGRAM, repr(colour), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.returncode

    assert play("die") == -signal.SIGKILL
    assert play() == 0
    spans = [json.loads(line) for line in (tmp_path / "spans.txt").read_text().splitlines()]
    assert [span["name"] for span in spans] == ["flight", "hotel", "trip"]
    flight, hotel, trip = spans
    (link,) = trip["links"]
    assert (link["context"]["trace_id"], link["context"]["span_id"]) == (
        flight["context"]["trace_id"],
        flight["parent_id"],
    )
    assert trip["context"]["trace_id"] == hotel["context"]["trace_id"] != flight["context"]["trace_id"]
    assert hotel["attributes"]["sagadsl.step.attempt"] == 2


def test_without_the_api_the_message_names_the_extra(monkeypatch):
    """Nothing else of sagadsl needs it."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ImportError, match=r"pip install 'sagadsl\[otel\]'"):
        OpenTelemetry()
