"""Error responses of the HTTP API: `application/problem+json` documents (RFC 9457).

Every problem has a stable `code` and a `remedy`. No problem contains the text of an exception, a
value of a row or a secret.
"""

from typing import Any

import azure.functions as func

from triggers import models
from triggers.responses import DEFAULT_RETRY_AFTER, encode_json


class ProblemError(Exception):
    """A request that ends with a problem document.

    Args:
        status: The HTTP status.
        code: The stable error code.
        title: What happened.
        remedy: What the caller can do.
        fields: The other fields of `ProblemResponse`.
    """

    def __init__(self, status: int, code: str, title: str, remedy: str, **fields: Any) -> None:
        self.status = status
        self.code = code
        self.title = title
        self.remedy = remedy
        self.fields = fields
        super().__init__(code)


def not_found(resource: str) -> ProblemError:
    """Return the problem for a resource that does not exist, for example "run"."""
    return ProblemError(
        404, "not_found", f"The {resource} does not exist.", f"Check the ID of the {resource}."
    )


def problem_response(problem: ProblemError) -> func.HttpResponse:
    """Return the response for a problem. A 503 response contains `Retry-After`."""
    document = models.problem.ProblemResponse(
        type="about:blank",
        title=problem.title,
        status=problem.status,
        code=problem.code,
        remedy=problem.remedy,
        **problem.fields,
    )
    return func.HttpResponse(
        encode_json(document.model_dump(mode="json", exclude_unset=True)),
        status_code=problem.status,
        headers=DEFAULT_RETRY_AFTER if problem.status == 503 else {},
        mimetype="application/problem+json",
        charset="utf-8",
    )
