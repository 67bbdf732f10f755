"""Access to Azure Table Storage, reduced to the operations on which correctness depends.

A conditional write returns None if another writer was first; the caller then reads the row and
decides again. The SDK retries requests without a response, so a write that succeeded can be
reported as None. Callers must therefore check whether the row that they read contains their own
write. All other errors are raised unchanged.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from shared.proxies import use_env_settings

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.data.tables.aio import TableClient, TableServiceClient

TABLES = ("catalogue", "versions", "runs", "blobs", "locks")
MAX_TEXT_LENGTH = 30_000  # UTF-16 code units; a string property is limited to 64 KiB
MAX_ROWS_IN_TRANSACTION = 100
# As JSON. The service accepts 4 MiB, but aiohttp warns about bodies of more than 1 MiB.
MAX_TRANSACTION_BYTES = 900_000


class InvalidContinuationError(Exception):
    """The service does not accept the continuation token."""


Continuation = tuple[str, str]
"""The next partition key and row key, in the encoding of the service."""


@dataclass(frozen=True)
class Row:
    """An entity: its values without the system properties, and its ETag."""

    values: Mapping[str, Any]
    etag: str


@dataclass(frozen=True)
class Page:
    """A page of a query. It can be empty although more pages follow."""

    rows: list[Row]
    continuation: Continuation | None


@dataclass(frozen=True)
class RowFilter:
    """A server-side filter for the rows of a partition.

    Attributes:
        equal: Columns that must have a value.
        starts_with: Columns that must start with a prefix.
        non_empty: Columns that must contain a non-empty string.
        row_keys: The row keys to select. A filter is limited to 15 comparisons.
    """

    equal: Mapping[str, str | bool] = field(default_factory=dict)
    starts_with: Mapping[str, str] = field(default_factory=dict)
    non_empty: Sequence[str] = ()
    row_keys: Sequence[str] = ()

    def query(self, partition: str) -> tuple[str, dict[str, Any]]:
        """Return the filter expression and its parameters, which the SDK quotes."""
        conditions: list[str] = ["PartitionKey eq @partition"]
        values: dict[str, Any] = {"partition": partition}
        for name, value in self.equal.items():
            conditions.append(f"{name} eq @{name}")
            values[name] = value
        for name, start in self.starts_with.items():
            conditions.append(f"{name} ge @{name}_start and {name} lt @{name}_end")
            values |= {
                f"{name}_start": start,
                f"{name}_end": start[:-1] + chr(ord(start[-1]) + 1),
            }
        conditions += [f"{name} gt ''" for name in self.non_empty]
        if self.row_keys:
            conditions.append(
                "( " + " or ".join(f"RowKey eq @row{n}" for n in range(len(self.row_keys))) + " )"
            )
            values |= {f"row{n}": row for n, row in enumerate(self.row_keys)}
        return " and ".join(conditions), values


class Tables:
    """The tables with one name prefix.

    Args:
        prefix: The prefix of the table names.
        connection_string: The connection string, if `endpoint` and `credential` are not given.
        endpoint: The URL of the table service.
        credential: The credential for `endpoint`.
        client_settings: Options for the SDK client, for tests.
    """

    def __init__(
        self,
        prefix: str,
        *,
        connection_string: str | None = None,
        endpoint: str | None = None,
        credential: AsyncTokenCredential | None = None,
        **client_settings: Any,
    ) -> None:
        self._prefix, self._connection_string, self._endpoint, self._credential = (
            prefix,
            connection_string,
            endpoint,
            credential,
        )
        self._client_settings = client_settings
        self._service: TableServiceClient | None = None
        self._clients: dict[str, TableClient] = {}
        self._creation: asyncio.Task[None] | None = None

    def _open(self) -> TableServiceClient:
        if self._service is None:
            # Imported at the first use, because the import adds 0.1 s to a cold start.
            from azure.data.tables.aio import TableServiceClient

            options: dict[str, Any] = {
                "connection_timeout": 10,
                "read_timeout": 30,
                "retry_total": 3,
                "permit_redirects": False,
                "use_env_settings": use_env_settings(),
                **self._client_settings,
            }
            if self._connection_string is not None:
                self._service = TableServiceClient.from_connection_string(
                    self._connection_string, **options
                )
            else:
                assert self._endpoint is not None and self._credential is not None
                self._service = TableServiceClient(
                    self._endpoint, credential=self._credential, **options
                )
        return self._service

    async def _table(self, name: str) -> TableClient:
        if self._creation is None:
            self._creation = asyncio.ensure_future(self._create_tables())
        try:
            await asyncio.shield(self._creation)
        except Exception:
            self._creation = None  # the next call tries again
            raise
        if name not in self._clients:
            self._clients[name] = self._open().get_table_client(self._prefix + name)
        return self._clients[name]

    async def _create_tables(self) -> None:
        service = self._open()
        await asyncio.gather(*(self._create_table(service, self._prefix + name) for name in TABLES))

    async def _create_table(self, service: TableServiceClient, name: str) -> None:
        """Create a table if it does not exist.

        A role assignment on the existing tables does not include the permission to create tables.
        A 403 response is therefore ignored if the table can be read.
        """
        from azure.core.exceptions import HttpResponseError

        try:
            await service.create_table_if_not_exists(name)
        except HttpResponseError as error:
            if error.status_code != 403 or not await self._can_read(service, name):
                raise

    async def _can_read(self, service: TableServiceClient, name: str) -> bool:
        from azure.core.exceptions import HttpResponseError

        try:
            async for _ in service.get_table_client(name).query_entities(
                "PartitionKey eq ''", results_per_page=1
            ):
                break
        except HttpResponseError:
            return False  # the caller raises its own error, which states the cause
        return True

    async def insert(
        self, table: str, partition: str, row: str, values: Mapping[str, Any]
    ) -> str | None:
        """Insert a row and return its ETag, or None if the row already exists."""
        from azure.core.exceptions import HttpResponseError

        try:
            answer = await (await self._table(table)).create_entity(_entity(partition, row, values))
        except HttpResponseError as error:
            if _has_code(error, 409, "EntityAlreadyExists"):
                return None
            raise
        return str(answer["etag"])

    async def replace(
        self,
        table: str,
        partition: str,
        row: str,
        values: Mapping[str, Any],
        etag: str,
    ) -> str | None:
        """Replace a row and return its new ETag, or None if its ETag is not `etag`."""
        return await self._update(table, _entity(partition, row, values), etag, "replace")

    async def merge(
        self,
        table: str,
        partition: str,
        row: str,
        changes: Mapping[str, Any],
        etag: str | None = None,
    ) -> str | None:
        """Update some columns of a row.

        Returns:
            The new ETag, or None if the row does not exist or, with `etag`, has another ETag.
        """
        return await self._update(table, _entity(partition, row, changes), etag, "merge")

    async def _update(
        self, table: str, entity: dict[str, Any], etag: str | None, mode: str
    ) -> str | None:
        from azure.core import MatchConditions
        from azure.core.exceptions import HttpResponseError
        from azure.data.tables import UpdateMode

        condition: dict[str, Any] = (
            {"etag": etag, "match_condition": MatchConditions.IfNotModified} if etag else {}
        )
        try:
            answer = await (await self._table(table)).update_entity(
                entity, mode=UpdateMode(mode), **condition
            )
        except HttpResponseError as error:
            if _has_code(error, 412, "UpdateConditionNotSatisfied") or _has_code(
                error, 404, "ResourceNotFound"
            ):
                return None
            raise
        return str(answer["etag"])

    async def get(self, table: str, partition: str, row: str) -> Row | None:
        """Return a row, or None if it does not exist."""
        from azure.core.exceptions import HttpResponseError

        try:
            entity = await (await self._table(table)).get_entity(partition, row)
        except HttpResponseError as error:
            if _has_code(error, 404, "ResourceNotFound"):
                return None
            raise
        return _row(entity)

    async def list(
        self,
        table: str,
        partition: str,
        *,
        prefix: str = "",
        select: Sequence[str] | None = None,
        where: RowFilter | None = None,
    ) -> AsyncIterator[Row]:
        """List the rows of a partition, ordered by row key, with one request per 1,000 rows.

        Args:
            table: The table, without the prefix.
            partition: The partition key.
            prefix: The prefix of the row keys to return.
            select: The columns to return; all by default.
            where: A filter.
        """
        where = where or RowFilter()
        query, values = replace(
            where, starts_with={**where.starts_with, **({"RowKey": prefix} if prefix else {})}
        ).query(partition)
        client = await self._table(table)
        async for entity in client.query_entities(
            query, parameters=values, select=list(select) if select else None
        ):
            yield _row(entity)

    async def get_page(
        self,
        table: str,
        partition: str,
        *,
        where: RowFilter,
        limit: int,
        continuation: Continuation | None = None,
    ) -> Page:
        """Return a page of the rows of a partition, ordered by row key, in one request.

        Raises:
            InvalidContinuationError: The service does not accept the continuation token.
        """
        from azure.core.exceptions import HttpResponseError

        query, values = where.query(partition)
        entities = (await self._table(table)).query_entities(
            query, parameters=values, results_per_page=limit
        )
        after: Any = (
            {"PartitionKey": continuation[0], "RowKey": continuation[1] or None}
            if continuation
            else None
        )
        pages: Any = entities.by_page(after)
        try:
            rows = [_row(entity) async for entity in await anext(pages)]
        except HttpResponseError as error:
            if continuation is not None and error.status_code == 400:
                raise InvalidContinuationError from None
            raise
        token = pages.continuation_token
        return Page(rows, (token["PartitionKey"] or "", token["RowKey"] or "") if token else None)

    async def delete(self, table: str, partition: str, rows: Sequence[str]) -> None:
        """Delete rows of a partition, in one transaction per 100 rows.

        All rows must exist; otherwise, the service rejects the transaction.
        """
        from azure.data.tables import TransactionOperation

        client = await self._table(table)
        for first in range(0, len(rows), MAX_ROWS_IN_TRANSACTION):
            await client.submit_transaction(
                [
                    (TransactionOperation.DELETE, {"PartitionKey": partition, "RowKey": row})
                    for row in rows[first : first + MAX_ROWS_IN_TRANSACTION]
                ]
            )

    async def delete_if_exists(self, table: str, partition: str, row: str) -> None:
        """Delete a row, or do nothing if it does not exist."""
        await (await self._table(table)).delete_entity(partition, row)

    async def upsert_many(
        self, table: str, partition: str, rows: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Insert or merge rows of a partition, in one transaction per 100 rows or 0.9 MB."""
        from azure.data.tables import TransactionOperation, UpdateMode

        client = await self._table(table)
        for entities in _split_into_transactions(
            [_entity(partition, row, values) for row, values in rows.items()]
        ):
            await client.submit_transaction(
                [
                    (TransactionOperation.UPSERT, entity, {"mode": UpdateMode.MERGE})
                    for entity in entities
                ]
            )

    async def close(self) -> None:
        """Close all connections. The next operation opens them again."""
        if self._service is not None:
            for client in self._clients.values():
                await client.close()
            await self._service.close()
        self._service, self._clients, self._creation = None, {}, None


