"""The documents for readers of the landing: the completion marker and latest.json."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.blob_facts import BlobFacts
from shared.exports import ExportKey
from shared.landing.documents import (
    FORMAT,
    MarkerBlob,
    build_completion_marker,
    build_latest,
    get_key_members,
    is_newer,
    parse_completion_marker,
)

BILLED = ExportKey.parse("billed_usage/G016907411/full")
UNBILLED = ExportKey.parse("unbilled_usage/2026-11/USD/basic")
VERSION = {
    "version": "20261108T093700Z-3f9a1c20",
    "etag": 'W/"é"',
    "created_at": "2026-11-08T09:37:00Z",
    "landed_at": "2026-11-08T10:00:00Z",
    "first_seen": "2026-11-08T09:59:00Z",
    "supersedes": None,
    "path": "data/x",
}
BLOBS = [
    MarkerBlob(
        "part-1.json.gz",
        "default",
        '"0x2"',
        BlobFacts(20, "bWQ1", "ab", 2, "gzip", ("B", "A")),
    ),
    MarkerBlob(
        "part-0.json.gz",
        "default",
        '"0x1"',
        BlobFacts(10, "", "cd", 1, "identity", ("A", "C")),
    ),
]


def parse_marker(key: ExportKey = BILLED, blobs: list[MarkerBlob] = BLOBS) -> dict[str, Any]:
    lines = build_completion_marker(
        key,
        version=VERSION,
        source={"manifest_id": "m", "schema_version": "2", "partner_tenant_id": "t"},
        request={
            "period": "current",
            "requested_at": "2026-11-08T09:40:00Z",
            "operation_id": "o",
            "request_ids": ["r"],
        },
        run={"run_id": "run-1", "app_version": "0.1.0"},
        proof="content",
        blobs=blobs,
    )
    body = b"".join(lines)
    assert body.endswith(b"}\n")
    return dict(json.loads(body))


def parse_latest(key: ExportKey, month: str = "") -> dict[str, Any]:
    body = build_latest(
        key,
        sequence=4,
        billing_month=month,
        version=VERSION,
        totals={"blobs": 2, "bytes": 30, "rows": 3},
    )
    assert body.count(b"\n") == 1 and body.endswith(b"\n")
    return dict(json.loads(body))


def test_completion_marker_contains_every_member() -> None:
    document = parse_marker()
    assert {
        "format",
        "key",
        "dataset",
        "invoice_id",
        "attribute_set",
        "version",
        "etag",
        "created_at",
        "first_seen",
        "landed_at",
        "path",
        "supersedes",
        "schema_version",
        "partner_tenant_id",
        "manifest_id",
        "request",
        "run_id",
        "app_version",
        "proof",
        "columns",
        "column_lists",
        "totals",
        "blobs",
        "invoice",
    } == set(document)
    assert document["format"] == FORMAT == 1
    assert set(document["request"]) == {"period", "requested_at", "operation_id", "request_ids"}
    assert document["totals"] == {"blobs": 2, "bytes": 30, "rows": 3} and document["columns"] == [
        "A",
        "B",
        "C",
    ]
    assert [blob["name"] for blob in document["blobs"]] == ["part-0.json.gz", "part-1.json.gz"]
    assert document["blobs"][1] == {
        "name": "part-1.json.gz",
        "partition_value": "default",
        "bytes": 20,
        "rows": 2,
        "md5": "bWQ1",
        "sha256": "ab",
        "source_etag": '"0x2"',
        "encoding": "gzip",
        "byte_order_mark": False,
        "column_list": 1,
    }
    assert document["column_lists"] == [["A", "C"], ["B", "A"]]


def test_parse_completion_marker_returns_the_blobs_of_the_expected_version() -> None:
    marker = json.dumps(parse_marker()).encode()
    version, etag = str(VERSION["version"]), str(VERSION["etag"])
    assert parse_completion_marker(marker, version, etag) == {blob.name: blob for blob in BLOBS}
    assert parse_completion_marker(marker, version, "another") is None
    assert parse_completion_marker(marker, "another", etag) is None
    assert parse_completion_marker(marker[:-1], version, etag) is None


def test_build_completion_marker_of_many_blobs_uses_bounded_memory() -> None:
    columns = tuple(f"Column{number}" for number in range(60))
    facts = BlobFacts(10, "bWQ1", "ab" * 32, 1, "gzip", columns)
    blobs = [MarkerBlob(f"part-{n:05}.json.gz", "default", '"0x1"', facts) for n in range(20_000)]
    tracemalloc.start()
    lines = build_completion_marker(
        BILLED, version=VERSION, source={}, request={}, run={}, proof="content", blobs=blobs
    )
    size = sum(len(line) for line in lines)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 4_000_000 < size < 20_000 * 300 and peak < 1_000_000


def test_parse_completion_marker_without_content_proof_returns_unknown_facts() -> None:
    blobs = [MarkerBlob("part-0.json.gz", "default", '"0x1"', BlobFacts(10, "bWQ1"))]
    marker = json.dumps(parse_marker(blobs=blobs)).encode()
    parsed = parse_completion_marker(marker, str(VERSION["version"]), str(VERSION["etag"]))
    assert parsed == {"part-0.json.gz": blobs[0]}


def test_latest_contains_every_member() -> None:
    billed, unbilled = (
        parse_latest(BILLED, "2026-10"),
        parse_latest(UNBILLED, "2026-11"),
    )
    common = {
        "format",
        "key",
        "dataset",
        "attribute_set",
        "billing_month",
        "sequence",
        "version",
        "path",
        "etag",
        "created_at",
        "landed_at",
        "first_seen",
        "supersedes",
        "blobs",
        "bytes",
        "rows",
    }
    assert set(billed) == common | {"invoice_id"} and set(unbilled) == common | {"currency_code"}
    assert (billed["billing_month"], unbilled["billing_month"]) == ("2026-10", "2026-11")
    assert (billed["blobs"], billed["bytes"], billed["rows"]) == (2, 30, 3)


def test_latest_omits_an_unknown_billing_month() -> None:
    assert "billing_month" not in parse_latest(BILLED)


def test_latest_of_an_unbilled_key_uses_the_month_of_the_key() -> None:
    assert parse_latest(UNBILLED, None)["billing_month"] == "2026-11"


def test_get_key_members_returns_the_names_of_paths_and_api() -> None:
    assert get_key_members(BILLED) == {
        "key": "billed_usage/G016907411/full",
        "dataset": "billed_usage",
        "invoice_id": "G016907411",
        "attribute_set": "full",
    }
    assert get_key_members(UNBILLED) == {
        "key": "unbilled_usage/2026-11/USD/basic",
        "dataset": "unbilled_usage",
        "billing_month": "2026-11",
        "currency_code": "USD",
        "attribute_set": "basic",
    }


def test_latest_is_unescaped_utf_8() -> None:
    assert "é".encode() in build_latest(
        BILLED, sequence=1, billing_month="", version=VERSION, totals={}
    )


def test_completion_marker_without_blobs_has_zero_totals() -> None:
    assert parse_marker(blobs=[])["totals"] == {"blobs": 0, "bytes": 0, "rows": 0}


def latest_of(created: str, seen: str, version: str = "v") -> dict[str, str]:
    return {"created_at": created, "first_seen": seen, "version": version}


@pytest.mark.parametrize(
    ("ours", "theirs", "newer"),
    [
        (
            latest_of("2026-11-08T09:37:00Z", "2026-11-08T10:00:00Z"),
            latest_of("2026-11-08T09:37:00Z", "2026-11-08T10:00:00Z"),
            False,
        ),
        (
            latest_of("2026-11-08T09:37:01Z", "2026-11-01T00:00:00Z"),
            latest_of("2026-11-08T09:37:00Z", "2026-11-08T10:00:00Z"),
            True,
        ),
        (
            latest_of("2026-11-08T09:37:00Z", "2026-11-09T00:00:00Z"),
            latest_of("2026-11-08T09:37:01Z", "2026-11-08T10:00:00Z"),
            False,
        ),
        (
            latest_of("2026-11-08T09:37:00Z", "2026-11-08T10:00:01Z"),
            latest_of("2026-11-08T09:37:00Z", "2026-11-08T10:00:00Z"),
            True,
        ),
        (
            latest_of("2026-11-08T09:37:00.5Z", "2026-11-08T10:00:00Z"),
            latest_of("2026-11-08T09:37:00Z", "2026-11-08T10:00:00Z"),
            True,
        ),
        (
            latest_of("2026-11-08T10:37:00+01:00", "2026-11-08T10:00:00Z"),
            latest_of("2026-11-08T09:37:00Z", "2026-11-08T10:00:00Z"),
            False,
        ),
        (
            latest_of("2026-11-08T09:37:00Z", "2026-11-08T10:00:00Z", "w"),
            latest_of("2026-11-08T09:37:00Z", "2026-11-08T10:00:00Z", "v"),
            True,
        ),
    ],
)
def test_is_newer_compares_creation_then_first_observation(
    ours: dict[str, str], theirs: dict[str, str], newer: bool
) -> None:
    assert is_newer(ours, theirs) is newer
    assert not (is_newer(ours, theirs) and is_newer(theirs, ours))


times = st.sampled_from(["2026-11-08T09:37:00Z", "2026-11-08T09:37:00.5Z", "2026-11-09T09:37:00Z"])
documents = st.builds(latest_of, times, times, st.sampled_from("ab"))


@given(documents, documents, documents)
def test_is_newer_is_a_strict_order(
    one: dict[str, str], two: dict[str, str], three: dict[str, str]
) -> None:
    assert is_newer(one, two) + is_newer(two, one) == (one != two)
    if is_newer(one, two) and is_newer(two, three):
        assert is_newer(one, three)


def test_completion_marker_with_unknown_facts_contains_null() -> None:
    unread = MarkerBlob("part-2.json.gz", "default", '"0x3"', BlobFacts(5, "bWQ1"))
    document = parse_marker(blobs=[*BLOBS, unread])
    assert document["totals"] == {"blobs": 3, "bytes": 35, "rows": None}
    assert [
        (blob["rows"], blob["encoding"], blob["byte_order_mark"]) for blob in document["blobs"]
    ] == [(1, "identity", False), (2, "gzip", False), (None, None, None)]
