"""The pytest fixture `local_host`, which starts hosts with virtual time.

Add `pytest_plugins = ["local.host.testing"]` to conftest.py. The fixture is a function. It accepts
an app object or the folder of an app, and all options of `LocalHost`::

    def test_timer_after_one_day(local_host):
        host = local_host(app)
        host.advance(timedelta(days=1))

The hosts stop at the end of the test.
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
    """Return a function that starts hosts.

    Unless you pass a clock, each host has its own `VirtualClock`, which starts at `START`.
    """
    with ExitStack() as hosts:

        def start(app: FunctionRegister | Path | str, **options: Any) -> LocalHost:
            return hosts.enter_context(LocalHost(app, **{"clock": VirtualClock(START), **options}))

        yield start
