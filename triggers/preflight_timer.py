"""The doctor's daily round: a right that was taken away is known before the night's exports need it."""

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
    """One event `preflight` a day. Idempotent: no check leaves anything, and the event's id is the day."""
    app = services()
    report = await app.preflight.run()
    found = {
        kind: [check for check in report["checks"] if check["status"] == kind]
        for kind in ("fail", "warn")
    }
    for check in found["fail"] + found["warn"]:
        logger.log(
            logging.ERROR if check["status"] == "fail" else logging.WARNING,
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
        failed=",".join(check["name"] for check in found["fail"]),
        warned=",".join(check["name"] for check in found["warn"]),
        codes=",".join(sorted({check["code"] for check in found["fail"] + found["warn"]})),
    )
