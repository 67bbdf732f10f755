"""Grants the Microsoft Graph permission PartnerBilling.Read.All to a service principal.

    python infra/graph/permission.py grant  --tenant TENANT TARGET [--what-if]
    python infra/graph/permission.py show   --tenant TENANT TARGET
    python infra/graph/permission.py remove --tenant TENANT TARGET [--what-if]

TARGET is `--principal-id ID` or `--client-id ID`. With `--client-id`, `grant` first adds the app
to the tenant if necessary. Sign in as a Privileged Role Administrator of the partner tenant
(`az login --tenant TENANT --allow-no-subscriptions`). The script is idempotent, and requires only
Python 3 and the Azure CLI.

Exit codes: 0 success, 1 error or (for `show`) permission not granted, 2 invalid arguments.
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


class PermissionScriptError(Exception):
    """The Azure CLI or Microsoft Graph rejected a request. The message states what to do."""


def run_az(*arguments: str) -> str:
    """Run the Azure CLI and return its output.

    Raises:
        PermissionScriptError: The CLI is not installed, or it failed. The error contains its
            message.
    """
    program = shutil.which("az")
    if program is None:
        raise PermissionScriptError(
            "The Azure CLI is not installed. Install it, or use Azure Cloud Shell."
        )
    process = subprocess.run(  # noqa: S603
        [program, *arguments], capture_output=True, text=True, check=False
    )
    if process.returncode:
        raise PermissionScriptError(
            process.stderr.strip() or f"The Azure CLI failed with exit code {process.returncode}."
        )
    return process.stdout


def send_request(method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any]:
    """Send a request to Microsoft Graph and return the response body.

    The request body is passed in a file, because quoting differs between shells.
    """
    arguments = ["rest", "--method", method, "--url", f"{GRAPH}{path}", "--output", "json"]
    if body is None:
        return dict(json.loads(run_az(*arguments) or "{}"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "body.json")
        file.write_text(json.dumps(body), encoding="utf-8")
        arguments += ["--headers", "Content-Type=application/json", "--body", f"@{file}"]
        return dict(json.loads(run_az(*arguments) or "{}"))


def list_items(path: str) -> list[dict[str, Any]]:
    """Return the items of all pages of a list."""
    items: list[dict[str, Any]] = []
    while path:
        page = send_request("get", path)
        items += page.get("value", [])
        path = str(page.get("@odata.nextLink", "")).removeprefix(GRAPH)
    return items


def find_principal(client_id: str) -> dict[str, Any] | None:
    """Return the service principal of an app, or None if this tenant does not have it."""
    principals = list_items(
        f"/servicePrincipals?$filter=appId eq '{client_id}'&$select=id,displayName"
    )
    return principals[0] if principals else None


def find_permission() -> tuple[str, str]:
    """Return the object ID of Microsoft Graph in this tenant and the ID of the permission.

    Raises:
        PermissionScriptError: Microsoft Graph does not have the permission.
    """
    principals = list_items(
        f"/servicePrincipals?$filter=appId eq '{MICROSOFT_GRAPH}'&$select=id,appRoles"
    )
    roles = [
        role["id"]
        for principal in principals
        for role in principal["appRoles"]
        if role["value"] == PERMISSION
    ]
    if not roles:
        raise PermissionScriptError(
            f"Microsoft Graph does not have the application permission {PERMISSION} in this "
            "tenant. Verify that the tenant is the partner tenant."
        )
    return str(principals[0]["id"]), str(roles[0])


def get_principal_id(arguments: argparse.Namespace) -> str | None:
    """Return the object ID of the service principal.

    `grant` adds an app to the tenant if necessary. Return None if the app is not in the tenant and
    must not be added.
    """
    if arguments.principal_id:
        return str(
            send_request("get", f"/servicePrincipals/{arguments.principal_id}?$select=id")["id"]
        )
    principal = find_principal(arguments.client_id)
    if principal:
        return str(principal["id"])
    if arguments.action != "grant":
        print(f"App {arguments.client_id} is not in this tenant.")
        return None
    if arguments.what_if:
        print(f"App {arguments.client_id} is not in this tenant and would be added.")
        return None
    print(f"Adding app {arguments.client_id} to this tenant.")
    created = send_request("post", "/servicePrincipals", {"appId": arguments.client_id})
    return str(created["id"])


def run(arguments: argparse.Namespace) -> int:
    """Run the action and return the exit code.

    Raises:
        PermissionScriptError: The action failed; the message states what to do.
    """
    tenant = json.loads(run_az("account", "show", "--output", "json"))["tenantId"]
    if tenant.lower() != arguments.tenant.lower():
        raise PermissionScriptError(
            f"You are signed in to tenant {tenant}. "
            f"Run: az login --tenant {arguments.tenant} --allow-no-subscriptions"
        )
    graph_id, role_id = find_permission()
    principal_id = get_principal_id(arguments)
    if principal_id is None:
        if arguments.action == "grant":
            print(f"Would grant {PERMISSION} to the app. Nothing was changed.")
        return 0 if arguments.action != "show" else 1
    assignments = f"/servicePrincipals/{principal_id}/appRoleAssignments"
    grant_ids = [
        grant["id"]
        for grant in list_items(assignments)
        if grant["appRoleId"] == role_id and grant["resourceId"] == graph_id
    ]
    is_granted, is_grant = bool(grant_ids), arguments.action == "grant"
    if arguments.action == "show" or is_granted == is_grant:
        print(f"{principal_id} {'has' if is_granted else 'does not have'} {PERMISSION}.")
        return 0 if is_granted or arguments.action != "show" else 1
    change = f"grant {PERMISSION} to" if is_grant else f"remove {PERMISSION} from"
    if arguments.what_if:
        print(f"Would {change} service principal {principal_id}. Nothing was changed.")
        return 0
    if is_grant:
        send_request(
            "post",
            assignments,
            {"principalId": principal_id, "resourceId": graph_id, "appRoleId": role_id},
        )
    for grant_id in grant_ids:
        send_request("delete", f"{assignments}/{grant_id}")
    result = f"Granted {PERMISSION} to" if is_grant else f"Removed {PERMISSION} from"
    print(f"{result} {principal_id}. Existing tokens remain unchanged until they expire.")
    return 0


def parse_guid(text: str) -> str:
    """Return the text if it is a GUID.

    Raises:
        argparse.ArgumentTypeError: The text is not a GUID.
    """
    if not GUID.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a GUID")
    return text


def main() -> int:
    """Parse the arguments, run the action and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="permission.py", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("action", choices=("grant", "show", "remove"))
    parser.add_argument("--tenant", type=parse_guid, required=True, help="tenant ID of the partner")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument(
        "--principal-id",
        type=parse_guid,
        help="object ID of the identity, if it is in the partner tenant",
    )
    target.add_argument(
        "--client-id", type=parse_guid, help="client ID of the app that trusts the identity"
    )
    parser.add_argument(
        "--what-if", action="store_true", help="print the changes without making them"
    )
    arguments = parser.parse_args()
    try:
        return run(arguments)
    except PermissionScriptError as error:
        print(error, file=sys.stderr)
        if re.search(r"Authorization_RequestDenied|Insufficient privileges", str(error)):
            print(
                "The Privileged Role Administrator role in the partner tenant is required.",
                file=sys.stderr,
            )
        return 1


if __name__ == "__main__":
    sys.exit(main())
