"""The progress display with and without a terminal."""

import io
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from partner_billing.progress import Progress, TransferRates

NOW = datetime(2026, 11, 8, 9, 37, tzinfo=UTC)


def create_run(**changes: Any) -> dict[str, Any]:
    """Return a run as the API returns it, with `changes` to its fields."""
    return {
        "run_id": "r1",
        "dataset": "billed_usage",
        "invoice_id": "G016907411",
        "stage": "starting",
        "outcome": None,
        "code": None,
        "polls": 0,
        "next_check_at": None,
        "blobs": {"total": 0, "landed": 0, "failed": 0},
        "bytes": 0,
        "rows": 0,
        **changes,
    }


def test_progress_without_terminal_prints_each_stage_once() -> None:
    output = io.StringIO()
    with Progress(Console(file=output, width=120), now=lambda: NOW) as progress:
        for state in (
            create_run(),
            create_run(),
            create_run(stage="waiting", polls=1, next_check_at="2026-11-08T09:37:05Z"),
            create_run(stage="waiting", polls=2, next_check_at="2026-11-08T09:37:06Z"),
            create_run(
                stage="ended",
                outcome="landed",
                blobs={"total": 3, "landed": 3, "failed": 0},
                bytes=4_200,
            ),
        ):
            progress.show([state])
    assert [line.split(maxsplit=2)[2] for line in output.getvalue().splitlines()] == [
        "starting",
        "waiting for Microsoft, polled 1 time, next poll in 5 s",
        "landed      3/3  4.2 kB",
    ]


def test_progress_in_terminal_shows_all_runs() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=140)
    with Progress(console, now=lambda: NOW) as progress:
        progress.show(
            [
                create_run(
                    stage="copying", blobs={"total": 6, "landed": 4, "failed": 1}, bytes=1_000
                ),
                create_run(
                    run_id="r2",
                    dataset="unbilled_usage",
                    invoice_id=None,
                    billing_month="2026-11",
                    currency_code="USD",
                    outcome="failed",
                    code="graph_forbidden",
                ),
            ]
        )
    output = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "4/6, 1 failed" in output and "2026-11 USD" in output
    assert "failed (graph_forbidden)" in output


def test_transfer_rate_is_that_of_last_change_until_run_ends() -> None:
    now = [0.0]
    rates = TransferRates(clock=lambda: now[0])
    assert rates.update(create_run()) is None
    now[0] = 2.0
    assert rates.update(create_run(bytes=1_000)) == 500
    now[0] = 3.0
    assert rates.update(create_run(bytes=1_000)) == 500
    assert rates.update(create_run(bytes=1_000, outcome="landed")) is None
