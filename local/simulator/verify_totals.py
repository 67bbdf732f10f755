"""Do the sums hold? Reads nothing but blobs, from a folder or a landing container, and reckons with Decimal.

    python -m local.simulator.verify_totals FOLDER
    python -m local.simulator.verify_totals --connection-string-env LANDING_STORAGE --container billing --prefix ""

- every reconciliation line: Subtotal by the documented formula, Total = Subtotal + TaxTotal;
- every Azure plan: its lines in usage sum up to its lines in reconciliation;
- every invoice: its reconciliation lines sum up to its total, where that is known: from a `_manifest.json` beside the data,
  or by `--invoice-total ID=AMOUNT`.

Reckons by itself, not with the generator's functions: a mistake there must show here.

Exit code 0: all of it holds. 1: something differs, or has nothing to be compared with. 2: nothing to check was found.
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
    """One thing that was compared. `differences` is empty where it holds."""

    what: str
    compared: int = 0
    differences: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.differences:
            return f"  ok    {self.what} ({self.compared} compared)"
        shown = "".join(f"\n          {difference}" for difference in self.differences[:5])
        more = (
            f"\n          and {len(self.differences) - 5} more" if len(self.differences) > 5 else ""
        )
        return f"  WRONG {self.what}{shown}{more}"


@dataclass
class LineTotals:
    """What is kept of one export: sums by Azure plan, the total, and what its lines have wrong."""

    by_plan: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    total: Decimal = Decimal(0)
    lines: Finding = field(default_factory=lambda: Finding("lines"))


def amount(line: dict[str, Any], name: str) -> Decimal:
    """`line` has its names in lower case; numbers may be text. ValueError names the field, never its content."""
    try:
        return Decimal(str(line[name.lower()]))
    except (KeyError, InvalidOperation):
        raise ValueError(f"{name} is no number") from None


def round_down(value: Decimal) -> Decimal:
    return value.quantize(CENT, ROUND_DOWN)


def subtotal_by_formula(line: dict[str, Any], usage_based: bool) -> Decimal:
    price, quantity, rate = (
        amount(line, name)
        for name in ("EffectiveUnitPrice", "BillableQuantity", "PCToBCExchangeRate")
    )
    if usage_based:
        return round_down(round_down(price * quantity) * rate)
    return round_down(price * rate) * quantity


def check_reconciliation_line(line: dict[str, Any]) -> Iterator[str]:
    subtotal, tax, total = (amount(line, name) for name in ("Subtotal", "TaxTotal", "Total"))
    if subtotal + tax != total:
        yield f"Total is off by {total - subtotal - tax}"
    due = subtotal_by_formula(line, is_azure_plan(line))
    if subtotal != due:
        yield f"Subtotal is off by {subtotal - due}"


def is_azure_plan(line: dict[str, Any]) -> bool:
    return str(line.get("productname") or line.get("skuname") or "").lower() == AZURE_PLAN


def sums_of(export: LandedExport) -> LineTotals:
    """Reads the export's blobs, one after the other."""
    sums = LineTotals()
    sums.lines.what = f"{export}: lines"
    try:
        for place, line in lines_of(export):
            sums.lines.compared += 1
            sums.lines.differences.extend(
                f"{place}: {wrong}" for wrong in add_line(sums, export.family, line)
            )
    except UnreadableFileError as unreadable:
        sums.lines.differences.append(str(unreadable))
    return sums


def add_line(sums: LineTotals, family: str, line: dict[str, Any]) -> list[str]:
    """Adds it to the sums; what is wrong with it."""
    plan = str(line.get("subscriptionid"))
    try:
        if family == "usage":
            sums.by_plan[plan] += amount(line, "BillingPreTaxTotal")
            return []
        sums.total += amount(line, "Total")
        if is_azure_plan(line):
            sums.by_plan[plan] += amount(line, "Subtotal")
        return list(check_reconciliation_line(line))
    except ValueError as wrong:
        return [str(wrong)]


def compare_plans(export: LandedExport, usage: LineTotals, reconciliation: LineTotals) -> Finding:
    """Of the same scope: what usage sums up to, plan by plan, against the plan's reconciliation lines."""
    plans = sorted(set(usage.by_plan) | set(reconciliation.by_plan))
    differences = [
        f"Azure plan {plan}: usage {usage.by_plan[plan]}, reconciliation {reconciliation.by_plan[plan]}"
        for plan in plans
        if usage.by_plan[plan] != reconciliation.by_plan[plan]
    ]
    return Finding(f"{export}: usage against reconciliation", len(plans), differences)


def compare_total(
    export: LandedExport, reconciliation: LineTotals, invoice_total: Decimal
) -> Finding:
    what = f"{export}: reconciliation against the invoice's total of {invoice_total}"
    differences = (
        []
        if reconciliation.total == invoice_total
        else [f"the lines sum up to {reconciliation.total}"]
    )
    return Finding(what, 1, differences)


def check(exports: Iterable[LandedExport], invoice_totals: dict[str, Decimal]) -> list[Finding]:
    """All findings, in the order of the exports."""
    exports = list(exports)
    sums = {export: sums_of(export) for export in exports}
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
                    f"{export}: the other half",
                    0,
                    [f"{export.family} has nothing to be compared with"],
                )
            )
        elif export.family == "usage":
            findings.append(compare_plans(export, sums[export], sums[counterpart]))
        total = invoice_totals.get(export.scope, export.invoice_total)
        if export.family == "reconciliation" and export.state == "billed" and total is not None:
            findings.append(compare_total(export, sums[export], total))
    return findings


def invoice_total(text: str) -> tuple[str, Decimal]:
    invoice_id, _, total = text.partition("=")
    try:
        return invoice_id, Decimal(total)
    except InvalidOperation:
        raise argparse.ArgumentTypeError("ID=AMOUNT, e.g. G016907411=1250.40") from None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m local.simulator.verify_totals",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", nargs="?", type=Path, help="a folder laid out as the landing is")
    parser.add_argument(
        "--connection-string-env",
        metavar="NAME",
        help="variable with the landing account's connection string",
    )
    parser.add_argument("--container", default="billing")
    parser.add_argument("--prefix", default="")
    parser.add_argument(
        "--invoice-total", type=invoice_total, action="append", default=[], metavar="ID=AMOUNT"
    )
    given = parser.parse_args(arguments)
    if (given.folder is None) == (given.connection_string_env is None):
        parser.error("either a folder or --connection-string-env")
    if given.folder is not None:
        files = files_of_folder(given.folder)
    elif connection_string := os.environ.get(given.connection_string_env):
        files = files_of_container(connection_string, given.container, given.prefix)
    else:
        parser.error(f"the variable {given.connection_string_env} is not set")
    findings = check(exports_in(files), dict(given.invoice_total))
    for finding in findings:
        print(finding)
    if not findings:
        print("Nothing to check was found.")
        return 2
    wrong = sum(bool(finding.differences) for finding in findings)
    print(
        f"{len(findings) - wrong} of {len(findings)} hold."
        if wrong
        else f"All {len(findings)} hold."
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
