"""Every fault of the table, and the document that tells of them."""

import re
from pathlib import Path

import pytest

from local.azurite import Azurite
from tests.integration.transfer import fault_table
from tests.integration.transfer.fault_rows import FAULTS, Fault
from tests.integration.transfer.fault_runs import RUNS, RunCost, RunFault, run_fault
from tests.integration.transfer.fault_table import Cost, render, run_blob_fault

ROOT = Path(__file__).resolve().parents[3]
costs: dict[Fault, Cost] = {}
told: dict[str, RunCost] = {}


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, id=f"{fault.category}-{fault.description}") for fault in FAULTS]
)
async def test_a_fault_of_storage(fault: Fault) -> None:
    costs[fault] = await run_blob_fault(fault)


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, id=f"{fault.category}-{fault.condition}") for fault in RUNS]
)
def test_a_mistake_that_others_made(azurite: Azurite, fault: RunFault) -> None:
    told[fault.category + fault.condition] = run_fault(azurite, fault)


def test_every_row_of_the_lists_is_there() -> None:
    """Mistakes 1 to 20, each once at least, injected or with the reason why not."""
    named = (
        {row.category for row in FAULTS}
        | {run.category for run in RUNS}
        | {where for where, _, _ in fault_table.TESTED_ELSEWHERE}
    )
    said = " ".join(f"{where} {what}" for where, what, _ in fault_table.TESTED_ELSEWHERE)
    assert {f"R{n}" for n in range(1, 21)} - named == {"R20"} and "R20" in said
    for _, _, where in fault_table.TESTED_ELSEWHERE:
        for path in re.findall(r"`((?:tests|shared)/[^`]+)`", where):
            assert (ROOT / path).is_file(), path


def test_the_document_is_current() -> None:
    """Of the rows that have run before it, in this file."""
    if len(costs) < len(FAULTS) or len(told) < len(RUNS):
        pytest.skip("needs all the rows of this file in one run")
    rendered = render(
        [(fault, costs[fault]) for fault in FAULTS],
        [(run, told[run.category + run.condition]) for run in RUNS],
    )
    committed = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    assert committed == rendered, (
        "write it anew: python -m tests.integration.transfer.fault_table > docs/faults.md"
    )
