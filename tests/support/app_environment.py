"""The app with the real SDKs, the Azurite emulator, the simulator and the local host, on one clock.

    with AppEnvironment(azurite) as env:
        run_id = env.start("billed_usage")
        run = env.finish(run_id)  # hours of waiting take milliseconds
        assert run["outcome"] == "landed"

Each environment has its own container and tables, so that tests do not affect each other.
"""

import json
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from local.azurite import Azurite
from local.host import LocalHost, TerminationPoint, VirtualClock
from local.host.user_loop import UserLoop
from local.simulator.behaviour import Behaviour
from local.simulator.faults import Faults
from local.simulator.partner import PARTNER_TENANT_ID, Partner
from local.simulator.simulator import Simulator
from local.simulator.storage import BillingStorage
from shared.ledger.runs import Run
from shared.services import Services, install
from shared.settings import Settings, get_settings, load_settings

ROOT = Path(__file__).resolve().parent.parent.parent
T = TypeVar("T")
START = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)

# The settings with which function_app is indexed. Each AppEnvironment has its own settings.
ENVIRONMENT = {
    "TASK_HUB_NAME": "Tests",
    "EXPORT_SCHEDULE": "0 0 5 * * *",
    "AZURE_FUNCTIONS_DURABLE_STRICT_TYPING": "1",
    "GRAPH_BASE_URL": "http://127.0.0.1:9/v1.0",
    "LANDING_STORAGE": "AccountName=landing;AccountKey=none",
    "SOURCE_ALLOWED": "http://127.0.0.1:9",
}


@dataclass(frozen=True)
class TestClock:
    """A clock for the app: virtual for times, and real for durations."""

    __test__ = False
    virtual: VirtualClock

    def now(self) -> datetime:
        return self.virtual.now()

    def monotonic(self) -> float:
        return time.monotonic()


ServicesFactory = Callable[[Settings, TestClock, bool], Services]


