"""The report of the demo."""

import io

from rich.console import Console

from local.demo import print_report


def test_print_report_with_unknown_rows() -> None:
    output = io.StringIO()
    run = {
        "dataset": "billed_usage",
        "key": "billed_usage/G016907411/full",
        "invoice_id": "G016907411",
        "version": "20261108T093700Z-3f9a1c20",
        "outcome": "landed",
        "blobs": {"landed": 3},
        "rows": None,
        "bytes": 1_000,
        "path": "data/x",
        "started_at": "2026-11-21T06:00:00Z",
        "ended_at": "2026-11-21T06:00:02Z",
    }
    print_report(Console(file=output, width=120), [run, {**run, "rows": 4_200}], [])
    assert "unknown" in output.getvalue() and "4,200" in output.getvalue()
