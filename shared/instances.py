"""The state of an orchestration instance, and calls to the task hub with a time limit.

A call of the Durable Functions client has no time limit of its own, so a call without a response
would block its caller until `functionTimeout`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol, TypeVar

from shared.errors import InfrastructureError

T = TypeVar("T")

MAX_CALL_SECONDS = 20.0
MAX_PURGE_SECONDS = 300.0  # a purge deletes one instance after the other

InstanceState = Literal["live", "unknown", "terminated", "failed", "completed"]
"""The state of an instance in the task hub.

"live" includes pending and suspended instances; "unknown" means that the instance does not exist.
"""

GetInstanceState = Callable[[str], Awaitable[InstanceState]]

STATES: dict[str, InstanceState] = {
    "Terminated": "terminated",
    "Canceled": "terminated",
    "Failed": "failed",
    "Completed": "completed",
}


class StatusClient(Protocol):
    """The part of the Durable Functions client that returns the state of an instance."""

    async def get_status(self, instance_id: str) -> Any:
        """Return the status of an instance; false if it does not exist."""
        ...


async def get_instance_state(client: StatusClient, instance_id: str) -> InstanceState:
    """Return the state of an instance.

    Raises:
        InfrastructureError: The task hub did not respond in time (`task_hub_timeout`).
    """
    status = await call_task_hub(client.get_status(instance_id))
    if not status:
        return "unknown"
    return STATES.get(getattr(status.runtime_status, "value", ""), "live")


async def call_task_hub(call: Awaitable[T], max_seconds: float | None = None) -> T:
    """Await a call of the Durable Functions client, by default for at most `MAX_CALL_SECONDS`.

    Raises:
        InfrastructureError: The task hub did not respond in time (`task_hub_timeout`).
    """
    try:
        async with asyncio.timeout(max_seconds or MAX_CALL_SECONDS):
            return await call
    except TimeoutError:
        raise InfrastructureError("task_hub_timeout", "Task hub") from None
