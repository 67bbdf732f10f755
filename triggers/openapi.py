"""Generates the OpenAPI 3.1 document from the declarations of the endpoints and their models."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from shared.ledger.keys import RUN_ID
from shared.telemetry import APP_VERSION
from triggers.endpoints import Endpoint
from triggers.models.problem import ProblemResponse

Json = dict[str, Any]
JSON_TYPE = "application/json"


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


@dataclass(frozen=True)
class _Schemas:
    """The schema of each model and mode, and the component schemas by name."""

    by_model: Mapping[Any, Json]
    components: Json


def _generate_schemas(endpoints: Iterable[Endpoint]) -> _Schemas:
    models: dict[tuple[type[BaseModel], Any], None] = {(ProblemResponse, "serialization"): None}
    for endpoint in endpoints:
        for request in (endpoint.body(), endpoint.query()):
            if request:
                models[request, "validation"] = None
        for response in endpoint.responses().values():
            if response:
                models[response, "serialization"] = None
    by_model, definitions = models_json_schema(
        list(models),
        ref_template="#/components/schemas/{model}",
        schema_generator=_SchemaGenerator,
    )
    return _Schemas(by_model, definitions["$defs"])


def _get_parameters(endpoint: Endpoint, schemas: _Schemas) -> Iterator[Json]:
    for part in endpoint.route.split("/"):
        if part.startswith("{"):
            yield {
                "name": part[1:-1],
                "in": "path",
                "required": True,
                "schema": ID_SCHEMA,
            }
    if query := endpoint.query():
        schema = schemas.components[query.__name__]
        for name, field in schema["properties"].items():
            field = dict(field)
            description = field.pop("description")
            if isinstance(field.get("type"), list):  # a parameter is absent, never null
                field["type"] = field["type"][0]
                field["enum"] = [value for value in field.get("enum", []) if value is not None]
                if not field["enum"]:
                    del field["enum"]
            yield {"name": name, "in": "query", "description": description, "schema": field}


def _get_headers(endpoint: Endpoint, status: int) -> Json:
    headers: Json = {}
    if status == 202:
        headers["Location"] = LOCATION
    if status == 202 or (endpoint.is_cacheable and endpoint.responses()[status]):
        headers["Retry-After"] = RETRY_AFTER
    if status == 200 and endpoint.is_cacheable:
        headers["ETag"] = ETAG
    return headers


def _get_responses(endpoint: Endpoint, schemas: _Schemas) -> Json:
    responses: Json = {}
    for status, model in endpoint.responses().items():
        response: Json = {"description": DESCRIPTIONS[status]}
        if model:
            response["content"] = {JSON_TYPE: {"schema": schemas.by_model[model, "serialization"]}}
        elif not endpoint.is_anonymous:
            response["content"] = {JSON_TYPE: {"schema": {"type": "object"}}}
        if headers := _get_headers(endpoint, status):
            response["headers"] = headers
        responses[str(status)] = response
    if endpoint.is_cacheable:
        responses["304"] = {"description": DESCRIPTIONS[304]}
    problem = schemas.by_model[ProblemResponse, "serialization"]
    for status in endpoint.problems:
        responses[str(status)] = {
            "description": DESCRIPTIONS[status],
            "content": {"application/problem+json": {"schema": problem}},
            **({"headers": {"Retry-After": RETRY_AFTER}} if status == 503 else {}),
        }
    return responses


def _get_operation(operation_id: str, endpoint: Endpoint, schemas: _Schemas) -> Json:
    operation: Json = {"operationId": operation_id, "summary": endpoint.summary}
    if parameters := list(_get_parameters(endpoint, schemas)):
        operation["parameters"] = parameters
    if body := endpoint.body():
        content: Json = {"schema": schemas.by_model[body, "validation"]}
        if endpoint.examples:
            content["examples"] = dict(endpoint.examples)
        is_required = bool(schemas.components[body.__name__].get("required"))
        operation["requestBody"] = {"required": is_required, "content": {JSON_TYPE: content}}
    operation["responses"] = _get_responses(endpoint, schemas)
    if endpoint.is_anonymous:
        operation["security"] = []
    return operation


def build_document(endpoints: Mapping[str, Endpoint]) -> Json:
    """Return the document for endpoints by operation ID, as a JSON value."""
    schemas = _generate_schemas(endpoints.values())
    paths: Json = {}
    for operation_id, endpoint in endpoints.items():
        operations = paths.setdefault(f"/{endpoint.route}", {})
        operations[endpoint.method.lower()] = _get_operation(operation_id, endpoint, schemas)
    queries = {query.__name__ for endpoint in endpoints.values() if (query := endpoint.query())}
    components = {
        name: schema for name, schema in schemas.components.items() if name not in queries
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
            "schemas": components,
            "securitySchemes": {
                "function_key": {"type": "apiKey", "in": "header", "name": "x-functions-key"}
            },
        },
    }
