"""The proofs of transferred content: gzip, JSON lines, hashes and sizes."""

import gzip
import hashlib
import json
import random
import zlib
from base64 import b64encode
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.blob_facts import BlobFacts
from shared.errors import InvalidDataError
from shared.lines import text_reader
from shared.lines.json_lines import JsonLineCounter
from shared.transfer.proof import ContentProof, TransferProof, verify

ROWS = b"".join(
    b'{"InvoiceNumber": "G016907411", "Line": %d, "Cost": "1.50"}\n' % n for n in range(500)
)


def prove(data: bytes, cuts: tuple[int, ...] = ()) -> BlobFacts:
    content = ContentProof()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        content.feed(data[start:end])
    return content.finish()


def error_code(data: bytes) -> str:
    with pytest.raises(InvalidDataError) as error:
        prove(data)
    assert "G016907411" not in f"{error.value} {error.value.detail}"
    return error.value.code


cuts = st.lists(st.integers(0, 4000), max_size=8).map(tuple)
line = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=8), max_size=4).map(
    lambda value: json.dumps(value, ensure_ascii=False).encode()
)
blank = st.sampled_from([b"", b" ", b"\t\r", b"\r"])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(line | blank, max_size=30),
    st.lists(st.integers(0, 30), max_size=4),
    cuts,
    st.booleans(),
    st.booleans(),
    st.sampled_from([b"\n", b"\r\n"]),
)
def test_content_proof_any_packing_and_piece_size_has_the_same_result(
    lines: list[bytes],
    breaks: list[int],
    cuts: tuple[int, ...],
    has_mark: bool,
    has_last_newline: bool,
    newline: bytes,
) -> None:
    text = (
        (b"\xef\xbb\xbf" if has_mark else b"")
        + newline.join(lines)
        + (newline if has_last_newline and lines else b"")
    )
    edges = [0, *sorted(min(at * 7, len(text)) for at in breaks), len(text)]
    packed = b"".join(gzip.compress(text[start:end]) for start, end in pairwise(edges))
    rows = [line for line in lines if line.strip()]
    for data, encoding in ((packed, "gzip"), (text, "identity")):
        summary = prove(data, cuts)
        assert (summary.rows, summary.encoding, summary.bytes) == (len(rows), encoding, len(data))
        assert summary.byte_order_mark == has_mark
        assert summary.columns == (tuple(json.loads(rows[0])) if rows else ())
        assert summary.sha256 == hashlib.sha256(data).hexdigest()
        assert summary.md5 == b64encode(hashlib.md5(data).digest()).decode()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, len(gzip.compress(ROWS)) - 1), st.booleans())
def test_content_proof_rejects_every_truncation(at: int, second_member: bool) -> None:
    packed = gzip.compress(ROWS, mtime=0)
    data = packed + packed[:at] if second_member else packed[:at]
    if data[:2] == text_reader.GZIP_MAGIC:
        assert error_code(data) in ("proof_gzip", "proof_lines")
    else:  # a single byte of the magic
        assert error_code(data) == "proof_lines"


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(gzip.compress(ROWS, mtime=0)) * 8 - 1))
def test_content_proof_rejects_every_flipped_bit_of_the_data(bit: int) -> None:
    """Bits without data are exempt: time and OS in the header, and padding after the last block."""
    data = bytearray(gzip.compress(ROWS, mtime=0))
    data[bit // 8] ^= 1 << bit % 8
    try:
        summary = prove(bytes(data))
    except InvalidDataError as error:
        assert error.code in ("proof_gzip", "proof_lines")
    else:
        assert summary.rows == 500 and gzip.decompress(bytes(data)) == ROWS


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=40))
def test_content_proof_rejects_random_data_after_the_last_member(garbage: bytes) -> None:
    try:
        gzip.decompress(garbage.rstrip(b"\0"))
        assert not garbage.rstrip(b"\0")
    except (OSError, EOFError, zlib.error):
        pass
    assert error_code(gzip.compress(ROWS) + garbage) == "proof_gzip"


@pytest.mark.parametrize("garbage", [b"\0", b"\0" * 600, b"\x1f", b"\x1f\x8b", b"garbage", ROWS])
def test_content_proof_rejects_data_after_the_last_member(garbage: bytes) -> None:
    assert error_code(gzip.compress(ROWS) + garbage) == "proof_gzip"


