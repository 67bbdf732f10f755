"""Checks that do not send a request."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.preflight.deployment import (
    ROOT,
    build_invalid_settings_report,
    check_region,
    check_settings,
    compare_versions,
    find_contradictions,
)
from tests.unit.preflight.contexts import create_context, with_environment


async def test_check_settings_without_contradiction_returns_ok() -> None:
    assert (await check_settings(create_context())).status == "ok"


@pytest.mark.parametrize(
    ("changes", "environment", "expected"),
    [
        ({"INVOICE_SOURCE": "none", "INVOICE_IDS": ""}, {}, ["INVOICE_SOURCE", "EXPORT_DATASETS"]),
        (
            {
                "INVOICE_SOURCE": "none",
                "INVOICE_IDS": "",
                "EXPORT_CURRENCIES": "",
                "EXPORT_DATASETS": "unbilled_usage",
            },
            {},
            ["EXPORT_CURRENCIES"],
        ),
        ({"INVOICE_SOURCE": "none", "EXPORT_DATASETS": "unbilled_usage"}, {}, ["INVOICE_IDS"]),
        ({"POLL_MIN_SECONDS": "3600", "RUN_DEADLINE_HOURS": "1"}, {}, ["POLL_MIN_SECONDS"]),
        (
            {
                "PARTNER_APP_CLIENT_ID": "1" * 8 + "-0000-4000-8000-000000000000",
                "AZURE_CLIENT_ID": "1" * 8 + "-0000-4000-8000-000000000000",
            },
            {},
            ["PARTNER_APP_CLIENT_ID"],
        ),
        ({"COPY_MODE": "server"}, {}, ["COPY_MODE", "PROOF"]),
        (
            {},
            {"AZURE_FUNCTIONS_DURABLE_STRICT_TYPING": "0"},
            ["AZURE_FUNCTIONS_DURABLE_STRICT_TYPING"],
        ),
        (
            {
                "LANDING_STORAGE": "AccountName=landing;AccountKey=SENTINEL",
                "LANDING_STORAGE__blobServiceUri": "",
                "LANDING_STORAGE__tableServiceUri": "",
            },
            {"WEBSITE_INSTANCE_ID": "1"},
            ["LANDING_STORAGE"],
        ),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_check_settings_names_the_contradicting_settings(
    changes: dict[str, str], environment: dict[str, str], expected: list[str]
) -> None:
    context = create_context(**changes)
    [contradiction] = find_contradictions(context.settings, environment)
    assert all(name in contradiction for name in expected) and "SENTINEL" not in contradiction
    finding = await check_settings(with_environment(context, **environment))
    assert (finding.status, finding.code) == ("warn", "settings_contradict")


PYTEST_PIN = f"pytest=={pytest.__version__} \\\n    --hash=sha256:00\n"


def test_compare_versions_with_own_files_returns_ok() -> None:
    finding = compare_versions(ROOT / "host.json", ROOT / "requirements.txt")
    assert finding.status == "ok", finding.facts
    assert finding.facts["azure-functions-durable"] and finding.facts["extension_bundle"]


@pytest.mark.parametrize(
    ("bundle", "pins", "status", "code"),
    [
        ("[4.29.0, 5.0.0)", PYTEST_PIN, "fail", "bundle_too_old"),
        ("[3.*, 4.0.0)", PYTEST_PIN, "fail", "bundle_too_old"),
        ("[4.30.0, 5.0.0)", "aiohttp==0.0.1\n", "warn", "versions_differ"),
        ("[4.30.0, 5.0.0)", "no-such-package==1.0\n", "warn", "versions_differ"),
        ("[4.30.0, 5.0.0)", "pytest==0.0.1 \\\n    --hash=sha256:00\n", "warn", "versions_differ"),
        ("[4.30.0, 5.0.0)", "# nothing\n", "unknown", "versions_unknown"),
        ("[4.30.0, 5.0.0)", PYTEST_PIN, "ok", ""),
        (None, PYTEST_PIN, "unknown", "versions_unknown"),
    ],
)
def test_compare_versions_returns_expected_finding(
    tmp_path: Path, bundle: Any, pins: str, status: str, code: str
) -> None:
    (tmp_path / "host.json").write_text(
        json.dumps({"extensionBundle": {"version": bundle}} if bundle else {})
    )
    (tmp_path / "requirements.txt").write_text(pins)
    finding = compare_versions(tmp_path / "host.json", tmp_path / "requirements.txt")
    assert (finding.status, finding.code) == (status, code)


async def test_check_region_on_azure_returns_unknown_with_region_of_app() -> None:
    finding = await check_region(with_environment(create_context(), REGION_NAME="West Europe"))
    assert (finding.status, finding.code, finding.facts) == (
        "unknown",
        "region_unknown",
        {"app": "West Europe"},
    )


def test_build_invalid_settings_report_contains_the_faults() -> None:
    report = build_invalid_settings_report(["COPY_MODE has 'teleport': ..."])
    assert report["status"] == "fail" and report["checks"][0]["code"] == "settings_invalid"
    assert report["checks"][0]["facts"] == {"faults": ["COPY_MODE has 'teleport': ..."]}
