"""Counts how the runs of a cycle ended and closes its row. Idempotent: it reads the rows and writes the same sum."""

from collections import Counter
from collections.abc import Sequence

import azure.durable_functions as df

from shared.clock import iso
from shared.messages import CycleRequest, CycleResult
from shared.redaction import sanitize_exceptions
from shared.services import Services, services
from shared.telemetry import emit_event

bp = df.Blueprint()


@bp.activity_trigger(input_name="cycle")
@sanitize_exceptions
async def summarize_cycle(cycle: CycleRequest) -> CycleResult:
    app = services()
    known = await app.ledger.cycles.get(cycle["cycle_id"])
    ids = known.runs if known else []
    outcomes = await count_outcomes(app, ids, absent="lost")
    await app.ledger.cycles.ended(cycle["cycle_id"], outcomes, iso(app.clock.now()))
    emit_event(
        "cycle_ended",
        f"{cycle['cycle_id']}/ended/1",
        cycle_id=cycle["cycle_id"],
        runs=len(ids),
        **outcomes,
    )
    return {"outcomes": outcomes, "runs": len(ids)}


async def count_outcomes(app: Services, run_ids: Sequence[str], *, absent: str) -> dict[str, int]:
    """How many runs ended how; one without a row is counted as `absent`, one without an outcome as lost."""
    runs = await app.ledger.runs.some(run_ids)
    return dict(
        Counter(
            absent if run is None else run.outcome or "lost"
            for run in (runs.get(run_id) for run_id in run_ids)
        )
    )
