"""Exports with every behaviour and fault that the simulator supports."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from local.simulator import (
    Behaviour,
    FaultResponse,
    Faults,
    Match,
    NoStorage,
    Rule,
    Simulator,
    matrix,
)
from shared.clock import SystemClock
from shared.errors import BillingExportError, ThrottledError, UnavailableError
from shared.exports import ExportKey
from shared.graph.client import (
    GraphBillingClient,
    OperationFailed,
    OperationRunning,
    OperationState,
    OperationSucceeded,
)
from shared.manifest import create_source_rules, validate_manifest
from tests.support.clocks import MidMonthClock

DATASETS = ("billed_usage", "unbilled_usage", "billed_reconciliation", "unbilled_reconciliation")


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(storage=NoStorage(), clock=MidMonthClock())


@pytest.fixture
def origin(simulator: Simulator) -> Iterator[str]:
    with simulator.serving() as base_url:
        yield base_url


@pytest.fixture
async def graph(origin: str) -> AsyncIterator[GraphBillingClient]:
    graph = GraphBillingClient(base_url=f"{origin}/v1.0", credential=None, clock=SystemClock())
    yield graph
    await graph.close()


def get_key(simulator: Simulator, dataset: str) -> str:
    if dataset.startswith("unbilled"):
        return f"{dataset}/{simulator.month('last')}/{simulator.partner.currencies[0]}/full"
    invoice = next(invoice for invoice in simulator.invoices() if not invoice.legacy)
    return f"{dataset}/{invoice.invoice_id}/full"


async def run_export(graph: GraphBillingClient, simulator: Simulator, key: str) -> OperationState:
    """Start an export, and poll its operation up to five times without a wait."""
    parsed = ExportKey.parse(key)
    word = next((word for word in ("current", "last") if f"/{simulator.month(word)}/" in key), None)
    started = await graph.start_export(parsed, word)  # type: ignore[arg-type]
    for _ in range(5):
        state = await graph.get_operation(started.operation_id)
        if not isinstance(state, OperationRunning):
            break
    return state


@pytest.mark.parametrize("version", ["v1.0", "beta"])
@pytest.mark.parametrize("dataset", DATASETS)
async def test_export_of_each_dataset_and_api_version_returns_manifest(
    simulator: Simulator, origin: str, version: str, dataset: str
) -> None:
    graph = GraphBillingClient(base_url=f"{origin}/{version}", credential=None, clock=SystemClock())
    key = get_key(simulator, dataset)

    result = await run_export(graph, simulator, key)
    await graph.close()

    assert isinstance(result, OperationSucceeded) and result.request_id
    expected = simulator.expected(key)
    assert result.manifest.etag == expected.etag
    assert {blob.name for blob in result.manifest.blobs} == {blob.name for blob in expected.blobs}
    allowed = create_source_rules(
        [simulator.storage_origin], simulator.partner.tenant_id, loopback=True
    )
    validate_manifest(result.manifest, ExportKey.parse(key), allowed)
    assert len(simulator.requests_of("start")) == 1 and len(simulator.requests_of("poll")) == 3


# The results of behaviours that do not end with a manifest.
EXPECTED_RESULTS: dict[tuple[str, Any], str] = {
    ("location", "absent"): "graph_location_missing",
    ("permission", "denied"): "graph_forbidden",
    ("authorization", "required"): "graph_unauthorized",
    ("authorization", "claims_challenge"): "graph_unauthorized",
    ("operation_end", "failed_5000"): "5000",
    ("operation_end", "failed_other"): "5003",
    ("operation_end", "never"): "running",
    ("ready_after_seconds", 2): "running",
    ("operation_lifetime_reads", 3): "succeeded",
    ("throttle_every", 3): "graph_throttled",
    ("hostile_manifest", "no_sas"): "manifest_malformed",
    ("hostile_manifest", "empty_root"): "manifest_malformed",
    ("hostile_manifest", "null_members"): "manifest_malformed",
    ("hostile_manifest", "null_name"): "manifest_malformed",
}


async def test_export_with_each_behaviour_returns_expected_result(
    simulator: Simulator, graph: GraphBillingClient
) -> None:
    key, plain, results = (
        get_key(simulator, "unbilled_usage"),
        Behaviour(),
        dict[tuple[str, Any], str](),
    )
    for behaviour in matrix():
        simulator.behaviour = behaviour
        [change] = [
            (name, value)
            for name, value in vars(behaviour).items()
            if value != getattr(plain, name)
        ] or [("", None)]
        results[change] = await get_result(graph, simulator, key)
    unexpected = {
        change: result
        for change, result in results.items()
        if result != EXPECTED_RESULTS.get(change, "succeeded")
    }
    assert not unexpected and set(EXPECTED_RESULTS) <= set(results)


async def get_result(graph: GraphBillingClient, simulator: Simulator, key: str) -> str:
    try:
        state = await run_export(graph, simulator, key)
    except BillingExportError as error:
        return error.code
    return (
        state.code
        if isinstance(state, OperationFailed)
        else "running"
        if isinstance(state, OperationRunning)
        else "succeeded"
    )


@pytest.mark.parametrize("step", ["start", "poll", "manifest"])
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (FaultResponse(drop=True), "graph_unavailable"),
        (FaultResponse(status=503, headers={"Retry-After": "7"}), "graph_unavailable"),
        (FaultResponse(status=429, headers={"Retry-After": "7"}), "graph_throttled"),
        (FaultResponse(status=200, body="json_list"), "graph_malformed"),
        (FaultResponse(status=200, body="html"), "graph_malformed"),
        (FaultResponse(status=502, body="html"), "graph_unavailable"),
        (FaultResponse(status=403, body="graph_error_numeric"), "graph_forbidden"),
    ],
)
async def test_export_with_fault_sends_one_request(
    simulator: Simulator,
    graph: GraphBillingClient,
    step: str,
    fault: FaultResponse,
    code: str,
) -> None:
    simulator.behaviour = replace(Behaviour(), manifest="link", ready_after_polls=0)
    simulator.faults = Faults(Rule(Match(operation=step), fault))  # type: ignore[arg-type]
    with pytest.raises(BillingExportError) as raised:
        await run_export(graph, simulator, get_key(simulator, "billed_usage"))
    expected = "graph_location_missing" if step == "start" and fault.status == 200 else code
    assert raised.value.code == expected and len(simulator.requests_of(step)) == 1
    if "Retry-After" in fault.headers:
        assert (
            isinstance(raised.value, ThrottledError | UnavailableError)
            and raised.value.retry_after_seconds == 7
        )


@pytest.mark.parametrize(
    "fault",
    [
        FaultResponse(drop_after=100),
        FaultResponse(body="truncated"),
        FaultResponse(body="text_html"),
    ],
)
async def test_export_with_interrupted_response_raises_unavailable(
    simulator: Simulator, graph: GraphBillingClient, fault: FaultResponse
) -> None:
    simulator.behaviour = replace(Behaviour(), ready_after_polls=0)
    simulator.faults = Faults(Rule(Match(operation="poll"), fault))
    with pytest.raises(UnavailableError) as raised:
        await run_export(graph, simulator, get_key(simulator, "billed_usage"))
    assert raised.value.code == ("graph_unavailable" if fault.drop_after else "graph_malformed")
    assert raised.value.__context__ is None


async def test_get_operation_without_server_raises_unavailable() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    graph = GraphBillingClient(
        base_url=f"http://127.0.0.1:{port}/v1.0", credential=None, clock=SystemClock()
    )
    with pytest.raises(UnavailableError) as raised:
        await graph.get_operation("a")
    await graph.close()
    assert raised.value.code == "graph_unavailable"
