"""The switches: each one is declared and documented, and content switches change the bytes."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import local.simulator
from local.simulator import SWITCHES, Behaviour, NoStorage, Simulator, matrix
from local.simulator.behaviour import CONTENT_SWITCHES, DESCRIPTIONS
from tests.support.clocks import FakeClock

README = (Path(local.simulator.__file__).parent / "README.md").read_text(encoding="utf-8")


def format_value(value: Any) -> str:
    if value is None:
        return "`none`"
    return f"`{value:g}`" if isinstance(value, (int, float)) else f"`{value}`"


@pytest.mark.parametrize("name", SWITCHES)
def test_switch_has_default_values_and_readme_entry(name: str) -> None:
    values = SWITCHES[name]
    assert values[0] == getattr(Behaviour(), name) and values[1:]
    formatted = ", ".join(map(format_value, values))
    assert f"| `{name}` | {formatted} | {DESCRIPTIONS[name]} |" in README


def test_matrix_contains_every_value_of_every_switch() -> None:
    behaviours = list(matrix())
    changed = [
        [name for name in SWITCHES if getattr(behaviour, name) != getattr(Behaviour(), name)]
        for behaviour in behaviours
    ]
    expected = [[name] for name, values in SWITCHES.items() for _ in values[1:]]
    assert changed == [[], *expected]
    for name, values in SWITCHES.items():
        assert {getattr(behaviour, name) for behaviour in behaviours} == set(values)


@pytest.mark.parametrize(
    ("name", "value"),
    [("manifest", "unknown"), ("retry_after_seconds", -1), ("first_hours", True)],
)
def test_behaviour_invalid_value_raises(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        replace(Behaviour(), **{name: value})


def test_with_switches_parses_values_and_names_invalid_ones() -> None:
    behaviour = Behaviour().with_switches(
        "gone=410", "sas_lifetime_seconds=2.5", "operation_lifetime_reads=none"
    )
    assert (behaviour.gone, behaviour.sas_lifetime_seconds, behaviour.operation_lifetime_reads) == (
        "410",
        2.5,
        None,
    )
    for invalid in ("nonsense=1", "gone", "first_hours=soon", "gone=500"):
        with pytest.raises(ValueError, match=invalid.partition("=")[0]):
            Behaviour().with_switches(invalid)


def content(simulator: Simulator, key: str) -> bytes:
    return b"".join(blob.content for blob in simulator.expected(key).blobs)


def test_content_switch_changes_etag_of_every_key() -> None:
    simulator = Simulator(storage=NoStorage(), clock=FakeClock.at("2026-11-21"))
    keys = simulator.export_keys()
    for name in CONTENT_SWITCHES:
        for value in SWITCHES[name][1:]:
            plain = {key: simulator.expected(key).etag for key in keys}
            simulator.behaviour = replace(Behaviour(), **{name: value})
            assert all(simulator.expected(key).etag != plain[key] for key in keys), name
            simulator.behaviour = Behaviour()
            assert {key: simulator.expected(key).etag for key in keys} == plain


def test_content_switches_change_file_format() -> None:
    simulator = Simulator(storage=NoStorage(), clock=FakeClock.at("2026-11-21"))
    key = simulator.export_keys()[0]
    text = b"".join(gzip.decompress(blob.content) for blob in simulator.expected(key).blobs)

    def with_switch(**switches: Any) -> list[bytes]:
        simulator.behaviour = replace(Behaviour(), **switches)
        return [blob.content for blob in simulator.expected(key).blobs]

    assert b"".join(with_switch(compression="plain")) == text
    assert all(
        blob.count(b"\x1f\x8b\x08\x00\x00\x00\x00\x00") == 3
        for blob in with_switch(compression="members")
    )
    assert all(
        blob.count(b"\x1f\x8b\x08\x00\x00\x00\x00\x00") == 1
        for blob in with_switch(compression="gzip")
    )
    assert all(
        gzip.decompress(blob)[:4] == b"\xef\xbb\xbf{"
        for blob in with_switch(byte_order_mark="present")
    )
    assert all(gzip.decompress(blob).endswith(b"}") for blob in with_switch(last_newline="absent"))
    assert (
        b"".join(map(gzip.decompress, with_switch(blank_lines="some"))).replace(b"\n\n", b"\n")
        == text
    )
    assert all("/" in blob.name for blob in simulator_files(simulator, key, blob_names="nested"))


def simulator_files(simulator: Simulator, key: str, **switches: Any) -> Any:
    simulator.behaviour = replace(Behaviour(), **switches)
    return simulator.expected(key).blobs


def test_content_switches_change_values() -> None:
    simulator = Simulator(storage=NoStorage(), clock=FakeClock.at("2026-11-21"))
    key = next(key for key in simulator.export_keys() if key.startswith("unbilled_usage"))

    def first_line(**switches: Any) -> dict[str, Any]:
        simulator.behaviour = replace(Behaviour(), **switches)
        return dict(
            json.loads(gzip.decompress(simulator.expected(key).blobs[0].content).splitlines()[0])
        )

    plain = first_line()
    assert (
        isinstance(plain["UnitPrice"], float)
        and plain["InvoiceNumber"] is None
        and plain["UsageDate"].endswith("T00:00:00Z")
    )
    assert float(first_line(numbers="strings")["UnitPrice"]) == plain["UnitPrice"]
    assert first_line(missing_values="empty")["InvoiceNumber"] == ""
    assert "InvoiceNumber" not in first_line(missing_values="absent")
    assert "BenefitId" in first_line(field_case="sample")
    assert first_line(dates="date")["UsageDate"] == plain["UsageDate"][:10]
    assert "PCToBCExchangeRateDate" in first_line(unbilled_fields="observed")


@pytest.mark.parametrize(
    ("value", "sizes"),
    [("failed_5000", []), ("zero_blobs", []), ("empty_file", [20]), ("no_bytes", [0])],
)
def test_empty_export_switch_determines_blobs(value: str, sizes: list[int]) -> None:
    simulator = Simulator(
        storage=NoStorage(),
        clock=FakeClock.at("2026-11-21"),
        behaviour=replace(Behaviour(), empty_export=value),
    )
    legacy = next(invoice for invoice in simulator.invoices() if invoice.legacy)
    expected = simulator.expected(f"billed_usage/{legacy.invoice_id}/full")
    assert [blob.size for blob in expected.blobs] == sizes and expected.rows == 0
