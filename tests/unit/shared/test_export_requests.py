"""Which failed export requests count as requests that may have taken effect."""

import pytest

from shared.errors import (
    BillingExportError,
    RequestRefusedError,
    ThrottledError,
    UnavailableError,
)
from shared.graph.throttled_client import RequestNotSentError
from shared.operations import may_have_taken_effect


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
