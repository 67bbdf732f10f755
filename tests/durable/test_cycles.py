"""Cycles: what they ask for, how they find invoices, how they wait, share, fail in part and sum up."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from local.simulator.behaviour import Behaviour
from local.simulator.faults import FaultResponse, Faults, Match
from shared.clock import parse_iso
from tests.support.in_memory import SMALL, MemoryWorld

BEHAVIOUR = Behaviour(ready_after_polls=0)
TWO = type(SMALL)(
    currencies=("USD", "EUR"), customers=2, resources=1, licences=1, rows_per_blob=1_000
)


class OfCycles(MemoryWorld):
    @property
    def settled(self) -> str:
        """The older invoice, which rests after it was landed once."""
        return next(
            invoice.invoice_id for invoice in self.simulator.invoices() if not invoice.legacy
        )


def open_world(**more: Any) -> OfCycles:
    return OfCycles(**{"behaviour": BEHAVIOUR, **more})


def asked(world: MemoryWorld) -> list[tuple[str, str]]:
    """Path and body of each POST, sorted."""
    return sorted(
        (request.path.removeprefix("/v1.0"), json.dumps(request.json, sort_keys=True))
        for request in world.simulator.requests_of("start")
    )


def codes(cycle: dict[str, Any]) -> list[str]:
    return [one["code"] for one in cycle["left_out"]]


def by_key(cycle: dict[str, Any]) -> dict[str, str]:
    return {run["key"]: run["outcome"] for run in cycle["runs"]}


def test_a_dry_run_tells_exactly_the_requests_that_the_cycle_then_makes() -> None:
    with open_world(partner=TWO) as world:
        told = world.post("/api/cycles", {"dry_run": True}, status=200)
        assert world.simulator.requests_of("start") == () and told["dry_run"] is True
        cycle = world.run_cycle()
        assert asked(world) == sorted(
            (one["path"], json.dumps(one["body"], sort_keys=True)) for one in told["requests"]
        )
        assert [one["key"] for one in told["requests"]] == [run["key"] for run in cycle["runs"]]
        assert sorted(by_key(cycle)) == sorted(
            world.simulator.export_keys()
        )  # found without a setting
        assert (cycle["outcome"], cycle["outcomes"]) == ("complete", {"landed": len(cycle["runs"])})
        assert codes(cycle) == codes(told) == ["invoice_legacy"]


@pytest.mark.parametrize(
    "body", [{"dry_run": "yes"}, {"dry_run": None}, {"dryrun": True}, {"dry_run": True, "x": 1}]
)
def test_a_cycle_takes_no_other_fields(body: dict[str, Any]) -> None:
    with open_world() as world:
        assert world.post("/api/cycles", body, status=400)["code"] == "request_invalid"
        assert world.simulator.requests == ()


def test_paged_lists_other_spellings_and_periods_give_the_same_cycle() -> None:
    odd = Behaviour(
        ready_after_polls=0,
        invoice_paging="paged",
        invoice_spelling="table",
        invoice_periods="present",
        amended_invoice="reissued",
    )
    with open_world(behaviour=odd) as world:
        cycle = world.run_cycle()
        voided = next(
            invoice
            for invoice in world.simulator.invoices()
            if invoice.document_type == "void_note"
        )
        assert sorted(codes(cycle)) == ["invoice_legacy", "invoice_voided"]
        billed = {key.split("/")[1] for key in by_key(cycle) if key.startswith("billed")}
        assert billed == {
            one.invoice_id for one in world.simulator.invoices() if not one.legacy
        } - {voided.invoice_id}
        assert voided.amended_by in billed and set(by_key(cycle).values()) == {"landed"}


def test_a_429_of_partner_center_is_waited_out() -> None:
    faults = Faults().add(
        Match(operation="invoices", nth=(1, 2)),
        FaultResponse(status=429, headers={"Retry-After": "57"}),
    )
    with open_world(faults=faults) as world:
        cycle = world.run_cycle()
        looks = [request.clock for request in world.simulator.requests_of("invoices")]
        assert len(looks) == 3
        assert all(later - earlier >= timedelta(seconds=57) for earlier, later in pairwise(looks))
        assert set(by_key(cycle).values()) == {"landed"} and codes(cycle) == ["invoice_legacy"]


@pytest.mark.parametrize(
    ("answer", "code"),
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
def test_without_the_list_a_cycle_goes_on_with_the_invoices_it_knows(
    answer: FaultResponse, code: str
) -> None:
    with open_world() as world:
        first = world.run_cycle()
        world.simulator.faults = Faults().add(Match(operation="invoices"), answer)
        world.host.advance(timedelta(days=1))
        second = world.run_cycle()
        assert by_key(second).keys() == {key for key in by_key(first) if world.settled not in key}
        assert world.invoice_id in str(by_key(second)) and second["outcome"] == "complete"
        assert sorted(codes(second)) == sorted(["invoice_legacy", code])


def test_a_partner_without_invoices_is_told_so_and_the_rest_goes_on() -> None:
    with open_world(INVOICE_SOURCE="none", EXPORT_CURRENCIES="USD,CHF") as world:
        cycle = world.run_cycle()
        rejected = {run["key"]: run["code"] for run in cycle["runs"] if run["outcome"] == "failed"}
        assert set(rejected.values()) == {"graph_bad_request"} and all(
            "/CHF/" in key for key in rejected
        )  # named by its code
        assert {outcome for key, outcome in by_key(cycle).items() if "/USD/" in key} == {
            "landed"
        }  # and the others are left alone
        assert cycle["outcome"] == "incomplete" and cycle["outcomes"] == {"failed": 4, "landed": 4}


def test_an_invoice_of_another_tenant_fails_alone() -> None:
    with open_world() as world:
        landed = world.run_cycle()
        world.simulator.behaviour = Behaviour(ready_after_polls=0, hostile_manifest="other_tenant")
        world.host.advance(timedelta(days=1))
        cycle = world.run_cycle()
        assert {run["code"] for run in cycle["runs"]} == {"manifest_mismatch"} and cycle[
            "outcome"
        ] == "incomplete"
        assert by_key(cycle).keys() == {key for key in by_key(landed) if world.settled not in key}


def test_an_invoice_that_is_listed_before_its_data_is_asked_for_again_and_is_no_failure() -> None:
    late = Behaviour(ready_after_polls=0, invoice_exportable="failed_5000_at_first", first_hours=72)
    with open_world(behaviour=late, start=datetime(2027, 1, 9, 5, 0, tzinfo=UTC)) as world:
        newest = world.invoice_id
        outcomes = []
        for _ in range(4):
            cycle = world.run_cycle()
            outcomes.append(by_key(cycle)[f"billed_usage/{newest}/full"])
            assert cycle["outcome"] == "complete"
            world.host.advance(timedelta(days=1))
        assert outcomes == ["no_data", "no_data", "no_data", "landed"]


def test_settled_invoices_rest_for_a_week_and_the_dry_run_says_until_when() -> None:
    with open_world(
        INVOICE_SETTLE_DAYS="5", start=datetime(2026, 12, 20, 5, 0, tzinfo=UTC)
    ) as world:
        first = world.run_cycle()
        world.host.advance(timedelta(days=1))
        told = world.post("/api/cycles", {"dry_run": True}, status=200)
        billed = sorted(key for key in by_key(first) if key.startswith("billed"))
        assert sorted(one["key"] for one in told["not_due"]) == billed
        assert {parse_iso(one["next_due_at"]) for one in told["not_due"]} == {
            datetime(2026, 12, 27, 5, 0, tzinfo=UTC)
        }
        assert not [key for key in by_key(world.run_cycle()) if key.startswith("billed")]
        world.host.advance(timedelta(days=6))
        assert (
            sorted(key for key in by_key(world.run_cycle()) if key.startswith("billed")) == billed
        )


def test_an_unbilled_month_that_does_not_move_is_told_and_is_no_failure() -> None:
    stalled = Behaviour(ready_after_polls=0, unbilled_data="stalled")
    with open_world(behaviour=stalled, start=datetime(2027, 1, 6, 5, 0, tzinfo=UTC)) as world:
        cycle = world.run_cycle()
        assert cycle["outcome"] == "complete"
        assert {one["key"]: one["stalled_since"] for one in cycle["stalled"]} == {
            "unbilled_usage/2027-01/USD/full": "2027-01-02T00:35:00Z",
            "unbilled_reconciliation/2027-01/USD/full": "2027-01-02T00:35:00Z",
        }
        world.simulator.behaviour = BEHAVIOUR
        world.host.advance(timedelta(hours=1))
        assert world.run_cycle()["stalled"] == []


def test_overlapping_cycles_share_their_runs() -> None:
    slow = Behaviour(ready_after_polls=0, ready_after_seconds=7_200, retry_after_seconds=3_600)
    with open_world(behaviour=slow) as world:
        one, other = world.post("/api/cycles"), world.post("/api/cycles")
        for cycle in (one, other):
            world.host.wait(cycle["cycle_id"], 120)
        ended = [world.get(f"/api/cycles/{cycle['cycle_id']}") for cycle in (one, other)]
        assert len(asked(world)) == len(set(asked(world))) == len(ended[0]["runs"])
        runs = [run for cycle in ended for run in cycle["runs"]]
        landed = {run["run_id"]: run["key"] for run in runs if run["outcome"] == "landed"}
        shared = {run["live_run_id"]: run["key"] for run in runs if run["outcome"] == "superseded"}
        assert (
            len(landed) == len(world.simulator.export_keys())
            and shared.items() <= landed.items()
            and shared
        )
        assert {cycle["outcome"] for cycle in ended} == {"complete"}


def test_a_scheduled_cycle_spreads_its_starts_over_two_minutes_and_a_manual_one_does_not() -> None:
    with open_world(timers=True, EXPORT_PARALLELISM="32") as world:
        world.host.advance_to(datetime(2026, 11, 22, 6, 0, tzinfo=UTC))
        starts = [request.clock for request in world.simulator.requests_of("start")]
        tick = datetime(2026, 11, 22, 5, 0, tzinfo=UTC)
        assert len(starts) == len(world.simulator.export_keys())
        early = timedelta(seconds=1)  # timers fire up to so much before their tick
        assert all(tick - early <= start <= tick + timedelta(minutes=2) for start in starts)
        assert len(set(starts)) > 4
        before = len(starts)
        world.run_cycle()
        assert (
            len({request.clock for request in world.simulator.requests_of("start")[before:]}) == 1
        )


def test_a_tick_that_fires_twice_starts_one_cycle() -> None:
    with open_world(timers=True) as world:
        world.host.advance_to(datetime(2026, 11, 22, 5, 0, tzinfo=UTC))
        world.host.fire_timer("start_scheduled_cycle")
        world.host.advance(timedelta(hours=1))
        cycles = [one for one in world.host.instances() if one["name"] == "export_cycle"]
        assert len(world.simulator.requests_of("start")) == len(world.simulator.export_keys())
        assert [one["instanceId"] for one in cycles if one["instanceId"].endswith("t050000z")] == [
            "cycle-20261122t050000z"
        ]


def test_ticks_missed_while_the_app_was_down_lead_to_one_cycle(tmp_path: Path) -> None:
    with open_world(timers=True, state_dir=tmp_path) as world:
        world.host.advance_to(datetime(2026, 11, 22, 6, 0, tzinfo=UTC))
        world.host.stop()
        world.clock.move_to(datetime(2026, 11, 26, 16, 0, tzinfo=UTC))
        world.host = world.open_host()
        world.host.advance(timedelta(hours=1))
        cycles = sorted(
            one["instanceId"] for one in world.host.instances() if one["name"] == "export_cycle"
        )
        assert cycles == ["cycle-20261122t050000z", "cycle-20261126t160000z"]
        world.host.advance_to(datetime(2026, 11, 27, 6, 0, tzinfo=UTC))
        assert len([one for one in world.host.instances() if one["name"] == "export_cycle"]) == 3


def test_data_of_the_wrong_month_are_not_landed_just_after_midnight_of_the_first() -> None:
    opens_late = Behaviour(ready_after_polls=0, month_opens_after_hours=6)
    with open_world(
        behaviour=opens_late,
        start=datetime(2026, 12, 31, 23, 45, tzinfo=UTC),
        EXPORT_PERIODS="current",
    ) as world:
        cycle = (
            world.run_cycle()
        )  # asked before midnight, it waits until it is clear which month is meant
        unbilled = {
            run["key"]: (run["outcome"], run["code"])
            for run in cycle["runs"]
            if run["key"].startswith("unbilled")
        }
        starts = [
            request
            for request in world.simulator.requests_of("start")
            if "unbilled" in (request.dataset or "")
        ]
        assert all(request.clock >= datetime(2027, 1, 1, 0, 30, tzinfo=UTC) for request in starts)
        assert all(
            request.json["billingPeriod"] == "last" for request in starts
        )  # of the month that was meant: December
        assert set(unbilled.values()) == {
            ("no_data", "month_not_open")
        }  # Microsoft still takes it for November's
        world.host.advance_to(datetime(2027, 1, 1, 6, 30, tzinfo=UTC))
        again = world.run_cycle()
        assert {
            run["key"].split("/")[1] for run in again["runs"] if run["key"].startswith("unbilled")
        } == {"2027-01"}
