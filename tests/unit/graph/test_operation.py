"""Responses to requests for an operation: state, wait time and manifest."""

import json
from datetime import UTC, datetime
from itertools import product
from typing import Any

import httpx
import pytest

from shared.errors import MalformedManifestError, OperationGoneError, UnavailableError
from shared.graph.responses import OperationFailed, OperationRunning, OperationSucceeded
from tests.support.fake_service import json_response
from tests.unit.graph.fake_graph import (
    GRAPH,
    LOOPBACK,
    OPERATION,
    FakeGraph,
    inline_operation,
    payload,
)

TYPE = "#microsoft.graph.partners.billing."
LINK = "resourceLocation@odata.navigationLink"


async def get_operation(*responses: httpx.Response | Exception, base_url: str = GRAPH) -> Any:
    return await FakeGraph(*responses).create_client(base_url).get_operation(OPERATION)


@pytest.mark.parametrize(
    "document",
    [
        payload("running"),
        {"@odata.type": f"{TYPE}runningOperation"},
        {"@odata.type": f"{TYPE}runningOperation", "status": None},
        {"@odata.type": f"{TYPE}operation", "status": "running"},
        *(
            {"status": word}
            for word in ("notStarted", "notstarted", "running", "processing", "a future status")
        ),
    ],
)
async def test_get_operation_with_running_operation_returns_running(
    document: dict[str, Any],
) -> None:
    assert await get_operation(
        json_response(document, retry_after="30", request_id="r-2")
    ) == OperationRunning(30, "r-2")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "200"}, 200),
        ({"retry_after": "Sun, 08 Nov 2026 10:37:00 GMT"}, 3600),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "Sun, 08 Nov 2026 09:00:00 GMT"}, 0),
        ({}, None),
    ],
)
async def test_get_operation_parses_retry_after(
    headers: dict[str, str], seconds: int | None
) -> None:
    assert await get_operation(json_response(payload("running"), **headers)) == OperationRunning(
        seconds, None
    )


@pytest.mark.parametrize(
    "status", ["succeeded", "completed", "Succeeded", "COMPLETED", "odd", None]
)
async def test_get_operation_with_success_type_ignores_status(status: str | None) -> None:
    ready = await get_operation(
        json_response(inline_operation(status=status), x_ms_request_id="r-3")
    )
    assert isinstance(ready, OperationSucceeded) and ready.request_id == "r-3"
    assert ready.manifest.etag == "WYjLro78HdMg6vUWR"
    assert ready.manifest.created == datetime(2023, 3, 9, 6, 34, 34, 870_000, UTC)
    # The token is already percent-encoded and must not change.
    assert ready.manifest.sas_token == payload("manifest")["sasToken"]


@pytest.mark.parametrize("status", ["succeeded", "completed", "Completed"])
async def test_get_operation_without_type_uses_status(status: str) -> None:
    document = inline_operation(status=status)
    del document["@odata.type"]
    ready = await get_operation(json_response(document))
    assert ready.manifest.id == "8fe347d7-aaaa"


@pytest.mark.parametrize(
    ("base_url", "link"),
    [
        (GRAPH, {}),
        (GRAPH, {LINK: "https://elsewhere.example/anything/manifests/8fe347d7-aaaa"}),
        (
            GRAPH,
            {
                LINK: None,
                "resourceLocation": f"{GRAPH}/reports/partners/billing/manifests/8fe347d7-aaaa",
            },
        ),
        (
            GRAPH,
            {LINK: None, "resourceLocation": "reports/partners/billing/manifests('8fe347d7-aaaa')"},
        ),
        (
            GRAPH,
            {LINK: f"{GRAPH}/reports/partners/billing/manifests/8fe347d7-aaaa?$select=id#x"},
        ),
        (GRAPH, {"resourceLocation": None}),
        (LOOPBACK, {}),
    ],
    ids=["documented", "foreign", "string", "key_syntax", "query", "null_resource", "loopback"],
)
async def test_get_operation_with_linked_manifest_requests_it_by_id(
    base_url: str, link: dict[str, Any]
) -> None:
    fake_graph = FakeGraph(
        json_response(payload("linked") | link),
        json_response(payload("manifest"), request_id="r-4"),
    )
    ready = await fake_graph.create_client(base_url).get_operation(OPERATION)
    assert (
        isinstance(ready, OperationSucceeded)
        and ready.request_id == "r-4"
        and ready.manifest.blob_count == 1
    )
    assert [str(request.url) for request in fake_graph.requests] == [
        f"{base_url}/reports/partners/billing/operations/{OPERATION}",
        f"{base_url}/reports/partners/billing/manifests/8fe347d7-aaaa",
    ]


