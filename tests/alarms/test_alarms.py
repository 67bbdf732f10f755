"""When each alarm speaks and when it does not: over the recorded weeks, and over nights that are made of recorded events."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from tests.alarms.engine import ALERTS, Workspace, names, query, run, set_to
from tests.alarms.recording import Trace, recorded

RECORDED = recorded()
CALM = datetime(2026, 12, 12, 8, tzinfo=UTC)  # a Saturday on which all went well
BILLED, UNBILLED = (
    {"billed_usage", "billed_reconciliation"},
    {"unbilled_usage", "unbilled_reconciliation"},
)


def until(now: datetime) -> list[Trace]:
    return [trace for trace in RECORDED if trace.at <= now]


def first(event: str, **facts: Any) -> Trace:
    """The newest such event before the calm morning."""
    return next(
        trace
        for trace in reversed(until(CALM))
        if trace.facts["event"] == event
        and all(trace.facts.get(name) == value for name, value in facts.items())
    )


def at(trace: Trace, moment: datetime, **changes: Any) -> Trace:
    return Trace(moment, trace.saying(**changes).message)


def told(
    name: str, traces: Iterable[Trace], now: datetime, column: str, **values: str | int
) -> list[Any]:
    return [row[column] for row in run(set_to(query(name), **values), traces, now)]


def without(traces: Iterable[Trace], gone: Callable[[dict[str, Any]], bool]) -> list[Trace]:
    return [trace for trace in traces if not gone(trace.facts)]


# -- the recorded weeks


@pytest.mark.parametrize("name", names(ALERTS))
def test_a_calm_morning_is_quiet(name: str) -> None:
    assert run(query(name), RECORDED, CALM) == []


OUTAGE = {  # two days without Microsoft: when each alarm began to speak and when it was quiet again, to the hour
    "silence": (datetime(2026, 12, 14, 12, tzinfo=UTC), datetime(2026, 12, 16, 6, tzinfo=UTC)),
    "deadline-near": (datetime(2026, 12, 15, 7, tzinfo=UTC), datetime(2026, 12, 15, 9, tzinfo=UTC)),
    "doctor-red": (datetime(2026, 12, 15, 4, tzinfo=UTC), datetime(2026, 12, 17, 4, tzinfo=UTC)),
    "run-failed": (datetime(2026, 12, 15, 9, tzinfo=UTC), datetime(2026, 12, 16, 6, tzinfo=UTC)),
}


@pytest.mark.parametrize("name", names(ALERTS))
def test_three_weeks_have_one_incident_and_no_false_alarm(name: str) -> None:
    """Looked at every morning, and every hour around the beginnings and ends of the outage."""
    hours = [
        datetime(2026, 11, 30, 8, tzinfo=UTC) + timedelta(hours=hour)
        for hour in range(21 * 24 + 21)
    ]
    looks = [
        hour
        for hour in hours
        if hour.hour == 8 or (14 <= hour.day <= 17 and hour.hour in (3, 4, 5, 6, 7, 9, 11, 12))
    ]
    with closing(Workspace(RECORDED)) as workspace:
        spoke = [moment for moment in looks if workspace.run(query(name), moment)]
    if name not in OUTAGE:
        assert spoke == []
        return
    began, ended = OUTAGE[name]
    assert (spoke[0], looks[looks.index(spoke[-1]) + 1]) == (began, ended)
    assert all(
        looks.index(later) - looks.index(sooner) == 1 for sooner, later in pairwise(spoke)
    ), "one incident, not several"


# -- run-failed


@pytest.mark.parametrize(
    ("outcome", "speaks"),
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
def test_a_run_that_failed(outcome: str, speaks: bool) -> None:
    ended = first("run_ended")
    bad = at(
        ended,
        CALM,
        event_id="r/ended/1",
        run_id="r",
        outcome=outcome,
        code="graph_forbidden",
        remedy="Grant it.",
    )
    found = run(query("run-failed"), [*until(CALM), bad, bad.moved(seconds=-5)], CALM)
    assert [(row["run_id"], row["outcome"], row["remedy"]) for row in found] == (
        [("r", outcome, "Grant it.")] if speaks else []
    )


@pytest.mark.parametrize(
    ("later", "speaks"),
    [("landed", False), ("unchanged", False), ("superseded", True), ("cancelled", True)],
)
def test_it_is_quiet_when_the_key_lands_after_all(later: str, speaks: bool) -> None:
    ended = first("run_ended")
    night = [
        at(ended, CALM - timedelta(hours=2), event_id="a/ended/1", run_id="a", outcome="failed"),
        at(ended, CALM, event_id="b/ended/1", run_id="b", outcome=later),
    ]
    assert told("run-failed", [*until(CALM - timedelta(hours=3)), *night], CALM, "run_id") == (
        ["a"] if speaks else []
    )


def test_a_key_does_not_speak_for_another() -> None:
    ended = first("run_ended", key="unbilled_usage/2026-12/USD/full")
    other = at(
        ended, CALM, event_id="o/ended/1", key="unbilled_usage/2026-12/EUR/full", outcome="failed"
    )
    assert told("run-failed", [*until(CALM), other], CALM, "key") == [
        "unbilled_usage/2026-12/EUR/full"
    ]


# -- silence


def spoken(dataset: str) -> Callable[[dict[str, Any]], bool]:
    return lambda facts: (
        facts.get("dataset") == dataset or str(facts.get("key", "")).startswith(f"{dataset}/")
    )


@pytest.mark.parametrize("dataset", sorted(BILLED | UNBILLED))
def test_a_dataset_of_which_nothing_is_heard(dataset: str) -> None:
    assert told("silence", without(RECORDED, spoken(dataset)), CALM, "dataset") == [dataset]


def test_all_are_silent_where_there_is_no_log_at_all() -> None:
    assert set(told("silence", [], CALM, "dataset")) == BILLED | UNBILLED


@pytest.mark.parametrize(("hours", "speaks"), [(25, False), (29, False), (31, True), (47, True)])
def test_n_hours_after_the_last_good_sign(hours: int, speaks: bool) -> None:
    """The schedule stopped: nothing is said any more."""
    last = max(trace.at for trace in until(CALM) if trace.facts["event"] == "run_ended")
    assert bool(told("silence", until(CALM), last + timedelta(hours=hours), "dataset")) is speaks
    assert not told(
        "silence", until(CALM), last + timedelta(hours=hours), "dataset", silence_hours=48
    )


@pytest.mark.parametrize(
    "outcome", ["failed", "incomplete", "timed_out", "superseded", "cancelled"]
)
def test_what_is_not_good_is_no_sign(outcome: str) -> None:
    ended = [
        at(trace, trace.at, outcome=outcome)
        if trace.facts["event"] == "run_ended" and "unbilled_usage" in trace.facts["key"]
        else trace
        for trace in until(CALM)
    ]
    assert told("silence", ended, CALM, "dataset") == ["unbilled_usage"]


def test_settled_invoices_rest_for_a_week_and_that_is_no_silence() -> None:
    """At the end of a month no billed key may be due for days: the cycle says so."""
    late = datetime(2026, 12, 29, 8, tzinfo=UTC)
    rests = [
        at(
            first("dataset_planned", dataset=dataset),
            late - timedelta(hours=3),
            event_id=f"c/planned-{dataset}/1",
            due=due,
            not_due=2,
        )
        for dataset, due in (("billed_usage", 0), ("billed_reconciliation", 1))
    ]
    assert told(
        "silence", rests, late, "dataset", datasets="billed_usage,billed_reconciliation"
    ) == ["billed_reconciliation"]


def pause(day: int, *, billed: bool | None) -> list[Trace]:
    """Unbilled exports that end without anything good since the month turned; billed ones go on. `billed`: what the plan says."""
    now = datetime(2026, 12, day, 8, tzinfo=UTC)
    runs = [
        at(
            first("run_ended"),
            now - timedelta(hours=2),
            event_id=f"{dataset}/ended/1",
            key=f"{dataset}/x/full",
            outcome="timed_out" if dataset in UNBILLED else "unchanged",
        )
        for dataset in BILLED | UNBILLED
    ]
    plans = (
        [
            at(
                first("dataset_planned"),
                now - timedelta(hours=3),
                event_id=f"c/planned-{dataset}/1",
                dataset=dataset,
                due=1,
                last_month_billed=billed,
            )
            for dataset in BILLED | UNBILLED
        ]
        if billed is not None
        else []
    )
    return runs + plans


@pytest.mark.parametrize(
    ("day", "billed", "speaks"),
    [
        (1, False, False),
        (5, False, False),
        (10, False, False),  # Microsoft may have stopped them: the month is not billed yet
        (11, False, True),
        (28, False, True),  # too long for that
        (2, True, True),
        (10, True, True),
        (11, True, True),  # last month's billed usage is here: no reason to be silent
        (5, None, False),
        (11, None, True),
    ],
)  # no cycle has said anything: the timer's alarm speaks of that
def test_unbilled_is_quiet_until_the_month_before_is_billed(
    day: int, billed: bool | None, speaks: bool
) -> None:
    now = datetime(2026, 12, day, 8, tzinfo=UTC)
    assert set(told("silence", pause(day, billed=billed), now, "dataset")) == (
        UNBILLED if speaks else set()
    )


def test_what_was_billed_before_the_month_turned_does_not_count() -> None:
    """On the last evening October was billed; of November nothing is."""
    now = datetime(2026, 12, 1, 8, tzinfo=UTC)
    evening = [trace.moved(hours=-12) for trace in pause(1, billed=True)]
    assert set(told("silence", evening, now, "dataset", silence_hours=12)) == BILLED


def test_only_the_datasets_that_are_exported() -> None:
    assert told("silence", [], CALM, "dataset", datasets="billed_usage") == ["billed_usage"]


# -- pending


REQUESTED = Trace(
    CALM,
    next(trace for trace in RECORDED if trace.facts["event"] == "run_requested")
    .saying(run_id="r", event_id="r/requested/1")
    .message,
)
TICK = at(first("cycle_started"), CALM, cycle_id="c", event_id="c/started/1")
SIGNS = {
    "run_started": REQUESTED,
    "start_delayed": REQUESTED,
    "run_ended": REQUESTED,
    "dataset_planned": TICK,
    "cycle_delayed": TICK,
    "cycle_ended": TICK,
}


@pytest.mark.parametrize(("asked", "id"), [(REQUESTED, "r"), (TICK, "c")], ids=["run", "cycle"])
@pytest.mark.parametrize(("minutes", "speaks"), [(14, False), (16, True), (600, True)])
def test_what_was_asked_for_and_has_not_begun(
    asked: Trace, id: str, minutes: int, speaks: bool
) -> None:
    night = [*until(CALM), asked, asked.moved(seconds=20)]
    assert told("pending", night, CALM + timedelta(minutes=minutes), "id") == (
        [id] if speaks else []
    )


@pytest.mark.parametrize("sign", SIGNS)
def test_any_sign_of_life_will_do(sign: str) -> None:
    asked = SIGNS[sign]
    life = next(trace for trace in RECORDED if trace.facts["event"] == sign)
    ids = {"run_id": "r"} if asked is REQUESTED else {"cycle_id": "c"}
    begun = at(life, CALM + timedelta(minutes=20), event_id="x/1", **ids)
    assert told("pending", [asked], CALM + timedelta(minutes=30), "id") != []
    assert told("pending", [asked, begun], CALM + timedelta(minutes=30), "id") == []


# -- deadline-near


def waiting(deadline: datetime, run_id: str = "w") -> Trace:
    polled = next(trace for trace in RECORDED if trace.facts["event"] == "operation_waiting")
    return at(
        polled,
        CALM - timedelta(hours=1),
        event_id=f"{run_id}/waiting/7",
        run_id=run_id,
        deadline=deadline.isoformat(),
    )


@pytest.mark.parametrize(
    ("hours", "speaks"),
    [(-30, True), (-1, True), (1, True), (1.9, True), (2.1, False), (20, False)],
)
def test_a_run_near_its_deadline(hours: float, speaks: bool) -> None:
    """The start of a run of two weeks is out of sight: each wait says the deadline again."""
    traces = [*until(CALM), waiting(CALM + timedelta(hours=hours))]
    assert told("deadline-near", traces, CALM, "run_id") == (["w"] if speaks else [])
    ended = at(first("run_ended"), CALM, run_id="w", event_id="w/ended/1", outcome="landed")
    assert told("deadline-near", [*traces, ended], CALM, "run_id") == []


# -- copy-failures


def copying(planned: Sequence[int], failed: int) -> list[Trace]:
    lost = next(trace for trace in RECORDED if trace.facts["event"] == "blob_failed")
    plans = [
        at(
            first("copy_planned"),
            CALM - timedelta(minutes=30 - number),
            run_id="m",
            key="k",
            blobs=blobs,
            event_id=f"m/planned/{number}",
        )
        for number, blobs in enumerate(planned)
    ]
    blobs = [
        at(
            lost,
            CALM - timedelta(minutes=20),
            run_id="m",
            key="k",
            event_id=f"m/blob-{number:08}/1",
        )
        for number in range(failed)
    ]
    return (
        plans + blobs + [blob.moved(seconds=9) for blob in blobs]
    )  # each said twice, by an activity that was repeated


@pytest.mark.parametrize(
    ("planned", "failed", "speaks"),
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
def test_too_many_copies_that_fail(planned: list[int], failed: int, speaks: bool) -> None:
    found = run(query("copy-failures"), [*until(CALM), *copying(planned, failed)], CALM)
    assert [(row["run_id"], row["planned"], row["failed"], row["code"]) for row in found] == (
        [("m", sum(planned), failed, "source_missing")] if speaks else []
    )


# -- size-off


@pytest.mark.parametrize(
    ("facts", "speaks"),
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
def test_a_version_off_the_trailing_mean(facts: dict[str, Any], speaks: bool) -> None:
    usual = {"rows": 100, "bytes": 1000, "rows_mean": 100.0, "bytes_mean": 1000.0, "compared": 7}
    landed = at(
        first("version_landed"),
        CALM,
        event_id="v/landed/1",
        key="k",
        version="v",
        **(usual | facts),
    )
    assert told("size-off", [*until(CALM), landed, landed.moved(seconds=-9)], CALM, "version") == (
        ["v"] if speaks else []
    )


def test_a_later_version_that_is_as_usual_ends_it() -> None:
    landed = first("version_landed", key="unbilled_usage/2026-12/USD/full")
    small = at(landed, CALM - timedelta(hours=5), event_id="v/landed/1", rows=1, compared=7)
    assert told("size-off", [small], CALM, "rows") == [1]
    assert told("size-off", [small, at(landed, CALM, event_id="w/landed/1")], CALM, "rows") == []


# -- doctor-red, timer-missed


@pytest.mark.parametrize(
    ("status", "failed", "speaks"),
    [
        ("fail", "graph,tables", ["graph", "tables"]),
        ("fail", "graph", ["graph"]),
        ("warn", None, []),
        ("pass", None, []),
    ],
)
def test_the_doctors_newest_look(status: str, failed: str | None, speaks: list[str]) -> None:
    look = at(
        first("preflight"),
        CALM,
        event_id="preflight/x",
        status=status,
        failed=failed,
        codes="graph_forbidden",
    )
    assert sorted(told("doctor-red", [*until(CALM), look], CALM, "check")) == speaks
    healed = at(look, CALM + timedelta(hours=1), event_id="preflight/y", status="pass", failed=None)
    assert (
        told("doctor-red", [*until(CALM), look, healed], CALM + timedelta(hours=1), "check") == []
    )


@pytest.mark.parametrize(
    ("event", "timer"), [("cycle_started", "schedule"), ("preflight", "doctor")]
)
def test_a_timer_that_stopped(event: str, timer: str) -> None:
    stopped = without(until(CALM), lambda facts: facts["event"] == event)
    assert told("timer-missed", stopped, CALM, "timer") == [timer]
    last = first(event).at
    before = [trace for trace in RECORDED if trace.at <= last or trace.facts["event"] != event]
    assert told("timer-missed", before, last + timedelta(hours=25), "timer") == []
    assert timer in told("timer-missed", before, last + timedelta(hours=27), "timer")


def test_a_round_by_hand_is_no_timer() -> None:
    by_hand = [
        at(trace, trace.at, requested_by="function-key")
        if trace.facts["event"] == "cycle_started"
        else trace
        for trace in until(CALM)
    ]
    assert told("timer-missed", by_hand, CALM, "timer") == ["schedule"]


def test_an_app_that_is_down_is_told_without_any_log() -> None:
    assert sorted(told("timer-missed", [], CALM, "timer")) == ["doctor", "schedule"]
