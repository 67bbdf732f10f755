"""docs/api.md: its questions to the plain tables are asked as they stand, and answered as the API answers them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from azure.data.tables import TableServiceClient

from local.azurite import Azurite
from local.simulator.behaviour import Behaviour
from local.simulator.faults import FaultResponse, Faults, Match
from tests.support.world import World

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
TABLES = DOCUMENT.split("## Without the API")[1]
QUESTIONS = re.findall(
    r"^\| ([^|]+) \| `billing(\w+)` \| `([^`]+)` \|$", TABLES, flags=re.MULTILINE
)
INVOICE, RUN, VERSION = (
    "G016907411",
    "billed-usage-g016907411-full-20261121t060000z-x7qa",
    "20261108T093700Z-3f9a1c20",
)


@dataclass
class Night:
    """What happened: one export with a blob that is not proven, one landed, one failed, a cycle, and one still running."""

    world: World
    partial: dict[str, Any]
    landed: dict[str, Any]
    failed: dict[str, Any]
    cycle: dict[str, Any]
    live: str

    def ask(self, table: str, question: str) -> list[dict[str, Any]]:
        """The document's filter, with this night's invoice, run and version in the place of its examples."""
        ours = {
            RUN: self.partial["run_id"],
            VERSION: self.partial["version"],
            INVOICE: self.world.invoice_id,
        }
        for example, its in ours.items():
            question = question.replace(example, its)
        connection = self.world.azurite.landing.connection_string
        with TableServiceClient.from_connection_string(connection) as service:
            return [
                dict(row)
                for row in service.get_table_client(self.world.name + table).query_entities(
                    question
                )
            ]


@pytest.fixture(scope="module")
def night(azurite: Azurite) -> Iterator[Night]:
    quick, slow = (
        Behaviour(ready_after_polls=0),
        Behaviour(ready_after_seconds=7_200, retry_after_seconds=3_600),
    )
    with World(
        azurite,
        behaviour=quick,
        storage_proxy=True,
        EXPORT_DATASETS="unbilled_usage",
        EXPORT_PERIODS="current",
    ) as world:
        stuck = world.simulator.expected(f"billed_usage/{world.invoice_id}/full").blobs[0].name
        world.simulator.faults.add(
            Match(operation="blob", path=f"*{stuck}"), FaultResponse(status=404)
        )
        partial = world.land("billed_usage")
        world.simulator.faults = Faults()
        older = [
            invoice.invoice_id for invoice in world.simulator.invoices() if not invoice.legacy
        ][-2]
        landed = world.land("billed_usage", invoice_id=older)
        failed = world.land("billed_usage", invoice_id="G099999999")
        cycle_id = world.post("/api/cycles")["cycle_id"]
        world.host.wait(cycle_id)
        world.simulator.behaviour = slow
        live = world.start("unbilled_reconciliation")
        world.host.run_until(lambda: world.run_row(live).polls or None)
        assert [run["outcome"] for run in (partial, landed, failed)] == [
            "incomplete",
            "landed",
            "failed",
        ]
        yield Night(world, partial, landed, failed, world.get(f"/api/cycles/{cycle_id}"), live)


EXPECTED = {  # question -> column, and what is to be found in it
    "What is landed of a dataset?": ("key", lambda n: {n.landed["key"]}),
    "... for a month?": ("key", lambda n: {n.cycle["runs"][0]["key"]}),
    "... whose newest run did not go well?": (
        "last_code",
        lambda n: {n.partial["code"], n.failed["code"]},
    ),
    "What landed since yesterday?": ("version", lambda n: {n.landed["version"]}),
    "What ran this month? Newest first": (
        "run_id",
        lambda n: {run["run_id"] for run in n.world.get("/api/runs")["runs"]},
    ),
    "... and failed?": ("run_id", lambda n: {n.failed["run_id"]}),
    "How did this run end?": ("outcome", lambda n: {"incomplete"}),
    "What did the cycles of this month start, and how did it end?": (
        "outcomes",
        lambda n: {'{"landed": 1}'},
    ),
    "Which versions of an invoice are there?": ("version", lambda n: {n.partial["version"]}),
    "What is running?": ("run_id", lambda n: {n.live}),
    "Which blobs of a version are not proven?": ("code", lambda n: {"source_missing"}),
}


def test_every_question_is_tried() -> None:
    assert [question for question, _, _ in QUESTIONS] == list(EXPECTED)
    assert len(QUESTIONS) == TABLES.count("| `billing")


@pytest.mark.parametrize(
    ("question", "table", "query"), QUESTIONS, ids=[question for question, _, _ in QUESTIONS]
)
def test_the_tables_answer_as_the_api_does(
    night: Night, question: str, table: str, query: str
) -> None:
    column, expected = EXPECTED[question]
    found = night.ask(table, query)
    assert {row[column] for row in found} == expected(night)
    assert len({row["PartitionKey"] for row in found}) == 1
    if "Newest first" in question:
        assert [row["run_id"] for row in found] == [
            run["run_id"] for run in night.world.get("/api/runs")["runs"]
        ]
