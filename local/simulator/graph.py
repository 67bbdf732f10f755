"""The partner billing API of Microsoft Graph over HTTP: exports, operations and manifests."""

import asyncio
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from local.simulator.behaviour import Behaviour
from local.simulator.data_versions import DataVersion
from local.simulator.export_requests import ExportRequestHandler, RequestRefusedError
from local.simulator.manifests import Manifest, container_of, graph_time
from local.simulator.operations import NO_DATA, Operation, Operations, State
from local.simulator.publishing import Publisher
from local.simulator.request_log import EXPORT
from local.simulator.responses import JSON, graph_error, graph_json, retry_after

METADATA = "https://graph.microsoft.com/v1.0/$metadata"
TYPES = {
    "notStarted": "runningOperation",
    "running": "runningOperation",
    "succeeded": "exportSuccessOperation",
    "failed": "failedOperation",
}


class Graph:
    """The handlers for the Graph routes."""

    def __init__(
        self,
        exports: ExportRequestHandler,
        operations: Operations,
        publisher: Publisher,
        behaviour: Callable[[], Behaviour],
        now: Callable[[], datetime],
    ) -> None:
        self._exports, self._operations, self._publisher = exports, operations, publisher
        self._behaviour, self._now = behaviour, now
        self._seen_tokens = 0
        self._requests = 0

    def add_routes(self, app: web.Application) -> None:
        """Register the handlers."""
        base = "/{version:v1\\.0|beta}/reports/partners/billing"
        app.router.add_post(base + "/{family}/{state}/{action}", self.start)
        app.router.add_get(base + "/operations/{id}", self.poll)
        app.router.add_get(base + "/manifests/{id}", self.manifest)
        app.router.add_get(base + "/operations", self.operations)
        app.router.add_get(base + "/manifests", self.manifests)

    def check_access(self, request: web.Request) -> web.Response | None:
        """Return an error for throttling, a missing token or a missing permission."""
        behaviour, self._requests = self._behaviour(), self._requests + 1
        if behaviour.throttle_every and self._requests % behaviour.throttle_every == 0:
            wait = retry_after(
                behaviour.throttle_retry_after, behaviour.retry_after_seconds, self._now()
            )
            return graph_error(429, headers=wait)
        token = request.headers.get("Authorization", "")
        if behaviour.authorization != "ignored" and not token.startswith("Bearer "):
            return graph_error(401, message="Access token is empty.")
        if behaviour.authorization == "claims_challenge" and self._seen_tokens == 0:
            self._seen_tokens += 1
            challenge = (
                'Bearer realm="", error="insufficient_claims", '
                'claims="eyJhY2Nlc3NfdG9rZW4iOnt9fQ=="'
            )
            return graph_error(401, headers={"WWW-Authenticate": challenge})
        if behaviour.permission == "denied":
            return graph_error(403, message="Insufficient privileges to complete the operation.")
        return None

    async def start(self, request: web.Request) -> web.Response:
        """Handle POST .../export: start an operation."""
        behaviour, now = self._behaviour(), self._now()
        export = EXPORT.match(request.path)
        if not export:
            return graph_error(404)
        if request.content_type != "application/json":
            return graph_error(415)
        dataset = f"{export['state']}_{export['family']}"
        if export["family"] == "aggregatedUsage":
            return self._start_aggregated(request, export["version"], dataset, behaviour, now)
        try:
            body = json.loads(await request.read())
        except ValueError:
            return graph_error(400, message="Unable to read JSON request payload.")
        if (
            behaviour.concurrent_operations
            and self._operations.count_running(now, behaviour) >= behaviour.concurrent_operations
        ):
            return graph_error(
                429, headers=retry_after("seconds", behaviour.retry_after_seconds, now)
            )
        try:
            accepted = await asyncio.to_thread(self._exports.accept, dataset, body, behaviour, now)
        except RequestRefusedError as error:
            return graph_error(error.status, error.code, str(error))
        operation = None
        if accepted.key and behaviour.repeated_start == "same_operation":
            operation = self._operations.find_by_key(accepted.key, now, behaviour)
        if operation is None:
            ready_at = now + timedelta(seconds=behaviour.ready_after_seconds)
            operation = self._operations.start(
                dataset,
                now,
                key=accepted.key,
                version=accepted.version,
                failure=accepted.failure,
                ready_at=max(ready_at, accepted.ready_at or ready_at),
            )
            if operation.version is not None and operation.failure is None:
                self._publisher.start_write(operation.version)
        return self._accepted(request, operation, behaviour, now)

    def _start_aggregated(
        self,
        request: web.Request,
        version: str,
        dataset: str,
        behaviour: Behaviour,
        now: datetime,
    ) -> web.Response:
        if version != "beta" or not dataset.startswith("billed"):
            return graph_error(404)
        if behaviour.aggregated_usage == "not_implemented":
            return graph_error(501)
        return self._accepted(
            request, self._operations.start(dataset, now, failure=NO_DATA), behaviour, now
        )

    def _accepted(
        self, request: web.Request, operation: Operation, behaviour: Behaviour, now: datetime
    ) -> web.Response:
        headers = (
            {}
            if behaviour.start_retry_after == "absent"
            else retry_after("seconds", behaviour.retry_after_seconds, now)
        )
        if behaviour.location != "absent":
            headers["Location"] = f"{self._base(request)}/operations/{operation.operation_id}"
        if behaviour.start_body == "json":
            return graph_json(202, self._document(operation, "notStarted", behaviour, now), headers)
        if behaviour.start_body == "empty_json":
            headers["Content-Type"] = JSON
        return web.Response(status=202, headers=headers)

    def _base(self, request: web.Request) -> str:
        origin = (
            f"http://{request.host}"
            if self._behaviour().location != "foreign"
            else "https://graph.example.org"
        )
        return f"{origin}/{request.match_info['version']}/reports/partners/billing"

    async def poll(self, request: web.Request) -> web.Response:
        """Handle GET .../operations/{id}."""
        behaviour, now = self._behaviour(), self._now()
        operation = self._operations.get(request.match_info["id"], now, behaviour)
        if operation is None:
            return graph_error(int(behaviour.gone))
        operation.reads += 1
        state = operation.state(now, behaviour)
        if state in ("notStarted", "running"):
            seconds = behaviour.retry_after_seconds
            if behaviour.ready_after_seconds and operation.ready_at:
                seconds = max(0.0, min(seconds, (operation.ready_at - now).total_seconds()))
            return graph_json(
                200,
                self._document(operation, state, behaviour, now),
                retry_after(behaviour.retry_after, seconds, now),
            )
        document = self._document(operation, state, behaviour, now)
        if state == "succeeded":
            await self._add_manifest(request, operation, document, behaviour)
        return graph_json(200, document)

    def _document(
        self, operation: Operation, state: State, behaviour: Behaviour, now: datetime
    ) -> dict[str, Any]:
        created = operation.created.strftime("%Y-%m-%dT%H:%M:%S") + (
            "" if behaviour.created_time == "naive" else "Z"
        )
        document: dict[str, Any] = {
            "@odata.context": f"{METADATA}#reports/partners/billing/operations/$entity"
        }
        if behaviour.odata_type == "present":
            document["@odata.type"] = f"#microsoft.graph.partners.billing.{TYPES[state]}"
        document |= {
            "id": operation.operation_id,
            "createdDateTime": created,
            "lastActionDateTime": now.strftime("%Y-%m-%dT%H:%M:%S.%f") + "7Z",
        }  # seven digits, as Microsoft returns
        status = {"running": behaviour.status_running, "succeeded": behaviour.status_success}.get(
            state, state
        )
        if status != "absent":
            document["status"] = status
        if state == "failed":
            code, message = operation.current_failure(behaviour) or NO_DATA
            document["error"] = {
                "message": message,
                "code": int(code) if behaviour.failure_code == "number" else code,
            }
        return document

    async def _add_manifest(
        self,
        request: web.Request,
        operation: Operation,
        document: dict[str, Any],
        behaviour: Behaviour,
    ) -> None:
        version = self._current_version(operation, behaviour)
        link = f"{self._base(request)}/manifests/{version.manifest_id}"
        if behaviour.manifest in ("link", "link_and_inline"):
            document["resourceLocation@odata.navigationLink"] = link
        if behaviour.manifest == "string":
            document["resourceLocation"] = link
        if behaviour.manifest in ("inline", "link_and_inline"):
            document["resourceLocation"] = await self._create_manifest(
                operation, version, behaviour
            )

    def _current_version(self, operation: Operation, behaviour: Behaviour) -> DataVersion:
        if operation.version is None:
            raise LookupError("the operation has neither data nor a failure")
        if (
            behaviour.operation_data == "newest"
            and operation.key is not None
            and operation.version.blobs
        ):
            return self._exports.exports.version(operation.key)
        return operation.version

    async def _create_manifest(
        self, operation: Operation, version: DataVersion, behaviour: Behaviour
    ) -> Manifest:
        fixed = behaviour.sas_renewal == "fixed"
        manifest = await self._publisher.manifest(
            version, operation.sas.get(container_of(version)) if fixed else None
        )
        operation.sas.setdefault(container_of(version), manifest["sasToken"])
        return manifest

    async def manifest(self, request: web.Request) -> web.Response:
        """Handle GET .../manifests/{id}."""
        behaviour, now = self._behaviour(), self._now()
        for operation in reversed(self._operations.all()):
            if operation.version is None or operation.has_expired(now, behaviour):
                continue
            version = self._current_version(operation, behaviour)
            if version.manifest_id == request.match_info["id"]:
                return graph_json(200, await self._create_manifest(operation, version, behaviour))
        return graph_error(int(behaviour.gone))

    async def operations(self, request: web.Request) -> web.Response:
        """Handle GET .../operations."""
        behaviour, now = self._behaviour(), self._now()
        if behaviour.collections == "not_found":
            return graph_error(404)
        operations = [
            operation
            for operation in self._operations.all()
            if not operation.has_expired(now, behaviour)
        ]
        return graph_json(
            200,
            {
                "value": [
                    self._document(each, each.state(now, behaviour), behaviour, now)
                    for each in operations
                ]
            },
        )

    async def manifests(self, request: web.Request) -> web.Response:
        """Handle GET .../manifests."""
        if self._behaviour().collections == "not_found":
            return graph_error(404)
        versions = {
            each.version.manifest_id: each.version
            for each in self._operations.all()
            if each.version
        }
        return graph_json(
            200,
            {
                "value": [
                    {
                        "id": version.manifest_id,
                        "eTag": version.etag,
                        "createdDateTime": graph_time(version.created),
                    }
                    for version in versions.values()
                ]
            },
        )
