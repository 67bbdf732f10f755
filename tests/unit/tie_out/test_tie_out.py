"""The tie-out: amounts of lines, sums over blobs, and the comparison with the listed total."""

import gzip
import json
import tracemalloc
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import CATALOGUE, InvalidDataError
from shared.tie_out import BlobTotalReader, LineTotals, compare, parse_amount, to_row_json

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def total_up(*blobs: bytes, step: int = 1 << 16) -> LineTotals:
    """Return the totals over all blobs, each of which is read in pieces of `step` bytes."""
    totals = LineTotals()
    for blob in blobs:
        reader = BlobTotalReader(totals)
        for start in range(0, len(blob), step):
            reader.feed(blob[start : start + step])
        reader.finish()
    return totals


@pytest.mark.parametrize(
    ("line", "expected"),
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
def test_parse_amount_returns_currency_and_total(
    line: str, expected: tuple[str, str] | None
) -> None:
    amount = None if expected is None else (expected[0], Decimal(expected[1]))
    assert parse_amount(line.encode()) == amount


def test_line_totals_add_without_rounding() -> None:
    lines = (
        b"".join(b'{"Total": 0.1, "Currency": "USD"}\n' for _ in range(1_000))
        + b'{"Total": 1e14, "Currency": "USD"}\n'
    )
    assert total_up(lines).by_currency == {"USD": Decimal("100000000000100.0")}


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
def test_blob_total_reader_is_independent_of_packing_and_piece_size(
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
    totals, expected = total_up(blob, step=step), dict[str, Decimal]()
    for total, currency, _, _ in rows:
        expected[currency] = expected.get(currency, Decimal(0)) + total
    assert (totals.by_currency, totals.rows, totals.unread) == (expected, len(rows), 0)


def test_blob_total_reader_accepts_blank_lines_and_a_missing_newline() -> None:
    totals = total_up(
        b'{"Total":1,"Currency":"USD"}\n\n \n{"Total":2,"Currency":"USD"}',
        gzip.compress(b'{"Total":3,"Currency":"USD"}'),
        b"",
    )
    assert (totals.by_currency, totals.rows) == ({"USD": Decimal(6)}, 3)


def test_blob_total_reader_removes_the_byte_order_mark_of_every_blob() -> None:
    line = b'{"Total":1,"Currency":"USD"}\n'
    totals = total_up(
        BYTE_ORDER_MARK + line,
        BYTE_ORDER_MARK + b"\n" + line,
        gzip.compress(BYTE_ORDER_MARK + b"\n" + line),
        BYTE_ORDER_MARK,
    )
    assert (totals.by_currency, totals.rows, totals.unread) == ({"USD": Decimal(3)}, 3, 0)


def test_blob_total_reader_uses_bounded_memory() -> None:
    line = json.dumps({"Filler": "x" * 1_000, "Total": 1, "Currency": "USD"}).encode() + b"\n"
    packed = gzip.compress(line * 60_000)  # 60 MB of text
    tracemalloc.start()
    totals = total_up(packed, step=4 * 1024 * 1024)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert totals.by_currency == {"USD": Decimal(60_000)} and peak < 12 * 1024 * 1024


def test_blob_total_reader_rejects_a_line_that_is_too_long() -> None:
    with pytest.raises(InvalidDataError, match="proof_lines"):
        total_up(b"x" * (17 * 1024 * 1024))


def test_blob_total_reader_rejects_a_truncated_gzip_member() -> None:
    with pytest.raises(InvalidDataError, match="proof_gzip"):
        total_up(gzip.compress(b'{"Total":1,"Currency":"USD"}')[:-1])


def test_blob_total_reader_counts_a_blob_of_one_byte_as_a_line() -> None:
    assert total_up(b"x").unread == 1


def totals_of(**sums: str) -> LineTotals:
    return LineTotals(rows=3, by_currency={code: Decimal(total) for code, total in sums.items()})


@pytest.mark.parametrize(
    ("totals", "listed", "currency", "status", "difference", "code"),
    [
        (totals_of(USD="10.00"), "10", "USD", "tied_out", None, None),
        (totals_of(USD="10.004"), "10", "USD", "tied_out", None, None),
        (totals_of(USD="10.005"), "10", "USD", "off_by", "0.005", None),
        (totals_of(USD="9.99"), "10.00", "USD", "off_by", "-0.01", None),
        (totals_of(), "10.00", "USD", "off_by", "-10.00", None),
        (totals_of(USD="10", EUR="0"), "10", "USD", "tied_out", None, None),
        (totals_of(USD="10", EUR="1"), "10", "USD", "off_by", "0", None),
        (totals_of(), "0", "USD", "tied_out", None, None),
        (totals_of(USD="10"), None, "USD", "no_total", None, "invoice_total_unknown"),
        (totals_of(USD="10"), "10", "", "no_total", None, "invoice_total_unknown"),
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
def test_compare_returns_the_status(
    totals: LineTotals, listed: str | None, currency: str, status: str, difference: Any, code: Any
) -> None:
    report = compare(totals, Decimal(listed) if listed else None, currency)
    assert (report["status"], report.get("difference"), report.get("code")) == (
        status,
        difference,
        code,
    )
    assert code is None or code in CATALOGUE
    assert json.loads(to_row_json(report))["status"] == status
    assert "sums" not in to_row_json(report)
