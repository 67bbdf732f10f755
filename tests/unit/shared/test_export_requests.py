"""Which failed export requests may have taken effect, and how a run without requests left ends."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from shared.errors import (
    BillingExportError,
    RequestRefusedError,
    ThrottledError,
    UnavailableError,
)
from shared.graph.throttled_client import RequestNotSentError
from shared.ledger.runs import Run
from shared.operations import MAX_OPERATIONS, ExportOperations, may_have_taken_effect
from tests.support.clocks import FakeClock


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UnavailableError("graph_unavailable"), True),
        (UnavailableError("graph_unavailable", http_status=500), True),
        (UnavailableError("graph_unavailable", http_status=502), True),
        (UnavailableError("graph_unavailable", http_status=504), True),
        (UnavailableError("graph_location_missing", http_status=202), True),
        (UnavailableError("graph_malformed", http_status=202), True),
        (UnavailableError("graph_malformed"), True),
        (UnavailableError("graph_unavailable", was_sent=False), False),
        (UnavailableError("identity_unavailable", was_sent=False, http_status=500), False),
        (UnavailableError("graph_unavailable", http_status=408), False),
        (UnavailableError("graph_malformed", http_status=302), False),
        (UnavailableError("graph_unavailable", http_status=501), False),
        (UnavailableError("graph_unavailable", http_status=503), False),
        (UnavailableError("graph_unavailable", http_status=509), False),
        (ThrottledError("graph_throttled", http_status=429), False),
        (RequestNotSentError("graph_throttled"), False),
        (RequestRefusedError("graph_bad_request", http_status=400), False),
    ],
)
def test_may_have_taken_effect_depends_on_the_response(
    error: BillingExportError, expected: bool
) -> None:
    assert may_have_taken_effect(error) is expected


@pytest.mark.parametrize(
    ("last_code", "code"),
    [
        ("operation_gone", "operation_gone"),
        ("operation_failed", "operation_failed"),
        ("manifest_gone", "manifest_gone"),
        ("manifest_malformed", "manifest_malformed"),
        ("graph_unavailable", "export_unconfirmed"),
    ],
)
async def test_start_after_the_last_request_returns_why_the_run_has_no_operation(
    last_code: str, code: str
) -> None:
    """The activity is repeated after it abandoned the last operation."""
    run = Run(
        run_id="unbilled-usage-2026-11-usd-full-20261121t060000z-aaaa",
        key="unbilled_usage/2026-11/USD/full",
        operations=MAX_OPERATIONS,
        last_code=last_code,
    )

    async def holding(run_id: str) -> Run:
        return run

    ledger: Any = SimpleNamespace(
        holding=holding, clock=FakeClock(datetime(2026, 11, 21, tzinfo=UTC))
    )
    unused: Any = None
    operations = ExportOperations(unused, ledger, unused)
    assert await operations.start(run.run_id, 0) == {"status": "refused", "code": code}
