"""Successful responses: JSON, ETags and Retry-After."""

import json
from datetime import UTC, datetime

import pytest

from tests.unit.triggers.http_requests import make_request
from triggers.responses import cacheable_response, get_if_none_match, json_response, retry_after

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)


def test_json_response_contains_json_in_utf8() -> None:
    response = json_response(202, {"ü": "\ud83d"}, Location="/api/runs/x")
    assert response.status_code == 202
    assert response.mimetype == "application/json"
    assert response.headers["Location"] == "/api/runs/x"
    assert json.loads(response.get_body()) == {"ü": "\ud83d"}
    assert "ü".encode() in response.get_body()


def test_cacheable_response_etag_depends_on_the_document_only() -> None:
    etag = cacheable_response(make_request(), {"a": 1, "b": "ü"}).headers["ETag"]
    assert cacheable_response(make_request(), {"b": "ü", "a": 1}).headers["ETag"] == etag
    assert cacheable_response(make_request(), {"a": 2, "b": "ü"}).headers["ETag"] != etag


def test_cacheable_response_known_etag_returns_304() -> None:
    etag = cacheable_response(make_request(), {"a": 1}).headers["ETag"]
    request = make_request(headers={"If-None-Match": f'W/"x", {etag}'})
    response = cacheable_response(request, {"a": 1})
    assert (response.status_code, response.get_body()) == (304, b"")
    assert response.headers["ETag"] == etag


def test_get_if_none_match_without_header_contains_no_etag() -> None:
    assert get_if_none_match(make_request()) == {""}


@pytest.mark.parametrize(
    ("next_check_at", "seconds"),
    [
        ("2026-11-21T06:05:00Z", "300"),
        ("2026-11-21T06:00:30Z", "30"),
        ("2026-11-21T06:00:29.200000Z", "30"),
        ("2026-11-21T06:00:00Z", "1"),
        ("2026-11-21T05:00:00Z", "1"),
        ("", "5"),
    ],
)
def test_retry_after_is_the_time_until_the_next_check(next_check_at: str, seconds: str) -> None:
    assert retry_after(NOW, next_check_at) == {"Retry-After": seconds}
