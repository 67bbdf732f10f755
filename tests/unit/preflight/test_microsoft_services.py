"""Each missing permission for Graph causes exactly one problem with its own code."""

from typing import Any

import httpx
import pytest

from shared.preflight.preflight import CHECKS
from shared.preflight.tokens import REQUIRED_ROLE
from tests.unit.preflight.contexts import (
    TENANT,
    create_context,
    error_response,
    get_problems,
    jwt,
    run_checks,
)

CHECKS_UNDER_TEST = tuple(
    check for check in CHECKS if check.name in ("graph_token", "graph", "partner_center")
)
VALID_TOKEN = jwt(tid=TENANT, roles=["Other.Read.All", REQUIRED_ROLE])


async def test_graph_checks_with_valid_token_return_ok() -> None:
    checks = await run_checks(create_context(token=VALID_TOKEN), CHECKS_UNDER_TEST)
    assert {name: check["status"] for name, check in checks.items()} == {
        "graph_token": "ok",
        "graph": "ok",
        "partner_center": "skipped",
    }
    assert checks["graph_token"]["facts"] == {
        "roles": ["Other.Read.All", REQUIRED_ROLE],
        "tenant_id": TENANT,
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"token": None}, {"graph_token": "identity_unavailable"}),
        (
            {"token": jwt(tid=TENANT, roles=["Other.Read.All"]), "graph": error_response(403)},
            {"graph_token": "role_missing"},
        ),
        ({"token": jwt(tid=TENANT), "graph": error_response(403)}, {"graph_token": "role_missing"}),
        (
            {"token": jwt(tid="7" * 8, roles=[REQUIRED_ROLE]), "graph": error_response(401)},
            {"graph_token": "token_of_another_tenant"},
        ),
        ({"token": VALID_TOKEN, "graph": error_response(403)}, {"graph": "graph_forbidden"}),
        ({"token": VALID_TOKEN, "graph": error_response(401)}, {"graph": "graph_unauthorized"}),
        ({"token": VALID_TOKEN, "graph": error_response(503)}, {"graph": "graph_unavailable"}),
        ({"token": VALID_TOKEN, "graph": httpx.ConnectError("no")}, {"graph": "graph_unavailable"}),
        ({"token": VALID_TOKEN, "graph": error_response(429)}, {"graph": "graph_throttled"}),
        (
            {"token": VALID_TOKEN, "graph": httpx.Response(200, json={"status": "running"})},
            {"graph": "graph_malformed"},
        ),
        ({"token": "opaque"}, {}),
        ({"token": jwt(roles="not a list")}, {}),
        ({"token": jwt(tid=TENANT, roles=None)}, {"graph_token": "role_missing"}),
    ],
    ids=str,
)
async def test_graph_checks_with_one_fault_report_one_problem(
    changes: dict[str, Any], expected: dict[str, str]
) -> None:
    checks = await run_checks(create_context(**changes), CHECKS_UNDER_TEST)
    assert get_problems(checks) == expected
    assert all(
        check["cause"] and check["remedy"] for check in checks.values() if check["status"] != "ok"
    )


async def test_graph_check_without_token_names_the_token_check() -> None:
    checks = await run_checks(create_context(token=None), CHECKS_UNDER_TEST)
    assert checks["graph"]["status"] == "unknown" and checks["graph"]["facts"] == {
        "check": "graph_token"
    }


async def test_graph_token_check_reports_only_safe_roles() -> None:
    checks = await run_checks(
        create_context(
            token=jwt(tid=TENANT, roles=[REQUIRED_ROLE, "https://a.example/?sig=x", 3, "x" * 200])
        ),
        CHECKS_UNDER_TEST,
    )
    assert checks["graph_token"]["facts"]["roles"] == [REQUIRED_ROLE]
