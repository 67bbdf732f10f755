"""The main job: every dataset, landed whole."""

from datetime import timedelta
from itertools import pairwise

import pytest

from local.azurite import Azurite
from local.simulator.behaviour import Behaviour
from shared.clock import parse_iso
from tests.support.world import START, World


def test_a_cycle_lands_all_four_datasets(azurite: Azurite) -> None:
    with World(azurite) as world:
        cycle = world.post("/api/cycles")
        world.host.wait(cycle["cycle_id"], 120)
        ended = world.get(f"/api/cycles/{cycle['cycle_id']}")
        assert ended["state"] == "ended"
        assert ended["outcomes"] == {"landed": len(world.simulator.export_keys())}
        assert sorted(run["key"] for run in ended["runs"]) == sorted(world.simulator.export_keys())
        for key in world.simulator.export_keys():
            world.assert_whole(key)
        billed = [run["dataset"].startswith("billed") for run in ended["runs"]]
        assert billed == sorted(billed, reverse=True)  # billed keys first


def test_the_same_data_again_is_unchanged_and_moves_no_byte(azurite: Azurite) -> None:
    with World(azurite) as world:
        first = world.land()
        files = world.landed_files()
        second = world.land()
        assert (first["outcome"], second["outcome"]) == ("landed", "unchanged")
        assert second["version"] == first["version"]
        assert {path for path in world.landed_files() if not path.startswith("runs/")} == {
            path for path in files if not path.startswith("runs/")
        }


def test_restated_data_become_a_new_version_beside_the_old(azurite: Azurite) -> None:
    with World(azurite) as world:
        first = world.land()
        world.simulator.restate(first["key"])
        world.host.advance(timedelta(days=1))
        second = world.land()
        assert second["outcome"] == "landed" and second["version"] != first["version"]
        world.assert_whole(first["key"])
        assert any(path.startswith(first["path"] + "/") for path in world.landed_files())


@pytest.mark.parametrize("early_timers", [False, True])
def test_twelve_hours_of_retry_after_are_waited_out_in_full(
    azurite: Azurite, early_timers: bool
) -> None:
    behaviour = Behaviour(
        ready_after_polls=0, ready_after_seconds=12 * 3600, retry_after_seconds=900
    )
    with World(azurite, behaviour=behaviour, early_timers=early_timers) as world:
        end = world.land("unbilled_usage")
        assert end["outcome"] == "landed"
        assert parse_iso(end["ended_at"]) - START >= timedelta(hours=12)
        looks = sorted({request.clock for request in world.simulator.requests_of("poll")})
        # the last wait is what was left; before it, none is shorter than asked
        assert len(looks) >= 48
        assert all(
            later - earlier >= timedelta(seconds=900) for earlier, later in pairwise(looks[:-1])
        )
        assert len(world.simulator.requests_of("start")) == 1
