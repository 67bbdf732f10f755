"""An app whose requests to the table service are counted by method and table."""

import re
from collections import Counter
from typing import Any

from local.azurite import Azurite
from shared.ledger.ledger import Ledger
from shared.ledger.tables import Tables
from shared.services import Services
from shared.settings import Settings
from tests.support.app_environment import AppEnvironment

TABLES = ("catalogue", "versions", "blobs", "locks", "runs")


class RequestCounter:
    """The number of requests since the last reset, by kind, such as `GET runs` or `POST $batch`."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def record(self, request: Any) -> None:
        """Count a request; used as the raw request hook of the table client."""
        http = request.http_request
        resource = re.sub(r"\(.*", "", http.url.split("?")[0].rsplit("/", 1)[-1])
        table = next((name for name in TABLES if resource.endswith(name)), resource)
        self.seen[f"{http.method} {table}"] += 1

    def reset(self) -> None:
        """Set the count to zero."""
        self.seen = Counter()

    def total(self) -> int:
        """Return the number of all requests."""
        return sum(self.seen.values())


def create_counted_environment(
    azurite: Azurite, request_counter: RequestCounter, **options: Any
) -> AppEnvironment:
    """Return an app whose ledger reports its requests to `request_counter`."""

    def create_services(settings: Settings, clock: Any, locking: bool) -> Services:
        assert settings.landing_storage is not None
        tables = Tables(
            settings.landing_table_prefix,
            connection_string=settings.landing_storage.get_secret_value(),
            raw_request_hook=request_counter.record,
        )
        ledger = Ledger(tables, clock, hub=settings.task_hub_name, locking=locking)
        return Services(settings, clock, locking, overrides={"ledger": lambda app: ledger})

    return AppEnvironment(azurite, services_factory=create_services, **options)
