"""The decisions of an orchestrator: the operations that a replay of its actions schedules."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias


@dataclass(frozen=True)
class ScheduleActivity:
    """The decision to schedule an activity."""

    id: int
    name: str
    argument: object  # as serialized by the SDK
    dotnet_type = "ScheduleTaskOrchestratorAction"

    @property
    def input(self) -> str:
        """The stored form of the argument, `["<argument>"]`.

        It is serialized on access because a replay needs it only for new decisions.
        """
        return json.dumps([self.argument])


@dataclass(frozen=True)
class CreateTimer:
    """The decision to create a durable timer."""

    id: int
    fire_at: datetime
    dotnet_type = "CreateTimerOrchestratorAction"


@dataclass(frozen=True)
class StartChild:
    """The decision to start a sub-orchestration."""

    id: int
    name: str
    instance_id: str
    input: str | None
    version: str | None
    dotnet_type = "CreateSubOrchestrationAction"


Decision: TypeAlias = ScheduleActivity | CreateTimer | StartChild
