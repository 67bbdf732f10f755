"""Tests for the tie-out: the sum of a landed invoice is compared with its listed total.

The sums are stored with the version; the comparison is computed when it is read, and its report and
event follow each change. A failure of the comparison never changes the outcome of a run.
"""

import asyncio
import json
import logging
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from local.simulator.behaviour import Behaviour
from local.simulator.faults import FaultResponse, Faults, Match
from shared.errors import PermanentError
from shared.ledger.versions import Versions
from shared.redaction import EVENT_LOGGER
from tests.support.in_memory import InMemoryEnvironment

BEHAVIOUR = Behaviour(ready_after_polls=0)


def get_entry(env: InMemoryEnvironment, key: str) -> dict[str, Any]:
    entries = env.get(f"/api/catalogue?dataset={key.split('/')[0]}")["entries"]
    return dict(next(entry for entry in entries if entry["key"] == key))


def get_report(env: InMemoryEnvironment, entry: dict[str, Any]) -> dict[str, Any]:
    path = f"reports/tie_out/{entry['path'].split('/', 1)[1]}.json"
    return dict(json.loads(env.landed_files()[path]))


def run_retention(env: InMemoryEnvironment) -> dict[str, int]:
    env.host.fire_timer("start_daily_retention")
    status = env.host.wait(f"retention-{env.clock.now():%Y-%m-%d}")
    return dict(status["output"])


def list_events(caplog: pytest.LogCaptureFixture, key: str) -> list[dict[str, Any]]:
    """Return the `invoice_compared` events of a key, in order."""
    messages = [record.getMessage() for record in caplog.records if record.name == EVENT_LOGGER]
    events = [json.loads(message) for message in messages]
    return [
        event for event in events if event["event"] == "invoice_compared" and event["key"] == key
    ]


def list_compared(caplog: pytest.LogCaptureFixture, key: str) -> list[tuple[str, str | None]]:
    """Return the status and the difference of each event of a key, in order."""
    return [(event["status"], event.get("difference")) for event in list_events(caplog, key)]


