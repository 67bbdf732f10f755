"""All that is wrong in one message, no secret in it, and nothing that contradicts itself."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.settings import (
    InvalidSettingsError,
    Settings,
    describe_settings,
    load_settings,
    parse_account_name,
)
from shared.urls import get_host

ROOT = Path(__file__).resolve().parents[3]
TENANT = "7d0f6c2e-3c1b-4c57-9a0e-2d8f5b1c9e44"
KEY = "c2VjcmV0LXNlY3JldA=="
AZURE = {
    "PARTNER_TENANT_ID": TENANT,
    "LANDING_STORAGE__blobServiceUri": "https://landing.blob.core.windows.net",
    "LANDING_STORAGE__tableServiceUri": "https://landing.table.core.windows.net",
    "AzureWebJobsStorage__accountName": "funchost",
}
LOCAL = {
    "GRAPH_BASE_URL": "http://127.0.0.1:4010/v1.0",
    "SOURCE_ALLOWED": "http://127.0.0.1:10000",
    "LANDING_STORAGE": f"AccountName=landing;AccountKey={KEY};BlobEndpoint=http://127.0.0.1:10000/landing;",
}

BAD = {
    "TASK_HUB_NAME": ["a", "ab", "1abc", "with-dash", "x" * 46, "ä" * 5],
    "GRAPH_BASE_URL": [
        "https://graph.microsoft.com",
        "https://graph.microsoft.com/v2.0",
        "http://graph.microsoft.com/v1.0",
        "https://graph.microsoft.us/v1.0",
        "https://evil.example.org/v1.0",
        "https://graph.microsoft.com.example.org/v1.0",
        "https://127.0.0.1.example.org/v1.0",
        "http://127.0.0.1@example.org/v1.0",
        "http://127.0.0.1:4010",
        "ftp://127.0.0.1/v1.0",
        "http://2130706433/v1.0",
        "http://0.0.0.0/v1.0",
        "nonsense",
    ],
    "PARTNER_CENTER_BASE_URL": [
        "http://api.partnercenter.microsoft.com",
        "https://api.partnercenter.microsoft.com/v1",
        "https://example.org",
        "https://api.partnercenter.microsoft.com.example.org",
        "https://a@api.partnercenter.microsoft.com",
        "http://127.0.0.1:4010/v1",
        "http://127.0.0.1@example.org",
        "http://127.0.0.1.example.org",
        "http://0.0.0.0",
        "nonsense",
    ],
    "INVOICE_SOURCE": ["Partner_Center", "LIST", "all"],
    "INVOICE_IDS": [
        "G1",
        "016907411",
        "G016907411;G016907412",
        "G016907411,nonsense",
        "ſ016907411",
    ],
    "PARTNER_TENANT_ID": [
        "common",
        "contoso.onmicrosoft.com",
        TENANT + "0",
        TENANT[:-1],
        "{" + TENANT + "}",
        TENANT + "\n x",
    ],
    "AZURE_CLIENT_ID": ["me"],
    "PARTNER_APP_CLIENT_ID": ["me"],
    "PARTNER_CENTER_APP_CLIENT_ID": ["me"],
    "INVOICE_LOOKBACK_MONTHS": ["0", "61", "three"],
    "INVOICE_SETTLE_DAYS": ["-1", "366", "weeks"],
    "LANDING_STORAGE__blobServiceUri": [
        "http://landing.blob.core.windows.net",
        "landing",
        "https://landing.blob.core.windows.net/x",
        "https://landing.blob.core.windows.net?sv=1",
        "https://a@landing.blob.core.windows.net",
    ],
    "LANDING_STORAGE__tableServiceUri": ["http://landing.table.core.windows.net", "landing"],
    "LANDING_CONTAINER": [
        "ab",
        "Billing",
        "a--b",
        "-ab",
        "ab-",
        "a_b",
        "x" * 64,
        "a-" * 32 + "ab",
        "$root",
    ],
    "LANDING_PREFIX": [
        "/lake",
        "lake/",
        "a//b",
        "../x",
        "a/../b",
        "a b",
        ".hidden",
        "_x",
        "x" * 251,
    ],
    "LANDING_TABLE_PREFIX": ["1a", "a-b", "a_b", "x" * 51],
    "EXPORT_SCHEDULE": ["daily", "0 0 5 * *  * *", "* * * *", "0 0 5 ? * *"],
    "EXPORT_DATASETS": [
        "usage",
        "billed_usage,nonsense",
        "billed_usage;unbilled_usage",
        ",",
        "Billed_Usage",
    ],
    "EXPORT_ATTRIBUTE_SETS": ["all", "Full", ","],
    "EXPORT_PERIODS": ["previous", "current,2026-11", ","],
    "EXPORT_CURRENCIES": ["US", "EURO", "USD;EUR", "uſd"],
    "EXPORT_PARALLELISM": ["0", "33", "-1", "four", "1.5"],
    "POLL_MIN_SECONDS": ["0", "3601", "-1", "ten"],
    "RUN_DEADLINE_HOURS": ["0", "-1", "337", "nan", "inf", "a day"],
    "MONTH_BOUNDARY_MINUTES": ["-1", "721", "half"],
    "SOURCE_ALLOWED": [
        "blob.core.windows.net",
        "*.blob.core.windows.net",
        "https://acct.blob.core.windows.net",
        "http://10.0.0.1:10000",
        "http://127.0.0.1.example.org",
        ",",
    ],
    "COPY_MODE": ["fast", "AUTO"],
    "COPY_CONCURRENCY": ["0", "513"],
    "PROOF": ["none", "size"],
    "KEEP_VERSIONS_BILLED": ["-1", "all"],
    "KEEP_VERSIONS_UNBILLED": ["-1", "10001"],
    "PRUNE_GRACE_HOURS": ["0", "a day"],
    "HISTORY_DAYS": ["14", "3651"],
    "BLOB_ROW_DAYS": ["29", "never"],
}


def faults(environment: dict[str, str]) -> list[str]:
    with pytest.raises(InvalidSettingsError) as invalid:
        load_settings(environment)
    return invalid.value.faults


def test_the_two_environments_are_good() -> None:
    assert not load_settings(AZURE).is_loopback and load_settings(LOCAL).is_loopback
    assert load_settings(AZURE).source_allowed == (
        ".blob.core.windows.net",
        ".blob.storage.azure.net",
    )


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_a_bad_value_is_named_with_what_it_must_be(name: str, value: str) -> None:
    found = faults(AZURE | {"AZURE_CLIENT_ID": TENANT} | {name: value})
    said = [fault for fault in found if fault.startswith(f"{name} has ")]
    assert len(said) == 1 and ": " in said[0] and len(said[0]) < 300 and "\n" not in said[0]
    assert repr(value[:80]) in said[0]


def test_every_setting_has_bad_values_here() -> None:
    assert {str(field.alias) for field in Settings.model_fields.values()} - set(BAD) == {
        "LANDING_STORAGE"
    }


def test_all_that_is_wrong_is_told_at_once() -> None:
    wrong = {name: values[0] for name, values in BAD.items()}
    with pytest.raises(InvalidSettingsError) as invalid:
        load_settings(wrong | {"LANDING_STORAGE": f"nonsense;AccountKey={KEY}"})
    text = str(invalid.value)
    assert text.startswith("The settings are wrong; nothing was started.\n  - ")
    assert all(f"  - {name} " in text for name in BAD) and "LANDING_STORAGE is set twice" in text
    assert text.count("\n") == len(invalid.value.faults) >= len(BAD) and KEY not in text


@pytest.mark.parametrize(
    "connection",
    [
        f"AccountKey={KEY}",
        KEY,
        f"DefaultEndpointsProtocol=https;AccountKey={KEY}",
        f"SharedAccessSignature=sig={KEY}",
    ],
)
def test_a_secret_is_never_shown(connection: str) -> None:
    with pytest.raises(InvalidSettingsError) as invalid:
        load_settings(LOCAL | {"LANDING_STORAGE": connection, "PROOF": "none"})
    assert KEY not in str(invalid.value) and KEY not in repr(invalid.value)
    assert "LANDING_STORAGE has a value that is not shown" in str(invalid.value)
    assert invalid.value.__cause__ is None and (
        invalid.value.__context__ is None or KEY not in str(invalid.value.__context__)
    )


@given(st.text("ABCDEFabcdef0123456789+/=", min_size=12, max_size=40))
def test_no_part_of_a_connection_string_is_shown_or_described(secret: str) -> None:
    settings = load_settings(
        LOCAL | {"LANDING_STORAGE": f"AccountName=landing;AccountKey={secret}"}
    )
    for text in (
        repr(settings),
        str(settings),
        repr(describe_settings(settings)),
        settings.model_dump_json(),
    ):
        assert secret not in text
    assert (
        "LANDING_STORAGE" not in describe_settings(settings)
        and describe_settings(settings)["LANDING_CONTAINER"] == "billing"
    )
    assert set(describe_settings(settings)) == {
        field.alias for field in Settings.model_fields.values()
    } - {"LANDING_STORAGE"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"LANDING_STORAGE__tableServiceUri": None}, "LANDING_STORAGE is missing"),
        ({"LANDING_STORAGE__blobServiceUri": None}, "LANDING_STORAGE is missing"),
        ({"LANDING_STORAGE": "UseDevelopmentStorage=true"}, "LANDING_STORAGE is set twice"),
        ({"PARTNER_TENANT_ID": None}, "PARTNER_TENANT_ID is missing"),
        ({"PARTNER_TENANT_ID": "  "}, "PARTNER_TENANT_ID is missing"),
        ({"SOURCE_ALLOWED": "http://127.0.0.1:10000"}, "SOURCE_ALLOWED names a loopback origin"),
        ({"PARTNER_APP_CLIENT_ID": TENANT}, "AZURE_CLIENT_ID is missing"),
        ({"INVOICE_SOURCE": "list"}, "INVOICE_IDS is missing"),
        (
            {"AzureWebJobsStorage__accountName": "LANDING"},
            "AzureWebJobsStorage is the landing account",
        ),
        (
            {
                "AzureWebJobsStorage__accountName": None,
                "AzureWebJobsStorage": f"AccountName=landing;AccountKey={KEY}",
            },
            "AzureWebJobsStorage is the landing account",
        ),
        ({"WEBSITE_INSTANCE_ID": "x", "WEBSITE_TIME_ZONE": "UTC"}, "WEBSITE_TIME_ZONE or TZ"),
        ({"WEBSITE_INSTANCE_ID": "x", "TZ": "Europe/Berlin"}, "WEBSITE_TIME_ZONE or TZ"),
        (
            {"WEBSITE_INSTANCE_ID": "x", "GRAPH_BASE_URL": "http://127.0.0.1:1/v1.0"},
            "GRAPH_BASE_URL is on loopback",
        ),
        (
            {"WEBSITE_INSTANCE_ID": "x", "GRAPH_BASE_URL": "http://[::1]:1/v1.0"},
            "GRAPH_BASE_URL is on loopback",
        ),
        (
            {"WEBSITE_INSTANCE_ID": "x", "GRAPH_BASE_URL": "http://localhost/beta"},
            "GRAPH_BASE_URL is on loopback",
        ),
    ],
)
def test_contradictions(changes: dict[str, str | None], said: str) -> None:
    environment = {name: value for name, value in (AZURE | changes).items() if value is not None}
    found = faults(environment)
    assert any(fault.startswith(said) for fault in found), found
    assert KEY not in " ".join(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"WEBSITE_INSTANCE_ID": "x"},
        {"WEBSITE_INSTANCE_ID": "x", "TZ": "UTC"},
        {"WEBSITE_INSTANCE_ID": "x", "TZ": "Etc/UTC"},
        {"TZ": "Europe/Berlin"},
        {"GRAPH_BASE_URL": "https://graph.microsoft.com/beta/"},
        {"EXPORT_CURRENCIES": ""},
        {"AZURE_CLIENT_ID": TENANT, "PARTNER_APP_CLIENT_ID": TENANT.upper()},
        {"LANDING_CONTAINER": "a-b"},
        {"LANDING_CONTAINER": "x" * 63},
        {"LANDING_PREFIX": "lake/raw_1/x-y"},
        {"INVOICE_SOURCE": "list", "INVOICE_IDS": "g016907411, G016907412 ,"},
        {"UNKNOWN": "x"},
        {"EXPORT_SCHEDULE": "0 0 5 * * Mon-Fri"},
        {"EXPORT_SCHEDULE": "*/5 * * * *"},
        {"SOURCE_ALLOWED": ".Blob.core.windows.net/ , .x"},
        {"EXPORT_DATASETS": " billed_usage ,unbilled_usage"},
        {"RUN_DEADLINE_HOURS": "0.5"},
    ],
)
def test_good_ones(changes: dict[str, str]) -> None:
    load_settings(AZURE | changes)


def test_values_are_taken_apart() -> None:
    settings = load_settings(
        AZURE
        | {
            "INVOICE_SOURCE": "list",
            "INVOICE_IDS": "g016907411, G016907412 ,",
            "EXPORT_CURRENCIES": "usd,EUR",
            "GRAPH_BASE_URL": "https://graph.microsoft.com/beta/",
            "EXPORT_PERIODS": "last",
        }
    )
    assert settings.invoice_ids == ("G016907411", "G016907412") and settings.export_currencies == (
        "USD",
        "EUR",
    )
    assert (
        settings.graph_base_url == "https://graph.microsoft.com/beta"
        and settings.export_periods == ("last",)
    )


def test_an_empty_value_is_the_default() -> None:
    assert load_settings(AZURE | {name: " " for name in BAD if name not in AZURE}) == load_settings(
        AZURE
    )


def test_the_sample_is_good() -> None:
    sample: dict[str, Any] = json.loads(
        (ROOT / "local.settings.sample.json").read_text(encoding="utf-8")
    )["Values"]
    assert {str(field.alias) for field in Settings.model_fields.values()} <= set(sample)
    settings = load_settings(sample)
    assert settings.is_loopback and settings.month_boundary_minutes == 0


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {str(field.alias) for field in Settings.model_fields.values()} | set(AZURE):
        monkeypatch.delenv(name, raising=False)
    for name, value in AZURE.items():
        monkeypatch.setenv(name, value)
    assert load_settings() == load_settings(AZURE)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://127.0.0.1:4000/v1.0", "127.0.0.1"),
        ("https://GRAPH.microsoft.com", "graph.microsoft.com"),
        ("http://[::1]:80/x", "::1"),
        ("http://a@b/", ""),
        ("http://a:b@c/", ""),
        ("//a/", ""),
        ("http://a?b", ""),
        ("http://a#b", ""),
        ("", ""),
        ("http:///x", ""),
        ("http://[::1/x", ""),
    ],
)
def test_hosts(url: str, host: str) -> None:
    assert get_host(url) == host


@pytest.mark.parametrize(
    ("connection", "name", "account"),
    [
        ("AccountName=Landing;AccountKey=x", None, "landing"),
        (None, "https://landing.blob.core.windows.net", "landing"),
        (None, "Landing", "landing"),
        (None, None, None),
        ("UseDevelopmentStorage=true", None, None),
    ],
)
def test_accounts(connection: str | None, name: str | None, account: str | None) -> None:
    assert parse_account_name(connection, name) == account
