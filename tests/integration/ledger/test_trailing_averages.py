"""Trailing averages over earlier versions for the month, or over other invoices in the currency."""

from dataclasses import replace

from shared.exports import ExportKey
from shared.invoices import Invoice
from shared.ledger.ledger import Ledger
from shared.ledger.trailing_averages import TrailingAverages, get_trailing_averages
from shared.ledger.versions import Version
from tests.integration.ledger.ledger_rows import KEY, OTHER_KEY, build_run, insert_complete_version


async def land_version(ledger: Ledger, key: ExportKey, etag: str, day: int, rows: int) -> Version:
    """Insert a complete version, and add it to the catalogue."""
    version = await insert_complete_version(ledger, key, etag, day=day, rows=rows, bytes=rows * 10)
    run = replace(
        build_run(key=key),
        outcome="landed",
        ended_at=f"2026-11-{day:02}T06:00:00Z",
        version=version.version,
    )
    await ledger.catalogue.refresh(key, run)
    return version


async def test_average_of_first_version_is_none(ledger: Ledger) -> None:
    assert await get_trailing_averages(
        ledger, await land_version(ledger, OTHER_KEY, "e1", 1, 10)
    ) == TrailingAverages(0, None, None)
    assert await get_trailing_averages(
        ledger, await land_version(ledger, KEY, "e1", 1, 10)
    ) == TrailingAverages(0, None, None)


async def test_average_of_unbilled_month_uses_seven_previous_versions(ledger: Ledger) -> None:
    versions = [
        await land_version(ledger, OTHER_KEY, f"e{day}", day, day * 100) for day in range(1, 11)
    ]
    # The average of days 3 to 9.
    assert await get_trailing_averages(ledger, versions[9]) == TrailingAverages(7, 600.0, 6000.0)
    # Later versions are not included.
    assert await get_trailing_averages(ledger, versions[2]) == TrailingAverages(2, 150.0, 1500.0)
    assert await ledger.versions.change_state(versions[8], "pruned")
    assert await ledger.versions.change_state(versions[7], "damaged")
    abandoned = await ledger.versions.insert(
        replace(versions[7], manifest_etag="e0", rows=7, state="abandoned")
    )
    assert abandoned is not None
    # The average of days 3 to 9: pruned and damaged versions have landed.
    assert await get_trailing_averages(ledger, versions[9]) == TrailingAverages(7, 600.0, 6000.0)


async def test_average_ignores_other_months_and_currencies(ledger: Ledger) -> None:
    for other in (
        "unbilled_usage/2026-10/USD/full",
        "unbilled_usage/2026-11/EUR/full",
        "unbilled_usage/2026-11/USD/basic",
    ):
        await land_version(ledger, ExportKey.parse(other), "e1", 1, 10)
    assert await get_trailing_averages(
        ledger, await land_version(ledger, OTHER_KEY, "e1", 2, 10)
    ) == TrailingAverages(0, None, None)


async def test_average_of_invoice_uses_invoices_of_same_currency(ledger: Ledger) -> None:
    def key(number: int, attributes: str = "full") -> ExportKey:
        return ExportKey.parse(f"billed_usage/G00000000{number}/{attributes}")

    await ledger.invoices.save(
        [
            Invoice(f"G00000000{number}", currency="EUR" if number == 4 else "USD")
            for number in range(1, 6)
        ]
    )
    for number, rows in ((1, 100), (2, 200), (4, 9_999), (5, 300)):
        await land_version(ledger, key(number), "e1", number, rows)
    await land_version(ledger, key(2), "e2", 12, 250)  # restated: only the newest version counts
    await land_version(ledger, key(1, "basic"), "e1", 13, 7)
    assert await get_trailing_averages(
        ledger, await land_version(ledger, key(3), "e1", 14, 1)
    ) == TrailingAverages(3, 216.7, 2166.7)
