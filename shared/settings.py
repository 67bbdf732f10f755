"""The app settings, read once from the environment and validated before anything starts.

One error lists every invalid setting with its value and the required value. The error and the logs
never contain the value of a setting that can contain a secret (`SecretStr`,
`hide_input_in_errors`).
"""

import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

# The search for pydantic plugins reads the metadata of every installed package at startup.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from ncrontab import next_tick
from shared.exports import AttributeSet, Dataset, parse_currency, parse_invoice_id
from shared.urls import (
    GRAPH_URL,
    PARTNER_CENTER_URL,
    get_host,
    is_loopback_host,
    parse_graph_base_url,
    parse_partner_center_base_url,
)

T = TypeVar("T")
SECRET_SETTINGS = frozenset({"LANDING_STORAGE", "AzureWebJobsStorage"})
MAX_QUOTED_CHARACTERS = 80
GUID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
PATH = r"^([A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9][A-Za-z0-9_-]*)*)?$"
SOURCE = re.compile(r"\.[a-z0-9.-]+|http://(127\.0\.0\.1|\[::1\]|localhost)(:\d+)?")


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _require_values(values: tuple[T, ...]) -> tuple[T, ...]:
    if not values:
        raise ValueError("must contain at least one value; with none, cycles request nothing")
    return values


def _validate_schedule(value: str) -> str:
    if next_tick(value, datetime(2024, 1, 1, tzinfo=UTC)) is None:
        raise ValueError("must be an NCRONTAB expression with six fields, for example 0 0 5 * * *")
    return value


def _validate_sources(values: tuple[str, ...]) -> tuple[str, ...]:
    values = tuple(value.lower().rstrip("/") for value in values)
    if not values or not all(SOURCE.fullmatch(value) for value in values):
        raise ValueError(
            "must contain host suffixes that start with a dot, or one loopback origin, for example "
            "http://127.0.0.1:10000"
        )
    return values


StringList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Datasets = Annotated[
    tuple[Dataset, ...], NoDecode, BeforeValidator(_split), AfterValidator(_require_values)
]
AttributeSets = Annotated[
    tuple[AttributeSet, ...], NoDecode, BeforeValidator(_split), AfterValidator(_require_values)
]
Periods = Annotated[
    tuple[Literal["current", "last"], ...],
    NoDecode,
    BeforeValidator(_split),
    AfterValidator(_require_values),
]
InvoiceIds = Annotated[StringList, AfterValidator(lambda ids: tuple(map(parse_invoice_id, ids)))]
Currencies = Annotated[StringList, AfterValidator(lambda codes: tuple(map(parse_currency, codes)))]
Guid = Annotated[str, Field(pattern=GUID)]
ServiceUri = Annotated[str, Field(pattern=r"^https://[^/?#@]+/?$")]


