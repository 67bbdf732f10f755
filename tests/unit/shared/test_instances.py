"""The state of an orchestration instance, and the time limit for calls to the task hub."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from shared import instances
from shared.errors import InfrastructureError


class FakeStatusClient:
    """A Durable Functions client that returns one status, or never responds."""

    def __init__(self, status: Any, responds: bool = True) -> None:
        self._status, self._responds = status, responds

    async def get_status(self, instance_id: str) -> Any:
        if not self._responds:
            await asyncio.Event().wait()
        return self._status


def create_status(value: str) -> Any:
    return SimpleNamespace(runtime_status=SimpleNamespace(value=value))


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (None, "unknown"),
        (create_status("Running"), "live"),
        (create_status("Pending"), "live"),
        (create_status("Suspended"), "live"),
        (create_status("Terminated"), "terminated"),
        (create_status("Failed"), "failed"),
        (create_status("Completed"), "completed"),
    ],
)
async def test_get_instance_state_returns_the_state(status: Any, state: str) -> None:
    assert await instances.get_instance_state(FakeStatusClient(status), "run") == state


async def test_get_instance_state_without_response_raises_task_hub_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(instances, "MAX_CALL_SECONDS", 0.01)
    with pytest.raises(InfrastructureError) as raised:
        await instances.get_instance_state(FakeStatusClient(None, responds=False), "run")
    assert raised.value.code == "task_hub_timeout"


async def test_call_task_hub_with_longer_limit_returns_the_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(instances, "MAX_CALL_SECONDS", 0.0)
    assert await instances.call_task_hub(FakeStatusClient("status").get_status("run"), 60) == (
        "status"
    )
