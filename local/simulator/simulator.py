"""The simulator's interface for tests and programs: its state, servers and control methods."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from aiohttp import web

from local.simulator.behaviour import Behaviour
from local.simulator.billing_months import Month
from local.simulator.data_files import BlobFile
from local.simulator.data_versions import Clock, DataVersion, ExportKey, Exports
from local.simulator.export_requests import ExportRequestHandler
from local.simulator.faults import Faults
from local.simulator.graph import Graph
from local.simulator.invoices import Invoice, InvoiceBook
from local.simulator.manifests import container_of, folder_of
from local.simulator.operations import Operation, Operations
from local.simulator.partner import Partner, customers_of
from local.simulator.partner_center import PartnerCenter
from local.simulator.pipeline import RequestPipeline
from local.simulator.publishing import Publisher
from local.simulator.request_log import RecordedRequest, RequestLog
from local.simulator.server_thread import ServerThread
from local.simulator.storage import Storage
from local.simulator.storage_proxy import StorageProxy


class SystemClock:
    """The clock of this machine, in UTC."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass(frozen=True)
class ExpectedExport:
    """The result of an export: the newest version of a key's data, with the exact files."""

    key: str
    etag: str
    created: datetime
    billing_month: str
    container: str
    folder: str
    blobs: tuple[BlobFile, ...]

    @property
    def rows(self) -> int:
        return sum(blob.rows for blob in self.blobs)

    @property
    def bytes(self) -> int:
        return sum(blob.size for blob in self.blobs)


