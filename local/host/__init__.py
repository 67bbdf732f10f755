"""A local host for Azure Functions and Durable Functions (Python v2 model): runs any app of the supported kinds, unmodified.

It knows nothing of the app it runs. See README.md for what is supported, what is refused and what differs from Azure.
"""

from .clock import Clock, SystemClock, VirtualClock
from .errors import (
    AppRefused,
    FunctionFailed,
    HostError,
    InstanceAlive,
    StateInUse,
    UnknownOrchestrator,
    WaitTimedOut,
)
from .http_messages import HostResponse
from .local_host import LocalHost
from .replay import NonDeterminism, replay_history

__all__ = [
    "AppRefused",
    "Clock",
    "FunctionFailed",
    "HostError",
    "HostResponse",
    "InstanceAlive",
    "LocalHost",
    "NonDeterminism",
    "StateInUse",
    "SystemClock",
    "UnknownOrchestrator",
    "VirtualClock",
    "WaitTimedOut",
    "replay_history",
]
