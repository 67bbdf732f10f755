"""Retention of the ledger: which blob rows are deleted or kept."""

from datetime import timedelta

from shared.ledger.blobs import BlobRow
from shared.ledger.claims import claim
from shared.ledger.ledger import Ledger
from shared.ledger.retention import remove_blob_rows
from tests.integration.ledger.ledger_rows import KEY, build_run, insert_complete_version
from tests.support.clocks import FakeClock


async def test_remove_blob_rows_keeps_rows_of_key_with_active_run(
    ledger: Ledger, clock: FakeClock
) -> None:
    version, run = await insert_complete_version(ledger), build_run()
    await ledger.blobs.record(KEY, version.version, [BlobRow("a", True, run.run_id)])
    clock.advance(days=31)
    assert await claim(ledger, run) == {"status": "claimed"}
    assert await remove_blob_rows(ledger, KEY, timedelta(days=30)) == 0
    assert list(await ledger.blobs.get_by_version(KEY, version.version)) == ["a"]
    await ledger.locks.release(str(KEY), run.run_id)
    assert await remove_blob_rows(ledger, KEY, timedelta(days=30)) == 1
    assert await ledger.blobs.get_by_version(KEY, version.version) == {}
