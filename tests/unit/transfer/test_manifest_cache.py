"""Cached manifests and SAS tokens, with a clock that the test advances."""

import asyncio
import pickle
from datetime import UTC, datetime, timedelta

import pytest

from shared.errors import UnavailableError
from shared.manifest import Manifest
from shared.transfer.manifest_cache import (
    MAX_OPERATIONS,
    ManifestCache,
    SourceDirectory,
    StorageTime,
    sas_expiry,
)
from tests.support.clocks import FakeClock

NOON = datetime(2026, 11, 8, 12, tzinfo=UTC)


class FakeGraph:
    """Returns a manifest with a new SAS token per request, unless `sas` or `failure` is set."""

    failure: Exception | None

    def __init__(self, clock: FakeClock, lifetime: float = 3600) -> None:
        self.clock, self.lifetime, self.requests, self.failure = clock, lifetime, 0, None
        self.sas: str | None = None

    async def __call__(self, operation_id: str) -> Manifest:
        self.requests += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        expiry = (self.clock.now() + timedelta(seconds=self.lifetime)).strftime(
            "%Y-%m-%dT%H%%3A%M%%3A%SZ"
        )
        new_sas = f"sv=1&se={expiry}&sig=secret{self.requests}"
        sas = new_sas if self.sas is None else self.sas
        return Manifest(
            "1", "etag", NOON, "2", "t", "https://m.blob.core.windows.net/c/r", (), 0, sas
        )


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOON)


@pytest.mark.parametrize(
    ("sas", "expected"),
    [
        ("se=2026-11-08T12%3A00%3A00Z&sig=x", NOON),
        ("sig=x&se=2026-11-08T12:00:00Z", NOON),
        ("se=2026-11-08T13:00:00%2B01:00", NOON),
        ("se=2026-11-08T12:00:00.0000000Z", NOON),
        ("se=2026-11-08T12:00Z", NOON),
        ("se=2026-11-08", NOON - timedelta(hours=12)),
        ("se=soon", None),
        ("se=", None),
        ("sig=x", None),
        ("", None),
        ("ske=2026-11-08T12:00:00Z", None),
        ("se=99999-01-01", None),
    ],
)
def test_sas_expiry_returns_the_expiry_of_the_token(sas: str, expected: datetime | None) -> None:
    assert sas_expiry(sas) == expected


def test_source_directory_repr_does_not_contain_the_sas_token() -> None:
    directory = SourceDirectory("etag", "https://m.blob.core.windows.net/c/r", "sig=secret")
    assert "secret" not in f"{directory!r} {directory!s} {directory:}" and "secret" not in repr(
        [{"d": directory}]
    )
    assert "sig=" in directory.blob_url("a") and b"secret" in pickle.dumps(directory)


@pytest.mark.parametrize(
    ("root", "name", "url"),
    [
        (
            "https://m.blob.core.windows.net/c/a=1/b",
            "p=1/x y.gz",
            "https://m.blob.core.windows.net/c/a=1/b/p%3D1/x%20y.gz?sig=%2B",
        ),
        (
            "https://m.blob.core.windows.net/c/a%3D1/",
            "ä+&'.gz",
            "https://m.blob.core.windows.net/c/a%3D1/%C3%A4%2B%26%27.gz?sig=%2B",
        ),
        (
            "https://m.blob.core.windows.net/c/ü",
            "a",
            "https://m.blob.core.windows.net/c/%C3%BC/a?sig=%2B",
        ),
    ],
)
def test_blob_url_encodes_the_name_but_not_the_sas_token(root: str, name: str, url: str) -> None:
    assert SourceDirectory("etag", root, "sig=%2B").blob_url(name) == url


async def test_manifest_cache_called_concurrently_sends_one_request(clock: FakeClock) -> None:
    graph = FakeGraph(clock)
    cache = ManifestCache(graph, clock)
    results = await asyncio.gather(
        *(cache.get_directory("o") for _ in range(50)),
        *(cache.get_manifest("o") for _ in range(50)),
    )
    assert graph.requests == 1 and len({id(result) for result in results}) == 2
    await cache.get_directory("another")
    assert graph.requests == 2


async def test_renew_directory_called_concurrently_sends_one_request(clock: FakeClock) -> None:
    graph = FakeGraph(clock)
    cache = ManifestCache(graph, clock)
    stale = await cache.get_directory("o")
    clock.advance(seconds=10)
    directories = await asyncio.gather(*(cache.renew_directory("o", stale) for _ in range(100)))
    assert (
        graph.requests == 2
        and len({directory.sas for directory in directories}) == 1
        and directories[0] != stale
    )


