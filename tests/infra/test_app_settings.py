"""The template sets the app's settings, with the same defaults and limits."""

import re
from collections.abc import Mapping
from typing import Any, get_args

import pytest

from shared.exports import AttributeSet, Dataset
from shared.settings import InvalidSettingsError, Settings, load_settings
from tests.support.bicep import get_decorator, load_templates
from tests.support.settings import HOST_SETTINGS

MAIN = load_templates()["main.bicep"]
FIELDS = {str(field.alias): field for field in Settings.model_fields.values()}
# LANDING_STORAGE is a connection string, and Flex Consumption configures the runtime elsewhere.
NOT_ON_AZURE = {"LANDING_STORAGE", "FUNCTIONS_WORKER_RUNTIME"}
IDENTITY_CONNECTIONS = {"AzureWebJobsStorage"}  # three settings each, instead of a secret
SETTINGS: dict[str, Any] = MAIN.tree["variables"]["settings"]["value"]
CONSTANTS = {
    "AzureWebJobsStorage__credential": "managedidentity",
    "AZURE_FUNCTIONS_DURABLE_STRICT_TYPING": "1",
}
TENANT = "00000000-0000-4000-8000-000000000001"
OUTPUTS = {  # outputs of modules
    "hostStorage.outputs.name": "sthostaaaaaaaaaaaaa",
    "identity.outputs.clientId": "00000000-0000-4000-8000-000000000002",
    "landingAccess.outputs.blobServiceUri": "https://stlandaaaaaaaaaaaaa.blob.core.windows.net/",
    "landingAccess.outputs.tableServiceUri": "https://stlandaaaaaaaaaaaaa.table.core.windows.net/",
    "monitoring.outputs.connectionString": (
        "InstrumentationKey=00000000-0000-4000-8000-000000000003"
    ),
}


def get_expression(name: str) -> str:
    """Return the expression for a setting in the template."""
    match = re.search(rf"^  {name}: (.+)$", MAIN.source, flags=re.MULTILINE)
    assert match, name
    return match[1]


def find_parameter(name: str) -> str | None:
    """Return the parameter that sets a setting, or None for an output or a constant."""
    match = re.fullmatch(r"(?:join\((\w+), ','\)|(\w+))", get_expression(name))
    return (match[1] or match[2]) if match else None


PARAMETER_OF_SETTING = {name: parameter for name in SETTINGS if (parameter := find_parameter(name))}
NUMBERS = sorted(
    name
    for name, parameter in PARAMETER_OF_SETTING.items()
    if MAIN.parameters[parameter]["type"] == "int"
)


def get_value(name: str, values: Mapping[str, Any] | None = None) -> str:
    """Return the value of a setting on Azure, with defaults for parameters not in `values`."""
    expression = get_expression(name)
    parameter = find_parameter(name)
    if parameter is None:
        for output, value in OUTPUTS.items():
            expression = expression.replace(f"${{{output}}}", value)
        return OUTPUTS.get(expression, expression.strip("'"))
    value = (values or {}).get(parameter, MAIN.parameters[parameter].get("default"))
    if isinstance(value, list):
        value = ",".join(value)
    return str(value).replace("${environment().suffixes.storage}", "core.windows.net")


def create_environment(**values: Any) -> dict[str, str]:
    """Return the environment variables that the app has on Azure."""
    return {
        **{name: get_value(name, {"partnerTenantId": TENANT, **values}) for name in SETTINGS},
        "WEBSITE_INSTANCE_ID": "an-instance",
    }


def get_limits(name: str) -> tuple[Any, Any]:
    constraints = {type(item).__name__: item for item in FIELDS[name].metadata}
    minimum = constraints["Ge"].ge if "Ge" in constraints else constraints["Gt"].gt + 1
    return minimum, constraints["Le"].le


