"""The examples in docs/reading-the-data.md return the correct totals for a landing.

The landing contains the difficult cases: a restated invoice, a month that is both billed and
unbilled, two currencies, and the folder of an incomplete version.
"""

import gzip
import json
import re
import shutil
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
from shared.transfer.proof import create_prover
from tests.support.app_environment import AppEnvironment

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "reading-the-data.md").read_text(
    encoding="utf-8"
)
DOCUMENTED_PATH = ".state/demo/landing"
Totals = dict[tuple[str, str, str], tuple[int, Decimal]]  # month, currency, dataset -> rows, total


def blocks(marker: str, language: str) -> list[str]:
    return re.findall(
        rf"^<!-- {marker} -->\n```{language}\n(.*?)^```", DOCUMENT, flags=re.MULTILINE | re.DOTALL
    )


@pytest.fixture(scope="module")
def env(azurite: Azurite) -> Iterator[AppEnvironment]:
    with AppEnvironment(
        azurite, simulated_partner=Partner(currencies=("USD", "EUR"), customers=4)
    ) as env:
        env.land("billed_usage")
        env.simulator.restate(f"billed_usage/{env.invoice_id}/full", amount=Decimal("12.34"))
        env.land("billed_usage")
        for month, currency in (("last", "EUR"), ("last", "USD"), ("current", "USD")):
            env.land("unbilled_usage", billing_month=month, currency_code=currency)
        yield env


