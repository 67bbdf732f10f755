"""Parses and validates the manifest of an export: Microsoft's list of its blobs.

No blob of an invalid manifest is read. Error messages never contain text from the manifest.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from shared.clock import parse_iso
from shared.errors import InvalidDataError, MalformedManifestError
from shared.exports import BillingMonth, ExportKey, InvoiceScope, MonthScope
from shared.redaction import is_secret_free
from shared.urls import is_loopback_host

MAX_BLOBS = 100_000
# Characters of a blob name. The path of the version folder has less than 400; storage allows 1,024.
MAX_NAME_LENGTH = 512
# Segments of a blob name. The path of the version folder has less than 50; storage allows 254.
MAX_NAME_SEGMENTS = 200
MAX_ETAG_LENGTH = 256  # characters; blob metadata contains the ETag, percent-encoded
MAX_ROOT_LENGTH = 2_048
HOST = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
CONTROL = re.compile(r"[\x00-\x1f\x7f\ufffd\\]")  # U+FFFD results from escapes that are not UTF-8
# Unicode categories: control, format, surrogate, private use, unassigned, line and paragraph
# separator.
FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


@dataclass(frozen=True)
class ManifestBlob:
    """A blob that a manifest lists."""

    name: str
    partition_value: str


@dataclass(frozen=True)
class Manifest:
    """One version of the exported data.

    `etag` identifies the version. `created` (aware) is when the data was created, not when it was
    exported.
    """

    id: str
    etag: str
    created: datetime
    schema_version: str
    partner_tenant_id: str
    root_directory: str
    blobs: tuple[ManifestBlob, ...]
    blob_count: int
    sas_token: str = field(repr=False)

    @property
    def names_hash(self) -> str:
        """The SHA-256 hash of the listed blobs, in any order, in hexadecimal."""
        blobs = sorted((blob.name, blob.partition_value) for blob in self.blobs)
        return hashlib.sha256(json.dumps(blobs).encode()).hexdigest()


@dataclass(frozen=True)
class SourceRules:
    """The sources that are allowed.

    `allowed` contains host suffixes such as `.blob.core.windows.net`, or a loopback origin such as
    `http://127.0.0.1:10000`. `partner_tenant_id` is None if any tenant is allowed (on loopback
    only). `loopback` is true if Graph itself is on loopback; only then can the source be on
    loopback.
    """

    allowed: tuple[str, ...]
    partner_tenant_id: str | None
    loopback: bool


class DifferentMonthError(Exception):
    """The data is not confirmed to be from the month of the unbilled key.

    It is valid but must not be landed.
    """


def parse_manifest(raw: Mapping[str, Any]) -> Manifest:
    """Parse the JSON object that Graph returns. A member that is null counts as absent.

    Only a manifest without blobs can omit `blobs`, `sasToken` and `rootDirectory`.

    Raises:
        MalformedManifestError: The object does not have the documented structure.
    """

    def required_string(name: str) -> str:
        value = raw.get(name)
        if not isinstance(value, str) or not value:
            raise MalformedManifestError(f"{name} of the manifest is not a string or is empty")
        return value

    def clean_string(name: str, value: object) -> str:
        text = "" if value is None else str(value)
        if _has_forbidden_character(text):
            raise MalformedManifestError(f"{name} of the manifest contains a forbidden character")
        return text

    def location_string(name: str) -> str:
        return "" if count == 0 and raw.get(name) in (None, "") else required_string(name)

    def parse_blob(index: int, blob: object) -> ManifestBlob:
        if not isinstance(blob, Mapping):
            raise MalformedManifestError(f"blobs[{index}] of the manifest is not an object")
        name = blob.get("name")
        if not isinstance(name, str):
            raise MalformedManifestError(f"blobs[{index}].name of the manifest is not a string")
        value = clean_string(f"blobs[{index}].partitionValue", blob.get("partitionValue"))
        return ManifestBlob(name, value)

    blobs = [] if raw.get("blobs") is None else raw["blobs"]
    if not isinstance(blobs, list):
        raise MalformedManifestError("blobs of the manifest is not an array")
    count = raw.get("blobCount")
    if isinstance(count, bool) or not isinstance(count, int):
        raise MalformedManifestError("blobCount of the manifest is not an integer")
    if count != 0 and raw.get("blobs") is None:
        raise MalformedManifestError("blobs of the manifest is missing, but blobCount is not 0")
    try:
        created = parse_iso(required_string("createdDateTime"))
    except (ValueError, OverflowError):
        raise MalformedManifestError(
            "createdDateTime of the manifest is not a valid time"
        ) from None
    sas_token = location_string("sasToken").removeprefix("?")
    if (sas_token or count) and not re.fullmatch(r"[A-Za-z0-9%&=._~:/+*,;!$'()@-]+", sas_token):
        raise MalformedManifestError("sasToken of the manifest is not a query string")
    etag = clean_string("eTag", required_string("eTag"))
    if len(etag) > MAX_ETAG_LENGTH:
        raise MalformedManifestError(f"eTag of the manifest exceeds {MAX_ETAG_LENGTH} characters")
    return Manifest(
        etag=etag,
        created=created,
        blob_count=count,
        sas_token=sas_token,
        root_directory=location_string("rootDirectory"),
        partner_tenant_id=clean_string("partnerTenantId", required_string("partnerTenantId")),
        id=clean_string("id", raw.get("id")),
        schema_version=clean_string("schemaVersion", raw.get("schemaVersion")),
        blobs=tuple(parse_blob(index, blob) for index, blob in enumerate(blobs)),
    )


def _has_forbidden_character(text: str) -> bool:
    return any(unicodedata.category(character) in FORBIDDEN_CATEGORIES for character in text)


def _rejected(detail: str) -> InvalidDataError:
    return InvalidDataError("manifest_rejected", detail)


def _mismatch(detail: str) -> InvalidDataError:
    return InvalidDataError("manifest_mismatch", detail)


def validate_manifest(manifest: Manifest, key: ExportKey, rules: SourceRules) -> None:
    """Validate the location and the identity of a manifest.

    Raises:
        InvalidDataError: `manifest_rejected` or `manifest_mismatch`.
        DifferentMonthError: The data is from another month than the unbilled key.
    """
    validate_location(manifest, rules)
    validate_identity(manifest, key, rules)


def validate_location(manifest: Manifest, rules: SourceRules) -> None:
    """Raise `manifest_rejected` if the source or the name of a blob is invalid.

    A manifest without blobs can have no root directory.
    """
    validate_names(manifest)
    if manifest.root_directory or manifest.blobs:
        validate_source(manifest.root_directory, rules)


def validate_source(root_directory: str, rules: SourceRules) -> None:
    """Raise `manifest_rejected` if the root directory is not a folder of an allowed source."""
    if len(root_directory) > MAX_ROOT_LENGTH:
        raise _rejected(f"rootDirectory exceeds {MAX_ROOT_LENGTH} characters")
    try:
        parts = urlsplit(root_directory)
        port, host = parts.port, (parts.hostname or "").lower()
    except ValueError:
        raise _rejected("rootDirectory is not a valid URL") from None
    if parts.username or parts.password or "@" in parts.netloc:
        raise _rejected("rootDirectory contains user information")
    if parts.query or parts.fragment or "?" in root_directory or "#" in root_directory:
        raise _rejected("rootDirectory contains a query or a fragment")
    path = unquote(parts.path)
    if (
        not root_directory.isascii()
        or " " in root_directory
        or any(CONTROL.search(text) for text in (root_directory, path))
    ):
        raise _rejected(
            "rootDirectory contains a space, a backslash, a control character, "
            "or a non-ASCII character"
        )
    segments = parts.path.removesuffix("/").split("/")[1:]
    if (
        len(segments) < 2
        or path.count("/") != parts.path.count("/")
        or any(unquote(segment) in ("", ".", "..") for segment in segments)
    ):
        raise _rejected("The path of rootDirectory is not a folder in a container")
    origin = f"{parts.scheme}://{parts.netloc}".lower()
    if is_loopback_host(host):
        if not (rules.loopback and origin in rules.allowed):
            raise _rejected("rootDirectory is a loopback address that SOURCE_ALLOWED does not list")
        return
    if not HOST.fullmatch(host):
        raise _rejected("The host of rootDirectory is not a valid host name")
    if parts.scheme != "https" or port not in (None, 443):
        raise _rejected("rootDirectory does not use HTTPS on port 443")
    if not any(
        suffix.startswith(".") and host.endswith(suffix) and len(host) > len(suffix)
        for suffix in rules.allowed
    ):
        raise _rejected("The host of rootDirectory does not match any suffix in SOURCE_ALLOWED")


def validate_names(manifest: Manifest) -> None:
    """Raise `manifest_rejected` if a blob name or the number of blobs is invalid."""
    names = [blob.name for blob in manifest.blobs]
    if len(names) != manifest.blob_count:
        raise _rejected("blobCount differs from the number of blobs")
    if len(names) > MAX_BLOBS:
        raise _rejected(f"The manifest lists more than {MAX_BLOBS:,} blobs")
    if len({name.casefold() for name in names}) != len(names):
        raise _rejected("Two blobs have the same name")
    for index, name in enumerate(names):
        validate_name(name, f"blobs[{index}].name")


def validate_name(name: str, member: str = "name") -> None:
    """Raise `manifest_rejected` if a blob name is not safe as a path or URL.

    The detail of the error contains `member`, which identifies the name in the manifest.
    """
    if not name or len(name) > MAX_NAME_LENGTH:
        raise _rejected(f"{member} is empty or exceeds {MAX_NAME_LENGTH} characters")
    if _has_forbidden_character(name) or any(character in name for character in "\\?#%:"):
        raise _rejected(f"{member} contains a control character or one that URLs reserve")
    # Histories contain blob names, and the host redacts error messages that contain a credential.
    if not is_secret_free(name):
        raise _rejected(f"{member} contains text that the platform treats as a credential")
    if name.count("/") >= MAX_NAME_SEGMENTS:
        raise _rejected(f"{member} has more than {MAX_NAME_SEGMENTS} segments")
    if any(
        segment == "" or segment[0] in "._" or segment[-1] in ". " for segment in name.split("/")
    ):
        raise _rejected(
            f"A segment of {member} is empty, starts with _ or ., or ends with . or a space"
        )


def validate_identity(manifest: Manifest, key: ExportKey, rules: SourceRules) -> None:
    """Compare tenant, invoice, currency, attribute set and month with the requested key.

    A root directory that names no month neither confirms nor refutes it; see
    shared/versions/months.py.

    Raises:
        InvalidDataError: `manifest_mismatch`.
        DifferentMonthError: The data is from another month than the unbilled key.
    """
    root = manifest.root_directory
    tenants = {
        value.lower()
        for value in (manifest.partner_tenant_id, *root_values(root, "PartnerTenantId"))
    }
    if rules.partner_tenant_id is not None and tenants != {rules.partner_tenant_id.lower()}:
        raise _mismatch("The manifest belongs to another partner tenant")
    if differs(root, "Fragment", key.attribute_set.value):
        raise _mismatch("The manifest belongs to another attribute set")
    match key.scope:
        case InvoiceScope(invoice_id):
            if differs(root, "InvoiceId", invoice_id):
                raise _mismatch("The manifest belongs to another invoice")
        case MonthScope(month, currency):
            if differs(root, "Currency", currency):
                raise _mismatch("The manifest is for a different currency")
            months = {parse_month(value) for value in root_values(root, "BillingMonth")}
            if None in months:
                raise _mismatch("BillingMonth in rootDirectory is not a month")
            if months - {month}:
                raise DifferentMonthError


def root_values(root_directory: str, name: str) -> list[str]:
    """Return the values of the `name=value` segments of a root directory, which can have none."""
    segments = unquote(urlsplit(root_directory).path).split("/")
    return [
        value
        for word, equals, value in (segment.partition("=") for segment in segments)
        if equals and word.lower() == name.lower()
    ]


def differs(root_directory: str, name: str, expected: str) -> bool:
    """Return whether a segment with this name has another value. Case is ignored."""
    return any(value.lower() != expected.lower() for value in root_values(root_directory, name))


def billing_month(root_directory: str) -> BillingMonth | None:
    """Return the month in the `BillingMonth=yyyyMM` segment, or None if it is not unambiguous.

    There is no other source for the month of a billed key.
    """
    months = {parse_month(value) for value in root_values(root_directory, "BillingMonth")}
    return months.pop() if len(months) == 1 else None


def parse_month(text: str) -> BillingMonth | None:
    """Return the month, or None if the text is not one.

    >>> parse_month("202611"), parse_month("2026-11"), parse_month("202613")
    (BillingMonth(year=2026, month=11), BillingMonth(year=2026, month=11), None)
    """
    match = re.fullmatch(r"(20[0-9]{2})-?(0[1-9]|1[0-2])", text)
    return BillingMonth(int(match[1]), int(match[2])) if match else None


def create_source_rules(
    allowed: Iterable[str], partner_tenant_id: str | None, *, loopback: bool
) -> SourceRules:
    """Return the rules for the entries of SOURCE_ALLOWED."""
    entries = (entry.strip().lower().rstrip("/") for entry in allowed)
    return SourceRules(tuple(entry for entry in entries if entry), partner_tenant_id, loopback)
