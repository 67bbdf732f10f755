"""Records the events that the app emits during 24 days of virtual time.

    python -m tests.alarms.recording        writes recording.jsonl

The recording covers one currency and the end of a month: an invoice that is incomplete at first and
restated later, a two-day outage of the Microsoft services, a day of throttling, a source blob that
cannot be read, and operations that a user starts. The app is the real one, with stores in memory.
"""

import json
import logging
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from local.host import VirtualClock
from shared.clock import iso, parse_iso
from shared.ledger.blobs import BlobRow
from shared.ledger.runs import OUTCOMES
from shared.redaction import EVENT_LOGGER
from shared.services import Services
from shared.transfer.models import BlobResult, TransferRequest
from tests.support.in_memory import InMemoryEnvironment, MemoryCopier, MemoryLanding
from tests.support.year import IMMEDIATE, Scenario, create_partner

RECORDING = Path(__file__).with_name("recording.jsonl")
SCENARIO = Scenario(datetime(2026, 11, 28, 6, 0, tzinfo=UTC), 24, ("USD",))
# Cycle and backfill events have one field for each outcome that occurred.
OUTCOME_FIELDS = {*OUTCOMES, "lost"}
STORAGE_CHECKS = {"tables", "clock", "region"}  # preflight checks that require a real account
ROLE = "func-billing-recorded"  # AppRoleName: the name of the function app


