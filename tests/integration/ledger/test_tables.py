"""The table service, reduced to what correctness rests on."""

import asyncio
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ServiceRequestError
from azure.data.tables import EdmType, TableServiceClient
from azure.data.tables.aio import TableClient
from azure.data.tables.aio import TableServiceClient as AsyncTableServiceClient

from local.azurite import Azurite
from shared.ledger.tables import MAX_TEXT_LENGTH, TABLES, Tables

VALUES = {
    "text": "ü\n😀",
    "empty": "",
    "yes": True,
    "no": False,
    "size": 2**53 + 1,
    "negative": -5,
    "zero": 0,
    "seconds": 1.5,
}


async def test_values_round_trip(tables: Tables) -> None:
    etag = await tables.insert("runs", "p", "r", VALUES | {"nothing": None})
    row = await tables.get("runs", "p", "r")
    assert row is not None and row.etag == etag
    assert {name: row.values[name] for name in VALUES} == VALUES and "nothing" not in row.values
    assert all(type(row.values[name]) is type(value) for name, value in VALUES.items())


async def test_integers_are_stored_as_int64(tables: Tables, azurite: Azurite, prefix: str) -> None:
    await tables.insert("runs", "p", "r", {"size": 1, "most": 2**63 - 1})
    await tables.upsert_many("runs", "p", {"s": {"size": 1}})
    with TableServiceClient.from_connection_string(azurite.landing.connection_string) as raw:
        for row in ("r", "s"):
            entity = raw.get_table_client(prefix + "runs").get_entity("p", row)
            assert entity["size"].edm_type == EdmType.INT64 and entity["size"].value == 1
    row_of_most = await tables.get("runs", "p", "r")
    assert row_of_most is not None and row_of_most.values["most"] == 2**63 - 1


async def test_insert_concurrently_succeeds_once(tables: Tables) -> None:
    etags = await asyncio.gather(*(tables.insert("locks", "p", "r", {"n": n}) for n in range(20)))
    assert sum(etag is not None for etag in etags) == 1
    row = await tables.get("locks", "p", "r")
    assert row is not None and etags[row.values["n"]] == row.etag


async def test_update_requires_current_etag(tables: Tables) -> None:
    first = await tables.insert("runs", "p", "r", {"a": 1, "b": 1})
    assert first is not None
    second = await tables.replace("runs", "p", "r", {"a": 2}, first)
    assert second is not None and second != first
    assert await tables.replace("runs", "p", "r", {"a": 3}, first) is None
    assert await tables.merge("runs", "p", "r", {"a": 3}, first) is None
    row = await tables.get("runs", "p", "r")
    assert row is not None and row.values["a"] == 2 and "b" not in row.values and row.etag == second
    third = await tables.merge("runs", "p", "r", {"c": 3}, second)
    row = await tables.get("runs", "p", "r")
    assert row is not None and (row.values["a"], row.values["c"], row.etag) == (2, 3, third)


async def test_merge_without_etag_requires_existing_row(tables: Tables) -> None:
    assert (
        await tables.merge("runs", "p", "r", {"a": 1}) is None
        and await tables.get("runs", "p", "r") is None
    )
    await tables.insert("runs", "p", "r", {"a": 1, "b": 1})
    assert await tables.merge("runs", "p", "r", {"a": 2, "b": None}) is not None
    row = await tables.get("runs", "p", "r")
    assert row is not None and (row.values["a"], row.values["b"]) == (2, 1)
    assert await tables.replace("runs", "p", "absent", {"a": 1}, row.etag) is None


async def test_update_concurrently_succeeds_once(tables: Tables) -> None:
    etag = await tables.insert("runs", "p", "r", {"n": -1})
    assert etag is not None
    won = await asyncio.gather(
        *(tables.replace("runs", "p", "r", {"n": n}, etag) for n in range(20))
    )
    assert sum(one is not None for one in won) == 1


@pytest.mark.parametrize(
    "text", ["x" * 100_000, "😀" * 40_000, "x" + "😀" * 40_000, "é" * MAX_TEXT_LENGTH]
)
async def test_text_beyond_limit_is_truncated(tables: Tables, text: str) -> None:
    await tables.insert("runs", "p", "r", {"text": text})
    row = await tables.get("runs", "p", "r")
    assert row is not None
    kept = row.values["text"]
    assert len(kept.encode("utf-16-le")) <= MAX_TEXT_LENGTH * 2
    assert (
        kept == text
        if len(text) == MAX_TEXT_LENGTH
        else (kept[-1] == "…" and text.startswith(kept[:-1]))
    )
    assert len(kept.encode("utf-16-le")) >= MAX_TEXT_LENGTH * 2 - 4


async def test_list_returns_one_partition_in_key_order(tables: Tables) -> None:
    for row in ("b~1~1", "a~1~2", "a~1~1", "a~10~1", "a", "a~"):
        await tables.insert("versions", "p", row, {"n": row})
    await tables.insert("versions", "q", "a~1~1", {"n": "other"})
    assert [row.values["n"] async for row in tables.list("versions", "p")] == [
        "a",
        "a~",
        "a~10~1",
        "a~1~1",
        "a~1~2",
        "b~1~1",
    ]
    assert [row.values["n"] async for row in tables.list("versions", "p", prefix="a~1~")] == [
        "a~1~1",
        "a~1~2",
    ]
    assert [row.values["n"] async for row in tables.list("versions", "p", prefix="c")] == []
    assert [dict(row.values) async for row in tables.list("versions", "q", select=("n",))] == [
        {"n": "other"}
    ]


