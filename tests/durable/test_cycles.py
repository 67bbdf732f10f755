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
from tests.support.in_memory import SMALL, InMemoryEnvironment

BEHAVIOUR = Behaviour(ready_after_polls=0)
TWO = type(SMALL)(
    currencies=("USD", "EUR"), customers=2, resources=1, licences=1, rows_per_blob=1_000
)


class OfCycles(InMemoryEnvironment):
    @property
    def settled(self) -> str:
        """The older invoice, which rests after it was landed once."""
        return next(
            invoice.invoice_id for invoice in self.simulator.invoices() if not invoice.legacy
        )


def open_hooked_environment(**more: Any) -> OfCycles:
    return OfCycles(**{"behaviour": BEHAVIOUR, **more})


def asked(env: InMemoryEnvironment) -> list[tuple[str, str]]:
    """Path and body of each POST, sorted."""
    return sorted(
        (request.path.removeprefix("/v1.0"), json.dumps(request.json, sort_keys=True))
        for request in env.simulator.requests_of("start")
    )


def codes(cycle: dict[str, Any]) -> list[str]:
    return [one["code"] for one in cycle["left_out"]]


def by_key(cycle: dict[str, Any]) -> dict[str, str]:
    return {run["key"]: run["outcome"] for run in cycle["runs"]}


def test_a_dry_run_tells_exactly_the_requests_that_the_cycle_then_makes() -> None:
    with open_hooked_environment(partner=TWO) as env:
        told = env.post("/api/cycles", {"dry_run": True}, status=200)
        assert env.simulator.requests_of("start") == () and told["dry_run"] is True
        cycle = env.run_cycle()
        assert asked(env) == sorted(
            (one["path"], json.dumps(one["body"], sort_keys=True)) for one in told["requests"]
        )
        assert [one["key"] for one in told["requests"]] == [run["key"] for run in cycle["runs"]]
        assert sorted(by_key(cycle)) == sorted(
            env.simulator.export_keys()
        )  # found without a setting
        assert (cycle["outcome"], cycle["outcomes"]) == ("complete", {"landed": len(cycle["runs"])})
        assert codes(cycle) == codes(told) == ["invoice_legacy"]


@pytest.mark.parametrize(
    "body", [{"dry_run": "yes"}, {"dry_run": None}, {"dryrun": True}, {"dry_run": True, "x": 1}]
)
def test_a_cycle_takes_no_other_fields(body: dict[str, Any]) -> None:
    with open_hooked_environment() as env:
        assert env.post("/api/cycles", body, status=400)["code"] == "request_invalid"
        assert env.simulator.requests == ()


def test_paged_lists_other_spellings_and_periods_give_the_same_cycle() -> None:
    odd = Behaviour(
        ready_after_polls=0,
        invoice_paging="paged",
        invoice_spelling="table",
        invoice_periods="present",
        amended_invoice="reissued",
    )
    with open_hooked_environment(behaviour=odd) as env:
        cycle = env.run_cycle()
        voided = next(
            invoice for invoice in env.simulator.invoices() if invoice.document_type == "void_note"
        )
        assert sorted(codes(cycle)) == ["invoice_legacy", "invoice_voided"]
        billed = {key.split("/")[1] for key in by_key(cycle) if key.startswith("billed")}
        assert billed == {one.invoice_id for one in env.simulator.invoices() if not one.legacy} - {
            voided.invoice_id
        }
        assert voided.amended_by in billed and set(by_key(cycle).values()) == {"landed"}


def test_a_429_of_partner_center_is_waited_out() -> None:
    faults = Faults().add(
        Match(operation="invoices", nth=(1, 2)),
        FaultResponse(status=429, headers={"Retry-After": "57"}),
    )
    with open_hooked_environment(faults=faults) as env:
        cycle = env.run_cycle()
        looks = [request.clock for request in env.simulator.requests_of("invoices")]
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
    with open_hooked_environment() as env:
        first = env.run_cycle()
        env.simulator.faults = Faults().add(Match(operation="invoices"), answer)
        env.host.advance(timedelta(days=1))
        second = env.run_cycle()
        assert by_key(second).keys() == {key for key in by_key(first) if env.settled not in key}
        assert env.invoice_id in str(by_key(second)) and second["outcome"] == "complete"
        assert sorted(codes(second)) == sorted(["invoice_legacy", code])


