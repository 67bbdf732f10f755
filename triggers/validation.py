"""Parsing of requests: bodies, query strings and IDs.

A request with invalid fields ends with one problem that lists all of them.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

import azure.functions as func
from pydantic import ValidationError

from shared.ledger.keys import started_at
from triggers import models
from triggers.problem import ProblemError, not_found

MAX_BODY_BYTES = 64 * 1024
MAX_ERRORS = 50
MAX_FIELD_NAME_CHARACTERS = 40
MAX_PRINCIPAL_CHARACTERS = 100
PLATFORM_PARAMETERS = frozenset({"code", "clientid"})  # a caller can send a function key in the URL

ModelT = TypeVar("ModelT", bound="models.base.RequestModel")

_MESSAGES = {
    "missing": "is required",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "too_short": "must not be empty",
}


def parse_body(request: func.HttpRequest, model: type[ModelT], now: datetime) -> ModelT:
    """Return the JSON body as a model. An empty body is an empty object.

    Raises:
        ProblemError: 400 or 413.
    """
    body = request.get_body() or b""
    if len(body) > MAX_BODY_BYTES:
        raise ProblemError(
            413,
            "request_too_large",
            "The body is too large.",
            f"Send at most {MAX_BODY_BYTES} bytes.",
        )
    try:
        value = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError):
        raise ProblemError(
            400,
            "request_invalid",
            "The body is not valid JSON.",
            "Send a JSON object, encoded in UTF-8.",
        ) from None
    if not isinstance(value, dict):
        raise ProblemError(
            400, "request_invalid", "The body is not a JSON object.", "Send a JSON object."
        )
    return _validate(value, model, now)


def parse_query(request: func.HttpRequest, model: type[ModelT], now: datetime) -> ModelT:
    """Return the query parameters as a model. A known parameter with an empty value is ignored.

    Raises:
        ProblemError: 400.
    """
    known = set(get_field_names(model))
    values = {
        name: value
        for name, value in request.params.items()
        if name.lower() not in PLATFORM_PARAMETERS and (value or name not in known)
    }
    return _validate(values, model, now)


def check_no_query(request: func.HttpRequest, now: datetime) -> None:
    """Reject query parameters on a route that accepts none.

    Raises:
        ProblemError: 400.
    """
    parse_query(request, models.base.EmptyRequest, now)


def parse_id(request: func.HttpRequest, name: str, resource: str) -> str:
    """Return the ID in the route.

    Raises:
        ProblemError: 404 if the value cannot be the ID of a run, cycle or backfill.
    """
    value = str(request.route_params.get(name, ""))
    if started_at(value) is None:
        raise not_found(resource)
    return value


def get_principal(request: func.HttpRequest) -> str:
    """Return the name of the signed-in principal, or `function-key`."""
    name: str = request.headers.get("x-ms-client-principal-name", "").strip()
    is_valid = name and name.isprintable() and "=" not in name
    return name[:MAX_PRINCIPAL_CHARACTERS] if is_valid else "function-key"


def get_field_names(model: "type[models.base.RequestModel]") -> list[str]:
    """Return the names of the fields as callers send them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _validate(values: Mapping[str, Any], model: type[ModelT], now: datetime) -> ModelT:
    # JSON allows lone surrogates in field names; pydantic does not.
    encodable = {name.encode("utf-8", "replace").decode(): values[name] for name in values}
    try:
        return model.model_validate(encodable, context={"now": now})
    except ValidationError as error:
        raise invalid_request(_get_messages(error, get_field_names(model))) from None


def invalid_request(messages: Mapping[str, str]) -> ProblemError:
    """Return the problem for a request with invalid fields: field name -> message."""
    return ProblemError(
        400,
        "request_invalid",
        "The request has invalid fields.",
        "Correct the fields listed in `errors`.",
        errors=[{"field": field, "message": message} for field, message in messages.items()],
    )


def invalid_continuation() -> ProblemError:
    """Return the problem for a valid token of another list, or one that the tables reject."""
    return invalid_request({"continuation": models.lists.INVALID_CONTINUATION})


def _get_messages(error: ValidationError, known: Iterable[str]) -> dict[str, str]:
    """Return the message for each invalid field, for at most `MAX_ERRORS` fields."""
    allowed = ", ".join(known)
    unknown_field = (
        f"Unknown field. Allowed: {allowed}." if allowed else "Unknown field. None are allowed."
    )
    messages: dict[str, str] = {}
    details = error.errors(include_url=False, include_input=False)
    for detail in islice(details, MAX_ERRORS):
        field = str(detail["loc"][0])[:MAX_FIELD_NAME_CHARACTERS]
        if detail["type"] == "extra_forbidden":
            message = unknown_field
        elif detail["type"] == "value_error":
            message = str(detail["ctx"]["error"])
        else:
            message = _MESSAGES.get(detail["type"], detail["msg"])
        messages.setdefault(field, message)
    return messages
