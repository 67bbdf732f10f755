"""The settings, read once from the environment and checked before anything starts.

All that is wrong comes out in one message that names each setting, what it has (never a secret) and the fix. Where a
setting may hold a secret, pydantic is kept from showing any part of it (`hide_input_in_errors`, `SecretStr`).
"""

import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

os.environ.setdefault(
    "PYDANTIC_DISABLE_PLUGINS", "1"
)  # looking for some reads every installed package's metadata at start

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

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
SECRET = frozenset({"LANDING_STORAGE", "AzureWebJobsStorage"})
GUID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
PATH = r"^([A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9][A-Za-z0-9_-]*)*)?$"
SOURCE = re.compile(r"\.[a-z0-9.-]+|http://(127\.0\.0\.1|\[::1\]|localhost)(:\d+)?")


def _split(value: object) -> object:
    return (
        tuple(part.strip() for part in value.split(",") if part.strip())
        if isinstance(value, str)
        else value
    )


def _some(values: tuple[T, ...]) -> tuple[T, ...]:
    if not values:
        raise ValueError(
            "must name at least one: without any, cycles would ask for nothing and never say so"
        )
    return values


def _schedule(value: str) -> str:
    fields = value.split()
    if len(fields) not in (5, 6) or not all(
        re.fullmatch(r"[0-9A-Za-z*/,\-]+", field) for field in fields
    ):
        raise ValueError("must be an NCRONTAB expression of six fields, as `0 0 5 * * *`")
    return value


def _source(values: tuple[str, ...]) -> tuple[str, ...]:
    values = tuple(value.lower().rstrip("/") for value in values)
    if not values or not all(SOURCE.fullmatch(value) for value in values):
        raise ValueError(
            "must be host suffixes that begin with a dot, or one loopback origin as http://127.0.0.1:10000"
        )
    return values


Listed = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Datasets = Annotated[tuple[Dataset, ...], NoDecode, BeforeValidator(_split), AfterValidator(_some)]
AttributeSets = Annotated[
    tuple[AttributeSet, ...], NoDecode, BeforeValidator(_split), AfterValidator(_some)
]
Periods = Annotated[
    tuple[Literal["current", "last"], ...], NoDecode, BeforeValidator(_split), AfterValidator(_some)
]
InvoiceIds = Annotated[
    Listed, AfterValidator(lambda ids: tuple(parse_invoice_id(one) for one in ids))
]
Currencies = Annotated[
    Listed, AfterValidator(lambda codes: tuple(parse_currency(code) for code in codes))
]
Guid = Annotated[str, Field(pattern=GUID)]
ServiceUri = Annotated[str, Field(pattern=r"^https://[^/?#@]+/?$")]


