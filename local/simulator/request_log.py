"""The request log, which tests use to verify what was sent and how often."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

EXPORT = re.compile(
    r"^/(?P<version>v1\.0|beta)/reports/partners/billing"
    r"/(?P<family>usage|reconciliation|aggregatedUsage)/(?P<state>billed|unbilled)/"
    r"(?:microsoft\.graph\.partners\.billing\.)?export$"
)
OPERATION = re.compile(r"^/(?:v1\.0|beta)/reports/partners/billing/operations/([^/]+)$")
MANIFEST = re.compile(r"^/(?:v1\.0|beta)/reports/partners/billing/manifests/([^/]+)$")
INVOICE = re.compile(r"^/v1/invoices/([^/]+)$")


@dataclass
class RecordedRequest:
    """One request and the status of its response.

    The names in `headers` are in lower case. `headers` contains no credentials; `authorized`
    specifies whether the request contained one. `status` is None if the connection was dropped.
    `fault` specifies whether a fault rule applied.
    """

    method: str
    path: str
    query: str
    body: str
    at: datetime
    clock: datetime  # time of the simulator's clock
    headers: dict[str, str]
    authorized: bool
    step: str  # start, poll, manifest, invoices, invoice, blob, other
    dataset: str | None
    operation_id: str | None = None
    request_id: str = ""
    status: int | None = None
    fault: bool = False

    @property
    def json(self) -> Any:
        """The parsed body."""
        return json.loads(self.body)


@dataclass
class RequestLog:
    """All requests in the order of arrival."""

    records: list[RecordedRequest] = field(default_factory=list)

    def of(
        self, step: str | None = None, dataset: str | None = None
    ) -> tuple[RecordedRequest, ...]:
        """Return the requests for a step and a dataset; None matches all."""
        return tuple(
            record
            for record in tuple(self.records)
            if step in (None, record.step) and dataset in (None, record.dataset)
        )


def step_of(method: str, path: str) -> tuple[str, str | None, str | None]:
    """Return the step of a request, its dataset if the path contains it, and the ID in the path."""
    if (export := EXPORT.match(path)) and method == "POST":
        return "start", f"{export['state']}_{export['family']}", None
    if operation := OPERATION.match(path):
        return "poll", None, operation[1]
    if manifest := MANIFEST.match(path):
        return "manifest", None, manifest[1]
    if path == "/v1/invoices":
        return "invoices", None, None
    if invoice := INVOICE.match(path):
        return "invoice", None, invoice[1]
    return "other", None, None


def without_credentials(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with names in lower case, without credentials."""
    return {
        name.lower(): value
        for name, value in headers.items()
        if name.lower() not in ("authorization", "cookie")
    }
