"""Configures all tests: tiers with time budgets, the storage emulator and the network guard."""

import socket
from collections import defaultdict
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from local.azurite import Azurite

TESTS = Path(__file__).resolve().parent
# Time budgets in seconds, with two workers on two cores. Tiers run in this order.
BUDGETS = {"unit": 30, "host": 150, "integration": 240, "infra and docs": 90}
TIER_OF_FOLDER = {
    "unit": "unit",
    "durable": "host",
    "host": "host",
    "integration": "integration",
    "infra": "infra and docs",
    "alarms": "infra and docs",
    "package": "infra and docs",
    "docs": "infra and docs",
}

seconds_by_tier: dict[str, float] = defaultdict(float)
tests_by_tier: dict[str, int] = defaultdict(int)


def tier_of(path: Path) -> str:
    """Return the tier of a test file, which depends on its folder under tests/."""
    folder = path.relative_to(TESTS).parts[0]
    if folder not in TIER_OF_FOLDER:
        raise pytest.UsageError(
            f"{path} belongs to no tier. Move it to a folder of tests/: {', '.join(TIER_OF_FOLDER)}"
        )
    return TIER_OF_FOLDER[folder]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: runs for minutes; `make test-long` selects it")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a bytes value after its argument.

    A gzip member contains the time at which it was compressed, so that an ID made of its bytes
    differs between the processes that collect the tests.
    """
    return argname if isinstance(val, bytes) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the tests by tier, and deselect long tests unless `-m` is used."""
    if not config.getoption("markexpr"):
        long_tests = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=long_tests)
        items[:] = [item for item in items if item not in long_tests]
    order = list(BUDGETS)
    items.sort(key=lambda item: order.index(tier_of(item.path)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    tier = tier_of(TESTS.parent / report.location[0])
    seconds_by_tier[tier] += report.duration
    tests_by_tier[tier] += report.when == "call"


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    workers = config.getoption("numprocesses", None) or 1
    terminalreporter.section("tiers", sep="-")
    for tier, budget in BUDGETS.items():
        if tests_by_tier[tier]:
            seconds = seconds_by_tier[tier] / workers
            over = "   OVER BUDGET" if seconds > budget else ""
            terminalreporter.write_line(
                f"{tier:15} {tests_by_tier[tier]:5} tests {seconds:7.1f} s of {budget} s{over}"
            )


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """One emulator for all tests; each test creates its own containers and tables."""
    with Azurite() as emulator:
        yield emulator


class ExternalConnectionError(AssertionError):
    """A test tried to connect to another machine. Use a fake transport or a loopback server."""


def is_loopback(host: str) -> bool:
    if host in ("", "localhost"):
        return True
    try:
        return ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session", autouse=True)
def forbid_external_connections() -> Any:
    """Block connections from this process to other machines.

    The processes that tests start are configured with loopback addresses only.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, guard_connect(getattr(socket.socket, name)))
        yield


def guard_connect(connect: Any) -> Any:
    def connect_to_loopback(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not is_loopback(address[0]):
            raise ExternalConnectionError(f"connection to {address[0]}:{address[1]} refused")
        return connect(self, address)

    return connect_to_loopback
