"""Runs that land each dataset completely, new versions, and long waits for the export operation."""

from datetime import timedelta
from itertools import pairwise

import pytest

from local.azurite import Azurite
from local.simulator.behaviour import Behaviour
from shared.clock import parse_iso
from tests.support.app_environment import START, AppEnvironment


def test_cycle_lands_all_four_datasets(azurite: Azurite) -> None:
    with AppEnvironment(azurite) as env:
        cycle = env.post("/api/cycles")
        env.host.wait(cycle["cycle_id"], 120)
        ended = env.get(f"/api/cycles/{cycle['cycle_id']}")
        assert ended["state"] == "ended"
        assert ended["outcomes"] == {"landed": len(env.simulator.export_keys())}
        assert sorted(run["key"] for run in ended["runs"]) == sorted(env.simulator.export_keys())
        for key in env.simulator.export_keys():
            env.assert_landed(key)
        billed = [run["dataset"].startswith("billed") for run in ended["runs"]]
        assert billed == sorted(billed, reverse=True)  # billed keys first


def test_run_with_same_data_is_unchanged_and_writes_no_version_files(azurite: Azurite) -> None:
    with AppEnvironment(azurite) as env:
        first = env.land()
        files = env.landed_files()
        second = env.land()
        assert (first["outcome"], second["outcome"]) == ("landed", "unchanged")
        assert second["version"] == first["version"]
        assert {path for path in env.landed_files() if not path.startswith("runs/")} == {
            path for path in files if not path.startswith("runs/")
        }


def test_run_with_restated_data_lands_new_version_and_keeps_old_version(azurite: Azurite) -> None:
    with AppEnvironment(azurite) as env:
        first = env.land()
        env.simulator.restate(first["key"])
        env.host.advance(timedelta(days=1))
        second = env.land()
        assert second["outcome"] == "landed" and second["version"] != first["version"]
        env.assert_landed(first["key"])
        assert any(path.startswith(first["path"] + "/") for path in env.landed_files())


@pytest.mark.parametrize("early_timers", [False, True])
def test_run_with_retry_after_for_twelve_hours_waits_full_duration(
    azurite: Azurite, early_timers: bool
) -> None:
    behaviour = Behaviour(
        ready_after_polls=0, ready_after_seconds=12 * 3600, retry_after_seconds=900
    )
    with AppEnvironment(azurite, behaviour=behaviour, early_timers=early_timers) as env:
        end = env.land("unbilled_usage")
        assert end["outcome"] == "landed"
        assert parse_iso(end["ended_at"]) - START >= timedelta(hours=12)
        poll_times = sorted({request.clock for request in env.simulator.requests_of("poll")})
        # The last wait covers only the remaining time. All other waits are at least Retry-After.
        assert len(poll_times) >= 48
        assert all(
            later - earlier >= timedelta(seconds=900)
            for earlier, later in pairwise(poll_times[:-1])
        )
        assert len(env.simulator.requests_of("start")) == 1
