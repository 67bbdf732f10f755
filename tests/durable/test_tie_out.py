"""Tests for the tie-out: the sum of a landed invoice is compared with its listed total.

The result is in the version row, the report and the catalogue. A failed comparison never changes
the outcome of a run.
"""

import json
from decimal import Decimal
from typing import Any

from local.simulator.behaviour import Behaviour
from local.simulator.faults import FaultResponse, Faults, Match
from shared.ledger.versions import Versions
from tests.support.in_memory import InMemoryEnvironment

BEHAVIOUR = Behaviour(ready_after_polls=0)


def get_entry(env: InMemoryEnvironment, key: str) -> dict[str, Any]:
    entries = env.get(f"/api/catalogue?dataset={key.split('/')[0]}")["entries"]
    return dict(next(entry for entry in entries if entry["key"] == key))


def test_tie_out_restated_invoice_reports_the_difference() -> None:
    with InMemoryEnvironment(behaviour=BEHAVIOUR) as env:
        env.run_cycle()
        key = f"billed_reconciliation/{env.invoice_id}/full"
        first, total = get_entry(env, key), env.simulator.invoices()[-1].total
        assert (
            first["tie_out"]["status"] == "tied_out"
            and Decimal(first["tie_out"]["listed_total"]) == total
        )
        env.simulator.restate(key, amount=Decimal("12.34"))
        env.pass_days(1)
        env.run_cycle()
        second = get_entry(env, key)
        report = json.loads(
            env.landed_files()[f"reports/tie_out/{second['path'].split('/', 1)[1]}.json"]
        )
        assert second["version"] != first["version"] and second["tie_out"]["status"] == "off_by"
        assert Decimal(report["difference"]) == Decimal(report["sums"]["USD"]) - total != 0
        assert (report["status"], report["version"], report["difference"]) == (
            "off_by",
            second["version"],
            second["tie_out"]["difference"],
        )
        marker = json.loads(env.landed_files()[f"{second['path']}/_manifest.json"])
        assert (
            marker["invoice"]["total"] == str(float(total))
            and marker["invoice"]["currency"] == "USD"
        )
        assert (second["settles_on"], second["finality"], first["finality"]) == (
            "2026-11-29",
            "provisional",
            "provisional",
        )
        latest = json.loads(
            env.landed_files()[
                f"catalogue/{second['path'].split('/', 1)[1].rsplit('/', 1)[0]}/latest.json"
            ]
        )
        assert latest["settles_on"] == "2026-11-29"


def test_tie_out_without_listed_total_reports_no_total() -> None:
    with InMemoryEnvironment(
        behaviour=BEHAVIOUR,
        INVOICE_SOURCE="list",
        INVOICE_IDS="G059916882",
        EXPORT_CURRENCIES="USD",
    ) as env:
        assert env.run_cycle()["outcome"] == "complete"
        entry = get_entry(env, "billed_reconciliation/G059916882/full")
        assert (entry["tie_out"]["status"], entry["tie_out"]["code"]) == (
            "no_total",
            "invoice_total_unknown",
        )
        # The invoice date is unknown, so the entry settles 21 days after it first landed.
        assert entry["settles_on"] == "2026-12-12"
        assert get_entry(env, "billed_usage/G059916882/full")["tie_out"] is None
        assert get_entry(env, "unbilled_usage/2026-11/USD/full")["finality"] == "open"


def test_tie_out_comparison_fails_keeps_the_outcome(monkeypatch: Any) -> None:
    with InMemoryEnvironment(behaviour=BEHAVIOUR) as env:

        async def update_with_failure(self: Versions, version: Any, **columns: Any) -> Any:
            if "tie_out" in columns:
                raise RuntimeError("storage is unavailable")
            return await update(self, version, **columns)

        update = Versions.update
        monkeypatch.setattr(Versions, "update", update_with_failure)
        cycle = env.run_cycle()
        assert cycle["outcomes"] == {"landed": len(cycle["runs"])}
        assert get_entry(env, f"billed_reconciliation/{env.invoice_id}/full")["tie_out"] is None


def test_tie_out_invoice_list_unavailable_still_lands_the_invoice() -> None:
    faults = Faults().add(Match(operation="invoices"), FaultResponse(status=403))
    with InMemoryEnvironment(behaviour=BEHAVIOUR, faults=faults, EXPORT_CURRENCIES="USD") as env:
        cycle = env.run_cycle()
        assert {key.split("_")[0] for key in (run["key"] for run in cycle["runs"])} == {"unbilled"}
        run = env.land("billed_reconciliation", invoice_id=env.invoice_id)
        assert (
            run["outcome"] == "landed"
            and get_entry(env, run["key"])["tie_out"]["code"] == "invoice_total_unknown"
        )
