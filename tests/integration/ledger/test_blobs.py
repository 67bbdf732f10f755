"""Blob rows: verification results, batched writes and reads by name."""

from dataclasses import replace

from shared.blob_facts import BlobFacts
from shared.ledger.blobs import BlobRow, BlobTotals
from shared.ledger.ledger import Ledger
from tests.integration.ledger.ledger_rows import KEY, OTHER_KEY

VERIFIED = BlobRow(
    "a/ä=1/part 0.json.gz",
    True,
    "r",
    '"0x1"',
    BlobFacts(2**40, "md5=", "ab" * 32, 7, "gzip", ("A", "B")),
    '"0x2"',
    "stream",
    2,
    1.25,
)


async def test_get_by_version_returns_rows_by_name(ledger: Ledger) -> None:
    failed = BlobRow("b", False, "r", code="proof_gzip")
    await ledger.blobs.record(KEY, "v", [VERIFIED, failed])
    assert await ledger.blobs.get_by_version(KEY, "v") == {VERIFIED.name: VERIFIED, "b": failed}
    assert (
        await ledger.blobs.get(KEY, "v", VERIFIED.name) == VERIFIED
        and await ledger.blobs.get(KEY, "v", "c") is None
    )
    assert (
        await ledger.blobs.get_by_version(KEY, "w")
        == await ledger.blobs.get_by_version(OTHER_KEY, "v")
        == {}
    )
    assert await ledger.blobs.totals(KEY, "v") == BlobTotals(1, 2**40, 7)


async def test_record_replaces_earlier_result(ledger: Ledger) -> None:
    await ledger.blobs.record(KEY, "v", [BlobRow(VERIFIED.name, False, "r", code="proof_md5")])
    await ledger.blobs.record(KEY, "v", [VERIFIED])
    assert await ledger.blobs.get(KEY, "v", VERIFIED.name) == VERIFIED
    await ledger.blobs.record(KEY, "v", [])


async def test_record_late_failure_keeps_verified_row(ledger: Ledger) -> None:
    """Two workers copy the same blob: one lands it, and the slower one finds no source blob."""
    name, failed = VERIFIED.name, BlobRow(VERIFIED.name, False, "r", code="source_missing")
    assert await ledger.blobs.record_failure(KEY, "v", failed, None)
    current_row = (await ledger.blobs.get_many(KEY, "v", [name, "other"]))[name]
    await ledger.blobs.record(KEY, "v", [VERIFIED])
    assert not await ledger.blobs.record_failure(KEY, "v", failed, current_row)
    assert not await ledger.blobs.record_failure(KEY, "v", failed, None)
    assert await ledger.blobs.get(KEY, "v", name) == VERIFIED
    # A worker that has read the verified row can replace it: the blob was damaged later.
    verified_row = await ledger.blobs.get(KEY, "v", name)
    assert verified_row is not None and await ledger.blobs.record_failure(
        KEY, "v", failed, verified_row
    )
    # The row keeps what is known about the content, with which a restored blob is proven.
    assert await ledger.blobs.get(KEY, "v", name) == replace(
        failed, facts=VERIFIED.facts, source_etag=VERIFIED.source_etag
    )


async def test_get_by_version_returns_more_than_1000_rows(ledger: Ledger) -> None:
    await ledger.blobs.record(
        KEY,
        "v",
        [
            BlobRow(f"part-{n}", n % 2 == 0, "r", facts=BlobFacts(10, rows=1, encoding="gzip"))
            for n in range(1_050)
        ],
    )
    assert await ledger.blobs.totals(KEY, "v") == BlobTotals(525, 5_250, 525)
    names = {f"part-{n}" for n in range(1_050)}
    assert set(await ledger.blobs.get_by_version(KEY, "v")) == names


async def test_get_many_reads_ten_names_per_request(ledger: Ledger) -> None:
    rows = [BlobRow(f"part-{n}", n % 2 == 0, "r") for n in range(25)]
    await ledger.blobs.record(KEY, "v", rows)
    await ledger.blobs.record(KEY, "w", [BlobRow("elsewhere", True, "r")])
    for names in (
        [],
        ["part-3"],
        ["absent"],
        [row.name for row in rows[:23]] + ["absent", "elsewhere"],
    ):
        result = await ledger.blobs.get_many(KEY, "v", names)
        assert result == {row.name: row for row in rows if row.name in names}
