"""Errors of commands and their exit codes.

0    Success. With watch, cycle or backfill: every outcome is landed, unchanged or no_data, and
     nothing that can have data was left out.
1    A run failed or was cancelled, a cycle or backfill is incomplete, or a preflight check failed.
2    Invalid usage: an argument or the URL.
3    The app cannot be reached or is temporarily unavailable.
4    The app refused the request or the key.
5    The run, cycle or backfill does not exist.
130  Interrupted with Ctrl-C. The run continues.
"""

from typing import Any

DONE, FAILED, USAGE, UNREACHABLE, REFUSED, NOT_FOUND, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130


class CommandError(Exception):
    """An error that ends a command.

    Attributes:
        title: What happened.
        remedy: What to do.
        code: The stable error code of the app, or an empty string.
        members: The other members of the app's problem response.
    """

    exit_code = FAILED

    def __init__(self, title: str, remedy: str = "", code: str = "", **members: Any) -> None:
        self.title, self.remedy, self.code, self.members = title, remedy, code, members
        super().__init__(title)

    def document(self) -> dict[str, Any]:
        """Return the JSON object that `--json` prints."""
        return {
            **self.members,
            "title": self.title,
            "code": self.code or None,
            "remedy": self.remedy or None,
            "exit_code": self.exit_code,
        }


class UsageError(CommandError):
    """An argument or the URL is invalid."""

    exit_code = USAGE


class UnreachableError(CommandError):
    """The app cannot be reached or is temporarily unavailable."""

    exit_code = UNREACHABLE


class RequestRefusedError(CommandError):
    """The app refused the request or the key."""

    exit_code = REFUSED


class NotFoundError(CommandError):
    """The run, cycle or backfill does not exist."""

    exit_code = NOT_FOUND


class CommandInterruptedError(CommandError):
    """The user interrupted the command."""

    exit_code = INTERRUPTED
