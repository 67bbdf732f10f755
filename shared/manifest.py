"""Microsoft's list of an export's blobs: read from JSON, then held against the rules of design section 12. Pure.

Nothing of a manifest that breaks a rule is fetched. What a rule names in its error is never the text that broke it.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from shared.clock import parse_iso
from shared.errors import InvalidDataError
from shared.exports import BillingMonth, ExportKey, InvoiceScope, MonthScope
from shared.redaction import is_secret_free
from shared.urls import is_loopback_host

MOST_BLOBS = 100_000
LONGEST_NAME = 512  # characters; our own path before it has less than 400, storage allows 1,024
MOST_SEGMENTS = 200  # of a name; our own path before it has less than 50, storage allows 254
LONGEST_ETAG = 256  # characters; a blob's metadata holds it, percent-encoded
LONGEST_ROOT = 2_048
HOST = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
CONTROL = re.compile(r"[\x00-\x1f\x7f\ufffd\\]")  # U+FFFD: what was escaped is not UTF-8
NOT_TEXT = frozenset(
    {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
)  # controls, invisible ones, halves of pairs, no characters


@dataclass(frozen=True)
class ManifestBlob:
    name: str
    partition_value: str


@dataclass(frozen=True)
class Manifest:
    """One version of the data: `etag` is its identity, `created` (aware) its age, not the export's."""

    id: str
    etag: str
    created: datetime
    schema_version: str
    partner_tenant_id: str
    root_directory: str
    blobs: tuple[ManifestBlob, ...]
    blob_count: int
    sas_token: str = field(repr=False)


@dataclass(frozen=True)
class SourceRules:
    """`allowed`: host suffixes as `.blob.core.windows.net`, or one loopback origin as `http://127.0.0.1:10000`.

    `partner_tenant_id` None means that none is demanded (on loopback only).
    """

    allowed: tuple[str, ...]
    partner_tenant_id: str | None
    loopback: bool  # Graph itself is on loopback; only then may the source be


class DifferentMonthError(Exception):
    """The data are of another month than the unbilled key's: nothing is wrong, and nothing is landed."""


def parse_manifest(raw: Mapping[str, Any]) -> Manifest:
    """From the JSON object of Graph. Raises Rejected(graph_malformed) where it is not what the documents describe."""

    def text(name: str) -> str:
        value = raw.get(name)
        if not isinstance(value, str) or not value:
            raise InvalidDataError("graph_malformed", f"the manifest's {name} is not a text")
        return value

    def whole(name: str, value: object) -> str:
        said = "" if value is None else str(value)
        if any(unicodedata.category(character) in NOT_TEXT for character in said):
            raise InvalidDataError(
                "graph_malformed", f"the manifest's {name} has a character that no text has"
            )
        return said

    blobs = raw.get("blobs", [])
    if not isinstance(blobs, list) or not all(
        isinstance(blob, Mapping) and isinstance(blob.get("name"), str) for blob in blobs
    ):
        raise InvalidDataError(
            "graph_malformed", "the manifest's blobs are not a list of objects with a name"
        )
    count = raw.get("blobCount")
    if isinstance(count, bool) or not isinstance(count, int):
        raise InvalidDataError("graph_malformed", "the manifest's blobCount is not a whole number")
    try:
        created = parse_iso(text("createdDateTime"))
    except (ValueError, OverflowError):
        raise InvalidDataError(
            "graph_malformed", "the manifest's createdDateTime is not a time"
        ) from None
    sas_token = text("sasToken").removeprefix("?")
    if not re.fullmatch(r"[A-Za-z0-9%&=._~:/+*,;!$'()@-]+", sas_token):
        raise InvalidDataError("graph_malformed", "the manifest's sasToken is not a query string")
    etag = whole("eTag", text("eTag"))
    if len(etag) > LONGEST_ETAG:
        raise InvalidDataError("graph_malformed", "the manifest's eTag is too long")
    return Manifest(
        etag=etag,
        created=created,
        blob_count=count,
        sas_token=sas_token,
        root_directory=text("rootDirectory"),
        **{
            field: whole(name, raw.get(name))
            for field, name in (
                ("id", "id"),
                ("schema_version", "schemaVersion"),
                ("partner_tenant_id", "partnerTenantId"),
            )
        },
        blobs=tuple(
            ManifestBlob(blob["name"], whole("partitionValue", blob.get("partitionValue")))
            for blob in blobs
        ),
    )


def validate_manifest(manifest: Manifest, key: ExportKey, rules: SourceRules) -> None:
    """Raises Rejected(manifest_rejected | manifest_mismatch) or OtherMonth; returns where all rules hold."""
    validate_source(manifest.root_directory, rules)
    validate_names(manifest)
    validate_identity(manifest, key, rules)


