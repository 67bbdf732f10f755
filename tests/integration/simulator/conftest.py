"""Simulators for the tests of this folder."""

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from local.azurite import Azurite
from local.simulator import BillingStorage, NoStorage, Simulator
from tests.integration.simulator.caller import Caller
from tests.support.clocks import MidMonthClock


@pytest.fixture
def simulator(azurite: Azurite) -> Simulator:
    """With blobs in the emulator."""
    return Simulator(
        storage=BillingStorage(azurite.billing.connection_string), clock=MidMonthClock()
    )


@pytest.fixture
def base_url(simulator: Simulator) -> Iterator[str]:
    with simulator.serving() as base_url:
        yield base_url


@pytest.fixture
def talker() -> Simulator:
    """Without blobs: for tests that only talk to Graph and Partner Center."""
    return Simulator(storage=NoStorage(), clock=MidMonthClock())


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


@pytest.fixture
async def caller(talker: Simulator, session: aiohttp.ClientSession) -> AsyncIterator[Caller]:
    with talker.serving() as base_url:
        yield Caller(session, base_url)
