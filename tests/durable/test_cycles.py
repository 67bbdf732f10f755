"""Cycles: planned requests, invoice discovery, waits, shared runs, failures and summaries."""

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from local.simulator.behaviour import Behaviour
from local.simulator.faults import FaultResponse, Faults, Match
from shared.clock import parse_iso
from tests.support.in_memory import SMALL, InMemoryEnvironment

BEHAVIOUR = Behaviour(ready_after_polls=0)
TWO_CURRENCIES = type(SMALL)(
    currencies=("USD", "EUR"), customers=2, resources=1, licences=1, rows_per_blob=1_000
)


class CycleEnvironment(InMemoryEnvironment):
    @property
    def settled_invoice_id(self) -> str:
        """The ID of the older invoice, which is not due again for a week after it has landed."""
        return next(
            invoice.invoice_id for invoice in self.simulator.invoices() if not invoice.legacy
        )


def open_environment(**options: Any) -> CycleEnvironment:
    return CycleEnvironment(**{"behaviour": BEHAVIOUR, **options})


def sorted_start_requests(env: InMemoryEnvironment) -> list[tuple[str, str]]:
    """Return the path and the body of each export request, sorted."""
    return sorted(
        (request.path.removeprefix("/v1.0"), json.dumps(request.json, sort_keys=True))
        for request in env.simulator.requests_of("start")
    )


def left_out_codes(cycle: dict[str, Any]) -> list[str]:
    return [item["code"] for item in cycle["left_out"]]


def outcomes_by_key(cycle: dict[str, Any]) -> dict[str, str]:
    return {run["key"]: run["outcome"] for run in cycle["runs"]}


def test_dry_run_returns_exactly_the_requests_of_the_cycle() -> None:
    with open_environment(partner=TWO_CURRENCIES) as env:
        preview = env.post("/api/cycles", {"dry_run": True}, status=200)
        assert env.simulator.requests_of("start") == () and preview["dry_run"] is True
        cycle = env.run_cycle()
        assert sorted_start_requests(env) == sorted(
            (item["path"], json.dumps(item["body"], sort_keys=True)) for item in preview["requests"]
        )
        assert [item["key"] for item in preview["requests"]] == [
            run["key"] for run in cycle["runs"]
        ]
        # The cycle finds all keys without a setting.
        assert sorted(outcomes_by_key(cycle)) == sorted(env.simulator.export_keys())
        assert (cycle["outcome"], cycle["outcomes"]) == ("complete", {"landed": len(cycle["runs"])})
        assert left_out_codes(cycle) == left_out_codes(preview) == ["invoice_legacy"]


@pytest.mark.parametrize(
    "body", [{"dry_run": "yes"}, {"dry_run": None}, {"dryrun": True}, {"dry_run": True, "x": 1}]
)
def test_post_cycle_with_invalid_body_returns_400(body: dict[str, Any]) -> None:
    with open_environment() as env:
        assert env.post("/api/cycles", body, status=400)["code"] == "request_invalid"
        assert env.simulator.requests == ()


def test_cycle_with_paged_and_respelled_invoice_list_lands_same_keys() -> None:
    unusual = Behaviour(
        ready_after_polls=0,
        invoice_paging="paged",
        invoice_spelling="table",
        invoice_periods="present",
        amended_invoice="reissued",
    )
    with open_environment(behaviour=unusual) as env:
        cycle = env.run_cycle()
        voided = next(
            invoice for invoice in env.simulator.invoices() if invoice.document_type == "void_note"
        )
        assert sorted(left_out_codes(cycle)) == ["invoice_legacy", "invoice_voided"]
        billed = {key.split("/")[1] for key in outcomes_by_key(cycle) if key.startswith("billed")}
        assert billed == {
            invoice.invoice_id for invoice in env.simulator.invoices() if not invoice.legacy
        } - {voided.invoice_id}
        assert voided.amended_by in billed and set(outcomes_by_key(cycle).values()) == {"landed"}


def test_cycle_with_throttled_invoice_list_waits_for_retry_after() -> None:
    faults = Faults().add(
        Match(operation="invoices", nth=(1, 2)),
        FaultResponse(status=429, headers={"Retry-After": "57"}),
    )
    with open_environment(faults=faults) as env:
        cycle = env.run_cycle()
        list_times = [request.clock for request in env.simulator.requests_of("invoices")]
        assert len(list_times) == 3
        assert all(
            later - earlier >= timedelta(seconds=57) for earlier, later in pairwise(list_times)
        )
        assert set(outcomes_by_key(cycle).values()) == {"landed"} and left_out_codes(cycle) == [
            "invoice_legacy"
        ]


