"""Base classes and field types that the API models share.

A request model lists the fields that a caller can send and validates them. A response model lists
the fields of a JSON document. The OpenAPI document is generated from both.
"""

from datetime import datetime
from typing import Annotated, Any, TypedDict

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
)

from shared.errors import get_cause, get_remedy
from shared.exports import (
    CURRENCY_CODE,
    INVOICE_ID,
    MONTH,
    AttributeSet,
    Dataset,
    InvalidValueError,
    parse_attribute_set,
    parse_currency,
    parse_dataset,
    parse_invoice_id,
)
from shared.ledger.keys import RUN_ID
from shared.ledger.runs import OUTCOMES


def get_now(info: ValidationInfo) -> datetime:
    """Return the current time, which `triggers.validation` puts into the context."""
    now: datetime = (info.context or {})["now"]
    return now


class RequestModel(BaseModel):
    """Fields that a caller sends, in a body or in a query string.

    Unknown fields are errors. Values are not converted between JSON types.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, defer_build=True, hide_input_in_errors=True
    )


class EmptyRequest(RequestModel):
    """A request without fields."""


class ResponseModel(BaseModel):
    """A JSON document that the API returns. Later versions can add fields."""

    model_config = ConfigDict(
        frozen=True, defer_build=True, hide_input_in_errors=True, validate_by_name=True
    )


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


def _is_none(value: object) -> bool:
    return value is None


def _parse_month(value: str) -> str:
    if not MONTH.fullmatch(value):
        raise InvalidValueError("must be a month such as 2026-11")
    return value


def _parse_outcome(value: str) -> str:
    if value not in OUTCOMES:
        raise InvalidValueError(f"must be one of {', '.join(OUTCOMES)}")
    return value


def _pattern(pattern: str) -> Any:
    return Field(json_schema_extra={"pattern": pattern})


def _enum(values: Any) -> Any:
    return Field(json_schema_extra={"enum": [str(value) for value in values]})


# Tables store a missing value as an empty string; JSON documents contain null.
Nullable = BeforeValidator(_none_if_empty)
# A field that is left out of the document instead of being null.
Omitted = Field(default=None, exclude_if=_is_none, json_schema_extra={"x-omitted": True})

Count = Annotated[int, Field(ge=0)]
Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
RunId = Annotated[str, _pattern(f"^{RUN_ID.pattern}$")]
Month = Annotated[str, _pattern(f"^{MONTH.pattern}$")]
InvoiceId = Annotated[str, _pattern(f"^{INVOICE_ID.pattern}$")]
Currency = Annotated[str, _pattern(f"^{CURRENCY_CODE.pattern}$")]
DatasetName = Annotated[str, _enum(Dataset)]
AttributeSetName = Annotated[str, _enum(AttributeSet)]
Outcome = Annotated[str, _enum(OUTCOMES)]

OptionalText = Annotated[str | None, Nullable]
OptionalTimestamp = Annotated[Timestamp | None, Nullable]
Restarts = Annotated[
    Count,
    Field(description="How often the app started it again because its orchestration failed."),
]
OptionalRunId = Annotated[RunId | None, Nullable]
OptionalMonth = Annotated[Month | None, Nullable]
OptionalOutcome = Annotated[Outcome | None, Nullable]

MonthParameter = Annotated[Month, AfterValidator(_parse_month)]
DatasetParameter = Annotated[DatasetName, AfterValidator(parse_dataset)]
AttributeSetParameter = Annotated[AttributeSetName, AfterValidator(parse_attribute_set)]
OutcomeParameter = Annotated[Outcome, AfterValidator(_parse_outcome)]
InvoiceIdParameter = Annotated[InvoiceId, AfterValidator(parse_invoice_id)]
CurrencyParameter = Annotated[Currency, AfterValidator(parse_currency)]


class KeyFields(ResponseModel):
    """The parts of an export key. The scope is an invoice, or a month and a currency."""

    key: str = Field(
        description="Export key: dataset, scope and attribute set, for example "
        "unbilled_usage/2026-11/USD/full."
    )
    dataset: DatasetName
    attribute_set: AttributeSetName
    invoice_id: InvoiceId | None = Omitted
    billing_month: Month | None = Omitted
    currency_code: Currency | None = Omitted


class CodeFields(ResponseModel):
    """An error code with its explanation."""

    code: OptionalText = Field(description="Error code; docs/errors.md explains each one.")
    cause: OptionalText
    remedy: OptionalText = Field(description="What to do.")


class Explanation(TypedDict):
    """The values of `CodeFields`."""

    code: str
    cause: str
    remedy: str


def explain(code: str) -> Explanation:
    """Return the values of `CodeFields` for an error code; "" stands for no error."""
    return {
        "code": code,
        "cause": get_cause(code) if code else "",
        "remedy": get_remedy(code) if code else "",
    }
