"""A local host for Azure Functions and Durable Functions (Python v2 model): runs any app of the supported kinds, unmodified.

It knows nothing of the app it runs. See README.md for what is supported, what is refused and what differs from Azure.
"""

from .clock import Clock, SystemClock, VirtualClock
from .errors import (
    FunctionFailedError,
    HostError,
    InstanceExistsError,
    StateInUseError,
    UnknownOrchestratorError,
    UnsupportedAppError,
    WaitTimeoutError,
)
from .http_messages import HostResponse
from .local_host import LocalHost
from .replay import NonDeterminismError, replay_history

__all__ = [
    "Clock",
    "FunctionFailedError",
    "HostError",
    "HostResponse",
    "InstanceExistsError",
    "LocalHost",
    "NonDeterminismError",
    "StateInUseError",
    "SystemClock",
    "UnknownOrchestratorError",
    "UnsupportedAppError",
    "VirtualClock",
    "WaitTimeoutError",
    "replay_history",
]
