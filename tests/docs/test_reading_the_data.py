"""The examples in docs/reading-the-data.md return the correct totals for a landing.

The landing contains the difficult cases: a restated invoice, a month that is both billed and
unbilled, two currencies, two attribute sets, and the folder of an incomplete version.
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
        azurite,
        simulated_partner=Partner(currencies=("USD", "EUR"), customers=4),
        EXPORT_ATTRIBUTE_SETS="full,basic",
    ) as env:
        env.land("billed_usage")
        env.land("billed_reconciliation")
        env.simulator.restate(f"billed_usage/{env.invoice_id}/full", amount=Decimal("12.34"))
        env.land("billed_usage")
        env.land("billed_usage", attribute_set="basic")
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
        for line in expected_lines(env, key):
            group = (month, line["BillingCurrency"], key.split("/")[0])
            totals[group] = (
                totals[group][0] + 1,
                totals[group][1] + line["BillingPreTaxTotal"],
            )
    return dict(totals)


def expected_lines(env: AppEnvironment, key: str) -> Iterator[dict[str, Any]]:
    for blob in env.simulator.expected(key).blobs:
        for text in gzip.decompress(blob.content).splitlines():
            yield json.loads(text, parse_float=Decimal, parse_int=Decimal)


@pytest.fixture(scope="module")
def invoiced(env: AppEnvironment) -> dict[tuple[str, str, str], Decimal]:
    """The total of the invoice per currency and charge type."""
    totals: dict[tuple[str, str, str], Decimal] = defaultdict(Decimal)
    for line in expected_lines(env, f"billed_reconciliation/{env.invoice_id}/full"):
        totals[env.invoice_id, line["Currency"], line["ChargeType"]] += line["Total"]
    assert len(totals) > 1
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


READERS = ("duckdb", "polars", "pandas", "pyarrow")
# Positions of the DuckDB examples, in the order of the document.
TOTALS, INVOICES, VERIFICATION, OMITTED = 3, 4, 5, 6


def duckdb_blocks(landing: Path) -> list[str]:
    return [block.replace(DOCUMENTED_PATH, str(landing)) for block in blocks("run: duckdb", "sql")]


def run_duckdb(landing: Path) -> list[list[Any]]:
    with duckdb.connect() as connection:
        return [connection.execute(block).fetchall() for block in duckdb_blocks(landing)]


def run_python(reader: str, landing: Path) -> dict[str, Any]:
    """Run the functions and the example of a reader, and return the variables."""
    [functions], [example] = blocks("run: python", "python"), blocks(f"run: {reader}", "python")
    names: dict[str, Any] = {}
    exec(functions.replace(DOCUMENTED_PATH, str(landing)) + example, names)
    return names


def run_example(reader: str, landing: Path) -> tuple[Totals, dict[Any, Decimal]]:
    """Return the usage totals and the totals of the invoices that an example computes."""
    if reader == "duckdb":
        results = run_duckdb(landing)
        totals, invoices = results[TOTALS], [(*row[:3], row[-1]) for row in results[INVOICES]]
    else:
        names = run_python(reader, landing)
        if reader == "polars":
            totals = [tuple(row) for row in names["totals"].rows()]
            invoices = [(*row[:3], row[-1]) for row in names["invoices"].rows()]
        elif reader == "pandas":
            totals = [(*index, *row) for index, row in names["totals"].T.to_dict("list").items()]
            invoices = [
                (*index, row[-1]) for index, row in names["invoices"].T.to_dict("list").items()
            ]
        else:
            totals = [
                (
                    row["billing_month"],
                    row["BillingCurrency"],
                    row["dataset"],
                    row["BillingPreTaxTotal_count"],
                    row["BillingPreTaxTotal_sum"],
                )
                for row in names["totals"].to_pylist()
            ]
            invoices = [
                (row["invoice_id"], row["Currency"], row["ChargeType"], row["Total_sum"])
                for row in names["invoices"].to_pylist()
            ]
    return (
        {row[:3]: (row[3], row[4]) for row in map(tuple, totals)},
        {row[:3]: row[3] for row in invoices},
    )


@pytest.mark.parametrize("reader", READERS)
def test_example_returns_correct_totals(
    landing: Path,
    charged: Totals,
    invoiced: dict[Any, Decimal],
    reader: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_example(reader, landing) == (charged, invoiced)
    assert reader == "duckdb" or "billed_usage" in capsys.readouterr().out


def test_duckdb_examples_find_no_missing_lines_and_omit_no_file(landing: Path) -> None:
    results = run_duckdb(landing)
    assert (results[VERIFICATION], results[OMITTED]) == ([], [])


def test_sum_over_all_folders_is_wrong(landing: Path, charged: Totals) -> None:
    with duckdb.connect() as connection:
        unfiltered = connection.execute(
            "SELECT sum(BillingPreTaxTotal::DECIMAL(38, 10)) "
            f"FROM read_json('{landing}/data/*_usage/**/part-*', "
            "columns = {BillingPreTaxTotal: 'VARCHAR'})"
        ).fetchone()
    assert unfiltered and unfiltered[0] != sum(total for _, total in charged.values())


def test_duckdb_check_returns_version_with_missing_rows(landing: Path) -> None:
    examples = duckdb_blocks(landing)
    with duckdb.connect() as connection:
        for block in examples[:VERIFICATION]:
            connection.execute(block)
        connection.execute("DELETE FROM usage WHERE rowid = (SELECT min(rowid) FROM usage)")
        incomplete = connection.execute(examples[VERIFICATION]).fetchall()
        connection.execute("DELETE FROM usage WHERE dataset = 'billed_usage'")
        unread = connection.execute(examples[VERIFICATION]).fetchall()
    assert [row[2] - row[3] for row in incomplete] == [1]
    assert [row[3] for row in unread if row[0] == "billed_usage"] == [0]


# 18 decimals, 19 significant digits, an exponent, an integer, and the example in the document.
NUMBERS = ("0.123456789012345678", "-9.000000000000000001", "1.5E-7", "12", "1.2799888920023")


@pytest.fixture
def precise_landing(landing: Path, tmp_path: Path) -> Path:
    """The landing, in which the usage of the invoice consists of NUMBERS."""
    lines = [
        f'{{"Note": "\\"BillingPreTaxTotal\\":1", "BillingPreTaxTotal": {number},'
        ' "BillingCurrency": "EUR", "UsageDate": "2026-10-01T00:00:00Z"}\n'
        for number in NUMBERS
    ]
    return replace_billed_usage(landing, tmp_path, [gzip.compress("".join(lines).encode())])


@pytest.mark.parametrize("reader", READERS)
def test_example_is_exact_with_18_decimals(reader: str, precise_landing: Path) -> None:
    totals, _ = run_example(reader, precise_landing)
    expected = sum(Decimal(number) for number in NUMBERS)
    assert totals["2026-10", "EUR", "billed_usage"] == (len(NUMBERS), expected)


def test_other_ways_to_read_are_as_exact_as_documented(tmp_path: Path) -> None:
    file = tmp_path / "lines.json"
    file.write_text("".join(f'{{"a": {number}}}\n' for number in NUMBERS))
    query = f"SELECT a::DECIMAL(38, 18)::VARCHAR FROM read_json('{file}', columns = {{a: '%s'}})"
    with duckdb.connect() as connection:
        as_text = connection.execute(query % "VARCHAR").fetchall()
        as_decimal = connection.execute(query % "DECIMAL(38, 18)").fetchall()
    assert as_text[0] == ("0.123456789012345680",)
    assert as_decimal[4] == ("1.279988892002299904",)
    as_string = pl.read_ndjson(file, schema={"a": pl.String})["a"].cast(pl.Decimal(38, 18))
    assert as_string[0] == Decimal("0.12345678901234568")
    with pytest.raises(pl.exceptions.PolarsError):
        pl.read_ndjson(file, schema={"a": pl.Decimal(38, 18)})


def replace_billed_usage(landing: Path, tmp_path: Path, contents: list[bytes]) -> Path:
    """Return a copy of the landing, in which the usage of the invoice has other files."""
    folder = tmp_path / "changed"
    shutil.copytree(landing, folder)
    [latest] = folder.glob("catalogue/billed_usage/**/attribute_set=full/latest.json")
    version = json.loads(latest.read_text())
    path = folder / version["path"]
    marker = json.loads((path / "_manifest.json").read_text())
    marker["blobs"], total = [], 0
    for number, content in enumerate(contents):
        prover = create_prover("content")
        prover.feed(content)
        facts = prover.finish()
        name = f"{chr(ord('a') + number)}.json.gz"
        (path / name).write_bytes(content)
        total += facts.rows
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
    latest.write_text(json.dumps(version | {"rows": total}))
    return folder


@pytest.fixture
def unusual_landing(landing: Path, tmp_path: Path) -> Path:
    """The landing, in which the usage of the invoice consists of unusual files."""
    line = (
        b'{"BillingPreTaxTotal": 1.25, "BillingCurrency": "EUR", '
        b'"UsageDate": "2026-10-01T00:00:00Z"}\n'
    )
    with_mark = gzip.compress(b"\xef\xbb\xbf" + line)
    contents = [gzip.compress(line), line, with_mark, b"", gzip.compress(b"")]
    return replace_billed_usage(landing, tmp_path, contents)


def test_duckdb_examples_separate_unusual_files(unusual_landing: Path) -> None:
    results = run_duckdb(unusual_landing)
    billed = [row for row in results[TOTALS] if row[2] == "billed_usage"]
    assert [row[3:] for row in billed] == [(1, Decimal("1.25"))]
    assert [row[2:] for row in results[VERIFICATION]] == [(3, 1)]
    assert [Path(name).name for name, _ in results[OMITTED]] == ["b.json.gz", "c.json.gz"]


@pytest.mark.parametrize("reader", READERS[1:])
def test_python_example_reads_unusual_files(reader: str, unusual_landing: Path) -> None:
    totals, _ = run_example(reader, unusual_landing)
    assert totals["2026-10", "EUR", "billed_usage"] == (3, Decimal("3.75"))


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
    for reader in READERS:
        assert run_example(reader, folder)[0] == charged
    results = run_duckdb(folder)
    assert (results[VERIFICATION], results[OMITTED]) == ([], [])


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
    catalogue = "/blobServices/default/containers/billing/blobs/catalogue"
    assert sorted(selected) == [
        f"{catalogue}/{path}/latest.json"
        for path in (
            f"billed_reconciliation/invoice_id={env.invoice_id}/attribute_set=full",
            f"billed_usage/invoice_id={env.invoice_id}/attribute_set=basic",
            f"billed_usage/invoice_id={env.invoice_id}/attribute_set=full",
        )
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
    run = {"DuckDB", "Python", "polars", "pandas", "pyarrow"}
    sections = re.split(r"^## ", DOCUMENT, flags=re.MULTILINE)[1:]
    for section in sections:
        title = section.split("\n")[0]
        if "```" in section and title not in run:
            assert re.search(r"\b[Nn]ot run\b", section), title
