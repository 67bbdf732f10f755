"""Query strings: any text is a query or a problem that names the parameter; a continuation survives its round trip."""

from datetime import UTC, datetime
from typing import Any

import azure.functions as func
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.exports import Dataset
from triggers.problem import Problem
from triggers.queries import RUNS_QUERY, Query, blobs_query, catalogue_query, no_query, runs_query
from triggers.resources import known_to, resource

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)


def asked(headers: dict[str, str] | None = None, **params: str) -> func.HttpRequest:
    return func.HttpRequest(
        "GET", "https://app.example/api/runs", headers=headers or {}, params=params, body=b""
    )


def test_without_anything() -> None:
    assert runs_query(asked(), NOW) == Query(month="2026-11", word="runs 2026-11   ")
    assert catalogue_query(asked()).month == ""


def test_all_of_it() -> None:
    query = runs_query(
        asked(started="2026-09", dataset="billed_usage", outcome="failed", limit="7", code="key"),
        NOW,
    )
    assert (query.month, query.dataset, query.outcome, query.limit) == (
        "2026-09",
        Dataset.BILLED_USAGE,
        "failed",
        7,
    )
    assert blobs_query(asked(ok="false"), "r", "v").ok is False
    no_query(asked(code="key"))


texts = st.text(max_size=20) | st.sampled_from(["2026-11", "billed_usage", "landed", "true", "5"])


@given(st.dictionaries(st.sampled_from(RUNS_QUERY) | st.text(max_size=10), texts, max_size=6))
def test_any_text_is_a_query_or_a_problem(params: dict[str, str]) -> None:
    try:
        query = runs_query(
            func.HttpRequest("GET", "https://app.example", params=params, body=b""), NOW
        )
    except Problem as problem:
        assert problem.status == 400 and problem.members["errors"]
        assert all(len(fault["message"]) < 200 for fault in problem.members["errors"])
    else:
        assert 1 <= query.limit <= 1000 and set(map(str.lower, params)) <= {
            *RUNS_QUERY,
            "code",
            "clientid",
        }


@given(st.text(max_size=300), st.text(max_size=300))
def test_a_continuation_comes_back(partition: str, row: str) -> None:
    partition, row = (text.encode("utf-8", "ignore").decode() for text in (partition, row))
    query = catalogue_query(asked(dataset="billed_usage"))
    word = query.continuation((partition, row), "billed_usage")
    if word and len(word) <= 4_000:
        back = catalogue_query(asked(dataset="billed_usage", continuation=word))
        assert back.after == (Dataset.BILLED_USAGE, (partition, row))
        with pytest.raises(Problem):
            catalogue_query(asked(dataset="unbilled_usage", continuation=word))


def test_at_the_end_there_is_none() -> None:
    assert Query().continuation(None) is None


def test_the_etag_follows_the_body_alone() -> None:
    first = resource(asked(), {"a": 1, "b": "ü"})
    etag = first.headers["ETag"]
    assert (
        resource(asked(), {"b": "ü", "a": 1}).headers["ETag"]
        == etag
        != resource(asked(), {"a": 2, "b": "ü"}).headers["ETag"]
    )
    same = resource(asked({"If-None-Match": f'W/"x", {etag}'}), {"a": 1, "b": "ü"})
    assert (same.status_code, same.get_body(), same.headers["ETag"]) == (304, b"", etag)
    assert known_to(asked()) == {""}


@pytest.mark.parametrize(
    "params",
    [{"limit": "0"}, {"limit": "1001"}, {"limit": "1_0"}, {"limit": "+5"}, {"limit": " 5"}],
)
def test_limits(params: dict[str, Any]) -> None:
    with pytest.raises(Problem):
        runs_query(asked(**params), NOW)
