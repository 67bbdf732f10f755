"""A ledger and a landing container for tests of `shared.versions`.

Writes can be made to fail after the service has completed them.

run = await workspace.start_run("aaaa")
plan = await workspace.plan(run, create_manifest(["part-0.json.gz"]))
await workspace.copy_blobs(run, ["part-0.json.gz"])
committed = await workspace.commit(run)
"""

import hashlib
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from local.azurite import Azurite
from shared.blob_facts import BlobFacts
from shared.landing.layout import latest_path, marker_path, page_path, version_path
from shared.landing.store import LandedBlob, LandingStore
from shared.ledger.blobs import BlobRow
from shared.ledger.claims import claim
from shared.ledger.keys import blob_partition, blob_row
from shared.ledger.ledger import Ledger
from shared.ledger.outcomes import close_run
from shared.ledger.runs import Run
from shared.ledger.tables import Tables
from shared.ledger.versions import Version
from shared.manifest import Manifest, ManifestBlob
from shared.versions.commit import CommitOutcome, commit_version
from shared.versions.plan import Plan, plan_copy
from tests.integration.ledger.ledger_rows import KEY, START, build_run
from tests.support.clocks import FakeClock

ROOT = (
    "https://acct.blob.core.windows.net/c/v1/PartnerTenantId=t/BillingMonth=202610"
    "/InvoiceId=G016907411/Fragment=full"
)
WRITES = {
    "landing": ("put", "create", "put_if_match", "delete"),
    "tables": ("insert", "replace", "merge", "upsert_many"),
}


def create_manifest(names: Iterable[str], etag: str = "e1", day: int = 8) -> Manifest:
    blobs = tuple(ManifestBlob(name, "default") for name in names)
    return Manifest(
        id="m-1",
        etag=etag,
        created=datetime(2026, 11, day, 9, 37, tzinfo=UTC),
        schema_version="2",
        partner_tenant_id="t",
        root_directory=ROOT,
        blobs=blobs,
        blob_count=len(blobs),
        sas_token="none",
    )


def part_names(count: int) -> list[str]:
    return [f"part-{n:05}.json.gz" for n in range(count)]


class ProcessKilledError(Exception):
    """The simulated end of the process after a write."""


