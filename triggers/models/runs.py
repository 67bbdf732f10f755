"""Runs and their blobs."""

from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from shared.exports import (
    AttributeSet,
    BillingMonth,
    Dataset,
    ExportKey,
    InvalidValueError,
    InvoiceScope,
    MonthScope,
)
from shared.landing.documents import get_key_members
from shared.ledger.blobs import BlobRow, BlobTotals
from shared.ledger.ledger import Ledger
from shared.ledger.runs import Run
from shared.redaction import is_secret_free
from triggers.models.base import (
    AttributeSetParameter,
    CodeFields,
    Count,
    CurrencyParameter,
    DatasetParameter,
    InvoiceIdParameter,
    KeyFields,
    Month,
    MonthParameter,
    OptionalOutcome,
    OptionalRunId,
    OptionalText,
    OptionalTimestamp,
    OutcomeParameter,
    RequestModel,
    ResponseModel,
    Restarts,
    RunId,
    Timestamp,
    explain,
    get_now,
)
from triggers.models.lists import Boolean, ListQuery, NextToken

MAX_REASON_CHARACTERS = 200


def _check_reason(value: str) -> str:
    if len(value) > MAX_REASON_CHARACTERS or not value.isprintable():
        raise ValueError(f"must be one line of at most {MAX_REASON_CHARACTERS} characters")
    if not is_secret_free(value):  # histories store the reason in plain text
        raise ValueError("must not contain a signature, a key, a token or a password")
    return value


Reason = Annotated[
    str,
    AfterValidator(_check_reason),
    Field(
        json_schema_extra={"maxLength": MAX_REASON_CHARACTERS},
        description="One line of text that is stored with the run.",
    ),
]


