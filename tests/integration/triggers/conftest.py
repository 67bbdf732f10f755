"""One environment for the tests of a module; each works with keys of its own."""

from collections.abc import Iterator

import pytest

from local.azurite import Azurite
from tests.support.app_environment import AppEnvironment
from triggers import http_service


@pytest.fixture(scope="module")
def env(azurite: Azurite) -> Iterator[AppEnvironment]:
    with AppEnvironment(azurite) as env:
        yield env


@pytest.fixture(autouse=True)
def health_is_not_known() -> None:
    """It is kept for a minute, by the process."""
    http_service._cached_health.clear()
