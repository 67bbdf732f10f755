"""The switches: every one declared, documented, and with an effect on the bytes where it says so."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import local.simulator
from local.simulator import SWITCHES, Behaviour, NoStorage, Simulator, matrix
from local.simulator.behaviour import CONTENT_SWITCHES, MEANINGS
from tests.unit.simulator.clocks import StandingClock

README = (Path(local.simulator.__file__).parent / "README.md").read_text(encoding="utf-8")


def as_shown(value: Any) -> str:
    if value is None:
        return "`none`"
    return f"`{value:g}`" if isinstance(value, (int, float)) else f"`{value}`"


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_has_values_a_default_and_a_line_in_the_readme(name: str) -> None:
    values = SWITCHES[name]
    assert len(values) >= 2 and values[0] == getattr(Behaviour(), name)
    shown = ", ".join(map(as_shown, values))
    assert f"| `{name}` | {shown} | {MEANINGS[name]} |" in README


def test_the_matrix_has_every_value_of_every_switch() -> None:
    behaviours = list(matrix())
    assert len(behaviours) == 1 + sum(len(values) - 1 for values in SWITCHES.values())
    for name, values in SWITCHES.items():
        assert {getattr(behaviour, name) for behaviour in behaviours} == set(values)


@pytest.mark.parametrize(
    ("name", "value"),
    [("manifest", "upside_down"), ("retry_after_seconds", -1), ("first_hours", True)],
)
def test_a_wrong_value_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        replace(Behaviour(), **{name: value})


def test_text_sets_switches_and_names_what_is_wrong() -> None:
    behaviour = Behaviour().with_text(
        "gone=410", "sas_lifetime_seconds=2.5", "operation_lifetime_reads=none"
    )
    assert (behaviour.gone, behaviour.sas_lifetime_seconds, behaviour.operation_lifetime_reads) == (
        "410",
        2.5,
        None,
    )
    for wrong in ("nonsense=1", "gone", "first_hours=soon", "gone=500"):
        with pytest.raises(ValueError, match=wrong.partition("=")[0]):
            Behaviour().with_text(wrong)


def content(simulator: Simulator, key: str) -> bytes:
    return b"".join(blob.content for blob in simulator.expected(key).blobs)


def test_switches_of_content_change_the_version() -> None:
    simulator = Simulator(storage=NoStorage(), clock=StandingClock.at("2026-11-21"))
    keys = simulator.export_keys()
    for name in CONTENT_SWITCHES:
        for value in SWITCHES[name][1:]:
            plain = {key: simulator.expected(key).etag for key in keys}
            simulator.behaviour = replace(Behaviour(), **{name: value})
            assert all(simulator.expected(key).etag != plain[key] for key in keys), name
            simulator.behaviour = Behaviour()
            assert {key: simulator.expected(key).etag for key in keys} == plain


def test_forms_of_a_file() -> None:
    simulator = Simulator(storage=NoStorage(), clock=StandingClock.at("2026-11-21"))
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


def test_forms_of_a_value() -> None:
    simulator = Simulator(storage=NoStorage(), clock=StandingClock.at("2026-11-21"))
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
def test_forms_of_nothing(value: str, sizes: list[int]) -> None:
    simulator = Simulator(
        storage=NoStorage(),
        clock=StandingClock.at("2026-11-21"),
        behaviour=replace(Behaviour(), empty_export=value),
    )
    legacy = next(invoice for invoice in simulator.invoices() if invoice.legacy)
    expected = simulator.expected(f"billed_usage/{legacy.invoice_id}/full")
    assert [blob.size for blob in expected.blobs] == sizes and expected.rows == 0
