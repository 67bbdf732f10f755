"""The table service, reduced to what correctness rests on: insert if absent, replace or merge if unchanged, read, list.

A `None` or False answer means that somebody else was first: the caller reads again and decides. The SDK repeats
requests that got no answer, so a write that succeeded may be reported as lost to somebody else; every caller therefore
looks whether what it finds is its own. All other errors are raised as they are and stopped by the wall.
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
LONGEST_TEXT = 30_000  # UTF-16 units; a property holds 64 KiB of them (blob-copy, 1.1)
MOST_IN_TRANSACTION = 100
MOST_BYTES = 900_000  # of a transaction's rows as JSON; the service takes 4 MiB, aiohttp warns of bodies above one


class InvalidContinuationError(Exception):
    """The service did not make this continuation, or cannot read it any more."""


Continuation = tuple[str, str]
"""RowFilter the service goes on: its next partition and row key, encoded by the service, opaque to us."""


@dataclass(frozen=True)
class Row:
    """One entity: its values without the system's own, and the ETag to change it by."""

    values: Mapping[str, Any]
    etag: str


@dataclass(frozen=True)
class Page:
    """One answer of the service. It may hold fewer rows than asked for, even none, and still go on."""

    rows: list[Row]
    continuation: Continuation | None


@dataclass(frozen=True)
class RowFilter:
    """What the service is to filter by, beside the partition: columns equal to a value, or beginning with a text."""

    equal: Mapping[str, str | bool] = field(default_factory=dict)
    starts_with: Mapping[str, str] = field(default_factory=dict)
    non_empty: Sequence[str] = ()  # columns that hold some text
    row_keys: Sequence[
        str
    ] = ()  # any of these row keys: a dozen at most, a filter has 15 comparisons (Query limits)

    def query(self, partition: str) -> tuple[str, dict[str, Any]]:
        """The filter and its parameters, which the SDK quotes."""
        texts: list[str] = ["PartitionKey eq @partition"]
        values: dict[str, Any] = {"partition": partition}
        for name, value in self.equal.items():
            texts.append(f"{name} eq @{name}")
            values[name] = value
        for name, start in self.starts_with.items():
            texts.append(f"{name} ge @{name}_first and {name} lt @{name}_behind")
            values |= {
                f"{name}_first": start,
                f"{name}_behind": start[:-1] + chr(ord(start[-1]) + 1),
            }
        texts += [f"{name} gt ''" for name in self.non_empty]
        if self.row_keys:
            texts.append(
                "( " + " or ".join(f"RowKey eq @row{n}" for n in range(len(self.row_keys))) + " )"
            )
            values |= {f"row{n}": row for n, row in enumerate(self.row_keys)}
        return " and ".join(texts), values


