"""Writes the blobs of data versions to storage and creates their manifests."""

import asyncio
from collections.abc import Callable

from local.simulator.behaviour import Behaviour
from local.simulator.data_versions import DataVersion
from local.simulator.manifests import Manifest, container_of, folder_of, manifest_of
from local.simulator.storage import Storage


class Publisher:
    """Writes each data version once.

    It must be used on the server's event loop. `blob_url` returns the URL of the account, or of the
    proxy, for root directories.
    """

    def __init__(
        self,
        storage: Storage,
        tenant_id: str,
        behaviour: Callable[[], Behaviour],
        blob_url: Callable[[], str],
    ) -> None:
        self._storage, self._tenant_id, self._behaviour, self._blob_url = (
            storage,
            tenant_id,
            behaviour,
            blob_url,
        )
        self._writes: dict[str, asyncio.Task[None]] = {}

    def start_write(self, version: DataVersion) -> asyncio.Task[None]:
        """Write a version in the background unless it exists. Retry a failed write."""
        task = self._writes.get(version.etag)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._writes[version.etag] = asyncio.get_running_loop().create_task(
                self._write(version)
            )
        return task

    async def _write(self, version: DataVersion) -> None:
        await self._storage.write(
            container_of(version),
            folder_of(version, self._tenant_id),
            version.blobs,
            encoding="gzip" if version.behaviour.content_encoding == "gzip" else None,
            with_md5=version.behaviour.content_md5 == "present",
        )

    async def manifest(self, version: DataVersion, sas: str | None = None) -> Manifest:
        """Return the manifest with the given SAS or a new one, after writing the blobs."""
        await asyncio.shield(self.start_write(version))
        behaviour = self._behaviour()
        return manifest_of(
            version,
            behaviour,
            tenant_id=self._tenant_id,
            blob_url=self._blob_url(),
            sas=sas or self._storage.sas(container_of(version), behaviour.sas_lifetime_seconds),
        )

    async def close(self) -> None:
        """Cancel all writes."""
        for task in self._writes.values():
            task.cancel()
        await asyncio.gather(*self._writes.values(), return_exceptions=True)
