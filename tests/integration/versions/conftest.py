"""Fixture for the version tests."""

from collections.abc import AsyncIterator

import pytest

from local.azurite import Azurite
from tests.integration.versions.version_workspace import VersionWorkspace


@pytest.fixture
async def workspace(azurite: Azurite, container: str) -> AsyncIterator[VersionWorkspace]:
    async with VersionWorkspace(azurite, container) as workspace:
        yield workspace
