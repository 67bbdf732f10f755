"""What can stop the host from starting, or a client command from being carried out.

HostError                 one clear message; the command line prints it and nothing else
  UnsupportedAppError              the app, its host.json or a schedule cannot be run by this host
  StateInUseError              another host holds the state folder (exit code 3)
  PortInUseError
InvalidCommandError            a client command with a bad argument (400)
  UnknownOrchestratorError
  InstanceExistsError           the id belongs to a live instance (409)
FunctionFailedError            a function raised; raised by `LocalHost.fire_timer`
WaitTimeoutError              what a test waits for did not come about
"""


class HostError(Exception):
    exit_code = 1


class UnsupportedAppError(HostError):
    exit_code = 2


class StateInUseError(HostError):
    exit_code = 3


class PortInUseError(HostError):
    exit_code = 4


class InvalidCommandError(Exception):
    """`exception_type` is the .NET name that the management API shows."""

    exception_type = "System.ArgumentException"


class UnknownOrchestratorError(InvalidCommandError):
    pass


class InstanceExistsError(InvalidCommandError):
    exception_type = "DurableTask.Core.Exceptions.OrchestrationAlreadyExistsException"


class FunctionFailedError(Exception):
    pass


class WaitTimeoutError(AssertionError):
    pass