async def test_renew_directory_within_the_interval_returns_the_same_directory(
    clock: FakeClock,
) -> None:
    graph = FakeGraph(clock)
    cache = ManifestCache(graph, clock, min_fetch_interval_seconds=2)
    stale = await cache.get_directory("o")
    clock.advance(seconds=1.9)
    assert await cache.renew_directory("o", stale) == stale and graph.requests == 1
    clock.advance(seconds=0.2)
    assert await cache.renew_directory("o", stale) != stale and graph.requests == 2


async def test_get_directory_five_minutes_before_expiry_renews_the_token(
    clock: FakeClock,
) -> None:
    graph = FakeGraph(clock, 3600)
    cache = ManifestCache(graph, clock)
    first = await cache.get_directory("o")
    clock.advance(seconds=3600 - 301)
    assert await cache.get_directory("o") == first
    clock.advance(seconds=2)
    assert await cache.get_directory("o") != first and graph.requests == 2


async def test_get_directory_short_lived_token_is_renewed_after_three_quarters(
    clock: FakeClock,
) -> None:
    graph = FakeGraph(clock, 60)
    cache = ManifestCache(graph, clock)
    first = await cache.get_directory("o")
    clock.advance(seconds=44)
    assert await cache.get_directory("o") == first
    clock.advance(seconds=2)
    assert await cache.get_directory("o") != first


async def test_get_directory_without_newer_token_limits_the_requests(
    clock: FakeClock,
) -> None:
    graph = FakeGraph(clock)
    graph.sas = "se=2026-11-08T13:00:00Z&sig=secret"
    cache = ManifestCache(graph, clock)
    for _ in range(3600):
        await cache.get_directory("o")
        clock.advance(seconds=1)
    assert graph.requests < 12


async def test_get_directory_with_slow_local_clock_uses_the_time_of_storage(
    clock: FakeClock,
) -> None:
    graph = FakeGraph(clock, 3600)
    cache = ManifestCache(graph, clock)
    first = await cache.get_directory("o")
    cache.storage_time.update("Sun, 08 Nov 2026 12:56:00 GMT")  # the local clock is 56 minutes slow
    assert await cache.get_directory("o") == first  # within the minimum interval
    clock.advance(seconds=3)
    assert await cache.get_directory("o") != first


async def test_get_manifest_without_blobs_and_token_is_cached_without_expiry(
    clock: FakeClock,
) -> None:
    graph = FakeGraph(clock)
    graph.sas = ""
    cache = ManifestCache(graph, clock)
    manifest = await cache.get_manifest("o")
    clock.advance(seconds=24 * 3600)
    assert await cache.get_manifest("o") == manifest and graph.requests == 1


def test_storage_time_advances_with_the_monotonic_clock(clock: FakeClock) -> None:
    time = StorageTime(clock)
    assert time.now() == NOON
    time.update("Sun, 08 Nov 2026 15:00:00 GMT")
    clock.seconds += 30
    clock.moment -= timedelta(days=1)
    assert time.now() == NOON + timedelta(hours=3, seconds=31)
    for invalid in (
        None,
        "",
        "yesterday",
        "Sun, 99 Nov 2026 15:00:00 GMT",
        "Sun, 08 Nov 2026 15:00:00",
    ):
        time.update(invalid)
    assert time.now() == NOON + timedelta(hours=3, seconds=31)


async def test_get_directory_within_the_interval_raises_the_same_error(clock: FakeClock) -> None:
    graph = FakeGraph(clock)
    graph.failure = UnavailableError("graph_unavailable")
    cache = ManifestCache(graph, clock)
    failures = await asyncio.gather(
        *(cache.get_directory("o") for _ in range(20)), return_exceptions=True
    )
    assert graph.requests == 1 and {type(failure) for failure in failures} == {UnavailableError}
    graph.failure = None
    clock.advance(seconds=3)
    assert (await cache.get_directory("o")).sas.endswith("secret2")


async def test_get_directory_after_a_cancelled_request_sends_another_one(clock: FakeClock) -> None:
    graph = FakeGraph(clock)
    cache = ManifestCache(graph, clock)
    first, second = (
        asyncio.create_task(cache.get_directory("o")),
        asyncio.create_task(cache.get_directory("o")),
    )
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).sas and graph.requests == 2
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_get_manifest_with_fresh_sends_a_request(clock: FakeClock) -> None:
    graph = FakeGraph(clock)
    cache = ManifestCache(graph, clock)
    await cache.get_manifest("o")
    clock.advance(seconds=60)
    assert (await cache.get_manifest("o")).sas_token.endswith("secret1")
    assert (await cache.get_manifest("o", fresh=True)).sas_token.endswith("secret2")


async def test_manifest_cache_above_the_limit_evicts_the_oldest_operation(clock: FakeClock) -> None:
    graph = FakeGraph(clock)
    cache = ManifestCache(graph, clock)
    for number in range(MAX_OPERATIONS + 5):
        await cache.get_manifest(f"o{number}")
    await cache.get_manifest("o0")
    assert graph.requests == MAX_OPERATIONS + 6
