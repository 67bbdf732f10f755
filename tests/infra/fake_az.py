"""A fake Azure CLI for infra/graph/permission.py.

It supports `az account show` and `az rest`, and stores the directory in the JSON file that
`AZ_STATE` specifies. The tests put it on PATH as `az`. If `is_denied` is set in the file, every
write fails as it does for a user without the required role.
"""

import json
import os
import re
import sys
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


def get_option(name: str) -> str | None:
    """Return the value of a command-line option."""
    arguments = sys.argv[1:]
    return arguments[arguments.index(name) + 1] if name in arguments else None


def exit_with_error(status: str, code: str, message: str) -> None:
    """Exit with an error in the format of the Azure CLI."""
    sys.exit(f"ERROR: {status}({json.dumps({'error': {'code': code, 'message': message}})})")


def send_request(state: dict[str, Any], method: str, url: str, body: dict[str, str]) -> object:
    """Apply a request to the directory and return the response body."""
    parts = urlsplit(url)
    assert parts.netloc == "graph.microsoft.com", url
    path = [part for part in parts.path.removeprefix("/v1.0/").split("/") if part]
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    principals = state["principals"]
    if method == "get" and path == ["servicePrincipals"]:
        match = re.fullmatch(r"appId eq '(.+)'", query["$filter"])
        assert match
        return {"value": [item for item in principals.values() if item["appId"] == match[1]]}
    if method != "get" and state.get("is_denied"):
        exit_with_error(
            "Forbidden",
            "Authorization_RequestDenied",
            "Insufficient privileges to complete the operation.",
        )
    if method == "post" and path == ["servicePrincipals"]:
        principal = {"id": str(uuid.uuid4()), "appId": body["appId"], "appRoles": []}
        principals[principal["id"]] = principal
        return principal
    if path[1] not in principals:
        exit_with_error(
            "Not Found", "Request_ResourceNotFound", f"Resource '{path[1]}' does not exist"
        )
    if method == "get" and len(path) == 2:
        return principals[path[1]]
    grants: list[dict[str, str]] = state["grants"].setdefault(path[1], [])
    if method == "get":
        if "$skiptoken" in query:
            return {"value": grants[1:]}
        next_link = f"https://graph.microsoft.com/v1.0/{'/'.join(path)}?$skiptoken=1"
        return {"value": grants[:1]} | ({"@odata.nextLink": next_link} if grants[1:] else {})
    if method == "post":
        if any(
            grant["appRoleId"] == body["appRoleId"] and grant["resourceId"] == body["resourceId"]
            for grant in grants
        ):
            exit_with_error(
                "Bad Request",
                "Request_BadRequest",
                "Permission being assigned already exists on the object",
            )
        grants.append({"id": uuid.uuid4().hex, **body})
        return grants[-1]
    assert method == "delete"
    assert len(path) == 4
    state["grants"][path[1]] = [grant for grant in grants if grant["id"] != path[3]]
    return None


def main() -> None:
    """Run the command."""
    state_file = Path(os.environ["AZ_STATE"])
    state = json.loads(state_file.read_text(encoding="utf-8"))
    if sys.argv[1:3] == ["account", "show"]:
        print(json.dumps({"tenantId": state["tenant"]}))
        return
    method, url = get_option("--method") or "", get_option("--url") or ""
    body_file = get_option("--body")
    body = (
        json.loads(Path(body_file.removeprefix("@")).read_text(encoding="utf-8"))
        if body_file
        else {}
    )
    state["calls"].append(method)
    try:
        response = send_request(state, method, url, body)
    finally:
        state_file.write_text(json.dumps(state), encoding="utf-8")
    if response is not None:
        print(json.dumps(response))


if __name__ == "__main__":
    main()
