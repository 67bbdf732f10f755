"""The document is what the app does: its routes, its fields, its examples, its answers; and no input makes a 500."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import hypothesis
import jsonschema_rs
import pytest
import schemathesis

from local.simulator.behaviour import Behaviour
from tests.support.world import World
from triggers import queries, requests
from triggers.openapi import document, text
from triggers.schemas import SCHEMAS

API = schemathesis.openapi.from_dict(document())
CHECKS = [
    schemathesis.checks.not_a_server_error,
    *(
        check
        for check in schemathesis.checks.CHECKS.get_all()
        if check.__name__
        in ("status_code_conformance", "content_type_conformance", "response_schema_conformance")
    ),
]
EXAMPLES, FEW = 25, 6  # of each operation; few of those that take nothing and cost much


def routes(world: World) -> Iterator[tuple[str, str, str]]:
    """(path, method, function) of every HTTP function."""
    for function in world.host.functions.of("httpTrigger"):
        assert function.route is not None
        for method in function.methods:
            yield function.route.template.removeprefix("api"), method.lower(), function.name


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def schema_of(name: str) -> Any:
    """A validator for one of the document's schemas."""
    return jsonschema_rs.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": {"schemas": SCHEMAS}},
        validate_formats=True,
    )


def check(name: str, answer: Any) -> None:
    assert [error.message for error in schema_of(name).iter_errors(answer)] == []


def test_every_route_is_documented_and_no_other(world: World) -> None:
    said = {(path, method, operation["operationId"]) for path, method, operation in operations()}
    assert said == set(routes(world))


def test_every_parameter_is_documented_and_no_other() -> None:
    known = {
        "list_runs": queries.RUNS_QUERY,
        "list_run_blobs": queries.BLOBS_QUERY,
        "get_catalogue": queries.CATALOGUE_QUERY,
    }
    for path, _, operation in operations():
        parameters = operation.get("parameters", [])
        assert {one["name"] for one in parameters if one["in"] == "path"} == {
            part[1:-1] for part in path.split("/") if part.startswith("{")
        }
        if operation["operationId"] in known:
            assert [one["name"] for one in parameters if one["in"] == "query"] == list(
                known[operation["operationId"]]
            )
    assert set(SCHEMAS["RunOrder"]["properties"]) == set(requests.RUN_FIELDS)


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_schema_is_one_and_is_used(name: str) -> None:
    jsonschema_rs.meta.validate(
        {**SCHEMAS[name], "$schema": "https://json-schema.org/draft/2020-12/schema"}
    )
    assert f'"#/components/schemas/{name}"' in json.dumps(document())


def test_every_example_is_an_order_that_starts(world: World) -> None:
    examples = document()["paths"]["/runs"]["post"]["requestBody"]["content"]["application/json"][
        "examples"
    ]
    for example in examples.values():
        check("RunOrder", example["value"])
        assert "request_invalid" not in str(world.post("/api/runs", example["value"]))


def test_real_answers_are_as_the_document_says(world: World) -> None:
    """Of every route once, with exactly the documented members: a new one is documented or fails here."""
    run = world.land("unbilled_usage")
    run_id = run["run_id"]
    failed = world.land("billed_usage", invoice_id="G099999999")
    cycle = world.post("/api/cycles")
    started = world.post(f"/api/runs/{run_id}/retry")
    answers = {
        "Run": [run, failed],
        "StartedRun": [started],
        "RunList": [world.get("/api/runs?limit=1")],
        "BlobList": [world.get(f"/api/runs/{run_id}/blobs")],
        "Catalogue": [world.get("/api/catalogue")],
        "Status": [world.get("/api/status")],
        "Cycle": [cycle],
        "Preflight": [world.get("/api/preflight")],
        "CancelledRun": [world.post(f"/api/runs/{started['run_id']}/cancel")],
        "Problem": [
            world.post("/api/runs", {"a": 1}, status=400),
            world.get("/api/runs/x", status=404),
            world.post(f"/api/runs/{run_id}/cancel", status=409),
        ],
    }
    for name, bodies in answers.items():
        for body in bodies:
            check(name, body)
            assert_known(name, body)
    assert world.get("/api/openapi.json") == json.loads(text())
    world.host.wait(cycle["cycle_id"])
    check("Cycle", world.get(f"/api/cycles/{cycle['cycle_id']}"))


def assert_known(name: str, body: dict[str, Any]) -> None:
    """Every member of the answer is in the schema, at every depth that has properties."""

    def look(schema: dict[str, Any], value: Any, where: str) -> None:
        if "$ref" in schema:
            schema = SCHEMAS[schema["$ref"].rsplit("/", 1)[-1]]
        for choice in schema.get("oneOf", []):
            if value is not None and choice.get("type") != "null":
                look(choice, value, where)
        if isinstance(value, dict) and "properties" in schema:
            assert set(value) <= set(schema["properties"]), (
                f"{where}: {sorted(set(value) - set(schema['properties']))}"
            )
            for member, inner in value.items():
                look(schema["properties"][member], inner, f"{where}.{member}")
        if isinstance(value, list) and "items" in schema:
            for inner in value:
                look(schema["items"], inner, f"{where}[]")

    look(SCHEMAS[name], body, name)


def test_the_check_finds_a_member_that_is_not_documented() -> None:
    with pytest.raises(AssertionError, match=r"RunList\.runs"):
        assert_known("RunList", {"runs": [{"colour": "red"}]})


@pytest.mark.parametrize(
    "operation_id", [operation["operationId"] for _, _, operation in operations()]
)
def test_any_input_has_a_documented_answer(
    world: World, operation_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What the document allows and what it does not, over a real connection."""
    caplog.set_level(logging.ERROR)
    world.simulator.behaviour = Behaviour(permission="denied")  # what starts ends at once
    examples = FEW if operation_id in ("preflight", "get_status", "start_cycle") else EXAMPLES
    operation = next(
        found.ok()
        for found in API.get_all_operations()
        if found.ok().definition.raw["operationId"] == operation_id
    )
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]

    def send(case: Any) -> None:
        answer = case.call(base_url=f"{world.host.base_url}/api")
        if (
            answer.status_code != 404
            or "application/problem+json" in answer.headers["content-type"]
        ):  # else the platform's
            case.validate_response(answer, checks=CHECKS)

    for mode in modes:
        strategy = operation.as_strategy(generation_mode=mode)
        limited = hypothesis.settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        )
        try:
            limited(hypothesis.given(case=strategy)(send))()
        except hypothesis.errors.Unsatisfiable:
            assert mode == schemathesis.GenerationMode.NEGATIVE  # nothing about it can be wrong
    assert not [record for record in caplog.records if "failed:" in record.getMessage()]
