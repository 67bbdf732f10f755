"""Bad input to every route, as bytes on a real connection: whatever it is, the answer is a documented refusal, never a 500."""

import http.client
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.world import World
from triggers.openapi import get_document
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
OPEN = "/health"  # anonymous, and says nothing: not even what is wrong with a question


class Told:
    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status, self.body = answer.status, answer.read()
        self.type = answer.getheader("content-type") or ""

    @property
    def problem(self) -> dict[str, Any]:
        assert self.type.startswith("application/problem+json"), (
            self.status,
            self.type,
            self.body[:200],
        )
        problem: dict[str, Any] = json.loads(self.body)
        assert (
            problem["status"] == self.status
            and problem["code"]
            and problem["title"]
            and problem["remedy"]
        )
        return problem

    @property
    def fields(self) -> set[str]:
        return {fault["field"] for fault in self.problem["errors"]}


def send(world: World, method: str, path: str, body: bytes = b"", **headers: str) -> Told:
    """The path as it stands: nothing on our side tidies it up."""
    connection = http.client.HTTPConnection(urlsplit(world.host.base_url).netloc, timeout=30)
    try:
        connection.putrequest(method, f"/api{path}", skip_accept_encoding=True)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        return Told(connection.getresponse())
    finally:
        connection.close()


def filled(path: str, value: str = "") -> str:
    return re.sub(r"\{(\w+)\}", lambda found: value or IDS[found[1]], path)


def test_there_is_something_to_try() -> None:
    assert len(ROUTES) >= 15 and len(POSTS) >= 6 and len(WITH_ID) >= 7


@pytest.mark.parametrize("path", sorted({path for _, path in ROUTES}))
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_wrong_method_finds_nothing(world: World, method: str, path: str) -> None:
    if (method, path) not in ROUTES:
        assert send(world, method, filled(path)).status in (
            404,
            405,
            501,
        )  # the platform's own answer


TAKES_NONE_OR_ITS_OWN = [  # of /runs/{run_id}/blobs the run is looked up first: test_runs.py has one that is there
    route for route in ROUTES if route[1] not in (OPEN, "/runs/{run_id}/blobs")
]


@pytest.mark.parametrize(("method", "path"), TAKES_NONE_OR_ITS_OWN)
def test_an_unknown_parameter_is_refused_by_its_name(world: World, method: str, path: str) -> None:
    told = send(world, method, filled(path) + "?colour=red&%C3%BC=1")
    assert (told.status, told.fields >= {"colour", "ü"}) == (400, True)


def test_health_says_nothing_whatever_is_asked(world: World) -> None:
    told = send(world, "GET", OPEN + "?colour=red&%C3%BC=%00")
    assert (told.status, told.body) == (200, b"")


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 5_000_000])
def test_a_huge_body_is_413(world: World, path: str, size: int) -> None:
    told = send(
        world,
        "POST",
        filled(path),
        b'{"reason": "' + b"x" * (size - 14) + b'"}',
        Content_Type="application/json",
    )
    assert (told.status, told.problem["code"]) == (413, "request_too_large")


BODIES = {
    "cut off": b'{"dataset": "billed_',
    "no object": b'["billed_usage"]',
    "a text": b'"x"',
    "a number": b"1e999",
    "null": b"null",
    "not UTF-8": b'{"dataset": "\xff\xfe"}',
    "UTF-16": '{"dataset": "x"}'.encode("utf-16"),
    "deep": b"[" * 60_000,
    "deep objects": b'{"a":' * 10_000,
    "NaN": b"NaN",
    "a form": b"dataset=billed_usage",
    "nulls": b"\0" * 100,
    "XML": b"<run/>",
    "a long number": b"1" * 5_000,
}


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_body_that_is_no_json_object_is_refused(world: World, path: str, body: bytes) -> None:
    told = send(world, "POST", filled(path), body, Content_Type="application/json")
    assert (told.status, told.problem["code"]) == (400, "request_invalid")


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
def test_a_wrong_type_in_every_field_is_named(world: World, path: str, value: Any) -> None:
    """Of every route at once: at least the fields that are not its own are wrong."""
    told = send(world, "POST", filled(path), json.dumps(dict.fromkeys(FIELDS, value)).encode())
    assert (told.status, told.problem["code"]) == (400, "request_invalid")
    assert "__class__" in told.fields and "ü" in told.fields


TRAVERSALS = [
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
@pytest.mark.parametrize("value", TRAVERSALS, ids=range(len(TRAVERSALS)))
def test_an_id_that_is_none_is_not_found(world: World, method: str, path: str, value: str) -> None:
    told = send(world, method, filled(path, value))
    assert told.status in (400, 404) and b"Traceback" not in told.body
    if told.type.startswith("application/"):
        assert told.problem["code"] == "not_found"


@pytest.fixture(autouse=True)
def nothing_failed(world: World, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert not [record for record in caplog.records if "failed:" in record.getMessage()]
