"""The URLs of the management API: the JSON of a durable client parameter, and the links in its answers."""

import json
from urllib.parse import quote

WEBHOOKS = "/runtime/webhooks/durabletask"
RPC = "/durabletask"
KEY = "local"  # keys protect nothing here; any value, or none, is accepted
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
    """`instance_id` is written into the URLs as it is."""
    query = f"taskHub={hub}&connection={connection}&code={KEY}"
    base = f"{origin}{WEBHOOKS}/instances/{instance_id}"
    return {"id": instance_id} | {
        name: f"{base}{path}{'&' if '?' in path else '?'}{query}" for name, path in _OPERATIONS
    }


def check_status_links(origin: str, instance_id: str, hub: str, connection: str) -> dict[str, str]:
    """The body of a 202 answer: no rewind link, and the id escaped in the URLs."""
    links = management_urls(origin, quote(instance_id, safe=":@!$&'()*+,;=~"), hub, connection)
    del links["rewindPostUri"]
    return links | {"id": instance_id}


def client_binding_json(base_url: str, hub: str, connection: str) -> str:
    """The value of a parameter bound with `durable_client_input`."""
    webhooks = f"{base_url}{WEBHOOKS}"
    start = f"{webhooks}/orchestrators/{{functionName}}[/{{instanceId}}]"
    return json.dumps(
        {
            "taskHubName": hub,
            "connectionName": None,
            "creationUrls": {
                "createNewInstancePostUri": f"{start}?code={KEY}",
                "createAndWaitOnNewInstancePostUri": f"{start}?timeout={{timeoutInSeconds}}&pollingInterval={{intervalInSeconds}}&code={KEY}",
            },
            "managementUrls": management_urls(base_url, "INSTANCEID", hub, connection),
            "baseUrl": webhooks,
            "requiredQueryStringParameters": f"code={KEY}",
            "rpcBaseUrl": f"{base_url}{RPC}/",
        }
    )
