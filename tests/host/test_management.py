"""The management API: responses that the scenarios do not cover."""

import json
from concurrent.futures import ThreadPoolExecutor

from local.host import LocalHost
from local.host.client_binding import client_binding_json

from .sample_host import MANAGEMENT_PATH, HostClient


def test_start_returns_management_urls(host: LocalHost, client: HostClient) -> None:
    response = client.manage("POST", "orchestrators/CHAIN/m-1", "2")
    assert response.status == 202 and response.headers["retry-after"] == "10"
    links = response.json()
    assert list(links) == [
        "id",
        "statusQueryGetUri",
        "sendEventPostUri",
        "terminatePostUri",
        "purgeHistoryDeleteUri",
        "restartPostUri",
        "suspendPostUri",
        "resumePostUri",
    ]
    assert response.headers["location"] == links["statusQueryGetUri"]
    assert links["terminatePostUri"] == (
        f"{host.base_url}/runtime/webhooks/durabletask/instances/m-1/terminate"
        "?reason={text}&taskHub=Sample&connection=AzureWebJobsStorage&code=local"
    )
    assert host.wait("m-1")["name"] == "CHAIN"


def test_start_with_invalid_request_is_rejected(client: HostClient) -> None:
    assert client.manage("GET", "orchestrators/chain").status == 404
    assert client.manage("PUT", "orchestrators/chain/x", "1").status == 404
    assert (
        client.manage("POST", "orchestrators/chain/x", b"{not json").json()["Message"]
        == "Invalid JSON content"
    )
    for bad_id in ("@x", "a%23b", "a%5Cb", "a%3Fb", "a%2Fb", "a%07b"):
        assert client.manage("POST", f"orchestrators/chain/{bad_id}").status == 400, bad_id
    assert client.manage("POST", "nowhere").status == 404
    assert client.manage("GET", "instances/a/b").status == 404


def test_start_with_timeout_returns_final_status(host: LocalHost, client: HostClient) -> None:
    assert client.manage("POST", "orchestrators/chain?timeout=8&pollingInterval=1", "2").json() == 2
    failed = client.manage("POST", "orchestrators/raises?timeout=8&pollingInterval=1")
    assert (failed.status, failed.json()["runtimeStatus"]) == (200, "Failed")
    assert (
        client.manage("POST", "orchestrators/race?timeout=0.1&pollingInterval=1", '{"s": 5}').status
        == 202
    )


def test_raise_event_with_invalid_request_is_rejected(host: LocalHost, client: HostClient) -> None:
    instance_id = client.start_orchestration("race", {"s": 500})
    path = f"instances/{instance_id}/raiseEvent/go"
    response = client.manage("POST", path, b"{not", {"Content-Type": "application/json"})
    assert response.json()["Message"] == "Invalid JSON content"
    response = client.manage("POST", path, b"1", {"Content-Type": "text/plain"})
    assert response.json() == {"Message": "Only application/json request content is supported"}
    assert client.manage("POST", path).status == 400
    assert client.raise_event("unknown", "go", 1) == 404
    host.terminate(instance_id, '{"a": 1}')
    assert host.wait(instance_id)["output"] == {"a": 1}
    assert client.raise_event(instance_id, "go", 1) == 410


def test_get_status_returns_state_and_headers(host: LocalHost, client: HostClient) -> None:
    instance_id = client.start_orchestration("race", {"s": 5})
    running = client.manage("GET", f"instances/{instance_id}")
    assert (
        running.status == 202
        and running.headers["retry-after"] == "5"
        and running.headers["location"].endswith(f"/instances/{instance_id}")
    )
    host.wait(instance_id)
    body = client.get_status(instance_id)
    assert list(body) == [
        "name",
        "instanceId",
        "runtimeStatus",
        "input",
        "customStatus",
        "output",
        "createdTime",
        "lastUpdatedTime",
    ]
    assert body["input"] == '{"s": 5}'
    assert client.get_status(instance_id, "?showInput=false")["input"] is None
    failed = client.start_orchestration("raises")
    host.wait(failed)
    assert client.manage("GET", f"instances/{failed}").status == 200
    assert (
        client.manage("GET", f"instances/{failed}?returnInternalServerErrorOnFailure=true").status
        == 500
    )


def test_get_status_during_start_and_purge_is_readable_by_sdk(host: LocalHost) -> None:
    """The instance is started and purged repeatedly while the SDK reads its status."""

    def start_and_purge() -> None:
        for _ in range(40):
            host.wait(host.start_orchestration("chain", 3, "polled"))
            assert host.request("DELETE", f"{MANAGEMENT_PATH}/instances/polled").status == 200

    with ThreadPoolExecutor(1) as pool:
        purging, statuses = pool.submit(start_and_purge), set()
        while not purging.done():
            response = host.request("GET", "/api/sdk-runtime-status/polled")
            assert response.status == 200
            statuses.add(response.text)
        purging.result()
    assert statuses <= {"unknown", "Pending", "Running", "Completed"}


