"""Sixty days across a year's end on the schedule alone, and seven of them on the real storage emulator."""

from datetime import UTC, datetime

import pytest

from local.azurite import Azurite
from tests.support.in_memory import MemoryWorld, settled_hourly
from tests.support.world import World
from tests.support.year import CALM, Story, landed, partner, told

SIXTY = Story(datetime(2026, 11, 21, 6, 0, tzinfo=UTC), 60, ("USD", "EUR"))
SEVEN = Story(datetime(2026, 12, 5, 6, 0, tzinfo=UTC), 7, ("USD", "EUR"))


def hold(story: Story, world: World, spare: int = 0) -> None:
    assert landed(world) == story.expected(world)
    said = told(world)
    assert set(said.outcomes) <= {"landed", "unchanged", "no_data", "superseded", "timed_out"}, said
    assert said.outcomes["landed"] == sum(len(ages) for ages in story.expected(world).values())
    assert said.requests <= said.budget + spare, said
    assert said.refused <= 4 * 3 * 48 + said.outcomes.total(), (
        said
    )  # an hour between two looks of a lane, for two days


def test_sixty_days_across_a_years_end() -> None:
    with MemoryWorld(
        start=SIXTY.start, partner=partner(*SIXTY.currencies), behaviour=CALM, timers=True
    ) as world:
        SIXTY.play(world)
        hold(SIXTY, world)
        assert {key.split("/")[1][:7] for key in landed(world) if key.startswith("unbilled")} == {
            "2026-10",
            "2026-11",
            "2026-12",
            "2027-01",
        }
        assert (
            told(world).outcomes["timed_out"] > 0
        )  # there was an outage, and it left no trace in what is landed


def test_seven_of_them_on_the_emulator(azurite: Azurite) -> None:
    with (
        settled_hourly(),
        World(
            azurite,
            start=SEVEN.start,
            behaviour=CALM,
            timers=True,
            simulated_partner=partner(*SEVEN.currencies),
            INVOICE_SOURCE="partner_center",
            EXPORT_CURRENCIES="",
        ) as world,
    ):
        SEVEN.play(world)
        # signatures are of real time there, and the app's clock is weeks ahead: a landing may fetch its manifest once more
        hold(SEVEN, world, spare=told(world).outcomes["landed"])


@pytest.mark.long
def test_a_year_in_three_currencies() -> None:
    story = Story(datetime(2026, 11, 21, 6, 0, tzinfo=UTC), 365, ("USD", "EUR", "GBP"))
    with MemoryWorld(
        start=story.start, partner=partner(*story.currencies), behaviour=CALM, timers=True
    ) as world:
        story.play(world, seconds=3_600)
        hold(story, world)
