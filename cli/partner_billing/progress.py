"""Shows runs as they go, from the API's JSON alone: a table that keeps itself up to date, or plain lines where nobody looks.

A run is the JSON object of `GET /api/runs/{run_id}`. Knows nothing of HTTP, of the stack or of the app.
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
GOOD = ("landed", "unchanged", "no_data")
COUNTS = (
    ("landed", "landed"),
    ("no_data", "no data"),
    ("not_served", "not served any more"),
    ("failed", "failed"),
    ("waiting", "to go"),
)


def scope_of(run: Run) -> str:
    """>>> scope_of({"invoice_id": "G016907411"}), scope_of({"billing_month": "2026-11", "currency_code": "USD"})
    ('G016907411', '2026-11 USD')
    """
    return str(
        run.get("invoice_id")
        or f"{run.get('billing_month', '')} {run.get('currency_code', '')}".strip()
    )


def size(count: float) -> str:
    """Bytes for people, in powers of 1000.

    >>> size(0), size(999), size(1_234), size(5_600_000), size(7_800_000_000)
    ('0 B', '999 B', '1.2 kB', '5.6 MB', '7.8 GB')
    """
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def seconds_of(run: Run) -> float | None:
    """From start to end; None while it runs.

    >>> seconds_of({"started_at": "2026-11-08T09:37:00Z", "ended_at": "2026-11-08T09:37:04.500Z"})
    4.5
    """
    if not run.get("started_at") or not run.get("ended_at"):
        return None
    return (
        datetime.fromisoformat(run["ended_at"]) - datetime.fromisoformat(run["started_at"])
    ).total_seconds()


def said(run: Run, now: datetime) -> str:
    """What a run is doing, or how it ended, in words.

    >>> said({"stage": "waiting", "polls": 2, "next_check_at": "2026-11-08T09:37:03Z"},
    ...      datetime(2026, 11, 8, 9, 37, 0, tzinfo=UTC))
    'waiting for Microsoft, looked 2 times, next in 3 s'
    """
    if run.get("outcome"):
        return f"{run['outcome']} ({run['code']})" if run.get("code") else str(run["outcome"])
    stage = str(run.get("stage", ""))
    if stage != "waiting":
        return stage
    words, polls = "waiting for Microsoft", run.get("polls") or 0
    if polls:
        words += f", looked {polls} time{'s' if polls != 1 else ''}"
    if run.get("next_check_at"):
        left = (datetime.fromisoformat(run["next_check_at"]) - now).total_seconds()
        words += f", next in {left:.0f} s" if left >= 1 else ", next at once"
    return words


def blobs_of(run: Run) -> str:
    """>>> blobs_of({"blobs": {"total": 6, "landed": 4, "failed": 1}}), blobs_of({"blobs": {"total": 0, "landed": 0, "failed": 0}})
    ('4/6, 1 failed', '')
    """
    blobs = run.get("blobs") or {}
    if not blobs.get("total"):
        return ""
    return f"{blobs.get('landed', 0)}/{blobs['total']}" + (
        f", {blobs['failed']} failed" if blobs.get("failed") else ""
    )


class Rates:
    """Bytes a second of each run, between the last two looks at which it had moved on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}
        self._rates: dict[str, float] = {}

    def of(self, run: Run) -> float | None:
        run_id, now, count = str(run["run_id"]), self._clock(), int(run.get("bytes") or 0)
        before = self._seen.setdefault(run_id, (now, count))
        if count > before[1] and now > before[0]:
            self._rates[run_id] = (count - before[1]) / (now - before[0])
            self._seen[run_id] = (now, count)
        return None if run.get("outcome") else self._rates.get(run_id)


class Progress:
    """`with Progress(console) as progress:` and `progress.show(runs)` at every look."""

    def __init__(
        self, console: Console, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._console, self._now, self._rates = console, now, Rates()
        self._live: Live | None = None
        self._told: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, runs: Sequence[Run]) -> None:
        if not self._console.is_terminal:
            for run in runs:
                self._tell(run)
            return
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(self.table(runs), refresh=True)

    def table(self, runs: Sequence[Run]) -> Table:
        """The runs as they are now; `show` keeps it up to date in a terminal."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for title in ("dataset", "scope", "stage"):
            table.add_column(title)
        for title in ("blobs", "bytes", "rate"):
            table.add_column(title, justify="right")
        for run in runs:
            rate = self._rates.of(run)
            table.add_row(
                str(run["dataset"]),
                scope_of(run),
                said(run, self._now()),
                blobs_of(run),
                size(run["bytes"]) if run.get("bytes") else "",
                f"{size(rate)}/s" if rate else "",
                style=style_of(run),
            )
        return table

    def _tell(self, run: Run) -> None:
        """One line when the stage or the outcome is another than before."""
        state = str(run.get("outcome") or run.get("stage"))
        if self._told.get(str(run["run_id"])) == state:
            return
        self._told[str(run["run_id"])] = state
        done = "  ".join(
            part for part in (blobs_of(run), size(run["bytes"]) if run.get("bytes") else "") if part
        )
        line = f"{run['dataset']:<24}{scope_of(run):<14}{said(run, self._now()):<12}{done}"
        self._console.print(line.rstrip(), highlight=False, markup=False, soft_wrap=True)


def counted(body: Mapping[str, Any]) -> str:
    """A backfill in one line.

    >>> counted({"planned": 36, "landed": 12, "no_data": 1, "not_served": 0, "failed": 0, "waiting": 23,
    ...          "estimated_end": "2026-11-21T10:00:00Z"})
    '36 planned: 12 landed, 1 no data, 23 to go, until about 2026-11-21T10:00:00Z'
    """
    parts = [
        f"{body.get(name) or 0} {word}"
        for name, word in COUNTS
        if body.get(name) or name == "landed"
    ]
    end = f", until about {body['estimated_end']}" if body.get("estimated_end") else ""
    return f"{body.get('planned') or 0} planned: {', '.join(parts)}{end}"


class Counts:
    """How far a backfill is, as Progress shows runs: a line that keeps itself up to date, or one at every change."""

    def __init__(self, console: Console) -> None:
        self._console, self._last = console, ""
        self._live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, body: Mapping[str, Any]) -> None:
        line = counted(body)
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
    if not run.get("outcome"):
        return ""
    return "green" if run["outcome"] in GOOD else "red"
