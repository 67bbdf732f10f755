"""May the landing account fetch a file of Microsoft's by itself? Only Microsoft's own storage can tell.

The scope of copies is a setting of the account that no request shows, and a copy within the partner's tenant is allowed
under any scope. So the check does what a run does: with the newest export that Microsoft still knows, it has the account
fetch one byte of one file, as a block that no blob ever gets.
"""

import base64
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from shared.errors import BillingExportError, OperationGoneError
from shared.graph.client import OperationSucceeded
from shared.landing.storage_errors import code_of, from_library, header_of, landing_error, status_of
from shared.ledger.runs import Run
from shared.manifest import Manifest, validate_names, validate_source
from shared.preflight.context import PreflightContext
from shared.preflight.findings import Finding, ok, skipped, unknown, warn
from shared.preflight.landing import BODY, FOLDER, probe_name
from shared.redaction import SAFE_TOKEN

MOST_RUNS = 50
YOUNG = timedelta(hours=20)  # Microsoft forgets operations after a day or so


async def copy_from_url(parts: PreflightContext) -> Finding:
    needed = parts.settings.copy_mode == "server" or (
        parts.settings.copy_mode == "auto" and parts.settings.proof == "transfer"
    )
    if not needed:
        return skipped(
            "copy_not_in_use", copy_mode=parts.settings.copy_mode, proof=parts.settings.proof
        )
    manifest = await _manifest(parts)
    if manifest is None:
        return unknown("copy_untried")
    validate_source(manifest.root_directory, parts.rules)
    validate_names(manifest)
    return await _fetch_a_byte(parts, manifest)


async def _manifest(parts: PreflightContext) -> Manifest | None:
    """Of the newest run whose operation Microsoft still knows, and that has a file."""
    now = parts.clock.now()
    for month in dict.fromkeys(moment.strftime("%Y%m") for moment in (now, now - YOUNG)):
        try:
            runs, _ = await parts.ledger.runs.page(month, limit=MOST_RUNS)
        except Exception as error:
            if not from_library(error):
                raise
            return None
        for run in runs:
            if _may_be_known(run, now):
                try:
                    state = await parts.graph.get_operation(run.operation_id)
                except OperationGoneError:
                    continue
                except BillingExportError:
                    return None  # Graph's own check tells
                if isinstance(state, OperationSucceeded) and state.manifest.blobs:
                    return state.manifest
    return None


def _may_be_known(run: Run, now: datetime) -> bool:
    return (
        bool(run.operation_id and run.version)
        and now - datetime.fromisoformat(run.started_at) < YOUNG
    )


async def _fetch_a_byte(parts: PreflightContext, manifest: Manifest) -> Finding:
    path = f"{FOLDER}/{probe_name(parts.machine.now())}"
    target = parts.landing.get_blob_client(path)
    source = f"{manifest.root_directory.rstrip('/')}/{quote(manifest.blobs[0].name)}?{manifest.sas_token}"
    try:
        await target.stage_block_from_url(base64.b64encode(b"probe").decode(), source, 0, 1)
    except Exception as error:
        if not from_library(error):
            raise
        if (finding := _said(error)) is not None:
            return finding
        failure = landing_error(error, parts.clock.now())
    else:
        await parts.landing.put(
            path, BODY
        )  # takes the place of the block, which would lie there for a week else
        await parts.landing.delete(path)
        return ok()
    raise failure  # out here, so that the library's words are not its context


def _said(error: BaseException) -> Finding | None:
    """None where the landing account did not say anything about copying."""
    status, code = status_of(error), code_of(error)
    source_status, source_code = (
        header_of(error, "x-ms-copy-source-status-code"),
        header_of(error, "x-ms-copy-source-error-code"),
    )
    if "InvalidRange" in (code, source_code):
        return ok()  # it was reached and read: the file is empty
    if code == "ContainerNotFound":
        return unknown("copy_untried")
    if status is None or status in (429, 503):
        return None
    said: dict[str, Any] = {
        "http_status": status,
        "error_code": code,
        "source_http_status": source_status,
        "source_error_code": source_code,
    }
    return warn("copy_refused", **{name: value for name, value in said.items() if _is_word(value)})


def _is_word(value: object) -> bool:
    return isinstance(value, int) or (
        isinstance(value, str) and SAFE_TOKEN.fullmatch(value) is not None
    )
