"""Whether an eTag is known for the month before that of an export key."""

import pytest

from shared.exports import ExportKey
from shared.manifest import DifferentMonthError
from shared.versions.months import verify_not_previous_month
from tests.integration.ledger.ledger_rows import insert_complete_version
from tests.integration.versions.version_workspace import VersionWorkspace

DECEMBER = ExportKey.parse("unbilled_usage/2026-12/USD/full")
LANDED_AT = {"landed_at": "2026-11-30T06:00:00Z"}


@pytest.mark.parametrize(
    ("key", "etag", "columns"),
    [
        ("unbilled_usage/2026-11/USD/full", "e2", LANDED_AT),
        ("unbilled_usage/2026-10/USD/full", "e1", LANDED_AT),
        ("unbilled_usage/2026-12/USD/full", "e1", LANDED_AT),
        ("unbilled_usage/2026-11/EUR/full", "e1", LANDED_AT),
        ("unbilled_usage/2026-11/USD/basic", "e1", LANDED_AT),
        ("unbilled_reconciliation/2026-11/USD/full", "e1", LANDED_AT),
        ("unbilled_usage/2026-11/USD/full", "e1", {}),  # its own month was never confirmed
    ],
)
async def test_verify_not_previous_month_ignores_other_versions(
    workspace: VersionWorkspace, key: str, etag: str, columns: dict[str, str]
) -> None:
    await insert_complete_version(workspace.ledger, ExportKey.parse(key), etag, **columns)
    await verify_not_previous_month(workspace.ledger, DECEMBER, "e1")


@pytest.mark.parametrize("state", ["complete", "damaged", "pruned"])
async def test_verify_not_previous_month_of_a_landed_etag_raises(
    workspace: VersionWorkspace, state: str
) -> None:
    november = ExportKey.parse("unbilled_usage/2026-11/USD/full")
    version = await insert_complete_version(workspace.ledger, november, "e1", **LANDED_AT)
    if state != "complete":
        assert await workspace.ledger.versions.change_state(version, state)  # type: ignore[arg-type]
    with pytest.raises(DifferentMonthError):
        await verify_not_previous_month(workspace.ledger, DECEMBER, "e1")
