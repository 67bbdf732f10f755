"""The URLs of the management API in durable client bindings and in HTTP responses."""

import json
from urllib.parse import quote

WEBHOOKS = "/runtime/webhooks/durabletask"
RPC = "/durabletask"
KEY = "local"  # the local host does not check keys
_OPERATIONS = (
    ("statusQueryGetUri", ""),
    ("sendEventPostUri", "/raiseEvent/{eventName}"),
    ("terminatePostUri", "/terminate?reason={text}"),
    ("rewindPostUri", "/rewind?reason={text}"),
    ("purgeHistoryDeleteUri", ""),
    ("restartPostUri", "/restart"),
    ("suspendPostUri", "/suspend?reason={text}"),
    ("resumePostUri", "/resume?reason={text}"),
)


def management_urls(origin: str, instance_id: str, hub: str, connection: str) -> dict[str, str]:
    """Return the management URLs of an instance, keyed by their names in the binding.

    The function does not escape `instance_id`.
    """
    query = f"taskHub={hub}&connection={connection}&code={KEY}"
    base = f"{origin}{WEBHOOKS}/instances/{instance_id}"
    return {"id": instance_id} | {
        name: f"{base}{path}{'&' if '?' in path else '?'}{query}" for name, path in _OPERATIONS
    }


def check_status_links(origin: str, instance_id: str, hub: str, connection: str) -> dict[str, str]:
    """Return the body of a 202 response, with an escaped ID and without a rewind link."""
    links = management_urls(origin, quote(instance_id, safe=":@!$&'()*+,;=~"), hub, connection)
    del links["rewindPostUri"]
    return links | {"id": instance_id}


def client_binding_json(base_url: str, hub: str, connection: str) -> str:
    """Return the JSON value of a parameter that is bound with `durable_client_input`."""
    webhooks = f"{base_url}{WEBHOOKS}"
    start = f"{webhooks}/orchestrators/{{functionName}}[/{{instanceId}}]"
    wait_query = "timeout={timeoutInSeconds}&pollingInterval={intervalInSeconds}"
    return json.dumps(
        {
            "taskHubName": hub,
            "connectionName": None,
            "creationUrls": {
                "createNewInstancePostUri": f"{start}?code={KEY}",
                "createAndWaitOnNewInstancePostUri": f"{start}?{wait_query}&code={KEY}",
            },
            "managementUrls": management_urls(base_url, "INSTANCEID", hub, connection),
            "baseUrl": webhooks,
            "requiredQueryStringParameters": f"code={KEY}",
            "rpcBaseUrl": f"{base_url}{RPC}/",
        }
    )
