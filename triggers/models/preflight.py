"""The report of the preflight."""

from typing import Annotated, Any, Literal

from pydantic import Field

from triggers.models.base import CodeFields, ResponseModel


class CheckResponse(CodeFields):
    """The result of one check."""

    name: str
    status: Literal["ok", "warn", "fail", "unknown", "skipped"]
    seconds: Annotated[float, Field(ge=0)]
    facts: dict[str, Any] = Field(description="Numbers and names; contains no secrets.")


class PreflightResponse(ResponseModel):
    """The results of all checks."""

    status: Literal["ok", "warn", "fail"]
    checks: list[CheckResponse]
