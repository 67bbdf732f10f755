"""Timers: the cycle, and the judge of dead runs."""

import json
import logging
from datetime import datetime, timedelta

import azure.durable_functions as df
import azure.functions as func

from shared.clock import iso, parse_iso
from shared.ledger.cycles import Cycle
from shared.ledger.keys import stamp
from shared.ledger.outcomes import InstanceState
from shared.ledger.outcomes import clean_up_orphaned_runs as settle
from shared.redaction import sanitize_exceptions
from shared.services import services
from shared.telemetry import emit_event

bp = df.Blueprint()
logger = logging.getLogger("partner_billing.schedule")

EARLY = timedelta(seconds=5)  # a timer may fire a little before its tick


@bp.timer_trigger(
    schedule="%EXPORT_SCHEDULE%", arg_name="timer", use_monitor=True, run_on_startup=False
)
@bp.durable_client_input(client_name="client")
@sanitize_exceptions
async def start_scheduled_cycle(
    timer: func.TimerRequest, client: df.DurableOrchestrationClient
) -> None:
    """Idempotent: the cycle's id is its tick, so a tick that fires twice starts one cycle."""
    app = services()
    tick = tick_of(timer, app.clock.now())
    cycle_id = f"cycle-{stamp(tick)}"
    if await client.get_status(cycle_id):  # of any state: this tick is served
        return
    await app.ledger.cycles.insert(
        Cycle(cycle_id, "starting", iso(tick), "timer", started_at=iso(app.clock.now()))
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
    logger.info("cycle %s started%s", cycle_id, ", late" if timer.past_due else "")


def tick_of(timer: func.TimerRequest, now: datetime) -> datetime:
    """The tick being served: what the host calls Next during the call; of a late one, the moment it is served."""
    try:
        status = (
            json.loads(timer.schedule_status)
            if isinstance(timer.schedule_status, str)
            else timer.schedule_status
        )
        planned = parse_iso(str(status["Next"]))
    except (ValueError, TypeError, KeyError, OverflowError):
        return now
    return planned if now - timedelta(hours=1) <= planned <= now + EARLY else now


@bp.timer_trigger(schedule="0 30 2 * * *", arg_name="timer", use_monitor=True, run_on_startup=False)
@bp.durable_client_input(client_name="client")
@sanitize_exceptions
async def start_daily_retention(
    timer: func.TimerRequest, client: df.DurableOrchestrationClient
) -> None:
    """Idempotent: one instance a day. A day that failed is made up for by the next: what was left is found again."""
    day = services().clock.now().strftime("%Y-%m-%d")
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
    """The only judge of death. Idempotent: what it finds closed already, it leaves; what half done, it finishes."""

    async def look(run_id: str) -> InstanceState:
        status = await client.get_status(run_id)
        if not status:
            return "unknown"
        match status.runtime_status:
            case df.OrchestrationRuntimeStatus.Terminated | df.OrchestrationRuntimeStatus.Canceled:
                return "terminated"
            case df.OrchestrationRuntimeStatus.Completed | df.OrchestrationRuntimeStatus.Failed:
                return "over"
        return "live"

    for run_id in await settle(services().ledger, look):
        logger.warning("run %s was dead and is closed", run_id)
