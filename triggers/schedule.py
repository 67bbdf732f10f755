"""Timers that start cycles and retention, and the orphaned-run cleanup."""

import json
import logging
from datetime import datetime, timedelta

import azure.durable_functions as df
import azure.functions as func

from shared.clock import iso, parse_iso
from shared.instances import call_task_hub, get_instance_state
from shared.ledger.backfills import Backfill, create_backfill_request
from shared.ledger.cleanup import Engine
from shared.ledger.cleanup import clean_up_orphaned_runs as clean_up
from shared.ledger.cycles import Cycle
from shared.ledger.keys import stamp
from shared.ledger.runs import Run
from shared.messages import RunRequest
from shared.planning.due import run_limits
from shared.redaction import sanitize_exceptions
from shared.services import services
from shared.settings import Settings
from shared.telemetry import emit_event

bp = df.Blueprint()
logger = logging.getLogger("partner_billing.schedule")

MAX_EARLY = timedelta(seconds=5)  # a timer can fire slightly before its tick
MAX_LATE = timedelta(hours=1)


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
    if await get_instance_state(client, cycle_id) != "unknown":
        return
    await app.ledger.insert_cycle(
        Cycle(cycle_id, "starting", iso(tick), "timer", started_at=iso(now))
    )
    request = {"cycle_id": cycle_id, "tick": iso(tick)}
    await call_task_hub(client.start_new("export_cycle", cycle_id, request))
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
    instance_id = f"retention-{day}"
    if await get_instance_state(client, instance_id) == "unknown":
        await call_task_hub(client.start_new("retention", instance_id, {"day": day}))


@bp.timer_trigger(
    schedule="0 */5 * * * *", arg_name="timer", use_monitor=True, run_on_startup=False
)
@bp.durable_client_input(client_name="client")
@sanitize_exceptions
async def clean_up_orphaned_runs(
    timer: func.TimerRequest, client: df.DurableOrchestrationClient
) -> None:
    """Close the runs, cycles and backfills whose orchestration is gone, or start them again.

    Idempotent: closed items are skipped, and an interrupted cleanup is completed. An item that
    fails, for example because the task hub does not respond, does not affect the others; its error
    is logged and raised at the end.
    """
    app = services()

    async def start(target: Run | Cycle | Backfill, instance_id: str) -> None:
        await start_again(client, app.settings, target, instance_id, app.clock.now())

    report = await clean_up(
        app.ledger,
        Engine(lambda instance_id: get_instance_state(client, instance_id), start),
    )
    for item_id in report.closed:
        logger.warning("closed %s, whose orchestration is gone", item_id)
    for item_id in report.restarted:
        logger.warning("started %s again, whose orchestration failed", item_id)
    for item_id, error in report.errors.items():
        logger.error("could not examine %s: %s", item_id, error)
    for error in report.errors.values():
        raise error


async def start_again(
    client: df.DurableOrchestrationClient,
    settings: Settings,
    target: Run | Cycle | Backfill,
    instance_id: str,
    now: datetime,
) -> None:
    """Start a new instance of a run, a cycle or a backfill. A run keeps its deadline."""
    if isinstance(target, Cycle):
        cycle = {"cycle_id": target.cycle_id, "tick": target.tick}
        await call_task_hub(client.start_new("export_cycle", instance_id, cycle))
        return
    if isinstance(target, Backfill):
        backfill = create_backfill_request(target)
        await call_task_hub(client.start_new("backfill", instance_id, backfill))
        return
    request: RunRequest = {
        "run_id": target.run_id,
        "key": target.key,
        "force": target.force,
        "limits": {**run_limits(settings, now), "deadline": target.deadline},
        "requested_by": target.requested_by,
        "reason": target.reason,
        "cycle_id": target.cycle_id,
        "retry_of": target.retry_of,
    }
    await call_task_hub(client.start_new("export_run", instance_id, request))