class Settings(BaseSettings):
    """The settings; each field has the setting's name in lower case (see docs/settings.md).

    A field's `description` completes the sentence "must be ..." of an error text.
    """

    model_config = SettingsConfigDict(
        case_sensitive=True,
        frozen=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,
        extra="ignore",
        populate_by_name=True,
    )

    task_hub_name: str = Field(
        "PartnerBilling",
        alias="TASK_HUB_NAME",
        pattern=r"^[A-Za-z][A-Za-z0-9]{2,44}$",
        description="a letter followed by 2 to 44 ASCII letters or digits",
    )
    graph_base_url: Annotated[str, AfterValidator(parse_graph_base_url)] = Field(
        GRAPH_URL, alias="GRAPH_BASE_URL"
    )
    partner_center_base_url: Annotated[str, AfterValidator(parse_partner_center_base_url)] = Field(
        PARTNER_CENTER_URL, alias="PARTNER_CENTER_BASE_URL"
    )
    invoice_source: Literal["partner_center", "list", "none"] = Field(
        "partner_center", alias="INVOICE_SOURCE"
    )
    invoice_ids: InvoiceIds = Field(
        (),
        alias="INVOICE_IDS",
        description="a comma-separated list of invoice IDs such as G016907411",
    )
    partner_tenant_id: Guid | None = Field(None, alias="PARTNER_TENANT_ID", description="a GUID")
    azure_client_id: Guid | None = Field(None, alias="AZURE_CLIENT_ID", description="a GUID")
    partner_app_client_id: Guid | None = Field(
        None, alias="PARTNER_APP_CLIENT_ID", description="a GUID"
    )
    partner_center_app_client_id: Guid | None = Field(
        None, alias="PARTNER_CENTER_APP_CLIENT_ID", description="a GUID"
    )
    landing_storage: SecretStr | None = Field(None, alias="LANDING_STORAGE")
    landing_blob_uri: ServiceUri | None = Field(
        None,
        alias="LANDING_STORAGE__blobServiceUri",
        description="a URI such as https://account.blob.core.windows.net",
    )
    landing_table_uri: ServiceUri | None = Field(
        None,
        alias="LANDING_STORAGE__tableServiceUri",
        description="a URI such as https://account.table.core.windows.net",
    )
    landing_container: str = Field(
        "billing",
        alias="LANDING_CONTAINER",
        pattern=r"^[a-z0-9](-?[a-z0-9])+$",
        min_length=3,
        max_length=63,
        description="a container name: 3 to 63 lowercase letters, digits and single hyphens",
    )
    landing_prefix: str = Field(
        "",
        alias="LANDING_PREFIX",
        pattern=PATH,
        max_length=250,
        description="a path of at most 250 characters without a leading or trailing slash",
    )
    landing_table_prefix: str = Field(
        "billing",
        alias="LANDING_TABLE_PREFIX",
        pattern=r"^[A-Za-z][A-Za-z0-9]{0,49}$",
        description="a letter followed by at most 49 letters or digits",
    )
    export_schedule: Annotated[str, AfterValidator(_validate_schedule)] = Field(
        "0 0 5 * * *", alias="EXPORT_SCHEDULE"
    )
    export_datasets: Datasets = Field(tuple(Dataset), alias="EXPORT_DATASETS")
    export_attribute_sets: AttributeSets = Field(
        (AttributeSet.FULL,), alias="EXPORT_ATTRIBUTE_SETS"
    )
    export_periods: Periods = Field(("current", "last"), alias="EXPORT_PERIODS")
    export_currencies: Currencies = Field(
        (),
        alias="EXPORT_CURRENCIES",
        description="a comma-separated list of currency codes such as USD,EUR",
    )
    export_parallelism: int = Field(4, alias="EXPORT_PARALLELISM", ge=1, le=32)
    invoice_lookback_months: int = Field(3, alias="INVOICE_LOOKBACK_MONTHS", ge=1, le=60)
    invoice_settle_days: int = Field(21, alias="INVOICE_SETTLE_DAYS", ge=0, le=365)
    poll_min_seconds: int = Field(10, alias="POLL_MIN_SECONDS", ge=1, le=3600)
    run_deadline_hours: float = Field(24, alias="RUN_DEADLINE_HOURS", gt=0, le=24 * 14)
    month_boundary_minutes: int = Field(30, alias="MONTH_BOUNDARY_MINUTES", ge=0, le=720)
    source_allowed: Annotated[StringList, AfterValidator(_validate_sources)] = Field(
        (".blob.core.windows.net", ".blob.storage.azure.net"), alias="SOURCE_ALLOWED"
    )
    copy_mode: Literal["auto", "server", "stream"] = Field("auto", alias="COPY_MODE")
    copy_concurrency: int = Field(64, alias="COPY_CONCURRENCY", ge=1, le=512)
    proof: Literal["content", "transfer"] = Field("content", alias="PROOF")
    keep_versions_billed: int = Field(0, alias="KEEP_VERSIONS_BILLED", ge=0, le=10_000)
    keep_versions_unbilled: int = Field(7, alias="KEEP_VERSIONS_UNBILLED", ge=0, le=10_000)
    prune_grace_hours: int = Field(72, alias="PRUNE_GRACE_HOURS", ge=1, le=24 * 365)
    history_days: int = Field(30, alias="HISTORY_DAYS", ge=15, le=3650)
    blob_row_days: int = Field(400, alias="BLOB_ROW_DAYS", ge=30, le=3650)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read settings only from the environment, not from .env or secret files."""
        return (init_settings, env_settings)

    @property
    def is_loopback(self) -> bool:
        """Whether Graph is the simulator on this computer.

        The app then sends no credential, and the source can be on a loopback address too.
        """
        return is_loopback_host(get_host(self.graph_base_url))


class InvalidSettingsError(Exception):
    """Some settings are invalid; `faults` has one line for each."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        lines = "".join(f"\n  - {fault}" for fault in faults)
        super().__init__(f"The settings are invalid; the app did not start.{lines}")


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of `environment` (default: the environment of the process).

    Raises InvalidSettingsError, which lists every fault.
    """
    source = os.environ if environment is None else environment
    values = {name: value for name, value in source.items() if value.strip()}
    aliases = [str(field.alias) for field in Settings.model_fields.values()]
    known = {alias: values[alias] for alias in aliases if alias in values}
    settings = None
    faults = list(_find_contradictions(values))
    try:
        settings = Settings.model_validate(known)
    except ValidationError as error:
        faults += [
            _describe_fault(str(fault["loc"][0]), fault["msg"], known)
            for fault in error.errors(include_input=False)
        ]
    if faults or settings is None:
        raise InvalidSettingsError(sorted(set(faults)))
    return settings


@cache
def get_settings() -> Settings:
    """Return the settings of the process, which are read on the first call."""
    return load_settings()


def _describe_fault(name: str, message: str, values: Mapping[str, str]) -> str:
    value = "a secret value"
    if name not in SECRET_SETTINGS:
        value = repr(values.get(name, "")[:MAX_QUOTED_CHARACTERS])
    fields = Settings.model_fields.values()
    form = next((field.description for field in fields if field.alias == name), None)
    if form:
        return f"{name} is set to {value}, but it must be {form}"
    message = message.removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{name} is set to {value}, but it {message}"


def _find_contradictions(values: Mapping[str, str]) -> Iterator[str]:
    """Yield the violated rules between settings.

    The rules apply to the raw values, so that one error contains both kinds of faults.
    """
    connection = values.get("LANDING_STORAGE")
    uris = [values.get(f"LANDING_STORAGE__{service}ServiceUri") for service in ("blob", "table")]
    if not connection and not all(uris):
        yield (
            "LANDING_STORAGE is not set: set LANDING_STORAGE__blobServiceUri and "
            "LANDING_STORAGE__tableServiceUri, or set LANDING_STORAGE to a connection string"
        )
    if connection and any(uris):
        yield (
            "LANDING_STORAGE is set to a secret value, but it must be empty if the service URIs "
            "are set; keep either the connection string or the URIs"
        )
    if connection and not re.search(r"(?i)(AccountName=|UseDevelopmentStorage=)", connection):
        yield "LANDING_STORAGE is set to a secret value, but it must be a storage connection string"
    is_loopback = is_loopback_host(get_host(values.get("GRAPH_BASE_URL", "")))
    is_deployed = "WEBSITE_INSTANCE_ID" in values
    for name in ("GRAPH_BASE_URL", "PARTNER_CENTER_BASE_URL"):
        url = values.get(name, "")
        if is_deployed and is_loopback_host(get_host(url)):
            quoted = repr(url[:MAX_QUOTED_CHARACTERS])
            yield (
                f"{name} is set to {quoted}, but it must not be a loopback address in a deployed "
                "app"
            )
    if not is_loopback and "PARTNER_TENANT_ID" not in values:
        yield (
            "PARTNER_TENANT_ID is not set: must be the ID of the partner's Microsoft Entra tenant; "
            "the app refuses data of other tenants"
        )
    sources = values.get("SOURCE_ALLOWED", "")
    has_loopback_source = any(
        SOURCE.fullmatch(part.strip().lower()) and not part.strip().startswith(".")
        for part in sources.split(",")
    )
    if not is_loopback and has_loopback_source:
        yield (
            f"SOURCE_ALLOWED is set to {sources[:MAX_QUOTED_CHARACTERS]!r}, but it must not "
            "contain a loopback origin unless GRAPH_BASE_URL is a loopback address"
        )
    for name in ("PARTNER_APP_CLIENT_ID", "PARTNER_CENTER_APP_CLIENT_ID"):
        if name in values and "AZURE_CLIENT_ID" not in values:
            yield (
                "AZURE_CLIENT_ID is not set: must be the client ID of the user-assigned identity "
                f"that the app of {name} trusts"
            )
    if values.get("INVOICE_SOURCE") == "list" and not values.get("INVOICE_IDS"):
        yield "INVOICE_IDS is not set: must list the invoices if INVOICE_SOURCE is list"
    time_zone = values.get("TZ", "UTC")
    if is_deployed and (
        "WEBSITE_TIME_ZONE" in values or time_zone.upper() not in ("UTC", "ETC/UTC")
    ):
        yield (
            "WEBSITE_TIME_ZONE or TZ sets a time zone: both must be unset, because schedules are "
            "in UTC and the hosting plan does not support time zones"
        )
    landing_account = parse_account_name(connection, uris[0])
    host_account = parse_account_name(
        values.get("AzureWebJobsStorage"), values.get("AzureWebJobsStorage__accountName")
    )
    if landing_account and landing_account == host_account:
        yield (
            f"AzureWebJobsStorage specifies the account {landing_account!r}, but it must not be "
            "the landing account"
        )


def parse_account_name(connection_string: str | None, name_or_uri: str | None) -> str | None:
    """Return the storage account name, or None if it cannot be determined.

    The name is taken from the connection string, otherwise from a service URI or a bare name.
    """
    match = re.search(r"(?i)AccountName=([^;]+)", connection_string or "")
    if match:
        return match[1].lower()
    if name_or_uri:
        return (get_host(name_or_uri) or name_or_uri).split(".")[0].lower()
    return None


def describe_settings(settings: Settings) -> dict[str, Any]:
    """Return the values by setting name, without the settings that contain secrets."""
    return {
        str(field.alias): getattr(settings, name)
        for name, field in Settings.model_fields.items()
        if field.alias not in SECRET_SETTINGS
    }
