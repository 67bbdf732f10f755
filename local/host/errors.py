"""Errors of the local host.

HostError                     the host cannot start; the command prints only the message
  UnsupportedAppError         the app, its host.json or a schedule is not supported (exit code 2)
  StateInUseError             another host uses the state folder (exit code 3)
  PortInUseError              another program uses the port (exit code 4)
InvalidCommandError           a client command has an invalid argument (HTTP 400)
  UnknownOrchestratorError    the app has no orchestrator with this name
  InstanceExistsError         an active instance has the same ID (HTTP 409)
FunctionFailedError           a function called by `LocalHost.fire_timer` raised an exception
WaitTimeoutError              the condition that a test waits for was not met in time
"""


class HostError(Exception):
    """The host cannot start or continue; `exit_code` is the exit code of the command."""

    exit_code = 1


class UnsupportedAppError(HostError):
    """The app, its host.json or a schedule uses a feature that the host does not support."""

    exit_code = 2


class StateInUseError(HostError):
    """Another host uses the state folder."""

    exit_code = 3


class PortInUseError(HostError):
    """Another program uses the port."""

    exit_code = 4


class InvalidCommandError(Exception):
    """A client command has an invalid argument.

    `exception_type` is the .NET type name that the management API returns.
    """

    exception_type = "System.ArgumentException"


class UnknownOrchestratorError(InvalidCommandError):
    """The app has no orchestrator with the requested name."""


class InstanceExistsError(InvalidCommandError):
    """An active instance has the requested ID."""

    exception_type = "DurableTask.Core.Exceptions.OrchestrationAlreadyExistsException"


class FunctionFailedError(Exception):
    """A function that a test called raised an exception."""


class WaitTimeoutError(AssertionError):
    """The condition that a test waits for was not met in time."""
