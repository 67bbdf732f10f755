"""Progress displays: a table that is redrawn in a terminal, and plain lines elsewhere.

A run is the JSON object of `GET /api/runs/{run_id}`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

Run = Mapping[str, Any]
GOOD_OUTCOMES = ("landed", "unchanged", "no_data")
BACKFILL_COUNTS = (
    ("landed", "landed"),
    ("no_data", "no data"),
    ("not_served", "no longer served"),
    ("failed", "failed"),
    ("waiting", "remaining"),
)


def scope_of(run: Run) -> str:
    """Return the invoice, or the month and the currency, of a run.

    >>> scope_of({"invoice_id": "G016907411"})
    'G016907411'
    >>> scope_of({"billing_month": "2026-11", "currency_code": "USD"})
    '2026-11 USD'
    """
    return str(
        run.get("invoice_id")
        or f"{run.get('billing_month', '')} {run.get('currency_code', '')}".strip()
    )


def format_bytes(count: float) -> str:
    """Return a number of bytes with a decimal unit.

    >>> [format_bytes(count) for count in (0, 999, 1_234, 5_600_000, 7_800_000_000)]
    ['0 B', '999 B', '1.2 kB', '5.6 MB', '7.8 GB']
    """
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def duration_seconds(run: Run) -> float | None:
    """Return the duration of a run that has ended, otherwise None.

    >>> duration_seconds(
    ...     {"started_at": "2026-11-08T09:37:00Z", "ended_at": "2026-11-08T09:37:04.500Z"}
    ... )
    4.5
    """
    if not run.get("started_at") or not run.get("ended_at"):
        return None
    return (
        datetime.fromisoformat(run["ended_at"]) - datetime.fromisoformat(run["started_at"])
    ).total_seconds()


def describe_state(run: Run, now: datetime) -> str:
    """Return the stage of a run, or its outcome if it has ended.

    >>> describe_state(
    ...     {"stage": "waiting", "polls": 2, "next_check_at": "2026-11-08T09:37:03Z"},
    ...     datetime(2026, 11, 8, 9, 37, 0, tzinfo=UTC),
    ... )
    'waiting for Microsoft, polled 2 times, next poll in 3 s'
    """
    if run.get("outcome"):
        return f"{run['outcome']} ({run['code']})" if run.get("code") else str(run["outcome"])
    stage = str(run.get("stage", ""))
    if stage != "waiting":
        return stage
    description, polls = "waiting for Microsoft", run.get("polls") or 0
    if polls:
        description += f", polled {polls} time{'s' if polls != 1 else ''}"
    if run.get("next_check_at"):
        remaining = (datetime.fromisoformat(run["next_check_at"]) - now).total_seconds()
        description += f", next poll in {remaining:.0f} s" if remaining >= 1 else ", next poll now"
    return description


def describe_blobs(run: Run) -> str:
    """Return the numbers of landed, total and failed blobs, or "" if there are no blobs.

    >>> describe_blobs({"blobs": {"total": 6, "landed": 4, "failed": 1}})
    '4/6, 1 failed'
    >>> describe_blobs({"blobs": {"total": 0, "landed": 0, "failed": 0}})
    ''
    """
    blobs = run.get("blobs") or {}
    if not blobs.get("total"):
        return ""
    return f"{blobs.get('landed', 0)}/{blobs['total']}" + (
        f", {blobs['failed']} failed" if blobs.get("failed") else ""
    )


class TransferRates:
    """The transfer rate of each run, between the last two polls with a different byte count."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: dict[str, tuple[float, int]] = {}
        self._rates: dict[str, float] = {}

    def update(self, run: Run) -> float | None:
        """Add the byte count of a run and return its rate in bytes per second, if known."""
        run_id, now, count = str(run["run_id"]), self._clock(), int(run.get("bytes") or 0)
        previous = self._samples.setdefault(run_id, (now, count))
        if count > previous[1] and now > previous[0]:
            self._rates[run_id] = (count - previous[1]) / (now - previous[0])
            self._samples[run_id] = (now, count)
        return None if run.get("outcome") else self._rates.get(run_id)


class Progress:
    """The progress of runs, used as a context manager. Call `show` after every poll."""

    def __init__(
        self, console: Console, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._console, self._now, self._rates = console, now, TransferRates()
        self._live: Live | None = None
        self._printed: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, runs: Sequence[Run]) -> None:
        """Redraw the table, or print a line for each run whose stage or outcome changed."""
        if not self._console.is_terminal:
            for run in runs:
                self._print_change(run)
            return
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(self.table(runs), refresh=True)

    def table(self, runs: Sequence[Run]) -> Table:
        """Return a table of the runs."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for title in ("dataset", "scope", "stage"):
            table.add_column(title)
        for title in ("blobs", "bytes", "rate"):
            table.add_column(title, justify="right")
        for run in runs:
            rate = self._rates.update(run)
            table.add_row(
                str(run["dataset"]),
                scope_of(run),
                describe_state(run, self._now()),
                describe_blobs(run),
                format_bytes(run["bytes"]) if run.get("bytes") else "",
                f"{format_bytes(rate)}/s" if rate else "",
                style=style_of(run),
            )
        return table

    def _print_change(self, run: Run) -> None:
        """Print one line if the stage or the outcome has changed."""
        state = str(run.get("outcome") or run.get("stage"))
        if self._printed.get(str(run["run_id"])) == state:
            return
        self._printed[str(run["run_id"])] = state
        done = "  ".join(
            part
            for part in (
                describe_blobs(run),
                format_bytes(run["bytes"]) if run.get("bytes") else "",
            )
            if part
        )
        line = (
            f"{run['dataset']:<24}{scope_of(run):<14}{describe_state(run, self._now()):<12}{done}"
        )
        self._console.print(line.rstrip(), highlight=False, markup=False, soft_wrap=True)


def describe_backfill(body: Mapping[str, Any]) -> str:
    """Return the counts of a backfill as one line.

    >>> describe_backfill({"planned": 36, "landed": 12, "no_data": 1, "failed": 0, "waiting": 23})
    '36 planned: 12 landed, 1 no data, 23 remaining'
    >>> describe_backfill({"planned": 1, "waiting": 1, "estimated_end": "2026-11-21T10:00:00Z"})
    '1 planned: 0 landed, 1 remaining, estimated end 2026-11-21T10:00:00Z'
    """
    parts = [
        f"{body.get(name) or 0} {label}"
        for name, label in BACKFILL_COUNTS
        if body.get(name) or name == "landed"
    ]
    end = f", estimated end {body['estimated_end']}" if body.get("estimated_end") else ""
    return f"{body.get('planned') or 0} planned: {', '.join(parts)}{end}"


class BackfillProgress:
    """The counts of a backfill, used as a context manager. Call `show` after every poll."""

    def __init__(self, console: Console) -> None:
        self._console, self._last = console, ""
        self._live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, body: Mapping[str, Any]) -> None:
        """Redraw the line, or print a line if the counts changed."""
        line = describe_backfill(body)
        if line == self._last:
            return
        self._last = line
        if not self._console.is_terminal:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)
            return
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(Text(line), refresh=True)


def style_of(run: Run) -> str:
    """Return the Rich style for the outcome of a run."""
    if not run.get("outcome"):
        return ""
    return "green" if run["outcome"] in GOOD_OUTCOMES else "red"
