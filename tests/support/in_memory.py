"""The app with in-memory stores, so that months of virtual time take seconds.

    with InMemoryEnvironment(partner=Partner(currencies=("USD", "EUR")), timers=True) as env:
        env.host.advance(timedelta(days=60))

The stores have the same conditional writes as Azure. The copier writes to memory and uses the app's
proof. The simulator serves Microsoft's APIs over HTTP. The integration tests cover the behaviour of
real storage.
"""

import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from local.host import VirtualClock
from local.simulator.behaviour import Behaviour
from local.simulator.data_files import BlobFile
from local.simulator.faults import Faults
from local.simulator.partner import PARTNER_TENANT_ID, Partner
from local.simulator.simulator import Simulator
from local.simulator.storage import NoStorage
from shared.landing.store import LandedBlob, LandingStore
from shared.ledger.blobs import BlobRow
from shared.ledger.ledger import Ledger
from shared.ledger.tables import Continuation, Page, Row, RowFilter, Tables
from shared.services import Services
from shared.transfer.models import BlobResult, TransferRequest
from shared.transfer.proof import create_prover
from tests.support.app_environment import (
    ENVIRONMENT,
    START,
    AppEnvironment,
    load_function_app,
)


class MemoryTables(Tables):
    """Tables with conditional writes. Each operation is atomic because none of them uses await."""

    def __init__(self) -> None:
        super().__init__("memory", connection_string="none")
        self.rows: dict[tuple[str, str], dict[str, Row]] = {}
        self.writes, self._etags = 0, itertools.count(1)

    def _set(self, table: str, partition: str, row: str, values: Mapping[str, Any]) -> str:
        self.writes += 1
        etag = f'W/"{next(self._etags)}"'
        kept = {name: value for name, value in values.items() if value is not None}
        self.rows.setdefault((table, partition), {})[row] = Row({**kept, "RowKey": row}, etag)
        return etag

    def _at(self, table: str, partition: str, row: str) -> Row | None:
        return self.rows.get((table, partition), {}).get(row)

    async def insert(
        self, table: str, partition: str, row: str, values: Mapping[str, Any]
    ) -> str | None:
        return None if self._at(table, partition, row) else self._set(table, partition, row, values)

    async def replace(
        self, table: str, partition: str, row: str, values: Mapping[str, Any], etag: str
    ) -> str | None:
        existing = self._at(table, partition, row)
        return (
            self._set(table, partition, row, values) if existing and existing.etag == etag else None
        )

    async def merge(
        self,
        table: str,
        partition: str,
        row: str,
        changes: Mapping[str, Any],
        etag: str | None = None,
    ) -> str | None:
        existing = self._at(table, partition, row)
        if existing is None or etag not in (None, existing.etag):
            return None
        return self._set(
            table,
            partition,
            row,
            {**existing.values, **{n: v for n, v in changes.items() if v is not None}},
        )

    async def get(self, table: str, partition: str, row: str) -> Row | None:
        return self._at(table, partition, row)

    async def list(
        self,
        table: str,
        partition: str,
        *,
        prefix: str = "",
        select: Sequence[str] | None = None,
        where: RowFilter | None = None,
    ) -> AsyncIterator[Row]:
        for key, row in sorted(self.rows.get((table, partition), {}).items()):
            if key.startswith(prefix) and _fits(row, where or RowFilter()):
                yield row

    async def get_page(
        self,
        table: str,
        partition: str,
        *,
        where: RowFilter,
        limit: int,
        continuation: Continuation | None = None,
    ) -> Page:
        """Return all rows in order, regardless of `limit`."""
        rows = [row async for row in self.list(table, partition, where=where)]
        return Page(rows[:limit] if limit == 1 else rows, None)

    async def delete(self, table: str, partition: str, rows: Sequence[str]) -> None:
        for row in rows:
            del self.rows[table, partition][row]

    async def delete_if_exists(self, table: str, partition: str, row: str) -> None:
        self.rows.get((table, partition), {}).pop(row, None)

    async def upsert_many(
        self, table: str, partition: str, rows: Mapping[str, Mapping[str, Any]]
    ) -> None:
        for row, values in rows.items():
            existing = self._at(table, partition, row)
            self._set(table, partition, row, {**(existing.values if existing else {}), **values})

    async def close(self) -> None:
        return


