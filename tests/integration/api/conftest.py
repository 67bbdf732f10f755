"""An app for each module, whose table requests are counted."""

from collections.abc import Iterator

import pytest

from local.azurite import Azurite
from local.simulator.behaviour import Behaviour
from tests.integration.api.request_counter import RequestCounter, make_counted_world
from tests.support.world import World


@pytest.fixture(scope="session")
def request_counter() -> RequestCounter:
    return RequestCounter()


@pytest.fixture(scope="module")
def world(azurite: Azurite, request_counter: RequestCounter) -> Iterator[World]:
    with make_counted_world(
        azurite,
        request_counter,
        behaviour=Behaviour(retry_after_seconds=20),
        storage_proxy=True,
    ) as world:
        yield world
