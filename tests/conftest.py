"""For all tiers: their order, their budgets, and no connection to anything but this machine."""

import socket
from collections import defaultdict
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from local.azurite import Azurite

TESTS = Path(__file__).resolve().parent
# Seconds of two workers on two cores. The order is the order of running.
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

spent: dict[str, float] = defaultdict(float)
counted: dict[str, int] = defaultdict(int)


def tier_of(path: Path) -> str:
    """The tier is the folder below tests/."""
    folder = path.relative_to(TESTS).parts[0]
    if folder not in TIER_OF_FOLDER:
        raise pytest.UsageError(
            f"{path} is in no tier: tests live below tests/ in {', '.join(TIER_OF_FOLDER)}"
        )
    return TIER_OF_FOLDER[folder]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: storms and big fuzz, run by `make test-long` only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What answers soonest runs first; what takes long runs only when it is asked for, by `-m long`."""
    if not config.getoption("markexpr"):
        late = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=late)
        items[:] = [item for item in items if item not in late]
    order = list(BUDGETS)
    items.sort(key=lambda item: order.index(tier_of(item.path)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    tier = tier_of(TESTS.parent / report.location[0])
    spent[tier] += report.duration
    counted[tier] += report.when == "call"


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    workers = config.getoption("numprocesses", None) or 1
    terminalreporter.section("tiers", sep="-")
    for tier, budget in BUDGETS.items():
        if counted[tier]:
            seconds = spent[tier] / workers
            over = "   OVER BUDGET" if seconds > budget else ""
            terminalreporter.write_line(
                f"{tier:15} {counted[tier]:5} tests {seconds:7.1f} s of {budget} s{over}"
            )


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """One emulator for all tiers; every test makes containers and tables of its own."""
    with Azurite() as running:
        yield running


class ExternalConnectionError(AssertionError):
    """A test reached for the network. Give it a fake transport, or something that listens on 127.0.0.1."""


def is_this_machine(host: str) -> bool:
    if host in ("", "localhost"):
        return True
    try:
        return ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session", autouse=True)
def only_this_machine() -> Any:
    """Holds for this process; the processes that tests start are configured for loopback addresses only."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, guarded(getattr(socket.socket, name)))
        yield


def guarded(connect: Any) -> Any:
    def connect_to_this_machine(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not is_this_machine(address[0]):
            raise ExternalConnectionError(f"connection to {address[0]}:{address[1]} refused")
        return connect(self, address)

    return connect_to_this_machine
