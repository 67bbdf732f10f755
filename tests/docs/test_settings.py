"""The code, the sample settings and the documents contain the same settings."""

import json
import re
from pathlib import Path

import pytest

from local.stack import OVERRIDABLE_SETTINGS
from shared.settings import Settings
from tests.docs.test_documents import DOCUMENTS, name_of
from tests.support.settings import HOST_SETTINGS, TELEMETRY

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
APP_SETTINGS = {str(field.alias) for field in Settings.model_fields.values()}
OTHER_VARIABLES = {  # environment variables that are not settings of the app
    "ALERT_EMAIL",
    "AZURE_ENV_NAME",
    "EXISTING_LANDING_ACCOUNT",
    "EXISTING_LANDING_RESOURCE_GROUP",
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
    """Return the default of each setting in the table under the heading `title`."""
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


def test_document_describes_exactly_the_existing_settings() -> None:
    assert set(table("App settings")) == APP_SETTINGS - HOST_SETTINGS
    assert set(table("Host settings")) == HOST_SETTINGS


def test_sample_contains_exactly_the_existing_settings() -> None:
    assert set(sample()) == APP_SETTINGS | HOST_SETTINGS - TELEMETRY


@pytest.mark.parametrize("name", sorted(APP_SETTINGS - HOST_SETTINGS))
def test_document_states_the_default(name: str) -> None:
    field = next(field for field in Settings.model_fields.values() if field.alias == name)
    default = field.default
    text = (
        ",".join(default) if isinstance(default, tuple) else "" if default is None else str(default)
    )
    documented = table("App settings")[name].strip("`–").replace(", ", ",")
    assert documented == text or (name == "EXPORT_DATASETS" and documented == "all four")


@pytest.mark.parametrize("file", DOCUMENTS, ids=name_of)
def test_document_names_only_existing_settings(file: Path) -> None:
    names = {name.split("__")[0] for name in NAME.findall(file.read_text(encoding="utf-8"))}
    known = {name.split("__")[0] for name in APP_SETTINGS | HOST_SETTINGS | OTHER_VARIABLES}
    assert names <= known


def test_stack_overrides_only_existing_settings() -> None:
    assert set(OVERRIDABLE_SETTINGS) <= APP_SETTINGS
