"""The documents for readers: `_manifest.json` of a version and `latest.json` of an export key.

`format` increases when the meaning of a member changes. Readers must ignore unknown members.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.blob_facts import BlobFacts
from shared.clock import parse_iso
from shared.exports import ExportKey, InvoiceScope, MonthScope

FORMAT = 1


@dataclass(frozen=True, slots=True)
class MarkerBlob:
    """One proven blob in a completion marker."""

    name: str
    partition_value: str
    source_etag: str
    facts: BlobFacts


def sum_rows(blobs: Iterable[MarkerBlob]) -> int | None:
    """Return the number of rows, or None if that of one blob is unknown."""
    rows = [blob.facts.known_rows for blob in blobs]
    known = [count for count in rows if count is not None]
    return sum(known) if len(known) == len(rows) else None


def get_key_members(key: ExportKey) -> dict[str, Any]:
    """Return the parts of the key under the names that paths, the API and documents use."""
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


def build_completion_marker(
    key: ExportKey,
    *,
    version: Mapping[str, Any],
    source: Mapping[str, Any],
    request: Mapping[str, Any],
    run: Mapping[str, Any],
    proof: str,
    blobs: Iterable[MarkerBlob],
    invoice: Mapping[str, Any] | None = None,
) -> Iterator[bytes]:
    """Return the lines of `_manifest.json`, which states that the version is complete and proven.

    Each blob has one line, so that the document for 100,000 blobs can be written as a stream. The
    document never contains a SAS token. Facts that the proof mode "transfer" does not compute are
    null.

    Args:
        key: The export key.
        version: version, etag, created_at, first_seen, landed_at, supersedes, path.
        source: schema_version, partner_tenant_id, manifest_id.
        request: period, requested_at, operation_id, request_ids.
        run: run_id, app_version.
        proof: The proof mode.
        blobs: The proven blobs.
        invoice: date, total, currency, type, amends, as listed; None for unbilled data and if the
            invoice list is unknown.
    """
    listed = sorted(blobs, key=lambda blob: blob.name)
    column_lists = {columns: index for index, columns in enumerate(_get_column_lists(listed))}
    members = {
        "format": FORMAT,
        **get_key_members(key),
        **version,
        **source,
        "request": dict(request),
        **run,
        "invoice": dict(invoice) if invoice else None,
        "proof": proof,
        "columns": sorted({column for columns in column_lists for column in columns}),
        "column_lists": [list(columns) for columns in column_lists],
        "totals": {
            "blobs": len(listed),
            "bytes": sum(blob.facts.bytes for blob in listed),
            "rows": sum_rows(listed),
        },
    }
    yield b"{\n"
    for name, value in members.items():
        yield b"%s: %s,\n" % (_to_json(name), _to_json(value))
    yield b'"blobs": ['
    separator = b"\n"
    for blob in listed:
        yield separator + _to_json(_describe_blob(blob, column_lists))
        separator = b",\n"
    yield b"\n]\n}\n"


def _get_column_lists(blobs: Iterable[MarkerBlob]) -> dict[tuple[str, ...], None]:
    """Return the different lists of columns, in the order of their first blob."""
    return dict.fromkeys(blob.facts.columns for blob in blobs)


def _describe_blob(blob: MarkerBlob, column_lists: Mapping[tuple[str, ...], int]) -> dict[str, Any]:
    facts = blob.facts
    return {
        "name": blob.name,
        "partition_value": blob.partition_value,
        "bytes": facts.bytes,
        "rows": facts.known_rows,
        "md5": facts.md5,
        "sha256": facts.sha256,
        "source_etag": blob.source_etag,
        "encoding": facts.encoding or None,
        "byte_order_mark": facts.byte_order_mark if facts.is_content_proven else None,
        "column_list": column_lists[facts.columns],
    }


def parse_completion_marker(body: bytes, version: str, etag: str) -> dict[str, MarkerBlob] | None:
    """Return the blobs in a completion marker, by name.

    Returns None if the marker is invalid or belongs to another version.
    """
    try:
        document = json.loads(body)
        if document["version"] != version or document["etag"] != etag:
            return None
        column_lists = [tuple(columns) for columns in document["column_lists"]]
        blobs = [_parse_blob(blob, column_lists) for blob in document["blobs"]]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return {blob.name: blob for blob in blobs}


def _parse_blob(blob: Mapping[str, Any], column_lists: Sequence[tuple[str, ...]]) -> MarkerBlob:
    return MarkerBlob(
        blob["name"],
        blob["partition_value"],
        blob["source_etag"],
        BlobFacts(
            bytes=blob["bytes"],
            md5=blob["md5"],
            sha256=blob["sha256"],
            rows=blob["rows"] or 0,
            encoding=blob["encoding"] or "",
            columns=column_lists[blob["column_list"]],
            byte_order_mark=bool(blob["byte_order_mark"]),
        ),
    )


def build_latest(
    key: ExportKey,
    *,
    sequence: int,
    billing_month: str,
    version: Mapping[str, Any],
    totals: Mapping[str, int | None],
) -> bytes:
    """Return `latest.json`, one line that names the version for readers.

    Args:
        key: The export key.
        sequence: A number that increases whenever the file of this key changes.
        billing_month: The billing month as `yyyy-mm`, or "" if it is unknown.
        version: version, path, etag, created_at, landed_at, first_seen, settles_on, supersedes.
        totals: blobs, bytes, rows; rows are None if they are unknown.
    """
    members = get_key_members(key)
    if billing_month:
        members.setdefault("billing_month", billing_month)
    document = {"format": FORMAT, **members, "sequence": sequence, **version, **totals}
    return _to_json(document) + b"\n"


def parse_latest(body: bytes) -> dict[str, Any] | None:
    """Return the members of a `latest.json`, or None if it is invalid."""
    try:
        document = json.loads(body)
        _age(document)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return dict(document)


def get_sequence(latest: Mapping[str, Any]) -> int:
    """Return the `sequence` of a `latest.json`, or 0 if it has none."""
    sequence = latest.get("sequence")
    return sequence if isinstance(sequence, int) and not isinstance(sequence, bool) else 0


def is_newer(candidate: Mapping[str, Any], current: Mapping[str, Any]) -> bool:
    """Return whether `candidate` replaces `current` in `latest.json`.

    The order is that of the data creation, then of the first observation.
    """
    return _age(candidate) > _age(current)


def parse_latest_version(latest: bytes) -> str | None:
    """Return the version that a `latest.json` names, or None if it is invalid.

    >>> parse_latest_version(b'{"format": 1, "version": "20261108T093700Z-3f9a1c20"}')
    '20261108T093700Z-3f9a1c20'
    >>> parse_latest_version(b"[]") is None
    True
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


def _to_json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
