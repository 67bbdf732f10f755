"""Run ids and the keys of rows: one follows from the other, newest first."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.exports import ExportKey
from shared.ledger.keys import (
    RUN_ID,
    blob_partition,
    blob_row,
    cycle_keys,
    flatten_key,
    is_run_id_of,
    random_suffix,
    run_id,
    run_keys,
    scope_key,
    short_etag_hash,
    stamp,
    started_at,
    version_row,
)
from tests.unit.shared.strategies import export_keys

KEY = ExportKey.parse("billed_usage/G016907411/full")
NOW = datetime(2026, 11, 8, 9, 37, tzinfo=UTC)
moments = st.datetimes(datetime(2001, 1, 1), datetime(2098, 12, 31), timezones=st.just(UTC)).map(
    lambda one: one.replace(microsecond=0)
)
suffixes = st.just("") | st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=4, max_size=4)


@given(export_keys, moments, suffixes)
def test_a_run_id_tells_its_moment_and_belongs_to_its_key(
    key: ExportKey, moment: datetime, suffix: str
) -> None:
    made = run_id(key, moment, suffix)
    assert RUN_ID.fullmatch(made) and len(made) <= 100 and made == made.lower()
    assert started_at(made) == moment and is_run_id_of(made, key)
    partition, row = run_keys(made)
    assert (
        partition == moment.strftime("%Y%m")
        and row.endswith(f"-{made}")
        and len(row.split("-")[0]) == 10
    )


@given(export_keys, export_keys, moments, suffixes)
def test_an_id_belongs_to_one_key_only(
    one: ExportKey, other: ExportKey, moment: datetime, suffix: str
) -> None:
    assert is_run_id_of(run_id(one, moment, suffix), other) == (one == other)


@given(moments, moments)
def test_the_newest_run_comes_first(one: datetime, other: datetime) -> None:
    if one != other:
        assert (run_keys(run_id(KEY, one))[1] < run_keys(run_id(KEY, other))[1]) == (one > other)


@given(
    st.text(max_size=110)
    | st.from_regex(r"[a-z0-9-]{0,30}\d{8}t\d{6}z(-[a-z2-7]{4})?", fullmatch=True)
)
def test_any_text_is_an_id_or_nobodys(text: str) -> None:
    moment = started_at(text)
    if moment is None:
        with pytest.raises(ValueError, match="not the ID of a run"):
            run_keys(text)
    else:
        assert text.isascii() and stamp(moment) in text and run_keys(text)[1].endswith(text)


@given(export_keys, export_keys)
def test_flat_keys_are_told_apart_and_need_no_escape(one: ExportKey, other: ExportKey) -> None:
    assert (flatten_key(one) == flatten_key(other)) == (one == other)
    assert (
        not set(flatten_key(one)) & set("/\\#?%")
        and flatten_key(one) == f"{one.dataset}~{scope_key(one)}"
    )
    if one != other and one.dataset == other.dataset:
        assert not version_row(one, "e", 1).startswith(scope_key(other) + "~")
        assert blob_partition(one, "v") != blob_partition(other, "v")


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_etags_and_names_become_hex(text: str) -> None:
    assert len(short_etag_hash(text)) == 8 and len(blob_row(text)) == 32
    assert int(short_etag_hash(text), 16) >= 0 and int(blob_row(text), 16) >= 0
    assert version_row(KEY, text, 2) == f"G016907411~full~{short_etag_hash(text)}~2"


def test_the_documented_ones() -> None:
    key = ExportKey.parse("unbilled_usage/2026-11/USD/full")
    assert run_id(key, NOW) == "unbilled-usage-2026-11-usd-full-20261108t093700z"
    assert run_keys("billed-usage-g016907411-full-20261108t093700z-x7qa") == (
        "202611",
        f"{9_999_999_999 - int(NOW.timestamp())}-billed-usage-g016907411-full-20261108t093700z-x7qa",
    )
    assert cycle_keys("cycle-20261108t093700z")[0] == "cycle-202611"
    assert (
        blob_partition(key, "20261108T093700Z-3f9a1c20")
        == "unbilled_usage~2026-11~USD~full~20261108T093700Z-3f9a1c20"
    )


def test_suffixes_differ() -> None:
    assert len({random_suffix() for _ in range(200)}) > 190


@pytest.mark.parametrize(
    "text",
    [
        "billed-usage-g016907411-full-20261108t093700z-x7q1",
        "billed-usage-g016907411-full-20261108t093700",
        "20261108t093700z-20261108t093700z",
        "billed-usage-g016907411-full-20261308t093700z",
        "cycle-20261108t096100z",
        "BILLED-20261108t093700z",
    ],
)
def test_nobodys_ids(text: str) -> None:
    assert started_at(text) is None and not is_run_id_of(text, KEY)
