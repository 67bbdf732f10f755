"""Version rows: one per manifest eTag of an export key, with conditional updates."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from typing import get_args

import pytest

from shared.ledger import keys, versions
from shared.ledger.ledger import Ledger
from shared.ledger.versions import Version, VersionState, get_next_n, new_version
from tests.integration.ledger.ledger_rows import (
    KEY,
    OTHER_KEY,
    START,
    insert_complete_version,
    list_by_etag,
    list_versions,
)
from tests.support.clocks import FakeClock

CREATED = datetime(2026, 11, 8, tzinfo=UTC)


def build_version(
    etag: str = "e1", n: int = 1, run: str = "r1", created: datetime = CREATED
) -> Version:
    return new_version(KEY, etag, n, f"v-{etag}-{n}", created=created, now=START, run_id=run)


async def test_row_round_trips(ledger: Ledger) -> None:
    inserted = await ledger.versions.insert(build_version('W/"ü 😀"'))
    assert inserted is not None and inserted == await ledger.versions.get(KEY, 'W/"ü 😀"', 1)
    assert (inserted.state, inserted.created_at, inserted.first_seen) == (
        "landing",
        "2026-11-08T00:00:00Z",
        "2026-11-21T06:00:00Z",
    )
    assert (
        await ledger.versions.get(KEY, "e2", 1) is None
        and await ledger.versions.get(KEY, 'W/"ü 😀"', 2) is None
    )


async def test_insert_concurrently_with_same_etag_succeeds_once(ledger: Ledger) -> None:
    results = await asyncio.gather(
        *(ledger.versions.insert(build_version(run=f"r{n}")) for n in range(20))
    )
    [first] = [result for result in results if result is not None]
    assert await list_by_etag(ledger, "e1") == [first]


async def test_rows_of_etag_are_ordered_by_number(ledger: Ledger) -> None:
    for n in (2, 10, 1, 3):
        await ledger.versions.insert(build_version(n=n))
    await ledger.versions.insert(build_version("other"))
    await ledger.versions.insert(replace(build_version(), key=str(OTHER_KEY)))
    assert [version.n for version in await list_by_etag(ledger, "e1")] == [1, 2, 3, 10]
    assert (
        get_next_n(await list_versions(ledger), "e1") == 11
        and get_next_n(await list_versions(ledger), "new") == 1
    )
    numbers = [version.n async for version in ledger.versions.list_by_key(KEY)]
    assert sorted(numbers) == [1, 1, 2, 3, 10]


async def test_etags_with_equal_short_hashes_are_distinguished(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (keys, versions):
        monkeypatch.setattr(module, "short_etag_hash", lambda etag: "3f9a1c20")
    first = await ledger.versions.insert(build_version("e1"))
    assert first is not None and await list_by_etag(ledger, "e2") == []
    # Another eTag already uses the row key.
    assert await ledger.versions.insert(build_version("e2")) is None
    n = get_next_n(await list_versions(ledger), "e2")
    second = await ledger.versions.insert(build_version("e2", n))
    assert second is not None and second.n == 2
    assert await list_by_etag(ledger, "e1") == [first] and await list_by_etag(ledger, "e2") == [
        second
    ]


async def test_update_requires_current_row(ledger: Ledger) -> None:
    first = await ledger.versions.insert(build_version())
    assert first is not None
    second = await ledger.versions.change_state(first, "complete", rows=5)
    assert second is not None and (second.state, second.rows) == ("complete", 5)
    assert await ledger.versions.change_state(first, "abandoned") is None
    assert await ledger.versions.get(KEY, "e1", 1) == second
    changes = await asyncio.gather(
        *(ledger.versions.update(second, run_id=f"r{n}") for n in range(10))
    )
    assert sum(change is not None for change in changes) == 1


async def test_change_state_allows_only_legal_transitions(ledger: Ledger) -> None:
    legal = {
        "landing": ["complete", "abandoned"],
        "complete": ["damaged", "pruned"],
        "damaged": ["complete", "pruned"],
        "pruned": [],
        "abandoned": [],
    }
    states = get_args(VersionState)
    assert sorted(legal) == sorted(states)
    for number, (before, after) in enumerate(product(states, states), start=1):
        version = await ledger.versions.insert(replace(build_version(n=number), state=before))
        assert version is not None
        if after in legal[before]:
            changed = await ledger.versions.change_state(version, after)
            assert changed is not None and changed.state == after
        else:
            with pytest.raises(ValueError, match=f"{before} cannot become {after}"):
                await ledger.versions.change_state(version, after)
            assert await ledger.versions.get(KEY, "e1", number) == version
    with pytest.raises(ValueError, match="Only change_state"):
        await ledger.versions.update(version, state="complete")


async def test_newest_complete_version_has_newest_data(ledger: Ledger, clock: FakeClock) -> None:
    assert await ledger.versions.get_newest_complete(KEY) is None
    newer = await insert_complete_version(ledger, etag="e2", day=9)
    clock.advance(hours=1)
    older = await insert_complete_version(ledger, etag="e1", day=8)  # found later
    # A version that is still landing.
    await ledger.versions.insert(build_version("e3", created=datetime(2026, 11, 10, tzinfo=UTC)))
    await insert_complete_version(ledger, OTHER_KEY, etag="e4", day=20)
    assert await ledger.versions.get_newest_complete(KEY) == newer
    assert await ledger.versions.get_newest_complete(KEY, before=newer) == older
    assert await ledger.versions.get_newest_complete(KEY, before=older) is None
    assert await ledger.versions.change_state(newer, "pruned")
    assert await ledger.versions.get_newest_complete(KEY) == older


def test_version_age_is_compared_by_data_time() -> None:
    oldest_first = [
        build_version(),
        build_version(n=2),
        replace(build_version(), first_seen="2026-11-21T06:00:00.5Z"),
        build_version(created=datetime(2026, 11, 9, tzinfo=UTC)),
    ]
    newest_first = oldest_first[::-1]
    assert sorted(newest_first, key=lambda version: version.age) == oldest_first
