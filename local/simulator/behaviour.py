"""Switches for behaviour that Microsoft's documentation leaves open or that varies in practice.

The first value of a switch is its default. Switches with a fixed set of values are `Literal`
types; numeric switches declare the values worth testing. `SWITCHES` is derived from the class, so
that a test matrix always contains every switch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints


def choice(default: str, description: str) -> Any:
    """Declare a switch whose values are those of its Literal type."""
    return field(default=default, metadata={"description": description})


def number(default: float | None, *others: float | None, description: str) -> Any:
    """Declare a switch that accepts any number; `others` are the other values to test."""
    return field(
        default=default, metadata={"description": description, "values": (default, *others)}
    )


@dataclass(frozen=True)
class Behaviour:
    """The behaviour of the simulated service. Immutable; change it with `dataclasses.replace`."""

    # -- start of an export
    start_body: Literal["empty", "empty_json", "json"] = choice(
        "empty", "body of the 202 response: no body, no body but a content type, or the operation"
    )
    location: Literal["own", "foreign", "absent"] = choice(
        "own", "host in Location and in links, or no Location header"
    )
    start_retry_after: Literal["absent", "seconds"] = choice(
        "absent", "Retry-After of the 202 response"
    )
    repeated_start: Literal["new_operation", "same_operation"] = choice(
        "new_operation",
        "result of a second request for the same export: a new operation or the existing one",
    )
    unknown_invoice: Literal[
        "bad_request", "not_found", "failed_5000", "failed_other", "zero_blobs"
    ] = choice("bad_request", "response for an invoice that belongs to another partner")
    legacy_invoice: Literal["failed_5000", "bad_request", "zero_blobs"] = choice(
        "failed_5000", "response for a legacy invoice (D...)"
    )
    unknown_currency: Literal["bad_request", "failed_5000", "zero_blobs"] = choice(
        "bad_request", "response for a currency in which the partner is not billed"
    )
    invoice_exportable: Literal["at_once", "failed_5000_at_first", "running_at_first"] = choice(
        "at_once", "response within `first_hours` after the invoice was issued"
    )
    concurrent_operations: int = number(
        0,
        2,
        description="maximum number of running operations; further requests return 429. 0 "
        "means no limit",
    )
    permission: Literal["granted", "denied"] = choice(
        "granted", "denied returns 403 Authorization_RequestDenied"
    )
    authorization: Literal["ignored", "required", "claims_challenge"] = choice(
        "ignored",
        "Authorization header: ignored, 401 if it is missing, or a claims challenge on the first "
        "request",
    )
    aggregated_usage: Literal["not_implemented", "accepted"] = choice(
        "not_implemented", "POST to aggregatedUsage under /beta"
    )
    collections: Literal["not_found", "listed"] = choice(
        "not_found", "GET requests for the list of operations or the list of manifests"
    )

    # -- operations
    ready_after_polls: int = number(
        2,
        0,
        description="number of reads that return a pending status; the first returns notStarted",
    )
    ready_after_seconds: float = number(
        0,
        2,
        description="seconds from the POST until the operation is complete, on the simulator's "
        "clock",
    )
    retry_after: Literal["seconds", "http_date", "junk", "absent"] = choice(
        "seconds", "format of the Retry-After header for a pending operation"
    )
    retry_after_seconds: float = number(1, 0, 200, description="value of Retry-After in seconds")
    status_running: Literal["running", "processing", "notstarted", "absent"] = choice(
        "running", "status of a running operation"
    )
    status_success: Literal["succeeded", "completed", "Succeeded", "absent"] = choice(
        "succeeded", "status of a successful operation"
    )
    odata_type: Literal["present", "absent"] = choice("present", "@odata.type of operations")
    created_time: Literal["naive", "aware"] = choice(
        "naive", "whether createdDateTime of an operation has a time zone"
    )
    manifest: Literal["inline", "link", "string", "link_and_inline"] = choice(
        "inline", "how a successful operation returns its manifest"
    )
    failure_code: Literal["string", "number"] = choice(
        "string", 'type of error.code: "5000" or 5000'
    )
    operation_end: Literal["by_data", "failed_5000", "failed_other", "never"] = choice(
        "by_data", "result of every operation"
    )
    operation_lifetime_seconds: float | None = number(
        None, 1, description="age at which an operation expires, on the simulator's clock"
    )
    operation_lifetime_reads: int | None = number(
        None, 3, description="number of reads after which an operation expires"
    )
    gone: Literal["404", "410"] = choice("404", "status for an unknown or expired operation")
    operation_data: Literal["fixed", "newest"] = choice(
        "fixed",
        "data of a successful operation: the data at the time of the POST, or the newest data",
    )
    throttle_every: int = number(
        0, 3, description="every nth request to Graph returns 429; 0 means none"
    )
    throttle_retry_after: Literal["seconds", "http_date", "junk", "absent"] = choice(
        "seconds", "format of the Retry-After header in these 429 responses"
    )

    # -- manifest
    schema_version: Literal["2", "1"] = choice("2", "schemaVersion")
    data_format: Literal["compressedJSON", "compressedJSONLines"] = choice(
        "compressedJSON", "dataFormat"
    )
    partition_type: Literal["default", "Default"] = choice("default", "partitionType")
    partition_values: Literal["same", "several"] = choice("same", "partitionValue of the blobs")
    extra_members: Literal["absent", "present"] = choice(
        "absent", "undocumented members in the manifest and in its blobs"
    )
    empty_export: Literal["failed_5000", "zero_blobs", "empty_file", "no_bytes"] = choice(
        "failed_5000",
        "result of an export without lines: a failure, no blobs, an empty gzip file, or a file of "
        "0 bytes",
    )
    sas_lifetime_seconds: float = number(
        3600, 3, description="lifetime of a SAS after the read that created it, in real time"
    )
    sas_renewal: Literal["fresh", "fixed"] = choice(
        "fresh", "whether every read returns a new SAS or always the first one"
    )
    reconciliation_root: Literal["like_usage", "plain", "opaque"] = choice(
        "like_usage", "format of rootDirectory for reconciliation"
    )
    blob_names: Literal["spark", "nested"] = choice(
        "spark", "blob names in the format that Spark writes; nested: in folders under the root"
    )
    hostile_manifest: Literal[
        "none",
        "foreign_host",
        "query_in_root",
        "user_info",
        "empty_root",
        "no_sas",
        "null_members",
        "null_name",
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
    ] = choice(
        "none",
        "a manifest that clients must reject; null_members is valid if there are no blobs",
    )

    # -- blobs
    compression: Literal["mixed", "gzip", "members", "plain"] = choice(
        "mixed",
        "gzip that alternates between one and several members, gzip with one member, gzip with "
        "several members, or plain text",
    )
    content_encoding: Literal["absent", "gzip"] = choice("absent", "Content-Encoding of the blobs")
    content_md5: Literal["present", "absent"] = choice("present", "Content-MD5 of the blobs")
    byte_order_mark: Literal["absent", "present"] = choice(
        "absent", "UTF-8 byte order mark at the start of each blob"
    )
    last_newline: Literal["present", "absent"] = choice("present", "newline at the end of the file")
    blank_lines: Literal["none", "some"] = choice("none", "blank lines between the lines")
    numbers: Literal["numbers", "strings"] = choice(
        "numbers", "JSON type of amounts, prices and quantities"
    )
    missing_values: Literal["null", "absent", "empty"] = choice(
        "null", "representation of a field without a value"
    )
    dates: Literal["iso", "iso_naive", "date", "us"] = choice("iso", "format of dates")
    field_case: Literal["documented", "sample"] = choice(
        "documented", "BenefitID and BenefitOrderID, or BenefitId and BenefitOrderId"
    )
    unbilled_fields: Literal["documented", "observed"] = choice(
        "documented",
        "observed: PCToBCExchangeRateDate instead of InvoiceNumber, BenefitOrderID and BenefitID",
    )

    # -- data
    unbilled_data: Literal["moving", "stalled"] = choice(
        "moving",
        "data of the current month: changes daily, or remains unchanged until the "
        "previous month is invoiced",
    )
    billed_usage: Literal["complete", "partial_at_first"] = choice(
        "complete", "data of billed usage within `first_hours` after the invoice was issued"
    )
    first_hours: float = number(
        24, 1, description="number of hours for which the values that end in `at_first` apply"
    )
    month_opens_after_hours: float = number(
        0,
        6,
        description="hours after midnight during which `current` still means the previous month",
    )

    # -- Partner Center
    invoice_spelling: Literal["examples", "table"] = choice(
        "examples", "documentType and invoiceType as in Microsoft's examples or property table"
    )
    invoice_periods: Literal["absent", "present"] = choice(
        "absent", "billing period in the list of invoices"
    )
    invoice_paging: Literal["one_page", "paged", "paged_without_offset", "truncated"] = choice(
        "one_page",
        "paged applies size and offset and returns `next` links, which can lack the offset; "
        "truncated returns only the two newest invoices, whatever the offset",
    )
    invoice_amendments: Literal["full", "short"] = choice(
        "full", "short: a voided invoice contains its amendment without date, total and currency"
    )
    legacy_invoice_id: Literal["digits", "letters"] = choice(
        "digits", "form of the ID of the legacy invoice"
    )
    amended_invoice: Literal["none", "reissued"] = choice(
        "none", "reissued: the newest invoice was voided and issued again"
    )
    partner_center_permission: Literal["granted", "denied"] = choice(
        "granted", "denied returns 403 in Partner Center's format"
    )

    def __post_init__(self) -> None:
        for name, values in SWITCHES.items():
            value = getattr(self, name)
            if name not in NUMERIC_SWITCHES and value not in values:
                raise ValueError(
                    f"{name} must be one of {', '.join(map(str, values))}, not {value!r}"
                )
            if (
                name in NUMERIC_SWITCHES
                and not (value is None and None in values)
                and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0)
            ):
                raise ValueError(f"{name} must be a non-negative number, not {value!r}")

    def with_switches(self, *settings: str) -> "Behaviour":
        """Return a copy with switches set from the command line.

        >>> Behaviour().with_switches("manifest=link", "sas_lifetime_seconds=3").manifest
        'link'
        """
        changes: dict[str, Any] = {}
        for setting in settings:
            name, equals, text = setting.partition("=")
            if not equals or name not in SWITCHES:
                raise ValueError(f"Unknown switch: {setting!r}. Allowed: {', '.join(SWITCHES)}.")
            changes[name] = _number(name, text) if name in NUMERIC_SWITCHES else text
        return replace(self, **changes)


# Switches that change the bytes or properties of blobs. They are part of a data version's identity.
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
        raise ValueError(f"{name} must be a number, not {text!r}") from None


def _switches() -> Iterator[tuple[str, tuple[Any, ...]]]:
    hints = get_type_hints(Behaviour)
    for each in fields(Behaviour):
        hint = hints[each.name]
        yield each.name, get_args(hint) if get_origin(hint) is Literal else each.metadata["values"]


SWITCHES: dict[str, tuple[Any, ...]] = dict(_switches())
NUMERIC_SWITCHES = frozenset(each.name for each in fields(Behaviour) if "values" in each.metadata)
DESCRIPTIONS: dict[str, str] = {
    each.name: each.metadata["description"] for each in fields(Behaviour)
}


def matrix() -> Iterator[Behaviour]:
    """Yield the default, then a behaviour for every other value of every switch."""
    yield Behaviour()
    for name, values in SWITCHES.items():
        for value in values:
            if value != getattr(Behaviour(), name):
                yield replace(Behaviour(), **{name: value})