@pytest.mark.parametrize(
    "text",
    [
        b"[1]\n",
        b"{\n",
        b'{"a": 1}\n"b"\n',
        b'{"a": 1}\n{"b": 2\n{"c": 3}\n',
        b'{"a": 1}{"b"\n',
        b"<html></html>",
        b"{}\n{}\n\n{}\nx",
        b'{"a": 1}\n{}\n}{\n{}\n',
        b"{not json}\n",
        b'{"a": 1}\n{}\n{\n{}\n',
        b"\xef\xbb\xbf\xef\xbb\xbf{}\n",
        '{"a": "é"}\n'.encode("latin-1"),
        '{"a": 1}\n'.encode("utf-16"),
        b"\0",
        b"{",
        b"{}\n}\n{}\n",
        b"{}\n{}\n{",
    ],
)
def test_content_proof_rejects_text_that_is_not_json_lines(text: bytes) -> None:
    assert error_code(text) == error_code(gzip.compress(text)) == "proof_lines"


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (b"", 0),
        (b"\n", 0),
        (b"{}", 1),
        (b"\xef\xbb\xbf", 0),
        (b"\xef\xbb\xbf{}", 1),
        (b"\n\n {} \n\n{}\n \n", 2),
        (b"{}\r\n{}\r\n", 2),
        (b"{}\n{}\n{}\n", 3),
        (b'{"a": {"b": "}\\n{"}}\n' * 3, 3),
        (b" ", 0),
        (b"{}\n\n{}\n{}", 3),
    ],
)
def test_content_proof_counts_the_rows_of_valid_text(text: bytes, rows: int) -> None:
    assert (
        prove(text).rows
        == prove(gzip.compress(text)).rows
        == prove(text, tuple(range(len(text)))).rows
        == rows
    )


def test_content_proof_any_position_of_the_cut_has_the_same_result() -> None:
    packed = (
        gzip.compress(b'\xef\xbb\xbf{"a": 1}\n') + gzip.compress(b"") + gzip.compress(b"{}\n{}")
    )
    assert (
        {prove(packed, (cut,)) for cut in range(len(packed))}
        == {prove(packed)}
        == {prove(packed, tuple(range(len(packed))))}
    )


def test_content_proof_accepts_gzip_headers_with_names_and_comments() -> None:
    plain = gzip.compress(ROWS, mtime=0)
    named = (
        plain[:3]
        + bytes([0b11100])
        + plain[4:10]
        + b"\x03\x00abc"
        + b"name.json\0"
        + b"comment\0"
        + plain[10:]
    )
    assert prove(named, tuple(range(40))).rows == 500


def test_content_proof_of_an_empty_blob_has_no_rows() -> None:
    assert prove(b"") == BlobFacts(
        0, "1B2M2Y8AsgTpgAmY7PhCfg==", hashlib.sha256(b"").hexdigest(), 0, "identity", ()
    )


def test_content_proof_rejects_a_bomb_before_it_is_decompressed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(text_reader, "MIN_RATIO_CHECK_BYTES", 1024 * 1024)
    fed_bytes = 0

    def feed(self: JsonLineCounter, piece: bytes) -> None:
        nonlocal fed_bytes
        fed_bytes += len(piece)

    monkeypatch.setattr(JsonLineCounter, "feed", feed)
    assert error_code(gzip.compress(b" " * (80 * 1024 * 1024), 9)) == "proof_bomb"
    assert fed_bytes < 80 * 1024 * 1024
    monkeypatch.setattr(text_reader, "MAX_TEXT_BYTES", 1000)
    assert error_code(gzip.compress(random.Random(1).randbytes(2000))) == "proof_bomb"


@pytest.mark.parametrize("width", [1, 290, 310, 2000])
@pytest.mark.parametrize("fault", [b"", b" {} ", b"[]", b"{", b"}", b"{}x", b"x{}"])
def test_json_line_counter_checks_lines_of_any_width(width: int, fault: bytes) -> None:
    lines = [b'{"a": "%s"}' % (b"x" * width)] * 2000
    lines[1500] = fault
    text = b"\n".join(lines)
    counter = JsonLineCounter()
    try:
        for start in range(0, len(text), 50_000):
            counter.feed(text[start : start + 50_000])
        counter.finish()
    except InvalidDataError as error:
        assert fault not in (b"", b" {} ") and error.detail == "Line 1501 is not a JSON object"
    else:
        assert fault in (b"", b" {} ") and counter.rows == 2000 - (fault == b"")


def test_content_proof_rejects_a_first_line_that_is_too_long() -> None:
    assert error_code(b'{"a": "' + b"x" * (17 * 1024 * 1024)) == "proof_lines"


def test_content_proof_accepts_later_lines_of_any_length() -> None:
    assert prove(gzip.compress(b"{}\n{" + b" " * (3 * 1024 * 1024) + b"}")).rows == 2


def test_transfer_proof_returns_size_and_md5_only() -> None:
    transfer = TransferProof()
    transfer.feed(b"any")
    transfer.feed(b"thing")
    assert transfer.finish() == BlobFacts(8, b64encode(hashlib.md5(b"anything").digest()).decode())


def test_verify_raises_if_size_or_md5_differs_from_the_source() -> None:
    summary = prove(ROWS)
    verify(summary, len(ROWS), None)
    verify(summary, len(ROWS), summary.md5)
    for size, md5, code in (
        (len(ROWS) + 1, None, "proof_size"),
        (len(ROWS), "1B2M2Y8AsgTpgAmY7PhCfg==", "proof_md5"),
    ):
        with pytest.raises(InvalidDataError) as error:
            verify(summary, size, md5)
        assert error.value.code == code
