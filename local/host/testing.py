"""For tests with pytest: a fixture that starts hosts on virtual time and ends them with the test.

from local.host.testing import local_host          # in conftest.py; or pytest_plugins = ["local.host.testing"]

def test_a_day(local_host):
    host = local_host(app)                         # an app object or a folder, and any option of LocalHost
    host.advance(timedelta(days=1))
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from azure.functions import FunctionRegister

from .clock import VirtualClock
from .local_host import LocalHost

START = datetime(2026, 1, 1, tzinfo=UTC)
StartHost = Callable[..., LocalHost]


@pytest.fixture
def local_host() -> Iterator[StartHost]:
    """Starts hosts; each has a `VirtualClock` of its own that begins at START, unless a clock is given."""
    with ExitStack() as hosts:

        def start(app: FunctionRegister | Path | str, **options: Any) -> LocalHost:
            return hosts.enter_context(LocalHost(app, **{"clock": VirtualClock(START), **options}))

        yield start
