"""The table requests of a run. The numbers are explicit, so that a new request is noticed."""

from collections import Counter

import pytest

from local.simulator.behaviour import Behaviour
from local.simulator.faults import FaultResponse, Match
from tests.integration.api.request_counter import RequestCounter
from tests.support.app_environment import AppEnvironment

Requests = dict[str, int]

START_RUN: Requests = {"GET locks": 1, "POST locks": 2, "POST runs": 1}
# Each activity reads the run and its lock first.
ACTIVITY: Requests = {"GET runs": 1, "GET locks": 1}


def add_up(*items: tuple[int, Requests]) -> Requests:
    """Return the sum of (count, requests) items."""
    total: Counter[str] = Counter()
    for count, requests in items:
        for name, number in requests.items():
            total[name] += count * number
    return {name: number for name, number in total.items() if number}


@pytest.mark.parametrize("waiting_polls", [0, 3])
def test_run_that_lands_sends_the_expected_table_requests(
    env: AppEnvironment, request_counter: RequestCounter, waiting_polls: int
) -> None:
    polls = waiting_polls + 1
    env.simulator.behaviour = Behaviour(ready_after_polls=waiting_polls, retry_after_seconds=20)
    env.get("/api/status")
    env.host.advance_to(env.clock.now())
    request_counter.reset()
    month = "last" if waiting_polls else "current"
    run_id = env.start("unbilled_usage", billing_month=month)
    env.host.wait(run_id)
    requests = dict(request_counter.seen)
    run = env.get(f"/api/runs/{run_id}")
    blobs = run["blobs"]["total"]
    assert (run["outcome"], run["polls"]) == ("landed", polls)
    assert 0 < blobs <= 100

    lock_requests = add_up(
        (1, START_RUN),
        (1, ACTIVITY),  # claim_run
        (2, ACTIVITY),  # start_export, before and after the export request
        (polls, ACTIVITY),  # check_operation
        (1, ACTIVITY),  # plan_copy
        (1, ACTIVITY),  # read_page
        (blobs, ACTIVITY),  # copy_blobs
        (1, ACTIVITY),  # commit_version
        (1, {"GET locks": 1}),  # record_outcome
    )["GET locks"]
    # The other requests read the throttle of Microsoft Graph, at most once in 30 seconds.
    assert 1 <= requests.pop("GET locks") - lock_requests <= polls + 1
    assert requests == add_up(
        (1, {"POST locks": 2, "POST runs": 1}),  # start_run: the lock, the open item, the run
        (1, {"GET runs": 1}),  # claim_run
        (2, {"GET runs": 1, "PATCH runs": 1}),  # start_export: the stage, then the operation
        (polls, {"GET runs": 1, "PATCH runs": 1}),  # check_operation
        (
            1,
            {
                "GET runs": 1,
                "GET versions": 2,  # of the previous month, then of the key
                "POST versions": 1,
                "GET blobs": 1,
                "PATCH runs": 1,
            },
        ),  # plan_copy
        (1, {"GET runs": 1}),  # read_page
        (blobs, {"GET runs": 1, "GET blobs": 1, "POST $batch": 1}),  # copy_blobs
        (
            1,
            {
                "GET runs": 1,
                "PATCH runs": 1,
                "GET versions": 3,  # the row, the previous version, the number of latest.json
                "GET blobs": 1,
                "PATCH versions": 2,
            },
        ),  # commit_version
        (1, {"GET versions": 1}),  # the comparison with the previous version, for the alert
        (
            1,
            {
                "GET runs": 1,
                "GET versions": 2,
                "PATCH runs": 1,
                "GET catalogue": 1,
                "POST catalogue": 1,
                "PUT locks": 1,
                "DELETE locks": 1,
            },
        ),  # record_outcome
    )


def test_failed_poll_sends_one_write(env: AppEnvironment, request_counter: RequestCounter) -> None:
    env.simulator.behaviour = Behaviour(ready_after_polls=0, retry_after_seconds=20)
    env.simulator.faults.add(Match(operation="poll", nth=(1, 2)), FaultResponse(status=503))
    env.simulator.faults.add(Match(operation="start", nth=(1,)), FaultResponse(status=503))
    request_counter.reset()
    run_id = env.start("unbilled_reconciliation")
    env.host.run_until(lambda: env.run_row(run_id).version or None)
    run = env.run_row(run_id)
    assert (run.posts, run.polls, run.last_code) == (2, 3, "graph_unavailable")
    writes_per_post, plan_writes = 2, 1
    assert request_counter.seen["PATCH runs"] == 2 * writes_per_post + 3 + plan_writes
    env.finish(run_id)
