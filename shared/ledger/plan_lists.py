"""The lists of a cycle or a backfill: its runs, and what of the invoice list it leaves out.

A column holds 64 KiB and an entity 1 MiB (Understanding the Table service data model), a partner may have thousands of
keys. What fits lies in the row itself, `runs_0`, `runs_1` ... and `left_out`; the rest in rows of a partition beside it,
`more~{cycle_id}`, written before the row that counts them. A plan that is repeated writes over both, and the counts in
the row say how much of what lies there is this plan's.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from shared.ledger.tables import LONGEST_TEXT, Tables

RUNS_PER_COLUMN = 250  # a run id has at most 100 characters, and a text 30,000
COLUMNS_PER_ROW = 8  # 2,000 runs: half a MiB of UTF-16 at most
RUNS_PER_ROW = RUNS_PER_COLUMN * COLUMNS_PER_ROW
Lists = tuple[list[str], str]
"""Run ids in the order of the plan, and what is left out, as one text."""


async def save(
    tables: Tables, partition: str, row: str, runs: Sequence[str], left_out: str, **columns: Any
) -> None:
    """Merges `columns` and the lists into the row, the rest of them first."""
    owner, texts = (
        _owner(row),
        [left_out[first : first + LONGEST_TEXT] for first in range(0, len(left_out), LONGEST_TEXT)],
    )
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
    for name, values in more.items():  # each by itself: a transaction has 4 MiB
        await tables.upsert_many("runs", owner, {name: values})
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
    """As keep() was given them; a row that was never planned has none. One request more where they are long."""
    count, texts = int(values.get("run_count", 0)), int(values.get("left_out_rows", 0))
    runs, left_out = _runs_of(values), str(values.get("left_out", ""))
    if count > RUNS_PER_ROW or texts:
        more = {one.values["RowKey"]: one.values async for one in tables.list("runs", _owner(row))}
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


def _owner(row: str) -> str:
    """The partition of what did not fit: `more~` and the row's key without its leading number."""
    return f"more~{row.split('-', 1)[1]}"
