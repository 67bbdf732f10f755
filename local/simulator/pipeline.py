"""The pipeline for all requests to Graph and Partner Center: log, fault rules and request IDs."""

import asyncio
import traceback
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import cast

from aiohttp import web

from local.simulator.faults import Faults
from local.simulator.graph import Graph
from local.simulator.operations import Operations
from local.simulator.partner_center import PartnerCenter
from local.simulator.request_log import RecordedRequest, RequestLog, step_of, without_credentials
from local.simulator.responses import (
    ConnectionDroppedError,
    apply_fault,
    drop_connection,
    fault_response,
    graph_error,
    partner_center_error,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RequestPipeline:
    """Handles all requests to Graph and Partner Center.

    `crashes` receives the tracebacks of internal errors.
    """

    def __init__(
        self,
        graph: Graph,
        partner_center: PartnerCenter,
        operations: Operations,
        faults: Callable[[], Faults],
        log: RequestLog,
        now: Callable[[], datetime],
        crashes: list[str],
    ) -> None:
        self._graph, self._partner_center, self._operations = graph, partner_center, operations
        self._faults, self._log, self._now, self._crashes = faults, log, now, crashes

    def app(self) -> web.Application:
        """Return the HTTP application."""
        app = web.Application(middlewares=[self._handle])
        self._graph.add_routes(app)
        self._partner_center.add_routes(app)
        return app

    @web.middleware
    async def _handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        record = await self._record(request)
        try:
            response = await self._respond(request, handler, record)
        except ConnectionDroppedError:
            return await drop_connection(request)
        record.status = response.status
        response.headers["request-id"] = record.request_id
        response.headers["client-request-id"] = request.headers.get(
            "client-request-id", record.request_id
        )
        # A fault rule can set another date, for a service whose clock differs.
        response.headers.setdefault("Date", format_datetime(self._now(), usegmt=True))
        return response

    async def _record(self, request: web.Request) -> RecordedRequest:
        step, dataset, operation_id = step_of(request.method, request.path)
        operation = next(
            (
                each
                for each in self._operations.all()
                if step == "poll" and each.operation_id == operation_id
            ),
            None,
        )
        body = (await request.read()).decode("utf-8", "replace")
        record = RecordedRequest(
            request.method,
            request.path,
            request.query_string,
            body,
            datetime.now(UTC),
            self._now(),
            without_credentials(request.headers),
            "Authorization" in request.headers,
            step,
            operation.dataset if operation else dataset,
            operation_id if step == "poll" else None,
            str(uuid.uuid4()),
        )
        self._log.records.append(record)
        return record

    async def _respond(
        self, request: web.Request, handler: Handler, record: RecordedRequest
    ) -> web.StreamResponse:
        fault = self._faults().find_response(
            record.step, record.dataset, record.method, record.path
        )
        record.fault = fault is not None
        if fault:
            await asyncio.sleep(fault.delay)
            if fault.replaces and fault.when == "before":
                return fault_response(fault, record.step, record.request_id)
        response = await self._real_response(request, handler)
        if fault and fault.replaces:
            return fault_response(fault, record.step, record.request_id)
        if fault and isinstance(response, web.Response):
            response = apply_fault(response, fault)
            if fault.drop_after is not None:
                return await self._drop_within(request, response, fault.drop_after)
        return response

    async def _real_response(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        is_partner_center = request.path.startswith("/v1/")
        service = self._partner_center if is_partner_center else self._graph
        try:
            return service.check_access(request) or await handler(request)
        except web.HTTPException as error:
            return (
                partner_center_error(error.status, error.reason)
                if is_partner_center
                else graph_error(error.status)
            )
        except Exception:  # an internal error of the simulator; `serving` raises it at the end
            self._crashes.append(traceback.format_exc())
            return graph_error(500)

    async def _drop_within(
        self, request: web.Request, response: web.Response, after: int
    ) -> web.StreamResponse:
        body = cast(bytes, response.body)
        partial = web.StreamResponse(status=response.status, headers=response.headers)
        partial.content_length = len(body)
        await partial.prepare(request)
        await partial.write(body[:after])
        raise ConnectionDroppedError
