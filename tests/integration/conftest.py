"""What the tier shares beside the emulator of tests/conftest.py."""

import uuid

import pytest


@pytest.fixture
def container() -> str:
    """A container name that no other test uses."""
    return f"c{uuid.uuid4().hex[:20]}"
