"""Conversion of exceptions into problem documents."""

import json
import logging
from typing import Any

import aiohttp
import azure.functions as func
import pytest
from azure.core.exceptions import HttpResponseError, ServiceRequestError
from pydantic import ValidationError

from shared.errors import (
    InfrastructureError,
    InvalidDataError,
    RequestRefusedError,
    ThrottledError,
    UnavailableError,
)
from shared.ledger.tables import InvalidContinuationError
from tests.unit.triggers.http_requests import make_request
from triggers.endpoints import problem_details
from triggers.problem import ProblemError, not_found, problem_response
from triggers.responses import json_response
from triggers.validation import invalid_request

SECRET = "https://a.table.core.windows.net/locks?sig=TOPSECRET"


async def call_failing_trigger(error: BaseException) -> func.HttpResponse:
    """Return the response of a trigger that raises `error`."""

    @problem_details
    async def trigger(req: func.HttpRequest) -> func.HttpResponse:
        raise error

    return await trigger(make_request())


def read_problem(response: func.HttpResponse) -> dict[str, Any]:
    """Return the document of a problem response after checking its common parts."""
    assert (response.mimetype, response.charset) == ("application/problem+json", "utf-8")
    document: dict[str, Any] = json.loads(response.get_body())
    assert document["status"] == response.status_code
    assert {"type", "title", "code", "remedy"} <= set(document)
    return document


class CustomStorageError(HttpResponseError):
    """An error class that is defined outside the Azure packages."""


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (invalid_request({"dataset": "is required"}), 400, "request_invalid"),
        (InvalidContinuationError(), 400, "request_invalid"),
        (not_found("run"), 404, "not_found"),
        (ProblemError(409, "run_ended", "The run has ended.", "Nothing."), 409, "run_ended"),
        (ProblemError(413, "request_too_large", "T", "R"), 413, "request_too_large"),
        (ValueError(SECRET), 500, "internal"),
        (KeyError("sig=TOPSECRET"), 500, "internal"),
        (AssertionError(SECRET), 500, "internal"),
        (RequestRefusedError("graph_forbidden"), 500, "internal"),
        (InvalidDataError("manifest_rejected", "x"), 500, "internal"),
        (ThrottledError("storage_busy", retry_after_seconds=5), 503, "ledger_unavailable"),
        (UnavailableError("destination_unreachable"), 503, "ledger_unavailable"),
        (InfrastructureError("lock_contended", "Locks"), 503, "ledger_unavailable"),
        (HttpResponseError(message=SECRET), 503, "ledger_unavailable"),
        (CustomStorageError(message=SECRET), 503, "ledger_unavailable"),
        (ServiceRequestError(SECRET), 503, "ledger_unavailable"),
        (aiohttp.ClientConnectionError(SECRET), 503, "ledger_unavailable"),
    ],
)
async def test_problem_details_exception_returns_its_problem(
    error: Exception, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    response = await call_failing_trigger(error)
    document = read_problem(response)
    assert (response.status_code, document["code"]) == (status, code)
    assert "TOPSECRET" not in response.get_body().decode()
    assert "TOPSECRET" not in caplog.text
    assert ("Retry-After" in response.headers) == (status == 503)
    assert bool(caplog.records) == (status in (500, 503))
    assert all(record.exc_info is None for record in caplog.records)
    assert all(record.levelno == logging.ERROR for record in caplog.records)


async def test_problem_details_keyboard_interrupt_is_not_caught() -> None:
    with pytest.raises(KeyboardInterrupt):
        await call_failing_trigger(KeyboardInterrupt())


async def test_problem_details_success_returns_the_response() -> None:
    @problem_details
    async def trigger(req: func.HttpRequest) -> func.HttpResponse:
        """Return a JSON document."""
        return json_response(202, {})

    response = await trigger(make_request())
    assert response.status_code == 202
    assert (trigger.__name__, trigger.__doc__) == ("trigger", "Return a JSON document.")


def test_problem_response_contains_the_additional_fields() -> None:
    problem = ProblemError(409, "run_ended", "T", "R", run_id="r", outcome="landed")
    document = read_problem(problem_response(problem))
    assert (document["run_id"], document["outcome"]) == ("r", "landed")
    assert document["type"] == "about:blank"


def test_invalid_request_lists_the_fields() -> None:
    document = read_problem(problem_response(invalid_request({"a": "b"})))
    assert document["errors"] == [{"field": "a", "message": "b"}]


def test_problem_response_rejects_a_field_that_is_not_documented() -> None:
    with pytest.raises(ValidationError, match="colour"):
        problem_response(ProblemError(409, "run_ended", "T", "R", colour="red"))
