r"""Verifies the amounts in landed exports, from a folder or a landing container.

    python -m local.simulator.verify_totals FOLDER
    python -m local.simulator.verify_totals --connection-string-env LANDING_STORAGE \
        --container billing --prefix ""

It verifies that

- in every reconciliation line, Subtotal follows the documented formula and Total is Subtotal plus
  TaxTotal;
- the usage lines of every Azure plan add up to its reconciliation lines;
- the reconciliation lines of every invoice add up to its total, if the total is known from a
  `_manifest.json` or from `--invoice-total ID=AMOUNT`.

The calculations use Decimal and do not share code with the generator, so that an error in the
generator is detected.

Exit codes: 0 if all amounts are correct; 1 if an amount differs or has no counterpart; 2 if there
are no exports.
"""

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from local.simulator.landed_files import (
    LandedExport,
    UnreadableFileError,
    exports_in,
    files_of_container,
    files_of_folder,
    lines_of,
)

AZURE_PLAN = "azure plan"
CENT = Decimal("0.01")


@dataclass
class Finding:
    """The result of one comparison. `differences` is empty if the amounts are equal."""

    subject: str
    compared: int = 0
    differences: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.differences:
            return f"  ok    {self.subject} ({self.compared} compared)"
        first = "".join(f"\n          {difference}" for difference in self.differences[:5])
        more = (
            f"\n          and {len(self.differences) - 5} more" if len(self.differences) > 5 else ""
        )
        return f"  DIFFERS {self.subject}{first}{more}"


@dataclass
class Sums:
    """The totals of one export and the errors in its lines."""

    by_plan: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    total: Decimal = Decimal(0)
    lines: Finding = field(default_factory=lambda: Finding("lines"))


def amount(line: dict[str, Any], name: str) -> Decimal:
    """Return the amount in a field. Names in `line` are in lower case; numbers can be strings.

    Raises ValueError with the name of the field; it never contains the value.
    """
    try:
        return Decimal(str(line[name.lower()]))
    except (KeyError, InvalidOperation):
        raise ValueError(f"{name} is not a number") from None


def round_down(value: Decimal) -> Decimal:
    """Round to the cent, towards zero."""
    return value.quantize(CENT, ROUND_DOWN)


def subtotal_by_formula(line: dict[str, Any], usage_based: bool) -> Decimal:
    """Return the subtotal of a reconciliation line according to the documented formula."""
    price, quantity, rate = (
        amount(line, name)
        for name in ("EffectiveUnitPrice", "BillableQuantity", "PCToBCExchangeRate")
    )
    if usage_based:
        return round_down(round_down(price * quantity) * rate)
    return round_down(price * rate) * quantity


def check_reconciliation_line(line: dict[str, Any]) -> Iterator[str]:
    """Yield the errors in a reconciliation line."""
    subtotal, tax, total = (amount(line, name) for name in ("Subtotal", "TaxTotal", "Total"))
    if subtotal + tax != total:
        yield f"Total differs by {total - subtotal - tax}"
    expected = subtotal_by_formula(line, is_azure_plan(line))
    if subtotal != expected:
        yield f"Subtotal differs by {subtotal - expected}"


def is_azure_plan(line: dict[str, Any]) -> bool:
    """Return whether a reconciliation line belongs to an Azure plan."""
    return str(line.get("productname") or line.get("skuname") or "").lower() == AZURE_PLAN


def compute_sums(export: LandedExport) -> Sums:
    """Read all lines of an export and return its totals."""
    sums = Sums()
    sums.lines.subject = f"{export}: lines"
    try:
        for position, line in lines_of(export):
            sums.lines.compared += 1
            sums.lines.differences.extend(
                f"{position}: {error}" for error in add_line(sums, export.family, line)
            )
    except UnreadableFileError as error:
        sums.lines.differences.append(str(error))
    return sums


