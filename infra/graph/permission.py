"""Grants PartnerBilling.Read.All of Microsoft Graph to one service principal, shows it, or takes it away, by `az rest`.

    python infra/graph/permission.py grant  --tenant TENANT (--principal-id ID | --client-id ID) [--what-if]
    python infra/graph/permission.py show   --tenant TENANT (--principal-id ID | --client-id ID)
    python infra/graph/permission.py remove --tenant TENANT (--principal-id ID | --client-id ID) [--what-if]

Run it signed in (`az login --tenant TENANT --allow-no-subscriptions`) as Privileged Role Administrator of the partner
tenant. A second run changes nothing. `--client-id` takes an app of another tenant in first, where it is not known yet.
It needs Python 3 and the Azure CLI, nothing of this project. Exit codes: 0 it is as asked, 1 it is not, 2 bad arguments.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

GRAPH = "https://graph.microsoft.com/v1.0"
MICROSOFT_GRAPH = "00000003-0000-0000-c000-000000000000"
PERMISSION = "PartnerBilling.Read.All"
GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Refused(Exception):
    """What Azure said no to, and what to do."""


def az(*arguments: str) -> str:
    """The Azure CLI's answer. Raises Refused with its own words."""
    program = shutil.which("az")
    if program is None:
        raise Refused("The Azure CLI is not here: install it, or use Azure Cloud Shell.")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise Refused(done.stderr.strip() or f"az ended with {done.returncode}")
    return done.stdout


def rest(method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any]:
    """One call of Microsoft Graph. The body goes by a file, which every shell leaves alone."""
    arguments = ["rest", "--method", method, "--url", f"{GRAPH}{path}", "--output", "json"]
    if body is None:
        return dict(json.loads(az(*arguments) or "{}"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "body.json")
        file.write_text(json.dumps(body), encoding="utf-8")
        return dict(
            json.loads(
                az(*arguments, "--headers", "Content-Type=application/json", "--body", f"@{file}")
                or "{}"
            )
        )


def items(path: str) -> list[dict[str, Any]]:
    """All pages of a list."""
    found: list[dict[str, Any]] = []
    while path:
        page = rest("get", path)
        found += page.get("value", [])
        path = str(page.get("@odata.nextLink", "")).removeprefix(GRAPH)
    return found


def by_app(client_id: str) -> dict[str, Any] | None:
    """The service principal of an app in this tenant; None where the app is not known here."""
    found = items(f"/servicePrincipals?$filter=appId eq '{client_id}'&$select=id,displayName")
    return found[0] if found else None


def permission_of_graph() -> tuple[str, str]:
    """Ids of Microsoft Graph in this tenant and of the permission, looked up by its name."""
    found = items(f"/servicePrincipals?$filter=appId eq '{MICROSOFT_GRAPH}'&$select=id,appRoles")
    roles = [
        role["id"] for graph in found for role in graph["appRoles"] if role["value"] == PERMISSION
    ]
    if not roles:
        raise Refused(f"Microsoft Graph has no application permission {PERMISSION} in this tenant.")
    return str(found[0]["id"]), str(roles[0])


def principal_of(arguments: argparse.Namespace) -> str | None:
    """The object id of the service principal; None where it would have to be made first and nothing may be changed."""
    if arguments.principal_id:
        return str(rest("get", f"/servicePrincipals/{arguments.principal_id}?$select=id")["id"])
    known = by_app(arguments.client_id)
    if known:
        return str(known["id"])
    if arguments.action != "grant" or arguments.what_if:
        print(
            f"app {arguments.client_id} is not known in this tenant"
            + (": it would be taken in" if arguments.action == "grant" else "")
        )
        return None
    print(f"taking app {arguments.client_id} into this tenant")
    return str(rest("post", "/servicePrincipals", {"appId": arguments.client_id})["id"])


def run(arguments: argparse.Namespace) -> int:
    tenant = json.loads(az("account", "show", "--output", "json"))["tenantId"]
    if tenant.lower() != arguments.tenant.lower():
        raise Refused(
            f"You are signed in to tenant {tenant}: az login --tenant {arguments.tenant} --allow-no-subscriptions"
        )
    graph, role = permission_of_graph()
    principal = principal_of(arguments)
    if principal is None:
        if arguments.action == "grant":
            print(f"would grant {PERMISSION} to it; nothing was changed")
        return 0 if arguments.action != "show" else 1
    grants = [
        grant["id"]
        for grant in items(f"/servicePrincipals/{principal}/appRoleAssignments")
        if grant["appRoleId"] == role and grant["resourceId"] == graph
    ]
    has, wanted = bool(grants), arguments.action == "grant"
    if arguments.action == "show" or has == wanted:
        print(f"{principal} {'has' if has else 'does not have'} {PERMISSION}")
        return 0 if has or arguments.action != "show" else 1
    if arguments.what_if:
        print(
            f"would {'grant' if wanted else 'take away'} {PERMISSION}, service principal {principal}; nothing was changed"
        )
        return 0
    if wanted:
        rest(
            "post",
            f"/servicePrincipals/{principal}/appRoleAssignments",
            {"principalId": principal, "resourceId": graph, "appRoleId": role},
        )
    for grant in grants:
        rest("delete", f"/servicePrincipals/{principal}/appRoleAssignments/{grant}")
    print(
        f"{PERMISSION} was {'granted to' if wanted else 'taken from'} {principal}; "
        "tokens that are out already stay as they are until they expire"
    )
    return 0


def guid(text: str) -> str:
    if not GUID.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a GUID")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="permission.py", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("action", choices=("grant", "show", "remove"))
    parser.add_argument("--tenant", type=guid, required=True, help="the partner's tenant")
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument(
        "--principal-id",
        type=guid,
        help="object id of the identity, where it is in the partner tenant",
    )
    who.add_argument(
        "--client-id", type=guid, help="client id of the app that stands for the identity"
    )
    parser.add_argument(
        "--what-if", action="store_true", help="say what would be done and change nothing"
    )
    arguments = parser.parse_args()
    try:
        return run(arguments)
    except Refused as error:
        print(error, file=sys.stderr)
        if re.search(r"Authorization_RequestDenied|Insufficient privileges", str(error)):
            print(
                "You need to be Privileged Role Administrator of the partner tenant.",
                file=sys.stderr,
            )
        return 1


if __name__ == "__main__":
    sys.exit(main())
