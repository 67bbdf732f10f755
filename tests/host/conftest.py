"""Fixtures for the tests of the local host.

The sample app runs either in this process in virtual time or in a separate host process.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.host import LocalHost
from tests.host.sample_host import SAMPLE_APP, HostClient, HostProcess, create_sample_host


@pytest.fixture(scope="module")
def host() -> Iterator[LocalHost]:
    with create_sample_host() as started_host:
        yield started_host


@pytest.fixture
def client(host: LocalHost) -> HostClient:
    return HostClient(host.base_url)


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[Callable[..., HostProcess]]:
    """Return a function that starts host processes, which all use the same state directory."""
    processes: list[HostProcess] = []

    def start(
        *options: str, settings: dict[str, str] | None = None, app: Path = SAMPLE_APP
    ) -> HostProcess:
        processes.append(HostProcess(tmp_path / "state", *options, settings=settings, app=app))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
