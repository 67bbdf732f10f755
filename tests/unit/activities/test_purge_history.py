"""The purge of the history: it has a time limit, and an unfinished day is purged again."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from activities import purge_history as module
from shared import instances
from shared.errors import InfrastructureError
from shared.ledger.retention import FIRST_DAY, PurgedUntil
from tests.support.in_memory import MemoryTables


class UnresponsiveClient:
    """A Durable Functions client whose purge never responds."""

    async def purge_instance_history_by(self, **_: Any) -> Any:
        await asyncio.Event().wait()


async def test_purge_history_without_response_raises_task_hub_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables = MemoryTables()
    app = SimpleNamespace(
        settings=SimpleNamespace(history_days=15), ledger=SimpleNamespace(tables=tables, hub="Hub")
    )
    monkeypatch.setattr(module, "services", lambda: app)
    monkeypatch.setattr(instances, "MAX_PURGE_SECONDS", 0.01)
    purge_history: Any = module.purge_history
    with pytest.raises(InfrastructureError) as raised:
        async with asyncio.timeout(10):
            await purge_history._function.get_user_function().__wrapped__(
                request={"day": "2026-11-20"}, client=UnresponsiveClient()
            )
    assert raised.value.code == "task_hub_timeout"
    assert await PurgedUntil(tables, "Hub").get() == FIRST_DAY