@pytest.mark.parametrize(
    ("path", "body"),
    [("/api/cycles", {}), ("/api/backfills", {"from": "2026-10", "to": "2026-10"})],
    ids=["cycle", "backfill"],
)
def test_wait_for_invoice_list_is_shown_with_next_check_and_retry_after(
    path: str, body: dict[str, Any]
) -> None:
    faults = Faults().add(
        Match(operation="invoices", nth=(1,)),
        FaultResponse(status=429, headers={"Retry-After": "1800"}),
    )
    with open_environment(faults=faults) as env:
        resource = env.host.request("POST", path, json=body).header("Location")
        assert resource
        env.host.advance(timedelta(seconds=600))
        waiting = env.host.request("GET", resource)
        document = json.loads(waiting.body)
        until = parse_iso(document["next_check_at"]) - env.clock.now()
        assert timedelta(seconds=1190) < until <= timedelta(seconds=1200)
        assert int(waiting.header("Retry-After") or 0) - 1 < until.total_seconds() <= 1200
        env.host.wait(resource.rsplit("/", 1)[1], 60)
        ended = env.get(resource)
        assert (ended["state"], ended["next_check_at"]) == ("ended", None)
        assert env.clock.now() >= parse_iso(document["next_check_at"])


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (FaultResponse(status=503), "partner_center_unavailable"),
        (FaultResponse(status=429, headers={"Retry-After": "7200"}), "partner_center_throttled"),
        (FaultResponse(status=401), "partner_center_unauthorized"),
        (FaultResponse(status=403), "partner_center_forbidden"),
        (FaultResponse(status=400), "partner_center_refused"),
        (FaultResponse(body="html"), "partner_center_malformed"),
        (FaultResponse(body="json_list"), "partner_center_malformed"),
        (FaultResponse(drop=True), "partner_center_unavailable"),
    ],
)
def test_cycle_without_invoice_list_uses_known_invoices(response: FaultResponse, code: str) -> None:
    with open_environment() as env:
        first = env.run_cycle()
        env.simulator.faults = Faults().add(Match(operation="invoices"), response)
        env.host.advance(timedelta(days=1))
        second = env.run_cycle()
        assert outcomes_by_key(second).keys() == {
            key for key in outcomes_by_key(first) if env.settled_invoice_id not in key
        }
        assert env.invoice_id in str(outcomes_by_key(second)) and second["outcome"] == "incomplete"
        assert sorted(left_out_codes(second)) == sorted(["invoice_legacy", code])


def read_events(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, Any]]:
    events = [
        json.loads(record.getMessage())
        for record in caplog.records
        if record.name == "partner_billing.events"
    ]
    return [event for event in events if event["event"] == name]


@pytest.mark.parametrize("currencies", ["USD", ""])
@pytest.mark.parametrize(
    ("status", "code"), [(401, "partner_center_unauthorized"), (403, "partner_center_forbidden")]
)
def test_first_cycle_that_partner_center_rejects_is_incomplete(
    status: int, code: str, currencies: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "partner_billing.events")
    faults = Faults().add(Match(operation="invoices"), FaultResponse(status=status))
    with open_environment(faults=faults, EXPORT_CURRENCIES=currencies) as env:
        cycle = env.run_cycle()
        codes = [code] if currencies else ["currencies_unknown", code]
        assert (cycle["outcome"], sorted(left_out_codes(cycle))) == ("incomplete", codes)
        # Unbilled data is still requested for the configured currencies.
        assert len(cycle["runs"]) == (4 if currencies else 0)
        summary = env.get("/api/status")["last_cycle"]
        assert (summary["outcome"], sorted(left_out_codes(summary))) == ("incomplete", codes)
        [ended] = read_events(caplog, "cycle_ended")
        assert (ended["outcome"], ended["left_out"], ended["codes"]) == (
            "incomplete",
            len(codes),
            ",".join(codes),
        )
        planned = read_events(caplog, "dataset_planned")
        assert {event["dataset"] for event in planned if event["incomplete"]} == {
            event["dataset"]
            for event in planned
            if not currencies or event["dataset"].startswith("billed")
        }


