"""Twenty-four days of the app's own events, as they arrive in a workspace: played on virtual time, committed, and made again.

    python -m tests.alarms.recording        plays them and writes recording.jsonl

One currency across the turn of a month: an invoice that is partial at first and then restated, two days without Microsoft,
a day of 429s, a file that cannot be read, and what people ask for by hand. What the app does is the app; only its stores are
in memory, and which file is unreadable is decided here.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from local.host import VirtualClock
from shared.clock import iso, parse_iso
from shared.ledger.runs import OUTCOMES
from shared.redaction import EVENT_LOGGER
from shared.services import Services
from shared.transfer.models import BlobResult, TransferRequest
from tests.support.in_memory import InMemoryEnvironment, MemoryCopier, MemoryLanding
from tests.support.year import IMMEDIATE, Scenario, create_partner

RECORDING = Path(__file__).with_name("recording.jsonl")
SCENARIO = Scenario(datetime(2026, 11, 28, 6, 0, tzinfo=UTC), 24, ("USD",))
COUNTS = {*OUTCOMES, "lost"}  # of a cycle or a backfill: a fact for each outcome that occurred
OF_STORAGE = {"tables", "clock", "region"}  # checks of the doctor that need a real account
ROLE = "func-billing-recorded"  # what Application Insights calls the app: the function app's name


@dataclass(frozen=True)
class Trace:
    """A row of AppTraces, as far as the queries look at it."""

    at: datetime
    message: str
    role: str = ROLE

    @property
    def facts(self) -> dict[str, Any]:
        return dict(json.loads(self.message))

    def saying(self, **changes: Any) -> "Trace":
        """The same event with other facts; None takes one away."""
        facts = {**self.facts, **changes}
        return replace(
            self, message=line({name: value for name, value in facts.items() if value is not None})
        )

    def moved(self, **time: float) -> "Trace":
        return replace(self, at=self.at + timedelta(**time))


def line(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, separators=(",", ":"))


def recorded() -> list[Trace]:
    rows = [json.loads(row) for row in RECORDING.read_text(encoding="utf-8").splitlines()]
    return [Trace(parse_iso(row["TimeGenerated"]), row["Message"]) for row in rows]


def written(traces: Iterable[Trace]) -> str:
    return "".join(
        json.dumps(
            {"TimeGenerated": iso(trace.at), "Message": trace.message}, separators=(",", ":")
        )
        + "\n"
        for trace in traces
    )


def shapes(traces: Iterable[Trace]) -> dict[str, dict[str, set[str]]]:
    """Event -> fact -> the kinds of its values: what a query can rely on. How many runs ended how is a matter of the days."""
    found: dict[str, dict[str, set[str]]] = {}
    for trace in traces:
        facts = trace.facts
        event = facts.pop("event")
        known = found.setdefault(event, {})
        for name, value in facts.items():
            if name in COUNTS and event in ("cycle_ended", "backfill_ended"):
                continue
            known.setdefault(name, set()).add(
                "number" if type(value) in (int, float) else type(value).__name__
            )
    return found


class Listener(logging.Handler):
    """The handler of the worker passes a record on as its message alone, without a prefix; the time is the clock's."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self.clock, self.heard = clock, list[Trace]()

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(Trace(self.clock.now(), record.getMessage()))


@contextmanager
def listening(clock: VirtualClock) -> Iterator[list[Trace]]:
    logger, listener = logging.getLogger(EVENT_LOGGER), Listener(clock)
    before = logger.level
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    try:
        yield listener.heard
    finally:
        logger.removeHandler(listener)
        logger.setLevel(before)


class PatchyCopier(MemoryCopier):
    """One file of a run cannot be read while `patchy` is set."""

    patchy = False

    async def copy_blobs(
        self, work: TransferRequest, names: Sequence[str], proven: Mapping[str, str]
    ) -> list[BlobResult]:
        bad = {name for name in names if self.patchy and name.startswith("part-00000")}
        landed = await super().copy_blobs(work, [name for name in names if name not in bad], proven)
        return landed + [
            BlobResult(
                name,
                False,
                copy_method="stream",
                tries=3,
                code="source_missing",
                detail="",
                transferred=True,
            )
            for name in bad
        ]


class RecordedEnvironment(InMemoryEnvironment):
    def create_copier(self, landing: MemoryLanding) -> MemoryCopier:
        self.copier = PatchyCopier(landing, self.storage)
        return self.copier

    def create_services(self) -> Services:
        app = super().create_services()
        app.preflight._checks = tuple(
            check for check in app.preflight._checks if check.name not in OF_STORAGE
        )
        return app


def play() -> list[Trace]:
    """The recording, anew: a few seconds."""
    env = RecordedEnvironment(
        start=SCENARIO.start,
        partner=create_partner(*SCENARIO.currencies),
        behaviour=IMMEDIATE,
        timers=True,
    )
    with env, listening(env.clock) as heard:
        SCENARIO.run(env)
        by_hand(env)
    return heard


def by_hand(env: RecordedEnvironment) -> None:
    """The last morning: a file that cannot be read, a run by hand, its retry, a round and a catch-up by hand."""
    invoice = next(one.invoice_id for one in reversed(env.simulator.invoices()) if not one.legacy)
    env.simulator.behaviour = replace(IMMEDIATE, ready_after_polls=1)
    env.copier.patchy = True
    failed = env.land("billed_usage", invoice_id=invoice, force=True)
    assert failed["outcome"] == "incomplete", failed
    env.copier.patchy = False
    again = env.post(f"/api/runs/{failed['run_id']}/retry")
    assert env.finish(again["run_id"])["outcome"] == "landed"
    env.run_cycle()
    backfill = env.post(
        "/api/backfills", {"from": "2026-11", "to": "2026-11", "datasets": ["billed_usage"]}
    )
    env.host.wait(backfill["backfill_id"], 60)


if __name__ == "__main__":
    RECORDING.write_text(written(play()), encoding="utf-8")
    print(f"{RECORDING.name}: {len(recorded())} events")
