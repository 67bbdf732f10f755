"""Looking at an operation: its state, its wait, its manifest (graph-partner-billing, 3, 4, 11.4, 12 and 13)."""

import json
from datetime import UTC, datetime
from itertools import product
from typing import Any

import httpx
import pytest

from shared.errors import InvalidDataError, OperationGoneError, UnavailableError
from shared.graph.responses import OperationFailed, OperationRunning, OperationSucceeded
from tests.unit.graph.scripted import GRAPH, LOOPBACK, OPERATION, Script, answer, inline, payload

TYPE = "#microsoft.graph.partners.billing."
LINK = "resourceLocation@odata.navigationLink"


async def look(*answers: httpx.Response | Exception, base_url: str = GRAPH) -> Any:
    return await Script(*answers).graph(base_url).get_operation(OPERATION)


@pytest.mark.parametrize(
    "document",
    [
        payload("running"),
        {"@odata.type": f"{TYPE}runningOperation"},
        {"@odata.type": f"{TYPE}runningOperation", "status": None},
        {"@odata.type": f"{TYPE}operation", "status": "running"},
        *(
            {"status": word}
            for word in ("notStarted", "notstarted", "running", "processing", "a word of next year")
        ),
    ],
)
async def test_running(document: dict[str, Any]) -> None:
    assert await look(answer(document, retry_after="30", request_id="r-2")) == OperationRunning(
        30, "r-2"
    )


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
async def test_the_wait_is_read_in_every_form(headers: dict[str, str], seconds: int | None) -> None:
    assert await look(answer(payload("running"), **headers)) == OperationRunning(seconds, None)


@pytest.mark.parametrize(
    "status", ["succeeded", "completed", "Succeeded", "COMPLETED", "odd", None]
)
async def test_success_by_type_whatever_the_word(status: str | None) -> None:
    ready = await look(answer(inline(status=status), x_ms_request_id="r-3"))
    assert isinstance(ready, OperationSucceeded) and ready.request_id == "r-3"
    assert ready.manifest.etag == "WYjLro78HdMg6vUWR"
    assert ready.manifest.created == datetime(2023, 3, 9, 6, 34, 34, 870_000, UTC)
    assert (
        ready.manifest.sas_token == payload("manifest")["sasToken"]
    )  # as sent: it is percent-encoded already


@pytest.mark.parametrize("status", ["succeeded", "completed", "Completed"])
async def test_success_by_word_without_a_type(status: str) -> None:
    document = inline(status=status)
    del document["@odata.type"]
    ready = await look(answer(document))
    assert (
        ready.manifest.id == "8fe347d7-aaaa"
    )  # raw: the SDK's model turns ids and dates into objects here


@pytest.mark.parametrize(
    ("base_url", "link"),
    [
        (GRAPH, {}),
        (GRAPH, {LINK: "https://elsewhere.example/anything/manifests/8fe347d7-aaaa"}),
        (
            GRAPH,
            {
                LINK: None,
                "resourceLocation": "https://graph.microsoft.com/v1.0/reports/partners/billing/manifests/8fe347d7-aaaa",
            },
        ),
        (
            GRAPH,
            {LINK: None, "resourceLocation": "reports/partners/billing/manifests('8fe347d7-aaaa')"},
        ),
        (
            GRAPH,
            {
                LINK: "https://graph.microsoft.com/v1.0/reports/partners/billing/manifests/8fe347d7-aaaa?$select=id#x"
            },
        ),
        (GRAPH, {"resourceLocation": None}),
        (LOOPBACK, {}),
    ],
    ids=["documented", "foreign", "string", "key_syntax", "query", "null_beside", "loopback"],
)
async def test_a_linked_manifest_is_read_by_its_id(base_url: str, link: dict[str, Any]) -> None:
    script = Script(answer(payload("linked") | link), answer(payload("manifest"), request_id="r-4"))
    ready = await script.graph(base_url).get_operation(OPERATION)
    assert (
        isinstance(ready, OperationSucceeded)
        and ready.request_id == "r-4"
        and ready.manifest.blob_count == 1
    )
    assert [str(request.url) for request in script.requests] == [
        f"{base_url}/reports/partners/billing/operations/{OPERATION}",
        f"{base_url}/reports/partners/billing/manifests/8fe347d7-aaaa",
    ]


