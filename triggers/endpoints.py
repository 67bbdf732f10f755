"""The declaration of an endpoint, which registers its function and describes it for OpenAPI.

Every endpoint returns a problem document for an exception.
"""

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ParamSpec

import azure.durable_functions as df
import azure.functions as func
from pydantic import BaseModel

from shared.errors import InfrastructureError, TransientError
from shared.ledger.tables import InvalidContinuationError
from shared.redaction import (
    accept_context,
    format_traceback,
    to_infrastructure_error,
    trace_context,
)
from triggers import models
from triggers.problem import ProblemError, problem_response
from triggers.validation import invalid_continuation

P = ParamSpec("P")
Handler = Callable[P, Awaitable[func.HttpResponse]]

logger = logging.getLogger("partner_billing.http")


def _none() -> None:
    return None


@dataclass(frozen=True)
class Endpoint:
    """One operation of the API. Functions return the models, which are imported on first use.

    Attributes:
        method: The HTTP method.
        route: The path under /api.
        summary: What the operation does.
        responses: For each status, the model of the body; None if the body is not described.
        problems: The statuses of problem documents.
        query: The model of the query parameters.
        body: The model of the request body.
        examples: Examples of the request body.
        is_cacheable: Whether the response has an ETag.
        is_anonymous: Whether a request needs no function key.
    """

    method: str
    route: str
    summary: str
    responses: Callable[[], Mapping[int, type[BaseModel] | None]]
    problems: tuple[int, ...] = (400, 503)
    query: Callable[[], "type[models.base.RequestModel] | None"] = _none
    body: Callable[[], "type[models.base.RequestModel] | None"] = _none
    examples: Mapping[str, Any] = field(default_factory=dict)
    is_cacheable: bool = False
    is_anonymous: bool = False


class ApiBlueprint(df.Blueprint):  # type: ignore[misc]
    """A blueprint that also contains the declarations for the OpenAPI document."""

    def __init__(self) -> None:
        super().__init__()
        self.endpoints: dict[str, Endpoint] = {}
        """The declarations by function name, which is also the operation ID."""

    def serve(self, endpoint: Endpoint) -> Callable[[Handler[P]], Any]:
        """Register the function that serves an endpoint.

        Exceptions of the function become problem documents. A function with a parameter `client`
        obtains the Durable Functions client.
        """

        def register(function: Handler[P]) -> Any:
            self.endpoints[function.__name__] = endpoint
            registered: Any = problem_details(function)
            if "client" in inspect.signature(function).parameters:
                registered = self.durable_client_input(client_name="client")(registered)
            level = func.AuthLevel.ANONYMOUS if endpoint.is_anonymous else None
            return self.route(route=endpoint.route, methods=[endpoint.method], auth_level=level)(
                registered
            )

        return register


def problem_details(function: Handler[P]) -> Handler[P]:
    """Convert every exception of an HTTP trigger into a problem document."""

    @functools.wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> func.HttpResponse:
        try:
            with trace_context(kwargs):
                return await function(*args, **kwargs)
        except ProblemError as problem:
            return problem_response(problem)
        except InvalidContinuationError:
            return problem_response(invalid_continuation())
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