def test_get_status_with_empty_id_lists_all_instances(host: LocalHost, client: HostClient) -> None:
    """As in Azure, the SDK requests `instances/` and cannot parse the list that it receives."""
    assert isinstance(client.manage("GET", "instances/").json(), list)
    assert host.request("GET", "/api/sdk-runtime-status/").status == 500


def test_get_status_with_history_returns_condensed_events(
    host: LocalHost, client: HostClient
) -> None:
    instance_id = client.start_orchestration("chain", 2)
    host.wait(instance_id)
    events = client.get_status(instance_id, "?showHistory=true&showHistoryOutput=true")[
        "historyEvents"
    ]
    assert [event["EventType"] for event in events] == [
        "ExecutionStarted",
        "TaskCompleted",
        "TaskCompleted",
        "ExecutionCompleted",
    ]
    assert list(events[0]) == [
        "EventType",
        "Input",
        "Correlation",
        "ParentTraceContext",
        "ScheduledStartTime",
        "Generation",
        "Timestamp",
        "FunctionName",
    ]
    assert (
        events[1]["Result"] == 1
        and events[1]["FunctionName"] == "inc"
        and events[1]["ScheduledTime"].endswith("+00:00")
    )
    assert events[3]["OrchestrationStatus"] == "Completed" and events[3]["Result"] == 2
    assert "Result" not in client.get_status(instance_id, "?showHistory=true")["historyEvents"][1]
    race_id = client.start_orchestration("race", {"s": 5})
    host.wait(race_id)
    assert [
        event["EventType"]
        for event in client.get_status(race_id, "?showHistory=true")["historyEvents"]
    ] == ["ExecutionStarted", "TimerCreated", "TimerFired", "ExecutionCompleted"]


def test_list_instances_filters_and_paginates(host: LocalHost, client: HostClient) -> None:
    for n in range(5):
        host.wait(host.start_orchestration("chain" if n < 3 else "raises", 1, f"list-{n}"))
    path = "instances?instanceIdPrefix=list-"

    def ids(query: str, headers: dict[str, str] | None = None) -> list[str]:
        return [
            item["instanceId"]
            for item in client.manage("GET", path + query, headers=headers).json()
        ]

    all_ids = [f"list-{n}" for n in range(5)]
    assert ids("") == all_ids
    assert client.manage("GET", path).headers["x-ms-continuation-token"] == ""
    first_page = client.manage("GET", f"{path}&top=2")
    assert [item["instanceId"] for item in first_page.json()] == all_ids[:2]
    token_header = {"x-ms-continuation-token": first_page.headers["x-ms-continuation-token"]}
    assert ids("&top=2", token_header) == all_ids[2:4]
    assert ids("&runtimeStatus=Failed") == all_ids[3:]
    assert ids("&runtimeStatus=Failed,Completed") == all_ids
    assert ids("&runtimeStatus=Invalid") == ids("&createdTimeFrom=invalid") == all_ids
    assert ids("&createdTimeFrom=2025-01-01T00%3A00%3A00Z") == all_ids
    assert ids("&createdTimeTo=2025-01-01T00:00:00+00:00") == []
    assert client.manage("GET", f"{path}&top=0").status == 400 and ids("&top=abc") == all_ids
    assert client.manage("GET", path).json()[0]["input"] == "1"
    assert client.manage("GET", f"{path}&showInput=false").json()[0]["input"] is None


def test_purge_by_filter_deletes_only_ended_instances(host: LocalHost, client: HostClient) -> None:
    host.wait(host.start_orchestration("chain", 1, "old-1"))
    running_id = host.start_orchestration("race", {"s": 500}, "old-running")
    response = client.manage("DELETE", "instances")
    assert (response.status, response.json()) == (
        400,
        "Please provide value for 'createdTimeFrom' parameter.",
    )
    assert (
        client.manage("DELETE", "instances/?createdTimeFrom=2025-01-01T00:00:00Z").json()[
            "instancesDeleted"
        ]
        > 0
    )
    assert host.status("old-1") is None and host.status(running_id) is not None
    assert client.manage("DELETE", "instances/?createdTimeFrom=2025-01-01T00:00:00Z").status == 404
    host.terminate(running_id)
    assert host.wait(running_id)["output"] is None


def test_client_binding_matches_azure() -> None:
    binding = json.loads(client_binding_json("http://127.0.0.1:1", "Hub", "AzureWebJobsStorage"))
    assert list(binding) == [
        "taskHubName",
        "connectionName",
        "creationUrls",
        "managementUrls",
        "baseUrl",
        "requiredQueryStringParameters",
        "rpcBaseUrl",
    ]
    assert binding["rpcBaseUrl"] == "http://127.0.0.1:1/durabletask/"
    assert binding["managementUrls"]["rewindPostUri"] == (
        "http://127.0.0.1:1/runtime/webhooks/durabletask/instances/INSTANCEID/rewind"
        "?reason={text}&taskHub=Hub&connection=AzureWebJobsStorage&code=local"
    )
