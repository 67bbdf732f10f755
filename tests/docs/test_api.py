"""The table queries in docs/api.md return the same data as the API."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from azure.data.tables import TableServiceClient

from local.azurite import Azurite
from local.simulator.behaviour import Behaviour
from local.simulator.faults import FaultResponse, Faults, Match
from tests.support.app_environment import AppEnvironment

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
TABLES = DOCUMENT.split("## Read the tables directly")[1]
QUERIES = re.findall(r"^\| ([^|]+) \| `billing(\w+)` \| `([^`]+)` \|$", TABLES, flags=re.MULTILINE)
NEWEST_FIRST = "Which runs started in a month (newest first)?"
EXAMPLE_INVOICE = "G016907411"
EXAMPLE_RUN = "billed-usage-g016907411-full-20261121t060000z-x7qa"
EXAMPLE_VERSION = "20261108T093700Z-3f9a1c20"


@dataclass
class Ledger:
    """An app with an incomplete, a landed, a failed and a live run, and a cycle."""

    env: AppEnvironment
    incomplete: dict[str, Any]
    landed: dict[str, Any]
    failed: dict[str, Any]
    cycle: dict[str, Any]
    live_run_id: str

    def query(self, table: str, filter_text: str) -> list[dict[str, Any]]:
        """Run a filter from the document after replacing its examples with values from this app."""
        for example, value in {
            EXAMPLE_RUN: self.incomplete["run_id"],
            EXAMPLE_VERSION: self.incomplete["version"],
            EXAMPLE_INVOICE: self.env.invoice_id,
        }.items():
            filter_text = filter_text.replace(example, value)
        connection = self.env.azurite.landing.connection_string
        with TableServiceClient.from_connection_string(connection) as service:
            client = service.get_table_client(self.env.name + table)
            return [dict(row) for row in client.query_entities(filter_text)]

    def list_run_ids(self) -> list[str]:
        """Return the IDs of the month's runs as the API lists them."""
        return [run["run_id"] for run in self.env.get("/api/runs")["runs"]]


@pytest.fixture(scope="module")
def ledger(azurite: Azurite) -> Iterator[Ledger]:
    with AppEnvironment(
        azurite,
        behaviour=Behaviour(ready_after_polls=0),
        storage_proxy=True,
        EXPORT_DATASETS="unbilled_usage",
        EXPORT_PERIODS="current",
    ) as env:
        blobs = env.simulator.expected(f"billed_usage/{env.invoice_id}/full").blobs
        env.simulator.faults.add(
            Match(operation="blob", path=f"*{blobs[0].name}"), FaultResponse(status=404)
        )
        incomplete = env.land("billed_usage")
        env.simulator.faults = Faults()
        invoices = [invoice for invoice in env.simulator.invoices() if not invoice.legacy]
        landed = env.land("billed_usage", invoice_id=invoices[-2].invoice_id)
        failed = env.land("billed_usage", invoice_id="G099999999")
        cycle_id = env.post("/api/cycles")["cycle_id"]
        env.host.wait(cycle_id)
        env.simulator.behaviour = Behaviour(ready_after_seconds=7_200, retry_after_seconds=3_600)
        live_run_id = env.start("unbilled_reconciliation")
        env.host.run_until(lambda: env.run_row(live_run_id).polls or None)
        outcomes = [run["outcome"] for run in (incomplete, landed, failed)]
        assert outcomes == ["incomplete", "landed", "failed"]
        cycle = env.get(f"/api/cycles/{cycle_id}")
        yield Ledger(env, incomplete, landed, failed, cycle, live_run_id)


# question -> the column to check, and its expected values
EXPECTED: dict[str, tuple[str, Callable[[Ledger], set[Any]]]] = {
    "Which versions of a dataset have landed?": ("key", lambda ledger: {ledger.landed["key"]}),
    "Which versions of a month have landed?": (
        "key",
        lambda ledger: {ledger.cycle["runs"][0]["key"]},
    ),
    "For which export keys did the newest run not succeed?": (
        "last_code",
        lambda ledger: {ledger.incomplete["code"], ledger.failed["code"]},
    ),
    "What has landed since a date?": ("version", lambda ledger: {ledger.landed["version"]}),
    NEWEST_FIRST: ("run_id", lambda ledger: set(ledger.list_run_ids())),
    "Which runs of a month failed?": ("run_id", lambda ledger: {ledger.failed["run_id"]}),
    "How did a run end?": ("outcome", lambda _: {"incomplete"}),
    "Which runs did the cycles of a month start?": ("outcomes", lambda _: {'{"landed": 1}'}),
    "Which versions of an invoice exist?": (
        "version",
        lambda ledger: {ledger.incomplete["version"]},
    ),
    "Which runs are active?": ("run_id", lambda ledger: {ledger.live_run_id}),
    "Which blobs of a version are not verified?": ("code", lambda _: {"source_missing"}),
}


def test_document_every_query_has_a_test() -> None:
    assert [question for question, _, _ in QUERIES] == list(EXPECTED)
    assert [table for _, table, _ in QUERIES] == re.findall(r"\| `billing(\w+)", TABLES)


@pytest.mark.parametrize(
    ("question", "table", "filter_text"), QUERIES, ids=[question for question, _, _ in QUERIES]
)
def test_table_query_returns_what_the_api_returns(
    ledger: Ledger, question: str, table: str, filter_text: str
) -> None:
    column, get_expected = EXPECTED[question]
    rows = ledger.query(table, filter_text)
    assert {row[column] for row in rows} == get_expected(ledger)
    assert {row["PartitionKey"] for row in rows} == {rows[0]["PartitionKey"]}
    if question == NEWEST_FIRST:
        assert [row["run_id"] for row in rows] == ledger.list_run_ids()
