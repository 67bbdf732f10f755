"""Writes data into the landing: Put Blob, or blocks and their list, each only where nothing is.

The metadata say whose a blob is: source ETag, manifest eTag and run, in the same write as the bytes. They are percent
encoded, so that any eTag is one header of ASCII, and compared in that form.
"""

import base64
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from shared.errors import BillingExportError, UnavailableError
from shared.landing.storage_errors import code_of, from_library, landing_error, status_of
from shared.landing.store import LandedBlob, LandingStore, quoted
from shared.transfer.concurrency_limiter import ConcurrencyLimiter
from shared.transfer.models import TransferRequest

if TYPE_CHECKING:
    from azure.storage.blob import ContentSettings

R = TypeVar("R")

CONTENT_TYPE = "application/gzip"
# A rival's Put Blob or commit throws the staged blocks of others away: their list is invalid then, not only too late.
BEATEN = ("BlobAlreadyExists", "InvalidBlockList", "InvalidBlobOrBlock", "TargetConditionNotMet")


class BlobExistsError(Exception):
    """Somebody, perhaps this process in a write whose answer was lost, has written the blob."""


def marks(work: TransferRequest, source_etag: str) -> dict[str, str]:
    return {
        "sourceetag": quote(source_etag, safe=""),
        "manifestetag": quote(work.manifest_etag, safe=""),
        "runid": work.run_id,
    }


def is_ours(metadata: Mapping[str, str], work: TransferRequest, source_etag: str) -> bool:
    """Whether the blob was made by this app from this very source blob, by whichever run."""
    expected = marks(work, source_etag)
    return all(metadata.get(name) == expected[name] for name in ("sourceetag", "manifestetag"))


def settings(md5: str | None) -> "ContentSettings":
    """The same whatever the source says: readers see gzip files, and no client unpacks them on the way (design, 8)."""
    from azure.storage.blob import ContentSettings

    return ContentSettings(
        content_type=CONTENT_TYPE, content_md5=bytearray(base64.b64decode(md5)) if md5 else None
    )


class BlobWriter:
    """Writes one blob once. `repeats` counts what had to be repeated. Raises AlreadyThere or an error of shared.errors.

    `marks` is asked when the blob is written: by then its source is pinned.
    """

    def __init__(
        self,
        landing: LandingStore,
        pressure: ConcurrencyLimiter,
        path: str,
        marks: Callable[[], dict[str, str]],
    ) -> None:
        self._landing, self._pressure, self._marks = landing, pressure, marks
        self.client = landing.get_blob_client(path)
        self.repeats = 0

    @property
    def metadata(self) -> dict[str, str]:
        return self._marks()

    @cached_property
    def _attempt(self) -> str:
        """Blocks of another attempt, cut otherwise, must never be taken for ours."""
        return secrets.token_hex(8)

    async def put(self, data: bytes, md5: str) -> str:
        """The whole blob in one write, refused by storage if it arrives with another MD5 (base64); its ETag."""
        written = await self.persistently(
            lambda: self.client.upload_blob(
                data,
                length=len(data),
                overwrite=False,
                metadata=self.metadata,
                content_settings=settings(md5),
                transactional_content_md5=base64.b64decode(md5),
            )
        )
        return quoted(str(written["etag"]))

    async def stage(self, index: int, data: bytes, md5: bytes) -> None:
        """With the block's MD5 (its 16 bytes): storage refuses bytes that changed on the way."""
        await self.persistently(
            lambda: self.client.stage_block(
                self.block_id(index), data, length=len(data), transactional_content_md5=md5
            )
        )

    async def commit(self, blocks: int, md5: str | None) -> str:
        from azure.core import MatchConditions
        from azure.storage.blob import BlobBlock

        written = await self.persistently(
            lambda: self.client.commit_block_list(
                [BlobBlock(self.block_id(index)) for index in range(blocks)],
                metadata=self.metadata,
                content_settings=settings(md5),
                match_condition=MatchConditions.IfMissing,
            )
        )
        return quoted(str(written["etag"]))

    def block_id(self, index: int) -> str:
        """Of one length for all blocks of a blob, as storage demands; there are at most 50,000."""
        return f"{self._attempt}{index:05}"

    async def persistently(self, write: Callable[[], Awaitable[R]]) -> R:
        """Repeats a write that got no answer, met a busy storage, or whose bytes arrived damaged."""

        async def once() -> R:
            try:
                return await write()
            except Exception as error:
                said = self._judge(error)
            raise said  # out here, so that the library's words are not even its __context__

        return await self._pressure.persist(once, self._repeated)

    def _repeated(self) -> None:
        self.repeats += 1

    def _judge(self, error: Exception) -> Exception:
        if isinstance(error, BillingExportError) or not from_library(error):
            return error
        if code_of(error) in BEATEN:
            return BlobExistsError()
        if status_of(error) == 400 and code_of(error) in ("Md5Mismatch", "Crc64Mismatch"):
            return UnavailableError(
                "destination_unreachable", http_status=400, error_code=code_of(error)
            )
        return landing_error(error, self._landing.now())


async def read_back(
    landing: LandingStore, blob: LandedBlob, path: str, start: int, length: int
) -> bytes:
    """Bytes of a landed blob in exactly this state, as stored. Raises Unavailable(destination_unreachable) if it has changed."""
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
        said: BillingExportError = landing_error(error, landing.now())
    else:
        if len(data) == length:
            return data
        said = UnavailableError("destination_unreachable")
    if said.http_status == 404:  # a rival found it damaged and removed it
        said = UnavailableError("destination_unreachable", http_status=404)
    raise said


def has_our_properties(blob: LandedBlob, md5: str | None) -> bool:
    return (
        blob.content_type == CONTENT_TYPE
        and blob.content_encoding is None
        and (blob.md5 is not None or not md5)
    )


async def set_properties(
    landing: LandingStore,
    pressure: ConcurrencyLimiter,
    blob: LandedBlob,
    path: str,
    md5: str | None,
) -> str:
    """Sets what its writer could not, on exactly this state of the blob; its new ETag."""
    from azure.core import MatchConditions

    writer = BlobWriter(landing, pressure, path, dict)
    options: dict[str, Any] = {"etag": blob.etag, "match_condition": MatchConditions.IfNotModified}
    written: Mapping[str, Any] = await writer.persistently(
        lambda: writer.client.set_http_headers(settings(blob.md5 or md5), **options)
    )
    return quoted(str(written["etag"]))
