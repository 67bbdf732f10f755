"""The tie-out of a landed version: it reads the bytes that are listed, and loses no race."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from local.azurite import Azurite
from shared.exports import ExportKey
from shared.invoices import Invoice
from shared.landing.layout import marker_path, report_path, version_path
from shared.landing.store import LandingStore
from shared.ledger.versions import Version
from shared.messages import TieOutResult
from shared.tie_out.tie_outs import TieOuts
from tests.integration.ledger.ledger_rows import build_run, insert_complete_version
from tests.integration.versions.version_workspace import VersionWorkspace
from tests.support.fake_storage_account import FakeStorageAccount, StorageRequest

KEY = ExportKey.parse("billed_reconciliation/G016907411/full")
LINES = [b'{"Total":1,"Currency":"USD"}\n', b'{"Total":2,"Currency":"USD"}\n']


class LandedInvoice:
    """A landed invoice of two blobs, whose lines add up to 3 USD."""

    def __init__(self, workspace: VersionWorkspace, account: FakeStorageAccount) -> None:
        self.ledger, self.account = workspace.ledger, account
        self.landing = LandingStore(
            container="c", connection_string=account.connection_string, clock=workspace.clock
        )
        self.run_id = ""

    async def land(self) -> None:
        size = sum(map(len, LINES))
        version = await insert_complete_version(self.ledger, KEY, blobs=2, bytes=size)
        run = build_run(
            key=KEY, version=version.version, manifest_etag=version.manifest_etag, version_n=1
        )
        self.run_id = run.run_id
        await self.ledger.runs.insert(run)
        await self.ledger.invoices.save([Invoice("G016907411", currency="USD", total=Decimal(3))])
        for number, lines in enumerate(LINES):
            await self.landing.put(f"{version_path(KEY, version.version)}/part-{number}", lines)
        await self.landing.put(marker_path(KEY, version.version), b"{}")

    async def get_version(self) -> Version:
        [version] = [version async for version in self.ledger.versions.list_by_key(KEY)]
        return version

    async def add_landed(self) -> TieOutResult:
        return await TieOuts(self.ledger, self.landing).add_landed(self.run_id)


@pytest.fixture
async def landed(azurite: Azurite, container: str) -> AsyncIterator[LandedInvoice]:
    async with FakeStorageAccount() as account, VersionWorkspace(azurite, container) as workspace:
        invoice = LandedInvoice(workspace, account)
        await invoice.land()
        yield invoice
        await invoice.landing.close()


async def test_add_landed_stores_the_sums_once(landed: LandedInvoice) -> None:
    assert await landed.add_landed() == {"status": "tied_out"}
    reads = landed.account.request_kinds().count("GET")
    assert (await landed.get_version()).sums == (
        '{"rows":2,"rows_without_total":0,"sums":{"USD":"3.00"}}'
    )
    assert await landed.add_landed() == {"status": "tied_out"}
    assert landed.account.request_kinds().count("GET") == reads == 2


async def test_add_landed_blob_is_replaced_after_the_listing_is_not_read(
    landed: LandedInvoice,
) -> None:
    path = f"c/{version_path(KEY, (await landed.get_version()).version)}/part-1"

    def replace_blob(request: StorageRequest) -> bytes:
        if request.kind == "GET" and request.path == path:
            landed.account.faults.clear()
            landed.account.put(path, LINES[1].replace(b"2", b"7"))
        return b""

    landed.account.faults.append(replace_blob)
    assert await landed.add_landed() == {"status": "no_total", "code": "destination_unreachable"}
    assert (await landed.get_version()).sums == ""


async def test_add_landed_blob_is_missing_has_no_sums(landed: LandedInvoice) -> None:
    version = await landed.get_version()
    await landed.landing.delete(f"{version_path(KEY, version.version)}/part-1")
    assert await landed.add_landed() == {"status": "no_total", "code": "blobs_missing"}
    assert (await landed.get_version()).sums == ""


async def test_add_landed_lines_cannot_be_read_is_a_fact_of_the_version(
    landed: LandedInvoice,
) -> None:
    """With PROOF=transfer, a truncated file can land. It is not read again."""
    version = await landed.get_version()
    path = f"c/{version_path(KEY, version.version)}/part-0"
    landed.account.put(path, b"\x1f\x8b" + LINES[0][2:])
    assert await landed.add_landed() == {"status": "no_total", "code": "proof_gzip"}
    assert '"code":"proof_gzip"' in (await landed.get_version()).sums
    assert await landed.add_landed() == {"status": "no_total", "code": "proof_gzip"}


async def test_publish_version_is_pruned_meanwhile_leaves_no_report(
    landed: LandedInvoice, monkeypatch: Any
) -> None:
    put = landed.landing.put

    async def prune_before_report(path: str, body: bytes, **options: Any) -> str:
        version = await landed.get_version()
        await landed.ledger.versions.change_state(version, "pruned")
        return await put(path, body, **options)

    monkeypatch.setattr(landed.landing, "put", prune_before_report)
    await landed.add_landed()
    version = await landed.get_version()
    assert version.reported_tie_out == ""
    assert await landed.landing.read(report_path("tie_out", KEY, version.version)) is None
