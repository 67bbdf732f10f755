"""Simulators and HTTP clients for the tests in this folder."""

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from local.azurite import Azurite
from local.simulator import BillingStorage, NoStorage, Simulator
from tests.integration.simulator.caller import Caller
from tests.support.clocks import MidMonthClock


@pytest.fixture
def simulator(azurite: Azurite) -> Simulator:
    """A simulator with blobs in the emulator."""
    return Simulator(
        storage=BillingStorage(azurite.billing.connection_string), clock=MidMonthClock()
    )


@pytest.fixture
def base_url(simulator: Simulator) -> Iterator[str]:
    with simulator.serving() as base_url:
        yield base_url


@pytest.fixture
def simulator_without_blobs() -> Simulator:
    """A simulator without blobs, for tests that use only Graph and Partner Center."""
    return Simulator(storage=NoStorage(), clock=MidMonthClock())


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


@pytest.fixture
async def caller(
    simulator_without_blobs: Simulator, session: aiohttp.ClientSession
) -> AsyncIterator[Caller]:
    with simulator_without_blobs.serving() as base_url:
        yield Caller(session, base_url)
