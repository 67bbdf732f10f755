"""Every way in which the service may answer, where Microsoft does not say which: one switch each, with its values.

A switch's first value is its default. Choices are `Literal` types, numbers declare the values worth testing; `SWITCHES`
is read off the class, so that a test matrix runs through all of them and none can be forgotten.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints


def choice(default: str, means: str) -> Any:
    """A switch whose values are those of its Literal type."""
    return field(default=default, metadata={"means": means})


def number(default: float | None, *others: float | None, means: str) -> Any:
    """A switch that takes any number; `others` are the values a test matrix tries."""
    return field(default=default, metadata={"means": means, "values": (default, *others)})


@dataclass(frozen=True)
class Behaviour:
    """How the simulated service behaves. Immutable: tests put another one in place with `dataclasses.replace`."""

    # -- asking for an export
    start_body: Literal["empty", "empty_json", "json"] = choice(
        "empty", "the 202: nothing, only a content type, the operation"
    )
    location: Literal["own", "foreign", "absent"] = choice(
        "own", "host that Location and links name; absent: no Location at all"
    )
    start_retry_after: Literal["absent", "seconds"] = choice("absent", "Retry-After with the 202")
    repeated_start: Literal["new_operation", "same_operation"] = choice(
        "new_operation", "an equal export while one is known"
    )
    unknown_invoice: Literal[
        "bad_request", "not_found", "failed_5000", "failed_other", "zero_blobs"
    ] = choice("bad_request", "an invoice that the partner does not have")
    legacy_invoice: Literal["failed_5000", "bad_request", "zero_blobs"] = choice(
        "failed_5000", "an invoice of the D kind"
    )
    unknown_currency: Literal["bad_request", "failed_5000", "zero_blobs"] = choice(
        "bad_request", "a currency that the partner is not billed in"
    )
    invoice_exportable: Literal["at_once", "failed_5000_at_first", "running_at_first"] = choice(
        "at_once", "an export within `first_hours` of the invoice's date"
    )
    concurrent_operations: int = number(
        0, 2, means="operations that may run at once, more are answered 429; 0 = any number"
    )
    permission: Literal["granted", "denied"] = choice(
        "granted", "denied: 403 Authorization_RequestDenied"
    )
    authorization: Literal["ignored", "demanded", "claims_challenge"] = choice(
        "ignored",
        "Authorization header: not looked at, 401 without one, 401 with a claims challenge to each first token",
    )
    aggregated_usage: Literal["not_implemented", "accepted"] = choice(
        "not_implemented", "POST aggregatedUsage under /beta"
    )
    collections: Literal["not_found", "listed"] = choice(
        "not_found", "GET of all operations or all manifests"
    )

    # -- waiting for it
    ready_after_polls: int = number(
        2, 0, means="looks that find the operation not ready, the first of them notStarted"
    )
    ready_after_seconds: float = number(
        0, 2, means="time from POST until it is ready, by the simulator's clock"
    )
    retry_after: Literal["seconds", "http_date", "junk", "absent"] = choice(
        "seconds", "Retry-After of an operation not ready"
    )
    retry_after_seconds: float = number(1, 0, 200, means="its value")
    status_running: Literal["running", "processing", "notstarted", "absent"] = choice(
        "running", "status word while running"
    )
    status_success: Literal["succeeded", "completed", "Succeeded", "absent"] = choice(
        "succeeded", "status word of the end"
    )
    odata_type: Literal["present", "absent"] = choice("present", "@odata.type in operations")
    created_time: Literal["naive", "aware"] = choice(
        "naive", "createdDateTime of an operation without or with zone"
    )
    manifest: Literal["inline", "link", "string", "link_and_inline"] = choice(
        "inline", "where a finished operation shows it"
    )
    failure_code: Literal["string", "number"] = choice("string", 'error.code "5000" or 5000')
    operation_end: Literal["by_data", "failed_5000", "failed_other", "never"] = choice(
        "by_data", "how every operation ends"
    )
    operation_lifetime_seconds: float | None = number(
        None, 1, means="age at which an operation is forgotten, by the clock"
    )
    operation_lifetime_reads: int | None = number(
        None, 3, means="looks after which an operation is forgotten"
    )
    gone: Literal["404", "410"] = choice("404", "answer to an id that is unknown or forgotten")
    operation_data: Literal["fixed", "newest"] = choice(
        "fixed", "data of a finished operation: as of the POST, or newest"
    )
    throttle_every: int = number(0, 3, means="every n-th Graph request is answered 429; 0 = none")
    throttle_retry_after: Literal["seconds", "http_date", "junk", "absent"] = choice(
        "seconds", "Retry-After of those 429"
    )

    # -- the manifest
    schema_version: Literal["2", "1"] = choice("2", "schemaVersion")
    data_format: Literal["compressedJSON", "compressedJSONLines"] = choice(
        "compressedJSON", "dataFormat"
    )
    partition_type: Literal["default", "Default"] = choice("default", "partitionType")
    partition_values: Literal["same", "several"] = choice("same", "partitionValue of the blobs")
    extra_members: Literal["absent", "present"] = choice(
        "absent", "members that are not documented, in manifest and blobs"
    )
    empty_export: Literal["failed_5000", "zero_blobs", "empty_file", "no_bytes"] = choice(
        "failed_5000",
        "an export without lines: failure, no blob, a gzip file of nothing, a file of 0 bytes",
    )
    sas_lifetime_seconds: float = number(
        3600, 3, means="validity of a SAS from the read that minted it, real time"
    )
    sas_renewal: Literal["fresh", "fixed"] = choice(
        "fresh", "a new SAS with every read, or always the first one"
    )
    reconciliation_root: Literal["like_usage", "plain", "opaque"] = choice(
        "like_usage", "rootDirectory of reconciliation"
    )
    blob_names: Literal["spark", "nested"] = choice(
        "spark", "names as Spark gives them; nested: in folders below the root"
    )
    hostile_manifest: Literal[
        "none",
        "foreign_host",
        "query_in_root",
        "user_info",
        "empty_root",
        "no_sas",
        "dot_dot",
        "absolute_name",
        "backslash",
        "control_character",
        "underscore_segment",
        "dot_segment",
        "empty_name",
        "duplicate",
        "count_too_high",
        "count_too_low",
        "other_tenant",
        "other_tenant_in_root",
        "other_invoice",
        "other_currency",
        "other_fragment",
        "other_month",
    ] = choice("none", "a manifest that must be refused")

    # -- the blobs
    compression: Literal["mixed", "gzip", "members", "plain"] = choice(
        "mixed", "gzip with one member, several, every other blob so, or none under the same names"
    )
    content_encoding: Literal["absent", "gzip"] = choice("absent", "Content-Encoding of the blobs")
    content_md5: Literal["present", "absent"] = choice("present", "Content-MD5 of the blobs")
    byte_order_mark: Literal["absent", "present"] = choice(
        "absent", "UTF-8 BOM at the beginning of each blob"
    )
    last_newline: Literal["present", "absent"] = choice("present", "newline after the last line")
    blank_lines: Literal["none", "some"] = choice("none", "empty lines between the lines")
    numbers: Literal["numbers", "strings"] = choice(
        "numbers", "JSON type of amounts, prices, quantities"
    )
    missing_values: Literal["null", "absent", "empty"] = choice("null", "a field without a value")
    dates: Literal["iso", "iso_naive", "date", "us"] = choice("iso", "text of a date")
    field_case: Literal["documented", "sample"] = choice(
        "documented", "BenefitID, BenefitOrderID or BenefitId, BenefitOrderId"
    )
    unbilled_fields: Literal["documented", "observed"] = choice(
        "documented",
        "observed: no InvoiceNumber, BenefitOrderID, BenefitID, but PCToBCExchangeRateDate",
    )

    # -- the data
    unbilled_data: Literal["moving", "stalled"] = choice(
        "moving", "current month: daily, or nothing new before invoices are out"
    )
    billed_usage: Literal["whole", "partial_at_first"] = choice(
        "whole", "billed usage for `first_hours` from the invoice's date"
    )
    first_hours: float = number(24, 1, means="what `at first` means")
    month_opens_after_hours: float = number(
        0, 6, means="hours for which `current` still means the month before"
    )

    # -- Partner Center
    invoice_spelling: Literal["examples", "table"] = choice(
        "examples", "documentType, invoiceType as in examples or table"
    )
    invoice_periods: Literal["absent", "present"] = choice(
        "absent", "billing period dates in the list"
    )
    invoice_paging: Literal["one_page", "paged"] = choice(
        "one_page", "paged: size and offset are obeyed, `next` is given"
    )
    amended_invoice: Literal["none", "reissued"] = choice(
        "none", "the newest invoice was voided and issued again"
    )
    partner_center_permission: Literal["granted", "denied"] = choice(
        "granted", "denied: 403 in Partner Center's shape"
    )

    def __post_init__(self) -> None:
        for name, values in SWITCHES.items():
            value = getattr(self, name)
            if name not in OPEN and value not in values:
                raise ValueError(f"{name}={value!r}: one of {', '.join(map(str, values))}")
            if (
                name in OPEN
                and not (value is None and None in values)
                and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0)
            ):
                raise ValueError(f"{name}={value!r}: a number, not negative")

    def with_text(self, *settings: str) -> "Behaviour":
        """From the command line.

        >>> Behaviour().with_text("manifest=link", "sas_lifetime_seconds=3").manifest
        'link'
        """
        changes: dict[str, Any] = {}
        for setting in settings:
            name, equals, text = setting.partition("=")
            if not equals or name not in SWITCHES:
                raise ValueError(f"{setting!r}: no such switch; there are {', '.join(SWITCHES)}")
            changes[name] = _number(name, text) if name in OPEN else text
        return replace(self, **changes)


# What shapes a blob's bytes or its properties, and so belongs to the identity of the data.
CONTENT_SWITCHES = (
    "empty_export",
    "reconciliation_root",
    "blob_names",
    "compression",
    "content_encoding",
    "content_md5",
    "byte_order_mark",
    "last_newline",
    "blank_lines",
    "numbers",
    "missing_values",
    "dates",
    "field_case",
    "unbilled_fields",
)


def _number(name: str, text: str) -> float | int | None:
    if text.lower() == "none":
        return None
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        raise ValueError(f"{name}={text!r}: a number") from None


def _switches() -> Iterator[tuple[str, tuple[Any, ...]]]:
    hints = get_type_hints(Behaviour)
    for each in fields(Behaviour):
        hint = hints[each.name]
        yield each.name, get_args(hint) if get_origin(hint) is Literal else each.metadata["values"]


SWITCHES: dict[str, tuple[Any, ...]] = dict(_switches())
OPEN = frozenset(each.name for each in fields(Behaviour) if "values" in each.metadata)
MEANINGS: dict[str, str] = {each.name: each.metadata["means"] for each in fields(Behaviour)}


def matrix() -> Iterator[Behaviour]:
    """The default, and every switch at each of its other values, one at a time."""
    yield Behaviour()
    for name, values in SWITCHES.items():
        for value in values:
            if value != getattr(Behaviour(), name):
                yield replace(Behaviour(), **{name: value})
