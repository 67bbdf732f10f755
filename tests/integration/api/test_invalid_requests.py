"""Invalid requests to every route over a real connection result in documented errors."""

import http.client
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.app_environment import AppEnvironment
from triggers.http_openapi import get_document
from triggers.validation import MAX_BODY_BYTES

IDS = {
    "run_id": "billed-usage-g016907411-full-20261121t060000z-aaaa",
    "cycle_id": "cycle-20261121t060000z",
    "backfill_id": "backfill-20261121t060000z-aaaa",
}
ROUTES = [
    (method.upper(), path)
    for path, methods in get_document()["paths"].items()
    for method in methods
]
POSTS = [path for method, path in ROUTES if method == "POST"]
WITH_ID = [(method, path) for method, path in ROUTES if "{" in path]
HEALTH = "/health"  # accepts every query string


class Response:
    """A response and its problem document, if it has one."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.body = response.status, response.read()
        self.content_type = response.getheader("content-type") or ""

    @property
    def problem(self) -> dict[str, Any]:
        """The problem document."""
        assert self.content_type.startswith("application/problem+json"), self.body[:200]
        problem: dict[str, Any] = json.loads(self.body)
        assert problem["status"] == self.status
        assert all(problem[name] for name in ("code", "title", "remedy"))
        return problem

    @property
    def fields(self) -> set[str]:
        """The names of the invalid fields."""
        return {error["field"] for error in self.problem["errors"]}


def send(
    env: AppEnvironment, method: str, path: str, body: bytes = b"", **headers: str
) -> Response:
    """Send a request without normalizing its path."""
    connection = http.client.HTTPConnection(urlsplit(env.host.base_url).netloc, timeout=30)
    try:
        connection.putrequest(method, f"/api{path}", skip_accept_encoding=True)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        return Response(connection.getresponse())
    finally:
        connection.close()


def fill_path(path: str, value: str = "") -> str:
    """Replace the parameter of a path."""
    return re.sub(r"\{(\w+)\}", lambda match: value or IDS[match[1]], path)


def test_document_lists_the_routes() -> None:
    assert len(ROUTES) >= 15 and len(POSTS) >= 6 and len(WITH_ID) >= 7


@pytest.mark.parametrize("path", sorted({path for _, path in ROUTES}))
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_route_wrong_method_is_rejected_by_the_platform(
    env: AppEnvironment, method: str, path: str
) -> None:
    if (method, path) not in ROUTES:
        assert send(env, method, fill_path(path)).status in (404, 405, 501)


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[1] != HEALTH])
def test_route_unknown_parameter_is_named(env: AppEnvironment, method: str, path: str) -> None:
    response = send(env, method, fill_path(path) + "?colour=red&%C3%BC=1")
    assert (response.status, response.fields >= {"colour", "ü"}) == (400, True)


def test_health_ignores_parameters(env: AppEnvironment) -> None:
    response = send(env, "GET", HEALTH + "?colour=red&%C3%BC=%00")
    assert (response.status, response.body) == (200, b"")


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 5_000_000])
def test_post_large_body_returns_413(env: AppEnvironment, path: str, size: int) -> None:
    response = send(
        env,
        "POST",
        fill_path(path),
        b'{"reason": "' + b"x" * (size - 14) + b'"}',
        Content_Type="application/json",
    )
    assert (response.status, response.problem["code"]) == (413, "request_too_large")


BODIES = {
    "truncated": b'{"dataset": "billed_',
    "array": b'["billed_usage"]',
    "string": b'"x"',
    "number": b"1e999",
    "null": b"null",
    "not UTF-8": b'{"dataset": "\xff\xfe"}',
    "UTF-16": '{"dataset": "x"}'.encode("utf-16"),
    "deep arrays": b"[" * 60_000,
    "deep objects": b'{"a":' * 10_000,
    "NaN": b"NaN",
    "form": b"dataset=billed_usage",
    "nulls": b"\0" * 100,
    "XML": b"<run/>",
    "long number": b"1" * 5_000,
}


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_post_body_other_than_a_json_object_returns_400(
    env: AppEnvironment, path: str, body: bytes
) -> None:
    response = send(env, "POST", fill_path(path), body, Content_Type="application/json")
    assert (response.status, response.problem["code"]) == (400, "request_invalid")


VALUES: list[Any] = [
    None,
    0,
    -1,
    1.5,
    True,
    "",
    "\0",
    "ü\u202e",
    "x" * 1_000,
    [],
    [[]],
    {},
    {"a": [{}]},
    "../..",
    "' or 1 eq 1",
]
FIELDS = (
    "dataset",
    "invoice_id",
    "billing_month",
    "currency_code",
    "attribute_set",
    "force",
    "reason",
    "dry_run",
    "from",
    "to",
    "datasets",
    "\ud800",
    "ü",
    "__class__",
)


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:12])
def test_post_unknown_fields_are_named(env: AppEnvironment, path: str, value: Any) -> None:
    """Send the fields of all routes to each route. Some fields are unknown to each route."""
    response = send(env, "POST", fill_path(path), json.dumps(dict.fromkeys(FIELDS, value)).encode())
    assert (response.status, response.problem["code"]) == (400, "request_invalid")
    assert "__class__" in response.fields and "ü" in response.fields


MALFORMED_IDS = [
    "..",
    "../../host.json",
    "..%2f..%2fhost.json",
    "..%5c..%5cweb.config",
    "%2e%2e%2f",
    "....//",
    "%252e%252e",
    ".",
    "%00",
    "a%00b",
    "%ff%fe",
    "%f0%9f%92%a9",
    "%E2%80%AE",
    "x'%20or%20RowKey%20gt%20'",
    "~",
    "x" * 3_000,
    "%0d%0aSet-Cookie:%20a",
    "{run_id}",
    "*",
    "billed-usage-g016907411-full-99999999t999999z",
    "billed-usage-g016907411-full-20261121t060000z-AAAA",
    "-20261121t060000z",
    "%C4%B0-20261121t060000z",
]


@pytest.mark.parametrize(("method", "path"), WITH_ID)
@pytest.mark.parametrize("value", MALFORMED_IDS, ids=range(len(MALFORMED_IDS)))
def test_route_malformed_id_is_not_found(
    env: AppEnvironment, method: str, path: str, value: str
) -> None:
    response = send(env, method, fill_path(path, value))
    assert response.status in (400, 404) and b"Traceback" not in response.body
    if response.content_type.startswith("application/"):
        assert response.problem["code"] == "not_found"


@pytest.fixture(autouse=True)
def assert_no_failure_logged(
    env: AppEnvironment, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Assert that no request caused an unexpected exception."""
    yield
    assert not [record for record in caplog.records if "failed:" in record.getMessage()]
