"""How a command can end other than well, each with an exit code that scripts can rely on.

0   done; with watch or cycle: all that was watched ended landed, unchanged or no_data
1   it was done and the answer is bad: a run failed, the doctor found something wrong
2   wrong usage: an argument, an address
3   the app cannot be reached, or cannot answer just now
4   the app refused: the request, or the key
5   there is no such run or cycle
130 interrupted by Ctrl-C; what was started goes on
"""

from typing import Any

DONE, BAD, USAGE, UNREACHABLE, REFUSED, UNKNOWN_ID, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130


class CommandError(Exception):
    """`title` says what is wrong and `remedy` what to do; `members` are those of the app's problem, where it sent one."""

    exit_code = BAD

    def __init__(self, title: str, remedy: str = "", code: str = "", **members: Any) -> None:
        self.title, self.remedy, self.code, self.members = title, remedy, code, members
        super().__init__(title)

    def document(self) -> dict[str, Any]:
        """For --json."""
        return {
            **self.members,
            "title": self.title,
            "code": self.code or None,
            "remedy": self.remedy or None,
            "exit_code": self.exit_code,
        }


class UsageError(CommandError):
    exit_code = USAGE


class UnreachableError(CommandError):
    exit_code = UNREACHABLE


class RequestRefusedError(CommandError):
    exit_code = REFUSED


class NotFoundError(CommandError):
    exit_code = UNKNOWN_ID


class CommandInterruptedError(CommandError):
    exit_code = INTERRUPTED
