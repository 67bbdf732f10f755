"""Verifies what readers see of some keys, and removes their old versions and old blob rows.

The order is that of the catalogue.

Idempotent: what is removed is not found again. A repeated cursor checks the same keys again.
"""

from datetime import timedelta

import azure.durable_functions as df

from shared.exports import Dataset, ExportKey
from shared.ledger.retention import remove_blob_rows
from shared.ledger.tables import Continuation
from shared.messages import PruneRequest, RetentionResult
from shared.redaction import sanitize_exceptions
from shared.services import services

bp = df.Blueprint()

MAX_KEYS_PER_STEP = 20  # at most a few hundred storage requests


@bp.activity_trigger(input_name="request")
@sanitize_exceptions
async def prune_versions(request: PruneRequest) -> RetentionResult:
    from shared.versions.prune import prune_key
    from shared.versions.publication import verify_published

    app, settings = services(), services().settings
    dataset, after = read(request["cursor"])
    entries, following = await app.ledger.catalogue.get_page(
        dataset, limit=MAX_KEYS_PER_STEP, continuation=after
    )
    removed = 0
    for entry in entries:
        key = ExportKey.parse(entry.key)
        await verify_published(app.ledger, app.landing, key)
        keep = settings.keep_versions_billed if dataset.billed else settings.keep_versions_unbilled
        pruned = await prune_key(
            app.ledger,
            app.landing,
            key,
            keep=keep,
            grace=timedelta(hours=settings.prune_grace_hours),
        )
        removed += sum(one.removed for one in pruned)
        await remove_blob_rows(app.ledger, key, timedelta(days=settings.blob_row_days))
    cursor = write(dataset, following)
    return {"more": bool(cursor), "cursor": cursor, "removed": removed}


def read(cursor: list[str]) -> tuple[Dataset, Continuation | None]:
    if not cursor:
        return next(iter(Dataset)), None
    return Dataset(cursor[0]), (cursor[1], cursor[2]) if len(cursor) == 3 else None


def write(dataset: Dataset, following: Continuation | None) -> list[str]:
    """Return the cursor, which is [] at the end of the last dataset."""
    if following:
        return [dataset.value, *following]
    datasets = list(Dataset)
    rest = datasets[datasets.index(dataset) + 1 :]
    return [rest[0].value] if rest else []
