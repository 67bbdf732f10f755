"""Two deployments on one landing account: other task hubs, the same tables, one lock for each key."""

import asyncio
from datetime import timedelta
from typing import Any

from local.simulator.behaviour import Behaviour
from shared.exports import ExportKey
from shared.ledger.claims import claim, create_run
from shared.ledger.keys import random_suffix
from shared.ledger.keys import run_id as run_id_of
from shared.ledger.outcomes import InstanceState, clean_up_orphaned_runs
from shared.messages import RunRequest
from shared.planning.due import run_limits
from shared.services import Services
from shared.settings import load_settings
from tests.support.world import World

KEY = "unbilled_usage/2026-11/USD/full"


def other_hub(world: World) -> Services:
    return Services(
        load_settings({**world.environment(), "TASK_HUB_NAME": "Elsewhere"}), world.app.clock
    )


def export_request(world: World, app: Services) -> RunRequest:
    now = world.clock.now()
    return {
        "run_id": run_id_of(ExportKey.parse(KEY), now, random_suffix()),
        "key": KEY,
        "force": False,
        "limits": run_limits(app.settings, now),
    }


async def look(run_id: str) -> InstanceState:
    return "unknown"  # to the other hub's engine every run of this one is


def test_of_fifty_from_two_hubs_one_has_the_key(world: World) -> None:
    other = other_hub(world)

    async def both() -> list[Any]:
        wanted = [
            (app, export_request(world, app)) for app in (world.app, other) for _ in range(25)
        ]
        return await asyncio.gather(
            *(
                claim(app.ledger, create_run(request, world.clock.now()), leave_trace=False)
                for app, request in wanted
            )
        )

    answers = world.on_loop(both())
    assert sorted(answer["status"] for answer in answers) == ["claimed"] + ["superseded"] * 49
    lock = world.on_loop(world.app.ledger.locks.get(KEY))
    assert lock is not None and {answer.get("live_run_id", lock.run_id) for answer in answers} == {
        lock.run_id
    }
    world.on_loop(world.app.ledger.locks.release(KEY, lock.run_id))
    world.on_loop(other.close())


def test_a_live_run_of_one_hub_is_shown_by_the_other_and_settled_when_its_lease_has_passed(
    world: World,
) -> None:
    other = other_hub(world)
    request = export_request(world, other)
    world.on_loop(claim(other.ledger, create_run(request, world.clock.now())))
    answer = world.post(
        "/api/runs",
        {"dataset": "unbilled_usage", "billing_month": "current", "currency_code": "USD"},
    )
    assert not answer["started"] and answer["run_id"] == request["run_id"]
    assert [run["task_hub"] for run in world.get("/api/status")["live_runs"]] == ["Elsewhere"]
    lock = world.on_loop(other.ledger.locks.get(KEY))
    assert lock is not None
    world.host.advance(timedelta(minutes=59))
    assert world.on_loop(clean_up_orphaned_runs(world.app.ledger, look)) == []
    world.host.advance(
        timedelta(minutes=6)
    )  # a lease of an hour has passed; the timer looks every five minutes
    assert world.on_loop(clean_up_orphaned_runs(world.app.ledger, look)) == [request["run_id"]]
    run = world.get(f"/api/runs/{request['run_id']}")
    assert (run["outcome"], run["code"]) == ("failed", "run_lost") and run["remedy"]
    world.simulator.behaviour = Behaviour(ready_after_polls=0)
    assert world.land("unbilled_usage")["outcome"] == "landed"
    world.on_loop(other.close())
