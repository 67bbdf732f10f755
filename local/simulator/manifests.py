"""Manifests of data versions: all documented and observed variants, and invalid ones."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from local.simulator.behaviour import Behaviour
from local.simulator.data_versions import DataVersion

CONTAINERS = {
    "billed_usage": "billedusagefastpath",
    "unbilled_usage": "unbilledusagefastpath",
    "billed_reconciliation": "billedreconciliationfastpath",
    "unbilled_reconciliation": "unbilledreconciliationfastpath",
}
Manifest = dict[str, Any]


def container_of(version: DataVersion) -> str:
    """Return the container of a version's blobs."""
    return CONTAINERS[version.key.dataset]


def folder_of(version: DataVersion, tenant_id: str) -> str:
    """Return the folder of a version's blobs in the container.

    The format for usage has been observed. The format for reconciliation is unknown; a switch
    selects one.
    """
    key, stamp = version.key, version.created.strftime("%Y%m%d%H%M")
    if key.family == "reconciliation" and version.behaviour.reconciliation_root == "opaque":
        return f"v1/{version.manifest_id}"
    if key.family == "reconciliation" and version.behaviour.reconciliation_root == "plain":
        scope = key.invoice_id or key.currency
        return f"v1/{tenant_id}/{version.month.compact}/{scope}/{stamp}/{key.attribute_set}"
    fragment = f"Fragment={key.attribute_set}/PartitionType=default"
    if key.billed:
        return (
            f"v1/PartnerTenantId={tenant_id}/BillingMonth={version.month.compact}/"
            f"InvoiceId={key.invoice_id}/InvoiceVersion={stamp}/{fragment}"
        )
    return (
        f"v1/{stamp}/PartnerTenantId={tenant_id}/BillingMonth={version.month.compact}/"
        f"Currency={key.currency}/{fragment}"
    )


def manifest_of(
    version: DataVersion, behaviour: Behaviour, *, tenant_id: str, blob_url: str, sas: str
) -> Manifest:
    """Return the manifest as Graph does. `blob_url` is that of the storage account or its proxy."""
    blobs: list[dict[str, Any]] = []
    for number, file in enumerate(version.blobs):
        partition = f"{number // 2}" if behaviour.partition_values == "several" else "default"
        blob: dict[str, Any] = {"name": file.name, "partitionValue": partition}
        if behaviour.extra_members == "present":
            blob |= {"sizeInBytes": file.size, "itemCount": file.rows}
        blobs.append(blob)
    manifest: Manifest = {
        "id": version.manifest_id,
        "schemaVersion": behaviour.schema_version,
        "dataFormat": behaviour.data_format,
        "createdDateTime": graph_time(version.created),
        "eTag": version.etag,
        "partnerTenantId": tenant_id,
        "rootDirectory": f"{blob_url}/{container_of(version)}/{folder_of(version, tenant_id)}",
        "sasToken": sas,
        "partitionType": behaviour.partition_type,
        "blobCount": len(blobs),
        "blobs": blobs,
    }
    if behaviour.extra_members == "present":
        manifest["dataSource"] = "simulated"
    if behaviour.hostile_manifest != "none":
        _INVALID_MANIFESTS[behaviour.hostile_manifest](manifest, version)
    return manifest


def graph_time(moment: datetime) -> str:
    """Return a time such as `2023-03-09T06:34:34.87Z`, without trailing zeros."""
    text = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    return text + "Z"


Change = Callable[[Manifest, DataVersion], None]


def _set(**members: Any) -> Change:
    return lambda manifest, version: manifest.update(members)


def _root(change: Callable[[str, DataVersion], str]) -> Change:
    def apply(manifest: Manifest, version: DataVersion) -> None:
        manifest["rootDirectory"] = change(manifest["rootDirectory"], version)

    return apply


def _first_name(change: Callable[[str], str | None]) -> Change:
    def apply(manifest: Manifest, version: DataVersion) -> None:
        if manifest["blobs"]:
            manifest["blobs"][0]["name"] = change(manifest["blobs"][0]["name"])

    return apply


def _count(more: int) -> Change:
    def apply(manifest: Manifest, version: DataVersion) -> None:
        manifest["blobCount"] += more

    return apply


def _duplicate(manifest: Manifest, version: DataVersion) -> None:
    if manifest["blobs"]:
        manifest["blobs"].append(dict(manifest["blobs"][0]))
        manifest["blobCount"] += 1


def _other_scope(**key: Any) -> Callable[[str, DataVersion], str]:
    """Return a function that changes the scope in a root directory."""

    def change(root: str, version: DataVersion) -> str:
        applicable = {
            name: value for name, value in key.items() if getattr(version.key, name) is not None
        }
        other = replace(version, key=replace(version.key, **applicable))
        tenant_id = _tenant_in(root)
        return root.replace(folder_of(version, tenant_id), folder_of(other, tenant_id))

    return change


def _other_month(root: str, version: DataVersion) -> str:
    return root.replace(
        f"BillingMonth={version.month.compact}", f"BillingMonth={version.month.plus(-1).compact}"
    )


def _tenant_in(root: str) -> str:
    return root.partition("PartnerTenantId=")[2].partition("/")[0]


OTHER_TENANT = "99999999-0000-4000-8000-000000000099"
_INVALID_MANIFESTS: dict[str, Change] = {
    "foreign_host": _root(lambda root, _: "http://198.51.100.7:10000/" + root.split("/", 3)[3]),
    "query_in_root": _root(lambda root, _: root + "?restype=container"),
    "user_info": _root(lambda root, _: root.replace("://", "://user:secret@", 1)),
    "empty_root": _set(rootDirectory=""),
    "no_sas": _set(sasToken=""),
    "null_members": _set(blobs=None, sasToken=None, rootDirectory=None),
    "null_name": _first_name(lambda name: None),
    "dot_dot": _first_name(lambda name: f"../{name}"),
    "absolute_name": _first_name(lambda name: f"/{name}"),
    "backslash": _first_name(lambda name: f"folder\\{name}"),
    "control_character": _first_name(lambda name: f"part\n{name}"),
    "underscore_segment": _first_name(lambda name: f"_manifest/{name}"),
    "dot_segment": _first_name(lambda name: f".hidden/{name}"),
    "empty_name": _first_name(lambda name: ""),
    "duplicate": _duplicate,
    "count_too_high": _count(1),
    "count_too_low": _count(-1),
    "other_tenant": _set(partnerTenantId=OTHER_TENANT),
    "other_tenant_in_root": _root(
        lambda root, _: root.replace(_tenant_in(root), OTHER_TENANT) if _tenant_in(root) else root
    ),
    "other_invoice": _root(_other_scope(invoice_id="G099999999")),
    "other_currency": _root(_other_scope(currency="JPY")),
    "other_fragment": _root(
        lambda root, version: root.replace(
            f"Fragment={version.key.attribute_set}",
            f"Fragment={'basic' if version.key.attribute_set == 'full' else 'full'}",
        )
    ),
    "other_month": _root(_other_month),
}