async def test_get_operation_prefers_inline_manifest() -> None:
    assert isinstance(
        await get_operation(
            json_response(inline_operation(**{LINK: "https://graph.microsoft.com/manifests/other"}))
        ),
        OperationSucceeded,
    )


@pytest.mark.parametrize("name", ["linked", "running", "manifest"])
async def test_get_operation_treats_null_as_absent(name: str) -> None:
    async def get_result(document: dict[str, Any]) -> Any:
        responses = json_response(document), json_response(payload("manifest"))
        try:
            return await get_operation(*responses)
        except (MalformedManifestError, UnavailableError) as error:
            return error.code

    original = payload(name) if name != "manifest" else inline_operation()
    for member in original:
        absent = {key: value for key, value in original.items() if key != member}
        assert await get_result({**original, member: None}) == await get_result(absent), member


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": "5000", "message": "No data available"}, "5000"),
        ({"code": 5000}, "5000"),
        ({"code": "5001"}, "5001"),
        ({"code": None}, "unknown"),
        ({"code": True}, "unknown"),
        ({"code": "see https://x/?sig=1"}, "unknown"),
        ({}, "unknown"),
        (None, "unknown"),
        ("text", "unknown"),
        ([], "unknown"),
    ],
)
async def test_get_operation_with_failed_operation_returns_code(error: object, code: str) -> None:
    failed = await get_operation(
        json_response(payload("failed") | {"error": error}, request_id="r-5")
    )
    assert failed == OperationFailed(code, "r-5") and failed.has_no_data is (code == "5000")