@pytest.fixture(scope="module")
def landing(env: AppEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The landing as a local folder, with an incomplete version."""
    folder = tmp_path_factory.mktemp("landing")
    files = env.landed_files()
    incomplete = (
        f"data/billed_usage/invoice_id={env.invoice_id}/attribute_set=full"
        "/version=20261121T120000Z-00000000/part-0.json.gz"
    )
    line = {
        "BillingPreTaxTotal": 1_000_000,
        "BillingCurrency": "EUR",
        "UsageDate": "2026-10-01T00:00:00Z",
    }
    for name, body in {**files, incomplete: gzip.compress(json.dumps(line).encode())}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    return folder


def expected_totals(env: AppEnvironment, *keys: tuple[str, str]) -> Totals:
    """Compute the totals from the simulator's data with the standard library."""
    totals: Totals = defaultdict(lambda: (0, Decimal(0)))
    for key, month in keys:
        for blob in env.simulator.expected(key).blobs:
            for text in gzip.decompress(blob.content).splitlines():
                line = json.loads(text, parse_float=Decimal, parse_int=Decimal)
                group = (month, line["BillingCurrency"], key.split("/")[0])
                totals[group] = (
                    totals[group][0] + 1,
                    totals[group][1] + line["BillingPreTaxTotal"],
                )
    return dict(totals)


@pytest.fixture(scope="module")
def charged(env: AppEnvironment) -> Totals:
    """The totals per month and currency: billed if available (October in EUR), or unbilled."""
    totals = expected_totals(
        env,
        (f"billed_usage/{env.invoice_id}/full", "2026-10"),
        ("unbilled_usage/2026-10/USD/full", "2026-10"),
        ("unbilled_usage/2026-11/USD/full", "2026-11"),
    )
    assert set(totals) == {
        ("2026-10", "EUR", "billed_usage"),
        ("2026-10", "USD", "unbilled_usage"),
        ("2026-11", "USD", "unbilled_usage"),
    }
    assert all(rows and total for rows, total in totals.values())
    return totals


def test_duckdb_examples_return_correct_totals(landing: Path, charged: Totals) -> None:
    with duckdb.connect() as connection:
        _, _, totals, missing, omitted = [
            connection.execute(block.replace(DOCUMENTED_PATH, str(landing))).fetchall()
            for block in blocks("run: duckdb", "sql")
        ]
        assert {tuple(row[:3]): (row[3], row[4]) for row in totals} == charged
        assert missing == [] and omitted == []
        unfiltered = connection.execute(
            "SELECT sum(BillingPreTaxTotal::DECIMAL(38, 10)) "
            f"FROM read_json('{landing}/data/**/part-*', "
            "columns = {BillingPreTaxTotal: 'VARCHAR'})"
        ).fetchone()
    assert unfiltered and unfiltered[0] != sum(total for _, total in charged.values())


def test_duckdb_check_returns_version_with_missing_rows(landing: Path) -> None:
    with duckdb.connect() as connection:
        *before, check, _ = [
            block.replace(DOCUMENTED_PATH, str(landing)) for block in blocks("run: duckdb", "sql")
        ]
        for block in before:
            connection.execute(block)
        connection.execute("DELETE FROM usage WHERE rowid = (SELECT min(rowid) FROM usage)")
        incomplete = connection.execute(check).fetchall()
        connection.execute("DELETE FROM usage WHERE dataset = 'billed_usage'")
        unread = connection.execute(check).fetchall()
    assert [row[2] - row[3] for row in incomplete] == [1]
    assert [row[3] for row in unread if row[0] == "billed_usage"] == [0]


def test_polars_example_returns_correct_totals(
    landing: Path, charged: Totals, capsys: pytest.CaptureFixture[str]
) -> None:
    [block] = blocks("run: polars", "python")
    names: dict[str, Any] = {}
    exec(block.replace(DOCUMENTED_PATH, str(landing)), names)
    totals: pl.DataFrame = names["totals"]
    assert {row[:3]: row[3:] for row in totals.rows()} == charged
    assert "billed_usage" in capsys.readouterr().out


@pytest.fixture
def unusual_landing(landing: Path, tmp_path: Path) -> Path:
    """The landing, in which the usage of the invoice consists of unusual files."""
    folder = tmp_path / "unusual"
    shutil.copytree(landing, folder)
    [latest] = folder.glob("catalogue/billed_usage/**/latest.json")
    version = json.loads(latest.read_text())
    path = folder / version["path"]
    marker = json.loads((path / "_manifest.json").read_text())
    line = (
        b'{"BillingPreTaxTotal": 1.25, "BillingCurrency": "EUR", '
        b'"UsageDate": "2026-10-01T00:00:00Z"}\n'
    )
    marker["blobs"] = []
    for name, content in (
        ("a.json.gz", gzip.compress(line)),
        ("b.json.gz", line),
        ("c.json.gz", gzip.compress(b"\xef\xbb\xbf" + line)),
        ("d.json.gz", b""),
        ("e.json.gz", gzip.compress(b"")),
    ):
        prover = create_prover("content")
        prover.feed(content)
        facts = prover.finish()
        (path / name).write_bytes(content)
        marker["blobs"].append(
            {
                "name": name,
                "bytes": facts.bytes,
                "rows": facts.rows,
                "encoding": facts.encoding,
                "byte_order_mark": facts.byte_order_mark,
            }
        )
    (path / "_manifest.json").write_text(json.dumps(marker))
    latest.write_text(json.dumps(version | {"rows": 3}))
    return folder


def run_duckdb(landing: Path) -> list[list[Any]]:
    with duckdb.connect() as connection:
        return [
            connection.execute(block.replace(DOCUMENTED_PATH, str(landing))).fetchall()
            for block in blocks("run: duckdb", "sql")
        ]


def run_polars(landing: Path) -> list[Any]:
    [block] = blocks("run: polars", "python")
    names: dict[str, Any] = {}
    exec(block.replace(DOCUMENTED_PATH, str(landing)), names)
    return list(names["totals"].rows())


def test_duckdb_examples_separate_unusual_files(unusual_landing: Path) -> None:
    *_, totals, missing, omitted = run_duckdb(unusual_landing)
    billed = [row for row in totals if row[2] == "billed_usage"]
    assert [row[3:] for row in billed] == [(1, Decimal("1.25"))]
    assert [row[2:] for row in missing] == [(3, 1)]
    assert [Path(name).name for name, _ in omitted] == ["b.json.gz", "c.json.gz"]


def test_polars_example_reads_unusual_files(unusual_landing: Path) -> None:
    billed = [row for row in run_polars(unusual_landing) if row[2] == "billed_usage"]
    assert [row[3:] for row in billed] == [(3, Decimal("3.75"))]


def test_examples_read_files_with_unknown_rows(
    landing: Path, charged: Totals, tmp_path: Path
) -> None:
    folder = tmp_path / "transfer"
    shutil.copytree(landing, folder)
    for file in folder.glob("catalogue/**/latest.json"):
        version = json.loads(file.read_text())
        file.write_text(json.dumps(version | {"rows": None}))
        path = folder / version["path"] / "_manifest.json"
        marker = json.loads(path.read_text())
        for blob in marker["blobs"]:
            blob.update(rows=None, encoding=None, byte_order_mark=None)
        path.write_text(json.dumps(marker))
    *_, totals, missing, omitted = run_duckdb(folder)
    assert {tuple(row[:3]): (row[3], row[4]) for row in totals} == charged
    assert missing == [] and omitted == []
    assert {row[:3]: row[3:] for row in run_polars(folder)} == charged


def test_event_grid_filter_selects_only_catalogue(env: AppEnvironment) -> None:
    [block] = blocks("checked: Event Grid filter", "json")
    event_filter = json.loads(block)
    assert event_filter["includedEventTypes"] == ["Microsoft.Storage.BlobCreated"]
    subjects = [
        f"/blobServices/default/containers/billing/blobs/{name}" for name in env.landed_files()
    ]
    selected = [
        subject
        for subject in subjects
        if subject.startswith(event_filter["subjectBeginsWith"])
        and subject.endswith(event_filter["subjectEndsWith"])
    ]
    assert selected == [
        "/blobServices/default/containers/billing/blobs/catalogue/billed_usage"
        f"/invoice_id={env.invoice_id}/attribute_set=full/latest.json"
    ]
    command = re.search(r"^az eventgrid .*?^```", DOCUMENT, flags=re.MULTILINE | re.DOTALL)
    assert (
        command
        and event_filter["subjectBeginsWith"] in command[0]
        and event_filter["subjectEndsWith"] in command[0]
    )


def test_unchanged_run_does_not_write_catalogue(env: AppEnvironment) -> None:
    before = {
        name: body for name, body in env.landed_files().items() if name.endswith("/latest.json")
    }
    assert env.land("billed_usage")["outcome"] == "unchanged"
    assert {
        name: body for name, body in env.landed_files().items() if name.endswith("/latest.json")
    } == before


@pytest.mark.parametrize("reader", ["duckdb", "polars"])
def test_reader_reads_all_members_of_gzip_file(reader: str, tmp_path: Path) -> None:
    file = tmp_path / "part-0.json.gz"
    file.write_bytes(gzip.compress(b'{"a": 1}\n') + gzip.compress(b'{"a": 2}\n{"a": 3}'))
    if reader == "duckdb":
        with duckdb.connect() as connection:
            rows = connection.execute(
                f"SELECT a FROM read_json('{file}', columns = {{a: 'VARCHAR'}})"
            ).fetchall()
    else:
        rows = pl.read_ndjson(file, schema={"a": pl.String}).rows()
    assert rows == [("1",), ("2",), ("3",)]


def test_untested_examples_are_marked_as_not_run() -> None:
    run = {"DuckDB", "polars"}
    sections = re.split(r"^## ", DOCUMENT, flags=re.MULTILINE)[1:]
    for section in sections:
        title = section.split("\n")[0]
        if "```" in section and title not in run:
            assert re.search(r"\b[Nn]ot run\b", section), title
