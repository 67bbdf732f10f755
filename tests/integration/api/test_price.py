"""What a run costs in requests to the tables: each is written down, so that one more is a decision."""

from collections import Counter

import pytest

from local.simulator.behaviour import Behaviour
from local.simulator.faults import FaultResponse, Match
from tests.integration.api.counted import Requests
from tests.support.world import World

BEFORE = {"GET locks": 1, "POST locks": 1, "POST runs": 1}  # the starter
FOR_EACH_ACTIVITY = {"GET runs": 1, "GET locks": 1}  # may it go on?


def cost(*parts: tuple[int, dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for times, part in parts:
        for what, count in part.items():
            total[what] += times * count
    return {what: count for what, count in total.items() if count}


@pytest.mark.parametrize("looks", [0, 3])
def test_a_run_that_lands(world: World, requests: Requests, looks: int) -> None:
    world.simulator.behaviour = Behaviour(ready_after_polls=looks, retry_after_seconds=20)
    world.get("/api/status")
    world.host.advance_to(world.clock.now())
    requests.reset()
    run_id = world.start("unbilled_usage", billing_month="last" if looks else "current")
    world.host.wait(run_id)
    seen = dict(requests.seen)
    run = world.get(f"/api/runs/{run_id}")
    blobs = run["blobs"]["total"]
    assert run["outcome"] == "landed" and run["polls"] == looks + 1 and 0 < blobs <= 100
    throttle = (
        seen.pop("GET locks")
        - cost(
            (1, BEFORE),
            (1, FOR_EACH_ACTIVITY),  # claim_run
            (2, FOR_EACH_ACTIVITY),  # start_export, before the POST and behind it
            (looks + 1, FOR_EACH_ACTIVITY),
            (1, FOR_EACH_ACTIVITY),
            (1, FOR_EACH_ACTIVITY),
            (blobs, FOR_EACH_ACTIVITY),
            (1, FOR_EACH_ACTIVITY),
            (1, {"GET locks": 1}),
        )["GET locks"]
    )  # check_operation, plan, page, copy, commit, record
    assert 1 <= throttle <= looks + 2  # Graph's throttle, which is looked up every half minute
    assert seen == cost(
        (1, {"POST locks": 1, "POST runs": 1}),
        (1, {"GET runs": 1}),  # claim_run: the starter has done it all
        (2, {"GET runs": 1}),
        (2, {"PATCH runs": 1}),  # posting, then its operation: a crash between the two is counted
        (looks + 1, {"GET runs": 1, "PATCH runs": 1}),  # each look: one write
        (
            1,
            {"GET runs": 1, "GET versions": 2, "POST versions": 1, "GET blobs": 1, "PATCH runs": 1},
        ),  # plan_copy
        (1, {"GET runs": 1}),  # read_page
        (
            blobs,
            {"GET runs": 1, "GET blobs": 1, "POST $batch": 1},
        ),  # a blob an activity, its row by one transaction
        (
            1,
            {
                "GET runs": 1,
                "PATCH runs": 1,
                "GET versions": 2,
                "GET blobs": 1,
                "PATCH versions": 2,
            },
        ),  # commit_version
        (1, {"GET versions": 1}),  # what the landed version is compared with, for the alarm
        (
            1,
            {
                "GET runs": 1,
                "GET versions": 2,
                "PATCH runs": 1,
                "GET catalogue": 1,
                "POST catalogue": 1,
                "PUT locks": 1,
            },
        ),
    )


def test_a_look_that_fails_is_one_write_too(world: World, requests: Requests) -> None:
    world.simulator.behaviour = Behaviour(ready_after_polls=0, retry_after_seconds=20)
    world.simulator.faults.add(Match(operation="poll", nth=(1, 2)), FaultResponse(status=503))
    world.simulator.faults.add(Match(operation="start", nth=(1,)), FaultResponse(status=503))
    requests.reset()
    run_id = world.start("unbilled_reconciliation")
    world.host.run_until(lambda: world.run_row(run_id).version or None)
    run = world.run_row(run_id)
    assert run.posts == 2 and run.polls == 3 and run.last_code == "graph_unavailable"
    assert (
        requests.seen["PATCH runs"] == 2 + 2 + 3 + 1
    )  # two POSTs, what came of them, three looks, the plan
    world.finish(run_id)
