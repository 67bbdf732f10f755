"""Checks whether the landing account can copy from Microsoft's storage (server-side copy).

The permitted scope for copy operations is an account setting that no data-plane request returns,
and a copy within the partner's tenant is permitted under every scope. The check therefore uses the
newest export that Microsoft still stores: the landing account copies one byte of one blob as an
uncommitted block.
"""

import base64
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from shared.errors import BillingExportError, MalformedManifestError, OperationGoneError
from shared.graph.client import OperationSucceeded
from shared.landing.storage_errors import (
    get_error_code,
    get_header,
    get_status,
    is_library_error,
    to_landing_error,
)
from shared.ledger.runs import Run
from shared.manifest import Manifest, validate_location
from shared.preflight.context import PreflightContext
from shared.preflight.findings import Finding, ok, skipped, unknown, warn
from shared.preflight.landing import PROBE_CONTENT, PROBE_FOLDER, create_probe_name
from shared.redaction import SAFE_TOKEN

MAX_RUNS = 50
MAX_OPERATION_AGE = timedelta(hours=20)  # Microsoft deletes operations after about a day


async def check_copy_from_url(context: PreflightContext) -> Finding:
    """Check server-side copy if the settings use it."""
    copy_mode, proof = context.settings.copy_mode, context.settings.proof
    if copy_mode == "stream" or (copy_mode == "auto" and proof == "content"):
        return skipped("copy_not_in_use", copy_mode=copy_mode, proof=proof)
    manifest = await _find_manifest(context)
    if manifest is None:
        return unknown("copy_untried")
    validate_location(manifest, context.source_rules)
    return await _copy_one_byte(context, manifest)


async def _find_manifest(context: PreflightContext) -> Manifest | None:
    """Return the manifest of the newest run whose operation still exists and that has blobs."""
    now = context.clock.now()
    for month in dict.fromkeys(f"{time:%Y%m}" for time in (now, now - MAX_OPERATION_AGE)):
        try:
            runs, _ = await context.ledger.runs.get_page(month, limit=MAX_RUNS)
        except Exception as error:
            if not is_library_error(error):
                raise
            return None
        for run in runs:
            if not _is_recent(run, now):
                continue
            try:
                state = await context.graph.get_operation(run.operation_id)
            except (OperationGoneError, MalformedManifestError):
                continue
            except BillingExportError:
                return None  # the check of Graph reports the error
            if isinstance(state, OperationSucceeded) and state.manifest.blobs:
                return state.manifest
    return None


def _is_recent(run: Run, now: datetime) -> bool:
    if not run.operation_id or not run.version:
        return False
    return now - datetime.fromisoformat(run.started_at) < MAX_OPERATION_AGE


async def _copy_one_byte(context: PreflightContext, manifest: Manifest) -> Finding:
    path = f"{PROBE_FOLDER}/{create_probe_name(context.machine_clock.now())}"
    target = context.landing.get_blob_client(path)
    root = manifest.root_directory.rstrip("/")
    source_url = f"{root}/{quote(manifest.blobs[0].name)}?{manifest.sas_token}"
    try:
        await target.stage_block_from_url(base64.b64encode(b"probe").decode(), source_url, 0, 1)
    except Exception as error:
        if not is_library_error(error):
            raise
        if (finding := _to_finding(error)) is not None:
            return finding
        failure = to_landing_error(error, context.clock.now())
    else:
        # Writing the blob discards the uncommitted block, which storage otherwise keeps for a week.
        await context.landing.put(path, PROBE_CONTENT)
        await context.landing.delete(path)
        return ok()
    # Raised outside the except block, so that the error of the SDK is not the __context__.
    raise failure


def _to_finding(error: BaseException) -> Finding | None:
    """Return the finding for a failed copy, or None if the error is not specific to copies."""
    status, code = get_status(error), get_error_code(error)
    source_status = get_header(error, "x-ms-copy-source-status-code")
    source_code = get_header(error, "x-ms-copy-source-error-code")
    if "InvalidRange" in (code, source_code):
        return ok()  # the account read the source, which is empty
    if code == "ContainerNotFound":
        return unknown("copy_untried")
    if status is None or status in (429, 503):
        return None
    facts: dict[str, Any] = {
        "http_status": status,
        "error_code": code,
        "source_http_status": source_status,
        "source_error_code": source_code,
    }
    return warn("copy_refused", **{name: value for name, value in facts.items() if _is_safe(value)})


def _is_safe(value: object) -> bool:
    if isinstance(value, str):
        return SAFE_TOKEN.fullmatch(value) is not None
    return isinstance(value, int)
