"""An export from the POST to its manifest, in each of the ways in which the service may answer."""

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


def key_of(simulator: Simulator, dataset: str) -> str:
    if dataset.startswith("unbilled"):
        return f"{dataset}/{simulator.month('last')}/{simulator.partner.currencies[0]}/full"
    return f"{dataset}/{next(invoice.invoice_id for invoice in simulator.invoices() if not invoice.legacy)}/full"


async def export(graph: GraphBillingClient, simulator: Simulator, key: str) -> OperationState:
    """Asks, and looks until it is over, without waiting for anything."""
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
async def test_each_dataset_on_each_version(
    simulator: Simulator, origin: str, version: str, dataset: str
) -> None:
    graph = GraphBillingClient(base_url=f"{origin}/{version}", credential=None, clock=SystemClock())
    key = key_of(simulator, dataset)

    ready = await export(graph, simulator, key)
    await graph.close()

    assert isinstance(ready, OperationSucceeded) and ready.request_id
    expected = simulator.expected(key)
    assert ready.manifest.etag == expected.etag
    assert {blob.name for blob in ready.manifest.blobs} == {blob.name for blob in expected.blobs}
    allowed = create_source_rules(
        [simulator.storage_origin], simulator.partner.tenant_id, loopback=True
    )
    validate_manifest(ready.manifest, ExportKey.parse(key), allowed)
    assert len(simulator.requests_of("start")) == 1 and len(simulator.requests_of("poll")) == 3


# What ends otherwise than in a manifest; `unknown_invoice` and the like are asked for by nobody here.
ENDS: dict[tuple[str, Any], str] = {
    ("location", "absent"): "graph_location_missing",
    ("permission", "denied"): "graph_forbidden",
    ("authorization", "required"): "graph_unauthorized",
    ("authorization", "claims_challenge"): "graph_unauthorized",
    ("operation_end", "failed_5000"): "5000",
    ("operation_end", "failed_other"): "5003",
    ("operation_end", "never"): "running",
    ("ready_after_seconds", 2): "running",
    ("operation_lifetime_reads", 3): "ready",
    ("throttle_every", 3): "graph_throttled",
    ("hostile_manifest", "no_sas"): "graph_malformed",
    ("hostile_manifest", "empty_root"): "graph_malformed",
}


async def test_every_switch(simulator: Simulator, graph: GraphBillingClient) -> None:
    key, plain, ends = (
        key_of(simulator, "unbilled_usage"),
        Behaviour(),
        dict[tuple[str, Any], str](),
    )
    for behaviour in matrix():
        simulator.behaviour = behaviour
        [switch] = [
            (name, value)
            for name, value in vars(behaviour).items()
            if value != getattr(plain, name)
        ] or [("", None)]
        ends[switch] = await ending(graph, simulator, key)
    wrong = {switch: end for switch, end in ends.items() if end != ENDS.get(switch, "ready")}
    assert not wrong and set(ENDS) <= set(ends)


async def ending(graph: GraphBillingClient, simulator: Simulator, key: str) -> str:
    try:
        state = await export(graph, simulator, key)
    except BillingExportError as error:
        return error.code
    return (
        state.code
        if isinstance(state, OperationFailed)
        else "running"
        if isinstance(state, OperationRunning)
        else "ready"
    )


@pytest.mark.parametrize("step", ["start", "poll", "manifest"])
@pytest.mark.parametrize(
    ("answer", "code"),
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
async def test_a_fault_is_met_once(
    simulator: Simulator,
    graph: GraphBillingClient,
    step: str,
    answer: FaultResponse,
    code: str,
) -> None:
    simulator.behaviour = replace(Behaviour(), manifest="link", ready_after_polls=0)
    simulator.faults = Faults(Rule(Match(operation=step), answer))  # type: ignore[arg-type]
    with pytest.raises(BillingExportError) as caught:
        await export(graph, simulator, key_of(simulator, "billed_usage"))
    expected = "graph_location_missing" if step == "start" and answer.status == 200 else code
    assert caught.value.code == expected and len(simulator.requests_of(step)) == 1
    if "Retry-After" in answer.headers:
        assert (
            isinstance(caught.value, ThrottledError | UnavailableError)
            and caught.value.retry_after_seconds == 7
        )


@pytest.mark.parametrize(
    "fault",
    [
        FaultResponse(drop_after=100),
        FaultResponse(body="truncated"),
        FaultResponse(body="text_html"),
    ],
)
async def test_an_answer_that_breaks_off(
    simulator: Simulator, graph: GraphBillingClient, fault: FaultResponse
) -> None:
    simulator.behaviour = replace(Behaviour(), ready_after_polls=0)
    simulator.faults = Faults(Rule(Match(operation="poll"), fault))
    with pytest.raises(UnavailableError) as caught:
        await export(graph, simulator, key_of(simulator, "billed_usage"))
    assert caught.value.code == ("graph_unavailable" if fault.drop_after else "graph_malformed")
    assert caught.value.__context__ is None


async def test_nobody_listens() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    graph = GraphBillingClient(
        base_url=f"http://127.0.0.1:{port}/v1.0", credential=None, clock=SystemClock()
    )
    with pytest.raises(UnavailableError) as caught:
        await graph.get_operation("a")
    await graph.close()
    assert caught.value.code == "graph_unavailable"