def test_first_backfill_that_partner_center_rejects_is_incomplete(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "partner_billing.events")
    faults = Faults().add(Match(operation="invoices"), FaultResponse(status=401))
    with open_environment(faults=faults) as env:
        request = {"from": "2026-10", "to": "2026-10", "datasets": ["billed_usage"]}
        backfill_id = env.post("/api/backfills", request)["backfill_id"]
        env.host.wait(backfill_id, 60)
        backfill = env.get(f"/api/backfills/{backfill_id}")
        assert (backfill["state"], backfill["outcome"]) == ("ended", "incomplete")
        assert left_out_codes(backfill) == ["partner_center_unauthorized"]
        [ended] = read_events(caplog, "backfill_ended")
        assert (ended["outcome"], ended["codes"]) == ("incomplete", "partner_center_unauthorized")


def test_cycle_with_next_links_without_offset_requests_every_invoice() -> None:
    behaviour = replace(
        BEHAVIOUR,
        invoice_paging="paged_without_offset",
        amended_invoice="reissued",
        invoice_amendments="short",
        legacy_invoice_id="letters",
    )
    with open_environment(behaviour=behaviour) as env:
        cycle = env.run_cycle()
        [amending] = [each for each in env.simulator.invoices() if each.amends]
        assert sorted(outcomes_by_key(cycle)) == sorted(
            key for key in env.simulator.export_keys() if f"/{amending.amends}/" not in key
        )
        assert sorted(left_out_codes(cycle)) == ["invoice_legacy", "invoice_voided"]
        assert cycle["outcome"] == "complete"
        stored = env.on_loop(env.app.ledger.invoices.get(amending.invoice_id))
        assert stored is not None
        assert (stored.issued, stored.currency, stored.amends) == (
            amending.issued,
            amending.currency,
            amending.amends,
        )


def test_cycle_with_truncated_invoice_list_requests_known_invoices_and_is_incomplete() -> None:
    with open_environment(partner=TWO_CURRENCIES, INVOICE_SETTLE_DAYS="365") as env:
        first = env.run_cycle()
        env.simulator.behaviour = replace(BEHAVIOUR, invoice_paging="truncated")
        second = env.run_cycle()
        assert outcomes_by_key(second).keys() == outcomes_by_key(first).keys()
        assert second["outcome"] == "incomplete"
        assert sorted(left_out_codes(second)) == ["invoice_legacy", "invoice_list_incomplete"]


def test_invoice_of_unknown_kind_that_is_listed_manually_is_requested() -> None:
    with open_environment(INVOICE_IDS="T016907411", EXPORT_DATASETS="billed_usage") as env:
        cycle = env.run_cycle()
        assert "billed_usage/T016907411/full" in outcomes_by_key(cycle)
        assert "invoice_unknown_kind" not in left_out_codes(cycle)


def test_key_that_never_had_data_and_was_rejected_is_not_in_the_catalogue() -> None:
    with open_environment() as env:
        rejected = env.land("billed_usage", invoice_id="G999999999")
        assert (rejected["outcome"], rejected["code"]) == ("failed", "graph_bad_request")
        currency = env.land("unbilled_usage", currency_code="CHF")
        assert (currency["outcome"], currency["code"]) == ("failed", "graph_bad_request")
        assert env.get("/api/catalogue")["entries"] == []
        landed = env.land("billed_usage")
        [entry] = env.get("/api/catalogue")["entries"]
        assert entry["key"] == landed["key"]


def test_cycle_with_unavailable_currency_fails_only_those_keys() -> None:
    with open_environment(INVOICE_SOURCE="none", EXPORT_CURRENCIES="USD,CHF") as env:
        cycle = env.run_cycle()
        rejected = {run["key"]: run["code"] for run in cycle["runs"] if run["outcome"] == "failed"}
        # The service rejects each request in CHF.
        assert set(rejected.values()) == {"graph_bad_request"} and all(
            "/CHF/" in key for key in rejected
        )
        # The exports in USD land.
        assert {outcome for key, outcome in outcomes_by_key(cycle).items() if "/USD/" in key} == {
            "landed"
        }
        assert cycle["outcome"] == "incomplete" and cycle["outcomes"] == {"failed": 4, "landed": 4}


