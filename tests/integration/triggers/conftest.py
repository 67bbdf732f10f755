"""An app for each module; the tests in a module use different export keys."""

from collections.abc import Iterator

import pytest

from local.azurite import Azurite
from tests.support.app_environment import AppEnvironment


@pytest.fixture(scope="module")
def env(azurite: Azurite) -> Iterator[AppEnvironment]:
    with AppEnvironment(azurite) as env:
        yield env


@pytest.fixture(autouse=True)
def invalidate_cached_health(env: AppEnvironment) -> None:
    env.app.health.invalidate()
