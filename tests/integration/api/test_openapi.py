"""The OpenAPI document describes what the app accepts and returns; no input causes a 500 error."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import hypothesis
import jsonschema_rs
import pytest
import schemathesis

from local.simulator.behaviour import Behaviour
from tests.support.app_environment import AppEnvironment
from triggers.http_openapi import get_document, list_endpoints
from triggers.validation import get_field_names

API = schemathesis.openapi.from_dict(get_document())
SCHEMAS: dict[str, Any] = get_document()["components"]["schemas"]
CHECK_NAMES = (
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
CHECKS = [
    schemathesis.checks.not_a_server_error,
    *(check for check in schemathesis.checks.CHECKS.get_all() if check.__name__ in CHECK_NAMES),
]
MAX_EXAMPLES = 25
MAX_SLOW_EXAMPLES = 6
SLOW_OPERATIONS = ("preflight", "get_status", "start_cycle")


def list_operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the path, method and operation of every operation in the document."""
    for path, methods in get_document()["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def assert_valid(name: str, value: Any) -> None:
    """Assert that a value conforms to a component schema."""
    validator = jsonschema_rs.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": {"schemas": SCHEMAS}},
        validate_formats=True,
    )
    assert [error.message for error in validator.iter_errors(value)] == []


def assert_documented(name: str, document: dict[str, Any]) -> None:
    """Assert that a component schema contains every field of a document, at every depth."""

    def check(schema: dict[str, Any], value: Any, path: str) -> None:
        if "$ref" in schema:
            schema = SCHEMAS[schema["$ref"].rsplit("/", 1)[-1]]
        for option in schema.get("oneOf", []):
            if value is not None and option.get("type") != "null":
                check(option, value, path)
        if isinstance(value, dict) and "properties" in schema:
            undocumented = sorted(set(value) - set(schema["properties"]))
            assert not undocumented, f"{path}: {undocumented}"
            for field, inner in value.items():
                check(schema["properties"][field], inner, f"{path}.{field}")
        if isinstance(value, list) and "items" in schema:
            for inner in value:
                check(schema["items"], inner, f"{path}[]")

    check(SCHEMAS[name], document, name)


def test_document_contains_every_parameter() -> None:
    endpoints = list_endpoints()
    for path, _, operation in list_operations():
        parameters = operation.get("parameters", [])
        in_path = {item["name"] for item in parameters if item["in"] == "path"}
        in_query = [item["name"] for item in parameters if item["in"] == "query"]
        assert in_path == {part[1:-1] for part in path.split("/") if part.startswith("{")}
        query = endpoints[operation["operationId"]].query()
        assert in_query == (get_field_names(query) if query else [])


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_component_schema_is_valid_and_used(name: str) -> None:
    jsonschema_rs.meta.validate(
        {**SCHEMAS[name], "$schema": "https://json-schema.org/draft/2020-12/schema"}
    )
    assert f'"#/components/schemas/{name}"' in json.dumps(get_document())


def test_example_requests_start_a_run(env: AppEnvironment) -> None:
    operation = get_document()["paths"]["/runs"]["post"]
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    for example in examples.values():
        assert_valid("StartRunRequest", example["value"])
        assert "request_invalid" not in str(env.post("/api/runs", example["value"]))


def test_responses_conform_to_the_document(env: AppEnvironment) -> None:
    run = env.land("unbilled_usage")
    run_id = run["run_id"]
    failed = env.land("billed_usage", invoice_id="G099999999")
    cycle = env.post("/api/cycles")
    started = env.post(f"/api/runs/{run_id}/retry")
    backfill = env.post("/api/backfills", {"from": "2026-11", "to": "2026-11"})
    responses = {
        "RunResponse": [run, failed],
        "StartRunResponse": [started],
        "RunListResponse": [env.get("/api/runs?limit=1")],
        "BlobListResponse": [env.get(f"/api/runs/{run_id}/blobs")],
        "CatalogueResponse": [env.get("/api/catalogue")],
        "StatusResponse": [env.get("/api/status")],
        "CycleResponse": [cycle],
        "BackfillResponse": [backfill],
        "GapsResponse": [env.get("/api/gaps")],
        "PreflightResponse": [env.get("/api/preflight")],
        "CancelRunResponse": [env.post(f"/api/runs/{started['run_id']}/cancel")],
        "ProblemResponse": [
            env.post("/api/runs", {"a": 1}, status=400),
            env.get("/api/runs/x", status=404),
            env.post(f"/api/runs/{run_id}/cancel", status=409),
        ],
    }
    for name, documents in responses.items():
        for document in documents:
            assert_valid(name, document)
            assert_documented(name, document)
    assert env.get("/api/openapi.json") == get_document()
    env.host.wait(cycle["cycle_id"])
    assert_valid("CycleResponse", env.get(f"/api/cycles/{cycle['cycle_id']}"))
    env.host.wait(backfill["backfill_id"])
    assert_valid("BackfillResponse", env.get(f"/api/backfills/{backfill['backfill_id']}"))


def test_assert_documented_undocumented_field_fails() -> None:
    with pytest.raises(AssertionError, match=r"RunListResponse\.runs"):
        assert_documented("RunListResponse", {"runs": [{"colour": "red"}]})


@pytest.mark.parametrize(
    "operation_id", [operation["operationId"] for _, _, operation in list_operations()]
)
def test_operation_any_input_has_a_documented_response(
    env: AppEnvironment, operation_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Send requests that conform to the document and requests that do not."""
    caplog.set_level(logging.ERROR)
    env.simulator.behaviour = Behaviour(permission="denied")  # every started run ends at once
    operation = next(
        item.ok()
        for item in API.get_all_operations()
        if item.ok().definition.raw["operationId"] == operation_id
    )

    def send(case: Any) -> None:
        response = case.call(base_url=f"{env.host.base_url}/api")
        is_problem = "application/problem+json" in response.headers["content-type"]
        if response.status_code != 404 or is_problem:  # other 404 responses come from the platform
            case.validate_response(response, checks=CHECKS)

    for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
        settings = hypothesis.settings(
            max_examples=MAX_SLOW_EXAMPLES if operation_id in SLOW_OPERATIONS else MAX_EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        )
        strategy = operation.as_strategy(generation_mode=mode)
        try:
            settings(hypothesis.given(case=strategy)(send))()
        except hypothesis.errors.Unsatisfiable:
            assert mode == schemathesis.GenerationMode.NEGATIVE  # the operation has no input
    assert not [record for record in caplog.records if "failed:" in record.getMessage()]
