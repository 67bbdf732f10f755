"""The lists of a cycle or a backfill: its runs, and the invoices that it leaves out.

A column is limited to 64 KiB and an entity to 1 MiB, and a partner can have thousands of export
keys. The row of the cycle contains what fits, in the columns `runs_0`, `runs_1` and so on and
`left_out`. The rest is in rows of the partition `more~{cycle_id}`, which are written before the row
that contains their number. A repeated plan overwrites both, and the numbers in the row determine
which of the other rows belong to the plan.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from shared.ledger.tables import MAX_TEXT_LENGTH, Tables

RUNS_PER_COLUMN = 250  # a run ID has at most 100 characters, a column 30,000
COLUMNS_PER_ROW = 8  # 2,000 runs: half a MiB of UTF-16 at most
RUNS_PER_ROW = RUNS_PER_COLUMN * COLUMNS_PER_ROW
Lists = tuple[list[str], str]
"""The run IDs in the order of the plan, and the invoices left out, as one string."""


async def save(
    tables: Tables, partition: str, row: str, runs: Sequence[str], left_out: str, **columns: Any
) -> None:
    """Store the lists and other columns in the row of a cycle or a backfill. Idempotent."""
    partition_of_rest = _overflow_partition(row)
    texts = [
        left_out[first : first + MAX_TEXT_LENGTH]
        for first in range(0, len(left_out), MAX_TEXT_LENGTH)
    ]
    more = {
        f"runs-{number:04}": _runs_columns(rest)
        for number, rest in enumerate(_rows(runs))
        if number
    }
    more |= {
        f"left-out-{number:04}": {"text": text}
        for number, text in enumerate(texts)
        if len(texts) > 1
    }
    for (
        name,
        values,
    ) in more.items():  # one transaction each, because transactions are limited to 4 MiB
        await tables.upsert_many("runs", partition_of_rest, {name: values})
    await tables.merge(
        "runs",
        partition,
        row,
        {
            **columns,
            "run_count": len(runs),
            **_runs_columns(runs[:RUNS_PER_ROW]),
            "left_out": left_out if len(texts) < 2 else "",
            "left_out_rows": len(texts) if len(texts) > 1 else 0,
        },
    )


async def load(tables: Tables, row: str, values: Mapping[str, Any]) -> Lists:
    """Return the lists that `save` stored; they are empty before the plan is stored.

    Lists that do not fit in the row need one more request.
    """
    count, texts = int(values.get("run_count", 0)), int(values.get("left_out_rows", 0))
    runs, left_out = _runs_of(values), str(values.get("left_out", ""))
    if count > RUNS_PER_ROW or texts:
        more = {
            other.values["RowKey"]: other.values
            async for other in tables.list("runs", _overflow_partition(row))
        }
        for number in range(1, len(_rows(range(count)))):
            runs += _runs_of(more[f"runs-{number:04}"])
        left_out = (
            "".join(str(more[f"left-out-{number:04}"]["text"]) for number in range(texts))
            or left_out
        )
    return runs[:count], left_out


def _rows(runs: Sequence[Any]) -> list[Sequence[Any]]:
    return [runs[first : first + RUNS_PER_ROW] for first in range(0, len(runs), RUNS_PER_ROW)]


def _runs_columns(runs: Sequence[str]) -> dict[str, str]:
    return {
        f"runs_{first // RUNS_PER_COLUMN}": json.dumps(runs[first : first + RUNS_PER_COLUMN])
        for first in range(0, len(runs), RUNS_PER_COLUMN)
    }


def _runs_of(values: Mapping[str, Any]) -> list[str]:
    columns = sorted(
        (name for name in values if name.startswith("runs_")), key=lambda name: int(name[5:])
    )
    return [run for name in columns for run in json.loads(values[name])]


def _overflow_partition(row: str) -> str:
    """Return the partition of the lists that do not fit in the row of the plan.

    It is the row key without its number.
    """
    return f"more~{row.split('-', 1)[1]}"
