"""`make doctor`: the doctor's report in the terminal, of the settings in the environment or of the local stack.

With LANDING_STORAGE, or its service URIs, in the environment: of those settings, from this process. Else of the stack
that `make run` keeps up; else of one that is started for it and ends with it. Exit code 1 where a check failed.
"""

import asyncio
import os
import sys
from typing import Any

from rich.console import Console

from local.azurite import ROOT
from local.stack import NEVER_SCHEDULE, RUN_STATE, StackError, exit_on_signals, run_stack
from partner_billing.address import Address, find
from partner_billing.api import Api
from partner_billing.failures import Failure
from partner_billing.shown import checks
from shared.preflight.deployment import build_invalid_settings_report
from shared.redaction import configure_library_logging
from shared.services import Services
from shared.settings import InvalidSettingsError, load_settings

STATE = ROOT / ".state" / "doctor"
CHOSEN = ("LANDING_STORAGE", "LANDING_STORAGE__blobServiceUri")


def main() -> int:
    console = Console() if sys.stdout.isatty() else Console(width=160)
    exit_on_signals()
    try:
        report = look(console)
    except StackError as failed:
        print(failed, file=sys.stderr)
        return failed.exit_code
    except Failure as failed:
        print(f"{failed.title}\n-> {failed.remedy}", file=sys.stderr)
        return failed.exit_code
    except KeyboardInterrupt:
        return 130
    checks(console, report)
    return 1 if report["status"] == "fail" else 0


def look(console: Console) -> dict[str, Any]:
    if any(os.environ.get(name, "").strip() for name in CHOSEN):
        console.print("Of the settings in the environment, from this machine:\n", highlight=False)
        return asyncio.run(of_environment())
    if (RUN_STATE / "app-url").exists():
        address = find(None, {}, ROOT)
        console.print(f"Of the stack at {address.url}:\n", highlight=False)
        return asked(address)
    console.print(
        "No settings in the environment, and no stack is up: of one that is started for it.\n",
        highlight=False,
    )
    with run_stack(STATE, fresh=True, settings={"EXPORT_SCHEDULE": NEVER_SCHEDULE}) as stack:
        return asked(Address(stack.app_url))


async def of_environment() -> dict[str, Any]:
    configure_library_logging()
    try:
        app = Services(load_settings())
    except InvalidSettingsError as invalid:
        return build_invalid_settings_report(invalid.faults)
    try:
        return await app.preflight.run()
    finally:
        await app.close()


def asked(address: Address) -> dict[str, Any]:
    with Api(address) as api:
        return api.get("preflight").body


if __name__ == "__main__":
    sys.exit(main())