def test_tie_out_listed_total_changes_compares_with_the_new_total(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The data does not change, so no version lands: only the invoice list changes."""
    caplog.set_level(logging.INFO, EVENT_LOGGER)
    with InMemoryEnvironment(behaviour=BEHAVIOUR) as env:
        key, total = (
            f"billed_reconciliation/{env.invoice_id}/full",
            env.simulator.invoices()[-1].total,
        )
        env.simulator.change_listed_total(env.invoice_id, None)
        env.run_cycle()
        entry = get_entry(env, key)
        assert entry["tie_out"]["code"] == "invoice_total_unknown"
        steps = (
            (total, "tied_out", None),
            (total - 1, "off_by", "1.00"),
            (total, "tied_out", None),
        )
        for listed, status, difference in steps:
            env.simulator.change_listed_total(env.invoice_id, listed)
            assert env.run_cycle()["outcomes"].get("landed", 0) == 0
            current = get_entry(env, key)
            assert current["version"] == entry["version"]
            assert current["tie_out"]["status"] == status
            assert current["tie_out"].get("difference") == difference
            report = get_report(env, current)
            assert {**report, **current["tie_out"]} == report and report["status"] == status
        # Nothing changes, so nothing is published again.
        files = env.landed_files()
        env.run_cycle()
        reports = {path for path in files if path.startswith("reports/")}
        assert {path: env.landed_files()[path] for path in reports} == {
            path: files[path] for path in reports
        }
        assert list_compared(caplog, key) == [
            ("no_total", None),
            ("tied_out", None),
            ("off_by", "1.00"),
            ("tied_out", None),
        ]


def test_tie_out_daily_check_repeats_the_event_of_the_newest_version(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Log alerts evaluate two days of logs, and the schedule of the cycles can be less frequent."""
    with InMemoryEnvironment(behaviour=BEHAVIOUR) as env:
        key = f"billed_reconciliation/{env.invoice_id}/full"
        env.run_cycle()
        first = get_entry(env, key)
        env.simulator.restate(key, amount=Decimal("12.34"))
        env.pass_days(1)
        env.run_cycle()
        second = get_entry(env, key)
        [difference] = {second["tie_out"]["difference"], get_report(env, second)["difference"]}
        caplog.clear()
        caplog.set_level(logging.INFO, EVENT_LOGGER)
        assert run_retention(env)["tie_outs"] == 0
        assert list_compared(caplog, key) == [("off_by", difference)]
        env.pass_days(1)
        asyncio.run(change_stored_total(env, Decimal(second["tie_out"]["listed_total"]) - 1))
        # The API compares when it is read; the reports of both versions follow once a day.
        changed = get_entry(env, key)["tie_out"]["difference"]
        assert Decimal(changed) == Decimal(difference) + 1
        assert get_report(env, second)["difference"] == difference
        assert run_retention(env)["tie_outs"] == 2
        assert list_compared(caplog, key)[1:] == [("off_by", changed)]
        assert get_report(env, second)["difference"] == changed
        assert get_report(env, first)["difference"] == "1.00"
        events = list_events(caplog, key)
        assert len({event["event_id"] for event in events}) == len(events)


async def change_stored_total(env: InMemoryEnvironment, total: Decimal) -> None:
    invoices = env.app.ledger.invoices
    invoice = await invoices.get(env.invoice_id)
    assert invoice is not None
    await invoices.save([replace(invoice, total=total)])


def test_tie_out_status_compares_when_it_is_read() -> None:
    with InMemoryEnvironment(behaviour=BEHAVIOUR) as env:
        env.run_cycle()
        landed = env.get("/api/status")["last_landed"]["billed_reconciliation"]
        total = Decimal(landed["tie_out"]["listed_total"])
        asyncio.run(change_stored_total(env, total + 2))
        landed = env.get("/api/status")["last_landed"]["billed_reconciliation"]
        assert landed["tie_out"]["difference"] == "-2.00"


def test_tie_out_report_cannot_be_written_keeps_the_cycle(monkeypatch: Any) -> None:
    with InMemoryEnvironment(behaviour=BEHAVIOUR) as env:
        env.run_cycle()
        total = env.simulator.invoices()[-1].total
        env.simulator.change_listed_total(env.invoice_id, total + 1)
        assert env.landing is not None
        put = env.landing.put

        async def refuse_reports(path: str, body: bytes, **options: Any) -> str:
            if path.startswith("reports/"):
                raise PermanentError("destination_forbidden")
            return await put(path, body, **options)

        monkeypatch.setattr(env.landing, "put", refuse_reports)
        assert env.run_cycle()["outcome"] == "complete"
        assert run_retention(env)["tie_outs_failed"] == 1
        key = f"billed_reconciliation/{env.invoice_id}/full"
        assert get_entry(env, key)["tie_out"]["difference"] == "-1.00"
        assert get_report(env, get_entry(env, key))["status"] == "tied_out"
        monkeypatch.undo()
        env.run_cycle()
        assert get_report(env, get_entry(env, key))["difference"] == "-1.00"


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
            Decimal(marker["invoice"]["total"]) == total and marker["invoice"]["currency"] == "USD"
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
            if "sums" in columns:
                raise RuntimeError("storage is unavailable")
            return await update(self, version, **columns)

        update = Versions.update
        monkeypatch.setattr(Versions, "update", update_with_failure)
        cycle = env.run_cycle()
        assert cycle["outcomes"] == {"landed": len(cycle["runs"])}
        key = f"billed_reconciliation/{env.invoice_id}/full"
        assert get_entry(env, key)["tie_out"] is None
        monkeypatch.undo()  # the daily check adds the missing sums
        assert run_retention(env)["tie_outs"] == 2  # both invoices
        assert get_entry(env, key)["tie_out"]["status"] == "tied_out"


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
