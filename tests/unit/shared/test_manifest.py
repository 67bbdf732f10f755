"""What a manifest must not get past: one file of payloads/manifests for each trick, in the folder of what becomes of it."""

import json
from collections.abc import Callable
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
    MOST_BLOBS,
    DifferentMonthError,
    SourceRules,
    billing_month,
    create_source_rules,
    parse_manifest,
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


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def what_becomes_of(payload: Any) -> str:
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


def test_there_are_enough_tricks() -> None:
    assert len(payloads()) - len(payloads("accepted")) >= 150 and len(payloads("accepted")) >= 20


@pytest.mark.parametrize("path", payloads())
def test_each_manifest_ends_as_its_folder_says(path: Path) -> None:
    assert what_becomes_of(read(path)) == path.parent.name


def test_what_is_said_of_one_quotes_nothing_of_it() -> None:
    for path in PAYLOADS.glob("*_*/*.json"):
        if path.parent.name == "month_not_open":
            continue
        payload = read(path)
        with pytest.raises(InvalidDataError) as rejected:
            validate_manifest(
                parse_manifest(payload["manifest"]),
                ExportKey.parse(payload["key"]),
                RULES[payload["rules"]],
            )
        said = rejected.value.detail
        texts = [value for value in payload["manifest"].values() if isinstance(value, str)]
        blobs = payload["manifest"].get("blobs")
        texts += (
            [str(blob.get("name")) for blob in blobs if isinstance(blob, dict)]
            if isinstance(blobs, list)
            else []
        )
        assert said.isascii() and said.isprintable() and len(said) < 120, path.name
        assert not any(len(text) > 8 and text in said for text in texts), path.name
        assert rejected.value.__cause__ is None


@pytest.mark.parametrize("path", payloads("accepted"))
def test_of_an_accepted_manifest_all_is_as_microsoft_wrote_it(path: Path) -> None:
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
def test_the_url_of_an_accepted_blob_stays_below_the_root(path: Path) -> None:
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
def test_an_accepted_name_lies_inside_its_version_folder(name: str) -> None:
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
    assert is_secret_free(name)  # names travel between orchestrators and activities


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
def test_an_accepted_root_is_https_below_an_allowed_suffix(root: str) -> None:
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


def test_too_many_blobs_are_rejected_and_the_most_are_not() -> None:
    raw = read(PAYLOADS / "accepted" / "billed_usage_as_observed.json")["manifest"]
    raw["blobs"] = [
        {"name": f"part-{n:06}.json.gz", "partitionValue": "default"} for n in range(MOST_BLOBS + 1)
    ]
    raw["blobCount"] = MOST_BLOBS + 1
    with pytest.raises(InvalidDataError, match="manifest_rejected"):
        validate_names(parse_manifest(raw))


@pytest.mark.parametrize(
    ("allowed", "root"),
    [
        (
            ("blob.core.windows.net",),
            "https://acct.blob.core.windows.net/c/v1",
        ),  # a suffix without its dot allows nothing
        ((), "https://acct.blob.core.windows.net/c/v1"),
        (("http://127.0.0.1:10000",), "http://127.0.0.1:10000/c/v1"),  # Graph is not on loopback
    ],
)
def test_rules_that_allow_nothing(allowed: tuple[str, ...], root: str) -> None:
    with pytest.raises(InvalidDataError):
        validate_source(root, create_source_rules(allowed, None, loopback=False))


def test_without_a_demanded_tenant_any_is_taken() -> None:
    payload = read(PAYLOADS / "manifest_mismatch" / "other_tenant.json")
    rules = SourceRules(RULES["azure"].allowed, None, loopback=False)
    validate_manifest(parse_manifest(payload["manifest"]), ExportKey.parse(payload["key"]), rules)


def test_source_rules_are_taken_apart_as_written_by_hand() -> None:
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
def test_the_month_that_a_root_names(root: str, month: BillingMonth | None) -> None:
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
def test_whatever_comes_only_a_rejection_or_another_month_is_raised(
    changes: dict[str, Any],
) -> None:
    payload = read_once()
    assert what_becomes_of({**payload, "manifest": {**payload["manifest"], **changes}}) in (
        "accepted",
        "graph_malformed",
        "manifest_rejected",
        "manifest_mismatch",
        "month_not_open",
    )


def _reader() -> Callable[[], Any]:
    payload = read(PAYLOADS / "accepted" / "unbilled_usage_as_observed.json")
    return lambda: payload


read_once = _reader()