def _entity(partition: str, row: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entity without the values that are None.

    Table Storage has no null values: a merge keeps the column. Use "" to clear a column.
    """
    from azure.data.tables import EdmType

    def stored(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | str):
            return value
        if isinstance(value, int):
            return (value, EdmType.INT64)  # byte and row counts exceed 32 bits
        return _truncate(value)

    return {name: stored(value) for name, value in values.items() if value is not None} | {
        "PartitionKey": partition,
        "RowKey": row,
    }


def _split_into_transactions(entities: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Split entities into transactions of the maximum size, in order."""
    transaction, size = list[dict[str, Any]](), 0
    for entity in entities:
        entity_size = len(json.dumps(entity, default=str))
        is_full = len(transaction) == MAX_ROWS_IN_TRANSACTION
        if transaction and (is_full or size + entity_size > MAX_TRANSACTION_BYTES):
            yield transaction
            transaction, size = [], 0
        transaction.append(entity)
        size += entity_size
    if transaction:
        yield transaction


def _truncate(text: str) -> str:
    """Truncate a string to the maximum number of UTF-16 code units."""
    if len(text) * 2 <= MAX_TEXT_LENGTH:
        return text
    units = text.encode("utf-16-le", "surrogatepass")
    if len(units) <= MAX_TEXT_LENGTH * 2:
        return text
    return units[: MAX_TEXT_LENGTH * 2 - 2].decode("utf-16-le", "ignore") + "…"


def _row(entity: Any) -> Row:
    values = {
        name: value.value if hasattr(value, "edm_type") else value
        for name, value in entity.items()
        if name not in ("PartitionKey", "Timestamp")
    }
    return Row(values, str(entity.metadata.get("etag", "")))


def _has_code(error: Any, status: int, code: str) -> bool:
    """Return whether a response has a status and an error code.

    The status alone is ambiguous: a 409 response, for example, can also mean that the table is
    being deleted.
    """
    return error.status_code == status and _get_code(error) == code


def _get_code(error: Any) -> str | None:
    """Return the error code of a response.

    The SDK (12.7) does not decode it in `create_entity`, which raises the original response.
    """
    error_code = getattr(error, "error_code", None)
    if error_code is not None:
        return str(getattr(error_code, "value", error_code))
    try:
        body_code = json.loads(error.response.body())["odata.error"]["code"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return str(body_code)
