"""The sums of lines: the amounts of lines, and the sums over blobs."""

import gzip
import json
import tracemalloc
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidDataError
from shared.lines.blob_lines import BlobLineReader
from shared.tie_out.line_sums import MAX_CURRENCIES, LineSums, parse_line
from shared.transfer.proof import ContentProof

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LETTERS = [bytes([code]) for code in range(ord("A"), ord("Z") + 1)]


def total_up(*blobs: bytes, step: int = 1 << 16) -> LineSums:
    """Return the sums over all blobs, each read in pieces of `step` bytes."""
    sums = LineSums()
    for blob in blobs:
        reader = BlobLineReader(sums.add)
        for start in range(0, len(blob), step):
            reader.feed(blob[start : start + step])
        reader.finish()
    return sums


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
        ('{"Total":0E-20,"Currency":"USD"}', ("USD", "0")),
        ('{"Total":"0E-30","Currency":"USD"}', ("USD", "0")),
        ('{"Total":-0,"Currency":"USD"}', ("USD", "0")),
        ('{"Total":0.000,"Currency":"USD"}', ("USD", "0")),
        ('{"Inner":{},"Total":0E-99999999999999999999,"Currency":"USD"}', ("USD", "0")),
        ('{"Inner":{},"Total":1e99999999999999999999,"Currency":"USD"}', None),
        ('{"Total":1e-20,"Currency":"USD"}', ("USD", "1e-20")),
        ('{"Total":1e-31,"Currency":"USD"}', None),
        ('{"Total":"1_000","Currency":"USD"}', None),
        ('{"Inner":{},"Total":"\\u0663","Currency":"USD"}', None),  # a digit, but not of ASCII
        ('{"Inner":{},"Total":NaN,"Currency":"USD"}', None),
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
def test_parse_line_returns_currency_and_total(line: str, expected: tuple[str, str] | None) -> None:
    amount = None if expected is None else (expected[0], Decimal(expected[1]))
    assert parse_line(line.encode()) == amount


def test_line_sums_add_without_rounding() -> None:
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
def test_blob_line_reader_is_independent_of_packing_and_piece_size(
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
    sums, expected = total_up(blob, step=step), dict[str, Decimal]()
    for total, currency, _, _ in rows:
        expected[currency] = expected.get(currency, Decimal(0)) + total
    assert (sums.by_currency, sums.rows, sums.rows_without_total) == (expected, len(rows), 0)


def test_blob_line_reader_accepts_blank_lines_and_a_missing_newline() -> None:
    sums = total_up(
        b'{"Total":1,"Currency":"USD"}\n\n \n{"Total":2,"Currency":"USD"}',
        gzip.compress(b'{"Total":3,"Currency":"USD"}'),
        b"",
    )
    assert (sums.by_currency, sums.rows) == ({"USD": Decimal(6)}, 3)


LINE = b'{"Total":1,"Currency":"USD"}\n'


@pytest.mark.parametrize("step", [1, 2, 3, 1 << 16])
@pytest.mark.parametrize(
    ("blob", "rows"),
    [
        (b"", 0),
        (BYTE_ORDER_MARK, 0),
        (gzip.compress(BYTE_ORDER_MARK), 0),
        (gzip.compress(b""), 0),
        (BYTE_ORDER_MARK + b"\r\n\t \n", 0),
        (BYTE_ORDER_MARK + LINE, 1),
        (BYTE_ORDER_MARK + b"\n" + LINE, 1),
        (gzip.compress(BYTE_ORDER_MARK + b"\n" + LINE.strip()), 1),
    ],
)
def test_blob_line_reader_counts_the_same_rows_as_the_proof(
    blob: bytes, rows: int, step: int
) -> None:
    """A blob that contains only a byte order mark is empty, also as a later one."""
    proof = ContentProof()
    for start in range(0, len(blob), step):
        proof.feed(blob[start : start + step])
    sums = total_up(LINE, blob, step=step)
    assert (sums.by_currency["USD"], sums.rows, sums.rows_without_total) == (1 + rows, 1 + rows, 0)
    assert proof.finish().rows == rows


def test_blob_line_reader_uses_bounded_memory() -> None:
    line = json.dumps({"Filler": "x" * 1_000, "Total": 1, "Currency": "USD"}).encode() + b"\n"
    packed = gzip.compress(line * 60_000)  # 60 MB of text
    tracemalloc.start()
    sums = total_up(packed, step=4 * 1024 * 1024)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sums.by_currency == {"USD": Decimal(60_000)} and peak < 12 * 1024 * 1024


def test_blob_line_reader_rejects_a_line_that_is_too_long() -> None:
    with pytest.raises(InvalidDataError, match="proof_lines"):
        total_up(b"x" * (17 * 1024 * 1024))


def test_blob_line_reader_rejects_a_truncated_gzip_member() -> None:
    with pytest.raises(InvalidDataError, match="proof_gzip"):
        total_up(gzip.compress(b'{"Total":1,"Currency":"USD"}')[:-1])


def test_blob_line_reader_counts_a_blob_of_one_byte_as_a_line() -> None:
    assert total_up(b"x").rows_without_total == 1


def test_line_sums_limit_the_number_of_currencies() -> None:
    lines = [b'{"Total":1,"Currency":"A%s%s"}' % (a, b) for a in LETTERS for b in LETTERS]
    sums = total_up(b"\n".join(lines))
    assert (sums.rows, len(sums.by_currency)) == (26 * 26, MAX_CURRENCIES)
    assert sums.rows_without_total == 26 * 26 - MAX_CURRENCIES


def test_line_sums_json_contains_exact_decimal_strings() -> None:
    sums = total_up(
        b'{"Total":1e2,"Currency":"USD"}\n{"Total":0.000000000000000001,"Currency":"USD"}\n'
        b'{"Total":100,"Currency":"JPY"}\n{"Total":"x","Currency":"JPY"}'
    )
    assert json.loads(sums.to_json()) == {
        "rows": 4,
        "rows_without_total": 1,
        "sums": {"JPY": "100", "USD": "100.000000000000000001"},
    }
    assert LineSums.from_json(sums.to_json()) == sums
    failed = LineSums(code="proof_gzip")
    assert LineSums.from_json(failed.to_json()) == failed