def _fits(row: Row, where: RowFilter) -> bool:
    values = row.values
    return (
        all(values.get(name) == value for name, value in where.equal.items())
        and all(
            str(values.get(name, "")).startswith(start) for name, start in where.starts_with.items()
        )
        and all(values.get(name) for name in where.non_empty)
    )


class MemoryLanding(LandingStore):
    """A landing container, as a dictionary of content, ETag and metadata by path."""

    def __init__(self, clock: Any) -> None:
        super().__init__(container="memory", connection_string="none", clock=clock)
        self.blobs: dict[str, tuple[bytes, str, Mapping[str, str]]] = {}
        self._etags = itertools.count(1)

    def store(self, path: str, body: bytes, metadata: Mapping[str, str]) -> str:
        etag = f'"0x{next(self._etags):X}"'
        self.blobs[path] = (body, etag, metadata)
        return etag

    async def ensure_container(self) -> None:
        return

    async def put(self, path: str, body: bytes, *, content_type: str = "application/json") -> str:
        return self.store(path, body, {})

    async def put_if_match(
        self,
        path: str,
        body: bytes | Iterable[bytes],
        etag: str | None,
        *,
        content_type: str = "application/json",
    ) -> str | None:
        existing = self.blobs.get(path)
        body = body if isinstance(body, bytes) else b"".join(body)
        return self.store(path, body, {}) if (existing[1] if existing else None) == etag else None

    async def read(self, path: str) -> tuple[bytes, str] | None:
        existing = self.blobs.get(path)
        return (existing[0], existing[1]) if existing else None

    async def get_properties(self, path: str, *, for_transfer: bool = False) -> LandedBlob | None:
        existing = self.blobs.get(path)
        return (
            LandedBlob(path, existing[1], len(existing[0]), None, existing[2]) if existing else None
        )

    async def list(self, folder: str) -> list[LandedBlob]:
        start = folder.rstrip("/") + "/"
        return [
            LandedBlob(path.removeprefix(start), etag, len(body), None, metadata)
            for path, (body, etag, metadata) in sorted(self.blobs.items())
            if path.startswith(start)
        ]

    async def read_range(self, path: str, start: int, length: int, etag: str) -> bytes:
        body, existing, _ = self.blobs[path]
        assert existing == etag
        return body[start : start + length]

    async def delete(self, path: str, etag: str | None = None) -> bool:
        existing = self.blobs.get(path)
        if existing is None or etag not in (None, existing[1]):
            return False
        del self.blobs[path]
        return True

    async def delete_empty_folders(self, folder: str, *, root: str) -> int:
        return 0  # without a hierarchical namespace, there are no folders

    async def close(self) -> None:
        return


@dataclass(frozen=True)
class MemoryStorage(NoStorage):
    """The source account, as a dictionary of files by path."""

    files: dict[str, BlobFile] = field(default_factory=dict)

    async def write(
        self,
        container: str,
        folder: str,
        files: Iterable[BlobFile],
        *,
        encoding: str | None,
        with_md5: bool,
    ) -> None:
        self.files.update(
            {f"{self.blob_url}/{container}/{folder}/{file.name}": file for file in files}
        )


class MemoryCopier:
    """Copies blobs from the source to the landing dictionary, with the app's proof."""

    def __init__(self, landing: MemoryLanding, source: MemoryStorage) -> None:
        self._landing, self._source, self.copied = landing, source, 0

    async def copy_in_groups(
        self, work: TransferRequest, names: Sequence[str], proven: Mapping[str, BlobRow]
    ) -> AsyncGenerator[list[BlobResult]]:
        yield [self._land(work, name) for name in names]

    def _land(self, work: TransferRequest, name: str) -> BlobResult:
        body = self._source.files[f"{work.root_directory}/{name}"].content
        prover = create_prover(work.proof, work.date_member)
        prover.feed(body)
        self.copied += 1
        etag = self._landing.store(f"{work.folder}/{name}", body, {"runid": work.run_id})
        return BlobResult(
            name,
            True,
            facts=prover.finish(),
            source_etag='"0x1"',
            destination_etag=etag,
            copy_method="stream",
            transferred=True,
        )

    async def close(self) -> None:
        return


