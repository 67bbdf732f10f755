"""One list of settings: what the template sets is what the app reads, with the same defaults and the same limits."""

import re
from collections.abc import Mapping
from typing import Any, get_args

import pytest

from shared.exports import AttributeSet, Dataset
from shared.settings import InvalidSettingsError, Settings, load_settings
from tests.docs.test_settings import HOST_SETTINGS
from tests.infra.bicep import decorator, templates

MAIN = templates()["main.bicep"]
FIELDS = {str(field.alias): field for field in Settings.model_fields.values()}
NOT_ON_AZURE = {
    "LANDING_STORAGE",
    "FUNCTIONS_WORKER_RUNTIME",
}  # a connection string; and what the plan says elsewhere
IN_PARTS = {"AzureWebJobsStorage"}  # by identity it is three settings
SET: dict[str, Any] = MAIN.tree["variables"]["settings"]["value"]
ALWAYS = {
    "AzureWebJobsStorage__credential": "managedidentity",
    "AZURE_FUNCTIONS_DURABLE_STRICT_TYPING": "1",
}
TENANT = "00000000-0000-4000-8000-000000000001"
TOLD = {  # what only Azure knows
    "hostStorage.outputs.name": "sthostaaaaaaaaaaaaa",
    "identity.outputs.clientId": "00000000-0000-4000-8000-000000000002",
    "landingAccess.outputs.blobServiceUri": "https://stlandaaaaaaaaaaaaa.blob.core.windows.net/",
    "landingAccess.outputs.tableServiceUri": "https://stlandaaaaaaaaaaaaa.table.core.windows.net/",
    "monitoring.outputs.connectionString": "InstrumentationKey=00000000-0000-4000-8000-000000000003",
}


def source_of(name: str) -> str:
    """The expression of a setting, as it is written."""
    found = re.search(rf"^  {name}: (.+)$", MAIN.source, flags=re.MULTILINE)
    assert found, name
    return found[1]


def parameter_of(name: str) -> str | None:
    """The parameter that a setting comes from; None where it is an output or always the same."""
    found = re.fullmatch(r"(?:join\((\w+), ','\)|(\w+))", source_of(name))
    return (found[1] or found[2]) if found else None


OF_PARAMETERS = {name: parameter for name in SET if (parameter := parameter_of(name))}
NUMBERS = sorted(
    name for name, parameter in OF_PARAMETERS.items() if MAIN.parameters[parameter]["type"] == "int"
)


def default_of(name: str, values: Mapping[str, Any] | None = None) -> str:
    """The text that a setting has on Azure where nobody says anything, or says `values` (by parameter)."""
    expression = source_of(name)
    parameter = parameter_of(name)
    if parameter is None:
        for output, value in TOLD.items():
            expression = expression.replace(f"${{{output}}}", value)
        return TOLD.get(expression, expression.strip("'"))
    value = (values or {}).get(parameter, MAIN.parameters[parameter].get("default"))
    if isinstance(value, list):
        value = ",".join(value)
    return str(value).replace("${environment().suffixes.storage}", "core.windows.net")


def environment(**values: Any) -> dict[str, str]:
    """The app's environment on Azure, made from the template."""
    return {
        **{name: default_of(name, {"partnerTenantId": TENANT, **values}) for name in SET},
        "WEBSITE_INSTANCE_ID": "an-instance",
    }


def limits(name: str) -> tuple[Any, Any]:
    found = {type(one).__name__: one for one in FIELDS[name].metadata}
    least = found["Ge"].ge if "Ge" in found else found["Gt"].gt + 1
    return least, found["Le"].le


def test_the_template_sets_every_setting_of_the_app_and_no_other() -> None:
    expected = (set(FIELDS) | HOST_SETTINGS) - NOT_ON_AZURE - IN_PARTS
    assert {name for name in SET if name.split("__")[0] not in IN_PARTS} == expected
    assert {name for name in SET if name.split("__")[0] in IN_PARTS} == {
        "AzureWebJobsStorage__accountName",
        "AzureWebJobsStorage__clientId",
        "AzureWebJobsStorage__credential",
    }


def test_every_setting_comes_from_a_parameter_or_an_output() -> None:
    rest = {
        name for name in SET if name not in OF_PARAMETERS and ".outputs." not in source_of(name)
    }
    assert {name: source_of(name).strip("'") for name in rest} == ALWAYS


def test_the_app_starts_with_the_defaults_of_the_template() -> None:
    found = load_settings(environment())
    assert (
        found.partner_tenant_id == TENANT
        and found.landing_blob_uri == TOLD["landingAccess.outputs.blobServiceUri"]
    )
    assert not found.is_loopback


@pytest.mark.parametrize("name", sorted(set(OF_PARAMETERS) - {"PARTNER_TENANT_ID"}))
def test_a_default_is_the_one_of_the_app(name: str) -> None:
    default = FIELDS[name].default
    text = (
        ",".join(default) if isinstance(default, tuple) else "" if default is None else str(default)
    )
    assert default_of(name) == text


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_has_the_limits_of_the_app(name: str) -> None:
    parameter = MAIN.parameters[OF_PARAMETERS[name]]
    assert (decorator(parameter, "min_value"), decorator(parameter, "max_value")) == limits(name)


@pytest.mark.parametrize("name", NUMBERS)
def test_the_app_agrees_with_the_limits(name: str) -> None:
    parameter = OF_PARAMETERS[name]
    least, most = limits(name)
    for value in (least, most):
        load_settings(environment(**{parameter: value}))
    for value in (least - 1, most + 1):
        with pytest.raises(InvalidSettingsError, match=name):
            load_settings(environment(**{parameter: value}))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("INVOICE_SOURCE", get_args(FIELDS["INVOICE_SOURCE"].annotation)),
        ("COPY_MODE", get_args(FIELDS["COPY_MODE"].annotation)),
        ("PROOF", get_args(FIELDS["PROOF"].annotation)),
        ("EXPORT_DATASETS", tuple(Dataset)),
        ("EXPORT_ATTRIBUTE_SETS", tuple(AttributeSet)),
        ("EXPORT_PERIODS", ("current", "last")),
    ],
)
def test_a_word_is_one_that_the_app_knows(name: str, words: tuple[str, ...]) -> None:
    assert set(decorator(MAIN.parameters[OF_PARAMETERS[name]], "allowed")) == {
        str(word) for word in words
    }


@pytest.mark.parametrize(
    "name", ["LANDING_CONTAINER", "LANDING_PREFIX", "LANDING_TABLE_PREFIX", "TASK_HUB_NAME"]
)
def test_a_text_is_no_longer_than_the_app_takes(name: str) -> None:
    most = decorator(MAIN.parameters[OF_PARAMETERS[name]], "max_length")
    load_settings(environment(**{OF_PARAMETERS[name]: "a" * most}))
    with pytest.raises(InvalidSettingsError, match=name):
        load_settings(environment(**{OF_PARAMETERS[name]: "a" * (most + 1)}))


def test_addresses_are_those_that_the_app_takes() -> None:
    for name in ("GRAPH_BASE_URL", "PARTNER_CENTER_BASE_URL"):
        for address in decorator(MAIN.parameters[OF_PARAMETERS[name]], "allowed"):
            load_settings(environment(**{OF_PARAMETERS[name]: address}))


def test_no_time_zone_is_set() -> None:
    assert not {"WEBSITE_TIME_ZONE", "TZ"} & set(SET)