class StartRunRequest(RequestModel):
    """The export to start."""

    dataset: DatasetParameter
    invoice_id: InvoiceIdParameter | None = Field(
        default=None,
        validate_default=True,
        description="Required for billed datasets; not allowed for unbilled datasets.",
    )
    billing_month: str | None = Field(
        default=None,
        validate_default=True,
        description="Required for unbilled datasets: yyyy-mm, `current` or `last`.",
    )
    currency_code: CurrencyParameter | None = Field(
        default=None,
        validate_default=True,
        description="Required for unbilled datasets: an ISO 4217 code.",
    )
    attribute_set: AttributeSetParameter | None = Field(
        default=None, description="`full` (default) contains every documented column."
    )
    force: bool = Field(
        default=False, description="Land a new version even if the data has not changed."
    )
    reason: Reason | None = None

    @field_validator("billing_month")
    @classmethod
    def _resolve_month(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Convert `current` and `last` to a month, so that key, lock and path agree on it."""
        if value is None or (dataset := info.data.get("dataset")) is None or dataset.billed:
            return value
        current = BillingMonth.of(get_now(info))
        if value in ("current", "last"):
            return str(current if value == "current" else current.previous())
        month = BillingMonth.parse(value)
        if month not in (current, current.previous()):
            raise InvalidValueError(
                f"must be {current.previous()} or {current}. "
                "Older months are available only as billed data of their invoice."
            )
        return value

    @field_validator("invoice_id", "billing_month", "currency_code")
    @classmethod
    def _check_scope(cls, value: str | None, info: ValidationInfo) -> str | None:
        dataset: Dataset | None = info.data.get("dataset")
        if dataset is None:  # the dataset itself is invalid
            return value
        scope = ("invoice_id",) if dataset.billed else ("billing_month", "currency_code")
        if value is None and info.field_name in scope:
            raise ValueError(f"is required for {dataset}")
        if value is not None and info.field_name not in scope:
            raise ValueError(f"does not apply to {dataset}, which requires {' and '.join(scope)}")
        return value

    @property
    def key(self) -> ExportKey:
        """The export key of a valid request."""
        dataset = Dataset(self.dataset)
        attribute_set = AttributeSet(self.attribute_set or AttributeSet.FULL)
        if self.invoice_id:
            return ExportKey(dataset, InvoiceScope(self.invoice_id), attribute_set)
        month = BillingMonth.parse(self.billing_month or "")
        return ExportKey(dataset, MonthScope(month, self.currency_code or ""), attribute_set)


class RetryRunRequest(RequestModel):
    """The options of a retry."""

    reason: Reason | None = None


class RunListQuery(ListQuery):
    """The filters of the run list."""

    started: MonthParameter | None = Field(
        default=None, description="Month in which the runs started. Default: the current month."
    )
    dataset: DatasetParameter | None = Field(default=None, description="Filter by dataset.")
    outcome: OutcomeParameter | None = Field(default=None, description="Filter by outcome.")


class BlobListQuery(ListQuery):
    """The filters of the blob list."""

    ok: Boolean | None = Field(
        default=None, description="true: verified blobs only; false: all other blobs."
    )


class BlobCounts(ResponseModel):
    """The blob counts of a run."""

    total: Count
    landed: Count
    failed: Count


class RunResponse(KeyFields, CodeFields):
    """A run."""

    run_id: RunId = Field(description="Also the instance ID of its orchestration.")
    stage: str = Field(
        description="starting, posting, waiting, planning, copying, proving, pausing or ended."
    )
    outcome: OptionalOutcome = Field(description="null until the run ends.")
    detail: OptionalText = Field(description="The rule that the data violated, if any.")
    requested_by: OptionalText
    reason: OptionalText
    cycle_id: OptionalText
    retry_of: OptionalRunId
    force: bool
    started_at: str
    deadline: OptionalTimestamp
    ended_at: OptionalTimestamp
    cancel_requested_at: OptionalTimestamp
    next_check_at: OptionalTimestamp = Field(description="When the run continues.")
    restarts: Restarts
    waited_seconds: Count = Field(
        description="Total time spent waiting for Microsoft and between copy rounds."
    )
    polls: Count = Field(description="Status requests for Microsoft's export operation.")
    posts: Count = Field(description="Export requests.")
    operations: Count
    last_code: OptionalText
    request_ids: list[str] = Field(description="Microsoft's request IDs, the ten newest.")
    blobs: BlobCounts
    bytes: Count
    rows: Annotated[int, Field(ge=0)] | None = Field(
        description="null if the proof mode `transfer` did not count them."
    )
    version: OptionalText
    path: OptionalText = Field(description="Path in the container, under LANDING_PREFIX.")
    live_run_id: OptionalText = Field(
        description="For a superseded run: the run that holds the export key."
    )
    app_version: OptionalText

    @classmethod
    def from_row(cls, run: Run, totals: BlobTotals | None = None, **fields: Any) -> Self:
        """Return the response for a row; `totals` replaces the totals of the row.

        Args:
            run: The row.
            totals: The totals of the blob rows while the run is copying blobs.
            fields: The additional fields of a derived response.
        """
        totals = totals or BlobTotals(run.blobs_landed, run.bytes, run.known_rows)
        values = {name: getattr(run, name) for name in _ROW_FIELDS}
        return cls.model_validate(
            {
                **values,
                **get_key_members(run.export_key),
                **explain(run.code),
                "request_ids": [value for value in run.request_ids.split(",") if value],
                "blobs": {
                    "total": run.blobs_total,
                    "landed": totals.blobs,
                    "failed": run.blobs_failed,
                },
                "bytes": totals.bytes,
                "rows": totals.rows,
                **fields,
            }
        )

    @classmethod
    async def load(cls, ledger: Ledger, run: Run, **fields: Any) -> Self:
        """Return the response for a row, with the current totals of its blobs while it copies."""
        totals = None
        if not run.outcome and run.version:
            totals = await ledger.blobs.totals(run.export_key, run.version)
        return cls.from_row(run, totals, **fields)

    @classmethod
    def starting(cls, run_id: str, key: ExportKey, **fields: Any) -> Self:
        """Return the response for a run that holds the key and has no row yet."""
        return cls.from_row(Run(run_id=run_id, key=str(key)), **fields)


_COMPUTED_FIELDS = {*KeyFields.model_fields, *CodeFields.model_fields, "request_ids", "blobs"}
_ROW_FIELDS = tuple(RunResponse.model_fields.keys() - _COMPUTED_FIELDS)


class StartRunResponse(RunResponse):
    """The run that exports the key."""

    started: bool = Field(description="false: the run was already in progress.")


class CancelRunResponse(RunResponse):
    """The run that was asked to stop."""

    effective_by: Timestamp = Field(
        description="The run does not start any new work after this time."
    )


class RunListResponse(ResponseModel):
    """A page of runs, the newest first."""

    started: Month
    runs: list[RunResponse]
    continuation: NextToken


class BlobResponse(CodeFields):
    """A blob of a version."""

    name: str
    ok: bool = Field(description="true: the blob landed and was verified.")
    run_id: str = Field(description="The run that copied the blob.")
    bytes: Count
    rows: Annotated[int, Field(ge=0)] | None = Field(
        description="null if the proof mode `transfer` did not count them."
    )
    md5: OptionalText = Field(description="MD5, base64.")
    sha256: OptionalText = Field(description="SHA-256, hexadecimal.")
    etag: OptionalText = Field(description="ETag in the landing container.")
    source_etag: OptionalText
    encoding: OptionalText
    copy_method: OptionalText = Field(description="How the blob was copied.")
    tries: Count
    seconds: Annotated[float, Field(ge=0)]

    @classmethod
    def from_row(cls, blob: BlobRow) -> Self:
        """Return the response for a blob row."""
        return cls(
            **explain(blob.code),
            name=blob.name,
            ok=blob.ok,
            run_id=blob.run_id,
            bytes=blob.facts.bytes,
            rows=blob.facts.known_rows if blob.ok else 0,
            md5=blob.facts.md5,
            sha256=blob.facts.sha256,
            etag=blob.destination_etag,
            source_etag=blob.source_etag,
            encoding=blob.facts.encoding,
            copy_method=blob.copy_method,
            tries=blob.tries,
            seconds=blob.seconds,
        )


class BlobListResponse(ResponseModel):
    """A page of the blobs of the version that a run lands."""

    run_id: RunId
    version: OptionalText
    path: OptionalText
    blobs: list[BlobResponse]
    continuation: NextToken
