"""The wall around HTTP triggers: whatever happens inside, one of our answers comes out."""

import json
import logging
from typing import Any

import aiohttp
import azure.functions as func
import pytest
from azure.core.exceptions import HttpResponseError, ServiceRequestError

from shared.errors import (
    InfrastructureError,
    InvalidDataError,
    RequestRefusedError,
    ThrottledError,
    UnavailableError,
)
from tests.unit.triggers.asked import request
from triggers.problem import Problem, answer, invalid, problem_details, said, unknown

SECRET = "https://a.table.core.windows.net/locks?sig=TOPSECRET"


async def outcome_of(error: BaseException) -> func.HttpResponse:
    @problem_details
    async def trigger(req: func.HttpRequest) -> func.HttpResponse:
        raise error

    return await trigger(request())


def body(response: func.HttpResponse) -> dict[str, Any]:
    assert response.mimetype == "application/problem+json" and response.charset == "utf-8"
    content: dict[str, Any] = json.loads(response.get_body())
    assert content["status"] == response.status_code and {"type", "title", "code", "remedy"} <= set(
        content
    )
    return content


class PlainStorageError(HttpResponseError):
    pass


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (invalid({"dataset": "is missing"}), 400, "request_invalid"),
        (unknown("run"), 404, "not_found"),
        (Problem(409, "run_ended", "The run has ended.", "Nothing."), 409, "run_ended"),
        (Problem(413, "request_too_large", "T", "R"), 413, "request_too_large"),
        (ValueError(SECRET), 500, "internal"),
        (KeyError("sig=TOPSECRET"), 500, "internal"),
        (AssertionError(SECRET), 500, "internal"),
        (RequestRefusedError("graph_forbidden"), 500, "internal"),
        (InvalidDataError("manifest_rejected", "x"), 500, "internal"),
        (ThrottledError("storage_busy", retry_after_seconds=5), 503, "ledger_unavailable"),
        (UnavailableError("destination_unreachable"), 503, "ledger_unavailable"),
        (InfrastructureError("lock_contended", "Locks"), 503, "ledger_unavailable"),
        (HttpResponseError(message=SECRET), 503, "ledger_unavailable"),
        (PlainStorageError(message=SECRET), 503, "ledger_unavailable"),
        (ServiceRequestError(SECRET), 503, "ledger_unavailable"),
        (aiohttp.ClientConnectionError(SECRET), 503, "ledger_unavailable"),
    ],
)
async def test_every_error_has_its_answer(
    error: Exception, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    response = await outcome_of(error)
    content = body(response)
    assert (response.status_code, content["code"]) == (status, code)
    assert "TOPSECRET" not in response.get_body().decode() and "TOPSECRET" not in caplog.text
    assert ("Retry-After" in response.headers) == (status == 503)
    assert bool(caplog.records) == (status in (500, 503))
    assert all(
        record.exc_info is None and record.levelno == logging.ERROR for record in caplog.records
    )


async def test_the_end_of_a_task_is_no_answer() -> None:
    with pytest.raises(KeyboardInterrupt):
        await outcome_of(KeyboardInterrupt())


async def test_what_is_answered_passes() -> None:
    @problem_details
    async def trigger(req: func.HttpRequest) -> func.HttpResponse:
        """Words."""
        return answer(202, {"ü": "\ud83d"}, Location="/api/runs/x")

    response = await trigger(request())
    assert (response.status_code, response.mimetype, response.headers["Location"]) == (
        202,
        "application/json",
        "/api/runs/x",
    )
    assert (
        json.loads(response.get_body()) == {"ü": "\ud83d"} and "ü".encode() in response.get_body()
    )
    assert trigger.__name__ == "trigger" and trigger.__doc__ == "Words."


def test_members_go_into_the_body() -> None:
    content = body(said(Problem(409, "run_ended", "T", "R", run_id="r", outcome="landed")))
    assert (content["run_id"], content["outcome"], content["type"]) == (
        "r",
        "landed",
        "about:blank",
    )
    assert body(said(invalid({"a": "b"})))["errors"] == [{"field": "a", "message": "b"}]
