"""Every response results in a state or an error from the catalogue."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import BillingExportError
from shared.graph.client import GraphBillingClient
from shared.retry_after import MAX_WAIT_SECONDS, retry_after_seconds
from tests.support.clocks import FakeClock
from tests.support.fake_service import NOW
from tests.unit.graph.fake_graph import BILLED, LOOPBACK, inline_operation, payload

fuzz = settings(max_examples=80, deadline=None, database=None)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        [
            "succeeded",
            "failed",
            "running",
            "5000",
            "https://x/manifests/a",
            "2023-03-09T08:12:53",
            "0001-01-01T00:00:00+14:00",
        ]
    )
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = [
    *inline_operation(),
    *payload("manifest"),
    "error",
    "code",
    "name",
    "resourceLocation@odata.navigationLink",
]
members = st.sampled_from(NAMES)
documents = st.dictionaries(
    members, values | st.dictionaries(members, values, max_size=6), max_size=6
)
operations = st.builds(lambda changes: inline_operation() | changes, documents) | st.builds(
    lambda changes: inline_operation(resourceLocation=payload("manifest") | changes), documents
)
headers = st.dictionaries(
    st.sampled_from(["Location", "Retry-After", "request-id", "Content-Type", "WWW-Authenticate"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=60)
    | st.sampled_from(
        [
            "57",
            "Sun, 08 Nov 2026 09:38:30 GMT",
            "application/json",
            'Bearer claims="e30="',
            "https://x/operations/a",
        ]
    ),
)


def send_requests(status: int, body: bytes, headers: dict[str, str]) -> None:
    async def send(request: httpx.Request) -> httpx.Response:
        raw = [(name.encode(), text.encode("latin-1")) for name, text in headers.items()]
        return httpx.Response(status, content=body, headers=raw)

    async def call_client() -> None:
        client = GraphBillingClient(
            base_url=LOOPBACK,
            credential=None,
            clock=FakeClock(NOW),
            transport=httpx.MockTransport(send),
        )
        for call in (client.get_operation("a"), client.start_export(BILLED, None)):
            with contextlib.suppress(BillingExportError):
                await call
        await client.close()

    asyncio.run(call_client())


@fuzz
@given(
    st.one_of(documents, operations, values),
    st.sampled_from([200, 200, 200, 202, 400, 404, 429, 503]),
)
def test_client_with_any_json_raises_only_known_errors(document: Any, status: int) -> None:
    send_requests(status, json.dumps(document).encode(), {"Content-Type": "application/json"})


@fuzz
@given(st.binary(max_size=60), st.integers(200, 599), headers)
def test_client_with_any_response_raises_only_known_errors(
    body: bytes, status: int, headers: dict[str, str]
) -> None:
    send_requests(status, body, headers)


@fuzz
@given(
    st.text(max_size=70)
    | st.from_regex(
        r"\A(Sun, )?[0-9]{1,2} (Nov|Jan) [0-9]{1,5} [0-9]{1,2}:[0-9]{1,2}(:[0-9]{1,2})? "
        r"([A-Z]{1,3}|[+-][0-9]{1,5})\Z"
    )
)
def test_retry_after_seconds_with_any_header_is_none_or_in_range(header: str) -> None:
    seconds = retry_after_seconds(header, datetime(2026, 11, 8, tzinfo=UTC))
    assert seconds is None or 0 <= seconds <= MAX_WAIT_SECONDS
