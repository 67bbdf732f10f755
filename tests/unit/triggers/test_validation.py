"""Parsing of request bodies, IDs and principals."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ConfigDict

from shared.exports import ExportKey
from shared.ledger.keys import run_id
from tests.unit.triggers.http_requests import make_json_request, make_request
from triggers.models.base import RequestModel
from triggers.models.runs import MAX_REASON_CHARACTERS, RetryRunRequest, StartRunRequest
from triggers.problem import ProblemError, problem_response
from triggers.validation import (
    MAX_BODY_BYTES,
    MAX_ERRORS,
    get_field_names,
    get_principal,
    parse_body,
    parse_id,
)


class AnyRequest(RequestModel):
    """A model that accepts every object."""

    model_config = ConfigDict(extra="allow")


NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
BILLED = {"dataset": "billed_usage", "invoice_id": "G016907411"}
UNBILLED = {"dataset": "unbilled_usage", "billing_month": "current", "currency_code": "USD"}


FIELDS = get_field_names(StartRunRequest)


def parse(body: dict[str, Any], now: datetime = NOW) -> StartRunRequest:
    return parse_body(make_json_request(body), StartRunRequest, now)


def get_messages(body: dict[str, Any]) -> dict[str, str]:
    """Return the message for each invalid field."""
    with pytest.raises(ProblemError) as error:
        parse(body)
    assert (error.value.status, error.value.code) == (400, "request_invalid")
    return {item["field"]: item["message"] for item in error.value.fields["errors"]}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (BILLED, "billed_usage/G016907411/full"),
        (BILLED | {"invoice_id": "g016907411"}, "billed_usage/G016907411/full"),
        (
            BILLED | {"dataset": "billed_reconciliation", "attribute_set": "basic"},
            "billed_reconciliation/G016907411/basic",
        ),
        (UNBILLED, "unbilled_usage/2026-11/USD/full"),
        (UNBILLED | {"billing_month": "last"}, "unbilled_usage/2026-10/USD/full"),
        (
            UNBILLED | {"billing_month": "2026-10", "currency_code": "eur"},
            "unbilled_usage/2026-10/EUR/full",
        ),
        (
            BILLED
            | {"billing_month": None, "currency_code": None, "attribute_set": None, "reason": None},
            "billed_usage/G016907411/full",
        ),
        (UNBILLED | {"invoice_id": None}, "unbilled_usage/2026-11/USD/full"),
    ],
)
def test_start_run_request_valid_body_returns_the_export_key(
    body: dict[str, Any], text: str
) -> None:
    assert str(parse(body).key) == text


def test_start_run_request_returns_force_and_reason() -> None:
    request = parse(BILLED | {"force": True, "reason": "Rechnung prüfen – 你好"})
    assert request.force
    assert request.reason == "Rechnung prüfen – 你好"


def test_start_run_request_without_options_uses_defaults() -> None:
    request = parse(BILLED)
    assert not request.force
    assert request.reason is None


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"dataset"}),
        ({"dataset": None}, {"dataset"}),
        ({"dataset": "usage"}, {"dataset"}),
        ({"dataset": 5}, {"dataset"}),
        ({"dataset": "billed_usage"}, {"invoice_id"}),
        ({"dataset": "unbilled_usage"}, {"billing_month", "currency_code"}),
        (BILLED | {"billing_month": "current"}, {"billing_month"}),
        (BILLED | {"currency_code": "USD"}, {"currency_code"}),
        (BILLED | {"billing_month": "x", "currency_code": "x"}, {"billing_month", "currency_code"}),
        (UNBILLED | {"invoice_id": "G016907411"}, {"invoice_id"}),
        (UNBILLED | {"billing_month": "2026-09"}, {"billing_month"}),
        (UNBILLED | {"billing_month": "2026-12"}, {"billing_month"}),
        (UNBILLED | {"billing_month": "Current"}, {"billing_month"}),
        (UNBILLED | {"currency_code": "dollars"}, {"currency_code"}),
        (BILLED | {"invoice_id": ""}, {"invoice_id"}),
        (BILLED | {"invoice_id": ["G016907411"]}, {"invoice_id"}),
        (BILLED | {"force": "true"}, {"force"}),
        (BILLED | {"force": 1}, {"force"}),
        (BILLED | {"force": None}, {"force"}),
        (BILLED | {"reason": 5}, {"reason"}),
        (BILLED | {"reason": "two\nlines"}, {"reason"}),
        (BILLED | {"reason": "x" * (MAX_REASON_CHARACTERS + 1)}, {"reason"}),
        (BILLED | {"reason": "\ud800"}, {"reason"}),
        (BILLED | {"reason": "\u202e"}, {"reason"}),
        (BILLED | {"Dataset": "x"}, {"Dataset"}),
        (BILLED | {"x" * 100: 1}, {"x" * 40}),
        (BILLED | {"attribute_set": "all"}, {"attribute_set"}),
        (BILLED | {"dataset": "constructor", "invoice_id": 5}, {"dataset", "invoice_id"}),
    ],
)
def test_start_run_request_invalid_field_is_named(body: dict[str, Any], fields: set[str]) -> None:
    assert set(get_messages(body)) == fields


def test_start_run_request_names_every_invalid_field() -> None:
    messages = get_messages(
        {
            "dataset": "unbilled_usage",
            "billing_month": "2020-01",
            "currency_code": "x",
            "invoice_id": "G016907411",
            "attribute_set": "all",
            "force": "yes",
            "reason": "\x00",
            "colour": "red",
        }
    )
    assert set(messages) == {*FIELDS, "colour"} - {"dataset"}
    assert "must be 2026-10 or 2026-11" in messages["billing_month"]
    assert "does not apply to unbilled_usage" in messages["invoice_id"]
    assert messages["force"] == "must be true or false"
    assert messages["colour"] == f"Unknown field. Allowed: {', '.join(FIELDS)}."


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({}, "dataset", "is required"),
        ({"dataset": 5}, "dataset", "must be a string"),
        ({"dataset": "billed_usage"}, "invoice_id", "is required for billed_usage"),
        (
            BILLED | {"reason": "sig=abcdefghijklmnopqrstuvwxyz0123456789"},
            "reason",
            "must not contain a signature, a key, a token or a password",
        ),
    ],
)
def test_start_run_request_invalid_field_has_a_message(
    body: dict[str, Any], field: str, message: str
) -> None:
    assert get_messages(body)[field] == message


def test_retry_run_request_accepts_only_a_reason() -> None:
    with pytest.raises(ProblemError) as error:
        parse_body(make_json_request({"force": True}), RetryRunRequest, NOW)
    [field_error] = error.value.fields["errors"]
    assert field_error == {"field": "force", "message": "Unknown field. Allowed: reason."}


def test_parse_body_many_invalid_fields_names_the_first_ones() -> None:
    assert len(get_messages({f"field{n}": n for n in range(1_000)})) == MAX_ERRORS


def test_parse_body_long_values_are_not_quoted() -> None:
    messages = get_messages(
        {"dataset": "d" * 1000, "invoice_id": "i" * 1000, "attribute_set": "a" * 1000}
    )
    assert all(len(message) < 200 for message in messages.values())


@pytest.mark.parametrize(
    ("now", "current", "last"),
    [
        ("2026-11-30T23:59:59.999999+00:00", "2026-11", "2026-10"),
        ("2026-12-01T00:00:00+00:00", "2026-12", "2026-11"),
        ("2026-12-01T00:30:00+01:00", "2026-11", "2026-10"),
        ("2026-12-31T23:59:59+00:00", "2026-12", "2026-11"),
        ("2027-01-01T00:00:00+00:00", "2027-01", "2026-12"),
    ],
)
def test_start_run_request_near_midnight_uses_the_month_in_utc(
    now: str, current: str, last: str
) -> None:
    moment = datetime.fromisoformat(now)
    for month, word in ((current, "current"), (last, "last")):
        for value in (month, word):
            request = parse(UNBILLED | {"billing_month": value}, moment)
            assert str(request.key) == f"unbilled_usage/{month}/USD/full"


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from(["\ud800", "current", "G016907411"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)
bodies = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=50), json_values, max_size=8)


@given(bodies)
@example({"\ud800": 1})
@example({"dataset": "\ud800"})
def test_parse_body_any_object_returns_a_request_or_a_problem(body: dict[str, Any]) -> None:
    try:
        request = parse(body)
    except ProblemError as problem:
        response = problem_response(problem)
        assert response.status_code == 400
        assert json.loads(response.get_body())["errors"]
        return
    assert ExportKey.parse(str(request.key)) == request.key


@given(
    st.binary(max_size=60)
    | st.text(max_size=40).map(str.encode)
    | json_values.map(lambda value: json.dumps(value).encode())
)
def test_parse_body_any_bytes_return_an_object_or_a_problem(body: bytes) -> None:
    try:
        parse_body(make_request(body), AnyRequest, NOW)
    except ProblemError as problem:
        assert (problem.status, problem.code) == (400, "request_invalid")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", None),
        (b"  \n", None),
        (b"{}", None),
        (None, None),
        (b"\xef\xbb\xbf{}", None),
        ('{"a": 1}'.encode("utf-16"), None),
        (b"[]", 400),
        (b"null", 400),
        (b"5", 400),
        (b'"x"', 400),
        (b"{", 400),
        (b"{'a': 1}", 400),
        (b"\xff\xfe\xfa", 400),
        (b"[" * 60_000, 400),
        (b'{"a": ' * 10_000, 400),
        (b'{"a": ' + b"9" * 60_000 + b"}", 400),
        (b"{}" + b" " * MAX_BODY_BYTES, 413),
        (b"x" * (MAX_BODY_BYTES + 1), 413),
    ],
)
def test_parse_body_accepts_json_objects_only(body: bytes | None, status: int | None) -> None:
    if status is None:
        parse_body(make_request(body), AnyRequest, NOW)
        return
    with pytest.raises(ProblemError) as error:
        parse_body(make_request(body), AnyRequest, NOW)
    assert error.value.status == status


RUN = run_id(ExportKey.parse("billed_usage/G016907411/full"), NOW, "x7qa")


def parse_run_id(value: str) -> str:
    return parse_id(make_request(route={"run_id": value}), "run_id", "run")


@pytest.mark.parametrize("value", [RUN, "cycle-20261121t060000z"])
def test_parse_id_well_formed_value_is_returned(value: str) -> None:
    assert parse_run_id(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        ".",
        "..",
        "../../etc/passwd",
        "..%2f..",
        "a/b",
        "a\\b",
        "a b",
        "x" * 101,
        RUN.upper(),
        RUN + "/",
        RUN + "\n",
        "\x00",
        RUN + "-abcd",
        RUN.replace("2026", "２０２６"),
        RUN.replace("2026", "٢٠٢٦"),
        "ſ" + RUN,
        "-" + RUN,
        RUN.replace("t06", "t26"),
        RUN.replace("1121", "1132"),
        RUN.replace("2026", "0000"),
        RUN.replace("x7qa", "x7q1"),
        RUN.replace("x7qa", "x7q"),
        "cycle-",
        "x" * 90 + "-20261121t060000z",
        "PartitionKey eq 'x'",
        "'",
        "run_id=" + RUN,
        "20261121t060000z\u200b",
    ],
)
def test_parse_id_malformed_value_is_not_found(value: str) -> None:
    with pytest.raises(ProblemError) as error:
        parse_run_id(value)
    assert error.value.status == 404
    if len(value) >= 3:
        assert value not in problem_response(error.value).get_body().decode()


def test_parse_id_missing_value_is_not_found() -> None:
    with pytest.raises(ProblemError):
        parse_id(make_request(), "run_id", "run")


@given(st.text(max_size=110))
def test_parse_id_any_text_is_returned_or_not_found(value: str) -> None:
    try:
        assert parse_run_id(value) == value
    except ProblemError as problem:
        assert problem.status == 404
    else:
        assert value.isascii()
        assert len(value) <= 100


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({}, "function-key"),
        ({"x-ms-client-principal-name": "ada@contoso.com"}, "ada@contoso.com"),
        ({"X-MS-CLIENT-PRINCIPAL-NAME": " ada "}, "ada"),
        ({"x-ms-client-principal-name": "  "}, "function-key"),
        ({"x-ms-client-principal-name": "x" * 300}, "x" * 100),
        ({"x-ms-client-principal-name": "a\x00b"}, "function-key"),
        ({"x-ms-client-principal-name": "?code=secret"}, "function-key"),
    ],
)
def test_get_principal_returns_the_signed_in_user(headers: dict[str, str], name: str) -> None:
    assert get_principal(make_request(headers=headers)) == name
