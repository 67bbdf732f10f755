"""`make doctor`: prints the preflight report of an app or of the local stack.

If the environment contains LANDING_STORAGE or its service URIs, the report describes the settings
in the environment. Otherwise, it describes the stack of `make run` or, if that stack is not
running, a temporary stack. The exit status is 1 if a check failed.
"""

import asyncio
import os
import sys
from typing import Any

from rich.console import Console

from local.azurite import ROOT
from local.stack import NEVER_SCHEDULE, RUN_STATE, StackError, exit_on_signals, run_stack
from partner_billing.address import Address, find_address
from partner_billing.api import Api
from partner_billing.errors import CommandError
from partner_billing.output import print_checks
from shared.preflight.deployment import build_invalid_settings_report
from shared.redaction import configure_library_logging
from shared.services import Services
from shared.settings import InvalidSettingsError, load_settings

STATE = ROOT / ".state" / "doctor"
LANDING_SETTINGS = ("LANDING_STORAGE", "LANDING_STORAGE__blobServiceUri")


def main() -> int:
    """Print the report and return the exit status."""
    console = Console() if sys.stdout.isatty() else Console(width=160)
    exit_on_signals()
    try:
        report = get_report(console)
    except StackError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except CommandError as error:
        print(f"{error.title}\n-> {error.remedy}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    print_checks(console, report)
    return 1 if report["status"] == "fail" else 0


def get_report(console: Console) -> dict[str, Any]:
    """Return the report, and print which app it describes."""
    if any(os.environ.get(name, "").strip() for name in LANDING_SETTINGS):
        console.print("Checking the settings in the environment.\n", highlight=False)
        return asyncio.run(check_environment())
    if (RUN_STATE / "app-url").exists():
        address = find_address(None, {}, ROOT)
        console.print(f"Checking the stack at {address.url}.\n", highlight=False)
        return request_report(address)
    console.print(
        "The environment contains no settings and no stack is running. Checking a temporary "
        "stack.\n",
        highlight=False,
    )
    with run_stack(STATE, fresh=True, settings={"EXPORT_SCHEDULE": NEVER_SCHEDULE}) as stack:
        return request_report(Address(stack.app_url))


async def check_environment() -> dict[str, Any]:
    """Run the preflight in this process with the settings of the environment."""
    configure_library_logging()
    try:
        services = Services(load_settings())
    except InvalidSettingsError as error:
        return build_invalid_settings_report(error.faults)
    try:
        return await services.preflight.run()
    finally:
        await services.close()


def request_report(address: Address) -> dict[str, Any]:
    """Request the report from a running app."""
    with Api(address) as api:
        return api.get("preflight").body


if __name__ == "__main__":
    sys.exit(main())
