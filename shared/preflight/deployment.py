"""What can be told without asking anybody: settings that contradict each other, versions, where the landing lies."""

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
OLDEST_BUNDLE = (
    4,
    30,
)  # the first with orchestration versions: without them a deployment breaks what runs
SUITED = ((3, 11), (3, 12))
SHOWN = (
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


async def settings(parts: PreflightContext) -> Finding:
    """What each setting says is right, or the app would not have started; here is what they say together."""
    faults = sorted(contradictions(parts.settings, parts.environment))
    return warn("settings_contradict", contradictions=faults) if faults else ok()


def contradictions(settings: Settings, environment: Mapping[str, str]) -> Iterator[str]:
    """One sentence each, naming the settings and never a value that may be secret."""
    source, datasets = str(settings.invoice_source), settings.export_datasets
    billed, unbilled = (
        [one for one in datasets if one.billed],
        [one for one in datasets if not one.billed],
    )
    if source == "none" and billed:
        yield "INVOICE_SOURCE=none, yet EXPORT_DATASETS has billed datasets: cycles never ask for them"
    if source == "none" and unbilled and not settings.export_currencies:
        yield "EXPORT_CURRENCIES is empty and INVOICE_SOURCE=none: no currency is known, and unbilled data are never asked for"
    if source != "list" and settings.invoice_ids:
        yield f"INVOICE_IDS is set, yet INVOICE_SOURCE={source} does not read it"
    if settings.poll_min_seconds > settings.run_deadline_hours * 1800:
        yield "POLL_MIN_SECONDS is more than half of RUN_DEADLINE_HOURS: a run would look once and be out of time"
    if (
        settings.partner_app_client_id
        and settings.partner_app_client_id == settings.azure_client_id
    ):
        yield "PARTNER_APP_CLIENT_ID is AZURE_CLIENT_ID: an identity cannot stand for itself; leave PARTNER_APP_CLIENT_ID out"
    if settings.landing_storage is not None and "WEBSITE_INSTANCE_ID" in environment:
        yield "LANDING_STORAGE is a connection string on Azure: the service URIs need no secret"
    if settings.copy_mode == "server" and settings.proof == "content":
        yield "COPY_MODE=server with PROOF=content: storage copies every file, and it is read all the same; auto reads it once"
    if environment.get("AZURE_FUNCTIONS_DURABLE_STRICT_TYPING", "1") != "1":
        yield "AZURE_FUNCTIONS_DURABLE_STRICT_TYPING is not 1: messages of the wrong type would pass as data"


async def versions(parts: PreflightContext) -> Finding:
    """What is installed against what is pinned, and the extension bundle against what orchestrations need."""
    return check_versions(ROOT / "host.json", ROOT / "requirements.txt")


def check_versions(host_json: Path, requirements: Path) -> Finding:
    try:
        bundle = str(
            json.loads(host_json.read_text(encoding="utf-8"))["extensionBundle"]["version"]
        )
        pinned = dict(PIN.findall(requirements.read_text(encoding="utf-8")))
        if not pinned:
            raise ValueError(f"{requirements.name} pins nothing")
    except (OSError, ValueError, KeyError, TypeError):
        return unknown("versions_unknown", app=APP_VERSION)
    installed = {name: installed_version(name) for name in pinned}
    facts = {
        "app": APP_VERSION,
        "python": ".".join(map(str, sys.version_info[:3])),
        "extension_bundle": bundle,
        **{name: installed.get(name) for name in SHOWN if name in installed},
    }
    range_ = BUNDLE.fullmatch(bundle)
    if range_ is None or (int(range_[1]), int(range_[2])) < OLDEST_BUNDLE:
        return fail("bundle_too_old", **facts)
    differing = {
        name: f"{installed[name]}, pinned {pin}"
        for name, pin in pinned.items()
        if installed[name] != pin
    }
    if differing or sys.version_info[:2] not in SUITED:
        return warn("versions_differ", **facts, differing=differing)
    return ok(**facts)


def installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


async def region(parts: PreflightContext) -> Finding:
    """Whether the landing lies beside its source. No request shows a storage account's region; a laptop's is known."""
    where = parts.environment.get("REGION_NAME", "")
    source, landing = (
        parts.rules.allowed[0],
        urlsplit(parts.landing.get_blob_client("none", for_transfer=False).url),
    )
    if source.startswith("http") and urlsplit(source).netloc == landing.netloc:
        return ok(same="one storage emulator")
    return unknown("region_unknown", **({"app": where} if where else {}))


def build_invalid_settings_report(faults: Sequence[str]) -> dict[str, Any]:
    """The report where the settings are so wrong that there is no app to examine."""
    return build_report(
        [CompletedCheck("settings", fail("settings_invalid", faults=list(faults)), 0.0)]
    )
