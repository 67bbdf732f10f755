"""The newest date of the lines, which confirms the month of unbilled data."""

import gzip
import json
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidDataError
from shared.lines.members import MemberReader
from shared.lines.newest_date import NO_DATE, UNREADABLE_DATE, NewestDate
from shared.lines.text_reader import BYTE_ORDER_MARK
from shared.transfer.models import ProofMode
from shared.transfer.proof import create_prover

FORMATS = ("%Y-%m-%dT00:00:00Z", "%Y-%m-%dT00:00:00", "%Y-%m-%d", "%m/%d/%Y", "%m/%d/%Y 12:00 AM")


def get_newest(*lines: bytes) -> str:
    dates = NewestDate("UsageDate")
    for line in lines:
        dates.add(line)
    return dates.value


@given(st.lists(st.tuples(st.dates(), st.sampled_from(FORMATS)), min_size=1))
def test_newest_date_of_every_format_is_the_maximum(days: list[tuple[date, str]]) -> None:
    texts = [form.replace("%Y", f"{day.year:04}") for day, form in days]
    lines = [
        json.dumps({"UsageDate": day.strftime(text), "A": "x"}).encode()
        for (day, _), text in zip(days, texts, strict=True)
    ]
    assert get_newest(*lines) == str(max(day for day, _ in days))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"UsageDate": "2026-12-01T00:00:00.0000000Z"}', "2026-12-01"),
        (b'{"usagedate":"2026-12-01T01:00:00+02:00"}', "2026-11-30"),
        (b'{"USAGEDATE": "2026-11-01", "usagedate": "2026-11-02"}', "2026-11-02"),
        (
            b'{"AdditionalInfo": {"UsageDate": "2027-01-01"}, "UsageDate": "2026-11-01"}',
            "2026-11-01",
        ),
        (b'{"A": "\\"UsageDate\\": \\"2027-01-01\\"", "UsageDate": "2026-11-01"}', "2026-11-01"),
        (b'{"UsageDate": null}', NO_DATE),
        (b'{"UsageDate": ""}', NO_DATE),
        (b'{"A": {}, "UsageDate": null}', NO_DATE),
        (b'{"OrderDate": "2026-11-01"}', NO_DATE),
        (b"  \r", NO_DATE),
        (b'{"UsageDate": "soon"}', UNREADABLE_DATE),
        (b'{"UsageDate": "31/12/2026"}', UNREADABLE_DATE),
        (b'{"UsageDate": "2026-13-01"}', UNREADABLE_DATE),
        (b'{"UsageDate": "0001-01-01T00:00:00+14:00"}', UNREADABLE_DATE),
        (b'{"UsageDate": 1796083200}', UNREADABLE_DATE),
        (b'{"UsageDate": ["2026-12-01"]}', UNREADABLE_DATE),
        (b'{"UsageDate": "2026\\q"}', UNREADABLE_DATE),
        (b"[]", UNREADABLE_DATE),
        (b"{", UNREADABLE_DATE),
    ],
)
def test_newest_date_of_a_line_is_read_or_reported(line: bytes, expected: str) -> None:
    assert get_newest(line) == expected
    later = b'{"UsageDate": "2026-10-01"}'
    assert get_newest(line, later) == ("2026-10-01" if expected == NO_DATE else expected)


@given(
    st.dictionaries(
        st.sampled_from(["Total", "total", "Currency", "A", "B"]),
        st.none()
        | st.integers()
        | st.text(st.sampled_from('a"\\:{}[], '))
        | st.lists(st.integers(), max_size=2)
        | st.dictionaries(st.sampled_from(["Total", "A"]), st.integers(), max_size=1),
    )
)
def test_member_reader_returns_the_same_values_as_json(document: dict[str, Any]) -> None:
    names = ("total", "currency")
    found = MemberReader(*names).read(json.dumps(document).encode())
    assert found is not None
    for name, values in zip(names, found, strict=True):
        expected = [value for key, value in document.items() if key.lower() == name]
        is_scalar = not any(isinstance(value, list | dict) for value in expected)
        assert len(values) == len(expected)
        if is_scalar:
            assert values == [str(value) if isinstance(value, int) else value for value in expected]


LINES = b'{"UsageDate": "2026-11-01", "A": 1}\n\n{"UsageDate": "2026-11-30"}\n{"UsageDate": null}'


@pytest.mark.parametrize("mode", ["content", "transfer"])
@pytest.mark.parametrize("step", [1, 7, 1_000])
@pytest.mark.parametrize("blob", [LINES, gzip.compress(LINES), BYTE_ORDER_MARK + LINES])
def test_prover_with_date_member_finds_the_newest_date(
    blob: bytes, step: int, mode: ProofMode
) -> None:
    prover, plain = create_prover(mode, "UsageDate"), create_prover(mode)
    for start in range(0, len(blob), step):
        prover.feed(blob[start : start + step])
        plain.feed(blob[start : start + step])
    facts, expected = prover.finish(), plain.finish()
    assert (facts.newest_date, expected.newest_date) == ("2026-11-30", "")
    assert replace(facts, newest_date="") == expected


@pytest.mark.parametrize("mode", ["content", "transfer"])
def test_prover_with_date_member_and_truncated_blob_raises(mode: ProofMode) -> None:
    prover = create_prover(mode, "UsageDate")
    prover.feed(gzip.compress(LINES)[:-9])
    with pytest.raises(InvalidDataError, match="proof_gzip"):
        prover.finish()
