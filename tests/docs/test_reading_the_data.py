"""docs/reading-the-data.md: its examples, as they stand there, against what the app has landed.

The landing has what readers fall over: a restated invoice, a month that is there billed and unbilled, two currencies, and
the folder of a version that is not complete.
"""

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from local.azurite import Azurite
from local.simulator.partner import Partner
from tests.support.world import World

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "reading-the-data.md").read_text(
    encoding="utf-8"
)
SAID = ".state/demo/landing"
Totals = dict[tuple[str, str, str], tuple[int, Decimal]]  # month, currency, dataset -> rows, total


def blocks(marker: str, language: str) -> list[str]:
    return re.findall(
        rf"^<!-- {marker} -->\n```{language}\n(.*?)^```", DOCUMENT, flags=re.MULTILINE | re.DOTALL
    )


@pytest.fixture(scope="module")
def world(azurite: Azurite) -> Iterator[World]:
    with World(azurite, simulated_partner=Partner(currencies=("USD", "EUR"), customers=4)) as world:
        world.land("billed_usage")
        world.simulator.restate(f"billed_usage/{world.invoice_id}/full", amount=Decimal("12.34"))
        world.land("billed_usage")
        for month, currency in (("last", "EUR"), ("last", "USD"), ("current", "USD")):
            world.land("unbilled_usage", billing_month=month, currency_code=currency)
        yield world


@pytest.fixture(scope="module")
def landing(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a folder; one version more is on its way."""
    folder = tmp_path_factory.mktemp("landing")
    files = world.landed_files()
    half = f"data/billed_usage/invoice_id={world.invoice_id}/attribute_set=full/version=20261121T120000Z-00000000/part-0.json.gz"
    line = {
        "BillingPreTaxTotal": 1_000_000,
        "BillingCurrency": "EUR",
        "UsageDate": "2026-10-01T00:00:00Z",
    }
    for name, body in {**files, half: gzip.compress(json.dumps(line).encode())}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    return folder


def known(world: World, *keys: tuple[str, str]) -> Totals:
    """From what Microsoft's side holds, by the standard library alone."""
    found: Totals = defaultdict(lambda: (0, Decimal(0)))
    for key, month in keys:
        for blob in world.simulator.expected(key).blobs:
            for text in gzip.decompress(blob.content).splitlines():
                line = json.loads(text, parse_float=Decimal, parse_int=Decimal)
                one = (month, line["BillingCurrency"], key.split("/")[0])
                found[one] = (found[one][0] + 1, found[one][1] + line["BillingPreTaxTotal"])
    return dict(found)


@pytest.fixture(scope="module")
def charged(world: World) -> Totals:
    """Billed where it is billed (October in EUR), else unbilled; each month and currency once."""
    totals = known(
        world,
        (f"billed_usage/{world.invoice_id}/full", "2026-10"),
        ("unbilled_usage/2026-10/USD/full", "2026-10"),
        ("unbilled_usage/2026-11/USD/full", "2026-11"),
    )
    assert len(totals) == 3 and all(rows and total for rows, total in totals.values())
    return totals


def test_duckdb(landing: Path, charged: Totals) -> None:
    with duckdb.connect() as connection:
        answers = [
            connection.execute(block.replace(SAID, str(landing))).fetchall()
            for block in blocks("run: duckdb", "sql")
        ]
        assert len(answers) == 4
        assert {tuple(row[:3]): (row[3], row[4]) for row in answers[2]} == charged
        assert answers[3] == []
        naive = connection.execute(
            f"SELECT sum(BillingPreTaxTotal::DECIMAL(38, 10)) FROM read_json('{landing}/data/**/part-*', "
            "columns = {BillingPreTaxTotal: 'VARCHAR'})"
        ).fetchone()
    assert naive and naive[0] != sum(total for _, total in charged.values())


def test_duckdb_names_the_version_of_which_not_all_was_read(landing: Path) -> None:
    with duckdb.connect() as connection:
        *before, check = [
            block.replace(SAID, str(landing)) for block in blocks("run: duckdb", "sql")
        ]
        for block in before:
            connection.execute(block)
        connection.execute("DELETE FROM usage WHERE rowid = (SELECT min(rowid) FROM usage)")
        named = connection.execute(check).fetchall()
        connection.execute("DELETE FROM usage WHERE dataset = 'billed_usage'")
        gone = connection.execute(check).fetchall()
    assert len(named) == 1 and named[0][2] == named[0][3] + 1
    assert [row[3] for row in gone if row[0] == "billed_usage"] == [0]


def test_polars(landing: Path, charged: Totals, capsys: pytest.CaptureFixture[str]) -> None:
    [block] = blocks("run: polars", "python")
    names: dict[str, Any] = {}
    exec(block.replace(SAID, str(landing)), names)
    totals: pl.DataFrame = names["totals"]
    assert {row[:3]: row[3:] for row in totals.rows()} == charged
    assert "billed_usage" in capsys.readouterr().out


def test_event_grid_names_what_is_ready_and_nothing_else(world: World) -> None:
    [block] = blocks("checked: Event Grid filter", "json")
    wanted = json.loads(block)
    assert wanted["includedEventTypes"] == ["Microsoft.Storage.BlobCreated"]
    subjects = [
        f"/blobServices/default/containers/billing/blobs/{name}" for name in world.landed_files()
    ]
    ready = [
        subject
        for subject in subjects
        if subject.startswith(wanted["subjectBeginsWith"])
        and subject.endswith(wanted["subjectEndsWith"])
    ]
    assert ready == [
        f"/blobServices/default/containers/billing/blobs/catalogue/billed_usage/invoice_id={world.invoice_id}"
        "/attribute_set=full/latest.json"
    ]
    typed = re.search(r"^az eventgrid .*?^```", DOCUMENT, flags=re.MULTILINE | re.DOTALL)
    assert (
        typed and wanted["subjectBeginsWith"] in typed[0] and wanted["subjectEndsWith"] in typed[0]
    )


def test_a_run_that_finds_nothing_new_says_nothing(world: World) -> None:
    before = {
        name: body for name, body in world.landed_files().items() if name.endswith("/latest.json")
    }
    assert world.land("billed_usage")["outcome"] == "unchanged"
    assert {
        name: body for name, body in world.landed_files().items() if name.endswith("/latest.json")
    } == before


@pytest.mark.parametrize("read", ["duckdb", "polars"])
def test_both_read_all_members_of_a_gzip_file(read: str, tmp_path: Path) -> None:
    file = tmp_path / "part-0.json.gz"
    file.write_bytes(gzip.compress(b'{"a": 1}\n') + gzip.compress(b'{"a": 2}\n{"a": 3}'))
    if read == "duckdb":
        with duckdb.connect() as connection:
            rows = connection.execute(
                f"SELECT a FROM read_json('{file}', columns = {{a: 'VARCHAR'}})"
            ).fetchall()
    else:
        rows = pl.read_ndjson(file, schema={"a": pl.String}).rows()
    assert rows == [("1",), ("2",), ("3",)]


def test_what_was_not_run_says_so() -> None:
    run = {"DuckDB", "polars"}
    sections = re.split(r"^## ", DOCUMENT, flags=re.MULTILINE)[1:]
    for section in sections:
        title = section.split("\n")[0]
        if "```" in section and title not in run | {"What lies where"}:
            assert re.search(r"\b[Nn]ot run\b", section), title
