"""A World whose requests to the tables are counted as they go out, by method and table."""

import re
from collections import Counter
from typing import Any

from local.azurite import Azurite
from shared.ledger.ledger import Ledger
from shared.ledger.tables import Tables
from shared.services import Services
from shared.settings import Settings
from tests.support.world import World

READS = ("GET",)


class Requests:
    """What went to the table service since the last reset: `GET runs`, `POST locks`, `POST $batch`."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.urls: list[str] = []

    def note(self, request: Any) -> None:
        http = request.http_request
        path = http.url.split("?")[0].rsplit("/", 1)[-1]
        table = re.sub(r"\(.*", "", path)
        for name in ("catalogue", "versions", "blobs", "locks", "runs"):
            table = name if table.endswith(name) else table
        self.seen[f"{http.method} {table}"] += 1
        self.urls.append(http.url)

    def reset(self) -> None:
        self.seen, self.urls = Counter(), []

    def total(self) -> int:
        return sum(self.seen.values())

    def writes(self, table: str) -> int:
        return sum(
            count
            for what, count in self.seen.items()
            if what.endswith(f" {table}") and not what.startswith("GET")
        )


def counted_world(azurite: Azurite, requests: Requests, **more: Any) -> World:
    def services(settings: Settings, clock: Any, locking: bool) -> Services:
        app = Services(settings, clock, locking)
        where = settings.landing_storage
        assert where is not None
        tables = Tables(
            settings.landing_table_prefix,
            connection_string=where.get_secret_value(),
            raw_request_hook=requests.note,
        )
        app._parts["ledger"] = Ledger(tables, clock, hub=settings.task_hub_name, locking=locking)
        return app

    return World(azurite, services=services, **more)
