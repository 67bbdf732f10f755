"""One World for the tier, with something landed, something failed and something live."""

from collections.abc import Iterator

import pytest

from local.azurite import Azurite
from local.simulator.behaviour import Behaviour
from tests.integration.api.counted import Requests, counted_world
from tests.support.world import World


@pytest.fixture(scope="session")
def requests() -> Requests:
    return Requests()


@pytest.fixture(scope="module")
def world(azurite: Azurite, requests: Requests) -> Iterator[World]:
    with counted_world(
        azurite, requests, behaviour=Behaviour(retry_after_seconds=20), storage_proxy=True
    ) as world:
        yield world
