"""Runs a query over traces, at a time of one's choosing: KQL, translated by duckdb-kql, on DuckDB.

What the translator does not know, it refuses. The names and the grammar are held by Microsoft's own parser (check_kql.cjs).
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
# The columns that the queries may use; the table has more (Azure Monitor reference, table AppTraces).
SCHEMA = {"AppTraces": "TimeGenerated: datetime, AppRoleName: string, Message: string"}
LET = "^let {name} = (?P<value>.*);$"
TWO_DAYS = 172_800  # seconds: all that a log alert ever sees (Azure Monitor, "Create or edit a log search alert rule")


def query(name: str) -> str:
    """The text of an alarm or of a panel of the workbook."""
    return next(
        folder / f"{name}.kql" for folder in (ALERTS, WORKBOOK) if (folder / f"{name}.kql").exists()
    ).read_text("utf-8")


def names(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.kql"))


def lets(text: str) -> dict[str, str]:
    """The values at the head of a query that a deployment may replace: name -> literal."""
    return dict(re.findall(r"^let (\w+) = ([^\n]*);$", text, flags=re.MULTILINE))


def set_to(text: str, **values: str | int) -> str:
    """The query with other values at its head, as the deployment sets them."""
    for name, value in values.items():
        literal = f"'{value}'" if isinstance(value, str) else str(value)
        text, times = re.subn(
            rf"^let {name} = .*;$", f"let {name} = {literal};", text, flags=re.MULTILINE
        )
        assert times == 1, f"{name} is set {times} times"
    return text


@cache
def translated(text: str) -> str:
    """SQL, in which $now stands for the time."""
    sql = re.sub(r"\bnow\(\)", "$now", duckdb_kql.to_sql(text))
    assert "current_" not in sql.lower() and ("$now" in sql) == (
        "now()" in text or "ago(" in text
    ), sql
    return sql


class Workspace:
    """Traces in a table, to be asked at any time: what lies behind it is not there yet."""

    def __init__(self, traces: Iterable[Trace]) -> None:
        self._connection = duckdb.connect(config={"threads": 1})
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute(
            "CREATE TABLE arrived (TimeGenerated TIMESTAMP, AppRoleName VARCHAR, Message VARCHAR)"
        )
        rows = [(naive(trace.at), trace.role, trace.message) for trace in traces]
        self._connection.execute(
            "INSERT INTO arrived SELECT unnest(?::TIMESTAMP[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[])",
            [list(column) for column in zip(*rows, strict=True)] if rows else [[], [], []],
        )

    def run(self, text: str, now: datetime) -> list[dict[str, Any]]:
        """The rows of the answer, sorted where the query leaves their order open; times are aware."""
        moment = f"{naive(now):%Y-%m-%d %H:%M:%S.%f}"
        self._connection.execute(
            f"CREATE OR REPLACE VIEW AppTraces AS SELECT * FROM arrived WHERE TimeGenerated <= TIMESTAMP '{moment}'"
        )
        answer = self._connection.execute(
            translated(text).replace("$now", f"TIMESTAMPTZ '{moment}+00'")
        )
        columns = [column[0] for column in answer.description]
        rows = [
            {name: aware(value) for name, value in zip(columns, row, strict=True)}
            for row in answer.fetchall()
        ]
        return (
            rows
            if re.search(r"^\| (order|top) ", text, flags=re.MULTILINE)
            else sorted(rows, key=str)
        )

    def close(self) -> None:
        self._connection.close()


def run(text: str, traces: Iterable[Trace], now: datetime) -> list[dict[str, Any]]:
    """One question to a workspace of its own."""
    with closing(Workspace(traces)) as workspace:
        return workspace.run(text, now)


def naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def aware(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def diagnosed(queries: Mapping[str, str]) -> dict[str, list[dict[str, str]]]:
    """What Microsoft's parser and binder say of each query; nothing, where all is well."""
    done = subprocess.run(
        ["node", str(Path(__file__).with_name("check_kql.cjs"))],
        input=json.dumps({"schema": SCHEMA, "queries": queries}),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return dict(json.loads(done.stdout))