@dataclass(frozen=True)
class MemoryClock:
    """A clock whose monotonic time is virtual, so that caches expire in virtual time."""

    virtual: VirtualClock

    def now(self) -> datetime:
        return self.virtual.now()

    def monotonic(self) -> float:
        return self.virtual.now().timestamp()


class InMemoryEnvironment(AppEnvironment):
    """The running app with in-memory stores; the simulated Partner Center lists the invoices."""

    def __init__(
        self,
        *,
        start: datetime = START,
        behaviour: Behaviour | None = None,
        faults: Faults | None = None,
        partner: Partner | None = None,
        timers: bool = False,
        state_dir: Any = None,
        hourly_settling: bool = True,
        **settings: str,
    ) -> None:
        self.clock, self.name = VirtualClock(start), "memory"
        self.storage = MemoryStorage()
        self.simulator = Simulator(
            storage=self.storage,
            clock=self.clock,
            behaviour=behaviour,
            faults=faults,
            partner=partner or SMALL,
        )
        self.locking, self._early, self._state_dir, self._timers = True, True, state_dir, timers
        self._services_factory, self._overridden_settings = None, settings
        self._hourly = hourly_settling
        self._exits = ExitStack()
        self._tables: MemoryTables | None = None
        self.landing: MemoryLanding | None = None

    def create_services(self) -> Services:
        """Create the services; the stores are kept when the host is killed."""
        clock = MemoryClock(self.clock)
        tables = self._tables = self._tables or MemoryTables()
        landing = self.landing = self.landing or MemoryLanding(clock)
        return Services(
            self.settings,
            clock,
            overrides={
                "ledger": lambda app: Ledger(
                    tables, clock, hub=app.settings.task_hub_name, locking=True
                ),
                "landing": lambda _: landing,
                "copier": lambda _: self.create_copier(landing),
            },
        )

    def create_copier(self, landing: MemoryLanding) -> MemoryCopier:
        """Create the copier; subclasses replace it."""
        return MemoryCopier(landing, self.storage)

    def start_host(self) -> Any:
        with hourly_orphan_cleanup() if self._hourly else ExitStack():
            return super().start_host()

    def __exit__(self, *error: Any) -> None:
        """Close the services, including those created after a restart."""
        self._exits.callback(lambda: self._close(self.app))
        super().__exit__(*error)

    def environment(self) -> dict[str, str]:
        return {
            **ENVIRONMENT,
            "GRAPH_BASE_URL": f"{self.graph_origin}/v1.0",
            "PARTNER_CENTER_BASE_URL": self.graph_origin,
            "SOURCE_ALLOWED": self.simulator.storage_origin,
            "PARTNER_TENANT_ID": PARTNER_TENANT_ID,
            "INVOICE_SOURCE": "partner_center",
            "LANDING_STORAGE": "AccountName=memory;AccountKey=none",
            "MONTH_BOUNDARY_MINUTES": "30",
            **self._overridden_settings,
        }

    def landed_files(self) -> dict[str, bytes]:
        """Return all blobs of the landing container by path."""
        assert self.landing is not None
        return {path: body for path, (body, _, _) in self.landing.blobs.items()}

    def run_cycle(self, seconds: float = 60) -> dict[str, Any]:
        """Start a cycle with the API, and return it when it has ended."""
        started = self.post("/api/cycles")
        self.host.wait(started["cycle_id"], seconds)
        return dict(self.get(f"/api/cycles/{started['cycle_id']}"))

    def pass_days(self, days: float, seconds: float = 600) -> None:
        self.host.advance(timedelta(days=days), seconds)


# One or two blobs per export.
SMALL = Partner(customers=2, resources=1, licences=1, rows_per_blob=1_000)


@contextmanager
def hourly_orphan_cleanup() -> Iterator[None]:
    """Run the orphaned-run cleanup once an hour, so that a simulated year has fewer timer calls.

    A host must read its functions while the context is open.
    """
    functions = [builder._function for builder in load_function_app()._function_builders]
    trigger = next(
        function.get_trigger()
        for function in functions
        if function.get_function_name() == "clean_up_orphaned_runs"
    )
    before = trigger.schedule
    trigger.schedule = "0 30 * * * *"
    try:
        yield
    finally:
        trigger.schedule = before
