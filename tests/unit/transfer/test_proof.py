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

from shared.errors import InvalidDataError
from shared.lines.json_lines import JsonLineCounter
from shared.transfer import proof
from shared.transfer.proof import ContentProof, ContentSummary, TransferProof, verify

ROWS = b"".join(
    b'{"InvoiceNumber": "G016907411", "Line": %d, "Cost": "1.50"}\n' % n for n in range(500)
)


def prove(data: bytes, cuts: tuple[int, ...] = ()) -> ContentSummary:
    content = ContentProof()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        content.feed(data[start:end])
    return content.finish()


def refusal(data: bytes) -> str:
    with pytest.raises(InvalidDataError) as refused:
        prove(data)
    assert "G016907411" not in f"{refused.value} {refused.value.detail}"
    return refused.value.code


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
def test_rows_and_columns_whatever_the_members_marks_and_cuts(
    lines: list[bytes],
    breaks: list[int],
    cuts: tuple[int, ...],
    mark: bool,
    last_newline: bool,
    newline: bytes,
) -> None:
    text = (
        (b"\xef\xbb\xbf" if mark else b"")
        + newline.join(lines)
        + (newline if last_newline and lines else b"")
    )
    edges = [0, *sorted(min(at * 7, len(text)) for at in breaks), len(text)]
    packed = b"".join(gzip.compress(text[start:end]) for start, end in pairwise(edges))
    rows = [one for one in lines if one.strip()]
    for data, encoding in ((packed, "gzip"), (text, "identity")):
        proven = prove(data, cuts)
        assert (proven.rows, proven.encoding, proven.bytes) == (len(rows), encoding, len(data))
        assert proven.columns == (tuple(json.loads(rows[0])) if rows else ())
        assert proven.sha256 == hashlib.sha256(data).hexdigest()
        assert proven.md5 == b64encode(hashlib.md5(data).digest()).decode()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, len(gzip.compress(ROWS)) - 1), st.booleans())
def test_no_truncation_passes(at: int, second_member: bool) -> None:
    packed = gzip.compress(ROWS, mtime=0)
    data = packed + packed[:at] if second_member else packed[:at]
    if data[:2] == proof.MAGIC:
        assert refusal(data) in ("proof_gzip", "proof_lines")
    else:  # a single byte of the magic
        assert refusal(data) == "proof_lines"


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(gzip.compress(ROWS, mtime=0)) * 8 - 1))
def test_no_flipped_bit_of_data_or_trailer_passes(bit: int) -> None:
    """Some bits carry no data: time and OS of the header, the fill behind the last block. Then the content is whole."""
    data = bytearray(gzip.compress(ROWS, mtime=0))
    data[bit // 8] ^= 1 << bit % 8
    try:
        proven = prove(bytes(data))
    except InvalidDataError as refused:
        assert refused.code in ("proof_gzip", "proof_lines")
    else:
        assert proven.rows == 500 and gzip.decompress(bytes(data)) == ROWS


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=40))
def test_nothing_may_follow_the_last_member(garbage: bytes) -> None:
    try:
        gzip.decompress(garbage.rstrip(b"\0"))
        assert not garbage.rstrip(b"\0")
    except (OSError, EOFError, zlib.error):
        pass
    assert refusal(gzip.compress(ROWS) + garbage) == "proof_gzip"


@pytest.mark.parametrize("garbage", [b"\0", b"\0" * 600, b"\x1f", b"\x1f\x8b", b"garbage", ROWS])
def test_garbage_is_named(garbage: bytes) -> None:
    assert refusal(gzip.compress(ROWS) + garbage) == "proof_gzip"


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
def test_what_is_not_json_lines_is_named(text: bytes) -> None:
    assert refusal(text) == refusal(gzip.compress(text)) == "proof_lines"


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
def test_what_is_accepted(text: bytes, rows: int) -> None:
    assert (
        prove(text).rows
        == prove(gzip.compress(text)).rows
        == prove(text, tuple(range(len(text)))).rows
        == rows
    )


def test_every_cut_of_a_small_file_gives_the_same() -> None:
    packed = (
        gzip.compress(b'\xef\xbb\xbf{"a": 1}\n') + gzip.compress(b"") + gzip.compress(b"{}\n{}")
    )
    assert (
        {prove(packed, (cut,)) for cut in range(len(packed))}
        == {prove(packed)}
        == {prove(packed, tuple(range(len(packed))))}
    )


def test_headers_with_names_and_comments_are_gzip_too() -> None:
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


def test_an_empty_blob_is_plain_and_has_no_row() -> None:
    assert prove(b"") == ContentSummary(
        0, "1B2M2Y8AsgTpgAmY7PhCfg==", hashlib.sha256(b"").hexdigest(), 0, "identity", ()
    )


def test_a_bomb_is_given_up_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "RATIO_FROM", 1024 * 1024)
    seen = 0

    def feed(self: JsonLineCounter, piece: bytes) -> None:
        nonlocal seen
        seen += len(piece)

    monkeypatch.setattr(JsonLineCounter, "feed", feed)
    assert refusal(gzip.compress(b" " * (80 * 1024 * 1024), 9)) == "proof_bomb"
    assert seen < 80 * 1024 * 1024
    monkeypatch.setattr(proof, "LARGEST", 1000)
    assert refusal(gzip.compress(random.Random(1).randbytes(2000))) == "proof_bomb"


@pytest.mark.parametrize("width", [1, 290, 310, 2000])
@pytest.mark.parametrize("fault", [b"", b" {} ", b"[]", b"{", b"}", b"{}x", b"x{}"])
def test_lines_of_any_width_are_looked_at(width: int, fault: bytes) -> None:
    lines = [b'{"a": "%s"}' % (b"x" * width)] * 2000
    lines[1500] = fault
    text = b"\n".join(lines)
    looked = JsonLineCounter()
    try:
        for at in range(0, len(text), 50_000):
            looked.feed(text[at : at + 50_000])
        looked.finish()
    except InvalidDataError as refused:
        assert fault not in (b"", b" {} ") and refused.detail == "line 1501 is not a JSON object"
    else:
        assert fault in (b"", b" {} ") and looked.rows == 2000 - (fault == b"")


def test_a_first_line_without_end_is_given_up() -> None:
    assert refusal(b'{"a": "' + b"x" * (17 * 1024 * 1024)) == "proof_lines"


def test_a_later_line_may_be_of_any_length() -> None:
    assert prove(gzip.compress(b"{}\n{" + b" " * (3 * 1024 * 1024) + b"}")).rows == 2


def test_transfer_is_size_and_md5_alone() -> None:
    transfer = TransferProof()
    transfer.feed(b"any")
    transfer.feed(b"thing")
    assert transfer.finish() == ContentSummary(
        8, b64encode(hashlib.md5(b"anything").digest()).decode()
    )


def test_the_source_has_the_last_word() -> None:
    proven = prove(ROWS)
    verify(proven, len(ROWS), None)
    verify(proven, len(ROWS), proven.md5)
    for size, md5, code in (
        (len(ROWS) + 1, None, "proof_size"),
        (len(ROWS), "1B2M2Y8AsgTpgAmY7PhCfg==", "proof_md5"),
    ):
        with pytest.raises(InvalidDataError) as refused:
            verify(proven, size, md5)
        assert refused.value.code == code
