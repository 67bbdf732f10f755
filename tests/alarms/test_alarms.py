"""Each alert fires and is resolved as documented, for the recording and for derived scenarios."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from tests.alarms.kusto import (
    ALERTS,
    Workspace,
    list_queries,
    read_query,
    run_query,
    set_parameters,
)
from tests.alarms.recording import Trace, load_recording

RECORDING = load_recording()
NORMAL_MORNING = datetime(2026, 12, 12, 8, tzinfo=UTC)  # a Saturday without failures
BILLED = {"billed_usage", "billed_reconciliation"}
UNBILLED = {"unbilled_usage", "unbilled_reconciliation"}


def get_traces_until(now: datetime) -> list[Trace]:
    return [trace for trace in RECORDING if trace.at <= now]


def find_newest(event: str, **fields: Any) -> Trace:
    """Return the newest matching event before the normal morning."""
    return next(
        trace
        for trace in reversed(get_traces_until(NORMAL_MORNING))
        if trace.fields["event"] == event
        and all(trace.fields.get(name) == value for name, value in fields.items())
    )


def find_first(event: str) -> Trace:
    return next(trace for trace in RECORDING if trace.fields["event"] == event)


def create_trace(template: Trace, at: datetime, **changes: Any) -> Trace:
    """Return a copy of a trace with a different time and different fields."""
    return Trace(at, template.with_fields(**changes).message)


def get_column(
    alarm: str, traces: Iterable[Trace], now: datetime, column: str, **parameters: str | int
) -> list[Any]:
    """Return one column of the rows for which an alert fires."""
    query = set_parameters(read_query(alarm), **parameters)
    return [row[column] for row in run_query(query, traces, now)]


def remove_events(
    traces: Iterable[Trace], is_removed: Callable[[dict[str, Any]], bool]
) -> list[Trace]:
    return [trace for trace in traces if not is_removed(trace.fields)]


# Recording


@pytest.mark.parametrize("name", list_queries(ALERTS))
def test_alarm_on_normal_morning_does_not_fire(name: str) -> None:
    assert run_query(read_query(name), RECORDING, NORMAL_MORNING) == []


# Alerts for the Microsoft outage: time at which each fires and is resolved, to the hour.
OUTAGE = {
    "silence": (datetime(2026, 12, 14, 12, tzinfo=UTC), datetime(2026, 12, 16, 6, tzinfo=UTC)),
    "deadline-near": (datetime(2026, 12, 15, 7, tzinfo=UTC), datetime(2026, 12, 15, 9, tzinfo=UTC)),
    "preflight-failed": (
        datetime(2026, 12, 15, 4, tzinfo=UTC),
        datetime(2026, 12, 17, 4, tzinfo=UTC),
    ),
    "run-failed": (datetime(2026, 12, 15, 9, tzinfo=UTC), datetime(2026, 12, 16, 6, tzinfo=UTC)),
}


@pytest.mark.parametrize("name", list_queries(ALERTS))
def test_alarm_in_three_weeks_fires_only_for_outage(name: str) -> None:
    """The query runs every morning, and more often around the outage."""
    start = datetime(2026, 11, 30, 8, tzinfo=UTC)
    hours = [start + timedelta(hours=hour) for hour in range(21 * 24 + 21)]
    evaluations = [
        hour
        for hour in hours
        if hour.hour == 8 or (14 <= hour.day <= 17 and hour.hour in (3, 4, 5, 6, 7, 9, 11, 12))
    ]
    with closing(Workspace(RECORDING)) as workspace:
        fired = [hour for hour in evaluations if workspace.run(read_query(name), hour)]
    if name not in OUTAGE:
        assert fired == []
        return
    resolved = evaluations[evaluations.index(fired[-1]) + 1]
    assert (fired[0], resolved) == OUTAGE[name]
    indexes = [evaluations.index(hour) for hour in fired]
    assert all(later - earlier == 1 for earlier, later in pairwise(indexes)), "several incidents"


# run-failed


@pytest.mark.parametrize(
    ("outcome", "fires"),
    [
        ("failed", True),
        ("incomplete", True),
        ("timed_out", True),
        ("landed", False),
        ("unchanged", False),
        ("no_data", False),
        ("superseded", False),
        ("cancelled", False),
    ],
)
def test_run_failed_fires_for_failed_outcomes_only(outcome: str, fires: bool) -> None:
    ended = create_trace(
        find_newest("run_ended"),
        NORMAL_MORNING,
        event_id="r/ended/1",
        run_id="r",
        outcome=outcome,
        code="graph_forbidden",
        remedy="Grant it.",
    )
    traces = [*get_traces_until(NORMAL_MORNING), ended, ended.shifted(seconds=-5)]
    rows = run_query(read_query("run-failed"), traces, NORMAL_MORNING)
    assert [(row["run_id"], row["outcome"], row["remedy"]) for row in rows] == (
        [("r", outcome, "Grant it.")] if fires else []
    )


@pytest.mark.parametrize(
    ("later_outcome", "fires"),
    [("landed", False), ("unchanged", False), ("superseded", True), ("cancelled", True)],
)
def test_run_failed_resolves_when_later_run_succeeds(later_outcome: str, fires: bool) -> None:
    ended = find_newest("run_ended")
    failed_at = NORMAL_MORNING - timedelta(hours=2)
    runs = [
        create_trace(ended, failed_at, event_id="a/ended/1", run_id="a", outcome="failed"),
        create_trace(
            ended, NORMAL_MORNING, event_id="b/ended/1", run_id="b", outcome=later_outcome
        ),
    ]
    traces = [*get_traces_until(NORMAL_MORNING - timedelta(hours=3)), *runs]
    assert get_column("run-failed", traces, NORMAL_MORNING, "run_id") == (["a"] if fires else [])


def test_run_failed_with_success_of_other_key_fires() -> None:
    other = create_trace(
        find_newest("run_ended", key="unbilled_usage/2026-12/USD/full"),
        NORMAL_MORNING,
        event_id="o/ended/1",
        key="unbilled_usage/2026-12/EUR/full",
        outcome="failed",
    )
    traces = [*get_traces_until(NORMAL_MORNING), other]
    assert get_column("run-failed", traces, NORMAL_MORNING, "key") == [
        "unbilled_usage/2026-12/EUR/full"
    ]


# silence


@pytest.mark.parametrize("dataset", sorted(BILLED | UNBILLED))
def test_silence_without_events_of_dataset_fires_for_it(dataset: str) -> None:
    traces = remove_events(
        RECORDING,
        lambda fields: (
            fields.get("dataset") == dataset or str(fields.get("key", "")).startswith(f"{dataset}/")
        ),
    )
    assert get_column("silence", traces, NORMAL_MORNING, "dataset") == [dataset]


def test_silence_without_logs_fires_for_all_datasets() -> None:
    assert set(get_column("silence", [], NORMAL_MORNING, "dataset")) == BILLED | UNBILLED


@pytest.mark.parametrize(("hours", "fires"), [(25, False), (29, False), (31, True), (47, True)])
def test_silence_after_schedule_stops_fires_after_threshold(hours: int, fires: bool) -> None:
    traces = get_traces_until(NORMAL_MORNING)
    last_end = max(trace.at for trace in traces if trace.fields["event"] == "run_ended")
    now = last_end + timedelta(hours=hours)
    assert bool(get_column("silence", traces, now, "dataset")) is fires
    assert not get_column("silence", traces, now, "dataset", silence_hours=48)


@pytest.mark.parametrize(
    "outcome", ["failed", "incomplete", "timed_out", "superseded", "cancelled"]
)
def test_silence_with_unsuccessful_runs_fires(outcome: str) -> None:
    traces = [
        create_trace(trace, trace.at, outcome=outcome)
        if trace.fields["event"] == "run_ended" and "unbilled_usage" in trace.fields["key"]
        else trace
        for trace in get_traces_until(NORMAL_MORNING)
    ]
    assert get_column("silence", traces, NORMAL_MORNING, "dataset") == ["unbilled_usage"]


def test_silence_without_due_exports_does_not_fire() -> None:
    """At the end of a month, there might be no due billed key for days; the cycle reports this."""
    now = datetime(2026, 12, 29, 8, tzinfo=UTC)
    plans = [
        create_trace(
            find_newest("dataset_planned", dataset=dataset),
            now - timedelta(hours=3),
            event_id=f"c/planned-{dataset}/1",
            due=due,
            not_due=2,
        )
        for dataset, due in (("billed_usage", 0), ("billed_reconciliation", 1))
    ]
    datasets = "billed_usage,billed_reconciliation"
    assert get_column("silence", plans, now, "dataset", datasets=datasets) == [
        "billed_reconciliation"
    ]


def test_silence_with_nothing_due_because_partner_center_rejects_the_app_fires() -> None:
    """Without the invoice list, a cycle does not know whether an export is due."""
    now = datetime(2026, 12, 29, 8, tzinfo=UTC)
    plans = [
        create_trace(
            find_newest("dataset_planned", dataset=dataset),
            now - timedelta(hours=3),
            event_id=f"c/planned-{dataset}/1",
            due=0,
            incomplete=incomplete,
        )
        for dataset, incomplete in (("billed_usage", True), ("billed_reconciliation", False))
    ]
    datasets = "billed_usage,billed_reconciliation"
    assert get_column("silence", plans, now, "dataset", datasets=datasets) == ["billed_usage"]


def create_unbilled_pause(day: int, *, last_month_billed: bool | None) -> list[Trace]:
    """Return a day on which unbilled runs time out and billed runs succeed.

    The plans contain `last_month_billed`. If it is None, there are no plans.
    """
    now = datetime(2026, 12, day, 8, tzinfo=UTC)
    runs = [
        create_trace(
            find_newest("run_ended"),
            now - timedelta(hours=2),
            event_id=f"{dataset}/ended/1",
            key=f"{dataset}/x/full",
            outcome="timed_out" if dataset in UNBILLED else "unchanged",
        )
        for dataset in BILLED | UNBILLED
    ]
    if last_month_billed is None:
        return runs
    plans = [
        create_trace(
            find_newest("dataset_planned"),
            now - timedelta(hours=3),
            event_id=f"c/planned-{dataset}/1",
            dataset=dataset,
            due=1,
            last_month_billed=last_month_billed,
        )
        for dataset in BILLED | UNBILLED
    ]
    return runs + plans


@pytest.mark.parametrize(
    ("day", "last_month_billed", "fires"),
    [
        # Microsoft might pause unbilled data until last month is billed, but not after day 10.
        (1, False, False),
        (5, False, False),
        (10, False, False),
        (11, False, True),
        (28, False, True),
        # Last month is billed, so there is no reason for a pause.
        (2, True, True),
        (10, True, True),
        (11, True, True),
        # Without a plan, timer-missed fires instead.
        (5, None, False),
        (11, None, True),
    ],
)
def test_silence_of_unbilled_datasets_depends_on_billing_of_last_month(
    day: int, last_month_billed: bool | None, fires: bool
) -> None:
    now = datetime(2026, 12, day, 8, tzinfo=UTC)
    traces = create_unbilled_pause(day, last_month_billed=last_month_billed)
    assert set(get_column("silence", traces, now, "dataset")) == (UNBILLED if fires else set())


def test_silence_ignores_billing_reported_in_previous_month() -> None:
    """On the last evening of November, October has been billed; in December, November has not."""
    now = datetime(2026, 12, 1, 8, tzinfo=UTC)
    pause = create_unbilled_pause(1, last_month_billed=True)
    traces = [trace.shifted(hours=-12) for trace in pause]
    assert set(get_column("silence", traces, now, "dataset", silence_hours=12)) == BILLED


def test_silence_excludes_datasets_that_are_not_exported() -> None:
    datasets = get_column("silence", [], NORMAL_MORNING, "dataset", datasets="billed_usage")
    assert datasets == ["billed_usage"]


# pending


RUN_REQUESTED = create_trace(
    find_first("run_requested"), NORMAL_MORNING, run_id="r", event_id="r/requested/1"
)
CYCLE_STARTED = create_trace(
    find_newest("cycle_started"), NORMAL_MORNING, cycle_id="c", event_id="c/started/1"
)
REQUEST_OF_EVENT = {
    "run_started": RUN_REQUESTED,
    "start_delayed": RUN_REQUESTED,
    "run_ended": RUN_REQUESTED,
    "dataset_planned": CYCLE_STARTED,
    "cycle_delayed": CYCLE_STARTED,
    "cycle_ended": CYCLE_STARTED,
}


@pytest.mark.parametrize(
    ("request_trace", "id"), [(RUN_REQUESTED, "r"), (CYCLE_STARTED, "c")], ids=["run", "cycle"]
)
@pytest.mark.parametrize(("minutes", "fires"), [(14, False), (16, True), (600, True)])
def test_pending_without_start_fires_after_threshold(
    request_trace: Trace, id: str, minutes: int, fires: bool
) -> None:
    duplicate = request_trace.shifted(seconds=20)
    traces = [*get_traces_until(NORMAL_MORNING), request_trace, duplicate]
    now = NORMAL_MORNING + timedelta(minutes=minutes)
    assert get_column("pending", traces, now, "id") == ([id] if fires else [])


@pytest.mark.parametrize("event", REQUEST_OF_EVENT)
def test_pending_with_any_later_event_resolves(event: str) -> None:
    request_trace = REQUEST_OF_EVENT[event]
    ids = {"run_id": "r"} if request_trace is RUN_REQUESTED else {"cycle_id": "c"}
    later = create_trace(
        find_first(event), NORMAL_MORNING + timedelta(minutes=20), event_id="x/1", **ids
    )
    now = NORMAL_MORNING + timedelta(minutes=30)
    assert get_column("pending", [request_trace], now, "id") != []
    assert get_column("pending", [request_trace, later], now, "id") == []


# deadline-near


@pytest.mark.parametrize(
    ("hours", "fires"),
    [(-30, True), (-1, True), (1, True), (1.9, True), (2.1, False), (20, False)],
)
def test_deadline_near_fires_until_run_ends(hours: float, fires: bool) -> None:
    """Every wait repeats the deadline, because the start event might be more than two days old."""
    waiting = create_trace(
        find_first("operation_waiting"),
        NORMAL_MORNING - timedelta(hours=1),
        event_id="w/waiting/7",
        run_id="w",
        deadline=(NORMAL_MORNING + timedelta(hours=hours)).isoformat(),
    )
    traces = [*get_traces_until(NORMAL_MORNING), waiting]
    assert get_column("deadline-near", traces, NORMAL_MORNING, "run_id") == (["w"] if fires else [])
    ended = create_trace(
        find_newest("run_ended"),
        NORMAL_MORNING,
        run_id="w",
        event_id="w/ended/1",
        outcome="landed",
    )
    assert get_column("deadline-near", [*traces, ended], NORMAL_MORNING, "run_id") == []


# copy-failures


def create_copies(planned: Sequence[int], failed: int) -> list[Trace]:
    """Return copy rounds with the given numbers of planned blobs and duplicated failed blobs."""
    plans = [
        create_trace(
            find_newest("copy_planned"),
            NORMAL_MORNING - timedelta(minutes=30 - number),
            run_id="m",
            key="k",
            blobs=blobs,
            event_id=f"m/planned/{number}",
        )
        for number, blobs in enumerate(planned)
    ]
    failures = [
        create_trace(
            find_first("blob_failed"),
            NORMAL_MORNING - timedelta(minutes=20),
            run_id="m",
            key="k",
            event_id=f"m/blob-{number:08}/1",
        )
        for number in range(failed)
    ]
    duplicates = [failure.shifted(seconds=9) for failure in failures]
    return plans + failures + duplicates


@pytest.mark.parametrize(
    ("planned", "failed", "fires"),
    [
        ([100], 0, False),
        ([100], 5, False),
        ([100], 6, True),
        ([100, 6], 6, True),
        ([200, 6], 6, False),
        ([19], 19, False),
        ([20], 2, True),
    ],
)
def test_copy_failures_above_percentage_fires(planned: list[int], failed: int, fires: bool) -> None:
    traces = [*get_traces_until(NORMAL_MORNING), *create_copies(planned, failed)]
    rows = run_query(read_query("copy-failures"), traces, NORMAL_MORNING)
    assert [(row["run_id"], row["planned"], row["failed"], row["code"]) for row in rows] == (
        [("m", sum(planned), failed, "source_missing")] if fires else []
    )


# unusual-size


@pytest.mark.parametrize(
    ("fields", "fires"),
    [
        ({}, False),
        ({"rows": 51}, False),
        ({"rows": 49}, True),
        ({"rows": 0}, True),
        ({"rows": 300}, False),
        ({"rows": 301}, True),
        ({"bytes": 400}, True),
        ({"bytes": 3100}, True),
        ({"rows": 1, "compared": 2}, False),
        ({"rows": 1, "compared": 0, "rows_mean": None, "bytes_mean": None}, False),
        ({"rows_mean": 0.0}, False),
    ],
)
def test_unusual_size_outside_range_of_mean_fires(fields: dict[str, Any], fires: bool) -> None:
    usual = {"rows": 100, "bytes": 1000, "rows_mean": 100.0, "bytes_mean": 1000.0, "compared": 7}
    landed = create_trace(
        find_newest("version_landed"),
        NORMAL_MORNING,
        event_id="v/landed/1",
        key="k",
        version="v",
        **(usual | fields),
    )
    traces = [*get_traces_until(NORMAL_MORNING), landed, landed.shifted(seconds=-9)]
    assert get_column("unusual-size", traces, NORMAL_MORNING, "version") == (["v"] if fires else [])


def test_unusual_size_resolves_with_version_of_usual_size() -> None:
    landed = find_newest("version_landed", key="unbilled_usage/2026-12/USD/full")
    small_at = NORMAL_MORNING - timedelta(hours=5)
    small = create_trace(landed, small_at, event_id="v/landed/1", rows=1, compared=7)
    usual = create_trace(landed, NORMAL_MORNING, event_id="w/landed/1")
    assert get_column("unusual-size", [small], NORMAL_MORNING, "rows") == [1]
    assert get_column("unusual-size", [small, usual], NORMAL_MORNING, "rows") == []


# preflight-failed and timer-missed


@pytest.mark.parametrize(
    ("status", "failed", "checks"),
    [
        ("fail", "graph,tables", ["graph", "tables"]),
        ("fail", "graph", ["graph"]),
        ("warn", None, []),
        ("pass", None, []),
    ],
)
def test_preflight_failed_fires_for_each_check_until_next_pass(
    status: str, failed: str | None, checks: list[str]
) -> None:
    preflight = create_trace(
        find_newest("preflight"),
        NORMAL_MORNING,
        event_id="preflight/x",
        status=status,
        failed=failed,
        codes="graph_forbidden",
    )
    traces = [*get_traces_until(NORMAL_MORNING), preflight]
    assert sorted(get_column("preflight-failed", traces, NORMAL_MORNING, "check")) == checks
    later = NORMAL_MORNING + timedelta(hours=1)
    passed = create_trace(preflight, later, event_id="preflight/y", status="pass", failed=None)
    assert get_column("preflight-failed", [*traces, passed], later, "check") == []


@pytest.mark.parametrize(
    ("event", "timer"), [("cycle_started", "schedule"), ("preflight", "preflight")]
)
def test_timer_missed_without_event_of_timer_fires_after_threshold(event: str, timer: str) -> None:
    never = remove_events(get_traces_until(NORMAL_MORNING), lambda fields: fields["event"] == event)
    assert get_column("timer-missed", never, NORMAL_MORNING, "timer") == [timer]
    last = find_newest(event).at
    stopped = [trace for trace in RECORDING if trace.at <= last or trace.fields["event"] != event]
    assert get_column("timer-missed", stopped, last + timedelta(hours=25), "timer") == []
    assert timer in get_column("timer-missed", stopped, last + timedelta(hours=27), "timer")


def test_timer_missed_ignores_cycles_that_users_start() -> None:
    traces = [
        create_trace(trace, trace.at, requested_by="function-key")
        if trace.fields["event"] == "cycle_started"
        else trace
        for trace in get_traces_until(NORMAL_MORNING)
    ]
    assert get_column("timer-missed", traces, NORMAL_MORNING, "timer") == ["schedule"]


def test_timer_missed_without_logs_fires_for_all_timers() -> None:
    timers = get_column("timer-missed", [], NORMAL_MORNING, "timer")
    assert sorted(timers) == ["preflight", "schedule"]


# tie-out


def test_tie_out_follows_the_newest_comparison_of_an_invoice() -> None:
    """It fires for a difference, and resolves when the listed total or the data matches."""
    template = find_newest("invoice_compared", status="tied_out")
    traces = [*get_traces_until(NORMAL_MORNING)]
    for number, (status, fires) in enumerate(
        [
            ("off_by", True),
            ("off_by", True),
            ("no_total", False),
            ("off_by", True),
            ("tied_out", False),
        ]
    ):
        compared = create_trace(
            template,
            NORMAL_MORNING - timedelta(minutes=10 - number),
            event_id=f"e/{number}",
            status=status,
            difference="-12.30" if fires else None,
        )
        traces += [compared, compared.shifted(seconds=-1)]
        rows = run_query(read_query("tie-out"), traces, NORMAL_MORNING)
        assert [(row["key"], row["version"], row["difference"]) for row in rows] == (
            [(template.fields["key"], template.fields["version"], "-12.30")] if fires else []
        )
