"""The paths in the landing container."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.simulator.data_attributes import ATTRIBUTES, SAMPLE_CASE, UNBILLED_ADDED
from shared.exports import ExportKey
from shared.landing.layout import (
    blob_path,
    key_path,
    latest_path,
    marker_path,
    names_path,
    page_path,
    version_id,
    version_path,
)
from shared.ledger.keys import run_id
from tests.unit.shared.strategies import export_keys

KEY = ExportKey.parse("unbilled_usage/2026-11/USD/full")
BILLED = ExportKey.parse("billed_reconciliation/G016907411/basic")
MOMENT = datetime(2026, 11, 8, 9, 37, tzinfo=UTC)
COLUMNS = {
    name.lower()
    for names in ATTRIBUTES.values()
    for name in (*names, *SAMPLE_CASE.values(), *UNBILLED_ADDED)
}


def test_paths_match_the_documentation() -> None:
    data = "data/unbilled_usage/billing_month=2026-11/currency_code=USD/attribute_set=full"
    version = version_id(MOMENT, "WYjLro78HdMg6vUWR")
    assert version == "20261108T093700Z-2808d6a5"
    assert version_path(KEY, version) == f"{data}/version=20261108T093700Z-2808d6a5"
    assert marker_path(KEY, version) == f"{data}/version=20261108T093700Z-2808d6a5/_manifest.json"
    assert (
        blob_path(KEY, version, "a/part-0.json.gz")
        == f"{data}/version=20261108T093700Z-2808d6a5/a/part-0.json.gz"
    )
    assert (
        latest_path(KEY)
        == "catalogue/unbilled_usage/billing_month=2026-11/currency_code=USD/attribute_set=full/"
        "latest.json"
    )
    assert key_path(BILLED) == "billed_reconciliation/invoice_id=G016907411/attribute_set=basic"
    assert (
        names_path("r-1", 2) == "runs/r-1/plan-2/names.json"
        and page_path("r-1", 2, 7) == "runs/r-1/plan-2/page-00007.json"
    )


@given(export_keys, export_keys)
def test_key_path_is_unique_without_case(one: ExportKey, other: ExportKey) -> None:
    if one != other:
        assert key_path(one) != key_path(other) and key_path(one).lower() != key_path(other).lower()
        assert not key_path(one).startswith(key_path(other) + "/")


@given(export_keys)
def test_key_path_has_no_partition_named_like_a_column(key: ExportKey) -> None:
    names = [segment.partition("=")[0] for segment in (*key_path(key).split("/")[1:], "version=x")]
    assert len(names) == len(set(names)) and not {name.lower() for name in names} & COLUMNS


@given(
    export_keys,
    st.datetimes(timezones=st.just(UTC)),
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.integers(1, 20),
)
def test_version_path_is_short_and_visible_to_readers(
    key: ExportKey, created: datetime, etag: str, n: int
) -> None:
    path = version_path(key, version_id(created, etag, n))
    assert re.fullmatch(r"[A-Za-z0-9=/_-]+", path) and len(path) <= 150
    assert not any(segment.startswith(("_", ".")) for segment in path.split("/"))


@given(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)))
def test_version_id_sorts_by_the_creation_of_the_data(one: datetime, other: datetime) -> None:
    one, other = one.replace(microsecond=0), other.replace(microsecond=0)
    if one != other:
        assert (version_id(one, "e") < version_id(other, "e")) == (one < other)


def test_version_id_of_a_forced_version_has_its_number() -> None:
    assert [
        version_id(MOMENT, "e", n).removeprefix(version_id(MOMENT, "e")) for n in (1, 2, 3)
    ] == ["", "-2", "-3"]


@pytest.mark.parametrize("key", [KEY, BILLED])
def test_plans_and_latest_are_outside_of_the_data(key: ExportKey) -> None:
    assert not names_path(run_id(key, MOMENT), 1).startswith(("data/", "catalogue/"))
    assert not latest_path(key).startswith("data/")
