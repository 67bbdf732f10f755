"""The OpenAPI 3.1 document, generated from the models and a table of the routes.

`make docs` writes it to docs/openapi.json.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from shared.ledger.keys import RUN_ID
from shared.telemetry import APP_VERSION
from triggers.models.backfills import (
    BackfillResponse,
    GapsQuery,
    GapsResponse,
    StartBackfillRequest,
)
from triggers.models.base import EmptyRequest, RequestModel
from triggers.models.catalogue import CatalogueQuery, CatalogueResponse
from triggers.models.cycles import CycleDryRunResponse, CycleResponse, StartCycleRequest
from triggers.models.preflight import PreflightResponse
from triggers.models.problem import ProblemResponse
from triggers.models.runs import (
    BlobListQuery,
    BlobListResponse,
    CancelRunResponse,
    RetryRunRequest,
    RunListQuery,
    RunListResponse,
    RunResponse,
    StartRunRequest,
    StartRunResponse,
)
from triggers.models.status import StatusResponse

Json = dict[str, Any]
JSON_TYPE = "application/json"


@dataclass(frozen=True)
class Route:
    """One operation of the API.

    `responses` maps the status to a model, or to None for a response without a described body.
    """

    method: str
    path: str
    operation_id: str
    summary: str
    responses: dict[int, type[BaseModel] | None]
    problems: tuple[int, ...] = (400, 503)
    query: type[RequestModel] | None = None
    body: type[RequestModel] | None = None
    is_cacheable: bool = False
    is_anonymous: bool = False


ROUTES = (
    Route(
        "post",
        "/runs",
        "start_run",
        "Start a run. Returns the live run if the export key has one.",
        {202: StartRunResponse},
        (400, 413, 503),
        body=StartRunRequest,
    ),
    Route(
        "get",
        "/runs",
        "list_runs",
        "List the runs that started in a month, the newest first.",
        {200: RunListResponse},
        query=RunListQuery,
    ),
    Route(
        "get",
        "/runs/{run_id}",
        "get_run",
        "Get a run.",
        {200: RunResponse},
        (400, 404, 503),
        is_cacheable=True,
    ),
    Route(
        "get",
        "/runs/{run_id}/blobs",
        "list_run_blobs",
        "List the blobs of the version that a run lands.",
        {200: BlobListResponse},
        (400, 404, 503),
        query=BlobListQuery,
    ),
    Route(
        "post",
        "/runs/{run_id}/cancel",
        "cancel_run",
        "Cancel a run. Verified blobs are kept, and the export key is released immediately.",
        {202: CancelRunResponse},
        (400, 404, 409, 413, 503),
        body=EmptyRequest,
    ),
    Route(
        "post",
        "/runs/{run_id}/retry",
        "retry_run",
        "Start a new run of the same export, which copies only the missing blobs.",
        {202: StartRunResponse},
        (400, 404, 409, 413, 503),
        body=RetryRunRequest,
    ),
    Route(
        "post",
        "/cycles",
        "start_cycle",
        "Start a cycle now, or return what it would request.",
        {202: CycleResponse, 200: CycleDryRunResponse},
        (400, 413, 503),
        body=StartCycleRequest,
    ),
    Route(
        "get",
        "/cycles/{cycle_id}",
        "get_cycle",
        "Get a cycle and its runs.",
        {200: CycleResponse},
        (400, 404, 503),
        is_cacheable=True,
    ),
    Route(
        "post",
        "/backfills",
        "start_backfill",
        "Start a backfill of the months that have not landed yet.",
        {202: BackfillResponse},
        (400, 413, 503),
        body=StartBackfillRequest,
    ),
    Route(
        "get",
        "/backfills/{backfill_id}",
        "get_backfill",
        "Get a backfill and its progress.",
        {200: BackfillResponse},
        (400, 404, 503),
        is_cacheable=True,
    ),
    Route(
        "post",
        "/backfills/{backfill_id}/cancel",
        "cancel_backfill",
        "Cancel a backfill and its live runs. Data that have landed are kept.",
        {202: BackfillResponse},
        (400, 404, 409, 413, 503),
        body=EmptyRequest,
    ),
    Route(
        "get",
        "/gaps",
        "get_gaps",
        "Get the state of each dataset in each month.",
        {200: GapsResponse},
        query=GapsQuery,
    ),
    Route(
        "get",
        "/catalogue",
        "get_catalogue",
        "List the newest version of each export key.",
        {200: CatalogueResponse},
        query=CatalogueQuery,
    ),
    Route(
        "get",
        "/status",
        "get_status",
        "Get the schedule, the live runs, the newest landed data and the installed versions.",
        {200: StatusResponse},
    ),
    Route(
        "get",
        "/preflight",
        "preflight",
        "Check each permission and dependency.",
        {200: PreflightResponse},
    ),
    Route(
        "get",
        "/health",
        "health",
        "Check whether the app can reach its tables. The result is cached for a minute.",
        {200: None, 503: None},
        (),
        is_anonymous=True,
    ),
    Route(
        "get",
        "/openapi.json",
        "get_openapi",
        "Get this document.",
        {200: None},
        (400,),
        is_cacheable=True,
    ),
)

DESCRIPTIONS = {
    200: "Success.",
    202: "Accepted.",
    304: "Not modified.",
    400: "The request is invalid; `errors` lists every invalid field.",
    404: "The resource does not exist.",
    409: "The current state of the resource does not allow the operation.",
    413: "The body is too large.",
    503: "The tables or the task hub are unavailable. Retry after `Retry-After`.",
}
ID_SCHEMA = {"type": "string", "pattern": f"^{RUN_ID.pattern}$"}
RETRY_AFTER = {
    "description": "Seconds to wait before the next request.",
    "schema": {"type": "integer"},
}
LOCATION = {"description": "The URL of the resource.", "schema": {"type": "string"}}
ETAG = {"description": "Value for `If-None-Match`.", "schema": {"type": "string"}}
EXAMPLES: dict[str, Json] = {
    "start_run": {
        "billed": {"value": {"dataset": "billed_usage", "invoice_id": "G016907411"}},
        "unbilled": {
            "value": {
                "dataset": "unbilled_reconciliation",
                "billing_month": "current",
                "currency_code": "USD",
                "reason": "month end",
            }
        },
    }
}


class _SchemaGenerator(GenerateJsonSchema):
    """Generates schemas without titles and with short forms for nullable values."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: Any) -> Json:
        result = super().model_schema(schema)
        result.pop("title", None)
        for field in result.get("properties", {}).values():
            if field.pop("x-omitted", False):
                field["type"] = "string"
        return result

    def nullable_schema(self, schema: Any) -> Json:
        inner = self.generate_inner(schema["schema"])
        if "type" not in inner:
            return {"oneOf": [inner, {"type": "null"}]}
        if "enum" in inner:
            inner = {**inner, "enum": [*inner["enum"], None]}
        return {**inner, "type": [inner["type"], "null"]}

    def default_schema(self, schema: Any) -> Json:
        result = super().default_schema(schema)
        if result.get("default", "") in (None, "", []):
            result.pop("default", None)
        return result


