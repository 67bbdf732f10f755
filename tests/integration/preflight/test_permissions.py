"""Each missing permission or service causes exactly one problem with its own code."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from azure.storage.blob.aio import LinearRetry

from local.azurite import Azurite
from local.simulator import Behaviour, Simulator
from shared.clock import SystemClock
from shared.landing.store import LandingStore
from shared.ledger.keys import stamp
from shared.partner_center.client import PartnerCenterClient
from shared.preflight.context import PreflightContext
from tests.integration.preflight.contexts import (
    RunPreflight,
    connection_without,
    get_facts,
    get_problems,
    host_connection_without,
    tables_connection_without,
    with_landing,
    with_tables,
)

UNREACHABLE_URL = "http://127.0.0.1:9/nobody"  # the discard port, without a service


async def test_preflight_with_valid_setup_returns_ok(
    context: PreflightContext, run_preflight: RunPreflight
) -> None:
    report = await run_preflight(context)
    assert report["status"] == "ok" and not get_problems(report)
    assert {check["name"]: check["status"] for check in report["checks"]} == {
        "settings": "ok",
        "versions": "ok",
        "graph_token": "skipped",
        "graph": "ok",
        "partner_center": "skipped",
        "storage_token": "skipped",
        "landing": "ok",
        "copy_from_url": "skipped",
        "tables": "ok",
        "host_storage": "ok",
        "clock": "ok",
        "region": "ok",
    }
    assert get_facts(report, "host_storage") == {"blob": "200", "queue": "200", "table": "200"}


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ({"permission": "denied"}, "graph_forbidden"),
        ({"authorization": "required"}, "graph_unauthorized"),
        ({"throttle_every": 1}, "graph_throttled"),
    ],
    ids=str,
)
async def test_preflight_with_graph_error_reports_only_graph(
    context: PreflightContext,
    run_preflight: RunPreflight,
    simulator: Simulator,
    behaviour: dict[str, Any],
    code: str,
) -> None:
    simulator.behaviour = Behaviour(**behaviour)
    report = await run_preflight(context)
    assert get_problems(report) == {"graph": code}


@pytest.mark.parametrize(
    ("permission", "expected"),
    [("granted", {}), ("denied", {"partner_center": "partner_center_forbidden"})],
)
async def test_preflight_checks_partner_center_permission(
    context: PreflightContext,
    run_preflight: RunPreflight,
    simulator: Simulator,
    graph_origin: str,
    permission: str,
    expected: dict[str, str],
) -> None:
    simulator.behaviour = replace(Behaviour(), partner_center_permission=permission)  # type: ignore[arg-type]
    center = PartnerCenterClient(base_url=graph_origin, credential=None, clock=context.clock)
    report = await run_preflight(replace(context, list_invoices=center.list_invoices))
    await center.close()
    assert get_problems(report) == expected
    assert (
        next(check["status"] for check in report["checks"] if check["name"] == "partner_center")
        != "skipped"
    )


async def test_preflight_during_throttle_sends_no_graph_request(
    context: PreflightContext, run_preflight: RunPreflight, simulator: Simulator
) -> None:
    await context.ledger.throttle.pause(600)
    report = await run_preflight(context)
    assert get_problems(report) == {"graph": "graph_throttled"} and not simulator.requests
    assert 590 < get_facts(report, "graph")["seconds_left"] <= 600


@pytest.mark.parametrize(
    ("permission", "failed_step"),
    [("write", "write"), ("read", "read"), ("list", "list"), ("delete", "delete")],
)
async def test_preflight_without_container_permission_names_the_failed_step(
    azurite: Azurite,
    context: PreflightContext,
    run_preflight: RunPreflight,
    permission: str,
    failed_step: str,
) -> None:
    report = await run_preflight(
        with_landing(context, connection_without(azurite.landing, permission))
    )
    assert get_problems(report) == {"landing": "destination_forbidden"}
    assert get_facts(report, "landing")["failed_step"] == failed_step


async def test_preflight_without_container_warns(
    azurite: Azurite, context: PreflightContext, run_preflight: RunPreflight
) -> None:
    landing = LandingStore(
        container="notthere", connection_string=azurite.landing.connection_string
    )
    report = await run_preflight(replace(context, landing=landing))
    assert get_problems(report) == {"landing": "container_missing"} and report["status"] == "warn"


async def test_preflight_with_unreachable_container_fails(
    context: PreflightContext, run_preflight: RunPreflight
) -> None:
    connection = f"AccountName=nobody;AccountKey=a2V5;BlobEndpoint={UNREACHABLE_URL}"
    report = await run_preflight(
        with_landing(context, connection, retry_policy=LinearRetry(retry_total=0))
    )
    assert get_problems(report) == {"landing": "destination_unreachable"}


@pytest.mark.parametrize(
    ("permission", "failed_step"),
    [("create", "read"), ("read", "read"), ("add", "insert"), ("update", "update")],
)
async def test_preflight_without_table_permission_names_the_failed_step(
    azurite: Azurite,
    context: PreflightContext,
    run_preflight: RunPreflight,
    permission: str,
    failed_step: str,
) -> None:
    report = await run_preflight(
        with_tables(context, tables_connection_without(azurite.landing, permission))
    )
    assert get_problems(report) == {"tables": "tables_forbidden"}
    assert get_facts(report, "tables")["failed_step"] == failed_step


async def test_preflight_without_delete_permission_writes_no_row(
    azurite: Azurite,
    context: PreflightContext,
    run_preflight: RunPreflight,
) -> None:
    """The emulator accepts every SAS in a transaction, so these requests are sent without a SAS."""

    def remove_signature(request: Any) -> None:
        if request.http_request.url.split("?")[0].endswith("$batch"):
            request.http_request.url = request.http_request.url.split("?")[0]

    report = await run_preflight(
        with_tables(
            context,
            tables_connection_without(azurite.landing, "none"),
            raw_request_hook=remove_signature,
        )
    )
    assert get_problems(report) == {"tables": "tables_forbidden"}
    assert get_facts(report, "tables")["failed_step"] == "delete"


async def test_preflight_with_unreachable_tables_fails(
    context: PreflightContext, run_preflight: RunPreflight
) -> None:
    connection = f"AccountName=nobody;AccountKey=a2V5;TableEndpoint={UNREACHABLE_URL}"
    report = await run_preflight(with_tables(context, connection, retry_total=0))
    assert get_problems(report) == {"tables": "tables_unreachable"}


@pytest.mark.parametrize("service", ["blob", "queue", "table"])
async def test_preflight_without_host_storage_permission_names_the_service(
    azurite: Azurite, context: PreflightContext, run_preflight: RunPreflight, service: str
) -> None:
    environment = {"AzureWebJobsStorage": host_connection_without(azurite.funchost, service)}
    report = await run_preflight(replace(context, environment=environment))
    assert get_problems(report) == {"host_storage": "host_storage_forbidden"}
    facts = get_facts(report, "host_storage")
    assert {name for name, status in facts.items() if status != "200"} == {service}


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ("AccountKey=a2V5", "host_storage_forbidden"),
        (f"QueueEndpoint={UNREACHABLE_URL}", "host_storage_unreachable"),
    ],
)
async def test_preflight_with_invalid_host_storage_setting_fails(
    azurite: Azurite,
    context: PreflightContext,
    run_preflight: RunPreflight,
    part: str,
    code: str,
) -> None:
    environment = {"AzureWebJobsStorage": f"{azurite.funchost.connection_string}{part}"}
    assert get_problems(await run_preflight(replace(context, environment=environment))) == {
        "host_storage": code
    }


@dataclass(frozen=True)
class SkewedClock:
    """A clock with a constant error."""

    skew: timedelta

    def now(self) -> datetime:
        return SystemClock().now() + self.skew

    def monotonic(self) -> float:
        return SystemClock().monotonic()


@pytest.mark.parametrize(
    ("seconds", "status"), [(0, "ok"), (60, "warn"), (-60, "warn"), (900, "fail"), (-900, "fail")]
)
async def test_preflight_with_clock_skew_reports_status(
    context: PreflightContext, run_preflight: RunPreflight, seconds: int, status: str
) -> None:
    report = await run_preflight(
        replace(context, machine_clock=SkewedClock(timedelta(seconds=seconds)))
    )
    assert get_problems(report) == ({} if status == "ok" else {"clock": "clock_skewed"})
    assert report["status"] == status
    assert abs(get_facts(report, "clock")["skew_seconds"] - abs(seconds)) < 5


async def test_preflight_deletes_expired_probes(
    context: PreflightContext, run_preflight: RunPreflight
) -> None:
    long_ago = stamp(SystemClock().now() - timedelta(days=3))
    await context.landing.put(f"preflight/probe-{long_ago}-abcd", b"x")
    await context.ledger.tables.insert(
        "locks", "preflight", f"probe-{long_ago}-abcd", {"run_id": ""}
    )
    assert not get_problems(
        await run_preflight(context)
    )  # the fixture verifies that no probe remains


async def test_preflight_keeps_probes_of_concurrent_checks(
    context: PreflightContext, run_preflight: RunPreflight
) -> None:
    name = f"probe-{stamp(SystemClock().now())}-abcd"
    await context.landing.put(f"preflight/{name}", b"x")
    await context.ledger.tables.insert("locks", "preflight", name, {"run_id": ""})
    await run_preflight(context)
    assert await context.landing.delete(f"preflight/{name}")
    await context.ledger.tables.delete(
        "locks", "preflight", [name]
    )  # raises if the row does not exist
    await context.landing.close()
    await context.ledger.close()


async def test_preflight_report_contains_no_secret_and_no_url(
    azurite: Azurite, context: PreflightContext, run_preflight: RunPreflight
) -> None:
    restricted = with_landing(context, connection_without(azurite.landing, "write"))
    for variant in (context, restricted):
        text = str(await run_preflight(variant))
        assert "sig=" not in text and "http://" not in text
        assert azurite.landing.key not in text and azurite.funchost.key not in text