def test_a_partner_without_invoices_is_told_so_and_the_rest_goes_on() -> None:
    with open_hooked_environment(INVOICE_SOURCE="none", EXPORT_CURRENCIES="USD,CHF") as env:
        cycle = env.run_cycle()
        rejected = {run["key"]: run["code"] for run in cycle["runs"] if run["outcome"] == "failed"}
        assert set(rejected.values()) == {"graph_bad_request"} and all(
            "/CHF/" in key for key in rejected
        )  # named by its code
        assert {outcome for key, outcome in by_key(cycle).items() if "/USD/" in key} == {
            "landed"
        }  # and the others are left alone
        assert cycle["outcome"] == "incomplete" and cycle["outcomes"] == {"failed": 4, "landed": 4}


def test_an_invoice_of_another_tenant_fails_alone() -> None:
    with open_hooked_environment() as env:
        landed = env.run_cycle()
        env.simulator.behaviour = Behaviour(ready_after_polls=0, hostile_manifest="other_tenant")
        env.host.advance(timedelta(days=1))
        cycle = env.run_cycle()
        assert {run["code"] for run in cycle["runs"]} == {"manifest_mismatch"} and cycle[
            "outcome"
        ] == "incomplete"
        assert by_key(cycle).keys() == {key for key in by_key(landed) if env.settled not in key}


def test_an_invoice_that_is_listed_before_its_data_is_asked_for_again_and_is_no_failure() -> None:
    late = Behaviour(ready_after_polls=0, invoice_exportable="failed_5000_at_first", first_hours=72)
    with open_hooked_environment(
        behaviour=late, start=datetime(2027, 1, 9, 5, 0, tzinfo=UTC)
    ) as env:
        newest = env.invoice_id
        outcomes = []
        for _ in range(4):
            cycle = env.run_cycle()
            outcomes.append(by_key(cycle)[f"billed_usage/{newest}/full"])
            assert cycle["outcome"] == "complete"
            env.host.advance(timedelta(days=1))
        assert outcomes == ["no_data", "no_data", "no_data", "landed"]


def test_settled_invoices_rest_for_a_week_and_the_dry_run_says_until_when() -> None:
    with open_hooked_environment(
        INVOICE_SETTLE_DAYS="5", start=datetime(2026, 12, 20, 5, 0, tzinfo=UTC)
    ) as env:
        first = env.run_cycle()
        env.host.advance(timedelta(days=1))
        told = env.post("/api/cycles", {"dry_run": True}, status=200)
        billed = sorted(key for key in by_key(first) if key.startswith("billed"))
        assert sorted(one["key"] for one in told["not_due"]) == billed
        assert {parse_iso(one["next_due_at"]) for one in told["not_due"]} == {
            datetime(2026, 12, 27, 5, 0, tzinfo=UTC)
        }
        assert not [key for key in by_key(env.run_cycle()) if key.startswith("billed")]
        env.host.advance(timedelta(days=6))
        assert sorted(key for key in by_key(env.run_cycle()) if key.startswith("billed")) == billed


def test_an_unbilled_month_that_does_not_move_is_told_and_is_no_failure() -> None:
    stalled = Behaviour(ready_after_polls=0, unbilled_data="stalled")
    with open_hooked_environment(
        behaviour=stalled, start=datetime(2027, 1, 6, 5, 0, tzinfo=UTC)
    ) as env:
        cycle = env.run_cycle()
        assert cycle["outcome"] == "complete"
        assert {one["key"]: one["stalled_since"] for one in cycle["stalled"]} == {
            "unbilled_usage/2027-01/USD/full": "2027-01-02T00:35:00Z",
            "unbilled_reconciliation/2027-01/USD/full": "2027-01-02T00:35:00Z",
        }
        env.simulator.behaviour = BEHAVIOUR
        env.host.advance(timedelta(hours=1))
        assert env.run_cycle()["stalled"] == []


