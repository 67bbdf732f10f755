"""What an orchestrator wants done: the decisions that a replay leads to, and how a history's events name them."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias


@dataclass(frozen=True)
class ScheduleActivity:
    id: int
    name: str
    argument: object  # the text the SDK made
    dotnet_type = "ScheduleTaskOrchestratorAction"

    @property
    def input(self) -> str:
        """As it is stored: `["<argument>"]`. Made only for what is new, which of a long history is little."""
        return json.dumps([self.argument])


@dataclass(frozen=True)
class CreateTimer:
    id: int
    fire_at: datetime
    dotnet_type = "CreateTimerOrchestratorAction"


@dataclass(frozen=True)
class StartChild:
    id: int
    name: str
    instance_id: str
    input: str | None
    version: str | None
    dotnet_type = "CreateSubOrchestrationAction"


Decision: TypeAlias = ScheduleActivity | CreateTimer | StartChild
