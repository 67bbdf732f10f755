"""Bodies and ids as values of the domain: every wrong field at once, and never anything but a Problem."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.exports import ExportKey
from shared.ledger.keys import run_id
from tests.unit.triggers.asked import of_json, request
from triggers.problem import MOST_FAULTS, Problem, said
from triggers.requests import (
    LARGEST_BODY,
    LONGEST_REASON,
    RUN_FIELDS,
    json_object,
    path_id,
    requested_by,
    run_order,
)

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
BILLED = {"dataset": "billed_usage", "invoice_id": "G016907411"}
UNBILLED = {"dataset": "unbilled_usage", "billing_month": "current", "currency_code": "USD"}


def key(body: dict[str, Any], now: datetime = NOW) -> str:
    return str(run_order(body, now).key)


def wrong(body: dict[str, Any], now: datetime = NOW) -> dict[str, str]:
    """Field -> what is wrong with it."""
    with pytest.raises(Problem) as problem:
        run_order(body, now)
    assert (problem.value.status, problem.value.code) == (400, "request_invalid")
    return {fault["field"]: fault["message"] for fault in problem.value.members["errors"]}


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
def test_orders(body: dict[str, Any], text: str) -> None:
    assert key(body) == text


def test_force_and_reason() -> None:
    order = run_order(BILLED | {"force": True, "reason": "Rechnung prüfen – 你好"}, NOW)
    assert order.force and order.reason == "Rechnung prüfen – 你好"
    order = run_order(BILLED, NOW)
    assert not order.force and order.reason == ""


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
        (BILLED | {"reason": "x" * (LONGEST_REASON + 1)}, {"reason"}),
        (BILLED | {"reason": "\ud800"}, {"reason"}),
        (BILLED | {"reason": "\u202e"}, {"reason"}),
        (BILLED | {"Dataset": "x"}, {"Dataset"}),
        (BILLED | {"x" * 100: 1}, {"x" * 40}),
        (BILLED | {"attribute_set": "all"}, {"attribute_set"}),
        (BILLED | {"dataset": "constructor", "invoice_id": 5}, {"dataset", "invoice_id"}),
    ],
)
def test_each_wrong_field_is_named(body: dict[str, Any], fields: set[str]) -> None:
    assert set(wrong(body)) == fields


def test_all_wrong_fields_are_named_at_once() -> None:
    found = wrong(
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
    assert set(found) == {*RUN_FIELDS, "colour"} - {"dataset"}
    assert (
        "must be 2026-10 or 2026-11" in found["billing_month"]
        and "does not go with unbilled_usage" in found["invoice_id"]
    )


def test_of_nonsense_the_beginning_is_named() -> None:
    found = wrong({f"field{n}": n for n in range(10_000)})
    assert len(found) == MOST_FAULTS


def test_no_value_is_quoted_at_length() -> None:
    found = wrong({"dataset": "d" * 1000, "invoice_id": "i" * 1000, "attribute_set": "a" * 1000})
    assert all(len(message) < 200 for message in found.values())


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
def test_month_words_near_midnight_utc(now: str, current: str, last: str) -> None:
    moment = datetime.fromisoformat(now)
    assert (
        key(UNBILLED, moment)
        == f"unbilled_usage/{current}/USD/full"
        == key(UNBILLED | {"billing_month": current}, moment)
    )
    assert key(UNBILLED | {"billing_month": "last"}, moment) == f"unbilled_usage/{last}/USD/full"
    assert key(UNBILLED | {"billing_month": last}, moment) == f"unbilled_usage/{last}/USD/full"


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
bodies = st.dictionaries(
    st.sampled_from(RUN_FIELDS) | st.text(max_size=50), json_values, max_size=8
)


@given(bodies)
@example({"\ud800": 1})
@example({"dataset": "\ud800"})
def test_any_body_is_an_order_or_a_problem_that_can_be_sent(body: dict[str, Any]) -> None:
    try:
        order = run_order(json_object(of_json(body)), NOW)
    except Problem as problem:
        answer = said(problem)
        assert answer.status_code == 400 and json.loads(answer.get_body())["errors"]
        return
    assert ExportKey.parse(str(order.key)) == order.key


@given(
    st.binary(max_size=60)
    | st.text(max_size=40).map(str.encode)
    | json_values.map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_an_object_or_a_problem(body: bytes) -> None:
    try:
        assert isinstance(json_object(request(body)), dict)
    except Problem as problem:
        assert problem.status == 400 and problem.code == "request_invalid"


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
        (b"{}" + b" " * LARGEST_BODY, 413),
        (b"x" * (LARGEST_BODY + 1), 413),
    ],
)
def test_bodies(body: bytes | None, status: int | None) -> None:
    if status is None:
        assert isinstance(json_object(request(body)), dict)
        return
    with pytest.raises(Problem) as problem:
        json_object(request(body))
    assert problem.value.status == status


RUN = run_id(ExportKey.parse("billed_usage/G016907411/full"), NOW, "x7qa")


def test_an_id_that_can_be_one_is_passed_on() -> None:
    assert path_id(request(run_id=RUN), "run_id", "run") == RUN
    assert (
        path_id(request(cycle_id="cycle-20261121t060000z"), "cycle_id", "cycle")
        == "cycle-20261121t060000z"
    )


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
def test_what_cannot_be_an_id_is_unknown(value: str) -> None:
    with pytest.raises(Problem) as problem:
        path_id(request(run_id=value), "run_id", "run")
    answer = said(problem.value)
    assert (
        problem.value.status == 404 and len(value) < 3
    ) or value not in answer.get_body().decode()


def test_no_id_at_all_is_unknown() -> None:
    with pytest.raises(Problem):
        path_id(request(), "run_id", "run")


@given(st.text(max_size=110))
def test_any_id_is_passed_on_or_unknown(value: str) -> None:
    try:
        assert (
            path_id(request(run_id=value), "run_id", "run") == value
            and value.isascii()
            and len(value) <= 100
        )
    except Problem as problem:
        assert problem.status == 404


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
def test_who_asked(headers: dict[str, str], name: str) -> None:
    assert requested_by(request(headers=headers)) == name
