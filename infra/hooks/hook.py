"""What happens before and after the steps of `azd up`. Python 3 alone; everything comes from azd's environment.

preprovision   refuses values that the templates or the app would refuse, all at once and before anything is made
postprovision  says who must grant what, with the command
prepackage     refuses a zip without packages; `azd up` deploys the one that `make package` builds
postdeploy     waits until the app says that it is healthy
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
HEALTHY_SECONDS = (
    600.0  # a first start fetches the package, and new roles take some minutes to hold
)
PAUSE_SECONDS = 10.0


def faults(values: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with azd's environment, each with the command that mends it."""
    if not GUID.fullmatch(values.get("PARTNER_TENANT_ID", "")):
        yield "PARTNER_TENANT_ID must be the partner's Entra tenant id: azd env set PARTNER_TENANT_ID <guid>"
    for name in ("PARTNER_APP_CLIENT_ID", "PARTNER_CENTER_APP_CLIENT_ID"):
        if values.get(name) and not GUID.fullmatch(values[name]):
            yield f"{name} must be the client id of an app, or empty: azd env set {name} <guid>"
    if values.get("INVOICE_SOURCE", "partner_center") not in ("partner_center", "list", "none"):
        yield "INVOICE_SOURCE must be partner_center, list or none: azd env set INVOICE_SOURCE partner_center"
    account = values.get("EXISTING_LANDING_ACCOUNT", "")
    if account and not ACCOUNT.fullmatch(account):
        yield "EXISTING_LANDING_ACCOUNT must be the name of a storage account: 3 to 24 lower-case letters and digits"
    if values.get("EXISTING_LANDING_RESOURCE_GROUP") and not account:
        yield "EXISTING_LANDING_RESOURCE_GROUP goes with EXISTING_LANDING_ACCOUNT, which is not set"


def preprovision(values: Mapping[str, str]) -> int:
    found = list(faults(values))
    for fault in found:
        print(fault, file=sys.stderr)
    return 1 if found else 0


def postprovision(values: Mapping[str, str]) -> int:
    tenant, principal = values["PARTNER_TENANT_ID"], values["identityPrincipalId"]
    app = values.get("PARTNER_APP_CLIENT_ID", "")
    who = f"--client-id {app}" if app else f"--principal-id {principal}"
    print(
        "\n".join(
            (
                "The app may not read billing data yet. A Privileged Role Administrator of the partner tenant grants it, once:",
                f"  az login --tenant {tenant} --allow-no-subscriptions",
                f"  python infra/graph/permission.py grant --tenant {tenant} {who} --what-if",
                f"  python infra/graph/permission.py grant --tenant {tenant} {who}",
                "Which tenants there are, and access to Partner Center: infra/graph/README.md",
            )
        )
    )
    return 0


def prepackage(values: Mapping[str, str]) -> int:
    print(
        "azd would zip the sources without the packages they need. Instead:\n"
        "  make package && azd deploy app --from-package dist/partner-billing-export.zip",
        file=sys.stderr,
    )
    return 1


def postdeploy(
    values: Mapping[str, str], *, seconds: float = HEALTHY_SECONDS, pause: float = PAUSE_SECONDS
) -> int:
    uri = values["functionAppUri"]
    said, deadline = "", time.monotonic() + seconds
    while not said.startswith("200"):
        if time.monotonic() >= deadline:
            print(f"{uri}/api/health says {said}: docs/deploy.md, Troubleshooting", file=sys.stderr)
            return 1
        if said:
            time.sleep(pause)
        said = health(f"{uri}/api/health")
    print(
        f"{uri} is healthy. What it still lacks: partner-billing doctor, or GET {uri}/api/preflight with a function key"
    )
    return 0


def health(address: str) -> str:
    """The status, or why there is none."""
    if not re.match(r"https://|http://127\.0\.0\.1[:/]", address):
        raise ValueError("not an address of the app")
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:  # noqa: S310
            return str(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return f"{error.code} {error.reason}"
    except OSError as error:
        return f"nothing ({type(error).__name__})"


HOOKS: dict[str, Callable[[Mapping[str, str]], int]] = {
    "preprovision": preprovision,
    "postprovision": postprovision,
    "prepackage": prepackage,
    "postdeploy": postdeploy,
}

if __name__ == "__main__":
    sys.exit(HOOKS[sys.argv[1]](os.environ))
