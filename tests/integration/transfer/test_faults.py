"""Every fault in the tables, and the generated document docs/faults.md."""

import re
from pathlib import Path

import pytest

from local.azurite import Azurite
from tests.integration.transfer import fault_table
from tests.integration.transfer.fault_rows import FAULTS, Fault
from tests.integration.transfer.fault_runs import RUNS, RunCost, RunFault, run_fault
from tests.integration.transfer.fault_table import Cost, render, run_blob_fault

ROOT = Path(__file__).resolve().parents[3]
blob_costs: dict[Fault, Cost] = {}
run_costs: dict[str, RunCost] = {}


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, id=f"{fault.category}-{fault.description}") for fault in FAULTS]
)
async def test_copy_blobs_storage_fault_has_expected_result(fault: Fault) -> None:
    blob_costs[fault] = await run_blob_fault(fault)


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, id=f"{fault.category}-{fault.condition}") for fault in RUNS]
)
def test_run_known_mistake_has_expected_result(azurite: Azurite, fault: RunFault) -> None:
    run_costs[fault.category + fault.condition] = run_fault(azurite, fault)


def test_fault_tables_contain_every_known_mistake() -> None:
    """Each of faults 1 to 20 is injected, or its entry names another test or states a reason."""
    listed = (
        {row.category for row in FAULTS}
        | {run.category for run in RUNS}
        | {category for category, _, _ in fault_table.TESTED_ELSEWHERE}
    )
    descriptions = " ".join(
        f"{category} {description}" for category, description, _ in fault_table.TESTED_ELSEWHERE
    )
    assert {f"R{n}" for n in range(1, 21)} - listed == {"R20"} and "R20" in descriptions
    for _, _, reason in fault_table.TESTED_ELSEWHERE:
        for path in re.findall(r"`((?:tests|shared)/[^`]+)`", reason):
            assert (ROOT / path).is_file(), path


def test_faults_document_is_current() -> None:
    """Compare the document with the results of the preceding tests in this file."""
    if len(blob_costs) < len(FAULTS) or len(run_costs) < len(RUNS):
        pytest.skip("requires the results of all tests of this file")
    rendered = render(
        [(fault, blob_costs[fault]) for fault in FAULTS],
        [(run, run_costs[run.category + run.condition]) for run in RUNS],
    )
    committed = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    assert committed == rendered, (
        "regenerate it: python -m tests.integration.transfer.fault_table > docs/faults.md"
    )
