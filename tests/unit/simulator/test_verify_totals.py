"""The checker: passes what ties out, and fails on every line that was tampered with."""

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
        place = (
            folder
            / "data"
            / dataset
            / f"invoice_id={INVOICE.invoice_id}"
            / "attribute_set=full"
            / f"version={version}"
        )
        place.mkdir(parents=True)
        for blob in simulator.expected(key).blobs:
            (place / blob.name).write_bytes(blob.content)
        (place / "_manifest.json").write_text(
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
    name: str, by: str, where: Callable[[dict[str, Any]], bool] = lambda line: True
) -> Edit:
    def change(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        line = next(line for line in lines if where(line))
        line[name] = Decimal(str(line[name])) + Decimal(by)
        return lines

    return change


def test_what_was_made_ties_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    land(tmp_path)
    assert main([str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert (
        "usage against reconciliation" in shown
        and str(INVOICE.total) in shown
        and "All 4 hold." in shown
    )


def is_licence(line: dict[str, Any]) -> bool:
    return line["ProductName"] != "Azure plan"


@pytest.mark.parametrize(
    ("dataset", "change", "message"),
    [
        (
            "billed_usage",
            change_first("BillingPreTaxTotal", "0.01"),
            "usage against reconciliation",
        ),
        ("billed_usage", lambda lines: lines[:-1], "usage against reconciliation"),
        ("billed_usage", lambda lines: [*lines, lines[0]], "usage against reconciliation"),
        ("billed_reconciliation", change_first("Total", "-0.01"), "Total is off by -0.01"),
        ("billed_reconciliation", change_first("Subtotal", "0.01"), "Subtotal is off by 0.01"),
        (
            "billed_reconciliation",
            change_first("BillableQuantity", "1", is_licence),
            "Subtotal is off by",
        ),
        (
            "billed_reconciliation",
            lambda lines: [line for line in lines if not is_licence(line)],
            "against the invoice's total",
        ),
        (
            "billed_reconciliation",
            lambda lines: [{**line, "Total": "a lot"} for line in lines],
            "Total is no number",
        ),
    ],
)
def test_a_tampered_line_fails(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    dataset: str,
    change: Edit,
    message: str,
) -> None:
    land(tmp_path)
    edit(tmp_path, dataset, change)
    assert main([str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "WRONG" in shown and message in shown and "a lot" not in shown


def test_a_cut_file_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    land(tmp_path)
    file = next(tmp_path.rglob("billed_usage/**/part-00000-*"))
    file.write_bytes(file.read_bytes()[:-20])
    assert main([str(tmp_path)]) == 1
    assert "not gzip to its end" in capsys.readouterr().out


def test_usage_alone_proves_nothing(tmp_path: Path) -> None:
    land(tmp_path)
    for file in tmp_path.rglob("billed_reconciliation/**/*.*"):
        if file.is_file():
            file.unlink()
    assert main([str(tmp_path)]) == 1


def test_an_empty_folder_is_not_good(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 2


def test_a_total_may_be_given(tmp_path: Path) -> None:
    land(tmp_path, total=None)
    assert main([str(tmp_path), "--invoice-total", f"{INVOICE.invoice_id}={INVOICE.total}"]) == 0
    assert (
        main([str(tmp_path), "--invoice-total", f"{INVOICE.invoice_id}={INVOICE.total + 1}"]) == 1
    )


def test_of_several_versions_the_one_in_the_catalogue_counts(tmp_path: Path) -> None:
    land(tmp_path)
    old = (
        tmp_path
        / f"data/billed_usage/invoice_id={INVOICE.invoice_id}/attribute_set=full/version=20260101T000000Z-1"
    )
    new = old.with_name("version=20270101T000000Z-2")
    for folder in (old, new):
        folder.mkdir()
        (folder / "part-00000.json.gz").write_bytes(b"{}\n")
        (folder / "_manifest.json").write_text("{}")
    assert main([str(tmp_path)]) == 1  # the newest one
    latest = (
        tmp_path
        / f"catalogue/billed_usage/invoice_id={INVOICE.invoice_id}/attribute_set=full/latest.json"
    )
    latest.parent.mkdir(parents=True)
    latest.write_text(json.dumps({"version": "20261008T093700Z-00000000"}))
    assert main([str(tmp_path)]) == 0
