"""Lines of every kind, summed exactly and in little memory; and what a sum means beside a listed total."""

import gzip
import json
import tracemalloc
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import CATALOGUE
from shared.tie_out import BlobTotalReader, LineTotals, compare, parse_amount, short


def summed(*blobs: bytes, step: int = 1 << 16) -> LineTotals:
    sums = LineTotals()
    for blob in blobs:
        adding = BlobTotalReader(sums)
        for start in range(0, len(blob), step):
            adding.feed(blob[start : start + step])
        adding.finish()
    return sums


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"Total": 12.30, "Currency": "USD"}', ("USD", "12.30")),
        ('{"Total":"12.30","Currency":"USD"}', ("USD", "12.30")),
        ('{"currency":"eur","TOTAL":-0.1}', ("EUR", "-0.1")),
        ('{"Total":1e2,"Currency":"USD"}', ("USD", "1E+2")),
        (
            '{"Total":12,"Currency":"USD","SubTotal":5,"TaxTotal":6,"PricingCurrency":"GBP"}',
            ("USD", "12"),
        ),
        ('{"Note":"\\"Total\\": 99, ","Total":1,"Currency":"USD"}', ("USD", "1")),
        ('{"Note":"ends with \\\\","Total":1,"Currency":"USD"}', ("USD", "1")),
        ('{"Note":"{","Total":1,"Currency":"USD"}', ("USD", "1")),
        ('{"Inner":{"Total":99,"Currency":"GBP"},"Total":1,"Currency":"USD"}', ("USD", "1")),
        ('{"Inner":[{"Total":99}],"Total":"1","Currency":"USD"}', ("USD", "1")),
        ('{"ProductQualifiers":["Total"],"Total":1,"Currency":"USD"}', ("USD", "1")),
        ('{"Total": " 1.5 ", "Currency": " usd "}', ("USD", "1.5")),
        ('{"T\\u006ftal":1,"Currency":"USD"}', ("USD", "1")),
        ('  {"Total":1,"Currency":"USD"}\r', ("USD", "1")),
        ('{"Total":null,"Currency":"USD"}', None),
        ('{"Currency":"USD"}', None),
        ('{"Total":1}', None),
        ('{"Total":true,"Currency":"USD"}', None),
        ('{"Total":"1,000.00","Currency":"USD"}', None),
        ('{"Total":"","Currency":"USD"}', None),
        ('{"Total":NaN,"Currency":"USD"}', None),
        ('{"Total":1e999,"Currency":"USD"}', None),
        ('{"Total":1,"Currency":7}', None),
        ('{"Total":1,"Currency":"US Dollar"}', None),
        ('{"Total":1,"total":2,"Currency":"USD"}', None),
        ("[]", None),
        ('{"Total":1', None),
        ("nonsense", None),
    ],
)
def test_what_a_line_adds(line: str, said: tuple[str, str] | None) -> None:
    assert parse_amount(line.encode()) == (None if said is None else (said[0], Decimal(said[1])))


def test_money_stays_exact_where_floats_would_not() -> None:
    lines = (
        b"".join(b'{"Total": 0.1, "Currency": "USD"}\n' for _ in range(1_000))
        + b'{"Total": 1e14, "Currency": "USD"}\n'
    )
    assert summed(lines).by_currency == {"USD": Decimal("100000000000100.0")}


ROWS = st.lists(
    st.tuples(
        st.decimals(-(10**9), 10**9, places=4),
        st.sampled_from(["USD", "EUR"]),
        st.booleans(),
        st.booleans(),
    ),
    max_size=30,
)


@given(ROWS, st.integers(1, 500), st.sampled_from(["plain", "gzip", "members", "bom"]))
def test_however_it_is_packed_and_cut(
    rows: list[tuple[Decimal, str, bool, bool]], step: int, packing: str
) -> None:
    lines = []
    for total, currency, as_text, nested in rows:
        number = f'"{total}"' if as_text else str(total)
        inner = ', "In": {}' if nested else ""
        name = r'"Name":"Bücher \"Total\": 1"'
        lines.append(f'{{{name}{inner},"Total":{number},"Currency":"{currency}"}}\n'.encode())
    text = b"".join(lines)
    blob = {
        "plain": text,
        "gzip": gzip.compress(text),
        "bom": b"\xef\xbb\xbf" + text,
        "members": b"".join(gzip.compress(line) for line in lines),
    }[packing]
    sums, expected = summed(blob, step=step), dict[str, Decimal]()
    for total, currency, _, _ in rows:
        expected[currency] = expected.get(currency, Decimal(0)) + total
    assert (sums.by_currency, sums.rows, sums.unread) == (expected, len(rows), 0)


def test_blank_lines_a_missing_newline_and_several_blobs() -> None:
    sums = summed(
        b'{"Total":1,"Currency":"USD"}\n\n \n{"Total":2,"Currency":"USD"}',
        gzip.compress(b'{"Total":3,"Currency":"USD"}'),
        b"",
    )
    assert (sums.by_currency, sums.rows) == ({"USD": Decimal(6)}, 3)


def test_memory_is_bounded_whatever_the_size() -> None:
    line = json.dumps({"Filler": "x" * 1_000, "Total": 1, "Currency": "USD"}).encode() + b"\n"
    packed = gzip.compress(line * 60_000)  # 60 MB of text
    tracemalloc.start()
    sums = summed(packed, step=4 * 1024 * 1024)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sums.by_currency == {"USD": Decimal(60_000)} and peak < 12 * 1024 * 1024


def test_a_line_without_end_is_given_up() -> None:
    with pytest.raises(ValueError, match="longer"):
        summed(b"x" * (17 * 1024 * 1024))


def test_a_blob_of_one_letter_is_a_line() -> None:
    assert summed(b"x").unread == 1


def of(**sums: str) -> LineTotals:
    return LineTotals(rows=3, by_currency={code: Decimal(total) for code, total in sums.items()})


@pytest.mark.parametrize(
    ("sums", "listed", "currency", "status", "difference", "code"),
    [
        (of(USD="10.00"), "10", "USD", "tied_out", None, None),
        (of(USD="10.004"), "10", "USD", "tied_out", None, None),
        (of(USD="10.005"), "10", "USD", "off_by", "0.005", None),
        (of(USD="9.99"), "10.00", "USD", "off_by", "-0.01", None),
        (of(), "10.00", "USD", "off_by", "-10.00", None),
        (of(USD="10", EUR="0"), "10", "USD", "tied_out", None, None),
        (of(USD="10", EUR="1"), "10", "USD", "off_by", "0", None),
        (of(), "0", "USD", "tied_out", None, None),
        (of(USD="10"), None, "USD", "no_total", None, "invoice_total_unknown"),
        (of(USD="10"), "10", "", "no_total", None, "invoice_total_unknown"),
        (
            LineTotals(2, 1, {"USD": Decimal(10)}),
            "10",
            "USD",
            "no_total",
            None,
            "rows_without_total",
        ),
    ],
)
def test_what_a_sum_means(
    sums: LineTotals, listed: str | None, currency: str, status: str, difference: Any, code: Any
) -> None:
    said = compare(sums, Decimal(listed) if listed else None, currency)
    assert (said["status"], said.get("difference"), said.get("code")) == (status, difference, code)
    assert code is None or code in CATALOGUE
    assert json.loads(short(said))["status"] == status and "sums" not in short(said)