@cache
def _generate_schemas() -> tuple[dict[Any, Json], Json]:
    """Return the schema of each model, and the component schemas."""
    models: dict[tuple[type[BaseModel], Any], None] = {(ProblemResponse, "serialization"): None}
    for route in ROUTES:
        for request in (route.body, route.query):
            if request:
                models[request, "validation"] = None
        for response in route.responses.values():
            if response:
                models[response, "serialization"] = None
    schemas, definitions = models_json_schema(
        list(models),
        ref_template="#/components/schemas/{model}",
        schema_generator=_SchemaGenerator,
    )
    return schemas, definitions["$defs"]


def _get_parameters(route: Route) -> Iterator[Json]:
    for part in route.path.split("/"):
        if part.startswith("{"):
            yield {
                "name": part[1:-1],
                "in": "path",
                "required": True,
                "schema": ID_SCHEMA,
            }
    if route.query:
        schema = _generate_schemas()[1][route.query.__name__]
        for name, field in schema["properties"].items():
            field = dict(field)
            description = field.pop("description")
            if isinstance(field.get("type"), list):  # a parameter is absent, never null
                field["type"] = field["type"][0]
                field["enum"] = [value for value in field.get("enum", []) if value is not None]
                if not field["enum"]:
                    del field["enum"]
            yield {"name": name, "in": "query", "description": description, "schema": field}


def _get_headers(route: Route, status: int) -> Json:
    headers: Json = {}
    if status == 202:
        headers["Location"] = LOCATION
    if status == 202 or (route.is_cacheable and route.responses[status]):
        headers["Retry-After"] = RETRY_AFTER
    if status == 200 and route.is_cacheable:
        headers["ETag"] = ETAG
    return headers


def _get_responses(route: Route) -> Json:
    schemas = _generate_schemas()[0]
    responses: Json = {}
    for status, model in route.responses.items():
        response: Json = {"description": DESCRIPTIONS[status]}
        if model:
            response["content"] = {JSON_TYPE: {"schema": schemas[model, "serialization"]}}
        elif not route.is_anonymous:
            response["content"] = {JSON_TYPE: {"schema": {"type": "object"}}}
        if headers := _get_headers(route, status):
            response["headers"] = headers
        responses[str(status)] = response
    if route.is_cacheable:
        responses["304"] = {"description": DESCRIPTIONS[304]}
    problem = schemas[ProblemResponse, "serialization"]
    for status in route.problems:
        responses[str(status)] = {
            "description": DESCRIPTIONS[status],
            "content": {"application/problem+json": {"schema": problem}},
            **({"headers": {"Retry-After": RETRY_AFTER}} if status == 503 else {}),
        }
    return responses


def _get_operation(route: Route) -> Json:
    operation: Json = {"operationId": route.operation_id, "summary": route.summary}
    if parameters := list(_get_parameters(route)):
        operation["parameters"] = parameters
    if route.body:
        schemas, definitions = _generate_schemas()
        content: Json = {"schema": schemas[route.body, "validation"]}
        if examples := EXAMPLES.get(route.operation_id):
            content["examples"] = examples
        is_required = bool(definitions[route.body.__name__].get("required"))
        operation["requestBody"] = {"required": is_required, "content": {JSON_TYPE: content}}
    operation["responses"] = _get_responses(route)
    if route.is_anonymous:
        operation["security"] = []
    return operation


@cache
def get_document() -> Json:
    """Return the document as a JSON value."""
    paths: Json = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method] = _get_operation(route)
    queries = {route.query.__name__ for route in ROUTES if route.query}
    schemas = {
        name: schema for name, schema in _generate_schemas()[1].items() if name not in queries
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Partner Billing Export",
            "version": APP_VERSION,
            "description": "Copies Microsoft's CSP billing exports to the partner's own storage "
            "account. Times are in UTC and sizes in bytes. Every problem has a stable `code` and "
            "a `remedy`. Unknown fields and query parameters are errors.",
        },
        "servers": [{"url": "/api"}],
        "security": [{"function_key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "function_key": {"type": "apiKey", "in": "header", "name": "x-functions-key"}
            },
        },
    }


def generate_json() -> str:
    """Return the document as formatted text."""
    return json.dumps(get_document(), indent=1, ensure_ascii=False) + "\n"
