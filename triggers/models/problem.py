"""Problem documents (RFC 9457)."""

from pydantic import Field

from triggers.models.base import ResponseModel


class FieldError(ResponseModel):
    """What is wrong with one field of a request."""

    field: str
    message: str


class ProblemResponse(ResponseModel):
    """An error response. Some problems have additional fields."""

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
