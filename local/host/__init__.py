"""A local host for Azure Functions and Durable Functions (Python v2 programming model).

The host runs any app that uses the supported triggers, without changes to the app, and does not
depend on the app of this repository. README.md lists the supported features, the rejected
features, and the differences from Azure.
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
from .terminations import Termination, TerminationPoint

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
    "Termination",
    "TerminationPoint",
    "UnknownOrchestratorError",
    "UnsupportedAppError",
    "VirtualClock",
    "WaitTimeoutError",
    "replay_history",
]
