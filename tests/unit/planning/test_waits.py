"""The wait policy: the full wait that the server requests, or the default wait for the attempt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.planning.waits import wait_seconds


@pytest.mark.parametrize(
    ("retry_after", "attempt", "seconds"),
    [
        (None, 1, 30),
        (None, 2, 60),
        (None, 3, 120),
        (None, 4, 300),
        (None, 5, 300),
        (None, 1000, 300),
        (0, 1, 10),
        (9, 1, 10),
        (10, 1, 10),
        (11, 1, 11),
        (57, 3, 57),
        (43_200, 1, 43_200),
    ],
)
def test_wait_seconds_returns_retry_after_or_default(
    retry_after: int | None, attempt: int, seconds: int
) -> None:
    assert wait_seconds(retry_after, attempt, minimum=10) == seconds


@given(st.none() | st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 86_400))
def test_wait_seconds_is_never_shorter_than_requested_or_than_the_minimum(
    retry_after: int | None, attempt: int, minimum: int
) -> None:
    assert wait_seconds(retry_after, attempt, minimum) >= max(retry_after or 0, minimum)
