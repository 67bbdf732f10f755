"""One emulator for the whole tier; every test makes containers of its own."""

import uuid
from collections.abc import Iterator

import pytest

from local.azurite import Azurite


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    with Azurite() as running:
        yield running


@pytest.fixture
def container() -> str:
    """A container name that no other test uses."""
    return f"c{uuid.uuid4().hex[:20]}"