class VersionWorkspace:
    """A ledger and a landing container that belong to one test."""

    def __init__(self, azurite: Azurite, container: str) -> None:
        self.clock = FakeClock(START)
        connection = azurite.landing.connection_string
        self.ledger = Ledger(
            Tables(container, connection_string=connection), self.clock, hub="Tests"
        )
        self.landing = LandingStore(
            container=container, connection_string=connection, clock=self.clock
        )

    async def __aenter__(self) -> "VersionWorkspace":
        await self.landing.ensure_container()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.landing.close()
        await self.ledger.close()

    async def start_run(self, suffix: str = "aaaa", **columns: Any) -> str:
        """Claim a new run of the key, and return its ID."""
        run = build_run(suffix, operation_id="o-1", request_ids="r-1,r-2", **columns)
        assert await claim(self.ledger, run) == {"status": "claimed"}
        return run.run_id

    async def get_run(self, run_id: str) -> Run:
        """Return the row of a run, which must exist."""
        run = await self.ledger.runs.get(run_id)
        assert run is not None
        return run

    async def get_run_ids(self) -> list[str]:
        """Return the IDs of all runs, in the order of their suffixes."""
        return [run.run_id async for run in self.ledger.runs.list("202611")]

    async def plan(self, run_id: str, planned: Manifest, number: int = 1) -> Plan:
        """Plan the given round of a run."""
        return await plan_copy(
            self.ledger, self.landing, await self.get_run(run_id), planned, number
        )

    async def copy_blobs(
        self, run_id: str, names: Sequence[str], body: Callable[[str], bytes] = str.encode
    ) -> None:
        """Write blobs and their rows, as the copy activity does.

        Args:
            run_id: The run.
            names: The names of the blobs.
            body: Returns the content of a blob by name; the name itself by default.
        """
        run, rows = await self.get_run(run_id), []
        for name in names:
            path, data = f"{version_path(KEY, run.version)}/{name}", body(name)
            await self.landing.put(path, data)
            properties = await self.landing.get_properties(path)
            assert properties is not None
            rows.append(
                BlobRow(
                    name=name,
                    ok=True,
                    run_id=run_id,
                    destination_etag=properties.etag,
                    facts=BlobFacts(
                        bytes=len(data),
                        md5=b64encode(hashlib.md5(data).digest()).decode(),
                        sha256=hashlib.sha256(data).hexdigest(),
                        rows=1,
                        encoding="gzip",
                        columns=("A", "B"),
                    ),
                    source_etag='"0x1"',
                    copy_method="stream",
                    tries=1,
                )
            )
        await self.ledger.blobs.record(KEY, run.version, rows)

    async def commit(self, run_id: str, number: int = 1) -> CommitOutcome:
        """Commit the given round of a run."""
        return await commit_version(
            self.ledger, self.landing, await self.get_run(run_id), number, "content"
        )

    async def end_run(self, run_id: str) -> None:
        """End a run with the outcome `landed`."""
        await close_run(self.ledger, run_id, {"outcome": "landed"})

    async def land_version(
        self, planned: Manifest, suffix: str = "aaaa", **columns: Any
    ) -> Version:
        """Land a manifest with a new run, and return the row of the version."""
        run_id = await self.start_run(suffix, **columns)
        await self.plan(run_id, planned)
        await self.copy_blobs(run_id, [blob.name for blob in planned.blobs])
        assert (await self.commit(run_id)).missing == 0
        await self.end_run(run_id)
        return (await self.list_versions())[-1]

    async def list_versions(self) -> list[Version]:
        """Return the versions of the key, oldest data first."""
        return sorted(
            [version async for version in self.ledger.versions.list_by_key(KEY)],
            key=lambda version: version.age,
        )

    async def read_pages(self, run_id: str, plan: Plan, number: int = 1) -> list[Any]:
        """Return the pages of a plan, and assert that no further page exists."""
        contents = [
            await self.landing.read(page_path(run_id, number, page)) for page in range(plan.pages)
        ]
        assert await self.landing.read(page_path(run_id, number, plan.pages)) is None
        return [json.loads(page[0]) for page in contents if page is not None]

    async def read_latest(self) -> Any:
        """Return latest.json of the key, or None."""
        content = await self.landing.read(latest_path(KEY))
        return json.loads(content[0]) if content else None

    async def read_marker(self, version: str) -> Any:
        """Return the completion marker of a version, or None."""
        content = await self.landing.read(marker_path(KEY, version))
        return json.loads(content[0]) if content else None

    async def delete_blob_rows(self, version: str, names: Iterable[str]) -> None:
        """Delete blob rows, as the retention does."""
        rows = [blob_row(name) for name in names]
        await self.ledger.tables.delete("blobs", blob_partition(KEY, version), rows)

    async def read_state(self) -> Any:
        """Return the versions and runs without their ETags, and the content of all files."""
        versions = [{**asdict(version), "etag": ""} for version in await self.list_versions()]
        runs = [{**asdict(run), "etag": ""} async for run in self.ledger.runs.list("202611")]
        files = {
            blob.name: (await self.landing.read(blob.name) or (b"",))[0]
            for folder in ("data", "catalogue", "runs")
            for blob in await self._list(folder)
        }
        return versions, runs, files

    async def _list(self, folder: str) -> list[LandedBlob]:
        return [
            replace(blob, name=f"{folder}/{blob.name}") for blob in await self.landing.list(folder)
        ]

    def kill_after_write(self, number: int) -> "WriteInterceptor":
        """Raise ProcessKilledError after the nth write, counted from 1."""

        async def kill(count: int, result: Any) -> Any:
            if count == number:
                raise ProcessKilledError
            return result

        return WriteInterceptor(self, kill)

    def lose_response_of_write(self, number: int) -> "WriteInterceptor":
        """Report the nth write as a failed condition, although it succeeded.

        This happens if the response is lost and the SDK sends the request again.
        """

        async def lose(count: int, result: Any) -> Any:
            if count != number:
                return result
            return False if isinstance(result, bool) else None

        return WriteInterceptor(self, lose)


class WriteInterceptor:
    """Replace the result of each write by `after(count, result)` while the context is open."""

    def __init__(
        self, workspace: VersionWorkspace, after: Callable[[int, Any], Awaitable[Any]]
    ) -> None:
        self.workspace, self.after, self.count = workspace, after, 0
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> "WriteInterceptor":
        for owner, names in (
            (self.workspace.landing, WRITES["landing"]),
            (self.workspace.ledger.tables, WRITES["tables"]),
        ):
            for name in names:
                setattr(owner, name, self._intercept(getattr(owner, name)))
                self._undo.append(lambda owner=owner, name=name: delattr(owner, name))  # type: ignore[misc]
        self._depth = 0
        return self

    def __exit__(self, *_: object) -> None:
        for undo in self._undo:
            undo()

    def _intercept(self, write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def intercepted(*args: Any, **kwargs: Any) -> Any:
            if self._depth:  # create() calls put_if_match()
                return await write(*args, **kwargs)
            self._depth += 1
            try:
                result = await write(*args, **kwargs)
            finally:
                self._depth -= 1
            self.count += 1
            return await self.after(self.count, result)

        return intercepted
