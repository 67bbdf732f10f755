"""The entry point: all commands and the exit code."""

import json
import sys

from partner_billing import cycles, runs
from partner_billing.common import app
from partner_billing.errors import CommandError, UsageError

__all__ = ["app", "cycles", "main", "runs"]


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit the process with one of the exit codes in `errors.py`."""
    if arguments is None:
        arguments = sys.argv[1:]
    try:
        app(args=arguments, prog_name="partner-billing")
    except CommandError as error:
        print_error(error, "--json" in arguments)
        code = error.exit_code
    sys.exit(code)


def print_error(error: CommandError, as_json: bool) -> None:
    """Print an error on stderr."""
    if as_json:
        print(json.dumps(error.document(), ensure_ascii=False), file=sys.stderr)
        return
    print(f"{error.title}{f' ({error.code})' if error.code else ''}", file=sys.stderr)
    for field_error in error.members.get("errors") or []:
        if isinstance(field_error, dict):
            print(f"  {field_error.get('field')}: {field_error.get('message')}", file=sys.stderr)
    if error.remedy:
        print(f"-> {error.remedy}", file=sys.stderr)
    if isinstance(error, UsageError):
        print("See partner-billing --help.", file=sys.stderr)
