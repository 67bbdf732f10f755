"""Fixture for the tests that copy blobs between Azurite accounts."""

from collections.abc import AsyncIterator

import pytest

from local.azurite import Azurite
from tests.integration.transfer.azurite_transfer import AzuriteTransfer


@pytest.fixture
async def transfer(azurite: Azurite, container: str) -> AsyncIterator[AzuriteTransfer]:
    async with AzuriteTransfer(azurite, container) as transfer:
        yield transfer