def load_function_app() -> Any:
    """Return `function_app.app`, which is indexed once per process."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        import function_app
    finally:
        get_settings.cache_clear()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return function_app.app


class AppEnvironment:
    """The running app, and the simulator and storage that it uses.

    Args:
        azurite: The emulator for the landing account and Microsoft's storage.
        services_factory: Creates the services of the app; tests use it to replace parts of the app.
        settings: App settings by name, which override the defaults of `environment()`.
    """

    def __init__(
        self,
        azurite: Azurite,
        *,
        start: datetime = START,
        behaviour: Behaviour | None = None,
        faults: Faults | None = None,
        storage_proxy: bool = False,
        locking: bool = True,
        early_timers: bool = True,
        state_dir: Path | None = None,
        timers: bool = False,
        name: str | None = None,
        services_factory: ServicesFactory | None = None,
        simulated_partner: Partner | None = None,
        **settings: str,
    ) -> None:
        self.azurite, self.clock, self.name = (
            azurite,
            VirtualClock(start),
            name or "w" + uuid.uuid4().hex[:12],
        )
        self.simulator = Simulator(
            storage=BillingStorage(azurite.billing.connection_string),
            clock=self.clock,
            behaviour=behaviour,
            faults=faults,
            storage_proxy=storage_proxy,
            partner=simulated_partner,
        )
        self.locking, self._early, self._state_dir, self._timers = (
            locking,
            early_timers,
            state_dir,
            timers,
        )
        self._services_factory, self._overridden_settings = services_factory, settings
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        self.worker_exits = 0  # the number of simulated ends of the worker process
        try:
            self.graph_origin = self._exits.enter_context(self.simulator.serving())
            self.settings = load_settings(self.environment())
            self.app = self.create_services()
            self._exits.callback(self._close, self.app)
            install(self.app)
            self._exits.callback(install, None)
            self.host = self.start_host()
            self._exits.callback(lambda: self.host.stop(timeout=10))
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exits.close()

    def create_services(self) -> Services:
        clock = TestClock(self.clock)
        if self._services_factory:
            return self._services_factory(self.settings, clock, self.locking)
        return Services(self.settings, clock, self.locking)

    def start_host(self) -> LocalHost:
        """Start a host with the state of this environment."""
        return LocalHost(
            load_function_app(),
            clock=self.clock,
            early_timers=self._early,
            state_dir=self._state_dir,
            timers=self._timers,
            host_json=ROOT / "host.json",
            settings=ENVIRONMENT | {"EXPORT_SCHEDULE": self.settings.export_schedule},
            on_termination=self._replace_worker,
        ).start()

    def restart(self) -> None:
        """Kill the host, and start another one with the same stored state: nothing is lost."""
        self.host.stop(drain=False)
        previous, self.app = self.app, self.create_services()
        self._exits.callback(self._close, self.app)
        install(self.app)
        self.on_loop(previous.close())
        self.host = self.start_host()

    def terminate_worker_during(
        self, name: str, nth: int = 1, point: TerminationPoint = TerminationPoint.BEFORE
    ) -> None:
        """Simulate the end of the worker process during the nth call of a function from now.

        All calls in progress fail exactly as on Azure, including those of other instances, and an
        HTTP request that has started an instance and has no response yet. Therefore, start
        instances with `host.start_orchestration`. Assert `worker_exits` to verify that the call
        was made. `host.terminate_worker()` ends the process immediately.
        """
        self.host.terminate_worker_during(name, nth, point)

    def _replace_worker(self) -> None:
        """Create new services, because the memory of the previous process is lost."""
        self.worker_exits += 1
        self.app = self.create_services()
        self._exits.callback(self._close, self.app)
        install(self.app)

    def environment(self) -> dict[str, str]:
        invoices = [
            invoice.invoice_id for invoice in self.simulator.invoices() if not invoice.legacy
        ]
        return {
            **ENVIRONMENT,
            "GRAPH_BASE_URL": f"{self.graph_origin}/v1.0",
            "SOURCE_ALLOWED": self.simulator.storage_origin,
            "PARTNER_CENTER_BASE_URL": self.graph_origin,
            "PARTNER_TENANT_ID": PARTNER_TENANT_ID,
            "INVOICE_SOURCE": "list",
            "INVOICE_IDS": ",".join(invoices),
            "EXPORT_CURRENCIES": "USD",
            "LANDING_STORAGE": self.azurite.landing.connection_string,
            "LANDING_CONTAINER": self.name,
            "LANDING_TABLE_PREFIX": self.name,
            "MONTH_BOUNDARY_MINUTES": "0",
            **self._overridden_settings,
        }

    @property
    def invoice_id(self) -> str:
        """The ID of the newest invoice that has exports."""
        return [invoice.invoice_id for invoice in self.simulator.invoices() if not invoice.legacy][
            -1
        ]

    def post(self, path: str, body: Any = None, status: int = 202) -> Any:
        """Send a POST request, and return the JSON body of the response."""
        return self._json(
            self.host.request("POST", path, json=body if body is not None else {}), status
        )

    def get(self, path: str, status: int = 200) -> Any:
        """Send a GET request, and return the JSON body of the response."""
        return self._json(self.host.request("GET", path), status)

    def _json(self, response: Any, status: int) -> Any:
        assert response.status == status, (response.status, response.body)
        return json.loads(response.body) if response.body else None

    def start(self, dataset: str = "billed_usage", **fields: Any) -> str:
        """Start a run with the API, and return its ID."""
        if dataset.startswith("billed"):
            fields.setdefault("invoice_id", self.invoice_id)
        else:
            fields.setdefault("billing_month", "current")
            fields.setdefault("currency_code", "USD")
        response = self.post("/api/runs", {"dataset": dataset, **fields})
        assert response["started"], response
        return str(response["run_id"])

    def finish(self, run_id: str, seconds: float = 60) -> dict[str, Any]:
        """Advance the time until the run has ended, and return it as the API shows it."""
        self.host.wait(run_id, seconds)
        return dict(self.get(f"/api/runs/{run_id}"))

    def land(self, dataset: str = "billed_usage", **fields: Any) -> dict[str, Any]:
        """Start a run, and return it when it has ended."""
        return self.finish(self.start(dataset, **fields))

    def on_loop(self, work: Awaitable[T], seconds: float = 60) -> T:
        """Run a coroutine on the event loop of the app."""

        async def await_it() -> T:
            return await work

        return UserLoop.shared().submit(await_it()).result(seconds)

    def run_row(self, run_id: str) -> Run:
        row = self.on_loop(self.app.ledger.runs.get(run_id))
        assert row is not None
        return row

    def landed_files(self) -> dict[str, bytes]:
        """Return all blobs of the landing container by path."""
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient.from_connection_string(
            self.azurite.landing.connection_string
        ) as service:
            container = service.get_container_client(self.name)
            if not container.exists():
                return {}
            return {
                blob.name: container.get_blob_client(blob.name)
                .download_blob(decompress=False)
                .readall()
                for blob in container.list_blobs()
            }

    def data_files(self) -> dict[str, bytes]:
        """Return the landed data blobs by name, without completion markers."""
        return {
            path.rsplit("/", 1)[-1]: body
            for path, body in self.landed_files().items()
            if path.startswith("data/") and not path.rsplit("/", 1)[-1].startswith("_")
        }

    def assert_landed(self, key: str) -> None:
        """Assert that the newest version is byte-identical, complete and catalogued."""
        expected, files = self.simulator.expected(key), self.landed_files()
        pointers = [
            json.loads(body) for path, body in files.items() if path.endswith("/latest.json")
        ]
        latest = next(pointer for pointer in pointers if pointer["key"] == key)
        assert latest["etag"] == expected.etag
        folder = latest["path"] + "/"
        landed = {
            path.removeprefix(folder): body
            for path, body in files.items()
            if path.startswith(folder)
        }
        marker = json.loads(landed.pop("_manifest.json"))
        assert landed == {blob.name: blob.content for blob in expected.blobs}
        assert marker["etag"] == expected.etag
        assert marker["totals"] == {
            "blobs": len(expected.blobs),
            "bytes": expected.bytes,
            "rows": expected.rows,
        }
        from shared.exports import ExportKey

        entry = self.on_loop(self.app.ledger.catalogue.get(ExportKey.parse(key)))
        assert entry is not None and entry.version == latest["version"]

    @staticmethod
    def _close(app: Services) -> None:
        UserLoop.shared().submit(app.close()).result(30)
