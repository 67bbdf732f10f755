"""Puts the blobs of a data version into storage, once, and tells its manifest, as often as it is asked for."""

import asyncio
from collections.abc import Callable

from local.simulator.behaviour import Behaviour
from local.simulator.data_versions import DataVersion
from local.simulator.manifests import Manifest, container_of, folder_of, manifest_of
from local.simulator.storage import Storage


class Publisher:
    """Lives in the server's event loop. `origin` is that of the storage proxy, or None: then roots name the storage itself."""

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

    def begin(self, version: DataVersion) -> asyncio.Task[None]:
        """Writes in the background what is not written yet. A write that failed is tried again."""
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
        """With a new SAS, or with the given one."""
        await asyncio.shield(self.begin(version))
        behaviour = self._behaviour()
        return manifest_of(
            version,
            behaviour,
            tenant_id=self._tenant_id,
            blob_url=self._blob_url(),
            sas=sas or self._storage.sas(container_of(version), behaviour.sas_lifetime_seconds),
        )

    async def close(self) -> None:
        for task in self._writes.values():
            task.cancel()
        await asyncio.gather(*self._writes.values(), return_exceptions=True)
