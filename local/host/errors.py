"""What can stop the host from starting, or a client command from being carried out.

HostError                 one clear message; the command line prints it and nothing else
  AppRefused              the app, its host.json or a schedule cannot be run by this host
  StateInUse              another host holds the state folder (exit code 3)
  PortTaken
CommandRefused            a client command with a bad argument (400)
  UnknownOrchestrator
  InstanceAlive           the id belongs to a live instance (409)
FunctionFailed            a function raised; raised by `LocalHost.fire_timer`
WaitTimedOut              what a test waits for did not come about
"""


class HostError(Exception):
    exit_code = 1


class AppRefused(HostError):
    exit_code = 2


class StateInUse(HostError):
    exit_code = 3


class PortTaken(HostError):
    exit_code = 4


class CommandRefused(Exception):
    """`exception_type` is the .NET name that the management API shows."""

    exception_type = "System.ArgumentException"


class UnknownOrchestrator(CommandRefused):
    pass


class InstanceAlive(CommandRefused):
    exception_type = "DurableTask.Core.Exceptions.OrchestrationAlreadyExistsException"


class FunctionFailed(Exception):
    pass


class WaitTimedOut(AssertionError):
    pass
