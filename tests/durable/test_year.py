"""Tests for long periods of scheduled cycles, in memory and with the storage emulator."""

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

SIXTY_DAYS = Scenario(datetime(2026, 11, 21, 6, 0, tzinfo=UTC), 60, ("USD", "EUR"))
SEVEN_DAYS = Scenario(datetime(2026, 12, 5, 6, 0, tzinfo=UTC), 7, ("USD", "EUR"))


def assert_scenario(scenario: Scenario, env: AppEnvironment, extra_requests: int = 0) -> None:
    assert list_landed_versions(env) == scenario.expected(env)
    counts = count_requests(env)
    assert set(counts.outcomes) <= {"landed", "unchanged", "no_data", "superseded", "timed_out"}, (
        counts
    )
    assert counts.outcomes["landed"] == sum(len(ages) for ages in scenario.expected(env).values())
    assert counts.requests <= counts.budget + extra_requests, counts
    # Each lane polls once per hour for two days.
    assert counts.refused <= 4 * 3 * 48 + counts.outcomes.total(), counts


def test_scenario_sixty_days_across_a_year_end_lands_expected_versions() -> None:
    with InMemoryEnvironment(
        start=SIXTY_DAYS.start,
        partner=create_partner(*SIXTY_DAYS.currencies),
        behaviour=IMMEDIATE,
        timers=True,
    ) as env:
        SIXTY_DAYS.run(env)
        assert_scenario(SIXTY_DAYS, env)
        assert {
            key.split("/")[1][:7] for key in list_landed_versions(env) if key.startswith("unbilled")
        } == {
            "2026-10",
            "2026-11",
            "2026-12",
            "2027-01",
        }
        # The scenario contains an outage, which does not affect the landed versions.
        assert count_requests(env).outcomes["timed_out"] > 0


def test_scenario_seven_days_on_the_emulator_lands_expected_versions(azurite: Azurite) -> None:
    with (
        hourly_orphan_cleanup(),
        AppEnvironment(
            azurite,
            start=SEVEN_DAYS.start,
            behaviour=IMMEDIATE,
            timers=True,
            simulated_partner=create_partner(*SEVEN_DAYS.currencies),
            INVOICE_SOURCE="partner_center",
            EXPORT_CURRENCIES="",
        ) as env,
    ):
        SEVEN_DAYS.run(env)
        # The emulator checks signatures against real time, and the app's clock is weeks ahead.
        # Therefore, a run might request its manifest once more.
        assert_scenario(SEVEN_DAYS, env, extra_requests=count_requests(env).outcomes["landed"])


@pytest.mark.long
def test_scenario_one_year_in_three_currencies_lands_expected_versions() -> None:
    scenario = Scenario(datetime(2026, 11, 21, 6, 0, tzinfo=UTC), 365, ("USD", "EUR", "GBP"))
    with InMemoryEnvironment(
        start=scenario.start,
        partner=create_partner(*scenario.currencies),
        behaviour=IMMEDIATE,
        timers=True,
    ) as env:
        scenario.run(env, seconds=3_600)
        assert_scenario(scenario, env)
