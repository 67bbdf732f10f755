"""Limits of Table Storage: 64 KiB per property, 1 MiB per entity, 4 MiB per transaction.

Long lists are stored in several properties or entities. Explanatory text is truncated.
"""

import itertools
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from azure.data.tables import TableServiceClient

from local.azurite import Azurite
from shared.blob_facts import BlobFacts
from shared.exports import ExportKey
from shared.invoices import Invoice, LeftOut, facts_of, left_out_text, read_left_out
from shared.ledger.backfills import Backfill
from shared.ledger.blobs import BlobRow
from shared.ledger.cycles import Cycle
from shared.ledger.keys import run_id, run_keys
from shared.ledger.ledger import Ledger
from shared.ledger.plan_lists import RUNS_PER_ROW
from shared.ledger.runs import MAX_REQUEST_IDS, Run
from shared.manifest import MAX_ETAG_LENGTH, MAX_NAME_LENGTH, MAX_ROOT_LENGTH
from shared.tie_out.line_sums import MAX_CURRENCIES, LineSums
from tests.integration.ledger.ledger_rows import (
    KEY,
    START,
    build_run,
    insert_complete_version,
    list_by_etag,
)

CYCLE = Cycle("cycle-20261121t060000z-aaaa", "starting", "2026-11-21T06:00:00Z")
BACKFILL = Backfill(
    "backfill-20261121t060000z-aaaa", "starting", "2022-09", "2026-11", ["billed_usage"]
)
KIB = 1024


def run_ids(count: int) -> list[str]:
    """Return run IDs of the maximum length."""
    return [f"{number:05}-{'r' * 94}" for number in range(count)]


def left_out(count: int) -> str:
    return left_out_text(
        tuple(
            LeftOut(code="invoice_unknown_kind", invoice_id=f"X{number:039}")
            for number in range(count)
        )
    )


def assert_within_limits(azurite: Azurite, prefix: str) -> int:
    """Assert the limits for each entity of the ledger, and return the size of the largest one.

    The size follows the Table service data model: two bytes per character.
    """
    largest = 0
    with TableServiceClient.from_connection_string(azurite.landing.connection_string) as service:
        for table in [
            table.name for table in service.list_tables() if table.name.startswith(prefix)
        ]:
            for entity in service.get_table_client(table).list_entities():
                sizes = {
                    name: 2 * len(value) if isinstance(value, str) else 8
                    for name, value in entity.items()
                }
                assert max(sizes.values()) <= 64 * KIB and len(sizes) <= 252, table
                largest = max(
                    largest, 4 + sum(8 + 2 * len(name) + size + 4 for name, size in sizes.items())
                )
    assert 0 < largest <= KIB * KIB
    return largest


@pytest.mark.parametrize("count", [0, 1, 250, RUNS_PER_ROW, RUNS_PER_ROW + 1, 10_001])
async def test_cycle_stores_any_number_of_runs(
    ledger: Ledger, azurite: Azurite, prefix: str, count: int
) -> None:
    await ledger.cycles.insert(CYCLE)
    await ledger.cycles.save_plan(CYCLE.cycle_id, run_ids(count), left_out(count))
    stored = await ledger.cycles.get(CYCLE.cycle_id)
    assert (
        stored is not None
        and stored.runs == run_ids(count)
        and len(read_left_out(stored.left_out)) == count
    )
    assert await ledger.cycles.newest("202611") == stored
    largest = assert_within_limits(azurite, prefix)
    assert count < RUNS_PER_ROW or largest > 400 * KIB  # large plans test the limit
    assert [run async for run in ledger.runs.list("202611")] == []


async def test_backfill_stores_thousands_of_keys(
    ledger: Ledger, azurite: Azurite, prefix: str
) -> None:
    await ledger.backfills.insert(BACKFILL)
    await ledger.backfills.save_plan(
        BACKFILL.backfill_id, run_ids(8_000), {"landed": 3}, left_out(2_000)
    )
    await ledger.backfills.save_result(
        BACKFILL.backfill_id, {"landed": 8_000}, "2026-11-22T06:00:00Z"
    )
    stored = await ledger.backfills.get(BACKFILL.backfill_id)
    assert stored is not None and (stored.runs, stored.settled, stored.state) == (
        run_ids(8_000),
        {"landed": 3},
        "ended",
    )
    assert len(read_left_out(stored.left_out)) == 2_000
    assert_within_limits(azurite, prefix)


async def test_backfill_shorter_plan_replaces_longer_plan(ledger: Ledger) -> None:
    """A plan whose response was lost is rebuilt, perhaps from a changed invoice list."""
    await ledger.cycles.insert(CYCLE)
    for count in (4_500, 300, 0, 2_001):
        await ledger.cycles.save_plan(CYCLE.cycle_id, run_ids(count), left_out(count))
        stored = await ledger.cycles.get(CYCLE.cycle_id)
        assert (
            stored is not None
            and stored.runs == run_ids(count)
            and stored.left_out == left_out(count)
        )


