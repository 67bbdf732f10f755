"""Writes blobs to the landing, in one request or in blocks.

A write creates a blob that does not exist, or replaces the blob with a given ETag.

The metadata, which are written in the same request as the content, identify the origin of a blob:
source ETag, manifest eTag and run. They are percent-encoded, so that every eTag is a valid ASCII
header, and are compared in this form.
"""

import base64
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from shared.errors import BillingExportError, PermanentError, UnavailableError
from shared.landing.storage_errors import (
    get_error_code,
    get_status,
    is_library_error,
    to_landing_error,
)
from shared.landing.store import LandedBlob, LandingStore, quoted
from shared.transfer.concurrency_limiter import ConcurrencyLimiter
from shared.transfer.models import TransferRequest

if TYPE_CHECKING:
    from azure.storage.blob import ContentSettings

R = TypeVar("R")

CONTENT_TYPE = "application/gzip"
# If another writer creates the blob first, storage discards the uncommitted blocks of this one, so
# its block list becomes invalid.
BLOB_EXISTS = (
    "BlobAlreadyExists",
    "InvalidBlockList",
    "InvalidBlobOrBlock",
    "TargetConditionNotMet",
    "ConditionNotMet",  # the blob to replace has changed or has been deleted
)


class BlobExistsError(Exception):
    """The blob exists, or is not the one to replace.

    This process may have written it in a request whose response was lost.
    """


def origin_metadata(request: TransferRequest, source_etag: str) -> dict[str, str]:
    """Return the metadata that identify the origin of a blob."""
    return {
        "sourceetag": quote(source_etag, safe=""),
        "manifestetag": quote(request.manifest_etag, safe=""),
        "runid": request.run_id,
    }


def has_same_origin(
    metadata: Mapping[str, str], request: TransferRequest, source_etag: str
) -> bool:
    """Return whether this app copied the blob from this state of the source, in any run."""
    expected = origin_metadata(request, source_etag)
    return all(metadata.get(name) == expected[name] for name in ("sourceetag", "manifestetag"))


def is_own_blob(metadata: Mapping[str, str], request: TransferRequest) -> bool:
    """Return whether this app wrote the blob for this version, from any state of the source."""
    expected = origin_metadata(request, "")
    return expected.keys() <= metadata.keys() and (
        metadata["manifestetag"] == expected["manifestetag"]
    )


def content_settings(md5: str | None) -> "ContentSettings":
    """Return the properties of a landed blob, which do not depend on those of the source.

    There is no Content-Encoding, so that no client decompresses the file in transit.
    """
    from azure.storage.blob import ContentSettings

    return ContentSettings(
        content_type=CONTENT_TYPE, content_md5=bytearray(base64.b64decode(md5)) if md5 else None
    )


