"""Settings validation: one error lists every fault and contains no secret."""

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
from tests.support.settings import AZURE, TENANT

ROOT = Path(__file__).resolve().parents[3]
KEY = "c2VjcmV0LXNlY3JldA=="
LOCAL = {
    "GRAPH_BASE_URL": "http://127.0.0.1:4010/v1.0",
    "SOURCE_ALLOWED": "http://127.0.0.1:10000",
    "LANDING_STORAGE": (
        f"AccountName=landing;AccountKey={KEY};BlobEndpoint=http://127.0.0.1:10000/landing;"
    ),
}

INVALID_VALUES = {
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
    "EXPORT_SCHEDULE": [
        "daily",
        "0 0 5 * *  * *",
        "* * * *",
        "0 0 5 ? * *",
        "0 0 24 * * *",
        "0 0 0 30 2 *",
        "01:00:00",
    ],
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


def get_faults(environment: dict[str, str]) -> list[str]:
    with pytest.raises(InvalidSettingsError) as raised:
        load_settings(environment)
    return raised.value.faults


def test_load_settings_with_valid_environment_returns_settings() -> None:
    assert not load_settings(AZURE).is_loopback and load_settings(LOCAL).is_loopback
    assert load_settings(AZURE).source_allowed == (
        ".blob.core.windows.net",
        ".blob.storage.azure.net",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in INVALID_VALUES.items() for value in values],
)
def test_load_settings_with_invalid_value_names_setting_and_value(name: str, value: str) -> None:
    faults = get_faults(AZURE | {"AZURE_CLIENT_ID": TENANT} | {name: value})
    matching = [
        fault
        for fault in faults
        if fault.startswith(f"{name} is set to {value[:80]!r}, but it must ")
    ]
    assert len(matching) == 1
    assert len(matching[0]) < 300 and "\n" not in matching[0]


def test_invalid_values_cover_every_setting() -> None:
    aliases = {str(field.alias) for field in Settings.model_fields.values()}
    assert aliases - set(INVALID_VALUES) == {"LANDING_STORAGE"}


def test_load_settings_with_many_faults_lists_all_of_them() -> None:
    invalid = {name: values[0] for name, values in INVALID_VALUES.items()}
    with pytest.raises(InvalidSettingsError) as raised:
        load_settings(invalid | {"LANDING_STORAGE": f"nonsense;AccountKey={KEY}"})
    text = str(raised.value)
    assert text.startswith("The settings are invalid; the app did not start.\n  - ")
    assert all(f"  - {name} " in text for name in INVALID_VALUES)
    assert "must be empty if the service URIs are set" in text
    assert text.count("\n") == len(raised.value.faults) >= len(INVALID_VALUES)
    assert KEY not in text


@pytest.mark.parametrize(
    "connection",
    [
        f"AccountKey={KEY}",
        KEY,
        f"DefaultEndpointsProtocol=https;AccountKey={KEY}",
        f"SharedAccessSignature=sig={KEY}",
    ],
)
def test_load_settings_with_invalid_connection_string_does_not_quote_it(connection: str) -> None:
    with pytest.raises(InvalidSettingsError) as raised:
        load_settings(LOCAL | {"LANDING_STORAGE": connection, "PROOF": "none"})
    error = raised.value
    assert KEY not in str(error) and KEY not in repr(error)
    assert (
        "LANDING_STORAGE is set to a secret value, but it must be a storage connection string"
        in str(error)
    )
    assert error.__cause__ is None
    assert error.__context__ is None or KEY not in str(error.__context__)


