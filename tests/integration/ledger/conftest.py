"""Fixtures: a ledger with separate tables for each test, and a fake clock."""

import uuid
from collections.abc import AsyncIterator

import pytest

from local.azurite import Azurite
from shared.ledger.ledger import Ledger
from shared.ledger.tables import Tables
from tests.integration.ledger.ledger_rows import START
from tests.support.clocks import FakeClock


@pytest.fixture
def prefix() -> str:
    """Return a unique prefix for table names."""
    return f"t{uuid.uuid4().hex[:20]}"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


@pytest.fixture
async def ledger(azurite: Azurite, prefix: str, clock: FakeClock) -> AsyncIterator[Ledger]:
    ledger = Ledger(
        Tables(prefix, connection_string=azurite.landing.connection_string), clock, hub="Tests"
    )
    yield ledger
    await ledger.close()


@pytest.fixture
async def tables(ledger: Ledger) -> Tables:
    return ledger.tables