def test_cycle_with_manifest_of_other_tenant_fails_with_manifest_mismatch() -> None:
    with open_environment() as env:
        landed = env.run_cycle()
        env.simulator.behaviour = Behaviour(ready_after_polls=0, hostile_manifest="other_tenant")
        env.host.advance(timedelta(days=1))
        cycle = env.run_cycle()
        assert {run["code"] for run in cycle["runs"]} == {"manifest_mismatch"} and cycle[
            "outcome"
        ] == "incomplete"
        assert outcomes_by_key(cycle).keys() == {
            key for key in outcomes_by_key(landed) if env.settled_invoice_id not in key
        }


def test_cycle_with_invoice_listed_before_its_data_retries_without_failure() -> None:
    late = Behaviour(ready_after_polls=0, invoice_exportable="failed_5000_at_first", first_hours=72)
    with open_environment(behaviour=late, start=datetime(2027, 1, 9, 5, 0, tzinfo=UTC)) as env:
        newest = env.invoice_id
        outcomes = []
        for _ in range(4):
            cycle = env.run_cycle()
            outcomes.append(outcomes_by_key(cycle)[f"billed_usage/{newest}/full"])
            assert cycle["outcome"] == "complete"
            env.host.advance(timedelta(days=1))
        assert outcomes == ["no_data", "no_data", "no_data", "landed"]


def test_settled_invoices_are_not_due_for_a_week_and_dry_run_returns_due_date() -> None:
    with open_environment(
        INVOICE_SETTLE_DAYS="5", start=datetime(2026, 12, 20, 5, 0, tzinfo=UTC)
    ) as env:
        first = env.run_cycle()
        env.host.advance(timedelta(days=1))
        preview = env.post("/api/cycles", {"dry_run": True}, status=200)
        billed = sorted(key for key in outcomes_by_key(first) if key.startswith("billed"))
        assert sorted(item["key"] for item in preview["not_due"]) == billed
        assert {parse_iso(item["next_due_at"]) for item in preview["not_due"]} == {
            datetime(2026, 12, 27, 5, 0, tzinfo=UTC)
        }
        assert not [key for key in outcomes_by_key(env.run_cycle()) if key.startswith("billed")]
        env.host.advance(timedelta(days=6))
        assert (
            sorted(key for key in outcomes_by_key(env.run_cycle()) if key.startswith("billed"))
            == billed
        )


def test_cycle_with_stalled_unbilled_month_reports_it_without_failure() -> None:
    stalled = Behaviour(ready_after_polls=0, unbilled_data="stalled")
    with open_environment(behaviour=stalled, start=datetime(2027, 1, 6, 5, 0, tzinfo=UTC)) as env:
        cycle = env.run_cycle()
        assert cycle["outcome"] == "complete"
        assert {item["key"]: item["stalled_since"] for item in cycle["stalled"]} == {
            "unbilled_usage/2027-01/USD/full": "2027-01-02T00:35:00Z",
            "unbilled_reconciliation/2027-01/USD/full": "2027-01-02T00:35:00Z",
        }
        env.simulator.behaviour = BEHAVIOUR
        env.host.advance(timedelta(hours=1))
        assert env.run_cycle()["stalled"] == []


def test_overlapping_cycles_share_their_runs() -> None:
    slow = Behaviour(ready_after_polls=0, ready_after_seconds=7_200, retry_after_seconds=3_600)
    with open_environment(behaviour=slow) as env:
        first, second = env.post("/api/cycles"), env.post("/api/cycles")
        for cycle in (first, second):
            env.host.wait(cycle["cycle_id"], 120)
        ended = [env.get(f"/api/cycles/{cycle['cycle_id']}") for cycle in (first, second)]
        assert (
            len(sorted_start_requests(env))
            == len(set(sorted_start_requests(env)))
            == len(ended[0]["runs"])
        )
        runs = [run for cycle in ended for run in cycle["runs"]]
        landed = {run["run_id"]: run["key"] for run in runs if run["outcome"] == "landed"}
        shared = {run["live_run_id"]: run["key"] for run in runs if run["outcome"] == "superseded"}
        assert (
            len(landed) == len(env.simulator.export_keys())
            and shared.items() <= landed.items()
            and shared
        )
        assert {cycle["outcome"] for cycle in ended} == {"complete"}


