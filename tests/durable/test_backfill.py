"""Backfills: planning, concurrency, host restarts, cancellation, unavailable months and gaps."""

import asyncio
import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local.simulator.behaviour import Behaviour
from tests.support.in_memory import SMALL, InMemoryEnvironment

BEHAVIOUR = Behaviour(ready_after_polls=0)
THREE_YEARS = dataclasses.replace(SMALL, invoice_months=36, customers=1)
START = datetime(2027, 1, 10, 6, 0, tzinfo=UTC)
REQUEST = {"from": "2024-01", "to": "2026-12", "datasets": ["billed_usage"]}


def open_environment(**options: Any) -> InMemoryEnvironment:
    return InMemoryEnvironment(
        **{"behaviour": BEHAVIOUR, "partner": THREE_YEARS, "start": START, **options}
    )


def finish(env: InMemoryEnvironment, backfill_id: str) -> dict[str, Any]:
    env.host.wait(backfill_id, 300)
    return dict(env.get(f"/api/backfills/{backfill_id}"))


def landed_keys(env: InMemoryEnvironment) -> list[str]:
    return sorted(path for path in env.landed_files() if path.endswith("latest.json"))


@contextmanager
def block_nth_call(env: InMemoryEnvironment, name: str, call: int) -> Iterator[threading.Event]:
    """Block the nth call of an activity until the test kills its host.

    The event is set when that call starts.
    """
    reached, calls = threading.Event(), 0
    function = env.host.functions.find(name)
    assert function is not None

    async def wrapped(**arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            reached.set()
            await asyncio.Event().wait()
        return await function.call(**arguments)

    with env.host.functions.override(name, call=wrapped):
        yield reached


@pytest.mark.parametrize(
    "activity", ["start_export", "commit_version", "record_outcome", "check_backfill"]
)
def test_backfill_host_killed_at_17th_of_36_invoices_lands_36_keys(
    tmp_path: Path, activity: str
) -> None:
    with open_environment(state_dir=tmp_path) as env:
        backfill_id = env.post("/api/backfills", REQUEST)["backfill_id"]
        with block_nth_call(env, activity, 17) as reached:
            env.host.run_until(reached.is_set, 120)
            env.restart()
        end = finish(env, backfill_id)
        assert (end["planned"], end["landed"], end["failed"], end["waiting"]) == (36, 36, 0, 0)
        assert len(landed_keys(env)) == 36
        # The restart can repeat one request of each lane, if its activity was running.
        lanes = env.app.settings.export_parallelism
        assert len(env.simulator.requests_of("start")) <= 36 + lanes


def test_backfill_with_parallelism_limit_runs_at_most_that_many_exports() -> None:
    slow = Behaviour(ready_after_polls=0, ready_after_seconds=600, retry_after_seconds=600)
    with open_environment(behaviour=slow, EXPORT_PARALLELISM="3") as env:
        backfill_id = env.post("/api/backfills", {**REQUEST, "from": "2026-04"})["backfill_id"]
        env.host.advance(timedelta(minutes=5))
        progress = env.get(f"/api/backfills/{backfill_id}")
        assert (
            len(env.simulator.requests_of("start")) == 3
            and progress["waiting"] == 9 == progress["planned"]
        )
        env.host.advance(timedelta(minutes=8))
        assert env.get(f"/api/backfills/{backfill_id}")["estimated_end"] > "2027-01-10T06:30:00Z"
        end = finish(env, backfill_id)
        assert (end["state"], end["landed"], end["estimated_end"], end["outcomes"]) == (
            "ended",
            9,
            None,
            {"landed": 9},
        )


def test_second_backfill_requests_only_missing_keys() -> None:
    with open_environment() as env:
        finish(env, env.post("/api/backfills", {**REQUEST, "from": "2026-10"})["backfill_id"])
        before = len(env.simulator.requests_of("start"))
        again = finish(
            env, env.post("/api/backfills", {**REQUEST, "from": "2026-09"})["backfill_id"]
        )
        assert (again["planned"], again["landed_before"], again["landed"]) == (4, 3, 4)
        assert len(env.simulator.requests_of("start")) == before + 1


def test_backfill_of_old_unbilled_months_reports_not_served_without_requests() -> None:
    with open_environment() as env:
        body = {"from": "2026-10", "to": "2027-01", "datasets": ["billed_usage", "unbilled_usage"]}
        end = finish(env, env.post("/api/backfills", body)["backfill_id"])
        assert (end["planned"], end["landed"], end["not_served"], end["failed"]) == (7, 5, 2, 0)
        assert len(env.simulator.requests_of("start")) == 5
        gaps = env.get("/api/gaps?from=2026-09&to=2027-01&datasets=billed_usage,unbilled_usage")[
            "gaps"
        ]
        assert {(gap["dataset"], gap["billing_month"]): gap["state"] for gap in gaps} == {
            ("billed_usage", "2026-09"): "never_tried",
            ("billed_usage", "2026-10"): "landed",
            ("billed_usage", "2026-11"): "landed",
            ("billed_usage", "2026-12"): "landed",
            ("billed_usage", "2027-01"): "never_tried",
            ("unbilled_usage", "2026-09"): "not_served",
            ("unbilled_usage", "2026-10"): "not_served",
            ("unbilled_usage", "2026-11"): "not_served",
            ("unbilled_usage", "2026-12"): "landed",
            ("unbilled_usage", "2027-01"): "landed",
        }


def test_backfill_with_failures_reports_failed_and_no_data_counts() -> None:
    with open_environment() as env:
        env.simulator.behaviour = Behaviour(ready_after_polls=0, operation_end="failed_5000")
        end = finish(env, env.post("/api/backfills", {**REQUEST, "from": "2026-12"})["backfill_id"])
        assert (end["no_data"], end["failed"]) == (1, 0)
        env.simulator.behaviour = Behaviour(ready_after_polls=0, permission="denied")
        end = finish(env, env.post("/api/backfills", {**REQUEST, "from": "2026-11"})["backfill_id"])
        assert (end["planned"], end["failed"], end["outcomes"]) == (2, 2, {"failed": 2})
        [november, december] = env.get("/api/gaps?from=2026-11&to=2026-12&datasets=billed_usage")[
            "gaps"
        ]
        assert (
            november["state"] == december["state"] == "failed"
            and november["keys"][0]["code"] == "graph_forbidden"
        )


def test_cancelled_backfill_starts_no_new_runs_and_keeps_landed_exports() -> None:
    slow = Behaviour(ready_after_polls=0, ready_after_seconds=600, retry_after_seconds=600)
    with open_environment(behaviour=slow, EXPORT_PARALLELISM="2") as env:
        backfill_id = env.post("/api/backfills", {**REQUEST, "from": "2026-03"})["backfill_id"]
        env.host.advance(timedelta(minutes=12))
        cancelled = env.post(f"/api/backfills/{backfill_id}/cancel")
        assert cancelled["cancel_requested_at"] and cancelled["landed"] == 2
        end = finish(env, backfill_id)
        assert end["state"] == "ended" and end["outcomes"] == {"landed": 2, "cancelled": 8}
        assert len(env.simulator.requests_of("start")) == 4
        assert (
            env.post(f"/api/backfills/{backfill_id}/cancel", status=409)["code"] == "backfill_ended"
        )


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"from", "to"}),
        ({"from": "2026-1", "to": "last"}, {"from", "to"}),
        ({"from": "2026-12", "to": "2026-11"}, {"to"}),
        ({"from": "2022-08", "to": "2027-01"}, {"from"}),
        ({"from": "2026-12", "to": "2027-02"}, {"to"}),
        ({"from": "2026-12", "to": "2026-12", "datasets": []}, {"datasets"}),
        ({"from": 1, "to": None, "datasets": "all", "x": 1}, {"from", "to", "datasets", "x"}),
        ({"from": "2026-12", "to": "2026-12", "datasets": ["usage"]}, {"datasets"}),
    ],
)
def test_backfill_request_with_invalid_fields_reports_each_field(
    body: dict[str, Any], fields: set[str]
) -> None:
    with open_environment() as env:
        problem = env.post("/api/backfills", body, status=400)
        assert (
            problem["code"] == "request_invalid"
            and {error["field"] for error in problem["errors"]} == fields
        )
        assert env.simulator.requests == ()


@pytest.mark.parametrize(
    "query",
    ["from=2022-01", "to=2027-02", "datasets=usage", "month=2026-12", "from=2027-01&to=2026-01"],
)
def test_gaps_with_invalid_query_returns_400(query: str) -> None:
    with open_environment() as env:
        assert env.get(f"/api/gaps?{query}", status=400)["code"] == "request_invalid"


def test_get_backfill_with_unknown_id_returns_404() -> None:
    with open_environment() as env:
        for backfill_id in ("backfill-20270110t060000z-aaaa", "nonsense", "cycle-20270110t060000z"):
            assert env.get(f"/api/backfills/{backfill_id}", status=404)["code"] == "not_found"
