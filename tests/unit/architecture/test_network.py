"""The guard of tests/conftest.py: a test that would leave this machine fails, also where the app swallows OSError."""

import socket

import pytest


@pytest.mark.parametrize("address", ["192.0.2.1", "8.8.8.8", "127.0.0.1.example"])
def test_a_foreign_address_is_refused_before_anything_is_sent(address: str) -> None:
    with socket.socket() as client, pytest.raises(AssertionError, match="refused"):
        client.connect((address, 80))


async def test_the_event_loop_is_held_too() -> None:
    import asyncio

    with pytest.raises(AssertionError, match="refused"):
        await asyncio.open_connection("192.0.2.1", 80)


def test_this_machine_is_allowed() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), timeout=5),
    ):
        pass
