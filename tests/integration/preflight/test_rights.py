"""One right is taken away, where it is given: at the simulator, at the emulator by a signature, at the machine's clock."""

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
from tests.integration.preflight.conftest import (
    Examine,
    facts_of,
    host_without,
    red,
    tables_without,
    with_landing,
    with_tables,
    without,
)

NOBODY = "http://127.0.0.1:9/nobody"  # the discard port: nobody listens


async def test_nothing_is_wrong(whole: PreflightContext, examine: Examine) -> None:
    report = await examine(whole)
    assert report["status"] == "ok" and not red(report)
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
    assert facts_of(report, "host_storage") == {"blob": "200", "queue": "200", "table": "200"}


@pytest.mark.parametrize(
    ("switch", "code"),
    [
        ({"permission": "denied"}, "graph_forbidden"),
        ({"authorization": "required"}, "graph_unauthorized"),
        ({"throttle_every": 1}, "graph_throttled"),
    ],
    ids=str,
)
async def test_graph_refuses(
    whole: PreflightContext,
    examine: Examine,
    simulator: Simulator,
    switch: dict[str, Any],
    code: str,
) -> None:
    simulator.behaviour = Behaviour(**switch)
    report = await examine(whole)
    assert red(report) == {"graph": code}


@pytest.mark.parametrize(
    ("permission", "expected"),
    [("granted", {}), ("denied", {"partner_center": "partner_center_forbidden"})],
)
async def test_partner_center(
    whole: PreflightContext,
    examine: Examine,
    simulator: Simulator,
    graph_origin: str,
    permission: str,
    expected: dict[str, str],
) -> None:
    simulator.behaviour = replace(Behaviour(), partner_center_permission=permission)  # type: ignore[arg-type]
    center = PartnerCenterClient(base_url=graph_origin, credential=None, clock=whole.clock)
    report = await examine(replace(whole, list_invoices=center.invoices))
    await center.close()
    assert red(report) == expected
    assert (
        next(check["status"] for check in report["checks"] if check["name"] == "partner_center")
        != "skipped"
    )


async def test_a_throttle_that_all_share_is_obeyed(
    whole: PreflightContext, examine: Examine, simulator: Simulator
) -> None:
    await whole.ledger.throttle.hold(600)
    report = await examine(whole)
    assert red(report) == {"graph": "graph_throttled"} and not simulator.requests
    assert 590 < facts_of(report, "graph")["seconds_left"] <= 600


@pytest.mark.parametrize(
    ("right", "refused"),
    [("write", "write"), ("read", "read"), ("list", "list"), ("delete", "delete")],
)
async def test_the_container_refuses(
    azurite: Azurite,
    whole: PreflightContext,
    examine: Examine,
    right: str,
    refused: str,
) -> None:
    report = await examine(with_landing(whole, without(azurite.landing, right)))
    assert red(report) == {"landing": "destination_forbidden"}
    assert facts_of(report, "landing")["refused"] == refused


async def test_the_container_is_not_there(
    azurite: Azurite, whole: PreflightContext, examine: Examine
) -> None:
    landing = LandingStore(
        container="notthere", connection_string=azurite.landing.connection_string
    )
    report = await examine(replace(whole, landing=landing))
    assert red(report) == {"landing": "container_missing"} and report["status"] == "warn"


async def test_nobody_answers_for_the_container(whole: PreflightContext, examine: Examine) -> None:
    nobody = f"AccountName=nobody;AccountKey=a2V5;BlobEndpoint={NOBODY}"
    report = await examine(with_landing(whole, nobody, retry_policy=LinearRetry(retry_total=0)))
    assert red(report) == {"landing": "destination_unreachable"}


@pytest.mark.parametrize(
    ("right", "refused"),
    [("create", "read"), ("read", "read"), ("add", "insert"), ("update", "change")],
)
async def test_the_tables_refuse(
    azurite: Azurite,
    whole: PreflightContext,
    examine: Examine,
    right: str,
    refused: str,
) -> None:
    report = await examine(with_tables(whole, tables_without(azurite.landing, right)))
    assert red(report) == {"tables": "tables_forbidden"}
    assert facts_of(report, "tables")["refused"] == refused


