"""The management API: answers that the scenarios do not look at."""

from concurrent.futures import ThreadPoolExecutor

from local.host import LocalHost
from local.host.client_binding import client_binding_json

from .conftest import MANAGEMENT, Web


def test_start_answers(host: LocalHost, web: Web) -> None:
    answer = web.manage("POST", "orchestrators/CHAIN/m-1", "2")
    assert answer.status == 202 and answer.headers["retry-after"] == "10"
    links = answer.json()
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
    assert answer.headers["location"] == links["statusQueryGetUri"]
    assert links["terminatePostUri"] == (
        f"{host.base_url}/runtime/webhooks/durabletask/instances/m-1/terminate?reason={{text}}&taskHub=Sample"
        "&connection=AzureWebJobsStorage&code=local"
    )
    assert host.wait("m-1")["name"] == "CHAIN"


def test_bad_starts(web: Web) -> None:
    assert web.manage("GET", "orchestrators/chain").status == 404
    assert web.manage("PUT", "orchestrators/chain/x", "1").status == 404
    assert (
        web.manage("POST", "orchestrators/chain/x", b"{not json").json()["Message"]
        == "Invalid JSON content"
    )
    for bad_id in ("@x", "a%23b", "a%5Cb", "a%3Fb", "a%2Fb", "a%07b"):
        assert web.manage("POST", f"orchestrators/chain/{bad_id}").status == 400, bad_id
    assert web.manage("POST", "nowhere").status == 404
    assert web.manage("GET", "instances/a/b").status == 404


def test_start_and_wait(host: LocalHost, web: Web) -> None:
    assert web.manage("POST", "orchestrators/chain?timeout=8&pollingInterval=1", "2").json() == 2
    failed = web.manage("POST", "orchestrators/raises?timeout=8&pollingInterval=1")
    assert (failed.status, failed.json()["runtimeStatus"]) == (200, "Failed")
    assert (
        web.manage("POST", "orchestrators/race?timeout=0.1&pollingInterval=1", '{"s": 5}').status
        == 202
    )


def test_bad_events(host: LocalHost, web: Web) -> None:
    iid = web.start("race", {"s": 500})
    path = f"instances/{iid}/raiseEvent/go"
    assert (
        web.manage("POST", path, b"{not", {"Content-Type": "application/json"}).json()["Message"]
        == "Invalid JSON content"
    )
    assert web.manage("POST", path, b"1", {"Content-Type": "text/plain"}).json() == {
        "Message": "Only application/json request content is supported"
    }
    assert web.manage("POST", path).status == 400
    assert web.event("nobody", "go", 1) == 404
    host.terminate(iid, '{"a": 1}')
    assert host.wait(iid)["output"] == {"a": 1}
    assert web.event(iid, "go", 1) == 410


def test_status_answers(host: LocalHost, web: Web) -> None:
    iid = web.start("race", {"s": 5})
    live = web.manage("GET", f"instances/{iid}")
    assert (
        live.status == 202
        and live.headers["retry-after"] == "5"
        and live.headers["location"].endswith(f"/instances/{iid}")
    )
    host.wait(iid)
    body = web.status(iid)
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
    assert web.status(iid, "?showInput=false")["input"] is None
    failed = web.start("raises")
    host.wait(failed)
    assert web.manage("GET", f"instances/{failed}").status == 200
    assert (
        web.manage("GET", f"instances/{failed}?returnInternalServerErrorOnFailure=true").status
        == 500
    )


def test_the_sdk_can_read_the_status_at_every_moment(host: LocalHost) -> None:
    """While an instance is started, runs, ends and is purged, over and over."""

    def start_and_purge() -> None:
        for _ in range(40):
            host.wait(host.start_orchestration("chain", 3, "watched"))
            assert host.request("DELETE", f"{MANAGEMENT}/instances/watched").status == 200

    with ThreadPoolExecutor(1) as pool:
        done, seen = pool.submit(start_and_purge), set()
        while not done.done():
            answer = host.request("GET", "/api/sdk-look/watched")
            assert answer.status == 200
            seen.add(answer.text)
        done.result()
    assert seen <= {"unknown", "Pending", "Running", "Completed"}