@dataclass(frozen=True)
class Trace:
    """A row in AppTraces with the columns that the queries use."""

    at: datetime
    message: str
    role: str = ROLE

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the event."""
        return dict(json.loads(self.message))

    def with_fields(self, **changes: Any) -> "Trace":
        """Return a copy with different field values; None removes a field."""
        fields = {**self.fields, **changes}
        present = {name: value for name, value in fields.items() if value is not None}
        return replace(self, message=to_message(present))

    def shifted(self, **delta: float) -> "Trace":
        """Return a copy at a different time; the arguments are those of timedelta."""
        return replace(self, at=self.at + timedelta(**delta))


def to_message(fields: Mapping[str, Any]) -> str:
    """Return the JSON line of an event."""
    return json.dumps(fields, separators=(",", ":"))


def load_recording() -> list[Trace]:
    """Read the traces of recording.jsonl."""
    rows = [json.loads(row) for row in RECORDING.read_text(encoding="utf-8").splitlines()]
    return [Trace(parse_iso(row["TimeGenerated"]), row["Message"]) for row in rows]


def serialize(traces: Iterable[Trace]) -> str:
    """Return traces in the format of recording.jsonl."""
    rows = ({"TimeGenerated": iso(trace.at), "Message": trace.message} for trace in traces)
    return "".join(f"{json.dumps(row, separators=(',', ':'))}\n" for row in rows)


def get_field_types(traces: Iterable[Trace]) -> dict[str, dict[str, set[str]]]:
    """Return the names of the field types, by event and field.

    The counts of outcomes are excluded, because they depend on the recorded days.
    """
    types: dict[str, dict[str, set[str]]] = {}
    for trace in traces:
        fields = trace.fields
        event = fields.pop("event")
        event_types = types.setdefault(event, {})
        for name, value in fields.items():
            if name in OUTCOME_FIELDS and event in ("cycle_ended", "backfill_ended"):
                continue
            event_types.setdefault(name, set()).add(
                "number" if type(value) in (int, float) else type(value).__name__
            )
    return types


class TraceHandler(logging.Handler):
    """A log handler that collects traces at the virtual time.

    Like the worker, it keeps the message of a record without a prefix.
    """

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self.clock, self.traces = clock, list[Trace]()

    def emit(self, record: logging.LogRecord) -> None:
        """Append a trace."""
        self.traces.append(Trace(self.clock.now(), record.getMessage()))


@contextmanager
def capture_traces(clock: VirtualClock) -> Iterator[list[Trace]]:
    """Collect the events that the app emits in the block."""
    logger, handler = logging.getLogger(EVENT_LOGGER), TraceHandler(clock)
    previous_level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield handler.traces
    finally:
        logger.removeHandler(handler)
        logger.setLevel(previous_level)


class FaultyCopier(MemoryCopier):
    """A copier that cannot read one source blob of a run while `is_faulty` is set.

    While `rejects_changes` is set, storage rejects restoring the metadata of the other blobs.
    """

    is_faulty = rejects_changes = False

    async def copy_in_groups(
        self, work: TransferRequest, names: Sequence[str], proven: Mapping[str, BlobRow]
    ) -> AsyncGenerator[list[BlobResult]]:
        """Copy the blobs, except those that cannot be read."""
        failed = {name for name in names if self.is_faulty and name.startswith("part-00000")}
        async for group in super().copy_in_groups(
            work, [name for name in names if name not in failed], proven
        ):
            code = "destination_full" if self.rejects_changes else ""
            yield [replace(result, rejected_change=code) for result in group]
        yield [
            BlobResult(
                name,
                False,
                copy_method="stream",
                tries=3,
                code="source_missing",
                detail="",
                transferred=True,
            )
            for name in failed
        ]


class RecordingEnvironment(InMemoryEnvironment):
    """The app in memory, with a faulty copier and without preflight checks for real storage."""

    def create_copier(self, landing: MemoryLanding) -> MemoryCopier:
        """Create the faulty copier."""
        self.copier = FaultyCopier(landing, self.storage)
        return self.copier

    def create_services(self) -> Services:
        """Create the services without the checks that require a real account."""
        services = super().create_services()
        services.preflight.checks = tuple(
            check for check in services.preflight.checks if check.name not in STORAGE_CHECKS
        )
        return services


def record_events() -> list[Trace]:
    """Run the recorded days in virtual time, which takes several seconds."""
    env = RecordingEnvironment(
        start=SCENARIO.start,
        partner=create_partner(*SCENARIO.currencies),
        behaviour=IMMEDIATE,
        timers=True,
    )
    with env, capture_traces(env.clock) as traces:
        SCENARIO.run(env)
        run_manual_operations(env)
    return traces


def run_manual_operations(env: RecordingEnvironment) -> None:
    """Start an incomplete run, its retry, a cycle and a backfill, as a user would.

    Before the cycle, the listed total of the newest invoice changes.
    """
    invoice_id = next(
        invoice.invoice_id for invoice in reversed(env.simulator.invoices()) if not invoice.legacy
    )
    env.simulator.behaviour = replace(IMMEDIATE, ready_after_polls=1)
    env.copier.is_faulty = True
    incomplete = env.land("billed_usage", invoice_id=invoice_id, force=True)
    assert incomplete["outcome"] == "incomplete", incomplete
    env.copier.is_faulty, env.copier.rejects_changes = False, True
    retry = env.post(f"/api/runs/{incomplete['run_id']}/retry")
    landed = env.finish(retry["run_id"])
    assert landed["outcome"] == "landed"
    env.copier.rejects_changes = False
    repair_damaged_version(env, landed["path"], invoice_id)
    total = env.simulator.invoices()[-1].total
    env.simulator.change_listed_total(invoice_id, total + 1)
    env.run_cycle()
    backfill = env.post(
        "/api/backfills", {"from": "2026-11", "to": "2026-11", "datasets": ["billed_usage"]}
    )
    env.host.wait(backfill["backfill_id"], 60)
    restart_interrupted_items(env, invoice_id)


def repair_damaged_version(env: RecordingEnvironment, path: str, invoice_id: str) -> None:
    """Delete a blob of the version, and let a run find the damage and repair it."""
    lost = next(blob for blob in env.landing.blobs if blob.startswith(f"{path}/part-00000"))
    del env.landing.blobs[lost]
    assert env.land("billed_usage", invoice_id=invoice_id)["outcome"] == "landed"


def restart_interrupted_items(env: RecordingEnvironment, invoice_id: str) -> None:
    """End the worker during a run, a cycle and a backfill: the cleanup starts them again."""
    run = {"dataset": "billed_usage", "invoice_id": invoice_id, "force": True}
    backfill = {"from": "2026-11", "to": "2026-11", "datasets": ["billed_usage"]}
    for orchestrator, path, body, id_field in (
        ("export_run", "/api/runs", run, "run_id"),
        ("export_cycle", "/api/cycles", {}, "cycle_id"),
        ("backfill", "/api/backfills", backfill, "backfill_id"),
    ):
        env.terminate_worker_during(orchestrator, 2)  # the first call can end the POST request
        item_id = env.post(path, body)[id_field]
        assert env.host.wait(item_id)["runtimeStatus"] == "Failed"
        env.host.fire_timer("clean_up_orphaned_runs")
        assert env.host.wait(f"{item_id}~restart-1", 60)["runtimeStatus"] == "Completed"


if __name__ == "__main__":
    RECORDING.write_text(serialize(record_events()), encoding="utf-8")
    print(f"{RECORDING.name}: {len(load_recording())} events")
