"""The guard in tests/conftest.py: a test cannot connect to another machine."""

import asyncio
import socket

import pytest


@pytest.mark.parametrize("address", ["192.0.2.1", "8.8.8.8", "127.0.0.1.example"])
def test_connect_other_machine_raises_before_sending(address: str) -> None:
    with socket.socket() as client, pytest.raises(AssertionError, match="refused"):
        client.connect((address, 80))


async def test_open_connection_on_event_loop_other_machine_raises() -> None:
    with pytest.raises(AssertionError, match="refused"):
        await asyncio.open_connection("192.0.2.1", 80)


def test_connect_loopback_address_is_allowed() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), timeout=5),
    ):
        pass
