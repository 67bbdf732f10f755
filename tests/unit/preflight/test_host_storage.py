"""The app's own storage: how the way in is read, and what its services' answers mean."""

from typing import Any

import httpx
import pytest

from shared.preflight.host_storage import parse_storage_access
from shared.preflight.preflight import CHECKS
from tests.unit.preflight.contexts import examined, patient, red, with_environment

ASKED = tuple(check for check in CHECKS if check.name in ("storage_token", "host_storage"))
REFUSED = httpx.Response(403, headers={"x-ms-error-code": "AuthorizationPermissionMismatch"})


@pytest.mark.parametrize(
    ("environment", "urls"),
    [
        (
            {"AzureWebJobsStorage__accountName": "mine"},
            {
                "blob": "https://mine.blob.core.windows.net",
                "queue": "https://mine.queue.core.windows.net",
                "table": "https://mine.table.core.windows.net",
            },
        ),
        (
            {"AzureWebJobsStorage__blobServiceUri": "https://b.example/"},
            {"blob": "https://b.example"},
        ),
        (
            {
                "AzureWebJobsStorage": "AccountName=mine;AccountKey=a2V5==;EndpointSuffix=core.example"
            },
            {
                "blob": "https://mine.blob.core.example",
                "queue": "https://mine.queue.core.example",
                "table": "https://mine.table.core.example",
            },
        ),
        (
            {
                "AzureWebJobsStorage": "BlobEndpoint=https://b/;QueueEndpoint=https://q;TableEndpoint=https://t;"
                "SharedAccessSignature=?sv=1&sig=abc"
            },
            {"blob": "https://b", "queue": "https://q", "table": "https://t"},
        ),
    ],
    ids=lambda value: next(iter(value)),
)
def test_the_way_in(environment: dict[str, str], urls: dict[str, str]) -> None:
    way = parse_storage_access(environment)
    assert way is not None and way.urls == urls
    assert sum(map(bool, (way.key, way.signature, way.by_identity))) == 1
    assert "a2V5" not in repr(way) and "sig=" not in repr(way)


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "AccountName=a", "UseDevelopmentStorage=true", "SharedAccessSignature=sig=1"],
)
def test_no_way_in_that_is_known(text: str) -> None:
    assert parse_storage_access({"AzureWebJobsStorage": text}) is None


async def test_each_service_is_asked_with_the_identity_s_token() -> None:
    checks = await examined(patient(), ASKED)
    assert checks["host_storage"]["status"] == "ok"
    assert checks["host_storage"]["facts"] == {"blob": "200", "queue": "200", "table": "200"}


@pytest.mark.parametrize("service", ["blob", "queue", "table"])
async def test_one_service_refuses(service: str) -> None:
    checks = await examined(patient(host={service: REFUSED}), ASKED)
    assert red(checks) == {"host_storage": "host_storage_forbidden"}
    assert checks["host_storage"]["facts"][service] == "403 AuthorizationPermissionMismatch"


async def test_a_redirect_is_not_followed() -> None:
    checks = await examined(
        patient(host={"queue": httpx.Response(302, headers={"Location": "https://queue.example"})}),
        ASKED,
    )
    assert red(checks) == {"host_storage": "host_storage_forbidden"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"storage_token": None}, {"storage_token": "identity_unavailable"}), ({}, {})],
    ids=str,
)
async def test_without_a_token_only_the_token_is_at_fault(
    changes: dict[str, Any], expected: dict[str, str]
) -> None:
    assert red(await examined(patient(**changes), ASKED)) == expected


async def test_where_it_is_not_known_nothing_is_red() -> None:
    checks = await examined(with_environment(patient()), ASKED)
    assert (checks["host_storage"]["status"], checks["host_storage"]["code"]) == (
        "unknown",
        "host_storage_unknown",
    )
