"""The part of an HTTP response that the parsers read."""

from dataclasses import dataclass, field

TRANSIENT_STATUSES = (408, 425)  # 4xx statuses whose request can be repeated, according to HTTP


@dataclass(frozen=True)
class HttpResponse:
    """An HTTP response with a decompressed body of limited size.

    `retry_after_seconds` is None if the response has no valid Retry-After header; `media_type` is
    "" if it has no content type. `request_id` is Microsoft's ID.
    """

    status: int
    media_type: str
    location: str | None
    retry_after_seconds: int | None
    request_id: str | None
    body: bytes = field(repr=False)  # can contain a SAS
