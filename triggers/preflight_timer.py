"""The daily preflight, which reports missing permissions before the next cycle needs them."""

import logging

import azure.durable_functions as df
import azure.functions as func

from shared.redaction import sanitize_exceptions
from shared.services import services
from shared.telemetry import emit_event

bp = df.Blueprint()
logger = logging.getLogger("partner_billing.preflight")


@bp.timer_trigger(schedule="0 30 3 * * *", arg_name="timer", use_monitor=True, run_on_startup=False)
@sanitize_exceptions
async def run_daily_preflight(timer: func.TimerRequest) -> None:
    """Run the preflight, log the failed checks and emit the event `preflight`.

    Idempotent: the ID of the event contains the day.
    """
    app = services()
    report = await app.preflight.run()
    failed = [check for check in report["checks"] if check["status"] == "fail"]
    warned = [check for check in report["checks"] if check["status"] == "warn"]
    for level, checks in ((logging.ERROR, failed), (logging.WARNING, warned)):
        for check in checks:
            logger.log(
                level,
                "preflight %s: %s. %s %s",
                check["name"],
                check["code"],
                check["cause"],
                check["remedy"],
            )
    emit_event(
        "preflight",
        f"preflight/{app.clock.now():%Y%m%d}",
        status=report["status"],
        checks=len(report["checks"]),
        failed=",".join(check["name"] for check in failed),
        warned=",".join(check["name"] for check in warned),
        codes=",".join(sorted({check["code"] for check in failed + warned})),
    )