def test_an_empty_id_means_all_instances(host: LocalHost, web: Web) -> None:
    """As in Azure: the SDK asks for `instances/`, gets a list, and cannot make a status of it."""
    assert isinstance(web.manage("GET", "instances/").json(), list)
    assert host.request("GET", "/api/sdk-look/").status == 500


def test_history_digest(host: LocalHost, web: Web) -> None:
    iid = web.start("chain", 2)
    host.wait(iid)
    events = web.status(iid, "?showHistory=true&showHistoryOutput=true")["historyEvents"]
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
    assert "Result" not in web.status(iid, "?showHistory=true")["historyEvents"][1]
    raced = web.start("race", {"s": 5})
    host.wait(raced)
    assert [
        event["EventType"] for event in web.status(raced, "?showHistory=true")["historyEvents"]
    ] == ["ExecutionStarted", "TimerCreated", "TimerFired", "ExecutionCompleted"]


def test_lists_and_pages(host: LocalHost, web: Web) -> None:
    for n in range(5):
        host.wait(host.start_orchestration("chain" if n < 3 else "raises", 1, f"list-{n}"))
    base = "instances?instanceIdPrefix=list-"

    def ids(query: str, headers: dict[str, str] | None = None) -> list[str]:
        return [
            item["instanceId"] for item in web.manage("GET", base + query, headers=headers).json()
        ]

    everything = [f"list-{n}" for n in range(5)]
    assert ids("") == everything
    assert web.manage("GET", base).headers["x-ms-continuation-token"] == ""
    first = web.manage("GET", f"{base}&top=2")
    assert [item["instanceId"] for item in first.json()] == everything[:2]
    token = {"x-ms-continuation-token": first.headers["x-ms-continuation-token"]}
    assert ids("&top=2", token) == everything[2:4]
    assert ids("&runtimeStatus=Failed") == everything[3:]
    assert ids("&runtimeStatus=Failed,Completed") == everything
    assert ids("&runtimeStatus=Nonsense") == ids("&createdTimeFrom=rubbish") == everything
    assert ids("&createdTimeFrom=2025-01-01T00%3A00%3A00Z") == everything
    assert ids("&createdTimeTo=2025-01-01T00:00:00+00:00") == []
    assert web.manage("GET", f"{base}&top=0").status == 400 and ids("&top=abc") == everything
    assert web.manage("GET", base).json()[0]["input"] == "1"
    assert web.manage("GET", f"{base}&showInput=false").json()[0]["input"] is None


def test_purge_by_filter(host: LocalHost, web: Web) -> None:
    host.wait(host.start_orchestration("chain", 1, "old-1"))
    live = host.start_orchestration("race", {"s": 500}, "old-live")
    answer = web.manage("DELETE", "instances")
    assert (answer.status, answer.json()) == (
        400,
        "Please provide value for 'createdTimeFrom' parameter.",
    )
    assert (
        web.manage("DELETE", "instances/?createdTimeFrom=2025-01-01T00:00:00Z").json()[
            "instancesDeleted"
        ]
        > 0
    )
    assert host.status("old-1") is None and host.status(live) is not None
    assert web.manage("DELETE", "instances/?createdTimeFrom=2025-01-01T00:00:00Z").status == 404
    host.terminate(live)
    assert host.wait(live)["output"] is None


def test_client_binding_keys() -> None:
    import json

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
        "http://127.0.0.1:1/runtime/webhooks/durabletask/instances/INSTANCEID/rewind?reason={text}&taskHub=Hub"
        "&connection=AzureWebJobsStorage&code=local"
    )