class Tables:
    """The tables of one prefix. Exactly one of `connection_string` and `endpoint` with `credential`.

    `client_settings` go to the SDK's client (tests count and disturb requests there).
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
        self._ensuring: asyncio.Task[None] | None = None

    def _open(self) -> TableServiceClient:
        if self._service is None:
            from azure.data.tables.aio import (
                TableServiceClient,
            )  # at first use: 0.1 s that a cold start should not pay

            bounds: dict[str, Any] = {
                "connection_timeout": 10,
                "read_timeout": 30,
                "retry_total": 3,
                "permit_redirects": False,
                "use_env_settings": use_env_settings(),
                **self._client_settings,
            }
            if self._connection_string is not None:
                self._service = TableServiceClient.from_connection_string(
                    self._connection_string, **bounds
                )
            else:
                assert self._endpoint is not None and self._credential is not None
                self._service = TableServiceClient(
                    self._endpoint, credential=self._credential, **bounds
                )
        return self._service

    async def _table(self, name: str) -> TableClient:
        if self._ensuring is None:
            self._ensuring = asyncio.ensure_future(self._ensure())
        try:
            await asyncio.shield(self._ensuring)
        except Exception:
            self._ensuring = None  # the next call tries again
            raise
        if name not in self._clients:
            self._clients[name] = self._open().get_table_client(self._prefix + name)
        return self._clients[name]

    async def _ensure(self) -> None:
        service = self._open()
        await asyncio.gather(*(self._make(service, self._prefix + name) for name in TABLES))

    async def _make(self, service: TableServiceClient, name: str) -> None:
        """A role on the five tables alone does not cover making them: then whoever deployed the app has, and a look tells."""
        from azure.core.exceptions import HttpResponseError

        try:
            await service.create_table_if_not_exists(name)
        except HttpResponseError as error:
            if error.status_code != 403 or not await self._may_read(service, name):
                raise

    async def _may_read(self, service: TableServiceClient, name: str) -> bool:
        from azure.core.exceptions import HttpResponseError

        try:
            async for _ in service.get_table_client(name).query_entities(
                "PartitionKey eq ''", results_per_page=1
            ):
                break
        except HttpResponseError:
            return False  # the refusal that led here is the one to tell
        return True

    async def insert(
        self, table: str, partition: str, row: str, values: Mapping[str, Any]
    ) -> str | None:
        """The new row's ETag; None where there is a row already."""
        from azure.core.exceptions import HttpResponseError

        try:
            answer = await (await self._table(table)).create_entity(_entity(partition, row, values))
        except HttpResponseError as error:
            if _is(error, 409, "EntityAlreadyExists"):
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
        """The new ETag; None where the row is not what `etag` says any more."""
        return await self._update(table, _entity(partition, row, values), etag, "replace")

    async def merge(
        self,
        table: str,
        partition: str,
        row: str,
        changes: Mapping[str, Any],
        etag: str | None = None,
    ) -> str | None:
        """Changes some columns. With `etag` only if the row is unchanged, else if it is there; None where it is not."""
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
            if _is(error, 412, "UpdateConditionNotSatisfied") or _is(
                error, 404, "ResourceNotFound"
            ):
                return None
            raise
        return str(answer["etag"])

    async def get(self, table: str, partition: str, row: str) -> Row | None:
        from azure.core.exceptions import HttpResponseError

        try:
            entity = await (await self._table(table)).get_entity(partition, row)
        except HttpResponseError as error:
            if _is(error, 404, "ResourceNotFound"):
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
        """The rows of one partition whose row key starts_with with `prefix`, in the order of the keys: a request a thousand."""
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
        """At most `limit` rows of one partition, in the order of the keys, in one request. Raises BadContinuation."""
        from azure.core.exceptions import HttpResponseError

        query, values = where.query(partition)
        found = (await self._table(table)).query_entities(
            query, parameters=values, results_per_page=limit
        )
        after: Any = (
            {"PartitionKey": continuation[0], "RowKey": continuation[1] or None}
            if continuation
            else None
        )
        pages: Any = found.by_page(after)
        try:
            rows = [_row(entity) async for entity in await anext(pages)]
        except HttpResponseError as error:
            if continuation is not None and error.status_code == 400:
                raise InvalidContinuationError from None
            raise
        token = pages.continuation_token
        return Page(rows, (token["PartitionKey"] or "", token["RowKey"] or "") if token else None)

    async def delete(self, table: str, partition: str, rows: Sequence[str]) -> None:
        """Rows of one partition, whatever they hold, each hundred in one transaction; none of them may be gone already."""
        from azure.data.tables import TransactionOperation

        client = await self._table(table)
        for first in range(0, len(rows), MOST_IN_TRANSACTION):
            await client.submit_transaction(
                [
                    (TransactionOperation.DELETE, {"PartitionKey": partition, "RowKey": row})
                    for row in rows[first : first + MOST_IN_TRANSACTION]
                ]
            )

    async def upsert_many(
        self, table: str, partition: str, rows: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Writes the rows of one partition, each hundred (or 0.9 MB) in one transaction; what is there is merged into."""
        from azure.data.tables import TransactionOperation, UpdateMode

        client = await self._table(table)
        for some in _transactions(
            [_entity(partition, row, values) for row, values in rows.items()]
        ):
            await client.submit_transaction(
                [
                    (TransactionOperation.UPSERT, entity, {"mode": UpdateMode.MERGE})
                    for entity in some
                ]
            )

    async def close(self) -> None:
        if self._service is not None:
            for client in self._clients.values():
                await client.close()
            await self._service.close()
        self._service, self._clients, self._ensuring = None, {}, None


def _entity(partition: str, row: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """None is left out: a table knows no empty column, and a merge would keep the old value; clear with ""."""
    from azure.data.tables import EdmType

    def stored(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | str):
            return value
        if isinstance(value, int):
            return (value, EdmType.INT64)  # bytes and rows outgrow the default 32 bits
        return _fitting(value)

    return {name: stored(value) for name, value in values.items() if value is not None} | {
        "PartitionKey": partition,
        "RowKey": row,
    }


def _transactions(entities: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """In their order, each as large as one request may be."""
    some, size = list[dict[str, Any]](), 0
    for entity in entities:
        more = len(json.dumps(entity, default=str))
        if some and (len(some) == MOST_IN_TRANSACTION or size + more > MOST_BYTES):
            yield some
            some, size = [], 0
        some.append(entity)
        size += more
    if some:
        yield some


def _fitting(text: str) -> str:
    """Cut where it is too long. Characters beyond U+FFFF count twice in UTF-16."""
    if len(text) * 2 <= LONGEST_TEXT:
        return text
    units = text.encode("utf-16-le", "surrogatepass")
    if len(units) <= LONGEST_TEXT * 2:
        return text
    return units[: LONGEST_TEXT * 2 - 2].decode("utf-16-le", "ignore") + "…"


def _row(entity: Any) -> Row:
    values = {
        name: value.value if hasattr(value, "edm_type") else value
        for name, value in entity.items()
        if name not in ("PartitionKey", "Timestamp")
    }
    return Row(values, str(entity.metadata.get("etag", "")))


def _is(error: Any, status: int, code: str) -> bool:
    """By storage's error code: a class or a status alone would take a table being deleted for a row that is there."""
    return error.status_code == status and _code(error) == code


def _code(error: Any) -> str | None:
    """The SDK decodes it everywhere but in create_entity, which raises the bare answer (12.7, its source)."""
    said = getattr(error, "error_code", None)
    if said is not None:
        return str(getattr(said, "value", said))
    try:
        found = json.loads(error.response.body())["odata.error"]["code"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return str(found)