async def test_runs_are_read_in_pages(ledger: Ledger) -> None:
    keys = [ExportKey.parse(f"billed_usage/G{number:09}/full") for number in range(2_100)]
    runs = [Run(run_id(key, START, "aaaa"), str(key), outcome="landed") for key in keys]
    rows = {run_keys(run.run_id)[1]: {"run_id": run.run_id, "key": run.key} for run in runs}
    await ledger.tables.upsert_many("runs", "202611", rows)
    other = build_run("bbbb")
    await ledger.runs.insert(other)
    result = await ledger.runs.get_many(
        [*(run.run_id for run in runs[:2_050]), run_id(KEY, START, "none")]
    )
    # The result does not contain `other`, which started in the same second.
    assert list(result) == sorted(run.run_id for run in runs[:2_050])
    assert list(await ledger.runs.get_many([other.run_id])) == [other.run_id]
    assert (
        await ledger.runs.get_many([])
        == {}
        == await ledger.runs.get_many([run_id(KEY, START, "none")])
    )


async def test_run_with_maximum_lengths_is_stored(
    ledger: Ledger, azurite: Azurite, prefix: str
) -> None:
    """Explanatory text is truncated. Values that are compared have their own, lower limit."""
    run = build_run(
        requested_by="😀" * 100,
        reason="ü" * 200,
        root_directory="r" * MAX_ROOT_LENGTH,
        manifest_etag="e" * MAX_ETAG_LENGTH,
        request_ids=",".join(["i" * 100] * MAX_REQUEST_IDS),
        detail="d" * 200_000,
    )
    await ledger.runs.insert(run)
    stored = await ledger.runs.get(run.run_id)
    assert stored is not None and stored.detail.endswith("d…")
    assert replace(stored, detail="", etag="") == replace(run, detail="", etag="")
    assert_within_limits(azurite, prefix)


async def test_blob_rows_with_maximum_lengths_are_written_in_one_batch(
    ledger: Ledger, azurite: Azurite, prefix: str
) -> None:
    """Each of 100 blobs has a header of 100,000 non-ASCII characters."""
    rows = [
        BlobRow(
            f"{number:03}" + "n" * (MAX_NAME_LENGTH - 3),
            True,
            "r",
            "0x8D",
            BlobFacts(2**40, "m" * 24, "s" * 64, 2**33, "gzip", ("ü" * 100_000,)),
            "0x8E",
            detail="😀" * 50_000,
        )
        for number in range(100)
    ]
    await ledger.blobs.record(KEY, "v", rows)
    stored = await ledger.blobs.get_by_version(KEY, "v")
    assert len(stored) == 100
    for row in rows:
        facts = replace(stored[row.name].facts, columns=row.facts.columns)
        assert replace(stored[row.name], facts=facts, detail="") == replace(row, detail="")
    assert_within_limits(azurite, prefix)


async def test_version_with_longest_etag_is_found(
    ledger: Ledger, azurite: Azurite, prefix: str
) -> None:
    etag = "ü" * MAX_ETAG_LENGTH
    invoice = Invoice(
        "G" + "9" * 15,
        total=Decimal("-" + "9" * 15 + "." + "9" * 25),
        currency="USD",
        document_type="x" * 40,
    )
    codes = ["".join(letters) for letters in itertools.product("ABCDE", repeat=3)]
    sums = LineSums()
    for code in codes:
        sums.add(b'{"Total":%s.%s,"Currency":"%s"}' % (b"9" * 20, b"9" * 30, code.encode()))
    assert len(sums.by_currency) == MAX_CURRENCIES < len(codes) == sums.rows
    version = await insert_complete_version(
        ledger,
        etag=etag,
        invoice=json.dumps(facts_of(invoice)),
        sums=sums.to_json(),
    )
    [result] = await list_by_etag(ledger, etag)
    assert LineSums.from_json(result.sums) == sums
    assert result == version and json.loads(result.invoice)["total"] == str(invoice.total)
    assert await list_by_etag(ledger, etag[:-1]) == []
    assert_within_limits(azurite, prefix)


@pytest.mark.parametrize("text", [json.dumps({"a": ["x" * 40] * 1_000}), "plain " * 10_000])
async def test_text_beyond_limit_is_truncated_with_marker(ledger: Ledger, text: str) -> None:
    """Truncation applies only to columns that are not parsed. Parsed columns have lower limits."""
    values: dict[str, Any] = {"text": text}
    await ledger.tables.insert("runs", "p", "r", values)
    row = await ledger.tables.get("runs", "p", "r")
    assert (
        row is not None
        and row.values["text"].endswith("…")
        and text.startswith(row.values["text"][:-1])
    )