def test_template_sets_exactly_settings_of_app() -> None:
    expected = (set(FIELDS) | HOST_SETTINGS) - NOT_ON_AZURE - IDENTITY_CONNECTIONS
    assert {
        name for name in SETTINGS if name.split("__")[0] not in IDENTITY_CONNECTIONS
    } == expected
    assert {name for name in SETTINGS if name.split("__")[0] in IDENTITY_CONNECTIONS} == {
        "AzureWebJobsStorage__accountName",
        "AzureWebJobsStorage__clientId",
        "AzureWebJobsStorage__credential",
    }


def test_setting_is_parameter_output_or_constant() -> None:
    other = {
        name
        for name in SETTINGS
        if name not in PARAMETER_OF_SETTING and ".outputs." not in get_expression(name)
    }
    assert {name: get_expression(name).strip("'") for name in other} == CONSTANTS


def test_load_settings_accepts_defaults_of_template() -> None:
    settings = load_settings(create_environment())
    assert (
        settings.partner_tenant_id == TENANT
        and settings.landing_blob_uri == OUTPUTS["landingAccess.outputs.blobServiceUri"]
    )
    assert not settings.is_loopback


@pytest.mark.parametrize("name", sorted(set(PARAMETER_OF_SETTING) - {"PARTNER_TENANT_ID"}))
def test_parameter_has_default_of_app(name: str) -> None:
    default = FIELDS[name].default
    text = (
        ",".join(default) if isinstance(default, tuple) else "" if default is None else str(default)
    )
    assert get_value(name) == text


@pytest.mark.parametrize("name", NUMBERS)
def test_number_parameter_has_limits_of_app(name: str) -> None:
    parameter = MAIN.parameters[PARAMETER_OF_SETTING[name]]
    assert (
        get_decorator(parameter, "min_value"),
        get_decorator(parameter, "max_value"),
    ) == get_limits(name)


@pytest.mark.parametrize("name", NUMBERS)
def test_load_settings_enforces_limits_of_number_parameter(name: str) -> None:
    parameter = PARAMETER_OF_SETTING[name]
    minimum, maximum = get_limits(name)
    for value in (minimum, maximum):
        load_settings(create_environment(**{parameter: value}))
    for value in (minimum - 1, maximum + 1):
        with pytest.raises(InvalidSettingsError, match=name):
            load_settings(create_environment(**{parameter: value}))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("INVOICE_SOURCE", get_args(FIELDS["INVOICE_SOURCE"].annotation)),
        ("COPY_MODE", get_args(FIELDS["COPY_MODE"].annotation)),
        ("PROOF", get_args(FIELDS["PROOF"].annotation)),
        ("EXPORT_DATASETS", tuple(Dataset)),
        ("EXPORT_ATTRIBUTE_SETS", tuple(AttributeSet)),
        ("EXPORT_PERIODS", ("current", "last")),
    ],
)
def test_parameter_allows_values_of_app(name: str, values: tuple[str, ...]) -> None:
    assert set(get_decorator(MAIN.parameters[PARAMETER_OF_SETTING[name]], "allowed")) == {
        str(value) for value in values
    }


@pytest.mark.parametrize(
    "name", ["LANDING_CONTAINER", "LANDING_PREFIX", "LANDING_TABLE_PREFIX", "TASK_HUB_NAME"]
)
def test_string_parameter_has_max_length_of_app(name: str) -> None:
    maximum = get_decorator(MAIN.parameters[PARAMETER_OF_SETTING[name]], "max_length")
    load_settings(create_environment(**{PARAMETER_OF_SETTING[name]: "a" * maximum}))
    with pytest.raises(InvalidSettingsError, match=name):
        load_settings(create_environment(**{PARAMETER_OF_SETTING[name]: "a" * (maximum + 1)}))


def test_load_settings_accepts_allowed_base_urls() -> None:
    for name in ("GRAPH_BASE_URL", "PARTNER_CENTER_BASE_URL"):
        for url in get_decorator(MAIN.parameters[PARAMETER_OF_SETTING[name]], "allowed"):
            load_settings(create_environment(**{PARAMETER_OF_SETTING[name]: url}))


def test_template_sets_no_time_zone() -> None:
    assert not {"WEBSITE_TIME_ZONE", "TZ"} & set(SETTINGS)
