"""If its tables are unavailable, the app returns 503 and does not disclose the reason."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from local.azurite import Azurite
from tests.support.app_environment import AppEnvironment

RUN = "billed-usage-g016907411-full-20261121t060000z-aaaa"
MAX_RESPONSE_SECONDS = 30


@pytest.fixture(scope="module")
def env(azurite: Azurite) -> Iterator[AppEnvironment]:
    """An app whose table endpoint refuses connections."""
    connection = re.sub(
        r"TableEndpoint=[^;]+;",
        "TableEndpoint=http://127.0.0.1:9/landing;",
        azurite.landing.connection_string,
    )
    with AppEnvironment(azurite, LANDING_STORAGE=connection) as env:
        yield env


def test_route_unavailable_tables_returns_503(env: AppEnvironment) -> None:
    calls = [
        ("POST", "/api/runs", {"dataset": "billed_usage", "invoice_id": "G016907411"}),
        ("GET", f"/api/runs/{RUN}", None),
        ("POST", f"/api/runs/{RUN}/cancel", {}),
        ("POST", "/api/cycles", {}),
        ("GET", "/api/cycles/cycle-20261121t060000z", None),
        ("GET", "/api/health", None),
    ]
    start = time.monotonic()
    with ThreadPoolExecutor(len(calls)) as pool:
        responses = list(
            pool.map(lambda call: env.host.request(call[0], call[1], json=call[2]), calls)
        )
    assert time.monotonic() - start < MAX_RESPONSE_SECONDS
    *responses, health = responses
    for response in responses:
        assert (response.status, response.json()["code"]) == (503, "ledger_unavailable")
        assert response.header("Retry-After")
        assert (response.header("Content-Type") or "").startswith("application/problem+json")
        assert b"127.0.0.1" not in response.body
        assert b"Account" not in response.body
    assert (health.status, health.body) == (503, b"")


def test_invalid_request_unavailable_tables_returns_its_problem(env: AppEnvironment) -> None:
    assert env.host.request("POST", "/api/runs", json={"dataset": "x"}).status == 400
    assert env.host.request("GET", "/api/runs/nonsense").status == 404
