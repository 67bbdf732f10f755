"""The Azure CLI as far as infra/graph needs it, over a directory that is one JSON file. It takes and says what `az` does.

Put on PATH as `az`; the file is named by AZ_STATE. `denied` in it makes every write end as for somebody without the role.
"""

import json
import os
import re
import sys
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


def option(name: str) -> str | None:
    arguments = sys.argv[1:]
    return arguments[arguments.index(name) + 1] if name in arguments else None


def refuse(status: str, code: str, message: str) -> None:
    sys.exit(f"ERROR: {status}({json.dumps({'error': {'code': code, 'message': message}})})")


def answer(state: dict[str, Any], method: str, url: str, body: dict[str, str]) -> object:
    parts = urlsplit(url)
    assert parts.netloc == "graph.microsoft.com", url
    path = [part for part in parts.path.removeprefix("/v1.0/").split("/") if part]
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    principals = state["principals"]
    if method == "get" and path == ["servicePrincipals"]:
        match = re.fullmatch(r"appId eq '(.+)'", query["$filter"])
        assert match
        return {"value": [one for one in principals.values() if one["appId"] == match[1]]}
    if method != "get" and state.get("denied"):
        refuse(
            "Forbidden",
            "Authorization_RequestDenied",
            "Insufficient privileges to complete the operation.",
        )
    if method == "post" and path == ["servicePrincipals"]:
        new = {"id": str(uuid.uuid4()), "appId": body["appId"], "appRoles": []}
        principals[new["id"]] = new
        return new
    if path[1] not in principals:
        refuse("Not Found", "Request_ResourceNotFound", f"Resource '{path[1]}' does not exist")
    if method == "get" and len(path) == 2:
        return principals[path[1]]
    grants: list[dict[str, str]] = state["grants"].setdefault(path[1], [])
    if method == "get":  # two pages, as long lists have
        first = {"value": grants[:1]}
        more = f"https://graph.microsoft.com/v1.0/{'/'.join(path)}?$skiptoken=1"
        return (
            {"value": grants[1:]}
            if "$skiptoken" in query
            else first | ({"@odata.nextLink": more} if grants[1:] else {})
        )
    if method == "post":
        if any(
            grant["appRoleId"] == body["appRoleId"] and grant["resourceId"] == body["resourceId"]
            for grant in grants
        ):
            refuse(
                "Bad Request",
                "Request_BadRequest",
                "Permission being assigned already exists on the object",
            )
        grants.append({"id": uuid.uuid4().hex, **body})
        return grants[-1]
    assert method == "delete" and len(path) == 4
    state["grants"][path[1]] = [grant for grant in grants if grant["id"] != path[3]]
    return None


def main() -> None:
    file_of_state = Path(os.environ["AZ_STATE"])
    state = json.loads(file_of_state.read_text(encoding="utf-8"))
    if sys.argv[1:3] == ["account", "show"]:
        print(json.dumps({"tenantId": state["tenant"]}))
        return
    method, url = option("--method") or "", option("--url") or ""
    file = option("--body")
    body = json.loads(Path(file.removeprefix("@")).read_text(encoding="utf-8")) if file else {}
    state["calls"].append(method)
    try:
        said = answer(state, method, url, body)
    finally:
        file_of_state.write_text(json.dumps(state), encoding="utf-8")
    if said is not None:
        print(json.dumps(said))


if __name__ == "__main__":
    main()
