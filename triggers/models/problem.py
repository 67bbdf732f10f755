"""Problem documents (RFC 9457)."""

from typing import Any

from pydantic import ConfigDict, Field

from triggers.models.base import ResponseModel


class FieldError(ResponseModel):
    """What is wrong with one field of a request."""

    field: str
    message: str


def _allow_additional_fields(schema: dict[str, Any]) -> None:
    """Let the schema accept the fields of later versions, although this version forbids them."""
    del schema["additionalProperties"]


class ProblemResponse(ResponseModel):
    """An error response. Some problems have additional fields."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_allow_additional_fields)

    type: str
    title: str
    status: int
    code: str = Field(description="Stable error code.")
    remedy: str = Field(description="What to do.")
    errors: list[FieldError] = Field(default=[], description="Every invalid field.")
    run_id: str = ""
    backfill_id: str = ""
    outcome: str = ""
    stage: str = ""
    id: str = Field(
        default="", description="ID of the run, backfill or cycle that could not be started."
    )
