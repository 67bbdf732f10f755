"""Known defects in comparable tools, tested against the whole app."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from local.azurite import Azurite
from local.simulator.behaviour import Behaviour
from local.simulator.faults import FaultResponse, Faults, Match
from shared.exports import ExportKey
from shared.landing.layout import key_path
from tests.support.app_environment import AppEnvironment
from tests.support.hooked_environment import open_hooked_environment, reset_environment
from tests.support.run_state import key_fields, list_version_folders

BILLED = "billed_reconciliation"


@dataclass(frozen=True)
class RunCost:
    """The result and the cost of the runs for one fault.

    `requests` counts requests to the source, `bytes` is the size of the newest version of each key,
    and `versions` counts versions with a completion marker.
    """

    outcome: str
    requests: int
    bytes: int
    versions: int


@dataclass(frozen=True)
class RunFault:
    """A known defect and the condition that would cause it.

    `act` returns the completed runs as the API returns them. If `lands` is true, their keys must be
    landed completely.
    """

    category: str
    mistake: str
    condition: str
    act: Callable[[AppEnvironment], list[dict[str, Any]]]
    behaviour: dict[str, Any] = field(default_factory=dict)
    lands: bool = True
    has_fixed_request_count: bool = True


def run_fault(azurite: Azurite, fault: RunFault) -> RunCost:
    """Cause the condition and return the cost of its runs."""
    with open_hooked_environment(
        azurite, behaviour=Behaviour(retry_after_seconds=20, **fault.behaviour)
    ) as env:
        runs = fault.act(env)
        keys = sorted({run["key"] for run in runs})
        texts = json.dumps(runs) + "".join(
            path + body.decode("latin-1")
            for path, body in env.landed_files().items()
            if not path.startswith("data/") or path.endswith("_manifest.json")
        )
        assert "sig=" not in texts and "sig%3D" not in texts
        cost = RunCost(
            ", ".join(
                run["outcome"] + (f" `{run['code']}`" if run["code"] else "") for run in runs
            ),
            len(env.simulator.storage_requests),
            sum(len(blob.content) for key in keys for blob in env.simulator.expected(key).blobs)
            if fault.lands
            else 0,
            sum(
                "_manifest.json" in blobs
                for key in keys
                for blobs in list_version_folders(env, key).values()
            ),
        )
        if fault.lands:
            for key in keys:
                env.assert_landed(key)
        return cost


def keys(env: AppEnvironment, dataset: str = BILLED) -> list[str]:
    return [key for key in env.simulator.export_keys() if key.startswith(dataset)]


def land(env: AppEnvironment, key: str, **more: Any) -> dict[str, Any]:
    return env.land(**key_fields(key), **more)


def land_once(env: AppEnvironment) -> list[dict[str, Any]]:
    return [land(env, keys(env)[-1])]


def land_empty_export(env: AppEnvironment) -> list[dict[str, Any]]:
    env.simulator.restate(keys(env)[-1], share=0)
    return land_once(env)


def land_twice(env: AppEnvironment) -> list[dict[str, Any]]:
    return land_once(env) + land_once(env)


def land_two_concurrently(env: AppEnvironment) -> list[dict[str, Any]]:
    started = [env.start(**key_fields(key)) for key in keys(env)[-2:]]
    return [env.finish(run_id) for run_id in started]


def land_month_twice(env: AppEnvironment) -> list[dict[str, Any]]:
    key = keys(env, "unbilled_reconciliation")[-1]
    return [land(env, key), land(env, key)]


def fail_one_blob(env: AppEnvironment) -> list[dict[str, Any]]:
    """Land a version, then fail to read one blob of the next version, then land the next version.

    Until the next version is complete, latest.json refers to the first one.
    """
    key = keys(env)[-1]
    first = land(env, key)
    env.simulator.restate(key)
    name = env.simulator.expected(key).blobs[0].name
    env.simulator.faults.add(Match(operation="blob", path=f"*{name}"), FaultResponse(status=404))
    failed = land(env, key)
    latest = env.landed_files()[f"catalogue/{key_path(ExportKey.parse(key))}/latest.json"]
    assert json.loads(latest)["version"] == first["version"]
    reset_environment(env)
    return [first, failed, land(env, key)]


def expire_during_copy(env: AppEnvironment) -> list[dict[str, Any]]:
    """Expire the SAS token and the operation during the copy.

    The run requests a new export and copies only the missing blobs.
    """
    key = keys(env)[-1]
    env.simulator.fill(key, blobs=6, blob_bytes=2048)
    copied: list[str] = []
    env.simulator.faults.add(
        Match(operation="blob", method="GET", from_nth=4), FaultResponse(status=403)
    )
    run_id = env.start(**key_fields(key))
    env.host.run_until(
        lambda: sum(request.fault for request in env.simulator.storage_requests) >= 3
    )
    env.simulator.expire_operations()
    env.simulator.faults = Faults()
    run = env.finish(run_id)
    copied += [
        request.path
        for request in env.simulator.storage_requests
        if request.method == "GET" and request.status == 206
    ]
    assert len(copied) == len(set(copied)) and run["operations"] == 2, (run["operations"], copied)
    return [run]


RUNS = [
    RunFault(
        "R1",
        "only one pending operation is supported",
        "two exports wait at the same time",
        land_two_concurrently,
    ),
    RunFault(
        "R2",
        "polling stops after five requests",
        "the operation is ready after eight polls",
        land_once,
        {"ready_after_polls": 8},
    ),
    RunFault(
        "R3",
        "Retry-After is read from the body",
        "the header contains a date",
        land_once,
        {"retry_after": "http_date"},
    ),
    RunFault(
        "R4",
        "a failed operation is requested again immediately",
        "every operation fails",
        land_once,
        {"operation_end": "failed_other"},
        lands=False,
    ),
    RunFault(
        "R5",
        "the status is requested only once",
        "the operation is not ready at the first poll",
        land_once,
        {"ready_after_polls": 2},
    ),
    RunFault(
        "R6",
        "an accumulator outlives the run and duplicates rows",
        "the same export runs twice",
        land_twice,
    ),
    RunFault(
        "R8", "the same month is ingested twice", "an unbilled month runs twice", land_month_twice
    ),
    RunFault(
        "R9",
        "the ETag is saved before the data",
        "one blob of the new data cannot be read until the next run",
        fail_one_blob,
    ),
    RunFault(
        "R14",
        "only the first gzip member is read",
        "every blob has several gzip members",
        land_once,
        {"compression": "members"},
    ),
    RunFault(
        "R15",
        "content is decompressed during the transfer",
        "every blob has Content-Encoding gzip",
        land_once,
        {"content_encoding": "gzip"},
    ),
    RunFault(
        "R18",
        "an empty export crashes the pipeline",
        "a manifest without blobs",
        land_empty_export,
        {"empty_export": "zero_blobs"},
        lands=False,
    ),
    RunFault(
        "R18",
        "an empty export crashes the pipeline",
        "an empty blob",
        land_empty_export,
        {"empty_export": "no_bytes"},
    ),
    RunFault(
        "change",
        "the SAS token and the operation expire",
        "expiry during the copy of six blobs",
        expire_during_copy,
        has_fixed_request_count=False,
    ),
]
