"""The check for the host storage: connection settings and service responses."""

from typing import Any

import httpx
import pytest

from shared.preflight.host_storage import parse_storage_access
from shared.preflight.preflight import CHECKS
from tests.unit.preflight.contexts import create_context, get_problems, run_checks, with_environment

CHECKS_UNDER_TEST = tuple(
    check for check in CHECKS if check.name in ("storage_token", "host_storage")
)
FORBIDDEN_RESPONSE = httpx.Response(
    403, headers={"x-ms-error-code": "AuthorizationPermissionMismatch"}
)


@pytest.mark.parametrize(
    ("environment", "urls"),
    [
        (
            {"AzureWebJobsStorage__accountName": "funchost"},
            {
                "blob": "https://funchost.blob.core.windows.net",
                "queue": "https://funchost.queue.core.windows.net",
                "table": "https://funchost.table.core.windows.net",
            },
        ),
        (
            {"AzureWebJobsStorage__blobServiceUri": "https://b.example/"},
            {"blob": "https://b.example"},
        ),
        (
            {
                "AzureWebJobsStorage": (
                    "AccountName=funchost;AccountKey=a2V5==;EndpointSuffix=core.example"
                )
            },
            {
                "blob": "https://funchost.blob.core.example",
                "queue": "https://funchost.queue.core.example",
                "table": "https://funchost.table.core.example",
            },
        ),
        (
            {
                "AzureWebJobsStorage": (
                    "BlobEndpoint=https://b/;QueueEndpoint=https://q;TableEndpoint=https://t;"
                    "SharedAccessSignature=?sv=1&sig=abc"
                )
            },
            {"blob": "https://b", "queue": "https://q", "table": "https://t"},
        ),
    ],
    ids=lambda value: next(iter(value)),
)
def test_parse_storage_access_with_supported_setting_returns_urls(
    environment: dict[str, str], urls: dict[str, str]
) -> None:
    access = parse_storage_access(environment)
    assert access is not None and access.urls == urls
    assert sum(map(bool, (access.key, access.signature, access.uses_identity))) == 1
    assert "a2V5" not in repr(access) and "sig=" not in repr(access)


@pytest.mark.parametrize(
    "connection_string",
    ["", "nonsense", "AccountName=a", "UseDevelopmentStorage=true", "SharedAccessSignature=sig=1"],
)
def test_parse_storage_access_with_unsupported_setting_returns_none(connection_string: str) -> None:
    assert parse_storage_access({"AzureWebJobsStorage": connection_string}) is None


async def test_check_host_storage_with_identity_requests_each_service() -> None:
    checks = await run_checks(create_context(), CHECKS_UNDER_TEST)
    assert checks["host_storage"]["status"] == "ok"
    assert checks["host_storage"]["facts"] == {"blob": "200", "queue": "200", "table": "200"}


@pytest.mark.parametrize("service", ["blob", "queue", "table"])
async def test_check_host_storage_with_denied_service_fails(service: str) -> None:
    checks = await run_checks(create_context(host={service: FORBIDDEN_RESPONSE}), CHECKS_UNDER_TEST)
    assert get_problems(checks) == {"host_storage": "host_storage_forbidden"}
    assert checks["host_storage"]["facts"][service] == "403 AuthorizationPermissionMismatch"


async def test_check_host_storage_does_not_follow_redirect() -> None:
    checks = await run_checks(
        create_context(
            host={"queue": httpx.Response(302, headers={"Location": "https://queue.example"})}
        ),
        CHECKS_UNDER_TEST,
    )
    assert get_problems(checks) == {"host_storage": "host_storage_forbidden"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"storage_token": None}, {"storage_token": "identity_unavailable"}), ({}, {})],
    ids=str,
)
async def test_check_host_storage_without_token_is_not_a_second_problem(
    changes: dict[str, Any], expected: dict[str, str]
) -> None:
    assert get_problems(await run_checks(create_context(**changes), CHECKS_UNDER_TEST)) == expected


async def test_check_host_storage_without_setting_returns_unknown() -> None:
    checks = await run_checks(with_environment(create_context()), CHECKS_UNDER_TEST)
    assert (checks["host_storage"]["status"], checks["host_storage"]["code"]) == (
        "unknown",
        "host_storage_unknown",
    )