async def test_inline_wins_over_a_link() -> None:
    assert isinstance(
        await look(answer(inline(**{LINK: "https://graph.microsoft.com/manifests/other"}))),
        OperationSucceeded,
    )


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
async def test_failed(error: object, code: str) -> None:
    failed = await look(answer(payload("failed") | {"error": error}, request_id="r-5"))
    assert failed == OperationFailed(code, "r-5") and failed.has_no_data is (code == "5000")


async def test_failed_by_word_without_a_type() -> None:
    assert await look(answer({"status": "Failed", "error": {"code": "5000"}})) == OperationFailed(
        "5000", None
    )


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(
            200, text="<html>sig=SENTINEL</html>", headers={"Content-Type": "text/html"}
        ),
        httpx.Response(200, json=payload("running"), headers={"Content-Type": "text/html"}),
        httpx.Response(
            200,
            content=json.dumps(inline()).encode()[:200],
            headers={"Content-Type": "application/json"},
        ),
        httpx.Response(200),
        httpx.Response(202),
        httpx.Response(204),
        answer([]),
        answer("text"),
        answer(5),
        answer(None),
        answer({}),
        answer({"status": 2}),
        answer({"status": ""}),
        answer({"error": {"code": "5000"}}),
        answer({"@odata.type": f"{TYPE}nextYearsOperation"}),
        answer(payload("linked") | {LINK: None}),
        answer(payload("linked") | {LINK: "https://x/manifests/a%2f..%2fb"}),
        answer(payload("linked") | {LINK: f"https://x/manifests/{'a' * 129}"}),
        answer(payload("linked") | {LINK: f"https://x/{'a' * 3000}/manifests/a"}),
        answer(payload("linked") | {"resourceLocation": 5, LINK: 5}),
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
async def test_an_answer_that_cannot_be_read(response: httpx.Response) -> None:
    response.headers["Retry-After"] = "9"
    with pytest.raises(UnavailableError) as caught:
        await look(response)
    assert (caught.value.code, caught.value.retry_after_seconds) == ("graph_malformed", 9)
    assert caught.value.http_status == response.status_code


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json; odata.metadata=minimal; charset=utf-8",
        "text/json",
        "APPLICATION/JSON",
    ],
)
async def test_json_under_any_of_its_names_and_under_none(content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = httpx.Response(200, content=json.dumps(payload("running")).encode(), headers=headers)
    assert await look(response) == OperationRunning(None, None)


@pytest.mark.parametrize("status", [404, 410])
async def test_a_forgotten_operation_or_manifest_is_gone(status: int) -> None:
    for answers in (
        [answer(payload("error"), status)],
        [answer(payload("linked")), answer(payload("error"), status)],
    ):
        with pytest.raises(OperationGoneError) as caught:
            await look(*answers)
        assert caught.value.code == "operation_gone" and caught.value.http_status == status


@pytest.mark.parametrize("operation_id", ["", "..", "a/b", "a%2fb", "-a", "a" * 129, "a\n", "ä"])
async def test_an_id_that_is_none_is_never_sent(operation_id: str) -> None:
    script = Script()
    with pytest.raises(OperationGoneError):
        await script.graph().get_operation(operation_id)
    assert not script.requests


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
async def test_manifests_as_they_have_been_seen(changes: dict[str, Any]) -> None:
    ready = await look(answer(inline(resourceLocation=payload("manifest") | changes)))
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
async def test_a_manifest_that_is_none_is_rejected(member: str, value: object) -> None:
    with pytest.raises(InvalidDataError) as caught:
        await look(
            answer(inline(resourceLocation=payload("manifest") | {member: value}), request_id="r-6")
        )
    assert caught.value.code == "graph_malformed" and caught.value.request_id == "r-6"
    assert caught.value.__context__ is None and caught.value.__cause__ is None


async def test_a_hundred_thousand_blobs_fit() -> None:
    manifest = payload("manifest")
    blob = manifest["blobs"][0]
    manifest |= {
        "blobCount": 100_000,
        "blobs": [blob | {"name": f"part-{i:06}-{blob['name']}"} for i in range(100_000)],
    }
    ready = await look(answer(inline(resourceLocation=manifest)))
    assert isinstance(ready, OperationSucceeded) and len(ready.manifest.blobs) == 100_000


async def test_the_signature_is_in_no_repr() -> None:
    assert "SENTINEL" not in repr(await look(answer(inline())))