async def test_list_escapes_quotes_in_partition(tables: Tables) -> None:
    await tables.insert("versions", "it's", "r", {"n": 1})
    await tables.insert("versions", "p", "r", {"n": 2})
    assert [row.values["n"] async for row in tables.list("versions", "it's")] == [1]
    assert [row async for row in tables.list("versions", "x' or PartitionKey eq 'p")] == []


@pytest.mark.parametrize("count", [0, 1, 100, 101, 250])
async def test_upsert_many_writes_batches_of_100(tables: Tables, count: int) -> None:
    rows: dict[str, dict[str, Any]] = {f"{n:05}": {"n": n, "text": "x" * 200} for n in range(count)}
    await tables.upsert_many("blobs", "p", rows)
    await tables.upsert_many("blobs", "p", {row: {"again": True} for row in rows})
    found = [row.values async for row in tables.list("blobs", "p")]
    assert [row["n"] for row in found] == list(range(count)) and all(row["again"] for row in found)


async def test_list_returns_all_pages(tables: Tables) -> None:
    await tables.upsert_many("blobs", "p", {f"{n:05}": {"n": n} for n in range(1_100)})
    numbers = [row.values["n"] async for row in tables.list("blobs", "p")]
    assert numbers == list(range(1_100))


async def test_get_missing_row_returns_none(tables: Tables) -> None:
    assert await tables.get("runs", "p", "r") is None


async def test_tables_are_created_once(azurite: Azurite, prefix: str) -> None:
    many = [Tables(prefix, connection_string=azurite.landing.connection_string) for _ in range(4)]
    await asyncio.gather(*(tables.get("runs", "p", str(n)) for tables in many for n in range(5)))
    with TableServiceClient.from_connection_string(azurite.landing.connection_string) as raw:
        assert {table.name for table in raw.list_tables() if table.name.startswith(prefix)} == {
            prefix + name for name in TABLES
        }
    for tables in many:
        await tables.close()


async def test_closed_client_reopens(tables: Tables) -> None:
    await tables.insert("runs", "p", "r", {"a": 1})
    await tables.close()
    await tables.close()
    assert await tables.get("runs", "p", "r") is not None


async def test_write_with_lost_response_is_reported_as_conflict(
    tables: Tables,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the SDK does it: it repeats a request that got no answer, and the repeat finds the first one's row."""
    real = TableClient.create_entity

    async def twice(self: TableClient, *args: Any, **more: Any) -> Any:
        await real(self, *args, **more)
        return await real(self, *args, **more)

    monkeypatch.setattr(TableClient, "create_entity", twice)
    assert await tables.insert("runs", "p", "r", {"run_id": "mine"}) is None
    row = await tables.get("runs", "p", "r")
    assert row is not None and row.values["run_id"] == "mine"


async def test_get_with_wrong_key_raises(azurite: Azurite, prefix: str) -> None:
    tables = Tables(
        prefix,
        connection_string=azurite.landing.connection_string.replace(
            azurite.landing.key, azurite.billing.key
        ),
    )
    with pytest.raises(HttpResponseError) as error:
        await tables.get("runs", "p", "r")
    assert error.value.status_code == 403
    await tables.close()


def may_make_no_table(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """As with a role on single tables: storage refuses to make any. What was asked for."""
    asked: list[str] = []

    async def refuse(self: AsyncTableServiceClient, name: str, **_: Any) -> None:
        asked.append(name)
        error = HttpResponseError(
            "This request is not authorized to perform this operation using this permission."
        )
        error.status_code = 403
        raise error

    monkeypatch.setattr(AsyncTableServiceClient, "create_table_if_not_exists", refuse)
    return asked


async def test_role_without_create_permission_works_with_existing_tables(
    tables: Tables,
    azurite: Azurite,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await tables.insert("runs", "p", "r", {"a": 1})  # they are made
    asked = may_make_no_table(monkeypatch)
    narrow = Tables(prefix, connection_string=azurite.landing.connection_string)
    assert (
        await narrow.get("runs", "p", "r") is not None
        and await narrow.get("locks", "p", "r") is None
    )
    assert sorted(asked) == sorted(prefix + name for name in TABLES)  # once
    await narrow.close()


async def test_role_without_create_permission_raises_without_tables(
    azurite: Azurite,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = may_make_no_table(monkeypatch)
    narrow = Tables(prefix, connection_string=azurite.landing.connection_string)
    for _ in range(2):  # the next call tries again: a role takes minutes to hold
        with pytest.raises(HttpResponseError) as error:
            await narrow.get("runs", "p", "r")
        assert error.value.status_code == 403
    assert len(asked) == 2 * len(TABLES)
    await narrow.close()


async def test_table_creation_is_retried_after_failure(
    azurite: Azurite, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = Tables(prefix, connection_string=azurite.landing.connection_string)
    failing = [ServiceRequestError("no way"), None]
    create_tables = Tables._create_tables

    async def sometimes(self: Tables) -> None:
        if (error := failing.pop(0)) is not None:
            raise error
        await create_tables(self)

    monkeypatch.setattr(Tables, "_create_tables", sometimes)
    results = await asyncio.gather(
        *(tables.get("runs", "p", "r") for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(result, ServiceRequestError) for result in results)
    assert await tables.get("runs", "p", "r") is None
    await tables.close()
