"""Run IDs, and the partition and row keys that are derived from them."""

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
    lambda moment: moment.replace(microsecond=0)
)
suffixes = st.just("") | st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=4, max_size=4)


@given(export_keys, moments, suffixes)
def test_run_id_contains_start_time_and_export_key(
    key: ExportKey, moment: datetime, suffix: str
) -> None:
    new_id = run_id(key, moment, suffix)
    assert RUN_ID.fullmatch(new_id) and len(new_id) <= 100 and new_id == new_id.lower()
    assert started_at(new_id) == moment and is_run_id_of(new_id, key)
    partition, row = run_keys(new_id)
    assert (
        partition == moment.strftime("%Y%m")
        and row.endswith(f"-{new_id}")
        and len(row.split("-")[0]) == 10
    )


@given(export_keys, export_keys, moments, suffixes)
def test_is_run_id_of_other_key_is_false(
    first: ExportKey, second: ExportKey, moment: datetime, suffix: str
) -> None:
    assert is_run_id_of(run_id(first, moment, suffix), second) == (first == second)


@given(moments, moments)
def test_run_keys_sort_newest_first(first: datetime, second: datetime) -> None:
    if first != second:
        assert (run_keys(run_id(KEY, first))[1] < run_keys(run_id(KEY, second))[1]) == (
            first > second
        )


@given(
    st.text(max_size=110)
    | st.from_regex(r"[a-z0-9-]{0,30}\d{8}t\d{6}z(-[a-z2-7]{4})?", fullmatch=True)
)
def test_run_keys_of_arbitrary_string_returns_keys_or_raises(text: str) -> None:
    moment = started_at(text)
    if moment is None:
        with pytest.raises(ValueError, match="not the ID of a run"):
            run_keys(text)
    else:
        assert text.isascii() and stamp(moment) in text and run_keys(text)[1].endswith(text)


@given(export_keys, export_keys)
def test_flatten_key_is_unique_and_needs_no_escaping(first: ExportKey, second: ExportKey) -> None:
    assert (flatten_key(first) == flatten_key(second)) == (first == second)
    assert (
        not set(flatten_key(first)) & set("/\\#?%")
        and flatten_key(first) == f"{first.dataset}~{scope_key(first)}"
    )
    if first != second and first.dataset == second.dataset:
        assert not version_row(first, "e", 1).startswith(scope_key(second) + "~")
        assert blob_partition(first, "v") != blob_partition(second, "v")


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_short_etag_hash_and_blob_row_are_hexadecimal(text: str) -> None:
    assert len(short_etag_hash(text)) == 8 and len(blob_row(text)) == 32
    assert int(short_etag_hash(text), 16) >= 0 and int(blob_row(text), 16) >= 0
    assert version_row(KEY, text, 2) == f"G016907411~full~{short_etag_hash(text)}~2"


def test_keys_match_the_documented_examples() -> None:
    key = ExportKey.parse("unbilled_usage/2026-11/USD/full")
    assert run_id(key, NOW) == "unbilled-usage-2026-11-usd-full-20261108t093700z"
    assert run_keys("billed-usage-g016907411-full-20261108t093700z-x7qa") == (
        "202611",
        f"{9_999_999_999 - int(NOW.timestamp())}"
        "-billed-usage-g016907411-full-20261108t093700z-x7qa",
    )
    assert cycle_keys("cycle-20261108t093700z")[0] == "cycle-202611"
    assert (
        blob_partition(key, "20261108T093700Z-3f9a1c20")
        == "unbilled_usage~2026-11~USD~full~20261108T093700Z-3f9a1c20"
    )


def test_random_suffix_differs_between_calls() -> None:
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
def test_started_at_of_invalid_run_id_is_none(text: str) -> None:
    assert started_at(text) is None and not is_run_id_of(text, KEY)
