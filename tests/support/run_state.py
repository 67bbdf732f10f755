"""Reads the state that a run leaves, and asserts that it is valid."""

import hashlib
import json
from datetime import timedelta
from typing import Any

from azure.storage.blob import ContainerClient

from local.simulator.simulator import ExpectedExport
from shared.errors import get_remedy
from shared.exports import ExportKey
from shared.landing.layout import key_path
from shared.ledger.catalogue import CatalogueEntry
from shared.ledger.keys import random_suffix
from shared.ledger.keys import run_id as run_id_of
from shared.ledger.locks import Lock
from shared.messages import FAILED_OUTCOMES
from tests.support.app_environment import AppEnvironment


def create_run_request(env: AppEnvironment, key: str, **kwargs: Any) -> dict[str, Any]:
    """Return the input of `export_run`, as a trigger creates it."""
    now = env.clock.now()
    return {
        "run_id": run_id_of(ExportKey.parse(key), now, random_suffix()),
        "key": key,
        "force": False,
        "requested_by": "test",
        "limits": {
            "deadline": (now + timedelta(hours=24)).isoformat(),
            "max_rounds": 3,
            "max_concurrent_pages": 4,
        },
        **kwargs,
    }


def key_fields(key: str) -> dict[str, Any]:
    """Return an export key as the fields of `POST /api/runs`."""
    dataset, *scope, attribute_set = key.split("/")
    parts = (
        {"invoice_id": scope[0]}
        if len(scope) == 1
        else {"billing_month": scope[0], "currency_code": scope[1]}
    )
    return {"dataset": dataset, **parts, "attribute_set": attribute_set}


def get_lock(env: AppEnvironment, key: str) -> Lock | None:
    """Return the lock of an export key."""
    return env.on_loop(env.app.ledger.locks.get(key))


def get_catalogue_entry(env: AppEnvironment, key: str) -> CatalogueEntry | None:
    """Return the catalogue entry of an export key."""
    return env.on_loop(env.app.ledger.catalogue.get(ExportKey.parse(key)))


def assert_ended(
    env: AppEnvironment,
    run: dict[str, Any],
    outcome: str,
    code: str | None = None,
    *,
    own: bool = True,
) -> None:
    """Assert that the row, catalogue, lock and orchestration show this outcome.

    `own` specifies whether the run held the lock of its key at the end.
    """
    actual = (run["outcome"], run["code"], run["stage"])
    assert actual == (outcome, code, "ended"), actual
    assert (
        run["remedy"] == (get_remedy(code) if code else None)
        and run["ended_at"]
        and run["next_check_at"] is None
    )
    entry = get_catalogue_entry(env, run["key"])
    if own:
        assert entry is not None
        assert (entry.last_outcome, entry.last_code, entry.last_run_id) == (
            outcome,
            code or "",
            run["run_id"],
        )
    else:
        assert entry is None or entry.last_run_id != run["run_id"]
    lock = get_lock(env, run["key"])
    assert lock is None or lock.run_id == "" or (not own and lock.run_id != run["run_id"])
    status = env.host.status(run["run_id"])
    assert status is not None
    if outcome in FAILED_OUTCOMES:
        assert status["runtimeStatus"] == "Failed" and f"{outcome} ({code})" in str(
            status["output"]
        ), status
    else:
        assert status["runtimeStatus"] == "Completed" and status["output"]["outcome"] == outcome, (
            status
        )
    assert status["customStatus"]["stage"] == "ended"


def list_version_folders(env: AppEnvironment, key: str) -> dict[str, dict[str, Any]]:
    """Return the blobs of the key under `data/`, by version folder and name."""
    folders: dict[str, dict[str, Any]] = {}
    start = f"data/{key_path(ExportKey.parse(key))}/"
    with get_container(env) as container:
        if not container.exists():
            return {}
        for blob in container.list_blobs(name_starts_with=start):
            folder, slash, name = blob.name.removeprefix(start).partition("/")
            assert slash and folder.startswith("version=") and name, (
                f"{blob.name} is outside the version folders"
            )
            folders.setdefault(folder, {})[name] = blob
    return folders


def get_container(env: AppEnvironment) -> ContainerClient:
    """Return a client for the landing container."""
    return ContainerClient.from_connection_string(env.azurite.landing.connection_string, env.name)


def download(env: AppEnvironment, path: str) -> bytes:
    """Return the content of a landed blob."""
    with get_container(env) as container:
        return bytes(container.get_blob_client(path).download_blob(decompress=False).readall())


def assert_sound(env: AppEnvironment, key: str, *known: ExpectedExport) -> None:
    """Assert that no version is wrong or duplicated and that `latest.json` is correct.

    Compare each byte of the exports in `known`, and the size, count and eTag of all others.
    """
    folders, etags = list_version_folders(env, key), {export.etag: export for export in known}
    start = f"data/{key_path(ExportKey.parse(key))}/"
    marker_etags: dict[str, str] = {}
    for folder, blobs in folders.items():
        if "_manifest.json" not in blobs:
            continue
        marker = _marker(env, f"{start}{folder}/_manifest.json", blobs["_manifest.json"].etag)
        marker_etags[folder] = marker["etag"]
        assert {blob["name"]: blob["bytes"] for blob in marker["blobs"]} == {
            name: blob.size for name, blob in blobs.items() if name != "_manifest.json"
        }
        if expected := etags.get(marker["etag"]):
            content = {
                name: download(env, f"{start}{folder}/{name}")
                for name in blobs
                if name != "_manifest.json"
            }
            assert content == {blob.name: blob.content for blob in expected.blobs}
            is_content_proven = marker["proof"] == "content"
            assert {blob["name"]: blob["sha256"] for blob in marker["blobs"]} == {
                name: hashlib.sha256(body).hexdigest() if is_content_proven else ""
                for name, body in content.items()
            }
    forced_folders = {folder for folder in marker_etags if folder.count("-") > 1}
    assert len(
        {etag for folder, etag in marker_etags.items() if folder not in forced_folders}
    ) == len(marker_etags.keys() - forced_folders)
    entry = get_catalogue_entry(env, key)
    if not marker_etags:
        assert entry is None or entry.version == ""
        return
    latest = json.loads(download(env, f"catalogue/{key_path(ExportKey.parse(key))}/latest.json"))
    newest = latest["path"].rsplit("/", 1)[-1]
    assert marker_etags[newest] == latest["etag"]
    assert entry is not None and entry.manifest_etag == latest["etag"]


_markers: dict[tuple[str, str, str], Any] = {}


def _marker(env: AppEnvironment, path: str, etag: str) -> Any:
    """Return a completion marker. The content for each ETag is read only once."""
    known = (env.name, path, etag)
    if known not in _markers:
        _markers[known] = json.loads(download(env, path))
    return _markers[known]


def assert_landed(env: AppEnvironment, key: str, expected: ExpectedExport) -> None:
    """Assert that the newest version is this export, byte for byte."""
    assert_sound(env, key, expected)
    latest = json.loads(download(env, f"catalogue/{key_path(ExportKey.parse(key))}/latest.json"))
    assert latest["etag"] == expected.etag
    assert (latest["blobs"], latest["bytes"], latest["rows"]) == (
        len(expected.blobs),
        expected.bytes,
        expected.rows,
    )
