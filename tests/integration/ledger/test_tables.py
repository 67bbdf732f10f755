"""The table operations on which the correctness of the ledger depends."""

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
    await tables.insert("runs", "p", "r", {"size": 1, "max": 2**63 - 1})
    await tables.upsert_many("runs", "p", {"s": {"size": 1}})
    with TableServiceClient.from_connection_string(azurite.landing.connection_string) as service:
        for row in ("r", "s"):
            entity = service.get_table_client(prefix + "runs").get_entity("p", row)
            assert entity["size"].edm_type == EdmType.INT64 and entity["size"].value == 1
    largest_row = await tables.get("runs", "p", "r")
    assert largest_row is not None and largest_row.values["max"] == 2**63 - 1


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
    results = await asyncio.gather(
        *(tables.replace("runs", "p", "r", {"n": n}, etag) for n in range(20))
    )
    assert sum(result is not None for result in results) == 1


@pytest.mark.parametrize(
    "text", ["x" * 100_000, "😀" * 40_000, "x" + "😀" * 40_000, "é" * MAX_TEXT_LENGTH]
)
async def test_text_beyond_limit_is_truncated(tables: Tables, text: str) -> None:
    await tables.insert("runs", "p", "r", {"text": text})
    row = await tables.get("runs", "p", "r")
    assert row is not None
    stored = row.values["text"]
    assert len(stored.encode("utf-16-le")) <= MAX_TEXT_LENGTH * 2
    assert (
        stored == text
        if len(text) == MAX_TEXT_LENGTH
        else (stored[-1] == "…" and text.startswith(stored[:-1]))
    )
    assert len(stored.encode("utf-16-le")) >= MAX_TEXT_LENGTH * 2 - 4


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
    stored = [row.values async for row in tables.list("blobs", "p")]
    assert [row["n"] for row in stored] == list(range(count)) and all(
        row["again"] for row in stored
    )


async def test_list_returns_all_pages(tables: Tables) -> None:
    await tables.upsert_many("blobs", "p", {f"{n:05}": {"n": n} for n in range(1_100)})
    numbers = [row.values["n"] async for row in tables.list("blobs", "p")]
    assert numbers == list(range(1_100))


async def test_get_missing_row_returns_none(tables: Tables) -> None:
    assert await tables.get("runs", "p", "r") is None


async def test_tables_are_created_once(azurite: Azurite, prefix: str) -> None:
    clients = [
        Tables(prefix, connection_string=azurite.landing.connection_string) for _ in range(4)
    ]
    await asyncio.gather(*(tables.get("runs", "p", str(n)) for tables in clients for n in range(5)))
    with TableServiceClient.from_connection_string(azurite.landing.connection_string) as service:
        assert {table.name for table in service.list_tables() if table.name.startswith(prefix)} == {
            prefix + name for name in TABLES
        }
    for tables in clients:
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
    """The SDK repeats a request without a response; the second request finds the row."""
    create_entity = TableClient.create_entity

    async def create_twice(self: TableClient, *args: Any, **kwargs: Any) -> Any:
        await create_entity(self, *args, **kwargs)
        return await create_entity(self, *args, **kwargs)

    monkeypatch.setattr(TableClient, "create_entity", create_twice)
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


def deny_table_creation(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Reject the creation of tables, as if the role were assigned on individual tables.

    Returns the names of the requested tables.
    """
    requested: list[str] = []

    async def refuse(self: AsyncTableServiceClient, name: str, **_: Any) -> None:
        requested.append(name)
        error = HttpResponseError(
            "This request is not authorized to perform this operation using this permission."
        )
        error.status_code = 403
        raise error

    monkeypatch.setattr(AsyncTableServiceClient, "create_table_if_not_exists", refuse)
    return requested


async def test_role_without_create_permission_works_with_existing_tables(
    tables: Tables,
    azurite: Azurite,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await tables.insert("runs", "p", "r", {"a": 1})  # creates the tables
    requested = deny_table_creation(monkeypatch)
    restricted = Tables(prefix, connection_string=azurite.landing.connection_string)
    assert (
        await restricted.get("runs", "p", "r") is not None
        and await restricted.get("locks", "p", "r") is None
    )
    # The client requests each table once.
    assert sorted(requested) == sorted(prefix + name for name in TABLES)
    await restricted.close()


async def test_role_without_create_permission_raises_without_tables(
    azurite: Azurite,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requested = deny_table_creation(monkeypatch)
    restricted = Tables(prefix, connection_string=azurite.landing.connection_string)
    for _ in range(2):  # each call retries: a role assignment takes minutes to apply
        with pytest.raises(HttpResponseError) as error:
            await restricted.get("runs", "p", "r")
        assert error.value.status_code == 403
    assert len(requested) == 2 * len(TABLES)
    await restricted.close()


async def test_table_creation_is_retried_after_failure(
    azurite: Azurite, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = Tables(prefix, connection_string=azurite.landing.connection_string)
    errors = [ServiceRequestError("connection failed"), None]
    create_tables = Tables._create_tables

    async def fail_once(self: Tables) -> None:
        if (error := errors.pop(0)) is not None:
            raise error
        await create_tables(self)

    monkeypatch.setattr(Tables, "_create_tables", fail_once)
    results = await asyncio.gather(
        *(tables.get("runs", "p", "r") for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(result, ServiceRequestError) for result in results)
    assert await tables.get("runs", "p", "r") is None
    await tables.close()
