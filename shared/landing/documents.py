"""The two documents that readers of the landing rely on: a version's `_manifest.json` and a key's `latest.json`. Pure.

`format` counts up when a member changes its meaning; readers ignore members they do not know.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from shared.clock import parse_iso
from shared.exports import BillingMonth, ExportKey, InvoiceScope, MonthScope

FORMAT = 1


@dataclass(frozen=True)
class MarkerBlob:
    """One proven blob, as the marker tells of it. Sizes in bytes; md5 base64, sha256 hex; "" where unknown."""

    name: str
    partition_value: str
    bytes: int
    rows: int
    md5: str
    sha256: str
    source_etag: str
    encoding: str
    columns: tuple[str, ...]


def key_members(key: ExportKey) -> dict[str, Any]:
    """The key's parts under the names that paths, API and documents share."""
    scope: dict[str, Any]
    match key.scope:
        case InvoiceScope(invoice_id):
            scope = {"invoice_id": invoice_id}
        case MonthScope(month, currency):
            scope = {"billing_month": str(month), "currency_code": currency}
    return {
        "key": str(key),
        "dataset": key.dataset.value,
        **scope,
        "attribute_set": key.attribute_set.value,
    }


def marker(
    key: ExportKey,
    *,
    version: Mapping[str, Any],
    source: Mapping[str, Any],
    asked: Mapping[str, Any],
    run: Mapping[str, Any],
    proof: str,
    blobs: Iterable[MarkerBlob],
    invoice: Mapping[str, Any] | None = None,
) -> bytes:
    """`_manifest.json`: all of the version is here and proven. Never holds a SAS.

    version: version, etag, created_at, first_seen, landed_at, supersedes, path. source: schema_version,
    partner_tenant_id, manifest_id. asked: period, asked_at, operation_id, request_ids. run: run_id, app_version.
    invoice: date, total, currency, type, amends, as listed; None for unbilled data and where the list is not known.
    """
    listed = sorted(blobs, key=lambda blob: blob.name)
    return _line(
        {
            "format": FORMAT,
            **key_members(key),
            **version,
            **source,
            "asked": dict(asked),
            **run,
            "invoice": dict(invoice) if invoice else None,
            "proof": proof,
            "columns": sorted({column for blob in listed for column in blob.columns}),
            "totals": {
                "blobs": len(listed),
                "bytes": sum(blob.bytes for blob in listed),
                "rows": sum(blob.rows for blob in listed),
            },
            "blobs": [
                {
                    "name": blob.name,
                    "partition_value": blob.partition_value,
                    "bytes": blob.bytes,
                    "rows": blob.rows,
                    "md5": blob.md5,
                    "sha256": blob.sha256,
                    "source_etag": blob.source_etag,
                    "encoding": blob.encoding,
                    "columns": list(blob.columns),
                }
                for blob in listed
            ],
        },
        indent=1,
    )


def latest(
    key: ExportKey,
    *,
    billing_month: BillingMonth | None,
    version: Mapping[str, Any],
    totals: Mapping[str, int],
) -> bytes:
    """`latest.json`, one line: which version readers take.

    version: version, path, etag, created_at, landed_at, first_seen, settles_on, supersedes. totals: blobs, bytes, rows.
    """
    members = key_members(key)
    if billing_month is not None:
        members.setdefault("billing_month", str(billing_month))
    return _line({"format": FORMAT, **members, **version, **totals})


def parse_latest(body: bytes) -> dict[str, Any] | None:
    """What a `latest.json` says; None where it is not one, whoever wrote it."""
    try:
        document = json.loads(body)
        _age(document)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return dict(document)


def is_newer(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether `latest.json` moves from `theirs` to `ours`: by the age of the data, then by when it was first seen."""
    return _age(ours) > _age(theirs)


def parse_latest_version(latest: bytes) -> str | None:
    """The version that a latest.json names; None where it is none of ours.

    >>> parse_latest_version(b'{"format": 1, "version": "20261108T093700Z-3f9a1c20"}'), parse_latest_version(b"[]")
    ('20261108T093700Z-3f9a1c20', None)
    """
    try:
        version = json.loads(latest)["version"]
    except (ValueError, KeyError, TypeError):
        return None
    return version if isinstance(version, str) and version else None


def _age(document: Mapping[str, Any]) -> tuple[Any, Any, str]:
    return (
        parse_iso(document["created_at"]),
        parse_iso(document["first_seen"]),
        str(document["version"]),
    )


def _line(document: Mapping[str, Any], indent: int | None = None) -> bytes:
    separators = (",", ": ") if indent else (",", ":")
    return (
        json.dumps(document, ensure_ascii=False, indent=indent, separators=separators) + "\n"
    ).encode()
