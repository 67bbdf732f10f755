"""Timers that start cycles and retention, and the orphaned-run cleanup."""

import json
import logging
from datetime import datetime, timedelta

import azure.durable_functions as df
import azure.functions as func

from shared.clock import iso, parse_iso
from shared.ledger import outcomes
from shared.ledger.cycles import Cycle
from shared.ledger.keys import stamp
from shared.redaction import sanitize_exceptions
from shared.services import services
from shared.telemetry import emit_event

bp = df.Blueprint()
logger = logging.getLogger("partner_billing.schedule")

MAX_EARLY = timedelta(seconds=5)  # a timer can fire slightly before its tick
MAX_LATE = timedelta(hours=1)
RuntimeStatus = df.OrchestrationRuntimeStatus


@bp.timer_trigger(
    schedule="%EXPORT_SCHEDULE%", arg_name="timer", use_monitor=True, run_on_startup=False
)
@bp.durable_client_input(client_name="client")
@sanitize_exceptions
async def start_scheduled_cycle(
    timer: func.TimerRequest, client: df.DurableOrchestrationClient
) -> None:
    """Start the cycle of a tick.

    Idempotent: the ID of the cycle contains the tick, so a tick that fires twice starts one cycle.
    """
    app = services()
    now = app.clock.now()
    tick = get_tick(timer, now)
    cycle_id = f"cycle-{stamp(tick)}"
    if await client.get_status(cycle_id):  # in any state
        return
    await app.ledger.cycles.insert(
        Cycle(cycle_id, "starting", iso(tick), "timer", started_at=iso(now))
    )
    await client.start_new("export_cycle", cycle_id, {"cycle_id": cycle_id, "tick": iso(tick)})
    emit_event(
        "cycle_started",
        f"{cycle_id}/started/1",
        cycle_id=cycle_id,
        tick=iso(tick),
        requested_by="timer",
        late=bool(timer.past_due),
    )
    logger.info("cycle %s started%s", cycle_id, " late" if timer.past_due else "")


def get_tick(timer: func.TimerRequest, now: datetime) -> datetime:
    """Return the tick that a timer serves.

    While the function runs, the host reports that tick as `Next`. If the time is missing or far
    from the current time, for example because the app was stopped, the tick is the current time.
    """
    try:
        status = timer.schedule_status
        if isinstance(status, str):
            status = json.loads(status)
        planned = parse_iso(str(status["Next"]))
    except (ValueError, TypeError, KeyError, OverflowError):
        return now
    return planned if now - MAX_LATE <= planned <= now + MAX_EARLY else now


@bp.timer_trigger(schedule="0 30 2 * * *", arg_name="timer", use_monitor=True, run_on_startup=False)
@bp.durable_client_input(client_name="client")
@sanitize_exceptions
async def start_daily_retention(
    timer: func.TimerRequest, client: df.DurableOrchestrationClient
) -> None:
    """Start the daily retention.

    Idempotent: each day has one instance. If it fails, the instance of the next day also deletes
    what it left.
    """
    day = f"{services().clock.now():%Y-%m-%d}"
    if not await client.get_status(f"retention-{day}"):
        await client.start_new("retention", f"retention-{day}", {"day": day})


@bp.timer_trigger(
    schedule="0 */5 * * * *", arg_name="timer", use_monitor=True, run_on_startup=False
)
@bp.durable_client_input(client_name="client")
@sanitize_exceptions
async def clean_up_orphaned_runs(
    timer: func.TimerRequest, client: df.DurableOrchestrationClient
) -> None:
    """Close the runs whose orchestration is gone.

    Idempotent: closed runs are skipped, and an interrupted cleanup is completed.
    """

    async def get_state(run_id: str) -> outcomes.InstanceState:
        status = await client.get_status(run_id)
        if not status:
            return "unknown"
        match status.runtime_status:
            case RuntimeStatus.Terminated | RuntimeStatus.Canceled:
                return "terminated"
            case RuntimeStatus.Completed | RuntimeStatus.Failed:
                return "over"
        return "live"

    for run_id in await outcomes.clean_up_orphaned_runs(services().ledger, get_state):
        logger.warning("closed the orphaned run %s", run_id)