def add_line(sums: Sums, family: str, line: dict[str, Any]) -> list[str]:
    """Add a line to the sums and return the errors in it."""
    plan = str(line.get("subscriptionid"))
    try:
        if family == "usage":
            sums.by_plan[plan] += amount(line, "BillingPreTaxTotal")
            return []
        sums.total += amount(line, "Total")
        if is_azure_plan(line):
            sums.by_plan[plan] += amount(line, "Subtotal")
        return list(check_reconciliation_line(line))
    except ValueError as error:
        return [str(error)]


def compare_plans(export: LandedExport, usage: Sums, reconciliation: Sums) -> Finding:
    """Compare usage with reconciliation for the same scope, for each Azure plan."""
    plans = sorted(set(usage.by_plan) | set(reconciliation.by_plan))
    differences = [
        f"Azure plan {plan}: usage {usage.by_plan[plan]}, "
        f"reconciliation {reconciliation.by_plan[plan]}"
        for plan in plans
        if usage.by_plan[plan] != reconciliation.by_plan[plan]
    ]
    return Finding(f"{export}: usage and reconciliation", len(plans), differences)


def compare_total(export: LandedExport, reconciliation: Sums, invoice_total: Decimal) -> Finding:
    """Compare the lines of an invoice with its total."""
    subject = f"{export}: reconciliation and the invoice total of {invoice_total}"
    differences = (
        []
        if reconciliation.total == invoice_total
        else [f"the total of the lines is {reconciliation.total}"]
    )
    return Finding(subject, 1, differences)


def check(exports: Iterable[LandedExport], invoice_totals: dict[str, Decimal]) -> list[Finding]:
    """Compare all exports and return the findings in the order of the exports."""
    exports = list(exports)
    sums = {export: compute_sums(export) for export in exports}
    findings = [each.lines for each in sums.values()]
    for export in exports:
        counterpart = next(
            (
                other
                for other in exports
                if other.scope == export.scope
                and other.state == export.state
                and other.family != export.family
                and other.attribute_set == export.attribute_set
            ),
            None,
        )
        if counterpart is None:
            findings.append(
                Finding(
                    f"{export}: counterpart",
                    0,
                    [f"{export.family} has no counterpart to compare with"],
                )
            )
        elif export.family == "usage":
            findings.append(compare_plans(export, sums[export], sums[counterpart]))
        total = invoice_totals.get(export.scope, export.invoice_total)
        if export.family == "reconciliation" and export.state == "billed" and total is not None:
            findings.append(compare_total(export, sums[export], total))
    return findings


def invoice_total(text: str) -> tuple[str, Decimal]:
    """Parse a command-line argument such as `G016907411=1250.40`."""
    invoice_id, _, total = text.partition("=")
    try:
        return invoice_id, Decimal(total)
    except InvalidOperation:
        raise argparse.ArgumentTypeError(
            "must be ID=AMOUNT, for example G016907411=1250.40"
        ) from None


def main(arguments: list[str] | None = None) -> int:
    """Verify the exports and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m local.simulator.verify_totals",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, help="a folder with the layout of the landing container"
    )
    parser.add_argument(
        "--connection-string-env",
        metavar="NAME",
        help="environment variable that contains the connection string of the landing account",
    )
    parser.add_argument("--container", default="billing")
    parser.add_argument("--prefix", default="")
    parser.add_argument(
        "--invoice-total", type=invoice_total, action="append", default=[], metavar="ID=AMOUNT"
    )
    options = parser.parse_args(arguments)
    if (options.folder is None) == (options.connection_string_env is None):
        parser.error("Specify either a folder or --connection-string-env.")
    if options.folder is not None:
        files = files_of_folder(options.folder)
    elif connection_string := os.environ.get(options.connection_string_env):
        files = files_of_container(connection_string, options.container, options.prefix)
    else:
        parser.error(f"The environment variable {options.connection_string_env} is not set.")
    findings = check(exports_in(files), dict(options.invoice_total))
    for finding in findings:
        print(finding)
    if not findings:
        print("No exports found.")
        return 2
    different = sum(bool(finding.differences) for finding in findings)
    print(
        f"{len(findings) - different} of {len(findings)} comparisons match."
        if different
        else f"All {len(findings)} comparisons match."
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
