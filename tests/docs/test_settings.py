"""One list of settings: the code's, the sample's and the documents'."""

import json
import re
from pathlib import Path

import pytest

from local.stack import OVERRIDABLE_SETTINGS
from shared.settings import Settings
from tests.docs.test_documents import DOCUMENTS, name_of

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
OURS = {str(field.alias) for field in Settings.model_fields.values()}
TELEMETRY = {"APPLICATIONINSIGHTS_CONNECTION_STRING", "APPLICATIONINSIGHTS_AUTHENTICATION_STRING"}
HOSTS = {
    "AzureWebJobsStorage",
    "AZURE_FUNCTIONS_DURABLE_STRICT_TYPING",
    "FUNCTIONS_WORKER_RUNTIME",
    "TASK_HUB_NAME",
    *TELEMETRY,
}
FOREIGN = {  # not settings of the app
    "ALERT_EMAIL",
    "AZURE_ENV_NAME",
    "EXISTING_LANDING_ACCOUNT",
    "EXISTING_LANDING_RESOURCE_GROUP",  # of a deployment
    "WEBSITE_TIME_ZONE",
    "WEBSITE_INSTANCE_ID",
    "PYTHON_THREADPOOL_THREAD_COUNT",
    "UPGRADE",
    "PYTHON",
    "OVERRIDABLE_SETTINGS",
    "PARTNER_BILLING_URL",
    "PARTNER_BILLING_KEY",
}
NAME = re.compile(r"`([A-Z][A-Z0-9]*(?:_+[A-Za-z0-9]+)+)(?:=[^`]*)?`")


def table(title: str) -> dict[str, str]:
    """Name -> default, as the document's table says."""
    section = re.split(r"^## ", DOCUMENT, flags=re.MULTILINE)
    text = next(part for part in section if part.startswith(title))
    return {
        row[1]: row[2]
        for row in re.finditer(r"^\| `([^`]+)` \| (.*?) \|", text, flags=re.MULTILINE)
    }


def sample() -> dict[str, str]:
    return dict(
        json.loads((ROOT / "local.settings.sample.json").read_text(encoding="utf-8"))["Values"]
    )


def test_the_document_has_every_setting_and_no_other() -> None:
    assert set(table("The app's settings")) == OURS - HOSTS
    assert set(table("The host's settings")) == HOSTS


def test_the_sample_has_every_setting_and_no_other() -> None:
    assert set(sample()) == OURS | HOSTS - TELEMETRY


@pytest.mark.parametrize("name", sorted(OURS - HOSTS))
def test_the_document_has_the_default(name: str) -> None:
    field = next(field for field in Settings.model_fields.values() if field.alias == name)
    default = field.default
    text = (
        ",".join(default) if isinstance(default, tuple) else "" if default is None else str(default)
    )
    told = table("The app's settings")[name].strip("`–").replace(", ", ",")
    assert told == text or (name == "EXPORT_DATASETS" and told == "all four")


@pytest.mark.parametrize("file", DOCUMENTS, ids=name_of)
def test_every_setting_that_a_document_names_exists(file: Path) -> None:
    named = {found.split("__")[0] for found in NAME.findall(file.read_text(encoding="utf-8"))}
    known = {name.split("__")[0] for name in OURS | HOSTS | FOREIGN}
    assert named <= known


def test_the_stack_changes_only_settings_that_there_are() -> None:
    assert set(OVERRIDABLE_SETTINGS) <= OURS