async def test_the_tables_refuse_to_delete_before_anything_is_written(
    azurite: Azurite,
    whole: PreflightContext,
    examine: Examine,
) -> None:
    """The emulator lets any signature delete in a transaction: here those requests go without one."""

    def unsigned(request: Any) -> None:
        if request.http_request.url.split("?")[0].endswith("$batch"):
            request.http_request.url = request.http_request.url.split("?")[0]

    report = await examine(
        with_tables(whole, tables_without(azurite.landing, "none"), raw_request_hook=unsigned)
    )
    assert red(report) == {"tables": "tables_forbidden"}
    assert facts_of(report, "tables")["refused"] == "delete"


async def test_nobody_answers_for_the_tables(whole: PreflightContext, examine: Examine) -> None:
    nobody = f"AccountName=nobody;AccountKey=a2V5;TableEndpoint={NOBODY}"
    report = await examine(with_tables(whole, nobody, retry_total=0))
    assert red(report) == {"tables": "tables_unreachable"}


@pytest.mark.parametrize("service", ["blob", "queue", "table"])
async def test_the_host_s_storage_refuses(
    azurite: Azurite, whole: PreflightContext, examine: Examine, service: str
) -> None:
    environment = {"AzureWebJobsStorage": host_without(azurite.funchost, service)}
    report = await examine(replace(whole, environment=environment))
    assert red(report) == {"host_storage": "host_storage_forbidden"}
    facts = facts_of(report, "host_storage")
    assert {name for name, said in facts.items() if said != "200"} == {service}


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ("AccountKey=a2V5", "host_storage_forbidden"),
        (f"QueueEndpoint={NOBODY}", "host_storage_unreachable"),
    ],
)
async def test_the_host_s_storage_is_wrongly_named(
    azurite: Azurite,
    whole: PreflightContext,
    examine: Examine,
    part: str,
    code: str,
) -> None:
    environment = {"AzureWebJobsStorage": f"{azurite.funchost.connection_string}{part}"}
    assert red(await examine(replace(whole, environment=environment))) == {"host_storage": code}


@dataclass(frozen=True)
class Off:
    """A machine's clock that is wrong."""

    by: timedelta

    def now(self) -> datetime:
        return SystemClock().now() + self.by

    def monotonic(self) -> float:
        return SystemClock().monotonic()


@pytest.mark.parametrize(
    ("seconds", "status"), [(0, "ok"), (60, "warn"), (-60, "warn"), (900, "fail"), (-900, "fail")]
)
async def test_the_clock_is_wrong(
    whole: PreflightContext, examine: Examine, seconds: int, status: str
) -> None:
    report = await examine(replace(whole, machine=Off(timedelta(seconds=seconds))))
    assert red(report) == ({} if status == "ok" else {"clock": "clock_skewed"})
    assert report["status"] == status
    assert abs(facts_of(report, "clock")["skew_seconds"] - abs(seconds)) < 5


async def test_what_a_killed_check_left_is_taken_away(
    whole: PreflightContext, examine: Examine
) -> None:
    long_ago = stamp(SystemClock().now() - timedelta(days=3))
    await whole.landing.put(f"preflight/probe-{long_ago}-abcd", b"x")
    await whole.ledger.tables.insert("locks", "preflight", f"probe-{long_ago}-abcd", {"run_id": ""})
    assert not red(await examine(whole))  # the fixture looks whether anything is left


async def test_a_probe_of_another_check_is_left_to_it(
    whole: PreflightContext, examine: Examine
) -> None:
    name = f"probe-{stamp(SystemClock().now())}-abcd"
    await whole.landing.put(f"preflight/{name}", b"x")
    await whole.ledger.tables.insert("locks", "preflight", name, {"run_id": ""})
    await examine(whole)
    assert await whole.landing.delete(f"preflight/{name}")
    await whole.ledger.tables.delete("locks", "preflight", [name])  # raises if it is gone
    await whole.landing.close()
    await whole.ledger.close()


async def test_no_secret_and_no_address_is_told(
    azurite: Azurite, whole: PreflightContext, examine: Examine
) -> None:
    for parts in (whole, with_landing(whole, without(azurite.landing, "write"))):
        text = str(await examine(parts))
        assert "sig=" not in text and "http://" not in text
        assert azurite.landing.key not in text and azurite.funchost.key not in text
