"""Sixty days across a year's end on the schedule alone, and seven of them on the real storage emulator."""

from datetime import UTC, datetime

import pytest

from local.azurite import Azurite
from tests.support.app_environment import AppEnvironment
from tests.support.in_memory import InMemoryEnvironment, hourly_orphan_cleanup
from tests.support.year import (
    IMMEDIATE,
    Scenario,
    count_requests,
    create_partner,
    list_landed_versions,
)

SIXTY = Scenario(datetime(2026, 11, 21, 6, 0, tzinfo=UTC), 60, ("USD", "EUR"))
SEVEN = Scenario(datetime(2026, 12, 5, 6, 0, tzinfo=UTC), 7, ("USD", "EUR"))


def hold(story: Scenario, env: AppEnvironment, spare: int = 0) -> None:
    assert list_landed_versions(env) == story.expected(env)
    said = count_requests(env)
    assert set(said.outcomes) <= {"landed", "unchanged", "no_data", "superseded", "timed_out"}, said
    assert said.outcomes["landed"] == sum(len(ages) for ages in story.expected(env).values())
    assert said.requests <= said.budget + spare, said
    assert said.refused <= 4 * 3 * 48 + said.outcomes.total(), (
        said
    )  # an hour between two looks of a lane, for two days


def test_sixty_days_across_a_years_end() -> None:
    with InMemoryEnvironment(
        start=SIXTY.start,
        partner=create_partner(*SIXTY.currencies),
        behaviour=IMMEDIATE,
        timers=True,
    ) as env:
        SIXTY.run(env)
        hold(SIXTY, env)
        assert {
            key.split("/")[1][:7] for key in list_landed_versions(env) if key.startswith("unbilled")
        } == {
            "2026-10",
            "2026-11",
            "2026-12",
            "2027-01",
        }
        assert (
            count_requests(env).outcomes["timed_out"] > 0
        )  # there was an outage, and it left no trace in what is landed


def test_seven_of_them_on_the_emulator(azurite: Azurite) -> None:
    with (
        hourly_orphan_cleanup(),
        AppEnvironment(
            azurite,
            start=SEVEN.start,
            behaviour=IMMEDIATE,
            timers=True,
            simulated_partner=create_partner(*SEVEN.currencies),
            INVOICE_SOURCE="partner_center",
            EXPORT_CURRENCIES="",
        ) as env,
    ):
        SEVEN.run(env)
        # signatures are of real time there, and the app's clock is weeks ahead: a landing may fetch
        # its manifest once more
        hold(SEVEN, env, spare=count_requests(env).outcomes["landed"])


@pytest.mark.long
def test_a_year_in_three_currencies() -> None:
    story = Scenario(datetime(2026, 11, 21, 6, 0, tzinfo=UTC), 365, ("USD", "EUR", "GBP"))
    with InMemoryEnvironment(
        start=story.start,
        partner=create_partner(*story.currencies),
        behaviour=IMMEDIATE,
        timers=True,
    ) as env:
        story.run(env, seconds=3_600)
        hold(story, env)
