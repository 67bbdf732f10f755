"""Manifests with documented members and layouts, and manifests that clients must reject."""

import re
from dataclasses import replace

import pytest

from local.simulator import PARTNER_TENANT_ID, SWITCHES, Behaviour, NoStorage, Simulator
from local.simulator.data_versions import ExportKey
from local.simulator.manifests import Manifest, manifest_of
from tests.support.clocks import FakeClock

MEMBERS = {
    "id",
    "schemaVersion",
    "dataFormat",
    "createdDateTime",
    "eTag",
    "partnerTenantId",
    "rootDirectory",
    "sasToken",
    "partitionType",
    "blobCount",
    "blobs",
}
DEFAULT = Behaviour()
INVALID = [value for value in SWITCHES["hostile_manifest"] if value != "none"]


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(storage=NoStorage(), clock=FakeClock.at("2026-11-21"))


def manifest(simulator: Simulator, key: str, behaviour: Behaviour = DEFAULT) -> Manifest:
    simulator.behaviour = behaviour
    version = simulator._exports.version(ExportKey.parse(key))
    return manifest_of(
        version,
        behaviour,
        tenant_id=PARTNER_TENANT_ID,
        blob_url="http://127.0.0.1:1/billing",
        sas="sig=x",
    )


def test_manifest_has_documented_members_and_layout(simulator: Simulator) -> None:
    billed, unbilled = (simulator.export_keys()[number] for number in (0, 2))
    first, second = manifest(simulator, billed), manifest(simulator, unbilled)
    assert set(first) == set(second) == MEMBERS
    tenant = f"PartnerTenantId={PARTNER_TENANT_ID}"
    assert re.fullmatch(
        rf"http://127\.0\.0\.1:1/billing/billedusagefastpath/v1/{tenant}/BillingMonth=202609/"
        r"InvoiceId=G\d{9}/InvoiceVersion=202610080937/Fragment=full/PartitionType=default",
        first["rootDirectory"],
    )
    assert re.fullmatch(
        rf"http://127\.0\.0\.1:1/billing/unbilledusagefastpath/v1/202611210035/{tenant}/"
        r"BillingMonth=202611/Currency=USD/Fragment=full/PartitionType=default",
        second["rootDirectory"],
    )
    assert first["blobCount"] == len(first["blobs"]) > 1
    assert all(
        re.fullmatch(
            r"part-\d{5}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.c000\.json\.gz", blob["name"]
        )
        and blob["partitionValue"] == "default"
        for blob in first["blobs"]
    )
    assert first["createdDateTime"] == "2026-10-08T09:37:00Z"


def test_reconciliation_root_has_three_forms(simulator: Simulator) -> None:
    key = next(key for key in simulator.export_keys() if key.startswith("billed_reconciliation"))
    like_usage, plain, opaque = (
        manifest(simulator, key, replace(Behaviour(), reconciliation_root=value))["rootDirectory"]
        for value in SWITCHES["reconciliation_root"]
    )
    assert "/BillingMonth=202609/" in like_usage
    assert re.search(rf"/v1/{PARTNER_TENANT_ID}/202609/G\d{{9}}/", plain)
    assert re.search(r"/v1/[0-9a-f]{8}-[0-9a-f-]{27}$", opaque)


def test_manifest_extra_members_and_partitions_are_present(simulator: Simulator) -> None:
    behaviour = replace(Behaviour(), extra_members="present", partition_values="several")
    document = manifest(simulator, simulator.export_keys()[0], behaviour)
    assert document["blobs"][0]["sizeInBytes"] > 0 and document["blobs"][0]["itemCount"] > 0
    assert [blob["partitionValue"] for blob in document["blobs"]][:3] == ["0", "0", "1"]


@pytest.mark.parametrize("value", INVALID)
def test_invalid_manifest_differs_from_valid_one_where_applicable(
    simulator: Simulator, value: str
) -> None:
    applicable = {"other_invoice": "billed", "other_currency": "unbilled"}.get(value, "")
    for key in simulator.export_keys():
        valid, invalid = (
            manifest(simulator, key),
            manifest(simulator, key, replace(Behaviour(), hostile_manifest=value)),
        )
        assert (invalid != valid) == key.startswith(applicable), (value, key)
