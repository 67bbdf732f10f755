"""Checks without requests: settings that contradict each other, package versions, regions."""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shared.preflight.context import PreflightContext
from shared.preflight.findings import CompletedCheck, Finding, build_report, fail, ok, unknown, warn
from shared.settings import Settings
from shared.telemetry import APP_VERSION

ROOT = Path(__file__).resolve().parent.parent.parent
PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
BUNDLE = re.compile(r"\[(\d+)\.(\d+)\.\d+, *\d+\.\d+\.\d+\)")
# The first version with orchestration versions; without them, a deployment breaks active
# orchestrations.
MIN_BUNDLE_VERSION = (4, 30)
SUPPORTED_PYTHON_VERSIONS = ((3, 11), (3, 12))
REPORTED_PACKAGES = (
    "azure-functions",
    "azure-functions-durable",
    "azure-identity",
    "azure-storage-blob",
    "azure-data-tables",
    "msgraph-sdk",
    "isal",
    "httpx",
    "aiohttp",
)


async def check_settings(context: PreflightContext) -> Finding:
    """Check that valid settings do not contradict each other; the app starts with such settings."""
    contradictions = sorted(find_contradictions(context.settings, context.environment))
    if contradictions:
        return warn("settings_contradict", contradictions=contradictions)
    return ok()


def find_contradictions(settings: Settings, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield one sentence for each contradiction, without values that might be secret."""
    source = str(settings.invoice_source)
    has_billed = any(dataset.billed for dataset in settings.export_datasets)
    has_unbilled = any(not dataset.billed for dataset in settings.export_datasets)
    if source == "none" and has_billed:
        yield (
            "EXPORT_DATASETS contains billed datasets, but cycles do not request them because "
            "INVOICE_SOURCE is none"
        )
    if source == "none" and has_unbilled and not settings.export_currencies:
        yield (
            "EXPORT_CURRENCIES is empty and INVOICE_SOURCE is none, so no currency is known and "
            "cycles do not request unbilled data"
        )
    if source == "none" and settings.invoice_ids:
        yield "INVOICE_IDS is set, but INVOICE_SOURCE=none does not use it"
    if settings.poll_min_seconds > settings.run_deadline_hours * 1800:
        yield (
            "POLL_MIN_SECONDS is more than half of RUN_DEADLINE_HOURS, so a run can check its "
            "operation only once before its deadline"
        )
    if (
        settings.partner_app_client_id
        and settings.partner_app_client_id == settings.azure_client_id
    ):
        yield (
            "PARTNER_APP_CLIENT_ID equals AZURE_CLIENT_ID; leave PARTNER_APP_CLIENT_ID empty to "
            "use the identity itself"
        )
    if settings.landing_storage is not None and "WEBSITE_INSTANCE_ID" in environment:
        yield (
            "LANDING_STORAGE is a connection string in a deployed app; use the service URIs, which "
            "require no secret"
        )
    if settings.copy_mode == "server" and settings.proof == "content":
        yield (
            "COPY_MODE=server with PROOF=content reads every blob again after the server-side "
            "copy; COPY_MODE=auto reads it only once"
        )
    if environment.get("AZURE_FUNCTIONS_DURABLE_STRICT_TYPING", "1") != "1":
        yield (
            "AZURE_FUNCTIONS_DURABLE_STRICT_TYPING must be 1, because otherwise messages of the "
            "wrong type are not detected"
        )


async def check_versions(context: PreflightContext) -> Finding:
    """Compare the installed packages with the pinned versions, and check the extension bundle."""
    return compare_versions(ROOT / "host.json", ROOT / "requirements.txt")


def compare_versions(host_json: Path, requirements: Path) -> Finding:
    """Return the finding for the files of a deployment."""
    try:
        host = json.loads(host_json.read_text(encoding="utf-8"))
        bundle = str(host["extensionBundle"]["version"])
        pins = dict(PIN.findall(requirements.read_text(encoding="utf-8")))
        if not pins:
            raise ValueError(f"{requirements.name} contains no pinned versions")
    except (OSError, ValueError, KeyError, TypeError):
        return unknown("versions_unknown", app=APP_VERSION)
    installed = {name: get_installed_version(name) for name in pins}
    facts = {
        "app": APP_VERSION,
        "python": ".".join(map(str, sys.version_info[:3])),
        "extension_bundle": bundle,
        **{name: installed[name] for name in REPORTED_PACKAGES if name in installed},
    }
    match = BUNDLE.fullmatch(bundle)
    if match is None or (int(match[1]), int(match[2])) < MIN_BUNDLE_VERSION:
        return fail("bundle_too_old", **facts)
    differing = {
        name: f"{installed[name]}, pinned {pin}"
        for name, pin in pins.items()
        if installed[name] != pin
    }
    if differing or sys.version_info[:2] not in SUPPORTED_PYTHON_VERSIONS:
        return warn("versions_differ", **facts, differing=differing)
    return ok(**facts)


def get_installed_version(name: str) -> str | None:
    """Return the installed version of a package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


async def check_region(context: PreflightContext) -> Finding:
    """Report the region of the app; no request returns the region of a storage account."""
    region = context.environment.get("REGION_NAME", "")
    source = context.source_rules.allowed[0]
    landing = urlsplit(context.landing.get_blob_client("none", for_transfer=False).url)
    if source.startswith("http") and urlsplit(source).netloc == landing.netloc:
        return ok(landing="same storage emulator as the source")
    return unknown("region_unknown", **({"app": region} if region else {}))


def build_invalid_settings_report(faults: Sequence[str]) -> dict[str, Any]:
    """Return the report for settings that prevent the app from starting."""
    finding = fail("settings_invalid", faults=list(faults))
    return build_report([CompletedCheck("settings", finding, 0.0)])
