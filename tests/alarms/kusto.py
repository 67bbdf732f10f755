"""Runs KQL queries on traces as of a given time.

duckdb-kql translates a query to SQL and rejects unsupported syntax. DuckDB runs the SQL.
Microsoft's parser verifies names and syntax separately (check_kql.cjs).
"""

import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import duckdb_kql

from tests.alarms.recording import Trace

ROOT = Path(__file__).resolve().parents[2]
ALERTS, WORKBOOK = ROOT / "infra" / "alerts", ROOT / "infra" / "workbook"
# The columns that the queries may use. The table has more columns (Azure Monitor reference).
SCHEMA = {"AppTraces": "TimeGenerated: datetime, AppRoleName: string, Message: string"}
# Maximum query range of a log alert ("Create or edit a log search alert rule").
MAX_ALERT_RANGE_SECONDS = 172_800


def read_query(name: str) -> str:
    """Return the text of the query for an alert or a workbook panel."""
    files = (folder / f"{name}.kql" for folder in (ALERTS, WORKBOOK))
    return next(file for file in files if file.exists()).read_text("utf-8")


def list_queries(folder: Path) -> list[str]:
    """Return the names of the queries in a folder."""
    return sorted(file.stem for file in folder.glob("*.kql"))


def get_parameters(text: str) -> dict[str, str]:
    """Return the literals that a query declares with `let` on one line, by name."""
    return dict(re.findall(r"^let (\w+) = ([^\n]*);$", text, flags=re.MULTILINE))


def set_parameters(text: str, **values: str | int) -> str:
    """Return the query with different literals, as the deployment sets them."""
    for name, value in values.items():
        literal = f"'{value}'" if isinstance(value, str) else str(value)
        text, count = re.subn(
            rf"^let {name} = .*;$", f"let {name} = {literal};", text, flags=re.MULTILINE
        )
        assert count == 1, f"{name} is declared {count} times"
    return text


@cache
def to_sql(text: str) -> str:
    """Translate a query to SQL with the placeholder `$now` for the current time."""
    sql = re.sub(r"\bnow\(\)", "$now", duckdb_kql.to_sql(text))
    uses_time = "now()" in text or "ago(" in text
    assert "current_" not in sql.lower() and ("$now" in sql) == uses_time, sql
    return sql


class Workspace:
    """A workspace with traces that can be queried as of any time; later traces are excluded."""

    def __init__(self, traces: Iterable[Trace]) -> None:
        self._connection = duckdb.connect(config={"threads": 1})
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute(
            "CREATE TABLE traces (TimeGenerated TIMESTAMP, AppRoleName VARCHAR, Message VARCHAR)"
        )
        rows = [(to_naive_utc(trace.at), trace.role, trace.message) for trace in traces]
        self._connection.execute(
            "INSERT INTO traces"
            " SELECT unnest(?::TIMESTAMP[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[])",
            [list(column) for column in zip(*rows, strict=True)] if rows else [[], [], []],
        )

    def run(self, text: str, now: datetime) -> list[dict[str, Any]]:
        """Return the rows that a query returns at the given time.

        The rows are sorted if the query does not specify an order. Times are aware.
        """
        timestamp = f"{to_naive_utc(now):%Y-%m-%d %H:%M:%S.%f}"
        self._connection.execute(
            "CREATE OR REPLACE VIEW AppTraces AS"
            f" SELECT * FROM traces WHERE TimeGenerated <= TIMESTAMP '{timestamp}'"
        )
        result = self._connection.execute(
            to_sql(text).replace("$now", f"TIMESTAMPTZ '{timestamp}+00'")
        )
        columns = [column[0] for column in result.description]
        rows = [
            {name: to_aware(value) for name, value in zip(columns, row, strict=True)}
            for row in result.fetchall()
        ]
        is_ordered = re.search(r"^\| (order|top) ", text, flags=re.MULTILINE)
        return rows if is_ordered else sorted(rows, key=str)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


def run_query(text: str, traces: Iterable[Trace], now: datetime) -> list[dict[str, Any]]:
    """Run a query as of the given time in a new workspace with these traces."""
    with closing(Workspace(traces)) as workspace:
        return workspace.run(text, now)


def to_naive_utc(moment: datetime) -> datetime:
    """Return the time in UTC without a time zone, as DuckDB expects it."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def to_aware(value: Any) -> Any:
    """Return a datetime in UTC, and any other value unchanged."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def get_diagnostics(queries: Mapping[str, str]) -> dict[str, list[dict[str, str]]]:
    """Return the diagnostics of Microsoft's parser and binder for each query."""
    process = subprocess.run(
        ["node", str(Path(__file__).with_name("check_kql.cjs"))],
        input=json.dumps({"schema": SCHEMA, "queries": queries}),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return dict(json.loads(process.stdout))
