"""The program: every command, and how it ends."""

import json
import sys

from partner_billing import cycles, runs
from partner_billing.common import app
from partner_billing.errors import CommandError, UsageError

__all__ = ["app", "cycles", "main", "runs"]


def main(arguments: list[str] | None = None) -> None:
    """Ends the process with one of the exit codes of failures.py."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        app(args=given, prog_name="partner-billing")
    except CommandError as failure:
        tell(failure, "--json" in given)
        code = failure.exit_code
    sys.exit(code)


def tell(failure: CommandError, as_json: bool) -> None:
    if as_json:
        print(json.dumps(failure.document(), ensure_ascii=False), file=sys.stderr)
        return
    print(f"{failure.title}{f' ({failure.code})' if failure.code else ''}", file=sys.stderr)
    for wrong in failure.members.get("errors") or []:
        if isinstance(wrong, dict):
            print(f"  {wrong.get('field')}: {wrong.get('message')}", file=sys.stderr)
    if failure.remedy:
        print(f"-> {failure.remedy}", file=sys.stderr)
    if isinstance(failure, UsageError):
        print("See partner-billing --help.", file=sys.stderr)
