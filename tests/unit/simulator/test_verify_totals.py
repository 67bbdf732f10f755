"""The verification of totals: it accepts generated exports and detects every changed line."""

import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from local.simulator import NoStorage, Partner, Simulator
from local.simulator.verify_totals import main

Edit = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
simulator = Simulator(storage=NoStorage(), partner=Partner(currencies=("EUR",), customers=3))
INVOICE = next(invoice for invoice in simulator.invoices() if not invoice.legacy)
KEYS = [f"billed_{family}/{INVOICE.invoice_id}/full" for family in ("usage", "reconciliation")]


def land(
    folder: Path,
    *,
    version: str = "20261008T093700Z-00000000",
    total: Decimal | None = INVOICE.total,
) -> None:
    for key in KEYS:
        dataset = key.split("/")[0]
        version_folder = (
            folder
            / "data"
            / dataset
            / f"invoice_id={INVOICE.invoice_id}"
            / "attribute_set=full"
            / f"version={version}"
        )
        version_folder.mkdir(parents=True)
        for blob in simulator.expected(key).blobs:
            (version_folder / blob.name).write_bytes(blob.content)
        (version_folder / "_manifest.json").write_text(
            json.dumps({"invoice": {"total": str(total)}} if total else {})
        )


def edit(folder: Path, dataset: str, change: Edit) -> None:
    file = next(folder.rglob(f"{dataset}/**/part-00000-*"))
    lines = [
        json.loads(line, parse_float=Decimal)
        for line in gzip.decompress(file.read_bytes()).splitlines()
    ]
    text = "\n".join(json.dumps(line, default=float) for line in change(lines))
    file.write_bytes(gzip.compress(text.encode()))


def change_first(
    name: str, by: str, matches: Callable[[dict[str, Any]], bool] = lambda line: True
) -> Edit:
    def change(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        line = next(line for line in lines if matches(line))
        line[name] = Decimal(str(line[name])) + Decimal(by)
        return lines

    return change


def test_main_generated_exports_are_correct(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    land(tmp_path)
    assert main([str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert (
        "usage and reconciliation" in output
        and str(INVOICE.total) in output
        and "All 4 comparisons match." in output
    )


def is_licence(line: dict[str, Any]) -> bool:
    return line["ProductName"] != "Azure plan"


@pytest.mark.parametrize(
    ("dataset", "change", "message"),
    [
        (
            "billed_usage",
            change_first("BillingPreTaxTotal", "0.01"),
            "usage and reconciliation",
        ),
        ("billed_usage", lambda lines: lines[:-1], "usage and reconciliation"),
        ("billed_usage", lambda lines: [*lines, lines[0]], "usage and reconciliation"),
        ("billed_reconciliation", change_first("Total", "-0.01"), "Total differs by -0.01"),
        ("billed_reconciliation", change_first("Subtotal", "0.01"), "Subtotal differs by 0.01"),
        (
            "billed_reconciliation",
            change_first("BillableQuantity", "1", is_licence),
            "Subtotal differs by",
        ),
        (
            "billed_reconciliation",
            lambda lines: [line for line in lines if not is_licence(line)],
            "reconciliation and the invoice total",
        ),
        (
            "billed_reconciliation",
            lambda lines: [{**line, "Total": "SECRET"} for line in lines],
            "Total is not a number",
        ),
    ],
)
def test_main_changed_line_is_reported(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    dataset: str,
    change: Edit,
    message: str,
) -> None:
    land(tmp_path)
    edit(tmp_path, dataset, change)
    assert main([str(tmp_path)]) == 1
    output = capsys.readouterr().out
    assert "DIFFERS" in output and message in output and "SECRET" not in output


def test_main_truncated_file_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    land(tmp_path)
    file = next(tmp_path.rglob("billed_usage/**/part-00000-*"))
    file.write_bytes(file.read_bytes()[:-20])
    assert main([str(tmp_path)]) == 1
    assert "is not valid gzip" in capsys.readouterr().out


def test_main_usage_without_reconciliation_fails(tmp_path: Path) -> None:
    land(tmp_path)
    for file in tmp_path.rglob("billed_reconciliation/**/*.*"):
        if file.is_file():
            file.unlink()
    assert main([str(tmp_path)]) == 1


def test_main_empty_folder_returns_two(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 2


def test_main_invoice_total_argument_is_compared(tmp_path: Path) -> None:
    land(tmp_path, total=None)
    assert main([str(tmp_path), "--invoice-total", f"{INVOICE.invoice_id}={INVOICE.total}"]) == 0
    assert (
        main([str(tmp_path), "--invoice-total", f"{INVOICE.invoice_id}={INVOICE.total + 1}"]) == 1
    )


def test_main_several_versions_uses_version_in_catalogue(tmp_path: Path) -> None:
    land(tmp_path)
    old = (
        tmp_path
        / f"data/billed_usage/invoice_id={INVOICE.invoice_id}/attribute_set=full"
        / "version=20260101T000000Z-1"
    )
    new = old.with_name("version=20270101T000000Z-2")
    for folder in (old, new):
        folder.mkdir()
        (folder / "part-00000.json.gz").write_bytes(b"{}\n")
        (folder / "_manifest.json").write_text("{}")
    assert main([str(tmp_path)]) == 1  # without a catalogue, the newest version applies
    latest = (
        tmp_path
        / f"catalogue/billed_usage/invoice_id={INVOICE.invoice_id}/attribute_set=full/latest.json"
    )
    latest.parent.mkdir(parents=True)
    latest.write_text(json.dumps({"version": "20261008T093700Z-00000000"}))
    assert main([str(tmp_path)]) == 0
