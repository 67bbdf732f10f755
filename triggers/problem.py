"""Error responses of the HTTP API: `application/problem+json` documents (RFC 9457).

Every problem has a stable `code` and a `remedy`. No problem contains the text of an exception, a
value of a row or a secret.
"""

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec

import azure.functions as func

from shared.errors import InfrastructureError, TransientError
from shared.ledger.tables import InvalidContinuationError
from shared.redaction import (
    accept_context,
    format_traceback,
    to_infrastructure_error,
    trace_context,
)
from triggers.responses import DEFAULT_RETRY_AFTER, encode_json

P = ParamSpec("P")

INVALID_CONTINUATION = (
    "is not a valid continuation token of this list. Omit it to request the first page."
)

logger = logging.getLogger("partner_billing.http")


class ProblemError(Exception):
    """A request that ends with a problem document.

    Args:
        status: The HTTP status.
        code: The stable error code.
        title: What happened.
        remedy: What the caller can do.
        fields: Additional fields of the document.
    """

    def __init__(self, status: int, code: str, title: str, remedy: str, **fields: Any) -> None:
        self.status = status
        self.code = code
        self.title = title
        self.remedy = remedy
        self.fields = fields
        super().__init__(code)


def invalid_request(messages: dict[str, str]) -> ProblemError:
    """Return the problem for a request with invalid fields: field name -> message."""
    return ProblemError(
        400,
        "request_invalid",
        "The request has invalid fields.",
        "Correct the fields listed in `errors`.",
        errors=[{"field": field, "message": message} for field, message in messages.items()],
    )


def not_found(resource: str) -> ProblemError:
    """Return the problem for a resource that does not exist, for example "run"."""
    return ProblemError(
        404, "not_found", f"The {resource} does not exist.", f"Check the ID of the {resource}."
    )


def problem_response(problem: ProblemError) -> func.HttpResponse:
    """Return the response for a problem. A 503 response contains `Retry-After`."""
    document = {
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        "remedy": problem.remedy,
        **problem.fields,
    }
    return func.HttpResponse(
        encode_json(document),
        status_code=problem.status,
        headers=DEFAULT_RETRY_AFTER if problem.status == 503 else {},
        mimetype="application/problem+json",
        charset="utf-8",
    )


def problem_details(
    function: Callable[P, Awaitable[func.HttpResponse]],
) -> Callable[P, Awaitable[func.HttpResponse]]:
    """Convert every exception of an HTTP trigger into a problem document."""

    @functools.wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> func.HttpResponse:
        try:
            with trace_context(kwargs):
                return await function(*args, **kwargs)
        except ProblemError as problem:
            return problem_response(problem)
        except InvalidContinuationError:
            return problem_response(invalid_request({"continuation": INVALID_CONTINUATION}))
        except Exception as error:  # the response must not depend on an unexpected exception
            sanitized, place = to_infrastructure_error(error), format_traceback(error)
            is_transient = isinstance(error, TransientError | InfrastructureError)
            is_transient = is_transient or _is_storage_error(error)
        name = getattr(function, "__name__", "function")
        logger.error("%s failed: %s at %s", name, sanitized, place)
        return problem_response(_UNAVAILABLE if is_transient else _INTERNAL)

    return accept_context(wrapper)


_UNAVAILABLE = ProblemError(
    503,
    "ledger_unavailable",
    "The app cannot reach its tables or its task hub.",
    "Retry after some seconds. If the problem persists, check the firewall and the role "
    "assignments of the storage accounts.",
)
_INTERNAL = ProblemError(
    500, "internal", "The app failed.", "Check the application log for the time of the request."
)


def _is_storage_error(error: BaseException) -> bool:
    return any(
        kind.__module__.startswith(("azure.core", "aiohttp")) for kind in type(error).__mro__
    )
