"""The blob rows: what proves a blob, written by the hundred."""

from shared.ledger.blobs import BlobRow, BlobTotals
from shared.ledger.ledger import Ledger
from tests.integration.ledger.ledger_rows import KEY, OTHER_KEY

PROVEN = BlobRow(
    "a/ä=1/part 0.json.gz",
    True,
    "r",
    '"0x1"',
    2**40,
    7,
    "md5=",
    "ab" * 32,
    '"0x2"',
    "gzip",
    "A,B",
    "stream",
    2,
    1.25,
)


async def test_get_by_version_returns_rows_by_name(ledger: Ledger) -> None:
    failed = BlobRow("b", False, "r", code="proof_gzip")
    await ledger.blobs.record(KEY, "v", [PROVEN, failed])
    assert await ledger.blobs.get_by_version(KEY, "v") == {PROVEN.name: PROVEN, "b": failed}
    assert (
        await ledger.blobs.get(KEY, "v", PROVEN.name) == PROVEN
        and await ledger.blobs.get(KEY, "v", "c") is None
    )
    assert (
        await ledger.blobs.get_by_version(KEY, "w")
        == await ledger.blobs.get_by_version(OTHER_KEY, "v")
        == {}
    )
    assert await ledger.blobs.totals(KEY, "v") == BlobTotals(1, 2**40, 7)


async def test_record_replaces_earlier_result(ledger: Ledger) -> None:
    await ledger.blobs.record(KEY, "v", [BlobRow(PROVEN.name, False, "r", code="proof_md5")])
    await ledger.blobs.record(KEY, "v", [PROVEN])
    assert await ledger.blobs.get(KEY, "v", PROVEN.name) == PROVEN
    await ledger.blobs.record(KEY, "v", [])


async def test_record_late_failure_keeps_verified_row(ledger: Ledger) -> None:
    """Of two workers with the same blobs one lands them, and the other, slower one finds the source gone."""
    name, failed = PROVEN.name, BlobRow(PROVEN.name, False, "r", code="source_missing")
    assert await ledger.blobs.record_failure(KEY, "v", failed, None)
    known = (await ledger.blobs.get_many(KEY, "v", [name, "other"]))[name]
    await ledger.blobs.record(KEY, "v", [PROVEN])
    assert not await ledger.blobs.record_failure(KEY, "v", failed, known)
    assert not await ledger.blobs.record_failure(KEY, "v", failed, None)
    assert await ledger.blobs.get(KEY, "v", name) == PROVEN
    known = await ledger.blobs.get(
        KEY, "v", name
    )  # who has seen it proven may say that it is no more: it was damaged since
    assert known is not None and await ledger.blobs.record_failure(KEY, "v", failed, known)
    assert await ledger.blobs.get(KEY, "v", name) == failed


async def test_get_by_version_returns_more_than_1000_rows(ledger: Ledger) -> None:
    await ledger.blobs.record(
        KEY, "v", [BlobRow(f"part-{n}", n % 2 == 0, "r", bytes=10, rows=1) for n in range(1_050)]
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
        found = await ledger.blobs.get_many(KEY, "v", names)
        assert found == {row.name: row for row in rows if row.name in names}