class BlobWriter:
    """Writes one blob once. With `replaced_etag`, it replaces the blob with this ETag.

    `retries` counts the repeated requests. `get_metadata` is called when the blob is written,
    because the ETag of the source is known only then. All methods raise BlobExistsError or an
    exception of `shared.errors`.
    """

    def __init__(
        self,
        landing: LandingStore,
        limiter: ConcurrencyLimiter,
        path: str,
        get_metadata: Callable[[], dict[str, str]],
        *,
        replaced_etag: str | None = None,
    ) -> None:
        self._landing, self._limiter, self._get_metadata = landing, limiter, get_metadata
        self.client = landing.get_blob_client(path)
        self.retries = 0
        self._replaced_etag = replaced_etag

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of the blob."""
        return self._get_metadata()

    @property
    def _condition(self) -> dict[str, Any]:
        """The condition of the write that makes the content visible."""
        from azure.core import MatchConditions

        if self._replaced_etag is None:
            return {"match_condition": MatchConditions.IfMissing}
        return {"etag": self._replaced_etag, "match_condition": MatchConditions.IfNotModified}

    @cached_property
    def _block_id_prefix(self) -> str:
        """A random prefix; blocks of another attempt might have different boundaries."""
        return secrets.token_hex(8)

    async def put(self, data: bytes, md5: str) -> str:
        """Write the whole blob in one request and return its ETag.

        Storage rejects the content if its MD5 hash differs from `md5` (base64).
        """
        response = await self.retry(
            lambda: self.client.upload_blob(
                data,
                length=len(data),
                overwrite=self._replaced_etag is not None,
                **(self._condition if self._replaced_etag is not None else {}),
                metadata=self.metadata,
                content_settings=content_settings(md5),
                transactional_content_md5=base64.b64decode(md5),
            )
        )
        return quoted(str(response["etag"]))

    async def stage(self, index: int, data: bytes, md5: bytes) -> None:
        """Write one block; storage rejects it if its MD5 hash differs from `md5` (16 bytes)."""
        await self.retry(
            lambda: self.client.stage_block(
                self.block_id(index), data, length=len(data), transactional_content_md5=md5
            )
        )

    async def commit(self, blocks: int, md5: str | None) -> str:
        """Commit the staged blocks and return the ETag of the blob."""
        from azure.storage.blob import BlobBlock

        response = await self.retry(
            lambda: self.client.commit_block_list(
                [BlobBlock(self.block_id(index)) for index in range(blocks)],
                metadata=self.metadata,
                content_settings=content_settings(md5),
                **self._condition,
            )
        )
        return quoted(str(response["etag"]))

    def block_id(self, index: int) -> str:
        """Return the ID of a block. All IDs of a blob have the same length, as storage requires."""
        return f"{self._block_id_prefix}{index:05}"  # a blob has at most 50,000 blocks

    async def retry(self, write: Callable[[], Awaitable[R]]) -> R:
        """Run a write and repeat it if it was throttled, corrupted in transit, or not answered."""

        async def attempt() -> R:
            try:
                return await write()
            except Exception as error:
                failure = self._map_error(error)
            # Outside of the handler, so that the library error is not attached as its context.
            raise failure

        return await self._limiter.retry(attempt, self._count_retry)

    def _count_retry(self) -> None:
        self.retries += 1

    def _map_error(self, error: Exception) -> Exception:
        if isinstance(error, BillingExportError) or not is_library_error(error):
            return error
        if get_error_code(error) in BLOB_EXISTS:
            return BlobExistsError()
        if get_status(error) == 400 and get_error_code(error) in ("Md5Mismatch", "Crc64Mismatch"):
            return UnavailableError(
                "destination_unreachable", http_status=400, error_code=get_error_code(error)
            )
        return to_landing_error(error, self._landing.now())


async def read_landed_range(
    landing: LandingStore, blob: LandedBlob, path: str, start: int, length: int
) -> bytes:
    """Read stored bytes of a landed blob.

    Raises:
        UnavailableError: `destination_unreachable` if the blob is missing or has another ETag.
        BillingExportError: Any other error of the landing.
    """
    from azure.core import MatchConditions

    try:
        stream = await landing.get_blob_client(path).download_blob(
            offset=start,
            length=length,
            decompress=False,
            etag=blob.etag,
            match_condition=MatchConditions.IfNotModified,
        )
        data: bytes = await stream.readall()
    except Exception as error:
        failure: BillingExportError = to_landing_error(error, landing.now())
    else:
        if len(data) == length:
            return data
        failure = UnavailableError("destination_unreachable")
    if failure.http_status == 404:  # another writer found it corrupt and deleted it
        failure = UnavailableError("destination_unreachable", http_status=404)
    raise failure


def has_expected_properties(blob: LandedBlob, md5: str | None) -> bool:
    """Return whether the blob has the properties that `content_settings` specifies."""
    return (
        blob.content_type == CONTENT_TYPE
        and blob.content_encoding is None
        and (blob.md5 is not None or not md5)
    )


async def restore_properties(
    landing: LandingStore,
    limiter: ConcurrencyLimiter,
    blob: LandedBlob,
    path: str,
    *,
    md5: str | None,
    metadata: Mapping[str, str],
) -> tuple[str, str]:
    """Set the properties and metadata that the blob lacks.

    A copy method cannot set all properties, and another tool can change them later. The metadata of
    that tool are kept. Each request fails if the blob has changed.

    Returns:
        The ETag of the blob, and the code of the error if storage rejected a change permanently,
        for example because of an immutability policy.
    """
    from azure.core import MatchConditions

    writer, etag = BlobWriter(landing, limiter, path, dict), blob.etag

    async def send(change: Callable[..., Awaitable[Any]], value: object) -> str:
        condition = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        response = await writer.retry(lambda: change(value, **condition))
        return quoted(str(response["etag"]))

    try:
        if not has_expected_properties(blob, md5):
            etag = await send(writer.client.set_http_headers, content_settings(blob.md5 or md5))
        if any(blob.metadata.get(name) != value for name, value in metadata.items()):
            etag = await send(writer.client.set_blob_metadata, {**blob.metadata, **metadata})
    except PermanentError as error:
        return etag, error.code
    return etag, ""
