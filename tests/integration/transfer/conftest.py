from collections.abc import AsyncIterator

import pytest

from local.azurite import Azurite
from tests.integration.transfer.azurite_copy import World


@pytest.fixture
async def world(azurite: Azurite, container: str) -> AsyncIterator[World]:
    async with World(azurite, container) as world:
        yield world
