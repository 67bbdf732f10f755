"""An app for each module, whose table requests are counted."""

from collections.abc import Iterator

import pytest

from local.azurite import Azurite
from local.simulator.behaviour import Behaviour
from tests.integration.api.request_counter import RequestCounter, create_counted_environment
from tests.support.app_environment import AppEnvironment


@pytest.fixture(scope="session")
def request_counter() -> RequestCounter:
    return RequestCounter()


@pytest.fixture(scope="module")
def env(azurite: Azurite, request_counter: RequestCounter) -> Iterator[AppEnvironment]:
    with create_counted_environment(
        azurite,
        request_counter,
        behaviour=Behaviour(retry_after_seconds=20),
        storage_proxy=True,
    ) as env:
        yield env
