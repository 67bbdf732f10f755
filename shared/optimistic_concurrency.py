"""Optimistic concurrency: conditional writes that are retried after a conflict."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Literal, TypeVar

from shared.errors import InfrastructureError

MAX_ATTEMPTS = 20
MIN_BACKOFF_SECONDS = 0.005
MAX_BACKOFF_SECONDS = 1.0

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Conflict(Enum):
    CONFLICT = "conflict"


CONFLICT: Literal[_Conflict.CONFLICT] = _Conflict.CONFLICT
"""Returned by `write` when another writer changed the item after `read`."""

Conflict = Literal[_Conflict.CONFLICT]


def backoff_seconds(conflicts: int) -> float:
    """Return the wait after this number of conflicts.

    The first retry is immediate. After that, the wait is random, with an upper bound that doubles
    from `MIN_BACKOFF_SECONDS` to `MAX_BACKOFF_SECONDS`, so that competing writers spread out.
    """
    if conflicts <= 1:
        return 0.0
    upper_bound = min(MAX_BACKOFF_SECONDS, MIN_BACKOFF_SECONDS * 2.0 ** (conflicts - 2))
    return random.uniform(upper_bound / 2, upper_bound)  # noqa: S311 - spreads out writers


async def update(
    read: Callable[[], Awaitable[Item]],
    write: Callable[[Item], Awaitable[Result | Conflict]],
    *,
    contended_code: str,
    component: str,
    sleep: Callable[[float], Awaitable[object]] | None = None,
) -> Result:
    """Read an item and write it, and repeat both until there is no conflict.

    Args:
        read: Returns the current item.
        write: Decides from the current item what to write, and writes it on the condition that the
            item is unchanged. Returns `CONFLICT` if the condition failed; any other value is the
            result. If nothing needs to be written, it returns a result without writing.
        contended_code: The code of the error after `MAX_ATTEMPTS` conflicts.
        component: The component that the error names.
        sleep: Replaces `asyncio.sleep` in tests.

    Raises:
        InfrastructureError: Every attempt was in conflict with another writer.
    """
    for attempt in range(1, MAX_ATTEMPTS + 1):
        result = await write(await read())
        if result is not _Conflict.CONFLICT:
            return result
        if attempt < MAX_ATTEMPTS:
            await (sleep or asyncio.sleep)(backoff_seconds(attempt))
    raise InfrastructureError(contended_code, component)
