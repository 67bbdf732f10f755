"""Errors as `application/problem+json`. The only place that knows status codes.

Every problem has a stable `code` and a `remedy`; nothing in it quotes a library or a row.
"""

import functools
import json
import logging
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any, ParamSpec

import azure.functions as func

from shared.errors import InfrastructureError, TransientError
from shared.redaction import (
    accept_context,
    format_traceback,
    to_infrastructure_error,
    trace_context,
)

P = ParamSpec("P")

MOST_FAULTS = 50

logger = logging.getLogger("partner_billing.http")


class Problem(Exception):
    """An answer that is not what was asked for. `members` go into the body as they are."""

    def __init__(self, status: int, code: str, title: str, remedy: str, **members: Any) -> None:
        self.status, self.code, self.title, self.remedy, self.members = (
            status,
            code,
            title,
            remedy,
            members,
        )
        super().__init__(code)


def invalid(faults: dict[str, str]) -> Problem:
    """Every wrong field at once: name -> what is wrong and what is expected. Of nonsense, the beginning."""
    return Problem(
        400,
        "request_invalid",
        "The request has wrong fields.",
        "Correct the fields named in `errors`.",
        errors=[
            {"field": field, "message": message}
            for field, message in islice(faults.items(), MOST_FAULTS)
        ],
    )


def unknown(what: str) -> Problem:
    return Problem(404, "not_found", f"There is no such {what}.", f"Check the id of the {what}.")


def answer(status: int, body: Any, **headers: str) -> func.HttpResponse:
    return func.HttpResponse(
        _json(body),
        status_code=status,
        headers=headers,
        mimetype="application/json",
        charset="utf-8",
    )


def said(problem: Problem) -> func.HttpResponse:
    body = {
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        "remedy": problem.remedy,
        **problem.members,
    }
    headers = {"Retry-After": "10"} if problem.status == 503 else {}
    return func.HttpResponse(
        _json(body),
        status_code=problem.status,
        headers=headers,
        mimetype="application/problem+json",
        charset="utf-8",
    )


def _json(body: Any) -> bytes:
    """Half of a surrogate pair, which JSON lets a caller send, goes out as it came: escaped."""
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "backslashreplace")


def problem_details(
    function: Callable[P, Awaitable[func.HttpResponse]],
) -> Callable[P, Awaitable[func.HttpResponse]]:
    """The wall around every HTTP trigger: whatever happens inside, the answer is one of ours."""

    @functools.wraps(function)
    async def wall(*args: P.args, **kwargs: P.kwargs) -> func.HttpResponse:
        try:
            with trace_context(kwargs):
                return await function(*args, **kwargs)
        except Problem as problem:
            return said(problem)
        except (
            Exception
        ) as error:  # all of them: this is the one place that must not let anything through
            cause, place = to_infrastructure_error(error), format_traceback(error)
            passing = isinstance(error, TransientError | InfrastructureError) or _is_storage(error)
        logger.error("%s failed: %s at %s", getattr(function, "__name__", "function"), cause, place)
        if passing:
            return said(
                Problem(
                    503,
                    "ledger_unavailable",
                    "The app cannot reach its tables or its task hub just now.",
                    "Ask again in some seconds. If it lasts, look at the firewall and the roles of the storage accounts.",
                )
            )
        return said(
            Problem(500, "internal", "The app failed.", "Look at the app's log around this time.")
        )

    return accept_context(wall)


def _is_storage(error: BaseException) -> bool:
    return any(
        kind.__module__.startswith(("azure.core", "aiohttp")) for kind in type(error).__mro__
    )
