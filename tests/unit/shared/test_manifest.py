"""Manifest validation. Each file in payloads/manifests is one case; its folder is the result."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidDataError
from shared.exports import BillingMonth, ExportKey
from shared.landing.layout import blob_path, version_path
from shared.manifest import (
    MAX_BLOBS,
    DifferentMonthError,
    SourceRules,
    billing_month,
    create_source_rules,
    parse_manifest,
    validate_location,
    validate_manifest,
    validate_name,
    validate_names,
    validate_source,
)
from shared.redaction import is_secret_free
from shared.transfer.manifest_cache import SourceDirectory

PAYLOADS = Path(__file__).resolve().parents[2] / "payloads" / "manifests"
TENANT = "7d0f6c2e-3c1b-4c57-9a0e-2d8f5b1c9e44"
RULES = {
    "azure": create_source_rules(
        (".blob.core.windows.net", ".blob.storage.azure.net"), TENANT, loopback=False
    ),
    "loopback": create_source_rules(("http://127.0.0.1:10000",), TENANT, loopback=True),
}
VERSION = "20261108T093700Z-3f9a1c20"
KEY = ExportKey.parse("billed_usage/G016907411/full")


def payloads(folder: str = "*") -> list[Any]:
    return [
        pytest.param(path, id=f"{path.parent.name}/{path.stem}")
        for path in sorted(PAYLOADS.glob(f"{folder}/*.json"))
    ]


@cache
def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def read(path: Path) -> Any:
    return json.loads(_read_text(path))


def validation_result(payload: Any) -> str:
    try:
        validate_manifest(
            parse_manifest(payload["manifest"]),
            ExportKey.parse(payload["key"]),
            RULES[payload["rules"]],
        )
    except DifferentMonthError:
        return "month_not_open"
    except InvalidDataError as error:
        return error.code
    return "accepted"


def test_payloads_cover_many_cases() -> None:
    assert len(payloads()) - len(payloads("accepted")) >= 150 and len(payloads("accepted")) >= 20


@pytest.mark.parametrize("path", payloads())
def test_validate_manifest_returns_the_result_of_the_folder(path: Path) -> None:
    assert validation_result(read(path)) == path.parent.name


def test_validate_manifest_error_contains_no_text_of_the_manifest() -> None:
    for path in PAYLOADS.glob("*_*/*.json"):
        if path.parent.name == "month_not_open":
            continue
        payload = read(path)
        with pytest.raises(InvalidDataError) as raised:
            validate_manifest(
                parse_manifest(payload["manifest"]),
                ExportKey.parse(payload["key"]),
                RULES[payload["rules"]],
            )
        detail = raised.value.detail
        texts = [value for value in payload["manifest"].values() if isinstance(value, str)]
        blobs = payload["manifest"].get("blobs")
        texts += (
            [str(blob.get("name")) for blob in blobs if isinstance(blob, dict)]
            if isinstance(blobs, list)
            else []
        )
        assert detail.isascii() and detail.isprintable() and len(detail) < 120, path.name
        assert not any(len(text) > 8 and text in detail for text in texts), path.name
        assert raised.value.__cause__ is None


@pytest.mark.parametrize("path", payloads("accepted"))
def test_parse_manifest_accepted_keeps_all_values(path: Path) -> None:
    raw = read(path)["manifest"]
    manifest = parse_manifest(raw)
    assert (manifest.etag, manifest.root_directory, manifest.blob_count) == (
        raw["eTag"],
        raw["rootDirectory"],
        raw["blobCount"],
    )
    assert [blob.name for blob in manifest.blobs] == [blob["name"] for blob in raw.get("blobs", [])]
    assert manifest.created.utcoffset() is not None and manifest.created.isoformat().startswith(
        "2026-11-08T09:37:00"
    )
    assert not manifest.sas_token.startswith("?") and "sig=" not in repr(manifest)


@pytest.mark.parametrize("path", payloads("accepted"))
def test_blob_url_of_an_accepted_blob_is_below_the_root(path: Path) -> None:
    manifest = parse_manifest(read(path)["manifest"])
    directory = SourceDirectory(manifest.etag, manifest.root_directory, manifest.sas_token)
    root = urlsplit(manifest.root_directory)
    for blob in manifest.blobs:
        url = urlsplit(directory.blob_url(blob.name))
        assert (url.scheme, url.netloc, url.fragment) == (root.scheme, root.netloc, "")
        assert unquote(url.path) == unquote(root.path).rstrip("/") + "/" + blob.name
        assert url.query == manifest.sas_token


names = st.one_of(
    st.text(max_size=40),
    st.text("ab./_ %\\~:=-é\u0085\u2028", max_size=20),
    st.lists(
        st.sampled_from(
            [
                "..",
                ".",
                "a",
                "_a",
                ".a",
                "a.",
                "",
                "part-0.json.gz",
                "x=1",
                "Key=1",
                "&code=",
                "%2e%2e",
                "c ",
            ]
        ),
        max_size=5,
    ).map("/".join),
)


@given(names)
def test_validate_name_accepted_is_inside_the_version_folder(name: str) -> None:
    try:
        validate_name(name)
    except InvalidDataError:
        return
    folder = version_path(KEY, VERSION)
    path = blob_path(KEY, VERSION, name)
    assert Path("/" + path).parts[: len(Path("/" + folder).parts)] == Path("/" + folder).parts
    assert ".." not in path.split("/") and path == f"{folder}/{name}" and str(Path(path)) == path
    assert not any(segment.startswith(("_", ".")) for segment in name.split("/"))
    url = urlsplit(
        SourceDirectory("e", "https://a.blob.core.windows.net/c/v1", "sv=1").blob_url(name)
    )
    assert unquote(url.path) == "/c/v1/" + name and url.query == "sv=1"
    name.encode()
    assert is_secret_free(name)  # orchestrators and activities exchange names


@given(
    st.one_of(
        st.text(max_size=60),
        st.builds(
            "{}://{}{}/{}".format,
            st.sampled_from(["https", "http", "HTTPS", ""]),
            st.sampled_from(["", "a@", "acct", "127.0.0.1", "evil.example", "\t", "[::1]", "%2f"]),
            st.sampled_from(
                [
                    "",
                    ".blob.core.windows.net",
                    ".blob.core.windows.net.",
                    ":10000",
                    ".blob.core.windows.net:443",
                ]
            ),
            st.sampled_from(["c/v1", "c//v1", "../c", "c/%2e%2e", "c/v1?x", "c/v1#", "c/v 1", "c"]),
        ),
    )
)
def test_validate_source_accepted_is_https_with_an_allowed_suffix(root: str) -> None:
    try:
        validate_source(root, RULES["azure"])
    except InvalidDataError:
        return
    parts = urlsplit(root)
    assert parts.scheme == "https" and parts.port in (None, 443) and parts.username is None
    assert (
        parts.hostname is not None
        and parts.hostname.endswith(RULES["azure"].allowed)
        and not parts.hostname.startswith(".")
    )
    assert not parts.query and not parts.fragment and ".." not in unquote(parts.path).split("/")


def test_validate_names_above_the_limit_raises() -> None:
    raw = read(PAYLOADS / "accepted" / "billed_usage_as_observed.json")["manifest"]
    raw["blobs"] = [
        {"name": f"part-{n:06}.json.gz", "partitionValue": "default"} for n in range(MAX_BLOBS + 1)
    ]
    raw["blobCount"] = MAX_BLOBS + 1
    with pytest.raises(InvalidDataError, match="manifest_rejected"):
        validate_names(parse_manifest(raw))


@pytest.mark.parametrize(
    ("allowed", "root"),
    [
        # A suffix without the leading dot allows nothing.
        (("blob.core.windows.net",), "https://acct.blob.core.windows.net/c/v1"),
        ((), "https://acct.blob.core.windows.net/c/v1"),
        # Graph is not on loopback.
        (("http://127.0.0.1:10000",), "http://127.0.0.1:10000/c/v1"),
    ],
)
def test_validate_source_not_allowed_raises(allowed: tuple[str, ...], root: str) -> None:
    with pytest.raises(InvalidDataError):
        validate_source(root, create_source_rules(allowed, None, loopback=False))


def test_validate_manifest_without_tenant_rule_accepts_any_tenant() -> None:
    payload = read(PAYLOADS / "manifest_mismatch" / "other_tenant.json")
    rules = SourceRules(RULES["azure"].allowed, None, loopback=False)
    validate_manifest(parse_manifest(payload["manifest"]), ExportKey.parse(payload["key"]), rules)


def test_create_source_rules_normalizes_entries() -> None:
    assert create_source_rules(
        (" .Blob.Core.Windows.NET ", "", "http://127.0.0.1:1/"), None, loopback=True
    ).allowed == (".blob.core.windows.net", "http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("root", "month"),
    [
        ("https://h/c/BillingMonth=202610/x", BillingMonth(2026, 10)),
        ("https://h/c/billingmonth=2026-10/x", BillingMonth(2026, 10)),
        ("https://h/c/BillingMonth%3D202610", BillingMonth(2026, 10)),
        ("https://h/c/BillingMonth=202613", None),
        ("https://h/c/XBillingMonth=202610", None),
        ("https://h/c/v1", None),
        ("https://h/c/BillingMonth=202610/BillingMonth=202611", None),
        ("https://h/c/BillingMonth=٢٠٢٦١٠", None),
        ("", None),
    ],
)
def test_billing_month_returns_the_month_of_the_root(root: str, month: BillingMonth | None) -> None:
    assert billing_month(root) == month


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
MEMBERS = (
    "id",
    "schemaVersion",
    "createdDateTime",
    "eTag",
    "partnerTenantId",
    "rootDirectory",
    "sasToken",
    "blobCount",
    "blobs",
)


@given(st.dictionaries(st.sampled_from(MEMBERS), json_values))
def test_validate_manifest_any_json_has_a_defined_result(
    changes: dict[str, Any],
) -> None:
    payload = read(PAYLOADS / "accepted" / "unbilled_usage_as_observed.json")
    assert validation_result({**payload, "manifest": {**payload["manifest"], **changes}}) in (
        "accepted",
        "manifest_malformed",
        "manifest_rejected",
        "manifest_mismatch",
        "month_not_open",
    )


WITHOUT_BLOBS = {"blobs": None, "blobCount": 0, "sasToken": "", "rootDirectory": None}


def _accepted_with(**members: Any) -> dict[str, Any]:
    payload = read(PAYLOADS / "accepted" / "billed_usage_as_observed.json")
    return {**payload["manifest"], **members}


def test_validate_manifest_without_blobs_accepts_null_and_empty_locations() -> None:
    manifest = parse_manifest(_accepted_with(**WITHOUT_BLOBS))
    validate_manifest(manifest, KEY, RULES["azure"])
    assert (manifest.blobs, manifest.root_directory, manifest.sas_token) == ((), "", "")


def test_validate_location_with_blobs_requires_a_root_directory() -> None:
    manifest = replace(parse_manifest(_accepted_with()), root_directory="")
    with pytest.raises(InvalidDataError, match="manifest_rejected"):
        validate_location(manifest, RULES["azure"])


@pytest.mark.parametrize(
    ("member", "members"),
    [
        ("blobs", {"blobs": None}),
        ("blobCount", {"blobCount": None}),
        ("eTag", {**WITHOUT_BLOBS, "eTag": None}),
        ("partnerTenantId", {**WITHOUT_BLOBS, "partnerTenantId": None}),
        ("partnerTenantId", {"partnerTenantId": None}),
        ("blobs", {"blobs": None, "blobCount": -1}),
        ("blobCount", {**WITHOUT_BLOBS, "blobCount": None}),
        ("sasToken", {"sasToken": ""}),
        ("rootDirectory", {"rootDirectory": None}),
    ],
)
def test_parse_manifest_null_required_member_is_malformed(
    member: str, members: dict[str, Any]
) -> None:
    with pytest.raises(InvalidDataError) as raised:
        parse_manifest(_accepted_with(**members))
    assert raised.value.code == "manifest_malformed" and member in str(raised.value.detail)


@pytest.mark.parametrize(
    ("blob", "member"),
    [
        ({}, "blobs[3].name"),
        ({"name": None}, "blobs[3].name"),
        ({"name": 5}, "blobs[3].name"),
        ({"name": "a.gz", "partitionValue": "\n"}, "blobs[3].partitionValue"),
        (None, "blobs[3]"),
        ("a.gz", "blobs[3]"),
        ({"name": ""}, "blobs[3].name"),
        ({"name": "a/../b"}, "blobs[3].name"),
        ({"name": "a?b"}, "blobs[3].name"),
        ({"name": "key=5"}, "blobs[3].name"),
    ],
)
def test_validate_manifest_error_names_the_invalid_member(blob: Any, member: str) -> None:
    blobs = [{"name": f"part-{number}.gz"} for number in range(3)]
    with pytest.raises(InvalidDataError) as raised:
        validate_manifest(
            parse_manifest(_accepted_with(blobs=[*blobs, blob], blobCount=4)), KEY, RULES["azure"]
        )
    assert f"{member} " in raised.value.detail


@pytest.mark.parametrize("member", [*MEMBERS, "dataFormat"])
def test_parse_manifest_treats_null_as_absent(member: str) -> None:
    for changes in ({}, WITHOUT_BLOBS):
        manifest = _accepted_with(**changes)
        absent = {name: value for name, value in manifest.items() if name != member}
        results = [
            validation_result({"key": str(KEY), "rules": "azure", "manifest": each})
            for each in ({**manifest, member: None}, absent)
        ]
        assert results[0] == results[1]
