"""Hooks for `azd up`. They need only Python 3 and the azd environment.

preprovision   rejects invalid values before any resource is created
postprovision  prints the command that grants the Graph permission
prepackage     rejects a package without dependencies; `make package` builds the package to deploy
postdeploy     waits until the app is healthy
"""

import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping

GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
# The first start downloads the package, and role assignments take effect after a few minutes.
TIMEOUT_SECONDS = 600.0
INTERVAL_SECONDS = 10.0


def find_errors(values: Mapping[str, str]) -> Iterator[str]:
    """Yield a message for each invalid value in the azd environment."""
    if not GUID.fullmatch(values.get("PARTNER_TENANT_ID", "")):
        yield (
            "PARTNER_TENANT_ID must be the Entra tenant ID of the partner. "
            "Run: azd env set PARTNER_TENANT_ID <guid>"
        )
    for name in ("PARTNER_APP_CLIENT_ID", "PARTNER_CENTER_APP_CLIENT_ID"):
        if values.get(name) and not GUID.fullmatch(values[name]):
            yield (
                f"{name} must be the client ID of an app, or empty. Run: azd env set {name} <guid>"
            )
    if values.get("INVOICE_SOURCE", "partner_center") not in ("partner_center", "list", "none"):
        yield (
            "INVOICE_SOURCE must be partner_center, list or none. "
            "Run: azd env set INVOICE_SOURCE partner_center"
        )
    account = values.get("EXISTING_LANDING_ACCOUNT", "")
    if account and not ACCOUNT.fullmatch(account):
        yield (
            "EXISTING_LANDING_ACCOUNT must be the name of a storage account: "
            "3 to 24 lowercase letters and digits."
        )
    if values.get("EXISTING_LANDING_RESOURCE_GROUP") and not account:
        yield "EXISTING_LANDING_RESOURCE_GROUP requires EXISTING_LANDING_ACCOUNT, which is not set."


def preprovision(values: Mapping[str, str]) -> int:
    """Print all invalid values and return 1 if there are any."""
    errors = list(find_errors(values))
    for error in errors:
        print(error, file=sys.stderr)
    return 1 if errors else 0


def postprovision(values: Mapping[str, str]) -> int:
    """Print how an administrator grants the Graph permission."""
    tenant, principal = values["PARTNER_TENANT_ID"], values["identityPrincipalId"]
    client_id = values.get("PARTNER_APP_CLIENT_ID", "")
    target = f"--client-id {client_id}" if client_id else f"--principal-id {principal}"
    command = f"python infra/graph/permission.py grant --tenant {tenant} {target}"
    print(
        "The app requires a Microsoft Graph permission to read billing data. A Privileged Role\n"
        "Administrator of the partner tenant must grant it once:\n"
        f"  az login --tenant {tenant} --allow-no-subscriptions\n"
        f"  {command} --what-if\n"
        f"  {command}\n"
        "For cross-tenant setups and access to Partner Center, see infra/graph/README.md."
    )
    return 0


def prepackage(values: Mapping[str, str]) -> int:
    """Print how to deploy the package and return 1."""
    print(
        "The package that azd builds does not contain the dependencies. Run the following command "
        "instead:\n"
        "  make package && azd deploy app --from-package dist/partner-billing-export.zip",
        file=sys.stderr,
    )
    return 1


def postdeploy(
    values: Mapping[str, str],
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
    interval_seconds: float = INTERVAL_SECONDS,
) -> int:
    """Wait until the app is healthy and return 1 if it is not healthy in time."""
    app_url = values["functionAppUri"]
    health_url = f"{app_url}/api/health"
    status, deadline = "", time.monotonic() + timeout_seconds
    while not status.startswith("200"):
        if time.monotonic() >= deadline:
            print(
                f"The app is not healthy: {health_url} returned {status}. "
                "See docs/deploy.md, Troubleshooting.",
                file=sys.stderr,
            )
            return 1
        if status:
            time.sleep(interval_seconds)
        status = get_health_status(health_url)
    print(
        f"{app_url} is healthy. To check permissions and dependencies, run partner-billing doctor, "
        f"or call GET {app_url}/api/preflight with a function key."
    )
    return 0


def get_health_status(url: str) -> str:
    """Return the HTTP status of a URL, or the reason why there is no response.

    Raises:
        ValueError: The URL is neither an HTTPS URL nor a local one.
    """
    if not re.match(r"https://|http://127\.0\.0\.1[:/]", url):
        raise ValueError(f"The URL {url} must start with https:// or http://127.0.0.1.")
    try:
        with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310
            return str(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return f"{error.code} {error.reason}"
    except OSError as error:
        return f"no response ({type(error).__name__})"


HOOKS: dict[str, Callable[[Mapping[str, str]], int]] = {
    "preprovision": preprovision,
    "postprovision": postprovision,
    "prepackage": prepackage,
    "postdeploy": postdeploy,
}

if __name__ == "__main__":
    sys.exit(HOOKS[sys.argv[1]](os.environ))