async def test_get_operation_with_failed_status_returns_failed() -> None:
    assert await get_operation(
        json_response({"status": "Failed", "error": {"code": "5000"}})
    ) == OperationFailed("5000", None)


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(
            200, text="<html>sig=SENTINEL</html>", headers={"Content-Type": "text/html"}
        ),
        httpx.Response(200, json=payload("running"), headers={"Content-Type": "text/html"}),
        httpx.Response(
            200,
            content=json.dumps(inline_operation()).encode()[:200],
            headers={"Content-Type": "application/json"},
        ),
        httpx.Response(200),
        httpx.Response(202),
        httpx.Response(204),
        json_response([]),
        json_response("text"),
        json_response(5),
        json_response(None),
        json_response({}),
        json_response({"status": 2}),
        json_response({"status": ""}),
        json_response({"error": {"code": "5000"}}),
        json_response({"@odata.type": f"{TYPE}futureOperation"}),
        json_response(payload("linked") | {LINK: None}),
        json_response(payload("linked") | {LINK: "https://x/manifests/a%2f..%2fb"}),
        json_response(payload("linked") | {LINK: f"https://x/manifests/{'a' * 129}"}),
        json_response(payload("linked") | {LINK: f"https://x/{'a' * 3000}/manifests/a"}),
        json_response(payload("linked") | {"resourceLocation": 5, LINK: 5}),
        httpx.Response(200, content=b"[" * 200_000, headers={"Content-Type": "application/json"}),
        httpx.Response(
            200,
            content=b'{"status": "running", "x": "\\ud800"}',
            headers={"Content-Type": "application/json"},
        ),
        httpx.Response(
            200,
            content=b'{"status": "running", "x": "\xff"}',
            headers={"Content-Type": "application/json"},
        ),
        httpx.Response(302, headers={"Location": "https://elsewhere.example/"}),
        httpx.Response(304),
    ],
)
async def test_get_operation_with_malformed_response_raises_unavailable(
    response: httpx.Response,
) -> None:
    response.headers["Retry-After"] = "9"
    with pytest.raises(UnavailableError) as raised:
        await get_operation(response)
    assert (raised.value.code, raised.value.retry_after_seconds) == ("graph_malformed", 9)
    assert raised.value.http_status == response.status_code


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json; odata.metadata=minimal; charset=utf-8",
        "text/json",
        "APPLICATION/JSON",
    ],
)
async def test_get_operation_accepts_json_content_types(content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = httpx.Response(200, content=json.dumps(payload("running")).encode(), headers=headers)
    assert await get_operation(response) == OperationRunning(None, None)


@pytest.mark.parametrize("status", [404, 410])
async def test_get_operation_with_missing_resource_raises_operation_gone(status: int) -> None:
    for code, responses in (
        ("operation_gone", [json_response(payload("error"), status)]),
        (
            "manifest_gone",
            [json_response(payload("linked")), json_response(payload("error"), status)],
        ),
    ):
        with pytest.raises(OperationGoneError) as raised:
            await get_operation(*responses)
        assert (raised.value.code, raised.value.http_status) == (code, status)


@pytest.mark.parametrize("operation_id", ["", "..", "a/b", "a%2fb", "-a", "a" * 129, "a\n", "ä"])
async def test_get_operation_with_invalid_id_sends_no_request(operation_id: str) -> None:
    fake_graph = FakeGraph()
    with pytest.raises(OperationGoneError):
        await fake_graph.create_client().get_operation(operation_id)
    assert not fake_graph.requests


@pytest.mark.parametrize(
    "changes",
    [
        {
            "schemaVersion": "2",
            "dataFormat": "compressedJSONLines",
            "partitionType": "default",
            "unknown": [1],
        },
        {"blobCount": 0, "blobs": []},
        {
            "blobCount": 2,
            "blobs": [
                {"name": "a.gz", "partitionValue": "x", "sizeInBytes": 1, "itemCount": 2},
                {"name": "b.gz", "partitionValue": "x"},
            ],
        },
        {"createdDateTime": "2023-03-09T08:12:53"},
        {"createdDateTime": "2023-03-09T08:37:48.5046691Z"},
    ],
)
async def test_get_operation_accepts_known_manifest_variants(changes: dict[str, Any]) -> None:
    ready = await get_operation(
        json_response(inline_operation(resourceLocation=payload("manifest") | changes))
    )
    assert (
        isinstance(ready, OperationSucceeded)
        and len(ready.manifest.blobs) == ready.manifest.blob_count
    )
    assert ready.manifest.created.tzinfo is not None


@pytest.mark.parametrize(
    ("member", "value"),
    [
        *product(
            ["eTag", "createdDateTime", "rootDirectory", "sasToken", "blobCount"],
            [None, [], {}, "", 1.5],
        ),
        ("createdDateTime", "soon"),
        ("createdDateTime", "0001-01-01T00:00:00+14:00"),
        ("blobCount", "1"),
        ("blobCount", True),
        ("blobs", {}),
        ("blobs", [None]),
        ("blobs", [{}]),
        ("blobs", [{"name": 5}]),
    ],
)
async def test_get_operation_with_malformed_manifest_names_the_member(
    member: str, value: object
) -> None:
    with pytest.raises(MalformedManifestError) as raised:
        await get_operation(
            json_response(
                inline_operation(resourceLocation=payload("manifest") | {member: value}),
                request_id="r-6",
            )
        )
    assert raised.value.code == "manifest_malformed" and raised.value.request_id == "r-6"
    assert raised.value.detail.startswith(member)
    assert raised.value.__context__ is None and raised.value.__cause__ is None


async def test_get_operation_with_large_manifest_returns_all_blobs() -> None:
    manifest = payload("manifest")
    blob = manifest["blobs"][0]
    manifest |= {
        "blobCount": 100_000,
        "blobs": [blob | {"name": f"part-{i:06}-{blob['name']}"} for i in range(100_000)],
    }
    ready = await get_operation(json_response(inline_operation(resourceLocation=manifest)))
    assert isinstance(ready, OperationSucceeded) and len(ready.manifest.blobs) == 100_000


async def test_operation_repr_contains_no_signature() -> None:
    assert "SENTINEL" not in repr(await get_operation(json_response(inline_operation())))