def validate_source(root_directory: str, rules: SourceRules) -> None:
    if len(root_directory) > LONGEST_ROOT:
        raise InvalidDataError("manifest_rejected", "rootDirectory is too long")
    try:
        parts = urlsplit(root_directory)
        port, host = parts.port, (parts.hostname or "").lower()
    except ValueError:
        raise InvalidDataError("manifest_rejected", "rootDirectory is not a URL") from None
    if parts.username or parts.password or "@" in parts.netloc:
        raise InvalidDataError("manifest_rejected", "rootDirectory has user information")
    if parts.query or parts.fragment or "?" in root_directory or "#" in root_directory:
        raise InvalidDataError("manifest_rejected", "rootDirectory has a query or a fragment")
    path = unquote(parts.path)
    if (
        not root_directory.isascii()
        or " " in root_directory
        or any(CONTROL.search(one) for one in (root_directory, path))
    ):
        raise InvalidDataError(
            "manifest_rejected",
            "rootDirectory has a blank, a backslash or a control character, or is not ASCII",
        )
    segments = parts.path.removesuffix("/").split("/")[1:]
    if (
        len(segments) < 2
        or path.count("/") != parts.path.count("/")
        or any(unquote(segment) in ("", ".", "..") for segment in segments)
    ):
        raise InvalidDataError(
            "manifest_rejected", "rootDirectory's path names no folder of a container, or leaves it"
        )
    origin = f"{parts.scheme}://{parts.netloc}".lower()
    if is_loopback_host(host):
        if not (rules.loopback and origin in rules.allowed):
            raise InvalidDataError(
                "manifest_rejected",
                "rootDirectory is on loopback, which SOURCE_ALLOWED does not name",
            )
        return
    if not HOST.fullmatch(host):
        raise InvalidDataError("manifest_rejected", "rootDirectory's host is not a host name")
    if parts.scheme != "https" or port not in (None, 443):
        raise InvalidDataError("manifest_rejected", "rootDirectory is not https on its usual port")
    if not any(
        suffix.startswith(".") and host.endswith(suffix) and len(host) > len(suffix)
        for suffix in rules.allowed
    ):
        raise InvalidDataError(
            "manifest_rejected", "rootDirectory's host ends in none of SOURCE_ALLOWED"
        )


def validate_names(manifest: Manifest) -> None:
    names = [blob.name for blob in manifest.blobs]
    if len(names) != manifest.blob_count:
        raise InvalidDataError("manifest_rejected", "blobCount is not the number of blobs")
    if len(names) > MOST_BLOBS:
        raise InvalidDataError("manifest_rejected", f"more than {MOST_BLOBS} blobs")
    if len({name.casefold() for name in names}) != len(names):
        raise InvalidDataError("manifest_rejected", "two blobs have the same name")
    for name in names:
        validate_name(name)


def validate_name(name: str) -> None:
    if not name or len(name) > LONGEST_NAME:
        raise InvalidDataError("manifest_rejected", "a blob's name is empty or too long")
    if any(
        unicodedata.category(character) in NOT_TEXT or character in "\\?#%:" for character in name
    ):
        raise InvalidDataError(
            "manifest_rejected",
            "a blob's name has a control character or one that a URL would read otherwise",
        )
    if not is_secret_free(
        name
    ):  # names travel in histories, where the host would garble a failure beyond recognition
        raise InvalidDataError(
            "manifest_rejected", "a blob's name holds what the platform takes for a credential"
        )
    if name.count("/") >= MOST_SEGMENTS:
        raise InvalidDataError("manifest_rejected", "a blob's name has too many segments")
    if any(
        segment == "" or segment[0] in "._" or segment[-1] in ". " for segment in name.split("/")
    ):
        raise InvalidDataError(
            "manifest_rejected",
            "a segment of a blob's name is empty, begins with _ or ., or ends in . or a blank",
        )


def validate_identity(manifest: Manifest, key: ExportKey, rules: SourceRules) -> None:
    """Tenant, invoice, currency and attribute set as asked for; another month of an unbilled key raises OtherMonth."""
    root = manifest.root_directory
    tenants = {
        value.lower()
        for value in (manifest.partner_tenant_id, *values_in_root(root, "PartnerTenantId"))
        if value
    }
    if rules.partner_tenant_id is not None and tenants != {rules.partner_tenant_id.lower()}:
        raise InvalidDataError("manifest_mismatch", "the manifest is of another partner tenant")
    if differs(root, "Fragment", key.attribute_set.value):
        raise InvalidDataError("manifest_mismatch", "the manifest is of another attribute set")
    match key.scope:
        case InvoiceScope(invoice_id):
            if differs(root, "InvoiceId", invoice_id):
                raise InvalidDataError("manifest_mismatch", "the manifest is of another invoice")
        case MonthScope(month, currency):
            if differs(root, "Currency", currency):
                raise InvalidDataError("manifest_mismatch", "the manifest is of another currency")
            months = {month_of(said) for said in values_in_root(root, "BillingMonth")}
            if None in months:
                raise InvalidDataError(
                    "manifest_mismatch", "rootDirectory's BillingMonth is no month"
                )
            if months - {month}:
                raise DifferentMonthError


def values_in_root(root_directory: str, name: str) -> list[str]:
    """What `name=...` says in a root directory; nothing where the layout has no such segment (graph-partner-billing, 4)."""
    segments = unquote(urlsplit(root_directory).path).split("/")
    return [
        value
        for word, equals, value in (segment.partition("=") for segment in segments)
        if equals and word.lower() == name.lower()
    ]


def differs(root_directory: str, name: str, asked: str) -> bool:
    """Whether any segment of that name says something else."""
    return any(said.lower() != asked.lower() for said in values_in_root(root_directory, name))


def billing_month(root_directory: str) -> BillingMonth | None:
    """The month that a root directory names as `BillingMonth=yyyyMM`, if it does: all that is known of a billed key's."""
    months = {month_of(said) for said in values_in_root(root_directory, "BillingMonth")}
    return months.pop() if len(months) == 1 else None


def month_of(said: str) -> BillingMonth | None:
    """>>> month_of("202611"), month_of("2026-11"), month_of("202613")
    (BillingMonth(year=2026, month=11), BillingMonth(year=2026, month=11), None)
    """
    found = re.fullmatch(r"(20[0-9]{2})-?(0[1-9]|1[0-2])", said)
    return BillingMonth(int(found[1]), int(found[2])) if found else None


def create_source_rules(
    allowed: Iterable[str], partner_tenant_id: str | None, *, loopback: bool
) -> SourceRules:
    entries = (entry.strip().lower().rstrip("/") for entry in allowed)
    return SourceRules(tuple(entry for entry in entries if entry), partner_tenant_id, loopback)