def test_scheduled_cycle_spreads_starts_over_two_minutes_unlike_manual_cycle() -> None:
    with open_environment(timers=True, EXPORT_PARALLELISM="32") as env:
        env.host.advance_to(datetime(2026, 11, 22, 6, 0, tzinfo=UTC))
        starts = [request.clock for request in env.simulator.requests_of("start")]
        tick = datetime(2026, 11, 22, 5, 0, tzinfo=UTC)
        assert len(starts) == len(env.simulator.export_keys())
        early = timedelta(seconds=1)  # Timers can fire up to one second before their tick.
        assert all(tick - early <= start <= tick + timedelta(minutes=2) for start in starts)
        assert len(set(starts)) > 4
        before = len(starts)
        env.run_cycle()
        assert len({request.clock for request in env.simulator.requests_of("start")[before:]}) == 1


def test_timer_tick_fired_twice_starts_one_cycle() -> None:
    with open_environment(timers=True) as env:
        env.host.advance_to(datetime(2026, 11, 22, 5, 0, tzinfo=UTC))
        env.host.fire_timer("start_scheduled_cycle")
        env.host.advance(timedelta(hours=1))
        cycles = [
            instance for instance in env.host.instances() if instance["name"] == "export_cycle"
        ]
        assert len(env.simulator.requests_of("start")) == len(env.simulator.export_keys())
        assert [
            instance["instanceId"]
            for instance in cycles
            if instance["instanceId"].endswith("t050000z")
        ] == ["cycle-20261122t050000z"]


def test_ticks_missed_during_downtime_start_one_cycle(tmp_path: Path) -> None:
    with open_environment(timers=True, state_dir=tmp_path) as env:
        env.host.advance_to(datetime(2026, 11, 22, 6, 0, tzinfo=UTC))
        env.host.stop()
        env.clock.move_to(datetime(2026, 11, 26, 16, 0, tzinfo=UTC))
        env.host = env.start_host()
        env.host.advance(timedelta(hours=1))
        cycles = sorted(
            instance["instanceId"]
            for instance in env.host.instances()
            if instance["name"] == "export_cycle"
        )
        assert cycles == ["cycle-20261122t050000z", "cycle-20261126t160000z"]
        env.host.advance_to(datetime(2026, 11, 27, 6, 0, tzinfo=UTC))
        cycles = [
            instance["instanceId"]
            for instance in env.host.instances()
            if instance["name"] == "export_cycle"
        ]
        assert len(cycles) == 3


def test_cycle_just_after_month_start_does_not_land_data_of_wrong_month() -> None:
    opens_late = Behaviour(ready_after_polls=0, month_opens_after_hours=6)
    with open_environment(
        behaviour=opens_late,
        start=datetime(2026, 12, 31, 23, 45, tzinfo=UTC),
        EXPORT_PERIODS="current",
    ) as env:
        # The cycle starts before midnight and waits until the requested month is unambiguous.
        cycle = env.run_cycle()
        unbilled = {
            run["key"]: (run["outcome"], run["code"])
            for run in cycle["runs"]
            if run["key"].startswith("unbilled")
        }
        starts = [
            request
            for request in env.simulator.requests_of("start")
            if "unbilled" in (request.dataset or "")
        ]
        assert all(request.clock >= datetime(2027, 1, 1, 0, 30, tzinfo=UTC) for request in starts)
        # After midnight, December is the last month.
        assert all(request.json["billingPeriod"] == "last" for request in starts)
        # The service still returns the data of November for "last".
        assert set(unbilled.values()) == {("no_data", "month_not_open")}
        env.host.advance_to(datetime(2027, 1, 1, 6, 30, tzinfo=UTC))
        again = env.run_cycle()
        assert {
            run["key"].split("/")[1] for run in again["runs"] if run["key"].startswith("unbilled")
        } == {"2027-01"}


def test_cycle_just_after_midnight_waits_until_the_month_is_unambiguous() -> None:
    with open_environment(
        start=datetime(2027, 1, 1, 0, 10, tzinfo=UTC),
        EXPORT_DATASETS="unbilled_usage",
        EXPORT_PERIODS="current,last",
    ) as env:
        env.run_cycle()
        starts = {
            request.json["billingPeriod"]: request.clock
            for request in env.simulator.requests_of("start")
        }
        assert starts.keys() == {"current", "last"}
        assert min(starts.values()) >= datetime(2027, 1, 1, 0, 30, tzinfo=UTC)
