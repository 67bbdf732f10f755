"""Query parameters and continuation tokens of lists.

A continuation token contains the filters of its list, so that another list rejects it, and the
position in the table. The catalogue reads several partitions; its position includes the dataset.
"""

import base64
import json
import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field

from shared.exports import Dataset
from shared.ledger.tables import Continuation, InvalidContinuationError
from triggers.models.base import OptionalText, RequestModel

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000  # the table service returns at most 1,000 entities per request
MAX_TOKEN_CHARACTERS = 4_000
INVALID_CONTINUATION = (
    "is not a valid continuation token of this list. Omit it to request the first page."
)


class Position(NamedTuple):
    """Where the next page starts. `continuation` is None at the start of a partition."""

    dataset: Dataset | None = None
    continuation: Continuation | None = None


def encode_token(scope: str, following: Continuation | None, dataset: str = "") -> str | None:
    """Return the token of the next page; None if there is no next page."""
    if following is None and not dataset:
        return None
    text = json.dumps([scope, dataset, *(following or ())], ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_token(token: str) -> tuple[str, Position]:
    """Return the scope and the position of a token.

    Raises:
        InvalidContinuationError: this API did not create the token.
    """
    try:
        if len(token) > MAX_TOKEN_CHARACTERS or not token.isascii():
            raise InvalidContinuationError
        encoded = token + "=" * (-len(token) % 4)
        parts = json.loads(base64.b64decode(encoded, altchars=b"-_", validate=True))
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            raise InvalidContinuationError
        match parts:
            case [scope, dataset]:
                return scope, Position(Dataset(dataset))
            case [scope, dataset, partition, row]:
                return scope, Position(Dataset(dataset) if dataset else None, (partition, row))
    except (ValueError, RecursionError):
        raise InvalidContinuationError from None
    raise InvalidContinuationError


def _parse_limit(value: object) -> int:
    if not isinstance(value, str) or not re.fullmatch(r"[1-9][0-9]{0,3}", value):
        raise ValueError(f"must be a whole number from 1 to {MAX_LIMIT}")
    if int(value) > MAX_LIMIT:
        raise ValueError(f"must be a whole number from 1 to {MAX_LIMIT}")
    return int(value)


def _parse_boolean(value: object) -> bool:
    if value not in ("true", "false"):
        raise ValueError("must be true or false")
    return value == "true"


def _check_token(value: str) -> str:
    try:
        decode_token(value)
    except InvalidContinuationError:
        raise ValueError(INVALID_CONTINUATION) from None
    return value


Boolean = Annotated[bool, BeforeValidator(_parse_boolean)]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT), BeforeValidator(_parse_limit)]
Token = Annotated[str, AfterValidator(_check_token)]
NextToken = Annotated[
    OptionalText,
    Field(description="Send it as `continuation` for the next page; null on the last page."),
]


class ListQuery(RequestModel):
    """The query parameters that all lists accept."""

    limit: Limit = Field(default=DEFAULT_LIMIT, description="Maximum number of items on a page.")
    continuation: Token | None = Field(
        default=None,
        description="The `continuation` of the previous page of a request with the same filters.",
    )

    def position(self, scope: str) -> Position:
        """Return where the requested page starts.

        Raises:
            InvalidContinuationError: the token belongs to another list or to other filters.
        """
        if self.continuation is None:
            return Position()
        token_scope, position = decode_token(self.continuation)
        if token_scope != scope:
            raise InvalidContinuationError
        return position
