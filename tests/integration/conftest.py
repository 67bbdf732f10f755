"""Fixtures for the integration tests. The emulator is a fixture of tests/conftest.py."""

import uuid

import pytest


@pytest.fixture
def container() -> str:
    """Return a container name that no other test uses."""
    return f"c{uuid.uuid4().hex[:20]}"
