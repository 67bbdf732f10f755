"""A scene of its own for each test."""

from collections.abc import AsyncIterator

import pytest

from local.azurite import Azurite
from tests.integration.versions.version_workspace import Scene


@pytest.fixture
async def scene(azurite: Azurite, container: str) -> AsyncIterator[Scene]:
    async with Scene(azurite, container) as scene:
        yield scene