@given(st.text("ABCDEFabcdef0123456789+/=", min_size=12, max_size=40))
def test_settings_text_forms_do_not_contain_the_connection_string(secret: str) -> None:
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
    ("changes", "expected"),
    [
        ({"LANDING_STORAGE__tableServiceUri": None}, "LANDING_STORAGE is not set: "),
        ({"LANDING_STORAGE__blobServiceUri": None}, "LANDING_STORAGE is not set: "),
        (
            {"LANDING_STORAGE": "UseDevelopmentStorage=true"},
            "LANDING_STORAGE is set to a secret value, but it must be empty",
        ),
        ({"PARTNER_TENANT_ID": None}, "PARTNER_TENANT_ID is not set: "),
        ({"PARTNER_TENANT_ID": "  "}, "PARTNER_TENANT_ID is not set: "),
        (
            {"SOURCE_ALLOWED": "http://127.0.0.1:10000"},
            "SOURCE_ALLOWED is set to 'http://127.0.0.1:10000', "
            "but it must not contain a loopback origin",
        ),
        ({"PARTNER_APP_CLIENT_ID": TENANT}, "AZURE_CLIENT_ID is not set: "),
        ({"INVOICE_SOURCE": "list"}, "INVOICE_IDS is not set: "),
        (
            {"AzureWebJobsStorage__accountName": "LANDING"},
            "AzureWebJobsStorage specifies the account 'landing', but it must not be",
        ),
        (
            {
                "AzureWebJobsStorage__accountName": None,
                "AzureWebJobsStorage": f"AccountName=landing;AccountKey={KEY}",
            },
            "AzureWebJobsStorage specifies the account 'landing', but it must not be",
        ),
        ({"WEBSITE_INSTANCE_ID": "x", "WEBSITE_TIME_ZONE": "UTC"}, "WEBSITE_TIME_ZONE or TZ"),
        ({"WEBSITE_INSTANCE_ID": "x", "TZ": "Europe/Berlin"}, "WEBSITE_TIME_ZONE or TZ"),
        (
            {"WEBSITE_INSTANCE_ID": "x", "GRAPH_BASE_URL": "http://127.0.0.1:1/v1.0"},
            "GRAPH_BASE_URL is set to 'http://127.0.0.1:1/v1.0', but it must not be a loopback",
        ),
        (
            {"WEBSITE_INSTANCE_ID": "x", "GRAPH_BASE_URL": "http://[::1]:1/v1.0"},
            "GRAPH_BASE_URL is set to 'http://[::1]:1/v1.0', but it must not be a loopback",
        ),
        (
            {"WEBSITE_INSTANCE_ID": "x", "PARTNER_CENTER_BASE_URL": "http://127.0.0.1:1"},
            "PARTNER_CENTER_BASE_URL is set to 'http://127.0.0.1:1', but it must not be a loopback",
        ),
        (
            {"WEBSITE_INSTANCE_ID": "x", "GRAPH_BASE_URL": "http://localhost/beta"},
            "GRAPH_BASE_URL is set to 'http://localhost/beta', but it must not be a loopback",
        ),
    ],
)
def test_load_settings_with_contradicting_settings_fails(
    changes: dict[str, str | None], expected: str
) -> None:
    environment = {name: value for name, value in (AZURE | changes).items() if value is not None}
    faults = get_faults(environment)
    assert any(fault.startswith(expected) for fault in faults), faults
    assert KEY not in " ".join(faults)


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
def test_load_settings_with_valid_value_succeeds(changes: dict[str, str]) -> None:
    load_settings(AZURE | changes)


def test_load_settings_normalizes_lists_and_urls() -> None:
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
    assert settings.invoice_ids == ("G016907411", "G016907412")
    assert settings.export_currencies == ("USD", "EUR")
    assert settings.graph_base_url == "https://graph.microsoft.com/beta"
    assert settings.export_periods == ("last",)


def test_load_settings_with_empty_values_uses_defaults() -> None:
    assert load_settings(
        AZURE | {name: " " for name in INVALID_VALUES if name not in AZURE}
    ) == load_settings(AZURE)


def test_sample_settings_are_complete_and_valid() -> None:
    sample: dict[str, Any] = json.loads(
        (ROOT / "local.settings.sample.json").read_text(encoding="utf-8")
    )["Values"]
    assert {str(field.alias) for field in Settings.model_fields.values()} <= set(sample)
    settings = load_settings(sample)
    assert settings.is_loopback and settings.month_boundary_minutes == 0


def test_load_settings_without_argument_reads_process_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
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
def test_get_host_returns_lowercase_host_or_empty_string(url: str, host: str) -> None:
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
def test_parse_account_name_returns_lowercase_name_or_none(
    connection: str | None, name: str | None, account: str | None
) -> None:
    assert parse_account_name(connection, name) == account
