import asyncio
import pickle
from datetime import UTC, datetime, timedelta

import pytest

from shared.errors import UnavailableError
from shared.manifest import Manifest
from shared.transfer.manifest_cache import (
    KEPT,
    ManifestCache,
    SourceDirectory,
    StorageTime,
    sas_expiry,
)

NOON = datetime(2026, 11, 8, 12, tzinfo=UTC)


class Clock:
    """Wall time and monotonic time, moved by hand and apart."""

    def __init__(self) -> None:
        self.wall, self.ticks = NOON, 1000.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.ticks

    def pass_(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.ticks += seconds


class Graph:
    def __init__(self, clock: Clock, lifetime: float = 3600) -> None:
        self.clock, self.lifetime, self.asked, self.failure = clock, lifetime, 0, None
        self.same: str | None = None

    failure: Exception | None

    async def __call__(self, operation_id: str) -> Manifest:
        self.asked += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        ends = (self.clock.now() + timedelta(seconds=self.lifetime)).strftime(
            "%Y-%m-%dT%H%%3A%M%%3A%SZ"
        )
        sas = self.same or f"sv=1&se={ends}&sig=secret{self.asked}"
        return Manifest(
            "1", "etag", NOON, "2", "t", "https://m.blob.core.windows.net/c/r", (), 0, sas
        )


@pytest.fixture
def clock() -> Clock:
    return Clock()


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
def test_the_expiry_is_read_from_the_signature(sas: str, expected: datetime | None) -> None:
    assert sas_expiry(sas) == expected


def test_no_signature_is_shown() -> None:
    directory = SourceDirectory("etag", "https://m.blob.core.windows.net/c/r", "sig=secret")
    assert "secret" not in f"{directory!r} {directory!s} {directory:}" and "secret" not in repr(
        [{"d": directory}]
    )
    assert "sig=" in directory.blob_url("a") and b"secret" in pickle.dumps(
        directory
    )  # it can hold it; it does not show it


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
def test_names_are_encoded_and_the_signature_is_left_alone(root: str, name: str, url: str) -> None:
    assert SourceDirectory("etag", root, "sig=%2B").blob_url(name) == url


async def test_many_ask_and_one_fetches(clock: Clock) -> None:
    graph = Graph(clock)
    sources = ManifestCache(graph, clock)
    found = await asyncio.gather(
        *(sources.get_directory("o") for _ in range(50)),
        *(sources.get_manifest("o") for _ in range(50)),
    )
    assert graph.asked == 1 and len({id(one) for one in found}) == 2
    await sources.get_directory("another")
    assert graph.asked == 2


async def test_a_hundred_refusals_are_one_renewal(clock: Clock) -> None:
    graph = Graph(clock)
    sources = ManifestCache(graph, clock)
    stale = await sources.get_directory("o")
    clock.pass_(10)
    found = await asyncio.gather(*(sources.renew_directory("o", stale) for _ in range(100)))
    assert graph.asked == 2 and {one.sas for one in found} == {found[0].sas} and found[0] != stale


async def test_a_refusal_right_after_a_fetch_asks_for_no_other(clock: Clock) -> None:
    graph = Graph(clock)
    sources = ManifestCache(graph, clock, pause=2)
    stale = await sources.get_directory("o")
    clock.pass_(1.9)
    assert await sources.renew_directory("o", stale) == stale and graph.asked == 1
    clock.pass_(0.2)
    assert await sources.renew_directory("o", stale) != stale and graph.asked == 2


async def test_it_is_renewed_five_minutes_ahead(clock: Clock) -> None:
    graph = Graph(clock, 3600)
    sources = ManifestCache(graph, clock)
    first = await sources.get_directory("o")
    clock.pass_(3600 - 301)
    assert await sources.get_directory("o") == first
    clock.pass_(2)
    assert await sources.get_directory("o") != first and graph.asked == 2


async def test_a_short_one_is_renewed_after_three_quarters(clock: Clock) -> None:
    graph = Graph(clock, 60)
    sources = ManifestCache(graph, clock)
    first = await sources.get_directory("o")
    clock.pass_(44)
    assert await sources.get_directory("o") == first
    clock.pass_(2)
    assert await sources.get_directory("o") != first


async def test_graph_is_not_pestered_where_it_has_no_newer_one(clock: Clock) -> None:
    graph = Graph(clock)
    graph.same = "se=2026-11-08T13:00:00Z&sig=secret"
    sources = ManifestCache(graph, clock)
    for _ in range(3600):
        await sources.get_directory("o")
        clock.pass_(1)
    assert graph.asked < 12


async def test_the_clock_of_storage_counts_not_ours(clock: Clock) -> None:
    graph = Graph(clock, 3600)
    sources = ManifestCache(graph, clock)
    first = await sources.get_directory("o")
    sources.storage_time.heard("Sun, 08 Nov 2026 12:56:00 GMT")  # ours is slow by 56 minutes
    assert await sources.get_directory("o") == first  # within the pause
    clock.pass_(3)
    assert await sources.get_directory("o") != first


def test_storage_time_goes_on_by_the_monotonic_clock(clock: Clock) -> None:
    time = StorageTime(clock)
    assert time.now() == NOON
    time.heard("Sun, 08 Nov 2026 15:00:00 GMT")
    clock.ticks += 30
    clock.wall -= timedelta(days=1)
    assert time.now() == NOON + timedelta(hours=3, seconds=31)
    for nonsense in (
        None,
        "",
        "yesterday",
        "Sun, 99 Nov 2026 15:00:00 GMT",
        "Sun, 08 Nov 2026 15:00:00",
    ):
        time.heard(nonsense)
    assert time.now() == NOON + timedelta(hours=3, seconds=31)


async def test_a_failure_is_given_again_for_a_moment(clock: Clock) -> None:
    graph = Graph(clock)
    graph.failure = UnavailableError("graph_unavailable")
    sources = ManifestCache(graph, clock)
    failures = await asyncio.gather(
        *(sources.get_directory("o") for _ in range(20)), return_exceptions=True
    )
    assert graph.asked == 1 and {type(one) for one in failures} == {UnavailableError}
    graph.failure = None
    clock.pass_(3)
    assert (await sources.get_directory("o")).sas.endswith("secret2")


async def test_a_cancelled_fetch_is_done_by_the_next(clock: Clock) -> None:
    graph = Graph(clock)
    sources = ManifestCache(graph, clock)
    first, second = (
        asyncio.create_task(sources.get_directory("o")),
        asyncio.create_task(sources.get_directory("o")),
    )
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).sas and graph.asked == 2
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_fresh_manifest_is_asked_for(clock: Clock) -> None:
    graph = Graph(clock)
    sources = ManifestCache(graph, clock)
    await sources.get_manifest("o")
    clock.pass_(60)
    assert (await sources.get_manifest("o")).sas_token.endswith("secret1")
    assert (await sources.get_manifest("o", fresh=True)).sas_token.endswith("secret2")


async def test_only_the_last_few_operations_are_kept(clock: Clock) -> None:
    graph = Graph(clock)
    sources = ManifestCache(graph, clock)
    for number in range(KEPT + 5):
        await sources.get_manifest(f"o{number}")
    await sources.get_manifest("o0")
    assert graph.asked == KEPT + 6 and len(sources._known) == KEPT