def test_overlapping_cycles_share_their_runs() -> None:
    slow = Behaviour(ready_after_polls=0, ready_after_seconds=7_200, retry_after_seconds=3_600)
    with open_hooked_environment(behaviour=slow) as env:
        one, other = env.post("/api/cycles"), env.post("/api/cycles")
        for cycle in (one, other):
            env.host.wait(cycle["cycle_id"], 120)
        ended = [env.get(f"/api/cycles/{cycle['cycle_id']}") for cycle in (one, other)]
        assert len(asked(env)) == len(set(asked(env))) == len(ended[0]["runs"])
        runs = [run for cycle in ended for run in cycle["runs"]]
        landed = {run["run_id"]: run["key"] for run in runs if run["outcome"] == "landed"}
        shared = {run["live_run_id"]: run["key"] for run in runs if run["outcome"] == "superseded"}
        assert (
            len(landed) == len(env.simulator.export_keys())
            and shared.items() <= landed.items()
            and shared
        )
        assert {cycle["outcome"] for cycle in ended} == {"complete"}


def test_a_scheduled_cycle_spreads_its_starts_over_two_minutes_and_a_manual_one_does_not() -> None:
    with open_hooked_environment(timers=True, EXPORT_PARALLELISM="32") as env:
        env.host.advance_to(datetime(2026, 11, 22, 6, 0, tzinfo=UTC))
        starts = [request.clock for request in env.simulator.requests_of("start")]
        tick = datetime(2026, 11, 22, 5, 0, tzinfo=UTC)
        assert len(starts) == len(env.simulator.export_keys())
        early = timedelta(seconds=1)  # timers fire up to so much before their tick
        assert all(tick - early <= start <= tick + timedelta(minutes=2) for start in starts)
        assert len(set(starts)) > 4
        before = len(starts)
        env.run_cycle()
        assert len({request.clock for request in env.simulator.requests_of("start")[before:]}) == 1


def test_a_tick_that_fires_twice_starts_one_cycle() -> None:
    with open_hooked_environment(timers=True) as env:
        env.host.advance_to(datetime(2026, 11, 22, 5, 0, tzinfo=UTC))
        env.host.fire_timer("start_scheduled_cycle")
        env.host.advance(timedelta(hours=1))
        cycles = [one for one in env.host.instances() if one["name"] == "export_cycle"]
        assert len(env.simulator.requests_of("start")) == len(env.simulator.export_keys())
        assert [one["instanceId"] for one in cycles if one["instanceId"].endswith("t050000z")] == [
            "cycle-20261122t050000z"
        ]


def test_ticks_missed_while_the_app_was_down_lead_to_one_cycle(tmp_path: Path) -> None:
    with open_hooked_environment(timers=True, state_dir=tmp_path) as env:
        env.host.advance_to(datetime(2026, 11, 22, 6, 0, tzinfo=UTC))
        env.host.stop()
        env.clock.move_to(datetime(2026, 11, 26, 16, 0, tzinfo=UTC))
        env.host = env.start_host()
        env.host.advance(timedelta(hours=1))
        cycles = sorted(
            one["instanceId"] for one in env.host.instances() if one["name"] == "export_cycle"
        )
        assert cycles == ["cycle-20261122t050000z", "cycle-20261126t160000z"]
        env.host.advance_to(datetime(2026, 11, 27, 6, 0, tzinfo=UTC))
        assert len([one for one in env.host.instances() if one["name"] == "export_cycle"]) == 3


def test_data_of_the_wrong_month_are_not_landed_just_after_midnight_of_the_first() -> None:
    opens_late = Behaviour(ready_after_polls=0, month_opens_after_hours=6)
    with open_hooked_environment(
        behaviour=opens_late,
        start=datetime(2026, 12, 31, 23, 45, tzinfo=UTC),
        EXPORT_PERIODS="current",
    ) as env:
        cycle = (
            env.run_cycle()
        )  # asked before midnight, it waits until it is clear which month is meant
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
        assert all(
            request.json["billingPeriod"] == "last" for request in starts
        )  # of the month that was meant: December
        assert set(unbilled.values()) == {
            ("no_data", "month_not_open")
        }  # Microsoft still takes it for November's
        env.host.advance_to(datetime(2027, 1, 1, 6, 30, tzinfo=UTC))
        again = env.run_cycle()
        assert {
            run["key"].split("/")[1] for run in again["runs"] if run["key"].startswith("unbilled")
        } == {"2027-01"}
