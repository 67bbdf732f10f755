"""Query parameters of lists, and continuation tokens."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.exports import Dataset
from shared.ledger.tables import InvalidContinuationError
from tests.unit.triggers.http_requests import make_request
from triggers.models.backfills import GapsQuery, get_span
from triggers.models.catalogue import CatalogueQuery
from triggers.models.lists import MAX_TOKEN_CHARACTERS, Position, encode_token
from triggers.models.runs import BlobListQuery, RunListQuery
from triggers.problem import ProblemError
from triggers.validation import check_no_query, get_field_names, parse_query

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
FIELDS = get_field_names(RunListQuery)


def parse_runs_query(**params: str) -> RunListQuery:
    return parse_query(make_request(params=params), RunListQuery, NOW)


def test_parse_query_without_parameters_returns_defaults() -> None:
    assert parse_runs_query() == RunListQuery()
    assert parse_runs_query(limit="", outcome="") == RunListQuery()
    assert RunListQuery().limit == 100


def test_parse_query_with_all_filters_returns_their_values() -> None:
    query = parse_runs_query(
        started="2026-09", dataset="billed_usage", outcome="failed", limit="7", code="key"
    )
    assert query.model_dump() == {
        "started": "2026-09",
        "dataset": Dataset.BILLED_USAGE,
        "outcome": "failed",
        "limit": 7,
        "continuation": None,
    }
    assert parse_query(make_request(params={"ok": "false"}), BlobListQuery, NOW).ok is False


def test_check_no_query_ignores_the_function_key() -> None:
    check_no_query(make_request(params={"code": "key"}), NOW)


def test_check_no_query_rejects_any_other_parameter() -> None:
    with pytest.raises(ProblemError) as error:
        check_no_query(make_request(params={"limit": "5"}), NOW)
    assert error.value.fields["errors"] == [
        {"field": "limit", "message": "Unknown field. None are allowed."}
    ]


def test_parse_query_unknown_parameter_lists_the_allowed_ones() -> None:
    with pytest.raises(ProblemError) as error:
        parse_runs_query(colour="red")
    [field_error] = error.value.fields["errors"]
    assert field_error == {
        "field": "colour",
        "message": f"Unknown field. Allowed: {', '.join(FIELDS)}.",
    }


def test_gaps_query_without_parameters_covers_the_last_year() -> None:
    span = get_span(parse_query(make_request(), GapsQuery, NOW), [Dataset.BILLED_USAGE])
    assert (str(span.first), str(span.last)) == ("2025-11", "2026-11")
    assert span.datasets == (Dataset.BILLED_USAGE,)


values = st.text(max_size=20) | st.sampled_from(["2026-11", "billed_usage", "landed", "true", "5"])


@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=10), values, max_size=6))
def test_parse_query_any_text_returns_a_query_or_a_problem(params: dict[str, str]) -> None:
    try:
        query = parse_query(make_request(params=params), RunListQuery, NOW)
    except ProblemError as problem:
        assert problem.status == 400
        assert problem.fields["errors"]
        assert all(len(error["message"]) < 200 for error in problem.fields["errors"])
    else:
        assert 1 <= query.limit <= 1000
        assert set(map(str.lower, params)) <= {*FIELDS, "code", "clientid"}


@given(st.text(max_size=300), st.text(max_size=300))
def test_position_returns_what_the_token_encodes(partition: str, row: str) -> None:
    partition, row = (text.encode("utf-8", "ignore").decode() for text in (partition, row))
    token = encode_token("catalogue", (partition, row), "billed_usage")
    if token and len(token) <= MAX_TOKEN_CHARACTERS:
        query = parse_query(make_request(params={"continuation": token}), CatalogueQuery, NOW)
        assert query.position("catalogue") == Position(Dataset.BILLED_USAGE, (partition, row))
        with pytest.raises(InvalidContinuationError):
            query.position("runs")


def test_encode_token_without_a_next_page_returns_none() -> None:
    assert encode_token("runs", None) is None


@pytest.mark.parametrize(
    "params",
    [{"limit": "0"}, {"limit": "1001"}, {"limit": "1_0"}, {"limit": "+5"}, {"limit": " 5"}],
)
def test_parse_query_invalid_limit_raises(params: dict[str, Any]) -> None:
    with pytest.raises(ProblemError):
        parse_runs_query(**params)