class Simulator:
    """Simulates Graph partner billing, Partner Center invoices and billing storage for one partner.

    `behaviour` and `faults` can be replaced while the simulator runs. `clock` determines the
    current month and when operations are complete; dates and SAS tokens in storage use real time.
    With `storage_proxy`, root directories refer to a proxy that applies fault rules.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        seed: int = 7,
        clock: Clock | None = None,
        behaviour: Behaviour | None = None,
        faults: Faults | None = None,
        partner: Partner | None = None,
        storage_proxy: bool = False,
    ) -> None:
        self.seed, self.storage, self.clock = seed, storage, clock or SystemClock()
        self.behaviour, self.faults, self.partner = (
            behaviour or Behaviour(),
            faults or Faults(),
            partner or Partner(),
        )
        self.customers = customers_of(self.partner, seed)
        self._book = InvoiceBook(
            seed, self.partner, self.customers, self.clock.now, lambda: self.behaviour
        )
        self._exports = Exports(
            seed, self.partner, self.customers, self._book, self.clock, lambda: self.behaviour
        )
        self._operations, self._log, self._storage_log = Operations(), RequestLog(), RequestLog()
        self._with_proxy, self._origins = storage_proxy, list[str]()
        self._thread: ServerThread | None = None
        self._publisher: Publisher | None = None
        self.crashes: list[str] = []  # tracebacks of internal errors; `serving` raises them

    # -- inspection

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """All requests to Graph and Partner Center, in the order of arrival."""
        return tuple(self._log.records)

    def requests_of(self, step: str, dataset: str | None = None) -> tuple[RecordedRequest, ...]:
        """Return the requests for a step: start, poll, manifest, invoices, invoice or other."""
        return self._log.of(step, dataset)

    @property
    def storage_requests(self) -> tuple[RecordedRequest, ...]:
        """All requests to the storage proxy."""
        return tuple(self._storage_log.records)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All operations, oldest first."""
        return self._operations.all()

    def invoices(self) -> tuple[Invoice, ...]:
        """Return the invoices issued so far, oldest first. `D...` invoices have no exports."""
        return self._book.invoices()

    def month(self, word: str) -> Month:
        """Return the month to which `current` or `last` refers now."""
        current = self._exports.current_month()
        return {"current": current, "last": current.plus(-1)}[word]

    def expected(self, key: str) -> ExpectedExport:
        """Return the expected export for a key, such as `unbilled_usage/2026-11/USD/full`.

        Raises KeyError for an unknown invoice.
        """
        version = self._exports.version(ExportKey.parse(key))
        return ExpectedExport(
            key,
            version.etag,
            version.created,
            str(version.month),
            container_of(version),
            folder_of(version, self.partner.tenant_id),
            version.blobs,
        )

    def export_keys(self, attribute_set: str = "full") -> tuple[str, ...]:
        """Return all keys that have an export now.

        These are all `G...` invoices, and the current and the previous month in each currency.
        """
        invoices = [invoice.invoice_id for invoice in self.invoices() if not invoice.legacy]
        months = [
            f"{self.month(word)}/{currency}"
            for word in ("current", "last")
            for currency in self.partner.currencies
        ]
        return tuple(
            f"{state}_{family}/{scope}/{attribute_set}"
            for family in ("usage", "reconciliation")
            for state, scopes in (("billed", invoices), ("unbilled", months))
            for scope in scopes
        )

    # -- control

    def restate(
        self, key: str, *, amount: Decimal = Decimal(0), share: Decimal = Decimal(1)
    ) -> ExpectedExport:
        """Create a new version of a key's data, in both attribute sets.

        Args:
            key: The key.
            amount: The change in the total, in the pricing currency. The amounts of later
                restatements are added.
            share: The fraction of the days to keep, counted from the start; 0 leaves no lines.
        """
        self._exports.restate(ExportKey.parse(key), amount=amount, share=share)
        return self.expected(key)

    def change_listed_total(self, invoice_id: str, total: Decimal | None) -> None:
        """Change the total that the invoice list contains, but not the data. None removes it."""
        self._book.listed_totals[invoice_id] = total

    def fill(self, key: str, *, blobs: int, blob_bytes: int) -> ExpectedExport:
        """Replace a key's data with padding: blobs of about `blob_bytes` compressed bytes each."""
        self._exports.fill(ExportKey.parse(key), blobs=blobs, blob_bytes=blob_bytes)
        return self.expected(key)

    def expire_operations(self) -> None:
        """Expire all operations."""
        for operation in self._operations.all():
            self._operations.remove(operation.operation_id)

    def rewrite_blob(self, key: str, name: str, content: bytes | None = None) -> None:
        """Overwrite a blob, which changes its ETag. Works only while the simulator is serving.

        Without `content`, the bytes stay the same.
        """
        version = self._exports.version(ExportKey.parse(key))
        file = next(file for file in version.blobs if file.name == name)
        new = file if content is None else BlobFile(name, file.rows, lambda: content)
        assert self._thread is not None
        self._thread.call(lambda: self._rewrite(version, new))

    async def _rewrite(self, version: DataVersion, file: BlobFile) -> None:
        assert self._publisher is not None
        await self._publisher.start_write(version)
        await self.storage.write(
            container_of(version),
            folder_of(version, self.partner.tenant_id),
            [file],
            encoding="gzip" if version.behaviour.content_encoding == "gzip" else None,
            with_md5=version.behaviour.content_md5 == "present",
        )

    def publish(self, key: str) -> None:
        """Write the blobs of a key now instead of on its first export.

        Works only while the simulator is serving.
        """
        version = self._exports.version(ExportKey.parse(key))
        assert self._thread is not None and self._publisher is not None
        publisher = self._publisher
        self._thread.call(lambda: publisher.start_write(version))

    # -- servers

    @contextmanager
    def serving(self, port: int = 0) -> Iterator[str]:
        """Serve and yield the base URL, for example `http://127.0.0.1:40100`.

        Graph is under `/v1.0` and `/beta`, and Partner Center is under `/v1`.
        """
        base_url = self.start(port)
        try:
            yield base_url
        finally:
            self._stop_servers()
        self._raise_crashes()

    def start(self, port: int = 0) -> str:
        """Start the servers and return the base URL."""
        assert self._thread is None, "the simulator is already running"
        self._thread = ServerThread(self._apps, port, self._close_publisher)
        self._origins = self._thread.start()
        return self._origins[0]

    def stop(self) -> None:
        """Stop the servers, if they are running.

        Raises RuntimeError if an internal error occurred while handling a request.
        """
        self._stop_servers()
        self._raise_crashes()

    def _stop_servers(self) -> None:
        if self._thread is not None:
            self._thread.stop()
            self._thread, self._origins = None, []

    def _raise_crashes(self) -> None:
        if self.crashes:
            raise RuntimeError("Internal errors of the simulator:\n" + "\n".join(self.crashes))

    @property
    def storage_origin(self) -> str:
        """The origin of root directories, for example `http://127.0.0.1:40001`."""
        return self._blob_url().rsplit("/", 1)[0]

    def _blob_url(self) -> str:
        origin, account = self.storage.blob_url.rsplit("/", 1)
        return f"{self._origins[1] if self._with_proxy else origin}/{account}"

    def _apps(self) -> list[web.Application]:
        publisher = self._publisher = Publisher(
            self.storage, self.partner.tenant_id, lambda: self.behaviour, self._blob_url
        )
        handler = ExportRequestHandler(self._exports, self._book, self.partner)
        graph = Graph(handler, self._operations, publisher, lambda: self.behaviour, self.clock.now)
        partner_center = PartnerCenter(self._book, lambda: self.behaviour)
        pipeline = RequestPipeline(
            graph,
            partner_center,
            self._operations,
            lambda: self.faults,
            self._log,
            self.clock.now,
            self.crashes,
        )
        if not self._with_proxy:
            return [pipeline.app()]
        target = self.storage.blob_url.rsplit("/", 1)[0]
        return [
            pipeline.app(),
            StorageProxy(target, lambda: self.faults, self._storage_log, self.clock.now).app(),
        ]

    async def _close_publisher(self) -> None:
        if self._publisher is not None:
            await self._publisher.close()