class Settings(BaseSettings):
    """Field names are the settings' names in lower case; the meaning of each stands in docs/settings.md."""

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
        description="a letter, then 2 to 44 letters or digits",
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
    invoice_ids: InvoiceIds = Field((), alias="INVOICE_IDS")
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
        description="as https://account.blob.core.windows.net",
    )
    landing_table_uri: ServiceUri | None = Field(
        None,
        alias="LANDING_STORAGE__tableServiceUri",
        description="as https://account.table.core.windows.net",
    )
    landing_container: str = Field(
        "billing",
        alias="LANDING_CONTAINER",
        pattern=r"^[a-z0-9](-?[a-z0-9])+$",
        min_length=3,
        max_length=63,
        description="a container's name: 3 to 63 lower-case letters, digits and single dashes",
    )
    landing_prefix: str = Field(
        "",
        alias="LANDING_PREFIX",
        pattern=PATH,
        max_length=250,
        description="a path of 250 characters at most, without a slash at either end",
    )
    landing_table_prefix: str = Field(
        "billing",
        alias="LANDING_TABLE_PREFIX",
        pattern=r"^[A-Za-z][A-Za-z0-9]{0,49}$",
        description="a letter, then letters or digits, 50 at most",
    )
    export_schedule: Annotated[str, AfterValidator(_schedule)] = Field(
        "0 0 5 * * *", alias="EXPORT_SCHEDULE"
    )
    export_datasets: Datasets = Field(tuple(Dataset), alias="EXPORT_DATASETS")
    export_attribute_sets: AttributeSets = Field(
        (AttributeSet.FULL,), alias="EXPORT_ATTRIBUTE_SETS"
    )
    export_periods: Periods = Field(("current", "last"), alias="EXPORT_PERIODS")
    export_currencies: Currencies = Field((), alias="EXPORT_CURRENCIES")
    export_parallelism: int = Field(4, alias="EXPORT_PARALLELISM", ge=1, le=32)
    invoice_lookback_months: int = Field(3, alias="INVOICE_LOOKBACK_MONTHS", ge=1, le=60)
    invoice_settle_days: int = Field(21, alias="INVOICE_SETTLE_DAYS", ge=0, le=365)
    poll_min_seconds: int = Field(10, alias="POLL_MIN_SECONDS", ge=1, le=3600)
    run_deadline_hours: float = Field(24, alias="RUN_DEADLINE_HOURS", gt=0, le=24 * 14)
    month_boundary_minutes: int = Field(30, alias="MONTH_BOUNDARY_MINUTES", ge=0, le=720)
    source_allowed: Annotated[Listed, AfterValidator(_source)] = Field(
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
    def settings_customise_sources(  # the environment and nothing else
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings)

    @property
    def is_loopback(self) -> bool:
        """Graph is the simulator on this machine: no credential is sent, and the source may be on loopback too."""
        return is_loopback_host(get_host(self.graph_base_url))


class InvalidSettingsError(Exception):
    """Every fault in one text, one line each: setting, what it has, what it must be."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__(
            "The settings are wrong; nothing was started.\n"
            + "\n".join(f"  - {fault}" for fault in faults)
        )


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of `environment` (default: the process's). Raises SettingsInvalid."""
    values = {
        name: value
        for name, value in (os.environ if environment is None else environment).items()
        if value.strip()
    }
    known = {
        field.alias: values[field.alias]
        for field in Settings.model_fields.values()
        if field.alias in values
    }
    faults, settings = [], None
    try:
        settings = Settings.model_validate(known)
    except ValidationError as error:
        faults = [
            _said(str(fault["loc"][0]), fault["msg"], known)
            for fault in error.errors(include_input=False)
        ]
    faults += _contradictions(values)
    if faults or settings is None:
        raise InvalidSettingsError(sorted(set(faults)))
    return settings


@cache
def settings() -> Settings:
    """The process's settings, read at first use."""
    return load_settings()


def _said(name: str, message: str, values: Mapping[str, str]) -> str:
    has = (
        "has a value that is not shown" if name in SECRET else f"has {values.get(name, '')[:80]!r}"
    )
    form = next(
        (field.description for field in Settings.model_fields.values() if field.alias == name), None
    )
    return f"{name} {has}: " + (
        f"must be {form}" if form else message.removeprefix("Value error, ")
    )


def _contradictions(values: Mapping[str, str]) -> Iterator[str]:
    """Rules between settings, on the raw values, so that they are told together with the others."""
    connection = values.get("LANDING_STORAGE")
    uris = [values.get(f"LANDING_STORAGE__{service}ServiceUri") for service in ("blob", "table")]
    if not connection and not all(uris):
        yield (
            "LANDING_STORAGE is missing: set LANDING_STORAGE__blobServiceUri and LANDING_STORAGE__tableServiceUri (identity), "
            "or LANDING_STORAGE (a connection string)"
        )
    if connection and any(uris):
        yield "LANDING_STORAGE is set twice: keep the connection string or the service URIs, not both"
    if connection and not re.search(r"(?i)(AccountName=|UseDevelopmentStorage=)", connection):
        yield "LANDING_STORAGE has a value that is not shown: it is not a storage connection string"
    loopback = is_loopback_host(get_host(values.get("GRAPH_BASE_URL", "")))
    deployed = "WEBSITE_INSTANCE_ID" in values
    if loopback and deployed:
        yield "GRAPH_BASE_URL is on loopback: that is for a laptop, not for a deployed app"
    if is_loopback_host(get_host(values.get("PARTNER_CENTER_BASE_URL", ""))) and deployed:
        yield "PARTNER_CENTER_BASE_URL is on loopback: that is for a laptop, not for a deployed app"
    if not loopback and "PARTNER_TENANT_ID" not in values:
        yield "PARTNER_TENANT_ID is missing: the partner's Entra tenant id, so that no other tenant's data can be landed"
    if not loopback and "http://" in values.get("SOURCE_ALLOWED", "").lower():
        yield "SOURCE_ALLOWED names a loopback origin: that goes only with a GRAPH_BASE_URL on loopback"
    for app in ("PARTNER_APP_CLIENT_ID", "PARTNER_CENTER_APP_CLIENT_ID"):
        if app in values and "AZURE_CLIENT_ID" not in values:
            yield f"AZURE_CLIENT_ID is missing: {app} trusts the user-assigned identity that it names"
    if values.get("INVOICE_SOURCE") == "list" and not values.get("INVOICE_IDS"):
        yield "INVOICE_IDS is missing: INVOICE_SOURCE=list takes the invoices from it"
    if deployed and (
        "WEBSITE_TIME_ZONE" in values or values.get("TZ", "UTC").upper() not in ("UTC", "ETC/UTC")
    ):
        yield "WEBSITE_TIME_ZONE or TZ sets a time zone: schedules are in UTC, and the plan does not support others"
    mine = parse_account_name(connection, uris[0])
    host = parse_account_name(
        values.get("AzureWebJobsStorage"), values.get("AzureWebJobsStorage__accountName")
    )
    if mine and mine == host:
        yield "AzureWebJobsStorage is the landing account: the app's own storage must be another account"


def parse_account_name(connection: str | None, name_or_uri: str | None) -> str | None:
    """The account's name in a connection string, a service URI or a bare name; None where it cannot be told."""
    if connection and (found := re.search(r"(?i)AccountName=([^;]+)", connection)):
        return found[1].lower()
    if name_or_uri:
        return (get_host(name_or_uri) or name_or_uri).split(".")[0].lower()
    return None


def describe_settings(settings: Settings) -> dict[str, Any]:
    """The settings for people, secrets left out."""
    shown = (
        (name, field.alias or name)
        for name, field in Settings.model_fields.items()
        if field.alias not in SECRET
    )
    return {alias: getattr(settings, name) for name, alias in shown}
